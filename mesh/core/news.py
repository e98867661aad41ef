"""When neighbours hear of new heads that they are not sent: at once, or as a reminder a little later. Pure.

Whoever may have nobody else to hear it from is told after `ANNOUNCE_PAUSE_S`. A neighbour that has some of a log, and
is not fed it here, is fed it by somebody else: it is only reminded, after `REMIND_PAUSE_S`, of what it has not told us
of by then. So what a lost link or a silent neighbour kept from it is found within a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from mesh.core.frontier import Frontier, LogState, Position
from mesh.core.messages import Announce
from mesh.core.neighbour import Neighbour
from mesh.limits import ANNOUNCE_LOGS_PER_FRAME_MAX

ANNOUNCE_PAUSE_S: Final = 0.01
"""News is collected this long, so that many entries of one log cost one announcement."""
REMIND_PAUSE_S: Final = 0.4
"""A head waits for one to two pauses: longer than a stalled packet takes, so that few entries come twice. Of two ends
that might remind each other the one with the larger serial number pauses twice as long, so that mostly one does."""
ASIDE_LANE: Final = 3
"""Behind control, money and telemetry."""


class News:
    """The new heads of one node; `own` are its own logs, and `serial` is its device's number."""

    def __init__(self, frontier: Frontier, own: set[bytes], serial: int) -> None:
        self._frontier = frontier
        self._own = own
        self._serial = serial
        self._since: float | None = None
        self._remind_at = math.inf
        """When the first neighbour is to be reminded of something."""

    def deadline(self) -> float | None:
        """When :meth:`due` has something to tell."""
        moment = min(math.inf if self._since is None else self._since + ANNOUNCE_PAUSE_S, self._remind_at)
        return None if moment == math.inf else moment

    def collect(self, heads: Mapping[bytes, Position], neighbours: Mapping[int, Neighbour], now: float) -> None:
        """Note for each neighbour what of these new heads it should hear of, and when."""
        for neighbour in neighbours.values():
            if neighbour.live:
                for log_id, head in heads.items():
                    if self._is_news(neighbour, log_id, head):
                        self._note(neighbour, log_id, head, now)

    def due(self, neighbours: Mapping[int, Neighbour], now: float) -> Iterator[tuple[int, Announce]]:
        """What is to be announced now, by link."""
        if self._since is not None and now >= self._since + ANNOUNCE_PAUSE_S:
            self._since = None
            for number, neighbour in neighbours.items():
                news, neighbour.news = neighbour.news, {}
                yield from self._announce(number, neighbour, news)
        if now >= self._remind_at:
            for number, neighbour in neighbours.items():
                if now >= neighbour.remind_at:
                    yield from self._announce(number, neighbour, self._take_reminders(neighbour, now))
            self._remind_at = min((neighbour.remind_at for neighbour in neighbours.values()), default=math.inf)

    def _take_reminders(self, neighbour: Neighbour, now: float) -> dict[bytes, Position]:
        """Those that have waited for a whole pause; what has come since waits for the next."""
        due, neighbour.last_reminders, neighbour.reminders = neighbour.last_reminders, neighbour.reminders, {}
        is_waiting = bool(neighbour.last_reminders)
        neighbour.remind_at = now + self._remind_pause_s(neighbour) if is_waiting else math.inf
        return due

    def lane_of(self, log: LogState) -> int:
        """The order in which logs are served and told of, the lowest first."""
        return ASIDE_LANE if log.log_id in self._frontier.aside else int(log.genesis.lane)

    def _note(self, neighbour: Neighbour, log_id: bytes, head: Position, now: float) -> None:
        is_fed_elsewhere = log_id in neighbour.has and log_id not in neighbour.fed and log_id not in self._own
        if is_fed_elsewhere and len(self._frontier.logs[log_id].branches) == 1:
            if neighbour.remind_at == math.inf:
                neighbour.remind_at = now + self._remind_pause_s(neighbour)
                self._remind_at = min(self._remind_at, neighbour.remind_at)
            neighbour.reminders[log_id] = head
        else:
            neighbour.news[log_id] = head
            self._since = now if self._since is None else self._since

    def _remind_pause_s(self, neighbour: Neighbour) -> float:
        return REMIND_PAUSE_S if self._serial < neighbour.peer.serial else 2 * REMIND_PAUSE_S

    def _is_news(self, neighbour: Neighbour, log_id: bytes, head: Position) -> bool:
        """Whether a peer should hear of a head: not of one that it has, nor of one it is just bringing us past."""
        known = neighbour.has.get(log_id)
        if known is None or known == head:
            return known is None
        return head.seq >= known.seq or len(self._frontier.logs[log_id].branches) > 1

    def _announce(
        self, number: int, neighbour: Neighbour, news: Mapping[bytes, Position]
    ) -> Iterator[tuple[int, Announce]]:
        heads = [(log_id, head) for log_id, head in news.items() if self._is_news(neighbour, log_id, head)]
        heads.sort(key=lambda each: self.lane_of(self._frontier.logs[each[0]]))
        for at in range(0, len(heads), ANNOUNCE_LOGS_PER_FRAME_MAX):
            yield number, Announce(tuple(heads[at : at + ANNOUNCE_LOGS_PER_FRAME_MAX]))
