"""Two nodes know within a round trip that they hold the same, and say no more than that takes."""

from __future__ import annotations

from collections import Counter

import pytest

from mesh.core.chain import check_run
from mesh.core.events import Event, InStep, LinkUp, OwnAppended, Received, Send, Serve, Tick
from mesh.core.kinds import Kind, Role
from mesh.core.messages import Message, RunMessage, encode_message
from mesh.core.node import Node
from mesh.core.session import Session
from mesh.limits import KEEPALIVE_S
from tests.factory import LogWriter, Venue, VenueDevice

LINK = 1
ROUNDS_MAX = 100


class Pair:
    """Two nodes on one link; what one sends the other receives in the next round, a millisecond later."""

    def __init__(self, venue: Venue) -> None:
        self.devices = [venue.device("bar A", Role.READER), venue.device("bar B", Role.READER)]
        self.nodes = [Node(device.certificate, venue.root, "north") for device in self.devices]
        self.logs: dict[bytes, LogWriter] = {}
        self.now = 100.0
        self.sent: Counter[str] = Counter()
        self.in_step = [0, 0]
        self._on_the_way: list[list[bytes]] = [[], []]
        self._sniffers = [Session(venue.root.venue_id), Session(venue.root.venue_id)]

    def appends(self, who: int, log: LogWriter) -> None:
        """All that is new of a log is on its author's disk."""
        self.logs[log.log_id] = log
        state = self.nodes[who].frontier.logs.get(log.log_id)
        first = 0 if state is None else state.branches[0].head.seq + 1
        self.happens(who, OwnAppended(check_run(log.log_id, log.entries[first:])))

    def meet(self) -> None:
        for who in (0, 1):
            self.happens(who, LinkUp(LINK, self.devices[1 - who].certificate))

    def happens(self, who: int, event: Event) -> None:
        for effect in self.nodes[who].handle(event, self.now):
            match effect:
                case Send(_, data):
                    self._on_the_way[who].append(data)
                case Serve(_, log_id, segments, _, _, _):
                    for piece in self.logs[log_id].runs(segments[0].first_seq):
                        self._on_the_way[who].append(encode_message(RunMessage(*piece)))
                case InStep():
                    self.in_step[who] += 1
                case _:
                    pass

    def until_silent(self) -> None:
        for _ in range(ROUNDS_MAX):
            flying, self._on_the_way = self._on_the_way, [[], []]
            if not any(flying):
                return
            self.now += 0.001
            for sender in (0, 1):
                for data in flying[sender]:
                    self._count(sender, data)
                    self.happens(1 - sender, Received(LINK, data))
        raise AssertionError(f"two nodes are still talking after {ROUNDS_MAX} rounds: {self.sent}")

    def ticks(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.25
            for who in (0, 1):
                self.happens(who, Tick())
            self.until_silent()

    def _count(self, sender: int, data: bytes) -> None:
        message: Message
        for message in self._sniffers[sender].receive(data):
            self.sent[type(message).__name__] += 1


def _log(device: VenueDevice, entries: int, number: int = 0) -> LogWriter:
    log = LogWriter(device, number=number)
    for index in range(entries):
        log.append(Kind.TAP, b"tap %d" % index)
    return log


@pytest.mark.parametrize(("of_a", "of_b"), [(0, 0), (3, 0), (3, 5)])
def test_both_ends_learn_that_they_are_in_step_without_waiting_for_a_keepalive(of_a: int, of_b: int) -> None:
    pair = Pair(Venue())
    for who, count in enumerate((of_a, of_b)):
        for number in range(count):
            pair.appends(who, _log(pair.devices[who], 4, number))
    pair.meet()
    pair.until_silent()
    assert pair.nodes[0].frontier.digest() == pair.nodes[1].frontier.digest()
    assert pair.in_step == [1, 1]
    assert pair.sent["Digest"] <= 2
    assert pair.sent["Buckets"] <= 2


def test_nodes_that_hold_the_same_exchange_nothing_but_a_hello() -> None:
    pair = Pair(Venue())
    pair.meet()
    pair.until_silent()
    assert pair.sent == {"Hello": 2}


def test_entries_appended_while_in_step_cause_no_digests_until_the_keepalive() -> None:
    pair = Pair(Venue())
    log = _log(pair.devices[0], 1)
    pair.appends(0, log)
    pair.meet()
    pair.until_silent()
    before = pair.sent["Digest"]
    for index in range(50):
        log.append(Kind.TAP, b"live %d" % index)
        pair.appends(0, log)
        pair.until_silent()
    assert pair.sent["Digest"] == before
    assert pair.in_step == [1, 1]
    pair.ticks(2 * KEEPALIVE_S)
    assert pair.nodes[0].frontier.digest() == pair.nodes[1].frontier.digest()
    assert pair.sent["Digest"] > before
    assert pair.sent["Buckets"] <= 2


def test_appends_during_catching_up_do_not_start_a_storm_of_comparisons() -> None:
    pair = Pair(Venue())
    log = _log(pair.devices[0], 1)
    pair.appends(0, log)
    pair.meet()
    for index in range(50):
        log.append(Kind.TAP, b"live %d" % index)
        pair.appends(0, log)
    pair.until_silent()
    pair.ticks(3.0)
    assert pair.nodes[0].frontier.digest() == pair.nodes[1].frontier.digest()
    assert pair.in_step == [1, 1]
    assert pair.sent["Buckets"] <= 2 + 3  # one each at the hello, then at most one a second
    assert pair.sent["Digest"] <= 10
