"""What a device's shell takes from the machine it runs on, besides files and links: threads, chance and clocks.

One value, handed to :func:`mesh.shell.device.open_device` and found again as `device.surroundings`. Its default is the
real machine. The simulator hands in one of its own, in which nothing happens that its seed does not know of
(docs/adr/0046-the-shell-under-a-mock-clock.md).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import trio

_Result = TypeVar("_Result")


class InThread(Protocol):
    """Runs what blocks, beside the loop: as `trio.to_thread.run_sync`, with its two options and no arguments."""

    async def __call__(
        self,
        work: Callable[[], _Result],
        *,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> _Result:
        """Return what `work` returns, or raise what it raises."""
        ...


async def _in_thread(
    work: Callable[[], _Result], *, limiter: trio.CapacityLimiter | None = None, abandon_on_cancel: bool = False
) -> _Result:
    return await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=abandon_on_cancel)


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The machine under one device."""

    in_thread: InThread = _in_thread
    cores: int = os.cpu_count() or 1
    """How many pieces of work are worth doing at once."""
    random_bytes: Callable[[int], bytes] = os.urandom
    """Nobody can guess them: nonces and tap ids."""
    jitter: Callable[[float, float], float] = random.uniform
    """A number between two others. It keeps devices out of step; nothing depends on its value."""
    unix_ms: Callable[[], int] = _unix_ms
    """The wall clock, which may show anything."""
    monotonic_us: Callable[[], int] = _monotonic_us
    """Called in threads too."""
    vfs: str | None = None
    """SQLite's name for the disk, or None for its default."""


REAL: Final = Surroundings()
