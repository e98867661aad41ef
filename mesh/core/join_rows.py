"""readers.csv: who is to be enrolled, as a person writes it in a spreadsheet.

The first line names the columns: `name` and `roles`, and `zone` if wanted, in any order. Commas, semicolons or tabs
between them (spreadsheets differ by country), UTF-8 with or without a byte order mark. Several roles are separated by
spaces, plus signs, slashes or commas. Every mistake is named with its line, all at once, and then nothing is done.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Sequence
from typing import Final

from mesh.core.device_name import check_device_name, same_device_name
from mesh.core.join import Place
from mesh.core.kinds import Role
from mesh.errors import LocalError
from mesh.limits import JOIN_PLACES_MAX

COLUMNS: Final = ("name", "roles", "zone")
_REQUIRED: Final = ("name", "roles")
_SEPARATORS: Final = ",;\t"
_BETWEEN_ROLES: Final = re.compile(r"[\s,;+/&]+")
_ROLES: Final = {role.value: role for role in Role}
_SHOWN_MAX: Final = 20


class BadRows(LocalError):
    """The list of devices has mistakes, each named with its line; no code was made."""


def read_rows(data: bytes, zones: Sequence[str]) -> list[Place]:
    """The places that a readers.csv asks for, in its order; `zones` are the venue's. Or :class:`BadRows`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRows("the list is not UTF-8 text: save it as 'CSV UTF-8' in the spreadsheet") from error
    header, *_ = text.splitlines() or [""]
    separator = max(_SEPARATORS, key=header.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise BadRows(f"the list cannot be read as CSV ({error}): a quotation mark is open somewhere") from error
    columns = _columns(rows[0][1] if rows else [])
    problems: list[str] = []
    places: list[Place] = []
    lines: list[int] = []
    for line, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        found, wrong = _place(cells, columns, zones)
        wrong += _duplicates(found, places, lines)
        problems += [f"line {line}: {problem}" for problem in wrong]
        places.append(found)
        lines.append(line)
    if not places:
        problems.append("there is no device in it")
    if len(places) > JOIN_PLACES_MAX:
        problems.insert(0, f"it has {len(places)} devices; at most {JOIN_PLACES_MAX} fit one list")
    if problems:
        raise BadRows(_listed(problems))
    return places


def _columns(header: list[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    problems = [
        f"column {name!r} is not known{_suggestion(name, COLUMNS)}" for name in names if name not in COLUMNS
    ] + [f"column {name!r} is there twice" for name in COLUMNS if names.count(name) > 1]
    problems += [f"there is no column {name!r}" for name in _REQUIRED if name not in names]
    if problems:
        raise BadRows(_listed([f"line 1: {problem}" for problem in problems]))
    return {name: at for at, name in enumerate(names)}


def _place(cells: list[str], columns: dict[str, int], zones: Sequence[str]) -> tuple[Place, list[str]]:
    problems = []
    if len(cells) != len(columns):
        problems.append(f"{len(cells)} cells where line 1 has {len(columns)}")
    texts = {name: cells[at].strip() if at < len(cells) else "" for name, at in columns.items()}
    name_problem = check_device_name(texts["name"])
    if name_problem is not None:
        problems.append(f"{texts['name']!r}: {name_problem}")
    given = [role.lower() for role in _BETWEEN_ROLES.split(texts["roles"]) if role]
    if not given:
        problems.append("no role: a device without one is let in and may do nothing")
    problems += [
        f"{role!r} is not a role{_suggestion(role, _ROLES)}; there are {', '.join(_ROLES)}"
        for role in given
        if role not in _ROLES
    ]
    zone = texts.get("zone") or None
    if zone is not None and zone not in zones:
        problems.append(f"zone {zone!r} is not in the venue document{_suggestion(zone, zones)}")
    return Place(texts["name"], frozenset(_ROLES[role] for role in given if role in _ROLES), zone), problems


def _duplicates(found: Place, places: list[Place], lines: list[int]) -> list[str]:
    return [
        f"{found.name!r} could be confused with {place.name!r} in line {line}"
        for place, line in zip(places, lines, strict=True)
        if found.name and same_device_name(found.name, place.name)
    ]


def _suggestion(word: str, known: Sequence[str] | dict[str, Role]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(problems: list[str]) -> str:
    more = len(problems) - _SHOWN_MAX
    tail = f"; and {more} more" if more > 0 else ""
    return f"{'; '.join(problems[:_SHOWN_MAX])}{tail}. No code was made: correct the list and give it again"
