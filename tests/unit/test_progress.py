"""How far a node and its peers are, as people who wait are told."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.events import LinkDown, LinkUp
from mesh.core.frontier import LogSummary
from mesh.core.kinds import Lane, Role
from mesh.core.messages import Announce, Buckets, Digest, FrontierPart, Hello, Missing, Plan
from mesh.core.progress import PLAN_PATIENCE_S, Amount, Coming, NodeStatus, PeerProgress
from mesh.core.progress import Missing as Lacking
from tests.factory import Venue
from tests.one_node import OneNode, at, holding, run_of, written

VENUE: Final = Venue()
BAR: Final = VENUE.device("bar", Role.READER)
TILL: Final = VENUE.device("till", Role.TILL)
COURIER: Final = VENUE.device("courier", Role.COURIER)
LOG: Final = written(BAR, 10)
SHORT: Final = written(BAR, 3, number=1)
CONTROL: Final = written(TILL, 4, lane=Lane.CONTROL)
NOTHING: Final = Amount(0, 0)


def status(node: OneNode) -> NodeStatus:
    return node.node.status(node.now)


def peer(node: OneNode, link: int = 1) -> PeerProgress:
    (found,) = [peer for peer in status(node).peers if peer.link == link]
    return found


def newcomer() -> OneNode:
    """A courier that holds nothing, linked to a till and a bar that hold nothing either so far."""
    node = OneNode(COURIER)
    node.meets(1, TILL)
    node.meets(2, BAR)
    return node


def test_peer_that_told_our_digest_holds_what_we_hold() -> None:
    node = holding(COURIER, LOG, CONTROL)
    node.meets(1, TILL)
    assert status(node).entries == 14
    assert (peer(node).in_step, peer(node).they_lack, peer(node).we_lack) == (True, NOTHING, NOTHING)


def test_peer_in_step_lacks_what_came_here_since_until_it_says_that_it_has_it() -> None:
    node = holding(COURIER, SHORT, CONTROL)
    node.meets(1, TILL)
    node.meets(2, BAR)
    node.hears_run(2, run_of(LOG, 0, 4))
    assert (peer(node, 1).in_step, peer(node, 1).they_lack) == (False, Amount(1, 5))
    assert peer(node, 2).they_lack == NOTHING, "it brought them"
    node.hears(1, Announce(((LOG.log_id, at(LOG, 3)),)))
    assert peer(node, 1).they_lack == Amount(1, 1)
    node.hears(1, Digest(node.digest))
    assert (peer(node, 1).in_step, peer(node, 1).they_lack) == (True, NOTHING)


def test_peer_that_came_with_nothing_lacks_everything() -> None:
    node = holding(COURIER, LOG, CONTROL)
    empty = OneNode(TILL)
    node.does(LinkUp(1, TILL.certificate))
    node.hears(1, Hello(VENUE.root.venue_id, "north", empty.digest))
    assert peer(node).they_lack == Amount(2, 14)
    node.hears(1, FrontierPart((LogSummary(LOG.log_id, (at(LOG, 6),), ()),)))
    assert peer(node).they_lack == Amount(2, 3 + 4)


def test_equal_bucket_says_that_nothing_of_it_is_lacking() -> None:
    node = holding(COURIER, LOG, CONTROL)
    assert LOG.log_id[0] % 64 != CONTROL.log_id[0] % 64, "two buckets, or this says nothing"
    node.does(LinkUp(1, TILL.certificate))
    node.hears(1, Hello(VENUE.root.venue_id, "north", bytes(32)))
    digests = node.node.frontier.bucket_digests()
    digests[LOG.log_id[0] % 64] = bytes(16)
    node.hears(1, Buckets(tuple(digests)))
    assert peer(node).they_lack == Amount(1, 10)


def test_what_is_known_to_exist_is_named_with_who_has_it_until_it_is_held() -> None:
    node = newcomer()
    node.hears(1, Announce(((LOG.log_id, at(LOG, 5)),)))
    node.hears(2, Announce(((LOG.log_id, at(LOG, 9)),)))
    assert status(node).missing == (Lacking(LOG.log_id, -1, 9, (1, 2)),)
    assert status(node).missing[0].entries == 10
    assert (peer(node, 1).we_lack, peer(node, 2).we_lack) == (Amount(1, 10), Amount(1, 10))
    node.hears_run(1, run_of(LOG, 0, 5))
    assert status(node).missing == (Lacking(LOG.log_id, 5, 9, (2,)),)
    node.hears_run(2, run_of(LOG, 6))
    assert status(node).missing == ()
    assert (status(node).entries, status(node).logs) == (10, 1)


def test_liar_that_cannot_serve_what_it_told_is_not_waited_for() -> None:
    node = newcomer()
    node.hears(1, Announce(((LOG.log_id, at(LOG)),)))
    node.hears(1, Missing(LOG.log_id, at(LOG)))
    assert status(node).missing == ()


@pytest.mark.proves("B4")
def test_plan_counts_down_as_its_runs_arrive() -> None:
    node = newcomer()
    node.hears(1, Announce(((LOG.log_id, at(LOG)),)))
    assert status(node).coming == Coming(0, 0), "nobody said how much it is"
    run = run_of(LOG, 0, 5)
    rest = run_of(LOG, 6)
    node.hears(1, Plan(LOG.log_id, 10, len(run.blob) + len(rest.blob)))
    assert status(node).coming == Coming(10, len(run.blob) + len(rest.blob))
    node.hears_run(1, run)
    assert (peer(node, 1).coming, peer(node, 2).coming) == (Coming(4, len(rest.blob)), Coming(0, 0))
    node.hears_run(1, rest)
    assert status(node).coming == Coming(0, 0)


def test_plan_of_a_peer_that_falls_silent_is_not_counted_for_ever() -> None:
    node = newcomer()
    node.hears(1, Announce(((LOG.log_id, at(LOG)),)))
    node.hears(1, Plan(LOG.log_id, 2**62, 2**62))
    assert status(node).coming.entries == 2**62
    node.now += PLAN_PATIENCE_S + 0.1
    assert status(node).coming == Coming(0, 0)


def test_plan_ends_with_its_link() -> None:
    node = newcomer()
    node.hears(1, Announce(((LOG.log_id, at(LOG)),)))
    node.hears(1, Plan(LOG.log_id, 10, 3000))
    node.does(LinkDown(1))
    assert (status(node).coming, status(node).missing, len(status(node).peers)) == (Coming(0, 0), (), 1)


def test_plan_that_nobody_asked_for_is_not_believed() -> None:
    node = newcomer()
    node.hears(1, Plan(LOG.log_id, 10, 3000))
    assert status(node).coming == Coming(0, 0)
