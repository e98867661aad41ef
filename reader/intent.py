"""An order, and what is made durable about it before the first byte goes to a card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mesh.core.codec import decode_array, encode
from mesh.core.kinds import Operation
from mesh.errors import StorageError
from mesh.limits import AMOUNT_MINOR_MAX, INTENT_BYTES_MAX
from mesh.views.card_record import RECORD_BYTES, SEALED_BYTES, CardRecord, record_hash
from mesh.views.tap_entry import TAP_ID_BYTES, AbortBody, TapBody

INTENT_VERSION: Final = 1


class BadIntent(StorageError):
    """A stored intent does not read back as one: the store is damaged, and the process must not go on."""


@dataclass(frozen=True, slots=True)
class Basket:
    """An order that waits for a wristband. The tap id is minted with it, once, and lives as long as it does."""

    operation: Operation
    amount_minor: int
    tap_id: bytes

    def same_order(self, operation: Operation, amount_minor: int) -> bool:
        """Whether somebody who looks at the counter would call it the same order."""
        return self.operation is operation and self.amount_minor == amount_minor


@dataclass(frozen=True, slots=True)
class IntentDraft:
    """What the tap wants to write; the device seals `record`, then keeps the whole as an :class:`Intent`."""

    tap_id: bytes
    card: bytes
    operation: Operation
    amount_minor: int
    witness: bytes
    """The sealed record as read, empty where the card was blank."""
    record: CardRecord
    slot: int
    document: bytes
    """Digest of the venue document whose limits were applied, 32 bytes."""

    def sealed_as(self, written: bytes) -> Intent:
        """The intent, once `record` has been sealed."""
        assert written[:RECORD_BYTES] == self.record.encode(), "the seal belongs to another record"
        return Intent(
            self.tap_id,
            self.card,
            self.operation,
            self.amount_minor,
            self.witness,
            written,
            self.slot,
            self.document,
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """A tap that may have reached a card: fsynced before the write, dropped after the green light or the abort."""

    tap_id: bytes
    card: bytes
    operation: Operation
    amount_minor: int
    witness: bytes
    written: bytes
    """The sealed record that goes to the card, byte for byte the same at every attempt."""
    slot: int
    document: bytes

    def encode(self) -> bytes:
        """Deterministic CBOR, for the device's own store."""
        return encode(
            [
                INTENT_VERSION,
                self.tap_id,
                self.card,
                int(self.operation),
                self.amount_minor,
                self.witness,
                self.written,
                self.slot,
                self.document,
            ]
        )

    def tap_body(self) -> bytes:
        """The body of the TAP entry that commits this intent."""
        return TapBody(
            self.tap_id, self.operation, self.amount_minor, self.witness, self.written, self.document
        ).encode()

    def abort_body(self) -> bytes:
        """The body of the ABORT entry that gives this intent up."""
        return AbortBody(self.tap_id, record_hash(self.written)).encode()


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """A stored intent whose end nobody has seen yet."""

    intent: Intent
    committed: bool
    """Its TAP entry is in this device's own logs; only the green light was never acknowledged."""


def decode_intent(data: bytes) -> Intent:
    """Parse what :meth:`Intent.encode` wrote, or raise :class:`BadIntent` or a codec error."""
    match decode_array(data, bytes_max=INTENT_BYTES_MAX):
        case [
            int(version),
            bytes(tap_id),
            bytes(card),
            int(operation),
            int(amount),
            bytes(witness),
            bytes(written),
            int(slot),
            bytes(document),
        ] if version == INTENT_VERSION:
            pass
        case _:
            raise BadIntent("an unfinished tap in this device's store cannot be read: stop selling on it")
    sizes = (len(tap_id), len(card), len(written), len(document))
    if sizes != (TAP_ID_BYTES, 8, SEALED_BYTES, 32) or len(witness) not in {0, SEALED_BYTES}:
        raise BadIntent("an unfinished tap in this device's store has fields of the wrong size")
    if not 0 <= operation <= max(Operation) or not 0 <= amount <= AMOUNT_MINOR_MAX or slot not in {0, 1}:
        raise BadIntent("an unfinished tap in this device's store has fields out of range")
    return Intent(tap_id, card, Operation(operation), amount, witness, written, slot, document)
