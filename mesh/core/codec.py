"""Strict deterministic CBOR (RFC 8949, section 4.2.1): one value has one encoding, and only that one is accepted.

The profile is small on purpose: unsigned and negative integers, byte strings, UTF-8 text, booleans, null, and arrays
of those. No maps (their order is where encoders disagree), no floats, no tags. cbor2 itself accepts trailing bytes,
non-minimal integers and indefinite lengths; all of them are refused here by checking the type of every value and
requiring that re-encoding gives the same bytes. Tags are refused before cbor2 looks into them: references (tags 25, 28
and 29) would let a few hundred bytes stand for more than any memory holds, and bignums for more than any integer here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeAlias, cast

import cbor2

from mesh.errors import PeerError
from mesh.limits import CBOR_DEPTH_MAX

Value: TypeAlias = "int | bytes | str | bool | None | Sequence[Value]"

_SCALARS: Final = frozenset({int, bytes, str, bool, type(None)})


class NotCanonical(PeerError):
    """The bytes are not the one deterministic encoding of an allowed value."""


class TooLarge(PeerError):
    """The bytes are longer than their bound; nothing of them was decoded."""


def encode(value: Value) -> bytes:
    """Return the deterministic encoding of `value`.

    >>> encode([1, b"ab", None]).hex()
    '8301426162f6'
    """
    return cbor2.dumps(value)


def decode(data: bytes, *, bytes_max: int) -> Value:
    """Decode `data`, or raise :class:`TooLarge` or :class:`NotCanonical`; arrays come back as lists."""
    if len(data) > bytes_max:
        raise TooLarge(f"{len(data)} bytes where at most {bytes_max} are allowed")
    value = _plain(decode_unchecked(data), CBOR_DEPTH_MAX)
    if cbor2.dumps(value) != data:
        raise NotCanonical("not the deterministic CBOR encoding of its value (RFC 8949, 4.2.1)")
    return value


def decode_array(data: bytes, *, bytes_max: int) -> list[Value]:
    """Like :func:`decode`, for the many places where only an array will do."""
    value = decode(data, bytes_max=bytes_max)
    if type(value) is not list:
        raise NotCanonical("an array is required here")
    return value


def decode_unchecked(data: bytes) -> object:
    """Decode without the canonical check; only for callers that check every type and re-encode in bulk."""
    return decode_all_unchecked((data,))[0]


def decode_all_unchecked(items: Sequence[bytes]) -> list[object]:
    """Like :func:`decode_unchecked`, for many items that stand or fall together."""
    loads = cbor2.loads
    try:
        # Maps are refused later, by type; until then their keys must not be ones whose hashes can be made to collide.
        return [
            loads(data, max_depth=CBOR_DEPTH_MAX + 2, semantic_decoders=_TAGS, strict_hashable_types=True)
            for data in items
        ]
    except (cbor2.CBORDecodeError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise NotCanonical(f"not CBOR that is allowed here: {error.__cause__ or error}") from error


def _refuse_tag(*_: object) -> NoReturn:
    raise NotCanonical("a tag is not allowed here")


class _EveryTag(dict[int, Callable[..., NoReturn]]):
    """Decoders that cbor2 asks before its own: one for each tag there is. (A dict, because it asks a dict fastest.)"""

    def __missing__(self, tag: int) -> Callable[..., NoReturn]:
        return _refuse_tag


_TAGS: Final = _EveryTag()


def are_canonical(values: Sequence[Sequence[object]], encoded: Sequence[bytes], header: int) -> bool:
    """Whether each of `encoded` is the deterministic encoding of the array in `values` at its place.

    Every array has the one-byte `header`, and holds only plain integers and byte strings (the caller has checked the
    types). One encoding call for all: because each value's deterministic encoding is its shortest, equal bytes in sum
    mean that every item, one by one, is canonical and has nothing behind it.
    """
    flat = [item for value in values for item in value]
    if any(data[0] != header for data in encoded):
        return False
    return cbor2.dumps(flat) == array_header(len(flat)) + b"".join([data[1:] for data in encoded])


def array_header(count: int) -> bytes:
    """The CBOR head of an array of `count` items, so that sequences of items can be encoded and decoded in one call."""
    if count < 24:
        return bytes([0x80 + count])
    if count < 256:
        return bytes([0x98, count])
    assert count < 65_536, "no array of ours is that long"
    return b"\x99" + count.to_bytes(2, "big")


def _plain(value: object, depth: int) -> Value:
    if type(value) in _SCALARS:
        return cast(Value, value)
    if type(value) is not list:
        raise NotCanonical(f"a {type(value).__name__} is not allowed here")
    if depth == 0:
        raise NotCanonical(f"nested deeper than {CBOR_DEPTH_MAX}")
    for item in value:
        _plain(item, depth - 1)
    return cast(Value, value)
