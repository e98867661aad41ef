"""A device's directory: its two private keys and, once enrolled, its certificate and its venue's root.

::

    DIR/link.key     PKCS #8 PEM, Ed25519, mode 0600: TLS
    DIR/log.key      PKCS #8 PEM, Ed25519, mode 0600: signs entries (behind the Signer port); or instead of it
    DIR/log.pkcs11   where that key is inside a token (RFC 7512), mode 0600
    DIR/request.cbor what the authority signs (mesh.core.enrolment)
    DIR/root.pem     the venue's root certificate
    DIR/device.pem   this device's certificate; written last, so it is there only when the device is whole

Private keys are made here and never leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate, parse_venue_root
from mesh.errors import LocalError
from mesh.limits import CERTIFICATE_BYTES_MAX, KEY_FILE_BYTES_MAX, TOKEN_URI_CHARS_MAX
from mesh.ports import Signer
from mesh.shell.files import CannotRead, read_file, read_private_file, write_new_file
from mesh.shell.pkcs11_uri import TokenUri, parse_token_uri
from mesh.shell.signers import LogSigner

LINK_KEY_FILE: Final = "link.key"
LOG_KEY_FILE: Final = "log.key"
LOG_TOKEN_FILE: Final = "log.pkcs11"
ROOT_FILE: Final = "root.pem"
CERTIFICATE_FILE: Final = "device.pem"
_PEM_BYTES_MAX: Final = 2 * CERTIFICATE_BYTES_MAX


class NotEnrolled(LocalError):
    """The directory holds no certificate yet."""


class KeysDoNotMatch(LocalError):
    """The certificate in a device's directory binds other keys than the key files hold."""


class TwoLogKeys(LocalError):
    """The directory names a key file and a token; which one the device is cannot be guessed."""


class TokenLibraryMissing(LocalError):
    """The key is in a token, and the library for tokens is not installed."""


class FileKey:
    """A key from a file. The seed stays inside libsodium's signing key object."""

    __slots__ = ("_key", "_public_key")

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self._public_key = bytes(self._key.verify_key)

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message`."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"FileKey(public_key={self._public_key.hex()})"


@dataclass(frozen=True, slots=True)
class Identity:
    """An enrolled device as its directory holds it, keys and certificate checked against each other."""

    directory: Path
    root: VenueRoot
    certificate: DeviceCertificate
    signer: Signer


def create_key_file(path: Path) -> LogSigner:
    """Make a new Ed25519 key in `path` (0600, durable) and return its signer; never overwrites."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_new_file(path, pem, private=True)
    return LogSigner(FileKey(key.private_bytes_raw()))


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a key file, or raise :class:`KeyFileExposed`, :class:`CannotRead`."""
    pem = read_private_file(path, bytes_max=KEY_FILE_BYTES_MAX, meaning="a private key")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CannotRead(f"{path} does not hold a private key: restore it, or enrol the device anew") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CannotRead(f"{path} holds a private key that is not Ed25519: restore it, or enrol the device anew")
    return key


def load_signer(path: Path) -> LogSigner:
    """The signer over a key file; same errors as :func:`load_private_key`."""
    return LogSigner(FileKey(load_private_key(path).private_bytes_raw()))


def load_log_signer(directory: Path) -> LogSigner:
    """The signer over the device's log key, in its file or in its token; the errors of either."""
    token_file = directory / LOG_TOKEN_FILE
    if not token_file.exists():
        return load_signer(directory / LOG_KEY_FILE)
    if (directory / LOG_KEY_FILE).exists():
        raise TwoLogKeys(
            f"{directory} has a log key in a file ({LOG_KEY_FILE}) and one in a token ({LOG_TOKEN_FILE}). Nothing was "
            f"signed. Move away the one that is not in the device's certificate"
        )
    text = read_private_file(token_file, bytes_max=TOKEN_URI_CHARS_MAX, meaning="where the log key's token is")
    uri = parse_token_uri(text.decode("utf-8", "replace").strip())
    with _token_library():
        from mesh.shell.pkcs11 import open_key  # noqa: PLC0415  only where a token is
    return LogSigner(open_key(uri))


def name_token_key(uri: TokenUri, label: str) -> TokenUri:
    """Check the token for a new log key and give that key its name; writes nothing, here or there."""
    with _token_library():
        from mesh.shell.pkcs11 import address_new_key  # noqa: PLC0415  only where a token is
    return address_new_key(uri, label)


def create_token_key(directory: Path, uri: TokenUri) -> LogSigner:
    """Note the address from :func:`name_token_key` in the device's directory, then make the key in the token."""
    write_new_file(directory / LOG_TOKEN_FILE, f"{uri}\n".encode(), private=True)
    with _token_library():
        from mesh.shell.pkcs11 import make_key  # noqa: PLC0415  only where a token is
    return LogSigner(make_key(uri))


@contextmanager
def _token_library() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise TokenLibraryMissing(
            f"the log key is in a token, and the library for that is not installed ({error.name}): nothing was signed. "
            f"Install this program with it: pip install 'tapmesh[pkcs11]'"
        ) from error


def write_certificate(path: Path, der: bytes) -> None:
    """Write a certificate as PEM; never overwrites."""
    certificate = x509.load_der_x509_certificate(der)
    write_new_file(path, certificate.public_bytes(serialization.Encoding.PEM))


def read_certificate(path: Path, meaning: str) -> bytes:
    """Read a PEM certificate and return its DER, unchecked."""
    pem = read_file(path, bytes_max=_PEM_BYTES_MAX, meaning=meaning)
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    except (ValueError, x509.InvalidVersion) as error:
        raise CannotRead(f"{path} does not hold a certificate where {meaning} is expected") from error


def load_identity(directory: Path) -> Identity:
    """Open an enrolled device's directory and check that it belongs together.

    Raises :class:`NotEnrolled`, :class:`KeysDoNotMatch`, :class:`CannotRead`, :class:`KeyFileExposed`, or a
    `PeerError` where a certificate breaks a rule.
    """
    if not (directory / CERTIFICATE_FILE).exists():
        raise NotEnrolled(
            f"there is no enrolled device in {directory}, so it cannot sign or join a venue. Run 'tapmesh device "
            f"request', have the venue's authority sign it ('tapmesh venue enrol'), then 'tapmesh device accept'."
        )
    root = parse_venue_root(read_certificate(directory / ROOT_FILE, "the venue's root certificate"))
    der = read_certificate(directory / CERTIFICATE_FILE, "the device's certificate")
    certificate = parse_device_certificate(der, root)
    signer = load_log_signer(directory)
    link_key = load_private_key(directory / LINK_KEY_FILE).public_key().public_bytes_raw()
    if (link_key, signer.public_key) != (certificate.link_key, certificate.log_key):
        raise KeysDoNotMatch(
            f"the keys in {directory} are not the ones its certificate binds: files of two devices were mixed. "
            f"Restore the device's own files, or enrol it anew; its signed sales stay valid either way."
        )
    return Identity(directory, root, certificate, signer)
