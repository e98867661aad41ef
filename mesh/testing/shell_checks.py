"""What must hold in a venue of simulated machines, while it runs and at its end.

* *Durable before visible*: at everything a device hands to a link, and at every green light, what it shows of its own
  logs is what its disk would hold if the power went at this moment (:class:`Watch`).
* *Nobody sells to a record that is known there to be spent* (:class:`WatchedVenue`).
* *No acknowledged entry lost*: whatever was shown to others is in everybody's logs at the end.
* *Every green is a counted debit*, to the cent, and nothing else is one.
* *Everybody holds the same bytes*, and makes the same of them.
* *Each conflict surfaces at every device*, and no other wristband is held.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mesh.core.entry import decode_entry, entry_id
from mesh.core.events import Serve
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Operation
from mesh.ports import Links
from mesh.shell.device import Device
from mesh.shell.store import OWN_FILE, Durability, RunStore
from mesh.testing.disk import Disk, DiskVfs, Fate
from mesh.testing.shell_machine import Machine
from mesh.views.card_account import CREDITS, HASH_PREFIX_BYTES
from mesh.views.card_record import RECORD_BYTES, decode_record, record_hash
from mesh.views.cards import CardStanding
from mesh.views.tap_entry import TapBody, decode_abort, decode_tap
from reader.card import BLANK_HASH
from reader.ports import Venue, VenueTerms
from reader.tap_events import Amber, Green, Notice, Screen

DURABLE_BEFORE_VISIBLE: Final = "durable before visible"
ACKNOWLEDGED_STAYS: Final = "no acknowledged entry lost"
GREEN_IS_COUNTED: Final = "every green is a counted debit"
SAME_BYTES: Final = "everybody holds the same bytes"
SAME_VIEWS: Final = "everybody makes the same of them"
SPENT_ONCE_WHERE_KNOWN: Final = "nobody sells to a record that is known there to be spent"
CONFLICTS_SURFACE: Final = "each conflict surfaces at every device"
HONEST_IS_SERVED: Final = "no honest wristband is refused"
LIVENESS: Final = "within a bounded time everybody holds the same"
FAULTS_HAPPEN: Final = "each kind of fault happens"

_TAP: Final = int(Kind.TAP)


class Violation(AssertionError):
    """A rule was broken: `rule` is one of the names above."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


def require(holds: bool, rule: str, what: str) -> None:
    if not holds:
        raise Violation(rule, what)


@dataclass(slots=True)
class Watch:
    """Looks at one device from the side of everybody who cannot take back what they have seen."""

    machine: Machine
    scratch: DiskVfs
    """For reading images, apart from the running device's files and locks."""
    directory: Path
    """Where the images' lock files go."""
    shown: dict[bytes, Position] = field(default_factory=dict)
    """The newest entry of each of its logs that anybody may have seen."""
    looks: int = 0

    def look(self, device: Device, tap_id: bytes | None = None) -> None:
        """The device is about to show what it has; with `tap_id` a green light too."""
        heads = {
            log_id: max(branch.head for branch in device.node.frontier.logs[log_id].branches.values())
            for log_id in sorted(device.own_logs)
            if log_id in device.node.frontier.logs
        }
        news = {log_id: head for log_id, head in heads.items() if self.shown.get(log_id) != head}
        if not news and tap_id is None:
            return
        self.looks += 1
        own = str(self.machine.directory / OWN_FILE)
        image = self.machine.disk.medium.after_power_cut(Fate.DROPPED, random.Random(0))
        here = str(self.directory / OWN_FILE)
        self.scratch.insert(Disk({here + path[len(own) :]: data for path, data in image.items() if own in path}))
        with closing(RunStore(Path(here), Durability.POWER_CUT, vfs=self.scratch.name)) as store:
            held = {log.log_id: log.branches[0].head for log in store.logs()}
            for log_id, head in news.items():
                found = store.read_at(log_id, head.seq) if log_id in held else []
                require(
                    [entry_id(entry) for entry in found] == [head.id],
                    DURABLE_BEFORE_VISIBLE,
                    f"{self.machine.name} shows entry {head.seq} of its log {log_id.hex()}, which is not on its disk",
                )
            require(
                tap_id is None or any(tap_id in entry for entry in _all_entries(store, held)),
                DURABLE_BEFORE_VISIBLE,
                f"{self.machine.name} shows green for a tap that is not on its disk",
            )
        self.shown |= news


def _all_entries(store: RunStore, heads: Mapping[bytes, Position]) -> list[bytes]:
    return [entry for log_id, head in heads.items() for entry in store.read_entries(log_id, Segment(0, 0, head.seq))]


class WatchedLinks:
    """Implements `mesh.ports.Links` around a device's own, and looks before anything goes out."""

    def __init__(self, inner: Links, watch: Watch, device: Device) -> None:
        self._inner, self._watch, self._device = inner, watch, device

    def send(self, link: int, data: bytes) -> None:
        self._look()
        self._inner.send(link, data)

    def serve(self, effect: Serve) -> None:
        self._look()
        self._inner.serve(effect)

    def close(self, link: int, reason: str, *, blame_peer: bool) -> None:
        self._watch.machine.note(f"closes link {link}: {reason}")
        require(not blame_peer, "no honest device is blamed", f"{self._watch.machine.name} closes a link: {reason}")
        self._inner.close(link, reason, blame_peer=blame_peer)

    def met(self, link: int) -> None:
        self._inner.met(link)

    def in_step(self, link: int) -> None:
        self._inner.in_step(link)

    def _look(self) -> None:
        if self._watch.machine.is_on:
            self._watch.look(self._device)


class WatchedVenue:
    """Implements `reader.ports.Venue` around a device's own, and remembers which wristbands it could have known about.

    What is known is read off the accounts of the merged logs, not off the standing that the terminal asks for.
    """

    def __init__(self, inner: Venue, device: Device) -> None:
        self._inner, self._device = inner, device
        self._spent: set[bytes] = set()
        """Tap ids of orders for which the wristband showed a record that this device knew to be spent."""

    def terms(self) -> VenueTerms | None:
        return self._inner.terms()

    def keys_by_id(self, key_id: bytes) -> Sequence[bytes]:
        return self._inner.keys_by_id(key_id)

    def name_of(self, log_id: bytes) -> str:
        return self._inner.name_of(log_id)

    def standing(
        self, card: bytes, record_hash: bytes, parent: bytes, tap_id: bytes, writer: bytes | None
    ) -> CardStanding:
        counted = self._device.cards.account(card).counted
        if any(fact.consumed == record_hash[:HASH_PREFIX_BYTES] and fact.tap_id != tap_id for fact in counted):
            self._spent.add(tap_id)
        return self._inner.standing(card, record_hash, parent, tap_id, writer)

    def before_green(self, green: Green) -> None:
        """Somebody is about to be told that it is paid."""
        name = self._device.certificate.name
        known = not green.already and green.intent.tap_id in self._spent
        require(not known, SPENT_ONCE_WHERE_KNOWN, f"{name} sells to a record that it knows to be spent")


@dataclass(frozen=True, slots=True)
class Sale:
    """Money that a person saw move: a green light, or "PAID" after a restart."""

    tap_id: bytes
    card: bytes
    operation: Operation
    amount_minor: int
    consumed: bytes
    """Hash of the record that was on the wristband before."""


def sales_seen(screens: Sequence[Screen]) -> dict[bytes, Sale]:
    """What people saw paid on one bar's screen, by tap id."""
    seen: dict[bytes, Sale] = {}
    for screen in screens:
        if isinstance(screen, Green):
            intent = screen.intent
            consumed = record_hash(intent.witness) if intent.witness else BLANK_HASH
            seen[intent.tap_id] = Sale(intent.tap_id, intent.card, intent.operation, intent.amount_minor, consumed)
    return seen


def paid_after_restart(screens: Sequence[Screen]) -> dict[bytes, tuple[Operation, int]]:
    """What a screen called paid after a restart; it does not say which wristband."""
    return {
        screen.tap_id: (screen.operation, screen.amount_minor)
        for screen in screens
        if isinstance(screen, Amber) and screen.notice is Notice.PAID_BEFORE_RESTART and screen.operation is not None
    }


def check_money(device: Device, seen: Mapping[bytes, Sale], paid: Mapping[bytes, tuple[Operation, int]]) -> None:
    """What people saw is what the merged logs count, tap by tap and wristband by wristband."""
    counted: dict[bytes, tuple[Operation, int]] = {}
    for card in sorted(device.cards.cards()):
        account = device.cards.account(card)
        require(
            not account.uncounted, GREEN_IS_COUNTED, f"card {card.hex()} has {len(account.uncounted)} uncounted taps"
        )
        for fact in account.counted:
            counted[fact.tap_id] = (Operation(fact.operation), fact.amount_minor)
        own = [sale for sale in seen.values() if sale.card == card]
        facts = [fact for fact in account.counted if fact.tap_id in seen]
        signs = {True: 1, False: -1}
        lit = sum(signs[sale.operation in CREDITS] * sale.amount_minor for sale in own)
        require(
            lit == sum(fact.delta_minor for fact in facts),
            GREEN_IS_COUNTED,
            f"card {card.hex()}: the lights said {lit}, the ledger {sum(fact.delta_minor for fact in facts)}",
        )
    lights = {tap_id: (sale.operation, sale.amount_minor) for tap_id, sale in seen.items()} | dict(paid)
    missing = {tap_id for tap_id in lights if counted.get(tap_id) != lights[tap_id]}
    require(not missing, GREEN_IS_COUNTED, f"{len(missing)} greens at {device.certificate.name} are counted nowhere")
    unseen = counted.keys() - lights.keys()
    require(not unseen, GREEN_IS_COUNTED, f"{len(unseen)} debits that nobody saw a green for")


def cards_seen_sold_twice(seen: Mapping[bytes, Sale]) -> set[bytes]:
    """Cards of which one record was consumed by two greens."""
    return _consumed_twice((sale.card, sale.consumed, sale.tap_id) for sale in seen.values())


def cards_sold_twice(logs: Mapping[bytes, list[bytes]]) -> set[bytes]:
    """Cards of which one record was consumed by two taps, read off the entries without any view."""
    bodies = [decode_tap(entry.body) for log in logs.values() for entry in map(decode_entry, log) if entry.kind == _TAP]
    return _consumed_twice(
        (decode_record(body.written[:RECORD_BYTES]).card, _read(body), body.tap_id) for body in bodies
    )


def aborted_writes(logs: Mapping[bytes, list[bytes]]) -> set[bytes]:
    """Hashes of the records that aborted taps may have written."""
    entries = [entry for log in logs.values() for entry in map(decode_entry, log)]
    return {decode_abort(entry.body).written_hash for entry in entries if entry.kind == Kind.ABORT}


def _read(body: TapBody) -> bytes:
    return record_hash(body.witness) if body.witness else BLANK_HASH


def _consumed_twice(taps: Iterable[tuple[bytes, bytes, bytes]]) -> set[bytes]:
    """From (card, hash of the record read, tap id)."""
    by_record: defaultdict[tuple[bytes, bytes], set[bytes]] = defaultdict(set)
    for card, consumed, tap_id in taps:
        by_record[card, consumed].add(tap_id)
    return {card for (card, _), tap_ids in by_record.items() if len(tap_ids) > 1}


async def whole_logs(device: Device) -> dict[bytes, list[bytes]]:
    """Every entry that a device holds, by log; an honest venue has no forks and no islands left."""
    logs: dict[bytes, list[bytes]] = {}
    for log_id, log in sorted(device.node.frontier.logs.items()):
        require(len(log.branches) == 1, SAME_BYTES, f"{device.certificate.name} holds {len(log.branches)} branches")
        (branch,) = log.branches.values()
        logs[log_id] = await device.read_entries(log_id, [Segment(branch.number, 0, branch.head.seq)])
    return logs


def check_shown(logs: Mapping[bytes, list[bytes]], watches: Sequence[Watch]) -> None:
    """Whatever anybody was shown is there; hash links answer for what is before it."""
    for watch in watches:
        for log_id, head in watch.shown.items():
            entries = logs.get(log_id, [])
            require(
                head.seq < len(entries) and entry_id(entries[head.seq]) == head.id,
                ACKNOWLEDGED_STAYS,
                f"entry {head.seq} of {watch.machine.name}'s log {log_id.hex()} was shown and is gone",
            )


def check_same_views(one: Device, other: Device) -> None:
    """Cards, conflicts, contested logs and the venue document come out the same."""
    cards = sorted(one.cards.cards())
    pairs = [
        (cards, sorted(other.cards.cards())),
        ([_facts(one, card) for card in cards], [_facts(other, card) for card in cards]),
        (one.cards.refused(), other.cards.refused()),
        (one.node.contested_from, other.node.contested_from),
        (one.venue.document(), other.venue.document()),
    ]
    for number, (mine, theirs) in enumerate(pairs):
        require(
            mine == theirs,
            SAME_VIEWS,
            f"{one.certificate.name} and {other.certificate.name} differ (view {number})",
        )


def _facts(device: Device, card: bytes) -> object:
    account = device.cards.account(card)
    taps = [(fact.consumed, fact.written, fact.tap_id, fact.entry_id, fact.amount_minor) for fact in account.counted]
    conflicts = [(branches.consumed, branches.totals_minor) for branches in account.conflicts]
    return account.balance_minor, taps, conflicts
