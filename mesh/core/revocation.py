"""Revocation statements: the authority ends a device's trust and says which of its entries count.

Normative text: docs/spec/revocation.md.

::

    statement = [1, serial, number, [[log_id(16), seq, id(32)], ...], signature(64)]      strict CBOR

* `serial` names the certificate: its serial number, big-endian, without leading zeros.
* The list is the *cut*, at most one place in each log of the device, in order of log ids. An entry counts if it is the
  cut's entry or an ancestor of it; the device's other logs count nothing.
* The signature is the venue root's, over ``"tapmesh/revocation/1" || CBOR [1, serial, number, cut]``. So it does not
  matter who carries a statement: it is an entry in anyone's control log, or a row in own.db.

Rules of the fold, a pure function of the set of statements:

* A serial that was named once is revoked for good.
* Of several statements about one serial the one with the highest number holds; whether it raises or lowers the cut.
* Two different statements with one number are the authority contradicting itself. Then an entry counts only where each
  of them lets it count: nothing that either of them excludes can count, and a higher number settles it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import nacl.bindings
import nacl.exceptions

from mesh.core.certificate import SERIAL_BITS_MAX, VenueRoot
from mesh.core.codec import Value, decode_array, encode
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES, SIGNATURE_BYTES
from mesh.core.frontier import Position
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX, ENTRY_SEQ_MAX, REVOCATION_CUT_LOGS_MAX, REVOCATION_NUMBER_MAX

STATEMENT_VERSION: Final = 1
STATEMENT_DOMAIN: Final = b"tapmesh/revocation/1"


class BadStatement(PeerError):
    """The bytes are not a revocation statement of a shape that is known here; nobody is revoked by them."""


class NotTheAuthority(PeerError):
    """A statement that the venue's root did not sign; nobody is revoked by it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One checked statement. `cut` is by log id; `body` is the exact bytes, as they travel and are stored."""

    serial: int
    number: int
    cut: Mapping[bytes, Position]
    body: bytes


def sign_statement(sign: Callable[[bytes], bytes], *, serial: int, number: int, cut: Mapping[bytes, Position]) -> bytes:
    """The bytes of a new statement; `sign` is Ed25519 by the venue's root key. Its limits are the caller's to keep."""
    fields = _fields(serial, number, cut)
    return encode([*fields, sign(STATEMENT_DOMAIN + encode(fields))])


def parse_statement(body: bytes, root: VenueRoot) -> Statement:
    """Check shape, ranges and the root's signature, or raise a `PeerError`."""
    match decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [int(version), bytes(serial), int(number), list(places), bytes(signature)] if version is not True:
            pass
        case _:
            raise BadStatement("a revocation is [1, serial, number, cut, signature]")
    if version != STATEMENT_VERSION:
        raise BadStatement(f"a revocation of version {version} is not known here: update this program")
    cut = _cut(places)
    statement = Statement(_serial(serial), _number(number), cut, body)
    message = STATEMENT_DOMAIN + encode(_fields(statement.serial, statement.number, cut))
    if len(signature) != SIGNATURE_BYTES:
        raise BadStatement(f"a signature has {SIGNATURE_BYTES} bytes")
    try:
        nacl.bindings.crypto_sign_open(signature + message, root.public_key)
    except nacl.exceptions.BadSignatureError as error:
        raise NotTheAuthority("a revocation that this venue's authority did not sign") from error
    return statement


def encode_serial(serial: int) -> bytes:
    """A certificate's serial number as it stands in statements: big-endian, without leading zeros."""
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big")


def _fields(serial: int, number: int, cut: Mapping[bytes, Position]) -> list[Value]:
    places: list[Value] = [[log_id, cut[log_id].seq, cut[log_id].id] for log_id in sorted(cut)]
    return [STATEMENT_VERSION, encode_serial(serial), number, places]


def _serial(data: bytes) -> int:
    serial = int.from_bytes(data, "big")
    if serial == 0 or serial.bit_length() > SERIAL_BITS_MAX or encode_serial(serial) != data:
        raise BadStatement(f"a serial number is 1 to {SERIAL_BITS_MAX} bits, without leading zeros")
    return serial


def _number(number: int) -> int:
    if number is True or not 1 <= number <= REVOCATION_NUMBER_MAX:
        raise BadStatement(f"statements about a device are numbered 1 to {REVOCATION_NUMBER_MAX}")
    return number


def _cut(places: list[Value]) -> dict[bytes, Position]:
    if len(places) > REVOCATION_CUT_LOGS_MAX:
        raise BadStatement(f"a cut names at most {REVOCATION_CUT_LOGS_MAX} logs")
    cut: dict[bytes, Position] = {}
    for place in places:
        match place:
            case [bytes(log_id), int(seq), bytes(entry_id)] if (
                len(log_id) == LOG_ID_BYTES and len(entry_id) == ID_BYTES and seq is not True and seq is not False
            ):
                cut[log_id] = Position(seq, entry_id)
            case _:
                raise BadStatement("a place of a cut is [log_id(16), seq, id(32)]")
        if not 0 <= cut[log_id].seq <= ENTRY_SEQ_MAX:
            raise BadStatement("the seq of a cut is an unsigned 32-bit integer")
    if list(cut) != sorted(cut) or len(cut) != len(places):
        raise BadStatement("a cut names each log once, in order of their ids")
    return cut


class Revocations:
    """The fold: every serial that was ever revoked, and the statements that hold now. Order makes no difference."""

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        self._holding: dict[int, dict[bytes, Statement]] = {}
        for statement in statements:
            self.add(statement)

    def add(self, statement: Statement) -> bool:
        """Take in a checked statement; True if it changes what holds."""
        holding = self._holding.get(statement.serial)
        if holding is not None:
            number = next(iter(holding.values())).number
            if statement.number < number or statement.body in holding:
                return False
            if statement.number == number:
                holding[statement.body] = statement
                return True
        self._holding[statement.serial] = {statement.body: statement}
        return True

    def __contains__(self, serial: int) -> bool:
        """Whether the authority ever revoked the certificate with this serial number."""
        return serial in self._holding

    def serials(self) -> list[int]:
        return sorted(self._holding)

    def holding(self, serial: int) -> tuple[Statement, ...]:
        """The statements with the highest number about a serial, by their bytes: none, one, or a contradiction."""
        return tuple(statement for _, statement in sorted(self._holding.get(serial, {}).items()))

    def number(self, serial: int) -> int:
        """The highest number heard about a serial; 0 where it was not revoked."""
        return max((statement.number for statement in self._holding.get(serial, {}).values()), default=0)

    def cuts(self, serial: int, log_id: bytes) -> tuple[Position | None, ...]:
        """Where the holding statements cut a log of this device; None in it is a statement that excludes the log."""
        return tuple(statement.cut.get(log_id) for statement in self.holding(serial))
