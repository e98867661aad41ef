"""The event's authority: the root key, kept off the mesh, and the register of every certificate it signed.

::

    DIR/authority/root.key       PKCS #8 PEM, Ed25519, mode 0600
    DIR/authority/root.pem       the venue's root certificate
    DIR/authority/issued/*.pem   one certificate a device, named by serial number in hexadecimal
    DIR/authority/released/*     empty, named like the certificate of a device that is gone: its name is free again
    DIR/manager/                 the first manager: a device like any other (mesh.shell.keys)

Rules before a request is signed:

* both proofs of possession verify (mesh.core.enrolment),
* no device has that name, nor a name a person would confuse with it, unless it was retired or revoked,
* no certificate was issued for either key, in either place: a key belongs to one device and one purpose.

The certificate is in the register, durably, before the answer exists; a crash between leaves a name that is taken.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate, parse_venue_root
from mesh.core.device_name import same_device_name
from mesh.core.enrolment import Request
from mesh.core.issue import issue_device, issue_root
from mesh.core.kinds import Role
from mesh.errors import LocalError
from mesh.shell.files import CannotRead, make_new_directory, write_new_file
from mesh.shell.keys import create_key_file, load_private_key, read_certificate, write_certificate

AUTHORITY_DIRECTORY: Final = "authority"
MANAGER_DIRECTORY: Final = "manager"
ROOT_KEY_FILE: Final = "root.key"
ROOT_FILE: Final = "root.pem"
ISSUED_DIRECTORY: Final = "issued"
RELEASED_DIRECTORY: Final = "released"


class NoAuthority(LocalError):
    """The directory holds no event's authority."""


class NameTaken(LocalError):
    """A certificate was issued for this name, or one easily confused with it; nothing was signed."""


class KeyTaken(LocalError):
    """A certificate was issued for a key of this request; nothing was signed."""


class NoRoles(LocalError):
    """A certificate without a role would let a device in that may do nothing; nothing was signed."""


class AuthorityBusy(LocalError):
    """Another command is signing with this authority right now."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An opened authority. Holds the root's private key: keep it no longer than one command."""

    directory: Path
    root: VenueRoot
    key: Ed25519PrivateKey

    def issued(self) -> list[DeviceCertificate]:
        """Every certificate in the register, by serial number."""
        paths = sorted((self.directory / ISSUED_DIRECTORY).glob("*.pem"))
        return [parse_device_certificate(read_certificate(path, "an issued certificate"), self.root) for path in paths]

    def holders(self) -> list[DeviceCertificate]:
        """The devices that have their names now: all but those that were retired or revoked, by serial number."""
        released = self.directory / RELEASED_DIRECTORY
        return [certificate for certificate in self.issued() if not (released / _serial_name(certificate)).exists()]

    def release_name(self, certificate: DeviceCertificate) -> bool:
        """Free the name of a device that is gone for good, durably; False if it was free already."""
        directory = self.directory / RELEASED_DIRECTORY
        if not directory.exists():
            make_new_directory(directory)
        path = directory / _serial_name(certificate)
        if path.exists():
            return False
        write_new_file(path, b"")
        return True

    def sign_request(self, request: Request, roles: frozenset[Role]) -> DeviceCertificate:
        """Issue a certificate and put it in the register, or raise a `LocalError` having signed nothing."""
        if not roles:
            raise NoRoles("give the device at least one role: without one it is let in and may do nothing")
        with self._alone():
            check_not_issued(request, self.issued(), self.holders())
            certificate = issue_device(
                self.key,
                self.root,
                name=request.name,
                link_key=request.link_key,
                log_key=request.log_key,
                roles=roles,
                serial=x509.random_serial_number(),
            )
            path = self.directory / ISSUED_DIRECTORY / f"{_serial_name(certificate)}.pem"
            write_certificate(path, certificate.der)
        return certificate

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two commands at once would each find the name free; the kernel drops the lock with the process."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise AuthorityBusy(
                "another command is signing with this authority: run this one again after it"
            ) from error
        finally:
            os.close(descriptor)


def find_device(authority: Authority, words: str) -> list[DeviceCertificate]:
    """The devices that these words mean: a name, who has it now first, or a fingerprint in full, spaced or not."""
    holding = {certificate.serial for certificate in authority.holders()}
    digits = words.replace(" ", "").lower()
    found = [c for c in authority.issued() if words == c.name or digits == c.fingerprint.replace(" ", "")]
    return sorted(found, key=lambda certificate: (certificate.serial not in holding, certificate.serial))


def _serial_name(certificate: DeviceCertificate) -> str:
    return f"{certificate.serial:040x}"


def check_not_issued(request: Request, issued: list[DeviceCertificate], holders: list[DeviceCertificate]) -> None:
    """Refuse a key that any issued certificate has, or a name that a device has now; see the rules of this module."""
    for certificate in issued:
        if {request.link_key, request.log_key} & {certificate.link_key, certificate.log_key}:
            raise KeyTaken(
                f"{certificate.name!r} ({certificate.fingerprint}) was enrolled with a key of this request. A device "
                f"that is enrolled stays so; to enrol the hardware again, make new keys in a new directory."
            )
    for certificate in holders:
        if same_device_name(request.name, certificate.name):
            raise NameTaken(
                f"{certificate.name!r} ({certificate.fingerprint}) is enrolled under that name already, and two "
                f"devices of one name could not be told apart on a receipt. Choose another name. If that device is "
                f"gone for good, 'tapmesh venue retire' frees its name."
            )


def create_authority(directory: Path, venue: str) -> Authority:
    """Make a new root key and root certificate in `directory`, which must not exist."""
    make_new_directory(directory)
    make_new_directory(directory / ISSUED_DIRECTORY)
    create_key_file(directory / ROOT_KEY_FILE)
    key = load_private_key(directory / ROOT_KEY_FILE)
    root = parse_venue_root(issue_root(key, venue=venue, serial=x509.random_serial_number()))
    write_certificate(directory / ROOT_FILE, root.der)
    return Authority(directory, root, key)


def open_authority(directory: Path) -> Authority:
    """Open `DIR/authority`, or raise :class:`NoAuthority`, `CannotRead`, `KeyFileExposed`, or a `PeerError`."""
    if not (directory / ROOT_KEY_FILE).exists():
        raise NoAuthority(
            f"there is no authority in {directory}; give the directory that 'tapmesh venue init' made (--venue)"
        )
    root = parse_venue_root(read_certificate(directory / ROOT_FILE, "the venue's root certificate"))
    key = load_private_key(directory / ROOT_KEY_FILE)
    if key.public_key().public_bytes_raw() != root.public_key:
        raise CannotRead(
            f"{directory} holds the key and the root certificate of two different events; restore its files"
        )
    return Authority(directory, root, key)
