"""Making certificates: what the authority signs (docs/spec/certificate.md). Keys and serial numbers are arguments."""

from __future__ import annotations

import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.core.certificate import BINDING_OID, DeviceCertificate, VenueRoot, encode_binding, parse_device_certificate
from mesh.core.kinds import Role
from mesh.limits import NAME_BYTES_MAX

NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280, 4.1.2.5: no well-defined end. Dates are never checked; revocation statements end a device's trust."""


def issue_root(key: Ed25519PrivateKey, *, venue: str, serial: int) -> bytes:
    """The DER of an event's self-signed root. `venue` has 1 to 64 characters; `serial` is random, 1 to 159 bits.

    A name of more than 64 bytes is cut in the certificate, where it is a label: the venue document has all of it.
    """
    name = _common_name(venue.encode("utf-8")[:NAME_BYTES_MAX].decode("utf-8", "ignore"))
    builder = _builder(name, name, key.public_key(), serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False).sign(key, None).public_bytes(Encoding.DER)


def issue_device(
    key: Ed25519PrivateKey,
    root: VenueRoot,
    *,
    name: str,
    link_key: bytes,
    log_key: bytes,
    roles: frozenset[Role],
    serial: int,
) -> DeviceCertificate:
    """Sign a certificate and read it back under every rule a reader applies, so that none is issued that breaks one."""
    issuer = x509.load_der_x509_certificate(root.der).subject
    builder = _builder(_common_name(name), issuer, Ed25519PublicKey.from_public_bytes(link_key), serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(both_ends, critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.add_extension(authority, critical=False)
    binding = x509.UnrecognizedExtension(BINDING_OID, encode_binding(log_key, roles))
    certificate = builder.add_extension(binding, critical=False).sign(key, None)
    return parse_device_certificate(certificate.public_bytes(Encoding.DER), root)


def _builder(subject: x509.Name, issuer: x509.Name, key: Ed25519PublicKey, serial: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
