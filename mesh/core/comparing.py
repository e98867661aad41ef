"""What two nodes say to find out where they differ, as functions of a frontier. Pure.

Bucket digests name the buckets that differ; the digests of the logs in those name the logs; only these are summed up.
So one new entry among thousands of logs costs two small messages, not a frontier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mesh.core.frontier import Frontier, LogState, LogSummary
from mesh.core.messages import BucketLogs, FrontierPart, Tell
from mesh.limits import BUCKETS_COUNT

LOGS_PER_FRAME: Final = 1024
"""Digests or summaries in one frame of ours; a bucket that holds more takes a frame of its own."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What the digests of a peer's logs show."""

    same: tuple[LogState, ...]
    ours: list[LogSummary]
    """Logs that the peer does not hold as we do."""
    theirs: Tell | None
    """What to ask about: logs that the peer holds otherwise than we do, or that we do not know."""


def bucket_logs(frontier: Frontier, theirs: Sequence[bytes]) -> Iterator[BucketLogs]:
    """The answer to a peer's bucket digests: the logs in those that differ, whole buckets in each frame."""
    ours = frontier.bucket_digests()
    buckets: set[int] = set()
    digests: list[bytes] = []
    for index in range(BUCKETS_COUNT):
        if ours[index] == theirs[index]:
            continue
        logs = frontier.bucket_logs(index)
        if digests and len(digests) + len(logs) > LOGS_PER_FRAME:
            yield BucketLogs(frozenset(buckets), tuple(digests))
            buckets, digests = set(), []
        buckets.add(index)
        digests += logs
    if buckets:
        yield BucketLogs(frozenset(buckets), tuple(digests))


def differences(frontier: Frontier, message: BucketLogs) -> Differences:
    """Compare what a peer has in some buckets with what is held here."""
    theirs = set(message.digests)
    ours: dict[bytes, bytes] = {}
    for index in sorted(message.buckets):
        ours |= frontier.bucket_logs(index)
    unknown = tuple(digest for digest in message.digests if digest not in ours)
    return Differences(
        same=tuple(frontier.logs[log_id] for digest, log_id in ours.items() if digest in theirs),
        ours=[frontier.logs[log_id].summary() for digest, log_id in ours.items() if digest not in theirs],
        theirs=Tell(unknown) if unknown else None,
    )


def told(frontier: Frontier, message: Tell) -> list[LogSummary]:
    """What the peer asks about. What has changed meanwhile was announced, or shows when it is compared next."""
    asked = set(message.digests)
    every = (each for index in range(BUCKETS_COUNT) for each in frontier.bucket_logs(index).items())
    return [frontier.logs[log_id].summary() for digest, log_id in every if digest in asked]


def frontier_parts(frontier: Frontier, logs: Sequence[LogSummary]) -> Iterator[FrontierPart]:
    """Summaries in frames, in the order of lanes: what is told first is wanted first."""
    by_lane = sorted(logs, key=lambda summary: frontier.logs[summary.log_id].genesis.lane)
    for at in range(0, len(by_lane), LOGS_PER_FRAME):
        yield FrontierPart(tuple(by_lane[at : at + LOGS_PER_FRAME]))
