"""A reader is taken out while the bars sell: real processes, the office's own commands, and a settlement service."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.core.kinds import Kind, Role
from tests.factory import LogWriter, Venue, Wristband
from tests.office import write_office
from tests.programs import Line, Program, run
from tests.system.processes import LOOPBACK, NODE, Enrolled, status, stop, until_held, until_met, until_note
from tests.system.test_settlement import GATEWAY, SETTLEMENT

VENUE = "mesh.cli_venue:venue"
DEVICE = "mesh.cli_device:device"
LOG = "mesh.cli_log:log"
DOCTOR = "mesh.cli_doctor:doctor"
OUT_AT_ONCE_S = 1.0
"""The longest that a link to a revoked device may stay after its revocation was heard."""


class Night:
    """Two bars and an office. Bar A sells for 6.50 and 7.00 to a wristband that bar B issued with 50.00."""

    def __init__(self, directory: Path) -> None:
        venue = Venue()
        self.directory = directory
        self.a = Enrolled(venue, directory, "bar A", Role.READER)
        self.b = Enrolled(venue, directory, "bar B", Role.READER, Role.TILL)
        self.gateway = Enrolled(venue, directory, "gateway", Role.GATEWAY)
        self.settlement = Enrolled(venue, directory, "settlement", Role.SETTLEMENT)
        devices = (self.a, self.b, self.gateway, self.settlement)
        self.band = Wristband(venue, 1)
        write_office(venue, directory / "event", *(enrolled.device for enrolled in devices))
        issued = self.band.issue(LogWriter(self.b.device), 5000)
        sold = [self.band.sell(LogWriter(self.a.device), amount) for amount in (650, 700)]
        self.b.append((Kind.TAP, issued.encode()))
        self.a.append(*((Kind.TAP, tap.encode()) for tap in sold))
        (self.log_of_a,) = self.a.logs()

    def office(self) -> Program:
        return Program(
            NODE, "run", "--dir", self.directory / "event" / "manager", "--zone", "north", "--json", *LOOPBACK
        )

    def command(self, command: str, *arguments: str | Path) -> str:
        done = run(command, *arguments)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    def revoke(self, *arguments: str | Path) -> str:
        return self.command(VENUE, "revoke", "bar A", "--venue", self.directory / "event", *arguments)

    def service(self) -> Program:
        return Program(SETTLEMENT, "run", "--dir", self.settlement.directory, "--listen", "127.0.0.1:0", "--json")

    def forward(self, address: str) -> Program:
        options = ("--dir", self.gateway.directory, "--zone", "north", "--json", *LOOPBACK)
        return Program(GATEWAY, "run", *options, "--upstream", address)

    def until_booked(self, service: Program, **accounts: int) -> Line:
        """Wait until the ledger has these balances."""
        while True:
            service.until("batch")
            report: Line = json.loads(self.command(SETTLEMENT, "show", "--dir", self.settlement.directory, "--json"))
            if {name: report["accounts"][name] for name in accounts} == accounts:
                return report


@pytest.mark.proves("M7")
def test_reader_revoked_while_linked_is_out_at_once_and_its_bar_is_paid(tmp_path: Path) -> None:
    night = Night(tmp_path)
    with ExitStack() as stack:
        a, b = stack.enter_context(night.a.node()), stack.enter_context(night.b.node())
        office = stack.enter_context(night.office())
        until_held(office, 5)
        until_met(b, "bar A")
        stop([office])
        told = night.revoke("--cut", f"{night.log_of_a[:8]}:1")
        assert "1 x sale (700 minor units) no longer count" in told
        office = stack.enter_context(night.office())
        heard = b.until("revoked")
        assert (heard["device"], heard["number"], heard["own"]) == ("bar A", 1, False)
        parted = b.until_within(OUT_AT_ONCE_S, "parted")
        assert (parted["peer"], "revoked" in parted["reason"]) == ("bar A", True)
        while "was revoked" not in str(a.until("parted", "note")):
            pass
        until_note(b, "link to bar A did not come about", "revoked")
        assert "bar A" not in status(b)["links"]
        assert status(b)["revoked"] == ["bar A"]

        service = stack.enter_context(night.service())
        gateway = stack.enter_context(night.forward(service.until("ready")["address"]))
        report = night.until_booked(service, venue_sales=-1350, suspense=700, card_liability=-4350)
        assert report["balanced"]
        assert [(log["device"], log["counted_to"]) for log in report["revoked"]] == [("bar A", 1)]

        stop([office])
        assert "1 x sale (700 minor units) count again" in night.revoke("--cut", "held")
        office = stack.enter_context(night.office())
        night.until_booked(service, venue_sales=-1350, suspense=0, card_liability=-3650)
        assert b.until("revoked")["number"] == 2
        stop([a, b, office, gateway, service])


@pytest.mark.proves("M7")
def test_revocation_heard_from_a_file_survives_the_loss_of_everything_that_peers_gave(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.revoke("--out", tmp_path / "out.starter")
    assert "new entries" in night.command(DEVICE, "load", tmp_path / "out.starter", "--dir", night.b.directory)
    with night.b.node("--no-mdns") as b:
        assert b.until("revoked")["device"].startswith("bar A")
        b.until("ready")
        stop([b])
    for file in night.b.directory.glob("replica.db*"):
        file.unlink()
    with night.b.node() as b, night.a.node() as a:
        b.until("revoked")
        until_note(b, "link to bar A did not come about", "revoked")
        assert (status(a)["links"], status(b)["links"]) == ([], [])
    listed = [json.loads(line) for line in run(LOG, "ls", "--dir", night.b.directory, "--json").stdout.splitlines()]
    assert [log["revoked"] for log in listed if log["device"] == "bar B"] == [False]


@pytest.mark.proves("M7")
def test_device_that_heard_of_its_own_revocation_says_so(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.revoke("--cut", "none", "--out", tmp_path / "out.starter")
    night.command(DEVICE, "load", tmp_path / "out.starter", "--dir", night.a.directory)
    with night.a.node("--no-mdns") as a:
        assert a.until("revoked")["own"]
        stop([a])
    looked_at = run(DOCTOR, "--dir", night.a.directory, "--json")
    assert looked_at.returncode != 0
    assert "was revoked by the venue's authority" in looked_at.stdout
    listed = [json.loads(line) for line in run(LOG, "ls", "--dir", night.a.directory, "--json").stdout.splitlines()]
    assert [(log["revoked"], log["counted_to"]) for log in listed if log["device"] == "bar A"] == [(True, None)]


@pytest.mark.proves("M7")
def test_settlement_answers_a_revoked_gateway_no_more_and_says_why(tmp_path: Path) -> None:
    night = Night(tmp_path)
    with ExitStack() as stack:
        service = stack.enter_context(night.service())
        address = service.until("ready")["address"]
        office, b = stack.enter_context(night.office()), stack.enter_context(night.b.node())
        first = stack.enter_context(night.forward(address))
        night.until_booked(service, top_up_cash=5000)
        until_met(office, "gateway")
        stop([office])
        night.command(VENUE, "revoke", "gateway", "--venue", night.directory / "event")
        spare = Enrolled(night.a.device.venue, tmp_path, "spare", Role.GATEWAY)
        options = ("--dir", spare.directory, "--zone", "north", "--json", *LOOPBACK, "--upstream", address)
        office = stack.enter_context(night.office())
        second = stack.enter_context(Program(GATEWAY, "run", *options))
        until_note(service, "'gateway' was revoked")
        while "was revoked" not in first.until("unreachable")["text"]:
            pass
        assert status(first)["reached"] is False
        assert status(second)["reached"] is True
        stop([office, b, first, second, service])
