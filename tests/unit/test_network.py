"""The network of a device over streams in memory: who is let in, who is turned away, and that nobody is blamed."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.lowlevel
import trio.testing

from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Role
from mesh.core.overlay import LINKS_WANTED
from mesh.shell.carrier import Listening
from mesh.shell.device import open_device
from mesh.shell.discovery import Announcement, Notice, PeerFound
from mesh.shell.network import Endpoint, Network, Settings
from tests.factory import Venue

MOST = 2 * LINKS_WANTED
PATIENCE_S = 60.0


class Door(trio.abc.Listener[trio.abc.Stream]):
    """Where streams to one device come in."""

    def __init__(self) -> None:
        self.knock, self._opens = trio.open_memory_channel[trio.abc.Stream](math.inf)

    async def accept(self) -> trio.abc.Stream:
        return await self._opens.receive()

    async def aclose(self) -> None:
        self._opens.close()
        await trio.lowlevel.checkpoint()


@dataclass
class Room:
    """Everybody's doors, and who is at the other end of each stream."""

    doors: dict[str, Door] = field(default_factory=dict)
    certificates: dict[str, DeviceCertificate] = field(default_factory=dict)
    peers: dict[trio.abc.Stream, DeviceCertificate] = field(default_factory=dict)


@dataclass
class Wire:
    """Implements `mesh.shell.carrier.Carrier` for one device that hears of some others."""

    room: Room
    own: DeviceCertificate
    hears: Sequence[DeviceCertificate]

    async def listen(self, host: str, port: int) -> Listening:
        await trio.lowlevel.checkpoint()
        door = self.room.doors[self.own.node] = Door()
        return Listening([door], 1)

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if host not in self.room.doors:
            raise ConnectionRefusedError(f"nobody is at {host}")
        here, there = trio.testing.memory_stream_pair()
        self.room.peers[here], self.room.peers[there] = self.room.certificates[host], self.own
        try:
            self.room.doors[host].knock.send_nowait(there)
        except trio.BrokenResourceError as error:
            raise ConnectionRefusedError(f"nobody is at {host} any more") from error
        return here

    async def authenticate(self, stream: trio.abc.Stream) -> DeviceCertificate:
        await trio.lowlevel.checkpoint()
        return self.room.peers[stream]

    @asynccontextmanager
    async def discovery(
        self, own: Announcement, interfaces: Sequence[str] | None
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Notice]]:
        send, receive = trio.open_memory_channel[Notice](math.inf)
        for peer in self.hears:
            send.send_nowait(PeerFound(peer.name, (peer.node,), 1, own.zone, peer.node))
        with send, receive:
            yield receive


@dataclass
class Running:
    """One device that takes part in the mesh, until it is stopped."""

    network: Network
    stop: trio.CancelScope


async def _run(
    directory: Path, carrier: Wire, said: list[str], task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.CancelScope() as scope:
        async with open_device(directory, zone="north") as device:
            network = Network(device, Settings(Endpoint("here", 0)), said.append, carrier)
            task_status.started(Running(network, scope))
            await network.run()


async def test_peer_for_whom_there_is_no_room_is_told_so_blamed_for_nothing_and_let_in_when_there_is(
    tmp_path: Path,
) -> None:
    venue, room = Venue(), Room()
    hub, *bars = (venue.device(f"bar {number}", Role.READER) for number in range(MOST + 2))
    room.certificates = {device.certificate.node: device.certificate for device in (hub, *bars)}
    said: list[str] = []
    running: list[Running] = []

    def failures(network: Network) -> int:
        assert network._company is not None
        known = network._company.overlay._candidates.get(hub.certificate.node)
        return 0 if known is None else known.failures

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for device in (hub, *bars):
                directory = device.write_directory(tmp_path / device.certificate.name)
                hears = [bar.certificate for bar in bars] if device is hub else [hub.certificate]
                carrier = Wire(room, device.certificate, hears)
                running.append(await nursery.start(_run, directory, carrier, said))
                await trio.testing.wait_all_tasks_blocked()
            middle, *others = (one.network for one in running)
            while not any(failures(network) > 1 for network in others if not network.links):
                assert len(middle.links) <= MOST
                await trio.lowlevel.checkpoint()
            assert len(middle.links) == MOST
            assert sum(not network.links for network in others) == 1
            assert not said
            assert not any(one.network.refused for one in running)

            outside = next(network for network in others if not network.links)
            next(one for one in running[1:] if one.network.links).stop.cancel()
            while not outside.links:
                await trio.lowlevel.checkpoint()
            assert not any(one.network.refused for one in running)
            nursery.cancel_scope.cancel()
