"""What the settlement service asks of its database, as a Protocol: SQLite is one, PostgreSQL can follow.

Every method may block on the disk and is called from one thread at a time. One call is one transaction: when it returns
its effects are durable, and when it raises :class:`~mesh.errors.StorageError` the process must end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.settlement.ledger import Account
from gateway.settlement_api import LogHeads, OfferedRun, Outcome
from mesh.core.frontier import Position
from mesh.core.kinds import Operation


@dataclass(frozen=True, slots=True)
class HeadState:
    """One head of one log with everything a receipt says about it, except who signs."""

    log_id: bytes
    head: Position
    count: int
    sum_minor: int
    verified_up_to: int
    set_aside: tuple[bytes, ...]
    """All of them, by seq."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Heads of the logs that changed after some moment, and the moment to ask from next."""

    heads: tuple[HeadState, ...]
    next_since: int
    more: bool


@dataclass(frozen=True, slots=True)
class Unverified:
    """Consecutive entries of one chain whose signatures are to be checked: `entries[0]` is at `first_seq`."""

    log_id: bytes
    branch: int
    first_seq: int
    entries: tuple[bytes, ...]
    log_key: bytes


@dataclass(frozen=True, slots=True)
class SetAside:
    """An entry that is kept and is not in order."""

    log_id: bytes
    author: str
    seq: int
    id: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ConflictTap:
    """One branch of a conflict: the signed tap that began it."""

    log_id: bytes
    author: str
    seq: int
    operation: Operation
    amount_minor: int


@dataclass(frozen=True, slots=True)
class BookedConflict:
    """Taps that consumed one card record. All their bars are paid."""

    card: bytes
    consumed: bytes
    at_risk_minor: int
    taps: tuple[ConflictTap, ...]


@dataclass(frozen=True, slots=True)
class ContestedLog:
    """A log whose entries from a seq on are contested: it forked there, or a signature in it is bad."""

    log_id: bytes
    author: str
    from_seq: int
    heads: int


@dataclass(frozen=True, slots=True)
class RevokedLog:
    """A log whose device was revoked: its entries up to `counted_to` count, None of them where that is None."""

    log_id: bytes
    author: str
    number: int
    """Of the authority's statement that holds."""
    counted_to: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The ledger in one look. Amounts are in the currency's minor unit; a debit is positive."""

    logs: int
    entries: int
    taps: int
    cards: int
    verified: int
    """Entries whose own signature has been checked."""
    accounts: dict[Account, int]

    @property
    def balanced(self) -> bool:
        return sum(self.accounts.values()) == 0


class LedgerStore(Protocol):
    """The database of one settlement service."""

    @property
    def epoch(self) -> bytes:
        """16 bytes that name this life of the database."""
        ...

    def accept(self, runs: Sequence[OfferedRun]) -> list[Outcome]:
        """Store and book a batch in one transaction; one outcome per run, in order."""
        ...

    def heads(self) -> list[LogHeads]:
        """Every head of every log."""
        ...

    def head_states(self, log_ids: Sequence[bytes]) -> list[HeadState]:
        """The heads of these logs; logs that are not held are left out."""
        ...

    def changes(self, since: int, heads_max: int) -> Changes:
        """Heads of logs that changed after `since` (0: ever), oldest change first."""
        ...

    def next_unverified(self, entries_max: int) -> Unverified | None:
        """Work for the verifier, or None when every signature has been checked."""
        ...

    def mark_verified(self, work: Unverified, bad_seqs: Sequence[int]) -> None:
        """Record that every signature of `work` was checked; those at `bad_seqs` do not verify."""
        ...

    def totals(self) -> Totals: ...

    def set_aside(self, limit: int) -> list[SetAside]: ...

    def conflicts(self, limit: int) -> list[BookedConflict]: ...

    def contested_logs(self, limit: int) -> list[ContestedLog]: ...

    def revoked_logs(self, limit: int) -> list[RevokedLog]: ...

    def revoked_serials(self) -> frozenset[int]:
        """Certificates that the authority revoked, whether or not a log of theirs is held."""
        ...

    def close(self) -> None: ...
