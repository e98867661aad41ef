"""The curves of an outcome: part of clones refused, and of money settled, by time. In the terminal, or as an SVG.

The terminal's plot is drawn by plotille, the file's by leather (docs/adr/0047).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, inf, log10
from pathlib import Path
from typing import Final

from mesh.errors import LocalError
from mesh.planning.outcome import Outcome
from mesh.planning.plan import format_length

SUFFIX: Final = ".svg"
_SHORTEST_S: Final = 0.1
"""Where the axis begins: what takes less, or no time at all, stands there already."""
_AXIS_COLUMNS: Final = 13
"""What plotille puts to the left of its canvas."""
_TICK_COLUMNS: Final = 10
_COLUMNS_MAX: Final = 120
_ROWS: Final = 12
_STEPS: Final = 240
_TICKS_S: Final = (0.1, 1, 10, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 345600)


class CannotPlot(LocalError):
    """The plot cannot be made as it was asked for; nothing was written."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A name, a letter that marks it in the terminal, colours, and the delays that it accumulates."""

    name: str
    letter: str
    colour: str
    """In the terminal."""
    stroke: str
    """In a file."""
    delays_s: Sequence[float]

    def percent(self, seconds: float) -> float:
        return 100.0 * bisect_right(self.delays_s, seconds) / len(self.delays_s)


def curves(outcome: Outcome) -> tuple[Curve, ...]:
    """Three curves, each from 0 to 100 % or to where the rest is never."""
    samples = outcome.samples
    return (
        Curve("clone refused at both bars", "b", "cyan", "#0277bd", sorted(sample.both_bars_s for sample in samples)),
        Curve(
            "clone refused at every reader",
            "e",
            "magenta",
            "#ad1457",
            sorted(sample.every_reader_s for sample in samples),
        ),
        Curve("money at a gateway", "g", "yellow", "#ef6c00", sorted(sample.settled_s for sample in samples)),
    )


def terminal_plot(outcome: Outcome, columns: int, *, colours: bool) -> str:
    """The curves in at most `columns` columns of braille dots, each with its letter."""
    import plotille  # noqa: PLC0415 - only this plot needs it

    drawn = curves(outcome)
    low, high = _range(drawn)
    width = max(2, (min(columns, _COLUMNS_MAX) - _AXIS_COLUMNS - len("-> (time)")) // _TICK_COLUMNS) * _TICK_COLUMNS
    figure = plotille.Figure()
    figure.width, figure.height = width, _ROWS
    figure.with_colors, figure.color_mode = colours, "names"
    figure.origin = False
    figure.set_x_limits(low, high)
    figure.set_y_limits(0, 100)
    figure.x_ticks_fkt = lambda value, _next: _tick(10**value)
    figure.y_ticks_fkt = lambda value, _next: f"{value:.0f} %"
    figure.x_label, figure.y_label = "time", "part"
    for number, curve in enumerate(drawn):
        steps = [low + (high - low) * step / _STEPS for step in range(_STEPS + 1)]
        figure.plot(steps, [_visible(curve.percent(10**step)) for step in steps], lc=curve.colour, label=curve.name)
        apart = steps[4 + 8 * number :: 8 * len(drawn)]
        figure.scatter(
            apart, [_visible(curve.percent(10**step)) for step in apart], lc=curve.colour, marker=curve.letter
        )
    legend = [plotille.color(f"{curve.letter} {curve.name}", fg=curve.colour, no_color=not colours) for curve in drawn]
    return "\n".join([figure.show(), *(f"{' ' * _AXIS_COLUMNS}{line}" for line in legend)])


def require_plot_file(path: Path) -> None:
    """Say before any work what stands in the way of `--plot path`, or nothing."""
    if path.suffix != SUFFIX:
        raise CannotPlot(f"{path} should end in {SUFFIX}: that is what plots are written as. Nothing was done")
    if not path.resolve().parent.is_dir():
        raise CannotPlot(f"{path} cannot be written: there is no directory {path.resolve().parent}. Nothing was done")


def save_plot(outcome: Outcome, path: Path) -> None:
    """Write the curves as an SVG that loads nothing from anywhere; an earlier one is replaced."""
    try:
        path.write_text(_svg(outcome), encoding="utf-8")
    except OSError as error:
        raise CannotPlot(f"{path} cannot be written: {error.strerror}") from error


def _svg(outcome: Outcome) -> str:
    import leather  # noqa: PLC0415 - only this plot needs it

    drawn = curves(outcome)
    low, high = _range(drawn)
    # leather marks a zero among the ticks, so the axis begins at one: x is the power of ten of the shortest time.
    ticks = [log10(tick) - low for tick in _TICKS_S if log10(tick) <= high]
    chart = leather.Chart("When a clone is refused, and when money has reached a gateway")
    chart.add_x_scale(0.0, high - low)
    chart.add_y_scale(0, 100)
    chart.add_x_axis(
        ticks, lambda _value, at, _count: format_length(_TICKS_S[at]), "time from the first use, or the sale"
    )
    chart.add_y_axis(list(range(0, 101, 10)), lambda value, _at, _count: f"{value} %", "part of them")
    for curve in drawn:
        corners = [(max(0.0, min(at - low, high - low)), percent) for at, percent in _stairs(curve, low, high)]
        chart.add_line(corners, name=curve.name, stroke_color=curve.stroke, width=3)
    svg: str = chart.to_svg(width=960, height=540)
    # The library has one font, of one maker's machines.
    return svg.replace('font-family="Monaco"', 'font-family="sans-serif"')


def _stairs(curve: Curve, low: float, high: float) -> list[tuple[float, float]]:
    """The corners of the curve, and no more points than can be seen."""
    steps = [low + (high - low) * step / _STEPS for step in range(_STEPS + 1)]
    points = [(step, curve.percent(10**step)) for step in steps]
    corners = [corner for before, here in pairwise(points) if before[1] != here[1] for corner in (before, here)]
    return sorted({points[0], *corners, points[-1]})


def _visible(percent: float) -> float:
    """Just below the top of plotille's canvas, which leaves out what is on its edge."""
    return min(percent, 98.9)


def _range(drawn: Sequence[Curve]) -> tuple[float, float]:
    """Logarithms of the shortest and the longest time shown."""
    longest = max((delay for curve in drawn for delay in curve.delays_s if delay < inf), default=0.0)
    return log10(_SHORTEST_S), log10(next(tick for tick in _TICKS_S if tick > max(longest, 1.0)))


def _tick(seconds: float) -> str:
    """A time in two digits of its unit, short enough for an axis."""
    for unit_s, unit in ((3600, "h"), (60, "m"), (1, "s")):
        if seconds >= unit_s or unit_s == 1:
            value = seconds / unit_s
            digits = max(0, 1 - floor(log10(value)))
            return f"{value:.{min(digits, 1)}f}{unit}"
    raise AssertionError("the last unit takes everything")
