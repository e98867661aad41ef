"""A disk's contents: what a program sees, what is on the medium, and what a power cut makes of the difference.

Nothing here knows SQLite. Every write, truncation, creation and deletion is first *pending*: visible to every program,
not yet on the medium. :meth:`Medium.sync` makes a file's pending changes durable; directory entries have a sync of
their own (:meth:`Medium.sync_directory`), as on POSIX. :meth:`Medium.after_power_cut` says what the next boot finds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

SECTOR_BYTES: Final = 512
FLASH_SECTOR_BYTES: Final = 4096
LANDED_SHARE: Final = 0.4
GARBAGE_SHARE: Final = 0.2
"""Of the flash sectors that were being written: so many are new, so many garbage, the rest as they were."""

Image: TypeAlias = Mapping[str, bytes]
"""What a disk holds when the power comes back: contents by path."""


class Fate(Enum):
    """What a power cut does to changes that were not synced yet."""

    DROPPED = "dropped"
    """None of them is there."""
    PREFIX = "prefix"
    """The first so many are there, in the order in which they were made."""
    REORDERED = "reordered"
    """Each is there or not, whole."""
    TORN = "torn"
    """Each 512-byte sector of each of them is there or not."""
    FLASH = "flash"
    """Each 4 KiB sector that one of them touches is as it was, as it was to be, or all garbage, neighbours included."""


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes put at an offset."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    """A file cut or grown (with zeros) to a size in bytes."""

    size: int


Change: TypeAlias = Written | Resized


@dataclass(slots=True)
class Inode:
    """One file, whatever its name: `visible` is `durable` with the `pending` changes made to it."""

    durable: bytearray = field(default_factory=bytearray)
    visible: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    doubtful: set[int] = field(default_factory=set)
    """Flash sectors whose sync failed: the cache shows them, calls them clean, and may forget them."""

    def change(self, change: Change) -> None:
        self.pending.append(change)
        _apply(self.visible, change)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def sync_fails(self, rng: random.Random) -> None:
        """As Linux does it: what was dirty is called clean, part of it is on the medium, and a later sync succeeds."""
        for change in self.pending:
            if isinstance(change, Written):
                sectors = list(_split(change, FLASH_SECTOR_BYTES))
                self.doubtful.update(sector.offset // FLASH_SECTOR_BYTES for sector in sectors)
                for sector in sectors:
                    if rng.random() < LANDED_SHARE:
                        _apply(self.durable, sector)
            else:
                _apply(self.durable, change)
        self.pending.clear()

    def forget_doubtful(self, rng: random.Random) -> None:
        """The cache lets some sectors go whose sync had failed: reads find again what is on the medium."""
        truth = bytearray(self.durable)
        for change in self.pending:
            _apply(truth, change)
        truth.extend(bytes(max(0, len(self.visible) - len(truth))))
        for sector in sorted(self.doubtful):
            first = sector * FLASH_SECTOR_BYTES
            last = min(first + FLASH_SECTOR_BYTES, len(self.visible))
            if first < last and rng.random() < 0.5:
                self.visible[first:last] = truth[first:last]
        self.doubtful.clear()

    def after_power_cut(self, fate: Fate, rng: random.Random) -> bytes:
        found = bytearray(self.durable)
        for change in _survivors(self.pending, fate, rng):
            _apply(found, change)
        return bytes(found)


class Medium:
    """All files of one disk, and the directory that names them. Starts as a medium that was at rest."""

    def __init__(self, image: Image | None = None) -> None:
        self.names = {path: Inode(bytearray(data), bytearray(data)) for path, data in (image or {}).items()}
        self._durable_names = dict(self.names)
        self._renaming: list[tuple[str, Inode | None]] = []

    def create(self, path: str) -> Inode:
        inode = self.names[path] = Inode()
        self._renaming.append((path, inode))
        return inode

    def delete(self, path: str) -> None:
        del self.names[path]
        self._renaming.append((path, None))

    def sync_directory(self) -> None:
        for path, inode in self._renaming:
            _name(self._durable_names, path, inode)
        self._renaming.clear()

    def at_rest(self) -> Image:
        """Contents after everything that a program did has reached the medium."""
        return {path: bytes(inode.visible) for path, inode in self.names.items()}

    def after_power_cut(self, fate: Fate, rng: random.Random) -> Image:
        """What the next boot finds."""
        names = dict(self._durable_names)
        count = rng.randint(0, len(self._renaming))
        for index, (path, inode) in enumerate(self._renaming):
            by_chance = rng.random() < 0.5
            kept = by_chance if fate not in {Fate.DROPPED, Fate.PREFIX} else fate is Fate.PREFIX and index < count
            if kept:
                _name(names, path, inode)
        return {path: inode.after_power_cut(fate, rng) for path, inode in sorted(names.items())}


def _name(names: dict[str, Inode], path: str, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode


def _apply(content: bytearray, change: Change) -> None:
    match change:
        case Written(offset, data):
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        case Resized(size):
            del content[size:]
            content.extend(bytes(size - len(content)))


def _split(written: Written, sector_bytes: int) -> Iterator[Written]:
    """The write, sector by sector."""
    at = 0
    while at < len(written.data):
        room = sector_bytes - (written.offset + at) % sector_bytes
        yield Written(written.offset + at, written.data[at : at + room])
        at += room


def _survivors(pending: list[Change], fate: Fate, rng: random.Random) -> Iterator[Change]:
    match fate:
        case Fate.DROPPED:
            return
        case Fate.PREFIX:
            yield from pending[: rng.randint(0, len(pending))]
        case Fate.REORDERED:
            yield from (change for change in pending if rng.random() < 0.5)
        case Fate.TORN | Fate.FLASH:
            for change in pending:
                if isinstance(change, Resized):
                    if rng.random() < 0.5:
                        yield change
                elif fate is Fate.TORN:
                    yield from (sector for sector in _split(change, SECTOR_BYTES) if rng.random() < 0.5)
                else:
                    yield from _flash(change, rng)


def _flash(written: Written, rng: random.Random) -> Iterator[Written]:
    for sector in _split(written, FLASH_SECTOR_BYTES):
        chance = rng.random()
        if chance < LANDED_SHARE:
            yield sector
        elif chance < LANDED_SHARE + GARBAGE_SHARE:
            first = sector.offset // FLASH_SECTOR_BYTES * FLASH_SECTOR_BYTES
            yield Written(first, rng.randbytes(FLASH_SECTOR_BYTES))
