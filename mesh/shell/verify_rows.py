"""Reading a store that may be damaged, row by row, as far as the file allows, without writing to it.

A file that no program has open (no write-ahead log beside it) is read as it lies there, also from a medium that cannot
be written to. Where SQLite cannot go on, rows are looked for by the index and by the table from both its ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from mesh.errors import StorageError
from mesh.shell.store import APPLICATION_ID, SCHEMA_VERSION

_BUSY_MS: Final = 5_000


class CannotOpen(StorageError):
    """The file cannot be read at all."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """One log of the file."""

    number: int
    log_id: bytes
    genesis: bytes


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One branch of a log; see `mesh.core.frontier.Branch`."""

    number: int
    from_seq: int
    prev: bytes
    attached: bool


@dataclass(frozen=True, slots=True)
class RunRow:
    """One stored run, undecoded."""

    branch: int
    first_seq: int
    last_seq: int
    tip: bytes
    blob: bytes


@dataclass(slots=True)
class Rows:
    """A file opened for looking. `unreadable` fills up with what SQLite could not read."""

    path: Path
    connection: apsw.Connection
    lies_still: bool
    """Read without locks because nothing had it open."""
    unreadable: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.connection.close()

    @property
    def disturbed(self) -> bool:
        """Some program opened the file while it was read as if none had."""
        return self.lies_still and _log_file(self.path).exists()

    def faults(self) -> Iterator[str]:
        """What SQLite's own check finds."""
        try:
            for (text,) in self.connection.execute("PRAGMA integrity_check(10)"):
                if text != "ok":
                    yield str(text)
        except apsw.Error as error:
            yield str(error)

    def entries(self) -> int | None:
        """How many entries the file says it has; None where that cannot be read."""
        try:
            row = self.connection.execute("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM run").fetchone()
        except apsw.Error:
            return None
        return row[0] if row is not None and type(row[0]) is int else None

    def logs(self) -> list[LogRow]:
        """Every log that can be read, in the order in which they came."""
        found: list[LogRow] = []
        for row in self._found("log", "number, log_id, genesis"):
            match row:
                case (int(number), bytes(log_id), bytes(genesis)):
                    found.append(LogRow(number, log_id, genesis))
                case _:
                    self.unreadable.append("a log's row has values that cannot be its own")
        return found

    def branches(self, log: int) -> list[BranchRow]:
        sql = "SELECT number, from_seq, prev, attached FROM branch WHERE log = ? ORDER BY number"
        found: list[BranchRow] = []
        for row in self._all(sql, log):
            match row:
                case (int(number), int(from_seq), bytes(prev), int(attached)):
                    found.append(BranchRow(number, from_seq, prev, bool(attached)))
                case _:
                    self.unreadable.append(f"a branch of log {log} has values that cannot be its own")
        return found

    def places(self) -> dict[int, list[tuple[int, int, int]]]:
        """Of each log the places of its runs: branch, first seq, number of the row; in order."""
        found: dict[int, list[tuple[int, int, int]]] = {}
        for row in self._found("run", "number, log, branch, first_seq", index="run_place"):
            match row:
                case (int(number), int(log), int(branch), int(first_seq)):
                    found.setdefault(log, []).append((branch, first_seq, number))
                case _:
                    self.unreadable.append("a run's row has values that cannot be its own")
        for places in found.values():
            places.sort()
        return found

    def run(self, number: int) -> RunRow | None:
        """One row, or None where the file does not give it."""
        sql = "SELECT branch, first_seq, last_seq, tip, entries FROM run WHERE number = ?"
        try:
            row = self.connection.execute(sql, (number,)).fetchone()
        except apsw.Error:
            return None
        match row:
            case (int(branch), int(first_seq), int(last_seq), bytes(tip), bytes(blob)):
                return RunRow(branch, first_seq, last_seq, tip, blob)
            case _:
                return None

    def evidence(self) -> list[tuple[bytes, bytes]]:
        """Stored cases."""
        found: list[tuple[bytes, bytes]] = []
        for row in self._all("SELECT digest, body FROM evidence"):
            match row:
                case (bytes(digest), bytes(body)):
                    found.append((digest, body))
                case _:
                    self.unreadable.append("a stored case has values that cannot be its own")
        return found

    def statements(self) -> list[bytes]:
        """Stored revocation statements; files of before there were any have no table for them."""
        found: list[bytes] = []
        if self._all("SELECT 1 FROM sqlite_schema WHERE name = 'statement'"):
            for row in self._all("SELECT body FROM statement"):
                match row:
                    case (bytes(body),):
                        found.append(body)
                    case _:
                        self.unreadable.append("a stored statement has values that cannot be its own")
        return found

    def _found(self, table: str, columns: str, index: str | None = None) -> list[tuple[object, ...]]:
        """Every row that any way of reading brings, by its number; a damaged page hides only what is on it."""
        by_number: dict[object, tuple[object, ...]] = {}
        hint = f" INDEXED BY {index}" if index else ""
        ways = (
            f"SELECT {columns} FROM {table}{hint}",
            f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY number",
            f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY number DESC",
        )
        for sql in ways:
            before = len(self.unreadable)
            for row in self._all(sql):
                by_number.setdefault(row[0], row)
            if len(self.unreadable) == before:
                break
        return [by_number[number] for number in sorted(by_number, key=_as_int)]

    def _all(self, sql: str, *values: int) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        try:
            rows.extend(self.connection.execute(sql, values))
        except apsw.Error as error:
            self.unreadable.append(f"a table cannot be read to its end ({error})")
        return rows


def open_rows(path: Path) -> Rows:
    """Open a store for looking, or raise :class:`CannotOpen`."""
    lies_still = not _log_file(path).exists()
    # A file with a write-ahead log is in use, or was when it was copied: then SQLite must read both.
    uri = f"file:{quote(str(path))}?{'immutable=1' if lies_still else 'psow=0'}"
    try:
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(_BUSY_MS)
        application = connection.execute("PRAGMA application_id").fetchone()
        version = connection.execute("PRAGMA user_version").fetchone()
    except apsw.Error as error:
        raise CannotOpen(
            f"{path} cannot be opened as a store ({error}). Nothing was changed. If it is a copy on a medium that "
            f"cannot be written to, copy it, with the -wal file beside it, to one that can"
        ) from error
    if application != (APPLICATION_ID,) or version != (SCHEMA_VERSION,):
        connection.close()
        raise CannotOpen(f"{path} is not a store that this program reads; nothing was changed")
    return Rows(path, connection, lies_still)


def _log_file(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _as_int(number: object) -> int:
    return number if type(number) is int else 0
