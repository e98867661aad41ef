"""Zones that cannot reach each other, as network namespaces, and a courier that is carried from one to the other.

Each zone is a namespace with one interface. The other ends of both cables are in the courier's namespace, where one at
a time has an address and is up: its phone leaves one access point and joins the next. Nothing is configured but the
enrolment and the zone's name; devices find each other by multicast over the cable.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.core.kinds import Role
from tests.factory import Venue
from tests.programs import Program
from tests.system.processes import COURIER, NODE, Enrolled, aborts, status, stop, until_held, until_in_step

ADDRESSES = {"north": ("10.77.1.1", "10.77.1.2"), "south": ("10.77.2.1", "10.77.2.2")}


@dataclass(frozen=True)
class Zones:
    """The three namespaces of one test, by name."""

    ip: str
    run_id: str

    def inside(self, place: str) -> str:
        return f"tapmesh-{self.run_id}-{place}"

    def cable(self, zone: str) -> str:
        """The courier's end of the cable to a zone; interface names have at most 15 characters."""
        return f"tm{self.run_id}{zone[0]}c"

    def do(self, *arguments: str) -> str:
        done = subprocess.run([self.ip, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def build(self) -> None:
        for place in ("north", "south", "courier"):
            self.do("netns", "add", self.inside(place))
        for zone, (address, _) in ADDRESSES.items():
            there, here = f"tm{self.run_id}{zone[0]}z", self.cable(zone)
            self.do("link", "add", there, "netns", self.inside(zone), "type", "veth", "peer", "name", here)
            self.do("link", "set", here, "netns", self.inside("courier"))
            self.do("-n", self.inside(zone), "address", "add", f"{address}/24", "dev", there)
            self.do("-n", self.inside(zone), "link", "set", there, "up")

    def remove(self) -> None:
        """Their interfaces go with them; what was never made is no matter."""
        for place in ("north", "south", "courier"):
            subprocess.run([self.ip, "netns", "delete", self.inside(place)], check=False, capture_output=True)

    def courier_arrives(self, zone: str) -> None:
        self.do("-n", self.inside("courier"), "address", "add", f"{ADDRESSES[zone][1]}/24", "dev", self.cable(zone))
        self.do("-n", self.inside("courier"), "link", "set", self.cable(zone), "up")

    def courier_leaves(self, zone: str) -> None:
        self.do("-n", self.inside("courier"), "link", "set", self.cable(zone), "down")
        self.do("-n", self.inside("courier"), "address", "flush", "dev", self.cable(zone))

    def program(self, place: str, command: str, device: Enrolled, zone: str) -> Program:
        prefix = (self.ip, "netns", "exec", self.inside(place), "--")
        return Program(
            "tests.system.inside:enter", *prefix, command, "run", "--dir", device.directory, "--zone", zone, "--json"
        )

    def reaches(self, place: str, address: str) -> bool:
        """Whether packets to this address have anywhere to go."""
        command = [self.ip, "-n", self.inside(place), "route", "get", address]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def addresses(self, place: str) -> set[str]:
        found = json.loads(self.do("-n", self.inside(place), "-json", "address", "show"))
        return {address["local"] for interface in found for address in interface["addr_info"]}


@contextmanager
def zones(ip: str) -> Iterator[Zones]:
    """Two zones and a courier's pocket, removed again whatever happens; names differ from any other run's."""
    made = Zones(ip, secrets.token_hex(3))
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.mark.proves("M1")
@pytest.mark.proves("M5")
def test_courier_carries_logs_between_zones_that_have_no_route_to_each_other(
    tmp_path: Path, require_program: Callable[[str], str], require_system: Callable[[bool, str], None]
) -> None:
    ip = require_program("ip")
    require_system(_may_make_namespaces(ip), "this user may not make network namespaces (root may)")
    venue = Venue()
    bars = {zone: Enrolled(venue, tmp_path, f"{zone} bar", Role.READER) for zone in ADDRESSES}
    phone = Enrolled(venue, tmp_path, "phone", Role.COURIER)
    bars["north"].append(*aborts(30))
    bars["south"].append(*aborts(20))
    with zones(ip) as places, ExitStack() as stack:
        north, south = (stack.enter_context(places.program(zone, NODE, bars[zone], zone)) for zone in ADDRESSES)
        for zone, other in (("north", "south"), ("south", "north")):
            assert ADDRESSES[zone][0] in places.addresses(zone)
            assert not places.reaches(zone, ADDRESSES[other][0])
            assert not places.reaches(zone, ADDRESSES[other][1])

        places.courier_arrives("north")
        courier = stack.enter_context(places.program("courier", COURIER, phone, "north"))
        assert until_in_step(courier, "north bar")["entries"] == 31

        places.courier_leaves("north")
        places.courier_arrives("south")
        courier.type("walk south")
        assert until_in_step(courier, "south bar")["entries"] == 52
        assert status(north)["entries"] == 31

        places.courier_leaves("south")
        places.courier_arrives("north")
        courier.type("walk north")
        assert until_held(north, 52)["digest"] == until_held(south, 52)["digest"]
        stop([north, south, courier])
    assert bars["north"].logs() == bars["south"].logs() == phone.logs()
    for program in (north, south):
        assert {line["peer"] for line in program.seen if line["event"] == "met"} == {"phone"}


def _may_make_namespaces(ip: str) -> bool:
    name = f"tapmesh-{secrets.token_hex(3)}"
    made = subprocess.run([ip, "netns", "add", name], check=False, capture_output=True).returncode == 0
    subprocess.run([ip, "netns", "delete", name], check=False, capture_output=True)
    return made
