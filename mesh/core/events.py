"""What happens to a node, and what it asks for: the whole interface of :class:`mesh.core.node.Node`, as data.

A *link* is one connection to one authenticated peer; its number is given by whoever carries out the effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mesh.core.certificate import DeviceCertificate
from mesh.core.chain import Genesis, Run
from mesh.core.frontier import Position, Segment
from mesh.core.revocation import Statement

# -- Events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A connection is authenticated: TLS handshake done, certificate of this venue. A revoked one is closed at once."""

    link: int
    peer: DeviceCertificate


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes arrived on a link, in order."""

    link: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A connection ended, for whatever reason."""

    link: int


@dataclass(frozen=True, slots=True)
class OwnAppended:
    """Entries of one of this device's own logs are on its disk (fsync returned)."""

    run: Run


@dataclass(frozen=True, slots=True)
class Located:
    """The store found where an answer to a want starts: after `after`, the first position of the locator it holds.

    `after` is None when nothing of the locator is on the chain: the answer starts at the log's beginning.
    """

    link: int
    log_id: bytes
    locator: tuple[Position, ...]
    after: Position | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Answer to :class:`ReadBack`: for each piece the raw entries of its segments, in order."""

    token: int
    entries: Sequence[Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class SignatureFailed:
    """The background check found an entry below a verified one whose own signature is bad: its author's doing."""

    log_id: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Others' logs are on this device's disk for good up to these seqs, each from its genesis (fsync returned)."""

    heights: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The device was carried into another zone: its links end, and it meets whoever is there."""

    zone: str


Event: TypeAlias = (
    LinkUp | Received | LinkDown | OwnAppended | Located | Compared | SignatureFailed | Stored | Tick | Moved
)

# -- Effects -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Put these bytes on a link, after everything sent before."""

    link: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End a link; `reason` is for people. `blame_peer` is False when nobody did anything wrong."""

    link: int
    reason: str
    blame_peer: bool


@dataclass(frozen=True, slots=True)
class Serve:
    """Send pieces of a log on a link: runs up to the end of the last segment.

    What is `pushed` starts at the first segment. An answer to a want starts after the first position of `locator` that
    lies on the segments, reports it as :class:`Located`, and begins with a plan.
    """

    link: int
    log_id: bytes
    segments: tuple[Segment, ...]
    locator: tuple[Position, ...]
    lane: int
    pushed: bool
    blob: bytes = field(default=b"", compare=False, repr=False)
    """What is pushed, as it travels: spares reading the store. Empty where that has to be read."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run passed every rule: store it under this branch, unless it is on the disk already, and fold it.

    What arrives for one of this device's own logs was signed with its key by somebody else; it is stored all the same.
    """

    run: Run
    branch: int
    genesis: Genesis
    on_disk: bool
    attached: bool
    parent: int | None
    signatures_verified: bool


@dataclass(frozen=True, slots=True)
class Relabel:
    """An island was joined: its stored runs belong to branch `into` now."""

    log_id: bytes
    branch: int
    into: int


@dataclass(frozen=True, slots=True)
class Attached:
    """An island turned out to be a fork: its stored branch hangs from `parent` now."""

    log_id: bytes
    branch: int
    parent: int


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read these pieces (segments of one chain each) from the store and answer with :class:`Compared`."""

    token: int
    log_id: bytes
    pieces: tuple[tuple[Segment, ...], ...]


@dataclass(frozen=True, slots=True)
class AppendProof:
    """Append a fork proof (body of a FORK_PROOF entry) to this device's own control log."""

    log_id: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Contested:
    """Entries of a log from `from_seq` on count for nothing until somebody rules: it forked, or a signature is bad."""

    log_id: bytes
    from_seq: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """The authority's word about a device is new here: keep the statement in own.db, and let the views know."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """A peer says how much it is about to send of one log: for progress bars."""

    link: int
    log_id: bytes
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Met:
    """A peer's hello was accepted: from here on this link carries logs."""

    link: int
    peer: DeviceCertificate


@dataclass(frozen=True, slots=True)
class InStep:
    """This node and its peer hold the same entries: neither has anything to give. Said after each catching up."""

    link: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person looking after this node may want to know; nothing has to be done."""

    text: str


Effect: TypeAlias = (
    Send
    | Close
    | Serve
    | Accepted
    | Relabel
    | Attached
    | ReadBack
    | AppendProof
    | Contested
    | Revoked
    | PeerPlan
    | Met
    | InStep
    | Note
)
