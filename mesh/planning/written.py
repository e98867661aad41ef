"""A venue as somebody wrote it, in a file or in options, before it is checked as a whole. PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mesh.core.currency import BadAmount, Currency, currency_of
from mesh.planning.plan import BadPlan, Courier, Money, Outage, Plan, Thief, Zone, parse_length

STAY_S: Final = 60.0
NOTHING: Final = "none"
"""In place of a value: there is none, whatever the file says."""
SEED: Final = 1
SAMPLES: Final = 4_000

_OUTAGE: Final = re.compile(r"\s*([^/\s]+)\s*/\s*([^/\s]+)\s*")


@dataclass(frozen=True, slots=True)
class Written:
    """A venue as somebody wrote it, not yet checked as a whole."""

    zones: tuple[Zone, ...] = ()
    networks: tuple[tuple[str, ...], ...] = ()
    couriers: tuple[Courier, ...] = ()
    amounts: Mapping[str, str] = field(default_factory=dict)
    sales_per_reader_minute: float = 1.5
    thief: Thief = field(default_factory=lambda: Thief(60.0, 300.0))
    currency: str = "EUR"
    seed: int = SEED
    samples: int = SAMPLES

    def plan(self) -> Plan:
        """The plan, or :class:`BadPlan`."""
        try:
            currency = currency_of(self.currency)
        except BadAmount as error:
            raise BadPlan(str(error), key="currency") from error
        amounts = {key: _amount(currency, key, text) for key, text in self.amounts.items()}
        money = Money(
            balance_minor=amounts.get("balance", 50 * 10**currency.exponent),
            sale_minor=amounts.get("sale", 8 * 10**currency.exponent),
            sales_per_reader_minute=self.sales_per_reader_minute,
            per_tap_cap_minor=amounts.get("per_tap_cap"),
        )
        return Plan(self.zones, self.networks, self.couriers, money, self.thief, currency)


def parse_outage(text: str) -> Outage:
    """An outage from `6m/40m`."""
    match = _OUTAGE.fullmatch(text)
    if match is None:
        raise BadPlan(
            f"{text!r} does not say how long and how often: write 6m/40m for 6 minutes of each 40, on average"
        )
    return Outage(parse_length(match[1]), parse_length(match[2]))


def parse_courier(text: str) -> Courier:
    """A courier from `main,forest,gate:20m` or, with the stay at each stop, `main,forest,gate:20m/90s`."""
    stops, _, times = text.partition(":")
    every, slash, stay = times.partition("/")
    if not stops or not every:
        raise BadPlan(f"{text!r} is no round: write the stops and how long one round takes, as main,forest,gate:20m")
    return Courier(names(stops), parse_length(every), parse_length(stay) if slash else STAY_S)


def names(text: str) -> tuple[str, ...]:
    """Names from a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def with_zone(written: Written, name: str, changes: Mapping[str, Any]) -> Written:
    """The same with fields of one zone changed; :class:`BadPlan` where there is none of that name."""
    if all(zone.name != name for zone in written.zones):
        known = ", ".join(zone.name for zone in written.zones) or "none yet: add it with --zone"
        raise BadPlan(f"there is no zone {name!r}; the zones are {known}")
    return replace(
        written, zones=tuple(replace(zone, **changes) if zone.name == name else zone for zone in written.zones)
    )


def _amount(currency: Currency, key: str, text: str) -> int:
    try:
        return currency.parse(text)
    except BadAmount as error:
        raise BadPlan(f"{key}: {error}", table="money", key=key) from error
