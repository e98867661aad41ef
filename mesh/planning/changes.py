"""What holds news up, and what would help most: found by drawing the same clones again for a venue that differs. PURE.

Each sample keeps its seed, so that two venues differ by the change alone and few samples are enough to compare them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, fsum
from typing import Final

from mesh.limits import PLAN_COURIERS_MAX, PLAN_HORIZON_S
from mesh.planning.clone import Sample
from mesh.planning.figures import SLOWEST, Quantiles, draw
from mesh.planning.plan import (
    CYCLE_S_MIN,
    BadPlan,
    Courier,
    Outage,
    Plan,
    Zone,
    format_length,
)

SAMPLES_TO_COMPARE: Final = 4_000
SAMPLES_IN_ALL: Final = 52_000
SAMPLES_AT_LEAST: Final = 500
"""A venue with many zones has many things to try: each is tried on fewer clones, so that the answer comes in time."""
ZONES_TO_CHANGE: Final = 4
"""Causes and changes are sought for the zones that have most to do with the slowest clones."""
ROUNDS_TO_CHANGE: Final = 4
SHORTER: Final = 0.75
"""Of a round that is walked faster."""
WORTH_IT: Final = 0.99
"""A change helps if the mean delay falls below this part of what it was."""


@dataclass(frozen=True, slots=True)
class Change:
    """A venue that differs in one thing; the text goes on after 'with' (a change) or 'without' (a cause)."""

    text: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of the same clones and the same taps. Means count what never happens as the whole event."""

    text: str
    every_reader_s: Quantiles
    spent_minor: Quantiles
    to_gateway_s: Quantiles
    every_reader_mean_s: float
    to_gateway_mean_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The venue as it is planned, without each of its causes, and with each change; the best ones first."""

    as_planned: Effect
    causes: tuple[Effect, ...]
    changes: tuple[Effect, ...]
    clones: int
    """How many of the run's clones, the first ones, this is about."""

    def helps_clones(self, effect: Effect) -> bool:
        return effect.every_reader_mean_s < self.as_planned.every_reader_mean_s * WORTH_IT

    def helps_money(self, effect: Effect) -> bool:
        return effect.to_gateway_mean_s < self.as_planned.to_gateway_mean_s * WORTH_IT

    @property
    def main_cause(self) -> Effect | None:
        return next(filter(self.helps_clones, self.causes), None)

    @property
    def best_change(self) -> Effect | None:
        return next(filter(self.helps_clones, self.changes), None)

    @property
    def best_for_money(self) -> Effect | None:
        best = min(self.changes, key=lambda effect: (effect.to_gateway_s.p99, effect.to_gateway_mean_s), default=None)
        return best if best is not None and self.helps_money(best) else None


def compare(plan: Plan, seed: int, samples: Sequence[Sample], step: Callable[[], None] = lambda: None) -> Comparison:
    """Try everything worth trying against the first samples of a run; calls `step` after each venue."""
    zones = _slowest_zones(plan, samples)
    tried = causes(plan, zones), changes(plan, zones)
    first = samples[: clones_to_compare(sum(map(len, tried)))]

    def effect(change: Change) -> Effect:
        found = _effect(change.text, list(draw(change.plan, seed, len(first))))
        step()
        return found

    return Comparison(
        as_planned=_effect("as planned", first),
        causes=tuple(sorted(map(effect, tried[0]), key=_rank)),
        changes=tuple(sorted(map(effect, tried[1]), key=_rank)),
        clones=len(first),
    )


def clones_to_compare(venues: int) -> int:
    """On how many clones each of so many venues is tried."""
    return max(SAMPLES_AT_LEAST, min(SAMPLES_IN_ALL // max(1, venues), SAMPLES_TO_COMPARE))


def count_of_venues(plan: Plan, samples: Sequence[Sample]) -> int:
    """How many venues :func:`compare` draws."""
    zones = _slowest_zones(plan, samples)
    return len(causes(plan, zones)) + len(changes(plan, zones))


def causes(plan: Plan, zones: Sequence[Zone]) -> list[Change]:
    """The venue without one thing that holds news up, each."""
    hub = _hub(plan)
    found = []
    for zone in zones:
        if zone.outage is not None and plan.is_online(zone.name):
            found.append(Change(f"the outages of {zone.name}", _with_zone(plan, replace(zone, outage=None))))
        if zone.blackout is not None:
            found.append(Change(f"the blackouts of {zone.name}", _with_zone(plan, replace(zone, blackout=None))))
        if not plan.is_online(zone.name) and hub is not None:
            text = f"the lack of a network in {zone.name}"
            found.append(Change(text, replace(plan, networks=(*plan.networks, (zone.name, hub)))))
    return found


def changes(plan: Plan, zones: Sequence[Zone]) -> list[Change]:
    """The venue with one thing that an operator can do, each."""
    found = [*_more_courier(plan, zones), *_faster_rounds(plan)]
    hub = _hub(plan)
    for zone in zones:
        if not plan.is_online(zone.name) and hub is not None:
            text = f"a network from {zone.name} to the gateway in {hub}"
            found.append(Change(text, replace(plan, networks=(*plan.networks, (zone.name, hub)))))
        if zone.outage is not None and plan.is_online(zone.name):
            shorter = replace(zone, outage=_half(zone.outage))
            found.append(Change(f"outages of {zone.name} half as long", _with_zone(plan, shorter)))
        if zone.blackout is not None:
            shorter = replace(zone, blackout=_half(zone.blackout))
            found.append(Change(f"blackouts of {zone.name} half as long", _with_zone(plan, shorter)))
        if not zone.gateway:
            text = f"a gateway in {zone.name}, with a cellular uplink of its own"
            found.append(Change(text, _with_zone(plan, replace(zone, gateway=True))))
    return found


def _more_courier(plan: Plan, zones: Sequence[Zone]) -> Iterator[Change]:
    if len(plan.couriers) == PLAN_COURIERS_MAX:
        return
    for courier in list(dict.fromkeys(plan.couriers))[:ROUNDS_TO_CHANGE]:
        text = f"one more courier on the round {describe_round(courier)}"
        yield Change(text, replace(plan, couriers=(*plan.couriers, courier)))
    visited = {stop for courier in plan.couriers for stop in courier.stops}
    unvisited = [zone.name for zone in zones if not plan.is_online(zone.name) and zone.name not in visited]
    if not unvisited and not plan.couriers:
        unvisited = [zone.name for zone in zones if not zone.gateway]
    home = _hub(plan) or next((zone.name for zone in plan.zones if zone.name not in unvisited), None)
    stops = [*dict.fromkeys([*unvisited, *([home] if home is not None else [])])]
    if unvisited and len(stops) >= 2:
        stay_s = 60.0
        round_s = max(CYCLE_S_MIN, len(stops) * (plan.thief.travel_s + stay_s))
        courier = Courier(tuple(stops), round_s, stay_s)
        yield Change(
            f"a courier who walks {describe_round(courier)}", replace(plan, couriers=(*plan.couriers, courier))
        )


def _faster_rounds(plan: Plan) -> Iterator[Change]:
    for courier in list(dict.fromkeys(plan.couriers))[:ROUNDS_TO_CHANGE]:
        faster = replace(courier, round_s=round(courier.round_s * SHORTER))
        others = tuple(faster if each == courier else each for each in plan.couriers)
        try:
            changed = replace(plan, couriers=others)
        except BadPlan:
            # The stays alone take that long: nobody can walk it faster.
            continue
        took = format_length(courier.round_s)
        yield Change(f"the round {describe_round(faster)} instead of {took}", changed)


def describe_round(courier: Courier) -> str:
    """A round as the command line takes it.

    >>> describe_round(Courier(("main", "gate"), 1200.0, 60.0))
    'main,gate:20m'
    """
    return f"{','.join(courier.stops)}:{format_length(courier.round_s)}"


def _slowest_zones(plan: Plan, samples: Sequence[Sample]) -> list[Zone]:
    """Zones by how much they have to do with the slowest clones: where one was used, who was last to know."""
    slowest = sorted(samples, key=lambda sample: -sample.every_reader_s)[: ceil(len(samples) * SLOWEST)]
    counted: Counter[str] = Counter()
    for sample in slowest:
        counted.update({sample.first_zone, sample.second_zone, sample.last_zone})
    ranked = sorted(plan.zones, key=lambda zone: -counted[zone.name])
    hubs = [zone for zone in ranked if zone.gateway and (zone.outage is not None or zone.blackout is not None)]
    return list(dict.fromkeys([*ranked[:ZONES_TO_CHANGE], *hubs[:1]]))


def _hub(plan: Plan) -> str | None:
    return next((zone.name for zone in plan.zones if zone.gateway), None)


def _half(outage: Outage) -> Outage:
    return replace(outage, down_s=outage.down_s / 2)


def _with_zone(plan: Plan, changed: Zone) -> Plan:
    return replace(plan, zones=tuple(changed if zone.name == changed.name else zone for zone in plan.zones))


def _effect(text: str, samples: Sequence[Sample]) -> Effect:
    return Effect(
        text=text,
        every_reader_s=Quantiles.of(sample.every_reader_s for sample in samples),
        spent_minor=Quantiles.of(sample.spent_minor for sample in samples),
        to_gateway_s=Quantiles.of(sample.settled_s for sample in samples),
        every_reader_mean_s=_mean([sample.every_reader_s for sample in samples]),
        to_gateway_mean_s=_mean([sample.settled_s for sample in samples]),
    )


def _mean(values: Sequence[float]) -> float:
    # `sum` rounds otherwise in Python 3.12 than in 3.11; `fsum` rounds once in both.
    return fsum(min(value, PLAN_HORIZON_S) for value in values) / len(values)


def _rank(effect: Effect) -> tuple[float, float, str]:
    return effect.every_reader_s.p99, effect.every_reader_mean_s, effect.text
