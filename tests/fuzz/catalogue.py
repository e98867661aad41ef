"""All targets by name, where their corpora are, and what one input costs."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.fuzz.signed import SIGNED
from tests.fuzz.stateful import STATEFUL
from tests.fuzz.targets import PLAIN, Target, check

__all__ = ["CORPUS", "TARGETS", "Cost", "check", "corpus_of", "cost", "inputs_of"]

TARGETS: Final[Mapping[str, Target]] = {**PLAIN, **SIGNED, **STATEFUL}
CORPUS: Final = Path(__file__).parent / "corpus"
_OURS: Final = tuple(str(Path(__file__).parents[2] / package) for package in ("mesh", "reader", "gateway"))


def corpus_of(name: str) -> Path:
    """The directory of the committed inputs of a target."""
    return CORPUS / name.replace(" ", "_")


def inputs_of(name: str) -> list[bytes]:
    """What is valid, and every committed input, in an order that does not depend on the file system."""
    return [*TARGETS[name].valid, *(path.read_bytes() for path in sorted(corpus_of(name).glob("*")))]


@dataclass(frozen=True)
class Cost:
    """What one input cost: lines of our Python that ran, and the most bytes that were allocated at once."""

    steps: int
    memory: int

    def over(self, target: Target, size: int) -> str | None:
        """Which bound is broken by an input of `size` bytes, if one is."""
        steps_max = target.steps_base + target.steps_per_byte * size
        memory_max = target.memory_base + target.memory_per_byte * size
        if self.steps > steps_max:
            return f"{self.steps} steps for {size} bytes, where {steps_max} are allowed"
        if self.memory > memory_max:
            return f"{self.memory} bytes of memory for {size} bytes, where {memory_max} are allowed"
        return None


class _Steps:
    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Count lines of our packages only; what a library does in Python is left out, as what it does in C is."""
        return self._line if frame.f_code.co_filename.startswith(_OURS) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += event == "line"
        return self._line


@contextmanager
def _counted(steps: _Steps) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(steps.trace)
    try:
        yield
    finally:
        sys.settrace(before)


def cost(target: Target, data: bytes) -> Cost:
    """Check the invariant on one input and say what it cost."""
    steps = _Steps()
    tracemalloc.start()
    try:
        with _counted(steps):
            check(target, data)
        _, memory = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Cost(steps.count, memory)
