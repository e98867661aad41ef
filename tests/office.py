"""A venue's office on disk, made from a test venue: what `tapmesh venue` commands work on."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mesh.core.kinds import Role
from tests.factory import Venue, VenueDevice


def write_office(venue: Venue, directory: Path, *devices: VenueDevice) -> VenueDevice:
    """Lay out an authority whose register holds `devices`, and its manager; returns the manager."""
    manager = venue.device("office", Role.MANAGER)
    manager.write_directory(directory / "manager")
    authority = directory / "authority"
    (authority / "issued").mkdir(parents=True)
    key = authority / "root.key"
    key.touch(mode=0o600)
    key.write_bytes(
        venue._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    _write_pem(authority / "root.pem", venue.root.der)
    for device in (manager, *devices):
        certificate = device.certificate
        _write_pem(authority / "issued" / f"{certificate.serial:040x}.pem", certificate.der)
    return manager


def _write_pem(path: Path, der: bytes) -> None:
    path.write_bytes(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM))
