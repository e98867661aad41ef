"""One device, opened: its keys, its two stores, the node, and the views, kept in step.

:func:`open_device` is what every program of ours starts with: reader, courier, gateway, manager and the tools. It loads
and checks what is on the disk, folds the views again, and carries out the effects of the pure node. Links are the
business of :mod:`mesh.shell.network`; a device without any works the same, only alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import trio

from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import Genesis, Run
from mesh.core.events import (
    Accepted,
    AppendProof,
    Attached,
    Close,
    Compared,
    Contested,
    Effect,
    Event,
    InStep,
    LinkDown,
    Met,
    Note,
    OwnAppended,
    PeerPlan,
    ReadBack,
    Relabel,
    Revoked,
    Send,
    Serve,
    SignatureFailed,
    Stored,
    Tick,
)
from mesh.core.frontier import Segment, entry_count
from mesh.core.kinds import Kind, Lane
from mesh.core.node import Node
from mesh.core.revocation import Statement
from mesh.ports import Links, Store
from mesh.shell.damage import open_own, replica_damage_explained
from mesh.shell.keys import Identity, load_identity
from mesh.shell.loading import load
from mesh.shell.lock import exclusive
from mesh.shell.own_logs import Appended, OwnLogs
from mesh.shell.prover import Prover
from mesh.shell.replica import Replica
from mesh.shell.store import OWN_FILE, REPLICA_FILE, Durability, RunStore
from mesh.shell.surroundings import REAL, Surroundings
from mesh.shell.verifier import Verifier
from mesh.views.cards import Conflict
from mesh.views.everything import Views
from mesh.views.evidence import Case

TICK_S: Final = 0.25
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ConflictSurfaced:
    """A double spend became visible here; `case` is its proof, checkable with the venue root alone."""

    conflict: Conflict
    case: bytes


@dataclass(frozen=True, slots=True)
class ForkSurfaced:
    """A log is contested from `from_seq` on: its key signed two entries at one seq, or a signature in it is bad."""

    log_id: bytes
    from_seq: int


@dataclass(frozen=True, slots=True)
class RevocationHeard:
    """The authority's word about a device was heard here, or read again at start; the highest number holds."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class Planned:
    """A peer is about to send this much of one log."""

    log_id: bytes
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Something for whoever looks after this device."""

    text: str


@dataclass(frozen=True, slots=True)
class PeerMet:
    """A link to a peer carries logs from now on: each accepted the other."""

    peer: DeviceCertificate


@dataclass(frozen=True, slots=True)
class PeerParted:
    """A link to a peer ended; `reason` is for people."""

    peer: DeviceCertificate
    reason: str


@dataclass(frozen=True, slots=True)
class PeerInStep:
    """A peer and this device hold the same entries, `seconds` after they met."""

    peer: DeviceCertificate
    seconds: float


Notice: TypeAlias = (
    ConflictSurfaced | ForkSurfaced | RevocationHeard | Planned | Noted | PeerMet | PeerParted | PeerInStep
)


class Device:
    """See the module's docstring; made by :func:`open_device` only."""

    def __init__(
        self,
        identity: Identity,
        own: RunStore,
        own_reader: RunStore,
        replica: Replica,
        zone: str,
        surroundings: Surroundings = REAL,
    ) -> None:
        self.identity = identity
        self.surroundings = surroundings
        self.own_logs: set[bytes] = set()
        self.views = Views(identity.root, own_logs=self.own_logs)
        self.trust = self.views.trust
        self.cards = self.views.cards
        self.venue = self.views.venue
        self.devices = self.views.devices
        self.bundle_keys = self.views.bundle_keys
        self.node = Node(identity.certificate, identity.root, zone)
        self.replica = replica
        self.replica.grown, self.replica.durable = self._replica_grown, self._replica_durable
        self._grown: set[bytes] = set()
        """Others' logs of which something was put into the replica since it last asked."""
        self.verifier = Verifier(
            replica, self._log_key, lambda log_id, seq: self.post(SignatureFailed(log_id, seq)), surroundings
        )
        self.links: Links | None = None
        self._met: dict[int, tuple[DeviceCertificate, float]] = {}
        """The peers that accepted us and were accepted, by link, and since when."""
        self._own_reader = own_reader
        self._own_limiter = trio.CapacityLimiter(1)
        self._logs = OwnLogs(identity, own, [], surroundings)
        self._append_lock = trio.Lock()
        self.prover = Prover(self)
        self._rival_writes: list[Callable[[Store], None]] = []
        self._rivals_lock = trio.Lock()
        self._subscribers: list[trio.MemorySendChannel[Notice]] = []
        self._nursery: trio.Nursery | None = None
        self._woken = trio.Event()
        self._sleeps_until = -math.inf
        """When the next tick is due, unless something wakes it before."""

    # -- What programs use -----------------------------------------------------------------------------------------

    @property
    def certificate(self) -> DeviceCertificate:
        return self.identity.certificate

    @property
    def root(self) -> VenueRoot:
        return self.identity.root

    async def append(
        self, lane: Lane, kind: Kind, body: bytes, *, also: Callable[[RunStore], None] | None = None
    ) -> Appended:
        """Sign and store an entry of this device; returns after the fsync, when it is also visible to peers.

        `also` writes to own.db in the same transaction, for what must become durable together with the entry.
        """
        async with self._append_lock:
            appended = await self._logs.append(lane, kind, body, also=also)
            self.own_logs.add(appended.log_id)
            self.post(OwnAppended(appended.run))
        return appended

    async def open_lane(self, lane: Lane) -> bytes:
        """The id of this process's log in a lane, for bodies that must name it."""
        async with self._append_lock:
            log_id, run = await self._logs.open(lane)
            if run is not None:
                self.own_logs.add(log_id)
                self.post(OwnAppended(run))
        return log_id

    async def write_own(self, work: Callable[[RunStore], None]) -> None:
        """One durable transaction in own.db without an entry: an intent stored or dropped."""
        await self._logs.write(work)

    async def read_own(self, work: Callable[[RunStore], list[tuple[bytes, bytes]]]) -> list[tuple[bytes, bytes]]:
        """Read something else than runs from own.db."""
        return await self._read_own(work)

    async def read_store(self, log_id: bytes, work: Callable[[RunStore], _Result], *, hurry: bool = True) -> _Result:
        """Run `work` in a thread on the store that holds the log; never on the connection that a tap writes to.

        Without `hurry` it waits for others' entries to be written in the usual batches first.
        """
        if log_id in self.own_logs:
            await self._keep_rivals()
            return await self._read_own(work)
        return await self.replica.read(work, hurry=hurry)

    async def _read_own(self, work: Callable[[RunStore], _Result]) -> _Result:
        return await self.surroundings.in_thread(partial(work, self._own_reader), limiter=self._own_limiter)

    async def read_entries(self, log_id: bytes, segments: Sequence[Segment]) -> list[bytes]:
        """The raw entries of consecutive segments of one log."""

        def work(store: RunStore) -> list[bytes]:
            return [entry for segment in segments for entry in store.read_entries(log_id, segment)]

        return await self.read_store(log_id, work)

    async def read_entry(self, log_id: bytes, seq: int) -> list[bytes]:
        """Every entry held at one seq of a log: one, or several where the log forked."""
        return await self.read_store(log_id, lambda store: store.read_at(log_id, seq))

    def subscribe(self) -> trio.MemoryReceiveChannel[Notice]:
        """Who is revoked, then everything that surfaces. Notices are few (conflicts, forks): the queue has no bound."""
        send, receive = trio.open_memory_channel[Notice](math.inf)
        self._subscribers.append(send)
        for serial in self.trust.revocations.serials():
            for statement in self.trust.revocations.holding(serial):
                send.send_nowait(RevocationHeard(statement))
        return receive

    def post(self, event: Event) -> None:
        """Feed the node one event and carry out its effects; returns without waiting for any disk or link."""
        for effect in self.node.handle(event, trio.current_time()):
            self._carry_out(effect)
        deadline = self.node.deadline()
        if deadline is not None and deadline < self._sleeps_until:
            self._woken.set()

    def link_ended(self, link: int, reason: str) -> bool:
        """The carrier of links says that one is gone; True if its peer had been met."""
        self.post(LinkDown(link))
        if link not in self._met:
            return False
        self.notify(PeerParted(self._met.pop(link)[0], reason))
        return True

    @property
    def entries_held(self) -> int:
        """Entries in all logs, forks and islands included."""
        return entry_count(self.node.frontier.logs.values())

    # -- Effects ---------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send() | Serve() | Close():
                if self.links is not None:
                    _put_on_link(self.links, effect)
            case Accepted():
                self._accepted(effect)
            case Relabel(log_id, branch, into):
                self._write_to(log_id, lambda store: store.relabel(log_id, branch, into), 0)
            case Attached(log_id, branch, parent):
                self._write_to(log_id, lambda store: store.attach(log_id, branch, parent), 0)
            case ReadBack():
                self._spawn(self._read_back, effect)
            case AppendProof(_, body):
                self._spawn(self.append, Lane.CONTROL, Kind.FORK_PROOF, body)
            case Contested(log_id, from_seq):
                self._contested(log_id, from_seq)
            case Revoked(statement):
                self._revoked(statement)
            case PeerPlan(_, log_id, entries, size):
                self.notify(Planned(log_id, entries, size))
            case Met() | InStep():
                self._link_news(effect)
            case Note(text):
                self.notify(Noted(text))

    def _link_news(self, effect: Met | InStep) -> None:
        """A peer was met, or holds the same: for people, and for what looks after links."""
        match effect:
            case Met(link, peer):
                self._met[link] = (peer, trio.current_time())
                self.notify(PeerMet(peer))
                if self.links is not None:
                    self.links.met(link)
            case InStep(link):
                peer, since = self._met[link]
                self.notify(PeerInStep(peer, trio.current_time() - since))
                if self.links is not None:
                    self.links.in_step(link)

    def _spawn(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        assert self._nursery is not None, "effects are carried out only while the device is open"
        self._nursery.start_soon(work, *arguments)

    def notify(self, notice: Notice) -> None:
        """Tell every subscriber."""
        for subscriber in self._subscribers:
            with suppress(trio.BrokenResourceError):
                subscriber.send_nowait(notice)

    def _accepted(self, accepted: Accepted) -> None:
        run = accepted.run
        if not accepted.on_disk:
            self._write_to(run.log_id, _writing(accepted), sum(map(len, run.entries)))
            if run.log_id not in self.own_logs and not accepted.signatures_verified:
                self.verifier.expect(len(run.entries))
        self.prover.surface(self.fold(run, accepted.genesis))

    def _write_to(self, log_id: bytes, work: Callable[[Store], None], size: int) -> None:
        """Store what arrived of a log: in replica.db soon, or, of a log of this device's own, in own.db."""
        if log_id in self.own_logs:
            self._rival_writes.append(work)
            self._spawn(self._keep_rivals)
        else:
            self._grown.add(log_id)
            self.replica.put(work, size)

    def _replica_grown(self) -> dict[bytes, int]:
        """How far those logs reach now. Asked between two events, when all that the node accepted has been put."""
        grown, self._grown = self._grown, set()
        heights = {log_id: self.node.frontier.logs[log_id].height for log_id in sorted(grown)}
        return {log_id: height for log_id, height in heights.items() if height is not None}

    def _replica_durable(self, heights: dict[bytes, int]) -> None:
        self.post(Stored(tuple(heights.items())))

    def fold(self, run: Run, genesis: Genesis) -> list[bytes]:
        """Fold one run into the views; returns the cards that have a conflict now and had none before."""
        return self.views.fold(run, genesis, self.node.contested_from.get(run.log_id))

    def _contested(self, log_id: bytes, from_seq: int) -> None:
        log = self.node.frontier.logs.get(log_id)
        if log is not None:
            self.cards.open_log(log_id, log.genesis)
            self.prover.surface(self.cards.contest(log_id, from_seq))
        self.notify(ForkSurfaced(log_id, from_seq))

    def _revoked(self, statement: Statement) -> None:
        self.prover.surface(self.cards.revoke(statement))
        digest = hashlib.sha256(statement.body).digest()
        self._spawn(self.write_own, partial(RunStore.put_statement, digest=digest, body=statement.body))
        self.notify(RevocationHeard(statement))

    async def _read_back(self, effect: ReadBack) -> None:
        pieces = [await self.read_entries(effect.log_id, piece) for piece in effect.pieces]
        self.post(Compared(effect.token, pieces))

    def conflict_proven(self, conflict: Conflict, case: Case) -> None:
        """The proof is in own.db: tell people."""
        self.notify(ConflictSurfaced(conflict, case.data))

    async def _keep_rivals(self) -> None:
        """Store what somebody else signed with this device's key, in own.db beside what this device signed."""
        async with self._rivals_lock:
            while self._rival_writes:
                await self.write_own(self._rival_writes[0])
                del self._rival_writes[0]

    def _log_key(self, log_id: bytes) -> bytes:
        return self.node.frontier.logs[log_id].genesis.certificate.log_key

    # -- Running ---------------------------------------------------------------------------------------------------

    def load(self, own: RunStore, replica: RunStore) -> list[Effect]:
        """Put back what the disk holds and fold the views again; at start only."""
        loaded = load(self, own, replica)
        self._grown |= self.node.frontier.logs.keys() - self.own_logs
        self._logs.known_heads.extend(loaded.own_heads)
        self.verifier.expect(loaded.unverified, arriving=False)
        for case in loaded.cases:
            self.prover.keep(case)
        return loaded.effects

    async def run(self, nursery: trio.Nursery, effects: Sequence[Effect]) -> None:
        """Start the background tasks, and carry out what loading asked for."""
        self._nursery = nursery
        nursery.start_soon(self.replica.run)
        nursery.start_soon(self.verifier.run)
        nursery.start_soon(self.prover.run)
        nursery.start_soon(self._tick)
        for effect in effects:
            self._carry_out(effect)
        self.prover.surface(self.cards.look_again())

    async def _tick(self) -> None:
        """Tick every quarter of a second, and when the node asked to be woken."""
        while True:
            deadline = self.node.deadline()
            regular = trio.current_time() + TICK_S
            self._sleeps_until = regular if deadline is None else min(regular, deadline)
            self._woken = trio.Event()
            with trio.move_on_at(self._sleeps_until) as waited:
                await self._woken.wait()
            if waited.cancelled_caught:
                self.post(Tick())


def _put_on_link(links: Links, effect: Send | Serve | Close) -> None:
    match effect:
        case Send(link, data):
            links.send(link, data)
        case Serve():
            links.serve(effect)
        case Close(link, reason, blame_peer):
            links.close(link, reason, blame_peer=blame_peer)


def _writing(accepted: Accepted) -> Callable[[Store], None]:
    """What writes an accepted run down. It may wait a while, so it holds on to nothing that was decoded."""
    run, genesis = accepted.run.packed(), accepted.genesis.entry
    branch, parent, attached = accepted.branch, accepted.parent, accepted.attached
    verified = accepted.signatures_verified

    def write(store: Store) -> None:
        if run.first_seq == 0:
            store.add_log(run.log_id, genesis)
        store.add_branch(run.log_id, branch, run.first_seq, run.prev, parent=parent, attached=attached)
        store.append_run(run, branch, verified=verified)

    return write


@asynccontextmanager
async def open_device(directory: Path, *, zone: str = "", surroundings: Surroundings = REAL) -> AsyncIterator[Device]:
    """Open the device in `directory` for this process alone; refuses if it is in use, not enrolled, or damaged."""
    identity = load_identity(directory)
    vfs = surroundings.vfs
    with exclusive(directory), ExitStack() as open_stores:
        own = open_stores.enter_context(closing(open_own(directory / OWN_FILE, vfs=vfs)))
        own_reader = RunStore(directory / OWN_FILE, Durability.POWER_CUT, vfs=vfs, read_only=True)
        open_stores.enter_context(closing(own_reader))
        with replica_damage_explained(directory / REPLICA_FILE):
            writer = RunStore(directory / REPLICA_FILE, Durability.PROCESS, vfs=vfs)
            open_stores.enter_context(closing(writer))
            reader = RunStore(directory / REPLICA_FILE, Durability.PROCESS, vfs=vfs, read_only=True)
            open_stores.enter_context(closing(reader))
        replica = open_stores.enter_context(closing(Replica(writer, reader, surroundings.in_thread)))
        device = Device(identity, own, own_reader, replica, zone, surroundings)
        effects = await surroundings.in_thread(partial(device.load, own, writer))
        async with trio.open_nursery() as nursery:
            await device.run(nursery, effects)
            yield device
            await replica.flushed()
            nursery.cancel_scope.cancel()
