"""One evening of a simulated venue, as its seed has it: who is there, what happens, what must be true at the end."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeGuard

import trio

from mesh.core.kinds import Kind, Lane, Role
from mesh.shell.device import Device
from mesh.testing.disk import simulated_disk
from mesh.testing.shell_board import Board
from mesh.testing.shell_checks import (
    CONFLICTS_SURFACE,
    FAULTS_HAPPEN,
    GREEN_IS_COUNTED,
    HONEST_IS_SERVED,
    LIVENESS,
    SAME_BYTES,
    Sale,
    Watch,
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
from mesh.testing.shell_counter import Band, Pull
from mesh.testing.shell_machine import Machine
from mesh.testing.shell_people import Result, hold, sale, settle, top_up, visit
from mesh.testing.shell_wire import Air
from mesh.testing.trace import Trace
from mesh.testing.venue import Venue, VenueDevice, seed_of
from mesh.views.automerge_document import DocumentFields, first_document
from mesh.views.card_record import record_hash
from reader.card import SlotState, card_id, open_slot
from reader.chips.image import blank_image
from reader.risk import Decline
from reader.tap_events import Balance, Red, Screen

SELLERS: Final = (
    ("till", (Role.TILL, Role.READER)),
    ("bar A", (Role.READER,)),
    ("bar B", (Role.READER,)),
    ("bar C", (Role.READER,)),
)
NORTH: Final = "north"
SOUTH: Final = "south"
HONEST: Final = 5
"""Wristbands of guests who cheat nobody; two more are cheats'."""
START_MINOR: Final = 10_000
CAP_MINOR: Final = 5_000
LIVENESS_S_MAX: Final = 180.0
"""Of virtual time, until everybody holds the same: restarts of 20 s and retries of 10 s are in it."""
LOOK_S: Final = 0.5
CUT_OPERATIONS_MAX: Final = 24
"""A tap takes about so many operations of the disk."""
CUTS_TRIED_MAX: Final = 5
CLONE_TRIES_MAX: Final = 8
TEARS_TRIED_MAX: Final = 5
TORN_SHARE: Final = 0.35
RESET_SHARE: Final = 0.3
HONEST_DECLINES: Final = frozenset({Decline.SPENT_ELSEWHERE, Decline.NOT_ENOUGH_BALANCE})


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


class Evening:
    """The devices, the wristbands, and the order of events of one seed."""

    def __init__(self, seed: int, directory: Path, open_things: ExitStack, trace: Trace) -> None:
        self._seed = seed
        self._chance = random.Random(f"{seed}/evening")
        self._trace = trace
        self._air = Air(seed)
        self._fields = DocumentFields(
            name=f"Simulated {seed}",
            currency="EUR",
            exponent=2,
            zones=(NORTH, SOUTH),
            per_tap_cap_minor=CAP_MINOR,
            event=seed_of(seed, "event")[:4],
            card_id_key=seed_of(seed, "ids")[:16],
        )
        self._scratch = open_things.enter_context(simulated_disk())
        venue = Venue(f"simulated {seed}")
        count = self._chance.randint(2, len(SELLERS))
        two_zones = count > 2 and self._chance.random() < 0.5
        enrolled = [venue.device(name, *roles) for name, roles in SELLERS[:count]]
        office = venue.device("office", Role.MANAGER, Role.COURIER)
        self._certificates = [device.certificate.der for device in [*enrolled, office]]
        self._office = self._board(office, directory, open_things, NORTH, sells=False)
        self._bars = [
            self._board(device, directory, open_things, SOUTH if two_zones and number % 2 else NORTH, sells=True)
            for number, device in enumerate(enrolled)
        ]
        self._boards = [self._office, *self._bars]
        self._bands = [self._band(number) for number in range(HONEST + 2)]

    def _board(
        self, enrolled: VenueDevice, directory: Path, open_things: ExitStack, zone: str, *, sells: bool
    ) -> Board:
        name = enrolled.certificate.name
        place, scratch = enrolled.write_directory(directory / name), directory / f"{name} seen"
        scratch.mkdir()
        vfs = open_things.enter_context(simulated_disk())
        machine = Machine(self._seed, enrolled.certificate, place, vfs, self._trace)
        chance = random.Random(f"{self._seed}/{name}/counter")
        return Board(machine, self._air, Watch(machine, self._scratch, scratch), zone, sells=sells, chance=chance)

    def _band(self, number: int) -> Band:
        return Band(f"band {number}", blank_image(seed_of(self._seed, "band", number)[:8]))

    # -- The evening -----------------------------------------------------------------------------------------------

    async def play(self) -> Outcome:
        async with trio.open_nursery() as nursery:
            for board in self._boards:
                nursery.start_soon(board.run)
            await self._before_doors()
            clone = await self._trouble()
            self._air.heal()
            for bar in self._bars:
                await settle(bar, [*self._bands, clone])
            await self._until_equal()
            for band in self._bands[:HONEST]:
                await self._wristband_shows_what_is_left(band)
            for band in [*self._bands, clone]:
                await self._third_tap_is_declined(band)
            await self._until_equal()
            outcome = await self._check()
            nursery.cancel_scope.cancel()
        return outcome

    async def _before_doors(self) -> None:
        """The office publishes the venue; the till fills every wristband; everybody hears of both."""
        assert await self._office.up(LIVENESS_S_MAX)
        device = _device(self._office)
        log_id = await device.open_lane(Lane.CONTROL)
        await device.append(Lane.CONTROL, Kind.VENUE_CHANGE, first_document(log_id, self._fields))
        for der in self._certificates:
            await device.append(Lane.CONTROL, Kind.DEVICE, der)
        await self._until_equal()
        # As over night. A clean end syncs what others sent; a power cut takes a bar back to it, not to nothing.
        for board in self._boards:
            board.restart()
        await self._until_equal()
        for band in self._bands:
            assert await visit(self._bars[0], band, top_up(START_MINOR), self._chance) is Result.PAID
        await self._until_equal()

    async def _trouble(self) -> Band:
        """Streams are reset, devices are apart, a bar loses its power; meanwhile guests buy. Returns the clone."""
        honest, (cheat, copied) = self._bands[:HONEST], self._bands[HONEST:]
        clone = copied.clone("clone")
        self._air.trouble = True
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reset_streams, done)
            async with trio.open_nursery() as people:
                for band in honest[1:]:
                    people.start_soon(self._guest, band)
                people.start_soon(self._power_cut, honest[0])
                people.start_soon(self._roll_back, cheat)
                people.start_soon(self._clone, copied, clone)
            await self._tear(honest[1])
            done.set()
            nursery.cancel_scope.cancel()
        return clone

    async def _guest(self, band: Band) -> None:
        chance = random.Random(f"{self._seed}/{band.name}")
        for _ in range(chance.randint(3, 5)):
            await trio.sleep(chance.uniform(0.0, 15.0))
            pull = chance.choice([Pull.READING, Pull.WRITING, Pull.WRITING, Pull.READING_BACK])
            torn = chance.random() < TORN_SHARE
            bar = chance.choice(self._bars)
            await visit(bar, band, sale(chance.randint(50, 900)), chance, pull=pull if torn else None)

    async def _power_cut(self, band: Band) -> None:
        """A bar loses its power in mid-tap: before some operation of its disk, or while the wristband is written."""
        chance = random.Random(f"{self._seed}/power")
        most, cuts = CUT_OPERATIONS_MAX, chance.randint(1, 2)
        for _ in range(CUTS_TRIED_MAX):
            await trio.sleep(chance.uniform(1.0, 15.0))
            bar, order = chance.choice(self._bars), sale(chance.randint(50, 900))
            if chance.random() < 0.3:
                await visit(bar, band, order, chance, pull=Pull.WRITING_WITHOUT_POWER)
            else:
                await visit(bar, band, order, chance, cut_after_operations=chance.randint(1, most))
                bar.machine.disk.cut_at = None
                most = max(1, most // 2)
            if sum(board.machine.power_cuts for board in self._boards) >= cuts:
                break

    async def _roll_back(self, band: Band) -> None:
        """Somebody spends, puts an older state back onto the wristband, and spends at another bar; or tries to."""
        chance = random.Random(f"{self._seed}/{band.name}")
        for _ in range(2):
            await trio.sleep(chance.uniform(0.0, 15.0))
            earlier = band.image.memory
            await visit(chance.choice(self._bars), band, sale(chance.randint(50, 900)), chance)
            band.image = replace(band.image, memory=earlier)
            await trio.sleep(chance.uniform(0.0, 3.0))
            await visit(chance.choice(self._bars), band, sale(chance.randint(50, 900)), chance)

    async def _tear(self, band: Band) -> None:
        """Where no wristband was pulled away by chance, one is."""
        for _ in range(TEARS_TRIED_MAX):
            if self._tears():
                break
            await visit(self._bars[0], band, sale(100), self._chance, pull=Pull.WRITING)

    async def _clone(self, copied: Band, clone: Band) -> None:
        """One state of a wristband is spent at two bars that cannot hear of each other."""
        chance = random.Random(f"{self._seed}/clone")
        await trio.sleep(chance.uniform(5.0, 20.0))
        one, other = chance.sample(self._bars, 2)
        others = [board.name for board in self._boards if board not in {one, other}]
        near = [name for name in others if chance.random() < 0.5]
        self._air.split([[one.name, *near], [other.name, *(name for name in others if name not in near)]])
        for bar, band in ((one, copied), (other, clone)):
            for _ in range(CLONE_TRIES_MAX):
                if await visit(bar, band, sale(chance.randint(50, 900)), chance, gives_up=0.0) is Result.PAID:
                    break
        await trio.sleep(chance.uniform(5.0, 20.0))
        self._air.split([])

    async def _reset_streams(self, done: trio.Event) -> None:
        while not done.is_set():
            await trio.sleep(self._chance.uniform(3.0, 12.0))
            self._air.reset_some(RESET_SHARE)

    async def _third_tap_is_declined(self, band: Band) -> None:
        """Whoever sells to a wristband that was spent twice says no, and why."""
        card = card_id(self._fields.card_id_key, band.image.uid, band.image.serial)
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

    async def _wristband_shows_what_is_left(self, band: Band) -> None:
        """An honest guest's wristband is as good as before, and shows what the venue's ledger says is left."""
        bar = self._bars[0]
        card = card_id(self._fields.card_id_key, band.image.uid, band.image.serial)
        screen = await hold(bar, band)
        require(isinstance(screen, Balance), HONEST_IS_SERVED, f"{band.name} ends as {screen}")
        assert isinstance(screen, Balance)
        left_minor = _device(bar).cards.account(card).balance_minor
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
        device = _device(self._office)
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

    # -- What is there ---------------------------------------------------------------------------------------------

    @staticmethod
    def _screens(bar: Board) -> list[Screen]:
        return [*bar.screens, *(bar.counter.screens if bar.counter else ())]

    def _seen(self) -> dict[bytes, Sale]:
        return {tap_id: sale for bar in self._bars for tap_id, sale in sales_seen(self._screens(bar)).items()}

    def _tears(self) -> int:
        return sum(bar.tears + (bar.counter.tears if bar.counter else 0) for bar in self._bars)

    async def _until_equal(self) -> None:
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

    async def _check(self) -> Outcome:
        devices = [_device(board) for board in self._boards]
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
            tears=self._tears(),
            power_cuts=sum(board.machine.power_cuts for board in self._boards),
            resets=self._air.resets,
            streams=self._air.streams,
            conflicts=len(twice),
            looks=sum(board.watch.looks for board in self._boards),
        )
        faults = (outcome.tears, outcome.power_cuts, outcome.resets, outcome.conflicts)
        require(all(faults), FAULTS_HAPPEN, f"tears, power cuts, resets, conflicts: {faults}")
        return outcome


def _device(board: Board) -> Device:
    assert board.device is not None, f"{board.name} is not up"
    return board.device


def _is_red(screen: Screen, card: bytes) -> TypeGuard[Red]:
    return isinstance(screen, Red) and screen.card == card
