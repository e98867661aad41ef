"""Every signature is verified, in the background: the tip of each run when it arrived, the rest here.

Catching up comes first: while runs arrive in bulk this waits, but never longer than `_WAIT_S_MAX`. What it finds bad is
its author's doing (the entry lies below a verified successor that vouches for it by hash), never the relay's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import trio

from mesh.core.chain import check_run, first_bad_signature
from mesh.shell.replica import Replica
from mesh.shell.surroundings import REAL, Surroundings

_BULK_ENTRIES: Final = 64
_QUIET_S: Final = 0.2
_WAIT_S_MAX: Final = 30.0
_BATCH_RUNS: Final = 16


def bad_signature(log_id: bytes, entries: Sequence[bytes], log_key: bytes) -> int | None:
    """The seq of the first entry of a stored run whose own signature does not verify."""
    return first_bad_signature(check_run(log_id, entries), log_key)


class Verifier:
    """Walks the stored runs whose signatures were not all checked; `pending` is how many entries are left."""

    def __init__(
        self,
        replica: Replica,
        log_key: Callable[[bytes], bytes],
        failed: Callable[[bytes, int], None],
        surroundings: Surroundings = REAL,
    ) -> None:
        self.pending = 0
        self.verified = 0
        self._replica = replica
        self._log_key = log_key
        self._failed = failed
        self._in_thread = surroundings.in_thread
        self._limiter = trio.CapacityLimiter(surroundings.cores)
        self._wake = trio.Event()
        self._bulk_at = -math.inf
        self._cursor = 0
        self._progress = trio.Event()

    def expect(self, entries: int, *, arriving: bool = True) -> None:
        """A run of this many entries was put into the replica unverified."""
        self.pending += entries
        if arriving and entries >= _BULK_ENTRIES:
            self._bulk_at = trio.current_time()
        self._wake.set()

    async def idle(self) -> None:
        """Wait until every signature that was expected so far has been verified."""
        while self.pending:
            await self._progress.wait()

    async def run(self) -> None:
        """Verify for ever; a bad signature leaves its run unverified, so the next start finds it again."""
        while True:
            await self._wake.wait()
            await self._until_quiet()
            self._wake = trio.Event()
            while await self._batch():
                await self._until_quiet()

    async def _until_quiet(self) -> None:
        latest = trio.current_time() + _WAIT_S_MAX
        while trio.current_time() < min(self._bulk_at + _QUIET_S, latest):  # noqa: ASYNC110 - time itself is awaited
            await trio.sleep_until(self._bulk_at + _QUIET_S)

    async def _batch(self) -> bool:
        runs = await self._replica.read(lambda store: store.unverified(self._cursor, _BATCH_RUNS))
        good: list[int] = []

        async def verify(number: int, log_id: bytes, entries: list[bytes]) -> None:
            key = self._log_key(log_id)
            bad = await self._in_thread(lambda: bad_signature(log_id, entries, key), limiter=self._limiter)
            if bad is None:
                good.append(number)
            else:
                self._failed(log_id, bad)
            self.pending -= len(entries)
            self.verified += len(entries)

        async with trio.open_nursery() as nursery:
            for number, log_id, entries in runs:
                nursery.start_soon(verify, number, log_id, entries)
        self._progress.set()
        self._progress = trio.Event()
        if runs:
            self._cursor = runs[-1][0]
        if good:
            self._replica.put(lambda store: store.mark_verified(good), 0)
        return bool(runs)
