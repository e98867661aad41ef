"""An ISO-DEP wristband over nfcpy's `udp:` device, with the time a real chip needs, and the ways it goes wrong.

Three layers: :class:`Applet` (commands to answers, pure), :class:`BlockLink` (ISO/IEC 14443-4 blocks, the card's side,
pure), and :class:`Emulator`, which waits as air and memory would, keeps the image file, and can be pulled away in the
middle of a write. A write is programmed block by block and the file follows each block, so `kill -9` tears it truly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nfc.clf

from mesh.errors import LocalError
from reader.chips.image import CardImage, load_image, save_image
from reader.chips.iso_dep import (
    FILE_BYTES,
    INS_READ_BINARY,
    INS_SELECT,
    INS_UPDATE_BINARY,
    SELECT_COMMAND,
    STATUS_OK,
)
from reader.chips.loopback import LoopbackWristband

SENS_RES: Final = bytearray(b"\x44\x00")
"""A 7-byte uid (ISO/IEC 14443-3)."""
SEL_RES: Final = bytearray(b"\x20")
"""Speaks ISO-DEP."""
FRAME_WAITING: Final = 10
"""FWI: an answer takes at most 4096 / 13.56 MHz * 2**10 = 309 ms."""
FRAME_WAITING_S: Final = 4096 / 13.56e6 * 2**FRAME_WAITING
ANSWER_TO_SELECT: Final = bytes([0x05, 0x78, 0x80, FRAME_WAITING << 4, 0x00])
"""Frames of up to 256 bytes (FSCI 8), no CID."""
FRAME_PAYLOAD_BYTES: Final = 253
WAIT_MULTIPLIER_MAX: Final = 59
LISTEN_S: Final = 0.5

WRONG_LENGTH: Final = b"\x67\x00"
OUT_OF_FILE: Final = b"\x6b\x00"
NOT_FOUND: Final = b"\x6a\x82"
NOT_SELECTED: Final = b"\x69\x85"
NO_SUCH_COMMAND: Final = b"\x6d\x00"


class PortTaken(LocalError):
    """Another wristband (or program) is at this port."""


class PulledAway(LocalError):
    """The wristband left the field in the middle of a write, as it was told to."""


@dataclass(frozen=True, slots=True)
class ChipTiming:
    """How long a chip takes. The defaults are an ISO-DEP chip at 106 kbit/s: 9 bits a byte on air, and programming of
    1-4 ms a block ("tens of ms for 106 bytes": the project's measured facts; block size is the chip's memory page)."""

    byte_us: float = 9 / 0.106
    exchange_us: float = 500.0
    """Frame delays and the chip's own work on one command."""
    activation_us: float = 4000.0
    """Field on to answer to select: polls, anticollision over two cascade levels, RATS."""
    block_bytes: int = 16
    block_us: float = 2500.0


REAL_CHIP: Final = ChipTiming()
NO_WAITING: Final = ChipTiming(byte_us=0, exchange_us=0, activation_us=0, block_us=0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the applet says, and what it programs before it says so."""

    data: bytes
    offset: int = 0
    program: bytes = b""


class Applet:
    """The application on the chip: one file of two slots (see `iso_dep.py`)."""

    def __init__(self, serial: bytes) -> None:
        self._serial = serial
        self._selected = False

    def answer(self, command: bytes, memory: bytes) -> Answer:
        """Judge one command against the memory as it is; whatever the bytes are, there is an answer."""
        if len(command) < 5 or command[0] != 0:
            return Answer(WRONG_LENGTH)
        offset, length = int.from_bytes(command[2:4], "big"), command[4]
        match command[1]:
            case ins if ins == INS_SELECT:
                self._selected = command[: len(SELECT_COMMAND)] == SELECT_COMMAND
                return Answer(self._serial + STATUS_OK if self._selected else NOT_FOUND)
            case ins if ins not in {INS_READ_BINARY, INS_UPDATE_BINARY}:
                return Answer(NO_SUCH_COMMAND)
            case _ if not self._selected:
                return Answer(NOT_SELECTED)
            case _ if offset + length > FILE_BYTES:
                return Answer(OUT_OF_FILE)
            case ins if ins == INS_READ_BINARY:
                return Answer(memory[offset : offset + length] + STATUS_OK)
            case _ if len(command) != 5 + length:
                return Answer(WRONG_LENGTH)
            case _:
                return Answer(STATUS_OK, offset, command[5:])


@dataclass(slots=True)
class BlockLink:
    """The card's side of ISO/IEC 14443-4 blocks for one activation: chaining, and repeats of what got lost."""

    _received: bytes = b""
    _to_send: bytes = b""
    _last: bytes = b""
    _number: int = 1

    def receive(self, block: bytes) -> tuple[bytes | None, bytes | None]:
        """Take one block; return (block to answer with, whole command to be answered), either or both `None`."""
        control = block[0] if block else 0
        if control & 0xE2 == 0x02:
            self._number = control & 1
            self._received += block[1:]
            if control & 0x10:
                return self._say(bytes([0xA2 | self._number])), None
            command, self._received = self._received, b""
            return None, command
        if control & 0xF6 == 0xB2:  # R(NAK): the last answer got lost, or the last command did
            return (self._last if control & 1 == self._number else bytes([0xA2 | self._number])), None
        if control & 0xF6 == 0xA2 and self._to_send:
            self._number = control & 1
            return self._next(), None
        if control & 0xF7 == 0xC2:
            return b"\xc2", None
        return None, None

    def answer(self, data: bytes) -> bytes:
        """The first block of an answer to the whole command."""
        self._to_send = data
        return self._next()

    def _next(self) -> bytes:
        part, self._to_send = self._to_send[:FRAME_PAYLOAD_BYTES], self._to_send[FRAME_PAYLOAD_BYTES:]
        return self._say(bytes([(0x12 if self._to_send else 0x02) | self._number]) + part)

    def _say(self, block: bytes) -> bytes:
        self._last = block
        return block


@dataclass(slots=True)
class Emulator:
    """One wristband at one port of 127.0.0.1. :meth:`run` blocks; `report` hears what happens, in the same thread."""

    path: Path
    port: int
    timing: ChipTiming = REAL_CHIP
    tear_after_bytes: int | None = None
    """Be pulled away once this many bytes of the next write are programmed."""
    report: Callable[[str, int], None] = lambda name, count: None
    _image: CardImage = field(init=False)
    _frontend: Any = field(init=False)
    _stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._image = load_image(self.path)
        self._frontend = nfc.clf.ContactlessFrontend()
        try:
            self._frontend.device = LoopbackWristband(self.port)
        except OSError as error:
            raise PortTaken(f"port {self.port} of this machine is taken: stop the wristband that is there") from error

    def run(self) -> None:
        """Answer readers until :meth:`stop`, or raise :class:`PulledAway`."""
        try:
            while not self._stopped:
                target = self._frontend.listen(
                    nfc.clf.LocalTarget("106A", sens_res=SENS_RES, sdd_res=bytearray(self._image.uid), sel_res=SEL_RES),
                    timeout=LISTEN_S,
                )
                if target is not None and target.tt4_cmd is not None:
                    self._activation()
        finally:
            self._frontend.close()

    def stop(self) -> None:
        """Make :meth:`run` return within half a second; may be called from another thread."""
        self._stopped = True

    def _activation(self) -> None:
        """Serve one reader from its RATS until its field is gone."""
        link, applet = BlockLink(), Applet(self._image.serial)
        _wait(self.timing.activation_us)
        reply: bytes | None = ANSWER_TO_SELECT
        while not self._stopped:
            received = self._exchange(reply)
            if received is None:
                return
            reply, command = link.receive(received)
            if command is not None:
                answer = applet.answer(command, self._image.memory)
                if answer.program and not self._program(answer):
                    return
                reply = link.answer(answer.data)
                _wait(self.timing.exchange_us + self.timing.byte_us * (len(command) + len(reply) + 5))

    def _exchange(self, reply: bytes | None) -> bytes | None:
        """Send a block (or stay silent) and return the next one; `None` when the field is gone."""
        while not self._stopped:
            try:
                received = self._frontend.exchange(bytearray(reply) if reply is not None else None, timeout=LISTEN_S)
            except nfc.clf.TimeoutError:
                reply = None
                continue
            except nfc.clf.BrokenLinkError:
                return None
            except nfc.clf.CommunicationError:
                return b""
            return bytes(received)
        return None

    def _program(self, answer: Answer) -> bool:
        """Program block by block, asking the reader for time first if it takes long; `False` when the field is gone."""
        earlier, count = self._image.memory, math.ceil(len(answer.program) / self.timing.block_bytes)
        needed_s = 1.5 * count * self.timing.block_us / 1e6
        if needed_s > FRAME_WAITING_S:
            multiplier = min(math.ceil(needed_s / FRAME_WAITING_S), WAIT_MULTIPLIER_MAX)
            if self._exchange(bytes([0xF2, multiplier])) is None:
                return False
        self.report("programming", len(answer.program))
        for start, block in self._blocks(answer.program):
            _wait(self.timing.block_us)
            self._image = self._image.programmed(answer.offset + start, block)
            save_image(self.path, self._image)
        if self.tear_after_bytes is not None:
            self.report("torn", self.tear_after_bytes)
            raise PulledAway(f"pulled away after {self.tear_after_bytes} bytes of a write")
        self._image = self._image.remembering(earlier)
        save_image(self.path, self._image)
        self.report("programmed", len(answer.program))
        return True

    def _blocks(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        end = len(data) if self.tear_after_bytes is None else min(len(data), self.tear_after_bytes)
        for start in range(0, end, self.timing.block_bytes):
            yield start, data[start : min(start + self.timing.block_bytes, end)]


def _wait(microseconds: float) -> None:
    if microseconds > 0:
        time.sleep(microseconds / 1e6)
