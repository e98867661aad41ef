"""What a network needs from below: a door to listen at, a way to dial, news of who is there, and who somebody is.

:class:`TlsCarrier` is TLS over TCP with mDNS, as everywhere; the simulator has one whose streams are in memory
(docs/adr/0046-the-shell-under-a-mock-clock.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.limits import HANDSHAKES_MAX
from mesh.shell.discovery import Announcement, Notice, discovery
from mesh.shell.keys import Identity
from mesh.shell.tls import client_context, handshake, server_context, with_full_reads


@dataclass(frozen=True, slots=True)
class Listening:
    """Where others can reach this device now."""

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    port: int


class Carrier(Protocol):
    """Carries the links of one device."""

    async def listen(self, host: str, port: int) -> Listening:
        """Listen, at any port where 0 is asked for; `OSError` where that cannot be."""
        ...

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """Connect to whoever is there; `OSError` where nobody is."""
        ...

    async def authenticate(self, stream: trio.abc.Stream) -> DeviceCertificate:
        """Find out who is at the other end of a new stream, or raise a `PeerError`; the caller sets a deadline."""
        ...

    def discovery(
        self, own: Announcement, interfaces: Sequence[str] | None
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Notice]]:
        """Announce this device, and hear of others, while the block lasts."""
        ...


class TlsCarrier:
    """Implements :class:`Carrier` on this machine's network."""

    def __init__(self, identity: Identity) -> None:
        self._root = identity.root
        self._server = with_full_reads(server_context(identity))
        self._client = with_full_reads(client_context(identity))

    async def listen(self, host: str, port: int) -> Listening:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=HANDSHAKES_MAX)
        secured = [trio.SSLListener(listener, self._server) for listener in listeners]
        return Listening(secured, listeners[0].socket.getsockname()[1])

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        return trio.SSLStream(await trio.open_tcp_stream(host, port), self._client)

    async def authenticate(self, stream: trio.abc.Stream) -> DeviceCertificate:
        assert isinstance(stream, trio.SSLStream), "a stream that this carrier did not make"
        return await handshake(stream, self._root)

    def discovery(
        self, own: Announcement, interfaces: Sequence[str] | None
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Notice]]:
        return discovery(own, interfaces=interfaces)
