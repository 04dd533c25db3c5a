"""Worked examples of slices, prices and partial plans; dYdX v4's numbers where it has them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from margin.default.liquidation import (
    ContractForm,
    LiquidationTerms,
    Position,
    RequirementOf,
    allot_equity,
    closing_loss_minor,
    fillable_spread_minor,
    liquidation_order,
    maintenance_released,
    plan_slice,
    price_at_loss,
    rank_slices,
    share_pro_rata,
    slice_prices,
)
from margin.invariant import InvariantBroken

USDC = 1_000_000
E8 = 100_000_000
NO_FEES = LiquidationTerms(liquidation_fee_ppb=0)


def future(instrument: int, lots: int, price: int, tick: int = 1) -> Position:
    """A linear future of 0.001 coin a lot: a dollar of price is 1,000 minor units a lot."""
    notional = abs(lots) * price * 1000
    return Position(
        instrument, lots, ContractForm.LINEAR, price * E8, tick * E8, 1, E8 // 1000, notional
    )


def flat_rate(per_lot_minor: Sequence[int]) -> RequirementOf:
    """So much maintenance a lot, nothing offset."""
    return lambda lots: sum(abs(q) * rate for q, rate in zip(lots, per_lot_minor, strict=True))


# --- which slices, and what they release ---------------------------------------------------------


def test_the_slice_that_releases_most_goes_first() -> None:
    positions = [future(3, 10, 100), future(1, 10, 100), future(2, -10, 100)]
    assert liquidation_order(positions, flat_rate([5, 9, 7])) == [1, 2, 0]


def test_equal_slices_go_by_instrument() -> None:
    positions = [future(3, 10, 100), future(1, 10, 100), future(2, 10, 100)]
    assert liquidation_order(positions, flat_rate([5, 5, 5])) == [1, 2, 0]


def test_the_second_leg_of_a_hedge_follows_its_first() -> None:
    # Two hedged pairs (0, 1) and (2, 3). Closing any one leg makes things worse at first.
    def maintenance(lots: Sequence[int]) -> int:
        return 100 * abs(lots[0] + lots[1]) + 90 * abs(lots[2] + lots[3]) + sum(map(abs, lots))

    positions = [future(i, q, 100) for i, q in enumerate((5, -5, 5, -5))]
    assert liquidation_order(positions, maintenance) == [2, 3, 0, 1]


def test_a_leg_that_raises_maintenance_releases_nothing_and_the_sum_still_fits() -> None:
    requirement = {(5, -5): 100, (0, -5): 160, (5, 0): 170, (0, 0): 0}
    positions = [future(0, 5, 100), future(1, -5, 100)]
    order = liquidation_order(positions, lambda lots: requirement[tuple(lots)])
    released = maintenance_released(positions, order, lambda lots: requirement[tuple(lots)])
    assert (order, released) == ([0, 1], [0, 100])


def test_what_stays_without_positions_goes_to_the_last_slice() -> None:
    def with_coins(lots: Sequence[int]) -> int:
        return 7 + flat_rate([5, 9])(lots)

    positions = [future(0, 10, 100), future(1, 10, 100)]
    assert maintenance_released(positions, [1, 0], with_coins) == [90, 57]


def test_a_doubled_instrument_or_an_empty_position_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        liquidation_order([future(1, 10, 100), future(1, 5, 100)], flat_rate([1, 1]))
    with pytest.raises(InvariantBroken):
        liquidation_order([future(1, 0, 100)], flat_rate([1]))


def test_a_ranking_is_kept_after_sixteen_closings() -> None:
    calls = 0

    def maintenance(lots: Sequence[int]) -> int:
        nonlocal calls
        calls += 1
        return sum(abs(q) for q in lots)

    positions = [future(i, 1 + i % 7, 100) for i in range(60)]
    assert sorted(liquidation_order(positions, maintenance)) == list(range(60))
    assert calls == sum(60 - closed for closed in range(16))


# --- shares ------------------------------------------------------------------------------------


def test_equity_and_deficit_are_allotted_by_released_maintenance_to_the_unit() -> None:
    assert allot_equity(10, [1, 1, 1], [0, 0, 0]) == [4, 3, 3]
    assert allot_equity(-10, [1, 1, 1], [0, 0, 0]) == [-4, -3, -3]


def test_without_released_maintenance_notional_decides_then_the_last_slice() -> None:
    assert allot_equity(10, [0, 0], [300, 100]) == [8, 2]
    assert allot_equity(10, [0, 0], [0, 0]) == [0, 10]


def test_vega_gives_the_rest_to_the_last_winner() -> None:
    winners = [80, 2000, 6000]
    assert share_pro_rata(2580, winners, rest_to_last=True) == [25, 638, 1917]


def test_an_amount_without_anybody_to_share_it_is_refused() -> None:
    assert share_pro_rata(0, []) == []
    with pytest.raises(InvariantBroken):
        share_pro_rata(1, [0, 0])


# --- prices, with dYdX's worked figures -----------------------------------------------------------


def test_dydx_two_positions_bankruptcy_and_fillable_value() -> None:
    # -490 USDC, 0.004 BTC at 50,000, 0.1 ETH at 3,000, maintenance 10 %: equity 10, maintenance 50.
    # ETH: bankruptcy proceeds 300 - 10 x 30/50 = 294; with SMMR 0.1, 300 - 0.8 x 0.1 x 30 = 297.6.
    terms = LiquidationTerms(spread_to_maintenance_ppb=100_000_000)
    assert allot_equity(10 * USDC, [30 * USDC, 20 * USDC], [0, 0])[0] == 6 * USDC
    assert fillable_spread_minor(10 * USDC, 50 * USDC, 30 * USDC, terms) == 2_400_000
    prices = slice_prices(future(0, 100, 3000), 6 * USDC, 2_400_000)
    assert (prices.fillable_ticks, prices.bankruptcy_ticks) == (2976, 2940)


def test_dydx_short_is_bought_back_above_the_mark() -> None:
    # 110 USDC, 0.004 BTC, -0.1 ETH: equity 10; buying ETH back costs 300 + 6 at bankruptcy.
    prices = slice_prices(future(0, -100, 3000), 6 * USDC, 2_400_000)
    assert (prices.mark_ticks, prices.fillable_ticks, prices.bankruptcy_ticks) == (3000, 3024, 3060)


def test_dydx_bankruptcy_adjustment_of_two() -> None:
    terms = LiquidationTerms(
        bankruptcy_adjustment_ppb=2_000_000_000, spread_to_maintenance_ppb=100_000_000
    )
    spread = fillable_spread_minor(499 * USDC, 500 * USDC, 500 * USDC, terms)
    assert spread == 200_000
    assert slice_prices(future(0, 100, 50_000), 499 * USDC, spread).fillable_ticks == 49_998


def test_defaults_offer_half_the_released_maintenance_at_two_thirds() -> None:
    # BA 1, SMMR 1.5, equity 200 of 300: (1 - 2/3) x 1.5 = half of the 150 that the slice releases.
    spread = fillable_spread_minor(200 * USDC, 300 * USDC, 150 * USDC, LiquidationTerms())
    assert spread == 75 * USDC
    # 0.1 coin: 75 USDC is 750 a coin, and the share of 100 USDC is 1,000 a coin.
    prices = slice_prices(future(0, 100, 30_000), 100 * USDC, spread)
    assert (prices.fillable_ticks, prices.bankruptcy_ticks) == (29_250, 29_000)


def test_the_spread_is_clamped_between_nothing_and_all() -> None:
    terms = LiquidationTerms()
    assert fillable_spread_minor(400, 300, 100, terms) == 0
    assert fillable_spread_minor(-900, 300, 100, terms) == 150
    assert fillable_spread_minor(5, 0, 0, terms) == 0


def test_the_fillable_price_stops_at_the_bankruptcy_price() -> None:
    prices = slice_prices(future(0, 100, 30_000), 10 * USDC, 75 * USDC)
    assert prices.fillable_ticks == prices.bankruptcy_ticks == 29_900


def test_a_deficit_moves_the_bankruptcy_price_past_the_mark_and_leaves_fillable_there() -> None:
    prices = slice_prices(future(0, 100, 30_000), -10 * USDC, 75 * USDC)
    assert (prices.fillable_ticks, prices.bankruptcy_ticks) == (30_000, 30_100)


def test_prices_are_rounded_in_the_pools_favour() -> None:
    # 1 USDC over 0.1 coin is 10 dollars; ticks of 7 do not hit 29,990.
    assert price_at_loss(future(0, 100, 30_000, tick=7), USDC) * 7 == 29_995
    assert price_at_loss(future(0, -100, 30_000, tick=7), USDC) * 7 == 30_009


def test_an_option_is_never_priced_below_zero_and_the_rest_is_booked() -> None:
    # Short 100 lots worth 2 dollars x 1,000 = 0.2 USDC in all, with a deficit of 1 USDC: bought
    # back for nothing it recovers 0.2, and 0.8 is left for the fund.
    short = Position(0, -100, ContractForm.OPTION, 2 * E8, E8, 1, E8 // 1000, 0)
    prices = slice_prices(short, -USDC, 0)
    assert (prices.bankruptcy_ticks, prices.uncovered_minor) == (0, 800_000)


def test_a_worthless_long_option_is_sold_for_nothing() -> None:
    long = Position(0, 100, ContractForm.OPTION, 0, E8, 1, E8 // 1000, 0)
    prices = slice_prices(long, USDC, USDC)
    assert (prices.mark_ticks, prices.fillable_ticks, prices.bankruptcy_ticks) == (0, 0, 0)
    assert prices.uncovered_minor == 0


def inverse(lots: int) -> Position:
    """Ten dollars a lot at a mark of 20,000: 10 USDC / 20,000 for a dollar of price."""
    return Position(
        0, lots, ContractForm.INVERSE, 20_000 * E8, E8, 10 * USDC, 20_000 * E8, abs(lots) * 10**7
    )


def test_an_inverse_long_loses_more_coin_the_lower_it_is_sold() -> None:
    # 1,000 lots, 10,000 USD: sold at 16,000 it loses 10,000 x (20/16 - 1) = 2,500 USDC.
    assert closing_loss_minor(inverse(1000), 1000, 16_000) == 2500 * USDC
    assert price_at_loss(inverse(1000), 2500 * USDC) == 16_000


def test_an_inverse_short_cannot_lose_more_than_its_notional() -> None:
    assert closing_loss_minor(inverse(-1000), 1000, 25_000) == 2000 * USDC
    assert price_at_loss(inverse(-1000), 2000 * USDC) == 25_000
    # 9,950 would be lost at 200 marks; the price stops at 100.
    for loss in (9950, 10_000, 10_001):
        assert price_at_loss(inverse(-1000), loss * USDC) == 2_000_000


# --- partial plans -------------------------------------------------------------------------------


def test_just_enough_lots_to_hold_maintenance_and_buffer() -> None:
    # 1,000 lots at 1 USDC of maintenance, equity 920. At mark, 800 lots may stay: 1.15 x 800 = 920.
    at_mark = LiquidationTerms(liquidation_fee_ppb=0, spread_to_maintenance_ppb=0)
    maintenance = flat_rate([USDC])
    (plan,) = plan_slice([future(4, 1000, 50)], 920 * USDC, maintenance, at_mark, first_step=False)
    assert (plan.instrument, plan.quantity_lots) == (4, -200)
    assert plan.equity_share_minor == 184 * USDC
    # A unit less and it takes one lot more.
    (plan,) = plan_slice(
        [future(4, 1000, 50)], 920 * USDC - 1, maintenance, at_mark, first_step=False
    )
    assert plan.quantity_lots == -201


def test_spread_and_fee_are_paid_before_the_buffer_is_compared() -> None:
    # Equity 900 of 1,000: ABR 0.1, spread 0.15 USDC a lot = 150 dollars on 0.001 coin at 20,000.
    # Fee 1.5 % of 20 USDC = 0.3 a lot. 900 - 0.45 x >= 1.15 (1,000 - x) from x = 357.14.
    (plan,) = plan_slice(
        [future(4, 1000, 20_000)],
        900 * USDC,
        flat_rate([USDC]),
        LiquidationTerms(),
        first_step=False,
    )
    assert plan.prices.fillable_ticks == 19_850
    assert plan.quantity_lots == -358
    assert plan.fee_minor == 107_400_000


def test_a_fee_is_at_most_what_the_share_has_left() -> None:
    # Equity 680 of 1,000: the spread is 0.48 a lot, of the 0.68 share 0.2 remains for the 0.3 fee.
    (plan,) = plan_slice(
        [future(4, 1000, 20_000)],
        680 * USDC,
        flat_rate([USDC]),
        LiquidationTerms(),
        first_step=False,
    )
    assert plan.fee_minor == -plan.quantity_lots * 200_000


def test_a_large_pool_sells_a_fifth_first_rounded_up() -> None:
    maintenance = flat_rate([USDC])
    large = [future(4, -10_001, 20_000)]
    (first,) = plan_slice(large, 7000 * USDC, maintenance, NO_FEES, first_step=True)
    (second,) = plan_slice(large, 7000 * USDC, maintenance, NO_FEES, first_step=False)
    assert first.quantity_lots == 2001
    assert second.quantity_lots > 2001


def test_a_pool_of_the_threshold_itself_is_not_large() -> None:
    # 5,000 lots x 20 USDC = 100,000 USDC.
    positions = [future(4, 5000, 20_000)]
    maintenance = flat_rate([USDC])
    first = plan_slice(positions, 3400 * USDC, maintenance, NO_FEES, first_step=True)
    assert first == plan_slice(positions, 3400 * USDC, maintenance, NO_FEES, first_step=False)


def test_slices_before_the_last_go_whole() -> None:
    positions = [future(0, 100, 50), future(1, -100, 50)]
    at_mark = LiquidationTerms(liquidation_fee_ppb=0, spread_to_maintenance_ppb=0)
    # Maintenance 300 + 100; equity 92 carries 80: all of the first, 20 lots of the second.
    maintenance = flat_rate([3 * USDC, USDC])
    plans = plan_slice(positions, 92 * USDC, maintenance, at_mark, first_step=False)
    assert [(plan.instrument, plan.quantity_lots) for plan in plans] == [(0, -100), (1, 20)]


def test_nothing_is_planned_for_a_pool_that_already_satisfies() -> None:
    positions = [future(0, 100, 50)]
    assert plan_slice(positions, 115, flat_rate([1]), NO_FEES, first_step=False) == []


def test_an_expired_call_is_brought_back_to_initial_margin() -> None:
    # Equity 120 is above 1.15 x 100, but initial is 1.5 a lot: 80 lots may stay.
    positions = [future(0, 100, 50)]
    maintenance, initial = flat_rate([10]), flat_rate([15])
    (plan,) = plan_slice(
        positions, 1200, maintenance, NO_FEES, first_step=False, initial_of=initial
    )
    assert plan.quantity_lots == -20


def test_everything_is_planned_if_nothing_less_helps() -> None:
    positions = [future(0, 100, 50), future(1, -100, 50)]
    plans = plan_slice(positions, -5, flat_rate([3, 1]), NO_FEES, first_step=False)
    assert [plan.quantity_lots for plan in plans] == [-100, 100]


def test_a_requirement_that_jumps_still_ends_in_a_plan_that_satisfies() -> None:
    # Closing an even number of lots leaves an ugly remainder; the plan must not trust monotony.
    def maintenance(lots: Sequence[int]) -> int:
        return abs(lots[0]) * 10 + (500 if lots[0] % 2 and lots[0] != 1 else 0)

    (plan,) = plan_slice([future(0, 101, 50)], 800, maintenance, NO_FEES, first_step=False)
    remaining = 101 + plan.quantity_lots
    assert remaining >= 0
    assert 115 * maintenance([remaining]) <= 100 * 800


def test_ranked_slices_carry_shares_that_sum_to_the_equity() -> None:
    positions = [future(0, 100, 50), future(1, -100, 50), future(2, 7, 50)]
    ranked = rank_slices(positions, 1001, flat_rate([3, 1, 13]), NO_FEES)
    assert sum(part.equity_share_minor for part in ranked) == 1001
    assert sum(part.released_minor for part in ranked) == 491


def test_a_pool_without_positions_has_no_slices() -> None:
    assert rank_slices([], -5, lambda lots: 0, NO_FEES) == []
    assert plan_slice([], -5, lambda lots: 0, NO_FEES, first_step=True) == []
