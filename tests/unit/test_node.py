"""One node and peers that a test moves by hand: what it asks for, what it refuses, and whom it blames."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mesh.core.chain import parse_genesis
from mesh.core.events import Close, LinkUp, Received
from mesh.core.frontier import Branch, Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import (
    Announce,
    BucketLogs,
    Buckets,
    Bye,
    Digest,
    Hello,
    Message,
    Missing,
    Plan,
    RunMessage,
    Want,
    encode_message,
)
from mesh.core.news import REMIND_PAUSE_S
from mesh.core.node import Node
from mesh.limits import (
    BRANCHES_PER_LOG_MAX,
    KEEPALIVE_S,
    LINK_SILENCE_S_MAX,
    WANT_RETRY_S,
    WANTS_IN_FLIGHT_PER_LINK_MAX,
)
from tests.factory import LogWriter, Venue
from tests.harness import Mote, Puppet, World, runs_of
from tests.vectors.make import flipped

VENUE = Venue()
SELF, AUTHOR, RELAY, OTHER_RELAY = (
    VENUE.device(name, Role.READER) for name in ("this one", "author", "relay", "other relay")
)
KIND = 99


def written(count: int, *, number: int = 0, lane: Lane = Lane.MONEY) -> LogWriter:
    log = LogWriter(AUTHOR, lane, number=number)
    for _ in range(count - 1):
        log.append(KIND, b"")
    return log


def head_of(log: LogWriter) -> Position:
    return Position(log.head_seq, log.head_id)


def of(kind: type[Message], heard: Sequence[Message]) -> list[Message]:
    return [message for message in heard if isinstance(message, kind)]


@pytest.fixture
def mote() -> Mote:
    return World().join(SELF)


def held(mote: Mote, log: LogWriter) -> int:
    """How many entries of a log the store has."""
    return len(mote.store.entries(log.log_id))


def served(mote: Mote, log: LogWriter) -> Puppet:
    """A relay that announced the log and was asked for it."""
    relay = Puppet(mote, RELAY)
    relay.say(Announce(((log.log_id, head_of(log)),)))
    assert of(Want, relay.heard()) == [Want(log.log_id, head_of(log), ())]
    return relay


# -- What is taken, and from whom ----------------------------------------------------------------------------------


def test_author_pushes_its_own_run_unasked(mote: Mote) -> None:
    log = written(4)
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(log)[0])
    assert held(mote, log) == 4
    assert author.connected


def test_run_that_was_neither_asked_for_nor_is_its_authors_closes_the_link(mote: Mote) -> None:
    log = written(4)
    relay = Puppet(mote, RELAY)
    relay.send_run(runs_of(log)[0])
    assert not relay.connected
    assert mote.closed[-1].blame_peer
    assert "neither asked for" in mote.closed[-1].reason
    assert held(mote, log) == 0
    assert isinstance(relay.heard()[-1], Bye)


def test_late_answer_to_an_old_want_is_no_offence(mote: Mote) -> None:
    log = written(4)
    relay = served(mote, log)
    mote.world.tick(WANT_RETRY_S + 1)
    relay.send_run(runs_of(log)[0])
    relay.send_run(runs_of(log)[0])
    assert relay.connected
    assert held(mote, log) == 4


def test_piece_of_a_log_whose_beginning_is_not_held_closes_the_link(mote: Mote) -> None:
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(written(4), 2)[0])
    assert not author.connected
    assert "beginning" in mote.closed[-1].reason


@pytest.mark.proves("S1.11")
def test_run_with_a_forged_tip_closes_the_link_and_leaves_nothing_behind(mote: Mote) -> None:
    log = written(4)
    log.entries[3] = flipped(log.entries[3], -1)
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(log)[0])
    assert not author.connected
    assert (held(mote, log), mote.node.frontier.logs) == (0, {})


@pytest.mark.proves("M7")
def test_log_of_another_venue_closes_the_link(mote: Mote) -> None:
    stranger = LogWriter(Venue("Elsewhere").device("bar", Role.READER))
    relay = Puppet(mote, RELAY)
    relay.say(Announce(((stranger.log_id, head_of(stranger)),)))
    relay.send_run(runs_of(stranger)[0])
    assert not relay.connected
    assert mote.node.frontier.logs == {}


@pytest.mark.proves("S1.15")
def test_same_run_again_changes_nothing(mote: Mote) -> None:
    log = written(6)
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(log)[0])
    before = mote.node.frontier.digest()
    for first in range(6):
        for last in range(first, 6):
            author.send_run(runs_of(log, first, last)[0])
            while mote.questions:
                mote.answer()
    assert author.connected
    assert (mote.node.frontier.digest(), held(mote, log)) == (before, 6)


# -- Wants ---------------------------------------------------------------------------------------------------------


def test_announcer_that_never_serves_loses_its_place_and_the_entry_arrives_from_another(mote: Mote) -> None:
    log = written(3)
    liar = served(mote, log)
    relay = Puppet(mote, OTHER_RELAY)
    relay.say(Announce(((log.log_id, head_of(log)),)))
    assert of(Want, relay.heard()) == []
    mote.world.tick(WANT_RETRY_S)
    assert of(Want, relay.heard()) == [Want(log.log_id, head_of(log), ())]
    relay.send_run(runs_of(log)[0])
    assert held(mote, log) == 3
    assert liar.connected
    mote.world.tick(WANT_RETRY_S)
    assert of(Want, liar.heard()) == []


def test_want_says_what_is_held_at_growing_distances(mote: Mote) -> None:
    log = written(100)
    Puppet(mote, AUTHOR).send_run(runs_of(log, 0, 39)[0])
    for run in runs_of(log, 40, 80, length=1):
        Puppet(mote, AUTHOR).send_run(run)
    relay = Puppet(mote, RELAY)
    relay.say(Announce(((log.log_id, head_of(log)),)))
    (want,) = of(Want, relay.heard())
    assert isinstance(want, Want)
    seqs = [position.seq for position in want.locator]
    assert seqs[0] == 80
    assert seqs[-1] == 0
    assert seqs == sorted(seqs, reverse=True)
    assert len(seqs) <= 12
    assert all(log.ids[position.seq] == position.id for position in want.locator)


def test_answer_starts_after_the_highest_entry_that_both_have(mote: Mote) -> None:
    log = written(20)
    Puppet(mote, AUTHOR).send_run(runs_of(log)[0])
    relay = Puppet(mote, RELAY)
    relay.heard()
    stranger = Position(15, bytes(32))
    relay.say(Want(log.log_id, head_of(log), (stranger, Position(12, log.ids[12]), Position(0, log.ids[0]))))
    heard = relay.heard()
    (plan,) = of(Plan, heard)
    assert isinstance(plan, Plan)
    assert (plan.entries, plan.bytes) == (7, sum(map(len, log.entries[13:])))
    assert sum(run.count for run in heard if isinstance(run, RunMessage)) == 7
    assert of(Want, heard) == [Want(log.log_id, stranger, tuple(mote.node.frontier.logs[log.log_id].locator()))]


def test_want_of_something_that_is_not_held_is_answered_as_missing(mote: Mote) -> None:
    relay = Puppet(mote, RELAY)
    target = Position(3, bytes(32))
    relay.say(Want(bytes(16), target, ()))
    assert Missing(bytes(16), target) in relay.heard()


def test_more_wants_than_an_honest_peer_keeps_open_close_the_link(mote: Mote) -> None:
    log = written(2)
    Puppet(mote, AUTHOR).send_run(runs_of(log)[0])
    greedy = Puppet(mote, RELAY)
    for _ in range(WANTS_IN_FLIGHT_PER_LINK_MAX + 1):
        greedy.say(Want(log.log_id, head_of(log), ()))
    assert not greedy.connected
    assert mote.closed[-1].blame_peer


# -- Comparing -----------------------------------------------------------------------------------------------------


def big_node(logs: int) -> Node:
    """A node that holds many logs of 40 entries each, as if read from its store."""
    node = Node(SELF.certificate, VENUE.root, "")
    genesis = parse_genesis(written(1).entries[0], VENUE.root)
    for number in range(logs):
        log_id = number.to_bytes(2, "little") * 8
        tips = [Position(0, log_id * 2), Position(39, log_id[::-1] * 2)]
        node.restore(log_id, genesis, [Branch(0, 0, bytes(32), tips[-1], None, True, tips)], own=False)
    return node


def test_nodes_with_three_thousand_equal_logs_say_hello_and_nothing_else(mote: Mote) -> None:
    mote.node = big_node(3000)
    twin = big_node(3000)
    peer = Puppet(mote, RELAY, hello=False)
    peer.say(Hello(VENUE.root.venue_id, "", twin.frontier.digest()))
    mote.world.tick()
    assert [type(message) for message in peer.heard()] == [Hello]


def test_one_log_among_three_thousand_that_differs_costs_its_bucket(mote: Mote) -> None:
    mote.node = big_node(3000)
    twin = big_node(2999)
    peer = Puppet(mote, RELAY, hello=False)
    peer.say(Hello(VENUE.root.venue_id, "", twin.frontier.digest()))
    peer.say(Buckets(tuple(twin.frontier.bucket_digests())))
    heard = peer.heard()
    (answer,) = of(BucketLogs, heard)
    assert isinstance(answer, BucketLogs)
    assert answer.buckets == {2999 % 256 % 64}
    assert len(answer.digests) == len(set(answer.digests)) == 47
    assert sum(len(encode_message(message)) for message in heard) < 2048


@pytest.mark.proves("B2")
def test_fork_of_equal_height_shows_in_the_digest() -> None:
    log = written(3)
    branch = log.fork(2)
    branch.append(KIND, b"other")
    digests = set()
    for version in (log, branch):
        mote = World().join(SELF)
        Puppet(mote, AUTHOR).send_run(runs_of(version)[0])
        digests.add(mote.node.frontier.digest())
    assert len(digests) == 2


def test_digest_does_not_depend_on_the_order_in_which_logs_came() -> None:
    logs = [written(3, number=number) for number in range(5)]
    digests = set()
    for order in (logs, logs[::-1]):
        mote = World().join(SELF)
        for log in order:
            Puppet(mote, AUTHOR).send_run(runs_of(log)[0])
        digests.add(mote.node.frontier.digest())
    assert len(digests) == 1


def test_news_of_one_log_is_coalesced_and_not_sent_back_where_it_came_from(mote: Mote) -> None:
    log = written(5)
    author, relay = Puppet(mote, AUTHOR), Puppet(mote, RELAY)
    author.heard()
    relay.heard()
    for run in runs_of(log, length=1):
        author.send_run(run)
    mote.world.tick()
    assert of(Announce, relay.heard()) == [Announce(((log.log_id, head_of(log)),))]
    assert of(Announce, author.heard()) == []


def test_who_brings_a_long_log_is_not_told_of_each_piece_of_it(mote: Mote) -> None:
    log = written(9)
    relay = served(mote, log)
    for run in runs_of(log, length=3)[:2]:
        relay.send_run(run)
        mote.world.tick()
    assert relay.heard() == []
    other = Puppet(mote, OTHER_RELAY)
    other.say(Announce(((log.log_id, Position(2, runs_of(log, length=3)[0].tip_id)),)))
    relay.send_run(runs_of(log, length=3)[2])
    mote.world.tick()
    assert of(Announce, relay.heard()) == []
    assert of(Announce, other.heard()) == []
    mote.world.tick(REMIND_PAUSE_S)
    mote.world.tick(REMIND_PAUSE_S)
    assert of(Announce, relay.heard()) == []
    assert of(Announce, other.heard()) == [Announce(((log.log_id, head_of(log)),))]


def test_shorter_branch_of_a_forked_log_is_told_to_who_knows_the_longer_one(mote: Mote) -> None:
    log = written(9)
    fork = log.fork(3)
    fork.append(KIND, b"another")
    relay = served(mote, log)
    relay.send_run(runs_of(log)[0])
    mote.world.tick()
    relay.heard()
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(fork)[0])
    settle(mote)
    mote.world.tick()
    told = [head for heard in relay.heard() if isinstance(heard, Announce) for _, head in heard.heads]
    assert head_of(fork) in told


def test_own_entries_are_pushed_to_whoever_has_what_they_follow(mote: Mote) -> None:
    relay = Puppet(mote, RELAY)
    relay.heard()
    log = mote.open_log()
    mote.append(log, KIND, b"first")
    runs = of(RunMessage, relay.heard())
    assert [run.count for run in runs if isinstance(run, RunMessage)] == [1, 1]


# -- Links ---------------------------------------------------------------------------------------------------------


def test_what_a_peer_says_when_it_leaves_moves_no_cursor(mote: Mote) -> None:
    mote.node.handle(LinkUp(9, RELAY.certificate), 0.0)
    hello = encode_message(Hello(VENUE.root.venue_id, "", bytes(32)))
    heard = mote.node.handle(Received(9, hello + encode_message(Bye("gone\x1b[2J\r\nREADY"))), 0.0)
    assert [effect.reason for effect in heard if isinstance(effect, Close)] == ["the peer said: gone [2J  READY"]


def test_silent_peer_is_dropped_without_blame(mote: Mote) -> None:
    peer = Puppet(mote, RELAY)
    mote.world.tick(LINK_SILENCE_S_MAX + 0.1)
    assert not peer.connected
    assert not mote.closed[-1].blame_peer


def test_quiet_link_is_kept_alive_with_digests(mote: Mote) -> None:
    peer = Puppet(mote, RELAY)
    peer.heard()
    mote.world.tick(KEEPALIVE_S)
    assert peer.heard() == [Digest(mote.node.frontier.digest())]


def test_reader_takes_another_zone_only_from_couriers_and_gateways() -> None:
    mote = World().join(SELF, "north")
    assert not Puppet(mote, RELAY, "south").connected
    assert Puppet(mote, RELAY, "north").connected
    for role in (Role.COURIER, Role.GATEWAY):
        assert Puppet(mote, VENUE.device(role.value, role), "south").connected


def test_bytes_on_a_link_that_is_gone_are_ignored(mote: Mote) -> None:
    peer = Puppet(mote, RELAY)
    peer.leave()
    peer.say(Digest(bytes(32)))
    assert mote.closed == []


# -- Forks ---------------------------------------------------------------------------------------------------------


def settle(mote: Mote) -> None:
    while mote.questions:
        mote.answer()


@pytest.mark.proves("B2")
@pytest.mark.parametrize("longer", [0, 1, 5])
def test_fork_is_kept_proven_and_contested_closes_no_link_and_stalls_no_other_log(mote: Mote, longer: int) -> None:
    log = written(4)
    branch = log.fork(2)
    for _ in range(2 + longer):
        branch.append(KIND, b"other")
    author, relay = Puppet(mote, AUTHOR), Puppet(mote, RELAY)
    for version in (log, branch):
        author.send_run(runs_of(version)[0])
    settle(mote)
    assert (held(mote, log), mote.contested) == (len({*log.entries, *branch.entries}), {log.log_id: 2})
    assert [proof.log_id for proof in mote.proofs] == [log.log_id]
    log.append(KIND, b"goes on")
    author.send_run(runs_of(log, 4)[0])
    other = written(3, number=1)
    author.send_run(runs_of(other)[0])
    assert held(mote, log) == len({*log.entries, *branch.entries})
    assert held(mote, other) == 3
    assert author.connected
    assert relay.connected


@pytest.mark.proves("B2")
def test_proof_in_anybodys_control_log_contests_a_log_that_is_not_even_held(mote: Mote) -> None:
    log, branch = written(3), written(2)
    branch.append(KIND, b"other")
    witness = World().join(RELAY)
    Puppet(witness, AUTHOR).send_run(runs_of(log)[0])
    Puppet(witness, AUTHOR).send_run(runs_of(branch)[0])
    settle(witness)
    control = LogWriter(OTHER_RELAY, Lane.CONTROL)
    control.append(Kind.FORK_PROOF, witness.proofs[0].body)
    Puppet(mote, OTHER_RELAY).send_run(runs_of(control)[0])
    assert mote.contested == {log.log_id: 2}
    assert mote.proofs == []


def test_false_proof_accuses_nobody_and_closes_no_link(mote: Mote) -> None:
    control = LogWriter(RELAY, Lane.CONTROL)
    control.append(Kind.FORK_PROOF, b"\x80")
    relay = Puppet(mote, RELAY)
    relay.send_run(runs_of(control)[0])
    assert mote.contested == {}
    assert relay.connected
    assert "proves nothing" in mote.notes[-1]


@pytest.mark.proves("B2")
def test_author_of_more_branches_than_are_kept_stops_neither_node_nor_link(mote: Mote) -> None:
    log = written(3)
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(log)[0])
    for number in range(BRANCHES_PER_LOG_MAX + 3):
        branch = log.fork(2)
        branch.append(KIND, bytes([number]))
        author.send_run(runs_of(branch)[0])
        settle(mote)
    assert len(mote.node.frontier.logs[log.log_id].branches) == BRANCHES_PER_LOG_MAX
    assert author.connected
    assert "branches" in mote.notes[-1]
    other = written(2, number=1)
    author.send_run(runs_of(other)[0])
    assert held(mote, other) == 2


@pytest.mark.proves("B2")
def test_fork_below_all_that_are_kept_is_proven_to_those_who_never_see_its_branch() -> None:
    """Otherwise two devices would not agree for ever on which sales of the liar count."""
    world = World()
    one, other = world.join(SELF), world.join(RELAY)
    log = written(20)
    kept = [log.fork(15) for _ in range(BRANCHES_PER_LOG_MAX - 1)]
    for number, branch in enumerate(kept):
        branch.append(KIND, bytes([number]))
    lowest = log.fork(4)
    lowest.append(KIND, b"one more than is kept")
    for mote, branches in ((one, [log, *kept, lowest]), (other, [log, *kept])):
        author = Puppet(mote, AUTHOR)
        for branch in branches:
            author.send_run(runs_of(branch)[0])
            world.settle()
        author.leave()
    assert (one.contested, other.contested) == ({log.log_id: 4}, {log.log_id: 15})
    world.connect(one, other)
    world.settle()
    assert other.contested == {log.log_id: 4}
    assert [len(mote.proofs) for mote in (one, other)] == [2, 1]


def test_run_over_two_islands_convicts_nobody(mote: Mote) -> None:
    log = written(12)
    author = Puppet(mote, AUTHOR)
    for first, last in ((0, 1), (8, 9), (4, 5)):
        author.send_run(runs_of(log, first, last)[0])
    assert len(mote.node.frontier.logs[log.log_id].islands()) == 2
    author.send_run(runs_of(log)[0])
    settle(mote)
    assert (mote.contested, mote.proofs, held(mote, log)) == ({}, [], 12)
    assert mote.node.frontier.logs[log.log_id].heads() == [head_of(log)]
    assert mote.node.frontier.logs[log.log_id].islands() == []


def test_gap_before_an_island_is_asked_for(mote: Mote) -> None:
    log = written(10)
    author, relay = Puppet(mote, AUTHOR), Puppet(mote, RELAY)
    author.send_run(runs_of(log, 0, 1)[0])
    author.send_run(runs_of(log, 6, 9)[0])
    relay.heard()
    relay.say(Announce(((log.log_id, head_of(log)),)))
    (want,) = of(Want, relay.heard())
    assert isinstance(want, Want)
    assert want.locator[0] == Position(1, log.ids[1])


def test_island_with_a_bad_signature_inside_is_not_kept(mote: Mote) -> None:
    log = written(4)
    log.append_forged(KIND, b"")
    log.append(KIND, b"vouches")
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(log, 0, 1)[0])
    author.send_run(runs_of(log, 3)[0])
    assert held(mote, log) == 2
    assert "bad signature at seq 4" in mote.notes[-1]
    assert author.connected


@pytest.mark.proves("B2")
def test_device_whose_key_somebody_else_signs_with_goes_on_selling(mote: Mote) -> None:
    log = mote.open_log()
    thief = log.fork()
    thief.append(KIND, b"not ours")
    Puppet(mote, SELF).send_run(runs_of(thief, 1)[0])
    mote.append(log, KIND, b"ours")
    settle(mote)
    assert mote.contested == {log.log_id: 1}
    assert len(mote.node.frontier.logs[log.log_id].heads()) == 2


@pytest.mark.parametrize(
    "pieces", [((4, 5), (4, 7)), ((4, 5), (6, 7)), ((4, 7), (4, 5)), ((2, 5), (3, 7)), ((4, 4), (4, 4))]
)
def test_what_somebody_else_signs_with_a_devices_key_is_kept_by_it_once(
    mote: Mote, pieces: Sequence[tuple[int, int]]
) -> None:
    log = mote.open_log()
    for _ in range(3):
        mote.append(log, KIND, b"sold here")
    clone = log.fork()
    for _ in range(4):
        clone.append(KIND, b"sold with a copy of the key")
    relay = Puppet(mote, RELAY)
    relay.say(Announce(((log.log_id, head_of(clone)),)))
    last = max(last for _, last in pieces)
    for first, until in pieces:
        (run,) = runs_of(clone, first, until)
        relay.send_run(run)
        mote.world.settle()
    assert sorted(mote.store.entries(log.log_id)) == sorted(clone.entries[: last + 1])
    assert len(mote.node.frontier.logs[log.log_id].branches) == 2
    mote.append(log, KIND, b"and goes on")
    for first, until in pieces:
        relay.send_run(runs_of(clone, first, until)[0])
        mote.world.settle()
    assert sorted(mote.store.entries(log.log_id)) == sorted([*clone.entries[: last + 1], log.entries[4]])


def test_bad_signature_found_later_contests_the_log_from_there(mote: Mote) -> None:
    log = written(2)
    log.append_forged(KIND, b"")
    log.append(KIND, b"vouches")
    mote.world.forged[log.log_id] = [2]
    author = Puppet(mote, AUTHOR)
    author.send_run(runs_of(log)[0])
    assert mote.contested == {}
    mote.verify_everything()
    assert mote.contested == {log.log_id: 2}
    assert author.connected
