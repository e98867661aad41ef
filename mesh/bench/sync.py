"""`tapmesh bench sync`: how fast a node takes in everything another one holds, and how near that is to the ceiling.

Two processes on loopback over TLS. The clock runs in the receiver, from connect until the last card can be queried and
the last run is committed as replica.db promises. Sender, receiver and ceiling take turns in every round, so that they
see the same machine; medians are reported.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.bench.workload import Bench, Scale
from mesh.errors import LocalError

_PROCESS = [sys.executable, "-m", "mesh.bench.sync_process"]


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: what sender, receiver and ceiling printed."""

    sender: dict[str, Any]
    receiver: dict[str, Any]
    limit: dict[str, Any]

    @property
    def entries_per_s(self) -> float:
        return float(self.receiver["entries"] / self.receiver["synced_s"])


def measure_sync(scale: Scale, rounds: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the measurement; the result is what `--json` prints. LocalError if what arrived is not what was sent."""
    with tempfile.TemporaryDirectory(prefix="tapmesh-bench-") as scratch:
        bench = Bench(Path(scratch))
        sender, receiver = bench.device("sender"), bench.device("receiver")
        say(f"signing {scale.entries} entries of {scale.logs} logs over {scale.cards} cards")
        entry_bytes = bench.fill(sender, scale, seed)
        results = []
        for number in range(rounds):
            results.append(_round(sender, receiver, bench.directory / "fresh", scale))
            say(f"round {number + 1} of {rounds}: {results[-1].entries_per_s:,.0f} entries/s")
    return _result(scale, results, entry_bytes)


def _round(sender: Path, receiver: Path, fresh: Path, scale: Scale) -> Round:
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(receiver, fresh)
    serving = subprocess.Popen(
        [*_PROCESS, "send", str(sender)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert serving.stdin is not None and serving.stdout is not None
    try:
        ready = json.loads(serving.stdout.readline())
        received = _run("receive", str(fresh), str(ready["port"]), ready["digest"])
        serving.stdin.close()
        sent = json.loads(serving.stdout.readline())
    finally:
        serving.stdin.close()
        serving.wait()
    expected = {"entries": scale.entries, "cards": scale.cards, "conflicts": scale.clones}
    found = {key: received[key] for key in expected}
    if found != expected:
        raise LocalError(f"the measurement does not count: {expected} was sent, {found} was found")
    return Round(sent, received, _run("limit", str(sender)))


def _run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([*_PROCESS, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _result(scale: Scale, rounds: list[Round], entry_bytes: int) -> dict[str, Any]:
    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    limit = median(lambda each: each.limit["entries_per_s"])
    return {
        "entries_per_s": round(median(lambda each: each.entries_per_s)),
        "all_signatures_verified_s": round(median(lambda each: each.receiver["verified_s"]), 2),
        "wire_bytes_per_entry": round(median(lambda each: each.receiver["wire_bytes"]) / scale.entries, 1),
        "peak_rss_mb": {
            "sender": round(median(lambda each: each.sender["peak_rss_mb"]), 1),
            "receiver": round(median(lambda each: each.receiver["peak_rss_mb"]), 1),
        },
        "share_of_limit": round(median(lambda each: each.entries_per_s / each.limit["entries_per_s"]), 3),
        "limit_entries_per_s": round(limit),
        "entries": scale.entries,
        "logs": scale.logs,
        "cards": scale.cards,
        "conflicts_found": scale.clones,
        "entry_bytes": round(entry_bytes / scale.entries, 1),
        "body_bytes": rounds[0].receiver["body_bytes"],
        "receiver_cpu_s": round(median(lambda each: each.receiver["cpu_s"]), 2),
        "disk_bytes_per_entry": round(median(lambda each: each.receiver["disk_bytes"]) / scale.entries, 1),
        "rounds": [round(each.entries_per_s) for each in rounds],
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
        },
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
