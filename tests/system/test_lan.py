"""Six real readers on a network that is partitioned, healed, killed and readdressed while wristbands are held to them.

Each is a namespace of its own. Nobody is told any address: they find each other by multicast over the cable, or never.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.core.kinds import Role
from tests.factory import Venue
from tests.programs import TREE
from tests.system.bars import (
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
from tests.system.lan import Lan
from tests.system.processes import NODE, Enrolled, aborts, until_held


@pytest.mark.proves("M1", "M3", "M4")
def test_bars_partitioned_killed_and_readdressed_end_byte_identical_with_every_tap_that_went_green(
    place: Lan, programs: ExitStack, tmp_path: Path
) -> None:
    venue = make_venue(tmp_path / "venue", "Riverside")
    bars = [enrol(venue, place.host(f"bar {index}", "hall"), tmp_path, programs) for index in range(6)]
    first, killed, staying, moved, readdressed, late = bars
    open_all(bars[:5])
    hold_all(bars[:5])
    settle(bars[:5])
    ring(bars[:5], "topup 20.00")
    settle(bars[:5])
    copy = clone(first.own_wristband, tmp_path / "copy")

    hall, yard = {bar.name for bar in bars[:3]}, {bar.name for bar in bars[3:]}
    before = [ties(bar) for bar in (first, staying, moved, readdressed)]
    for bar in (moved, readdressed, late):
        place.plug(bar.host, "yard")
    late.open()
    ring(bars[:5], "sale 0.50", times=4)
    killed.kill()
    moved.hold(copy)
    moved.pay("sale 0.70")
    late.hold(late.own_wristband)
    late.pay("topup 5.00")
    readdressed.host.take_address("10.88.7.7")
    alive = [first, staying, moved, readdressed, late]
    ring(alive, "sale 0.20", times=2)
    for tied in before:
        tied.until_parted(yard if tied.bar.name in hall else hall)

    for bar in (moved, readdressed, late):
        place.plug(bar.host, "hall")
    ring([staying, readdressed, late], "sale 0.10", times=2)  # where no copy is, which is declined from some moment on
    killed.open()
    settle(bars)

    stop(bars)
    _hold_the_same(bars)
    for bar in bars:
        conflicts = [line for line in bar.running.seen if line["event"] == "conflict"]
        assert {frozenset(tap["reader"] for tap in line["taps"]) for line in conflicts} == {
            frozenset({first.name, moved.name})
        }


def _hold_the_same(bars: Sequence[Bar]) -> None:
    logs = held(bars[0])
    assert all(held(bar) == logs for bar in bars[1:])
    paid = {tap for bar in bars for tap in bar.paid}
    assert paid
    for bar in bars:
        assert paid <= taps_held(bar)


def test_node_that_hears_no_multicast_is_dialled_by_those_who_hear_it(
    place: Lan, programs: ExitStack, tmp_path: Path
) -> None:
    """Of two nodes that hear each other the smaller one dials; here it hears nothing."""
    venue = Venue()
    devices = [Enrolled(venue, tmp_path, name, Role.READER) for name in ("bar A", "bar B")]
    deaf, hearing = sorted(devices, key=lambda device: device.device.certificate.node)
    hosts = [place.host(name, "hall") for name in ("deaf", "hearing")]
    place.deafen(hosts[0])
    running = []
    for host, device in zip(hosts, (deaf, hearing), strict=True):
        device.append(*aborts(3))
        options = ("--dir", device.directory, "--zone", "north", "--json", "--until-eof")
        running.append(programs.enter_context(host.program(NODE, "run", *options)))
    assert len({until_held(program, 8)["digest"] for program in running}) == 1


@pytest.mark.soak
def test_evening_of_twelve_bars_ends_byte_identical_on_every_disk(place: Lan, tmp_path: Path) -> None:
    """Three islands, two halves, kill -9, power lost, a clone: experiments/012_real_venue says what it measured."""
    assert place.hosts == []
    result = tmp_path / "result.json"
    evening = [sys.executable, str(TREE / "experiments/012_real_venue/run.py"), str(result)]
    done = subprocess.run(evening, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    at_the_end = json.loads(result.read_text(encoding="utf-8"))["at_the_end"]
    assert at_the_end["byte_identical"]
    assert (at_the_end["taps_missing_anywhere"], at_the_end["findings_of_log_verify"]) == (0, 0)
    assert at_the_end["nodes_that_surfaced_the_clone"] == 12
