"""Under load by liars: what the victim holds for them stays within its bounds, and what they forged is found."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from mesh.core.kinds import Kind, Lane
from mesh.limits import (
    FRAME_BYTES_MAX,
    HANDSHAKES_MAX,
    HELLO_FRAME_BYTES_MAX,
    LINKS_MAX,
    OUTBOX_BYTES_MAX,
)
from tests.factory import LogWriter
from tests.hostile.scene import Scene, hello, runs, scene

PART_BYTES = 64 * 1024

pytestmark = pytest.mark.proves("M7")


def held_bytes(at: Scene) -> list[int]:
    """What incomplete frames hold of the victim's memory, link by link."""
    return [link.session.buffered_bytes for link in at.victim.node._links.values()]


async def test_bad_signature_below_a_good_one_is_found_behind_and_contested(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        log = LogWriter(mallory)
        log.append(Kind.ABORT, b"good")
        log.append_forged(Kind.ABORT, b"forged")
        log.append(Kind.ABORT, b"good again, and vouches for what is below")
        await raw.say_messages(runs(log))
        while log.log_id not in at.victim.node.frontier.logs:
            await trio.lowlevel.checkpoint()
        await at.victim.verifier.idle()
        assert at.victim.node.contested_from == {log.log_id: 2}


async def test_slow_loris_holds_no_more_than_one_frame(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker())
        await raw.say(FRAME_BYTES_MAX.to_bytes(4, "big"))
        for _ in range(FRAME_BYTES_MAX // PART_BYTES - 1):
            await raw.say(bytes(PART_BYTES))
            assert max(held_bytes(at)) <= 4 + FRAME_BYTES_MAX
        await at.expect_unharmed()


async def test_many_slow_links_hold_no_more_than_one_frame_each(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        for _ in range(8):
            raw = await at.greeted(at.attacker())
            await raw.say(FRAME_BYTES_MAX.to_bytes(4, "big") + bytes(FRAME_BYTES_MAX // 2))
        assert sum(held_bytes(at)) <= 8 * (4 + FRAME_BYTES_MAX)
        await at.expect_unharmed()


async def test_stranger_inside_tls_holds_a_kilobyte(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.link(at.attacker())
        await raw.say(HELLO_FRAME_BYTES_MAX.to_bytes(4, "big") + bytes(HELLO_FRAME_BYTES_MAX - 1))
        assert max(held_bytes(at)) <= 4 + HELLO_FRAME_BYTES_MAX
        await at.expect_unharmed()


async def test_hello_that_is_said_again_and_again_gets_one_answer(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker())
        await raw.say(hello(at.venue) * 10_000)
        await at.until_told("Hello is not allowed while the link is LIVE")
        assert at.network.refused == 1
        await at.expect_unharmed()


async def test_hello_recorded_on_another_link_opens_nothing_without_its_certificate(tmp_path: Path) -> None:
    """A hello carries no secret, and needs none: who speaks was settled by TLS before."""
    async with scene(tmp_path) as at:
        recorded = hello(at.venue)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream = await at.tls(context)
        await stream.do_handshake()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(recorded)
        await at.until_told("no link: TLS was refused")
        assert {peer.name for peer in at.victim.node.links.values()} == {"neighbour"}
        await at.expect_unharmed()


async def test_no_more_links_than_there_are_places(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        for number in range(LINKS_MAX + 4):
            await (await at.link(at.attacker())).say(hello(at.venue))
            assert len(at.network.links) <= min(LINKS_MAX, number + 2)
        await at.victim.append(Lane.MONEY, Kind.ABORT, b"own entries are none of a peer's business")


async def test_handshakes_that_never_end_hold_a_few_places_and_keep_nobody_out(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        for _ in range(3 * HANDSHAKES_MAX):
            stream = await at.tcp()
            await stream.send_all(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a TLS ClientHello
            assert at.network.handshakes <= HANDSHAKES_MAX
        await at.until_told("too many handshakes at once")
        await at.expect_unharmed()


async def test_peer_that_reads_nothing_is_let_go_before_its_answers_fill_the_memory(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker())
        (link,) = (link for link in at.network.links.values() if link.peer.name == "mallory")
        frame = bytes(1024 * 1024)
        sent = 0
        while link.closing is None:
            link.send(frame)
            sent += len(frame)
        assert OUTBOX_BYTES_MAX <= sent <= OUTBOX_BYTES_MAX + len(frame)
        assert raw.device.certificate == link.peer
        await at.until_told("mallory: the peer is too slow")
        await at.expect_unharmed()
