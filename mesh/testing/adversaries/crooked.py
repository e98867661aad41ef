"""What all crooked programs have in common: the honest one, and what they do besides.

An adversary is an enrolled device with a valid certificate and its own keys. It runs the production core like
everybody else, so that it is believed; what it lies about is in its own file, and goes over the same links in the same
messages. New entries end with the safety phase, as sales do; lies on the wire go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from mesh.core.chain import encode_run
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id, sign_entry
from mesh.core.events import AppendProof, Effect
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Operation
from mesh.core.messages import RunMessage, encode_message
from mesh.testing.process import Process
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.venue import VenueDevice
from mesh.testing.world import World
from mesh.views.card_record import RECORD_BYTES, decode_record
from mesh.views.tap_entry import TapBody
from reader.card import seal


def dearer(tap: TapBody, device: VenueDevice, chance: random.Random) -> TapBody | None:
    """The same sale for more money, sealed anew; None where there is nothing more to take."""
    record = decode_record(tap.written[:RECORD_BYTES])
    if tap.operation is not Operation.SALE or not record.balance:
        return None
    more = chance.randint(1, record.balance)
    record = replace(record, balance=record.balance - more, offline_spent=record.offline_spent + more)
    return replace(tap, amount_minor=tap.amount_minor + more, written=seal(record, device))


class Crooked(Process):
    """One running program of an adversary. `tricks` is its own source of chance."""

    kind: ClassVar[Adversary]

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self.venue = world
        self.tricks = world.chance(f"adversary {self.name} {world.clock.now_us}")

    def did(self, count: int = 1) -> None:
        """It has really done its bad thing, so often."""
        self.venue.fired[self.kind.value] += count

    def now_and_then(self, pause_s: tuple[float, float], work: Callable[[], None]) -> None:
        """Do something again and again until the process ends or the venue is healed."""

        def again() -> None:
            if self.alive and not self.venue.healing:
                work()
                self.now_and_then(pause_s, work)

        self.world.clock.after(self.tricks.uniform(*pause_s), again)

    def money_head(self) -> tuple[bytes, Position] | None:
        """The log that this process writes its sales to, and where it stands; None before its genesis."""
        open_log = self._lanes.get(Lane.MONEY)
        return None if open_log is None else (open_log.log_id, open_log.head)

    def sign_freely(self, log_id: bytes, seq: int, prev: bytes, kind: int, body: bytes) -> bytes:
        """An entry at any seq, however often: the bare key remembers nothing."""
        return sign_entry(
            self.enrolled.sign_anything,
            log_id=log_id,
            seq=seq,
            prev=prev,
            time_ms=self.wall_ms(),
            kind=int(kind),
            body=body,
        )

    def sign_chain(self, before: Position | None, log_id: bytes, bodies: list[tuple[Kind, bytes]]) -> list[bytes]:
        """Entries of these kinds and bodies behind `before`, or a whole log where that is None."""
        entries: list[bytes] = []
        seq, prev = (0, NO_PREV) if before is None else (before.seq + 1, before.id)
        for kind, body in bodies:
            entries.append(self.sign_freely(log_id if seq else b"", seq, prev, kind, body))
            seq, prev = seq + 1, entry_id(entries[-1])
            log_id = log_id or prev[:LOG_ID_BYTES]
        return entries

    def push(self, number: int, log_id: bytes, entries: list[bytes]) -> None:
        """Send a run that nobody asked for: its author may."""
        self._send(number, encode_message(RunMessage(log_id, len(entries), encode_run(entries))))

    def live_links(self) -> list[int]:
        return sorted(self.node.links.keys() & self.links.keys())

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, AppendProof):
            return  # nobody signs proof against himself, and it leaves that against others to others
        super()._carry_out(effect)
