"""Looking into a device's two files without changing anything, also while it runs or when something in them is broken.

Whatever cannot be read is named and left out; the rest is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mesh.core.certificate import VenueRoot, parse_venue_root
from mesh.core.chain import Genesis, Run, check_run, parse_genesis, split_run
from mesh.core.entry import Entry, decode_entry
from mesh.core.fork import check_fork_proof
from mesh.core.frontier import Branch
from mesh.core.kinds import Kind, Lane
from mesh.core.revocation import Statement, parse_statement
from mesh.errors import LocalError, PeerError, StorageError
from mesh.shell.keys import ROOT_FILE, read_certificate
from mesh.shell.store import Durability, RunStore, StoredLog, StoredRun
from mesh.views.trust import TrustView

STORE_FILES: Final = ("own.db", "replica.db")


class NothingThere(LocalError):
    """The directory holds no store, or no log of that name."""


@dataclass(frozen=True, slots=True)
class SeenLog:
    """One log as a store has it. `genesis` is None where its beginning does not hold together."""

    file: str
    log_id: bytes
    genesis: Genesis | None
    branches: list[Branch]
    size_bytes: int
    unverified: int

    @property
    def entries(self) -> int:
        return sum(branch.head.seq - branch.from_seq + 1 for branch in self.branches)

    @property
    def islands(self) -> int:
        return sum(not branch.attached for branch in self.branches)

    @property
    def forks(self) -> list[Branch]:
        """Branches that leave another one."""
        return [branch for branch in self.branches if branch.attached and branch.parent is not None]


@dataclass(frozen=True, slots=True)
class SeenEntry:
    """One place of a log: the entry, or the bytes there and why they are none."""

    branch: int
    seq: int
    data: bytes
    entry: Entry | None
    problem: str | None


@dataclass(slots=True)
class Look:
    """One look into a device's directory. `problems` fills up as things turn out to be unreadable."""

    root: VenueRoot
    directory: Path
    problems: list[str] = field(default_factory=list)

    def logs(self) -> list[SeenLog]:
        """Every log of both files, the device's own first."""
        return [log for name in STORE_FILES if (self.directory / name).exists() for log in self._logs_of(name)]

    def contested_from(self, logs: list[SeenLog]) -> dict[bytes, int]:
        """The smallest seq from which a log is contested, from its branches and from the fork proofs held."""
        contested = {log.log_id: min(branch.from_seq for branch in log.forks) for log in logs if log.forks}
        for log in logs:
            if log.genesis is None or log.genesis.lane is not Lane.CONTROL:
                continue
            for seen in self.entries(log):
                if seen.entry is None or seen.entry.kind != Kind.FORK_PROOF:
                    continue
                try:
                    proof = check_fork_proof(seen.entry.body, self.root)
                except PeerError:
                    continue
                contested[proof.log_id] = min(proof.seq, contested.get(proof.log_id, proof.seq))
        return contested

    def trust(self, logs: list[SeenLog], contested: dict[bytes, int]) -> TrustView:
        """What counts of each log whose beginning can be read, by the revocations and the forks that are seen here."""
        trust = TrustView()
        known = [(log, log.genesis) for log in logs if log.genesis is not None]
        for log, genesis in known:
            trust.open_log(log.log_id, genesis.certificate.serial)
            if log.log_id in contested:
                trust.contest(log.log_id, contested[log.log_id])
        for statement in self.statements(logs):
            trust.revoke(statement)
        for log, genesis in known:
            if genesis.certificate.serial in trust.revocations:
                for seen in self.entries(log):
                    if seen.entry is not None:
                        trust.hold(log.log_id, seen.seq, seen.entry.prev, [seen.entry.id])
        return trust

    def statements(self, logs: list[SeenLog]) -> Iterator[Statement]:
        """Every revocation that the venue's authority signed, in these logs' control lanes and apart in own.db."""
        for body in self._statements([log for log in logs if log.genesis and log.genesis.lane is Lane.CONTROL]):
            try:
                yield parse_statement(body, self.root)
            except PeerError:
                continue

    def runs(self, log: SeenLog) -> Iterator[Run]:
        """What a log holds, as views fold it; a row that cannot be read is named and left out."""
        try:
            with closing(self._open(log.file)) as store:
                for row in store.stored_runs(log.log_id):
                    try:
                        yield check_run(log.log_id, split_run(row.last_seq - row.first_seq + 1, row.blob))
                    except PeerError as error:
                        self.problems.append(
                            f"the entries from seq {row.first_seq} to {row.last_seq} cannot be read: {error}"
                        )
        except StorageError as error:
            self.problems.append(str(error))

    def _statements(self, control: list[SeenLog]) -> Iterator[bytes]:
        """Every revocation in the control logs, and those that own.db keeps apart."""
        for log in control:
            yield from (s.entry.body for s in self.entries(log) if s.entry and s.entry.kind == Kind.REVOCATION)
        if (self.directory / STORE_FILES[0]).exists():
            try:
                with closing(self._open(STORE_FILES[0])) as store:
                    yield from [body for _, body in store.statements()]
            except StorageError as error:
                self.problems.append(f"{STORE_FILES[0]}: {error}")

    def entries(self, log: SeenLog, first_seq: int = 0, last_seq: int | None = None) -> Iterator[SeenEntry]:
        """What a log holds, branch by branch."""
        try:
            with closing(self._open(log.file)) as store:
                for run in store.stored_runs(log.log_id):
                    if run.last_seq >= first_seq and (last_seq is None or run.first_seq <= last_seq):
                        yield from self._entries_of(run, first_seq, last_seq)
        except StorageError as error:
            self.problems.append(str(error))

    def _open(self, name: str) -> RunStore:
        return RunStore(self.directory / name, Durability.PROCESS, read_only=True)

    def _logs_of(self, name: str) -> Iterator[SeenLog]:
        try:
            with closing(self._open(name)) as store:
                for log in store.logs():
                    size, unverified = store.log_size(log.log_id)
                    yield SeenLog(name, log.log_id, self._genesis(name, log), log.branches, size, unverified)
        except (StorageError, PeerError) as error:
            self.problems.append(f"{name}: {error}")

    def _genesis(self, name: str, log: StoredLog) -> Genesis | None:
        try:
            return parse_genesis(log.genesis, self.root)
        except PeerError as error:
            self.problems.append(f"{name}: the beginning of log {log.log_id.hex()} does not hold together: {error}")
            return None

    def _entries_of(self, run: StoredRun, first_seq: int, last_seq: int | None) -> Iterator[SeenEntry]:
        try:
            entries = split_run(run.last_seq - run.first_seq + 1, run.blob)
        except PeerError as error:
            self.problems.append(f"the entries from seq {run.first_seq} to {run.last_seq} cannot be read: {error}")
            return
        for seq, data in enumerate(entries, run.first_seq):
            if seq < first_seq or (last_seq is not None and seq > last_seq):
                continue
            try:
                yield SeenEntry(run.branch, seq, data, decode_entry(data), None)
            except PeerError as error:
                self.problems.append(f"the entry at seq {seq} cannot be read: {error}")
                yield SeenEntry(run.branch, seq, data, None, str(error))


def look_into(directory: Path) -> Look:
    """Begin to look; needs the venue's root, which says whose logs these are, and at least one store."""
    if not any((directory / name).exists() for name in STORE_FILES):
        raise NothingThere(
            f"{directory} holds no store: it is not a device's directory, or the device was never started"
        )
    return Look(parse_venue_root(read_certificate(directory / ROOT_FILE, "the venue's root certificate")), directory)


def find_log(logs: list[SeenLog], prefix: str) -> SeenLog:
    """The one log whose id begins with these hexadecimal digits."""
    found = [log for log in logs if log.log_id.hex().startswith(prefix.lower())]
    if not found:
        raise NothingThere(f"no log here begins with {prefix!r}; 'tapmesh log ls' lists them")
    if len({log.log_id for log in found}) > 1:
        names = ", ".join(sorted(log.log_id.hex() for log in found))
        raise NothingThere(f"several logs begin with {prefix!r}: {names}; give more digits")
    return found[0]
