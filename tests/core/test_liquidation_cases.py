"""Steps 7 and 8: margin calls from issue to end, and cases that sell slices to the public batch."""

from __future__ import annotations

import pytest

from exchange.core.commands import CancelAll, CancelOrder, Deposit
from exchange.core.events import CallChanged, LiquidationStep, OrdersDone
from exchange.core.reject_reason import DoneReason, PostingCause, RejectReason
from exchange.core.stored.ledger import House
from exchange.core.stored.orders import (
    AGE_BATCH,
    FLAGS,
    IMMEDIATE,
    LIQUIDATION,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
)
from margin.default.margin_call import CallOutcome
from tests.core.market import (
    BUY,
    FUTURE,
    SECOND,
    SELL,
    Market,
    every,
    fills,
    only,
    posted,
    small,
    tiny,
)

# 0.1 BTC long: initial margin is 18 % of its value, maintenance 14.3 %.


def long_of(market: Market, usdc: int = 1_900) -> tuple[int, int]:
    """`ann` is long 0.1 BTC from 100,000 with so many dollars, `bob` is short."""
    ann, bob = market.account("ann", usdc), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    return ann, bob


def outcomes(events: list[object], market: Market, account: int) -> list[CallOutcome]:
    return [
        event.outcome for event in events
        if isinstance(event, CallChanged) and event.pool == market.pool(account)
    ]  # fmt: skip


def steps(events: list[object], pool: int) -> list[str]:
    return [e.step for e in events if isinstance(e, LiquidationStep) and e.pool == pool]


def test_a_call_is_issued_for_what_initial_margin_lacks(market: Market) -> None:
    """1897 less 200; initial margin of 9800 dollars is 1764; the call asks for 67."""
    ann, _ = long_of(market)
    assert not outcomes(market.cycle(99_000), market, ann), "1797 is above 1782"
    call = only(market.cycle(98_000), CallChanged)
    assert (call.pool, call.outcome) == (market.pool(ann), CallOutcome.ISSUED)
    assert call.amount_minor == 67 * 10**6
    assert call.deadline_cycle == market.state.cycle + 5


def test_a_call_is_cured_by_a_deposit(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(98_000)
    market.do(Deposit, ann, 0, 67 * 10**6)
    assert outcomes(market.cycle(), market, ann) == [CallOutcome.CURED]
    assert market.state.accounts.calls == {}


def test_a_call_is_cured_by_gains_that_are_still_pending(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(98_000)
    assert outcomes(market.cycle(99_000), market, ann) == [CallOutcome.CURED]


def test_a_unit_short_of_initial_margin_is_no_cure(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(98_000)
    market.do(Deposit, ann, 0, 67 * 10**6 - 1)
    assert not outcomes(market.cycle(), market, ann)
    assert market.state.accounts.calls[market.pool(ann)].amount_minor == 1


def test_a_call_expires_in_its_deadline_cycle_and_opens_a_case(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(98_000)
    for _ in range(4):
        assert not outcomes(market.cycle(), market, ann)
    events = market.cycle()
    assert outcomes(events, market, ann) == [CallOutcome.EXPIRED]
    assert steps(events, market.pool(ann)) == ["opened", "offered"]
    assert market.state.accounts.cases[market.pool(ann)].call_expired


def test_below_maintenance_a_call_is_breached_at_once(market: Market) -> None:
    ann, _ = long_of(market)
    events = market.cycle(94_000)  # 1297 of equity, 1344 needed
    assert outcomes(events, market, ann) == [CallOutcome.BREACHED]
    assert steps(events, market.pool(ann)) == ["opened", "offered"]


def test_a_case_cancels_the_owner_s_orders_but_not_those_that_only_reduce(market: Market) -> None:
    ann, _ = long_of(market)
    adding = market.place(ann, SELL, 5, 240_000)
    reducing = market.place(ann, SELL, 5, 240_000, reduce_only=True)
    events = market.cycle(94_000)
    done = [e for e in every(events, OrdersDone) if DoneReason.LIQUIDATION in e.reason]
    assert [e.order_id.tolist() for e in done] == [[adding]]
    assert market.open_lots(reducing) == 5


def house_orders(market: Market) -> list[tuple[int, ...]]:
    rows = market.state.orders.incoming_rows()
    return [tuple(row) for row in rows.tolist() if row[FLAGS] & LIQUIDATION]


def test_the_slice_joins_the_next_batch_as_a_fresh_immediate_order(market: Market) -> None:
    ann, _ = long_of(market)
    events = market.cycle(94_000)
    offered = [e for e in every(events, LiquidationStep) if e.step == "offered"]
    (order,) = house_orders(market)
    assert order[POOL] == market.pool(ann)
    assert order[FLAGS] & IMMEDIATE
    assert order[AGE_BATCH] == market.state.batch
    assert (offered[0].quantity_lots, order[OPEN_LOTS]) == (-order[OPEN_LOTS], order[OPEN_LOTS])
    assert offered[0].price_ticks <= 188_000, "below the mark, toward bankruptcy"


def test_the_slice_is_the_smallest_that_restores_maintenance_with_a_buffer(market: Market) -> None:
    ann, bob = long_of(market)
    market.cycle(94_000)
    (order,) = house_orders(market)
    market.place(bob, BUY, 100, 188_000)
    events = market.cycle()
    assert fills(events)[order[ORDER_ID]] == order[OPEN_LOTS]
    assert steps(events, market.pool(ann)) == ["filled", "restored"]
    equity, maintenance = market.equity(ann), market.maintenance(ann)
    assert equity * 100 >= maintenance * 115
    assert 0 < order[OPEN_LOTS] < 100
    per_lot = maintenance // market.lots(ann)
    assert equity * 100 < (maintenance + 3 * per_lot) * 115, "not more than needed"
    assert market.state.accounts.cases == {}


def test_the_liquidation_fee_goes_to_the_fund_for_what_was_filled(market: Market) -> None:
    ann, bob = long_of(market)
    fund = market.state.ledger.balance(House.INSURANCE, 0)
    market.cycle(94_000)
    market.place(bob, BUY, 4, 188_000)
    events = market.cycle()
    fee = -posted(events, PostingCause.LIQUIDATION_FEE, market.pool(ann))
    assert fee == 4 * 94 * 10**6 * 5 // 1000, "half a percent of the value"
    assert market.state.ledger.balance(House.INSURANCE, 0) == fund + fee


def test_the_liquidation_fee_is_never_more_than_the_equity_that_is_left(market: Market) -> None:
    """Sold at 94,000, but the index falls until hardly a dollar of equity is left."""
    ann, bob = long_of(market)
    market.cycle(94_000)
    (order,) = house_orders(market)
    market.place(bob, BUY, 100, 188_000)
    market.seal()
    sold = fills(market.uncross())[order[ORDER_ID]]
    full = sold * 94 * 10**6 * 5 // 1000
    market.index_e8[0] = 94_000 * 10**8
    market.engine.risk.revalue_pool(market.pool(ann))
    # a dollar of the index is a thousandth of a dollar a lot
    left = market.equity(ann) - full // 3
    market.index_e8[0] -= left * 10**5 // (100 - sold)
    events = market.revalue()
    (filled,) = [e for e in every(events, LiquidationStep) if e.step == "filled"]
    assert 0 < filled.amount_minor < full
    fee = -posted(events, PostingCause.LIQUIDATION_FEE, market.pool(ann))
    assert fee == filled.amount_minor
    assert steps(events, market.pool(ann)) == ["filled", "taken over"], "at the edge, not below"


def test_what_a_batch_leaves_unsold_is_offered_again_at_a_new_price(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(94_000)
    (first,) = house_orders(market)
    events = market.cycle(93_500)
    (second,) = house_orders(market)
    assert steps(events, market.pool(ann)) == ["offered"]
    assert market.open_lots(first[ORDER_ID]) == 0
    assert second[3] < first[3]
    assert second[OPEN_LOTS] > first[OPEN_LOTS]


def test_after_its_public_cycles_a_case_goes_to_the_fund(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(94_000)
    for _ in range(4):
        assert steps(market.cycle(), market.pool(ann)) == ["offered"]
    events = market.cycle()
    assert steps(events, market.pool(ann)) == ["taken over"]
    assert market.lots(ann) == 0
    assert market.state.positions.lots_of(House.INSURANCE, 0) == 100


def test_a_pool_that_recovers_is_let_go(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(94_000)
    events = market.cycle(99_500)
    assert steps(events, market.pool(ann)) == ["restored"]
    market.place(ann, SELL, 1, 199_000)


def test_a_large_position_is_first_offered_in_part() -> None:
    """Above 100,000 dollars of notional the first step is a fifth of the position at most."""
    market = Market(tiny(default={"buffer_ppb": 10**9}))
    ann, bob = market.account("ann", 38_000), market.account("bob", 10**7)
    market.trade(ann, bob, 2_000, 200_000)
    market.cycle(94_000)
    (order,) = house_orders(market)
    assert order[OPEN_LOTS] == 400
    market.cycle()
    (order,) = house_orders(market)
    assert order[OPEN_LOTS] > 400


def test_the_owner_cannot_touch_the_house_s_order(market: Market) -> None:
    ann, _ = long_of(market)
    market.cycle(94_000)
    (order,) = house_orders(market)
    reason = market.refused(CancelOrder, ann, order[ORDER_ID])
    assert reason == RejectReason.ORDER_OF_LIQUIDATION
    market.do(CancelAll, ann)
    assert market.open_lots(order[ORDER_ID]) == order[OPEN_LOTS]


def test_on_a_stale_index_nothing_is_called_or_liquidated(market: Market) -> None:
    ann, _ = long_of(market)
    market.age_ns[0] = 11 * SECOND
    for index in (98_000, 94_000, 80_000):
        events = market.cycle(index)
        assert not every(events, CallChanged)
        assert not every(events, LiquidationStep)
    market.age_ns[0] = 0
    assert steps(market.cycle(94_000), market.pool(ann)) == ["opened", "offered"]


def test_a_case_rests_while_the_index_is_stale(market: Market) -> None:
    ann, bob = long_of(market)
    market.cycle(94_000)
    market.age_ns[0] = 11 * SECOND
    for _ in range(7):
        assert steps(market.cycle(80_000), market.pool(ann)) == []
    assert (market.lots(ann), market.lots(bob)) == (100, -100)
    assert house_orders(market) == []
    market.age_ns[0] = 0
    assert steps(market.cycle(), market.pool(ann)) == ["taken over"]


def test_no_fee_is_charged_for_a_position_that_expired_under_its_case() -> None:
    """The offered order left at the seal; settlement is no liquidation trade."""
    market = Market(small(expiry_after_s=20, collar={"band_ppb": 0}))
    ann, bob = market.account("ann", 3_695), market.account("bob")
    market.trade(ann, bob, 100, 200_000, FUTURE)
    expiry = market.venue.instruments[FUTURE].expiry_ns
    market.cycle(after_ns=expiry - SECOND - market.now)
    market.index_e8[0] = 64_000 * 10**8
    market.seal(0)
    market.uncross()
    assert "offered" in steps(market.revalue(), market.pool(ann))
    events = market.cycle()
    assert posted(events, PostingCause.LIQUIDATION_FEE, market.pool(ann)) == 0


def test_the_owner_s_own_reducing_trade_is_no_liquidation_fill(market: Market) -> None:
    ann, bob = long_of(market)
    market.cycle(94_000)
    (order,) = house_orders(market)
    market.place(ann, SELL, 5, 187_000, reduce_only=True)
    market.place(bob, BUY, 5, 188_500)
    events = market.cycle()
    filled = fills(events).get(order[ORDER_ID], 0)
    fee = -posted(events, PostingCause.LIQUIDATION_FEE, market.pool(ann))
    assert fee == filled * 94 * 10**6 * 5 // 1000


@pytest.mark.parametrize("cycles", [1, 3])
def test_the_deadline_is_counted_in_cycles(cycles: int) -> None:
    market = Market(tiny(calls={"deadline_cycles": cycles}))
    ann, _ = long_of(market)
    market.cycle(98_000)
    for _ in range(cycles - 1):
        assert not outcomes(market.cycle(), market, ann)
    assert outcomes(market.cycle(), market, ann) == [CallOutcome.EXPIRED]
