"""The tap, scenario by scenario; together they walk every edge of the machine's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from mesh.core.kinds import Operation, Role
from mesh.views.card_record import SEALED_BYTES
from mesh.views.cards import CardsView
from reader.intent import decode_intent
from reader.ports import VenueTerms
from reader.risk import Decline
from reader.tap import TABLE, OutOfPlace
from reader.tap_events import (
    CommitDurable,
    CommitEntry,
    DropIntent,
    GreenShown,
    Notice,
    ReadBack,
    Show,
    SlotWritten,
    WriteSlot,
)
from reader.tap_phases import Armed, Idle, Unfinished
from tests.counter import CAP_MINOR, EUR, Chip, Counter, World, greens, notices, reds

SCENARIOS: Final[list[Callable[[World, Counter], None]]] = []


def scenario(function: Callable[[World, Counter], None]) -> Callable[[World, Counter], None]:
    SCENARIOS.append(function)
    return function


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def bar(world: World) -> Counter:
    return world.counter("bar A")


def balance(bar: Counter, chip: Chip) -> int:
    return bar.view.account(chip.card).balance_minor


# --- The plain tap ----------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.1", "S2.4", "S2.8")
@scenario
def test_a_sale_goes_green_once_and_the_card_and_the_ledger_agree(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    bar.sale(650)
    [green] = greens(bar.hold(chip))
    assert (green.balance_minor, green.intent.amount_minor, green.already) == (1350, 650, False)
    assert balance(bar, chip) == 1350 and not bar.stored and isinstance(bar.machine.phase, Idle)


@scenario
def test_a_top_up_at_a_till_starts_a_blank_wristband(world: World, bar: Counter) -> None:
    chip = world.chip(0)
    bar.ring(Operation.TOP_UP, 2000)
    [green] = greens(bar.hold(chip))
    assert green.balance_minor == 2000 == balance(bar, chip)


@scenario
def test_an_order_waits_is_replaced_and_is_cancelled(world: World, bar: Counter) -> None:
    bar.sale(650)
    bar.sale(500)
    assert notices(bar.cancel()) == [Notice.CANCELLED]
    assert notices(bar.cancel()) == [Notice.NOTHING_TO_CANCEL]
    assert not greens(bar.hold(world.chip(2000)))


@scenario
def test_without_an_order_a_wristband_shows_its_balance(world: World, bar: Counter) -> None:
    bar.hold(world.chip(2000))
    bar.hold(world.chip(0))
    assert [getattr(screen, "balance_minor", None) for screen in bar.screens] == [2000, 0]


@scenario
def test_answers_without_a_question_are_named_so(world: World, bar: Counter) -> None:
    bar.served()
    bar.not_served()
    bar.sale(650)
    bar.served()
    bar.not_served()
    bar.hold(world.chip(2000), torn_after=3)
    bar.served()
    bar.not_served()
    assert notices(bar.screens).count(Notice.NOTHING_TO_ANSWER) == 6


# --- Declines ---------------------------------------------------------------------------------------------------


def declined(bar: Counter, chip: Chip, amount: int) -> Decline:
    """The reason for which a sale is declined; the card must be untouched, and nothing stored or signed."""
    before, entries = list(chip.slots), len(bar.log.entries)
    bar.sale(amount)
    screens = bar.hold(chip)
    [red] = reds(screens)
    assert not greens(screens) and chip.slots == before and len(bar.log.entries) == entries and not bar.stored
    assert red.refusal.staff and red.refusal.attendee
    return red.refusal.reason


@scenario
def test_a_sale_above_the_balance_is_declined_with_both_amounts(world: World, bar: Counter) -> None:
    assert declined(bar, world.chip(600), 650) is Decline.NOT_ENOUGH_BALANCE
    assert "has EUR 6.00, needs EUR 6.50" in reds(bar.screens)[0].refusal.staff


@pytest.mark.proves("S1.4")
def test_a_sale_above_the_cap_is_declined_and_one_at_the_cap_is_not(world: World, bar: Counter) -> None:
    chip = world.chip(20_000)
    assert declined(bar, chip, 5001) is Decline.OVER_CAP
    bar.sale(5000)
    assert greens(bar.hold(chip))


def test_a_blank_wristband_must_be_topped_up_first(world: World, bar: Counter) -> None:
    assert declined(bar, world.chip(0), 650) is Decline.NO_BALANCE_YET


def test_a_bar_that_is_no_till_raises_no_balance(world: World) -> None:
    bar, chip = world.counter("bar B", Role.READER), world.chip(2000)
    bar.ring(Operation.TOP_UP, 500)
    [red] = reds(bar.hold(chip))
    assert red.refusal.reason is Decline.NOT_THIS_DEVICES_ROLE


def test_a_record_copied_to_another_chip_is_declined(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    assert declined(bar, Chip(b"another!", list(chip.slots)), 650) is Decline.OTHER_CHIP


def test_a_wristband_of_another_event_is_declined(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    world.terms = VenueTerms(b"next", bytes(16), EUR, CAP_MINOR, bytes(32))
    assert declined(bar, chip, 650) is Decline.WRONG_EVENT


def test_a_reader_without_a_venue_document_refuses_and_says_why(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    world.terms = None
    assert declined(bar, chip, 650) is Decline.NO_VENUE_DOCUMENT


def test_broken_wristbands_are_declined_by_what_is_wrong_with_them(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    assert declined(bar, Chip(chip.card, [b"\xff" * SEALED_BYTES] * 2), 650) is Decline.UNREADABLE
    assert declined(bar, Chip(chip.card, [chip.slots[0], chip.slots[0]]), 650) is Decline.SLOTS_DISAGREE
    world.keys.clear()
    assert declined(bar, chip, 650) is Decline.UNKNOWN_WRITER


@pytest.mark.proves("S1.18", "M4")
def test_a_clone_spent_at_two_bars_is_declined_at_the_third_naming_both_taps(world: World) -> None:
    chip = world.chip(2000)
    clone = chip.clone()
    apart = CardsView()
    world.fold(world._bank_log, 0, apart)
    bar, far = world.counter("bar A"), world.counter("bar C", view=apart)
    for counter, one in ((bar, chip), (far, clone)):
        counter.sale(650)
        assert greens(counter.hold(one))
    world.fold(far.log, 0)  # the courier has walked
    third = world.counter("bar D")
    assert declined(third, clone, 650) is Decline.HELD
    [red] = reds(third.screens)
    assert "bar A" in red.refusal.staff and "bar C" in red.refusal.staff and "EUR 6.50 at risk" in red.refusal.staff
    assert {tap.tap_id for tap in red.refusal.taps} == {bar.taps[0], far.taps[0]}


@pytest.mark.proves("S1.18")
def test_a_clone_and_a_rolled_back_wristband_show_an_older_state_and_are_declined(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    clone = chip.clone()
    bar.sale(650)
    bar.hold(chip)
    assert declined(bar, clone, 500) is Decline.OLDER_STATE
    assert "it was spent at EUR 6.50 at bar A" in reds(bar.screens)[-1].refusal.staff
    bar.hold(clone)
    assert reds(bar.screens)[-1].order is None


def test_a_copy_that_was_spent_where_nobody_here_has_heard_of_is_a_sibling(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    clone = chip.clone()
    apart = CardsView()
    world.fold(world._bank_log, 0, apart)
    far = world.counter("bar C", view=apart)
    far.sale(100)
    far.hold(clone)
    bar.sale(650)
    bar.hold(chip)
    assert declined(bar, clone, 500) is Decline.COPY


def test_a_wiped_wristband_does_not_start_anew(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    wiped = Chip(chip.card)
    bar.ring(Operation.TOP_UP, 500)
    [red] = reds(bar.hold(wiped))
    assert red.refusal.reason is Decline.OLDER_STATE


# --- Torn taps --------------------------------------------------------------------------------------------------


@pytest.mark.proves("B5", "S1.17")
@pytest.mark.parametrize("count", [0, 1, 41, 42, 43, 105])
def test_a_torn_tap_writes_the_identical_record_when_held_again(world: World, bar: Counter, count: int) -> None:
    chip = world.chip(2000)
    tap_id = bar.sale(650)
    assert notices(bar.hold(chip, torn_after=count)) == [Notice.HOLD_AGAIN]
    written = bar.stored[tap_id].intent.written
    [green] = greens(bar.hold(chip))
    assert green.intent.tap_id == tap_id and written in chip.slots and bar.taps == [tap_id]
    assert balance(bar, chip) == 1350


@scenario
def test_a_card_pulled_away_after_the_write_commits_when_it_is_back(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, away_after_write=True)
    [green] = greens(bar.hold(chip))
    assert green.intent.tap_id == tap_id and bar.taps == [tap_id] and green.balance_minor == 1350


@scenario
def test_a_torn_tap_is_tried_again_until_it_holds_and_debits_once(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    bar.sale(650)
    for count in (0, 50, 90):
        bar.hold(chip, torn_after=count)
    bar.hold(chip, misread=True)
    assert isinstance(bar.machine.phase, Unfinished)
    bar.hold(chip)
    assert len(bar.taps) == 1 and balance(bar, chip) == 1350


@scenario
def test_another_wristband_is_not_charged_for_an_unfinished_order(world: World, bar: Counter) -> None:
    chip, other = world.chip(2000), world.chip(3000)
    bar.sale(650)
    bar.hold(chip, torn_after=20)
    before = list(other.slots)
    assert notices(bar.hold(other)) == [Notice.ANOTHER_WRISTBAND]
    assert other.slots == before


@scenario
def test_a_cancelled_torn_tap_is_aborted_and_the_next_order_has_its_own_tap(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    first = bar.sale(650)
    bar.hold(chip, torn_after=20)
    assert notices(bar.cancel()) == [Notice.CANCELLED]
    assert bar.aborts == [first] and not bar.stored
    second = bar.sale(500)
    bar.hold(chip)
    assert bar.taps == [second] and balance(bar, chip) == 1500


@scenario
def test_a_changed_order_aborts_the_torn_tap_and_goes_on_in_one_presentation(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    first = bar.sale(650)
    bar.hold(chip, torn_after=20)
    second = bar.sale(500)
    screens = bar.hold(chip)
    assert notices(screens) == [Notice.EARLIER_ORDER_NOT_CHARGED] and greens(screens)[0].intent.tap_id == second
    assert (bar.aborts, bar.taps) == ([first], [second]) and balance(bar, chip) == 1500


@scenario
def test_a_changed_order_is_kept_when_the_torn_tap_turns_out_paid(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    first = bar.sale(650)
    bar.hold(chip, away_after_write=True)
    second = bar.sale(500)
    assert greens(bar.hold(chip))[0].intent.tap_id == first
    assert isinstance(bar.machine.phase, Armed)
    bar.hold(chip)
    assert bar.taps == [first, second] and balance(bar, chip) == 850


@pytest.mark.proves("S1.16")
@scenario
def test_the_same_order_rung_up_again_is_that_order(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    first = bar.sale(650)
    bar.hold(chip, away_after_write=True)
    bar.sale(650)
    bar.hold(chip)
    assert bar.taps == [first] and isinstance(bar.machine.phase, Idle) and balance(bar, chip) == 1350


@scenario
def test_a_changed_order_can_be_refused_after_the_abort(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    bar.sale(650)
    bar.hold(chip, torn_after=20)
    bar.sale(2500)
    assert reds(bar.hold(chip))[0].refusal.reason is Decline.NOT_ENOUGH_BALANCE
    assert isinstance(bar.machine.phase, Idle)


@scenario
def test_a_torn_tap_whose_card_was_spent_elsewhere_is_aborted_without_fault(world: World, bar: Counter) -> None:
    other, chip = world.counter("bar B"), world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, torn_after=20)
    other.sale(300)
    other.hold(chip)
    [red] = reds(bar.hold(chip))
    assert red.refusal.reason is Decline.SPENT_ELSEWHERE and bar.aborts == [tap_id]
    assert world.conflicts() == 0 and balance(bar, chip) == 1700


@scenario
def test_a_card_used_since_is_charged_if_the_goods_were_handed_out(world: World, bar: Counter) -> None:
    other, chip = world.counter("bar B"), world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, away_after_write=True)
    other.sale(300)
    other.hold(chip)
    assert notices(bar.hold(chip)) == [Notice.ASK_SERVED]
    assert notices(bar.hold(chip)) == [Notice.ASK_SERVED]
    bar.sale(100)
    assert greens(bar.served())[0].intent.tap_id == tap_id
    assert world.conflicts() == 0 and balance(bar, chip) == 1050


@pytest.mark.parametrize("answer", [Counter.not_served, Counter.cancel])
def test_a_card_used_since_is_credited_if_they_were_not(
    world: World, bar: Counter, answer: Callable[[Counter], object]
) -> None:
    other, chip = world.counter("bar B"), world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, away_after_write=True)
    other.sale(300)
    other.hold(chip)
    bar.hold(chip)
    answer(bar)
    assert bar.aborts == [tap_id] and not bar.taps and balance(bar, chip) == 1700


@scenario
def test_a_question_is_asked_for_an_earlier_order_too_and_the_new_one_waits(world: World, bar: Counter) -> None:
    other, chip = world.counter("bar B"), world.chip(2000)
    for answer in (Counter.not_served, Counter.cancel, Counter.served):
        bar.sale(200)
        bar.hold(chip, away_after_write=True)
        other.sale(100)
        other.hold(chip)
        bar.sale(150)
        assert notices(bar.hold(chip)) == [Notice.ASK_SERVED]
        answer(bar)
        assert isinstance(bar.machine.phase, Armed)
        bar.cancel()


@scenario
def test_a_card_held_since_is_not_written_again(world: World, bar: Counter) -> None:
    other, chip = world.counter("bar B"), world.chip(2000)
    clone = chip.clone()
    tap_id = bar.sale(650)
    bar.hold(chip, torn_after=20)
    other.sale(300)
    other.hold(clone)
    [red] = reds(bar.hold(chip))
    assert red.refusal.reason is Decline.OLDER_STATE and bar.aborts == [tap_id] and not bar.taps


@scenario
def test_a_card_that_does_not_say_is_never_committed_by_guess(world: World, bar: Counter) -> None:
    other, chip = world.counter("bar B"), world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, away_after_write=True)
    for _ in range(4):
        other.sale(100)
        other.hold(chip)
    assert notices(bar.hold(chip)) == [Notice.CANNOT_FOLLOW]
    assert tap_id in bar.stored and not bar.taps
    bar.sale(50)
    assert greens(bar.hold(chip))[0].intent.amount_minor == 50
    assert tap_id in bar.stored


# --- Restarts ---------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.17", "B5")
@pytest.mark.parametrize("effect", [WriteSlot, ReadBack, CommitEntry])
def test_killed_in_the_middle_and_restarted_the_tap_is_finished_once(
    world: World, bar: Counter, effect: type[WriteSlot | ReadBack | CommitEntry]
) -> None:
    chip = world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, killed_before=effect)
    assert notices(bar.restart()) == [Notice.UNFINISHED_AT_START]
    [green] = greens(bar.hold(chip))
    assert green.intent.tap_id == tap_id and bar.taps == [tap_id] and balance(bar, chip) == 1350
    assert not bar.stored


@pytest.mark.proves("S1.16")
@scenario
def test_paid_before_a_restart_is_served_and_not_debited_again(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, killed_before=Show)
    assert notices(bar.restart()) == [Notice.PAID_BEFORE_RESTART]
    [green] = greens(bar.hold(chip))
    assert green.already and bar.taps == [tap_id] and balance(bar, chip) == 1350
    assert not greens(bar.hold(chip)) and not bar.stored


@scenario
def test_paid_before_a_restart_and_rung_up_again_is_that_order(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    bar.sale(650)
    bar.hold(chip, killed_before=Show)
    bar.restart()
    bar.sale(650)
    assert greens(bar.hold(chip))[0].already and isinstance(bar.machine.phase, Idle)
    assert len(bar.taps) == 1


def test_paid_before_a_restart_is_done_when_staff_has_seen_it(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    bar.sale(650)
    bar.hold(chip, killed_before=Show)
    bar.restart()
    assert notices(bar.served()) == [Notice.PAID_SEEN]
    second = bar.sale(650)
    assert greens(bar.hold(chip))[0].intent.tap_id == second and balance(bar, chip) == 700


def test_green_seen_but_not_forgotten_before_the_power_went_is_said_again_and_costs_nothing(
    world: World, bar: Counter
) -> None:
    chip = world.chip(2000)
    bar.sale(650)
    assert greens(bar.hold(chip, killed_before=DropIntent))
    bar.restart()
    assert greens(bar.hold(chip))[0].already and balance(bar, chip) == 1350


def test_an_abort_cut_off_by_a_kill_leaves_the_tap_open(world: World, bar: Counter) -> None:
    chip = world.chip(2000)
    tap_id = bar.sale(650)
    bar.hold(chip, killed_before=WriteSlot)
    bar.restart()
    assert notices(bar.cancel()) == [Notice.CANCELLED]
    assert bar.aborts == [tap_id] and notices(bar.restart()) == []


@scenario
def test_of_several_open_taps_each_waits_for_its_own_card(world: World, bar: Counter) -> None:
    first, second = world.chip(2000), world.chip(3000)
    one = bar.sale(650)
    bar.hold(first, away_after_write=True)
    two = bar.sale(500)
    bar.hold(second, torn_after=30)
    bar.restart()
    assert notices(bar.hold(first)) == [Notice.ANOTHER_WRISTBAND]
    assert greens(bar.hold(second))[0].intent.tap_id == two
    assert greens(bar.hold(first))[0].intent.tap_id == one
    assert bar.taps == [two, one] and not bar.stored


@scenario
def test_without_an_order_open_taps_are_settled_by_what_their_card_shows(world: World, bar: Counter) -> None:
    other, last = world.counter("bar B"), world.chip(5000)
    chips = [world.chip(2000) for _ in range(3)]
    for chip, written in zip(chips, (False, True, True), strict=True):
        bar.sale(650)
        bar.hold(chip, away_after_write=written, torn_after=None if written else 30)
    bar.sale(100)
    bar.hold(last)
    assert isinstance(bar.machine.phase, Idle)
    other.sale(100)
    other.hold(chips[2])
    assert notices(bar.hold(chips[0])) == [Notice.EARLIER_ORDER_NOT_CHARGED]
    assert greens(bar.hold(chips[1]))
    assert notices(bar.hold(chips[2])) == [Notice.ASK_SERVED]


def test_an_intent_survives_its_store(world: World, bar: Counter) -> None:
    tap_id = bar.sale(650)
    bar.hold(world.chip(2000), torn_after=1)
    intent = bar.stored[tap_id].intent
    assert decode_intent(intent.encode()) == intent


def test_what_was_not_asked_for_is_out_of_place_and_changes_nothing(bar: Counter) -> None:
    before = bar.machine
    for event in (CommitDurable(), GreenShown(), SlotWritten()):
        with pytest.raises(OutOfPlace):
            bar.step(event)
    assert bar.machine == before


def test_the_scenarios_walk_every_edge_of_the_table_and_no_other() -> None:
    walked: set[tuple[type, type, type]] = set()
    for one in SCENARIOS:
        world = World()
        bar = world.counter("bar A")
        one(world, bar)
        walked |= bar.edges
    table = {(phase, event, after) for phase, row in TABLE.items() for event, nexts in row.items() for after in nexts}
    missing = sorted(" ".join(kind.__name__ for kind in edge) for edge in table - walked)
    assert not missing
    assert walked <= table
