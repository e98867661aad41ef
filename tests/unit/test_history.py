"""What an operator reads about a lost disk: every kind of loss has its line, its amount, or says that it has none."""

from __future__ import annotations

from typing import Final

import pytest

from mesh.cli_history import history_lines
from mesh.core.currency import Currency
from mesh.core.kinds import Lane, Operation, Role
from mesh.shell.history import History
from mesh.views.card_gaps import Gap
from mesh.views.recovered import Hearsay, LogLeft, Place, Recovered, Shown, Sum
from tests.factory import Venue

pytestmark = pytest.mark.proves("B6")
VENUE: Final = Venue("History")
LOST: Final = VENUE.device("Bar B", Role.READER).certificate
MONEY, GONE, OTHERS = (bytes([digit]) * 16 for digit in (1, 2, 3))
CARD: Final = b"wristban"
EURO: Final = Currency("EUR", 2)
NOON_MS: Final = 1_780_000_000_000


def shown(first: int, last: int, spent: int | None, credited: int | None, *, given_up: bool = False) -> Shown:
    return Shown(CARD, Gap(first, last, spent, credited), LOST.serial, Place(OTHERS, 7), given_up)


def told(*, revoked: bool = False, bound: int | None = 4200, currency: Currency | None = EURO) -> str:
    recovered = Recovered(
        devices=(LOST,),
        revoked=frozenset({LOST.serial}) if revoked else frozenset(),
        logs=(
            LogLeft(MONEY, LOST.serial, Lane.MONEY, 5, 8, NOON_MS, NOON_MS + 60_000, 1250),
            LogLeft(GONE, LOST.serial, None, 0, 2, None, None, None),
        ),
        held=(Sum(Operation.TOP_UP, 1, 2000), Sum(Operation.SALE, 3, 1950)),
        not_counted=(Sum(Operation.SALE, 1, 650),),
        shown=(shown(4, 4, 800, 0), shown(9, 9, None, None)),
        together=(shown(5, 7, 900, 500),),
        perhaps=(shown(11, 12, 300, 0),),
        given_up=(shown(13, 13, 100, 0, given_up=True),),
        hearsay=(Hearsay(CARD, Place(OTHERS, 9)),),
        unseen_sales_minor_max=bound,
    )
    return "\n".join(history_lines(History("Bar B", recovered, currency, {OTHERS: "Bar A"}, [])))


def test_every_kind_of_loss_is_named_with_its_amount() -> None:
    text = told()
    for line in (
        f"'Bar B', fingerprint {LOST.fingerprint}\n",
        "money: 5 of 8 known entries, 2026-05-28 20:26 UTC to 2026-05-28 20:27 UTC by its clock",
        "by its clock; 3 MISSING, sales of EUR 12.50",
        "of a lane nobody knows: 0 of 2 known entries; 2 MISSING, amount unknown",
        "Held, nothing of it is lost: 1 x top-up (EUR 20.00), 3 x sale (EUR 19.50)",
        "not counted against wristbands: 1 x sale (EUR 6.50)",
        "Shown by wristbands only: 2 taps, spent EUR 8.00, credited EUR 0.00, and 1 of unknown amount",
        f"wristband {CARD.hex()}, write 4: spent EUR 8.00, read by 'Bar A' 03030303:7",
        "write 9: UNKNOWN AMOUNT, its records do not lie on one line",
        "the last of them its: 3 taps, spent EUR 9.00, credited EUR 5.00",
        "write 5 to 7: spent EUR 9.00, credited EUR 5.00",
        "perhaps its, before a record of another: 2 taps, spent EUR 3.00",
        "to be credited and not missed: 1 taps, spent EUR 1.00",
        "without a seal that proves it: 1 records; they count nothing",
        "Entries known to be missing: 5.",
        "count signed entries only",
        "CANNOT BE KNOWN. Sales at most EUR 42.00",
    ):
        assert line in text
    assert "REVOKED" not in text
    assert "whoever has its disk" not in text


def test_seals_of_a_revoked_device_come_with_a_warning() -> None:
    text = told(revoked=True)
    assert f"{LOST.fingerprint}, REVOKED" in text
    assert "a seal may also be from whoever has its disk" in text


def test_without_a_bound_or_a_currency_that_is_said() -> None:
    text = told(bound=None, currency=None)
    assert "Nothing bounds its amount: the device could raise balances" in text
    assert "spent 800 minor units" in text
