"""Fork proofs: two signed entries of one log at one seq. Whoever can sign a log has equivocated.

A proof's body is ``[genesis, entry, entry]``: with the venue root alone anyone can check it, because the genesis
carries the certificate that binds the key under which both entries verify. The two entries are ordered by id, so that
equal evidence has equal bytes wherever it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.certificate import VenueRoot
from mesh.core.chain import Genesis, parse_genesis
from mesh.core.codec import decode_array, encode
from mesh.core.entry import LOG_ID_BYTES, decode_entry, entry_id, verify_signature
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX


class NotAFork(PeerError):
    """The entries offered as proof do not convict anybody."""


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Evidence that the key of `log_id` signed two different entries at `seq`."""

    log_id: bytes
    seq: int
    body: bytes


def prove_fork(genesis: bytes, one: bytes, other: bytes, root: VenueRoot) -> ForkProof | None:
    """Build a proof from raw entries, or raise :class:`NotAFork`; None where it would not fit into one entry.

    The two branches themselves replicate, so a node that holds both knows of the fork without a proof entry.
    """
    first, second = sorted((one, other), key=entry_id)
    log_id, seq = _check(genesis, first, second, root)
    body = encode([genesis, first, second])
    return ForkProof(log_id, seq, body) if len(body) <= ENTRY_BODY_BYTES_MAX else None


def check_fork_proof(body: bytes, root: VenueRoot) -> ForkProof:
    """Check the body of a FORK_PROOF entry from the venue root alone, or raise a `PeerError`."""
    match decode_array(body, bytes_max=ENTRY_BODY_BYTES_MAX):
        case [bytes(genesis), bytes(first), bytes(second)]:
            pass
        case _:
            raise NotAFork("a fork proof is [genesis, entry, entry]")
    if entry_id(first) >= entry_id(second):
        raise NotAFork("the two entries of a proof are different and ordered by id")
    log_id, seq = _check(genesis, first, second, root)
    return ForkProof(log_id, seq, body)


def _check(genesis: bytes, first: bytes, second: bytes, root: VenueRoot) -> tuple[bytes, int]:
    author: Genesis = parse_genesis(genesis, root)
    log_id = entry_id(genesis)[:LOG_ID_BYTES]
    one, other = decode_entry(first), decode_entry(second)
    if one.log_id != log_id or other.log_id != log_id:
        raise NotAFork("the entries are not both of the log whose genesis is given")
    if one.seq != other.seq or first == second:
        raise NotAFork("the entries are not two different ones at one seq")
    for data in (genesis, first, second):
        verify_signature(data, author.certificate.log_key)
    return log_id, one.seq
