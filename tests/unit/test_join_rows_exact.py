"""readers.csv: each cell in its place, and each mistake in the very words that a person reads."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.join import Place
from mesh.core.join_rows import BadRows, read_rows
from mesh.core.kinds import Role
from mesh.limits import JOIN_PLACES_MAX

ZONES: Final = ("north", "south")
ROLES: Final = "reader, till, manager, courier, gateway, settlement"
AGAIN: Final = ". No code was made: correct the list and give it again"


def said(text: str, zones: tuple[str, ...] = ZONES) -> str:
    with pytest.raises(BadRows) as refused:
        read_rows(text.encode(), zones)
    return str(refused.value)


def place(name: str, *roles: Role, zone: str | None = None) -> Place:
    return Place(name, frozenset(roles), zone)


# -- What is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,roles\nBar A,reader", [place("Bar A", Role.READER)]),
        ("roles,name\nreader,Bar A\n", [place("Bar A", Role.READER)]),
        ("name;roles;zone\nBar A;reader;south\n", [place("Bar A", Role.READER, zone="south")]),
        ("name\troles\nBar A\treader\n", [place("Bar A", Role.READER)]),
        ("zone,name,roles\n,Bar A,reader\n", [place("Bar A", Role.READER)]),
        ("name,roles,zone\nBar A,reader,  \n", [place("Bar A", Role.READER)]),
        ("name,roles,zone\nBar A,reader, north \n", [place("Bar A", Role.READER, zone="north")]),
        (" NAME , Roles \n  Bar A  , READER \n", [place("Bar A", Role.READER)]),
        ('name;roles\n"Bar; A";"till;reader"\n', [place("Bar; A", Role.TILL, Role.READER)]),
        ("\ufeffname,roles\nBar A,reader\n", [place("Bar A", Role.READER)]),
        ("name,roles\n\nBar B,till\n , \n,\nBar A,reader\n", [place("Bar B", Role.TILL), place("Bar A", Role.READER)]),
        ("name,roles\r\nBar A,reader\r\n", [place("Bar A", Role.READER)]),
        ("name,roles\rBar A,reader\rBar B,till\r", [place("Bar A", Role.READER), place("Bar B", Role.TILL)]),
    ],
)
def test_each_cell_is_read_in_its_place(text: str, expected: list[Place]) -> None:
    assert read_rows(text.encode(), ZONES) == expected


@pytest.mark.parametrize("between", [" ", "  ", "+", " + ", "/", "&", ";", "; ", "\t", " ,/+ "])
def test_roles_are_parted_by_anything_that_people_write_between_words(between: str) -> None:
    text = f'name,roles\nBar A,"{between}till{between}reader{between}"\n'
    assert read_rows(text.encode(), ZONES) == [place("Bar A", Role.TILL, Role.READER)]


@pytest.mark.parametrize("role", list(Role))
def test_every_role_can_be_given_in_any_case(role: Role) -> None:
    for written in (role.value, role.value.upper(), role.value.title()):
        assert read_rows(f"name,roles\nBar A,{written}\n".encode(), ZONES) == [place("Bar A", role)]


# -- What is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "name,rolls\nBar A,reader\n",
            "line 1: column 'rolls' is not known (did you mean 'roles'?); line 1: there is no column 'roles'",
        ),
        ("name,roles,xyzzy\nBar A,reader,\n", "line 1: column 'xyzzy' is not known"),
        ("name,roles,name\nBar A,reader,x\n", "line 1: column 'name' is there twice"),
        ("name,roles,zone,zone\nBar A,reader,,\n", "line 1: column 'zone' is there twice"),
        ("zone\nnorth\n", "line 1: there is no column 'name'; line 1: there is no column 'roles'"),
        ("", "line 1: there is no column 'name'; line 1: there is no column 'roles'"),
    ],
)
def test_mistake_in_the_first_line_is_named_before_any_other(text: str, problems: str) -> None:
    assert said(text) == problems + AGAIN


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Bar A,reader,north,x", "4 cells where line 1 has 3"),
        ("Bar A,reader", "2 cells where line 1 has 3"),
        (",reader,", "'': a device's name has 1 to 64 characters"),
        ("Bar\x07A,reader,", "'Bar\\x07A': a device's name is printable text (Unicode NFC) without spaces at its ends"),
        ("Bar A,,", "no role: a device without one is let in and may do nothing"),
        ("Bar A,+ /,", "no role: a device without one is let in and may do nothing"),
        ("Bar A,raeder,", f"'raeder' is not a role (did you mean 'reader'?); there are {ROLES}"),
        ("Bar A,Raeder,", f"'raeder' is not a role (did you mean 'reader'?); there are {ROLES}"),
        ("Bar A,xyzzy,", f"'xyzzy' is not a role; there are {ROLES}"),
        ("Bar A,reader,nroth", "zone 'nroth' is not in the venue document (did you mean 'north'?)"),
        ("Bar A,reader,xyzzy", "zone 'xyzzy' is not in the venue document"),
        ("Bar A,reader,North", "zone 'North' is not in the venue document (did you mean 'north'?)"),
    ],
)
def test_mistake_in_a_line_is_named_with_its_line(line: str, problem: str) -> None:
    assert said(f"name,roles,zone\nFirst,till,\n{line}\n") == f"line 3: {problem}{AGAIN}"


def test_line_with_one_cell_lacks_everything_else_and_each_lack_is_named() -> None:
    assert said("name,zone,roles\nBar A\n") == (
        "line 2: 1 cells where line 1 has 3; line 2: no role: a device without one is let in and may do nothing" + AGAIN
    )


def test_names_that_could_be_confused_are_named_with_both_lines() -> None:
    assert said("name,roles\nBar A,reader\nBar B,reader\n\nbar a,till\nBAR A,till\n") == (
        "line 5: 'bar a' could be confused with 'Bar A' in line 2; "
        "line 6: 'BAR A' could be confused with 'Bar A' in line 2; "
        "line 6: 'BAR A' could be confused with 'bar a' in line 5" + AGAIN
    )


def test_two_lines_without_a_name_are_not_confused_with_each_other() -> None:
    assert "confused" not in said("name,roles\n,reader\n,reader\n")


def test_line_is_counted_as_a_spreadsheet_counts_even_behind_a_cell_of_two_lines() -> None:
    assert said('name,roles\n"Bar\nA",reader\nBar B,\n').endswith(
        "line 4: no role: a device without one is let in and may do nothing" + AGAIN
    )


def test_line_break_inside_a_name_is_shown_as_it_stands_in_the_file() -> None:
    assert said('name,roles\r\n"Bar\r\nA",reader\r\n').startswith("line 3: 'Bar\\r\\nA': a device's name is printable")


def test_all_mistakes_of_a_line_are_named_at_once() -> None:
    assert said("name,roles,zone\n,raeder xyzzy,nroth\n") == (
        "line 2: '': a device's name has 1 to 64 characters; "
        f"line 2: 'raeder' is not a role (did you mean 'reader'?); there are {ROLES}; "
        f"line 2: 'xyzzy' is not a role; there are {ROLES}; "
        "line 2: zone 'nroth' is not in the venue document (did you mean 'north'?)" + AGAIN
    )


def test_list_without_a_device_is_none() -> None:
    for text in ("name,roles\n", "name,roles\n\n , \n"):
        assert said(text) == "there is no device in it" + AGAIN


def test_twenty_mistakes_are_shown_and_the_others_are_counted() -> None:
    def shown(count: int) -> str:
        return said("name,roles\n" + "".join(f"Bar {number},\n" for number in range(count)))

    no_role = "no role: a device without one is let in and may do nothing"
    twenty = "; ".join(f"line {line}: {no_role}" for line in range(2, 22))
    assert shown(20) == twenty + AGAIN
    assert shown(21) == twenty + "; and 1 more" + AGAIN
    assert shown(25) == twenty + "; and 5 more" + AGAIN


def test_list_holds_so_many_devices_and_not_one_more() -> None:
    # Devices without a name: it costs too long here to compare a thousand names with each other.
    def nameless(count: int) -> str:
        return said("name,roles\n" + ",reader\n" * count)

    assert nameless(JOIN_PLACES_MAX).startswith("line 2: '': a device's name")
    beyond = nameless(JOIN_PLACES_MAX + 1)
    assert beyond.startswith(
        f"it has {JOIN_PLACES_MAX + 1} devices; at most {JOIN_PLACES_MAX} fit one list; line 2: ''"
    )
    assert beyond.endswith(f"; and {JOIN_PLACES_MAX + 2 - 20} more{AGAIN}")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"name,roles\nCaf\xe9,reader\n", "not UTF-8 text: save it as 'CSV UTF-8'"),
        (b"\xff\xfen\x00a\x00", "not UTF-8 text"),
        (b'name,roles\n"Bar A,reader\n', "a quotation mark is open somewhere"),
        (b'name,roles\n"Bar A"x,reader\n', "cannot be read as CSV"),
    ],
)
def test_file_that_is_no_list_is_not_guessed_at(data: bytes, problem: str) -> None:
    with pytest.raises(BadRows, match=problem):
        read_rows(data, ZONES)
