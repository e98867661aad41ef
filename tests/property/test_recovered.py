"""What is recovered of lost disks, against an oracle that was there: it knows every tap that ever happened.

A draw makes an evening without thieves; then entries are lost: the end of logs, pieces out of the middle, whole logs.
Whatever is left must come to the truth wherever a card was seen again, and claim nothing beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.chain import Run, check_run, parse_genesis
from mesh.core.kinds import Operation, Role
from mesh.views.cards import CardsView
from mesh.views.devices import DevicesView
from mesh.views.recovered import RecoveredView
from tests.factory import LogWriter, Venue, Wristband

VENUE: Final = Venue("Recovered")
LOST: Final = VENUE.device("bar", Role.READER)
OTHERS: Final = (VENUE.device("other bar", Role.READER), VENUE.device("till", Role.READER, Role.TILL))
DEVICES: Final = (LOST, *OTHERS)
TILL: Final = 2


@dataclass(frozen=True)
class Happened:
    """One tap as it really was."""

    card: bytes
    write: int
    device: int
    seq: int
    spent: int
    credited: int


@dataclass
class Evening:
    """Everything that was signed, and what it was."""

    logs: list[LogWriter]
    taps: list[Happened]


@st.composite
def evenings(draw: st.DrawFn) -> Evening:
    logs = [LogWriter(device) for device in DEVICES]
    bands = [Wristband(VENUE, number) for number in range(draw(st.integers(1, 3)))]
    taps: list[Happened] = []

    def happened(band: Wristband, device: int, spent: int, credited: int) -> None:
        assert band.record is not None
        taps.append(Happened(band.card, band.record.seq, device, logs[device].head_seq, spent, credited))

    for band in bands:
        band.issue(logs[TILL], 5000)
        happened(band, TILL, 0, 5000)
    steps = st.tuples(st.sampled_from(bands), st.integers(0, 2), st.booleans(), st.integers(0, 90))
    for band, device, raises, amount in draw(st.lists(steps, max_size=25)):
        if raises and device == TILL:
            band.top_up(logs[TILL], amount)
            happened(band, device, 0, amount)
        else:
            band.sell(logs[device], amount)
            happened(band, device, amount, 0)
    return Evening(logs, taps)


def left_over(evening: Evening, lost: set[tuple[int, int]]) -> list[Run]:
    """What is held, one entry a run."""
    return [
        check_run(log.log_id, [entry])
        for device, log in enumerate(evening.logs)
        for seq, entry in enumerate(log.entries)
        if (device, seq) not in lost
    ]


def view_of(evening: Evening, runs: list[Run], cards: CardsView | None = None) -> RecoveredView:
    """The view of these runs; `cards` is what it takes the accounts from, for who asks it too."""
    cards, devices = cards or CardsView(), DevicesView(VENUE.root)
    view = RecoveredView(cards, devices, VENUE.root)
    for log in evening.logs:
        genesis = parse_genesis(log.entries[0], VENUE.root)
        cards.open_log(log.log_id, genesis)
        view.open_log(log.log_id, genesis)
    for run in runs:
        cards.fold(run)
        view.fold(run)
    return view


def losses(data: st.DataObject, evening: Evening) -> set[tuple[int, int]]:
    """Any entries of the lost device but its genesis, and now and then some of the others'."""
    places = [(tap.device, tap.seq) for tap in evening.taps]
    own = [place for place in places if place[0] == 0]
    gone = set(data.draw(st.lists(st.sampled_from(own), unique=True))) if own else set()
    if data.draw(st.booleans()):
        gone |= set(data.draw(st.lists(st.sampled_from(places), unique=True, max_size=5)))
    return gone


@pytest.mark.proves("B6")
@given(data=st.data())
def test_held_and_shown_and_holes_are_the_truth_wherever_a_card_is_seen_again(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    lost = losses(data, evening)
    view = view_of(evening, left_over(evening, lost))
    shown = view.all_shown()
    told = {(one.card, write) for one in shown for write in range(one.gap.first_seq, one.gap.last_seq + 1)}
    assert len(told) == sum(one.gap.writes for one in shown), "no write is told of twice"
    for card in {tap.card for tap in evening.taps}:
        taps = [tap for tap in evening.taps if tap.card == card]
        held = [tap for tap in taps if (tap.device, tap.seq) not in lost]
        gone_below = [tap for tap in taps if tap not in held and any(tap.write < seen.write for seen in held)]
        assert {(card, tap.write) for tap in gone_below} == {place for place in told if place[0] == card}
        gaps = [one.gap for one in shown if one.card == card]
        assert sum(tap.spent for tap in gone_below) == sum(gap.spent_minor or 0 for gap in gaps)
        assert sum(tap.credited for tap in gone_below) == sum(gap.credited_minor or 0 for gap in gaps)
        assert all(gap.spent_minor is not None for gap in gaps)


@pytest.mark.proves("B6")
@given(data=st.data())
def test_each_write_that_a_wristband_shows_alone_has_its_writer_and_its_amount(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    lost = losses(data, evening)
    left = view_of(evening, left_over(evening, lost)).recover({LOST.certificate.serial})
    truth = {(tap.card, tap.write): tap for tap in evening.taps}
    for one in left.shown:
        tap = truth[one.card, one.gap.last_seq]
        assert (tap.device, tap.spent, tap.credited) == (0, one.gap.spent_minor, one.gap.credited_minor)
        assert (tap.device, tap.seq) in lost
    assert all(truth[one.card, one.gap.last_seq].device == 0 for one in left.together)
    assert all(truth[one.card, one.gap.last_seq].device != 0 for one in left.perhaps)
    own = [tap for tap in evening.taps if tap.device == 0 and (0, tap.seq) not in lost]
    assert [tuple(held) for held in left.held] == (
        [(Operation.SALE, len(own), sum(tap.spent for tap in own))] if own else []
    )


@pytest.mark.proves("B6")
@given(data=st.data())
def test_sales_that_nobody_can_tell_of_are_within_the_bound(data: st.DataObject) -> None:
    """Only the lost device's entries are gone: then the wristbands, as last seen, bound what it sold unseen."""
    evening = data.draw(evenings())
    lost = {place for place in losses(data, evening) if place[0] == 0}
    view = view_of(evening, left_over(evening, lost))
    left = view.recover({LOST.certificate.serial})
    told = {(one.card, w) for one in view.all_shown() for w in range(one.gap.first_seq, one.gap.last_seq + 1)}
    unseen = [tap for tap in evening.taps if (tap.device, tap.seq) in lost and (tap.card, tap.write) not in told]
    assert left.unseen_sales_minor_max is not None
    assert sum(tap.spent for tap in unseen) <= left.unseen_sales_minor_max


@pytest.mark.proves("B6")
@given(data=st.data())
def test_order_in_which_entries_came_back_makes_no_difference(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    runs = left_over(evening, losses(data, evening))
    serials = {LOST.certificate.serial}
    again = data.draw(st.permutations([*runs, *data.draw(st.lists(st.sampled_from(runs), max_size=5))]))
    one, other = view_of(evening, runs), view_of(evening, again)
    assert one.recover(serials) == other.recover(serials)
    assert one.all_shown() == other.all_shown()


@pytest.mark.proves("B6", "S1.20")
@given(data=st.data())
def test_account_is_off_by_exactly_the_holes_and_holds_nobody(data: st.DataObject) -> None:
    """The ledger counts signed entries only. With the holes it says what the wristband showed when last seen."""
    evening = data.draw(evenings())
    lost = losses(data, evening)
    cards = CardsView()
    shown = view_of(evening, left_over(evening, lost), cards).all_shown()
    assert cards.all_conflicts() == []
    for card in cards.cards():
        taps = [tap for tap in evening.taps if tap.card == card]
        last = max(tap.write for tap in taps if (tap.device, tap.seq) not in lost)
        truth = sum(tap.credited - tap.spent for tap in taps if tap.write <= last)
        gaps = [one.gap for one in shown if one.card == card]
        holes = sum((gap.credited_minor or 0) - (gap.spent_minor or 0) for gap in gaps)
        assert cards.account(card).balance_minor + holes == truth
