"""What is exactly at a bound is allowed, and one more is not: found missing by a mutation run."""

from __future__ import annotations

import pytest

from mesh.core.chain import KnownHead, check_run, encode_genesis, encode_run, parse_genesis, split_run
from mesh.core.codec import NotCanonical, TooLarge, array_header, decode, encode
from mesh.core.entry import SIGNATURE_DOMAIN, decode_entry
from mesh.core.frontier import Island, LogSummary, Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import BadMessage, FrontierPart, Hello, decode_message, encode_message
from mesh.limits import (
    BRANCHES_PER_LOG_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_SEQ_MAX,
    FRONTIER_LOGS_PER_FRAME_MAX,
    RUN_BYTES_MAX,
    ZONE_CHARS_MAX,
)
from tests.factory import LogWriter, Venue

VENUE = Venue()
BAR = VENUE.device("bar", Role.READER)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 1000])
def test_array_head_is_the_one_that_the_encoder_writes(size: int) -> None:
    assert encode([0] * size) == array_header(size) + bytes(size)


def test_value_of_exactly_its_bound_is_decoded() -> None:
    data = encode(b"abc")
    assert decode(data, bytes_max=len(data)) == b"abc"
    with pytest.raises(TooLarge):
        decode(data, bytes_max=len(data) - 1)


def test_entry_of_a_run_whose_array_head_is_not_its_shortest_is_refused() -> None:
    log = LogWriter(BAR)
    payload = decode_entry(log.append(Kind.ABORT, b"x")).data[:-64]
    longer = b"\x98\x07" + payload[1:]
    with pytest.raises(NotCanonical):
        check_run(log.log_id, [longer + BAR.sign_anything(SIGNATURE_DOMAIN + longer)])


def test_run_of_exactly_its_bytes_is_split_and_one_byte_more_is_not() -> None:
    one, other = bytes(RUN_BYTES_MAX // 2 - 5), bytes(RUN_BYTES_MAX // 2 - 5)
    blob = encode_run([one, other])
    assert len(blob) == RUN_BYTES_MAX
    assert split_run(2, blob) == [one, other]
    with pytest.raises(TooLarge):
        split_run(2, encode_run([one, other + b"\x00"]))


def test_single_entry_may_be_as_long_as_an_entry_and_no_longer() -> None:
    assert split_run(1, encode_run([bytes(ENTRY_BYTES_MAX)])) == [bytes(ENTRY_BYTES_MAX)]
    with pytest.raises(TooLarge):
        split_run(1, encode_run([bytes(ENTRY_BYTES_MAX + 8)]))


def test_run_that_is_one_string_is_no_run() -> None:
    with pytest.raises(NotCanonical):
        split_run(1, encode("text"))


def test_genesis_names_its_nonce_and_heads_up_to_the_last_seq_there_is() -> None:
    head = KnownHead(b"l" * 16, ENTRY_SEQ_MAX, b"i" * 32)
    log = LogWriter(BAR)
    body = encode_genesis(BAR.certificate.der, b"n" * 16, Lane.MONEY, [head])
    log.entries, log.ids, log.log_id = [], [], b""
    genesis = parse_genesis(log.append(Kind.GENESIS, body), VENUE.root)
    assert (genesis.nonce, genesis.known_heads) == (b"n" * 16, (head,))


def test_zone_of_exactly_its_bound_is_heard() -> None:
    hello = Hello(VENUE.root.venue_id, "z" * ZONE_CHARS_MAX, bytes(32))
    assert decode_message(encode_message(hello)[4:]) == hello
    with pytest.raises(BadMessage):
        decode_message(encode_message(Hello(VENUE.root.venue_id, "z" * (ZONE_CHARS_MAX + 1), bytes(32)))[4:])


def test_frontier_of_exactly_its_bound_is_heard() -> None:
    logs = tuple(LogSummary(number.to_bytes(16, "big"), (), ()) for number in range(FRONTIER_LOGS_PER_FRAME_MAX + 1))
    full = FrontierPart(logs[1:])
    assert decode_message(encode_message(full)[4:]) == full
    with pytest.raises(BadMessage):
        decode_message(encode_message(FrontierPart(logs))[4:])


def test_heads_and_islands_of_a_log_are_bounded_together() -> None:
    place = Position(1, bytes(32))
    half = BRANCHES_PER_LOG_MAX // 2
    full = FrontierPart((LogSummary(b"l" * 16, (place,) * half, (Island(0, place),) * half),))
    assert decode_message(encode_message(full)[4:]) == full
    over = FrontierPart((LogSummary(b"l" * 16, (place,) * (half + 1), (Island(0, place),) * half),))
    with pytest.raises(BadMessage):
        decode_message(encode_message(over)[4:])
