"""The ledger in SQLite: the reference implementation of :class:`gateway.settlement.store.LedgerStore`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw

from gateway.settlement.database import close, open_database, open_read_only, select, transaction
from gateway.settlement.intake import Intake
from gateway.settlement.ledger import Account, Lines, book_card
from gateway.settlement.logs import Head, HeldLog, HeldLogs, prepare_revocations
from gateway.settlement.store import (
    BookedConflict,
    Changes,
    ConflictTap,
    ContestedLog,
    HeadState,
    RevokedLog,
    SetAside,
    Totals,
    Unverified,
)
from gateway.settlement_api import LogHeads, OfferedRun, Outcome
from mesh.core.certificate import VenueRoot
from mesh.core.codec import decode_array, encode
from mesh.core.entry import entry_id
from mesh.core.kinds import Operation
from mesh.errors import StorageError
from mesh.views.card_account import Branches, TapFact

BAD_SIGNATURE: Final = "its signature does not verify, though a later entry vouches for it"


class SqliteLedger:
    """One open ledger. Not for two threads at once."""

    def __init__(
        self,
        path: Path,
        root: VenueRoot,
        *,
        vfs: str | None = None,
        read_only: bool = False,
        new_epoch: bool = False,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`random_bytes` names the life of a new database; with `new_epoch`, of an old one that begins another."""
        if read_only:
            self._db = open_read_only(path, root.venue_id)
        else:
            self._db = open_database(path, root.venue_id, vfs=vfs, new_epoch=new_epoch, random_bytes=random_bytes)
        try:
            self._epoch: bytes
            ((self._epoch,),) = select(self._db, "SELECT epoch FROM store")
            prepare_revocations(self._db, read_only=read_only)
            self._logs = HeldLogs(self._db, root)
            self._intake = Intake(self._db, root, self._logs)
        except (apsw.Error, StorageError) as error:
            close(self._db)
            raise StorageError(f"{path} cannot be read ({error}); it was left as it is") from error
        self._unverified = {
            (log.log_id, head.branch): None
            for log in self._logs.by_id.values()
            for head in log.heads
            if not head.is_verified
        }

    @property
    def epoch(self) -> bytes:
        return self._epoch

    def close(self) -> None:
        close(self._db)

    # -- Writing ---------------------------------------------------------------------------------------------------

    def accept(self, runs: Sequence[OfferedRun]) -> list[Outcome]:
        """One transaction: every run that keeps the rules is stored, and the cards it concerns are booked anew."""
        with transaction(self._db):
            outcomes = [self._intake.take(run) for run in runs]
            self._book_dirty_cards()
        for log_id in dict.fromkeys(run.log_id for run in runs):
            log = self._logs.by_id.get(log_id)
            for head in log.heads if log is not None else ():
                if not head.is_verified:
                    self._unverified[log_id, head.branch] = None
        return outcomes

    def mark_verified(self, work: Unverified, bad_seqs: Sequence[int]) -> None:
        log = self._logs.by_id[work.log_id]
        head = self._head(log, work.branch)
        with transaction(self._db):
            head.verified_up_to = max(head.verified_up_to, work.first_seq + len(work.entries))
            for seq in bad_seqs:
                identifier = entry_id(work.entries[seq - work.first_seq])
                self._intake.set_aside(log, seq, identifier, BAD_SIGNATURE)
                self._intake.contest(log, seq)
            self._logs.write_head(log, head)
            self._logs.changed(log)
            self._book_dirty_cards()
        if head.is_verified:
            del self._unverified[work.log_id, work.branch]

    def _book_dirty_cards(self) -> None:
        for card in self._intake.dirty:
            rows = select(
                self._db,
                "SELECT consumed, written, tap_id, entry_id, log, seq, amount_minor, operation FROM tap WHERE card = ?",
                (card,),
            )
            facts = [TapFact._make((*row, self._logs.standings[row[4]].author.key_id)) for row in rows]
            books = book_card(card, facts, self._logs.standings, self._intake.aborts)
            self._write_lines(card, books.lines)
            self._write_conflicts(card, books.conflicts)
        self._intake.dirty.clear()

    def _write_lines(self, card: bytes, lines: Lines) -> None:
        rows = select(self._db, "SELECT posting, account, amount_minor FROM line WHERE card = ?", (card,))
        held = {(posting, Account(account)): amount for posting, account, amount in rows}
        if gone := held.keys() - lines.keys():
            self._db.executemany(
                "DELETE FROM line WHERE card = ? AND posting = ? AND account = ?",
                [(card, posting, int(account)) for posting, account in gone],
            )
        self._db.executemany(
            "INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?)",
            [
                (card, posting, int(account), amount)
                for (posting, account), amount in lines.items()
                if held.get((posting, account)) != amount
            ],
        )

    def _write_conflicts(self, card: bytes, conflicts: Iterable[Branches]) -> None:
        self._db.execute("DELETE FROM conflict WHERE card = ?", (card,))
        for branches in conflicts:
            taps = [[fact.log, fact.seq, fact.operation, fact.amount_minor] for fact in branches.facts]
            row = (card, branches.consumed, branches.at_risk_minor, encode(taps))
            self._db.execute("INSERT INTO conflict VALUES (?, ?, ?, ?)", row)

    # -- Reading ---------------------------------------------------------------------------------------------------

    def heads(self) -> list[LogHeads]:
        logs = sorted(self._logs.by_id.values(), key=lambda log: log.log_id)
        return [LogHeads(log.log_id, tuple(sorted(head.position for head in log.heads))) for log in logs]

    def chains(self) -> Iterator[Unverified]:
        """Every chain from its genesis to each head of its log, whole."""
        for log in list(self._logs.by_id.values()):
            for head in log.heads:
                entries = tuple(data for _, data in self._logs.chain(log, head.position, 0))
                yield Unverified(log.log_id, head.branch, 0, entries, log.certificate.log_key)

    def head_states(self, log_ids: Sequence[bytes]) -> list[HeadState]:
        held = (self._logs.by_id.get(log_id) for log_id in dict.fromkeys(log_ids))
        return [state for log in held if log is not None for state in self._head_states(log)]

    def changes(self, since: int, heads_max: int) -> Changes:
        states: list[HeadState] = []
        rows = select(
            self._db,
            "SELECT log_id, changed FROM log WHERE changed > ? ORDER BY changed LIMIT ?",
            (since, heads_max + 1),
        )
        for log_id, changed in rows:
            if len(states) >= heads_max:
                return Changes(tuple(states), since, more=True)
            states += self._head_states(self._logs.by_id[log_id])
            since = changed
        return Changes(tuple(states), since, more=False)

    def _head_states(self, log: HeldLog) -> list[HeadState]:
        rows = select(self._db, "SELECT DISTINCT seq, id FROM set_aside WHERE log = ? ORDER BY seq", (log.number,))
        return [self._head_state(log, head, rows) for head in sorted(log.heads, key=lambda head: head.position)]

    def _head_state(self, log: HeldLog, head: Head, set_aside: Sequence[tuple[int, bytes]]) -> HeadState:
        ids = [identifier for _, identifier in set_aside]
        if ids and log.is_forked:
            on_chain = {identifier for identifier, _ in self._logs.chain(log, head.position, set_aside[0][0])}
            ids = [identifier for identifier in ids if identifier in on_chain]
        return HeadState(log.log_id, head.position, log.entries, head.sum_minor, head.verified_up_to, tuple(ids))

    def next_unverified(self, entries_max: int) -> Unverified | None:
        if not self._unverified:
            return None
        # To the end of the queue, so that a long log does not keep the others waiting.
        log_id, branch = next(iter(self._unverified))
        del self._unverified[log_id, branch]
        self._unverified[log_id, branch] = None
        log = self._logs.by_id[log_id]
        head = self._head(log, branch)
        chain = self._logs.chain(log, head.position, head.verified_up_to, entries_max=entries_max)
        entries = tuple(data for _, data in chain)
        return Unverified(log_id, branch, head.verified_up_to, entries, log.certificate.log_key)

    def totals(self) -> Totals:
        accounts = dict.fromkeys(Account, 0)
        for account, amount in select(self._db, "SELECT account, sum(amount_minor) FROM line GROUP BY account"):
            accounts[Account(account)] = amount
        ((entries,),) = select(self._db, "SELECT count(*) FROM entry")
        ((taps, cards),) = select(self._db, "SELECT count(*), count(DISTINCT card) FROM tap")
        logs = self._logs.by_id.values()
        unverified = sum(max(0, h.position.seq + 1 - h.verified_up_to) for log in logs for h in log.heads)
        return Totals(len(logs), entries, taps, cards, max(0, entries - unverified), accounts)

    def set_aside(self, limit: int) -> list[SetAside]:
        rows = select(
            self._db,
            "SELECT log_id, seq, id, reason FROM set_aside JOIN log ON log.number = set_aside.log "
            "ORDER BY log_id, seq, id, reason LIMIT ?",
            (limit,),
        )
        return [
            SetAside(log_id, self._logs.by_id[log_id].certificate.name, seq, identifier, reason)
            for log_id, seq, identifier, reason in rows
        ]

    def conflicts(self, limit: int) -> list[BookedConflict]:
        names = {log.number: log for log in self._logs.by_id.values()}
        found = []
        rows = select(self._db, "SELECT card, consumed, at_risk_minor, taps FROM conflict LIMIT ?", (limit,))
        for card, consumed, at_risk_minor, blob in rows:
            taps = tuple(_conflict_tap(item, names) for item in decode_array(blob, bytes_max=len(blob)))
            found.append(BookedConflict(card, consumed, at_risk_minor, taps))
        return found

    def contested_logs(self, limit: int) -> list[ContestedLog]:
        contested = [
            ContestedLog(log.log_id, log.certificate.name, from_seq, len(log.heads))
            for log in self._logs.by_id.values()
            if (from_seq := self._logs.trust.contested_from(log.log_id)) is not None
        ]
        return sorted(contested, key=lambda log: log.log_id)[:limit]

    def revoked_serials(self) -> frozenset[int]:
        return frozenset(self._logs.trust.revocations.serials())

    def revoked_logs(self, limit: int) -> list[RevokedLog]:
        trust = self._logs.trust
        revoked = [
            RevokedLog(
                log.log_id,
                log.certificate.name,
                trust.revocations.number(log.certificate.serial),
                trust.log_trust(log.log_id).counted_to,
            )
            for log in self._logs.by_id.values()
            if log.certificate.serial in trust.revocations
        ]
        return sorted(revoked, key=lambda log: log.log_id)[:limit]

    @staticmethod
    def _head(log: HeldLog, branch: int) -> Head:
        return next(head for head in log.heads if head.branch == branch)


def _conflict_tap(item: object, logs: dict[int, HeldLog]) -> ConflictTap:
    match item:
        case [int(log), int(seq), int(operation), int(amount_minor)]:
            held = logs[log]
            return ConflictTap(held.log_id, held.certificate.name, seq, Operation(operation), amount_minor)
        case _:
            raise StorageError("the ledger's list of conflicts is damaged: restore a backup")
