"""Readers die with their disks in zones that only couriers join; what is told of them is held against the disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from mesh.core.chain import Run, check_run, parse_genesis, split_run
from mesh.core.kinds import Kind, Lane
from mesh.testing.checks import connected
from mesh.testing.device import Device
from mesh.testing.packaged import find_scenario
from mesh.testing.run import play
from mesh.testing.scenario import Fault, Scenario
from mesh.testing.world import World
from mesh.views.card_record import RECORD_BYTES, CardRecord, decode_record
from mesh.views.cards import CardsView
from mesh.views.devices import DevicesView
from mesh.views.recovered import RecoveredView
from mesh.views.tap_entry import TapBody, decode_tap

SEEDS: Final = range(1, 13)
LOST: Final = 3
"""Readers that die in each seed."""


@dataclass
class Told:
    """What came of the lost readers of some seeds."""

    held: int = 0
    shown: int = 0
    together: int = 0
    unseen: int = 0
    wrong: list[str] = field(default_factory=list)


def scenario() -> Scenario:
    """Couriers only, nobody steals, guests walk from bar to bar, each bar is alone, and three readers die."""
    packaged = find_scenario("couriers-only")
    north, forest, lake = packaged.zones
    zones = (replace(north, tills=2), replace(forest, readers=1, tills=0), replace(lake, readers=1, tills=0))
    faults = {Fault.READER_LOST.value: LOST, Fault.WALK_AWAY.value: 2, Fault.REPLICA_LOST.value: 1}
    people = replace(packaged.people, moves=0.4, taps_per_s=1.5)
    return replace(packaged, faults=faults, zones=zones, people=people, real_signatures=1.0, duration_s=120.0)


def runs_of(device: Device) -> Iterator[tuple[bytes, Run]]:
    """The genesis of each log that a device holds, with each piece of it."""
    for store in (device.storage.own, device.storage.replica):
        for log in store.logs():
            for row in store.stored_runs(log.log_id):
                entries = split_run(row.last_seq - row.first_seq + 1, row.blob)
                yield log.genesis, check_run(log.log_id, entries)


def view_at(world: World, device: Device) -> RecoveredView:
    """What this device can tell."""
    root = world.venue.root
    cards, devices = CardsView(), DevicesView(root)
    view = RecoveredView(cards, devices, root)
    for other in world.devices.values():
        devices.add(other.certificate)
    for data, run in runs_of(device):
        genesis = parse_genesis(data, root)
        cards.open_log(run.log_id, genesis)
        view.open_log(run.log_id, genesis)
        if genesis.lane is Lane.MONEY:
            cards.fold(run)
        view.fold(run)
    return view


def taps_in(device: Device, *, own: bool) -> dict[bytes, TapBody]:
    """The taps that a device holds, or only those that it signed, by entry id."""
    logs = device.storage.own.log_ids()
    return {
        identifier: decode_tap(fields[6])
        for _, run in runs_of(device)
        if not own or run.log_id in logs
        for identifier, fields in zip(run.ids, run.fields, strict=True)
        if fields[5] == Kind.TAP
    }


def written(tap: TapBody) -> CardRecord:
    return decode_record(tap.written[:RECORD_BYTES])


def examine(world: World, told: Told) -> None:
    """Hold what a survivor tells of each dead reader against the dead reader's own disk."""
    survivor = next(device for device in connected(world) if device.sells)
    view, survived = view_at(world, survivor), taps_in(survivor, own=False)
    newest: dict[bytes, int] = {}
    for tap in survived.values():
        newest[written(tap).card] = max(written(tap).seq, newest.get(written(tap).card, 0))
    for dead in (device for device in world.devices.values() if device.gone):
        gone = {entry: tap for entry, tap in taps_in(dead, own=True).items() if entry not in survived}
        left = view.recover({dead.certificate.serial})
        told.held += sum(held.taps for held in left.held)
        truth = {(written(tap).card, written(tap).seq): tap for tap in gone.values()}
        for one in left.shown:
            really = truth.get((one.card, one.gap.last_seq))
            told.shown += 1
            if really is not None and really.amount_minor != (one.gap.spent_minor or one.gap.credited_minor or 0):
                told.wrong.append(f"{really.amount_minor} was told as {one.gap}")
        told.together += len(left.together)
        covered = {
            (one.card, write)
            for one in (*left.shown, *left.together, *left.perhaps, *left.given_up)
            for write in range(one.gap.first_seq, one.gap.last_seq + 1)
        }
        for place in truth.keys() - covered:
            told.unseen += 1
            if place[1] < newest.get(place[0], 0):
                told.wrong.append(f"write {place[1]} of {place[0].hex()} was seen again and is not told")


@pytest.mark.proves("B6", "B8")
def test_what_survivors_tell_of_dead_readers_is_what_stands_on_their_disks() -> None:
    told = Told()
    for seed in SEEDS:
        outcome = play(scenario(), seed, after=lambda world: examine(world, told))
        assert outcome.holds, outcome.violations
        assert outcome.fired[Fault.READER_LOST.value] == LOST
    assert told.wrong == []
    assert told.held > 200
    assert told.shown > 3
    assert told.unseen > 0
