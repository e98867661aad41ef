"""Aborts at each of their boundaries; conflicts told once, by the run, finding or statement that showed them."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest

from mesh.core.chain import parse_genesis
from mesh.core.kinds import Kind, Operation, Role
from mesh.core.revocation import parse_statement
from mesh.views.card_record import record_hash
from mesh.views.cards import CardsView
from mesh.views.tap_entry import AbortBody, TapBody
from mesh.views.trust import TrustView
from tests.factory import LogWriter, Venue, Wristband
from tests.harness import runs_of

VENUE: Final = Venue("Card news exactly")
TILL: Final = VENUE.device("till", Role.TILL)
BAR, OTHER = VENUE.device("bar", Role.READER), VENUE.device("other", Role.READER)
FILLER: Final = 999


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


# -- Aborts --------------------------------------------------------------------------------------------------------


def issued() -> tuple[LogWriter, Wristband]:
    till, band = LogWriter(TILL), Wristband(VENUE, 1)
    band.issue(till, 2000)
    return till, band


@pytest.mark.proves("M4")
def test_nobody_undoes_the_tap_of_another_device_whatever_its_genesis_knew() -> None:
    till, band = issued()
    bar = LogWriter(BAR)
    tap = band.sell(bar, 650)
    liar = LogWriter(OTHER, known=[bar])
    for _ in range(3):
        liar.abort(tap.tap_id, tap.written)
    assert view_of(till, bar, liar).account(band.card).balance_minor == 1350


def test_an_abort_beside_the_tap_on_another_branch_undoes_nothing() -> None:
    till, band = issued()
    bar = LogWriter(BAR)
    twin = bar.fork()
    tap = band.sell(bar, 650)
    twin.abort(tap.tap_id, tap.written)
    for order in permutations((till, bar, twin)):
        assert view_of(*order).account(band.card).balance_minor == 1350


@pytest.mark.parametrize(("filler", "expected"), [(0, 1350), (1, 2000), (2, 2000)])
def test_a_later_log_undoes_a_tap_only_if_its_genesis_knew_of_the_taps_seq(filler: int, expected: int) -> None:
    till, band = issued()
    bar = LogWriter(BAR)
    known = bar.fork()
    for _ in range(filler):
        known.append(FILLER, b"")
    tap = band.sell(bar, 650)
    later = LogWriter(BAR, number=1, known=[known])
    later.abort(tap.tap_id, tap.written)
    assert view_of(till, bar, later).account(band.card).balance_minor == expected


def test_a_later_log_that_knew_other_logs_only_undoes_nothing_here() -> None:
    till, band = issued()
    bar, second = LogWriter(BAR), LogWriter(BAR, number=1)
    for _ in range(5):
        second.append(FILLER, b"")
    tap = band.sell(bar, 650)
    later = LogWriter(BAR, number=2, known=[second])
    later.abort(tap.tap_id, tap.written)
    assert view_of(till, bar, second, later).account(band.card).balance_minor == 1350


def test_a_later_log_may_know_several_logs_and_undoes_taps_of_each() -> None:
    till, band = issued()
    bar, second = LogWriter(BAR), LogWriter(BAR, number=1)
    first_tap = band.sell(bar, 650)
    second_tap = band.sell(second, 100)
    later = LogWriter(BAR, number=2, known=[bar, second])
    later.abort(second_tap.tap_id, second_tap.written)
    assert view_of(till, bar, second, later).account(band.card).balance_minor == 1350
    later.abort(first_tap.tap_id, first_tap.written)
    view = view_of(till, bar, second, later)
    assert view.account(band.card).balance_minor == 2000
    assert {one.tap_id for one in view.account(band.card).uncounted} == {first_tap.tap_id, second_tap.tap_id}


def test_an_abort_that_does_not_count_undoes_nothing_and_another_of_the_same_tap_still_does() -> None:
    till, band = issued()
    bar = LogWriter(BAR)
    tap = band.sell(bar, 650)
    bar.abort(tap.tap_id, tap.written)
    view = view_of(till, bar)
    assert view.account(band.card).balance_minor == 2000
    view.contest(bar.log_id, 2)
    assert view.account(band.card).balance_minor == 1350
    later = LogWriter(BAR, number=1, known=[bar])
    later.abort(tap.tap_id, tap.written)
    view.open_log(later.log_id, parse_genesis(later.entries[0], VENUE.root))
    view.fold(runs_of(later)[0])
    assert view.account(band.card).balance_minor == 2000


@pytest.mark.proves("M7")
def test_an_abort_of_a_revoked_device_undoes_its_tap_only_inside_the_cut() -> None:
    till, band = issued()
    bar = LogWriter(BAR)
    tap = band.sell(bar, 650)
    bar.abort(tap.tap_id, tap.written)
    view = view_of(till, bar)
    for number, (cut, expected) in enumerate(((2, 2000), (1, 1350), (0, 2000)), 1):
        view.revoke(parse_statement(VENUE.revocation(BAR, (bar, cut), number=number), VENUE.root))
        assert view.account(band.card).balance_minor == expected


def test_aborts_among_taps_and_other_kinds_in_one_run_are_all_taken() -> None:
    till, bar = LogWriter(TILL), LogWriter(BAR)
    bands = [Wristband(VENUE, number) for number in range(3)]
    taps = []
    for band in bands:
        band.issue(till, 1000)
        bar.append(FILLER, b"")
        taps.append(band.sell(bar, 100))
    for tap in taps[:2]:
        bar.append(Kind.ABORT, AbortBody(tap.tap_id, record_hash(tap.written)).encode())
        bar.append(FILLER, b"")
    view = view_of(till, bar)
    assert [view.account(band.card).balance_minor for band in bands] == [1000, 1000, 900]


# -- News ----------------------------------------------------------------------------------------------------------


def test_cards_of_one_run_are_reported_each_once_in_the_order_of_their_conflicts() -> None:
    till, bar, other = LogWriter(TILL), LogWriter(BAR), LogWriter(OTHER)
    bands = [Wristband(VENUE, number) for number in range(4)]
    for band in bands:
        band.issue(till, 1000)
        clone, third = band.clone(), band.clone()
        band.sell(bar, 100)
        if band is not bands[2]:
            clone.sell(other, 200)
            third.sell(other, 300)
    view = view_of(till, bar)
    view.open_log(other.log_id, parse_genesis(other.entries[0], VENUE.root))
    [run] = runs_of(other)
    assert view.fold(run) == [bands[0].card, bands[1].card, bands[3].card]


@pytest.mark.proves("M4")
def test_a_conflict_and_an_abort_in_one_run_are_both_taken() -> None:
    till, band = issued()
    bar, other = LogWriter(BAR), LogWriter(OTHER)
    clone = band.clone()
    band.sell(bar, 100)
    copied = clone.sell(other, 200)
    other.abort(b"another tap id..", copied.written)
    view = view_of(till, bar)
    view.open_log(other.log_id, parse_genesis(other.entries[0], VENUE.root))
    assert view.fold(runs_of(other)[0]) == [band.card]


@pytest.mark.proves("M4", "M7")
def test_a_conflict_in_the_run_with_which_a_revoked_log_reaches_its_cut_is_reported_by_it() -> None:
    till, band = issued()
    bar, other = LogWriter(BAR), LogWriter(OTHER)
    clone = band.clone()
    band.sell(bar, 100)
    clone.sell(other, 200)
    view = view_of(till, bar)
    view.revoke(parse_statement(VENUE.revocation(OTHER, (other, 1)), VENUE.root))
    view.open_log(other.log_id, parse_genesis(other.entries[0], VENUE.root))
    assert view.fold(runs_of(other)[0]) == [band.card]


def displaced() -> tuple[LogWriter, LogWriter, LogWriter, LogWriter, Wristband, TapBody]:
    """Logs of a till, of a bar (twice) and of another bar: the bar's first entry stands before its second.

    Both have one tap id. The first is an honest sale; the second consumed the record that the other bar's sale had
    consumed as well: a conflict, as soon as the first counts no more.
    """
    for number in range(64):
        till, other = LogWriter(TILL), LogWriter(OTHER)
        first, second = LogWriter(BAR, number=2 * number), LogWriter(BAR, number=2 * number + 1)
        band = Wristband(VENUE, 1)
        band.issue(till, 2000)
        copy = band.clone()
        band.sell(other, 300)
        tap = band.sell(first, 100)
        copy.tap(second, Operation.SALE, 50, tap_id=tap.tap_id)
        if first.ids[1] < second.ids[1]:
            return till, other, first, second, band, tap
    raise AssertionError("64 pairs of hashes in descending order")


def test_a_conflict_that_comes_to_light_when_a_log_is_contested_is_reported_then() -> None:
    till, other, first, second, band, _ = displaced()
    view = view_of(till, other, first, second)
    assert view.conflicts(band.card) == ()
    assert view.contest(first.log_id, 2) == []
    assert view.contest(first.log_id, 1) == [band.card]
    assert len(view.conflicts(band.card)) == 1
    assert view.contest(first.log_id, 0) == []


@pytest.mark.proves("M4")
def test_a_card_whose_conflict_a_fork_ended_is_reported_again_at_its_next_conflict() -> None:
    """A seed of the simulator: a bar that signed two ways hid a later forgery of the same card from a restarted bar."""
    till, band = issued()
    liar, bar, other = LogWriter(OTHER), LogWriter(BAR), LogWriter(OTHER, number=2)
    copy = band.clone()
    copy.sell(liar, 100)
    band.sell(bar, 300)
    view = opened(till, liar, bar, other)
    assert [view.fold(run) for log in (till, liar, bar) for run in runs_of(log)] == [[], [], [band.card]]
    assert view.contest(liar.log_id, 1) == []
    assert view.conflicts(band.card) == ()
    forged = band.clone()
    band.sell(bar, 200)
    forged.sell(other, 250)
    assert view.fold(runs_of(bar)[0]) == []
    assert view.fold(runs_of(other)[0]) == [band.card]
    assert view.fold(runs_of(other)[0]) == []


def test_a_conflict_that_comes_to_light_when_a_tap_is_aborted_is_reported_then() -> None:
    till, other, first, second, band, tap = displaced()
    view = view_of(till, other, first, second)
    first.abort(tap.tap_id, tap.written)
    assert view.fold(runs_of(first, 2)[0]) == [band.card]
    assert view.fold(runs_of(first, 2)[0]) == []


def test_a_conflict_that_comes_to_light_by_a_revocation_is_reported_then() -> None:
    till, other, first, second, band, _ = displaced()
    view = view_of(till, other, first, second)
    statement = parse_statement(VENUE.revocation(BAR, (second, 1)), VENUE.root)
    assert view.revoke(statement) == [band.card]
    assert view.revoke(statement) == []


def test_a_conflict_that_comes_to_light_when_a_revoked_log_reaches_its_cut_is_reported_then() -> None:
    till, other, first, second, band, _ = displaced()
    second.append(FILLER, b"")
    view = opened(till, other, first, second)
    view.revoke(parse_statement(VENUE.revocation(BAR, (second, 2)), VENUE.root))
    for run in (*runs_of(till), *runs_of(other), *runs_of(second, 0, 1)):
        assert view.fold(run) == []
    assert view.fold(runs_of(second, 2)[0]) == [band.card]


def test_what_others_said_to_the_same_trust_is_reported_when_it_is_looked_at_again() -> None:
    till, other, first, second, band, _ = displaced()
    trust = TrustView()
    view = CardsView(trust)
    for log in (till, other, first, second):
        view.open_log(log.log_id, parse_genesis(log.entries[0], VENUE.root))
        view.fold(runs_of(log)[0])
    assert view.trust is trust
    trust.contest(first.log_id, 1)
    assert (view.look_again(), view.look_again()) == ([band.card], [])


# -- A start from the disk -----------------------------------------------------------------------------------------


@pytest.mark.proves("M4")
def test_conflict_that_only_seemed_to_be_there_during_a_start_is_told_when_it_comes_back() -> None:
    till, band = issued()
    bar, liar = LogWriter(BAR), LogWriter(OTHER)
    copy = band.clone()
    band.sell(bar, 650)
    copy.sell(liar, 700)
    view = view_of(till, bar, liar)  # what a start folds, and reports to nobody
    view.forget_reports()
    assert view.contest(liar.log_id, 1) == []  # then it takes up what it knows about the liar's log
    assert view.look_again() == []
    ruling = parse_statement(VENUE.revocation(OTHER, (liar, liar.head_seq)), VENUE.root)
    assert view.revoke(ruling) == [band.card]
    assert view.look_again() == []
