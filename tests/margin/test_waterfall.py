"""Worked examples of takeover, deleveraging, netting, haircut and layers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from margin.default.liquidation import ContractForm, LiquidationTerms, Position, RequirementOf
from margin.default.waterfall import (
    Allocation,
    Candidate,
    FundSpendable,
    Netting,
    OpenCase,
    TakenSlice,
    deleverage,
    deleveraging_score,
    haircut_gains,
    insurance_delta_minor,
    net_opposing,
    pay_layers,
    takeover_plan,
)
from margin.invariant import InvariantBroken

USDC = 1_000_000
E8 = 100_000_000


def future(instrument: int, lots: int, price: int) -> Position:
    """A linear future of 0.001 coin a lot."""
    notional = abs(lots) * price * 1000
    return Position(instrument, lots, ContractForm.LINEAR, price * E8, E8, 1, E8 // 1000, notional)


def flat_rate(per_lot_minor: Sequence[int]) -> RequirementOf:
    return lambda lots: sum(abs(q) * rate for q, rate in zip(lots, per_lot_minor, strict=True))


def fund(equity_minor: int, inventory_of: RequirementOf) -> FundSpendable:
    return lambda lots, cash_minor: equity_minor + cash_minor - inventory_of(lots)


# --- takeover by the fund -------------------------------------------------------------------------


def test_a_solvent_pool_pays_the_fee_and_keeps_the_rest() -> None:
    # 100 lots x 20 USDC = 2,000 USDC; 1.5 % is 30 USDC of its 50.
    plan = takeover_plan(
        [future(7, 100, 20_000)],
        50 * USDC,
        flat_rate([USDC]),
        fund(1000 * USDC, flat_rate([USDC])),
        LiquidationTerms(),
    )
    assert plan.taken == [TakenSlice(7, 100, 30 * USDC, 0)]
    assert plan.left == []
    assert (plan.fee_minor, plan.residual_minor) == (30 * USDC, 20 * USDC)
    assert (plan.fund_payment_minor, plan.unpaid_minor) == (0, 0)


def test_the_fee_is_never_above_the_pools_equity() -> None:
    plan = takeover_plan(
        [future(7, 100, 20_000), future(8, -100, 20_000)],
        11,
        flat_rate([USDC, USDC]),
        fund(1000 * USDC, flat_rate([USDC, USDC])),
        LiquidationTerms(),
    )
    assert (plan.fee_minor, plan.residual_minor) == (11, 0)


def test_the_fund_pays_the_deficit_of_a_bankrupt_pool() -> None:
    plan = takeover_plan(
        [future(7, 100, 20_000), future(8, -50, 20_000)],
        -90 * USDC,
        flat_rate([USDC, USDC]),
        fund(1000 * USDC, flat_rate([USDC, USDC])),
        LiquidationTerms(),
    )
    assert plan.taken == [TakenSlice(7, 100, 0, 60 * USDC), TakenSlice(8, -50, 0, 30 * USDC)]
    assert (plan.fund_payment_minor, plan.residual_minor, plan.fee_minor) == (90 * USDC, 0, 0)


def test_the_fund_stops_when_its_spendable_would_fall_below_zero() -> None:
    # Each lot needs 1 USDC of the fund's maintenance and 0.5 of deficit: 120 USDC take 80 lots.
    plan = takeover_plan(
        [future(7, 100, 20_000)],
        -50 * USDC,
        flat_rate([USDC]),
        fund(120 * USDC, flat_rate([USDC])),
        LiquidationTerms(),
    )
    assert plan.taken == [TakenSlice(7, 80, 0, 40 * USDC)]
    (left,) = plan.left
    assert (left.quantity_lots, left.equity_share_minor) == (20, -10 * USDC)
    # 10 USDC on 0.02 coin is 500 a coin: others buy the long above the mark.
    assert left.prices.bankruptcy_ticks == 20_500


def test_nothing_after_the_first_slice_that_does_not_fit_is_taken() -> None:
    plan = takeover_plan(
        [future(7, 100, 20_000), future(8, 1, 20_000)],
        0,
        flat_rate([USDC, USDC]),
        fund(0, flat_rate([USDC, 0])),
        LiquidationTerms(),
    )
    assert plan.taken == []
    assert [left.instrument for left in plan.left] == [7, 8]


def test_a_pool_without_positions_has_only_its_deficit_paid() -> None:
    plan = takeover_plan([], -50, lambda lots: 0, fund(30, lambda lots: 0), LiquidationTerms())
    assert (plan.fund_payment_minor, plan.unpaid_minor) == (30, 20)


def test_dydx_insurance_delta() -> None:
    # dYdX v4's tests: 0.1 BTC sold at 51,000 and 56,100 against bankruptcy proceeds of 5,100.
    bankruptcy = 5100 * USDC
    assert insurance_delta_minor(5100 * USDC, bankruptcy, 5_000_000) == 0
    assert insurance_delta_minor(5610 * USDC, bankruptcy, 5_000_000) == 28_050_000
    assert insurance_delta_minor(5610 * USDC, bankruptcy, 25_000_000) == 140_250_000
    assert insurance_delta_minor(5000 * USDC, bankruptcy, 5_000_000) == -100 * USDC


# --- deleveraging ---------------------------------------------------------------------------------


def test_the_score_is_return_on_equity_times_margin_ratio() -> None:
    numerator, denominator = deleveraging_score(Candidate(1, -5, 50, 200, 40))
    # 50/200 x 40/200 = 0.05
    assert numerator * 20 == denominator


@pytest.mark.parametrize(("unrealised", "equity"), [(0, 100), (-5, 100), (50, 0), (50, -3)])
def test_no_profit_or_no_equity_scores_zero(unrealised: int, equity: int) -> None:
    assert deleveraging_score(Candidate(1, -5, unrealised, equity, 40))[0] == 0


def test_the_highest_score_is_called_first_and_never_past_zero() -> None:
    candidates = [
        Candidate(1, -5, 10, 200, 40),
        Candidate(2, -5, 50, 200, 40),
        Candidate(3, -5, 0, 200, 40),
    ]
    assert deleverage(8, candidates) == [Allocation(2, 5), Allocation(1, 3)]


def test_only_the_opposite_side_is_called() -> None:
    candidates = [Candidate(1, 5, 50, 200, 40), Candidate(2, -5, 0, 200, 40)]
    assert deleverage(3, candidates) == [Allocation(2, 3)]
    assert deleverage(-3, candidates) == [Allocation(1, -3)]


def test_equal_scores_share_pro_rata_and_the_lower_pool_gets_the_odd_lot() -> None:
    # 50/200 x 40/200 and 25/100 x 20/100 are the same fraction.
    candidates = [Candidate(9, -10, 50, 200, 40), Candidate(4, -10, 25, 100, 20)]
    assert deleverage(7, candidates) == [Allocation(4, 4), Allocation(9, 3)]


def test_zero_scores_are_called_last_and_pro_rata() -> None:
    candidates = [
        Candidate(1, -30, -5, 100, 20),
        Candidate(2, -10, 0, 100, 20),
        Candidate(3, -1, 1, 10**9, 1),
    ]
    assert deleverage(9, candidates) == [Allocation(3, 1), Allocation(1, 6), Allocation(2, 2)]


def test_scores_that_a_float_cannot_tell_apart_are_told_apart() -> None:
    # (2e + 1)/e^2 is above (2e - 3)/(e - 1)^2 by 1/(e^2 (e - 1)^2), nearly 2^-248.
    e = 2**62 - 1
    candidates = [Candidate(2, -5, 2 * e + 1, e, 1), Candidate(1, -5, 2 * e - 3, e - 1, 1)]
    assert deleverage(5, candidates) == [Allocation(2, 5)]


def test_an_equity_beyond_the_limits_of_money_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        deleverage(5, [Candidate(1, -5, 1, 2**62, 1)])


def test_all_there_is_when_it_does_not_suffice() -> None:
    assert deleverage(100, [Candidate(1, -5, 1, 10, 1)]) == [Allocation(1, 5)]
    assert deleverage(100, []) == []
    assert deleverage(0, [Candidate(1, -5, 1, 10, 1)]) == []


def test_a_pool_cannot_be_a_candidate_twice() -> None:
    with pytest.raises(InvariantBroken):
        deleverage(5, [Candidate(1, -5, 1, 10, 1), Candidate(1, -3, 1, 10, 1)])


# --- netting, haircut, layers ---------------------------------------------------------------------


def test_opposing_cases_net_and_the_heavier_side_shares() -> None:
    cases = [OpenCase(3, 1, 20), OpenCase(1, 1, 10), OpenCase(2, 1, -9), OpenCase(2, 2, -9)]
    assert net_opposing(cases) == [Netting(1, 1, -3), Netting(2, 1, 9), Netting(3, 1, -6)]


def test_one_sided_cases_do_not_net() -> None:
    assert net_opposing([OpenCase(1, 1, 10), OpenCase(2, 1, 5)]) == []


def test_a_pool_has_one_case_an_instrument() -> None:
    with pytest.raises(InvariantBroken):
        net_opposing([OpenCase(1, 1, 10), OpenCase(1, 1, -5)])


def test_gains_are_cut_pro_rata_and_to_the_unit() -> None:
    assert haircut_gains(100, [300, 600, 100]) == [30, 60, 10]
    assert haircut_gains(2, [1, 1, 1]) == [1, 1, 0]


def test_a_cut_takes_no_more_than_the_gain() -> None:
    assert haircut_gains(10_000, [300, 0, 100]) == [300, 0, 100]
    assert haircut_gains(5, []) == []


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        haircut_gains(5, [10, -1])


def test_a_layer_is_exhausted_before_the_next_is_touched() -> None:
    layers = [("insurance", 40), ("venue_capital", 25), ("default_fund", 100)]
    assert pay_layers(50, layers) == [("insurance", 40), ("venue_capital", 10), ("default_fund", 0)]
    assert sum(paid for _, paid in pay_layers(1000, layers)) == 165


def test_a_layer_below_zero_gives_nothing() -> None:
    assert pay_layers(50, [("insurance", -10), ("venue_capital", 60)]) == [
        ("insurance", 0),
        ("venue_capital", 50),
    ]


def test_a_negative_deficit_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        pay_layers(-1, [("insurance", 10)])
