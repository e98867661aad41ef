"""Holes in a card's chain of records: what was written between two records that are known, and by nobody that is held.

A card counts its writes (`seq`) and carries two running sums: its balance, and everything that was ever spent from it.
So whatever happened between two of its records is known in total, even where every entry about it is lost::

    spent = difference of offline_spent        credited = difference of balance + spent

Rules, a pure function of the set of records:

* A hole of one write lies between a record and the one that its `parent` names: its amount is exact.
* A hole of several writes ends at the known record of that card with the highest seq below: its total is exact. Which
  of those writes was how much, and whose all but the last were, no record says.
* Where the records do not lie on one line (the card was copied, or somebody lied) the hole is *unclear*: no amount.
* A reader that lies about a card can so spoil a hole of several writes; one of a single write is bound by hashes.
* What was written after the last known record of a card leaves no hole. It cannot be known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from mesh.views.card_account import HASH_PREFIX_BYTES
from mesh.views.card_record import NO_PARENT, CardRecord, record_hash


class KnownRecord(NamedTuple):
    """A record of a card that is known to have been written. `hash` is its first 16 bytes."""

    hash: bytes
    seq: int
    balance: int
    spent: int
    parent: bytes


BLANK_CARD: Final = KnownRecord(bytes(HASH_PREFIX_BYTES), 0, 0, 0, NO_PARENT)
"""What every card is before its first record."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive writes of one card, `first_seq` to `last_seq`, that no entry tells of; amounts in minor units."""

    first_seq: int
    last_seq: int
    spent_minor: int | None
    """None where the records contradict each other; then only the last of the writes is certain."""
    credited_minor: int | None

    @property
    def writes(self) -> int:
        return self.last_seq - self.first_seq + 1


def known_record(record: CardRecord) -> KnownRecord:
    return KnownRecord(
        record_hash(record.encode())[:HASH_PREFIX_BYTES],
        record.seq,
        record.balance,
        record.offline_spent,
        record.parent,
    )


def gap_below(shown: KnownRecord, known: Collection[KnownRecord]) -> Gap:
    """The hole that ends with the writing of `shown`, which no entry tells of; `known` are that card's records."""
    unclear = Gap(shown.seq, shown.seq, None, None)
    if shown.seq <= BLANK_CARD.seq:
        return unclear
    below = [BLANK_CARD, *(record for record in known if record.seq < shown.seq)]
    nearest_seq = max(record.seq for record in below)
    nearest = [record for record in below if record.seq == nearest_seq]
    if nearest_seq == shown.seq - 1:
        nearest = [record for record in nearest if _parent_name(record) == shown.parent]
    elif not _is_one_line(known):
        return unclear
    if len(nearest) != 1:
        return unclear
    (before,) = nearest
    spent = shown.spent - before.spent
    credited = shown.balance - before.balance + spent
    if spent < 0 or credited < 0 or (shown.seq == before.seq + 1 and spent and credited):
        return unclear
    return Gap(before.seq + 1, shown.seq, spent, credited)


def _parent_name(record: KnownRecord) -> bytes:
    return NO_PARENT if record == BLANK_CARD else record.hash[: len(NO_PARENT)]


def _is_one_line(known: Collection[KnownRecord]) -> bool:
    """Whether no two records have one seq, and each whose parent could be known names it."""
    by_seq: dict[int, KnownRecord] = {0: BLANK_CARD}
    for record in known:
        if by_seq.setdefault(record.seq, record) != record:
            return False
    return all(
        record.seq - 1 not in by_seq or record.parent == _parent_name(by_seq[record.seq - 1])
        for record in by_seq.values()
    )


def balance_last_seen(known: Collection[KnownRecord]) -> int:
    """The most that the newest known record of a card shows; 0 for a card without records."""
    last_seq = max((record.seq for record in known), default=0)
    return max((record.balance for record in known if record.seq == last_seq), default=0)
