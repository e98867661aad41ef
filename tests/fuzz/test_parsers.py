"""Any bytes either parse to something that encodes to the same bytes, or raise a `PeerError`. Nothing else happens.

Three sources of bytes: chance; CBOR of every kind there is, allowed or not; and what is valid, damaged a little.
"""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.codec import Value, encode
from mesh.core.entry import SIGNATURE_BYTES, decode_entry
from mesh.core.kinds import Kind, Role
from mesh.core.messages import WIRE_VERSION, decode_message
from mesh.errors import PeerError
from mesh.limits import HELLO_FRAME_BYTES_MAX
from mesh.views.evidence import check_case
from mesh.views.tap_entry import decode_tap, decode_taps
from tests.fuzz.catalogue import check
from tests.fuzz.signed import SIGNED
from tests.fuzz.targets import PLAIN, A
from tests.vectors.make import BAR_A, VENUE

PARSERS: Final = {**PLAIN, **SIGNED}


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
    longest: list[Value] = [0, WIRE_VERSION, bytes(32), "\U0010ffff" * 32, bytes(32), bytes(16)]
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
