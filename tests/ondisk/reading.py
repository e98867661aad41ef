"""What a program reads from the stores of one directory, in words that no later format changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

from gateway.settlement.sqlite_store import SqliteLedger
from mesh.core.certificate import parse_device_certificate, parse_venue_root
from mesh.core.events import Revoked
from mesh.shell.device import Device
from mesh.shell.keys import Identity, create_key_file, read_certificate
from mesh.shell.replica import Replica
from mesh.shell.store import Durability, RunStore
from reader.journal import _decode_row

OWN: Final = "own.db"
REPLICA: Final = "replica.db"
LEDGER: Final = "settlement.db"
ROOT: Final = "root.pem"
DEVICE: Final = "device.pem"

Words: TypeAlias = "Mapping[str, Words] | Sequence[Words] | str | int | bool | None"


def describe(directory: Path) -> dict[str, Words]:
    """Open everything as the programs do, a copy if it is to be kept: opening writes."""
    root = parse_venue_root(read_certificate(directory / ROOT, "the root"))
    certificate = parse_device_certificate(read_certificate(directory / DEVICE, "the device"), root)
    identity = Identity(directory, root, certificate, create_key_file(directory / "unused.key"))
    own = RunStore(directory / OWN, Durability.POWER_CUT)
    own.check()
    own_reader = RunStore(directory / OWN, Durability.POWER_CUT, read_only=True)
    writer = RunStore(directory / REPLICA, Durability.PROCESS)
    writer.check()
    reader = RunStore(directory / REPLICA, Durability.PROCESS, read_only=True)
    with closing(own), closing(own_reader), closing(Replica(writer, reader)) as replica:
        device = Device(identity, own, own_reader, replica, "")
        for effect in device.load(own, writer):
            if isinstance(effect, Revoked):
                device.cards.revoke(effect.statement)
        intents = [_decode_row(body) for _, body in own.intents()]
        return {
            "frontier": device.node.frontier.digest().hex(),
            "entries": device.entries_held,
            "own logs": sorted(log_id.hex() for log_id in device.own_logs),
            "contested": {log_id.hex(): seq for log_id, seq in device.node.contested_from.items()},
            "unverified": writer.unverified_entries(),
            "cards": {card.hex(): _card(device, card) for card in device.cards.cards()},
            "evidence": [digest.hex() for digest, _ in own.evidence()],
            "revoked": [[str(serial), _counted_to(device, serial)] for serial in device.trust.revocations.serials()],
            "statements": [digest.hex() for digest, _ in own.statements()],
            "intents": [
                [row.order, row.committed, row.intent.tap_id.hex(), row.intent.amount_minor] for row in intents
            ],
            "ledger": _ledger(directory),
        }


def _counted_to(device: Device, serial: int) -> dict[str, Words]:
    return {log_id.hex(): device.trust.log_trust(log_id).counted_to for log_id in device.trust.logs_of(serial)}


def _card(device: Device, card: bytes) -> dict[str, Words]:
    conflicts: list[Words] = [
        [conflict.consumed.hex(), conflict.at_risk_minor, *sorted(tap.tap_id.hex() for tap in conflict.taps)]
        for conflict in device.cards.conflicts(card)
    ]
    return {"balance_minor": device.cards.account(card).balance_minor, "conflicts": conflicts}


def _ledger(directory: Path) -> dict[str, Words]:
    root = parse_venue_root(read_certificate(directory / ROOT, "the root"))
    with closing(SqliteLedger(directory / LEDGER, root)) as ledger:
        totals = ledger.totals()
        heads = [(log.log_id, head) for log in ledger.heads() for head in log.heads]
        return {
            "epoch": ledger.epoch.hex(),
            "heads": [[log_id.hex(), head.seq, head.id.hex()] for log_id, head in heads],
            "accounts": {account.name: amount for account, amount in totals.accounts.items() if amount},
            "entries": totals.entries,
            "verified": totals.verified,
            "contested": [[log.log_id.hex(), log.from_seq] for log in ledger.contested_logs(99)],
            "conflicts": [[conflict.card.hex(), conflict.at_risk_minor] for conflict in ledger.conflicts(99)],
            "set aside": [[entry.log_id.hex(), entry.seq, entry.reason] for entry in ledger.set_aside(99)],
        }
