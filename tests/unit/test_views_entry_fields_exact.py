"""What is shown of an entry of each kind: every field under its name, as people and programs read it."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest

from mesh.core.bundle_key import BOX_BYTES, KeyName, encode_sealed_keys
from mesh.core.entry import decode_entry, entry_id
from mesh.core.fork import prove_fork
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.core.receipt import Receipt, sign_receipt
from mesh.views.automerge_document import DocumentFields, first_document
from mesh.views.card_record import RECORD_BYTES, record_hash
from mesh.views.entry_fields import Shown, body_fields, entry_fields, kind_name
from tests.factory import NO_DOCUMENT, NOON_MS, LogWriter, Venue, Wristband

VENUE: Final = Venue("Shown")
BAR: Final = VENUE.device("bar A", Role.READER, Role.TILL)
OFFICE: Final = VENUE.device("office", Role.MANAGER)
SETTLEMENT: Final = VENUE.device("settlement", Role.SETTLEMENT)


def shown(log: LogWriter, kind: int, body: bytes) -> dict[str, Shown]:
    return body_fields(decode_entry(log.append(kind, body)), VENUE.root)


def test_every_kind_has_its_name_and_an_unknown_one_its_number() -> None:
    assert [kind_name(int(kind)) for kind in Kind] == [kind.name for kind in Kind]
    assert kind_name(16) == "TAP"
    assert kind_name(999) == "kind 999"


def test_position_time_and_kind_stand_beside_the_body() -> None:
    log = LogWriter(BAR)
    entry = decode_entry(log.append(999, b"\x01\xff"))
    assert entry_fields(entry, VENUE.root) == {
        "seq": 1,
        "id": entry_id(entry.data).hex(),
        "prev": entry_id(log.entries[0]).hex(),
        "time_ms": NOON_MS + 1000,
        "kind": "kind 999",
        "body": {"bytes": "01ff"},
    }
    genesis = entry_fields(decode_entry(log.entries[0]), VENUE.root)
    assert (genesis["seq"], genesis["prev"], genesis["kind"]) == (0, "00" * 32, "GENESIS")
    assert genesis["body"] == {**device_fields(["reader", "till"]), "lane": "MONEY", "known_heads": []}


@pytest.mark.parametrize(
    "kind", [Kind.TAP, Kind.ABORT, Kind.RECEIPT, Kind.DEVICE, Kind.FORK_PROOF, Kind.REVOCATION, Kind.BUNDLE_KEY]
)
def test_body_that_breaks_its_rules_shows_its_bytes_and_which_rule(kind: Kind) -> None:
    fields = shown(LogWriter(BAR), kind, b"\xfe\xff")
    assert set(fields) == {"malformed", "bytes"}
    assert fields["bytes"] == "feff"
    assert isinstance(fields["malformed"], str) and len(fields["malformed"]) > 10


def test_body_that_breaks_its_rules_says_so_in_the_words_of_the_rule() -> None:
    fields = shown(LogWriter(BAR), Kind.VENUE_CHANGE, b"\xfe\xff")
    assert fields == {"malformed": "not an uncompressed Automerge change", "bytes": "feff"}


def device_fields(roles: list[Shown]) -> dict[str, Shown]:
    certificate = BAR.certificate
    return {
        "device": "bar A",
        "roles": roles,
        "serial": str(certificate.serial),
        "fingerprint": certificate.fingerprint,
    }


def test_genesis_shows_the_device_its_lane_and_the_logs_it_knew_of() -> None:
    first = LogWriter(BAR, Lane.CONTROL)
    first.append(999, b"")
    second = LogWriter(BAR, Lane.TELEMETRY, number=1, known=[first])
    assert body_fields(decode_entry(second.entries[0]), VENUE.root) == {
        **device_fields(["reader", "till"]),
        "lane": "TELEMETRY",
        "known_heads": [{"log": first.log_id.hex(), "seq": 1, "id": first.ids[1].hex()}],
    }
    assert body_fields(decode_entry(first.entries[0]), VENUE.root)["known_heads"] == []
    stranger = body_fields(decode_entry(first.entries[0]), Venue("Another").root)
    assert set(stranger) == {"malformed", "bytes"}


def test_device_entry_shows_the_certificate_in_it() -> None:
    assert shown(LogWriter(OFFICE), Kind.DEVICE, BAR.certificate.der) == device_fields(["reader", "till"])


def test_tap_shows_the_record_read_and_the_record_written() -> None:
    log, band = LogWriter(BAR), Wristband(VENUE, 1)
    issued = band.issue(log, 2000)
    sold = band.sell(log, 650)
    key = hashlib.sha256(BAR.public_key).hexdigest()[:8]
    first = {
        "card": band.card.hex(),
        "card_seq": 1,
        "balance_minor": 2000,
        "reader": key,
        "parent": "00" * 8,
        "hash": record_hash(issued.written).hex(),
    }
    second = {
        "card": band.card.hex(),
        "card_seq": 2,
        "balance_minor": 1350,
        "reader": key,
        "parent": record_hash(issued.written)[:8].hex(),
        "hash": hashlib.sha256(sold.written[:RECORD_BYTES]).hexdigest(),
    }
    assert body_fields(decode_entry(log.entries[1]), VENUE.root) == {
        "tap": issued.tap_id.hex(),
        "operation": "ISSUE",
        "amount_minor": 2000,
        "read": None,
        "written": first,
        "document": NO_DOCUMENT.hex(),
    }
    assert body_fields(decode_entry(log.entries[2]), VENUE.root) == {
        "tap": sold.tap_id.hex(),
        "operation": "SALE",
        "amount_minor": 650,
        "read": first,
        "written": second,
        "document": NO_DOCUMENT.hex(),
    }


def test_abort_shows_the_tap_and_the_record_it_may_have_left() -> None:
    log, band = LogWriter(BAR), Wristband(VENUE, 1)
    tap = band.propose(BAR, Operation.ISSUE, 100)
    log.abort(tap.tap_id, tap.written)
    assert body_fields(decode_entry(log.entries[1]), VENUE.root) == {
        "tap": tap.tap_id.hex(),
        "written_hash": record_hash(tap.written).hex(),
    }


def test_receipt_shows_how_much_of_which_log_is_safe() -> None:
    receipt = Receipt(
        b"L" * 16, 7, b"h" * 32, 9, 650, 8, 2, (b"1" * 32, b"2" * 32), b"e" * 16, SETTLEMENT.certificate.der
    )
    assert shown(LogWriter(SETTLEMENT), Kind.RECEIPT, sign_receipt(SETTLEMENT.sign, receipt)) == {
        "log": (b"L" * 16).hex(),
        "head_seq": 7,
        "count": 9,
        "sum_minor": 650,
        "verified_up_to": 8,
        "set_aside": 2,
    }


def test_fork_proof_shows_the_log_and_where_it_forked() -> None:
    log = LogWriter(BAR)
    log.append(999, b"")
    twin = log.fork()
    for branch, body in ((log, b"one"), (twin, b"other")):
        branch.append(999, body)
    proof = prove_fork(log.entries[0], log.entries[2], twin.entries[2], VENUE.root)
    assert proof is not None
    assert shown(LogWriter(OFFICE), Kind.FORK_PROOF, proof.body) == {"log": log.log_id.hex(), "at_seq": 2}
    strange = body_fields(decode_entry(LogWriter(OFFICE).append(Kind.FORK_PROOF, proof.body)), Venue("Another").root)
    assert set(strange) == {"malformed", "bytes"}


def test_revocation_shows_whose_trust_ended_and_where_each_log_is_cut() -> None:
    logs = sorted((LogWriter(BAR, number=number) for number in range(2)), key=lambda log: log.log_id)
    logs[1].append(999, b"")
    body = VENUE.revocation(BAR, (logs[0], 0), (logs[1], 1), number=3)
    expected = {
        "serial": str(BAR.certificate.serial),
        "number": 3,
        "cut": [
            {"log": logs[0].log_id.hex(), "seq": 0, "id": logs[0].ids[0].hex()},
            {"log": logs[1].log_id.hex(), "seq": 1, "id": logs[1].ids[1].hex()},
        ],
    }
    assert shown(LogWriter(OFFICE), Kind.REVOCATION, body) == expected


def test_bundle_key_shows_its_generation_and_for_whom_it_is_sealed() -> None:
    body = encode_sealed_keys(KeyName(4, b"k" * 16), {12: bytes(BOX_BYTES), 2**100: bytes(BOX_BYTES)})
    assert shown(LogWriter(OFFICE), Kind.BUNDLE_KEY, body) == {
        "generation": 4,
        "key_id": (b"k" * 16).hex(),
        "sealed_for": ["12", str(2**100)],
    }


def test_venue_change_shows_its_hash_its_number_and_its_operations() -> None:
    log = LogWriter(OFFICE, Lane.CONTROL)
    fields = DocumentFields("Riverside", "EUR", 2, ("north",), 5000, b"2031", b"k" * 16)
    raw = first_document(log.log_id, fields)
    assert shown(log, Kind.VENUE_CHANGE, raw) == {
        "change": hashlib.sha256(raw[8:]).hexdigest(),
        "change_seq": 1,
        "operations": 8,
    }
