"""Signatures that cost little, for worlds with hundreds of nodes: the primitive is exchanged, the code above it stays.

An Ed25519 signature costs 25 microseconds and its verification 60; three hundred nodes that each verify every entry
spend most of a run on that. :func:`cheap_signatures` puts a keyed hash in the place of libsodium's two functions, for
as long as its block lasts: whoever signs with another key, or signs something else, is found out as before. What was
really signed (certificates, which come from another library) still verifies, really.

:func:`shared_verification` keeps the real primitive and remembers which signatures it found good: what one node of a
simulated venue verified need not be computed again for the next. A share of the seeds runs with it.

Both exchange attributes of `nacl.bindings`, which PyNaCl's own classes and ours look up at each call; a test says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import nacl.bindings
import nacl.exceptions

SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 32
REMEMBERED: Final = 1 << 16
"""Signatures whose verification is remembered."""

_really_sign = nacl.bindings.crypto_sign
_really_open = nacl.bindings.crypto_sign_open


def _tag(message: bytes, public_key: bytes) -> bytes:
    return hashlib.blake2b(message, key=public_key, digest_size=SIGNATURE_BYTES).digest()


def _cheaply_sign(message: bytes, secret_key: bytes) -> bytes:
    """As `crypto_sign`: signature and message. A libsodium secret key ends with its public key."""
    return _tag(message, secret_key[PUBLIC_KEY_BYTES:]) + message


@lru_cache(maxsize=REMEMBERED)
def _verified(signed: bytes, public_key: bytes) -> bytes:
    return _really_open(signed, public_key)


def _cheaply_open(signed: bytes, public_key: bytes) -> bytes:
    message = signed[SIGNATURE_BYTES:]
    if signed[:SIGNATURE_BYTES] == _tag(message, public_key):
        return message
    return _verified(signed, public_key)


@contextmanager
def cheap_signatures() -> Iterator[None]:
    """Sign and verify with a keyed hash until the block ends. Never in anything that sells."""
    with _primitives(_cheaply_sign, _cheaply_open):
        yield


@contextmanager
def shared_verification() -> Iterator[None]:
    """Real signatures; each is verified once for the whole process."""
    with _primitives(_really_sign, _verified):
        yield


@contextmanager
def _primitives(sign: object, open_: object) -> Iterator[None]:
    before = nacl.bindings.crypto_sign, nacl.bindings.crypto_sign_open
    nacl.bindings.crypto_sign, nacl.bindings.crypto_sign_open = sign, open_  # type: ignore[assignment]
    try:
        yield
    finally:
        nacl.bindings.crypto_sign, nacl.bindings.crypto_sign_open = before
