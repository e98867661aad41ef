"""Entries spread on trees that form, break and form again: everybody gets everything, and in a quiet mesh once."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.kinds import Lane, Role
from mesh.core.messages import Quiet, RunMessage
from tests.factory import LogWriter, Venue
from tests.harness import Mote, Puppet, World, runs_of

VENUE: Final = Venue("Trees")
BARS: Final = [VENUE.device(f"bar {number}", Role.READER) for number in range(7)]
ROGUE: Final = VENUE.device("rogue", Role.READER)
KIND: Final = 99
SEEDS = st.integers(0, 2**32)


def graph(world: World, motes: list[Mote], extra: int) -> None:
    """A random tree over all of them, and some links more."""
    for number in range(1, len(motes)):
        world.connect(motes[number], motes[world.random.randrange(number)])
    linked = {frozenset((id(end.owner), id(end.other.owner))) for end in world.ends if end.other is not None}
    free = [pair for pair in combinations(motes, 2) if frozenset(map(id, pair)) not in linked]
    for one, other in world.random.sample(free, min(extra, len(free))):
        world.connect(one, other)


def said(world: World, kind: type[object]) -> int:
    return sum(each is kind for end in world.ends for each in end.sent)


@pytest.mark.proves("M3")
@settings(max_examples=15)
@given(SEEDS)
def test_entries_reach_everybody_over_links_that_come_and_go(seed: int) -> None:
    world = World(seed)
    rng = world.random
    motes = [world.join(device) for device in BARS]
    logs = [
        mote.open_log(lane) for mote, lane in zip(motes, (Lane.MONEY, Lane.CONTROL, Lane.TELEMETRY) * 3, strict=False)
    ]
    graph(world, motes, extra=rng.randint(0, 6))
    branches = rogue_branches()
    for _ in range(40):
        number = rng.randrange(len(motes))
        motes[number].append(logs[number], KIND, rng.randbytes(rng.randint(0, 60)))
        world.run(rng.randint(0, 60))
        if rng.random() < 0.15 and world.ends:
            world.cut(rng.choice(world.ends))
        if rng.random() < 0.15:
            world.connect(*rng.sample(motes, 2))
        if rng.random() < 0.1:
            visit(world, rng.choice(motes), rng.choice(branches))
    graph(world, motes, extra=2)
    world.heal()
    assert len({mote.node.frontier.digest() for mote in motes}) == 1
    assert all(mote.store.everything() == world.written for mote in motes)
    assert [close for mote in motes for close in mote.closed if close.blame_peer] == []
    assert not any(mote.node.pending_logs for mote in motes)


def rogue_branches() -> list[LogWriter]:
    log = LogWriter(ROGUE)
    for number in range(3):
        log.append(KIND, b"%d" % number)
    fork = log.fork(2)
    fork.append(KIND, b"another story")
    return [log, fork]


def visit(world: World, mote: Mote, log: LogWriter) -> None:
    """A rogue author tells one of its stories to somebody, and goes."""
    puppet = Puppet(mote, ROGUE)
    for run in runs_of(log):
        puppet.send_run(run)
        world.written.update(run.entries)
    puppet.leave()


@settings(max_examples=25)
@given(SEEDS, st.integers(0, 8))
def test_in_a_quiet_mesh_each_entry_enters_each_node_once(seed: int, extra: int) -> None:
    """The first entries show who has what twice; from then on a log has a tree, whatever the graph is."""
    world = World(seed)
    motes = [world.join(device) for device in BARS]
    graph(world, motes, extra)
    author = world.random.choice(motes)
    log = author.open_log()
    for _ in range(2 * len(motes)):
        author.append(log, KIND, b"a tree is found")
        world.settle()
    assert len({mote.node.frontier.digest() for mote in motes}) == 1
    before, asked = said(world, RunMessage), said(world, Quiet)
    for _ in range(5):
        author.append(log, KIND, b"on the tree")
        world.settle()
    assert len({mote.node.frontier.digest() for mote in motes}) == 1
    assert said(world, RunMessage) - before == 5 * (len(motes) - 1)
    assert said(world, Quiet) == asked
    assert asked <= 4 * len(world.ends)
