"""Join codes character by character, the pin and the digest byte by byte, and the office's certificate."""

from __future__ import annotations

import datetime
import hashlib
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mesh.core.issue import NOT_AFTER, NOT_BEFORE
from mesh.core.join_code import (
    ALPHABET,
    BadCode,
    JoinCode,
    NotWelcome,
    format_code,
    issue_welcome,
    parse_code,
    secret_digest,
    welcome_pin,
    welcome_venue,
)
from mesh.limits import CERTIFICATE_BYTES_MAX

POWERS: Final = (2, 4, 8, 16, 5, 10, 20, 13, 26, 17, 7, 14, 28, 29, 31, 27, 19, 3, 6, 12, 24, 21, 15, 30)
"""x, x^2, ... x^24 in GF(32) with x^5 = x^2 + 1, worked out by hand."""
PRINTED: Final = [
    (JoinCode(bytes(8), bytes(7)), "00000-00000-00000-00000-00000"),
    (JoinCode(b"\xff" * 8, b"\xff" * 7), "ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZW"),
    (JoinCode(bytes(range(8)), bytes(range(8, 15))), "000G4-0R40M-30E20-9185G-R38EV"),
    (JoinCode(b"\x80" + bytes(7), bytes(7)), "G0000-00000-00000-00000-00005"),
    (JoinCode(bytes(8), bytes(6) + b"\x01"), "00000-00000-00000-00000-0001Y"),
    (JoinCode(bytes(8), bytes(6) + b"!"), "00000-00000-00000-00000-0011H"),
]


# -- The code ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "text"), PRINTED)
def test_code_is_printed_and_read_like_this(code: JoinCode, text: str) -> None:
    assert format_code(code) == str(code) == text
    assert parse_code(text) == code


@pytest.mark.parametrize("at", range(24))
def test_check_character_of_a_single_one_is_the_power_that_belongs_to_its_place(at: int) -> None:
    data = (1 << 5 * (23 - at)).to_bytes(15, "big")
    code = JoinCode(data[:8], data[8:])
    plain = "0" * at + "1" + "0" * (23 - at) + ALPHABET[POWERS[at]]
    assert format_code(code).replace("-", "") == plain
    assert parse_code(plain) == code


def test_check_character_of_two_is_the_sum_of_both() -> None:
    symbols = [0] * 24
    symbols[3], symbols[20] = 1, 1
    plain = "".join(ALPHABET[symbol] for symbol in [*symbols, POWERS[3] ^ POWERS[20]])
    assert format_code(parse_code(plain)).replace("-", "") == plain


def test_each_character_of_the_alphabet_stands_for_its_own_five_bits() -> None:
    assert ALPHABET == "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    for value in range(32):
        code = JoinCode((value << 3).to_bytes(1, "big") + bytes(7), bytes(7))
        assert format_code(code)[0] == ALPHABET[value]
        assert parse_code(format_code(code)).pin[0] == value << 3


@pytest.mark.parametrize(
    "typed",
    [
        "000G4-0R40M-30E20-9185G-R38EV",
        "000g4-0r40m-30e20-9185g-r38ev",
        "OooG4oR4oM3oE2o9i85GR38EV",
        "000G4 0R40M 30E20 9L85G R38EV\n",
        "  000G4\t0R40M\u00a030E20--9l85G-R38EV ",
        "000G4–0R40M—30E20_9I85G-R38EV",
    ],
)
def test_code_is_read_however_it_is_typed(typed: str) -> None:
    assert parse_code(typed) == JoinCode(bytes(range(8)), bytes(range(8, 15)))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "25 characters, this has 0"),
        ("-", "25 characters, this has 0"),
        ("0" * 24, "25 characters, this has 24"),
        ("0" * 26, "25 characters, this has 26"),
        ("0" * 24 + "U", "has no U in it"),
        ("0" * 22 + "Üu!", "has no ! or U or Ü in it"),
        ("000G4.0R40M", "has no . in it"),
        ("0" * 24 + "1", "one of the characters is wrong"),
        ("1" + "0" * 24, "one of the characters is wrong"),
        ("00G04-0R40M-30E20-9185G-R38EV", "two are swapped"),
    ],
)
def test_what_is_no_code_is_refused_with_what_is_wrong_and_nothing_is_sent(typed: str, said: str) -> None:
    with pytest.raises(BadCode) as refused:
        parse_code(typed)
    assert said in str(refused.value)


# -- Pin and digest ----------------------------------------------------------------------------------------------------


def test_pin_is_the_scrypt_that_the_specification_names() -> None:
    expected = hashlib.scrypt(
        b"certificate", salt=b"tapmesh/join/pin/1", n=2**15, r=8, p=1, maxmem=64 * 1024 * 1024, dklen=8
    )
    assert welcome_pin(b"certificate") == expected
    assert type(welcome_pin(b"certificate")) is bytes


def test_digest_of_a_secret_is_bound_to_its_venue() -> None:
    digest = secret_digest(b"V" * 32, b"secret!")
    assert digest == hashlib.sha256(b"tapmesh/join/secret/1" + b"V" * 32 + b"secret!").digest()
    assert digest != secret_digest(b"W" * 32, b"secret!")


# -- The office's certificate ------------------------------------------------------------------------------------------

OFFICE: Final = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"office").digest())
VENUE_ID: Final = bytes(range(32))


def shown(*names: str, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey = OFFICE) -> bytes:
    """A self-signed certificate with these common names."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in names])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(5).not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    algorithm = None if isinstance(key, Ed25519PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def test_welcome_certificate_is_self_signed_and_named_for_the_venue() -> None:
    der = issue_welcome(OFFICE, VENUE_ID, serial=4711)
    certificate = x509.load_der_x509_certificate(der)
    expected = [(NameOID.COMMON_NAME, VENUE_ID.hex())]
    for name in (certificate.subject, certificate.issuer):
        assert [(attribute.oid, attribute.value) for attribute in name] == expected
    assert (certificate.serial_number, list(certificate.extensions)) == (4711, [])
    assert certificate.not_valid_before_utc == datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert certificate.not_valid_after_utc == datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert key.public_bytes_raw() == OFFICE.public_key().public_bytes_raw()
    key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    assert welcome_venue(der) == VENUE_ID


@pytest.mark.parametrize(
    "names", [(), (VENUE_ID.hex(), VENUE_ID.hex()), (VENUE_ID.hex()[:-2],), (VENUE_ID.hex()[:62], "x"), ("00",)]
)
def test_certificate_that_names_no_venue_is_not_welcome(names: tuple[str, ...]) -> None:
    with pytest.raises(NotWelcome, match="names no venue"):
        welcome_venue(shown(*names))


@pytest.mark.parametrize(
    "der", [b"", b"\x30", shown("xyz"), shown("Bar A"), shown(VENUE_ID.hex())[:-1], shown(VENUE_ID.hex()) + b"\x00"]
)
def test_what_is_no_certificate_of_an_office_is_not_welcome(der: bytes) -> None:
    with pytest.raises(NotWelcome, match="not one that an office shows"):
        welcome_venue(der)


def test_certificate_of_the_largest_size_is_looked_at_and_one_byte_more_is_not() -> None:
    with pytest.raises(NotWelcome, match="not one that an office shows"):
        welcome_venue(b"\x30" * CERTIFICATE_BYTES_MAX)
    with pytest.raises(NotWelcome, match=f"{CERTIFICATE_BYTES_MAX + 1} bytes"):
        welcome_venue(b"\x30" * (CERTIFICATE_BYTES_MAX + 1))
