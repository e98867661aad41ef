"""Where a device stands, as its program answers: over its socket, from its files, and in words."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from click.testing import CliRunner

from mesh.cli_status import EXIT_NOT_RUNNING, status
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.core.receipt import Receipt, sign_receipt
from mesh.limits import STATUS_CLIENTS_MAX, STATUS_REQUEST_BYTES_MAX
from mesh.shell.device import Device, open_device
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.output import Json
from mesh.shell.status import Reporter, status_on_disk
from mesh.shell.status_lines import LINE_CHARS, lines_of
from mesh.shell.status_socket import SOCKET_FILE, NoAnswer, NoSocket, NotRunning, answering, asking
from tests.factory import Venue, VenueDevice, Wristband

LOOPBACK: Final = Endpoint("127.0.0.1", 0)
PATIENCE_S: Final = 30
"""Only what hangs is ended by this."""


async def sell(device: Device, author: VenueDevice, *amounts: int) -> None:
    """An issue and some sales, signed as taps."""
    band = Wristband(author.venue, 1)
    for operation, amount in ((Operation.ISSUE, 5000), *((Operation.SALE, amount) for amount in amounts)):
        body = band.propose(author, operation, amount)
        await device.append(Lane.MONEY, Kind.TAP, body.encode())
        band.sealed = body.written


@asynccontextmanager
async def linked(one: Device, other: Device) -> AsyncIterator[None]:
    """A link between two devices for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(Network(one, Settings(LOOPBACK, mdns=False)).run)
        await nursery.start(Network(other, Settings(LOOPBACK, (Endpoint("127.0.0.1", port),), mdns=False)).run)
        yield
        nursery.cancel_scope.cancel()


def here_only(document: dict[str, Json]) -> tuple[int, dict[str, int]]:
    """How many taps, and the amount of each operation."""
    alone = as_any(document)["own"]["here_only"]
    return alone["taps"], {one["operation"]: one["amount_minor"] for one in alone["sums"]}


def as_any(document: dict[str, Json]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document))
    return found


@pytest.mark.proves("B4")
async def test_money_is_on_one_device_only_until_another_one_has_it_on_its_disk_for_good(tmp_path: Path) -> None:
    venue = Venue()
    bar, other = venue.device("bar A", Role.READER), venue.device("bar B", Role.READER)
    with trio.fail_after(PATIENCE_S):
        async with (
            open_device(bar.write_directory(tmp_path / "a"), zone="north") as device,
            open_device(other.write_directory(tmp_path / "b"), zone="north") as neighbour,
        ):
            await sell(device, bar, 650, 800)
            reporter = Reporter(device)
            assert here_only(await reporter.report()) == (3, {"issue": 5000, "sale": 1450})
            async with linked(device, neighbour):
                while (document := await reporter.report())["own"] and here_only(document)[0]:
                    await trio.lowlevel.checkpoint()
                seen = as_any(document)
                assert seen["own"]["logs"][0]["holders"] == ["bar B"]
                assert [(peer["name"], peer["they_lack"]["entries"]) for peer in seen["peers"]] == [("bar B", 0)]
                assert here_only(await Reporter(neighbour).report()) == (0, {})
            await sell(device, bar, 100)
            assert here_only(await reporter.report()) == (2, {"issue": 5000, "sale": 100}), "what came since"


@pytest.mark.proves("B4")
async def test_receipt_makes_money_safe_that_no_peer_keeps(tmp_path: Path) -> None:
    venue = Venue()
    bar, settlement = venue.device("bar A", Role.READER), venue.device("settlement", Role.SETTLEMENT)
    async with open_device(bar.write_directory(tmp_path / "a"), zone="north") as device:
        await sell(device, bar, 650, 800)
        (log,) = device.node.frontier.logs.values()
        head = log.branches[0].head
        said = Receipt(
            *(log.log_id, 2, head.id, 3, 650, 3, 0, ()), store_epoch=bytes(16), certificate=settlement.certificate.der
        )
        await device.append(Lane.CONTROL, Kind.RECEIPT, sign_receipt(settlement.sign, said))
        assert here_only(await Reporter(device).report()) == (1, {"sale": 800})
    document = status_on_disk(tmp_path / "a", 0)
    assert here_only(document) == (1, {"sale": 800})
    assert (document["running"], document["peers"]) == (False, None)


async def test_device_that_starts_again_does_not_take_for_kept_what_nobody_said_again(tmp_path: Path) -> None:
    venue = Venue()
    bar, other = venue.device("bar A", Role.READER), venue.device("bar B", Role.READER)
    own, theirs = bar.write_directory(tmp_path / "a"), other.write_directory(tmp_path / "b")
    with trio.fail_after(PATIENCE_S):
        async with open_device(theirs, zone="north") as neighbour:
            async with open_device(own, zone="north") as device:
                await sell(device, bar, 650)
                async with linked(device, neighbour):
                    while here_only(await Reporter(device).report())[0]:
                        await trio.lowlevel.checkpoint()
            async with open_device(own, zone="north") as device:
                assert here_only(await Reporter(device).report())[0] == 2
                async with linked(device, neighbour):
                    while here_only(await Reporter(device).report())[0]:
                        await trio.lowlevel.checkpoint()


# -- The socket ----------------------------------------------------------------------------------------------------


async def hello() -> dict[str, Json]:
    return {"event": "status", "said": "hello"}


def ask(directory: Path) -> dict[str, Any]:
    with asking(directory, PATIENCE_S) as program:
        return program.ask()


async def asked(directory: Path) -> dict[str, Any]:
    return await trio.to_thread.run_sync(ask, directory)


async def test_program_answers_whoever_asks_and_only_its_own_user(tmp_path: Path) -> None:
    async with answering(tmp_path, hello):
        assert stat.S_IMODE((tmp_path / SOCKET_FILE).stat().st_mode) == 0o600
        assert await asked(tmp_path) == await hello()
    assert not (tmp_path / SOCKET_FILE).exists()
    with pytest.raises(NotRunning):
        ask(tmp_path)


async def test_socket_that_a_killed_program_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET_FILE))
    with pytest.raises(NotRunning):
        ask(tmp_path)
    async with answering(tmp_path, hello):
        assert await asked(tmp_path) == await hello()


async def test_file_that_is_no_socket_is_left_alone_and_nothing_is_answered(tmp_path: Path) -> None:
    (tmp_path / SOCKET_FILE).write_text("mine")
    with pytest.raises(NoSocket, match="no money is affected"):
        async with answering(tmp_path, hello):
            pass
    assert (tmp_path / SOCKET_FILE).read_text() == "mine"


async def test_directory_whose_path_is_longer_than_an_address_is_asked_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a directory with a long name"] * 6)
    deep.mkdir(parents=True)
    assert len(os.fsencode(deep)) > 150
    async with answering(deep, hello):
        assert await asked(deep) == await hello()


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n", b"x" * STATUS_REQUEST_BYTES_MAX * 2, b"status", b"\n"], ids=repr
)
async def test_anything_but_the_question_is_answered_by_hanging_up(tmp_path: Path, said: bytes) -> None:
    async with answering(tmp_path, hello):
        with trio.fail_after(PATIENCE_S):
            stream = await trio.open_unix_socket(str(tmp_path / SOCKET_FILE))
            async with stream:
                await stream.send_all(said)
                if not said.endswith(b"\n"):
                    await stream.send_eof()
                assert await stream.receive_some() == b""
        assert await asked(tmp_path) == await hello()


async def test_client_that_reads_nothing_is_let_go_and_holds_up_nobody(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def much() -> dict[str, Json]:
        return {"event": "status", "said": "m" * 3_000_000}

    async with answering(tmp_path, much):
        slow = await trio.open_unix_socket(str(tmp_path / SOCKET_FILE))
        await slow.send_all(b"status\n")
        quick = await trio.open_unix_socket(str(tmp_path / SOCKET_FILE))
        await quick.send_all(b"status\n")
        received = b""
        while not received.endswith(b"\n"):
            received += await quick.receive_some()
        assert len(received) > 3_000_000
        await trio.sleep(60)
        size = 0
        while part := await slow.receive_some():
            size += len(part)
        assert size < 3_000_000, "it was dropped with what it had not taken"
        await slow.aclose()
        await quick.aclose()


async def test_more_clients_than_are_served_are_let_go_and_the_others_stay(tmp_path: Path) -> None:
    async with answering(tmp_path, hello):
        streams = [await trio.open_unix_socket(str(tmp_path / SOCKET_FILE)) for _ in range(STATUS_CLIENTS_MAX)]
        for stream in streams:
            await stream.send_all(b"status\n")
            assert (await stream.receive_some()).endswith(b"\n")
        with pytest.raises(NoAnswer, match="as many others are asking"):
            await asked(tmp_path)
        await streams[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await asked(tmp_path) == await hello()
        for stream in streams:
            await stream.aclose()


async def test_questions_in_a_hurry_cost_one_answer(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    made = list[None]()

    async def count() -> dict[str, Json]:
        made.append(None)
        return {"event": "status", "number": len(made)}

    async with answering(tmp_path, count):
        stream = await trio.open_unix_socket(str(tmp_path / SOCKET_FILE))
        numbers = []
        for pause in (0.0, 0.0, 0.0, 1.0):
            await trio.sleep(pause)
            await stream.send_all(b"status\n")
            numbers.append(json.loads(await stream.receive_some())["number"])
        assert numbers == [1, 1, 1, 2]
        await stream.aclose()


# -- In words ------------------------------------------------------------------------------------------------------

NIGHT: Final[dict[str, Any]] = {
    "running": True,
    "name": "Bar A",
    "roles": ["reader"],
    "zone": "north",
    "held": {"entries": 12_340, "logs": 31, "bytes": 3_100_000},
    "peers": [
        {
            "name": "The bar behind the main stage, left",
            "zone": "north",
            "linked_s": 3725.5,
            "in_step": False,
            "they_lack": {"logs": 2, "entries": 17},
            "we_lack": {"logs": 1, "entries": 1_204_000},
            "coming": {"entries": 1_204_000, "bytes": 312_000_000},
        },
        {
            "name": "Courier",
            "zone": "south",
            "linked_s": 4,
            "in_step": True,
            "they_lack": {"logs": 0, "entries": 0},
            "we_lack": {"logs": 0, "entries": 0},
            "coming": {"entries": 0, "bytes": 0},
        },
    ],
    "coming": {"entries": 1_204_000, "bytes": 312_000_000},
    "missing": {
        "logs": 1,
        "entries": 1_204_000,
        "named": [{"log": "ab" * 16, "device": None, "entries": 1_204_000, "from": ["The bar behind"]}],
    },
    "own": {
        "here_only": {
            "taps": 3,
            "sums": [{"operation": "sale", "count": 3, "amount_minor": 1950, "amount": "EUR 19.50"}],
            "oldest_s": 12,
        },
        "logs": [
            {"lane": "MONEY", "head_seq": 9, "kept_by_two": 4, "receipt_seq": 5, "holders": ["Courier"]},
            {"lane": "CONTROL", "head_seq": 2, "kept_by_two": -1, "receipt_seq": -1, "holders": []},
        ],
    },
}


def test_people_are_told_in_lines_that_fit_a_terminal() -> None:
    assert lines_of(NIGHT) == [
        "Bar A (reader), zone north",
        "holds 12,340 entries of 31 logs (3.1 MB on disk)",
        "peer                 zone         linked  they lack   we lack  coming",
        "The bar behind the … north      01:02:05         17 1,204,000  1,204,000 (312.0…",
        "Courier              south      00:00:04          0         0  in step",
        "known to exist, not held: 1,204,000 entries of 1 log; on the way: 1,204,000 (31…",
        "  1,204,000 of log abababababab, from The bar behind",
        "on this device only: 3 sales, EUR 19.50",
        "  the oldest 00:00:12 ago; keep this device safe until they are elsewhere",
        "copies on disk at Courier; not yet on a second one: 1 log",
        "settled: 6 of 10 own money entries have a receipt",
    ]
    assert max(map(len, lines_of(NIGHT))) <= LINE_CHARS


# -- The command ---------------------------------------------------------------------------------------------------


def shown(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(status, [str(argument) for argument in arguments])
    return done.exit_code, " ".join(done.output.split())


def test_device_that_no_program_runs_with_is_read_from_its_files(tmp_path: Path) -> None:
    venue = Venue()
    bar = venue.device("bar A", Role.READER)
    directory = bar.write_directory(tmp_path / "a")

    async def work() -> None:
        async with open_device(directory, zone="north") as device:
            await sell(device, bar, 650)

    trio.run(work)
    before = sorted((path.name, path.read_bytes()) for path in directory.glob("*.db"))
    code, text = shown(directory)
    assert code == EXIT_NOT_RUNNING
    assert "peers: unknown, because no program runs" in text
    assert "on this device only: 1 sale, 650 minor units" in text
    code, text = shown("--dir", directory, "--json")
    assert (code, json.loads(text)["running"]) == (EXIT_NOT_RUNNING, False)
    assert sorted((path.name, path.read_bytes()) for path in directory.glob("*.db")) == before


def test_what_is_no_device_is_named(tmp_path: Path) -> None:
    assert shown()[0] == 2
    for directory, words in ((tmp_path / "nowhere", "there is no directory"), (tmp_path, "no enrolled device in")):
        code, text = shown(directory)
        assert (code, words in text) == (2, True)


async def test_device_that_is_open_in_a_program_that_cannot_be_asked_is_not_said_to_be_unused(tmp_path: Path) -> None:
    directory = Venue().device("bar A", Role.READER).write_directory(tmp_path / "a")
    async with open_device(directory, zone="north"):
        code, text = await trio.to_thread.run_sync(partial(shown, directory))
    assert code == 2
    assert "has the device" in text
