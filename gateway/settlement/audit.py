"""Checking a ledger: everything in it is a function of its entries, so book them all again and compare."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.settlement.database import DATABASE_FILE
from gateway.settlement.report import ledger_report
from gateway.settlement.service import bad_signatures
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement_api import OfferedRun, OutcomeCode
from mesh.core.certificate import VenueRoot
from mesh.core.chain import encode_run
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX, VERIFY_ENTRIES_PER_STEP_MAX


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome: `differences` name what the ledger says otherwise than its own entries do."""

    entries: int
    differences: tuple[str, ...]


def audit(directory: Path, root: VenueRoot) -> Audit:
    """Book every entry of the ledger in `directory` again, check every signature, and compare. Reads only."""
    with tempfile.TemporaryDirectory() as scratch:
        held = SqliteLedger(directory / DATABASE_FILE, root, read_only=True)
        again = SqliteLedger(Path(scratch) / DATABASE_FILE, root)
        try:
            differences = _book_again(held, again)
            before, after = ledger_report(held), ledger_report(again)
            differences += [
                f"{name}: the ledger says {before[name]}, its entries say {after[name]}"
                for name in before
                if name not in {"epoch", "verified"} and before[name] != after[name]
            ]
            if held.heads() != again.heads():
                differences.append("heads: the ledger's heads are not those of its entries")
            return Audit(again.totals().entries, tuple(differences))
        finally:
            held.close()
            again.close()


def _book_again(held: SqliteLedger, again: SqliteLedger) -> list[str]:
    differences = []
    for run in _runs(held):
        (outcome,) = again.accept([run])
        if outcome.code is not OutcomeCode.ACCEPTED:
            differences.append(f"log {run.log_id.hex()} does not hold together: {outcome.sentence or 'a gap'}")
    while work := again.next_unverified(VERIFY_ENTRIES_PER_STEP_MAX):
        again.mark_verified(work, bad_signatures(work.first_seq, work.entries, work.log_key))
    return differences


def _runs(held: SqliteLedger) -> Iterator[OfferedRun]:
    for chain in held.chains():
        piece: list[bytes] = []
        for entry in chain.entries:
            full = len(piece) >= RUN_ENTRIES_MAX // 2 or sum(map(len, piece)) > RUN_BYTES_MAX // 2
            if full and not bad_signatures(0, piece[-1:], chain.log_key):
                # A run ends at an entry that verifies; one whose signature is bad goes with the next that is good.
                yield OfferedRun(chain.log_id, len(piece), encode_run(piece))
                piece = []
            piece.append(entry)
        yield OfferedRun(chain.log_id, len(piece), encode_run(piece))
