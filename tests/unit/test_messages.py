"""What nodes say: `tests/vectors/wire.json` holds each message and what is refused; here are the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.comparing import LOGS_PER_FRAME as FRONTIER_LOGS_PER_FRAME
from mesh.core.frontier import Island, LogSummary, Position
from mesh.core.gossip import WANTS_IN_FLIGHT_PER_LINK
from mesh.core.messages import (
    BYE_CHARS_MAX,
    WIRE_VERSION,
    Announce,
    BadMessage,
    BucketLogs,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    Kept,
    Message,
    Missing,
    Plan,
    Quiet,
    RunMessage,
    Tell,
    Want,
    decode_message,
    encode_message,
)
from mesh.errors import PeerError
from mesh.limits import (
    ANNOUNCE_LOGS_PER_FRAME_MAX,
    BRANCHES_PER_LOG_MAX,
    BUCKETS_COUNT,
    ENTRY_SEQ_MAX,
    FRAME_BYTES_MAX,
    FRONTIER_LOGS_PER_FRAME_MAX,
    KEPT_LOGS_PER_FRAME_MAX,
    LOCATOR_IDS_MAX,
    RUN_BYTES_MAX,
    WANTS_IN_FLIGHT_PER_LINK_MAX,
    ZONE_CHARS_MAX,
)

IDS = st.binary(min_size=32, max_size=32)
LOG_IDS = st.binary(min_size=16, max_size=16)
SEQS = st.integers(0, ENTRY_SEQ_MAX)
COUNTS = st.integers(0, 2**63 - 1)
POSITIONS = st.builds(Position, SEQS, IDS)
ISLANDS = st.builds(lambda one, other, tip: Island(min(one, other), Position(max(one, other), tip)), SEQS, SEQS, IDS)
SUMMARIES = st.builds(
    LogSummary, LOG_IDS, st.lists(POSITIONS, max_size=8).map(tuple), st.lists(ISLANDS, max_size=8).map(tuple)
)
DIGESTS = st.binary(min_size=16, max_size=16)
BUCKET_DIGESTS = st.lists(DIGESTS, min_size=64, max_size=64).map(tuple)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, IDS, st.text(max_size=ZONE_CHARS_MAX), IDS, st.just(WIRE_VERSION), DIGESTS),
    st.builds(Buckets, BUCKET_DIGESTS),
    st.builds(FrontierPart, st.lists(SUMMARIES, max_size=4).map(tuple)),
    st.builds(BucketLogs, st.frozensets(st.integers(0, BUCKETS_COUNT - 1)), st.lists(DIGESTS, max_size=9).map(tuple)),
    st.builds(Tell, st.lists(DIGESTS, max_size=9).map(tuple)),
    st.builds(Quiet, LOG_IDS),
    st.builds(Want, LOG_IDS, POSITIONS, st.lists(POSITIONS, max_size=LOCATOR_IDS_MAX).map(tuple)),
    st.builds(Plan, LOG_IDS, COUNTS, COUNTS),
    st.builds(RunMessage, LOG_IDS, COUNTS, st.binary(max_size=200)),
    st.builds(Missing, LOG_IDS, POSITIONS),
    st.builds(Announce, st.lists(st.tuples(LOG_IDS, POSITIONS), max_size=5).map(tuple)),
    st.builds(Digest, IDS, DIGESTS),
    st.builds(Kept, st.lists(st.tuples(LOG_IDS, SEQS), max_size=5).map(tuple)),
    st.builds(Bye, st.text(max_size=BYE_CHARS_MAX)),
)


@given(MESSAGES)
def test_every_message_arrives_as_it_was_said(message: Message) -> None:
    frame = encode_message(message)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert decode_message(frame[4:]) == message


def test_largest_message_of_each_kind_that_a_node_sends_fits_a_frame() -> None:
    position = Position(ENTRY_SEQ_MAX, bytes(32))
    full = LogSummary(bytes(16), (), tuple(Island(ENTRY_SEQ_MAX, position) for _ in range(BRANCHES_PER_LOG_MAX)))
    largest: list[Message] = [
        FrontierPart((full,) * FRONTIER_LOGS_PER_FRAME),
        BucketLogs(frozenset(range(BUCKETS_COUNT)), (bytes(16),) * FRONTIER_LOGS_PER_FRAME_MAX),
        Tell((bytes(16),) * FRONTIER_LOGS_PER_FRAME_MAX),
        Announce(((bytes(16), position),) * ANNOUNCE_LOGS_PER_FRAME_MAX),
        Want(bytes(16), position, (position,) * LOCATOR_IDS_MAX),
        Kept(((bytes(16), ENTRY_SEQ_MAX),) * KEPT_LOGS_PER_FRAME_MAX),
        RunMessage(bytes(16), 512, bytes(RUN_BYTES_MAX)),
    ]
    for message in largest:
        assert len(encode_message(message)) - 4 <= FRAME_BYTES_MAX
        assert decode_message(encode_message(message)[4:]) == message


def test_node_stays_within_what_it_allows_others() -> None:
    assert FRONTIER_LOGS_PER_FRAME <= FRONTIER_LOGS_PER_FRAME_MAX
    assert WANTS_IN_FLIGHT_PER_LINK <= WANTS_IN_FLIGHT_PER_LINK_MAX


@pytest.mark.parametrize(
    "message",
    [
        Hello(bytes(32), "z" * (ZONE_CHARS_MAX + 1), bytes(32)),
        Buckets((bytes(16),) * (BUCKETS_COUNT + 1)),
        FrontierPart((LogSummary(bytes(16), (), ()),) * (FRONTIER_LOGS_PER_FRAME_MAX + 1)),
        FrontierPart((LogSummary(bytes(16), (Position(0, bytes(32)),) * (BRANCHES_PER_LOG_MAX + 1), ()),)),
        Want(bytes(16), Position(0, bytes(32)), (Position(0, bytes(32)),) * (LOCATOR_IDS_MAX + 1)),
        Announce(((bytes(16), Position(0, bytes(32))),) * (ANNOUNCE_LOGS_PER_FRAME_MAX + 1)),
        Kept(((bytes(16), 0),) * (KEPT_LOGS_PER_FRAME_MAX + 1)),
        Kept(((bytes(16), ENTRY_SEQ_MAX + 1),)),
        Kept(((bytes(15), 0),)),
        Digest(bytes(31)),
        Digest(bytes(32), bytes(15)),
        Hello(bytes(32), "", bytes(32), aside=bytes(15)),
        BucketLogs(frozenset(), (bytes(16),) * (FRONTIER_LOGS_PER_FRAME_MAX + 1)),
        Tell((bytes(16),) * (FRONTIER_LOGS_PER_FRAME_MAX + 1)),
        Quiet(bytes(15)),
        Missing(bytes(15), Position(0, bytes(32))),
        Want(bytes(16), Position(ENTRY_SEQ_MAX + 1, bytes(32)), ()),
        FrontierPart((LogSummary(bytes(16), (), (Island(2, Position(1, bytes(32))),)),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_message_over_a_bound_is_refused(message: Message) -> None:
    with pytest.raises(BadMessage):
        decode_message(encode_message(message)[4:])


def test_long_reason_is_cut_where_it_is_said() -> None:
    said = decode_message(encode_message(Bye("why " * 100))[4:])
    assert said == Bye(("why " * 100)[:BYE_CHARS_MAX])


def test_empty_frame_is_refused() -> None:
    with pytest.raises(PeerError):
        decode_message(b"")
