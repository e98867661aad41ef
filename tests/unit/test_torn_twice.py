"""A wristband pulled away from two bars, one after the other, in the middle of their writes over one record.

The idle slot may then hold the beginning of one record and the end of another: with a reader's key id from both, and
the parent that both have, it looks like the next record of a writer whom nobody knows. Found by a seed of the
simulated shell.
"""

from __future__ import annotations

import pytest

from mesh.core.kinds import Operation
from mesh.views.card_record import SEALED_BYTES
from reader.card import Blank, Shown
from tests.counter import Chip, Counter, World, greens

FIRST_TEARS = (34, 42, 60, 98)
"""Bytes of the first bar's write: in its record, behind it, in its seal."""
SECOND_TEARS = range(2 * SEALED_BYTES - 8)
"""Of the second bar's, those of the erasing before it included. Not the last of all: a seal may end in zeros, and is
whole over zeros without them."""


def require_in_order(bar: Counter, chip: Chip, kind: type[Blank | Shown], torn_after: int) -> None:
    view = bar.presented(chip).view
    assert isinstance(view, kind), f"torn after {torn_after} bytes, an honest wristband ends as {view}"


@pytest.mark.parametrize("before", FIRST_TEARS)
def test_wristband_torn_at_two_bars_is_served_at_the_next(before: int) -> None:
    world = World()
    one, other, third = (world.counter(name) for name in ("bar A", "bar B", "bar C"))
    for torn_after in SECOND_TEARS:
        chip = world.chip(2000)
        for bar, amount, count in ((one, 300, before), (other, 400, torn_after)):
            bar.sale(amount)
            assert not greens(bar.hold(chip, torn_after=count))
            bar.cancel()
        require_in_order(third, chip, Shown, torn_after)
        third.sale(500)
        [green] = greens(third.hold(chip))
        assert green.balance_minor == 1500


@pytest.mark.parametrize("before", FIRST_TEARS)
def test_new_wristband_torn_at_two_tills_is_filled_at_the_next(before: int) -> None:
    world = World()
    one, other, third = (world.counter(name) for name in ("till A", "till B", "till C"))
    for torn_after in SECOND_TEARS:
        chip = world.chip(0)
        for till, amount, count in ((one, 300, before), (other, 400, torn_after)):
            till.ring(Operation.TOP_UP, amount)
            assert not greens(till.hold(chip, torn_after=count))
            till.cancel()
        require_in_order(third, chip, Blank, torn_after)
        third.ring(Operation.TOP_UP, 500)
        [green] = greens(third.hold(chip))
        assert green.balance_minor == 500


def test_tap_that_was_torn_is_finished_at_its_own_bar_over_what_another_tear_left() -> None:
    world = World()
    one, other = world.counter("bar A"), world.counter("bar B")
    for torn_after in SECOND_TEARS:
        chip = world.chip(2000)
        one.sale(300)
        one.hold(chip, torn_after=60)
        one.cancel()
        other.sale(400)
        other.hold(chip, torn_after=torn_after)
        [green] = greens(other.hold(chip))
        assert green.balance_minor == 1600


def test_only_after_a_tear_is_a_slot_erased_first() -> None:
    world = World()
    bar, chip = world.counter("bar A"), world.chip(2000)
    for _ in range(4):
        bar.sale(100)
        bar.hold(chip)
    assert chip.erased == 0
    bar.sale(100)
    bar.hold(chip, torn_after=60)
    assert chip.erased == 0
    assert greens(bar.hold(chip)) and chip.erased == 1
