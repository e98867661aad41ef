"""What a screen says, as a line for people and as data for programs. Pure.

Every sentence about money says what happened, what it means for the money, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mesh.core.currency import Currency
from mesh.core.kinds import Operation
from mesh.shell.output import Json
from mesh.views.cards import TapRef
from reader.intent import Intent
from reader.tap_events import Amber, Balance, Green, Notice, Red, Screen

NOTICES: Final[Mapping[Notice, str]] = {
    Notice.ARMED: "{order}: hold a wristband to the reader, or cancel.",
    Notice.CANCELLED: "{order} cancelled. Nothing was charged.",
    Notice.NOTHING_TO_CANCEL: "There is no order to cancel.",
    Notice.NOTHING_TO_ANSWER: "No question is open.",
    Notice.HOLD_AGAIN: "{order} is not finished: hold the SAME wristband again, or cancel. It is charged once at most.",
    Notice.UNFINISHED_AT_START: "{order} was interrupted: hold the same wristband again, or cancel. It is charged once "
    "at most.",
    Notice.ANOTHER_WRISTBAND: "That is another wristband. {order} is not finished: hold the first one again, or "
    "cancel. Nothing was charged to this one.",
    Notice.CANNOT_FOLLOW: "This wristband has been used since, and does not say whether {order} was charged: cancel "
    "and send the guest to the till. The amount stays listed as unknown until then.",
    Notice.EARLIER_ORDER_NOT_CHARGED: "An earlier, unfinished {order} was not charged to this wristband; it is closed.",
    Notice.PAID_BEFORE_RESTART: "{order} was PAID before the restart: serve it, then type 'served'. It is not charged "
    "again.",
    Notice.PAID_SEEN: "{order}: done.",
    Notice.ASK_SERVED: "{order} was charged and the wristband used since. Were the goods handed out? Type 'served' or "
    "'not-served'.",
    Notice.CREDITED: "{order} is given back: the venue's ledger credits it, the till corrects the wristband.",
}


def line(screen: Screen, currency: Currency) -> str:
    """One line for staff."""
    match screen:
        case Green(intent=intent, balance_minor=balance, already=True):
            return f"GREEN  PAID before, serve: {order_text(intent, currency)}; balance {currency.format(balance)}"
        case Green(intent=intent, balance_minor=balance, ms=milliseconds):
            return f"GREEN  {order_text(intent, currency)}; balance {currency.format(balance)}  [{milliseconds:.0f} ms]"
        case Red(refusal=refusal):
            return f"RED    {refusal.staff}"
        case Amber(notice=notice):
            return f"AMBER  {NOTICES[notice].format(order=order_text(screen, currency))}"
        case Balance(balance_minor=balance):
            return f"       balance {currency.format(balance)}"


def fields(screen: Screen) -> tuple[str, dict[str, Json]]:
    """The same for programs: what happened, and its fields; ids and hashes in hexadecimal, amounts in minor units."""
    match screen:
        case Green(intent=intent, balance_minor=balance, ms=milliseconds, already=already):
            return "green", {
                **_order_fields(intent.tap_id, intent.operation, intent.amount_minor),
                "card": intent.card.hex(),
                "balance_minor": balance,
                "ms": round(milliseconds, 3),
                "already": already,
            }
        case Red(card=card, order=order, refusal=refusal):
            about = _order_fields(order.tap_id, order.operation, order.amount_minor) if order else {}
            # Without an order nothing ends: a wristband that was only looked at is not a declined tap.
            return "red" if order else "objection", {
                "reason": refusal.reason.value,
                "staff": refusal.staff,
                "attendee": refusal.attendee,
                "card": card.hex(),
                **about,
                "taps": [tap_fields(tap) for tap in refusal.taps],
            }
        case Amber(notice=notice, tap_id=tap_id, operation=operation, amount_minor=amount):
            about = _order_fields(tap_id, operation, amount) if operation is not None else {}
            return "amber", {"notice": notice.value, **about}
        case Balance(card=card, seq=seq, balance_minor=balance):
            return "balance", {"card": card.hex(), "seq": seq, "balance_minor": balance}


def tap_fields(tap: TapRef) -> dict[str, Json]:
    """Where one signed tap is, and what it did."""
    return {
        "log_id": tap.log_id.hex(),
        "seq": tap.seq,
        "tap_id": tap.tap_id.hex(),
        "operation": _name(tap.operation),
        "amount_minor": tap.amount_minor,
    }


def order_text(order: Intent | Amber, currency: Currency) -> str:
    """An order as people name it."""
    if order.operation is None:
        return "the order"
    return f"{_name(order.operation)} of {currency.format(order.amount_minor)}"


def _order_fields(tap_id: bytes, operation: Operation, amount_minor: int) -> dict[str, Json]:
    return {"tap_id": tap_id.hex(), "operation": _name(operation), "amount_minor": amount_minor}


def _name(operation: Operation) -> str:
    return "top-up" if operation is Operation.TOP_UP else operation.name.lower()
