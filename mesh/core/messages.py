"""What two nodes say to each other: one frozen dataclass and one CBOR shape per message (docs/spec/wire.md).

A frame is a 4-byte big-endian length and that many bytes of strict CBOR: an array whose first item is the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from mesh.core.codec import Value, decode_array, encode
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES
from mesh.core.frontier import DIGEST_BYTES, NOTHING_ASIDE, Island, LogSummary, Position
from mesh.errors import PeerError
from mesh.limits import (
    ANNOUNCE_LOGS_PER_FRAME_MAX,
    BRANCHES_PER_LOG_MAX,
    BUCKETS_COUNT,
    ENTRY_SEQ_MAX,
    FRAME_BYTES_MAX,
    FRONTIER_LOGS_PER_FRAME_MAX,
    KEPT_LOGS_PER_FRAME_MAX,
    LOCATOR_IDS_MAX,
    ZONE_CHARS_MAX,
)

WIRE_VERSION: Final = 2
BUCKET_SET_BYTES: Final = BUCKETS_COUNT // 8


class BadMessage(PeerError):
    """A frame is canonical CBOR but not a message of this protocol."""


class WrongVersion(PeerError):
    """The peer speaks a version of the protocol that this program does not."""


class Type(IntEnum):
    """First item of every frame."""

    HELLO = 0
    BUCKETS = 1
    FRONTIER = 2
    WANT = 3
    PLAN = 4
    RUN = 5
    MISSING = 6
    ANNOUNCE = 7
    DIGEST = 8
    BYE = 9
    QUIET = 10
    KEPT = 11
    BUCKET_LOGS = 12
    TELL = 13


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame each way: who we are talking about, and digests of everything held."""

    venue_id: bytes
    zone: str
    digest: bytes
    version: int = WIRE_VERSION
    aside: bytes = NOTHING_ASIDE


@dataclass(frozen=True, slots=True)
class Buckets:
    """Digests of the 64 buckets, sent when the digests of everything differ."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BucketLogs:
    """Answers buckets: the digest of every log in these of one's own, which differ."""

    buckets: frozenset[int]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """Answers the digests of logs: these are not ours; say what they stand for."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FrontierPart:
    """Summaries of logs that the peer seems not to hold as we do, or asked about."""

    logs: tuple[LogSummary, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """Send me the log up to `target`, starting after the highest of `locator` that is on its chain.

    And from then on, unasked, whatever follows.
    """

    log_id: bytes
    target: Position
    locator: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Answers a want: this many entries and bytes are coming."""

    log_id: bytes
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RunMessage:
    """A contiguous piece of a log: `count` entries as a CBOR sequence of byte strings."""

    log_id: bytes
    count: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """Answers a want that cannot be served: the target is not held here."""

    log_id: bytes
    target: Position


@dataclass(frozen=True, slots=True)
class Announce:
    """Heads that are new here."""

    heads: tuple[tuple[bytes, Position], ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """Keepalive and anti-entropy in one: the digests of everything held."""

    digest: bytes
    aside: bytes = NOTHING_ASIDE


@dataclass(frozen=True, slots=True)
class Quiet:
    """Do not send what is new of this log unasked: it comes from somebody else. A want takes that back."""

    log_id: bytes


@dataclass(frozen=True, slots=True)
class Bye:
    """The link is closed on purpose; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """To the author of these logs: everything up to this seq of each is on the sender's disk for good."""

    logs: tuple[tuple[bytes, int], ...]


Message: TypeAlias = (
    Hello
    | Buckets
    | BucketLogs
    | Tell
    | FrontierPart
    | Want
    | Plan
    | RunMessage
    | Missing
    | Announce
    | Digest
    | Quiet
    | Bye
    | Kept
)

BYE_CHARS_MAX: Final = 200


def encode_message(message: Message) -> bytes:
    """One frame, length included."""
    body = encode(_shape(message))
    assert len(body) <= FRAME_BYTES_MAX, "a frame of ours is over its bound"
    return len(body).to_bytes(4, "big") + body


def _shape(message: Message) -> Sequence[Value]:
    shape: Sequence[Value]
    match message:
        case Hello():
            shape = [int(Type.HELLO), message.version, message.venue_id, message.zone, message.digest, message.aside]
        case Buckets():
            shape = [int(Type.BUCKETS), list(message.digests)]
        case BucketLogs(buckets, digests):
            bits = sum(1 << index for index in buckets)
            shape = [int(Type.BUCKET_LOGS), bits.to_bytes(BUCKET_SET_BYTES, "big"), list(digests)]
        case Tell(digests):
            shape = [int(Type.TELL), list(digests)]
        case FrontierPart(logs):
            shape = [int(Type.FRONTIER), [_summary_shape(log) for log in logs]]
        case Want(log_id, target, locator):
            shape = [int(Type.WANT), log_id, [target.seq, target.id], [[p.seq, p.id] for p in locator]]
        case Plan():
            shape = [int(Type.PLAN), message.log_id, message.entries, message.bytes]
        case RunMessage():
            shape = [int(Type.RUN), message.log_id, message.count, message.blob]
        case Missing(log_id, target):
            shape = [int(Type.MISSING), log_id, [target.seq, target.id]]
        case Announce(heads):
            shape = [int(Type.ANNOUNCE), [[log_id, head.seq, head.id] for log_id, head in heads]]
        case Digest(digest, aside):
            shape = [int(Type.DIGEST), digest, aside]
        case Quiet(log_id):
            shape = [int(Type.QUIET), log_id]
        case Bye(reason):
            shape = [int(Type.BYE), reason[:BYE_CHARS_MAX]]
        case Kept(kept):
            shape = [int(Type.KEPT), [[log_id, seq] for log_id, seq in kept]]
    return shape


def _summary_shape(log: LogSummary) -> list[Value]:
    heads: Value = [[head.seq, head.id] for head in log.heads]
    islands: Value = [[island.from_seq, island.tip.seq, island.tip.id] for island in log.islands]
    return [log.log_id, heads, islands]


def decode_message(frame: bytes) -> Message:
    """Parse one frame without its length, or raise a `PeerError`."""
    shape = decode_array(frame, bytes_max=FRAME_BYTES_MAX)
    if not shape or type(shape[0]) is not int:
        raise BadMessage("a message names its type first")
    message: Message
    match shape:
        case [Type.RUN, bytes(log_id), int(count), bytes(blob)]:
            message = RunMessage(_log_id(log_id), _count(count), blob)
        case [Type.HELLO, *fields]:
            message = _hello(fields)
        case [Type.BUCKETS | Type.BUCKET_LOGS | Type.TELL | Type.FRONTIER, *_]:
            message = _comparing(shape)
        case [Type.WANT, bytes(log_id), target, list(locator)] if len(locator) <= LOCATOR_IDS_MAX:
            message = Want(_log_id(log_id), _position(target), tuple(map(_position, locator)))
        case [Type.PLAN, bytes(log_id), int(entries), int(size)]:
            message = Plan(_log_id(log_id), _count(entries), _count(size))
        case [Type.MISSING, bytes(log_id), target]:
            message = Missing(_log_id(log_id), _position(target))
        case [Type.ANNOUNCE, list(heads)] if len(heads) <= ANNOUNCE_LOGS_PER_FRAME_MAX:
            message = Announce(tuple(map(_announced, heads)))
        case [Type.DIGEST, bytes(digest), bytes(aside)]:
            message = Digest(_id(digest), _short(aside))
        case [Type.QUIET, bytes(log_id)]:
            message = Quiet(_log_id(log_id))
        case [Type.KEPT, list(kept)] if len(kept) <= KEPT_LOGS_PER_FRAME_MAX:
            message = Kept(tuple(map(_height, kept)))
        case [Type.BYE, str(reason)] if len(reason) <= BYE_CHARS_MAX:
            message = Bye(reason)
        case _:
            raise BadMessage(f"a message of type {shape[0]} does not have this shape")
    return message


def _comparing(shape: Sequence[object]) -> Message:
    match shape:
        case [Type.BUCKETS, list(digests)] if len(digests) == BUCKETS_COUNT:
            return Buckets(tuple(map(_short, digests)))
        case [Type.BUCKET_LOGS, bytes(buckets), list(digests)] if len(digests) <= FRONTIER_LOGS_PER_FRAME_MAX:
            return BucketLogs(_bucket_set(buckets), tuple(map(_short, digests)))
        case [Type.TELL, list(digests)] if len(digests) <= FRONTIER_LOGS_PER_FRAME_MAX:
            return Tell(tuple(map(_short, digests)))
        case [Type.FRONTIER, list(logs)] if len(logs) <= FRONTIER_LOGS_PER_FRAME_MAX:
            return FrontierPart(tuple(map(_summary, logs)))
        case _:
            raise BadMessage(f"a message of type {shape[0]} does not have this shape")


def _hello(fields: Sequence[object]) -> Hello:
    match fields:
        case [version, *_] if type(version) is int and version != WIRE_VERSION:
            raise WrongVersion(f"the peer speaks version {version} of the protocol, we speak {WIRE_VERSION}")
        case [int(version), bytes(venue_id), str(zone), bytes(digest), bytes(aside)] if len(zone) <= ZONE_CHARS_MAX:
            return Hello(_id(venue_id), zone, _id(digest), _count(version), _short(aside))
        case _:
            raise BadMessage("a hello is [0, version, venue id, zone, digest, digest of what is set aside]")


def _bytes(value: object, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise BadMessage(f"{length} bytes are required here")
    return value


def _id(value: object) -> bytes:
    return _bytes(value, ID_BYTES)


def _log_id(value: object) -> bytes:
    return _bytes(value, LOG_ID_BYTES)


def _short(value: object) -> bytes:
    return _bytes(value, DIGEST_BYTES)


def _bucket_set(value: bytes) -> frozenset[int]:
    bits = int.from_bytes(_bytes(value, BUCKET_SET_BYTES), "big")
    return frozenset(index for index in range(BUCKETS_COUNT) if bits >> index & 1)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadMessage("a count is an unsigned integer")
    return value


def _seq(value: object) -> int:
    if type(value) is not int or not 0 <= value <= ENTRY_SEQ_MAX:
        raise BadMessage("a seq is an unsigned 32-bit integer")
    return value


def _position(value: object) -> Position:
    match value:
        case [seq, identifier]:
            return Position(_seq(seq), _id(identifier))
        case _:
            raise BadMessage("a position is [seq, id(32)]")


def _announced(value: object) -> tuple[bytes, Position]:
    match value:
        case [log_id, seq, identifier]:
            return _log_id(log_id), Position(_seq(seq), _id(identifier))
        case _:
            raise BadMessage("an announced head is [log_id(16), seq, id(32)]")


def _height(value: object) -> tuple[bytes, int]:
    match value:
        case [log_id, seq]:
            return _log_id(log_id), _seq(seq)
        case _:
            raise BadMessage("what is kept of a log is [log_id(16), seq]")


def _summary(value: object) -> LogSummary:
    match value:
        case [log_id, list(heads), list(islands)] if len(heads) + len(islands) <= BRANCHES_PER_LOG_MAX:
            return LogSummary(_log_id(log_id), tuple(map(_position, heads)), tuple(map(_island, islands)))
        case _:
            raise BadMessage("a log's summary is [log_id(16), heads, islands]")


def _island(value: object) -> Island:
    match value:
        case [from_seq, seq, identifier] if _seq(from_seq) <= _seq(seq):
            return Island(_seq(from_seq), Position(_seq(seq), _id(identifier)))
        case _:
            raise BadMessage("an island is [from_seq, seq, id(32)]")
