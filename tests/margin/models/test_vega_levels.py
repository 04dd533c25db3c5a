"""Vega's margin levels: published cases, the formula in fractions, and the laws of levels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.models.vega import (
    Exposure,
    Levels,
    LevelScaling,
    RiskFactors,
    capped_future_margin_minor,
    isolated_margin_minor,
    least_isolated_factor_ppb,
    margin_levels,
)
from tests.reference.reference_models import vega_levels

E8, E9 = 10**8, 10**9
COIN = 10**8
MARK_E8 = 15_900 * 100  # one contract is worth 15,900 minor units
FACTORS = RiskFactors(long_ppb=100_000_000, short_ppb=100_000_000, linear_slippage_ppb=250_000_000)
SCALING = LevelScaling()


def levels(exposure: Exposure, factors: RiskFactors = FACTORS) -> Levels:
    return margin_levels(exposure, MARK_E8, COIN, factors, SCALING)


def random_agreement(seed: int, rounds: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(rounds):
        position, buys, sells = (int(random.integers(0, 10**6)) for _ in range(3))
        position *= int(random.choice([-1, 0, 1]))
        lot = int(10 ** random.integers(3, 9))
        mark = int(10 ** random.uniform(4, 13))
        long, short, linear, quadratic = random.integers(0, E9, 4).tolist()
        factors = RiskFactors(long_ppb=long, short_ppb=short, linear_slippage_ppb=linear,
                              quadratic_slippage_ppb=quadratic)  # fmt: skip
        funding = int(random.integers(-(10**4), 10**4))
        scaling = LevelScaling(
            search_ppb=E9 + int(random.integers(0, E9)), initial_ppb=2 * E9, release_ppb=3 * E9 - 1
        )
        got = margin_levels(
            Exposure(position_lots=position, buy_lots=buys, sell_lots=sells,
                     funding_minor_per_lot=funding),
            mark, lot, factors, scaling,
        )  # fmt: skip
        coins = Fraction(lot, E8)
        expected = vega_levels(
            position * coins, Fraction(mark, 100), buys * coins, sells * coins,
            {"long": Fraction(factors.long_ppb, E9), "short": Fraction(factors.short_ppb, E9),
             "linear": Fraction(factors.linear_slippage_ppb, E9),
             "quadratic": Fraction(factors.quadratic_slippage_ppb, E9)},
            [Fraction(s, E9) for s in (scaling.search_ppb, scaling.initial_ppb,
                                       scaling.release_ppb)],
            Fraction(funding * E8, lot),
        )  # fmt: skip
        assert [got.maintenance_minor, got.search_minor, got.initial_minor,
                got.release_minor] == expected  # fmt: skip


def test_levels_are_the_formula_in_exact_fractions() -> None:
    random_agreement(1, 1_000)


@pytest.mark.long
def test_levels_are_the_formula_in_exact_fractions_for_long() -> None:
    random_agreement(2, 10_000)


def test_maintenance_is_rounded_up_and_the_levels_above_it_down() -> None:
    """Feature 0019-MCAL-032: one short contract at 15,900, risk 0.1 and slippage 0.25."""
    assert levels(Exposure(position_lots=-1)) == Levels(
        maintenance_minor=5_565, search_minor=6_121, initial_minor=6_678, release_minor=7_791
    )


def test_orders_need_their_risk_factor_but_no_slippage() -> None:
    """Feature 0019-MCAL-070: 10 short and 8 more offered."""
    offered = levels(Exposure(position_lots=-10, sell_lots=8))
    assert offered.maintenance_minor == 10 * 5_565 + 8 * 1_590 == 68_370


def test_the_riskier_side_counts() -> None:
    bid = Exposure(position_lots=-10, buy_lots=100)
    assert levels(bid).maintenance_minor == 100 * 1_590
    assert levels(Exposure(position_lots=-10, buy_lots=5)) == levels(Exposure(position_lots=-10))


def test_funding_owed_is_added_and_funding_due_is_not_deducted() -> None:
    owed = levels(Exposure(position_lots=2, funding_minor_per_lot=50))
    assert owed.maintenance_minor == 2 * 5_565 + 100
    assert levels(Exposure(position_lots=-2, funding_minor_per_lot=50)).maintenance_minor == 11_130


def test_quadratic_slippage_grows_with_the_square_of_the_position() -> None:
    steep = RiskFactors(long_ppb=0, short_ppb=0, quadratic_slippage_ppb=10_000_000)
    needs = [levels(Exposure(position_lots=q), steep).maintenance_minor for q in (1, 2, 10)]
    assert needs == [159, 636, 15_900]


def test_in_an_auction_orders_count_at_the_higher_of_their_limits_and_the_auction_price() -> None:
    bid = Exposure(position_lots=0, buy_lots=2, buy_limit_minor=40_000)
    indicative = [10_000 * 100, 30_000 * 100]
    needs = [
        margin_levels(bid, MARK_E8, COIN, FACTORS, SCALING, price).maintenance_minor
        for price in indicative
    ]
    assert needs == [4_000, 6_000]


def test_the_isolated_factor_must_be_above_the_risk_of_the_position() -> None:
    assert least_isolated_factor_ppb(FACTORS) == 350_000_000
    assert isolated_margin_minor(-3, MARK_E8, COIN, 500_000_000, FACTORS) == 23_850
    for factor in (350_000_000, E9 + 1):
        with pytest.raises(InvariantBroken, match="isolated factor"):
            isolated_margin_minor(1, MARK_E8, COIN, factor, FACTORS)


def test_a_capped_future_is_backed_by_all_it_can_lose() -> None:
    cap = 20_000 * 100
    assert capped_future_margin_minor(3, MARK_E8, cap, COIN) == 3 * 15_900
    assert capped_future_margin_minor(-3, MARK_E8, cap, COIN) == 3 * 4_100
    assert capped_future_margin_minor(0, MARK_E8, cap, COIN) == 0
    with pytest.raises(InvariantBroken, match=r"lies in 0 \.\. cap"):
        capped_future_margin_minor(1, cap + 1, cap, COIN)


@pytest.mark.parametrize(
    ("exposure", "mark", "factors", "message"),
    [
        (Exposure(position_lots=1, buy_lots=-1), 1, FACTORS, "negative orders"),
        (Exposure(position_lots=1), 0, FACTORS, "mark and lot"),
        (Exposure(position_lots=1), 1, RiskFactors(long_ppb=-1, short_ppb=0), "factors"),
    ],
)
def test_what_makes_no_sense_is_refused(
    exposure: Exposure, mark: int, factors: RiskFactors, message: str
) -> None:
    with pytest.raises(InvariantBroken, match=message):
        margin_levels(exposure, mark, COIN, factors, SCALING)


def test_levels_never_fall_as_a_position_or_its_orders_grow() -> None:
    def needs(**exposure: int) -> int:
        return levels(Exposure(**exposure)).maintenance_minor

    sizes = range(0, 60, 3)
    assert [needs(position_lots=q) for q in sizes] == sorted(needs(position_lots=q) for q in sizes)
    orders = [needs(position_lots=-5, sell_lots=q) for q in sizes]
    assert orders == sorted(orders)
    assert needs(position_lots=0) == 0
