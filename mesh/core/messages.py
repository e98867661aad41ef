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
from mesh.core.frontier import Island, LogSummary, Position
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

WIRE_VERSION: Final = 1
BUCKET_DIGEST_BYTES: Final = 16


class BadMessage(PeerError):
    """A frame is canonical CBOR but not a message of this protocol."""


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
    KEPT = 11


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame each way: who we are talking about, and a digest of everything held."""

    venue_id: bytes
    zone: str
    digest: bytes
    version: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Buckets:
    """Digests of the 64 buckets, sent when the digests of everything differ."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FrontierPart:
    """Summaries of all logs of the buckets that differ; `last` ends the answer."""

    logs: tuple[LogSummary, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Want:
    """Send me the log up to `target`, starting after the highest of `locator` that is on its chain."""

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
    """Keepalive and anti-entropy in one: the digest of everything held."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Bye:
    """The link is closed on purpose; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """To the author of these logs: everything up to this seq of each is on the sender's disk for good."""

    logs: tuple[tuple[bytes, int], ...]


Message: TypeAlias = (
    Hello | Buckets | FrontierPart | Want | Plan | RunMessage | Missing | Announce | Digest | Bye | Kept
)

BYE_CHARS_MAX: Final = 200


def encode_message(message: Message) -> bytes:
    """One frame, length included."""
    body = encode(_shape(message))
    assert len(body) <= FRAME_BYTES_MAX, "a frame of ours is over its bound"
    return len(body).to_bytes(4, "big") + body


def _shape(message: Message) -> Sequence[Value]:  # noqa: PLR0911 - a row for each message
    match message:
        case Hello():
            return [int(Type.HELLO), message.version, message.venue_id, message.zone, message.digest]
        case Buckets():
            return [int(Type.BUCKETS), list(message.digests)]
        case FrontierPart():
            return [int(Type.FRONTIER), [_summary_shape(log) for log in message.logs], message.last]
        case Want(log_id, target, locator):
            return [int(Type.WANT), log_id, [target.seq, target.id], [[p.seq, p.id] for p in locator]]
        case Plan():
            return [int(Type.PLAN), message.log_id, message.entries, message.bytes]
        case RunMessage():
            return [int(Type.RUN), message.log_id, message.count, message.blob]
        case Missing(log_id, target):
            return [int(Type.MISSING), log_id, [target.seq, target.id]]
        case Announce(heads):
            return [int(Type.ANNOUNCE), [[log_id, head.seq, head.id] for log_id, head in heads]]
        case Digest(digest):
            return [int(Type.DIGEST), digest]
        case Bye(reason):
            return [int(Type.BYE), reason[:BYE_CHARS_MAX]]
        case Kept(kept):
            return [int(Type.KEPT), [[log_id, seq] for log_id, seq in kept]]


def _summary_shape(log: LogSummary) -> list[Value]:
    heads: Value = [[head.seq, head.id] for head in log.heads]
    islands: Value = [[island.from_seq, island.tip.seq, island.tip.id] for island in log.islands]
    return [log.log_id, heads, islands]


def decode_message(frame: bytes) -> Message:  # noqa: PLR0911 - a row for each message
    """Parse one frame without its length, or raise a `PeerError`."""
    shape = decode_array(frame, bytes_max=FRAME_BYTES_MAX)
    if not shape or type(shape[0]) is not int:
        raise BadMessage("a message names its type first")
    match shape:
        case [Type.RUN, bytes(log_id), int(count), bytes(blob)]:
            return RunMessage(_log_id(log_id), _count(count), blob)
        case [Type.HELLO, int(version), bytes(venue_id), str(zone), bytes(digest)] if len(zone) <= ZONE_CHARS_MAX:
            return Hello(_id(venue_id), zone, _id(digest), _count(version))
        case [Type.BUCKETS, list(digests)] if len(digests) == BUCKETS_COUNT:
            return Buckets(tuple(_bytes(digest, BUCKET_DIGEST_BYTES) for digest in digests))
        case [Type.FRONTIER, list(logs), bool(last)] if len(logs) <= FRONTIER_LOGS_PER_FRAME_MAX:
            return FrontierPart(tuple(map(_summary, logs)), last)
        case [Type.WANT, bytes(log_id), target, list(locator)] if len(locator) <= LOCATOR_IDS_MAX:
            return Want(_log_id(log_id), _position(target), tuple(map(_position, locator)))
        case [Type.PLAN, bytes(log_id), int(entries), int(size)]:
            return Plan(_log_id(log_id), _count(entries), _count(size))
        case [Type.MISSING, bytes(log_id), target]:
            return Missing(_log_id(log_id), _position(target))
        case [Type.ANNOUNCE, list(heads)] if len(heads) <= ANNOUNCE_LOGS_PER_FRAME_MAX:
            return Announce(tuple(map(_announced, heads)))
        case [Type.DIGEST, bytes(digest)]:
            return Digest(_id(digest))
        case [Type.BYE, str(reason)] if len(reason) <= BYE_CHARS_MAX:
            return Bye(reason)
        case [Type.KEPT, list(kept)] if len(kept) <= KEPT_LOGS_PER_FRAME_MAX:
            return Kept(tuple(map(_height, kept)))
        case _:
            raise BadMessage(f"a message of type {shape[0]} does not have this shape")


def _bytes(value: object, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise BadMessage(f"{length} bytes are required here")
    return value


def _id(value: object) -> bytes:
    return _bytes(value, ID_BYTES)


def _log_id(value: object) -> bytes:
    return _bytes(value, LOG_ID_BYTES)


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
