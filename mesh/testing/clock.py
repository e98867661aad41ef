"""Virtual time: what happens next, in order, and nothing in between.

::

    clock = Clock()
    clock.after(0.25, tick)
    clock.run_until(60.0)

Time is whole microseconds, so that it is the same number on every platform. What is due at one moment happens in the
order in which it was asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, TypeAlias

US_PER_S: Final = 1_000_000

Action: TypeAlias = Callable[[], None]


class Clock:
    """A discrete-event loop on a heap."""

    def __init__(self) -> None:
        self.now_us = 0
        self.happened = 0
        """How many actions there were."""
        self._asked = 0
        self._due: list[tuple[int, int, Action]] = []

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.now_us / US_PER_S

    def at_us(self, moment_us: int, action: Action) -> None:
        """Let something happen at a moment; what should have happened already happens now."""
        self._asked += 1
        heapq.heappush(self._due, (max(moment_us, self.now_us), self._asked, action))

    def at(self, moment_s: float, action: Action) -> None:
        self.at_us(round(moment_s * US_PER_S), action)

    def after(self, pause_s: float, action: Action) -> None:
        self.at_us(self.now_us + round(pause_s * US_PER_S), action)

    def run_until(self, moment_s: float) -> None:
        """Let everything happen that is due up to a moment, which is the time then."""
        end_us = round(moment_s * US_PER_S)
        due = self._due
        while due and due[0][0] <= end_us:
            self.now_us, _, action = heapq.heappop(due)
            self.happened += 1
            action()
        self.now_us = max(self.now_us, end_us)
