"""A node that joins cold takes in 400,000 entries of 3,000 logs; prints JSON. See README.md."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROUNDS: Final = 2
TAPMESH: Final = str(Path(sys.executable).with_name("tapmesh"))
USUAL: Final = ("--entries", "200000", "--logs", "50")
"""What `make bench` runs."""
FESTIVAL: Final = ("--entries", "400000", "--logs", "3000", "--cards", "80000")
"""Three days of a festival: 80,000 wristbands, and ten logs of each of 300 readers."""


def bench(*scale: str) -> dict[str, Any]:
    done = subprocess.run(
        [TAPMESH, "bench", "sync", *scale, "--rounds", "1", "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    usual, cold = [], []
    for _ in range(ROUNDS):
        # In turns: both see the same machine.
        usual.append(bench(*USUAL))
        cold.append(bench(*FESTIVAL))
        print(f"{usual[-1]['entries_per_s']} and {cold[-1]['entries_per_s']} entries/s", file=sys.stderr, flush=True)

    def median(results: list[dict[str, Any]], key: str) -> float:
        return float(statistics.median(result[key] for result in results))

    rate, usual_rate = median(cold, "entries_per_s"), median(usual, "entries_per_s")
    result = {
        "entries": cold[0]["entries"],
        "logs": cold[0]["logs"],
        "cards": cold[0]["cards"],
        "entries_per_s": rate,
        "bench_sync_entries_per_s": usual_rate,
        "share_of_bench_sync": round(rate / usual_rate, 3),
        "peak_rss_mb": max(each["peak_rss_mb"]["receiver"] for each in cold),
        "disk_bytes_per_entry_byte": round(median(cold, "disk_bytes_per_entry") / median(cold, "entry_bytes"), 3),
        "wire_bytes_per_entry_byte": round(median(cold, "wire_bytes_per_entry") / median(cold, "entry_bytes"), 3),
        "rounds": [each["entries_per_s"] for each in cold],
        "bench_sync_rounds": [each["entries_per_s"] for each in usual],
        "machine": cold[0]["machine"],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
