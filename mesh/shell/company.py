"""Whom a device keeps company with in one place: carries out what :mod:`mesh.core.overlay` decides.

The policy knows names; here they have addresses. What mDNS says is a rumour: TLS and the certificate decide who is
there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from mesh.core.overlay import Overlay
from mesh.core.overlay_events import Dial, DialFailed, Drop, Event, Found, Lost, Tick
from mesh.shell.discovery import PeerFound

Address: TypeAlias = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """What became of one address: whether there was a link, which is over by now, and who answered, if anybody did."""

    linked: bool
    node: str | None = None


@dataclass(slots=True)
class Company:
    """The policy of a device, with the tasks that it takes."""

    overlay: Overlay
    dial: Callable[[str, Address], Awaitable[Dialled]]
    """Dial a candidate at one address, and run what becomes of it to its end."""
    drop: Callable[[int, str], None]
    """Say goodbye on a link."""
    addresses: dict[str, Sequence[Address]]
    """Of each candidate."""
    nursery: trio.Nursery
    """Where dials and links run."""
    _nodes: dict[str, str] = field(default_factory=dict)
    """Of each name that discovery uses, whose it is."""
    _changed: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Keep company until cancelled."""
        while True:
            self.handle(Tick())
            await self._until_due()

    async def _until_due(self) -> None:
        await trio.lowlevel.checkpoint()
        while trio.current_time() < (deadline := self.overlay.deadline()):
            self._changed = trio.Event()
            with trio.move_on_at(deadline):
                await self._changed.wait()

    def handle(self, event: Event) -> None:
        """Tell the policy of something, and carry out what follows."""
        for effect in self.overlay.handle(event, trio.current_time()):
            match effect:
                case Dial(candidate):
                    self.nursery.start_soon(self._dial, candidate)
                case Drop(link, reason):
                    self.drop(link, reason)
        self._changed.set()

    def found(self, peer: PeerFound) -> None:
        """Discovery tells of somebody, or of new addresses."""
        self._nodes[peer.name] = peer.node
        self.addresses[peer.node] = [(address, peer.port) for address in peer.addresses]
        self.handle(Found(peer.node, peer.zone))

    def lost(self, name: str) -> None:
        """Discovery says that a name is gone; who is linked stays."""
        node = self._nodes.pop(name, None)
        if node is not None:
            del self.addresses[node]
            self.handle(Lost(node))

    async def _dial(self, candidate: str) -> None:
        node = None
        for address in self.addresses.get(candidate, ()):
            dialled = await self.dial(candidate, address)
            if dialled.linked:
                return
            node = dialled.node or node
        self.handle(DialFailed(candidate, node))


def kept_addresses(peers: Sequence[Address]) -> Mapping[str, Sequence[Address]]:
    """What a person gave, as candidates: their names are their addresses."""
    return {f"{host}:{port}": [(host, port)] for host, port in peers}
