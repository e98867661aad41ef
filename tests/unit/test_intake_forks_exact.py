"""Every effect of a fork, of this device's own entries, and of what control logs say, in order and field by field."""

from __future__ import annotations

from typing import Final

from mesh.core.chain import Run
from mesh.core.events import Accepted, AppendProof, Contested, Note, ReadBack, Relabel, Revoked
from mesh.core.frontier import Segment
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.revocation import Statement, parse_statement
from mesh.limits import ENTRY_BODY_BYTES_MAX
from tests.factory import LogWriter, Venue
from tests.pieces import FILLER, Desk, at, filled, forked, genesis_of, part, proof_of

VENUE: Final = Venue("Intake of forks")
BAR: Final = VENUE.device("bar", Role.READER)
OFFICE: Final = VENUE.device("office", Role.MANAGER)
MAIN: Final = filled(BAR, 16)
GENESIS: Final = genesis_of(MAIN)
LOG: Final = MAIN.log_id
FORK: Final = forked(MAIN, 5, 12)
"""Leaves `MAIN` at seq 5 and ends at seq 11."""


def accepted(run: Run, branch: int = 0, *, parent: int | None = None) -> Accepted:
    """A run of an attached branch that somebody sent: its tip alone was verified."""
    return Accepted(run, branch, GENESIS, on_disk=False, attached=True, parent=parent, signatures_verified=False)


def written(run: Run) -> Accepted:
    """A run of this device's own: on its disk, and signed here."""
    return Accepted(run, 0, GENESIS, on_disk=True, attached=True, parent=None, signatures_verified=True)


def begun(last_seq: int) -> Desk:
    """A desk that took in `MAIN` from its genesis to `last_seq`, and whose neighbours heard of that."""
    desk = Desk(MAIN)
    desk.take(part(MAIN, 0, last_seq))
    desk.news()
    return desk


# -- Forks ---------------------------------------------------------------------------------------------------------


def test_run_that_leaves_the_trunk_is_kept_contested_and_proven() -> None:
    desk = begun(9)
    assert desk.take(part(FORK, 3, 8)) == [ReadBack(1, LOG, ((Segment(0, 2, 8),),))]
    expected = [accepted(part(FORK, 5, 8), 1, parent=0), Contested(LOG, 5), AppendProof(LOG, proof_of(MAIN, FORK, 5))]
    assert desk.answer(1, MAIN.entries[2:9]) == expected
    assert desk.news() == {LOG: at(FORK, 8)}
    assert desk.intake.contested_from == {LOG: 5}
    assert desk.frontier.logs[LOG].heads() == [at(FORK, 8), at(MAIN, 9)]


def test_both_sides_of_a_fork_go_on() -> None:
    desk = begun(9)
    desk.take(part(FORK, 5, 8))
    desk.answer(1, MAIN.entries[4:9])
    assert desk.take(part(FORK, 9, 9)) == [accepted(part(FORK, 9, 9), 1, parent=0)]
    assert desk.news() == {LOG: at(FORK, 9)}
    assert desk.take(part(MAIN, 10, 10)) == [accepted(part(MAIN, 10, 10))]
    assert desk.news() == {LOG: at(MAIN, 10)}


def test_log_is_proven_once_and_contested_from_its_earliest_fork_on() -> None:
    desk = begun(9)
    desk.take(part(FORK, 5, 8))
    desk.answer(1, MAIN.entries[4:9])
    later, deep = forked(MAIN, 7, 9, b"later"), forked(MAIN, 3, 5, b"deep")
    desk.take(part(later, 7, 8))
    assert desk.answer(2, MAIN.entries[6:9], FORK.entries[6:9]) == [accepted(part(later, 7, 8), 2, parent=0)]
    assert desk.take(part(deep, 3, 4))[:1] == [
        ReadBack(3, LOG, ((Segment(0, 2, 4),), (Segment(0, 2, 4),), (Segment(0, 2, 4),)))
    ]
    held = MAIN.entries[2:5]
    assert desk.answer(3, held, held, held) == [accepted(part(deep, 3, 4), 3, parent=0), Contested(LOG, 3)]
    assert desk.intake.contested_from == {LOG: 3}


def test_fork_of_a_fork_hangs_from_it_and_is_proven_by_its_entries() -> None:
    twig = forked(FORK, 7, 10, b"twig")
    desk = begun(9)
    desk.frontier.add_branch(part(FORK, 5, 8), desk.frontier.logs[LOG].branches[0], attached=True)
    question = ReadBack(1, LOG, ((Segment(0, 3, 9),), (Segment(0, 3, 4), Segment(1, 5, 8))))
    assert desk.take(part(twig, 4, 9)) == [question]
    expected = [accepted(part(twig, 7, 9), 2, parent=1), Contested(LOG, 7), AppendProof(LOG, proof_of(FORK, twig, 7))]
    assert desk.answer(1, MAIN.entries[3:10], FORK.entries[3:9]) == expected


def test_run_that_leaves_an_island_is_an_island_itself_and_the_fork_is_proven() -> None:
    sibling = forked(MAIN, 8, 11, b"sibling")
    desk = begun(1)
    desk.take(part(MAIN, 5, 9))
    assert desk.take(part(sibling, 6, 10)) == [ReadBack(1, LOG, ((Segment(1, 5, 9),),))]
    expected = [
        Accepted(part(sibling, 8, 10), 2, GENESIS, False, False, None, True),
        Contested(LOG, 8),
        AppendProof(LOG, proof_of(MAIN, sibling, 8)),
    ]
    assert desk.answer(1, MAIN.entries[5:10]) == expected
    assert desk.news() == {}


def test_fork_whose_entries_are_too_long_for_a_proof_is_contested_all_the_same() -> None:
    long, other = MAIN.fork(5), MAIN.fork(5)
    for log, text in ((long, b"a"), (other, b"b")):
        log.append(FILLER, text * (ENTRY_BODY_BYTES_MAX // 2))
        log.append(FILLER, text)
    desk = begun(4)
    desk.take(part(long, 5, 6), part(other, 5, 6))
    expected = [accepted(part(other, 5, 6), 1, parent=0), Contested(LOG, 5)]
    assert desk.answer(1, long.entries[4:7]) == expected
    short = forked(MAIN, 3, 5, b"short")
    desk.take(part(short, 3, 4))
    held = MAIN.entries[2:5]
    assert desk.answer(2, held, held)[-1] == AppendProof(LOG, proof_of(MAIN, short, 3))


def test_fork_by_an_entry_with_a_bad_signature_is_contested_without_proof_and_may_be_proven_later() -> None:
    spoiled = MAIN.fork(5)
    spoiled.append_forged(FILLER, b"spoiled")
    spoiled.append(FILLER, b"after")
    desk = begun(9)
    desk.take(part(spoiled, 5, 6))
    effects = desk.answer(1, MAIN.entries[4:7])
    assert effects[:2] == [accepted(part(spoiled, 5, 6), 1, parent=0), Contested(LOG, 5)]
    assert [type(effect) for effect in effects[2:]] == [Note]
    desk.take(part(FORK, 5, 6))
    expected = [accepted(part(FORK, 5, 6), 2, parent=0), AppendProof(LOG, proof_of(MAIN, FORK, 5))]
    assert desk.answer(2, MAIN.entries[4:7], [*MAIN.entries[4:5], *spoiled.entries[5:7]]) == expected


def test_log_is_contested_once_for_each_earlier_seq() -> None:
    other = filled(BAR, 1, number=1)
    desk = Desk(MAIN, other)
    assert desk.contest(MAIN, 7) == [Contested(LOG, 7)]
    assert desk.contest(MAIN, 7) == []
    assert desk.contest(MAIN, 8) == []
    assert desk.contest(other, 8) == [Contested(other.log_id, 8)]
    assert desk.contest(MAIN, 6) == [Contested(LOG, 6)]
    assert desk.contest(MAIN, 0) == [Contested(LOG, 0)]
    assert desk.intake.contested_from == {LOG: 0, other.log_id: 8}


# -- This device's own logs ----------------------------------------------------------------------------------------


def wrote(last_seq: int) -> Desk:
    """A desk whose device wrote `MAIN` from its genesis to `last_seq`, one entry after the other."""
    desk = Desk(filled(BAR, 1, number=7))
    for seq in range(last_seq + 1):
        assert desk.own(part(MAIN, seq, seq)) == [written(part(MAIN, seq, seq))]
    assert desk.news() == {LOG: at(MAIN, last_seq)}
    return desk


def test_own_entries_are_on_disk_and_verified_when_they_are_taken_in() -> None:
    desk = wrote(3)
    assert desk.intake.own == {LOG}
    assert desk.frontier.logs[LOG].heads() == [at(MAIN, 3)]
    assert desk.frontier.logs[LOG].genesis == GENESIS
    branch = desk.intake.own_appended(part(MAIN, 4, 5), [])
    assert branch is desk.frontier.logs[LOG].branches[0]


def test_what_others_sign_with_the_own_key_never_moves_the_own_head() -> None:
    desk = wrote(3)
    assert desk.take(part(MAIN, 4, 5)) == [accepted(part(MAIN, 4, 5), 1, parent=0)]
    assert desk.frontier.logs[LOG].branches[0].head == at(MAIN, 3)
    assert desk.news() == {LOG: at(MAIN, 5)}
    assert desk.take(part(MAIN, 6, 6)) == [accepted(part(MAIN, 6, 6), 1, parent=0)]
    assert desk.frontier.logs[LOG].branches[0].head == at(MAIN, 3)


def test_own_entry_at_the_seq_of_one_that_somebody_else_signed_is_a_fork_that_is_proven() -> None:
    desk = wrote(3)
    mine = forked(MAIN, 4, 6, b"mine")
    desk.take(part(MAIN, 4, 5))
    question = ReadBack(1, LOG, ((Segment(0, 4, 4),), (Segment(1, 4, 4),)))
    assert desk.own(part(mine, 4, 4)) == [question, written(part(mine, 4, 4))]
    assert desk.news() == {LOG: at(mine, 4)}
    expected = [Contested(LOG, 4), AppendProof(LOG, proof_of(mine, MAIN, 4))]
    assert desk.answer(1, [mine.entries[4]], [MAIN.entries[4]]) == expected
    assert desk.own(part(mine, 5, 5)) == [written(part(mine, 5, 5))]


def test_own_entry_above_an_old_fork_asks_nothing() -> None:
    desk = wrote(9)
    desk.take(part(FORK, 5, 8))
    desk.answer(1, MAIN.entries[4:9])
    assert desk.own(part(MAIN, 10, 10)) == [written(part(MAIN, 10, 10))]


def test_island_of_an_own_log_is_joined_when_the_store_has_said_what_it_holds() -> None:
    desk = wrote(3)
    mine = forked(MAIN, 4, 6, b"mine")
    desk.take(part(MAIN, 4, 5), part(MAIN, 8, 9))
    desk.own(part(mine, 4, 4))
    assert desk.take(part(MAIN, 6, 7)) == [accepted(part(MAIN, 6, 7), 1, parent=0)]
    expected = [Contested(LOG, 4), AppendProof(LOG, proof_of(mine, MAIN, 4)), Relabel(LOG, 2, 1)]
    assert desk.answer(1, [mine.entries[4]], [MAIN.entries[4]]) == expected


# -- Control logs --------------------------------------------------------------------------------------------------


def control(*said: tuple[int, bytes], lane: Lane = Lane.CONTROL) -> LogWriter:
    """A log of the office that says these things after its genesis."""
    log = LogWriter(OFFICE, lane)
    for kind, body in said:
        log.append(kind, body)
    return log


def told(log: LogWriter) -> Accepted:
    return Accepted(part(log, 0, log.head_seq), 0, genesis_of(log), False, True, None, False)


def revoked(*, number: int = 1) -> tuple[bytes, Statement]:
    body = VENUE.revocation(BAR, (MAIN, 3), number=number)
    return body, parse_statement(body, VENUE.root)


def test_control_log_contests_whom_it_convicts_and_revokes_whom_the_authority_named() -> None:
    body, statement = revoked()
    log = control((FILLER, b"hm"), (Kind.REVOCATION, body), (Kind.FORK_PROOF, proof_of(MAIN, FORK, 5)))
    desk = Desk(log)
    assert desk.take(part(log, 0, 3)) == [told(log), Revoked(statement), Contested(LOG, 5)]
    assert desk.intake.revocations.holding(BAR.certificate.serial) == (statement,)
    assert desk.intake.contested_from == {LOG: 5}
    assert desk.news() == {log.log_id: at(log, 3)}


def test_only_control_logs_are_heard() -> None:
    body, _ = revoked()
    said = ((Kind.REVOCATION, body), (Kind.FORK_PROOF, proof_of(MAIN, FORK, 5)))
    for lane in set(Lane) - {Lane.CONTROL}:
        log = control(*said, lane=lane)
        assert Desk(log).take(part(log, 0, 2)) == [told(log)]


def test_proof_and_statement_that_are_none_are_noted_and_the_rest_is_heard() -> None:
    body, statement = revoked()
    said = ((Kind.FORK_PROOF, b"nothing"), (Kind.REVOCATION, b"nothing"), (Kind.REVOCATION, body))
    log = control(*said)
    effects = Desk(log).take(part(log, 0, 3))
    assert [type(effect) for effect in effects] == [Accepted, Note, Note, Revoked]
    assert effects[-1] == Revoked(statement)


def test_statement_that_is_known_or_overruled_is_said_once() -> None:
    (first, _), (second, newer) = revoked(number=1), revoked(number=2)
    log = control((Kind.REVOCATION, second), (Kind.REVOCATION, second), (Kind.REVOCATION, first))
    assert Desk(log).take(part(log, 0, 3)) == [told(log), Revoked(newer)]


def test_fork_that_somebody_proved_is_neither_contested_nor_proven_again() -> None:
    log = control((Kind.FORK_PROOF, proof_of(MAIN, FORK, 5)))
    desk = Desk(MAIN, log)
    desk.take(part(log, 0, 1), part(MAIN, 0, 9), part(FORK, 5, 8))
    assert desk.answer(1, MAIN.entries[4:9]) == [accepted(part(FORK, 5, 8), 1, parent=0)]


def test_what_an_own_control_log_says_counts_here_too() -> None:
    log = control((Kind.FORK_PROOF, proof_of(MAIN, FORK, 5)))
    desk = Desk(MAIN)
    own = Accepted(part(log, 0, 1), 0, genesis_of(log), True, True, None, True)
    assert desk.own(part(log, 0, 1)) == [own, Contested(LOG, 5)]
