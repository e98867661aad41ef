"""Somebody else signs with this device's own key: their branch is evidence, and this device goes on selling."""

from __future__ import annotations

from pathlib import Path

import trio

from mesh.core.entry import entry_id
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import Announce
from mesh.shell.device import Device, open_device
from mesh.views.tap_entry import AbortBody
from tests.factory import LogWriter, Venue
from tests.hostile.scene import OWN_ENTRIES, ZONE, Scene, runs, scene


async def stolen(at: Scene, seq: int, entries: int) -> LogWriter:
    """A log that begins like the victim's own and leaves it at `seq`, signed with the victim's key."""
    (log,) = at.victim.node.frontier.logs.values()
    held = await at.victim.read_entries(log.log_id, log.path(log.branches[0], 0, log.branches[0].head.seq))
    rival = LogWriter(Venue().device("victim", Role.READER))
    rival.log_id = log.log_id
    rival.entries, rival.ids = held[:seq], [entry_id(data) for data in held[:seq]]
    for number in range(entries):
        rival.append(Kind.ABORT, AbortBody(bytes([255, number] * 8), bytes(32)).encode())
    return rival


async def bring(at: Scene, rival: LogWriter, seq: int) -> None:
    """A blameless courier that met the thief offers the branch, and the victim takes it."""
    courier = await at.greeted(at.venue.device("courier", Role.COURIER))
    await courier.say_messages([Announce(((rival.log_id, Position(rival.head_seq, rival.head_id)),))])
    await courier.hear_want(rival.log_id)
    await courier.say_messages(runs(rival, first_seq=seq))
    while Position(rival.head_seq, rival.head_id) not in heads(at.victim, rival.log_id):
        await trio.lowlevel.checkpoint()


async def until_contested(device: Device, log_id: bytes, seq: int) -> None:
    while device.node.contested_from.get(log_id) != seq:
        await trio.lowlevel.checkpoint()


def heads(device: Device, log_id: bytes) -> list[Position]:
    return device.node.frontier.logs[log_id].heads()


async def test_branch_signed_with_ones_own_key_is_kept_on_disk_and_passed_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        rival = await stolen(at, seq=2, entries=4)
        await bring(at, rival, seq=2)
        await until_contested(at.victim, rival.log_id, 2)
        appended = await at.victim.append(Lane.MONEY, Kind.ABORT, AbortBody(bytes(16), bytes(32)).encode())
        assert appended.seq == OWN_ENTRIES
        while heads(at.neighbour, rival.log_id) != heads(at.victim, rival.log_id):
            await trio.lowlevel.checkpoint()
        both = heads(at.victim, rival.log_id)
        assert both == sorted([Position(rival.head_seq, rival.head_id), Position(appended.seq, appended.id)])
        # Read back while it is open: this is what a proof, a want and `log show` do.
        assert rival.entries[3] in await at.victim.read_entry(rival.log_id, 3)
    async with open_device(tmp_path / "victim", zone=ZONE) as again:
        assert heads(again, rival.log_id) == both
        assert again.node.contested_from[rival.log_id] == 2
        assert rival.entries[5] in await again.read_entry(rival.log_id, 5)


async def test_branch_that_goes_on_from_ones_own_head_never_takes_its_place(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        rival = await stolen(at, seq=OWN_ENTRIES, entries=2)
        await bring(at, rival, seq=OWN_ENTRIES)
        while heads(at.neighbour, rival.log_id) != heads(at.victim, rival.log_id):
            await trio.lowlevel.checkpoint()
        assert not at.victim.node.contested_from, "nobody has signed twice yet"
        appended = await at.victim.append(Lane.MONEY, Kind.ABORT, AbortBody(bytes(16), bytes(32)).encode())
        assert appended.seq == OWN_ENTRIES
        for device in (at.victim, at.neighbour):
            await until_contested(device, rival.log_id, OWN_ENTRIES)
        both = sorted([Position(rival.head_seq, rival.head_id), Position(appended.seq, appended.id)])
        while not heads(at.neighbour, rival.log_id) == heads(at.victim, rival.log_id) == both:
            await trio.lowlevel.checkpoint()
    async with open_device(tmp_path / "victim", zone=ZONE) as again:
        assert heads(again, rival.log_id) == both
        assert again.node.contested_from[rival.log_id] == OWN_ENTRIES


async def test_branch_signed_with_ones_own_key_that_comes_end_first_is_joined_and_kept(tmp_path: Path) -> None:
    """Its pieces were joined in replica.db, which has no such log: the bar stopped, and again at each start."""
    async with scene(tmp_path) as at:
        rival = await stolen(at, seq=2, entries=4)
        courier = await at.greeted(at.venue.device("courier", Role.COURIER))
        await courier.say_messages([Announce(((rival.log_id, Position(rival.head_seq, rival.head_id)),))])
        await courier.hear_want(rival.log_id)
        await courier.say_messages(runs(rival, first_seq=5))
        while not at.victim.node.frontier.logs[rival.log_id].islands():
            await trio.lowlevel.checkpoint()
        del rival.entries[5:]
        await courier.say_messages(runs(rival, first_seq=2))
        await until_contested(at.victim, rival.log_id, 2)
        while at.victim.node.frontier.logs[rival.log_id].islands():
            await trio.lowlevel.checkpoint()
        appended = await at.victim.append(Lane.MONEY, Kind.ABORT, AbortBody(bytes(16), bytes(32)).encode())
        both = sorted([Position(5, rival.ids[5]), Position(appended.seq, appended.id)])
        assert heads(at.victim, rival.log_id) == both
        assert len(await at.victim.read_entry(rival.log_id, 3)) == 2
    async with open_device(tmp_path / "victim", zone=ZONE) as again:
        assert heads(again, rival.log_id) == both
