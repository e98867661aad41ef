"""What a node knows of the device at the other end of one link."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mesh.core.certificate import DeviceCertificate
from mesh.core.frontier import Position
from mesh.core.session import Session


@dataclass(slots=True)
class Neighbour:
    """One link; nothing of it outlives the link. Times are seconds on the node's monotonic clock."""

    peer: DeviceCertificate
    session: Session
    heard: float
    said: float
    zone: str = ""
    live: bool = False
    """Whether its hello was accepted."""
    asked: set[bytes] = field(default_factory=set)
    """Logs that were wanted on this link at some time: late answers are no offence."""
    unplanned: set[bytes] = field(default_factory=set)
    """Logs wanted on this link whose plan has not come yet: one plan a want is told to people."""
    has: dict[bytes, Position] = field(default_factory=dict)
    """The newest position of each log that the peer is known to have."""
    fed: set[bytes] = field(default_factory=set)
    """Logs that the peer wanted here: it gets what is new of them unasked."""
    quieted: set[bytes] = field(default_factory=set)
    """Logs that the peer was asked not to feed us."""
    news: dict[bytes, Position] = field(default_factory=dict)
    """Heads to tell it of when the pause is over."""
    reminders: dict[bytes, Position] = field(default_factory=dict)
    """Heads that it should get from somebody else meanwhile."""
    last_reminders: dict[bytes, Position] = field(default_factory=dict)
    """Those that have waited for a whole pause already: the next to be told."""
    remind_at: float = math.inf
    serving: int = 0
    """Its wants that are not answered yet."""
    aside_told_at: float = -math.inf
    """When it was last told what is held of the logs that are set aside."""
