"""The view of all cards, answer by answer: every field of a conflict, every reason of a refusal, what news it says."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Final

import pytest

from mesh.core.chain import parse_genesis
from mesh.core.entry import entry_id
from mesh.core.kinds import Kind, Operation, Role
from mesh.views.card_account import CardAccount, TapFact
from mesh.views.card_record import key_id, record_hash
from mesh.views.cards import CardStanding, CardStatus, CardsView, Conflict, TapRef
from mesh.views.tap_entry import TapBody
from mesh.views.tap_rules import Refusal
from tests.factory import LogWriter, Venue, Wristband
from tests.harness import runs_of

VENUE: Final = Venue("Cards exactly")
TILL: Final = VENUE.device("till", Role.TILL)
BAR, OTHER = VENUE.device("bar", Role.READER), VENUE.device("other", Role.READER)
OWN: Final = bytes(16)
"""A tap id that nobody used."""
FILLER: Final = 999


def short(record: bytes) -> bytes:
    return hashlib.sha256(record[:42]).digest()[:16]


def opened(*logs: LogWriter) -> CardsView:
    view = CardsView()
    for log in logs:
        view.open_log(log.log_id, parse_genesis(log.entries[0], VENUE.root))
    return view


def view_of(*logs: LogWriter, length: int = 512) -> CardsView:
    view = opened(*logs)
    for log in logs:
        for run in runs_of(log, length=length):
            view.fold(run)
    return view


def reference(log: LogWriter, seq: int, tap: TapBody, band: Wristband) -> TapRef:
    return TapRef(
        log_id=log.log_id,
        seq=seq,
        tap_id=tap.tap_id,
        card=band.card,
        operation=tap.operation,
        amount_minor=tap.amount_minor,
        consumed=short(tap.witness) if tap.witness else bytes(16),
        written=short(tap.written),
    )


def fact(log: LogWriter, seq: int, tap: TapBody, number: int) -> TapFact:
    """The fact of a tap, in the log that a view opened as its `number`th."""
    return TapFact(
        consumed=short(tap.witness) if tap.witness else bytes(16),
        written=short(tap.written),
        tap_id=tap.tap_id,
        entry_id=log.ids[seq][:16],
        log=number,
        seq=seq,
        amount_minor=tap.amount_minor,
        operation=tap.operation,
        author=key_id(log.device.public_key),
    )


class Cloned:
    """A wristband of 20.00 that was copied, and spent at a bar and at another."""

    def __init__(self) -> None:
        self.till, self.bar, self.other = LogWriter(TILL), LogWriter(BAR), LogWriter(OTHER)
        self.band = Wristband(VENUE, 1)
        self.issued = self.band.issue(self.till, 2000)
        self.clone = self.band.clone()
        self.sold = self.band.sell(self.bar, 650)
        self.copied = self.clone.sell(self.other, 400)

    @property
    def logs(self) -> tuple[LogWriter, LogWriter, LogWriter]:
        return self.till, self.bar, self.other

    def conflict(self) -> Conflict:
        refs = {
            self.bar.ids[1]: reference(self.bar, 1, self.sold, self.band),
            self.other.ids[1]: reference(self.other, 1, self.copied, self.band),
        }
        taps = tuple(refs[identifier] for identifier in sorted(refs))
        return Conflict(self.band.card, short(self.issued.written), taps, 650)


CLONED: Final = Cloned()

# -- What is known of a card ---------------------------------------------------------------------------------------


@pytest.mark.proves("M4")
def test_a_conflict_names_the_card_the_record_and_both_taps_in_full() -> None:
    for order in permutations(CLONED.logs):
        view = view_of(*order)
        assert view.conflicts(CLONED.band.card) == (CLONED.conflict(),)
        assert view.all_conflicts() == [CLONED.conflict()]


@pytest.mark.proves("S1.18")
def test_a_held_card_says_why_and_what_consumed_the_record_shown() -> None:
    view = view_of(*CLONED.logs)
    shown = record_hash(CLONED.issued.written)
    first = CLONED.conflict().taps[0]
    assert view.standing(CLONED.band.card, shown, bytes(8), OWN) == CardStanding(
        CardStatus.HELD, (CLONED.conflict(),), consumed_by=first, sibling=None
    )
    second = CLONED.conflict().taps[1]
    standing = view.standing(CLONED.band.card, shown, bytes(8), first.tap_id)
    assert (standing.consumed_by, standing.sibling) == (second, None), "the caller's own tap does not speak against it"


@pytest.mark.proves("S1.18")
def test_an_open_card_shows_the_tap_that_already_consumed_its_record_or_its_parent() -> None:
    view = view_of(CLONED.till, CLONED.bar)
    card, issued, sold = CLONED.band.card, CLONED.issued.written, CLONED.sold
    spent = reference(CLONED.bar, 1, sold, CLONED.band)
    rolled_back = view.standing(card, record_hash(issued), bytes(8), OWN)
    assert rolled_back == CardStanding(CardStatus.OPEN, (), consumed_by=spent, sibling=None)
    copy = view.standing(card, record_hash(CLONED.copied.written), record_hash(issued)[:8], OWN)
    assert copy == CardStanding(CardStatus.OPEN, (), consumed_by=None, sibling=spent)
    newest = view.standing(card, record_hash(sold.written), record_hash(issued)[:8], OWN)
    assert newest == CardStanding(CardStatus.OPEN, (), None, None)
    own = view.standing(card, record_hash(CLONED.copied.written), record_hash(issued)[:8], sold.tap_id)
    assert own == CardStanding(CardStatus.OPEN, (), None, None)


def test_a_card_nobody_has_heard_of_is_open_and_has_nothing() -> None:
    view = view_of(*CLONED.logs)
    assert view.standing(b"stranger", bytes(32), bytes(8), OWN) == CardStanding(CardStatus.OPEN, (), None, None, None)
    assert view.account(b"stranger") == CardAccount(0, (), (), ())
    assert not view.writes(b"stranger", bytes(32))
    assert CardsView().counted() == set() and list(CardsView().cards()) == []


def test_an_account_lists_every_fact_field_by_field() -> None:
    view = view_of(*CLONED.logs)
    facts = [fact(CLONED.till, 1, CLONED.issued, 0), fact(CLONED.bar, 1, CLONED.sold, 1)]
    facts.append(fact(CLONED.other, 1, CLONED.copied, 2))
    account = view.account(CLONED.band.card)
    assert account.balance_minor == 950
    assert account.counted == tuple(sorted(facts, key=lambda one: one.entry_id))
    assert account.uncounted == ()
    assert view.counted() == set(facts)


def test_conflicts_of_all_cards_are_listed_by_card() -> None:
    till, bar, other = LogWriter(TILL), LogWriter(BAR), LogWriter(OTHER)
    bands = [Wristband(VENUE, number) for number in range(6)]
    for number, band in enumerate(bands):
        band.issue(till, 1000)
        clone = band.clone()
        band.sell(bar, 100)
        if number < 5:
            clone.sell(other, 200)
    view = view_of(till, bar, other)
    assert [conflict.card for conflict in view.all_conflicts()] == sorted(band.card for band in bands[:5])
    assert sorted(view.cards()) == sorted(band.card for band in bands)
    assert len(view.counted()) == 17


def test_a_record_is_vouched_for_only_by_a_tap_that_counts_and_wrote_it() -> None:
    view = view_of(CLONED.till, CLONED.bar)
    card = CLONED.band.card
    assert view.writes(card, record_hash(CLONED.issued.written))
    assert view.writes(card, record_hash(CLONED.sold.written))
    assert not view.writes(card, record_hash(CLONED.copied.written))
    assert not view.writes(Wristband(VENUE, 2).card, record_hash(CLONED.sold.written))
    view.contest(CLONED.bar.log_id, 1)
    assert not view.writes(card, record_hash(CLONED.sold.written))
    assert view.writes(card, record_hash(CLONED.issued.written))
    assert view.counted() == {fact(CLONED.till, 1, CLONED.issued, 0)}


def test_taps_of_a_contested_log_are_kept_and_listed_and_move_no_money() -> None:
    view = view_of(*CLONED.logs)
    view.contest(CLONED.other.log_id, 1)
    account = view.account(CLONED.band.card)
    assert (account.balance_minor, account.uncounted) == (1350, (fact(CLONED.other, 1, CLONED.copied, 2),))
    assert account.conflicts == ()


# -- What counts for nothing ---------------------------------------------------------------------------------------


def test_every_entry_that_counts_for_nothing_is_listed_with_its_place_and_its_reason() -> None:
    till, bar = LogWriter(TILL), LogWriter(BAR)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    band.clone().top_up(bar, 500)
    bar.append(Kind.TAP, b"garbage")
    bar.append(Kind.ABORT, b"garbage")
    bar.append(FILLER, b"garbage")
    band.clone().sell(till, 100)
    greedy = band.propose(BAR, Operation.SALE, 100)
    bar.append(Kind.TAP, TapBody(b"g" * 16, Operation.SALE, 99, greedy.witness, greedy.written, bytes(32)).encode())
    band.sell(bar, 650)
    for length in (1, 2, 512):
        view = view_of(till, bar, length=length)
        assert view.refused() == {
            (bar.log_id, 1): Refusal.ROLE,
            (bar.log_id, 2): Refusal.MALFORMED,
            (bar.log_id, 3): Refusal.MALFORMED,
            (till.log_id, 2): Refusal.ROLE,
            (bar.log_id, 5): Refusal.WRONG_BALANCE,
        }
        assert view.account(band.card).balance_minor == 1350


def test_of_two_refused_entries_at_one_seq_of_a_fork_the_same_reason_is_shown_in_either_order() -> None:
    till, bar = LogWriter(TILL), LogWriter(BAR)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    twin = bar.fork()
    band.clone().top_up(bar, 500)
    twin.append(Kind.TAP, b"garbage")
    for order in permutations((till, bar, twin)):
        view = view_of(*order)
        assert view.refused() == {(bar.log_id, 1): Refusal.MALFORMED}
        for log in order:
            view.fold(runs_of(log)[0])
        assert view.refused() == {(bar.log_id, 1): Refusal.MALFORMED}


def test_a_card_of_which_only_refused_taps_are_known_is_no_card() -> None:
    bar = LogWriter(BAR)
    Wristband(VENUE, 1).top_up(bar, 500)
    view = view_of(bar)
    assert list(view.cards()) == [] and view.counted() == set()


@pytest.mark.proves("M4")
def test_a_conflict_is_reported_once_by_the_run_that_brought_it() -> None:
    for order in permutations(CLONED.logs):
        view = opened(*order)
        reports = [view.fold(run) for log in order for run in runs_of(log)]
        assert [report for report in reports if report] == [[CLONED.band.card]]
        assert [view.fold(run) for log in order for run in runs_of(log)] == [[], [], []]
        assert view.look_again() == []


# -- Logs and memory -----------------------------------------------------------------------------------------------


def test_a_log_that_is_opened_again_is_the_same_log() -> None:
    view = view_of(*CLONED.logs)
    for log in reversed(CLONED.logs):
        view.open_log(log.log_id, parse_genesis(log.entries[0], VENUE.root))
    for log in CLONED.logs:
        view.fold(runs_of(log)[0])
    assert view.conflicts(CLONED.band.card) == (CLONED.conflict(),)
    assert {ref.log_id for ref in CLONED.conflict().taps} == {CLONED.bar.log_id, CLONED.other.log_id}


def test_a_tap_takes_103_bytes_and_one_that_comes_again_takes_none() -> None:
    till, bar = LogWriter(TILL), LogWriter(BAR)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    tap = band.sell(bar, 650)
    band.sell(bar, 100)
    bar.abort(tap.tap_id, tap.written)
    view = opened(till, bar)
    for _ in range(3):
        for run in (*runs_of(bar, length=1), *runs_of(till), *runs_of(bar, length=2)):
            view.fold(run)
        assert len(view._cards[band.card]) == 3 * 103
        assert [len(places) for places in view._aborts.values()] == [1]


def assert_one_conflict_is_reported(band: Wristband, *logs: LogWriter) -> None:
    for order in permutations(logs):
        view = opened(*order)
        assert [card for log in order for run in runs_of(log, length=1) for card in view.fold(run)] == [band.card]
        assert len(view.conflicts(band.card)) == 1


@pytest.mark.proves("M4")
def test_a_tap_id_that_looks_like_the_record_it_consumed_hides_no_copy() -> None:
    """Whoever chooses tap ids chooses what stands between packed hashes: only whole places may be compared."""
    till, bar, other = LogWriter(TILL), LogWriter(BAR), LogWriter(OTHER)
    band = Wristband(VENUE, 1)
    issued = band.issue(till, 2000)
    clone = band.clone()
    band.tap(bar, Operation.SALE, 100, tap_id=short(issued.written))
    clone.sell(other, 200)
    assert_one_conflict_is_reported(band, till, bar, other)


@pytest.mark.proves("M4")
def test_tap_ids_of_zeros_hide_no_second_issue_and_are_none() -> None:
    till, second = LogWriter(TILL), LogWriter(TILL, number=1)
    bar, other = LogWriter(BAR), LogWriter(OTHER)
    band, wiped = Wristband(VENUE, 1), Wristband(VENUE, 1)
    band.issue(till, 2000)
    for log in (bar, other):
        band.tap(log, Operation.SALE, 100, tap_id=bytes(16))
    for order in permutations((till, bar, other)):
        assert view_of(*order).all_conflicts() == []
    wiped.issue(second, 70)
    assert_one_conflict_is_reported(band, till, bar, other, second)


@pytest.mark.proves("M4")
def test_a_record_that_ends_in_a_zero_hides_no_second_issue_after_it() -> None:
    till, bar, second = LogWriter(TILL), LogWriter(BAR), LogWriter(TILL, number=1)
    band = Wristband(VENUE, 1)
    proposed = (band.propose(TILL, Operation.ISSUE, amount) for amount in range(1000, 9000))
    issued = next(tap for tap in proposed if record_hash(tap.written)[7] == 0)
    till.append(Kind.TAP, issued.encode())
    band.sealed = issued.written
    assert band.sell(bar, 100).written[:42].endswith(b"\x00")
    Wristband(VENUE, 1).issue(second, 70)
    assert_one_conflict_is_reported(band, till, bar, second)


def test_taps_are_evaluated_with_the_ids_of_their_entries() -> None:
    view = view_of(*CLONED.logs)
    ids = {one.entry_id for one in view.account(CLONED.band.card).counted}
    assert ids == {entry_id(log.entries[1])[:16] for log in CLONED.logs}
