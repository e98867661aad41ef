"""Statements of the authority to the byte, and the fold over them in every order in which they can be heard."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest
from nacl.signing import SigningKey, VerifyKey

from mesh.core.codec import TooLarge, Value, encode
from mesh.core.frontier import Position
from mesh.core.revocation import (
    BadStatement,
    NotTheAuthority,
    Revocations,
    Statement,
    encode_serial,
    parse_statement,
    sign_statement,
)
from mesh.limits import ENTRY_BODY_BYTES_MAX, ENTRY_SEQ_MAX, REVOCATION_CUT_LOGS_MAX, REVOCATION_NUMBER_MAX
from tests.factory import Venue

VENUE: Final = Venue("Revocation, exactly")
SIGN: Final = VENUE._key.sign
ONE, TWO, THREE = b"\x01" * 16, b"\x02" * 16, b"\x03" * 16
FIRST_ID, SECOND_ID = b"a" * 32, b"b" * 32
DOMAIN: Final = b"tapmesh/revocation/1"


def signed(*fields: Value) -> bytes:
    return encode([*fields, SIGN(DOMAIN + encode(fields))])


def read(*fields: Value) -> Statement:
    return parse_statement(signed(*fields), VENUE.root)


def said(serial: int, number: int, *places: tuple[bytes, int, bytes]) -> Statement:
    cut = {log_id: Position(seq, entry_id) for log_id, seq, entry_id in places}
    return parse_statement(sign_statement(SIGN, serial=serial, number=number, cut=cut), VENUE.root)


# -- The statement -----------------------------------------------------------------------------------------------------


def test_statement_is_these_bytes_with_its_places_in_order() -> None:
    cut = {TWO: Position(7, SECOND_ID), ONE: Position(0, FIRST_ID)}
    body = sign_statement(SIGN, serial=0x1234, number=5, cut=cut)
    fields: list[Value] = [1, b"\x12\x34", 5, [[ONE, 0, FIRST_ID], [TWO, 7, SECOND_ID]]]
    assert body == signed(*fields)
    VerifyKey(VENUE.root.public_key).verify(DOMAIN + encode(fields), body[-64:])


def test_statement_is_read_back_field_by_field_with_its_own_bytes() -> None:
    body = signed(1, b"\x12\x34", 5, [[ONE, 0, FIRST_ID], [TWO, 7, SECOND_ID]])
    statement = parse_statement(body, VENUE.root)
    assert statement == Statement(0x1234, 5, {ONE: Position(0, FIRST_ID), TWO: Position(7, SECOND_ID)}, body)
    assert list(statement.cut) == [ONE, TWO]


@pytest.mark.parametrize(
    ("serial", "data"),
    [
        (1, "01"),
        (127, "7f"),
        (128, "80"),
        (255, "ff"),
        (256, "0100"),
        (65_535, "ffff"),
        (65_536, "010000"),
        (2**159 - 1, "7f" + "ff" * 19),
    ],
)
def test_serial_number_is_written_with_as_many_bytes_as_it_needs(serial: int, data: str) -> None:
    assert encode_serial(serial).hex() == data
    assert read(1, bytes.fromhex(data), 1, []).serial == serial


@pytest.mark.parametrize("serial", [b"", b"\x00", b"\x00\x01", b"\x80" + bytes(19), b"\x01" + bytes(20)])
def test_serial_number_that_no_certificate_has_revokes_nobody(serial: bytes) -> None:
    with pytest.raises(BadStatement, match="serial number"):
        read(1, serial, 1, [])


def test_numbers_and_seqs_are_good_up_to_their_bounds_and_no_further() -> None:
    for number in (1, REVOCATION_NUMBER_MAX):
        assert read(1, b"\x05", number, []).number == number
    for number in (0, -1, REVOCATION_NUMBER_MAX + 1, True):
        with pytest.raises(BadStatement, match="numbered"):
            read(1, b"\x05", number, [])
    for seq in (0, 1, ENTRY_SEQ_MAX):
        assert read(1, b"\x05", 1, [[ONE, seq, FIRST_ID]]).cut == {ONE: Position(seq, FIRST_ID)}
    for seq in (-1, ENTRY_SEQ_MAX + 1):
        with pytest.raises(BadStatement, match="seq of a cut"):
            read(1, b"\x05", 1, [[ONE, seq, FIRST_ID]])


PLACES: Final[list[Value]] = [
    [ONE, True, FIRST_ID],
    [ONE, False, FIRST_ID],
    [ONE, None, FIRST_ID],
    [ONE[:15], 1, FIRST_ID],
    [ONE + b"\x00", 1, FIRST_ID],
    [ONE, 1, FIRST_ID[:31]],
    [ONE, 1, FIRST_ID + b"\x00"],
    [ONE, 1],
    [ONE, 1, FIRST_ID, 0],
    ["\x01" * 16, 1, FIRST_ID],
    [ONE, 1, "a" * 32],
    ONE,
    None,
]


@pytest.mark.parametrize("place", PLACES)
def test_place_of_another_shape_is_none_wherever_it_stands(place: Value) -> None:
    before: Value = [bytes(16), 1, FIRST_ID]
    alone: list[Value] = [place]
    for places in (alone, [before, place]):
        with pytest.raises(BadStatement, match="place of a cut"):
            read(1, b"\x05", 1, places)


def test_each_log_is_named_once_and_in_order() -> None:
    first: Value = [ONE, 1, FIRST_ID]
    again: Value = [ONE, 2, SECOND_ID]
    second: Value = [TWO, 1, FIRST_ID]
    assert list(read(1, b"\x05", 1, [first, second]).cut) == [ONE, TWO]
    for places in ([second, first], [first, first], [first, again], [first, again, second]):
        with pytest.raises(BadStatement, match="once, in order"):
            read(1, b"\x05", 1, places)


def test_cut_names_so_many_logs_and_not_one_more() -> None:
    def cut(count: int) -> list[Value]:
        return [[number.to_bytes(16, "big"), 1, FIRST_ID] for number in range(count)]

    assert len(read(1, b"\x05", 1, cut(REVOCATION_CUT_LOGS_MAX)).cut) == REVOCATION_CUT_LOGS_MAX
    with pytest.raises(BadStatement, match="at most"):
        read(1, b"\x05", 1, cut(REVOCATION_CUT_LOGS_MAX + 1))


def test_version_is_the_number_one() -> None:
    for version in (0, 2):
        with pytest.raises(BadStatement, match=f"version {version}"):
            read(version, b"\x05", 1, [])
    with pytest.raises(BadStatement, match="a revocation is"):
        read(True, b"\x05", 1, [])


@pytest.mark.parametrize(
    "fields",
    [
        ["1", b"\x05", 1, []],
        [1, 5, 1, []],
        [1, b"\x05", b"\x01", []],
        [1, b"\x05", 1, None],
        [1, b"\x05", 1],
        [1, b"\x05", 1, [], 0],
        [],
    ],
)
def test_fields_of_another_shape_are_no_statement(fields: list[Value]) -> None:
    with pytest.raises(BadStatement, match="a revocation is"):
        read(*fields)


def test_signature_is_64_bytes_by_the_root_over_this_domain_and_nothing_else() -> None:
    fields: list[Value] = [1, b"\x05", 1, []]
    good = SIGN(DOMAIN + encode(fields))
    assert parse_statement(encode([*fields, good]), VENUE.root).serial == 5
    for signature in (good[:63], good + b"\x00", b""):
        with pytest.raises(BadStatement, match="64 bytes"):
            parse_statement(encode([*fields, signature]), VENUE.root)
    for signature in (SIGN(encode(fields)), SIGN(b"tapmesh/request/1" + encode(fields)), bytes(64)):
        with pytest.raises(NotTheAuthority):
            parse_statement(encode([*fields, signature]), VENUE.root)
    thief = SigningKey(bytes(32)).sign(DOMAIN + encode(fields)).signature
    with pytest.raises(NotTheAuthority):
        parse_statement(encode([*fields, thief]), VENUE.root)


def test_bytes_longer_than_an_entrys_body_are_not_decoded() -> None:
    with pytest.raises(TooLarge):
        parse_statement(bytes(ENTRY_BODY_BYTES_MAX + 1), VENUE.root)


# -- The fold ----------------------------------------------------------------------------------------------------------


def test_nobody_is_revoked_before_anything_was_said() -> None:
    nothing = Revocations()
    assert 5 not in nothing
    assert nothing.serials() == []
    assert nothing.holding(5) == ()
    assert nothing.number(5) == 0
    assert nothing.cuts(5, ONE) == ()


def test_statement_is_news_once() -> None:
    revocations = Revocations()
    first, second = said(5, 1), said(5, 2)
    assert revocations.add(first) is True
    assert revocations.add(first) is False
    assert revocations.add(second) is True
    assert revocations.add(second) is False
    assert revocations.add(first) is False
    assert revocations.holding(5) == (second,)
    assert revocations.number(5) == 2


def test_statement_with_a_number_long_overtaken_changes_nothing() -> None:
    revocations = Revocations([said(5, 9, (ONE, 3, FIRST_ID))])
    assert revocations.add(said(5, 8)) is False
    assert revocations.add(said(5, 1)) is False
    assert revocations.cuts(5, ONE) == (Position(3, FIRST_ID),)
    assert revocations.number(5) == 9


def test_contradiction_holds_both_until_a_higher_number_settles_it() -> None:
    high, low, other = said(5, 3, (ONE, 9, FIRST_ID)), said(5, 3, (ONE, 4, SECOND_ID)), said(5, 3, (TWO, 1, FIRST_ID))
    both = tuple(sorted((high, low, other), key=lambda statement: statement.body))
    settled = said(5, 4, (ONE, 6, FIRST_ID))
    for order in permutations((high, low, other)):
        revocations = Revocations()
        assert [revocations.add(statement) for statement in order] == [True, True, True]
        assert revocations.holding(5) == both
        assert revocations.number(5) == 3
        assert revocations.cuts(5, ONE) == tuple(statement.cut.get(ONE) for statement in both)
        assert sorted(cut.seq for cut in revocations.cuts(5, ONE) if cut is not None) == [4, 9]
        assert revocations.cuts(5, ONE).count(None) == 1
        assert revocations.cuts(5, THREE) == (None, None, None)
        assert [revocations.add(statement) for statement in order] == [False, False, False]
        assert revocations.add(settled) is True
        assert revocations.holding(5) == (settled,)
        assert revocations.cuts(5, ONE) == (Position(6, FIRST_ID),)
        assert [revocations.add(statement) for statement in order] == [False, False, False]


def test_devices_are_revoked_one_by_one() -> None:
    revocations = Revocations([said(9, 2, (ONE, 1, FIRST_ID)), said(5, 7, (ONE, 2, SECOND_ID)), said(300, 1)])
    assert revocations.serials() == [5, 9, 300]
    assert [serial in revocations for serial in (5, 6, 9, 300)] == [True, False, True, True]
    assert [revocations.number(serial) for serial in (5, 6, 9, 300)] == [7, 0, 2, 1]
    assert revocations.cuts(9, ONE) == (Position(1, FIRST_ID),)
    assert revocations.cuts(5, ONE) == (Position(2, SECOND_ID),)
    assert revocations.cuts(300, ONE) == (None,)
    assert revocations.cuts(6, ONE) == ()


def test_every_order_of_hearing_leads_to_the_same_holding_statements() -> None:
    statements = [said(5, 1), said(5, 2, (ONE, 1, FIRST_ID)), said(5, 2, (ONE, 2, FIRST_ID)), said(6, 1)]
    expected = {(5, body) for body in sorted(statement.body for statement in statements[1:3])} | {
        (6, statements[3].body)
    }
    for order in permutations(statements):
        revocations = Revocations(order)
        held = {(serial, s.body) for serial in revocations.serials() for s in revocations.holding(serial)}
        assert held == expected
