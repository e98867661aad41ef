"""`tapmesh log`: into the store of a device that runs, and of one whose file is damaged."""

from __future__ import annotations

import json
from pathlib import Path

from mesh.core.kinds import Kind, Role
from tests.factory import LogWriter, Venue, Wristband
from tests.programs import run
from tests.system.processes import LOG, Enrolled, aborts, status


def test_logs_of_a_running_device_can_be_read(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    bar.append(*aborts(3))
    with bar.node() as program:
        program.until("ready")
        (entries,) = bar.logs().values()
        assert len(entries) == 4
        assert status(program)["entries"] == 4


def test_tap_is_shown_with_its_amount_and_what_the_wristband_held(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER, Role.TILL)
    band, writer = Wristband(bar.device.venue, 1), LogWriter(bar.device)
    taps = [band.issue(writer, 2000), band.sell(writer, 650)]
    bar.append(*((Kind.TAP, tap.encode()) for tap in taps))
    (log_id,) = bar.logs()
    done = run(LOG, "show", log_id[:8], "--dir", bar.directory, "--json", "--from", "2", "--to", "2")
    assert done.returncode == 0, done.stderr
    (shown,) = map(json.loads, done.stdout.splitlines())
    assert shown["kind"] == "TAP"
    assert (shown["body"]["operation"], shown["body"]["amount_minor"]) == ("SALE", 650)
    assert (shown["body"]["read"]["balance_minor"], shown["body"]["written"]["balance_minor"]) == (2000, 1350)
    text = run(LOG, "show", log_id[:8], "--dir", bar.directory).stdout
    assert "amount_minor: 650" in text
    assert "device: bar A" in text


def test_damaged_file_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    venue = Venue()
    bar = Enrolled(venue, tmp_path, "bar A", Role.READER)
    bar.append(*aborts(2))
    (bar.directory / "replica.db").write_bytes(b"this is no database" * 1000)
    done = run(LOG, "ls", "--dir", bar.directory, "--json")
    assert done.returncode == 4
    assert "replica.db" in done.stderr
    (shown,) = map(json.loads, done.stdout.splitlines())
    assert (shown["device"], shown["entries"]) == ("bar A", 3)


def test_entries_that_the_disk_lost_are_named_and_the_others_are_shown(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    bar.append(*aborts(40))
    (before,) = bar.logs().values()
    file = bar.directory / "own.db"
    data = bytearray(file.read_bytes())
    lost = bytes.fromhex(before[20])
    at = data.index(lost)
    data[at - 2 : at + len(lost)] = bytes(len(lost) + 2)
    file.write_bytes(bytes(data))
    (log_id,) = (
        json.loads(line)["log"] for line in run(LOG, "ls", "--dir", bar.directory, "--json").stdout.splitlines()
    )
    done = run(LOG, "show", log_id, "--dir", bar.directory, "--raw")
    assert done.returncode == 4
    assert "20" in done.stderr
    assert done.stdout.splitlines() == before[:20] + before[21:]


def test_directory_without_a_store_is_not_mistaken_for_an_empty_one(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    done = run(LOG, "ls", "--dir", bar.directory)
    assert done.returncode == 2
    assert "holds no store" in done.stderr
