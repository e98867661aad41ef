"""A device's store in memory: what `mesh.shell.store.RunStore` does, and what a power cut leaves of it.

Stored runs form chains that are never changed, only put behind one another, and two stores that hold the same runs
share them: three hundred nodes hold three days of a festival in the memory of a few. Each transaction says how it is
undone, so that a cut can take back whatever no sync has made durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mesh.core.chain import PackedRun, Run, encode_run, split_run
from mesh.core.entry import entry_id
from mesh.core.frontier import Branch, Position, Segment
from mesh.errors import LocalError
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from mesh.ports import Piece
from mesh.shell.store import StoredLog, StoredRun

_NOWHERE: Final = Path("memory")


class StoredPiece:
    """One stored run and, through `before`, every run of its branch below it. Never changed once it is there."""

    __slots__ = ("_following", "_ids", "before", "entries", "first_seq", "last_seq", "tip_id")

    def __init__(
        self, before: StoredPiece | None, first_seq: int, last_seq: int, tip_id: bytes, entries: tuple[bytes, ...]
    ) -> None:
        self.before = before
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.tip_id = tip_id
        self.entries = entries
        self._ids: tuple[bytes, ...] | None = None
        self._following: dict[bytes, StoredPiece] = {}

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The ids of its entries, worked out once for whoever holds it."""
        if self._ids is None:
            self._ids = tuple(map(entry_id, self.entries))
        return self._ids

    def follow(self, first_seq: int, last_seq: int, tip_id: bytes, entries: Sequence[bytes]) -> StoredPiece:
        """The piece with these entries behind this one; the same one for whoever stores the same."""
        found = self._following.get(tip_id)
        if found is None or found.first_seq != first_seq:
            found = StoredPiece(self, first_seq, last_seq, tip_id, tuple(entries))
            self._following[tip_id] = found
        return found


class Pieces:
    """Where the chains of one world begin."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, bytes], StoredPiece] = {}

    def begin(self, run: Run) -> StoredPiece:
        """The piece that begins a branch with this run."""
        key = (run.first_seq, run.tip_id)
        found = self._first.get(key)
        if found is None:
            found = StoredPiece(None, run.first_seq, run.last_seq, run.tip_id, tuple(run.entries))
            self._first[key] = found
        return found


@dataclass(frozen=True, slots=True)
class _Branch:
    number: int
    from_seq: int
    prev: bytes
    parent: int | None
    attached: bool
    tail: StoredPiece | None
    verified_to: int
    """Every signature below this seq has been checked."""

    def pieces(self, first_seq: int) -> list[StoredPiece]:
        """The stored runs that reach `first_seq` or lie after it, in order."""
        found: list[StoredPiece] = []
        piece = self.tail
        while piece is not None and piece.last_seq >= first_seq and piece.last_seq >= self.from_seq:
            found.append(piece)
            piece = piece.before
        return found[::-1]


class MemoryStore:
    """One file of a device; implements `mesh.ports.Store` and what a start reads of a store."""

    path = _NOWHERE

    def __init__(self, pieces: Pieces) -> None:
        self._shared = pieces
        self._genesis: dict[bytes, bytes] = {}
        self._logs: dict[bytes, dict[int, _Branch]] = {}
        self._intents: dict[bytes, bytes] = {}
        self._evidence: dict[bytes, bytes] = {}
        self._statements: dict[bytes, bytes] = {}
        self._undo: list[Callable[[], None]] | None = None
        """How the transaction under way is taken back; None outside of one."""

    def copy(self) -> MemoryStore:
        """Another file with the same content: a backup, or a copied card."""
        other = MemoryStore(self._shared)
        other._genesis = dict(self._genesis)
        other._logs = {log_id: dict(branches) for log_id, branches in self._logs.items()}
        other._intents, other._evidence = dict(self._intents), dict(self._evidence)
        other._statements = dict(self._statements)
        return other

    # -- Transactions ----------------------------------------------------------------------------------------------

    def transact(self, work: Callable[[MemoryStore], None]) -> list[Callable[[], None]]:
        """Do some work at once; returns what takes it back, to be called in reverse."""
        undo: list[Callable[[], None]] = []
        self._undo = undo
        try:
            work(self)
        finally:
            self._undo = None
        return undo

    def _set(self, log_id: bytes, number: int, branch: _Branch | None) -> None:
        branches = self._logs[log_id]
        before = branches.get(number)

        def back() -> None:
            if before is None:
                branches.pop(number, None)
            else:
                branches[number] = before

        if branch is None:
            del branches[number]
        else:
            branches[number] = branch
        self._takes_back(back)

    def _takes_back(self, back: Callable[[], None]) -> None:
        assert self._undo is not None, "a store is changed in a transaction only"
        self._undo.append(back)

    # -- Writing ---------------------------------------------------------------------------------------------------

    def add_log(self, log_id: bytes, genesis: bytes) -> None:
        if log_id not in self._genesis:
            self._genesis[log_id] = genesis
            self._logs[log_id] = {}

            def back() -> None:
                del self._genesis[log_id], self._logs[log_id]

            self._takes_back(back)

    def add_branch(
        self, log_id: bytes, number: int, from_seq: int, prev: bytes, *, parent: int | None, attached: bool
    ) -> None:
        if number not in self._logs[log_id]:
            self._set(log_id, number, _Branch(number, from_seq, prev, parent, attached, None, from_seq))

    def append_run(self, run: Run | PackedRun, branch: int, *, verified: bool) -> None:
        assert isinstance(run, Run), "in memory a run stays as it was checked"
        held = self._logs[run.log_id][branch]
        if held.tail is None:
            assert (run.first_seq, run.prev) == (held.from_seq, held.prev), "a branch begins where it says"
            tail = self._shared.begin(run)
        else:
            assert (run.first_seq, run.prev) == (held.tail.last_seq + 1, held.tail.tip_id), "a run follows its branch"
            tail = held.tail.follow(run.first_seq, run.last_seq, run.tip_id, run.entries)
        reaches = verified and held.verified_to == run.first_seq
        self._set(
            run.log_id,
            branch,
            replace(held, tail=tail, verified_to=run.last_seq + 1 if reaches else held.verified_to),
        )

    def relabel(self, log_id: bytes, branch: int, into: int) -> None:
        moved, onto = self._logs[log_id][branch], self._logs[log_id][into]
        assert onto.tail is not None and moved.prev == onto.tail.tip_id, "an island is joined to what it follows"
        tail, all_verified = onto.tail, moved.tail is not None and moved.verified_to == moved.tail.last_seq + 1
        for piece in moved.pieces(moved.from_seq):
            tail = tail.follow(piece.first_seq, piece.last_seq, piece.tip_id, piece.entries)
        reaches = all_verified and onto.verified_to == moved.from_seq
        verified_to = tail.last_seq + 1 if reaches else onto.verified_to
        self._set(log_id, into, replace(onto, tail=tail, verified_to=verified_to))
        self._set(log_id, branch, None)

    def attach(self, log_id: bytes, branch: int, parent: int) -> None:
        self._set(log_id, branch, replace(self._logs[log_id][branch], attached=True, parent=parent))

    def mark_verified(self, log_id: bytes, branch: int, below_seq: int) -> None:
        """Every signature of a branch below this seq has been checked."""
        held = self._logs[log_id].get(branch)
        if held is not None and held.verified_to < below_seq:
            self._set(log_id, branch, replace(held, verified_to=below_seq))

    # -- Intents, evidence, statements -----------------------------------------------------------------------------

    def put_intent(self, tap_id: bytes, body: bytes) -> None:
        self._put(self._intents, tap_id, body)

    def drop_intent(self, tap_id: bytes) -> None:
        self._put(self._intents, tap_id, None)

    def put_evidence(self, digest: bytes, body: bytes) -> None:
        self._put(self._evidence, digest, body)

    def put_statement(self, digest: bytes, body: bytes) -> None:
        self._put(self._statements, digest, body)

    def _put(self, table: dict[bytes, bytes], key: bytes, body: bytes | None) -> None:
        before = table.get(key)

        def back() -> None:
            if before is None:
                table.pop(key, None)
            else:
                table[key] = before

        if body is None:
            table.pop(key, None)
        else:
            table[key] = body
        self._takes_back(back)

    def intents(self) -> list[tuple[bytes, bytes]]:
        return list(self._intents.items())

    def evidence(self) -> list[tuple[bytes, bytes]]:
        return list(self._evidence.items())

    def statements(self) -> list[tuple[bytes, bytes]]:
        return list(self._statements.items())

    # -- Reading ---------------------------------------------------------------------------------------------------

    def logs(self) -> list[StoredLog]:
        found = []
        for log_id, genesis in self._genesis.items():
            branches = [branch for held in self._logs[log_id].values() if (branch := _restored(held)) is not None]
            if branches:
                found.append(StoredLog(log_id, genesis, branches))
        return found

    def log_ids(self) -> list[bytes]:
        return list(self._genesis)

    def stored_runs(self, log_id: bytes) -> Iterator[StoredRun]:
        for number, branch in sorted(self._logs[log_id].items()):
            for piece in branch.pieces(branch.from_seq):
                verified = piece.last_seq < branch.verified_to
                yield StoredRun(number, piece.first_seq, piece.last_seq, verified, encode_run(piece.entries))

    def unverified_entries(self) -> int:
        return sum(
            branch.tail.last_seq + 1 - branch.verified_to
            for branches in self._logs.values()
            for branch in branches.values()
            if branch.tail is not None
        )

    def unverified(self) -> list[tuple[bytes, int, int, tuple[bytes, ...]]]:
        """(log id, branch, first seq, entries) of stored runs whose signatures were not all checked, in order."""
        return [
            (log_id, number, piece.first_seq, piece.entries)
            for log_id, branches in self._logs.items()
            for number, branch in branches.items()
            for piece in branch.pieces(branch.verified_to)
        ]

    def read_run(self, log_id: bytes, segment: Segment) -> Piece | None:
        """As many whole stored runs from `segment.first_seq` on as fit one frame; None where nothing is left."""
        branch = self._logs.get(log_id, {}).get(segment.branch)
        entries: list[bytes] = []
        size, next_seq, cut = 0, segment.first_seq, False
        for piece in () if branch is None else branch.pieces(segment.first_seq):
            if piece.first_seq > segment.last_seq:
                break
            last = min(piece.last_seq, segment.last_seq)
            taken = piece.entries[max(0, segment.first_seq - piece.first_seq) : last - piece.first_seq + 1]
            added = sum(map(len, taken)) + 3 * len(taken)
            if entries and (len(entries) + len(taken) > RUN_ENTRIES_MAX or size + added > RUN_BYTES_MAX):
                break
            entries += taken
            size, next_seq, cut = size + added, last + 1, last < piece.last_seq
        return Piece(len(entries), encode_run(entries), next_seq, cut) if entries else None

    def read_entries(self, log_id: bytes, segment: Segment) -> list[bytes]:
        entries: list[bytes] = []
        while segment.first_seq <= segment.last_seq:
            piece = self.read_run(log_id, segment)
            if piece is None:
                raise LocalError(f"log {log_id.hex()} lacks seq {segment.first_seq}, which it should hold")
            entries += split_run(piece.count, piece.blob)
            segment = Segment(segment.branch, piece.next_seq, segment.last_seq)
        return entries

    def read_at(self, log_id: bytes, seq: int) -> list[bytes]:
        """Every entry held at one seq of a log, in whatever branches."""
        found: list[bytes] = []
        for branch in self._logs.get(log_id, {}).values():
            pieces = branch.pieces(seq)
            if pieces and pieces[0].first_seq <= seq:
                found.append(pieces[0].entries[seq - pieces[0].first_seq])
        return found

    def locate(self, log_id: bytes, segments: Sequence[Segment], locator: Sequence[Position]) -> Position | None:
        for position in locator:
            for segment in segments:
                if segment.first_seq <= position.seq <= segment.last_seq:
                    piece = self.read_run(log_id, Segment(segment.branch, position.seq, position.seq))
                    if piece is not None and entry_id(split_run(piece.count, piece.blob)[0]) == position.id:
                        return position
        return None

    def measure(self, log_id: bytes, segments: Sequence[Segment]) -> int:
        return sum(
            sum(map(len, piece.entries))
            for segment in segments
            for branch in (self._logs.get(log_id, {}).get(segment.branch),)
            if branch is not None
            for piece in branch.pieces(segment.first_seq)
            if piece.first_seq <= segment.last_seq
        )

    def height(self, log_id: bytes) -> int | None:
        """The highest seq that is held of a log; None where nothing is."""
        tails = [branch.tail.last_seq for branch in self._logs.get(log_id, {}).values() if branch.tail is not None]
        return max(tails, default=None)

    def ids_of(self, log_id: bytes) -> frozenset[bytes]:
        """The ids of the entries that are held of one log."""
        return _ids(self._logs.get(log_id, {}))

    def entry_ids(self) -> dict[bytes, frozenset[bytes]]:
        """What is held, by log: the ids of its entries. For comparing stores byte by byte."""
        return {log_id: _ids(branches) for log_id, branches in self._logs.items()}


def _ids(branches: dict[int, _Branch]) -> frozenset[bytes]:
    return frozenset(
        identifier
        for branch in branches.values()
        for piece in branch.pieces(branch.from_seq)
        for identifier in piece.ids
    )


def _restored(held: _Branch) -> Branch | None:
    if held.tail is None:
        return None
    pieces = held.pieces(held.from_seq)
    tips = [Position(piece.last_seq, piece.tip_id) for piece in pieces]
    if tips[0].seq != held.from_seq:
        tips.insert(0, Position(held.from_seq, entry_id(pieces[0].entries[0])))
    return Branch(held.number, held.from_seq, held.prev, tips[-1], held.parent, held.attached, tips)
