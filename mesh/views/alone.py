"""What money is on one device only: taps that nobody else is known to keep and no receipt covers. A pure sum.

An abort moves no money, and neither does a kind that is not known here: they are entries that would be lost, not
amounts. A body that no view would count is an entry too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.core.entry import decode_entry
from mesh.core.kinds import Kind, Operation
from mesh.errors import PeerError
from mesh.views.tap_entry import decode_tap


@dataclass(frozen=True, slots=True)
class Sum:
    """All taps of one operation."""

    count: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Alone:
    """Entries of one device that are nowhere else, as far as it knows."""

    entries: int = 0
    sums: tuple[tuple[Operation, Sum], ...] = ()
    """By operation, those that there are, in the order of their numbers."""
    oldest_ms: int | None = None
    """When the first of these taps was made, by the clock of the device; None where there is no tap."""

    @property
    def taps(self) -> int:
        return sum(one.count for _, one in self.sums)

    def __add__(self, other: Alone) -> Alone:
        sums = dict(self.sums)
        for operation, one in other.sums:
            before = sums.get(operation, Sum(0, 0))
            sums[operation] = Sum(before.count + one.count, before.amount_minor + one.amount_minor)
        oldest = min((time for time in (self.oldest_ms, other.oldest_ms) if time is not None), default=None)
        return Alone(self.entries + other.entries, tuple(sorted(sums.items())), oldest)


def alone_of(entries: Iterable[bytes]) -> Alone:
    """Sum up raw entries of money logs."""
    count, oldest = 0, None
    sums: dict[Operation, tuple[int, int]] = {}
    for data in entries:
        count += 1
        entry = decode_entry(data)
        if entry.kind != Kind.TAP:
            continue
        try:
            tap = decode_tap(entry.body)
        except PeerError:
            continue
        taps, amount = sums.get(tap.operation, (0, 0))
        sums[tap.operation] = taps + 1, amount + tap.amount_minor
        oldest = entry.time_ms if oldest is None else min(oldest, entry.time_ms)
    return Alone(count, tuple((operation, Sum(*sums[operation])) for operation in sorted(sums)), oldest)
