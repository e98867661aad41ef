"""Strict CBOR: any bytes either parse to a value that encodes to the same bytes, or are a `PeerError`.

That is the whole invariant; `tests/fuzz` searches for what breaks it, here are the attacks that have names.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from mesh.core.codec import NotCanonical, TooLarge, Value, decode, decode_array, decode_unchecked, encode
from mesh.core.messages import decode_message
from mesh.errors import PeerError
from mesh.limits import CBOR_DEPTH_MAX

LIMIT = 1024 * 1024


def test_every_allowed_type_survives_a_round_trip() -> None:
    integers: list[Value] = [0, 23, 24, 255, 256, 2**32, 2**64 - 1, -1, -(2**64)]
    value: Value = [*integers, b"", b"\x00" * 300, "", "café", True, False, None]
    assert decode(encode(value), bytes_max=LIMIT) == value


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


def test_nesting_is_allowed_up_to_its_bound_and_not_one_deeper() -> None:
    assert decode(nested(CBOR_DEPTH_MAX), bytes_max=LIMIT)
    for depth in (CBOR_DEPTH_MAX + 1, CBOR_DEPTH_MAX + 3, 1000, 100_000):
        with pytest.raises(NotCanonical):
            decode(nested(depth), bytes_max=LIMIT)


@pytest.mark.parametrize(
    ("attack", "data"),
    [
        ("nothing at all", ""),
        ("trailing byte", "0000"),
        ("one-byte integer in two", "1817"),
        ("two-byte integer in three", "1900ff"),
        ("three-byte integer in five", "1a0000ffff"),
        ("five-byte integer in nine", "1b00000000ffffffff"),
        ("negative integer in too many bytes", "3817"),
        ("byte string with a long length", "580161"),
        ("text with a long length", "780161"),
        ("array with a long length", "980100"),
        ("indefinite byte string", "5f4161ff"),
        ("indefinite text", "7f6161ff"),
        ("indefinite array", "9f00ff"),
        ("indefinite map", "bf0000ff"),
        ("lone break", "ff"),
        ("reserved additional information", "1c"),
        ("map", "a10001"),
        ("empty map", "a0"),
        ("map with one key twice", "a200010002"),
        ("half float", "f90000"),
        ("single float", "fa00000000"),
        ("double float", "fb0000000000000000"),
        ("not a number", "f97e00"),
        ("infinity", "f97c00"),
        ("undefined", "f7"),
        ("simple value", "f0"),
        ("simple value in two bytes", "f820"),
        ("text that is not UTF-8", "62c328"),
        ("text with a surrogate", "63eda080"),
        ("bignum that would fit an integer", "c24101"),
        ("smallest bignum, canonically encoded", "c249010000000000000000"),
        ("negative bignum, canonically encoded", "c349010000000000000000"),
        ("date", "c074323031332d30332d32315432303a30343a30305a"),
        ("decimal with a huge exponent", "c4821b000001000000000003"),
        ("bigfloat with a huge exponent", "c5821b000001000000000003"),
        ("regular expression", "d823622828"),
        ("rational", "d81e820102"),
        ("self-described", "d9d9f700"),
        ("array that contains itself", "d81c81d81d00"),
        ("reference to a string", "d90100824361626343d81900"),
        ("set", "d9010282010a"),
        ("unknown tag", "da7fffffff00"),
        ("array cut short", "8200"),
        ("byte string cut short", "4361"),
    ],
)
def test_what_is_not_the_one_encoding_is_refused(attack: str, data: str) -> None:
    for payload in (bytes.fromhex(data), b"\x81" + bytes.fromhex(data)):
        with pytest.raises(NotCanonical):
            decode(payload, bytes_max=LIMIT)


TAGS = (*range(300), 1004, 43000, 55799, 2**16, 2**32 - 1, 2**32, 2**64 - 1)


def tagged(tag: int, content: bytes) -> bytes:
    if tag < 24:
        return bytes([0xC0 + tag]) + content
    width = next(width for width in (1, 2, 4, 8) if tag < 256**width)
    return bytes([{1: 0xD8, 2: 0xD9, 4: 0xDA, 8: 0xDB}[width]]) + tag.to_bytes(width, "big") + content


@pytest.mark.parametrize("content", ["00", "40", "60", "80", "820001", "a0", "f6"])
def test_no_tag_is_ever_looked_into(content: str) -> None:
    for tag in TAGS:
        for data in (tagged(tag, bytes.fromhex(content)), b"\x81" + tagged(tag, bytes.fromhex(content))):
            with pytest.raises(NotCanonical, match="tag"):
                decode_unchecked(data)


def test_array_is_required_where_only_an_array_will_do() -> None:
    with pytest.raises(NotCanonical):
        decode_array(b"\x00", bytes_max=LIMIT)


def test_nothing_longer_than_its_bound_is_decoded() -> None:
    with pytest.raises(TooLarge):
        decode(b"\xff" * 11, bytes_max=10)


def shared_levels(levels: int, width: int) -> bytes:
    """Arrays of references to one another: `width ** levels` items in a few hundred bytes (tags 28 and 29)."""
    data = b"\x80" if levels < 0 else bytes([0x80 + levels]) + b"\xd8\x1c\x98" + bytes([width]) + b"\x00" * width
    for level in range(levels - 1):
        data += b"\xd8\x1c\x98" + bytes([width]) + (b"\xd8\x1d" + bytes([level])) * width
    return data


def repeated_string(size: int, times: int) -> bytes:
    """One long string and many references to it (tags 25 and 256): `size * times` bytes out of a few."""
    array = b"\x99" + (times + 1).to_bytes(2, "big") + b"\x5a" + size.to_bytes(4, "big") + bytes(size)
    return b"\xd9\x01\x00" + array + b"\xd8\x19\x00" * times


BOMBS: dict[str, Callable[[], bytes]] = {
    "shared arrays": lambda: shared_levels(7, 200),
    "string references": lambda: repeated_string(500_000, 60_000),
    "array of 2**63 items": lambda: bytes.fromhex("9b7fffffffffffffff"),
    "array of 2**28 items": lambda: bytes.fromhex("9a10000000"),
    "arrays of 2**28 items in each other": lambda: bytes.fromhex("9a10000000") * 9,
    "byte string of 2**40 bytes": lambda: bytes.fromhex("5b0000010000000000"),
    "text of 2**31 bytes": lambda: bytes.fromhex("7a7fffffff"),
    "map of 2**40 pairs": lambda: bytes.fromhex("bb0000010000000000"),
    "map of 100,000 keys": lambda: b"\xba" + (100_000).to_bytes(4, "big") + b"\x81\x00\x00" * 100_000,
    "rational of two huge numbers": lambda: (
        b"\xd8\x1e\x82" + (b"\xc2\x5a" + (10**5).to_bytes(4, "big") + b"\x55" * 10**5) * 2
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_bytes_that_claim_to_be_much_cost_little(name: str) -> None:
    data = BOMBS[name]()
    assert len(data) <= LIMIT
    tracemalloc.start()
    try:
        with pytest.raises(NotCanonical):
            decode(data, bytes_max=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT
    finally:
        tracemalloc.stop()


def test_number_too_long_to_print_is_the_peers_fault_and_ends_nothing() -> None:
    """Python refuses to write integers of more than 4300 digits, so naming one in an error was a second error."""
    bignum = b"\xc2\x59\x10\x00" + b"\xff" * 4096
    with pytest.raises(PeerError):
        decode_message(b"\x81" + bignum)
