"""A device's disk in virtual time: transactions that take as long as a flash card does, and what a power cut leaves.

Whole transactions are the grain here: SQLite's own promise, which :mod:`mesh.testing.disk` checks byte by byte under
the real stores. own.db commits one transaction after the other, each with its fsync; one that is under way when the
power goes has landed or has not. replica.db shows a transaction at once and is synced `REPLICA_SYNC_S` later; a power
cut takes back any number of the newest unsynced ones.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from mesh.limits import REPLICA_SYNC_S
from mesh.testing.clock import Clock
from mesh.testing.store import MemoryStore, Pieces

Work: TypeAlias = Callable[[MemoryStore], None]


@dataclass(slots=True)
class DiskHealth:
    """What is wrong with a disk just now."""

    slow: float = 1.0
    """Commits take this many times as long."""
    full: bool = False


@dataclass(slots=True)
class Storage:
    """Both stores of one device. It outlives every process."""

    clock: Clock
    chance: random.Random
    fsync_ms: tuple[float, float]
    pieces: Pieces
    own: MemoryStore = field(init=False)
    replica: MemoryStore = field(init=False)
    health: DiskHealth = field(default_factory=DiskHealth)
    failed: Callable[[], None] = lambda: None
    """Told when a commit fails: the process must end."""
    synced: Callable[[], None] = lambda: None
    """Told when all that was put into replica.db would survive a power cut."""
    commits: int = 0
    most_waiting: int = 0
    _waiting: deque[tuple[Work, Callable[[], None]]] = field(default_factory=deque)
    _committing: bool = False
    _life: int = 0
    """Counts power cuts and process ends: what was asked for before one is nobody's any more."""
    _unsynced: list[list[Callable[[], None]]] = field(default_factory=list)
    _sync_is_due: bool = False

    def __post_init__(self) -> None:
        self.own, self.replica = MemoryStore(self.pieces), MemoryStore(self.pieces)

    # -- own.db ----------------------------------------------------------------------------------------------------

    def commit(self, work: Work, done: Callable[[], None]) -> None:
        """One durable transaction in own.db; `done` is called when it survives a power cut."""
        self._waiting.append((work, done))
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        if not self._committing:
            self._begin()

    @property
    def is_committing(self) -> bool:
        """Whether something was asked for that is not durable yet."""
        return self._committing

    def _begin(self) -> None:
        self._committing = True
        life = self._life
        takes_s = self.chance.uniform(*self.fsync_ms) / 1000 * self.health.slow
        self.clock.after(takes_s, lambda: self._end(life))

    def _end(self, life: int) -> None:
        if life != self._life:
            return
        if self.health.full:
            self.failed()
            return
        work, done = self._waiting.popleft()
        self.own.transact(work)
        self.commits += 1
        self._committing = False
        done()
        if life == self._life and self._waiting and not self._committing:
            self._begin()

    # -- replica.db ------------------------------------------------------------------------------------------------

    def put(self, work: Work) -> None:
        """One transaction in replica.db: there at once, durable later."""
        self._unsynced.append(self.replica.transact(work))
        self.sync_soon()

    def sync_soon(self) -> None:
        """Sync replica.db in a while, with all that is put until then."""
        if not self._sync_is_due:
            self._sync_is_due = True
            life = self._life
            self.clock.after(REPLICA_SYNC_S, lambda: self._sync(life))

    def _sync(self, life: int) -> None:
        if life == self._life:
            self._sync_is_due = False
            if not self.health.full:
                self._unsynced.clear()
                self.synced()

    # -- Ends ------------------------------------------------------------------------------------------------------

    def process_ends(self) -> None:
        """Nothing that was asked for is done any more; what was written stays."""
        self._life += 1
        self._waiting.clear()
        self._committing = self._sync_is_due = False

    def power_cut(self) -> bool:
        """What was under way has landed or has not; replica.db loses a tail. Returns whether something had landed."""
        landed = False
        if self._committing and not self.health.full and self.chance.random() < 0.5:
            work, _ = self._waiting[0]
            self.own.transact(work)
            landed = True
        self.process_ends()
        lost = self.chance.randint(0, len(self._unsynced))
        for undo in reversed(self._unsynced[len(self._unsynced) - lost :]):
            for back in reversed(undo):
                back()
        self._unsynced.clear()
        return landed

    def lose_replica(self) -> None:
        """replica.db is damaged: it is set aside, and rebuilt from peers."""
        self.replica = MemoryStore(self.pieces)
        self._unsynced.clear()
