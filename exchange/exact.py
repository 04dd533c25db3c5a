"""Decimals of files as integers of a unit: exactly, and within 64 bits."""

from __future__ import annotations

from decimal import Decimal

from exchange.core.limits import SAFE
from exchange.core.venue_ranges import decimal_text

_DIGITS_MOST = 80  # what has more is finer than any unit, or beyond all bounds


class NotExact(ValueError):
    """A value that is no integer of its unit within bounds; the predicate of a sentence."""


def exact(value: object, scale: int) -> int:
    """A number as an integer of 1/scale (a power of ten), at most 2^62. Raises `NotExact`."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise NotExact(f"must be a number, not {shown(value)}")
    number = Decimal(value)
    if not number.is_finite():
        raise NotExact(f"= {value}: is no finite number")
    most = decimal_text(SAFE, scale)
    # The exponent is looked at before anything is raised to it: it may be a million.
    if number and number.adjusted() > len(most):
        raise NotExact(f"= {shown(value)}: must be from -{most} to {most}")
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    power = exponent + len(str(scale)) - 1
    whole = rest = 0
    if number:
        if len(digits) > _DIGITS_MOST or power < -_DIGITS_MOST:
            rest = 1
        elif power < 0:
            whole, rest = divmod(int("".join(map(str, digits))), 10**-power)
        else:
            whole = int("".join(map(str, digits))) * 10**power
    if rest:
        raise NotExact(f"= {shown(value)}: finer than 1/{scale}")
    if whole > SAFE:
        raise NotExact(f"= {shown(value)}: must be from -{most} to {most}")
    return -whole if sign else whole


def shown(value: object) -> str:
    """A value as errors show it, shortened; an integer may have more digits than `str` gives."""
    text = str(Decimal(value)) if isinstance(value, int | Decimal) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
