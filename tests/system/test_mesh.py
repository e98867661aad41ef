"""The mesh as real processes: devices find each other, exchange everything, and survive what happens to them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.core.kinds import Kind, Role
from tests.factory import LogWriter, Venue, Wristband
from tests.programs import Program, run
from tests.system.processes import (
    NODE,
    Enrolled,
    aborts,
    status,
    stop,
    until_held,
    until_in_step,
    until_met,
    until_note,
)


@pytest.mark.proves("M1")
@pytest.mark.proves("M3")
def test_nodes_find_each_other_without_configuration_and_hold_byte_identical_logs(tmp_path: Path) -> None:
    venue = Venue()
    bars = [Enrolled(venue, tmp_path, f"bar {name}", Role.READER) for name in "ABC"]
    for count, bar in enumerate(bars, 1):
        bar.append(*aborts(100 * count))
    with ExitStack() as stack:
        programs = [stack.enter_context(bar.node()) for bar in bars]
        digests = {until_held(program, 603)["digest"] for program in programs}
        stop(programs)
    assert len(digests) == 1
    of_a, of_b, of_c = (bar.logs() for bar in bars)
    assert len(of_a) == 3
    assert of_a == of_b == of_c


@pytest.mark.proves("M4")
def test_wristband_sold_from_twice_is_surfaced_at_both_nodes_with_both_signed_taps(tmp_path: Path) -> None:
    venue = Venue()
    bar_a = Enrolled(venue, tmp_path, "bar A", Role.READER, Role.TILL)
    bar_b = Enrolled(venue, tmp_path, "bar B", Role.READER)
    band = Wristband(venue, 1)
    issued = band.issue(LogWriter(bar_a.device), 2000)
    clone = band.clone()
    sold_at_a = band.sell(LogWriter(bar_a.device), 650)
    sold_at_b = clone.sell(LogWriter(bar_b.device), 700)
    bar_a.append((Kind.TAP, issued.encode()), (Kind.TAP, sold_at_a.encode()))
    bar_b.append((Kind.TAP, sold_at_b.encode()))
    with bar_a.node() as a, bar_b.node() as b:
        lines = [a.until("conflict"), b.until("conflict")]
    assert lines[0]["case"] == lines[1]["case"]
    for line in lines:
        assert line["card"] == band.card.hex()
        assert line["at_risk_minor"] == 700
        assert sorted((tap["reader"], tap["amount_minor"]) for tap in line["taps"]) == [("bar A", 650), ("bar B", 700)]
        logs = bar_b.logs()
        for tap in line["taps"]:
            assert len(logs[tap["log"]]) > tap["seq"]


def test_conflict_is_surfaced_again_after_a_restart_without_any_peer(tmp_path: Path) -> None:
    venue = Venue()
    bar = Enrolled(venue, tmp_path, "bar A", Role.READER, Role.TILL)
    band = Wristband(venue, 1)
    log = LogWriter(bar.device)
    issued = band.issue(log, 2000)
    clone = band.clone()
    first, second = band.sell(log, 650), clone.sell(log, 700)
    bar.append(*((Kind.TAP, body.encode()) for body in (issued, first, second)))
    with bar.node() as program:
        assert program.until("conflict")["card"] == band.card.hex()
        assert status(program)["conflicts"] == 1


def test_node_killed_while_appending_keeps_what_it_acknowledged_and_starts_new_logs(tmp_path: Path) -> None:
    venue = Venue()
    bar_a, bar_b = Enrolled(venue, tmp_path, "bar A", Role.READER), Enrolled(venue, tmp_path, "bar B", Role.READER)
    with bar_b.node() as b:
        with bar_a.appender() as a:
            until_met(a, "bar B")
            acknowledged = [a.until("appended") for _ in range(200)]
        lives = [bar_a.logs()]
        with bar_a.appender() as a:
            acknowledged += [a.until("appended") for _ in range(20)]
        lives.append(bar_a.logs())
        with bar_a.node() as a:
            until_in_step(a, "bar B")
            held = status(a)["entries"]
            assert status(b)["entries"] == held
            stop([a, b])
    assert set(lives[0]) < set(lives[1])
    assert all(lives[1][log] == entries for log, entries in lives[0].items()), "an older log was appended to"
    assert bar_a.logs() == bar_b.logs() == lives[1]
    for line in acknowledged:
        assert len(lives[1][line["log"]]) > line["seq"]


def test_device_that_was_never_enrolled_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    done = run(NODE, "run", "--dir", tmp_path / "new", "--zone", "north")
    assert done.returncode == 2
    assert "no enrolled device" in done.stderr
    assert "tapmesh venue enrol" in " ".join(done.stderr.split())


@pytest.mark.proves("M7")
def test_device_of_another_venue_is_refused_and_gets_nothing(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path / "ours", "bar A", Role.READER)
    bar.append(*aborts(3))
    stranger = Enrolled(Venue("Last year"), tmp_path / "theirs", "bar A", Role.READER)
    with bar.node() as a:
        port = a.until("ready")["port"]
        with stranger.node("--peer", f"127.0.0.1:{port}") as s:
            until_note(a, "refused")
            text = until_note(s, "not of this venue")
            assert "refused" in text
            assert status(s)["entries"] == 0
        assert status(a)["links"] == []
    assert not [line for line in a.seen if line["event"] == "met"]


def test_second_program_on_one_device_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    with bar.node() as first:
        first.until("ready")
        second = run(NODE, "run", "--dir", bar.directory, "--zone", "north")
        assert second.returncode == 2
        assert f"in use by process {first.process.pid}" in " ".join(second.stderr.split())
        assert status(first)["zone"] == "north"


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    venue = Venue()
    bar_a, bar_b = Enrolled(venue, tmp_path, "bar A", Role.READER), Enrolled(venue, tmp_path, "bar B", Role.READER)
    with bar_a.node() as first:
        taken = f"127.0.0.1:{first.until('ready')['port']}"
        second = run(NODE, "run", "--dir", bar_b.directory, "--zone", "north", "--listen", taken)
    assert second.returncode == 2
    assert f"{taken} is taken by another program" in second.stderr


def test_zone_must_be_said_where_the_venue_leaves_a_choice(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    done = run(NODE, "run", "--dir", bar.directory)
    assert done.returncode == 2
    assert "Say --zone NAME" in done.stderr


def test_program_ends_with_its_input_only_when_asked_to(tmp_path: Path) -> None:
    venue = Venue()
    bar_a, bar_b = Enrolled(venue, tmp_path, "bar A", Role.READER), Enrolled(venue, tmp_path, "bar B", Role.READER)
    with bar_a.node("--until-eof") as helper, bar_b.node() as alone:
        until_met(alone, "bar A")
        _end_input(alone)
        _end_input(helper)
        assert helper.wait() == 0
        assert alone.until("parted")["peer"] == "bar A"
        stop([alone])


def _end_input(program: Program) -> None:
    assert program.process.stdin is not None
    program.process.stdin.close()
