"""Discovery: real multicast DNS on the loopback interface."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace

import pytest
import trio
import trio.testing
from zeroconf import ServiceInfo, Zeroconf

from mesh.core.kinds import Role
from mesh.core.zone import accepts_zone
from mesh.shell.discovery import (
    SERVICE_TYPE,
    Announcement,
    NoNetwork,
    Notice,
    PeerFound,
    PeerLost,
    discovery,
    instance_name,
    keep_announcing,
    pause_s,
    peer_of,
    service_info,
)

LOOPBACK = ["127.0.0.1"]
DEADLINE_S = 30
BAR_A = Announcement("00000000000000a1", "aaaaaaaaaaaaaaaa", "north", 7001, ("127.0.0.1",))
BAR_B = Announcement("00000000000000a1", "bbbbbbbbbbbbbbbb", "south", 7002, ("127.0.0.1",))
STRANGER = Announcement("00000000000000a2", "cccccccccccccccc", "north", 7003, ("127.0.0.1",))


async def _first(notices: trio.MemoryReceiveChannel[Notice], kind: type[Notice]) -> Notice:
    async for notice in notices:
        if isinstance(notice, kind):
            return notice
    raise AssertionError("discovery ended")


@pytest.mark.proves("M1")
async def test_two_devices_of_a_venue_find_each_other_without_configuration_and_notice_a_goodbye() -> None:
    with trio.fail_after(DEADLINE_S):
        async with discovery(BAR_A, interfaces=LOOPBACK) as seen_by_a:
            async with discovery(BAR_B, interfaces=LOOPBACK) as seen_by_b:
                found = await _first(seen_by_a, PeerFound)
                assert found == PeerFound(instance_name(BAR_B.node), ("127.0.0.1",), 7002, "south", BAR_B.node)
                back = await _first(seen_by_b, PeerFound)
                assert isinstance(back, PeerFound)
                assert back.node == BAR_A.node
            assert await _first(seen_by_a, PeerLost) == PeerLost(instance_name(BAR_B.node))


async def test_device_does_not_find_itself_or_another_venue() -> None:
    """The stranger announces before B does, so whoever hears B would have heard the stranger."""
    with trio.fail_after(DEADLINE_S):
        async with discovery(STRANGER, interfaces=LOOPBACK), discovery(BAR_A, interfaces=LOOPBACK) as seen_by_a:
            other = replace(STRANGER, node="dddddddddddddddd")
            async with discovery(other, interfaces=LOOPBACK) as seen_by_other:
                found = await _first(seen_by_other, PeerFound)
                assert isinstance(found, PeerFound)
                assert found.node == STRANGER.node
            async with discovery(BAR_B, interfaces=LOOPBACK):
                first = await _first(seen_by_a, PeerFound)
                assert isinstance(first, PeerFound)
                assert first.node == BAR_B.node


async def test_device_without_a_network_says_so_once_and_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    absent = ["203.0.113.77"]  # TEST-NET-3: no interface of any machine has it
    with trio.move_on_after(3600) as patience:
        async with discovery(BAR_A, interfaces=absent) as notices:
            assert isinstance(await notices.receive(), NoNetwork)
            await notices.receive()
    assert patience.cancelled_caught


async def test_node_says_again_that_it_is_here_to_those_whose_cable_is_plugged_in_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late, closing(Zeroconf(interfaces=LOOPBACK)) as zeroconf:
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        late.bind(("224.0.0.251", 5353))
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        late.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        late.settimeout(DEADLINE_S)

        def hear() -> None:
            while BAR_A.node.encode() not in late.recv(9000):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_announcing, zeroconf, BAR_A, ())
            await trio.to_thread.run_sync(hear)
            nursery.cancel_scope.cancel()


def test_announcements_of_any_number_of_nodes_do_not_fill_the_network() -> None:
    nodes = [f"{index * 16**16 // 300:016x}" for index in range(300)]
    assert 4.5 <= sum(1 / pause_s(node, len(nodes)) for node in nodes) <= 5.5
    assert 10 / 12.5 <= sum(1 / pause_s(node, 10) for node in nodes[::30]) <= 10 / 7.5


def _heard(**changes: str | None) -> ServiceInfo:
    properties: dict[str, str | None] = {"v": "1", "venue": BAR_A.venue, "zone": "south", "node": BAR_B.node}
    address = socket.inet_aton("127.0.0.1")
    texts = {**properties, **changes}
    return ServiceInfo(SERVICE_TYPE, instance_name(BAR_B.node), port=7002, addresses=[address], properties=texts)


def test_announcement_is_read_back_as_it_was_made() -> None:
    assert peer_of(service_info(BAR_B), BAR_A) == peer_of(_heard(), BAR_A)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": "2"},
        {"venue": STRANGER.venue},
        {"venue": None},
        {"node": BAR_A.node},
        {"node": "eeeeeeeeeeeeeeee"},
        {"node": "../../etc/passwd"},
        {"zone": None},
        {"zone": ""},
        {"zone": "x" * 33},
        {"zone": "\x1b[2J"},
    ],
)
def test_rumour_that_breaks_a_rule_is_ignored(changes: dict[str, str | None]) -> None:
    assert peer_of(_heard(**changes), BAR_A) is None


@pytest.mark.parametrize("carrier", [Role.COURIER, Role.GATEWAY])
def test_zones_meet_only_through_couriers_and_gateways(carrier: Role) -> None:
    reader, till = frozenset({Role.READER}), frozenset({Role.TILL, Role.MANAGER})
    assert accepts_zone("north", reader, "north", till)
    assert not accepts_zone("north", reader, "south", till)
    assert accepts_zone("north", reader, "south", frozenset({carrier, Role.READER}))
    assert accepts_zone("south", frozenset({carrier}), "north", reader)
