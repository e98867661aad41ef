"""A whole venue in virtual time, from a scenario and a seed: devices, network, people, faults, settlement.

::

    with World(load_scenario(path), seed=7) as world:
        world.play()             # the safety phase: people buy, things go wrong
        world.come_together()    # the liveness phase: all is healed, and within a bound all must be the same
        found = examine(world)   # mesh.testing.checks

Nothing here reads a clock or draws chance but from the seed; the same seed is the same run, byte for byte.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from mesh.core import overlay_events
from mesh.core.chain import Run
from mesh.core.frontier import Frontier, Position
from mesh.core.kinds import Operation, Role
from mesh.limits import BRANCHES_PER_LOG_MAX
from mesh.testing.clock import Clock
from mesh.testing.company import accepted
from mesh.testing.counter import stored_rows
from mesh.testing.device import Device
from mesh.testing.memo import shared_runs
from mesh.testing.network import ON_THE_WAY, Network, Quality
from mesh.testing.process import Process
from mesh.testing.scenario import Adversary, Fault, Scenario, Zone, drawn
from mesh.testing.settlement import Gateway, Settlement
from mesh.testing.signatures import cheap_signatures, shared_verification
from mesh.testing.starter import Starter
from mesh.testing.store import Pieces
from mesh.testing.trace import Trace
from mesh.testing.venue import Venue, VenueDevice
from mesh.testing.wristband import Wristband
from mesh.views.cards import Conflict, Sharing
from reader.intent import Intent
from reader.tap_events import Amber, Green, Notice, Red, Screen

SLOW_LINK: Final = Quality(latency_ms=(20.0, 120.0), loss=0.02, rate_kbit_s=200.0)
OFFICE: Final = "office"
POWER_ON_S: Final = 2.0
FORGET_S: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Paid:
    """A green light, or the notice after a restart that stands for one."""

    device: str
    card: bytes
    operation: Operation
    amount_minor: int
    at_s: float


@dataclass(slots=True)
class Truth:
    """What people saw and what really happened, kept apart from every log: the oracle."""

    paid: dict[bytes, Paid] = field(default_factory=dict)
    """By tap id."""
    consumed: dict[bytes, bytes] = field(default_factory=dict)
    """Which order was first to be paid with a state of a wristband, by 12 bytes of a hash over card and record."""
    double_spent: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    """Pairs of orders, both shown as paid on honest devices, with one state of one wristband: its card."""
    shown_twice: list[bytes] = field(default_factory=list)
    declined: Tally[str] = field(default_factory=Tally)
    notices: Tally[str] = field(default_factory=Tally)
    copied_cards: set[bytes] = field(default_factory=set)
    """Cards of which there was a copy or a rollback: these may be in conflict."""
    surfaced: dict[str, dict[bytes, float]] = field(default_factory=dict)
    """By device, when each card's conflict was first proven there."""
    blamed: list[tuple[str, str, str]] = field(default_factory=list)
    """Who closed a link to whom, and why: (device, peer, reason)."""
    visible_too_early: list[tuple[str, str]] = field(default_factory=list)
    sent: Tally[str] = field(default_factory=Tally)
    """Entries put on wires, by receiving device."""
    refused_for_network: int = 0
    rolled_away: set[bytes] = field(default_factory=set)
    """Tap ids of orders whose entry was lost with a device's newer own store when an older backup was put back, before
    two other devices had it for good. Nobody can bring those back, and no check asks for them."""
    let_pass: list[tuple[str, str, str]] = field(default_factory=list)
    """Who kept a link over which a rule had been broken: (device, liar, what the liar did)."""
    revoked: dict[int, dict[bytes, Position]] = field(default_factory=dict)
    """The authority's words, once they are durable at the office: by serial number, the cut."""
    bands: list[Wristband] = field(default_factory=list)
    """Everybody's wristbands, as they left the box."""
    forged_slots: set[bytes] = field(default_factory=set)
    """What guests wrote onto wristbands by themselves."""
    sold_to_forged: list[str] = field(default_factory=list)
    """Devices that showed green for a wristband whose record no reader ever sealed."""


class World:
    """See the module's docstring."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        tell: Callable[[str], None] | None = None,
        directory: Path | None = None,
    ) -> None:
        scenario = self.scenario = drawn(scenario, seed)
        self.seed = seed
        self.random = random.Random(f"{scenario.name}/{seed}")
        self.clock = Clock()
        self.trace = Trace(tell)
        self.pieces = Pieces()
        self.sharing = Sharing()
        self.truth = Truth()
        self.fired: Tally[str] = Tally()
        """How often each kind of fault, and each adversary, has really done something."""
        self.tick_s = scenario.tick_s
        self.network = Network(self.clock, self.chance("network"), scenario.network, scenario.backbone)
        self.uplink_down = False
        self.healing = False
        self.watches: list[Callable[[str, Run, bool], None]] = []
        """Told of every run that a device took in: its name, the run, and whether it is the device's own."""
        """The safety phase is over: nothing goes wrong any more."""
        self.people: PeopleLike | None = None
        self.together_at: float | None = None
        """When, after healing, everybody held the same."""
        self.healed_at = 0.0
        self._resources = ExitStack()
        real = self.chance("signatures").random() < scenario.real_signatures
        self._resources.enter_context(shared_verification() if real else cheap_signatures())
        self._resources.enter_context(shared_runs())
        if directory is None:
            directory = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="tapmesh-sim-")))
        self.venue = Venue(f"{scenario.name} {seed}")
        self.devices: dict[str, Device] = {}
        self._zones: dict[str, list[Device]] | None = None
        self.gateways: dict[str, Gateway] = {}
        self.every_gateway: list[Gateway] = []
        self._on_boot: dict[str, Callable[[Device, Process], None]] = {}
        self.office = self._add(OFFICE, scenario.zones[0].name, Role.MANAGER)
        self._add_everybody()
        settled = self.venue.device("settlement", Role.SETTLEMENT)
        swaps = scenario.faults.get(Fault.READER_SWAPPED.value, 0)
        self._drawer = [self.venue.device(f"spare bar {at + 1}", Role.READER) for at in range(swaps)]
        self._drawer += [self.venue.device(f"spare till {at + 1}", Role.READER, Role.TILL) for at in range(swaps)]
        self.settlement = Settlement(
            self.clock,
            self.chance("settlement"),
            settled,
            directory,
            power_cuts=Fault.SETTLEMENT_POWER_CUT.value in scenario.faults,
        )
        self.settlement.power_went = lambda: self.fired.update([Fault.SETTLEMENT_POWER_CUT.value])
        self._resources.callback(self.settlement.close)
        self.clock.after(FORGET_S, self._forget)
        self.crooked = [(Adversary(kind), self._enrol_for(kind, at)) for kind, at in _each(scenario.adversaries)]
        """Who is enrolled before doors like everybody else, and then behaves badly (mesh.testing.adversaries)."""
        enrolled = [d.enrolled for d in self.devices.values()] + self._drawer + [device for _, device in self.crooked]
        self.starter = Starter(self.office.enrolled, scenario, enrolled, settled)
        for device in self.devices.values():
            self.starter.give_to(device)

    def _forget(self) -> None:
        """What views share stays shared; what nobody has any more is let go."""
        self.sharing.known.clear()
        self.clock.after(FORGET_S, self._forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.close()

    def chance(self, what: str) -> random.Random:
        """A source of chance of its own for each part, so that one more draw in one does not change all others."""
        return random.Random(f"{self.scenario.name}/{self.seed}/{what}")

    # -- Devices ---------------------------------------------------------------------------------------------------

    def _add_everybody(self) -> None:
        for zone in self.scenario.zones:
            for at in range(zone.tills):
                self._add(f"till {zone.name} {at + 1}", zone.name, Role.TILL, Role.READER)
            for at in range(zone.readers):
                self._add(f"bar {zone.name} {at + 1}", zone.name, Role.READER)
            for at in range(zone.gateways):
                self._add(f"gateway {zone.name} {at + 1}", zone.name, Role.GATEWAY)
            if not zone.connected:
                self.network.cut_off.add(zone.name)
        for at, courier in enumerate(self.scenario.couriers):
            self._add(f"courier {at + 1}", courier.route[0], Role.COURIER)
        slow = self.chance("slow links").sample(sorted(self.devices), min(self.scenario.slow_links, len(self.devices)))
        for name in slow:
            self.devices[name].network_quality = SLOW_LINK

    def _add(self, name: str, zone: str, *roles: Role) -> Device:
        return self.add_device(self.venue.device(name, *roles), zone)

    def add_device(self, enrolled: VenueDevice, zone: str, name: str | None = None) -> Device:
        """A device of the venue, switched off; `name` for a second box with the keys of another."""
        name = enrolled.certificate.name if name is None else name
        device = Device(
            self,
            enrolled,
            zone,
            self.chance(f"device {name}"),
            fsync_ms=self.scenario.disk.fsync_ms,
            links_wanted=self.scenario.links_wanted,
            name=name,
        )
        self.devices[name] = device
        self.somebody_moved()
        return device

    def _enrol_for(self, kind: str, at: int) -> VenueDevice:
        role = Role.GATEWAY if kind == Adversary.WITHHOLDING_GATEWAY.value else Role.READER
        return self.venue.device(f"{kind.replace('_', ' ')} {at + 1}", role)

    def spare(self, zone: str, *roles: Role) -> Device | None:
        """A device that was enrolled before doors and lies in a drawer; None when the drawer is empty."""
        found = next((one for one in self._drawer if one.certificate.roles == frozenset(roles)), None)
        if found is None:
            return None
        self._drawer.remove(found)
        device = self.add_device(found, zone)
        self.starter.give_to(device)
        return device

    def on_boot(self, name: str, then: Callable[[Device, Process], None]) -> None:
        """What else begins with each start of a device: an adversary's doings."""
        self._on_boot[name] = then

    def make_process(self, device: Device) -> Process:
        process = device.program(self, device.enrolled, device.storage, device.zone, device.chance)
        process.name = device.name
        process.clock_off_ms = device.clock_off_ms
        if Role.COURIER in device.certificate.roles:
            process.node.zone_bound = True
        return process

    def booted(self, device: Device) -> None:
        process = device.process
        assert process is not None
        if Role.GATEWAY in device.certificate.roles:
            gateway = Gateway(
                process,
                self.settlement,
                device.chance,
                lambda: not self.uplink_down and device.zone not in self.network.zones_down,
                self.scenario.gateway_poll_s,
            )
            self.gateways[device.name] = gateway
            self.every_gateway.append(gateway)
        then = self._on_boot.get(device.name)
        if then is not None:
            then(device, process)
        if self.people is not None:
            self.people.booted(device)
        self.network_changed(device.zone)

    def peers(self, device: Device, *, across: bool) -> list[Device]:
        near = self._in_zones().get(device.zone, ())
        return [
            other
            for other in (self.devices.values() if across else near)
            if other.certificate.serial != device.certificate.serial  # neither itself nor a copy of itself
            and other.is_up
            and self.network.reaches(device, other)
            and accepted(device, other)
        ]

    def _in_zones(self) -> dict[str, list[Device]]:
        """Who is where; looked up anew after somebody has moved or come."""
        if self._zones is None:
            self._zones = {}
            for device in self.devices.values():
                self._zones.setdefault(device.zone, []).append(device)
        return self._zones

    def somebody_moved(self) -> None:
        self._zones = None

    def network_changed(self, zone: str | None = None) -> None:
        """Connections that are not carried any more break; whoever lacks company looks for it.

        Where only one zone changed, only its devices do, and those that link zones.
        """
        self.network.enforce(self.devices.__getitem__)
        near = self.devices.values() if zone is None else self._in_zones().get(zone, ())
        for device in near:
            device.look_soon()
        if zone is not None:
            for name in self.gateways:
                self.devices[name].look_soon()

    @property
    def honest(self) -> list[Device]:
        return [device for device in self.devices.values() if device.is_honest]

    # -- What is told ----------------------------------------------------------------------------------------------

    def screen(self, device: Device, screen: Screen) -> None:
        match screen:
            case Green(intent=intent):
                if intent.witness in self.truth.forged_slots:
                    self.truth.sold_to_forged.append(device.name)
                self._paid(device, intent)
            case Red(refusal=refusal):
                self.truth.declined[refusal.reason.value] += 1
            case Amber(notice=notice):
                self.truth.notices[notice.value] += 1
                if notice is Notice.PAID_BEFORE_RESTART:
                    self._paid_before(device, screen)
            case _:
                pass
        self.trace.note(self.clock.now_us, device.name, f"shows {type(screen).__name__}")
        if self.people is not None:
            self.people.saw(device, screen)

    def _paid(self, device: Device, intent: Intent) -> None:
        tap_id = intent.tap_id
        if tap_id in self.truth.paid:
            # "PAID: serve" again, after a restart or for a wristband that came back: the same order, no second debit.
            self.truth.shown_twice.append(tap_id)
            return
        paid = Paid(device.name, intent.card, intent.operation, intent.amount_minor, self.clock.now)
        self.truth.paid[tap_id] = paid
        if device.is_honest:
            consumed = hashlib.sha256(intent.card + intent.witness).digest()[:12]
            first = self.truth.consumed.setdefault(consumed, tap_id)
            if first != tap_id:
                self.truth.double_spent[tap_id, first] = intent.card

    def _paid_before(self, device: Device, notice: Amber) -> None:
        _, committed, intent = stored_rows(device.storage.own)[notice.tap_id]
        assert committed, "what is paid is on the disk"
        self._paid(device, intent)

    def surfaced(self, device: str, conflict: Conflict) -> None:
        self.truth.surfaced.setdefault(device, {}).setdefault(conflict.card, self.clock.now)
        self.trace.note(self.clock.now_us, device, "conflict", conflict.card)

    def broke_a_rule(self, device: str, peer: str, reason: str) -> None:
        self.truth.blamed.append((device, peer, reason))
        self.trace.note(self.clock.now_us, device, f"blames {peer}: {reason}")

    def tell_company(self, device: str, event: overlay_events.Event) -> None:
        company = self.devices[device].company
        if company is not None:
            company.handle(event)

    def sends_run(self, device: str, to: str, log_id: bytes, last_seq: int, count: int) -> None:
        self.truth.sent[to] += count
        sender = self.devices[device]
        if sender.is_honest and sender.process is not None and log_id in sender.process.own_logs:
            durable = sender.storage.own.height(log_id)
            if durable is None or last_seq > durable:
                self.truth.visible_too_early.append((device, to))

    def took_in(self, device: str, run: Run, *, is_own: bool) -> None:
        for watch in self.watches:
            watch(device, run, is_own)

    # -- Phases ----------------------------------------------------------------------------------------------------

    def switch_on(self) -> None:
        """Everybody is switched on within the first seconds, and couriers begin to walk."""
        chance = self.chance("switching on")
        for device in list(self.devices.values()):
            self.clock.after(chance.uniform(0.0, POWER_ON_S), device.boot)
        for zone in self.scenario.zones:
            if zone.down_s[0] > 0:
                rhythm = self.chance(f"rhythm of {zone.name}")
                # Zones begin somewhere in their rhythm, not all at once.
                self.clock.after(rhythm.uniform(0.0, zone.up_s[1] + zone.down_s[1]), partial(self._down, zone, rhythm))
        for at, courier in enumerate(self.scenario.couriers):
            self._walk(self.devices[f"courier {at + 1}"], courier.route, 0, courier.dwell_s, courier.walk_s)

    def _down(self, zone: Zone, rhythm: random.Random) -> None:
        if not self.healing:
            self.fired[Fault.ZONE_DOWN.value] += 1
            self.network.zones_down.add(zone.name)
            self.network_changed(zone.name)
            self.clock.after(rhythm.uniform(*zone.down_s), partial(self._up, zone, rhythm))

    def _up(self, zone: Zone, rhythm: random.Random) -> None:
        if not self.healing:
            self.network.zones_down.discard(zone.name)
            self.network_changed(zone.name)
            self.clock.after(rhythm.uniform(*zone.up_s), partial(self._down, zone, rhythm))

    def _walk(self, device: Device, route: tuple[str, ...], at: int, dwell_s: float, walk_s: float) -> None:
        def arrive() -> None:
            device.walk_to(route[at % len(route)])
            self.clock.after(device.chance.uniform(0.5, 1.5) * dwell_s, leave)

        def leave() -> None:
            # Between two zones nobody is reached.
            device.walk_to(f"{ON_THE_WAY} from {route[at % len(route)]}")
            self._walk(device, route, at + 1, dwell_s, walk_s)

        self.clock.after(device.chance.uniform(0.5, 1.5) * walk_s if at else POWER_ON_S, arrive)

    def heal(self) -> None:
        """Everything that went wrong is put right; who is lost for good stays lost."""
        self.healing = True
        self.healed_at = self.clock.now
        self.trace.note(self.clock.now_us, "world", "heal")
        self.network.zones_down.clear()
        self.network.cut_pairs.clear()
        self.network.cut_off = {zone.name for zone in self.scenario.zones if not zone.connected}
        self.uplink_down = False
        for device in self.devices.values():
            device.storage.health.full = False
            device.storage.health.slow = 1.0
        for connection in list(self.network.connections):
            if any(end.silent for end in connection.ends):
                self.network.reset(connection)
        self.network_changed()

    def is_together(self) -> bool:
        """Whether every honest device is up, idle, and holds what all others hold, and settlement has it all."""
        honest = [device for device in self.honest if not device.gone]
        if any(device.process is None or device.process.is_busy for device in honest):
            return False
        if len(self.digests(honest)) != 1:
            return False
        return all(gateway.remaining() == 0 for gateway in self.running_gateways())

    def running_gateways(self) -> list[Gateway]:
        """The senders of honest gateways that run now."""
        return [
            gateway
            for name, gateway in self.gateways.items()
            if self.devices[name].is_up and self.devices[name].is_honest and gateway.withholds is None
        ]

    def still_open(self) -> str:
        """What keeps the venue from being together, in words."""
        honest = [device for device in self.honest if not device.gone]
        down = [device.name for device in honest if device.process is None]
        busy = [device.name for device in honest if device.process is not None and device.process.is_busy]
        waiting = sum(gateway.remaining() for gateway in self.running_gateways())
        return (
            f"{len(self.digests(honest))} different sets of logs, {len(down)} devices down, {len(busy)} busy, "
            f"{waiting} entries not settled"
        )

    def digests(self, devices: Iterable[Device]) -> set[bytes]:
        frontiers = [device.process.node.frontier for device in devices if device.process is not None]
        return {held_in(frontier, self.overflowing()) for frontier in frontiers}

    def overflowing(self) -> frozenset[bytes]:
        """Logs of which a liar signed more branches than an honest device keeps.

        What overflows stays where it was received, and is named there (DESIGN.md, "Sync"; ADR 43): of these logs, and
        of no others, two devices may hold different branches.
        """
        liars = {device.certificate.serial for device in self.devices.values() if not device.is_honest}
        return frozenset(
            log_id
            for device in self.honest
            if liars and device.process is not None
            for log_id, log in device.process.node.frontier.logs.items()
            if len(log.branches) >= BRANCHES_PER_LOG_MAX and log.genesis.certificate.serial in liars
        )


def held_in(frontier: Frontier, without: frozenset[bytes]) -> bytes:
    """What the digest of a frontier would be if it held nothing of some logs; equal for equal sets of the rest."""
    if not without:
        return frontier.digest()
    logs = (frontier.logs[log_id].summary() for log_id in sorted(frontier.logs.keys() - without))
    return hashlib.sha256(repr([(log.log_id, log.heads, log.islands) for log in logs]).encode()).digest()


def _each(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((kind, at) for kind, count in sorted(counts.items()) for at in range(count))


class PeopleLike(Protocol):
    """What the world tells the people in it; :class:`mesh.testing.people.People` has it."""

    def booted(self, device: Device) -> None: ...

    def saw(self, device: Device, screen: Screen) -> None: ...
