"""Who is asked for what: one neighbour at a time, and one that does not serve loses its place."""

from __future__ import annotations

import pytest

from mesh.core.frontier import Position
from mesh.core.gossip import ROOM_AGAIN_AT, WANTS_IN_FLIGHT_PER_LINK, Ask, Wants
from mesh.limits import WANT_RETRY_S

LOG, OTHER_LOG = b"L" * 16, b"M" * 16
FIVE, NINE = Position(5, b"5" * 32), Position(9, b"9" * 32)
FIRST, SECOND = 1, 2


class Held:
    """What the node holds: whole logs, and pieces."""

    def __init__(self) -> None:
        self.whole: set[Position] = set()
        self.pieces: set[Position] = set()

    def __call__(self, log_id: bytes, position: Position, piece: bool) -> bool:
        return position in self.whole or (piece and position in self.pieces)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def wants(held: Held) -> Wants:
    return Wants(held)


def test_first_announcer_is_asked_and_the_second_is_not(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    assert list(wants.next(0.0)) == [Ask(FIRST, LOG, FIVE)]
    assert list(wants.next(0.1)) == []
    assert wants.asked_of(FIRST, LOG)
    assert not wants.asked_of(SECOND, LOG)


def test_announcer_that_does_not_serve_loses_its_place_to_the_next(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    list(wants.next(0.0))
    wants.expire(WANT_RETRY_S - 0.01)
    assert list(wants.next(WANT_RETRY_S - 0.01)) == []
    wants.expire(WANT_RETRY_S)
    assert list(wants.next(WANT_RETRY_S)) == [Ask(SECOND, LOG, FIVE)]
    wants.expire(2 * WANT_RETRY_S)
    assert list(wants.next(2 * WANT_RETRY_S)) == []
    assert wants.pending_logs() == 0


def test_anything_that_arrives_on_a_link_gives_its_other_wants_time(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(FIRST, OTHER_LOG, FIVE)
    assert len(list(wants.next(0.0))) == 2
    wants.progress(FIRST, OTHER_LOG, 1.5)
    wants.expire(WANT_RETRY_S + 1.0)
    assert wants.asked_of(FIRST, LOG)
    wants.expire(WANT_RETRY_S + 1.5)
    assert not wants.asked_of(FIRST, LOG)


def test_want_ends_when_its_target_is_held(wants: Wants, held: Held) -> None:
    wants.offer(FIRST, LOG, FIVE)
    list(wants.next(0.0))
    wants.progress(FIRST, LOG, 0.1)
    assert wants.pending_logs() == 1
    held.whole.add(FIVE)
    wants.progress(FIRST, LOG, 0.2)
    assert wants.pending_logs() == 0


def test_what_is_held_is_not_wanted(wants: Wants, held: Held) -> None:
    held.whole.add(FIVE)
    wants.offer(FIRST, LOG, FIVE)
    assert list(wants.next(0.0)) == []


def test_head_that_is_held_on_an_island_only_is_wanted_all_the_same(wants: Wants, held: Held) -> None:
    held.pieces.add(FIVE)
    wants.offer(FIRST, LOG, FIVE, piece=True)
    assert list(wants.next(0.0)) == []
    wants.offer(FIRST, LOG, FIVE)
    assert list(wants.next(0.0)) == [Ask(FIRST, LOG, FIVE)]


def test_neighbour_that_says_it_is_missing_is_passed_over_at_once(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, FIVE)
    list(wants.next(0.0))
    wants.failed(FIRST, LOG, FIVE)
    assert list(wants.next(0.0)) == [Ask(SECOND, LOG, FIVE)]


def test_link_that_goes_down_takes_its_wants_along_and_leaves_the_others(wants: Wants) -> None:
    wants.offer(FIRST, LOG, FIVE)
    wants.offer(SECOND, LOG, NINE)
    wants.offer(FIRST, OTHER_LOG, FIVE)
    assert len(list(wants.next(0.0))) == 2
    wants.link_down(FIRST)
    assert list(wants.next(0.0)) == [Ask(SECOND, LOG, NINE)]
    assert wants.pending_logs() == 1


def test_answer_about_something_else_changes_nothing(wants: Wants) -> None:
    wants.failed(FIRST, LOG, FIVE)
    wants.progress(FIRST, LOG, 0.0)
    wants.link_down(SECOND)
    assert wants.pending_logs() == 0


def test_no_more_wants_are_open_on_a_link_than_its_bound_and_the_rest_follow_in_order(wants: Wants, held: Held) -> None:
    logs = [number.to_bytes(16, "big") for number in range(WANTS_IN_FLIGHT_PER_LINK + 3)]
    for log_id in logs:
        wants.offer(FIRST, log_id, FIVE)
    asked = list(wants.next(0.0))
    assert [ask.log_id for ask in asked] == logs[:WANTS_IN_FLIGHT_PER_LINK]
    for log_id in logs[: WANTS_IN_FLIGHT_PER_LINK - ROOM_AGAIN_AT - 1]:
        wants.failed(FIRST, log_id, FIVE)
    assert list(wants.next(0.0)) == []
    wants.failed(FIRST, logs[-4], FIVE)
    assert [ask.log_id for ask in wants.next(0.0)] == logs[WANTS_IN_FLIGHT_PER_LINK:]
