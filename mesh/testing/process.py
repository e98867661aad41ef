"""One running program of one device: the production node and views, and what carries their effects out in a world.

What `mesh.shell.device`, `links`, `own_logs`, `prover` and `verifier` do with threads, sockets and SQLite is done here
in virtual time. Nothing is decided here: every rule is the core's, the views', or the tap machine's.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from mesh.core import overlay_events
from mesh.core.certificate import VenueRoot
from mesh.core.chain import NONCE_BYTES, Genesis, KnownHead, Run, check_run, encode_genesis
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id
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
    LinkUp,
    Located,
    Met,
    Moved,
    Note,
    OwnAppended,
    PeerPlan,
    ReadBack,
    Received,
    Relabel,
    Revoked,
    Send,
    Serve,
    SignatureFailed,
    Stored,
    Tick,
)
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane
from mesh.core.messages import Bye, Plan, RunMessage, encode_message
from mesh.core.node import Node
from mesh.core.signing import EntryMemory
from mesh.limits import CASE_TAPS_MAX, REFUSED_PEER_S
from mesh.shell.loading import load
from mesh.shell.pieces import joined, segments_after, take_piece
from mesh.shell.verifier import bad_signature
from mesh.testing.clock import US_PER_S, Clock
from mesh.testing.network import End, Job, Network, Outbox
from mesh.testing.storage import Storage
from mesh.testing.store import MemoryStore
from mesh.testing.trace import Trace
from mesh.testing.venue import VenueDevice
from mesh.views.cards import CardsView, Conflict, Sharing, TapRef
from mesh.views.everything import Views
from mesh.views.evidence import is_tap, prove_case

VERIFY_AFTER_S: Final = 1.0
"""Signatures below the tips are checked when the device is not busy catching up."""
READ_BACK_S: Final = (0.001, 0.02)
DOORS_MS: Final = 1_780_000_000_000
"""The time of day at which every world begins."""


class Surroundings(Protocol):
    """What a process needs of its world."""

    clock: Clock
    trace: Trace
    network: Network
    tick_s: float
    sharing: Sharing

    def surfaced(self, device: str, conflict: Conflict) -> None:
        """A conflict is proven on a device, offline."""
        ...

    def broke_a_rule(self, device: str, peer: str, reason: str) -> None:
        """A device closed a link because its peer broke a rule."""
        ...

    def tell_company(self, device: str, event: overlay_events.Event) -> None:
        """Something happened to a link of a device."""
        ...

    def sends_run(self, device: str, to: str, log_id: bytes, last_seq: int, count: int) -> None:
        """A device puts part of a log on a wire."""
        ...

    def took_in(self, device: str, run: Run, *, is_own: bool) -> None:
        """A device holds entries that it did not hold before: its own, on its disk, or somebody else's."""
        ...


@dataclass(slots=True)
class _OpenLog:
    log_id: bytes
    head: Position


@dataclass(slots=True)
class _Append:
    """An entry that is to be written; entries are signed one after the other, each after the commit before it."""

    lane: Lane
    kind: int
    body: bytes
    also: Callable[[MemoryStore], None] | None
    done: Callable[[Run], None]


@dataclass(slots=True)
class _Unverified:
    log_id: bytes
    branch: int
    first_seq: int
    entries: tuple[bytes, ...]


@dataclass(slots=True)
class _Link:
    end: End
    outbox: Outbox = field(default_factory=Outbox)
    closing: bool = False


class Process:
    """From a start to a power cut, a crash or the end of the world."""

    def __init__(
        self, world: Surroundings, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random
    ) -> None:
        self.world = world
        self.enrolled = enrolled
        self.name = enrolled.certificate.name
        self.root: VenueRoot = enrolled.venue.root
        self.storage = storage
        self.chance = chance
        self.views = Views(self.root, world.sharing)
        self.node = Node(enrolled.certificate, self.root, zone)
        self.own_logs: set[bytes] = set()
        self.alive = True
        self.links: dict[int, _Link] = {}
        self.refused_until: dict[int, float] = {}
        self.in_step: dict[int, float] = {}
        self.proven: set[bytes] = set()
        """Cards whose conflict is proven here: in this process, or by a case that own.db holds."""
        self.notes: list[str] = []
        self.most_pending = 0
        self.most_outbox_bytes = 0
        self.most_jobs = 0
        self.accepted = 0
        """Entries from elsewhere that were new."""
        self.clock_off_ms = 0
        self._memory = EntryMemory()
        self._lanes: dict[Lane, _OpenLog] = {}
        self._appends: deque[_Append] = deque()
        self._appending = False
        self._known_heads: list[KnownHead] = []
        self._kept: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
        self._digests: set[bytes] = set()
        self.kept: dict[bytes, int] = {}
        """Up to where this process told authors that their logs would survive a power cut."""
        self._grown: set[bytes] = set()
        self._unverified: deque[_Unverified] = deque()
        self._verifying = False
        self._ticking = False
        self._woken_at: float | None = None

    # -- Start and end ---------------------------------------------------------------------------------------------

    @property
    def cards(self) -> CardsView:
        return self.views.cards

    def start(self) -> None:
        """Put the device together from its disk, as `open_device` does."""
        loaded = load(self, self.storage.own, self.storage.replica)
        self._known_heads = loaded.own_heads
        for case in loaded.cases:
            self._digests.add(hashlib.sha256(case.data).digest())
            for tap in case.taps:
                self._kept[tap.entry.log_id, tap.tap.fact.tap_id] = (tap.genesis, tap.entry.data)
                self.proven.add(tap.tap.card)
        self._unverified.extend(_Unverified(*found) for found in self.storage.replica.unverified())
        for effect in loaded.effects:
            self._carry_out(effect)
        self._surface(self.cards.look_again())
        self._verify_later()
        self._grown = self.node.frontier.logs.keys() - self.own_logs
        self.storage.synced = self._replica_synced
        if self._grown:
            self.storage.sync_soon()

    def end(self) -> None:
        """The process is gone: whatever it had asked for finds nobody."""
        self.alive = False
        self.storage.process_ends()

    @property
    def is_busy(self) -> bool:
        """Something is on its way to the disk, or was not verified yet."""
        return self.storage.is_committing or bool(self._appends) or bool(self._unverified)

    def fold(self, run: Run, genesis: Genesis) -> list[bytes]:
        return self.views.fold(run, genesis, self.node.contested_from.get(run.log_id))

    def witnessed(self) -> Iterable[tuple[bytes, bytes]]:
        """(genesis, tap) of everything that this device's cases rest on."""
        return self._kept.values()

    def name_of(self, log_id: bytes) -> str:
        log = self.node.frontier.logs.get(log_id)
        return log_id.hex() if log is None else log.genesis.certificate.name

    # -- Events and effects ----------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Feed the node one event and carry out its effects."""
        if not self.alive:
            return
        for effect in self.node.handle(event, self.world.clock.now):
            self._carry_out(effect)
        self.most_pending = max(self.most_pending, self.node.pending_logs)
        self._tick_later()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(link, data):
                self._send(link, data)
            case Serve(link):
                self._serve(link, effect)
            case Close():
                self._close(effect)
            case Accepted():
                self._accepted(effect)
            case Relabel(log_id, branch, into):
                self._put(log_id, lambda store: store.relabel(log_id, branch, into))
            case Attached(log_id, branch, parent):
                self._put(log_id, lambda store: store.attach(log_id, branch, parent))
            case ReadBack():
                self.world.clock.after(self.chance.uniform(*READ_BACK_S), lambda: self._read_back(effect))
            case AppendProof(_, body):
                self.append(Lane.CONTROL, Kind.FORK_PROOF, body)
            case Contested(log_id, from_seq):
                self._contested(log_id, from_seq)
            case Revoked(statement):
                digest, body = hashlib.sha256(statement.body).digest(), statement.body
                self._surface(self.cards.revoke(statement))
                self.write_own(lambda store: store.put_statement(digest, body))
            case Met(link) | InStep(link):
                self._link_news(effect, link)
            case Note(text):
                self.notes.append(text)
            case PeerPlan():
                pass

    def _link_news(self, effect: Met | InStep, link: int) -> None:
        """A peer was met, or holds the same."""
        if isinstance(effect, InStep):
            self.in_step[link] = self.world.clock.now
            self.world.tell_company(self.name, overlay_events.InStep(link))
        elif link in self.links:
            self.world.tell_company(self.name, overlay_events.Met(link, self.zone_of(link)))

    def _accepted(self, accepted: Accepted) -> None:
        run, genesis = accepted.run, accepted.genesis
        if not accepted.on_disk:
            self.accepted += len(run.ids)
            self.world.took_in(self.name, run, is_own=False)
            self.world.trace.note(self.world.clock.now_us, self.name, "accepted", run.tip_id)
            if run.log_id in self.own_logs:
                self.write_own(lambda store: _write(store, accepted))
            else:
                self._put(run.log_id, lambda store: _write(store, accepted))
                if not accepted.signatures_verified and len(run.entries) > 1:
                    entries = tuple(run.entries)
                    self._unverified.append(_Unverified(run.log_id, accepted.branch, run.first_seq, entries))
                    self._verify_later()
        self._surface(self.fold(run, genesis))

    def _put(self, log_id: bytes, work: Callable[[MemoryStore], None]) -> None:
        if log_id in self.own_logs:
            self.write_own(work)
        else:
            self._grown.add(log_id)
            self.storage.put(work)

    def _replica_synced(self) -> None:
        """Everything that was accepted so far would survive a power cut."""
        grown, self._grown = self._grown, set()
        heights = {log_id: self.node.frontier.logs[log_id].height for log_id in sorted(grown)}
        known = {log_id: height for log_id, height in heights.items() if height is not None}
        self.kept |= known
        self.post(Stored(tuple(known.items())))

    def _contested(self, log_id: bytes, from_seq: int) -> None:
        self.world.trace.note(self.world.clock.now_us, self.name, f"contested {from_seq}", log_id)
        log = self.node.frontier.logs.get(log_id)
        if log is not None:
            self.cards.open_log(log_id, log.genesis)
            self._surface(self.cards.contest(log_id, from_seq))

    def _read_back(self, effect: ReadBack) -> None:
        if not self.alive:
            return
        if effect.log_id in self.own_logs and self.storage.is_committing:
            # What somebody else signed with this device's key is on its way to own.db.
            self.world.clock.after(READ_BACK_S[1], lambda: self._read_back(effect))
            return
        store = self.store_of(effect.log_id)
        pieces = [
            [entry for segment in piece for entry in store.read_entries(effect.log_id, segment)]
            for piece in effect.pieces
        ]
        self.post(Compared(effect.token, pieces))

    def store_of(self, log_id: bytes) -> MemoryStore:
        return self.storage.own if log_id in self.own_logs else self.storage.replica

    # -- Time ------------------------------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        """Tick when news is due; and regularly for as long as there is anybody to talk to."""
        clock, deadline = self.world.clock, self.node.deadline()
        if deadline is not None and deadline != self._woken_at:
            self._woken_at = deadline
            # Past the deadline in whole microseconds, never a part of one before it: that would wake nothing, for ever.
            clock.at_us(int(deadline * US_PER_S) + 2, lambda: self._wake(deadline))
        if not self._ticking and self.links:
            self._ticking = True
            clock.after(self.world.tick_s, self._tick)

    def _wake(self, deadline: float) -> None:
        """Of what was to wake it only the last counts: another was put off, or came first."""
        if self._woken_at == deadline:
            self._woken_at = None
            self.post(Tick())

    def _tick(self) -> None:
        self._ticking = False
        self.post(Tick())

    # -- Own entries -----------------------------------------------------------------------------------------------

    def append(
        self,
        lane: Lane,
        kind: int,
        body: bytes,
        *,
        also: Callable[[MemoryStore], None] | None = None,
        done: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """Sign and store an entry; `done` when it is durable, which is also when peers may hear of it."""
        self._appends.append(_Append(lane, kind, body, also, done))
        if not self._appending:
            self._append_next()

    def append_genesis(self, lane: Lane) -> None:
        """Open the log of a lane, before there is anything to write."""
        self._appends.append(_Append(lane, Kind.GENESIS, b"", None, lambda run: None))
        if not self._appending:
            self._append_next()

    def _append_next(self) -> None:
        self._appending = True
        append = self._appends[0]
        entries: list[bytes] = []
        current = self._lanes.get(append.lane)
        if current is None:
            genesis = self._genesis(append.lane)
            entries.append(genesis)
            identifier = entry_id(genesis)
            current = _OpenLog(identifier[:LOG_ID_BYTES], Position(0, identifier))
        if append.kind != Kind.GENESIS:
            entries.append(self._sign(current.log_id, current.head.seq + 1, current.head.id, append.kind, append.body))
        run = check_run(current.log_id, entries)
        self.storage.commit(lambda store: _write_own(store, run, append.also), lambda: self._appended(append, run))

    def _appended(self, append: _Append, run: Run) -> None:
        self._lanes[append.lane] = _OpenLog(run.log_id, Position(run.last_seq, run.tip_id))
        self._appends.popleft()
        self._appending = False
        self.own_logs.add(run.log_id)
        self.world.trace.note(self.world.clock.now_us, self.name, "appended", run.tip_id)
        self.world.took_in(self.name, run, is_own=True)
        self.post(OwnAppended(run))
        append.done(run)
        if self.alive and self._appends and not self._appending:
            self._append_next()

    def _genesis(self, lane: Lane) -> bytes:
        heads = self._known_heads + [KnownHead(log.log_id, log.head.seq, log.head.id) for log in self._lanes.values()]
        nonce = self.chance.randbytes(NONCE_BYTES)
        body = encode_genesis(self.enrolled.certificate.der, nonce, lane, heads)
        return self._sign(b"", 0, NO_PREV, Kind.GENESIS, body)

    def _sign(self, log_id: bytes, seq: int, prev: bytes, kind: int, body: bytes) -> bytes:
        return self._memory.sign_next(
            self.enrolled.sign_anything,
            log_id=log_id,
            seq=seq,
            prev=prev,
            time_ms=self.wall_ms(),
            kind=int(kind),
            body=body,
        )

    def wall_ms(self) -> int:
        """What this device believes the time of day to be, in milliseconds since 1970."""
        return max(0, DOORS_MS + self.clock_off_ms + self.world.clock.now_us // 1000)

    def write_own(self, work: Callable[[MemoryStore], None], done: Callable[[], None] = lambda: None) -> None:
        """One durable transaction in own.db without an entry."""
        self.storage.commit(work, done)

    # -- Links -----------------------------------------------------------------------------------------------------

    def link_up(self, end: End) -> None:
        """A handshake is over; the end is this process's."""
        self.links[end.number] = _Link(end)
        self.world.trace.note(self.world.clock.now_us, self.name, f"link to {end.peer.name}")
        self.post(LinkUp(end.number, end.peer))

    def receive(self, number: int, data: bytes) -> None:
        if self.alive and number in self.links:
            self.post(Received(number, data))

    def ended(self, number: int) -> None:
        if self.links.pop(number, None) is not None and self.alive:
            self.in_step.pop(number, None)
            self.post(LinkDown(number))
            self.world.tell_company(self.name, overlay_events.Parted(number))

    def leave(self, number: int, reason: str) -> None:
        """End a link by choice. The node forgets it first: behind a bye nothing may be said."""
        self.post(LinkDown(number))
        self._send(number, encode_message(Bye(reason)))
        self._close(Close(number, reason, blame_peer=False))

    def next_parcel(self, number: int) -> bytes | None:
        """Every frame that waits, or else the next piece of the most urgent log."""
        link = self.links.get(number)
        if link is None or not self.alive:
            return None
        frames = []
        while (frame := link.outbox.next_frame()) is not None:
            frames.append(frame)
        if frames:
            return b"".join(frames)
        while link.outbox.jobs and not link.closing:
            job = min(link.outbox.jobs, key=lambda job: job.effect.lane)
            data = self._advance(link, job)
            if data is not None:
                return data
        return None

    def moved(self, zone: str) -> None:
        """The device was carried into another zone."""
        self.world.trace.note(self.world.clock.now_us, self.name, f"moved to {zone}")
        self.post(Moved(zone))

    def zone_of(self, number: int) -> str:
        """Where the peer of a link was when it was made."""
        return self.links[number].end.peer_zone

    def _send(self, number: int, data: bytes) -> None:
        link = self.links.get(number)
        if link is not None:
            link.outbox.send(data)
            self.most_outbox_bytes = max(self.most_outbox_bytes, link.outbox.most_bytes)
            self.world.network.pump(link.end)

    def _serve(self, number: int, effect: Serve) -> None:
        link = self.links.get(number)
        if link is not None:
            waiting = link.outbox.pushes.get(effect.log_id) if effect.pushed else None
            if waiting is not None:
                waiting.segments, waiting.blob = joined(waiting.segments, effect.segments), b""
                return
            job = Job(effect, list(effect.segments), effect.blob)
            link.outbox.jobs.append(job)
            if effect.pushed:
                link.outbox.pushes[effect.log_id] = job
            self.most_jobs = max(self.most_jobs, len(link.outbox.jobs))
            self.world.network.pump(link.end)

    def _advance(self, link: _Link, job: Job) -> bytes | None:
        """The next bytes of a log that is being served; None when it is through, or nothing was due first."""
        effect = job.effect
        log_id = effect.log_id
        store = self.store_of(log_id)
        if not job.started:
            job.started = True
            if not effect.pushed:
                return self._begin_answer(link, job, store)
            del link.outbox.pushes[log_id]
            if job.blob:
                link.outbox.jobs.remove(job)
                last = job.segments[-1].last_seq
                count = last - job.segments[0].first_seq + 1
                self.world.sends_run(self.name, link.end.peer.name, log_id, last, count)
                return encode_message(RunMessage(log_id, count, job.blob))
        log_key = self.node.frontier.logs[log_id].genesis.certificate.log_key
        piece = take_piece(store, log_id, job.segments, log_key) if job.segments else None
        if piece is None:
            link.outbox.jobs.remove(job)
            return None
        job.segments = segments_after(job.segments, piece.next_seq - 1)
        if not job.segments:
            link.outbox.jobs.remove(job)
        self.world.sends_run(self.name, link.end.peer.name, log_id, piece.next_seq - 1, piece.count)
        return encode_message(RunMessage(log_id, piece.count, piece.blob))

    def _begin_answer(self, link: _Link, job: Job, store: MemoryStore) -> bytes | None:
        effect = job.effect
        located = store.locate(effect.log_id, effect.segments, effect.locator)
        if located is not None:
            job.segments = segments_after(job.segments, located.seq)
        entries = sum(segment.last_seq - segment.first_seq + 1 for segment in job.segments)
        plan = None
        if entries:
            plan = encode_message(Plan(effect.log_id, entries, store.measure(effect.log_id, job.segments)))
        self._post_soon(Located(link.end.number, effect.log_id, effect.locator, located))
        return plan

    def _post_soon(self, event: Event) -> None:
        self.world.clock.after(0, lambda: self.post(event))

    def _close(self, effect: Close) -> None:
        link = self.links.pop(effect.link, None)
        if link is None:
            return
        if effect.blame_peer:
            self.refused_until[link.end.peer.serial] = self.world.clock.now + REFUSED_PEER_S
            self.world.broke_a_rule(self.name, link.end.peer.name, effect.reason)
        link.closing = True
        self.links[effect.link] = link
        self.world.network.pump(link.end)  # the goodbye
        self.links.pop(effect.link, None)
        self.world.network.hang_up(link.end)
        self.world.tell_company(self.name, overlay_events.Parted(effect.link, effect.blame_peer))

    # -- Proof and verification ------------------------------------------------------------------------------------

    def _surface(self, cards: Iterable[bytes]) -> None:
        """These cards have a conflict now and had none before: prove it from signed entries alone, and keep that."""
        for card in cards:
            for conflict in self.cards.conflicts(card):
                if self.storage.is_committing and any(tap.log_id in self.own_logs for tap in conflict.taps):
                    # Perhaps an entry of this device's own that came back from peers: it is not in own.db yet.
                    self.world.clock.after(READ_BACK_S[1], partial(self._surface_again, card))
                    break
                self._prove(card, conflict)

    def _surface_again(self, card: bytes) -> None:
        if self.alive:
            self._surface([card])

    def _prove(self, card: bytes, conflict: Conflict) -> None:
        taps = conflict.taps[:CASE_TAPS_MAX]
        signed = [self._signed_tap(tap) for tap in taps]
        case, forged = prove_case(self.root, signed)
        for at in forged:
            self._post_soon(SignatureFailed(taps[at].log_id, taps[at].seq))
        if case is None:
            self.world.clock.after(0, partial(self._prove_rest, card, conflict))
            return
        digest = hashlib.sha256(case.data).digest()
        self.proven.add(card)
        self.world.surfaced(self.name, conflict)
        if digest not in self._digests:
            self._digests.add(digest)
            for each in case.taps:
                self._kept[each.entry.log_id, each.tap.fact.tap_id] = (each.genesis, each.entry.data)
            self.write_own(lambda store: store.put_evidence(digest, case.data))

    def _prove_rest(self, card: bytes, conflict: Conflict) -> None:
        """A tap that was never signed counts for nothing now; what is left was reported already, as part of this."""
        if self.alive and conflict not in self.cards.conflicts(card):
            self._surface([card])

    def _signed_tap(self, tap: TapRef) -> tuple[bytes, bytes]:
        kept = self._kept.get((tap.log_id, tap.tap_id))
        if kept is not None:
            return kept
        held = self.store_of(tap.log_id).read_at(tap.log_id, tap.seq)
        entry = next(entry for entry in held if is_tap(entry, tap.tap_id))
        return self.node.frontier.logs[tap.log_id].genesis.entry, entry

    def _verify_later(self) -> None:
        if self._unverified and not self._verifying:
            self._verifying = True
            self.world.clock.after(VERIFY_AFTER_S, self._verify)

    def _verify(self) -> None:
        self._verifying = False
        if not self.alive:
            return
        waiting, self._unverified = self._unverified, deque()
        for one in waiting:
            log_key = self.node.frontier.logs[one.log_id].genesis.certificate.log_key
            bad = bad_signature(one.log_id, one.entries, log_key)
            if bad is None:
                self.storage.put(partial(_mark_verified, one=one))
            else:
                self.post(SignatureFailed(one.log_id, bad))
        self._verify_later()


def _mark_verified(store: MemoryStore, one: _Unverified) -> None:
    store.mark_verified(one.log_id, one.branch, one.first_seq + len(one.entries))


def _write(store: MemoryStore, accepted: Accepted) -> None:
    run = accepted.run
    if run.first_seq == 0:
        store.add_log(run.log_id, accepted.genesis.entry)
    store.add_branch(
        run.log_id, accepted.branch, run.first_seq, run.prev, parent=accepted.parent, attached=accepted.attached
    )
    store.append_run(run, accepted.branch, verified=accepted.signatures_verified or len(run.entries) == 1)


def _write_own(store: MemoryStore, run: Run, also: Callable[[MemoryStore], None] | None) -> None:
    if run.first_seq == 0:
        store.add_log(run.log_id, run.entries[0])
        store.add_branch(run.log_id, 0, 0, NO_PREV, parent=None, attached=True)
    store.append_run(run, 0, verified=True)
    if also is not None:
        also(store)
