"""A currency and exact amounts in it: integers of the minor unit (cents), never floats (ISO 4217)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mesh.errors import LocalError
from mesh.limits import AMOUNT_MINOR_MAX

CURRENCY_EXPONENT_MAX: Final = 4
_CODE: Final = re.compile(r"[A-Z]{3}")
_AMOUNT: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,4}))?")
_EXPONENTS: Final = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}
"""ISO 4217 list one: the currencies whose minor unit is not a hundredth."""


class BadAmount(LocalError):
    """A currency or an amount was given that cannot be meant."""


@dataclass(frozen=True, slots=True)
class Currency:
    """An ISO 4217 code and its exponent: how many decimal digits the minor unit is below the major one."""

    code: str
    exponent: int

    def format(self, amount_minor: int) -> str:
        """Write an amount for people.

        >>> Currency("EUR", 2).format(-650)
        'EUR -6.50'
        """
        sign, digits = "-" if amount_minor < 0 else "", str(abs(amount_minor)).rjust(self.exponent + 1, "0")
        if self.exponent == 0:
            return f"{self.code} {sign}{digits}"
        return f"{self.code} {sign}{digits[: -self.exponent]}.{digits[-self.exponent :]}"

    def parse(self, text: str) -> int:
        """Read what a person typed, exactly, or raise :class:`BadAmount`.

        >>> Currency("EUR", 2).parse("6.5")
        650
        """
        match = _AMOUNT.fullmatch(text)
        if match is None or len(match[2] or "") > self.exponent:
            raise BadAmount(f"{text!r} is not an amount of {self.code}: write it like {self.format(1250)[4:]}")
        amount_minor = int(match[1] + (match[2] or "").ljust(self.exponent, "0"))
        if amount_minor > AMOUNT_MINOR_MAX:
            raise BadAmount(f"{text} is more than any amount allowed here, {self.format(AMOUNT_MINOR_MAX)}")
        return amount_minor


def currency_of(code: str) -> Currency:
    """The currency with its ISO 4217 exponent, or :class:`BadAmount` where `code` is not three capital letters.

    >>> currency_of("JPY")
    Currency(code='JPY', exponent=0)
    """
    if not is_currency_code(code):
        raise BadAmount(f"{code!r} is not a currency: give three capital letters (ISO 4217), for example EUR")
    return Currency(code, _EXPONENTS.get(code, 2))


def is_currency_code(code: str) -> bool:
    return _CODE.fullmatch(code) is not None
