"""The rules of a tap, each at its boundary: which entries count, as what, and the one reason why the others do not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from mesh.core.chain import KnownHead
from mesh.core.codec import NotCanonical, TooLarge, encode
from mesh.core.kinds import Operation, Role
from mesh.errors import PeerError
from mesh.limits import AMOUNT_MINOR_MAX, CARD_SLOT_BYTES_MAX, ENTRY_BODY_BYTES_MAX
from mesh.views.card_account import BLANK, TapFact
from mesh.views.card_record import CardRecord, key_id
from mesh.views.tap_entry import (
    AbortBody,
    BadTapBody,
    TapBody,
    TapValues,
    check_tap_values,
    decode_abort,
    decode_tap,
    decode_taps,
)
from mesh.views.tap_rules import (
    Author,
    CountedTap,
    Refusal,
    allowed_operations,
    author_of,
    consumed_by,
    judge_taps,
    read_tap,
    undoes,
)
from tests.factory import Venue

KEY: Final = b"bar1"
AUTHOR: Final = Author(KEY, frozenset({Operation.ISSUE, Operation.TOP_UP, Operation.SALE}), bytes(32))
CARD, EVENT, TAP_ID, DOCUMENT = b"wristbnd", b"2031", b"i" * 16, b"d" * 32
ISSUED: Final = CardRecord(CARD, EVENT, 1, 2000, 300, 7, 1, b"till", bytes(8))
"""What a till wrote; the record that a sale reads."""
SOLD: Final = CardRecord(CARD, EVENT, 2, 1350, 950, 7, 1, KEY, hashlib.sha256(ISSUED.encode()).digest()[:8])
SALE: Final = TapBody(TAP_ID, Operation.SALE, 650, ISSUED.encode(), SOLD.encode(), DOCUMENT)
FIRST: Final = CardRecord(CARD, EVENT, 1, 500, 0, 0, 0, KEY, bytes(8))
ISSUE: Final = TapBody(TAP_ID, Operation.ISSUE, 500, b"", FIRST.encode(), DOCUMENT)
SALE_COUNTS: Final = (CARD, hashlib.sha256(ISSUED.encode()).digest()[:16])
ISSUE_COUNTS: Final = (CARD, bytes(16))


def judged(tap: TapBody, author: Author = AUTHOR) -> tuple[bytes, bytes] | Refusal:
    """What the rules say of one tap, between two good ones whose verdicts it must not touch."""
    before, verdict, after = judge_taps(decode_taps([ISSUE.encode(), tap.encode(), SALE.encode()]), author)
    if author is AUTHOR:
        assert (before, after) == (ISSUE_COUNTS, SALE_COUNTS)
    return verdict


def sale(
    *, read: CardRecord = ISSUED, written: Callable[[CardRecord], CardRecord] = lambda record: record, amount: int = 650
) -> TapBody:
    """The honest sale over the record `read`, with its written record changed."""
    honest = replace(
        SOLD, balance=max(0, read.balance - amount), parent=hashlib.sha256(read.encode()).digest()[:8], seq=read.seq + 1
    )
    return TapBody(TAP_ID, Operation.SALE, amount, read.encode(), written(honest).encode(), DOCUMENT)


# -- What counts ---------------------------------------------------------------------------------------------------


def test_a_tap_that_counts_is_known_by_its_card_and_the_record_it_consumed() -> None:
    assert judged(SALE) == SALE_COUNTS
    assert judged(ISSUE) == ISSUE_COUNTS


def test_a_tap_that_counts_becomes_a_fact_with_everything_an_account_needs() -> None:
    found = read_tap(SALE.encode(), AUTHOR, entry_id=b"e" * 16 + b"f" * 16, log=3, seq=9)
    written = hashlib.sha256(SOLD.encode()).digest()[:16]
    assert found == CountedTap(
        CARD, TapFact(SALE_COUNTS[1], written, TAP_ID, b"e" * 16, 3, 9, 650, Operation.SALE, KEY)
    )


def test_the_seal_is_no_part_of_what_a_tap_consumed_or_wrote() -> None:
    sealed = replace(SALE, witness=SALE.witness + b"s" * 64, written=SALE.written + b"t" * 64)
    bare, found = (read_tap(tap.encode(), AUTHOR, entry_id=bytes(32), log=0, seq=1) for tap in (SALE, sealed))
    assert found == bare
    assert consumed_by(sealed.witness) == SALE_COUNTS[1] == consumed_by(SALE.witness)
    assert consumed_by(b"") == BLANK


def test_a_tap_that_counts_for_nothing_says_why_where_one_is_read_alone() -> None:
    assert read_tap(b"garbage", AUTHOR, entry_id=bytes(32), log=0, seq=1) is Refusal.MALFORMED
    greedy = replace(SALE, amount_minor=649)
    assert read_tap(greedy.encode(), AUTHOR, entry_id=bytes(32), log=0, seq=1) is Refusal.WRONG_BALANCE


def test_a_top_up_adds_and_a_sale_takes_away() -> None:
    up = replace(SOLD, balance=2650)
    assert judged(replace(SALE, operation=Operation.TOP_UP, written=up.encode())) == SALE_COUNTS
    assert judged(replace(SALE, written=up.encode())) is Refusal.WRONG_BALANCE
    assert judged(replace(SALE, operation=Operation.TOP_UP)) is Refusal.WRONG_BALANCE


# -- Who may -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({Role.TILL}, {Operation.ISSUE, Operation.TOP_UP}),
        ({Role.READER}, {Operation.SALE}),
        ({Role.READER, Role.TILL}, {Operation.ISSUE, Operation.TOP_UP, Operation.SALE}),
        ({Role.MANAGER, Role.COURIER, Role.GATEWAY, Role.SETTLEMENT}, set()),
    ],
)
def test_tills_raise_balances_readers_sell_and_nobody_else_does_either(
    roles: set[Role], expected: set[Operation]
) -> None:
    assert allowed_operations(roles) == expected
    device = Venue().device("device", *roles)
    assert author_of(device.certificate) == Author(key_id(device.public_key), frozenset(expected), device.public_key)


@pytest.mark.proves("M7")
def test_an_operation_of_another_role_and_one_that_nobody_may_do_yet_are_told_apart() -> None:
    nobody = Author(KEY, frozenset(), bytes(32))
    assert judged(SALE, nobody) is Refusal.ROLE
    assert judged(ISSUE, nobody) is Refusal.ROLE
    assert judged(replace(SALE, operation=Operation.VOID), nobody) is Refusal.UNKNOWN_OPERATION
    assert judged(replace(SALE, operation=Operation.REISSUE)) is Refusal.UNKNOWN_OPERATION


# -- Records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["written", "witness"])
def test_a_record_may_come_without_its_seal_but_not_one_byte_shorter(name: str) -> None:
    assert judged(SALE) == SALE_COUNTS
    assert judged(replace(SALE, **{name: getattr(SALE, name)[:-1]})) is Refusal.MALFORMED


@pytest.mark.parametrize("version", [b"\x00", b"\x02"])
@pytest.mark.parametrize("name", ["written", "witness"])
def test_a_record_of_another_version_is_malformed(name: str, version: bytes) -> None:
    assert judged(replace(SALE, **{name: version + getattr(SALE, name)[1:]})) is Refusal.MALFORMED


@pytest.mark.parametrize("name", ["balance", "offline_spent"])
def test_amounts_of_the_written_record_end_at_the_largest_amount(name: str) -> None:
    at_most: dict[str, Any] = {name: AMOUNT_MINOR_MAX}
    largest = replace(FIRST, **at_most)
    amount = AMOUNT_MINOR_MAX if name == "balance" else 500
    fits = replace(ISSUE, amount_minor=amount, written=largest.encode())
    assert judged(fits) == ISSUE_COUNTS
    more: dict[str, Any] = {name: AMOUNT_MINOR_MAX + 1}
    over = replace(FIRST, **more)
    assert judged(replace(fits, written=over.encode())) is Refusal.MALFORMED


@pytest.mark.parametrize("name", ["balance", "offline_spent"])
def test_amounts_of_the_record_read_end_at_the_largest_amount(name: str) -> None:
    at_most: dict[str, Any] = {name: AMOUNT_MINOR_MAX}
    more: dict[str, Any] = {name: AMOUNT_MINOR_MAX + 1}
    assert isinstance(judged(sale(read=replace(ISSUED, **at_most))), tuple)
    assert judged(sale(read=replace(ISSUED, **more))) is Refusal.MALFORMED


def test_a_record_that_names_another_writer_is_foreign() -> None:
    assert judged(sale(written=lambda record: replace(record, reader=b"bar2"))) is Refusal.FOREIGN_RECORD
    assert judged(replace(ISSUE, written=replace(FIRST, reader=b"bar2").encode())) is Refusal.FOREIGN_RECORD


@pytest.mark.parametrize("change", [{"card": b"wristbnE"}, {"card": b"Wristbnd"}, {"event": b"2032"}])
def test_a_record_of_another_card_or_event_than_the_one_read_is_foreign(change: dict[str, Any]) -> None:
    assert judged(sale(read=replace(ISSUED, **change))) is Refusal.FOREIGN_RECORD


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_a_record_whose_seq_is_not_the_next_is_no_child(seq: int) -> None:
    assert judged(sale(written=lambda record: replace(record, seq=seq))) is Refusal.NOT_A_CHILD


def test_a_record_that_names_another_parent_is_no_child() -> None:
    flipped = SOLD.parent[:-1] + bytes([SOLD.parent[-1] ^ 1])
    assert judged(sale(written=lambda record: replace(record, parent=flipped))) is Refusal.NOT_A_CHILD
    assert judged(sale(written=lambda record: replace(record, parent=bytes(8)))) is Refusal.NOT_A_CHILD


@pytest.mark.parametrize("change", [{"seq": 0}, {"seq": 2}, {"parent": b"\x00" * 7 + b"\x01"}])
def test_the_first_record_of_a_card_is_number_one_and_has_no_parent(change: dict[str, Any]) -> None:
    assert judged(replace(ISSUE, written=replace(FIRST, **change).encode())) is Refusal.NOT_A_CHILD


@pytest.mark.parametrize("change", [-1, 1])
def test_a_balance_one_cent_off_counts_for_nothing(change: int) -> None:
    off = sale(written=lambda record: replace(record, balance=record.balance + change))
    assert judged(off) is Refusal.WRONG_BALANCE
    assert judged(replace(ISSUE, written=replace(FIRST, balance=500 + change).encode())) is Refusal.WRONG_BALANCE


def test_a_first_record_that_begins_with_money_of_nowhere_counts_for_nothing() -> None:
    assert judged(replace(ISSUE, amount_minor=499)) is Refusal.WRONG_BALANCE
    empty = replace(FIRST, balance=0)
    assert judged(replace(ISSUE, amount_minor=0, written=empty.encode())) == ISSUE_COUNTS


def test_a_body_that_cannot_be_read_is_malformed_and_the_next_is_judged_all_the_same() -> None:
    assert judge_taps(decode_taps([b"\xff", SALE.encode(), b"", ISSUE.encode()]), AUTHOR) == [
        Refusal.MALFORMED,
        SALE_COUNTS,
        Refusal.MALFORMED,
        ISSUE_COUNTS,
    ]


# -- Bodies --------------------------------------------------------------------------------------------------------

HONEST: Final[list[Any]] = [TAP_ID, 2, 650, ISSUED.encode(), SOLD.encode(), DOCUMENT]


def changed(at: int, value: Any) -> bytes:
    """The honest body with one value exchanged."""
    return encode([*HONEST[:at], value, *HONEST[at + 1 :]])


def both_readings(body: bytes) -> TapValues | None:
    """One body read alone, which must be what it is among others."""
    alone = decode_taps([body])
    assert decode_taps([SALE.encode(), body, ISSUE.encode()])[1:2] == alone
    assert [values is not None for values in decode_taps([SALE.encode(), body, ISSUE.encode()])][::2] == [True, True]
    return alone[0]


def test_a_tap_body_is_read_field_by_field() -> None:
    assert decode_tap(encode(HONEST)) == SALE
    assert SALE.encode() == encode(HONEST)
    assert isinstance(decode_tap(SALE.encode()).operation, Operation)
    assert list(both_readings(SALE.encode()) or ()) == HONEST


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (1, 0),
        (1, max(Operation)),
        (2, 0),
        (2, AMOUNT_MINOR_MAX),
        (3, b""),
        (3, bytes(CARD_SLOT_BYTES_MAX)),
        (4, b"w"),
        (4, bytes(CARD_SLOT_BYTES_MAX)),
    ],
)
def test_values_at_the_end_of_their_range_are_read(at: int, value: Any) -> None:
    values = both_readings(changed(at, value))
    assert values is not None
    assert values[at] == value
    decode_tap(changed(at, value))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, TAP_ID[:-1]),
        (0, TAP_ID + b"i"),
        (0, "i" * 16),
        (1, -1),
        (1, max(Operation) + 1),
        (1, True),
        (1, b"\x02"),
        (2, -1),
        (2, AMOUNT_MINOR_MAX + 1),
        (2, False),
        (2, b"650"),
        (3, bytes(CARD_SLOT_BYTES_MAX + 1)),
        (3, "witness"),
        (3, None),
        (4, b""),
        (4, bytes(CARD_SLOT_BYTES_MAX + 1)),
        (4, "written"),
        (5, DOCUMENT[:-1]),
        (5, DOCUMENT + b"d"),
        (5, "d" * 32),
        (5, None),
    ],
)
def test_values_of_another_type_or_out_of_range_are_no_tap(at: int, value: Any) -> None:
    body = changed(at, value)
    assert both_readings(body) is None
    with pytest.raises(BadTapBody):
        decode_tap(body)


@pytest.mark.parametrize("values", [HONEST[:-1], [*HONEST, 0], []])
def test_a_tap_has_six_values(values: list[Any]) -> None:
    assert both_readings(encode(values)) is None
    with pytest.raises(BadTapBody):
        check_tap_values(values)
    with pytest.raises(BadTapBody):
        check_tap_values(tuple(HONEST))


def test_a_tap_that_is_not_in_its_one_encoding_is_none_and_its_neighbours_are_read() -> None:
    body = SALE.encode()
    for data in (body + b"\x00", b"\x98\x06" + body[1:], body[:-1], b"", b"\x80", b"\x01"):
        assert both_readings(data) is None
        with pytest.raises(PeerError):
            decode_tap(data)
    with pytest.raises(NotCanonical):
        decode_tap(body + b"\x00")


def test_bodies_beyond_the_bound_of_an_entry_are_not_decoded() -> None:
    for decode in (decode_tap, decode_abort):
        with pytest.raises(TooLarge):
            decode(bytes(ENTRY_BODY_BYTES_MAX + 1))


def test_an_abort_body_names_the_tap_and_the_record_it_may_have_left() -> None:
    abort = AbortBody(TAP_ID, b"w" * 32)
    assert abort.encode() == encode([TAP_ID, b"w" * 32])
    assert decode_abort(abort.encode()) == abort


@pytest.mark.parametrize(
    "values",
    [
        [TAP_ID[:-1], b"w" * 32],
        [TAP_ID + b"i", b"w" * 32],
        [TAP_ID, b"w" * 31],
        [TAP_ID, b"w" * 33],
        [TAP_ID, 7],
        ["i" * 16, b"w" * 32],
        [TAP_ID],
        [TAP_ID, b"w" * 32, 0],
    ],
)
def test_an_abort_of_another_shape_is_refused(values: list[Any]) -> None:
    with pytest.raises(BadTapBody):
        decode_abort(encode(values))


@dataclass(frozen=True)
class Named:
    """A log as far as aborts look at it."""

    log_id: bytes
    author: Author
    known_heads: tuple[KnownHead, ...] = ()


def test_key_whose_id_was_matched_undoes_no_tap_of_the_device_it_imitates() -> None:
    imitator = Author(KEY, AUTHOR.operations, b"k" * 32)
    tap_log = Named(bytes(16), AUTHOR)
    known = (KnownHead(bytes(16), 9, bytes(32)),)
    assert undoes(Named(b"l" * 16, AUTHOR, known), 1, tap_log, 9)
    assert not undoes(Named(b"l" * 16, imitator, known), 1, tap_log, 9)
