"""Bad company, one kind at a time: every check of the simulator holds, and what the design promises about each happens.

A seed that fails is played again with the scenario that :func:`scenario_with` makes of the kind's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from mesh.core.chain import KnownHead
from mesh.core.entry import decode_entry
from mesh.core.fork import check_fork_proof
from mesh.core.frontier import LogState, Segment
from mesh.core.kinds import Kind, Lane
from mesh.limits import BRANCHES_PER_LOG_MAX
from mesh.testing.device import Device
from mesh.testing.process import Process
from mesh.testing.run import Outcome, play
from mesh.testing.scenario import Adversary, Scenario, parse_scenario
from mesh.testing.world import World

SEEDS = (1, 2)
WITH_ONE = """
name = "bad-company"
duration_s = 60
settle_s = 60
real_signatures = 1
[[zones]]
name = "north"
readers = 2
tills = 1
gateways = 1
[[zones]]
name = "south"
readers = 1
tills = 1
[people]
count = 16
taps_per_s = 1.5
[adversaries]
"""
EVERY_KIND = "\n".join(f"{kind.value} = 1" for kind in Adversary)

pytestmark = pytest.mark.parametrize("seed", SEEDS)


def scenario_with(kind: Adversary) -> Scenario:
    return parse_scenario(f"{WITH_ONE}{kind.value} = 1\n")


@cache
def evening_with(kind: Adversary, seed: int) -> World:
    """A venue after an evening with one of these, which broke no rule and did what it came for."""
    worlds: list[World] = []
    outcome = play(scenario_with(kind), seed, before=worlds.append)
    assert outcome.violations == ()
    assert outcome.fired[kind.value] > 0
    return worlds[0]


def processes(world: World) -> Iterator[Process]:
    """The honest devices' programs as they ran at the end; at least six."""
    running = [device.process for device in world.honest if device.process is not None]
    assert len(running) >= 6
    yield from running


def crooked(world: World) -> Device:
    ((_, enrolled),) = world.crooked
    return world.devices[enrolled.certificate.name]


def logs_of(process: Process, author: Device) -> dict[bytes, LogState]:
    serial = author.certificate.serial
    return {i: log for i, log in process.node.frontier.logs.items() if log.genesis.certificate.serial == serial}


def forks_proven(process: Process) -> set[bytes]:
    """The logs that fork proofs convict which are held here, each checked from the venue's root alone."""
    proven = set()
    for log in process.node.frontier.logs.values():
        if log.genesis.lane is Lane.CONTROL:
            store = process.store_of(log.log_id)
            for branch in log.branches.values():
                for data in store.read_entries(log.log_id, Segment(branch.number, branch.from_seq, branch.head.seq)):
                    entry = decode_entry(data)
                    if entry.kind == Kind.FORK_PROOF:
                        proven.add(check_fork_proof(entry.body, process.root).log_id)
    return proven


@pytest.mark.proves("B2")
def test_equivocator_is_convicted_at_every_device_and_both_its_branches_are_kept(seed: int) -> None:
    world = evening_with(Adversary.EQUIVOCATOR, seed)
    for process in processes(world):
        forked = [log for log in logs_of(process, crooked(world)).values() if len(log.heads()) > 1]
        assert forked, "somebody showed it the other branch"
        for log in forked:
            assert log.log_id in process.node.contested_from
            assert log.log_id in forks_proven(process)


@pytest.mark.proves("B1", "M4")
def test_forged_tap_holds_the_card_everywhere_and_names_the_forger(seed: int) -> None:
    world = evening_with(Adversary.FORGER, seed)
    for process in processes(world):
        conflicts = process.cards.all_conflicts()
        assert conflicts
        for conflict in conflicts:
            assert crooked(world).name in {process.name_of(tap.log_id) for tap in conflict.taps}
            assert process.cards.conflicts(conflict.card) and conflict.card in process.proven
    assert world.truth.declined["held"] + world.truth.declined["older_state"] > 0


def test_liar_about_its_frontier_keeps_nothing_from_anybody(seed: int) -> None:
    world = evening_with(Adversary.FRONTIER_LIAR, seed)
    assert world.fired["frontier_liar"] > 20
    assert world.together_at is not None
    assert len({process.node.frontier.digest() for process in processes(world)}) == 1


def test_announcer_that_never_serves_delays_and_loses_nothing(seed: int) -> None:
    world = evening_with(Adversary.SILENT_ANNOUNCER, seed)
    assert world.together_at is not None
    for process in processes(world):
        assert logs_of(process, crooked(world)) == {}, "it served its own log to somebody"


def test_flooder_is_hung_up_on_and_costs_nobody_a_sale(seed: int) -> None:
    world = evening_with(Adversary.FLOODER, seed)
    flooder = crooked(world).name
    reasons = [reason for _, blamed, reason in world.truth.blamed if blamed == flooder]
    assert any("wants open at once" in reason for reason in reasons)
    assert world.truth.refused_for_network == 0


@pytest.mark.proves("B2")
def test_brancher_fills_its_own_room_and_no_other(seed: int) -> None:
    world = evening_with(Adversary.BRANCHER, seed)
    overflowing = world.overflowing()
    assert overflowing
    for process in processes(world):
        for log_id in overflowing & process.node.frontier.logs.keys():
            assert log_id in process.node.contested_from
            assert len(process.node.frontier.logs[log_id].branches) <= BRANCHES_PER_LOG_MAX


@pytest.mark.proves("M7")
def test_revoked_device_that_goes_on_is_out_everywhere_and_its_later_sales_count_nowhere(seed: int) -> None:
    world = evening_with(Adversary.REVOKED, seed)
    gone = crooked(world)
    for process in processes(world):
        (statement,) = process.node.revocations.holding(gone.certificate.serial)
        assert gone.certificate.serial not in {peer.serial for peer in process.node.links.values()}
        logs = logs_of(process, gone)
        for fact in process.cards.counted():
            log_id = process.cards.log_ids()[fact.log]
            assert log_id not in logs or fact.seq <= statement.cut[log_id].seq
    sold = [paid for paid in world.truth.paid.values() if paid.device == gone.name]
    assert sold, "it sold nothing at all"


def test_restored_backup_convicts_nobody_and_gets_back_what_others_held(seed: int) -> None:
    world = evening_with(Adversary.RESTORED_BACKUP, seed)
    restored = crooked(world)
    assert restored.is_honest and restored.lives.boots >= 2
    for process in processes(world):
        assert len([log for log in logs_of(process, restored).values() if log.genesis.lane is Lane.MONEY]) >= 2
        assert process.node.contested_from == {}
    assert len({process.node.frontier.digest() for process in processes(world)}) == 1


def test_card_storage_that_runs_twice_opens_two_logs_behind_one_and_convicts_nobody(seed: int) -> None:
    world = evening_with(Adversary.CLONED_CARD_STORAGE, seed)
    assert len([device for device in world.honest if device.certificate == crooked(world).certificate]) == 2
    for process in processes(world):
        assert process.node.contested_from == {}
        named: list[KnownHead] = [
            head for log in logs_of(process, crooked(world)).values() for head in log.genesis.known_heads
        ]
        assert named, "the copy knows of the logs before it"


def test_gateway_that_withholds_keeps_no_sale_from_the_ledger(seed: int) -> None:
    world = evening_with(Adversary.WITHHOLDING_GATEWAY, seed)
    dishonest = world.gateways[crooked(world).name]
    honest = world.running_gateways()
    assert dishonest not in honest
    assert sum(gateway.remaining() for gateway in honest) == 0


def test_all_of_them_together_break_no_rule(seed: int) -> None:
    outcome: Outcome = play(parse_scenario(WITH_ONE + EVERY_KIND), seed)
    assert outcome.violations == ()
    assert {kind.value for kind in Adversary} <= outcome.fired.keys()
