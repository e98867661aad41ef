"""What a holder said to keep for good is there after its power was cut, whenever that happens after it said so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import pytest
import trio
import trio.testing

from mesh.core.entry import NO_PREV
from mesh.core.kinds import Kind, Role
from mesh.errors import StorageError
from mesh.limits import REPLICA_SYNC_S
from mesh.shell.replica import Heights, Replica
from mesh.shell.store import Durability, RunStore
from mesh.testing.disk import Disk, DiskVfs, Fate
from tests.factory import LogWriter, Venue
from tests.harness import runs_of

_Result = TypeVar("_Result")
STEP: Final = 4
PUTS: Final = 6
PAUSE_S: Final = REPLICA_SYNC_S / 2.5
"""Between two arrivals, so that some are synced together and some alone."""


def _log(name: str) -> LogWriter:
    log = LogWriter(Venue().device(name, Role.READER))
    for number in range(STEP * PUTS - 1):
        log.append(Kind.ABORT, bytes([number]) * 300)
    return log


LOGS: Final = (_log("bar A"), _log("bar B"))


async def at_once(
    work: Callable[[], _Result], *, limiter: trio.CapacityLimiter | None = None, abandon_on_cancel: bool = False
) -> _Result:
    """Instead of a thread: so that a mock clock moves, and a cut is at the same place each time."""
    await trio.lowlevel.checkpoint()
    return work()


def write(store: RunStore, log: LogWriter, first: int) -> None:
    if first == 0:
        store.add_log(log.log_id, log.entries[0])
        store.add_branch(log.log_id, 0, 0, NO_PREV, parent=None, attached=True)
    store.append_run(runs_of(log, first, first + STEP - 1)[0], 0, verified=True)


class Life:
    """One life of a replica that takes in two logs, bit by bit."""

    def __init__(self, vfs: DiskVfs, path: Path, disk: Disk) -> None:
        self.said: Heights = {}
        self.put: Heights = {}
        self._path = path
        self._vfs = vfs
        self._disk = vfs.insert(disk)
        try:
            trio.run(self._run, clock=trio.testing.MockClock(autojump_threshold=0))
        except* StorageError:
            assert disk.is_off

    async def _run(self) -> None:
        writer = RunStore(self._path, Durability.PROCESS, vfs=self._vfs.name)
        reader = RunStore(self._path, Durability.PROCESS, vfs=self._vfs.name, read_only=True)
        replica = Replica(writer, reader, at_once)
        replica.grown = lambda: dict(self.put)
        replica.durable = self.said.update
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(replica.run)
                for number in range(PUTS):
                    for log in LOGS:
                        replica.put(partial(write, log=log, first=number * STEP), 1)
                        self.put[log.log_id] = number * STEP + STEP - 1
                    await trio.sleep(PAUSE_S)
                await trio.sleep(REPLICA_SYNC_S)
                self._disk.cut_power()
                nursery.cancel_scope.cancel()
        finally:
            with suppress(StorageError):
                replica.close()


def held_after(vfs: DiskVfs, path: Path, disk: Disk, fate: Fate) -> Heights:
    """What is in the file when the power is back."""
    vfs.insert(Disk(disk.after_power_cut(fate)))
    try:
        with closing(RunStore(path, Durability.PROCESS, vfs=vfs.name)) as store:
            store.check()
            return {log.log_id: log.branches[0].head.seq for log in store.logs()}
    except StorageError:
        return {}


def lost(vfs: DiskVfs, directory: Path, fate: Fate, *, lies: bool = False) -> int:
    """How many of all cuts, one before each operation of the disk, took something that was said to be kept."""
    losses = cut_at = 0
    while True:
        cut_at += 1
        disk = Disk(seed=cut_at, cut_at=cut_at, lies_about_sync=lies)
        path = directory / f"{cut_at}.db"
        life = Life(vfs, path, disk)
        if life.said:
            held = held_after(vfs, path, disk, fate)
            losses += any(held.get(log_id, -1) < seq for log_id, seq in life.said.items())
        if disk.operations < cut_at:
            assert life.said == life.put == {log.log_id: log.head_seq for log in LOGS}, "all of it was said in the end"
            assert cut_at > 2 * PUTS
            return losses


@pytest.mark.proves("B4")
@pytest.mark.parametrize("fate", Fate)
def test_what_was_said_to_be_kept_survives_a_power_cut_at_any_operation(
    vfs: DiskVfs, tmp_path: Path, fate: Fate
) -> None:
    assert lost(vfs, tmp_path, fate) == 0


def test_sweep_finds_what_is_lost_on_a_disk_that_lies_about_its_syncs(vfs: DiskVfs, tmp_path: Path) -> None:
    assert lost(vfs, tmp_path, Fate.DROPPED, lies=True) > 0
