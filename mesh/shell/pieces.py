"""Cutting logs into pieces that can be sent: each within the bounds of a run, and each ending with a good signature.

Stored runs end where somebody verified the last signature. A fork may leave its parent inside one; the entries before
it may then bear bad signatures, which only what follows vouches for, and a run that ended there would be refused and
its blameless sender with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.core.chain import encode_run, split_run
from mesh.core.entry import verify_signature
from mesh.core.frontier import Segment
from mesh.errors import PeerError
from mesh.limits import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from mesh.ports import Piece, StoredRuns

_ENTRY_HEAD_BYTES = 8
"""More than the CBOR head of one entry in a run."""


def segments_after(segments: Sequence[Segment], seq: int) -> list[Segment]:
    """What is left of consecutive segments after `seq`."""
    cut = [Segment(s.branch, max(s.first_seq, seq + 1), s.last_seq) for s in segments]
    return [segment for segment in cut if segment.first_seq <= segment.last_seq]


def joined(waiting: Sequence[Segment], following: Sequence[Segment]) -> list[Segment]:
    """Segments of one chain and what follows them; two neighbouring ones of one branch become one."""
    segments = list(waiting)
    for segment in following:
        last = segments[-1] if segments else None
        if last is not None and (last.branch, last.last_seq + 1) == (segment.branch, segment.first_seq):
            segments[-1] = Segment(segment.branch, last.first_seq, segment.last_seq)
        else:
            segments.append(segment)
    return segments


def take_piece(store: StoredRuns, log_id: bytes, segments: Sequence[Segment], log_key: bytes) -> Piece | None:
    """The first piece of a chain; None where nothing is left, or nothing of it could be proven to anybody."""
    for at, segment in enumerate(segments):
        piece = store.read_run(log_id, segment)
        if piece is not None:
            return _ending_signed(store, log_id, segments[at + 1 :], piece, log_key) if piece.cut else piece
    return None


def _ending_signed(
    store: StoredRuns, log_id: bytes, following: Sequence[Segment], piece: Piece, log_key: bytes
) -> Piece | None:
    """A piece that a fork cuts inside a stored run: ended earlier, or continued into the branch that goes on there."""
    entries = split_run(piece.count, piece.blob)
    signed = _signed_length(entries, log_key)
    if signed == 0:
        more = next((found for s in following if (found := store.read_run(log_id, s)) is not None), None)
        if more is not None:
            entries += split_run(more.count, more.blob)
        while len(entries) > RUN_ENTRIES_MAX or sum(map(len, entries)) > RUN_BYTES_MAX - _ENTRY_HEAD_BYTES * len(
            entries
        ):
            entries.pop()
        signed = _signed_length(entries, log_key)
    if signed == 0:
        return None
    first_seq = piece.next_seq - piece.count
    return Piece(signed, encode_run(entries[:signed]), first_seq + signed, cut=False)


def _run_bytes(entries: Sequence[bytes]) -> int:
    return sum(len(entry) + _ENTRY_HEAD_BYTES for entry in entries)


def _signed_length(entries: Sequence[bytes], log_key: bytes) -> int:
    """How many entries there are up to the last one whose own signature is good."""
    for length in range(len(entries), 0, -1):
        try:
            verify_signature(entries[length - 1], log_key)
        except PeerError:
            continue
        return length
    return 0
