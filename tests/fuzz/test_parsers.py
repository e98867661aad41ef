"""Any bytes either parse to something that encodes to the same bytes, or raise a `PeerError`. Nothing else happens.

Three sources of bytes: chance; CBOR of every kind there is, allowed or not; and what is valid, damaged a little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.chain import check_run, encode_genesis, encode_run, parse_genesis, split_run
from mesh.core.codec import Value, decode, encode
from mesh.core.entry import LOG_ID_BYTES, SIGNATURE_BYTES, Entry, decode_entry, entry_id
from mesh.core.fork import check_fork_proof
from mesh.core.kinds import Kind, Operation, Role
from mesh.core.messages import decode_message, encode_message
from mesh.core.receipt import Receipt, decode_receipt, sign_receipt
from mesh.errors import PeerError
from mesh.limits import FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX
from mesh.views.card_record import RECORD_BYTES, decode_record
from mesh.views.evidence import check_case, make_case
from mesh.views.tap_entry import decode_abort, decode_tap, decode_taps
from tests.vectors.make import BAR_A, TILL, VENUE, World, messages

WORLD: Final = World()
A, B = WORLD.bar_a.entries, WORLD.bar_b.entries
LOG_ID: Final = WORLD.bar_a.log_id
SETTLEMENT: Final = VENUE.device("settlement", Role.SETTLEMENT)
RECEIPT: Final = sign_receipt(
    SETTLEMENT.sign,
    Receipt(LOG_ID, 3, A[3][:32], 4, 650, 4, 1, (A[1][:32],), bytes(16), SETTLEMENT.certificate.der),
)


def entry_bytes(entry: Entry) -> bytes:
    log_id = entry.log_id if entry.seq else b""
    payload = encode([1, log_id, entry.seq, entry.prev, entry.time_ms, entry.kind, entry.body])
    return payload + entry.data[-SIGNATURE_BYTES:]


def reread_run(data: bytes) -> bytes:
    """The first byte is how many entries there are said to be."""
    entries = split_run(data[0] if data else 0, data[1:])
    log_id = entry_id(entries[0])[:LOG_ID_BYTES] if decode_entry(entries[0]).seq == 0 else LOG_ID
    run = check_run(log_id, entries)
    for entry, fields in zip(run.entries, run.fields, strict=True):
        assert encode(list(fields)) == entry[:-SIGNATURE_BYTES]
    return bytes([len(run.ids)]) + encode_run(run.entries)


def reread_genesis(data: bytes) -> bytes:
    genesis = parse_genesis(data, VENUE.root)
    entry = decode_entry(data)
    body = encode_genesis(genesis.certificate.der, genesis.nonce, genesis.lane, genesis.known_heads)
    assert body == entry.body
    return entry_bytes(entry)


def reread_case(data: bytes) -> bytes:
    case = check_case(data, VENUE.root)
    assert len(case.taps) >= 2
    return encode(decode(data, bytes_max=len(data)))


def reread_receipt(data: bytes) -> bytes:
    return sign_receipt(lambda _domain, _: data[-SIGNATURE_BYTES:], decode_receipt(data))


@dataclass(frozen=True)
class Parser:
    """What reads bytes from outside: returns what its result encodes to."""

    reread: Callable[[bytes], bytes]
    valid: tuple[bytes, ...]


PARSERS: Final = {
    "value": Parser(
        lambda data: encode(decode(data, bytes_max=FRAME_BYTES_MAX)), (encode([1, b"a", "b", None, [True]]),)
    ),
    "entry": Parser(lambda data: entry_bytes(decode_entry(data)), tuple(A)),
    "run": Parser(reread_run, (bytes([3]) + encode_run(A[1:4]), bytes([len(A)]) + encode_run(A))),
    "genesis": Parser(reread_genesis, (A[0], WORLD.earlier.entries[0])),
    "message": Parser(
        lambda data: encode_message(decode_message(data))[4:],
        tuple(encode_message(message)[4:] for _, message in messages(WORLD)),
    ),
    "fork proof": Parser(
        lambda data: check_fork_proof(data, VENUE.root).body,
        (encode([A[0], *sorted((A[3], WORLD.fork.entries[3]), key=entry_id)]),),
    ),
    "tap": Parser(
        lambda data: decode_tap(data).encode(),
        (decode_entry(A[1]).body, WORLD.band.propose(TILL, Operation.TOP_UP, 5).encode()),
    ),
    "abort": Parser(lambda data: decode_abort(data).encode(), (decode_entry(A[2]).body,)),
    "card record": Parser(lambda data: decode_record(data).encode(), (WORLD.band.sealed[:RECORD_BYTES],)),
    "receipt": Parser(reread_receipt, (RECEIPT,)),
    "case": Parser(reread_case, (make_case(VENUE.root, [(A[0], A[1]), (B[0], B[1])]),)),
}


def head(major: int, value: int, width: int) -> bytes:
    """A CBOR head, in the shortest form that has room or in a wider one."""
    shortest = 0 if value < 24 else next(index for index in (1, 2, 3, 4) if value < 256**2 ** (index - 1))
    width = max(width, shortest)
    if width == 0:
        return bytes([major << 5 | value])
    return bytes([major << 5 | 23 + width]) + value.to_bytes(2 ** (width - 1), "big")


WIDTHS = st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2, 3, 4))
NUMBERS = st.one_of(st.integers(0, 30), st.sampled_from((255, 256, 2**16, 2**32 - 1, 2**32, 2**53, 2**63, 2**64 - 1)))
TAGS = st.one_of(st.integers(0, 40), st.sampled_from((52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799, 2**64 - 1)))
LEAVES = st.one_of(
    st.builds(head, st.sampled_from((0, 1)), NUMBERS, WIDTHS),
    st.builds(lambda data, width: head(2, len(data), width) + data, st.binary(max_size=40), WIDTHS),
    st.builds(lambda data, width: head(3, len(data), width) + data, st.binary(max_size=12), WIDTHS),
    st.builds(lambda text: head(3, len(text.encode()), 0) + text.encode(), st.text(max_size=8)),
    st.builds(head, st.sampled_from((2, 3, 4, 5, 6, 7)), NUMBERS, WIDTHS),
    st.sampled_from(
        [bytes.fromhex(h) for h in ("f4", "f5", "f6", "f7", "ff", "f90000", "f97e00", "fb7ff8000000000000")]
    ),
)


def containers(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    lists = st.lists(items, max_size=8)
    return st.one_of(
        st.builds(lambda parts, width: head(4, len(parts), width) + b"".join(parts), lists, WIDTHS),
        st.builds(lambda parts, width: head(5, len(parts) // 2, width) + b"".join(parts), lists, WIDTHS),
        st.builds(lambda tag, item: head(6, tag, 0) + item, TAGS, items),
        st.builds(lambda parts: b"\x9f" + b"".join(parts) + b"\xff", lists),
        st.builds(lambda parts: b"\x5f" + b"".join(parts) + b"\xff", lists),
        st.builds(lambda item, depth: b"\x81" * depth + item, items, st.integers(1, 40)),
    )


CBOR = st.recursive(LEAVES, containers, max_leaves=20)


@st.composite
def damaged(draw: st.DrawFn, valid: tuple[bytes, ...]) -> bytes:
    """Something valid with up to three bytes changed, put in, taken out, cut off, or pieces of it repeated."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        at, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        match draw(st.integers(0, 5)):
            case 0 if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case 1:
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case 2:
                del data[at : at + draw(st.integers(1, 4))]
            case 3:
                del data[at:]
            case 4:
                data[end:end] = data[at : min(end, at + 80)]
            case _:
                data[at : at + 1] = draw(LEAVES)
    return bytes(data)


def check(parser: Parser, data: bytes) -> None:
    try:
        again = parser.reread(data)
    except PeerError:
        return
    assert again == data


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_valid_parses(name: str) -> None:
    for data in PARSERS[name].valid:
        assert PARSERS[name].reread(data) == data


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.one_of(st.binary(max_size=300), CBOR, st.builds(lambda item: item + bytes(SIGNATURE_BYTES), CBOR)))
def test_any_bytes_parse_to_themselves_or_are_the_peers_fault(name: str, data: bytes) -> None:
    check(PARSERS[name], data)


@pytest.mark.parametrize("name", PARSERS)
@given(draw=st.data())
def test_damaged_bytes_parse_to_themselves_or_are_the_peers_fault(name: str, draw: st.DataObject) -> None:
    parser = PARSERS[name]
    check(parser, draw.draw(damaged(parser.valid)))


@given(st.lists(st.one_of(CBOR, damaged(PARSERS["tap"].valid), st.sampled_from(PARSERS["tap"].valid)), max_size=6))
def test_taps_read_in_bulk_are_those_read_one_by_one(bodies: list[bytes]) -> None:
    """One bad body in a run must neither hide its neighbours nor be carried by them."""
    for body, values in zip(bodies, decode_taps(bodies), strict=True):
        try:
            expected = decode_tap(body)
        except PeerError:
            assert values is None
        else:
            assert values is not None
            assert encode(list(values)) == body == expected.encode()


@given(st.binary(max_size=64))
def test_bytes_moved_between_neighbouring_tap_bodies_are_seen(moved: bytes) -> None:
    one, other = PARSERS["tap"].valid
    assert decode_taps([one + moved, other])[0] is None or not moved
    assert decode_taps([one[:-1], one[-1:] + other]) == [None, None]


def test_hello_of_the_longest_zone_fits_what_a_stranger_may_send() -> None:
    longest: list[Value] = [0, 2**63 - 1, bytes(32), "\U0010ffff" * 32, bytes(32)]
    assert len(encode(longest)) <= HELLO_FRAME_BYTES_MAX
    decode_message(encode(longest))


def test_kind_of_the_abort_in_these_tests_is_what_it_is_taken_for() -> None:
    assert decode_entry(A[2]).kind == Kind.ABORT
    assert decode_entry(A[1]).kind == Kind.TAP
    assert BAR_A.certificate.roles == {Role.READER}


@pytest.mark.proves("B1")
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_no_byte_of_a_case_can_be_changed(bit: int) -> None:
    """Every byte is signed, hashed or the one way to encode what is; so is the root, which must be the venue's."""
    (case,) = PARSERS["case"].valid
    for at in range(len(case)):
        with pytest.raises(PeerError):
            check_case(case[:at] + bytes([case[at] ^ bit]) + case[at + 1 :], VENUE.root)
    for end in range(len(case)):
        with pytest.raises(PeerError):
            check_case(case[:end], VENUE.root)
