"""One entry: what a device signs, and how it is named.

::

    payload = deterministic CBOR of [version, log_id, seq, prev, time_ms, kind, body]
    entry   = payload || Ed25519 signature over "tapmesh/entry/1" || payload      (64 bytes, RFC 8032)
    id      = SHA-256(entry)
    log_id  = first 16 bytes of the id of the log's entry 0; empty inside that entry itself
    prev    = id of the entry before it; 32 zero bytes in entry 0

The body is a byte string: replication never looks inside, so an entry of an unknown kind, or one whose body is
malformed, travels and is kept like any other and merely counts for nothing. Normative text: docs/spec/entry.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import nacl.bindings
import nacl.exceptions

from mesh.core.codec import NotCanonical, TooLarge, Value, decode_array, encode
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX, ENTRY_BYTES_MAX, ENTRY_KIND_MAX, ENTRY_SEQ_MAX, TIME_MS_MAX

ENTRY_VERSION: Final = 1
SIGNATURE_DOMAIN: Final = b"tapmesh/entry/1"
SIGNATURE_BYTES: Final = 64
LOG_ID_BYTES: Final = 16
ID_BYTES: Final = 32
NO_PREV: Final = bytes(ID_BYTES)


class UnknownVersion(PeerError):
    """The entry's version is not one this program can read."""


class BadField(PeerError):
    """A field of the entry has the wrong type or is out of its range."""


class BadSignature(PeerError):
    """The signature does not verify under the log's key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decoded entry. `data` is the exact bytes, payload and signature; everything else is read from them."""

    log_id: bytes
    seq: int
    prev: bytes
    time_ms: int
    kind: int
    body: bytes
    data: bytes

    @property
    def id(self) -> bytes:
        return entry_id(self.data)


def entry_id(data: bytes) -> bytes:
    """The 32-byte id of an entry's bytes."""
    return hashlib.sha256(data).digest()


def encode_payload(*, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes) -> bytes:
    """The bytes of an entry without its signature, or :class:`BadField`."""
    fields: list[Value] = [ENTRY_VERSION, log_id, seq, prev, time_ms, kind, body]
    check_fields(fields)
    return encode(fields)


def sign_entry(
    sign: Callable[[bytes], bytes], *, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes
) -> bytes:
    """Return the bytes of an entry by a bare key, which signs any seq twice: for tests and generated workloads.

    A device signs by its Signer, which remembers (:mod:`mesh.core.signing`).
    """
    payload = encode_payload(log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=kind, body=body)
    return payload + sign(SIGNATURE_DOMAIN + payload)


def check_fields(fields: object) -> None:
    """Check types and ranges of a decoded payload, or raise :class:`BadField` or :class:`UnknownVersion`."""
    if type(fields) is not list or len(fields) != 7:
        raise BadField("an entry's payload is an array of seven fields")
    version, log_id, seq, prev, time_ms, kind, body = fields
    if type(version) is not int:
        raise BadField("the version is an integer")
    if version != ENTRY_VERSION:
        raise UnknownVersion(f"entry version {version} is not known here")
    if type(log_id) is not bytes or type(prev) is not bytes or type(body) is not bytes:
        raise BadField("log id, prev and body are byte strings")
    if type(seq) is not int or type(time_ms) is not int or type(kind) is not int:
        raise BadField("seq, time and kind are integers")
    if not (0 <= seq <= ENTRY_SEQ_MAX and 0 <= time_ms <= TIME_MS_MAX and 0 <= kind <= ENTRY_KIND_MAX):
        raise BadField("seq, time or kind is out of range")
    if len(prev) != ID_BYTES or len(log_id) != (LOG_ID_BYTES if seq else 0):
        raise BadField("log id or prev has the wrong length")
    if len(body) > ENTRY_BODY_BYTES_MAX:
        raise BadField(f"the body is longer than {ENTRY_BODY_BYTES_MAX} bytes")


def decode_entry(data: bytes) -> Entry:
    """Decode one entry strictly, without its signature; see :func:`verify_signature`."""
    if len(data) > ENTRY_BYTES_MAX:
        raise TooLarge(f"an entry of {len(data)} bytes where at most {ENTRY_BYTES_MAX} are allowed")
    if len(data) <= SIGNATURE_BYTES:
        raise NotCanonical("shorter than a signature")
    fields = decode_array(data[:-SIGNATURE_BYTES], bytes_max=ENTRY_BYTES_MAX)
    check_fields(fields)
    _version, log_id, seq, prev, time_ms, kind, body = fields
    assert isinstance(log_id, bytes) and isinstance(prev, bytes) and isinstance(body, bytes)
    assert isinstance(seq, int) and isinstance(time_ms, int) and isinstance(kind, int)
    return Entry(log_id or entry_id(data)[:LOG_ID_BYTES], seq, prev, time_ms, kind, body, data)


def verify_signature(data: bytes, log_key: bytes) -> None:
    """Verify one entry's own signature under the 32-byte `log_key`, or raise :class:`BadSignature`."""
    message = data[-SIGNATURE_BYTES:] + SIGNATURE_DOMAIN + data[:-SIGNATURE_BYTES]
    try:
        nacl.bindings.crypto_sign_open(message, log_key)
    except nacl.exceptions.BadSignatureError as error:
        raise BadSignature("an entry's signature does not verify under its log's key") from error
