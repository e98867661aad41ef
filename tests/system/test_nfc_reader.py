"""A whole reader as a process: orders by standard input, wristbands over NFC, its store on disk; and kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.programs import Line, Program, free_udp_port, run

READER, WRISTBAND, VENUE = "reader.cli:reader", "reader.cli_wristband:wristband", "mesh.cli_venue:venue"


NUMBERS = count(1)
"""A venue's devices have names of their own."""


class Bar:
    """One enrolled device at one port, and whatever is running there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_udp_port()
        self.running: list[Program] = []

    def reader(self) -> Program:
        device = f"udp:127.0.0.1:{self.port}"
        alone = ("--no-mdns", "--listen", "127.0.0.1:0", "--json")
        program = Program(READER, "run", "--dir", self.directory, "--device", device, *alone)
        self.running.append(program)
        program.until("ready")
        return program

    def wristband(self, image: Path, *options: str) -> Program:
        program = Program(WRISTBAND, "run", "--port", str(self.port), "--image", image, "--json", *options)
        self.running.append(program)
        program.until("ready")
        return program


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("venue") / "event"
    made = run(VENUE, "init", directory, "--name", "Test", "--zone", "north", "--per-tap-cap", "50")
    assert made.returncode == 0, made.stderr
    return directory


@pytest.fixture
def bar(venue: Path, tmp_path: Path) -> Iterator[Bar]:
    device = tmp_path / "bar"
    roles = ("--role", "reader", "--role", "till")
    enrolled = run(VENUE, "enrol", f"Bar {next(NUMBERS)}", *roles, "--venue", venue, "--device", device)
    assert enrolled.returncode == 0, enrolled.stderr
    made = Bar(device)
    yield made
    for program in made.running:
        program.kill()


@pytest.fixture
def band(tmp_path: Path) -> Path:
    return tmp_path / "band"


def outcome(reader: Program) -> Line:
    return reader.until("green", "red")


@pytest.mark.proves("S1.1", "S2.2", "S2.10")
def test_a_top_up_and_a_sale_go_green_without_any_network(bar: Bar, band: Path) -> None:
    reader = bar.reader()
    reader.type("topup 20.00")
    bar.wristband(band)
    assert outcome(reader)["balance_minor"] == 2000
    reader.type("sale 6.50")
    green = outcome(reader)
    assert (green["event"], green["amount_minor"], green["balance_minor"]) == ("green", 650, 1350)
    assert list(green["stages_ms"]) == ["sense", "read", "verify", "seal", "intent", "write", "read_back", "commit"]
    reader.type("quit")
    assert reader.wait() == 0


def test_declines_and_what_was_mistyped_move_no_money(bar: Bar, band: Path) -> None:
    reader = bar.reader()
    bar.wristband(band)
    for typed, said in (("sale 1.2.3", "refused"), ("sale 0", "refused"), ("sail 5", "refused"), ("cancel", "amber")):
        reader.type(typed)
        reader.until(said)
    reader.type("sale 6.50")
    assert outcome(reader)["reason"] == "no_balance_yet"
    reader.type("topup 60")
    assert outcome(reader)["balance_minor"] == 6000
    reader.type("sale 50.01")
    assert outcome(reader)["reason"] == "over_cap"


@pytest.mark.proves("S1.17", "B5")
def test_killed_while_the_wristband_programs_the_restarted_reader_finishes_the_tap_once(bar: Bar, band: Path) -> None:
    reader = bar.reader()
    reader.type("topup 20.00")
    first = bar.wristband(band)
    outcome(reader)
    first.kill()
    slow = bar.wristband(band, "--block-ms", "100")
    reader.type("sale 6.50")
    slow.until("programming")
    reader.kill()
    again = bar.reader()
    assert again.until("amber", "green")["notice"] == "unfinished_at_start"
    green = outcome(again)
    assert (green["event"], green["amount_minor"], green["balance_minor"]) == ("green", 650, 1350)
    again.type("sale 1.00")
    assert outcome(again)["balance_minor"] == 1250


@pytest.mark.proves("S1.17", "B5")
@pytest.mark.parametrize("programmed", [0, 42, 100])
def test_a_torn_wristband_held_again_is_charged_once(bar: Bar, band: Path, programmed: int) -> None:
    reader = bar.reader()
    reader.type("topup 20.00")
    whole = bar.wristband(band)
    outcome(reader)
    whole.kill()
    torn = bar.wristband(band, "--tear-after", str(programmed))
    reader.type("sale 6.50")
    assert torn.wait() == 0
    while reader.until("amber")["notice"] != "hold_again":
        pass
    bar.wristband(band)
    assert outcome(reader)["balance_minor"] == 1350


@pytest.mark.proves("S1.18")
def test_a_rolled_back_wristband_is_declined_naming_where_it_was_spent(bar: Bar, band: Path) -> None:
    reader = bar.reader()
    reader.type("topup 20.00")
    whole = bar.wristband(band)
    outcome(reader)
    reader.type("sale 6.50")
    outcome(reader)
    whole.kill()
    assert run(WRISTBAND, "rollback", band, "--to", "1").returncode == 0
    bar.wristband(band)
    reader.type("sale 6.50")
    red = outcome(reader)
    assert red["reason"] == "older_state" and "EUR 6.50 at Bar " in red["staff"] and len(red["taps"]) == 1


def test_reader_says_what_it_holds_and_who_is_linked_when_asked(bar: Bar, band: Path) -> None:
    reader = bar.reader()
    reader.type("status")
    before = reader.until("status")
    reader.type("topup 20.00")
    bar.wristband(band)
    outcome(reader)
    reader.type("status")
    after = reader.until("status")
    assert after["entries"] > before["entries"]
    assert after["links"] == []


def test_one_device_runs_once(bar: Bar) -> None:
    bar.reader()
    other = run(READER, "run", "--dir", bar.directory, "--device", "udp:127.0.0.1:1", "--no-mdns")
    assert other.returncode == 2 and "Error:" in other.stderr


def test_a_reader_without_a_device_or_an_enrolment_says_what_to_do(bar: Bar, tmp_path: Path) -> None:
    missing = run(READER, "run", "--dir", bar.directory, "--device", "usb:ffff:ffff")
    assert missing.returncode == 2 and "no NFC reader" in missing.stderr
    stranger = run(READER, "run", "--dir", tmp_path / "nobody", "--device", "udp:127.0.0.1:1")
    assert stranger.returncode == 2 and "enrol" in stranger.stderr
