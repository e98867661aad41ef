"""When two nodes hold the same: who tells whose digest when, and when it is time to compare again.

A link is *catching up* from its hello, or from the moment when its ends told different digests, until both told the
same one. Meanwhile each end tells its digest whenever it changed and nothing is wanted any more, so that both know
within a round trip that they are in step. Once they are, news travels by announcement and digests only with the
keepalives.

It ends: a digest is told once, and an equal one is answered only by a node whose own last word was another. While
entries keep coming two nodes never hold the same at one moment: pauses grow, so that anti-entropy costs next to nothing
where news travels well, and are short again once both were in step.

One end of a link *leads*: it begins comparisons, and both learn from each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

COMPARE_PAUSE_S: Final = 1.0
COMPARE_PAUSE_S_MAX: Final = 8.0
"""Differing digests start at most one comparison a link in this time, which doubles from one comparison to the next."""
TELL_PAUSE_S: Final = 0.05
TELL_PAUSE_S_MAX: Final = 1.0
"""Each end tells a new digest at most this often while it is not the peer's; the pause doubles each time."""


class Step(Enum):
    """What to do on a link now."""

    TELL = auto()
    """Send our digest."""
    COMPARE = auto()
    """Send our bucket digests: the peer answers with what it holds in those that differ."""
    IN_STEP = auto()
    """Both ends hold the same; nothing is to be sent."""


@dataclass(slots=True)
class _Link:
    leads: bool
    told: bytes
    told_at: float = -math.inf
    tell_pause_s: float = TELL_PAUSE_S
    theirs: bytes = b""
    compared_at: float = -math.inf
    compare_pause_s: float = 0.0
    fresh: bool = True
    """Something was heard since the link was looked at."""
    due: bool = False
    """The peer told a digest that differed, and no comparison was begun since."""


class CatchingUp:
    """The digests told and heard on each link of one node. `ours` is always the node's digest now."""

    def __init__(self) -> None:
        self._links: dict[int, _Link] = {}
        self._open: set[int] = set()

    def link_up(self, link: int, told: bytes, *, leads: bool) -> None:
        """A hello with this digest goes out on a new link; whether this end begins its comparisons."""
        self._links[link] = _Link(leads, told)

    def link_down(self, link: int) -> None:
        self._links.pop(link, None)
        self._open.discard(link)

    def met(self, link: int) -> None:
        """The peer's hello was accepted."""
        self._open.add(link)

    def told(self, link: int, digest: bytes, now: float) -> None:
        """Our digest goes out on the link."""
        state = self._links[link]
        if now - state.told_at < 2 * state.tell_pause_s:
            state.tell_pause_s = min(TELL_PAUSE_S_MAX, 2 * state.tell_pause_s)
        else:
            state.tell_pause_s = TELL_PAUSE_S
        state.told, state.told_at = digest, now

    def heard(self, link: int, digest: bytes, ours: bytes, now: float) -> bool:
        """The peer's digest arrived; True if a comparison is to be begun at once."""
        state = self._links[link]
        state.theirs, state.due, state.fresh = digest, digest != ours, True
        if state.due:
            self._open.add(link)
        return self._begin_comparison(state, now)

    def is_due(self, now: float) -> bool:
        """Whether :meth:`steps` may have anything to say: asked at every event, where a digest costs more."""
        return any(
            state.fresh or now - state.told_at >= state.tell_pause_s
            for state in (self._links[number] for number in self._open)
        )

    def steps(self, ours: bytes, now: float) -> Iterator[tuple[int, Step]]:
        """What to do now; to be asked when nothing is wanted any more, and at every tick."""
        for number in sorted(self._open):
            state = self._links[number]
            state.fresh = False
            same = state.theirs == ours
            if state.told != ours and (same or now - state.told_at >= state.tell_pause_s):
                yield number, Step.TELL
            if same:
                self._open.discard(number)
                state.compare_pause_s = 0.0
                yield number, Step.IN_STEP
            elif self._begin_comparison(state, now):
                yield number, Step.COMPARE

    @staticmethod
    def _begin_comparison(state: _Link, now: float) -> bool:
        if not state.leads or not state.due or now - state.compared_at < state.compare_pause_s:
            return False
        state.compare_pause_s = min(COMPARE_PAUSE_S_MAX, max(COMPARE_PAUSE_S, 2 * state.compare_pause_s))
        state.due, state.compared_at = False, now
        return True
