"""Open-interest-scaled margin and the cross margin of perpetuals, one position at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.models.open_interest import (
    PPM,
    LiquidityTier,
    initial_fraction_ppm,
    maintenance_fraction_ppm,
    open_interest_margin_minor,
)
from margin.models.paradex_cross import CrossMargin, cross_margin_minor
from tests.reference.reference_models import open_interest_fraction_ppm

CROWDED = LiquidityTier(base_ppm=200_000, lower_cap_minor=10**12, upper_cap_minor=2 * 10**12)


def test_published_margins_come_out() -> None:
    """dydxprotocol/v4-chain, liquidity_tier_test.go."""
    plain = LiquidityTier(base_ppm=567_243)
    assert open_interest_margin_minor(123_456, plain, 0)[0] == 70_030
    assert open_interest_margin_minor(500_000, CROWDED, 1_500_000_000_000)[0] == 300_000


def test_the_fraction_rises_in_a_straight_line_between_the_caps() -> None:
    interest = [0, 10**12, 10**12 + 1, 125 * 10**10, 2 * 10**12, 10**15]
    fractions = [initial_fraction_ppm(CROWDED, held) for held in interest]
    assert fractions == [200_000, 200_000, 200_000, 400_000, PPM, PPM]


def test_crowding_does_not_touch_maintenance() -> None:
    assert maintenance_fraction_ppm(CROWDED) == 100_000
    margins = [open_interest_margin_minor(-(10**6), CROWDED, oi)[1] for oi in (0, 10**15)]
    assert margins == [100_000, 100_000]


def random_agreement(seed: int, rounds: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(rounds):
        base, part, notional = (int(random.integers(0, top)) for top in (PPM, PPM, 10**15))
        lower = int(random.integers(0, 10**13)) * int(random.integers(0, 2))
        upper = lower + int(random.integers(0, 10**13)) * int(random.integers(0, 2))
        interest = int(random.integers(0, 3 * 10**13))
        tier = LiquidityTier(base_ppm=base, maintenance_of_base_ppm=part, lower_cap_minor=lower,
                             upper_cap_minor=upper)  # fmt: skip
        fraction = open_interest_fraction_ppm(Fraction(base, PPM), lower, upper, interest)
        assert initial_fraction_ppm(tier, interest) == fraction
        assert open_interest_margin_minor(notional, tier, interest) == (
            math.ceil(Fraction(notional * fraction, PPM)),
            math.ceil(Fraction(notional * math.floor(Fraction(base * part, PPM)), PPM)),
        )


def test_margins_are_the_formula_in_exact_fractions() -> None:
    random_agreement(1, 1_000)


@pytest.mark.long
def test_margins_are_the_formula_in_exact_fractions_for_long() -> None:
    random_agreement(2, 10_000)


def test_margin_never_falls_as_size_or_open_interest_grows() -> None:
    sizes = [open_interest_margin_minor(q, CROWDED, 14 * 10**11)[0] for q in range(0, 500, 7)]
    interest = [open_interest_margin_minor(10**9, CROWDED, oi)[0]
                for oi in range(0, 3 * 10**12, 10**11)]  # fmt: skip
    assert sizes == sorted(sizes)
    assert interest == sorted(interest)
    assert len(set(interest)) > 5


@pytest.mark.parametrize(
    "wrong",
    [{"base_ppm": PPM + 1}, {"base_ppm": 1, "maintenance_of_base_ppm": -1},
     {"base_ppm": 1, "lower_cap_minor": 5, "upper_cap_minor": 4}],
)  # fmt: skip
def test_a_tier_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"ppm|cap"):
        LiquidityTier(**wrong)


def test_cross_margin_is_a_part_of_value_and_maintenance_a_part_of_that() -> None:
    """paradex-py, test_xm_perp_short: 0.0005 BTC short at 77,888.84."""
    model = CrossMargin(imf_base_ppb=20_000_000, mmf_factor_ppb=500_000_000)
    needs = cross_margin_minor(-5, 7_788_884_000_000, 10_000, model)
    assert needs == (778_889, 389_445)


def cross_agreement(seed: int, rounds: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(rounds):
        quantity = int(random.integers(-(10**9), 10**9))
        mark, lot = int(10 ** random.uniform(2, 13)), int(10 ** random.uniform(0, 10))
        base, part = (int(random.integers(0, 10**9 + 1)) for _ in range(2))
        initial = Fraction(abs(quantity) * lot * mark * base, 10**19)
        got = cross_margin_minor(
            quantity, mark, lot, CrossMargin(imf_base_ppb=base, mmf_factor_ppb=part)
        )
        assert got == (math.ceil(initial), math.ceil(initial * Fraction(part, 10**9)))


def test_cross_margins_are_the_formula_in_exact_fractions() -> None:
    cross_agreement(3, 1_000)


@pytest.mark.long
def test_cross_margins_are_the_formula_in_exact_fractions_for_long() -> None:
    cross_agreement(4, 10_000)


def test_cross_margin_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"0 \.\. 1"):
        CrossMargin(imf_base_ppb=10**9 + 1, mmf_factor_ppb=0)
    with pytest.raises(InvariantBroken, match="must be positive"):
        cross_margin_minor(1, 0, 1, CrossMargin(imf_base_ppb=1, mmf_factor_ppb=1))
