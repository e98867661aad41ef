"""The office revokes: what it signs, what survives a command that was broken off, and what it says about money."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw
import pytest
import trio
import trio.lowlevel

from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement_api import OfferedRun
from mesh.core.entry import entry_id
from mesh.core.fork import prove_fork
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.revocation import sign_statement
from mesh.shell.authority import AUTHORITY_DIRECTORY, MANAGER_DIRECTORY, open_authority
from mesh.shell.bundle_key import open_keys
from mesh.shell.device import open_device
from mesh.shell.files import write_new_file
from mesh.shell.keys import load_identity
from mesh.shell.revoke import (
    REVOKED_DIRECTORY,
    NoSuchPlace,
    Outcome,
    OwnManager,
    Place,
    Wish,
    registered,
    revoke,
    rotate_bundle_key,
)
from mesh.shell.starter import export_starter, import_starter
from mesh.shell.store import Durability, RunStore
from mesh.shell.venue import NotIssued, starter
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.harness import runs_of
from tests.office import write_office

PATIENCE_S: Final = 20
"""Only what never comes is ended by this."""


class Office:
    """An office whose manager holds a till's log and a bar's: issue 50.00, sales of 6.50 and 7.00."""

    def __init__(self, directory: Path) -> None:
        self.venue = Venue()
        self.directory = directory / "event"
        self.bar, self.till = self.venue.device("bar", Role.READER), self.venue.device("till", Role.TILL)
        self.manager = write_office(self.venue, self.directory, self.bar, self.till)
        self.bar_log, till_log = LogWriter(self.bar), LogWriter(self.till)
        band = Wristband(self.venue, 1)
        band.issue(till_log, 5000)
        band.sell(self.bar_log, 650)
        band.sell(self.bar_log, 700)
        self.hold(self.bar_log, till_log)

    def hold(self, *logs: LogWriter) -> None:
        """The manager's device has taken in these logs, branch by branch where one forked."""
        store = RunStore(self.directory / MANAGER_DIRECTORY / "replica.db", Durability.PROCESS)
        with store.transaction():
            for log in logs:
                store.add_log(log.log_id, log.entries[0])
                store.add_branch(log.log_id, 0, 0, bytes(32), parent=None, attached=True)
                for run in runs_of(log):
                    store.append_run(run, 0, verified=True)
        store.close()

    async def revoke(self, wish: Wish | list[Place] | None = None, name: str = "bar") -> Outcome:
        return await revoke(self.directory, name, wish)

    def place(self, seq: int) -> Place:
        return Place(self.bar_log.log_id.hex()[:8], seq)

    def written(self) -> list[str]:
        return sorted(path.name for path in (self.directory / AUTHORITY_DIRECTORY / REVOKED_DIRECTORY).glob("*"))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def refused(words: str) -> pytest.RaisesGroup[NoSuchPlace]:
    """Raised while the manager's device was open, so in the groups of its nursery."""
    return pytest.RaisesGroup(pytest.RaisesExc(NoSuchPlace, match=words), flatten_subgroups=True)


@pytest.mark.proves("M7")
async def test_default_cut_is_everything_that_the_office_holds_and_changes_no_money(office: Office) -> None:
    outcome = await office.revoke()
    log = office.bar_log
    assert outcome.statement.cut == {log.log_id: Position(2, log.ids[2])}
    assert (outcome.no_longer, outcome.again, outcome.statement.number) == ((), (), 1)


@pytest.mark.proves("M7")
async def test_later_statement_raises_the_cut_and_says_what_counts_again(office: Office) -> None:
    first = await office.revoke(Wish.NONE)
    assert [fact.amount_minor for fact in first.no_longer] == [650, 700]
    second = await office.revoke([office.place(1)])
    assert ([fact.amount_minor for fact in second.again], second.statement.number) == ([650], 2)
    third = await office.revoke(Wish.HELD)
    assert ([fact.amount_minor for fact in third.again], third.no_longer) == ([700], ())
    lowered = await office.revoke([office.place(1)])
    assert ([fact.amount_minor for fact in lowered.no_longer], lowered.statement.number) == ([700], 4)


async def test_revoking_again_without_a_cut_changes_nothing_whatever_arrived_meanwhile(office: Office) -> None:
    first = await office.revoke([office.place(1)])
    again = await office.revoke()
    assert (again.is_new, again.statement.body) == (False, first.statement.body)
    assert len(office.written()) == 1


async def test_statement_that_was_signed_and_not_published_is_published_by_the_next_command(office: Office) -> None:
    """The power went after the register was written: its number is taken, and what it says is said."""
    authority = open_authority(office.directory / AUTHORITY_DIRECTORY)
    serial = office.bar.certificate.serial
    body = sign_statement(authority.key.sign, serial=serial, number=1, cut={})
    (authority.directory / REVOKED_DIRECTORY).mkdir()
    write_new_file(authority.directory / REVOKED_DIRECTORY / f"{serial:040x}-{1:010d}.cbor", body)
    outcome = await office.revoke([office.place(2)])
    assert outcome.statement.number == 2
    assert [statement.number for statement in registered(authority)] == [1, 2]
    async with open_device(office.directory / MANAGER_DIRECTORY) as device:
        assert device.trust.revocations.number(serial) == 2


async def test_fork_stays_outside_the_default_cut_unless_a_branch_is_named(office: Office) -> None:
    log = office.bar_log
    branch = log.fork(2)
    branch.append(Kind.ABORT, b"another second sale")
    store = RunStore(office.directory / MANAGER_DIRECTORY / "replica.db", Durability.PROCESS)
    with store.transaction():
        store.add_branch(log.log_id, 1, 2, log.ids[1], parent=0, attached=True)
        store.append_run(runs_of(branch, 2)[0], 1, verified=True)
    store.close()
    proof = prove_fork(log.entries[0], log.entries[2], branch.entries[2], office.venue.root)
    assert proof is not None
    async with open_device(office.directory / MANAGER_DIRECTORY) as device:
        await device.append(Lane.CONTROL, Kind.FORK_PROOF, proof.body)
    outcome = await office.revoke()
    assert outcome.statement.cut == {log.log_id: Position(1, log.ids[1])}
    with refused("does not name one entry"):
        await office.revoke([office.place(2)])
    named = await office.revoke([Place(log.log_id.hex()[:8], 2, branch.ids[2].hex()[:12])])
    assert named.statement.cut == {log.log_id: Position(2, branch.ids[2])}


async def test_places_that_a_later_statement_does_not_name_stay(office: Office) -> None:
    second = LogWriter(office.bar, number=1)
    second.append(Kind.ABORT, b"")
    office.hold(second)
    await office.revoke()
    outcome = await office.revoke([office.place(1)])
    assert {log_id: place.seq for log_id, place in outcome.statement.cut.items()} == {
        office.bar_log.log_id: 1,
        second.log_id: 1,
    }


async def test_place_that_is_nowhere_is_refused_unless_it_is_named_in_full(office: Office) -> None:
    for place in (Place("abcdef", 1), office.place(9), Place(office.bar_log.log_id.hex()[:8], 1, "0000")):
        with refused("nothing was signed"):
            await office.revoke([place])
    far = LogWriter(office.bar, number=7)
    outcome = await office.revoke([Place(far.log_id.hex(), 5, entry_id(b"far away").hex())])
    assert outcome.statement.cut == {far.log_id: Position(5, entry_id(b"far away"))}


async def test_office_revokes_neither_strangers_nor_its_own_manager(office: Office) -> None:
    with pytest.raises(NotIssued):
        await office.revoke(name="nobody")
    with pytest.raises(OwnManager):
        await office.revoke(name="office")
    assert office.written() == []


@pytest.mark.proves("M7")
@pytest.mark.proves("B3")
async def test_revoked_device_gets_no_box_of_the_new_bundle_key_and_couriers_never_had_one(
    office: Office, tmp_path: Path
) -> None:
    till, bar = (device.write_directory(tmp_path / name) for name, device in (("t", office.till), ("b", office.bar)))
    before = await rotate_bundle_key(office.directory)
    assert before.holders == ("bar", "office", "till")
    outcome = await office.revoke()
    assert outcome.rotated is not None
    assert outcome.rotated.holders == ("office", "till")
    runs = await starter(office.directory)
    keys = {}
    for directory in (till, bar):
        import_starter(load_identity(directory), runs)
        async with open_device(directory) as device:
            keys[directory] = open_keys(device.identity, device.bundle_keys)
            assert device.bundle_keys.current() == outcome.rotated.name
    assert set(keys[till]) == {before.name, outcome.rotated.name}
    assert set(keys[bar]) == {before.name}


async def test_device_enrolled_after_a_rotation_gets_its_box_with_the_next_starter(
    office: Office, tmp_path: Path
) -> None:
    rotated = await rotate_bundle_key(office.directory)
    late = enrolled_late(office)
    directory = late.write_directory(tmp_path / "late")
    import_starter(load_identity(directory), await starter(office.directory))
    async with open_device(directory) as device:
        assert list(open_keys(device.identity, device.bundle_keys)) == [rotated.name]
        assert device.bundle_keys.generation() == 1


def enrolled_late(office: Office) -> VenueDevice:
    late = office.venue.device("late", Role.READER)
    write = office.directory / AUTHORITY_DIRECTORY / "issued" / f"{late.certificate.serial:040x}.pem"
    late.write_directory(office.directory.parent / "scratch")
    write.write_bytes((office.directory.parent / "scratch" / "device.pem").read_bytes())
    return late


async def test_revocation_is_in_own_db_of_whoever_heard_it(office: Office, tmp_path: Path) -> None:
    outcome = await office.revoke()
    directory = office.till.write_directory(tmp_path / "till")
    import_starter(load_identity(directory), export_starter(load_identity(office.directory / MANAGER_DIRECTORY)))
    async with open_device(directory) as device:
        with trio.fail_after(PATIENCE_S):
            while not await device.read_own(RunStore.statements):
                await trio.lowlevel.checkpoint()
    (directory / "replica.db").unlink()
    async with open_device(directory) as device:
        (statement,) = device.trust.revocations.holding(office.bar.certificate.serial)
        assert statement.body == outcome.statement.body
        assert office.bar.certificate.serial in device.node.revocations
        await device.open_lane(Lane.CONTROL)


def test_store_written_before_there_were_revocations_keeps_them_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    RunStore(path, Durability.POWER_CUT).close()
    db = apsw.Connection(str(path))
    db.execute("DROP TABLE statement")
    db.close()
    looked_at = RunStore(path, Durability.PROCESS, read_only=True)
    assert looked_at.statements() == []
    looked_at.close()
    store = RunStore(path, Durability.POWER_CUT)
    with store.transaction():
        store.put_statement(b"digest", b"body")
    assert store.statements() == [(b"digest", b"body")]
    store.close()


def test_ledger_written_before_there_were_revocations_can_be_looked_at_and_takes_them(tmp_path: Path) -> None:
    venue, path = Venue(), tmp_path / "settlement.db"
    SqliteLedger(path, venue.root).close()
    db = apsw.Connection(str(path))
    db.execute("DROP TABLE revocation")
    db.close()
    looked_at = SqliteLedger(path, venue.root, read_only=True)
    assert looked_at.revoked_serials() == frozenset()
    looked_at.close()
    bar = venue.device("bar", Role.READER)
    office = LogWriter(venue.device("office", Role.MANAGER), Lane.CONTROL)
    office.append(Kind.REVOCATION, venue.revocation(bar))
    ledger = SqliteLedger(path, venue.root)
    ledger.accept([OfferedRun(*run) for run in office.runs()])
    assert ledger.revoked_serials() == {bar.certificate.serial}
    ledger.close()
