"""What a gateway sends upstream next, and what an answer means. Pure: bytes, time and randomness are arguments.

A gateway holds nothing that only it has. For each branch of each log it keeps a *cursor*: every entry below it is
upstream. Cursors are guesses that the service corrects, and losing them costs nothing but sending again:

* On every connection the service's heads are compared. Where it holds less than a cursor says, or its epoch changed (a
  backup was restored there), the cursor is dropped and that log is sent again from what the service does hold.
* NEED moves a cursor back; REFUSED puts that log aside for a while, by name, and no other.
* Logs take turns, so that one with a long history does not keep the others waiting.

Two gateways may send the same at once: the service counts an entry once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.settlement_api import HeadsAnswer, OfferedRun, Outcome, OutcomeCode
from mesh.core.frontier import Position
from mesh.limits import UPSTREAM_BATCH_BYTES_MAX, UPSTREAM_RETRY_S, UPSTREAM_RETRY_S_MAX, UPSTREAM_RUNS_PER_BATCH_MAX

_RUN_OVERHEAD_BYTES = 32
"""CBOR around one run of a batch: array head, log id, count, length; rounded up."""
_BATCH_OVERHEAD_BYTES = 16


class Randomness(Protocol):
    """What jitter is drawn from: a `random.Random`."""

    def uniform(self, a: float, b: float) -> float: ...


@dataclass(frozen=True, slots=True)
class LocalHead:
    """One head held here. `branch` is the local frontier's number for it and stays when the head moves on."""

    log_id: bytes
    branch: int
    head: Position


@dataclass(frozen=True, slots=True)
class Missing:
    """Entries of one branch that are not upstream yet: `first_seq` up to its head."""

    target: LocalHead
    first_seq: int

    @property
    def entries(self) -> int:
        return self.target.head.seq - self.first_seq + 1


@dataclass(frozen=True, slots=True)
class Sent:
    """One run of a batch, to be matched with its outcome."""

    target: LocalHead
    first_seq: int
    run: OfferedRun

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.run.count - 1


@dataclass(frozen=True, slots=True)
class Progress:
    """What one answer brought."""

    sent: int
    stored: int
    known: int
    set_aside: int
    refused: tuple[tuple[bytes, str], ...]
    """Logs that were refused, and the service's reason."""


@dataclass(slots=True)
class _Refused:
    until: float
    attempts: int
    sentence: str


class Batch:
    """Runs for one POST, within its bounds."""

    def __init__(self, bytes_max: int = UPSTREAM_BATCH_BYTES_MAX) -> None:
        self.sent: list[Sent] = []
        self._left = bytes_max - _BATCH_OVERHEAD_BYTES

    @property
    def room_bytes(self) -> int:
        """How long a blob still fits; not positive when the batch is full."""
        if len(self.sent) >= UPSTREAM_RUNS_PER_BATCH_MAX:
            return 0
        return self._left - _RUN_OVERHEAD_BYTES

    def add(self, sent: Sent) -> None:
        """Add a run of at most `room_bytes`."""
        assert len(sent.run.blob) <= self.room_bytes, "the caller checks that the run fits"
        self._left -= len(sent.run.blob) + _RUN_OVERHEAD_BYTES
        self.sent.append(sent)


class Forwarder:
    """The cursors, and the rules by which they move."""

    def __init__(self, random: Randomness) -> None:
        self._random = random
        self._epoch: bytes | None = None
        self._heads: dict[bytes, tuple[Position, ...]] = {}
        self._cursors: dict[tuple[bytes, int], int] = {}
        self._refused: dict[bytes, _Refused] = {}
        self._served: dict[bytes, int] = {}
        """When a log last had its turn: the number of the batch."""
        self._batches = 0
        self._failures = 0
        self._from_the_beginning = False

    # -- Comparing -------------------------------------------------------------------------------------------------

    def compared(self, answer: HeadsAnswer) -> bool:
        """Take in what the service holds; True if it holds less than it was known to: everything is looked at anew."""
        heads = {log.log_id: log.heads for log in answer.logs}
        new_life = self._epoch is not None and answer.epoch != self._epoch
        lost = [key for key, cursor in self._cursors.items() if new_life or _lacks(heads.get(key[0], ()), cursor)]
        for key in lost:
            del self._cursors[key]
        if new_life:
            self._refused.clear()
        self._epoch, self._heads = answer.epoch, {} if self._from_the_beginning else heads
        return bool(lost)

    def forget(self) -> None:
        """Believe nothing to be upstream: everything is sent again from the beginning of every log.

        Until :meth:`trust` the service's heads are not believed either.
        """
        self._from_the_beginning = True
        self._cursors.clear()
        self._heads.clear()
        self._refused.clear()

    def trust(self) -> None:
        """Believe the service's heads again."""
        self._from_the_beginning = False

    @property
    def epoch(self) -> bytes | None:
        """The service's epoch as last seen."""
        return self._epoch

    # -- Sending ---------------------------------------------------------------------------------------------------

    def missing(self, local: Iterable[LocalHead], now: float) -> list[Missing]:
        """What is to be sent, in this order. Refused logs are left out until their time comes."""
        found = [
            Missing(target, cursor)
            for target in local
            if (cursor := self._cursor(target)) <= target.head.seq and not self._waits(target.log_id, now)
        ]
        return sorted(found, key=lambda m: (self._served.get(m.target.log_id, -1), m.target.log_id, m.target.branch))

    def answered(self, sent: Sequence[Sent], outcomes: Sequence[Outcome], now: float) -> Progress:
        """Move the cursors by one answer. `outcomes` are in the order of `sent`."""
        self._failures = 0
        self._batches += 1
        refused: dict[bytes, str] = {}
        for one, outcome in zip(sent, outcomes, strict=True):
            self._served[one.target.log_id] = self._batches
            key = (one.target.log_id, one.target.branch)
            match outcome.code:
                case OutcomeCode.ACCEPTED:
                    self._cursors[key] = max(self._cursors.get(key, 0), one.last_seq + 1)
                    self._refused.pop(one.target.log_id, None)
                case OutcomeCode.NEED if one.first_seq > 0:
                    self._cursors[key] = min(outcome.need_from, one.first_seq - 1)
                case OutcomeCode.NEED:
                    refused[one.target.log_id] = "the service asks for what comes before the beginning of the log"
                case OutcomeCode.REFUSED:
                    refused[one.target.log_id] = outcome.sentence
        for log_id, sentence in refused.items():
            self._put_aside(log_id, sentence, now)
        return Progress(
            sent=sum(one.run.count for one in sent),
            stored=sum(outcome.stored for outcome in outcomes),
            known=sum(outcome.known for outcome in outcomes),
            set_aside=sum(outcome.set_aside for outcome in outcomes),
            refused=tuple(refused.items()),
        )

    def failed(self) -> float:
        """The service could not be reached, or broke off: how many seconds to wait before trying again."""
        self._failures += 1
        return self._pause(self._failures)

    def refused(self) -> dict[bytes, str]:
        """Logs that the service refuses at the moment, and why."""
        return {log_id: refused.sentence for log_id, refused in self._refused.items()}

    def _cursor(self, target: LocalHead) -> int:
        key = (target.log_id, target.branch)
        cursor = self._cursors.get(key)
        if cursor is None:
            cursor = self._cursors[key] = _guess(self._heads.get(target.log_id, ()), target.head)
        return cursor

    def _waits(self, log_id: bytes, now: float) -> bool:
        refused = self._refused.get(log_id)
        return refused is not None and now < refused.until

    def _put_aside(self, log_id: bytes, sentence: str, now: float) -> None:
        before = self._refused.get(log_id)
        attempts = 1 if before is None else before.attempts + 1
        self._refused[log_id] = _Refused(now + self._pause(attempts), attempts, sentence)

    def _pause(self, attempts: int) -> float:
        """Exponential, with jitter so that many gateways do not come back together."""
        longest = min(UPSTREAM_RETRY_S_MAX, UPSTREAM_RETRY_S * 2.0 ** min(attempts - 1, 16))
        return longest * self._random.uniform(0.5, 1.0)


def _guess(heads: Sequence[Position], head: Position) -> int:
    """Where to begin, from the service's heads alone; whether they lie on our chain only the service can say."""
    if head in heads:
        return head.seq + 1
    if any(other.seq >= head.seq for other in heads):
        # It holds more than we do, or a fork: our last entry alone will tell.
        return head.seq
    return 1 + max((other.seq for other in heads), default=-1)


def _lacks(heads: Sequence[Position], cursor: int) -> bool:
    """Whether a service with these heads can not hold every entry below `cursor`."""
    return cursor > 1 + max((head.seq for head in heads), default=-1)
