"""People at the counters of a simulated venue: staff that rings up and answers, guests that pull away and come back.

Nobody here decides about money. A visit is what both can see: an order, a wristband held for a while, and a screen that
says what to do next.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import trio

from mesh.core.kinds import Operation
from mesh.testing.shell_board import Board
from mesh.testing.shell_counter import Band, Pull
from reader.tap_events import Amber, Balance, Cancel, Green, Notice, Red, Screen, Served
from reader.tap_phases import Armed
from reader.terminal import Ring

VERDICT_S: Final = 4.0
AWAY_S: Final = 0.8
"""Long enough for two polls, so that the terminal notices that a wristband is gone."""
PATIENCE_S: Final = 60.0
"""How long somebody waits for a bar that has no power."""
TRIES_MAX: Final = 6
GIVES_UP: Final = 0.15
"""Share of unfinished taps from which the guest walks away, and of those that staff cancels."""


class Result(Enum):
    """How a visit ended, as the guest saw it."""

    PAID = auto()
    DECLINED = auto()
    LEFT = auto()
    """Without an answer, or with an unfinished tap."""


class _Step(Enum):
    AGAIN = auto()


async def visit(
    board: Board,
    band: Band,
    order: Ring,
    chance: random.Random,
    *,
    pull: Pull | None = None,
    cut_after_operations: int | None = None,
    gives_up: float = GIVES_UP,
) -> Result:
    """One order at one bar; `gives_up` is how likely a guest walks away from an unfinished tap, and staff cancels it.

    `cut_after_operations` takes the bar's power in mid-tap: at the so manieth operation of its disk after the wristband
    was put down.
    """
    async with board.queue:
        if not await board.up(PATIENCE_S):
            return Result.LEFT
        await _ring(board, order)
        for attempt in range(TRIES_MAX):
            if not await board.up(PATIENCE_S):
                return Result.LEFT
            if attempt == 0 and cut_after_operations is not None:
                board.machine.cut_power_soon(cut_after_operations)
            screen = await hold(board, band, pull if attempt == 0 else None)
            found = _judge(board, screen, chance.random(), gives_up)
            if isinstance(found, Result):
                return found
        board.command(Cancel())
        return Result.LEFT


async def _ring(board: Board, order: Ring) -> None:
    """Ring an order up and wait until the screen answers: a wristband that comes first is only looked at."""
    counter = board.counter
    if counter is not None:
        since = len(counter.screens)
        board.command(order)
        await counter.answer(since, VERDICT_S)


async def hold(board: Board, band: Band, pull: Pull | None = None) -> Screen | None:
    """Hold a wristband until the screen says something; None if it says nothing, or has no power."""
    counter = board.counter
    if counter is None:
        return None
    since = len(counter.screens)
    counter.hold(band, pull)
    screen = await counter.verdict(since, VERDICT_S)
    counter.take_away()
    await trio.sleep(AWAY_S)
    return screen


def _judge(board: Board, screen: Screen | None, mood: float, gives_up: float) -> Result | _Step:
    match screen:
        case Green():
            return Result.PAID
        case Red():
            return Result.DECLINED
        case Balance():
            # No order is left: it was lost with the power, before anything was durable.
            return Result.LEFT
        case Amber(notice=Notice.ASK_SERVED):
            board.command(Served())
        case Amber(notice=Notice.CANNOT_FOLLOW | Notice.ANOTHER_WRISTBAND):
            board.command(Cancel())
            return Result.LEFT
        case Amber(notice=Notice.HOLD_AGAIN | Notice.UNFINISHED_AT_START):
            if mood < gives_up:
                return Result.LEFT
            if mood < 2 * gives_up:
                board.command(Cancel())
                return Result.LEFT
        case _:
            pass
    return _Step.AGAIN


async def settle(board: Board, bands: Sequence[Band]) -> None:
    """After closing time: every wristband comes back to this bar, until the bar has no question left open."""
    async with board.queue:
        # Twice: an order that one wristband answers may stand before the question that another one does.
        for band in [*bands, *bands]:
            await _ask(board, band)
        # What no wristband answered: an order that is given up, and the light that a power cut swallowed.
        board.command(Cancel())
        board.command(Served())
        await trio.sleep(AWAY_S)


async def _ask(board: Board, band: Band) -> None:
    """Hold a wristband until the bar has nothing to ask about it."""
    for _ in range(TRIES_MAX):
        is_up = await board.up(PATIENCE_S)
        assert is_up and board.terminal is not None, "a board is up within a minute"
        if isinstance(board.terminal.machine.phase, Armed):
            board.command(Cancel())
            await trio.sleep(AWAY_S)
        screen = await hold(board, band)
        if isinstance(screen, Amber) and screen.notice is Notice.ASK_SERVED:
            board.command(Served())
            await trio.sleep(AWAY_S)
        elif not isinstance(screen, Green):
            break


def sale(amount_minor: int) -> Ring:
    return Ring(Operation.SALE, amount_minor)


def top_up(amount_minor: int) -> Ring:
    return Ring(Operation.TOP_UP, amount_minor)
