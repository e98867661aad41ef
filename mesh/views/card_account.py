"""What a set of signed taps means for one card: its account, and the conflicts that hold it.

Everything here is a pure function of the *set* of facts: order, duplicates and arrival path cannot matter.

* Money posts once per tap id of one device; of several such entries the one with the smallest entry id is counted.
  Another device that signs under a known tap id displaces nothing: tap ids are each device's own.
* Money posts once per written card record: another tap id for the same write is the same write.
* A tap that its own device aborted later is not counted (same log, or a log whose genesis knew of it).
* Facts from contested entries (a forked log from the fork on, a revoked device's log outside its cut) are kept and
  listed, and debit nobody.
* A *conflict* is two counted taps that consumed one record and wrote different ones. It holds the card.
* account = credits minus debits over all branches: the venue's recorded ledger decides, not what the card shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mesh.core.kinds import Operation

HASH_PREFIX_BYTES: Final = 16
BLANK: Final = bytes(HASH_PREFIX_BYTES)
"""What an issuing tap consumes: a card without a record. So two issues of one card are a conflict like any other."""

CREDITS: Final[frozenset[int]] = frozenset({Operation.ISSUE, Operation.TOP_UP, Operation.VOID, Operation.REISSUE})


class TapFact(NamedTuple):
    """One well-formed, authorised tap, as far as accounts care. Hashes are the first 16 bytes of SHA-256."""

    consumed: bytes
    written: bytes
    tap_id: bytes
    entry_id: bytes
    log: int
    seq: int
    amount_minor: int
    operation: int
    author: bytes
    """Key id (4 bytes) of the device that signed it."""

    @property
    def delta_minor(self) -> int:
        """What it does to the card's account: positive for credits, negative for debits."""
        return self.amount_minor if self.operation in CREDITS else -self.amount_minor


@dataclass(frozen=True, slots=True)
class Branches:
    """Facts that consumed one record and wrote different ones; `totals_minor` are the debits along each branch."""

    consumed: bytes
    facts: tuple[TapFact, ...]
    totals_minor: tuple[int, ...]

    @property
    def at_risk_minor(self) -> int:
        """At most this much was spent by a copy: every branch but the smallest."""
        return sum(self.totals_minor) - min(self.totals_minor)


@dataclass(frozen=True, slots=True)
class CardAccount:
    """The venue's ledger of one card."""

    balance_minor: int
    counted: tuple[TapFact, ...]
    uncounted: tuple[TapFact, ...]
    """Contested, aborted, or a second entry for money already posted."""
    conflicts: tuple[Branches, ...]


def settle_card(facts: Iterable[TapFact], not_counted: Collection[bytes] = frozenset()) -> CardAccount:
    """Fold the facts of one card; `not_counted` has the entry ids of those that are contested or aborted."""
    ordered = sorted(set(facts), key=lambda fact: fact.entry_id)
    counted: list[TapFact] = []
    uncounted: list[TapFact] = []
    tap_ids: set[tuple[bytes, bytes]] = set()
    writes: set[tuple[bytes, bytes]] = set()
    for fact in ordered:
        write = (fact.consumed, fact.written)
        tap_id = (fact.author, fact.tap_id)
        if fact.entry_id in not_counted or tap_id in tap_ids or write in writes:
            uncounted.append(fact)
            continue
        tap_ids.add(tap_id)
        writes.add(write)
        counted.append(fact)
    balance = sum(fact.delta_minor for fact in counted)
    return CardAccount(balance, tuple(counted), tuple(uncounted), tuple(_conflicts(counted)))


def _conflicts(counted: list[TapFact]) -> list[Branches]:
    children: defaultdict[bytes, list[TapFact]] = defaultdict(list)
    for fact in counted:
        children[fact.consumed].append(fact)
    found = []
    for consumed, facts in sorted(children.items()):
        if len(facts) > 1:
            totals = tuple(_debits_along(fact, children) for fact in facts)
            found.append(Branches(consumed, tuple(facts), totals))
    return found


def _debits_along(start: TapFact, children: dict[bytes, list[TapFact]]) -> int:
    """Debits of a branch: its first tap and everything that descends from it, each record visited once."""
    total, pending, visited = 0, [start], {start.consumed}
    while pending:
        fact = pending.pop()
        total += max(0, -fact.delta_minor)
        if fact.written not in visited:
            visited.add(fact.written)
            pending.extend(children.get(fact.written, ()))
    return total
