"""Amounts people type and read are exact, in every currency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.currency import BadAmount, Currency, currency_of
from mesh.limits import AMOUNT_MINOR_MAX


@given(st.integers(0, AMOUNT_MINOR_MAX), st.integers(0, 4))
def test_amount_written_for_people_is_read_back_exactly(amount_minor: int, exponent: int) -> None:
    currency = Currency("XTS", exponent)
    assert currency.parse(currency.format(amount_minor).removeprefix("XTS ")) == amount_minor


@pytest.mark.parametrize(
    ("code", "amount_minor", "text"),
    [
        ("EUR", 650, "EUR 6.50"),
        ("EUR", -5, "EUR -0.05"),
        ("JPY", 650, "JPY 650"),
        ("KWD", 650, "KWD 0.650"),
    ],
)
def test_amount_is_never_wrong_by_a_factor_of_ten(code: str, amount_minor: int, text: str) -> None:
    assert currency_of(code).format(amount_minor) == text


@pytest.mark.parametrize("text", ["", ".5", "5.", "1,50", "-1", "1.005", "1e3", " 1", "٣", "99999999999"])
def test_text_that_is_not_exactly_an_amount_is_refused(text: str) -> None:
    with pytest.raises(BadAmount):
        currency_of("EUR").parse(text)


@pytest.mark.parametrize("code", ["eur", "EURO", "E1R", ""])
def test_code_that_is_no_currency_is_refused(code: str) -> None:
    with pytest.raises(BadAmount):
        currency_of(code)
