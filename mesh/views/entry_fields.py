"""An entry's fields under their names, for showing it to people and programs; nothing of it is checked against a log.

Keys whose values have a unit name it last. Bytes are hexadecimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mesh.core.bundle_key import decode_sealed_keys
from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate
from mesh.core.chain import parse_genesis
from mesh.core.entry import Entry
from mesh.core.fork import check_fork_proof
from mesh.core.kinds import Kind
from mesh.core.receipt import decode_receipt
from mesh.core.revocation import Statement, parse_statement
from mesh.errors import PeerError
from mesh.views.automerge_change import parse_change
from mesh.views.card_record import RECORD_BYTES, decode_record, record_hash
from mesh.views.tap_entry import decode_abort, decode_tap

Shown: TypeAlias = "str | int | bool | None | Sequence[Shown] | Mapping[str, Shown]"


def kind_name(kind: int) -> str:
    """The name of a kind, or its number where this program does not know it."""
    return Kind(kind).name if kind in Kind.__members__.values() else f"kind {kind}"


def entry_fields(entry: Entry, root: VenueRoot) -> dict[str, Shown]:
    """Everything about one entry: position, time, kind, and its body as far as it can be read."""
    return {
        "seq": entry.seq,
        "id": entry.id.hex(),
        "prev": entry.prev.hex(),
        "time_ms": entry.time_ms,
        "kind": kind_name(entry.kind),
        "body": body_fields(entry, root),
    }


def body_fields(entry: Entry, root: VenueRoot) -> dict[str, Shown]:
    """The body's fields; for an unknown kind its bytes; for a body that breaks its rules its bytes and which rule."""
    try:
        fields = _known(entry, root)
    except PeerError as error:
        return {"malformed": str(error), "bytes": entry.body.hex()}
    return {"bytes": entry.body.hex()} if fields is None else fields


def _known(entry: Entry, root: VenueRoot) -> dict[str, Shown] | None:
    match entry.kind:
        case Kind.GENESIS:
            return _genesis(entry, root)
        case Kind.TAP:
            return _tap(entry.body)
        case Kind.ABORT:
            abort = decode_abort(entry.body)
            return {"tap": abort.tap_id.hex(), "written_hash": abort.written_hash.hex()}
        case Kind.RECEIPT:
            return _receipt(entry.body)
        case Kind.DEVICE:
            return _device(parse_device_certificate(entry.body, root))
        case Kind.FORK_PROOF:
            proof = check_fork_proof(entry.body, root)
            return {"log": proof.log_id.hex(), "at_seq": proof.seq}
        case Kind.REVOCATION:
            return _revocation(parse_statement(entry.body, root))
        case Kind.BUNDLE_KEY:
            sealed = decode_sealed_keys(entry.body)
            holders: list[Shown] = [str(serial) for serial in sealed.boxes]
            return {"generation": sealed.name.generation, "key_id": sealed.name.key_id.hex(), "sealed_for": holders}
        case Kind.VENUE_CHANGE:
            change = parse_change(entry.body)
            return {"change": change.hash.hex(), "change_seq": change.seq, "operations": change.operations}
        case _:
            return None


def _genesis(entry: Entry, root: VenueRoot) -> dict[str, Shown]:
    genesis = parse_genesis(entry.data, root)
    heads: list[Shown] = [
        {"log": head.log_id.hex(), "seq": head.seq, "id": head.id.hex()} for head in genesis.known_heads
    ]
    return {**_device(genesis.certificate), "lane": genesis.lane.name, "known_heads": heads}


def _revocation(statement: Statement) -> dict[str, Shown]:
    cut: list[Shown] = [
        {"log": log_id.hex(), "seq": place.seq, "id": place.id.hex()} for log_id, place in statement.cut.items()
    ]
    return {"serial": str(statement.serial), "number": statement.number, "cut": cut}


def _device(certificate: DeviceCertificate) -> dict[str, Shown]:
    return {
        "device": certificate.name,
        "roles": sorted(role.value for role in certificate.roles),
        "serial": str(certificate.serial),
        "fingerprint": certificate.fingerprint,
    }


def _tap(body: bytes) -> dict[str, Shown]:
    tap = decode_tap(body)
    return {
        "tap": tap.tap_id.hex(),
        "operation": tap.operation.name,
        "amount_minor": tap.amount_minor,
        "read": _record(tap.witness) if tap.witness else None,
        "written": _record(tap.written),
        "document": tap.document.hex(),
    }


def _record(sealed: bytes) -> dict[str, Shown]:
    record = decode_record(sealed[:RECORD_BYTES])
    return {
        "card": record.card.hex(),
        "card_seq": record.seq,
        "balance_minor": record.balance,
        "reader": record.reader.hex(),
        "parent": record.parent.hex(),
        "hash": record_hash(sealed).hex(),
    }


def _receipt(body: bytes) -> dict[str, Shown]:
    receipt = decode_receipt(body)
    return {
        "log": receipt.log_id.hex(),
        "head_seq": receipt.head_seq,
        "count": receipt.count,
        "sum_minor": receipt.sum_minor,
        "verified_up_to": receipt.verified_up_to,
        "set_aside": receipt.set_aside_count,
    }
