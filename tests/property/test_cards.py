"""The cards view against an oracle that knows nothing of it: the rules of its docstrings, applied to a list of entries.

A draw makes a venue's evening: issues, sales, clones, rollbacks, retaps, aborts, restarts, forks, devices that do what
they may not. Its logs are cut into runs, some twice, in any order; the view must not tell the difference.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Final

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.chain import Run, parse_genesis
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.views.cards import CardStatus, CardsView, Conflict
from mesh.views.tap_entry import TapBody
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.harness import runs_of

VENUE: Final = Venue("Cards")
TILL: Final = VENUE.device("till", Role.TILL)
BARS: Final = [VENUE.device(f"bar {number}", Role.READER) for number in range(3)]
COURIER: Final = VENUE.device("courier", Role.COURIER)
DEVICES: Final = [TILL, *BARS, COURIER]
CREDITS: Final = {0, 1}
NEEDS: Final = {0: Role.TILL, 1: Role.TILL, 2: Role.READER}
RECORD: Final = struct.Struct(">B8s4sIIIIB4s8s")


# -- The oracle ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tap:
    """A tap as the oracle reads it, straight from the bytes."""

    log_id: bytes
    seq: int
    entry_id: bytes
    author: bytes
    tap_id: bytes
    card: bytes
    consumed: bytes
    written: bytes
    delta: int


@dataclass
class Expected:
    """What an evening comes to."""

    balances: dict[bytes, int] = field(default_factory=dict)
    conflicts: dict[bytes, set[frozenset[tuple[bytes, int]]]] = field(default_factory=dict)
    at_risk: dict[bytes, int] = field(default_factory=dict)


def read(entry: bytes, log: LogWriter) -> Tap | None:
    """The rules of mesh.views.tap_rules, written again."""
    _, _, seq, _, _, _, body = cbor2.loads(entry[:-64])
    try:
        tap_id, operation, amount, witness, written, _ = cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError, TypeError):
        return None
    certificate = log.device.certificate
    if operation not in NEEDS or NEEDS[operation] not in certificate.roles:
        return None
    _, card, event, record_seq, balance, _, _, _, reader, parent = RECORD.unpack(written[:42])
    consumed, before, seq_before = bytes(16), 0, 0
    if witness:
        _, card_before, event_before, seq_before, before, *_ = RECORD.unpack(witness[:42])
        consumed = hashlib.sha256(witness[:42]).digest()[:16]
        if (card_before, event_before) != (card, event):
            return None
    delta = amount if operation in CREDITS else -amount
    key_id = hashlib.sha256(certificate.log_key).digest()[:4]
    if (reader, parent, record_seq, balance) != (key_id, consumed[:8], seq_before + 1, before + delta):
        return None
    written_hash = hashlib.sha256(written[:42]).digest()[:16]
    return Tap(log.log_id, seq, hashlib.sha256(entry).digest(), key_id, tap_id, card, consumed, written_hash, delta)


def expect(
    logs: Sequence[LogWriter], contested: dict[bytes, int], trusted: Callable[[bytes, LogWriter], bool] | None = None
) -> Expected:
    """Fold a list of logs the slow way: every entry once, every rule in turn. `trusted` replaces what is contested."""
    entries = {entry: log for log in logs for entry in log.entries[1:]}
    if trusted is None:
        counts = {e: log for e, log in entries.items() if cbor2.loads(e[:-64])[2] < contested.get(log.log_id, 2**32)}
    else:
        counts = {entry: log for entry, log in entries.items() if trusted(entry, log)}
    taps = [tap for e, log in counts.items() if cbor2.loads(e[:-64])[5] == 16 and (tap := read(e, log)) is not None]
    aborts = [(log, cbor2.loads(e[:-64])) for e, log in counts.items() if cbor2.loads(e[:-64])[5] == 17]
    standing = [tap for tap in taps if not any(undoes(log, fields, tap, logs) for log, fields in aborts)]
    expected = Expected({tap.card: 0 for entry, log in entries.items() if (tap := tap_in(entry, log)) is not None})
    posted: list[Tap] = []
    for tap in sorted(standing, key=lambda tap: tap.entry_id):
        twice = any(
            other.card == tap.card
            and (
                (other.author, other.tap_id) == (tap.author, tap.tap_id)
                or (other.consumed, other.written) == (tap.consumed, tap.written)
            )
            for other in posted
        )
        if not twice:
            posted.append(tap)
            expected.balances[tap.card] += tap.delta
    for card in expected.balances:
        add_conflicts(card, [tap for tap in posted if tap.card == card], expected)
    return expected


def tap_in(entry: bytes, log: LogWriter) -> Tap | None:
    return read(entry, log) if cbor2.loads(entry[:-64])[5] == 16 else None


def undoes(log: LogWriter, fields: list[object], tap: Tap, logs: Sequence[LogWriter]) -> bool:
    """Same device, same tap id, and later: in the same log, or in one whose genesis knew of the tap."""
    raw = fields[6]
    if not isinstance(raw, bytes) or len(raw) != 52:
        return False
    body = cbor2.loads(raw)
    author = next(other for other in logs if other.log_id == tap.log_id).device
    if body[0] != tap.tap_id or author is not log.device:
        return False
    if log.log_id == tap.log_id:
        return int(fields[2]) > tap.seq  # type: ignore[call-overload, no-any-return]
    known = cbor2.loads(cbor2.loads(log.entries[0][:-64])[6])[3]
    return any(log_id == tap.log_id and seq >= tap.seq for log_id, seq, _ in known)


def add_conflicts(card: bytes, posted: list[Tap], expected: Expected) -> None:
    children: defaultdict[bytes, list[Tap]] = defaultdict(list)
    for tap in posted:
        children[tap.consumed].append(tap)

    def debits(tap: Tap, seen: frozenset[bytes]) -> int:
        below = () if tap.written in seen else children[tap.written]
        return max(0, -tap.delta) + sum(debits(child, seen | {tap.written}) for child in list(below))

    groups = [taps for taps in list(children.values()) if len(taps) > 1]
    if groups:
        expected.conflicts[card] = {frozenset((tap.log_id, tap.seq) for tap in taps) for taps in groups}
        totals = [[debits(tap, frozenset({tap.consumed})) for tap in taps] for taps in groups]
        expected.at_risk[card] = sum(sum(total) - min(total) for total in totals)


# -- Evenings ------------------------------------------------------------------------------------------------------


@dataclass
class Evening:
    """What happened, as logs; `contested` is what somebody proved about them."""

    logs: list[LogWriter]
    contested: dict[bytes, int] = field(default_factory=dict)


@st.composite
def evenings(draw: st.DrawFn) -> Evening:
    logs = {device: LogWriter(device, number=0) for device in DEVICES}
    all_logs = list(logs.values())
    bands = [Wristband(VENUE, number) for number in range(2)]
    shown: list[tuple[Wristband, bytes]] = [(band, b"") for band in bands]
    said: list[tuple[TapBody, VenueDevice]] = []
    evening = Evening(all_logs)
    for band in bands[: draw(st.integers(0, 2))]:
        said.append((band.issue(logs[TILL], 5000), TILL))
        shown.append((band, band.sealed))
    for _ in range(draw(st.integers(3, 14))):
        band = draw(st.sampled_from(bands))
        device = draw(st.sampled_from((*BARS, TILL, COURIER)))
        log = logs[device]
        match draw(st.sampled_from("sale sale sale clone roll_back top_up issue retap abort restart fork odd".split())):
            case "issue":
                band.sealed = b""
                said.append((band.issue(log, draw(st.integers(0, 3000))), device))
            case "top_up":
                said.append((band.top_up(log, draw(st.integers(0, 3000))), device))
            case "sale":
                said.append((band.sell(log, draw(st.integers(0, 900))), device))
            case "clone":
                bands.append(band.clone())
                spenders = draw(st.permutations((band, bands[-1])))
                bars = draw(st.permutations(BARS))
                said += [(one.sell(logs[bar], 10 * len(said)), bar) for one, bar in zip(spenders, bars, strict=False)]
            case "roll_back":
                band.sealed = draw(st.sampled_from([sealed for other, sealed in shown if other.card == band.card]))
            case "retap" if said:
                tap, author = draw(st.sampled_from(said))
                if draw(st.booleans()):
                    log.append(Kind.TAP, tap.encode())
                else:
                    band.tap(logs[author], Operation(tap.operation), 100, tap_id=tap.tap_id)
            case "abort" if said:
                tap, author = draw(st.sampled_from(said))
                draw(st.sampled_from((logs[author], log))).abort(tap.tap_id, tap.written)
            case "restart":
                logs[device] = LogWriter(
                    device, number=len(all_logs), known=[one for one in all_logs if one.device is device]
                )
                all_logs.append(logs[device])
            case "fork" if len(log.entries) > 1 and log.log_id not in evening.contested:
                length = draw(st.integers(1, len(log.entries)))
                all_logs.append(log.fork(length))
                evening.contested[log.log_id] = length
                band.clone().sell(all_logs[-1], 50)
            case "odd":
                log.append(draw(st.sampled_from((Kind.TAP, Kind.ABORT, 999))), draw(st.binary(max_size=9)))
            case _:
                pass
        shown.append((band, band.sealed))
    return evening


@dataclass(frozen=True)
class Contest:
    """Somebody proved that this log is contested from there on."""

    log_id: bytes
    seq: int


def pieces(evening: Evening, data: st.DataObject) -> list[Run | Contest]:
    """The evening as it may arrive: runs of any length, some twice, in any order."""
    found: list[Run | Contest] = [Contest(log_id, seq) for log_id, seq in evening.contested.items()]
    for log in evening.logs:
        found += runs_of(log, length=data.draw(st.integers(1, 4)))
    found += data.draw(st.lists(st.sampled_from(found), max_size=4))
    return data.draw(st.permutations(found))


def view_of(arrived: Iterable[Run | Contest], logs: Sequence[LogWriter]) -> tuple[CardsView, list[bytes]]:
    view, reported = CardsView(), list[bytes]()
    genesis_of = {log.log_id: log.entries[0] for log in logs}
    for piece in arrived:
        view.open_log(piece.log_id, parse_genesis(genesis_of[piece.log_id], VENUE.root))
        reported += reports(view, [piece])
    return view, reported


def reports(view: CardsView, arrived: Iterable[Run | Contest]) -> list[bytes]:
    """The cards that a view reports while these arrive."""
    told = (view.contest(p.log_id, p.seq) if isinstance(p, Contest) else view.fold(p) for p in arrived)
    return [card for cards in told for card in cards]


def places(conflict: Conflict) -> frozenset[tuple[bytes, int]]:
    return frozenset((tap.log_id, tap.seq) for tap in conflict.taps)


def assert_as_expected(view: CardsView, expected: Expected) -> None:
    assert {card: view.account(card).balance_minor for card in view.cards()} == expected.balances
    for card in view.cards():
        conflicts = view.conflicts(card)
        assert {places(conflict) for conflict in conflicts} == expected.conflicts.get(card, set())
        assert sum(conflict.at_risk_minor for conflict in conflicts) == expected.at_risk.get(card, 0)
        standing = view.standing(card, bytes(32), b"nothing!", bytes(16))
        assert standing.status is (CardStatus.HELD if card in expected.conflicts else CardStatus.OPEN)
    assert {conflict.card for conflict in view.all_conflicts()} == set(expected.conflicts)


@pytest.mark.proves("M3")
@pytest.mark.proves("S1.15")
@pytest.mark.proves("S1.20")
@given(st.data())
def test_any_evening_in_any_order_comes_to_what_the_rules_say(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    expected = expect(evening.logs, evening.contested)
    arrived = pieces(evening, data)
    view, reported = view_of(arrived, evening.logs)
    assert_as_expected(view, expected)
    assert set(expected.conflicts) <= set(reported)
    assert reports(view, arrived) == [], "what is known is no news"


@given(st.data())
def test_two_nodes_that_got_the_evening_in_different_ways_agree_about_everything(data: st.DataObject) -> None:
    evening = data.draw(evenings())
    one, _ = view_of(pieces(evening, data), evening.logs)
    other, _ = view_of(pieces(evening, data), evening.logs)
    assert one.refused() == other.refused()
    assert set(one.cards()) == set(other.cards())
    for card in one.cards():
        assert one.account(card).balance_minor == other.account(card).balance_minor
        assert one.conflicts(card) == other.conflicts(card)


# -- Small sets, every order ---------------------------------------------------------------------------------------


def every_order(*logs: LogWriter, contested: dict[bytes, int] | None = None) -> Iterable[tuple[CardsView, list[bytes]]]:
    """The view of these logs for each permutation of their entries, one by one."""
    steps: list[Run | Contest] = [run for log in logs for run in runs_of(log, 1, length=1)]
    steps += [Contest(log_id, seq) for log_id, seq in (contested or {}).items()]
    assert len(steps) <= 6
    for order in permutations(steps):
        yield view_of(order, logs)


def writers(*numbers: int) -> list[LogWriter]:
    return [LogWriter(DEVICES[number]) for number in numbers]


def balance(view: CardsView, band: Wristband) -> int:
    return view.account(band.card).balance_minor


@pytest.mark.proves("S1.18")
@pytest.mark.proves("M4")
def test_wristband_cloned_at_two_bars_is_held_whatever_comes_first() -> None:
    till, one, other = writers(0, 1, 2)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    clone = band.clone()
    band.sell(one, 650)
    clone.sell(other, 400)
    clone.sell(other, 100)
    for view, reported in every_order(till, one, other):
        (conflict,) = view.conflicts(band.card)
        assert places(conflict) == {(one.log_id, 1), (other.log_id, 1)}
        assert (conflict.at_risk_minor, balance(view, band), reported) == (650, 850, [band.card])


@pytest.mark.proves("S1.16")
def test_same_tap_id_written_twice_debits_once_and_holds_nobody() -> None:
    till, bar = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    restored = band.clone()
    tap = band.sell(bar, 650)
    restored.tap(bar, Operation.SALE, 650, tap_id=tap.tap_id)
    bar.append(Kind.TAP, tap.encode())
    for view, reported in every_order(till, bar):
        assert (balance(view, band), view.conflicts(band.card), reported) == (1350, (), [])
        assert len(view.account(band.card).uncounted) == 2


@pytest.mark.proves("S1.16")
def test_one_tap_id_for_two_different_writes_of_one_device_debits_once() -> None:
    """The intent came back from a restart, and the card was corrected in between: the same purchase all the same."""
    till, bar = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    tap = band.sell(bar, 650)
    band.top_up(till, 10)
    band.tap(bar, Operation.SALE, 650, tap_id=tap.tap_id)
    for view, reported in every_order(till, bar):
        assert (balance(view, band), view.conflicts(band.card), reported) == (1360, (), [])
        assert len(view.account(band.card).uncounted) == 1


@pytest.mark.proves("S1.16")
def test_same_write_under_two_tap_ids_debits_once() -> None:
    till, bar = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    again = band.clone()
    band.tap(bar, Operation.SALE, 650, tap_id=b"1" * 16)
    again.tap(bar, Operation.SALE, 650, tap_id=b"2" * 16)
    for view, _ in every_order(till, bar):
        assert (balance(view, band), view.conflicts(band.card)) == (1350, ())


def test_abort_after_the_tap_undoes_it_and_before_it_does_not() -> None:
    for abort_first, expected in ((False, 2000), (True, 1350)):
        till, bar = writers(0, 1)
        band = Wristband(VENUE, 1)
        band.issue(till, 2000)
        tap = band.propose(bar.device, Operation.SALE, 650)
        if abort_first:
            bar.abort(tap.tap_id, tap.written)
        bar.append(Kind.TAP, tap.encode())
        if not abort_first:
            bar.abort(tap.tap_id, tap.written)
        for view, _ in every_order(till, bar):
            assert balance(view, band) == expected


def test_abort_after_a_restart_counts_only_where_the_new_log_knew_of_the_tap() -> None:
    for knows, expected in ((True, 2000), (False, 1350)):
        till, bar = writers(0, 1)
        band = Wristband(VENUE, 1)
        band.issue(till, 2000)
        tap = band.sell(bar, 650)
        later = LogWriter(bar.device, number=1, known=[bar] if knows else [])
        later.abort(tap.tap_id, tap.written)
        for view, _ in every_order(till, bar, later):
            assert balance(view, band) == expected


def test_nobody_aborts_the_tap_of_another_device() -> None:
    till, bar, other = writers(0, 1, 2)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    tap = band.sell(bar, 650)
    other.abort(tap.tap_id, tap.written)
    knowing = LogWriter(other.device, number=1, known=[bar])
    knowing.abort(tap.tap_id, tap.written)
    for view, _ in every_order(till, bar, other, knowing):
        assert balance(view, band) == 1350


def test_abort_that_undoes_one_of_two_branches_ends_the_conflict() -> None:
    till, bar, other = writers(0, 1, 2)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    clone = band.clone()
    tap = band.sell(bar, 650)
    clone.sell(other, 400)
    bar.abort(tap.tap_id, tap.written)
    for view, _ in every_order(till, bar, other):
        assert (view.conflicts(band.card), balance(view, band)) == ((), 1600)


@pytest.mark.parametrize("amount", range(100, 106))
def test_conflict_that_an_abort_brings_to_light_is_reported_when_the_abort_comes_last(amount: int) -> None:
    """One tap id for two records: the first tap is undone, so the second counts, and a clone spent what it read."""
    till, bar, other = writers(0, 1, 2)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    tap = band.sell(bar, amount)
    clone = band.clone()
    bar.abort(tap.tap_id, tap.written)
    band.tap(bar, Operation.SALE, amount, tap_id=tap.tap_id)
    clone.sell(other, 300)
    for view, reported in every_order(till, bar, other):
        assert len(view.conflicts(band.card)) == 1
        assert reported == [band.card]


@pytest.mark.proves("B2")
def test_forked_log_debits_nobody_from_the_fork_on() -> None:
    till, bar = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    band.sell(bar, 100)
    branch = bar.fork()
    band.sell(bar, 200)
    band.clone().sell(branch, 300)
    for view, _ in every_order(till, bar, branch, contested={bar.log_id: 2}):
        assert (balance(view, band), view.conflicts(band.card)) == (1900, ())
        assert len(view.account(band.card).uncounted) == 2


def test_contested_abort_undoes_nothing() -> None:
    till, bar = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    tap = band.sell(bar, 650)
    bar.abort(tap.tap_id, tap.written)
    for view, _ in every_order(till, bar, contested={bar.log_id: 2}):
        assert balance(view, band) == 1350


def test_reader_that_raises_a_balance_and_courier_that_sells_count_for_nothing() -> None:
    till, bar, courier = writers(0, 1, 4)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    band.clone().top_up(bar, 5000)
    band.clone().sell(courier, 10)
    band.clone().sell(till, 10)
    for view, _ in every_order(till, bar, courier):
        assert (balance(view, band), view.conflicts(band.card), len(view.refused())) == (2000, (), 3)


def test_card_wiped_and_issued_again_is_a_conflict_and_both_issues_are_named() -> None:
    (till, bar) = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    band.sell(bar, 500)
    band.sealed = b""
    band.issue(till, 300)
    for view, _ in every_order(till, bar):
        (conflict,) = view.conflicts(band.card)
        assert places(conflict) == {(till.log_id, 1), (till.log_id, 2)}
        assert (conflict.at_risk_minor, balance(view, band)) == (500, 1800)


def test_three_copies_put_all_but_the_cheapest_branch_at_risk() -> None:
    till, *bars = writers(0, 1, 2, 3)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    for bar, amount in zip(bars, (300, 200, 700), strict=True):
        band.clone().sell(bar, amount)
    for view, _ in every_order(till, *bars):
        (conflict,) = view.conflicts(band.card)
        assert (conflict.at_risk_minor, balance(view, band)) == (1000, 800)


@pytest.mark.proves("M4")
def test_old_record_and_unknown_sibling_speak_against_a_card_and_ones_own_intent_does_not() -> None:
    till, bar = writers(0, 1)
    band = Wristband(VENUE, 1)
    band.issue(till, 2000)
    issued, clone = band.sealed, band.clone()
    tap = band.sell(bar, 650)
    view, _ = view_of([*runs_of(till, 1), *runs_of(bar, 1)], (till, bar))
    old = hashlib.sha256(issued[:42]).digest()
    standing = view.standing(band.card, old, bytes(8), bytes(16))
    assert standing.consumed_by is not None
    assert (standing.consumed_by.tap_id, standing.status) == (tap.tap_id, CardStatus.OPEN)
    assert view.standing(band.card, old, bytes(8), tap.tap_id).consumed_by is None
    clone.sell(LogWriter(BARS[1]), 10)
    copy = view.standing(band.card, hashlib.sha256(clone.sealed[:42]).digest(), old[:8], bytes(16))
    assert copy.sibling is not None
    assert copy.sibling.tap_id == tap.tap_id
    current = view.standing(band.card, hashlib.sha256(band.sealed[:42]).digest(), old[:8], bytes(16))
    assert (current.consumed_by, current.sibling) == (None, None)


def test_control_entries_are_no_money() -> None:
    control = LogWriter(BARS[0], Lane.CONTROL)
    control.append(Kind.RECEIPT, b"")
    view, _ = view_of(runs_of(control, 1), [control])
    assert list(view.cards()) == []
