"""A sealed bundle key to the byte: its box, its id, and each rule of the entry that carries it."""

from __future__ import annotations

import hashlib
from typing import Final

import nacl.bindings
import pytest
from nacl.signing import SigningKey

from mesh.core.bundle_key import (
    BadBundleKey,
    BoxDoesNotOpen,
    KeyName,
    NoBoxForIt,
    SealedKeys,
    decode_sealed_keys,
    encode_sealed_keys,
    key_id,
    may_hold_bundle_key,
    open_box,
    seal_for,
)
from mesh.core.codec import TooLarge, Value, encode
from mesh.core.kinds import Role
from mesh.limits import BUNDLE_BOXES_PER_ENTRY_MAX, BUNDLE_GENERATION_MAX, ENTRY_BODY_BYTES_MAX

KEY: Final = bytes(range(32))
ID: Final = b"I" * 16
BOX: Final = b"B" * 80
DEVICE: Final = SigningKey(hashlib.sha256(b"device").digest())
SEED: Final = hashlib.sha256(b"one time").digest()


def sealed() -> bytes:
    return seal_for(KEY, bytes(DEVICE.verify_key), SEED)


# -- The box -----------------------------------------------------------------------------------------------------------


def test_id_of_a_key_is_half_a_digest_under_its_own_domain() -> None:
    assert key_id(KEY) == hashlib.sha256(b"tapmesh/bundle-key/1" + KEY).digest()[:16]


def test_box_is_the_one_time_key_and_the_key_sealed_with_it() -> None:
    box = sealed()
    one_time_public, _ = nacl.bindings.crypto_box_seed_keypair(SEED)
    assert (len(box), box[:32]) == (80, one_time_public)
    assert box == sealed()
    assert box != seal_for(KEY, bytes(DEVICE.verify_key), KEY)


def test_box_opens_with_the_devices_seed_to_the_key_that_was_named() -> None:
    assert open_box(KeyName(1, key_id(KEY)), sealed(), bytes(DEVICE)) == KEY
    assert open_box(KeyName(2, key_id(KEY)), sealed(), bytes(DEVICE)) == KEY


def test_box_for_another_device_or_with_another_key_does_not_open() -> None:
    with pytest.raises(BoxDoesNotOpen, match="not sealed for this device"):
        open_box(KeyName(1, key_id(KEY)), sealed(), bytes(32))
    with pytest.raises(BoxDoesNotOpen, match="another key"):
        open_box(KeyName(1, key_id(bytes(32))), sealed(), bytes(DEVICE))
    with pytest.raises(BoxDoesNotOpen):
        open_box(KeyName(1, key_id(KEY)), b"", bytes(DEVICE))


def test_nothing_is_sealed_for_what_is_no_key() -> None:
    with pytest.raises(NoBoxForIt, match="no point"):
        seal_for(KEY, b"\xff" * 32, SEED)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.COURIER])
def test_each_role_but_the_couriers_holds_the_key_alone_and_with_others(role: Role) -> None:
    assert may_hold_bundle_key(frozenset({role})) is True
    assert may_hold_bundle_key(frozenset({role, Role.MANAGER})) is True
    assert may_hold_bundle_key(frozenset({role, Role.COURIER})) is False


def test_device_without_a_role_holds_nothing() -> None:
    assert may_hold_bundle_key(frozenset()) is False
    assert may_hold_bundle_key(frozenset({Role.COURIER})) is False


# -- The entry ---------------------------------------------------------------------------------------------------------


def body(boxes: Value, *, generation: Value = 3, identifier: Value = ID, version: Value = 1) -> bytes:
    return encode([version, generation, identifier, boxes])


def test_body_is_these_bytes_with_its_boxes_in_order_of_serial_numbers() -> None:
    boxes = {300: b"C" * 80, 5: BOX, 255: b"A" * 80}
    pairs: list[Value] = [[b"\x05", BOX], [b"\xff", b"A" * 80], [b"\x01\x2c", b"C" * 80]]
    assert encode_sealed_keys(KeyName(3, ID), boxes) == body(pairs)


def test_body_is_read_back_field_by_field() -> None:
    pairs: list[Value] = [[b"\x05", BOX], [b"\x01\x2c", b"C" * 80]]
    read = decode_sealed_keys(body(pairs))
    assert read == SealedKeys(KeyName(3, ID), {5: BOX, 300: b"C" * 80})
    assert decode_sealed_keys(body([])) == SealedKeys(KeyName(3, ID), {})


def test_names_are_ordered_by_generation_and_then_by_key() -> None:
    names = [KeyName(2, b"a" * 16), KeyName(1, b"b" * 16), KeyName(1, b"a" * 16)]
    assert sorted(names) == [names[2], names[1], names[0]]


def test_generations_are_good_up_to_their_bound_and_no_further() -> None:
    for generation in (1, BUNDLE_GENERATION_MAX):
        assert decode_sealed_keys(body([], generation=generation)).name == KeyName(generation, ID)
    for generation in (0, -1, BUNDLE_GENERATION_MAX + 1):
        with pytest.raises(BadBundleKey, match="generations are"):
            decode_sealed_keys(body([], generation=generation))


@pytest.mark.parametrize("identifier", [b"", ID[:15], ID + b"\x00"])
def test_id_of_another_length_is_none(identifier: bytes) -> None:
    with pytest.raises(BadBundleKey, match="id has 16 bytes"):
        decode_sealed_keys(body([], identifier=identifier))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (body([], version=2), "version 2"),
        (body([], version=0), "version 0"),
        (body([], version=True), "a bundle key is"),
        (body([], generation=True), "a bundle key is"),
        (body([], generation="1"), "a bundle key is"),
        (body([], identifier="I" * 16), "a bundle key is"),
        (body(None), "a bundle key is"),
        (encode([1, 3, ID]), "a bundle key is"),
        (encode([1, 3, ID, [], 0]), "a bundle key is"),
    ],
)
def test_body_of_another_shape_counts_for_nothing(data: bytes, said: str) -> None:
    with pytest.raises(BadBundleKey, match=said):
        decode_sealed_keys(data)


@pytest.mark.parametrize(
    "pair",
    [
        [b"\x06", BOX[:79]],
        [b"\x06", BOX + b"\x00"],
        [b"\x06"],
        [b"\x06", BOX, 0],
        [6, BOX],
        [b"\x06", "B" * 80],
        None,
    ],
)
def test_box_of_another_shape_spoils_the_entry_wherever_it_stands(pair: Value) -> None:
    first: Value = [b"\x05", BOX]
    alone: list[Value] = [pair]
    for pairs in (alone, [first, pair]):
        with pytest.raises(BadBundleKey, match="a box is"):
            decode_sealed_keys(body(pairs))


def test_serial_number_is_one_that_a_certificate_can_have() -> None:
    largest = (2**159 - 1).to_bytes(20, "big")
    assert decode_sealed_keys(body([[largest, BOX]])).boxes == {2**159 - 1: BOX}
    assert decode_sealed_keys(body([[b"\x01", BOX]])).boxes == {1: BOX}
    for serial in (b"", b"\x00", b"\x00\x05", b"\x80" + bytes(19)):
        with pytest.raises(BadBundleKey, match="serial number"):
            decode_sealed_keys(body([[serial, BOX]]))


def test_each_device_has_one_box_and_they_are_in_order() -> None:
    first: Value = [b"\x05", BOX]
    second: Value = [b"\x06", BOX]
    again: Value = [b"\x05", b"C" * 80]
    for pairs in ([second, first], [first, first], [first, again], [first, second, again]):
        with pytest.raises(BadBundleKey, match="in order"):
            decode_sealed_keys(body(pairs))


def test_entry_has_so_many_boxes_and_not_one_more() -> None:
    def boxes(count: int) -> dict[int, bytes]:
        return {1000 + number: BOX for number in range(count)}

    most = boxes(BUNDLE_BOXES_PER_ENTRY_MAX)
    assert decode_sealed_keys(encode_sealed_keys(KeyName(1, ID), most)).boxes == most
    with pytest.raises(BadBundleKey, match="at most"):
        decode_sealed_keys(encode_sealed_keys(KeyName(1, ID), boxes(BUNDLE_BOXES_PER_ENTRY_MAX + 1)))


def test_body_longer_than_any_entrys_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        decode_sealed_keys(bytes(ENTRY_BODY_BYTES_MAX + 1))
