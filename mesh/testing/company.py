"""How a device of a world finds company: the product's policy (:mod:`mesh.core.overlay`), and what carries it out here.

Discovery tells of whoever runs and can be reached, and tells again when that one was started anew or is in another
zone; it says nothing of a power cut. A handshake takes its trips; where nobody answers, dialling takes seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from mesh.core.kinds import Role
from mesh.core.overlay import Overlay
from mesh.core.overlay_events import Dial, DialFailed, Drop, Event, Found, Linked, Lost, Tick
from mesh.core.zone import ACROSS_ZONES, accepts_zone
from mesh.limits import CROSSING_S, LINKS_MAX
from mesh.testing.clock import US_PER_S
from mesh.testing.process import Process

if TYPE_CHECKING:
    from mesh.testing.device import Device, Venue

HEARS_S: Final = (0.2, 1.0)
"""How long it takes until a device notices that somebody came, or that the network is another."""
NOBODY_S: Final = (0.5, 3.0)


class Company:
    """Of one running process in one place."""

    def __init__(self, world: Venue, device: Device, process: Process) -> None:
        self._world, self._device, self._process = world, device, process
        self._across = bridges(device) and not process.node.zone_bound
        self.overlay = Overlay(
            device.certificate.node,
            device.zone,
            device.chance.uniform,
            world.clock.now,
            bridges=self._across,
            wanted=device.links_wanted,
            passes_by=process.node.zone_bound,
        )
        self._told: dict[str, tuple[str, int]] = {}
        """In which zone each device was when discovery told of it, by name, and after how many starts."""
        self._made: dict[int, float] = {}
        """When each link was made, by number."""
        self._dialled: set[int] = set()
        self._listening = False
        self._woken_us: int | None = None

    def look_soon(self) -> None:
        """Something changed: notice it, unless that is under way already."""
        if not self._listening:
            self._listening = True
            self._world.clock.after(self._device.chance.uniform(*HEARS_S), self._look)

    def handle(self, event: Event) -> None:
        """Tell the policy of something, and carry out what follows."""
        if self._device.company is not self:
            return
        for effect in self.overlay.handle(event, self._world.clock.now):
            match effect:
                case Dial(candidate):
                    self._dial(candidate)
                case Drop(link, reason):
                    self._process.leave(link, reason)
        self._wake_in_time()

    def _wake_in_time(self) -> None:
        deadline = self.overlay.deadline()
        if deadline == math.inf:
            return
        # Past the deadline in whole microseconds, as in a process.
        moment = int(deadline * US_PER_S) + 2
        if moment != self._woken_us:
            self._woken_us = moment
            self._world.clock.at_us(moment, lambda: self._wake(moment))

    def _wake(self, moment: int) -> None:
        if self._woken_us == moment:
            self._woken_us = None
            self._hear()
            self.handle(Tick())

    def _look(self) -> None:
        self._listening = False
        self._hear()

    def _hear(self) -> None:
        """What discovery has to tell by now."""
        if self._device.company is not self:
            return
        for name, (zone, _) in list(self._told.items()):
            peer = self._world.devices[name]
            if peer.zone != zone:
                del self._told[name]
                self.handle(Lost(peer.certificate.node))
        for peer in self._world.peers(self._device, across=self._across):
            says = (peer.zone, peer.lives.boots)
            if self._told.get(peer.name) != says:
                self._told[peer.name] = says
                self.handle(Found(peer.certificate.node, peer.zone))

    # -- Dialling --------------------------------------------------------------------------------------------------

    def _dial(self, candidate: str) -> None:
        around = self._world.peers(self._device, across=self._across)
        there = [peer for peer in around if peer.certificate.node == candidate]
        if there:
            peer = self._device.chance.choice(there)
            pause = self._world.network.handshake_s(self._device, peer)
            self._world.clock.after(pause, lambda: self._through(candidate, peer))
        else:
            pause = self._device.chance.uniform(*NOBODY_S)
            self._world.clock.after(pause, lambda: self.handle(DialFailed(candidate)))

    def _through(self, candidate: str, peer: Device) -> None:
        """The handshake is over: a link, if both ends let the other in."""
        device, other = self._device, peer.process
        if device.company is not self:
            return
        if other is None or peer.company is None or not self._world.network.reaches(device, peer):
            self.handle(DialFailed(candidate))
            return
        if not (accepted(device, peer) and self._admits(candidate, peer) and peer.company.admits_from(device)):
            self.handle(DialFailed(candidate, peer.certificate.node))
            return
        if not (self._takes_place(peer, dialled=True) and peer.company.takes_place_of(device)):
            self.handle(DialFailed(candidate, peer.certificate.node))
            return
        near, far = self._world.network.open(
            (device, self._process, device.certificate), (peer, other, peer.certificate)
        )
        self.made(near.number, dialled=True)
        peer.company.made(far.number, dialled=False)
        self.handle(Linked(near.number, peer.certificate.node, bridges(peer), candidate))
        peer.company.handle(Linked(far.number, device.certificate.node, bridges(device), None))
        self._process.link_up(near)
        other.link_up(far)

    def admits_from(self, peer: Device) -> bool:
        """Whether a device that dialled is let in."""
        return self._admits(None, peer)

    def made(self, number: int, *, dialled: bool) -> None:
        """A link begins."""
        self._made[number] = self._world.clock.now
        if dialled:
            self._dialled.add(number)

    def takes_place_of(self, peer: Device) -> bool:
        """Whether a link that a device dialled may be, where there is one to its certificate already."""
        return self._takes_place(peer, dialled=False)

    def _takes_place(self, peer: Device, *, dialled: bool) -> bool:
        """As `Network._admit` of the shell: the newer link stays, but of two that crossed the one both prefer."""
        serial, now = peer.certificate.serial, self._world.clock.now
        is_smaller = self._device.certificate.serial < serial
        for number, link in list(self._process.links.items()):
            if link.end.peer.serial == serial:
                is_crossing = now - self._made.get(number, now) < CROSSING_S
                if is_crossing and (number in self._dialled) == is_smaller and dialled != is_smaller:
                    return False
                self._process.leave(number, "a newer link to the same device took its place")
        return True

    def _admits(self, candidate: str | None, peer: Device) -> bool:
        links, serial, now = self._process.links, peer.certificate.serial, self._world.clock.now
        is_refused = self._process.refused_until.get(serial, 0.0) > now
        has_room = self.overlay.has_room(peer.certificate.node, now, bridges=bridges(peer), candidate=candidate)
        return has_room and not is_refused and len(links) < LINKS_MAX


def accepted(one: Device, other: Device) -> bool:
    """Whether both would keep a link to the other, by zones and roles."""
    return accepts_zone(one.zone, _roles(one), other.zone, _roles(other))


def bridges(device: Device) -> bool:
    """Whether a device has a role that links zones."""
    return bool(device.certificate.roles & ACROSS_ZONES)


def _roles(device: Device) -> frozenset[Role]:
    bound = device.process is not None and device.process.node.zone_bound
    return device.certificate.roles - {Role.COURIER} if bound else device.certificate.roles
