"""A bar's counter: the antenna that the real terminal asks, its screen, and the wristbands that people hold to it.

The chip's own profile and the emulator's applet talk to each other byte by byte (`reader.chips.iso_dep`,
`reader.chips.emulator`), without air between them: a wristband can be pulled away, or the bar lose its power, in the
middle of a write. What the screen shows counts as seen, if the bar has power.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import trio

from mesh.testing.shell_machine import Machine, Signal
from mesh.views.card_record import SEALED_BYTES
from reader import screen as screens
from reader.chips.emulator import Applet
from reader.chips.image import CardImage
from reader.chips.iso_dep import FILE_BYTES, INS_READ_BINARY, INS_UPDATE_BINARY, IsoDepChip
from reader.chips.profile import ChipLost, ChipProfile, Found
from reader.tap_events import Amber, Green, Notice, Screen

NOBODY_THERE_S: Final = 0.25
"""A poll that nothing answers; longer than a real one, so that hours cost less."""
EXCHANGE_S: Final = (0.004, 0.03)
PASSING: Final = frozenset({Notice.ARMED, Notice.CANCELLED, Notice.EARLIER_ORDER_NOT_CHARGED, Notice.PAID_SEEN})
"""Nothing to act upon: something else follows, or an order is over."""


class Pull(Enum):
    """When a wristband leaves the antenna too early."""

    READING = auto()
    WRITING = auto()
    """Behind any byte of the write."""
    READING_BACK = auto()
    WRITING_WITHOUT_POWER = auto()
    """It stays, and the bar's power goes in the middle of the write."""


@dataclass(slots=True)
class Band:
    """One wristband as an attendee wears it. A clone has another name and the same chip, uid and all."""

    name: str
    image: CardImage

    def slots(self) -> set[bytes]:
        """Everything that was ever in either of its slots, torn writes included."""
        memories = [*self.image.history, self.image.memory]
        return {memory[at : at + SEALED_BYTES] for memory in memories for at in (0, SEALED_BYTES)}

    def clone(self, name: str) -> Band:
        return Band(name, self.image)


class Counter:
    """Implements `reader.chips.profile.Antenna` and `reader.terminal.Display` for one life of one device."""

    def __init__(self, machine: Machine, chance: random.Random, before_green: Callable[[Green], None]) -> None:
        self.screens: list[Screen] = []
        """What was seen, in order."""
        self.tears = 0
        self._machine, self._chance, self._before_green = machine, chance, before_green
        self._band: Band | None = None
        self._pull: Pull | None = None
        self._changed = Signal()

    # -- What people do --------------------------------------------------------------------------------------------

    def hold(self, band: Band, pull: Pull | None = None) -> None:
        """Put a wristband onto the reader."""
        self._machine.note(f"{band.name} is held to it{f', pull {pull.name}' if pull else ''}")
        self._band, self._pull = band, pull

    def take_away(self) -> None:
        self._band = self._pull = None

    async def answer(self, since: int, seconds: float) -> None:
        """Wait until anything is shown from screen number `since` on."""
        with trio.move_on_after(seconds):
            while len(self.screens) <= since:
                await self._changed.wait()

    async def verdict(self, since: int, seconds: float) -> Screen | None:
        """The first screen from number `since` on that asks somebody to do something; None if none comes."""
        with trio.move_on_after(seconds):
            while True:
                for screen in self.screens[since:]:
                    if not (isinstance(screen, Amber) and screen.notice in PASSING):
                        return screen
                await self._changed.wait()
        return None

    # -- Display ---------------------------------------------------------------------------------------------------

    def show(self, screen: Screen, stages_ms: Mapping[str, float]) -> None:
        if not self._machine.is_on:
            return
        if isinstance(screen, Green):
            self._before_green(screen)
        event, fields = screens.fields(screen)
        self._machine.note(f"shows {event}", json.dumps([fields, dict(stages_ms)]).encode())
        self.screens.append(screen)
        self._changed.set()

    def not_ours(self, reason: str) -> None:
        self._machine.note(f"finds no wristband of ours: {reason}")

    # -- Antenna ---------------------------------------------------------------------------------------------------

    def poll(self) -> Found | None:
        began_us = self._machine.surroundings.monotonic_us()
        if self._band is None:
            self._machine.took(NOBODY_THERE_S)
            return None
        self._machine.took(self._chance.uniform(*EXCHANGE_S))
        return Found(self._band.image.uid, self._band, began_us)

    def activate(self, found: Found) -> ChipProfile:
        band = found.target
        assert isinstance(band, Band)
        applet = Applet(band.image.serial)
        return IsoDepChip(found.uid, lambda command: self._transceive(band, applet, command))

    def close(self) -> None:
        self.take_away()

    def _transceive(self, band: Band, applet: Applet, command: bytes) -> bytes:
        self._machine.took(self._chance.uniform(*EXCHANGE_S))
        if self._band is not band:
            raise ChipLost("the wristband was pulled away")
        reads_all = command[1] == INS_READ_BINARY and command[4] == FILE_BYTES
        match self._pull:
            case Pull.READING if reads_all:
                self._tear(0)
            case Pull.READING_BACK if command[1] == INS_READ_BINARY and not reads_all:
                self._tear(0)
            case _:
                pass
        answer = applet.answer(command, band.image.memory)
        if command[1] == INS_UPDATE_BINARY:
            earlier = band.image.memory
            cut = self._pull in {Pull.WRITING, Pull.WRITING_WITHOUT_POWER}
            count = self._chance.randint(0, len(answer.program)) if cut else len(answer.program)
            band.image = band.image.programmed(answer.offset, answer.program[:count])
            if cut:
                self._tear(count)
            band.image = band.image.remembering(earlier)
        return answer.data

    def _tear(self, count: int) -> None:
        assert self._pull is not None
        self._machine.note(f"the wristband is gone while {self._pull.name.lower()}, {count} bytes of a write are on it")
        self.tears += 1
        if self._pull is Pull.WRITING_WITHOUT_POWER:
            self._machine.cut_power()
        self.take_away()
        raise ChipLost("the wristband was pulled away")
