"""A simulated disk under SQLite: an APSW VFS whose power can be cut, and whose writes can fail, at any operation.

::

    with simulated_disk() as vfs:
        disk = vfs.insert(Disk(cut_at=17))              # the power goes before the 17th operation
        try:
            store = RunStore(path, Durability.POWER_CUT, vfs=vfs.name)
            ...
        except TapmeshError:
            assert disk.is_off
        store.close()                                   # a dead process lets go of its files
        disk = vfs.insert(Disk(disk.after_power_cut(Fate.FLASH)))

**Operations** are what can change the disk: create, write, truncate, sync, delete, and the sync of the directory; with
`reads_count` also reads. They are numbered from 1. A cut comes *before* its operation, so the sweep over 1, 2, ...,
n + 1 cuts everywhere: a write that was under way when the power went is pending at the next number, and a pending write
may survive whole, in part, as garbage, or not at all (:class:`mesh.testing.medium.Fate`).

**Failures** (:class:`Failure`) let one operation fail, or it and everything after it. A failed sync behaves like
Linux: the pages are called clean, some of them are on the medium, and a second sync succeeds. A full disk takes
part of a write. After it, :meth:`Disk.next_process` is the same machine, still up, with a new process on it.

**What it is true to.** Sector size, ``psow`` and the rest of what the file system promises are asked of SQLite's own
unix VFS, by the name that the program gave, so ``?psow=0`` has the effect that it has in production; so are locks and
shared memory, through empty files at the real paths. As there, the directory is synced with the first sync of each
journal or WAL that may create its file, and whether that failed is not looked at. `lies_about_sync` and
`claims_powersafe` make a disk that promises what it does not keep: with either, a sweep must find losses, or the sweep
is worth nothing.

**Where it differs.** An error in a checkpoint that SQLite would keep to itself reaches the program, because APSW hands
on every exception of a VFS. All chance comes from `seed`; what the program writes is the program's.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final

import apsw

from mesh.testing.medium import Fate, Image, Inode, Medium, Resized, Written

__all__ = ["Disk", "DiskVfs", "Error", "Failure", "Fate", "Image", "Operation", "simulated_disk"]

_SYNCS_ITS_DIRECTORY: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_UNIX: Final = "unix"
"""SQLite's own VFS by its name: the default one may be ours."""
_numbers = itertools.count(1)


class Operation(Enum):
    """What is counted, with the code that SQLite's unix VFS gives for it when it fails."""

    CREATE = apsw.SQLITE_CANTOPEN
    WRITE = apsw.SQLITE_IOERR_WRITE
    TRUNCATE = apsw.SQLITE_IOERR_TRUNCATE
    SYNC = apsw.SQLITE_IOERR_FSYNC
    DELETE = apsw.SQLITE_IOERR_DELETE
    SYNC_DIRECTORY = apsw.SQLITE_IOERR_DIR_FSYNC
    READ = apsw.SQLITE_IOERR_READ


class Error(Enum):
    """What the operating system answers."""

    EIO = "EIO"
    ENOSPC = "ENOSPC"


@dataclass(frozen=True, slots=True)
class Failure:
    """Operation number `at` fails; if it `lasts`, so does everything after it until the next process."""

    at: int
    error: Error
    lasts: bool = False

    def hits(self, number: int) -> bool:
        return number == self.at or (self.lasts and number > self.at)


class DiskFailed(apsw.IOError):
    """The simulated disk refused an operation, or its power is off."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.extendedresult = code


class DiskFull(apsw.FullError):
    """No space is left for a write."""


class CannotOpen(apsw.CantOpenError):
    """A file cannot be created or opened."""


class Disk:
    """One disk under one life of a process."""

    def __init__(
        self,
        image: Image | Medium | None = None,
        *,
        seed: int = 0,
        cut_at: int | None = None,
        failure: Failure | None = None,
        reads_count: bool = False,
        lies_about_sync: bool = False,
        claims_powersafe: bool = False,
    ) -> None:
        self.medium = image if isinstance(image, Medium) else Medium(image)
        self.history: list[Operation] = []
        """Every operation so far, in order: number N is `history[N - 1]`."""
        self.is_off = False
        self.failed: list[Operation] = []
        """What was refused because of `failure`."""
        self.claims_powersafe = claims_powersafe
        self._random = random.Random(seed)
        self.cut_at = cut_at
        """Before which operation the power goes; may be set while programs run."""
        self.failure = failure
        """What fails; may be set while programs run."""
        self._reads_count = reads_count
        self._lies_about_sync = lies_about_sync
        self._lock = threading.RLock()

    @property
    def operations(self) -> int:
        """How many operations there were; the one that a cut came before is counted."""
        return len(self.history)

    # -- Between two lives -----------------------------------------------------------------------------------------

    def cut_power(self) -> None:
        """From now on every operation fails, and nothing more reaches the medium."""
        self.is_off = True

    def cut_power_in(self, operations: int) -> None:
        """The power goes before the operation that many from now on: 1 is the next one."""
        self.cut_at = self.operations + operations

    def after_power_cut(self, fate: Fate) -> Image:
        """What the next boot finds."""
        return self.medium.after_power_cut(fate, self._random)

    def next_process(self) -> Medium:
        """The machine stays up and a new process starts: nothing pending is lost, but what failed to sync may be."""
        for inode in self.medium.names.values():
            inode.forget_doubtful(self._random)
        return self.medium

    # -- Operations ------------------------------------------------------------------------------------------------

    def create(self, path: str) -> Inode:
        with self._lock:
            self._begin(Operation.CREATE)
            return self.medium.create(path)

    def read(self, inode: Inode, amount: int, offset: int) -> bytes:
        with self._lock:
            if self._reads_count or self.is_off:
                self._begin(Operation.READ)
            return bytes(inode.visible[offset : offset + amount])

    def write(self, inode: Inode, data: bytes, offset: int) -> None:
        with self._lock:
            try:
                self._begin(Operation.WRITE)
            except DiskFull:
                inode.change(Written(offset, data[: self._random.randint(0, len(data))]))
                raise
            inode.change(Written(offset, data))

    def truncate(self, inode: Inode, size: int) -> None:
        with self._lock:
            self._begin(Operation.TRUNCATE)
            inode.change(Resized(size))

    def sync(self, inode: Inode) -> None:
        with self._lock:
            try:
                self._begin(Operation.SYNC)
            except apsw.Error:
                if not self.is_off:
                    inode.sync_fails(self._random)
                raise
            if not self._lies_about_sync:
                inode.sync()

    def sync_directory(self) -> None:
        with self._lock:
            self._begin(Operation.SYNC_DIRECTORY)
            if not self._lies_about_sync:
                self.medium.sync_directory()

    def delete(self, path: str) -> None:
        with self._lock:
            self._begin(Operation.DELETE)
            self.medium.delete(path)

    def _begin(self, operation: Operation) -> None:
        if self.is_off:
            raise DiskFailed("the power is off", operation.value)
        self.history.append(operation)
        if self.operations == self.cut_at:
            self.cut_power()
            raise DiskFailed(f"the power went before operation {self.operations}", operation.value)
        if self.failure is not None and self.failure.hits(self.operations):
            self.failed.append(operation)
            raise _refusal(operation, self.failure.error, self.operations)


def _refusal(operation: Operation, error: Error, number: int) -> apsw.Error:
    text = f"simulated {error.value} at operation {number} ({operation.name.lower()})"
    match operation, error:
        case Operation.CREATE, _:
            return CannotOpen(text)
        case Operation.WRITE, Error.ENOSPC:
            return DiskFull(text)
        case _:
            return DiskFailed(text, operation.value)


class DiskVfs(apsw.VFS):
    """The VFS through which SQLite reaches the disk that is inserted. Made by :func:`simulated_disk`."""

    def __init__(self, name: str, *, is_default: bool) -> None:
        self.name = name
        self.open_files = 0
        self.disk = Disk()
        super().__init__(name, _UNIX, makedefault=is_default)

    def insert(self, disk: Disk) -> Disk:
        """Everything opened from now on is on this disk; whatever had files on the one before has closed them."""
        assert self.open_files == 0, "a process that is dead still has its files open: close its connections first"
        self.disk = disk
        return disk

    def xOpen(  # noqa: N802 - the name is APSW's
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        if name is None:
            return apsw.VFSFile(_UNIX, None, flags)
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if filename not in self.disk.medium.names:
            raise DiskFailed(f"there is no {filename}", apsw.SQLITE_IOERR_DELETE_NOENT)
        self.disk.delete(filename)
        if syncdir:
            self.disk.sync_directory()

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self.disk.medium.names

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: TracebackType | None
    ) -> bool:
        """A second error while SQLite handles a first one: it has nobody to be told to, on a real disk as well."""
        return True


class _File(apsw.VFSFile):
    """An open file: contents on the simulated disk, locks and shared memory on an empty real file of its name."""

    def __init__(self, vfs: DiskVfs, name: str | apsw.URIFilename, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._vfs = vfs
        self._disk = vfs.disk
        inode = self._disk.medium.names.get(path)
        creates = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        self._owes_directory_sync = creates and bool(flags[0] & _SYNCS_ITS_DIRECTORY)
        if inode is None:
            if not creates:
                raise CannotOpen(f"there is no {path}")
            inode = self._disk.create(path)
        self._inode = inode
        Path(path).touch()
        super().__init__(_UNIX, name, flags)
        vfs.open_files += 1

    def xClose(self) -> None:  # noqa: N802
        self._vfs.open_files -= 1
        super().xClose()

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return self._disk.read(self._inode, amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.write(self._inode, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.truncate(self._inode, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.sync(self._inode)
        if self._owes_directory_sync:
            self._owes_directory_sync = False
            try:
                self._disk.sync_directory()
            except apsw.Error:
                if self._disk.is_off:
                    raise

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._inode.visible)

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        promised = super().xDeviceCharacteristics()
        return promised | apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE if self._disk.claims_powersafe else promised

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        return False

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: TracebackType | None
    ) -> bool:
        """As for :class:`DiskVfs`."""
        return True


@contextmanager
def simulated_disk(*, is_default: bool = False) -> Iterator[DiskVfs]:
    """A VFS with an empty disk in it. `is_default`: also for programs that name no VFS; never nest two of those."""
    vfs = DiskVfs(f"simulated-{next(_numbers)}", is_default=is_default)
    try:
        yield vfs
    finally:
        vfs.unregister()
