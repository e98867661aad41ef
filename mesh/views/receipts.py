"""Up to where this device's own logs are safe at the settlement service, by the receipts that travelled back.

* A receipt counts only once it was verified from the venue's root alone, whoever's log carried it. Those for other
  devices' logs are their authors' business and are passed over, so that a start need not verify a venue's worth.
* The service's database may be an older copy of itself (another store epoch): what an earlier life of it promised may
  be gone. So a log is safe as far as *every* life that was heard of says; a new one says nothing until the gateways
  have sent again, and until then what was promised before counts as not promised.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from mesh.core.certificate import VenueRoot
from mesh.core.receipt import decode_receipt, verify_receipt
from mesh.errors import PeerError
from mesh.limits import STORE_EPOCHS_MAX


class ReceiptsView:
    """Folds bodies of RECEIPT entries, in any order. `own_logs` is watched, not copied."""

    def __init__(self, root: VenueRoot, own_logs: AbstractSet[bytes]) -> None:
        self._root = root
        self._own_logs = own_logs
        self._epochs: set[bytes] = set()
        self._safe: dict[tuple[bytes, bytes], int] = {}
        """By own log and epoch."""

    def fold(self, body: bytes) -> None:
        """Take in one receipt; one that does not hold makes nothing safer and nothing less safe."""
        try:
            receipt = decode_receipt(body)
            place = receipt.log_id, receipt.store_epoch
            is_known = receipt.store_epoch in self._epochs
            if is_known and (receipt.log_id not in self._own_logs or receipt.head_seq <= self._safe.get(place, -1)):
                return
            if not is_known and len(self._epochs) >= STORE_EPOCHS_MAX:
                return
            verify_receipt(body, self._root)
        except PeerError:
            return
        self._epochs.add(receipt.store_epoch)
        if receipt.log_id in self._own_logs:
            self._safe[place] = max(receipt.head_seq, self._safe.get(place, -1))

    def safe_seq(self, log_id: bytes) -> int:
        """The newest entry of an own log that is safe, with everything before it; -1 where nothing is."""
        return min((self._safe.get((log_id, epoch), -1) for epoch in self._epochs), default=-1)
