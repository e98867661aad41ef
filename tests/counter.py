"""A bar's counter without hardware: the real tap machine, card rules and cards view, over chips and a store in memory.

::

    world = World()
    bar, chip = world.counter("bar A"), world.chip(balance=2000)
    bar.sale(650)
    bar.hold(chip)                      # a whole tap
    bar.hold(chip, torn_after=50)       # pulled away after 50 bytes of the write
    bar.hold(chip, killed_before=CommitEntry)  # the power goes before that effect is carried out
    bar.restart()
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field

from mesh.core.chain import check_run, parse_genesis
from mesh.core.currency import Currency
from mesh.core.kinds import Kind, Operation, Role
from mesh.views.card_record import NO_PARENT, SEALED_BYTES, key_id, record_hash
from mesh.views.cards import CardStanding, CardsView
from reader.card import BLANK_HASH, BLANK_SLOT, Blank, CardView, Shown, read_card, seal
from reader.intent import Basket, Intent, IntentDraft, OpenIntent
from reader.ports import VenueTerms
from reader.risk import Device, Presented
from reader.tap import Around, Machine, handle, start
from reader.tap_events import (
    AbortDurable,
    AbortEntry,
    Amber,
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
    Notice,
    NotServed,
    ReadBack,
    Red,
    Screen,
    Served,
    Show,
    SlotRead,
    SlotWritten,
    StoreIntent,
    WriteSlot,
)
from tests.factory import LogWriter, Venue, VenueDevice

EUR = Currency("EUR", 2)
CAP_MINOR = 5000


class PowerCut(Exception):
    """The process is gone: what was durable is left."""


@dataclass
class Chip:
    """A wristband on the table: two slots, and what anybody may do to them."""

    card: bytes
    slots: list[bytes] = field(default_factory=lambda: [BLANK_SLOT, BLANK_SLOT])
    erased: int = 0
    """How often a slot was erased before it was written."""

    def clone(self) -> Chip:
        return deepcopy(self)

    def write(self, slot: int, data: bytes, torn_after: int | None = None, *, erases: bool = False) -> None:
        """Program a slot, over zeros if it is erased first; torn after so many bytes, those of the erasing included."""
        self.erased += erases
        left = 2 * SEALED_BYTES if torn_after is None else torn_after
        for programmed in (BLANK_SLOT, data) if erases else (data,):
            count = min(left, SEALED_BYTES)
            self.slots[slot] = programmed[:count] + self.slots[slot][count:]
            left -= count


class World:
    """One venue: its devices, one shared cards view (a mesh that is never partitioned), and its wristbands."""

    def __init__(self) -> None:
        self.venue = Venue()
        self.event = self.venue.root.venue_id[:4]
        self.terms: VenueTerms | None = VenueTerms(self.event, bytes(16), EUR, CAP_MINOR, bytes(32))
        self.view = CardsView()
        self.keys: dict[bytes, list[bytes]] = {}
        self.names: dict[bytes, str] = {}
        self.bank = self.device("bank", Role.READER, Role.TILL)
        self._bank_log = LogWriter(self.bank)
        self.fold(self._bank_log, 0)
        self._chips = 0
        self.tap_ids = 0

    def device(self, name: str, *roles: Role) -> VenueDevice:
        device = self.venue.device(name, *roles)
        self.keys.setdefault(key_id(device.public_key), []).append(device.public_key)
        return device

    def keys_by_id(self, key: bytes) -> list[bytes]:
        return self.keys.get(key, [])

    def chip(self, balance: int = 2000) -> Chip:
        """A wristband with a balance put on it by the bank, in the open; blank if that is nothing."""
        self._chips += 1
        chip = Chip(self._chips.to_bytes(8, "big"))
        if balance:
            till = Counter(self, self.bank, self._bank_log)
            till.ring(Operation.TOP_UP, balance)
            till.hold(chip)
        return chip

    def counter(self, name: str, *roles: Role, view: CardsView | None = None) -> Counter:
        device = self.device(name, *(roles or (Role.READER, Role.TILL)))
        log = LogWriter(device)
        self.names[log.log_id] = name
        counter = Counter(self, device, log, view or self.view)
        counter.fold(0)
        return counter

    def fold(self, log: LogWriter, first: int, view: CardsView | None = None) -> None:
        view = view or self.view
        run = check_run(log.log_id, log.entries[first:])
        if first == 0:
            view.open_log(log.log_id, parse_genesis(log.entries[0], self.venue.root))
        view.fold(run)

    def conflicts(self) -> int:
        return len(self.view.all_conflicts())


class Counter:
    """One reader of the world. `screens` is all it ever showed; `edges` all transitions it ever made."""

    def __init__(self, world: World, device: VenueDevice, log: LogWriter, view: CardsView | None = None) -> None:
        self.world, self.signer, self.log = world, device, log
        self.view = view or world.view
        self.device = Device(device.certificate.roles, key_id(device.public_key))
        self.stored: dict[bytes, OpenIntent] = {}
        self.screens: list[Screen] = []
        self.edges: set[tuple[type, type, type]] = set()
        self.taps: list[bytes] = []
        self.aborts: list[bytes] = []
        self.machine: Machine
        self.restart()

    # -- What people do --------------------------------------------------------------------------------------------

    def restart(self) -> list[Screen]:
        self.machine, effects = start(list(self.stored.values()))
        return self._all(deque(effects))

    def ring(self, operation: Operation, amount_minor: int) -> bytes:
        self.world.tap_ids += 1
        tap_id = self.world.tap_ids.to_bytes(16, "big")
        self.happens(Arm(Basket(operation, amount_minor, tap_id)))
        return tap_id

    def sale(self, amount_minor: int) -> bytes:
        return self.ring(Operation.SALE, amount_minor)

    def cancel(self) -> list[Screen]:
        return self.happens(Cancel())

    def served(self) -> list[Screen]:
        return self.happens(Served())

    def not_served(self) -> list[Screen]:
        return self.happens(NotServed())

    def hold(
        self,
        chip: Chip,
        *,
        torn_after: int | None = None,
        away_after_write: bool = False,
        misread: bool = False,
        killed_before: type[Effect] | None = None,
    ) -> list[Screen]:
        """Present a wristband, with what may go wrong; a kill leaves the counter to be restarted."""
        trouble = _Trouble(chip, torn_after, away_after_write, misread, killed_before)
        return self.happens(self.card_read(chip), trouble)

    # -- The events themselves, for tests that put them in any order -----------------------------------------------

    def card_read(self, chip: Chip) -> CardRead:
        return CardRead(self.presented(chip), began_us=0)

    def basket(self, amount_minor: int, number: int) -> Basket:
        return Basket(Operation.SALE, amount_minor, number.to_bytes(16, "big"))

    def intent_durable(self, draft: IntentDraft) -> IntentDurable:
        return IntentDurable(draft.sealed_as(seal(draft.record, self.signer)))

    def around(self) -> Around:
        return Around(1000, self.world.terms, self.device, lambda log_id: self.world.names.get(log_id, "the bank"))

    def presented(self, chip: Chip) -> Presented:
        view = read_card((chip.slots[0], chip.slots[1]), self.world.keys_by_id)
        return Presented(chip.card, view, self._standing(chip.card, view))

    def _standing(self, card: bytes, view: CardView) -> CardStanding | None:
        match view:
            case Shown(record=record):
                asked = record_hash(record.encode()), record.parent
            case Blank():
                asked = BLANK_HASH, NO_PARENT
            case _:
                return None
        return self.view.standing(card, *asked, self.machine.tap_id)

    # -- Carrying effects out --------------------------------------------------------------------------------------

    def happens(self, event: Event, trouble: _Trouble | None = None) -> list[Screen]:
        """One event and all that follows; returns what was shown. A kill ends it early."""
        return self._all(deque(self.step(event)), trouble)

    def step(self, event: Event) -> tuple[Effect, ...]:
        before = type(self.machine.phase)
        self.machine, effects = handle(self.machine, event, self.around())
        self.edges.add((before, type(event), type(self.machine.phase)))
        return effects

    def _all(self, pending: deque[Effect], trouble: _Trouble | None = None) -> list[Screen]:
        shown = len(self.screens)
        while pending:
            effect = pending.popleft()
            if trouble is not None and trouble.killed_before is type(effect):
                break
            answer = self._perform(effect, trouble)
            if answer is not None:
                pending.extend(self.step(answer))
        return self.screens[shown:]

    def _perform(self, effect: Effect, trouble: _Trouble | None) -> Event | None:
        match effect:
            case StoreIntent(draft=draft):
                intent = draft.sealed_as(seal(draft.record, self.signer))
                self.stored[intent.tap_id] = OpenIntent(intent, committed=False)
                return IntentDurable(intent)
            case WriteSlot(slot=slot, data=data, erases=erases):
                assert trouble is not None and any(data == one.intent.written for one in self.stored.values())
                trouble.chip.write(slot, data, trouble.torn_after, erases=erases)
                return SlotWritten() if trouble.torn_after is None else CardLost()
            case ReadBack(slot=slot):
                assert trouble is not None
                if trouble.away_after_write:
                    return CardLost()
                return SlotRead(bytes(SEALED_BYTES) if trouble.misread else trouble.chip.slots[slot])
            case CommitEntry(intent=intent):
                self._append(Kind.TAP, intent)
                self.stored[intent.tap_id] = OpenIntent(intent, committed=True)
                return CommitDurable()
            case AbortEntry(intent=intent):
                self._append(Kind.ABORT, intent)
                del self.stored[intent.tap_id]
                return AbortDurable()
            case DropIntent(tap_id=tap_id):
                self.stored.pop(tap_id, None)
                return None
            case Show(screen=screen):
                return self._show(screen)

    def _show(self, screen: Screen) -> Event | None:
        self.screens.append(screen)
        if isinstance(screen, Green):
            assert screen.intent.tap_id in self.taps, "green before its TAP entry was durable"
            return GreenShown()
        return None

    def _append(self, kind: Kind, intent: Intent) -> None:
        body = intent.tap_body() if kind is Kind.TAP else intent.abort_body()
        (self.taps if kind is Kind.TAP else self.aborts).append(intent.tap_id)
        self.log.append(kind, body)
        self.fold(self.log.head_seq)

    def fold(self, first: int) -> None:
        self.world.fold(self.log, first, self.view)


@dataclass(frozen=True)
class _Trouble:
    chip: Chip
    torn_after: int | None = None
    away_after_write: bool = False
    misread: bool = False
    killed_before: type[Effect] | None = None


def notices(screens: list[Screen]) -> list[Notice]:
    return [screen.notice for screen in screens if isinstance(screen, Amber)]


def greens(screens: list[Screen]) -> list[Green]:
    return [screen for screen in screens if isinstance(screen, Green)]


def reds(screens: list[Screen]) -> list[Red]:
    return [screen for screen in screens if isinstance(screen, Red)]
