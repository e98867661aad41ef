"""One device of a simulated venue through all its lives: opened, linked, selling; without power, and back again.

Everything between the disk and the wire is the product: `open_device` with its stores, replica, verifier and prover,
`Network` with its links, `Terminal` with the tap machine over `OwnJournal`. Only the machine under it is simulated.
"""

from __future__ import annotations

import random
from typing import Final

import trio

from mesh.core.kinds import Lane
from mesh.errors import StorageError
from mesh.shell.device import ConflictSurfaced, Device, ForkSurfaced, Notice, open_device
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.notice_lines import author_name
from mesh.testing.shell_checks import Watch, WatchedLinks, WatchedVenue, require
from mesh.testing.shell_counter import Counter
from mesh.testing.shell_machine import Machine, Signal
from mesh.testing.shell_wire import Air, AirCarrier
from reader.app import COMMANDS_WAITING_MAX, EnrolledIdentity
from reader.journal import open_journal
from reader.tap_events import Green, Screen
from reader.terminal import Command, Terminal
from reader.venue import VenueViews

BOOT_S: Final = (2.0, 20.0)
"""From losing the power to running again."""


class Board:
    """:meth:`run` until cancelled. While it is up, `device` is there, and `terminal` too where it sells."""

    def __init__(
        self, machine: Machine, air: Air, watch: Watch, zone: str, *, sells: bool, chance: random.Random
    ) -> None:
        self.machine, self.watch, self.zone, self.sells = machine, watch, zone, sells
        self.device: Device | None = None
        self.terminal: Terminal | None = None
        self.counter: Counter | None = None
        self.screens: list[Screen] = []
        """What was seen here in all lives."""
        self.tears = 0
        self.surfaced: set[bytes] = set()
        """Cards whose conflict was told to people here."""
        self.changed = Signal()
        self.queue = trio.Lock()
        """People at one counter take turns."""
        self._air, self._chance = air, chance
        self._scope = trio.CancelScope()
        self._stops = False
        self._commands: trio.MemorySendChannel[Command] | None = None

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def opened(self) -> Device:
        """The device, which is up."""
        assert self.device is not None, f"{self.name} is not up"
        return self.device

    def command(self, command: Command) -> None:
        """Staff types something; nobody notices where the board has no power."""
        if self._commands is not None and self.machine.is_on:
            self.machine.note(f"staff: {command}")
            self._commands.send_nowait(command)

    async def up(self, seconds: float) -> bool:
        """Wait until the device works (and sells, if it does); False if it took too long."""
        with trio.move_on_after(seconds):
            while self.device is None or not self.machine.is_on:
                await self.changed.wait()
            return True
        return False

    async def run(self) -> None:
        """One life after the other."""
        while True:
            try:
                await self._live()
            except* StorageError:
                if self.machine.is_on and not self.machine.has_failed:
                    raise
            finally:
                self._bury()
            await trio.sleep(self._chance.uniform(*BOOT_S))
            if self._stops:
                self._stops = False
            elif self.machine.is_on and self.machine.has_failed:
                self.machine.next_process()
            else:
                require(not self.machine.is_on, "a device runs while it has power", f"{self.name} ended by itself")
                self.machine.boot()

    def restart(self) -> None:
        """Stop the program as people do, and start it again."""
        self.machine.note("is stopped")
        self._stops = True
        self._bury()
        self._scope.cancel()

    def _bury(self) -> None:
        if self.counter is not None:
            self.screens += self.counter.screens
            self.tears += self.counter.tears
        self.device = self.terminal = self.counter = self._commands = None
        self.changed.set()

    async def _live(self) -> None:
        machine = self.machine
        machine.before_start()
        with trio.CancelScope() as self._scope:
            machine.when_cut = self._scope.cancel
            async with open_device(machine.directory, zone=self.zone, surroundings=machine.surroundings) as device:
                machine.note(f"is open with {device.entries_held} entries")
                carrier = AirCarrier(self._air, machine, device.root)
                network = Network(device, Settings(Endpoint(self.name, 0)), machine.note, carrier)
                notices = device.subscribe()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hear, notices)
                    await nursery.start(network.run)
                    # Nothing can have been sent yet: whoever dials takes longer than this.
                    device.links = WatchedLinks(network, self.watch, device)
                    if self.sells:
                        await self._open_counter(device, nursery)
                    self.device = device
                    self.changed.set()
                    await trio.sleep_forever()

    async def _open_counter(self, device: Device, nursery: trio.Nursery) -> None:
        venue = WatchedVenue(VenueViews(device.views, lambda log_id: author_name(device, log_id)), device)

        def before_green(green: Green) -> None:
            self.watch.look(device, green.intent.tap_id)
            venue.before_green(green)

        await device.open_lane(Lane.MONEY)
        self.counter = Counter(self.machine, self._chance, before_green)
        journal = await open_journal(device)
        surroundings = self.machine.surroundings
        self.terminal = Terminal(self.counter, journal, venue, EnrolledIdentity(device), self.counter, surroundings)
        self._commands, receive = trio.open_memory_channel[Command](COMMANDS_WAITING_MAX)
        nursery.start_soon(self.terminal.run, receive)

    async def _hear(self, notices: trio.MemoryReceiveChannel[Notice]) -> None:
        async for notice in notices:
            match notice:
                case ConflictSurfaced(conflict, case):
                    self.machine.note(f"tells of a conflict on {conflict.card.hex()}", case)
                    if self.machine.is_on:
                        self.surfaced.add(conflict.card)
                case ForkSurfaced(log_id, from_seq):
                    require(False, "no honest device forks", f"{self.name}: log {log_id.hex()} from {from_seq}")
                case _:
                    self.machine.note(type(notice).__name__)
