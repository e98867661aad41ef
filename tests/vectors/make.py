"""Make the golden vectors again: `python -m tests.vectors.make` writes the files beside this one.

They are for whoever implements the protocol a second time, and for ourselves: a change of bytes shows as a change of
files. Everything comes from fixed seeds, so the files are the same wherever they are made. Bytes are hexadecimal. What
must be rejected carries the name of the error; other implementations may name it as they like, but must refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesh.core.chain import encode_run
from mesh.core.codec import Value, encode
from mesh.core.entry import ENTRY_VERSION, NO_PREV, SIGNATURE_BYTES, SIGNATURE_DOMAIN, decode_entry, entry_id
from mesh.core.fork import prove_fork
from mesh.core.frontier import Island, LogSummary, Position
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.core.messages import (
    Announce,
    BucketLogs,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    Kept,
    Message,
    Missing,
    Plan,
    Quiet,
    RunMessage,
    Tell,
    Want,
    encode_message,
)
from mesh.limits import BUCKETS_COUNT, ENTRY_BODY_BYTES_MAX, RUN_ENTRIES_MAX, TIME_MS_MAX
from mesh.views.evidence import make_case
from tests.factory import NOON_MS, LogWriter, Venue, VenueDevice, Wristband
from tests.vectors.revocations import revocation_vectors

DIRECTORY: Final = Path(__file__).parent
Vector = dict[str, object]

VENUE: Final = Venue("Vectors")
STRANGERS: Final = Venue("Another event")
TILL: Final = VENUE.device("till", Role.TILL)
BAR_A: Final = VENUE.device("bar A", Role.READER)
BAR_B: Final = VENUE.device("bar B", Role.READER)
COURIER: Final = VENUE.device("courier", Role.COURIER)
STRANGER: Final = STRANGERS.device("bar A", Role.READER)


class World:
    """One issue, two sales from a cloned wristband, an abort, an unknown kind, and a fork of bar A's log."""

    def __init__(self) -> None:
        self.till, self.bar_a, self.bar_b = LogWriter(TILL), LogWriter(BAR_A), LogWriter(BAR_B)
        self.earlier = LogWriter(BAR_A, Lane.CONTROL, known=[self.bar_a])
        self.band = Wristband(VENUE, 1)
        self.band.issue(self.till, 2000)
        self.clone = self.band.clone()
        self.band.sell(self.bar_a, 650)
        self.clone.sell(self.bar_b, 400)
        given_up = self.band.propose(BAR_A, Operation.SALE, 100)
        self.bar_a.abort(given_up.tap_id, given_up.written)
        self.bar_a.append(40_000, b"a kind that is not known yet")
        self.fork = self.bar_a.fork(3)
        self.fork.append(Kind.ABORT, b"")
        self.bar_a.append(7, b"")


def payload_of(entry: bytes) -> bytes:
    return entry[:-SIGNATURE_BYTES]


def resigned(device: VenueDevice, payload: bytes) -> bytes:
    """Any payload with a good signature: what an enrolled attacker can do."""
    return payload + device.sign_anything(SIGNATURE_DOMAIN + payload)


def fields_of(entry: bytes) -> list[Value]:
    decoded = decode_entry(entry)
    log_id = decoded.log_id if decoded.seq else b""
    return [ENTRY_VERSION, log_id, decoded.seq, decoded.prev, decoded.time_ms, decoded.kind, decoded.body]


def altered(device: VenueDevice, entry: bytes, index: int, value: Value) -> bytes:
    fields = fields_of(entry)
    fields[index] = value
    return resigned(device, encode(fields))


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# -- entry.json ----------------------------------------------------------------------------------------------------


def entry_vectors(world: World) -> Vector:
    entries = [*world.bar_a.entries, world.earlier.entries[0], *world.till.entries]
    return {
        "root": VENUE.root.der.hex(),
        "venue_id": VENUE.root.venue_id.hex(),
        "valid": [_entry_vector(entry) for entry in entries],
        "must_reject": [
            {"name": name, "entry": data.hex(), "error": error} for name, data, error in entry_attacks(world.bar_a)
        ],
    }


def _entry_vector(entry: bytes) -> Vector:
    decoded = decode_entry(entry)
    return {
        "entry": entry.hex(),
        "id": entry_id(entry).hex(),
        "log_id": decoded.log_id.hex(),
        "seq": decoded.seq,
        "prev": decoded.prev.hex(),
        "time_ms": decoded.time_ms,
        "kind": decoded.kind,
        "body": decoded.body.hex(),
    }


def entry_attacks(log: LogWriter) -> list[tuple[str, bytes, str]]:
    """Each is signed well, where it can be: only its form is wrong."""
    genesis, entry = log.entries[0], log.entries[1]
    payload = payload_of(entry)
    fields = fields_of(entry)

    def other(index: int, value: Value) -> bytes:
        return altered(BAR_A, entry, index, value)

    def raw(data: bytes) -> bytes:
        return resigned(BAR_A, data)

    return [
        ("empty", b"", "NotCanonical"),
        ("nothing but a signature", entry[-SIGNATURE_BYTES:], "NotCanonical"),
        ("byte after the payload", raw(payload + b"\x00"), "NotCanonical"),
        ("payload cut short", raw(payload[:-1]), "NotCanonical"),
        ("version in two bytes", raw(payload[:1] + b"\x18\x01" + payload[2:]), "NotCanonical"),
        ("array with a two-byte length", raw(b"\x98\x07" + payload[1:]), "NotCanonical"),
        ("array without a length", raw(b"\x9f" + payload[1:] + b"\xff"), "NotCanonical"),
        ("payload in a tag", raw(b"\xd9\xd9\xf7" + payload), "NotCanonical"),
        ("payload that is a map", raw(b"\xa0"), "NotCanonical"),
        ("payload that is text", raw(encode("entry")), "NotCanonical"),
        ("time that is a float", raw(with_float_time(fields)), "NotCanonical"),
        ("six fields", raw(encode(fields[:6])), "BadField"),
        ("eight fields", raw(encode([*fields, 0])), "BadField"),
        ("version 0", other(0, 0), "UnknownVersion"),
        ("version 2", other(0, 2), "UnknownVersion"),
        ("version true", other(0, True), "BadField"),
        ("version that is text", other(0, "1"), "BadField"),
        ("log id of 15 bytes", other(1, bytes(15)), "BadField"),
        ("log id that is empty past the genesis", other(1, b""), "BadField"),
        ("log id that is text", other(1, "0123456789abcdef"), "BadField"),
        ("log id in a genesis", altered(BAR_A, genesis, 1, bytes(16)), "BadField"),
        ("seq below zero", other(2, -1), "BadField"),
        ("seq over 32 bits", other(2, 2**32), "BadField"),
        ("seq null", other(2, None), "BadField"),
        ("prev of 31 bytes", other(3, bytes(31)), "BadField"),
        ("prev null", other(3, None), "BadField"),
        ("time below zero", other(4, -1), "BadField"),
        ("time over 2**53", other(4, TIME_MS_MAX + 1), "BadField"),
        ("time false", other(4, False), "BadField"),
        ("kind over 16 bits", other(5, 2**16), "BadField"),
        ("body that is an array", other(6, []), "BadField"),
        ("body that is text", other(6, ""), "BadField"),
        ("body of 32769 bytes", other(6, bytes(ENTRY_BODY_BYTES_MAX + 1)), "BadField"),
    ]


def with_float_time(fields: Sequence[Value]) -> bytes:
    before, after = b"".join(map(encode, fields[:4])), b"".join(map(encode, fields[5:]))
    return b"\x87" + before + b"\xf9\x00\x00" + after


# -- run.json ------------------------------------------------------------------------------------------------------


def run_vectors(world: World) -> Vector:
    log = world.bar_a
    return {
        "root": VENUE.root.der.hex(),
        "log_id": log.log_id.hex(),
        "log_key": BAR_A.public_key.hex(),
        "valid": [
            {
                "name": name,
                "count": len(entries),
                "blob": encode_run(entries).hex(),
                "first_seq": first_seq,
                "tip_id": entry_id(entries[-1]).hex(),
            }
            for name, first_seq, entries in (
                ("whole log", 0, log.entries),
                ("genesis alone", 0, log.entries[:1]),
                ("from the middle", 2, log.entries[2:4]),
                ("branch of a fork", 3, world.fork.entries[3:]),
                ("bad signature below a good one", 1, _vouched(log)),
            )
        ],
        "must_reject": [
            {"name": name, "count": count, "blob": blob.hex(), "error": error}
            for name, count, blob, error in run_attacks(world)
        ],
    }


def _vouched(log: LogWriter) -> list[bytes]:
    """The author signs after an entry of his that is not signed well: the links hold, the background check finds it."""
    copy = log.fork(1)
    copy.append_forged(7, b"forged")
    copy.append(7, b"vouches for it")
    return copy.entries[1:]


def run_attacks(world: World) -> list[tuple[str, int, bytes, str]]:
    log = world.bar_a
    entries = log.entries
    other = world.bar_b.entries

    def of(pieces: Sequence[bytes], error: str, name: str) -> tuple[str, int, bytes, str]:
        return name, len(pieces), encode_run(pieces), error

    shifted = [*entries[:2], *moved_boundary(entries[2], entries[3])]
    stranger = LogWriter(STRANGER)
    no_certificate = LogWriter(BAR_A)
    rewritten = altered(BAR_A, entries[0], 6, encode([b"no certificate", bytes(16), 1, []]))
    return [
        ("no entry", 0, b"", "BadField"),
        ("count too high", 3, encode_run(entries[:2]), "NotCanonical"),
        ("count too low", 1, encode_run(entries[:2]), "NotCanonical"),
        ("more entries than allowed", RUN_ENTRIES_MAX + 1, encode_run(entries), "BadField"),
        ("entry that is text", 1, b"\x60", "NotCanonical"),
        ("byte string with a long length", 1, b"\x5a\x00\x00\x00\x01\x00", "NotCanonical"),
        ("byte after the run", 1, encode_run(entries[:1]) + b"\x00", "NotCanonical"),
        of([entries[2], entries[1]], "SeqNotNext", "two entries reordered"),
        of([entries[1], entries[3]], "SeqNotNext", "entry dropped"),
        of([entries[1], entries[1]], "SeqNotNext", "entry twice"),
        of([entries[1], other[1]], "WrongLog", "entry of another log"),
        of([entries[1], *world.fork.entries[3:]], "SeqNotNext", "gap before a branch"),
        of(
            [*entries[:3], altered(BAR_A, entries[3], 3, entry_id(entries[1]))],
            "BrokenLink",
            "splice: prev of an earlier entry",
        ),
        of(
            [*entries[:4], altered(BAR_A, world.fork.entries[3], 2, 4)],
            "BrokenLink",
            "splice: branch after the other branch",
        ),
        of([*entries[:2], flipped(entries[2], -1), entries[3]], "BrokenLink", "signature changed inside"),
        of([*entries[:2], flipped(entries[2], 100), entries[3]], "PeerError", "byte changed inside"),
        of(shifted, "NotCanonical", "byte moved from the end of a payload to the start of the next"),
        of([*entries[:3], flipped(entries[3], -1)], "BadSignature", "signature of the tip changed"),
        of(
            [*entries[:3], resigned(BAR_B, payload_of(entries[3]))],
            "BadSignature",
            "tip signed with another device's key",
        ),
        of(stranger.entries, "ForeignVenue", "log of another venue"),
        of([rewritten], "PeerError", "genesis without a certificate"),
        of([altered(BAR_A, entries[0], 3, bytes([1]) * 32)], "BadGenesis", "genesis that follows something"),
        of([altered(BAR_A, entries[0], 5, int(Kind.TAP))], "BadGenesis", "entry 0 that is no genesis"),
        of([_genesis(lane=9)], "BadGenesis", "lane that is not known"),
        of([_genesis(nonce=bytes(15))], "BadGenesis", "nonce of 15 bytes"),
        of([_genesis(heads=[[bytes(16), -1, bytes(32)]])], "BadGenesis", "known head below zero"),
        of([_genesis(heads=[[bytes(16), True, bytes(32)]])], "BadGenesis", "known head true"),
        of([_genesis(heads=[[bytes(16), 0, bytes(32)]] * 513)], "BadGenesis", "more known heads than allowed"),
        of(
            [resigned(BAR_B, payload_of(no_certificate.entries[0]))],
            "BadSignature",
            "genesis with another device's certificate",
        ),
    ]


def moved_boundary(one: bytes, other: bytes) -> list[bytes]:
    """Both payloads together stay the same bytes; what divides them does not."""
    first, second = payload_of(one), payload_of(other)
    return [first[:-1] + one[-SIGNATURE_BYTES:], first[-1:] + second + other[-SIGNATURE_BYTES:]]


def _genesis(*, nonce: bytes = bytes(16), lane: int = 1, heads: Sequence[Value] = ()) -> bytes:
    body = encode([BAR_A.certificate.der, nonce, lane, list(heads)])
    fields: list[Value] = [ENTRY_VERSION, b"", 0, NO_PREV, NOON_MS, int(Kind.GENESIS), body]
    return resigned(BAR_A, encode(fields))


# -- fork_proof.json -----------------------------------------------------------------------------------------------


def fork_vectors(world: World) -> Vector:
    genesis, one, other = world.bar_a.entries[0], world.bar_a.entries[3], world.fork.entries[3]
    proof = prove_fork(genesis, one, other, VENUE.root)
    assert proof is not None
    first, second = sorted((one, other), key=entry_id)
    forged = sorted((one, flipped(other, -1)), key=entry_id)
    b = world.bar_b.entries
    attacks: list[tuple[str, Value, str]] = [
        ("entries the other way round", [genesis, second, first], "NotAFork"),
        ("one entry twice", [genesis, one, one], "NotAFork"),
        ("entries of different seqs", [genesis, *sorted(world.bar_a.entries[1:3], key=entry_id)], "NotAFork"),
        ("entries of two logs", [genesis, *sorted((world.bar_a.entries[1], b[1]), key=entry_id)], "NotAFork"),
        ("genesis of another log", [b[0], first, second], "NotAFork"),
        ("no genesis", [one, first, second], "BadGenesis"),
        ("one signature changed", [genesis, *forged], "BadSignature"),
        ("genesis signature changed", [flipped(genesis, -1), first, second], "NotAFork"),
        ("two entries only", [genesis, first], "NotAFork"),
        ("third entry", [genesis, first, second, second], "NotAFork"),
        ("text for bytes", [genesis, first, "second"], "NotAFork"),
        ("other venue", [LogWriter(STRANGER).entries[0], first, second], "ForeignVenue"),
        ("no array", None, "NotCanonical"),
    ]
    return {
        "root": VENUE.root.der.hex(),
        "valid": [{"body": proof.body.hex(), "log_id": proof.log_id.hex(), "seq": proof.seq}],
        "must_reject": [{"name": name, "body": encode(body).hex(), "error": error} for name, body, error in attacks],
    }


# -- wire.json -----------------------------------------------------------------------------------------------------


def messages(world: World) -> list[tuple[str, Message]]:
    log = world.bar_a
    position = Position(log.head_seq, log.head_id)
    island = Island(2, Position(3, log.ids[3]))
    summary = LogSummary(log.log_id, (position,), (island,))
    locator = (Position(2, log.ids[2]), Position(0, log.ids[0]))
    return [
        ("hello", Hello(VENUE.root.venue_id, "north", bytes(range(32)))),
        ("hello with logs set aside", Hello(VENUE.root.venue_id, "", bytes(range(32)), aside=bytes(range(16)))),
        ("buckets", Buckets(tuple(bytes([number]) * 16 for number in range(BUCKETS_COUNT)))),
        ("frontier", FrontierPart((summary,))),
        ("frontier of nothing", FrontierPart(())),
        ("digests of the logs of buckets", BucketLogs(frozenset({0, 9, 63}), (bytes(range(16)), bytes(range(16, 32))))),
        ("buckets without a log", BucketLogs(frozenset({5}), ())),
        ("tell", Tell((bytes(range(16)),))),
        ("quiet", Quiet(log.log_id)),
        ("want", Want(log.log_id, position, locator)),
        ("want of a log that is not known", Want(log.log_id, position, ())),
        ("plan", Plan(log.log_id, 2, 700)),
        ("run", RunMessage(log.log_id, 2, encode_run(log.entries[1:3]))),
        ("missing", Missing(log.log_id, position)),
        ("announce", Announce(((log.log_id, position),))),
        ("digest", Digest(bytes(32))),
        ("digest with logs set aside", Digest(bytes(32), bytes(range(16)))),
        ("bye", Bye("another link to you is open")),
        ("kept", Kept(((log.log_id, 3),))),
        ("kept, all that both hellos cover", Kept(())),
    ]


def wire_vectors(world: World) -> Vector:
    log_id, identifier = world.bar_a.log_id, world.bar_a.head_id
    attacks: list[tuple[str, Value, str]] = [
        ("no type", [], "BadMessage"),
        ("unknown type", [11], "BadMessage"),
        ("type below zero", [-1], "BadMessage"),
        ("type true", [True, [bytes(16)] * 64], "BadMessage"),
        ("type that is text", ["hello"], "BadMessage"),
        ("no array", 0, "NotCanonical"),
        ("hello with a short venue id", [0, 2, bytes(31), "", bytes(32), bytes(16)], "BadMessage"),
        ("hello with a zone of 33 characters", [0, 2, bytes(32), "z" * 33, bytes(32), bytes(16)], "BadMessage"),
        ("hello with version true", [0, True, bytes(32), "", bytes(32), bytes(16)], "BadMessage"),
        ("hello of version 1", [0, 1, bytes(32), "", bytes(32)], "WrongVersion"),
        ("hello with 32 bytes of what is set aside", [0, 2, bytes(32), "", bytes(32), bytes(32)], "BadMessage"),
        ("63 buckets", [1, [bytes(16)] * 63], "BadMessage"),
        ("bucket digest of 32 bytes", [1, [bytes(32)] * 64], "BadMessage"),
        ("frontier with 17 branches of one log", [2, [[log_id, [[0, identifier]] * 17, []]]], "BadMessage"),
        (
            "frontier with an island that ends before it begins",
            [2, [[log_id, [], [[3, 2, identifier]]]]],
            "BadMessage",
        ),
        ("frontier of version 1", [2, [], True], "BadMessage"),
        ("want with 41 ids", [3, log_id, [1, identifier], [[1, identifier]] * 41], "BadMessage"),
        ("want of a seq over 32 bits", [3, log_id, [2**32, identifier], []], "BadMessage"),
        ("plan below zero", [4, log_id, -1, 0], "BadMessage"),
        ("plan of 2**63 entries", [4, log_id, 2**63, 0], "BadMessage"),
        ("kept with an id", [11, [[log_id, 3, identifier]]], "BadMessage"),
        ("kept to a seq over 32 bits", [11, [[log_id, 2**32]]], "BadMessage"),
        ("run of true entries", [5, log_id, True, b""], "BadMessage"),
        ("run with a log id of 15 bytes", [5, log_id[:15], 1, b""], "BadMessage"),
        ("missing without a target", [6, log_id], "BadMessage"),
        ("announce with a short id", [7, [[log_id, 0, identifier[:31]]]], "BadMessage"),
        ("digest of 16 bytes", [8, bytes(16), bytes(16)], "BadMessage"),
        ("digest of version 1", [8, bytes(32)], "BadMessage"),
        ("digest with 15 bytes of what is set aside", [8, bytes(32), bytes(15)], "BadMessage"),
        ("bye of 201 characters", [9, "x" * 201], "BadMessage"),
        ("quiet with a log id of 15 bytes", [10, log_id[:15]], "BadMessage"),
        ("set of buckets of 7 bytes", [12, bytes(7), []], "BadMessage"),
        ("set of buckets that is a number", [12, 0, []], "BadMessage"),
        ("digest of a log of 32 bytes", [12, bytes(8), [bytes(32)]], "BadMessage"),
        ("digests of 4097 logs", [12, bytes(8), [bytes(16)] * 4097], "BadMessage"),
        ("tell with a digest of 15 bytes", [13, [bytes(15)]], "BadMessage"),
        ("tell of 4097 logs", [13, [bytes(16)] * 4097], "BadMessage"),
    ]
    return {
        "valid": [{"name": name, "frame": encode_message(message).hex()} for name, message in messages(world)],
        "must_reject": [
            {"name": name, "content": encode(shape).hex(), "error": error} for name, shape, error in attacks
        ],
    }


# -- case.json -----------------------------------------------------------------------------------------------------


def case_vectors(world: World) -> Vector:
    a, b = world.bar_a.entries, world.bar_b.entries
    root = VENUE.root.der
    pair_a, pair_b = sorted(([a[0], a[1]], [b[0], b[1]]), key=lambda pair: entry_id(pair[1]))
    case = make_case(VENUE.root, [(a[0], a[1]), (b[0], b[1])]).data
    again = world.bar_a.fork(1)
    again.append(Kind.TAP, decode_entry(a[1]).body)
    same = sorted(([a[0], a[1]], [again.entries[0], again.entries[1]]), key=lambda pair: entry_id(pair[1]))
    rogue = LogWriter(COURIER)
    Wristband(VENUE, 1).issue(rogue, 100)
    later = LogWriter(BAR_B, number=1)
    world.clone.sell(later, 100)
    courier_pair = [rogue.entries[0], rogue.entries[1]]
    later_pair = [later.entries[0], later.entries[1]]
    forged = [pair_b[0], flipped(pair_b[1], -1)]
    attacks: list[tuple[str, Value, str]] = [
        ("one tap", [1, root, [pair_a]], "NoCase"),
        ("taps the other way round", [1, root, [pair_b, pair_a]], "NoCase"),
        ("one tap twice", [1, root, [pair_a, pair_a]], "NoCase"),
        ("one tap signed twice", [1, root, same], "NoCase"),
        ("version 2", [2, root, [pair_a, pair_b]], "NoCase"),
        ("version true", [True, root, [pair_a, pair_b]], "NoCase"),
        ("root of another event", [1, STRANGERS.root.der, [pair_a, pair_b]], "NoCase"),
        ("a device's certificate as root", [1, BAR_A.certificate.der, [pair_a, pair_b]], "NoCase"),
        ("genesis of another log", [1, root, [[pair_b[0], pair_a[1]], pair_b]], "NoCase"),
        ("genesis of another event", [1, root, [pair_a, [LogWriter(STRANGER).entries[0], pair_b[1]]]], "ForeignVenue"),
        ("tap that is an abort", [1, root, [pair_a, [a[0], a[2]]]], "NoCase"),
        ("tap of a device that may not sell", [1, root, [pair_a, courier_pair]], "NoCase"),
        ("taps of one branch, one after the other", [1, root, sorted_pairs(pair_b, later_pair)], "NoCase"),
        ("signature of a tap changed", [1, root, sorted_pairs(pair_a, forged)], "BadSignature"),
        ("seventeen taps", [1, root, [pair_a] * 17], "NoCase"),
        ("pair without a tap", [1, root, [pair_a, [pair_b[0]]]], "NoCase"),
    ]
    return {
        "root": root.hex(),
        "card": world.band.card.hex(),
        "valid": [{"case": case.hex(), "devices": ["bar A", "bar B"], "amounts_minor": [650, 400]}],
        "must_reject": [{"name": name, "case": encode(body).hex(), "error": error} for name, body, error in attacks],
    }


def sorted_pairs(*pairs: list[bytes]) -> list[list[bytes]]:
    return sorted(pairs, key=lambda pair: entry_id(pair[1]))


# -- Files ---------------------------------------------------------------------------------------------------------


def make() -> dict[str, str]:
    """The content of every file, by name."""
    made = {
        "entry.json": entry_vectors(World()),
        "run.json": run_vectors(World()),
        "fork_proof.json": fork_vectors(World()),
        "wire.json": wire_vectors(World()),
        "case.json": case_vectors(World()),
        "revocation.json": revocation_vectors(VENUE, STRANGERS, BAR_B),
    }
    return {name: json.dumps(vectors, indent=1) + "\n" for name, vectors in made.items()}


if __name__ == "__main__":
    for file_name, content in make().items():
        (DIRECTORY / file_name).write_text(content, encoding="utf-8")
