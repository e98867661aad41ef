"""Runs on disk: one SQLite file through APSW, spoken to in runs and never in rows of entries.

A device has two such files (DESIGN.md, "Store"):

* ``own.db``: its own logs, open intents, and what must survive anything. WAL, ``synchronous=FULL``, ``psow=0``: a
  commit that returned is on the flash, also with 4 KiB sectors.
* ``replica.db``: other devices' runs. WAL, ``synchronous=NORMAL``. It may be lost and is rebuilt from peers.

A run is stored as it travels (a CBOR sequence of entries), so that serving it again costs next to nothing. A failed
commit is a :class:`~mesh.errors.StorageError`: the process ends, because after it SQLite may show rows that were never
synced; the next opening truncates the WAL first and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import apsw

from mesh.core.chain import PackedRun, Run, encode_run, split_run
from mesh.core.entry import entry_id
from mesh.core.frontier import Branch, Position, Segment
from mesh.errors import LocalError, PeerError, StorageError
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from mesh.ports import Piece

OWN_FILE: Final = "own.db"
REPLICA_FILE: Final = "replica.db"
APPLICATION_ID: Final = 0x7461706D  # "tapm"
SCHEMA_VERSION: Final = 1
WAL_PAGES_MAX: Final = 4096
"""Pages in the WAL before a checkpoint: 16 MiB."""

_SCHEMA: Final = """
CREATE TABLE log (number INTEGER PRIMARY KEY, log_id BLOB NOT NULL UNIQUE, genesis BLOB NOT NULL);
CREATE TABLE branch (
    log INTEGER NOT NULL REFERENCES log, number INTEGER NOT NULL, from_seq INTEGER NOT NULL, prev BLOB NOT NULL,
    parent INTEGER, attached INTEGER NOT NULL, PRIMARY KEY (log, number)
) WITHOUT ROWID;
CREATE TABLE run (
    number INTEGER PRIMARY KEY, log INTEGER NOT NULL, branch INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL, tip BLOB NOT NULL, verified INTEGER NOT NULL, entries BLOB NOT NULL
);
CREATE UNIQUE INDEX run_place ON run (log, branch, first_seq);
CREATE INDEX run_unverified ON run (number) WHERE verified = 0;
CREATE TABLE intent (tap_id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE evidence (digest BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS statement (digest BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""
"""What version 1 has come to have since: programs that do not know it leave it alone, so the version stays."""

_INSERT_RUN: Final = "INSERT INTO run (log, branch, first_seq, last_seq, tip, verified, entries) VALUES "
_RUN_VALUES: Final = "(?, ?, ?, ?, ?, ?, ?)"
_ROWS_AT_ONCE: Final = 64

_Result = TypeVar("_Result")


class Durability(Enum):
    """What a commit that returned means."""

    POWER_CUT = "FULL"
    """It survives a power cut: own.db."""
    PROCESS = "NORMAL"
    """It survives the process; a power cut may take the newest commits: replica.db."""


class StoreDamaged(StorageError):
    """The file is not a store of ours, or its contents do not hold together."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One log as the store has it."""

    log_id: bytes
    genesis: bytes
    branches: list[Branch]


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One row: consecutive entries of one branch as they were accepted. `blob` is undecoded."""

    branch: int
    first_seq: int
    last_seq: int
    verified: bool
    blob: bytes


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Say whether a file is damaged, or whole on a disk that cannot be used now: an operator does different things."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreDamaged(f"{path} cannot be opened as a store ({error}); it was left as it is") from error
    except apsw.Error as error:
        raise StorageError(
            f"{path} cannot be opened ({error}). That is no sign of damage: nothing that it holds was lost. Check the "
            f"disk, its free space and who may write there, then start again"
        ) from error


class RunStore:
    """One file; implements `mesh.ports.Store`. Not for two threads at once; every method may block on the disk."""

    def __init__(self, path: Path, durability: Durability, *, vfs: str | None = None, read_only: bool = False) -> None:
        self.path = path
        self._numbers: dict[bytes, int] = {}
        self._branches_held: set[tuple[bytes, int]] = set()
        self._runs: list[tuple[object, ...]] = []
        """Runs of the open transaction. They are inserted together: to a thread each statement is a wait for the lock
        of the interpreter, and to the loop that holds it an interruption."""
        self._failed = False
        flags = apsw.SQLITE_OPEN_URI | (
            apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
        with _opening(path):
            self._db = apsw.Connection(f"file:{quote(str(path))}?psow=0", flags=flags, vfs=vfs)
        try:
            with _opening(path):
                self._db.set_busy_timeout(5_000)
                # Closing writes the log into the file: not before it is known to be ours, or it is not left as it was.
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                if not read_only:
                    self._prepare(durability)
                self._require_ours()
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, durability: Durability) -> None:
        tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        is_new = tables == (0,) and self._db.execute("PRAGMA user_version").fetchone() == (0,)
        if not is_new:
            # Before the journal mode is set: that writes to the file.
            self._require_ours()
        mode = self._db.execute("PRAGMA journal_mode=wal").fetchall()
        if mode != [("wal",)]:
            raise StorageError(f"{self.path}: this file system does not allow a write-ahead log ({mode[0][0]})")
        self._db.execute(f"PRAGMA synchronous={durability.value}")
        self._db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES_MAX}")
        # What a failed commit left behind must not be taken for durable: write everything out before anything else.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with self.transaction():
            if is_new:
                self._db.execute(_SCHEMA)
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            # Also where the version is there already. The truncation is not synced: after a power cut the old log would
            # be back, without what its failed sync had lost, and would put old pages over new ones. A commit that
            # writes makes it durable; one that finds everything done (`INSERT OR IGNORE`) does not.
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._db.execute(_ADDED)

    def _require_ours(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()
        ((version,),) = self._db.execute("PRAGMA user_version").fetchall()
        if application != (APPLICATION_ID,):
            raise StoreDamaged(f"{self.path} is not a store of this program; it was left as it is")
        if version != SCHEMA_VERSION:
            raise StoreDamaged(f"{self.path} has version {version}, this program reads {SCHEMA_VERSION}; left as it is")

    def sync(self) -> None:
        """Everything that was committed so far survives a power cut when this returns; else :class:`StorageError`.

        One commit that is synced takes the whole WAL before it along, through SQLite and its VFS. It is not a
        checkpoint: nothing is written twice for it.
        """
        try:
            self._db.execute("PRAGMA synchronous=FULL")
            with self.transaction():
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._db.execute("PRAGMA synchronous=NORMAL")
        except apsw.Error as error:
            raise StorageError(f"{self.path}: the disk refused a write ({error}); check the disk") from error

    def check(self) -> None:
        """Let SQLite look through the file, or raise :class:`StoreDamaged`; time grows with its size."""
        faults = [row[0] for row in self._execute("PRAGMA quick_check(3)") if row[0] != "ok"]
        if faults:
            raise StoreDamaged(f"{self.path} is damaged ({'; '.join(map(str, faults))}); it was left as it is")

    def close(self) -> None:
        try:
            self._db.close()
        except apsw.Error as error:
            raise StorageError(
                f"{self.path} could not be closed ({error}). What was committed is on the disk; the store is checked "
                f"when this program starts again"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is durable together when this returns, or :class:`StorageError`: end the process.

        After one that failed nothing more is written here, whoever still tries while the process ends: what follows a
        lost run would leave a hole, and what repeats it could be taken for durable.
        """
        if self._failed:
            raise StorageError(
                f"{self.path}: an earlier write failed, so this program writes nothing more and is ending"
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except LocalError:
                self._forget_transaction()
                self._db.execute("ROLLBACK")
                raise
            self._insert_runs()
            self._db.execute("COMMIT")
        except apsw.Error as error:
            self._failed = True
            raise StorageError(
                f"{self.path}: the disk refused a write ({error}). Nothing that was shown as done is lost; this "
                f"program ends now and checks the store when it starts again"
            ) from error

    def _insert_runs(self) -> None:
        rows, self._runs = self._runs, []
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[at : at + _ROWS_AT_ONCE]
            self._db.execute(
                _INSERT_RUN + ", ".join([_RUN_VALUES] * len(part)), [value for row in part for value in row]
            )

    def _forget_transaction(self) -> None:
        self._runs.clear()
        self._numbers.clear()
        self._branches_held.clear()

    def _execute(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[object, ...]]:
        # Not inside: a write that fails here is the transaction's to report, which then writes nothing more.
        self._insert_runs()
        try:
            yield from self._db.execute(sql, tuple(values))
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreDamaged(f"{self.path} is damaged ({error}); it was left as it is") from error
        except apsw.Error as error:
            raise StorageError(f"{self.path}: the disk refused a read ({error}); check the disk") from error

    # -- Writing (inside a transaction) ----------------------------------------------------------------------------

    def add_log(self, log_id: bytes, genesis: bytes) -> None:
        self._db.execute("INSERT OR IGNORE INTO log (log_id, genesis) VALUES (?, ?)", (log_id, genesis))

    def add_branch(
        self, log_id: bytes, number: int, from_seq: int, prev: bytes, *, parent: int | None, attached: bool
    ) -> None:
        if (log_id, number) not in self._branches_held:
            row = (self._log(log_id), number, from_seq, prev, parent, attached)
            self._db.execute("INSERT OR IGNORE INTO branch VALUES (?, ?, ?, ?, ?, ?)", row)
            self._branches_held.add((log_id, number))

    def append_run(self, run: Run | PackedRun, branch: int, *, verified: bool) -> None:
        """Store a run that follows what the branch holds. `verified` says that every signature in it was checked."""
        log = self._log(run.log_id)
        self._runs.append((log, branch, run.first_seq, run.last_seq, run.tip_id, verified, run.blob))

    def relabel(self, log_id: bytes, branch: int, into: int) -> None:
        """An island was joined to branch `into`."""
        log = self._log(log_id)
        self._insert_runs()
        self._branches_held.discard((log_id, branch))
        self._db.execute("UPDATE run SET branch = ? WHERE log = ? AND branch = ?", (into, log, branch))
        self._db.execute("DELETE FROM branch WHERE log = ? AND number = ?", (log, branch))

    def attach(self, log_id: bytes, branch: int, parent: int) -> None:
        """An island turned out to hang from `parent`."""
        row = (parent, self._log(log_id), branch)
        self._db.execute("UPDATE branch SET attached = 1, parent = ? WHERE log = ? AND number = ?", row)

    def mark_verified(self, numbers: Sequence[int]) -> None:
        """Every signature in these runs has been checked."""
        self._insert_runs()
        self._db.executemany("UPDATE run SET verified = 1 WHERE number = ?", [(number,) for number in numbers])

    def _log(self, log_id: bytes) -> int:
        number = self._numbers.get(log_id)
        if number is None:
            row = next(self._execute("SELECT number FROM log WHERE log_id = ?", (log_id,)), None)
            if row is None:
                raise LocalError(f"log {log_id.hex()} is not in {self.path}")
            (found,) = row
            assert isinstance(found, int)
            number = self._numbers[log_id] = found
        return number

    # -- Reading ---------------------------------------------------------------------------------------------------

    def logs(self) -> list[StoredLog]:
        """Every log, with its branches and the ids of their newest entries, without reading entries."""
        found = []
        for number, log_id, genesis in list(self._execute("SELECT number, log_id, genesis FROM log ORDER BY number")):
            assert isinstance(number, int) and isinstance(log_id, bytes) and isinstance(genesis, bytes)
            branches = [branch for branch in self._branches(number) if branch.tips]
            if branches:
                found.append(StoredLog(log_id, genesis, branches))
        return found

    def _branches(self, log: int) -> Iterator[Branch]:
        rows = list(self._execute("SELECT number, from_seq, prev, parent, attached FROM branch WHERE log = ?", (log,)))
        for number, from_seq, prev, parent, attached in rows:
            assert isinstance(number, int) and isinstance(from_seq, int) and isinstance(prev, bytes)
            assert parent is None or isinstance(parent, int)
            sql = "SELECT last_seq, tip FROM run WHERE log = ? AND branch = ? ORDER BY first_seq"
            tips = []
            for seq, tip in self._execute(sql, (log, number)):
                assert isinstance(seq, int) and isinstance(tip, bytes)
                tips.append(Position(seq, tip))
            first = self._first_id(log, number)
            if tips and first is not None and tips[0].seq != from_seq:
                tips.insert(0, Position(from_seq, first))
            head = tips[-1] if tips else Position(from_seq, prev)
            yield Branch(number, from_seq, prev, head, parent, bool(attached), tips)

    def _first_id(self, log: int, branch: int) -> bytes | None:
        sql = (
            "SELECT last_seq - first_seq + 1, entries FROM run WHERE log = ? AND branch = ? ORDER BY first_seq LIMIT 1"
        )
        for count, blob in self._execute(sql, (log, branch)):
            assert isinstance(count, int) and isinstance(blob, bytes)
            try:
                return entry_id(split_run(count, blob)[0])
            except PeerError as error:
                raise StoreDamaged(f"{self.path} holds a run that is none ({error}); it was left as it is") from error
        return None

    def read_run(self, log_id: bytes, segment: Segment) -> Piece | None:
        """As many whole runs from `segment.first_seq` on as fit one frame; None where nothing is left.

        A piece ends where a stored run ends (its last signature was verified), or at the segment's end.
        """
        sql = (
            "SELECT first_seq, last_seq, entries FROM run WHERE log = ? AND branch = ? AND last_seq >= ? "
            "AND first_seq <= ? ORDER BY first_seq"
        )
        values = (self._log(log_id), segment.branch, segment.first_seq, segment.last_seq)
        blobs: list[bytes] = []
        count, size, next_seq, cut = 0, 0, segment.first_seq, False
        for first, run_last, stored in self._execute(sql, values):
            assert isinstance(first, int) and isinstance(run_last, int) and isinstance(stored, bytes)
            last, blob = min(run_last, segment.last_seq), stored
            if first < segment.first_seq or run_last > segment.last_seq:
                entries = split_run(run_last - first + 1, stored)
                blob = encode_run(entries[max(0, segment.first_seq - first) : last - first + 1])
            added = last - next_seq + 1
            if count and (count + added > RUN_ENTRIES_MAX or size + len(blob) > RUN_BYTES_MAX):
                break
            blobs.append(blob)
            count, size, next_seq, cut = count + added, size + len(blob), last + 1, last < run_last
        return Piece(count, b"".join(blobs), next_seq, cut) if count else None

    def read_entries(self, log_id: bytes, segment: Segment) -> list[bytes]:
        """The raw entries of one segment."""
        entries: list[bytes] = []
        while segment.first_seq <= segment.last_seq:
            piece = self.read_run(log_id, segment)
            if piece is None:
                raise StoreDamaged(
                    f"{self.path}: log {log_id.hex()} lacks seq {segment.first_seq}, which it should hold"
                )
            entries += split_run(piece.count, piece.blob)
            segment = Segment(segment.branch, piece.next_seq, segment.last_seq)
        return entries

    def read_at(self, log_id: bytes, seq: int) -> list[bytes]:
        """Every entry held at one seq of a log, in whatever branches: one, or several where the log forked."""
        sql = "SELECT first_seq, last_seq, entries FROM run WHERE log = ? AND first_seq <= ? AND last_seq >= ?"
        found: list[bytes] = []
        for first, last, blob in self._execute(sql, (self._log(log_id), seq, seq)):
            assert isinstance(first, int) and isinstance(last, int) and isinstance(blob, bytes)
            found.append(split_run(last - first + 1, blob)[seq - first])
        return found

    def locate(self, log_id: bytes, segments: Sequence[Segment], locator: Sequence[Position]) -> Position | None:
        """The first position of `locator` that lies on the chain of `segments`.

        A branch may have been joined to another since the segments were named: what is gone by now is passed over.
        """
        for position in locator:
            for segment in segments:
                if segment.first_seq <= position.seq <= segment.last_seq:
                    piece = self.read_run(log_id, Segment(segment.branch, position.seq, position.seq))
                    if piece is not None and entry_id(split_run(piece.count, piece.blob)[0]) == position.id:
                        return position
        return None

    def measure(self, log_id: bytes, segments: Sequence[Segment]) -> int:
        """About how many bytes the entries of these segments have."""
        sql = (
            "SELECT coalesce(sum(length(entries)), 0) FROM run WHERE log = ? AND branch = ? AND last_seq >= ? "
            "AND first_seq <= ?"
        )
        total = 0
        for segment in segments:
            for (size,) in self._execute(sql, (self._log(log_id), segment.branch, segment.first_seq, segment.last_seq)):
                assert isinstance(size, int)
                total += size
        return total

    def size(self) -> tuple[int, int]:
        """How many entries all logs here have together, and how many bytes."""
        sql = "SELECT coalesce(sum(last_seq - first_seq + 1), 0), coalesce(sum(length(entries)), 0) FROM run"
        ((entries, size),) = self._execute(sql)
        assert isinstance(entries, int) and isinstance(size, int)
        return entries, size

    def log_size(self, log_id: bytes) -> tuple[int, int]:
        """Bytes of one log, and how many of its entries lie in runs whose signatures were not all checked yet."""
        sql = (
            "SELECT coalesce(sum(length(entries)), 0), coalesce(sum((last_seq - first_seq + 1) * (verified = 0)), 0) "
            "FROM run WHERE log = ?"
        )
        ((size, unverified),) = self._execute(sql, (self._log(log_id),))
        assert isinstance(size, int) and isinstance(unverified, int)
        return size, unverified

    def stored_runs(self, log_id: bytes) -> Iterator[StoredRun]:
        """Every row of a log, branch by branch, for looking at what is there."""
        sql = "SELECT branch, first_seq, last_seq, verified, entries FROM run WHERE log = ? ORDER BY branch, first_seq"
        for branch, first, last, verified, blob in self._execute(sql, (self._log(log_id),)):
            assert isinstance(branch, int) and isinstance(first, int) and isinstance(last, int)
            assert isinstance(blob, bytes)
            yield StoredRun(branch, first, last, bool(verified), blob)

    def runs(self, log_id: bytes) -> Iterator[list[bytes]]:
        """The entries of every stored run of a log, branch by branch, for folding views again."""
        sql = "SELECT last_seq - first_seq + 1, entries FROM run WHERE log = ? ORDER BY branch, first_seq"
        for count, blob in self._execute(sql, (self._log(log_id),)):
            assert isinstance(count, int) and isinstance(blob, bytes)
            yield split_run(count, blob)

    def unverified_entries(self) -> int:
        """How many entries lie in runs whose signatures were not all checked yet."""
        (row,) = self._execute("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM run WHERE verified = 0")
        (count,) = row
        assert isinstance(count, int)
        return count

    def unverified(self, after: int, limit: int) -> list[tuple[int, bytes, list[bytes]]]:
        """Up to `limit` runs past number `after` whose signatures were not all checked: number, log id, entries."""
        sql = (
            "SELECT run.number, log_id, last_seq - first_seq + 1, entries FROM run JOIN log ON log.number = run.log "
            "WHERE verified = 0 AND run.number > ? ORDER BY run.number LIMIT ?"
        )
        found = []
        for number, log_id, count, blob in self._execute(sql, (after, limit)):
            assert isinstance(number, int) and isinstance(log_id, bytes)
            assert isinstance(count, int) and isinstance(blob, bytes)
            found.append((number, log_id, split_run(count, blob)))
        return found

    # -- Intents and evidence (own.db) -----------------------------------------------------------------------------

    def put_intent(self, tap_id: bytes, body: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO intent VALUES (?, ?)", (tap_id, body))

    def drop_intent(self, tap_id: bytes) -> None:
        self._db.execute("DELETE FROM intent WHERE tap_id = ?", (tap_id,))

    def intents(self) -> list[tuple[bytes, bytes]]:
        """Open intents: tap id and body."""
        return self._pairs("SELECT tap_id, body FROM intent ORDER BY tap_id")

    def put_evidence(self, digest: bytes, body: bytes) -> None:
        """Keep a case (two signed taps) that holds a card, whatever becomes of replica.db."""
        self._db.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?)", (digest, body))

    def evidence(self) -> list[tuple[bytes, bytes]]:
        return self._pairs("SELECT digest, body FROM evidence ORDER BY digest")

    def put_statement(self, digest: bytes, body: bytes) -> None:
        """Keep a revocation of the authority, whatever becomes of replica.db."""
        self._db.execute("INSERT OR IGNORE INTO statement VALUES (?, ?)", (digest, body))

    def statements(self) -> list[tuple[bytes, bytes]]:
        if not list(self._execute("SELECT 1 FROM sqlite_schema WHERE name = 'statement'")):
            return []  # a file that was written before there were any, and is only looked at
        return self._pairs("SELECT digest, body FROM statement ORDER BY digest")

    def _pairs(self, sql: str) -> list[tuple[bytes, bytes]]:
        found = []
        for key, body in self._execute(sql):
            assert isinstance(key, bytes) and isinstance(body, bytes)
            found.append((key, body))
        return found

    def in_transaction(self, work: Callable[[], _Result]) -> _Result:
        """Run `work` in one transaction; for handing to a thread."""
        with self.transaction():
            return work()
