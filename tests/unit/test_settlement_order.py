"""The ledger is a function of the set of entries: order, partition and repetition of batches change nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.report import ledger_report
from gateway.settlement.service import bad_signatures
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement_api import OfferedRun
from mesh.core.chain import encode_run
from mesh.core.kinds import Kind, Operation, Role
from tests.factory import LogWriter, Venue, Wristband


@cache
def night() -> tuple[Venue, tuple[LogWriter, ...]]:
    """A small bad night: a clone, a fork, a forged entry, a restored intent, an abort, poison, a rogue top-up."""
    venue = Venue()
    till = LogWriter(venue.device("till", Role.TILL))
    bar_a, bar_b = LogWriter(venue.device("bar A", Role.READER)), LogWriter(venue.device("bar B", Role.READER))
    bands = [Wristband(venue, number) for number in range(4)]
    for band in bands:
        band.issue(till, 1000)
    clone = bands[0].clone()
    bands[0].sell(bar_a, 700)
    clone.sell(bar_b, 800)
    taken_back = bands[1].sell(bar_a, 100)
    bands[1].top_up(bar_b, 5000)
    bar_a.append(Kind.TAP, b"poison")
    fork = bar_a.fork()
    bands[2].sell(bar_a, 50)
    bands[3].sell(fork, 60)
    restarted = LogWriter(bar_a.device, number=1, known=[bar_a])
    restarted.abort(taken_back.tap_id, taken_back.written)
    forked_restart = restarted.fork(2)
    kept = bands[2].sell(bar_b, 5)
    undo = LogWriter(bar_b.device, number=1, known=[bar_b])
    undo_fork = undo.fork()
    undo.abort(kept.tap_id, kept.written)
    undo_fork.append(999, b"")
    forked_restart.append(999, b"")
    again = bands[2].propose(bar_b.device, Operation.SALE, 70)
    bar_b.append(Kind.TAP, again.encode())
    bar_b.append(Kind.TAP, again.encode())
    bar_c = LogWriter(venue.device("bar C", Role.READER))
    bands[3].sell(bar_c, 10)
    bar_c.append_forged(Kind.TAP, bands[3].propose(bar_c.device, Operation.SALE, 20).encode())
    bands[3].sell(bar_c, 30)
    return venue, (till, bar_a, fork, bar_b, restarted, forked_restart, undo, undo_fork, bar_c)


def pieces() -> list[OfferedRun]:
    """Every log cut before each entry whose predecessor's signature is good, so that each piece may be sent alone."""
    _, logs = night()
    found = []
    for log in logs:
        start = 0
        for end in range(1, len(log.entries) + 1):
            if not bad_signatures(0, log.entries[end - 1 : end], log.device.public_key):
                run = log.entries[start:end]
                found.append(OfferedRun(log.log_id, len(run), encode_run(run)))
                start = end
    return found


def books_after(batches: Sequence[Sequence[OfferedRun]], verify_after: frozenset[int]) -> dict[str, object]:
    """The ledger after these batches, what was missing sent again until nothing is; signatures checked now and then."""
    venue, _ = night()
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteLedger(Path(directory) / "settlement.db", venue.root)
        try:
            for number, batch in enumerate(batches):
                store.accept(list(batch))
                if number in verify_after:
                    verify(store)
            for run in pieces():
                store.accept([run])
            verify(store)
            report = ledger_report(store)
            del report["epoch"]
            report["receipts"] = sorted(
                (s.log_id, s.head, s.count, s.sum_minor, s.verified_up_to, s.set_aside)
                for s in store.changes(0, 1000).heads
            )
            return report
        finally:
            store.close()


def verify(store: SqliteLedger) -> None:
    while work := store.next_unverified(3):
        store.mark_verified(work, bad_signatures(work.first_seq, work.entries, work.log_key))


@cache
def expected() -> dict[str, object]:
    return books_after([], frozenset())


def test_the_night_has_in_it_what_makes_order_matter() -> None:
    books = expected()
    assert books["balanced"]
    assert [books[name] != [] for name in ("conflicts", "contested", "set_aside")] == [True] * 3
    accounts = books["accounts"]
    assert isinstance(accounts, dict)
    assert all(accounts.values()), "every account is used"


@pytest.mark.proves("S1.12")
@settings(max_examples=40)
@given(st.data())
def test_any_order_partition_and_repetition_of_batches_gives_the_same_books(data: st.DataObject) -> None:
    runs = pieces()
    order = data.draw(st.lists(st.sampled_from(range(len(runs))), max_size=2 * len(runs)))
    order = [*order, *data.draw(st.permutations(range(len(runs))))]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1), max_size=8)))
    bounds = [0, *cuts, len(order)]
    batches = [[runs[n] for n in order[a:b]] for a, b in pairwise(bounds)]
    verify_after = data.draw(st.frozensets(st.integers(0, len(batches) - 1), max_size=3))
    assert books_after(batches, verify_after) == expected()
