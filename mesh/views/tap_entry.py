"""The bodies of money entries: what a reader signs about one tap.

TAP body    = [tap_id(16), operation, amount_minor, witness, written, document(32)]
ABORT body  = [tap_id(16), written_hash(32)]

* `tap_id` is minted once, with the basket, before the first write that mentions it; money posts once per tap id.
* `witness` is the sealed card record as read, byte for byte; empty when the card was blank.
* `written` is the sealed card record that was written and read back.
* `document` is SHA-256 over the sorted heads of the venue document that the tap applied.
* `written_hash` names the record an aborted intent may have left on a card (SHA-256 of its 42 bytes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from mesh.core.codec import are_canonical, decode_all_unchecked, decode_array, encode
from mesh.core.kinds import Operation
from mesh.errors import PeerError
from mesh.limits import AMOUNT_MINOR_MAX, CARD_SLOT_BYTES_MAX, ENTRY_BODY_BYTES_MAX

TAP_ID_BYTES: Final = 16

TapValues: TypeAlias = tuple[bytes, int, int, bytes, bytes, bytes]
"""tap_id, operation, amount_minor, witness, written, document; a list at run time, as it was decoded."""

_BODY_HEADER: Final = 0x86
"""CBOR array of six."""
_OPERATION_MAX: Final = int(max(Operation))


class BadTapBody(PeerError):
    """The body of a money entry does not have the shape its kind requires; the entry counts for nothing."""


@dataclass(frozen=True, slots=True)
class TapBody:
    """One value change of one card."""

    tap_id: bytes
    operation: Operation
    amount_minor: int
    witness: bytes
    written: bytes
    document: bytes

    def encode(self) -> bytes:
        return encode([self.tap_id, int(self.operation), self.amount_minor, self.witness, self.written, self.document])


@dataclass(frozen=True, slots=True)
class AbortBody:
    """One intent given up; if the record it names turns up on a card all the same, its amount is credited once."""

    tap_id: bytes
    written_hash: bytes

    def encode(self) -> bytes:
        return encode([self.tap_id, self.written_hash])


def decode_tap(body: bytes) -> TapBody:
    """Parse a TAP body strictly, or raise :class:`BadTapBody` or a codec error (all `PeerError`)."""
    tap_id, operation, amount, witness, written, document = _strict_values(body)
    return TapBody(tap_id, Operation(operation), amount, witness, written, document)


def decode_taps(bodies: Sequence[bytes]) -> list[TapValues | None]:
    """Parse many TAP bodies strictly and quickly: the values of each, or None where :func:`decode_tap` would raise."""
    try:
        decoded = decode_all_unchecked(bodies)
        for value in decoded:
            check_tap_values(value)
        values = cast("list[TapValues]", decoded)
        if are_canonical(values, bodies, _BODY_HEADER):
            return list(values)
    except PeerError:
        pass
    return [_values_or_none(body) for body in bodies]


def _values_or_none(body: bytes) -> TapValues | None:
    try:
        return _strict_values(body)
    except PeerError:
        return None


def _strict_values(body: bytes) -> TapValues:
    value = decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX)
    check_tap_values(value)
    return cast(TapValues, value)


def check_tap_values(values: object) -> None:
    """Check types, lengths and ranges of a decoded TAP body, or raise :class:`BadTapBody`."""
    if type(values) is not list or len(values) != 6:
        raise BadTapBody("a tap's body is [tap_id, operation, amount, witness, written, document]")
    tap_id, operation, amount, witness, written, document = values
    if type(tap_id) is not bytes or type(witness) is not bytes or type(written) is not bytes:
        raise BadTapBody("tap id, witness and written record are byte strings")
    if type(document) is not bytes or type(operation) is not int or type(amount) is not int:
        raise BadTapBody("operation and amount are integers, the document digest is a byte string")
    if len(tap_id) != TAP_ID_BYTES or len(document) != 32:
        raise BadTapBody("a tap id has 16 bytes and a document digest 32")
    if len(witness) > CARD_SLOT_BYTES_MAX or not 0 < len(written) <= CARD_SLOT_BYTES_MAX:
        raise BadTapBody(f"a sealed card record has at most {CARD_SLOT_BYTES_MAX} bytes")
    if not 0 <= amount <= AMOUNT_MINOR_MAX:
        raise BadTapBody("the amount is out of range")
    if not 0 <= operation <= _OPERATION_MAX:
        raise BadTapBody(f"operation {operation} is not known here")


def decode_abort(body: bytes) -> AbortBody:
    """Parse an ABORT body strictly, or raise :class:`BadTapBody` or a codec error (all `PeerError`)."""
    match decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [bytes(tap_id), bytes(written_hash)] if len(tap_id) == TAP_ID_BYTES and len(written_hash) == 32:
            return AbortBody(tap_id, written_hash)
        case _:
            raise BadTapBody("an abort's body is [tap_id(16), written_hash(32)]")
