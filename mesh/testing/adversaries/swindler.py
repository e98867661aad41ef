"""The swindler: a bar that signs whatever might bring money, or somebody else into trouble, and counts for nothing.

All of it is well-formed, properly chained and signed by its own key, so everybody takes it in and keeps it; that none
of it counts is what :mod:`mesh.testing.audit` looks at, entry by entry.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mesh.core.chain import NONCE_BYTES, KnownHead, encode_genesis, parse_genesis
from mesh.core.codec import encode
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES, SIGNATURE_BYTES, decode_entry, encode_payload, entry_id
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Lane, Operation
from mesh.core.revocation import sign_statement
from mesh.limits import ENTRY_BODY_BYTES_MAX
from mesh.testing.adversaries.crooked import Crooked
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.venue import VenueDevice
from mesh.testing.world import World
from mesh.views.card_record import RECORD_BYTES, CardRecord, decode_record, key_id, record_hash
from mesh.views.tap_entry import TAP_ID_BYTES, AbortBody, TapBody, decode_tap
from reader.card import seal

SWINDLES_EVERY_S: Final = (2.0, 6.0)
AMOUNT_MAX: Final = 2_000
LATER_S: Final = (5.0, 25.0)
FAR: Final = 500
"""How far behind what is known a piece of a log lies that hangs on nothing."""


class Swindler(Crooked):
    """See the module's docstring. Records to start from are in everybody's logs, its own replica among them."""

    kind = Adversary.SWINDLER

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self._swindles: tuple[Callable[[TapBody], None], ...] = (
            self._top_up,
            self._wrong_balance,
            self._one_id_for_two_writes,
            self._one_write_under_two_ids,
            self._another_encoding,
            self._anothers_abort,
            self._false_fork_proof,
            self._false_revocation,
            self._bad_signature_below_a_good_one,
            self._bad_signature_on_an_island,
            self._second_branch_later,
        )

    def start(self) -> None:
        super().start()
        self.now_and_then(SWINDLES_EVERY_S, self._swindle)

    def _swindle(self) -> None:
        tap = self._some_tap()
        if tap is not None:
            self.tricks.choice(self._swindles)(tap)
            self.did()

    def _some_tap(self) -> TapBody | None:
        """Somebody's sale or top-up, as it is in the logs; None until there is one."""
        logs = [log for log in self.storage.replica.logs() if 0 in {branch.number for branch in log.branches}]
        self.tricks.shuffle(logs)
        for log in logs:
            head = next(branch.head for branch in log.branches if branch.number == 0)
            entries = self.storage.replica.read_entries(log.log_id, Segment(0, 0, head.seq))
            taps = [entry.body for entry in map(decode_entry, entries) if entry.kind == Kind.TAP]
            if taps:
                return decode_tap(self.tricks.choice(taps))
        return None

    def _some_log(self) -> list[bytes]:
        """A log of an honest device from its beginning, with two entries at least; empty if there is none."""
        liars = {device.certificate.serial for device in self.venue.devices.values() if not device.is_honest}
        logs = [
            log
            for log in self.storage.replica.logs()
            if len(log.branches) == 1
            and log.branches[0].from_seq == 0
            and log.branches[0].head.seq
            and parse_genesis(log.genesis, self.root).certificate.serial not in liars
        ]
        if not logs:
            return []
        log = self.tricks.choice(sorted(logs, key=lambda log: log.log_id))
        return self.storage.replica.read_entries(log.log_id, Segment(0, 0, log.branches[0].head.seq))

    # -- Taps ------------------------------------------------------------------------------------------------------

    def _tap(self, before: TapBody, operation: Operation, amount: int, balance: int) -> TapBody:
        """A tap that consumes what another one wrote, and leaves this balance on the wristband."""
        shown = decode_record(before.written[:RECORD_BYTES])
        record = CardRecord(
            card=shown.card,
            event=shown.event,
            seq=shown.seq + 1,
            balance=balance,
            offline_spent=shown.offline_spent,
            allowance_seq=shown.allowance_seq,
            period=shown.period,
            reader=key_id(self.enrolled.public_key),
            parent=record_hash(before.written)[:8],
        )
        tap_id = self.tricks.randbytes(TAP_ID_BYTES)
        return TapBody(tap_id, operation, amount, before.written, seal(record, self.enrolled), before.document)

    def _sale(self, before: TapBody) -> TapBody:
        left = decode_record(before.written[:RECORD_BYTES]).balance
        amount = self.tricks.randint(0, min(left, AMOUNT_MAX))
        return self._tap(before, Operation.SALE, amount, left - amount)

    def _sign_taps(self, *taps: TapBody) -> None:
        for tap in taps:
            self.append(Lane.MONEY, Kind.TAP, tap.encode())

    def _top_up(self, before: TapBody) -> None:
        """A bar raises a balance."""
        amount = self.tricks.randint(1, AMOUNT_MAX)
        left = decode_record(before.written[:RECORD_BYTES]).balance
        self._sign_taps(self._tap(before, Operation.TOP_UP, amount, left + amount))

    def _wrong_balance(self, before: TapBody) -> None:
        """A sale that takes less from the wristband than it takes from the account."""
        left = decode_record(before.written[:RECORD_BYTES]).balance
        self._sign_taps(self._tap(before, Operation.SALE, self.tricks.randint(1, AMOUNT_MAX), left))

    def _one_id_for_two_writes(self, before: TapBody) -> None:
        one, other = self._sale(before), self._sale(before)
        self._sign_taps(one, replace(other, tap_id=one.tap_id))

    def _one_write_under_two_ids(self, before: TapBody) -> None:
        one = self._sale(before)
        self._sign_taps(one, replace(one, tap_id=self.tricks.randbytes(TAP_ID_BYTES)))

    def _another_encoding(self, before: TapBody) -> None:
        """The operation in two bytes where one will do: the same tap, in an entry with another id."""
        body = self._sale(before).encode()
        at = 1 + 1 + TAP_ID_BYTES
        self.append(Lane.MONEY, Kind.TAP, body[:at] + b"\x18" + body[at:])

    def _anothers_abort(self, before: TapBody) -> None:
        """What another bar sold never was, says a log that claims to go on where the bar's own stood."""
        chain = self._some_log()
        taps = [entry.body for entry in map(decode_entry, chain) if entry.kind == Kind.TAP]
        if not taps:
            return
        tap = decode_tap(self.tricks.choice(taps))
        claims = [KnownHead(entry_id(chain[0])[:LOG_ID_BYTES], len(chain) - 1, entry_id(chain[-1]))]
        nonce = self.tricks.randbytes(NONCE_BYTES)
        genesis = encode_genesis(self.enrolled.certificate.der, nonce, Lane.MONEY, claims)
        abort = AbortBody(tap.tap_id, record_hash(tap.written)).encode()
        self._push_log(self.sign_chain(None, b"", [(Kind.GENESIS, genesis), (Kind.ABORT, abort)]))

    # -- Accusations -----------------------------------------------------------------------------------------------

    def _false_fork_proof(self, before: TapBody) -> None:
        """Two entries at one seq of somebody's log, of which that device has signed one, or none."""
        chain = self._some_log()
        if not chain:
            return
        true = decode_entry(self.tricks.choice(chain[1:]))
        made_up = encode_payload(
            log_id=true.log_id, seq=true.seq, prev=true.prev, time_ms=true.time_ms + 1, kind=true.kind, body=true.body
        )
        pair = sorted((true.data, made_up + self.tricks.randbytes(SIGNATURE_BYTES)), key=entry_id)
        body = encode([chain[0], *pair])
        if len(body) <= ENTRY_BODY_BYTES_MAX:
            self.append(Lane.CONTROL, Kind.FORK_PROOF, body)

    def _false_revocation(self, before: TapBody) -> None:
        """The authority's word, signed by a bar."""
        chain = self._some_log()
        if chain:
            serial = parse_genesis(chain[0], self.root).certificate.serial
            statement = sign_statement(self.enrolled.sign_anything, serial=serial, number=1, cut={})
            self.append(Lane.CONTROL, Kind.REVOCATION, statement)

    # -- Signatures ------------------------------------------------------------------------------------------------

    def _chain_with_a_bad_signature(self, before: TapBody, at: Position | None, log_id: bytes) -> list[bytes]:
        """A tap that nobody signed, and an entry behind it that the author did sign."""
        nonce = self.tricks.randbytes(NONCE_BYTES)
        genesis = encode_genesis(self.enrolled.certificate.der, nonce, Lane.MONEY, [])
        entries = self.sign_chain(at, log_id, [] if at is not None else [(Kind.GENESIS, genesis)])
        if entries:
            at, log_id = Position(0, entry_id(entries[0])), entry_id(entries[0])[:LOG_ID_BYTES]
        (tap,) = self.sign_chain(at, log_id, [(Kind.TAP, self._sale(before).encode())])
        tap = tap[:-SIGNATURE_BYTES] + self.tricks.randbytes(SIGNATURE_BYTES)
        seq = decode_entry(tap).seq
        return [*entries, tap, *self.sign_chain(Position(seq, entry_id(tap)), log_id, [self._nothing()])]

    def _bad_signature_below_a_good_one(self, before: TapBody) -> None:
        self._push_log(self._chain_with_a_bad_signature(before, None, b""))

    def _second_branch_later(self, before: TapBody) -> None:
        """Two branches of one height: everybody has long settled the first when the second comes."""
        genesis = encode_genesis(self.enrolled.certificate.der, self.tricks.randbytes(NONCE_BYTES), Lane.MONEY, [])
        beginning = self.sign_chain(None, b"", [(Kind.GENESIS, genesis)])
        at, log_id = Position(0, entry_id(beginning[0])), entry_id(beginning[0])[:LOG_ID_BYTES]
        one, other = (self.sign_chain(at, log_id, [self._nothing()]) for _ in range(2))
        self._push_log(beginning + one)
        self.world.clock.after(self.tricks.uniform(*LATER_S), lambda: self._push_log(beginning + other))

    def _nothing(self) -> tuple[Kind, bytes]:
        return Kind.ABORT, AbortBody(self.tricks.randbytes(TAP_ID_BYTES), self.tricks.randbytes(ID_BYTES)).encode()

    def _push_log(self, entries: list[bytes]) -> None:
        for number in self.live_links():
            self.push(number, entry_id(entries[0])[:LOG_ID_BYTES], entries)

    def _bad_signature_on_an_island(self, before: TapBody) -> None:
        """The same in a piece of the own log that hangs on nothing."""
        money = self.money_head()
        if money is None:
            return
        log_id, head = money
        nowhere = Position(head.seq + FAR + self.tricks.randint(0, FAR), self.tricks.randbytes(ID_BYTES))
        entries = self._chain_with_a_bad_signature(before, nowhere, log_id)
        for number in self.live_links():
            self.push(number, log_id, entries)
