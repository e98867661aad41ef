"""After a failed commit nothing more is written by that process, and it ends with an exit code of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from mesh.core.entry import NO_PREV
from mesh.core.kinds import Kind, Lane, Role
from mesh.errors import StorageError
from mesh.shell.keys import Identity
from mesh.shell.own_logs import OwnLogs
from mesh.shell.replica import Replica
from mesh.shell.store import Durability, RunStore
from mesh.testing.disk import Disk, DiskVfs, Error, Failure
from tests.factory import LogWriter, Venue
from tests.harness import runs_of
from tests.programs import Program
from tests.system.processes import APPENDER, LOOPBACK, Enrolled


def fail_once(disk: Disk) -> None:
    """The next operation of the disk fails, and only that."""
    disk.failure = Failure(disk.operations + 1, Error.EIO)


async def test_own_store_takes_no_second_entry_after_a_failed_one(
    vfs: DiskVfs, tmp_path: Path, identity: Identity
) -> None:
    vfs.insert(Disk())
    store = RunStore(tmp_path / "own.db", Durability.POWER_CUT, vfs=vfs.name)
    logs = OwnLogs(identity, store, [])
    await logs.append(Lane.MONEY, Kind.TAP, b"first")
    fail_once(vfs.disk)
    with pytest.raises(StorageError, match="simulated EIO"):
        await logs.append(Lane.MONEY, Kind.TAP, b"second")
    with pytest.raises(StorageError, match="an earlier write failed"):
        await logs.append(Lane.MONEY, Kind.TAP, b"third")
    with pytest.raises(StorageError, match="an earlier write failed"):
        await logs.write(lambda store: store.put_intent(b"tap", b"body"))
    store.close()


async def test_replica_that_could_not_write_a_run_writes_none_that_follow_it(vfs: DiskVfs, tmp_path: Path) -> None:
    vfs.insert(Disk())
    path = tmp_path / "replica.db"
    writer = RunStore(path, Durability.PROCESS, vfs=vfs.name)
    reader = RunStore(path, Durability.PROCESS, vfs=vfs.name, read_only=True)
    replica = Replica(writer, reader)
    log = LogWriter(Venue().device("bar A", Role.READER))
    for number in range(20):
        log.append(Kind.ABORT, bytes([number]) * 300)

    def write(store: RunStore, first: int, last: int) -> None:
        if first == 0:
            store.add_log(log.log_id, log.entries[0])
            store.add_branch(log.log_id, 0, 0, NO_PREV, parent=None, attached=True)
        store.append_run(runs_of(log, first, last)[0], 0, verified=True)

    replica.put(partial(write, first=0, last=4), 1)
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the failure arrives in the background
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replica.run)
            await replica.flushed()
            fail_once(vfs.disk)
            replica.put(partial(write, first=5, last=9), 5_000_000)
            replica.put(partial(write, first=10, last=14), 1)
    assert raised.group_contains(StorageError, match="simulated EIO")
    replica.close()
    assert vfs.open_files == 0
    vfs.insert(Disk(vfs.disk.next_process()))
    again = RunStore(path, Durability.PROCESS, vfs=vfs.name)
    assert [(run.first_seq, run.last_seq) for run in again.stored_runs(log.log_id)] == [(0, 4)]
    again.close()


@pytest.mark.proves("S1.17")
def test_process_on_a_full_disk_ends_with_code_4_and_the_next_one_finds_everything_it_had_said(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    limited = (require_program("prlimit"), "--fsize=300000", "--")
    options = ("--dir", str(bar.directory), "--zone", "north", "--json", "--no-mdns", *LOOPBACK)
    with Program("tests.system.inside:enter", *limited, APPENDER, *options) as program:
        with pytest.raises(AssertionError, match=r"the disk refused a\s+write"):
            program.until("a line that it never says")
        assert program.wait() == 4
        said = [line for line in program.seen if line["event"] == "appended"]
    logs = bar.logs()
    assert len(said) > 10
    (log_id,) = {line["log"] for line in said}
    assert len(said) + 1 <= len(logs[log_id]) <= len(said) + 2, "the genesis, what was said, and at most one more"
    with bar.appender("--no-mdns") as program:
        assert program.until("appended")["log"] != log_id
    assert bar.logs()[log_id] == logs[log_id], "nothing is ever added to a log of an earlier process"
