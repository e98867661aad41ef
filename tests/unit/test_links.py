"""One link, over a stream in memory that breaks when it is told to."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from mesh.core.kinds import Role
from mesh.shell.device import open_device
from mesh.shell.links import Link
from tests.factory import Venue


async def test_link_that_breaks_while_more_waits_to_be_sent_ends_alone(tmp_path: Path) -> None:
    """Found by a seed of the simulated shell: the goodbye met the broken stream, and the whole program ended."""
    venue = Venue()
    own, peer = venue.device("bar A", Role.READER), venue.device("bar B", Role.READER)
    here, _there = trio.testing.memory_stream_pair()
    link = Link(1, peer.certificate, True, here, trio.CancelScope())

    async def break_off() -> None:
        link.send(b"queued while the one before was under way")
        raise trio.BrokenResourceError("reset by the peer")

    here.send_stream.send_all_hook = break_off
    async with open_device(own.write_directory(tmp_path / "bar A")) as device:
        link.send(b"first")
        with link.scope:
            await link.run(device)
    assert link.closing == "the connection broke (reset by the peer)"
