"""The funding provision of perpetuals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from margin.add_ons.funding import funding_per_lot
from margin.invariant import InvariantBroken
from margin.portfolio import INVERSE, LINEAR, NEVER_NS, Instruments, Marks
from tests.reference.reference_add_ons import EXPONENTS, column, random_market

# A linear perpetual of 0.001 coin, an inverse one of 10 USD, a future; index and marks at 50,000.
INSTRUMENTS = Instruments(
    column([LINEAR, INVERSE, LINEAR]), column([0, 0, 0]), column([NEVER_NS, NEVER_NS, 10**18]),
    column([0, 0, 0]), column([10**5, 10 * 10**8, 10**5]), column([-1, -1, -1]),
)  # fmt: skip
PRICE = 50_000 * 10**8
MARKS = Marks(0, column([PRICE]), column([PRICE] * 3), *(column([0] * 3) for _ in range(3)))


def per_lot(rate_e9: int, hours: int = 8) -> list[int]:
    return funding_per_lot(INSTRUMENTS, MARKS, column([rate_e9] * 3), hours, column([0])).tolist()


def test_longs_provide_at_a_positive_rate_and_shorts_at_a_negative_one() -> None:
    assert per_lot(100_000) == [5_000, 1_000, 0]  # 0.01 % of 50 USD and of 10 USD
    assert per_lot(-100_000) == [-5_000, -1_000, 0]
    assert per_lot(0) == [0, 0, 0]


def test_the_provision_grows_with_the_horizon() -> None:
    assert per_lot(100_000, hours=24) == [15_000, 3_000, 0]
    assert per_lot(100_000, hours=0) == [0, 0, 0]


def test_it_is_exact_and_rounded_away_from_zero() -> None:
    market = random_market(3)
    instruments, marks = market.instruments, market.marks
    rates = market.conditions.funding_rate_e9
    found = funding_per_lot(instruments, marks, rates, 5, column(list(EXPONENTS)))
    for i in np.flatnonzero(~instruments.is_option()).tolist():
        unit = int(instruments.unit[i])
        if int(instruments.expiry_ns[i]) != NEVER_NS:
            assert found[i] == 0
            continue
        coins = Fraction(int(instruments.lot_e8[i]), 10**8)
        if int(instruments.kind[i]) == INVERSE:
            coins /= Fraction(int(marks.mark_e8[i]), 10**8)
        usd = coins * Fraction(int(marks.index_e8[unit]), 10**8)
        exact = usd * Fraction(int(rates[i]), 10**9) * Fraction(5, 8) * 10**6 * 2 ** EXPONENTS[unit]
        assert abs(exact) <= abs(int(found[i])) < abs(exact) + 1
        assert (found[i] > 0) == (rates[i] > 0)


def test_a_rate_of_more_than_all_stops_the_engine() -> None:
    with pytest.raises(InvariantBroken, match="100 %"):
        per_lot(600_000_000, hours=24)
