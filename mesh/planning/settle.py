"""How late money settles, and how much of it is at risk at any moment. PURE.

The first tap of each clone's story is a tap like any other, at a reader drawn from all: what became of it says what
becomes of money. By Little's law, bars that sell at a steady rate have, at any moment, rate x E[min(delay, hour)] of
the last hour's takings still under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, inf
from typing import Final

from mesh.planning.clone import Sample
from mesh.planning.figures import Quantiles
from mesh.planning.plan import Plan

WINDOW_S: Final = 3600.0
"""The takings that parts are of: an hour at the peak."""


@dataclass(frozen=True, slots=True)
class MoneyFigures:
    """Delays in seconds from a tap; parts, 0 to 1, and amounts are of the last hour's takings at the peak."""

    to_gateway_s: Quantiles
    never_at_gateway: float
    """Part of the taps."""
    second_copy_s: Quantiles
    """Until a second device has a tap."""
    hour_minor: int
    """What the venue takes in an hour at the peak."""
    not_at_gateway: float
    on_one_device: float

    @property
    def not_at_gateway_minor(self) -> int:
        return round(self.not_at_gateway * self.hour_minor)

    @property
    def on_one_device_minor(self) -> int:
        return round(self.on_one_device * self.hour_minor)


def money_figures(plan: Plan, samples: Sequence[Sample]) -> MoneyFigures:
    """Delays and money under way; both clones' tap and money's delay come from the same drawing of the venue."""
    sales_per_hour = plan.readers * plan.money.sales_per_reader_minute * 60
    return MoneyFigures(
        to_gateway_s=Quantiles.of(sample.settled_s for sample in samples),
        never_at_gateway=sum(sample.settled_s == inf for sample in samples) / len(samples),
        second_copy_s=Quantiles.of(sample.alone_s for sample in samples),
        hour_minor=round(sales_per_hour * plan.money.sale_minor),
        not_at_gateway=_under_way([sample.settled_s for sample in samples]),
        on_one_device=_under_way([sample.alone_s for sample in samples]),
    )


def _under_way(delays_s: Iterable[float]) -> float:
    parts = [min(delay_s, WINDOW_S) / WINDOW_S for delay_s in delays_s]
    # `sum` rounds otherwise in Python 3.12 than in 3.11; `fsum` rounds once in both.
    return fsum(parts) / len(parts)
