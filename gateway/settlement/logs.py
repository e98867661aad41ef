"""The logs a ledger holds: who writes them, their heads, and whether they are contested. Memory over the database.

Everything here is written through to the open transaction at once. If that transaction fails the process ends, so
memory and disk cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from gateway.settlement.database import select
from gateway.settlement.ledger import LogStanding
from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import Genesis, parse_genesis
from mesh.core.entry import NO_PREV, decode_entry
from mesh.core.frontier import Position
from mesh.core.kinds import Lane
from mesh.core.revocation import Statement, parse_statement
from mesh.errors import StorageError
from mesh.limits import ENTRY_SEQ_MAX
from mesh.views.tap_rules import author_of
from mesh.views.trust import TrustView


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
    lane: Lane
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


def prepare_revocations(db: apsw.Connection, *, read_only: bool) -> None:
    """Make the table of revocations where a ledger is older than it; one that is only looked at is not changed."""
    temporary = "TEMP " if read_only and not select(db, "SELECT 1 FROM sqlite_schema WHERE name = 'revocation'") else ""
    if temporary or not read_only:
        db.execute(f"CREATE {temporary}TABLE IF NOT EXISTS revocation (body BLOB PRIMARY KEY) WITHOUT ROWID")


class HeldLogs:
    """All logs of one ledger, by id and by number."""

    def __init__(self, db: apsw.Connection, root: VenueRoot) -> None:
        self._db = db
        self.trust = TrustView()
        """Which entries count. It is told the ids of a log's entries only once its device is revoked."""
        self.by_id: dict[bytes, HeldLog] = {}
        self.standings: dict[int, LogStanding] = {}
        self._changes = 0
        rows = select(db, "SELECT number, log_id, genesis, contested_from, entries, changed FROM log")
        for number, log_id, genesis, contested_from, entries, changed in rows:
            log = self._held_log(number, log_id, parse_genesis(genesis, root))
            log.entries = entries
            if contested_from is not None:
                self.trust.contest(log_id, contested_from)
            self._remember(log)
            self._changes = max(self._changes, changed)
        numbers = {log.number: log for log in self.by_id.values()}
        heads = select(db, "SELECT log, branch, seq, id, sum_minor, verified FROM head ORDER BY log, branch")
        for number, branch, seq, identifier, sum_minor, verified in heads:
            numbers[number].heads.append(Head(branch, Position(seq, identifier), sum_minor, verified))
        for (body,) in select(db, "SELECT body FROM revocation"):
            self.revoke(parse_statement(body, root))

    def open_log(self, log_id: bytes, genesis_entry: bytes, genesis: Genesis) -> HeldLog:
        """Begin to hold a log whose genesis and first run were checked."""
        self._changes += 1
        self._db.execute(
            "INSERT INTO log (log_id, genesis, entries, changed) VALUES (?, ?, 0, ?)",
            (log_id, genesis_entry, self._changes),
        )
        log = self._held_log(self._db.last_insert_rowid(), log_id, genesis)
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
        known = self.trust.contested_from(log.log_id)
        if known is not None and known <= from_seq:
            return False
        self.trust.contest(log.log_id, from_seq)
        self._db.execute("UPDATE log SET contested_from = ? WHERE number = ?", (from_seq, log.number))
        return True

    def stand(self, log: HeldLog, first_seq: int, prev: bytes, ids: list[bytes]) -> bool:
        """Entries were stored; True if other entries of the log may count or not count by that."""
        if log.certificate.serial not in self.trust.revocations:
            return False
        self.trust.hold(log.log_id, first_seq, prev, ids)
        return True

    def revoke(self, statement: Statement) -> list[HeldLog]:
        """Take in a checked statement of the authority; returns the logs whose entries it says something about."""
        known = statement.serial in self.trust.revocations
        self.trust.revoke(statement)
        logs = [log for log in self.by_id.values() if log.certificate.serial == statement.serial]
        for log in () if known else logs:
            for head in log.heads:
                chain = self.chain(log, head.position, 0)
                self.trust.hold(log.log_id, 0, NO_PREV, [identifier for identifier, _ in chain])
        return logs

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

    def _held_log(self, number: int, log_id: bytes, genesis: Genesis) -> HeldLog:
        self.trust.open_log(log_id, genesis.certificate.serial)
        standing = LogStanding(log_id, author_of(genesis.certificate), genesis.known_heads, self.trust)
        return HeldLog(number, genesis.certificate, genesis.lane, standing, 0, [])

    def _remember(self, log: HeldLog) -> None:
        self.by_id[log.log_id] = log
        self.standings[log.number] = log.standing


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
