"""Small files that must be there whole or not at all, and private ones that nobody else can read.

* A file appears under its name only when its bytes are on the disk (fsync of the file, then of its directory).
* No command overwrites: a name that is taken is refused, also when two processes try at once (`link` is atomic).
* A private file is created with mode 0600 from its first byte, and refused when read if others could read it too.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from mesh.errors import LocalError, StorageError

_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


class AlreadyThere(LocalError):
    """The file or directory exists; nothing was written over it."""


class CannotRead(LocalError):
    """A file that the command needs cannot be read."""


class KeyFileExposed(LocalError):
    """A private file that others can read, or that belongs to somebody else: what it holds may be known already."""


def write_new_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Create `path` with `data`, durably and whole, or raise :class:`AlreadyThere` or :class:`StorageError`."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise AlreadyThere(f"{path} is there already and was not touched; move it away if it is not needed") from error
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}; nothing was changed") from error
    except OSError as error:
        raise StorageError(f"{path} could not be written durably: {error.strerror}; check the disk") from error


def _name(partial: Path, path: Path) -> None:
    """Give a finished file its name, or raise FileExistsError."""
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A USB stick (FAT) has no hard links: take the name first, then put the finished file there.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        partial.replace(path)


def make_new_directory(path: Path, *, private: bool = True) -> None:
    """Create `path` (mode 0700 if private), or raise :class:`AlreadyThere`."""
    try:
        path.mkdir(mode=0o700 if private else 0o755)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise AlreadyThere(f"{path} is there already and was not touched; give another directory") from error
    except OSError as error:
        raise LocalError(f"{path} cannot be created: {error.strerror}; nothing was changed") from error


def require_absent(path: Path) -> None:
    """Raise :class:`AlreadyThere` before anything is done for a file or directory that must be new."""
    if path.exists() or path.is_symlink():
        raise AlreadyThere(f"{path} is there already and was not touched; give another name. Nothing was done")


def give_name(partial: Path, directory: Path) -> None:
    """Give a finished directory its name, durably; one that holds something is never replaced."""
    require_absent(directory)
    try:
        partial.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise LocalError(f"{directory} cannot be made: {error.strerror}; nothing was changed") from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, *, bytes_max: int, meaning: str) -> bytes:
    """Read a small file; `meaning` says in the error what it is ("the device's certificate")."""
    return _read(path, bytes_max, meaning, private=False)


def read_private_file(path: Path, *, bytes_max: int, meaning: str) -> bytes:
    """Like :func:`read_file`, and refuse a link, another owner, or any permission for group and others."""
    return _read(path, bytes_max, meaning, private=True)


def _read(path: Path, bytes_max: int, meaning: str, *, private: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if private else 0))
    except OSError as error:
        raise CannotRead(f"{meaning} cannot be read from {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise CannotRead(f"{meaning} should be in {path}, but that is not a plain file")
        if private:
            _require_private(path, status, meaning)
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise CannotRead(f"{path} is longer than {bytes_max} bytes: it is not {meaning}")
    return data


def _require_private(path: Path, status: os.stat_result, meaning: str) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        raise KeyFileExposed(f"{path} ({meaning}) belongs to another user; whoever owns it can sign as this device")
    if mode & 0o077:
        raise KeyFileExposed(
            f"{path} ({meaning}) has mode {mode:04o}: others on this machine may have read it and could sign sales as "
            f"this device. If nobody else can log in here, run: chmod 600 {path}. Otherwise enrol the device anew."
        )
