"""What a node answers to links and to messages about what others hold: every effect, with every field, in order."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest

from mesh.core.catching_up import COMPARE_PAUSE_S
from mesh.core.comparing import LOGS_PER_FRAME as FRONTIER_LOGS_PER_FRAME
from mesh.core.events import (
    Close,
    InStep,
    LinkDown,
    LinkUp,
    Met,
    Moved,
    Received,
)
from mesh.core.frontier import LogSummary
from mesh.core.kinds import Role
from mesh.core.messages import (
    Announce,
    BucketLogs,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    RunMessage,
    Tell,
    Want,
    encode_message,
)
from mesh.core.node import UnwantedRun, WrongZone
from mesh.limits import BUCKETS_COUNT, KEEPALIVE_S, LINK_SILENCE_S_MAX
from tests.factory import LogWriter, Venue
from tests.one_node import OneNode, Said, at, holding, hung_up, run_of, taken, written

VENUE: Final = Venue("Exact")
SELF, AUTHOR, RELAY, OTHER = (VENUE.device(name, Role.READER) for name in ("this one", "author", "relay", "other"))
COURIER: Final = VENUE.device("courier", Role.COURIER)
LATER: Final = b"\x07" * 32
"""A digest of somebody who holds something else."""


def hello(zone: str = "north", digest: bytes = LATER) -> Hello:
    return Hello(VENUE.root.venue_id, zone, digest)


# -- Links ---------------------------------------------------------------------------------------------------------


def test_new_link_hears_who_we_are_and_carries_nothing_before_the_answer() -> None:
    bar = holding(SELF, written(AUTHOR, 3))
    assert bar.does(LinkUp(1, RELAY.certificate)) == [Said(1, hello(digest=bar.digest))]
    assert bar.node.links == {}
    assert bar.hears(1, hello(digest=bar.digest)) == [Met(1, RELAY.certificate), InStep(1)]
    assert bar.node.links == {1: RELAY.certificate}


def test_peer_that_holds_something_else_gets_our_bucket_digests_at_once() -> None:
    bar = holding(SELF, written(AUTHOR, 3))
    bar.does(LinkUp(1, RELAY.certificate))
    ours = Buckets(tuple(bar.node.frontier.bucket_digests()))
    assert bar.hears(1, hello()) == [Met(1, RELAY.certificate), Said(1, ours)]


def test_peer_of_another_zone_is_told_why_and_closed() -> None:
    bar = OneNode(SELF, "north")
    bar.does(LinkUp(1, RELAY.certificate))
    reason = str(WrongZone("a 'north' node takes zone 'south' only from couriers and gateways"))
    assert bar.hears(1, hello("south", bar.digest)) == hung_up(1, reason, blame_peer=True)
    assert bar.node.links == {}
    assert bar.hears(1, Digest(LATER)) == []


def test_courier_links_zones_unless_it_is_bound_to_the_one_that_it_is_in() -> None:
    for bound, peer, met in ((False, RELAY, True), (True, RELAY, False), (True, COURIER, True)):
        courier = OneNode(COURIER, "north")
        courier.node.zone_bound = bound or courier.node.zone_bound
        courier.does(LinkUp(1, peer.certificate))
        courier.hears(1, hello("south", courier.digest))
        assert (1 in courier.node.links) == met


def test_device_that_is_bound_keeps_its_other_roles() -> None:
    both = VENUE.device("both", Role.COURIER, Role.GATEWAY)
    bar = OneNode(both, "north")
    bar.node.zone_bound = True
    bar.meets(1, RELAY, "south")


def test_device_that_was_carried_leaves_everybody_without_blame_and_names_its_new_zone() -> None:
    bar = OneNode(SELF, "north")
    bar.meets(1, RELAY)
    bar.meets(2, OTHER)
    reason = "this device was carried to another zone"
    assert bar.does(Moved("south")) == [
        *hung_up(1, reason, blame_peer=False),
        *hung_up(2, reason, blame_peer=False),
    ]
    assert bar.node.links == {}
    assert bar.does(LinkUp(3, OTHER.certificate)) == [Said(3, hello("south", bar.digest))]
    assert bar.hears(3, hello("south", bar.digest)) == [Met(3, OTHER.certificate), InStep(3)]


def test_peer_that_says_goodbye_is_closed_without_blame_and_without_an_answer() -> None:
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    assert bar.hears(1, Bye("closing time")) == [Close(1, "the peer said: closing time", blame_peer=False)]
    assert bar.node.links == {}
    assert bar.ticks(LINK_SILENCE_S_MAX + 1) == []


def test_goodbye_that_would_move_a_terminals_cursor_is_shown_without_what_does() -> None:
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    shown = "the peer said: över [2J  and out"
    assert bar.hears(1, Bye("över\x1b[2J\r\nand\x00out")) == [Close(1, shown, blame_peer=False)]


def test_what_follows_a_goodbye_in_the_same_bytes_is_not_looked_at() -> None:
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    data = encode_message(Digest(LATER)) + encode_message(Bye("enough"))
    ours = Buckets(tuple(bar.node.frontier.bucket_digests()))
    assert bar.does(Received(1, data)) == [Said(1, ours), Close(1, "the peer said: enough", blame_peer=False)]


def test_rest_of_the_bytes_of_a_peer_that_broke_a_rule_is_not_looked_at() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 2)
    bar.meets(1, RELAY)
    run = run_of(log)
    unwanted = encode_message(RunMessage(log.log_id, 2, run.blob))
    reason = str(UnwantedRun("a run that was neither asked for nor is its author's own"))
    assert bar.does(Received(1, unwanted + encode_message(Digest(LATER)))) == hung_up(1, reason, blame_peer=True)
    assert bar.hears(1, Announce(((log.log_id, at(log)),))) == []
    assert bar.node.pending_logs == 0


def test_link_that_went_down_is_forgotten_with_what_it_was_asked_for() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 4)
    bar.meets(1, RELAY)
    bar.meets(2, OTHER)
    offer = Announce(((log.log_id, at(log)),))
    assert bar.hears(1, offer) == [Said(1, Want(log.log_id, at(log), ()))]
    assert bar.hears(2, offer) == []
    assert bar.does(LinkDown(1)) == [Said(2, Want(log.log_id, at(log), ()))]
    assert bar.node.links == {2: OTHER.certificate}
    assert bar.does(LinkDown(2)) == []
    assert bar.node.pending_logs == 0
    assert bar.ticks(LINK_SILENCE_S_MAX + 1) == []


def test_link_that_was_closed_here_may_go_down_afterwards() -> None:
    bar = OneNode(SELF)
    bar.meets(1, RELAY)
    bar.hears(1, Bye("closing time"))
    assert bar.does(LinkDown(1)) == []
    assert bar.does(LinkDown(1)) == []


def test_link_that_went_down_while_it_was_catching_up_is_told_nothing_more() -> None:
    bar = holding(SELF, written(AUTHOR, 3))
    bar.does(LinkUp(1, AUTHOR.certificate))
    assert len(bar.hears(1, hello())) == 2
    assert bar.does(LinkDown(1)) == []
    bar.appends(written(SELF, 2))
    assert bar.ticks(COMPARE_PAUSE_S) == []


def test_bytes_that_complete_a_frame_are_asked_for_and_no_fewer() -> None:
    bar = OneNode(SELF)
    assert bar.node.wanted_bytes(1) == 1
    bar.does(LinkUp(1, RELAY.certificate))
    data = encode_message(hello(digest=bar.digest))
    assert bar.node.wanted_bytes(1) == 4
    bar.does(Received(1, data[:3]))
    assert bar.node.wanted_bytes(1) == 1
    bar.does(Received(1, data[3:6]))
    assert bar.node.wanted_bytes(1) == len(data) - 6
    assert bar.node.wanted_bytes(2) == 1


# -- Time ----------------------------------------------------------------------------------------------------------


def test_link_lives_through_exactly_the_longest_silence_and_no_longer() -> None:
    bar = OneNode(SELF)
    bar.does(LinkUp(1, RELAY.certificate))
    assert bar.ticks(LINK_SILENCE_S_MAX) == []
    assert bar.ticks(0.001) == hung_up(1, "nothing heard for too long", blame_peer=False)
    assert bar.ticks(LINK_SILENCE_S_MAX) == []


def test_anything_heard_keeps_a_link_and_silence_of_one_ends_no_other() -> None:
    bar = OneNode(SELF)
    for link, peer in ((1, RELAY), (2, OTHER), (3, AUTHOR)):
        bar.does(LinkUp(link, peer.certificate))
    bar.now += 3.0
    data = encode_message(hello(digest=bar.digest))
    assert bar.does(Received(1, data[:2])) == []
    assert bar.does(Received(3, data[:2])) == []
    assert bar.ticks(2.001) == hung_up(2, "nothing heard for too long", blame_peer=False)
    bar.now = 107.999
    assert bar.ticks(0.001) == []
    assert bar.ticks(0.001) == [
        *hung_up(1, "nothing heard for too long", blame_peer=False),
        *hung_up(3, "nothing heard for too long", blame_peer=False),
    ]


def test_quiet_link_hears_our_digest_after_exactly_a_keepalive_and_again_after_another() -> None:
    bar = holding(SELF, written(AUTHOR, 2))
    bar.meets(1, RELAY)
    bar.does(LinkUp(2, OTHER.certificate))
    digest = Said(1, Digest(bar.digest))
    assert bar.ticks(KEEPALIVE_S - 0.001) == []
    assert bar.ticks(0.001) == [digest]
    assert bar.ticks(KEEPALIVE_S - 0.001) == []
    assert bar.ticks(0.001) == [digest]


def test_silent_link_that_is_dropped_does_not_keep_the_next_one_from_its_keepalive() -> None:
    bar = OneNode(SELF)
    bar.does(LinkUp(1, RELAY.certificate))
    bar.now += 11.0
    bar.meets(2, OTHER)
    assert bar.ticks(KEEPALIVE_S) == [
        *hung_up(1, "nothing heard for too long", blame_peer=False),
        Said(2, Digest(bar.digest)),
    ]


# -- Comparing -----------------------------------------------------------------------------------------------------


def test_digest_that_differs_starts_one_comparison_a_second() -> None:
    bar = holding(SELF, written(AUTHOR, 2))
    bar.meets(1, RELAY)
    ours = Said(1, Buckets(tuple(bar.node.frontier.bucket_digests())))
    assert bar.hears(1, Digest(LATER)) == [ours]
    assert bar.hears(1, Digest(LATER)) == []
    assert bar.ticks(COMPARE_PAUSE_S - 0.001) == []
    assert bar.ticks(0.001) == [ours]
    digest = Said(1, Digest(bar.digest))
    assert bar.ticks(KEEPALIVE_S - COMPARE_PAUSE_S) == [digest]
    assert bar.ticks(COMPARE_PAUSE_S) == []
    assert bar.hears(1, Digest(bar.digest)) == [InStep(1)]
    assert bar.hears(1, Digest(bar.digest)) == []


def test_digest_that_differs_starts_a_comparison_at_the_end_with_the_smaller_serial_only() -> None:
    leader, follower = holding(SELF, written(AUTHOR, 2)), holding(OTHER, written(AUTHOR, 2))
    assert SELF.certificate.serial < OTHER.certificate.serial
    leader.meets(1, OTHER)
    follower.meets(1, SELF)
    for bar, answers in (
        (leader, [Said(1, Buckets(tuple(leader.node.frontier.bucket_digests())))]),
        (follower, []),
    ):
        assert bar.hears(1, Digest(LATER)) == answers
        assert bar.hears(1, Digest(LATER)) == []
        assert bar.ticks(COMPARE_PAUSE_S) == answers


def test_two_devices_with_one_certificate_compare_as_well() -> None:
    """A key was copied: neither end has the smaller serial, and what both wrote has to meet all the same."""
    bar = holding(SELF, written(AUTHOR, 2))
    bar.meets(1, SELF)
    assert bar.hears(1, Digest(LATER)) == [Said(1, Buckets(tuple(bar.node.frontier.bucket_digests())))]


def test_peer_that_came_up_to_us_hears_our_new_digest_before_both_are_in_step() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 3)
    empty = bar.digest
    bar.meets(1, AUTHOR)
    assert bar.hears_run(1, run_of(log)) == [taken(run_of(log), log)]
    assert bar.digest != empty
    assert bar.hears(1, Digest(bar.digest)) == []
    ours = Said(1, Buckets(tuple(bar.node.frontier.bucket_digests())))
    assert bar.hears(1, Digest(LATER)) == [ours, Said(1, Digest(bar.digest))]
    assert bar.hears(1, Digest(bar.digest)) == [InStep(1)]


def test_digests_wait_for_what_is_wanted_but_not_past_the_next_tick() -> None:
    bar, log = OneNode(SELF), written(AUTHOR, 3)
    bar.meets(1, RELAY)
    bar.hears(1, Announce(((log.log_id, at(log)),)))
    ours = Said(1, Buckets(tuple(bar.node.frontier.bucket_digests())))
    assert bar.hears(1, Digest(LATER)) == [ours]
    assert bar.hears(1, Digest(bar.digest)) == []
    assert bar.ticks(0.25) == [InStep(1)]


def test_equal_buckets_are_answered_with_nothing() -> None:
    bar = holding(SELF, *(written(AUTHOR, 2, number=number) for number in range(3)))
    bar.meets(1, RELAY)
    equal = Buckets(tuple(bar.node.frontier.bucket_digests()))
    assert bar.hears(1, equal) == []


def test_buckets_that_differ_are_answered_with_the_digests_of_their_logs_only_in_order() -> None:
    logs = [written(AUTHOR, 2, number=number) for number in range(9)]
    bar = holding(SELF, *logs)
    bar.meets(1, RELAY)
    equal = bar.node.frontier.bucket_digests()
    chosen = {log.log_id[0] % BUCKETS_COUNT for log in logs[:3]}
    theirs = [bytes(16) if index in chosen else digest for index, digest in enumerate(equal)]
    expected = sorted(
        (log for log in logs if log.log_id[0] % BUCKETS_COUNT in chosen),
        key=lambda log: (log.log_id[0] % BUCKETS_COUNT, log.log_id),
    )
    digests = tuple(log_digest(log) for log in expected)
    assert len(digests) < 9
    assert bar.hears(1, Buckets(tuple(theirs))) == [Said(1, BucketLogs(frozenset(chosen), digests))]


def log_digest(log: LogWriter) -> bytes:
    """Of a log that is held whole, on one branch."""
    return hashlib.sha256(log.log_id + b"H" + log.head_id).digest()[:16]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_long_frontier_that_was_asked_about_comes_in_full_parts(
    count: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FRONTIER_LOGS_PER_FRAME == 1024
    monkeypatch.setattr("mesh.core.comparing.LOGS_PER_FRAME", 3)
    logs = [written(AUTHOR, 1, number=number) for number in range(count)]
    bar = holding(SELF, *logs)
    bar.meets(1, RELAY)
    parts = []
    stranger = b"not known here. "
    for answer in bar.hears(1, Tell((stranger, *map(log_digest, logs)))):
        assert isinstance(answer, Said) and isinstance(answer.message, FrontierPart) and answer.link == 1
        parts.append(answer.message)
    assert [len(part.logs) for part in parts] == sizes
    told = [summary for part in parts for summary in part.logs]
    expected = [LogSummary(log.log_id, (at(log),), ()) for log in logs]
    assert sorted(told, key=lambda summary: summary.log_id) == sorted(expected, key=lambda summary: summary.log_id)
