"""The signer remembers: no caller, thread, copy or second process gets two entries at one seq out of one key."""

from __future__ import annotations

import ast
import copy
import pickle
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from mesh.core.entry import (
    ENTRY_VERSION,
    LOG_ID_BYTES,
    NO_PREV,
    SIGNATURE_BYTES,
    SIGNATURE_DOMAIN,
    BadField,
    decode_entry,
    encode_payload,
    entry_id,
    verify_signature,
)
from mesh.core.kinds import Kind
from mesh.core.signing import (
    Domain,
    NoGenesis,
    NotAStatement,
    NotOurLog,
    NotTheLastEntry,
    RefusedToSign,
    SeqAlreadySigned,
    SeqSkipped,
    TooManyLogs,
)
from mesh.errors import LocalError
from mesh.limits import ENTRY_BODY_BYTES_MAX, LOGS_PER_SIGNER_MAX
from mesh.shell.keys import FileKey
from mesh.shell.signers import KeyFailed, LogSigner

TREE = Path(__file__).resolve().parents[2]
SALE, GENESIS = int(Kind.TAP), int(Kind.GENESIS)


class TokenGone(LocalError):
    """What a key says that cannot be used any more."""


class WatchedKey:
    """A real key that keeps every message it ever signed, and fails when told to: after signing, the worst moment."""

    def __init__(self) -> None:
        self._key = FileKey(bytes(32))
        self.signed: list[bytes] = []
        self.fails = False
        self.answer: bytes | None = None

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    def sign(self, message: bytes) -> bytes:
        self.signed.append(message)
        if self.fails:
            raise TokenGone("gone")
        return self._key.sign(message) if self.answer is None else self.answer

    @property
    def entries_at(self) -> Counter[tuple[bytes, int]]:
        """How often each (log id, seq) was signed; seq 0 names its log by its own bytes, so it is left out."""
        places: Counter[tuple[bytes, int]] = Counter()
        for message in self.signed:
            if message.startswith(SIGNATURE_DOMAIN):
                entry = decode_entry(message[len(SIGNATURE_DOMAIN) :] + bytes(SIGNATURE_BYTES))
                if entry.seq:
                    places[entry.log_id, entry.seq] += 1
        return places


class Caller:
    """Someone who uses one signer; keeps the entries it got, by log."""

    def __init__(self, signer: LogSigner) -> None:
        self.signer = signer
        self.logs: dict[bytes, list[bytes]] = {}
        self.starts = 0

    def open(self, nonce: bytes = b"") -> bytes:
        entry = self.signer.sign_entry(log_id=b"", seq=0, prev=NO_PREV, time_ms=0, kind=GENESIS, body=nonce)
        log_id = entry_id(entry)[:LOG_ID_BYTES]
        self.logs[log_id] = [entry]
        return log_id

    def append(self, log_id: bytes, body: bytes = b"") -> bytes:
        log = self.logs[log_id]
        entry = self.ask(log_id, len(log), entry_id(log[-1]), body)
        log.append(entry)
        return entry

    def ask(self, log_id: bytes, seq: int, prev: bytes, body: bytes = b"", kind: int = SALE) -> bytes:
        return self.signer.sign_entry(log_id=log_id, seq=seq, prev=prev, time_ms=1, kind=kind, body=body)


@pytest.fixture
def key() -> WatchedKey:
    return WatchedKey()


@pytest.fixture
def caller(key: WatchedKey) -> Caller:
    return Caller(LogSigner(key))


# -- What is signed ----------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.11", "S1.21")
def test_entries_of_a_log_are_signed_one_after_the_other(caller: Caller, key: WatchedKey) -> None:
    log_id = caller.open()
    entries = [caller.append(log_id, bytes([number])) for number in range(3)]
    for seq, entry in enumerate(entries, 1):
        verify_signature(entry, key.public_key)
        assert (decode_entry(entry).log_id, decode_entry(entry).seq) == (log_id, seq)
    assert caller.signer.next_seq(log_id) == 4


def test_logs_of_several_lanes_are_remembered_apart(caller: Caller) -> None:
    money, control = caller.open(b"money"), caller.open(b"control")
    for log_id in (money, money, control):
        caller.append(log_id)
    assert (caller.signer.next_seq(money), caller.signer.next_seq(control)) == (3, 2)


# -- What is not ------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.3", "B2")
@pytest.mark.parametrize("seq", [1, 2, 3])
def test_seq_that_was_signed_is_never_signed_again(caller: Caller, key: WatchedKey, seq: int) -> None:
    log_id = caller.open()
    for _ in range(3):
        caller.append(log_id)
    prev = entry_id(caller.logs[log_id][seq - 1])
    before = len(key.signed)
    with pytest.raises(SeqAlreadySigned, match=r"contested.*Nothing was signed.*Start the program again") as refused:
        caller.ask(log_id, seq, prev, b"another sale")
    assert len(key.signed) == before and f"seq {seq} " in str(refused.value)
    caller.append(log_id)


def test_same_entry_is_not_signed_twice_either(caller: Caller) -> None:
    log_id = caller.open()
    caller.append(log_id, b"a sale")
    with pytest.raises(SeqAlreadySigned):
        caller.ask(log_id, 1, entry_id(caller.logs[log_id][0]), b"a sale")


def test_seq_further_on_is_refused_and_leaves_no_hole(caller: Caller) -> None:
    log_id = caller.open()
    with pytest.raises(SeqSkipped):
        caller.ask(log_id, 2, entry_id(caller.logs[log_id][0]))
    assert decode_entry(caller.append(log_id)).seq == 1


def test_entry_after_another_than_the_last_is_refused(caller: Caller) -> None:
    log_id = caller.open()
    caller.append(log_id)
    with pytest.raises(NotTheLastEntry, match="nothing from there on would count"):
        caller.ask(log_id, 2, entry_id(caller.logs[log_id][0]))


@pytest.mark.proves("S1.3")
def test_log_of_an_earlier_start_is_never_continued(caller: Caller, key: WatchedKey) -> None:
    """A restored backup, a second process, a copied directory: they have the key, and not the memory."""
    log_id = caller.open()
    caller.append(log_id)
    restarted = Caller(LogSigner(key))
    assert restarted.signer.next_seq(log_id) is None
    with pytest.raises(NotOurLog, match="did not open"):
        restarted.ask(log_id, 2, entry_id(caller.logs[log_id][1]))
    restarted.append(restarted.open(b"a new log"))


@pytest.mark.parametrize(
    "deviation", [{"kind": SALE}, {"prev": b"\x01" * 32}, {"log_id": bytes(16)}], ids=["kind", "prev", "log id"]
)
def test_entry_0_is_a_genesis_or_nothing(caller: Caller, key: WatchedKey, deviation: dict[str, object]) -> None:
    fields = {"log_id": b"", "seq": 0, "prev": NO_PREV, "time_ms": 0, "kind": GENESIS, "body": b"", **deviation}
    with pytest.raises((NoGenesis, BadField)):
        caller.signer.sign_entry(**fields)  # type: ignore[arg-type]
    assert key.signed == []


def test_genesis_stands_only_at_the_beginning(caller: Caller) -> None:
    log_id = caller.open()
    with pytest.raises(NoGenesis):
        caller.ask(log_id, 1, entry_id(caller.logs[log_id][0]), kind=GENESIS)
    caller.append(log_id)


def test_program_that_opens_logs_without_end_is_stopped(caller: Caller) -> None:
    for number in range(LOGS_PER_SIGNER_MAX):
        caller.open(number.to_bytes(2, "big"))
    with pytest.raises(TooManyLogs):
        caller.open(b"one more")


def test_entry_that_could_not_exist_spends_no_seq(caller: Caller, key: WatchedKey) -> None:
    log_id = caller.open()
    with pytest.raises(BadField):
        caller.append(log_id, bytes(ENTRY_BODY_BYTES_MAX + 1))
    assert decode_entry(caller.append(log_id)).seq == 1


# -- A key that fails -------------------------------------------------------------------------------------------------


def test_seq_whose_signing_failed_is_spent_because_a_signature_may_have_been_made(
    caller: Caller, key: WatchedKey
) -> None:
    log_id = caller.open()
    key.fails = True
    with pytest.raises(TokenGone):
        caller.append(log_id)
    key.fails = False
    assert caller.signer.next_seq(log_id) is None
    with pytest.raises(NotOurLog):
        caller.append(log_id)
    caller.append(caller.open(b"a new log"))


@pytest.mark.parametrize("answer", [b"", bytes(SIGNATURE_BYTES - 1), bytes(SIGNATURE_BYTES + 1)], ids=len)
def test_answer_that_is_no_signature_is_not_passed_on(caller: Caller, key: WatchedKey, answer: bytes) -> None:
    log_id = caller.open()
    key.answer = answer
    with pytest.raises(KeyFailed, match="nothing was signed"):
        caller.append(log_id)
    with pytest.raises(KeyFailed, match="nothing was signed"):
        caller.signer.sign(Domain.CARD, b"a record")


# -- Everything else that the key signs --------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", list(Domain))
def test_statement_is_signed_under_its_domain(caller: Caller, key: WatchedKey, domain: Domain) -> None:
    signature = caller.signer.sign(domain, b"message")
    VerifyKey(key.public_key).verify(domain.value + b"message", signature)


@pytest.mark.proves("S1.3")
@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (SIGNATURE_DOMAIN, b"payload"),
        (b"", SIGNATURE_DOMAIN + b"payload"),
        (SIGNATURE_DOMAIN[:4], SIGNATURE_DOMAIN[4:] + b"payload"),
        (b"tapmesh/card/1", b"record"),
        ("CARD", b"record"),
        (None, b"record"),
    ],
)
def test_no_entry_is_signed_as_something_else(caller: Caller, key: WatchedKey, domain: object, message: bytes) -> None:
    with pytest.raises(NotAStatement, match="Nothing was signed"):
        caller.signer.sign(cast(Domain, domain), message)
    assert key.signed == []


def test_no_domain_is_the_beginning_of_another() -> None:
    domains = [SIGNATURE_DOMAIN, *(domain.value for domain in Domain)]
    pairs = [(one, other) for one in domains for other in domains if one is not other]
    assert len(set(domains)) == len(domains) and not any(other.startswith(one) for one, other in pairs)


# -- Whatever the caller does ------------------------------------------------------------------------------------------

BODIES = st.binary(max_size=2)
CALLS = st.one_of(
    st.tuples(st.just("open"), BODIES),
    st.tuples(st.just("append"), BODIES),
    st.tuples(st.just("ask"), st.integers(0, 5), st.integers(0, 5), BODIES, st.sampled_from([SALE, GENESIS])),
    st.tuples(st.just("elsewhere"), st.integers(0, 3), BODIES),
    st.tuples(st.just("sign"), st.sampled_from([*Domain, SIGNATURE_DOMAIN, b""]), st.integers(1, 5), BODIES),
    st.tuples(st.just("fails"), st.booleans()),
    st.tuples(st.just("restart")),
)


def call(caller: Caller, key: WatchedKey, step: tuple[object, ...], log_id: bytes) -> None:
    log = caller.logs.get(log_id, [bytes(100)])
    match step:
        case ("open", bytes(body)):
            # Between starts the nonce of a genesis is another; a caller that repeats it is the signer's to stop.
            caller.open(bytes([caller.starts]) + body)
        case ("append", bytes(body)):
            caller.append(log_id, body)
        case ("ask", int(seq), int(parent), bytes(body), int(kind)):
            prev = entry_id(log[min(parent, len(log) - 1)]) if parent else NO_PREV
            caller.ask(log_id if seq else b"", seq, prev, body, kind)
        case ("elsewhere", int(seq), bytes(body)):
            caller.ask(bytes([seq]) * 16, seq + 1, entry_id(log[-1]), body)
        case ("sign", domain, int(seq), bytes(body)):
            prev = entry_id(log[-1])
            entry = encode_payload(log_id=bytes(16), seq=seq, prev=prev, time_ms=0, kind=SALE, body=body)
            message = entry if domain != b"" else SIGNATURE_DOMAIN + entry
            caller.signer.sign(cast(Domain, domain), message)
        case ("fails", bool(fails)):
            key.fails = fails
        case _:
            caller.signer = LogSigner(key)
            caller.starts += 1


def test_same_genesis_opens_no_log_a_second_time(caller: Caller, key: WatchedKey) -> None:
    log_id = caller.open(b"nonce")
    caller.append(log_id)
    with pytest.raises(SeqAlreadySigned, match="again with the same genesis"):
        caller.signer.sign_entry(log_id=b"", seq=0, prev=NO_PREV, time_ms=0, kind=GENESIS, body=b"nonce")
    assert caller.signer.next_seq(log_id) == 2
    caller.append(log_id)
    assert all(times == 1 for (_, seq), times in key.entries_at.items() if seq)


@pytest.mark.proves("S1.3", "B2")
@example(steps=[(("open", b""), 0), (("append", b""), 1), (("open", b""), 0), (("append", b""), 1)])
@given(steps=st.lists(st.tuples(CALLS, st.integers(0, 2)), max_size=40))
def test_no_sequence_of_calls_makes_this_key_sign_a_fork(steps: list[tuple[tuple[object, ...], int]]) -> None:
    """The oracle is the key itself: every message it ever signed, also those whose signature was never returned."""
    key = WatchedKey()
    caller = Caller(LogSigner(key))
    caller.open(b"first log")
    for step, which in steps:
        logs = list(caller.logs)
        with suppress(RefusedToSign, BadField, TokenGone):
            call(caller, key, step, logs[which % len(logs)])
        assert all(times == 1 for times in key.entries_at.values()), key.entries_at
        assert {log_id for log_id, _ in key.entries_at} <= caller.logs.keys(), "an entry was signed as something else"


def test_threads_that_ask_for_one_seq_get_it_once(caller: Caller, key: WatchedKey) -> None:
    log_id = caller.open()
    prev = entry_id(caller.logs[log_id][0])
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def ask(number: int) -> None:
        barrier.wait()
        try:
            caller.ask(log_id, 1, prev, bytes([number]))
            outcomes.append("signed")
        except SeqAlreadySigned:
            outcomes.append("refused")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["signed"]
    assert key.entries_at == {(log_id, 1): 1}


def test_signer_cannot_be_copied_together_with_what_it_remembers(caller: Caller) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not copied"):
            duplicate(caller.signer)


FORKING = """
import os
from mesh.core.signing import Domain
from mesh.shell.keys import FileKey
from mesh.shell.signers import LogSigner, OtherProcess

signer = LogSigner(FileKey(bytes(32)))
genesis = dict(log_id=b"", seq=0, prev=bytes(32), time_ms=0, kind=0, body=b"")
child = os.fork()
refused = 0
for ask in (lambda: signer.sign_entry(**genesis), lambda: signer.sign(Domain.CARD, b"record")):
    try:
        ask()
    except OtherProcess:
        refused += 1
if child == 0:
    os._exit(refused)
print(refused, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_child_signs_nothing_because_its_parent_goes_on() -> None:
    # In a process of its own: pytest's has threads, and those do not survive a fork.
    done = subprocess.run([sys.executable, "-c", FORKING], cwd=TREE, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "2"]


# -- No other way ------------------------------------------------------------------------------------------------------

ENTRY_SIGNING = {"sign_entry", "SIGNATURE_DOMAIN"}
MAY_SIGN = {"mesh/core/entry.py", "mesh/core/signing.py"}
GENERATED = ("mesh/bench/", "mesh/testing/")
"""Made-up readers, whose keys are drawn on the spot; no device's key is ever there."""


def importers(names: set[str]) -> Iterator[str]:
    """Files of the product that import one of these names from mesh.core.entry."""
    for package in ("mesh", "reader", "gateway"):
        for path in sorted((TREE / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or node.module != "mesh.core.entry":
                    continue
                if names & {alias.name for alias in node.names}:
                    yield path.relative_to(TREE).as_posix()


def test_nothing_in_the_product_signs_entries_but_the_signer() -> None:
    assert {path for path in importers(ENTRY_SIGNING) if not path.startswith(GENERATED)} <= MAY_SIGN
    assert ENTRY_VERSION == 1, "a new version of the entry needs its domain here too"
