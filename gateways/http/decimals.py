"""Decimal text to integers and back, exactly, without floats.

Reads   what a client sent: text, or the raw text of a JSON number.
Never   is lenient: no sign, blank, underscore, exponent, NaN or digit outside ASCII; `Decimal` and
        `int` would let all of them through.
"""

from __future__ import annotations

import re
from typing import Final

PLAIN: Final = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?", re.ASCII)
INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_SCIENTIFIC: Final = re.compile(r"(-?)([0-9])(?:\.([0-9]{1,17}))?[eE]([+-]?)([0-9]{1,2})", re.ASCII)


class BadDecimal(ValueError):
    """The text is no plain non-negative decimal."""


class TooPrecise(ValueError):
    """It has more decimals than the scale, and they aren't zeros."""


def scaled(text: str, scale: int) -> int:
    """Text as a whole number of 10^-scale units.

    raises      BadDecimal, TooPrecise
    """
    match = PLAIN.fullmatch(text)
    if match is None:
        raise BadDecimal(text)
    whole, fraction = match.groups()
    if fraction is None:
        return int(whole) * 10**scale
    if len(fraction) > scale:
        if fraction[scale:].strip("0"):
            raise TooPrecise(text)
        fraction = fraction[:scale]
    return int(whole + fraction.ljust(scale, "0"))


def plain_number(text: str) -> str:
    """The raw text of a JSON number without its exponent, which some encoders write: 1e-05.

    Whatever would need more than 40 digits stays as it is, and no parser takes it.
    """
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return text
    sign, whole, fraction, below, power = match.groups()
    digits = whole + (fraction or "")
    point = 1 + (-int(power) if below == "-" else int(power))
    if not -20 <= point <= 20:
        return text
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    padded = digits.ljust(point, "0")
    head = padded[:point].lstrip("0") or "0"
    return f"{sign}{head}.{padded[point:]}" if padded[point:] else f"{sign}{head}"


def fixed(value: int, scale: int) -> str:
    """10^-scale units as text with all its decimals."""
    if scale == 0:
        return str(value)
    if value < 0:
        return "-" + fixed(-value, scale)
    digits = str(value).rjust(scale + 1, "0")
    return f"{digits[:-scale]}.{digits[-scale:]}"


def rounded(numerator: int, denominator: int, scale: int) -> str:
    """A quotient as text, towards zero, with `scale` decimals; "0.00" when the denominator is 0."""
    if denominator == 0:
        return fixed(0, scale)
    negative = (numerator < 0) != (denominator < 0)
    value = abs(numerator) * 10**scale // abs(denominator)
    return fixed(-value if negative else value, scale)
