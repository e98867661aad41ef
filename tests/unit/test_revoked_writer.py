"""A wristband that a revoked reader wrote: taken where entries vouch for it, else unknown, and never an accusation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.core.currency import Currency
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.shell.device import Device, open_device
from mesh.shell.store import Durability, RunStore
from mesh.views.card_record import key_id, record_hash
from mesh.views.cards import CardStanding
from reader.app import EnrolledIdentity
from reader.card import Shown
from reader.ports import VenueTerms
from reader.risk import Decline, Order, Presented, Refusal, next_for
from reader.risk import Device as Asking
from reader.venue import VenueViews
from tests.factory import NO_DOCUMENT, LogWriter, Venue, Wristband
from tests.harness import runs_of

VENUE = Venue("Revoked writer")
BAR, GONE = VENUE.device("bar", Role.READER), VENUE.device("gone", Role.READER)
TILL = VENUE.device("till", Role.TILL)


class Counter:
    """Bar `bar` holds what a till issued, and what the reader that is gone sold: 6.50, then 7.00."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.venue = VenueViews(device.views, lambda log_id: log_id.hex())

    async def revoke(self, seq: int, number: int = 1) -> None:
        body = VENUE.revocation(GONE, (SOLD, seq), number=number)
        await self.device.append(Lane.CONTROL, Kind.REVOCATION, body)

    def standing(self, band: Wristband) -> CardStanding:
        record = band.record
        assert record is not None
        return self.venue.standing(band.card, record_hash(band.sealed), record.parent, bytes(16), record.reader)

    def sale(self, band: Wristband) -> object:
        """What becomes of a sale of 1.00."""
        record = band.record
        assert record is not None
        shown = Shown(record, band.sealed, idle=0, previous=None)
        terms = VenueTerms(band.event, bytes(16), Currency("EUR", 2), 5000, NO_DOCUMENT)
        presented = Presented(band.card, shown, self.standing(band))
        asking = Asking(EnrolledIdentity(self.device).roles, key_id(BAR.public_key))
        return next_for(Order(Operation.SALE, 100), presented, terms, asking, self.venue.name_of)


ISSUED, SOLD = LogWriter(TILL), LogWriter(GONE)
BAND = Wristband(VENUE, 1)
BAND.issue(ISSUED, 5000)
BAND.sell(SOLD, 650)
INSIDE = BAND.clone()
BAND.sell(SOLD, 700)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    directory = BAR.write_directory(tmp_path / "bar")
    store = RunStore(directory / "replica.db", Durability.PROCESS)
    with store.transaction():
        for log in (ISSUED, SOLD):
            store.add_log(log.log_id, log.entries[0])
            store.add_branch(log.log_id, 0, 0, bytes(32), parent=None, attached=True)
            for run in runs_of(log):
                store.append_run(run, 0, verified=True)
    store.close()
    async with open_device(directory, zone="north") as device:
        yield Counter(device)


@pytest.mark.proves("M7")
async def test_record_beyond_the_cut_is_unknown_and_counts_again_with_a_raised_cut(counter: Counter) -> None:
    assert not isinstance(counter.sale(BAND), Refusal)
    await counter.revoke(1)
    refusal = counter.sale(BAND)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Decline.UNVOUCHED
    assert "Nothing was charged" in refusal.staff
    assert "your money is safe" in refusal.attendee
    assert refusal.taps == ()
    await counter.revoke(2, number=2)
    assert not isinstance(counter.sale(BAND), Refusal)


@pytest.mark.proves("M7")
async def test_record_whose_tap_is_inside_the_cut_is_served_though_its_writer_is_revoked(counter: Counter) -> None:
    await counter.revoke(1)
    assert counter.standing(INSIDE).unvouched is None
    assert not isinstance(counter.sale(INSIDE), Refusal)


@pytest.mark.proves("M7")
async def test_balance_that_a_stolen_key_made_up_buys_nothing(counter: Counter) -> None:
    await counter.revoke(2)
    forged = BAND.clone()
    forged.tap(LogWriter(GONE, number=9), Operation.TOP_UP, 100_000)
    refusal = counter.sale(forged)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Decline.UNVOUCHED


@pytest.mark.proves("M7")
async def test_reader_that_hears_of_its_own_revocation_sells_nothing_more(counter: Counter) -> None:
    assert EnrolledIdentity(counter.device).roles == {Role.READER}
    await counter.device.append(Lane.CONTROL, Kind.REVOCATION, VENUE.revocation(BAR))
    refusal = counter.sale(INSIDE)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Decline.NOT_THIS_DEVICES_ROLE
