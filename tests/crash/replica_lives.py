"""A device's replica.db through several lives: what it may lose, what it may not, and how a peer fills it again.

The real node says what to store, while it receives a log in order, a log that forks, an island that is joined later and
one that turns out to be a fork. The first life is fed by hand, in that order; a later one finds what is left and gets
the rest from a peer that has everything. The store may fall back to an earlier state. It may not be anything else.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Final

from mesh.core.chain import check_run, parse_genesis, split_run
from mesh.core.events import Accepted, AppendProof, Attached, Effect, Event, Relabel
from mesh.core.frontier import Frontier
from mesh.core.kinds import Kind, Role
from mesh.errors import PeerError, StorageError
from mesh.shell.store import Durability, RunStore
from mesh.testing.disk import Disk, DiskVfs
from tests.crash.sweep import Broken, require
from tests.factory import LogWriter, Venue, VenueDevice
from tests.harness import TICK_S, Mote, Puppet, World, runs_of

CHECKPOINT_PAGES: Final = 8
ROUNDS_MAX: Final = 200
EMPTY: Final = Frontier().digest()
VENUE: Final = Venue("Replica")
COURIER: Final = VENUE.device("courier", Role.COURIER)
BACKUP: Final = VENUE.device("backup", Role.COURIER)


def _written(name: str, entries: int) -> LogWriter:
    log = LogWriter(VENUE.device(name, Role.READER))
    for number in range(entries):
        log.append(Kind.ABORT, bytes([number]) + bytes(600))
    return log


PLAIN: Final = _written("bar A", 24)
LATE: Final = _written("bar B", 20)
FORKED: Final = _written("rogue", 12)
BRANCH: Final = FORKED.fork(8)
for _number in range(8):
    BRANCH.append(Kind.ABORT, b"other" + bytes(600))

ARRIVALS: Final = [
    *((PLAIN, 0, 5), (FORKED, 0, 12), (PLAIN, 6, 6), (LATE, 0, 3), (LATE, 10, 14), (BRANCH, 10, 12)),
    *((PLAIN, 7, 20), (LATE, 15, 20), (BRANCH, 13, 15), (BRANCH, 8, 9), (LATE, 4, 9), (PLAIN, 21, 24)),
]
"""Which part of which log arrives next: islands before what they hang from, a fork by its end first."""


class StoredMote(Mote):
    """A node whose effects are written to replica.db: all that one event brings, in one transaction."""

    def __init__(self, world: World, device: VenueDevice, disk: RunStore) -> None:
        super().__init__(world, device, "")
        self.disk = disk
        self.digests = {EMPTY}
        self._writes: list[partial[None]] = []

    def restore(self) -> None:
        """Put back what the store holds, as a device does when it starts; :class:`Broken` if it is no set of chains."""
        for log in self.disk.logs():
            genesis = parse_genesis(log.genesis, VENUE.root)
            for branch in log.branches:
                tip = branch.prev
                seq = branch.from_seq
                for run in self.disk.stored_runs(log.log_id):
                    if run.branch == branch.number:
                        checked = check_run(log.log_id, split_run(run.last_seq - run.first_seq + 1, run.blob))
                        require((checked.first_seq, checked.prev) == (seq, tip), "a branch with a hole")
                        tip, seq = checked.tip_id, checked.last_seq + 1
                        self.store._branches.setdefault((log.log_id, branch.number), []).append(checked)
                require(tip == branch.head.id, "a head that no run ends with")
            self.node.restore(log.log_id, genesis, log.branches, own=False)

    def post(self, event: Event) -> None:
        super().post(event)
        self.digests.add(self.node.frontier.digest())
        if self._writes:
            with self.disk.transaction():
                for write in self._writes:
                    write()
            self._writes.clear()

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, AppendProof):
            # A proof is an entry of this device's own, and those are in its other store.
            return
        super().carry_out(effect)
        match effect:
            case Accepted():
                self._writes.append(partial(_write_run, self.disk, effect))
            case Relabel(log_id, branch, into):
                self._writes.append(partial(self.disk.relabel, log_id, branch, into))
            case Attached(log_id, branch, parent):
                self._writes.append(partial(self.disk.attach, log_id, branch, parent))
            case _:
                pass


def _write_run(store: RunStore, accepted: Accepted) -> None:
    run = accepted.run
    store.add_log(run.log_id, accepted.genesis.entry)
    store.add_branch(
        run.log_id, accepted.branch, run.first_seq, run.prev, parent=accepted.parent, attached=accepted.attached
    )
    store.append_run(run, accepted.branch, verified=accepted.signatures_verified)


def feed(mote: Mote) -> None:
    """Everything arrives at a node, in the order of `ARRIVALS`."""
    peer = Puppet(mote, BACKUP)
    authors = {log.log_id: Puppet(mote, log.device) for log in (PLAIN, LATE, FORKED)}
    for log, first, last in ARRIVALS:
        authors[log.log_id].send_run(runs_of(log, first, last)[0])
        while mote.questions:
            mote.answer()
    peer.leave()


def _until_equal(mote: StoredMote, digest: bytes) -> None:
    """What a peer sends arrives, and time passes in between, until the node holds as much as the peer."""
    for _ in range(ROUNDS_MAX):
        mote.world.settle()
        if mote.node.frontier.digest() == digest:
            return
        mote.world.tick(TICK_S)
    raise Broken("not everything came back from the peer")


class ReplicaLives:
    """One replica whose lives end as told."""

    def __init__(self, vfs: DiskVfs, path: Path) -> None:
        self.vfs = vfs
        self.path = path
        self.opening_operations = 0
        self._lives = 0
        self._digests = {EMPTY}

    def live(self, disk: Disk, *, works: bool = True) -> bool:
        self.vfs.insert(disk)
        self._lives += 1
        try:
            self._live(works)
        except StorageError as error:
            if disk.is_off or disk.failed:
                return False
            raise Broken("the store cannot be used, and it is not the disk's fault") from error
        except PeerError as error:
            raise Broken("what is stored is no log") from error
        return True

    def _live(self, works: bool) -> None:
        store = RunStore(self.path, Durability.PROCESS, vfs=self.vfs.name)
        try:
            store._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}").fetchall()
            store.check()
            mote = StoredMote(World(seed=1), COURIER, store)
            mote.restore()
            require(mote.node.frontier.digest() in self._digests, "a state in which the node never was")
            self.opening_operations = self.vfs.disk.operations
            if works:
                self._fill(mote)
            else:
                self.vfs.disk.cut_power()
        finally:
            with suppress(StorageError) if self.vfs.disk.is_off else nullcontext():
                store.close()

    def _fill(self, mote: StoredMote) -> None:
        try:
            if self._lives == 1:
                feed(mote)
                numbers = [number for number, _, _ in mote.disk.unverified(0, 3)]
                with mote.disk.transaction():
                    mote.disk.mark_verified(numbers)
            else:
                peer = mote.world.join(BACKUP)
                feed(peer)
                mote.world.motes.append(mote)
                mote.world.connect(mote, peer)
                everything = peer.node.frontier.digest()
                _until_equal(mote, everything)
                again = StoredMote(World(), COURIER, mote.disk)
                again.restore()
                require(again.node.frontier.digest() == everything, "what came back is not in the store")
        finally:
            self._digests |= mote.digests
