"""Play every mutant of protocol or money in the simulator, up to fifty seeds, and print what was found as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tools.mutants import MUTANTS, read_mutant  # noqa: E402 - the tree has to be on the path first
from tools.simulated_mutants import NOT_CONCERNED, SEEDS_MAX, concerned, find, unharmed  # noqa: E402

UNHARMED: Final = 3
"""Seeds of each place that are played without a mutant first."""


def main() -> None:
    mutants = [read_mutant(path) for path in sorted(MUTANTS.glob("*.patch"))]
    looked_for = concerned(mutants)
    speaks = unharmed(sorted({mutant.simulator for mutant in looked_for}), UNHARMED)
    found = []
    for mutant in looked_for:
        found.append(asdict(find(mutant)))
        print(f"{mutant.name}: {found[-1]['seed']} {found[-1]['sentence']}", file=sys.stderr, flush=True)
    others = {
        mutant.name: mutant.simulator.removeprefix(NOT_CONCERNED) for mutant in mutants if mutant not in looked_for
    }
    result = {
        "seeds_max": SEEDS_MAX,
        "mutants": len(mutants),
        "of_protocol_or_money": len(looked_for),
        "found": sum(one["seed"] is not None for one in found),
        "found_by_the_first_seed": sum(one["seed"] == 1 for one in found),
        "speaks_without_a_mutant": speaks,
        "findings": found,
        "not_concerned": others,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
