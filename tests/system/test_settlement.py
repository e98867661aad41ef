"""The settlement service and its gateways as they run: real processes, real certificates, TLS over loopback."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from gateway.settlement_api import OfferedRun, OutcomeCode
from gateway.upstreams.settlement import (
    NotSettlementService,
    SettlementClient,
    UpstreamRefused,
    UpstreamUnavailable,
    parse_upstream,
)
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.core.receipt import decode_receipt, verify_receipt
from mesh.limits import UPSTREAM_BATCH_BYTES_MAX
from mesh.shell.device import open_device
from mesh.shell.keys import load_identity
from mesh.shell.tls import HandshakeRefused, client_context, server_context
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.programs import Line, Program, run

SETTLEMENT = "gateway.settlement.cli:settlement"
GATEWAY = "gateway.cli:gateway"


@dataclass
class World:
    """A venue, a directory for its devices, and a night's logs."""

    venue: Venue
    directory: Path

    def device(self, name: str, *roles: Role, venue: Venue | None = None) -> Path:
        return (venue or self.venue).device(name, *roles).write_directory(self.directory / name)

    def service(self) -> Program:
        return Program(SETTLEMENT, "run", "--dir", self.directory / "settlement", "--listen", "127.0.0.1:0", "--json")

    def ledger(self) -> Line:
        shown = run(SETTLEMENT, "show", "--dir", self.directory / "settlement", "--json")
        assert shown.returncode == 0, shown.stderr
        report: Line = json.loads(shown.stdout)
        return report

    def client(self, name: str, address: str) -> SettlementClient:
        return SettlementClient(load_identity(self.directory / name), parse_upstream(address))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(Venue(), tmp_path)
    world.device("settlement", Role.SETTLEMENT)
    world.device("gateway", Role.GATEWAY)
    return world


def night(venue: Venue, sales: int = 60) -> list[LogWriter]:
    """A till and three bars; `sales` sales of 1.00 each on ten wristbands, one of which is cloned once."""
    till = LogWriter(venue.device("till", Role.TILL))
    bars = [LogWriter(venue.device(f"bar {letter}", Role.READER)) for letter in "ABC"]
    bands = [Wristband(venue, number) for number in range(10)]
    for band in bands:
        band.issue(till, 20_000)
    clone = bands[0].clone()
    for number in range(sales):
        bands[number % 10].sell(bars[number % 3], 100)
    clone.sell(bars[1], 650)
    return [till, *bars]


def runs_of(logs: list[LogWriter], entries_max: int = 512) -> list[OfferedRun]:
    return [OfferedRun(*piece) for log in logs for piece in log.runs(entries_max=entries_max)]


@asynccontextmanager
async def connected(world: World, name: str, address: str) -> AsyncIterator[SettlementClient]:
    client = world.client(name, address)
    try:
        yield client
    finally:
        await client.close()


async def send_all(client: SettlementClient, runs: list[OfferedRun], batch: int) -> int:
    stored = 0
    for start in range(0, len(runs), batch):
        answer = await client.post_runs(runs[start : start + batch])
        assert all(outcome.code is OutcomeCode.ACCEPTED for outcome in answer.outcomes)
        stored += sum(outcome.stored for outcome in answer.outcomes)
    return stored


async def send_for_ever(client: SettlementClient, runs: list[OfferedRun]) -> None:
    while True:
        await client.post_runs(runs)


@pytest.mark.proves("S1.15")
@pytest.mark.proves("S1.14")
async def test_everything_sent_twice_is_booked_once_and_answered_with_receipts(world: World) -> None:
    logs = night(world.venue)
    runs = runs_of(logs)
    with world.service() as service:
        address = service.until("ready")["address"]
        async with connected(world, "gateway", address) as client:
            first = await client.post_runs(runs)
            before = await client.report("/v1/ledger")
            again = await client.post_runs(runs)
            after = await client.report("/v1/ledger")
    assert sum(o.stored for o in first.outcomes) == sum(o.known for o in again.outcomes) == 75
    assert sum(o.stored for o in again.outcomes) == 0
    assert {**before, "verified": 0} == {**after, "verified": 0}
    assert after["sales_minor"] == 6650
    receipts = [verify_receipt(data, world.venue.root).receipt for data in first.receipts]
    assert {(r.log_id, r.head_id) for r in receipts} == {(log.log_id, log.head_id) for log in logs}
    assert sum(receipt.sum_minor for receipt in receipts) == 6650


@pytest.mark.proves("M6")
async def test_two_gateways_that_send_the_same_at_once_are_booked_exactly_once(world: World) -> None:
    world.device("second gateway", Role.GATEWAY)
    runs = runs_of(night(world.venue, 300), entries_max=7)
    stored: list[int] = []
    with world.service() as service:
        address = service.until("ready")["address"]
        async with (
            connected(world, "gateway", address) as one,
            connected(world, "second gateway", address) as other,
            trio.open_nursery() as nursery,
        ):

            async def send(client: SettlementClient, batch: int) -> None:
                stored.append(await send_all(client, runs, batch))

            nursery.start_soon(send, one, 3)
            nursery.start_soon(send, other, 2)
    assert sum(stored) == sum(run.count for run in runs) == 315
    ledger = world.ledger()
    assert (ledger["entries"], ledger["sales_minor"], len(ledger["conflicts"])) == (315, 30650, 1)


@pytest.mark.proves("S1.16")
async def test_service_killed_while_it_takes_batches_and_sent_everything_again_books_exactly_once(
    world: World,
) -> None:
    runs = runs_of(night(world.venue, 600), entries_max=5)
    with world.service() as service:
        async with connected(world, "gateway", service.until("ready")["address"]) as client:
            await send_all(client, runs[:20], 4)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, service.kill)
                with pytest.raises(UpstreamUnavailable, match="stays here"):
                    await send_for_ever(client, runs)
    with world.service() as service:
        async with connected(world, "gateway", service.until("ready")["address"]) as client:
            await send_all(client, runs, 50)
    ledger = world.ledger()
    assert (ledger["entries"], ledger["sales_minor"], ledger["balanced"]) == (615, 60650, True)
    verified = run(SETTLEMENT, "verify", "--dir", world.directory / "settlement")
    assert (verified.returncode, verified.stdout.split()[0]) == (0, "615")


async def test_receipts_say_when_every_signature_was_checked(world: World) -> None:
    logs = night(world.venue)
    with world.service() as service:
        async with connected(world, "gateway", service.until("ready")["address"]) as client:
            await client.post_runs(runs_of(logs))
            page = await client.receipts(0)
            while not all(decode_receipt(data).fully_verified for data in page.receipts):
                page = await client.receipts(0)
            assert len(page.receipts) == len(logs)
            assert (await client.receipts(page.next_since)).receipts == ()


@pytest.mark.proves("M7")
async def test_device_of_another_venue_is_let_in_at_neither_end(world: World) -> None:
    stranger = load_identity(world.device("stranger", Role.GATEWAY, venue=Venue("Another venue")))
    with world.service() as service:
        address = service.until("ready")["address"]
        async with connected(world, "stranger", address) as client:
            with pytest.raises(HandshakeRefused, match="not of this venue"):
                await client.heads()
        service.until("note")
        gullible = client_context(stranger)
        gullible.load_verify_locations(cadata=world.venue.root.der)
        assert await answer_over(gullible, address) == b""
        assert "refused" in service.until("note")["text"]


async def answer_over(context: ssl.SSLContext, address: str) -> bytes:
    """What the service answers to a request over this TLS context; nothing where the connection ends or breaks."""
    upstream = parse_upstream(address)
    stream = trio.SSLStream(await trio.open_tcp_stream(upstream.host, upstream.port), context, https_compatible=True)
    try:
        await stream.send_all(b"GET /v1/heads HTTP/1.1\r\nhost: x\r\n\r\n")
        return bytes(await stream.receive_some(1024))
    except trio.BrokenResourceError:
        return b""
    finally:
        await trio.aclose_forcefully(stream)


async def test_courier_may_look_but_not_post(world: World) -> None:
    world.device("courier", Role.COURIER)
    with world.service() as service:
        async with connected(world, "courier", service.until("ready")["address"]) as client:
            with pytest.raises(UpstreamRefused, match="neither gateway nor reader"):
                await client.post_runs(runs_of(night(world.venue)))
            assert (await client.heads()).logs == ()


async def test_reader_with_an_upstream_may_post(world: World) -> None:
    world.device("bar with a cable", Role.READER)
    with world.service() as service:
        async with connected(world, "bar with a cable", service.until("ready")["address"]) as client:
            assert await send_all(client, runs_of(night(world.venue)), 8) == 75


async def test_gateway_tells_nothing_to_a_service_that_is_no_settlement(world: World) -> None:
    impostor = load_identity(world.device("impostor", Role.READER))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    heard: list[bytes] = []

    async def listen(socket: trio.SocketStream) -> None:
        stream = trio.SSLStream(socket, server_context(impostor), server_side=True, https_compatible=True)
        heard.append(bytes(await stream.receive_some(1024)))

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, listen, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with connected(world, "gateway", f"https://127.0.0.1:{port}") as client:
            with pytest.raises(NotSettlementService, match="impostor"):
                await client.heads()
        nursery.cancel_scope.cancel()
    assert [data for data in heard if data] == []


@asynccontextmanager
async def raw_connection(world: World, address: str) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    upstream = parse_upstream(address)
    socket = await trio.open_tcp_stream(upstream.host, upstream.port)
    stream = trio.SSLStream(socket, client_context(load_identity(world.directory / "gateway")), https_compatible=True)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def read_to_end(stream: trio.SSLStream[trio.SocketStream]) -> bytes:
    data = b""
    while part := await stream.receive_some(65536):
        data += part
    return data


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", b"413"),
        (b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", b"400"),
        (b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"404"),
        (b"GET /v1/runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"405"),
        (b"GET /v1/receipts?since=x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"400"),
        (b"GET /v1/heads HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"\x16\x03\x01 no http at all\r\n\r\n", b"400"),
    ],
)
async def test_bad_request_is_answered_with_a_sentence_and_the_service_goes_on(
    world: World, request_bytes: bytes, status: bytes
) -> None:
    with world.service() as service:
        address = service.until("ready")["address"]
        async with raw_connection(world, address) as stream:
            await stream.send_all(request_bytes)
            answer = await read_to_end(stream)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] == status
        assert len(json.loads(body)["error"]) > 10
        async with connected(world, "gateway", address) as client:
            assert await send_all(client, runs_of(night(world.venue)), 8) == 75


async def test_body_that_turns_out_too_long_is_refused(world: World) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    chunks_that_fit = UPSTREAM_BATCH_BYTES_MAX // 0x10000
    with world.service() as service:
        async with raw_connection(world, service.until("ready")["address"]) as stream:
            await stream.send_all(b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(chunks_that_fit + 1):
                await stream.send_all(chunk)
            assert (await stream.receive_some(1024)).split()[1] == b"413"


async def test_slow_client_does_not_hold_up_the_others(world: World) -> None:
    with world.service() as service:
        address = service.until("ready")["address"]
        async with raw_connection(world, address) as slow, connected(world, "gateway", address) as client:
            await slow.send_all(b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\nabc")
            assert await send_all(client, runs_of(night(world.venue)), 8) == 75


async def test_client_without_a_certificate_is_not_answered(world: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=world.venue.root.der)
    with world.service() as service:
        assert await answer_over(context, service.until("ready")["address"]) == b""
        assert "refused" in service.until("note")["text"]


def test_port_that_is_taken_is_named(world: World) -> None:
    world.device("second settlement", Role.SETTLEMENT)
    with world.service() as service:
        port = service.until("ready")["port"]
        directory = world.directory / "second settlement"
        refused = run(SETTLEMENT, "run", "--dir", directory, "--listen", f"127.0.0.1:{port}")
    assert refused.returncode == 2
    assert str(port) in refused.stderr and "Nothing was started" in " ".join(refused.stderr.split())


def test_ledger_opened_by_a_second_process_is_refused(world: World) -> None:
    with world.service() as service:
        service.until("ready")
        refused = run(SETTLEMENT, "run", "--dir", world.directory / "settlement", "--listen", "127.0.0.1:0")
    assert refused.returncode == 2
    assert "in use by process" in " ".join(refused.stderr.split())


def test_device_without_the_role_runs_no_settlement(world: World) -> None:
    refused = run(SETTLEMENT, "run", "--dir", world.directory / "gateway", "--listen", "127.0.0.1:0")
    assert refused.returncode == 2
    assert "not enrolled as settlement" in " ".join(refused.stderr.split())


def gateway(world: World, name: str, address: str, *peers: str) -> Program:
    peering = [part for peer in peers for part in ("--peer", peer)]
    return Program(
        GATEWAY,
        *("run", "--dir", world.directory / name, "--upstream", address, "--zone", "north", "--no-mdns"),
        *("--listen", "127.0.0.1:0", "--json", *peering),
    )


async def sell_at(directory: Path, bands: list[Wristband], device: VenueDevice, till: VenueDevice) -> None:
    """Put an issue and a sale for each wristband into the stores of two devices."""
    async with (
        open_device(directory / "till", zone="north") as desk,
        open_device(directory / "bar", zone="north") as bar,
    ):
        for band in bands:
            for at, author, operation, amount in (
                (desk, till, Operation.ISSUE, 2000),
                (bar, device, Operation.SALE, 650),
            ):
                body = band.propose(author, operation, amount)
                await at.append(Lane.MONEY, Kind.TAP, body.encode())
                band.sealed = body.written


def node(world: World, name: str, *peers: str) -> Program:
    peering = [part for peer in peers for part in ("--peer", peer)]
    arguments = ("--zone", "north", "--no-mdns", "--listen", "127.0.0.1:0", "--json", *peering)
    return Program("mesh.cli_node:node", "run", "--dir", world.directory / name, *arguments)


def wait_until_all_is_upstream(gateway: Program, *, entries: int) -> None:
    """Ask until this gateway holds so many entries and the service has them all."""
    gateway.type("status")
    while (status := gateway.until("status"))["entries"] < entries or status["remaining"] or not status["reached"]:
        gateway.type("status")


@pytest.mark.proves("M6")
@pytest.mark.proves("B4")
def test_two_gateways_forward_the_mesh_publish_receipts_and_resend_without_a_change(world: World) -> None:
    till, bar = world.venue.device("till", Role.TILL), world.venue.device("bar", Role.READER)
    till.write_directory(world.directory / "till")
    bar.write_directory(world.directory / "bar")
    world.device("second gateway", Role.GATEWAY)
    bands = [Wristband(world.venue, number) for number in range(20)]
    trio.run(sell_at, world.directory, bands, bar, till)
    with world.service() as service:
        address = service.until("ready")["address"]
        with gateway(world, "gateway", address) as one, gateway(world, "second gateway", address) as two:
            hubs = [f"127.0.0.1:{program.until('ready')['port']}" for program in (one, two)]
            with node(world, "till", *hubs), node(world, "bar", *hubs):
                for program in (one, two):
                    wait_until_all_is_upstream(program, entries=42)
                    if not any(line["event"] == "receipts" for line in program.seen):
                        program.until("receipts")
                    program.type("resend")
                    resent = program.until("resent")
                    assert (resent["resent"] >= 42, resent["changed"]) == (True, 0)
                    program.type("quit")
                    assert program.wait() == 0
    ledger = world.ledger()
    assert (ledger["taps"], ledger["sales_minor"], ledger["conflicts"]) == (40, 13_000, [])


def test_gateway_without_a_service_says_so_and_goes_on(world: World) -> None:
    with gateway(world, "gateway", "https://127.0.0.1:9") as one:
        one.until("ready")
        assert "stays here" in one.until("unreachable")["text"]
        one.type("status")
        assert one.until("status")["reached"] is False
        one.type("quit")
        assert one.wait() == 0


def test_unknown_kinds_are_stored_and_count_nothing(world: World) -> None:
    log = LogWriter(world.venue.device("bar of the future", Role.READER))
    log.append(4711, b"whatever that will be")
    log.append(Kind.TAP, b"poison")

    async def send(address: str) -> None:
        async with connected(world, "gateway", address) as client:
            await client.post_runs(runs_of([log]))

    with world.service() as service:
        trio.run(send, service.until("ready")["address"])
    ledger = world.ledger()
    assert (ledger["entries"], ledger["taps"], len(ledger["set_aside"])) == (3, 0, 1)
