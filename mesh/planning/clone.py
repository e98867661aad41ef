"""One clone at one drawing of the venue: who refuses it when, and what a thief makes of the time until then. PURE.

At second 0 the wristband is used at one reader. Its copy, which still shows the record from before, is first shown at
another reader `pace` (same zone) or `travel` (another zone) later; both readers are drawn, each as likely as any other.
What a reader refuses is what `mesh.views.cards` refuses:

* a record that a known tap has consumed: the copy shows one to every reader that has heard of the first tap;
* right after the copy's first own tap, a record whose parent a known tap consumed otherwise: the same readers;
* from then on a card with a known conflict: readers that have heard of both taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from mesh.planning.contacts import World, stream_of
from mesh.planning.plan import Plan

SEEDS_APART: Final = 2**32
"""Between the first clones of two neighbouring seeds of a run; far more than a run has samples."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of one clone, and of the first tap's money. Times in seconds, `inf` for never.

    The three times of notice are counted from when the copy is first shown.
    """

    first_zone: str
    second_zone: str
    refused_at_once: bool
    """The copy's first reader had heard of the wristband's tap already: no conflict, and nothing spent there."""
    first_bar_s: float
    """Until one of the two readers refuses the wristband with proof; 0 where the copy is refused at once."""
    both_bars_s: float
    every_reader_s: float
    """Until every reader of the venue refuses the copy."""
    last_zone: str
    """The zone with the reader that refuses it last."""
    taps: int
    """Taps with the copy that go green, with a thief who always goes to the zone that will be the last to know."""
    spent_minor: int
    settled_s: float
    """From the first tap until a gateway has it."""
    alone_s: float
    """From the first tap until a second device, of whatever kind, has it."""


def sample_seed(seed: int, number: int) -> int:
    """The seed of a run's sample `number`, counted from 0."""
    return seed * SEEDS_APART + number


def clone_noticed(plan: Plan, seed: int) -> Sample:
    """What becomes of the clone of this seed. The same plan and seed give the same sample, in any process."""
    world = World(plan, seed)
    first, second = _two_readers(plan, seed)
    shown_s = plan.thief.pace_s if first == second else plan.thief.travel_s
    original = world.spread(first, 0.0)
    copy = _Copy(plan, world, original)
    refused = copy.refuses_first(second, shown_s)
    if refused:
        bars = (0.0, 0.0)
        waits = copy.waits_for_original()
    else:
        conflicting = world.spread(second, shown_s)
        at_first, at_second = conflicting[world.zones.index(first)], original[world.zones.index(second)]
        bars = (min(at_first, at_second) - shown_s, max(at_first, at_second) - shown_s)
        waits = copy.waits_for_both(conflicting)
    last_zone = max(waits, key=lambda zone: waits[zone])
    taps = copy.taps(second, shown_s)
    most = plan.money.most_per_tap_minor
    return Sample(
        first_zone=first,
        second_zone=second,
        refused_at_once=refused,
        first_bar_s=bars[0],
        both_bars_s=bars[1],
        every_reader_s=max(0.0, waits[last_zone] - shown_s),
        last_zone=last_zone,
        taps=taps,
        spent_minor=min(taps * most, plan.money.balance_minor),
        settled_s=min((original[at] for at, zone in enumerate(plan.zones) if zone.gateway), default=inf),
        alone_s=_alone(plan, first, original),
    )


def _two_readers(plan: Plan, seed: int) -> tuple[str, str]:
    """The zones of two different readers."""
    stream = stream_of(seed, "thief")
    first, second = stream.random(), stream.random()
    at_first = min(int(first * plan.readers), plan.readers - 1)
    at_second = min(int(second * (plan.readers - 1)), plan.readers - 2)
    at_second += at_second >= at_first
    return _zone_of(plan, at_first), _zone_of(plan, at_second)


def _zone_of(plan: Plan, reader: int) -> str:
    for zone in plan.zones:
        if reader < zone.readers:
            return zone.name
        reader -= zone.readers
    raise AssertionError("readers are numbered from 0 to one less than there are")


def _alone(plan: Plan, zone: str, known: list[float]) -> float:
    """When the first device besides the reader that sold has the tap."""
    own = next(at for at, place in enumerate(plan.zones) if place.name == zone)
    elsewhere = [reached for at, reached in enumerate(known) if at != own and _has_devices(plan, at)]
    if plan.zones[own].readers + plan.zones[own].gateway >= 2:
        elsewhere.append(known[own])
    return min(elsewhere, default=inf)


def _has_devices(plan: Plan, node: int) -> bool:
    return node >= len(plan.zones) or plan.zones[node].readers > 0 or plan.zones[node].gateway


class _Copy:
    """The copy on its way through the venue, while news of the original's tap spreads as `original` says."""

    def __init__(self, plan: Plan, world: World, original: list[float]) -> None:
        self._plan = plan
        self._world = world
        self._sellers = {zone.name: zone.readers for zone in plan.zones if zone.readers}
        self._original = dict(zip(world.zones, original, strict=False))

    def refuses_first(self, zone: str, at_s: float) -> bool:
        """Whether a reader of `zone` other than the first tap's knows of that."""
        return self._original[zone] <= at_s

    def waits_for_original(self) -> dict[str, float]:
        """When each zone's readers refuse a copy that has not been accepted anywhere."""
        return {zone: self._original[zone] for zone in self._sellers}

    def waits_for_both(self, conflicting: list[float]) -> dict[str, float]:
        """When each zone's readers know both taps, the original's and the conflicting one."""
        known = dict(zip(self._world.zones, conflicting, strict=False))
        return {zone: max(self._original[zone], known[zone]) for zone in self._sellers}

    def taps(self, second: str, shown_s: float) -> int:
        """How many taps of the copy go green until it is refused wherever the thief can go, or the balance is spent.

        A thief who is refused, or will be at the next tap, goes where news comes last, and is always right about it.
        """
        balance, most = self._plan.money.balance_minor, self._plan.money.most_per_tap_minor
        enough = ceil(balance / most)
        zone, at_s = second, shown_s
        if self.refuses_first(zone, at_s):
            found = self._next(zone, at_s, self._original)
            if found is None:
                return 0
            zone, at_s = found
        both = self.waits_for_both(self._world.spread(zone, at_s))
        taps = 1
        while taps < enough:
            # The copy's second tap shows a record whose parent the first tap consumed.
            found = self._next(zone, at_s, self._original if taps == 1 else both)
            if found is None:
                return taps
            zone, at_s = found
            more = min(self._in_a_row(at_s, both[zone]), enough - taps - 1)
            taps, at_s = taps + 1 + more, at_s + more * self._plan.thief.pace_s
        return taps

    def _in_a_row(self, at_s: float, refused_s: float) -> int:
        """Further taps in one zone after the one at `at_s`, each before `refused_s`."""
        if refused_s == inf:
            return self._plan.money.balance_minor
        return max(0, ceil((refused_s - at_s) / self._plan.thief.pace_s) - 1)

    def _next(self, zone: str, at_s: float, refused: dict[str, float]) -> tuple[str, float] | None:
        """Where and when the next tap goes green: here if it can, else in the zone that refuses last; or nowhere."""
        here = at_s + self._plan.thief.pace_s
        if here < refused[zone]:
            return zone, here
        # Travel may be nothing for an accomplice who waits with the copy, but the copy is in one place at a time.
        there = at_s + max(self._plan.thief.travel_s, self._plan.thief.pace_s)
        others = [name for name in self._sellers if name != zone and there < refused[name]]
        if not others:
            return None
        return max(others, key=lambda name: refused[name]), there
