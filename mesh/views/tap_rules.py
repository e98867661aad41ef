"""Whether a money entry counts, and as what. One function for readers, couriers, gateways and settlement.

An entry that breaks a rule is kept and replicated all the same; it counts for nothing and its reason can be shown.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final, Protocol

from mesh.core.certificate import DeviceCertificate
from mesh.core.chain import KnownHead
from mesh.core.kinds import Operation, Role
from mesh.limits import AMOUNT_MINOR_MAX
from mesh.views.card_account import BLANK, CREDITS, HASH_PREFIX_BYTES, TapFact
from mesh.views.card_record import NO_PARENT, RECORD_BYTES, RECORD_VERSION, key_id, record_hash
from mesh.views.tap_entry import TapValues, decode_taps

_WRITTEN: Final = struct.Struct(">B12sIII5s4s8s")
"""A card record with the fields that are only compared kept together (mesh.views.card_record has them all)."""
_READ: Final = struct.Struct(">B12sIII")
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
    log_key: bytes
    """Who it is. The key id is four bytes of its hash, which somebody who tries long enough can match."""


def author_of(certificate: DeviceCertificate) -> Author:
    """The part of a certificate that decides what an entry counts."""
    return Author(key_id(certificate.log_key), allowed_operations(certificate.roles), certificate.log_key)


class MoneyLog(Protocol):
    """What this module asks of a log: its id, who writes it, and the earlier logs that its genesis names."""

    @property
    def log_id(self) -> bytes: ...

    @property
    def author(self) -> Author: ...

    @property
    def known_heads(self) -> Sequence[KnownHead]: ...


def undoes(abort_log: MoneyLog, abort_seq: int, tap_log: MoneyLog, tap_seq: int) -> bool:
    """Whether an abort stands later than a tap of the same device: in its log, or in one whose genesis knew of it.

    So a device undoes what it did before, never what it will do, and nobody else undoes it.
    """
    if abort_log.author.log_key != tap_log.author.log_key:
        return False
    if abort_log.log_id == tap_log.log_id:
        return abort_seq > tap_seq
    return any(head.log_id == tap_log.log_id and head.seq >= tap_seq for head in abort_log.known_heads)


@dataclass(frozen=True, slots=True)
class CountedTap:
    """A tap that counts: which card, and the fact for its account."""

    card: bytes
    fact: TapFact


def read_tap(body: bytes, author: Author, *, entry_id: bytes, log: int, seq: int) -> CountedTap | Refusal:
    """Apply every rule to one TAP entry. `log` is the caller's number for the entry's log."""
    taps = decode_taps([body])
    (judged,) = judge_taps(taps, author)
    if isinstance(judged, Refusal):
        return judged
    (values,) = taps
    assert values is not None, "a body that cannot be read is refused as malformed"
    tap_id, operation, amount, _, written, _ = values
    card, consumed = judged
    written_hash = record_hash(written)[:HASH_PREFIX_BYTES]
    identifier = entry_id[:HASH_PREFIX_BYTES]
    fact = TapFact(consumed, written_hash, tap_id, identifier, log, seq, amount, operation, author.key_id)
    return CountedTap(card, fact)


def judge_taps(taps: Sequence[TapValues | None], author: Author) -> list[tuple[bytes, bytes] | Refusal]:
    """The rules themselves, on decoded bodies of one author: card and what each consumed, or why it counts for nothing.

    One loop for many taps: a call for each would take as long as the rules.
    """
    judged: list[tuple[bytes, bytes] | Refusal] = []
    say, unpack_written, unpack_read = judged.append, _WRITTEN.unpack_from, _READ.unpack_from
    operations, key = author.operations, author.key_id
    for values in taps:
        if values is None:
            say(Refusal.MALFORMED)
            continue
        _, operation, amount, witness, written, _ = values
        if operation not in operations:
            say(Refusal.ROLE if operation in ROLE_FOR else Refusal.UNKNOWN_OPERATION)
            continue
        if len(written) < RECORD_BYTES or (witness and len(witness) < RECORD_BYTES):
            say(Refusal.MALFORMED)
            continue
        version, card_event, card_seq, balance, spent, _, reader, parent = unpack_written(written)
        if version != RECORD_VERSION or balance > AMOUNT_MINOR_MAX or spent > AMOUNT_MINOR_MAX:
            say(Refusal.MALFORMED)
            continue
        if reader != key:
            say(Refusal.FOREIGN_RECORD)
            continue
        if witness:
            version, read_card_event, read_seq, before, spent = unpack_read(witness)
            if version != RECORD_VERSION or before > AMOUNT_MINOR_MAX or spent > AMOUNT_MINOR_MAX:
                say(Refusal.MALFORMED)
                continue
            if read_card_event != card_event:
                say(Refusal.FOREIGN_RECORD)
                continue
            consumed = sha256(witness[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES]
            if card_seq != read_seq + 1 or parent != consumed[:8]:
                say(Refusal.NOT_A_CHILD)
                continue
        else:
            before, consumed = 0, BLANK
            if card_seq != 1 or parent != NO_PARENT:
                say(Refusal.NOT_A_CHILD)
                continue
        if balance != (before + amount if operation in CREDITS else before - amount):
            say(Refusal.WRONG_BALANCE)
            continue
        say((card_event[:8], consumed))
    return judged


def consumed_by(witness: bytes) -> bytes:
    """What a tap with this witness consumes: the prefix of the record's hash, or BLANK."""
    return sha256(witness[:RECORD_BYTES]).digest()[:HASH_PREFIX_BYTES] if witness else BLANK


def allowed_operations(roles: Collection[Role]) -> frozenset[int]:
    """The operations that count when a device with these roles signs them."""
    return frozenset(operation for operation, role in ROLE_FOR.items() if role in roles)
