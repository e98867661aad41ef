"""What must be true of a simulated venue after an evening, and how long it may take until it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

import trio

from mesh.testing.shell_board import Board
from mesh.testing.shell_checks import (
    CONFLICTS_SURFACE,
    FAULTS_HAPPEN,
    GREEN_IS_COUNTED,
    HONEST_IS_SERVED,
    LIVENESS,
    SAME_BYTES,
    Sale,
    aborted_writes,
    cards_seen_sold_twice,
    cards_sold_twice,
    check_money,
    check_same_views,
    check_shown,
    paid_after_restart,
    require,
    sales_seen,
    whole_logs,
)
from mesh.testing.shell_counter import Band
from mesh.testing.shell_people import Result, hold, sale, visit
from mesh.testing.shell_wire import Air
from mesh.testing.trace import Trace
from mesh.views.card_record import record_hash
from reader.card import SlotState, card_id, open_slot
from reader.risk import Decline
from reader.tap_events import Balance, Red, Screen

LIVENESS_S_MAX: Final = 180.0
"""Of virtual time, until everybody holds the same: restarts of 20 s and retries of 10 s are in it."""
LOOK_S: Final = 0.5
HONEST_DECLINES: Final = frozenset({Decline.SPENT_ELSEWHERE, Decline.NOT_ENOUGH_BALANCE})
"""Why an honest guest may be told no."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened in a run that broke no rule."""

    seed: int
    trace_hash: str
    """32 hexadecimal digits over (virtual time, device, what happened) of everything that happened."""
    devices: int
    virtual_s: float
    entries: int
    greens: int
    tears: int
    power_cuts: int
    resets: int
    streams: int
    conflicts: int
    looks: int
    """How often what was shown was compared with what the disk would hold."""


class Reckoning:
    """Looks at all devices of one venue together; the first of `boards` is the office."""

    def __init__(self, seed: int, boards: Sequence[Board], air: Air, trace: Trace, card_id_key: bytes) -> None:
        self._seed, self._boards, self._air, self._trace = seed, boards, air, trace
        self._bars = [board for board in boards if board.sells]
        self._card_id_key = card_id_key
        self._chance = random.Random(f"{seed}/reckoning")

    async def third_tap_is_declined(self, band: Band) -> None:
        """Whoever sells to a wristband that was spent twice says no, and why."""
        card = card_id(self._card_id_key, band.image.uid, band.image.serial)
        if card not in cards_seen_sold_twice(self._seen()):
            return
        for bar in self._bars:
            since = len(self._screens(bar))
            found = await visit(bar, band, sale(100), self._chance)
            reds = [screen.refusal.reason for screen in self._screens(bar)[since:] if isinstance(screen, Red)]
            require(
                found is Result.DECLINED and Decline.HELD in reds,
                CONFLICTS_SURFACE,
                f"{bar.name} sells to a wristband that was spent twice ({found.name}, {reds})",
            )

    async def wristband_shows_what_is_left(self, band: Band) -> None:
        """An honest guest's wristband is as good as before, and shows what the venue's ledger says is left."""
        bar = self._bars[0]
        card = card_id(self._card_id_key, band.image.uid, band.image.serial)
        screen = await hold(bar, band)
        require(isinstance(screen, Balance), HONEST_IS_SERVED, f"{band.name} ends as {screen}")
        assert isinstance(screen, Balance)
        left_minor = bar.opened.cards.account(card).balance_minor
        given_up_minor = await self._given_up_minor(band)
        require(
            screen.balance_minor == left_minor - given_up_minor,
            GREEN_IS_COUNTED,
            f"{band.name} shows {screen.balance_minor}, the ledger says {left_minor}, {given_up_minor} were given up",
        )
        reds = [red.refusal.reason for one in self._bars for red in self._screens(one) if _is_red(red, card)]
        require(not set(reds) - HONEST_DECLINES, HONEST_IS_SERVED, f"{band.name} was declined: {reds}")

    async def _given_up_minor(self, band: Band) -> int:
        """What was written to a wristband by taps that were aborted afterwards, or whose end nobody knows."""
        device = self._boards[0].opened
        records = {
            record_hash(slot.record.encode()): slot.record
            for data in band.slots()
            if (slot := open_slot(data, device.devices.sealing_keys)).state is SlotState.VALID and slot.record
        }
        ended = aborted_writes(await whole_logs(device))
        for bar in self._bars:
            assert bar.terminal is not None
            ended |= {record_hash(one.intent.written) for one in bar.terminal.machine.open if not one.committed}
        before = {digest[:8]: record.balance for digest, record in records.items()}
        return sum(before[record.parent] - record.balance for digest, record in records.items() if digest in ended)

    @staticmethod
    def _screens(bar: Board) -> list[Screen]:
        return [*bar.screens, *(bar.counter.screens if bar.counter else ())]

    def _seen(self) -> dict[bytes, Sale]:
        return {tap_id: sale for bar in self._bars for tap_id, sale in sales_seen(self._screens(bar)).items()}

    def tears(self) -> int:
        return sum(bar.tears + (bar.counter.tears if bar.counter else 0) for bar in self._bars)

    async def until_equal(self) -> None:
        """Everybody is up, holds the same, has verified it, and has told its people of every conflict; or too late."""
        twice = cards_seen_sold_twice(self._seen())
        why = "nobody was asked"
        with trio.move_on_after(LIVENESS_S_MAX):
            while True:
                why = self._what_is_missing(twice)
                if not why:
                    return
                await trio.sleep(LOOK_S)
        require(False, LIVENESS, f"after {LIVENESS_S_MAX:.0f} s {why}")

    def _what_is_missing(self, twice: set[bytes]) -> str:
        digests: set[bytes] = set()
        for board in self._boards:
            device = board.device
            if device is None or not board.machine.is_on:
                return f"{board.name} is not up"
            if device.node.pending_logs or device.verifier.pending:
                return f"{board.name} misses {device.node.pending_logs} logs, {device.verifier.pending} signatures"
            if not twice <= board.surfaced:
                return f"{board.name} has told nobody of {len(twice - board.surfaced)} conflicts"
            if board.sells and device.venue.document() is None:
                return f"{board.name} has no venue document"
            digests.add(device.node.frontier.digest())
        return "" if len(digests) == 1 else f"there are {len(digests)} different sets of logs"

    async def check(self) -> Outcome:
        devices = [board.opened for board in self._boards]
        all_logs = [await whole_logs(device) for device in devices]
        logs = all_logs[0]
        for device, other in zip(devices, all_logs, strict=True):
            require(other == logs, SAME_BYTES, f"{device.certificate.name} holds other bytes")
            check_same_views(devices[0], device)
        check_shown(logs, [board.watch for board in self._boards])
        seen = self._seen()
        paid = {tap_id: what for bar in self._bars for tap_id, what in paid_after_restart(self._screens(bar)).items()}
        check_money(devices[0], seen, paid)
        twice = cards_sold_twice(logs)
        require({conflict.card for conflict in devices[0].cards.all_conflicts()} == twice, CONFLICTS_SURFACE, "others")
        for board in self._boards:
            require(board.surfaced == twice, CONFLICTS_SURFACE, f"{board.name} tells of {len(board.surfaced)}")
        outcome = Outcome(
            seed=self._seed,
            trace_hash=self._trace.hash,
            devices=len(devices),
            virtual_s=round(trio.current_time(), 3),
            entries=sum(map(len, logs.values())),
            greens=len(seen),
            tears=self.tears(),
            power_cuts=sum(board.machine.power_cuts for board in self._boards),
            resets=self._air.resets,
            streams=self._air.streams,
            conflicts=len(twice),
            looks=sum(board.watch.looks for board in self._boards),
        )
        faults = (outcome.tears, outcome.power_cuts, outcome.resets, outcome.conflicts)
        require(all(faults), FAULTS_HAPPEN, f"tears, power cuts, resets, conflicts: {faults}")
        return outcome


def _is_red(screen: Screen, card: bytes) -> TypeGuard[Red]:
    return isinstance(screen, Red) and screen.card == card
