"""What a wristband says about a tap that did not finish. Pure.

r is the record the tap had read, w the one it may have written (both are in the intent). A card shows one record, and
the one before it in its other slot; from these two alone:

| the card shows | verdict |
|---|---|
| r, or is blank where the tap had found it blank | the write never happened: NOT_WRITTEN |
| w | the write happened: WRITTEN |
| a record over w, or w is in the other slot's chain | it happened, and the card was used since: MOVED_ON |
| another record over r | the card was spent elsewhere first: SPENT_ELSEWHERE |
| anything else | these two records do not say: UNCLEAR |
"""

from __future__ import annotations

from enum import Enum

from mesh.views.card_record import RECORD_BYTES, CardRecord, record_hash
from reader.card import Blank, CardView, Shown, record_of
from reader.intent import Intent


class Verdict(Enum):
    """See the module's table."""

    NOT_WRITTEN = "not written"
    WRITTEN = "written"
    MOVED_ON = "moved on"
    SPENT_ELSEWHERE = "spent elsewhere"
    UNCLEAR = "unclear"


def resolve(intent: Intent, view: CardView) -> Verdict:
    """Apply the module's table; the card is already known to be the intent's card."""
    match view:
        case Blank():
            return Verdict.UNCLEAR if intent.witness else Verdict.NOT_WRITTEN
        case Shown(record=record, previous=previous):
            return _shown(intent, record, previous)
        case _:
            return Verdict.UNCLEAR


def _shown(intent: Intent, record: CardRecord, previous: CardRecord | None) -> Verdict:
    written = record_of(intent.written)
    read = intent.witness[:RECORD_BYTES]
    if record.encode() == read:
        return Verdict.NOT_WRITTEN
    if record == written:
        return Verdict.WRITTEN
    chain = [record] if previous is None else [record, previous]
    parent_of_written = written.parent
    hash_of_written = record_hash(intent.written)[:8]
    if any(link == written or link.parent == hash_of_written for link in chain):
        return Verdict.MOVED_ON
    if any(link.parent == parent_of_written and link.seq == written.seq for link in chain):
        return Verdict.SPENT_ELSEWHERE
    return Verdict.UNCLEAR
