"""Join codes: what is printed for one device and typed into it (docs/spec/join.md).

::

    code   = 25 characters, Crockford's base 32, in five groups: 24 carry pin(8) || secret(7), the last one checks them
    pin    = scrypt(welcome certificate)[:8]      who answers must hold that certificate's key
    secret = 7 random bytes, for one name         who asks must have been given the paper
    digest = SHA-256("tapmesh/join/secret/1" || venue id || secret)      all that the office keeps of it

The welcome certificate names the venue id, so the pin stands for the venue as well: an answer with another venue's root
is refused. scrypt makes each try at a second certificate with one pin cost 32 MB and a tenth of a second; the secret
never leaves the device but inside TLS to whoever the pin names, so there is nothing to try it against but the office.

The check character is a Reed-Solomon symbol over GF(32): it catches every single wrong character and every two that
were swapped, before anything is sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mesh.core.issue import NOT_AFTER, NOT_BEFORE
from mesh.errors import LocalError, PeerError
from mesh.limits import CERTIFICATE_BYTES_MAX

PIN_BYTES: Final = 8
SECRET_BYTES: Final = 7
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SECRET_DOMAIN: Final = b"tapmesh/join/secret/1"
_PIN_SALT: Final = b"tapmesh/join/pin/1"
_SCRYPT_COST: Final = 2**15
_SCRYPT_BLOCKS: Final = 8
_SCRYPT_MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
_CHARS: Final = 25
_GROUP: Final = 5
_MISREAD: Final = str.maketrans({"I": "1", "L": "1", "O": "0"})
_FIELD_POLYNOMIAL: Final = 0b100101
"""x^5 + x^2 + 1, primitive over GF(2)."""
_LIBRARY_ERRORS: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


class BadCode(LocalError):
    """What was typed is not a join code; nothing was sent."""


class NotWelcome(PeerError):
    """The certificate of whoever answered is not one that an office shows."""


@dataclass(frozen=True, slots=True)
class JoinCode:
    """The two halves of a code; `secret` is told to nobody but the holder of the certificate with this `pin`."""

    pin: bytes
    secret: bytes

    def __str__(self) -> str:
        return format_code(self)


def format_code(code: JoinCode) -> str:
    """The code as it is printed.

    >>> format_code(JoinCode(bytes(8), bytes(6) + b"!"))
    '00000-00000-00000-00000-0011H'
    """
    number = int.from_bytes(code.pin + code.secret, "big")
    symbols = [number >> shift & 31 for shift in range(115, -1, -5)]
    text = "".join(ALPHABET[symbol] for symbol in [*symbols, _check_symbol(symbols)])
    return "-".join(text[at : at + _GROUP] for at in range(0, _CHARS, _GROUP))


def parse_code(text: str) -> JoinCode:
    """Read a code as people type it: any case, any spaces or dashes, I and L for 1, O for 0. Or :class:`BadCode`."""
    plain = "".join(char for char in text.upper() if not char.isspace() and char not in "-–—_").translate(_MISREAD)
    strange = sorted(set(plain) - set(ALPHABET))
    if strange:
        raise BadCode(f"a join code has no {' or '.join(strange)} in it: look at the paper again. Nothing was sent")
    if len(plain) != _CHARS:
        raise BadCode(f"a join code has {_CHARS} characters, this has {len(plain)}: look at the paper again")
    symbols = [ALPHABET.index(char) for char in plain]
    if _check_symbol(symbols[:-1]) != symbols[-1]:
        raise BadCode("one of the characters is wrong, or two are swapped: type the code again. Nothing was sent")
    number = 0
    for symbol in symbols[:-1]:
        number = number << 5 | symbol
    data = number.to_bytes(PIN_BYTES + SECRET_BYTES, "big")
    return JoinCode(data[:PIN_BYTES], data[PIN_BYTES:])


def welcome_pin(der: bytes) -> bytes:
    """The pin of a welcome certificate; takes about a tenth of a second and 32 MB."""
    derived = hashlib.scrypt(
        der, salt=_PIN_SALT, n=_SCRYPT_COST, r=_SCRYPT_BLOCKS, p=1, maxmem=_SCRYPT_MEMORY_BYTES_MAX, dklen=PIN_BYTES
    )
    return bytes(derived)


def secret_digest(venue_id: bytes, secret: bytes) -> bytes:
    """What the office keeps of a secret."""
    return hashlib.sha256(SECRET_DOMAIN + venue_id + secret).digest()


def issue_welcome(key: Ed25519PrivateKey, venue_id: bytes, *, serial: int) -> bytes:
    """The DER of the certificate that the office shows to devices: self-signed, its common name is the venue id."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, venue_id.hex())])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(serial).not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def welcome_venue(der: bytes) -> bytes:
    """The venue id that a welcome certificate names, or :class:`NotWelcome`. Its pin is the caller's to check."""
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise NotWelcome(f"a certificate of {len(der)} bytes; at most {CERTIFICATE_BYTES_MAX} are allowed")
    try:
        names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        venue_id = bytes.fromhex(str(names[0].value)) if len(names) == 1 else b""
    except _LIBRARY_ERRORS as error:
        raise NotWelcome("the certificate is not one that an office shows to devices that join") from error
    if len(venue_id) != hashlib.sha256().digest_size:
        raise NotWelcome("the certificate names no venue")
    return venue_id


def _check_symbol(symbols: list[int]) -> int:
    """The sum of symbol i times x^(i+1): all factors differ, and none is 0 or 1."""
    total, factor = 0, 1
    for symbol in symbols:
        factor = _times(factor, 2)
        total ^= _times(symbol, factor)
    return total


def _times(left: int, right: int) -> int:
    """Multiply in GF(32)."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left & 32:
            left ^= _FIELD_POLYNOMIAL
        right >>= 1
    return product
