"""Certificates: what is let in, and each way a forged or damaged one is refused."""

from __future__ import annotations

import datetime
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import certificate as subject
from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate, parse_venue_root
from mesh.core.codec import encode
from mesh.core.issue import issue_device, issue_root
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.limits import CERTIFICATE_BYTES_MAX


def _key(number: int) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def _public(number: int) -> bytes:
    return _key(number).public_key().public_bytes_raw()


AUTHORITY = _key(1)
ROOT = parse_venue_root(issue_root(AUTHORITY, venue="Riverside 2031", serial=77))
STRANGER_ROOT = parse_venue_root(issue_root(_key(2), venue="Riverside 2031", serial=77))


def _device(root: VenueRoot = ROOT, authority: ed25519.Ed25519PrivateKey = AUTHORITY) -> DeviceCertificate:
    roles = frozenset({Role.TILL, Role.READER})
    return issue_device(
        authority, root, name="Bar A", link_key=_public(10), log_key=_public(11), roles=roles, serial=4711
    )


DEVICE = _device()


def _forge(
    *,
    signer: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey = AUTHORITY,
    issuer: str = "Riverside 2031",
    names: tuple[str, ...] = ("Bar A",),
    key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | None = None,
    serial: int = 5,
    ca: bool = False,
    sign_certificates: bool = False,
    constraints: bool = True,
    binding: bytes | None = None,
    critical: bool = False,
) -> bytes:
    """Anything a dishonest or broken authority could sign, one deviation at a time."""
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key or _key(10).public_key())
        .serial_number(serial)
        .not_valid_before(day)
        .not_valid_after(day + datetime.timedelta(days=1))
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, sign_certificates, False, False, False), critical=True
        )
    )
    if constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if binding != b"":
        value = binding or subject.encode_binding(_public(11), frozenset({Role.READER}))
        builder = builder.add_extension(x509.UnrecognizedExtension(subject.BINDING_OID, value), critical=critical)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(signer, algorithm).public_bytes(Encoding.DER)


def test_issued_certificate_says_who_the_device_is_and_what_it_may_do() -> None:
    parsed = parse_device_certificate(DEVICE.der, ROOT)
    assert (parsed.name, parsed.serial, parsed.roles) == ("Bar A", 4711, frozenset({Role.READER, Role.TILL}))
    assert (parsed.link_key, parsed.log_key) == (_public(10), _public(11))


def test_certificate_is_the_same_bytes_for_the_same_request_and_serial() -> None:
    assert _device().der == DEVICE.der


def test_certificate_long_expired_is_accepted_because_boards_have_no_clock() -> None:
    assert parse_device_certificate(_forge(), ROOT).name == "Bar A"


@pytest.mark.proves("M7")
def test_certificate_of_a_venue_with_the_same_name_is_a_stranger() -> None:
    stranger = _device(STRANGER_ROOT, _key(2))
    with pytest.raises(subject.ForeignVenue):
        parse_device_certificate(stranger.der, ROOT)
    assert STRANGER_ROOT.venue_id != ROOT.venue_id


@pytest.mark.proves("M7")
def test_self_signed_certificate_is_refused() -> None:
    with pytest.raises(subject.ForeignVenue):
        parse_device_certificate(_forge(signer=_key(10), issuer="Bar A"), ROOT)


@pytest.mark.proves("M7")
def test_certificate_with_its_log_key_swapped_is_refused() -> None:
    assert DEVICE.der.count(_public(11)) == 1
    with pytest.raises(subject.ForeignVenue):
        parse_device_certificate(DEVICE.der.replace(_public(11), _public(66)), ROOT)


@pytest.mark.proves("M7")
def test_certificate_with_a_role_it_was_not_given_is_refused() -> None:
    with pytest.raises(subject.ForeignVenue):
        parse_device_certificate(DEVICE.der.replace(b"reader", b"rooter"), ROOT)


@pytest.mark.proves("M7")
def test_certificate_issued_by_another_device_of_the_venue_is_refused() -> None:
    with pytest.raises(subject.ForeignVenue):
        parse_device_certificate(_forge(signer=_key(10), issuer="Bar A", names=("Bar B",)), ROOT)


def test_venue_root_is_not_a_device() -> None:
    with pytest.raises(subject.IsAuthority):
        parse_device_certificate(ROOT.der, ROOT)


def test_device_is_not_a_venue_root() -> None:
    with pytest.raises(subject.NotRoot):
        parse_venue_root(DEVICE.der)


def test_root_signed_by_somebody_else_is_refused() -> None:
    with pytest.raises(subject.ForeignVenue):
        parse_venue_root(_forge(signer=_key(3), names=("Riverside 2031",), ca=True))


@pytest.mark.parametrize(
    ("error", "der"),
    [
        (subject.IsAuthority, _forge(ca=True)),
        (subject.IsAuthority, _forge(sign_certificates=True)),
        (subject.IsAuthority, _forge(constraints=False)),
        (subject.ForeignVenue, _forge(issuer="Lakeside 2031")),
        (subject.NotEd25519, _forge(key=ec.derive_private_key(9, ec.SECP256R1()).public_key())),
        (subject.BadSubject, _forge(names=("Bar A", "Bar B"))),
        (subject.BadSubject, _forge(names=())),
        (subject.BadSubject, _forge(names=("Bar\nA",))),
        (subject.BadCertificate, _forge(critical=True)),
        (subject.BadBinding, _forge(binding=b"")),
        (subject.BadBinding, _forge(binding=encode([2, _public(11), []]))),
        (subject.BadBinding, _forge(binding=encode([True, _public(11), []]))),
        (subject.BadBinding, _forge(binding=encode([1, _public(11)[:31], []]))),
        (subject.BadBinding, _forge(binding=encode([1, _public(10), []]))),
        (subject.BadBinding, _forge(binding=encode([1, _public(11), ["till", "reader"]]))),
        (subject.BadBinding, _forge(binding=encode([1, _public(11), ["till", "till"]]))),
        (subject.BadBinding, _forge(binding=encode([1, _public(11), [7]]))),
        (subject.BadBinding, _forge(binding=encode([1, _public(11), [f"r{i:02}" for i in range(17)]]))),
        (PeerError, _forge(binding=encode([1, _public(11), []]) + b"\x00")),
        (PeerError, _forge(binding=b"\x83\x18\x01")),
    ],
)
def test_certificate_the_authority_should_never_sign_is_refused(error: type[PeerError], der: bytes) -> None:
    with pytest.raises(error):
        parse_device_certificate(der, ROOT)


def test_certificate_signed_with_another_algorithm_is_refused() -> None:
    with pytest.raises(PeerError):
        parse_device_certificate(_forge(signer=ec.derive_private_key(9, ec.SECP256R1())), ROOT)


def test_role_of_a_later_version_grants_nothing_and_refuses_nothing() -> None:
    binding = encode([1, _public(11), ["astronaut", "reader"]])
    assert parse_device_certificate(_forge(binding=binding), ROOT).roles == {Role.READER}


def test_certificate_longer_than_the_bound_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(subject.CertificateTooLarge):
        parse_device_certificate(b"\x30" * (CERTIFICATE_BYTES_MAX + 1), ROOT)


def test_certificate_followed_by_one_more_byte_is_refused() -> None:
    with pytest.raises(PeerError):
        parse_device_certificate(DEVICE.der + b"\x00", ROOT)


def test_certificate_cut_off_anywhere_is_refused() -> None:
    for length in range(len(DEVICE.der)):
        with pytest.raises(PeerError):
            parse_device_certificate(DEVICE.der[:length], ROOT)


def test_certificate_with_any_one_byte_changed_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at in range(len(DEVICE.der)):
            damaged = bytearray(DEVICE.der)
            damaged[at] ^= 1 << (at % 8)
            with pytest.raises(PeerError):
                parse_device_certificate(bytes(damaged), ROOT)


@settings(max_examples=300)
@given(st.binary(max_size=400) | st.binary(max_size=60).map(lambda tail: DEVICE.der[:120] + tail))
def test_garbage_is_refused_as_the_peers_fault(garbage: bytes) -> None:
    with pytest.raises(PeerError):
        parse_device_certificate(garbage, ROOT)
    with pytest.raises(PeerError):
        parse_venue_root(garbage)


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_garbage_in_the_binding_is_refused_as_the_peers_fault(garbage: bytes) -> None:
    with pytest.raises(PeerError):
        subject.decode_binding(garbage)
