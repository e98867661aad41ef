"""The settlement's ledger through several lives: what was answered is booked, once, whatever the disk does.

A gateway sends batches in order and sends one again until it has the answer; behind it signatures are checked. Every
state of an undisturbed ledger is known from a reference, so a ledger must always stand at one of two: where the last
answer left it, or a step further.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from gateway.settlement.service import bad_signatures
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement.store import Totals
from gateway.settlement_api import OfferedRun, OutcomeCode
from mesh.core.kinds import Role
from mesh.errors import StorageError
from mesh.testing.disk import Disk, DiskVfs
from tests.crash.sweep import Broken, require
from tests.factory import LogWriter, Venue, Wristband

CHECKPOINT_PAGES: Final = 16
State: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Night:
    """A venue's night as a gateway forwards it; None is a round of checking signatures."""

    venue: Venue
    steps: tuple[tuple[OfferedRun, ...] | None, ...]


@cache
def night() -> Night:
    """Sales, an abort that takes one back, a wristband spent twice, a log that forks, a signature that is bad."""
    venue = Venue("Ledger")
    till = LogWriter(venue.device("till", Role.TILL))
    bars = [LogWriter(venue.device(name, Role.READER)) for name in ("bar A", "bar B", "rogue")]
    bands = [Wristband(venue, number) for number in range(4)]
    for band in bands:
        band.issue(till, 3000)
    for _ in range(3):
        for band in bands[:3]:
            band.sell(bars[0], 450)
    clone = bands[3].clone()
    bands[3].sell(bars[1], 700)
    clone.sell(bars[2], 800)
    given_up = bands[1].sell(bars[1], 200)
    bars[1].abort(given_up.tap_id, bands[1].sealed)
    fork = bars[2].fork()
    bands[2].sell(bars[2], 100)
    bands[0].sell(fork, 300)
    halves = len(bars[0].entries) // 2
    front = [OfferedRun(*run) for run in bars[0].fork(halves).runs()]
    steps: list[tuple[OfferedRun, ...] | None] = [
        tuple(OfferedRun(*run) for run in till.runs()),
        tuple(front),
        None,
        tuple(OfferedRun(*run) for log in (bars[1], bars[2]) for run in log.runs()),
        tuple(OfferedRun(*run) for run in bars[0].runs()),
        tuple(OfferedRun(*run) for run in fork.runs(1)),
        None,
    ]
    return Night(venue, tuple(steps))


def state_of(ledger: SqliteLedger) -> State:
    """Everything that the ledger answers for, but the order in which logs changed."""
    totals = ledger.totals()
    require(sum(totals.accounts.values()) == 0, "the books do not balance")
    ids = [heads.log_id for heads in ledger.heads()]
    return (ledger.heads(), ledger.head_states(ids), totals, ledger.set_aside(99), ledger.conflicts(99))


def take(ledger: SqliteLedger, step: tuple[OfferedRun, ...] | None) -> None:
    """One step to its end; each transaction in it is durable when this returns."""
    if step is not None:
        codes = {outcome.code for outcome in ledger.accept(step)}
        require(codes == {OutcomeCode.ACCEPTED}, "a run was not taken")
        return
    while (work := ledger.next_unverified(512)) is not None:
        ledger.mark_verified(work, bad_signatures(work.first_seq, work.entries, work.log_key))


@cache
def states(directory: Path) -> tuple[State, ...]:
    """Where an undisturbed ledger stands before the first step, and after each."""
    ledger = SqliteLedger(directory / "reference.db", night().venue.root)
    found = [state_of(ledger)]
    for step in night().steps:
        take(ledger, step)
        found.append(state_of(ledger))
    ledger.close()
    return tuple(found)


class LedgerLives:
    """One ledger whose lives end as told."""

    def __init__(self, vfs: DiskVfs, path: Path) -> None:
        self.vfs = vfs
        self.path = path
        self.opening_operations = 0
        self._answered = 0
        self._stands_at = 0
        """The step after which it was seen to stand: whoever asked it was told so."""
        self._epoch: bytes | None = None

    def live(self, disk: Disk, *, works: bool = True) -> bool:
        self.vfs.insert(disk)
        try:
            self._live(works)
        except StorageError as error:
            if disk.is_off or disk.failed:
                return False
            raise Broken("the ledger cannot be used, and it is not the disk's fault") from error
        return True

    def _live(self, works: bool) -> None:
        ledger = SqliteLedger(self.path, night().venue.root, vfs=self.vfs.name)
        try:
            ledger._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}").fetchall()
            self._compare(ledger)
            self.opening_operations = self.vfs.disk.operations
            if not works:
                self.vfs.disk.cut_power()
                return
            for step in night().steps[self._answered :]:
                take(ledger, step)
                self._answered += 1
            require(state_of(ledger) == states(self.path.parent)[-1], "the night does not end as it should")
        finally:
            with suppress(StorageError) if self.vfs.disk.is_off else nullcontext():
                ledger.close()

    def _compare(self, ledger: SqliteLedger) -> None:
        whole = ledger._db.execute("PRAGMA integrity_check").fetchall()
        require(whole == [("ok",)], f"the ledger does not hold together: {whole}")
        if self._stands_at:
            require(ledger.epoch == self._epoch, "the ledger began another life, and gateways ask for receipts of it")
        self._epoch = ledger.epoch
        expected, found = states(self.path.parent), state_of(ledger)
        at = max(self._answered, self._stands_at)
        if at < len(night().steps) and night().steps[at] is None:
            # Signatures are checked log by log, each in a transaction of its own: any number of them may be done.
            require(_unverified(found) == _unverified(expected[at]), "the ledger stands where nobody left it")
        else:
            require(found in expected[at : at + 2], "the ledger stands where nobody left it")
            self._stands_at = expected.index(found)


def _unverified(state: State) -> State:
    """A state but for how far signatures were checked."""
    heads, receipts, totals, *rest = state
    assert isinstance(receipts, list) and isinstance(totals, Totals)
    said = [replace(receipt, verified_up_to=0) for receipt in receipts]
    return (heads, said, replace(totals, verified=0), *rest)
