"""Driving a coroutine of the product in virtual time: it awaits what the world lets happen, and nothing else.

Some of the product's shell is written as coroutines that only await what they were given (the gateway's sender, over
its `LocalLogs` and `Upstream`). In a world they are given awaitables of this module, and run without an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TypeAlias, TypeVar

_Result = TypeVar("_Result")

Subscribe: TypeAlias = Callable[[Callable[[], None]], None]
"""Given what is to be called when the wait is over."""


class Until:
    """Awaitable: over when what it subscribed to calls back."""

    def __init__(self, subscribe: Subscribe) -> None:
        self.subscribe = subscribe

    def __await__(self) -> Generator[Until, None, None]:
        yield self


def drive(
    coroutine: Coroutine[Until, None, _Result], alive: Callable[[], bool], done: Callable[[_Result], None]
) -> None:
    """Run a coroutine from wait to wait; `done` with what it returns. It is dropped when nobody is alive to go on."""

    def step() -> None:
        if not alive():
            coroutine.close()
            return
        try:
            waits = coroutine.send(None)
        except StopIteration as stop:
            done(stop.value)
        else:
            waits.subscribe(step)

    step()
