"""own.db on a disk that loses power or fails at any operation: nothing acknowledged is lost, no seq is used twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.shell.keys import Identity
from mesh.testing.disk import DiskVfs, Error, Fate
from tests.crash.own_lives import OwnLives
from tests.crash.sweep import Liar, Tally, failures, power_cuts, power_cuts_in_recovery

FATES = list(Fate)
Device = Callable[..., OwnLives]


@pytest.fixture
def device(vfs: DiskVfs, tmp_path: Path, identity: Identity) -> Device:
    """A new device with an empty own.db each time it is called."""
    return lambda *pragmas: OwnLives(vfs, tmp_path / "own.db", identity, pragmas=pragmas)


def keeps_its_promises(tally: Tally) -> bool:
    assert not tally.broken, f"{tally.first} (and {tally.broken.total() - 1} more of {tally.cuts})"
    return tally.cuts > 0


@pytest.mark.proves("S1.17")
@pytest.mark.proves("S1.10")
@pytest.mark.proves("S3.5")
@pytest.mark.parametrize("fate", FATES)
def test_power_cut_at_any_operation_loses_nothing_acknowledged(device: Device, fate: Fate) -> None:
    assert keeps_its_promises(power_cuts(device, [fate]))


@pytest.mark.proves("S1.17")
def test_power_cut_again_at_any_operation_of_the_recovery_loses_nothing(device: Device) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(device, FATES, every=19))


@pytest.mark.soak
@pytest.mark.proves("S1.17")
@pytest.mark.parametrize("fate", FATES)
def test_power_cut_again_after_any_first_cut_loses_nothing(device: Device, fate: Fate) -> None:
    assert keeps_its_promises(power_cuts_in_recovery(device, [fate]))


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", list(Error))
def test_disk_that_refuses_any_operation_ends_the_process_and_loses_nothing(
    device: Device, error: Error, lasts: bool
) -> None:
    assert keeps_its_promises(failures(device, error, lasts=lasts))


def test_disk_that_cannot_be_read_ends_the_process_and_loses_nothing(device: Device) -> None:
    assert keeps_its_promises(failures(device, Error.EIO, lasts=False, reads=True))


# -- The controlled failure: a sweep that finds nothing where there is something to find proves nothing -------------


@pytest.mark.parametrize("fate", FATES)
def test_sweep_finds_the_losses_of_a_store_that_does_not_sync(device: Device, fate: Fate) -> None:
    tally = power_cuts(lambda: device("PRAGMA synchronous=OFF"), [fate], every=7)
    assert tally.broken.total() > tally.cuts // 2


@pytest.mark.parametrize("fate", FATES)
def test_sweep_finds_the_losses_on_a_disk_that_lies_about_sync(device: Device, fate: Fate) -> None:
    tally = power_cuts(device, [fate], liar=Liar(sync=True), every=7)
    assert tally.broken.total() > tally.cuts // 2


def test_sweep_finds_the_losses_of_a_store_that_syncs_only_its_checkpoints(device: Device) -> None:
    assert power_cuts(lambda: device("PRAGMA synchronous=NORMAL"), [Fate.DROPPED], every=3).broken.total() > 5


def test_sweep_finds_what_psow_0_is_for(device: Device) -> None:
    """On 4 KiB flash sectors a commit's last page shares its sector with the next commit, unless it is padded."""
    assert power_cuts(device, [Fate.FLASH], liar=Liar(powersafe=True)).broken.total() > 5
