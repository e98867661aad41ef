"""What it costs two nodes to know that they hold the same, and to find one entry among thousands of logs; in bytes.

Everything that a link carries above TLS is counted, in both directions, plans and digests included, until nothing is
said any more and both hold the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pytest

from mesh.core.chain import Genesis
from mesh.core.entry import entry_id
from mesh.core.events import Event, LinkUp, Located, OwnAppended, Received, Send, Serve, Tick
from mesh.core.frontier import Branch, Position
from mesh.core.kinds import Role
from mesh.core.messages import Plan, RunMessage, encode_message
from mesh.core.node import Node
from mesh.limits import KEEPALIVE_S, LINK_SILENCE_S_MAX, ZONE_CHARS_MAX
from tests.factory import LogWriter, Venue, VenueDevice
from tests.one_node import KIND, genesis_of, run_of, written

LOGS: Final = 3000
KEEPALIVE_BYTES_MAX: Final = 64
RECONNECT_BYTES_MAX: Final = 256
ONE_ENTRY_BYTES_MAX: Final = 4096
LINK: Final = 1
ZONE: Final = "z" * ZONE_CHARS_MAX

VENUE: Final = Venue("Bounds")
LEADER, FOLLOWER, AUTHOR = (VENUE.device(name, Role.READER) for name in ("leader", "follower", "author"))
LOG: Final = written(AUTHOR, 40)
GENESIS: Final[Genesis] = genesis_of(LOG)


def node_with(device: VenueDevice, logs: int, *mine: tuple[LogWriter, int]) -> Node:
    """A node as if read from its store: so many logs that nobody looks into, and these, each up to a seq."""
    node = Node(device.certificate, VENUE.root, ZONE)
    for number in range(logs):
        log_id = number.to_bytes(2, "little") * 8
        restore(node, log_id, Position(0, log_id * 2), Position(39, log_id[::-1] * 2))
    for log, seq in mine:
        restore(node, log.log_id, Position(0, log.ids[0]), Position(seq, log.ids[seq]))
    return node


def restore(node: Node, log_id: bytes, first: Position, head: Position) -> None:
    node.restore(log_id, GENESIS, [Branch(0, 0, bytes(32), head, None, True, [first, head])], own=False)


@dataclass
class Wire:
    """Two nodes and the link between them; what one says the other hears a millisecond later."""

    leader: Node
    follower: Node
    now: float = 100.0
    carried: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._on_the_way: list[tuple[Node, Event]] = []

    def meet(self) -> None:
        self.happens(self.leader, LinkUp(LINK, FOLLOWER.certificate))
        self.happens(self.follower, LinkUp(LINK, LEADER.certificate))

    def happens(self, node: Node, event: Event) -> None:
        other = self.follower if node is self.leader else self.leader
        for effect in node.handle(event, self.now):
            match effect:
                case Send(_, data):
                    self._carry(other, data)
                case Serve():
                    self._serve(node, other, effect)
                case _:
                    pass

    def _carry(self, to: Node, data: bytes) -> None:
        self.carried.append(data)
        self._on_the_way.append((to, Received(LINK, data)))

    def _serve(self, node: Node, other: Node, effect: Serve) -> None:
        held = {Position(seq, entry_id(entry)) for seq, entry in enumerate(LOG.entries)}
        after = next((each for each in effect.locator if each in held), None)
        first = effect.segments[0].first_seq if after is None else after.seq + 1
        entries = LOG.entries[first : effect.segments[-1].last_seq + 1]
        if not effect.pushed:
            self._on_the_way.append((node, Located(LINK, effect.log_id, effect.locator, after)))
            self._carry(other, encode_message(Plan(effect.log_id, len(entries), sum(map(len, entries)))))
        self._carry(other, encode_message(RunMessage(effect.log_id, len(entries), run_of(LOG, first).blob)))

    def until_silent(self, seconds: float) -> int:
        """Time passes; returns how many bytes were carried until both were silent."""
        until = self.now + seconds
        while self._on_the_way or self.now < until:
            self.now += 0.001 if self._on_the_way else 0.25
            flying, self._on_the_way = self._on_the_way, []
            for node, event in flying:
                self.happens(node, event)
            if not flying:
                for node in (self.leader, self.follower):
                    self.happens(node, Tick())
        return sum(map(len, self.carried))

    def are_equal(self) -> bool:
        return self.leader.frontier.digest() == self.follower.frontier.digest()


def test_two_equal_nodes_with_three_thousand_logs_meet_again_within_256_bytes() -> None:
    wire = Wire(node_with(LEADER, LOGS), node_with(FOLLOWER, LOGS))
    wire.meet()
    assert wire.until_silent(KEEPALIVE_S - 0.5) <= RECONNECT_BYTES_MAX
    assert len(wire.carried) == 2
    assert wire.are_equal()


@pytest.mark.parametrize("logs", [0, LOGS])
def test_keepalive_takes_no_more_than_64_bytes_whatever_is_held(logs: int) -> None:
    wire = Wire(node_with(LEADER, logs), node_with(FOLLOWER, logs))
    wire.meet()
    wire.until_silent(KEEPALIVE_S - 0.5)
    wire.carried.clear()
    wire.until_silent(4 * KEEPALIVE_S)
    assert 3 * 2 <= len(wire.carried) <= 4 * 2
    assert max(map(len, wire.carried)) <= KEEPALIVE_BYTES_MAX
    assert 3 * KEEPALIVE_S < LINK_SILENCE_S_MAX


@pytest.mark.parametrize(("leaders", "followers"), [(38, 39), (39, 38)], ids=["leader lacks", "follower lacks"])
def test_one_new_entry_among_three_thousand_logs_costs_at_most_4_kb(leaders: int, followers: int) -> None:
    wire = Wire(
        node_with(LEADER, LOGS - 1, (LOG, leaders)),
        node_with(FOLLOWER, LOGS - 1, (LOG, followers)),
    )
    assert not wire.are_equal()
    wire.meet()
    spent = wire.until_silent(KEEPALIVE_S - 0.5)
    assert wire.are_equal()
    assert len(LOG.entries[39]) <= spent <= ONE_ENTRY_BYTES_MAX
    wire.carried.clear()
    assert wire.until_silent(4 * KEEPALIVE_S) <= 4 * 2 * KEEPALIVE_BYTES_MAX


def test_new_entry_on_a_link_in_step_is_pushed_and_nothing_else_is_said() -> None:
    log = written(LEADER, 40)
    wire = Wire(node_with(LEADER, LOGS), node_with(FOLLOWER, LOGS))
    wire.meet()
    wire.until_silent(0.5)
    wire.carried.clear()
    log.append(KIND, bytes(200))
    event = OwnAppended(run_of(log))
    pushed = [effect for effect in wire.leader.handle(event, wire.now) if isinstance(effect, Serve)]
    assert [effect.pushed for effect in pushed] == [True]
    assert wire.until_silent(0.5) == 0
