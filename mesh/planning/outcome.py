"""One answer to a plan: everything that is shown of it, as a table, a plot, words, or JSON. PURE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isinf
from typing import Any, Final

from mesh.planning.changes import Comparison, Effect, compare, count_of_venues
from mesh.planning.clone import Sample
from mesh.planning.figures import (
    Classes,
    CloneFigures,
    LastZone,
    Quantiles,
    clone_classes,
    draw,
    last_zones,
)
from mesh.planning.plan import Plan
from mesh.planning.settle import MoneyFigures, money_figures

FORMAT: Final = "tapmesh-plan/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found out about a plan."""

    plan: Plan
    seed: int
    samples: tuple[Sample, ...]
    classes: Classes
    money: MoneyFigures
    last: tuple[LastZone, ...]
    comparison: Comparison


def find_out(plan: Plan, seed: int, samples: int, progress: Callable[[float], None] = lambda part: None) -> Outcome:
    """Draw the clones and compare what would help; `progress` hears from 0 to 1 how much of the work is done."""
    drawn: list[Sample] = []
    for sample in draw(plan, seed, samples):
        drawn.append(sample)
        if len(drawn) % 500 == 0:
            progress(len(drawn) / samples / 2)
    venues = count_of_venues(plan, drawn)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(0.5 + done / venues / 2)

    return Outcome(
        plan=plan,
        seed=seed,
        samples=tuple(drawn),
        classes=clone_classes(drawn),
        money=money_figures(plan, drawn),
        last=last_zones(drawn),
        comparison=compare(plan, seed, drawn, step),
    )


def warnings(plan: Plan) -> list[str]:
    """What an operator may not have meant, in sentences."""
    found = []
    if not any(zone.gateway for zone in plan.zones):
        found.append("No zone has a gateway, so no money settles in this plan: name one with --gateway ZONE.")
    found += [
        f"The network {','.join(network)} has no gateway. Readers of different zones hear each other through a gateway "
        f"or a courier only, so it joins nothing: put a gateway into one of its zones."
        for network in plan.networks
        if not plan.has_gateway(network)
    ]
    reached = {name for network in plan.networks for name in network}
    reached |= {stop for courier in plan.couriers for stop in courier.stops}
    lost = [zone.name for zone in plan.zones if zone.name not in reached]
    if lost and len(plan.zones) > 1:
        found.append(f"Nothing leads to {', '.join(lost)}: on no network, and no courier walks there.")
    return found


def as_json(outcome: Outcome) -> dict[str, Any]:
    """For programs. A time that is never reached is `{"seconds": null, "never": true}`."""
    money, comparison = outcome.money, outcome.comparison
    best, best_money, main = comparison.best_change, comparison.best_for_money, comparison.main_cause
    return {
        "format": FORMAT,
        "seed": outcome.seed,
        "samples": len(outcome.samples),
        "currency": outcome.plan.currency.code,
        "clones": {
            "overall": _clones(outcome.classes.overall),
            "same_zone": _clones(outcome.classes.same_zone),
            "across_zones": _clones(outcome.classes.across_zones),
        },
        "money": {
            "to_gateway": _times(money.to_gateway_s),
            "never_at_gateway_part": round(money.never_at_gateway, 6),
            "second_copy": _times(money.second_copy_s),
            "hour_minor": money.hour_minor,
            "not_at_gateway_part": round(money.not_at_gateway, 6),
            "not_at_gateway_minor": money.not_at_gateway_minor,
            "on_one_device_part": round(money.on_one_device, 6),
            "on_one_device_minor": money.on_one_device_minor,
        },
        "last_to_know": [{"zone": last.zone, "part": round(last.part, 6)} for last in outcome.last],
        "compared": comparison.clones,
        "as_planned": _effect(comparison.as_planned),
        "causes": [_effect(effect) for effect in comparison.causes],
        "changes": [_effect(effect) for effect in comparison.changes],
        "main_cause": None if main is None else main.text,
        "best_change": None if best is None else best.text,
        "best_change_for_money": None if best_money is None else best_money.text,
        "warnings": warnings(outcome.plan),
    }


def _clones(figures: CloneFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "clones": figures.clones,
        "refused_at_once_part": round(figures.refused_at_once, 6),
        "never_everywhere_part": round(figures.never_everywhere, 6),
        "first_bar": _times(figures.first_bar_s),
        "both_bars": _times(figures.both_bars_s),
        "every_reader": _times(figures.every_reader_s),
        "taps": _numbers(figures.taps),
        "spent_minor": _numbers(figures.spent_minor),
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "what": effect.text,
        "every_reader": _times(effect.every_reader_s),
        "to_gateway": _times(effect.to_gateway_s),
        "spent_minor": _numbers(effect.spent_minor),
        "every_reader_mean_s": round(effect.every_reader_mean_s, 3),
        "to_gateway_mean_s": round(effect.to_gateway_mean_s, 3),
    }


def _times(quantiles: Quantiles) -> dict[str, dict[str, float | bool | None]]:
    return {
        name: {"seconds": None if isinf(value) else round(value, 3), "never": value == inf}
        for name, value in _named(quantiles)
    }


def _numbers(quantiles: Quantiles) -> dict[str, int]:
    return {name: round(value) for name, value in _named(quantiles)}


def _named(quantiles: Quantiles) -> tuple[tuple[str, float], ...]:
    return ("p50", quantiles.p50), ("p99", quantiles.p99), ("worst", quantiles.worst)
