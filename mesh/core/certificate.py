"""Who a device is: the venue's root certificate and the device certificates it issues (docs/spec/certificate.md).

A device certificate is X.509 (RFC 5280) with Ed25519 (RFC 8410). It binds two keys: the *link key* is the subject
public key, used by TLS; the *log key*, which signs entries, is in one private extension together with the roles. It is
accepted when, in this order:

* it is no longer than its bound and is one DER certificate,
* its issuer is this venue's root and the root's Ed25519 signature over it verifies; nothing that a stranger wrote is
  looked at any further than this,
* it is version 3, its serial number is positive and has at most 159 bits,
* its subject key is an Ed25519 key,
* it is not an authority: basic constraints say so, and its key usage does not sign certificates,
* it has no critical extension that is unknown here,
* its subject is one common name that is allowed as a device name,
* the binding extension is there, canonical, names a log key that is not the link key, and sorted roles.

Dates are never checked: boards boot without a clock. Who is out again is said by revocation statements.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from mesh.core.codec import Value, decode, encode
from mesh.core.device_name import check_device_name
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.limits import CERTIFICATE_BYTES_MAX, CERTIFICATE_ROLES_MAX

BINDING_OID: Final = x509.ObjectIdentifier("2.25.135659146443093880262595286185255167780")
"""UUID 660f0051-08a3-4808-9ebf-7d2bb72ce724 as an object identifier (ITU-T X.667)."""
BINDING_VERSION: Final = 1
_PARSED_MAX: Final = 512
"""Certificates that are remembered once they passed; a venue has fewer devices."""
SERIAL_BITS_MAX: Final = 159
"""Twenty octets of DER integer with the sign bit clear (RFC 5280, 4.1.2.2)."""

_ROLE_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ROLES: Final = {role.value: role for role in Role}
_CRITICAL_EXTENSIONS: Final = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)
_LIBRARY_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)
"""Everything `cryptography` raises for bytes it dislikes, some of it only when an attribute is first read; the warning
is here for programs that turn warnings into errors."""


class BadCertificate(PeerError):
    """The bytes are not a certificate of the shape this venue issues; the device that showed them is not let in."""


class CertificateTooLarge(BadCertificate):
    """Longer than any certificate this system issues; nothing of it was parsed."""


class ForeignVenue(PeerError):
    """The certificate was not issued by this venue's root: another event's device, or a forged certificate."""


class BadSerial(BadCertificate):
    """The serial number is not positive or has more than 159 bits, so a revocation could not name it."""


class NotEd25519(BadCertificate):
    """A key or a signature uses another algorithm than Ed25519."""


class IsAuthority(BadCertificate):
    """A device certificate that could issue certificates itself."""


class BadSubject(BadCertificate):
    """The subject is not exactly one common name that is allowed as a device name."""


class BadBinding(BadCertificate):
    """The extension that binds log key and roles is missing or breaks a rule."""


class NotRoot(BadCertificate):
    """What should be a venue's root certificate is not one."""


@dataclass(frozen=True, slots=True)
class VenueRoot:
    """The root of one event. `venue_id` is SHA-256 of its DER; the authority's private key is never on the mesh."""

    der: bytes
    subject: bytes
    public_key: bytes
    venue_id: bytes

    @property
    def fingerprint(self) -> str:
        """The venue id for people to compare: 16 hex digits in groups of four."""
        return _grouped(self.venue_id.hex()[:16])


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A certificate that passed every rule above. `link_key` and `log_key` are raw 32-byte Ed25519 public keys."""

    der: bytes
    serial: int
    name: str
    roles: frozenset[Role]
    link_key: bytes
    log_key: bytes

    @property
    def node(self) -> str:
        """The device's name on the network: 16 hex digits of SHA-256 over its link key."""
        return hashlib.sha256(self.link_key).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """What people compare on two screens; see :func:`keys_fingerprint`."""
        return keys_fingerprint(self.link_key, self.log_key)


def keys_fingerprint(link_key: bytes, log_key: bytes) -> str:
    """16 hex digits, in groups of four, of SHA-256 over a device's two public keys."""
    return _grouped(hashlib.sha256(link_key + log_key).hexdigest()[:16])


def parse_venue_root(der: bytes) -> VenueRoot:
    """Check that `der` is a self-signed Ed25519 authority, or raise :class:`BadCertificate`.

    Whether it is the *right* venue cannot be seen from it: people compare its fingerprint.
    """
    certificate = _load(der)
    try:
        key = certificate.public_key()
        self_issued = certificate.issuer == certificate.subject
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound as error:
        raise NotRoot("the venue's root certificate does not say that it is an authority") from error
    except _LIBRARY_ERRORS as error:
        raise NotRoot(f"not a venue's root certificate: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NotEd25519("the venue's root has a key that is not Ed25519")
    if not self_issued or not is_authority:
        raise NotRoot("a device's certificate was given where the venue's root certificate belongs")
    public_key = key.public_bytes_raw()
    _require_signed_by(certificate, public_key)
    return VenueRoot(der, certificate.subject.public_bytes(), public_key, hashlib.sha256(der).digest())


@lru_cache(maxsize=_PARSED_MAX)
def parse_device_certificate(der: bytes, root: VenueRoot) -> DeviceCertificate:
    """Apply every rule of this module to `der`; raises one :class:`PeerError` for each rule broken.

    Costs an X.509 parse and one signature check, more than verifying an entry. What passed is remembered: every link,
    log and proof of a device brings the same certificate again.
    """
    certificate = _load(der)
    _require_signed_by(certificate, root.public_key)
    try:
        issued_here = certificate.issuer.public_bytes() == root.subject
        version, serial = certificate.version, certificate.serial_number
        key, subject, extensions = certificate.public_key(), certificate.subject, certificate.extensions
    except _LIBRARY_ERRORS as error:
        raise BadCertificate(f"the venue's authority signed a certificate that cannot be read: {error}") from error
    if not issued_here:
        raise ForeignVenue("the certificate names another issuer than this venue's root")
    if version is not x509.Version.v3:
        raise BadCertificate("a device certificate is X.509 version 3")
    if serial <= 0 or serial.bit_length() > SERIAL_BITS_MAX:
        raise BadSerial(f"a serial number is positive and has at most {SERIAL_BITS_MAX} bits")
    if not isinstance(key, Ed25519PublicKey):
        raise NotEd25519("the device's link key is not an Ed25519 key")
    _require_no_authority(extensions)
    link_key = key.public_bytes_raw()
    log_key, roles = decode_binding(_binding(extensions))
    if log_key == link_key:
        raise BadBinding("link key and log key are the same key; a device has two")
    return DeviceCertificate(der, serial, _device_name(subject), roles, link_key, log_key)


def encode_binding(log_key: bytes, roles: frozenset[Role]) -> bytes:
    """The value of the binding extension: CBOR `[1, log_key(32), [role names, sorted]]`."""
    return encode([BINDING_VERSION, log_key, sorted(role.value for role in roles)])


def decode_binding(data: bytes) -> tuple[bytes, frozenset[Role]]:
    """Return log key and roles. Role names of a later version are allowed and grant nothing here."""
    match decode(data, bytes_max=CERTIFICATE_BYTES_MAX):
        case [int(version), bytes(log_key), list(names)] if len(log_key) == 32 and version is not True:
            pass
        case _:
            raise BadBinding("the binding of log key and roles is [1, log_key(32), [roles]]")
    if version != BINDING_VERSION:
        raise BadBinding(f"version {version} of the binding of log key and roles is not known here")
    return log_key, _roles(names)


def _roles(names: list[Value]) -> frozenset[Role]:
    if len(names) > CERTIFICATE_ROLES_MAX:
        raise BadBinding(f"more than {CERTIFICATE_ROLES_MAX} roles")
    checked = [name for name in names if isinstance(name, str) and _ROLE_NAME.fullmatch(name)]
    if len(checked) != len(names) or checked != sorted(set(checked)):
        raise BadBinding("roles are lower-case names, sorted, each once")
    return frozenset(_ROLES[name] for name in checked if name in _ROLES)


def _load(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise CertificateTooLarge(f"a certificate of {len(der)} bytes; at most {CERTIFICATE_BYTES_MAX} are allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        canonical = certificate.public_bytes(Encoding.DER) == der
    except _LIBRARY_ERRORS as error:
        raise BadCertificate(f"not an X.509 certificate: {error}") from error
    if not canonical:
        raise BadCertificate("not the DER encoding of its certificate")
    return certificate


def _require_signed_by(certificate: x509.Certificate, public_key: bytes) -> None:
    try:
        algorithm = certificate.signature_algorithm_oid
        Ed25519PublicKey.from_public_bytes(public_key).verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature as error:
        raise ForeignVenue("the certificate was not signed by this venue's authority") from error
    except _LIBRARY_ERRORS as error:
        raise BadCertificate(f"the certificate's signature cannot be read: {error}") from error
    if algorithm != SignatureAlgorithmOID.ED25519:
        raise NotEd25519("the certificate's signature does not say Ed25519")


def _require_no_authority(extensions: x509.Extensions) -> None:
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise IsAuthority("the certificate does not say that it is no authority") from error
    if constraints.ca or usage.key_cert_sign or usage.crl_sign:
        raise IsAuthority("a device's certificate must not be able to issue certificates")
    if any(extension.critical and extension.oid not in _CRITICAL_EXTENSIONS for extension in extensions):
        raise BadCertificate("the certificate has a critical extension that is not known here")


def _binding(extensions: x509.Extensions) -> bytes:
    try:
        value = extensions.get_extension_for_oid(BINDING_OID).value
    except x509.ExtensionNotFound as error:
        raise BadBinding("the certificate binds no log key: it was not issued for a device of this system") from error
    if not isinstance(value, x509.UnrecognizedExtension):
        raise BadBinding("the binding of log key and roles cannot be read")
    return value.value


def _device_name(subject: x509.Name) -> str:
    attributes = list(subject)
    if len(attributes) != 1 or attributes[0].oid != NameOID.COMMON_NAME:
        raise BadSubject("a device certificate's subject is exactly one common name")
    name = attributes[0].value
    if not isinstance(name, str):
        raise BadSubject("a device's name is text")
    problem = check_device_name(name)
    if problem is not None:
        raise BadSubject(problem)
    return name


def _grouped(digits: str) -> str:
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))
