"""Before an order rests: its pool covers the worst that it and all the others can do."""

from __future__ import annotations

import pytest

from exchange.core.commands import Deposit, PlaceOrder, Withdraw
from exchange.core.events import OrdersDone
from exchange.core.reject_reason import DoneReason, RejectReason
from tests.core.market import (
    BUY,
    CALL,
    FUTURE,
    LINEAR_BTC,
    LINEAR_ETH,
    SELL,
    Market,
    every,
    small,
    tiny,
)

R = RejectReason
# 100 lots are 0.1 BTC, worth 10,000 dollars at the index of 100,000. A long position of
# 0.1 BTC needs 16 % of that in the worst scenario plus 2 % contingencies: 1800; the fee is 3.


@pytest.mark.parametrize(("minor", "accepted"), [(1_803_000_100, True), (1_802_999_999, False)])
def test_a_limit_at_the_mark_needs_initial_margin_and_fee(
    market: Market, minor: int, accepted: bool
) -> None:
    """The fee is rounded up lot by lot, so that a few minor units more are asked for."""
    ann = market.account("ann", 0)
    market.do(Deposit, ann, 0, minor)
    if accepted:
        market.place(ann, BUY, 100, 200_000)
    else:
        assert market.refused_order(ann, BUY, 100, 200_000) == R.MARGIN_INSUFFICIENT


@pytest.mark.parametrize(("usdc", "accepted"), [(3_804, True), (3_803, False)])
def test_a_market_buy_reserves_at_the_widest_collar(
    market: Market, usdc: int, accepted: bool
) -> None:
    """Bought at 120,000 it loses 3600 down to 84,000; contingencies 200, fee 3.6."""
    ann = market.account("ann", usdc)
    if accepted:
        market.place(ann, BUY, 100)
    else:
        assert market.refused_order(ann, BUY, 100) == R.MARGIN_INSUFFICIENT


@pytest.mark.parametrize(("usdc", "accepted"), [(3_803, True), (3_802, False)])
def test_a_market_sale_reserves_at_the_widest_collar(
    market: Market, usdc: int, accepted: bool
) -> None:
    """Sold at 80,000 it loses 3600 up to 116,000; contingencies 200, fee 2.4."""
    ann = market.account("ann", usdc)
    if accepted:
        market.place(ann, SELL, 100)
    else:
        assert market.refused_order(ann, SELL, 100) == R.MARGIN_INSUFFICIENT


def test_a_limit_away_from_the_mark_counts_what_it_loses_at_once(market: Market) -> None:
    """A buy at 110,000 loses 1000 at the mark: 2600 + 200 + 3.3; one at 90,000 gains nothing."""
    assert market.refused_order(market.account("a", 2_803), BUY, 100, 220_000)
    market.place(market.account("b", 2_804), BUY, 100, 220_000)
    assert market.refused_order(market.account("c", 802), BUY, 100, 180_000)
    market.place(market.account("d", 803), BUY, 100, 180_000)


def test_orders_add_up(market: Market) -> None:
    ann = market.account("ann", 3_700)
    market.place(ann, BUY, 100, 200_000)
    market.place(ann, BUY, 100, 200_000)
    assert market.refused_order(ann, BUY, 100, 200_000) == R.MARGIN_INSUFFICIENT


def test_a_cancelled_order_gives_its_margin_back(market: Market) -> None:
    ann = market.account("ann", 1_900)
    for _ in range(5):
        market.cancel(ann, market.place(ann, BUY, 100, 200_000))
    market.place(ann, SELL, 100, 200_000)


def test_contingencies_count_the_worse_side_only(market: Market) -> None:
    """Buys and sales of 100: each loses 1600 in its own worst scenario; 200 once; fees 6."""
    ann = market.account("ann", 1_807)
    market.place(ann, BUY, 100, 200_000)
    market.place(ann, SELL, 100, 200_000)
    assert market.refused_order(market.account("bob", 1_802), SELL, 100, 200_000)


def test_an_order_that_does_not_raise_the_requirement_is_admitted_whatever_the_equity(
    market: Market,
) -> None:
    ann, bob = market.account("ann", 1_810), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.cycle(98_500)
    assert market.equity(ann) < market.initial(ann)
    market.place(ann, SELL, 100, 197_000)
    assert market.refused_order(ann, SELL, 200, 197_000) == R.MARGIN_INSUFFICIENT
    assert market.refused_order(ann, BUY, 1, 197_000) == R.MARGIN_INSUFFICIENT


def test_reduce_only_orders_reserve_nothing(market: Market) -> None:
    ann = market.account("ann", 0)
    market.place(ann, SELL, 100, 200_000, reduce_only=True)


def test_without_a_risk_gate_everything_is_admitted() -> None:
    market = Market(tiny(risk_gate=False))
    market.place(market.account("ann", 0), BUY, 100, 200_000)


def test_nobody_may_hold_more_than_the_largest_position() -> None:
    market = Market(tiny(risk_gate=False))
    ann = market.account("ann")
    most = market.state.contracts.lots_max[0]
    market.place(ann, BUY, most - 1, 200_000)
    assert market.refused_order(ann, BUY, 2, 200_000) == R.POSITION_LIMIT
    market.place(ann, BUY, 1, 200_000)
    market.place(ann, SELL, most, 200_000)
    assert market.refused_order(ann, SELL, 1, 200_000) == R.POSITION_LIMIT


def test_on_a_stale_index_only_risk_reducing_orders_are_admitted() -> None:
    market = Market(small())
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.age_ns[0] = 11 * 10**9
    market.cycle()
    assert market.refused_order(ann, BUY, 1, 200_000) == R.INDEX_STALE
    assert market.refused_order(ann, BUY, 1, 200_000, FUTURE) == R.INDEX_STALE
    assert market.refused_order(ann, SELL, 201, 200_000) == R.INDEX_STALE
    market.place(ann, SELL, 100, 200_000)
    market.place(ann, SELL, 100, 200_000, reduce_only=True)
    market.place(ann, BUY, 1, 80_000, LINEAR_ETH)


def test_a_stale_index_widens_initial_but_not_maintenance_margin() -> None:
    market = Market()
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    initial, maintenance = market.initial(ann), market.maintenance(ann)
    market.age_ns[0] = 11 * 10**9
    market.cycle()
    assert market.initial(ann) == initial + 500 * 10**6, "5 % of 10,000"
    assert market.maintenance(ann) == maintenance


def test_a_stale_index_widens_margin_on_its_own_contracts_only() -> None:
    market = Market(small())
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 100, 80_000, LINEAR_ETH)
    before = market.initial(ann)
    market.age_ns[0] = 11 * 10**9
    market.cycle()
    assert market.initial(ann) == before
    market.age_ns[1] = 11 * 10**9
    market.cycle()
    assert market.initial(ann) == before + 200 * 10**6, "5 % of 4,000"


def test_on_a_stale_index_a_short_option_needs_more_and_a_long_one_does_not() -> None:
    market = Market(small())
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 10, market.state.marks.reference_ticks(CALL), CALL)
    market.cycle(after_ns=0)
    before = market.initial(ann), market.initial(bob)
    market.age_ns[0] = 11 * 10**9
    market.cycle(after_ns=0)
    assert market.initial(ann) == before[0]
    assert market.initial(bob) == before[1] + 500 * 10**6, "5 % of a tenth of a coin"


def test_on_a_dead_index_no_order_is_admitted_and_books_are_halted() -> None:
    market = Market()
    ann, bob = market.account("ann"), market.account("bob")
    market.place(ann, BUY, 5, 200_000, immediate_or_cancel=True)
    market.place(bob, SELL, 5, 200_000)
    market.age_ns[0] = 61 * 10**9
    market.seal()
    market.uncross()
    market.revalue()
    assert market.lots(ann) == 5, "the batch before was cleared on marks that were fresh"
    assert market.refused_order(ann, SELL, 1, 200_000, reduce_only=True) == R.INDEX_DEAD


def test_orders_in_a_dead_market_carry_until_it_is_alive() -> None:
    market = Market()
    ann, bob = market.account("ann"), market.account("bob")
    order = market.place(ann, BUY, 5, 190_000)
    market.age_ns[0] = 61 * 10**9
    market.cycle()
    market.cycle()
    market.age_ns[0] = 0
    market.cycle()
    market.place(bob, SELL, 5, 190_000)
    market.cycle()
    assert market.open_lots(order) == 0
    assert market.lots(ann) == 5


def test_a_withdrawal_leaves_positions_and_orders_covered(market: Market) -> None:
    ann, bob = market.account("ann", 5_000), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.place(ann, BUY, 100, 200_000)
    # 4997 of equity, 3600 for position and order, 3 for the order's fee.
    over, under = 1_395 * 10**6, 1_393 * 10**6
    assert market.refused(Withdraw, ann, 0, over) == R.INSUFFICIENT_FUNDS
    market.do(Withdraw, ann, 0, under)


def test_all_cash_that_covers_nothing_may_leave(market: Market) -> None:
    ann = market.account("ann", 100)
    market.cycle()
    market.withdraw(ann, 80)
    market.withdraw(ann, 20)
    assert market.cash(ann) == 0


def test_coin_collateral_counts_less_its_haircut() -> None:
    """0.1 BTC at 100,000 and 5 % off: 9500, less the coin's own risk."""
    market = Market(small())
    ann = market.account("ann", 0, BTC=10**7)
    market.cycle()
    assert market.equity(ann) == 9_500 * 10**6
    assert market.maintenance(ann) > 0, "coin cash is a delta-one column"


def test_the_newest_risk_adding_order_leaves_first_at_the_seal(market: Market) -> None:
    ann = market.account("ann", 4_000)
    oldest = market.place(ann, BUY, 100, 200_000)
    newest = market.place(ann, BUY, 100, 200_000)
    market.cycle(95_000)
    events = market.cycle()
    dropped = [e for e in every(events, OrdersDone) if e.reason.tolist() == [
        DoneReason.MARGIN_RECHECK]]  # fmt: skip
    assert [e.order_id.tolist() for e in dropped] == [[newest]]
    assert market.open_lots(oldest) == 100


def test_the_recheck_passes_over_orders_that_reduce_risk(market: Market) -> None:
    ann, bob = market.account("ann", 5_700), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    adding = market.place(ann, BUY, 200, 198_000)
    reducing = market.place(ann, SELL, 100, 230_000)
    market.cycle(94_000)
    market.seal()
    assert market.open_lots(adding) == 0
    assert market.open_lots(reducing) == 100


@pytest.mark.parametrize("side", [BUY, SELL])
def test_the_bound_of_an_option_order_covers_its_premium(side: int) -> None:
    market = Market(small(collar={"band_ppb": 0}))
    ann = market.account("ann", 10)
    assert market.refused_order(ann, side, 100, 400, CALL) == R.MARGIN_INSUFFICIENT


def test_an_account_in_liquidation_may_only_reduce(market: Market) -> None:
    ann, bob = market.account("ann", 1_900), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.cycle(94_000)
    assert market.pool(ann) in market.state.accounts.cases
    assert market.refused_order(ann, SELL, 1, 190_000) == R.ACCOUNT_IN_LIQUIDATION
    market.place(ann, SELL, 1, 190_000, reduce_only=True)
    assert market.refused(Withdraw, ann, 0, 1) == R.ACCOUNT_IN_LIQUIDATION


def test_repeating_a_refused_request_gets_the_same_answer(market: Market) -> None:
    ann = market.account("ann", 10)
    for _ in range(3):
        assert market.refused(PlaceOrder, ann, LINEAR_BTC, BUY, 200_000, 100) == (
            R.MARGIN_INSUFFICIENT
        )
