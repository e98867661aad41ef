"""One evening of a simulated venue, as its seed has it: who is there, and what happens to them."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from mesh.core.kinds import Kind, Lane, Role
from mesh.testing.disk import simulated_disk
from mesh.testing.shell_board import Board
from mesh.testing.shell_checks import Watch
from mesh.testing.shell_counter import Band, Pull
from mesh.testing.shell_machine import Machine
from mesh.testing.shell_people import Result, sale, settle, top_up, visit
from mesh.testing.shell_reckoning import LIVENESS_S_MAX, Outcome, Reckoning
from mesh.testing.shell_wire import Air
from mesh.testing.trace import Trace
from mesh.testing.venue import Venue, VenueDevice, seed_of
from mesh.views.automerge_document import DocumentFields, first_document
from reader.chips.image import blank_image

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
CUT_OPERATIONS_MAX: Final = 24
"""A tap takes about so many operations of the disk."""
CUTS_TRIED_MAX: Final = 5
FAILURES_MAX: Final = 6
CLONE_TRIES_MAX: Final = 8
TEARS_TRIED_MAX: Final = 5
TORN_SHARE: Final = 0.35
RESET_SHARE: Final = 0.3


class Evening:
    """The devices, the wristbands, and the order of events of one seed."""

    def __init__(
        self,
        seed: int,
        directory: Path,
        open_things: ExitStack,
        trace: Trace,
        *,
        lies_about_sync: bool,
        disk_fails: bool,
    ) -> None:
        self._seed = seed
        self._chance = random.Random(f"{seed}/evening")
        self._trace = trace
        self._lies_about_sync = lies_about_sync
        self._disk_fails = disk_fails
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
        self._reckoning = Reckoning(seed, self._boards, self._air, trace, self._fields.card_id_key)
        self._bands = [self._band(number) for number in range(HONEST + 2)]

    def _board(
        self, enrolled: VenueDevice, directory: Path, open_things: ExitStack, zone: str, *, sells: bool
    ) -> Board:
        name = enrolled.certificate.name
        place, scratch = enrolled.write_directory(directory / name), directory / f"{name} seen"
        scratch.mkdir()
        vfs = open_things.enter_context(simulated_disk())
        machine = Machine(
            self._seed, enrolled.certificate, place, vfs, self._trace, lies_about_sync=self._lies_about_sync
        )
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
            await self._reckoning.until_equal()
            for band in self._bands[:HONEST]:
                await self._reckoning.wristband_shows_what_is_left(band)
            for band in [*self._bands, clone]:
                await self._reckoning.third_tap_is_declined(band)
            await self._reckoning.until_equal()
            outcome = await self._reckoning.check()
            nursery.cancel_scope.cancel()
        return outcome

    async def _before_doors(self) -> None:
        """The office publishes the venue; the till fills every wristband; everybody hears of both."""
        assert await self._office.up(LIVENESS_S_MAX)
        device = self._office.opened
        log_id = await device.open_lane(Lane.CONTROL)
        await device.append(Lane.CONTROL, Kind.VENUE_CHANGE, first_document(log_id, self._fields))
        for der in self._certificates:
            await device.append(Lane.CONTROL, Kind.DEVICE, der)
        await self._reckoning.until_equal()
        # As over night. A clean end syncs what others sent; a power cut takes a bar back to it, not to nothing.
        for board in self._boards:
            board.restart()
        await self._reckoning.until_equal()
        for band in self._bands:
            assert await visit(self._bars[0], band, top_up(START_MINOR), self._chance) is Result.PAID
        await self._reckoning.until_equal()

    async def _trouble(self) -> Band:
        """Streams are reset, devices are apart, a bar loses its power; meanwhile guests buy. Returns the clone."""
        honest, (cheat, copied) = self._bands[:HONEST], self._bands[HONEST:]
        unlucky = honest.pop() if self._disk_fails else None
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
                if unlucky is not None:
                    people.start_soon(self._disk_failure, unlucky)
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

    async def _disk_failure(self, band: Band) -> None:
        """A bar's disk refuses something in mid-tap, the program ends and is started again on the same machine."""
        chance = random.Random(f"{self._seed}/failing disk")
        for _ in range(FAILURES_MAX):
            await trio.sleep(chance.uniform(1.0, 10.0))
            bar = chance.choice(self._bars)
            bar.machine.fail_soon(chance.randint(1, CUT_OPERATIONS_MAX))
            await visit(bar, band, sale(chance.randint(50, 900)), chance)
            bar.machine.disk.failure = None

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
            if self._reckoning.tears():
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
