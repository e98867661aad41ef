"""The settlement service of a world, and the gateways that forward to it: real ledger, real sender, virtual time.

The ledger is the product's, in SQLite on a simulated disk whose power can be cut inside a transaction. HTTP and TLS are
left to the system tests; requests and answers here are the same values.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.forward import LocalHead
from gateway.sender import Forwarded, Refused, Sender, SenderNotice, SentAgain
from gateway.settlement.service import bad_signatures, receipt_for
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement.store import HeadState
from gateway.settlement_api import HeadsAnswer, OfferedRun, OutcomeCode, ReceiptsAnswer, RunsAnswer
from mesh.core.entry import SIGNATURE_BYTES
from mesh.core.kinds import Kind, Lane
from mesh.core.receipt import decode_receipt, sign_receipt
from mesh.errors import PeerError, StorageError
from mesh.limits import RECEIPTS_PER_ANSWER_MAX, VERIFY_ENTRIES_PER_STEP_MAX
from mesh.shell.pieces import take_piece
from mesh.testing.clock import Clock
from mesh.testing.disk import Disk, DiskVfs, Fate, simulated_disk
from mesh.testing.process import Process
from mesh.testing.venue import VenueDevice
from mesh.testing.waiting import Until, drive

TRIP_S: Final = (0.02, 0.15)
"""One way between a gateway and the service, over the venue's uplink."""
GIVES_UP_S: Final = 3.0
"""After this long without an answer a gateway calls the service unreachable."""
VERIFY_PAUSE_S: Final = 0.2


Forge = Callable[[bytes], bytes]
"""From a true receipt to one that says more."""
SAYS_MORE: Final = 1000


class Unreachable(PeerError):
    """The service did not answer."""


class Settlement:
    """The service: its ledger and its disk, up or down."""

    def __init__(
        self, clock: Clock, chance: random.Random, enrolled: VenueDevice, directory: Path, *, power_cuts: bool
    ) -> None:
        """With `power_cuts` the ledger lies on a simulated disk, which is slower."""
        self.clock = clock
        self.enrolled = enrolled
        self.ledger: SqliteLedger | None = None
        self.power_cuts = 0
        self.power_went: Callable[[], None] = lambda: None
        """Told when it did: asked for is not happened."""
        self.restores = 0
        self._random = chance
        self._path = directory / "settlement.db"
        self._open = ExitStack()
        self._vfs: DiskVfs | None = self._open.enter_context(simulated_disk()) if power_cuts else None
        self._disk = Disk(seed=chance.getrandbits(32))
        self._verifying = False
        self._off_s = 0.0
        self.signed: set[bytes] = set()
        """SHA-256 of each receipt that the service has signed."""
        self.forges: deque[Forge] = deque()
        """What somebody on the uplink makes of the receipts in the next answers."""
        if self._vfs is not None:
            self._vfs.insert(self._disk)
        self.start()

    def start(self) -> None:
        """Open the ledger from what the disk holds."""
        if self.ledger is None:
            vfs = None if self._vfs is None else self._vfs.name
            root = self.enrolled.venue.root
            self.ledger = SqliteLedger(self._path, root, vfs=vfs, random_bytes=self._random.randbytes)
            self._verify_soon()

    def close(self) -> None:
        """The end of the world."""
        if self.ledger is not None:
            self.ledger.close()
        self._open.close()

    def cut_power(self, off_s: float) -> None:
        """The power goes inside one of the next transactions, and comes back later."""
        if self._vfs is None or self.ledger is None or self._disk.is_off:
            return
        self._disk.cut_power_in(self._random.randint(1, 12))
        self._off_s = off_s

    def _dies(self) -> None:
        assert self._vfs is not None and self.ledger is not None
        self.ledger.close()
        self.ledger = None
        self.power_cuts += 1
        self.power_went()
        fate = self._random.choice(list(Fate))
        image = self._disk.after_power_cut(fate)
        self._disk = Disk(image, seed=self._random.getrandbits(32))
        self._vfs.insert(self._disk)
        self.clock.after(self._off_s, self.start)

    # -- Answers ---------------------------------------------------------------------------------------------------

    def heads(self) -> HeadsAnswer:
        ledger = self._ledger()
        return HeadsAnswer(ledger.epoch, tuple(ledger.heads()))

    def post_runs(self, runs: list[OfferedRun]) -> RunsAnswer:
        ledger = self._ledger()
        try:
            outcomes = ledger.accept(runs)
        except StorageError as error:
            self._dies()
            raise Unreachable("the service's power went") from error
        self._verify_soon()
        accepted = [run.log_id for run, o in zip(runs, outcomes, strict=True) if o.code is OutcomeCode.ACCEPTED]
        states = ledger.head_states(accepted[:RECEIPTS_PER_ANSWER_MAX])[:RECEIPTS_PER_ANSWER_MAX]
        return RunsAnswer(ledger.epoch, tuple(outcomes), self._sign(states))

    def receipts(self, since: int) -> ReceiptsAnswer:
        ledger = self._ledger()
        changes = ledger.changes(since, RECEIPTS_PER_ANSWER_MAX)
        return ReceiptsAnswer(ledger.epoch, changes.next_since, changes.more, self._sign(changes.heads))

    def _ledger(self) -> SqliteLedger:
        if self.ledger is None:
            raise Unreachable("the service is down")
        return self.ledger

    def _sign(self, states: tuple[HeadState, ...] | list[HeadState]) -> tuple[bytes, ...]:
        assert self.ledger is not None
        epoch, der = self.ledger.epoch, self.enrolled.certificate.der
        receipts = tuple(sign_receipt(self.enrolled.sign, receipt_for(state, epoch, der)) for state in states)
        self.signed.update(hashlib.sha256(receipt).digest() for receipt in receipts)
        return receipts

    def _verify_soon(self) -> None:
        if not self._verifying:
            self._verifying = True
            self.clock.after(VERIFY_PAUSE_S, self._verify)

    def _verify(self) -> None:
        self._verifying = False
        if self.ledger is None:
            return
        try:
            while (work := self.ledger.next_unverified(VERIFY_ENTRIES_PER_STEP_MAX)) is not None:
                self.ledger.mark_verified(work, bad_signatures(work.first_seq, work.entries, work.log_key))
        except StorageError:
            self._dies()


def forged_receipt(true: bytes, impostor: VenueDevice | None) -> bytes:
    """A receipt for entries that the service never saw: under the true one's signature, or signed by an impostor."""
    receipt = decode_receipt(true)
    more = replace(
        receipt,
        head_seq=receipt.head_seq + SAYS_MORE,
        count=receipt.count + SAYS_MORE,
        sum_minor=receipt.sum_minor + SAYS_MORE,
        verified_up_to=receipt.verified_up_to + SAYS_MORE,
    )
    if impostor is not None:
        return sign_receipt(impostor.sign, replace(more, certificate=impostor.certificate.der))
    return sign_receipt(lambda domain, message: true[-SIGNATURE_BYTES:], more)


@dataclass(slots=True)
class GatewayCounts:
    """What a gateway did."""

    stored: int = 0
    known: int = 0
    refused: int = 0
    resent: int = 0
    changed_by_resending: int = 0


class Gateway:
    """The sender of one gateway's process; it ends with it. Implements `LocalLogs` and `Upstream`."""

    def __init__(
        self,
        process: Process,
        settlement: Settlement,
        chance: random.Random,
        reaches: Callable[[], bool],
        poll_s: float,
    ) -> None:
        self.counts = GatewayCounts()
        self._process = process
        self._clock = process.world.clock
        self._settlement = settlement
        self._random = chance
        self._reaches = reaches
        self._poll_s = poll_s
        self.withholds: Callable[[bytes], bool] | None = None
        """Which logs a dishonest gateway does not forward; None in an honest one."""
        self.sender = Sender(self, Line(self, settlement), process.root, chance, self._told, lambda: self._clock.now)
        self._round()

    def _round(self) -> None:
        drive(self.sender.round(), lambda: self._process.alive, self._wait)

    def _wait(self, pause_s: float) -> None:
        self._clock.after(max(pause_s, self._poll_s), self._round_if_alive)

    def _round_if_alive(self) -> None:
        if self._process.alive:
            self._round()

    def _told(self, notice: SenderNotice) -> None:
        match notice:
            case Forwarded(_, stored, _):
                self.counts.stored += stored
            case Refused():
                self.counts.refused += 1
            case SentAgain(resent, changed):
                self.counts.resent += resent
                self.counts.changed_by_resending += changed
            case _:
                pass

    def remaining(self) -> int:
        """Entries held here that are not known to be upstream."""
        return self.sender.remaining()

    async def trip(self) -> None:
        """One way over the uplink; raises :class:`Unreachable` where it is down."""
        if not self._reaches():
            await Until(lambda resume: self._clock.after(GIVES_UP_S, resume))
            raise Unreachable("the settlement service cannot be reached")
        takes_s = self._random.uniform(*TRIP_S)
        await Until(lambda resume: self._clock.after(takes_s, resume))

    # -- LocalLogs -------------------------------------------------------------------------------------------------

    def heads(self) -> list[LocalHead]:
        return [
            LocalHead(log.log_id, branch.number, branch.head)
            for log in self._process.node.frontier.logs.values()
            for branch in log.attached()
            if self.withholds is None or not self.withholds(log.log_id)
        ]

    def lane(self, log_id: bytes) -> Lane | None:
        log = self._process.node.frontier.logs.get(log_id)
        return None if log is None else log.genesis.lane

    async def read(self, target: LocalHead, first_seq: int) -> OfferedRun:
        log = self._process.node.frontier.logs[target.log_id]
        path = log.path(log.branches[target.branch], first_seq, target.head.seq)
        store = self._process.store_of(target.log_id)
        log_key = log.genesis.certificate.log_key
        piece = take_piece(store, target.log_id, path, log_key) or store.read_run(target.log_id, path[0])
        assert piece is not None, "what the frontier names is in the store"
        return OfferedRun(target.log_id, piece.count, piece.blob)

    async def publish(self, receipt: bytes) -> None:
        await Until(lambda resume: self._process.append(Lane.CONTROL, Kind.RECEIPT, receipt, done=lambda run: resume()))


class Line:
    """The way to the service and back; implements `Upstream`."""

    def __init__(self, gateway: Gateway, settlement: Settlement) -> None:
        self._gateway = gateway
        self._settlement = settlement

    async def heads(self) -> HeadsAnswer:
        await self._gateway.trip()
        answer = self._settlement.heads()
        await self._gateway.trip()
        return answer

    async def post_runs(self, runs: list[OfferedRun]) -> RunsAnswer:
        await self._gateway.trip()
        answer = self._settlement.post_runs(runs)
        # The answer may be lost: the ledger holds the entries then, and the gateway sends them again.
        await self._gateway.trip()
        return answer

    async def receipts(self, since: int) -> ReceiptsAnswer:
        await self._gateway.trip()
        answer = self._settlement.receipts(since)
        await self._gateway.trip()
        forges, receipts = self._settlement.forges, answer.receipts
        of_money = [data for data in receipts if self._gateway.lane(decode_receipt(data).log_id) is Lane.MONEY]
        if not forges or not of_money:
            return answer
        return replace(answer, receipts=(*receipts, forges.popleft()(of_money[-1])))
