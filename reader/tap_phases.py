"""The phases of a tap, each with what must be remembered in it; `tap.py` has the rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from reader.intent import Basket, Intent, IntentDraft
from reader.risk import Refusal
from reader.tap_events import CardRead


@dataclass(frozen=True, slots=True)
class Idle:
    """No order."""


@dataclass(frozen=True, slots=True)
class Armed:
    """An order waits for a wristband."""

    basket: Basket


@dataclass(frozen=True, slots=True)
class IntentPending:
    """The intent is being made durable; nothing is on the card yet."""

    draft: IntentDraft
    is_torn: bool
    """Whether a torn write is in the slot that will be written."""
    began_us: int


@dataclass(frozen=True, slots=True)
class Writing:
    """The idle slot is being written."""

    intent: Intent
    slot: int
    began_us: int


@dataclass(frozen=True, slots=True)
class ReadingBack:
    """The slot is being read back."""

    intent: Intent
    began_us: int


@dataclass(frozen=True, slots=True)
class Committing:
    """The card holds the record; the TAP entry is being made durable."""

    intent: Intent
    began_us: int
    armed: Basket | None


@dataclass(frozen=True, slots=True)
class Acknowledging:
    """Durable; the green light is being shown."""

    intent: Intent
    armed: Basket | None


class Why(Enum):
    """Why an intent is aborted."""

    CANCELLED = "cancelled"
    BASKET_CHANGED = "basket changed"
    SPENT_ELSEWHERE = "spent elsewhere"
    DECLINED = "declined"
    NOT_SERVED = "not served"


@dataclass(frozen=True, slots=True)
class Aborting:
    """The ABORT entry is being made durable; then `armed` goes on with the card that was `read`, if both are there."""

    intent: Intent
    why: Why
    armed: Basket | None = None
    read: CardRead | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """The card was used since: only staff knows whether the goods of this tap were handed out."""

    intent: Intent
    armed: Basket | None
    began_us: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The card may show either state: hold it again, or cancel."""

    intent: Intent


Phase: TypeAlias = (
    Idle | Armed | IntentPending | Writing | ReadingBack | Committing | Acknowledging | Aborting | Asking | Unfinished
)
