"""Whether a money entry counts, and as what. One function for readers, couriers, gateways and settlement.

An entry that breaks a rule is kept and replicated all the same; it counts for nothing and its reason can be shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Operation, Role
from mesh.errors import PeerError
from mesh.views.card_account import BLANK, CREDITS, HASH_PREFIX_BYTES, TapFact
from mesh.views.card_record import NO_PARENT, RECORD_BYTES, CardRecord, decode_record, key_id
from mesh.views.tap_entry import decode_tap


class Refusal(Enum):
    """Why a money entry counts for nothing."""

    MALFORMED = "its body is not a tap"
    ROLE = "its device's role does not allow this operation"
    UNKNOWN_OPERATION = "this operation is not counted by this version"
    FOREIGN_RECORD = "the written record names another device, card or event"
    NOT_A_CHILD = "the written record does not follow the record that was read"
    WRONG_BALANCE = "the written balance is not the one read, changed by the amount"


ROLE_FOR: Final[dict[Operation, Role]] = {
    Operation.ISSUE: Role.TILL,
    Operation.TOP_UP: Role.TILL,
    Operation.SALE: Role.READER,
}
"""Operations that are counted so far. Whatever else raises a balance will need `till`; unknown ones count nothing."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes a log, as its genesis says, for the log's life."""

    key_id: bytes
    roles: frozenset[Role]


def author_of(certificate: DeviceCertificate) -> Author:
    """The part of a certificate that decides what an entry counts."""
    return Author(key_id(certificate.log_key), certificate.roles)


@dataclass(frozen=True, slots=True)
class CountedTap:
    """A tap that counts: which card, and the fact for its account."""

    card: bytes
    fact: TapFact


def read_tap(body: bytes, author: Author, *, entry_id: bytes, log: int, seq: int) -> CountedTap | Refusal:
    """Apply every rule to one TAP entry. `log` is the caller's number for the entry's log."""
    try:
        tap = decode_tap(body)
        written = decode_record(tap.written[:RECORD_BYTES])
        witness = decode_record(tap.witness[:RECORD_BYTES]) if tap.witness else None
    except PeerError:
        return Refusal.MALFORMED
    refusal = _refusal(tap.operation, tap.amount_minor, author, witness, written, tap.witness)
    if refusal is not None:
        return refusal
    fact = TapFact(
        consumed_by(tap.witness),
        hashlib.sha256(tap.written[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES],
        tap.tap_id,
        entry_id[:HASH_PREFIX_BYTES],
        log,
        seq,
        tap.amount_minor,
        int(tap.operation),
    )
    return CountedTap(written.card, fact)


def consumed_by(witness: bytes) -> bytes:
    """What a tap with this witness consumes: the prefix of the record's hash, or BLANK."""
    return hashlib.sha256(witness[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES] if witness else BLANK


def _refusal(
    operation: Operation,
    amount_minor: int,
    author: Author,
    witness: CardRecord | None,
    written: CardRecord,
    witness_bytes: bytes,
) -> Refusal | None:
    needed = ROLE_FOR.get(operation)
    if needed is None:
        return Refusal.UNKNOWN_OPERATION
    if needed not in author.roles:
        return Refusal.ROLE
    if written.reader != author.key_id:
        return Refusal.FOREIGN_RECORD
    if witness is None:
        follows = written.seq == 1 and written.parent == NO_PARENT
    else:
        if (witness.card, witness.event) != (written.card, written.event):
            return Refusal.FOREIGN_RECORD
        follows = written.seq == witness.seq + 1 and written.parent == consumed_by(witness_bytes)[:8]
    if not follows:
        return Refusal.NOT_A_CHILD
    before = 0 if witness is None else witness.balance
    delta = amount_minor if operation in CREDITS else -amount_minor
    return None if written.balance == before + delta else Refusal.WRONG_BALANCE


def allowed_operations(roles: Collection[Role]) -> frozenset[Operation]:
    """The operations that count when a device with these roles signs them."""
    return frozenset(operation for operation, role in ROLE_FOR.items() if role in roles)
