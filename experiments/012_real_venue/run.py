"""Twelve real readers in network namespaces, partitioned, healed, killed: what they hold at the end, and how soon.

    sudo .venv/bin/python experiments/012_real_venue/run.py [RESULT]

Needs root, iproute2 and util-linux; touches no network of the machine. See README.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from mesh.core.certificate import parse_venue_root  # noqa: E402 - the tree is on the path only now
from mesh.core.kinds import Role  # noqa: E402
from mesh.shell.keys import ROOT_FILE, read_certificate  # noqa: E402
from mesh.shell.verify import verify_store  # noqa: E402
from mesh.testing.venue import Venue  # noqa: E402
from tests.programs import Program  # noqa: E402
from tests.system.bars import (  # noqa: E402
    Bar,
    clone,
    enrol,
    held,
    hold_all,
    make_venue,
    open_all,
    ring,
    settle,
    stop,
    taps_held,
    ties,
)
from tests.system.lan import Host, Lan, lan  # noqa: E402
from tests.system.processes import NODE, Enrolled  # noqa: E402

NODES: Final = 12
IDLE_S: Final = 60.0
PAIRS: Final = 4
APART_S: Final = 60.0
"""Long enough for the questions of mDNS to have become rare."""
Result = dict[str, Any]


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def read(self) -> float:
        return round(time.monotonic() - self._began, 2)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def cpu_s(program: Program) -> float:
    """User and system time of a running process (proc(5))."""
    fields = Path(f"/proc/{program.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(program: Program) -> float:
    for line in Path(f"/proc/{program.process.pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise AssertionError("a process without a peak")


def sent(bars: Sequence[Bar]) -> list[int]:
    return [bar.host.bytes_moved()["sent"] for bar in bars]


def partition(place: Lan, segments: dict[str, list[Bar]]) -> None:
    """Plug each segment into a switch of its own, sell, and wait until every link across was given up."""
    live = [bar for bars in segments.values() for bar in bars]
    before = [ties(bar) for bar in live]
    names = {segment: {bar.name for bar in bars} for segment, bars in segments.items()}
    for segment, bars in segments.items():
        for bar in bars:
            place.plug(bar.host, segment)
    ring(live, "sale 0.10", times=5)
    for tied in before:
        for inside in names.values():
            if tied.bar.name not in inside:
                tied.until_parted(inside)
    ring(live, "sale 0.20")


def heal(place: Lan, bars: Sequence[Bar], switch: str) -> Result:
    """Plug all into one switch again; how long until all hold the same, and what it took on the cables."""
    before = sent(bars)
    watch = Stopwatch()
    for bar in bars:
        place.plug(bar.host, switch)
    settle(bars)
    took = watch.read()
    moved = [after - earlier for after, earlier in zip(sent(bars), before, strict=True)]
    return {"identical_s": took, "bytes_sent_per_node": {"median": median(moved), "most": max(moved)}}


def notice(place: Lan, peers: Sequence[Bar], gone: Bar, *, power_lost: bool) -> Result:
    """How long until every peer that had a link to a node says that it is gone, and what is left is one mesh."""
    before = [ties(bar) for bar in peers]
    watch = Stopwatch()
    if power_lost:
        place.cut(gone.host)
    gone.kill()
    for tied in before:
        tied.until_parted({gone.name})
    return {"peers_linked": sum(gone.name in tied.names for tied in before), "all_noticed_s": watch.read()}


def strangers(place: Lan, directory: Path, programs: ExitStack) -> float:
    """Pairs of nodes that never heard of each other, on networks that are joined after a minute: until all have met."""
    pairs: list[list[tuple[Host, Program]]] = []
    for number in range(PAIRS):
        venue = Venue(f"Strangers {number}")
        pairs.append([])
        for side in ("left", "right"):
            host = place.host(f"{side} {number}", f"{side}{number}")
            device = Enrolled(venue, directory / str(number), host.name, Role.READER)
            options = ("--dir", device.directory, "--zone", "field", "--json")
            pairs[-1].append((host, programs.enter_context(host.program(NODE, "run", *options))))
    for pair in pairs:
        for _, program in pair:
            program.until("ready")
    time.sleep(APART_S)
    watch = Stopwatch()
    for number, (_, (right, _)) in enumerate(pairs):
        place.plug(right, f"left{number}")
    for (_, left), _ in pairs:
        left.until_within(300, "met")
    took = watch.read()
    for pair in pairs:
        for _, program in pair:
            program.kill()
    return took


def idle(bars: Sequence[Bar]) -> Result:
    """What nodes that hold the same send and compute while nothing is sold."""
    bytes_before, cpu_before, watch = sent(bars), [cpu_s(bar.running) for bar in bars], Stopwatch()
    time.sleep(IDLE_S)
    took = watch.read()
    rates = [(after - before) / took for after, before in zip(sent(bars), bytes_before, strict=True)]
    cpu = [(cpu_s(bar.running) - before) / took for bar, before in zip(bars, cpu_before, strict=True)]
    return {
        "links_per_node": {"median": median([len(ties(bar).names) for bar in bars])},
        "bytes_sent_per_node_s": {"median": round(median(rates)), "most": round(max(rates))},
        "cpu_share_per_node": {"median": round(median(cpu), 4), "most": round(max(cpu), 4)},
    }


def evening(place: Lan, directory: Path, programs: ExitStack) -> tuple[list[Bar], Result]:
    """Everything that happens to the twelve; they are in step at the end."""
    venue = make_venue(directory / "venue", "Riverside")
    bars = [enrol(venue, place.host(f"bar {index}", "hall"), directory, programs) for index in range(NODES)]
    early, late = bars[:-1], bars[-1]
    result: Result = {}
    watch = Stopwatch()
    open_all(early)
    result["all_ready_s"] = watch.read()
    settle(early)
    result["all_ready_and_identical_s"] = watch.read()
    hold_all(early)
    say("top-ups and sales")
    ring(early, "topup 30.00")
    ring(early, "sale 0.10", times=20)
    watch = Stopwatch()
    settle(early)
    result["identical_after_the_last_tap_s"] = watch.read()
    copy = clone(early[0].own_wristband, directory / "copy")

    say("killed, and without power")
    result["killed"] = notice(place, early[:-1], early[10], power_lost=False)
    result["power_lost"] = notice(place, early[:-2], early[9], power_lost=True)

    say("three islands, a clone, and a node that nobody knows")
    place.plug(late.host, "hill")
    place.plug(early[9].host, "hall")
    segments = {"hall": early[:4], "yard": early[4:7], "hill": early[7:9]}
    open_all([late])
    hold_all([late])
    partition(place, segments)
    early[5].hold(copy)
    early[5].pay("sale 0.70")
    late.pay("topup 5.00")
    early[6].host.take_address("10.88.7.7")
    live = [*early[:9], late]
    result["healed_from_three_islands"] = heal(place, live, "hall")
    for bar in (early[0], early[5]):
        # The guest and the thief are declined everywhere from now on; somebody else stands there.
        bar.hold(bar.images / f"{bar.directory.name}-next")
        bar.pay("topup 30.00")

    say("two halves, while killed nodes come back on one side")
    open_all([early[9], early[10]])
    hold_all([early[9], early[10]])
    everyone = [*early, late]
    settle(everyone)
    partition(place, {"hall": everyone[:6], "yard": everyone[6:]})
    result["healed_from_two_halves"] = heal(place, everyone, "yard")

    say("nothing is sold for a minute")
    result["idle"] = idle(everyone)
    return everyone, result


def account(bars: Sequence[Bar], root: Path) -> Result:
    """What is on the twelve disks: equal, whole, and every tap that anybody was shown as paid."""
    of_first = held(bars[0])
    paid = {tap for bar in bars for tap in bar.paid}
    venue = parse_venue_root(read_certificate(root, "the root"))
    verdicts = [verify_store(bar.directory, venue, lambda done, of: None) for bar in bars]
    conflicts = [{line["card"] for line in bar.running.seen if line["event"] == "conflict"} for bar in bars]
    return {
        "byte_identical": all(held(bar) == of_first for bar in bars[1:]),
        "logs": len(of_first),
        "entries": sum(map(len, of_first.values())),
        "entry_bytes": sum(len(entry) // 2 for log in of_first.values() for entry in log),
        "taps_paid": len(paid),
        "taps_missing_anywhere": sum(len(paid - taps_held(bar)) for bar in bars),
        "findings_of_log_verify": sum(len(verdict.findings) for verdict in verdicts),
        "nodes_that_surfaced_the_clone": sum(len(cards) == 1 for cards in conflicts),
    }


def commit() -> str:
    """What was measured."""
    described = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(described, check=False, capture_output=True, text=True).stdout.strip()


def main(target: Path) -> None:
    watch = Stopwatch()
    with TemporaryDirectory() as directory, lan() as place, ExitStack() as programs:
        apart = strangers(place, Path(directory), programs)
        bars, result = evening(place, Path(directory), programs)
        moved = [bar.host.bytes_moved() for bar in bars]
        cpu = [round(cpu_s(bar.running), 2) for bar in bars]
        peaks = [peak_mib(bar.running) for bar in bars]
        stop(bars)
        at_the_end = account(bars, bars[0].directory / ROOT_FILE)
    result = {
        "nodes": NODES,
        "at_the_end": at_the_end,
        "strangers": {"pairs": PAIRS, "apart_s": APART_S, "all_met_s": apart},
        **result,
        "bytes_per_node": {way: {"median": median(v), "most": max(v)} for way, v in _ways(moved).items()},
        "cpu_s_per_node": {"median": median(cpu), "most": max(cpu)},
        "peak_mib_per_node": {"median": median(peaks), "most": max(peaks)},
        "wall_s": round(watch.read()),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
    }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    say(json.dumps(result, indent=1))
    assert at_the_end["byte_identical"] and not at_the_end["taps_missing_anywhere"]
    assert not at_the_end["findings_of_log_verify"]


def _ways(moved: Sequence[dict[str, int]]) -> dict[str, list[int]]:
    return {way: [counters[way] for counters in moved] for way in ("sent", "received")}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "result.json")
