"""What can happen to a tap (events), what must then be done (effects), and what is seen (screens)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from mesh.core.kinds import Operation
from reader.intent import Basket, Intent, IntentDraft
from reader.risk import Presented, Refusal

# --- Events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arm:
    """Staff rang up an order; it waits for a wristband until one comes or it is cancelled or replaced."""

    basket: Basket


@dataclass(frozen=True, slots=True)
class CardRead:
    """A wristband is on the reader and both slots were read; `began_us` is when sensing it began."""

    presented: Presented
    began_us: int


@dataclass(frozen=True, slots=True)
class IntentDurable:
    """The intent, sealed, survives a power cut."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class SlotWritten:
    """The chip acknowledged the write; that alone proves nothing."""


@dataclass(frozen=True, slots=True)
class SlotRead:
    """The written slot, read back from the same activation of the same chip."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CardLost:
    """The wristband stopped answering during a write or a read back: it may show either state."""


@dataclass(frozen=True, slots=True)
class CommitDurable:
    """The TAP entry survives a power cut; only now may anything be green."""


@dataclass(frozen=True, slots=True)
class AbortDurable:
    """The ABORT entry survives a power cut."""


@dataclass(frozen=True, slots=True)
class GreenShown:
    """The green light was on: the tap is over."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Staff gave the order up."""


@dataclass(frozen=True, slots=True)
class Served:
    """Staff answers: the goods of the unfinished tap were handed out (or: the PAID notice was seen)."""


@dataclass(frozen=True, slots=True)
class NotServed:
    """Staff answers: they were not."""


Event: TypeAlias = (
    Arm
    | CardRead
    | IntentDurable
    | SlotWritten
    | SlotRead
    | CardLost
    | CommitDurable
    | AbortDurable
    | GreenShown
    | Cancel
    | Served
    | NotServed
)

# --- Screens ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Green:
    """Paid: serve. Shown only after the TAP entry was durable."""

    intent: Intent
    balance_minor: int
    ms: float
    """From sensing the wristband to the durable entry."""
    already: bool
    """The entry was there before this presentation (a restart, a torn tap): nothing was charged just now."""


@dataclass(frozen=True, slots=True)
class Red:
    """Declined; `order` is `None` when a wristband was only looked at."""

    card: bytes
    order: Basket | None
    refusal: Refusal


class Notice(Enum):
    """Things staff must know that are neither green nor red."""

    ARMED = "armed"
    CANCELLED = "cancelled"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    NOTHING_TO_ANSWER = "nothing_to_answer"
    HOLD_AGAIN = "hold_again"
    UNFINISHED_AT_START = "unfinished_at_start"
    ANOTHER_WRISTBAND = "another_wristband"
    CANNOT_FOLLOW = "cannot_follow"
    EARLIER_ORDER_NOT_CHARGED = "earlier_order_not_charged"
    PAID_BEFORE_RESTART = "paid_before_restart"
    PAID_SEEN = "paid_seen"
    ASK_SERVED = "ask_served"
    CREDITED = "credited"


@dataclass(frozen=True, slots=True)
class Amber:
    """A notice about one order."""

    notice: Notice
    tap_id: bytes = b""
    operation: Operation | None = None
    amount_minor: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """No order was waiting: what the wristband holds."""

    card: bytes
    seq: int
    balance_minor: int


Screen: TypeAlias = Green | Red | Amber | Balance

# --- Effects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreIntent:
    """Seal the draft's record, make the intent durable, answer :class:`IntentDurable`."""

    draft: IntentDraft


@dataclass(frozen=True, slots=True)
class WriteSlot:
    """Write these bytes, over zeros if it `erases` first; answer :class:`SlotWritten` or :class:`CardLost`."""

    slot: int
    data: bytes
    erases: bool


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read the slot; answer :class:`SlotRead` or :class:`CardLost`."""

    slot: int


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """Append the TAP entry of this intent; answer :class:`CommitDurable`."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class AbortEntry:
    """Append the ABORT entry of this intent; answer :class:`AbortDurable`."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class DropIntent:
    """Forget the stored intent; no answer."""

    tap_id: bytes


@dataclass(frozen=True, slots=True)
class Show:
    """Show it. After a :class:`Green`, answer :class:`GreenShown`; otherwise no answer."""

    screen: Screen


Effect: TypeAlias = StoreIntent | WriteSlot | ReadBack | CommitEntry | AbortEntry | DropIntent | Show
