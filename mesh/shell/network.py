"""The mesh around a device: accept links, find peers, dial them, keep at most one link to each.

Who dials whom: in one zone the device with the smaller serial number dials, so that two do not meet half way; across
zones couriers and gateways dial. `--peer` addresses are dialled always. A peer that is gone is dialled again with
growing, jittered pauses. What mDNS says is a rumour: TLS and the certificate decide who is there.
"""

from __future__ import annotations

import errno
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.core.events import LinkUp, Moved, Serve
from mesh.core.zone import ACROSS_ZONES
from mesh.errors import LocalError, PeerError
from mesh.limits import (
    ACCEPT_PAUSE_S,
    HANDSHAKE_PAUSE_S,
    HANDSHAKE_S_MAX,
    HANDSHAKES_MAX,
    LINKS_MAX,
    REFUSED_PEER_S,
)
from mesh.shell.carrier import Carrier, Listening, TlsCarrier
from mesh.shell.device import Device
from mesh.shell.discovery import Announcement, NoNetwork, PeerFound, PeerLost, TooManyNames
from mesh.shell.links import GOODBYE_S, Link

RETRY_S_MIN: Final = 0.2
RETRY_S_MAX: Final = 10.0
DIAL_ANYWAY_S: Final = 3.0
"""The larger of two devices dials too if nobody came for this long: mDNS may be heard one way only."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens, or a peer is dialled."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a device takes part in the mesh. Port 0 lets the system choose."""

    listen: Endpoint
    peers: tuple[Endpoint, ...] = ()
    mdns: bool = True
    interfaces: tuple[str, ...] | None = None
    zone_bound: bool = False
    """Dial only nodes of the own zone, also where the role would allow others: a courier is in one place at a time."""


class _Door(trio.abc.Listener[trio.abc.Stream]):
    """Accepts connections no faster than one each `ACCEPT_PAUSE_S`; a lone one waits for nothing."""

    def __init__(self, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        self._listener = listener
        self._opens_at = -math.inf

    async def accept(self) -> trio.abc.Stream:
        await trio.sleep_until(self._opens_at)
        stream = await self._listener.accept()
        self._opens_at = trio.current_time() + ACCEPT_PAUSE_S
        return stream

    async def aclose(self) -> None:
        await self._listener.aclose()


@dataclass(slots=True)
class Network:
    """Carries a device's effects out over TLS links; `report` tells people what happens to links."""

    device: Device
    settings: Settings
    report: Callable[[str], None] = field(default=lambda text: None)
    carrier: Carrier | None = None
    """What carries the links; TLS over TCP unless something else was given."""
    links: dict[int, Link] = field(default_factory=dict)
    refused: int = 0
    port: int = 0
    _numbers: int = 0
    _place: trio.CancelScope | None = None
    """Everything that happens where the device is now; cancelled when it is carried to another place."""
    _arrived: trio.Event = field(default_factory=trio.Event)
    _no_links: trio.Event = field(default_factory=trio.Event)
    _dialling: dict[str, trio.CancelScope] = field(default_factory=dict)
    _handshaking: deque[trio.CancelScope] = field(default_factory=deque)
    """Accepted connections before their certificates, the oldest first."""
    _door: trio.Lock = field(default_factory=trio.Lock)
    _door_opens_at: float = -math.inf
    _refused_until: dict[int, float] = field(default_factory=dict)
    """Until when a device that broke a rule is not listened to, by serial number: at most every enrolled device."""

    # -- Links -----------------------------------------------------------------------------------------------------

    def send(self, link: int, data: bytes) -> None:
        if link in self.links:
            self.links[link].send(data)

    def serve(self, effect: Serve) -> None:
        if effect.link in self.links:
            self.links[effect.link].serve(effect)

    def close(self, link: int, reason: str, *, blame_peer: bool) -> None:
        if link in self.links:
            if blame_peer:
                self.refused += 1
                self._refused_until[self.links[link].peer.serial] = trio.current_time() + REFUSED_PEER_S
            self.links[link].close(reason)

    # -- Running ---------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part in the mesh until cancelled; reports the port that is listened on when ready."""
        self.device.links = self
        self.device.node.zone_bound = self.settings.zone_bound
        carrier = TlsCarrier(self.device.identity) if self.carrier is None else self.carrier
        try:
            while True:
                listening = await self._listen(carrier)
                self.port = listening.port
                if self._place is None:
                    task_status.started(self.port)
                with trio.CancelScope() as self._place:
                    self._arrived.set()
                    await self._run_here(carrier, listening)
        finally:
            self.device.links = None
            for number in list(self.links):
                del self.links[number]
                self.device.link_ended(number, "this program ends")

    async def move(self, zone: str) -> None:
        """Take part in another zone from now on: say goodbye to everyone here, listen anew, announce the new zone.

        With port 0 the port is another one afterwards: what knew the old address belongs to the place that was left.
        """
        self.device.post(Moved(zone))
        with trio.move_on_after(GOODBYE_S):
            while self.links:
                self._no_links = trio.Event()
                await self._no_links.wait()
        assert self._place is not None, "a network that does not run cannot be moved"
        self._arrived = trio.Event()
        self._place.cancel()
        await self._arrived.wait()

    async def _run_here(self, carrier: Carrier, listening: Listening) -> None:
        async def accept(stream: trio.abc.Stream) -> None:
            await self._link(carrier, stream, dialled=False)

        async def dial(endpoint: Endpoint) -> bool:
            try:
                stream = await carrier.dial(endpoint.host, endpoint.port)
            except OSError:
                return False
            return await self._link(carrier, stream, dialled=True)

        self._dialling.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, accept, [_Door(listener) for listener in listening.listeners])
            for endpoint in self.settings.peers:
                nursery.start_soon(self._keep_dialled, dial, [endpoint], lambda: True)
            if self.settings.mdns:
                nursery.start_soon(self._discover, carrier, dial, nursery)

    async def _listen(self, carrier: Carrier) -> Listening:
        listen = self.settings.listen
        try:
            return await carrier.listen(listen.host, listen.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise LocalError(
                    f"{listen} is taken by another program; nothing was started. Choose another --listen, or port 0 "
                    f"for any that is free"
                ) from error
            raise LocalError(f"cannot listen on {listen}: {error.strerror}; nothing was started") from error

    # -- One link --------------------------------------------------------------------------------------------------

    async def _link(self, carrier: Carrier, stream: trio.abc.Stream, *, dialled: bool) -> bool:
        """Authenticate and run one link to its end; True if each end let the other in."""
        scope = trio.CancelScope()
        link: Link | None = None
        met = False
        try:
            with scope:
                peer = await self._authenticate(carrier, stream, scope, dialled=dialled)
                link = self._admit(stream, peer, scope, dialled=dialled)
                if link is not None:
                    await link.run(self.device)
        except (PeerError, trio.TooSlowError) as error:
            self.refused += 1
            reason = "the handshake took too long" if isinstance(error, trio.TooSlowError) else str(error)
            self.report(f"a connection was refused: {reason}")
        finally:
            if link is not None and self.links.pop(link.number, None) is not None:
                reason = link.closing or "this end was stopped"
                met = self.device.link_ended(link.number, reason)
                if not met:
                    self.report(f"a link to {link.peer.name} did not come about: {reason}")
                if not self.links:
                    self._no_links.set()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        return met

    async def _authenticate(
        self, carrier: Carrier, stream: trio.abc.Stream, scope: trio.CancelScope, *, dialled: bool
    ) -> DeviceCertificate:
        """Find out who is there. Of too many strangers at once the one that has taken longest is sent away.

        An honest handshake takes milliseconds, so it is never the one.
        """
        if not dialled:
            self._handshaking.append(scope)
            if len(self._handshaking) > HANDSHAKES_MAX:
                self._handshaking.popleft().cancel()
                self.refused += 1
                self.report("a connection was refused: too many handshakes at once, and this one took longest")
        try:
            with trio.fail_after(HANDSHAKE_S_MAX):
                if not dialled:
                    async with self._door:
                        await trio.sleep_until(self._door_opens_at)
                        self._door_opens_at = trio.current_time() + HANDSHAKE_PAUSE_S
                return await carrier.authenticate(stream)
        finally:
            if scope in self._handshaking:
                self._handshaking.remove(scope)

    @property
    def handshakes(self) -> int:
        """Accepted connections whose other end has not shown yet who it is."""
        return len(self._handshaking)

    def _admit(
        self,
        stream: trio.abc.Stream,
        peer: DeviceCertificate,
        scope: trio.CancelScope,
        *,
        dialled: bool,
    ) -> Link | None:
        """Let an authenticated peer in, unless it is ourselves, one link too many, or a second link that should go."""
        if peer.serial == self.device.certificate.serial or len(self.links) >= LINKS_MAX:
            return None
        revoked = peer.serial in self.device.node.revocations  # It is told why, each time.
        if not revoked and trio.current_time() < self._refused_until.get(peer.serial, -math.inf):
            return None
        for other in self.links.values():
            if other.peer.serial == peer.serial:
                if self._preferred(other) and not self._is_preferred(peer, dialled=dialled):
                    return None
                other.close("a newer link to the same device took its place")
                other.scope.cancel()
        self._numbers += 1
        link = self.links[self._numbers] = Link(self._numbers, peer, dialled, stream, scope)
        self.device.post(LinkUp(link.number, peer))
        return link

    def _preferred(self, link: Link) -> bool:
        return self._is_preferred(link.peer, dialled=link.dialled)

    def _is_preferred(self, peer: DeviceCertificate, *, dialled: bool) -> bool:
        """Both ends keep the link that the smaller serial number dialled."""
        return dialled == (self.device.certificate.serial < peer.serial)

    def _linked(self, node: str) -> bool:
        return any(link.peer.node == node for link in self.links.values())

    # -- Finding peers ---------------------------------------------------------------------------------------------

    async def _keep_dialled(
        self, dial: Callable[[Endpoint], Awaitable[bool]], endpoints: Sequence[Endpoint], wanted: Callable[[], bool]
    ) -> None:
        """Dial again whenever there is no link, with growing pauses; a link that came about starts them over."""
        pause = RETRY_S_MIN
        while True:
            for endpoint in endpoints:
                if wanted() and await dial(endpoint):
                    pause = RETRY_S_MIN
                    break
            # Jitter only keeps many devices from dialling in step; nothing depends on its value.
            await trio.sleep(pause * self.device.surroundings.jitter(0.5, 1.0))
            pause = min(RETRY_S_MAX, pause * 2)

    async def _discover(
        self, carrier: Carrier, dial: Callable[[Endpoint], Awaitable[bool]], nursery: trio.Nursery
    ) -> None:
        certificate = self.device.certificate
        own = Announcement(
            venue=self.device.root.venue_id.hex()[:16],
            node=certificate.node,
            zone=self.device.node.zone,
            port=self.port,
            addresses=self.settings.interfaces or (),
        )
        async with carrier.discovery(own, self.settings.interfaces) as notices:
            async for notice in notices:
                match notice:
                    case PeerFound():
                        self._found(notice, own.node, dial, nursery)
                    case PeerLost(name):
                        scope = self._dialling.pop(name, None)
                        if scope is not None:
                            scope.cancel()
                    case NoNetwork(reason):
                        self.report(reason)
                    case TooManyNames(name):
                        self.report(f"more devices announce themselves than are followed; {name} is not tried")

    def _found(
        self, found: PeerFound, own_node: str, dial: Callable[[Endpoint], Awaitable[bool]], nursery: trio.Nursery
    ) -> None:
        earlier = self._dialling.pop(found.name, None)
        if earlier is not None:
            earlier.cancel()
        same_zone = found.zone == self.device.node.zone
        bridges = bool(self.device.certificate.roles & ACROSS_ZONES) and not self.settings.zone_bound
        if not (same_zone or bridges):
            return
        scope = self._dialling[found.name] = trio.CancelScope()
        endpoints = [Endpoint(address, found.port) for address in found.addresses]
        pause = 0.0 if bridges or own_node < found.node else DIAL_ANYWAY_S
        nursery.start_soon(self._dial_found, scope, dial, endpoints, found.node, pause)

    async def _dial_found(
        self,
        scope: trio.CancelScope,
        dial: Callable[[Endpoint], Awaitable[bool]],
        endpoints: list[Endpoint],
        node: str,
        pause: float,
    ) -> None:
        with scope:
            await trio.sleep(pause)
            await self._keep_dialled(dial, endpoints, lambda: not self._linked(node))
