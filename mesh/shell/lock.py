"""One process per device directory: two that append to one store would sign two entries at one seq."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh.errors import LocalError


class StoreInUse(LocalError):
    """Another process has this device open."""


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the device in `directory` for this process; the kernel lets go when the process ends, however it ends."""
    path = directory / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreInUse(
                f"the device in {directory} is in use by process {owner}; nothing was changed. Stop that one first, or "
                f"give this one its own directory: two programs on one store would accuse their own device"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
