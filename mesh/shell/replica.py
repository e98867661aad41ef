"""Other devices' runs on their way to disk and back, without holding up anything that a tap waits for.

Accepted runs queue here and are written by one task, many to a transaction. The queue is bounded: when it is full,
links are not read any further (`room`), and TCP tells the sender. Reads use a connection of their own and first wait
until what was accepted so far is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import trio

from mesh.errors import StorageError
from mesh.limits import REPLICA_PENDING_BYTES_MAX
from mesh.shell.store import RunStore
from mesh.shell.surroundings import REAL, InThread

_Result = TypeVar("_Result")
_BATCH_BYTES: Final = 4 * 1024 * 1024
_PAUSE_S: Final = 0.05
"""Writes are collected this long, unless a full batch is there or somebody waits for them."""


class Replica:
    """Owns both connections to replica.db; `run` must be running."""

    def __init__(self, writer: RunStore, reader: RunStore, in_thread: InThread = REAL.in_thread) -> None:
        self._writer = writer
        self._reader = reader
        self._in_thread = in_thread
        self._read_limiter = trio.CapacityLimiter(1)
        self._queue: list[tuple[Callable[[RunStore], None], int]] = []
        self._queued_bytes = 0
        self._failed = False
        self._put = 0
        self._committed = 0
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
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            with trio.move_on_after(_PAUSE_S):
                await self._hurry.wait()
            self._hurry = trio.Event()
            # Not what comes while this is being written: a link that brings much would be written in crumbs.
            target = self._put
            while self._committed < target:
                batch, size = self._take()
                # Not cancellable half way: a batch is committed, or the process is ending anyway.
                await self._in_thread(partial(self._write, batch))
                async with self._changed:
                    self._queued_bytes -= size
                    self._committed += len(batch)
                    self._changed.notify_all()
            if self._queue:
                self._wake.set()

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
