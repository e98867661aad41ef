"""What a venue is to news that travels through it: zones, networks, outages, couriers, money and a thief. PURE.

Times are seconds (float), amounts are integers of the currency's minor unit. A :class:`Plan` that exists is consistent:
whoever makes one gets :class:`BadPlan` instead of figures about a venue that cannot be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mesh.core.currency import Currency
from mesh.errors import LocalError
from mesh.limits import (
    AMOUNT_MINOR_MAX,
    PLAN_COURIERS_MAX,
    PLAN_DURATION_S_MAX,
    PLAN_READERS_PER_ZONE_MAX,
    PLAN_STOPS_MAX,
    ZONE_CHARS_MAX,
    ZONES_MAX,
)

GOSSIP_S: Final = 0.25
"""From one device to the others it has links to. The node's own clock ticks four times a second (`mesh.core.node`,
`Node.deadline`) and announces news within hundredths of one: this is what a busy zone takes, not its best."""
MEETING_S: Final = 2.0
"""From being in reach of each other to having compared and caught up: mDNS shows a joiner within 1.1 to 1.3 s, the TLS
handshake takes 5 ms, and a link takes in 100,000 entries a second (experiment 001), an hour's taps of a large venue."""
CYCLE_S_MIN: Final = 60.0
"""Shortest round of a courier and shortest mean time from one outage to the next."""

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_LENGTH: Final = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in "hms"))
_NAME_FORBIDDEN: Final = frozenset(",:=/\"'")


class BadPlan(LocalError):
    """The venue as it was described cannot be; `field` says what of it, for whoever knows the line."""

    def __init__(self, sentence: str, *, table: str = "", index: int = 0, key: str = "") -> None:
        super().__init__(sentence)
        self.table = table
        self.index = index
        self.key = key


@dataclass(frozen=True, slots=True)
class Outage:
    """Out for `down_s` on average of each `every_s` on average; both exponential (docs/PLANNING.md)."""

    down_s: float
    every_s: float


@dataclass(frozen=True, slots=True)
class Zone:
    """A bar area behind its own access point."""

    name: str
    readers: int
    outage: Outage | None = None
    """The zone is cut off from the others; its readers go on hearing each other."""
    blackout: Outage | None = None
    """The access point itself is out: its readers hear nobody, nor does a courier or a gateway that stands there."""
    gateway: bool = False
    """A gateway stands in this zone."""


@dataclass(frozen=True, slots=True)
class Courier:
    """A person who walks one round again and again: arrives at each stop in even steps, and stays `stay_s` there."""

    stops: tuple[str, ...]
    round_s: float
    stay_s: float


@dataclass(frozen=True, slots=True)
class Money:
    """What is on a wristband, what a sale is, and how fast bars sell at the peak."""

    balance_minor: int
    sale_minor: int
    sales_per_reader_minute: float
    per_tap_cap_minor: int | None = None

    @property
    def most_per_tap_minor(self) -> int:
        return min(self.balance_minor, self.per_tap_cap_minor or self.balance_minor)


@dataclass(frozen=True, slots=True)
class Thief:
    """How fast a copy is used again."""

    pace_s: float
    """From a tap to the next one in the same zone, with the queue."""
    travel_s: float
    """From the wristband's tap to the copy's first one in another zone, 0 where an accomplice stands there already; and
    from then on, where it is longer than `pace_s`, between two taps in different zones."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A venue. Raises :class:`BadPlan` where it cannot be one."""

    zones: tuple[Zone, ...]
    networks: tuple[tuple[str, ...], ...]
    """Zones that one network joins. News crosses it from and to the gateways on it (`mesh.core.zone`)."""
    couriers: tuple[Courier, ...]
    money: Money
    thief: Thief
    currency: Currency = field(default_factory=lambda: Currency("EUR", 2))

    def __post_init__(self) -> None:
        _check_zones(self.zones)
        known = [zone.name for zone in self.zones]
        for index, network in enumerate(self.networks):
            _check_places(network, known, "network", index, "zones")
        if len(self.couriers) > PLAN_COURIERS_MAX:
            raise BadPlan(f"there are {len(self.couriers)} couriers: at most {PLAN_COURIERS_MAX} can be planned")
        for index, courier in enumerate(self.couriers):
            _check_courier(courier, known, index)
        _check_money(self.money, self.currency)
        _check_thief(self.thief)

    @property
    def readers(self) -> int:
        return sum(zone.readers for zone in self.zones)

    def zone(self, name: str) -> Zone:
        return next(zone for zone in self.zones if zone.name == name)

    def is_online(self, name: str) -> bool:
        """Whether a network ever takes news from this zone to a gateway."""
        return self.zone(name).gateway or any(
            name in network and self.has_gateway(network) for network in self.networks
        )

    def has_gateway(self, network: tuple[str, ...]) -> bool:
        return any(zone.gateway and zone.name in network for zone in self.zones)


def parse_length(text: str) -> float:
    """Seconds from what a person wrote, such as `90s`, `20m`, `1h30m`; raises :class:`BadPlan`.

    >>> parse_length("1h30m")
    5400.0
    """
    match = _LENGTH.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise BadPlan(f"{text!r} is not a length of time: write it like 90s, 20m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total > PLAN_DURATION_S_MAX:
        raise BadPlan(f"{text!r} is longer than anything planned here: at most {format_length(PLAN_DURATION_S_MAX)}")
    return total


def format_length(seconds: float) -> str:
    """A length of time for people, in the two largest units it has.

    >>> format_length(5400.0), format_length(0.25), format_length(float("inf"))
    ('1h30m', '0.25s', 'never')
    """
    if seconds == float("inf"):
        return "never"
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m" + (f"{whole % 60:02d}s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60}h" + (f"{minutes % 60:02d}m" if minutes % 60 else "")


def _check_zones(zones: tuple[Zone, ...]) -> None:
    if not 1 <= len(zones) <= ZONES_MAX:
        raise BadPlan(f"a plan has 1 to {ZONES_MAX} zones, and this one has {len(zones)}: add one with --zone main:12")
    for index, zone in enumerate(zones):
        _check_name(zone.name, index)
        if any(other.name == zone.name for other in zones[:index]):
            raise BadPlan(f"there are two zones {zone.name!r}: rename one", table="zone", index=index, key="name")
        if not 0 <= zone.readers <= PLAN_READERS_PER_ZONE_MAX:
            sentence = f"zone {zone.name!r} has {zone.readers} readers: write a number from 0 to "
            raise BadPlan(f"{sentence}{PLAN_READERS_PER_ZONE_MAX}", table="zone", index=index, key="readers")
        for key, outage in (("outage", zone.outage), ("blackout", zone.blackout)):
            if outage is not None:
                _check_outage(zone.name, outage, index, key)
    if sum(zone.readers for zone in zones) < 2:
        raise BadPlan("a clone needs two readers to be used at, and this venue has fewer: give zones more readers")


def _check_name(name: str, index: int) -> None:
    printable = name.isprintable() and not any(
        character in _NAME_FORBIDDEN or character.isspace() for character in name
    )
    if not printable or not 1 <= len(name) <= ZONE_CHARS_MAX or name == "none":
        sentence = f"{name!r} is no name for a zone: write 1 to {ZONE_CHARS_MAX} letters, digits or dashes, not 'none'"
        raise BadPlan(sentence, table="zone", index=index, key="name")


def _check_outage(name: str, outage: Outage, index: int, key: str) -> None:
    written = f"{format_length(outage.down_s)}/{format_length(outage.every_s)}"
    if outage.every_s < CYCLE_S_MIN:
        sentence = f"zone {name!r} has an {key} every {format_length(outage.every_s)}: write at least "
        raise BadPlan(f"{sentence}{format_length(CYCLE_S_MIN)} after the slash", table="zone", index=index, key=key)
    if not 0 < outage.down_s <= outage.every_s:
        sentence = f"zone {name!r} cannot be down {written}: the first time is the part of the second, as in 6m/40m"
        raise BadPlan(sentence, table="zone", index=index, key=key)
    if 0 < outage.every_s - outage.down_s < MEETING_S * 5:
        sentence = (
            f"zone {name!r} is down {written}: that leaves less than {format_length(MEETING_S * 5)} to exchange "
            f"anything. Write {format_length(outage.every_s)}/{format_length(outage.every_s)} for always"
        )
        raise BadPlan(sentence, table="zone", index=index, key=key)


def _check_places(names: tuple[str, ...], known: list[str], table: str, index: int, key: str) -> None:
    for name in names:
        if name not in known:
            sentence = f"there is no zone {name!r} for this {table}: the zones are {', '.join(known)}"
            raise BadPlan(sentence, table=table, index=index, key=key)
    if len(set(names)) < 2:
        joins = "joins" if table == "network" else "walks between"
        raise BadPlan(f"a {table} {joins} two zones or more: name them with commas", table=table, index=index, key=key)


def _check_courier(courier: Courier, known: list[str], index: int) -> None:
    _check_places(courier.stops, known, "courier", index, "round")
    if len(courier.stops) > PLAN_STOPS_MAX:
        sentence = f"a round of {len(courier.stops)} stops is too long: at most {PLAN_STOPS_MAX}"
        raise BadPlan(sentence, table="courier", index=index, key="round")
    if courier.round_s < CYCLE_S_MIN:
        sentence = f"a round of {format_length(courier.round_s)} is no walk: write {format_length(CYCLE_S_MIN)} or more"
        raise BadPlan(sentence, table="courier", index=index, key="every")
    if courier.stay_s < MEETING_S * 2:
        sentence = f"a courier who stays {format_length(courier.stay_s)} takes nothing along: write 5s or more"
        raise BadPlan(sentence, table="courier", index=index, key="stay")
    if courier.stay_s * len(courier.stops) > courier.round_s:
        sentence = (
            f"{len(courier.stops)} stops of {format_length(courier.stay_s)} each take longer than the round of "
            f"{format_length(courier.round_s)}: write a longer round or a shorter stay"
        )
        raise BadPlan(sentence, table="courier", index=index, key="every")


def _check_money(money: Money, currency: Currency) -> None:
    amounts = {"balance": money.balance_minor, "sale": money.sale_minor}
    if money.per_tap_cap_minor is not None:
        amounts["per_tap_cap"] = money.per_tap_cap_minor
    for key, amount_minor in amounts.items():
        if not 1 <= amount_minor <= AMOUNT_MINOR_MAX:
            raise BadPlan(f"{key} must be more than nothing, as {currency.format(1250)[4:]}", table="money", key=key)
    if not 0 < money.sales_per_reader_minute <= 60:
        sentence = f"a reader cannot make {money.sales_per_reader_minute:g} sales a minute: write up to 60, as 1.5"
        raise BadPlan(sentence, table="money", key="sales_per_reader_minute")


def _check_thief(thief: Thief) -> None:
    if thief.pace_s < 1:
        raise BadPlan("a tap takes a second at the least: write a pace of 1s or more", table="thief", key="pace")
    if thief.travel_s < 0:
        raise BadPlan("travel cannot be less than 0s", table="thief", key="travel")
