"""The tap under everything that can go wrong, in any order: what must hold at every counter, always."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.views.card_record import SEALED_BYTES
from reader.card import Blank, Shown, read_card
from reader.tap import OutOfPlace, handle, start
from reader.tap_events import (
    AbortDurable,
    AbortEntry,
    Arm,
    Cancel,
    CardLost,
    CommitDurable,
    CommitEntry,
    DropIntent,
    Effect,
    Event,
    Green,
    GreenShown,
    NotServed,
    ReadBack,
    Served,
    Show,
    SlotRead,
    SlotWritten,
    StoreIntent,
    WriteSlot,
)
from tests.counter import Chip, Counter, World, greens

Action = tuple[str, int, int, int]
EFFECTS: Final[list[type[Effect]]] = [StoreIntent, WriteSlot, ReadBack, CommitEntry, AbortEntry, DropIntent, Show]

ACTIONS: Final[dict[str, Callable[[Counter, Chip, int], object]]] = {
    "sale": lambda bar, chip, number: bar.sale(1 + number % 900),
    "hold": lambda bar, chip, number: bar.hold(chip),
    "torn": lambda bar, chip, number: bar.hold(chip, torn_after=number % SEALED_BYTES),
    "away": lambda bar, chip, number: bar.hold(chip, away_after_write=True),
    "misread": lambda bar, chip, number: bar.hold(chip, misread=True),
    "killed": lambda bar, chip, number: (
        bar.hold(chip, killed_before=EFFECTS[number % len(EFFECTS)]),
        bar.restart(),
    ),
    "restart": lambda bar, chip, number: bar.restart(),
    "cancel": lambda bar, chip, number: bar.cancel(),
    "served": lambda bar, chip, number: bar.served(),
    "not served": lambda bar, chip, number: bar.not_served(),
}

STORIES: Final = st.lists(
    st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 1), st.integers(0, 1), st.integers(0, 10_000)),
    max_size=30,
)


def play(story: list[Action]) -> tuple[World, list[Counter], list[Chip]]:
    world = World()
    bars = [world.counter("bar A"), world.counter("bar B")]
    chips = [world.chip(5000), world.chip(800)]
    for action, bar, chip, number in story:
        ACTIONS[action](bars[bar], chips[chip], number)
    return world, bars, chips


@pytest.mark.proves("S1.16", "S1.17")
@given(STORIES)
def test_one_tap_id_debits_once_and_green_comes_after_its_entry(story: list[Action]) -> None:
    _, bars, _ = play(story)  # Counter asserts, at every green, that the TAP entry is there
    for bar in bars:
        assert all(count == 1 for count in Tally(bar.taps).values())
        assert all(count == 1 for count in Tally(bar.aborts).values())
        assert not set(bar.taps) & set(bar.aborts)
        charged = [green.intent.tap_id for green in greens(bar.screens) if not green.already]
        assert set(charged) <= set(bar.taps) and len(charged) == len(set(charged))


@given(STORIES)
def test_honest_wristbands_are_never_in_conflict_and_never_unreadable(story: list[Action]) -> None:
    world, _, chips = play(story)
    assert world.conflicts() == 0
    for chip in chips:
        assert isinstance(read_card((chip.slots[0], chip.slots[1]), world.keys_by_id), Shown | Blank)


@pytest.mark.proves("S1.20")
@given(STORIES)
def test_a_guest_never_has_less_in_the_ledger_than_on_the_wristband(story: list[Action]) -> None:
    world, _, chips = play(story)
    for chip in chips:
        view = read_card((chip.slots[0], chip.slots[1]), world.keys_by_id)
        on_card = view.record.balance if isinstance(view, Shown) else 0
        assert world.view.account(chip.card).balance_minor >= on_card


@given(STORIES)
def test_when_all_is_settled_ledger_wristband_and_greens_agree(story: list[Action]) -> None:
    """Nothing aborted and nothing open: the ledger, the wristband and the green lights say the same."""
    world, bars, chips = play([step for step in story if step[0] in {"sale", "hold", "torn", "away"}])
    for chip in chips:
        for bar in bars:
            bar.hold(chip)
    if any(bar.stored or bar.aborts for bar in bars):
        return
    for chip, put_on in zip(chips, (5000, 800), strict=True):
        view = read_card((chip.slots[0], chip.slots[1]), world.keys_by_id)
        assert isinstance(view, Shown)
        shown = [green.intent for bar in bars for green in greens(bar.screens) if green.intent.card == chip.card]
        assert view.record.balance == put_on - sum(intent.amount_minor for intent in shown)
        assert world.view.account(chip.card).balance_minor == view.record.balance


@given(data=st.data(), length=st.integers(1, 25))
def test_whatever_events_come_green_follows_only_a_durable_commit(data: st.DataObject, length: int) -> None:
    """Events in any order, answered or not: those out of place are refused and change nothing."""
    world = World()
    bar, chip = world.counter("bar A"), world.chip(2000)
    machine, _ = start(())
    around = bar.around()
    asked: list[Effect] = []
    committed = False
    for number in range(length):
        drafts = [effect.draft for effect in asked if isinstance(effect, StoreIntent)]
        written = [effect.data for effect in asked if isinstance(effect, WriteSlot)]
        events: list[Event] = [
            Arm(bar.basket(650, number)),
            bar.card_read(chip),
            *(bar.intent_durable(draft) for draft in drafts[-1:]),
            *(SlotRead(one) for one in written[-1:]),
            SlotRead(bytes(SEALED_BYTES)),
            *(SlotWritten(), CardLost(), CommitDurable(), AbortDurable(), GreenShown()),
            *(Cancel(), Served(), NotServed()),
        ]
        event = data.draw(st.sampled_from(events))
        before = machine
        try:
            machine, effects = handle(machine, event, around)
        except OutOfPlace:
            assert machine is before
            continue
        if any(isinstance(effect, Show) and isinstance(effect.screen, Green) for effect in effects):
            assert isinstance(event, CommitDurable) and committed
        committed = any(isinstance(effect, CommitEntry) for effect in effects) or (
            committed and not isinstance(event, CommitDurable)
        )
        asked += effects
