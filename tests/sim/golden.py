"""The trace hashes of some seeds, committed: what the simulator does may change on purpose only.

python -m tests.sim.golden        writes golden.json anew
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mesh.testing.packaged import find_scenario
from mesh.testing.run import play

FILE: Final = Path(__file__).with_name("golden.json")
PLAYED: Final[dict[str, tuple[int, ...]]] = {
    "two-zones": (1, 2),
    "one-bar": (1, 2),
    "couriers-only": (1,),
    "slow-links": (1,),
    "full-chaos": (1, 2, 3, 4, 5, 6),
}
"""Scenario and seeds. Some of them have real signatures, and several adversaries come."""


def committed() -> dict[str, dict[str, str]]:
    """By scenario and seed: the hash in the file."""
    found: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def hash_of(scenario: str, seed: int) -> str:
    return play(find_scenario(scenario), seed).trace_hash


def main() -> None:
    hashes = {name: {str(seed): hash_of(name, seed) for seed in seeds} for name, seeds in PLAYED.items()}
    FILE.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
