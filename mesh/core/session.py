"""One link as a sans-IO state machine: bytes in, messages out; what may be said when is the table below.

The rules, each one line of the table:

* The first frame each way is a hello, of this venue and this version. Until it has been checked a peer can make us
  hold at most `HELLO_FRAME_BYTES_MAX` bytes.
* After that every other message is legal at any time: the session is stateless between connections, and comparing may
  start again whenever digests differ (anti-entropy).
* A second hello, or anything after a bye, is an error of the peer.

A session keeps no logs and decides nothing about them; that is :mod:`mesh.core.node`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from mesh.core.frontier import NOTHING_ASIDE
from mesh.core.messages import (
    Announce,
    BucketLogs,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    Kept,
    Message,
    Missing,
    Plan,
    Quiet,
    RunMessage,
    Tell,
    Want,
    decode_message,
    encode_message,
)
from mesh.errors import PeerError
from mesh.limits import FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX


class State(Enum):
    """Where a link stands, from our side."""

    EXPECT_HELLO = auto()
    LIVE = auto()
    CLOSED = auto()


TRANSITIONS: Final[dict[tuple[State, type[Message]], State]] = {
    (State.EXPECT_HELLO, Hello): State.LIVE,
    (State.EXPECT_HELLO, Bye): State.CLOSED,
    (State.LIVE, Buckets): State.LIVE,
    (State.LIVE, BucketLogs): State.LIVE,
    (State.LIVE, Tell): State.LIVE,
    (State.LIVE, FrontierPart): State.LIVE,
    (State.LIVE, Want): State.LIVE,
    (State.LIVE, Plan): State.LIVE,
    (State.LIVE, RunMessage): State.LIVE,
    (State.LIVE, Missing): State.LIVE,
    (State.LIVE, Announce): State.LIVE,
    (State.LIVE, Digest): State.LIVE,
    (State.LIVE, Quiet): State.LIVE,
    (State.LIVE, Kept): State.LIVE,
    (State.LIVE, Bye): State.CLOSED,
}


class OutOfTurn(PeerError):
    """A message that the state of the link does not allow."""


class FrameTooLarge(PeerError):
    """A frame announces more bytes than its bound."""


class WrongVenue(PeerError):
    """The peer's hello names another venue."""


class Session:
    """The protocol of one link. Feed it bytes, send what it encodes."""

    def __init__(self, venue_id: bytes) -> None:
        self.state = State.EXPECT_HELLO
        self._venue_id = venue_id
        self._buffer = bytearray()

    def hello(self, zone: str, digest: bytes, aside: bytes = NOTHING_ASIDE) -> bytes:
        """The first frame to send, before anything was received."""
        return encode_message(Hello(self._venue_id, zone, digest, aside=aside))

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes off the link and return the messages they complete, or raise a `PeerError`: close the link.

        Messages that were complete before the fault are lost with the link, which is harmless: nothing they carried
        was acknowledged, and the next session compares again.
        """
        if self.state is State.CLOSED:
            raise OutOfTurn("the link was closed by a bye")
        self._buffer += data
        messages: list[Message] = []
        start = 0
        while (end := self._frame_end(start)) is not None:
            with memoryview(self._buffer) as view:
                frame = bytes(view[start + 4 : end])
            message = decode_message(frame)
            self._step(message)
            messages.append(message)
            start = end
        del self._buffer[:start]
        return messages

    def _frame_end(self, start: int) -> int | None:
        if len(self._buffer) - start < 4:
            return None
        length = int.from_bytes(self._buffer[start : start + 4], "big")
        limit = HELLO_FRAME_BYTES_MAX if self.state is State.EXPECT_HELLO else FRAME_BYTES_MAX
        if length > limit:
            raise FrameTooLarge(f"a frame of {length} bytes where at most {limit} are allowed")
        end = start + 4 + length
        return end if len(self._buffer) >= end else None

    @property
    def wanted_bytes(self) -> int:
        """How many more bytes complete the frame that has begun; at least 1. Nothing happens before they are here."""
        if len(self._buffer) < 4:
            return 4 - len(self._buffer)
        return max(1, 4 + int.from_bytes(self._buffer[:4], "big") - len(self._buffer))

    def _step(self, message: Message) -> None:
        following = TRANSITIONS.get((self.state, type(message)))
        if following is None:
            raise OutOfTurn(f"a {type(message).__name__} is not allowed while the link is {self.state.name}")
        if isinstance(message, Hello) and message.venue_id != self._venue_id:
            raise WrongVenue("the peer belongs to another venue (or to last year's)")
        self.state = following

    @property
    def buffered_bytes(self) -> int:
        """What an incomplete frame holds of our memory."""
        return len(self._buffer)
