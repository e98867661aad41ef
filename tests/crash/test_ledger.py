"""The settlement's ledger on a disk that loses power or fails at any operation: what was answered is booked, once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from gateway.settlement.database import LedgerDamaged
from gateway.settlement.sqlite_store import SqliteLedger
from mesh.errors import StorageError
from mesh.testing.disk import Disk, DiskVfs, Error, Failure, Fate, Operation
from tests.crash.ledger_lives import LedgerLives, night, take
from tests.crash.sweep import Liar, failures, keeps_its_promises, power_cuts, power_cuts_in_recovery

FATES = list(Fate)


@pytest.fixture
def ledger(vfs: DiskVfs, tmp_path: Path) -> Callable[[], LedgerLives]:
    """A new ledger each time it is called."""
    return lambda: LedgerLives(vfs, tmp_path / "settlement.db")


@pytest.mark.proves("S1.17")
def test_power_cut_loses_no_answered_batch_and_books_none_twice(
    ledger: Callable[[], LedgerLives],
) -> None:
    assert keeps_its_promises(power_cuts(ledger, FATES, rotate=True, every=2))


def test_power_cut_again_in_the_recovery_loses_no_answered_batch(ledger: Callable[[], LedgerLives]) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(ledger, FATES, every=97))


@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_an_operation_ends_the_service_and_loses_no_answered_batch(
    ledger: Callable[[], LedgerLives], error: Error
) -> None:
    assert keeps_its_promises(failures(ledger, error, lasts=error is Error.ENOSPC, every=7))


@pytest.mark.soak
@pytest.mark.parametrize("fate", FATES)
def test_power_cuts_of_every_kind_lose_no_answered_batch(ledger: Callable[[], LedgerLives], fate: Fate) -> None:
    assert keeps_its_promises(power_cuts(ledger, [fate]))


@pytest.mark.soak
def test_power_cuts_in_every_recovery_lose_nothing(ledger: Callable[[], LedgerLives]) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(ledger, FATES))


@pytest.mark.soak
@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_any_operation_loses_no_answered_batch(
    ledger: Callable[[], LedgerLives], error: Error, lasts: bool
) -> None:
    assert keeps_its_promises(failures(ledger, error, lasts=lasts, reads=True))


def test_sweep_finds_the_losses_of_a_ledger_on_a_disk_that_lies_about_sync(ledger: Callable[[], LedgerLives]) -> None:
    tally = power_cuts(ledger, [Fate.DROPPED], liar=Liar(sync=True), every=17)
    assert tally.broken.total() > tally.cuts // 2


def test_batch_that_is_known_only_from_a_failed_commit_is_durable_before_it_is_answered(
    vfs: DiskVfs, tmp_path: Path
) -> None:
    """A sync fails, the service ends; the next one finds the batch in the cache and answers the retry; power cut."""
    path, root, batch = tmp_path / "settlement.db", night().venue.root, night().steps[0]
    counting = vfs.insert(Disk())
    ledger = SqliteLedger(path, root, vfs=vfs.name)
    take(ledger, batch)
    sync = max(number for number, done in enumerate(counting.history, 1) if done is Operation.SYNC)
    ledger.close()
    failing = vfs.insert(Disk(seed=2, failure=Failure(sync, Error.EIO, lasts=True)))
    ledger = SqliteLedger(path, root, vfs=vfs.name)
    with pytest.raises(StorageError, match=r"\(sync\)"):
        take(ledger, batch)
    with pytest.raises(StorageError, match="closed"):
        take(ledger, batch)
    ledger.close()
    still_up = vfs.insert(Disk(failing.medium))
    ledger = SqliteLedger(path, root, vfs=vfs.name)
    (outcome,) = ledger.accept(batch or ())
    assert (outcome.stored, outcome.known) == (0, 5), "the cache shows what never reached the medium"
    still_up.cut_power()
    with suppress(StorageError):
        ledger.close()
    vfs.insert(Disk(still_up.after_power_cut(Fate.DROPPED)))
    ledger = SqliteLedger(path, root, vfs=vfs.name)
    assert ledger.totals().entries == 5
    ledger.close()


@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_to_open_a_ledger_is_not_called_damage_and_lets_go_of_the_file(
    vfs: DiskVfs, tmp_path: Path, error: Error
) -> None:
    whole = vfs.insert(Disk())
    SqliteLedger(tmp_path / "settlement.db", night().venue.root, vfs=vfs.name).close()
    for at in range(1, whole.operations + 1):
        vfs.insert(Disk(failure=Failure(at, error)))
        try:
            SqliteLedger(tmp_path / "settlement.db", night().venue.root, vfs=vfs.name).close()
        except LedgerDamaged as wrong:
            pytest.fail(f"operation {at}: {wrong}")
        except StorageError:
            pass
        assert vfs.open_files == 0


def test_database_of_another_program_is_refused_and_keeps_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "settlement.db"
    database = apsw.Connection(str(path))
    database.execute("CREATE TABLE photos (name TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(LedgerDamaged, match="left as it is"):
        SqliteLedger(path, night().venue.root)
    assert path.read_bytes() == before
