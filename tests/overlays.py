"""Many overlay policies on one simulated network, in virtual time: for tests of what comes of them together.

Discovery is heard late and by each at its own moment; a dial takes some milliseconds, or seconds where nobody answers;
a device without power says nothing, and is found gone after a silence.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from mesh.core.overlay import LINKS_WANTED, Overlay
from mesh.core.overlay_events import (
    Dial,
    DialFailed,
    Drop,
    Effect,
    Event,
    Found,
    InStep,
    Linked,
    Lost,
    Met,
    Parted,
    Tick,
)
from mesh.limits import DIAL_S_MAX

HEARD_S: Final = (0.1, 1.3)
HANDSHAKE_S: Final = (0.005, 0.03)
HELLO_S: Final = 0.005
IN_STEP_S: Final = 0.5
SILENCE_S: Final = 5.0


@dataclass
class Node:
    """One device: its policy, and the links that its carrier has."""

    name: str
    zone: str
    overlay: Overlay
    bridges: bool
    on: bool = True
    links: dict[int, str] = field(default_factory=dict)
    dialled: list[tuple[float, str]] = field(default_factory=list)
    dropped: list[float] = field(default_factory=list)
    most: int = 0
    wakes_at: float | None = None


def zones_apart(one: Node, other: Node) -> bool:
    """Zones that do not talk but through bridges."""
    return one.zone != other.zone and not (one.bridges or other.bridges)


class Overlays:
    """The devices and everything between them."""

    def __init__(self, seed: int, *, wanted: int = LINKS_WANTED) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.apart: Callable[[Node, Node], bool] = zones_apart
        self._wanted = wanted
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0
        self._numbers = 0

    # -- Who is there ----------------------------------------------------------------------------------------------

    def add(self, zone: str = "north", *, bridges: bool = False, kept: tuple[str, ...] = ()) -> Node:
        name = f"{self.chance.getrandbits(64):016x}"
        jitter = random.Random(name).uniform
        overlay = Overlay(name, zone, jitter, self.now, bridges, kept, self._wanted)
        node = self.nodes[name] = Node(name, zone, overlay, bridges)
        self.feed(node, Tick())
        return node

    def announce(self, node: Node, to: Iterable[Node] | None = None) -> None:
        """Let others hear of a device, each a while later."""
        for other in list(self.nodes.values() if to is None else to):
            if other is not node:
                self.after(self.chance.uniform(*HEARD_S), partial(self._hears, other, node))

    def all_together(self, count: int, zone: str = "north") -> list[Node]:
        """So many devices are switched on in one zone, and hear of each other."""
        nodes = [self.add(zone) for _ in range(count)]
        for node in nodes:
            self.announce(node, nodes)
        return nodes

    def cut_power(self, node: Node) -> None:
        node.on = False
        for number, peer in list(node.links.items()):
            self.after(SILENCE_S, partial(self._part, self.nodes[peer], number))
        node.links.clear()

    def separate(self, apart: Callable[[Node, Node], bool]) -> None:
        """From now on some do not hear each other; their links are found dead after a silence."""
        self.apart = apart
        for node in self.nodes.values():
            for number, peer in list(node.links.items()):
                if apart(node, self.nodes[peer]):
                    self.after(SILENCE_S, partial(self._part, node, number))

    def _hears(self, node: Node, of: Node) -> None:
        if node.on and of.on and not self.apart(node, of):
            self.feed(node, Found(of.name, of.zone))

    # -- Time ------------------------------------------------------------------------------------------------------

    def after(self, pause_s: float, action: Callable[[], None]) -> None:
        self._asked += 1
        heapq.heappush(self._due, (self.now + pause_s, self._asked, action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end

    def feed(self, node: Node, event: Event) -> None:
        """Give a policy an event and carry out what it says."""
        if not node.on:
            return
        for effect in node.overlay.handle(event, self.now):
            self._carry_out(node, effect)
        deadline = node.overlay.deadline()
        if deadline != node.wakes_at and deadline < float("inf"):
            node.wakes_at = deadline
            self.after(max(0.0, deadline - self.now), lambda: self._wake(node, deadline))

    def _wake(self, node: Node, deadline: float) -> None:
        if node.wakes_at == deadline:
            node.wakes_at = None
            self.feed(node, Tick())

    # -- Links -----------------------------------------------------------------------------------------------------

    def _carry_out(self, node: Node, effect: Effect) -> None:
        match effect:
            case Dial(candidate):
                node.dialled.append((self.now, candidate))
                peer = self.nodes.get(candidate)
                if peer is None or not peer.on or self.apart(node, peer):
                    self.after(DIAL_S_MAX, lambda: self.feed(node, DialFailed(candidate)))
                else:
                    self.after(self.chance.uniform(*HANDSHAKE_S), lambda: self._through(node, peer, candidate))
            case Drop(number):
                node.dropped.append(self.now)
                self._part(node, number)

    def _through(self, node: Node, peer: Node, candidate: str) -> None:
        rooms = (
            node.overlay.has_room(peer.name, self.now, bridges=peer.bridges, candidate=candidate),
            peer.overlay.has_room(node.name, self.now, bridges=node.bridges, candidate=None),
        )
        if not peer.on or peer.name in node.links.values() or not all(rooms):
            self.feed(node, DialFailed(candidate, peer.name))
            return
        self._numbers += 1
        number = self._numbers
        for one, other, dialled in ((node, peer, candidate), (peer, node, None)):
            one.links[number] = other.name
            one.most = max(one.most, sum(self.nodes[name].zone == one.zone for name in one.links.values()))
            self.feed(one, Linked(number, other.name, other.bridges, dialled))
            self.after(HELLO_S, partial(self._says, one, Met(number, other.zone)))
            self.after(IN_STEP_S, partial(self._says, one, InStep(number)))

    def _says(self, node: Node, event: Met | InStep) -> None:
        if event.link in node.links:
            self.feed(node, event)

    def _part(self, node: Node, number: int) -> None:
        peer = node.links.pop(number, None)
        if peer is None:
            return
        other = self.nodes[peer]
        if other.links.get(number) == node.name:
            self.after(HELLO_S, lambda: self._part(other, number))
        self.feed(node, Parted(number))

    def lose(self, node: Node, of: Node) -> None:
        """Discovery tells a device that another left."""
        self.feed(node, Lost(of.name))

    # -- What came of it -------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.on]

    def degrees(self, nodes: Iterable[Node] | None = None) -> list[int]:
        return [len(set(node.links.values())) for node in (self.running if nodes is None else nodes)]

    def parts(self) -> list[set[str]]:
        """The names of the running devices, by connected part of the graph."""
        left, found = {node.name for node in self.running}, []
        while left:
            part, edge = set(), {min(left)}
            while edge:
                part |= edge
                edge = {peer for name in edge for peer in self.nodes[name].links.values()} & left - part
            found.append(part)
            left -= part
        return found
