"""Finding the office on the local network: `NAME._tapmesh-join._tcp.local.` over mDNS (RFC 6762, RFC 6763).

A rumour, like every announcement: it says where to try. Whether it is the office is decided by the code's pin.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

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

from mesh.errors import LocalError
from mesh.limits import JOIN_OFFICES_MAX, PEER_ADDRESSES_MAX
from mesh.shell.network import Endpoint

JOIN_SERVICE_TYPE: Final = "_tapmesh-join._tcp.local."
_RESOLVE_MS: Final = 2_000
_NAME_DIGITS: Final = 16
MDNS_ERRORS: Final = (OSError, RuntimeError, Error)
"""What zeroconf raises where there is no usable interface."""


class NoNetworkHere(LocalError):
    """This machine has no network interface to look around on."""


@asynccontextmanager
async def announced(welcome: bytes, port: int, interface: str | None) -> AsyncIterator[str | None]:
    """Announce the office with this welcome certificate; yields None, or why it cannot be announced."""
    addresses = [interface] if interface is not None else outward_addresses()
    name = hashlib.sha256(welcome).hexdigest()[:_NAME_DIGITS]
    info = ServiceInfo(
        JOIN_SERVICE_TYPE,
        f"{name}.{JOIN_SERVICE_TYPE}",
        port=port,
        properties={"v": "1"},
        server=f"tapmesh-join-{name}.local.",
        parsed_addresses=addresses,
    )
    try:
        zeroconf = await trio.to_thread.run_sync(open_mdns, interface)
    except MDNS_ERRORS as error:
        yield str(error)
        return
    try:
        # The name is derived from the certificate: who holds it already is this office's echo from before a restart.
        with suppress(NonUniqueNameException):
            await trio.to_thread.run_sync(partial(zeroconf.register_service, info, cooperating_responders=True))
        yield None
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


@asynccontextmanager
async def offices(interface: str | None) -> AsyncIterator[trio.MemoryReceiveChannel[list[Endpoint]]]:
    """Yield a channel on which each announced office arrives, as its addresses; or :class:`NoNetworkHere`."""
    send, receive = trio.open_memory_channel[list[Endpoint]](JOIN_OFFICES_MAX)
    token = trio.lowlevel.current_trio_token()
    heard: set[str] = set()
    try:
        zeroconf = await trio.to_thread.run_sync(open_mdns, interface)
    except MDNS_ERRORS as error:
        raise NoNetworkHere(f"there is no network to find the office on ({error}); nothing was sent") from error
    try:
        async with trio.open_nursery() as nursery:

            def follow(name: str) -> None:
                if name not in heard and len(heard) < JOIN_OFFICES_MAX:
                    heard.add(name)
                    nursery.start_soon(_resolve, zeroconf, name, send)

            def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
                if state_change is not ServiceStateChange.Removed:
                    with suppress(trio.RunFinishedError):
                        token.run_sync_soon(follow, name)

            browse = partial(ServiceBrowser, zeroconf, JOIN_SERVICE_TYPE, handlers=[on_change])
            await trio.to_thread.run_sync(browse)
            yield receive
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


async def _resolve(zeroconf: Zeroconf, name: str, send: trio.MemorySendChannel[list[Endpoint]]) -> None:
    info = await trio.to_thread.run_sync(partial(_request, zeroconf, name), abandon_on_cancel=True)
    if info is None or info.port is None or not 0 < info.port < 2**16:
        return
    addresses = info.parsed_addresses(IPVersion.V4Only)[:PEER_ADDRESSES_MAX]
    with suppress(trio.BrokenResourceError):
        await send.send([Endpoint(address, info.port) for address in addresses])


def _request(zeroconf: Zeroconf, name: str) -> ServiceInfo | None:
    try:
        info = ServiceInfo(JOIN_SERVICE_TYPE, name)
        return info if info.request(zeroconf, _RESOLVE_MS) else None
    except (*MDNS_ERRORS, BadTypeInNameException, ValueError):
        return None  # a name that cannot be a service's, or zeroconf was closed meanwhile


def open_mdns(interface: str | None) -> Zeroconf:
    """zeroconf on all interfaces, or on the one with this IPv4 address; raises an OSError where there is none."""
    # Asked first, because zeroconf leaks its listening socket where it finds no interface to answer on.
    if interface is not None and interface not in ipv4_addresses():
        raise OSError(f"no network interface has the address {interface}")
    if not ipv4_addresses():
        raise OSError("no network interface has an IPv4 address")
    return Zeroconf(interfaces=InterfaceChoice.All if interface is None else [interface], ip_version=IPVersion.V4Only)


def ipv4_addresses() -> list[str]:
    """This machine's IPv4 addresses."""
    return sorted(str(address.ip) for adapter in ifaddr.get_adapters() for address in adapter.ips if address.is_IPv4)


def outward_addresses() -> list[str]:
    """Those by which others may reach this machine; loopback only where there is nothing else."""
    found = ipv4_addresses()
    return [address for address in found if not ipaddress.ip_address(address).is_loopback] or found
