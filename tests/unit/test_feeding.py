"""Who feeds a node which log: the first to bring what is new, the author before all, and nobody twice."""

from __future__ import annotations

import pytest

from mesh.core.feeding import Feeders

LOG, OTHER_LOG = b"l" * 16, b"o" * 16
FIRST, SECOND, AUTHOR = 1, 2, 3


@pytest.fixture
def feeders() -> Feeders:
    """A node that the first link feeds one log."""
    found = Feeders()
    assert found.arrived(FIRST, LOG, is_new=True, from_author=False) is None
    return found


def unfed(feeders: Feeders) -> list[bytes]:
    return list(feeders.take_unfed())


def test_log_is_fed_by_whoever_brought_it_first_and_no_other_log_is() -> None:
    feeders = Feeders()
    assert not feeders.is_fed(LOG)
    assert feeders.arrived(FIRST, LOG, is_new=True, from_author=False) is None
    assert feeders.is_fed(LOG)
    assert not feeders.is_fed(OTHER_LOG)


def test_first_to_bring_a_log_feeds_it_even_where_all_of_it_was_held() -> None:
    feeders = Feeders()
    assert feeders.arrived(FIRST, LOG, is_new=False, from_author=False) is None
    assert feeders.is_fed(LOG)
    assert feeders.arrived(SECOND, LOG, is_new=False, from_author=False) == SECOND


def test_whoever_else_brings_what_is_held_is_to_be_quiet_and_the_feeder_itself_is_not(feeders: Feeders) -> None:
    assert feeders.arrived(SECOND, LOG, is_new=False, from_author=False) == SECOND
    assert feeders.arrived(FIRST, LOG, is_new=False, from_author=False) is None
    assert feeders.arrived(SECOND, LOG, is_new=False, from_author=False) == SECOND


def test_whoever_brings_what_is_new_feeds_from_then_on_and_the_one_before_is_quiet_once_it_is_late_again(
    feeders: Feeders,
) -> None:
    assert feeders.arrived(SECOND, LOG, is_new=True, from_author=False) is None
    assert feeders.arrived(SECOND, LOG, is_new=False, from_author=False) is None
    assert feeders.arrived(FIRST, LOG, is_new=False, from_author=False) == FIRST


@pytest.mark.parametrize("is_new", [False, True])
def test_author_takes_over_at_once_and_the_feeder_before_is_quiet(feeders: Feeders, is_new: bool) -> None:
    assert feeders.arrived(AUTHOR, LOG, is_new=is_new, from_author=True) == FIRST
    assert feeders.arrived(AUTHOR, LOG, is_new=is_new, from_author=True) is None
    assert feeders.arrived(FIRST, LOG, is_new=False, from_author=False) == FIRST


def test_log_whose_feeder_went_down_is_named_once_and_the_others_are_not(feeders: Feeders) -> None:
    feeders.arrived(SECOND, OTHER_LOG, is_new=True, from_author=False)
    assert unfed(feeders) == []
    feeders.link_down(FIRST)
    assert (feeders.is_fed(LOG), feeders.is_fed(OTHER_LOG)) == (False, True)
    assert unfed(feeders) == [LOG]
    assert unfed(feeders) == []
    feeders.link_down(FIRST)
    assert unfed(feeders) == []


def test_log_that_came_from_somebody_else_meanwhile_needs_no_other_feeder(feeders: Feeders) -> None:
    feeders.link_down(FIRST)
    assert feeders.arrived(SECOND, LOG, is_new=True, from_author=False) is None
    assert unfed(feeders) == []


def test_neighbour_that_was_asked_feeds_before_it_brought_anything(feeders: Feeders) -> None:
    feeders.link_down(FIRST)
    assert unfed(feeders) == [LOG]
    feeders.grafted(SECOND, LOG)
    assert feeders.is_fed(LOG)
    assert feeders.arrived(FIRST, LOG, is_new=False, from_author=False) == FIRST
    feeders.link_down(SECOND)
    assert unfed(feeders) == [LOG]
