"""A real node with something to lose, an honest neighbour beside it, and raw connections for whoever attacks it.

The victim runs the production device and network on the loopback interface. An attacker speaks bytes: before TLS,
inside it with an enrolled device's certificate, or with another venue's.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import WIRE_VERSION, Hello, Message, RunMessage, Want, decode_message, encode_message
from mesh.shell.device import Device, Notice, PeerParted, open_device
from mesh.shell.keys import load_identity
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.tls import client_context
from mesh.views.tap_entry import AbortBody
from tests.factory import LogWriter, Venue, VenueDevice

PATIENCE_S: Final = 30
"""Only a node that hangs is ended by this."""
ZONE: Final = "north"
_LOOPBACK: Final = Endpoint("127.0.0.1", 0)


@dataclass
class Scene:
    """One attack on `victim`; `neighbour` was linked to it before, and must stay so."""

    venue: Venue
    directory: Path
    victim: Device
    network: Network
    neighbour: Device
    remarks: list[str]
    """What the victim told people: refusals, and links that ended, with the peer's name and the reason."""
    _told: trio.Event = field(default_factory=trio.Event)
    _connections: list[trio.SocketStream] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.remarks.append(text)
        self._told.set()

    async def until_told(self, fragment: str) -> None:
        """Wait until the victim said something with this in it."""
        while not any(fragment in remark for remark in self.remarks):
            self._told = trio.Event()
            with trio.move_on_after(PATIENCE_S) as patience:
                await self._told.wait()
            if patience.cancelled_caught:
                raise AssertionError(f"the victim never said {fragment!r}, only {self.remarks}")

    def attacker(self, *roles: Role) -> VenueDevice:
        """A device that is enrolled and has turned against the others."""
        return self.venue.device("mallory", *(roles or (Role.READER,)))

    async def tcp(self) -> trio.SocketStream:
        """A connection that has said nothing yet."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.network.port)
        self._connections.append(stream)
        return stream

    def clear_away(self) -> None:
        """Close the attackers' ends."""
        for stream in self._connections:
            stream.socket.close()

    async def link(self, device: VenueDevice) -> Raw:
        """TLS with this device's certificate; nothing of the protocol has been said."""
        directory = device.write_directory(self.directory / f"raw-{device.certificate.serial}")
        return Raw(await self.tls(client_context(load_identity(directory))), device)

    async def tls(self, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
        """TLS as this context has it."""
        return trio.SSLStream(await self.tcp(), context)

    async def greeted(self, device: VenueDevice) -> Raw:
        """A link on which the attacker has behaved so far: it has said hello, and so has the victim."""
        raw = await self.link(device)
        await raw.say(hello(self.venue))
        await raw.hear(Hello)
        return raw

    async def expect_unharmed(self) -> None:
        """Everything the victim had is there, its neighbour never lost its link, and a newcomer gets all of it."""
        before = self.victim.entries_held
        appended = await self.victim.append(Lane.MONEY, Kind.ABORT, AbortBody(bytes(16), bytes(32)).encode())
        assert appended.seq == OWN_ENTRIES
        assert self.victim.entries_held == before + 1
        await _until_same(self.victim, self.neighbour)
        assert not [remark for remark in self.remarks if remark.startswith("neighbour")]
        newcomer = self.venue.device("newcomer", Role.READER).write_directory(self.directory / "newcomer")
        async with open_device(newcomer, zone=ZONE) as device, trio.open_nursery() as nursery:
            await nursery.start(Network(device, _dialling(self.network.port)).run)
            await _until_same(self.victim, device)
            assert device.entries_held == self.victim.entries_held
            assert await device.read_entry(appended.log_id, appended.seq) == [appended.run.entries[-1]]
            nursery.cancel_scope.cancel()


OWN_ENTRIES: Final = 4
"""Entries that the victim has signed before anything happens, its genesis included."""


@dataclass
class Raw:
    """One authenticated stream on which its owner says whatever it likes."""

    stream: trio.SSLStream[trio.SocketStream]
    device: VenueDevice
    _buffer: bytearray = field(default_factory=bytearray)

    async def say(self, data: bytes) -> None:
        """Send; a victim that has closed the link already is what is hoped for."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def say_messages(self, messages: Sequence[Message]) -> None:
        await self.say(b"".join(map(encode_message, messages)))

    async def hear(self, kind: type[Message]) -> Message:
        """The next message of this kind; others are passed over."""
        while True:
            message = await self._next()
            if isinstance(message, kind):
                return message

    async def hear_want(self, log_id: bytes) -> Want:
        """Wait until the victim wants this log."""
        while True:
            message = await self.hear(Want)
            assert isinstance(message, Want)
            if message.log_id == log_id:
                return message

    async def _next(self) -> Message:
        while len(self._buffer) < 4 or len(self._buffer) < 4 + int.from_bytes(self._buffer[:4], "big"):
            data = await self.stream.receive_some(65_536)
            assert data, "the victim ended the link"
            self._buffer += data
        end = 4 + int.from_bytes(self._buffer[:4], "big")
        frame = bytes(self._buffer[4:end])
        del self._buffer[:end]
        return decode_message(frame)

    async def hang_up(self) -> None:
        """End without a goodbye."""
        await trio.aclose_forcefully(self.stream)


def hello(venue: Venue, *, digest: bytes = bytes(32), version: int = WIRE_VERSION, zone: str = ZONE) -> bytes:
    return encode_message(Hello(venue.root.venue_id, zone, digest, version))


def runs(log: LogWriter, first_seq: int = 0) -> list[Message]:
    """What a sender of this log says from `first_seq` on."""
    return [RunMessage(*piece) for piece in log.runs(first_seq)]


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """A victim with a few entries and an honest neighbour, in step with each other."""
    venue = Venue()
    places = {
        name: venue.device(name, Role.READER).write_directory(directory / name) for name in ("victim", "neighbour")
    }
    with trio.fail_after(PATIENCE_S * 2):
        async with (
            open_device(places["victim"], zone=ZONE) as victim,
            open_device(places["neighbour"], zone=ZONE) as other,
        ):
            for index in range(OWN_ENTRIES - 1):
                body = AbortBody(index.to_bytes(16, "big"), bytes(32)).encode()
                await victim.append(Lane.MONEY, Kind.ABORT, body)
            network = Network(victim, Settings(_LOOPBACK, mdns=False))
            set_up = Scene(venue, directory, victim, network, other, [])
            network.report = set_up.tell
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, victim.subscribe(), set_up)
                port = await nursery.start(network.run)
                await nursery.start(Network(other, _dialling(port)).run)
                await _until_same(victim, other)
                try:
                    yield set_up
                finally:
                    set_up.clear_away()
                nursery.cancel_scope.cancel()


def _dialling(port: int) -> Settings:
    return Settings(_LOOPBACK, (Endpoint("127.0.0.1", port),), mdns=False)


async def _watch(notices: trio.MemoryReceiveChannel[Notice], set_up: Scene) -> None:
    async for notice in notices:
        match notice:
            case PeerParted(peer, reason):
                set_up.tell(f"{peer.name}: {reason}")
            case _:
                pass


async def _until_same(one: Device, other: Device) -> None:
    """Wait until two devices hold the same, however they come to: by catching up, or by what is announced."""
    while one.node.frontier.digest() != other.node.frontier.digest():
        await trio.lowlevel.checkpoint()
