"""What a node holds, log by log, and the digests that let two nodes compare it.

A log is held as *branches*: contiguous pieces, each with the id it follows and a head. Normally there is one, from seq
0. A second attached branch is a fork. A branch whose beginning is not held yet is an *island*. Heads are the heads of
attached branches: a fork's base is never a head of its own, because something held follows it.

Digests cover ids, never heights alone, so that two forks of equal height show.

Logs that a fork proof or a revocation speaks of are *set aside*: they have a digest of their own and are compared apart
from the others, last and seldom, so that whoever goes on branching a log keeps nobody from knowing what else is held.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeAlias

from mesh.core.chain import Genesis, Run
from mesh.errors import PeerError
from mesh.limits import BRANCHES_PER_LOG_MAX, BUCKETS_COUNT, LOCATOR_IDS_MAX, LOGS_MAX

DIGEST_BYTES: Final = 16
"""Of a bucket, of what is set aside, and of one log where buckets differ."""
NOTHING_ASIDE: Final = hashlib.sha256().digest()[:DIGEST_BYTES]
"""The digest of what is set aside where nothing is."""


class TooManyBranches(PeerError):
    """A log has more branches than are kept; the newest stays where it was received."""


class TooManyLogs(PeerError):
    """The venue shows more logs than a node holds."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """One entry of a log, by seq and id."""

    seq: int
    id: bytes


@dataclass(frozen=True, slots=True)
class Island:
    """A held piece without its beginning."""

    from_seq: int
    tip: Position


@dataclass(frozen=True, slots=True)
class LogSummary:
    """One log's line in a frontier, as compared between nodes."""

    log_id: bytes
    heads: tuple[Position, ...]
    islands: tuple[Island, ...]


@dataclass(slots=True)
class Branch:
    """A contiguous piece of a log. `number` is local to this node; 0 is the piece held first."""

    number: int
    from_seq: int
    prev: bytes
    head: Position
    parent: int | None
    """The branch this one hangs from; None for the first branch and for islands."""
    attached: bool
    tips: list[Position] = field(default_factory=list)
    """Ids known without reading the store, ascending: the first, and others at exponentially growing distances."""

    def advance(self, head: Position) -> None:
        self.head = head
        self.tips.append(head)
        if len(self.tips) > 4:
            self.tips = _thinned(self.tips)


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries `first_seq` to `last_seq` of one branch, the unit in which the store is read."""

    branch: int
    first_seq: int
    last_seq: int


@dataclass(slots=True)
class LogState:
    """Everything held of one log, without the entries themselves."""

    log_id: bytes
    genesis: Genesis
    branches: dict[int, Branch]
    strangers: set[tuple[int, int]] = field(default_factory=set)
    """Islands and branches (by number) that were compared: the island does not hang from that branch."""

    def attached(self) -> Iterator[Branch]:
        return (branch for branch in self.branches.values() if branch.attached)

    def heads(self) -> list[Position]:
        """The heads of attached branches, without those that another branch goes on from."""
        if len(self.branches) == 1:
            return [branch.head for branch in self.attached()]
        followed = {branch.prev for branch in self.attached()}
        return sorted(branch.head for branch in self.attached() if branch.head.id not in followed)

    @property
    def height(self) -> int | None:
        """The seq up to which the chain that was held first goes, from the genesis on; None without a beginning."""
        first = self.branches.get(0)
        return first.head.seq if first is not None and first.attached and first.from_seq == 0 else None

    def islands(self) -> list[Island]:
        held = (b for b in self.branches.values() if not b.attached)
        return sorted((Island(b.from_seq, b.head) for b in held), key=lambda island: island.tip)

    def summary(self) -> LogSummary:
        return LogSummary(self.log_id, tuple(self.heads()), tuple(self.islands()))

    def leaves_head(self, run: Run) -> bool:
        """Whether a branch begins with the first entry of this run, right behind the head that the run follows.

        That happens to a device's own log: what somebody else signed with its key never moves the head it writes at.
        """
        first = Position(run.first_seq, run.ids[0])
        return len(self.branches) > 1 and any(
            branch.parent is not None and branch.prev == run.prev and branch.tips[0] == first
            for branch in self.attached()
        )

    def branch_of(self, position: Position) -> Branch | None:
        """The branch known to contain `position`, judged by the ids held in memory."""
        for branch in self.branches.values():
            if branch.head == position or position in branch.tips:
                return branch
        return None

    def path(self, branch: Branch, first_seq: int, last_seq: int) -> list[Segment]:
        """The segments, in order, that hold `first_seq` to `last_seq` of the chain that ends in `branch`."""
        segments: list[Segment] = []
        upper = min(last_seq, branch.head.seq)
        current: Branch | None = branch
        while current is not None and upper >= first_seq:
            lower = max(first_seq, current.from_seq)
            if lower <= upper:
                segments.append(Segment(current.number, lower, upper))
            upper = min(upper, current.from_seq - 1)
            current = None if current.parent is None else self.branches[current.parent]
        return segments[::-1]

    def locator(self, target: Branch | None = None) -> list[Position]:
        """Ids I hold, newest first, at exponentially growing distances, the genesis last."""
        branches = [target] if target is not None else [b for b in self.branches.values() if b.attached]
        held = {position for branch in branches for position in (*branch.tips, branch.head)}
        newest_first = sorted(held, reverse=True)
        if len(newest_first) <= LOCATOR_IDS_MAX:
            return newest_first
        return [*newest_first[: LOCATOR_IDS_MAX - 1], newest_first[-1]]


@dataclass(frozen=True, slots=True)
class Extends:
    """The run, cut to what is new, follows the head of a branch."""

    branch: Branch
    run: Run


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Everything in the run is held."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A branch that a run may overlap or leave: read these segments to know."""

    branch: Branch
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class Compare:
    """Only the store can say: read each candidate's segments and call :func:`place_compared`."""

    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Forks:
    """The run, cut to what is new, leaves the chain of `branch` at `at_seq`: two entries of one log at one seq."""

    branch: Branch
    run: Run
    at_seq: int


@dataclass(frozen=True, slots=True)
class Unconnected:
    """Nothing held of this log reaches the run: an island."""


Placement: TypeAlias = Extends | Duplicate | Forks | Unconnected


class Frontier:
    """The set of logs that a node holds. Pure bookkeeping: it never sees an entry's body."""

    def __init__(self) -> None:
        self.logs: dict[bytes, LogState] = {}
        self.aside: set[bytes] = set()
        """Logs that are compared apart from the others; not all of them are held."""
        self._buckets: list[list[bytes]] = [[] for _ in range(BUCKETS_COUNT)]
        self._bucket_digests: list[bytes | None] = [None] * BUCKETS_COUNT
        self._log_digests: dict[bytes, bytes] = {}
        self._main_digest: bytes | None = None
        self._aside_digest: bytes | None = None

    # -- Comparing -------------------------------------------------------------------------------------------------

    def digest(self) -> bytes:
        """32 bytes over everything held, set aside or not; equal digests mean equal sets of entries."""
        if self.aside.isdisjoint(self.logs):
            return self.main_digest()
        buckets = [_joined(map(self._log_digest, bucket)) for bucket in self._buckets]
        return hashlib.sha256(b"".join(buckets)).digest()

    def main_digest(self) -> bytes:
        """32 bytes over every log that is not set aside."""
        if self._main_digest is None:
            self._main_digest = hashlib.sha256(b"".join(self.bucket_digests())).digest()
        return self._main_digest

    def aside_digest(self) -> bytes:
        """16 bytes over the logs that are set aside."""
        if self._aside_digest is None:
            self._aside_digest = _joined(map(self._log_digest, self._aside_held()))
        return self._aside_digest

    def bucket_digests(self) -> list[bytes]:
        """64 digests of 16 bytes, by the low six bits of the log id's first byte; without what is set aside."""
        for index, digest in enumerate(self._bucket_digests):
            if digest is None:
                self._bucket_digests[index] = _joined(map(self._log_digest, self.bucket_ids(index)))
        return [digest for digest in self._bucket_digests if digest is not None]

    def bucket_logs(self, index: int) -> dict[bytes, bytes]:
        """The logs of one bucket that are not set aside, ordered by id: from 16 bytes of a log's digest to its id."""
        return {self._log_digest(log_id)[:DIGEST_BYTES]: log_id for log_id in self.bucket_ids(index)}

    def aside_summaries(self) -> list[LogSummary]:
        """The logs that are set aside, ordered by id."""
        return [self.logs[log_id].summary() for log_id in self._aside_held()]

    def set_aside(self, log_id: bytes) -> None:
        """From now on compare this log, which need not be held yet, apart from the others."""
        if log_id not in self.aside:
            self.aside.add(log_id)
            self._changed(log_id)

    def _aside_held(self) -> list[bytes]:
        return sorted(self.aside & self.logs.keys())

    def bucket_ids(self, index: int) -> Sequence[bytes]:
        """The ids of the logs of one bucket that are not set aside, ascending."""
        return [log_id for log_id in self._buckets[index] if log_id not in self.aside]

    def _log_digest(self, log_id: bytes) -> bytes:
        known = self._log_digests.get(log_id)
        if known is None:
            log = self.logs[log_id]
            content = hashlib.sha256(log_id)
            for head in log.heads():
                content.update(b"H" + head.id)
            for island in log.islands():
                content.update(b"I" + island.from_seq.to_bytes(4, "big") + island.tip.id)
            known = self._log_digests[log_id] = content.digest()
        return known

    def _changed(self, log_id: bytes) -> None:
        self._log_digests.pop(log_id, None)
        self._bucket_digests[log_id[0] % BUCKETS_COUNT] = None
        self._main_digest = self._aside_digest = None

    def holds(self, log_id: bytes, position: Position, piece: bool) -> bool:
        """Whether `position` is known to be held with all that is before it, judged by the ids in memory.

        For a `piece` it is enough that an island holds it.
        """
        log = self.logs.get(log_id)
        branch = None if log is None else log.branch_of(position)
        return branch is not None and (branch.attached or piece)

    # -- Placing runs ----------------------------------------------------------------------------------------------

    def open_log(self, log_id: bytes, genesis: Genesis) -> LogState:
        """Begin to hold a log whose genesis has been checked; its first branch is added by the first run."""
        if len(self.logs) >= LOGS_MAX:
            raise TooManyLogs(f"more than {LOGS_MAX} logs at one venue")
        log = self.logs[log_id] = LogState(log_id, genesis, {})
        insort(self._buckets[log_id[0] % BUCKETS_COUNT], log_id)
        self._changed(log_id)
        return log

    def split(self, run: Run) -> list[Run]:
        """Cut a run before each island that begins inside it, so that every piece is clear of the next."""
        log = self.logs[run.log_id]
        if len(log.branches) <= 1:
            return [run]
        starts = {(b.from_seq - run.first_seq, b.tips[0].id) for b in log.branches.values() if not b.attached}
        cuts = [at for at, first in starts if 0 < at < len(run.ids) and run.ids[at] == first]
        edges = [0, *sorted(cuts), len(run.ids)]
        return [run.front(end).tail(start) for start, end in pairwise(edges)]

    def place(self, run: Run) -> Extends | Duplicate | Compare | Unconnected:
        """Say where a checked, split run of a held log belongs; nothing is changed by that."""
        log = self.logs[run.log_id]
        first, last = run.first_seq, run.last_seq
        # A run that begins like an island can only be placed on that: an entry is held on one branch, never on two.
        islands = [branch for branch in log.branches.values() if not branch.attached]
        alike = [island for island in islands if island.from_seq == first and island.tips[0].id == run.ids[0]]
        branches = alike or list(log.branches.values())
        passed: set[int] = set()
        for branch in branches:
            new = _beyond(branch.head, run)
            if new is not None and not log.leaves_head(new):
                return Extends(branch, new)
            if new is not None:
                passed.add(branch.number)
        if log.branch_of(Position(last, run.tip_id)) is not None:
            return Duplicate()
        others = [branch for branch in branches if branch.number not in passed]
        candidates = [c for branch in others if (c := _candidate(log, branch, run)) is not None]
        return Compare(candidates) if candidates else Unconnected()

    def extend(self, branch: Branch, run: Run) -> None:
        """Move a branch's head over a run that follows it."""
        self._changed(run.log_id)
        branch.advance(Position(run.last_seq, run.tip_id))

    def join_islands(self, log_id: bytes) -> list[tuple[Branch, Branch]]:
        """Join every island that follows a head: (island, branch it belongs to now). The caller relabels its runs."""
        log = self.logs[log_id]
        joined: list[tuple[Branch, Branch]] = []
        while (pair := _adjacent(log)) is not None:
            island, branch = pair
            del log.branches[island.number]
            log.strangers = {known for known in log.strangers if island.number not in known}
            branch.advance(island.head)
            joined.append(pair)
            self._changed(log_id)
        return joined

    def may_hang(self, log_id: bytes) -> list[tuple[Branch, Branch]]:
        """Islands whose predecessor may lie below the head of a branch: only the store can say. Each pair once."""
        log = self.logs[log_id]
        return [
            (island, branch)
            for island in log.branches.values()
            for branch in log.attached()
            if not island.attached
            and branch.from_seq < island.from_seq <= branch.head.seq
            and (island.number, branch.number) not in log.strangers
        ]

    def attach(self, log_id: bytes, island: Branch, parent: Branch) -> None:
        """An island turned out to leave `parent` below its head: a fork."""
        island.attached, island.parent = True, parent.number
        self._changed(log_id)

    def add_branch(self, run: Run, parent: Branch | None, *, attached: bool) -> Branch:
        """Hold a run as a branch of its own: the first piece of a log, a fork (with its parent), or an island."""
        log = self.logs[run.log_id]
        if len(log.branches) >= BRANCHES_PER_LOG_MAX:
            raise TooManyBranches(f"log {run.log_id.hex()} has more than {BRANCHES_PER_LOG_MAX} branches")
        number = max(log.branches, default=-1) + 1
        head = Position(run.last_seq, run.tip_id)
        tips = [Position(run.first_seq, run.ids[0])] if len(run.ids) > 1 else []
        branch = Branch(
            number, run.first_seq, run.prev, head, None if parent is None else parent.number, attached, tips
        )
        branch.tips.append(head)
        log.branches[number] = branch
        self._changed(run.log_id)
        return branch

    def restore_branch(self, log_id: bytes, branch: Branch) -> None:
        """Put back a branch read from the store at start."""
        self.logs[log_id].branches[branch.number] = branch
        branch.tips = _thinned(branch.tips)
        self._changed(log_id)


def _joined(log_digests: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(log_digests)).digest()[:DIGEST_BYTES]


def place_compared(run: Run, compared: Sequence[tuple[Branch, Sequence[bytes]]]) -> Placement:
    """Place a run by the ids that each candidate branch holds, from the seq before the run's first on (or from 0)."""
    forks: list[Forks] = []
    for branch, held in compared:
        placement = _compare(run, branch, held)
        if isinstance(placement, Duplicate | Extends):
            return placement
        if isinstance(placement, Forks):
            forks.append(placement)
    return max(forks, key=lambda fork: fork.at_seq) if forks else Unconnected()


def _compare(run: Run, branch: Branch, held: Sequence[bytes]) -> Placement:
    if run.first_seq > (0 if branch.attached else branch.from_seq):
        if held[0] != run.prev:
            return Unconnected()
        held = held[1:]
    common = 0
    while common < min(len(held), len(run.ids)) and held[common] == run.ids[common]:
        common += 1
    if common == len(run.ids):
        return Duplicate()
    if common == len(held) and branch.head.seq == run.first_seq + common - 1:
        return Extends(branch, run.tail(common))
    if common == 0 and not branch.attached:
        return Unconnected()
    return Forks(branch, run.tail(common), run.first_seq + common)


def _beyond(head: Position, run: Run) -> Run | None:
    """What of a run follows this head; None where it does not reach across it."""
    first = run.first_seq
    if run.prev == head.id and first == head.seq + 1:
        return run
    if first <= head.seq < run.last_seq and run.ids[head.seq - first] == head.id:
        return run.tail(head.seq - first + 1)
    return None


def _candidate(log: LogState, branch: Branch, run: Run) -> Candidate | None:
    """What has to be read of a branch to place a run: from the entry before the run's first one on, if there is one."""
    first, last = run.first_seq, run.last_seq
    reaching = max(first - 1, 0)
    if branch.attached:
        segments = log.path(branch, reaching, last)
        return Candidate(branch, segments) if segments and segments[0].first_seq == reaching else None
    if first == branch.from_seq and run.prev == branch.prev:
        reaching = first
    if branch.from_seq <= reaching and first <= branch.head.seq:
        return Candidate(branch, [Segment(branch.number, reaching, min(last, branch.head.seq))])
    return None


def _adjacent(log: LogState) -> tuple[Branch, Branch] | None:
    """An island and the branch whose head it follows; attached branches first."""
    islands = [branch for branch in log.branches.values() if not branch.attached]
    for branch in (*log.attached(), *islands):
        for island in islands:
            if island.prev == branch.head.id and island.from_seq == branch.head.seq + 1:
                return island, branch
    return None


def _thinned(tips: list[Position]) -> list[Position]:
    """Keep O(log n) of ascending positions: of each power-of-two band of distances from the newest, the oldest."""
    newest = tips[-1].seq
    kept: list[Position] = []
    band = -1
    for position in tips:
        width = (newest - position.seq).bit_length()
        if width != band or position is tips[0]:
            kept.append(position)
            band = width
    return kept


def entry_count(logs: Iterable[LogState]) -> int:
    """Entries held in all branches, islands and forks included."""
    return sum(branch.head.seq - branch.from_seq + 1 for log in logs for branch in log.branches.values())
