"""The policy of links, rule by rule, on one device whose surroundings are said line by line."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from mesh.core.overlay import (
    ENOUGH_LINKS,
    LARGER_WAITS_S,
    LASTING_S,
    LINKS_ACROSS_WANTED,
    LINKS_WANTED,
    RETRY_LACKING_S_MAX,
    ROTATE_S,
    ROTATED,
    SETTLE_S,
    SLOW_DIAL_S,
    SPREAD_S,
    Overlay,
)
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
from mesh.limits import DIALS_MAX, DISCOVERED_NAMES_MAX, LINKS_MAX, REFUSED_PEER_S

OWN = "0" * 16
MOST = 2 * LINKS_WANTED


def name(number: int) -> str:
    """Of a device that leaves the first dial to ours."""
    return f"{number + 1:016x}"


@dataclass
class One:
    """A policy, and a carrier that does what it says; `answers` is who lets it in when dialled."""

    overlay: Overlay = field(default_factory=lambda: Overlay(OWN, "north", random.Random(1).uniform, 0.0))
    now: float = 0.0
    zones: dict[str, str] = field(default_factory=dict)
    refuse: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    nodes: dict[str, str] = field(default_factory=dict)
    """Who answers at an address."""
    links: dict[int, str] = field(default_factory=dict)
    dials: list[tuple[float, str]] = field(default_factory=list)
    drops: list[tuple[float, str, str]] = field(default_factory=list)
    numbers: int = 0

    def say(self, event: Event) -> None:
        effects: list[Effect] = self.overlay.handle(event, self.now)
        for effect in effects:
            match effect:
                case Dial(candidate):
                    self.dials.append((self.now, candidate))
                    self._dialled(candidate)
                case Drop(link, reason):
                    self.drops.append((self.now, self.links[link], reason))
                    self.part(self.links[link])

    def _dialled(self, candidate: str) -> None:
        if candidate in self.silent:
            return
        if candidate in self.refuse:
            self.say(DialFailed(candidate))
        else:
            self.link(self.nodes.get(candidate, candidate), candidate)

    def found(self, *nodes: str, zone: str = "north") -> None:
        for node in nodes:
            self.zones[node] = zone
            self.say(Found(node, zone))

    def link(self, node: str, candidate: str | None = None, *, bridges: bool = False) -> int:
        """A link comes about, with hello and all."""
        self.numbers += 1
        number = self.numbers
        self.links[number] = node
        self.say(Linked(number, node, bridges, candidate))
        self.say(Met(number, self.zones.get(node, "north")))
        self.say(InStep(number))
        return number

    def part(self, node: str, *, blame_peer: bool = False) -> None:
        (number,) = (number for number, peer in self.links.items() if peer == node)
        del self.links[number]
        self.say(Parted(number, blame_peer))

    def has_room(self, node: str, *, bridges: bool = False, candidate: str | None = None) -> bool:
        return self.overlay.has_room(node, self.now, bridges=bridges, candidate=candidate)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.overlay.deadline()) <= end:
            self.now = max(self.now, deadline)
            self.say(Tick())
        self.now = end

    @property
    def dialled(self) -> list[str]:
        return [candidate for _, candidate in self.dials]


def settled(count: int) -> One:
    """A device that found so many others, linked with as many as it wants, and is past its first seconds."""
    one = One()
    one.found(*map(name, range(count)))
    one.run(2 * SETTLE_S)
    return one


# -- How many ----------------------------------------------------------------------------------------------------------


def test_device_dials_as_many_as_it_wants_and_no_more() -> None:
    one = settled(50)
    assert len(one.dials) == len(one.links) == LINKS_WANTED


def test_where_there_are_few_devices_each_is_linked() -> None:
    one = settled(3)
    assert sorted(one.links.values()) == [name(0), name(1), name(2)]


def test_links_that_came_count_but_half_of_those_wanted_are_dialled_from_here() -> None:
    one = One()
    one.found(*map(name, range(20)))
    for number in range(LINKS_WANTED):
        one.link(name(number))
    one.run(10)
    assert len(one.dials) == LINKS_WANTED // 2


def test_newcomer_over_the_most_is_turned_away_and_one_below_it_let_in() -> None:
    one = One()
    one.found(*map(name, range(20)))
    for number in range(MOST - 1):
        one.link(name(number))
    assert one.has_room(name(18))
    one.link(name(18))
    assert not one.has_room(name(19))
    assert one.has_room(name(18)), "a newer link to somebody who is linked takes the place of the older"


def test_bridge_is_let_in_where_there_is_no_room_for_others() -> None:
    one = One()
    one.found(*map(name, range(20)))
    for number in range(MOST):
        one.link(name(number))
    assert not one.has_room(name(19))
    assert one.has_room(name(19), bridges=True)


def test_whoever_discovery_did_not_tell_of_is_let_in_once_it_had_its_time() -> None:
    one = One()
    one.found(*map(name, range(20)))
    for number in range(MOST):
        one.link(name(number))
    assert not one.has_room(name(99)), "it has only not been heard of yet"
    one.run(SETTLE_S + 1)
    assert one.has_room(name(99)), "it came by an address from a person"


def test_no_more_links_than_there_are_places_for_anybody() -> None:
    one = One(Overlay(OWN, "north", random.Random(1).uniform, 0.0, discovers=False))
    for number in range(LINKS_MAX):
        assert one.has_room(name(number))
        one.link(name(number))
    assert not one.has_room(name(LINKS_MAX), bridges=True)


def test_those_of_whom_discovery_tells_late_make_room_the_newest_first() -> None:
    one = One()
    one.now = SETTLE_S
    for number in range(MOST + 2):
        one.link(name(number))
    assert not one.drops
    one.found(*map(name, range(MOST + 2)))
    assert [(node, reason) for _, node, reason in one.drops] == [
        (name(MOST), ENOUGH_LINKS),
        (name(MOST + 1), ENOUGH_LINKS),
    ]


# -- When --------------------------------------------------------------------------------------------------------------


def test_of_two_devices_that_hear_of_each_other_the_smaller_dials_first_and_the_larger_if_nobody_came() -> None:
    smaller, larger = One(), One(Overlay("f" * 16, "north", random.Random(1).uniform, 0.0))
    smaller.found(name(1))
    larger.found(name(1))
    smaller.run(LARGER_WAITS_S - 0.01)
    larger.run(LARGER_WAITS_S - 0.01)
    assert (len(smaller.dials), len(larger.dials)) == (1, 0)
    larger.run(SPREAD_S)
    assert len(larger.dials) == 1


def test_courier_on_foot_waits_for_nobody_and_dials_only_where_it_is() -> None:
    courier = One(Overlay("f" * 16, "north", random.Random(1).uniform, 0.0, passes_by=True))
    courier.found(name(1))
    courier.found(name(2), zone="south")
    courier.run(SPREAD_S)
    assert courier.dialled == [name(1)]


def test_lost_link_is_replaced_within_a_fifth_of_a_second() -> None:
    one = settled(50)
    lost, before = one.links[1], len(one.dials)
    one.part(lost)
    one.run(SPREAD_S)
    assert len(one.dials) == before + 1
    assert one.dialled[-1] != lost
    assert len(one.links) == LINKS_WANTED


def test_candidate_that_never_answers_is_tried_ever_more_rarely_and_at_once_again_after_a_link() -> None:
    one = One()
    one.refuse = {name(1)}
    one.found(name(1), name(2))
    one.run(1200)
    tries = [at for at, candidate in one.dials if candidate == name(1)]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert len(tries) < 200
    assert pauses[0] < 2
    assert pauses[:5] == sorted(pauses[:5])
    assert max(pauses) <= RETRY_LACKING_S_MAX + SPREAD_S
    assert pauses[-1] > RETRY_LACKING_S_MAX / 2

    one.refuse = set()
    one.run(RETRY_LACKING_S_MAX)
    assert name(1) in one.links.values()
    one.run(LASTING_S)
    before = len(one.dials)
    one.part(name(1))
    one.run(SPREAD_S)
    assert one.dialled[before:] == [name(1)]


def test_link_that_is_lost_soon_again_and_again_is_dialled_ever_more_rarely() -> None:
    one = One()
    one.found(name(1), name(2))
    for _ in range(400):
        one.run(0.5)
        if name(1) in one.links.values():
            one.part(name(1))
    tries = [at for at, candidate in one.dials if candidate == name(1)]
    assert len(tries) < 40
    assert tries[-1] - tries[-2] > RETRY_LACKING_S_MAX / 2


def test_peer_that_broke_a_rule_is_not_dialled_for_a_while() -> None:
    one = settled(1)
    one.part(name(0), blame_peer=True)
    broke = one.now
    one.run(60)
    assert [at >= broke + REFUSED_PEER_S for at, _ in one.dials[1:]] == [True]


def test_dial_that_hangs_is_not_waited_for() -> None:
    one = settled(50)
    one.silent = {name(number) for number in range(50)}
    one.part(one.links[1])
    one.run(SLOW_DIAL_S - 0.01)
    assert len(one.dials) == LINKS_WANTED + 1
    one.silent = set()
    one.run(SLOW_DIAL_S)
    assert len(one.links) == LINKS_WANTED


def test_dials_that_hang_do_not_pile_up() -> None:
    gateway = One(Overlay(OWN, "north", random.Random(1).uniform, 0.0, bridges=True))
    gateway.silent = set(map(name, range(100)))
    for number in range(100):
        gateway.found(name(number), zone=f"zone {number}")
    gateway.run(300)
    assert len(gateway.dials) == DIALS_MAX


def test_names_beyond_the_bound_are_not_followed() -> None:
    one = One()
    one.refuse = {name(number) for number in range(DISCOVERED_NAMES_MAX + 10)}
    one.found(*map(name, range(DISCOVERED_NAMES_MAX + 10)))
    one.run(3600)
    assert set(one.dialled) == set(map(name, range(DISCOVERED_NAMES_MAX)))


# -- Whom --------------------------------------------------------------------------------------------------------------


def test_reader_dials_in_its_own_zone_only_and_a_gateway_two_in_each_other() -> None:
    reader = One()
    gateway = One(Overlay(OWN, "north", random.Random(1).uniform, 0.0, bridges=True))
    for one in (reader, gateway):
        for number, zone in enumerate(("south", "east") * 5):
            one.found(name(number), zone=zone)
        one.run(30)
    assert not reader.dials
    zones = [gateway.zones[node] for node in gateway.links.values()]
    assert sorted(zones) == ["east"] * LINKS_ACROSS_WANTED + ["south"] * LINKS_ACROSS_WANTED


def test_lost_name_ends_no_link_and_is_dialled_no_more() -> None:
    one = settled(2)
    one.say(Lost(name(1)))
    assert name(1) in one.links.values()
    before = len(one.dials)
    one.part(name(1))
    one.run(300)
    assert name(1) not in one.dialled[before:]


def test_address_from_a_person_is_dialled_whenever_nobody_from_there_is_linked() -> None:
    one = One(Overlay(OWN, "north", random.Random(1).uniform, 0.0, kept=("10.0.0.9:7000",)))
    one.nodes["10.0.0.9:7000"] = name(7)
    one.found(*map(name, range(20)))
    one.run(ROTATE_S * 5)
    assert one.dialled.count("10.0.0.9:7000") == 1
    assert name(7) in one.links.values()
    assert name(7) not in {node for _, node, _ in one.drops}

    one.part(name(7))
    one.run(1)
    assert name(7) in one.links.values()


def test_address_whose_device_is_linked_already_is_not_dialled_over_and_over() -> None:
    one = One(Overlay(OWN, "north", random.Random(1).uniform, 0.0, kept=("10.0.0.9:7000",)))
    one.silent = {"10.0.0.9:7000"}
    one.say(Tick())
    one.link(name(7))
    one.say(DialFailed("10.0.0.9:7000", name(7)))
    one.run(300)
    assert one.dialled == ["10.0.0.9:7000"]


# -- Rotation ----------------------------------------------------------------------------------------------------------


def test_rotation_dials_the_new_one_first_and_says_goodbye_to_an_old_one_then() -> None:
    one = settled(50)
    first = set(one.links.values())
    one.run(ROTATE_S * 1.5)
    (at, dropped, reason) = one.drops[0]
    assert reason == ROTATED
    assert dropped in first
    newest_at, newest = one.dials[LINKS_WANTED]
    assert newest_at <= at
    assert newest not in first
    assert len(one.links) == LINKS_WANTED


def test_rotation_that_meets_nobody_gives_nothing_up() -> None:
    one = settled(50)
    before = set(one.links.values())
    one.refuse = {name(number) for number in range(50)} - before
    one.run(ROTATE_S * 5)
    assert len(one.dials) > LINKS_WANTED
    assert set(one.links.values()) == before


@pytest.mark.parametrize("in_step", [False, True])
def test_link_that_is_not_in_step_yet_is_not_given_up(in_step: bool) -> None:
    one = settled(0)
    one.silent = {name(number) for number in range(50)}
    one.found(*one.silent)
    one.run(0.95)
    assert len(one.dials) == LINKS_WANTED
    for number, candidate in enumerate(one.dialled, 100):
        one.links[number] = candidate
        one.say(Linked(number, candidate, False, candidate))
        one.say(Met(number, "north"))
        if in_step:
            one.say(InStep(number))
    one.silent = set()
    one.run(ROTATE_S * 3)
    assert bool(one.drops) is in_step


def test_links_beyond_those_wanted_are_shed_by_whoever_dialled_them() -> None:
    one = settled(50)
    came = [name(number) for number in range(50) if name(number) not in one.links.values()][:2]
    for node in came:
        one.link(node)
    one.run(ROTATE_S * 1.5)
    assert len(one.links) == LINKS_WANTED + 1
    assert one.drops[0][2] == ENOUGH_LINKS
    one.run(ROTATE_S * 10)
    assert set(came) <= set(one.links.values()), "who came is let go by its own policy, not by this one"
    assert len(one.links) >= LINKS_WANTED


def test_rotation_gives_nothing_up_where_a_link_was_lost_meanwhile() -> None:
    one = settled(50)
    one.silent = {name(number) for number in range(50)}
    while len(one.dials) == LINKS_WANTED:
        one.run(1)
    newcomer = one.dialled[-1]
    one.part(one.links[1])
    one.link(newcomer, newcomer)
    assert len(one.links) == LINKS_WANTED
    assert not one.drops


def test_surplus_is_not_shed_below_what_a_device_dials_itself() -> None:
    one = One()
    one.found(*map(name, range(20)))
    for number in range(LINKS_WANTED):
        one.link(name(number))
    one.run(ROTATE_S * 10)
    mine = set(one.dialled) & set(one.links.values())
    assert len(mine) == LINKS_WANTED // 2
