"""Adversaries that sign what they should not: the forger and the brancher."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from mesh.core.chain import NONCE_BYTES, Run, encode_genesis
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES, entry_id
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Lane, Operation
from mesh.limits import RUN_ENTRIES_MAX
from mesh.testing.adversaries.crooked import Crooked
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.store import MemoryStore
from mesh.testing.venue import VenueDevice
from mesh.testing.world import World
from mesh.views.card_record import RECORD_BYTES, CardRecord, decode_record, key_id, record_hash
from mesh.views.tap_entry import TAP_ID_BYTES, AbortBody, TapBody, decode_tap
from reader.card import seal

FORGES_EVERY_S: Final = (2.0, 10.0)
BRANCHES_EVERY_S: Final = (1.0, 4.0)
FORKS_AT_ONCE: Final = 4
TRUNK: Final = 8
"""Entries of the log that is branched: room for forks below forks."""
HEAD_IS_NEAR: Final = 2
LOGS_MAX: Final = 12
"""A venue has room for 65,536 logs; filling that up takes a liar hours, and a simulation all its time."""


class Forger(Crooked):
    """Signs sales for wristbands that it has served, as if they had been presented again at its counter.

    It needs nobody's help for that: the sealed record that it wrote is in its own log. The forged tap consumes that
    record, and so does the true one at the next bar: a conflict that names both bars, and holds an honest card.
    """

    kind = Adversary.FORGER

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self._seen: list[TapBody] = []

    def start(self) -> None:
        super().start()
        self.now_and_then(FORGES_EVERY_S, self._forge)

    def append(
        self,
        lane: Lane,
        kind: int,
        body: bytes,
        *,
        also: Callable[[MemoryStore], None] | None = None,
        done: Callable[[Run], None] = lambda run: None,
    ) -> None:
        if kind == Kind.TAP:
            self._seen.append(decode_tap(body))
        super().append(lane, kind, body, also=also, done=done)

    def _forge(self) -> None:
        if not self._seen:
            return
        true = self.tricks.choice(self._seen)
        shown = decode_record(true.written[:RECORD_BYTES])
        if shown.balance == 0:
            return
        amount = self.tricks.randint(1, shown.balance)
        record = CardRecord(
            card=shown.card,
            event=shown.event,
            seq=shown.seq + 1,
            balance=shown.balance - amount,
            offline_spent=shown.offline_spent + amount,
            allowance_seq=shown.allowance_seq,
            period=shown.period,
            reader=key_id(self.enrolled.public_key),
            parent=record_hash(true.written)[:8],
        )
        tap_id = self.tricks.randbytes(TAP_ID_BYTES)
        written = seal(record, self.enrolled)
        body = TapBody(tap_id, Operation.SALE, amount, true.written, written, true.document).encode()
        super().append(Lane.MONEY, Kind.TAP, body, done=lambda run: self.did())


class Brancher(Crooked):
    """Forks its money log at every seq, in as many branches as it can, hands out pieces without a beginning, and opens
    as many logs as it can. Each peer gets others. Its sales go on beside that."""

    kind = Adversary.BRANCHER

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self._logs = 0

    def start(self) -> None:
        super().start()
        self.now_and_then(BRANCHES_EVERY_S, self._branch)

    def _branch(self) -> None:
        links, money = self.live_links(), self.money_head()
        if not links or money is None:
            return
        log_id, head = money
        if head.seq < TRUNK:
            self.append(Lane.MONEY, *self._anything())
            return
        chain = self.storage.own.read_entries(log_id, Segment(0, 0, head.seq))
        is_late = self.world.clock.now > self.venue.scenario.duration_s / 2
        # First near its head, until nobody has room for more branches, and then below all that they know.
        lowest = 1 if is_late else max(1, len(chain) - HEAD_IS_NEAR)
        for _ in range(FORKS_AT_ONCE):
            self._fork(self.tricks.choice(links), log_id, chain[: self.tricks.randint(lowest, len(chain))])
        self._island(self.tricks.choice(links), log_id, head.seq)
        if self._logs < LOGS_MAX:
            self._logs += 1
            self._open_log(self.tricks.choice(links))

    def _fork(self, number: int, log_id: bytes, chain: list[bytes]) -> None:
        """One to three entries of a branch of its own, behind the beginning of the log."""
        before = Position(len(chain) - 1, entry_id(chain[-1]))
        rivals = self.sign_chain(before, log_id, [self._anything() for _ in range(self.tricks.randint(1, 3))])
        self.push(number, log_id, (chain + rivals)[:RUN_ENTRIES_MAX])
        self.did()

    def _island(self, number: int, log_id: bytes, top: int) -> None:
        before = Position(top + self.tricks.randint(1, 1000), self.tricks.randbytes(ID_BYTES))
        self.push(number, log_id, self.sign_chain(before, log_id, [self._anything()]))
        self.did()

    def _open_log(self, number: int) -> None:
        lane = self.tricks.choice(list(Lane))
        genesis = encode_genesis(self.enrolled.certificate.der, self.tricks.randbytes(NONCE_BYTES), lane, [])
        entries = self.sign_chain(None, b"", [(Kind.GENESIS, genesis), self._anything()])
        self.push(number, entry_id(entries[0])[:LOG_ID_BYTES], entries)
        self.did()

    def _anything(self) -> tuple[Kind, bytes]:
        return Kind.ABORT, AbortBody(self.tricks.randbytes(TAP_ID_BYTES), self.tricks.randbytes(ID_BYTES)).encode()
