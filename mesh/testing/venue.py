"""A venue's authority and what it issues, in memory: real keys and certificates, the same for the same names.

::

    venue = Venue()
    till, bar = venue.device("till", Role.TILL), venue.device("bar A", Role.READER)

For simulators and tests: whoever knows the names knows the private keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_venue_root
from mesh.core.frontier import Position
from mesh.core.issue import issue_device, issue_root
from mesh.core.kinds import Role
from mesh.core.revocation import sign_statement
from mesh.core.signing import Domain, encode_statement


def seed_of(*parts: object) -> bytes:
    """32 bytes that stand for these names: keys, nonces and ids of a world that is the same in every run."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


class Venue:
    """An authority and what it issued. Two venues of different names are strangers to each other."""

    def __init__(self, name: str = "Test venue") -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed_of(name, "authority"))
        self.root: VenueRoot = parse_venue_root(issue_root(self._key, venue=name, serial=1))
        self._serial = 1

    def device(self, name: str, *roles: Role) -> VenueDevice:
        """Enrol a device; each call makes another one, with other keys."""
        self._serial += 1
        link_key = Ed25519PrivateKey.from_private_bytes(seed_of(self.name, name, self._serial, "link"))
        log_key = SigningKey(seed_of(self.name, name, self._serial, "log"))
        certificate = issue_device(
            self._key,
            self.root,
            name=name,
            link_key=link_key.public_key().public_bytes_raw(),
            log_key=bytes(log_key.verify_key),
            roles=frozenset(roles),
            serial=self._serial,
        )
        return VenueDevice(self, certificate, link_key, log_key)

    def revoke(self, device: VenueDevice, cut: Mapping[bytes, Position], *, number: int = 1) -> bytes:
        """The authority's statement about a device: what of these logs counts, each up to a place; of others nothing.

        It is the body of a REVOCATION entry, which anybody may carry.
        """
        return sign_statement(self._key.sign, serial=device.certificate.serial, number=number, cut=dict(cut))


def strangers_root(name: str) -> tuple[Ed25519PrivateKey, VenueRoot]:
    """Another authority that calls its venue by the same name, with its key."""
    key = Ed25519PrivateKey.from_private_bytes(seed_of(name, "another authority"))
    return key, parse_venue_root(issue_root(key, venue=name, serial=1))


@dataclass(frozen=True)
class VenueDevice:
    """An enrolled device with both its private keys."""

    venue: Venue
    certificate: DeviceCertificate
    link_key: Ed25519PrivateKey
    log_key: SigningKey

    @property
    def public_key(self) -> bytes:
        """The log key, as the Signer port names it."""
        return self.certificate.log_key

    def sign(self, domain: Domain, message: bytes) -> bytes:
        return self.sign_anything(encode_statement(domain, message))

    def sign_anything(self, message: bytes) -> bytes:
        """The bare key, which remembers nothing: tests sign forks with it."""
        return self.log_key.sign(message).signature

    def write_directory(self, directory: Path) -> Path:
        """Lay the device out on disk as `mesh.shell.keys.load_identity` reads it."""
        directory.mkdir(parents=True)
        log_key = Ed25519PrivateKey.from_private_bytes(bytes(self.log_key))
        for file_name, key in (("link.key", self.link_key), ("log.key", log_key)):
            path = directory / file_name
            path.touch(mode=0o600)
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        for file_name, der in (("root.pem", self.venue.root.der), ("device.pem", self.certificate.der)):
            pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
            (directory / file_name).write_bytes(pem)
        return directory
