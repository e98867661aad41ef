"""A counter of a bar or a till in virtual time: the production tap machine, an antenna, and how long each step takes.

What `reader.terminal` and `reader.journal` do with threads and a radio. A wristband may be taken away, or the power may
go, at any moment of a tap: a write that was under way is torn after some byte.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from mesh.core.codec import decode_array, encode
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.limits import INTENT_BYTES_MAX, OPEN_INTENTS_MAX
from mesh.testing.process import Process
from mesh.testing.store import MemoryStore
from mesh.testing.wristband import Wristband
from mesh.views.card_record import key_id
from mesh.views.tap_entry import TAP_ID_BYTES
from reader.card import BLANK_SLOT, seal
from reader.intent import Basket, Intent, OpenIntent, decode_intent
from reader.risk import Device
from reader.tap import Around, handle, start
from reader.tap_events import (
    AbortDurable,
    AbortEntry,
    Arm,
    Cancel,
    CardLost,
    CardRead,
    CommitDurable,
    CommitEntry,
    DropIntent,
    Effect,
    Event,
    Green,
    GreenShown,
    IntentDurable,
    NotServed,
    ReadBack,
    Screen,
    Served,
    Show,
    SlotRead,
    SlotWritten,
    StoreIntent,
    WriteSlot,
)
from reader.venue import VenueViews, present

READ_S: Final = (0.015, 0.040)
WRITE_S: Final = (0.020, 0.060)
READ_BACK_S: Final = (0.008, 0.020)
_ROW_BYTES_MAX: Final = INTENT_BYTES_MAX + 32

Answer: TypeAlias = Cancel | Served | NotServed


@dataclass(slots=True)
class _Write:
    """A write that is on the air."""

    band: Wristband
    slot: int
    data: bytes


class Counter:
    """One terminal of one process. `shown` is told every screen as it is seen."""

    def __init__(self, process: Process, chance: random.Random, shown: Callable[[Screen], None]) -> None:
        self._process = process
        self._clock = process.world.clock
        self._random = chance
        self._shown = shown
        self._venue = VenueViews(process.views, process.name_of)
        self._rows = stored_rows(process.storage.own)
        open_intents = [OpenIntent(intent, committed) for _, committed, intent in sorted(self._rows.values())]
        self.machine, effects = start(open_intents)
        self.on_antenna: Wristband | None = None
        self._activation = 0
        self._writing: _Write | None = None
        self._busy = False
        self._inbox: deque[Event] = deque()
        self._pending: deque[Effect] = deque()
        process.append_genesis(Lane.MONEY)
        self._carry_out(effects)

    # -- Staff and wristbands --------------------------------------------------------------------------------------

    def ring(self, operation: Operation, amount_minor: int) -> bytes:
        """Staff rings up an order; returns the tap id that was minted for it."""
        tap_id = self._random.randbytes(TAP_ID_BYTES)
        self._happens(Arm(Basket(operation, amount_minor, tap_id)))
        return tap_id

    def answer(self, answer: Answer) -> None:
        self._happens(answer)

    def hold(self, band: Wristband) -> None:
        """A wristband is held to the antenna, and read if it stays long enough."""
        self.on_antenna = band
        self._activation += 1
        activation = self._activation
        began_us = self._clock.now_us

        def read() -> None:
            if not self._process.alive or activation != self._activation:
                return
            terms_known = present(self._venue, band.content, band.serial, b"", self.machine.tap_id)
            self._happens(CardRead(terms_known, began_us))

        self._clock.after(self._random.uniform(*READ_S), read)

    def take_away(self) -> None:
        """The wristband is gone; a write that was under way is torn."""
        self._activation += 1
        self.on_antenna = None
        self._tear()

    def power_goes(self) -> None:
        self._activation += 1
        self._tear()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way that a person would wait for."""
        return not self._busy and not self._inbox

    def _tear(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.band.tear(writing.slot, writing.data, self._random.randint(0, len(writing.data)))

    # -- The machine -----------------------------------------------------------------------------------------------

    def _happens(self, event: Event) -> None:
        if not self._process.alive:
            return
        if self._busy:
            self._inbox.append(event)
        else:
            self._carry_out(self._step(event))

    def _step(self, event: Event) -> tuple[Effect, ...]:
        certificate = self._process.enrolled.certificate
        revoked = certificate.serial in self._process.views.trust.revocations
        roles: frozenset[Role] = frozenset() if revoked else certificate.roles
        device = Device(roles, key_id(certificate.log_key))
        around = Around(self._clock.now_us, self._venue.terms(), device, self._venue.name_of)
        before = type(self.machine.phase).__name__
        self.machine, effects = handle(self.machine, event, around)
        self._process.world.trace.note(
            self._clock.now_us, self._process.name, f"{before} {type(event).__name__}", self.machine.tap_id
        )
        return effects

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        self._pending.extend(effects)
        self._busy = True
        self._next()

    def _next(self) -> None:
        """Carry out what is pending, one effect after the other, up to one that takes time."""
        while self._pending:
            if not self._perform(self._pending.popleft()):
                return
        self._busy = False
        if self._inbox:
            self._carry_out(self._step(self._inbox.popleft()))

    def _answered(self, event: Event | None) -> None:
        if not self._process.alive:
            return
        if event is not None:
            self._pending.extend(self._step(event))
        self._next()

    def _perform(self, effect: Effect) -> bool:
        """True if it is done at once; otherwise it goes on in `_answered`."""
        match effect:
            case StoreIntent(draft=draft):
                self._store_intent(draft.sealed_as(seal(draft.record, self._process.enrolled)))
                return False
            case WriteSlot(slot=slot, data=data, erases=erases):
                self._write_slot(slot, [BLANK_SLOT, data] if erases else [data])
                return False
            case ReadBack(slot=slot):
                self._read_back(slot)
                return False
            case CommitEntry(intent=intent):
                order, _, _ = self._rows[intent.tap_id]
                self._rows[intent.tap_id] = (order, True, intent)
                self._process.append(
                    Lane.MONEY,
                    Kind.TAP,
                    intent.tap_body(),
                    also=lambda store: store.put_intent(intent.tap_id, encode([order, True, intent.encode()])),
                    done=lambda run: self._answered(CommitDurable()),
                )
                return False
            case AbortEntry(intent=intent):
                self._rows.pop(intent.tap_id, None)
                self._process.append(
                    Lane.MONEY,
                    Kind.ABORT,
                    intent.abort_body(),
                    also=lambda store: store.drop_intent(intent.tap_id),
                    done=lambda run: self._answered(AbortDurable()),
                )
                return False
            case DropIntent(tap_id=tap_id):
                if self._rows.pop(tap_id, None) is None:
                    return True
                self._process.write_own(lambda store: store.drop_intent(tap_id), lambda: self._answered(None))
                return False
            case Show(screen=screen):
                self._shown(screen)
                if isinstance(screen, Green):
                    self._pending.extend(self._step(GreenShown()))
                return True

    def _store_intent(self, intent: Intent) -> None:
        assert len(self._rows) < OPEN_INTENTS_MAX, "no scenario leaves so many taps open"
        order = max((row[0] for row in self._rows.values()), default=0) + 1
        self._rows[intent.tap_id] = (order, False, intent)
        row = encode([order, False, intent.encode()])
        self._process.write_own(
            lambda store: store.put_intent(intent.tap_id, row), lambda: self._answered(IntentDurable(intent))
        )

    # -- On the air ------------------------------------------------------------------------------------------------

    def _write_slot(self, slot: int, writes: Sequence[bytes]) -> None:
        """Write these, one over the other: zeros first where a torn write left something."""
        band, (data, *more) = self.on_antenna, writes
        if band is None:
            self._clock.after(0, lambda: self._answered(CardLost()))
            return
        band.begin_write()
        writing = self._writing = _Write(band, slot, data)

        def through() -> None:
            if self._writing is writing:
                self._writing = None
                band.write(slot, data)
                if more:
                    self._write_slot(slot, more)
                else:
                    self._answered(SlotWritten())
            elif self._process.alive:
                self._answered(CardLost())

        self._clock.after(self._random.uniform(*WRITE_S), through)

    def _read_back(self, slot: int) -> None:
        activation, band = self._activation, self.on_antenna

        def through() -> None:
            gone = band is None or activation != self._activation
            self._answered(CardLost() if gone or band is None else SlotRead(band.slots[slot]))

        self._clock.after(self._random.uniform(*READ_BACK_S), through)


def stored_rows(own: MemoryStore) -> dict[bytes, tuple[int, bool, Intent]]:
    """The open intents of a device, as its journal stores them: order, committed, intent; by tap id."""
    rows: dict[bytes, tuple[int, bool, Intent]] = {}
    for tap_id, body in own.intents():
        match decode_array(body, bytes_max=_ROW_BYTES_MAX):
            case [int(order), bool(committed), bytes(data)]:
                rows[tap_id] = (order, committed, decode_intent(data))
            case _:
                raise AssertionError("what the journal stored reads back")
    return rows
