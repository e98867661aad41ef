"""Which receipts a gateway publishes as entries, so that they travel back to the readers. Pure.

* Only receipts of the money and telemetry lanes: a control log carries receipts itself, and two gateways that published
  receipts for each other's receipts would never stop.
* Only what advanced: another head, more signatures checked, more set aside, or another life of the service's database.
* Not before every signature is checked, or `RECEIPT_PATIENCE_S` have passed: one entry instead of several.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.kinds import Lane
from mesh.core.receipt import Receipt, VerifiedReceipt
from mesh.limits import RECEIPT_PATIENCE_S


@dataclass(frozen=True, slots=True)
class _Pending:
    verified: VerifiedReceipt
    since: float


class ReceiptsToPublish:
    """Collects receipts as they come in and gives out the ones that are due."""

    def __init__(self) -> None:
        self._published: dict[bytes, dict[bytes, tuple[object, ...]]] = {}
        self._pending: dict[bytes, dict[bytes, _Pending]] = {}

    def offer(self, verified: VerifiedReceipt, lane: Lane | None, now: float) -> None:
        """Take in one receipt. `lane` is that of its log, None if the log is not held here."""
        receipt = verified.receipt
        if lane is None or lane is Lane.CONTROL:
            return
        if self._published.get(receipt.log_id, {}).get(receipt.head_id) == _content(receipt):
            return
        pending = self._pending.setdefault(receipt.log_id, {})
        since = min((waiting.since for waiting in pending.values()), default=now)
        if receipt.count == receipt.head_seq + 1:
            pending.clear()  # Not forked: this head follows the ones before it.
        pending[receipt.head_id] = _Pending(verified, since)

    def due(self, now: float) -> list[bytes]:
        """Bodies of the RECEIPT entries to append now; each is given out once."""
        bodies: list[bytes] = []
        for log_id, pending in list(self._pending.items()):
            for head_id, waiting in list(pending.items()):
                receipt = waiting.verified.receipt
                if receipt.fully_verified or now - waiting.since >= RECEIPT_PATIENCE_S:
                    bodies.append(waiting.verified.data)
                    published = self._published.setdefault(log_id, {})
                    if receipt.count == receipt.head_seq + 1:
                        published.clear()
                    published[head_id] = _content(receipt)
                    del pending[head_id]
            if not pending:
                del self._pending[log_id]
        return bodies


def _content(receipt: Receipt) -> tuple[object, ...]:
    return (receipt.store_epoch, receipt.count, receipt.verified_up_to, receipt.set_aside_count)
