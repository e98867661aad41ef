"""Adversaries that lie in what they say about logs: the liar about its frontier, the silent announcer, the flooder."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from mesh.core.entry import ID_BYTES, LOG_ID_BYTES
from mesh.core.events import Located, Serve
from mesh.core.frontier import LogSummary, Position
from mesh.core.kinds import Lane
from mesh.core.messages import (
    Announce,
    BucketLogs,
    Digest,
    FrontierPart,
    Message,
    Missing,
    Tell,
    Want,
    decode_message,
    encode_message,
)
from mesh.limits import BRANCHES_PER_LOG_MAX, ENTRY_BODY_BYTES_MAX, WANTS_IN_FLIGHT_PER_LINK_MAX
from mesh.testing.adversaries.crooked import Crooked
from mesh.testing.network import End
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.venue import VenueDevice
from mesh.testing.world import World

LIES: Final = 0.4
"""Share of what the liar says that is not true."""
BEYOND_MAX: Final = 1000
VOLLEY_EVERY_S: Final = (0.2, 0.6)
VOLLEYS_MAX: Final = 18
"""Between two starts. A flood has no end, but what it does to the others shows after the first few."""
STORM_EVERY: Final = 6
"""Of so many volleys one is a storm of wants, which no honest peer begins: the victim hangs up."""
UNKNOWN_LOGS: Final = 60
DIGESTS: Final = 50
LARGEST_ENTRIES_MAX: Final = 3
"""They come back as one run. Eight would be 256 kB: more than a courier at 200 kbit/s takes in on a visit, for ever."""
LARGEST_KIND: Final = 4711
"""No kind that anybody knows: stored, forwarded, counts for nothing."""


class FrontierLiar(Crooked):
    """Claims heads that do not exist, hides heads that it has, tells and asks for digests of nothing; it does serve."""

    kind = Adversary.FRONTIER_LIAR

    def _send(self, number: int, data: bytes) -> None:
        said = decode_message(data[4:])
        told = self._lie(said)
        if told is not None:
            super()._send(number, data if told is said else encode_message(told))
        if told is not said:
            self.did()

    def _lie(self, message: Message) -> Message | None:
        """What it says instead; None: nothing."""
        if self.tricks.random() >= LIES:
            return message
        match message:
            case FrontierPart(logs):
                return replace(message, logs=tuple(made_up for log in logs for made_up in self._summary(log)))
            case Announce(heads):
                return Announce(tuple((log_id, self._beyond(head)) for log_id, head in heads))
            case Digest():
                return Digest(self.tricks.randbytes(ID_BYTES))
            case BucketLogs(buckets, digests):
                return BucketLogs(buckets, tuple(map(self._otherwise, digests)))
            case Tell(digests):
                return Tell(tuple(map(self._otherwise, digests)))
            case Missing():
                return None
            case _:
                return message

    def _summary(self, log: LogSummary) -> list[LogSummary]:
        """Nothing of this log, or one head more than there is."""
        if not log.heads or self.tricks.random() < 0.5:
            return []
        heads = [*log.heads, self._beyond(max(log.heads))][-BRANCHES_PER_LOG_MAX:]
        return [replace(log, heads=tuple(sorted(heads)), islands=())]

    def _otherwise(self, digest: bytes) -> bytes:
        return digest if self.tricks.random() < 0.5 else self.tricks.randbytes(len(digest))

    def _beyond(self, head: Position) -> Position:
        return Position(head.seq + self.tricks.randint(0, BEYOND_MAX), self.tricks.randbytes(ID_BYTES))


class SilentAnnouncer(Crooked):
    """Announces logs and heads like everybody else, its own too, and never serves a want."""

    kind = Adversary.SILENT_ANNOUNCER

    def _serve(self, number: int, effect: Serve) -> None:
        log = self.node.frontier.logs[effect.log_id]
        if effect.pushed:
            branch = log.branches[effect.segments[-1].branch]
            self._send(number, encode_message(Announce(((effect.log_id, branch.head),))))
            return
        # Its own node is told the truth, so that it goes on wanting what others have.
        located = self.store_of(effect.log_id).locate(effect.log_id, effect.segments, effect.locator)
        self._post_soon(Located(number, effect.log_id, effect.locator, located))
        self.did()


class Flooder(Crooked):
    """Floods every link, as fast as the wire takes it, until it is hung up on; then it comes back.

    With digests that are never the same, heads of logs that do not exist, wants of one log from its beginning over and
    over, and own entries as large as an entry may be. All of it is well-formed; a storm of wants alone breaks a rule.
    """

    kind = Adversary.FLOODER

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self._volleys = 0
        self._largest = 0

    def link_up(self, end: End) -> None:
        super().link_up(end)
        self._volley_later(end.number)

    def _volley_later(self, number: int) -> None:
        self.world.clock.after(self.tricks.uniform(*VOLLEY_EVERY_S), lambda: self._volley(number))

    def _volley(self, number: int) -> None:
        if not self.alive or number not in self.links or self._volleys >= VOLLEYS_MAX:
            return
        self._volley_later(number)
        if number not in self.node.links:
            return
        self._volleys += 1
        messages = self._storm() if self._volleys % STORM_EVERY == 0 else self._burst()
        self._send(number, b"".join(map(encode_message, messages)))
        self.did(len(messages))

    def _burst(self) -> list[Message]:
        """What an honest peer might say, and would not say so often."""
        if self._largest < LARGEST_ENTRIES_MAX and not self.venue.healing:
            self._largest += 1
            self.append(Lane.TELEMETRY, LARGEST_KIND, self.tricks.randbytes(ENTRY_BODY_BYTES_MAX))
        digests: list[Message] = [Digest(self.tricks.randbytes(ID_BYTES)) for _ in range(DIGESTS)]
        heads = [(self.tricks.randbytes(LOG_ID_BYTES), self._head()) for _ in range(UNKNOWN_LOGS)]
        return [*digests, Announce(tuple(heads))]

    def _storm(self) -> list[Message]:
        """More wants than anybody keeps open, all of the log that is longest here."""
        log = max(self.node.frontier.logs.values(), key=lambda log: (max(log.heads()).seq, log.log_id))
        return [Want(log.log_id, max(log.heads()), ())] * (WANTS_IN_FLIGHT_PER_LINK_MAX + 1)

    def _head(self) -> Position:
        return Position(self.tricks.randint(0, BEYOND_MAX), self.tricks.randbytes(ID_BYTES))
