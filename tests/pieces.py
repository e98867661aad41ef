"""Logs of filler entries, and checked pieces of them: what a frontier is made of, without nodes and links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.core.chain import Genesis, Run, check_run, parse_genesis
from mesh.core.events import Effect
from mesh.core.fork import prove_fork
from mesh.core.frontier import Frontier, Position
from mesh.core.intake import Intake
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


def proof_of(one: LogWriter, other: LogWriter, seq: int) -> bytes:
    """The body of the proof that these two forks of a log differ at `seq`."""
    proof = prove_fork(one.entries[0], one.entries[seq], other.entries[seq], one.device.venue.root)
    assert proof is not None
    return proof.body


class Desk:
    """An intake that knows some logs and holds nothing of them yet; each call returns the effects it had."""

    def __init__(self, *logs: LogWriter) -> None:
        self.frontier = Frontier()
        self.intake = Intake(self.frontier, logs[0].device.venue.root)
        for log in logs:
            self.frontier.open_log(log.log_id, genesis_of(log))

    def take(self, *runs: Run) -> list[Effect]:
        effects: list[Effect] = []
        for run in runs:
            self.intake.take_in(run, effects)
        return effects

    def answer(self, token: int, *entries: Sequence[bytes]) -> list[Effect]:
        """What the store holds of each piece that was asked for."""
        effects: list[Effect] = []
        self.intake.compared(token, entries, effects)
        return effects

    def own(self, run: Run) -> list[Effect]:
        effects: list[Effect] = []
        self.intake.own_appended(run, effects)
        return effects

    def contest(self, log: LogWriter, seq: int) -> list[Effect]:
        effects: list[Effect] = []
        self.intake.contest(log.log_id, seq, effects)
        return effects

    def news(self) -> dict[bytes, Position]:
        """The heads that neighbours should hear of since this was asked last."""
        heads = dict(self.intake.new_heads)
        self.intake.new_heads.clear()
        return heads
