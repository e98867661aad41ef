"""The air between simulated devices: streams in memory with latency, cut at any byte, stalled while devices are apart.

:class:`AirCarrier` takes the place of `mesh.shell.carrier.TlsCarrier`. A handshake is the two certificates in the
clear, checked against the venue's root by each side: who holds the key to one is not tested here, nor is anything else
of TLS; the system tests have the real thing.

What is sent arrives in order, in pieces that chance cuts, after a latency that chance draws. Between devices that are
*apart* nothing arrives, and nobody is told; it goes on where they are together again, as TCP does. A *reset* ends a
stream behind a byte that chance picks: what was sent before it arrives. A device that loses its power falls silent, or
its peers are told at once, as when a switch notices.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate
from mesh.errors import PeerError
from mesh.limits import CERTIFICATE_BYTES_MAX, HANDSHAKES_MAX
from mesh.shell.carrier import Listening
from mesh.shell.discovery import Announcement, Notice, PeerFound
from mesh.testing.shell_machine import Machine, Signal

LATENCY_S: Final = (0.0005, 0.02)
PIECE_BYTES_MAX: Final = 16 * 1024
WINDOW_BYTES: Final = 64 * 1024
"""On the way one way; beyond this a sender waits."""
NOBODY_S: Final = (0.5, 3.0)
"""How long dialling takes where nobody hears it."""
HEARD_S: Final = (0.1, 1.3)
"""From an announcement to those who hear it."""
RESET_BYTES_MAX: Final = 40_000
RESETS_IN_TROUBLE: Final = 0.5
"""Share of the streams that a reset ends, while there is trouble."""


class Ending(Enum):
    """What arrives behind the last byte."""

    CLOSED = "closed"
    RESET = "reset"


class HandshakeBroke(PeerError):
    """The stream ended before both certificates had arrived."""


@dataclass(slots=True)
class _Way:
    """One direction of a stream: what is under way, and when each piece arrives."""

    latency_s: float
    chance: random.Random
    arriving: deque[tuple[float, bytes | Ending]] = field(default_factory=deque)
    size: int = 0
    changed: Signal = field(default_factory=Signal)

    def put(self, what: bytes | Ending) -> None:
        before = self.arriving[-1][0] if self.arriving else 0.0
        at = max(before, trio.current_time() + self.latency_s * self.chance.uniform(1.0, 3.0))
        self.arriving.append((at, what))
        self.size += len(what) if isinstance(what, bytes) else 0
        self.changed.set()

    def take(self, bytes_max: int) -> bytes:
        at, what = self.arriving[0]
        match what:
            case Ending.CLOSED:
                return b""
            case Ending.RESET:
                raise trio.BrokenResourceError("the stream was reset") from ConnectionResetError()
            case bytes():
                del self.arriving[0]
                if len(what) > bytes_max:
                    self.arriving.appendleft((at, what[bytes_max:]))
                taken = what[:bytes_max]
                self.size -= len(taken)
                self.changed.set()
                return taken


@dataclass(slots=True)
class _Wire:
    """What both ends of one stream share."""

    ways: tuple[_Way, _Way]
    carries_bytes: int | None
    """The reset comes behind so many bytes, both ways counted."""
    is_reset: bool = False

    def reset(self) -> None:
        """End the stream both ways behind what was sent."""
        if not self.is_reset:
            self.is_reset = True
            for way in self.ways:
                way.put(Ending.RESET)


class End(trio.abc.Stream):
    """One end of a stream; `dialled` says which one."""

    def __init__(self, air: Air, machine: Machine, peer: str, wire: _Wire, *, dialled: bool) -> None:
        self.wire = wire
        self.is_closed = False
        self._air, self._machine, self._peer = air, machine, peer
        self._disk = machine.disk
        """Of the life that this end belongs to: the next one has other streams."""
        self._out, self._into = wire.ways if dialled else wire.ways[::-1]

    @property
    def _is_alive(self) -> bool:
        return not self._disk.is_off

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        left = bytes(data)
        await trio.lowlevel.checkpoint()
        while left:
            self._require_open()
            if self.wire.is_reset or not self._is_alive:
                raise trio.BrokenResourceError("the stream was reset")
            if self._out.size >= WINDOW_BYTES:
                await self._out.changed.wait()
                continue
            size = min(len(left), self._out.chance.randint(1, PIECE_BYTES_MAX))
            self._carry(left[:size])
            left = left[size:]

    def _carry(self, piece: bytes) -> None:
        wire = self.wire
        if wire.carries_bytes is not None:
            piece = piece[: wire.carries_bytes]
            wire.carries_bytes -= len(piece)
        if piece:
            self._machine.note(f"sends to {self._peer}", piece)
            self._out.put(piece)
        if wire.carries_bytes == 0:
            self._air.resets += 1
            wire.reset()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        way = self._into
        while True:
            self._require_open()
            if not self._is_alive:
                raise trio.BrokenResourceError("the power is gone")
            if not way.arriving:
                await way.changed.wait()
            elif self._air.apart(self._machine.name, self._peer):
                await self._until_either(way.changed, self._air.changed)
            elif way.arriving[0][0] > trio.current_time():
                with trio.move_on_at(way.arriving[0][0]):
                    await way.changed.wait()
            else:
                return way.take(PIECE_BYTES_MAX if max_bytes is None else max_bytes)

    @staticmethod
    async def _until_either(*signals: Signal) -> None:
        async with trio.open_nursery() as nursery:

            async def one(signal: Signal) -> None:
                await signal.wait()
                nursery.cancel_scope.cancel()

            for signal in signals:
                nursery.start_soon(one, signal)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The program at this end is through with it, or it is dead."""
        if self.is_closed:
            return
        self.is_closed = True
        if not self.wire.is_reset:
            if self._is_alive:
                self._out.put(Ending.CLOSED)
            elif self._out.chance.random() < 0.5:
                self._out.put(Ending.RESET)
        self._into.changed.set()
        self._out.changed.set()

    def _require_open(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError("this end was closed")


class _Door(trio.abc.Listener[trio.abc.Stream]):
    """Where streams to one device come in."""

    def __init__(self, air: Air, name: str) -> None:
        self.knocks, self._opens = trio.open_memory_channel[End](HANDSHAKES_MAX)
        self._air, self._name = air, name

    async def accept(self) -> trio.abc.Stream:
        return await self._opens.receive()

    async def aclose(self) -> None:
        self._air.doors.pop(self._name, None)
        self._opens.close()
        await trio.lowlevel.checkpoint()


class Air:
    """Who can hear whom, and every stream between them."""

    def __init__(self, seed: int) -> None:
        self.doors: dict[str, tuple[int, _Door, Machine]] = {}
        self.announced: dict[str, Announcement] = {}
        self.changed = Signal()
        self.trouble = False
        """Whether new streams may end by a reset."""
        self.resets = 0
        self.streams = 0
        self._sides: dict[str, int] = {}
        self._chance = random.Random(f"{seed}/air")
        self._ends: list[End] = []
        self._port = 7000

    def split(self, sides: Iterable[Iterable[str]]) -> None:
        """From now on only devices on one side hear each other."""
        self._sides = {name: number for number, side in enumerate(sides) for name in side}
        self.changed.set()

    def heal(self) -> None:
        """Everybody hears everybody, and no new stream is reset."""
        self.trouble = False
        self.split([])
        for end in self._ends:
            end.wire.carries_bytes = None

    def apart(self, one: str, other: str) -> bool:
        return self._sides.get(one) != self._sides.get(other)

    def reset_some(self, share: float) -> None:
        """Reset so many of the streams that are open, and one at least."""
        ends = [end for end in self._ends if not end.is_closed and not end.wire.is_reset]
        for end in self._chance.sample(ends, min(len(ends), max(1, round(share * len(ends))))):
            self.resets += 1
            end.wire.reset()

    def open_door(self, machine: Machine) -> Listening:
        self._port += 1
        door = _Door(self, machine.name)
        self.doors[machine.name] = (self._port, door, machine)
        return Listening([door], self._port)

    async def connect(self, machine: Machine, name: str, port: int) -> End:
        """Dial; `OSError` where nobody is, or nobody hears it."""
        await trio.sleep(self._chance.uniform(*LATENCY_S))
        known = self.doors.get(name)
        if self.apart(machine.name, name) or (known is not None and not known[2].is_on):
            await trio.sleep(self._chance.uniform(*NOBODY_S))
            raise TimeoutError(f"nobody answers at {name}")
        if known is None or known[0] != port:
            raise ConnectionRefusedError(f"{name} does not listen at {port}")
        resets = self.trouble and self._chance.random() < RESETS_IN_TROUBLE
        carries = self._chance.randint(0, RESET_BYTES_MAX) if resets else None
        latency_s = self._chance.uniform(*LATENCY_S)
        wire = _Wire((_Way(latency_s, self._chance), _Way(latency_s, self._chance)), carries)
        here = End(self, machine, name, wire, dialled=True)
        there = End(self, known[2], machine.name, wire, dialled=False)
        try:
            known[1].knocks.send_nowait(there)
        except (trio.WouldBlock, trio.BrokenResourceError) as error:
            raise ConnectionRefusedError(f"{name} takes no more") from error
        self._ends = [end for end in self._ends if not end.is_closed and not end.wire.is_reset] + [here]
        self.streams += 1
        return here

    def announce(self, name: str, own: Announcement) -> None:
        self.announced[name] = own
        self.changed.set()

    async def hear(self, machine: Machine, send: trio.MemorySendChannel[Notice]) -> None:
        """Tell a device of everybody within hearing, and again whenever somebody says something else."""
        told: dict[str, Announcement] = {}
        while True:
            for name, said in sorted(self.announced.items()):
                if name == machine.name or told.get(name) == said or self.apart(machine.name, name):
                    continue
                await trio.sleep(self._chance.uniform(*HEARD_S))
                told[name] = said
                await send.send(PeerFound(name, (name,), said.port, said.zone, said.node))
                break
            else:
                await self.changed.wait()


class AirCarrier:
    """Implements `mesh.shell.carrier.Carrier` for one device."""

    def __init__(self, air: Air, machine: Machine, root: VenueRoot) -> None:
        self._air, self._machine, self._root = air, machine, root

    async def listen(self, host: str, port: int) -> Listening:
        await trio.lowlevel.checkpoint()
        return self._air.open_door(self._machine)

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        return await self._air.connect(self._machine, host, port)

    async def authenticate(self, stream: trio.abc.Stream) -> DeviceCertificate:
        own = self._machine.certificate.der
        try:
            await stream.send_all(len(own).to_bytes(2, "big") + own)
            size = int.from_bytes(await _exactly(stream, 2), "big")
            if size > CERTIFICATE_BYTES_MAX:
                raise HandshakeBroke("no certificate has that size")
            return parse_device_certificate(await _exactly(stream, size), self._root)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HandshakeBroke("the connection broke during the handshake") from error

    def discovery(
        self, own: Announcement, interfaces: Sequence[str] | None
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Notice]]:
        return self._discovery(own)

    @asynccontextmanager
    async def _discovery(self, own: Announcement) -> AsyncIterator[trio.MemoryReceiveChannel[Notice]]:
        send, receive = trio.open_memory_channel[Notice](0)
        self._air.announce(self._machine.name, own)
        async with trio.open_nursery() as nursery, receive:
            nursery.start_soon(self._air.hear, self._machine, send)
            yield receive
            nursery.cancel_scope.cancel()


async def _exactly(stream: trio.abc.Stream, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = bytes(await stream.receive_some(size))
        if not part:
            raise HandshakeBroke("the connection broke during the handshake")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
