"""One card's account and record, value by value: what is counted, what is not, and what a copy may have cost."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Any, Final

import pytest

from mesh.core.kinds import Operation
from mesh.limits import AMOUNT_MINOR_MAX
from mesh.views.card_account import BLANK, CREDITS, Branches, CardAccount, TapFact, settle_card
from mesh.views.card_record import (
    BadCardRecord,
    CardRecord,
    decode_record,
    key_id,
    record_hash,
    writer_of,
)

SALE, TOP_UP = Operation.SALE, Operation.TOP_UP


def state(letter: str) -> bytes:
    """A record's hash."""
    return letter.encode() * 16


def tap(
    consumed: bytes,
    written: bytes,
    amount: int,
    operation: int = SALE,
    *,
    number: int = 1,
    tap_id: int = 0,
    by: int = 1,
) -> TapFact:
    """A fact whose entry id begins with `number`; its tap id is its own unless one is given."""
    own_id = bytes([tap_id or number]) * 16
    return TapFact(consumed, written, own_id, bytes([number]) * 16, by, number, amount, operation, bytes([by]) * 4)


ISSUE: Final = tap(BLANK, state("a"), 5000, Operation.ISSUE, number=9)


def settled(*facts: TapFact, not_counted: frozenset[bytes] = frozenset()) -> CardAccount:
    """The account, which no order of arrival and no repetition changes."""
    accounts = [settle_card(order, not_counted) for order in permutations(facts)]
    assert all(account == accounts[0] for account in accounts)
    assert settle_card([*facts, *facts], not_counted) == accounts[0]
    return accounts[0]


# -- Accounts ------------------------------------------------------------------------------------------------------


def test_a_card_that_nobody_has_heard_of_has_nothing() -> None:
    assert settle_card([]) == CardAccount(0, (), (), ())


@pytest.mark.parametrize("operation", list(Operation))
def test_each_operation_raises_or_lowers_the_account_by_its_amount(operation: Operation) -> None:
    raises = operation in {Operation.ISSUE, Operation.TOP_UP, Operation.VOID, Operation.REISSUE}
    fact = tap(BLANK, state("a"), 70, operation)
    assert fact.delta_minor == (70 if raises else -70)
    assert settle_card([fact]) == CardAccount(fact.delta_minor, (fact,), (), ())
    assert (operation in CREDITS) is raises


def test_counted_taps_are_listed_by_entry_id() -> None:
    facts = [
        tap(state(one), state(other), 100, number=n) for one, other, n in (("a", "b", 3), ("b", "c", 1), ("c", "d", 2))
    ]
    account = settled(ISSUE, *facts)
    assert account == CardAccount(4700, (facts[1], facts[2], facts[0], ISSUE), (), ())


def test_of_two_entries_for_one_tap_id_the_smaller_id_is_counted_whatever_they_took() -> None:
    less, more = (
        tap(state("a"), state("b"), 100, number=1, tap_id=7),
        tap(state("a"), state("c"), 900, number=2, tap_id=7),
    )
    assert settled(ISSUE, less, more) == CardAccount(4900, (less, ISSUE), (more,), ())
    swapped = less._replace(entry_id=bytes([3]) * 16)
    assert settled(ISSUE, swapped, more) == CardAccount(4100, (more, ISSUE), (swapped,), ())


def test_one_tap_id_of_two_devices_is_two_taps() -> None:
    one = tap(state("a"), state("b"), 100, number=1, tap_id=7, by=1)
    other = tap(state("b"), state("c"), 200, number=2, tap_id=7, by=2)
    assert settled(ISSUE, one, other) == CardAccount(4700, (one, other, ISSUE), (), ())


def test_one_write_under_two_tap_ids_is_one_debit() -> None:
    one, again = (tap(state("a"), state("b"), 100, number=number) for number in (1, 2))
    assert settled(ISSUE, one, again) == CardAccount(4900, (one, ISSUE), (again,), ())


def test_one_record_written_over_two_others_is_two_writes() -> None:
    one, other = tap(state("a"), state("c"), 100, number=1), tap(state("b"), state("c"), 100, number=2)
    assert settled(ISSUE, one, other).counted == (one, other, ISSUE)


def test_what_does_not_count_leaves_its_tap_id_and_its_write_to_the_next() -> None:
    aborted = tap(state("a"), state("b"), 900, number=1, tap_id=7)
    same_id = tap(state("a"), state("c"), 100, number=2, tap_id=7)
    same_write = tap(state("a"), state("b"), 30, number=3)
    account = settled(ISSUE, aborted, same_id, not_counted=frozenset({aborted.entry_id}))
    assert account == CardAccount(4900, (same_id, ISSUE), (aborted,), ())
    account = settled(ISSUE, aborted, same_write, not_counted=frozenset({aborted.entry_id}))
    assert account == CardAccount(4970, (same_write, ISSUE), (aborted,), ())


def test_uncounted_taps_are_all_listed_by_entry_id() -> None:
    facts = [tap(state("a"), state("b"), 100, number=number) for number in (1, 2, 3)]
    assert settled(*facts).uncounted == (facts[1], facts[2])


# -- Conflicts -----------------------------------------------------------------------------------------------------


@pytest.mark.proves("M4")
def test_two_sales_from_one_record_are_a_conflict_and_put_the_smaller_branch_at_risk_at_most() -> None:
    one, other = tap(state("a"), state("b"), 650, number=1), tap(state("a"), state("c"), 400, number=2)
    account = settled(ISSUE, one, other)
    assert account == CardAccount(3950, (one, other, ISSUE), (), (Branches(state("a"), (one, other), (650, 400)),))
    assert account.conflicts[0].at_risk_minor == 650


def test_three_branches_put_all_but_the_smallest_at_risk() -> None:
    assert Branches(state("a"), (), (300, 100, 200)).at_risk_minor == 500
    facts = [tap(state("a"), state("bcd"[n]), (300, 100, 200)[n], number=n + 1) for n in range(3)]
    [conflict] = settled(*facts).conflicts
    assert (conflict.facts, conflict.totals_minor) == (tuple(facts), (300, 100, 200))


def test_a_branch_is_worth_every_debit_that_descends_from_it_and_no_credit() -> None:
    one = tap(state("a"), state("b"), 100, number=1)
    descends = [
        tap(state("b"), state("c"), 20, number=2),
        tap(state("c"), state("d"), 3000, TOP_UP, number=3),
        tap(state("d"), state("e"), 3, number=4),
    ]
    other = tap(state("a"), state("x"), 50, number=5)
    [conflict] = settled(one, *descends, other).conflicts
    assert conflict == Branches(state("a"), (one, other), (123, 50))


def test_a_credit_at_the_head_of_a_branch_costs_nothing() -> None:
    one, other = tap(state("a"), state("b"), 900, TOP_UP, number=1), tap(state("a"), state("c"), 40, number=2)
    below = tap(state("b"), state("d"), 1, number=3)
    [conflict] = settled(one, other, below).conflicts
    assert conflict.totals_minor == (1, 40)


def test_a_conflict_inside_a_branch_is_named_too_and_its_debits_add_up() -> None:
    one, other = tap(state("a"), state("b"), 100, number=1), tap(state("a"), state("c"), 10, number=2)
    left, right = tap(state("b"), state("d"), 5, number=3), tap(state("b"), state("e"), 7, number=4)
    conflicts = settled(one, other, left, right).conflicts
    assert conflicts == (
        Branches(state("a"), (one, other), (112, 10)),
        Branches(state("b"), (left, right), (5, 7)),
    )


def test_conflicts_are_listed_by_the_record_that_was_consumed_twice() -> None:
    pairs = [("z", "x"), ("z", "y"), ("m", "v"), ("m", "w")]
    facts = [tap(state(one), state(two), 1, number=n) for n, (one, two) in enumerate(pairs, 1)]
    assert [conflict.consumed for conflict in settled(*facts).conflicts] == [state("m"), state("z")]


def test_two_issues_of_one_card_are_a_conflict() -> None:
    again = tap(BLANK, state("b"), 100, Operation.ISSUE, number=1)
    [conflict] = settled(ISSUE, again).conflicts
    assert conflict == Branches(BLANK, (again, ISSUE), (0, 0))


def test_records_that_lead_back_to_themselves_are_each_walked_once() -> None:
    """No hash does that; a walk that trusted it would never end."""
    one, other = tap(state("a"), state("b"), 100, number=1), tap(state("a"), state("c"), 10, number=2)
    back = tap(state("b"), state("a"), 5, number=3)
    [conflict] = settled(one, other, back).conflicts
    assert conflict.totals_minor == (105, 10)
    loop = tap(state("b"), state("b"), 7, number=4)
    [first, second] = settled(one, other, back, loop).conflicts
    assert first.totals_minor == (112, 10)
    assert second.totals_minor == (115, 7)


# -- Records -------------------------------------------------------------------------------------------------------

RECORD: Final = CardRecord(b"wristbnd", b"2031", 2, 3, 4, 5, 6, b"bar1", b"parent!!")
DATA: Final = b"\x01wristbnd2031" + bytes.fromhex("00000002 00000003 00000004 00000005 06") + b"bar1parent!!"


def test_a_record_is_these_42_bytes() -> None:
    assert RECORD.encode() == DATA
    assert decode_record(DATA) == RECORD
    assert writer_of(DATA) == writer_of(DATA + b"s" * 64) == b"bar1"


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"\x00", b"", b"\x00" + DATA[1:], b"\x02" + DATA[1:]])
def test_bytes_of_another_length_or_version_are_no_record(data: bytes) -> None:
    with pytest.raises(BadCardRecord):
        decode_record(data)


@pytest.mark.parametrize("name", ["balance", "offline_spent"])
def test_amounts_of_a_record_end_at_the_largest_amount(name: str) -> None:
    values: dict[str, Any] = {field: getattr(RECORD, field) for field in CardRecord.__slots__}
    largest, over = (CardRecord(**{**values, name: AMOUNT_MINOR_MAX + more}) for more in (0, 1))
    assert decode_record(largest.encode()) == largest
    with pytest.raises(BadCardRecord):
        decode_record(over.encode())


def test_the_seal_is_no_part_of_a_records_hash() -> None:
    digest = hashlib.sha256(DATA).digest()
    assert record_hash(DATA) == record_hash(DATA + b"s" * 64) == digest
    assert record_hash(DATA[:-1] + b"?") != digest


def test_a_device_is_named_by_the_first_four_bytes_of_its_keys_hash() -> None:
    assert key_id(b"k" * 32) == hashlib.sha256(b"k" * 32).digest()[:4]
