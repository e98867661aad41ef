"""Whom a node feeds, who feeds it, and what it keeps of logs that are set aside: each answer, in order."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.events import Accepted, Compared, LinkDown, Note, ReadBack, Revoked, Serve
from mesh.core.fork import prove_fork
from mesh.core.frontier import NOTHING_ASIDE, Frontier, LogSummary, Position, Segment
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import Announce, BucketLogs, Digest, FrontierPart, Quiet, Want
from mesh.core.news import ANNOUNCE_PAUSE_S, REMIND_PAUSE_S
from mesh.core.node import ASIDE_PAUSE_S, PUSHED_BYTES_MAX
from mesh.limits import BUCKETS_COUNT
from tests.factory import LogWriter, Venue, VenueDevice
from tests.one_node import KIND, Answer, OneNode, Said, at, holding, run_of, taken, written

VENUE: Final = Venue("Feeding")
SELF, AUTHOR, RELAY, OTHER = (VENUE.device(name, Role.READER) for name in ("this one", "author", "relay", "other"))
FROM_AUTHOR, TO_RELAY, TO_OTHER = 1, 2, 3


def announces(answers: list[Answer]) -> list[Answer]:
    """Without keepalives, and what else is said."""
    return [answer for answer in answers if isinstance(answer, Said) and isinstance(answer.message, Announce)]


def pushed(link: int, log: LogWriter, first_seq: int, last_seq: int) -> Serve:
    return Serve(link, log.log_id, (Segment(0, first_seq, last_seq),), (), int(Lane.MONEY), pushed=True)


def announce(log: LogWriter, seq: int = -1) -> Announce:
    return Announce(((log.log_id, at(log, seq)),))


def want(log: LogWriter, target: Position, *locator: int) -> Want:
    return Want(log.log_id, target, tuple(at(log, seq) for seq in locator))


def feeding() -> tuple[OneNode, LogWriter]:
    """A node that holds three entries of a log from its author, and feeds the relay; the other one knows of it."""
    log = written(AUTHOR, 3)
    bar = OneNode(SELF)
    for link, peer in enumerate((AUTHOR, RELAY, OTHER), 1):
        bar.meets(link, peer)
    bar.hears_run(FROM_AUTHOR, run_of(log))
    (served,) = bar.hears(TO_RELAY, want(log, at(log)))
    assert isinstance(served, Serve) and not served.pushed
    assert bar.hears(TO_OTHER, announce(log)) == []
    assert bar.ticks(ANNOUNCE_PAUSE_S) == []
    return bar, log


def fed_by_relay(*others: tuple[VenueDevice, int | None]) -> tuple[OneNode, LogWriter]:
    """A node that got four entries of a log from the relay on link 1; the others said up to where they have it."""
    log = written(AUTHOR, 4)
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    assert bar.hears(1, announce(log)) == [Said(1, want(log, at(log)))]
    assert bar.hears_run(1, run_of(log)) == [taken(run_of(log), log)]
    for link, (peer, seq) in enumerate(others, 2):
        bar.meets(link, peer)
        if seq is not None:
            assert bar.hears(link, announce(log, seq)) == []
    return bar, log


# -- Feeding others ------------------------------------------------------------------------------------------------


def test_entry_is_pushed_on_byte_for_byte_to_who_is_fed_and_to_nobody_else() -> None:
    bar, log = feeding()
    log.append(KIND, b"next")
    answers = bar.hears_run(FROM_AUTHOR, run_of(log, 3))
    assert answers == [taken(run_of(log, 3), log), pushed(TO_RELAY, log, 3, 3)]
    assert isinstance(answers[1], Serve)
    assert answers[1].blob == run_of(log, 3).blob
    log.append(KIND, b"and next")
    assert bar.hears_run(FROM_AUTHOR, run_of(log, 4))[1:] == [pushed(TO_RELAY, log, 4, 4)]
    assert bar.ticks(ANNOUNCE_PAUSE_S) == []


def test_who_is_fed_and_told_of_more_than_is_held_here_is_not_pushed_what_it_has() -> None:
    bar, log = feeding()
    log.append(KIND, b"next")
    assert bar.hears(TO_RELAY, announce(log)) == [Said(TO_RELAY, want(log, at(log), 2, 0))]
    assert bar.hears_run(FROM_AUTHOR, run_of(log, 3)) == [taken(run_of(log, 3), log)]


def test_own_entries_travel_as_they_were_written_and_large_ones_are_read_from_the_store() -> None:
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    log = written(SELF, 2)
    (_, served) = bar.appends(log)
    assert isinstance(served, Serve) and served.blob == run_of(log).blob
    log.append(KIND, bytes(PUSHED_BYTES_MAX))
    (_, served) = bar.appends(log, 2)
    assert isinstance(served, Serve) and (served.pushed, served.blob) == (True, b"")


def test_piece_whose_own_tip_nobody_verified_is_pushed_from_the_store() -> None:
    """A run is cut before an island that it reaches; the store joins both to a run that ends with a good signature."""
    bar, log = feeding()
    for _ in range(4):
        log.append(KIND, b"")
    (island,) = bar.hears_run(FROM_AUTHOR, run_of(log, 5))
    assert isinstance(island, Accepted) and not island.attached
    answers = bar.hears_run(FROM_AUTHOR, run_of(log, 3))
    (served,) = (answer for answer in answers if isinstance(answer, Serve))
    assert served == pushed(TO_RELAY, log, 3, 4)
    assert served.blob == b""
    assert Said(TO_RELAY, announce(log)) in bar.ticks(ANNOUNCE_PAUSE_S)


def test_quiet_ends_feeding_until_the_next_want() -> None:
    bar, log = feeding()
    assert bar.hears(TO_RELAY, Quiet(log.log_id)) == []
    log.append(KIND, b"unheard")
    assert bar.hears_run(FROM_AUTHOR, run_of(log, 3)) == [taken(run_of(log, 3), log)]
    (served,) = bar.hears(TO_RELAY, want(log, at(log), 2, 0))
    assert isinstance(served, Serve) and not served.pushed
    log.append(KIND, b"heard again")
    assert bar.hears_run(FROM_AUTHOR, run_of(log, 4)) == [taken(run_of(log, 4), log), pushed(TO_RELAY, log, 4, 4)]


def test_quiet_about_a_log_that_nobody_knows_is_no_fault() -> None:
    bar, _ = feeding()
    assert bar.hears(TO_RELAY, Quiet(b"unknown to all. ")) == []
    assert TO_RELAY in bar.node.links


def test_log_that_forked_is_told_at_once_and_pushed_no_more() -> None:
    bar, log = feeding()
    other = log.fork(1)
    other.append(KIND, b"another story")
    bar.hears_run(FROM_AUTHOR, run_of(other, 1))
    bar.does(Compared(1, [log.entries[:3]]))
    bar.ticks(ANNOUNCE_PAUSE_S)
    log.append(KIND, b"goes on")
    answers = bar.hears_run(FROM_AUTHOR, run_of(log, 3))
    assert answers == [taken(run_of(log, 3), log)]
    assert bar.ticks(ANNOUNCE_PAUSE_S) == [Said(link, announce(log)) for link in (TO_RELAY, TO_OTHER)]


@pytest.mark.parametrize(("device", "peer", "pauses"), [(SELF, RELAY, 1), (RELAY, SELF, 2)])
def test_who_is_fed_elsewhere_is_reminded_after_two_pauses_or_four_by_serial(
    device: VenueDevice, peer: VenueDevice, pauses: int
) -> None:
    bar, log = OneNode(device), written(AUTHOR, 3)
    bar.meets(1, AUTHOR)
    bar.meets(2, peer)
    assert bar.hears(2, announce(log, 1)) == [Said(2, want(log, at(log, 1)))]
    bar.hears_run(1, run_of(log))
    assert bar.node.deadline() == bar.now + pauses * REMIND_PAUSE_S
    assert announces(bar.ticks(pauses * REMIND_PAUSE_S)) == [], "it begins to wait for a whole pause"
    assert announces(bar.ticks(pauses * REMIND_PAUSE_S - 0.001)) == []
    assert announces(bar.ticks(0.001)) == [Said(2, announce(log))]
    assert bar.ticks(0.25) == []


def test_who_showed_in_a_comparison_that_it_has_a_log_is_fed_it_elsewhere() -> None:
    log = written(AUTHOR, 3)
    bar = holding(SELF, log)
    bar.meets(1, AUTHOR)
    bar.meets(2, RELAY)
    index = log.log_id[0] % BUCKETS_COUNT
    assert bar.hears(2, BucketLogs(frozenset({index}), tuple(bar.node.frontier.bucket_logs(index)))) == []
    log.append(KIND, b"next")
    assert bar.hears_run(1, run_of(log, 3)) == [taken(run_of(log, 3), log)]
    assert bar.ticks(REMIND_PAUSE_S) == []
    assert bar.ticks(REMIND_PAUSE_S - 0.001) == []
    assert bar.ticks(0.001) == [Said(2, announce(log))]


def test_reminder_is_not_sent_to_who_said_meanwhile_that_it_has_the_head() -> None:
    bar, log = feeding()
    log.append(KIND, b"next")
    bar.hears_run(FROM_AUTHOR, run_of(log, 3))
    assert bar.hears(TO_OTHER, announce(log)) == []
    assert [announces(bar.ticks(2 * REMIND_PAUSE_S)) for _ in range(3)] == [[], [], []]


def test_what_has_only_just_come_is_not_told_with_what_is_due() -> None:
    bar, logs = OneNode(SELF), [written(AUTHOR, 3, number=number) for number in range(2)]
    bar.meets(1, AUTHOR)
    bar.meets(2, RELAY)
    for log in logs:
        bar.hears(2, announce(log, 1))
    told = []
    for come in (logs[:1], logs[1:], [], []):
        for log in come:
            bar.hears_run(1, run_of(log))
        told.append(announces(bar.ticks(REMIND_PAUSE_S)))
    assert told == [[], [Said(2, announce(logs[0]))], [Said(2, announce(logs[1]))], []]


# -- Being fed -----------------------------------------------------------------------------------------------------


def test_duplicates_are_answered_with_one_quiet_until_the_log_is_wanted_there_again() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 4)
    bar.meets(1, AUTHOR)
    bar.meets(2, RELAY)
    assert bar.hears(2, announce(log, 2)) == [Said(2, want(log, at(log, 2)))]
    bar.hears_run(1, run_of(log, 0, 2))
    quiet = [Said(2, Quiet(log.log_id))]
    assert bar.hears_run(2, run_of(log, 0, 2)) == quiet
    assert bar.hears_run(2, run_of(log, 0, 2)) == []
    assert bar.hears(2, announce(log)) == [Said(2, want(log, at(log), 2, 0))]
    bar.hears_run(1, run_of(log, 3))
    assert bar.hears_run(2, run_of(log, 3)) == quiet
    assert bar.hears_run(1, run_of(log, 3)) == []


def test_author_takes_over_from_who_fed_its_log_before() -> None:
    bar, log = fed_by_relay((AUTHOR, 3))
    log.append(KIND, b"next")
    assert bar.hears_run(2, run_of(log, 4)) == [taken(run_of(log, 4), log), Said(1, Quiet(log.log_id))]
    log.append(KIND, b"and next")
    assert bar.hears_run(2, run_of(log, 5)) == [taken(run_of(log, 5), log)]


def test_feeder_that_goes_down_is_replaced_at_once_by_who_was_ahead_last() -> None:
    bar, log = fed_by_relay((AUTHOR, 0), (OTHER, 3), (AUTHOR, None), (OTHER, 3))
    assert bar.does(LinkDown(1)) == [Said(3, want(log, at(log), 3, 0))]
    assert bar.does(LinkDown(3)) == [Said(5, want(log, at(log), 3, 0))]
    assert bar.does(LinkDown(5)) == [Said(2, want(log, at(log, 0), 3, 0))]
    assert bar.does(LinkDown(2)) == []
    assert bar.does(LinkDown(4)) == []


def test_who_is_fed_by_us_is_never_asked_to_feed_us() -> None:
    bar, log = fed_by_relay((OTHER, 3), (AUTHOR, 0))
    bar.hears(2, want(log, at(log), 3))
    assert bar.does(LinkDown(1)) == [Said(3, want(log, at(log, 0), 3, 0))]


def test_link_that_goes_down_and_fed_nothing_changes_nobody() -> None:
    bar, _ = fed_by_relay((OTHER, 3), (AUTHOR, 3))
    assert bar.does(LinkDown(3)) == []


# -- Set aside -----------------------------------------------------------------------------------------------------


def revoke(bar: OneNode, device: VenueDevice, *cut: tuple[LogWriter, int], number: int = 1) -> list[Answer]:
    """The authority's statement arrives in this node's own control log."""
    control = LogWriter(SELF, Lane.CONTROL, number=number)
    control.append(Kind.REVOCATION, VENUE.revocation(device, *cut, number=number))
    return bar.appends(control)


def test_log_of_a_device_that_is_revoked_is_set_aside_when_that_is_heard_and_its_next_log_when_it_opens() -> None:
    log, later = written(AUTHOR, 3), written(AUTHOR, 2, number=7)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    assert bar.node.frontier.aside == set()
    assert any(isinstance(answer, Revoked) for answer in revoke(bar, AUTHOR))
    assert bar.node.frontier.aside == {log.log_id}
    main = bar.node.frontier.main_digest()
    bar.hears(1, announce(later))
    bar.hears_run(1, run_of(later))
    assert bar.node.frontier.aside == {log.log_id, later.log_id}
    assert bar.node.frontier.main_digest() == main


def test_log_that_forked_is_set_aside_with_its_proof() -> None:
    log = written(AUTHOR, 3)
    other = log.fork(1)
    other.append(KIND, b"other")
    bar = holding(SELF, log)
    bar.meets(1, AUTHOR)
    bar.hears_run(1, run_of(other, 1))
    assert bar.node.frontier.aside == set()
    bar.does(Compared(1, [log.entries[:2]]))
    assert bar.node.frontier.aside == {log.log_id}
    assert bar.node.frontier.main_digest() == Frontier().main_digest() != bar.digest
    assert bar.node.frontier.aside_digest() != NOTHING_ASIDE


def test_log_of_which_a_proof_is_heard_is_set_aside_before_it_is_held() -> None:
    log = written(AUTHOR, 3)
    other = log.fork(1)
    other.append(KIND, b"other")
    proof = prove_fork(log.entries[0], log.entries[1], other.entries[1], VENUE.root)
    assert proof is not None
    control = LogWriter(RELAY, Lane.CONTROL)
    control.append(Kind.FORK_PROOF, proof.body)
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    bar.hears_run(1, run_of(control))
    assert bar.node.frontier.aside == {log.log_id}
    main = bar.node.frontier.main_digest()
    bar.hears(1, announce(log))
    bar.hears_run(1, run_of(log))
    assert bar.node.frontier.main_digest() == main


def test_log_that_is_set_aside_is_served_behind_every_lane() -> None:
    log = written(AUTHOR, 3)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    revoke(bar, AUTHOR)
    (served,) = bar.hears(1, want(log, at(log)))
    assert isinstance(served, Serve)
    assert served.lane == 3 > max(Lane)


def test_what_is_set_aside_is_summed_up_once_in_its_pause_while_it_differs_and_causes_no_comparison() -> None:
    log = written(AUTHOR, 3)
    bar = holding(SELF, log)
    bar.meets(1, RELAY)
    revoke(bar, AUTHOR)
    frontier = bar.node.frontier
    bar.hears(1, Digest(frontier.main_digest(), frontier.aside_digest()))
    told = Digest(frontier.main_digest(), NOTHING_ASIDE)
    part = Said(1, FrontierPart((frontier.logs[log.log_id].summary(),)))
    assert bar.hears(1, told) == [part]
    assert bar.hears(1, told) == []
    bar.now += ASIDE_PAUSE_S - 0.001
    assert bar.hears(1, told) == []
    bar.now += 0.001
    assert bar.hears(1, told) == [part]
    bar.now += ASIDE_PAUSE_S
    assert bar.hears(1, Digest(frontier.main_digest(), frontier.aside_digest())) == []


def test_revoked_device_that_writes_on_for_ever_is_named_once_and_what_a_later_ruling_lets_count_is_taken_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = written(AUTHOR, 20)
    monkeypatch.setattr("mesh.core.intake.ASIDE_BYTES_PER_LOG_MAX", sum(map(len, log.entries[:4])))
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    revoke(bar, AUTHOR)
    bar.hears(1, announce(log))
    for seq in range(4):
        assert bar.hears_run(1, run_of(log, seq, seq))[0] == taken(run_of(log, seq, seq), log)
    notes = [answer for seq in range(4, 10) for answer in bar.hears_run(1, run_of(log, seq, seq))]
    assert [type(note) for note in notes] == [Note]
    assert log.log_id.hex() in str(notes) and "goes on" in str(notes)
    assert bar.node.frontier.logs[log.log_id].heads() == [at(log, 3)]
    revoke(bar, AUTHOR, (log, 6), number=2)
    assert Accepted in {type(answer) for answer in bar.hears_run(1, run_of(log, 4, 9))}
    assert bar.node.frontier.logs[log.log_id].heads() == [at(log, 6)]
    assert bar.hears_run(1, run_of(log, 7)) == []


def test_branch_that_grows_for_ever_is_named_once_not_kept_and_closes_no_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = written(AUTHOR, 12)
    branch = log.fork(6)
    for number in range(12):
        branch.append(KIND, b"story %02d" % number)
    monkeypatch.setattr("mesh.core.intake.ASIDE_BYTES_PER_LOG_MAX", 3 * len(branch.entries[-1]))
    bar = OneNode(SELF)
    bar.meets(1, AUTHOR)
    bar.hears_run(1, run_of(log, 0, 6))
    (question,) = bar.hears_run(1, run_of(branch, 6, 6))
    assert isinstance(question, ReadBack)
    bar.does(Compared(question.token, [log.entries[s.first_seq : s.last_seq + 1] for (s,) in question.pieces]))
    assert bar.node.contested_from == {log.log_id: 6}
    notes = [answer for seq in range(7, 18) for answer in bar.hears_run(1, run_of(branch, seq, seq))]
    assert sum(isinstance(answer, Note) for answer in notes) == 1
    assert bar.node.frontier.logs[log.log_id].heads() == [at(log, 6), at(branch, 9)]
    assert 1 in bar.node.links


def test_stale_announcement_is_not_wanted() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 30)
    bar.meets(1, AUTHOR)
    bar.meets(2, RELAY)
    for seq in range(30):
        bar.hears_run(1, run_of(log, seq, seq))
    assert [seq for seq in range(30) if bar.hears(2, announce(log, seq))] == []


def test_what_there_is_no_room_for_is_not_wanted_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(AUTHOR, 20)
    monkeypatch.setattr("mesh.core.intake.ASIDE_BYTES_PER_LOG_MAX", sum(map(len, log.entries[:4])))
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    revoke(bar, AUTHOR)
    bar.hears(1, announce(log))
    for seq in range(8):
        bar.hears_run(1, run_of(log, seq, seq))
    bar.node._wants.failed(1, log.log_id, at(log))
    assert bar.hears(1, FrontierPart((LogSummary(log.log_id, (at(log),), ()),))) == []


def test_branch_that_the_store_must_compare_is_no_duplicate() -> None:
    log = written(AUTHOR, 4)
    branch = log.fork(2)
    branch.append(KIND, b"new")
    bar = holding(SELF, log)
    bar.meets(1, AUTHOR)
    bar.meets(2, RELAY)
    log.append(KIND, b"x")
    bar.hears_run(1, run_of(log, 4))
    bar.hears(2, announce(branch))
    bar.hears(2, FrontierPart((LogSummary(branch.log_id, (at(branch), at(log)), ()),)))
    assert not [said for said in bar.hears_run(2, run_of(branch, 1, 2)) if isinstance(said, Said)]
