"""How fast and how often entries travel among 300 readers on a bad network; prints JSON. See README.md."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mesh.core.chain import Run
from mesh.core.kinds import Operation, Role
from mesh.core.messages import Announce, Message, RunMessage, decode_message
from mesh.testing.device import Device
from mesh.testing.faults import Faults
from mesh.testing.network import Quality
from mesh.testing.people import Crowd, Visit, card_of
from mesh.testing.scenario import Courier, People, Scenario, Zone
from mesh.testing.world import World
from mesh.testing.wristband import Wristband

READERS: Final = 300
TILLS_SHARE: Final = 0.3
QUALITY: Final = Quality(latency_ms=(2.0, 8.0), loss=0.02, stall_ms=200.0)
DOORS_S: Final = 95.0
WARM_UP_S: Final = 122.0
"""From switching on: links have settled, and every reader's log has begun."""
TWIN_PRICE: Final = 100
LATE_S: Final = 5.0
"""Entries of the last seconds may still be on their way."""


class Travels:
    """When each entry was on its author's disk, and how long it took to each other device."""

    def __init__(self, world: World, since_s: float, until_s: float) -> None:
        self._world = world
        self._since, self._until = since_s, until_s
        self.born: dict[bytes, float] = {}
        self.written: dict[tuple[bytes, int], float] = {}
        """By log and seq: when it was on its author's disk."""
        self.delays: list[float] = []
        self.entry_bytes = 0
        world.watches.append(self.took_in)

    def took_in(self, device: str, run: Run, is_own: bool) -> None:
        now = self._world.clock.now
        if is_own:
            self.written |= {(run.log_id, run.first_seq + at): now for at in range(len(run.ids))}
            if self._since <= now < self._until:
                self.born |= dict.fromkeys(run.ids, now)
            return
        if self._since <= now < self._until:
            self.entry_bytes += sum(map(len, run.entries))
        self.delays += [now - self.born[identifier] for identifier in run.ids if identifier in self.born]


class Traffic:
    """What is on the wires, by kind of message."""

    def __init__(self, world: World) -> None:
        self.bytes: dict[str, int] = {}
        self.entries = 0
        self.announced = 0
        self.counting = False
        world.network.watches.append(self._count)

    def _count(self, data: bytes) -> None:
        while self.counting and data:
            size = 4 + int.from_bytes(data[:4], "big")
            self._message(decode_message(data[4:size]), size)
            data = data[size:]

    def _message(self, message: Message, size: int) -> None:
        name = type(message).__name__
        self.bytes[name] = self.bytes.get(name, 0) + size
        match message:
            case RunMessage():
                self.entries += message.count
            case Announce(heads):
                self.announced += len(heads)
            case _:
                pass


def scenario(readers: int, taps_per_s: float, seconds: float) -> Scenario:
    tills = round(readers * TILLS_SHARE)
    zone = Zone("field", readers=readers - tills - 1, tills=tills)
    return Scenario(
        name="scale",
        zones=(zone,),
        duration_s=WARM_UP_S + seconds,
        people=People(
            count=round(12 * taps_per_s),
            taps_per_s=taps_per_s,
            top_up_cents=(20_000, 40_000),
            price_cents=(300, 900),
            cancels=0.0,
            walks_away=0.0,
        ),
        network=QUALITY,
    )


class Twins:
    """Now and then a wristband and its copy are held to two bars at one moment, before either can have heard."""

    def __init__(self, world: World, crowd: Crowd, count: int, since_s: float, until_s: float) -> None:
        self._world, self._crowd, self._random = world, crowd, world.chance("twins")
        for _ in range(count):
            world.clock.at(self._random.uniform(since_s, until_s), self._meet)

    def _meet(self) -> None:
        crowd, chance = self._crowd, self._random
        able = [one for one in crowd.attendees if one.balance_minor > TWIN_PRICE and not one.is_busy]
        bars = [
            device
            for device in self._world.devices.values()
            if device.counter is not None
            and device.name not in crowd.visits
            and Role.TILL not in device.certificate.roles
        ]
        if not able or len(bars) < 2:
            self._world.clock.after(0.2, self._meet)
            return
        guest = chance.choice(able)
        guest.is_busy = guest.is_thief = True
        copy = guest.band.copy()
        self._world.truth.copied_cards.add(card_of(guest.band))
        for bar, band in zip(chance.sample(bars, 2), (guest.band, copy), strict=True):
            crowd.visits[bar.name] = Visit(guest, bar, Operation.SALE, TWIN_PRICE)
            self._hold(bar, band)

    def _hold(self, bar: Device, band: Wristband) -> None:
        clock, counter = self._world.clock, bar.counter
        assert counter is not None
        counter.ring(Operation.SALE, TWIN_PRICE)
        clock.after(0.1, lambda: counter.hold(band))
        clock.after(1.0, counter.take_away)
        clock.after(1.1, lambda: self._over(bar))

    def _over(self, bar: Device) -> None:
        self._crowd.visits.pop(bar.name, None)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 1) if ordered else 0.0


def measure(readers: int, taps_per_s: float, clones: int, seconds: float, seed: int) -> dict[str, object]:
    played = scenario(readers, taps_per_s, seconds)
    until = WARM_UP_S + seconds
    with World(played, seed) as world:
        crowd = Crowd(world, played.people)
        world.people = crowd
        travels, traffic = Travels(world, WARM_UP_S, until), Traffic(world)
        world.switch_on()
        world.clock.at(DOORS_S, crowd.open_doors)
        Twins(world, crowd, clones, WARM_UP_S, until - 1.0)
        began = time.perf_counter()
        world.clock.run_until(WARM_UP_S)
        traffic.counting = True
        paid, stalls, network_bytes = len(world.truth.paid), world.network.counts.stalls, world.network.counts.bytes
        world.clock.run_until(until)
        traffic.counting = False
        paid, stalls = len(world.truth.paid) - paid, world.network.counts.stalls - stalls
        network_bytes = world.network.counts.bytes - network_bytes
        accepted, entry_bytes = len(travels.delays), travels.entry_bytes
        world.clock.run_until(until + LATE_S)
        others = len(world.devices) - 1
        degrees = [len(device.process.links) for device in world.devices.values() if device.process is not None]
        pairs = len(travels.born) * others
        taken = sum(traffic.bytes.values())
        surfaced = conflicts(world, travels)
        return {
            "devices": len(world.devices),
            "links_per_device": {
                "mean": round(statistics.mean(degrees), 2),
                "least": min(degrees),
                "most": max(degrees),
            },
            "paid_per_s": round(paid / seconds, 1),
            "entries_born_per_s": round(len(travels.born) / seconds, 1),
            "stalls_per_s": round(stalls / seconds),
            "delay_ms": {
                "p50": percentile(travels.delays, 0.5),
                "p90": percentile(travels.delays, 0.9),
                "p99": percentile(travels.delays, 0.99),
                "p99_9": percentile(travels.delays, 0.999),
                "most": percentile(travels.delays, 1.0),
            },
            "pairs": pairs,
            "pairs_never": pairs - len(travels.delays),
            "pairs_within_500_ms": round(sum(delay <= 0.5 for delay in travels.delays) / max(1, pairs), 5),
            "copies": round(traffic.entries / max(1, accepted), 4),
            "session_bytes_per_entry_byte": round(network_bytes / max(1, entry_bytes), 3),
            "mean_entry_bytes": round(entry_bytes / max(1, accepted), 1),
            "bytes_by_message": {name: round(size / max(1, taken), 4) for name, size in sorted(traffic.bytes.items())},
            "conflict_ms": surfaced,
            "wall_s": round(time.perf_counter() - began),
        }


def conflicts(world: World, travels: Travels) -> dict[str, float]:
    """From the second tap on its author's disk until each device has proven the conflict, offline."""
    some = next(device.process for device in world.devices.values() if device.process is not None)
    seconds: dict[bytes, float] = {}
    for conflict in some.cards.all_conflicts():
        written = sorted(travels.written[tap.log_id, tap.seq] for tap in conflict.taps)
        seconds[conflict.card] = min(written[1], seconds.get(conflict.card, written[1]))
    delays = [
        surfaced[card] - second
        for card, second in seconds.items()
        if second < world.scenario.duration_s
        for surfaced in (world.truth.surfaced.get(name, {}) for name in world.devices)
        if card in surfaced
    ]
    missing = len(seconds) * len(world.devices) - len(delays)
    return {
        "conflicts": len(seconds),
        "devices_that_did_not_prove": missing,
        "p50": percentile(delays, 0.5),
        "p99": percentile(delays, 0.99),
        "most": percentile(delays, 1.0),
    }


class Contacts:
    """When a courier had its first link in a zone, at each of its stays; and when it took in which entry."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.met: dict[str, list[float]] = {}
        self.carried: dict[tuple[bytes, int], float] = {}
        self._stay = ""
        world.watches.append(self.took_in)
        self._look()

    def took_in(self, device: str, run: Run, is_own: bool) -> None:
        if device == COURIER and not is_own:
            for at in range(len(run.ids)):
                self.carried.setdefault((run.log_id, run.first_seq + at), self._world.clock.now)

    def _look(self) -> None:
        """A millisecond is as exact as anything here needs to be."""
        courier = self._world.devices[COURIER]
        if courier.zone != self._stay:
            self._stay = courier.zone if courier.process is not None and courier.process.links else ""
            if self._stay:
                self.met.setdefault(self._stay, []).append(self._world.clock.now)
        self._world.clock.after(0.001, self._look)


COURIER: Final = "courier 1"


def measure_courier(seconds: float, seed: int) -> dict[str, object]:
    """Two zones that only a courier joins: from its first link there until every device has proven the conflict."""
    played = Scenario(
        name="contact",
        zones=tuple(Zone(name, readers=10, tills=2, connected=False) for name in ("north", "forest")),
        couriers=(Courier(("north", "forest"), dwell_s=20.0, walk_s=10.0),),
        duration_s=seconds,
        people=People(count=120, taps_per_s=6.0, moves=0.5, top_up_cents=(20_000, 40_000), clone_pace_s=(2.0, 20.0)),
        network=QUALITY,
        faults={"card_cloned": 25},
    )
    with World(played, seed) as world:
        crowd = Crowd(world, played.people)
        world.people = crowd
        travels, contacts = Travels(world, 0.0, 0.0), Contacts(world)
        world.switch_on()
        world.clock.at(DOORS_S, crowd.open_doors)
        Faults(world, crowd).schedule()
        world.clock.run_until(seconds + 60.0)
        delays: list[float] = []
        cards: set[bytes] = set()
        some = world.devices[COURIER].process
        assert some is not None
        for conflict in some.cards.all_conflicts():
            places = [(tap.log_id, tap.seq) for tap in conflict.taps]
            for device in world.devices.values():
                proven = world.truth.surfaced.get(device.name, {}).get(conflict.card)
                if device.name == COURIER or proven is None or len(conflict.taps) != 2:
                    continue
                known = [contacts.carried[place] for place in places]
                latest = max(travels.written[place] for place in places)
                came = next((met for met in contacts.met.get(device.zone, ()) if met >= max(min(known), latest)), None)
                # Only what this contact brought: both taps were written before it, and it was not known before it.
                if came is not None and came <= proven <= came + 20.0 and max(known) <= proven:
                    delays.append(proven - max(came, latest))
                    cards.add(conflict.card)
        return {
            "contacts": sum(map(len, contacts.met.values())),
            "conflicts": len(cards),
            "pairs": len(delays),
            "p50_ms": percentile(delays, 0.5),
            "p99_ms": percentile(delays, 0.99),
            "most_ms": percentile(delays, 1.0),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument("--taps", type=float, default=100.0)
    parser.add_argument("--clones", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--courier-seconds", type=float, default=400.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = {
        "courier": measure_courier(given.courier_seconds, given.seed),
        **measure(given.readers, given.taps, given.clones, given.seconds, given.seed),
    }
    print(json.dumps({**result, "machine": f"{platform.machine()}, Python {platform.python_version()}"}, indent=1))


if __name__ == "__main__":
    main()
