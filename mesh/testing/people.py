"""The people of a world: who buys what where, who walks away in mid-tap, who is a thief, and what staff does about it.

An attendee has a wristband and goes to counters of the zone that he or she is in. Staff rings the order up, the
wristband is held to the reader, and both wait for what the screen says. What then happens follows the screen, as it
would at a bar: hold again or walk off, cancel, go to another counter, answer a question truthfully.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mesh.core.kinds import Operation, Role
from mesh.testing.device import Device
from mesh.testing.scenario import Fault, People
from mesh.testing.starter import CARD_ID_KEY
from mesh.testing.world import World
from mesh.testing.wristband import Wristband
from mesh.views.card_record import RECORD_BYTES, SEAL_BYTES, SEALED_BYTES, record_hash
from reader.card import Shown, card_id, read_card
from reader.tap_events import Amber, Cancel, Green, Notice, NotServed, Red, Screen, Served
from reader.tap_phases import Unfinished, Writing

PATIENCE_S: Final = 8.0
"""After this long without an answer somebody gives up and goes."""
FETCH_S: Final = (0.3, 3.0)
"""From the order to the wristband being there."""
AGAIN_S: Final = (0.4, 4.0)
LAST_ROUND_PAUSE_S: Final = 0.5
TAP_S: Final = 0.18
"""About as long as a tap takes."""
LOOKS_EVERY_S: Final = 0.003
TORN_AT: Final = ((RECORD_BYTES, SEALED_BYTES - 1), (31, 33))
"""Behind the whole record, which so names the bar that wrote it; and within the four bytes that do (card_record)."""
NEXT_BAR_S: Final = 2.0
BARS_TRIED_MAX: Final = 5
FORGED_MINOR: Final = 10_000


@dataclass(slots=True, eq=False)
class Attendee:
    """Somebody with a wristband. A thief has a copy of somebody else's."""

    name: str
    band: Wristband
    zone: str
    balance_minor: int = 0
    """As last seen on a screen."""
    is_busy: bool = False
    is_thief: bool = False
    torn_at: list[Device] = field(default_factory=list)
    """Counters that asked to hold the wristband again, and did not see it again yet."""
    to_tear_at: list[tuple[Device, tuple[int, int]]] = field(default_factory=list)
    """Bars at which the wristband is still to be taken away in mid-write, and between which bytes."""


@dataclass(slots=True, eq=False)
class Visit:
    """One order at one counter."""

    attendee: Attendee
    device: Device
    operation: Operation
    amount_minor: int
    tap_id: bytes = b""
    is_over: bool = False
    holds: int = 0


class Crowd:
    """Everybody at the venue; implements what the world tells people."""

    def __init__(self, world: World, plan: People) -> None:
        self._world = world
        self._plan = plan
        self._random = world.chance("people")
        zones = [zone.name for zone in world.scenario.zones for _ in range(zone.readers)]
        self.attendees = [
            Attendee(f"guest {at}", Wristband(f"band {at}", at.to_bytes(7, "big")), zones[at % len(zones)])
            for at in range(1, plan.count + 1)
        ]
        world.truth.bands = [one.band for one in self.attendees]
        self.visits: dict[str, Visit] = {}
        """By device: who is at the counter."""
        self.orders = 0
        self.turned_away = 0
        self._walks_due = 0
        self._tears_due = 0
        """How many of the next guests take their wristband away in mid-tap, or in mid-write."""
        self._closing = False
        self._busiest = max(plan.by_hour, default=1.0)
        self._turns: list[Attendee] = []
        self._sellers: dict[str, list[Device]] = {}
        self._tills: dict[str, list[Device]] = {}
        for device in world.devices.values():
            if device.sells:
                is_till = Role.TILL in device.certificate.roles
                (self._tills if is_till else self._sellers).setdefault(device.zone, []).append(device)

    def opens(self, bar: Device) -> None:
        """One more bar sells to whoever is in its zone."""
        self._sellers.setdefault(bar.zone, []).append(bar)

    def sends_somebody(self, bar: Device) -> None:
        """Somebody who has money and nothing else to do goes to this bar."""
        able = [one for one in self.attendees if one.balance_minor and not one.is_busy and not one.is_thief]
        if able and not self._closing:
            guest = self._random.choice(able)
            price = min(guest.balance_minor, self._random.randint(*self._plan.price_cents))
            self.visit(guest, [bar], Operation.SALE, price)

    def counter_moved(self, dead: Device, spare: Device) -> None:
        """A spare device stands where another one died."""
        for counters in (self._sellers, self._tills):
            at = counters.get(dead.zone, [])
            if dead in at:
                at[at.index(dead)] = spare

    # -- Orders ----------------------------------------------------------------------------------------------------

    def open_doors(self) -> None:
        """From now on orders come, as many a second as the scenario says."""
        if self._plan.taps_per_s > 0 and self.attendees:
            self._next_order()

    def close_doors(self) -> None:
        """Nobody orders any more."""
        self._closing = True

    def _next_order(self) -> None:
        """The next guest, at the rate of the busiest hour; in others many are only imagined."""
        if not self._closing:
            self._world.clock.after(self._random.expovariate(self._plan.taps_per_s * self._busiest), self._order)

    def _order(self) -> None:
        most = self._plan.orders_max
        if most and len(self._world.truth.paid) >= most:
            self.close_doors()
        hour = int(self._world.clock.now // 3600) % 24
        wanted = self._plan.by_hour[hour] / self._busiest if self._plan.by_hour else 1.0
        if wanted == 0.0 and not self._closing:
            # Nobody comes before the next full hour.
            self._world.clock.at((self._world.clock.now // 3600 + 1) * 3600, self._next_order)
            return
        self._next_order()
        if wanted < 1.0 and self._random.random() >= wanted:
            return
        attendee = self._whose_turn()
        if not attendee.is_busy and not attendee.is_thief and not self._closing:
            self.goes_to_buy(attendee)

    def _whose_turn(self) -> Attendee:
        """Everybody comes equally often, in a new order each time round."""
        if not self._turns:
            self._turns = list(self.attendees)
            self._random.shuffle(self._turns)
        return self._turns.pop()

    def goes_to_buy(self, attendee: Attendee) -> None:
        """One order of somebody: at a bar of the zone, or at a till if there is too little on the wristband."""
        plan, chance = self._plan, self._random
        if chance.random() < plan.moves:
            attendee.zone = chance.choice(sorted(self._sellers))
        price = chance.randint(*plan.price_cents)
        if attendee.balance_minor >= price or attendee.is_thief:
            self.visit(attendee, self._sellers.get(attendee.zone, ()), Operation.SALE, price)
        else:
            anywhere = [till for zone in sorted(self._tills) for till in self._tills[zone]]
            tills = self._tills.get(attendee.zone) or anywhere
            self.visit(attendee, tills, Operation.TOP_UP, chance.randint(*plan.top_up_cents) // 100 * 100)

    def visit(self, attendee: Attendee, counters: Sequence[Device], operation: Operation, amount_minor: int) -> None:
        """Go to one of these counters, if one is free and works."""
        free = [one for one in counters if one.counter is not None and one.name not in self.visits]
        self.orders += 1
        if not free:
            self.turned_away += 1
            return
        device = self._random.choice(free)
        visit = Visit(attendee, device, operation, amount_minor)
        attendee.is_busy = True
        self.visits[device.name] = visit
        self._ring(visit)

    def _ring(self, visit: Visit) -> None:
        counter = visit.device.counter
        assert counter is not None
        visit.tap_id = counter.ring(visit.operation, visit.amount_minor)
        if self._random.random() < self._plan.cancels:
            self._world.clock.after(self._random.uniform(*FETCH_S), lambda: self._cancel(visit))
            return
        self._hold_later(visit, FETCH_S)
        self._world.clock.after(PATIENCE_S, lambda: self._give_up(visit))

    def _cancel(self, visit: Visit) -> None:
        if visit.device.counter is not None:
            visit.device.counter.answer(Cancel())
        self._over(visit)

    def _hold_later(self, visit: Visit, pause_s: tuple[float, float]) -> None:
        self._world.clock.after(self._random.uniform(*pause_s), lambda: self._hold(visit))

    def _hold(self, visit: Visit) -> None:
        counter = visit.device.counter
        if visit.is_over or counter is None:
            return
        visit.holds += 1
        counter.hold(visit.attendee.band)
        if self._world.healing:
            return
        if visit.attendee.to_tear_at:
            self._take_away_in_mid_write(visit, TAP_S)
        elif self._tears_due:
            self._tears_due -= 1
            self._take_away_in_mid_write(visit, TAP_S)
        elif self._walks_due or self._random.random() < self._plan.walks_away:
            due = min(1, self._walks_due)
            self._walks_due -= due
            self._world.clock.after(self._random.uniform(0.005, TAP_S), lambda: self._walk_off(visit, due))

    def _take_away_in_mid_write(self, visit: Visit, left_s: float) -> None:
        """Look every few milliseconds whether the write has begun."""
        counter = visit.device.counter
        if visit.is_over or counter is None or left_s <= 0.0:
            self._tears_due += not self._closing and not visit.attendee.to_tear_at
        elif isinstance(counter.machine.phase, Writing):
            self._take_away(visit)
        else:
            self._world.clock.after(LOOKS_EVERY_S, lambda: self._take_away_in_mid_write(visit, left_s - LOOKS_EVERY_S))

    def walk_away(self) -> bool:
        """The next guest takes the wristband away in mid-tap; what comes of it is counted when it happens."""
        self._walks_due += 1
        return True

    def tear_write(self) -> bool:
        """The next guest takes the wristband away while it is written; counted when it happens."""
        self._tears_due += 1
        return True

    def tear_twice(self) -> bool:
        """Somebody's wristband is torn by one bar, and over the same record by another, in the middle of its name."""
        bars = [bar for zone in sorted(self._sellers) for bar in self._sellers[zone] if bar.counter is not None]
        copied = self._world.truth.copied_cards
        able = [one for one in self.attendees if one.balance_minor and not one.is_busy and not one.is_thief]
        able = [one for one in able if card_of(one.band) not in copied and not one.to_tear_at]
        if len(bars) < 2 or not able:
            return False
        guest = self._random.choice(able)
        guest.to_tear_at = list(zip(self._random.sample(bars, 2), TORN_AT, strict=True))
        self._next_to_tear(guest, BARS_TRIED_MAX)
        return True

    def _tear_anybody_twice(self) -> None:
        if not self._closing and not self.tear_twice():
            self._world.clock.after(NEXT_BAR_S, self._tear_anybody_twice)

    def _next_to_tear(self, guest: Attendee, tries: int) -> None:
        if not guest.to_tear_at or self._closing or not tries:
            torn = not guest.to_tear_at
            guest.to_tear_at.clear()
            guest.band.stops_at.clear()
            if not torn and not self._closing:
                # A bar that has broken, or a card that is held: somebody else, elsewhere.
                self._world.clock.after(NEXT_BAR_S, self._tear_anybody_twice)
            return
        bar, (least, most) = guest.to_tear_at[0]
        if not guest.is_busy and bar.name not in self.visits:
            guest.band.stops_at = [self._random.randint(least, most)]
            self.visit(guest, [bar], Operation.SALE, 1)
        self._world.clock.after(NEXT_BAR_S, lambda: self._next_to_tear(guest, tries - 1))

    def _was_torn(self, guest: Attendee) -> None:
        """At the bar where that was to be so; after the second one it has happened."""
        guest.to_tear_at.pop(0)
        self._world.fired[Fault.TORN_TWICE.value] += not guest.to_tear_at

    def _walk_off(self, visit: Visit, due: int) -> None:
        """Somebody leaves in mid-tap; where the reader was faster, a walk that is due falls to the next guest."""
        if not self._take_away(visit):
            self._walks_due += due

    def _take_away(self, visit: Visit) -> bool:
        """The wristband is gone before the reader was through with it, if the reader has not been faster."""
        counter = visit.device.counter
        if visit.is_over or counter is None or counter.on_antenna is not visit.attendee.band:
            return False
        self._world.fired[Fault.WALK_AWAY.value] += 1
        tears = visit.attendee.band.tears
        counter.take_away()
        torn = visit.attendee.band.tears - tears
        self._world.fired[Fault.TORN_WRITE.value] += torn
        if torn and visit.attendee.to_tear_at:
            self._was_torn(visit.attendee)
            self._world.clock.after(0.0, lambda: self._leaves_unfinished(visit))
        return True

    def _give_up(self, visit: Visit) -> None:
        """No answer for too long (the reader died, or nothing happens): the guest goes."""
        if not visit.is_over:
            counter = visit.device.counter
            if counter is not None and counter.on_antenna is visit.attendee.band:
                counter.take_away()
            self._leaves_unfinished(visit)

    def _over(self, visit: Visit) -> None:
        if visit.is_over:
            return
        visit.is_over = True
        visit.attendee.is_busy = False
        self.visits.pop(visit.device.name, None)
        counter = visit.device.counter
        if counter is not None and counter.on_antenna is visit.attendee.band:
            counter.take_away()

    # -- Screens ---------------------------------------------------------------------------------------------------

    def booted(self, device: Device) -> None:
        """The reader is back; whoever still stands there holds the wristband again (the screen asks for it)."""

    def saw(self, device: Device, screen: Screen) -> None:
        visit = self.visits.get(device.name)
        match screen:
            case Green(intent=intent, balance_minor=balance):
                if visit is not None and visit.tap_id == intent.tap_id:
                    visit.attendee.balance_minor = balance
                    self._paid(visit)
            case Red():
                if visit is not None:
                    self._declined(visit, screen)
            case Amber(notice=notice, tap_id=tap_id):
                self._world.clock.after(0.0, lambda: self._notice(device, notice, tap_id))
            case _:
                pass

    def _paid(self, visit: Visit) -> None:
        attendee = visit.attendee
        if visit.device in attendee.torn_at:
            attendee.torn_at.remove(visit.device)
        self._world.clock.after(0.0, lambda: self._over(visit))
        if attendee.is_thief:
            self._world.clock.after(self._random.uniform(*self._plan.clone_pace_s), lambda: self._steal(attendee))

    def _declined(self, visit: Visit, red: Red) -> None:
        attendee = visit.attendee
        if not attendee.is_thief:
            attendee.balance_minor = 0 if red.refusal.reason.value == "not_enough_balance" else attendee.balance_minor
        self._world.clock.after(0.0, lambda: self._over(visit))

    def _notice(self, device: Device, notice: Notice, tap_id: bytes) -> None:
        visit = self.visits.get(device.name)
        counter = device.counter
        if counter is None:
            return
        match notice:
            case Notice.PAID_BEFORE_RESTART:
                counter.answer(Served())
                if visit is not None and visit.tap_id == tap_id:
                    self._over(visit)
            case Notice.ASK_SERVED:
                # Truthfully: goods are handed out when the screen was green, which it never was for this order; now and
                # then staff has done it all the same.
                counter.answer(Served() if self._random.random() < 0.2 else NotServed())
            case Notice.HOLD_AGAIN | Notice.UNFINISHED_AT_START:
                self._hold_again(device, visit, tap_id)
            case Notice.ANOTHER_WRISTBAND | Notice.CANNOT_FOLLOW:
                counter.answer(Cancel())
                if visit is not None:
                    self._over(visit)
            case _:
                pass

    def _hold_again(self, device: Device, visit: Visit | None, tap_id: bytes) -> None:
        if visit is not None and visit.tap_id == tap_id:
            if visit.holds < 4 and self._random.random() < self._plan.holds_again:
                self._hold_later(visit, AGAIN_S)
            else:
                self._leaves_unfinished(visit)
        elif visit is None and self._random.random() < 0.5 and device.counter is not None:
            # Nobody is there any more: staff gives the order up, or leaves it and rings up the next one.
            device.counter.answer(Cancel())

    def _leaves_unfinished(self, visit: Visit) -> None:
        """The guest goes, perhaps to the next counter at once; staff gives the order up, or forgets about it."""
        attendee = visit.attendee
        attendee.torn_at.append(visit.device)
        counter = visit.device.counter
        self._over(visit)
        if counter is not None and isinstance(counter.machine.phase, Unfinished) and self._random.random() < 0.5:
            counter.answer(Cancel())
        if not self._closing and not attendee.to_tear_at and self._random.random() < 0.6:
            self._world.clock.after(self._random.uniform(*AGAIN_S), lambda: self._elsewhere(attendee))

    def _elsewhere(self, attendee: Attendee) -> None:
        if not attendee.is_busy and not self._closing:
            self.goes_to_buy(attendee)

    # -- Thieves ---------------------------------------------------------------------------------------------------

    def clone_somebody(self) -> bool:
        """A copy of a wristband that has money on it goes into a thief's pocket; False if there is none yet."""
        rich = [one for one in self.attendees if one.balance_minor > 0 and not one.is_thief and not one.is_busy]
        if not rich:
            return False
        victim = self._random.choice(rich)
        self._world.truth.copied_cards.add(card_of(victim.band))
        zones = sorted(self._sellers)
        thief = Attendee(f"thief of {victim.name}", victim.band.copy(), self._random.choice(zones), is_thief=True)
        thief.balance_minor = victim.balance_minor
        self._steal(thief)
        return True

    def _steal(self, thief: Attendee) -> None:
        if not self._closing and not thief.is_busy:
            orders = self.turned_away
            self.goes_to_buy(thief)
            if self.turned_away > orders:
                self._world.clock.after(self._random.uniform(*self._plan.clone_pace_s), lambda: self._steal(thief))

    def roll_somebody_back(self) -> bool:
        """Somebody puts an older content back onto the own wristband; False if nobody can yet."""
        able = [one for one in self.attendees if len(one.band.images) > 2 and not one.is_busy and not one.is_thief]
        if not able:
            return False
        cheat = self._random.choice(able)
        if not cheat.band.roll_back(self._random.randint(1, 2)):
            return False
        self._world.truth.copied_cards.add(card_of(cheat.band))
        cheat.balance_minor = 1_000_000
        self.goes_to_buy(cheat)
        return True

    def forge_a_balance(self) -> bool:
        """Somebody writes a larger balance onto the own wristband, with a phone and without anybody's key."""
        able = [one for one in self.attendees if one.balance_minor and not one.is_busy and not one.is_thief]
        bars = [bar for zone in sorted(self._sellers) for bar in self._sellers[zone] if bar.process is not None]
        if not able or not bars:
            return False
        cheat, bar = self._random.choice(able), bars[0]
        assert bar.process is not None
        # Whoever listens to a bar and a wristband knows which record it goes by; a torn one may look like a newer one.
        card = read_card(cheat.band.content, bar.process.views.devices.sealing_keys)
        if not isinstance(card, Shown):
            return False
        record, parent = card.record, record_hash(card.record.encode())[:8]
        more = replace(record, seq=record.seq + 1, balance=record.balance + FORGED_MINOR, parent=parent)
        forged = more.encode() + self._random.randbytes(SEAL_BYTES)
        cheat.band.begin_write()
        cheat.band.write(card.idle, forged)
        self._world.truth.forged_slots.add(forged)
        self.goes_to_buy(cheat)
        return True

    # -- The end of the night --------------------------------------------------------------------------------------

    def last_round(self) -> None:
        """Whoever left an order unfinished comes back to that counter, one after the other; staff ends the rest."""
        waiting = deque(
            (device, attendee) for attendee in self.attendees for device in attendee.torn_at if not device.gone
        )
        self._next_of_last_round(waiting)

    def _next_of_last_round(self, waiting: deque[tuple[Device, Attendee]]) -> None:
        clock = self._world.clock
        if not waiting:
            return
        device, attendee = waiting[0]
        busy = device.counter is None or device.name in self.visits or attendee.is_busy
        if not busy:
            waiting.popleft()
            assert device.counter is not None
            device.counter.hold(attendee.band)
            counter = device.counter
            clock.after(LAST_ROUND_PAUSE_S * 2, counter.take_away)
        else:
            waiting.rotate(-1)
        clock.after(LAST_ROUND_PAUSE_S, lambda: self._next_of_last_round(waiting))


def card_of(band: Wristband) -> bytes:
    """The id under which a wristband's taps are signed."""
    return card_id(CARD_ID_KEY, band.serial, b"")
