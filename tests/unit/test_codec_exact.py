"""The codec to the byte: its bounds, the heads of arrays, and what each of its functions lets through."""

from __future__ import annotations

import cbor2
import pytest

from mesh.core.codec import (
    NotCanonical,
    TooLarge,
    Value,
    are_canonical,
    array_header,
    decode,
    decode_all_unchecked,
    decode_array,
    decode_unchecked,
    encode,
)
from mesh.limits import CBOR_DEPTH_MAX


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (24, "1818"),
        (-1, "20"),
        (2**64 - 1, "1bffffffffffffffff"),
        (b"ab", "426162"),
        ("é", "62c3a9"),
        (True, "f5"),
        (False, "f4"),
        (None, "f6"),
        ([1, [b"", None]], "82018240f6"),
    ],
)
def test_each_allowed_value_has_this_encoding_and_is_read_back_with_its_type(value: Value, data: str) -> None:
    assert encode(value).hex() == data
    read = decode(bytes.fromhex(data), bytes_max=len(data) // 2)
    assert (read, type(read)) == (value, type(value))


def test_bytes_at_their_bound_are_decoded_and_one_more_is_not() -> None:
    data = encode([1, b"ab"])
    assert decode(data, bytes_max=len(data)) == [1, b"ab"]
    assert decode_array(data, bytes_max=len(data)) == [1, b"ab"]
    for read in (decode, decode_array):
        with pytest.raises(TooLarge, match="5 bytes where at most 4"):
            read(data, bytes_max=len(data) - 1)


def test_only_an_array_is_an_array() -> None:
    assert decode_array(encode([]), bytes_max=1) == []
    for value in (0, b"", "", None, True):
        with pytest.raises(NotCanonical, match="array"):
            decode_array(encode(value), bytes_max=1)


@pytest.mark.parametrize("data", ["a0", "80a0", "f90000", "fb3ff8000000000000", "81fb3ff8000000000000", "f7", "e0"])
def test_maps_floats_and_other_simple_values_are_refused_by_their_type_at_any_depth(data: str) -> None:
    with pytest.raises(NotCanonical):
        decode(bytes.fromhex(data), bytes_max=100)
    with pytest.raises(NotCanonical):
        decode(b"\x81" + bytes.fromhex(data), bytes_max=100)


def test_depth_is_counted_in_every_branch_and_not_over_all_of_them() -> None:
    deepest = nested(CBOR_DEPTH_MAX - 1)
    assert decode(b"\x84" + deepest * 4, bytes_max=100) == [decode(deepest, bytes_max=100)] * 4
    with pytest.raises(NotCanonical, match=f"deeper than {CBOR_DEPTH_MAX}"):
        decode(b"\x82" + deepest + nested(CBOR_DEPTH_MAX), bytes_max=100)


def test_array_at_the_deepest_level_holds_scalars_and_no_array_even_an_empty_one() -> None:
    shell = b"\x81" * (CBOR_DEPTH_MAX - 1)
    assert decode(shell + b"\x80", bytes_max=100)
    assert decode(shell + b"\x82\x01\x40", bytes_max=100)
    with pytest.raises(NotCanonical):
        decode(shell + b"\x81\x80", bytes_max=100)


def test_unchecked_decoding_still_ends_two_levels_below_what_is_allowed() -> None:
    assert decode_unchecked(nested(CBOR_DEPTH_MAX + 2))
    with pytest.raises(NotCanonical):
        decode_unchecked(nested(CBOR_DEPTH_MAX + 3))


def test_unchecked_decoding_gives_every_item_in_order() -> None:
    assert decode_unchecked(b"\x82\x01\x02") == [1, 2]
    assert decode_all_unchecked([b"\x01", b"\x81\x02", b"\x43abc"]) == [1, [2], b"abc"]
    assert decode_all_unchecked([]) == []


@pytest.mark.parametrize("bad", [b"", b"\x18", b"\xff", b"\x61\xff", b"\xc0\x00", b"\xd8\x1c\x80", b"\xd9\xff\xff\x00"])
def test_items_that_are_decoded_together_fall_together(bad: bytes) -> None:
    with pytest.raises(NotCanonical):
        decode_all_unchecked([b"\x01", bad])
    with pytest.raises(NotCanonical):
        decode_unchecked(bad)


@pytest.mark.parametrize("key", [b"\x01", b"\xf6", b"\x80", b"\x81\x00"])
def test_map_whose_keys_could_be_made_to_collide_is_refused_before_it_is_built(key: bytes) -> None:
    with pytest.raises(NotCanonical, match="map key"):
        decode_unchecked(b"\xa1" + key + b"\x00")


def test_tag_is_refused_by_name_whatever_its_number() -> None:
    for tag in (0, 2, 25, 28, 29, 64, 256, 2**32):
        with pytest.raises(NotCanonical, match="a tag is not allowed here"):
            decode_unchecked(cbor2.dumps(cbor2.CBORTag(tag, 0)))


@pytest.mark.parametrize(
    ("count", "head"),
    [
        (0, "80"),
        (1, "81"),
        (23, "97"),
        (24, "9818"),
        (25, "9819"),
        (255, "98ff"),
        (256, "990100"),
        (257, "990101"),
        (65_535, "99ffff"),
    ],
)
def test_head_of_an_array_is_the_one_that_the_encoder_writes(count: int, head: str) -> None:
    assert array_header(count).hex() == head
    assert encode([0] * count)[: len(head) // 2].hex() == head


def test_array_longer_than_any_of_ours_has_no_head() -> None:
    with pytest.raises(AssertionError):
        array_header(65_536)


PAIR_HEAD = 0x82


def canonical(*items: list[object], encoded: list[bytes] | None = None) -> bool:
    exact = [cbor2.dumps(item) for item in items] if encoded is None else encoded
    return are_canonical(items, exact, PAIR_HEAD)


def test_items_are_canonical_in_bulk_when_each_is() -> None:
    assert canonical([1, b"ab"])
    assert canonical(*([number, bytes(number % 30)] for number in range(200)))
    assert canonical()


@pytest.mark.parametrize(
    "second",
    [
        b"\x82\x18\x02\x41b",  # an integer in two bytes where one will do
        b"\x82\x02\x58\x01b",  # a byte string with a long length
        b"\x98\x02\x02\x41b",  # an array with a long head
        b"\x83\x02\x41b",  # a head that says three items
        b"\x82\x02\x41b\x00",  # one byte behind it
        b"\x82\x02\x41c",  # another value
    ],
)
def test_one_item_that_is_not_canonical_is_seen_among_others(second: bytes) -> None:
    values: list[list[object]] = [[1, b"a"], [2, b"b"], [3, b"c"]]
    exact = [cbor2.dumps(value) for value in values]
    assert canonical(*values, encoded=exact)
    assert not canonical(*values, encoded=[exact[0], second, exact[2]])
    assert not canonical(*values, encoded=[second, *exact[1:]])
