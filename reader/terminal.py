"""The thin shell around a tap: turns what the antenna and staff do into events, and carries the effects out.

One task owns the machine, so that events never overlap; the antenna, whose calls block, works in a thread. Everything
here may be cancelled at any point: what a cut-off tap leaves behind is its durable intent, resolved at the next start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

import trio

from mesh.core.kinds import Operation
from mesh.shell.surroundings import REAL, Surroundings
from mesh.views.card_record import key_id
from mesh.views.tap_entry import TAP_ID_BYTES
from reader.card import BLANK_SLOT, seal
from reader.chips.profile import Antenna, ChipIdentity, ChipLost, ChipProfile, ChipRefused
from reader.intent import Basket
from reader.ports import Identity, TapJournal, Venue
from reader.risk import Device, Presented
from reader.tap import Around, Machine, handle, start
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
from reader.venue import present

REST_S: Final = 0.05
"""Between two looks at a wristband that has been dealt with and still lies there."""
MISSES_TO_BE_GONE: Final = 2
"""Polls without an answer until a wristband counts as taken away; one may be lost on air."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Ring:
    """Staff rings up an order; its tap id is minted when it is taken."""

    operation: Operation
    amount_minor: int


Command: TypeAlias = Ring | Cancel | Served | NotServed


class Display(Protocol):
    """Where screens go."""

    def show(self, screen: Screen, stages_ms: Mapping[str, float]) -> None:
        """Show it now; it has been seen when this returns. Stages are those of the tap so far, in order."""
        ...

    def not_ours(self, reason: str) -> None:
        """Something else than a wristband of ours is on the reader."""
        ...


@dataclass(frozen=True, slots=True)
class _Reading:
    """One wristband, sensed, activated and read in one go in the worker thread."""

    uid: bytes
    chip: ChipProfile
    identity: ChipIdentity
    slots: tuple[bytes, bytes]
    began_us: int
    sensed_us: int


class Stages:
    """When each stage of the current tap was through; microseconds of the one monotonic clock that `now_us` reads."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._marks: list[tuple[str, int]] = []

    def begin(self, began_us: int) -> None:
        self._marks = [("", began_us)]

    def mark(self, name: str, at_us: int | None = None) -> None:
        self._marks.append((name, self._now_us() if at_us is None else at_us))

    def milliseconds(self) -> dict[str, float]:
        """How long each stage took, in the order in which they came."""
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return {name: (at - before) / 1000 for (_, before), (name, at) in pairs}


class Terminal:
    """One antenna, one machine. :meth:`run` until cancelled."""

    def __init__(
        self,
        radio: Antenna,
        journal: TapJournal,
        venue: Venue,
        identity: Identity,
        display: Display,
        surroundings: Surroundings = REAL,
    ) -> None:
        self._radio = radio
        self._journal = journal
        self._venue = venue
        self._signer = identity.signer
        self._identity = identity
        self._display = display
        self._surroundings = surroundings
        self._now_us = surroundings.monotonic_us
        self._machine, self._first_effects = start(journal.open_intents())
        self._stages = Stages(self._now_us)
        self._antenna = trio.CapacityLimiter(1)
        self._dealt_with: bytes | None = None
        self._misses = 0
        self._lost = False

    @property
    def machine(self) -> Machine:
        """The state, for looking at."""
        return self._machine

    async def run(self, commands: trio.MemoryReceiveChannel[Command]) -> None:
        """Serve staff and wristbands. Raises `NoReaderDevice` when the antenna goes, `StorageError` when the disk does.

        When the commands end (standard input closed), wristbands are still served.
        """
        try:
            await self._carry_out(self._first_effects, None)
            while True:
                await self._take_commands(commands)
                self._venue.terms()  # a changed venue document is worked out here, not in a tap
                await self._look(commands)
        finally:
            with trio.CancelScope(shield=True):
                await self._surroundings.in_thread(self._radio.close)

    # -- Staff -----------------------------------------------------------------------------------------------------

    async def _take_commands(self, commands: trio.MemoryReceiveChannel[Command]) -> None:
        while True:
            try:
                command = commands.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return
            await self._obey(command)

    async def _obey(self, command: Command) -> None:
        match command:
            case Ring(operation=operation, amount_minor=amount):
                self._dealt_with = None
                basket = Basket(operation, amount, self._surroundings.random_bytes(TAP_ID_BYTES))
                await self._happens(Arm(basket), None)
            case _:
                await self._happens(command, None)

    async def _rest(self, commands: trio.MemoryReceiveChannel[Command]) -> None:
        command: Command | None = None
        with trio.move_on_after(REST_S):
            try:
                command = await commands.receive()
            except trio.EndOfChannel:
                await trio.sleep(REST_S)
        if command is not None:
            await self._obey(command)

    # -- Wristbands ------------------------------------------------------------------------------------------------

    async def _look(self, commands: trio.MemoryReceiveChannel[Command]) -> None:
        try:
            reading = await self._in_thread(self._sense)
        except ChipLost:
            return
        except ChipRefused as error:
            self._display.not_ours(str(error))
            await self._rest(commands)
            return
        if reading is None:
            self._misses += 1
            if self._misses >= MISSES_TO_BE_GONE:
                self._dealt_with = None
            return
        self._misses = 0
        if isinstance(reading, bytes):
            await self._rest(commands)
            return
        self._stages.begin(reading.began_us)
        self._stages.mark("sense", reading.sensed_us)
        self._stages.mark("read")
        self._dealt_with, self._lost = reading.uid, False
        await self._happens(CardRead(self._present(reading), reading.began_us), reading.chip)
        if self._lost:
            self._dealt_with = None

    def _sense(self) -> _Reading | bytes | None:
        """In the worker thread: nothing there, a uid that has been dealt with, or a wristband read."""
        found = self._radio.poll()
        if found is None:
            return None
        if found.uid == self._dealt_with:
            return found.uid
        sensed_us = self._now_us()
        # A chip that is not ours is named once and then counts as dealt with, like any other.
        self._dealt_with = found.uid
        try:
            chip = self._radio.activate(found)
            return _Reading(found.uid, chip, chip.select(), chip.read_slots(), found.began_us, sensed_us)
        except ChipLost:
            self._dealt_with = None
            raise

    def _present(self, reading: _Reading) -> Presented:
        chip = reading.identity
        presented = present(self._venue, reading.slots, chip.uid, chip.serial, self._machine.tap_id)
        self._stages.mark("verify")
        return presented

    # -- The machine -----------------------------------------------------------------------------------------------

    async def _happens(self, event: Event, chip: ChipProfile | None) -> None:
        await self._carry_out(self._step(event), chip)

    def _step(self, event: Event) -> tuple[Effect, ...]:
        # Asked each time: a device that was revoked while it runs has no roles left.
        device = Device(self._identity.roles, key_id(self._identity.signer.public_key))
        around = Around(self._now_us(), self._venue.terms(), device, self._venue.name_of)
        self._machine, effects = handle(self._machine, event, around)
        return effects

    async def _carry_out(self, effects: Iterable[Effect], chip: ChipProfile | None) -> None:
        """Each effect in turn; the last one may be answered by an event, whose effects follow."""
        pending = deque(effects)
        while pending:
            event = await self._perform(pending.popleft(), chip)
            if event is not None:
                pending.extend(self._step(event))

    async def _perform(self, effect: Effect, chip: ChipProfile | None) -> Event | None:
        match effect:
            case StoreIntent(draft=draft):
                intent = draft.sealed_as(seal(draft.record, self._signer))
                self._stages.mark("seal")
                await self._journal.store_intent(intent)
                self._stages.mark("intent")
                return IntentDurable(intent)
            case WriteSlot() | ReadBack():
                return await self._on_chip(effect, chip)
            case CommitEntry(intent=intent):
                await self._journal.commit(intent)
                self._stages.mark("commit")
                return CommitDurable()
            case AbortEntry(intent=intent):
                await self._journal.abort(intent)
                return AbortDurable()
            case DropIntent(tap_id=tap_id):
                await self._journal.drop_intent(tap_id)
                return None
            case Show(screen=screen):
                self._display.show(screen, self._stages.milliseconds())
                return GreenShown() if isinstance(screen, Green) else None

    async def _on_chip(self, effect: WriteSlot | ReadBack, chip: ChipProfile | None) -> Event:
        assert chip is not None, "only a wristband that was just read is written"
        try:
            match effect:
                case WriteSlot(slot=slot, data=data, erases=erases):
                    await self._in_thread(lambda: _write(chip, slot, data, erases=erases))
                    self._stages.mark("write")
                    return SlotWritten()
                case ReadBack(slot=slot):
                    answer = await self._in_thread(lambda: chip.read_slot(slot))
                    self._stages.mark("read_back")
                    return SlotRead(answer)
        except (ChipLost, ChipRefused):
            self._lost = True
            return CardLost()

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        """Abandoned on cancellation: each exchange has a time limit, and closing the radio waits for the last one."""
        return await self._surroundings.in_thread(work, abandon_on_cancel=True, limiter=self._antenna)


def _write(chip: ChipProfile, slot: int, data: bytes, *, erases: bool) -> None:
    """In the worker thread. A second command costs milliseconds, and only where a wristband was torn."""
    if erases:
        chip.write_slot(slot, BLANK_SLOT)
    chip.write_slot(slot, data)
