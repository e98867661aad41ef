"""A device of a world: what outlives its processes (disk, place, power), and how it looks for company.

Its program is a :class:`mesh.testing.process.Process`; whoever sells has a counter. A power cut ends the process, tears
what was on the air, takes the newest unsynced writes, and lets every connection go silent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Role
from mesh.core.overlay import LINKS_WANTED
from mesh.testing.company import Company
from mesh.testing.counter import Counter
from mesh.testing.network import Quality
from mesh.testing.process import Process, Surroundings
from mesh.testing.storage import Storage
from mesh.testing.store import Pieces
from mesh.testing.venue import VenueDevice
from reader.tap_events import Screen

SELLING: Final = frozenset({Role.READER, Role.TILL})


class Venue(Surroundings, Protocol):
    """What a device needs of its world besides what its process does."""

    pieces: Pieces
    devices: dict[str, Device]

    def make_process(self, device: Device) -> Process:
        """A fresh process of a device."""
        ...

    def peers(self, device: Device, *, across: bool) -> list[Device]:
        """Devices that run and can be reached from this one now; those of other zones only where `across`."""
        ...

    def somebody_moved(self) -> None:
        """A device is in another zone now."""
        ...

    def screen(self, device: Device, screen: Screen) -> None:
        """A counter shows something."""
        ...

    def booted(self, device: Device) -> None:
        """A process has started."""
        ...


@dataclass(slots=True)
class Lives:
    """How often a device was up and down."""

    boots: int = 0
    power_cuts: int = 0
    crashes: int = 0
    landed: int = 0
    """Transactions that were on the disk though nobody had been told so."""
    words_broken: int = 0
    """Logs of others that a power cut took something of, after it was said that none could."""


class Device:
    """One enrolled device and its place in the world."""

    def __init__(
        self,
        world: Venue,
        enrolled: VenueDevice,
        zone: str,
        chance: random.Random,
        *,
        fsync_ms: tuple[float, float],
        links_wanted: int = LINKS_WANTED,
        quality: Quality | None = None,
        name: str | None = None,
    ) -> None:
        """`name` tells a second box with the same keys from the first; otherwise it is the certificate's."""
        self.world = world
        self.enrolled = enrolled
        self.name = enrolled.certificate.name if name is None else name
        self.zone = zone
        self.chance = chance
        self.network_quality = quality
        self._accepted = 0
        self.storage = Storage(world.clock, chance, fsync_ms, world.pieces)
        self.storage.failed = self.crash
        self.process: Process | None = None
        self.counter: Counter | None = None
        self.program: Callable[..., Process] = Process
        """What is started at a boot: an adversary has a program of its own."""
        self.lives = Lives()
        self.gone = False
        """Lost for good: it never comes back."""
        self.is_honest = True
        self.off_until = 0.0
        self.clock_off_ms = 0
        """How far its clock is off."""
        self.links_wanted = links_wanted
        self.company: Company | None = None

    @property
    def certificate(self) -> DeviceCertificate:
        return self.enrolled.certificate

    @property
    def accepted(self) -> int:
        """Entries from elsewhere that were new to this device, over all its lives."""
        return self._accepted + (0 if self.process is None else self.process.accepted)

    @property
    def sells(self) -> bool:
        return bool(self.certificate.roles & SELLING)

    @property
    def is_up(self) -> bool:
        return self.process is not None

    # -- Power -----------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the program from what the disk holds."""
        if self.gone or self.process is not None:
            return
        process = self.process = self.world.make_process(self)
        self.lives.boots += 1
        self.world.trace.note(self.world.clock.now_us, self.name, "boot")
        process.start()
        if self.process is not process:
            return
        self._seek_company(process)
        if self.sells:
            self.counter = Counter(process, self.chance, lambda screen: self.world.screen(self, screen))
        self.world.booted(self)

    def power_cut(self, off_s: float | None) -> None:
        """The power goes; it comes back after `off_s` seconds, or never."""
        if self.process is None:
            return
        self.lives.power_cuts += 1
        if self.counter is not None:
            self.counter.power_goes()
        kept = self.process.kept
        self._end_process("power cut")
        self.lives.landed += self.storage.power_cut()
        heights = {log_id: self.storage.replica.height(log_id) for log_id in kept}
        self.lives.words_broken += sum((heights[log_id] or 0) < seq for log_id, seq in kept.items())
        self._come_back(off_s)

    def crash(self, off_s: float = 2.0) -> None:
        """The process ends and is started again, as a service manager does."""
        if self.process is None:
            return
        self.lives.crashes += 1
        if self.counter is not None:
            self.counter.power_goes()
        self._end_process("crash")
        self._come_back(off_s)

    def _end_process(self, why: str) -> None:
        process, self.process, self.counter, self.company = self.process, None, None, None
        assert process is not None
        self._accepted += process.accepted
        self.world.trace.note(self.world.clock.now_us, self.name, why)
        process.end()
        for link in list(process.links.values()):
            self.world.network.reset(link.end.connection)

    def _come_back(self, off_s: float | None) -> None:
        if off_s is None:
            self.gone = True
            return
        self.off_until = self.world.clock.now + off_s
        self.world.clock.after(off_s, self.boot)

    # -- Company ---------------------------------------------------------------------------------------------------

    def look_soon(self) -> None:
        """Somebody may have come, or the network is another: notice it."""
        if self.company is not None:
            self.company.look_soon()

    def walk_to(self, zone: str) -> None:
        """The device is carried to another zone."""
        self.zone = zone
        self.world.somebody_moved()
        self.company = None
        if self.process is not None:
            for link in list(self.process.links.values()):
                self.world.network.reset(link.end.connection)
            self.process.moved(zone)
            self._seek_company(self.process)

    def _seek_company(self, process: Process) -> None:
        """Begin where nobody is known."""
        self.company = Company(self.world, self, process)
        self.company.look_soon()


def by_name(devices: Iterable[Device]) -> list[Device]:
    """In an order that does not depend on memory."""
    return sorted(devices, key=lambda device: device.name)
