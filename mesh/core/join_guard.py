"""Against guessing: who may connect to the office, and what a wrong code costs. Pure counting, no clock.

A wrong code is answered after a pause during which its connection stays counted, so the rate of guesses is bounded by
the number of connections. Codes expire by this count: an address with too many wrong ones is not listened to again, and
after `JOIN_WRONG_CODES_MAX` in all the office closes, long before a guess had a chance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from mesh.limits import (
    JOIN_ANSWERS_PER_DEVICE_MAX,
    JOIN_CONNECTIONS_MAX,
    JOIN_CONNECTIONS_PER_ADDRESS_MAX,
    JOIN_WRONG_CODES_MAX,
    JOIN_WRONG_CODES_PER_ADDRESS_MAX,
)


class Verdict(Enum):
    """What a wrong code led to."""

    GO_ON = "go on"
    SHUT_OUT = "this address is not listened to again"
    CLOSE = "too many wrong codes in all"


@dataclass(slots=True)
class Guard:
    """One run of the office. `address` is the host part of a peer's address."""

    wrong: int = 0
    _connected: Counter[str] = field(default_factory=Counter)
    _wrong_by: Counter[str] = field(default_factory=Counter)
    _answers: Counter[bytes] = field(default_factory=Counter)

    def admit(self, address: str) -> bool:
        """Whether a connection from there is served; if so, :meth:`leave` must follow."""
        if self._wrong_by[address] >= JOIN_WRONG_CODES_PER_ADDRESS_MAX:
            return False
        full = self._connected.total() >= JOIN_CONNECTIONS_MAX
        if full or self._connected[address] >= JOIN_CONNECTIONS_PER_ADDRESS_MAX:
            return False
        self._connected[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A served connection ended."""
        assert self._connected[address] > 0, "only a connection that was admitted can end"
        self._connected[address] -= 1
        if not self._connected[address]:
            del self._connected[address]

    def wrong_code(self, address: str) -> Verdict:
        """Somebody there gave a code that is on no sheet."""
        self.wrong += 1
        self._wrong_by[address] += 1
        if self.wrong >= JOIN_WRONG_CODES_MAX:
            return Verdict.CLOSE
        return Verdict.SHUT_OUT if self._wrong_by[address] == JOIN_WRONG_CODES_PER_ADDRESS_MAX else Verdict.GO_ON

    def may_answer(self, log_key: bytes) -> bool:
        """Whether this device is answered (once more)."""
        self._answers[log_key] += 1
        return self._answers[log_key] <= JOIN_ANSWERS_PER_DEVICE_MAX
