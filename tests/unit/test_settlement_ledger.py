"""The ledger: every sale counts once, whoever sends it how often, and nobody's misbehaviour costs a bar its money."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settlement.audit import audit
from gateway.settlement.database import LedgerDamaged, WrongVenue
from gateway.settlement.ledger import Account
from gateway.settlement.service import bad_signatures
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement_api import OfferedRun, Outcome, OutcomeCode
from mesh.core.kinds import Kind, Lane, Operation, Role
from tests.factory import LogWriter, Venue, Wristband


class Books:
    """A ledger on disk and the venue it belongs to, with a till and two bars."""

    def __init__(self, directory: Path) -> None:
        self.venue = Venue()
        self.directory = directory
        self.store = SqliteLedger(directory / "settlement.db", self.venue.root)
        self.till = LogWriter(self.venue.device("till", Role.TILL))
        self.bar_a = LogWriter(self.venue.device("bar A", Role.READER))
        self.bar_b = LogWriter(self.venue.device("bar B", Role.READER))
        self.band = Wristband(self.venue, 1)
        self.band.issue(self.till, 2000)

    def settle(self, *logs: LogWriter, first_seq: int = 0) -> list[Outcome]:
        outcomes = self.store.accept([OfferedRun(*run) for log in logs for run in log.runs(first_seq)])
        assert sum(self.accounts.values()) == 0
        return outcomes

    def verify_signatures(self) -> None:
        while work := self.store.next_unverified(512):
            self.store.mark_verified(work, bad_signatures(work.first_seq, work.entries, work.log_key))

    @property
    def accounts(self) -> dict[Account, int]:
        return {account: amount for account, amount in self.store.totals().accounts.items() if amount}


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path)
    yield books
    books.store.close()


def test_sale_moves_money_from_the_card_to_the_bar(books: Books) -> None:
    books.band.sell(books.bar_a, 650)
    books.settle(books.till, books.bar_a)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.VENUE_SALES: -650, Account.CARD_LIABILITY: -1350}


@pytest.mark.proves("S1.15")
@pytest.mark.proves("S1.14")
def test_replaying_everything_twice_changes_nothing(books: Books) -> None:
    books.band.sell(books.bar_a, 650)
    books.settle(books.till, books.bar_a)
    before, changes = books.accounts, books.store.changes(0, 100)
    for _ in range(2):
        outcomes = books.settle(books.till, books.bar_a)
        assert [(o.code, o.stored, o.known) for o in outcomes] == [(OutcomeCode.ACCEPTED, 0, 2)] * 2
    assert (books.accounts, books.store.changes(0, 100)) == (before, changes)


@pytest.mark.proves("S1.16")
def test_one_batch_that_holds_a_run_many_times_counts_it_once(books: Books) -> None:
    books.band.sell(books.bar_a, 650)
    outcomes = books.settle(books.till, *[books.bar_a] * 5)
    assert sum(outcome.stored for outcome in outcomes) == 4
    assert books.accounts[Account.VENUE_SALES] == -650


@pytest.mark.proves("S1.18")
@pytest.mark.proves("S1.20")
def test_wristband_cloned_at_two_bars_pays_both_and_is_listed(books: Books) -> None:
    clone = books.band.clone()
    books.band.sell(books.bar_a, 650)
    clone.sell(books.bar_b, 650)
    books.settle(books.till, books.bar_a, books.bar_b)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.VENUE_SALES: -1300, Account.CARD_LIABILITY: -700}
    (conflict,) = books.store.conflicts(10)
    assert conflict.at_risk_minor == 650
    assert {tap.author for tap in conflict.taps} == {"bar A", "bar B"}


def test_what_a_clone_spends_beyond_its_credits_is_a_loss(books: Books) -> None:
    clone = books.band.clone()
    books.band.sell(books.bar_a, 1800)
    clone.sell(books.bar_b, 1900)
    books.settle(books.till, books.bar_a, books.bar_b)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.VENUE_SALES: -3700, Account.LOSS: 1700}


@pytest.mark.proves("S1.21")
def test_missing_top_up_is_in_suspense_and_nobody_is_accused(books: Books) -> None:
    books.band.sell(books.bar_a, 650)
    books.settle(books.bar_a)
    assert books.accounts == {Account.VENUE_SALES: -650, Account.SUSPENSE: 650}
    books.settle(books.till)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.VENUE_SALES: -650, Account.CARD_LIABILITY: -1350}


def test_same_tap_signed_twice_after_a_restart_is_one_debit(books: Books) -> None:
    tap = books.band.sell(books.bar_a, 650)
    restarted = LogWriter(books.bar_a.device, number=1, known=[books.bar_a])
    restarted.append(Kind.TAP, tap.encode())
    books.settle(books.till, books.bar_a, restarted)
    assert books.accounts[Account.VENUE_SALES] == -650
    assert books.store.conflicts(10) == []


def test_abort_after_a_commit_takes_the_sale_back(books: Books) -> None:
    tap = books.band.sell(books.bar_a, 650)
    restarted = LogWriter(books.bar_a.device, number=1, known=[books.bar_a])
    restarted.abort(tap.tap_id, tap.written)
    books.settle(restarted)
    books.settle(books.till, books.bar_a)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.CARD_LIABILITY: -2000}


def test_abort_by_another_device_or_before_the_commit_takes_nothing_back(books: Books) -> None:
    tap = books.band.propose(books.bar_a.device, Operation.SALE, 650)
    books.bar_a.abort(tap.tap_id, tap.written)
    books.bar_a.append(Kind.TAP, tap.encode())
    books.bar_b.abort(tap.tap_id, tap.written)
    books.settle(books.till, books.bar_a, books.bar_b)
    assert books.accounts[Account.VENUE_SALES] == -650


def test_abort_by_a_device_that_claims_to_have_known_the_log_takes_nothing_back(books: Books) -> None:
    tap = books.band.sell(books.bar_a, 650)
    liar = LogWriter(books.bar_b.device, number=1, known=[books.bar_a])
    liar.abort(tap.tap_id, tap.written)
    books.settle(books.till, books.bar_a, liar)
    assert books.accounts[Account.VENUE_SALES] == -650


def test_abort_in_a_log_that_forked_before_it_takes_nothing_back(books: Books) -> None:
    tap = books.band.sell(books.bar_a, 650)
    restarted = LogWriter(books.bar_a.device, number=1, known=[books.bar_a])
    fork = restarted.fork()
    restarted.abort(tap.tap_id, tap.written)
    books.settle(books.till, books.bar_a, restarted)
    assert Account.VENUE_SALES not in books.accounts
    fork.append(999, b"another history")
    books.settle(fork)
    assert books.accounts[Account.VENUE_SALES] == -650


def test_abort_without_a_tap_books_nothing(books: Books) -> None:
    books.bar_a.abort(bytes(16), books.band.sealed)
    books.settle(books.till, books.bar_a)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.CARD_LIABILITY: -2000}


@pytest.mark.proves("S3.11")
def test_poison_entry_is_set_aside_named_and_blocks_nothing(books: Books) -> None:
    books.bar_a.append(Kind.TAP, b"\xff not a tap")
    books.bar_a.append(Kind.ABORT, b"")
    books.bar_a.append(999, b"of a later version")
    books.band.sell(books.bar_a, 650)
    _, outcome = books.settle(books.till, books.bar_a)
    assert (outcome.stored, outcome.set_aside) == (5, 2)
    assert books.accounts[Account.VENUE_SALES] == -650
    assert [(entry.author, entry.seq) for entry in books.store.set_aside(10)] == [("bar A", 1), ("bar A", 2)]
    (state,) = books.store.head_states([books.bar_a.log_id])
    assert state.set_aside == (books.bar_a.ids[1], books.bar_a.ids[2])
    assert state.sum_minor == 650


def test_operation_without_its_role_counts_nothing_and_is_named(books: Books) -> None:
    books.band.top_up(books.bar_a, 100_000)
    Wristband(books.venue, 2).sell(books.till, 100)
    books.settle(books.till, books.bar_a)
    assert books.accounts == {Account.TOP_UP_CASH: 2000, Account.CARD_LIABILITY: -2000}
    assert {entry.author for entry in books.store.set_aside(10)} == {"bar A", "till"}


@pytest.mark.proves("B2")
def test_forked_reader_keeps_its_bar_paid_and_debits_no_card_from_the_fork_on(books: Books) -> None:
    books.band.sell(books.bar_a, 100)
    fork = books.bar_a.fork()
    other = Wristband(books.venue, 2)
    other.issue(books.till, 5000)
    books.band.sell(books.bar_a, 650)
    other.sell(fork, 300)
    books.settle(books.till, books.bar_a)
    books.settle(fork)
    assert books.accounts == {
        Account.TOP_UP_CASH: 7000,
        Account.VENUE_SALES: -1050,
        Account.SUSPENSE: 950,
        Account.CARD_LIABILITY: -6900,
    }
    (contested,) = books.store.contested_logs(10)
    assert (contested.author, contested.from_seq, contested.heads) == ("bar A", 2, 2)
    states = books.store.head_states([books.bar_a.log_id])
    assert {(state.head.id, state.count, state.sum_minor) for state in states} == {
        (books.bar_a.head_id, 4, 750),
        (fork.head_id, 4, 400),
    }


def test_bad_signature_below_a_good_one_is_found_behind_named_and_contested(books: Books) -> None:
    tap = books.band.propose(books.bar_a.device, Operation.SALE, 650)
    books.bar_a.append_forged(Kind.TAP, tap.encode())
    books.bar_a.append(999, b"")
    books.settle(books.till, books.bar_a)
    assert books.accounts[Account.CARD_LIABILITY] == -1350
    (before,) = books.store.head_states([books.bar_a.log_id])
    assert before.verified_up_to == 0
    books.verify_signatures()
    (after,) = books.store.head_states([books.bar_a.log_id])
    assert (after.verified_up_to, after.set_aside) == (3, (books.bar_a.ids[1],))
    assert books.accounts == {
        Account.TOP_UP_CASH: 2000,
        Account.VENUE_SALES: -650,
        Account.SUSPENSE: 650,
        Account.CARD_LIABILITY: -2000,
    }


def test_run_whose_last_signature_is_bad_is_refused_and_the_others_are_not(books: Books) -> None:
    books.bar_a.append_forged(999, b"")
    books.band.sell(books.bar_b, 650)
    _, refused, accepted = books.settle(books.till, books.bar_a, books.bar_b)
    assert refused.code is OutcomeCode.REFUSED
    assert "signature" in refused.sentence
    assert accepted.stored == 2


def test_log_of_another_venue_is_refused(books: Books) -> None:
    stranger = LogWriter(Venue("Another venue").device("bar A", Role.READER))
    (outcome,) = books.settle(stranger)
    assert outcome.code is OutcomeCode.REFUSED
    assert books.store.totals().logs == 0


def test_run_without_its_beginning_is_asked_for_from_where_it_is_missing(books: Books) -> None:
    for _ in range(9):
        books.bar_a.append(999, b"")
    (outcome,) = books.settle(books.bar_a, first_seq=5)
    assert (outcome.code, outcome.need_from, outcome.stored) == (OutcomeCode.NEED, 0, 0)
    books.store.accept([OfferedRun(*books.bar_a.runs(entries_max=3)[0])])
    (outcome,) = books.settle(books.bar_a, first_seq=5)
    assert (outcome.code, outcome.need_from) == (OutcomeCode.NEED, 3)
    (outcome,) = books.settle(books.bar_a, first_seq=2)
    assert (outcome.code, outcome.known, outcome.stored) == (OutcomeCode.ACCEPTED, 1, 7)


def test_garbage_runs_are_refused_one_by_one(books: Books) -> None:
    good = OfferedRun(*books.till.runs()[0])
    garbage = [OfferedRun(bytes(16), 1, b"\xff"), OfferedRun(bytes(16), 0, b""), OfferedRun(bytes(16), 2, good.blob)]
    outcomes = books.store.accept([*garbage, good])
    assert [outcome.code for outcome in outcomes] == [OutcomeCode.REFUSED] * 3 + [OutcomeCode.ACCEPTED]


def test_changes_are_given_out_in_pages_without_a_gap(books: Books) -> None:
    logs = [LogWriter(books.venue.device(f"bar {n}", Role.READER), Lane.MONEY) for n in range(7)]
    books.settle(*logs)
    seen, since, more = [], 0, True
    while more:
        page = books.store.changes(since, 3)
        seen += [state.log_id for state in page.heads]
        since, more = page.next_since, page.more
    assert sorted(seen) == sorted(log.log_id for log in logs)
    assert books.store.changes(since, 3).heads == ()


def test_reopened_ledger_says_the_same_and_agrees_with_its_own_entries(books: Books) -> None:
    clone = books.band.clone()
    books.band.sell(books.bar_a, 650)
    clone.sell(books.bar_b, 650)
    fork = books.bar_a.fork(1)
    fork.append(999, b"")
    books.settle(books.till, books.bar_a, books.bar_b, fork)
    books.verify_signatures()
    before = (books.store.epoch, books.accounts, books.store.changes(0, 100), books.store.conflicts(10))
    books.store.close()
    books.store = SqliteLedger(books.directory / "settlement.db", books.venue.root)
    assert before == (books.store.epoch, books.accounts, books.store.changes(0, 100), books.store.conflicts(10))
    outcome = audit(books.directory, books.venue.root)
    assert (outcome.entries, outcome.differences) == (7, ())


def test_audit_names_what_was_changed_by_hand(books: Books) -> None:
    books.band.sell(books.bar_a, 650)
    books.settle(books.till, books.bar_a)
    books.verify_signatures()
    books.store._db.execute("UPDATE line SET amount_minor = amount_minor * 10")
    (accounts, sales) = audit(books.directory, books.venue.root).differences
    assert "6500" in accounts and "6500" in sales


def test_restored_backup_can_be_given_a_new_epoch(books: Books) -> None:
    epoch = books.store.epoch
    books.store.close()
    books.store = SqliteLedger(books.directory / "settlement.db", books.venue.root, new_epoch=True)
    assert books.store.epoch != epoch


def test_ledger_of_another_venue_and_a_file_that_is_none_are_left_alone(books: Books, tmp_path: Path) -> None:
    with pytest.raises(WrongVenue):
        SqliteLedger(books.directory / "settlement.db", Venue("Another venue").root)
    other = tmp_path / "other.db"
    other.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerDamaged):
        SqliteLedger(other, books.venue.root)
    assert other.read_bytes() == b"not a database" * 100
