"""The venue's bundle key: what courier bundles are encrypted under, sealed for each live device.

Normative text: docs/spec/revocation.md.

::

    body   = [1, generation, key_id(16), [[serial, box(80)], ...]]      strict CBOR, ordered by serial
    key_id = first 16 bytes of SHA-256("tapmesh/bundle-key/1" || key(32))
    box    = libsodium sealed box of the key, for the X25519 key that belongs to the device's Ed25519 link key

A generation may take several entries, of one or several managers: their boxes are one set. `key_id` binds all boxes to
one key, so that no manager can give two devices different ones unnoticed. Courier devices get no box.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import nacl.bindings
import nacl.exceptions

from mesh.core.certificate import SERIAL_BITS_MAX
from mesh.core.codec import decode_array, encode
from mesh.core.kinds import Role
from mesh.core.revocation import encode_serial
from mesh.errors import PeerError
from mesh.limits import BUNDLE_BOXES_PER_ENTRY_MAX, BUNDLE_GENERATION_MAX, ENTRY_BODY_BYTES_MAX

BUNDLE_KEY_VERSION: Final = 1
KEY_BYTES: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES
KEY_ID_BYTES: Final = 16
KEY_ID_DOMAIN: Final = b"tapmesh/bundle-key/1"
BOX_BYTES: Final = KEY_BYTES + nacl.bindings.crypto_box_SEALBYTES
SEED_BYTES: Final = nacl.bindings.crypto_box_SEEDBYTES
_HOLDERS: Final = frozenset({Role.READER, Role.TILL, Role.MANAGER, Role.GATEWAY, Role.SETTLEMENT})


class BadBundleKey(PeerError):
    """The body of a BUNDLE_KEY entry breaks a rule; the entry counts for nothing."""


class NoBoxForIt(PeerError):
    """A device's certificate has a link key for which nothing can be sealed."""


class BoxDoesNotOpen(PeerError):
    """A sealed box is not for this device, or holds another key than its entry says."""


@dataclass(frozen=True, slots=True, order=True)
class KeyName:
    """A bundle key, without the key. Two managers may rotate to one generation at once: then the ids differ."""

    generation: int
    key_id: bytes


@dataclass(frozen=True, slots=True)
class SealedKeys:
    """The checked body of one entry: boxes by the serial number of the certificate they are for."""

    name: KeyName
    boxes: Mapping[int, bytes]


def may_hold_bundle_key(roles: frozenset[Role]) -> bool:
    """Whether a live device with these roles gets a box: what a courier carries, it must not be able to read."""
    return Role.COURIER not in roles and bool(roles & _HOLDERS)


def key_id(key: bytes) -> bytes:
    return hashlib.sha256(KEY_ID_DOMAIN + key).digest()[:KEY_ID_BYTES]


def seal_for(key: bytes, link_key: bytes, seed: bytes) -> bytes:
    """libsodium's sealed box (`crypto_box_seal`) of `key`; `seed` are 32 fresh random bytes for its one-time key."""
    try:
        public_key = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(link_key)
    except nacl.exceptions.RuntimeError as error:
        raise NoBoxForIt(
            "nothing can be sealed for a link key that is no point of the curve's main subgroup"
        ) from error
    one_time_public, one_time_secret = nacl.bindings.crypto_box_seed_keypair(seed)
    nonce = hashlib.blake2b(one_time_public + public_key, digest_size=nacl.bindings.crypto_box_NONCEBYTES).digest()
    return one_time_public + nacl.bindings.crypto_box(key, nonce, public_key, one_time_secret)


def open_box(name: KeyName, box: bytes, link_seed: bytes) -> bytes:
    """The bundle key in a box for the device whose link key has this private seed, or :class:`BoxDoesNotOpen`."""
    link_public, link_secret = nacl.bindings.crypto_sign_seed_keypair(link_seed)
    public_key = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(link_public)
    secret_key = nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(link_secret)
    try:
        key = nacl.bindings.crypto_box_seal_open(box, public_key, secret_key)
    except nacl.exceptions.CryptoError as error:
        raise BoxDoesNotOpen("the box was not sealed for this device") from error
    if key_id(key) != name.key_id:
        raise BoxDoesNotOpen("the box holds another key than the others of its generation")
    return key


def encode_sealed_keys(name: KeyName, boxes: Mapping[int, bytes]) -> bytes:
    """The body of one entry; at most `BUNDLE_BOXES_PER_ENTRY_MAX` boxes."""
    return encode(
        [
            BUNDLE_KEY_VERSION,
            name.generation,
            name.key_id,
            [[encode_serial(serial), boxes[serial]] for serial in sorted(boxes)],
        ]
    )


def decode_sealed_keys(body: bytes) -> SealedKeys:
    """Parse and check a body, or raise a `PeerError`."""
    match decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [int(version), int(generation), bytes(key), list(pairs)] if version is not True and generation is not True:
            pass
        case _:
            raise BadBundleKey("a bundle key is [1, generation, key id, boxes]")
    if version != BUNDLE_KEY_VERSION:
        raise BadBundleKey(f"version {version} of a bundle key is not known here")
    if not 1 <= generation <= BUNDLE_GENERATION_MAX or len(key) != KEY_ID_BYTES:
        raise BadBundleKey(f"generations are 1 to {BUNDLE_GENERATION_MAX}, and a key's id has {KEY_ID_BYTES} bytes")
    if len(pairs) > BUNDLE_BOXES_PER_ENTRY_MAX:
        raise BadBundleKey(f"one entry has at most {BUNDLE_BOXES_PER_ENTRY_MAX} boxes")
    boxes: dict[int, bytes] = {}
    for pair in pairs:
        match pair:
            case [bytes(serial), bytes(box)] if len(box) == BOX_BYTES:
                number = int.from_bytes(serial, "big")
            case _:
                raise BadBundleKey(f"a box is [serial, {BOX_BYTES} bytes]")
        if not 0 < number.bit_length() <= SERIAL_BITS_MAX or encode_serial(number) != serial:
            raise BadBundleKey(f"a serial number is 1 to {SERIAL_BITS_MAX} bits, without leading zeros")
        boxes[number] = box
    if len(boxes) != len(pairs) or list(boxes) != sorted(boxes):
        raise BadBundleKey("boxes are in order of serial numbers, one for each device")
    return SealedKeys(KeyName(generation, key), boxes)
