"""What is done on a link whose ends may hold different things: each step, in order, at its exact time."""

from __future__ import annotations

import math

from mesh.core.catching_up import (
    COMPARE_PAUSE_S,
    COMPARE_PAUSE_S_MAX,
    TELL_PAUSE_S,
    TELL_PAUSE_S_MAX,
    CatchingUp,
    Step,
)

HELLO, OURS, THEIRS, NEWER = (bytes([number]) * 32 for number in range(1, 5))
LINK, OTHER, THIRD = 1, 2, 3


def met(*links: int, told: bytes = OURS, leads: bool = True) -> CatchingUp:
    """Links whose hellos went out with this digest, and whose peers' were accepted."""
    catching_up = CatchingUp()
    for link in links:
        catching_up.link_up(link, told, leads=leads)
        catching_up.met(link)
    return catching_up


def steps(catching_up: CatchingUp, ours: bytes, now: float) -> list[tuple[int, Step]]:
    return list(catching_up.steps(ours, now))


def busy(catching_up: CatchingUp) -> bool:
    return catching_up.is_due(math.inf)


def test_link_catches_up_from_its_hello_until_both_told_the_same() -> None:
    catching_up = CatchingUp()
    assert not busy(catching_up)
    catching_up.link_up(LINK, OURS, leads=True)
    assert not busy(catching_up)
    catching_up.met(LINK)
    assert busy(catching_up)
    assert steps(catching_up, OURS, 0.0) == []
    assert busy(catching_up)
    assert catching_up.heard(LINK, OURS, OURS, 0.0) is False
    assert steps(catching_up, OURS, 0.0) == [(LINK, Step.IN_STEP)]
    assert not busy(catching_up)
    assert steps(catching_up, OURS, 0.0) == []


def test_new_digest_that_is_the_peers_is_told_at_once_and_then_both_are_in_step() -> None:
    catching_up = met(LINK, told=HELLO)
    catching_up.told(LINK, NEWER, 5.0)
    catching_up.heard(LINK, OURS, OURS, 5.0)
    assert steps(catching_up, OURS, 5.0) == [(LINK, Step.TELL), (LINK, Step.IN_STEP)]


def test_digest_that_was_told_already_is_not_told_again() -> None:
    catching_up = met(LINK, told=HELLO)
    catching_up.told(LINK, OURS, 0.0)
    assert steps(catching_up, OURS, 60.0) == []
    catching_up.heard(LINK, OURS, OURS, 60.0)
    assert steps(catching_up, OURS, 60.0) == [(LINK, Step.IN_STEP)]


def test_first_new_digest_after_the_hello_is_told_at_once() -> None:
    assert steps(met(LINK, told=HELLO), OURS, 0.0) == [(LINK, Step.TELL)]


def test_digest_that_is_not_the_peers_is_told_once_in_a_pause() -> None:
    catching_up = met(LINK, told=HELLO)
    catching_up.told(LINK, OURS, 10.0)
    assert steps(catching_up, NEWER, 10.0) == []
    assert steps(catching_up, NEWER, 10.0 + TELL_PAUSE_S - 0.001) == []
    assert steps(catching_up, NEWER, 10.0 + TELL_PAUSE_S) == [(LINK, Step.TELL)]
    assert busy(catching_up)


def test_tell_pause_is_over_at_exactly_its_end() -> None:
    catching_up = met(LINK, told=HELLO)
    catching_up.told(LINK, OURS, 0.0)
    assert steps(catching_up, NEWER, TELL_PAUSE_S) == [(LINK, Step.TELL)]


def test_digest_that_differs_begins_a_comparison_at_once_and_the_next_after_exactly_a_pause() -> None:
    catching_up = met(LINK)
    assert catching_up.heard(LINK, THEIRS, OURS, 0.0) is True
    assert catching_up.heard(LINK, THEIRS, OURS, 0.0) is False
    assert catching_up.heard(LINK, NEWER, OURS, COMPARE_PAUSE_S - 0.001) is False
    assert steps(catching_up, OURS, COMPARE_PAUSE_S - 0.001) == []
    assert catching_up.heard(LINK, NEWER, OURS, COMPARE_PAUSE_S) is True
    assert steps(catching_up, OURS, 10 * COMPARE_PAUSE_S) == []


def test_pauses_between_comparisons_double_up_to_their_most_and_are_short_again_after_being_in_step() -> None:
    catching_up, now = met(LINK), 0.0
    assert catching_up.heard(LINK, THEIRS, OURS, now) is True
    for pause in (1.0, 2.0, 4.0, COMPARE_PAUSE_S_MAX, COMPARE_PAUSE_S_MAX):
        assert catching_up.heard(LINK, THEIRS, OURS, now + pause - 0.001) is False
        assert steps(catching_up, OURS, now + pause - 0.001) == []
        now += pause
        assert steps(catching_up, OURS, now) == [(LINK, Step.COMPARE)]
    assert catching_up.heard(LINK, OURS, OURS, now) is False
    assert steps(catching_up, OURS, now) == [(LINK, Step.IN_STEP)]
    assert catching_up.heard(LINK, THEIRS, OURS, now) is True
    assert catching_up.heard(LINK, THEIRS, OURS, now + COMPARE_PAUSE_S - 0.001) is False
    assert catching_up.heard(LINK, THEIRS, OURS, now + COMPARE_PAUSE_S) is True


def test_only_the_end_that_leads_begins_comparisons_and_both_tell_digests() -> None:
    follower = met(LINK, told=HELLO, leads=False)
    assert follower.heard(LINK, THEIRS, OURS, 0.0) is False
    assert steps(follower, OURS, 100.0) == [(LINK, Step.TELL)]


def test_pauses_between_digests_double_up_to_their_most_and_are_short_again_after_a_rest() -> None:
    catching_up, now = met(LINK, told=HELLO), 10.0
    catching_up.told(LINK, digest_number(0), now)
    for number, pause in enumerate((0.05, 0.1, 0.2, 0.4, 0.8, TELL_PAUSE_S_MAX, TELL_PAUSE_S_MAX), 1):
        assert steps(catching_up, digest_number(number), now + pause - 0.001) == []
        now += pause + 1e-9
        assert steps(catching_up, digest_number(number), now) == [(LINK, Step.TELL)]
        catching_up.told(LINK, digest_number(number), now)
    now += 2 * TELL_PAUSE_S_MAX
    catching_up.told(LINK, OURS, now)
    assert steps(catching_up, NEWER, now + TELL_PAUSE_S - 0.001) == []
    assert steps(catching_up, NEWER, now + TELL_PAUSE_S + 1e-9) == [(LINK, Step.TELL)]


def digest_number(number: int) -> bytes:
    return bytes([100 + number]) * 32


def test_comparison_that_had_to_wait_is_begun_once_when_its_pause_is_over() -> None:
    catching_up = met(LINK)
    assert catching_up.heard(LINK, THEIRS, OURS, 0.0) is True
    assert steps(catching_up, OURS, COMPARE_PAUSE_S) == []
    assert catching_up.heard(LINK, NEWER, OURS, COMPARE_PAUSE_S - 0.5) is False
    assert steps(catching_up, OURS, COMPARE_PAUSE_S - 0.001) == []
    assert steps(catching_up, OURS, COMPARE_PAUSE_S) == [(LINK, Step.COMPARE)]
    assert steps(catching_up, OURS, 2 * COMPARE_PAUSE_S) == []
    assert catching_up.heard(LINK, THEIRS, OURS, 3 * COMPARE_PAUSE_S - 0.001) is False
    assert steps(catching_up, OURS, 3 * COMPARE_PAUSE_S) == [(LINK, Step.COMPARE)]


def test_comparison_is_not_begun_any_more_once_the_peer_told_our_digest() -> None:
    catching_up = met(LINK)
    catching_up.heard(LINK, THEIRS, OURS, 0.0)
    catching_up.heard(LINK, THEIRS, OURS, 0.1)
    assert catching_up.heard(LINK, OURS, OURS, 0.2) is False
    assert steps(catching_up, NEWER, 2 * COMPARE_PAUSE_S) == [(LINK, Step.TELL)]


def test_our_digest_is_told_before_a_comparison_begins() -> None:
    catching_up = met(LINK, told=HELLO)
    catching_up.heard(LINK, THEIRS, HELLO, 0.0)
    catching_up.heard(LINK, THEIRS, HELLO, 0.5)
    assert steps(catching_up, OURS, 1.0) == [(LINK, Step.TELL), (LINK, Step.COMPARE)]


def test_digest_that_differs_opens_a_link_again_that_was_in_step_and_an_equal_one_does_not() -> None:
    catching_up = met(LINK)
    catching_up.heard(LINK, OURS, OURS, 0.0)
    steps(catching_up, OURS, 0.0)
    catching_up.heard(LINK, OURS, OURS, 5.0)
    assert (busy(catching_up), steps(catching_up, OURS, 5.0)) == (False, [])
    assert catching_up.heard(LINK, THEIRS, OURS, 6.0) is True
    assert busy(catching_up)
    catching_up.heard(LINK, OURS, OURS, 7.0)
    assert steps(catching_up, OURS, 7.0) == [(LINK, Step.IN_STEP)]


def test_links_are_looked_at_in_order_each_by_itself() -> None:
    catching_up = met(THIRD, LINK, OTHER)
    catching_up.heard(OTHER, OURS, OURS, 0.0)
    catching_up.heard(LINK, THEIRS, OURS, 0.0)
    catching_up.told(THIRD, HELLO, 0.0)
    catching_up.heard(THIRD, OURS, OURS, 0.0)
    assert steps(catching_up, OURS, 0.0) == [(OTHER, Step.IN_STEP), (THIRD, Step.TELL), (THIRD, Step.IN_STEP)]
    catching_up.heard(LINK, OURS, OURS, 0.0)
    assert steps(catching_up, OURS, 0.0) == [(LINK, Step.IN_STEP)]
    assert not busy(catching_up)


def test_link_that_goes_down_is_catching_up_no_more_and_the_others_are() -> None:
    catching_up = met(LINK, OTHER)
    catching_up.link_down(LINK)
    catching_up.link_down(LINK)
    catching_up.link_down(THIRD)
    assert busy(catching_up)
    assert steps(catching_up, NEWER, 0.0) == [(OTHER, Step.TELL)]
    catching_up.link_down(OTHER)
    assert (busy(catching_up), steps(catching_up, NEWER, 0.0)) == (False, [])


def test_nothing_is_kept_of_a_link_that_went_down() -> None:
    """Boards run for days, and their neighbours come and go."""
    catching_up = met(LINK)
    catching_up.heard(LINK, THEIRS, OURS, 0.0)
    catching_up.link_down(LINK)
    assert catching_up._links == {}


def test_new_link_of_the_same_number_begins_anew() -> None:
    catching_up = met(LINK)
    catching_up.heard(LINK, THEIRS, OURS, 0.0)
    catching_up.link_down(LINK)
    catching_up.link_up(LINK, OURS, leads=True)
    catching_up.met(LINK)
    assert catching_up.heard(LINK, NEWER, OURS, 0.1) is True
