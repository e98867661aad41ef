"""What is held of a log, value by value: heads, islands, paths, locators, digests; found missing by a mutation run."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest

from mesh.core.entry import NO_PREV
from mesh.core.frontier import (
    Branch,
    Frontier,
    Island,
    LogState,
    LogSummary,
    Position,
    Segment,
    TooManyBranches,
    entry_count,
)
from mesh.core.kinds import Role
from mesh.limits import BRANCHES_PER_LOG_MAX, BUCKETS_COUNT, LOCATOR_IDS_MAX
from tests.factory import LogWriter, Venue
from tests.pieces import at, filled, forked, genesis_of, opened, part

VENUE: Final = Venue("Frontier")
BAR: Final = VENUE.device("bar", Role.READER)
MAIN: Final = filled(BAR, 12)
FORK: Final = forked(MAIN, 5, 9)
"""Leaves `MAIN` at seq 5 and ends at seq 8."""


def begun(last_seq: int) -> tuple[Frontier, LogState, Branch]:
    """A frontier that holds `MAIN` from its genesis to `last_seq`."""
    frontier = opened(MAIN)
    branch = frontier.add_branch(part(MAIN, 0, last_seq), None, attached=True)
    return frontier, frontier.logs[MAIN.log_id], branch


def in_memory(number: int, tips: list[Position], *, attached: bool = True) -> Branch:
    """A branch with these tips, the last of which is its head."""
    return Branch(number, tips[0].seq, NO_PREV, tips[-1], None, attached, tips)


def numbered(seq: int) -> Position:
    return Position(seq, seq.to_bytes(32, "big"))


# -- Heads and islands ---------------------------------------------------------------------------------------------


def test_heads_of_a_forked_log_are_ordered_by_seq_whichever_branch_came_first() -> None:
    frontier, log, trunk = begun(11)
    frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    assert log.heads() == [at(FORK, 8), at(MAIN, 11)]


def test_head_that_a_fork_goes_on_from_is_no_head() -> None:
    frontier, log, trunk = begun(4)
    frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    assert log.heads() == [at(FORK, 8)]


def test_only_piece_of_a_log_is_its_head_unless_its_beginning_is_missing() -> None:
    frontier, log, _ = begun(3)
    assert (log.heads(), log.islands()) == ([at(MAIN, 3)], [])
    alone = opened(MAIN)
    alone.add_branch(part(MAIN, 4, 6), None, attached=False)
    assert alone.logs[MAIN.log_id].heads() == []
    assert frontier.holds(MAIN.log_id, at(MAIN, 3), piece=False)


def test_islands_are_summed_up_with_their_beginnings_in_order_of_their_tips() -> None:
    frontier, log, _ = begun(1)
    frontier.add_branch(part(MAIN, 9, 11), None, attached=False)
    frontier.add_branch(part(MAIN, 4, 6), None, attached=False)
    islands = (Island(4, at(MAIN, 6)), Island(9, at(MAIN, 11)))
    assert log.summary() == LogSummary(MAIN.log_id, (at(MAIN, 1),), islands)


def test_branch_of_an_entry_is_found_by_any_id_in_memory_and_by_no_other() -> None:
    first, second = in_memory(0, [numbered(0), numbered(3), numbered(7)]), in_memory(1, [numbered(8), numbered(9)])
    log = LogState(MAIN.log_id, genesis_of(MAIN), {0: first, 1: second})
    assert [log.branch_of(numbered(seq)) for seq in (0, 3, 7)] == [first] * 3
    assert log.branch_of(numbered(8)) is second
    assert log.branch_of(numbered(5)) is None
    assert log.branch_of(Position(3, numbered(7).id)) is None


def test_head_counts_as_held_even_where_the_tips_do_not_name_it() -> None:
    branch = Branch(0, 0, NO_PREV, numbered(4), None, True, [numbered(0)])
    assert LogState(MAIN.log_id, genesis_of(MAIN), {0: branch}).branch_of(numbered(4)) is branch


def test_entry_of_an_island_is_held_as_a_piece_only() -> None:
    frontier, _, _ = begun(2)
    frontier.add_branch(part(MAIN, 6, 8), None, attached=False)
    held = {
        (seq, piece)
        for seq in (2, 4, 8)
        for piece in (False, True)
        if frontier.holds(MAIN.log_id, at(MAIN, seq), piece)
    }
    assert held == {(2, False), (2, True), (8, True)}
    assert not frontier.holds(bytes(16), at(MAIN, 2), piece=True)


def test_entries_of_forks_and_islands_are_counted_too() -> None:
    frontier, log, trunk = begun(5)
    frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    frontier.add_branch(part(MAIN, 9, 9), None, attached=False)
    assert entry_count([log]) == 6 + 4 + 1
    assert entry_count([log, log]) == 22
    assert entry_count([]) == 0


# -- Branches ------------------------------------------------------------------------------------------------------


def test_branch_knows_its_first_and_last_entry_what_it_follows_and_where_it_hangs() -> None:
    frontier, log, trunk = begun(6)
    fork = frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    island = frontier.add_branch(part(MAIN, 9, 9), None, attached=False)
    assert trunk == Branch(0, 0, NO_PREV, at(MAIN, 6), None, True, [at(MAIN, 0), at(MAIN, 6)])
    assert fork == Branch(1, 5, MAIN.ids[4], at(FORK, 8), 0, True, [at(FORK, 5), at(FORK, 8)])
    assert island == Branch(2, 9, MAIN.ids[8], at(MAIN, 9), None, False, [at(MAIN, 9)])
    assert log.branches == {0: trunk, 1: fork, 2: island}


def test_new_branch_never_takes_the_number_of_one_that_is_held() -> None:
    frontier, _, _ = begun(1)
    frontier.add_branch(part(MAIN, 3, 3), None, attached=False)
    frontier.add_branch(part(MAIN, 6, 6), None, attached=False)
    del frontier.logs[MAIN.log_id].branches[1]
    assert frontier.add_branch(part(MAIN, 9, 9), None, attached=False).number == 3


def test_log_holds_as_many_branches_as_are_allowed_and_not_one_more() -> None:
    frontier, log, trunk = begun(5)
    for count in range(1, BRANCHES_PER_LOG_MAX):
        frontier.add_branch(part(forked(MAIN, 5, 6, b"fork %d " % count), 5, 5), trunk, attached=True)
    assert len(log.branches) == BRANCHES_PER_LOG_MAX
    with pytest.raises(TooManyBranches):
        frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    assert len(log.branches) == BRANCHES_PER_LOG_MAX


def test_four_newest_ends_are_all_known_and_the_fifth_thins_them_out() -> None:
    frontier, _, branch = begun(1)
    for seq in (2, 3):
        frontier.extend(branch, part(MAIN, seq, seq))
    assert branch.tips == [at(MAIN, 0), at(MAIN, 1), at(MAIN, 2), at(MAIN, 3)]
    frontier.extend(branch, part(MAIN, 4, 4))
    assert branch.tips == [at(MAIN, 0), at(MAIN, 1), at(MAIN, 3), at(MAIN, 4)]
    assert branch.head == at(MAIN, 4)


def test_restored_branch_keeps_ids_at_exponentially_growing_distances() -> None:
    frontier = opened(MAIN)
    branch = in_memory(3, [numbered(seq) for seq in range(41)])
    frontier.restore_branch(MAIN.log_id, branch)
    assert frontier.logs[MAIN.log_id].branches == {3: branch}
    assert branch.tips == [numbered(seq) for seq in (0, 9, 25, 33, 37, 39, 40)]


# -- Paths and locators --------------------------------------------------------------------------------------------


def thrice() -> tuple[LogState, tuple[Branch, Branch, Branch]]:
    """A trunk to seq 11; a fork from 5 to 8; and a fork of the fork from 7 to 9."""
    frontier, log, trunk = begun(11)
    fork = frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    twig = frontier.add_branch(part(forked(FORK, 7, 10, b"twig"), 7, 9), fork, attached=True)
    return log, (trunk, fork, twig)


def test_path_to_the_end_of_a_fork_leads_over_the_branches_it_hangs_from() -> None:
    log, (trunk, fork, twig) = thrice()
    assert log.path(twig, 0, 9) == [Segment(0, 0, 4), Segment(1, 5, 6), Segment(2, 7, 9)]
    assert log.path(fork, 2, 100) == [Segment(0, 2, 4), Segment(1, 5, 8)]
    assert log.path(trunk, 2, 7) == [Segment(0, 2, 7)]


def test_path_that_ends_below_a_fork_names_only_what_is_below() -> None:
    log, (_, _, twig) = thrice()
    assert log.path(twig, 1, 3) == [Segment(0, 1, 3)]
    assert log.path(twig, 6, 6) == [Segment(1, 6, 6)]
    assert log.path(twig, 4, 5) == [Segment(0, 4, 4), Segment(1, 5, 5)]
    assert log.path(twig, 7, 9) == [Segment(2, 7, 9)]


def test_path_to_entries_above_the_head_is_empty() -> None:
    log, (_, fork, _) = thrice()
    assert log.path(fork, 9, 20) == []
    assert log.path(fork, 6, 5) == []


def test_path_on_an_island_begins_where_the_island_does() -> None:
    frontier, log, _ = begun(2)
    island = frontier.add_branch(part(MAIN, 6, 9), None, attached=False)
    assert log.path(island, 0, 8) == [Segment(1, 6, 8)]


def test_locator_names_what_is_held_newest_first_and_islands_only_when_asked() -> None:
    frontier, log, trunk = begun(6)
    fork = frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    island = frontier.add_branch(part(MAIN, 10, 11), None, attached=False)
    assert log.locator() == [at(FORK, 8), at(MAIN, 6), at(FORK, 5), at(MAIN, 0)]
    assert log.locator(fork) == [at(FORK, 8), at(FORK, 5)]
    assert log.locator(island) == [at(MAIN, 11), at(MAIN, 10)]


def test_locator_that_is_too_long_keeps_the_newest_ids_and_the_genesis() -> None:
    positions = [numbered(seq) for seq in range(LOCATOR_IDS_MAX + 3)]
    log = LogState(MAIN.log_id, genesis_of(MAIN), {0: in_memory(0, positions)})
    assert log.locator() == [*positions[:3:-1], positions[0]]
    assert len(log.locator()) == LOCATOR_IDS_MAX
    log.branches[0].tips = positions[:LOCATOR_IDS_MAX]
    log.branches[0].head = positions[LOCATOR_IDS_MAX - 1]
    assert log.locator() == positions[LOCATOR_IDS_MAX - 1 :: -1]


# -- Digests, as docs/spec/wire.md has them ------------------------------------------------------------------------


def specified(frontier: Frontier) -> bytes:
    """The digest of the specification, from the summaries alone."""
    buckets: list[bytes] = [b""] * BUCKETS_COUNT
    for log_id in sorted(frontier.logs):
        summary = frontier.logs[log_id].summary()
        content = log_id
        for head in summary.heads:
            content += b"H" + head.id
        for island in summary.islands:
            content += b"I" + island.from_seq.to_bytes(4, "big") + island.tip.id
        buckets[log_id[0] % 64] += hashlib.sha256(content).digest()
    return hashlib.sha256(b"".join(hashlib.sha256(bucket).digest()[:16] for bucket in buckets)).digest()


def test_digest_of_a_log_with_forks_and_islands_is_the_specified_one() -> None:
    frontier, _, trunk = begun(6)
    frontier.add_branch(part(FORK, 5, 8), trunk, attached=True)
    frontier.add_branch(part(MAIN, 10, 11), None, attached=False)
    frontier.add_branch(part(MAIN, 8, 8), None, attached=False)
    content = MAIN.log_id + b"H" + MAIN.ids[6] + b"H" + FORK.ids[8]
    content += b"I" + bytes([0, 0, 0, 8]) + MAIN.ids[8] + b"I" + bytes([0, 0, 0, 10]) + MAIN.ids[11]
    buckets = [hashlib.sha256().digest()[:16]] * 64
    buckets[MAIN.log_id[0] & 63] = hashlib.sha256(hashlib.sha256(content).digest()).digest()[:16]
    assert frontier.bucket_digests() == buckets
    assert frontier.digest() == hashlib.sha256(b"".join(buckets)).digest() == specified(frontier)


def test_digest_of_nothing_is_the_same_everywhere() -> None:
    empty = [hashlib.sha256().digest()[:16]] * 64
    assert Frontier().bucket_digests() == empty
    assert Frontier().digest() == hashlib.sha256(b"".join(empty)).digest()


def test_logs_of_one_bucket_are_ordered_by_id_however_they_came() -> None:
    names = [bytes([first]) + bytes(15) for first in (0x85, 0x05, 0xC5, 0x45)]
    frontier = Frontier()
    for name in names:
        frontier.open_log(name, genesis_of(MAIN))
    frontier.open_log(bytes([0x06]) + bytes(15), genesis_of(MAIN))
    assert list(frontier.bucket_logs(5).values()) == sorted(names)
    assert [log_id[0] for log_id in frontier.bucket_logs(6).values()] == [6]
    assert frontier.bucket_logs(4) == {}
    assert frontier.digest() == specified(frontier)


def test_digest_follows_every_change() -> None:
    frontier = Frontier()
    seen = [frontier.digest()]

    def changed() -> None:
        assert frontier.digest() == specified(frontier) not in seen
        seen.append(frontier.digest())

    frontier.open_log(MAIN.log_id, genesis_of(MAIN))
    changed()
    trunk = frontier.add_branch(part(MAIN, 0, 6), None, attached=True)
    changed()
    frontier.extend(trunk, part(MAIN, 7, 8))
    changed()
    island = frontier.add_branch(part(FORK, 5, 8), None, attached=False)
    changed()
    frontier.attach(MAIN.log_id, island, trunk)
    changed()
    frontier.add_branch(part(MAIN, 9, 10), None, attached=False)
    changed()
    frontier.join_islands(MAIN.log_id)
    changed()
    frontier.restore_branch(MAIN.log_id, in_memory(7, [numbered(20)]))
    changed()


def test_change_of_one_log_leaves_the_digests_of_other_buckets() -> None:
    other = next(
        log for number in range(1, 9) if (log := LogWriter(BAR, number=number)).log_id[0] % 64 != MAIN.log_id[0] % 64
    )
    frontier, _, trunk = begun(3)
    frontier.open_log(other.log_id, genesis_of(other))
    before = frontier.bucket_digests()
    frontier.extend(trunk, part(MAIN, 4, 5))
    differing = [
        index for index, (one, two) in enumerate(zip(before, frontier.bucket_digests(), strict=True)) if one != two
    ]
    assert differing == [MAIN.log_id[0] % 64]
