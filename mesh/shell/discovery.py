"""Finding peers on the local network: mDNS service discovery (RFC 6762, RFC 6763) through zeroconf's threads.

A node announces `NODE._tapmesh._tcp.local.`, where NODE is 16 hex digits derived from its link key, with TXT records
`v` (version), `venue` (first 16 hex digits of the venue id), `zone` and `node`. What is heard is a rumour: anyone can
say anything on a network. It only tells where to try; who is there is decided by TLS, and whether a peer still lives by
the link itself, because a device that loses power says no goodbye.

Questions become rare, once an hour in the end, and what was said once is not heard on a cable that is plugged in later.
So a node says again and again that it is here, the less often the more there are; ADR 96.

A reader sells without a network. Where there is no interface this says so once, :class:`NoNetwork`, and tries again.

zeroconf calls back in its own thread. Only the name is handed over, through `TrioToken.run_sync_soon`, into a table
with one place a name, so that nothing is queued twice; whatever is not of use is dropped in trio's thread.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import ifaddr
import trio
from zeroconf import (
    BadTypeInNameException,
    Error,
    InterfaceChoice,
    IPVersion,
    NonUniqueNameException,
    ServiceBrowser,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)

from mesh.limits import (
    ANNOUNCED_AGAIN_S_MAX,
    ANNOUNCED_AGAIN_S_MIN,
    ANNOUNCEMENTS_PER_S_MAX,
    DISCOVERED_NAMES_MAX,
    PEER_ADDRESSES_MAX,
    ZONE_CHARS_MAX,
)

SERVICE_TYPE: Final = "_tapmesh._tcp.local."
PROTOCOL_VERSION: Final = "1"
UPDATE_INTERFACES_S: Final = 10.0
RETRY_NETWORK_S: Final = 5.0
_RESOLVE_MS: Final = 2_000
_RESOLVERS: Final = 4
_NODE_DIGITS: Final = 16
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_LIBRARY_ERRORS: Final = (OSError, RuntimeError, Error)
"""What zeroconf raises where there is no usable interface: an OSError for a given address, a RuntimeError for none."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node says about itself. `venue` and `node` are 16 hex digits; `addresses` are IPv4, none for all."""

    venue: str
    node: str
    zone: str
    port: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A node of this venue says it is here, or has changed what it says. Nothing of it has been checked."""

    name: str
    addresses: tuple[str, ...]
    port: int
    zone: str
    node: str


@dataclass(frozen=True, slots=True)
class PeerLost:
    """A node said goodbye, or has not been heard for its record's lifetime (about an hour)."""

    name: str


@dataclass(frozen=True, slots=True)
class NoNetwork:
    """There is no network interface: said once an outage. Sales go on; this node keeps trying."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooManyNames:
    """More instances are announced than are followed; those beyond the bound are not tried."""

    name: str


Notice: TypeAlias = PeerFound | PeerLost | NoNetwork | TooManyNames


@dataclass(slots=True)
class _Heard:
    """Names that changed and wait to be looked up; only touched in trio's thread."""

    names: dict[str, ServiceStateChange] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    overflowed: list[str] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def note(self, name: str, state: ServiceStateChange) -> None:
        if name in self.names or len(self.names) < DISCOVERED_NAMES_MAX:
            self.names[name] = state
        elif not self.overflowed:
            self.overflowed.append(name)
        self.changed.set()


@asynccontextmanager
async def discovery(
    own: Announcement, *, interfaces: Sequence[str] | None = None
) -> AsyncIterator[trio.MemoryReceiveChannel[Notice]]:
    """Announce `own` and yield a channel of notices about others, until the block ends.

    `interfaces` are IPv4 addresses of this machine (`["127.0.0.1"]` keeps everything on it); None means all.
    """
    send, receive = trio.open_memory_channel[Notice](0)
    async with trio.open_nursery() as nursery, receive:
        nursery.start_soon(_keep_discovering, own, interfaces, send)
        yield receive
        nursery.cancel_scope.cancel()


async def _keep_discovering(
    own: Announcement, interfaces: Sequence[str] | None, send: trio.MemorySendChannel[Notice]
) -> None:
    told = False
    with suppress(trio.BrokenResourceError):  # the receiver went away first
        while True:
            try:
                zeroconf = await trio.to_thread.run_sync(partial(_open, interfaces))
            except _LIBRARY_ERRORS as error:
                if not told:
                    await send.send(NoNetwork(f"no network to find other devices on ({error}); sales go on here"))
                told = True
                await trio.sleep(RETRY_NETWORK_S)
                continue
            told = False
            await _discover(zeroconf, own, interfaces, send)


async def _discover(
    zeroconf: Zeroconf, own: Announcement, interfaces: Sequence[str] | None, send: trio.MemorySendChannel[Notice]
) -> None:
    """Run until cancelled, or until the network goes away; always closes `zeroconf` (which says goodbye)."""
    heard = _Heard()
    token = trio.lowlevel.current_trio_token()

    def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(heard.note, name, state_change)

    try:
        await trio.to_thread.run_sync(partial(ServiceBrowser, zeroconf, SERVICE_TYPE, handlers=[on_change]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_announce, zeroconf, own, heard.known)
            nursery.start_soon(_look_up, zeroconf, own, heard, send)
            await _follow_interfaces(zeroconf, own, interfaces)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


async def _follow_interfaces(zeroconf: Zeroconf, own: Announcement, interfaces: Sequence[str] | None) -> None:
    """Take up new addresses, and announce this node's when they changed; return when the network is gone."""
    announced = service_info(own).parsed_addresses()
    while True:
        await trio.sleep(UPDATE_INTERFACES_S)
        try:
            await trio.to_thread.run_sync(lambda: zeroconf.update_interfaces(_present(interfaces)))
            now = service_info(own)
            if now.parsed_addresses() != announced:
                announced = now.parsed_addresses()
                await trio.to_thread.run_sync(zeroconf.update_service, now)
        except _LIBRARY_ERRORS:
            return


async def _announce(zeroconf: Zeroconf, own: Announcement, known: Collection[str]) -> None:
    info = service_info(own)
    # The name is derived from the node's key: who holds it already is this node's own echo from before a restart.
    with suppress(NonUniqueNameException):
        await trio.to_thread.run_sync(partial(zeroconf.register_service, info, cooperating_responders=True))
    await keep_announcing(zeroconf, own, known)


async def keep_announcing(zeroconf: Zeroconf, own: Announcement, known: Collection[str]) -> None:
    """Say again and again that this node is here, unasked (RFC 6762, section 8.3); `known` are the others now."""
    while True:
        await trio.sleep(pause_s(own.node, len(known)))
        # As it is now: an address may have changed since.
        zeroconf.send(zeroconf.generate_service_broadcast(service_info(own), None))


def pause_s(node: str, known: int) -> float:
    """How long to say nothing, with so many others to be heard. Nodes of different names never keep in step.

    >>> pause_s("0000000000000000", 0), pause_s("ffffffffffffffff", 0)
    (7.5, 12.5)
    >>> pause_s("8000000000000000", 150), pause_s("8000000000000000", 10_000)
    (30.0, 60.0)
    """
    pause = min(ANNOUNCED_AGAIN_S_MAX, max(ANNOUNCED_AGAIN_S_MIN, known / ANNOUNCEMENTS_PER_S_MAX))
    return pause * (0.75 + 0.5 * int(node, 16) / 16**_NODE_DIGITS)


async def _look_up(zeroconf: Zeroconf, own: Announcement, heard: _Heard, send: trio.MemorySendChannel[Notice]) -> None:
    resolvers = trio.CapacityLimiter(_RESOLVERS)
    async with trio.open_nursery() as nursery:
        while True:
            await heard.changed.wait()
            heard.changed = trio.Event()
            names, heard.names = heard.names, {}
            while heard.overflowed:
                await send.send(TooManyNames(heard.overflowed.pop()))
            for name, state in names.items():
                if name == instance_name(own.node):
                    continue
                if state is not ServiceStateChange.Removed:
                    await resolvers.acquire_on_behalf_of(name)
                    nursery.start_soon(_resolve, zeroconf, own, name, heard, send, resolvers)
                elif name in heard.known:
                    heard.known.discard(name)
                    await send.send(PeerLost(name))


async def _resolve(
    zeroconf: Zeroconf,
    own: Announcement,
    name: str,
    heard: _Heard,
    send: trio.MemorySendChannel[Notice],
    resolvers: trio.CapacityLimiter,
) -> None:
    """Ask what a name stands for and tell, if it is a peer. Names that do not answer are heard of again by mDNS."""
    try:
        info = await trio.to_thread.run_sync(partial(_request, zeroconf, name), abandon_on_cancel=True)
    finally:
        resolvers.release_on_behalf_of(name)
    peer = peer_of(info, own) if info is not None else None
    if peer is None:
        return
    if name not in heard.known and len(heard.known) >= DISCOVERED_NAMES_MAX:
        await send.send(TooManyNames(name))
        return
    heard.known.add(name)
    await send.send(peer)


def instance_name(node: str) -> str:
    """The full service instance name of a node."""
    return f"{node}.{SERVICE_TYPE}"


def service_info(own: Announcement) -> ServiceInfo:
    """The records that announce a node."""
    return ServiceInfo(
        SERVICE_TYPE,
        instance_name(own.node),
        port=own.port,
        properties={"v": PROTOCOL_VERSION, "venue": own.venue, "zone": own.zone, "node": own.node},
        server=f"tapmesh-{own.node}.local.",
        parsed_addresses=list(own.addresses or _own_addresses()),
    )


def peer_of(info: ServiceInfo, own: Announcement) -> PeerFound | None:
    """What an announcement says, if it is of this venue, not one's own, and within every bound; else None."""
    texts = {key: _text(info.properties.get(key.encode())) for key in ("v", "venue", "zone", "node")}
    node, zone = texts["node"], texts["zone"]
    if texts["v"] != PROTOCOL_VERSION or texts["venue"] != own.venue or node is None or node == own.node:
        return None
    if len(node) != _NODE_DIGITS or not set(node) <= _HEXADECIMAL or info.name != instance_name(node):
        return None
    if zone is None or not 1 <= len(zone) <= ZONE_CHARS_MAX or not zone.isprintable():
        return None
    addresses = tuple(info.parsed_addresses(IPVersion.V4Only)[:PEER_ADDRESSES_MAX])
    if not addresses or info.port is None or not 0 < info.port < 2**16:
        return None
    return PeerFound(info.name, addresses, info.port, zone, node)


def _open(interfaces: Sequence[str] | None) -> Zeroconf:
    # Asked first, because zeroconf leaks its listening socket where it finds no interface to answer on.
    return Zeroconf(interfaces=_present(interfaces), ip_version=IPVersion.V4Only)


def _present(interfaces: Sequence[str] | None) -> InterfaceChoice | list[str]:
    """The wanted interfaces that are there now, or an OSError."""
    found = _ipv4_addresses()
    wanted = found if interfaces is None else [address for address in interfaces if address in found]
    if not wanted:
        raise OSError("no network interface has an IPv4 address" if interfaces is None else _absent(interfaces))
    return InterfaceChoice.All if interfaces is None else wanted


def _absent(interfaces: Sequence[str]) -> str:
    return f"no network interface has the address {' or '.join(interfaces)}"


def _request(zeroconf: Zeroconf, name: str) -> ServiceInfo | None:
    """Look a name up, from what was heard already or by asking; None if nobody answers. Runs in a thread."""
    try:
        info = ServiceInfo(SERVICE_TYPE, name)
        return info if info.request(zeroconf, _RESOLVE_MS) else None
    except (*_LIBRARY_ERRORS, BadTypeInNameException, ValueError):
        return None  # a name that cannot be a service's, or zeroconf was closed meanwhile


def _own_addresses() -> list[str]:
    """This machine's IPv4 addresses; loopback only where there is nothing else."""
    found = _ipv4_addresses()
    return [address for address in found if not ipaddress.ip_address(address).is_loopback] or found


def _ipv4_addresses() -> list[str]:
    return sorted(str(address.ip) for adapter in ifaddr.get_adapters() for address in adapter.ips if address.is_IPv4)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None
