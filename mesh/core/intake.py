"""What becomes of a run that passed the rules of its log: extension, duplicate, fork, or island. Pure.

* It extends the head of a branch: the usual case.
* Everything in it is held already: nothing happens.
* It leaves a branch below its head: a fork. It is kept as a branch of its own, proven where both entries are signed,
  and contested from there. Only the store knows old ids, so placing it may have to wait for a :class:`ReadBack`.
* Nothing that is held reaches it: an island. Each of its signatures is verified first, because nothing vouches for it.

A fork never stalls another log and never blames who relays it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mesh.core.certificate import VenueRoot
from mesh.core.chain import Run, first_bad_signature, parse_genesis
from mesh.core.entry import entry_id
from mesh.core.events import Accepted, AppendProof, Attached, Contested, Effect, Note, ReadBack, Relabel, Revoked
from mesh.core.fork import check_fork_proof, prove_fork
from mesh.core.frontier import (
    Branch,
    Compare,
    Duplicate,
    Extends,
    Forks,
    Frontier,
    LogState,
    Placement,
    Position,
    Segment,
    TooManyBranches,
    Unconnected,
    place_compared,
)
from mesh.core.kinds import Kind, Lane
from mesh.core.revocation import Revocations, Statement, parse_statement
from mesh.errors import PeerError
from mesh.limits import ASIDE_BYTES_PER_LOG_MAX, BRANCHES_PER_LOG_MAX, ENTRY_SEQ_MAX

OWN_BRANCH: Final = 0
"""In a log of this device's own, the branch that this device writes; what others sign with its key is another."""
COMPARISONS_MAX: Final = 64
"""Runs that may wait for the store at once; more are dropped and come back by anti-entropy."""


@dataclass(frozen=True, slots=True)
class _Comparing:
    """A run that waits for what the store holds in its place."""

    run: Run
    compare: Compare

    @property
    def log_id(self) -> bytes:
        return self.run.log_id


@dataclass(frozen=True, slots=True)
class _Hanging:
    """An island that may leave a branch below its head; the entries around that place are being read."""

    log_id: bytes
    island: Branch
    branch: Branch


@dataclass(frozen=True, slots=True)
class _Rivals:
    """This device's own entry, and one that somebody else signed at the same seq; both are being read."""

    log_id: bytes
    seq: int


class Intake:
    """Places runs in a frontier. `new_heads` collects what neighbours should hear of, until somebody takes it."""

    def __init__(self, frontier: Frontier, root: VenueRoot) -> None:
        self.own: set[bytes] = set()
        """This device's own logs."""
        self.contested_from: dict[bytes, int] = {}
        self.revocations = Revocations()
        self.new_heads: dict[bytes, Position] = {}
        self.frontier = frontier
        self._root = root
        self._proven: dict[bytes, int] = {}
        """The lowest seq at which a fork of a log is proven in somebody's control log."""
        self._aside_bytes: dict[bytes, int] = {}
        """By log that is set aside: what was taken in of it that counts for nothing."""
        self._overflowing: set[bytes] = set()
        self._comparing: dict[int, _Comparing | _Hanging | _Rivals] = {}
        self._tokens = 0

    def take_in(self, run: Run, effects: list[Effect]) -> None:
        """Place a run that passed every rule, piece by piece where islands begin inside it."""
        log = self.frontier.logs[run.log_id]
        room = self._room(run, effects)
        if room is None:
            return
        run = room
        self._settle_islands(log, effects)
        for piece in self.frontier.split(run):
            self._place(piece, self.frontier.place(piece), effects)
        self._settle_islands(log, effects)

    def opened(self, log: LogState) -> None:
        """A log begins to be held: whether it is compared with the others is known from what was heard before."""
        if log.genesis.certificate.serial in self.revocations:
            self.frontier.set_aside(log.log_id)

    def overflows(self, log_id: bytes, seq: int) -> bool:
        """Whether an entry of a log that is set aside counts for nothing, and there is no room for more such."""
        if log_id not in self.frontier.aside or self._aside_bytes.get(log_id, 0) < ASIDE_BYTES_PER_LOG_MAX:
            return False
        return seq >= self._counts_to(log_id)

    def _room(self, run: Run, effects: list[Effect]) -> Run | None:
        """The run, or what there is room for of a log that is set aside: all that may count, and so much besides."""
        log_id = run.log_id
        if not self.overflows(log_id, run.last_seq):
            return run
        if log_id not in self._overflowing:
            self._overflowing.add(log_id)
            name = self.frontier.logs[log_id].genesis.certificate.name
            most = f"more than {ASIDE_BYTES_PER_LOG_MAX} bytes of what counts for nothing are not kept here"
            effects.append(Note(f"log {log_id.hex()} of {name} forked or was revoked, and goes on: {most}"))
        free = self._counts_to(log_id) - run.first_seq
        return run.front(min(free, len(run.ids))) if free > 0 else None

    def _counts_to(self, log_id: bytes) -> int:
        """The seq from which on nothing of a log that is set aside can count as things are."""
        serial = self.frontier.logs[log_id].genesis.certificate.serial
        if serial in self.revocations:
            cuts = self.revocations.cuts(serial, log_id)
            return max((cut.seq + 1 for cut in cuts if cut is not None), default=0)
        return self.contested_from.get(log_id, ENTRY_SEQ_MAX)

    def _place(self, run: Run, placement: Placement | Compare, effects: list[Effect]) -> None:
        log = self.frontier.logs[run.log_id]
        match placement:
            case Extends(branch, new) if branch.number == OWN_BRANCH and log.log_id in self.own:
                # Signed with this device's key, and not by this process: kept beside the log that it goes on writing.
                self._add_branch(log, new, branch, effects)
            case Extends(branch, new) if branch.attached:
                self.frontier.extend(branch, new)
                self.accept(log, branch, new, effects)
            case Extends(island, new):
                if self._all_signed(log, new, effects):
                    self.frontier.extend(island, new)
                    self.accept(log, island, new, effects, verified=True)
            case Duplicate():
                pass
            case Compare(candidates):
                if len(self._comparing) < COMPARISONS_MAX:
                    pieces = [candidate.segments for candidate in candidates]
                    self._read_back(_Comparing(run, placement), run.log_id, pieces, effects)
            case Forks(parent, new, _) if parent.attached:
                self._add_branch(log, new, parent, effects)
            case Forks(_, new, _):
                self._island(log, new, effects)
            case Unconnected():
                self._island(log, run, effects)

    def _island(self, log: LogState, run: Run, effects: list[Effect]) -> None:
        if not log.branches:
            self.accept(log, self.frontier.add_branch(run, None, attached=True), run, effects)
        elif self._all_signed(log, run, effects):
            self._add_branch(log, run, None, effects)

    def _add_branch(self, log: LogState, run: Run, parent: Branch | None, effects: list[Effect]) -> None:
        """Hold a fork, or an island where there is no parent."""
        try:
            branch = self.frontier.add_branch(run, parent, attached=parent is not None)
        except TooManyBranches as error:
            # Its author's doing; whoever relays it is blameless. It stays where it was received.
            effects.append(Note(str(error)))
            return
        self.accept(log, branch, run, effects, verified=parent is None)

    def _all_signed(self, log: LogState, run: Run, effects: list[Effect]) -> bool:
        """An island is folded before anything vouches for its place, so each signature in it must be good."""
        bad = first_bad_signature(run, log.genesis.certificate.log_key)
        if bad is not None:
            effects.append(Note(f"a piece of log {log.log_id.hex()} has a bad signature at seq {bad}: not kept"))
        return bad is None

    def _settle_islands(self, log: LogState, effects: list[Effect]) -> None:
        """Join the islands that a head has reached, and look for the predecessor of those it has passed.

        Not while the store is read for this log: what a read names must be there until it has been answered.
        """
        if all(branch.attached for branch in log.branches.values()):
            return
        if any(waiting.log_id == log.log_id for waiting in self._comparing.values()):
            return
        for island, branch in self.frontier.join_islands(log.log_id):
            effects.append(Relabel(log.log_id, island.number, branch.number))
            self._has_news(log, branch)
        for island, branch in self.frontier.may_hang(log.log_id):
            at = island.from_seq
            pieces = [[Segment(branch.number, at - 1, at)], [Segment(island.number, at, at)]]
            self._read_back(_Hanging(log.log_id, island, branch), log.log_id, pieces, effects)

    def _compared_island(self, hanging: _Hanging, entries: Sequence[Sequence[bytes]], effects: list[Effect]) -> None:
        log, island, branch = self.frontier.logs[hanging.log_id], hanging.island, hanging.branch
        (before, ours), (theirs,) = entries
        log.strangers.add((island.number, branch.number))
        if not island.attached and entry_id(before) == island.prev and ours != theirs:
            self.frontier.attach(log.log_id, island, branch)
            effects.append(Attached(log.log_id, island.number, branch.number))
            self._has_news(log, island)
            self._found_fork(log, island.from_seq, ours, theirs, effects)

    def accept(
        self,
        log: LogState,
        branch: Branch,
        run: Run,
        effects: list[Effect],
        *,
        verified: bool = False,
        on_disk: bool = False,
    ) -> None:
        """Say that a run was taken in; `on_disk` for this device's own entries, which were durable first."""
        effects.append(
            Accepted(run, branch.number, log.genesis, on_disk, branch.attached, branch.parent, verified or on_disk)
        )
        if log.log_id in self.frontier.aside:
            beyond = max(0, self._counts_to(log.log_id) - run.first_seq)
            size = sum(map(len, run.entries[beyond:]))
            self._aside_bytes[log.log_id] = self._aside_bytes.get(log.log_id, 0) + size
        if log.genesis.lane is Lane.CONTROL:
            self.read_control(run, effects)
        self._has_news(log, branch)

    def own_appended(self, run: Run, effects: list[Effect]) -> Branch:
        """Hold an entry of this device's own that is on its disk; nobody else's run ever moves that branch's head."""
        log = self.frontier.logs.get(run.log_id)
        if log is None:
            self.own.add(run.log_id)
            log = self.frontier.open_log(run.log_id, parse_genesis(run.entries[0], self._root))
            self.opened(log)
            branch = self.frontier.add_branch(run, None, attached=True)
        else:
            branch = log.branches[OWN_BRANCH]
            self.frontier.extend(branch, run)
            for rival in log.attached():
                if rival is not branch and rival.prev == run.prev:
                    # Somebody else signed here with this device's key before we did: now there are two entries.
                    at = run.first_seq
                    pieces = [[Segment(number, at, at)] for number in (branch.number, rival.number)]
                    self._read_back(_Rivals(log.log_id, at), log.log_id, pieces, effects)
        self.accept(log, branch, run, effects, on_disk=True)
        return branch

    def _has_news(self, log: LogState, branch: Branch) -> None:
        """Neighbours hear of a new head; of an island they hear when frontiers are compared."""
        if branch.attached:
            self.new_heads[log.log_id] = branch.head

    def _read_back(
        self,
        waiting: _Comparing | _Hanging | _Rivals,
        log_id: bytes,
        pieces: Sequence[Sequence[Segment]],
        effects: list[Effect],
    ) -> None:
        self._tokens += 1
        self._comparing[self._tokens] = waiting
        effects.append(ReadBack(self._tokens, log_id, tuple(map(tuple, pieces))))

    def compared(self, token: int, entries: Sequence[Sequence[bytes]], effects: list[Effect]) -> None:
        waiting = self._comparing.pop(token)
        match waiting:
            case _Hanging():
                self._compared_island(waiting, entries, effects)
            case _Rivals(log_id, seq):
                (ours,), (theirs,) = entries
                self._found_fork(self.frontier.logs[log_id], seq, ours, theirs, effects)
            case _Comparing(run, compare):
                self._compared_run(run, compare, entries, effects)
        self._settle_islands(self.frontier.logs[waiting.log_id], effects)

    def _compared_run(
        self, run: Run, compare: Compare, entries: Sequence[Sequence[bytes]], effects: list[Effect]
    ) -> None:
        log = self.frontier.logs[run.log_id]
        if self.frontier.split(run) != [run] or self.frontier.place(run) != compare:
            # The frontier moved on while the store was read; what it says now is what counts.
            self.take_in(run, effects)
            return
        branches = [candidate.branch for candidate in compare.candidates]
        ids = [[entry_id(data) for data in held] for held in entries]
        placement = place_compared(run, list(zip(branches, ids, strict=True)))
        self._place(run, placement, effects)
        if isinstance(placement, Forks):
            at = branches.index(placement.branch)
            ours = entries[at][placement.at_seq - compare.candidates[at].segments[0].first_seq]
            self._found_fork(log, placement.at_seq, ours, placement.run.entries[0], effects)

    def _found_fork(self, log: LogState, seq: int, ours: bytes, theirs: bytes, effects: list[Effect]) -> None:
        self.contest(log.log_id, seq, effects)
        if not self._needs_proof(log, seq):
            return
        try:
            proof = prove_fork(log.genesis.entry, ours, theirs, self._root)
        except PeerError as error:
            effects.append(Note(f"log {log.log_id.hex()} forks at seq {seq}, without proof for others: {error}"))
            return
        if proof is not None:
            self._proven[log.log_id] = seq
            self.frontier.set_aside(log.log_id)
            effects.append(AppendProof(log.log_id, proof.body))

    def _needs_proof(self, log: LogState, seq: int) -> bool:
        """One proof convicts a log; its branches tell everybody of lower forks. Where no more branches of it are kept,
        this one may reach nobody else, and what counts of the log would not be the same everywhere."""
        proven = self._proven.get(log.log_id)
        return proven is None or (seq < proven and len(log.branches) >= BRANCHES_PER_LOG_MAX)

    def read_control(self, run: Run, effects: list[Effect]) -> None:
        for fields in run.fields:
            body = fields[6]
            assert isinstance(body, bytes)
            match fields[5]:
                case Kind.FORK_PROOF:
                    self._read_proof(run.log_id, body, effects)
                case Kind.REVOCATION:
                    self._read_statement(run.log_id, body, effects)
                case _:
                    pass

    def _read_proof(self, log_id: bytes, body: bytes, effects: list[Effect]) -> None:
        try:
            proof = check_fork_proof(body, self._root)
        except PeerError as error:
            effects.append(Note(f"log {log_id.hex()} holds a fork proof that proves nothing: {error}"))
            return
        self._proven[proof.log_id] = min(proof.seq, self._proven.get(proof.log_id, proof.seq))
        self.frontier.set_aside(proof.log_id)
        self.contest(proof.log_id, proof.seq, effects)

    def _read_statement(self, log_id: bytes, body: bytes, effects: list[Effect]) -> None:
        try:
            self.revoke(parse_statement(body, self._root), effects)
        except PeerError as error:
            effects.append(Note(f"log {log_id.hex()} holds a revocation that revokes nobody: {error}"))

    def revoke(self, statement: Statement, effects: list[Effect]) -> None:
        """Take in a checked statement of the authority, whoever carried it."""
        if self.revocations.add(statement):
            for log in self.frontier.logs.values():
                self.opened(log)
            effects.append(Revoked(statement))

    def contest(self, log_id: bytes, seq: int, effects: list[Effect]) -> None:
        if seq < self.contested_from.get(log_id, seq + 1):
            self.contested_from[log_id] = seq
            effects.append(Contested(log_id, seq))
