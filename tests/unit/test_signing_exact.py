"""The memory of a signer, without any key: what reaches the key, and what is refused before it is asked."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pytest

from mesh.core.entry import BadField, encode_payload
from mesh.core.kinds import Kind
from mesh.core.signing import (
    Domain,
    EntryMemory,
    NoGenesis,
    NotAStatement,
    NotOurLog,
    NotTheLastEntry,
    RefusedToSign,
    SeqAlreadySigned,
    SeqSkipped,
    TooManyLogs,
    encode_statement,
)
from mesh.errors import LocalError
from mesh.limits import ENTRY_SEQ_MAX, LOGS_PER_SIGNER_MAX

SALE, GENESIS = int(Kind.TAP), int(Kind.GENESIS)
NO_PREV: Final = bytes(32)
OURS: Final = b"tapmesh/entry/1"


class KeyGone(LocalError):
    """What a key says that fails."""


class Key:
    """Keeps what it was asked to sign; its signatures are 64 bytes that name their message."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.gone = False

    def sign(self, message: bytes) -> bytes:
        self.asked.append(message)
        if self.gone:
            raise KeyGone("gone")
        return hashlib.sha512(message).digest()


class Signer:
    """A memory with a key."""

    def __init__(self) -> None:
        self.key = Key()
        self.memory = EntryMemory()

    def sign(self, **fields: Any) -> bytes:
        asked: dict[str, Any] = {"log_id": b"", "seq": 0, "prev": NO_PREV, "time_ms": 1, "kind": SALE, "body": b""}
        return self.memory.sign_next(self.key.sign, **(asked | fields))

    def open(self, body: bytes = b"") -> tuple[bytes, bytes]:
        """A new log: its id, and the id of its genesis."""
        identifier = id_of(self.sign(kind=GENESIS, body=body))
        return identifier[:16], identifier

    def refuses(self, error: type[RefusedToSign], match: str, **fields: Any) -> None:
        """The key is not even asked."""
        before = list(self.key.asked)
        with pytest.raises(error, match=match):
            self.sign(**fields)
        assert self.key.asked == before


def id_of(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()


@pytest.fixture
def signer() -> Signer:
    return Signer()


# -- What is signed ----------------------------------------------------------------------------------------------------


def test_entry_is_its_payload_and_the_keys_signature_over_domain_and_payload(signer: Signer) -> None:
    log_id, genesis_id = signer.open(b"nonce")
    genesis = encode_payload(log_id=b"", seq=0, prev=NO_PREV, time_ms=1, kind=GENESIS, body=b"nonce")
    entry = signer.sign(log_id=log_id, seq=1, prev=genesis_id, time_ms=77, kind=SALE, body=b"beer")
    payload = encode_payload(log_id=log_id, seq=1, prev=genesis_id, time_ms=77, kind=SALE, body=b"beer")
    assert signer.key.asked == [OURS + genesis, OURS + payload]
    assert entry == payload + hashlib.sha512(OURS + payload).digest()


def test_next_seq_is_the_one_after_the_entry_signed_last(signer: Signer) -> None:
    log_id, last = signer.open()
    assert signer.memory.next_seq(log_id) == 1
    for seq in (1, 2, 3):
        last = id_of(signer.sign(log_id=log_id, seq=seq, prev=last))
        assert signer.memory.next_seq(log_id) == seq + 1
    assert signer.memory.next_seq(b"\x00" * 16) is None
    assert signer.memory.next_seq(b"") is None
    assert signer.memory.next_seq(last[:16]) is None


def test_logs_are_remembered_apart(signer: Signer) -> None:
    (money, money_id), (control, control_id) = signer.open(b"money"), signer.open(b"control")
    signer.sign(log_id=money, seq=1, prev=money_id)
    assert (signer.memory.next_seq(money), signer.memory.next_seq(control)) == (2, 1)
    signer.refuses(NotTheLastEntry, "after another entry", log_id=control, seq=1, prev=money_id)
    signer.sign(log_id=control, seq=1, prev=control_id)
    assert (signer.memory.next_seq(money), signer.memory.next_seq(control)) == (2, 2)


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.11")
def test_seq_is_the_next_one_and_neither_lower_nor_higher(signer: Signer) -> None:
    log_id, genesis_id = signer.open()
    first = id_of(signer.sign(log_id=log_id, seq=1, prev=genesis_id))
    second = id_of(signer.sign(log_id=log_id, seq=2, prev=first))
    for seq, prev in ((1, genesis_id), (2, first), (2, second)):
        signer.refuses(
            SeqAlreadySigned, f"seq {seq} of log {log_id.hex()} again, after seq 2", log_id=log_id, seq=seq, prev=prev
        )
    for seq in (4, 5, ENTRY_SEQ_MAX):
        signer.refuses(
            SeqSkipped, f"seq {seq} of log {log_id.hex()} right after seq 2", log_id=log_id, seq=seq, prev=second
        )
    assert signer.memory.next_seq(log_id) == 3
    signer.sign(log_id=log_id, seq=3, prev=second)


def test_prev_is_the_id_of_the_entry_signed_last_and_no_other(signer: Signer) -> None:
    log_id, genesis_id = signer.open()
    first = id_of(signer.sign(log_id=log_id, seq=1, prev=genesis_id))
    for prev in (genesis_id, NO_PREV, first[:-1] + bytes([first[-1] ^ 1])):
        signer.refuses(NotTheLastEntry, "after another entry", log_id=log_id, seq=2, prev=prev)
    assert signer.memory.next_seq(log_id) == 2


def test_log_that_was_not_opened_here_is_nobodys_to_continue(signer: Signer) -> None:
    elsewhere, genesis_id = Signer().open(b"earlier start")
    signer.open()
    signer.refuses(NotOurLog, elsewhere.hex(), log_id=elsewhere, seq=1, prev=genesis_id)


def test_entry_0_is_a_genesis_without_a_prev_and_a_genesis_is_entry_0(signer: Signer) -> None:
    signer.refuses(NoGenesis, "does not open a log", kind=SALE)
    signer.refuses(NoGenesis, "does not open a log", kind=GENESIS, prev=b"\x01" * 32)
    log_id, genesis_id = signer.open()
    signer.refuses(NoGenesis, "genesis at seq 1", log_id=log_id, seq=1, prev=genesis_id, kind=GENESIS)
    signer.sign(log_id=log_id, seq=1, prev=genesis_id)


def test_of_several_faults_the_most_dangerous_is_named(signer: Signer) -> None:
    log_id, genesis_id = signer.open()
    signer.sign(log_id=log_id, seq=1, prev=genesis_id)
    signer.refuses(SeqAlreadySigned, "again", log_id=log_id, seq=1, prev=NO_PREV, kind=GENESIS)
    signer.refuses(SeqSkipped, "right after", log_id=log_id, seq=3, prev=NO_PREV, kind=GENESIS)
    signer.refuses(NotTheLastEntry, "another entry", log_id=log_id, seq=2, prev=NO_PREV, kind=GENESIS)


@pytest.mark.parametrize("fields", [{"seq": -1}, {"log_id": b"\x01"}, {"kind": 2**16}, {"time_ms": -1}, {"prev": b""}])
def test_entry_that_could_not_exist_is_refused_and_changes_nothing(signer: Signer, fields: dict[str, Any]) -> None:
    log_id, genesis_id = signer.open()
    before = list(signer.key.asked)
    with pytest.raises(BadField):
        signer.sign(**({"log_id": log_id, "seq": 1, "prev": genesis_id} | fields))
    assert signer.key.asked == before
    assert signer.memory.next_seq(log_id) == 1


def test_one_program_opens_so_many_logs_and_not_one_more(signer: Signer) -> None:
    opened = [signer.open(number.to_bytes(2, "big")) for number in range(LOGS_PER_SIGNER_MAX)]
    assert len({log_id for log_id, _ in opened}) == LOGS_PER_SIGNER_MAX
    signer.refuses(TooManyLogs, str(LOGS_PER_SIGNER_MAX), kind=GENESIS, body=b"one more")
    last_id, last_genesis = opened[-1]
    signer.sign(log_id=last_id, seq=1, prev=last_genesis)


def test_log_whose_signing_failed_is_closed_and_the_others_go_on(signer: Signer) -> None:
    (broken, broken_id), (whole, whole_id) = signer.open(b"broken"), signer.open(b"whole")
    signer.key.gone = True
    with pytest.raises(KeyGone):
        signer.sign(log_id=broken, seq=1, prev=broken_id)
    with pytest.raises(KeyGone):
        signer.sign(kind=GENESIS, body=b"never opened")
    signer.key.gone = False
    assert (signer.memory.next_seq(broken), signer.memory.next_seq(whole)) == (None, 1)
    signer.refuses(NotOurLog, broken.hex(), log_id=broken, seq=1, prev=broken_id)
    signer.sign(log_id=whole, seq=1, prev=whole_id)


# -- Everything else that is signed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "begins"),
    [
        (Domain.CARD, b"tapmesh/card/1"),
        (Domain.RECEIPT, b"tapmesh/receipt/1"),
        (Domain.REQUEST, b"tapmesh/request/1"),
    ],
)
def test_statement_begins_with_its_domain(domain: Domain, begins: bytes) -> None:
    assert encode_statement(domain, b"message") == begins + b"message"
    assert encode_statement(domain, b"") == begins


@pytest.mark.parametrize("domain", [b"tapmesh/entry/1", b"tapmesh/card/1", "CARD", None, b"", Domain])
def test_only_a_domain_is_a_domain(domain: object) -> None:
    with pytest.raises(NotAStatement, match="neither a card, a receipt nor a request"):
        encode_statement(domain, b"message")


@pytest.mark.parametrize(
    ("error", "fields"), [(NotOurLog, {"log_id": bytes(16), "seq": 1}), (NoGenesis, {"kind": SALE})]
)
def test_refusal_says_what_it_means_for_the_money(
    signer: Signer, error: type[RefusedToSign], fields: dict[str, Any]
) -> None:
    signer.refuses(error, "Nothing was signed, and what was signed before stays good", **fields)
