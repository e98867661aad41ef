"""Fork proofs: they convict who signed twice, nobody else, and nothing about them can be changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.entry import entry_id
from mesh.core.fork import NotAFork, check_fork_proof, prove_fork
from mesh.core.kinds import Kind, Role
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX
from tests.factory import LogWriter, Venue

VENUE = Venue()
BAR = VENUE.device("bar", Role.READER)


def forked(body: bytes = b"") -> tuple[LogWriter, LogWriter]:
    log = LogWriter(BAR)
    log.append(99, b"shared")
    branch = log.fork()
    log.append(99, b"one" + body)
    branch.append(99, b"other" + body)
    return log, branch


LOG, BRANCH = forked()
GENESIS, ONE, OTHER = LOG.entries[0], LOG.entries[2], BRANCH.entries[2]
PROOF = prove_fork(GENESIS, ONE, OTHER, VENUE.root)
assert PROOF is not None
BODY = PROOF.body


@pytest.mark.proves("B2")
def test_two_entries_at_one_seq_convict_their_log_from_the_venue_root_alone() -> None:
    proof = check_fork_proof(BODY, VENUE.root)
    assert (proof.log_id, proof.seq, proof.body) == (LOG.log_id, 2, BODY)


def test_equal_evidence_has_equal_bytes_wherever_it_is_made() -> None:
    assert prove_fork(GENESIS, OTHER, ONE, VENUE.root) == PROOF


@pytest.mark.proves("B2")
def test_no_byte_of_a_proof_can_be_changed() -> None:
    for at in range(len(BODY)):
        for bit in (0x01, 0x80):
            with pytest.raises(PeerError):
                check_fork_proof(BODY[:at] + bytes([BODY[at] ^ bit]) + BODY[at + 1 :], VENUE.root)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_proof_with_any_other_value_of_a_byte_or_cut_short_proves_nothing(at: int, change: int) -> None:
    for data in (BODY[:at] + bytes([BODY[at] ^ change]) + BODY[at + 1 :], BODY[:at], BODY + BODY[:at] + b"\x00"):
        with pytest.raises(PeerError):
            check_fork_proof(data, VENUE.root)


def test_honest_log_convicts_nobody() -> None:
    log = LogWriter(BAR)
    for _ in range(4):
        log.append(99, b"")
    for one in log.entries:
        for other in log.entries:
            with pytest.raises(NotAFork):
                prove_fork(log.entries[0], one, other, VENUE.root)


def test_two_logs_of_one_device_are_no_fork() -> None:
    """Every process start opens new logs: a restored backup must not convict itself."""
    one, other = LogWriter(BAR, number=1), LogWriter(BAR, number=2)
    one.append(99, b"")
    other.append(99, b"")
    with pytest.raises(NotAFork):
        prove_fork(one.entries[0], one.entries[1], other.entries[1], VENUE.root)


@pytest.mark.proves("B2")
def test_stranger_cannot_frame_a_reader() -> None:
    rogue = VENUE.device("rogue", Role.READER)
    log = LogWriter(BAR)
    log.append(99, b"true")
    framed = log.fork(1)
    framed.device = rogue
    framed.append(99, b"forged with another device's key")
    with pytest.raises(PeerError, match="signature"):
        prove_fork(log.entries[0], log.entries[1], framed.entries[1], VENUE.root)


def test_fork_of_two_huge_entries_has_no_proof_that_fits_and_is_no_error() -> None:
    log, branch = forked(bytes(ENTRY_BODY_BYTES_MAX // 2))
    assert prove_fork(log.entries[0], log.entries[2], branch.entries[2], VENUE.root) is None


def test_proof_fits_an_entry() -> None:
    control = LogWriter(VENUE.device("witness", Role.COURIER))
    assert entry_id(control.append(Kind.FORK_PROOF, BODY)) == control.head_id
