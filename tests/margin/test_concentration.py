"""Size against a market: roots, impacts, and what an owner's pools share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from margin.add_ons.concentration import (
    LINEAR_SHARE,
    MOST_SIZE_MINOR,
    SQUARE_ROOT,
    floor_share,
    impact_minor,
    integer_root,
    owner_charges,
)
from margin.invariant import InvariantBroken
from tests.reference import reference_add_ons as twin
from tests.reference.reference_add_ons import column

USDC = 10**6
ADV = 1_000_000 * USDC
FREE = ADV // 20
SLOPE = 40_000_000  # 4 % a day
FORMS = (SQUARE_ROOT, LINEAR_SHARE)


def cost(size: int, form: int = SQUARE_ROOT, depth: int = ADV, slope: int = SLOPE) -> int:
    return int(impact_minor(form, size, depth, FREE, slope))


def charges(*delta: int, owners: list[int] | None = None, form: int = SQUARE_ROOT) -> list[int]:
    """Charges of pools in one risk unit; all of one owner unless said."""
    rows = column(list(delta)).reshape(-1, 1)
    owner_of = column(owners or [0] * len(delta))
    terms = column([ADV]), column([FREE]), column([SLOPE])
    return owner_charges(form, rows, owner_of, *terms).tolist()


def test_the_root_is_exact_around_every_square() -> None:
    random = np.random.default_rng(1)
    roots = [0, 1, 2, 3, 2**31 - 1, *random.integers(0, 2**31, 500).tolist()]
    for root in roots:
        for x in {max(0, root * root - 1), root * root, root * root + 1}:
            assert integer_root(x) == math.isqrt(x)
    assert integer_root(2**62 - 1) == math.isqrt(2**62 - 1)


def test_a_share_is_the_floor_of_a_product_wider_than_64_bits() -> None:
    random = np.random.default_rng(2)
    for _ in range(300):
        a, c = int(random.integers(0, 2**62)), int(random.integers(1, 2**61))
        for b in (0, c, int(random.integers(0, c + 1))):
            assert floor_share(a, b, c) == divmod(a * b, c)


@pytest.mark.parametrize("form", FORMS)
def test_impact_is_the_twin_s_to_the_minor_unit(form: int) -> None:
    random = np.random.default_rng(3)
    for _ in range(1_000):
        size, depth = (int(2 ** random.uniform(0, 59)) for _ in range(2))
        free = int(depth * random.choice([0, 0.05, 1]) * random.uniform())
        slope = int(random.integers(0, 2 * 10**9 + 1))
        expected = twin.impact(form, size, depth, free, slope)
        assert impact_minor(form, size, depth, free, slope) == expected
        assert 0 <= expected <= size


def test_the_square_root_law_holds_to_a_few_millionths() -> None:
    def law(size: int) -> float:
        return size * (SLOPE / 1e9) * math.sqrt(size / ADV)

    for size in (FREE * 2, ADV // 3, ADV, ADV * 7):
        exact = law(size) - law(FREE)
        assert exact * (1 - 5e-6) <= cost(size) <= exact * (1 + 5e-6) + 2


def test_the_linear_form_is_market_risk_times_the_share_of_the_market() -> None:
    # 16 % of range on a quarter of a day's volume, a fifth of it beyond the free part
    size = ADV // 4
    exact = size * 0.16 * (0.25 - 0.05)
    assert exact <= cost(size, LINEAR_SHARE, slope=160_000_000) <= exact * (1 + 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_impact_starts_at_nothing_and_rises_without_a_jump(form: int) -> None:
    assert cost(0, form) == cost(FREE, form) == 0
    sizes = sorted({FREE + step * step * USDC for step in range(0, 1_500, 7)})
    paid = [cost(size, form) for size in sizes]
    assert paid == sorted(paid)
    assert cost(FREE + USDC, form) < USDC // 10
    for size in (FREE + 10 * USDC, ADV, 5 * ADV):  # one dollar more costs cents more
        assert 0 <= cost(size + USDC, form) - cost(size, form) < USDC


@pytest.mark.parametrize("form", FORMS)
def test_impact_rises_with_risk_and_falls_with_volume(form: int) -> None:
    for size in (FREE + 1, ADV // 2, 3 * ADV):
        by_slope = [cost(size, form, slope=slope) for slope in range(0, 2 * 10**9, 10**8)]
        assert by_slope == sorted(by_slope)

        def by(volume: int, size: int = size) -> int:
            return int(impact_minor(form, size, volume, volume // 20, SLOPE))

        by_volume = [by(ADV * tenth // 10) for tenth in range(1, 80)]
        assert by_volume == sorted(by_volume, reverse=True)


def test_no_closing_costs_more_than_its_size_and_no_market_costs_all_of_it() -> None:
    assert cost(MOST_SIZE_MINOR, slope=2 * 10**9) == MOST_SIZE_MINOR
    assert impact_minor(SQUARE_ROOT, 77, 0, 0, SLOPE) == 77


@pytest.mark.parametrize("form", FORMS)
def test_dividing_a_position_among_an_owner_s_pools_does_not_lower_the_charge(form: int) -> None:
    random = np.random.default_rng(4)
    for _ in range(300):
        whole = int(random.integers(0, 10 * ADV))
        cuts = random.integers(-whole - 1, 2 * whole + 1, int(random.integers(1, 5))).tolist()
        parts = [*cuts, whole - sum(cuts)]
        divided = sum(charges(*parts, form=form))
        alone = charges(whole, form=form)[0]
        assert divided >= alone
        if min(parts) >= 0:
            assert divided == alone


def test_pools_of_one_side_share_its_charge_in_proportion() -> None:
    whole = charges(ADV)[0]
    shares = charges(ADV // 2, 0, ADV // 4, ADV // 4)
    assert sum(shares) == whole
    assert shares[1] == 0
    assert abs(shares[0] - whole / 2) < 1
    assert abs(shares[2] - whole / 4) < 1


def test_the_two_sides_of_an_owner_stand_apart() -> None:
    assert charges(ADV, -ADV // 2) == [charges(ADV)[0], charges(-ADV // 2)[0]]


def test_owners_do_not_pay_for_each_other() -> None:
    both = charges(ADV, ADV, owners=[1, 0])
    assert both == [charges(ADV)[0]] * 2
    assert sum(charges(ADV, ADV)) > sum(both)


def test_constants_out_of_range_stop_the_engine() -> None:
    one = column([1])
    for wrong in (
        (7, one, one),
        (SQUARE_ROOT, one, column([3 * 10**9])),
        (SQUARE_ROOT, one * 0, one),
        (SQUARE_ROOT, column([-1]), one),
    ):
        with pytest.raises(InvariantBroken):
            owner_charges(wrong[0], one.reshape(1, 1), one * 0, wrong[1], one, wrong[2])
    with pytest.raises(OverflowError, match="2\\^59"):
        charges(2**59, 2**59)
