"""Python's garbage collector, set for programs that hold much for long and must answer a tap at any time.

Measured (experiments/001_sync_ceiling): with the defaults it took a twelfth of the time in which a node catches up,
half of it in collections of everything there is, each of which stopped the loop for 25 ms.
"""

from __future__ import annotations

import gc
from typing import Final

_NEW_OBJECTS: Final = 20_000
"""Containers made and not yet let go before a collection: a few megabytes at most, where there are cycles at all."""


def leave_loaded_alone() -> None:
    """Call once the program is loaded: what is there now stays, and no collection looks through it again."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
