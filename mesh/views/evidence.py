"""A double-spend case: what anyone with the venue's root can check, and nothing else is needed (docs/spec/evidence.md).

::

    case = [1, root certificate, [[genesis, tap], [genesis, tap], ...]]      strict CBOR, ordered by entry id

Each tap is a signed entry on its own; its log's genesis carries the certificate that binds the signing key. A case
holds if every genesis is of this venue and signed, every tap is a signed TAP of that log by a device that may write it,
no two are one device's tap with one id, and all of them consumed one record of one card while writing different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import parse_genesis
from mesh.core.codec import decode_array, encode
from mesh.core.entry import LOG_ID_BYTES, Entry, decode_entry, entry_id, verify_signature
from mesh.core.kinds import Kind
from mesh.errors import PeerError
from mesh.limits import CASE_BYTES_MAX, CASE_TAPS_MAX
from mesh.views.tap_entry import decode_tap
from mesh.views.tap_rules import CountedTap, author_of, read_tap

CASE_VERSION: Final = 1


class NoCase(PeerError):
    """The bytes prove nothing against a card."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """One signed tap of a case, and the device that signed it."""

    genesis: bytes
    """The raw genesis of the log that the tap is in."""
    entry: Entry
    device: DeviceCertificate
    tap: CountedTap


@dataclass(frozen=True, slots=True)
class Case:
    """A card spent more than once from one record, with everything needed to show it."""

    data: bytes
    """The case itself: what is kept, handed on and checked by others."""
    card: bytes
    consumed: bytes
    taps: tuple[Witnessed, ...]


def make_case(root: VenueRoot, evidence: Sequence[tuple[bytes, bytes]]) -> Case:
    """Build and check a case from (genesis, tap) pairs of raw entries; raises a `PeerError` if it does not hold."""
    ordered = sorted(evidence, key=lambda pair: entry_id(pair[1]))
    return check_case(encode([CASE_VERSION, root.der, [[genesis, tap] for genesis, tap in ordered]]), root)


def prove_case(root: VenueRoot, evidence: Sequence[tuple[bytes, bytes]]) -> tuple[Case | None, list[int]]:
    """The case of those taps that were really signed, `None` if they prove nothing; and which, by place, were not.

    The pairs follow every rule of the view; raises a `PeerError` if they do not hold though all of them are signed.
    """
    try:
        return make_case(root, evidence), []
    except PeerError:
        forged = [at for at, pair in enumerate(evidence) if not _is_signed(root, pair)]
        if not forged:
            raise
    signed = [pair for at, pair in enumerate(evidence) if at not in forged]
    return (make_case(root, signed) if len(signed) >= 2 else None), forged


def _is_signed(root: VenueRoot, pair: tuple[bytes, bytes]) -> bool:
    genesis, tap = pair
    try:
        verify_signature(tap, parse_genesis(genesis, root).certificate.log_key)
    except PeerError:
        return False
    return True


def check_case(data: bytes, root: VenueRoot) -> Case:
    """Check a case from the venue root alone, or raise a `PeerError` that says what does not hold."""
    match decode_array(data, bytes_max=CASE_BYTES_MAX):
        case [int(version), bytes(der), list(pairs)] if version is not True and version == CASE_VERSION:
            pass
        case _:
            raise NoCase("a case is [1, root certificate, [[genesis, tap], ...]]")
    if der != root.der:
        raise NoCase("the case is of another venue")
    if not 2 <= len(pairs) <= CASE_TAPS_MAX:
        raise NoCase(f"a case has 2 to {CASE_TAPS_MAX} taps")
    taps = tuple(_witnessed(pair, root) for pair in pairs)
    first = taps[0].tap
    if any(w.tap.card != first.card or w.tap.fact.consumed != first.fact.consumed for w in taps):
        raise NoCase("the taps did not consume one record of one card")
    tap_ids = {(w.tap.fact.author, w.tap.fact.tap_id) for w in taps}
    if len(tap_ids) < len(taps) or len({w.tap.fact.written for w in taps}) < len(taps):
        raise NoCase("two of the taps are one tap")
    ids = [w.entry.id for w in taps]
    if ids != sorted(ids):
        raise NoCase("the taps are not in order of their ids")
    return Case(data, first.card, first.fact.consumed, taps)


def _raw_pair(pair: object) -> tuple[bytes, bytes]:
    match pair:
        case [bytes(genesis), bytes(tap)]:
            return genesis, tap
        case _:
            raise NoCase("each tap of a case is [genesis, tap]")


def _witnessed(pair: object, root: VenueRoot) -> Witnessed:
    genesis, data = _raw_pair(pair)
    author = parse_genesis(genesis, root).certificate
    entry = decode_entry(data)
    if entry.kind != Kind.TAP or entry.log_id != entry_id(genesis)[:LOG_ID_BYTES]:
        raise NoCase("an entry of the case is not a tap of the log whose genesis is given")
    verify_signature(genesis, author.log_key)
    verify_signature(data, author.log_key)
    tap = read_tap(entry.body, author_of(author), entry_id=entry.id, log=0, seq=entry.seq)
    if not isinstance(tap, CountedTap):
        raise NoCase(f"a tap of the case counts for nothing: {tap.value}")
    return Witnessed(genesis, entry, author, tap)


def is_tap(data: bytes, tap_id: bytes) -> bool:
    """Whether a raw entry is the tap with this id; for finding the right one where a log forked."""
    try:
        entry = decode_entry(data)
        return entry.kind == Kind.TAP and decode_tap(entry.body).tap_id == tap_id
    except PeerError:
        return False
