"""A venue as a TOML file: an example, what a file says, and a sentence where it is wrong.

A sentence about the file names its line. TOML's own library keeps no lines, so they are sought in the text: the nth
`[[table]]`, and the key below it.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh.limits import PLAN_SAMPLES_MAX, PLAN_SEED_MAX
from mesh.planning.plan import BadPlan, Courier, Outage, Thief, Zone, parse_length
from mesh.planning.written import SAMPLES, SEED, Written, parse_outage

EXAMPLE: Final = """\
# A venue for `tapmesh plan`. Save it, change it to yours, and run: tapmesh plan venue-plan.toml
# Lengths of time: 90s, 20m, 1h30m. Every key here has an option of the same name that overrides it.

currency = "EUR"

[money]                            # all in the currency above
balance = 60.00                    # on the wristband that is copied
per_tap_cap = 20.00                # the most that one tap may take
sale = 8.50                        # an average sale
sales_per_reader_minute = 1.5      # at the peak

[thief]
pace = "1m"                        # from one tap of the copy to the next in the same zone, with the queue
travel = "5m"                      # to another zone; "0s" if an accomplice stands there already

[[zone]]                           # readers that hear each other through one access point
name = "main"
readers = 18
outage = "6m/40m"                  # cut off from the other zones for 6 minutes of each 40, on average

[[zone]]
name = "food"
readers = 10
blackout = "2m/4h"                 # its own access point fails: readers there do not even hear each other

[[zone]]
name = "forest"                    # on no network: only couriers get there
readers = 6

[[zone]]
name = "gate"
readers = 4
gateway = true                     # stands here, and forwards money to the settlement service

[[network]]                        # zones that a cable or a radio bridge joins to a gateway
zones = ["main", "food", "gate"]

[[courier]]                        # a member of staff with a phone in the pocket
round = ["main", "forest", "gate"]
every = "20m"                      # walks it once in twenty minutes, again and again
stay = "1m"                        # at each stop
"""

_TABLE: Final = re.compile(r"\s*\[\[?\s*([A-Za-z_]+)\s*\]\]?\s*(?:#.*)?")


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A file's text and what it says."""

    name: str
    text: str
    written: Written

    def blames(self, error: BadPlan) -> BadPlan:
        """The error with its line, where the file alone has it too; as it is, where options brought it in."""
        try:
            self.written.plan()
        except BadPlan as own:
            if str(own) == str(error):
                return BadPlan(_located(self.name, self.text, own))
        return error


def read_plan(name: str, data: bytes) -> PlanFile:
    """What a plan file says, or :class:`BadPlan` with the line and what to write instead."""
    try:
        text = data.decode("utf-8")
        values = tomllib.loads(text, parse_float=str)
    except UnicodeDecodeError as error:
        raise BadPlan(f"{name} is not a text in UTF-8: write the plan with a text editor") from error
    except tomllib.TOMLDecodeError as error:
        raise BadPlan(
            f"{name} is not TOML: {error}. Texts need quotes, and each zone begins with [[zone]]; "
            f"'tapmesh plan --example' prints a plan that works"
        ) from error
    try:
        return PlanFile(name, text, _written(values))
    except BadPlan as error:
        raise BadPlan(_located(name, text, error)) from error


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file, from which every key is taken with what it may be; what is left over is a mistake."""

    values: Mapping[str, object]
    keys: tuple[str, ...]
    name: str = ""
    index: int = 0

    def __post_init__(self) -> None:
        for key in self.values:
            if key not in self.keys:
                close = difflib.get_close_matches(key, self.keys, n=1)
                meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self.keys)}"
                where = f" of a {self.name}" if self.name else ""
                raise self.bad(key, f"{key!r} is no key{where} ({meant})")

    def bad(self, key: str, sentence: str) -> BadPlan:
        return BadPlan(sentence, table=self.name, index=self.index, key=key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.bad(key, f"{key} must be a text in quotes, and it is {value!r}")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if type(value) is not int:
            raise self.bad(key, f"{key} must be a whole number, and it is {value!r}: write it like {key} = 12")
        return value

    def rate(self, key: str, default: float) -> float:
        value = self._value(key, default)
        try:
            return float(value) if isinstance(value, str | int | float) and type(value) is not bool else float("nan")
        except ValueError as error:
            raise self.bad(key, f"{key} must be a number, and it is {value!r}: write it like {key} = 1.5") from error

    def amount(self, key: str) -> str:
        value = self._value(key, None)
        if type(value) is int or isinstance(value, str):
            return str(value)
        raise self.bad(key, f"{key} must be an amount, and it is {value!r}: write it like {key} = 12.50")

    def yes_no(self, key: str) -> bool:
        value = self._value(key, False)
        if not isinstance(value, bool):
            raise self.bad(key, f"{key} must be true or false, and it is {value!r}")
        return value

    def zones(self, key: str) -> tuple[str, ...]:
        value = self._value(key, None)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.bad(key, f'{key} must be a list of zones, and it is {value!r}: write {key} = ["main", "gate"]')
        return tuple(value)

    def length(self, key: str, default: str | None = None) -> float:
        text = self.text(key, default)
        try:
            return parse_length(text)
        except BadPlan as error:
            raise self.bad(key, f"{key}: {error}") from error

    def outage(self, key: str) -> Outage | None:
        if key not in self.values:
            return None
        try:
            return parse_outage(self.text(key))
        except BadPlan as error:
            raise self.bad(key, f"{key}: {error}") from error

    def _value(self, key: str, default: object) -> object:
        value = self.values.get(key, default)
        if value is None:
            raise self.bad("", f"this {self.name} has no {key}: add it ('tapmesh plan --example' shows one)")
        return value


_TOP: Final = ("currency", "seed", "samples", "money", "thief", "zone", "network", "courier")
_MONEY: Final = ("balance", "per_tap_cap", "sale", "sales_per_reader_minute")


def _written(values: Mapping[str, Any]) -> Written:
    top = _Table(values, _TOP)
    money = _Table(_one(values, "money"), _MONEY, "money")
    thief = _Table(_one(values, "thief"), ("pace", "travel"), "thief")
    return Written(
        zones=tuple(
            _zone(table) for table in _many(values, "zone", ("name", "readers", "gateway", "outage", "blackout"))
        ),
        networks=tuple(table.zones("zones") for table in _many(values, "network", ("zones",))),
        couriers=tuple(
            Courier(table.zones("round"), table.length("every"), table.length("stay", "1m"))
            for table in _many(values, "courier", ("round", "every", "stay"))
        ),
        amounts={key: money.amount(key) for key in _MONEY[:3] if key in money.values},
        sales_per_reader_minute=money.rate("sales_per_reader_minute", 1.5),
        thief=Thief(thief.length("pace", "1m"), thief.length("travel", "5m")),
        currency=top.text("currency", "EUR"),
        seed=_within(top, "seed", SEED, PLAN_SEED_MAX),
        samples=_within(top, "samples", SAMPLES, PLAN_SAMPLES_MAX),
    )


def _zone(table: _Table) -> Zone:
    return Zone(
        table.text("name"),
        table.number("readers"),
        table.outage("outage"),
        table.outage("blackout"),
        table.yes_no("gateway"),
    )


def _within(table: _Table, key: str, default: int, most: int) -> int:
    value = table.number(key, default)
    if not 1 <= value <= most:
        raise table.bad(key, f"{key} must be from 1 to {most}, and it is {value}")
    return value


def _one(values: Mapping[str, Any], name: str) -> Mapping[str, object]:
    value = values.get(name, {})
    if not isinstance(value, dict):
        raise BadPlan(f"{name} is a table: write [{name}] on a line of its own, and its keys below", key=name)
    return value


def _many(values: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> list[_Table]:
    tables = values.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BadPlan(f"each {name} is a table of its own: write [[{name}]] before its keys", table=name, key=name)
    return [_Table(table, keys, name, index) for index, table in enumerate(tables)]


def _located(name: str, text: str, error: BadPlan) -> str:
    line = _line(text, error)
    return f"{name}: {error}" if line is None else f"{name}, line {line}: {error}"


def _line(text: str, error: BadPlan) -> int | None:
    """The line of the key, else of its table, else nothing; counted from 1."""
    table, seen, header = "", -1, None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TABLE.fullmatch(line):
            table = match[1]
            seen += table == error.table
            if table == error.table and seen == error.index:
                header = number
        elif table == error.table and (not table or seen == error.index) and _is_of_key(line, error.key):
            return number
    return header


def _is_of_key(line: str, key: str) -> bool:
    return bool(key) and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line) is not None
