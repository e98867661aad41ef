"""Devices that behave badly for a whole run, each kind as a scenario counts it (`[adversaries] forger = 1`).

Each is one device more, enrolled before doors like all others. All of them are bars that guests go to, but for the
gateway. What each does is in its file; what must hold all the same is in :mod:`mesh.testing.checks`:

* :mod:`two_faced`: the equivocator.
* :mod:`signers`: the forger, the brancher.
* :mod:`talkers`: the liar about its frontier, the silent announcer, the flooder.
* :mod:`breakers`: the rule breaker; the puppet, whose signer remembers.
* :mod:`swindler`: the swindler, who signs whatever might bring money.
* :mod:`keys`: the revoked device that goes on; a backup put back and a card storage copied, which are no crimes.
* here: the gateway that withholds logs.
"""

from __future__ import annotations

from typing import Final

from mesh.core.kinds import Role
from mesh.testing.adversaries.breakers import Puppet, RuleBreaker
from mesh.testing.adversaries.crooked import Crooked
from mesh.testing.adversaries.keys import GoesOn, copy_in_time, restore_in_time, revoke_in_time
from mesh.testing.adversaries.signers import Brancher, Forger
from mesh.testing.adversaries.swindler import Swindler
from mesh.testing.adversaries.talkers import Flooder, FrontierLiar, SilentAnnouncer
from mesh.testing.adversaries.two_faced import Equivocator, walks
from mesh.testing.device import Device
from mesh.testing.people import Crowd
from mesh.testing.process import Process
from mesh.testing.scenario import Adversary, BadScenario
from mesh.testing.world import World

PROGRAMS: Final[dict[Adversary, type[Crooked]]] = {
    program.kind: program
    for program in (
        Equivocator,
        Forger,
        FrontierLiar,
        SilentAnnouncer,
        Flooder,
        Brancher,
        GoesOn,
        RuleBreaker,
        Swindler,
        Puppet,
    )
}
HONEST: Final = frozenset({Adversary.RESTORED_BACKUP, Adversary.CLONED_CARD_STORAGE, Adversary.PUPPET})
"""Kinds whose device signs nothing that it should not: nobody may hold anything against it."""
NEEDS_GUESTS: Final = frozenset({Adversary.EQUIVOCATOR, Adversary.FORGER, Adversary.REVOKED, Adversary.PUPPET})
GUESTS_EVERY_S: Final = (4.0, 12.0)
HONEST_NEIGHBOURS: Final = 2
WITHHOLDS: Final = 0.5
"""Share of the logs that a dishonest gateway keeps to itself."""


def let_in(world: World, crowd: Crowd) -> None:
    """Make the scenario's adversaries a part of the world, before it is switched on."""
    if not world.crooked:
        return
    chance = world.chance("adversaries")
    # Where there is money on wristbands, and somebody else to lie to.
    zones = [zone.name for zone in world.scenario.zones if zone.readers and zone.tills]
    zones = zones or [zone.name for zone in world.scenario.zones]
    for kind, enrolled in world.crooked:
        is_gateway = kind is Adversary.WITHHOLDING_GATEWAY
        device = world.add_device(enrolled, chance.choice(_gateway_zones(world) if is_gateway else zones))
        world.starter.give_to(device)
        device.is_honest = kind in HONEST
        if kind in PROGRAMS:
            device.program = PROGRAMS[kind]
        if not is_gateway:
            crowd.opens(device)
        _plan(world, crowd, kind, device, chance.choice(zones))
        if kind in NEEDS_GUESTS:
            _send_guests(world, crowd, kind, device)
    _link_past_liars(world)


def _link_past_liars(world: World) -> None:
    """Where a scenario has many liars in few devices, four links could be liars alone, and no protocol helps against
    that; where they are few among many, rotation sees to it."""
    for device in world.devices.values():
        liars = sum(other.zone == device.zone and not other.is_honest for other in world.devices.values())
        device.links_wanted = max(device.links_wanted, liars + HONEST_NEIGHBOURS)


def _send_guests(world: World, crowd: Crowd, kind: Adversary, bar: Device) -> None:
    """Who can do nothing without having sold something gets a guest now and then, until it has done it."""
    chance = world.chance(f"guests of {bar.name}")

    def send() -> None:
        if world.healing or world.fired[kind.value] >= world.scenario.adversaries[kind.value]:
            return
        crowd.sends_somebody(bar)
        world.clock.after(chance.uniform(*GUESTS_EVERY_S), send)

    world.clock.after(chance.uniform(*GUESTS_EVERY_S), send)


def _plan(world: World, crowd: Crowd, kind: Adversary, device: Device, elsewhere: str) -> None:
    """What happens at a moment of the run."""
    match kind:
        case Adversary.EQUIVOCATOR:
            walks(world, device)
        case Adversary.REVOKED:
            revoke_in_time(world, device)
        case Adversary.RESTORED_BACKUP:
            restore_in_time(world, device)
        case Adversary.CLONED_CARD_STORAGE:
            copy_in_time(world, crowd, device, elsewhere)
        case Adversary.WITHHOLDING_GATEWAY:
            _withhold(world, device)
        case _:
            pass


def _gateway_zones(world: World) -> list[str]:
    """Where honest gateways are: a venue whose only gateway withholds does not settle, and no check asks for it."""
    zones = [d.zone for d in world.devices.values() if Role.GATEWAY in d.certificate.roles and d.is_honest]
    if not zones:
        raise BadScenario("a gateway that withholds is to be made good for by an honest one: there is none")
    return zones


def _withhold(world: World, gateway: Device) -> None:
    chance = world.chance(f"adversary {gateway.name}")
    kept: dict[bytes, bool] = {}

    def withholds(log_id: bytes) -> bool:
        if log_id not in kept:
            kept[log_id] = chance.random() < WITHHOLDS
            world.fired[Adversary.WITHHOLDING_GATEWAY.value] += kept[log_id]
        return kept[log_id]

    def begin(device: Device, process: Process) -> None:
        world.gateways[device.name].withholds = withholds

    world.on_boot(gateway.name, begin)
