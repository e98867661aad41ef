"""`tapmesh status` and running programs: what is on one device only, and who has it next, from outside the process."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from mesh.cli_status import EXIT_NOT_RUNNING
from mesh.core.kinds import Kind, Operation, Role
from tests.factory import LogWriter, Venue, Wristband
from tests.programs import Program, run
from tests.system.processes import Enrolled

STATUS: Final = "mesh.cli_status:status"


def sales(venue: Venue, bar: Enrolled, *amounts: int) -> list[tuple[Kind, bytes]]:
    """Taps of one wristband."""
    log, band = LogWriter(bar.device), Wristband(venue, 1)
    taps = [band.tap(log, Operation.ISSUE, 5000)] + [band.tap(log, Operation.SALE, amount) for amount in amounts]
    return [(Kind.TAP, tap.encode()) for tap in taps]


def ask(device: Enrolled) -> tuple[int, dict[str, Any]]:
    """The exit code, and what was said."""
    done = run(STATUS, device.directory, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def here_only(document: dict[str, Any]) -> int:
    taps: int = document["own"]["here_only"]["taps"]
    return taps


def until_kept(device: Enrolled) -> dict[str, Any]:
    """Ask until no money is on this device only."""
    while True:
        code, document = ask(device)
        assert code == 0
        if not here_only(document):
            return document


@pytest.mark.proves("B4")
def test_anybody_at_the_bar_can_ask_at_any_moment_what_money_is_on_that_device_only(tmp_path: Path) -> None:
    venue = Venue()
    bar, courier = Enrolled(venue, tmp_path, "bar A", Role.READER), Enrolled(venue, tmp_path, "carl", Role.COURIER)
    bar.append(*sales(venue, bar, 650, 800))
    code, document = ask(bar)
    assert (code, here_only(document), document["peers"]) == (EXIT_NOT_RUNNING, 3, None)
    with bar.node("--listen", "127.0.0.1:0", "--no-mdns") as selling:
        port = selling.until("ready")["port"]
        code, document = ask(bar)
        assert (code, here_only(document), document["peers"], document["zone"]) == (0, 3, [], "north")
        assert [one["amount_minor"] for one in document["own"]["here_only"]["sums"]] == [5000, 1450]
        with courier.courier("--peer", f"127.0.0.1:{port}", "--no-mdns") as carrying:
            document = until_kept(bar)
            assert document["own"]["logs"][0]["holders"] == ["carl"]
            assert [peer["name"] for peer in document["peers"]] == ["carl"]
            assert ask(courier)[1]["held"]["entries"] == document["held"]["entries"] == 4
            carrying.kill()
        while (document := ask(bar)[1])["peers"]:
            pass
        assert here_only(document) == 0, "what is on a disk stays on it, whoever runs"
        selling.kill()
    code, document = ask(bar)
    assert (code, here_only(document)) == (EXIT_NOT_RUNNING, 3), "the socket that it left behind deceives nobody"
    assert ask(courier)[1]["held"]["entries"] == 4


def test_status_is_followed_until_it_is_interrupted(tmp_path: Path) -> None:
    bar = Enrolled(Venue(), tmp_path, "bar A", Role.READER)
    with bar.node("--no-mdns") as selling:
        selling.until("ready")
        with Program(STATUS, bar.directory, "--json", "--follow") as following:
            first, second = following.until("status"), following.until("status")
            assert first["unix_ms"] < second["unix_ms"]
            following.process.send_signal(signal.SIGINT)
            assert following.wait() == 0
        with Program(STATUS, bar.directory, "--json", "--follow") as following:
            following.until("status")
            selling.kill()
            assert following.wait() == 2
            assert following.process.stderr is not None
            assert "what it showed as done is on its disk" in " ".join(following.process.stderr.read().split())
