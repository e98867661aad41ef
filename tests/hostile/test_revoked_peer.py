"""A device that the authority revoked, over real links: it is out at once, also where it does not listen."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import trio

from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane
from mesh.core.messages import Bye, Want
from mesh.shell.keys import load_identity
from mesh.shell.links import Link
from mesh.shell.tls import client_context
from tests.hostile.scene import Raw, hello, scene

pytestmark = pytest.mark.proves("M7")

OUT_AT_ONCE_S: Final = 1.0
"""The longest that a link to a revoked device may stay after its revocation was heard."""
TOO_MUCH: Final = 220
"""Entries of 30,000 bytes that fill every buffer between two sockets, and more."""


async def until_stuck(link: Link) -> None:
    """Wait until the victim can put nothing more onto a link: the same write has been waiting for long."""
    stream = link.stream
    assert isinstance(stream, trio.SSLStream)
    rounds = 0
    while rounds < 5_000:
        await trio.lowlevel.checkpoint()
        rounds = rounds + 1 if stream.transport_stream._send_conflict_detector._held else 0


async def test_revoked_peer_that_takes_nothing_off_its_link_is_gone_within_a_second(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        appended = [await at.victim.append(Lane.TELEMETRY, Kind.TAP, bytes(30_000)) for _ in range(TOO_MUCH)]
        last = appended[-1]
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        raw.stream.transport_stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await raw.say_messages([Want(last.log_id, Position(last.seq, last.id), ())])
        (link,) = [link for link in at.network.links.values() if link.peer.name == "mallory"]
        await until_stuck(link)
        await at.victim.append(Lane.CONTROL, Kind.REVOCATION, at.venue.revocation(mallory))
        with trio.fail_after(OUT_AT_ONCE_S):
            await at.until_told("mallory was revoked")
        assert link.number not in at.network.links
        await at.expect_unharmed()


async def test_revoked_peer_that_dials_again_is_told_why_and_nothing_else(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        await at.victim.append(Lane.CONTROL, Kind.REVOCATION, at.venue.revocation(mallory))
        assert "revoked" in str(await raw.hear(Bye))
        identity = load_identity(at.directory / f"raw-{mallory.certificate.serial}")
        again = Raw(await at.tls(client_context(identity)), mallory)
        await again.say(hello(at.venue))
        first = await again._next()
        assert isinstance(first, Bye)
        assert "revoked" in first.reason
        with suppress(trio.BrokenResourceError):
            assert await again.stream.receive_some() == b""
        await at.expect_unharmed()
