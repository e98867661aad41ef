"""`tapmesh doctor`: READY, or what is missing and what to do, on real devices."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh.core.kinds import Role
from mesh.shell.device import open_device
from mesh.shell.doctor import Outcome, Patient
from mesh.shell.doctor_device import BEHIND_S_MAX, clock, measure_fsync
from mesh.shell.program import RELEASE_YEAR
from tests.factory import Venue
from tests.joining import LOOPBACK, make_event, open_for_joining
from tests.programs import free_udp_port, run
from tests.system.processes import Enrolled, aborts

DOCTOR = "mesh.cli_doctor:doctor"


@pytest.fixture
def bar(tmp_path: Path) -> Path:
    """A reader that joined by its code, and never ran."""

    async def join() -> None:
        async with open_for_joining(await make_event(tmp_path / "event")) as office:
            (code,) = office.invite("Bar A")
            await office.join(code, tmp_path / "bar-a")

    trio.run(join)
    settings = tmp_path / "bar-a" / "device.toml"
    settings.write_text(f'zone = "north"\ninterface = "{LOOPBACK}"\n', encoding="utf-8")
    return tmp_path / "bar-a"


def _doctor(directory: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]], bool]:
    """Exit code, the checks by name, and whether the device is called ready."""
    done = run(DOCTOR, "--dir", directory, "--json", *options)
    assert done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    return done.returncode, {check["name"]: check for check in report["checks"]}, report["ready"]


def _emulated() -> tuple[str, str]:
    return "--device", f"udp:{LOOPBACK}:{free_udp_port()}"


def test_reader_that_joined_is_ready_before_it_ever_ran(bar: Path) -> None:
    code, checks, ready = _doctor(bar, *_emulated())
    assert (code, ready) == (0, True), checks
    assert checks["identity"]["facts"]["roles"] == ["reader"]
    assert checks["venue"]["facts"]["devices_known"] == 2
    assert checks["disk"]["facts"]["fsync_ms_median"] > 0
    assert checks["multicast"]["facts"]["hears_itself"]
    assert {"trio", "apsw", "zeroconf", "segno"} <= set(checks["versions"]["facts"]["versions"])
    text = run(DOCTOR, "--dir", bar, *_emulated()).stdout
    assert text.splitlines()[-1] == "READY"


def test_doctor_leaves_the_device_as_it_was(bar: Path) -> None:
    before = {path.name: path.read_bytes() for path in bar.iterdir()}
    _doctor(bar, *_emulated())
    after = {path.name: path.read_bytes() for path in bar.iterdir() if not path.name.endswith(("-shm", "-wal"))}
    assert after == before


def test_doctor_works_beside_the_program_that_runs_and_finds_its_neighbour(tmp_path: Path) -> None:
    venue = Venue(f"{secrets.token_hex(8)}: no other run's neighbours")
    one, other = Enrolled(venue, tmp_path, "one", Role.GATEWAY), Enrolled(venue, tmp_path, "other", Role.GATEWAY)
    for device in (one, other):
        (device.directory / "device.toml").write_text(f'interface = "{LOOPBACK}"\n', encoding="utf-8")
    other.append(*aborts(3))
    with one.node() as running, other.node() as neighbour:
        running.until("in_step")
        port = neighbour.until("ready")["port"]
        code, checks, ready = _doctor(one.directory)
        assert (code, ready) == (0, True), checks
        assert checks["running"]["facts"]["process"] == str(running.process.pid)
        assert f"{LOOPBACK}:{port}" in checks["peers"]["facts"]["reached"]
        assert checks["peers seen"]["facts"]["names"] == ["other"]
        assert not [line for line in running.seen if line["event"] == "parted"]


def test_empty_place_is_told_how_to_join(tmp_path: Path) -> None:
    code, checks, ready = _doctor(tmp_path / "nowhere")
    assert (code, ready) == (2, False)
    assert "tapmesh join CODE" in checks["identity"]["todo"]


def test_device_that_waits_for_its_certificate_says_so(bar: Path) -> None:
    (bar / "device.pem").unlink()
    code, checks, _ = _doctor(bar, "--no-network")
    assert code == 2
    assert "no certificate yet" in checks["identity"]["found"]


@pytest.mark.parametrize(
    ("harm", "check", "said"),
    [
        (lambda bar: (bar / "log.key").chmod(0o644), "identity", "chmod 600"),
        (lambda bar: shutil.copy(bar / "link.key", bar / "log.key"), "identity", "are not the ones"),
        (lambda bar: (bar / "root.pem").write_text("rubbish"), "identity", "does not hold a certificate"),
        (lambda bar: bar.chmod(0o777), "permissions", "chmod 700"),
        (lambda bar: (bar / "device.toml").write_text('zoen = "north"'), "settings", "did you mean 'zone'?"),
        (lambda bar: (bar / "device.toml").write_text('zone = "nroth"'), "settings", "not in the venue document"),
        (lambda bar: (bar / "device.toml").unlink(), "settings", "in which zone"),
        (lambda bar: (bar / "replica.db").unlink(), "venue", "no venue document"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    bar: Path, harm: Callable[[Path], object], check: str, said: str
) -> None:
    harm(bar)
    code, checks, ready = _doctor(bar, "--no-network", *_emulated())
    assert (code, ready) == (2, False)
    assert checks[check]["outcome"] == "bad"
    assert said in f"{checks[check]['found']} {checks[check]['todo']}"


def test_damaged_store_is_the_disks_fault(bar: Path) -> None:
    (bar / "replica.db").write_bytes(b"this is no database" * 1000)
    code, checks, ready = _doctor(bar, "--no-network", *_emulated())
    assert (code, ready) == (4, False)
    assert "set-aside" in checks["replica.db"]["found"]


def test_device_whose_own_sales_are_gone_must_not_sell(bar: Path) -> None:
    async def first_start() -> None:
        async with open_device(bar):
            pass

    trio.run(first_start)
    assert _doctor(bar, "--no-network", *_emulated())[0] == 0
    (bar / "own.db").unlink()
    code, checks, _ = _doctor(bar, "--no-network", *_emulated())
    assert code == 4
    assert "own.db is gone" in checks["own.db"]["found"]


def test_reader_without_its_nfc_device_is_not_ready(bar: Path) -> None:
    code, checks, _ = _doctor(bar, "--no-network", "--device", "tty:nothing:pn532")
    assert code == 2
    assert "no NFC reader" in checks["nfc"]["found"]


def test_neighbour_that_announces_itself_and_cannot_be_reached_means_a_network_that_keeps_devices_apart(
    bar: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))  # bound and not listening: whoever connects is refused
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        settings = f'zone = "north"\ninterface = "{LOOPBACK}"\npeer = ["{address}"]\n'
        (bar / "device.toml").write_text(settings, encoding="utf-8")
        code, checks, _ = _doctor(bar, *_emulated())
    assert code == 2
    assert checks["peers"]["facts"]["unreached"] == [address]
    assert "client isolation" in checks["peers"]["todo"]
    assert "--peer ADDRESS:PORT" in checks["peers"]["todo"]


def test_device_alone_on_its_network_is_ready_and_told_what_that_may_mean(bar: Path) -> None:
    code, checks, _ = _doctor(bar, *_emulated())
    assert code == 0
    assert checks["peers"]["outcome"] == "remark"
    assert "client isolation" in checks["peers"]["todo"]


def test_interface_that_is_not_there_is_named(bar: Path) -> None:
    (bar / "device.toml").write_text('zone = "north"\ninterface = "203.0.113.77"\n', encoding="utf-8")
    code, checks, _ = _doctor(bar, *_emulated())
    assert code == 2
    assert "203.0.113.77" in checks["network"]["found"]


@pytest.mark.proves("S1.19")
def test_wrong_clock_is_told_and_refuses_nothing(tmp_path: Path) -> None:
    venue = Venue(f"{secrets.token_hex(8)}: no other run's neighbours")
    bar, other = Enrolled(venue, tmp_path, "bar", Role.READER), Enrolled(venue, tmp_path, "other", Role.READER)
    other.append(*aborts(1))
    with bar.node() as a, other.node():
        a.until("in_step")
    patient = Patient(bar.directory, None, 0.0)
    (check,) = clock(patient)
    assert (check.outcome, "1970" in check.found) == (Outcome.REMARK, True)
    assert RELEASE_YEAR > 1970
    held = patient.held
    assert not isinstance(held, Exception)
    assert held.newest is not None
    newest_s = held.newest.time_ms / 1000
    (good,) = clock(Patient(bar.directory, None, newest_s))
    (behind,) = clock(Patient(bar.directory, None, newest_s - 10 * BEHIND_S_MAX))
    assert (good.outcome, behind.outcome) == (Outcome.GOOD, Outcome.REMARK)
    assert "'other'" in behind.found


def test_measuring_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    assert all(milliseconds > 0 for milliseconds in measure_fsync(tmp_path))
    assert list(tmp_path.iterdir()) == []
