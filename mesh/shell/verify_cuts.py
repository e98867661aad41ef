"""What the authority cut off: of a revoked device only what lies on the chain of its cut counts (mesh.views.trust).

Statements may be found after the logs that they are about, in another log or another file, so this is looked at last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mesh.core.certificate import VenueRoot
from mesh.core.chain import Genesis
from mesh.core.entry import Entry
from mesh.core.kinds import Kind
from mesh.core.revocation import parse_statement
from mesh.errors import PeerError
from mesh.views.trust import TrustView


@dataclass(slots=True)
class _Met:
    """A log that was walked: the file it is in, whose it is, its highest seq."""

    file: str
    device: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class CutOff:
    """A log of a revoked device that goes on after what counts of it. `counted_to` None: nothing of it counts."""

    file: str
    log_id: bytes
    device: str
    counted_to: int | None
    last_seq: int


@dataclass(slots=True)
class Cuts:
    """Every statement and every chain that was met."""

    root: VenueRoot
    _trust: TrustView = field(default_factory=TrustView)
    _met: dict[bytes, _Met] = field(default_factory=dict)

    def statement(self, body: bytes) -> None:
        """Take in a statement; one that the authority did not sign revokes nobody."""
        try:
            self._trust.revoke(parse_statement(body, self.root))
        except PeerError:
            return

    def entries(self, file: str, genesis: Genesis, entries: list[tuple[Entry, bool]]) -> None:
        """Take in entries of one log, each with whether it follows the one before it."""
        if not entries:
            return
        log_id = entries[0][0].log_id
        self._trust.open_log(log_id, genesis.certificate.serial)
        met = self._met.setdefault(log_id, _Met(file, genesis.certificate.name, 0))
        met.last_seq = max(met.last_seq, *(entry.seq for entry, _ in entries))
        for piece in _contiguous(entries):
            self._trust.hold(log_id, piece[0].seq, piece[0].prev, [entry.id for entry in piece])
            for entry in piece:
                if entry.kind == Kind.REVOCATION:
                    self.statement(entry.body)

    def cut_off(self) -> Iterator[CutOff]:
        """The logs that go on after their cut."""
        for log_id, met in self._met.items():
            trust = self._trust.log_trust(log_id)
            counted_to = -1 if trust.counted_to is None else trust.counted_to
            if trust.revoked and counted_to < met.last_seq:
                yield CutOff(met.file, log_id, met.device, trust.counted_to, met.last_seq)


def _contiguous(entries: list[tuple[Entry, bool]]) -> Iterator[list[Entry]]:
    piece: list[Entry] = []
    for entry, joined in entries:
        if piece and not (joined and entry.seq == piece[-1].seq + 1):
            yield piece
            piece = []
        piece.append(entry)
    if piece:
        yield piece
