"""A wristband in a world: two slots that may be written in part, copied, and put back to what they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from reader.card import BLANK_SLOT

IMAGES_MAX: Final = 8


@dataclass(slots=True, eq=False)
class Wristband:
    """One chip. Two with the same serial number are one card to every reader: one is a copy."""

    name: str
    serial: bytes
    slots: list[bytes] = field(default_factory=lambda: [BLANK_SLOT, BLANK_SLOT])
    images: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What it held before its newest writes, the oldest first: what a rollback puts back."""
    tears: int = 0
    stops_at: list[int] = field(default_factory=list)
    """After how many bytes the next torn writes stop; where nothing is said, chance says."""

    @property
    def content(self) -> tuple[bytes, bytes]:
        return self.slots[0], self.slots[1]

    def begin_write(self) -> None:
        """Remember what is there before a write."""
        self.images.append(self.content)
        del self.images[:-IMAGES_MAX]

    def write(self, slot: int, data: bytes) -> None:
        self.slots[slot] = data

    def tear(self, slot: int, data: bytes, count: int) -> None:
        """The write was torn after `count` bytes: those are new, the rest is as it was."""
        count = min(self.stops_at.pop(0), len(data)) if self.stops_at else count
        self.tears += count < len(data)
        self.slots[slot] = data[:count] + self.slots[slot][count:]

    def copy(self) -> Wristband:
        """A second chip with the same serial number and content."""
        return Wristband(f"copy of {self.name}", self.serial, list(self.slots), list(self.images))

    def roll_back(self, steps: int) -> bool:
        """Put back what it held `steps` writes ago; False where nothing older is known."""
        if steps > len(self.images):
            return False
        self.slots[:] = self.images[-steps]
        del self.images[-steps:]
        return True
