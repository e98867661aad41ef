"""A mesh in memory: the real node of every device, over links that behave as badly as links do, from one seed.

::

    world = World(seed=7)
    bar, till = world.join(venue.device("bar", Role.READER)), world.join(venue.device("till", Role.TILL))
    log = bar.open_log()
    bar.append(log, Kind.TAP, body)
    world.connect(bar, till)
    world.run(200)          # two hundred random steps: bytes, store answers, time
    world.heal()            # every link that is there carries everything, until nothing moves any more

What it shares with a venue: bytes arrive on each link in order, in any chunks; links are independent of each other; a
cut loses whatever was on the way, in the middle of frames too; each side hears of it at its own time; the store answers
later. What the shell does with effects (`mesh.shell.device`, `mesh.shell.links`) is done here without I/O. Nothing
reads a clock or draws a random number but `World.random`, so a seed is a whole run.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from mesh.core.catching_up import COMPARE_PAUSE_S_MAX
from mesh.core.chain import Run, check_run, encode_run
from mesh.core.entry import entry_id
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
    Tick,
)
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Lane
from mesh.core.messages import Hello, Message, Plan, RunMessage, decode_message, encode_message
from mesh.core.node import ASIDE_PAUSE_S, Node
from mesh.core.revocation import Statement
from mesh.limits import KEEPALIVE_S, RUN_ENTRIES_MAX
from mesh.views.cards import CardsView
from tests.factory import LogWriter, VenueDevice

STEP_S: Final = 0.05
"""How far time moves when it is time's turn."""
TICK_S: Final = 0.25
"""How often a device looks at its clock when nothing happens."""
ROUNDS_MAX: Final = 120
"""Keepalives until a healed world must have come to rest; it needs a handful, and those that show that it has."""
QUIET_ROUNDS: Final = math.ceil((max(COMPARE_PAUSE_S_MAX, ASIDE_PAUSE_S) + KEEPALIVE_S) / KEEPALIVE_S)
"""Keepalives without a change after which nothing can follow any more: the longest pause of all is over."""


class MemoryStore:
    """What `mesh.shell.store.RunStore` does, in dictionaries: runs stay as they arrived, each with a verified tip."""

    def __init__(self) -> None:
        self._branches: dict[tuple[bytes, int], list[Run]] = {}

    def add(self, accepted: Accepted) -> None:
        runs = self._branches.setdefault((accepted.run.log_id, accepted.branch), [])
        if runs:
            assert (accepted.run.first_seq, accepted.run.prev) == (runs[-1].last_seq + 1, runs[-1].tip_id)
        runs.append(accepted.run)

    def relabel(self, log_id: bytes, branch: int, into: int) -> None:
        moved = self._branches.pop((log_id, branch))
        runs = self._branches[log_id, into]
        assert (moved[0].first_seq, moved[0].prev) == (runs[-1].last_seq + 1, runs[-1].tip_id)
        runs.extend(moved)

    def entries(self, log_id: bytes) -> list[bytes]:
        """Everything held of a log, each entry once."""
        held = [
            entry for (log, _), runs in self._branches.items() if log == log_id for r in runs for entry in r.entries
        ]
        return sorted(set(held), key=entry_id)

    def holds(self, log_id: bytes, segments: Iterable[Segment]) -> bool:
        return all((log_id, segment.branch) in self._branches for segment in segments)

    def read(self, log_id: bytes, segments: Iterable[Segment]) -> list[bytes]:
        """The raw entries of consecutive segments."""
        found: list[bytes] = []
        for segment in segments:
            runs = self._branches[log_id, segment.branch]
            held = {run.first_seq + at: entry for run in runs for at, entry in enumerate(run.entries)}
            found += [held[seq] for seq in range(segment.first_seq, segment.last_seq + 1)]
        return found

    def tips(self, log_id: bytes, segments: Iterable[Segment]) -> set[int]:
        """The seqs of these segments at which a served run may end: those whose signature was verified here."""
        found: set[int] = set()
        for segment in segments:
            ends = {run.last_seq for run in self._branches[log_id, segment.branch]}
            found |= {seq for seq in ends if segment.first_seq <= seq <= segment.last_seq}
        return found

    def everything(self) -> frozenset[bytes]:
        return frozenset(entry for runs in self._branches.values() for run in runs for entry in run.entries)


@dataclass
class _Job:
    """A log that is being served: `pieces` are the runs still to be sent, once the locator was looked up."""

    effect: Serve
    pieces: deque[RunMessage] | None = None


class End:
    """One side of a link: what its owner has still to say, and the bytes on their way to the other side."""

    def __init__(self, owner: Mote, number: int) -> None:
        self.owner = owner
        self.number = number
        self.other: End | None = None
        self.frames: deque[bytes] = deque()
        self.jobs: list[_Job] = []
        self.wire = bytearray()
        self.up = True
        self.broken = False
        """What is written from now on is lost; the owner has not been told yet."""
        self.sent: list[type[Message]] = []

    def put(self, frame: bytes) -> None:
        self.sent.append(type(decode_message(frame[4:])))
        if not self.broken:
            self.wire += frame

    def speak(self, rng: random.Random) -> None:
        """Put the next frame, or the next piece of the most urgent log, onto the wire."""
        if self.frames:
            self.put(self.frames.popleft())
            return
        job = min(self.jobs, key=lambda job: job.effect.lane)
        if job.pieces is None:
            job.pieces = self._begin(job.effect, rng)
        elif job.pieces:
            self.put(encode_message(job.pieces.popleft()))
        if not job.pieces:
            self.jobs.remove(job)

    def _begin(self, effect: Serve, rng: random.Random) -> deque[RunMessage]:
        store, log_id = self.owner.store, effect.log_id
        if not store.holds(log_id, effect.segments):
            # An island that was to be served was joined meanwhile; the peer asks again.
            self.owner.post(Located(self.number, log_id, effect.locator, None))
            return deque()
        entries = store.read(log_id, effect.segments)
        first = effect.segments[0].first_seq
        after: Position | None = None
        if not effect.pushed:
            held = {Position(first + at, entry_id(entry)) for at, entry in enumerate(entries)}
            after = next((position for position in effect.locator if position in held), None)
            self.owner.post(Located(self.number, log_id, effect.locator, after))
        start = first if after is None else after.seq + 1
        rest = entries[start - first :]
        if rest and not effect.pushed:
            self.put(encode_message(Plan(log_id, len(rest), sum(map(len, rest)))))
        pieces: deque[RunMessage] = deque()
        piece: list[bytes] = []
        verified = store.tips(log_id, effect.segments)
        for seq, entry in enumerate(rest, start):
            piece.append(entry)
            full = len(piece) >= RUN_ENTRIES_MAX or rng.random() < 0.2
            if (full and seq in verified) or seq == start + len(rest) - 1:
                pieces.append(RunMessage(log_id, len(piece), encode_run(piece)))
                piece = []
        return pieces


class Mote:
    """One device: its node, store and cards view. Own entries are in the store before anybody hears of them."""

    def __init__(self, world: World, device: VenueDevice, zone: str) -> None:
        self.world = world
        self.device = device
        self.node = Node(device.certificate, device.venue.root, zone)
        self.store = MemoryStore()
        self.cards = CardsView()
        self.ends: dict[int, End] = {}
        self.questions: deque[ReadBack] = deque()
        self.in_step: list[int] = []
        self.surfaced: list[bytes] = []
        self.contested: dict[bytes, int] = {}
        self.closed: list[Close] = []
        self.notes: list[str] = []
        self.plans: list[PeerPlan] = []
        self.proofs: list[AppendProof] = []
        self.revoked: list[Statement] = []
        self._control: LogWriter | None = None

    def post(self, event: Event) -> None:
        for effect in self.node.handle(event, self.world.now):
            self.carry_out(effect)

    def open_log(self, lane: Lane = Lane.MONEY) -> LogWriter:
        """Open a new log of this device and store its genesis."""
        log = LogWriter(self.device, lane, number=self.world.next_number())
        self.own(log)
        return log

    def append(self, log: LogWriter, kind: int, body: bytes) -> None:
        log.append(kind, body)
        self.own(log, log.head_seq)

    def own(self, log: LogWriter, first_seq: int = 0) -> None:
        """Entries of `log` from `first_seq` on were just written by this device."""
        self.world.written.update(log.entries[first_seq:])
        for run in runs_of(log, first_seq):
            self.post(OwnAppended(run))

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(link, data):
                self.ends[link].frames.append(data)
            case Serve(link):
                self.ends[link].jobs.append(_Job(effect))
            case Close():
                self.closed.append(effect)
                self.world.hang_up(self.ends[effect.link])
            case Accepted(run, _, genesis):
                self.store.add(effect)
                self._fold(run, effect)
                assert genesis.certificate.log_key
            case Relabel(log_id, branch, into):
                self.store.relabel(log_id, branch, into)
            case Attached():
                pass
            case ReadBack():
                self.questions.append(effect)
            case AppendProof(_, body):
                self.proofs.append(effect)
                if self._control is None:
                    self._control = self.open_log(Lane.CONTROL)
                self.append(self._control, Kind.FORK_PROOF, body)
            case Contested(log_id, seq):
                self._contest(log_id, seq)
            case Revoked(statement):
                self.revoked.append(statement)
                self.surfaced += self.cards.revoke(statement)
            case _:
                self._take_note(effect)

    def _take_note(self, effect: Effect) -> None:
        """Effects that nothing has to be done about."""
        match effect:
            case PeerPlan():
                self.plans.append(effect)
            case Note(text):
                self.notes.append(text)
            case InStep(link):
                self.in_step.append(link)
            case _:
                pass

    def answer(self) -> None:
        """The store gets round to the oldest question: it says what it holds by now."""
        asked = self.questions.popleft()
        self.post(Compared(asked.token, [self.store.read(asked.log_id, piece) for piece in asked.pieces]))

    def _fold(self, run: Run, accepted: Accepted) -> None:
        if accepted.genesis.lane is not Lane.MONEY:
            return
        self.cards.open_log(run.log_id, accepted.genesis)
        if run.log_id in self.contested:
            self.cards.contest(run.log_id, self.contested[run.log_id])
        self.surfaced += self.cards.fold(run)

    def _contest(self, log_id: bytes, seq: int) -> None:
        self.contested[log_id] = seq
        log = self.node.frontier.logs.get(log_id)
        if log is not None:
            self.cards.open_log(log_id, log.genesis)
            self.surfaced += self.cards.contest(log_id, seq)

    def verify_everything(self) -> None:
        """What the background check does: report each entry whose own signature is bad."""
        for log_id, log in list(self.node.frontier.logs.items()):
            for seq in self.world.forged.get(log_id, ()):
                if any(b.from_seq <= seq <= b.head.seq for b in log.branches.values()):
                    self.post(SignatureFailed(log_id, seq))


class Puppet:
    """A peer that a test moves by hand: it says what it is told to, and remembers what it hears."""

    def __init__(self, mote: Mote, device: VenueDevice, zone: str = "", *, hello: bool = True) -> None:
        self.mote = mote
        self.end = End(mote, mote.world.next_number())
        mote.ends[self.end.number] = self.end
        mote.post(LinkUp(self.end.number, device.certificate))
        if hello:
            self.say(Hello(device.venue.root.venue_id, zone, mote.node.frontier.digest()))

    @property
    def connected(self) -> bool:
        return self.end.number in self.mote.ends

    def say(self, message: Message) -> None:
        self.mote.post(Received(self.end.number, encode_message(message)))

    def send_run(self, run: Run) -> None:
        self.say(RunMessage(run.log_id, len(run.entries), encode_run(run.entries)))

    def leave(self) -> None:
        if self.connected:
            del self.mote.ends[self.end.number]
            self.mote.post(LinkDown(self.end.number))

    def heard(self) -> list[Message]:
        """What was said to it since it was asked last, answers from the store included."""
        while self.end.frames or self.end.jobs:
            self.end.speak(self.mote.world.random)
        found: list[Message] = []
        while self.end.wire:
            length = int.from_bytes(self.end.wire[:4], "big")
            found.append(decode_message(bytes(self.end.wire[4 : 4 + length])))
            del self.end.wire[: 4 + length]
        return found


def runs_of(
    log: LogWriter, first_seq: int = 0, last_seq: int | None = None, *, length: int = RUN_ENTRIES_MAX
) -> list[Run]:
    """Checked runs over part of a log."""
    entries = log.entries[first_seq : None if last_seq is None else last_seq + 1]
    return [check_run(log.log_id, entries[at : at + length]) for at in range(0, len(entries), length)]


@dataclass
class World:
    """Devices, links, and the only source of time and chance."""

    seed: int = 0
    now: float = 0.0
    motes: list[Mote] = field(default_factory=list)
    written: set[bytes] = field(default_factory=set)
    """Every entry anybody signed and let go: what each device must hold in the end."""
    forged: dict[bytes, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._numbers = 0
        self._falling: list[End] = []

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def join(self, device: VenueDevice, zone: str = "") -> Mote:
        """A device comes up. The same device twice is a key that was copied."""
        mote = Mote(self, device, zone)
        self.motes.append(mote)
        return mote

    # -- Links -----------------------------------------------------------------------------------------------------

    @property
    def ends(self) -> list[End]:
        return [end for mote in self.motes for end in mote.ends.values()]

    def connect(self, one: Mote, other: Mote) -> End:
        """A new connection; there may be one already."""
        near, far = End(one, self.next_number()), End(other, self.next_number())
        near.other, far.other = far, near
        for end, peer in ((near, other), (far, one)):
            end.owner.ends[end.number] = end
            end.owner.post(LinkUp(end.number, peer.device.certificate))
        return near

    def hang_up(self, end: End) -> None:
        """This side is gone after what it has on the wire; the other side hears of it later."""
        end.up = False
        del end.owner.ends[end.number]
        if end.frames:
            end.wire += b"".join(end.frames)
        if end.other is not None and end.other.up:
            self._falling.append(end.other)

    def cut(self, end: End) -> None:
        """The connection breaks: what is on the wire arrives up to some byte, or not at all."""
        for side in (end, end.other):
            if side is not None and side.up:
                del side.wire[self.random.randint(0, len(side.wire)) :]
                side.broken = True
                self._falling.append(side)

    def _fall(self, end: End) -> None:
        if end.up and end.other is not None and end.other.wire:
            self._deliver(end.other)
        if end.up:
            end.up = False
            del end.owner.ends[end.number]
            end.owner.post(LinkDown(end.number))

    # -- Steps -----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Do one thing that could happen next, chosen by chance; False if nothing is waiting to happen."""
        choices: list[Callable[[], None]] = []
        for end in self.ends:
            if end.frames or end.jobs:
                choices.append(lambda end=end: end.speak(self.random))  # type: ignore[misc]
            if end.wire and end.other is not None and end.other.up:
                choices.append(lambda end=end: self._deliver(end))  # type: ignore[misc]
        choices += [mote.answer for mote in self.motes if mote.questions]
        choices += [lambda end=end: self._drop(end) for end in self._falling]  # type: ignore[misc]
        if not choices:
            return False
        self.random.choice(choices)()
        return True

    def _drop(self, end: End) -> None:
        self._falling.remove(end)
        self._fall(end)

    def _deliver(self, end: End) -> None:
        """Some bytes of the wire arrive: one, a few, or all of them."""
        other = end.other
        assert other is not None
        count = self.random.choice((1, self.random.randint(1, len(end.wire)), len(end.wire)))
        data = bytes(end.wire[:count])
        del end.wire[:count]
        other.owner.post(Received(other.number, data))

    def tick(self, seconds: float = STEP_S) -> None:
        self.now += seconds
        for mote in self.motes:
            mote.post(Tick())

    def run(self, steps: int) -> None:
        """That many random steps; now and then it is time's turn."""
        for _ in range(steps):
            if self.random.random() < 0.05 or not self.step():
                self.tick()

    def settle(self) -> None:
        """Everything that is under way arrives; time stands still but for the pause before news is told."""
        for _ in range(1_000_000):
            if not self.step():
                self.tick(STEP_S)
                if not self.step():
                    return
        raise AssertionError("the mesh talks for ever without time passing")

    def heal(self) -> None:
        """Time passes until the mesh has come to rest: for longer than any pause nothing changed, nothing wanted."""
        quiet = 0
        for _ in range(ROUNDS_MAX):
            before = [mote.node.frontier.digest() for mote in self.motes]
            for _ in range(round(KEEPALIVE_S / TICK_S)):
                self.settle()
                self.tick(TICK_S)
            after = [mote.node.frontier.digest() for mote in self.motes]
            at_rest = before == after and not any(mote.node.pending_logs for mote in self.motes)
            quiet = quiet + 1 if at_rest else 0
            if quiet == QUIET_ROUNDS:
                return
        raise AssertionError("the mesh did not come to rest")
