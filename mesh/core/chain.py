"""The rules of a log, one validator and one error each. A run that passes them may be stored.

Rules, in the order in which they are checked:

1. A run has 1 to `RUN_ENTRIES_MAX` entries and at most `RUN_BYTES_MAX` bytes (or is one entry), canonically encoded.
2. Each entry is the deterministic encoding of seven fields in range (:mod:`mesh.core.entry`).
3. Entry 0 is a genesis: kind GENESIS, prev zero, a body that names a certificate of this venue; it names its log.
4. Every entry names this log (:class:`WrongLog`).
5. Seqs rise by one (:class:`SeqNotNext`).
6. Each prev is the id of the entry before it (:class:`BrokenLink`).
7. The last entry's signature verifies under the log's key (:class:`~mesh.core.entry.BadSignature`). Because each
   entry's id covers the one before it, signature included, the author has vouched for the whole run by that.

Nothing here looks at a clock: time in an entry is its device's claim and refuses nothing (DESIGN.md, rule 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

import cbor2

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate
from mesh.core.codec import (
    NotCanonical,
    TooLarge,
    Value,
    are_canonical,
    array_header,
    decode_all_unchecked,
    decode_array,
    decode_unchecked,
    encode,
)
from mesh.core.entry import (
    ID_BYTES,
    LOG_ID_BYTES,
    NO_PREV,
    SIGNATURE_BYTES,
    BadField,
    check_fields,
    decode_entry,
    verify_signature,
)
from mesh.core.kinds import Kind, Lane
from mesh.errors import PeerError
from mesh.limits import (
    ENTRY_BODY_BYTES_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_SEQ_MAX,
    KNOWN_HEADS_MAX,
    RUN_BYTES_MAX,
    RUN_ENTRIES_MAX,
)

Fields: TypeAlias = tuple[int, bytes, int, bytes, int, int, bytes]
"""version, log_id, seq, prev, time_ms, kind, body of one checked entry; a list at run time, as it was decoded."""

NONCE_BYTES: Final = 16
_PAYLOAD_HEADER: Final = 0x87
"""CBOR array of seven."""


class WrongLog(PeerError):
    """An entry belongs to another log than the run it came in."""


class SeqNotNext(PeerError):
    """An entry's seq is not the one after the entry before it."""


class BrokenLink(PeerError):
    """An entry's prev is not the id of the entry before it."""


class BadGenesis(PeerError):
    """Entry 0 of a log is not a genesis of this venue."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """An earlier log of the same device key, as the genesis names it."""

    log_id: bytes
    seq: int
    id: bytes


@dataclass(frozen=True, slots=True)
class Genesis:
    """What entry 0 of a log says: who writes it, and in which lane."""

    certificate: DeviceCertificate
    nonce: bytes
    lane: Lane
    known_heads: tuple[KnownHead, ...]
    entry: bytes
    """The genesis entry itself, which every proof about the log begins with."""


@dataclass(frozen=True, slots=True)
class PackedRun:
    """What is kept of a run while it waits for the disk: its place and its bytes, nothing decoded."""

    log_id: bytes
    first_seq: int
    last_seq: int
    prev: bytes
    tip_id: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A contiguous piece of one log whose links are checked. `entries`, `fields` and `ids` have equal length."""

    log_id: bytes
    entries: Sequence[bytes]
    fields: Sequence[Fields]
    ids: Sequence[bytes]
    received: bytes | None = field(default=None, compare=False, repr=False)
    """The encoding that the whole run was split from, so that it need not be made again."""

    @property
    def blob(self) -> bytes:
        """The run as it travels and is stored; see :func:`encode_run`."""
        return encode_run(self.entries) if self.received is None else self.received

    def packed(self) -> PackedRun:
        """The run without what was decoded of it."""
        return PackedRun(self.log_id, self.first_seq, self.last_seq, self.prev, self.tip_id, self.blob)

    @property
    def first_seq(self) -> int:
        return self.fields[0][2]

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.ids) - 1

    @property
    def prev(self) -> bytes:
        return self.fields[0][3]

    @property
    def tip_id(self) -> bytes:
        return self.ids[-1]

    def tail(self, count: int) -> Run:
        """The same run without its first `count` entries."""
        return Run(self.log_id, self.entries[count:], self.fields[count:], self.ids[count:])

    def front(self, count: int) -> Run:
        """The first `count` entries."""
        return Run(self.log_id, self.entries[:count], self.fields[:count], self.ids[:count])


def encode_genesis(certificate_der: bytes, nonce: bytes, lane: Lane, known_heads: Sequence[KnownHead]) -> bytes:
    """The body of entry 0: [certificate, nonce(16), lane, [[log_id, seq, id], ...]]."""
    heads: Value = [[head.log_id, head.seq, head.id] for head in known_heads[-KNOWN_HEADS_MAX:]]
    return encode([certificate_der, nonce, int(lane), heads])


def parse_genesis(entry: bytes, root: VenueRoot) -> Genesis:
    """Rule 3: read and check entry 0, certificate included, or raise a `PeerError`. Does not check its signature."""
    decoded = decode_entry(entry)
    if decoded.seq != 0 or decoded.kind != Kind.GENESIS or decoded.prev != NO_PREV:
        raise BadGenesis("a log begins with a genesis at seq 0 that follows nothing")
    match decode_array(decoded.body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [bytes(der), bytes(nonce), int(lane), list(heads)] if len(nonce) == NONCE_BYTES:
            pass
        case _:
            raise BadGenesis("a genesis is [certificate, nonce(16), lane, known heads]")
    if isinstance(lane, bool) or lane not in Lane.__members__.values():
        raise BadGenesis(f"lane {lane} is not known here")
    if len(heads) > KNOWN_HEADS_MAX:
        raise BadGenesis(f"a genesis names at most {KNOWN_HEADS_MAX} earlier heads")
    return Genesis(parse_device_certificate(der, root), nonce, Lane(lane), tuple(map(_known_head, heads)), entry)


def _known_head(value: object) -> KnownHead:
    match value:
        case [bytes(log_id), int(seq), bytes(head_id)] if (
            len(log_id) == LOG_ID_BYTES and len(head_id) == ID_BYTES and type(seq) is int and 0 <= seq <= ENTRY_SEQ_MAX
        ):
            return KnownHead(log_id, seq, head_id)
        case _:
            raise BadGenesis("an earlier head is [log_id(16), seq, id(32)]")


def encode_run(entries: Sequence[bytes]) -> bytes:
    """A CBOR sequence (RFC 8742) of byte strings: two runs that follow each other join by joining their bytes."""
    return cbor2.dumps(list(entries))[len(array_header(len(entries))) :]


def split_run(count: int, blob: bytes) -> list[bytes]:
    """Rule 1: the entries of an encoded run, or a `PeerError`."""
    if not 1 <= count <= RUN_ENTRIES_MAX:
        raise BadField(f"a run has 1 to {RUN_ENTRIES_MAX} entries, not {count}")
    if len(blob) > (RUN_BYTES_MAX if count > 1 else ENTRY_BYTES_MAX + 8):
        raise TooLarge(f"a run of {len(blob)} bytes where at most {RUN_BYTES_MAX} are allowed")
    data = array_header(count) + blob
    entries = decode_unchecked(data)
    if type(entries) is not list or set(map(type, entries)) != {bytes} or cbor2.dumps(entries) != data:
        raise NotCanonical("a run is a sequence of canonical byte strings")
    return entries


def check_run(log_id: bytes, entries: Sequence[bytes], received: bytes | None = None) -> Run:
    """Rules 2, 4, 5 and 6 over one run, or a `PeerError`. Signatures and what it follows are the caller's to check.

    `received` is what :func:`split_run` made the entries of, if it did.
    """
    payloads = [entry[:-SIGNATURE_BYTES] for entry in entries]
    decoded = decode_all_unchecked(payloads)
    for entry_fields in decoded:
        check_fields(entry_fields)
    fields = cast("list[Fields]", decoded)
    if not are_canonical(fields, payloads, _PAYLOAD_HEADER):
        raise NotCanonical("an entry is not the deterministic CBOR encoding of its fields (RFC 8949, 4.2.1)")
    sha256 = hashlib.sha256
    ids = [sha256(entry).digest() for entry in entries]
    seq, prev = fields[0][2], fields[0][3]
    for entry_fields, identifier in zip(fields, ids, strict=True):
        if entry_fields[1] != log_id and (seq != 0 or identifier[:LOG_ID_BYTES] != log_id):
            raise WrongLog("an entry names another log than the run it came in")
        if entry_fields[2] != seq:
            raise SeqNotNext(f"seq {entry_fields[2]} where {seq} comes next")
        if entry_fields[3] != prev:
            raise BrokenLink(f"the entry at seq {seq} does not follow the one before it")
        seq += 1
        prev = identifier
    return Run(log_id, entries, fields, ids, received)


def verify_tip(run: Run, log_key: bytes) -> None:
    """Rule 7: the signature of the last entry; it vouches for every entry that its links reach."""
    verify_signature(run.entries[-1], log_key)


def first_bad_signature(run: Run, log_key: bytes) -> int | None:
    """Verify every signature of a run; the seq of the first that fails, or None. For the background and for islands."""
    for seq, entry in enumerate(run.entries, run.first_seq):
        try:
            verify_signature(entry, log_key)
        except PeerError:
            return seq
    return None
