"""Who is asked for what, where neighbours say more than they can have."""

from __future__ import annotations

from mesh.core.frontier import Position
from mesh.core.gossip import Wants
from mesh.limits import BRANCHES_PER_LOG_MAX

LOG = b"l" * 16


def _position(number: int) -> Position:
    return Position(number, number.to_bytes(32, "big"))


def test_every_head_of_a_log_with_few_branches_is_asked_for_in_turn() -> None:
    wants = Wants(lambda log_id, position, piece: False)
    for number in range(BRANCHES_PER_LOG_MAX - 1):
        wants.offer(1, LOG, _position(number))
    asked = []
    while wants.pending_logs():
        (ask,) = wants.next(0.0)
        asked.append(ask.target)
        wants.failed(1, LOG, ask.target)
    assert asked == [_position(number) for number in range(BRANCHES_PER_LOG_MAX - 1)]


def test_of_more_heads_than_a_log_can_have_the_newest_are_asked_for() -> None:
    wants = Wants(lambda log_id, position, piece: False)
    for number in range(10 * BRANCHES_PER_LOG_MAX):
        wants.offer(1, LOG, _position(number))
    wants.offer(2, LOG, _position(0))
    asked = []
    while wants.pending_logs():
        (ask,) = wants.next(0.0)
        asked.append((ask.link, ask.target))
        wants.failed(ask.link, LOG, ask.target)
    newest = 10 * BRANCHES_PER_LOG_MAX - 1
    assert (1, _position(newest)) in asked
    assert (2, _position(0)) in asked
    assert len(asked) <= BRANCHES_PER_LOG_MAX + 1
