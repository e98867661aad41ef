"""What money is on one device only: the sums against a plain count, and receipts against a plain rule."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.kinds import Kind, Operation, Role
from mesh.core.receipt import Receipt, sign_receipt
from mesh.views.alone import Alone, alone_of
from mesh.views.receipts import ReceiptsView
from mesh.views.tap_entry import AbortBody, TapBody
from tests.factory import LogWriter, Venue

VENUE: Final = Venue()
BAR: Final = VENUE.device("bar", Role.READER)
SETTLEMENT: Final = VENUE.device("settlement", Role.SETTLEMENT)
CROOK: Final = VENUE.device("crook", Role.READER)
TAPS = st.tuples(st.sampled_from(Operation), st.integers(0, 2**31 - 1))
ENTRIES = st.lists(st.one_of(TAPS, st.sampled_from(["abort", "unknown kind", "a tap that is none"])), max_size=12)


def log_of(entries: list[tuple[Operation, int] | str]) -> LogWriter:
    log = LogWriter(BAR)
    for number, entry in enumerate(entries):
        match entry:
            case (Operation() as operation, int(amount)):
                body = TapBody(number.to_bytes(16, "big"), operation, amount, b"", b"written", bytes(32))
                log.append(Kind.TAP, body.encode())
            case "abort":
                log.append(Kind.ABORT, AbortBody(bytes(16), bytes(32)).encode())
            case "unknown kind":
                log.append(4711, b"of the future")
            case _:
                log.append(Kind.TAP, b"no tap")
    return log


@pytest.mark.proves("B4")
@given(ENTRIES, st.data())
def test_sums_are_those_of_a_plain_count_however_the_log_is_read(
    entries: list[tuple[Operation, int] | str], data: st.DataObject
) -> None:
    log = log_of(entries)
    safe = data.draw(st.integers(-1, log.head_seq), label="kept elsewhere up to")
    middle = data.draw(st.integers(safe, log.head_seq), label="read in two parts")
    alone = alone_of(log.entries[safe + 1 : middle + 1]) + alone_of(log.entries[middle + 1 :])
    rest = [(seq, *entry) for seq, entry in enumerate(entries, 1) if seq > safe and isinstance(entry, tuple)]
    counts, amounts = Counter[Operation](), Counter[Operation]()
    for _, operation, amount in rest:
        counts[operation] += 1
        amounts[operation] += amount
    assert {operation: (one.count, one.amount_minor) for operation, one in alone.sums} == {
        operation: (count, amounts[operation]) for operation, count in counts.items()
    }
    assert (alone.entries, alone.taps) == (log.head_seq - safe, len(rest))
    began = log.time_ms - 1000 * (log.head_seq + 1)
    assert alone.oldest_ms == (began + 1000 * rest[0][0] if rest else None)


def test_nothing_is_alone_where_everything_is_kept() -> None:
    assert alone_of([]) == Alone() == Alone() + Alone()


# -- Receipts ------------------------------------------------------------------------------------------------------

LOG: Final = log_of([(Operation.SALE, 650)] * 8)
STRANGERS: Final = LogWriter(CROOK)


def receipt(head_seq: int, epoch: int = 0, *, log: LogWriter = LOG, signer: str = "settlement") -> bytes:
    device = SETTLEMENT if signer == "settlement" else CROOK
    said = Receipt(
        log_id=log.log_id,
        head_seq=head_seq,
        head_id=log.ids[head_seq],
        count=head_seq + 1,
        sum_minor=0,
        verified_up_to=head_seq + 1,
        set_aside_count=0,
        set_aside=(),
        store_epoch=bytes([epoch]) * 16,
        certificate=device.certificate.der,
    )
    return sign_receipt(device.sign, said)


def safe_after(*bodies: bytes) -> int:
    view = ReceiptsView(VENUE.root, {LOG.log_id})
    for body in bodies:
        view.fold(body)
    return view.safe_seq(LOG.log_id)


@pytest.mark.proves("B4")
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), max_size=8))
def test_own_log_is_safe_as_far_as_every_life_of_the_service_says(receipts: list[tuple[int, int]]) -> None:
    best: dict[int, int] = {}
    for head_seq, epoch in receipts:
        best[epoch] = max(head_seq, best.get(epoch, -1))
    assert safe_after(*(receipt(*one) for one in receipts)) == min(best.values(), default=-1)


def test_receipt_of_somebody_who_may_not_sign_any_makes_nothing_safe_and_nothing_less_safe() -> None:
    assert safe_after(receipt(8, signer="crook")) == -1
    assert safe_after(receipt(5), receipt(8, signer="crook"), receipt(8, 1, signer="crook")) == 5
    assert safe_after(receipt(5), receipt(8)[:-1] + b"\x00", b"noise") == 5


def test_restored_service_that_was_heard_of_makes_older_promises_void_until_it_says_them_again() -> None:
    elsewhere = receipt(0, 1, log=STRANGERS)
    assert safe_after(receipt(8), elsewhere) == -1
    assert safe_after(elsewhere, receipt(8), receipt(6, 1)) == 6


def test_receipts_for_others_are_not_this_devices_business() -> None:
    assert safe_after(receipt(0, log=STRANGERS)) == -1
