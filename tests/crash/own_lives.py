"""A device's own.db through several lives, each of which may end at any operation of its disk.

A life opens the store as every process does, compares what it finds with what the lives before acknowledged, opens new
logs and works a script: taps with their intents, in several lanes. Whatever it acknowledged a peer may have seen, so
that a peer's memory (`shown`) is kept over all lives: two entries at one seq of one log would convict the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import trio

from mesh.core.chain import KnownHead, check_run
from mesh.core.entry import NO_PREV, decode_entry
from mesh.core.kinds import Kind, Lane
from mesh.errors import StorageError
from mesh.shell.keys import LOG_KEY_FILE, Identity, load_signer
from mesh.shell.own_logs import OwnLogs
from mesh.shell.store import Durability, RunStore
from mesh.testing.disk import Disk, DiskVfs
from tests.crash.sweep import Broken, require

Place: TypeAlias = tuple[bytes, int]
"""Log id and seq."""
CHECKPOINT_PAGES: Final = 24
"""So few, that the script meets checkpoints; the product's bound is 4096."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader does and waits for: an entry, writes beside it, or only those."""

    entry: tuple[Lane, Kind, bytes] | None = None
    put: tuple[tuple[bytes, bytes], ...] = ()
    drop: tuple[bytes, ...] = ()
    evidence: bytes | None = None

    def beside(self, store: RunStore) -> None:
        for tap_id, body in self.put:
            store.put_intent(tap_id, body)
        for tap_id in self.drop:
            store.drop_intent(tap_id)
        if self.evidence is not None:
            store.put_evidence(self.evidence[:32], self.evidence)


@dataclass(slots=True)
class Held:
    """What own.db holds, as far as anybody is told of it."""

    entries: dict[Place, bytes] = field(default_factory=dict)
    intents: dict[bytes, bytes] = field(default_factory=dict)
    evidence: dict[bytes, bytes] = field(default_factory=dict)

    def beside(self, step: Step) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        """Intents and evidence as they are after a step."""
        intents = {key: body for key, body in {**self.intents, **dict(step.put)}.items() if key not in step.drop}
        added = {} if step.evidence is None else {step.evidence[:32]: step.evidence}
        return intents, {**self.evidence, **added}


def script(life: int) -> list[Step]:
    """A short evening: two taps committed, one given up, one unknown; a proof, a histogram, a case."""
    taps = [bytes([life, number]) * 8 for number in range(4)]

    def tap(number: int, kind: Kind = Kind.TAP) -> tuple[Lane, Kind, bytes]:
        return Lane.MONEY, kind, taps[number] + bytes(180)

    def intent(number: int, word: bytes) -> tuple[tuple[bytes, bytes], ...]:
        return ((taps[number], word * 60),)

    return [
        Step(put=intent(0, b"open")),
        Step(tap(0), put=intent(0, b"done")),
        Step(put=intent(1, b"open")),
        Step((Lane.CONTROL, Kind.FORK_PROOF, bytes([life]) * 700)),
        Step(tap(1), put=intent(1, b"done")),
        Step(evidence=bytes([life]) * 40 + bytes(9_000)),
        Step(drop=(taps[0],)),
        Step(put=intent(2, b"open")),
        Step((Lane.TELEMETRY, Kind.DEVICE, bytes([life]) * 3_000)),
        Step(tap(2, Kind.ABORT), drop=(taps[2],)),
        Step(put=intent(3, b"open")),
        Step((Lane.CONTROL, Kind.FORK_PROOF, bytes([life]) * 900)),
        Step(tap(3), put=intent(3, b"done")),
    ]


class OwnLives:
    """One device whose lives end as told. `pragmas` are for the controlled failure only."""

    def __init__(self, vfs: DiskVfs, path: Path, identity: Identity, *, pragmas: Sequence[str] = ()) -> None:
        self.vfs = vfs
        self.path = path
        self.identity = identity
        self.shown: dict[Place, bytes] = {}
        self.told = Held()
        self.lives = 0
        self._under_way: Step | None = None
        self._pragmas = pragmas
        self.opening_operations = 0
        """How many operations of the disk the newest life took before it did anything."""

    def live(self, disk: Disk, *, works: bool = True) -> bool:
        self.vfs.insert(disk)
        self.lives += 1
        try:
            trio.run(self._live, works)
        except StorageError as error:
            if disk.is_off or disk.failed:
                return False
            raise Broken("the store cannot be used, and it is not the disk's fault") from error
        return True

    async def _live(self, works: bool) -> None:
        store = RunStore(self.path, Durability.POWER_CUT, vfs=self.vfs.name)
        try:
            for pragma in (f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}", *self._pragmas):
                store._db.execute(pragma).fetchall()
            self._compare(store)
            self.opening_operations = self.vfs.disk.operations
            # A process of its own has a signer of its own, which knows nothing of what others signed.
            identity = replace(self.identity, signer=load_signer(self.identity.directory / LOG_KEY_FILE))
            logs = OwnLogs(identity, store, known_heads(store))
            if not works:
                # What was looked at may have been shown to peers: it must survive also if nothing else is done.
                self.vfs.disk.cut_power()
                return
            for step in script(self.lives):
                await self._do(logs, step)
        finally:
            with suppress(StorageError) if self.vfs.disk.is_off else nullcontext():
                store.close()

    async def _do(self, logs: OwnLogs, step: Step) -> None:
        self._under_way = step
        intents, evidence = self.told.beside(step)
        if step.entry is None:
            await logs.write(step.beside)
        else:
            appended = await logs.append(*step.entry, also=step.beside)
            first = appended.run.first_seq
            self._acknowledge({(appended.log_id, first + at): e for at, e in enumerate(appended.run.entries)})
        self.told.intents, self.told.evidence = intents, evidence
        self._under_way = None

    def _acknowledge(self, entries: dict[Place, bytes]) -> None:
        for place, entry in entries.items():
            require(self.shown.setdefault(place, entry) == entry, "one seq has two entries: the device convicts itself")
        self.told.entries |= entries

    def _compare(self, store: RunStore) -> None:
        """What is found is what was acknowledged, or that and the whole step that was under way; then it is told."""
        store.check()
        whole = store._db.execute("PRAGMA integrity_check").fetchall()
        require(whole == [("ok",)], f"the store does not hold together: {whole}")
        found = held_in(store)
        lost = [place for place, entry in self.told.entries.items() if found.entries.get(place) != entry]
        require(not lost, f"{len(lost)} acknowledged entries are gone")
        more = {place: entry for place, entry in found.entries.items() if place not in self.told.entries}
        beside = (found.intents, found.evidence)
        step = self._under_way
        if more:
            require(step is not None and step.entry is not None, "an entry that nobody was writing")
            assert step is not None and step.entry is not None
            self._require_run_of(step.entry, more)
            require(beside == self.told.beside(step), "the entry is there without what was to be written with it")
        else:
            allowed = [(self.told.intents, self.told.evidence)]
            if step is not None and step.entry is None:
                allowed.append(self.told.beside(step))
            require(
                beside in allowed, "intents or evidence are neither as acknowledged nor as after the step under way"
            )
        self._acknowledge(found.entries)
        self.told.intents, self.told.evidence = beside
        self._under_way = None

    def _require_run_of(self, wanted: tuple[Lane, Kind, bytes], more: dict[Place, bytes]) -> None:
        decoded = [decode_entry(more[place]) for place in sorted(more)]
        _, kind, body = wanted
        require(len({log_id for log_id, _ in more}) == 1, "entries in more than one log")
        require((decoded[-1].kind, decoded[-1].body) == (kind, body), "another entry than the one under way")
        before = [Kind.GENESIS] if len(decoded) > 1 else []
        require([entry.kind for entry in decoded[:-1]] == before, "more than the step under way")


def held_in(store: RunStore) -> Held:
    """Everything in an own.db; each log is read as one run and its links are checked."""
    held = Held(intents=dict(store.intents()), evidence=dict(store.evidence()))
    for log in store.logs():
        require([branch.number for branch in log.branches] == [0], "a log of this device forked")
        entries = [entry for run in store.runs(log.log_id) for entry in run]
        run = check_run(log.log_id, entries)
        require((run.first_seq, run.prev) == (0, NO_PREV), "a log without its beginning")
        require(run.tip_id == log.branches[0].head.id, "a head that is not the newest entry")
        held.entries |= {(log.log_id, seq): entry for seq, entry in enumerate(entries)}
    return held


def known_heads(store: RunStore) -> list[KnownHead]:
    return [KnownHead(log.log_id, log.branches[0].head.seq, log.branches[0].head.id) for log in store.logs()]
