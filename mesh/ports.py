"""What the outside must provide: small Protocols that the shell implements and tests can implement too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.core.chain import PackedRun, Run
from mesh.core.events import Serve
from mesh.core.frontier import Position, Segment
from mesh.core.signing import Domain


class StatementSigner(Protocol):
    """What seals cards and vouches for receipts and requests with a device's log key; it signs no entries."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key, as bound in the device's certificate."""
        ...

    def sign(self, domain: Domain, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032) over domain and message; never one over an entry."""
        ...


class Signer(StatementSigner, Protocol):
    """Holds a device's log key: a key file, or a key inside a PKCS#11 token. The key never leaves it.

    Entries are a structured operation of their own, because the signer remembers what it signed: whatever a caller
    does, no two entries at one seq come out (:class:`mesh.core.signing.EntryMemory` gives the rules, and the errors).
    Safe to call from several threads.
    """

    def sign_entry(self, *, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes) -> bytes:
        """Return the bytes of the next entry of a log this signer opened (seq 0 opens one), or `RefusedToSign`."""
        ...

    def next_seq(self, log_id: bytes) -> int | None:
        """The only seq that :meth:`sign_entry` would sign in this log; `None` if it never will again."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive entries as they are stored and sent: `count` of them, and the seq after the last.

    `cut` says that the piece ends inside a stored run, so that nobody has verified its last signature yet.
    """

    count: int
    blob: bytes
    next_seq: int
    cut: bool


class StoredRuns(Protocol):
    """Reading a store: what answering a want and comparing branches need. It speaks runs, never rows of entries."""

    def read_run(self, log_id: bytes, segment: Segment) -> Piece | None:
        """As many whole stored runs from the segment's start on as fit one frame; None where nothing is left."""
        ...

    def read_entries(self, log_id: bytes, segment: Segment) -> list[bytes]:
        """The raw entries of one segment, which is held; raises `StorageError` where it is not."""
        ...

    def locate(self, log_id: bytes, segments: Sequence[Segment], locator: Sequence[Position]) -> Position | None:
        """The first position of `locator` that lies on the chain of `segments`."""
        ...

    def measure(self, log_id: bytes, segments: Sequence[Segment]) -> int:
        """About how many bytes the entries of these segments have."""
        ...


class Store(StoredRuns, Protocol):
    """A store that takes runs too, inside one transaction: what the node's `Accepted` and its like ask for."""

    def add_log(self, log_id: bytes, genesis: bytes) -> None:
        """Begin a log; nothing happens where it is held."""
        ...

    def add_branch(
        self, log_id: bytes, number: int, from_seq: int, prev: bytes, *, parent: int | None, attached: bool
    ) -> None:
        """Begin a branch of a log; nothing happens where it is held."""
        ...

    def append_run(self, run: Run | PackedRun, branch: int, *, verified: bool) -> None:
        """Store a run that follows what the branch holds. `verified` says that every signature in it was checked."""
        ...

    def relabel(self, log_id: bytes, branch: int, into: int) -> None:
        """An island was joined to branch `into`."""
        ...

    def attach(self, log_id: bytes, branch: int, parent: int) -> None:
        """An island turned out to hang from `parent`."""
        ...


class Links(Protocol):
    """What carries a node's bytes; absent in a device that is alone."""

    def send(self, link: int, data: bytes) -> None:
        """Put bytes on a link, after everything sent before."""
        ...

    def serve(self, effect: Serve) -> None:
        """Send pieces of a log on a link, when it can take them."""
        ...

    def close(self, link: int, reason: str, *, blame_peer: bool) -> None:
        """End a link once it was told why."""
        ...

    def met(self, link: int) -> None:
        """The peer of a link was accepted."""
        ...

    def in_step(self, link: int) -> None:
        """Both ends of a link hold the same."""
        ...
