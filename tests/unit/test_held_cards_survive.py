"""A double spend that was proven once holds its card whatever becomes of replica.db."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from mesh.core.chain import check_run
from mesh.core.entry import NO_PREV
from mesh.core.kinds import Kind, Operation, Role
from mesh.shell.device import ConflictSurfaced, Device, open_device
from mesh.shell.store import REPLICA_FILE, Durability, RunStore
from mesh.views.cards import CardStatus
from mesh.views.evidence import check_case
from tests.factory import LogWriter, Venue, Wristband


def hold(directory: Path, *logs: LogWriter) -> None:
    """Put whole logs into a device's replica, as its network would."""
    store = RunStore(directory / REPLICA_FILE, Durability.PROCESS)
    with store.transaction():
        for log in logs:
            store.add_log(log.log_id, log.entries[0])
            store.add_branch(log.log_id, 0, 0, NO_PREV, parent=None, attached=True)
            store.append_run(check_run(log.log_id, log.entries), 0, verified=True)
    store.close()


async def surfaced(device: Device) -> ConflictSurfaced:
    notices = device.subscribe()
    with trio.fail_after(30):
        async for notice in notices:
            if isinstance(notice, ConflictSurfaced):
                return notice
    raise AssertionError("the notices ended")


@pytest.mark.proves("M4")
async def test_card_stays_held_with_its_proof_after_the_replica_was_lost(tmp_path: Path) -> None:
    venue = Venue()
    till, bar_a, bar_c = (
        LogWriter(venue.device(name, role))
        for name, role in (("till", Role.TILL), ("A", Role.READER), ("C", Role.READER))
    )
    band = Wristband(venue, 1)
    band.issue(till, 2000)
    copy = band.clone()
    band.sell(bar_a, 650)
    copy.sell(bar_c, 650)
    directory = venue.device("bar D", Role.READER).write_directory(tmp_path / "bar-d")
    hold(directory, till, bar_a, bar_c)

    async with open_device(directory) as device:
        case = (await surfaced(device)).case
    for path in directory.glob(f"{REPLICA_FILE}*"):
        path.unlink()
    async with open_device(directory) as device:
        assert band.card in list(device.cards.cards())
        again = await surfaced(device)
        assert again.case == case
        assert {tap.device.name for tap in check_case(again.case, device.root).taps} == {"A", "C"}
        standing = device.cards.standing(band.card, bytes(32), bytes(8), bytes(16))
        assert standing.status is CardStatus.HELD


async def test_every_one_of_many_double_spends_is_proven(tmp_path: Path) -> None:
    venue = Venue()
    till, bar_a, bar_c = (
        LogWriter(venue.device(name, role))
        for name, role in (("till", Role.TILL), ("A", Role.READER), ("C", Role.READER))
    )
    bands = [Wristband(venue, number) for number in range(150)]
    for band in bands:
        band.issue(till, 2000)
        copy = band.clone()
        band.sell(bar_a, 650)
        copy.sell(bar_c, 650)
    directory = venue.device("bar D", Role.READER).write_directory(tmp_path / "bar-d")
    hold(directory, till, bar_a, bar_c)
    async with open_device(directory) as device:
        proven: set[bytes] = set()
        notices = device.subscribe()
        with trio.fail_after(60):
            while len(proven) < len(bands):
                notice = await notices.receive()
                if isinstance(notice, ConflictSurfaced):
                    case = check_case(notice.case, device.root)
                    assert case.card == notice.conflict.card
                    proven.add(case.card)
        assert proven == {band.card for band in bands}
        stored = await device.read_own(RunStore.evidence)
        assert {check_case(body, device.root).card for _, body in stored} == proven


async def test_conflict_is_proven_without_the_tap_that_nobody_signed(tmp_path: Path) -> None:
    venue = Venue()
    till, bar_a, liar, bar_c = (
        LogWriter(venue.device(name, role))
        for name, role in (("till", Role.TILL), ("A", Role.READER), ("liar", Role.READER), ("C", Role.READER))
    )
    band = Wristband(venue, 1)
    band.issue(till, 2000)
    forged = band.propose(liar.device, Operation.SALE, 650)
    copy = band.clone()
    band.sell(bar_a, 650)
    copy.sell(bar_c, 650)
    liar.append_forged(Kind.TAP, forged.encode())
    directory = venue.device("bar D", Role.READER).write_directory(tmp_path / "bar-d")
    hold(directory, till, bar_a, liar, bar_c)
    async with open_device(directory) as device:
        case = check_case((await surfaced(device)).case, device.root)
        assert {tap.device.name for tap in case.taps} == {"A", "C"}
