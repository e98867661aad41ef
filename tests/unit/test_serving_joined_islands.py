"""A want for an island may be answered after the island was joined: the answer is empty, and nothing is damaged."""

from __future__ import annotations

from pathlib import Path

from mesh.core.chain import check_run
from mesh.core.entry import NO_PREV
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Role
from mesh.shell.store import Durability, RunStore
from tests.factory import LogWriter, Venue

ISLAND = 1


def test_island_that_was_joined_meanwhile_is_simply_not_there(tmp_path: Path) -> None:
    log = LogWriter(Venue().device("bar", Role.READER))
    for index in range(5):
        log.append(Kind.ABORT, b"%d" % index)
    beginning, piece = check_run(log.log_id, log.entries[:3]), check_run(log.log_id, log.entries[3:])
    store = RunStore(tmp_path / "replica.db", Durability.PROCESS)
    with store.transaction():
        store.add_log(log.log_id, log.entries[0])
        store.add_branch(log.log_id, 0, 0, NO_PREV, parent=None, attached=True)
        store.add_branch(log.log_id, ISLAND, 3, log.ids[2], parent=None, attached=False)
        store.append_run(beginning, 0, verified=True)
        store.append_run(piece, ISLAND, verified=True)
    asked_for, locator = [Segment(ISLAND, 3, 5)], [Position(4, log.ids[4])]
    assert store.locate(log.log_id, asked_for, locator) == locator[0]
    with store.transaction():
        store.relabel(log.log_id, ISLAND, 0)
    assert store.locate(log.log_id, asked_for, locator) is None
    assert store.read_run(log.log_id, asked_for[0]) is None
    assert store.locate(log.log_id, [Segment(0, 0, 5)], locator) == locator[0]
    store.close()
