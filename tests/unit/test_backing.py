"""Whose money is on whose disk: holders tell authors, authors believe what can be, and forget nothing too late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from mesh.core.backing import OwnLog
from mesh.core.events import Compared, LinkDown, LinkUp, OwnAppended, ReadBack, Stored
from mesh.core.kinds import Role
from mesh.core.messages import Hello, Kept
from mesh.limits import KEPT_HOLDERS_MAX
from tests.factory import LogWriter, Venue, VenueDevice
from tests.one_node import Answer, OneNode, Said, holding, run_of, written

VENUE: Final = Venue()
BAR: Final = VENUE.device("bar", Role.READER)
TILL: Final = VENUE.device("till", Role.TILL)
COURIER: Final = VENUE.device("courier", Role.COURIER)
LOG: Final = written(BAR, 10)
EARLIER: Final = written(BAR, 4, number=1)
OTHER: Final = written(TILL, 5)


def kept(answers: Sequence[Answer]) -> list[Answer]:
    """What was said about copies."""
    return [answer for answer in answers if isinstance(answer, Said) and isinstance(answer.message, Kept)]


def own_log(node: OneNode, log: LogWriter = LOG) -> OwnLog:
    (found,) = [own for own in node.node.status(node.now).own_logs if own.log_id == log.log_id]
    return found


# -- The holder ----------------------------------------------------------------------------------------------------


@pytest.mark.proves("B4")
def test_author_is_told_what_is_on_the_disk_for_good_and_nobody_else_is() -> None:
    holder = holding(COURIER, LOG, OTHER)
    holder.meets(1, BAR)
    holder.meets(2, VENUE.device("bystander", Role.READER))
    assert holder.does(Stored(((LOG.log_id, 7), (OTHER.log_id, 4)))) == [Said(1, Kept(((LOG.log_id, 7),)))]


def test_what_was_said_is_not_said_again_and_what_grew_is() -> None:
    holder = holding(COURIER, LOG)
    holder.meets(1, BAR)
    holder.does(Stored(((LOG.log_id, 7),)))
    assert holder.does(Stored(((LOG.log_id, 7),))) == []
    assert holder.does(Stored(((LOG.log_id, 6),))) == []
    assert holder.does(Stored(((LOG.log_id, 9),))) == [Said(1, Kept(((LOG.log_id, 9),)))]


def test_author_that_comes_later_is_told_everything_that_is_kept_of_it() -> None:
    holder = holding(COURIER, LOG, EARLIER, OTHER)
    holder.does(Stored(((LOG.log_id, 9), (EARLIER.log_id, 3), (OTHER.log_id, 4))))
    said = kept(_greeting(holder, 1, BAR))
    assert said == [Said(1, Kept(((LOG.log_id, 9), (EARLIER.log_id, 3))))]
    holder.does(LinkDown(1))
    assert kept(_greeting(holder, 2, BAR)) == [Said(2, Kept(((LOG.log_id, 9), (EARLIER.log_id, 3))))]


def _greeting(holder: OneNode, link: int, peer: VenueDevice, digest: bytes = bytes(32)) -> list[Answer]:
    """A peer comes that holds something else, unless told otherwise."""
    holder.does(LinkUp(link, peer.certificate))
    return holder.hears(link, Hello(VENUE.root.venue_id, "north", digest))


def test_two_that_hold_the_same_when_they_meet_need_no_list() -> None:
    holder = holding(COURIER, LOG, EARLIER)
    holder.does(Stored(((LOG.log_id, 9), (EARLIER.log_id, 3))))
    assert kept(_greeting(holder, 1, BAR, holder.digest)) == [Said(1, Kept(()))]


def test_list_is_said_where_something_that_both_hold_is_not_on_the_disk_yet() -> None:
    holder = holding(COURIER, LOG, EARLIER)
    holder.does(Stored(((LOG.log_id, 8), (EARLIER.log_id, 3))))
    said = Kept(((LOG.log_id, 8), (EARLIER.log_id, 3)))
    assert kept(_greeting(holder, 1, BAR, holder.digest)) == [Said(1, said)]
    unheard = holding(COURIER, LOG, EARLIER)
    unheard.does(Stored(((LOG.log_id, 9),)))
    assert kept(_greeting(unheard, 1, BAR, unheard.digest)) == [Said(1, Kept(((LOG.log_id, 9),)))]


def test_holder_says_nothing_about_a_log_that_forked() -> None:
    fork = LOG.fork(5)
    fork.append(99, b"other")
    holder = holding(COURIER, LOG)
    holder.meets(1, BAR)
    (token,) = [answer.token for answer in holder.hears_run(1, run_of(fork, 5)) if isinstance(answer, ReadBack)]
    holder.does(Compared(token, [LOG.entries[4:10]]))
    assert holder.node.contested_from == {LOG.log_id: 5}
    assert kept(holder.does(Stored(((LOG.log_id, 9),)))) == []


# -- The author ----------------------------------------------------------------------------------------------------


def author() -> OneNode:
    node = holding(BAR, LOG, EARLIER)
    node.meets(1, COURIER)
    node.meets(2, TILL)
    return node


@pytest.mark.proves("B4")
def test_after_a_start_nothing_counts_as_kept_until_somebody_says_so() -> None:
    bar = author()
    assert own_log(bar) == OwnLog(LOG.log_id, 9, -1, -1, ())
    assert bar.hears(1, Kept(((LOG.log_id, 6),))) == []
    assert own_log(bar) == OwnLog(LOG.log_id, 9, 6, -1, (COURIER.certificate,))
    bar.hears(2, Kept(((LOG.log_id, 8), (EARLIER.log_id, 3))))
    assert own_log(bar) == OwnLog(LOG.log_id, 9, 8, 6, (TILL.certificate, COURIER.certificate))
    assert own_log(bar, EARLIER).kept_by_one == 3


def test_empty_list_means_what_both_hellos_covered_and_nothing_that_came_since() -> None:
    bar = author()
    longer = LOG.fork()
    longer.append(99, b"")
    bar.does(OwnAppended(run_of(longer, 10)))
    bar.hears(1, Kept(()))
    assert (own_log(bar).head_seq, own_log(bar).kept_by_one, own_log(bar, EARLIER).kept_by_one) == (10, 9, 3)


def test_empty_list_means_nothing_where_the_hellos_differed() -> None:
    bar = holding(BAR, LOG)
    _greeting(bar, 1, COURIER)
    bar.hears(1, Kept(()))
    assert own_log(bar).kept_by_one == -1


@pytest.mark.parametrize(
    "said", [(OTHER.log_id, 3), (bytes(16), 0), (LOG.log_id, 10), (LOG.log_id, 2**32 - 1)], ids=str
)
def test_word_about_what_was_never_written_here_counts_for_nothing_and_accuses_nobody(said: tuple[bytes, int]) -> None:
    bar = author()
    assert bar.hears(1, Kept((said, (LOG.log_id, 2)))) == []
    assert own_log(bar).kept_by_one == 2


def test_peer_that_lost_its_disk_keeps_only_what_it_says_on_its_new_link() -> None:
    bar = author()
    bar.hears(1, Kept(((LOG.log_id, 9),)))
    bar.does(LinkDown(1))
    assert own_log(bar).kept_by_one == 9, "the disk is there, whoever it is linked to"
    bar.meets(3, COURIER)
    assert own_log(bar).kept_by_one == -1
    bar.hears(3, Kept(((LOG.log_id, 4),)))
    assert own_log(bar).kept_by_one == 4


def test_copy_of_a_revoked_device_backs_nothing() -> None:
    bar = author()
    bar.hears(1, Kept(((LOG.log_id, 9),)))
    bar.hears(2, Kept(((LOG.log_id, 5),)))
    bar.node.restore_statement(VENUE.revocation(COURIER))
    assert own_log(bar) == OwnLog(LOG.log_id, 9, 5, -1, (TILL.certificate,))


def test_nothing_is_backed_from_where_an_own_log_is_contested() -> None:
    bar = author()
    bar.hears(1, Kept(((LOG.log_id, 9),)))
    bar.node.contested_from[LOG.log_id] = 4
    assert own_log(bar).kept_by_one == 3


def test_only_those_that_keep_most_are_remembered() -> None:
    bar = author()
    for number in range(KEPT_HOLDERS_MAX + 4):
        bar.meets(10 + number, VENUE.device(f"holder {number}", Role.READER))
        bar.hears(10 + number, Kept(((LOG.log_id, number % 10),)))
    own = own_log(bar)
    assert (own.kept_by_one, own.kept_by_two, len(own.holders)) == (9, 8, KEPT_HOLDERS_MAX)
