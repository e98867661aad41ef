"""Carries out what the forwarder decides: read runs here, post them there, publish the receipts that come back.

One task. A service that cannot be reached is tried again with growing pauses; nothing waits for it but this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import trio

from gateway.forward import Batch, Forwarder, LocalHead, Sent
from gateway.receipts import ReceiptsToPublish
from gateway.settlement_api import HeadsAnswer, OfferedRun, ReceiptsAnswer, RunsAnswer
from mesh.core.certificate import VenueRoot
from mesh.core.kinds import Lane
from mesh.core.receipt import verify_receipt
from mesh.errors import PeerError
from mesh.limits import RUN_BYTES_MAX, UPSTREAM_POLL_S


class LocalLogs(Protocol):
    """What is held here."""

    def heads(self) -> list[LocalHead]:
        """Every head of every log."""
        ...

    def lane(self, log_id: bytes) -> Lane | None:
        """The lane of a log that is held here."""
        ...

    async def read(self, target: LocalHead, first_seq: int) -> OfferedRun:
        """A run from `first_seq` on towards the target's head, at least one entry, ending at a verified signature."""
        ...

    async def publish(self, receipt: bytes) -> None:
        """Append a RECEIPT entry to this device's control log."""
        ...


class Upstream(Protocol):
    """The settlement service; errors are `PeerError`."""

    async def heads(self) -> HeadsAnswer: ...

    async def post_runs(self, runs: list[OfferedRun]) -> RunsAnswer: ...

    async def receipts(self, since: int) -> ReceiptsAnswer: ...


@dataclass(slots=True)
class Tally:
    """What was done since the start, in entries; `published` counts receipts."""

    sent: int = 0
    stored: int = 0
    known: int = 0
    set_aside: int = 0
    published: int = 0


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One batch was answered: of `sent` entries `stored` were new to the service."""

    sent: int
    stored: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The service refuses one log; the others go on."""

    log_id: bytes
    sentence: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The service cannot be reached, or refused a whole request; tried again after a pause."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Reached:
    """The service answers (again)."""

    epoch: bytes


@dataclass(frozen=True, slots=True)
class SentAgain:
    """Everything was sent once more: `changed` of `resent` entries were new to the service."""

    resent: int
    changed: int


@dataclass(frozen=True, slots=True)
class Published:
    """Receipts were published as entries of this device."""

    receipts: int


SenderNotice = Forwarded | Refused | Unreachable | Reached | SentAgain | Published


@dataclass(slots=True)
class Sender:
    """Runs until cancelled; see the module's docstring."""

    local: LocalLogs
    upstream: Upstream
    root: VenueRoot
    random: Random
    notify: Callable[[SenderNotice], None]
    now: Callable[[], float] = trio.current_time
    """Seconds on a monotonic clock."""
    tally: Tally = field(default_factory=Tally)
    reached: bool = False
    _forwarder: Forwarder = field(init=False)
    _receipts: ReceiptsToPublish = field(default_factory=ReceiptsToPublish)
    _since: int = 0
    _resend: bool = False
    _wake: trio.Event = field(default_factory=trio.Event)
    _last_trouble: str = ""

    def __post_init__(self) -> None:
        self._forwarder = Forwarder(self.random)

    def resend(self) -> None:
        """Forget what is upstream and send everything again; answered by :class:`SentAgain`."""
        self._resend = True
        self._wake.set()

    def remaining(self) -> int:
        """Entries held here that are not known to be upstream, refused logs left out."""
        return sum(missing.entries for missing in self._forwarder.missing(self.local.heads(), self.now()))

    def refused(self) -> dict[bytes, str]:
        """Logs that the service refuses, and why."""
        return self._forwarder.refused()

    async def run(self) -> None:
        """Forward for ever."""
        while True:
            self._wake = trio.Event()
            pause = await self.round()
            with trio.move_on_after(pause):
                await self._wake.wait()

    async def round(self) -> float:
        """Everything that can be done now: compare, send, fetch receipts; returns how many seconds to wait then."""
        try:
            await self._round()
        except PeerError as error:
            self._trouble(str(error))
            return self._forwarder.failed()
        return UPSTREAM_POLL_S

    async def _round(self) -> None:
        if not self.reached:
            await self._compare()
        heads = self.local.heads()
        await self._send(heads)
        if self._resend:
            await self._send_again(heads)
        await self._fetch_receipts()

    async def _compare(self) -> None:
        answer = await self.upstream.heads()
        if self._forwarder.epoch != answer.epoch:
            self._since = 0
        self._forwarder.compared(answer)
        self.reached, self._last_trouble = True, ""
        self.notify(Reached(answer.epoch))

    async def _send(self, heads: list[LocalHead]) -> None:
        """Send what is missing of `heads`, batch by batch."""
        while missing := self._forwarder.missing(heads, self.now()):
            batch = Batch()
            for one in missing:
                first_seq = one.first_seq
                while first_seq <= one.target.head.seq and batch.room_bytes >= RUN_BYTES_MAX:
                    run = await self.local.read(one.target, first_seq)
                    batch.add(Sent(one.target, first_seq, run))
                    first_seq += run.count
            answer = await self.upstream.post_runs([sent.run for sent in batch.sent])
            progress = self._forwarder.answered(batch.sent, answer.outcomes, self.now())
            self.tally.sent += progress.sent
            self.tally.stored += progress.stored
            self.tally.known += progress.known
            self.tally.set_aside += progress.set_aside
            for log_id, sentence in progress.refused:
                self.notify(Refused(log_id, sentence))
            left = self._forwarder.missing(heads, self.now())
            self.notify(Forwarded(progress.sent, progress.stored, sum(one.entries for one in left)))
            await self._take_receipts(answer.receipts)
            if answer.epoch != self._forwarder.epoch:
                await self._compare()

    async def _send_again(self, heads: list[LocalHead]) -> None:
        """Send what was just sent from its beginning; what has come meanwhile is new, not again."""
        sent, stored = self.tally.sent, self.tally.stored
        self._forwarder.forget()
        await self._send(heads)
        self._forwarder.trust()
        self._resend = False
        self.notify(SentAgain(self.tally.sent - sent, self.tally.stored - stored))

    async def _fetch_receipts(self) -> None:
        more = True
        while more:
            answer = await self.upstream.receipts(self._since)
            if answer.epoch != self._forwarder.epoch:
                await self._compare()
                return
            await self._take_receipts(answer.receipts)
            self._since, more = answer.next_since, answer.more

    async def _take_receipts(self, receipts: tuple[bytes, ...]) -> None:
        now = self.now()
        for data in receipts:
            verified = verify_receipt(data, self.root)
            self._receipts.offer(verified, self.local.lane(verified.receipt.log_id), now)
        due = self._receipts.due(now)
        for data in due:
            await self.local.publish(data)
        if due:
            self.tally.published += len(due)
            self.notify(Published(len(due)))

    def _trouble(self, sentence: str) -> None:
        """Say it once, not at every attempt."""
        self.reached = False
        if sentence != self._last_trouble:
            self._last_trouble = sentence
            self.notify(Unreachable(sentence))
