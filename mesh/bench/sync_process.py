"""The two processes of `tapmesh bench sync`, and the ceiling that they are held against. Run as a module, JSON out.

sync_process send DIR              serve what DIR holds; prints the port, ends when stdin closes
sync_process receive DIR PORT      take everything in; prints the measurement, ends when every signature is verified
sync_process limit DIR             decode, links and insert alone, of the same runs, without network, views or TLS
"""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

import click
import trio

from mesh.core.chain import check_run, encode_run, split_run
from mesh.core.entry import NO_PREV, decode_entry
from mesh.core.kinds import Kind
from mesh.shell.collector import leave_loaded_alone
from mesh.shell.device import Device, open_device
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.store import REPLICA_FILE, Durability, RunStore
from mesh.views.tap_entry import decode_taps

LOOPBACK = "127.0.0.1"


def _peak_rss_mb() -> float:
    """The process's own peak (VmHWM): ru_maxrss would also count what its parent had before it was started."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _say(**values: object) -> None:
    click.echo(json.dumps(values))


def _wire_bytes(network: Network) -> int:
    """Bytes that TCP has brought in on every link, TLS included (tcpi_bytes_received of Linux's struct tcp_info)."""
    total = 0
    for link in network.links.values():
        assert isinstance(link.stream, trio.SSLStream), "TlsCarrier carries the links of this bench"
        info = link.stream.transport_stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        total += struct.unpack_from("Q", info, 128)[0]
    return total


async def send(directory: Path) -> None:
    async with open_device(directory) as device, trio.open_nursery() as nursery:
        leave_loaded_alone()
        network = Network(device, Settings(Endpoint(LOOPBACK, 0), mdns=False))
        port = await nursery.start(network.run)
        _say(port=port, entries=device.entries_held, digest=device.node.frontier.digest().hex())
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        _say(peak_rss_mb=_peak_rss_mb())
        nursery.cancel_scope.cancel()


async def receive(directory: Path, port: int, digest: str) -> None:
    async with open_device(directory) as device, trio.open_nursery() as nursery:
        leave_loaded_alone()
        started = time.perf_counter()
        network = Network(device, Settings(Endpoint(LOOPBACK, 0), peers=(Endpoint(LOOPBACK, port),), mdns=False))
        await nursery.start(network.run)
        await _until_complete(device, digest)
        synced_s = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_SELF)
        wire_bytes = _wire_bytes(network)
        found = _query_cards(device)
        await device.verifier.idle()
        _say(
            synced_s=synced_s,
            verified_s=time.perf_counter() - started,
            cpu_s=usage.ru_utime + usage.ru_stime,
            wire_bytes=wire_bytes,
            peak_rss_mb=_peak_rss_mb(),
            entries=device.entries_held,
            body_bytes=await _body_bytes(device),
            disk_bytes=_disk_bytes(directory),
            **found,
        )
        nursery.cancel_scope.cancel()


def _disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("replica.db*"))


async def _body_bytes(device: Device) -> int:
    """The length of one real tap's body."""
    log = next(iter(device.node.frontier.logs.values()))
    (entry,) = await device.read_entry(log.log_id, log.branches[0].head.seq)
    return len(decode_entry(entry).body)


async def _until_complete(device: Device, digest: str) -> None:
    """Everything is held, folded into the cards view, and committed as replica.db promises."""
    # A measurement polls rather than slow the product down with a hook for it.
    while device.node.pending_logs or device.node.frontier.digest().hex() != digest:  # noqa: ASYNC110
        await trio.sleep(0.002)
    await device.replica.flushed()


def _query_cards(device: Device) -> dict[str, int]:
    """Ask for every card once: what the measured time has brought must be there."""
    cards = list(device.cards.cards())
    balance = sum(device.cards.account(card).balance_minor for card in cards)
    return {"cards": len(cards), "balance_minor": balance, "conflicts": len(device.cards.all_conflicts())}


def limit(directory: Path) -> None:
    """What remains if nothing but decoding, link checks and the insert is done, in one thread."""
    source = RunStore(directory / REPLICA_FILE, Durability.PROCESS, read_only=True)
    runs = [(log.log_id, entries) for log in source.logs() for entries in source.runs(log.log_id)]
    encoded = [(log_id, len(entries), encode_run(entries)) for log_id, entries in runs]
    genesis = {log.log_id: log.genesis for log in source.logs()}
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        store = RunStore(Path(scratch) / "limit.db", Durability.PROCESS)
        leave_loaded_alone()
        started = time.perf_counter()
        count = 0
        for at in range(0, len(encoded), 40):
            with store.transaction():
                for log_id, entries, blob in encoded[at : at + 40]:
                    run = check_run(log_id, split_run(entries, blob), blob)
                    decode_taps([fields[6] for fields in run.fields if fields[5] == Kind.TAP])
                    if run.first_seq == 0:
                        store.add_log(log_id, genesis[log_id])
                        store.add_branch(log_id, 0, 0, NO_PREV, parent=None, attached=True)
                    store.append_run(run, 0, verified=False)
                    count += entries
        elapsed_s = time.perf_counter() - started
        store.close()
    _say(entries_per_s=count / elapsed_s)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["send", directory]:
            trio.run(send, Path(directory))
        case ["receive", directory, port, digest]:
            trio.run(receive, Path(directory), int(port), digest)
        case ["limit", directory]:
            limit(Path(directory))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
