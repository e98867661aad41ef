"""What device and office say to each other, byte by byte, and what the office decides, sentence by sentence."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.codec import TooLarge, Value, encode
from mesh.core.enrolment import Request
from mesh.core.join import (
    BadJoinMessage,
    BadSheet,
    JoinRefused,
    Line,
    Place,
    Standing,
    encode_ask,
    encode_place,
    encode_refusal,
    encode_sheet,
    find_line,
    holder_of,
    newest_lines,
    parse_ask,
    parse_place,
    parse_sheet,
    raise_refusal,
    refuse_place,
    refuse_request,
    standing,
)
from mesh.core.join_code import secret_digest
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.limits import (
    JOIN_ASK_BYTES_MAX,
    JOIN_PLACES_MAX,
    JOIN_SHEET_BYTES_MAX,
    JOIN_WORD_BYTES_MAX,
    NAME_CHARS_MAX,
    ZONE_CHARS_MAX,
)
from tests.factory import Venue

BAR: Final = Place("Bar A", frozenset({Role.TILL, Role.READER}), "north")
SPARE: Final = Place("Spare", frozenset({Role.COURIER}), None)
SECRET: Final = b"secret!"
DIGEST: Final = b"D" * 32
VENUE_ID: Final = b"V" * 32


# -- Messages ----------------------------------------------------------------------------------------------------------


def test_ask_is_these_bytes() -> None:
    assert encode_ask(SECRET) == encode([1, SECRET])
    assert parse_ask(encode([1, SECRET])) == SECRET


@pytest.mark.parametrize(
    "fields", [[2, SECRET], [0, SECRET], [True, SECRET], [1, SECRET[:6]], [1, SECRET + b"!"], [1, "secret!"], [1], []]
)
def test_ask_of_another_shape_is_refused(fields: list[Value]) -> None:
    with pytest.raises(BadJoinMessage, match="another version"):
        parse_ask(encode(fields))


def test_ask_longer_than_its_bound_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        parse_ask(bytes(JOIN_ASK_BYTES_MAX + 1))


def test_place_is_these_bytes_with_its_roles_sorted() -> None:
    assert encode_place(BAR) == encode([1, "Bar A", ["reader", "till"], "north"])
    assert encode_place(SPARE) == encode([1, "Spare", ["courier"], None])
    assert parse_place(encode_place(BAR)) == BAR
    assert parse_place(encode_place(SPARE)) == SPARE


def test_place_at_the_edge_of_its_bounds_is_taken() -> None:
    for place in (
        Place("x" * NAME_CHARS_MAX, frozenset(Role), "z" * ZONE_CHARS_MAX),
        Place("x", frozenset({Role.READER}), "z"),
    ):
        assert parse_place(encode_place(place)) == place


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([2, "Bar A", ["reader"], None], "another version"),
        ([0, "Bar A", ["reader"], None], "another version"),
        ([True, "Bar A", ["reader"], None], "another version"),
        ([1, "Bar A", ["reader"]], "another version"),
        ([1, "Bar A", ["reader"], None, 0], "another version"),
        ([], "another version"),
        ([1, "", ["reader"], None], "a place is"),
        ([1, " Bar A", ["reader"], None], "a place is"),
        ([1, b"Bar A", ["reader"], None], "a place is"),
        ([1, "Bar A", [], None], "a place is"),
        ([1, "Bar A", "reader", None], "a place is"),
        ([1, "Bar A", ["reader"] * 17, None], "a place is"),
        ([1, "Bar A", ["reader"] * 16, None], "roles are"),
        ([1, "Bar A", ["reader", "reader"], None], "roles are"),
        ([1, "Bar A", ["till", "reader"], None], "roles are"),
        ([1, "Bar A", ["reader", "wizard"], None], "roles are"),
        ([1, "Bar A", ["reader", 7], None], "roles are"),
        ([1, "Bar A", [b"reader"], None], "roles are"),
        ([1, "Bar A", [["reader"]], None], "roles are"),
        ([1, "Bar A", ["reader"], ""], "a zone's name"),
        ([1, "Bar A", ["reader"], "z" * (ZONE_CHARS_MAX + 1)], "a zone's name"),
        ([1, "Bar A", ["reader"], "no\nrth"], "a zone's name"),
        ([1, "Bar A", ["reader"], 7], "a zone's name"),
        ([1, "Bar A", ["reader"], False], "a zone's name"),
    ],
)
def test_place_of_another_shape_is_not_taken(fields: list[Value], said: str) -> None:
    with pytest.raises(BadJoinMessage, match=said):
        parse_place(encode(fields))


def test_place_longer_than_its_bound_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        parse_place(bytes(JOIN_WORD_BYTES_MAX + 1))


def test_refusal_is_these_bytes_and_no_longer_than_a_screen() -> None:
    assert encode_refusal("no more bars") == encode([0, "no more bars"])
    assert encode_refusal("x" * 1000) == encode([0, "x" * 1000])
    assert encode_refusal("x" * 1001) == encode([0, "x" * 1000])


def test_refusal_is_shown_in_the_offices_words_without_its_control_characters() -> None:
    with pytest.raises(JoinRefused) as refused:
        parse_place(encode([0, "go\x1b[2J\naway"]))
    assert str(refused.value) == "the office says: go [2J away"
    with pytest.raises(JoinRefused) as long:
        raise_refusal([0, "y" * 1001])
    assert str(long.value) == "the office says: " + "y" * 1000


@pytest.mark.parametrize("fields", [[1, "no"], [False, "no"], [0, b"no"], [0], [0, "no", 1], [-1, "no"], []])
def test_what_is_no_refusal_refuses_nothing(fields: list[object]) -> None:
    raise_refusal(fields)


# -- Sheets ------------------------------------------------------------------------------------------------------------


def test_sheet_is_these_bytes_and_is_read_back_line_by_line() -> None:
    lines = [Line(BAR, DIGEST, 1_900_000_000), Line(SPARE, None, None), Line(BAR, DIGEST, 0)]
    data = encode_sheet(lines)
    rows: list[Value] = [
        ["Bar A", ["reader", "till"], "north", DIGEST, 1_900_000_000],
        ["Spare", ["courier"], None, None, None],
        ["Bar A", ["reader", "till"], "north", DIGEST, 0],
    ]
    assert data == encode([1, rows])
    assert parse_sheet(data) == lines
    assert parse_sheet(encode_sheet([])) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["Bar A", ["reader"], None, DIGEST, -1], "end of a code's time"),
        (["Bar A", ["reader"], None, DIGEST, True], "end of a code's time"),
        (["Bar A", ["reader"], None, DIGEST, False], "end of a code's time"),
        (["Bar A", ["reader"], None, DIGEST[:31], 5], "digest has 32 bytes"),
        (["Bar A", ["reader"], None, DIGEST + b"\x00", 5], "digest has 32 bytes"),
        (["Bar A", ["reader"], None, b"", 5], "digest has 32 bytes"),
        (["Bar A", ["reader"], None, "D" * 32, 5], "a line of a sheet is"),
        (["Bar A", ["reader"], None, DIGEST, "5"], "a line of a sheet is"),
        (["Bar A", ["reader"], None, DIGEST], "a line of a sheet is"),
        (["Bar A", ["reader"], None, DIGEST, 5, 5], "a line of a sheet is"),
        (None, "a line of a sheet is"),
        (["", ["reader"], None, DIGEST, 5], "a place is"),
        (["Bar A", [], None, DIGEST, 5], "a place is"),
        (["Bar A", ["wizard"], None, DIGEST, 5], "roles are"),
        (["Bar A", ["reader"], "", DIGEST, 5], "a zone's name"),
    ],
)
def test_line_of_another_shape_spoils_its_sheet(row: Value, said: str) -> None:
    good: Value = ["Spare", ["courier"], None, DIGEST, None]
    with pytest.raises(BadSheet, match=said):
        parse_sheet(encode([1, [good, row]]))


@pytest.mark.parametrize("fields", [[2, []], [0, []], [True, []], [1], [1, None], [1, [], 0], ["1", []]])
def test_sheet_of_another_shape_is_refused(fields: list[Value]) -> None:
    with pytest.raises(BadSheet, match="a sheet of join codes is"):
        parse_sheet(encode(fields))


def test_sheet_has_so_many_lines_and_not_one_more() -> None:
    line = Line(SPARE, None, None)
    assert len(parse_sheet(encode_sheet([line] * JOIN_PLACES_MAX))) == JOIN_PLACES_MAX
    with pytest.raises(BadSheet, match=f"at most {JOIN_PLACES_MAX}"):
        parse_sheet(encode_sheet([line] * (JOIN_PLACES_MAX + 1)))
    with pytest.raises(TooLarge):
        parse_sheet(bytes(JOIN_SHEET_BYTES_MAX + 1))


def test_of_several_sheets_the_newest_line_of_each_name_holds_in_the_order_of_names_first_printed() -> None:
    old, spare, new = Line(BAR, DIGEST, 1), Line(SPARE, DIGEST, 2), Line(BAR, None, None)
    assert newest_lines([[old, spare], [], [new]]) == [new, spare]
    assert newest_lines([[old, new]]) == [new]
    assert newest_lines([]) == []


def test_secret_finds_its_line_and_only_in_its_own_venue() -> None:
    lines = [
        Line(SPARE, None, None),
        Line(BAR, secret_digest(VENUE_ID, SECRET), None),
        Line(SPARE, secret_digest(VENUE_ID, b"another"), None),
    ]
    assert find_line(lines, VENUE_ID, SECRET) is lines[1]
    assert find_line(lines, VENUE_ID, b"another") is lines[2]
    assert find_line(lines, b"W" * 32, SECRET) is None
    assert find_line(lines, VENUE_ID, b"unknown") is None
    assert find_line([], VENUE_ID, SECRET) is None


# -- What the office decides -------------------------------------------------------------------------------------------

VENUE: Final = Venue("Joining")
HOLDER: Final = VENUE.device("bar a", Role.READER).certificate
STRANGER: Final = VENUE.device("Bar B", Role.READER).certificate
KEYS: Final = (HOLDER.link_key, HOLDER.log_key)


def test_place_is_held_by_whoever_has_its_name_or_one_that_people_would_confuse_with_it() -> None:
    assert holder_of(BAR, [STRANGER, HOLDER]) is HOLDER
    assert holder_of(BAR, [STRANGER]) is None
    assert holder_of(BAR, []) is None


def test_code_is_open_until_its_last_second_has_begun() -> None:
    line = Line(BAR, DIGEST, 100)
    assert [standing(line, [STRANGER], now_s) for now_s in (0.0, 100.0, 100.001, 101.0)] == [
        Standing.OPEN,
        Standing.OPEN,
        Standing.PAST,
        Standing.PAST,
    ]
    assert standing(Line(BAR, DIGEST, 0), [], 1.0) is Standing.PAST
    assert standing(Line(BAR, DIGEST, None), [], 1e12) is Standing.OPEN


def test_joined_comes_before_withdrawn_and_withdrawn_before_past() -> None:
    assert standing(Line(BAR, None, 1), [HOLDER], 2.0) is Standing.JOINED
    assert standing(Line(BAR, DIGEST, 1), [HOLDER], 2.0) is Standing.JOINED
    assert standing(Line(BAR, None, 1), [], 2.0) is Standing.WITHDRAWN


def test_whoever_gives_no_good_code_is_told_what_to_do() -> None:
    assert refuse_place(None, [], 0.0) == (
        "this code is not on any sheet, or a newer one replaced it. Print the device a new one"
    )
    assert refuse_place(Line(BAR, DIGEST, 1), [], 2.0) == (
        "the code for 'Bar A' is past its time. Print the device a new one"
    )


def test_good_code_and_one_that_was_used_both_lead_on() -> None:
    assert refuse_place(Line(BAR, DIGEST, 1), [], 1.0) is None
    assert refuse_place(Line(BAR, DIGEST, 1), [HOLDER], 2.0) is None


def test_request_is_signed_for_a_free_place_and_again_for_the_device_that_has_it() -> None:
    assert refuse_request(BAR, Request("Bar A", *KEYS), None) is None
    assert refuse_request(BAR, Request("Bar A", *KEYS), HOLDER) is None


@pytest.mark.parametrize(
    "keys", [(STRANGER.link_key, STRANGER.log_key), (HOLDER.link_key, STRANGER.log_key), (STRANGER.link_key, KEYS[1])]
)
def test_request_with_any_other_key_is_refused_with_the_fingerprint_of_who_has_the_place(
    keys: tuple[bytes, bytes],
) -> None:
    assert refuse_request(BAR, Request("Bar A", *keys), HOLDER) == (
        f"the code for 'Bar A' was used already, by a device with the fingerprint {HOLDER.fingerprint}. If that "
        "was yours and lost its disk, retire it in the office; if it was not, somebody else had this paper: revoke it. "
        "Then print a new code"
    )


def test_request_under_another_name_is_refused_whoever_asks() -> None:
    for holder in (None, HOLDER):
        said = refuse_request(BAR, Request("Bar B", *KEYS), holder)
        assert said == "that code is for 'Bar A', not for 'Bar B'"
    assert refuse_request(BAR, Request("bar a", *KEYS), None) is not None


def test_errors_of_a_joining_are_the_other_ends_fault() -> None:
    assert all(issubclass(error, PeerError) for error in (BadJoinMessage, JoinRefused, BadSheet))
