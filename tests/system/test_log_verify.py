"""`tapmesh log verify`: the first thing wrong is named, with who is to blame; the rest is still looked at."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from mesh.core.kinds import Kind, Lane, Role
from mesh.limits import RUN_ENTRIES_MAX
from mesh.shell.status_socket import SOCKET_FILE
from mesh.shell.store import Durability, RunStore
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.harness import runs_of
from tests.programs import run
from tests.system.processes import LOG, Enrolled, aborts, until_held

NO_PREV = bytes(32)


def _root(venue: Venue, directory: Path) -> Path:
    path = directory / "venue.pem"
    if not path.exists():
        shutil.copy(venue.device("somebody").write_directory(directory / "somebody") / "root.pem", path)
    return path


def _verify(path: Path, root: Path, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, JSON lines, what was said on standard error as one line."""
    done = run(LOG, "verify", path, "--root", root, "--json", *options)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], " ".join(done.stderr.split())


def _replica(directory: Path, *logs: LogWriter, entries_max: int = RUN_ENTRIES_MAX) -> Path:
    """A store that holds these logs as a device would have received them."""
    directory.mkdir(exist_ok=True)
    path = directory / "replica.db"
    store = RunStore(path, Durability.PROCESS)
    with store.transaction():
        for log in logs:
            store.add_log(log.log_id, log.entries[0])
            store.add_branch(log.log_id, 0, 0, NO_PREV, parent=None, attached=True)
            for piece in runs_of(log, length=entries_max):
                store.append_run(piece, 0, verified=False)
    store.close()
    return path


def _sales(device: VenueDevice, count: int, *, number: int = 0) -> LogWriter:
    log, band = LogWriter(device, number=number), Wristband(device.venue, number)
    band.issue(log, 2000)
    for _ in range(count):
        band.sell(log, 1)
    return log


def _change(path: Path, before: bytes, after: bytes) -> None:
    """What a flash cell, or a hand, does to a file."""
    data = path.read_bytes()
    assert data.count(before) >= 1
    assert len(before) == len(after)
    path.write_bytes(data.replace(before, after))


def _bar(venue: Venue, name: str = "Bar A") -> VenueDevice:
    return venue.device(name, Role.READER, Role.TILL)


def test_store_of_a_running_device_and_its_copy_hold(tmp_path: Path) -> None:
    venue = Venue(f"{secrets.token_hex(8)}: no other run's neighbours")
    bar, other = Enrolled(venue, tmp_path, "bar A", Role.READER), Enrolled(venue, tmp_path, "bar B", Role.READER)
    bar.append(*aborts(300))
    root = _root(venue, tmp_path)
    with bar.node() as a, other.node() as b:
        until_held(b, 301)
        assert _verify(other.directory, root)[:2] == (0, [_totals(1, 301)])
        assert a.process.poll() is None
    copied = tmp_path / "copy"
    shutil.copytree(other.directory, copied, ignore=shutil.ignore_patterns(SOCKET_FILE))
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    assert _verify(copied, root)[0] == 0
    assert _verify(bar.directory / "own.db", root)[:2] == (0, [_totals(1, 301)])
    assert {path.name: path.read_bytes() for path in copied.iterdir() if not path.name.endswith("-shm")} == {
        name: data for name, data in before.items() if not name.endswith("-shm")
    }


def _totals(logs: int, entries: int) -> dict[str, Any]:
    return {"logs": logs, "entries": entries, "signatures": entries, "unchecked": 0, "islands": 0, "findings": 0}


def test_copy_on_a_medium_that_cannot_be_written_to_is_verified_where_it_lies(tmp_path: Path) -> None:
    venue = Venue()
    path = _replica(tmp_path / "copy", _sales(_bar(venue), 20))
    root = _root(venue, tmp_path)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert _verify(path, root)[0] == 0
        assert [file.name for file in path.parent.iterdir()] == ["replica.db"]
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("at", [1, 57, 99])
def test_changed_byte_is_found_in_its_entry_and_the_file_is_blamed(tmp_path: Path, at: int) -> None:
    venue = Venue()
    log = _sales(_bar(venue), 120)
    path = _replica(tmp_path / "copy", log, entries_max=40)
    signature = log.entries[at][-60:-40]
    _change(path, signature, bytes([signature[0] ^ 1]) + signature[1:])
    code, (first, *rest), said = _verify(path, _root(venue, tmp_path))
    assert code == 4
    assert (first["log"], first["seq"], first["blame"], first["device"]) == (log.log_id.hex(), at, "file", "Bar A")
    assert all(found["blame"] == "file" for found in rest[:-1])
    assert "the file's fault" in said
    text = run(LOG, "verify", path, "--root", _root(venue, tmp_path)).stdout.splitlines()
    assert len(text) == 1
    assert f"seq {at}:" in text[0]


def test_entry_whose_bytes_are_gone_is_named_and_those_around_it_are_verified(tmp_path: Path) -> None:
    venue = Venue()
    log = _sales(_bar(venue), 20)
    path = _replica(tmp_path / "copy", log, entries_max=1)
    _change(path, log.entries[7], bytes(len(log.entries[7])))
    code, (first, *_, totals), _ = _verify(path, _root(venue, tmp_path))
    assert code == 4
    assert first["seq"] == 7
    assert totals["entries"] == len(log.entries) - 1


def test_run_that_is_missing_is_named_with_its_seqs(tmp_path: Path) -> None:
    venue = Venue()
    path = _replica(tmp_path / "copy", _sales(_bar(venue), 30), entries_max=4)
    database = apsw.Connection(str(path))
    database.execute("DELETE FROM run WHERE first_seq = 8")
    database.close()
    code, (first, *_), _ = _verify(path, _root(venue, tmp_path))
    assert (code, first["seq"], first["blame"]) == (4, 8, "file")
    assert "to seq 11 are missing" in first["text"]


def test_entries_of_another_log_in_a_logs_place_are_noticed(tmp_path: Path) -> None:
    venue = Venue()
    one, other = _sales(_bar(venue), 6, number=1), _sales(_bar(venue), 6, number=2)
    path = _replica(tmp_path / "copy", one, other, entries_max=1)
    database = apsw.Connection(str(path))
    database.execute(
        "UPDATE run SET entries = (SELECT entries FROM run WHERE log = 2 AND first_seq = 3), tip = "
        "(SELECT tip FROM run WHERE log = 2 AND first_seq = 3) WHERE log = 1 AND first_seq = 3"
    )
    database.close()
    code, (first, *_), _ = _verify(path, _root(venue, tmp_path))
    assert (code, first["log"], first["seq"], first["blame"]) == (4, one.log_id.hex(), 3, "file")
    assert other.log_id.hex() in first["text"]


def test_half_a_file_is_verified_as_far_as_it_goes(tmp_path: Path) -> None:
    venue = Venue()
    logs = [_sales(_bar(venue, f"Bar {number}"), 400, number=number) for number in range(3)]
    path = _replica(tmp_path / "copy", *logs, entries_max=50)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(16 * 4096))
    code, lines, _ = _verify(path, _root(venue, tmp_path))
    assert code == 4
    assert {line["blame"] for line in lines[:-1]} == {"file"}
    assert lines[0]["seq"] is not None
    assert 0 < lines[-1]["entries"] < sum(len(log.entries) for log in logs)


def test_no_store_at_all_and_what_is_no_store(tmp_path: Path) -> None:
    venue = Venue()
    root = _root(venue, tmp_path)
    (tmp_path / "empty").mkdir()
    code, lines, said = _verify(tmp_path / "empty", root)
    assert (code, lines) == (2, [])
    assert "holds no store" in said
    (tmp_path / "text.db").write_bytes(b"this is no database" * 1000)
    code, (first, _totals), _ = _verify(tmp_path / "text.db", root)
    assert code == 4
    assert "nothing was changed" in first["text"].lower()


# -- What a device signed that it must not -----------------------------------------------------------------------------


@pytest.mark.proves("B2")
def test_bad_signature_that_later_entries_vouch_for_is_its_authors(tmp_path: Path) -> None:
    venue = Venue()
    log = LogWriter(_bar(venue))
    for kind, body in aborts(5):
        log.append(kind, body)
    log.append_forged(*aborts(6)[5])
    for kind, body in aborts(9)[6:]:
        log.append(kind, body)
    code, (first, totals), said = _verify(_replica(tmp_path / "copy", log), _root(venue, tmp_path))
    assert (code, first["seq"], first["blame"], totals["findings"]) == (3, 6, "author", 1)
    assert "BAD SIGNATURE" in first["text"]
    assert "the file is whole" in said


@pytest.mark.proves("B2")
def test_bad_signature_at_the_end_cannot_have_been_accepted(tmp_path: Path) -> None:
    venue = Venue()
    log = LogWriter(_bar(venue))
    log.append_forged(*aborts(1)[0])
    code, (first, _), _ = _verify(_replica(tmp_path / "copy", log), _root(venue, tmp_path))
    assert (code, first["seq"], first["blame"]) == (4, 1, "file")


@pytest.mark.proves("B2")
def test_fork_is_its_authors_and_both_branches_are_verified(tmp_path: Path) -> None:
    venue = Venue()
    log = _sales(_bar(venue), 10)
    other = log.fork(6)
    other.append(*aborts(1)[0])
    path = _replica(tmp_path / "copy", log)
    store = RunStore(path, Durability.PROCESS)
    with store.transaction():
        store.add_branch(log.log_id, 1, 6, other.ids[5], parent=0, attached=True)
        (piece,) = runs_of(other, 6)
        store.append_run(piece, 1, verified=False)
    store.close()
    code, (first, totals), _ = _verify(path, _root(venue, tmp_path))
    assert (code, first["seq"], first["blame"]) == (3, 6, "author")
    assert "FORK" in first["text"]
    assert totals["signatures"] == len(log.entries) + 1


@pytest.mark.proves("M7")
def test_top_up_by_a_bar_that_may_only_sell_is_named(tmp_path: Path) -> None:
    venue = Venue()
    bar = venue.device("Bar A", Role.READER)
    log = LogWriter(bar)
    Wristband(venue, 1).issue(log, 5000)
    code, (first, _), _ = _verify(_replica(tmp_path / "copy", log), _root(venue, tmp_path))
    assert (code, first["seq"], first["blame"]) == (3, 1, "author")
    assert "role does not allow" in first["text"]


@pytest.mark.parametrize(
    ("lane", "kind", "said"),
    [
        (Lane.CONTROL, Kind.VENUE_CHANGE, "only from a device enrolled as manager"),
        (Lane.CONTROL, Kind.DEVICE, "only from a device enrolled as manager"),
        (Lane.CONTROL, Kind.FORK_PROOF, "is no FORK_PROOF"),
        (Lane.CONTROL, Kind.RECEIPT, "is no RECEIPT"),
        (Lane.CONTROL, Kind.TAP, "in the control lane"),
        (Lane.MONEY, Kind.ABORT, "is no ABORT"),
        (Lane.MONEY, Kind.TAP, "its body is not a tap"),
    ],
)
def test_entry_that_counts_for_nothing_is_named_with_the_reason(
    tmp_path: Path, lane: Lane, kind: Kind, said: str
) -> None:
    venue = Venue()
    log = LogWriter(_bar(venue), lane)
    log.append(kind, b"\x80")
    code, (first, _), _ = _verify(_replica(tmp_path / "copy", log), _root(venue, tmp_path))
    assert (code, first["seq"], first["blame"]) == (3, 1, "author")
    assert said in first["text"]


def test_kind_of_a_later_version_is_no_fault(tmp_path: Path) -> None:
    venue = Venue()
    log = LogWriter(_bar(venue))
    log.append(4711, b"whatever")
    assert _verify(_replica(tmp_path / "copy", log), _root(venue, tmp_path))[0] == 0


@pytest.mark.proves("M7")
def test_log_of_another_venue_has_no_place_in_the_store(tmp_path: Path) -> None:
    venue = Venue()
    log = _sales(_bar(Venue("Elsewhere")), 3)
    code, (first, totals), _ = _verify(_replica(tmp_path / "copy", log), _root(venue, tmp_path))
    assert (code, first["seq"]) == (3, 0)
    assert (totals["unchecked"], totals["signatures"]) == (len(log.entries), 0)


def test_island_whose_beginning_is_elsewhere_is_no_fault(tmp_path: Path) -> None:
    venue = Venue()
    log = _sales(_bar(venue), 10)
    path = tmp_path / "replica.db"
    store = RunStore(path, Durability.PROCESS)
    with store.transaction():
        store.add_log(log.log_id, log.entries[0])
        store.add_branch(log.log_id, 0, 5, log.ids[4], parent=None, attached=False)
        for piece in runs_of(log, 5):
            store.append_run(piece, 0, verified=False)
    store.close()
    code, (totals,), _ = _verify(path, _root(venue, tmp_path))
    assert (code, totals["islands"], totals["findings"]) == (0, 1, 0)


@pytest.mark.proves("M7")
def test_what_a_revoked_device_signed_after_its_cut_is_named(tmp_path: Path) -> None:
    """The statement is found after the log that it is about, in another device's log."""
    venue = Venue()
    bar, manager = _bar(venue), venue.device("manager", Role.MANAGER)
    sales, other, whole = _sales(bar, 10, number=1), _sales(bar, 3, number=2), _sales(_bar(venue, "Bar B"), 3)
    control = LogWriter(manager, Lane.CONTROL)
    control.append(Kind.REVOCATION, venue.revocation(bar, (sales, 6)))
    path = _replica(tmp_path / "copy", sales, other, whole, control)
    code, lines, _ = _verify(path, _root(venue, tmp_path))
    assert code == 3
    named = {(line["log"], line["seq"]) for line in lines[:-1] if "REVOKED" in line["text"]}
    assert named == {(sales.log_id.hex(), 7), (other.log_id.hex(), 0)}
