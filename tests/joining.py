"""An office that takes devices in, in this process, and a wire to it that a test can listen on, cut, or stand in."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from mesh.core.join import Place
from mesh.core.join_code import JoinCode
from mesh.core.kinds import Role
from mesh.shell.join_device import Joined, join_venue
from mesh.shell.join_office import open_office
from mesh.shell.join_stream import APPLICATION_PROTOCOL
from mesh.shell.join_welcome import WelcomeOptions, run_welcome
from mesh.shell.network import Endpoint
from mesh.shell.output import Output
from mesh.shell.venue import create_venue
from mesh.views.automerge_document import DocumentFields

LOOPBACK: Final = "127.0.0.1"
NOON_S: Final = 1_780_000_000.0
PATIENCE_S: Final = 60
READER: Final = frozenset({Role.READER})


class Said(Output):
    """What the office says, kept for the test."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.events: list[dict[str, Any]] = []
        self._changed = trio.Event()

    def emit(self, event: str, text: str | None, /, **fields: Any) -> None:
        self.events.append({"event": event, **fields})
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, event: str) -> dict[str, Any]:
        """The latest of these, once there is one."""
        while not (found := [said for said in self.events if said["event"] == event]):
            await self._changed.wait()
        return found[-1]


@dataclass
class OpenOffice:
    """An event on disk, its office open on loopback."""

    venue: Path
    said: Said
    port: int = 0

    @property
    def at(self) -> Endpoint:
        return Endpoint(LOOPBACK, self.port)

    def invite(self, *names: str, roles: frozenset[Role] = READER, zone: str | None = "north") -> list[JoinCode]:
        places = [Place(name, roles, zone) for name in names]
        invited = open_office(self.venue).invite(places, until_s=None, now_s=NOON_S, anew=False)
        assert all(one.code is not None for one in invited)
        return [one.code for one in invited if one.code is not None]

    def certificates(self) -> list[str]:
        return [certificate.name for certificate in open_office(self.venue).authority.issued()]

    async def join(self, code: JoinCode, directory: Path, *, at: Endpoint | None = None) -> Joined:
        with trio.fail_after(PATIENCE_S):
            return await join_venue(code, directory, at=at or self.at, interface=None, tell=lambda text: None)


async def make_event(directory: Path, name: str = "Riverside") -> Path:
    """An event with the zones north and south."""
    fields = DocumentFields(name, "EUR", 2, ("north", "south"), 5000, b"", b"")
    await create_venue(directory, "manager", fields)
    return directory


@asynccontextmanager
async def open_for_joining(venue: Path) -> AsyncIterator[OpenOffice]:
    """Open the office of an event until the block ends."""
    said = Said()
    office = OpenOffice(venue, said)
    options = WelcomeOptions(Endpoint(LOOPBACK, 0), mdns=False, interface=None, until_all_joined=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_welcome, venue, options, said)
        office.port = (await said.until("ready"))["port"]
        yield office
        nursery.cancel_scope.cancel()


@dataclass
class Wire:
    """A listener that passes bytes on to `target`. What passed is kept; after `limits` of a direction all is cut."""

    target: Endpoint
    port: int = 0
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)
    up_max: int | None = None
    down_max: int | None = None

    @property
    def at(self) -> Endpoint:
        return Endpoint(LOOPBACK, self.port)

    async def carry(self, device: trio.SocketStream) -> None:
        office = await trio.open_tcp_stream(self.target.host, self.target.port)
        async with device, office, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, device, office, self.up, self.up_max, nursery.cancel_scope)
            nursery.start_soon(self._pass, office, device, self.down, self.down_max, nursery.cancel_scope)

    async def _pass(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        kept: bytearray,
        bytes_max: int | None,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                room = len(data) if bytes_max is None else max(0, bytes_max - len(kept))
                kept += data[:room]
                if room:
                    await sink.send_all(data[:room])
                if room < len(data):
                    break
        scope.cancel()


@asynccontextmanager
async def wire_to(target: Endpoint, *, up_max: int | None = None, down_max: int | None = None) -> AsyncIterator[Wire]:
    """A wire to an office, in this process."""
    wire = Wire(target, up_max=up_max, down_max=down_max)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        wire.port = listener.socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, wire.carry, [listener]))
        yield wire
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def impostor(certificate: Path, key: Path) -> AsyncIterator[tuple[Endpoint, list[bytes]]]:
    """Somebody with a certificate of their own who answers in the office's place; yields what devices told them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols([APPLICATION_PROTOCOL])
    told: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)
        with suppress(trio.BrokenResourceError):
            await secured.do_handshake()
            while data := await secured.receive_some():
                told.append(bytes(data))

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield Endpoint(LOOPBACK, listener.socket.getsockname()[1]), told
        nursery.cancel_scope.cancel()
