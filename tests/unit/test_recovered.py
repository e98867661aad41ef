"""What is left of a lost disk, case by case: what a seal proves, what it does not, and what nobody can know."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import pytest

from mesh.core.chain import check_run, parse_genesis
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.core.receipt import Receipt, sign_receipt
from mesh.core.revocation import parse_statement
from mesh.views.card_gaps import BLANK_CARD, Gap, KnownRecord, balance_last_seen, gap_below, known_record
from mesh.views.card_record import RECORD_BYTES
from mesh.views.cards import CardsView
from mesh.views.devices import DevicesView
from mesh.views.recovered import Hearsay, Place, Recovered, RecoveredView, Sum
from tests.factory import LogWriter, Venue, VenueDevice, Wristband, seal

pytestmark = pytest.mark.proves("B6")
VENUE: Final = Venue("Lost disks")
LOST: Final = VENUE.device("bar", Role.READER)
OTHER: Final = VENUE.device("other bar", Role.READER)
TILL: Final = VENUE.device("till", Role.READER, Role.TILL)
GATEWAY: Final = VENUE.device("gateway", Role.GATEWAY)
SETTLEMENT: Final = VENUE.device("settlement", Role.SETTLEMENT)


class Evening:
    """A wristband with 50.00, and logs of which a part is held."""

    def __init__(self) -> None:
        self.lost, self.other, self.till = LogWriter(LOST), LogWriter(OTHER), LogWriter(TILL)
        self.band = Wristband(VENUE, 1)
        self.band.issue(self.till, 5000)

    def left(
        self,
        *more: LogWriter,
        held: Iterable[int] = (0,),
        of: VenueDevice = LOST,
        statements: Iterable[bytes] = (),
    ) -> Recovered:
        """What is recovered from these entries of the lost bar, and from everything of the others."""
        parts = [(self.lost, held), *((log, range(len(log.entries))) for log in (self.other, self.till, *more))]
        cards, devices = CardsView(), DevicesView(VENUE.root)
        view = RecoveredView(cards, devices, VENUE.root)
        for log, seqs in parts:
            genesis = parse_genesis(log.entries[0], VENUE.root)
            cards.open_log(log.log_id, genesis)
            view.open_log(log.log_id, genesis)
            for seq in seqs:
                run = check_run(log.log_id, [log.entries[seq]])
                if genesis.lane is Lane.MONEY:
                    cards.fold(run)
                view.fold(run)
        for statement in statements:
            cards.revoke(parse_statement(statement, VENUE.root))
        return view.recover({of.certificate.serial})


def child_of(parent: KnownRecord, seq: int, balance: int, spent: int) -> KnownRecord:
    return KnownRecord(b"x" * 16, seq, balance, spent, parent.hash[:8])


def amounts(left: Recovered) -> list[tuple[int | None, int | None]]:
    return [(one.gap.spent_minor, one.gap.credited_minor) for one in left.shown]


# -- What a wristband shows --------------------------------------------------------------------------------------------


def test_record_that_another_reader_read_tells_the_sale_that_wrote_it() -> None:
    evening = Evening()
    evening.band.sell(evening.lost, 650)
    evening.band.sell(evening.other, 300)
    left = evening.left()
    (one,) = left.shown
    assert (one.card, one.gap, one.writer) == (evening.band.card, Gap(2, 2, 650, 0), LOST.certificate.serial)
    assert one.shown_in == Place(evening.other.log_id, 1)
    assert (left.held, left.together, left.perhaps, left.hearsay, left.given_up) == ((), (), (), (), ())
    assert evening.left(held=(0, 1)).shown == ()


def test_top_up_that_only_the_wristband_remembers_is_told_as_credit() -> None:
    evening = Evening()
    evening.band.sell(evening.other, 300)
    left = evening.left(of=TILL)
    assert left.shown == (), "its log is held"
    second = LogWriter(TILL, number=1)
    evening.band.top_up(second, 2000)
    evening.band.sell(evening.other, 100)
    assert amounts(evening.left(of=TILL)) == [(0, 2000)]


def test_several_lost_taps_in_a_row_are_told_together() -> None:
    evening = Evening()
    for amount in (650, 200):
        evening.band.sell(evening.lost, amount)
    evening.band.sell(evening.other, 300)
    left = evening.left()
    assert left.shown == ()
    assert [one.gap for one in left.together] == [Gap(2, 3, 850, 0)]


def test_hole_before_a_record_of_another_reader_is_only_perhaps_the_lost_ones() -> None:
    evening = Evening()
    evening.band.sell(evening.lost, 650)
    evening.band.sell(LogWriter(OTHER, number=1), 200)
    evening.band.sell(evening.other, 300)
    left = evening.left()
    assert (left.shown, left.together) == ((), ())
    assert [one.gap for one in left.perhaps] == [Gap(2, 3, 850, 0)]


@pytest.mark.parametrize("forger", ["a bit", "another key", "a short seal"])
def test_record_without_the_lost_devices_own_seal_is_hearsay_and_gives_nothing(forger: str) -> None:
    evening = Evening()
    evening.band.sell(evening.lost, 650)
    record = evening.band.record
    assert record is not None
    sealed = evening.band.sealed
    evening.band.sealed = {
        "a bit": sealed[:-1] + bytes([sealed[-1] ^ 1]),
        "another key": seal(OTHER, record),
        "a short seal": sealed[: RECORD_BYTES + 8],
    }[forger]
    evening.band.sell(evening.other, 300)
    left = evening.left()
    assert (left.shown, left.together, left.perhaps) == ((), (), ())
    assert left.hearsay == (Hearsay(evening.band.card, Place(evening.other.log_id, 1)),)


def test_one_good_seal_is_enough_whatever_else_was_shown_of_that_record() -> None:
    evening = Evening()
    evening.band.sell(evening.lost, 650)
    clone = evening.band.clone()
    clone.sealed = clone.sealed[:-1] + bytes([clone.sealed[-1] ^ 1])
    clone.sell(evening.other, 100)
    evening.band.sell(evening.other, 300)
    left = evening.left()
    assert amounts(left) == [(650, 0)]
    assert left.shown[0].shown_in.seq == 2
    assert left.hearsay == ()


def test_record_that_its_own_device_gave_up_is_not_missed() -> None:
    evening = Evening()
    tap = evening.band.sell(evening.lost, 650)
    evening.band.sell(evening.other, 300)
    later = LogWriter(LOST, number=1)
    later.abort(tap.tap_id, tap.written)
    stranger = LogWriter(OTHER, number=1)
    stranger.abort(tap.tap_id, tap.written)
    assert amounts(evening.left(stranger)) == [(650, 0)], "nobody else can give it up"
    left = evening.left(later)
    assert left.shown == ()
    assert [one.gap for one in left.given_up] == [Gap(2, 2, 650, 0)]


def test_hole_of_several_writes_of_a_copied_card_has_no_amount_and_one_of_a_single_write_has() -> None:
    evening = Evening()
    clone = evening.band.clone()
    clone.sell(evening.other, 100)
    evening.band.sell(evening.lost, 650)
    evening.band.sell(evening.other, 300)
    assert amounts(evening.left()) == [(650, 0)]
    clone.sell(evening.lost, 10)
    clone.sell(evening.lost, 20)
    clone.sell(evening.other, 30)
    (unclear,) = [one for one in evening.left().shown if one.gap.spent_minor is None]
    assert unclear.gap == Gap(4, 4, None, None)


def test_record_that_does_not_add_up_has_no_amount() -> None:
    before = KnownRecord(b"b" * 16, 3, 1000, 500, b"p" * 8)
    child = partial(child_of, before)
    assert gap_below(child(4, 700, 800), [before]) == Gap(4, 4, 300, 0)
    assert gap_below(child(4, 1300, 500), [before]) == Gap(4, 4, 0, 300)
    for wrong in (child(4, 900, 400), child(4, 500, 700), child(4, 1000, 700)):
        assert gap_below(wrong, [before]) == Gap(4, 4, None, None)
    assert gap_below(child(6, 1000, 700), [before]) == Gap(4, 6, 200, 200)
    assert gap_below(child_of(BLANK_CARD, 4, 700, 800), [before]) == Gap(4, 4, None, None)
    assert gap_below(child(2, 50, 70), []) == Gap(1, 2, 70, 120)
    assert gap_below(child(0, 50, 70), []) == Gap(0, 0, None, None)
    twins = [before, before._replace(hash=b"c" * 16)]
    assert gap_below(child(4, 700, 800), twins) == Gap(4, 4, 300, 0)
    assert gap_below(child(6, 700, 800), twins) == Gap(6, 6, None, None)


def test_wristband_holds_what_its_newest_record_says() -> None:
    old, new = KnownRecord(b"a" * 16, 1, 900, 0, bytes(8)), KnownRecord(b"b" * 16, 2, 300, 600, b"a" * 8)
    assert [balance_last_seen(known) for known in ([], [old], [new, old])] == [0, 900, 300]


def test_known_record_is_named_by_sixteen_bytes_of_its_hash() -> None:
    evening = Evening()
    assert evening.band.record is not None
    first = known_record(evening.band.record)
    evening.band.sell(evening.other, 300)
    assert evening.band.record is not None
    assert known_record(evening.band.record).parent == first.hash[:8]
    assert (len(first.hash), first.seq, first.balance, first.spent) == (16, 1, 5000, 0)


# -- Held --------------------------------------------------------------------------------------------------------------


def test_what_is_held_is_summed_and_what_does_not_count_is_said() -> None:
    evening = Evening()
    taps = [evening.band.sell(evening.lost, amount) for amount in (650, 200)]
    evening.lost.abort(taps[1].tap_id, taps[1].written)
    left = evening.left(held=range(4))
    assert left.held == (Sum(Operation.SALE, 2, 850),)
    assert left.not_counted == (Sum(Operation.SALE, 1, 200),)
    assert [(log.entries, log.known_entries, log.missing) for log in left.logs] == [(4, 4, 0)]
    (log,) = left.logs
    assert log.first_time_ms is not None and log.last_time_ms is not None
    assert log.last_time_ms - log.first_time_ms == 3000


def test_revoked_device_is_said_to_be_so_and_what_its_cut_names_is_missed() -> None:
    evening = Evening()
    for amount in (650, 200):
        evening.band.sell(evening.lost, amount)
    evening.band.sell(evening.other, 300)
    statement = VENUE.revocation(LOST, (evening.lost, 2))
    left = evening.left(held=(0, 1), statements=[statement])
    assert left.revoked == {LOST.certificate.serial}
    assert [(log.entries, log.missing) for log in left.logs] == [(2, 1)]
    assert amounts(left) == [(200, 0)]
    assert evening.left(held=(0, 1)).revoked == frozenset()


# -- Missing entries ---------------------------------------------------------------------------------------------------


def test_later_log_of_the_same_device_says_how_long_the_earlier_was_and_nobody_elses_does() -> None:
    evening = Evening()
    for amount in (650, 200, 100):
        evening.band.sell(evening.lost, amount)
    later = LogWriter(LOST, number=1, known=[evening.lost])
    liar = LogWriter(OTHER, number=1, known=[evening.lost])
    assert [log.missing for log in evening.left(liar, held=(0, 2)).logs] == [1], "the hole before seq 2, and no more"
    missing = {log.log_id: log.missing for log in evening.left(later, held=(0, 2)).logs}
    assert missing == {evening.lost.log_id: 2, later.log_id: 0}


def test_log_of_which_nothing_is_held_is_missed_whole() -> None:
    evening = Evening()
    gone = LogWriter(LOST, number=7)
    gone.abort(bytes(16), bytes(42))
    later = LogWriter(LOST, number=8, known=[gone])
    (log,) = [log for log in evening.left(later).logs if log.log_id == gone.log_id]
    assert (log.lane, log.entries, log.known_entries, log.missing_sales_minor) == (None, 0, 2, None)


def receipted(log: LogWriter, sum_minor: int, *, by: VenueDevice = SETTLEMENT, count: int | None = None) -> LogWriter:
    """A gateway's control log that holds a receipt about everything in `log`."""
    receipt = Receipt(
        log_id=log.log_id,
        head_seq=log.head_seq,
        head_id=log.head_id,
        count=log.head_seq + 1 if count is None else count,
        sum_minor=sum_minor,
        verified_up_to=log.head_seq + 1,
        set_aside_count=0,
        set_aside=(),
        store_epoch=bytes(16),
        certificate=by.certificate.der,
    )
    control = LogWriter(GATEWAY, Lane.CONTROL, number=1)
    control.append(Kind.RECEIPT, sign_receipt(by.sign, receipt))
    return control


def test_receipt_says_what_the_missing_sales_came_to() -> None:
    evening = Evening()
    for amount in (650, 200, 100):
        evening.band.sell(evening.lost, amount)
    (log,) = evening.left(receipted(evening.lost, 950), held=(0, 1)).logs
    assert (log.missing, log.missing_sales_minor) == (2, 300)
    (whole,) = evening.left(receipted(evening.lost, 950), held=range(4)).logs
    assert (whole.missing, whole.missing_sales_minor) == (0, None)
    (forked,) = evening.left(receipted(evening.lost, 950, count=9), held=(0, 1)).logs
    assert (forked.missing, forked.missing_sales_minor) == (2, None)


def test_receipt_that_no_trusted_settlement_service_signed_says_nothing() -> None:
    evening = Evening()
    for amount in (650, 200):
        evening.band.sell(evening.lost, amount)
    (log,) = evening.left(receipted(evening.lost, 850, by=OTHER), held=(0, 1)).logs
    assert log.missing == 0
    (log,) = evening.left(receipted(evening.lost, 850), held=(0, 1), statements=[VENUE.revocation(SETTLEMENT)]).logs
    assert log.missing == 0


# -- What nobody can know ----------------------------------------------------------------------------------------------


def test_bar_can_have_sold_unseen_no_more_than_wristbands_held_and_for_a_till_there_is_no_bound() -> None:
    evening = Evening()
    evening.band.sell(evening.other, 300)
    evening.band.sell(evening.lost, 4000)
    assert evening.left().unseen_sales_minor_max == 4700
    assert evening.left(of=TILL).unseen_sales_minor_max is None


def test_device_of_which_nothing_was_ever_heard_has_nothing() -> None:
    left = Evening().left(of=VENUE.device("never on", Role.READER))
    assert (left.devices, left.logs, left.held, left.shown, left.unseen_sales_minor_max) == ((), (), (), (), None)
