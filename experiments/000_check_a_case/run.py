"""Can a stranger check a double spend? This script imports nothing of tapmesh: only PyNaCl, cbor2 and cryptography.

    python experiments/000_check_a_case/run.py case.cbor venue.pem
    python experiments/000_check_a_case/run.py --flip case.cbor venue.pem

Exit code 0 and two lines if the case holds; 1 and one line that says why not. With --flip every bit of a good case
is flipped in turn, and the JSON that is printed says how many of those were refused. The format is
docs/spec/evidence.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

BINDING = x509.ObjectIdentifier("2.25.135659146443093880262595286185255167780")
GENESIS, TAP, RECORD_BYTES = 0, 16, 42
ISSUE, TOP_UP, SALE = 0, 1, 2
ROLE_FOR = {ISSUE: "till", TOP_UP: "till", SALE: "reader"}


class NoCase(Exception):
    """The file proves nothing."""


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NoCase(otherwise)


def canonical(data: bytes) -> list[Any]:
    """Decode an array and insist that these are the only bytes that encode it."""
    try:
        value: list[Any] = cbor2.loads(data)
        require(type(value) is list and cbor2.dumps(value) == data, "not deterministic CBOR")
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise NoCase(f"not CBOR: {error}") from error
    return value


def log_key_and_roles(der: bytes, root: x509.Certificate) -> tuple[str, bytes, list[str]]:
    """The name, log key and roles that the venue's root vouches for."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        root_key = root.public_key()
        assert isinstance(root_key, Ed25519PublicKey)
        root_key.verify(certificate.signature, certificate.tbs_certificate_bytes)
        binding = certificate.extensions.get_extension_for_oid(BINDING).value.public_bytes()
    except (ValueError, InvalidSignature, x509.InvalidVersion, x509.ExtensionNotFound) as error:
        raise NoCase(f"a device's certificate is not of this venue ({type(error).__name__})") from error
    version, log_key, roles = canonical(binding)
    require(version == 1 and len(log_key) == 32, "a certificate's binding of keys is unknown")
    name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return str(name), log_key, roles


def verified(entry: bytes, key: bytes) -> list[Any]:
    """An entry's seven fields, if its own signature holds."""
    payload, signature = entry[:-64], entry[-64:]
    try:
        VerifyKey(key).verify(b"tapmesh/entry/1" + payload, signature)
    except (BadSignatureError, ValueError) as error:
        raise NoCase("an entry's signature does not hold") from error
    fields = canonical(payload)
    require(len(fields) == 7 and fields[0] == 1, "an entry has another version")
    return fields


def check_tap(genesis: bytes, tap: bytes, root: x509.Certificate) -> dict[str, Any]:
    """What one signed tap says, or NoCase."""
    name, key, roles = log_key_and_roles(canonical(canonical(genesis[:-64])[6])[0], root)
    first, fields = verified(genesis, key), verified(tap, key)
    log_id = hashlib.sha256(genesis).digest()[:16]
    require(first[1:4] == [b"", 0, bytes(32)] and first[5] == GENESIS, "a log does not begin with a genesis")
    require(fields[1] == log_id and fields[5] == TAP, "an entry is not a tap of its log")
    tap_id, operation, amount, witness, written, _ = canonical(fields[6])
    require(ROLE_FOR.get(operation) in roles, "a device's role does not allow what it signed")
    before, after = witness[:RECORD_BYTES], written[:RECORD_BYTES]
    number = int.from_bytes
    consumed = hashlib.sha256(before).digest()[:16] if witness else bytes(16)
    child = after[34:42] == consumed[:8]
    if witness:
        child = child and after[1:13] == before[1:13]
        child = child and number(after[13:17], "big") == number(before[13:17], "big") + 1
    change = amount if operation in (ISSUE, TOP_UP) else -amount
    start = number(before[17:21], "big") if witness else 0
    require(child and number(after[17:21], "big") == start + change, "a written record does not follow the one read")
    require(after[30:34] == hashlib.sha256(key).digest()[:4], "a record names another device than its signer")
    return {"reader": name, "key": key, "tap": tap_id, "amount": amount, "card": after[1:9], "consumed": consumed,
            "written": after, "id": hashlib.sha256(tap).digest()}  # fmt: skip


def check(case: bytes, root_pem: bytes) -> list[dict[str, Any]]:
    """Every tap of a case that holds, or NoCase."""
    root = x509.load_pem_x509_certificate(root_pem)
    require(isinstance(root.public_key(), Ed25519PublicKey), "the root's key is not Ed25519")
    version, root_der, pairs = canonical(case)
    require(version == 1 and root_der == root.public_bytes(Encoding.DER), "the case is of another venue")
    taps = [check_tap(genesis, tap, root) for genesis, tap in pairs]
    require(len(taps) >= 2, "one tap is no double spend")
    require(len({(tap["card"], tap["consumed"]) for tap in taps}) == 1, "the taps did not spend one record of one card")
    require(len({(tap["key"], tap["tap"]) for tap in taps}) == len(taps), "two of the taps are one tap")
    require(len({tap["written"] for tap in taps}) == len(taps), "two of the taps are one tap")
    require([tap["id"] for tap in taps] == sorted(tap["id"] for tap in taps), "the taps are out of order")
    return taps


def main(case_path: str, root_path: str) -> int:
    try:
        taps = check(Path(case_path).read_bytes(), Path(root_path).read_bytes())
    except (NoCase, ValueError, TypeError, IndexError) as error:
        print(f"REFUSED: {error}")
        return 1
    places = " and ".join(f"{tap['reader']} ({tap['amount'] / 100:.2f})" for tap in taps)
    print(f"HOLDS: card {taps[0]['card'].hex()} was spent {len(taps)} times from one state, at {places}")
    print(f"signed by keys that {root_path} vouches for: {', '.join(tap['key'].hex()[:16] for tap in taps)}")
    return 0


def flip_every_bit(case_path: str, root_path: str) -> int:
    """Exit code 0 if the case holds and not one of its bits can be flipped without being noticed."""
    case, root_pem = Path(case_path).read_bytes(), Path(root_path).read_bytes()
    check(case, root_pem)
    warnings.simplefilter("ignore")  # flipped certificates make the library grumble before it refuses
    refused = 0
    for at in range(len(case)):
        for bit in range(8):
            flipped = case[:at] + bytes([case[at] ^ (1 << bit)]) + case[at + 1 :]
            try:
                check(flipped, root_pem)
            except (NoCase, ValueError, TypeError, IndexError):
                refused += 1
    print(json.dumps({"bytes": len(case), "flips": len(case) * 8, "refused": refused}))
    return 0 if refused == len(case) * 8 else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--flip", case_file, root_file]:
            sys.exit(flip_every_bit(case_file, root_file))
        case [case_file, root_file]:
            sys.exit(main(case_file, root_file))
        case _:
            sys.exit(__doc__)
