"""What goes wrong in a world: each kind of fault as a function that lets it happen once.

A fault *fires* when it really did something (a reset of a link that was there, a power cut of a device that was up).
Faults are spread over the safety phase by chance; one that finds nothing to break tries again a little later. A run in
which a scheduled kind never fired proves nothing about it, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from mesh.testing.device import Device
from mesh.testing.network import Connection
from mesh.testing.people import Crowd
from mesh.testing.scenario import Fault
from mesh.testing.settlement import forged_receipt
from mesh.testing.world import World

FIRST_AT: Final = 0.1
LAST_AT: Final = 0.85
"""Faults are spread over this part of the safety phase."""
LONG_LAST_AT: Final = 0.4
TAKES_LONG: Final = frozenset({Fault.TORN_TWICE})
"""What needs one visit after the other, and begins anew with somebody else when one comes to nothing: this part."""
TRIES_AGAIN_S: Final = 2.0
ASKED_FOR: Final = frozenset({Fault.WALK_AWAY, Fault.TORN_WRITE, Fault.TORN_TWICE, Fault.SETTLEMENT_POWER_CUT})
SLOW_FACTOR: Final = (10.0, 100.0)


class Faults:
    """Schedules the faults of a scenario, and ends each after its time."""

    def __init__(self, world: World, crowd: Crowd) -> None:
        self._world = world
        self._crowd = crowd
        self._random = world.chance("faults")
        self._happen: Mapping[Fault, Callable[[], bool]] = {
            Fault.LINK_RESET: self._link_reset,
            Fault.ONE_WAY: self._one_way,
            Fault.DOUBLE_LINK: self._double_link,
            Fault.PAIR_CUT: self._pair_cut,
            Fault.ZONE_DOWN: self._zone_down,
            Fault.BACKBONE_DOWN: self._backbone_down,
            Fault.UPLINK_DOWN: self._uplink_down,
            Fault.POWER_CUT: self._power_cut,
            Fault.CRASH: self._crash,
            Fault.DISK_FULL: self._disk_full,
            Fault.DISK_SLOW: self._disk_slow,
            Fault.REPLICA_LOST: self._replica_lost,
            Fault.CLOCK_JUMP: self._clock_jump,
            Fault.READER_LOST: self._reader_lost,
            Fault.READER_SWAPPED: self._reader_swapped,
            Fault.SETTLEMENT_POWER_CUT: self._settlement_power_cut,
            Fault.CARD_CLONED: crowd.clone_somebody,
            Fault.CARD_ROLLED_BACK: crowd.roll_somebody_back,
            Fault.CARD_FORGED: crowd.forge_a_balance,
            Fault.FALSE_RECEIPT: self._false_receipt,
            Fault.WALK_AWAY: crowd.walk_away,
            Fault.TORN_WRITE: crowd.tear_write,
            Fault.TORN_TWICE: crowd.tear_twice,
        }

    def schedule(self) -> None:
        """Spread what the scenario asks for over the safety phase."""
        duration = self._world.scenario.duration_s
        for name, count in self._world.scenario.faults.items():
            happen = self._happen[Fault(name)]
            latest = LONG_LAST_AT if Fault(name) in TAKES_LONG else LAST_AT
            for _ in range(count):
                moment = duration * self._random.uniform(FIRST_AT, latest)
                self._world.clock.at(moment, partial(self._try, Fault(name), happen))

    def _try(self, fault: Fault, happen: Callable[[], bool]) -> None:
        if self._world.healing:
            return
        if happen():
            # What is only asked for here (of guests, of the service's disk) is counted when it happens.
            self._world.fired[fault.value] += fault not in ASKED_FOR
            self._world.trace.note(self._world.clock.now_us, "world", fault.value)
        else:
            self._world.clock.after(TRIES_AGAIN_S, partial(self._try, fault, happen))

    def _lasts(self) -> float:
        return self._random.uniform(*self._world.scenario.fault_lasts_s)

    def _later(self, end: Callable[[], None]) -> None:
        """After the fault's time; healing ends it in any case."""
        self._world.clock.after(self._lasts(), lambda: None if self._world.healing else end())

    def _any(self, *, sells: bool = False) -> Device | None:
        running = [d for d in self._world.devices.values() if d.is_up and (d.sells or not sells) and d.is_honest]
        return self._random.choice(running) if running else None

    # -- Network ---------------------------------------------------------------------------------------------------

    def _connection(self) -> Connection | None:
        there = [connection for connection in self._world.network.connections if not connection.broken]
        return self._random.choice(there) if there else None

    def _link_reset(self) -> bool:
        connection = self._connection()
        if connection is None:
            return False
        self._world.network.reset(connection)
        return True

    def _one_way(self) -> bool:
        connection = self._connection()
        if connection is None:
            return False
        self._world.network.silence(self._random.choice(connection.ends))
        return True

    def _double_link(self) -> bool:
        connection = self._connection()
        if connection is None:
            return False
        one, other = (self._world.devices[end.owner] for end in connection.ends)
        if one.process is None or other.process is None or not self._world.network.reaches(one, other):
            return False
        near, far = self._world.network.open(
            (one, one.process, one.certificate), (other, other.process, other.certificate)
        )
        one.process.link_up(near)
        other.process.link_up(far)
        return True

    def _pair_cut(self) -> bool:
        connection = self._connection()
        if connection is None:
            return False
        pair = frozenset(end.owner for end in connection.ends)
        if len(pair) < 2 or pair in self._world.network.cut_pairs:
            return False
        self._world.network.cut_pairs.add(pair)
        self._world.network_changed()
        self._later(lambda: self._end_of(self._world.network.cut_pairs, pair))
        return True

    def _end_of(self, cuts: set[frozenset[str]], pair: frozenset[str]) -> None:
        cuts.discard(pair)
        self._world.network_changed()

    def _zone_down(self) -> bool:
        zones = [z.name for z in self._world.scenario.zones if z.name not in self._world.network.zones_down]
        return self._down(self._world.network.zones_down, zones)

    def _backbone_down(self) -> bool:
        cut = self._world.network.cut_off
        return self._down(cut, [z.name for z in self._world.scenario.zones if z.connected and z.name not in cut])

    def _down(self, down: set[str], zones: list[str]) -> bool:
        if not zones:
            return False
        zone = self._random.choice(zones)
        down.add(zone)
        self._world.network_changed()

        def up() -> None:
            down.discard(zone)
            self._world.network_changed()

        self._later(up)
        return True

    def _uplink_down(self) -> bool:
        if self._world.uplink_down or not self._world.gateways:
            return False
        self._world.uplink_down = True

        def up() -> None:
            self._world.uplink_down = False

        self._later(up)
        return True

    # -- Devices ---------------------------------------------------------------------------------------------------

    def _power_cut(self) -> bool:
        device = self._any()
        if device is None:
            return False
        device.power_cut(self._lasts())
        return True

    def _crash(self) -> bool:
        device = self._any()
        if device is None:
            return False
        device.crash()
        return True

    def _disk_full(self) -> bool:
        device = self._any(sells=True)
        if device is None:
            return False
        device.storage.health.full = True

        def space() -> None:
            device.storage.health.full = False

        self._later(space)
        return True

    def _disk_slow(self) -> bool:
        device = self._any(sells=True)
        if device is None:
            return False
        device.storage.health.slow = self._random.uniform(*SLOW_FACTOR)

        def fast() -> None:
            device.storage.health.slow = 1.0

        self._later(fast)
        return True

    def _replica_lost(self) -> bool:
        device = self._any()
        if device is None:
            return False
        device.crash()
        device.storage.lose_replica()
        return True

    def _clock_jump(self) -> bool:
        device = self._any()
        if device is None or device.process is None:
            return False
        device.clock_off_ms += self._random.choice((-1, 1)) * self._random.randint(1_000, 400 * 86_400_000)
        device.process.clock_off_ms = device.clock_off_ms
        return True

    def _may_be_lost(self) -> list[Device]:
        """Readers that work. Not those that something else is to happen to all night: it never would."""
        marked = {enrolled.certificate.name for _, enrolled in self._world.crooked}
        return [d for d in self._world.devices.values() if d.is_up and d.sells and d.certificate.name not in marked]

    def _reader_lost(self) -> bool:
        """A reader breaks for good. What only it holds is lost with it, and is named."""
        readers = self._may_be_lost()
        if len(readers) < 2:
            return False
        self._random.choice(readers).power_cut(None)
        return True

    def _reader_swapped(self) -> bool:
        """A reader dies in mid-shift, and a spare one, enrolled before doors, takes its counter."""
        readers = self._may_be_lost()
        if len(readers) < 2:
            return False
        dead = self._random.choice(readers)
        roles = tuple(sorted(dead.certificate.roles, key=lambda role: role.value))
        spare = self._world.spare(dead.zone, *roles)
        if spare is None:
            return False
        dead.power_cut(None)
        spare.boot()
        self._crowd.counter_moved(dead, spare)
        return True

    def _false_receipt(self) -> bool:
        """Somebody on the uplink answers in the service's place: with its signature, or with a stolen reader's key."""
        bar = self._any(sells=True)
        if bar is None or not self._world.gateways:
            return False
        impostor = bar.enrolled if self._random.random() < 0.5 else None
        self._world.settlement.forges.append(partial(forged_receipt, impostor=impostor))
        return True

    def _settlement_power_cut(self) -> bool:
        if self._world.settlement.ledger is None or not self._world.gateways:
            return False
        self._world.settlement.cut_power(self._random.uniform(1.0, 10.0))
        return True
