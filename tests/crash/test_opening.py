"""What opening a store does to a file that is whole, is not, is not ours, or lies on a disk that refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest

from mesh.errors import StorageError
from mesh.shell.store import SCHEMA_VERSION, Durability, RunStore, StoreDamaged
from mesh.testing.disk import Disk, DiskVfs, Error, Failure, Fate, Operation

CASE = b"a case that holds a card"


@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_to_open_a_store_is_not_called_damage_and_lets_go_of_the_file(
    vfs: DiskVfs, tmp_path: Path, error: Error
) -> None:
    whole = vfs.insert(Disk())
    RunStore(tmp_path / "own.db", Durability.POWER_CUT, vfs=vfs.name).close()
    for at in range(1, whole.operations + 1):
        disk = vfs.insert(Disk(failure=Failure(at, error)))
        refused = refusal_to_open(vfs, tmp_path / "own.db")
        assert refused is None or disk.failed
        assert not isinstance(refused, StoreDamaged)
        assert vfs.open_files == 0


def refusal_to_open(vfs: DiskVfs, path: Path) -> StorageError | None:
    try:
        RunStore(path, Durability.POWER_CUT, vfs=vfs.name).close()
    except StorageError as refused:
        return refused
    return None


def test_store_of_a_newer_version_that_was_killed_keeps_every_byte_of_both_files(tmp_path: Path) -> None:
    running, found = tmp_path / "running.db", tmp_path / "own.db"
    store = RunStore(running, Durability.POWER_CUT)
    store._db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    files = {found: running, Path(f"{found}-wal"): Path(f"{running}-wal")}
    for copy, original in files.items():
        shutil.copy(original, copy)
    before = {copy: copy.read_bytes() for copy in files}
    store.close()
    with pytest.raises(StoreDamaged, match="has version 2, this program reads 1; left as it is"):
        RunStore(found, Durability.POWER_CUT)
    assert {copy: copy.read_bytes() for copy in files} == before
    assert all(before.values())


# -- The trap of the retry -----------------------------------------------------------------------------------------


def killed_by_a_failed_commit(vfs: DiskVfs, path: Path) -> Disk:
    """A machine on which a process died because the sync of a commit failed: the cache still shows what it wrote."""
    counting = vfs.insert(Disk())
    put_evidence(RunStore(path, Durability.POWER_CUT, vfs=vfs.name))
    last_sync = max(number for number, done in enumerate(counting.history, 1) if done is Operation.SYNC)
    disk = vfs.insert(Disk(seed=3, failure=Failure(last_sync, Error.EIO, lasts=True)))
    store = RunStore(path, Durability.POWER_CUT, vfs=vfs.name)
    with pytest.raises(StorageError, match=r"simulated EIO at operation \d+ \(sync\)"):
        put_evidence(store)
    return disk


def put_evidence(store: RunStore) -> None:
    """What a device does whenever it sees the double spend, also for the second time."""
    try:
        with store.transaction():
            store.put_evidence(b"digest", CASE)
    finally:
        store._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        store.close()


def evidence_after_power_cut(vfs: DiskVfs, path: Path, disk: Disk) -> list[tuple[bytes, bytes]]:
    disk.cut_power()
    vfs.insert(Disk(disk.after_power_cut(Fate.DROPPED)))
    store = RunStore(path, Durability.POWER_CUT, vfs=vfs.name)
    found = store.evidence()
    store.close()
    return found


def test_retry_after_a_failed_commit_is_durable_because_opening_wrote_everything_out(
    vfs: DiskVfs, tmp_path: Path
) -> None:
    path = tmp_path / "own.db"
    again = vfs.insert(Disk(killed_by_a_failed_commit(vfs, path).medium))
    store = RunStore(path, Durability.POWER_CUT, vfs=vfs.name)
    assert store.evidence() == [(b"digest", CASE)], "the cache shows what never reached the medium"
    put_evidence(store)
    assert evidence_after_power_cut(vfs, path, again) == [(b"digest", CASE)]


def test_retry_without_that_writes_nothing_succeeds_and_is_lost(vfs: DiskVfs, tmp_path: Path) -> None:
    """The controlled failure: a connection that is opened in any other way falls into the trap."""
    path = tmp_path / "own.db"
    again = vfs.insert(Disk(killed_by_a_failed_commit(vfs, path).medium))
    database = apsw.Connection(f"file:{path}?psow=0", flags=apsw.SQLITE_OPEN_URI | 2, vfs=vfs.name)
    database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    database.execute("PRAGMA synchronous=FULL; INSERT OR IGNORE INTO evidence VALUES (?, ?)", (b"digest", CASE))
    database.close()
    assert evidence_after_power_cut(vfs, path, again) == []
