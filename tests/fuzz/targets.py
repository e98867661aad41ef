"""What is fuzzed: every function that reads bytes from outside, one row each.

The invariant, for every target: **any bytes either parse to something that re-encodes to the same bytes, or raise
`PeerError`, in bounded time and memory.** Time is steps (lines of our Python run), memory is bytes allocated: both are
counted, so that a bound means the same on every machine. What a library does in C is bounded by what it allocates.

Hashes, checksums and signatures stop a fuzzer at the door, so some targets take the bytes *below* them and put the
right hash or a good signature on top (`tests.fuzz.signed`): an enrolled device that turned bad can do that too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.settlement_api import (
    HeadsAnswer,
    LogHeads,
    OfferedRun,
    Outcome,
    OutcomeCode,
    ReceiptsAnswer,
    RunsAnswer,
    decode_answer,
    decode_heads,
    decode_receipts,
    decode_runs,
    encode_answer,
    encode_heads,
    encode_receipts,
    encode_runs,
)
from mesh.core.certificate import decode_binding, encode_binding, parse_device_certificate, parse_venue_root
from mesh.core.chain import check_run, encode_genesis, encode_run, parse_genesis, split_run
from mesh.core.codec import decode, encode
from mesh.core.enrolment import make_answer, make_request, make_starter, parse_answer, parse_request, parse_starter
from mesh.core.entry import LOG_ID_BYTES, SIGNATURE_BYTES, Entry, decode_entry, entry_id
from mesh.core.fork import check_fork_proof
from mesh.core.frontier import Position
from mesh.core.kinds import Operation, Role
from mesh.core.messages import decode_message, encode_message
from mesh.core.receipt import Receipt, decode_receipt, sign_receipt
from mesh.errors import PeerError
from mesh.limits import FRAME_BYTES_MAX
from mesh.views.card_record import RECORD_BYTES, decode_record
from mesh.views.evidence import check_case, make_case
from mesh.views.tap_entry import decode_abort, decode_tap
from tests.vectors.make import BAR_A, TILL, VENUE, World, messages

WORLD: Final = World()
A, B = WORLD.bar_a.entries, WORLD.bar_b.entries
LOG_ID: Final = WORLD.bar_a.log_id
SETTLEMENT: Final = VENUE.device("settlement", Role.SETTLEMENT)
RECEIPT: Final = sign_receipt(
    SETTLEMENT.sign,
    Receipt(LOG_ID, 3, A[3][:32], 4, 650, 4, 1, (A[1][:32],), bytes(16), SETTLEMENT.certificate.der),
)
REQUEST: Final = make_request(
    "bar A",
    BAR_A.certificate.link_key,
    BAR_A.certificate.log_key,
    sign_link=lambda domain, message: BAR_A.link_key.sign(domain.value + message),
    sign_log=BAR_A.sign,
)
STARTER_RUN: Final = encode([WORLD.earlier.log_id, 1, encode_run(WORLD.earlier.entries)])
CASE: Final = make_case(VENUE.root, [(A[0], A[1]), (B[0], B[1])]).data


@dataclass(frozen=True)
class Target:
    """One reader of bytes. `reread` parses, and returns what the result encodes to; it may raise `PeerError` only."""

    reread: Callable[[bytes], bytes]
    valid: tuple[bytes, ...]
    """Inputs that parse: where fuzzing begins."""
    bytes_max: int = 4096
    """Longest input that the fuzzer tries."""
    steps_base: int = 4_000
    steps_per_byte: int = 40
    memory_base: int = 256 * 1024
    memory_per_byte: int = 256
    share: int = 4
    """How much of the inputs this target gets, in relation to the others: slow ones get less."""


def check(target: Target, data: bytes) -> None:
    """The invariant, without its bounds."""
    try:
        again = target.reread(data)
    except PeerError:
        return
    assert again == data, f"parsed, but encodes to {again.hex()}"


def entry_bytes(entry: Entry) -> bytes:
    """An entry put together again from its fields."""
    log_id = entry.log_id if entry.seq else b""
    payload = encode([1, log_id, entry.seq, entry.prev, entry.time_ms, entry.kind, entry.body])
    return payload + entry.data[-SIGNATURE_BYTES:]


def reread_run(data: bytes) -> bytes:
    """The first byte is how many entries there are said to be."""
    entries = split_run(data[0] if data else 0, data[1:])
    log_id = entry_id(entries[0])[:LOG_ID_BYTES] if decode_entry(entries[0]).seq == 0 else LOG_ID
    run = check_run(log_id, entries)
    for entry, fields in zip(run.entries, run.fields, strict=True):
        assert encode(list(fields)) == entry[:-SIGNATURE_BYTES]
    return bytes([len(run.ids)]) + encode_run(run.entries)


def reread_genesis(data: bytes) -> bytes:
    genesis = parse_genesis(data, VENUE.root)
    entry = decode_entry(data)
    body = encode_genesis(genesis.certificate.der, genesis.nonce, genesis.lane, genesis.known_heads)
    assert body == entry.body
    return entry_bytes(entry)


def reread_case(data: bytes) -> bytes:
    case = check_case(data, VENUE.root)
    assert len(case.taps) >= 2
    return encode(decode(data, bytes_max=len(data)))


def reread_receipt(data: bytes) -> bytes:
    return sign_receipt(lambda *_: data[-SIGNATURE_BYTES:], decode_receipt(data))


def reread_request(data: bytes) -> bytes:
    request = parse_request(data)
    proofs = decode(data, bytes_max=len(data))
    assert isinstance(proofs, list)
    return encode([1, request.name, request.link_key, request.log_key, *proofs[4:]])


def reread_answer(data: bytes) -> bytes:
    certificate = BAR_A.certificate
    answer = parse_answer(data, certificate.link_key, certificate.log_key)
    return make_answer(answer.root, answer.certificate, answer.starter)


def reread_binding(data: bytes) -> bytes:
    """Role names of later versions grant nothing, so only what is known comes back."""
    log_key, roles = decode_binding(data)
    if encode_binding(log_key, roles) == data:
        return data
    shape = decode(data, bytes_max=len(data))
    assert isinstance(shape, list) and isinstance(shape[2], list)
    assert {role.value for role in roles} < set(shape[2])
    return encode(shape)


def reread_settlement_answer(data: bytes) -> bytes:
    """The first byte is how many runs the answer is for."""
    return data[:1] + encode_answer(decode_answer(data[1:], data[0] if data else 0))


PLAIN: Final = {
    "value": Target(
        lambda data: encode(decode(data, bytes_max=FRAME_BYTES_MAX)),
        (encode([1, b"a", "b", None, [True]]), encode([-1, 2**63, [[[[[[[]]]]]]], "\U0010ffff", b"\x00" * 300])),
    ),
    "entry": Target(lambda data: entry_bytes(decode_entry(data)), tuple(A)),
    "run": Target(reread_run, (bytes([3]) + encode_run(A[1:4]), bytes([len(A)]) + encode_run(A))),
    "genesis": Target(reread_genesis, (A[0], WORLD.earlier.entries[0])),
    "message": Target(
        lambda data: encode_message(decode_message(data))[4:],
        tuple(encode_message(message)[4:] for _, message in messages(WORLD)),
    ),
    "fork proof": Target(
        lambda data: check_fork_proof(data, VENUE.root).body,
        (encode([A[0], *sorted((A[3], WORLD.fork.entries[3]), key=entry_id)]),),
    ),
    "tap": Target(
        lambda data: decode_tap(data).encode(),
        (decode_entry(A[1]).body, WORLD.band.propose(TILL, Operation.TOP_UP, 5).encode()),
        bytes_max=1024,
    ),
    "abort": Target(lambda data: decode_abort(data).encode(), (decode_entry(A[2]).body,), bytes_max=256),
    "card record": Target(lambda data: decode_record(data).encode(), (WORLD.band.sealed[:RECORD_BYTES],), bytes_max=64),
    "receipt": Target(reread_receipt, (RECEIPT,)),
    "case": Target(reread_case, (CASE,)),
    "device certificate": Target(
        lambda data: parse_device_certificate(data, VENUE.root).der,
        tuple(device.certificate.der for device in (BAR_A, TILL, SETTLEMENT)),
    ),
    "venue root": Target(lambda data: parse_venue_root(data).der, (VENUE.root.der,)),
    "binding": Target(
        reread_binding,
        (
            encode_binding(bytes(32), frozenset({Role.READER, Role.TILL})),
            encode([1, bytes(32), ["reader", "waiter-of-2040"]]),
        ),
        bytes_max=512,
    ),
    "request": Target(reread_request, (REQUEST,), bytes_max=512),
    "answer": Target(reread_answer, (make_answer(VENUE.root, BAR_A.certificate, (STARTER_RUN,)),)),
    "starter": Target(lambda data: make_starter(parse_starter(data)), (make_starter((STARTER_RUN, b"")),)),
    "settlement runs": Target(
        lambda data: encode_runs(decode_runs(data)), (encode_runs([OfferedRun(LOG_ID, 2, encode_run(A[:2]))]),)
    ),
    "settlement answer": Target(
        reread_settlement_answer,
        (
            b"\x02"
            + encode_answer(
                RunsAnswer(
                    bytes(16),
                    (Outcome(OutcomeCode.ACCEPTED, 3, 1, 1), Outcome(OutcomeCode.REFUSED, sentence="no")),
                    (RECEIPT,),
                )
            ),
            b"\x01" + encode_answer(RunsAnswer(bytes(16), (Outcome(OutcomeCode.NEED, need_from=7),), ())),
        ),
    ),
    "settlement heads": Target(
        lambda data: encode_heads(decode_heads(data)),
        (encode_heads(HeadsAnswer(bytes(16), (LogHeads(LOG_ID, (Position(3, A[3][:32]),)),))),),
    ),
    "settlement receipts": Target(
        lambda data: encode_receipts(decode_receipts(data)),
        (encode_receipts(ReceiptsAnswer(bytes(16), 9, True, (RECEIPT,))),),
    ),
}
"""Bytes as they arrive."""
