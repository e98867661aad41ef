"""What somebody watching the demo sees: live panels on a terminal, lines elsewhere, nothing for programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Final, Protocol

import click
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

PAUSE_S: Final = 1.2
"""Between acts on a terminal, so that a person can read; nowhere else."""
_NARRATION_LINES: Final = 14
_PANEL_LINES: Final = 5
_PANEL_COLUMNS: Final = 36
_PANEL_TEXTS: Final = 4


class Stage(Protocol):
    """Where the story is told."""

    pause_s: float

    def act(self, title: str) -> None: ...

    def narrate(self, text: str) -> None: ...

    def screen(self, device: str, text: str, colour: str) -> None: ...

    def showing(self) -> Iterator[None]: ...


class Silent:
    """For programs: only the result is printed."""

    pause_s = 0.0

    def act(self, title: str) -> None:
        """Programs see the result only."""

    def narrate(self, text: str) -> None:
        """Programs see the result only."""

    def screen(self, device: str, text: str, colour: str) -> None:
        """Programs see the result only."""

    def showing(self) -> Iterator[None]:
        yield


class Lines:
    """For logs and pipes: everything that happens, a line each."""

    pause_s = 0.0

    def act(self, title: str) -> None:
        click.echo(f"\n== {title}")

    def narrate(self, text: str) -> None:
        click.echo(f"   {text}")

    def screen(self, device: str, text: str, colour: str) -> None:
        click.echo(f"   [{device}] {text}")

    def showing(self) -> Iterator[None]:
        yield


@dataclass(slots=True)
class Panels:
    """For a terminal: a panel a device, and the story underneath."""

    devices: Sequence[str]
    pause_s: float = PAUSE_S
    _screens: dict[str, deque[tuple[str, str]]] = field(default_factory=dict)
    _story: deque[Text] = field(default_factory=lambda: deque(maxlen=_NARRATION_LINES))
    _live: Live | None = None

    def act(self, title: str) -> None:
        self._story.append(Text(title, style="bold"))
        self._refresh()

    def narrate(self, text: str) -> None:
        self._story.append(Text(f"  {text}"))
        self._refresh()

    def screen(self, device: str, text: str, colour: str) -> None:
        self._screens.setdefault(device, deque(maxlen=_PANEL_TEXTS)).append((text, colour))
        self._refresh()

    def showing(self) -> Iterator[None]:
        with Live(self._picture(), console=Console(), refresh_per_second=10) as live:
            self._live = live
            yield
        self._live = None

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> Group:
        panels = [self._panel(device) for device in self.devices]
        return Group(Columns(panels, width=_PANEL_COLUMNS), Panel(Group(*self._story), title="what happens"))

    def _panel(self, device: str) -> Panel:
        shown = self._screens.get(device, deque())
        lines = [
            Text(line, style=colour)
            for text, colour in shown
            for line in wrap(text, _PANEL_COLUMNS - 4, subsequent_indent="  ")
        ][-_PANEL_LINES:]
        border = shown[-1][1] if shown else "dim"
        return Panel(Group(*lines), title=device, border_style=border, height=_PANEL_LINES + 2)


@contextmanager
def shown(stage: Stage) -> Iterator[None]:
    """Show the stage for as long as the block lasts."""
    yield from stage.showing()
