"""What a node wants of what others say they hold, and how it serves what they want: every field of every answer."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.events import (
    LinkDown,
    Located,
    PeerPlan,
    Serve,
)
from mesh.core.frontier import Branch, Island, LogSummary, Position, Segment
from mesh.core.kinds import Lane, Role
from mesh.core.messages import (
    Announce,
    FrontierPart,
    Missing,
    Plan,
    Want,
)
from tests.factory import LogWriter, Venue
from tests.one_node import KIND, OneNode, Said, at, genesis_of, holding, hung_up, run_of, written

VENUE: Final = Venue("Exact")
SELF, AUTHOR, RELAY, OTHER = (VENUE.device(name, Role.READER) for name in ("this one", "author", "relay", "other"))
COURIER: Final = VENUE.device("courier", Role.COURIER)
LATER: Final = b"\x07" * 32
"""A digest of somebody who holds something else."""


def forked() -> tuple[OneNode, LogWriter, LogWriter]:
    """A node that holds two branches of one log: seqs 0 to 5, and another one from 3 to 4."""
    log = written(AUTHOR, 6)
    other = log.fork(3)
    other.append(KIND, b"other")
    other.append(KIND, b"branch")
    bar = holding(SELF, log)
    bar.node.frontier.add_branch(run_of(other, 3), bar.node.frontier.logs[log.log_id].branches[0], attached=True)
    return bar, log, other


def with_island(lane: Lane = Lane.MONEY) -> tuple[OneNode, LogWriter]:
    """A node that holds seqs 0 to 1 of a log, and 6 to 8 without what is between."""
    log = written(AUTHOR, 10, lane=lane)
    bar = OneNode(SELF)
    bar.node.restore(
        log.log_id,
        genesis_of(log),
        [
            Branch(0, 0, bytes(32), at(log, 1), None, attached=True, tips=[at(log, 0), at(log, 1)]),
            Branch(1, 6, log.ids[5], at(log, 8), None, attached=False, tips=[at(log, 6), at(log, 8)]),
        ],
        own=False,
    )
    return bar, log


# -- What a peer's frontier makes us want --------------------------------------------------------------------------


def summary(log: LogWriter, *heads: Position, islands: tuple[Island, ...] = ()) -> FrontierPart:
    return FrontierPart((LogSummary(log.log_id, heads, islands),))


def test_log_that_is_not_held_is_wanted() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 4)
    bar.meets(1, RELAY)
    assert bar.hears(1, summary(log, at(log))) == [Said(1, Want(log.log_id, at(log), ()))]
    assert bar.node.pending_logs == 1


def test_peer_that_is_merely_behind_is_asked_for_nothing() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    for seq in (0, 2, 4, 5):
        assert bar.hears(1, summary(log, at(log, seq))) == []


def test_head_of_equal_height_and_of_greater_height_is_wanted() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    locator = (at(log, 5), at(log, 0))
    for link, target in ((1, Position(5, bytes(32))), (2, Position(6, bytes(32)))):
        bar.meets(link, RELAY)
        assert bar.hears(link, summary(log, target)) == [Said(link, Want(log.log_id, target, locator))]
        bar.does(LinkDown(link))


def test_of_a_log_that_forked_there_every_unknown_head_is_wanted_in_turn() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    low, high = Position(2, bytes(32)), Position(9, bytes(32))
    locator = (at(log, 5), at(log, 0))
    assert bar.hears(1, summary(log, low, high)) == [Said(1, Want(log.log_id, low, locator))]
    assert bar.hears(1, Missing(log.log_id, low)) == [Said(1, Want(log.log_id, high, locator))]
    assert bar.hears(1, Missing(log.log_id, high)) == []
    assert bar.node.pending_logs == 0


def test_of_a_log_that_forked_here_a_shorter_unknown_head_is_wanted() -> None:
    bar, log, _ = forked()
    bar.meets(1, RELAY)
    target = Position(1, bytes(32))
    locator = tuple(bar.node.frontier.logs[log.log_id].locator())
    assert bar.hears(1, summary(log, target)) == [Said(1, Want(log.log_id, target, locator))]


def test_island_of_a_known_log_is_wanted_unless_it_is_held_as_a_piece() -> None:
    bar, log = with_island()
    bar.meets(1, RELAY)
    held, other = Island(6, at(log, 8)), Island(7, at(log, 9))
    locator = (at(log, 1), at(log, 0))
    assert bar.hears(1, summary(log, at(log, 1), islands=(held,))) == []
    assert bar.hears(1, summary(log, at(log, 1), islands=(held, other))) == [
        Said(1, Want(log.log_id, at(log, 9), locator))
    ]


def test_island_that_is_wanted_is_enough_without_what_is_before_it() -> None:
    bar, log = with_island()
    bar.meets(1, RELAY)
    bar.hears(1, summary(log, at(log, 1), islands=(Island(9, at(log, 9)),)))
    assert bar.node.pending_logs == 1
    bar.hears_run(1, run_of(log, 9))
    assert bar.node.pending_logs == 0


def test_island_of_a_log_whose_beginning_is_unknown_is_not_wanted() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 9)
    bar.meets(1, RELAY)
    assert bar.hears(1, summary(log, islands=(Island(6, at(log, 8)),))) == []
    assert bar.node.pending_logs == 0


def test_every_log_of_a_part_is_looked_at() -> None:
    bar = OneNode(SELF)
    logs = [written(AUTHOR, 3, number=number) for number in range(3)]
    bar.meets(1, RELAY)
    part = FrontierPart(tuple(LogSummary(log.log_id, (at(log),), ()) for log in logs))
    assert bar.hears(1, part) == [Said(1, Want(log.log_id, at(log), ())) for log in logs]
    assert bar.node.pending_logs == 3


def test_peer_may_speak_of_as_many_logs_as_a_venue_has_and_of_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.core.node.LOGS_MAX", 3)
    logs = [written(AUTHOR, 2, number=number) for number in range(4)]
    heads = tuple((log.log_id, at(log)) for log in logs)
    summaries = tuple(LogSummary(log.log_id, (at(log),), ()) for log in logs)
    for full, over in (
        (Announce(heads[:3]), Announce(heads[3:])),
        (FrontierPart(summaries[:3]), FrontierPart(summaries[3:])),
    ):
        bar = OneNode(SELF)
        bar.meets(1, RELAY)
        assert bar.hears(1, full) == [Said(1, Want(log.log_id, at(log), ())) for log in logs[:3]]
        assert bar.hears(1, full) == []
        assert bar.hears(1, over) == hung_up(1, "the peer speaks of more than 3 logs", blame_peer=True)
        assert bar.node.pending_logs == 0


# -- Wants ---------------------------------------------------------------------------------------------------------


def test_want_is_served_whole_with_its_locator_and_in_the_lane_of_its_log() -> None:
    for lane in Lane:
        log = written(AUTHOR, 6, lane=lane)
        bar = holding(SELF, log)
        bar.meets(1, RELAY)
        locator = (Position(4, bytes(32)), at(log, 2), at(log, 0))
        served = Serve(1, log.log_id, (Segment(0, 0, 5),), locator, int(lane), pushed=False)
        assert bar.hears(1, Want(log.log_id, at(log), locator)) == [served]


def test_island_is_served_from_its_own_beginning() -> None:
    bar, log = with_island(Lane.CONTROL)
    bar.meets(1, RELAY)
    assert bar.hears(1, Want(log.log_id, at(log, 8), ())) == [
        Serve(1, log.log_id, (Segment(1, 6, 8),), (), int(Lane.CONTROL), pushed=False)
    ]


def test_branch_is_served_with_what_it_hangs_from() -> None:
    bar, log, other = forked()
    bar.meets(1, RELAY)
    assert bar.hears(1, Want(log.log_id, at(other), ())) == [
        Serve(1, log.log_id, (Segment(0, 0, 2), Segment(1, 3, 4)), (), int(Lane.MONEY), pushed=False)
    ]
    assert bar.hears(1, Want(log.log_id, at(log), ())) == [
        Serve(1, log.log_id, (Segment(0, 0, 5),), (), int(Lane.MONEY), pushed=False)
    ]


def test_want_of_what_is_not_held_is_answered_as_missing() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    for log_id, target in ((log.log_id, Position(6, bytes(32))), (b"other" + bytes(11), Position(0, bytes(32)))):
        assert bar.hears(1, Want(log_id, target, ())) == [Said(1, Missing(log_id, target))]


def test_only_branch_answers_for_old_entries_whose_ids_are_not_in_memory() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    served = Serve(1, log.log_id, (Segment(0, 0, 5),), (), int(Lane.MONEY), pushed=False)
    for seq in (0, 3, 5):
        assert bar.hears(1, Want(log.log_id, Position(seq, b"?" * 32), ())) == [served]


def test_of_two_branches_none_answers_for_an_entry_that_neither_is_known_to_hold() -> None:
    bar, log, _ = forked()
    bar.meets(1, RELAY)
    target = Position(1, b"?" * 32)
    assert bar.hears(1, Want(log.log_id, target, ())) == [Said(1, Missing(log.log_id, target))]


def test_peer_keeps_open_as_many_wants_as_its_bound_and_each_answer_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh.core.node.WANTS_IN_FLIGHT_PER_LINK_MAX", 2)
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    want = Want(log.log_id, at(log), ())
    served = [Serve(1, log.log_id, (Segment(0, 0, 5),), (), int(Lane.MONEY), pushed=False)]
    assert bar.does(Located(1, log.log_id, (), None)) == []
    assert bar.hears(1, want) == served
    assert bar.hears(1, want) == served
    assert bar.does(Located(1, log.log_id, (), None)) == []
    assert bar.hears(1, want) == served
    assert bar.hears(1, want) == hung_up(1, "more than 2 wants open at once", blame_peer=True)


def test_entry_in_a_locator_that_our_chain_does_not_have_is_wanted_from_who_named_it() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    unknown, older = Position(4, b"4" * 32), Position(3, b"3" * 32)
    found = Located(1, log.log_id, (unknown, older, at(log, 0)), at(log, 0))
    assert bar.does(found) == [Said(1, Want(log.log_id, unknown, (at(log, 5), at(log, 0))))]
    assert bar.hears(1, Missing(log.log_id, unknown)) == []


def test_locator_whose_newest_entry_is_on_our_chain_asks_for_nothing() -> None:
    log = written(AUTHOR, 6)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    old = Position(2, b"2" * 32)
    assert bar.does(Located(1, log.log_id, (at(log, 3), old), at(log, 3))) == []
    assert bar.does(Located(1, log.log_id, (), None)) == []
    assert bar.does(Located(9, log.log_id, (old,), None)) == []
    assert bar.node.pending_logs == 0


def test_missing_moves_a_want_to_the_next_who_offered_it() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 4)
    bar.meets(1, RELAY)
    bar.meets(2, OTHER)
    offer, want = Announce(((log.log_id, at(log)),)), Want(log.log_id, at(log), ())
    assert bar.hears(1, offer) == [Said(1, want)]
    assert bar.hears(2, offer) == []
    assert bar.hears(1, Missing(log.log_id, at(log, 2))) == []
    assert bar.hears(1, Missing(log.log_id, at(log))) == [Said(2, want)]
    assert bar.hears(2, Missing(log.log_id, at(log))) == []
    assert bar.node.pending_logs == 0


def test_plan_is_told_to_people_once_a_want_and_never_unasked() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 4)
    bar.meets(1, RELAY)
    plan = Plan(log.log_id, 4, 1234)
    assert bar.hears(1, plan) == []
    bar.hears(1, Announce(((log.log_id, at(log)),)))
    assert bar.hears(1, plan) == [PeerPlan(1, log.log_id, 4, 1234)]
    assert bar.hears(1, plan) == []
