"""Who is asked for what: each missing piece of a log is wanted from one neighbour at a time.

A neighbour wants an announced entry from its first announcer. If nothing of it arrives within `WANT_RETRY_S` the want
moves to the next one that announced it; an announcer that did not serve loses its place. At most
`WANTS_IN_FLIGHT_PER_LINK` wants are open on a link, the rest wait in order, so that no answer queue grows without end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mesh.core.frontier import Position
from mesh.limits import BRANCHES_PER_LOG_MAX, WANT_RETRY_S

WANTS_IN_FLIGHT_PER_LINK: Final = 256
ROOM_AGAIN_AT: Final = WANTS_IN_FLIGHT_PER_LINK * 3 // 4
"""A full link is asked for more once so few wants are left: not after each, which would look through all that wait."""

LinkId = int


@dataclass(slots=True)
class _Wanted:
    """One log with something missing: where it is being asked for, and who else has it."""

    offers: OrderedDict[tuple[LinkId, Position], bool] = field(default_factory=OrderedDict)
    """Who has what, in order; whether it is enough to hold the position on an island."""
    asked: tuple[LinkId, Position] | None = None
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a want for `target` of `log_id` on `link` now."""

    link: LinkId
    log_id: bytes
    target: Position


class Wants:
    """The open wants of one node. `holds` tells whether a position is held already (see `Frontier.holds`)."""

    def __init__(self, holds: Callable[[bytes, Position, bool], bool]) -> None:
        self._holds = holds
        self._logs: dict[bytes, _Wanted] = {}
        self._unasked: dict[bytes, None] = {}
        """Those that are asked for nowhere now."""
        self._open: dict[LinkId, int] = {}
        self._progress: dict[LinkId, float] = {}
        self._look_again = False

    def offer(self, link: LinkId, log_id: bytes, target: Position, *, piece: bool = False) -> None:
        """A neighbour says that it has this position; as a `piece`, without what is before it."""
        if not self._holds(log_id, target, piece):
            wanted = self._logs.setdefault(log_id, _Wanted())
            self._make_room(wanted, link)
            wanted.offers[link, target] = piece
            if wanted.asked is None:
                self._unasked[log_id] = None
                self._look_again = True

    @staticmethod
    def _make_room(wanted: _Wanted, link: LinkId) -> None:
        """A neighbour can have no more branches of a log than anybody keeps: what it said first is overtaken by now."""
        of_link = [offer for offer in wanted.offers if offer[0] == link and offer != wanted.asked]
        # Room for this one, beside the one that is being asked for.
        while len(of_link) > BRANCHES_PER_LOG_MAX - 2:
            del wanted.offers[of_link.pop(0)]

    def asked_of(self, link: LinkId, log_id: bytes) -> bool:
        """Whether a run of this log is expected on this link."""
        wanted = self._logs.get(log_id)
        return wanted is not None and wanted.asked is not None and wanted.asked[0] == link

    def progress(self, link: LinkId, log_id: bytes, now: float) -> None:
        """Something of the log arrived on the link; its want ends when the target is held.

        Answers come one after the other, so anything that arrives gives every other want on the link more time.
        """
        self._progress[link] = now
        wanted = self._logs.get(log_id)
        if wanted is not None:
            self._drop_held(log_id, wanted)

    def failed(self, link: LinkId, log_id: bytes, target: Position) -> None:
        """The neighbour cannot serve it after all."""
        wanted = self._logs.get(log_id)
        if wanted is not None:
            wanted.offers.pop((link, target), None)
            if wanted.asked == (link, target):
                self._release(log_id, wanted)
            self._drop_held(log_id, wanted)

    def link_down(self, link: LinkId) -> None:
        """Nothing can come from this neighbour any more."""
        for log_id, wanted in list(self._logs.items()):
            for offer in [offer for offer in wanted.offers if offer[0] == link]:
                del wanted.offers[offer]
            if wanted.asked is not None and wanted.asked[0] == link:
                self._release(log_id, wanted)
            self._drop_held(log_id, wanted)
        self._open.pop(link, None)
        self._progress.pop(link, None)

    def expire(self, now: float) -> None:
        """Take back the wants whose time is over; an announcer that did not serve loses its place."""
        for log_id, wanted in list(self._logs.items()):
            if wanted.asked is None or now < self._due(wanted):
                continue
            wanted.offers.pop(wanted.asked, None)
            self._release(log_id, wanted)
            self._drop_held(log_id, wanted)

    def _due(self, wanted: _Wanted) -> float:
        assert wanted.asked is not None
        return max(wanted.asked_at, self._progress.get(wanted.asked[0], 0.0)) + WANT_RETRY_S

    def next(self, now: float) -> Iterator[Ask]:
        """The wants to send now."""
        if not self._look_again:
            return
        self._look_again = False
        for log_id in list(self._unasked):
            wanted = self._logs[log_id]
            for link, target in wanted.offers:
                if self._open.get(link, 0) < WANTS_IN_FLIGHT_PER_LINK:
                    wanted.asked, wanted.asked_at = (link, target), now
                    del self._unasked[log_id]
                    self._open[link] = self._open.get(link, 0) + 1
                    yield Ask(link, log_id, target)
                    break

    def offers(self) -> Iterator[tuple[bytes, LinkId, Position]]:
        """What is known to exist and is not held, by who offered it; who is being asked comes first of a log."""
        for log_id, wanted in self._logs.items():
            for link, target in sorted(wanted.offers, key=lambda offer: offer != wanted.asked):
                yield log_id, link, target

    def pending_logs(self) -> int:
        """Logs of which something is known to exist and is not held."""
        return len(self._logs)

    def _drop_held(self, log_id: bytes, wanted: _Wanted) -> None:
        for offer in [offer for offer, piece in wanted.offers.items() if self._holds(log_id, offer[1], piece)]:
            del wanted.offers[offer]
        if wanted.asked is not None and wanted.asked not in wanted.offers:
            self._release(log_id, wanted)
        if not wanted.offers:
            self._logs.pop(log_id, None)
            self._unasked.pop(log_id, None)

    def _release(self, log_id: bytes, wanted: _Wanted) -> None:
        if wanted.asked is not None:
            link = wanted.asked[0]
            self._open[link] = max(0, self._open.get(link, 0) - 1)
            wanted.asked = None
            self._unasked[log_id] = None
            # Whatever else waits can be asked for only where there is room.
            self._look_again |= bool(wanted.offers) or self._open[link] <= ROOM_AGAIN_AT
