"""What the authority writes into certificates, field by field, as another X.509 reader sees it."""

from __future__ import annotations

import datetime
import hashlib
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.core.certificate import BINDING_OID, BadBinding, BadSubject, ForeignVenue, encode_binding, parse_venue_root
from mesh.core.issue import issue_device, issue_root
from mesh.core.kinds import Role


def key_of(label: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(label.encode()).digest())


AUTHORITY: Final = key_of("authority")
ROOT_DER: Final = issue_root(AUTHORITY, venue="Riverside", serial=77)
ROOT: Final = parse_venue_root(ROOT_DER)
LINK: Final = key_of("link").public_key().public_bytes_raw()
LOG: Final = key_of("log").public_key().public_bytes_raw()
ROLES: Final = frozenset({Role.READER, Role.TILL})
DEVICE: Final = issue_device(AUTHORITY, ROOT, name="Bar A", link_key=LINK, log_key=LOG, roles=ROLES, serial=4711)
NO_USAGE: Final = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}
FOR_EVER: Final = (
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),
)


def extensions_of(der: bytes) -> dict[x509.ObjectIdentifier, tuple[bool, x509.ExtensionType]]:
    found = x509.load_der_x509_certificate(der).extensions
    return {extension.oid: (extension.critical, extension.value) for extension in found}


def dates_of(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def common_names(name: x509.Name) -> list[tuple[x509.ObjectIdentifier, str | bytes]]:
    return [(attribute.oid, attribute.value) for attribute in name]


def test_root_names_itself_twice_and_carries_the_authoritys_key_and_serial_number() -> None:
    root = x509.load_der_x509_certificate(ROOT_DER)
    expected = [(NameOID.COMMON_NAME, "Riverside")]
    assert (common_names(root.subject), common_names(root.issuer)) == (expected, expected)
    assert (root.serial_number, root.version, dates_of(root)) == (77, x509.Version.v3, FOR_EVER)
    key = root.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert key.public_bytes_raw() == AUTHORITY.public_key().public_bytes_raw()
    key.verify(root.signature, root.tbs_certificate_bytes)


def test_root_may_sign_devices_and_nothing_below_them_and_no_data() -> None:
    usage = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **NO_USAGE)
    identifier = x509.SubjectKeyIdentifier.from_public_key(AUTHORITY.public_key())
    assert extensions_of(ROOT_DER) == {
        x509.BasicConstraints.oid: (True, x509.BasicConstraints(True, 0)),
        x509.KeyUsage.oid: (True, usage),
        x509.SubjectKeyIdentifier.oid: (False, identifier),
    }


def test_device_is_named_under_its_venue_with_its_link_key_and_serial_number() -> None:
    device = x509.load_der_x509_certificate(DEVICE.der)
    assert common_names(device.subject) == [(NameOID.COMMON_NAME, "Bar A")]
    assert common_names(device.issuer) == [(NameOID.COMMON_NAME, "Riverside")]
    assert (device.serial_number, device.version, dates_of(device)) == (4711, x509.Version.v3, FOR_EVER)
    key = device.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert key.public_bytes_raw() == LINK
    AUTHORITY.public_key().verify(device.signature, device.tbs_certificate_bytes)


def test_device_signs_data_at_both_ends_of_a_link_and_issues_nothing() -> None:
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **NO_USAGE)
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(AUTHORITY.public_key())
    assert extensions_of(DEVICE.der) == {
        x509.BasicConstraints.oid: (True, x509.BasicConstraints(False, None)),
        x509.KeyUsage.oid: (True, usage),
        x509.ExtendedKeyUsage.oid: (False, both_ends),
        x509.AuthorityKeyIdentifier.oid: (False, authority),
        BINDING_OID: (False, x509.UnrecognizedExtension(BINDING_OID, encode_binding(LOG, ROLES))),
    }


def test_what_is_given_back_is_what_every_reader_will_see() -> None:
    assert (DEVICE.name, DEVICE.serial, DEVICE.roles) == ("Bar A", 4711, ROLES)
    assert (DEVICE.link_key, DEVICE.log_key) == (LINK, LOG)


def test_certificate_that_readers_would_refuse_is_never_issued() -> None:
    with pytest.raises(BadBinding):
        issue_device(AUTHORITY, ROOT, name="Bar A", link_key=LINK, log_key=LINK, roles=ROLES, serial=5)
    with pytest.raises(BadSubject):
        issue_device(AUTHORITY, ROOT, name="Bar A ", link_key=LINK, log_key=LOG, roles=ROLES, serial=5)
    with pytest.raises(ForeignVenue):
        issue_device(key_of("thief"), ROOT, name="Bar A", link_key=LINK, log_key=LOG, roles=ROLES, serial=5)
