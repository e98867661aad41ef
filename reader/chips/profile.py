"""What every kind of chip can do for a tap: one module per chip implements :class:`ChipProfile`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

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


@dataclass(frozen=True, slots=True)
class Found:
    """A chip that answered a poll."""

    uid: bytes
    target: Any
    """What the antenna knows it by."""
    began_us: int
    """Monotonic microseconds when the poll that it answered was sent: the beginning of its tap."""


class Antenna(Protocol):
    """One NFC device. Every call blocks; used by one thread at a time, but that :meth:`close` may come from another."""

    def poll(self) -> Found | None:
        """Look for a wristband once."""
        ...

    def activate(self, found: Found) -> ChipProfile:
        """Open the chip of the last poll, or raise :class:`ChipLost`."""
        ...

    def close(self) -> None:
        """Let the device go; waits for an exchange under way, which has a time limit."""
        ...
