"""Every effect of taking in a run, in order and field by field: pieces, islands, waiting for the store."""

from __future__ import annotations

from typing import Final

from mesh.core.chain import Run
from mesh.core.events import Accepted, AppendProof, Attached, Contested, Note, ReadBack, Relabel
from mesh.core.frontier import Segment
from mesh.core.intake import COMPARISONS_MAX
from mesh.core.kinds import Role
from mesh.limits import BRANCHES_PER_LOG_MAX
from tests.factory import LogWriter, Venue
from tests.pieces import FILLER, Desk, at, filled, forked, genesis_of, part, proof_of

VENUE: Final = Venue("Intake")
BAR: Final = VENUE.device("bar", Role.READER)
MAIN: Final = filled(BAR, 16)
GENESIS: Final = genesis_of(MAIN)
LOG: Final = MAIN.log_id
FORK: Final = forked(MAIN, 5, 12)
"""Leaves `MAIN` at seq 5 and ends at seq 11."""


def accepted(run: Run, branch: int = 0, *, parent: int | None = None) -> Accepted:
    """A run of an attached branch that somebody sent: its tip alone was verified."""
    return Accepted(run, branch, GENESIS, on_disk=False, attached=True, parent=parent, signatures_verified=False)


def adrift(run: Run, branch: int = 1) -> Accepted:
    """A run of an island: nothing vouches for it yet, so each of its signatures was verified."""
    return Accepted(run, branch, GENESIS, on_disk=False, attached=False, parent=None, signatures_verified=True)


def begun(last_seq: int, log: LogWriter = MAIN) -> Desk:
    """A desk that took in `MAIN` from its genesis to `last_seq`, and whose neighbours heard of that."""
    desk = Desk(log)
    desk.take(part(log, 0, last_seq))
    desk.news()
    return desk


def spoiled(log: LogWriter, at_seq: int, entries: int) -> LogWriter:
    """The log up to `at_seq`, where an entry with a bad signature stands; good ones follow."""
    other = log.fork(at_seq)
    other.append_forged(FILLER, b"spoiled")
    while len(other.entries) < entries:
        other.append(FILLER, b"after")
    return other


# -- Runs that go on where something is held -----------------------------------------------------------------------


def test_beginning_of_a_log_becomes_its_first_branch_and_is_news() -> None:
    desk = Desk(MAIN)
    assert desk.take(part(MAIN, 0, 4)) == [accepted(part(MAIN, 0, 4))]
    assert desk.news() == {LOG: at(MAIN, 4)}


def test_run_that_goes_on_is_accepted_without_what_is_held_already() -> None:
    desk = begun(4)
    assert desk.take(part(MAIN, 5, 6)) == [accepted(part(MAIN, 5, 6))]
    assert desk.take(part(MAIN, 4, 9)) == [accepted(part(MAIN, 7, 9))]
    assert desk.news() == {LOG: at(MAIN, 9)}
    assert desk.frontier.logs[LOG].heads() == [at(MAIN, 9)]


def test_run_that_is_held_has_no_effect_at_all() -> None:
    desk = begun(4)
    assert desk.take(part(MAIN, 0, 4), part(MAIN, 3, 4)) == []
    assert desk.news() == {}


def test_run_that_may_be_held_is_looked_up_and_if_it_is_nothing_follows() -> None:
    desk = begun(9)
    assert desk.take(part(MAIN, 3, 6)) == [ReadBack(1, LOG, ((Segment(0, 2, 6),),))]
    assert desk.answer(1, MAIN.entries[2:7]) == []
    assert desk.news() == {}


def test_each_question_to_the_store_has_a_token_of_its_own() -> None:
    desk = begun(9)
    runs = [part(MAIN, 3, 6), part(MAIN, 0, 2), part(FORK, 5, 8)]
    expected = [
        ReadBack(1, LOG, ((Segment(0, 2, 6),),)),
        ReadBack(2, LOG, ((Segment(0, 0, 2),),)),
        ReadBack(3, LOG, ((Segment(0, 4, 8),),)),
    ]
    assert desk.take(*runs) == expected
    assert desk.answer(2, MAIN.entries[0:3]) == []
    assert desk.answer(1, MAIN.entries[2:7]) == []
    assert desk.take(part(MAIN, 3, 6)) == [ReadBack(4, LOG, ((Segment(0, 2, 6),),))]


def test_store_is_asked_about_so_many_runs_at_once_and_the_next_is_dropped() -> None:
    desk = begun(9)
    asked = desk.take(*[part(MAIN, 3, 6)] * COMPARISONS_MAX)
    assert asked == [ReadBack(token, LOG, ((Segment(0, 2, 6),),)) for token in range(1, COMPARISONS_MAX + 1)]
    assert desk.take(part(MAIN, 3, 6)) == []
    desk.answer(1, MAIN.entries[2:7])
    assert desk.take(part(MAIN, 3, 6)) == [ReadBack(COMPARISONS_MAX + 1, LOG, ((Segment(0, 2, 6),),))]


# -- Islands -------------------------------------------------------------------------------------------------------


def test_piece_that_nothing_reaches_is_an_island_fully_verified_and_no_news() -> None:
    desk = begun(2)
    assert desk.take(part(MAIN, 6, 7)) == [adrift(part(MAIN, 6, 7))]
    assert desk.take(part(MAIN, 7, 9)) == [adrift(part(MAIN, 8, 9))]
    assert desk.take(part(MAIN, 12, 12)) == [adrift(part(MAIN, 12, 12), 2)]
    assert desk.news() == {}


def test_island_with_a_bad_signature_is_not_kept() -> None:
    desk = begun(2)
    digest = desk.frontier.digest()
    assert [type(effect) for effect in desk.take(part(spoiled(MAIN, 7, 10), 6, 9))] == [Note]
    assert desk.frontier.digest() == digest


def test_island_is_not_continued_by_a_run_with_a_bad_signature() -> None:
    desk = begun(2)
    desk.take(part(MAIN, 5, 6))
    digest = desk.frontier.digest()
    assert [type(effect) for effect in desk.take(part(spoiled(MAIN, 7, 10), 7, 9))] == [Note]
    assert desk.frontier.digest() == digest
    assert desk.take(part(MAIN, 7, 9)) == [adrift(part(MAIN, 7, 9))]


def test_bad_signature_below_a_good_tip_does_not_stop_what_follows_a_head() -> None:
    run = part(spoiled(MAIN, 5, 8), 3, 7)
    assert begun(2).take(run) == [accepted(run)]


def test_island_that_the_trunk_reaches_is_joined_to_it_and_its_tip_is_news() -> None:
    desk = begun(2)
    desk.take(part(MAIN, 6, 7))
    assert desk.take(part(MAIN, 3, 5)) == [accepted(part(MAIN, 3, 5)), Relabel(LOG, 1, 0)]
    assert desk.news() == {LOG: at(MAIN, 7)}
    assert desk.take(part(MAIN, 8, 8)) == [accepted(part(MAIN, 8, 8))]


def test_run_across_an_island_goes_to_both_sides_of_its_beginning() -> None:
    desk = begun(2)
    desk.take(part(MAIN, 6, 7))
    expected = [accepted(part(MAIN, 3, 5)), adrift(part(MAIN, 8, 9)), Relabel(LOG, 1, 0)]
    assert desk.take(part(MAIN, 3, 9)) == expected
    assert desk.news() == {LOG: at(MAIN, 9)}


def test_islands_are_joined_to_each_other_without_news() -> None:
    desk = begun(2)
    desk.take(part(MAIN, 5, 6), part(MAIN, 8, 9))
    assert desk.take(part(MAIN, 7, 7)) == [adrift(part(MAIN, 7, 7)), Relabel(LOG, 2, 1)]
    assert desk.news() == {}


def test_islands_left_apart_at_the_last_stop_are_joined_before_a_run_is_placed() -> None:
    desk = begun(4)
    desk.frontier.add_branch(part(MAIN, 5, 6), None, attached=False)
    assert desk.take(part(MAIN, 7, 8)) == [Relabel(LOG, 1, 0), accepted(part(MAIN, 7, 8))]


def test_one_island_too_many_is_named_and_not_kept() -> None:
    desk = begun(1)
    long = filled(BAR, 2 * BRANCHES_PER_LOG_MAX + 4, number=0)
    desk.take(*(part(long, 2 * count + 2, 2 * count + 2) for count in range(1, BRANCHES_PER_LOG_MAX)))
    assert len(desk.frontier.logs[LOG].branches) == BRANCHES_PER_LOG_MAX
    digest = desk.frontier.digest()
    one_more = 2 * BRANCHES_PER_LOG_MAX + 2
    assert [type(effect) for effect in desk.take(part(long, one_more, one_more))] == [Note]
    assert desk.frontier.digest() == digest


# -- Islands that turn out to be forks -----------------------------------------------------------------------------


def passed(island: Run, *, last_seq: int = 9) -> Desk:
    """A desk that holds an island, and whose trunk has then grown beyond the island's beginning."""
    desk = begun(2)
    desk.take(island)
    question = ReadBack(
        1,
        LOG,
        ((Segment(0, island.first_seq - 1, island.first_seq),), (Segment(1, island.first_seq, island.first_seq),)),
    )
    assert desk.take(part(MAIN, 3, last_seq)) == [accepted(part(MAIN, 3, last_seq)), question]
    desk.news()
    return desk


def test_island_that_leaves_the_trunk_below_its_head_is_a_fork() -> None:
    desk = passed(part(FORK, 5, 8))
    expected = [Attached(LOG, 1, 0), Contested(LOG, 5), AppendProof(LOG, proof_of(MAIN, FORK, 5))]
    assert desk.answer(1, MAIN.entries[4:6], [FORK.entries[5]]) == expected
    assert desk.news() == {LOG: at(FORK, 8)}
    assert desk.frontier.logs[LOG].heads() == [at(FORK, 8), at(MAIN, 9)]
    assert desk.take(part(FORK, 9, 9)) == [accepted(part(FORK, 9, 9), 1, parent=0)]


def test_island_that_follows_something_unknown_stays_one_and_is_not_looked_up_again() -> None:
    desk = passed(part(FORK, 6, 8))
    assert desk.answer(1, MAIN.entries[5:7], [FORK.entries[6]]) == []
    assert desk.take(part(MAIN, 10, 10)) == [accepted(part(MAIN, 10, 10))]
    assert desk.frontier.logs[LOG].strangers == {(1, 0)}
    assert desk.news() == {LOG: at(MAIN, 10)}


def test_island_that_repeats_the_trunk_is_no_fork() -> None:
    desk = begun(9)
    desk.frontier.add_branch(part(MAIN, 5, 6), None, attached=False)
    question = ReadBack(1, LOG, ((Segment(0, 4, 5),), (Segment(1, 5, 5),)))
    assert desk.take(part(MAIN, 10, 10)) == [question, accepted(part(MAIN, 10, 10))]
    assert desk.answer(1, MAIN.entries[4:6], [MAIN.entries[5]]) == []


def test_island_is_looked_up_on_every_branch_that_passes_it() -> None:
    desk = begun(9)
    deep = forked(MAIN, 3, 12, b"deep")
    desk.take(part(FORK, 5, 8))
    desk.answer(1, MAIN.entries[4:9])
    assert desk.take(part(deep, 6, 7)) == [ReadBack(2, LOG, ((Segment(0, 5, 7),), (Segment(1, 5, 7),)))]
    expected = [
        adrift(part(deep, 6, 7), 2),
        ReadBack(3, LOG, ((Segment(0, 5, 6),), (Segment(2, 6, 6),))),
        ReadBack(4, LOG, ((Segment(1, 5, 6),), (Segment(2, 6, 6),))),
    ]
    assert desk.answer(2, MAIN.entries[5:8], FORK.entries[5:8]) == expected
    assert desk.answer(3, MAIN.entries[5:7], [deep.entries[6]]) == []
    assert desk.answer(4, FORK.entries[5:7], [deep.entries[6]]) == []
    assert desk.frontier.logs[LOG].strangers == {(2, 0), (2, 1)}


def test_two_islands_that_hang_from_the_trunk_are_two_forks() -> None:
    desk = begun(2)
    later = forked(MAIN, 7, 9, b"later")
    desk.take(part(FORK, 5, 6), part(later, 7, 8))
    grown = desk.take(part(MAIN, 3, 9))
    assert [effect.token for effect in grown if isinstance(effect, ReadBack)] == [1, 2]
    expected = [Attached(LOG, 2, 0), Contested(LOG, 7), AppendProof(LOG, proof_of(MAIN, later, 7))]
    assert desk.answer(2, MAIN.entries[6:8], [later.entries[7]]) == expected
    assert desk.answer(1, MAIN.entries[4:6], [FORK.entries[5]]) == [Attached(LOG, 1, 0), Contested(LOG, 5)]


# -- While the store is read ---------------------------------------------------------------------------------------


def test_islands_are_not_joined_while_the_store_is_read_for_their_log() -> None:
    desk = begun(4)
    desk.take(part(MAIN, 8, 9))
    desk.take(part(MAIN, 1, 3))
    assert desk.take(part(MAIN, 5, 7)) == [accepted(part(MAIN, 5, 7))]
    assert desk.news() == {LOG: at(MAIN, 7)}
    assert desk.answer(1, MAIN.entries[0:4]) == [Relabel(LOG, 1, 0)]
    assert desk.news() == {LOG: at(MAIN, 9)}


def test_log_does_not_wait_for_what_is_read_of_another() -> None:
    other = filled(BAR, 10, number=1)
    desk = Desk(MAIN, other)
    desk.take(part(MAIN, 0, 9), part(other, 0, 2), part(other, 6, 7))
    desk.take(part(MAIN, 3, 6))
    joined = desk.take(part(other, 3, 5))
    assert joined[1:] == [Relabel(other.log_id, 1, 0)]
    assert desk.intake.new_heads[other.log_id] == at(other, 7)


def test_run_is_placed_anew_if_the_branch_has_grown_while_the_store_was_read() -> None:
    desk = begun(9)
    assert desk.take(part(FORK, 5, 11)) == [ReadBack(1, LOG, ((Segment(0, 4, 9),),))]
    desk.take(part(MAIN, 10, 12))
    assert desk.answer(1, MAIN.entries[4:10]) == [ReadBack(2, LOG, ((Segment(0, 4, 11),),))]
    expected = [
        accepted(part(FORK, 5, 11), 1, parent=0),
        Contested(LOG, 5),
        AppendProof(LOG, proof_of(MAIN, FORK, 5)),
    ]
    assert desk.answer(2, MAIN.entries[4:12]) == expected


def test_run_is_split_anew_if_an_island_was_taken_in_while_the_store_was_read() -> None:
    desk = begun(9)
    desk.take(part(FORK, 5, 11), part(FORK, 8, 9))
    assert desk.answer(2, MAIN.entries[7:10]) == [adrift(part(FORK, 8, 9))]
    expected = [
        ReadBack(3, LOG, ((Segment(0, 7, 8),), (Segment(1, 8, 8),))),
        ReadBack(4, LOG, ((Segment(0, 4, 7),),)),
        adrift(part(FORK, 10, 11)),
    ]
    assert desk.answer(1, MAIN.entries[4:10]) == expected
    assert desk.answer(3, MAIN.entries[7:9], [FORK.entries[8]]) == []
    forks = [
        accepted(part(FORK, 5, 7), 2, parent=0),
        Contested(LOG, 5),
        AppendProof(LOG, proof_of(MAIN, FORK, 5)),
        Relabel(LOG, 1, 2),
    ]
    assert desk.answer(4, MAIN.entries[4:8]) == forks
    assert desk.news() == {LOG: at(FORK, 11)}


def test_run_that_follows_nothing_held_is_kept_as_an_island_and_looked_up_from_there() -> None:
    desk = begun(9)
    desk.take(part(FORK, 6, 8))
    question = ReadBack(2, LOG, ((Segment(0, 5, 6),), (Segment(1, 6, 6),)))
    assert desk.answer(1, MAIN.entries[5:9]) == [adrift(part(FORK, 6, 8)), question]
    assert desk.news() == {}
