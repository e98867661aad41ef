"""`tapmesh log verify`: every entry, link, signature and role of a store, from the venue's root alone; changes nothing.

Who is to blame for what is found:

* the *file*: bytes are missing, or are not what was once accepted. Links and tips were checked before anything was
  stored, so a broken one means that the disk, or somebody with access to it, changed the file. What other devices hold
  of these logs comes back from them.
* the *author*: the entries hold together, but a device signed what it must not: two entries at one seq, an entry whose
  signature is bad though later ones vouch for it, a kind that its role does not allow. Such entries are kept, and count
  for nothing or are contested; the money of the others is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain as chained
from itertools import groupby
from pathlib import Path
from typing import Final, TypeAlias

from mesh.core.certificate import VenueRoot
from mesh.core.chain import Genesis, parse_genesis, split_run
from mesh.core.entry import LOG_ID_BYTES, NO_PREV, Entry, decode_entry, entry_id, verify_signature
from mesh.errors import PeerError
from mesh.shell.looking import STORE_FILES, NothingThere
from mesh.shell.verify_cuts import CutOff, Cuts
from mesh.shell.verify_rows import BranchRow, CannotOpen, LogRow, Rows, RunRow, open_rows
from mesh.shell.verify_rules import first_broken_rule
from mesh.views.evidence import check_case

FINDINGS_MAX: Final = 1000
_BATCH_ENTRIES: Final = 512
_PIECE_ENTRIES: Final = 64
"""What one thread verifies at a time."""
_Joined: TypeAlias = tuple[Entry, bool]
"""An entry, and whether it follows the one before it, so that its signature vouches for that one too."""


class Blame(Enum):
    """Who is to blame for a finding; see this module's text."""

    FILE = "the file was damaged or changed"
    AUTHOR = "the device that signed it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    file: str
    log_id: bytes | None
    device: str | None
    seq: int | None
    blame: Blame
    text: str


@dataclass(slots=True)
class Verdict:
    """What verifying came to. `findings` are in the order of the files and logs, at most `FINDINGS_MAX` of them."""

    logs: int = 0
    entries: int = 0
    signatures: int = 0
    unchecked: int = 0
    """Entries whose log's beginning could not be read, so that nobody knows under which key they should verify."""
    islands: int = 0
    """Pieces of logs whose beginning is not here; nothing is wrong with that."""
    findings: list[Finding] = field(default_factory=list)
    more: int = 0

    def add(self, found: Sequence[Finding]) -> None:
        room = max(0, FINDINGS_MAX - len(self.findings))
        self.findings += found[:room]
        self.more += len(found[room:])


@dataclass(slots=True)
class _Walk:
    """One log being walked."""

    rows: Rows
    root: VenueRoot
    log: LogRow
    genesis: Genesis | None
    verdict: Verdict
    cuts: Cuts
    pool: ThreadPoolExecutor
    tell: Callable[[int], None]
    findings: list[Finding] = field(default_factory=list)
    ids: dict[bytes, int] = field(default_factory=dict)
    """Of the entries that branches hang from: id and seq, as far as they were met."""
    hung_from: frozenset[bytes] = frozenset()

    def found(self, seq: int | None, blame: Blame, text: str) -> None:
        name = None if self.genesis is None else self.genesis.certificate.name
        self.findings.append(Finding(self.rows.path.name, self.log.log_id, name, seq, blame, text))


def verify_store(path: Path, root: VenueRoot, tell: Callable[[int, int | None], None]) -> Verdict:
    """Verify a device's directory or one of its files; `tell` hears how many entries are done, of how many.

    Raises :class:`NothingThere` where there is no store. Everything else is in the verdict.
    """
    paths = [path / name for name in STORE_FILES if (path / name).exists()] if path.is_dir() else [path]
    if not paths or not path.exists():
        raise NothingThere(f"{path} holds no store: give a device's directory, or a copy of its own.db or replica.db")
    verdict, cuts = Verdict(), Cuts(root)
    with ThreadPoolExecutor(max_workers=max(1, os.cpu_count() or 1)) as pool:
        for file in paths:
            try:
                rows = open_rows(file)
            except CannotOpen as error:
                verdict.add([Finding(file.name, None, None, None, Blame.FILE, str(error))])
                continue
            with closing(rows):
                _verify_file(rows, cuts, verdict, pool, tell)
    verdict.add([_cut_off(found) for found in cuts.cut_off()])
    return verdict


def _cut_off(found: CutOff) -> Finding:
    first = 0 if found.counted_to is None else found.counted_to + 1
    counted = (
        "nothing of this log counts" if first == 0 else f"of this log only what is up to seq {found.counted_to} counts"
    )
    text = f"REVOKED: {counted}; what follows, up to seq {found.last_seq}, is kept, and its bar is paid"
    return Finding(found.file, found.log_id, found.device, first, Blame.AUTHOR, text)


def _verify_file(
    rows: Rows, cuts: Cuts, verdict: Verdict, pool: ThreadPoolExecutor, tell: Callable[[int, int | None], None]
) -> None:
    def in_file(text: str) -> Finding:
        return Finding(rows.path.name, None, None, None, Blame.FILE, text)

    faults = [in_file(f"SQLite finds: {fault}") for fault in rows.faults()]
    total = rows.entries()
    places = rows.places()
    for log in rows.logs():
        walk = _Walk(rows, cuts.root, log, None, verdict, cuts, pool, lambda done: tell(done, total))
        _begin(walk)
        _walk_log(walk, places.pop(log.number, []))
        verdict.add(sorted(walk.findings, key=lambda finding: -1 if finding.seq is None else finding.seq))
    for number, orphans in places.items():
        faults.append(in_file(f"{len(orphans)} runs belong to log {number} of the file, which is not there"))
    for _digest, body in rows.evidence():
        try:
            check_case(body, cuts.root)
        except PeerError as error:
            faults.append(in_file(f"a stored case of a double spend does not hold: {error}"))
    for body in rows.statements():
        cuts.statement(body)
    faults += [in_file(text) for text in dict.fromkeys(rows.unreadable)]
    if rows.disturbed:
        faults = [in_file("a program opened the file while it was looked at: run this again"), *faults]
    verdict.add(faults)


def _begin(walk: _Walk) -> None:
    """Read the log's beginning, which says whose it is and under which key its entries verify."""
    log = walk.log
    walk.verdict.logs += 1
    if entry_id(log.genesis)[:LOG_ID_BYTES] != log.log_id:
        walk.found(0, Blame.FILE, "the beginning of the log is not the one that its id names")
        return
    try:
        walk.genesis = parse_genesis(log.genesis, walk.root)
        verify_signature(log.genesis, walk.genesis.certificate.log_key)
    except PeerError as error:
        walk.found(0, Blame.AUTHOR, f"the log does not begin as one of this venue: {error}")


def _walk_log(walk: _Walk, places: list[tuple[int, int, int]]) -> None:
    branches = {branch.number: branch for branch in walk.rows.branches(walk.log.number)}
    hanging = [branch for branch in branches.values() if branch.attached and branch.from_seq > 0]
    walk.hung_from = frozenset(branch.prev for branch in hanging)
    walk.verdict.islands += sum(not branch.attached for branch in branches.values())
    for number, group in groupby(places, key=lambda place: place[0]):
        branch = branches.get(number)
        if branch is None:
            walk.found(None, Blame.FILE, f"entries lie on branch {number}, which the file does not know")
        _walk_branch(walk, branch, [(first_seq, row) for _, first_seq, row in group])
    for branch in hanging:
        if walk.ids.get(branch.prev) != branch.from_seq - 1:
            walk.found(branch.from_seq, Blame.FILE, "a branch hangs from an entry that is not in the file")
        walk.found(
            branch.from_seq,
            Blame.AUTHOR,
            "FORK: two different entries at this seq are signed with one key. From here on the log is contested: its "
            "sales are kept and the bars are paid, but no card is debited by it until somebody rules",
        )


@dataclass(slots=True)
class _Chain:
    """Where a branch has got to; None where what comes next cannot be compared with what came before."""

    next_seq: int | None
    prev: bytes | None
    doubtful: list[int] = field(default_factory=list)
    """Seqs with a bad signature for which no later entry has vouched yet."""


def _walk_branch(walk: _Walk, branch: BranchRow | None, places: list[tuple[int, int]]) -> None:
    chain = _Chain(0, None) if branch is None else _Chain(branch.from_seq, branch.prev)
    if branch is not None and branch.from_seq == 0:
        chain.prev = NO_PREV
    for batch in _batches(_entries(walk, chain, places)):
        _check_signatures(walk, chain, batch)
        walk.verdict.entries += len(batch)
        walk.tell(walk.verdict.entries)
    _condemn(walk, chain)


def _entries(walk: _Walk, chain: _Chain, places: list[tuple[int, int]]) -> Iterator[_Joined]:
    """The entries of a branch that can be read; what is wrong with the others becomes findings."""
    for first_seq, number in places:
        row = walk.rows.run(number)
        if row is None:
            walk.found(first_seq, Blame.FILE, "the entries that begin here lie where the file cannot be read")
            chain.prev = chain.next_seq = None
            continue
        if chain.next_seq is None:
            chain.next_seq = row.first_seq
        if row.first_seq > chain.next_seq:
            last = row.first_seq - 1
            walk.found(chain.next_seq, Blame.FILE, f"the entries from here to seq {last} are missing")
            chain.prev = None
        elif row.first_seq < chain.next_seq:
            walk.found(row.first_seq, Blame.FILE, "the entries from here on lie in the file twice")
            chain.prev = None
        chain.next_seq = row.last_seq + 1
        yield from _entries_of(walk, chain, row)


def _entries_of(walk: _Walk, chain: _Chain, row: RunRow) -> Iterator[_Joined]:
    try:
        raw = split_run(row.last_seq - row.first_seq + 1, row.blob)
    except PeerError as error:
        text = f"the entries from here to seq {row.last_seq} cannot be read: {error}"
        walk.found(row.first_seq, Blame.FILE, text)
        chain.prev = None
        return
    if entry_id(raw[-1]) != row.tip:
        walk.found(row.last_seq, Blame.FILE, "the entry is not the one whose id was noted when it was accepted")
    for seq, data in enumerate(raw, row.first_seq):
        try:
            entry = decode_entry(data)
        except PeerError as error:
            walk.found(seq, Blame.FILE, f"the entry cannot be read: {error}")
            chain.prev = None
            continue
        if entry.log_id != walk.log.log_id or entry.seq != seq:
            walk.found(seq, Blame.FILE, f"in its place lies entry {entry.seq} of log {entry.log_id.hex()}")
            chain.prev = None
            continue
        if chain.prev is not None and entry.prev != chain.prev:
            walk.found(seq, Blame.FILE, "BROKEN LINK: the entry does not follow the one before it")
        joined = entry.prev == chain.prev
        chain.prev = entry.id
        if chain.prev in walk.hung_from:
            walk.ids[chain.prev] = seq
        yield entry, joined


def _check_signatures(walk: _Walk, chain: _Chain, batch: list[_Joined]) -> None:
    genesis = walk.genesis
    if genesis is None:
        walk.verdict.unchecked += len(batch)
        return
    pieces = [batch[at : at + _PIECE_ENTRIES] for at in range(0, len(batch), _PIECE_ENTRIES)]
    signed_pieces = walk.pool.map(_are_signed, pieces, [genesis.certificate.log_key] * len(pieces))
    walk.verdict.signatures += len(batch)
    walk.cuts.entries(walk.rows.path.name, genesis, batch)
    for (entry, joined), signed in zip(batch, chained.from_iterable(signed_pieces), strict=True):
        if not joined:
            _condemn(walk, chain)
        if not signed:
            chain.doubtful.append(entry.seq)
            continue
        for seq in chain.doubtful:
            walk.found(seq, Blame.AUTHOR, "BAD SIGNATURE, though the device signed later entries on top of it")
        chain.doubtful.clear()
        wrong = first_broken_rule(entry, genesis, walk.root)
        if wrong is not None:
            walk.found(entry.seq, Blame.AUTHOR, wrong)


def _condemn(walk: _Walk, chain: _Chain) -> None:
    """A bad signature that nothing later vouches for was not there when the entry was accepted."""
    for seq in chain.doubtful:
        walk.found(seq, Blame.FILE, "BAD SIGNATURE: the entry is not what the device signed")
    chain.doubtful.clear()


def _are_signed(entries: list[_Joined], key: bytes) -> list[bool]:
    return [_is_signed(entry, key) for entry, _ in entries]


def _is_signed(entry: Entry, key: bytes) -> bool:
    try:
        verify_signature(entry.data, key)
    except PeerError:
        return False
    return True


def _batches(entries: Iterator[_Joined]) -> Iterator[list[_Joined]]:
    batch: list[_Joined] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == _BATCH_ENTRIES:
            yield batch
            batch = []
    if batch:
        yield batch
