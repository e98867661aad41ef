"""The cards of a venue, folded from every money entry held here: balances, conflicts, holds.

Order-independent: the view of a set of entries is the same whatever order, path or partition brought them. A card's
facts are kept packed, 103 bytes a tap, and evaluated when somebody asks, so that a fold costs a few microseconds and
400,000 taps fit into a small board's memory.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from mesh.core.chain import Fields, Genesis, KnownHead, Run
from mesh.core.kinds import Kind, Operation
from mesh.core.revocation import Statement
from mesh.errors import PeerError
from mesh.views.card_account import HASH_PREFIX_BYTES, Branches, CardAccount, TapFact, settle_card
from mesh.views.card_record import RECORD_BYTES, record_hash, writer_of
from mesh.views.tap_entry import TAP_ID_BYTES, decode_abort, decode_taps
from mesh.views.tap_rules import Author, Refusal, author_of, judge_taps, undoes
from mesh.views.trust import TrustView

_PACKED: Final = struct.Struct(f">16s16s16sIIiB{RECORD_BYTES}s")
"""consumed, tap id, entry id, log, seq, amount, operation, written record. The record is hashed when somebody asks:
hashing it at once would be a tenth of the fold."""
_CONSUMED_AT: Final = 0
_TAP_ID_AT: Final = 16
_LOG_AT: Final = 48
_SEQ_AT: Final = 52
_TAP: Final = int(Kind.TAP)


@dataclass(frozen=True, slots=True)
class TapRef:
    """Where a counted tap is and what it did: enough to show it and to fetch it as evidence."""

    log_id: bytes
    seq: int
    tap_id: bytes
    card: bytes
    operation: Operation
    amount_minor: int
    consumed: bytes
    """First 16 bytes of the hash of the record it read."""
    written: bytes
    """First 16 bytes of the hash of the record it wrote."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two or more signed taps with different tap ids that consumed one record of one card."""

    card: bytes
    consumed: bytes
    taps: tuple[TapRef, ...]
    at_risk_minor: int
    """At most this much was spent by a copy: all branches but the smallest."""


class CardStatus(Enum):
    """What a reader may do with a card, from everything known here."""

    OPEN = "open"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class CardStanding:
    """The answer to: this card shows this record; what is known here that speaks against it?"""

    status: CardStatus
    conflicts: tuple[Conflict, ...]
    """Why it is held."""
    consumed_by: TapRef | None
    """A known tap that already consumed the record shown: the record is old (rollback or copy)."""
    sibling: TapRef | None
    """A known tap that consumed the parent of the record shown but wrote another record (copy)."""
    unvouched: str | None = None
    """The record shown was written by this device, which is revoked, and no entry that counts here says so: unknown."""


@dataclass(slots=True)
class _Log:
    log_id: bytes
    author: Author
    known_heads: tuple[KnownHead, ...]


class _AbortPlace(NamedTuple):
    """Where an abort stands: this view's number of the log, seq, and 16 bytes of the entry's id."""

    log: int
    seq: int
    entry_id: bytes


@dataclass(slots=True)
class Sharing:
    """What the views of many devices in one process have in common (a simulator's): equal facts are one object."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    """Every log has the same number in all of them."""
    known: dict[bytes, bytes] = field(default_factory=dict)
    """The first of all equal byte strings. May be cleared at any time: what is shared stays shared."""
    ordered: dict[bytes, bytes] = field(default_factory=dict)
    """Facts as a digest takes them, by facts as they are held."""

    def one(self, value: bytes) -> bytes:
        return self.known.setdefault(value, value)


class CardsView:
    """The fold. One instance per node; it sees each entry at least once, in any order.

    `trust` says which entries count; it is the caller's where other views ask it too.
    """

    def __init__(self, trust: TrustView | None = None, sharing: Sharing | None = None) -> None:
        self.trust = TrustView() if trust is None else trust
        self._cards: dict[bytes, bytes] = {}
        self._logs: dict[int, _Log] = {}
        self._log_numbers: dict[bytes, int] = {}
        self._sharing = sharing
        self._aborts: dict[bytes, dict[_AbortPlace, None]] = {}
        self._refused: dict[tuple[int, int], Refusal] = {}
        self._collided: set[bytes] = set()
        self._reported: dict[tuple[bytes, bytes], set[bytes]] = {}
        """By card and record consumed: the entries of conflicts that were reported."""

    # -- Folding ---------------------------------------------------------------------------------------------------

    def open_log(self, log_id: bytes, genesis: Genesis) -> None:
        """Say who writes a log, before its first entry is folded."""
        if log_id not in self._log_numbers:
            number = len(self._logs)
            if self._sharing is not None:
                number = self._sharing.numbers.setdefault(log_id, len(self._sharing.numbers))
            self._log_numbers[log_id] = number
            self._logs[number] = _Log(log_id, author_of(genesis.certificate), genesis.known_heads)
            self.trust.open_log(log_id, genesis.certificate.serial)

    def fold(self, run: Run) -> list[bytes]:
        """Take in a run of an opened log; return the cards that have a conflict now that was not there before."""
        number = self._log_numbers[run.log_id]
        touched: list[bytes] = []
        version = self.trust.version
        self.trust.fold(run)
        if all(fields[5] == _TAP for fields in run.fields):
            self._fold_taps(number, run.fields, run.ids, touched)
        else:
            taps = [at for at, fields in enumerate(run.fields) if fields[5] == _TAP]
            self._fold_taps(number, [run.fields[at] for at in taps], [run.ids[at] for at in taps], touched)
            aborts = [at for at, fields in enumerate(run.fields) if fields[5] == Kind.ABORT]
            for at in aborts:
                place = _AbortPlace(number, run.fields[at][2], run.ids[at][:HASH_PREFIX_BYTES])
                self._fold_abort(place, run.fields[at][6])
            if aborts:
                # What an abort undoes may have stood before another entry of the same tap id, which counts now.
                touched += sorted(self._collided)
        if self.trust.version != version:
            # A revoked log reached its cut: entries that were folded long ago may count from now on.
            touched += sorted(self._collided)
        self._collided.update(touched)
        return self._newly_conflicted(touched)

    def _fold_taps(self, number: int, taps: Sequence[Fields], ids: Sequence[bytes], touched: list[bytes]) -> None:
        decoded = decode_taps([fields[6] for fields in taps])
        judged = judge_taps(decoded, self._logs[number].author)
        cards, pack = self._cards, _PACKED.pack
        one = None if self._sharing is None else self._sharing.one
        for fields, identifier, values, found in zip(taps, ids, decoded, judged, strict=True):
            if isinstance(found, Refusal):
                self._refuse(number, fields[2], found)
                continue
            assert values is not None, "what cannot be read is refused as malformed"
            card, consumed = found
            tap_id, operation, amount, _, written, _ = values
            packed = pack(consumed, tap_id, identifier, number, fields[2], amount, operation, written)
            held = cards.get(card)
            if held is None:
                cards[card if one is None else one(card)] = packed if one is None else one(packed)
            elif consumed in held or tap_id in held:
                self._collide(card, held, packed, touched)
            else:
                cards[card] = held + packed if one is None else one(held + packed)

    def _collide(self, card: bytes, held: bytes, packed: bytes, touched: list[bytes]) -> None:
        """Perhaps something else consumed the same record, or has the same tap id, or this very entry came again."""
        if not _stands_at(held, 0, packed):
            self._cards[card] = held + packed
        consumed, tap_id = packed[_CONSUMED_AT:_TAP_ID_AT], packed[_TAP_ID_AT : _TAP_ID_AT + TAP_ID_BYTES]
        if _stands_at(held, _CONSUMED_AT, consumed) or _stands_at(held, _TAP_ID_AT, tap_id):
            touched.append(card)

    def _fold_abort(self, place: _AbortPlace, body: bytes) -> None:
        try:
            abort = decode_abort(body)
        except PeerError:
            self._refuse(place.log, place.seq, Refusal.MALFORMED)
            return
        # A dict: whoever signs one tap id over and over is not to make each fold look through all of them.
        self._aborts.setdefault(abort.tap_id, {})[place] = None

    def _refuse(self, number: int, seq: int, why: Refusal) -> None:
        """Where a fork has two entries at one seq, the same one of two reasons is kept whichever came first."""
        known = self._refused.setdefault((number, seq), why)
        self._refused[number, seq] = min(known, why, key=lambda refusal: refusal.name)

    def _newly_conflicted(self, cards: Iterable[bytes]) -> list[bytes]:
        return [card for card in dict.fromkeys(cards) if self._has_news(card)]

    def _has_news(self, card: bytes) -> bool:
        """Whether a conflict of this card was not reported: one no two of whose taps were in it before.

        So one that a fork, a ruling or an abort has ended does not hide the card's next, and one more tap, or an end
        that was none in the end, makes no second report.
        """
        has_news = False
        for branches in self.account(card).conflicts:
            known = self._reported.setdefault((card, branches.consumed), set())
            taps = {fact.entry_id for fact in branches.facts}
            has_news |= len(taps & known) <= 1
            known |= taps
        return has_news

    def contest(self, log_id: bytes, from_seq: int) -> list[bytes]:
        """Count nothing of a log from `from_seq` on: it forked there, or a signature in it is bad.

        Never raised again. Returns cards that have a conflict now that was not there before: what is no longer counted
        may have stood before another entry of the same tap id.
        """
        self.trust.contest(log_id, from_seq)
        return self.look_again()

    def revoke(self, statement: Statement) -> list[bytes]:
        """The authority ended a device's trust, or moved its cut; same answer as :meth:`contest`."""
        self.trust.revoke(statement)
        return self.look_again()

    def forget_reports(self) -> None:
        """What was reported so far reached nobody: a device was put back together. The next report is of everything."""
        self._reported.clear()

    def look_again(self) -> list[bytes]:
        """What counts has changed: the cards that have a conflict now that was not there before."""
        return self._newly_conflicted(sorted(self._collided))

    # -- Asking ----------------------------------------------------------------------------------------------------

    def cards(self) -> Iterable[bytes]:
        """Every card with at least one well-formed tap."""
        return self._cards.keys()

    def taps(self, card: bytes) -> list[tuple[TapFact, bytes]]:
        """Every well-formed tap of a card that is held, whether or not it counts, and the record that it wrote."""
        return [(_fact(values), values[7]) for values in _PACKED.iter_unpack(self._cards.get(card, b""))]

    def log_ids(self) -> dict[int, bytes]:
        """The logs that were opened, by the numbers that facts name them by."""
        return {number: log.log_id for number, log in self._logs.items()}

    def digest(self) -> bytes:
        """32 bytes over every fact that is held, whether or not it counts: equal for equal sets of entries."""
        digest = hashlib.sha256()
        known = {} if self._sharing is None else self._sharing.ordered
        ids = {number.to_bytes(4, "big"): log.log_id for number, log in self._logs.items()}
        for card in sorted(self._cards):
            held = self._cards[card]
            ordered = known.get(held)
            if ordered is None:
                ordered = known[held] = _ordered(held, ids)
            digest.update(card + len(ordered).to_bytes(4, "big") + ordered)
        return digest.digest()

    def account(self, card: bytes) -> CardAccount:
        """The venue's ledger of one card, from everything held here."""
        facts = [_fact(values) for values in _PACKED.iter_unpack(self._cards.get(card, b""))]
        return settle_card(facts, self._not_counted(facts))

    def conflicts(self, card: bytes) -> tuple[Conflict, ...]:
        """Why a card is held; empty if it is not."""
        return tuple(self._conflict(card, branches) for branches in self.account(card).conflicts)

    def all_conflicts(self) -> list[Conflict]:
        """Every conflict at the venue, by card."""
        return [conflict for card in sorted(self._collided) for conflict in self.conflicts(card)]

    def standing(self, card: bytes, record_hash: bytes, parent: bytes, tap_id: bytes) -> CardStanding:
        """What speaks against a card that shows the record with this hash and parent.

        `tap_id` is the caller's own open intent: what that wrote does not speak against the card.
        """
        account = self.account(card)
        shown = record_hash[:16]
        others = [fact for fact in account.counted if fact.tap_id != tap_id]
        consumed_by = next((fact for fact in others if fact.consumed == shown), None)
        sibling = next((fact for fact in others if fact.consumed[:8] == parent and fact.written != shown), None)
        return CardStanding(
            status=CardStatus.HELD if account.conflicts else CardStatus.OPEN,
            conflicts=tuple(self._conflict(card, branches) for branches in account.conflicts),
            consumed_by=None if consumed_by is None else self._ref(card, consumed_by),
            sibling=None if sibling is None else self._ref(card, sibling),
        )

    def refused(self) -> dict[tuple[bytes, int], Refusal]:
        """Money entries that count for nothing, by log and seq, and why."""
        return {(self._logs[number].log_id, seq): why for (number, seq), why in self._refused.items()}

    def writes(self, card: bytes, record_hash: bytes) -> bool:
        """Whether a tap that counts here wrote the record with this hash: then it is vouched for by the venue."""
        return any(fact.written == record_hash[:HASH_PREFIX_BYTES] for fact in self.account(card).counted)

    def counted(self) -> set[TapFact]:
        """Every tap that counts now, of all cards: to say what a ruling changes."""
        return {fact for card in self._cards for fact in self.account(card).counted}

    def _not_counted(self, facts: Sequence[TapFact]) -> frozenset[bytes]:
        """Facts that are contested, or that their own device aborted later."""
        return frozenset(f.entry_id for f in facts if self._is_contested(f) or self._is_aborted(f))

    def _is_contested(self, place: TapFact | _AbortPlace) -> bool:
        return not self.trust.counts(self._logs[place.log].log_id, place.seq, place.entry_id)

    def _is_aborted(self, fact: TapFact) -> bool:
        log = self._logs[fact.log]
        return any(
            undoes(self._logs[abort.log], abort.seq, log, fact.seq) and not self._is_contested(abort)
            for abort in self._aborts.get(fact.tap_id, ())
        )

    def _conflict(self, card: bytes, branches: Branches) -> Conflict:
        taps = tuple(self._ref(card, fact) for fact in branches.facts)
        return Conflict(card, branches.consumed, taps, branches.at_risk_minor)

    def _ref(self, card: bytes, fact: TapFact) -> TapRef:
        return TapRef(
            self._logs[fact.log].log_id,
            fact.seq,
            fact.tap_id,
            card,
            Operation(fact.operation),
            fact.amount_minor,
            fact.consumed,
            fact.written,
        )


def _fact(packed: tuple[bytes, bytes, bytes, int, int, int, int, bytes]) -> TapFact:
    consumed, tap_id, entry_id, log, seq, amount, operation, written = packed
    written_hash = record_hash(written)[:HASH_PREFIX_BYTES]
    return TapFact(consumed, written_hash, tap_id, entry_id, log, seq, amount, operation, writer_of(written))


def _ordered(held: bytes, log_ids: Mapping[bytes, bytes]) -> bytes:
    """A card's facts once each, in order, with log ids for a view's own numbers."""
    facts = {held[at : at + _PACKED.size] for at in range(0, len(held), _PACKED.size)}
    return b"".join(sorted(f[:_LOG_AT] + log_ids[f[_LOG_AT:_SEQ_AT]] + f[_SEQ_AT:] for f in facts))


def _stands_at(held: bytes, offset: int, value: bytes) -> bool:
    """Whether some packed fact has `value` at `offset`."""
    at = held.find(value)
    while at >= 0:
        if at % _PACKED.size == offset:
            return True
        at = held.find(value, at + 1)
    return False
