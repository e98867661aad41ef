"""Make the stores of one version, to be kept for ever: `python -m tests.ondisk.make NUMBER_NAME`.

Run it once, when the format of a store has changed, and commit the directory that it makes together with the change.
What is there is never made again: a fixture that follows the program proves nothing. Each directory holds what a device
and a settlement service leave on a disk, one of them killed in the middle, and `expected.json`: what the program that
made them read from them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gateway.settlement.service import bad_signatures
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement_api import OfferedRun
from mesh.core.chain import check_run
from mesh.core.codec import encode
from mesh.core.entry import NO_PREV
from mesh.core.fork import prove_fork
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.shell.store import Durability, RunStore
from mesh.views.card_record import decode_record
from mesh.views.evidence import make_case
from reader.intent import IntentDraft
from tests.factory import NO_DOCUMENT, LogWriter, Venue, Wristband
from tests.harness import runs_of
from tests.ondisk.reading import DEVICE, LEDGER, OWN, REPLICA, ROOT, describe

HERE: Final = Path(__file__).parent


class Night:
    """A bar, a till, a bar whose key was copied, one that was revoked, and a far one known by a piece."""

    def __init__(self) -> None:
        self.venue = Venue("On disk")
        self.bar = self.venue.device("bar A", Role.READER)
        self.yesterday = LogWriter(self.bar)
        self.today = LogWriter(self.bar, number=1, known=[self.yesterday])
        self.control = LogWriter(self.bar, Lane.CONTROL, known=[self.yesterday, self.today])
        self.till = LogWriter(self.venue.device("till", Role.TILL))
        self.copied = LogWriter(self.venue.device("bar B", Role.READER))
        self.far = LogWriter(self.venue.device("bar C", Role.READER))
        self.lost = LogWriter(self.venue.device("bar D", Role.READER))
        self.bands = [Wristband(self.venue, number) for number in range(6)]
        for band in self.bands:
            band.issue(self.till, 4000)
        self._sell()
        self.fork = self.copied.fork()
        self.bands[3].sell(self.copied, 120)
        self.bands[4].sell(self.copied, 130)
        self.bands[2].sell(self.fork, 140)
        proof = prove_fork(self.copied.entries[0], self.copied.entries[-2], self.fork.entries[-1], self.venue.root)
        assert proof is not None
        self.control.append(Kind.FORK_PROOF, proof.body)
        for amount in (210, 220, 230):
            self.bands[5].sell(self.lost, amount)
        self.statement = self.venue.revocation(self.lost.device, (self.lost, 2))
        self.control.append(Kind.REVOCATION, self.statement)

    def _sell(self) -> None:
        self.bands[0].sell(self.yesterday, 650)
        self.clone = self.bands[0].clone()
        self.bands[0].sell(self.today, 700)
        self.clone.sell(self.copied, 800)
        given_up = self.bands[1].sell(self.today, 300)
        self.today.abort(given_up.tap_id, self.bands[1].sealed)
        for _ in range(8):
            self.bands[2].sell(self.far, 50)
        self.today.append(200, b"a kind that nobody knows yet")

    def case(self) -> bytes:
        """The proof that wristband 0 was spent twice."""
        one, other = self.today, self.copied
        return make_case(self.venue.root, [(one.entries[0], one.entries[1]), (other.entries[0], other.entries[1])]).data

    def intents(self) -> list[tuple[bytes, bytes]]:
        """Two taps whose wristbands have not come back, as the reader's journal stores them."""
        rows = []
        for order, committed in ((1, True), (2, False)):
            band = self.bands[order].clone()
            witness = band.sealed
            body = band.tap(LogWriter(self.bar, number=9), Operation.SALE, 100 * order)
            draft = IntentDraft(
                body.tap_id,
                band.card,
                Operation.SALE,
                100 * order,
                witness,
                decode_record(band.sealed[:-64]),
                1,
                NO_DOCUMENT,
            )
            rows.append((body.tap_id, encode([order, committed, draft.sealed_as(band.sealed).encode()])))
        return rows


def put(store: RunStore, log: LogWriter, first: int, last: int, branch: int = 0, parent: int | None = None) -> None:
    """A part of a log as one run; a branch other than 0 without a parent is an island."""
    run = check_run(log.log_id, log.entries[first : last + 1])
    store.add_log(log.log_id, log.entries[0])
    prev = log.ids[first - 1] if first else NO_PREV
    store.add_branch(log.log_id, branch, first, prev, parent=parent, attached=branch == 0 or parent is not None)
    store.append_run(run, branch, verified=branch == 0)


def write_own(path: Path, night: Night) -> RunStore:
    """own.db, still open: its newest part is in the write-ahead log only."""
    store = RunStore(path, Durability.POWER_CUT)
    with store.transaction():
        for log in (night.yesterday, night.today):
            for run in runs_of(log, length=2):
                put(store, log, run.first_seq, run.last_seq)
        put(store, night.control, 0, night.control.head_seq)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with store.transaction():
        for tap_id, body in night.intents():
            store.put_intent(tap_id, body)
        store.put_evidence(hashlib.sha256(night.case()).digest(), night.case())
        store.put_statement(hashlib.sha256(night.statement).digest(), night.statement)
    return store


def write_replica(path: Path, night: Night) -> None:
    store = RunStore(path, Durability.PROCESS)
    with store.transaction():
        put(store, night.till, 0, night.till.head_seq)
        put(store, night.copied, 0, 1)
        put(store, night.copied, 2, night.copied.head_seq)
        put(store, night.fork, 2, night.fork.head_seq, branch=1, parent=0)
        put(store, night.lost, 0, night.lost.head_seq)
        put(store, night.far, 0, 2)
        put(store, night.far, 5, night.far.head_seq, branch=1)
    store.close()


def write_ledger(path: Path, night: Night) -> None:
    ledger = SqliteLedger(path, night.venue.root)
    logs = (night.till, night.yesterday, night.today, night.copied, night.lost, night.control)
    ledger.accept([OfferedRun(*run) for log in logs for run in log.runs()])
    work = ledger.next_unverified(512)
    assert work is not None
    ledger.mark_verified(work, bad_signatures(work.first_seq, work.entries, work.log_key))
    ledger.accept([OfferedRun(*run) for run in night.fork.runs(2)])
    ledger.close()


def make(target: Path) -> None:
    night = Night()
    target.mkdir()
    with TemporaryDirectory() as scratch:
        own = write_own(Path(scratch) / OWN, night)
        for name in (OWN, f"{OWN}-wal"):
            shutil.copy(Path(scratch) / name, target / name)
        own.close()
    write_replica(target / REPLICA, night)
    write_ledger(target / LEDGER, night)
    for name, der in ((ROOT, night.venue.root.der), (DEVICE, night.bar.certificate.der)):
        pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
        (target / name).write_bytes(pem)
    with TemporaryDirectory() as scratch:
        shutil.copytree(target, scratch, dirs_exist_ok=True)
        found = describe(Path(scratch))
    (target / "expected.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(HERE / sys.argv[1])
