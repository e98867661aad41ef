"""Runs on disk: what was stored comes back byte for byte, from any place on, also after the process is gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.chain import check_run, parse_genesis, split_run
from mesh.core.events import Accepted, Attached, Effect, Relabel
from mesh.core.frontier import Frontier, Position, Segment
from mesh.core.kinds import Lane, Role
from mesh.errors import LocalError, StorageError
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from mesh.shell.store import APPLICATION_ID, SCHEMA_VERSION, Durability, RunStore, StoreDamaged
from tests.factory import LogWriter, Venue
from tests.harness import Mote, Puppet, World, runs_of

VENUE = Venue()
BAR = VENUE.device("bar", Role.READER)
KIND = 99


def written(count: int, *, body: bytes = b"body", number: int = 0) -> LogWriter:
    log = LogWriter(BAR, Lane.MONEY, number=number)
    for _ in range(count - 1):
        log.append(KIND, body)
    return log


LOG = written(24)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore(tmp_path / "replica.db", Durability.PROCESS)
    yield opened
    opened.close()


def keep(store: RunStore, log: LogWriter, first: int, last: int, branch: int = 0, *, length: int = 5) -> None:
    """Store part of a log as runs of one branch."""
    runs = runs_of(log, first, last, length=length)
    with store.transaction():
        store.add_log(log.log_id, log.entries[0])
        store.add_branch(log.log_id, branch, first, runs[0].prev, parent=None, attached=branch == 0)
        for run in runs:
            store.append_run(run, branch, verified=False)


def pieces(store: RunStore, log: LogWriter, segment: Segment) -> list[bytes]:
    """Everything of a segment as it would be sent, piece by piece."""
    entries: list[bytes] = []
    while (piece := store.read_run(log.log_id, segment)) is not None:
        assert 1 <= piece.count <= RUN_ENTRIES_MAX
        assert piece.next_seq == segment.first_seq + piece.count
        entries += split_run(piece.count, piece.blob)
        segment = Segment(segment.branch, piece.next_seq, segment.last_seq)
    return entries


@pytest.mark.proves("M2")
def test_any_part_of_a_log_is_read_back_byte_for_byte(store: RunStore) -> None:
    keep(store, LOG, 0, LOG.head_seq)
    for first in range(len(LOG.entries)):
        for last in range(first, len(LOG.entries)):
            segment = Segment(0, first, last)
            assert pieces(store, LOG, segment) == LOG.entries[first : last + 1]
            assert store.read_entries(LOG.log_id, segment) == LOG.entries[first : last + 1]


def test_entries_at_one_seq_are_found_in_every_branch(store: RunStore) -> None:
    keep(store, LOG, 0, 9)
    fork = LOG.fork(5)
    fork.append(99, b"another")
    assert store.read_at(LOG.log_id, 9) == [LOG.entries[9]]
    assert store.read_at(LOG.log_id, 10) == []
    with store.transaction():
        run = check_run(fork.log_id, fork.entries[5:])
        store.add_branch(fork.log_id, 1, 5, run.prev, parent=0, attached=True)
        store.append_run(run, 1, verified=True)
    assert sorted(store.read_at(LOG.log_id, 5)) == sorted([LOG.entries[5], fork.entries[5]])
    assert store.read_at(LOG.log_id, 4) == [LOG.entries[4]]


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), data=st.data())
def test_however_runs_arrived_they_are_served_the_same(
    lengths: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = RunStore(tmp_path_factory.mktemp("store") / "replica.db", Durability.PROCESS)
    with store.transaction():
        store.add_log(LOG.log_id, LOG.entries[0])
        store.add_branch(LOG.log_id, 0, 0, bytes(32), parent=None, attached=True)
        seq = 0
        for length in lengths:
            if seq < len(LOG.entries):
                run = runs_of(LOG, seq, min(seq + length - 1, LOG.head_seq))[0]
                store.append_run(run, 0, verified=False)
                seq = run.last_seq + 1
    first = data.draw(st.integers(0, seq - 1))
    assert pieces(store, LOG, Segment(0, first, seq - 1)) == LOG.entries[first:seq]
    assert [entry for run in store.runs(LOG.log_id) for entry in run] == LOG.entries[:seq]
    store.close()


def test_no_piece_is_larger_than_a_run_may_be(store: RunStore) -> None:
    log = written(40, body=bytes(20_000))
    keep(store, log, 0, log.head_seq)
    piece = store.read_run(log.log_id, Segment(0, 0, log.head_seq))
    assert piece is not None
    assert 5 <= piece.count < 40
    assert len(piece.blob) <= RUN_BYTES_MAX
    assert pieces(store, log, Segment(0, 0, log.head_seq)) == log.entries


def test_many_small_runs_are_served_as_few(store: RunStore) -> None:
    log = written(RUN_ENTRIES_MAX + 100, body=b"")
    keep(store, log, 0, log.head_seq, length=1)
    piece = store.read_run(log.log_id, Segment(0, 0, log.head_seq))
    assert piece is not None
    assert piece.count == RUN_ENTRIES_MAX


def test_what_is_not_held_is_no_piece_and_a_hole_is_damage(store: RunStore) -> None:
    keep(store, LOG, 0, 9)
    assert store.read_run(LOG.log_id, Segment(0, 10, 12)) is None
    assert store.read_run(LOG.log_id, Segment(7, 0, 3)) is None
    with pytest.raises(StoreDamaged, match="lacks seq 10"):
        store.read_entries(LOG.log_id, Segment(0, 8, 12))


def test_log_that_is_not_there_is_the_callers_mistake(store: RunStore) -> None:
    with pytest.raises(LocalError):
        store.read_run(bytes(16), Segment(0, 0, 0))


def test_first_known_place_of_a_locator_is_found_and_strangers_are_passed_over(store: RunStore) -> None:
    keep(store, LOG, 0, LOG.head_seq)
    segments = [Segment(0, 0, LOG.head_seq)]
    at_nine, genesis = Position(9, LOG.ids[9]), Position(0, LOG.ids[0])
    stranger, beyond = Position(12, bytes(32)), Position(99, LOG.ids[3])
    assert store.locate(LOG.log_id, segments, [beyond, stranger, at_nine, genesis]) == at_nine
    assert store.locate(LOG.log_id, segments, [stranger]) is None
    assert store.locate(LOG.log_id, segments, []) is None
    assert store.locate(LOG.log_id, [Segment(0, 0, 5)], [at_nine, genesis]) == genesis
    assert store.locate(LOG.log_id, [Segment(7, 0, 99)], [at_nine]) is None


def test_island_that_is_joined_is_read_as_one_chain(store: RunStore) -> None:
    keep(store, LOG, 0, 9)
    keep(store, LOG, 10, 19, branch=1)
    (log,) = store.logs()
    assert [(branch.number, branch.from_seq, branch.attached) for branch in log.branches] == [
        (0, 0, True),
        (1, 10, False),
    ]
    with store.transaction():
        store.relabel(LOG.log_id, 1, 0)
    (log,) = store.logs()
    assert [(branch.number, branch.head) for branch in log.branches] == [(0, Position(19, LOG.ids[19]))]
    assert store.read_entries(LOG.log_id, Segment(0, 0, 19)) == LOG.entries[:20]


def test_island_that_turned_out_to_be_a_fork_hangs_from_its_parent(store: RunStore) -> None:
    branch = LOG.fork(6)
    branch.append(KIND, b"other")
    keep(store, LOG, 0, 9)
    keep(store, branch, 6, 6, branch=1)
    with store.transaction():
        store.attach(LOG.log_id, 1, 0)
    (log,) = store.logs()
    assert [(b.number, b.parent, b.attached) for b in log.branches] == [(0, None, True), (1, 0, True)]


def test_signatures_that_were_checked_are_not_checked_again(store: RunStore) -> None:
    keep(store, LOG, 0, 19)
    assert store.unverified_entries() == 20
    first = store.unverified(0, 2)
    assert [entries for _, _, entries in first] == [LOG.entries[:5], LOG.entries[5:10]]
    with store.transaction():
        store.mark_verified([number for number, _, _ in first])
    assert store.unverified_entries() == 10
    assert [entries[0] for _, _, entries in store.unverified(0, 9)] == [LOG.entries[10], LOG.entries[15]]
    assert [entries[0] for _, _, entries in store.unverified(first[-1][0], 1)] == [LOG.entries[10]]


# -- Opening -------------------------------------------------------------------------------------------------------


class StoringMote(Mote):
    """A node in memory that carries its effects out on disk as well."""

    disk: RunStore

    def carry_out(self, effect: Effect) -> None:
        super().carry_out(effect)
        with self.disk.transaction():
            match effect:
                case Accepted(run, branch, genesis, parent=parent, attached=attached):
                    self.disk.add_log(run.log_id, genesis.entry)
                    self.disk.add_branch(run.log_id, branch, run.first_seq, run.prev, parent=parent, attached=attached)
                    self.disk.append_run(run, branch, verified=False)
                case Relabel(log_id, branch, into):
                    self.disk.relabel(log_id, branch, into)
                case Attached(log_id, branch, parent):
                    self.disk.attach(log_id, branch, parent)
                case _:
                    pass


def reopened(path: Path) -> Frontier:
    store = RunStore(path, Durability.PROCESS)
    frontier = Frontier()
    for stored in store.logs():
        frontier.open_log(stored.log_id, parse_genesis(stored.genesis, VENUE.root))
        for held in stored.branches:
            frontier.restore_branch(stored.log_id, held)
    store.close()
    return frontier


@given(order=st.permutations([(0, 0, 4), (0, 5, 9), (0, 10, 19), (1, 11, 14), (1, 15, 18), (0, 25, 29), (2, 0, 11)]))
@settings(max_examples=25)
def test_frontier_is_the_same_after_reopening_with_forks_and_islands(
    order: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log, other = written(30), written(12, number=1)
    branch = log.fork(11)
    for _ in range(8):
        branch.append(KIND, b"other")
    path = tmp_path_factory.mktemp("store") / "replica.db"
    mote = StoringMote(World(), VENUE.device("mote", Role.COURIER), "")
    mote.disk = RunStore(path, Durability.PROCESS)
    for number, first, last in [(0, 0, 0), *order]:
        Puppet(mote, BAR).send_run(runs_of((log, branch, other)[number], first, last)[0])
        while mote.questions:
            mote.answer()
    mote.disk.close()
    frontier = reopened(path)
    assert frontier.digest() == mote.node.frontier.digest()
    for log_id, state in mote.node.frontier.logs.items():
        again = frontier.logs[log_id]
        assert again.summary() == state.summary()
        for one, two in zip(again.branches.values(), state.branches.values(), strict=True):
            assert (one.number, one.from_seq, one.prev, one.parent) == (two.number, two.from_seq, two.prev, two.parent)
            assert one.tips[0] == two.tips[0]


def test_two_files_of_one_device_know_nothing_of_each_other(tmp_path: Path) -> None:
    own = RunStore(tmp_path / "own.db", Durability.POWER_CUT)
    replica = RunStore(tmp_path / "replica.db", Durability.PROCESS)
    other = written(3, number=1)
    keep(own, LOG, 0, 5)
    keep(replica, other, 0, 2)
    assert [stored.log_id for stored in own.logs()] == [LOG.log_id]
    assert [stored.log_id for stored in replica.logs()] == [other.log_id]
    own.close()
    replica.close()


def test_reader_beside_the_writer_sees_what_was_committed_and_cannot_write(tmp_path: Path) -> None:
    writer = RunStore(tmp_path / "own.db", Durability.POWER_CUT)
    reader = RunStore(tmp_path / "own.db", Durability.POWER_CUT, read_only=True)
    keep(writer, LOG, 0, 5)
    assert reader.read_entries(LOG.log_id, Segment(0, 0, 5)) == LOG.entries[:6]
    with pytest.raises(StorageError), reader.transaction():
        reader.put_intent(b"tap", b"body")
    reader.close()
    writer.close()


def foreign_file(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE photos (name TEXT)")
    database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    database.commit()
    database.close()


def newer_version(path: Path) -> None:
    RunStore(path, Durability.PROCESS).close()
    database = apsw.Connection(str(path))
    database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"These are holiday pictures, not money. " * 100)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("make", [foreign_file, newer_version, not_a_database], ids=lambda make: make.__name__)
def test_file_that_is_not_ours_is_refused_and_left_as_it_was(make: object, read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="left as it"):
        RunStore(path, Durability.POWER_CUT, read_only=read_only)
    assert path.read_bytes() == before


def test_damaged_file_is_named_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "replica.db"
    store = RunStore(path, Durability.PROCESS)
    keep(store, written(60, body=bytes(3000)), 0, 59)
    store.close()
    RunStore(path, Durability.PROCESS).close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 3] = bytes(4096 * 2)
    path.write_bytes(content)
    store = RunStore(path, Durability.PROCESS)
    with pytest.raises(StorageError):
        store.check()
    store.close()


def test_every_file_carries_our_name(tmp_path: Path) -> None:
    RunStore(tmp_path / "own.db", Durability.POWER_CUT).close()
    database = sqlite3.connect(tmp_path / "own.db")
    assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    database.close()


# -- Transactions --------------------------------------------------------------------------------------------------


def test_refused_request_leaves_nothing_of_its_transaction(store: RunStore) -> None:

    def ask() -> None:
        store.put_intent(b"tap", b"body")
        raise LocalError("the operator changed their mind")

    with pytest.raises(LocalError):
        store.in_transaction(ask)
    assert store.intents() == []
    with store.transaction():
        store.put_intent(b"tap", b"body")
    assert store.intents() == [(b"tap", b"body")]


def test_run_that_would_be_stored_twice_is_a_failure_of_storage(store: RunStore) -> None:
    keep(store, LOG, 0, 9)
    with pytest.raises(StorageError), store.transaction():
        store.append_run(check_run(LOG.log_id, LOG.entries[:5]), 0, verified=False)


def test_run_and_intent_become_durable_together_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    store = RunStore(path, Durability.POWER_CUT)
    keep(store, LOG, 0, 4)
    store.put_intent(b"tap", b"body")

    def commit() -> None:
        store.drop_intent(b"tap")
        for _ in range(2):
            store.append_run(runs_of(LOG, 5, 5)[0], 0, verified=True)

    with pytest.raises(StorageError):
        store.in_transaction(commit)
    store.close()
    again = RunStore(path, Durability.POWER_CUT)
    assert again.intents() == [(b"tap", b"body")]
    assert again.read_run(LOG.log_id, Segment(0, 5, 5)) is None
    again.close()


def test_intent_is_replaced_and_evidence_is_kept_once(store: RunStore) -> None:
    with store.transaction():
        store.put_intent(b"tap", b"written")
        store.put_intent(b"tap", b"committed")
        store.put_evidence(b"digest", b"case")
        store.put_evidence(b"digest", b"case")
    assert store.intents() == [(b"tap", b"committed")]
    assert store.evidence() == [(b"digest", b"case")]
    with store.transaction():
        store.drop_intent(b"tap")
    assert store.intents() == []


def test_write_that_fails_at_a_read_of_its_transaction_is_the_last_one(store: RunStore) -> None:
    keep(store, LOG, 0, 4)

    def held_already() -> None:
        store.append_run(runs_of(LOG, 0, 4)[0], 0, verified=False)
        store.size()

    with pytest.raises(StorageError, match="refused a write"):
        store.in_transaction(held_already)
    with pytest.raises(StorageError, match="an earlier write failed"):
        store.in_transaction(lambda: store.drop_intent(b""))
