"""Where a run belongs: each branch, segment and cut of what the frontier answers; found missing by a mutation run."""

from __future__ import annotations

from typing import Final

from mesh.core.chain import Run, check_run, encode_run, split_run
from mesh.core.entry import sign_entry
from mesh.core.frontier import (
    Branch,
    Candidate,
    Compare,
    Duplicate,
    Extends,
    Forks,
    Frontier,
    Segment,
    Unconnected,
    place_compared,
)
from mesh.core.kinds import Role
from tests.factory import NOON_MS, Venue
from tests.pieces import FILLER, at, filled, forked, opened, part

VENUE: Final = Venue("Placing")
BAR: Final = VENUE.device("bar", Role.READER)
MAIN: Final = filled(BAR, 16)
FORK: Final = forked(MAIN, 5, 12)
"""Leaves `MAIN` at seq 5 and ends at seq 11."""
DEEP: Final = forked(MAIN, 3, 12, b"deep")
"""Leaves `MAIN` at seq 3, below `FORK`."""


def begun(last_seq: int) -> tuple[Frontier, Branch]:
    """A frontier that holds `MAIN` from its genesis to `last_seq`, as branch 0."""
    frontier = opened(MAIN)
    return frontier, frontier.add_branch(part(MAIN, 0, last_seq), None, attached=True)


def skipping(seq: int, after: int) -> Run:
    """One entry at `seq` that claims to follow the entry of `MAIN` at `after`: only its author can sign that."""
    signed = sign_entry(
        BAR.sign_anything,
        log_id=MAIN.log_id,
        seq=seq,
        prev=MAIN.ids[after],
        time_ms=NOON_MS,
        kind=FILLER,
        body=b"skipping",
    )
    return check_run(MAIN.log_id, [signed])


# -- Splitting -----------------------------------------------------------------------------------------------------


def test_run_of_a_log_without_islands_stays_whole_with_the_bytes_it_came_in() -> None:
    frontier, trunk = begun(3)
    blob = encode_run(MAIN.entries[4:8])
    run = check_run(MAIN.log_id, split_run(4, blob), blob)
    pieces = frontier.split(run)
    assert pieces == [run]
    assert pieces[0].received is blob
    frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    assert frontier.split(run) == [run]


def test_run_is_cut_before_each_island_that_begins_inside_it() -> None:
    frontier, _ = begun(2)
    frontier.add_branch(part(MAIN, 10, 11), None, attached=False)
    assert frontier.split(part(MAIN, 3, 12)) == [part(MAIN, 3, 9), part(MAIN, 10, 12)]
    frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    assert frontier.split(part(MAIN, 3, 12)) == [part(MAIN, 3, 5), part(MAIN, 6, 9), part(MAIN, 10, 12)]


def test_run_is_cut_after_its_first_entry_and_before_its_last_one() -> None:
    frontier, _ = begun(2)
    frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    assert frontier.split(part(MAIN, 5, 7)) == [part(MAIN, 5, 5), part(MAIN, 6, 7)]
    assert frontier.split(part(MAIN, 4, 6)) == [part(MAIN, 4, 5), part(MAIN, 6, 6)]


def test_run_that_begins_or_ends_where_an_island_begins_is_not_cut() -> None:
    frontier, _ = begun(2)
    frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    for first, last in ((6, 9), (3, 5), (7, 9), (9, 12)):
        assert frontier.split(part(MAIN, first, last)) == [part(MAIN, first, last)]


def test_run_of_another_fork_is_not_cut_where_an_island_begins() -> None:
    frontier, _ = begun(2)
    frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    assert frontier.split(part(FORK, 4, 9)) == [part(FORK, 4, 9)]


# -- Placing by what is in memory ----------------------------------------------------------------------------------


def test_run_that_follows_the_head_extends_its_branch_whole() -> None:
    frontier, trunk = begun(4)
    assert frontier.place(part(MAIN, 5, 8)) == Extends(trunk, part(MAIN, 5, 8))


def test_run_that_overlaps_the_head_is_cut_to_what_is_new() -> None:
    frontier, trunk = begun(6)
    for first in (0, 4, 6):
        assert frontier.place(part(MAIN, first, 8)) == Extends(trunk, part(MAIN, 7, 8))


def test_run_extends_the_branch_that_it_goes_on_and_no_other() -> None:
    frontier, trunk = begun(6)
    fork = frontier.add_branch(part(FORK, 5, 7), trunk, attached=True)
    assert frontier.place(part(FORK, 8, 9)) == Extends(fork, part(FORK, 8, 9))
    assert frontier.place(part(FORK, 6, 9)) == Extends(fork, part(FORK, 8, 9))
    assert frontier.place(part(MAIN, 7, 9)) == Extends(trunk, part(MAIN, 7, 9))


def test_placing_changes_nothing() -> None:
    frontier, trunk = begun(4)
    digest = frontier.digest()
    frontier.place(part(MAIN, 5, 8))
    frontier.place(part(FORK, 5, 8))
    assert (trunk.head, frontier.digest()) == (at(MAIN, 4), digest)


def test_run_whose_end_is_known_is_a_duplicate() -> None:
    frontier, trunk = begun(4)
    frontier.extend(trunk, part(MAIN, 5, 9))
    assert frontier.place(part(MAIN, 0, 9)) == Duplicate()
    assert frontier.place(part(MAIN, 2, 4)) == Duplicate()
    assert frontier.place(part(MAIN, 9, 9)) == Duplicate()
    assert frontier.place(part(MAIN, 0, 0)) == Duplicate()


def test_run_below_the_head_has_to_be_compared_from_the_entry_before_it() -> None:
    frontier, trunk = begun(9)
    assert frontier.place(part(MAIN, 3, 7)) == Compare([Candidate(trunk, [Segment(0, 2, 7)])])
    assert frontier.place(part(MAIN, 0, 7)) == Compare([Candidate(trunk, [Segment(0, 0, 7)])])
    assert frontier.place(part(MAIN, 1, 7)) == Compare([Candidate(trunk, [Segment(0, 0, 7)])])
    assert frontier.place(part(FORK, 5, 11)) == Compare([Candidate(trunk, [Segment(0, 4, 9)])])


def test_run_at_the_next_seq_that_follows_another_entry_is_no_extension() -> None:
    frontier, trunk = begun(5)
    assert frontier.place(part(FORK, 6, 8)) == Compare([Candidate(trunk, [Segment(0, 5, 5)])])


def test_run_has_to_be_compared_with_every_branch_that_reaches_it() -> None:
    frontier, trunk = begun(9)
    fork = frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    both = [Candidate(trunk, [Segment(0, 5, 7)]), Candidate(fork, [Segment(1, 5, 7)])]
    assert frontier.place(part(DEEP, 6, 7)) == Compare(both)
    through = [Candidate(trunk, [Segment(0, 3, 9)]), Candidate(fork, [Segment(0, 3, 4), Segment(1, 5, 8)])]
    assert frontier.place(part(DEEP, 4, 9)) == Compare(through)
    only_trunk = [Candidate(trunk, [Segment(0, 9, 9)])]
    assert frontier.place(part(DEEP, 10, 11)) == Compare(only_trunk)


def test_run_that_nothing_reaches_is_unconnected() -> None:
    frontier, _ = begun(4)
    assert frontier.place(part(MAIN, 6, 8)) == Unconnected()
    assert opened(MAIN).place(part(MAIN, 0, 3)) == Unconnected()


def test_entry_that_skips_seqs_extends_nothing_though_it_names_the_head() -> None:
    frontier, _ = begun(4)
    assert frontier.place(skipping(9, after=4)) == Unconnected()


# -- Islands -------------------------------------------------------------------------------------------------------


def test_run_that_begins_like_an_island_is_placed_on_that_island_alone() -> None:
    frontier, _ = begun(8)
    island = frontier.add_branch(part(FORK, 6, 7), None, attached=False)
    assert frontier.place(part(FORK, 6, 9)) == Extends(island, part(FORK, 8, 9))
    longer = forked(FORK, 7, 10, b"third")
    assert frontier.place(part(longer, 6, 9)) == Compare([Candidate(island, [Segment(1, 6, 7)])])


def test_run_at_the_seq_of_an_island_that_begins_otherwise_may_belong_to_any_branch() -> None:
    frontier, trunk = begun(8)
    frontier.add_branch(part(FORK, 6, 7), None, attached=False)
    assert frontier.place(part(DEEP, 6, 7)) == Compare([Candidate(trunk, [Segment(0, 5, 7)])])


def test_run_that_begins_inside_an_island_is_compared_from_the_entry_before_it() -> None:
    frontier, _ = begun(1)
    island = frontier.add_branch(part(MAIN, 5, 9), None, attached=False)
    sibling = forked(MAIN, 8, 13, b"sibling")
    assert frontier.place(part(sibling, 8, 12)) == Compare([Candidate(island, [Segment(1, 7, 9)])])
    assert frontier.place(part(sibling, 6, 8)) == Compare([Candidate(island, [Segment(1, 5, 8)])])


def test_run_that_begins_at_the_last_seq_of_an_island_is_compared_and_one_after_it_is_not() -> None:
    frontier, _ = begun(1)
    island = frontier.add_branch(part(MAIN, 5, 9), None, attached=False)
    sibling = forked(MAIN, 9, 13, b"sibling")
    assert frontier.place(part(sibling, 9, 12)) == Compare([Candidate(island, [Segment(1, 8, 9)])])
    assert frontier.place(part(sibling, 10, 12)) == Unconnected()


def test_sibling_of_an_islands_first_entry_is_compared_with_the_island() -> None:
    frontier, _ = begun(1)
    island = frontier.add_branch(part(MAIN, 5, 9), None, attached=False)
    assert frontier.place(part(FORK, 5, 7)) == Compare([Candidate(island, [Segment(1, 5, 7)])])


def test_run_at_the_first_seq_of_an_island_that_follows_something_else_is_unconnected() -> None:
    frontier, _ = begun(1)
    frontier.add_branch(part(MAIN, 5, 9), None, attached=False)
    assert frontier.place(part(DEEP, 5, 7)) == Unconnected()
    assert frontier.place(skipping(4, after=4)) == Unconnected()


def test_islands_are_joined_one_after_the_other_until_no_head_is_followed() -> None:
    frontier, trunk = begun(2)
    third = frontier.add_branch(part(MAIN, 9, 11), None, attached=False)
    second = frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    far = frontier.add_branch(part(MAIN, 14, 15), None, attached=False)
    log = frontier.logs[MAIN.log_id]
    assert frontier.join_islands(MAIN.log_id) == [(third, second)]
    assert (second.head, log.branches) == (at(MAIN, 11), {0: trunk, 2: second, 3: far})
    frontier.extend(trunk, part(MAIN, 3, 5))
    assert frontier.join_islands(MAIN.log_id) == [(second, trunk)]
    assert (trunk.head, log.branches) == (at(MAIN, 11), {0: trunk, 3: far})
    assert log.islands() != []
    assert frontier.join_islands(MAIN.log_id) == []


def test_island_is_joined_to_the_trunk_before_islands_are_joined_to_each_other() -> None:
    frontier, trunk = begun(2)
    later = frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    sooner = frontier.add_branch(part(MAIN, 3, 5), None, attached=False)
    assert frontier.join_islands(MAIN.log_id) == [(sooner, trunk), (later, trunk)]
    assert (trunk.head, list(frontier.logs[MAIN.log_id].branches)) == (at(MAIN, 8), [0])


def test_island_whose_first_entry_skips_seqs_is_never_joined() -> None:
    frontier, _ = begun(4)
    frontier.add_branch(skipping(9, after=4), None, attached=False)
    assert frontier.join_islands(MAIN.log_id) == []
    assert frontier.may_hang(MAIN.log_id) == []


def test_island_that_is_at_the_next_seq_but_follows_another_entry_is_not_joined() -> None:
    frontier, _ = begun(5)
    frontier.add_branch(part(FORK, 6, 8), None, attached=False)
    assert frontier.join_islands(MAIN.log_id) == []


def test_what_is_known_of_a_joined_island_is_forgotten_and_of_others_kept() -> None:
    frontier, trunk = begun(8)
    log = frontier.logs[MAIN.log_id]
    frontier.add_branch(part(DEEP, 7, 8), None, attached=False)
    frontier.add_branch(part(MAIN, 9, 10), None, attached=False)
    log.strangers |= {(1, 0), (2, 0)}
    frontier.join_islands(MAIN.log_id)
    assert log.strangers == {(1, 0)}
    assert trunk.head == at(MAIN, 10)


def test_island_may_hang_from_branches_that_pass_its_first_seq_and_were_not_compared() -> None:
    frontier, trunk = begun(9)
    fork = frontier.add_branch(part(FORK, 5, 7), trunk, attached=True)
    islands = {first: frontier.add_branch(part(DEEP, first, first), None, attached=False) for first in (5, 7, 8, 9, 10)}
    log = frontier.logs[MAIN.log_id]
    pairs = [(islands[5], trunk), (islands[7], trunk), (islands[7], fork), (islands[8], trunk), (islands[9], trunk)]
    assert frontier.may_hang(MAIN.log_id) == pairs
    log.strangers.add((islands[7].number, trunk.number))
    assert frontier.may_hang(MAIN.log_id) == [pair for pair in pairs if pair != (islands[7], trunk)]


def test_attached_island_is_a_fork_of_its_parent() -> None:
    frontier, _ = begun(9)
    fork = frontier.add_branch(part(FORK, 5, 7), None, attached=False)
    twig = frontier.add_branch(part(forked(FORK, 7, 9, b"twig"), 7, 8), None, attached=False)
    trunk = frontier.logs[MAIN.log_id].branches[0]
    frontier.attach(MAIN.log_id, fork, trunk)
    frontier.attach(MAIN.log_id, twig, fork)
    assert [(branch.attached, branch.parent) for branch in (trunk, fork, twig)] == [(True, None), (True, 0), (True, 1)]
    assert frontier.logs[MAIN.log_id].path(twig, 4, 8) == [Segment(0, 4, 4), Segment(1, 5, 6), Segment(2, 7, 8)]
    assert frontier.may_hang(MAIN.log_id) == []


# -- Placing by what the store holds -------------------------------------------------------------------------------


def test_run_that_the_store_holds_is_a_duplicate() -> None:
    _, trunk = begun(9)
    assert place_compared(part(MAIN, 3, 7), [(trunk, MAIN.ids[2:8])]) == Duplicate()
    assert place_compared(part(MAIN, 0, 7), [(trunk, MAIN.ids[:8])]) == Duplicate()


def test_run_that_leaves_a_branch_is_cut_where_it_does() -> None:
    _, trunk = begun(9)
    assert place_compared(part(FORK, 3, 11), [(trunk, MAIN.ids[2:10])]) == Forks(trunk, part(FORK, 5, 11), 5)
    assert place_compared(part(FORK, 5, 7), [(trunk, MAIN.ids[4:8])]) == Forks(trunk, part(FORK, 5, 7), 5)
    assert place_compared(part(FORK, 0, 7), [(trunk, MAIN.ids[:8])]) == Forks(trunk, part(FORK, 5, 7), 5)


def test_run_that_goes_on_after_all_that_is_held_extends_the_branch() -> None:
    _, trunk = begun(9)
    assert place_compared(part(MAIN, 7, 12), [(trunk, MAIN.ids[6:10])]) == Extends(trunk, part(MAIN, 10, 12))
    assert place_compared(part(MAIN, 10, 12), [(trunk, MAIN.ids[9:10])]) == Extends(trunk, part(MAIN, 10, 12))


def test_run_that_follows_another_entry_than_the_held_one_is_unconnected() -> None:
    _, trunk = begun(9)
    assert place_compared(part(FORK, 6, 8), [(trunk, MAIN.ids[5:9])]) == Unconnected()
    assert place_compared(part(FORK, 6, 8), []) == Unconnected()


def test_run_that_begins_with_a_fork_is_compared_from_the_trunk_below() -> None:
    frontier, trunk = begun(9)
    fork = frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    assert place_compared(part(FORK, 5, 7), [(fork, [MAIN.ids[4], *FORK.ids[5:8]])]) == Duplicate()


def test_run_leaves_the_branch_that_it_shares_most_with() -> None:
    frontier, trunk = begun(9)
    fork = frontier.add_branch(part(FORK, 5, 9), trunk, attached=True)
    run = part(forked(FORK, 7, 11, b"twig"), 4, 10)
    compared = [(trunk, MAIN.ids[3:10]), (fork, [*MAIN.ids[3:5], *FORK.ids[5:10]])]
    expected = Forks(fork, run.tail(3), 7)
    assert place_compared(run, compared) == expected
    assert place_compared(run, compared[::-1]) == expected


def test_branch_that_holds_the_run_counts_more_than_one_that_it_leaves() -> None:
    frontier, trunk = begun(9)
    fork = frontier.add_branch(part(FORK, 5, 9), trunk, attached=True)
    compared = [(trunk, MAIN.ids[3:10]), (fork, [*MAIN.ids[3:5], *FORK.ids[5:10]])]
    assert place_compared(part(FORK, 4, 9), compared) == Duplicate()
    assert place_compared(part(FORK, 4, 11), compared) == Extends(fork, part(FORK, 10, 11))


def test_run_may_hold_an_island_leave_it_or_have_nothing_to_do_with_it() -> None:
    frontier, _ = begun(1)
    island = frontier.add_branch(part(MAIN, 5, 9), None, attached=False)
    sibling = forked(MAIN, 8, 13, b"sibling")
    assert place_compared(part(MAIN, 5, 8), [(island, MAIN.ids[5:9])]) == Duplicate()
    assert place_compared(part(MAIN, 6, 8), [(island, MAIN.ids[5:9])]) == Duplicate()
    assert place_compared(part(sibling, 5, 9), [(island, MAIN.ids[5:10])]) == Forks(island, part(sibling, 8, 9), 8)
    assert place_compared(part(sibling, 6, 9), [(island, MAIN.ids[5:10])]) == Forks(island, part(sibling, 8, 9), 8)
    assert place_compared(part(FORK, 5, 7), [(island, MAIN.ids[5:8])]) == Unconnected()
    assert place_compared(part(DEEP, 6, 7), [(island, MAIN.ids[5:8])]) == Unconnected()


def test_single_shared_entry_is_enough_to_leave_an_island() -> None:
    frontier, _ = begun(1)
    island = frontier.add_branch(part(MAIN, 7, 9), None, attached=False)
    sibling = forked(MAIN, 8, 13, b"sibling")
    assert place_compared(part(sibling, 7, 9), [(island, MAIN.ids[7:10])]) == Forks(island, part(sibling, 8, 9), 8)
