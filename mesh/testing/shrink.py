"""From a scenario that breaks a rule with some seed to a smaller one that still breaks it with that seed.

A seed that fails in a world of sixteen devices, thirty guests and twenty kinds of fault says little. Each *reduction*
makes a scenario smaller in one way: without these faults, without that zone, with half of the guests, shorter. What
still fails is kept and tried again; what does not fail any more is put back. When no reduction is left that could be
kept, or the bound of runs is reached, that is the smallest one found. It is not the smallest one there is: each
change also changes what chance does afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

from mesh.testing.scenario import BadScenario, Courier, Scenario, Zone, check

TRIES: Final = 150
"""How many runs a search may take, if nobody says otherwise."""
DURATION_S_LEAST: Final = 10.0

Change: TypeAlias = Callable[[Scenario], Scenario]


@dataclass(frozen=True, slots=True)
class Reduction:
    """One way to make a scenario smaller; where there is nothing to make smaller, the same scenario comes back."""

    what: str
    change: Change


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest scenario found."""

    scenario: Scenario
    tried: int
    """Runs that the search took."""
    kept: tuple[str, ...]
    """What was made smaller, in order."""
    given_up: bool
    """The bound of runs ended the search; it may be possible to go on."""


def shrink(
    scenario: Scenario,
    still_breaks: Callable[[Scenario], bool],
    *,
    tries: int = TRIES,
    tell: Callable[[int, str], None] = lambda tried, what: None,
) -> Shrunk:
    """The smallest scenario found of which `still_breaks` holds. `tell` hears, before each run, what is tried."""
    kept: list[str] = []
    failed: list[Scenario] = []
    tried, goes_on = 0, True
    while goes_on:
        goes_on = False
        for reduction in reductions(scenario):
            while (smaller := _applied(reduction, scenario)) is not None and smaller not in failed:
                if tried >= tries:
                    return Shrunk(scenario, tried, tuple(kept), given_up=True)
                tried += 1
                tell(tried, reduction.what)
                if not still_breaks(smaller):
                    failed.append(smaller)
                    break
                scenario, goes_on = smaller, True
                kept.append(reduction.what)
    return Shrunk(scenario, tried, tuple(kept), given_up=False)


def _applied(reduction: Reduction, scenario: Scenario) -> Scenario | None:
    """The smaller scenario; None where the reduction changes nothing, or what is left makes no sense."""
    smaller = reduction.change(scenario)
    if smaller == scenario:
        return None
    try:
        check(smaller)
    except BadScenario:
        return None
    return smaller


# -- Reductions --------------------------------------------------------------------------------------------------------


def reductions(scenario: Scenario) -> Iterator[Reduction]:
    """What can be tried on this scenario: what takes most away comes first."""
    faults, adversaries = list(scenario.faults), list(scenario.adversaries)
    if adversaries:
        yield Reduction("no adversaries", lambda now: replace(now, adversaries={}))
    for kinds in _parts(faults):
        yield Reduction(f"no {', '.join(kinds)}", partial(_without_faults, kinds=kinds))
    for name in adversaries:
        yield Reduction(f"no {name}", partial(_without_adversary, name=name))
    for courier in scenario.couriers:
        yield Reduction(f"no courier {' - '.join(courier.route)}", partial(_without_courier, courier=courier))
    for zone in scenario.zones:
        yield Reduction(f"no zone {zone.name}", partial(_without_zone, name=zone.name))
    yield Reduction("half of the time", _half_the_time)
    yield Reduction("half of the people", _half_the_people)
    yield from _calmer()
    for zone in scenario.zones:
        for kind in ("readers", "tills", "gateways"):
            yield Reduction(f"one of the {kind} less in {zone.name}", partial(_one_less, name=zone.name, kind=kind))
    for name in faults:
        yield Reduction(f"{name} half as often", partial(_half_as_often, name=name))
    yield Reduction("a tenth less time", partial(_half_the_time, part=0.9))


def _calmer() -> Iterator[Reduction]:
    """What makes people and the network well behaved."""
    yield Reduction("no slow links", lambda now: replace(now, slow_links=0))
    usual = Scenario("usual", ())
    yield Reduction("a good network", lambda now: replace(now, network=usual.network, backbone=usual.backbone))
    yield Reduction("usual disks", lambda now: replace(now, disk=usual.disk))
    yield Reduction("cheap signatures", lambda now: replace(now, real_signatures=0.0))
    for name in ("moves", "walks_away", "cancels"):
        yield Reduction(f"nobody {name.replace('_', ' ')}", partial(_nobody, name=name))
    yield Reduction("people hold again", lambda now: replace(now, people=replace(now.people, holds_again=1.0)))


def _parts(names: list[str]) -> Iterator[tuple[str, ...]]:
    """All of them, then halves, quarters and so on down to each by itself."""
    size = len(names)
    while size:
        yield from (tuple(names[at : at + size]) for at in range(0, len(names), size))
        size //= 2


def _without_faults(scenario: Scenario, kinds: Iterable[str]) -> Scenario:
    return replace(scenario, faults=_without(scenario.faults, set(kinds)))


def _without_adversary(scenario: Scenario, name: str) -> Scenario:
    return replace(scenario, adversaries=_without(scenario.adversaries, {name}))


def _without(counts: Mapping[str, int], names: set[str]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name not in names}


def _half_as_often(scenario: Scenario, name: str) -> Scenario:
    count = scenario.faults.get(name, 0)
    if count < 2:
        return scenario
    return replace(scenario, faults={**scenario.faults, name: count // 2})


def _without_courier(scenario: Scenario, courier: Courier) -> Scenario:
    return replace(scenario, couriers=tuple(one for one in scenario.couriers if one != courier))


def _without_zone(scenario: Scenario, name: str) -> Scenario:
    """The zone is gone, and nobody walks there any more; who would stand in one place is no courier."""
    walks = [replace(one, route=tuple(stop for stop in one.route if stop != name)) for one in scenario.couriers]
    return replace(
        scenario,
        zones=tuple(zone for zone in scenario.zones if zone.name != name),
        couriers=tuple(walk for walk in walks if len(set(walk.route)) > 1),
    )


def _half_the_time(scenario: Scenario, part: float = 0.5) -> Scenario:
    """The safety phase, not the bound of the liveness phase: what takes too long would take too long for less."""
    lasts = round(scenario.duration_s * part, 1)
    return scenario if lasts < DURATION_S_LEAST else replace(scenario, duration_s=lasts)


def _half_the_people(scenario: Scenario) -> Scenario:
    count = scenario.people.count
    return scenario if count < 2 else replace(scenario, people=replace(scenario.people, count=count // 2))


def _nobody(scenario: Scenario, name: str) -> Scenario:
    nobody: dict[str, Any] = {name: 0.0}
    return replace(scenario, people=replace(scenario.people, **nobody))


def _one_less(scenario: Scenario, name: str, kind: str) -> Scenario:
    def smaller(zone: Zone) -> Zone:
        fewer: dict[str, Any] = {kind: max(0, getattr(zone, kind) - 1)}
        return replace(zone, **fewer) if zone.name == name else zone

    return replace(scenario, zones=tuple(map(smaller, scenario.zones)))
