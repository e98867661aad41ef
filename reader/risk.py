"""May this order be charged to this wristband? Pure; asked before the intent, so that a decline has moved no money.

The checks, in the order in which they speak (the first one that objects is the reason given):

1. the device has a venue document, and the role that the operation needs;
2. the wristband can be read, belongs to this event, and its record belongs to this chip;
3. nothing in the venue's merged logs speaks against it: held, an older state, a copy;
4. the amount is within the cap, and the balance covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mesh.core.currency import Currency
from mesh.core.kinds import Operation, Role
from mesh.errors import LocalError
from mesh.views.card_account import CREDITS
from mesh.views.card_record import CardRecord
from mesh.views.cards import CardStanding, CardStatus, TapRef
from mesh.views.tap_rules import ROLE_FOR
from reader.card import (
    BalanceTooHigh,
    Blank,
    CardView,
    CardWornOut,
    Disagreeing,
    NotEnoughBalance,
    Shown,
    Unreadable,
    next_record,
)
from reader.ports import VenueTerms


class Decline(Enum):
    """Why an order was not charged."""

    NO_VENUE_DOCUMENT = "no_venue_document"
    NOT_THIS_DEVICES_ROLE = "not_this_devices_role"
    UNREADABLE = "unreadable"
    UNKNOWN_WRITER = "unknown_writer"
    UNVOUCHED = "unvouched"
    SLOTS_DISAGREE = "slots_disagree"
    WRONG_EVENT = "wrong_event"
    OTHER_CHIP = "other_chip"
    HELD = "held"
    OLDER_STATE = "older_state"
    COPY = "copy"
    OVER_CAP = "over_cap"
    NO_BALANCE_YET = "no_balance_yet"
    NOT_ENOUGH_BALANCE = "not_enough_balance"
    BALANCE_TOO_HIGH = "balance_too_high"
    WORN_OUT = "worn_out"
    SPENT_ELSEWHERE = "spent_elsewhere"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A decline, in a sentence for whoever holds the reader and one for whoever holds the wristband."""

    reason: Decline
    staff: str
    attendee: str
    taps: tuple[TapRef, ...] = ()
    """The signed taps that prove it, if that is the reason."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the card."""

    operation: Operation
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Device:
    """Who asks: this device's roles and its 4-byte key id."""

    roles: frozenset[Role]
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Presented:
    """A wristband as it was read, and what is known about it."""

    card: bytes
    view: CardView
    standing: CardStanding | None
    """`None` where the view has no record to ask about, or there is no venue document."""


GO_TO_TILL = "This wristband needs a check. Please take it to the till: your money is safe."
NOT_CHARGED = "Nothing was charged."


def next_for(
    order: Order, presented: Presented, terms: VenueTerms | None, device: Device, name_of: Callable[[bytes], str]
) -> CardRecord | Refusal:
    """Return the record to write, or why there is none."""
    if terms is None:
        return Refusal(
            Decline.NO_VENUE_DOCUMENT,
            "This device has no venue document yet, so it knows no limits: let it meet another device first. "
            + NOT_CHARGED,
            "This bar is not ready yet. " + NOT_CHARGED,
        )
    refusal = _role(order, device) or objection(presented, terms, name_of)
    if refusal is not None:
        return refusal
    return _cap(order, terms) or _amount(order, presented, terms, device)


def objection(presented: Presented, terms: VenueTerms, name_of: Callable[[bytes], str]) -> Refusal | None:
    """What speaks against the wristband itself, whatever the order: checks 2 and 3."""
    return _readable(presented, terms) or _standing(presented, terms, name_of)


def _role(order: Order, device: Device) -> Refusal | None:
    needed = ROLE_FOR.get(order.operation)
    if needed in device.roles:
        return None
    if needed is None:
        raise LocalError(f"a {_verb(order.operation)} is not counted by this version: nobody may write one")
    return Refusal(
        Decline.NOT_THIS_DEVICES_ROLE,
        f"This device is not enrolled as a {needed.value}, so its {_verb(order.operation)} would not count. "
        + NOT_CHARGED,
        "Please ask at the till." if needed is Role.TILL else "Please ask at a bar.",
    )


def _readable(presented: Presented, terms: VenueTerms) -> Refusal | None:
    match presented.view:
        case Blank():
            return None
        case Shown(record=record):
            return _belongs(record, presented.card, terms)
        case Disagreeing():
            return Refusal(
                Decline.SLOTS_DISAGREE,
                "The two records on this wristband do not belong together: no reader writes them so. "
                "Send it to the till. " + NOT_CHARGED,
                GO_TO_TILL,
            )
        case Unreadable(unproven=None):
            return Refusal(
                Decline.UNREADABLE,
                "Neither record on this wristband can be read. Try once more, then send it to the till. " + NOT_CHARGED,
                GO_TO_TILL,
            )
        case Unreadable(unproven=record):
            assert record is not None
            return _belongs(record, presented.card, terms) or Refusal(
                Decline.UNKNOWN_WRITER,
                f"This wristband was last written by a device not known here (key {record.reader.hex()}). Let this "
                "reader meet the others, or send the guest to the till. " + NOT_CHARGED,
                GO_TO_TILL,
            )


def _belongs(record: CardRecord, card: bytes, terms: VenueTerms) -> Refusal | None:
    if record.event != terms.event:
        return Refusal(
            Decline.WRONG_EVENT,
            "This wristband is from another event. " + NOT_CHARGED,
            "This wristband is from another event.",
        )
    if record.card != card:
        return Refusal(
            Decline.OTHER_CHIP,
            "The record on this wristband was made for another chip: it is a copy. Do not serve. " + NOT_CHARGED,
            GO_TO_TILL,
        )
    return None


def _standing(presented: Presented, terms: VenueTerms, name_of: Callable[[bytes], str]) -> Refusal | None:
    standing = presented.standing
    if standing is None:
        return None
    if standing.status is CardStatus.HELD:
        return _held(standing, terms, name_of)
    if standing.unvouched is not None:
        return Refusal(
            Decline.UNVOUCHED,
            f"This wristband was last written by {standing.unvouched}, which is out of service, and whether that "
            "counts is not known here. It accuses nobody: let this reader meet the others, or send the guest to the "
            "till. " + NOT_CHARGED,
            GO_TO_TILL,
        )
    if standing.consumed_by is not None:
        where = tap_text(standing.consumed_by, terms.currency, name_of)
        return Refusal(
            Decline.OLDER_STATE,
            f"This wristband shows an older state: it was spent at {where}. A copy, or it was rolled back: do not "
            "serve. " + NOT_CHARGED,
            GO_TO_TILL,
            (standing.consumed_by,),
        )
    if standing.sibling is not None:
        where = tap_text(standing.sibling, terms.currency, name_of)
        return Refusal(
            Decline.COPY,
            f"There is a copy of this wristband: the state before this one was also spent at {where}. Do not serve. "
            + NOT_CHARGED,
            GO_TO_TILL,
            (standing.sibling,),
        )
    return None


def _held(standing: CardStanding, terms: VenueTerms, name_of: Callable[[bytes], str]) -> Refusal:
    taps = tuple(tap for conflict in standing.conflicts for tap in conflict.taps)
    at_risk = sum(conflict.at_risk_minor for conflict in standing.conflicts)
    both = " and ".join(tap_text(tap, terms.currency, name_of) for tap in taps)
    return Refusal(
        Decline.HELD,
        f"This wristband is held: one state of it was spent twice, {both}; {terms.currency.format(at_risk)} at "
        "risk. Do not serve. " + NOT_CHARGED,
        GO_TO_TILL,
        taps,
    )


def _cap(order: Order, terms: VenueTerms) -> Refusal | None:
    if order.operation is not Operation.SALE or order.amount_minor <= terms.per_tap_cap_minor:
        return None
    cap = terms.currency.format(terms.per_tap_cap_minor)
    return Refusal(
        Decline.OVER_CAP,
        f"One tap takes at most {cap}, this order is {terms.currency.format(order.amount_minor)}: ring it up "
        "in parts. " + NOT_CHARGED,
        f"One tap takes at most {cap}.",
    )


def _amount(order: Order, presented: Presented, terms: VenueTerms, device: Device) -> CardRecord | Refusal:
    current = presented.view.record if isinstance(presented.view, Shown) else None
    if current is None and order.operation not in CREDITS:
        return Refusal(
            Decline.NO_BALANCE_YET,
            "There is nothing on this wristband yet: it must be topped up first. " + NOT_CHARGED,
            "Please top up your wristband first.",
        )
    try:
        return next_record(
            current,
            order.operation,
            order.amount_minor,
            card=presented.card,
            event=terms.event,
            reader=device.key_id,
            currency=terms.currency,
        )
    except NotEnoughBalance as error:
        return Refusal(Decline.NOT_ENOUGH_BALANCE, _sentence(error), _sentence(error))
    except BalanceTooHigh as error:
        return Refusal(Decline.BALANCE_TOO_HIGH, _sentence(error), _sentence(error))
    except CardWornOut as error:
        return Refusal(Decline.WORN_OUT, _sentence(error), GO_TO_TILL)


def tap_text(tap: TapRef, currency: Currency, name_of: Callable[[bytes], str]) -> str:
    """One signed tap as people name it: amount, device, and where to find it in that device's log."""
    return f"{currency.format(tap.amount_minor)} at {name_of(tap.log_id)} (entry {tap.seq})"


def _verb(operation: Operation) -> str:
    return operation.name.lower().replace("_", "-")


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[0].upper() + text[1:]
