"""Revocations, forks and entries in any order, path and partition come to the same thing everywhere.

The oracle knows nothing of the views: it reads raw entries, walks back from each cut by `prev`, and folds what is left
with the oracle of `test_cards.py`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.ledger import Account
from gateway.settlement.report import ledger_report
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement_api import OfferedRun, OutcomeCode
from mesh.core.chain import Run, encode_run, parse_genesis
from mesh.core.entry import entry_id
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.revocation import parse_statement, sign_statement
from mesh.views.cards import CardsView
from mesh.views.trust import TrustView
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.harness import Mote, World, runs_of
from tests.property.test_cards import (
    DEVICES,
    VENUE,
    Contest,
    Evening,
    Expected,
    assert_as_expected,
    evenings,
    expect,
    pieces,
)

CONTROL: Final = VENUE.device("office", Role.MANAGER)

Trusted = Callable[[bytes, LogWriter], bool]


# -- The oracle ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """One statement of the authority, as the oracle sees it."""

    device: VenueDevice
    number: int
    cut: dict[bytes, tuple[int, bytes]]
    body: bytes


def trusted_by(words: Sequence[Word], held: Iterable[bytes], contested: dict[bytes, int]) -> Trusted:
    """The rules of docs/spec/revocation.md over a set of held entries, written again."""
    entries = {hashlib.sha256(data).digest(): cbor2.loads(data[:-64]) for data in held}
    highest: dict[int, int] = defaultdict(int)
    for word in words:
        serial = word.device.certificate.serial
        highest[serial] = max(highest[serial], word.number)
    allowed: dict[int, set[bytes]] = {}
    for word in words:
        serial = word.device.certificate.serial
        if word.number == highest[serial]:
            chain = ancestors(word, entries)
            allowed[serial] = allowed[serial] & chain if serial in allowed else chain

    def trusted(data: bytes, log: LogWriter) -> bool:
        serial = log.device.certificate.serial
        if serial in allowed:
            return hashlib.sha256(data).digest() in allowed[serial]
        return int(cbor2.loads(data[:-64])[2]) < contested.get(log.log_id, 2**32)

    return trusted


def ancestors(word: Word, entries: dict[bytes, list[object]]) -> set[bytes]:
    """Every held entry that a cut names or that comes before it, in the logs of the word's own device."""
    found: set[bytes] = set()
    for log_id, (seq, identifier) in word.cut.items():
        at = identifier
        while at in entries:
            _, named, its_seq, prev, *_ = entries[at]
            if (named or at[:16]) != log_id or (at == identifier and its_seq != seq):
                break
            found.add(at)
            assert isinstance(prev, bytes)
            at = prev
    return found


# -- What the authority says ---------------------------------------------------------------------------------------


@st.composite
def words(draw: st.DrawFn, evening: Evening) -> list[Word]:
    """Statements about some devices: raised, lowered, contradicting each other, cut on a branch or where nothing is."""
    said: list[Word] = []
    for device in draw(st.lists(st.sampled_from(DEVICES), max_size=3)):
        cut: dict[bytes, tuple[int, bytes]] = {}
        for log in [log for log in evening.logs if log.device is device]:
            match draw(st.sampled_from("all all some some none odd".split())):
                case "all":
                    cut[log.log_id] = (log.head_seq, log.head_id)
                case "some":
                    seq = draw(st.integers(0, log.head_seq))
                    cut[log.log_id] = (seq, log.ids[seq])
                case "odd":
                    cut[log.log_id] = (draw(st.integers(0, 3)), draw(st.sampled_from((log.head_id, bytes(32)))))
                case _:
                    pass
        said.append(word(device, draw(st.integers(1, 3)), cut))
    return said


def word(device: VenueDevice, number: int, cut: dict[bytes, tuple[int, bytes]]) -> Word:
    positions = {log_id: Position(*place) for log_id, place in cut.items()}
    serial = device.certificate.serial
    return Word(device, number, cut, sign_statement(VENUE._key.sign, serial=serial, number=number, cut=positions))


def arrive(view: CardsView, piece: Run | Contest | Word, genesis_of: dict[bytes, bytes]) -> list[bytes]:
    match piece:
        case Word(body=body):
            return view.revoke(parse_statement(body, VENUE.root))
        case Contest(log_id, seq):
            view.open_log(log_id, parse_genesis(genesis_of[log_id], VENUE.root))
            return view.contest(log_id, seq)
        case Run():
            view.open_log(piece.log_id, parse_genesis(genesis_of[piece.log_id], VENUE.root))
            return view.fold(piece)


def trimmed(evening: Evening, held: set[bytes]) -> list[LogWriter]:
    """The evening's logs as far as their entries are held, genesis always in its place."""
    found = []
    for log in evening.logs:
        other = log.fork()
        other.entries = [log.entries[0], *(entry for entry in log.entries[1:] if entry in held)]
        found.append(other)
    return found


@pytest.mark.proves("M7")
@pytest.mark.proves("B2")
@settings(max_examples=200)
@given(st.data())
def test_statements_forks_and_entries_in_any_order_come_to_what_the_rules_say(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    said = data.draw(words(evening))
    arriving: list[Run | Contest | Word] = [*pieces(evening, data), *said]
    arriving = data.draw(st.permutations([*arriving, *data.draw(st.lists(st.sampled_from(arriving), max_size=3))]))
    stop = data.draw(st.integers(0, len(arriving)))
    genesis_of = {log.log_id: log.entries[0] for log in evening.logs}
    view, reported = CardsView(), list[bytes]()
    for part in (arriving[:stop], arriving):
        for piece in part:
            reported += arrive(view, piece, genesis_of)
        held = {entry for piece in part if isinstance(piece, Run) for entry in piece.entries}
        contested = {piece.log_id: piece.seq for piece in part if isinstance(piece, Contest)}
        trusted = trusted_by([piece for piece in part if isinstance(piece, Word)], held, contested)
        logs = trimmed(evening, held)
        expected = expect(logs, contested, trusted)
        assert_as_expected(view, expected)
        assert_counts(view, logs, held, trusted)
        assert set(expected.conflicts) <= set(reported)
    for card in set(reported):
        # Again only for another conflict, no two of whose taps were in one before: each report needs a tap of its own.
        account = view.account(card)
        assert reported.count(card) < len(account.counted) + len(account.uncounted)


def assert_counts(view: CardsView, logs: Sequence[LogWriter], held: set[bytes], trusted: Trusted) -> None:
    """Entry by entry, whatever its kind."""
    for log in logs:
        for data in set(log.entries) & held:
            seq, identifier = cbor2.loads(data[:-64])[2], entry_id(data)
            assert view.trust.counts(log.log_id, seq, identifier) == trusted(data, log)


@pytest.mark.proves("B2")
@given(st.data())
def test_pieces_of_a_log_with_many_branches_in_any_order_give_the_chain_of_the_cut_and_nothing_else(
    data: st.DataObject,
) -> None:
    """No money: one log whose key signs everywhere, cut somewhere, while only some of its pieces are held."""
    device = DEVICES[1]
    branches = [LogWriter(device, number=77)]
    for number in range(data.draw(st.integers(2, 10))):
        branch = data.draw(st.sampled_from(branches))
        if data.draw(st.booleans()):
            branch = branch.fork(data.draw(st.integers(1, len(branch.entries))))
            branches.append(branch)
        branch.append(999, bytes([number]))
    log_id = branches[0].log_id
    cut_branch = data.draw(st.sampled_from(branches))
    seq = data.draw(st.integers(0, cut_branch.head_seq))
    said = word(device, 1, {log_id: (seq, cut_branch.ids[seq])})
    arriving: list[Run | Word] = [said]
    for branch in branches:
        arriving += runs_of(branch, length=data.draw(st.integers(1, 3)))
    arriving = data.draw(st.permutations(arriving))
    trust = TrustView()
    trust.open_log(log_id, device.certificate.serial)
    held: set[bytes] = set()
    for piece in arriving:
        if isinstance(piece, Word):
            trust.revoke(parse_statement(piece.body, VENUE.root))
        else:
            trust.fold(piece)
            held.update(piece.entries)
        if device.certificate.serial in trust.revocations:
            trusted = trusted_by([said], held, {})
            for entry in held:
                place = cbor2.loads(entry[:-64])[2]
                assert trust.counts(log_id, place, entry_id(entry)) == trusted(entry, branches[0])


# -- Settlement ----------------------------------------------------------------------------------------------------


def books(batches: Iterable[Sequence[OfferedRun]]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "settlement.db"
        store = SqliteLedger(path, VENUE.root)
        for batch in batches:
            assert all(o.code is not OutcomeCode.REFUSED for o in store.accept(list(batch)))
        before = ledger_report(store)
        store.close()
        again = SqliteLedger(path, VENUE.root)
        try:
            assert ledger_report(again) == before, "a restart changed the books"
            return {**before, "epoch": ""}
        finally:
            again.close()


@pytest.mark.proves("M7")
@settings(max_examples=60)
@given(st.data())
def test_settlement_comes_to_the_same_books_in_any_order_and_to_those_of_the_readers(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    said = data.draw(words(evening))
    office = LogWriter(CONTROL, Lane.CONTROL)
    for one in said:
        office.append(Kind.REVOCATION, one.body)
    logs = [office, *evening.logs]
    runs = [OfferedRun(r.log_id, len(r.entries), encode_run(r.entries)) for log in logs for r in runs_of(log, length=3)]
    shuffled = data.draw(st.permutations(runs))
    first = books([runs])
    assert books([shuffled[: len(shuffled) // 2], shuffled, runs, shuffled]) == first
    held = {entry for log in evening.logs for entry in log.entries}
    expected = expect(evening.logs, evening.contested, trusted_by(said, held, evening.contested))
    assert first["balanced"]
    accounts = first["accounts"]
    assert isinstance(accounts, dict)
    assert accounts[Account.CARD_LIABILITY.name.lower()] == -sum(max(0, b) for b in expected.balances.values())
    assert conflicts_of(first) == expected.at_risk


def conflicts_of(report: dict[str, object]) -> dict[bytes, int]:
    at_risk: defaultdict[bytes, int] = defaultdict(int)
    listed = report["conflicts"]
    assert isinstance(listed, list)
    for conflict in listed:
        at_risk[bytes.fromhex(conflict["card"])] += conflict["at_risk_minor"]
    return dict(at_risk)


# -- The mesh ------------------------------------------------------------------------------------------------------


@pytest.mark.proves("M7")
@pytest.mark.proves("B2")
@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_partitioned_mesh_that_hears_statements_at_different_times_comes_to_one_result(seed: int) -> None:
    """The reader sells, forks and is revoked while some have not heard; what it wrote travels on by the others."""
    venue = Venue("Partition")
    world = World(seed)
    rng = world.random
    office, till, *bars = (
        venue.device("office", Role.MANAGER),
        venue.device("till", Role.TILL),
        *(venue.device(f"bar {number}", Role.READER) for number in range(2)),
    )
    gone = venue.device("gone", Role.READER)
    motes = [world.join(device) for device in (office, till, *bars)]
    thief = world.join(gone)
    control = motes[0].open_log(Lane.CONTROL)
    credits_, sales = motes[1].open_log(), [mote.open_log() for mote in motes[2:]]
    stolen = thief.open_log()
    bands = [Wristband(venue, number) for number in range(3)]
    for band in bands:
        band.issue(credits_, 5000)
    motes[1].own(credits_, 1)
    said: list[Word] = []
    for step in range(rng.randint(6, 14)):
        disturb(world, motes, thief)
        band = rng.choice(bands)
        match rng.choice("sell sell steal steal clone revoke".split()):
            case "sell":
                number = rng.randrange(2)
                band.sell(sales[number], 100 + step)
                motes[2 + number].own(sales[number], sales[number].head_seq)
            case "steal":
                band.sell(stolen, 10 + step)
                thief.own(stolen, stolen.head_seq)
            case "clone":
                bands.append(band.clone())
            case _:
                seq = rng.randint(0, stolen.head_seq)
                cut = {} if rng.random() < 0.2 else {stolen.log_id: (seq, stolen.ids[seq])}
                positions = {log_id: Position(*place) for log_id, place in cut.items()}
                serial, number = gone.certificate.serial, len(said) + 1
                body = sign_statement(venue._key.sign, serial=serial, number=number, cut=positions)
                said.append(Word(gone, number, cut, body))
                motes[0].append(control, Kind.REVOCATION, body)
    for one, other in pairwise(motes):
        world.connect(one, other)
    world.heal()
    logs = [credits_, *sales, stolen]
    for mote in motes:
        assert mote.store.everything() == motes[0].store.everything()
        assert_mote(mote, logs, said, gone)


def disturb(world: World, motes: list[Mote], thief: Mote) -> None:
    rng = world.random
    world.run(rng.randint(0, 30))
    if rng.random() < 0.5:
        world.connect(*rng.sample([*motes, thief], 2))
    if rng.random() < 0.2 and world.ends:
        world.cut(rng.choice(world.ends))


def assert_mote(mote: Mote, logs: list[LogWriter], said: list[Word], gone: VenueDevice) -> None:
    held = mote.store.everything()
    trusted = trusted_by(said, held, {})
    known = []
    for log in logs:
        other = log.fork()
        other.entries = [log.entries[0], *(entry for entry in log.entries[1:] if entry in held)]
        known.append(other)
    expected: Expected = expect(known, {}, trusted)
    assert {card: mote.cards.account(card).balance_minor for card in mote.cards.cards()} == expected.balances
    assert {conflict.card for conflict in mote.cards.all_conflicts()} == set(expected.conflicts)
    if said:
        assert gone.certificate.serial not in {peer.serial for peer in mote.node.links.values()}
        assert len(mote.revoked) >= 1
