"""own.db on a disk that loses power or fails at any operation: nothing acknowledged is lost, no seq is used twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.shell.keys import Identity
from mesh.testing.disk import DiskVfs, Error, Fate
from tests.crash.own_lives import OwnLives
from tests.crash.sweep import Liar, failures, keeps_its_promises, power_cuts, power_cuts_in_recovery

FATES = list(Fate)
Device = Callable[..., OwnLives]


@pytest.fixture
def device(vfs: DiskVfs, tmp_path: Path, identity: Identity) -> Device:
    """A new device with an empty own.db each time it is called."""
    return lambda *pragmas: OwnLives(vfs, tmp_path / "own.db", identity, pragmas=pragmas)


@pytest.mark.proves("S1.17")
@pytest.mark.proves("S1.10")
@pytest.mark.proves("S3.5")
def test_power_cut_at_any_operation_loses_nothing_acknowledged(device: Device) -> None:
    assert keeps_its_promises(power_cuts(device, FATES, rotate=True))


@pytest.mark.proves("S1.17")
def test_power_cut_again_at_any_operation_of_the_recovery_loses_nothing(device: Device) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(device, FATES, every=31))


@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_an_operation_ends_the_process_and_loses_nothing(device: Device, error: Error) -> None:
    assert keeps_its_promises(failures(device, error, lasts=error is Error.ENOSPC, every=3))


@pytest.mark.soak
@pytest.mark.parametrize("fate", FATES)
def test_power_cuts_of_every_kind_lose_nothing_acknowledged(device: Device, fate: Fate) -> None:
    assert keeps_its_promises(power_cuts(device, [fate]))


@pytest.mark.soak
def test_power_cuts_in_every_recovery_lose_nothing(device: Device) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(device, FATES))


@pytest.mark.soak
@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_any_operation_loses_nothing_acknowledged(device: Device, error: Error, lasts: bool) -> None:
    assert keeps_its_promises(failures(device, error, lasts=lasts, reads=True))


# -- The controlled failure: a sweep that finds nothing where there is something to find proves nothing -------------


@pytest.mark.parametrize("fate", FATES)
def test_sweep_finds_the_losses_of_a_store_that_does_not_sync(device: Device, fate: Fate) -> None:
    tally = power_cuts(lambda: device("PRAGMA synchronous=OFF"), [fate], every=9)
    assert tally.broken.total() > tally.cuts // 2


@pytest.mark.parametrize("fate", FATES)
def test_sweep_finds_the_losses_on_a_disk_that_lies_about_sync(device: Device, fate: Fate) -> None:
    tally = power_cuts(device, [fate], liar=Liar(sync=True), every=9)
    assert tally.broken.total() > tally.cuts // 2


def test_sweep_finds_the_losses_of_a_store_that_syncs_only_its_checkpoints(device: Device) -> None:
    assert power_cuts(lambda: device("PRAGMA synchronous=NORMAL"), [Fate.DROPPED], every=3).broken.total() > 5


def test_sweep_finds_what_psow_0_is_for(device: Device) -> None:
    """On 4 KiB flash sectors a commit's last page shares its sector with the next commit, unless it is padded."""
    assert power_cuts(device, [Fate.FLASH], liar=Liar(powersafe=True), every=2).broken.total() > 5
