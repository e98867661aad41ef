"""Whether a money entry counts, and as what. One function for readers, couriers, gateways and settlement.

An entry that breaks a rule is kept and replicated all the same; it counts for nothing and its reason can be shown.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final, TypeAlias

from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Operation, Role
from mesh.limits import AMOUNT_MINOR_MAX
from mesh.views.card_account import BLANK, CREDITS, HASH_PREFIX_BYTES, TapFact
from mesh.views.card_record import NO_PARENT, RECORD_BYTES, RECORD_VERSION, key_id
from mesh.views.tap_entry import TapValues, decode_taps

_RECORD: Final = struct.Struct(">B12sIII5s4s8s")
"""A card record with the fields that are only compared kept together (mesh.views.card_record has them all)."""
_RECORD_READ: Final = struct.Struct(">B12sIII")
"""Of the record that was read, what the rules ask for."""


class Refusal(Enum):
    """Why a money entry counts for nothing."""

    MALFORMED = "its body is not a tap"
    ROLE = "its device's role does not allow this operation"
    UNKNOWN_OPERATION = "this operation is not counted by this version"
    FOREIGN_RECORD = "the written record names another device, card or event"
    NOT_A_CHILD = "the written record does not follow the record that was read"
    WRONG_BALANCE = "the written balance is not the one read, changed by the amount"


ROLE_FOR: Final[dict[int, Role]] = {
    Operation.ISSUE: Role.TILL,
    Operation.TOP_UP: Role.TILL,
    Operation.SALE: Role.READER,
}
"""Operations that are counted so far. Whatever else raises a balance will need `till`; unknown ones count nothing."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes a log, as its genesis says, for the log's life."""

    key_id: bytes
    operations: frozenset[int]
    """The operations that count when this author signs them."""


def author_of(certificate: DeviceCertificate) -> Author:
    """The part of a certificate that decides what an entry counts."""
    return Author(key_id(certificate.log_key), allowed_operations(certificate.roles))


@dataclass(frozen=True, slots=True)
class CountedTap:
    """A tap that counts: which card, and the fact for its account."""

    card: bytes
    fact: TapFact


def read_tap(body: bytes, author: Author, *, entry_id: bytes, log: int, seq: int) -> CountedTap | Refusal:
    """Apply every rule to one TAP entry. `log` is the caller's number for the entry's log."""
    (values,) = decode_taps([body])
    read = judge_tap(values, author, entry_id, log, seq)
    return read if isinstance(read, Refusal) else CountedTap(read[0], TapFact(*read[1]))


FactValues: TypeAlias = tuple[bytes, bytes, bytes, bytes, int, int, int, int, bytes]
"""The fields of a :class:`TapFact`, in order."""


def judge_tap(
    values: TapValues | None, author: Author, entry_id: bytes, log: int, seq: int
) -> tuple[bytes, FactValues] | Refusal:
    """The rules themselves, on a decoded body: the card and the fact's fields, or why it counts for nothing."""
    if values is None:
        return Refusal.MALFORMED
    tap_id, operation, amount, witness, written, _ = values
    if operation not in author.operations:
        return Refusal.ROLE if operation in ROLE_FOR else Refusal.UNKNOWN_OPERATION
    if len(written) < RECORD_BYTES or (witness and len(witness) < RECORD_BYTES):
        return Refusal.MALFORMED
    version, card_event, card_seq, balance, spent, _, reader, parent = _RECORD.unpack_from(written)
    if version != RECORD_VERSION or balance > AMOUNT_MINOR_MAX or spent > AMOUNT_MINOR_MAX:
        return Refusal.MALFORMED
    if reader != author.key_id:
        return Refusal.FOREIGN_RECORD
    if witness:
        version, read_card_event, read_seq, before, spent = _RECORD_READ.unpack_from(witness)
        if version != RECORD_VERSION or before > AMOUNT_MINOR_MAX or spent > AMOUNT_MINOR_MAX:
            return Refusal.MALFORMED
        if read_card_event != card_event:
            return Refusal.FOREIGN_RECORD
        consumed = sha256(witness[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES]
        follows = card_seq == read_seq + 1 and parent == consumed[:8]
    else:
        before, consumed = 0, BLANK
        follows = card_seq == 1 and parent == NO_PARENT
    if not follows:
        return Refusal.NOT_A_CHILD
    if balance != (before + amount if operation in CREDITS else before - amount):
        return Refusal.WRONG_BALANCE
    written_hash = sha256(written[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES]
    fact = (consumed, written_hash, tap_id, entry_id[:HASH_PREFIX_BYTES], log, seq, amount, operation, reader)
    return card_event[:8], fact


def consumed_by(witness: bytes) -> bytes:
    """What a tap with this witness consumes: the prefix of the record's hash, or BLANK."""
    return sha256(witness[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES] if witness else BLANK


def allowed_operations(roles: Collection[Role]) -> frozenset[int]:
    """The operations that count when a device with these roles signs them."""
    return frozenset(operation for operation, role in ROLE_FOR.items() if role in roles)
