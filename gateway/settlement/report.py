"""The ledger as plain data, for people and programs: what `settlement show --json` and ``GET /v1/ledger`` say."""

from __future__ import annotations

from typing import Final

from gateway.settlement.ledger import Account
from gateway.settlement.store import BookedConflict, LedgerStore, Totals

LISTED_MAX: Final = 1000
"""Conflicts, contested logs and entries set aside that one report lists."""


def ledger_report(store: LedgerStore) -> dict[str, object]:
    """Totals, every log's heads, and what a person should look at. Amounts are in minor units, debits positive."""
    totals = store.totals()
    return {
        **_counts(totals),
        "epoch": store.epoch.hex(),
        "accounts": {account.name.lower(): totals.accounts[account] for account in Account},
        "sales_minor": -totals.accounts[Account.VENUE_SALES],
        "balanced": totals.balanced,
        "heads": [
            {"log": log.log_id.hex(), "heads": [{"seq": head.seq, "id": head.id.hex()} for head in log.heads]}
            for log in store.heads()
        ],
        "conflicts": [_conflict(conflict) for conflict in store.conflicts(LISTED_MAX)],
        "contested": [
            {"log": log.log_id.hex(), "device": log.author, "from_seq": log.from_seq, "heads": log.heads}
            for log in store.contested_logs(LISTED_MAX)
        ],
        "revoked": [
            {"log": log.log_id.hex(), "device": log.author, "number": log.number, "counted_to": log.counted_to}
            for log in store.revoked_logs(LISTED_MAX)
        ],
        "set_aside": [
            {"log": e.log_id.hex(), "device": e.author, "seq": e.seq, "entry": e.id.hex(), "reason": e.reason}
            for e in store.set_aside(LISTED_MAX)
        ],
    }


def status_report(store: LedgerStore, name: str) -> dict[str, object]:
    """Who answers here and how much it holds."""
    return {"service": name, "epoch": store.epoch.hex(), **_counts(store.totals())}


def _counts(totals: Totals) -> dict[str, object]:
    return {
        "logs": totals.logs,
        "entries": totals.entries,
        "verified": totals.verified,
        "taps": totals.taps,
        "cards": totals.cards,
    }


def _conflict(conflict: BookedConflict) -> dict[str, object]:
    return {
        "card": conflict.card.hex(),
        "consumed": conflict.consumed.hex(),
        "at_risk_minor": conflict.at_risk_minor,
        "taps": [
            {
                "log": tap.log_id.hex(),
                "device": tap.author,
                "seq": tap.seq,
                "operation": tap.operation.name.lower(),
                "amount_minor": tap.amount_minor,
            }
            for tap in conflict.taps
        ],
    }
