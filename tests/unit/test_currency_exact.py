"""Amounts digit by digit: every exponent there is, and the edge between an amount and a typing error."""

from __future__ import annotations

import pytest

from mesh.core.currency import BadAmount, Currency, currency_of, is_currency_code
from mesh.limits import AMOUNT_MINOR_MAX


@pytest.mark.parametrize(
    ("exponent", "amount_minor", "text"),
    [
        (0, 0, "XTS 0"),
        (0, 7, "XTS 7"),
        (0, -7, "XTS -7"),
        (0, 1000, "XTS 1000"),
        (1, 5, "XTS 0.5"),
        (1, 15, "XTS 1.5"),
        (2, 0, "XTS 0.00"),
        (2, 1, "XTS 0.01"),
        (2, -1, "XTS -0.01"),
        (2, 10, "XTS 0.10"),
        (2, 99, "XTS 0.99"),
        (2, 100, "XTS 1.00"),
        (2, -100, "XTS -1.00"),
        (2, 123_456, "XTS 1234.56"),
        (3, 999, "XTS 0.999"),
        (3, 1000, "XTS 1.000"),
        (4, 1, "XTS 0.0001"),
        (4, 12_345, "XTS 1.2345"),
        (2, AMOUNT_MINOR_MAX, "XTS 21474836.47"),
    ],
)
def test_amount_is_written_with_every_digit_in_its_place(exponent: int, amount_minor: int, text: str) -> None:
    assert Currency("XTS", exponent).format(amount_minor) == text


@pytest.mark.parametrize(
    ("exponent", "text", "amount_minor"),
    [
        (0, "0", 0),
        (0, "650", 650),
        (2, "0", 0),
        (2, "6", 600),
        (2, "6.5", 650),
        (2, "6.50", 650),
        (2, "6.05", 605),
        (2, "0.01", 1),
        (2, "007.00", 700),
        (3, "6", 6000),
        (3, "6.5", 6500),
        (3, "6.005", 6005),
        (4, "0.0001", 1),
        (4, "1.2345", 12_345),
        (2, "21474836.47", AMOUNT_MINOR_MAX),
        (0, "002147483647", AMOUNT_MINOR_MAX),
    ],
)
def test_what_is_typed_is_read_as_that_many_of_the_minor_unit(exponent: int, text: str, amount_minor: int) -> None:
    assert Currency("XTS", exponent).parse(text) == amount_minor


@pytest.mark.parametrize(
    ("exponent", "text"),
    [
        (0, "1.0"),
        (0, "1.5"),
        (2, "1.000"),
        (2, "1.005"),
        (3, "1.0000"),
        (4, "1.00000"),
        (2, "1."),
        (2, ".5"),
        (2, ""),
        (2, "-1"),
        (2, "+1"),
        (2, "1,50"),
        (2, "1 000"),
        (2, "1.50 "),
        (2, "1\n"),
        (2, "EUR 1"),
        (2, "0x10"),
        (2, "1_000"),
        (0, "0002147483647"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused_with_an_example_of_this_currency(exponent: int, text: str) -> None:
    example = {0: "1250", 2: "12.50", 3: "1.250", 4: "0.1250"}[exponent]
    with pytest.raises(BadAmount, match="is not an amount of XTS") as refused:
        Currency("XTS", exponent).parse(text)
    assert str(refused.value) == f"{text!r} is not an amount of XTS: write it like {example}"


def test_one_cent_more_than_any_card_can_hold_is_refused_with_what_is_the_most() -> None:
    with pytest.raises(BadAmount, match=r"XTS 21474836\.47$"):
        Currency("XTS", 2).parse("21474836.48")
    with pytest.raises(BadAmount, match=r"XTS 2147483647$"):
        Currency("XTS", 0).parse("2147483648")


@pytest.mark.parametrize(
    ("code", "exponent"),
    [
        ("EUR", 2),
        ("GBP", 2),
        ("XTS", 2),
        ("JPY", 0),
        ("KRW", 0),
        ("XPF", 0),
        ("BIF", 0),
        ("BHD", 3),
        ("TND", 3),
        ("CLF", 4),
        ("UYW", 4),
    ],
)
def test_currency_has_its_exponent_of_iso_4217(code: str, exponent: int) -> None:
    assert currency_of(code) == Currency(code, exponent)
    assert is_currency_code(code) is True


@pytest.mark.parametrize("code", ["", "EU", "EURO", "eur", "Eur", "E1R", "EUR ", "EUR\n", "ÄUR", " EUR"])
def test_three_capital_letters_and_nothing_else_are_a_code(code: str) -> None:
    assert is_currency_code(code) is False
    with pytest.raises(BadAmount, match="three capital letters"):
        currency_of(code)
