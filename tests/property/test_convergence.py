"""Nodes that can reach each other come to hold the same, whatever order, cut, fork or missing beginning was on the way.

The oracle is as plain as can be: the set of all entries that anybody wrote. A failure names its seed; `World(seed)`
plays it again.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.chain import Run
from mesh.core.entry import decode_entry
from mesh.core.kinds import Lane, Role
from mesh.core.messages import Announce, Digest, Hello
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.harness import Mote, Puppet, World, runs_of

VENUE: Final = Venue("Convergence")
BARS: Final = [VENUE.device(f"bar {number}", Role.READER, Role.TILL) for number in range(4)]
ROGUE: Final = VENUE.device("rogue", Role.READER)
TELEMETRY_KIND: Final = 99
SEEDS = st.integers(0, 2**32)


def first_forks(written: set[bytes]) -> dict[bytes, int]:
    """For each forked log the smallest seq at which two entries exist."""
    ids: defaultdict[tuple[bytes, int], set[bytes]] = defaultdict(set)
    for data in written:
        entry = decode_entry(data)
        ids[entry.log_id, entry.seq].add(entry.id)
    forks: dict[bytes, int] = {}
    for (log_id, seq), different in ids.items():
        if len(different) > 1:
            forks[log_id] = min(seq, forks.get(log_id, seq))
    return forks


def push(mote: Mote, author: VenueDevice, run: Run) -> bool:
    """The author comes by, pushes one run of its log and goes; False if it was thrown out."""
    puppet = Puppet(mote, author)
    puppet.send_run(run)
    taken = puppet.connected
    puppet.leave()
    if taken:
        mote.world.written.update(run.entries)
    return taken


def assert_converged(world: World) -> None:
    forks = first_forks(world.written)
    for mote in world.motes:
        assert mote.store.everything() == world.written
        assert mote.contested == forks
        assert mote.node.contested_from == forks
        assert [close for close in mote.closed if close.blame_peer] == []
        assert all(not log.islands() for log in mote.node.frontier.logs.values())
    assert len({mote.node.frontier.digest() for mote in world.motes}) == 1
    proven = {proof.log_id for mote in world.motes for proof in mote.proofs}
    assert proven == set(forks)


def disturb(world: World) -> None:
    """What happens to links by chance."""
    rng = world.random
    world.run(rng.randint(0, 20))
    if rng.random() < 0.1 and world.ends:
        world.cut(rng.choice(world.ends))
    if rng.random() < 0.1:
        world.connect(*rng.sample(world.motes, 2))


def line_up(world: World) -> None:
    """Every device can reach every other one, some only through the others."""
    for one, other in pairwise(world.motes):
        world.connect(one, other)


@pytest.mark.proves("M3")
@pytest.mark.proves("S1.15")
@given(SEEDS)
def test_honest_logs_become_equal_at_every_node(seed: int) -> None:
    world = World(seed)
    motes = [world.join(device) for device in BARS]
    logs = [mote.open_log(lane) for mote, lane in zip(motes, (Lane.MONEY, Lane.TELEMETRY) * 2, strict=True)]
    line_up(world)
    for _ in range(20):
        disturb(world)
        number = world.random.randrange(len(motes))
        motes[number].append(logs[number], TELEMETRY_KIND, world.random.randbytes(world.random.randint(0, 40)))
    line_up(world)
    world.heal()
    assert_converged(world)


@pytest.mark.proves("B2")
@given(SEEDS)
def test_forks_and_pieces_without_beginning_become_equal_proven_and_contested_everywhere(seed: int) -> None:
    """A rogue pushes pieces of up to four branches, in any order, to anyone; forks are of equal height or longer."""
    world = World(seed)
    rng = world.random
    motes = [world.join(device) for device in BARS]
    logs = [mote.open_log() for mote in motes]
    line_up(world)
    branches = grow_branches(world)
    for _ in range(20):
        disturb(world)
        number = rng.randrange(len(motes))
        motes[number].append(logs[number], TELEMETRY_KIND, b"honest")
        log, mote = rng.choice(branches), rng.choice(motes)
        first = rng.randrange(len(log.entries)) if log.log_id in mote.node.frontier.logs else 0
        (run,) = runs_of(log, first, rng.randrange(first, len(log.entries)))
        assert push(mote, ROGUE, run)
    for log in branches:
        for run in runs_of(log):
            assert push(rng.choice(motes), ROGUE, run)
    line_up(world)
    world.heal()
    assert_converged(world)


def grow_branches(world: World) -> list[LogWriter]:
    rng = world.random
    log = LogWriter(ROGUE, number=rng.randrange(10**6))
    for _ in range(rng.randint(0, 8)):
        log.append(TELEMETRY_KIND, b"shared")
    branches = [log]
    for _ in range(rng.randint(0, 3)):
        origin = rng.choice(branches)
        branches.append(origin.fork(rng.randint(1, len(origin.entries))))
        for number, branch in enumerate(branches):
            for _ in range(rng.randint(1, 3)):
                branch.append(TELEMETRY_KIND, bytes([number]))
    return branches


@pytest.mark.proves("B2")
@given(SEEDS)
def test_key_that_was_copied_and_signs_on_at_two_places_is_proven_everywhere_and_stops_nobody(seed: int) -> None:
    world = World(seed)
    rng = world.random
    motes = [world.join(device) for device in (*BARS[:3], BARS[2])]
    logs = [mote.open_log() for mote in motes[:3]]
    logs.append(logs[2].fork())
    motes[3].own(logs[3])
    line_up(world)
    for _ in range(16):
        disturb(world)
        number = rng.randrange(4)
        motes[number].append(logs[number], TELEMETRY_KIND, bytes([number]))
    line_up(world)
    world.heal()
    assert_converged(world)


@pytest.mark.proves("M4")
@given(SEEDS)
def test_wristband_cloned_at_two_bars_is_held_at_every_node_that_has_both_taps(seed: int) -> None:
    world = World(seed)
    motes = [world.join(device) for device in BARS]
    logs = [mote.open_log() for mote in motes]
    band = Wristband(VENUE, seed)
    band.issue(logs[0], 2000)
    clone = band.clone()
    band.sell(logs[1], 650)
    clone.sell(logs[2], 400)
    for mote, log in zip(motes[:3], logs[:3], strict=True):
        mote.own(log, 1)
    assert not any(mote.cards.conflicts(band.card) for mote in motes)
    line_up(world)
    for _ in range(5):
        disturb(world)
    line_up(world)
    world.heal()
    assert_converged(world)
    for mote in motes:
        (conflict,) = mote.cards.conflicts(band.card)
        assert {tap.log_id for tap in conflict.taps} == {logs[1].log_id, logs[2].log_id}
        assert (conflict.at_risk_minor, mote.cards.account(band.card).balance_minor) == (650, 950)
        assert mote.surfaced == [band.card]


@given(SEEDS)
def test_nodes_that_hold_the_same_exchange_nothing_but_hellos_and_digests(seed: int) -> None:
    world = World(seed)
    one, other = world.join(BARS[0]), world.join(BARS[1])
    for mote in (one, other):
        mote.append(mote.open_log(), TELEMETRY_KIND, b"")
    world.connect(one, other)
    world.heal()
    near = world.connect(one, other)
    world.heal()
    assert near.other is not None
    for end in (near, near.other):
        assert end.sent[0] is Hello
        assert set(end.sent) <= {Hello, Digest, Announce}
        assert Announce not in end.sent


@pytest.mark.proves("B2")
@given(SEEDS)
def test_fork_right_above_a_bad_signature_travels_on_and_nobody_who_relays_it_is_blamed(seed: int) -> None:
    """The author vouches for a bad signature with two different entries: no run may end between them."""
    world = World(seed)
    motes = [world.join(device) for device in BARS]
    log = LogWriter(ROGUE, number=seed)
    for _ in range(world.random.randint(0, 3)):
        log.append(TELEMETRY_KIND, b"shared")
    log.append_forged(TELEMETRY_KIND, b"forged")
    branch = log.fork()
    for version in (log, branch):
        version.append(TELEMETRY_KIND, b"vouches" if version is log else b"also vouches")
        assert push(motes[0], ROGUE, runs_of(version)[0])
        world.run(10)
    line_up(world)
    world.heal()
    assert_converged(world)
    world.forged[log.log_id] = [log.head_seq - 1]
    for mote in motes:
        mote.verify_everything()
        assert mote.contested == {log.log_id: log.head_seq - 1}
