"""The curves of an outcome: part of clones refused, and of money settled, by time. In the terminal, or as an SVG.

The terminal's plot is drawn by plotille (docs/adr/0047); the file by pygal, from the extra `tapmesh[plot]`.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, inf, log10
from pathlib import Path
from types import ModuleType
from typing import Final
from xml.etree.ElementTree import Element

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
    """A name, a letter that marks it in the terminal, a colour, and the delays that it accumulates."""

    name: str
    letter: str
    colour: str
    delays_s: Sequence[float]

    def percent(self, seconds: float) -> float:
        return 100.0 * bisect_right(self.delays_s, seconds) / len(self.delays_s)


def curves(outcome: Outcome) -> tuple[Curve, ...]:
    """Three curves, each from 0 to 100 % or to where the rest is never."""
    samples = outcome.samples
    return (
        Curve("clone refused at both bars", "b", "cyan", sorted(sample.both_bars_s for sample in samples)),
        Curve("clone refused at every reader", "e", "magenta", sorted(sample.every_reader_s for sample in samples)),
        Curve("money at a gateway", "g", "yellow", sorted(sample.settled_s for sample in samples)),
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
    _pygal()


def save_plot(outcome: Outcome, path: Path) -> None:
    """Write the curves as an SVG that loads nothing from anywhere; an earlier one is replaced."""
    pygal = _pygal()
    drawn = curves(outcome)
    low, high = _range(drawn)
    style = pygal.style.Style(
        background="white",
        plot_background="white",
        colors=("#0277bd", "#ad1457", "#ef6c00"),
        font_family="sans-serif",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=14,
        title_font_size=17,
    )
    chart = pygal.XY(
        style=style,
        js=(),
        show_dots=False,
        show_x_guides=True,
        stroke_style={"width": 3},
        width=960,
        height=540,
        range=(0, 100),
        xrange=(low, high),
        legend_at_bottom=True,
        title="When a clone is refused, and when money has reached a gateway",
        x_title="time since the copy was first shown, or since the sale",
        y_title="part of them",
        x_labels=[{"value": log10(at), "label": format_length(at)} for at in _TICKS_S if low <= log10(at) <= high],
    )
    chart.value_formatter = lambda value: f"{value:.0f} %"
    chart.uuid = "tapmesh-plan"
    for curve in drawn:
        chart.add(curve.name, _stairs(curve, low, high))
    chart.add_xml_filter(_plain)
    try:
        path.write_bytes(chart.render())
    except OSError as error:
        raise CannotPlot(f"{path} cannot be written: {error.strerror}") from error


def _plain(svg: Element) -> Element:
    """Without pygal's script and comments, one of which has today's date: the same plan makes the same file."""
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag == "script" or not isinstance(child.tag, str):
                parent.remove(child)
    return svg


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


def _pygal() -> ModuleType:
    finders = list(sys.meta_path)
    try:
        import pygal  # noqa: PLC0415 - an extra that few need
        import pygal.style  # noqa: PLC0415
    except ImportError as error:
        raise CannotPlot(
            "a plot file needs one more library, which is not installed: pip install 'tapmesh[plot]'. The table and "
            "the plot in the terminal come without it: leave --plot out. Nothing was done"
        ) from error
    # For its maps pygal leaves a finder behind that Python 3.11 warns of at every import that fails afterwards.
    sys.meta_path[:] = finders
    found: ModuleType = pygal
    return found
