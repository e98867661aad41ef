"""Which devices belong to the venue: their log keys by key id, so that every seal on a wristband can be checked.

Fed by every log's genesis and by the DEVICE entries of managers (a certificate each), which readers hold before doors.
A certificate proves itself from the venue root; who published it does not matter.
"""

from __future__ import annotations

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.views.card_record import key_id

SEALING_ROLES = frozenset({Role.READER, Role.TILL})


class DevicesView:
    """The fold: a set of certificates, whatever order they came in."""

    def __init__(self, root: VenueRoot) -> None:
        self._root = root
        self._by_serial: dict[int, DeviceCertificate] = {}
        self._by_key_id: dict[bytes, list[DeviceCertificate]] = {}

    def add(self, certificate: DeviceCertificate) -> None:
        """A certificate that has been checked already, as from a genesis."""
        if certificate.serial not in self._by_serial:
            self._by_serial[certificate.serial] = certificate
            self._by_key_id.setdefault(key_id(certificate.log_key), []).append(certificate)

    def fold(self, body: bytes) -> None:
        """The body of a DEVICE entry; one that is not a certificate of this venue counts for nothing."""
        try:
            self.add(parse_device_certificate(body, self._root))
        except PeerError:
            return

    def by_serial(self, serial: int) -> DeviceCertificate | None:
        """The certificate with this serial number, if it was heard of here."""
        return self._by_serial.get(serial)

    def all(self) -> list[DeviceCertificate]:
        """Every device known, by name."""
        return sorted(self._by_serial.values(), key=lambda certificate: (certificate.name, certificate.serial))

    def sealing(self, reader: bytes) -> list[DeviceCertificate]:
        """The devices that may have sealed a record which names this 4-byte key id, revoked ones too."""
        return [certificate for certificate in self._by_key_id.get(reader, ()) if certificate.roles & SEALING_ROLES]

    def sealing_keys(self, reader: bytes) -> list[bytes]:
        """Their log keys. A seal says who wrote a record; whether it counts is for the view of cards to say."""
        return [certificate.log_key for certificate in self.sealing(reader)]
