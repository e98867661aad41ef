"""Runs and geneses, field by field: what is kept of them, and what is exactly at a bound."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.core.chain import (
    BadGenesis,
    KnownHead,
    PackedRun,
    check_run,
    encode_genesis,
    encode_run,
    first_bad_signature,
    parse_genesis,
    split_run,
)
from mesh.core.codec import NotCanonical, TooLarge, Value, encode
from mesh.core.entry import NO_PREV, BadField, sign_entry
from mesh.core.kinds import Kind, Lane, Role
from mesh.errors import PeerError
from mesh.limits import (
    ENTRY_BYTES_MAX,
    ENTRY_SEQ_MAX,
    KNOWN_HEADS_MAX,
    RUN_BYTES_MAX,
    RUN_ENTRIES_MAX,
)
from tests.factory import LogWriter, Venue
from tests.one_node import written

VENUE: Final = Venue("Chain")
BAR: Final = VENUE.device("bar", Role.READER)
LOG: Final = written(BAR, 6)
HEAD: Final = KnownHead(b"l" * 16, 7, b"i" * 32)


# -- Runs ----------------------------------------------------------------------------------------------------------


def test_run_keeps_the_bytes_that_it_was_split_from_and_its_parts_make_their_own() -> None:
    received = encode_run(LOG.entries[2:])
    run = check_run(LOG.log_id, split_run(4, received), received)
    assert run.blob is received
    assert run.received is received
    assert run.tail(1).blob == encode_run(LOG.entries[3:])
    assert run.front(2).blob == encode_run(LOG.entries[2:4])


def test_run_that_was_not_received_is_encoded_when_its_bytes_are_asked_for() -> None:
    run = check_run(LOG.log_id, LOG.entries)
    assert run.received is None
    assert run.blob == b"".join(encode_run([entry]) for entry in LOG.entries)
    assert run == check_run(LOG.log_id, LOG.entries, run.blob)
    assert run != check_run(LOG.log_id, LOG.entries[1:])


def test_run_packed_for_the_disk_says_its_place_and_has_its_bytes() -> None:
    blob = encode_run(LOG.entries[2:5])
    expected = PackedRun(LOG.log_id, 2, 4, LOG.ids[1], LOG.ids[4], blob)
    assert check_run(LOG.log_id, LOG.entries[2:5]).packed() == expected
    assert check_run(LOG.log_id, LOG.entries[2:5], blob).packed() == expected
    first = check_run(LOG.log_id, LOG.entries[:1]).packed()
    assert first == PackedRun(LOG.log_id, 0, 0, NO_PREV, LOG.ids[0], encode_run(LOG.entries[:1]))


def test_fields_of_a_run_are_those_that_were_signed() -> None:
    run = check_run(LOG.log_id, LOG.entries[1:3])
    assert run.log_id == LOG.log_id
    assert [tuple(fields) for fields in run.fields] == [
        (1, LOG.log_id, seq, LOG.ids[seq - 1], run.fields[0][4] + 1000 * at, 99, b"") for at, seq in enumerate((1, 2))
    ]
    assert (list(run.entries), list(run.ids)) == (LOG.entries[1:3], LOG.ids[1:3])


def test_first_bad_signature_of_several_is_named_by_its_seq() -> None:
    log = written(BAR, 2, number=1)
    log.append_forged(99, b"one")
    log.append_forged(99, b"two")
    log.append(99, b"vouches")
    run = check_run(log.log_id, log.entries[1:])
    assert first_bad_signature(run, BAR.public_key) == 2
    assert first_bad_signature(run.tail(2), BAR.public_key) == 3
    assert first_bad_signature(run.tail(3), BAR.public_key) is None


@pytest.mark.parametrize("count", [1, 2, RUN_ENTRIES_MAX])
def test_run_of_as_many_entries_as_it_says_is_split(count: int) -> None:
    entries = [bytes([number % 251]) for number in range(count)]
    assert split_run(count, encode_run(entries)) == entries
    for wrong in (count - 1, count + 1):
        with pytest.raises(PeerError):
            split_run(wrong, encode_run(entries))


def test_bound_of_bytes_is_that_of_an_entry_for_one_and_that_of_a_run_for_more() -> None:
    def of_length(length: int, count: int) -> bytes:
        rest = b"".join(encode_run([b""]) for _ in range(count - 1))
        for payload in range(length - len(rest), 0, -1):
            if len(encode_run([bytes(payload)])) + len(rest) == length:
                return encode_run([bytes(payload)]) + rest
        raise AssertionError("no run has this length")

    for count, most in ((1, ENTRY_BYTES_MAX + 8), (2, RUN_BYTES_MAX), (3, RUN_BYTES_MAX)):
        assert len(split_run(count, of_length(most, count))) == count
        with pytest.raises(TooLarge, match=str(most + 1)):
            split_run(count, of_length(most + 1, count))


def test_run_that_says_it_has_none_or_too_many_is_refused_before_anything_is_read() -> None:
    for count in (0, -1, RUN_ENTRIES_MAX + 1):
        with pytest.raises(BadField):
            split_run(count, b"\xff")


def test_only_byte_strings_in_their_shortest_form_are_a_run() -> None:
    for blob in (encode("text"), encode(7), encode([b"x"]), b"\x58\x01x", b"\x5f\x41x\xff", b"", b"\x41x\x00"):
        with pytest.raises(NotCanonical):
            split_run(1, blob)


# -- Genesis -------------------------------------------------------------------------------------------------------


def genesis(
    body: bytes, *, seq: int = 0, prev: bytes = NO_PREV, kind: int = Kind.GENESIS, log_id: bytes = b""
) -> bytes:
    return sign_entry(BAR.sign_anything, log_id=log_id, seq=seq, prev=prev, time_ms=1, kind=int(kind), body=body)


def body_of(*, der: Value = BAR.certificate.der, nonce: Value = b"n" * 16, lane: Value = 0, heads: Value = ()) -> bytes:
    return encode([der, nonce, lane, heads])


@pytest.mark.parametrize("lane", list(Lane))
def test_genesis_says_everything_that_it_was_made_of(lane: Lane) -> None:
    heads = [HEAD, KnownHead(b"m" * 16, 0, b"j" * 32)]
    entry = genesis(encode_genesis(BAR.certificate.der, b"n" * 16, lane, heads))
    found = parse_genesis(entry, VENUE.root)
    assert found.certificate == BAR.certificate
    assert (found.nonce, found.lane, found.known_heads, found.entry) == (b"n" * 16, lane, tuple(heads), entry)


def test_of_more_heads_than_a_genesis_names_it_names_the_last() -> None:
    heads = [KnownHead(b"l" * 16, number, b"i" * 32) for number in range(KNOWN_HEADS_MAX + 2)]
    for count in (1, KNOWN_HEADS_MAX, KNOWN_HEADS_MAX + 2):
        entry = genesis(encode_genesis(BAR.certificate.der, b"n" * 16, Lane.MONEY, heads[:count]))
        assert parse_genesis(entry, VENUE.root).known_heads == tuple(heads[:count][-KNOWN_HEADS_MAX:])


def test_genesis_of_exactly_as_many_heads_as_its_bound_is_read_and_one_more_is_not() -> None:
    place: list[Value] = [HEAD.log_id, HEAD.seq, HEAD.id]
    full = genesis(body_of(heads=[place] * KNOWN_HEADS_MAX))
    assert parse_genesis(full, VENUE.root).known_heads == (HEAD,) * KNOWN_HEADS_MAX
    with pytest.raises(BadGenesis, match="at most"):
        parse_genesis(genesis(body_of(heads=[place] * (KNOWN_HEADS_MAX + 1))), VENUE.root)


@pytest.mark.parametrize(
    "body",
    [
        body_of(der="text"),
        body_of(nonce=b"n" * 15),
        body_of(nonce=b"n" * 17),
        body_of(nonce="n" * 16),
        body_of(lane=True),
        body_of(lane=False),
        body_of(lane=len(Lane)),
        body_of(lane=-1),
        body_of(lane=b"\x00"),
        body_of(heads=None),
        body_of(heads=[None]),
        body_of(heads=[[b"l" * 15, 7, b"i" * 32]]),
        body_of(heads=[[b"l" * 17, 7, b"i" * 32]]),
        body_of(heads=[[b"l" * 16, 7, b"i" * 31]]),
        body_of(heads=[[b"l" * 16, 7, b"i" * 33]]),
        body_of(heads=[[b"l" * 16, -1, b"i" * 32]]),
        body_of(heads=[[b"l" * 16, ENTRY_SEQ_MAX + 1, b"i" * 32]]),
        body_of(heads=[[b"l" * 16, "7", b"i" * 32]]),
        body_of(heads=[[b"l" * 16, 7]]),
        encode([BAR.certificate.der, b"n" * 16, 0]),
        encode([BAR.certificate.der, b"n" * 16, 0, [], None]),
    ],
)
def test_genesis_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(BadGenesis):
        parse_genesis(genesis(body), VENUE.root)


@pytest.mark.parametrize("seq", [0, ENTRY_SEQ_MAX])
def test_earlier_head_may_be_at_the_first_and_at_the_last_seq_there_is(seq: int) -> None:
    head = KnownHead(HEAD.log_id, seq, HEAD.id)
    entry = genesis(encode_genesis(BAR.certificate.der, b"n" * 16, Lane.MONEY, [head]))
    assert parse_genesis(entry, VENUE.root).known_heads == (head,)


def test_entry_that_stands_elsewhere_or_is_something_else_is_no_genesis() -> None:
    good = body_of()
    parse_genesis(genesis(good), VENUE.root)
    for entry in (
        genesis(good, seq=1, prev=b"p" * 32, log_id=b"l" * 16),
        genesis(good, seq=1, log_id=b"l" * 16),
        genesis(good, kind=99),
    ):
        with pytest.raises(PeerError):
            parse_genesis(entry, VENUE.root)


def test_log_says_its_place_after_its_genesis() -> None:
    log = LogWriter(BAR, Lane.CONTROL, number=3, known=[LOG])
    assert parse_genesis(log.entries[0], VENUE.root).known_heads == (KnownHead(LOG.log_id, 5, LOG.head_id),)
