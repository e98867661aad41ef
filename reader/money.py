"""Amounts as people write them, and as the system holds them: integers in the currency's minor unit.

A balance shown wrong by a factor of ten is a complaint of the field, so the number of decimals comes from the
currency (ISO 4217) and never from habit.
"""

from __future__ import annotations

import re
from typing import Final

from mesh.errors import LocalError
from mesh.limits import AMOUNT_MINOR_MAX

_DECIMALS: Final = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""ISO 4217 currencies that do not have two decimals."""


class BadAmount(LocalError):
    """What was typed is not an amount of this currency; no money moved."""


def decimals(currency: str) -> int:
    """How many digits the currency has after the point."""
    return _DECIMALS.get(currency, 2)


def amount_text(minor: int, currency: str) -> str:
    """Write an amount for people.

    >>> amount_text(650, "EUR"), amount_text(650, "JPY"), amount_text(-5, "EUR")
    ('EUR 6.50', 'JPY 650', 'EUR -0.05')
    """
    digits = decimals(currency)
    sign = "-" if minor < 0 else ""
    whole, rest = divmod(abs(minor), 10**digits)
    fraction = f".{rest:0{digits}d}" if digits else ""
    return f"{currency} {sign}{whole}{fraction}"


def parse_amount(text: str, currency: str) -> int:
    """Read an amount as typed, in minor units, or raise :class:`BadAmount`; it must be more than nothing.

    >>> parse_amount("6.50", "EUR"), parse_amount("6,5", "EUR"), parse_amount("20", "EUR")
    (650, 650, 2000)
    """
    digits = decimals(currency)
    match = re.fullmatch(r"([0-9]{1,10})(?:[.,]([0-9]{1,3}))?", text.strip())
    if match is None or len(match[2] or "") > digits:
        example = amount_text(6_500 if digits == 3 else 650, currency).split()[1]
        raise BadAmount(f"'{text.strip()}' is no amount in {currency}: type it like {example}. Nothing was charged.")
    minor: int = int(match[1]) * 10**digits + int((match[2] or "").ljust(digits, "0") or "0")
    if not 0 < minor <= AMOUNT_MINOR_MAX:
        limit = amount_text(AMOUNT_MINOR_MAX, currency)
        raise BadAmount(f"the amount must be more than nothing and at most {limit}. Nothing was charged.")
    return minor
