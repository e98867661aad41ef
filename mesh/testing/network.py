"""A network in virtual time: zones, what lies between them, and connections that behave as badly as connections do.

A connection is two *wires*, one each way. A wire carries bytes in order, at a rate, after a latency that is drawn anew
for each parcel; a lost packet is what TCP makes of it, a stall of everything behind it. It may be reset: some of the
bytes that were on their way arrive, cut at any byte, and each side hears of the end at its own time. It may be silent
one way, as a radio is that hears and is not heard: nothing arrives, and nobody is told.

Who can reach whom is a matter of zones. Devices in one zone share its access point; what lies between zones is the
venue's backbone. Either may be down, and single pairs may be cut.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from mesh.core.certificate import DeviceCertificate
from mesh.core.events import Serve
from mesh.core.frontier import Segment
from mesh.testing.clock import US_PER_S, Clock

WINDOW_BYTES: Final = 128 * 1024
"""How much is on a wire at once: what a socket's buffers take."""
HEARS_OF_THE_END_S: Final = 2.0
"""At most this long after a reset, each side notices by itself."""
ON_THE_WAY: Final = "on the way"
"""How the places between zones begin, where a courier walks: no network leads there."""
HANDSHAKE_TRIPS: Final = 2
"""TCP and TLS 1.3 before the first byte of ours."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a network is."""

    latency_ms: tuple[float, float] = (2.0, 8.0)
    """Least and most, one way."""
    loss: float = 0.0
    """Share of parcels that stall: the first loss is made good after `stall_ms`, behind it everything waits."""
    stall_ms: float = 200.0
    rate_kbit_s: float = 50_000.0
    split: float = 0.2
    """Share of parcels that arrive in two."""


class Port(Protocol):
    """The device's side of a connection; a process that is gone has none."""

    def receive(self, number: int, data: bytes) -> None:
        """Bytes arrived, in order."""
        ...

    def ended(self, number: int) -> None:
        """The connection is gone."""
        ...

    def next_parcel(self, number: int) -> bytes | None:
        """What to put on the wire next, while it takes more; None where there is nothing to say."""
        ...


@dataclass(slots=True, eq=False)
class End:
    """One side of a connection."""

    number: int
    owner: str
    port: Port
    peer: DeviceCertificate
    peer_zone: str
    connection: Connection
    other: End = field(init=False)
    up: bool = True
    on_wire: deque[bytes] = field(default_factory=deque)
    on_wire_bytes: int = 0
    free_us: int = 0
    """When the wire has taken what was put on it so far."""
    arrives_us: int = 0
    """When the newest parcel arrives: none overtakes another."""
    pumping: bool = False
    silent: bool = False
    """Nothing of what this side says arrives."""


@dataclass(slots=True, eq=False)
class Connection:
    """Two ends, by what they pass."""

    quality: Quality
    place: frozenset[str]
    """The zones it runs through: one, or two across the backbone."""
    ends: tuple[End, End] = field(init=False)
    broken: bool = False


class Host(Protocol):
    """Where a device is and whether anybody can be reached there."""

    @property
    def name(self) -> str: ...

    @property
    def zone(self) -> str: ...

    @property
    def network_quality(self) -> Quality | None:
        """Of the device's own link (a phone at the edge of the Wi-Fi); None: that of the network."""
        ...


@dataclass(slots=True)
class Counts:
    """What happened on the network."""

    connections: int = 0
    parcels: int = 0
    bytes: int = 0
    stalls: int = 0
    resets: int = 0
    refused: int = 0


class Network:
    """All connections of a world."""

    def __init__(self, clock: Clock, chance: random.Random, quality: Quality, backbone: Quality) -> None:
        self._clock = clock
        self._random = chance
        self.quality = quality
        self.backbone = backbone
        self.counts = Counts()
        self.zones_down: set[str] = set()
        """Zones whose access point is off."""
        self.cut_off: set[str] = set()
        """Zones whose way to the backbone is down."""
        self.cut_pairs: set[frozenset[str]] = set()
        """Devices that do not reach each other, by name."""
        self.connections: dict[Connection, None] = {}
        self.watches: list[Callable[[bytes], None]] = []
        """Told of whatever is put on a wire: whole frames, each behind its length."""
        self._numbers = 0

    # -- Who reaches whom ------------------------------------------------------------------------------------------

    def reaches(self, one: Host, other: Host) -> bool:
        """Whether a connection between two devices can be made, or stay, now."""
        if self.cut_pairs and frozenset((one.name, other.name)) in self.cut_pairs:
            return False
        zones = {one.zone, other.zone}
        if zones & self.zones_down:
            return False
        return len(zones) == 1 or (not zones & self.cut_off and not any(zone.startswith(ON_THE_WAY) for zone in zones))

    def enforce(self, host_of: Callable[[str], Host]) -> None:
        """The network changed: connections that it no longer carries go silent both ways, and are found dead later."""
        for connection in list(self.connections):
            one, other = connection.ends
            if not self.reaches(host_of(one.owner), host_of(other.owner)):
                self.reset(connection)

    # -- Connections -----------------------------------------------------------------------------------------------

    def handshake_s(self, one: Host, other: Host) -> float:
        """How long it takes until a connection that is dialled now can be opened."""
        return HANDSHAKE_TRIPS * 2 * self._latency_us(self._quality(one, other)) / US_PER_S

    def open(
        self, one: tuple[Host, Port, DeviceCertificate], other: tuple[Host, Port, DeviceCertificate]
    ) -> tuple[End, End]:
        """The handshake is over: both ends, each with its peer's certificate."""
        zones = frozenset((one[0].zone, other[0].zone))
        connection = Connection(self._quality(one[0], other[0]), zones)
        near = End(self._next(), one[0].name, one[1], other[2], other[0].zone, connection)
        far = End(self._next(), other[0].name, other[1], one[2], one[0].zone, connection)
        near.other, far.other = far, near
        connection.ends = (near, far)
        self.connections[connection] = None
        self.counts.connections += 1
        return near, far

    def _quality(self, one: Host, other: Host) -> Quality:
        usual = self.quality if one.zone == other.zone else self.backbone
        own = [quality for host in (one, other) if (quality := host.network_quality) is not None]
        return min([usual, *own], key=lambda quality: quality.rate_kbit_s)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def pump(self, end: End) -> None:
        """Put onto the wire what its owner has to say, as far as the wire takes it; more when that has arrived."""
        if end.pumping:
            return
        end.pumping = True
        while end.up and end.on_wire_bytes < WINDOW_BYTES:
            data = end.port.next_parcel(end.number)
            if data is None:
                break
            self._put(end, data)
        end.pumping = False

    def _put(self, end: End, data: bytes) -> None:
        quality, now = end.connection.quality, self._clock.now_us
        self.counts.parcels += 1
        self.counts.bytes += len(data)
        for watch in self.watches:
            watch(data)
        takes_us = round(len(data) * 8 * 1000 / quality.rate_kbit_s)
        end.free_us = max(end.free_us, now) + takes_us
        arrives = end.free_us + self._latency_us(quality)
        if quality.loss and self._random.random() < quality.loss:
            self.counts.stalls += 1
            arrives += round(quality.stall_ms * 1000)
        end.arrives_us = max(end.arrives_us, arrives)
        end.on_wire.append(data)
        end.on_wire_bytes += len(data)
        self._clock.at_us(end.arrives_us, lambda: self._arrive(end))

    def _latency_us(self, quality: Quality) -> int:
        least, most = quality.latency_ms
        return round(1000 * self._random.uniform(least, most))

    def _arrive(self, end: End) -> None:
        if not end.on_wire or end.connection.broken:
            return
        data = end.on_wire.popleft()
        end.on_wire_bytes -= len(data)
        other = end.other
        if other.up and not end.silent:
            cut = self._random.randrange(1, len(data)) if self._splits(end, data) else len(data)
            other.port.receive(other.number, data[:cut])
            if cut < len(data) and other.up:
                other.port.receive(other.number, data[cut:])
        if end.up:
            self.pump(end)

    def _splits(self, end: End, data: bytes) -> bool:
        return len(data) > 1 and self._random.random() < end.connection.quality.split

    def hang_up(self, end: End) -> None:
        """Its owner ends a connection: what is on the wire still arrives, then the other side hears of it."""
        if not end.up:
            return
        end.up = False
        moment = max(end.arrives_us, self._clock.now_us + self._latency_us(end.connection.quality))
        self._clock.at_us(moment, lambda: self._hear_of_the_end(end.other))

    def reset(self, connection: Connection) -> None:
        """The connection breaks: of what is on its wires some arrives, up to any byte, and nothing after that."""
        if connection.broken:
            return
        connection.broken = True
        self.counts.resets += 1
        for end in connection.ends:
            rest = b"".join(end.on_wire)
            end.on_wire.clear()
            arrives = rest[: self._random.randint(0, len(rest))] if rest else b""
            self._clock.after(self._random.uniform(0.0, HEARS_OF_THE_END_S), partial(self._break, end, arrives))

    def _break(self, end: End, arrives: bytes) -> None:
        if arrives and end.other.up and not end.silent:
            end.other.port.receive(end.other.number, arrives)
        self._hear_of_the_end(end.other)

    def _hear_of_the_end(self, end: End) -> None:
        if end.up:
            end.up = False
            end.port.ended(end.number)
        if not end.other.up:
            self.connections.pop(end.connection, None)

    def silence(self, end: End) -> None:
        """From now on nothing of what this side says arrives; nobody is told."""
        end.silent = True


@dataclass(slots=True)
class Outbox:
    """What waits to be put on one wire: frames first, then pieces of logs by lane."""

    frames: deque[bytes] = field(default_factory=deque)
    jobs: list[Job] = field(default_factory=list)
    pushes: dict[bytes, Job] = field(default_factory=dict)
    """By log: what is pushed and has not begun yet."""
    most_bytes: int = 0
    waiting_bytes: int = 0

    def send(self, data: bytes) -> None:
        self.frames.append(data)
        self.waiting_bytes += len(data)
        self.most_bytes = max(self.most_bytes, self.waiting_bytes)

    def next_frame(self) -> bytes | None:
        if not self.frames:
            return None
        data = self.frames.popleft()
        self.waiting_bytes -= len(data)
        return data


@dataclass(slots=True)
class Job:
    """A log that is being served."""

    effect: Serve
    segments: list[Segment]
    """What is left of it."""
    blob: bytes = b""
    started: bool = False
