"""Zones on one machine: readers of different zones keep apart, a courier on foot carries logs between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.core.kinds import Role
from tests.factory import Venue
from tests.programs import run
from tests.system.processes import (
    COURIER,
    Enrolled,
    aborts,
    status,
    stop,
    until_held,
    until_in_step,
    until_met,
    until_note,
)


@pytest.mark.proves("M5")
def test_courier_carries_logs_between_two_zones_that_do_not_talk(tmp_path: Path) -> None:
    venue = Venue()
    north = Enrolled(venue, tmp_path, "north bar", Role.READER)
    south = Enrolled(venue, tmp_path, "south bar", Role.READER)
    phone = Enrolled(venue, tmp_path, "phone", Role.COURIER)
    north.append(*aborts(300))
    south.append(*aborts(200))
    with north.node() as n, south.node(zone="south") as s, phone.courier() as c:
        assert until_in_step(c, "north bar")["entries"] == 301
        assert status(s)["links"] == []

        c.type("walk south")
        walked = c.until("walked")
        assert (walked["zone"], walked["entries"], walked["links"]) == ("south", 301, [])
        assert walked["bytes"] > 0
        assert n.until("parted")["peer"] == "phone"
        assert until_in_step(c, "south bar")["entries"] == 502
        until_held(s, 502)
        assert status(n)["entries"] == 301

        c.type("walk north")
        until_held(n, 502)
        stop([n, s, c])
    assert not [line for program in (n, s) for line in program.seen if line["event"] == "met" and "bar" in line["peer"]]
    assert north.logs() == south.logs() == phone.logs()


def test_reader_of_another_zone_is_refused_even_where_its_address_is_known(tmp_path: Path) -> None:
    venue = Venue()
    north, south = Enrolled(venue, tmp_path, "north bar", Role.READER), Enrolled(venue, tmp_path, "south", Role.READER)
    north.append(*aborts(3))
    with north.node("--no-mdns") as n:
        address = f"127.0.0.1:{n.until('ready')['port']}"
        with south.node("--no-mdns", "--peer", address, zone="south") as s:
            text = until_note(n, "did not come about")
            assert "only from couriers and gateways" in text
            assert status(s)["entries"] == 0


def test_courier_takes_what_is_sold_while_it_is_there(tmp_path: Path) -> None:
    venue = Venue()
    bar, phone = Enrolled(venue, tmp_path, "bar", Role.READER), Enrolled(venue, tmp_path, "phone", Role.COURIER)
    with phone.courier() as c, bar.appender() as b:
        until_met(b, "phone")
        last = [b.until("appended") for _ in range(50)][-1]
        while c.until("held")["entries"] <= last["seq"]:
            pass
        b.kill()
    assert len(phone.logs()[last["log"]]) > last["seq"]


def test_courier_says_that_it_cannot_walk_to_a_place_without_a_name(tmp_path: Path) -> None:
    phone = Enrolled(Venue(), tmp_path, "phone", Role.COURIER)
    with phone.courier() as c:
        c.type("walk " + "x" * 33)
        assert "printable" in c.until("refused")["reason"]
        c.type("fly south")
        assert c.until("unknown")["command"] == "fly south"
        assert status(c)["zone"] == "north"


def test_reader_cannot_be_run_as_a_courier(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar", Role.READER)
    done = run(COURIER, "run", "--dir", bar.directory, "--zone", "north")
    assert done.returncode == 2
    assert "is enrolled as reader, not as courier" in done.stderr
