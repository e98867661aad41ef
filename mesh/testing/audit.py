"""What may count of the entries that a liar signed, worked out once more from their bytes, without any view.

The views are what is tried: an oracle that asked them would believe whatever they believe. So each entry that a view
counts is looked up in the store, and must pass here too:

* Its author is enrolled, has the role for the operation, and signed it; it is encoded in the one way there is.
* The record written follows the record read: same card, seq one higher, its hash, the author's name, the right balance.
* No two entries of its log at one seq below it or at it, and no bad signature: there the log is contested.
* If its author was revoked: it is the cut's entry, or an ancestor of it by hash. That decides instead of a fork.
* One debit for one tap id of one device, one for one write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.core.chain import split_run
from mesh.core.codec import decode_array
from mesh.core.entry import Entry, decode_entry, entry_id, verify_signature
from mesh.core.frontier import Position
from mesh.core.kinds import Operation, Role
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX
from mesh.testing.device import Device
from mesh.views.card_account import TapFact
from mesh.views.card_record import RECORD_BYTES, decode_record, key_id, record_hash
from mesh.views.cards import CardsView
from mesh.views.tap_entry import decode_tap

NEEDS: Final[dict[Operation, Role]] = {
    Operation.ISSUE: Role.TILL,
    Operation.TOP_UP: Role.TILL,
    Operation.SALE: Role.READER,
}
RAISES: Final = frozenset({Operation.ISSUE, Operation.TOP_UP})

Cuts = Mapping[int, Mapping[bytes, Position]]
"""By serial number of a revoked device: what counts of its logs, each up to a place; of others nothing."""


@dataclass(slots=True)
class _Held:
    """Everything that one device holds of one log."""

    author: Device | None
    """None: nobody whom the authority enrolled."""
    by_prefix: dict[bytes, Entry]
    contested_from: int | None
    """The smallest seq with two entries, or with a bad signature."""
    cut: frozenset[bytes] | None
    """Ids of the cut's entry and of its ancestors; None where the author was not revoked."""


def audit(device: Device, view: CardsView, enrolled: Mapping[bytes, Device], cuts: Cuts) -> Iterator[str]:
    """A sentence for each tap that counts at a device and must not. `enrolled` is by the certificate's DER.

    The taps of honest devices are passed over: people saw those, and that is what they are compared with.
    """
    logs: dict[int, _Held] = {}
    ids = view.log_ids()
    for card in view.cards():
        account = view.account(card)
        of_liars = []
        for fact in account.counted:
            if fact.log not in logs:
                logs[fact.log] = _held(device, ids[fact.log], enrolled, cuts)
            log = logs[fact.log]
            if log.author is not None and log.author.is_honest:
                continue
            of_liars.append((log, fact))
            why = _why_not(log, fact)
            if why:
                whose = "a stranger" if log.author is None else log.author.name
                yield f"{device.name} counts an entry of {whose} {why}"
        yield from _twice(device, of_liars)


def signed_by_its_author(genesis: bytes, entry: bytes, enrolled: Mapping[bytes, Device]) -> bool:
    """Whether an entry was signed by whom its log's genesis names, and that is somebody of the venue."""
    author = enrolled.get(_certificate_in(genesis))
    return author is not None and all(_is_signed(data, author.certificate.log_key) for data in (genesis, entry))


def _twice(device: Device, facts: Iterable[tuple[_Held, TapFact]]) -> Iterator[str]:
    tap_ids: set[object] = set()
    writes: set[object] = set()
    for log, fact in facts:
        whose = None if log.author is None else log.author.certificate.log_key
        tap_id, write = (whose, fact.tap_id), (fact.consumed, fact.written)
        if tap_id in tap_ids:
            yield f"{device.name} counts one tap id twice"
        if write in writes:
            yield f"{device.name} counts one write twice"
        tap_ids.add(tap_id)
        writes.add(write)


def _held(device: Device, log_id: bytes, enrolled: Mapping[bytes, Device], cuts: Cuts) -> _Held:
    entries = {
        entry_id(data): data
        for store in (device.storage.own, device.storage.replica)
        if log_id in store.log_ids()
        for run in store.stored_runs(log_id)
        for data in split_run(run.last_seq - run.first_seq + 1, run.blob)
    }
    decoded = {identifier: decode_entry(data) for identifier, data in entries.items()}
    genesis = next(entry for entry in decoded.values() if entry.seq == 0)
    author = enrolled.get(_certificate_in(genesis.data))
    key = b"" if author is None else author.certificate.log_key
    if author is not None and author.is_honest:
        return _Held(author, {}, None, None)
    cut = None
    if author is not None and author.certificate.serial in cuts:
        cut = _ancestors(decoded, cuts[author.certificate.serial].get(log_id))
    return _Held(author, {identifier[:16]: entry for identifier, entry in decoded.items()}, _bad(decoded, key), cut)


def _bad(entries: Mapping[bytes, Entry], key: bytes) -> int | None:
    seen: set[int] = set()
    bad = []
    for entry in entries.values():
        if entry.seq in seen or not _is_signed(entry.data, key):
            bad.append(entry.seq)
        seen.add(entry.seq)
    return min(bad, default=None)


def _ancestors(entries: Mapping[bytes, Entry], cut: Position | None) -> frozenset[bytes]:
    found: set[bytes] = set()
    entry = None if cut is None else entries.get(cut.id)
    while entry is not None:
        found.add(entry.id)
        entry = entries.get(entry.prev)
    return frozenset(found)


def _why_not(log: _Held, fact: TapFact) -> str:
    """Why this entry may not count; empty if it may."""
    entry = log.by_prefix.get(fact.entry_id)
    if log.author is None:
        return "whom the authority never enrolled"
    if entry is None:
        return "that it does not hold"
    if not _is_signed(entry.data, log.author.certificate.log_key):
        return "that its author did not sign"
    if log.cut is not None:
        if entry.id not in log.cut:
            return "outside the cut of its author's revocation"
    elif log.contested_from is not None and entry.seq >= log.contested_from:
        return "at or after a fork or a bad signature"
    return _against_the_tap(log.author, entry)


def _against_the_tap(author: Device, entry: Entry) -> str:
    tap = decode_tap(entry.body)
    if tap.encode() != entry.body:
        return "that is not encoded in the one way there is"
    operation = Operation(tap.operation)
    if operation not in NEEDS or NEEDS[operation] not in author.certificate.roles:
        return f"without the role for {operation.name}"
    written = decode_record(tap.written[:RECORD_BYTES])
    read = decode_record(tap.witness[:RECORD_BYTES]) if tap.witness else None
    follows = (
        written.seq == (1 if read is None else read.seq + 1)
        and written.parent == (bytes(8) if read is None else record_hash(tap.witness)[:8])
        and (read is None or (written.card, written.event) == (read.card, read.event))
        and written.reader == key_id(author.certificate.log_key)
    )
    if not follows:
        return "whose record does not follow the one that was read"
    before = 0 if read is None else read.balance
    if written.balance != before + (tap.amount_minor if operation in RAISES else -tap.amount_minor):
        return "whose balance is not the one read, changed by the amount"
    return ""


def _certificate_in(genesis: bytes) -> bytes:
    match decode_array(decode_entry(genesis).body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [bytes(der), *_]:
            return der
        case _:
            return b""


def _is_signed(data: bytes, key: bytes) -> bool:
    try:
        verify_signature(data, key)
    except PeerError:
        return False
    return True
