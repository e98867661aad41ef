"""Which entries count for anything at all, as far as their author is concerned: forks, bad signatures, revocations.

A pure function of the set of entries, findings and statements held; order, path and repetition make no difference.

* The log of a device that was never revoked counts up to where it is contested: the smallest seq at which it forked, or
  at which a signature in it is bad.
* Once its device is revoked, the authority's cut decides instead, about forks too: what counts is the cut's entry and
  its ancestors, by id. So whoever stole a key cannot undo what was sold before by forking below it.
* An ancestor counts when it is known to be one: while the cut's entry, or something between, has not arrived, what lies
  beyond the gap is unknown and does not count yet. Unknown is no accusation: the bar is paid from suspense meanwhile.
* Where the authority contradicts itself an entry counts only if every holding statement lets it (mesh.core.revocation).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mesh.core.chain import Run
from mesh.core.frontier import Position
from mesh.core.revocation import Revocations, Statement
from mesh.views.card_account import HASH_PREFIX_BYTES

_WIDTH = HASH_PREFIX_BYTES


@dataclass(slots=True)
class _Piece:
    """Consecutive entries of one chain: 16 bytes of each id, packed, and of the id before the first."""

    first_seq: int
    prev: bytes
    ids: bytearray

    @property
    def end_seq(self) -> int:
        """The seq after the last."""
        return self.first_seq + len(self.ids) // _WIDTH

    def id_at(self, seq: int) -> bytes:
        at = (seq - self.first_seq) * _WIDTH
        return bytes(self.ids[at : at + _WIDTH])

    def holds(self, seq: int, identifier: bytes) -> bool:
        return self.first_seq <= seq < self.end_seq and self.id_at(seq) == identifier

    def follows(self, other: _Piece) -> bool:
        return self.first_seq == other.end_seq and self.prev == bytes(other.ids[-_WIDTH:])


@dataclass(frozen=True, slots=True)
class _Reach:
    """Part of a piece that lies on the chain of a cut: its entries from `first_seq` to `last_seq`."""

    piece: _Piece
    first_seq: int
    last_seq: int


@dataclass(slots=True)
class _Log:
    serial: int
    contested_from: int | None = None
    pieces: list[_Piece] = field(default_factory=list)
    chains: tuple[tuple[_Reach, ...], ...] | None = None
    """What is known to lie on the chain of each holding cut; None where that has to be looked at again."""


@dataclass(frozen=True, slots=True)
class LogTrust:
    """What is to be said about one log. `counted_to` is the last seq known to count; None: nothing does."""

    contested_from: int | None
    revoked: bool
    cuts: tuple[Position | None, ...]
    counted_to: int | None


class TrustView:
    """The fold. `version` rises whenever something that counted may not any more, or the other way round."""

    def __init__(self) -> None:
        self.revocations = Revocations()
        self.version = 0
        self._logs: dict[bytes, _Log] = {}

    # -- Folding ---------------------------------------------------------------------------------------------------

    def open_log(self, log_id: bytes, serial: int) -> None:
        """Say whose log it is, before anything of it is folded."""
        self._logs.setdefault(log_id, _Log(serial))

    def fold(self, run: Run) -> None:
        """Take in a run of an opened log, whatever its lane."""
        self.hold(run.log_id, run.first_seq, run.prev, run.ids)

    def hold(self, log_id: bytes, first_seq: int, prev: bytes, ids: Sequence[bytes]) -> None:
        """Take in where consecutive entries of an opened log stand; what is held already is passed over."""
        log = self._logs[log_id]
        new = _Piece(first_seq, prev[:_WIDTH], bytearray().join([identifier[:_WIDTH] for identifier in ids]))
        if not _add(log.pieces, new):
            return
        log.chains = None
        if log.serial in self.revocations:
            self.version += 1

    def contest(self, log_id: bytes, from_seq: int) -> None:
        """An opened log forked at `from_seq`, or a signature there is bad."""
        log = self._logs[log_id]
        if log.contested_from is None or from_seq < log.contested_from:
            log.contested_from = from_seq
            self.version += 1

    def revoke(self, statement: Statement) -> None:
        """Take in a checked statement of the authority."""
        if self.revocations.add(statement):
            self.version += 1
            for log in self._logs.values():
                log.chains = None

    # -- Asking ----------------------------------------------------------------------------------------------------

    def counts(self, log_id: bytes, seq: int, entry_id: bytes) -> bool:
        """Whether this entry counts, as far as its author's trust goes. At least 16 bytes of the id are needed."""
        log = self._logs[log_id]
        if log.serial not in self.revocations:
            return log.contested_from is None or seq < log.contested_from
        identifier = entry_id[:_WIDTH]
        return all(_lies_on(chain, seq, identifier) for chain in self._chains(log_id, log))

    def is_cut_off(self, log_id: bytes, seq: int, entry_id: bytes) -> bool:
        """Whether its author is revoked and this entry outside the cut; forks alone do not cut anything off."""
        log = self._logs.get(log_id)
        return log is not None and log.serial in self.revocations and not self.counts(log_id, seq, entry_id)

    def logs_of(self, serial: int) -> list[bytes]:
        """The logs of one device that are known here."""
        return sorted(log_id for log_id, log in self._logs.items() if log.serial == serial)

    def contested_from(self, log_id: bytes) -> int | None:
        """From which seq a log is contested by a fork or a bad signature, whether or not its device was revoked."""
        return self._logs[log_id].contested_from

    def log_trust(self, log_id: bytes) -> LogTrust:
        """What is to be shown about an opened log."""
        log = self._logs[log_id]
        revoked = log.serial in self.revocations
        cuts = self.revocations.cuts(log.serial, log_id)
        if revoked:
            counted_to = _common_end(self._chains(log_id, log))
        else:
            last = max((piece.end_seq - 1 for piece in log.pieces), default=-1)
            end = last if log.contested_from is None else min(last, log.contested_from - 1)
            counted_to = end if end >= 0 else None
        return LogTrust(log.contested_from, revoked, cuts, counted_to)

    def _chains(self, log_id: bytes, log: _Log) -> tuple[tuple[_Reach, ...], ...]:
        if log.chains is None:
            cuts = self.revocations.cuts(log.serial, log_id)
            log.chains = tuple(() if cut is None else tuple(_chain(log.pieces, cut)) for cut in cuts)
        return log.chains


def _add(pieces: list[_Piece], new: _Piece) -> bool:
    """Add what is not held yet of `new`, joined to what it follows and to what follows it; False if all of it is."""
    while (held := _holding(pieces, new.first_seq, new.id_at(new.first_seq))) is not None:
        count = 0
        while count * _WIDTH < len(new.ids) and held.holds(new.first_seq + count, new.id_at(new.first_seq + count)):
            count += 1
        if count * _WIDTH == len(new.ids):
            return False
        new = _Piece(new.first_seq + count, new.id_at(new.first_seq + count - 1), new.ids[count * _WIDTH :])
    for piece in pieces:
        if new.follows(piece):
            piece.ids += new.ids
            new = piece
            break
    else:
        pieces.append(new)
    for piece in pieces:
        if piece is not new and piece.follows(new):
            new.ids += piece.ids
            pieces.remove(piece)
            break
    return True


def _holding(pieces: Iterable[_Piece], seq: int, identifier: bytes) -> _Piece | None:
    return next((piece for piece in pieces if piece.holds(seq, identifier)), None)


def _chain(pieces: Sequence[_Piece], cut: Position) -> list[_Reach]:
    """The parts of pieces that lead back from a cut, newest first, as far as they are held."""
    reaches: list[_Reach] = []
    seq, identifier = cut.seq, cut.id[:_WIDTH]
    while seq >= 0 and (piece := _holding(pieces, seq, identifier)) is not None:
        reaches.append(_Reach(piece, piece.first_seq, seq))
        seq, identifier = piece.first_seq - 1, piece.prev
    return reaches


def _common_end(chains: Sequence[Sequence[_Reach]]) -> int | None:
    """The last seq whose entry lies on every chain."""
    if not all(chains):
        return None
    for reach in chains[0]:
        for seq in range(reach.last_seq, reach.first_seq - 1, -1):
            if all(_lies_on(chain, seq, reach.piece.id_at(seq)) for chain in chains[1:]):
                return seq
    return None


def _lies_on(chain: Iterable[_Reach], seq: int, identifier: bytes) -> bool:
    return any(reach.first_seq <= seq <= reach.last_seq and reach.piece.id_at(seq) == identifier for reach in chain)
