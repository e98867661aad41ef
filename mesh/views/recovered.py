"""What is left of devices that lost their disks: held, shown by wristbands, missing; each with its amount.

Fed with every entry that is held, in any order; the answer is a pure function of that set. Per device:

* *Held*: its entries came back from peers and couriers. Nothing of them is lost.
* *Shown*: a held tap has the record that it read, under the lost device's Ed25519 seal, and no held entry wrote that
  record. So the write happened. A seal that does not verify, or that is not Ed25519, is *hearsay*: it is
  counted and gives nothing. Records name their writer by 4 bytes only; the seal says which device it was.
* *Together*: several writes of a card lie in one hole (mesh.views.card_gaps) and a record of this device is the last of
  them. The total is exact; who made the others is not known. *Perhaps*: holes that end with another device's record,
  where all writes but the last may have been this device's.
* *Given up*: a shown record that its own device aborted; its amount is to be credited, not missed.
* *Missing entries*: somebody knew of them (a later log of the same device, a receipt, a revocation's cut). Where a
  receipt covers them, so does its sum.
* What nobody knew of, and no wristband has shown since, cannot be listed. A device that cannot raise a balance can have
  sold no more of it than the wristbands held when they were last seen here: that is the only bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import nacl.bindings
import nacl.exceptions

from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import Fields, Genesis, Run
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.core.receipt import Receipt, decode_receipt, verify_receipt
from mesh.errors import PeerError
from mesh.views.card_account import HASH_PREFIX_BYTES
from mesh.views.card_gaps import Gap, KnownRecord, balance_last_seen, gap_below, known_record
from mesh.views.card_record import RECORD_BYTES, SEAL_DOMAIN, SEALED_BYTES, decode_record, record_hash, writer_of
from mesh.views.cards import CardsView
from mesh.views.devices import DevicesView
from mesh.views.tap_entry import decode_abort, decode_taps
from mesh.views.tap_rules import Author, Refusal, author_of, judge_taps


class Place(NamedTuple):
    """Where an entry is."""

    log_id: bytes
    seq: int


class Sum(NamedTuple):
    """Taps of one operation, and their amount in minor units."""

    operation: Operation
    taps: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A hole in a card's chain, closed by a record that a wristband showed to another reader."""

    card: bytes
    gap: Gap
    writer: int
    """Serial number of the device whose seal is on the record that ends the hole."""
    shown_in: Place
    """The tap that holds that record as read; of several the smallest."""
    is_given_up: bool


@dataclass(frozen=True, slots=True)
class Hearsay:
    """A record that claims a lost device as its writer, without a seal that proves it."""

    card: bytes
    shown_in: Place


@dataclass(frozen=True, slots=True)
class LogLeft:
    """What is left of one log of a lost device."""

    log_id: bytes
    serial: int
    lane: Lane | None
    """None where not even its genesis is held."""
    entries: int
    known_entries: int
    """How many there were, as far as anybody said."""
    first_time_ms: int | None
    last_time_ms: int | None
    missing_sales_minor: int | None
    """Sales less voids of the missing entries, where a receipt covers them all; None where nobody says."""

    @property
    def missing(self) -> int:
        return self.known_entries - self.entries


@dataclass(frozen=True, slots=True)
class Recovered:
    """Everything that is known here about what some devices wrote."""

    devices: tuple[DeviceCertificate, ...]
    revoked: frozenset[int]
    """Serials whose keys the venue does not trust any more: a seal may be of whoever has the disk."""
    logs: tuple[LogLeft, ...]
    held: tuple[Sum, ...]
    not_counted: tuple[Sum, ...]
    """Of those held: contested, outside a cut, aborted, or a second entry for money already posted."""
    shown: tuple[Shown, ...]
    together: tuple[Shown, ...]
    perhaps: tuple[Shown, ...]
    given_up: tuple[Shown, ...]
    hearsay: tuple[Hearsay, ...]
    unseen_sales_minor_max: int | None
    """See the module's docstring; None for a device that may raise balances: then nothing bounds it."""


@dataclass(slots=True)
class _Log:
    genesis: Genesis
    author: Author
    spans: list[tuple[int, int]]
    first_time_ms: int | None = None
    last_time_ms: int | None = None


class RecoveredView:
    """The fold. `cards` and `devices` see the same entries, before :meth:`recover` is asked."""

    def __init__(self, cards: CardsView, devices: DevicesView, root: VenueRoot) -> None:
        self._cards = cards
        self._devices = devices
        self._root = root
        self._logs: dict[bytes, _Log] = {}
        self._written: set[bytes] = set()
        self._witnesses: dict[bytes, dict[bytes, Place]] = {}
        """By hash of a record that no held tap wrote: its bytes and seal as they were read, and where."""
        self._aborted: defaultdict[bytes, set[bytes]] = defaultdict(set)
        """By hash of a record: log keys of devices that gave it up."""
        self._receipts: defaultdict[bytes, list[tuple[Receipt, bytes]]] = defaultdict(list)

    # -- Folding ---------------------------------------------------------------------------------------------------

    def open_log(self, log_id: bytes, genesis: Genesis) -> None:
        """Say who writes a log, before anything of it is folded."""
        self._devices.add(genesis.certificate)
        if log_id not in self._logs:
            self._logs[log_id] = _Log(genesis, author_of(genesis.certificate), [])

    def fold(self, run: Run) -> None:
        """Take in a run of an opened log."""
        log = self._logs[run.log_id]
        log.spans.append((run.first_seq, run.last_seq))
        times = [fields[4] for fields in run.fields]
        known = [time for time in (log.first_time_ms, log.last_time_ms) if time is not None]
        log.first_time_ms, log.last_time_ms = min(times + known), max(times + known)
        match log.genesis.lane:
            case Lane.MONEY:
                self._fold_taps(run, log.author)
                for fields in run.fields:
                    if fields[5] == Kind.ABORT:
                        self._fold_abort(fields[6], log.author)
            case Lane.CONTROL:
                for fields in run.fields:
                    if fields[5] == Kind.RECEIPT:
                        self._fold_receipt(fields)
            case Lane.TELEMETRY:
                pass

    def _fold_taps(self, run: Run, author: Author) -> None:
        taps = [fields for fields in run.fields if fields[5] == Kind.TAP]
        decoded = decode_taps([fields[6] for fields in taps])
        for fields, values, found in zip(taps, decoded, judge_taps(decoded, author), strict=True):
            if isinstance(found, Refusal):
                continue
            assert values is not None, "what cannot be read is refused"
            witness, written = values[3], record_hash(values[4])[:HASH_PREFIX_BYTES]
            self._written.add(written)
            self._witnesses.pop(written, None)
            _, consumed = found
            if witness and consumed not in self._written:
                place, places = Place(run.log_id, fields[2]), self._witnesses.setdefault(consumed, {})
                places[witness] = min(place, places.get(witness, place))

    def _fold_abort(self, body: bytes, author: Author) -> None:
        try:
            self._aborted[decode_abort(body).written_hash[:HASH_PREFIX_BYTES]].add(author.log_key)
        except PeerError:
            return

    def _fold_receipt(self, fields: Fields) -> None:
        try:
            receipt = decode_receipt(fields[6])
        except PeerError:
            return
        self._receipts[receipt.log_id].append((receipt, fields[6]))

    # -- Asking ----------------------------------------------------------------------------------------------------

    def recover(self, serials: Collection[int]) -> Recovered:
        """What is known of the devices with these serial numbers."""
        certificates = [c for c in self._devices.all() if c.serial in serials]
        shown, hearsay = self._shown(frozenset(serials))
        own = [one for one in shown if one.writer in serials]
        missed = [one for one in own if not one.is_given_up]
        held, not_counted = self._taps_of(frozenset(serials))
        sells_only = all(Role.TILL not in certificate.roles for certificate in certificates)
        return Recovered(
            devices=tuple(certificates),
            revoked=frozenset(s for s in serials if s in self._cards.trust.revocations),
            logs=tuple(self._logs_left(frozenset(serials))),
            held=held,
            not_counted=not_counted,
            shown=tuple(one for one in missed if one.gap.writes == 1),
            together=tuple(one for one in missed if one.gap.writes > 1),
            perhaps=tuple(one for one in shown if one.writer not in serials and one.gap.writes > 1),
            given_up=tuple(one for one in own if one.is_given_up),
            hearsay=hearsay,
            unseen_sales_minor_max=self._on_wristbands() if certificates and sells_only else None,
        )

    def all_shown(self) -> tuple[Shown, ...]:
        """Every hole of every card that a sealed record closes, whoever wrote that record; by card and seq."""
        return self._shown(frozenset())[0]

    def _sealed(self) -> dict[bytes, tuple[bytes, DeviceCertificate, Place]]:
        """Records that nobody held here wrote and that a device of this venue sealed, by hash."""
        found = {}
        for hashed, places in self._witnesses.items():
            sealed = [(place, data, self._sealer(data)) for data, place in places.items()]
            proven = [(place, data, sealer) for place, data, sealer in sealed if sealer is not None]
            if proven:
                place, data, sealer = min(proven, key=lambda one: (one[0], one[1]))
                found[hashed] = (data, sealer, place)
        return found

    def _sealer(self, sealed: bytes) -> DeviceCertificate | None:
        if len(sealed) != SEALED_BYTES:
            return None
        candidates = self._devices.sealing(writer_of(sealed))
        return next((device for device in candidates if _is_sealed_by(sealed, device.log_key)), None)

    def _shown(self, serials: frozenset[int]) -> tuple[tuple[Shown, ...], tuple[Hearsay, ...]]:
        sealed = self._sealed()
        claimed = {writer_of_device(c) for c in self._devices.all() if c.serial in serials}
        by_card: defaultdict[bytes, list[bytes]] = defaultdict(list)
        hearsay = []
        for hashed, places in self._witnesses.items():
            witness, place = min(places.items(), key=lambda item: item[1])
            card = decode_record(witness[:RECORD_BYTES]).card
            if hashed in sealed:
                by_card[card].append(hashed)
            elif writer_of(witness) in claimed:
                hearsay.append(Hearsay(card, place))
        shown = []
        for card, hashes in by_card.items():
            known = self._known(card, (sealed[hashed][0] for hashed in hashes))
            for hashed in hashes:
                data, sealer, place = sealed[hashed]
                gap = gap_below(known_record(decode_record(data[:RECORD_BYTES])), known)
                given_up = sealer.log_key in self._aborted.get(hashed, ())
                shown.append(Shown(card, gap, sealer.serial, place, given_up))
        ordered = sorted(shown, key=lambda one: (one.card, one.gap.last_seq, one.shown_in))
        return tuple(ordered), tuple(sorted(hearsay, key=lambda one: (one.card, one.shown_in)))

    def _known(self, card: bytes, sealed: Iterable[bytes] = ()) -> list[KnownRecord]:
        """Every record of a card that a held tap wrote, and these."""
        records = [*(written for _, written in self._cards.taps(card)), *(data[:RECORD_BYTES] for data in sealed)]
        return [known_record(decode_record(record)) for record in set(records)]

    def _on_wristbands(self) -> int:
        return sum(balance_last_seen(self._known(card)) for card in self._cards.cards())

    def _taps_of(self, serials: frozenset[int]) -> tuple[tuple[Sum, ...], tuple[Sum, ...]]:
        numbers = {number for number, log_id in self._cards.log_ids().items() if self._serial(log_id) in serials}
        held: defaultdict[int, list[int]] = defaultdict(list)
        not_counted: defaultdict[int, list[int]] = defaultdict(list)
        for card in self._cards.cards():
            facts = {fact for fact, _ in self._cards.taps(card) if fact.log in numbers}
            uncounted = set(self._cards.account(card).uncounted) if facts else set()
            for fact in facts:
                held[fact.operation].append(fact.amount_minor)
                if fact in uncounted:
                    not_counted[fact.operation].append(fact.amount_minor)
        return _sums(held), _sums(not_counted)

    def _serial(self, log_id: bytes) -> int | None:
        log = self._logs.get(log_id)
        return None if log is None else log.genesis.certificate.serial

    # -- Logs ------------------------------------------------------------------------------------------------------

    def _logs_left(self, serials: frozenset[int]) -> list[LogLeft]:
        heads: dict[bytes, tuple[int, int]] = {}
        """By log: whose it is, and the highest seq that anybody named."""
        for serial, log_id, seq in self._named(serials):
            heads[log_id] = (serial, max(seq, heads.get(log_id, (0, -1))[1]))
        return [self._log_left(log_id, serial, seq) for log_id, (serial, seq) in sorted(heads.items())]

    def _named(self, serials: frozenset[int]) -> Iterable[tuple[int, bytes, int]]:
        """(serial, log, seq): this device's log reached at least this seq. No reader is heard about another's log."""
        for log_id, log in self._logs.items():
            serial = log.genesis.certificate.serial
            if serial not in serials:
                continue
            yield serial, log_id, max((last for _, last in log.spans), default=0)
            for head in log.genesis.known_heads:
                if head.log_id not in self._logs or self._logs[head.log_id].author.log_key == log.author.log_key:
                    yield serial, head.log_id, head.seq
            receipt = self._receipt(log_id)
            if receipt is not None:
                yield serial, log_id, receipt.head_seq
        revocations = self._cards.trust.revocations
        for serial in serials:
            for statement in revocations.holding(serial):
                for log_id, place in statement.cut.items():
                    if self._serial(log_id) in (None, serial):
                        yield serial, log_id, place.seq

    def _receipt(self, log_id: bytes) -> Receipt | None:
        """The receipt that covers most of a log, by a settlement service whose key is still trusted."""
        for receipt, data in sorted(self._receipts.get(log_id, ()), key=lambda one: (-one[0].head_seq, one[1])):
            try:
                signer = verify_receipt(data, self._root).signer
            except PeerError:
                continue
            if signer.serial not in self._cards.trust.revocations:
                return receipt
        return None

    def _log_left(self, log_id: bytes, serial: int, known_to: int) -> LogLeft:
        log = self._logs.get(log_id)
        if log is None:
            return LogLeft(log_id, serial, None, 0, known_to + 1, None, None, None)
        entries = _count(log.spans)
        missing_sales = self._missing_sales(log_id, known_to) if entries <= known_to else None
        times = (log.first_time_ms, log.last_time_ms)
        return LogLeft(log_id, serial, log.genesis.lane, entries, known_to + 1, *times, missing_sales)

    def _missing_sales(self, log_id: bytes, known_to: int) -> int | None:
        """A receipt's sum less what is held, where it covers all of a log that never forked."""
        receipt = self._receipt(log_id)
        if receipt is None or receipt.head_seq != known_to or receipt.count != known_to + 1:
            return None
        (number,) = (number for number, known in self._cards.log_ids().items() if known == log_id)
        signs = {Operation.SALE: 1, Operation.VOID: -1}
        facts = {fact for card in self._cards.cards() for fact, _ in self._cards.taps(card) if fact.log == number}
        held = sum(signs.get(Operation(fact.operation), 0) * fact.amount_minor for fact in facts)
        return receipt.sum_minor - held if receipt.sum_minor >= held else None


def writer_of_device(certificate: DeviceCertificate) -> bytes:
    """The 4 bytes by which records name this device."""
    return author_of(certificate).key_id


def _is_sealed_by(sealed: bytes, log_key: bytes) -> bool:
    try:
        nacl.bindings.crypto_sign_open(sealed[RECORD_BYTES:] + SEAL_DOMAIN + sealed[:RECORD_BYTES], log_key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def _sums(amounts: dict[int, list[int]]) -> tuple[Sum, ...]:
    return tuple(Sum(Operation(operation), len(of), sum(of)) for operation, of in sorted(amounts.items()))


def _count(spans: Iterable[tuple[int, int]]) -> int:
    """How many seqs lie in these spans, each counted once."""
    total, end = 0, -1
    for first, last in sorted(spans):
        total += max(0, last - max(first, end + 1) + 1)
        end = max(end, last)
    return total
