"""The sweeps: a store lives under a disk that fails at one operation after the other, and is judged after each.

What is swept is anything with :class:`Lives`: the device's own store, its replica, the settlement's ledger.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from mesh.testing.disk import Disk, Error, Failure, Fate


class Broken(AssertionError):
    """A store did not keep what its program promised. A controlled failure must raise it."""


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


class Lives(Protocol):
    """One store through the lives of several processes."""

    opening_operations: int
    """How many operations of the disk the newest life took before it did anything."""

    def live(self, disk: Disk, *, works: bool = True) -> bool:
        """One life on this disk: open, compare with what was acknowledged, work. True if it came to its end.

        Raises :class:`Broken` where a promise was; False stands for a `StorageError` that the disk is to blame for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Liar:
    """What a disk promises and does not keep."""

    sync: bool = False
    powersafe: bool = False

    def disk(self, disk: Disk | None, fate: Fate, seed: int, cut_at: int | None) -> Disk:
        """The disk of the next boot."""
        image = None if disk is None else disk.after_power_cut(fate)
        return Disk(image, seed=seed, cut_at=cut_at, lies_about_sync=self.sync, claims_powersafe=self.powersafe)


HONEST = Liar()


@dataclass(slots=True)
class Tally:
    """What a sweep did and found: `broken` counts broken promises by their sentence."""

    cuts: int = 0
    lives: int = 0
    seconds: float = 0.0
    broken: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """The first attempt that broke a promise, to play again."""

    def attempt(self, name: str, cuts: int, work: Callable[[], int]) -> None:
        began = time.perf_counter()
        self.cuts += cuts
        try:
            self.lives += work()
        except Broken as broken:
            self.broken[str(broken)] += 1
            self.first = self.first or f"{name}: {broken}"
        self.seconds += time.perf_counter() - began

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.cuts + other.cuts,
            self.lives + other.lives,
            self.seconds + other.seconds,
            self.broken + other.broken,
            self.first or other.first,
        )


def measure(lives: Lives) -> int:
    """How many operations an undisturbed first life takes."""
    disk = Disk()
    assert lives.live(disk)
    return disk.operations


def die_and_recover(lives: Lives, fate: Fate, seed: int, cuts: Sequence[int], liar: Liar = HONEST) -> int:
    """Lives that end at these operations, one after the other; then one that ends well, and a look at what it left."""
    disk: Disk | None = None
    for cut in cuts:
        disk = liar.disk(disk, fate, seed, cut)
        lives.live(disk)
        disk.cut_power()
    disk = liar.disk(disk, fate, seed, None)
    require(lives.live(disk), "the store cannot be used after the power came back")
    disk.cut_power()
    require(lives.live(liar.disk(disk, fate, seed, None), works=False), "what the last life left cannot be used")
    return len(cuts) + 2


def keeps_its_promises(tally: Tally) -> bool:
    """Nothing was broken, and there was something to break."""
    assert not tally.broken, f"{tally.first} (and {tally.broken.total() - 1} more of {tally.cuts}): {tally.broken}"
    return tally.cuts > 0


def power_cuts(
    make: Callable[[], Lives],
    fates: Sequence[Fate],
    *,
    liar: Liar = HONEST,
    every: int = 1,
    rotate: bool = False,
) -> Tally:
    """The power goes once, before each operation of a life and before none; with every fate, or with each in turn."""
    tally = Tally()
    for number, cut in enumerate(range(1, measure(make()) + 2, every)):
        for fate in [fates[number % len(fates)]] if rotate else fates:
            tally.attempt(f"{fate} {[cut]}", 1, partial(die_and_recover, make(), fate, cut, [cut], liar))
    return tally


def power_cuts_in_recovery(make: Callable[[], Lives], fates: Sequence[Fate], *, every: int = 1) -> Tally:
    """The power goes, goes again at each operation of the recovery, and once more in the recovery from that.

    `every` skips first cuts; the second cuts are always complete.
    """
    tally = Tally()
    for number, cut in enumerate(range(1, measure(make()) + 2, every)):
        fate = fates[number % len(fates)]
        seed = cut
        lives = make()
        first = Disk(seed=seed, cut_at=cut)
        lives.live(first)
        first.cut_power()
        if not lives.live(Disk(first.after_power_cut(fate), seed=seed), works=False):
            raise Broken("the store cannot be used after the power came back")
        for second in range(1, lives.opening_operations + 2):
            cuts = [cut, second, 1 + (cut + second) % (lives.opening_operations + 1)]
            tally.attempt(f"{fate} {cuts}", 3, partial(die_and_recover, make(), fate, seed, cuts))
    return tally


def failures(make: Callable[[], Lives], error: Error, *, lasts: bool, reads: bool = False, every: int = 1) -> Tally:
    """Each operation in turn fails, the process ends, another one starts on the same machine, and the power goes.

    That goes either when the second process has worked, or as soon as it has looked at what is there.
    """
    tally = Tally()
    counting = Disk(reads_count=reads)
    make().live(counting)
    for at in range(1, counting.operations + 1, every):
        for looks_first in (False, True):
            failing = Disk(seed=at, failure=Failure(at, error, lasts), reads_count=reads)
            work = partial(_fail_and_recover, make(), failing, looks_first=looks_first)
            tally.attempt(f"{error} {at} lasts={lasts} looks_first={looks_first}", 1, work)
    return tally


def _fail_and_recover(lives: Lives, failing: Disk, *, looks_first: bool) -> int:
    lives.live(failing)
    after = Disk(failing.next_process(), seed=1)
    if looks_first:
        require(lives.live(after, works=False), "the store cannot be used though the disk works again")
        after = Disk(after.after_power_cut(Fate.DROPPED))
    require(lives.live(after), "the store cannot be used though the disk works again")
    after.cut_power()
    last = Disk(after.after_power_cut(Fate.DROPPED))
    require(lives.live(last, works=False), "what the next process left cannot be used")
    return 3 + looks_first
