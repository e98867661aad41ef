"""What a gateway sends next, against a service that is simulated in memory by its rules alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forward import Batch, Forwarder, LocalHead, Missing, Sent
from gateway.receipts import ReceiptsToPublish
from gateway.settlement_api import HeadsAnswer, LogHeads, OfferedRun, Outcome, OutcomeCode, encode_runs
from mesh.core.frontier import Position
from mesh.core.kinds import Lane, Role
from mesh.core.receipt import sign_receipt, verify_receipt
from mesh.limits import RECEIPT_PATIENCE_S, UPSTREAM_BATCH_BYTES_MAX, UPSTREAM_RETRY_S_MAX
from tests.factory import LogWriter, Venue
from tests.unit.test_receipt import receipt_about

RUN_ENTRIES = 10


@dataclass
class Chain:
    """A log as ids only: what a gateway holds of one branch."""

    log_id: bytes
    branch: int
    ids: list[bytes]

    @property
    def head(self) -> LocalHead:
        return LocalHead(self.log_id, self.branch, Position(len(self.ids) - 1, self.ids[-1]))

    def send(self, missing: Missing) -> Sent:
        count = min(RUN_ENTRIES, missing.entries)
        return Sent(missing.target, missing.first_seq, OfferedRun(self.log_id, count, bytes(100)))


def chain(name: str, length: int, *, branch: int = 0, shared: Chain | None = None, shared_length: int = 0) -> Chain:
    log_id = name.encode().ljust(16, b"-")
    own = [f"{name}/{branch}/{seq}".encode().ljust(32, b"-") for seq in range(length)]
    base = [] if shared is None else shared.ids[:shared_length]
    return Chain(log_id, branch, base + own[len(base) :])


@dataclass
class Service:
    """Stores ids by the settlement protocol's rules: only what follows something stored, each once."""

    epoch: bytes = b"first life------"
    stored: dict[bytes, dict[bytes, tuple[int, bytes | None]]] = field(default_factory=dict)
    refuses: set[bytes] = field(default_factory=set)
    taken: int = 0

    def heads(self) -> HeadsAnswer:
        logs = []
        for log_id, entries in self.stored.items():
            followed = {prev for _, prev in entries.values()}
            heads = tuple(Position(seq, i) for i, (seq, _) in entries.items() if i not in followed)
            logs.append(LogHeads(log_id, heads))
        return HeadsAnswer(self.epoch, tuple(logs))

    def take(self, chain: Chain, sent: Sent) -> Outcome:
        self.taken += sent.run.count
        if chain.log_id in self.refuses:
            return Outcome(OutcomeCode.REFUSED, sentence="its last signature does not verify")
        entries = self.stored.setdefault(chain.log_id, {})
        first = sent.first_seq
        if first and chain.ids[first - 1] not in entries:
            highest = max((seq for seq, _ in entries.values()), default=-1)
            if not entries:
                del self.stored[chain.log_id]
            return Outcome(OutcomeCode.NEED, need_from=highest + 1 if highest < first - 1 else first // 2)
        new = 0
        for seq in range(first, first + sent.run.count):
            if chain.ids[seq] not in entries:
                entries[chain.ids[seq]] = (seq, chain.ids[seq - 1] if seq else None)
                new += 1
        return Outcome(OutcomeCode.ACCEPTED, stored=new, known=sent.run.count - new)


def forward_all(forwarder: Forwarder, service: Service, chains: list[Chain], now: float = 0.0) -> int:
    """Run batches until nothing is missing; returns how many entries were new to the service."""
    by_branch = {(one.log_id, one.branch): one for one in chains}
    stored = 0
    for _ in range(10_000):
        missing = forwarder.missing([one.head for one in chains], now)
        if not missing:
            return stored
        batch = Batch()
        for one in missing[:4]:
            batch.add(by_branch[one.target.log_id, one.target.branch].send(one))
        outcomes = [service.take(by_branch[s.target.log_id, s.target.branch], s) for s in batch.sent]
        stored += forwarder.answered(batch.sent, outcomes, now).stored
    raise AssertionError("forwarding does not come to an end")


def connected(service: Service) -> Forwarder:
    forwarder = Forwarder(Random(1))
    forwarder.compared(service.heads())
    return forwarder


@pytest.mark.proves("M6")
def test_everything_held_is_sent_once_and_then_nothing() -> None:
    service = Service()
    chains = [chain("a", 35), chain("b", 1), chain("c", 20)]
    forwarder = connected(service)
    assert forward_all(forwarder, service, chains) == service.taken == 56
    chains[1].ids.append(b"one more sale".ljust(32, b"-"))
    assert forward_all(forwarder, service, chains) == 1
    assert service.taken == 57


def test_a_new_gateway_sends_only_what_the_service_lacks() -> None:
    service = Service()
    chains = [chain("a", 35), chain("b", 12)]
    forward_all(connected(service), service, [chain("a", 20), chains[1]])
    service.taken = 0
    assert forward_all(connected(service), service, chains) == service.taken == 15


def test_a_gateway_behind_the_service_finds_out_with_one_entry() -> None:
    service = Service()
    forward_all(connected(service), service, [chain("a", 100)])
    service.taken = 0
    assert forward_all(connected(service), service, [chain("a", 40)]) == 0
    assert service.taken == 1


@pytest.mark.proves("S1.15")
def test_resend_sends_every_entry_again_and_changes_none() -> None:
    service = Service()
    chains = [chain("a", 35), chain("b", 12)]
    forwarder = connected(service)
    forward_all(forwarder, service, chains)
    service.taken = 0
    forwarder.forget()
    forwarder.compared(service.heads())  # A reconnection in between does not shorten it.
    assert forward_all(forwarder, service, chains) == 0
    assert service.taken == 47


def test_a_service_restored_from_a_backup_gets_again_what_it_lost() -> None:
    service = Service()
    chains = [chain("a", 35), chain("b", 12)]
    forwarder = connected(service)
    forward_all(forwarder, service, chains)
    backup = Service(epoch=b"second life-----")
    forward_all(connected(backup), backup, [chain("a", 15)])
    assert forwarder.compared(backup.heads())
    assert forward_all(forwarder, backup, chains) == 20 + 12
    assert backup.stored == service.stored


def test_a_backup_that_was_restored_without_a_new_epoch_is_noticed_by_its_heads() -> None:
    service = Service()
    chains = [chain("a", 35), chain("b", 12)]
    forwarder = connected(service)
    forward_all(forwarder, service, chains)
    backup = Service()
    forward_all(connected(backup), backup, [chain("a", 15), chains[1]])
    assert forwarder.compared(backup.heads())
    assert forward_all(forwarder, backup, chains) == 20


def test_a_service_that_was_only_restarted_is_sent_nothing_again() -> None:
    service = Service()
    chains = [chain("a", 35)]
    forwarder = connected(service)
    forward_all(forwarder, service, chains)
    service.taken = 0
    assert not forwarder.compared(service.heads())
    assert forward_all(forwarder, service, chains) == service.taken == 0


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_both_branches_of_a_fork_arrive_whatever_the_service_held_before(
    length: int, other_length: int, data: st.DataObject
) -> None:
    one = chain("a", length)
    shared = data.draw(st.integers(1, min(length, other_length)))
    other = chain("a", other_length, branch=1, shared=one, shared_length=shared)
    held = data.draw(st.integers(0, other_length))
    service = Service()
    if held:
        forward_all(connected(service), service, [Chain(other.log_id, 0, other.ids[:held])])
    forward_all(connected(service), service, [one, other])
    assert set(service.stored[one.log_id]) == set(one.ids) | set(other.ids)


def test_a_refused_log_is_named_and_does_not_hold_up_the_others() -> None:
    service = Service()
    chains = [chain("bad", 5), chain("good", 25)]
    service.refuses.add(chains[0].log_id)
    forwarder = connected(service)
    assert forward_all(forwarder, service, chains) == 25
    assert forwarder.refused() == {chains[0].log_id: "its last signature does not verify"}
    service.refuses.clear()
    assert forward_all(forwarder, service, chains, now=UPSTREAM_RETRY_S_MAX) == 5
    assert forwarder.refused() == {}


def test_a_service_that_asks_for_more_than_there_is_does_not_trap_the_gateway() -> None:
    forwarder = Forwarder(Random(1))
    one = chain("a", 5)
    (missing,) = forwarder.missing([one.head], 0.0)
    progress = forwarder.answered([one.send(missing)], [Outcome(OutcomeCode.NEED)], 0.0)
    assert [log_id for log_id, _ in progress.refused] == [one.log_id]
    assert forwarder.missing([one.head], 0.0) == []


def test_logs_take_turns() -> None:
    service = Service()
    long, *short = chains = [chain("a", 10_000), *(chain(f"log {n}", 1) for n in range(12))]
    forwarder = connected(service)
    by_id = {one.log_id: one for one in chains}
    for _ in range(4):
        batch = [by_id[m.target.log_id].send(m) for m in forwarder.missing([c.head for c in chains], 0.0)[:4]]
        forwarder.answered(batch, [service.take(by_id[s.target.log_id], s) for s in batch], 0.0)
    assert set(service.stored) == {long.log_id, *(one.log_id for one in short)}


def test_pauses_grow_have_jitter_and_start_over_after_a_success() -> None:
    forwarder = Forwarder(Random(7))
    pauses = [forwarder.failed() for _ in range(12)]
    assert pauses[0] < 1 < pauses[4] < pauses[9] <= UPSTREAM_RETRY_S_MAX
    assert len(set(pauses)) == len(pauses)
    forwarder.answered([], [], 0.0)
    assert forwarder.failed() < 1


def test_a_batch_never_passes_the_services_bound() -> None:
    batch = Batch()
    one = chain("a", 1)
    while batch.room_bytes >= 250_000:
        batch.add(Sent(one.head, 0, OfferedRun(one.log_id, 1, bytes(250_000))))
    size = len(encode_runs([sent.run for sent in batch.sent]))
    assert UPSTREAM_BATCH_BYTES_MAX - 300_000 < size <= UPSTREAM_BATCH_BYTES_MAX


def test_receipts_are_published_when_they_advance_and_never_for_control_logs() -> None:
    venue = Venue()
    settlement = venue.device("settlement", Role.SETTLEMENT)
    log = LogWriter(venue.device("bar A", Role.READER))
    data = sign_receipt(settlement.sign, receipt_about(log, settlement))
    verified = verify_receipt(data, venue.root)
    receipts = ReceiptsToPublish()
    receipts.offer(verified, Lane.CONTROL, 0.0)
    receipts.offer(verified, None, 0.0)
    assert receipts.due(0.0) == []
    receipts.offer(verified, Lane.MONEY, 0.0)
    assert receipts.due(0.0) == [data]
    receipts.offer(verified, Lane.MONEY, 1.0)
    assert receipts.due(100.0) == []


def test_a_receipt_waits_for_its_signatures_but_not_for_ever() -> None:
    venue = Venue()
    settlement = venue.device("settlement", Role.SETTLEMENT)
    log = LogWriter(venue.device("bar A", Role.READER))
    early = replace(receipt_about(log, settlement), verified_up_to=0)
    verified = verify_receipt(sign_receipt(settlement.sign, early), venue.root)
    receipts = ReceiptsToPublish()
    receipts.offer(verified, Lane.MONEY, 10.0)
    assert receipts.due(10.0) == []
    assert receipts.due(10.0 + RECEIPT_PATIENCE_S) == [verified.data]
