"""A festival's worth of signed taps on disk, as a node would hold them after a busy day.

Every entry is real: sealed card records that follow each other, signed entries, runs with verified tips. `clones` cards
are spent twice from one record, at two different readers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_venue_root
from mesh.core.chain import check_run, encode_genesis
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id, sign_entry
from mesh.core.issue import issue_device, issue_root
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.limits import RUN_ENTRIES_MAX
from mesh.shell.keys import CERTIFICATE_FILE, LINK_KEY_FILE, LOG_KEY_FILE, ROOT_FILE, create_key_file, write_certificate
from mesh.shell.store import OWN_FILE, REPLICA_FILE, Durability, RunStore
from mesh.views.card_record import NO_PARENT, SEAL_DOMAIN, CardRecord, key_id, record_hash
from mesh.views.tap_entry import TapBody

NOON_MS: Final = 1_790_000_000_000
TAPS_PER_S: Final = 89
EVENT: Final = b"\x00\x00\x07\xea"
START_BALANCE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is: `entries` in `logs` logs, over `cards` wristbands of which `clones` are spent twice."""

    entries: int
    logs: int
    cards: int
    clones: int


@dataclass(slots=True)
class _Writer:
    """One reader's money log, growing."""

    key: SigningKey
    certificate: DeviceCertificate
    log_id: bytes
    entries: list[bytes]
    head: bytes


@dataclass(slots=True)
class _Card:
    """The sealed record that a wristband carries now."""

    record: CardRecord
    sealed: bytes


class Bench:
    """A venue made for one measurement, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = Ed25519PrivateKey.generate()
        self.root: VenueRoot = parse_venue_root(issue_root(self._key, venue="bench", serial=1))
        self._serial = 1

    def _certificate(self, name: str, link_key: bytes, log_key: bytes, *roles: Role) -> DeviceCertificate:
        self._serial += 1
        return issue_device(
            self._key,
            self.root,
            name=name,
            link_key=link_key,
            log_key=log_key,
            roles=frozenset(roles),
            serial=self._serial,
        )

    def device(self, name: str) -> Path:
        """A courier on disk that holds nothing yet."""
        directory = self.directory / name
        directory.mkdir()
        link, log = create_key_file(directory / LINK_KEY_FILE), create_key_file(directory / LOG_KEY_FILE)
        certificate = self._certificate(name, link.public_key, log.public_key, Role.COURIER)
        write_certificate(directory / ROOT_FILE, self.root.der)
        write_certificate(directory / CERTIFICATE_FILE, certificate.der)
        return directory

    def fill(self, directory: Path, scale: Scale, seed: int) -> int:
        """Write `scale` into a device's replica as other readers' logs; returns the bytes of all entries."""
        rng = random.Random(seed)
        writers = [self._writer(f"reader {number}", rng) for number in range(scale.logs)]
        _write_taps(writers, scale, rng)
        store = RunStore(directory / REPLICA_FILE, Durability.PROCESS)
        RunStore(directory / OWN_FILE, Durability.POWER_CUT).close()
        for writer in writers:
            with store.transaction():
                store.add_log(writer.log_id, writer.entries[0])
                store.add_branch(writer.log_id, 0, 0, NO_PREV, parent=None, attached=True)
                for at in range(0, len(writer.entries), RUN_ENTRIES_MAX):
                    run = check_run(writer.log_id, writer.entries[at : at + RUN_ENTRIES_MAX])
                    store.append_run(run, 0, verified=True)
        store.close()
        return sum(len(entry) for writer in writers for entry in writer.entries)

    def _writer(self, name: str, rng: random.Random) -> _Writer:
        key = SigningKey(rng.randbytes(32))
        link_key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        certificate = self._certificate(name, link_key, bytes(key.verify_key), Role.READER, Role.TILL)
        body = encode_genesis(certificate.der, rng.randbytes(16), Lane.MONEY, [])
        genesis = _sign(key, b"", 0, NO_PREV, NOON_MS, Kind.GENESIS, body)
        identifier = entry_id(genesis)
        return _Writer(key, certificate, identifier[:LOG_ID_BYTES], [genesis], identifier)


def _sign(key: SigningKey, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: Kind, body: bytes) -> bytes:
    def sign(message: bytes) -> bytes:
        return key.sign(message).signature

    return sign_entry(sign, log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=int(kind), body=body)


def _write_taps(writers: list[_Writer], scale: Scale, rng: random.Random) -> None:
    """Top every card up once, then sell, until there are `scale.entries`; the last sales are those of clones.

    Cards were issued before (on Thursday, in other logs), so every tap has a witness.
    """
    cards = [_issued(rng.randbytes(8), rng.choice(writers)) for _ in range(scale.cards)]
    remaining = scale.entries - len(writers) - scale.cards - 2 * scale.clones
    if remaining < 0:
        raise ValueError("more cards and clones than entries")
    written = 0

    def tap(card: _Card, writer: _Writer, operation: Operation, amount: int) -> _Card:
        nonlocal written
        written += 1
        return _tap(card, writer, operation, amount, rng.randbytes(16), NOON_MS + written * 1000 // TAPS_PER_S)

    for number, card in enumerate(cards):
        cards[number] = tap(card, rng.choice(writers), Operation.TOP_UP, START_BALANCE)
    for _ in range(remaining):
        number = rng.randrange(scale.cards)
        cards[number] = tap(cards[number], rng.choice(writers), Operation.SALE, rng.choice((350, 450, 650)))
    for number in rng.sample(range(scale.cards), scale.clones):
        first, second = rng.sample(writers, 2)
        tap(cards[number], first, Operation.SALE, 650)
        tap(cards[number], second, Operation.SALE, 650)


def _issued(card: bytes, writer: _Writer) -> _Card:
    """An empty card as the till left it."""
    return _sealed(writer, CardRecord(card, EVENT, 1, 0, 0, 0, 0, key_id(writer.certificate.log_key), NO_PARENT))


def _sealed(writer: _Writer, record: CardRecord) -> _Card:
    encoded = record.encode()
    return _Card(record, encoded + writer.key.sign(SEAL_DOMAIN + encoded).signature)


def _tap(card: _Card, writer: _Writer, operation: Operation, amount: int, tap_id: bytes, time_ms: int) -> _Card:
    record = replace(
        card.record,
        seq=card.record.seq + 1,
        balance=card.record.balance + (amount if operation is Operation.TOP_UP else -amount),
        reader=key_id(writer.certificate.log_key),
        parent=record_hash(card.sealed)[:8],
    )
    after = _sealed(writer, record)
    body = TapBody(tap_id, operation, amount, card.sealed, after.sealed, bytes(32)).encode()
    entry = _sign(writer.key, writer.log_id, len(writer.entries), writer.head, time_ms, Kind.TAP, body)
    writer.entries.append(entry)
    writer.head = entry_id(entry)
    return after
