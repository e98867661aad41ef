"""A rogue author's log that is hard to pass on: honest links must carry it all the same, or carry on without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from mesh.core.kinds import Kind
from tests.factory import LogWriter
from tests.hostile.scene import Scene, runs, scene


def rogue_log(at: Scene, *, forged: int) -> tuple[LogWriter, LogWriter, LogWriter]:
    """Two branches that part right above `forged` entries whose own signatures are bad, and the author's log so far."""
    log = LogWriter(at.attacker())
    for number in range(4):
        log.append(Kind.ABORT, b"entry %d" % number)
    for number in range(forged):
        log.append_forged(Kind.ABORT, b"forged %d" % number)
    one, other = log.fork(), log.fork()
    for number in range(3):
        one.append(Kind.ABORT, b"one story %d" % number)
        other.append(Kind.ABORT, b"another story %d" % number)
    return log, one, other


@pytest.mark.proves("B2")
@pytest.mark.parametrize("forged", [1, 3])
async def test_fork_above_bad_signatures_reaches_the_neighbour_and_closes_no_honest_link(
    tmp_path: Path, forged: int
) -> None:
    async with scene(tmp_path) as at:
        log, one, other = rogue_log(at, forged=forged)
        raw = await at.greeted(log.device)
        await raw.say_messages(runs(one))
        await raw.say_messages(runs(other))
        while len(_heads(at, log.log_id)) < 2:
            await trio.lowlevel.checkpoint()
        while at.neighbour.node.frontier.digest() != at.victim.node.frontier.digest():
            await trio.lowlevel.checkpoint()
        await at.expect_unharmed()


def _heads(at: Scene, log_id: bytes) -> list[bytes]:
    held = at.victim.node.frontier.logs.get(log_id)
    return [] if held is None else [head.id for head in held.heads()]
