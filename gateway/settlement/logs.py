"""The logs a ledger holds: who writes them, their heads, and whether they are contested. Memory over the database.

Everything here is written through to the open transaction at once. If that transaction fails the process ends, so
memory and disk cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import apsw

from gateway.settlement.database import select
from gateway.settlement.ledger import LogStanding
from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import Genesis, parse_genesis
from mesh.core.entry import decode_entry
from mesh.core.frontier import Position
from mesh.errors import StorageError
from mesh.limits import ENTRY_SEQ_MAX
from mesh.views.tap_rules import author_of


@dataclass(slots=True)
class Head:
    """One head; `branch` is the store's number for it and stays when the head moves on."""

    branch: int
    position: Position
    sum_minor: int
    verified_up_to: int

    @property
    def is_verified(self) -> bool:
        return self.verified_up_to > self.position.seq


@dataclass(slots=True)
class HeldLog:
    """One log."""

    number: int
    certificate: DeviceCertificate
    standing: LogStanding
    entries: int
    heads: list[Head]

    @property
    def log_id(self) -> bytes:
        return self.standing.log_id

    @property
    def is_forked(self) -> bool:
        return len(self.heads) > 1

    def head_at(self, identifier: bytes) -> Head | None:
        return next((head for head in self.heads if head.position.id == identifier), None)


class HeldLogs:
    """All logs of one ledger, by id and by number."""

    def __init__(self, db: apsw.Connection, root: VenueRoot) -> None:
        self._db = db
        self.by_id: dict[bytes, HeldLog] = {}
        self.standings: dict[int, LogStanding] = {}
        self._changes = 0
        rows = select(db, "SELECT number, log_id, genesis, contested_from, entries, changed FROM log")
        for number, log_id, genesis, contested_from, entries, changed in rows:
            log = _held_log(number, log_id, parse_genesis(genesis, root))
            log.entries = entries
            log.standing = replace(log.standing, contested_from=contested_from)
            self._remember(log)
            self._changes = max(self._changes, changed)
        numbers = {log.number: log for log in self.by_id.values()}
        heads = select(db, "SELECT log, branch, seq, id, sum_minor, verified FROM head ORDER BY log, branch")
        for number, branch, seq, identifier, sum_minor, verified in heads:
            numbers[number].heads.append(Head(branch, Position(seq, identifier), sum_minor, verified))

    def open_log(self, log_id: bytes, genesis_entry: bytes, genesis: Genesis) -> HeldLog:
        """Begin to hold a log whose genesis and first run were checked."""
        self._changes += 1
        self._db.execute(
            "INSERT INTO log (log_id, genesis, entries, changed) VALUES (?, ?, 0, ?)",
            (log_id, genesis_entry, self._changes),
        )
        log = _held_log(self._db.last_insert_rowid(), log_id, genesis)
        self._remember(log)
        return log

    def advance(self, log: HeldLog, head: Head, new_entries: int) -> None:
        """Write a head that moved on, or a new one, after `new_entries` were stored."""
        if head not in log.heads:
            log.heads.append(head)
        log.entries += new_entries
        self.write_head(log, head)
        self.changed(log)

    def write_head(self, log: HeldLog, head: Head) -> None:
        row = (log.number, head.branch, head.position.seq, head.position.id, head.sum_minor, head.verified_up_to)
        self._db.execute("INSERT OR REPLACE INTO head VALUES (?, ?, ?, ?, ?, ?)", row)

    def changed(self, log: HeldLog) -> None:
        """Give the log's receipts a place at the end of the list of changes."""
        self._changes += 1
        self._db.execute(
            "UPDATE log SET entries = ?, changed = ? WHERE number = ?", (log.entries, self._changes, log.number)
        )

    def contest(self, log: HeldLog, from_seq: int) -> bool:
        """Contest a log from `from_seq` on; False if it was contested from there or earlier already."""
        if log.standing.is_contested(from_seq):
            return False
        log.standing = self.standings[log.number] = replace(log.standing, contested_from=from_seq)
        self._db.execute("UPDATE log SET contested_from = ? WHERE number = ?", (from_seq, log.number))
        return True

    def chain(
        self, log: HeldLog, tip: Position, first_seq: int, *, entries_max: int = ENTRY_SEQ_MAX
    ) -> list[tuple[bytes, bytes]]:
        """(id, entry) from `first_seq` towards `tip`, at most `entries_max`, along the one chain that ends there."""
        last_seq = tip.seq if log.is_forked else min(tip.seq, first_seq + entries_max - 1)
        rows = select(
            self._db,
            "SELECT id, data FROM entry WHERE log = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (log.number, first_seq, last_seq),
        )
        if not log.is_forked and len(rows) == last_seq - first_seq + 1:
            return rows
        by_id = dict(rows)
        backwards = list(_ancestors(by_id, tip.id, tip.seq - first_seq + 1))
        return backwards[::-1][:entries_max]

    def _remember(self, log: HeldLog) -> None:
        self.by_id[log.log_id] = log
        self.standings[log.number] = log.standing


def _held_log(number: int, log_id: bytes, genesis: Genesis) -> HeldLog:
    standing = LogStanding(log_id, author_of(genesis.certificate), genesis.known_heads, None)
    return HeldLog(number, genesis.certificate, standing, 0, [])


def _ancestors(by_id: dict[bytes, bytes], tip_id: bytes, count: int) -> Iterator[tuple[bytes, bytes]]:
    identifier = tip_id
    for _ in range(count):
        data = by_id.get(identifier)
        if data is None:
            raise StorageError(
                f"the ledger lacks entry {identifier.hex()}, which a later one follows: restore a backup"
            )
        yield identifier, data
        identifier = decode_entry(data).prev
