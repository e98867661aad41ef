"""Many seeds of one scenario, spread over the machine's cores, each run in a process that plays one after the other.

A run that ends with an error of the program is a finding like any other: it is reported with its seed, and the next
seed is played.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mesh.shell.collector import leave_loaded_alone
from mesh.testing.run import Outcome, play
from mesh.testing.scenario import Scenario

_FRAME: Final = re.compile(r'File "(?:.*[/\\])?([^/\\"]+)", line \d+, in (\S+)')
_WHO_AND_HOW_MUCH: Final = re.compile(
    r"\b(?:(?:spare )?(?:bar|till|gateway)(?: [^ ]+)? \d+(?: \(copy\))?|courier \d+|office|[0-9a-f]{16,}|[\d.]*\d)"
    r"(?!\w)"
)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one seed: an outcome, or the traceback of the error that ended the run."""

    seed: int
    outcome: Outcome | None
    program_error: str = ""

    @property
    def holds(self) -> bool:
        return self.outcome is not None and self.outcome.holds

    @property
    def broken(self) -> frozenset[str]:
        """What was violated, without who and how much, so that runs can be compared: `convergence: … and … differ`."""
        if self.outcome is None:
            return frozenset({_in_short(self.program_error)})
        return frozenset(_WHO_AND_HOW_MUCH.sub("…", str(violation)) for violation in self.outcome.violations)

    def sentences(self) -> list[str]:
        """Everything that does not hold, a sentence each."""
        if self.outcome is None:
            return [f"the program ended with {_in_short(self.program_error)}\n{self.program_error.rstrip()}"]
        return [str(violation) for violation in self.outcome.violations]


def cores() -> int:
    """How many processes can run at once here."""
    return len(os.sched_getaffinity(0))


def replay_command(scenario: str, seed: int) -> str:
    """The one line that plays a seed again; `scenario` is its name or its file, as a person gave it."""
    return f"tapmesh sim {shlex.quote(scenario)} --seed {seed}"


@contextmanager
def players(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes to play in; what was not begun is left out when the block ends early."""
    # Spawned, not forked: a child of a process with threads may inherit a lock that nobody holds.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def sweep(scenario: Scenario, seeds: Iterable[int], *, at_once: int) -> Iterator[Played]:
    """Play these seeds, `at_once` of them at a time; what came of each, in order."""
    with players(at_once) as pool:
        runs = {seed: pool.submit(play, scenario, seed) for seed in seeds}
        for seed in list(runs):
            yield result(seed, runs.pop(seed))


def result(seed: int, run: Future[Outcome]) -> Played:
    """Wait for one run."""
    error = run.exception()
    if error is None:
        return Played(seed, run.result())
    if not isinstance(error, Exception):
        raise error
    # What the other process's traceback was travels as the text of the error's cause.
    return Played(seed, None, str(error.__cause__ or repr(error)).strip('\n"'))


def _in_short(trace: str) -> str:
    """`AssertionError in append_run (store.py)` from a traceback."""
    error = trace.rstrip().rpartition("\n")[2].partition(":")[0]
    frames = _FRAME.findall(trace)
    return f"{error} in {frames[-1][1]} ({frames[-1][0]})" if frames else error


def _begin() -> None:
    """Interrupts are the parent's; and collecting what is loaded for good took a seventh of the time of a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_loaded_alone()
