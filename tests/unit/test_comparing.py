"""What two nodes say to find where they differ, and what is set aside from that: exactly, message by message."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest

from mesh.core import comparing
from mesh.core.frontier import NOTHING_ASIDE, Branch, Frontier, LogSummary, Position
from mesh.core.kinds import Lane, Role
from mesh.core.messages import BucketLogs, FrontierPart, Tell
from mesh.limits import BUCKETS_COUNT
from tests.factory import Venue
from tests.one_node import genesis_of, written

VENUE: Final = Venue("Comparing")
AUTHOR: Final = VENUE.device("author", Role.READER)
GENESES: Final = {lane: genesis_of(written(AUTHOR, 1, lane=lane)) for lane in Lane}


def name_of(bucket: int, number: int = 0) -> bytes:
    return bytes([bucket, number]) + bytes(14)


def holding(*logs: tuple[bytes, int], lane: Lane = Lane.MONEY) -> Frontier:
    """A frontier that holds each of these logs up to a seq."""
    frontier = Frontier()
    for log_id, seq in logs:
        hold(frontier, log_id, seq, lane)
    return frontier


def hold(frontier: Frontier, log_id: bytes, seq: int, lane: Lane = Lane.MONEY) -> None:
    frontier.open_log(log_id, GENESES[lane])
    frontier.restore_branch(log_id, Branch(0, 0, bytes(32), head(log_id, seq), None, True, [head(log_id, seq)]))


def head(log_id: bytes, seq: int) -> Position:
    return Position(seq, hashlib.sha256(log_id + bytes([seq])).digest())


def digest(log_id: bytes, seq: int) -> bytes:
    """As specified: 16 bytes over the log's id and its heads."""
    return hashlib.sha256(log_id + b"H" + head(log_id, seq).id).digest()[:16]


def summary(log_id: bytes, seq: int) -> LogSummary:
    return LogSummary(log_id, (head(log_id, seq),), ())


A, B, C, D = name_of(3, 1), name_of(3, 2), name_of(9), name_of(60)


def test_buckets_that_differ_are_answered_with_the_digests_of_their_logs_by_bucket_and_id() -> None:
    ours, theirs = holding((D, 1), (B, 1), (C, 1), (A, 1)), holding((A, 1), (C, 1))
    (answer,) = comparing.bucket_logs(ours, theirs.bucket_digests())
    assert answer == BucketLogs(frozenset({3, 60}), (digest(A, 1), digest(B, 1), digest(D, 1)))
    assert list(comparing.bucket_logs(ours, ours.bucket_digests())) == []


def test_bucket_of_which_nothing_is_held_is_answered_too() -> None:
    assert list(comparing.bucket_logs(Frontier(), holding((C, 1)).bucket_digests())) == [BucketLogs(frozenset({9}), ())]


def test_frames_hold_whole_buckets_and_no_more_digests_than_their_bound_if_one_bucket_has_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert comparing.LOGS_PER_FRAME == 1024
    monkeypatch.setattr("mesh.core.comparing.LOGS_PER_FRAME", 3)
    sizes = {0: 1, 1: 2, 2: 1, 3: 4, 4: 1, 5: 0, 6: 2}
    ours = holding(*((name_of(bucket, n), 0) for bucket, count in sizes.items() for n in range(count)))
    theirs = [bytes(16) if index in sizes else each for index, each in enumerate(ours.bucket_digests())]
    frames = list(comparing.bucket_logs(ours, theirs))
    assert [(sorted(frame.buckets), len(frame.digests)) for frame in frames] == [
        ([0, 1], 3),
        ([2], 1),
        ([3], 4),
        ([4, 5, 6], 3),
    ]


def test_logs_that_differ_are_summed_up_and_those_unknown_are_asked_about_and_nothing_else_is_touched() -> None:
    ours = holding((A, 5), (B, 1), (C, 1), (D, 1))
    theirs = (digest(A, 7), digest(B, 1), digest(name_of(3, 3), 2))
    found = comparing.differences(ours, BucketLogs(frozenset({3, 60}), theirs))
    assert [log.log_id for log in found.same] == [B]
    assert found.ours == [summary(A, 5), summary(D, 1)]
    assert found.theirs == Tell((digest(A, 7), digest(name_of(3, 3), 2)))


def test_nothing_is_asked_where_every_digest_is_known() -> None:
    found = comparing.differences(holding((A, 5)), BucketLogs(frozenset({3}), (digest(A, 5),)))
    assert (found.ours, found.theirs) == ([], None)


def test_only_what_was_asked_about_and_is_held_like_that_is_told() -> None:
    ours = holding((A, 5), (B, 1), (D, 1))
    asked = Tell((digest(D, 1), digest(A, 4), bytes(16), digest(B, 1)))
    assert comparing.told(ours, asked) == [summary(B, 1), summary(D, 1)]
    assert comparing.told(ours, Tell(())) == []


def test_summaries_go_out_by_lane_in_full_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.core.comparing.LOGS_PER_FRAME", 2)
    frontier = holding((A, 1), lane=Lane.TELEMETRY)
    hold(frontier, B, 1, Lane.MONEY)
    hold(frontier, C, 1, Lane.CONTROL)
    parts = list(comparing.frontier_parts(frontier, [summary(A, 1), summary(B, 1), summary(C, 1)]))
    assert parts == [FrontierPart((summary(C, 1), summary(B, 1))), FrontierPart((summary(A, 1),))]
    assert list(comparing.frontier_parts(frontier, [])) == []


# -- Set aside -----------------------------------------------------------------------------------------------------


def test_log_set_aside_leaves_the_main_digest_and_its_bucket_and_stays_in_the_digest_of_everything() -> None:
    frontier, without = holding((A, 5), (B, 1)), holding((B, 1))
    everything = frontier.digest()
    assert everything == frontier.main_digest() != without.main_digest()
    assert frontier.aside_digest() == NOTHING_ASIDE == hashlib.sha256().digest()[:16]
    frontier.set_aside(A)
    assert frontier.main_digest() == without.main_digest()
    assert frontier.bucket_digests() == without.bucket_digests()
    assert frontier.bucket_logs(3) == {digest(B, 1): B}
    assert frontier.digest() == everything
    full = hashlib.sha256(A + b"H" + head(A, 5).id).digest()
    assert frontier.aside_digest() == hashlib.sha256(full).digest()[:16]
    assert frontier.aside_summaries() == [summary(A, 5)]


def test_log_that_is_set_aside_before_it_is_held_is_never_compared_with_the_others() -> None:
    frontier = holding((B, 1))
    frontier.set_aside(A)
    assert frontier.aside_digest() == NOTHING_ASIDE
    assert frontier.aside_summaries() == []
    main = frontier.main_digest()
    hold(frontier, A, 2)
    assert frontier.main_digest() == main
    assert frontier.aside_summaries() == [summary(A, 2)]
    assert frontier.digest() == holding((A, 2), (B, 1)).digest()


def test_log_set_aside_is_neither_summed_up_nor_told() -> None:
    ours = holding((A, 5), (B, 1))
    ours.set_aside(A)
    found = comparing.differences(ours, BucketLogs(frozenset(range(BUCKETS_COUNT)), ()))
    assert found.ours == [summary(B, 1)]
    assert comparing.told(ours, Tell((digest(A, 5),))) == []
