"""A venue in memory: its authority, its devices, signed logs, and wristbands whose records are really sealed.

The same names give the same keys, entries and ids in every run::

    venue = Venue()
    till, bar = venue.device("till", Role.TILL), venue.device("bar A", Role.READER)
    till_log, bar_log = LogWriter(till), LogWriter(bar)
    band = Wristband(venue, 1)
    band.issue(till_log, 2000)
    clone = band.clone()
    band.sell(bar_log, 650)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from typing import Final

from mesh.core.chain import KnownHead, encode_genesis, encode_run
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id, sign_entry
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Operation
from mesh.core.signing import Domain
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from mesh.testing import venue as issued
from mesh.testing.venue import VenueDevice, seed_of
from mesh.views.card_record import (
    NO_PARENT,
    RECORD_BYTES,
    CardRecord,
    decode_record,
    key_id,
    record_hash,
)
from mesh.views.tap_entry import AbortBody, TapBody

__all__ = ["LogWriter", "Venue", "VenueDevice", "Wristband"]

NOON_MS: Final = 1_780_000_000_000
NO_DOCUMENT: Final = hashlib.sha256(b"").digest()
_LOWERING: Final = frozenset({Operation.SALE, Operation.PAYOUT})


class Venue(issued.Venue):
    """An authority and what it issued, for logs that tests write by hand."""

    def revocation(self, device: VenueDevice, *cut: tuple[LogWriter, int], number: int = 1) -> bytes:
        """The authority's statement about a device: what of these logs counts, each up to the entry at a seq."""
        places = {log.log_id: Position(seq, log.ids[seq]) for log, seq in cut}
        return self.revoke(device, places, number=number)


class LogWriter:
    """One log of one device, held in memory. `entries` and `ids` begin with the genesis."""

    def __init__(
        self,
        device: VenueDevice,
        lane: Lane = Lane.MONEY,
        *,
        number: int = 0,
        known: Sequence[LogWriter] = (),
    ) -> None:
        """Open log `number` of `device` in `lane`; its genesis names the heads of the logs in `known`."""
        self.device = device
        self.time_ms = NOON_MS
        heads = [KnownHead(log.log_id, log.head_seq, log.head_id) for log in known]
        nonce = seed_of(device.certificate.serial, lane, number)[:16]
        body = encode_genesis(device.certificate.der, nonce, lane, heads)
        self.log_id: bytes = b""
        self.entries: list[bytes] = []
        self.ids: list[bytes] = []
        genesis = self.append(Kind.GENESIS, body)
        self.log_id = entry_id(genesis)[:LOG_ID_BYTES]

    @property
    def head_seq(self) -> int:
        return len(self.entries) - 1

    @property
    def head_id(self) -> bytes:
        return self.ids[-1]

    def append(self, kind: int, body: bytes) -> bytes:
        """Sign the next entry and return its bytes; the log's clock moves on by one second."""
        entry = sign_entry(
            self.device.sign_anything,
            log_id=self.log_id,
            seq=len(self.entries),
            prev=self.ids[-1] if self.ids else NO_PREV,
            time_ms=self.time_ms,
            kind=int(kind),
            body=body,
        )
        self.entries.append(entry)
        self.ids.append(entry_id(entry))
        self.time_ms += 1000
        return entry

    def append_forged(self, kind: int, body: bytes) -> bytes:
        """Append an entry whose signature does not verify; whoever signs after it vouches for it all the same."""
        entry = self.append(kind, body)
        self.entries[-1] = entry[:-1] + bytes([entry[-1] ^ 1])
        self.ids[-1] = entry_id(self.entries[-1])
        return self.entries[-1]

    def abort(self, tap_id: bytes, written: bytes) -> bytes:
        """Give up the intent that would have written this sealed record."""
        return self.append(Kind.ABORT, AbortBody(tap_id, record_hash(written)).encode())

    def fork(self, length: int | None = None) -> LogWriter:
        """A copy of this log's first `length` entries whose owner can sign another continuation."""
        other = copy(self)
        other.entries, other.ids = self.entries[:length], self.ids[:length]
        return other

    def runs(self, first_seq: int = 0, *, entries_max: int = RUN_ENTRIES_MAX) -> list[tuple[bytes, int, bytes]]:
        """Everything from `first_seq` on as (log id, count, blob), each within the bounds of a run."""
        runs: list[tuple[bytes, int, bytes]] = []
        piece: list[bytes] = []
        for entry in self.entries[first_seq:]:
            if piece and (len(piece) == entries_max or len(encode_run([*piece, entry])) > RUN_BYTES_MAX):
                runs.append((self.log_id, len(piece), encode_run(piece)))
                piece = []
            piece.append(entry)
        if piece:
            runs.append((self.log_id, len(piece), encode_run(piece)))
        return runs


class Wristband:
    """A card as an attendee wears it: its one sealed record, and nothing that stops anybody from copying it."""

    def __init__(self, venue: issued.Venue, number: int) -> None:
        self.card = seed_of(venue.name, "card", number)[:8]
        self.event = venue.root.venue_id[:4]
        self.sealed = b""
        self._copies = 0

    @property
    def record(self) -> CardRecord | None:
        return decode_record(self.sealed[:RECORD_BYTES]) if self.sealed else None

    @property
    def balance(self) -> int:
        return 0 if self.record is None else self.record.balance

    def clone(self) -> Wristband:
        """A second chip with the same content."""
        self._copies += 1
        other = copy(self)
        other._copies = self._copies * 1000
        return other

    def issue(self, log: LogWriter, amount_minor: int = 0) -> TapBody:
        return self.tap(log, Operation.ISSUE, amount_minor)

    def top_up(self, log: LogWriter, amount_minor: int) -> TapBody:
        return self.tap(log, Operation.TOP_UP, amount_minor)

    def sell(self, log: LogWriter, amount_minor: int) -> TapBody:
        return self.tap(log, Operation.SALE, amount_minor)

    def tap(self, log: LogWriter, operation: Operation, amount_minor: int, *, tap_id: bytes | None = None) -> TapBody:
        """Write the card's next record, commit the tap to `log`, and return what was signed.

        Nothing is checked: a bar may sell more than the card holds, so that tests can tell lies as well.
        """
        body = self.propose(log.device, operation, amount_minor, tap_id=tap_id)
        log.append(Kind.TAP, body.encode())
        self.sealed = body.written
        return body

    def propose(
        self, device: VenueDevice, operation: Operation, amount_minor: int, *, tap_id: bytes | None = None
    ) -> TapBody:
        """What a tap would sign; neither card nor log is changed (an intent)."""
        before = self.record
        sealed = seal(device, self._next(before, device, operation, amount_minor))
        if tap_id is None:
            tap_id = seed_of("tap", device.certificate.serial, self._copies, sealed.hex())[:16]
        return TapBody(tap_id, operation, amount_minor, self.sealed, sealed, NO_DOCUMENT)

    def _next(
        self, before: CardRecord | None, device: VenueDevice, operation: Operation, amount_minor: int
    ) -> CardRecord:
        balance, spent, seq = (0, 0, 0) if before is None else (before.balance, before.offline_spent, before.seq)
        if operation in _LOWERING:
            balance = max(0, balance - amount_minor)
            spent += amount_minor
        else:
            balance += amount_minor
        return CardRecord(
            card=self.card,
            event=self.event,
            seq=seq + 1,
            balance=balance,
            offline_spent=spent,
            allowance_seq=0,
            period=0,
            reader=key_id(device.public_key),
            parent=record_hash(self.sealed)[:8] if self.sealed else NO_PARENT,
        )


def seal(device: VenueDevice, record: CardRecord) -> bytes:
    """The 106 bytes that go onto an ISO-DEP chip."""
    data = record.encode()
    return data + device.sign(Domain.CARD, data)
