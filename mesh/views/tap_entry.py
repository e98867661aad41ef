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

from dataclasses import dataclass

from mesh.core.codec import decode_array, encode
from mesh.core.kinds import Operation
from mesh.errors import PeerError
from mesh.limits import AMOUNT_MINOR_MAX, CARD_SLOT_BYTES_MAX, ENTRY_BODY_BYTES_MAX


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
        return encode(
            [self.tap_id, int(self.operation), self.amount_minor, self.witness, self.written, self.document]
        )


@dataclass(frozen=True, slots=True)
class AbortBody:
    """One intent given up; if the record it names turns up on a card all the same, its amount is credited once."""

    tap_id: bytes
    written_hash: bytes

    def encode(self) -> bytes:
        return encode([self.tap_id, self.written_hash])


def decode_tap(body: bytes) -> TapBody:
    """Parse a TAP body strictly, or raise :class:`BadTapBody` or a codec error (all `PeerError`)."""
    match decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [bytes(tap_id), int(operation), int(amount), bytes(witness), bytes(written), bytes(document)]:
            pass
        case _:
            raise BadTapBody("a tap's body is [tap_id, operation, amount, witness, written, document]")
    if len(tap_id) != 16 or len(document) != 32:
        raise BadTapBody("a tap id has 16 bytes and a document digest 32")
    if len(witness) > CARD_SLOT_BYTES_MAX or not 0 < len(written) <= CARD_SLOT_BYTES_MAX:
        raise BadTapBody(f"a sealed card record has at most {CARD_SLOT_BYTES_MAX} bytes")
    if isinstance(amount, bool) or not 0 <= amount <= AMOUNT_MINOR_MAX:
        raise BadTapBody("the amount is out of range")
    if isinstance(operation, bool) or not 0 <= operation <= max(Operation):
        raise BadTapBody(f"operation {operation} is not known here")
    return TapBody(tap_id, Operation(operation), amount, witness, written, document)


def decode_abort(body: bytes) -> AbortBody:
    """Parse an ABORT body strictly, or raise :class:`BadTapBody` or a codec error (all `PeerError`)."""
    match decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [bytes(tap_id), bytes(written_hash)] if len(tap_id) == 16 and len(written_hash) == 32:
            return AbortBody(tap_id, written_hash)
        case _:
            raise BadTapBody("an abort's body is [tap_id(16), written_hash(32)]")
