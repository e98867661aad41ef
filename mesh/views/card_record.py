"""The card record: 42 bytes that a wristband carries and the reader that wrote them vouches for.

Layout, big-endian (DESIGN.md, "Cards")::

    version(1) card(8) event(4) seq(4) balance(4) offline_spent(4) allowance_seq(4) period(1) reader(4) parent(8)

* `card` is a keyed hash of the chip's serial number for this event, never the serial number itself.
* `seq` rises by one with every value change; `balance` and `offline_spent` are in the currency's minor unit.
* `reader` is the key id (first 4 bytes of SHA-256 of the log key) of the device that wrote the record.
* `parent` is the first 8 bytes of the SHA-256 of the record before it, zeros in the first one: records form a chain.

On ISO-DEP chips a record is sealed with Ed25519 over ``"tapmesh/card/1" || record`` by the writing device's log key:
106 bytes a slot.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from mesh.core.signing import Domain
from mesh.errors import PeerError
from mesh.limits import AMOUNT_MINOR_MAX

RECORD_VERSION: Final = 1
RECORD_BYTES: Final = 42
SEAL_BYTES: Final = 64
SEALED_BYTES: Final = RECORD_BYTES + SEAL_BYTES
SEAL_DOMAIN: Final = Domain.CARD.value
NO_PARENT: Final = bytes(8)

_LAYOUT: Final = struct.Struct(">B8s4sIIIIB4s8s")
assert _LAYOUT.size == RECORD_BYTES
KEY_ID_BYTES: Final = 4
_READER_AT: Final = RECORD_BYTES - len(NO_PARENT) - KEY_ID_BYTES


class BadCardRecord(PeerError):
    """The bytes are not a card record of this version."""


@dataclass(frozen=True, slots=True)
class CardRecord:
    """One state of one card; see the module's docstring for units."""

    card: bytes
    event: bytes
    seq: int
    balance: int
    offline_spent: int
    allowance_seq: int
    period: int
    reader: bytes
    parent: bytes

    def encode(self) -> bytes:
        return _LAYOUT.pack(
            RECORD_VERSION,
            self.card,
            self.event,
            self.seq,
            self.balance,
            self.offline_spent,
            self.allowance_seq,
            self.period,
            self.reader,
            self.parent,
        )


def decode_record(data: bytes) -> CardRecord:
    """Parse exactly 42 bytes, or raise :class:`BadCardRecord`."""
    if len(data) != RECORD_BYTES:
        raise BadCardRecord(f"a card record has {RECORD_BYTES} bytes, not {len(data)}")
    version, *fields = _LAYOUT.unpack(data)
    if version != RECORD_VERSION:
        raise BadCardRecord(f"card record version {version} is not known here")
    record = CardRecord(*fields)
    if max(record.balance, record.offline_spent) > AMOUNT_MINOR_MAX:
        raise BadCardRecord("the card record's amounts are out of range")
    return record


def record_hash(record: bytes) -> bytes:
    """SHA-256 of the 42 bytes without the seal; `parent` fields hold its first 8 bytes."""
    return hashlib.sha256(record[:RECORD_BYTES]).digest()


def writer_of(record: bytes) -> bytes:
    """The key id in an encoded record: which device wrote it."""
    return record[_READER_AT : _READER_AT + KEY_ID_BYTES]


def key_id(log_key: bytes) -> bytes:
    """The 4 bytes by which a record names the device that wrote it."""
    return hashlib.sha256(log_key).digest()[:KEY_ID_BYTES]
