"""Card standing types (the fold follows)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mesh.core.kinds import Operation


@dataclass(frozen=True, slots=True)
class TapRef:
    """Where a counted tap is and what it did: enough to show it and to fetch it as evidence."""

    log_id: bytes
    seq: int
    tap_id: bytes
    card: bytes
    operation: Operation
    amount_minor: int
    consumed: bytes
    """First 16 bytes of the hash of the record it read."""
    written: bytes
    """First 16 bytes of the hash of the record it wrote."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two or more signed taps with different tap ids that consumed one record of one card."""

    card: bytes
    consumed: bytes
    taps: tuple[TapRef, ...]
    at_risk_minor: int
    """At most this much was spent by a copy: all branches but the smallest."""


class CardStatus(Enum):
    """What a reader may do with a card, from everything known here."""

    OPEN = "open"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class CardStanding:
    """The answer to: this card shows this record; what is known here that speaks against it?"""

    status: CardStatus
    conflicts: tuple[Conflict, ...]
    """Why it is held."""
    consumed_by: TapRef | None
    """A known tap that already consumed the record shown: the record is old (rollback or copy)."""
    sibling: TapRef | None
    """A known tap that consumed the parent of the record shown but wrote another record (copy)."""
