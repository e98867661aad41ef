"""The canary of mesh.testing.scheduling: red with the first release of trio that its two private names no longer rule.

What must repeat is the order of tasks that trio holds in sets, which is the order of memory addresses: those that one
cancelled scope wakes, and those of a nursery that is cancelled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest
import trio
import trio.testing
from trio._core import _run

from mesh.testing.scheduling import deterministic_scheduling, run_deterministically

TREE = Path(__file__).resolve().parents[2]
TASKS = 40
PROGRAM = "from tests.sim.test_shell_scheduling import order; print(order(7))"


class Run(Protocol):
    """As :func:`run_deterministically`."""

    def __call__(self, work: Callable[[], Awaitable[None]], *, seed: int) -> None: ...


def order(seed: int, run: Run = run_deterministically) -> list[int]:
    """In which order the tasks of one nursery hear that it was cancelled, and another lot that a time has come."""
    heard: list[int] = []

    async def wait(number: int) -> None:
        try:
            await trio.sleep(5 if number % 2 else 60)
            heard.append(number)
        finally:
            heard.append(-number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(1, TASKS + 1):
                nursery.start_soon(wait, number)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()

    run(main, seed=seed)
    assert len(heard) == TASKS // 2 * 3
    return heard


def test_same_seed_gives_the_same_order_of_tasks() -> None:
    kept = [bytearray(number * 997 % 5_000) for number in range(500)]  # so that new objects lie elsewhere
    first = order(7)
    del kept[::3]
    assert order(7) == first


def test_same_seed_gives_the_same_order_in_another_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONHASHSEED": "4711"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=TREE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(order(7))


def test_another_seed_gives_another_order() -> None:
    assert len({tuple(order(seed)) for seed in range(5)}) == 5


def test_time_is_virtual() -> None:
    async def main() -> float:
        began = trio.current_time()
        await trio.sleep(86_400)
        return trio.current_time() - began

    assert run_deterministically(main, seed=1) == 86_400


def test_what_was_set_in_trio_is_put_back() -> None:
    before = (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate())
    with suppress(KeyError), deterministic_scheduling(3):
        assert _run._ALLOW_DETERMINISTIC_SCHEDULING
        raise KeyError
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()) == before


def test_it_is_trios_flag_that_makes_the_order_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the tests above can fail: with the seed alone, memory addresses decide."""
    monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    state = _run._r.getstate()

    def run_with_the_seed_alone(work: Callable[[], Awaitable[None]], *, seed: int) -> None:
        _run._r.seed(seed)
        trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))

    try:
        kept, orders = [], set()
        for size in range(20):
            orders.add(tuple(order(7, run=run_with_the_seed_alone)))
            kept.append([bytearray(size * 100 + number) for number in range(200)])
    finally:
        _run._r.setstate(state)
    assert len(orders) > 1
