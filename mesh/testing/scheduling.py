"""Runs of trio that repeat exactly: time is virtual, and a seed decides which of the ready tasks goes first.

::

    result = run_deterministically(main, seed=17)

Trio has no public way to this. The two private names it takes are used here and nowhere else, and put back afterwards;
`tests/sim/test_shell_scheduling.py` turns red with the first release of trio in which they no longer do what they do
now. Between two runs of one seed everything is equal as long as the program itself draws no chance, reads no clock,
starts no thread and goes through no set in memory order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run

_Result = TypeVar("_Result")


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Within this block the order of ready tasks is `seed`'s, for every `trio.run` in this process."""
    allowed, state = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()  # noqa: SLF001 - see above
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001 - Final, for trio's own use
    _run._r.seed(seed)  # noqa: SLF001
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]  # noqa: SLF001
        _run._r.setstate(state)  # noqa: SLF001


def run_deterministically(work: Callable[[], Awaitable[_Result]], *, seed: int) -> _Result:
    """Run `work` to its end on a clock that jumps to the next deadline whenever every task waits."""
    with deterministic_scheduling(seed):
        return trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))
