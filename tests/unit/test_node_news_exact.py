"""What a node does with entries that are new: whom it pushes them to, whom it tells, and what it never says twice."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.entry import LOG_ID_BYTES, entry_id
from mesh.core.events import (
    Accepted,
    AppendProof,
    Compared,
    Contested,
    InStep,
    LinkDown,
    LinkUp,
    Located,
    Met,
    ReadBack,
    Revoked,
    Serve,
    SignatureFailed,
)
from mesh.core.fork import prove_fork
from mesh.core.frontier import Position, Segment
from mesh.core.intake import COMPARISONS_MAX
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import Announce, Digest, Hello, Want
from mesh.core.news import ANNOUNCE_PAUSE_S, REMIND_PAUSE_S
from mesh.core.revocation import NotTheAuthority, parse_statement
from mesh.errors import PeerError
from mesh.limits import ANNOUNCE_LOGS_PER_FRAME_MAX, KEEPALIVE_S, WANT_RETRY_S
from tests.factory import LogWriter, Venue, VenueDevice
from tests.one_node import KIND, OneNode, Said, at, genesis_of, holding, hung_up, run_of, taken, written
from tests.vectors.make import flipped

VENUE: Final = Venue("News")
SELF, AUTHOR, RELAY, OTHER = (VENUE.device(name, Role.READER) for name in ("this one", "author", "relay", "other"))


def met(*peers: VenueDevice) -> OneNode:
    """A node that holds nothing and is in step with these peers, on links 1, 2 and so on."""
    bar = OneNode(SELF)
    for link, peer in enumerate(peers, 1):
        bar.meets(link, peer)
    return bar


def own(log: LogWriter, first_seq: int = 0) -> Accepted:
    """What a node says of entries that it wrote itself."""
    run = run_of(log, first_seq)
    return Accepted(run, 0, genesis_of(log), on_disk=True, attached=True, parent=None, signatures_verified=True)


def pushed(link: int, log: LogWriter, first_seq: int) -> Serve:
    segments = (Segment(0, first_seq, log.head_seq),)
    return Serve(link, log.log_id, segments, (), int(genesis_of(log).lane), pushed=True)


def announced(link: int, *heads: tuple[LogWriter, Position]) -> Said:
    return Said(link, Announce(tuple((log.log_id, head) for log, head in heads)))


# -- Own entries ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", list(Lane))
def test_own_entries_are_pushed_to_everybody_who_is_up_to_date_and_to_nobody_else(lane: Lane) -> None:
    bar = met(RELAY, OTHER)
    bar.does(LinkUp(3, AUTHOR.certificate))
    log = written(SELF, 2, lane=lane)
    assert bar.appends(log) == [own(log), pushed(1, log, 0), pushed(2, log, 0)]
    log.append(KIND, b"next")
    assert bar.appends(log, 2) == [own(log, 2), pushed(1, log, 2), pushed(2, log, 2)]
    assert bar.ticks(ANNOUNCE_PAUSE_S) == []


def test_peer_that_lacks_what_own_entries_follow_is_told_of_them_and_pushed_to_once_it_asked() -> None:
    bar, log = met(RELAY), written(SELF, 1)
    bar.appends(log)
    bar.ticks(1.0)
    bar.meets(2, OTHER)
    log.append(KIND, b"second")
    assert bar.appends(log, 1) == [own(log, 1), pushed(1, log, 1)]
    assert bar.ticks(ANNOUNCE_PAUSE_S) == [announced(2, (log, at(log)))]
    log.append(KIND, b"third")
    assert bar.appends(log, 2) == [own(log, 2), pushed(1, log, 2)]
    assert bar.hears(2, Want(log.log_id, at(log), ())) == [
        Serve(2, log.log_id, (Segment(0, 0, 2),), (), int(Lane.MONEY), pushed=False)
    ]
    log.append(KIND, b"fourth")
    assert bar.appends(log, 3) == [own(log, 3), pushed(1, log, 3), pushed(2, log, 3)]
    assert bar.ticks(ANNOUNCE_PAUSE_S) == []


def test_own_log_that_was_restored_is_never_extended_by_somebody_who_has_the_key() -> None:
    log = written(SELF, 3)
    bar = holding(SELF, log)
    bar.meets(1, SELF)
    log.append(KIND, b"not ours")
    assert bar.hears_run(1, run_of(log, 3)) == [taken(run_of(log, 3), log, branch=1, parent=0)]
    assert bar.node.frontier.logs[log.log_id].branches[0].head == at(log, 2)


def test_log_of_somebody_else_that_was_restored_goes_on() -> None:
    log = written(AUTHOR, 3)
    bar = holding(SELF, log)
    bar.meets(1, AUTHOR)
    log.append(KIND, b"theirs")
    assert bar.hears_run(1, run_of(log, 3)) == [taken(run_of(log, 3), log)]


# -- News ----------------------------------------------------------------------------------------------------------


def test_news_is_collected_for_a_pause_that_begins_with_the_first_and_told_once() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 4)
    assert bar.node.deadline() is None
    bar.hears_run(1, run_of(log, 0, 1))
    told_at = bar.now + ANNOUNCE_PAUSE_S
    assert bar.node.deadline() == told_at
    assert bar.ticks(ANNOUNCE_PAUSE_S / 2) == []
    assert bar.hears_run(1, run_of(log, 2)) == [taken(run_of(log, 2), log)]
    assert bar.node.deadline() == told_at
    bar.now = told_at
    assert bar.ticks(0) == [announced(2, (log, at(log)))]
    assert bar.node.deadline() is None
    assert bar.ticks(1.0) == []
    assert bar.node.deadline() is None


def test_pause_before_the_next_news_begins_with_that_news() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 4)
    bar.hears_run(1, run_of(log, 0, 1))
    assert bar.ticks(0.5) == [announced(2, (log, at(log, 1)))]
    bar.now += 0.4
    bar.hears_run(1, run_of(log, 2))
    assert bar.node.deadline() == bar.now + ANNOUNCE_PAUSE_S
    assert bar.ticks(0.5) == [announced(2, (log, at(log)))]


def test_news_goes_only_to_those_whose_hello_was_accepted() -> None:
    bar, log = met(AUTHOR), written(AUTHOR, 2)
    bar.does(LinkUp(2, RELAY.certificate))
    bar.hears_run(1, run_of(log))
    assert bar.hears(2, Hello(VENUE.root.venue_id, "north", bar.digest)) == [
        Met(2, RELAY.certificate),
        Said(2, Digest(bar.digest)),
        InStep(2),
    ]
    assert bar.ticks(1.0) == []


def test_many_news_come_in_full_frames_in_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ANNOUNCE_LOGS_PER_FRAME_MAX == 4096
    monkeypatch.setattr("mesh.core.news.ANNOUNCE_LOGS_PER_FRAME_MAX", 2)
    for count, sizes in ((2, [2]), (3, [2, 1]), (5, [2, 2, 1])):
        bar = met(AUTHOR, RELAY)
        logs = [written(AUTHOR, 1, number=number) for number in range(count)]
        for log in logs:
            bar.hears_run(1, run_of(log))
        expected = []
        for size in sizes:
            expected.append(announced(2, *((log, at(log)) for log in logs[:size])))
            logs = logs[size:]
        assert bar.ticks(ANNOUNCE_PAUSE_S) == expected


def test_news_counts_as_a_word_from_us_and_delays_the_keepalive() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 2)
    assert bar.ticks(1.0) == []
    bar.hears_run(1, run_of(log))
    assert bar.ticks(0.25) == [announced(2, (log, at(log)))]
    assert bar.ticks(KEEPALIVE_S - 1.25) == [Said(1, Digest(bar.digest))]
    assert bar.ticks(KEEPALIVE_S - 0.251) == []
    assert bar.ticks(0.001) == [Said(2, Digest(bar.digest))]


def test_peer_that_says_itself_that_it_has_the_head_is_not_told() -> None:
    bar, log = met(AUTHOR, RELAY, OTHER), written(AUTHOR, 2)
    bar.hears_run(1, run_of(log))
    assert bar.hears(2, Announce(((log.log_id, at(log)),))) == []
    assert bar.ticks(1.0) == [announced(3, (log, at(log)))]


def test_peer_that_has_more_of_a_log_is_not_told_of_less_and_is_told_of_more() -> None:
    """Whatever it says or brings after that: what a peer has only grows."""
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 12)
    bar.hears(2, Announce(((log.log_id, at(log, 8)),)))
    bar.hears(2, Announce(((log.log_id, at(log, 1)),)))
    assert bar.hears_run(2, run_of(log, 0, 2)) == [taken(run_of(log, 0, 2), log)]
    bar.hears_run(1, run_of(log, 3, 5))
    assert bar.ticks(0.6) == []
    bar.hears_run(1, run_of(log, 6, 11))
    assert bar.ticks(REMIND_PAUSE_S) == []
    assert bar.ticks(REMIND_PAUSE_S - 0.001) == []
    assert bar.ticks(0.001) == [announced(2, (log, at(log)))]


def test_head_that_a_frontier_names_is_known_of_the_peer() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 6)
    bar.hears(2, Announce(((log.log_id, at(log, 4)),)))
    bar.hears_run(1, run_of(log, 0, 4))
    assert bar.ticks(0.6) == []
    bar.hears_run(1, run_of(log, 5))
    assert bar.ticks(REMIND_PAUSE_S) == []
    assert bar.ticks(REMIND_PAUSE_S - 0.001) == []
    assert bar.ticks(0.001) == [announced(2, (log, at(log)))]


def test_head_of_equal_height_that_is_another_entry_is_news() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 4)
    other = log.fork(3)
    other.append(KIND, b"other")
    bar.hears(2, Announce(((log.log_id, at(other)),)))
    bar.hears_run(1, run_of(log))
    assert bar.ticks(REMIND_PAUSE_S) == []
    assert bar.ticks(REMIND_PAUSE_S) == [announced(2, (log, at(log)))]


def test_peer_of_which_a_run_came_has_its_tip() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 4)
    bar.hears_run(1, run_of(log))
    assert bar.ticks(0.6) == [announced(2, (log, at(log)))]
    bar.hears(1, Want(log.log_id, at(log), ()))
    assert bar.ticks(0.6) == []


# -- Runs ----------------------------------------------------------------------------------------------------------


def test_log_whose_genesis_its_device_did_not_sign_is_not_opened_though_its_tip_is_good() -> None:
    log = written(AUTHOR, 1)
    log.entries[0] = flipped(log.entries[0], -1)
    log.ids[0] = entry_id(log.entries[0])
    log.log_id = log.ids[0][:LOG_ID_BYTES]
    log.append(KIND, b"vouches for its beginning")
    bar = met(AUTHOR)
    answers = bar.hears_run(1, run_of(log))
    assert bar.node.links == {}
    assert len(answers) == 2
    assert bar.node.frontier.logs == {}


def test_run_that_is_taken_in_keeps_the_bytes_that_it_came_in() -> None:
    bar, log = met(AUTHOR), written(AUTHOR, 3)
    (accepted,) = bar.hears_run(1, run_of(log))
    assert accepted == taken(run_of(log), log)
    assert isinstance(accepted, Accepted)
    assert accepted.run.received == run_of(log).blob


def test_no_more_runs_wait_for_the_store_than_their_bound_and_each_answer_makes_room() -> None:
    log = written(AUTHOR, 4)
    bar = holding(SELF, log)
    bar.meets(1, AUTHOR)
    old = run_of(log, 1, 1)
    for token in range(1, COMPARISONS_MAX + 1):
        assert bar.hears_run(1, old) == [ReadBack(token, log.log_id, ((Segment(0, 0, 1),),))]
    assert bar.hears_run(1, old) == []
    assert bar.does(Compared(1, [log.entries[:2]])) == []
    assert bar.hears_run(1, old) == [ReadBack(COMPARISONS_MAX + 1, log.log_id, ((Segment(0, 0, 1),),))]
    assert bar.hears_run(1, old) == []
    assert bar.node.links == {1: AUTHOR.certificate}


def test_entry_that_the_store_shows_to_be_another_is_a_fork_proven_and_told() -> None:
    log = written(AUTHOR, 4)
    other = log.fork(1)
    other.append(KIND, b"other")
    bar = holding(SELF, log)
    bar.meets(1, AUTHOR)
    bar.meets(2, RELAY)
    assert bar.hears_run(1, run_of(other, 1)) == [ReadBack(1, log.log_id, ((Segment(0, 0, 1),),))]
    proof = prove_fork(log.entries[0], log.entries[1], other.entries[1], VENUE.root)
    assert proof is not None
    assert bar.does(Compared(1, [log.entries[:2]])) == [
        taken(run_of(other, 1), log, branch=1, parent=0),
        Contested(log.log_id, 1),
        AppendProof(log.log_id, proof.body),
    ]
    assert bar.ticks(ANNOUNCE_PAUSE_S) == [announced(2, (log, at(other)))]


def test_run_that_arrives_gives_what_else_was_wanted_on_its_link_more_time() -> None:
    bar = met(RELAY, OTHER)
    one, two = written(AUTHOR, 3, number=1), written(AUTHOR, 3, number=2)
    both = Announce(((one.log_id, at(one)), (two.log_id, at(two))))
    want_one, want_two = (Want(log.log_id, at(log), ()) for log in (one, two))
    assert bar.hears(1, both) == [Said(1, want_one), Said(1, want_two)]
    assert bar.hears(2, both) == []
    bar.now += WANT_RETRY_S - 0.5
    bar.hears_run(1, run_of(one))
    bar.ticks(0.5)
    assert bar.node.pending_logs == 1
    assert bar.ticks(WANT_RETRY_S - 0.501) == []
    digest = Digest(bar.digest)
    assert bar.ticks(0.001) == [Said(1, digest), Said(2, digest), Said(2, want_two)]


def test_want_is_over_when_its_target_came_from_somebody_else() -> None:
    bar, log = met(RELAY, AUTHOR), written(AUTHOR, 3)
    bar.hears(1, Announce(((log.log_id, at(log)),)))
    bar.hears_run(2, run_of(log))
    assert bar.node.pending_logs == 0
    assert bar.ticks(WANT_RETRY_S) == [Said(link, Digest(bar.digest)) for link in (1, 2)]


def test_want_of_a_log_that_is_held_in_part_says_what_is_held() -> None:
    bar, log = met(AUTHOR, RELAY), written(AUTHOR, 6)
    bar.hears_run(1, run_of(log, 0, 3))
    assert bar.hears(2, Announce(((log.log_id, at(log)),))) == [
        Said(2, Want(log.log_id, at(log), (at(log, 3), at(log, 0))))
    ]


# -- Trust ---------------------------------------------------------------------------------------------------------


def test_entry_with_a_bad_signature_below_a_good_one_contests_its_log_from_there() -> None:
    bar, log = met(AUTHOR), written(AUTHOR, 4)
    bar.hears_run(1, run_of(log))
    assert bar.does(SignatureFailed(log.log_id, 2)) == [Contested(log.log_id, 2)]
    assert bar.does(SignatureFailed(log.log_id, 3)) == []
    assert bar.does(SignatureFailed(log.log_id, 1)) == [Contested(log.log_id, 1)]
    assert bar.node.contested_from == {log.log_id: 1}


def test_everybody_who_is_revoked_is_closed_at_once_and_served_nothing_of_the_news() -> None:
    first, second = VENUE.device("lost", Role.READER), VENUE.device("found", Role.READER)
    bar = met(first, RELAY, second, first)
    for device, gone, left in ((first, [1, 4], [2, 3]), (second, [3], [2])):
        body = VENUE.revocation(device)
        control = LogWriter(SELF, Lane.CONTROL, number=device.certificate.serial)
        control.append(Kind.REVOCATION, body)
        reason = f"{device.certificate.name} was revoked by the venue's authority"
        assert bar.appends(control) == [
            own(control),
            Revoked(parse_statement(body, VENUE.root)),
            *(answer for link in gone for answer in hung_up(link, reason, blame_peer=True)),
            *(pushed(link, control, 0) for link in left),
        ]
        assert sorted(bar.node.links) == left
    assert bar.node.revocations.serials() == [first.certificate.serial, second.certificate.serial]


def test_what_a_revoked_device_was_asked_for_is_asked_of_the_next_at_once() -> None:
    lost = VENUE.device("lost too", Role.READER)
    bar, log = met(lost, RELAY), written(AUTHOR, 3)
    offer, want = Announce(((log.log_id, at(log)),)), Want(log.log_id, at(log), ())
    assert bar.hears(1, offer) == [Said(1, want)]
    bar.hears(2, offer)
    control = LogWriter(SELF, Lane.CONTROL)
    control.append(Kind.REVOCATION, VENUE.revocation(lost))
    assert bar.appends(control)[-1] == Said(2, want)


def test_device_that_was_revoked_before_is_told_why_and_closed_when_it_comes() -> None:
    lost = VENUE.device("lost before", Role.READER)
    bar = OneNode(SELF)
    body = VENUE.revocation(lost)
    assert bar.node.restore_statement(body) == [Revoked(parse_statement(body, VENUE.root))]
    assert bar.node.restore_statement(body) == []
    reason = "lost before was revoked by the venue's authority"
    assert bar.does(LinkUp(1, lost.certificate)) == hung_up(1, reason, blame_peer=True)
    assert bar.hears(1, Hello(VENUE.root.venue_id, "north", bar.digest)) == []
    assert bar.node.links == {}
    assert lost.certificate.serial in bar.node.revocations
    bar.meets(2, RELAY)


def test_statement_that_is_none_restores_nothing() -> None:
    elsewhere = Venue("Elsewhere")
    bar = OneNode(SELF)
    with pytest.raises(PeerError):
        bar.node.restore_statement(b"\x80")
    with pytest.raises(NotTheAuthority):
        bar.node.restore_statement(elsewhere.revocation(elsewhere.device("bar", Role.READER)))
    assert bar.node.revocations.serials() == []


def test_control_log_that_is_restored_says_again_who_forked_and_who_is_revoked() -> None:
    lost, log = VENUE.device("lost long ago", Role.READER), written(AUTHOR, 3)
    other = log.fork(2)
    other.append(KIND, b"other")
    proof = prove_fork(log.entries[0], log.entries[2], other.entries[2], VENUE.root)
    assert proof is not None
    body = VENUE.revocation(lost)
    control = LogWriter(RELAY, Lane.CONTROL)
    control.append(Kind.FORK_PROOF, proof.body)
    control.append(Kind.REVOCATION, body)
    bar = OneNode(SELF)
    assert bar.node.restore_control(run_of(control)) == [
        Contested(log.log_id, 2),
        Revoked(parse_statement(body, VENUE.root)),
    ]
    assert bar.node.contested_from == {log.log_id: 2}
    assert bar.node.restore_control(run_of(control)) == []


def test_answer_of_the_store_for_a_link_that_is_gone_is_nothing() -> None:
    bar, log = met(AUTHOR), written(AUTHOR, 3)
    bar.hears_run(1, run_of(log))
    bar.does(LinkDown(1))
    assert bar.does(Located(1, log.log_id, (Position(1, bytes(32)),), None)) == []
