"""The guard counts to the exact number: connections, wrong codes, answers; each address and device for itself."""

from __future__ import annotations

import pytest

from mesh.core.join_guard import Guard, Verdict
from mesh.limits import (
    JOIN_ANSWERS_PER_DEVICE_MAX,
    JOIN_CONNECTIONS_MAX,
    JOIN_CONNECTIONS_PER_ADDRESS_MAX,
    JOIN_WRONG_CODES_MAX,
    JOIN_WRONG_CODES_PER_ADDRESS_MAX,
)

BAD, GOOD = "192.0.2.66", "192.0.2.7"


def test_address_is_admitted_so_often_and_again_once_one_has_left() -> None:
    guard = Guard()
    assert [guard.admit(BAD) for _ in range(JOIN_CONNECTIONS_PER_ADDRESS_MAX + 1)] == [
        *[True] * JOIN_CONNECTIONS_PER_ADDRESS_MAX,
        False,
    ]
    guard.leave(BAD)
    assert [guard.admit(BAD), guard.admit(BAD)] == [True, False]
    assert guard.admit(GOOD) is True


def test_one_that_left_makes_room_for_exactly_one() -> None:
    guard = Guard()
    everybody = [f"192.0.2.{number}" for number in range(JOIN_CONNECTIONS_MAX)]
    assert all(guard.admit(address) for address in everybody)
    assert guard.admit("198.51.100.1") is False
    guard.leave(everybody[0])
    assert guard.admit("198.51.100.1") is True
    assert guard.admit("198.51.100.2") is False


def test_refused_connection_is_not_counted() -> None:
    guard = Guard()
    for _ in range(JOIN_CONNECTIONS_PER_ADDRESS_MAX + 10):
        guard.admit(BAD)
    others = [guard.admit(f"198.51.100.{number}") for number in range(JOIN_CONNECTIONS_MAX)]
    assert sum(others) == JOIN_CONNECTIONS_MAX - JOIN_CONNECTIONS_PER_ADDRESS_MAX


def test_nobody_leaves_who_was_not_there() -> None:
    guard = Guard()
    with pytest.raises(AssertionError):
        guard.leave(GOOD)
    guard.admit(GOOD)
    guard.admit(GOOD)
    guard.leave(GOOD)
    guard.leave(GOOD)
    with pytest.raises(AssertionError):
        guard.leave(GOOD)


def test_address_is_shut_out_at_its_last_wrong_code_and_told_once() -> None:
    guard = Guard()
    verdicts = [guard.wrong_code(BAD) for _ in range(JOIN_WRONG_CODES_PER_ADDRESS_MAX + 2)]
    assert verdicts == [
        *[Verdict.GO_ON] * (JOIN_WRONG_CODES_PER_ADDRESS_MAX - 1),
        Verdict.SHUT_OUT,
        Verdict.GO_ON,
        Verdict.GO_ON,
    ]
    assert guard.wrong == JOIN_WRONG_CODES_PER_ADDRESS_MAX + 2
    assert guard.admit(BAD) is False
    assert guard.wrong_code(GOOD) is Verdict.GO_ON
    assert guard.admit(GOOD) is True


def test_address_one_wrong_code_short_of_its_bound_is_still_served() -> None:
    guard = Guard()
    for _ in range(JOIN_WRONG_CODES_PER_ADDRESS_MAX - 1):
        guard.wrong_code(BAD)
    assert guard.admit(BAD) is True


def test_office_closes_at_its_last_wrong_code_and_stays_closed() -> None:
    guard = Guard(wrong=JOIN_WRONG_CODES_MAX - 2)
    verdicts = [guard.wrong_code(GOOD), guard.wrong_code(GOOD), guard.wrong_code(BAD)]
    assert verdicts == [Verdict.GO_ON, Verdict.CLOSE, Verdict.CLOSE]
    assert guard.wrong == JOIN_WRONG_CODES_MAX + 1


def test_each_device_is_answered_so_often() -> None:
    guard = Guard()
    answered = [guard.may_answer(b"one") for _ in range(JOIN_ANSWERS_PER_DEVICE_MAX + 2)]
    assert answered == [*[True] * JOIN_ANSWERS_PER_DEVICE_MAX, False, False]
    assert guard.may_answer(b"other") is True
    assert guard.may_answer(b"one") is False


def test_guards_count_each_for_itself() -> None:
    first, second = Guard(), Guard()
    for _ in range(JOIN_WRONG_CODES_PER_ADDRESS_MAX):
        first.wrong_code(BAD)
    assert (first.admit(BAD), second.admit(BAD), second.wrong) == (False, True, 0)
