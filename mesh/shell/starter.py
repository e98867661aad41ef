"""Starters: what a device must hold before doors, carried in its enrolment file instead of over the network.

A starter is a list of runs of the manager's control logs: the venue document, and the certificate of every device
enrolled so far. To the enrolment file a run is opaque; here it is CBOR `[log_id(16), count, entries]`, `entries` as
on the wire (mesh.core.chain). Runs are checked like any peer's, every signature included, before one of them is stored.

Loading a starter twice, or an older one after a newer, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mesh.core.chain import (
    Genesis,
    Run,
    check_run,
    encode_run,
    first_bad_signature,
    parse_genesis,
    split_run,
)
from mesh.core.codec import decode_array, encode
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, BadSignature
from mesh.core.frontier import Branch, Segment
from mesh.core.kinds import Lane
from mesh.errors import PeerError
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from mesh.shell.keys import Identity
from mesh.shell.lock import exclusive
from mesh.shell.store import OWN_FILE, REPLICA_FILE, Durability, RunStore, StoredLog

_RUN_FRAME_BYTES_MAX: Final = RUN_BYTES_MAX + 64


class BadStarter(PeerError):
    """A starter's runs are not of a shape that is known here, or have a gap; nothing of them was stored."""


class StarterContradicts(PeerError):
    """A starter and this device hold two different entries for one place in a log; nothing of it was stored."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """One log of a starter, complete from its genesis, every signature verified."""

    genesis: Genesis
    run: Run


def export_starter(identity: Identity) -> tuple[bytes, ...]:
    """Every run of this device's own control logs, oldest log first. The device must not be open elsewhere."""
    with exclusive(identity.directory):
        store = RunStore(identity.directory / OWN_FILE, Durability.POWER_CUT)
        try:
            return tuple(_encoded(store, identity))
        finally:
            store.close()


def import_starter(identity: Identity, runs: Iterable[bytes]) -> int:
    """Check a starter and store what is new of it; returns how many entries were. All of it or nothing."""
    checked = [_check(log_id, entries, identity) for log_id, entries in _joined(runs).items()]
    with exclusive(identity.directory):
        store = RunStore(identity.directory / REPLICA_FILE, Durability.POWER_CUT)
        try:
            held = {log.log_id: log for log in store.logs()}
            news = [(log, _news(store, held.get(log.run.log_id), log.run)) for log in checked]
            with store.transaction():
                for log, new in news:
                    _store(store, log.genesis, new)
            return sum(len(new.entries) for _log, new in news)
        finally:
            store.close()


def _encoded(store: RunStore, identity: Identity) -> Iterator[bytes]:
    for log in store.logs():
        if parse_genesis(log.genesis, identity.root).lane is not Lane.CONTROL:
            continue
        for entries in _packed(store.runs(log.log_id)):
            yield encode([log.log_id, len(entries), encode_run(entries)])


def _packed(runs: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Join small runs up to the bounds of one."""
    packed: list[bytes] = []
    size = 0
    for run in runs:
        added = sum(map(len, run)) + 5 * len(run)
        if packed and (len(packed) + len(run) > RUN_ENTRIES_MAX or size + added > RUN_BYTES_MAX):
            yield packed
            packed, size = [], 0
        packed, size = packed + run, size + added
    if packed:
        yield packed


def _joined(runs: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """The entries of each log, in the order in which its runs come."""
    joined: dict[bytes, list[bytes]] = {}
    for data in runs:
        match decode_array(data, bytes_max=_RUN_FRAME_BYTES_MAX):
            case [bytes(log_id), int(count), bytes(blob)] if len(log_id) == LOG_ID_BYTES and count is not True:
                joined.setdefault(log_id, []).extend(split_run(count, blob))
            case _:
                raise BadStarter("a run of a starter is [log_id, count, entries]")
    return joined


def _check(log_id: bytes, entries: list[bytes], identity: Identity) -> _Checked:
    run = check_run(log_id, entries)
    if run.first_seq != 0:
        raise BadStarter("a starter holds each log from its beginning")
    genesis = parse_genesis(entries[0], identity.root)
    bad = first_bad_signature(run, genesis.certificate.log_key)
    if bad is not None:
        raise BadSignature(f"the starter's entry at seq {bad} has a bad signature: ask the authority for a new file")
    return _Checked(genesis, run)


def _store(store: RunStore, genesis: Genesis, new: Run) -> None:
    if new.entries and new.first_seq == 0:
        store.add_log(new.log_id, genesis.entry)
        store.add_branch(new.log_id, 0, 0, NO_PREV, parent=None, attached=True)
    for start in range(0, len(new.entries), RUN_ENTRIES_MAX):
        stop = start + RUN_ENTRIES_MAX
        piece = Run(new.log_id, new.entries[start:stop], new.fields[start:stop], new.ids[start:stop])
        store.append_run(piece, 0, verified=True)


def _news(store: RunStore, held: StoredLog | None, run: Run) -> Run:
    """What `run` has beyond what is held. A log held in several pieces is left to the mesh, which can join them."""
    if held is None:
        return run
    match held.branches:
        case [Branch(number=0, from_seq=0, head=head)]:
            ours = store.read_entries(run.log_id, Segment(0, 0, head.seq))
        case _:
            return run.tail(len(run.entries))
    if any(mine != theirs for mine, theirs in zip(ours, run.entries, strict=False)):
        raise StarterContradicts(
            f"this device and the starter hold different entries for one place of log {run.log_id.hex()}: the "
            f"manager's key signed twice. Nothing was stored; let the device sync, it keeps the proof."
        )
    return run.tail(min(len(ours), len(run.entries)))
