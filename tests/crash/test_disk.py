"""The simulated disk does what it says: only then is a sweep over it worth anything."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from mesh.testing.disk import Disk, DiskVfs, Error, Failure, Fate, Operation
from mesh.testing.medium import FLASH_SECTOR_BYTES, SECTOR_BYTES, Medium, Resized, Written

OLD, NEW = b"o" * 3 * FLASH_SECTOR_BYTES, b"n" * 3 * FLASH_SECTOR_BYTES


def outcomes(fate: Fate, *, seeds: int = 200) -> list[bytes]:
    """What a file may hold after a power cut: three sectors were old and synced, two writes made them new."""
    found = []
    for seed in range(seeds):
        medium = Medium({"/file": OLD})
        inode = medium.names["/file"]
        half = len(NEW) // 2
        inode.change(Written(0, NEW[:half]))
        inode.change(Written(half, NEW[half:]))
        found.append(medium.after_power_cut(fate, random.Random(seed))["/file"])
    return found


def sectors(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def test_dropped_keeps_nothing_that_was_not_synced() -> None:
    assert set(outcomes(Fate.DROPPED)) == {OLD}


def test_prefix_keeps_writes_in_their_order() -> None:
    half = len(NEW) // 2
    assert set(outcomes(Fate.PREFIX)) == {OLD, NEW[:half] + OLD[half:], NEW}


def test_reordered_may_keep_the_second_write_without_the_first() -> None:
    half = len(NEW) // 2
    assert set(outcomes(Fate.REORDERED)) == {OLD, NEW[:half] + OLD[half:], OLD[:half] + NEW[half:], NEW}


def test_torn_keeps_or_drops_each_small_sector_whole() -> None:
    for content in outcomes(Fate.TORN):
        assert all(len(set(sector)) == 1 for sector in sectors(content, SECTOR_BYTES))
    assert any(len({*sectors(content, SECTOR_BYTES)[:8]}) == 2 for content in outcomes(Fate.TORN))


def test_flash_may_turn_a_whole_sector_into_garbage_and_what_was_synced_in_it_with_it() -> None:
    medium = Medium({"/file": OLD})
    medium.names["/file"].change(Written(FLASH_SECTOR_BYTES + 7, b"tiny"))
    found = {medium.after_power_cut(Fate.FLASH, random.Random(seed))["/file"] for seed in range(50)}
    assert {content[:FLASH_SECTOR_BYTES] for content in found} == {OLD[:FLASH_SECTOR_BYTES]}
    hit = {content[FLASH_SECTOR_BYTES : 2 * FLASH_SECTOR_BYTES] for content in found}
    assert OLD[:FLASH_SECTOR_BYTES] in hit
    assert any(sector[7:11] == b"tiny" and sector[:7] == OLD[:7] for sector in hit)
    assert any(sector[:7] != OLD[:7] for sector in hit)


def test_directory_forgets_what_was_not_synced_in_it() -> None:
    medium = Medium({"/old": b"1"})
    medium.create("/new").change(Written(0, b"2"))
    medium.names["/new"].sync()
    medium.delete("/old")
    assert medium.after_power_cut(Fate.DROPPED, random.Random(0)) == {"/old": b"1"}
    medium.sync_directory()
    assert medium.after_power_cut(Fate.DROPPED, random.Random(0)) == {"/new": b"2"}


def test_truncation_that_was_not_synced_may_come_undone() -> None:
    medium = Medium({"/file": b"content"})
    medium.names["/file"].change(Resized(0))
    assert medium.at_rest() == {"/file": b""}
    assert medium.after_power_cut(Fate.DROPPED, random.Random(0)) == {"/file": b"content"}


def test_sync_that_failed_is_not_made_good_by_one_that_succeeds() -> None:
    """As on Linux since ever: the error is told once, and the pages are clean."""
    kept = []
    for seed in range(20):
        disk = Disk({"/file": b""}, seed=seed, failure=Failure(2, Error.EIO))
        inode = disk.medium.names["/file"]
        disk.write(inode, NEW, 0)
        with pytest.raises(apsw.IOError, match=r"EIO at operation 2 \(sync\)"):
            disk.sync(inode)
        disk.sync(inode)
        assert disk.read(inode, len(NEW), 0) == NEW
        kept.append(disk.after_power_cut(Fate.PREFIX)["/file"] == NEW)
    assert True in kept
    assert False in kept


def test_full_disk_takes_part_of_a_write() -> None:
    disk = Disk({"/file": b""}, seed=4, failure=Failure(1, Error.ENOSPC))
    with pytest.raises(apsw.FullError):
        disk.write(disk.medium.names["/file"], NEW, 0)
    assert 0 < len(disk.medium.names["/file"].visible) < len(NEW)


def database_on(vfs: DiskVfs, path: Path, disk: Disk, *, options: str = "") -> list[object]:
    """Write three rows, each in a durable transaction, and read what is there."""
    vfs.insert(disk)
    database = apsw.Connection(f"file:{path}{options}", flags=apsw.SQLITE_OPEN_URI | 6, vfs=vfs.name)
    try:
        database.execute(
            "PRAGMA journal_mode=wal; PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS t (x)"
        ).fetchall()
        for number in range(3):
            database.execute("INSERT INTO t VALUES (?)", (number,))
        return [row[0] for row in database.execute("SELECT x FROM t")]
    finally:
        database.close()


def test_same_seed_is_the_same_disk_operation_by_operation(vfs: DiskVfs, tmp_path: Path) -> None:
    disks = []
    for _ in range(2):
        disks.append(Disk(seed=5))
        assert database_on(vfs, tmp_path / "a.db", disks[-1]) == [0, 1, 2]
    assert disks[0].history == disks[1].history
    assert {*disks[0].history} == {*Operation} - {Operation.READ}


def test_database_comes_back_after_its_power_was_cut(vfs: DiskVfs, tmp_path: Path) -> None:
    whole = Disk()
    database_on(vfs, tmp_path / "a.db", whole)
    cut = Disk(cut_at=whole.operations // 2)
    with pytest.raises(apsw.IOError, match="the power"):
        database_on(vfs, tmp_path / "a.db", cut)
    assert database_on(vfs, tmp_path / "a.db", Disk(cut.after_power_cut(Fate.TORN)))[-3:] == [0, 1, 2]


def test_program_decides_by_psow_whether_its_commits_are_padded_to_a_sector(vfs: DiskVfs, tmp_path: Path) -> None:
    sizes = []
    for options in ("?psow=0", "?psow=1"):
        disk = Disk()
        database_on(vfs, tmp_path / "a.db", disk, options=options)
        sizes.append(disk.history.count(Operation.WRITE))
    assert sizes[0] > sizes[1]


def test_disk_is_not_changed_under_a_process_that_lives(vfs: DiskVfs, tmp_path: Path) -> None:
    vfs.insert(Disk())
    database = apsw.Connection(str(tmp_path / "a.db"), vfs=vfs.name)
    database.execute("CREATE TABLE t (x)")
    with pytest.raises(AssertionError, match="close its connections first"):
        vfs.insert(Disk())
    database.close()
