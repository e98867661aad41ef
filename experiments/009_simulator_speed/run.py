"""How fast virtual time goes for 20 and for 300 nodes; prints JSON. See README.md."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mesh.testing.faults import Faults
from mesh.testing.people import Crowd
from mesh.testing.scenario import People, Scenario, Zone
from mesh.testing.world import World

ROUNDS: Final = 3
WARM_UP_S: Final = 30.0
TWENTY: Final = Scenario(
    name="twenty",
    zones=(Zone("north", readers=8, tills=1, gateways=1), Zone("south", readers=8, tills=1)),
    people=People(count=200, taps_per_s=1.0),
)
"""With the office 20 devices."""
THREE_HUNDRED: Final = Scenario(
    name="three-hundred",
    zones=(
        Zone("zone 1", readers=27, tills=1, gateways=1),
        *(Zone(f"zone {at}", readers=29, tills=1) for at in range(2, 11)),
    ),
    people=People(count=3000, taps_per_s=4.0),
)
"""With the office 300 devices; four taps a second is a festival's mean."""


def measure(scenario: Scenario, simulated_s: float, seed: int) -> dict[str, float]:
    """Simulated seconds for each second of wall clock, once everybody has met everybody."""
    with World(replace(scenario, duration_s=WARM_UP_S + simulated_s), seed) as world:
        crowd = Crowd(world, scenario.people)
        world.people = crowd
        world.switch_on()
        world.clock.at(5.0, crowd.open_doors)
        Faults(world, crowd).schedule()
        world.clock.run_until(WARM_UP_S)
        held = sum(device.accepted for device in world.devices.values())
        events, began = world.clock.happened, time.perf_counter()
        world.clock.run_until(WARM_UP_S + simulated_s)
        took = time.perf_counter() - began
        arrived = sum(device.accepted for device in world.devices.values()) - held
        return {
            "devices": len(world.devices),
            "simulated_s_per_s": round(simulated_s / took, 2),
            "events_per_s": round((world.clock.happened - events) / took),
            "entries_arrived_per_s": round(arrived / took),
            "us_per_arrived_entry": round(1e6 * took / max(1, arrived), 1),
        }


def main() -> None:
    result: dict[str, object] = {
        "machine": f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
        "rounds": ROUNDS,
    }
    for scenario, simulated_s in ((TWENTY, 300.0), (THREE_HUNDRED, 20.0)):
        rounds = [measure(scenario, simulated_s, seed) for seed in range(1, ROUNDS + 1)]
        rates = [one["simulated_s_per_s"] for one in rounds]
        result[scenario.name] = {"median_simulated_s_per_s": statistics.median(rates), "rounds": rounds}
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result, indent=1))


main()
