"""Which bundle key is in use: a pure function of the entries and revocations held, whatever order they came in.

* An entry counts when its author's genesis certificate has the role `manager`, and no revocation cuts it off.
* A key is *exposed* once a device it was sealed for is revoked: it opens old bundles and protects no new one.
* In use is the key with the highest generation that is not exposed. Where two managers rotated at once to the same
  generation, the one with the smaller key id is used, at every device; the other stays readable.

So of two rotations at one moment, of which one had not heard of a revocation, the one that had is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mesh.core.bundle_key import KeyName, decode_sealed_keys, may_hold_bundle_key
from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.views.trust import TrustView


@dataclass(frozen=True, slots=True)
class _Place:
    log_id: bytes
    seq: int
    entry_id: bytes


class BundleKeysView:
    """The fold. Folding an entry twice changes nothing."""

    def __init__(self, trust: TrustView) -> None:
        self._trust = trust
        self._parts: dict[_Place, tuple[KeyName, dict[int, bytes]]] = {}

    def fold(self, log_id: bytes, seq: int, entry_id: bytes, roles: Collection[Role], body: bytes) -> None:
        """Take up one BUNDLE_KEY entry. `roles` are those of the log's genesis certificate. Never raises."""
        if Role.MANAGER not in roles:
            return
        try:
            sealed = decode_sealed_keys(body)
        except PeerError:
            return
        self._parts[_Place(log_id, seq, entry_id)] = (sealed.name, dict(sealed.boxes))

    def current(self) -> KeyName | None:
        """The key that new bundles are encrypted under; None where there is none, or the last one is exposed."""
        revocations = self._trust.revocations
        safe = [
            name for name, serials in self._holders().items() if not any(serial in revocations for serial in serials)
        ]
        return min(safe, key=lambda name: (-name.generation, name.key_id), default=None)

    def generation(self) -> int:
        """The highest generation that counts, exposed or not; 0 before the first."""
        return max((name.generation for name in self._holders()), default=0)

    def boxes_for(self, serial: int) -> list[tuple[KeyName, bytes]]:
        """Every box for one device, of all generations: what was encrypted once stays readable."""
        found = {(name, boxes[serial]) for name, boxes in self._parts.values() if serial in boxes}
        return sorted(found)

    def without_box(self, name: KeyName, certificates: Iterable[DeviceCertificate]) -> list[DeviceCertificate]:
        """The live devices among these that have no box of this key yet, by serial number."""
        holders = self._holders().get(name, set())
        lacking = [c for c in self.entitled(certificates) if c.serial not in holders]
        return sorted(lacking, key=lambda certificate: certificate.serial)

    def entitled(self, certificates: Iterable[DeviceCertificate]) -> list[DeviceCertificate]:
        """The devices among these that a new key is sealed for: not revoked, and no couriers."""
        revocations = self._trust.revocations
        return [c for c in certificates if c.serial not in revocations and may_hold_bundle_key(c.roles)]

    def _holders(self) -> dict[KeyName, set[int]]:
        holders: defaultdict[KeyName, set[int]] = defaultdict(set)
        for place, (name, boxes) in self._parts.items():
            if not self._trust.is_cut_off(place.log_id, place.seq, place.entry_id):
                holders[name] |= boxes.keys()
        return dict(holders)
