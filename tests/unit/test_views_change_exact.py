"""The envelope of a change at each of its bounds: what is read of it, and what is refused before a library sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import pytest

from mesh.core.kinds import Role
from mesh.limits import (
    DOCUMENT_CHANGE_DEPENDENCIES_MAX,
    DOCUMENT_CHANGE_OPERATIONS_MAX,
    DOCUMENT_KEY_BYTES_MAX,
    ENTRY_BODY_BYTES_MAX,
)
from mesh.views.automerge_change import BadChange, Change, ChangeTooBig, parse_change
from mesh.views.closed_set import Why
from mesh.views.venue_document import RefusedChange, VenueDocumentView

ACTION, RAW_COLUMN, KEY_STRING, BOOLEAN, INTEGER = 0x42, 0x57, 0x15, 0x34, 0x56
"""Specifications of columns; the low three bits are the type, bit 3 says that it is compressed."""
MOST: Final = DOCUMENT_CHANGE_OPERATIONS_MAX
ACTOR: Final = b"B" * 16


def number(value: int) -> bytes:
    """Unsigned LEB128."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def signed(value: int) -> bytes:
    """Signed LEB128."""
    encoded = b""
    while not -64 <= value < 64:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value & 0x7F])


def framed(content: bytes, *, length: int | None = None, kind: bytes = b"\x01") -> bytes:
    """A chunk: magic, checksum, type, length, content."""
    chunk = kind + number(len(content) if length is None else length) + content
    return bytes.fromhex("856f4a83") + hashlib.sha256(chunk).digest()[:4] + chunk


def content(
    *,
    dependencies: Sequence[bytes] = (),
    actor: bytes = ACTOR,
    seq: bytes = b"\x01",
    start_op: bytes = b"\x01",
    time: bytes = b"\x00",
    message: bytes = b"",
    actors: Sequence[bytes] = (),
    columns: Sequence[tuple[int, bytes]] = (),
    behind: bytes = b"",
) -> bytes:
    data = number(len(dependencies)) + b"".join(dependencies) + number(len(actor)) + actor
    data += seq + start_op + time + number(len(message)) + message
    data += number(len(actors)) + b"".join(number(len(one)) + one for one in actors)
    data += number(len(columns)) + b"".join(
        number(specification) + number(len(rows)) for specification, rows in columns
    )
    return data + b"".join(rows for _, rows in columns) + behind


def actions(rows: bytes) -> Change:
    """A change whose action column is `rows`."""
    return parse_change(framed(content(columns=[(ACTION, rows)])))


# -- What is read --------------------------------------------------------------------------------------------------


def test_every_field_of_the_envelope_is_read() -> None:
    dependencies = [b"x" * 32, b"a" * 32]
    raw = framed(
        content(
            dependencies=dependencies,
            seq=number(300),
            start_op=number(70_000),
            time=signed(-1_000_000),
            message=b"for the second night",
            actors=[b"other actor", b""],
            columns=[(ACTION, signed(5) + b"\x01")],
        )
    )
    digest = hashlib.sha256(raw[8:]).digest()
    assert parse_change(raw) == Change(digest, ACTOR, 300, 70_000, 5, tuple(dependencies), raw)
    assert parse_change(raw).max_op == 70_004
    assert parse_change(framed(content(start_op=number(9)))).max_op == 8


@pytest.mark.parametrize(("seq", "start_op"), [(0, 1), (1, 0), (0, 0)])
def test_a_change_that_counts_from_nought_is_refused_for_good(seq: int, start_op: int) -> None:
    view = VenueDocumentView()
    view.fold(ACTOR, 3, b"id", frozenset({Role.MANAGER}), framed(content(seq=number(seq), start_op=number(start_op))))
    assert view.refused() == (RefusedChange(b"id", ACTOR, 3, "changes and operations are counted from one"),)
    assert view.stranded() == ()
    later = VenueDocumentView()
    later.fold(ACTOR, 3, b"id", frozenset({Role.MANAGER}), framed(content(seq=number(2))))
    assert (later.refused(), [one.why for one in later.stranded()]) == ((), [Why.OUT_OF_ORDER])


# -- The chunk -----------------------------------------------------------------------------------------------------

PLAIN: Final = framed(content())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        PLAIN[:8],
        b"\x84" + PLAIN[1:],
        PLAIN[:3] + b"\x84" + PLAIN[4:],
        framed(content(), kind=b"\x00"),
        framed(content(), kind=b"\x02"),
    ],
)
def test_what_is_no_change_chunk_is_named_so(raw: bytes) -> None:
    with pytest.raises(BadChange, match="not an uncompressed Automerge change"):
        parse_change(raw)


@pytest.mark.parametrize("at", [4, 7, 12, len(PLAIN) - 1])
def test_a_changed_byte_breaks_the_checksum(at: int) -> None:
    with pytest.raises(BadChange, match="checksum"):
        parse_change(PLAIN[:at] + bytes([PLAIN[at] ^ 1]) + PLAIN[at + 1 :])


@pytest.mark.parametrize("off", [-1, 1])
def test_a_length_that_is_not_what_follows_is_refused(off: int) -> None:
    with pytest.raises(BadChange, match="not exactly one change"):
        parse_change(framed(content(), length=len(content()) + off))


def test_bytes_behind_the_last_column_are_refused() -> None:
    with pytest.raises(BadChange, match="after the last column"):
        parse_change(framed(content(behind=b"\x00")))


def test_a_change_that_ends_anywhere_too_early_is_refused() -> None:
    whole = content(dependencies=[bytes(32)], message=b"m", actors=[b"a"], columns=[(ACTION, b"\x01\x01")])
    parse_change(framed(whole))
    for length in range(len(whole)):
        with pytest.raises(BadChange, match="ends too early"):
            parse_change(framed(whole[:length]))


# -- Bounds --------------------------------------------------------------------------------------------------------


def test_a_change_may_fill_an_entry_and_not_one_byte_more() -> None:
    spare = ENTRY_BODY_BYTES_MAX - len(framed(content(message=bytes(20_000)))) + 20_000
    assert len(framed(content(message=bytes(spare)))) == ENTRY_BODY_BYTES_MAX
    parse_change(framed(content(message=bytes(spare))))
    with pytest.raises(ChangeTooBig, match=f"a change of {ENTRY_BODY_BYTES_MAX + 1} bytes"):
        parse_change(framed(content(message=bytes(spare + 1))))


def test_a_change_names_a_bounded_number_of_changes_before_it() -> None:
    most = [bytes([at % 256]) * 32 for at in range(DOCUMENT_CHANGE_DEPENDENCIES_MAX)]
    assert parse_change(framed(content(dependencies=most))).dependencies == tuple(most)
    with pytest.raises(ChangeTooBig, match="257 dependencies where at most 256"):
        parse_change(framed(content(dependencies=[*most, bytes(32)])))


def test_actors_are_bounded_in_length_and_in_number() -> None:
    assert parse_change(framed(content(actor=b"a" * 64, actors=[b"b" * 64]))).actor == b"a" * 64
    parse_change(framed(content(actors=[b""] * 4096)))
    for too_big in (content(actor=b"a" * 65), content(actors=[b"b" * 65]), content(actors=[b"", b"b" * 65])):
        with pytest.raises(ChangeTooBig, match="65 bytes where at most 64"):
            parse_change(framed(too_big))
    with pytest.raises(ChangeTooBig, match="4097 actors where at most 4096"):
        parse_change(framed(content(actors=[b""] * 4097)))


def test_a_message_that_claims_more_than_an_entry_is_refused_for_its_size() -> None:
    claim = b"\x00\x01B\x01\x01\x00" + number(ENTRY_BODY_BYTES_MAX + 1)
    with pytest.raises(ChangeTooBig, match=f"{ENTRY_BODY_BYTES_MAX + 1} bytes"):
        parse_change(framed(claim))
    with pytest.raises(BadChange, match="ends too early"):
        parse_change(framed(b"\x00\x01B\x01\x01\x00" + number(ENTRY_BODY_BYTES_MAX)))


def test_columns_are_bounded_in_number() -> None:
    parse_change(framed(content(columns=[(INTEGER, b"")] * 64)))
    with pytest.raises(ChangeTooBig, match="65 columns where at most 64"):
        parse_change(framed(content(columns=[(INTEGER, b"")] * 65)))


@pytest.mark.parametrize("specification", [ACTION, RAW_COLUMN, KEY_STRING, BOOLEAN])
def test_a_compressed_column_is_refused_whatever_is_in_it(specification: int) -> None:
    with pytest.raises(BadChange, match="a compressed column"):
        parse_change(framed(content(columns=[(specification | 0x08, b"")])))


@pytest.mark.parametrize(
    "encoded",
    [b"\xff" * 9 + b"\x01", b"\x81" + b"\x80" * 8 + b"\x00"],
)
def test_a_number_has_at_most_ten_bytes(encoded: bytes) -> None:
    value = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(encoded))
    assert parse_change(framed(content(seq=encoded))).seq == value
    with pytest.raises(BadChange, match="longer than ten bytes"):
        parse_change(framed(content(seq=encoded[:-1] + b"\x80\x00")))


# -- Operations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "operations"),
    [
        (b"", 0),
        (signed(1) + b"\x01", 1),
        (signed(63) + b"\x01", 63),
        (signed(64) + b"\x01", 64),
        (signed(MOST) + b"\x01", MOST),
        (signed(3) + b"\x80\x01", 3),
        (signed(-1) + b"\x01", 1),
        (signed(-3) + b"\x01\x02\x80\x03", 3),
        (signed(-64) + b"\x01" * 64, 64),
        (signed(-65) + b"\x01" * 65, 65),
        (b"\x00" + number(1), 1),
        (b"\x00" + number(MOST), MOST),
        (signed(2) + b"\x01" + signed(-2) + b"\x05\x06" + b"\x00" + number(200), 204),
        (signed(MOST - 1) + b"\x01" + signed(1) + b"\x02", MOST),
    ],
)
def test_operations_are_the_rows_of_the_action_column(rows: bytes, operations: int) -> None:
    assert actions(rows).operations == operations


@pytest.mark.parametrize(
    "rows",
    [
        signed(MOST + 1) + b"\x01",
        signed(MOST) + b"\x01" + signed(1) + b"\x01",
        b"\x00" + number(MOST + 1),
        signed(-MOST - 1) + b"\x01" * (MOST + 1),
        signed(MOST) + b"\x01" + b"\x00\x01",
    ],
)
def test_one_operation_too_many_is_refused(rows: bytes) -> None:
    with pytest.raises(ChangeTooBig, match="at most 2048 operations"):
        actions(rows)


def test_only_the_action_column_counts_operations_and_every_column_is_bounded() -> None:
    columns = [
        (KEY_STRING, signed(9) + b"\x01a"),
        (BOOLEAN, number(3) + number(4)),
        (ACTION, signed(5) + b"\x01"),
        (INTEGER, signed(7) + b"\x00"),
    ]
    assert parse_change(framed(content(columns=columns))).operations == 5
    assert parse_change(framed(content(columns=columns[:2]))).operations == 0
    for specification, rows in (
        (KEY_STRING, signed(MOST + 1) + b"\x01a"),
        (INTEGER, signed(MOST + 1) + b"\x00"),
        (BOOLEAN, number(MOST) + number(1)),
    ):
        with pytest.raises(ChangeTooBig):
            parse_change(framed(content(columns=[columns[2], (specification, rows)])))


def test_a_boolean_column_is_counts_of_alternating_values() -> None:
    parse_change(framed(content(columns=[(BOOLEAN, number(MOST))])))
    parse_change(framed(content(columns=[(BOOLEAN, number(0) + number(1000) + number(1048))])))
    with pytest.raises(ChangeTooBig):
        parse_change(framed(content(columns=[(BOOLEAN, number(0) + number(1000) + number(1049))])))


def test_raw_values_are_bytes_and_no_rows() -> None:
    assert parse_change(framed(content(columns=[(RAW_COLUMN, b"\xff" * 300)]))).operations == 0


def test_keys_are_bounded_in_length_whichever_run_they_stand_in() -> None:
    longest, longer = (number(size) + b"k" * size for size in (DOCUMENT_KEY_BYTES_MAX, DOCUMENT_KEY_BYTES_MAX + 1))
    parse_change(framed(content(columns=[(KEY_STRING, signed(2) + longest + signed(-2) + longest * 2)])))
    for rows in (signed(2) + longer, signed(-2) + longest + longer):
        with pytest.raises(ChangeTooBig, match="257 bytes where at most 256"):
            parse_change(framed(content(columns=[(KEY_STRING, rows)])))


@pytest.mark.parametrize(
    ("specification", "rows"),
    [
        (ACTION, signed(2)),
        (ACTION, signed(-2) + b"\x01"),
        (ACTION, b"\x00"),
        (ACTION, signed(1) + b"\x80"),
        (BOOLEAN, b"\x80"),
        (KEY_STRING, signed(1) + b"\x02a"),
        (KEY_STRING, signed(-2) + b"\x01a"),
    ],
)
def test_a_column_that_ends_in_the_middle_of_a_run_is_refused(specification: int, rows: bytes) -> None:
    with pytest.raises(BadChange, match="ends too early"):
        parse_change(framed(content(columns=[(specification, rows), (INTEGER, signed(1) + b"\x00")])))
