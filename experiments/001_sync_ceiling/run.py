"""Where does the time go when a node takes in everything another one holds? Prints JSON; see README.md.

    python experiments/001_sync_ceiling/run.py [--entries 200000] [--rounds 5] > result.json

Each stage of the receive path is run alone over the same runs, in one process, with nothing else going on; then the
whole path is measured by `tapmesh bench sync`, in the same run. Microseconds an entry, medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from mesh.bench.sync import measure_sync
from mesh.bench.workload import Bench, Scale
from mesh.core.certificate import VenueRoot
from mesh.core.chain import Genesis, Run, check_run, encode_run, parse_genesis, split_run, verify_tip
from mesh.core.codec import are_canonical, decode_all_unchecked
from mesh.core.entry import NO_PREV, SIGNATURE_BYTES, check_fields, entry_id
from mesh.core.kinds import Kind
from mesh.core.messages import RunMessage, decode_message, encode_message
from mesh.shell.collector import leave_loaded_alone
from mesh.shell.keys import load_identity
from mesh.shell.store import REPLICA_FILE, Durability, RunStore
from mesh.shell.tls import client_context, server_context
from mesh.views.cards import CardsView
from mesh.views.tap_entry import decode_taps

PAYLOAD_HEADER = 0x87
TLS_RECORD_BYTES = 16 * 1024


class Stopwatch:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def stages(frames: list[bytes], genesis: dict[bytes, Genesis], directory: Path) -> dict[str, float]:
    """Every stage of the receive path over all frames, one after the other."""
    watch = Stopwatch()
    view = CardsView()
    for log_id, first in genesis.items():
        view.open_log(log_id, first)
    runs: list[Run] = []
    for frame in frames:
        with watch.stage("frame: decode the message"):
            message = cast(RunMessage, decode_message(frame))
        with watch.stage("entries: split the run"):
            entries = split_run(message.count, message.blob)
        with watch.stage("entries: decode, types, canonical, hash, links"):
            run = check_run(message.log_id, entries, message.blob)
        with watch.stage("signature of the last entry"):
            verify_tip(run, genesis[run.log_id].certificate.log_key)
        with watch.stage("view: decode taps, apply the rules, find conflicts"):
            view.fold(run)
        runs.append(run)
    with watch.stage("store: insert runs"):
        _insert(runs, genesis, directory)
    _inside_check_run(runs, watch)
    _inside_fold(runs, watch)
    return watch.seconds


def _inside_check_run(runs: list[Run], watch: Stopwatch) -> None:
    for run in runs:
        payloads = [entry[:-SIGNATURE_BYTES] for entry in run.entries]
        with watch.stage("  of which CBOR decode"):
            fields = decode_all_unchecked(payloads)
        with watch.stage("  of which types and ranges"):
            for one in fields:
                check_fields(one)
        with watch.stage("  of which re-encode and compare"):
            are_canonical(run.fields, payloads, PAYLOAD_HEADER)
        with watch.stage("  of which SHA-256 of the entry"):
            for entry in run.entries:
                entry_id(entry)


def _inside_fold(runs: list[Run], watch: Stopwatch) -> None:
    for run in runs:
        bodies = [fields[6] for fields in run.fields if fields[5] == Kind.TAP]
        with watch.stage("  of which decode and re-encode the taps' bodies"):
            decode_taps(bodies)


def _insert(runs: list[Run], genesis: dict[bytes, Genesis], directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        store = RunStore(Path(scratch) / "alone.db", Durability.PROCESS)
        for at in range(0, len(runs), 20):
            with store.transaction():
                for run in runs[at : at + 20]:
                    if run.first_seq == 0:
                        store.add_log(run.log_id, genesis[run.log_id].entry)
                        store.add_branch(run.log_id, 0, 0, NO_PREV, parent=None, attached=True)
                    store.append_run(run, 0, verified=False)
        store.close()


def tls_seconds(data: bytes, sender: Path, receiver: Path) -> float:
    """Decrypting alone: records through memory, no socket and no event loop."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(load_identity(sender)).wrap_bio(outgoing, incoming, server_side=True)
    client = client_context(load_identity(receiver)).wrap_bio(incoming, outgoing)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    elapsed = 0.0
    for at in range(0, len(data), TLS_RECORD_BYTES):
        server.write(data[at : at + TLS_RECORD_BYTES])
        started = time.perf_counter()
        client.read(TLS_RECORD_BYTES)
        elapsed += time.perf_counter() - started
    return elapsed


def load(directory: Path, root: VenueRoot) -> tuple[list[bytes], dict[bytes, Genesis]]:
    """The frames that a sender would send, without their lengths, and each log's genesis."""
    store = RunStore(directory / REPLICA_FILE, Durability.PROCESS, read_only=True)
    frames: list[bytes] = []
    genesis: dict[bytes, Genesis] = {}
    for log in store.logs():
        genesis[log.log_id] = parse_genesis(log.genesis, root)
        runs = store.runs(log.log_id)
        frames += [encode_message(RunMessage(log.log_id, len(run), encode_run(run)))[4:] for run in runs]
    store.close()
    return frames, genesis


def measure(scale: Scale, rounds: int, say: Callable[[str], None]) -> dict[str, object]:
    """The whole result."""
    taken: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="tapmesh-ceiling-") as scratch:
        bench = Bench(Path(scratch))
        sender, receiver = bench.device("sender"), bench.device("receiver")
        bench.fill(sender, scale, seed=1)
        frames, genesis = load(sender, bench.root)
        for number in range(rounds):
            seconds = stages(frames, genesis, bench.directory)
            seconds["TLS: decrypt records"] = tls_seconds(b"".join(frames), sender, receiver)
            taken.append(seconds)
            say(f"stages, round {number + 1} of {rounds}")
    alone = {
        name: round(statistics.median(seconds[name] for seconds in taken) / scale.entries * 1e6, 2) for name in taken[0]
    }
    bench_result = measure_sync(scale, rounds, 1, say)
    whole = 1e6 / bench_result["entries_per_s"]
    summed = sum(cost for name, cost in alone.items() if not name.startswith("  "))
    return {
        "us_per_entry_alone": alone,
        "us_per_entry_sum_of_stages": round(summed, 2),
        "us_per_entry_whole_path": round(whole, 2),
        "us_per_entry_left": round(whole - summed, 2),
        "bench_sync": bench_result,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    leave_loaded_alone()
    scale = Scale(chosen.entries, 50, chosen.entries * 2 // 5, 100)
    result = measure(scale, chosen.rounds, lambda text: print(text, file=sys.stderr))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
