"""A thousand seeds of the full-chaos scenario; prints JSON. See README.md."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mesh.testing.packaged import find_scenario
from mesh.testing.sweep import cores, replay_command, sweep

SEEDS: Final = range(1_001, 2_001)
"""Others than those of `make test`."""


def main() -> None:
    at_once = int(sys.argv[1]) if len(sys.argv) > 1 else cores()
    scenario, began = find_scenario("full-chaos"), time.perf_counter()
    fired: Counter[str] = Counter()
    failed: list[dict[str, object]] = []
    played = 0
    together: list[float] = []
    totals: Counter[str] = Counter()
    for one in sweep(scenario, SEEDS, at_once=at_once):
        played += 1
        if not one.holds:
            failed.append({"seed": one.seed, "replay": replay_command("full-chaos", one.seed), "what": one.sentences()})
            print(one.seed, one.sentences(), file=sys.stderr, flush=True)
        if one.outcome is not None:
            fired.update(one.outcome.fired)
            totals.update(paid=one.outcome.paid, conflicts=one.outcome.conflicts, events=one.outcome.events)
            totals.update(simulated_s=round(one.outcome.simulated_s))
            together += [] if one.outcome.together_after_s is None else [one.outcome.together_after_s]
        if played % 50 == 0:
            print(
                f"{played} seeds, {time.perf_counter() - began:.0f} s, {len(failed)} failed",
                file=sys.stderr,
                flush=True,
            )
    result = {
        "seeds": f"{SEEDS.start} to {SEEDS.stop - 1}",
        "played": played,
        "failed": failed,
        "fired": dict(sorted(fired.items())),
        **totals,
        "together_after_s": {"median": statistics.median(together), "most": max(together)},
        "wall_s": round(time.perf_counter() - began),
        "processes": at_once,
        "machine": f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
