"""Join codes, lists of devices, sheets and the office's rules, without any network."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.codec import decode_array, encode
from mesh.core.enrolment import Request
from mesh.core.join import (
    JoinRefused,
    Line,
    Place,
    Standing,
    encode_ask,
    encode_place,
    encode_refusal,
    encode_sheet,
    find_line,
    newest_lines,
    parse_ask,
    parse_place,
    parse_sheet,
    refuse_place,
    refuse_request,
    standing,
)
from mesh.core.join_code import ALPHABET, BadCode, JoinCode, format_code, parse_code, secret_digest
from mesh.core.join_guard import Guard, Verdict
from mesh.core.join_rows import BadRows, read_rows
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.limits import (
    JOIN_ANSWERS_PER_DEVICE_MAX,
    JOIN_CONNECTIONS_MAX,
    JOIN_CONNECTIONS_PER_ADDRESS_MAX,
    JOIN_WRONG_CODES_MAX,
    JOIN_WRONG_CODES_PER_ADDRESS_MAX,
)
from tests.factory import Venue

ZONES = ("north", "south")
BAR_A = Place("Bar A", frozenset({Role.READER}), "north")
codes = st.builds(JoinCode, st.binary(min_size=8, max_size=8), st.binary(min_size=7, max_size=7))


# -- Codes -------------------------------------------------------------------------------------------------------------


@given(codes)
def test_code_is_read_back_as_people_type_it(code: JoinCode) -> None:
    text = format_code(code)
    assert [len(group) for group in text.split("-")] == [5] * 5
    sloppy = text.replace("-", " ").lower().replace("0", "o").replace("1", "l")
    assert parse_code(text) == parse_code(sloppy) == parse_code(text.replace("-", "")) == code


@given(codes, st.integers(0, 24), st.sampled_from(ALPHABET))
def test_every_single_wrong_character_is_noticed_before_anything_is_sent(code: JoinCode, at: int, wrong: str) -> None:
    plain = format_code(code).replace("-", "")
    typed = plain[:at] + wrong + plain[at + 1 :]
    if typed == plain:
        assert parse_code(typed) == code
    else:
        with pytest.raises(BadCode):
            parse_code(typed)


@given(codes, st.integers(0, 24), st.integers(0, 24))
def test_any_two_swapped_characters_are_noticed(code: JoinCode, one: int, other: int) -> None:
    symbols = list(format_code(code).replace("-", ""))
    symbols[one], symbols[other] = symbols[other], symbols[one]
    typed = "".join(symbols)
    if typed == format_code(code).replace("-", ""):
        assert parse_code(typed) == code
    else:
        with pytest.raises(BadCode):
            parse_code(typed)


@given(st.text(alphabet=string.printable, max_size=60))
def test_whatever_is_typed_is_a_code_or_is_refused(text: str) -> None:
    try:
        code = parse_code(text)
    except BadCode:
        return
    assert parse_code(format_code(code)) == code


# -- Messages and sheets -----------------------------------------------------------------------------------------------


def test_messages_are_read_back_as_they_were_written() -> None:
    assert parse_ask(encode_ask(b"secret!")) == b"secret!"
    for place in (BAR_A, Place("Kasse 1", frozenset({Role.TILL, Role.READER}), None)):
        assert parse_place(encode_place(place)) == place
    with pytest.raises(JoinRefused, match="no more bars"):
        parse_place(encode_refusal("no more bars"))


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_the_peers_fault(data: bytes) -> None:
    for parse, encode_again in ((parse_ask, encode_ask), (parse_place, encode_place)):
        try:
            value = parse(data)
        except PeerError:
            continue
        assert encode_again(value) == data  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        [1, "Bar A", [], "north"],
        [1, "Bar A", ["reader", "admin"], "north"],
        [1, "Bar A", ["till", "reader"], "north"],
        [1, "Bar A", ["reader"], "x" * 33],
        [1, "Bar\x1b[2J", ["reader"], None],
        [2, "Bar A", ["reader"], None],
        [True, "Bar A", ["reader"], None],
    ],
)
def test_place_that_breaks_a_rule_is_not_taken(fields: list[object]) -> None:
    with pytest.raises(PeerError):
        parse_place(encode(fields))  # type: ignore[arg-type]


def test_refusal_cannot_draw_on_the_screen() -> None:
    with pytest.raises(JoinRefused) as caught:
        parse_place(encode_refusal("go \x1b[2Jaway"))
    assert "\x1b" not in str(caught.value)


def test_newest_line_of_a_name_counts_and_a_withdrawn_code_finds_nothing() -> None:
    venue = Venue().root.venue_id
    old, new = (Line(BAR_A, secret_digest(venue, secret), None) for secret in (b"older..", b"newer.."))
    sheets = [[old], [new]]
    assert [parse_sheet(encode_sheet(sheet)) for sheet in sheets] == sheets
    lines = newest_lines(sheets)
    assert find_line(lines, venue, b"older..") is None
    assert find_line(lines, venue, b"newer..") == new
    withdrawn = newest_lines([*sheets, [Line(BAR_A, None, None)]])
    assert find_line(withdrawn, venue, b"newer..") is None
    assert standing(withdrawn[0], [], 0.0) is Standing.WITHDRAWN


def test_sheet_that_lost_bytes_is_refused() -> None:
    whole = encode_sheet([Line(BAR_A, bytes(32), 5)])
    for length in range(len(whole)):
        with pytest.raises(PeerError):
            parse_sheet(whole[:length])
    assert len(decode_array(whole, bytes_max=1000)) == 2


# -- What the office decides -------------------------------------------------------------------------------------------


def test_code_is_good_for_the_device_that_used_it_and_for_no_other() -> None:
    venue = Venue()
    line = Line(BAR_A, bytes(32), None)
    first, second = venue.device("Bar A", Role.READER).certificate, venue.device("Bar A", Role.READER).certificate
    asked = Request("Bar A", first.link_key, first.log_key)
    assert refuse_place(line, [], 0.0) is None
    assert refuse_request(BAR_A, asked, None) is None
    assert standing(line, [first], 0.0) is Standing.JOINED
    assert refuse_request(BAR_A, asked, first) is None
    stranger = refuse_request(BAR_A, Request("Bar A", second.link_key, second.log_key), first)
    assert stranger is not None
    assert first.fingerprint in stranger
    assert refuse_request(BAR_A, Request("Bar B", first.link_key, first.log_key), None) is not None


def test_code_past_its_time_gives_no_place_but_its_device_still_gets_its_answer() -> None:
    line = Line(BAR_A, bytes(32), 100)
    assert refuse_place(line, [], 100.0) is None
    assert "past its time" in (refuse_place(line, [], 101.0) or "")
    joined = Venue().device("Bar A", Role.READER).certificate
    assert refuse_place(line, [joined], 101.0) is None


def test_address_that_guesses_is_shut_out_and_the_others_are_not() -> None:
    guard = Guard()
    for _ in range(JOIN_WRONG_CODES_PER_ADDRESS_MAX - 1):
        assert guard.wrong_code("192.0.2.66") is Verdict.GO_ON
    assert guard.wrong_code("192.0.2.66") is Verdict.SHUT_OUT
    assert not guard.admit("192.0.2.66")
    assert guard.admit("192.0.2.7")


def test_office_closes_long_before_a_guess_has_a_chance() -> None:
    guard = Guard()
    verdicts = [guard.wrong_code(f"192.0.2.{number}") for number in range(JOIN_WRONG_CODES_MAX)]
    assert verdicts.index(Verdict.CLOSE) == JOIN_WRONG_CODES_MAX - 1
    assert 300 * JOIN_WRONG_CODES_MAX / 2**56 < 1e-9


def test_one_address_cannot_take_every_connection() -> None:
    guard = Guard()
    taken = [guard.admit("192.0.2.66") for _ in range(JOIN_CONNECTIONS_MAX)]
    assert sum(taken) == JOIN_CONNECTIONS_PER_ADDRESS_MAX
    assert guard.admit("192.0.2.7")
    guard.leave("192.0.2.66")
    assert guard.admit("192.0.2.66")


def test_connections_are_bounded_in_all() -> None:
    guard = Guard()
    taken = [guard.admit(f"192.0.2.{number}") for number in range(2 * JOIN_CONNECTIONS_MAX)]
    assert sum(taken) == JOIN_CONNECTIONS_MAX


def test_lost_answer_is_repeated_a_bounded_number_of_times() -> None:
    guard = Guard()
    answered = [guard.may_answer(b"key") for _ in range(JOIN_ANSWERS_PER_DEVICE_MAX + 5)]
    assert sum(answered) == JOIN_ANSWERS_PER_DEVICE_MAX
    assert guard.may_answer(b"another key")


# -- readers.csv -------------------------------------------------------------------------------------------------------

EXPECTED = [
    BAR_A,
    Place("Bar B", frozenset({Role.READER, Role.TILL}), "south"),
    Place("Spare, left", frozenset({Role.COURIER}), None),
]


@pytest.mark.parametrize(
    "text",
    [
        'name,roles,zone\nBar A,reader,north\nBar B,reader till,south\n"Spare, left",courier,\n',
        'name;roles;zone\r\nBar A;reader;north\r\nBar B;reader,till;south\r\n"Spare, left";courier;\r\n',
        "zone\tname\troles\nnorth\tBar A\tREADER\nsouth\tBar B\ttill+reader\n\tSpare, left\tcourier\n",
        'Name , Roles,ZONE\n\n Bar A ,reader , north\n,,\n"Bar B","till,reader",south\n"Spare, left",courier,""\n\n',
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_list_is_read_as_any_spreadsheet_writes_it(text: str, mark: bytes) -> None:
    assert read_rows(mark + text.encode(), ZONES) == EXPECTED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,roles\nBar A,reader\nbar a,till\n", "line 3: 'bar a' could be confused with 'Bar A' in line 2"),
        ("name,roles\nBar A,raeder\n", "line 2: 'raeder' is not a role (did you mean 'reader'?)"),
        ("name,roles\nBar A,\n", "line 2: no role"),
        ("name,roles\n,reader\n", "line 2: '': a device's name"),
        ("name,roles,zone\nBar A,reader,nroth\n", "zone 'nroth' is not in the venue document (did you mean 'north'?)"),
        ("name,roles\nBar A,reader,north\n", "line 2: 3 cells where line 1 has 2"),
        ("name,rolls\nBar A,reader\n", "line 1: column 'rolls' is not known (did you mean 'roles'?)"),
        ("Bar A,reader\nBar B,reader\n", "line 1: there is no column 'name'"),
        ("name,roles,name\nBar A,reader,x\n", "column 'name' is there twice"),
        ("name,roles\n", "there is no device in it"),
        ("", "there is no column 'name'"),
        ('name,roles\n"Bar A,reader\n', "quotation mark"),
    ],
)
def test_mistake_in_a_list_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadRows) as caught:
        read_rows(text.encode(), ZONES)
    assert said in str(caught.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(BadRows) as caught:
        read_rows(b"name,roles\nBar A,raeder\nBar B,\nBar A,till\n", ZONES)
    assert [f"line {line}" in str(caught.value) for line in (2, 3, 4)] == [True] * 3


def test_list_that_is_not_utf8_is_not_guessed_at() -> None:
    with pytest.raises(BadRows, match="UTF-8"):
        read_rows("name,roles\nCafé,reader\n".encode("latin-1"), ZONES)


@given(st.binary(max_size=200))
def test_any_file_is_a_list_or_is_refused_with_a_reason(data: bytes) -> None:
    with suppress(BadRows):
        assert read_rows(b"name,roles\n" + data, ZONES)
