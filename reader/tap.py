"""The tap as a state machine. Pure: an event and the surroundings in, the next state and effects out.

``sense -> read -> verify -> risk -> INTENT (fsync) -> write the idle slot -> read back -> COMMIT (fsync) -> green``

The rules that :data:`TABLE` and the functions below it carry out (DESIGN.md, "The tap"):

1. Nothing is written to a card before its intent is durable, and nothing is green before its COMMIT is durable.
2. COMMIT requires the written record, byte for byte, read back from the same card (or shown by it later).
3. A tap id belongs to one basket for ever: a torn tap of the same basket writes the identical record again; another
   order on the same card first aborts the old tap, durably, and goes on under its own tap id.
4. An intent ends in a COMMIT or an ABORT and is dropped only after that: after the green light was on, or after the
   ABORT was durable. Open intents survive a restart; the newest is still the order at the counter, the others wait
   for their cards.
5. A COMMIT whose green light nobody saw is "PAID: serve" when its card comes back: never a second debit. The same
   order, rung up again meanwhile, is that order, and is disarmed.
6. What the card cannot say, staff is asked; where staff cannot say it either, the intent stays open and its amount is
   unknown. Nothing is committed by guess.
7. A decline ends the order. It moved no money.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from mesh.errors import LocalError
from reader.card import Blank, Shown, record_of
from reader.intent import Basket, Intent, IntentDraft, OpenIntent
from reader.ports import VenueTerms
from reader.resolution import Verdict, resolve
from reader.risk import Decline, Device, Order, Refusal, next_for, objection
from reader.tap_events import (
    AbortDurable,
    AbortEntry,
    Amber,
    Arm,
    Balance,
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
from reader.tap_phases import (
    Aborting,
    Acknowledging,
    Armed,
    Asking,
    Committing,
    Idle,
    IntentPending,
    Phase,
    ReadingBack,
    Unfinished,
    Why,
    Writing,
)


class OutOfPlace(LocalError):
    """This event cannot happen in this phase: the caller carried out an effect that was not asked for."""


TABLE: Final[Mapping[type[Phase], Mapping[type[Event], frozenset[type[Phase]]]]] = {
    Idle: {
        Arm: frozenset({Armed}),
        Cancel: frozenset({Idle}),
        Served: frozenset({Idle}),
        NotServed: frozenset({Idle}),
        CardRead: frozenset({Idle, Committing, Acknowledging, Aborting, Asking}),
    },
    Armed: {
        Arm: frozenset({Armed}),
        Cancel: frozenset({Idle}),
        Served: frozenset({Armed}),
        NotServed: frozenset({Armed}),
        CardRead: frozenset({Idle, IntentPending, Committing, Acknowledging, Aborting, Asking}),
    },
    IntentPending: {IntentDurable: frozenset({Writing})},
    Writing: {SlotWritten: frozenset({ReadingBack}), CardLost: frozenset({Unfinished})},
    ReadingBack: {SlotRead: frozenset({Committing, Unfinished}), CardLost: frozenset({Unfinished})},
    Committing: {CommitDurable: frozenset({Acknowledging})},
    Acknowledging: {GreenShown: frozenset({Idle, Armed})},
    Aborting: {AbortDurable: frozenset({Idle, Armed, IntentPending})},
    Asking: {
        Arm: frozenset({Asking}),
        Cancel: frozenset({Aborting}),
        Served: frozenset({Committing}),
        NotServed: frozenset({Aborting}),
        CardRead: frozenset({Asking}),
    },
    Unfinished: {
        Arm: frozenset({Armed}),
        Cancel: frozenset({Aborting}),
        Served: frozenset({Unfinished}),
        NotServed: frozenset({Unfinished}),
        CardRead: frozenset({Unfinished, Writing, Committing, Aborting, Asking}),
    },
}
"""For each phase the events that may come, and the phases each may lead to. Anything else is :class:`OutOfPlace`."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One terminal: its phase, and every durable intent whose end nobody has seen (the phase's own among them)."""

    phase: Phase
    open: tuple[OpenIntent, ...]

    @property
    def tap_id(self) -> bytes:
        """The tap id of the order at the counter; empty when there is none."""
        match self.phase:
            case Armed(basket=basket):
                return basket.tap_id
            case Unfinished(intent=intent):
                return intent.tap_id
            case _:
                return b""


@dataclass(frozen=True, slots=True)
class Around:
    """What a step may look at: the clock (microseconds, monotonic), the venue's terms, this device, names."""

    now_us: int
    terms: VenueTerms | None
    device: Device
    name_of: Callable[[bytes], str]


Step: TypeAlias = tuple[Machine, tuple[Effect, ...]]


def start(open_intents: Sequence[OpenIntent]) -> Step:
    """The machine after a start or a restart, with what must be shown at once (rules 4 and 5)."""
    paid = [one.intent for one in open_intents if one.committed]
    torn = [one.intent for one in open_intents if not one.committed]
    shows: list[Effect] = [Show(_amber(Notice.PAID_BEFORE_RESTART, intent)) for intent in paid]
    phase: Phase = Idle()
    if torn:
        phase = Unfinished(torn[-1])
        shows.append(Show(_amber(Notice.UNFINISHED_AT_START, torn[-1])))
    return Machine(phase, tuple(open_intents)), tuple(shows)


def handle(machine: Machine, event: Event, around: Around) -> Step:
    """Take one step, or raise :class:`OutOfPlace` and change nothing."""
    allowed = TABLE[type(machine.phase)].get(type(event))
    if allowed is None:
        raise OutOfPlace(f"a {type(event).__name__} cannot happen while {type(machine.phase).__name__}")
    after, effects = _step(machine, event, around)
    assert type(after.phase) in allowed, (machine.phase, event, after.phase)
    return after, effects


def _step(machine: Machine, event: Event, around: Around) -> Step:
    match machine.phase, event:
        case _, (Arm() | Cancel() | Served() | NotServed()):
            return _staff(machine, event, around)
        case _, CardRead():
            return _card_read(machine, event, around)
        case IntentPending(draft=draft, is_torn=is_torn, began_us=began), IntentDurable(intent=intent):
            opened = (*machine.open, OpenIntent(intent, committed=False))
            write = WriteSlot(draft.slot, intent.written, erases=is_torn)
            return Machine(Writing(intent, draft.slot, began), opened), (write,)
        case Writing(intent=intent, slot=slot, began_us=began), SlotWritten():
            return replace(machine, phase=ReadingBack(intent, began)), (ReadBack(slot),)
        case ReadingBack(intent=intent, began_us=began), SlotRead(data=data) if data == intent.written:
            return _commit(machine, intent, began, None)
        case ((Writing(intent=intent) | ReadingBack(intent=intent)), (CardLost() | SlotRead())):
            return replace(machine, phase=Unfinished(intent)), (Show(_amber(Notice.HOLD_AGAIN, intent)),)
        case Committing(), CommitDurable():
            return _committed(machine, machine.phase, around)
        case Acknowledging(intent=intent, armed=armed), GreenShown():
            return _end(machine, intent, armed)
        case Aborting(), AbortDurable():
            return _aborted(machine, machine.phase, around)
        case _:
            raise OutOfPlace(f"a {type(event).__name__} cannot happen while {type(machine.phase).__name__}")


# --- What staff does --------------------------------------------------------------------------------------------


def _staff(machine: Machine, event: Arm | Cancel | Served | NotServed, around: Around) -> Step:
    match event:
        case Arm(basket=basket):
            return _arm(machine, basket)
        case Cancel():
            return _cancel(machine)
        case Served() | NotServed():
            return _answer(machine, event, around)


def _arm(machine: Machine, basket: Basket) -> Step:
    if isinstance(machine.phase, Asking):
        return machine, (Show(_amber(Notice.ASK_SERVED, machine.phase.intent)),)
    notice = Amber(Notice.ARMED, basket.tap_id, basket.operation, basket.amount_minor)
    return replace(machine, phase=Armed(basket)), (Show(notice),)


def _cancel(machine: Machine) -> Step:
    match machine.phase:
        case Armed(basket=basket):
            notice = Amber(Notice.CANCELLED, basket.tap_id, basket.operation, basket.amount_minor)
            return replace(machine, phase=Idle()), (Show(notice),)
        case Unfinished(intent=intent):
            return _abort(machine, Aborting(intent, Why.CANCELLED))
        case Asking(intent=intent, armed=armed):
            return _abort(machine, Aborting(intent, Why.NOT_SERVED, armed))
        case _:
            return machine, (Show(Amber(Notice.NOTHING_TO_CANCEL)),)


def _answer(machine: Machine, answer: Served | NotServed, around: Around) -> Step:
    if isinstance(machine.phase, Asking):
        asked = machine.phase
        if isinstance(answer, Served):
            return _commit(machine, asked.intent, around.now_us, asked.armed)
        return _abort(machine, Aborting(asked.intent, Why.NOT_SERVED, asked.armed))
    paid = [one.intent for one in machine.open if one.committed]
    if isinstance(answer, NotServed) or not paid:
        return machine, (Show(Amber(Notice.NOTHING_TO_ANSWER)),)
    seen: list[Effect] = []
    for intent in paid:
        seen += [DropIntent(intent.tap_id), Show(_amber(Notice.PAID_SEEN, intent))]
    return replace(machine, open=tuple(one for one in machine.open if not one.committed)), tuple(seen)


# --- A wristband is there ---------------------------------------------------------------------------------------


def _card_read(machine: Machine, read: CardRead, around: Around) -> Step:
    match machine.phase:
        case Asking(intent=intent):
            return machine, (Show(_amber(Notice.ASK_SERVED, intent)),)
        case Unfinished(intent=intent):
            return _held_again(machine, intent, read, around)
        case Armed(basket=basket):
            return _earlier_tap(machine, basket, read) or _charge(machine, basket, read, around)
        case _:
            return _earlier_tap(machine, None, read) or _look(machine, read, around)


def _earlier_tap(machine: Machine, armed: Basket | None, read: CardRead) -> Step | None:
    """Settle what an earlier tap left open on this card, if the card can say (rules 3, 5 and 6)."""
    for one in machine.open:
        if one.intent.card != read.presented.card:
            continue
        still = None if armed and _is_order_of(armed, one.intent) else armed
        match one.committed, resolve(one.intent, read.presented.view):
            case True, (Verdict.WRITTEN | Verdict.MOVED_ON):
                green = Green(one.intent, record_of(one.intent.written).balance, 0.0, already=True)
                return replace(machine, phase=Acknowledging(one.intent, still)), (Show(green),)
            case False, Verdict.WRITTEN:
                return _commit(machine, one.intent, read.began_us, still)
            case False, Verdict.MOVED_ON:
                asking = Asking(one.intent, armed, read.began_us)
                return replace(machine, phase=asking), (Show(_amber(Notice.ASK_SERVED, one.intent)),)
            case False, Verdict.NOT_WRITTEN:
                return _abort(machine, Aborting(one.intent, Why.BASKET_CHANGED, armed, read))
            case False, Verdict.SPENT_ELSEWHERE:
                return _abort(machine, Aborting(one.intent, Why.SPENT_ELSEWHERE, armed, read))
            case _:
                continue
    return None


def _charge(machine: Machine, basket: Basket, read: CardRead, around: Around) -> Step:
    presented = read.presented
    order = Order(basket.operation, basket.amount_minor)
    record = next_for(order, presented, around.terms, around.device, around.name_of)
    if isinstance(record, Refusal):
        return replace(machine, phase=Idle()), (Show(Red(presented.card, basket, record)),)
    assert around.terms is not None and isinstance(presented.view, Blank | Shown)
    draft = IntentDraft(
        tap_id=basket.tap_id,
        card=presented.card,
        operation=basket.operation,
        amount_minor=basket.amount_minor,
        witness=presented.view.sealed if isinstance(presented.view, Shown) else b"",
        record=record,
        slot=presented.view.idle,
        document=around.terms.document,
    )
    return replace(machine, phase=IntentPending(draft, presented.view.is_torn, read.began_us)), (StoreIntent(draft),)


def _look(machine: Machine, read: CardRead, around: Around) -> Step:
    """No order: say what the wristband holds, or what speaks against it."""
    presented = read.presented
    refusal = objection(presented, around.terms, around.name_of) if around.terms else None
    if refusal is not None:
        return machine, (Show(Red(presented.card, None, refusal)),)
    if isinstance(presented.view, Shown):
        record = presented.view.record
        return machine, (Show(Balance(presented.card, record.seq, record.balance)),)
    return machine, (Show(Balance(presented.card, 0, 0)),)


def _held_again(machine: Machine, intent: Intent, read: CardRead, around: Around) -> Step:
    presented = read.presented
    if presented.card != intent.card:
        return machine, (Show(_amber(Notice.ANOTHER_WRISTBAND, intent)),)
    match resolve(intent, presented.view):
        case Verdict.WRITTEN:
            return _commit(machine, intent, read.began_us, None)
        case Verdict.MOVED_ON:
            asking = Asking(intent, None, read.began_us)
            return replace(machine, phase=asking), (Show(_amber(Notice.ASK_SERVED, intent)),)
        case Verdict.SPENT_ELSEWHERE:
            refusal = Refusal(
                Decline.SPENT_ELSEWHERE,
                "This wristband was spent at another reader before this tap was finished. Nothing was charged here: "
                "ring the order up again.",
                "Please hold your wristband once more when asked.",
            )
            return _abort(machine, Aborting(intent, Why.SPENT_ELSEWHERE, refusal=refusal))
        case Verdict.NOT_WRITTEN:
            return _write_again(machine, intent, read, around)
        case Verdict.UNCLEAR:
            refused = objection(presented, around.terms, around.name_of) if around.terms else None
            if refused is not None:
                return machine, (Show(Red(presented.card, _order_of(intent), refused)),)
            return machine, (Show(_amber(Notice.CANNOT_FOLLOW, intent)),)


def _write_again(machine: Machine, intent: Intent, read: CardRead, around: Around) -> Step:
    """The identical record, to the slot that is idle; unless the card was held or copied since (nothing is on it)."""
    view = read.presented.view
    assert isinstance(view, Blank | Shown)
    refused = objection(read.presented, around.terms, around.name_of) if around.terms else None
    if refused is not None:
        return _abort(machine, Aborting(intent, Why.DECLINED, refusal=refused))
    write = WriteSlot(view.idle, intent.written, erases=view.is_torn)
    return replace(machine, phase=Writing(intent, view.idle, read.began_us)), (write,)


# --- How an intent ends -----------------------------------------------------------------------------------------


def _commit(machine: Machine, intent: Intent, began_us: int, armed: Basket | None) -> Step:
    return replace(machine, phase=Committing(intent, began_us, armed)), (CommitEntry(intent),)


def _committed(machine: Machine, phase: Committing, around: Around) -> Step:
    milliseconds = (around.now_us - phase.began_us) / 1000
    green = Green(phase.intent, record_of(phase.intent.written).balance, milliseconds, already=False)
    return replace(machine, phase=Acknowledging(phase.intent, phase.armed)), (Show(green),)


def _abort(machine: Machine, phase: Aborting) -> Step:
    return replace(machine, phase=phase), (AbortEntry(phase.intent),)


def _aborted(machine: Machine, phase: Aborting, around: Around) -> Step:
    ended, dropped = _end(machine, phase.intent, phase.armed)
    said = Show(_word_of_abort(phase))
    if phase.read is None:
        return ended, (*dropped, said)
    # Straight to the charge: another open tap of this card, left by a damaged past, waits for the next time.
    armed = phase.armed
    after, more = _charge(ended, armed, phase.read, around) if armed else _look(ended, phase.read, around)
    return after, (*dropped, said, *more)


def _word_of_abort(phase: Aborting) -> Screen:
    if phase.refusal is not None:
        return Red(phase.intent.card, _order_of(phase.intent), phase.refusal)
    match phase.why:
        case Why.CANCELLED:
            return _amber(Notice.CANCELLED, phase.intent)
        case Why.NOT_SERVED:
            return _amber(Notice.CREDITED, phase.intent)
        case _:
            return _amber(Notice.EARLIER_ORDER_NOT_CHARGED, phase.intent)


def _end(machine: Machine, intent: Intent, armed: Basket | None) -> Step:
    rest = tuple(one for one in machine.open if one.intent.tap_id != intent.tap_id)
    return Machine(Armed(armed) if armed else Idle(), rest), (DropIntent(intent.tap_id),)


def _is_order_of(basket: Basket, intent: Intent) -> bool:
    return basket.same_order(intent.operation, intent.amount_minor)


def _order_of(intent: Intent) -> Basket:
    return Basket(intent.operation, intent.amount_minor, intent.tap_id)


def _amber(notice: Notice, intent: Intent) -> Amber:
    return Amber(notice, intent.tap_id, intent.operation, intent.amount_minor)
