"""A bar whose disk is gone is enrolled again under its name, and has back what anybody remembers of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import pytest

from mesh.core.kinds import Kind, Role
from mesh.shell.keys import load_identity
from mesh.views.tap_entry import TapBody
from tests.factory import LogWriter, Venue, Wristband
from tests.office import write_office
from tests.programs import Line, Program, run
from tests.system.processes import LOG, LOOPBACK, NODE, Enrolled, stop, until_held

VENUE: Final = "mesh.cli_venue:venue"
DEVICE: Final = "mesh.cli_device:device"
SHOWN_ALONE, SHOWN_TWICE = 800, (100, 200)


class LostBar:
    """Bar B sells for 6.50, which reaches bar A, and for 7.00, which reaches a courier's phone. What it sells then
    reaches nobody: for 8.00, and twice in a row, to wristbands that are used at bar A later; for 9.00 to one that is
    never seen again. Then its disk dies."""

    def __init__(self, directory: Path) -> None:
        venue = Venue()
        self.directory = directory
        self.event = directory / "event"
        self.a = Enrolled(venue, directory, "bar A", Role.READER)
        self.b = Enrolled(venue, directory, "bar B", Role.READER)
        self.till = Enrolled(venue, directory, "till", Role.TILL)
        self.phone = Enrolled(venue, directory, "phone", Role.COURIER)
        write_office(venue, self.event, *(one.device for one in (self.a, self.b, self.till, self.phone)))
        self.bands = [Wristband(venue, number) for number in range(5)]
        issued = LogWriter(self.till.device)
        self.till.append(*(_tap(band.issue(issued, 5000)) for band in self.bands))

    def sell(self, bar: Enrolled, *sales: tuple[int, int]) -> None:
        """These sales, (wristband, amount), in one run of the bar's program."""
        log = LogWriter(bar.device)
        bar.append(*(_tap(self.bands[number].sell(log, amount)) for number, amount in sales))

    def evening(self) -> dict[str, list[str]]:
        """Everything up to the death of the disk; returns the bar's logs that somebody else has then."""
        self.sell(self.b, (0, 650))
        with self.till.node() as till, self.a.node() as a, self.b.node() as b:
            until_held(a, 8)
            stop([till, a, b])
        self.sell(self.b, (1, 700))
        with self.phone.courier() as phone, self.b.node() as b:
            until_held(phone, 10)
            stop([phone, b])
        remembered = {log: entries for log, entries in self.b.logs().items() if log in self.phone.logs()}
        self.sell(self.b, (2, SHOWN_ALONE), *((3, amount) for amount in SHOWN_TWICE), (4, 900))
        self.sell(self.a, (2, 300), (3, 50))
        shutil.rmtree(self.b.directory)
        return remembered

    def enrol_again(self, directory: Path) -> None:
        self.command(VENUE, "enrol", "bar B", "--role", "reader", "--venue", self.event, "--device", directory)

    def command(self, command: str, *arguments: str | Path) -> str:
        done = run(command, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _held_by(*directories: Path) -> int:
    """How many entries these devices hold together."""
    logs: dict[str, int] = {}
    for directory in directories:
        for line in run(LOG, "ls", "--dir", str(directory), "--json").stdout.splitlines():
            log = json.loads(line)
            logs[log["log"]] = max(log["entries"], logs.get(log["log"], 0))
    return sum(logs.values())


def _tap(tap: TapBody) -> tuple[Kind, bytes]:
    return Kind.TAP, tap.encode()


@pytest.mark.proves("B6")
def test_bar_that_lost_its_disk_gets_its_logs_back_and_what_it_does_not_is_named_with_its_amount(
    tmp_path: Path,
) -> None:
    night = LostBar(tmp_path)
    remembered = night.evening()
    again = tmp_path / "bar-B-again"
    refused = run(VENUE, "enrol", "bar B", "--role", "reader", "--venue", night.event, "--device", tmp_path / "early")
    assert refused.returncode == 2
    assert "'tapmesh venue retire' frees its name" in " ".join(refused.stderr.split())
    assert "Retired: 'bar B'" in night.command(VENUE, "retire", "bar B", "--venue", night.event)
    night.enrol_again(again)
    assert load_identity(again).certificate.serial != night.b.device.certificate.serial

    def history(*options: str) -> str:
        return night.command(DEVICE, "history", "--dir", again, *options)

    everything = _held_by(again, night.a.directory, night.phone.directory)
    with Program(NODE, "run", "--dir", again, "--zone", "north", "--json", *LOOPBACK) as b, night.a.node() as a:
        until_held(b, _held_by(again, night.a.directory))
        from_peers: Line = json.loads(history("--json"))
        assert from_peers["held"] == {"SALE": {"taps": 1, "amount_minor": 650}}
        with night.phone.courier() as phone:
            until_held(b, everything)
            stop([phone])
        stop([a, b])

    listed = [json.loads(line) for line in night.command(LOG, "ls", "--dir", again, "--json").splitlines()]
    assert sum(log["device"] == "bar B" for log in listed) == 2
    for log, entries in remembered.items():
        assert night.command(LOG, "show", log, "--dir", again, "--raw").splitlines() == entries

    told: Line = json.loads(history("--json"))
    assert told["held"] == {"SALE": {"taps": 2, "amount_minor": 1350}}
    assert [(one["card"], one["spent_minor"]) for one in told["shown"]] == [(night.bands[2].card.hex(), SHOWN_ALONE)]
    assert [(one["first_write"], one["last_write"], one["spent_minor"]) for one in told["together"]] == [
        (2, 3, sum(SHOWN_TWICE))
    ]
    assert told["unseen_sales_minor_max"] >= 900
    at_a: Line = json.loads(night.command(DEVICE, "history", "--dir", night.a.directory, "--of", "BAR B", "--json"))
    assert (at_a["shown"], at_a["together"], at_a["held"]) == (told["shown"], told["together"], told["held"])
    nobody = run(DEVICE, "history", "--dir", again, "--of", "bar Q")
    assert (nobody.returncode, "no other device called 'bar Q'" in nobody.stderr) == (2, True)
    text = history()
    assert "2 x sale (1350 minor units)" in text
    assert "spent 800 minor units, read by 'bar A'" in text
    assert "CANNOT BE KNOWN. Sales at most" in text
