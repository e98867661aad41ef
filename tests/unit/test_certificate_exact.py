"""Certificates, field by field: what is read from a good one, and each single flaw that closes the door."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.core.certificate import (
    BINDING_OID,
    SERIAL_BITS_MAX,
    BadBinding,
    BadCertificate,
    BadSerial,
    BadSubject,
    CertificateTooLarge,
    DeviceCertificate,
    ForeignVenue,
    IsAuthority,
    NotEd25519,
    NotRoot,
    decode_binding,
    encode_binding,
    keys_fingerprint,
    parse_device_certificate,
    parse_venue_root,
)
from mesh.core.codec import NotCanonical, Value, encode
from mesh.core.issue import NOT_AFTER, NOT_BEFORE, issue_device, issue_root
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.limits import CERTIFICATE_BYTES_MAX, CERTIFICATE_ROLES_MAX

SigningKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def key_of(label: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(label.encode()).digest())


def public_of(label: str) -> bytes:
    return key_of(label).public_key().public_bytes_raw()


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


AUTHORITY: Final = key_of("authority")
ROOT: Final = parse_venue_root(issue_root(AUTHORITY, venue="Riverside", serial=77))
P256: Final = ec.derive_private_key(9, ec.SECP256R1())
BINDING: Final = encode_binding(public_of("log"), frozenset({Role.READER}))
PLAIN: Final = x509.BasicConstraints(False, None)
UNKNOWN_OID: Final = x509.ObjectIdentifier("2.25.1234")
Extensions = list[tuple[x509.ExtensionType, bool]]


def usage(*, sign_certificates: bool = False, sign_lists: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, sign_certificates, sign_lists, False, False)


def forged(
    extensions: Extensions,
    *,
    subject: x509.Name | None = None,
    issuer: str = "Riverside",
    key: Ed25519PublicKey | ec.EllipticCurvePublicKey | None = None,
    signer: SigningKey = AUTHORITY,
    serial: int = 5,
) -> bytes:
    """A certificate with exactly these extensions, signed by the authority or by somebody else."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name("Bar A") if subject is None else subject)
        .issuer_name(common_name(issuer))
        .public_key(key or key_of("link").public_key())
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    algorithm = None if isinstance(signer, Ed25519PrivateKey) else SHA256()
    return builder.sign(signer, algorithm).public_bytes(Encoding.DER)


def bound(value: bytes = BINDING, *, critical: bool = False) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(BINDING_OID, value), critical


GOOD: Final[Extensions] = [(PLAIN, True), (usage(), True), bound()]


def read(der: bytes) -> DeviceCertificate:
    return parse_device_certificate(der, ROOT)


# -- What is read ------------------------------------------------------------------------------------------------------


def test_device_is_read_field_by_field() -> None:
    der = forged(GOOD, serial=4711)
    assert read(der) == DeviceCertificate(
        der, 4711, "Bar A", frozenset({Role.READER}), public_of("link"), public_of("log")
    )


def test_node_name_and_fingerprint_are_digests_that_anybody_can_work_out() -> None:
    device = read(forged(GOOD))
    assert device.node == hashlib.sha256(public_of("link")).hexdigest()[:16]
    digits = hashlib.sha256(public_of("link") + public_of("log")).hexdigest()
    assert device.fingerprint == " ".join((digits[:4], digits[4:8], digits[8:12], digits[12:16]))
    assert keys_fingerprint(bytes(32), bytes([1] * 32)) == "5c85 955f 7092 83ec"
    assert keys_fingerprint(bytes(32), bytes([1] * 32)) != keys_fingerprint(bytes([1] * 32), bytes(32))


def test_root_is_read_field_by_field() -> None:
    der = issue_root(AUTHORITY, venue="Riverside", serial=77)
    assert (ROOT.der, ROOT.subject) == (der, common_name("Riverside").public_bytes())
    assert (ROOT.public_key, ROOT.venue_id) == (public_of("authority"), hashlib.sha256(der).digest())
    digits = ROOT.venue_id.hex()
    assert ROOT.fingerprint == " ".join((digits[:4], digits[4:8], digits[8:12], digits[12:16]))


def test_binding_is_these_bytes_with_its_roles_sorted() -> None:
    data = encode_binding(bytes(32), frozenset({Role.TILL, Role.MANAGER, Role.READER}))
    assert data == encode([1, bytes(32), ["manager", "reader", "till"]])
    assert decode_binding(data) == (bytes(32), frozenset({Role.TILL, Role.MANAGER, Role.READER}))
    assert decode_binding(encode_binding(bytes(32), frozenset())) == (bytes(32), frozenset())


# -- One flaw at a time ------------------------------------------------------------------------------------------------


def test_certificate_of_the_largest_size_is_looked_at_and_one_byte_more_is_not() -> None:
    with pytest.raises(BadCertificate) as looked_at:
        read(b"\x30" * CERTIFICATE_BYTES_MAX)
    assert looked_at.type is BadCertificate
    with pytest.raises(CertificateTooLarge):
        read(b"\x30" * (CERTIFICATE_BYTES_MAX + 1))
    with pytest.raises(CertificateTooLarge):
        parse_venue_root(b"\x30" * (CERTIFICATE_BYTES_MAX + 1))


def test_serial_number_of_159_bits_is_the_largest_that_a_revocation_can_name() -> None:
    assert read(forged(GOOD, serial=2**SERIAL_BITS_MAX - 1)).serial == 2**159 - 1
    assert read(forged(GOOD, serial=1)).serial == 1


@pytest.mark.parametrize(
    "extensions",
    [
        [(usage(), True), bound()],
        [(PLAIN, True), bound()],
        [(x509.BasicConstraints(True, None), True), (usage(), True), bound()],
        [(PLAIN, True), (usage(sign_certificates=True), True), bound()],
        [(PLAIN, True), (usage(sign_lists=True), True), bound()],
    ],
    ids=["no constraints", "no usage", "an authority", "signs certificates", "signs revocation lists"],
)
def test_certificate_that_could_issue_others_is_no_device(extensions: Extensions) -> None:
    with pytest.raises(IsAuthority):
        read(forged(extensions))


def test_unknown_extension_closes_the_door_only_if_it_is_critical() -> None:
    unknown = x509.UnrecognizedExtension(UNKNOWN_OID, b"\x05\x00")
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    assert read(forged([*GOOD, (unknown, False)])).name == "Bar A"
    assert read(forged([*GOOD, (both_ends, True)])).name == "Bar A"
    with pytest.raises(BadCertificate, match="critical"):
        read(forged([*GOOD, (unknown, True)]))
    with pytest.raises(BadCertificate, match="critical"):
        read(forged([(PLAIN, True), (usage(), True), bound(critical=True)]))


def test_certificate_without_a_binding_is_none_of_ours() -> None:
    with pytest.raises(BadBinding, match="binds no log key"):
        read(forged([(PLAIN, True), (usage(), True)]))


@pytest.mark.parametrize(
    "subject",
    [
        x509.Name([]),
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bar A")]),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("Bar A", "Bar B")]),
        x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "Bar A"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]
        ),
        common_name(" Bar A"),
        common_name("Bar\x07"),
    ],
)
def test_subject_that_is_not_one_good_name_is_refused(subject: x509.Name) -> None:
    with pytest.raises(BadSubject):
        read(forged(GOOD, subject=subject))


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ([1, bytes(31), []], BadBinding),
        ([1, bytes(33), []], BadBinding),
        ([2, bytes(32), []], BadBinding),
        ([0, bytes(32), []], BadBinding),
        ([True, bytes(32), []], BadBinding),
        ([1, bytes(32)], BadBinding),
        ([1, bytes(32), [], 0], BadBinding),
        (["1", bytes(32), []], BadBinding),
        ([1, "x" * 32, []], BadBinding),
        ([1, bytes(32), "reader"], BadBinding),
        ([1, bytes(32), [None]], BadBinding),
        ([1, bytes(32), ["reader", b"till"]], BadBinding),
        ([1, bytes(32), ["Reader"]], BadBinding),
        ([1, bytes(32), [""]], BadBinding),
        ([1, bytes(32), ["reader "]], BadBinding),
        ([1, bytes(32), ["till", "reader"]], BadBinding),
        ([1, bytes(32), ["reader", "reader"]], BadBinding),
        (7, BadBinding),
    ],
)
def test_binding_that_breaks_a_rule_is_refused(shape: Value, error: type[PeerError]) -> None:
    with pytest.raises(error):
        decode_binding(encode(shape))


def test_binding_holds_so_many_roles_and_not_one_more() -> None:
    names: list[Value] = [f"r{number:02}" for number in range(CERTIFICATE_ROLES_MAX - 1)]
    most: list[Value] = [*names, "till"]
    assert decode_binding(encode([1, bytes(32), most])) == (bytes(32), frozenset({Role.TILL}))
    with pytest.raises(BadBinding, match=f"more than {CERTIFICATE_ROLES_MAX}"):
        decode_binding(encode([1, bytes(32), [*names, "s", "till"]]))


def test_binding_that_is_longer_than_a_certificate_or_not_canonical_is_refused() -> None:
    with pytest.raises(PeerError):
        decode_binding(bytes(CERTIFICATE_BYTES_MAX + 1))
    with pytest.raises(NotCanonical):
        decode_binding(BINDING + b"\x00")


# -- Whose signature ---------------------------------------------------------------------------------------------------


def test_what_the_venues_authority_did_not_sign_is_of_another_venue() -> None:
    for der in (forged(GOOD, signer=key_of("thief")), forged(GOOD, issuer="Lakeside")):
        with pytest.raises(ForeignVenue):
            read(der)


def der_sequence(content: bytes) -> bytes:
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def changed(der: bytes, before: bytes, after: bytes, *, algorithm: bytes = b"\x06\x03\x2b\x65\x70") -> bytes:
    """The certificate with these bytes of its contents exchanged, signed again; `algorithm` is what it says it is."""
    signed = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    contents = signed[2 + (signed[1] & 0x7F) * (signed[1] >> 7) :].replace(before, after, 1)
    again = der_sequence(contents)
    return der_sequence(again + b"\x30\x05" + algorithm + b"\x03\x41\x00" + AUTHORITY.sign(again))


ED25519_OID: Final = bytes.fromhex("06032b6570")
ED448_OID: Final = bytes.fromhex("06032b6571")


def test_signature_must_say_that_it_is_ed25519_though_it_verifies() -> None:
    der = forged(GOOD, subject=common_name("Bar A with a name that makes this certificate long enough"))
    assert read(changed(der, b"", b"")).name.startswith("Bar A with")
    with pytest.raises(NotEd25519, match="signature"):
        read(changed(der, ED25519_OID, ED448_OID, algorithm=ED448_OID))


@pytest.mark.parametrize("serial", ["020100", "020185", "0215008000000000000000000000000000000000000000"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_serial_number_that_no_revocation_could_name_is_refused_though_the_authority_signed_it(serial: str) -> None:
    der = forged(GOOD, subject=common_name("Bar A with a name that makes this certificate long enough"), serial=5)
    with pytest.raises(BadSerial):
        read(changed(der, bytes.fromhex("020105"), bytes.fromhex(serial)))


def test_link_key_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(NotEd25519, match="link key"):
        read(forged(GOOD, key=P256.public_key()))


# -- The root ----------------------------------------------------------------------------------------------------------

AS_ROOT: Final[Extensions] = [(x509.BasicConstraints(True, 0), True), (usage(sign_certificates=True), True)]


def forged_root(extensions: Extensions = AS_ROOT, *, issuer: str = "Bar A", signer: SigningKey = AUTHORITY) -> bytes:
    """A certificate of the authority's key whose subject is "Bar A"."""
    key = signer.public_key()
    return forged(extensions, issuer=issuer, key=key, signer=signer)


def test_root_is_self_issued_self_signed_and_an_authority() -> None:
    assert parse_venue_root(forged_root()).subject == common_name("Bar A").public_bytes()
    with pytest.raises(NotRoot, match="device's certificate"):
        parse_venue_root(forged_root(issuer="Riverside"))
    with pytest.raises(NotRoot, match="device's certificate"):
        parse_venue_root(forged_root([(PLAIN, True)]))
    with pytest.raises(NotRoot, match="does not say"):
        parse_venue_root(forged_root([]))
    with pytest.raises(NotEd25519, match="root"):
        parse_venue_root(forged_root(signer=P256))
    with pytest.raises(ForeignVenue):
        parse_venue_root(forged(AS_ROOT, issuer="Bar A", signer=key_of("thief")))


def test_device_issued_here_passes_its_own_rules() -> None:
    keys = {"link_key": public_of("link"), "log_key": public_of("log")}
    device = issue_device(AUTHORITY, ROOT, name="Bar A", roles=frozenset({Role.TILL}), serial=9, **keys)
    assert read(device.der) == device
