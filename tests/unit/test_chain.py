"""The rules of a log, attack by attack. `tests/vectors/run.json` has the same attacks as bytes, for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.chain import (
    BadGenesis,
    BrokenLink,
    Run,
    SeqNotNext,
    WrongLog,
    check_run,
    encode_run,
    first_bad_signature,
    parse_genesis,
    split_run,
    verify_tip,
)
from mesh.core.codec import NotCanonical, TooLarge
from mesh.core.entry import SIGNATURE_BYTES, BadField, BadSignature, UnknownVersion, decode_entry, entry_id
from mesh.core.kinds import Lane, Role
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX, KNOWN_HEADS_MAX, RUN_BYTES_MAX, RUN_ENTRIES_MAX
from tests.factory import LogWriter, Venue
from tests.vectors.make import altered, flipped, moved_boundary, payload_of, resigned

VENUE = Venue()
BAR = VENUE.device("bar", Role.READER)
OTHER_BAR = VENUE.device("other bar", Role.READER)
KIND = 99


def written(count: int, *, number: int = 0, body: bytes = b"body") -> LogWriter:
    log = LogWriter(BAR, number=number)
    for _ in range(count - 1):
        log.append(KIND, body)
    return log


LOG = written(6)
E = LOG.entries


def taken(entries: Sequence[bytes]) -> Run:
    run = check_run(LOG.log_id, split_run(len(entries), encode_run(entries)))
    verify_tip(run, BAR.public_key)
    return run


@pytest.mark.proves("M2")
def test_every_contiguous_piece_of_a_log_is_taken_in() -> None:
    for first in range(6):
        for last in range(first, 6):
            run = taken(E[first : last + 1])
            assert (run.first_seq, run.last_seq, run.tip_id) == (first, last, LOG.ids[last])
            assert run.prev == (LOG.ids[first - 1] if first else bytes(32))
            assert list(run.ids) == LOG.ids[first : last + 1]


def test_parts_of_a_run_say_where_they_are() -> None:
    run = taken(E)
    front, tail = run.front(4), run.tail(2)
    assert (front.first_seq, front.last_seq, front.tip_id) == (0, 3, LOG.ids[3])
    assert (tail.first_seq, tail.last_seq, tail.prev) == (2, 5, LOG.ids[1])


@pytest.mark.proves("M2")
def test_only_the_order_in_which_they_were_signed_is_taken_in() -> None:
    for order in permutations(range(1, 5)):
        if order == (1, 2, 3, 4):
            continue
        with pytest.raises(SeqNotNext):
            taken([E[at] for at in order])


@pytest.mark.proves("M2")
def test_dropped_entry_shows() -> None:
    for dropped in range(1, 5):
        with pytest.raises(SeqNotNext):
            taken(E[:dropped] + E[dropped + 1 :])


def test_entry_twice_shows() -> None:
    with pytest.raises(SeqNotNext):
        taken([*E[:3], E[2], *E[3:]])


@pytest.mark.proves("M2")
def test_entry_exchanged_for_another_of_its_author_at_the_same_seq_breaks_the_link_after_it() -> None:
    branch = LOG.fork(3)
    branch.append(KIND, b"other")
    with pytest.raises(BrokenLink, match="seq 4"):
        taken([*E[:3], branch.entries[3], *E[4:]])


def test_entry_of_another_log_of_the_same_device_shows() -> None:
    other = written(6, number=1)
    with pytest.raises(WrongLog):
        taken([*E[:3], other.entries[3], *E[4:]])
    with pytest.raises(WrongLog):
        check_run(other.log_id, E)


def test_genesis_under_the_name_of_another_log_shows() -> None:
    with pytest.raises(WrongLog):
        check_run(bytes(16), E[:1])


def test_second_genesis_inside_a_run_shows() -> None:
    with pytest.raises(WrongLog):
        taken([E[0], E[0]])


@pytest.mark.proves("S1.11")
def test_tip_that_its_author_did_not_sign_is_refused() -> None:
    for forged in (flipped(E[3], -1), flipped(E[3], -SIGNATURE_BYTES), resigned(OTHER_BAR, payload_of(E[3]))):
        with pytest.raises(BadSignature):
            taken([*E[:3], forged])


@pytest.mark.proves("S1.11")
def test_any_bit_of_any_entry_that_is_changed_is_noticed() -> None:
    """Below the tip by the link that follows, in the tip by its signature; or it is no entry any more."""
    for at, entry in enumerate(E[:4]):
        for place in range(len(entry)):
            with pytest.raises(PeerError):
                taken([*E[:at], flipped(entry, place), *E[at + 1 : 4]])


@pytest.mark.proves("B2")
def test_bad_signature_below_one_that_vouches_for_it_is_found_and_named() -> None:
    log = written(3)
    log.append_forged(KIND, b"forged")
    log.append(KIND, b"vouches")
    run = check_run(log.log_id, log.entries)
    verify_tip(run, BAR.public_key)
    assert first_bad_signature(run, BAR.public_key) == 3
    assert first_bad_signature(run.front(3), BAR.public_key) is None
    assert first_bad_signature(run.tail(4), BAR.public_key) is None
    assert first_bad_signature(run.tail(2), BAR.public_key) == 3


@pytest.mark.parametrize("amount", [1, 2, 7, 60])
def test_bytes_moved_over_the_boundary_of_two_payloads_are_seen(amount: int) -> None:
    """In sum they encode the same; the check in bulk must not be satisfied by the sum."""
    one, other = payload_of(E[2]), payload_of(E[3])
    forward = [one[:-amount] + E[2][-SIGNATURE_BYTES:], one[-amount:] + other + E[3][-SIGNATURE_BYTES:]]
    back = [one + other[:amount] + E[2][-SIGNATURE_BYTES:], other[amount:] + E[3][-SIGNATURE_BYTES:]]
    for pieces in (forward, back, moved_boundary(E[2], E[3])):
        with pytest.raises(PeerError):
            check_run(LOG.log_id, [*E[:2], *pieces])


@given(st.data())
def test_padding_one_entry_and_shortening_another_is_never_canonical(data: st.DataObject) -> None:
    """Longer by a non-minimal integer here, shorter by a byte there: the total length fits, the bytes do not."""
    at, shorter = data.draw(st.permutations(range(1, 5)))[:2]
    payload = payload_of(E[at])
    padded = payload[:1] + data.draw(st.sampled_from((b"\x18\x01", b"\x19\x00\x01"))) + payload[2:]
    entries = list(E[:5])
    entries[at] = resigned(BAR, padded)
    cut = payload_of(E[shorter])
    entries[shorter] = resigned(BAR, cut[: -(len(padded) - len(payload))])
    with pytest.raises(NotCanonical):
        check_run(LOG.log_id, entries)


def test_trailing_byte_in_one_entry_of_a_run_is_seen() -> None:
    for at in range(5):
        with pytest.raises(NotCanonical):
            check_run(LOG.log_id, [*E[:at], resigned(BAR, payload_of(E[at]) + b"\x00"), *E[at + 1 :]])


def test_entry_without_a_payload_is_seen() -> None:
    for short in (b"", bytes(SIGNATURE_BYTES), bytes(3)):
        with pytest.raises(PeerError):
            check_run(LOG.log_id, [short])


def test_fields_out_of_range_are_seen_in_a_run_too() -> None:
    with pytest.raises(UnknownVersion):
        check_run(LOG.log_id, [altered(BAR, E[1], 0, 2)])
    with pytest.raises(BadField):
        check_run(LOG.log_id, [altered(BAR, E[1], 6, "text")])


def test_run_is_bounded_in_entries_and_in_bytes() -> None:
    with pytest.raises(BadField):
        split_run(RUN_ENTRIES_MAX + 1, encode_run([b""] * (RUN_ENTRIES_MAX + 1)))
    with pytest.raises(BadField):
        split_run(0, b"")
    with pytest.raises(TooLarge):
        split_run(2, bytes(RUN_BYTES_MAX + 1))
    assert len(split_run(RUN_ENTRIES_MAX, encode_run([b"x"] * RUN_ENTRIES_MAX))) == RUN_ENTRIES_MAX


def test_one_entry_always_fits_a_run() -> None:
    log = written(2, body=bytes(ENTRY_BODY_BYTES_MAX))
    assert split_run(1, encode_run(log.entries[1:])) == log.entries[1:]


def test_two_runs_that_follow_each_other_join_by_joining_their_bytes() -> None:
    assert encode_run(E[:2]) + encode_run(E[2:]) == encode_run(E)


# -- Genesis -------------------------------------------------------------------------------------------------------


def test_genesis_says_who_writes_in_which_lane_and_what_the_device_wrote_before() -> None:
    later = LogWriter(BAR, Lane.CONTROL, number=7, known=[LOG])
    genesis = parse_genesis(later.entries[0], VENUE.root)
    assert (genesis.certificate, genesis.lane) == (BAR.certificate, Lane.CONTROL)
    assert [(head.log_id, head.seq, head.id) for head in genesis.known_heads] == [(LOG.log_id, 5, LOG.head_id)]
    assert entry_id(genesis.entry)[:16] == later.log_id == decode_entry(genesis.entry).log_id


@pytest.mark.proves("M7")
def test_log_of_another_venue_is_refused_at_its_genesis() -> None:
    stranger = LogWriter(Venue("Elsewhere").device("bar", Role.READER))
    with pytest.raises(PeerError, match="not signed by this venue"):
        parse_genesis(stranger.entries[0], VENUE.root)


def test_entry_that_is_no_genesis_opens_no_log() -> None:
    with pytest.raises(BadGenesis):
        parse_genesis(E[1], VENUE.root)


def test_device_that_was_restarted_very_often_still_opens_a_log() -> None:
    one = LogWriter(BAR)
    log = LogWriter(BAR, number=1, known=[one] * (KNOWN_HEADS_MAX + 9))
    assert len(parse_genesis(log.entries[0], VENUE.root).known_heads) == KNOWN_HEADS_MAX
