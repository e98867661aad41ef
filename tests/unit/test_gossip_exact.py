"""Who is asked for what, to the exact want: bounds, order, and what is never asked twice."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.frontier import Position
from mesh.core.gossip import WANTS_IN_FLIGHT_PER_LINK, Ask, Wants
from mesh.limits import BRANCHES_PER_LOG_MAX, WANT_RETRY_S

LOG, OTHER_LOG, THIRD_LOG = b"L" * 16, b"M" * 16, b"N" * 16
FIVE, NINE = Position(5, b"5" * 32), Position(9, b"9" * 32)
FIRST, SECOND, THIRD = 1, 2, 3
KEPT: Final = BRANCHES_PER_LOG_MAX - 1
"""Positions of one log that are remembered of one neighbour, beside the one that it is being asked for."""


class Held:
    """What the node holds of each log: whole, and as pieces."""

    def __init__(self) -> None:
        self.whole: set[tuple[bytes, Position]] = set()
        self.pieces: set[tuple[bytes, Position]] = set()

    def __call__(self, log_id: bytes, position: Position, piece: bool) -> bool:
        return (log_id, position) in self.whole or (piece and (log_id, position) in self.pieces)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def wants(held: Held) -> Wants:
    return Wants(held)


def position(number: int) -> Position:
    return Position(number, number.to_bytes(32, "big"))


def asked(wants: Wants, now: float = 0.0) -> list[Ask]:
    return list(wants.next(now))


def drained(wants: Wants) -> list[tuple[int, Position]]:
    """What is asked for, one after the other, when nobody has it after all."""
    found: list[tuple[int, Position]] = []
    while wants.pending_logs():
        found += [(ask.link, ask.target) for ask in asked(wants)]
        link, target = found[-1]
        wants.failed(link, LOG, target)
    return found


def test_position_that_is_held_of_one_log_is_wanted_of_another(wants: Wants, held: Held) -> None:
    held.whole.add((OTHER_LOG, FIVE))
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(FIRST, OTHER_LOG, FIVE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE)]
    assert wants.pending_logs() == 1


def test_piece_that_is_wanted_is_no_more_wanted_once_an_island_holds_it(wants: Wants, held: Held) -> None:
    wants.offer(FIRST, LOG, FIVE, piece=True)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE)]
    held.pieces.add((LOG, FIVE))
    wants.progress(FIRST, LOG, 0.1)
    assert wants.pending_logs() == 0
    assert not wants.asked_of(FIRST, LOG)


def test_head_that_is_wanted_goes_on_being_wanted_while_only_an_island_holds_it(wants: Wants, held: Held) -> None:
    wants.offer(FIRST, LOG, FIVE)
    asked(wants)
    held.pieces.add((LOG, FIVE))
    wants.progress(FIRST, LOG, 0.1)
    assert wants.asked_of(FIRST, LOG)


def test_offer_that_is_said_twice_is_asked_for_once(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE)]
    wants.offer(FIRST, LOG, FIVE)
    assert asked(wants) == []
    wants.failed(FIRST, LOG, FIVE)
    assert (asked(wants), wants.pending_logs()) == ([], 0)


def test_neighbour_has_room_for_as_many_positions_as_a_log_has_branches(wants: Wants) -> None:
    for number in range(BRANCHES_PER_LOG_MAX + 1):
        wants.offer(FIRST, LOG, position(number))
        if number == 0:
            assert asked(wants) == [Ask(FIRST, LOG, position(0))]
    wants.offer(SECOND, LOG, FIVE)
    wants.failed(FIRST, LOG, position(0))
    assert drained(wants) == [
        *((FIRST, position(number)) for number in range(2, BRANCHES_PER_LOG_MAX + 1)),
        (SECOND, FIVE),
    ]


def test_what_a_neighbour_said_first_makes_room_and_nothing_that_others_said_does(wants: Wants) -> None:
    wants.offer(SECOND, LOG, NINE)
    for number in range(100, 100 + KEPT + 3):
        wants.offer(FIRST, LOG, position(number))
    assert drained(wants) == [(SECOND, NINE), *((FIRST, position(number)) for number in range(103, 103 + KEPT))]


def test_exactly_as_many_as_there_is_room_for_are_all_asked_for(wants: Wants) -> None:
    for number in range(KEPT):
        wants.offer(FIRST, LOG, position(number))
    assert drained(wants) == [(FIRST, position(number)) for number in range(KEPT)]


def test_something_that_arrived_without_the_target_asks_for_nothing_again(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    asked(wants)
    wants.progress(FIRST, LOG, 0.1)
    assert asked(wants, 0.1) == []
    assert wants.asked_of(FIRST, LOG)


def test_target_that_is_held_makes_way_for_what_else_is_missing_of_the_log(wants: Wants, held: Held) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    wants.offer(SECOND, LOG, NINE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE)]
    held.whole.add((LOG, FIVE))
    wants.progress(FIRST, LOG, 0.1)
    assert asked(wants, 0.1) == [Ask(SECOND, LOG, NINE)]
    assert wants.asked_of(SECOND, LOG)


def test_missing_of_something_else_ends_no_want(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(FIRST, LOG, NINE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE)]
    wants.failed(FIRST, LOG, NINE)
    wants.failed(FIRST, LOG, position(1))
    wants.failed(SECOND, LOG, FIVE)
    wants.failed(SECOND, OTHER_LOG, FIVE)
    assert asked(wants) == []
    assert wants.asked_of(FIRST, LOG)
    wants.failed(FIRST, LOG, FIVE)
    assert wants.pending_logs() == 0


def test_link_that_goes_down_ends_no_want_of_another(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    wants.offer(SECOND, OTHER_LOG, NINE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE), Ask(SECOND, OTHER_LOG, NINE)]
    wants.link_down(SECOND)
    assert asked(wants) == []
    assert (wants.asked_of(FIRST, LOG), wants.pending_logs()) == (True, 1)
    wants.failed(FIRST, LOG, FIVE)
    assert (asked(wants), wants.pending_logs()) == ([], 0)


def test_link_that_goes_down_before_it_was_asked_takes_its_offers_along(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, NINE)
    wants.offer(FIRST, OTHER_LOG, FIVE)
    wants.link_down(FIRST)
    assert wants.pending_logs() == 1
    assert asked(wants) == [Ask(SECOND, LOG, NINE)]


def test_nothing_is_kept_of_a_link_that_went_down(wants: Wants) -> None:
    """Boards run for days, and their neighbours come and go."""
    wants.offer(FIRST, LOG, FIVE)
    asked(wants)
    wants.progress(FIRST, LOG, 0.1)
    wants.link_down(FIRST)
    assert (wants._logs, wants._open, wants._progress) == ({}, {}, {})


def test_want_whose_time_is_not_over_keeps_no_other_from_its_end(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    asked(wants, 0.0)
    wants.offer(THIRD, OTHER_LOG, NINE)
    wants.offer(SECOND, OTHER_LOG, NINE)
    asked(wants, 1.0)
    wants.expire(WANT_RETRY_S)
    assert asked(wants, WANT_RETRY_S) == [Ask(SECOND, LOG, FIVE)]
    wants.expire(1.0 + WANT_RETRY_S)
    assert asked(wants, 1.0 + WANT_RETRY_S) == [Ask(SECOND, OTHER_LOG, NINE)]
    assert wants.asked_of(SECOND, LOG)


def test_log_that_is_asked_of_nobody_keeps_no_other_from_its_end(wants: Wants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.core.gossip.WANTS_IN_FLIGHT_PER_LINK", 1)
    wants.offer(FIRST, LOG, FIVE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE)]
    wants.offer(FIRST, OTHER_LOG, FIVE)
    wants.offer(SECOND, THIRD_LOG, FIVE)
    assert asked(wants) == [Ask(SECOND, THIRD_LOG, FIVE)]
    wants.failed(FIRST, LOG, FIVE)
    wants.offer(FIRST, LOG, NINE)
    assert asked(wants, 1.0) == [Ask(FIRST, OTHER_LOG, FIVE)]
    wants.expire(WANT_RETRY_S)
    assert wants.pending_logs() == 2
    assert not wants.asked_of(SECOND, THIRD_LOG)


def test_progress_of_one_link_gives_no_other_more_time(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    asked(wants, 1.0)
    wants.progress(SECOND, LOG, 2.0)
    wants.expire(1.0 + WANT_RETRY_S)
    assert wants.pending_logs() == 0


def test_one_want_at_a_time_where_that_is_the_bound_and_each_end_makes_room(
    wants: Wants, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert WANTS_IN_FLIGHT_PER_LINK == 256
    monkeypatch.setattr("mesh.core.gossip.WANTS_IN_FLIGHT_PER_LINK", 1)
    logs = [bytes([number]) * 16 for number in range(5)]
    for log_id in logs:
        wants.offer(FIRST, log_id, FIVE)
    assert asked(wants, 0.0) == [Ask(FIRST, logs[0], FIVE)]
    wants.failed(FIRST, logs[0], FIVE)
    assert asked(wants, 0.0) == [Ask(FIRST, logs[1], FIVE)]
    held.whole.add((logs[1], FIVE))
    wants.progress(FIRST, logs[1], 0.0)
    assert asked(wants, 0.0) == [Ask(FIRST, logs[2], FIVE)]
    wants.expire(WANT_RETRY_S)
    assert asked(wants, WANT_RETRY_S) == [Ask(FIRST, logs[3], FIVE)]
    assert asked(wants, WANT_RETRY_S) == []
    wants.link_down(FIRST)
    wants.offer(FIRST, logs[4], FIVE)
    assert asked(wants, WANT_RETRY_S) == [Ask(FIRST, logs[4], FIVE)]


def test_neighbour_that_is_full_is_passed_over_for_the_next_who_has_it(
    wants: Wants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.core.gossip.WANTS_IN_FLIGHT_PER_LINK", 1)
    for log_id in (LOG, OTHER_LOG):
        for link in (FIRST, SECOND, THIRD):
            wants.offer(link, log_id, FIVE)
    assert asked(wants) == [Ask(FIRST, LOG, FIVE), Ask(SECOND, OTHER_LOG, FIVE)]
