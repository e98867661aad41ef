"""What a wristband shows and what may be written to it next. Pure; docs/spec/card.md is the normative text.

The rules of the two slots, in the order in which they are applied:

1. A slot is *blank* (all zeros), *valid* (a record of this version whose seal verifies under an enrolled device's
   log key), *of an unknown writer* (a record whose writer's key is not held here), or *broken* (anything else;
   a seal of zeros is a write over an empty slot that was torn before it was through with the record).
2. Two valid slots: the higher seq is the card, if its parent is the record in the other slot; else *disagreeing*.
3. One valid slot: it is the card, unless the other slot holds its child by an unknown writer: falling back there
   would spend a state twice, so the card is *unreadable* until that writer's certificate has arrived.
4. No valid slot: *blank* if both are blank, or if one is blank and the other is broken (the first write ever was
   torn; nothing was on the card). Otherwise *unreadable*.

A write goes to the slot that does not hold the card, so a torn write leaves the card as it was (rule 3), and the
record before the newest one stays on the card as evidence. A slot that a torn write left is erased first: the beginning
of one record and the end of another over the same parent may look like a child by an unknown writer.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from mesh.core.currency import Currency
from mesh.core.kinds import Operation
from mesh.core.signing import Domain
from mesh.errors import LocalError
from mesh.limits import AMOUNT_MINOR_MAX, CARD_SEQ_MAX
from mesh.ports import StatementSigner
from mesh.views.card_account import CREDITS
from mesh.views.card_record import (
    NO_PARENT,
    RECORD_BYTES,
    SEAL_DOMAIN,
    SEALED_BYTES,
    BadCardRecord,
    CardRecord,
    decode_record,
    record_hash,
)

KeysById: TypeAlias = Callable[[bytes], Sequence[bytes]]
"""From a 4-byte key id to the 32-byte log keys of enrolled devices that have it (two by chance, at most)."""

BLANK_SLOT: Final = bytes(SEALED_BYTES)
BLANK_HASH: Final = bytes(32)
"""Stands for the record before the first one, where a hash is asked for."""
FIRST_SEQ: Final = 1


class NotEnoughBalance(LocalError):
    """The sale is above the balance; nothing was written."""


class BalanceTooHigh(LocalError):
    """The balance, or what was spent in all, would pass the largest amount a record holds; nothing was written."""


class CardWornOut(LocalError):
    """The record's seq is at its end; the wristband must be replaced. Nothing was written."""


class SlotState(Enum):
    """Rule 1 of the module's docstring."""

    BLANK = "blank"
    VALID = "valid"
    UNKNOWN_WRITER = "unknown writer"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as read: its bytes, and the record if they parse as one."""

    state: SlotState
    sealed: bytes
    record: CardRecord | None


@dataclass(frozen=True, slots=True)
class Blank:
    """No money has ever been on this card; the next write goes to slot 0, or to the one that a tear left."""

    idle: int = 0
    is_torn: bool = False
    """Whether the idle slot is neither blank nor valid, as a torn write leaves it: it is erased before a write."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A card that shows one valid record."""

    record: CardRecord
    sealed: bytes
    """The 106 bytes as read: the witness of the next tap."""
    idle: int
    """The slot to write next."""
    previous: CardRecord | None
    """The valid record in the idle slot, the parent of `record`; `None` after a tear or on the first record."""
    is_torn: bool = False
    """Whether the idle slot is neither blank nor valid, as a torn write leaves it: it is erased before a write."""


@dataclass(frozen=True, slots=True)
class Disagreeing:
    """Two valid slots that are not parent and child: something other than a reader put them there."""

    slots: tuple[CardRecord, CardRecord]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """No slot can be believed here; `unproven` is the record of an unknown writer, if that is the reason."""

    unproven: CardRecord | None


CardView: TypeAlias = Blank | Shown | Disagreeing | Unreadable


def card_id(card_id_key: bytes, uid: bytes, serial: bytes) -> bytes:
    """The 8 bytes that stand for one chip at one event: no serial number leaves the reader (docs/spec/card.md).

    `uid` is the chip's anticollision identifier, empty where the chip makes up a new one each time; `serial` is
    what the applet on the chip answers, empty where there is none.
    """
    message = bytes([len(uid)]) + uid + serial
    return hmac.new(card_id_key, b"tapmesh/card-id/1" + message, hashlib.sha256).digest()[:8]


def seal(record: CardRecord, signer: StatementSigner) -> bytes:
    """Return the 106 bytes of a slot: the record and the writing device's signature over it."""
    encoded = record.encode()
    return encoded + signer.sign(Domain.CARD, encoded)


def open_slot(data: bytes, keys_by_id: KeysById) -> Slot:
    """Judge one slot by rule 1; never raises, whatever the bytes are."""
    if not any(data):
        return Slot(SlotState.BLANK, data, None)
    if len(data) != SEALED_BYTES or not any(data[RECORD_BYTES:]):
        return Slot(SlotState.BROKEN, data, None)
    try:
        record = decode_record(data[:RECORD_BYTES])
    except BadCardRecord:
        return Slot(SlotState.BROKEN, data, None)
    keys = keys_by_id(record.reader)
    if not keys:
        return Slot(SlotState.UNKNOWN_WRITER, data, record)
    sealed_by_one = any(_verifies(key, data) for key in keys)
    return Slot(SlotState.VALID if sealed_by_one else SlotState.BROKEN, data, record)


def is_child(child: CardRecord, parent: CardRecord) -> bool:
    """Whether `child` is a record written directly over `parent`."""
    return (
        child.card == parent.card
        and child.event == parent.event
        and child.seq == parent.seq + 1
        and child.parent == record_hash(parent.encode())[:8]
    )


def read_card(slots: tuple[bytes, bytes], keys_by_id: KeysById) -> CardView:
    """Apply rules 2 to 4 to the two slots as read."""
    opened = [open_slot(data, keys_by_id) for data in slots]
    valid = [index for index in (0, 1) if opened[index].state is SlotState.VALID]
    match valid:
        case [0, 1]:
            return _newer_of(opened[0], opened[1])
        case [index]:
            return _only(opened[index], opened[1 - index], idle=1 - index)
        case _:
            return _none_valid(opened[0], opened[1])


def record_of(sealed: bytes) -> CardRecord:
    """The record inside bytes that were verified before they were kept, or `BadCardRecord`."""
    return decode_record(sealed[:RECORD_BYTES])


def next_record(
    current: CardRecord | None,
    operation: Operation,
    amount_minor: int,
    *,
    card: bytes,
    event: bytes,
    reader: bytes,
    currency: Currency,
) -> CardRecord:
    """The record after this operation, or :class:`NotEnoughBalance`, :class:`BalanceTooHigh`, :class:`CardWornOut`.

    `current` is `None` on a blank card; `reader` is the writing device's 4-byte key id.
    """
    balance = current.balance if current else 0
    spent = current.offline_spent if current else 0
    if operation in CREDITS:
        balance += amount_minor
    elif amount_minor > balance:
        has, needs = currency.format(balance), currency.format(amount_minor)
        raise NotEnoughBalance(f"not enough balance: has {has}, needs {needs}. Nothing was charged.")
    else:
        balance -= amount_minor
        spent += amount_minor
    if max(balance, spent) > AMOUNT_MINOR_MAX:
        most = currency.format(AMOUNT_MINOR_MAX)
        raise BalanceTooHigh(f"a wristband holds and spends at most {most}. Nothing was charged.")
    if current is not None and current.seq >= CARD_SEQ_MAX:
        raise CardWornOut("this wristband has been written as often as it can be: replace it. Nothing was charged.")
    return CardRecord(
        card=card,
        event=event,
        seq=current.seq + 1 if current else FIRST_SEQ,
        balance=balance,
        offline_spent=spent,
        allowance_seq=current.allowance_seq if current else FIRST_SEQ,
        period=current.period if current else 0,
        reader=reader,
        parent=record_hash(current.encode())[:8] if current else NO_PARENT,
    )


def _newer_of(first: Slot, second: Slot) -> CardView:
    assert first.record is not None and second.record is not None
    if is_child(second.record, first.record):
        return Shown(second.record, second.sealed, idle=0, previous=first.record)
    if is_child(first.record, second.record):
        return Shown(first.record, first.sealed, idle=1, previous=second.record)
    return Disagreeing((first.record, second.record))


def _only(valid: Slot, other: Slot, *, idle: int) -> CardView:
    assert valid.record is not None
    if (
        other.state is SlotState.UNKNOWN_WRITER
        and other.record is not None
        and not is_child(valid.record, other.record)
        and is_child(other.record, valid.record)
    ):
        return Unreadable(other.record)
    is_torn = other.state is not SlotState.BLANK
    return Shown(valid.record, valid.sealed, idle=idle, previous=None, is_torn=is_torn)


def _none_valid(first: Slot, second: Slot) -> CardView:
    states = {first.state, second.state}
    if states <= {SlotState.BLANK, SlotState.BROKEN} and SlotState.BLANK in states:
        return Blank(idle=0 if second.state is SlotState.BLANK else 1, is_torn=SlotState.BROKEN in states)
    for slot in (first, second):
        if slot.state is SlotState.UNKNOWN_WRITER and slot.record is not None:
            return Unreadable(slot.record)
    return Unreadable(None)


def _verifies(key: bytes, sealed: bytes) -> bool:
    try:
        VerifyKey(key).verify(SEAL_DOMAIN + sealed[:RECORD_BYTES], sealed[RECORD_BYTES:])
    except (BadSignatureError, ValueError):
        return False
    return True
