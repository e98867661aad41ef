"""Putting a device back together from its two files: frontier, views, and what must survive anything.

The views are folds, so their durable form is the runs themselves: they are folded again here, which also checks every
link of every log. What is not a chain is damage, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.core.certificate import VenueRoot
from mesh.core.chain import Genesis, KnownHead, Run, check_run, parse_genesis, split_run
from mesh.core.entry import LOG_ID_BYTES, entry_id
from mesh.core.events import Effect
from mesh.core.frontier import Branch, Position
from mesh.core.kinds import Lane
from mesh.core.node import Node
from mesh.errors import PeerError
from mesh.shell.damage import own_damage_explained, replica_damage_explained
from mesh.shell.store import StoreDamaged, StoredLog, StoredRun
from mesh.views.cards import CardsView
from mesh.views.evidence import Case, check_case


class LoadedStore(Protocol):
    """What is read of a store at a start; :class:`mesh.shell.store.RunStore` has it, and the simulator's."""

    @property
    def path(self) -> Path: ...

    def logs(self) -> list[StoredLog]: ...

    def stored_runs(self, log_id: bytes) -> Iterator[StoredRun]: ...

    def unverified_entries(self) -> int: ...

    def evidence(self) -> list[tuple[bytes, bytes]]: ...

    def statements(self) -> list[tuple[bytes, bytes]]: ...


class Loading(Protocol):
    """A fresh device that is put back together."""

    @property
    def node(self) -> Node: ...

    @property
    def root(self) -> VenueRoot: ...

    @property
    def cards(self) -> CardsView: ...

    @property
    def own_logs(self) -> set[bytes]: ...

    def fold(self, run: Run, genesis: Genesis) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the caller needs from loading."""

    own_heads: list[KnownHead]
    """What a new genesis names."""
    effects: list[Effect]
    """To be carried out."""
    unverified: int
    """Entries in runs whose signatures were not all checked yet."""
    cases: list[Case]
    """Proofs that are in own.db."""


def load(device: Loading, own: LoadedStore, replica: LoadedStore) -> Loaded:
    """Load both stores into a fresh device."""
    heads: list[KnownHead] = []
    with own_damage_explained(own.path):
        effects = _load_statements(device, own)
        for log in own.logs():
            effects += _load_log(device, own, log, is_own=True)
            device.own_logs.add(log.log_id)
            head = log.branches[0].head
            heads.append(KnownHead(log.log_id, head.seq, head.id))
    with replica_damage_explained(replica.path):
        for log in replica.logs():
            effects += _load_log(device, replica, log, is_own=False)
        unverified = replica.unverified_entries()
    with own_damage_explained(own.path):
        cases = _load_evidence(device, own)
    # A conflict that only seemed to be there while half was loaded would not be told when it really comes.
    device.cards.forget_reports()
    return Loaded(heads, effects, unverified, cases)


def _load_statements(device: Loading, own: LoadedStore) -> list[Effect]:
    """Who was revoked stays revoked even where replica.db was lost."""
    effects: list[Effect] = []
    for _, body in own.statements():
        try:
            effects += device.node.restore_statement(body)
        except PeerError as error:
            raise StoreDamaged(
                f"{own.path}: a stored revocation does not hold ({error}); the file was left as it is"
            ) from error
    return effects


def _load_log(device: Loading, store: LoadedStore, log: StoredLog, *, is_own: bool) -> list[Effect]:
    effects: list[Effect] = []
    try:
        genesis = parse_genesis(log.genesis, device.root)
        runs = check_log(store, log)
        device.node.restore(log.log_id, genesis, log.branches, own=is_own)
        for run in runs:
            device.fold(run, genesis)
            if genesis.lane is Lane.CONTROL:
                effects += device.node.restore_control(run)
    except PeerError as error:
        raise StoreDamaged(
            f"{store.path}: log {log.log_id.hex()} does not hold together ({error}); the file was left as it is"
        ) from error
    return effects


def check_log(store: LoadedStore, log: StoredLog) -> Iterator[Run]:
    """Every run of a stored log, checked to follow what is before it; raises a `PeerError` where it does not hold."""
    # Now and not with the first run: a frontier thins the tips out that it is given.
    return _follow(store, log, _Chains(log))


def _follow(store: LoadedStore, log: StoredLog, chains: _Chains) -> Iterator[Run]:
    for stored in store.stored_runs(log.log_id):
        run = check_run(log.log_id, split_run(stored.last_seq - stored.first_seq + 1, stored.blob))
        chains.follow(stored, run)
        yield run
    chains.require_whole()


class NoChain(PeerError):
    """What is stored of a log does not hold together, though each piece of it may."""


class _Chains:
    """The branches of one stored log, followed run by run: SQLite may call a file whole in which a run is missing."""

    def __init__(self, log: StoredLog) -> None:
        if entry_id(log.genesis)[:LOG_ID_BYTES] != log.log_id:
            raise NoChain("its genesis is another log's")
        self._log = log
        self._tips = {branch.number: frozenset(branch.tips) for branch in log.branches}
        self._at = {branch.number: Position(branch.from_seq - 1, branch.prev) for branch in log.branches}
        self._joints: dict[tuple[int, int], bytes] = {}
        """Ids that forks leave from, by branch and seq, until they are met."""
        for branch in log.branches:
            if branch.parent is not None:
                self._joints[self._place_on_parent(branch)] = branch.prev

    def _place_on_parent(self, branch: Branch) -> tuple[int, int]:
        """Which branch holds the entry that `branch` follows: its parent, or what that hangs from."""
        numbered = {held.number: held for held in self._log.branches}
        seq = branch.from_seq - 1
        holder = branch
        for _ in numbered:
            found = None if holder.parent is None else numbered.get(holder.parent)
            if found is None:
                break
            holder = found
            if holder.from_seq <= seq <= holder.head.seq:
                return holder.number, seq
        raise NoChain(f"the branch from seq {branch.from_seq} leaves one that is not there")

    def follow(self, stored: StoredRun, run: Run) -> None:
        """The next run of a branch, in order of seq."""
        before = self._at.get(stored.branch)
        if before is None or (run.first_seq, run.prev) != (before.seq + 1, before.id):
            raise NoChain(f"the run at seq {run.first_seq} follows nothing that is stored")
        at = Position(run.last_seq, run.tip_id)
        if stored.first_seq != run.first_seq or at not in self._tips[stored.branch]:
            raise NoChain(f"the run at seq {run.first_seq} is not what it is filed as")
        self._at[stored.branch] = at
        for (branch, seq), prev in list(self._joints.items()):
            if branch == stored.branch and run.first_seq <= seq <= run.last_seq:
                if run.ids[seq - run.first_seq] != prev:
                    raise NoChain(f"a branch says that it follows another entry than the one at seq {seq}")
                del self._joints[branch, seq]

    def require_whole(self) -> None:
        for branch in self._log.branches:
            if self._at[branch.number] != branch.head:
                raise NoChain(f"it ends at seq {self._at[branch.number].seq}, not at {branch.head.seq}")
        if self._joints:
            raise NoChain("a branch leaves an entry that is not stored")


def _load_evidence(device: Loading, own: LoadedStore) -> list[Case]:
    """Proven double spends hold their cards even where replica.db was lost: fold their taps from the proof."""
    cases: list[Case] = []
    for _, body in own.evidence():
        try:
            case = check_case(body, device.root)
        except PeerError as error:
            raise StoreDamaged(
                f"{own.path}: a stored case does not hold ({error}); the file was left as it is"
            ) from error
        cases.append(case)
        for tap in case.taps:
            device.cards.open_log(tap.entry.log_id, parse_genesis(tap.genesis, device.root))
            device.cards.fold(check_run(tap.entry.log_id, [tap.entry.data]))
    return cases
