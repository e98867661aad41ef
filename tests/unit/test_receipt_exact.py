"""A receipt to the byte: where each field stands, and the edge of each number beyond which nothing is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from nacl.signing import VerifyKey

from mesh.core.codec import NotCanonical, TooLarge, Value, encode
from mesh.core.kinds import Role
from mesh.core.receipt import (
    BadReceipt,
    BadReceiptSignature,
    Receipt,
    VerifiedReceipt,
    decode_receipt,
    sign_receipt,
    verify_receipt,
)
from mesh.core.signing import Domain
from mesh.limits import ENTRY_SEQ_MAX, RECEIPT_BYTES_MAX, RECEIPT_SET_ASIDE_IDS_MAX
from tests.factory import Venue

VENUE: Final = Venue("Receipts")
SETTLEMENT: Final = VENUE.device("settlement", Role.SETTLEMENT)
OTHER: Final = VENUE.device("settlement 2", Role.SETTLEMENT)
RECEIPT: Final = Receipt(
    log_id=b"L" * 16,
    head_seq=9,
    head_id=b"H" * 32,
    count=11,
    sum_minor=-650,
    verified_up_to=7,
    set_aside_count=2,
    set_aside=(b"1" * 32, b"2" * 32),
    store_epoch=b"E" * 16,
    certificate=SETTLEMENT.certificate.der,
)
FIELDS: Final[list[Value]] = [
    1,
    b"L" * 16,
    9,
    b"H" * 32,
    11,
    -650,
    7,
    2,
    [b"1" * 32, b"2" * 32],
    b"E" * 16,
    SETTLEMENT.certificate.der,
]
IDS: Final = tuple(number.to_bytes(32, "big") for number in range(RECEIPT_SET_ASIDE_IDS_MAX + 1))


def signed(fields: Value) -> bytes:
    """Any fields at all, under a good signature."""
    payload = encode(fields)
    return payload + SETTLEMENT.sign(Domain.RECEIPT, payload)


def changed(**change: Any) -> Receipt:
    return replace(RECEIPT, **change)


def test_each_field_stands_in_its_place_before_a_signature_over_its_domain() -> None:
    data = sign_receipt(SETTLEMENT.sign, RECEIPT)
    assert data[:-64] == encode(FIELDS)
    VerifyKey(SETTLEMENT.certificate.log_key).verify(b"tapmesh/receipt/1" + data[:-64], data[-64:])


def test_receipt_is_read_back_field_by_field_with_who_signed_it() -> None:
    data = signed(FIELDS)
    assert decode_receipt(data) == RECEIPT
    assert verify_receipt(data, VENUE.root) == VerifiedReceipt(RECEIPT, SETTLEMENT.certificate, data)


def test_signature_of_another_settlement_device_is_not_that_of_the_certificate_shown() -> None:
    payload = encode(FIELDS)
    for signature in (OTHER.sign(Domain.RECEIPT, payload), SETTLEMENT.sign(Domain.REQUEST, payload), bytes(64)):
        with pytest.raises(BadReceiptSignature):
            verify_receipt(payload + signature, VENUE.root)


def test_chain_is_verified_once_the_signature_of_its_head_was_checked() -> None:
    assert [changed(verified_up_to=seq).fully_verified for seq in (0, 9, 10)] == [False, False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"head_seq": 0, "count": 1, "verified_up_to": 0, "set_aside_count": 1, "set_aside": IDS[:1]},
        {"head_seq": 0, "count": 1, "verified_up_to": 1, "set_aside_count": 0, "set_aside": ()},
        {"head_seq": ENTRY_SEQ_MAX, "count": ENTRY_SEQ_MAX + 1, "verified_up_to": ENTRY_SEQ_MAX + 1},
        {"count": 10},
        {"count": 2**53},
        {"sum_minor": 2**53},
        {"sum_minor": -(2**53)},
        {"verified_up_to": 10},
        {"set_aside_count": 10, "set_aside": IDS[:10]},
        {"head_seq": 255, "count": 256, "set_aside_count": 255, "set_aside": IDS[:255]},
        {"head_seq": 255, "count": 256, "set_aside_count": 256, "set_aside": IDS[:256]},
        {"head_seq": 256, "count": 257, "set_aside_count": 257, "set_aside": IDS[:256]},
    ],
)
def test_receipt_at_the_edge_of_what_is_possible_is_signed_and_read(change: dict[str, Any]) -> None:
    receipt = changed(**change)
    assert decode_receipt(sign_receipt(SETTLEMENT.sign, receipt)) == receipt


BEYOND: Final[list[tuple[int, Value]]] = [
    (1, b"L" * 15),
    (1, b"L" * 17),
    (2, -1),
    (2, ENTRY_SEQ_MAX + 1),
    (3, b"H" * 33),
    (4, 9),
    (4, 2**53 + 1),
    (5, 2**53 + 1),
    (5, -(2**53) - 1),
    (6, -1),
    (6, 11),
    (7, 1),
    (7, 3),
    (7, -1),
    (8, [b"1" * 32, b"1" * 32]),
    (8, [b"1" * 32, b"2" * 31]),
    (8, [b"1" * 32, "2" * 32]),
    (8, [b"1" * 32]),
    (9, b"E" * 17),
]


@pytest.mark.parametrize(("at", "value"), BEYOND)
def test_receipt_one_step_beyond_the_edge_is_not_read_though_its_signature_is_good(at: int, value: Value) -> None:
    with pytest.raises(BadReceipt):
        decode_receipt(signed([*FIELDS[:at], value, *FIELDS[at + 1 :]]))


@pytest.mark.parametrize(
    ("head_seq", "named", "counted"), [(8, 10, 10), (300, 257, 257), (300, 256, 255), (300, 255, 257), (255, 256, 257)]
)
def test_receipt_names_the_first_that_were_set_aside_and_no_other_number_of_them(
    head_seq: int, named: int, counted: int
) -> None:
    wrong = changed(head_seq=head_seq, count=1000, set_aside_count=counted, set_aside=IDS[:named])
    with pytest.raises(BadReceipt):
        sign_receipt(SETTLEMENT.sign, wrong)


@pytest.mark.parametrize("at", [0, 2, 4, 5, 6, 7])
def test_truth_value_is_no_number_in_a_receipt(at: int) -> None:
    zero = {0: 1, 2: 0, 4: 1, 5: 0, 6: 0, 7: 0}[at]
    small: list[Value] = [1, b"L" * 16, 0, b"H" * 32, 1, 0, 0, 0, [], b"E" * 16, b""]
    assert decode_receipt(signed(small)).head_seq == 0
    with pytest.raises(BadReceipt, match="integers"):
        decode_receipt(signed([*small[:at], bool(zero), *small[at + 1 :]]))


@pytest.mark.parametrize("at", range(11))
def test_field_of_another_type_or_a_field_too_many_or_too_few_is_no_receipt(at: int) -> None:
    for fields in ([*FIELDS[:at], None, *FIELDS[at + 1 :]], [*FIELDS[:at], *FIELDS[at + 1 :]], [*FIELDS, 0]):
        with pytest.raises(BadReceipt, match="eleven fields"):
            decode_receipt(signed(fields))


def test_receipt_of_another_version_is_not_guessed_at() -> None:
    for version in (0, 2):
        with pytest.raises(BadReceipt, match=f"version {version}"):
            decode_receipt(signed([version, *FIELDS[1:]]))


def test_receipt_of_the_largest_size_is_read_and_one_byte_more_is_not() -> None:
    def sized(filling: int) -> bytes:
        return signed([*FIELDS[:-1], bytes(filling)])

    spare = RECEIPT_BYTES_MAX - len(sized(1000))
    assert len(decode_receipt(sized(1000 + spare)).certificate) == 1000 + spare
    with pytest.raises(TooLarge):
        decode_receipt(sized(1000 + spare + 1))


def test_signature_alone_is_no_receipt_and_one_byte_before_it_is_looked_at() -> None:
    for length in (0, 1, 63, 64):
        with pytest.raises(NotCanonical, match="shorter than a signature"):
            decode_receipt(b"\x80" * length)
    with pytest.raises(BadReceipt):
        decode_receipt(b"\x80" + bytes(64))


def test_what_would_not_be_read_is_not_signed() -> None:
    asked: list[bytes] = []

    def sign(_domain: Domain, message: bytes) -> bytes:
        asked.append(message)
        return bytes(64)

    with pytest.raises(BadReceipt):
        sign_receipt(sign, changed(verified_up_to=11))
    assert asked == []
