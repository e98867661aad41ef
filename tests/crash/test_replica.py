"""replica.db on a disk that loses power or fails: it may fall back, it opens, and a peer makes it whole again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.testing.disk import DiskVfs, Error, Fate
from tests.crash.replica_lives import ReplicaLives
from tests.crash.sweep import failures, keeps_its_promises, power_cuts, power_cuts_in_recovery

FATES = list(Fate)


@pytest.fixture
def replica(vfs: DiskVfs, tmp_path: Path) -> Callable[[], ReplicaLives]:
    """A new replica each time it is called."""
    return lambda: ReplicaLives(vfs, tmp_path / "replica.db")


@pytest.mark.proves("S1.17")
def test_replica_that_lost_power_holds_an_earlier_state_and_gets_the_rest_from_a_peer(
    replica: Callable[[], ReplicaLives],
) -> None:
    assert keeps_its_promises(power_cuts(replica, FATES, rotate=True, every=4))


def test_replica_that_loses_power_again_while_it_recovers_still_gets_everything(
    replica: Callable[[], ReplicaLives],
) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(replica, FATES, every=97))


@pytest.mark.parametrize("error", list(Error))
def test_replica_on_a_disk_that_refuses_an_operation_gets_everything_when_it_works_again(
    replica: Callable[[], ReplicaLives], error: Error
) -> None:
    assert keeps_its_promises(failures(replica, error, lasts=error is Error.ENOSPC, every=13))


@pytest.mark.soak
@pytest.mark.parametrize("fate", FATES)
def test_replica_survives_power_cuts_of_every_kind(replica: Callable[[], ReplicaLives], fate: Fate) -> None:
    assert keeps_its_promises(power_cuts(replica, [fate]))


@pytest.mark.soak
def test_power_cuts_in_every_recovery_lose_nothing(replica: Callable[[], ReplicaLives]) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(replica, FATES))


@pytest.mark.soak
@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("error", list(Error))
def test_replica_survives_any_refused_operation(replica: Callable[[], ReplicaLives], error: Error, lasts: bool) -> None:
    assert keeps_its_promises(failures(replica, error, lasts=lasts, reads=True))
