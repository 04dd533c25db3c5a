"""Static discounts, skews, basis and averaging, each in an example worked by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.pools.requirement import pool_requirements, risk_table, unit_profits
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    LINEAR,
    LINEAR_CALL,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
)
from margin.presets import load_preset
from margin.presets.preset import NamedRate, Preset
from margin.scenarios.grid import scenario_matrix, scenarios_of
from margin.valuation import option_marks, option_values
from tests.reference.random_portfolios import column

DAY_NS = 86_400 * 10**9
YEAR_NS = 365 * DAY_NS
USDC = 10**6
PS_1 = load_preset("ps-1")
UNMOVED = 13  # spot where it is, volatility unchanged

Held = tuple[int, int, int, int]
"""Kind, expiry, strike in dollars, whole coins held."""


def _pool(
    held: list[Held], now_ns: int = 0, volatility_e9: int = 0, preset: Preset = PS_1
) -> tuple[int, list[int]]:
    """Worst loss, and profit in every candidate, of positions on BTC at 100,000."""
    strikes = sorted({(row[1], row[2]) for row in held})
    instruments = Instruments(
        kind=column([row[0] for row in held]),
        unit=column([0] * len(held)),
        expiry_ns=column([row[1] for row in held]),
        strike_e8=column([row[2] * 10**8 for row in held]),
        lot_e8=column([10**8] * len(held)),
        strike_group=column([strikes.index((row[1], row[2])) if row[2] else -1 for row in held]),
    )
    instruments.validate(1)
    price = column([100_000 * 10**8] * len(held))
    zero = column([0] * len(held))
    marks = Marks(now_ns, price[:1], price, price, zero + volatility_e9, zero)
    scenarios = [scenarios_of(preset, "BTC")]
    table = risk_table(
        preset, instruments, scenario_matrix(preset, scenarios, instruments, marks, column([4]))
    )
    rows = np.arange(len(held), dtype=np.int64)
    lots = column([row[3] for row in held])
    positions = Positions(column([0, len(held)]), rows, lots, np.zeros((1, 1), np.int64))
    positions.validate(instruments)
    worst = int(pool_requirements(table, positions).worst_minor[0])
    profits = unit_profits(table, rows, lots, column([0]))[0]
    assert worst == -(min(0, int(profits.min())) // 16)
    return worst, [int(profit) // 16 for profit in profits]


def test_a_discount_acts_on_the_net_value_of_an_expiry() -> None:
    """At expiry a positive net value counts 95 %: of 5,000, not of each leg."""
    expiry = 1
    legs = [(LINEAR_CALL, expiry, 90_000, 1), (LINEAR_CALL, expiry, 95_000, -1)]
    _, profits = _pool(legs, now_ns=expiry)
    assert profits[UNMOVED] == -250 * USDC
    _, alone = _pool(legs[:1], now_ns=expiry)
    assert alone[UNMOVED] == -500 * USDC
    # a negative net value is not raised: the discount factor of an expired option is 1
    _, short = _pool([(LINEAR_CALL, expiry, 90_000, -1)], now_ns=expiry)
    assert short[UNMOVED] == 0
    # in another expiry the short leg does not lower the value that is discounted
    later = [legs[0], (LINEAR_CALL, expiry + 1, 95_000, -1)]
    _, apart = _pool(later, now_ns=expiry + 1)
    assert apart[UNMOVED] == -500 * USDC


def test_the_short_factor_grows_with_time_up_to_the_discount() -> None:
    """A year out at rate 0 the cap min(1 / D, ...) is 1; the long factor is .95 exp(-.08)."""
    deep = [(LINEAR_CALL, YEAR_NS, 1, 1)]
    _, profits = _pool(deep)
    assert profits[UNMOVED] == pytest.approx(99_999 * USDC * (0.95 * np.exp(-0.08) - 1), rel=1e-9)
    _, short = _pool([(LINEAR_CALL, YEAR_NS, 1, -1)])
    assert short[UNMOVED] == 0


def test_the_basis_candidate_does_not_net_expiries() -> None:
    """Long 73 days, short 365: no scenario loses, the basis 4.5 % x ((.5 + .4) + (.5 + 2))."""
    spread = [(LINEAR, 73 * DAY_NS, 0, 1), (LINEAR, YEAR_NS, 0, -1)]
    worst, profits = _pool(spread)
    assert max(abs(profit) for profit in profits[:-1]) == 0
    assert worst == -profits[-1] == 4_500 * USDC * 34 // 10
    # one expiry nets, and a perpetual has no basis of its own
    assert _pool([(LINEAR, YEAR_NS, 0, 1), (LINEAR, YEAR_NS, 0, -1)])[0] == 0
    assert _pool([(LINEAR, YEAR_NS, 0, 1), (LINEAR, NEVER_NS, 0, -1)])[0] == 4_500 * USDC * 25 // 10


def test_a_skew_counts_against_either_side_and_nets_no_expiries() -> None:
    plain = msgspec.structs.replace(PS_1, discount=None, basis=None)
    near, far = (LINEAR_CALL, 30 * DAY_NS, 130_000), (LINEAR_CALL, 60 * DAY_NS, 130_000)
    long = _pool([(*near, 1)], volatility_e9=6 * 10**8, preset=plain)[1][35:]
    short = _pool([(*near, -1)], volatility_e9=6 * 10**8, preset=plain)[1][35:]
    other = _pool([(*far, -1)], volatility_e9=6 * 10**8, preset=plain)[1][35:]
    both = _pool([(*near, 1), (*far, -1)], volatility_e9=6 * 10**8, preset=plain)[1][35:]
    assert len(long) == 2
    assert all(profit < -50 * USDC for profit in long)
    assert [abs(a - b) <= 1 for a, b in zip(long, short, strict=True)] == [True, True]
    assert [abs(a + b - c) <= 2 for a, b, c in zip(long, other, both, strict=True)] == [True] * 2


def test_in_the_averaging_window_only_the_open_part_moves() -> None:
    """Ten of thirty minutes left: a third of 16 %."""
    now = DAY_NS - 600 * 10**9
    worst, _ = _pool([(LINEAR, DAY_NS, 0, 3)], now_ns=now)
    assert worst == 16_000 * USDC
    assert _pool([(LINEAR, DAY_NS, 0, 3)], now_ns=0)[0] == 48_000 * USDC


def test_coin_won_or_lost_late_in_the_window_is_worth_the_spot_of_the_scenario() -> None:
    """A tenth of 20 % open, the coin 20 % away: 2,000 x 1.2 / 1.02 up, 2,000 x 0.8 / 0.98 down."""
    moves = msgspec.structs.replace(
        PS_1,
        spot_range=(NamedRate(name="default", rate_e9=200_000_000),),
        tails=None,
        skew=None,
        discount=None,
        basis=None,
    )
    now = DAY_NS - 180 * 10**9
    short = _pool([(INVERSE, DAY_NS, 0, -100_000)], now_ns=now, preset=moves)[0]
    assert short == pytest.approx(2_000 * USDC * 1.2 / 1.02, rel=3e-6)
    long = _pool([(INVERSE, DAY_NS, 0, 100_000)], now_ns=now, preset=moves)[0]
    assert long == pytest.approx(2_000 * USDC * 0.8 / 0.98, rel=3e-6)
    # a call far in the money is the coin less its strike, here 50,000 dollars of the day
    call = _pool([(INVERSE_CALL, DAY_NS, 50_000, -1)], now_ns=now, preset=moves)[0]
    assert call == pytest.approx((52_000 * 1.2 / 1.02 - 50_000) * USDC, rel=3e-6)


def test_an_inverse_option_moves_like_the_linear_one_and_is_worth_coin() -> None:
    linear = _pool([(LINEAR_CALL, DAY_NS, 90_000, 2)], volatility_e9=5 * 10**8)
    inverse = _pool([(INVERSE_CALL, DAY_NS, 90_000, 2)], volatility_e9=5 * 10**8)
    assert linear == inverse
    instruments = Instruments(
        *(column([x]) for x in (INVERSE_CALL, 0, DAY_NS, 90_000 * 10**8, 10**7, 0))
    )
    price = column([100_000 * 10**8])
    marks = Marks(DAY_NS, price, price * 0, price, price * 0, price * 0)
    premium = option_marks(instruments, marks)
    assert premium.tolist() == [10**7]  # (100,000 - 90,000) / 100,000 coin a coin
    marks = msgspec.structs.replace(marks, mark_e8=premium)
    held = Positions(column([0, 1]), column([0]), column([-3]), np.zeros((1, 1), np.int64))
    assert option_values(instruments, marks, held).tolist() == [[0, -3 * 10**6]]
