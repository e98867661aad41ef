"""Every sweep of tests/crash, complete, as a table and as result.json: run.py [STORE ...].

With names of stores only those are swept again, and the rows of the others stay as they are in result.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from mesh.core.kinds import Role  # noqa: E402 - the tree is on the path only now
from mesh.shell.keys import load_identity  # noqa: E402
from mesh.testing.disk import DiskVfs, Error, Fate, simulated_disk  # noqa: E402
from tests.crash.ledger_lives import LedgerLives  # noqa: E402
from tests.crash.own_lives import OwnLives  # noqa: E402
from tests.crash.replica_lives import ReplicaLives  # noqa: E402
from tests.crash.sweep import Liar, Lives, Tally, failures, power_cuts, power_cuts_in_recovery  # noqa: E402
from tests.factory import Venue  # noqa: E402

FATES = list(Fate)
RESULT = HERE / "result.json"
STORES = ["own.db", "replica.db", "settlement.db"]
Make = Callable[[], Lives]


def sweeps(vfs: DiskVfs, directory: Path, wanted: Collection[str]) -> Iterator[tuple[str, str, Tally]]:
    """Store, sweep, what it found."""
    identity = load_identity(Venue().device("bar A", Role.READER).write_directory(directory / "bar-a"))

    def own(*pragmas: str) -> Make:
        return lambda: OwnLives(vfs, directory / "own.db", identity, pragmas=pragmas)

    stores: dict[str, Make] = {
        "own.db": own(),
        "replica.db": lambda: ReplicaLives(vfs, directory / "replica.db"),
        "settlement.db": lambda: LedgerLives(vfs, directory / "settlement.db"),
    }
    for store, make in stores.items():
        if store not in wanted:
            continue
        for fate in FATES:
            yield store, f"one cut, {fate.value}", power_cuts(make, [fate])
        yield store, "cuts in the recovery", power_cuts_in_recovery(make, FATES)
        for error in Error:
            for lasts in (False, True):
                name = f"{error.value} {'from then on' if lasts else 'once'}"
                yield store, name, failures(make, error, lasts=lasts, reads=True)
    if "own.db" not in wanted:
        return
    if "own.db" not in wanted:
        return
    for fate in FATES:
        yield "own.db", f"CONTROL synchronous=OFF, {fate.value}", power_cuts(own("PRAGMA synchronous=OFF"), [fate])
        yield "own.db", f"CONTROL sync lies, {fate.value}", power_cuts(own(), [fate], liar=Liar(sync=True))
    yield "own.db", "CONTROL without psow=0, flash", power_cuts(own(), [Fate.FLASH], liar=Liar(powersafe=True))
    normal = power_cuts(own("PRAGMA synchronous=NORMAL"), [Fate.DROPPED])
    yield "own.db", "CONTROL synchronous=NORMAL, dropped", normal


def main() -> None:
    wanted = sys.argv[1:] or STORES
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory(dir=os.environ.get("TAPMESH_SCRATCH")) as scratch, simulated_disk() as vfs:
        for store, name, tally in sweeps(vfs, Path(scratch), wanted):
            broken, ms_per_cut = tally.broken.total(), round(tally.seconds * 1000 / tally.cuts, 1)
            rows.append(
                {
                    "store": store,
                    "sweep": name,
                    "cuts": tally.cuts,
                    "lives": tally.lives,
                    "broken": broken,
                    "ms_per_cut": ms_per_cut,
                }
            )
            print(f"{store:14}{name:38}{tally.cuts:6} cuts {broken:6} broken {ms_per_cut:6} ms/cut", flush=True)
            if tally.first:
                print(f"{'':14}first: {tally.first}")
    if RESULT.exists():
        rows += [row for row in json.loads(RESULT.read_text("utf-8"))["sweeps"] if row["store"] not in wanted]
    rows.sort(key=lambda row: STORES.index(row["store"]))
    promised = [row for row in rows if not row["sweep"].startswith("CONTROL")]
    result = {
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        **{total: sum(row[total] for row in promised) for total in ("cuts", "lives", "broken")},
        "sweeps": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
