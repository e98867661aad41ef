"""What every kind of chip can do for a tap: one module per chip implements :class:`ChipProfile`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mesh.errors import PeerError


class ChipLost(PeerError):
    """The wristband stopped answering: it was pulled away. What it holds is known only when it is back."""


class ChipRefused(PeerError):
    """The chip answered, and the answer was no: not one of our wristbands, or out of order."""


class SealKind(Enum):
    """How a record on this chip proves who wrote it."""

    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class ChipIdentity:
    """Which chip this is; both go into the card id and neither leaves the reader."""

    uid: bytes
    """From anticollision, 4, 7 or 10 bytes; empty where the chip makes up a new one each time."""
    serial: bytes
    """From the applet, empty where there is none."""


class ChipProfile(Protocol):
    """One activated chip. Every call blocks, and raises :class:`ChipLost` or :class:`ChipRefused`."""

    @property
    def capacity(self) -> int:
        """Bytes of one slot."""
        ...

    @property
    def seal_kind(self) -> SealKind: ...

    def select(self) -> ChipIdentity:
        """Make the two slots accessible; must come first."""
        ...

    def read_slots(self) -> tuple[bytes, bytes]:
        """Both slots, `capacity` bytes each, in as few exchanges as the chip allows."""
        ...

    def read_slot(self, index: int) -> bytes:
        """One slot: the read back."""
        ...

    def write_slot(self, index: int, data: bytes) -> None:
        """Write one slot. Torn at any byte it leaves the other slot as it was."""
        ...
