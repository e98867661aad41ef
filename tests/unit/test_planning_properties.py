"""The planning model's properties: nothing that helps makes anything later, and every process draws the same venue."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from math import inf
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.planning.clone import Sample, clone_noticed
from mesh.planning.contacts import UpTimes, World
from mesh.planning.plan import GOSSIP_S, MEETING_S, Courier, Money, Outage, Plan, Thief, Zone

TREE: Final = Path(__file__).resolve().parents[2]
NAMES: Final = ("north", "south", "forest", "gate")
END_S: Final = 20_000.0
"""How far the slow way of computing arrivals looks."""
SEEDS: Final = st.integers(0, 2**31)

_outages = st.builds(
    lambda every_s, part: Outage(round(every_s * part), every_s), st.integers(120, 3600), st.floats(0.05, 0.9)
)
_rounds = st.builds(
    lambda stops, round_s: Courier(tuple(stops), round_s, 30.0),
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=5).filter(lambda stops: len(set(stops)) > 1),
    st.integers(300, 3600),
)


@st.composite
def _plans(draw: st.DrawFn) -> Plan:
    zones = [
        Zone(
            name,
            draw(st.integers(1, 4)),
            draw(st.none() | _outages),
            draw(st.none() | _outages),
            gateway=draw(st.booleans()),
        )
        for name in NAMES
    ]
    networks = draw(st.lists(st.lists(st.sampled_from(NAMES), min_size=2, unique=True).map(tuple), max_size=2))
    return Plan(
        zones=tuple(zones),
        networks=tuple(networks),
        couriers=tuple(draw(st.lists(_rounds, max_size=2))),
        money=Money(5000, 800, 1.5, draw(st.none() | st.integers(100, 5000))),
        thief=Thief(draw(st.integers(1, 300)), draw(st.integers(0, 900))),
    )


def _times(sample: Sample) -> tuple[float, ...]:
    return sample.first_bar_s, sample.both_bars_s, sample.every_reader_s, sample.settled_s, sample.alone_s


def _none_later(better: Sample, worse: Sample) -> bool:
    return all(sooner <= later + 1e-6 for sooner, later in zip(_times(better), _times(worse), strict=True))


@given(_plans(), _rounds, SEEDS)
def test_another_courier_makes_nothing_later(plan: Plan, courier: Courier, seed: int) -> None:
    more = replace(plan, couriers=(*plan.couriers, courier))
    assert _none_later(clone_noticed(more, seed), clone_noticed(plan, seed))


@given(_plans(), st.lists(st.sampled_from(NAMES), min_size=2, unique=True).map(tuple), SEEDS)
def test_another_network_makes_nothing_later(plan: Plan, network: tuple[str, ...], seed: int) -> None:
    more = replace(plan, networks=(*plan.networks, network))
    assert _none_later(clone_noticed(more, seed), clone_noticed(plan, seed))


@given(_plans(), st.sampled_from(NAMES), _outages, st.floats(0.0, 1.0), st.booleans(), SEEDS)
def test_longer_outages_make_nothing_earlier(
    plan: Plan, name: str, outage: Outage, part: float, black: bool, seed: int
) -> None:
    shorter = replace(outage, down_s=max(1.0, outage.down_s * part))

    def having(found: Outage | None) -> Sample:
        zones = [
            zone if zone.name != name else replace(zone, blackout=found) if black else replace(zone, outage=found)
            for zone in plan.zones
        ]
        return clone_noticed(replace(plan, zones=tuple(zones)), seed)

    assert _none_later(having(shorter), having(outage))
    assert _none_later(having(None), having(shorter))


@given(_plans(), SEEDS)
def test_bars_refuse_one_after_the_other_and_nobody_spends_more_than_there_is(plan: Plan, seed: int) -> None:
    sample = clone_noticed(plan, seed)
    assert 0 <= sample.first_bar_s <= sample.both_bars_s <= sample.every_reader_s
    assert 0 <= sample.spent_minor <= plan.money.balance_minor
    assert sample.spent_minor == min(sample.taps * plan.money.most_per_tap_minor, plan.money.balance_minor)
    assert (sample.taps == 0) <= sample.refused_at_once
    assert sample.alone_s <= sample.settled_s or plan.zone(sample.first_zone).gateway


@settings(max_examples=40)
@given(_plans(), st.sampled_from(NAMES), st.floats(0.0, 3600.0), SEEDS)
def test_earliest_arrivals_are_those_of_relaxing_over_every_contact(
    plan: Plan, zone: str, at_s: float, seed: int
) -> None:
    world = World(plan, seed)
    origin = world.zones.index(zone)
    known = [inf] * len(world._edges)
    known[origin] = _handed_over(_joint(world._local[origin]), at_s)
    contacts = [(node, other, _joint(needed)) for node, edges in enumerate(world._edges) for other, needed in edges]
    changed = True
    while changed:
        changed = False
        for node, other, joint in contacts:
            there = _handed_over(joint, known[node])
            if there < known[other]:
                known[other], changed = there, True
    found = world.spread(zone, at_s)
    near = [(slow, fast) for slow, fast in zip(known, found, strict=True) if min(slow, fast) < END_S - 1000]
    assert all(slow == pytest.approx(fast) for slow, fast in near)


def _joint(needed: Sequence[UpTimes]) -> list[tuple[float, float]]:
    """All intervals in which everything needed is up, by cutting whole lists of intervals with each other."""
    joint = [(-inf, inf)]
    for times in needed:
        cut = [(max(start, low), min(end, high)) for low, high in _intervals(times) for start, end in joint]
        joint = sorted((start, end) for start, end in cut if start < end)
    return joint


def _intervals(times: UpTimes) -> list[tuple[float, float]]:
    found = [times.interval(0.0)]
    while found[-1][1] < END_S:
        found.append(times.interval(found[-1][1]))
    return list(takewhile(lambda interval: interval[0] < inf, found))


def _handed_over(joint: Sequence[tuple[float, float]], at_s: float) -> float:
    ready = (max(at_s, start + MEETING_S) for start, end in joint if max(at_s, start + MEETING_S) < end)
    return min(ready, default=inf) + GOSSIP_S


# -- The same everywhere -----------------------------------------------------------------------------------------------

_PROGRAM: Final = """
import json
from mesh.planning.outcome import as_json, find_out
from mesh.planning.plan_file import EXAMPLE, read_plan
plan = read_plan("example", EXAMPLE.encode()).written.plan()
print(json.dumps(as_json(find_out(plan, 7, 200))))
"""
_DIGEST: Final = "8f165a3b0399771682fc64ddc6f589fd956c34fd007e218f882a629f199967b5"
"""SHA-256 of the figures of the example's seed 7; the same on Python 3.11 and 3.12."""


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_same_seed_gives_the_same_figures_in_every_process(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TREE)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, env=environment, cwd=TREE
    )
    figures = json.loads(done.stdout)
    assert figures["samples"] == 200
    assert hashlib.sha256(done.stdout.encode()).hexdigest() == _DIGEST


def test_another_seed_gives_other_figures() -> None:
    courier = Courier(("north", "south"), 1200.0, 60.0)
    plan = Plan((Zone("north", 2), Zone("south", 2)), (), (courier,), Money(5000, 800, 1.5), Thief(60.0, 0.0))
    assert clone_noticed(plan, 1) == clone_noticed(plan, 1)
    assert clone_noticed(plan, 1) != clone_noticed(plan, 2)
