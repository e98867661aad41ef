"""One board of a simulated venue: its disk, its power, its clocks and its chance, all from one seed.

:attr:`Machine.surroundings` is what `open_device` takes. Work "in a thread" happens in one go, somewhere between a
start and an end that are moments of virtual time: what runs beside it sees the world before it or after it, as with a
real thread that is not looked at half way. How long it takes goes by what it did: operations of the disk, and what it
says itself (:meth:`Machine.took`).

When the power goes (between two pieces of work, or before any operation of the disk), nothing that the dead program
still does gets out: its disk, its antenna, its screen and its wires ask :attr:`Machine.is_on`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.errors import StorageError
from mesh.shell.damage import MARK_SUFFIX
from mesh.shell.store import OWN_FILE
from mesh.shell.surroundings import Surroundings
from mesh.testing.disk import Disk, DiskVfs, Error, Failure, Fate, Operation
from mesh.testing.trace import Trace

CORES: Final = 2
NOON_MS: Final = 1_780_000_000_000
CLOCK_WRONG_MS: Final = 300_000
THREAD_S: Final = (0.00005, 0.002)
"""From asking for a thread to its beginning."""
SYNC_S: Final = (0.001, 0.012)
OPERATION_S: Final = 0.00002
KEEPS_CACHE: Final = 0.7
"""Chance that a process that starts again reads from the cache what a failed sync left off the medium."""

_Result = TypeVar("_Result")


@dataclass(slots=True)
class Signal:
    """Wakes everybody who waits for a change; they look again."""

    _event: trio.Event = field(default_factory=trio.Event)

    def set(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class PowerGone(StorageError):
    """The board has no power: what the program wanted to do did not happen."""


class Machine:
    """See the module's docstring. `seed` and the device's name decide everything that chance decides here."""

    def __init__(
        self,
        seed: int,
        certificate: DeviceCertificate,
        directory: Path,
        vfs: DiskVfs,
        trace: Trace,
        *,
        lies_about_sync: bool = False,
    ) -> None:
        self.name = certificate.name
        self.certificate = certificate
        self.directory = directory
        self.vfs = vfs
        self._lies_about_sync = lies_about_sync
        self.disk = vfs.insert(Disk(seed=self._number(seed, "disk"), lies_about_sync=lies_about_sync))
        self.power_cuts = 0
        self.failures = 0
        """Processes that ended because the disk failed."""
        self.when_cut: Callable[[], None] = lambda: None
        """What ends the program that runs here: without power it is gone at once."""
        self._trace = trace
        self._threads = random.Random(f"{seed}/{self.name}/threads")
        self._bytes = random.Random(f"{seed}/{self.name}/bytes")
        self._power = random.Random(f"{seed}/{self.name}/power")
        self._clock_wrong_ms = self._power.randint(-CLOCK_WRONG_MS, CLOCK_WRONG_MS)
        self._took_s = 0.0
        self.surroundings = Surroundings(
            in_thread=self._in_thread,
            cores=CORES,
            random_bytes=self._bytes.randbytes,
            jitter=self._bytes.uniform,
            unix_ms=lambda: NOON_MS + self._clock_wrong_ms + round(trio.current_time() * 1000),
            monotonic_us=lambda: round(trio.current_time() * 1_000_000),
            vfs=vfs.name,
        )

    def _number(self, seed: int, what: str) -> int:
        return random.Random(f"{seed}/{self.name}/{what}").getrandbits(32)

    def note(self, what: str, data: bytes = b"") -> None:
        """Put something that happened here into the trace."""
        self._trace.note(round(trio.current_time() * 1_000_000), self.name, what, data)

    # -- Power -----------------------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        return not self.disk.is_off

    def cut_power(self) -> None:
        """Now, between two pieces of work."""
        self.disk.cut_power()
        self.note("loses its power")
        self.when_cut()

    def cut_power_soon(self, operations: int) -> None:
        """Before the disk's operation that is so many from now; whatever asks for it."""
        self.disk.cut_at = self.disk.operations + operations

    def fail_soon(self, operations: int) -> None:
        """The disk's operation that is so many from now fails, and what follows in this process; the machine stays up.

        If only that one failed, closing the file would write out what it left behind.
        """
        self.disk.failure = Failure(self.disk.operations + operations, Error.EIO, lasts=True)

    @property
    def has_failed(self) -> bool:
        """Whether the disk refused this process something: it has to end."""
        return bool(self.disk.failed)

    def next_process(self) -> None:
        """Another process on the same machine, after one that ended because of its disk."""
        # Within seconds the cache mostly still has all that it calls clean; later it has let some of that go.
        medium = self.disk.medium if self._power.random() < KEEPS_CACHE else self.disk.next_process()
        seed = self._power.getrandbits(32)
        self.disk = self.vfs.insert(Disk(medium, seed=seed, lies_about_sync=self._lies_about_sync))
        self.failures += 1
        self.note("starts again after its disk failed")

    def boot(self) -> Fate:
        """The power is back: put in the disk as the cut left it, by a fate that chance decides."""
        fate = self._power.choice(list(Fate))
        image = self.disk.after_power_cut(fate)
        seed = self._power.getrandbits(32)
        self.disk = self.vfs.insert(Disk(image, seed=seed, lies_about_sync=self._lies_about_sync))
        self.power_cuts += 1
        self.note(f"boots, pending writes {fate.value}")
        return fate

    def before_start(self) -> None:
        """Before each start of the program: whether own.db is there is asked of the real disk, which has only locks."""
        self.directory.joinpath(OWN_FILE + MARK_SUFFIX).unlink(missing_ok=True)

    # -- Threads ---------------------------------------------------------------------------------------------------

    def took(self, seconds: float) -> None:
        """Called by work in a thread: it took this long."""
        self._took_s += seconds

    async def _in_thread(
        self,
        work: Callable[[], _Result],
        *,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> _Result:
        async with AsyncExitStack() as held:
            if limiter is not None:
                await held.enter_async_context(limiter)
            with trio.CancelScope(shield=not abandon_on_cancel):
                await trio.sleep(self._threads.uniform(*THREAD_S))
                if not self.is_on:
                    raise PowerGone(f"{self.name} has no power")
                self._took_s, before = 0.0, self.disk.operations
                result = work()
                await trio.sleep(self._took_s + self._disk_s(before))
            # As after a real thread: what was cancelled meanwhile hears of it now, and the work is done all the same.
            return result
        raise AssertionError("a limiter swallows no error")

    def _disk_s(self, before: int) -> float:
        history = self.disk.history[before:]
        syncs = history.count(Operation.SYNC) + history.count(Operation.SYNC_DIRECTORY)
        self.note(f"disk operation {self.disk.operations}")
        return OPERATION_S * len(history) + sum(self._threads.uniform(*SYNC_S) for _ in range(syncs))
