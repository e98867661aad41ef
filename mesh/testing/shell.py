"""A venue of real shells from a seed: `open_device`, its stores, its links and the tap terminal, under a mock clock.

::

    outcome = run_shell(17)
    assert outcome.trace_hash == run_shell(17).trace_hash

One run is an evening of some minutes (:mod:`mesh.testing.shell_evening`): three to five devices, top-ups, sales with
wristbands that are pulled away, one cloned wristband sold on both sides of a partition, streams that are reset, and a
bar that loses its power in mid-tap. Then everything heals, people come back once, and within a bounded time everybody
must hold the same and agree. What is checked on the way and at the end is in :mod:`mesh.testing.shell_checks`; a broken
rule is a :class:`Violation`. A run in which a kind of fault did not happen at all fails too.

The pure simulator plays whole venues with hundreds of devices; this one has few, and everything between the disk and
the wire is the product. Only TLS, TCP, mDNS and NFC are stood in for (docs/adr/0046-the-shell-under-a-mock-clock.md).
`python -m mesh.testing.shell SEED` plays one seed and prints its trace.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mesh.testing.scheduling import run_deterministically
from mesh.testing.shell_checks import Violation
from mesh.testing.shell_evening import Evening
from mesh.testing.shell_reckoning import Outcome
from mesh.testing.trace import Trace

__all__ = ["Outcome", "Violation", "run_shell"]


def run_shell(
    seed: int,
    *,
    tell: Callable[[str], None] | None = None,
    lies_about_sync: bool = False,
    disk_fails: bool = False,
) -> Outcome:
    """Play one seed, or raise :class:`Violation`. `tell` is given each line of the trace as it comes.

    With `disk_fails` a bar's disk refuses something now and then, and its program starts again on the same machine.
    `lies_about_sync` gives every board a disk that syncs nothing, for seeing a rule broken.
    """
    with ExitStack() as open_things:
        directory = Path(open_things.enter_context(tempfile.TemporaryDirectory(prefix="tapmesh-sim-")))
        evening = Evening(
            seed, directory, open_things, Trace(tell), lies_about_sync=lies_about_sync, disk_fails=disk_fails
        )
        try:
            return run_deterministically(evening.play, seed=seed)
        except BaseExceptionGroup as group:
            broken = _violation(group)
            if broken is None:
                raise
            raise broken from None


def _violation(error: BaseException) -> Violation | None:
    """The first broken rule in a group of errors: what else came of it says less."""
    match error:
        case Violation():
            return error
        case BaseExceptionGroup(exceptions=inner):
            return next((found for one in inner if (found := _violation(one)) is not None), None)
        case _:
            return None


def _main() -> None:
    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")

    tell(str(run_shell(int(sys.argv[1]), tell=tell)))


if __name__ == "__main__":
    _main()
