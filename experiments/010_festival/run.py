"""The whole festival from one seed: time, memory, and what came of it, as JSON. See README.md."""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mesh.testing.run import play
from mesh.testing.scenario import parse_scenario
from mesh.testing.world import World

SEED: Final = 1


def main() -> None:
    scenario = parse_scenario(resources.files("mesh.testing").joinpath("scenarios/festival.toml").read_text())
    began, told = time.perf_counter(), [0.0]

    def progress(share: float, world: World) -> None:
        if time.perf_counter() - told[0] > 30:
            told[0] = time.perf_counter()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            line = f"{share:6.1%}  day {world.clock.now / 86400:.2f}  {len(world.truth.paid)} paid  {peak} MiB"
            print(f"{time.perf_counter() - began:7.0f} s  {line}", file=sys.stderr, flush=True)

    outcome = play(scenario, SEED, progress=progress)
    took = time.perf_counter() - began
    result = asdict(outcome) | {
        "violations": [str(violation) for violation in outcome.violations],
        "wall_s": round(took),
        "simulated_s_per_s": round(outcome.simulated_s / took, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=1))


main()
