"""Fuzzing below hashes and signatures: the bytes get a good signature or a right checksum, and then go to the parser.

What is found here an enrolled device can do, or, for certificates, the authority's own mistakes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh.core.certificate import decode_binding, encode_binding, parse_device_certificate, parse_venue_root
from mesh.core.codec import NotCanonical, decode_array, encode
from mesh.core.enrolment import make_request, parse_request
from mesh.core.entry import SIGNATURE_BYTES, decode_entry, entry_id
from mesh.core.fork import check_fork_proof
from mesh.core.kinds import Kind, Role
from mesh.core.receipt import verify_receipt
from mesh.core.signing import Domain
from mesh.views.automerge_change import HASH_BYTES, parse_change
from mesh.views.automerge_document import DocumentFields, Edit, first_document, make_change
from mesh.views.card_record import RECORD_BYTES, SEALED_BYTES, key_id
from mesh.views.entry_fields import body_fields
from mesh.views.evidence import check_case
from mesh.views.tap_entry import decode_tap
from mesh.views.tap_rules import CountedTap, author_of, read_tap
from mesh.views.venue_document import VenueDocumentView
from reader.card import Blank, Shown, is_child, read_card
from tests.factory import VenueDevice, seal
from tests.fuzz.targets import RECEIPT, SETTLEMENT, WORLD, A, B, Target
from tests.vectors.make import BAR_A, BAR_B, TILL, VENUE, payload_of, resigned

_AUTHORITY: Final = VENUE._key
_AUTHOR: Final = author_of(BAR_A.certificate)
_ED25519: Final = bytes.fromhex("300506032b6570")
_MAGIC: Final = bytes.fromhex("856f4a83")
_MANAGERS_LOG: Final = b"M" * 16
_FIELDS: Final = DocumentFields("Riverside", "EUR", 2, ("north", "south"), 5000, b"2031", b"k" * 16)
_FIRST: Final = first_document(_MANAGERS_LOG, _FIELDS)
_SECOND: Final = make_change([_FIRST], b"N" * 16, Edit(name="Lakeside"))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 | len(length)]) + length) + content


def certificate_of(tbs: bytes, key: Ed25519PrivateKey) -> bytes:
    """An X.509 certificate whose signed part is `tbs`, whatever that is."""
    return _der(0x30, tbs + _ED25519 + _der(0x03, b"\x00" + key.sign(tbs)))


def tbs_of(certificate: bytes) -> bytes:
    """What `certificate_of` was made from: the signed part of a certificate with a signature of 64 bytes."""
    start = 2 if certificate[1] < 128 else 2 + (certificate[1] & 0x7F)
    return certificate[start : len(certificate) - len(_ED25519) - 67]


def reread_certificate(data: bytes) -> bytes:
    """What the authority signs by mistake, or a later version of it on purpose."""
    certificate = parse_device_certificate(certificate_of(data, _AUTHORITY), VENUE.root)
    log_key, _ = decode_binding(encode_binding(certificate.log_key, certificate.roles))
    assert log_key != certificate.link_key
    return tbs_of(certificate.der)


def reread_root(data: bytes) -> bytes:
    return tbs_of(parse_venue_root(certificate_of(data, _AUTHORITY)).der)


def _payloads(data: bytes) -> list[bytes]:
    items = decode_array(data, bytes_max=len(data))
    payloads = [item for item in items if isinstance(item, bytes)]
    if len(items) != 2 or len(payloads) != 2:
        raise NotCanonical("two payloads")
    return payloads


def reread_fork(data: bytes) -> bytes:
    """Two payloads of one log, each with its author's signature: only what they say can be wrong."""
    payloads = _payloads(data)
    first, second = sorted((resigned(BAR_A, payload) for payload in payloads), key=entry_id)
    proof = check_fork_proof(encode([A[0], first, second]), VENUE.root)
    assert decode_entry(first).seq == decode_entry(second).seq == proof.seq
    return encode(list(payloads))


def reread_case(data: bytes) -> bytes:
    """Two payloads, one signed by each bar."""
    payloads = _payloads(data)
    devices: tuple[tuple[bytes, VenueDevice], ...] = ((A[0], BAR_A), (B[0], BAR_B))
    pairs = [(genesis, resigned(bar, payload)) for (genesis, bar), payload in zip(devices, payloads, strict=True)]
    pairs.sort(key=lambda pair: entry_id(pair[1]))
    case = check_case(encode([1, VENUE.root.der, [list(pair) for pair in pairs]]), VENUE.root)
    assert len({tap.tap.fact.written for tap in case.taps}) == 2
    assert {tap.tap.fact.consumed for tap in case.taps} == {case.consumed}
    return encode(list(payloads))


def reread_receipt(data: bytes) -> bytes:
    signed = verify_receipt(data + SETTLEMENT.sign(Domain.RECEIPT, data), VENUE.root)
    assert signed.signer == SETTLEMENT.certificate
    return signed.data[:-SIGNATURE_BYTES]


def reread_request(data: bytes) -> bytes:
    """A name, asked for by a device that holds both keys."""
    try:
        name = data.decode()
    except UnicodeDecodeError as error:
        raise NotCanonical("text") from error
    made = make_request(
        name,
        BAR_A.certificate.link_key,
        BAR_A.certificate.log_key,
        sign_link=lambda domain, message: BAR_A.link_key.sign(domain.value + message),
        sign_log=BAR_A.sign,
    )
    return parse_request(made).name.encode()


def reread_slots(data: bytes) -> bytes:
    """Two slots as a chip answers them; the first byte says which of them get the seal of an enrolled reader."""
    if not data:
        raise NotCanonical("no slots")
    middle = 1 + SEALED_BYTES
    slots = [data[1:middle], data[middle : middle + SEALED_BYTES]]
    for index, device in ((0, BAR_A), (1, TILL)):
        if data[0] >> index & 1 and len(slots[index]) >= RECORD_BYTES:
            record = slots[index][:RECORD_BYTES]
            slots[index] = record + device.sign(Domain.CARD, record)
    known = {key_id(device.public_key): [device.public_key] for device in (BAR_A, TILL)}
    view = read_card((slots[0], slots[1]), lambda reader: known.get(reader, ()))
    match view:
        case Shown(shown, sealed, idle, previous):
            assert sealed == slots[1 - idle] and shown.encode() == sealed[:RECORD_BYTES]
            assert previous is None or is_child(shown, previous)
        case Blank(idle):
            assert idle in {0, 1} and not (any(slots[0]) and any(slots[1]))
        case _:
            pass
    return data


def reread_counted(data: bytes) -> bytes:
    """A tap's body under every rule: it counts, or there is a reason; and what counts is a well-formed body."""
    read = read_tap(data, _AUTHOR, entry_id=bytes(32), log=0, seq=1)
    if isinstance(read, CountedTap):
        assert decode_tap(data).encode() == data
        assert read.fact.author == key_id(BAR_A.public_key)
    return data


def reread_shown(data: bytes) -> bytes:
    """Any body under any kind can be shown to people; the first byte is the kind."""
    kind = data[0] if data else 0
    entry = decode_entry(
        resigned(
            BAR_A, encode([1, WORLD.bar_a.log_id if kind else b"", 1 if kind else 0, bytes(32), 0, kind, data[1:]])
        )
    )
    fields = body_fields(entry, VENUE.root)
    assert isinstance(json.loads(json.dumps(fields)), dict)
    return data


def change_of(data: bytes, chunk_type: int = 1) -> bytes:
    """A chunk of Automerge with the right checksum; its length is the author's to lie about."""
    content = bytes([chunk_type]) + data
    return _MAGIC + hashlib.sha256(content).digest()[:4] + content


def reread_change(data: bytes) -> bytes:
    change = parse_change(change_of(data))
    assert change.operations >= 0 and all(len(dependency) == HASH_BYTES for dependency in change.dependencies)
    return change.raw[9:]


def reread_document(data: bytes) -> bytes:
    """A change of a manager whose log id is whatever actor the change names, beside a document that is in order."""
    view = VenueDocumentView()
    view.fold(_MANAGERS_LOG, 1, b"first", {Role.MANAGER}, _FIRST)
    raw = change_of(data)
    change = parse_change(raw)
    view.fold(change.actor, 1, b"second", {Role.MANAGER}, raw)
    document = view.document()
    assert document is not None or view.problem() is not None
    return change.raw[9:]


SIGNED: Final = {
    "signed certificate": Target(
        reread_certificate, tuple(tbs_of(device.certificate.der) for device in (BAR_A, TILL)), bytes_max=1024
    ),
    "signed root": Target(reread_root, (tbs_of(VENUE.root.der),), bytes_max=1024),
    "signed fork proof": Target(
        reread_fork, (encode([payload_of(A[3]), payload_of(WORLD.fork.entries[3])]),), bytes_max=2048, share=2
    ),
    "signed case": Target(reread_case, (encode([payload_of(A[1]), payload_of(B[1])]),), bytes_max=2048, share=2),
    "signed receipt": Target(reread_receipt, (RECEIPT[:-SIGNATURE_BYTES],), bytes_max=2048, share=2),
    "signed request": Target(reread_request, (b"bar A", "Bär «ß»".encode()), bytes_max=300),
    "card slots": Target(
        reread_slots,
        (
            b"\x00" + bytes(2 * SEALED_BYTES),
            b"\x03" + WORLD.band.sealed + bytes(SEALED_BYTES),
            b"\x02" + WORLD.band.sealed + seal(TILL, WORLD.band._next(WORLD.band.record, TILL, 1, 5)),  # type: ignore[arg-type]
        ),
        bytes_max=1 + 2 * SEALED_BYTES + 8,
    ),
    "counted tap": Target(reread_counted, (decode_entry(A[1]).body,), bytes_max=512),
    "shown body": Target(
        reread_shown,
        (
            bytes([Kind.GENESIS]) + decode_entry(A[0]).body,
            bytes([Kind.FORK_PROOF]) + encode([A[0], *sorted((A[3], WORLD.fork.entries[3]), key=entry_id)]),
            bytes([Kind.VENUE_CHANGE]) + _FIRST,
            bytes([Kind.DEVICE]) + BAR_A.certificate.der,
            bytes([Kind.RECEIPT]) + RECEIPT,
            bytes([Kind.TAP]) + decode_entry(A[1]).body,
            bytes([Kind.ABORT]) + decode_entry(A[2]).body,
        ),
    ),
    "change": Target(reread_change, (_FIRST[9:], _SECOND[9:]), bytes_max=2048),
    "venue document": Target(reread_document, (_FIRST[9:], _SECOND[9:]), bytes_max=1024, share=1),
}
"""Bytes below a hash or a signature."""
