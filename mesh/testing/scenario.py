"""A scenario: what a world is made of, who does what in it, and what goes wrong. Read from TOML.

::

    name = "two-bars"
    duration_s = 600          # how long things go wrong
    settle_s = 120            # by then, after everything was healed, all must have come together

    [[zones]]
    name = "north"
    readers = 2
    tills = 1

    [people]
    count = 40
    taps_per_s = 1.0

    [faults]                  # how often each kind of fault is let happen
    power_cut = 2
    zone_down = 1

Every value has a default but `name` and `zones`. What a kind of fault or an adversary does, and what must hold all the
same, is said in docs/SIMULATOR.md. A scenario and a seed are a whole run.
"""

from __future__ import annotations

import difflib
import random
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from mesh.core.overlay import LINKS_WANTED
from mesh.errors import LocalError
from mesh.testing.network import Quality

SCENARIO_BYTES_MAX: Final = 64 * 1024
DEVICES_MAX: Final = 2000
PEOPLE_MAX: Final = 200_000
SCENARIO_NAME_CHARS_MAX: Final = 32
ZONE_NAME_CHARS_MAX: Final = 16
"""Names of devices and of ways between zones are made of it."""

_T = TypeVar("_T")


class BadScenario(LocalError):
    """A scenario that cannot be meant; nothing was simulated."""


class Fault(Enum):
    """What may go wrong at a moment, by its name in a scenario."""

    LINK_RESET = "link_reset"
    ONE_WAY = "one_way"
    DOUBLE_LINK = "double_link"
    PAIR_CUT = "pair_cut"
    ZONE_DOWN = "zone_down"
    BACKBONE_DOWN = "backbone_down"
    UPLINK_DOWN = "uplink_down"
    POWER_CUT = "power_cut"
    CRASH = "crash"
    DISK_FULL = "disk_full"
    DISK_SLOW = "disk_slow"
    REPLICA_LOST = "replica_lost"
    CLOCK_JUMP = "clock_jump"
    READER_LOST = "reader_lost"
    READER_SWAPPED = "reader_swapped"
    SETTLEMENT_POWER_CUT = "settlement_power_cut"
    CARD_CLONED = "card_cloned"
    CARD_ROLLED_BACK = "card_rolled_back"
    WALK_AWAY = "walk_away"
    TORN_WRITE = "torn_write"
    TORN_TWICE = "torn_twice"
    CARD_FORGED = "card_forged"
    FALSE_RECEIPT = "false_receipt"


class Adversary(Enum):
    """Who behaves badly for the whole run, by the name in a scenario."""

    EQUIVOCATOR = "equivocator"
    FORGER = "forger"
    FRONTIER_LIAR = "frontier_liar"
    SILENT_ANNOUNCER = "silent_announcer"
    FLOODER = "flooder"
    BRANCHER = "brancher"
    REVOKED = "revoked"
    RESTORED_BACKUP = "restored_backup"
    CLONED_CARD_STORAGE = "cloned_sd_card"
    WITHHOLDING_GATEWAY = "withholding_gateway"
    RULE_BREAKER = "rule_breaker"
    SWINDLER = "swindler"
    PUPPET = "puppet"


@dataclass(frozen=True, slots=True)
class Zone:
    """An area behind one access point."""

    name: str
    readers: int = 2
    tills: int = 1
    gateways: int = 0
    connected: bool = True
    """Whether a backbone leads from it to the other zones; if not, only couriers do."""
    up_s: tuple[float, float] = (0.0, 0.0)
    down_s: tuple[float, float] = (0.0, 0.0)
    """How long its access point works and fails in turns, by chance between least and most; zeros: it works."""


@dataclass(frozen=True, slots=True)
class Courier:
    """Somebody with a phone who walks a round."""

    route: tuple[str, ...]
    dwell_s: float = 30.0
    walk_s: float = 10.0


@dataclass(frozen=True, slots=True)
class People:
    """Who comes, what they spend, and how patient they are. Amounts are in cents."""

    count: int = 40
    taps_per_s: float = 1.0
    price_cents: tuple[int, int] = (300, 1200)
    top_up_cents: tuple[int, int] = (2000, 6000)
    moves: float = 0.05
    """Chance that somebody changes zone before an order."""
    walks_away: float = 0.02
    """Chance that somebody takes the wristband away in mid-tap."""
    holds_again: float = 0.7
    """Chance that somebody who is asked to hold the wristband again does."""
    by_hour: tuple[float, ...] = ()
    """The spend profile of a day: 24 factors of `taps_per_s`, the first for the hour in which the scenario begins."""
    orders_max: int = 0
    """The bars close for good after this many orders were paid; 0: they do not."""
    cancels: float = 0.03
    """Chance that an order is cancelled before the wristband comes."""
    clone_pace_s: tuple[float, float] = (5.0, 40.0)
    """How soon a thief goes to the next bar."""


@dataclass(frozen=True, slots=True)
class Disk:
    """How fast a device's flash is."""

    fsync_ms: tuple[float, float] = (2.0, 12.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """See the module's docstring."""

    name: str
    zones: tuple[Zone, ...]
    duration_s: float = 600.0
    settle_s: float = 120.0
    seed: int = 0
    couriers: tuple[Courier, ...] = ()
    people: People = field(default_factory=People)
    network: Quality = field(default_factory=Quality)
    backbone: Quality = field(default_factory=lambda: Quality(latency_ms=(5.0, 30.0), rate_kbit_s=10_000.0))
    slow_links: int = 0
    """Devices at the edge of the Wi-Fi: 200 kbit/s."""
    disk: Disk = field(default_factory=Disk)
    faults: Mapping[str, int] = field(default_factory=dict)
    fault_lasts_s: tuple[float, float] = (5.0, 60.0)
    adversaries: Mapping[str, int] = field(default_factory=dict)
    adversaries_at_once: int = 0
    """How many of these kinds each seed draws to come; 0: all of them come."""
    real_signatures: float = 0.0
    """Share of the seeds that sign and verify with Ed25519; the others with a keyed hash."""
    links_wanted: int = LINKS_WANTED
    tick_s: float = 0.25
    gateway_poll_s: float = 1.0
    copies_max: float = 4.0
    """How often an entry may arrive at a node, on average, in the safety phase of this scenario."""

    @property
    def devices(self) -> int:
        """Devices without adversaries' own."""
        return sum(zone.readers + zone.tills + zone.gateways for zone in self.zones) + len(self.couriers) + 1


def drawn(scenario: Scenario, seed: int) -> Scenario:
    """The scenario as this seed plays it: with those adversaries that it draws."""
    kinds, wanted = sorted(scenario.adversaries), scenario.adversaries_at_once
    if not 0 < wanted < len(kinds):
        return scenario
    come = random.Random(f"{scenario.name}/{seed}/who comes").sample(kinds, wanted)
    return replace(scenario, adversaries={kind: scenario.adversaries[kind] for kind in sorted(come)})


def load_scenario(path: Path) -> Scenario:
    """Read a scenario, or raise :class:`BadScenario` with what is wrong and what could be written instead."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadScenario(f"the scenario {path} cannot be read: {error.strerror}") from error
    if len(data) > SCENARIO_BYTES_MAX:
        raise BadScenario(f"{path} is longer than a scenario may be ({SCENARIO_BYTES_MAX} bytes)")
    try:
        return parse_scenario(data.decode())
    except UnicodeDecodeError as error:
        raise BadScenario(f"{path} is not text") from error
    except BadScenario as error:
        raise BadScenario(f"{path}: {error}") from error


def parse_scenario(text: str) -> Scenario:
    """The same from text."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadScenario(f"this is not TOML: {error}") from error
    scenario = _build(Scenario, table, "")
    check(scenario)
    return scenario


def check(scenario: Scenario) -> None:
    """Raise :class:`BadScenario` where a value is out of range or names something that is not there."""
    names = [zone.name for zone in scenario.zones]
    if not names or len(set(names)) != len(names):
        raise BadScenario("a scenario has at least one zone, and no two of the same name")
    _check_name("name", scenario.name, SCENARIO_NAME_CHARS_MAX)
    for zone in scenario.zones:
        _check_name("a zone's name", zone.name, ZONE_NAME_CHARS_MAX)
    for courier in scenario.couriers:
        _check_courier(courier, names)
    _check_kinds("fault", scenario.faults, [fault.value for fault in Fault])
    _check_kinds("adversary", scenario.adversaries, [adversary.value for adversary in Adversary])
    if not 1 <= scenario.devices <= DEVICES_MAX:
        raise BadScenario(f"a world has at most {DEVICES_MAX} devices, not {scenario.devices}")
    if not 0 <= scenario.people.count <= PEOPLE_MAX:
        raise BadScenario(f"at most {PEOPLE_MAX} people come, not {scenario.people.count}")
    if not scenario.duration_s > 0 or not scenario.settle_s > 0:
        raise BadScenario("duration_s and settle_s are more than nothing")
    if not any(zone.tills for zone in scenario.zones):
        raise BadScenario("somewhere there must be a till: without one no wristband ever has a balance")
    if not any(zone.readers for zone in scenario.zones):
        raise BadScenario("somewhere there must be a reader: without one there is no bar to go to")
    _check_values(scenario)


def _check_name(what: str, name: str, chars_max: int) -> None:
    if not 1 <= len(name) <= chars_max or not name.isascii() or not name.isprintable() or name != name.strip():
        raise BadScenario(f"{what} is plain text of 1 to {chars_max} characters, not {name!r}")


def _check_courier(courier: Courier, zones: list[str]) -> None:
    for stop in courier.route:
        if stop not in zones:
            raise BadScenario(f"a courier walks to {stop!r}, but the zones are {', '.join(zones)}")
    if len(set(courier.route)) < 2:
        raise BadScenario('a courier walks between zones: give the route at least two, as route = ["north", "forest"]')
    if not courier.dwell_s > 0 or not courier.walk_s > 0:
        raise BadScenario("a courier's dwell_s and walk_s are more than nothing")


def _check_values(scenario: Scenario) -> None:
    """Shares are from 0 to 1; what is divided by, or waited for again and again, is more than nothing."""
    people = scenario.people
    shares = {f"people.{name}": getattr(people, name) for name in ("moves", "walks_away", "holds_again", "cancels")}
    shares["real_signatures"] = scenario.real_signatures
    if len(people.by_hour) not in {0, 24}:
        raise BadScenario(f"people.by_hour has a factor for each of 24 hours, not {len(people.by_hour)}")
    for zone in scenario.zones:
        if (zone.up_s[0] > 0) != (zone.down_s[0] > 0):
            raise BadScenario(f"zone {zone.name!r} has both up_s and down_s, each more than nothing, or neither")
    positive = {"tick_s": scenario.tick_s, "gateway_poll_s": scenario.gateway_poll_s}
    positive |= {"people.price_cents": people.price_cents[0], "people.clone_pace_s": people.clone_pace_s[0]}
    for name, quality in (("network", scenario.network), ("backbone", scenario.backbone)):
        shares |= {f"{name}.loss": quality.loss, f"{name}.split": quality.split}
        positive[f"{name}.rate_kbit_s"] = quality.rate_kbit_s
    for name, share in shares.items():
        if share > 1:
            raise BadScenario(f"{name} is a share, from 0 to 1 (0.05 is one in twenty), not {share:g}")
    for name, value in positive.items():
        if not value > 0:
            raise BadScenario(f"{name} is more than nothing, not {value:g}")
    if people.top_up_cents[0] < 100:
        raise BadScenario(
            f"people.top_up_cents begins with 100 or more: a till takes whole notes and coins, not "
            f"{people.top_up_cents[0]}"
        )


def _check_kinds(what: str, asked: Mapping[str, int], known: list[str]) -> None:
    for name, count in asked.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known))}"
            raise BadScenario(f"there is no {what} {name!r}; {meant}")
        if type(count) is not int or not 0 <= count <= 10_000:
            raise BadScenario(f"{what} {name!r} happens a whole number of times, not {count!r}")


def _build(kind: type[_T], table: Mapping[str, object], where: str) -> _T:
    """A dataclass from a TOML table; every key must be a field, every value of its type."""
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    known = {one.name: one for one in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise BadScenario(f"{where}{key} is not known; {meant}")
        values[key] = _value(hints[key], value, f"{where}{key}")
    for name, one in known.items():
        if name not in values and one.default is MISSING and one.default_factory is MISSING:
            raise BadScenario(f"{where}{name} is missing")
    return kind(**values)


def _value(hint: object, value: object, where: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise BadScenario(f"{where} is a table: [{where}]")
        return _build(hint, value, f"{where}.")
    if origin is tuple:
        if not isinstance(value, list):
            raise BadScenario(f"{where} is a list, not {value!r}")
        if arguments[-1] is not Ellipsis:
            if len(value) != len(arguments):
                raise BadScenario(f"{where} has {len(arguments)} values (least and most), not {len(value)}")
            if not all(isinstance(one, int | float) for one in value) or value[0] > value[1]:
                raise BadScenario(f"{where} goes from least to most, not {value!r}")
        kinds = arguments[:-1] * len(value) if arguments[-1] is Ellipsis else arguments
        items = enumerate(zip(kinds, value, strict=True))
        return tuple(_value(kind, one, f"{where}[{at}]") for at, (kind, one) in items)
    if origin in {Union, UnionType}:
        return _value(arguments[0], value, where)
    if origin is not None:  # a mapping of counts; checked by name
        if not isinstance(value, dict):
            raise BadScenario(f"{where} is a table: [{where}]")
        return dict(value)
    return _scalar(hint, value, where)


def _scalar(hint: object, value: object, where: str) -> object:
    if hint is float and type(value) in {int, float}:
        number = float(value)  # type: ignore[arg-type]
        if not 0 <= number < 1e9:
            raise BadScenario(f"{where} is a number from 0 on, not {value!r}")
        return number
    if type(value) is not hint:
        words = {str: "text in quotes", int: "a whole number", bool: "true or false", float: "a number"}
        raise BadScenario(f"{where} is {words.get(hint, 'something else')}, not {value!r}")  # type: ignore[call-overload]
    if type(value) is int and not 0 <= value < 2**31:
        raise BadScenario(f"{where} is a whole number from 0 on, not {value}")
    return value
