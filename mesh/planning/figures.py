"""What a run of samples says about clones: quantiles by pair of zones, and which zone is the last to know. PURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from mesh.planning.clone import Sample, clone_noticed, sample_seed
from mesh.planning.plan import Plan

SLOWEST: Final = 0.05
"""The part of the clones, noticed last, that is asked which zone was the last to know."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of the values of a sample, by nearest rank; `inf` is above every number."""

    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Quantiles:
        ranked = sorted(values)
        return cls(_at(ranked, 0.50), _at(ranked, 0.99), ranked[-1])


@dataclass(frozen=True, slots=True)
class CloneFigures:
    """Clones of one class of pairs of readers. Times in seconds from when the copy is first shown."""

    clones: int
    refused_at_once: float
    """Part of them, 0 to 1."""
    never_everywhere: float
    """Part of them that some reader never refuses."""
    first_bar_s: Quantiles
    both_bars_s: Quantiles
    every_reader_s: Quantiles
    taps: Quantiles
    spent_minor: Quantiles

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> CloneFigures:
        def quantiles(value: Callable[[Sample], float]) -> Quantiles:
            return Quantiles.of(map(value, samples))

        return cls(
            clones=len(samples),
            refused_at_once=sum(sample.refused_at_once for sample in samples) / len(samples),
            never_everywhere=sum(sample.every_reader_s == inf for sample in samples) / len(samples),
            first_bar_s=quantiles(lambda sample: sample.first_bar_s),
            both_bars_s=quantiles(lambda sample: sample.both_bars_s),
            every_reader_s=quantiles(lambda sample: sample.every_reader_s),
            taps=quantiles(lambda sample: sample.taps),
            spent_minor=quantiles(lambda sample: sample.spent_minor),
        )


@dataclass(frozen=True, slots=True)
class Classes:
    """All clones, and those whose two readers are in the same zone or in two; `None` where there are none of those."""

    overall: CloneFigures
    same_zone: CloneFigures | None
    across_zones: CloneFigures | None


@dataclass(frozen=True, slots=True)
class LastZone:
    """How often a zone is the last to know, among the slowest clones."""

    zone: str
    part: float


def draw(plan: Plan, seed: int, samples: int) -> Iterator[Sample]:
    """The samples of a run, one after the other, so that whoever asks can show how far it is."""
    return (clone_noticed(plan, sample_seed(seed, number)) for number in range(samples))


def clone_classes(samples: Sequence[Sample]) -> Classes:
    same = [sample for sample in samples if sample.first_zone == sample.second_zone]
    across = [sample for sample in samples if sample.first_zone != sample.second_zone]
    return Classes(
        overall=CloneFigures.of(samples),
        same_zone=CloneFigures.of(same) if same else None,
        across_zones=CloneFigures.of(across) if across else None,
    )


def last_zones(samples: Sequence[Sample]) -> tuple[LastZone, ...]:
    """Which zones are the last to know, among the slowest twentieth of the clones, most often first."""
    slowest = sorted(samples, key=lambda sample: -sample.every_reader_s)[: ceil(len(samples) * SLOWEST)]
    counted = Counter(sample.last_zone for sample in slowest)
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(LastZone(zone, count / len(slowest)) for zone, count in ranked)


def _at(ranked: Sequence[float], part: float) -> float:
    return ranked[max(0, ceil(part * len(ranked)) - 1)]
