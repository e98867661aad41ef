"""What the settlement service books for one card: a pure function of the set of signed taps. No I/O.

Lines are double entry: a positive amount is a debit, a negative one a credit, and the lines of one posting sum to zero.

| tap counted as | debit | credit |
|---|---|---|
| issue, top-up | top-up cash | card liability |
| sale | card liability | venue sales |
| contested issue, top-up | top-up cash | suspense |
| contested sale | suspense | venue sales: the bar is paid |
| debits beyond credits, chain known without holes | loss | card liability |
| debits beyond credits, entries of the chain missing | suspense | card liability: unknown is no accusation |

Which taps count is decided by the same code as on every reader: `mesh.views.tap_rules` and `mesh.views.card_account`.
A tap that its device aborted books nothing. The books of a card are made anew whenever anything about it arrives, so
the order of arrival cannot matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from mesh.core.chain import KnownHead
from mesh.core.kinds import Operation
from mesh.views.card_account import BLANK, CREDITS, Branches, TapFact, settle_card
from mesh.views.tap_rules import Author, undoes
from mesh.views.trust import TrustView


class Account(IntEnum):
    """The accounts of the ledger; the numbers are on disk."""

    CARD_LIABILITY = 1
    VENUE_SALES = 2
    TOP_UP_CASH = 3
    SUSPENSE = 4
    LOSS = 5


Lines: TypeAlias = dict[tuple[bytes, Account], int]
"""(posting(16), account) -> amount in the currency's minor unit. A posting is named by 16 bytes of an entry id."""


@dataclass(frozen=True, slots=True)
class LogStanding:
    """What the books need to know about a log: who writes it, and which of its entries count."""

    log_id: bytes
    author: Author
    known_heads: tuple[KnownHead, ...]
    trust: TrustView

    def is_contested(self, seq: int, entry_id: bytes) -> bool:
        return not self.trust.counts(self.log_id, seq, entry_id)


@dataclass(frozen=True, slots=True)
class Abort:
    """An ABORT entry, by place; `log` is the store's number of the log, `entry_id` its id or 16 bytes of it."""

    log: int
    seq: int
    entry_id: bytes


@dataclass(frozen=True, slots=True)
class CardBooks:
    """Everything the ledger says about one card."""

    lines: Lines
    conflicts: tuple[Branches, ...]


def book_card(
    card: bytes,
    facts: Sequence[TapFact],
    logs: Mapping[int, LogStanding],
    aborts: Mapping[bytes, Sequence[Abort]],
) -> CardBooks:
    """The books of one card from all its facts; `aborts` holds those with a tap id of this card."""
    aborted = {fact for fact in facts if _is_aborted(fact, aborts.get(fact.tap_id, ()), logs)}
    contested = {f for f in facts if logs[f.log].is_contested(f.seq, f.entry_id)}
    account = settle_card(facts, {fact.entry_id for fact in aborted | contested})
    lines: Lines = {}
    for fact in account.counted:
        _post(lines, fact, Account.CARD_LIABILITY)
    for fact in _contested_money(facts, account.counted, contested - aborted):
        _post(lines, fact, Account.SUSPENSE)
    if account.balance_minor < 0:
        # 8 bytes of card and 8 zeros: no entry id begins like that unless somebody inverts half of SHA-256.
        posting = card + bytes(16 - len(card))
        where = Account.SUSPENSE if _has_holes(facts) else Account.LOSS
        lines[posting, where] = -account.balance_minor
        lines[posting, Account.CARD_LIABILITY] = account.balance_minor
    return CardBooks(lines, account.conflicts)


def _post(lines: Lines, fact: TapFact, holder: Account) -> None:
    """Book one tap; `holder` is what stands for the attendee's money: the card, or suspense while contested."""
    amount = fact.amount_minor
    if fact.operation in CREDITS:
        lines[fact.entry_id, Account.TOP_UP_CASH] = amount
        lines[fact.entry_id, holder] = -amount
    else:
        lines[fact.entry_id, holder] = amount
        lines[fact.entry_id, Account.VENUE_SALES] = -amount


def _contested_money(
    facts: Iterable[TapFact], counted: Sequence[TapFact], contested: set[TapFact]
) -> tuple[TapFact, ...]:
    """Contested taps whose money is not posted yet: once per device and tap id and once per written record."""
    tap_ids = {(fact.author, fact.tap_id) for fact in counted}
    writes = {(fact.consumed, fact.written) for fact in counted}
    open_money = [
        fact
        for fact in facts
        if fact in contested
        and (fact.author, fact.tap_id) not in tap_ids
        and (fact.consumed, fact.written) not in writes
    ]
    return settle_card(open_money).counted


def _is_aborted(fact: TapFact, aborts: Iterable[Abort], logs: Mapping[int, LogStanding]) -> bool:
    return any(
        undoes(log, abort.seq, logs[fact.log], fact.seq) and not log.is_contested(abort.seq, abort.entry_id)
        for abort in aborts
        for log in (logs[abort.log],)
    )


def _has_holes(facts: Iterable[TapFact]) -> bool:
    """Whether some tap read a record whose writing is not known here."""
    facts = list(facts)
    written = {fact.written for fact in facts}
    return any(fact.consumed != BLANK and fact.consumed not in written for fact in facts)


def signed_sales_minor(facts: Iterable[TapFact]) -> int:
    """A receipt's sum: signed sales less signed voids, before the ledger judges them."""
    signs = {Operation.SALE: 1, Operation.VOID: -1}
    return sum(signs.get(Operation(fact.operation), 0) * fact.amount_minor for fact in facts)
