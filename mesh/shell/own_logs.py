"""This device's own logs: sign, write, fsync, and only then tell anybody.

Every process start opens new logs, one per lane and at first need; nothing ever appends to an older one. So a restored
backup or a second process cannot sign two entries at one seq by accident. A genesis names the heads of the earlier
logs of this device that are on its disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from mesh.core.chain import NONCE_BYTES, KnownHead, Run, check_run, encode_genesis
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane
from mesh.shell.keys import Identity
from mesh.shell.store import RunStore
from mesh.shell.surroundings import REAL, Surroundings

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Open:
    """The log of one lane in this process."""

    log_id: bytes
    head: Position


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry of ours that is on disk: durable before visible."""

    log_id: bytes
    seq: int
    id: bytes
    run: Run


@dataclass(slots=True)
class OwnLogs:
    """Appends to own.db. Waits for the disk, never for anything else."""

    identity: Identity
    store: RunStore
    known_heads: list[KnownHead]
    surroundings: Surroundings = REAL
    _lanes: dict[Lane, _Open] = field(default_factory=dict)
    _limiter: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))

    async def append(
        self, lane: Lane, kind: Kind, body: bytes, *, also: Callable[[RunStore], None] | None = None
    ) -> Appended:
        """Append one entry; `also` writes to the same file in the same transaction. Returns after the fsync."""
        return await self._in_thread(partial(self._append, lane, kind, body, also))

    async def write(self, work: Callable[[RunStore], None]) -> None:
        """One durable transaction without an entry: an intent, a piece of evidence."""
        await self._in_thread(partial(self.store.in_transaction, lambda: work(self.store)))

    async def open(self, lane: Lane) -> tuple[bytes, Run | None]:
        """The log id of a lane, and its genesis as a run if that was written just now.

        For bodies that must name the log they are in (an Automerge change's actor id) before they can be appended.
        """
        return await self._in_thread(partial(self._open_lane, lane))

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await self.surroundings.in_thread(work, limiter=self._limiter)

    def _open_lane(self, lane: Lane) -> tuple[bytes, Run | None]:
        current = self._current(lane)
        if current is not None:
            return current.log_id, None
        genesis = self._genesis(lane)
        identifier = entry_id(genesis)
        run = check_run(identifier[:LOG_ID_BYTES], [genesis])
        self._commit(lane, run, None)
        return run.log_id, run

    def _append(self, lane: Lane, kind: Kind, body: bytes, also: Callable[[RunStore], None] | None) -> Appended:
        entries: list[bytes] = []
        current = self._current(lane)
        if current is None:
            genesis = self._genesis(lane)
            entries.append(genesis)
            identifier = entry_id(genesis)
            current = _Open(identifier[:LOG_ID_BYTES], Position(0, identifier))
        entries.append(self._sign(current.log_id, current.head.seq + 1, current.head.id, kind, body))
        run = check_run(current.log_id, entries)
        self._commit(lane, run, also)
        return Appended(run.log_id, run.last_seq, run.tip_id, run)

    def _current(self, lane: Lane) -> _Open | None:
        """The lane's log, if the signer would sign what comes next in it; `None` where a new one is opened."""
        current = self._lanes.get(lane)
        if current is None or self.identity.signer.next_seq(current.log_id) == current.head.seq + 1:
            return current
        # Signed and never stored: a transaction that was rolled back, a token that failed. That seq is spent for good.
        self.known_heads.append(KnownHead(current.log_id, current.head.seq, current.head.id))
        del self._lanes[lane]
        return None

    def _commit(self, lane: Lane, run: Run, also: Callable[[RunStore], None] | None) -> None:
        with self.store.transaction():
            if run.first_seq == 0:
                self.store.add_log(run.log_id, run.entries[0])
                self.store.add_branch(run.log_id, 0, 0, NO_PREV, parent=None, attached=True)
            self.store.append_run(run, 0, verified=True)
            if also is not None:
                also(self.store)
        # Only a commit that returned moves the head: a failed one ends the process before a seq could be used twice.
        self._lanes[lane] = _Open(run.log_id, Position(run.last_seq, run.tip_id))

    def _genesis(self, lane: Lane) -> bytes:
        heads = self.known_heads + [KnownHead(log.log_id, log.head.seq, log.head.id) for log in self._lanes.values()]
        body = encode_genesis(self.identity.certificate.der, self.surroundings.random_bytes(NONCE_BYTES), lane, heads)
        return self._sign(b"", 0, NO_PREV, Kind.GENESIS, body)

    def _sign(self, log_id: bytes, seq: int, prev: bytes, kind: Kind, body: bytes) -> bytes:
        time_ms = max(0, self.surroundings.unix_ms())
        return self.identity.signer.sign_entry(
            log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=int(kind), body=body
        )
