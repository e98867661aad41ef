"""A double-spend case: every field of what it shows, and each thing that may be wrong with it, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Final

import pytest

from mesh.core.certificate import ForeignVenue
from mesh.core.codec import TooLarge, encode
from mesh.core.entry import BadSignature, decode_entry, entry_id
from mesh.core.kinds import Kind, Operation, Role
from mesh.errors import PeerError
from mesh.limits import CASE_BYTES_MAX, CASE_TAPS_MAX
from mesh.views.evidence import Case, NoCase, Witnessed, check_case, is_tap, make_case
from mesh.views.tap_rules import CountedTap, author_of, read_tap
from tests.factory import LogWriter, Venue, VenueDevice, Wristband

VENUE: Final = Venue("Evidence exactly")
TILL: Final = VENUE.device("till", Role.TILL)
BARS: Final = [VENUE.device(f"bar {number}", Role.READER) for number in range(CASE_TAPS_MAX + 1)]

Pair = tuple[bytes, bytes]
"""Genesis and tap, raw."""


def issued(number: int = 1) -> Wristband:
    band = Wristband(VENUE, number)
    band.issue(LogWriter(TILL), 5000)
    return band


BAND: Final = issued()
LOGS: Final = [LogWriter(bar) for bar in BARS]
for _number, _log in enumerate(LOGS):
    BAND.clone().sell(_log, 100 + _number)


def pair(log: LogWriter, seq: int = 1) -> Pair:
    return log.entries[0], log.entries[seq]


PAIRS: Final = sorted((pair(log) for log in LOGS), key=lambda one: entry_id(one[1]))
TWO: Final = PAIRS[:2]


def case_of(pairs: Sequence[Any], *, version: Any = 1, root: Any = VENUE.root.der) -> bytes:
    return encode([version, root, [list(one) if isinstance(one, tuple) else one for one in pairs]])


def in_order(*pairs: Pair) -> list[Pair]:
    return sorted(pairs, key=lambda one: entry_id(one[1]))


# -- What holds ----------------------------------------------------------------------------------------------------


@pytest.mark.proves("B1", "M4")
def test_a_case_shows_the_card_the_record_and_who_signed_what() -> None:
    expected = []
    for genesis, tap in TWO:
        log = next(log for log in LOGS if log.entries[0] == genesis)
        entry = decode_entry(tap)
        certificate = log.device.certificate
        read = read_tap(entry.body, author_of(certificate), entry_id=entry_id(tap), log=0, seq=1)
        assert isinstance(read, CountedTap)
        expected.append(Witnessed(genesis, entry, certificate, read))
    consumed = expected[0].tap.fact.consumed
    case = check_case(case_of(TWO), VENUE.root)
    assert case == Case(case_of(TWO), BAND.card, consumed, tuple(expected))
    assert [witness.tap.fact.seq for witness in case.taps] == [1, 1]
    assert {witness.device.name for witness in case.taps} <= {bar.certificate.name for bar in BARS}


def test_a_case_is_the_same_bytes_whoever_makes_it_in_whatever_order() -> None:
    for order in permutations(PAIRS[:3]):
        case = make_case(VENUE.root, order)
        assert case.data == case_of(PAIRS[:3])
        assert case == check_case(case.data, VENUE.root)


@pytest.mark.parametrize("count", [2, 3, CASE_TAPS_MAX])
def test_two_to_sixteen_taps_make_a_case(count: int) -> None:
    assert len(check_case(case_of(PAIRS[:count]), VENUE.root).taps) == count


# -- What does not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, CASE_TAPS_MAX + 1])
def test_fewer_or_more_taps_make_none(count: int) -> None:
    with pytest.raises(NoCase, match="2 to 16"):
        check_case(case_of(PAIRS[:count]), VENUE.root)


@pytest.mark.parametrize(
    "data",
    [
        case_of(TWO, version=0),
        case_of(TWO, version=2),
        case_of(TWO, version=True),
        case_of(TWO, version=b"\x01"),
        case_of(TWO, root="root"),
        encode([1, VENUE.root.der, b"taps"]),
        encode([1, VENUE.root.der]),
        encode([1, VENUE.root.der, [], 0]),
    ],
)
def test_bytes_of_another_shape_are_no_case(data: bytes) -> None:
    with pytest.raises(NoCase, match="a case is"):
        check_case(data, VENUE.root)


def test_a_case_of_another_venue_is_none_here_and_holds_there() -> None:
    other = Venue("Another")
    with pytest.raises(NoCase, match="another venue"):
        check_case(case_of(TWO), other.root)
    with pytest.raises(NoCase, match="another venue"):
        check_case(case_of(TWO, root=other.root.der), VENUE.root)


def test_a_case_longer_than_its_bound_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        check_case(bytes(CASE_BYTES_MAX + 1), VENUE.root)


@pytest.mark.parametrize("wrong", [[PAIRS[1][0]], [*PAIRS[1], b""], [PAIRS[1][0], "tap"], ["genesis", PAIRS[1][1]], 7])
def test_each_tap_comes_with_its_genesis_and_nothing_else(wrong: object) -> None:
    with pytest.raises(NoCase, match=r"\[genesis, tap\]"):
        check_case(case_of([PAIRS[0], wrong]), VENUE.root)


def test_taps_the_other_way_round_are_no_case() -> None:
    with pytest.raises(NoCase, match="order"):
        check_case(case_of(TWO[::-1]), VENUE.root)
    with pytest.raises(NoCase, match="order"):
        check_case(case_of([PAIRS[0], PAIRS[2], PAIRS[1]]), VENUE.root)


def sold(band: Wristband, device: VenueDevice, number: int, amount: int = 50, tap_id: bytes | None = None) -> Pair:
    log = LogWriter(device, number=number)
    band.tap(log, Operation.SALE, amount, tap_id=tap_id)
    return pair(log)


def another_card() -> Pair:
    """A tap of another card whose record is otherwise as old."""
    return sold(issued(2), BARS[0], 90)


def a_later_record() -> Pair:
    """An honest sale from the record that an honest sale wrote."""
    band = BAND.clone()
    sold(band, BARS[0], 91)
    return sold(band, BARS[1], 92)


def a_first_record() -> Pair:
    """The issue of the same card, which consumed no record."""
    return pair(issued_log())


def issued_log() -> LogWriter:
    log = LogWriter(TILL)
    Wristband(VENUE, 1).issue(log, 5000)
    return log


@pytest.mark.parametrize("other", [another_card, a_later_record, a_first_record])
@pytest.mark.parametrize("beside", [1, 2])
def test_honest_taps_of_other_records_accuse_nobody(other: Callable[[], Pair], beside: int) -> None:
    with pytest.raises(NoCase, match="one record of one card"):
        check_case(case_of(in_order(*PAIRS[:beside], other())), VENUE.root)


@pytest.mark.proves("S1.16")
def test_one_tap_written_twice_or_signed_twice_accuses_nobody() -> None:
    first = sold(BAND.clone(), BARS[0], 93, tap_id=b"t" * 16)
    again = sold(BAND.clone(), BARS[0], 94, 60, tap_id=b"t" * 16)
    same_write = sold(BAND.clone(), BARS[0], 95, tap_id=b"u" * 16)
    for pairs in ([first, again], [first, same_write], [first, first], [PAIRS[5], first, again]):
        with pytest.raises(NoCase, match="one tap"):
            check_case(case_of(in_order(*pairs)), VENUE.root)


@pytest.mark.proves("M4")
def test_two_devices_under_one_tap_id_are_two_taps() -> None:
    pairs = in_order(*(sold(BAND.clone(), bar, 96, 50, tap_id=b"t" * 16) for bar in BARS[:2]))
    assert len(check_case(case_of(pairs), VENUE.root).taps) == 2


def test_only_a_signed_tap_of_the_log_beside_it_is_evidence() -> None:
    log = LogWriter(BARS[0], number=97)
    tap = BAND.clone().sell(log, 10)
    log.abort(tap.tap_id, tap.written)
    log.append(999, decode_entry(log.entries[1]).body)
    for seq in (2, 3, 0):
        with pytest.raises(NoCase, match="not a tap of the log"):
            check_case(case_of(in_order(PAIRS[0], pair(log, seq))), VENUE.root)
    with pytest.raises(NoCase, match="not a tap of the log"):
        check_case(case_of([PAIRS[0], (PAIRS[0][0], PAIRS[1][1])]), VENUE.root)


def test_a_tap_that_counts_for_nothing_accuses_nobody_and_the_reason_is_said() -> None:
    till = LogWriter(TILL, number=98)
    BAND.clone().sell(till, 10)
    with pytest.raises(NoCase, match="role does not allow"):
        check_case(case_of(in_order(PAIRS[0], pair(till))), VENUE.root)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_forged_signature_of_a_tap_or_of_a_genesis_accuses_nobody() -> None:
    forged_tap = (PAIRS[1][0], flipped(PAIRS[1][1]))
    with pytest.raises(BadSignature):
        check_case(case_of(in_order(PAIRS[0], forged_tap)), VENUE.root)
    log = LogWriter(BARS[0], number=99)
    log.entries[0] = flipped(log.entries[0])
    log.log_id = entry_id(log.entries[0])[:16]
    BAND.clone().sell(log, 10)
    with pytest.raises(BadSignature):
        check_case(case_of(in_order(PAIRS[0], pair(log))), VENUE.root)


def test_a_genesis_of_another_venue_accuses_nobody() -> None:
    stranger = LogWriter(Venue("Another").device("bar", Role.READER))
    BAND.clone().sell(stranger, 10)
    with pytest.raises(ForeignVenue):
        check_case(case_of(in_order(PAIRS[0], pair(stranger))), VENUE.root)


def test_a_case_that_does_not_hold_is_not_made() -> None:
    with pytest.raises(PeerError):
        make_case(VENUE.root, [PAIRS[0]])


# -- Finding the tap -----------------------------------------------------------------------------------------------


def test_the_right_tap_of_a_forked_log_is_found_by_its_id() -> None:
    log = LogWriter(BARS[0], number=100)
    tap = BAND.clone().sell(log, 10)
    log.abort(tap.tap_id, tap.written)
    log.append(Kind.TAP, b"garbage")
    log.append(999, tap.encode())
    assert is_tap(log.entries[1], tap.tap_id)
    assert not is_tap(log.entries[1], bytes(16))
    assert [is_tap(data, tap.tap_id) for data in (*log.entries, b"garbage")] == [
        False,
        True,
        False,
        False,
        False,
        False,
    ]
