"""Other devices' runs on their way to disk and back, without holding up anything that a tap waits for.

Accepted runs queue here and are written by one task, many to a transaction. The queue is bounded: when it is full,
links are not read any further (`room`), and TCP tells the sender. Reads use a connection of their own and first wait
until what was accepted so far is committed.

A commit survives the process, not yet a power cut. Every `REPLICA_SYNC_S` at the most what was committed is synced, in
the same thread, and only then called durable (docs/adr/0093-backing.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar

import trio

from mesh.errors import StorageError
from mesh.limits import REPLICA_PENDING_BYTES_MAX, REPLICA_SYNC_S
from mesh.shell.store import RunStore
from mesh.shell.surroundings import REAL, InThread

_Result = TypeVar("_Result")
_BATCH_BYTES: Final = 4 * 1024 * 1024
_PAUSE_S: Final = 0.05
"""Writes are collected this long, unless a full batch is there or somebody waits for them."""


Heights: TypeAlias = "dict[bytes, int]"
"""Up to which seq logs are held, each from its genesis."""


class Replica:
    """Owns both connections to replica.db; `run` must be running.

    `grown` is asked, when everything put so far is about to be written, how far the logs reach that grew since it was
    last asked; `durable` is told the same once all of it would survive a power cut.
    """

    def __init__(self, writer: RunStore, reader: RunStore, in_thread: InThread = REAL.in_thread) -> None:
        self._writer = writer
        self._reader = reader
        self._in_thread = in_thread
        self.grown: Callable[[], Heights] = dict
        self.durable: Callable[[Heights], None] = lambda heights: None
        self._read_limiter = trio.CapacityLimiter(1)
        self._queue: list[tuple[Callable[[RunStore], None], int]] = []
        self._queued_bytes = 0
        self._failed = False
        self._put = 0
        self._committed = 0
        self._unsynced: Heights = {}
        self._synced_at = -math.inf
        self._changed = trio.Condition()
        self._wake = trio.Event()
        self._hurry = trio.Event()

    def put(self, write: Callable[[RunStore], None], size: int) -> None:
        """Queue one write of about `size` bytes; order is kept."""
        self._queue.append((write, size))
        self._queued_bytes += size
        self._put += 1
        self._wake.set()
        if self._queued_bytes >= _BATCH_BYTES:
            self._hurry.set()

    async def room(self) -> None:
        """Wait until the disk has caught up enough to take more; returns at once where there is room."""
        if self._queued_bytes <= REPLICA_PENDING_BYTES_MAX:
            return
        async with self._changed:
            while self._queued_bytes > REPLICA_PENDING_BYTES_MAX:
                await self._changed.wait()

    async def flushed(self, *, hurry: bool = True) -> None:
        """Wait until everything that was put so far is committed; without `hurry`, as soon as it would be anyway."""
        target = self._put
        if hurry:
            self._hurry.set()
        async with self._changed:
            while self._committed < target:
                await self._changed.wait()

    async def read(self, work: Callable[[RunStore], _Result], *, hurry: bool = True) -> _Result:
        """Run `work` in a thread on the reading connection, after :meth:`flushed`."""
        await self.flushed(hurry=hurry)
        return await self._in_thread(partial(work, self._reader), limiter=self._read_limiter)

    async def run(self) -> None:
        """Write what is queued, for ever. A failed commit ends the process (`StorageError`)."""
        if not self._queue:
            # What was loaded. Where something was put already, all of it is asked for when that is written.
            self._unsynced = self.grown()
        while True:
            with trio.move_on_at(self._sync_due()):
                await self._wake.wait()
            if trio.current_time() >= self._sync_due():
                await self._sync()
            if not self._wake.is_set():
                continue
            self._wake = trio.Event()
            with trio.move_on_after(_PAUSE_S):
                await self._hurry.wait()
            self._hurry = trio.Event()
            # Not what comes while this is being written: a link that brings much would be written in crumbs.
            target, grown = self._put, self.grown()
            while self._committed < target:
                batch, size = self._take()
                # Not cancellable half way: a batch is committed, or the process is ending anyway.
                await self._in_thread(partial(self._write, batch))
                async with self._changed:
                    self._queued_bytes -= size
                    self._committed += len(batch)
                    self._changed.notify_all()
            self._unsynced |= grown
            if self._queue:
                self._wake.set()

    def _sync_due(self) -> float:
        return self._synced_at + REPLICA_SYNC_S if self._unsynced else math.inf

    async def _sync(self) -> None:
        heights, self._unsynced = self._unsynced, {}
        await self._in_thread(self._sync_writer)
        self._synced_at = trio.current_time()
        self.durable(heights)

    def _sync_writer(self) -> None:
        try:
            self._writer.sync()
        except StorageError:
            self._failed = True
            raise

    def _take(self) -> tuple[list[Callable[[RunStore], None]], int]:
        size = count = 0
        for _, bytes_of_one in self._queue:
            count, size = count + 1, size + bytes_of_one
            if size >= _BATCH_BYTES:
                break
        batch = [write for write, _ in self._queue[:count]]
        del self._queue[:count]
        return batch, size

    def _write(self, batch: list[Callable[[RunStore], None]]) -> None:
        try:
            with self._writer.transaction():
                for write in batch:
                    write(self._writer)
        except StorageError:
            self._failed = True
            raise

    def close(self) -> None:
        """Write what is left, unless a write failed, and let go of the file; only after `run` has ended."""
        if self._queue and not self._failed:
            self._write([write for write, _ in self._queue])
            self._queue.clear()
        self._reader.close()
        self._writer.close()
