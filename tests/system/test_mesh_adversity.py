"""A machine whose surroundings are wrong: no network at all, or a clock that nobody has set."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mesh.core.chain import check_run
from mesh.core.entry import NO_PREV, decode_entry
from mesh.core.kinds import Role
from mesh.limits import TIME_MS_MAX
from mesh.shell.device import Device, PeerInStep, open_device
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.program import RELEASE_YEAR, clock_remark
from mesh.shell.store import OWN_FILE, Durability, RunStore
from tests.factory import LogWriter, Venue, Wristband
from tests.programs import Program, run
from tests.system.processes import APPENDER, LOOPBACK, NODE, Enrolled, aborts, status, stop, until_held, until_note

YEAR_S = 365.2425 * 24 * 3600


def test_node_without_any_network_interface_runs_and_says_so(
    tmp_path: Path, require_program: Callable[[str], str], require_system: Callable[[bool, str], None]
) -> None:
    unshare = require_program("unshare")
    allowed = subprocess.run([unshare, "--net", "true"], check=False, capture_output=True).returncode == 0
    require_system(allowed, "this user may not make network namespaces (root may)")
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    bar.append(*aborts(2))
    options = ["run", "--dir", str(bar.directory), "--zone", "north", "--json"]
    with Program("tests.system.inside:enter", unshare, "--net", "--", NODE, *options) as program:
        assert program.until("ready")["entries"] == 3
        assert "sales go on" in until_note(program, "no network")
        assert status(program)["links"] == []
        stop([program])


def test_only_a_clock_before_the_release_is_remarked_upon() -> None:
    remark = clock_remark(0.0)
    assert remark is not None
    assert "1970" in remark
    assert "money is not affected" in remark
    assert clock_remark((RELEASE_YEAR - 1970 + 1) * YEAR_S) is None
    assert clock_remark((2099 - 1970) * YEAR_S) is None


@pytest.mark.proves("S1.19")
async def test_devices_whose_clocks_are_wrong_exchange_everything_and_agree_on_the_money(tmp_path: Path) -> None:
    venue = Venue()
    till, bar = venue.device("till", Role.TILL), venue.device("bar", Role.READER)
    band, of_till, of_bar = Wristband(venue, 1), LogWriter(till), LogWriter(bar)
    of_till.time_ms = TIME_MS_MAX
    band.issue(of_till, 2000)
    for _ in range(3):
        of_bar.time_ms = 0
        band.sell(of_bar, 650)
    assert {decode_entry(entry).time_ms for entry in of_bar.entries[1:]} == {0}
    directories = [_store(log, tmp_path) for log in (of_till, of_bar)]
    with trio.fail_after(60):
        async with open_device(directories[0], zone="n") as one, open_device(directories[1], zone="n") as other:
            await _until_in_step(one, other)
            accounts = [device.cards.account(band.card) for device in (one, other)]
    assert accounts[0].balance_minor == accounts[1].balance_minor == 2000 - 3 * 650
    assert len(accounts[0].counted) == len(accounts[1].counted) == 4


def _store(log: LogWriter, directory: Path) -> Path:
    """The directory of a device that wrote this log while its clock showed what the log says."""
    device = log.device.write_directory(directory / log.device.certificate.name)
    store = RunStore(device / OWN_FILE, Durability.POWER_CUT)
    with store.transaction():
        store.add_log(log.log_id, log.entries[0])
        store.add_branch(log.log_id, 0, 0, NO_PREV, parent=None, attached=True)
        store.append_run(check_run(log.log_id, log.entries), 0, verified=True)
    store.close()
    return device


async def _until_in_step(one: Device, other: Device) -> None:
    loopback = Endpoint("127.0.0.1", 0)
    notices = other.subscribe()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(Network(one, Settings(loopback, mdns=False)).run)
        peers = (Endpoint("127.0.0.1", port),)
        await nursery.start(Network(other, Settings(loopback, peers, mdns=False)).run)
        async for notice in notices:
            if isinstance(notice, PeerInStep):
                break
        nursery.cancel_scope.cancel()


def test_program_whose_disk_is_full_ends_with_an_exit_code_of_its_own_and_keeps_what_it_acknowledged(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    limited = (require_program("prlimit"), "--fsize=400000", "--")
    options = ("--dir", str(bar.directory), "--zone", "north", "--json", "--no-mdns", *LOOPBACK)
    with Program("tests.system.inside:enter", *limited, APPENDER, *options) as program:
        with pytest.raises(AssertionError, match=r"the disk refused a\s+write"):
            program.until("a line that it never says")
        assert program.wait() == 4
        acknowledged = [line for line in program.seen if line["event"] == "appended"]
    logs = bar.logs()
    assert len(acknowledged) > 10
    for line in acknowledged:
        assert len(logs[line["log"]]) > line["seq"]


@pytest.mark.parametrize("file", ["own.db", "replica.db"])
def test_damaged_store_is_named_and_left_as_it_is(tmp_path: Path, file: str) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    bar.append(*aborts(3))
    damaged = b"no database at all" * 1000
    (bar.directory / file).write_bytes(damaged)
    done = run(NODE, "run", "--dir", bar.directory, "--zone", "north")
    assert done.returncode == 4
    assert file in done.stderr
    assert "left as it is" in " ".join(done.stderr.split()) or "left as it was" in done.stderr
    assert (bar.directory / file).read_bytes() == damaged


def test_device_without_its_replica_goes_on_and_gets_everything_back(tmp_path: Path) -> None:
    venue = Venue()
    bar_a, bar_b = Enrolled(venue, tmp_path, "bar A", Role.READER), Enrolled(venue, tmp_path, "bar B", Role.READER)
    bar_a.append(*aborts(50))
    bar_b.append(*aborts(5))
    for _ in range(2):
        with bar_a.node() as a, bar_b.node() as b:
            until_held(b, 57)
            until_held(a, 57)
            stop([a, b])
        assert bar_a.logs() == bar_b.logs()
        for file in bar_b.directory.glob("replica.db*"):
            file.unlink()
