"""What comes of many overlay policies together: graphs that are connected, stay so, and become so again."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.overlay import LINKS_ACROSS_WANTED, LINKS_WANTED, ROTATE_S, Overlay
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
from mesh.limits import DIALS_MAX
from tests.overlays import SILENCE_S, Overlays

MOST = 2 * LINKS_WANTED
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("seed", range(3))
def test_300_devices_on_one_network_are_one_graph_of_few_links_and_a_third_of_them_may_go_dark_at_once(
    seed: int,
) -> None:
    world = Overlays(seed)
    nodes = world.all_together(300)
    world.run(5)
    degrees = world.degrees()
    assert len(world.parts()) == 1
    assert LINKS_WANTED <= min(degrees) <= max(degrees) <= MOST
    assert sum(degrees) / len(degrees) < 1.4 * LINKS_WANTED

    world.run(3 * ROTATE_S)
    assert len(world.parts()) == 1
    assert sum(world.degrees()) / 300 < 1.3 * LINKS_WANTED

    for node in world.chance.sample(nodes, 90):
        world.cut_power(node)
    world.run(SILENCE_S + 5)
    degrees = world.degrees()
    assert len(world.parts()) == 1
    # Whoever is just being exchanged is one link short for the moment that the next takes.
    assert sum(degree < LINKS_WANTED for degree in degrees) <= 3
    assert min(degrees) >= LINKS_WANTED - 1
    assert max(node.most for node in nodes) <= MOST


def test_no_device_becomes_the_middle_of_a_star_though_all_hear_of_it_first() -> None:
    world = Overlays(1)
    first = world.add()
    others = world.all_together(100)
    for node in others:
        world.feed(node, Found(first.name, first.zone))
        world.feed(first, Found(node.name, node.zone))
    world.run(10)
    assert len(world.parts()) == 1
    assert len(first.links) <= MOST
    assert first.most <= MOST


@given(SEEDS, st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_devices_of_any_number_become_one_graph_and_a_few_are_all_linked(seed: int, count: int) -> None:
    world = Overlays(seed)
    nodes = world.all_together(count)
    world.run(10)
    assert len(world.parts()) == 1
    assert min(world.degrees()) >= min(LINKS_WANTED, count - 1)
    assert max(node.most for node in nodes) <= MOST


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_three_zones_with_one_device_each_are_bridged_by_a_gateway(seed: int) -> None:
    world = Overlays(seed)
    bars = [world.add(zone) for zone in ("north", "south", "east")]
    world.run(60)
    assert not any(bar.dialled for bar in bars)
    gateway = world.add("office", bridges=True)
    for bar in bars:
        world.announce(bar, [gateway])
    world.announce(gateway, bars)
    world.run(10)
    assert len(world.parts()) == 1
    assert len(gateway.links) == 3
    world.run(5 * ROTATE_S)
    assert len(world.parts()) == 1


def test_gateway_keeps_two_links_in_each_zone_and_replaces_them() -> None:
    world = Overlays(3)
    zones = [world.all_together(20, zone) for zone in ("north", "south")]
    gateway = world.add("north", bridges=True)
    for node in zones[0] + zones[1]:
        world.announce(node, [gateway])
    world.run(10)
    assert len(world.parts()) == 1
    south = [name for name in gateway.links.values() if world.nodes[name].zone == "south"]
    assert len(south) == LINKS_ACROSS_WANTED
    for name in south:
        world.cut_power(world.nodes[name])
    world.run(20)
    south = [name for name in gateway.links.values() if world.nodes[name].zone == "south"]
    assert len(south) == LINKS_ACROSS_WANTED
    assert all(world.nodes[name].on for name in south)


@given(SEEDS, st.integers(5, 20))
@settings(max_examples=8, deadline=None)
def test_parts_in_which_everybody_has_links_enough_become_one_again(seed: int, count: int) -> None:
    """Nobody lacks a link, so only rotation joins them; and what was out of reach is what failed to answer before."""
    world = Overlays(seed)
    nodes = world.all_together(2 * count)
    world.run(2)
    side = {node.name: index % 2 for index, node in enumerate(nodes)}
    world.separate(lambda one, other: side[one.name] != side[other.name])
    world.run(10 * ROTATE_S)
    assert len(world.parts()) == 2
    assert min(world.degrees()) >= min(LINKS_WANTED, count - 1) - 1
    world.separate(lambda one, other: False)
    world.run(2 * ROTATE_S)
    assert len(world.parts()) == 1


def test_device_that_hears_nobody_is_found_by_those_who_hear_it() -> None:
    world = Overlays(4)
    nodes = world.all_together(10)
    deaf = world.add()
    world.announce(deaf, nodes)
    world.run(10)
    assert not deaf.dialled
    world.run(30 * ROTATE_S)
    assert deaf.links
    assert len(world.parts()) == 1


def test_one_seed_is_one_graph() -> None:
    def played(seed: int) -> list[list[tuple[float, str]]]:
        world = Overlays(seed)
        world.all_together(40)
        world.run(200)
        return [node.dialled for node in world.nodes.values()]

    assert played(7) == played(7)
    assert played(7) != played(8)


NAMES = [f"{number:016x}" for number in range(30)]
ADDRESSES = ("10.0.0.1:7000", "10.0.0.2:7000")
ZONES = ("north", "north", "south", "east")


class Stage:
    """One policy to which chance happens; a carrier that keeps the rules of the interface, and no others."""

    def __init__(self, chance: random.Random, *, bridges: bool) -> None:
        self.chance = chance
        self.overlay = Overlay("8" * 16, "north", chance.uniform, 0.0, bridges, ADDRESSES)
        self.now = 0.0
        self.dialling: list[str] = []
        self.links: dict[int, str] = {}
        self.numbers = 0

    def event(self) -> Event:
        chance, link = self.chance, self.chance.choice(sorted(self.links)) if self.links else 0
        happenings: list[Callable[[], Event]] = [
            lambda: Found(chance.choice(NAMES), chance.choice(ZONES)),
            lambda: Found(chance.choice(NAMES), chance.choice(ZONES)),
            lambda: Lost(chance.choice(NAMES)),
            self._answer,
            self._answer,
            lambda: self._linked(None),
            lambda: Met(link, chance.choice(ZONES)),
            lambda: InStep(link),
            lambda: self._parted(link),
            Tick,
        ]
        return chance.choice(happenings)()

    def _answer(self) -> Event:
        if not self.dialling:
            return Tick()
        candidate = self.dialling.pop(self.chance.randrange(len(self.dialling)))
        if self.chance.random() < 0.5:
            return DialFailed(candidate, self.chance.choice([None, *NAMES]))
        return self._linked(candidate)

    def _linked(self, candidate: str | None) -> Event:
        node = self.chance.choice(NAMES) if candidate is None or candidate in ADDRESSES else candidate
        bridges = self.chance.random() < 0.2
        if not self.overlay.has_room(node, self.now, bridges=bridges, candidate=candidate):
            return Tick() if candidate is None else DialFailed(candidate, node)
        self.numbers += 1
        self.links[self.numbers] = node
        return Linked(self.numbers, node, bridges, candidate)

    def _parted(self, link: int) -> Event:
        self.links.pop(link, None)
        return Parted(link, self.chance.random() < 0.3)

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Dial(candidate):
                assert candidate not in self.dialling
                assert candidate not in self.links.values()
                self.dialling.append(candidate)
            case Drop(link):
                assert link in self.links


@given(SEEDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_happens_dials_stay_few_nobody_is_dialled_twice_and_time_goes_on(seed: int, bridges: bool) -> None:
    stage = Stage(random.Random(seed), bridges=bridges)
    for _ in range(300):
        stage.now = max(stage.now, min(stage.overlay.deadline(), stage.now + stage.chance.uniform(0, 20)))
        for effect in stage.overlay.handle(stage.event(), stage.now):
            stage.carry_out(effect)
        assert len(stage.dialling) <= DIALS_MAX
        assert stage.overlay.deadline() > stage.now, "there would be no end of ticks"
