"""Who can hear whom when, and how news travels over it: a time-varying contact graph and its earliest arrivals. PURE.

A venue of one seed is a :class:`World`. Its nodes are zones (what is heard on a zone's network) and couriers. Two nodes
exchange what they have while they are in contact:

* a courier and a zone, while the courier stays there and the zone's access point works;
* a zone and the zone of a gateway on the same network, while neither is cut off and both access points work.

Everything is drawn for all time before and after second 0, so that second 0 is as good as any other, and each zone and
each courier draws from a stream of its own: what one is like changes nothing about the others. That makes plans
comparable seed by seed: one more courier, or one outage less, can only bring news earlier.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush
from math import floor, inf, log
from random import Random
from typing import Final, Protocol

from mesh.limits import PLAN_HORIZON_S
from mesh.planning.plan import GOSSIP_S, MEETING_S, Courier, Outage, Plan


class UpTimes(Protocol):
    """Half-open intervals of time, in order and apart."""

    def interval(self, at_s: float) -> tuple[float, float]:
        """The interval that `at_s` (0 or later) is in, else the next one; `(inf, inf)` where there is none."""
        ...


class Never:
    """Always down."""

    def interval(self, at_s: float) -> tuple[float, float]:
        return inf, inf


class BetweenOutages:
    """Up except during outages.

    The starts of outages are a Poisson process of mean distance `every_s`, and an outage takes the part
    `down_s/every_s` of the time to the next start: exponential, with mean `down_s`. Of two outages from the same stream
    the longer one is down whenever the shorter one is.
    """

    def __init__(self, outage: Outage, stream: Random) -> None:
        self._part = outage.down_s / outage.every_s
        self._every_s = outage.every_s
        self._stream = stream
        # The outage before second 0 is as long ago as the next one is ahead: a Poisson process has no beginning.
        self._starts = [-self._distance(), self._distance()]

    def interval(self, at_s: float) -> tuple[float, float]:
        starts = self._starts
        while starts[-1] <= at_s:
            starts.append(starts[-1] + self._distance())
        after = bisect_right(starts, at_s)
        start, end = starts[after - 1], starts[after]
        return start + self._part * (end - start), end

    def _distance(self) -> float:
        return -log(1.0 - self._stream.random()) * self._every_s


class Stays:
    """When a courier is at one stop: from `first_s` on, and a round earlier and later, for `stay_s`."""

    def __init__(self, first_s: float, round_s: float, stay_s: float) -> None:
        self._first_s = first_s
        self._round_s = round_s
        self._stay_s = stay_s

    def interval(self, at_s: float) -> tuple[float, float]:
        rounds = floor((at_s - self._first_s) / self._round_s)
        start = self._first_s + rounds * self._round_s
        if at_s >= start + self._stay_s:
            start = self._first_s + (rounds + 1) * self._round_s
        return start, start + self._stay_s


def exchange_at(needed: tuple[UpTimes, ...], at_s: float) -> float:
    """When, from `at_s` on, something can be handed over: all of `needed` are up, and have been for `MEETING_S`."""
    while at_s < PLAN_HORIZON_S:
        start, end = -inf, inf
        for times in needed:
            its_start, its_end = times.interval(at_s)
            start, end = max(start, its_start), min(end, its_end)
        ready = max(at_s, start + MEETING_S)
        if ready < end:
            return ready
        at_s = max(start, end)
    return inf


_Edge = tuple[int, tuple[UpTimes, ...]]
_NEVER: Final = Never()


class World:
    """One drawing of everything that happens to a plan's networks and couriers."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.zones = [zone.name for zone in plan.zones]
        self._local = [_times(zone.blackout, seed, f"blackout {zone.name}") for zone in plan.zones]
        self._outward = [_times(zone.outage, seed, f"outage {zone.name}") for zone in plan.zones]
        self._edges: list[list[_Edge]] = [[] for _ in range(len(plan.zones) + len(plan.couriers))]
        for network in plan.networks:
            for gateway in (zone.name for zone in plan.zones if zone.gateway and zone.name in network):
                self._join_network(gateway, network)
        for number, courier in enumerate(plan.couriers):
            phase = stream_of(seed, f"courier {number}").random()
            self._join_courier(len(plan.zones) + number, courier, phase)

    def spread(self, zone: str, at_s: float) -> list[float]:
        """When each node knows what one reader of `zone` knows at `at_s`: zones in the plan's order, then couriers.

        A zone knows when its readers have it, also the first one; `inf` where news does not get to before the horizon.
        """
        origin = self.zones.index(zone)
        known = [inf] * len(self._edges)
        ahead: list[tuple[float, int]] = []
        heappush(ahead, (exchange_at(self._local[origin], at_s) + GOSSIP_S, origin))
        while ahead:
            reached, node = heappop(ahead)
            if reached >= known[node]:
                continue
            known[node] = reached
            for other, needed in self._edges[node]:
                if known[other] == inf:
                    there = exchange_at(needed, reached) + GOSSIP_S
                    if there < inf:
                        heappush(ahead, (there, other))
        return known

    def _join_network(self, gateway: str, network: tuple[str, ...]) -> None:
        hub = self.zones.index(gateway)
        for name in dict.fromkeys(network):
            zone = self.zones.index(name)
            if zone != hub:
                needed = self._local[zone] + self._outward[zone] + self._local[hub] + self._outward[hub]
                self._edges[zone].append((hub, needed))
                self._edges[hub].append((zone, needed))

    def _join_courier(self, node: int, courier: Courier, phase: float) -> None:
        step_s = courier.round_s / len(courier.stops)
        for number, name in enumerate(courier.stops):
            zone = self.zones.index(name)
            stays = Stays(step_s * number - phase * courier.round_s, courier.round_s, courier.stay_s)
            needed = (stays, *self._local[zone])
            self._edges[zone].append((node, needed))
            self._edges[node].append((zone, needed))


def stream_of(seed: int, name: str) -> Random:
    """Randomness for one thing of one seed; a text seeds alike in every process and every Python since 3.2."""
    return Random(f"{seed} {name}")


def _times(outage: Outage | None, seed: int, name: str) -> tuple[UpTimes, ...]:
    if outage is None:
        return ()
    if outage.down_s >= outage.every_s:
        return (_NEVER,)
    return (BetweenOutages(outage, stream_of(seed, name)),)
