"""A damaged store: whatever page of it is gone, it is named or nothing was lost; it is set aside only on demand."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Final

import apsw
import pytest
import trio

from mesh.core.chain import check_run
from mesh.core.entry import NO_PREV
from mesh.core.kinds import Kind, Lane, Role
from mesh.shell.damage import StoreGone, open_own
from mesh.shell.device import open_device
from mesh.shell.lock import StoreInUse
from mesh.shell.setting_aside import NothingToSetAside, set_replica_aside
from mesh.shell.store import Durability, RunStore, StoreDamaged
from tests.factory import LogWriter, Venue, VenueDevice
from tests.ondisk.reading import OWN, REPLICA, describe
from tests.programs import run

FIXTURE: Final = Path(__file__).parents[1] / "ondisk" / "001_first_venue"
PAGE_BYTES: Final = 4096


def outcome(directory: Path) -> str:
    """What a start says: the stores as they were, or the name of the damaged one."""
    expected = json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))
    try:
        found = json.loads(json.dumps(describe(directory)))
    except StoreDamaged as error:
        return next(name for name in (OWN, REPLICA) if name in str(error))
    assert {word: found[word] for word in expected} == expected
    return "whole"


@pytest.mark.parametrize("kind", ["garbage", "zeros", "one bit"])
@pytest.mark.parametrize("name", [OWN, REPLICA])
def test_any_damaged_page_is_named_or_was_not_needed(tmp_path: Path, name: str, kind: str) -> None:
    rng = random.Random(kind)
    pages = (FIXTURE / name).stat().st_size // PAGE_BYTES
    outcomes = []
    for page in range(pages):
        directory = Path(shutil.copytree(FIXTURE, tmp_path / f"{page}"))
        content = bytearray((directory / name).read_bytes())
        at = page * PAGE_BYTES
        match kind:
            case "garbage":
                content[at : at + PAGE_BYTES] = rng.randbytes(PAGE_BYTES)
            case "zeros":
                content[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)
            case _:
                content[at + rng.randrange(PAGE_BYTES)] ^= 1 << rng.randrange(8)
        (directory / name).write_bytes(content)
        outcomes.append(outcome(directory))
    assert set(outcomes) <= {name, "whole"}
    assert kind == "one bit" or outcomes.count(name) >= pages // 2


CHANGES: Final = {
    "a head that is not the newest entry": "UPDATE run SET tip = zeroblob(32) WHERE number = 1",
    "a run that is missing": "DELETE FROM run WHERE first_seq = 0 AND log = (SELECT log FROM run WHERE first_seq = 2)",
    "a run that lies elsewhere": "UPDATE run SET first_seq = 7, last_seq = 8 WHERE first_seq = 5",
    "a branch that leaves a parent that is not there": "UPDATE branch SET parent = 9 WHERE parent = 0",
    "a branch that follows something else": "UPDATE branch SET prev = zeroblob(32) WHERE number = 1",
    "a genesis of another log": "UPDATE log SET genesis = (SELECT genesis FROM log WHERE number = 1) WHERE number = 2",
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_store_that_sqlite_calls_whole_and_is_no_set_of_chains_is_named(tmp_path: Path, change: str) -> None:
    directory = Path(shutil.copytree(FIXTURE, tmp_path / "device"))
    database = apsw.Connection(str(directory / REPLICA))
    database.execute(CHANGES[change])
    assert database.changes() > 0
    database.close()
    with pytest.raises(StoreDamaged, match=r"replica\.db"):
        describe(directory)


# -- Setting aside -------------------------------------------------------------------------------------------------


class Bar:
    """A device on disk that sold five times and holds the log of another one."""

    def __init__(self, directory: Path) -> None:
        venue = Venue()
        device: VenueDevice = venue.device("bar A", Role.READER)
        self.root = venue.root
        self.directory = device.write_directory(directory / "bar-a")
        self.other = LogWriter(venue.device("bar B", Role.READER))
        for _ in range(9):
            self.other.append(Kind.ABORT, bytes(400))
        trio.run(self._sell)
        store = RunStore(self.directory / REPLICA, Durability.PROCESS)
        with store.transaction():
            store.add_log(self.other.log_id, self.other.entries[0])
            store.add_branch(self.other.log_id, 0, 0, NO_PREV, parent=None, attached=True)
            store.append_run(check_run(self.other.log_id, self.other.entries), 0, verified=True)
        store.close()

    async def _sell(self) -> None:
        async with open_device(self.directory) as device:
            for number in range(5):
                await device.append(Lane.MONEY, Kind.ABORT, bytes([number]))

    def start(self) -> int:
        """How many entries it holds when it starts."""

        async def work() -> int:
            async with open_device(self.directory) as device:
                return device.entries_held

        return trio.run(work)

    def damage(self, name: str) -> bytes:
        path = self.directory / name
        content = b"lightning" * 5000
        path.write_bytes(content)
        return content


def test_damaged_replica_is_named_with_what_to_do_and_nothing_replaces_it(tmp_path: Path) -> None:
    bar = Bar(tmp_path)
    assert bar.start() == 16
    content = bar.damage(REPLICA)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"replica\.db .*no sale is lost here.*tapmesh device set-aside --dir"):
            bar.start()
    assert (bar.directory / REPLICA).read_bytes() == content


def test_damaged_replica_that_is_set_aside_is_kept_and_the_device_starts_with_all_it_sold(tmp_path: Path) -> None:
    bar = Bar(tmp_path)
    kept = {}
    for number in (1, 2):
        content = bar.damage(REPLICA)
        assert set_replica_aside(bar.directory, bar.root).name == f"replica.db.damaged-{number}"
        kept[f"replica.db.damaged-{number}"] = content
        assert bar.start() == 6
    assert {name: (bar.directory / name).read_bytes() for name in kept} == kept


def test_replica_set_aside_keeps_its_log_with_it(tmp_path: Path) -> None:
    bar = Bar(tmp_path)
    bar.damage(REPLICA)
    (bar.directory / f"{REPLICA}-wal").write_bytes(b"its newest part")
    aside = set_replica_aside(bar.directory, bar.root)
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"its newest part"
    assert not (bar.directory / f"{REPLICA}-wal").exists()


def test_whole_replica_and_a_missing_one_are_not_set_aside(tmp_path: Path) -> None:
    bar = Bar(tmp_path)
    before = (bar.directory / REPLICA).read_bytes()
    with pytest.raises(NothingToSetAside, match="is whole"):
        set_replica_aside(bar.directory, bar.root)
    assert (bar.directory / REPLICA).read_bytes() == before
    for path in bar.directory.glob(f"{REPLICA}*"):
        path.unlink()
    with pytest.raises(NothingToSetAside, match="is not there"):
        set_replica_aside(bar.directory, bar.root)


async def test_replica_of_a_device_that_runs_is_not_set_aside(tmp_path: Path) -> None:
    bar = await trio.to_thread.run_sync(Bar, tmp_path)
    async with open_device(bar.directory):
        with pytest.raises(StoreInUse):
            set_replica_aside(bar.directory, bar.root)


def test_damaged_own_store_is_named_and_never_replaced(tmp_path: Path) -> None:
    bar = Bar(tmp_path)
    content = bar.damage(OWN)
    with pytest.raises(StoreDamaged, match=r"own\.db .*what this device sold.*nothing replaces it"):
        bar.start()
    with pytest.raises(NothingToSetAside):
        set_replica_aside(bar.directory, bar.root)
    assert (bar.directory / OWN).read_bytes() == content


@pytest.mark.parametrize("left", [None, b""], ids=["gone", "empty"])
def test_own_store_that_is_gone_is_missed_and_not_made_anew(tmp_path: Path, left: bytes | None) -> None:
    bar = Bar(tmp_path)
    for path in bar.directory.glob("own.db*"):
        if not path.name.endswith(".made"):
            path.unlink()
    if left is not None:
        (bar.directory / OWN).write_bytes(left)
    with pytest.raises(StoreGone, match=r"own\.db is gone or empty.*put the file back"):
        bar.start()
    assert not (bar.directory / OWN).exists() or (bar.directory / OWN).stat().st_size == 0
    (bar.directory / "own.db.made").unlink()
    assert bar.start() == 10, "somebody has said that it is lost for good"


def test_power_cut_in_the_very_first_start_is_no_loss(tmp_path: Path) -> None:
    """own.db may be there and empty before anything was ever said; its mark is not."""
    bar = Venue().device("bar C", Role.READER).write_directory(tmp_path / "bar-c")
    (bar / OWN).touch()
    store = open_own(bar / OWN)
    store.close()
    assert (bar / "own.db.made").exists()


def test_command_sets_a_damaged_replica_aside_and_says_what_it_may_hold(tmp_path: Path) -> None:
    bar = Bar(tmp_path)
    refused = run("mesh.cli_device:device", "set-aside", "--dir", bar.directory)
    assert refused.returncode == 2
    assert "is whole" in refused.stderr
    bar.damage(REPLICA)
    done = run("mesh.cli_device:device", "set-aside", "--dir", bar.directory)
    assert done.returncode == 0, done.stderr
    assert "replica.db.damaged-1" in done.stdout
    assert "only copy" in done.stdout
    assert bar.start() == 6
