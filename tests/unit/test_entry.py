"""One entry: its bytes, its id, its signature. `tests/vectors/entry.json` lists what is refused, form by form."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from mesh.core.codec import TooLarge
from mesh.core.entry import (
    NO_PREV,
    SIGNATURE_BYTES,
    SIGNATURE_DOMAIN,
    BadField,
    BadSignature,
    decode_entry,
    entry_id,
    sign_entry,
    verify_signature,
)
from mesh.limits import ENTRY_BODY_BYTES_MAX, ENTRY_BYTES_MAX, ENTRY_KIND_MAX, ENTRY_SEQ_MAX, TIME_MS_MAX
from tests.vectors.make import flipped

KEY = SigningKey(bytes(32))
PUBLIC_KEY = bytes(KEY.verify_key)


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


@pytest.mark.proves("S1.12")
@given(
    log_id=st.binary(min_size=16, max_size=16),
    seq=st.integers(1, ENTRY_SEQ_MAX),
    prev=st.binary(min_size=32, max_size=32),
    time_ms=st.integers(0, TIME_MS_MAX),
    kind=st.integers(0, ENTRY_KIND_MAX),
    body=st.binary(max_size=300),
)
def test_entry_reads_as_it_was_written_and_its_name_follows_from_its_bytes(
    log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes
) -> None:
    data = sign_entry(sign, log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=kind, body=body)
    again = sign_entry(sign, log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=kind, body=body)
    entry = decode_entry(data)
    assert (entry.log_id, entry.seq, entry.prev, entry.time_ms) == (log_id, seq, prev, time_ms)
    assert (entry.kind, entry.body, entry.data) == (kind, body, data)
    assert entry.id == hashlib.sha256(data).digest() == entry_id(again)


def test_log_is_named_by_its_first_entry() -> None:
    data = sign_entry(sign, log_id=b"", seq=0, prev=NO_PREV, time_ms=0, kind=0, body=b"")
    assert decode_entry(data).log_id == hashlib.sha256(data).digest()[:16]


def test_largest_entry_fits_its_bound_and_one_byte_more_is_refused_where_it_is_made() -> None:
    fields = {"log_id": bytes(16), "seq": ENTRY_SEQ_MAX, "prev": bytes(32), "time_ms": TIME_MS_MAX}
    data = sign_entry(sign, **fields, kind=ENTRY_KIND_MAX, body=bytes(ENTRY_BODY_BYTES_MAX))  # type: ignore[arg-type]
    assert len(data) <= ENTRY_BYTES_MAX
    assert len(decode_entry(data).body) == ENTRY_BODY_BYTES_MAX
    with pytest.raises(BadField):
        sign_entry(sign, **fields, kind=0, body=bytes(ENTRY_BODY_BYTES_MAX + 1))  # type: ignore[arg-type]


def test_more_bytes_than_any_entry_has_are_not_even_decoded() -> None:
    with pytest.raises(TooLarge):
        decode_entry(b"\x87" * (ENTRY_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "deviation",
    [
        {"seq": -1},
        {"seq": ENTRY_SEQ_MAX + 1},
        {"time_ms": TIME_MS_MAX + 1},
        {"kind": ENTRY_KIND_MAX + 1},
        {"prev": b""},
    ],
)
def test_entry_that_others_would_refuse_is_not_signed(deviation: dict[str, int | bytes]) -> None:
    fields: dict[str, int | bytes] = {"log_id": bytes(16), "seq": 1, "prev": bytes(32), "time_ms": 0, "kind": 0}
    with pytest.raises(BadField):
        sign_entry(sign, body=b"", **{**fields, **deviation})  # type: ignore[arg-type]


@pytest.mark.proves("S1.11")
def test_signature_covers_every_byte_and_is_good_for_nothing_else() -> None:
    data = sign_entry(sign, log_id=bytes(16), seq=1, prev=bytes(32), time_ms=0, kind=16, body=b"money")
    verify_signature(data, PUBLIC_KEY)
    for at in range(len(data)):
        with pytest.raises(BadSignature):
            verify_signature(flipped(data, at), PUBLIC_KEY)
    payload = data[:-SIGNATURE_BYTES]
    assert data == payload + sign(SIGNATURE_DOMAIN + payload)
    with pytest.raises(BadSignature):
        verify_signature(payload + sign(payload), PUBLIC_KEY)
    with pytest.raises(BadSignature):
        verify_signature(payload + sign(b"tapmesh/card/1" + payload), PUBLIC_KEY)
    with pytest.raises(BadSignature):
        verify_signature(data, bytes(SigningKey(bytes([1]) * 32).verify_key))
