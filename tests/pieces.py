"""Logs of filler entries, and checked pieces of them: what a frontier is made of, without nodes and links."""

from __future__ import annotations

from typing import Final

from mesh.core.chain import Genesis, Run, check_run, parse_genesis
from mesh.core.frontier import Frontier, Position
from mesh.core.kinds import Lane
from tests.factory import LogWriter, VenueDevice

FILLER: Final = 999
"""A kind that means nothing to anybody."""


def filled(device: VenueDevice, entries: int, *, number: int = 0, lane: Lane = Lane.MONEY) -> LogWriter:
    """A log of that many entries, genesis included."""
    log = LogWriter(device, lane, number=number)
    for seq in range(1, entries):
        log.append(FILLER, b"%d" % seq)
    return log


def forked(log: LogWriter, at_seq: int, entries: int, text: bytes = b"other") -> LogWriter:
    """The same log up to `at_seq`, where another entry stands, and so on to that many entries altogether."""
    other = log.fork(at_seq)
    for seq in range(at_seq, entries):
        other.append(FILLER, text + b"%d" % seq)
    return other


def part(log: LogWriter, first_seq: int, last_seq: int) -> Run:
    """The entries `first_seq` to `last_seq` as one checked run."""
    return check_run(log.log_id, log.entries[first_seq : last_seq + 1])


def at(log: LogWriter, seq: int) -> Position:
    return Position(seq, log.ids[seq])


def genesis_of(log: LogWriter) -> Genesis:
    return parse_genesis(log.entries[0], log.device.venue.root)


def opened(log: LogWriter) -> Frontier:
    """A frontier that knows the log's genesis and holds nothing of it yet."""
    frontier = Frontier()
    frontier.open_log(log.log_id, genesis_of(log))
    return frontier
