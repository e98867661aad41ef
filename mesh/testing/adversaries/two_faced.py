"""The equivocator: a bar that signs two entries at one seq of its money log, and shows each branch to some peers only.

It has two faces, each a whole program with a frontier and stores of its own, so that each says, serves and compares
what belongs to its branch. Every link belongs to one face. Both show the same log up to the fork. What follows is drawn
for each fork: one entry against one entry (equal heights), a branch that stops, or two branches that both go on, one of
them faster. The rival entry either denies the sale (an abort of its tap id) or claims another amount for it.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import Final

from mesh.core.chain import Run, check_run
from mesh.core.events import AppendProof, Effect, Event, OwnAppended
from mesh.core.frontier import Position
from mesh.core.kinds import Kind
from mesh.testing.adversaries.crooked import Crooked, dearer
from mesh.testing.device import Device
from mesh.testing.network import End
from mesh.testing.process import Process
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.store import MemoryStore
from mesh.testing.venue import VenueDevice
from mesh.testing.world import World
from mesh.views.card_record import record_hash
from mesh.views.tap_entry import AbortBody, decode_tap

FORKS_AT: Final = 0.5
STAYS_S: Final = (8.0, 20.0)
"""How long it is in one zone, where it has to walk to the other."""
"""Chance that a sale is the one at which the log forks."""


def places_apart(world: World) -> list[str]:
    """Zones that only people join."""
    return [zone.name for zone in world.scenario.zones if not zone.connected]


def walks(world: World, bar: Device) -> None:
    """Where zones are apart it carries one branch to each: two of one height, which nobody compares but by digest."""
    chance, apart = world.chance(f"walks of {bar.name}"), places_apart(world)
    if len(apart) < 2:
        return

    def walk() -> None:
        if not world.healing:
            bar.walk_to(chance.choice([zone for zone in apart if zone != bar.zone]))
            world.clock.after(chance.uniform(*STAYS_S), walk)

    world.clock.after(chance.uniform(*STAYS_S), walk)


class Manner(Enum):
    """How the two branches go on."""

    EQUAL = auto()
    STOPS = auto()
    FASTER = auto()


class Face(Process):
    """The second face: shows what it is given as its own log, and signs nothing by itself."""

    def give(self, run: Run) -> None:
        """Take a run of the own log that was signed elsewhere, as durable."""

        def write(store: MemoryStore) -> None:
            if run.first_seq == 0:
                store.add_log(run.log_id, run.entries[0])
                store.add_branch(run.log_id, 0, 0, run.prev, parent=None, attached=True)
            store.append_run(run, 0, verified=True)

        self.storage.own.transact(write)
        self.own_logs.add(run.log_id)
        self.post(OwnAppended(run))

    def _carry_out(self, effect: Effect) -> None:
        if not isinstance(effect, AppendProof):
            super()._carry_out(effect)


class Equivocator(Crooked):
    """See the module's docstring. The second face's stores do not outlive the process; its branch is with others."""

    kind = Adversary.EQUIVOCATOR

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        behind = Storage(world.clock, self.tricks, storage.fsync_ms, world.pieces)
        behind.own, behind.replica = storage.own.copy(), storage.replica.copy()
        self.other = Face(world, enrolled, behind, zone, self.tricks)
        self.other.links = self.links
        self._of_other: set[int] = set()
        self._manner = Manner.EQUAL
        self._rival_head: Position | None = None
        """The head of the second face's branch, once the log has forked."""

    def start(self) -> None:
        super().start()
        self.other.name = self.name
        self.other.start()

    def end(self) -> None:
        super().end()
        self.other.end()

    # -- Two branches ----------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        if isinstance(event, OwnAppended) and self.alive:
            money = self.money_head()
            if money is not None and event.run.log_id == money[0]:
                self._show_other(event.run)
        super().post(event)

    def _show_other(self, run: Run) -> None:
        """What the second face shows for what the first has just signed."""
        kind, body = run.fields[-1][5], run.fields[-1][6]
        if self._rival_head is None and kind == Kind.TAP and self.tricks.random() < FORKS_AT:
            self._manner = self.tricks.choice(list(Manner))
            if len(run.entries) > 1:
                self.other.give(check_run(run.log_id, run.entries[:-1]))
            self._rival_head = Position(run.last_seq - 1, run.fields[-1][3])
            self._sign_rivals(run.log_id, [self._rival(body)])
        elif self._rival_head is None:
            self.other.give(run)
        elif self._manner is not Manner.STOPS:
            rival = self._rival(body) if kind == Kind.TAP else (Kind.ABORT, body)
            self._sign_rivals(run.log_id, [rival] * (2 if self._manner is Manner.FASTER else 1))

    def _sign_rivals(self, log_id: bytes, bodies: list[tuple[Kind, bytes]]) -> None:
        entries = self.sign_chain(self._rival_head, log_id, bodies)
        run = check_run(log_id, entries)
        self._rival_head = Position(run.last_seq, run.tip_id)
        self.other.give(run)
        self.did(len(entries))

    def _rival(self, body: bytes) -> tuple[Kind, bytes]:
        """The sale never was, or it was another amount."""
        tap = decode_tap(body)
        rival = dearer(tap, self.enrolled, self.tricks)
        if rival is None or self.tricks.random() < 0.5:
            return Kind.ABORT, AbortBody(tap.tap_id, record_hash(tap.written)).encode()
        return Kind.TAP, rival.encode()

    def _first_is_shown_to(self, end: End) -> bool:
        """Where it walks between zones that no network joins, each zone sees one face; else a face that nobody sees yet
        is shown first, and then it is drawn."""
        apart = places_apart(self.venue)
        if end.peer_zone in apart:
            return apart.index(end.peer_zone) % 2 == 0
        shown = {number not in self._of_other for number in self.links}
        return self.tricks.random() < 0.5 if len(shown) != 1 else False in shown

    # -- Two sets of links -----------------------------------------------------------------------------------------

    def link_up(self, end: End) -> None:
        if self._first_is_shown_to(end):
            super().link_up(end)
        else:
            self._of_other.add(end.number)
            self.other.link_up(end)

    def receive(self, number: int, data: bytes) -> None:
        if number in self._of_other:
            self.other.receive(number, data)
        else:
            super().receive(number, data)

    def ended(self, number: int) -> None:
        if number in self._of_other:
            self.other.ended(number)
        else:
            super().ended(number)

    def leave(self, number: int, reason: str) -> None:
        if number in self._of_other:
            self.other.leave(number, reason)
        else:
            super().leave(number, reason)

    def next_parcel(self, number: int) -> bytes | None:
        return self.other.next_parcel(number) if number in self._of_other else super().next_parcel(number)

    def moved(self, zone: str) -> None:
        super().moved(zone)
        self.other.moved(zone)
