"""`tapmesh doctor`: is this device ready for doors, and if not, what is missing and what to do.

A check looks at one thing, says what it found, and what to do about it. It changes nothing, and works beside the
program that runs on the device. Three outcomes: good; a remark, with which the device sells all the same; bad, with
which it must not go to its bar. READY means that none is bad.

Other packages add checks of their own by the entry point group `tapmesh.checks`: a callable that takes the
:class:`Patient` and returns a list of checks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

from mesh.core.chain import check_run, parse_genesis
from mesh.core.entry import decode_entry
from mesh.core.frontier import Segment
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.revocation import parse_statement
from mesh.errors import LocalError, PeerError, StorageError, TapmeshError
from mesh.shell.keys import Identity, load_identity
from mesh.shell.output import Json
from mesh.shell.settings import Settings, read_settings
from mesh.shell.store import OWN_FILE, REPLICA_FILE, Durability, RunStore, StoredLog
from mesh.views.devices import DevicesView
from mesh.views.trust import TrustView
from mesh.views.venue_document import VenueDocumentView


class Outcome(Enum):
    """What a check came to."""

    GOOD = "ok"
    REMARK = "note"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `facts` are for programs; `todo` is the next step, where one is needed."""

    name: str
    outcome: Outcome
    found: str
    todo: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    storage: bool = False
    """A disk or a file of it is at fault."""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest entry of another device that is held here."""

    device: str
    time_ms: int


@dataclass(slots=True)
class Held:
    """What the device's stores hold, as far as checks need it."""

    trust: TrustView
    document: VenueDocumentView
    devices: DevicesView
    entries: int = 0
    logs_of: set[str] = field(default_factory=set)
    """Names of the other devices whose logs are here."""
    newest: Newest | None = None


@dataclass
class Patient:
    """The device that is looked at. What several checks need is found out once."""

    directory: Path
    device_path: str | None
    """The NFC device that was named, or None for the one of the settings."""
    now_s: float

    @cached_property
    def identity(self) -> Identity | TapmeshError:
        """The enrolled device, or why there is none."""
        try:
            return load_identity(self.directory)
        except TapmeshError as error:
            return error

    @cached_property
    def settings(self) -> Settings | LocalError:
        """The device's settings, or what is wrong with them."""
        try:
            return read_settings(self.directory)
        except LocalError as error:
            return error

    @cached_property
    def held(self) -> Held | TapmeshError:
        """What the stores hold, or why that cannot be told."""
        if isinstance(self.identity, TapmeshError):
            return self.identity
        try:
            return _held(self.directory, self.identity)
        except TapmeshError as error:
            return error

    @cached_property
    def running(self) -> str | None:
        """The process that has this device open; None if none has."""
        return _running(self.directory)

    def has_role(self, *roles: Role) -> bool:
        """Whether the device is enrolled as one of these."""
        return isinstance(self.identity, Identity) and bool(self.identity.certificate.roles & set(roles))


CheckUp: TypeAlias = Callable[[Patient], list[Check]]


def from_error(name: str, error: TapmeshError) -> Check:
    """An error of ours says what happened and what to do already."""
    return Check(name, Outcome.BAD, str(error), storage=isinstance(error, StorageError))


def _running(directory: Path) -> str | None:
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared and let go at once: a program that starts at this moment would find its device in use for an instant.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None


def _held(directory: Path, identity: Identity) -> Held:
    trust = TrustView()
    held = Held(trust, VenueDocumentView(trust), DevicesView(identity.root))
    for name in (OWN_FILE, REPLICA_FILE):
        if (directory / name).exists():
            with closing(RunStore(directory / name, Durability.PROCESS, read_only=True)) as store:
                held.entries += store.size()[0]
                for _, body in store.statements():
                    _hear(body, identity, held)
                for log in store.logs():
                    _fold_log(store, log, identity, held)
    return held


def _fold_log(store: RunStore, log: StoredLog, identity: Identity, held: Held) -> None:
    try:
        genesis = parse_genesis(log.genesis, identity.root)
    except PeerError:
        return  # 'tapmesh log verify' names it; here it only counts for nothing
    author = genesis.certificate
    if author.serial != identity.certificate.serial:
        held.logs_of.add(author.name)
        for time_ms in _head_times(store, log):
            if held.newest is None or time_ms > held.newest.time_ms:
                held.newest = Newest(author.name, time_ms)
    if genesis.lane is not Lane.CONTROL:
        return
    held.devices.add(author)
    held.trust.open_log(log.log_id, author.serial)
    for entries in store.runs(log.log_id):
        try:
            run = check_run(log.log_id, entries)
        except PeerError:
            return
        held.trust.fold(run)
        for seq, (fields, identifier) in enumerate(zip(run.fields, run.ids, strict=True), run.first_seq):
            body = fields[6]
            assert isinstance(body, bytes)
            if fields[5] == Kind.VENUE_CHANGE:
                held.document.fold(run.log_id, seq, identifier, author.roles, body)
            elif fields[5] == Kind.DEVICE and Role.MANAGER in author.roles:
                held.devices.fold(body)
            elif fields[5] == Kind.REVOCATION:
                _hear(body, identity, held)


def _hear(body: bytes, identity: Identity, held: Held) -> None:
    """Take in a revocation; what is none counts for nothing here either."""
    with suppress(PeerError):
        held.trust.revoke(parse_statement(body, identity.root))


def _head_times(store: RunStore, log: StoredLog) -> Iterator[int]:
    for branch in log.branches:
        seq = branch.head.seq
        for entry in store.read_entries(log.log_id, Segment(branch.number, seq, seq)):
            try:
                yield decode_entry(entry).time_ms
            except PeerError:
                continue


READY: Final = "READY"
NOT_READY: Final = "NOT READY"


def is_ready(checks: list[Check]) -> bool:
    """Whether the device may go to its bar."""
    return all(check.outcome is not Outcome.BAD for check in checks)
