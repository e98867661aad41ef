"""Whose tap id it is: money posts once per tap id of one device, and nobody displaces another device's sale with it."""

from __future__ import annotations

from itertools import permutations

import pytest

from mesh.core.chain import check_run, parse_genesis
from mesh.core.kinds import Operation, Role
from mesh.views.cards import CardsView
from tests.factory import LogWriter, Venue, Wristband


def view_of(venue: Venue, *logs: LogWriter) -> CardsView:
    view = CardsView()
    for log in logs:
        view.open_log(log.log_id, parse_genesis(log.entries[0], venue.root))
        view.fold(check_run(log.log_id, log.entries))
    return view


@pytest.mark.proves("M4", "S1.20")
def test_reader_that_signs_less_under_another_readers_tap_id_displaces_nothing() -> None:
    venue = Venue()
    till = LogWriter(venue.device("till", Role.TILL))
    honest = LogWriter(venue.device("bar A", Role.READER))
    band = Wristband(venue, 1)
    band.issue(till, 2000)
    before = band.clone()
    tap = band.sell(honest, 650)
    for number in range(20):  # whichever entry id happens to be the smaller one
        liar = LogWriter(venue.device(f"bar Z{number}", Role.READER))
        copy = before.clone()
        copy.tap(liar, Operation.SALE, 1, tap_id=tap.tap_id)
        for order in permutations((till, honest, liar)):
            view = view_of(venue, *order)
            account = view.account(band.card)
            assert account.balance_minor == 2000 - 650 - 1
            assert len(view.conflicts(band.card)) == 1, "two devices consumed one record: both are named"
