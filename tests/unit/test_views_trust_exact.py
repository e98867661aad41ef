"""Which entries count as far as their author goes: every seq, every order of arrival, and when the answer changed."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Final

import pytest

from mesh.core.chain import Run
from mesh.core.frontier import Position
from mesh.core.revocation import Statement
from mesh.views.trust import LogTrust, TrustView

LOG, OTHER_LOG = b"L" * 16, b"M" * 16
SERIAL, OTHER_SERIAL = 7, 8
NOTHING: Final = bytes(32)

Piece = tuple[int, bytes, list[bytes]]
"""First seq, prev, ids: what :meth:`TrustView.hold` takes."""


def chain(name: str, first_seq: int, last_seq: int) -> list[bytes]:
    return [hashlib.sha256(f"{name} {seq}".encode()).digest() for seq in range(first_seq, last_seq + 1)]


MAIN: Final = chain("main", 0, 9)
FORGED: Final = [*MAIN[:4], *chain("forged", 4, 8)]
"""Whoever has the key went on from entry 3 in another way."""


def piece(ids: list[bytes], first_seq: int, last_seq: int) -> Piece:
    return first_seq, ids[first_seq - 1] if first_seq else NOTHING, ids[first_seq : last_seq + 1]


def statement(*cut: tuple[bytes, int, bytes], serial: int = SERIAL, number: int = 1) -> Statement:
    places = {log_id: Position(seq, identifier) for log_id, seq, identifier in cut}
    return Statement(serial, number, places, repr((serial, number, sorted(cut))).encode())


def opened(*pieces: Piece) -> TrustView:
    trust = TrustView()
    trust.open_log(LOG, SERIAL)
    for one in pieces:
        trust.hold(LOG, *one)
    return trust


def counted(trust: TrustView, ids: list[bytes], log_id: bytes = LOG) -> list[int]:
    return [seq for seq, identifier in enumerate(ids) if trust.counts(log_id, seq, identifier)]


# -- Never revoked -------------------------------------------------------------------------------------------------


def test_log_of_a_trusted_device_counts_as_far_as_it_is_held() -> None:
    trust = opened(piece(MAIN, 0, 9))
    assert counted(trust, MAIN) == list(range(10))
    assert trust.log_trust(LOG) == LogTrust(None, False, (), 9)
    assert trust.contested_from(LOG) is None
    assert trust.version == 0


def test_opened_log_of_which_nothing_is_held_counts_nothing_yet() -> None:
    assert opened().log_trust(LOG) == LogTrust(None, False, (), None)


@pytest.mark.parametrize(("from_seq", "counted_to"), [(0, None), (1, 0), (4, 3), (9, 8), (10, 9), (11, 9)])
def test_contested_log_counts_up_to_the_entry_before(from_seq: int, counted_to: int | None) -> None:
    trust = opened(piece(MAIN, 0, 9))
    trust.contest(LOG, from_seq)
    assert counted(trust, MAIN) == list(range(min(10, from_seq)))
    assert trust.log_trust(LOG) == LogTrust(from_seq, False, (), counted_to)
    assert trust.contested_from(LOG) == from_seq


def test_contested_log_of_which_only_the_genesis_is_held_counts_it() -> None:
    trust = opened(piece(MAIN, 0, 0))
    assert trust.log_trust(LOG).counted_to == 0
    trust.contest(LOG, 1)
    assert trust.log_trust(LOG) == LogTrust(1, False, (), 0)


def test_smallest_seq_of_several_findings_holds_and_only_a_smaller_one_is_news() -> None:
    trust = opened()
    versions = []
    for seq, expected in ((5, 5), (7, 5), (5, 5), (4, 4)):
        trust.contest(LOG, seq)
        versions.append(trust.version)
        assert trust.contested_from(LOG) == expected
    assert versions == [1, 1, 1, 2]


def test_log_that_is_opened_again_keeps_what_is_known_of_it() -> None:
    trust = opened(piece(MAIN, 0, 3))
    trust.contest(LOG, 2)
    trust.open_log(LOG, OTHER_SERIAL)
    assert trust.log_trust(LOG) == LogTrust(2, False, (), 1)
    assert (trust.logs_of(SERIAL), trust.logs_of(OTHER_SERIAL)) == ([LOG], [])


def test_logs_of_a_device_are_listed_by_id() -> None:
    trust = TrustView()
    for log_id, serial in ((b"c", 7), (b"a", 7), (b"d", 8), (b"b", 7)):
        trust.open_log(log_id * 16, serial)
    assert trust.logs_of(7) == [b"a" * 16, b"b" * 16, b"c" * 16]
    assert trust.logs_of(9) == []


def test_one_log_says_nothing_about_another() -> None:
    trust = opened(piece(MAIN, 0, 9))
    trust.open_log(OTHER_LOG, OTHER_SERIAL)
    trust.contest(OTHER_LOG, 0)
    trust.revoke(statement(serial=OTHER_SERIAL))
    assert counted(trust, MAIN) == list(range(10))
    assert trust.log_trust(LOG) == LogTrust(None, False, (), 9)


# -- Revoked -------------------------------------------------------------------------------------------------------


@pytest.mark.proves("M7")
@pytest.mark.parametrize("cut", [0, 1, 8, 9])
def test_cut_counts_with_all_its_ancestors_and_nothing_after_it(cut: int) -> None:
    trust = opened(piece(MAIN, 0, 9))
    trust.revoke(statement((LOG, cut, MAIN[cut])))
    for _ in range(2):
        assert trust.log_trust(LOG) == LogTrust(None, True, (Position(cut, MAIN[cut]),), cut)
        assert counted(trust, MAIN) == list(range(cut + 1))


@pytest.mark.proves("M7")
def test_cut_decides_about_forks_and_bad_signatures_too() -> None:
    trust = opened(piece(MAIN, 0, 9), piece(FORGED, 4, 8))
    trust.contest(LOG, 2)
    trust.revoke(statement((LOG, 6, MAIN[6])))
    assert (counted(trust, MAIN), counted(trust, FORGED)) == ([0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3])
    assert trust.log_trust(LOG) == LogTrust(2, True, (Position(6, MAIN[6]),), 6)


def test_log_outside_the_cut_counts_nothing_not_even_its_genesis() -> None:
    trust = opened(piece(MAIN, 0, 9))
    trust.revoke(statement())
    assert counted(trust, MAIN) == []
    assert trust.log_trust(LOG) == LogTrust(None, True, (None,), None)


def test_first_sixteen_bytes_of_an_id_are_enough_and_all_of_them_are_needed() -> None:
    trust = opened(piece(MAIN, 0, 9))
    trust.revoke(statement((LOG, 5, MAIN[5])))
    assert trust.counts(LOG, 5, MAIN[5][:16])
    assert not trust.counts(LOG, 5, MAIN[5][:15] + bytes([MAIN[5][15] ^ 1]) + MAIN[5][16:])
    assert not trust.counts(LOG, 4, MAIN[5])


@pytest.mark.proves("M7")
def test_only_what_a_revocation_leaves_out_is_cut_off() -> None:
    trust = opened(piece(MAIN, 0, 9))
    trust.contest(LOG, 3)
    assert not any(trust.is_cut_off(LOG, seq, MAIN[seq]) for seq in range(10)), "a fork cuts nothing off"
    assert not trust.is_cut_off(OTHER_LOG, 0, MAIN[0]), "nor does being unknown here"
    trust.revoke(statement((LOG, 5, MAIN[5])))
    assert [seq for seq in range(10) if trust.is_cut_off(LOG, seq, MAIN[seq])] == [6, 7, 8, 9]


ARRIVALS: Final = (
    piece(MAIN, 0, 2),
    piece(MAIN, 2, 6),
    piece(MAIN, 7, 9),
    piece(FORGED, 3, 5),
    piece(FORGED, 6, 8),
)


def reachable(held: list[Piece], seq: int, identifier: bytes) -> set[tuple[int, bytes]]:
    """An entry and its ancestors as far as they are held: the rule, walked one entry at a time."""
    prevs = {(first + at, one): ids[at - 1] if at else prev for first, prev, ids in held for at, one in enumerate(ids)}
    found = set()
    while (seq, identifier) in prevs:
        found.add((seq, identifier))
        seq, identifier = seq - 1, prevs[seq, identifier]
    return found


def last_of(entries: set[tuple[int, bytes]]) -> int | None:
    return max((seq for seq, _ in entries), default=None)


@pytest.mark.proves("M7", "M3")
@pytest.mark.parametrize(("ids", "cut"), [(MAIN, 8), (MAIN, 3), (FORGED, 7)], ids=["main", "before the fork", "forged"])
def test_pieces_in_any_order_count_as_soon_as_they_are_known_to_lead_to_the_cut(ids: list[bytes], cut: int) -> None:
    for order in permutations(ARRIVALS):
        trust = opened()
        trust.revoke(statement((LOG, cut, ids[cut])))
        for number, one in enumerate(order, 1):
            trust.hold(LOG, *one)
            assert trust.version == 1 + number
            expected = reachable(list(order[:number]), cut, ids[cut])
            assert {(seq, MAIN[seq]) for seq in counted(trust, MAIN)} == expected & set(enumerate(MAIN))
            assert {(seq, FORGED[seq]) for seq in counted(trust, FORGED)} == expected & set(enumerate(FORGED))
            assert trust.log_trust(LOG).counted_to == last_of(expected)
        for one in order:
            trust.hold(LOG, *one)
        assert trust.version == 1 + len(order), "what is held already is no news"


def test_what_is_held_already_takes_no_more_memory() -> None:
    for order in permutations(ARRIVALS):
        trust = opened(*order)
        held = trust._logs[LOG].pieces
        sizes = [len(one.ids) for one in held]
        for one in order:
            trust.hold(LOG, *one)
        assert [len(one.ids) for one in held] == sizes
        assert len(sizes) <= 3
        known = {(seq, one.id_at(seq)) for one in held for seq in range(one.first_seq, one.end_seq)}
        assert known == {(seq, ids[seq][:16]) for ids in (MAIN, FORGED) for seq in range(len(ids))}


def test_pieces_that_follow_each_other_become_one() -> None:
    for order in permutations([piece(MAIN, 0, 2), piece(MAIN, 3, 3), piece(MAIN, 4, 6), piece(MAIN, 7, 9)]):
        [one] = opened(*order)._logs[LOG].pieces
        assert (one.first_seq, one.prev, bytes(one.ids)) == (0, bytes(16), b"".join(i[:16] for i in MAIN))
        assert one.end_seq == 10


@pytest.mark.parametrize(
    ("second", "joined"),
    [(piece(MAIN, 2, 5), 1), (piece(MAIN, 0, 5), 1), (piece(MAIN, 3, 4), 1), (piece(FORGED, 2, 6), 2)],
)
def test_piece_of_which_some_is_held_adds_only_the_rest(second: Piece, joined: int) -> None:
    trust = opened(piece(MAIN, 0, 4), second)
    held = trust._logs[LOG].pieces
    total = {(seq, i) for first, _, ids in (piece(MAIN, 0, 4), second) for seq, i in enumerate(ids, first)}
    assert (len(held), sum(len(one.ids) for one in held)) == (joined, 16 * len(total))


def test_same_ids_at_another_seq_and_other_ids_at_one_seq_are_not_joined() -> None:
    trust = opened(piece(MAIN, 0, 2), (4, MAIN[2], MAIN[4:6]), (3, MAIN[1], MAIN[3:4]))
    assert sorted((one.first_seq, one.end_seq) for one in trust._logs[LOG].pieces) == [(0, 3), (3, 4), (4, 6)]


def test_run_is_held_with_its_place_and_its_ids() -> None:
    fields = [(1, LOG, seq, MAIN[seq - 1], 0, 999, b"") for seq in (4, 5)]
    trust = opened()
    trust.fold(Run(LOG, [b"", b""], fields, MAIN[4:6]))
    [one] = trust._logs[LOG].pieces
    assert (one.first_seq, one.prev, bytes(one.ids)) == (4, MAIN[3][:16], MAIN[4][:16] + MAIN[5][:16])


# -- When the answer changed ---------------------------------------------------------------------------------------


def test_version_rises_when_something_that_counted_may_not_any_more_and_only_then() -> None:
    trust = opened(piece(MAIN, 0, 3))
    assert trust.version == 0, "a trusted device's new entries change nothing about the old ones"
    trust.revoke(statement((LOG, 6, MAIN[6])))
    assert trust.version == 1
    trust.revoke(statement((LOG, 6, MAIN[6])))
    assert trust.version == 1
    trust.hold(LOG, *piece(MAIN, 1, 2))
    assert trust.version == 1
    trust.hold(LOG, *piece(MAIN, 3, 5))
    assert trust.version == 2
    trust.revoke(statement((LOG, 2, MAIN[2]), number=2))
    assert trust.version == 3
    trust.revoke(statement((LOG, 9, MAIN[9])))
    assert trust.version == 3, "an older statement holds no more"


def test_raised_and_lowered_cuts_are_looked_at_anew() -> None:
    trust = opened(piece(MAIN, 0, 9))
    for number, cut in enumerate((2, 7, 4), 1):
        trust.revoke(statement((LOG, cut, MAIN[cut]), number=number))
        assert counted(trust, MAIN) == list(range(cut + 1))
        assert trust.log_trust(LOG).counted_to == cut


# -- Contradictions ------------------------------------------------------------------------------------------------


@pytest.mark.proves("M7")
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((LOG, 8, MAIN[8]), (LOG, 5, MAIN[5]), 5),
        ((LOG, 8, MAIN[8]), (LOG, 7, FORGED[7]), 3),
        ((LOG, 4, MAIN[4]), (LOG, 4, FORGED[4]), 3),
        ((LOG, 0, MAIN[0]), (LOG, 8, MAIN[8]), 0),
        ((LOG, 8, MAIN[8]), (OTHER_LOG, 8, MAIN[8]), None),
        ((LOG, 8, MAIN[8]), (LOG, 8, NOTHING), None),
    ],
)
def test_where_two_statements_hold_what_both_let_count_counts(
    one: tuple[bytes, int, bytes], other: tuple[bytes, int, bytes], expected: int | None
) -> None:
    for said in permutations((one, other)):
        for order in (ARRIVALS, ARRIVALS[::-1]):
            trust = opened(*order)
            for cut in said:
                trust.revoke(statement(cut))
            to = -1 if expected is None else expected
            assert counted(trust, MAIN) == list(range(to + 1))
            assert counted(trust, FORGED) == list(range(min(to, 3) + 1))
            assert trust.log_trust(LOG).counted_to == expected
            assert len(trust.log_trust(LOG).cuts) == 2


def test_two_cuts_that_have_no_entry_in_common_count_nothing() -> None:
    strange = chain("strange", 0, 5)
    trust = opened(piece(MAIN, 0, 9), piece(strange, 0, 5))
    for cut in ((LOG, 8, MAIN[8]), (LOG, 5, strange[5])):
        trust.revoke(statement(cut))
    assert (counted(trust, MAIN), counted(trust, strange)) == ([], [])
    assert trust.log_trust(LOG).counted_to is None
