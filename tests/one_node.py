"""One node, moved event by event: everything it answers, in order, with what it sends as messages instead of bytes.

::

    bar = OneNode(venue.device("bar", Role.READER), "north")
    bar.meets(1, venue.device("till", Role.TILL))
    assert bar.hears(1, Want(log_id, target, ())) == [Said(1, Missing(log_id, target))]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from mesh.core.chain import Genesis, Run, check_run, encode_run, parse_genesis
from mesh.core.events import Accepted, Close, Effect, Event, InStep, LinkUp, Met, OwnAppended, Received, Send, Tick
from mesh.core.frontier import Branch, Position
from mesh.core.kinds import Lane
from mesh.core.messages import Bye, Hello, Message, RunMessage, decode_message, encode_message
from mesh.core.node import Node
from tests.factory import LogWriter, VenueDevice


@dataclass(frozen=True)
class Said:
    """A message that is sent on a link."""

    link: int
    message: Message


Answer: TypeAlias = Effect | Said


class OneNode:
    """The node of one device, at a time that only the test moves."""

    def __init__(self, device: VenueDevice, zone: str = "north", *, now: float = 100.0) -> None:
        self.venue = device.venue
        self.node = Node(device.certificate, device.venue.root, zone)
        self.now = now

    @property
    def digest(self) -> bytes:
        return self.node.frontier.digest()

    def does(self, event: Event) -> list[Answer]:
        return [_readable(effect) for effect in self.node.handle(event, self.now)]

    def hears(self, link: int, message: Message) -> list[Answer]:
        return self.does(Received(link, encode_message(message)))

    def hears_run(self, link: int, run: Run) -> list[Answer]:
        return self.hears(link, RunMessage(run.log_id, len(run.entries), encode_run(run.entries)))

    def meets(self, link: int, peer: VenueDevice, zone: str = "north") -> None:
        """A link to a peer that holds the same at this moment."""
        self.does(LinkUp(link, peer.certificate))
        hello = Hello(self.venue.root.venue_id, zone, self.digest)
        assert self.hears(link, hello) == [Met(link, peer.certificate), InStep(link)]

    def ticks(self, seconds: float) -> list[Answer]:
        """A tick after that much time."""
        self.now += seconds
        return self.does(Tick())

    def appends(self, log: LogWriter, first_seq: int = 0) -> list[Answer]:
        """Everything of a log of this device from `first_seq` on came onto its disk."""
        return self.does(OwnAppended(run_of(log, first_seq)))


def _readable(effect: Effect) -> Answer:
    match effect:
        case Send(link, data):
            assert int.from_bytes(data[:4], "big") == len(data) - 4
            return Said(link, decode_message(data[4:]))
        case _:
            return effect


KIND: Final = 99
"""A kind that nobody knows: entries of it cost nothing to make and mean nothing."""


def written(device: VenueDevice, count: int, *, number: int = 0, lane: Lane = Lane.MONEY) -> LogWriter:
    """A log of so many entries, its genesis included."""
    log = LogWriter(device, lane, number=number)
    for _ in range(count - 1):
        log.append(KIND, b"")
    return log


def holding(device: VenueDevice, *logs: LogWriter) -> OneNode:
    """A node that has read these logs from its store, whole."""
    bar = OneNode(device)
    for log in logs:
        tips = [at(log, 0), at(log)] if log.head_seq else [at(log)]
        branch = Branch(0, 0, bytes(32), at(log), None, attached=True, tips=tips)
        bar.node.restore(log.log_id, genesis_of(log), [branch], own=log.device is device)
    return bar


def run_of(log: LogWriter, first_seq: int = 0, last_seq: int | None = None) -> Run:
    """One checked run over part of a log."""
    return check_run(log.log_id, log.entries[first_seq : None if last_seq is None else last_seq + 1])


def at(log: LogWriter, seq: int = -1) -> Position:
    """The position of one entry of a log; of its head unless told otherwise."""
    return Position(seq % len(log.ids), log.ids[seq])


def genesis_of(log: LogWriter) -> Genesis:
    return parse_genesis(log.entries[0], log.device.venue.root)


def taken(run: Run, log: LogWriter, *, branch: int = 0, parent: int | None = None) -> Accepted:
    """What a node says of a run that it took in from a peer, attached to the beginning of its log."""
    return Accepted(
        run, branch, genesis_of(log), on_disk=False, attached=True, parent=parent, signatures_verified=False
    )


def hung_up(link: int, reason: str, *, blame_peer: bool) -> list[Answer]:
    """How a node ends a link: the peer is told why, then it is closed."""
    return [Said(link, Bye(reason)), Close(link, reason, blame_peer)]
