"""The settlement service's SQLite file: how it is opened so that a commit that returned is on the disk.

WAL with ``synchronous=FULL`` and ``psow=0`` (4 KiB flash sectors tear neighbours); the answer of ``journal_mode`` is
read; the WAL is written out and truncated at every opening, because after a failed commit SQLite may show rows that
were never synced. Any error of a transaction is a :class:`StorageError`: the process ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw

from mesh.core.receipt import STORE_EPOCH_BYTES
from mesh.errors import LocalError, StorageError

DATABASE_FILE: Final = "settlement.db"
APPLICATION_ID: Final = 0x74617073  # "taps"
SCHEMA_VERSION: Final = 1
BUSY_MS: Final = 5_000
WAL_PAGES_MAX: Final = 4096
"""Pages in the WAL before a checkpoint: 16 MiB."""

_SCHEMA: Final = """
CREATE TABLE store (epoch BLOB NOT NULL, venue_id BLOB NOT NULL);
CREATE TABLE log (
    number INTEGER PRIMARY KEY, log_id BLOB NOT NULL UNIQUE, genesis BLOB NOT NULL, contested_from INTEGER,
    entries INTEGER NOT NULL, changed INTEGER NOT NULL
);
CREATE UNIQUE INDEX log_changed ON log (changed);
CREATE TABLE head (
    log INTEGER NOT NULL, branch INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, sum_minor INTEGER NOT NULL,
    verified INTEGER NOT NULL, PRIMARY KEY (log, branch)
) WITHOUT ROWID;
CREATE TABLE entry (
    log INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (log, seq, id)
) WITHOUT ROWID;
CREATE TABLE tap (
    card BLOB NOT NULL, entry_id BLOB NOT NULL, consumed BLOB NOT NULL, written BLOB NOT NULL, tap_id BLOB NOT NULL,
    log INTEGER NOT NULL, seq INTEGER NOT NULL, amount_minor INTEGER NOT NULL, operation INTEGER NOT NULL,
    PRIMARY KEY (card, entry_id)
) WITHOUT ROWID;
CREATE INDEX tap_by_id ON tap (tap_id);
CREATE TABLE abort (
    tap_id BLOB NOT NULL, log INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL,
    PRIMARY KEY (tap_id, log, seq, id)
) WITHOUT ROWID;
CREATE TABLE line (
    card BLOB NOT NULL, posting BLOB NOT NULL, account INTEGER NOT NULL, amount_minor INTEGER NOT NULL,
    PRIMARY KEY (card, posting, account)
) WITHOUT ROWID;
CREATE TABLE conflict (
    card BLOB NOT NULL, consumed BLOB NOT NULL, at_risk_minor INTEGER NOT NULL, taps BLOB NOT NULL,
    PRIMARY KEY (card, consumed)
) WITHOUT ROWID;
CREATE TABLE set_aside (
    log INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (log, seq, id, reason)
) WITHOUT ROWID;
"""


class LedgerDamaged(StorageError):
    """The file is not a ledger of ours, or its contents do not hold together."""


class WrongVenue(LocalError):
    """The ledger in this directory belongs to another venue."""


def open_database(
    path: Path,
    venue_id: bytes,
    *,
    vfs: str | None = None,
    new_epoch: bool = False,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> apsw.Connection:
    """Open or create the ledger for writing.

    `new_epoch` starts another life of the database, as is due after a backup was restored: gateways then compare
    everything again. Raises :class:`LedgerDamaged`, :class:`WrongVenue` or :class:`StorageError`.
    """
    flags = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    with _opened(path, flags, vfs) as db:
        if not _is_empty(db):
            # Before the journal mode is set: that writes to the file.
            _require_ours(db, path, venue_id)
        _prepare(db, path, venue_id, random_bytes(STORE_EPOCH_BYTES))
        if new_epoch:
            with transaction(db):
                db.execute("UPDATE store SET epoch = ?", (random_bytes(STORE_EPOCH_BYTES),))
        return db


def open_read_only(path: Path, venue_id: bytes) -> apsw.Connection:
    """Open a ledger to look at it, also while the service runs."""
    if not path.exists():
        raise LocalError(f"there is no ledger at {path}: no settlement service has run there")
    with _opened(path, apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READONLY, None) as db:
        _require_ours(db, path, venue_id)
        return db


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Everything inside is durable together when this returns, or :class:`StorageError`: end the process.

    After one that failed the connection is closed: whoever still posts while the process ends is refused.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except apsw.Error as error:
        with suppress(apsw.Error):
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.close()
        raise StorageError(
            f"the ledger could not be written ({error}). Nothing was acknowledged, and the gateways still hold every "
            f"sale: check disk and space, then start the service again"
        ) from error


def close(db: apsw.Connection) -> None:
    """Let go of the file."""
    try:
        db.close()
    except apsw.Error as error:
        raise StorageError(
            f"the ledger could not be closed ({error}). What was acknowledged is on the disk, and is checked when the "
            f"service starts again"
        ) from error


def select(db: apsw.Connection, query: str, values: tuple[apsw.SQLiteValue, ...] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query. What their columns hold is said by the schema above."""
    try:
        return db.execute(query, values).fetchall()
    except apsw.Error as error:
        raise StorageError(f"the ledger could not be read ({error}): check the disk, then start again") from error


@contextmanager
def _opened(path: Path, flags: int, vfs: str | None) -> Iterator[apsw.Connection]:
    """A connection that is closed again, without a trace in the file, if anything in the block goes wrong."""
    with _blamed(path):
        db = apsw.Connection(f"file:{quote(str(path))}?psow=0", flags=flags, vfs=vfs)
        try:
            db.set_busy_timeout(BUSY_MS)
            # Closing writes the log into the file: not before it is known to be ours, or it is not left as it was.
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            yield db
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        except BaseException:
            with suppress(apsw.Error):
                db.close()
            raise


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Say whether a ledger is damaged, or whole on a disk that cannot be used now: one needs a backup, one does not."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise LedgerDamaged(f"{path} cannot be opened as a ledger ({error}); it was left as it is") from error
    except apsw.Error as error:
        raise StorageError(
            f"{path} cannot be opened ({error}). That is no sign of damage: every receipt that was given still holds. "
            f"Check the disk, its free space and who may write there, then start the service again"
        ) from error


def _prepare(db: apsw.Connection, path: Path, venue_id: bytes, epoch: bytes) -> None:
    is_new = _is_empty(db)
    mode = db.execute("PRAGMA journal_mode=wal").fetchall()
    if mode != [("wal",)]:
        raise StorageError(f"{path}: this file system does not allow a write-ahead log ({mode[0][0]})")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES_MAX}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with transaction(db):
        if is_new:
            db.execute(_SCHEMA)
            db.execute("INSERT INTO store VALUES (?, ?)", (epoch, venue_id))
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        # Also where it is there already. The truncation is not synced: after a power cut the old log would be back,
        # without what its failed sync had lost, and a batch that was answered as known would be gone. A commit that
        # writes makes the truncation durable before anything is answered.
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _is_empty(db: apsw.Connection) -> bool:
    return db.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]


def _require_ours(db: apsw.Connection, path: Path, venue_id: bytes) -> None:
    application = db.execute("PRAGMA application_id").fetchall()
    version = db.execute("PRAGMA user_version").fetchall()
    if application != [(APPLICATION_ID,)]:
        raise LedgerDamaged(f"{path} is not a ledger of this program; it was left as it is")
    if version != [(SCHEMA_VERSION,)]:
        raise LedgerDamaged(f"{path} has version {version[0][0]}, this program reads {SCHEMA_VERSION}; left as it is")
    if db.execute("SELECT venue_id FROM store").fetchall() != [(venue_id,)]:
        raise WrongVenue(f"{path} is the ledger of another venue; nothing was changed. Give another directory")
