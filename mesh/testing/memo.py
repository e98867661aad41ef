"""What one node of a world worked out need not be worked out again for the next: pure functions, remembered.

Three hundred nodes receive the same runs. Splitting and checking a run (:mod:`mesh.core.chain`) is a pure function of
its bytes, so that its result can be shared; what a node then does with it is its own. The names that the node and the
start from the disk call are exchanged for as long as the block lasts; a test says that they are still called so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mesh.core import node
from mesh.core.chain import Run, check_run, split_run

REMEMBERED: Final = 4096
"""Runs whose checked form is remembered, the newest."""


class _Runs:
    def __init__(self) -> None:
        self._split: OrderedDict[tuple[int, bytes], list[bytes]] = OrderedDict()
        self._checked: OrderedDict[tuple[bytes, bytes], Run] = OrderedDict()
        self.saved = 0

    def split(self, count: int, blob: bytes) -> list[bytes]:
        found = self._split.get((count, blob))
        if found is None:
            found = self._split[count, blob] = split_run(count, blob)
            if len(self._split) > REMEMBERED:
                self._split.popitem(last=False)
        return found

    def check(self, log_id: bytes, entries: Sequence[bytes], received: bytes | None = None) -> Run:
        if received is None:
            return check_run(log_id, entries)
        found = self._checked.get((log_id, received))
        if found is None:
            found = self._checked[log_id, received] = check_run(log_id, entries, received)
            if len(self._checked) > REMEMBERED:
                self._checked.popitem(last=False)
        else:
            self.saved += 1
        return found


@contextmanager
def shared_runs() -> Iterator[_Runs]:
    """Until the block ends, a run that one node has checked is not checked again for another."""
    runs = _Runs()
    names = {"split_run": runs.split, "check_run": runs.check}
    before = {name: getattr(node, name) for name in names}
    for name, function in names.items():
        setattr(node, name, function)
    try:
        yield runs
    finally:
        for name, function in before.items():
            setattr(node, name, function)
