"""Taking runs in: every rule is checked first, then the entries are stored, once each, whatever was sent before.

* The chain rules and a run's last signature are those of `mesh.core.chain`; the other signatures are checked later.
* An entry's id names its log and seq, so (log, seq, id) holds an entry once. A second id at one seq is a fork: both are
  kept, and the log is contested from there.
* What is stored of a log is always complete down to its genesis: a run whose predecessor is not there is not stored.
* A run that breaks a rule is refused by itself; the other runs of its batch are not affected.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from gateway.settlement.database import select
from gateway.settlement.ledger import Abort, signed_sales_minor
from gateway.settlement.logs import Head, HeldLog, HeldLogs
from gateway.settlement_api import OfferedRun, Outcome, OutcomeCode
from mesh.core.certificate import VenueRoot
from mesh.core.chain import Run, check_run, parse_genesis, split_run, verify_tip
from mesh.core.entry import decode_entry
from mesh.core.frontier import Position, TooManyBranches, TooManyLogs
from mesh.core.kinds import Kind, Lane
from mesh.core.revocation import Statement, parse_statement
from mesh.errors import PeerError
from mesh.limits import BRANCHES_PER_LOG_MAX, LOGS_MAX
from mesh.views.card_account import TapFact
from mesh.views.tap_entry import decode_abort
from mesh.views.tap_rules import CountedTap, Refusal, read_tap


@dataclass(slots=True)
class _Contents:
    """What the new entries of one run say, sorted by what is to be done with it."""

    facts: list[tuple[bytes, TapFact]] = field(default_factory=list)
    aborts: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    set_aside: list[tuple[int, bytes, str]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)


class Intake:
    """Takes runs into an open transaction; `dirty` collects the cards whose books must be made anew at its end."""

    def __init__(self, db: apsw.Connection, root: VenueRoot, logs: HeldLogs) -> None:
        self._db = db
        self._root = root
        self._logs = logs
        self.dirty: set[bytes] = set()
        self.aborts: dict[bytes, list[Abort]] = {}
        for tap_id, log, seq, identifier in select(db, "SELECT tap_id, log, seq, id FROM abort"):
            self.aborts.setdefault(tap_id, []).append(Abort(log, seq, identifier))

    def take(self, offered: OfferedRun) -> Outcome:
        """Check one run and store what is new of it. Never raises a `PeerError`: that is an outcome."""
        try:
            run = check_run(offered.log_id, split_run(offered.count, offered.blob))
            log = self._logs.by_id.get(run.log_id)
            if log is None:
                return self._take_unknown(run)
            return self._take_known(log, run)
        except PeerError as error:
            return Outcome(OutcomeCode.REFUSED, sentence=f"log {offered.log_id.hex()}: {error}")

    def _take_unknown(self, run: Run) -> Outcome:
        if run.first_seq > 0:
            return Outcome(OutcomeCode.NEED, need_from=0)
        genesis = parse_genesis(run.entries[0], self._root)
        verify_tip(run, genesis.certificate.log_key)
        if len(self._logs.by_id) >= LOGS_MAX:
            raise TooManyLogs(f"more than {LOGS_MAX} logs at one venue")
        log = self._logs.open_log(run.log_id, run.entries[0], genesis)
        return self._store(log, run, parent=None)

    def _take_known(self, log: HeldLog, run: Run) -> Outcome:
        head = log.head_at(run.prev)
        if head is None:
            if not self._holds(log, run.first_seq - 1, run.prev):
                return Outcome(OutcomeCode.NEED, need_from=_start_again_from(log, run))
            return self._take_overlapping(log, run)
        verify_tip(run, log.certificate.log_key)
        return self._store(log, run, parent=head)

    def _take_overlapping(self, log: HeldLog, run: Run) -> Outcome:
        """The run follows something that has a successor already: a repetition, an overlap, or a fork."""
        known = self._known_count(log, run)
        if known == len(run.ids):
            return Outcome(OutcomeCode.ACCEPTED, known=known)
        verify_tip(run, log.certificate.log_key)
        new = run.tail(known)
        parent = log.head_at(new.prev)
        if parent is None:
            parent = self._fork(log, new)
        return self._store(log, new, parent=parent, known=known)

    def _fork(self, log: HeldLog, new: Run) -> Head:
        """A head for a second branch, standing where it leaves the first one."""
        if len(log.heads) >= BRANCHES_PER_LOG_MAX:
            raise TooManyBranches(
                f"it forked more than {BRANCHES_PER_LOG_MAX - 1} times; this branch stays where it is"
            )
        at = Position(new.first_seq - 1, new.prev)
        chain = self._logs.chain(log, at, 0)
        contents = self._read(
            log, [(seq, identifier, data) for seq, (identifier, data) in enumerate(chain)], self._root
        )
        verified = 0 if log.is_forked else min(log.heads[0].verified_up_to, new.first_seq)
        self.contest(log, new.first_seq)
        branch = 1 + max(head.branch for head in log.heads)
        return Head(branch, at, signed_sales_minor(fact for _, fact in contents.facts), verified)

    def _store(self, log: HeldLog, new: Run, *, parent: Head | None, known: int = 0) -> Outcome:
        """Store a run of which every entry is new, and move the head it follows over it."""
        places = zip(range(new.first_seq, new.last_seq + 1), new.ids, new.entries, strict=True)
        self._db.executemany(
            "INSERT INTO entry VALUES (?, ?, ?, ?)",
            [(log.number, seq, identifier, data) for seq, identifier, data in places],
        )
        contents = _sort_contents(log, new, self._root)
        self._write(log, contents)
        if self._logs.stand(log, new.first_seq, new.prev, list(new.ids)):
            self._touch_log(log, 0)
        head = parent if parent is not None else Head(0, Position(0, new.ids[0]), 0, 0)
        head.position = Position(new.last_seq, new.tip_id)
        head.sum_minor += signed_sales_minor(fact for _, fact in contents.facts)
        self._logs.advance(log, head, len(new.ids))
        return Outcome(OutcomeCode.ACCEPTED, stored=len(new.ids), known=known, set_aside=len(contents.set_aside))

    def _write(self, log: HeldLog, contents: _Contents) -> None:
        self._db.executemany(
            "INSERT INTO tap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (card, f.entry_id, f.consumed, f.written, f.tap_id, f.log, f.seq, f.amount_minor, f.operation)
                for card, f in contents.facts
            ],
        )
        self.dirty.update(card for card, _ in contents.facts)
        for tap_id, seq, identifier in contents.aborts:
            self._db.execute("INSERT INTO abort VALUES (?, ?, ?, ?)", (tap_id, log.number, seq, identifier))
            self.aborts.setdefault(tap_id, []).append(Abort(log.number, seq, identifier))
            self._touch_tap(tap_id)
        for statement in contents.statements:
            self._revoke(statement)
        for seq, identifier, reason in contents.set_aside:
            self.set_aside(log, seq, identifier, reason)

    def set_aside(self, log: HeldLog, seq: int, identifier: bytes, reason: str) -> None:
        """Name an entry that is kept and is not in order."""
        row = (log.number, seq, identifier, reason)
        self._db.execute("INSERT OR IGNORE INTO set_aside VALUES (?, ?, ?, ?)", row)

    def contest(self, log: HeldLog, from_seq: int) -> None:
        """A log forked at `from_seq`, or a signature there is bad below a verified one: its author's doing."""
        if self._logs.contest(log, from_seq):
            self._touch_log(log, from_seq)

    def _revoke(self, statement: Statement) -> None:
        """The authority's word is kept by itself, so that a start need not look for it among all entries."""
        self._db.execute("INSERT OR IGNORE INTO revocation VALUES (?)", (statement.body,))
        for log in self._logs.revoke(statement):
            self._touch_log(log, 0)

    def _touch_log(self, log: HeldLog, from_seq: int) -> None:
        """What counts of a log from here on has changed: the cards it concerns are booked anew."""
        place = (log.number, from_seq)
        self.dirty.update(
            card for (card,) in select(self._db, "SELECT card FROM tap WHERE log = ? AND seq >= ?", place)
        )
        for (tap_id,) in select(self._db, "SELECT tap_id FROM abort WHERE log = ? AND seq >= ?", place):
            self._touch_tap(tap_id)

    def _touch_tap(self, tap_id: bytes) -> None:
        rows = select(self._db, "SELECT card FROM tap WHERE tap_id = ?", (tap_id,))
        self.dirty.update(card for (card,) in rows)

    def _holds(self, log: HeldLog, seq: int, identifier: bytes) -> bool:
        if seq < 0:
            return True
        place = (log.number, seq, identifier)
        return bool(select(self._db, "SELECT 1 FROM entry WHERE log = ? AND seq = ? AND id = ?", place))

    def _known_count(self, log: HeldLog, run: Run) -> int:
        """How many of a run's entries are held; they are its first ones, because held chains are complete."""
        span = (log.number, run.first_seq, run.last_seq)
        rows = select(self._db, "SELECT id FROM entry WHERE log = ? AND seq BETWEEN ? AND ?", span)
        held = {identifier for (identifier,) in rows}
        return sum(identifier in held for identifier in run.ids)

    @staticmethod
    def _read(log: HeldLog, entries: list[tuple[int, bytes, bytes]], root: VenueRoot) -> _Contents:
        contents = _Contents()
        for seq, identifier, data in entries:
            entry = decode_entry(data)
            _sort_entry(log, contents, (seq, identifier), entry.kind, entry.body, root)
        return contents


def _sort_contents(log: HeldLog, run: Run, root: VenueRoot) -> _Contents:
    contents = _Contents()
    for fields, identifier in zip(run.fields, run.ids, strict=True):
        _sort_entry(log, contents, (fields[2], identifier), fields[5], fields[6], root)
    return contents


def _sort_entry(
    log: HeldLog, contents: _Contents, place: tuple[int, bytes], kind: int, body: bytes, root: VenueRoot
) -> None:
    seq, identifier = place
    if kind == Kind.REVOCATION and log.lane is Lane.CONTROL:
        try:
            contents.statements.append(parse_statement(body, root))
        except PeerError as error:
            contents.set_aside.append((seq, identifier, f"it revokes nobody: {error}"))
    elif kind == Kind.TAP:
        match read_tap(body, log.standing.author, entry_id=identifier, log=log.number, seq=seq):
            case CountedTap(card, fact):
                contents.facts.append((card, fact))
            case Refusal() as refusal:
                contents.set_aside.append((seq, identifier, refusal.value))
    elif kind == Kind.ABORT:
        try:
            contents.aborts.append((decode_abort(body).tap_id, seq, identifier))
        except PeerError:
            contents.set_aside.append((seq, identifier, Refusal.MALFORMED.value))


def _start_again_from(log: HeldLog, run: Run) -> int:
    """Where a sender should try next: right after what is held, or, on a branch unknown here, half way back."""
    highest = max(head.position.seq for head in log.heads)
    return highest + 1 if highest < run.first_seq - 1 else run.first_seq // 2
