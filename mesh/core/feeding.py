"""Who feeds this node which log: the trees that entries spread on, one a log.

After Leitao, Pereira and Rodrigues, "Epidemic Broadcast Trees" (2007): the first neighbour to bring an entry goes on
feeding that log, those that bring it again are asked to be quiet, and whoever announces what was missed is grafted back
by a want. The author of a log feeds it to every neighbour, and is the best feeder there is.
"""

from __future__ import annotations

from collections.abc import Iterator


class Feeders:
    """By log, the link that brought its newest entries."""

    def __init__(self) -> None:
        self._by_log: dict[bytes, int] = {}
        self._unfed: dict[bytes, None] = {}
        """Logs whose feeder is gone, until somebody looks for another."""

    def arrived(self, link: int, log_id: bytes, *, is_new: bool, from_author: bool) -> int | None:
        """Part of a log came on a link; `is_new` if any of it was not held.

        Returns the link whose peer is to be asked to be quiet, if there is one.
        """
        feeder = self._by_log.get(log_id)
        if feeder is None or from_author or is_new:
            self._by_log[log_id] = link
            self._unfed.pop(log_id, None)
            # A feeder that somebody else overtook may be late this once; if it brings the same later, that will show.
            return feeder if from_author and feeder != link else None
        return link if link != feeder else None

    def is_fed(self, log_id: bytes) -> bool:
        """Whether somebody feeds us this log."""
        return log_id in self._by_log

    def grafted(self, link: int, log_id: bytes) -> None:
        """A neighbour is asked for what will follow, before anything is missed."""
        self._by_log[log_id] = link

    def link_down(self, link: int) -> None:
        for log_id in [log_id for log_id, feeder in self._by_log.items() if feeder == link]:
            del self._by_log[log_id]
            self._unfed[log_id] = None

    def take_unfed(self) -> Iterator[bytes]:
        """Logs whose feeder has gone since this was asked last."""
        unfed, self._unfed = self._unfed, {}
        return iter(unfed)
