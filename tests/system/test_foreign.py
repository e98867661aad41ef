"""Strangers on one network: a foreign mDNS client that looks at us, and another venue that must not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mesh.core.kinds import Role
from mesh.shell.discovery import SERVICE_TYPE
from tests.factory import Venue
from tests.programs import Program
from tests.system.foreign import PROGRAMS, avahi
from tests.system.lan import Host, Lan
from tests.system.processes import NODE, Enrolled, aborts, status, stop, until_held

TXT_BYTES_MAX = 200
"""RFC 6763, section 6.2: what a TXT record should be at most, if it is to be cheap."""


def run(host: Host, device: Enrolled, zone: str = "north") -> Program:
    return host.program(NODE, "run", "--dir", device.directory, "--zone", zone, "--json", "--until-eof")


def test_foreign_mdns_client_sees_each_node_where_it_is_and_nothing_that_is_not_its_business(
    place: Lan, programs: ExitStack, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    for program in PROGRAMS:
        require_program(program)
    venue = Venue()
    zones = {"bar A": "north", "bar B": 'Süd; "7" = ½'}
    hosts = {name: place.host(name, "hall") for name in zones}
    devices = {name: Enrolled(venue, tmp_path, name, Role.READER) for name in zones}
    nodes = {devices[name].device.certificate.node: name for name in zones}
    browser = programs.enter_context(avahi(place.host("guest", "hall"), tmp_path / "guest"))
    running = {name: programs.enter_context(run(hosts[name], devices[name], zones[name])) for name in zones}

    ports = {name: program.until("ready")["port"] for name, program in running.items()}
    seen = browser.until(lambda seen: len(seen) == len(zones))

    assert set(seen) == set(nodes)
    for node, name in nodes.items():
        instance = seen[node]
        assert instance.host == f"tapmesh-{node}.local"
        assert (instance.address, instance.port) == (hosts[name].address, ports[name])
        assert instance.texts == (
            "v=1",
            f"venue={venue.root.venue_id.hex()[:16]}",
            f"zone={zones[name]}",
            f"node={node}",
        )
        _keeps_the_rules_of_txt_records(instance.texts)

    of_a = devices["bar A"].device.certificate.node
    running["bar A"].kill()
    running["bar A"] = programs.enter_context(run(hosts["bar A"], devices["bar A"]))
    port = running["bar A"].until("ready")["port"]
    assert set(browser.until(lambda seen: of_a in seen and seen[of_a].port == port)) == set(nodes)

    hosts["bar A"].take_address("10.88.9.9")
    assert set(browser.until(lambda seen: of_a in seen and seen[of_a].address == "10.88.9.9")) == set(nodes)

    stop(list(running.values()))
    browser.until(lambda seen: not seen)


def _keeps_the_rules_of_txt_records(texts: tuple[str, ...]) -> None:
    """RFC 6763, sections 6.2 to 6.7: short, `key=value`, keys of at most nine printable ASCII, version first."""
    assert sum(1 + len(text.encode()) for text in texts) <= TXT_BYTES_MAX
    keys = [text.partition("=")[0] for text in texts]
    assert keys[0] == "v"
    assert len(set(keys)) == len(keys)
    for text, key in zip(texts, keys, strict=True):
        assert "=" in text and len(text.encode()) <= 255
        assert 1 <= len(key) <= 9 and key.isascii() and key.isprintable()
    assert SERVICE_TYPE == "_tapmesh._tcp.local."


def test_two_venues_on_one_network_never_dial_each_other(place: Lan, programs: ExitStack, tmp_path: Path) -> None:
    """Two festivals on one field. The last device of each hears both: the others are as easy to find as its own."""
    switch = programs.enter_context(
        Program("tests.system.inside:enter", *place.core.inside, "--", "tests.system.dials:watch")
    )
    switch.until("ready")
    venues = {name: Venue(name) for name in ("Riverside", "Hillside")}
    hosts: dict[str, list[Host]] = {name: [] for name in venues}
    devices: dict[str, list[Enrolled]] = {name: [] for name in venues}
    running: dict[str, list[Program]] = {name: [] for name in venues}
    for index in range(4):
        for name, venue in venues.items():
            bar = f"{name} {index}"
            device = Enrolled(venue, tmp_path, bar, Role.READER)
            device.append(*aborts(index + 1))
            hosts[name].append(place.host(bar, "field"))
            devices[name].append(device)
            running[name].append(programs.enter_context(run(hosts[name][-1], device)))
    for programs_of_one in running.values():
        digests = {until_held(program, 1 + 2 + 3 + 4 + 4)["digest"] for program in programs_of_one}
        assert len(digests) == 1

    for name, programs_of_one in running.items():
        for program in programs_of_one:
            assert all(link.startswith(name) for link in status(program)["links"])
            assert not [line for line in program.seen if line["event"] == "note" and "refused" in line["text"]]
        stop(programs_of_one)
    for devices_of_one in devices.values():
        assert len(devices_of_one[0].logs()) == 4
    addresses = {name: {host.address for host in hosts[name]} for name in venues}
    dials = _dials(switch)
    assert dials
    for name in venues:
        assert {target for source, target in dials if source in addresses[name]} <= addresses[name]


def _dials(switch: Program) -> set[tuple[str, str]]:
    switch.type("all?")
    switch.until("all")
    return {(line["source"], line["target"]) for line in switch.seen if line["event"] == "dial"}
