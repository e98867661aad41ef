"""A receipt is believed from the venue root alone, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.core.certificate import ForeignVenue, parse_venue_root
from mesh.core.codec import NotCanonical, TooLarge, encode
from mesh.core.kinds import Role
from mesh.core.receipt import (
    BadReceipt,
    BadReceiptSignature,
    NotSettlement,
    Receipt,
    decode_receipt,
    sign_receipt,
    verify_receipt,
)
from mesh.core.signing import Domain
from mesh.errors import PeerError
from mesh.limits import RECEIPT_BYTES_MAX, RECEIPT_SET_ASIDE_IDS_MAX
from tests.factory import LogWriter, Venue, VenueDevice

VECTORS = Path(__file__).parent.parent / "vectors" / "receipt.json"


def receipt_about(log: LogWriter, device: VenueDevice) -> Receipt:
    return Receipt(
        log_id=log.log_id,
        head_seq=log.head_seq,
        head_id=log.head_id,
        count=log.head_seq + 1,
        sum_minor=650,
        verified_up_to=log.head_seq + 1,
        set_aside_count=1,
        set_aside=(log.head_id,),
        store_epoch=bytes(range(16)),
        certificate=device.certificate.der,
    )


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def settlement(venue: Venue) -> VenueDevice:
    return venue.device("settlement", Role.SETTLEMENT)


@pytest.fixture
def receipt(venue: Venue, settlement: VenueDevice) -> Receipt:
    return receipt_about(LogWriter(venue.device("bar A", Role.READER)), settlement)


@pytest.mark.proves("B4")
def test_receipt_is_verified_from_the_venue_root_alone(venue: Venue, settlement: VenueDevice, receipt: Receipt) -> None:
    data = sign_receipt(settlement.sign, receipt)
    verified = verify_receipt(data, parse_venue_root(venue.root.der))
    assert verified.receipt == receipt
    assert verified.signer.name == "settlement"
    assert verified.receipt.fully_verified


def test_no_flipped_byte_of_a_receipt_is_believed(venue: Venue, settlement: VenueDevice, receipt: Receipt) -> None:
    data = sign_receipt(settlement.sign, receipt)
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(PeerError):
            verify_receipt(damaged, venue.root)


def test_receipt_signed_by_a_reader_is_not_believed(venue: Venue, receipt: Receipt) -> None:
    reader = venue.device("bar B", Role.READER)
    data = sign_receipt(reader.sign, replace(receipt, certificate=reader.certificate.der))
    with pytest.raises(NotSettlement, match="bar B"):
        verify_receipt(data, venue.root)


def test_receipt_of_another_venue_is_not_believed(receipt: Receipt) -> None:
    other = Venue("Another venue")
    device = other.device("settlement", Role.SETTLEMENT)
    data = sign_receipt(device.sign, replace(receipt, certificate=device.certificate.der))
    with pytest.raises(ForeignVenue):
        verify_receipt(data, Venue().root)


def test_receipt_signed_with_another_key_than_its_certificate_binds_is_not_believed(
    venue: Venue, receipt: Receipt
) -> None:
    thief = venue.device("bar C", Role.READER)
    with pytest.raises(BadReceiptSignature):
        verify_receipt(sign_receipt(thief.sign, receipt), venue.root)


@pytest.mark.parametrize(
    "change",
    [
        {"verified_up_to": 2},
        {"count": 0},
        {"set_aside_count": 0},
        {"set_aside_count": 2, "set_aside": (bytes(32), bytes(32))},
        {"head_id": bytes(31)},
        {"store_epoch": bytes(15)},
        {"sum_minor": 2**60},
    ],
)
def test_receipt_that_says_something_impossible_is_neither_signed_nor_read(
    settlement: VenueDevice, receipt: Receipt, change: dict[str, Any]
) -> None:
    with pytest.raises(BadReceipt):
        sign_receipt(settlement.sign, replace(receipt, **change))


def test_receipt_names_at_most_so_many_entries_and_counts_them_all(settlement: VenueDevice, receipt: Receipt) -> None:
    ids = tuple(number.to_bytes(32, "big") for number in range(RECEIPT_SET_ASIDE_IDS_MAX))
    many = replace(receipt, head_seq=999, count=1000, set_aside_count=900, set_aside=ids)
    assert decode_receipt(sign_receipt(settlement.sign, many)) == many
    with pytest.raises(BadReceipt):
        sign_receipt(settlement.sign, replace(many, set_aside=ids[:-1]))


def test_receipt_that_is_too_long_or_too_short_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        decode_receipt(bytes(RECEIPT_BYTES_MAX + 1))
    with pytest.raises(NotCanonical):
        decode_receipt(bytes(64))


def test_golden_vectors_hold(venue: Venue, settlement: VenueDevice, receipt: Receipt) -> None:
    vectors = json.loads(VECTORS.read_text())
    assert bytes.fromhex(vectors["root"]) == venue.root.der
    valid = bytes.fromhex(vectors["valid"][0]["receipt"])
    assert sign_receipt(settlement.sign, receipt) == valid
    assert verify_receipt(valid, venue.root).receipt == receipt
    for case in vectors["must_reject"]:
        with pytest.raises(PeerError) as refused:
            verify_receipt(bytes.fromhex(case["receipt"]), venue.root)
        assert type(refused.value).__name__ == case["error"], case["why"]


def make_vectors() -> dict[str, object]:
    """What `python -m tests.unit.test_receipt` prints into tests/vectors/receipt.json."""
    venue = Venue()
    settlement = venue.device("settlement", Role.SETTLEMENT)
    receipt = receipt_about(LogWriter(venue.device("bar A", Role.READER)), settlement)
    reader = venue.device("bar B", Role.READER)
    valid = sign_receipt(settlement.sign, receipt)
    payload = valid[:-64]

    def signed(changed: bytes) -> bytes:
        return changed + settlement.sign(Domain.RECEIPT, changed)

    second_version = signed(payload[:1] + encode(2) + payload[2:])
    trailing = signed(payload + b"\x00")
    wide_version = signed(payload[:1] + b"\x18\x01" + payload[2:])
    by_reader = sign_receipt(reader.sign, replace(receipt, certificate=reader.certificate.der))
    rejected = [
        ("the signature is of other bytes", "BadReceiptSignature", valid[:-1] + bytes([valid[-1] ^ 1])),
        ("an unknown version", "BadReceipt", second_version),
        ("a byte behind the array", "NotCanonical", trailing),
        ("an integer that is not in its shortest form", "NotCanonical", wide_version),
        ("signed by a device without the role", "NotSettlement", by_reader),
        ("shorter than a signature", "NotCanonical", valid[:64]),
    ]
    return {
        "root": venue.root.der.hex(),
        "valid": [{"why": "one entry set aside, every signature checked", "receipt": valid.hex()}],
        "must_reject": [{"why": why, "error": error, "receipt": data.hex()} for why, error, data in rejected],
    }


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make_vectors(), indent=1) + "\n")
