"""What every device gets at its enrolment: the venue document, and the certificates whose seals it will meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.core.chain import NONCE_BYTES, Run, check_run, encode_genesis
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id, sign_entry
from mesh.core.kinds import Kind, Lane
from mesh.limits import RUN_ENTRIES_MAX
from mesh.testing.device import Device
from mesh.testing.process import DOORS_MS
from mesh.testing.scenario import Scenario
from mesh.testing.store import MemoryStore
from mesh.testing.venue import VenueDevice, seed_of
from mesh.views.automerge_document import DocumentFields, first_document

PER_TAP_CAP_MINOR: Final = 50_000
CARD_ID_KEY: Final = bytes(16)


class Starter:
    """The office's control log as it is before doors."""

    def __init__(
        self, office: VenueDevice, scenario: Scenario, devices: Sequence[VenueDevice], settlement: VenueDevice
    ) -> None:
        self._office = office
        self.entries: list[bytes] = []
        nonce = seed_of(office.certificate.serial, "starter")[:NONCE_BYTES]
        self.log_id = b""
        genesis = self._append(Kind.GENESIS, encode_genesis(office.certificate.der, nonce, Lane.CONTROL, ()))
        self.log_id = entry_id(genesis)[:LOG_ID_BYTES]
        self._append(Kind.VENUE_CHANGE, first_document(self.log_id, fields_of(office, scenario)))
        for device in (*devices, settlement):
            self._append(Kind.DEVICE, device.certificate.der)
        at = range(0, len(self.entries), RUN_ENTRIES_MAX)
        self.runs: list[Run] = [check_run(self.log_id, self.entries[i : i + RUN_ENTRIES_MAX]) for i in at]

    def _append(self, kind: Kind, body: bytes) -> bytes:
        entry = sign_entry(
            self._office.sign_anything,
            log_id=self.log_id,
            seq=len(self.entries),
            prev=entry_id(self.entries[-1]) if self.entries else NO_PREV,
            time_ms=DOORS_MS,
            kind=int(kind),
            body=body,
        )
        self.entries.append(entry)
        return entry

    def give_to(self, device: Device) -> None:
        """Put the log on a device's disk: the office's own store, or another's replica."""
        is_office = device.enrolled is self._office
        store = device.storage.own if is_office else device.storage.replica
        store.transact(self._write)

    def _write(self, store: MemoryStore) -> None:
        store.add_log(self.log_id, self.entries[0])
        store.add_branch(self.log_id, 0, 0, NO_PREV, parent=None, attached=True)
        for run in self.runs:
            store.append_run(run, 0, verified=True)


def fields_of(office: VenueDevice, scenario: Scenario) -> DocumentFields:
    """The venue document of a scenario."""
    return DocumentFields(
        name=scenario.name[:64],
        currency="EUR",
        exponent=2,
        zones=tuple(sorted(zone.name for zone in scenario.zones)),
        per_tap_cap_minor=PER_TAP_CAP_MINOR,
        event=office.venue.root.venue_id[:4],
        card_id_key=CARD_ID_KEY,
    )
