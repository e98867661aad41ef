"""The trace hash: one number for everything that happened in a run, in order.

Two runs of one seed have the same hash, on every machine, Python and hash seed; where they differ, something read a
clock, drew chance from outside the seed, or went through a set in memory order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final

_HEAD: Final = struct.Struct(">QII")


class Trace:
    """Collects what happens. `tell`, if given, is also told each line, for looking into one seed."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._tell = tell

    def note(self, now_us: int, who: str, what: str, data: bytes = b"") -> None:
        """Something happened to `who`; `data` are the bytes that it was about."""
        text = f"{who}\x1f{what}".encode()
        self._digest.update(_HEAD.pack(now_us, len(text), len(data)))
        self._digest.update(text)
        self._digest.update(data)
        if self._tell is not None:
            about = hashlib.sha256(data).hexdigest()[:12] if data else ""
            self._tell(f"{now_us / 1e6:12.6f}  {who:<12} {what} {about}".rstrip())

    @property
    def hash(self) -> str:
        """32 hexadecimal digits."""
        return self._digest.copy().hexdigest()
