"""The mesh around a device: accept links, dial peers, and keep at most one link to each.

Whom to dial, whom to let in and which link to give up is decided by :mod:`mesh.core.overlay`; `mesh.shell.company` has
the tasks for it. Here links begin and end.
"""

from __future__ import annotations

import errno
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.core.events import LinkDown, LinkUp, Moved, Serve
from mesh.core.kinds import Role
from mesh.core.messages import Bye, encode_message
from mesh.core.overlay import ENOUGH_LINKS, Overlay
from mesh.core.overlay_events import Event, InStep, Linked, Met, Parted
from mesh.core.zone import ACROSS_ZONES
from mesh.errors import LocalError, PeerError
from mesh.limits import (
    ACCEPT_PAUSE_S,
    CROSSING_S,
    DIAL_S_MAX,
    HANDSHAKE_PAUSE_S,
    HANDSHAKE_S_MAX,
    HANDSHAKES_MAX,
    LINKS_MAX,
    REFUSED_PEER_S,
)
from mesh.shell.carrier import Carrier, Listening, TlsCarrier
from mesh.shell.company import Address, Company, Dialled, kept_addresses
from mesh.shell.device import Device
from mesh.shell.discovery import Announcement, NoNetwork, PeerFound, PeerLost, TooManyNames
from mesh.shell.links import GOODBYE_S, Link


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
    _company: Company | None = None
    """Of the place where the device is."""
    _handshaking: deque[trio.CancelScope] = field(default_factory=deque)
    """Accepted connections before their certificates, the oldest first."""
    _door: trio.Lock = field(default_factory=trio.Lock)
    _door_opens_at: float = -math.inf
    _refused_until: dict[int, float] = field(default_factory=dict)
    """Until when a device that broke a rule is not listened to, by serial number: at most every enrolled device."""

    # -- Links -----------------------------------------------------------------------------------------------------

    def send(self, link: int, data: bytes) -> None:
        if link in self.links and self.links[link].closing is None:
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

    def met(self, link: int) -> None:
        self._tell_company(Met(link, self.device.node.zone_of(link)))

    def in_step(self, link: int) -> None:
        self._tell_company(InStep(link))

    def _say_goodbye(self, number: int, reason: str) -> None:
        """End a link by choice. The node forgets it first: behind a bye nothing may be said."""
        link = self.links.get(number)
        if link is not None and link.closing is None:
            self.device.post(LinkDown(number))
            link.send(encode_message(Bye(reason)))
            link.close(reason)

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
        self._company = None
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
            await self._link(carrier, stream, None)

        async with trio.open_nursery() as nursery:
            company = self._company = self._company_here(carrier, nursery)
            nursery.start_soon(trio.serve_listeners, accept, [_Door(listener) for listener in listening.listeners])
            nursery.start_soon(company.run)
            if self.settings.mdns:
                nursery.start_soon(self._discover, carrier, company)

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

    async def _link(self, carrier: Carrier, stream: trio.abc.Stream, candidate: str | None) -> Dialled:
        """Authenticate and run one link to its end; `candidate` is what was dialled, None for a peer that came."""
        scope = trio.CancelScope()
        link: Link | None = None
        node: str | None = None
        try:
            with scope:
                peer = await self._authenticate(carrier, stream, scope, dialled=candidate is not None)
                node = peer.node
                link = await self._admit(stream, peer, scope, candidate)
                if link is not None:
                    await link.run(self.device)
        except (PeerError, trio.TooSlowError) as error:
            self.refused += 1
            reason = "the handshake took too long" if isinstance(error, trio.TooSlowError) else str(error)
            self.report(f"a connection was refused: {reason}")
        finally:
            if link is not None:
                self._ended(link)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        return Dialled(link is not None, node)

    def _ended(self, link: Link) -> None:
        if self.links.pop(link.number, None) is None:
            return
        reason = link.closing or "this end was stopped"
        met = self.device.link_ended(link.number, reason)
        if not met and ENOUGH_LINKS not in reason:
            self.report(f"a link to {link.peer.name} did not come about: {reason}")
        self._tell_company(Parted(link.number, self._is_refused(link.peer)))
        if not self.links:
            self._no_links.set()

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

    async def _admit(
        self, stream: trio.abc.Stream, peer: DeviceCertificate, scope: trio.CancelScope, candidate: str | None
    ) -> Link | None:
        """Let an authenticated peer in, unless it is ourselves, one link too many, or a second link that should go."""
        if peer.serial == self.device.certificate.serial or len(self.links) >= LINKS_MAX:
            return None
        revoked = peer.serial in self.device.node.revocations  # It is told why, each time.
        if not revoked:
            if self._is_refused(peer):
                return None
            if not self._has_room(peer, candidate):
                await _turn_away(stream)
                return None
        for other in self.links.values():
            if other.peer.serial == peer.serial:
                is_crossing = trio.current_time() - other.since < CROSSING_S
                is_preferred = self._is_preferred(peer, dialled=candidate is not None)
                if is_crossing and self._preferred(other) and not is_preferred:
                    return None
                other.close("a newer link to the same device took its place")
                other.scope.cancel()
        self._numbers += 1
        link = self.links[self._numbers] = Link(self._numbers, peer, candidate is not None, stream, scope)
        self._tell_company(Linked(link.number, peer.node, _bridges(peer), candidate))
        self.device.post(LinkUp(link.number, peer))
        return link

    def _is_refused(self, peer: DeviceCertificate) -> bool:
        return trio.current_time() < self._refused_until.get(peer.serial, -math.inf)

    def _has_room(self, peer: DeviceCertificate, candidate: str | None) -> bool:
        if self._company is None:
            return False  # On the way to another place.
        overlay = self._company.overlay
        return overlay.has_room(peer.node, trio.current_time(), bridges=_bridges(peer), candidate=candidate)

    def _preferred(self, link: Link) -> bool:
        return self._is_preferred(link.peer, dialled=link.dialled)

    def _is_preferred(self, peer: DeviceCertificate, *, dialled: bool) -> bool:
        """Both ends keep the link that the smaller serial number dialled."""
        return dialled == (self.device.certificate.serial < peer.serial)

    # -- Finding peers ---------------------------------------------------------------------------------------------

    def _company_here(self, carrier: Carrier, nursery: trio.Nursery) -> Company:
        """A policy that knows nobody yet but the addresses that a person gave."""
        certificate, settings = self.device.certificate, self.settings
        addresses = dict(kept_addresses([(peer.host, peer.port) for peer in settings.peers]))
        overlay = Overlay(
            certificate.node,
            self.device.node.zone,
            self.device.surroundings.jitter,
            trio.current_time(),
            bridges=_bridges(certificate) and not settings.zone_bound,
            kept=tuple(addresses),
            passes_by=settings.zone_bound and Role.COURIER in certificate.roles,
            discovers=settings.mdns,
        )

        async def dial(candidate: str, address: Address) -> Dialled:
            try:
                with trio.fail_after(DIAL_S_MAX):
                    stream = await carrier.dial(*address)
            except (OSError, trio.TooSlowError):
                return Dialled(linked=False)
            return await self._link(carrier, stream, candidate)

        return Company(overlay, dial, self._say_goodbye, addresses, nursery)

    def _tell_company(self, event: Event) -> None:
        if self._company is not None:
            self._company.handle(event)

    async def _discover(self, carrier: Carrier, company: Company) -> None:
        own = Announcement(
            venue=self.device.root.venue_id.hex()[:16],
            node=self.device.certificate.node,
            zone=self.device.node.zone,
            port=self.port,
            addresses=self.settings.interfaces or (),
        )
        async with carrier.discovery(own, self.settings.interfaces) as notices:
            async for notice in notices:
                match notice:
                    case PeerFound():
                        company.found(notice)
                    case PeerLost(name):
                        company.lost(name)
                    case NoNetwork(reason):
                        self.report(reason)
                    case TooManyNames(name):
                        self.report(f"more devices announce themselves than are followed; {name} is not tried")


def _bridges(certificate: DeviceCertificate) -> bool:
    return bool(certificate.roles & ACROSS_ZONES)


async def _turn_away(stream: trio.abc.Stream) -> None:
    """Say why there will be no link, and wait until that was heard: what is unread would end the stream before it."""
    with trio.move_on_after(GOODBYE_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(encode_message(Bye(ENOUGH_LINKS)))
        while await stream.receive_some():
            pass
