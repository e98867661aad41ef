"""What the demo reports, read back from the devices' and the settlement service's databases after they stopped."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesh.core.chain import check_run, parse_genesis
from mesh.core.kinds import Kind, Lane, Operation
from mesh.demo.acts import READERS, Told
from mesh.demo.event import Event
from mesh.shell.device import open_device
from mesh.shell.keys import load_identity
from mesh.shell.store import OWN_FILE, Durability, RunStore
from mesh.views.evidence import check_case
from mesh.views.tap_entry import decode_tap


@dataclass(frozen=True, slots=True)
class Written:
    """Money entries that the readers themselves wrote: tap id to operation and amount, and each log's head."""

    taps: dict[bytes, tuple[Operation, int]]
    heads: dict[str, tuple[int, str]]

    @property
    def sales_minor(self) -> int:
        return sum(amount for operation, amount in self.taps.values() if operation is Operation.SALE)

    def taps_by_id(self) -> dict[str, int]:
        """Amounts by tap id, as screens say them."""
        return {tap_id.hex(): amount for tap_id, (_, amount) in self.taps.items()}


def read_written(event: Event) -> Written:
    """Every money log in every reader's own.db."""
    taps: dict[bytes, tuple[Operation, int]] = {}
    heads: dict[str, tuple[int, str]] = {}
    for name in READERS:
        directory = event.posts[name].directory
        root = load_identity(directory).root
        with closing(RunStore(directory / OWN_FILE, Durability.POWER_CUT, read_only=True)) as store:
            for log in store.logs():
                if parse_genesis(log.genesis, root).lane is not Lane.MONEY:
                    continue
                head = log.branches[0].head
                heads[log.log_id.hex()] = (head.seq, head.id.hex())
                for entries in store.runs(log.log_id):
                    for fields in check_run(log.log_id, entries).fields:
                        if fields[5] == Kind.TAP and isinstance(fields[6], bytes):
                            tap = decode_tap(fields[6])
                            taps[tap.tap_id] = (tap.operation, tap.amount_minor)
    return Written(taps, heads)


def read_cases(directory: Path) -> list[bytes]:
    """The proofs of double spends that a device keeps in own.db."""
    with closing(RunStore(directory / OWN_FILE, Durability.POWER_CUT, read_only=True)) as store:
        return [body for _, body in store.evidence()]


def double_spends(event: Event, told: Told) -> list[dict[str, Any]]:
    """Each case as Bar A and Bar C have it on disk, and how long after the courier's contact it surfaced there."""
    found: dict[bytes, dict[str, Any]] = {}
    for bar in ("Bar A", "Bar C"):
        root = load_identity(event.posts[bar].directory).root
        for body in read_cases(event.posts[bar].directory):
            case = check_case(body, root)
            spend = found.setdefault(
                case.card,
                {"card": case.card.hex(), "readers": [tap.device.name for tap in case.taps], "surfaced_ms": {}},
            )
            if bar in told.surfaced_at:
                spend["surfaced_ms"][bar] = round((told.surfaced_at[bar] - told.contact_at[bar]) * 1000, 1)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Held:
    """What one device holds of the money: the heads of every money log, and a digest of every card's account."""

    heads: dict[str, list[str]]
    accounts: str


async def read_held(directory: Path) -> Held:
    """Open a stopped device and fold its views again."""
    async with open_device(directory) as device:
        logs = device.node.frontier.logs.values()
        heads = {
            log.log_id.hex(): [head.id.hex() for head in log.heads()] for log in logs if log.genesis.lane is Lane.MONEY
        }
        digest = sha256()
        for card in sorted(device.cards.cards()):
            account = device.cards.account(card)
            digest.update(card + account.balance_minor.to_bytes(8, "big", signed=True))
            digest.update(bytes([len(account.conflicts), len(account.counted)]))
        return Held(heads, digest.hexdigest())


def lost(written: Written, books: dict[str, Any]) -> int:
    """Money entries that a reader wrote and the service does not hold."""
    upstream = {head["log"]: {(at["seq"], at["id"]) for at in head["heads"]} for head in books["heads"]}
    missing = 0
    for log, (seq, identifier) in written.heads.items():
        held = upstream.get(log, set())
        if (seq, identifier) not in held:
            missing += seq + 1 - max((at + 1 for at, _ in held), default=0)
    return missing
