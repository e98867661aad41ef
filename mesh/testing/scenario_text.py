"""A scenario as TOML, as a person would write it: what has its usual value is left out, but for the name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from mesh.testing.scenario import Scenario


def as_toml(scenario: Scenario) -> str:
    """Text from which :func:`mesh.testing.scenario.parse_scenario` makes an equal scenario.

    >>> from mesh.testing.scenario import Zone
    >>> print(as_toml(Scenario("small", (Zone("north", readers=1),), seed=17)))
    name = "small"
    seed = 17
    <BLANKLINE>
    [[zones]]
    name = "north"
    readers = 1
    """
    plain: list[str] = []
    tables: list[str] = []
    for name, value in _unusual(scenario):
        if isinstance(value, tuple) and value and is_dataclass(value[0]):
            for item in value:
                tables += ["", f"[[{name}]]", *_lines(item)]
        elif is_dataclass(value):
            tables += ["", f"[{name}]", *_lines(value)]
        elif isinstance(value, Mapping):
            tables += ["", f"[{name}]", *(f"{key} = {count}" for key, count in value.items())]
        else:
            plain.append(f"{name} = {_written(value)}")
    return "\n".join([*plain, *tables])


def _lines(table: object) -> list[str]:
    return [f"{name} = {_written(value)}" for name, value in _unusual(table)]


def _unusual(table: Any) -> Iterator[tuple[str, object]]:
    """(name, value) of the fields that differ from their default, or have none."""
    for one in fields(table):
        value = getattr(table, one.name)
        usual = one.default if one.default_factory is MISSING else one.default_factory()
        if usual is MISSING or value != usual:
            yield one.name, value


def _written(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(_escaped(letter) for letter in value) + '"'
        case tuple():
            return f"[{', '.join(map(_written, value))}]"
        case float() if value == int(value):
            return str(int(value))
        case _:
            return repr(value)


def _escaped(letter: str) -> str:
    """One character of a basic string of TOML."""
    if letter in {'"', "\\"}:
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
