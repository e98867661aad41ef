"""What the doctor looks at around the device: interfaces, multicast, who announces themselves, who can be reached.

A network that keeps its devices apart (client isolation) lets a device hear itself and nobody else, or hear others and
not reach them. Both are told apart from a network on which multicast does not work at all, and from being alone.
"""

from __future__ import annotations

import queue
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from zeroconf import BadTypeInNameException, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from mesh.errors import LocalError
from mesh.limits import DISCOVERED_NAMES_MAX
from mesh.shell.discovery import SERVICE_TYPE, Announcement, PeerFound, peer_of
from mesh.shell.doctor import Check, Outcome, Patient
from mesh.shell.join_discovery import MDNS_ERRORS, open_mdns, outward_addresses
from mesh.shell.keys import Identity
from mesh.shell.output import Json

PROBE_TYPE: Final = "_tapmesh-probe._tcp.local."
LISTEN_S: Final = 3.0
"""A node that starts is heard within 1.3 s; one that runs answers a question at once."""
REACH_S: Final = 2.0
_RESOLVE_MS: Final = 1_000
_PROBE_PORT: Final = 9
"""Nobody is meant to connect to the probe (RFC 863)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was heard and reached. `reached` has an entry for every peer that was tried, by its address."""

    hears_itself: bool
    heard: tuple[PeerFound, ...]
    reached: dict[str, bool]


def network(patient: Patient) -> list[Check]:
    """Interfaces, multicast, peers; a device without any network sells, so being alone is a remark."""
    identity, settings = patient.identity, patient.settings
    if not isinstance(identity, Identity) or isinstance(settings, LocalError):
        return []
    wanted, peers = settings.text("interface"), settings.addresses("peer")
    own = Announcement(identity.root.venue_id.hex()[:16], identity.certificate.node, "", 1)
    try:
        around = look_around(own, wanted, peers)
    except MDNS_ERRORS as error:
        todo = "plug the cable in or join the bar's Wi-Fi; sales go on without, but nothing is shared"
        return [Check("network", Outcome.BAD, f"no network to find other devices on ({error})", todo)]
    return [_interfaces(wanted), _multicast(around, peers), _peers(around, peers)]


def _interfaces(wanted: str | None) -> Check:
    addresses = [wanted] if wanted else outward_addresses()
    return Check("network", Outcome.GOOD, f"address {', '.join(addresses)}", facts={"addresses": list(addresses)})


def _multicast(around: Surroundings, peers: Sequence[str]) -> Check:
    facts: dict[str, Json] = {"hears_itself": around.hears_itself, "heard": len(around.heard)}
    if around.hears_itself:
        return Check("multicast", Outcome.GOOD, "this device hears its own announcement", facts=facts)
    text = "this device does not hear even its own announcement: multicast (UDP port 5353) is blocked on it"
    if any(around.reached.get(peer) for peer in peers):
        said = f"{text}; the peers that are set are reached all the same"
        return Check("multicast", Outcome.REMARK, said, None, facts)
    todo = 'open it in the firewall, or name a device of its zone: --peer ADDRESS:PORT, or peer = ["..."] in its file'
    return Check("multicast", Outcome.BAD, text, todo, facts)


def _peers(around: Surroundings, peers: Sequence[str]) -> Check:
    reached = sorted(address for address, came in around.reached.items() if came)
    lost = sorted(address for address, came in around.reached.items() if not came)
    facts: dict[str, Json] = {"heard": [_fields(peer) for peer in around.heard], "reached": reached, "unreached": lost}
    isolation = (
        "this network keeps devices apart (client isolation): switch that off in the access point, or put the devices "
        'on a cable; where only multicast is blocked, name one: --peer ADDRESS:PORT, or peer = ["..."] in its file'
    )
    if reached:
        text = f"{len(around.heard)} devices of this venue announce themselves; reached: {', '.join(reached)}"
        if lost:
            return Check("peers", Outcome.REMARK, f"{text}; not reached: {', '.join(lost)}", isolation, facts)
        return Check("peers", Outcome.GOOD, text, facts=facts)
    if lost:
        text = f"{', '.join(lost)} should be there and cannot be reached"
        return Check("peers", Outcome.BAD, text, isolation, facts)
    text = "no other device of this venue announces itself here"
    todo = f"if one is running beside this one: {isolation}. Alone it sells all the same"
    return Check("peers", Outcome.REMARK, text, todo, facts)


def _fields(peer: PeerFound) -> dict[str, Json]:
    return {"node": peer.node, "zone": peer.zone, "port": peer.port, "addresses": list(peer.addresses)}


def look_around(own: Announcement, interface: str | None, peers: Sequence[str]) -> Surroundings:
    """Announce a probe and listen for it and for this venue's devices, then try to reach each; takes a few seconds.

    Raises `MDNS_ERRORS` where there is no interface. Announces nothing under the device's own name: it may be running.
    """
    with _mdns(interface) as speaker, _mdns(interface) as listener:
        names: queue.Queue[str] = queue.Queue(DISCOVERED_NAMES_MAX)
        probe = f"{secrets.token_hex(8)}.{PROBE_TYPE}"

        def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            if state_change is not ServiceStateChange.Removed:
                with suppress(queue.Full):
                    names.put_nowait(name)

        ServiceBrowser(listener, [PROBE_TYPE, SERVICE_TYPE], handlers=[on_change])
        addresses = [interface] if interface else outward_addresses()
        server = f"tapmesh-probe-{probe.split('.', maxsplit=1)[0]}.local."
        speaker.register_service(
            ServiceInfo(PROBE_TYPE, probe, port=_PROBE_PORT, server=server, parsed_addresses=addresses)
        )
        heard = _names_within(names, LISTEN_S)
        found = [peer for name in sorted(heard) if (peer := _resolve(listener, name, own)) is not None]
    targets = [*peers, *(f"{address}:{peer.port}" for peer in found for address in peer.addresses)]
    return Surroundings(probe in heard, tuple(found), _reach(targets))


def _names_within(names: queue.Queue[str], seconds: float) -> set[str]:
    heard: set[str] = set()
    latest = time.monotonic() + seconds
    while (left := latest - time.monotonic()) > 0:
        with suppress(queue.Empty):
            heard.add(names.get(timeout=left))
    return heard


def _resolve(zeroconf: Zeroconf, name: str, own: Announcement) -> PeerFound | None:
    if not name.endswith(SERVICE_TYPE):
        return None
    with suppress(*MDNS_ERRORS, BadTypeInNameException, ValueError):
        info = ServiceInfo(SERVICE_TYPE, name)
        if info.request(zeroconf, _RESOLVE_MS):
            return peer_of(info, own)
    return None


def _reach(targets: Sequence[str]) -> dict[str, bool]:
    """Whether TCP connections to these come about. No TLS: a second link would take the place of the first."""
    distinct = list(dict.fromkeys(targets))
    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip(distinct, pool.map(_connects, distinct), strict=True))


def _connects(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError:
        return False
    return True


@contextmanager
def _mdns(interface: str | None) -> Iterator[Zeroconf]:
    zeroconf = open_mdns(interface)
    try:
        yield zeroconf
    finally:
        zeroconf.close()
