"""The scenarios that come with the program, and how a person names one: `full-chaos`, or a file of one's own."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Final

from mesh.testing.scenario import BadScenario, Scenario, load_scenario, parse_scenario

SUFFIX: Final = ".toml"
_FOLDER: Final = files("mesh.testing") / "scenarios"


def packaged() -> dict[str, str]:
    """Every packaged scenario by name, with what its first comment says about it."""
    found = {one.name.removesuffix(SUFFIX): one for one in _FOLDER.iterdir() if one.name.endswith(SUFFIX)}
    return {name: _first_comment(found[name].read_text(encoding="utf-8")) for name in sorted(found)}


def packaged_text(name: str) -> str:
    """The TOML of a packaged scenario."""
    return (_FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8")


def find_scenario(named: str) -> Scenario:
    """The scenario that a person names: a packaged one, or a file. Raises :class:`BadScenario`."""
    names = list(packaged())
    if named in names:
        return parse_scenario(packaged_text(named))
    if named.endswith(SUFFIX) or Path(named).exists():
        return load_scenario(Path(named))
    close = difflib.get_close_matches(named, names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    raise BadScenario(
        f"there is no scenario {named!r}: {meant}the packaged ones are {', '.join(names)}; "
        f"one of your own is a file that ends with {SUFFIX}"
    )


def _first_comment(text: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
