"""Where orders fill, what a switch moves, and how size is judged over an owner's pools."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from exchange.core.commands import (
    CancelAll,
    ClosePool,
    MoveMargin,
    OrderColumns,
    SwitchMode,
)
from exchange.core.events import ColumnsApplied, ModeSwitched, OrderDone
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.orders import POOL
from tests.core.market import (
    BUY,
    CALL,
    LINEAR_BTC,
    LINEAR_ETH,
    SECOND,
    SELL,
    USDC,
    Market,
    only,
    small,
)
from tests.core.pools import MINOR, Both, equity, isolated, memo, opened, two

R = RejectReason


@pytest.fixture
def both() -> Both:
    return two()


def test_orders_fill_into_the_pool_that_they_name(both: Both) -> None:
    market, ann, bob = both
    alone = isolated(market, ann, usdc=50_000)
    market.place(ann, BUY, 10, 200_000, pool=alone)
    market.place(ann, BUY, 5, 200_000)
    market.place(bob, SELL, 15, 200_000)
    market.cycle()
    positions = market.state.positions
    assert positions.lots_of(alone, LINEAR_BTC) == 10
    assert positions.lots_of(market.pool(ann), LINEAR_BTC) == 5


def test_an_order_names_only_an_open_pool_of_its_account_that_holds_the_contract(
    both: Both,
) -> None:
    market, ann, bob = both
    alone, group = isolated(market, ann), opened(market, ann, PoolKind.GROUP)

    def reason(account: int, slot: int, pool: int) -> R:
        return market.refused_order(account, BUY, 1, 1, slot, pool=pool)

    assert reason(ann, LINEAR_ETH, alone) == R.POOL_OF_OTHER_INSTRUMENT
    assert reason(ann, LINEAR_BTC, group) == R.POOL_WITHOUT_POSITIONS
    assert reason(bob, LINEAR_BTC, alone) == R.POOL_NOT_OWNED
    assert reason(ann, LINEAR_BTC, 3) == R.POOL_UNKNOWN, "the house's"
    assert reason(ann, LINEAR_BTC, 99) == R.POOL_UNKNOWN
    assert reason(ann, LINEAR_BTC, -7) == R.POOL_UNKNOWN
    market.do(ClosePool, ann, alone)
    assert reason(ann, LINEAR_BTC, alone) == R.POOL_UNKNOWN


def test_an_isolated_pool_is_margined_alone(both: Both) -> None:
    market, ann, _ = both
    alone = isolated(market, ann, usdc=1_000)
    assert market.refused_order(ann, BUY, 1_000, 200_000, pool=alone) == R.MARGIN_INSUFFICIENT
    market.place(ann, BUY, 1_000, 200_000)


def test_a_switch_moves_the_position_with_all_that_is_remembered_of_it(both: Both) -> None:
    market, ann, bob = both
    market.trade(ann, bob, 10, 199_000)
    market.trade(bob, ann, 4, 201_000)
    alone, cross = isolated(market, ann, usdc=10_000), market.pool(ann)
    before, money = memo(market, cross, LINEAR_BTC), market.state.ledger.cash.copy()
    event = only(market.do(SwitchMode, ann, LINEAR_BTC, alone), ModeSwitched)
    assert event == ModeSwitched(ann, LINEAR_BTC, cross, alone, 6, 0)
    assert memo(market, alone, LINEAR_BTC) == before
    assert market.state.positions.lots_of(cross, LINEAR_BTC) == 0
    np.testing.assert_array_equal(market.state.ledger.cash, money, "a future moves no money")


def test_a_switch_moves_the_contract_s_orders_and_sends_later_ones_after_them(both: Both) -> None:
    market, ann, _ = both
    resting = market.place(ann, BUY, 3, 190_000)
    market.cycle()
    new, other = market.place(ann, SELL, 2, 210_000), market.place(ann, BUY, 1, 70_000, LINEAR_ETH)
    alone = isolated(market, ann, usdc=10_000)
    assert only(market.do(SwitchMode, ann, LINEAR_BTC, alone), ModeSwitched).orders == 2
    later = market.place(ann, BUY, 1, 190_000)
    find = market.state.orders.find
    pools = [row[POOL] for row in map(find, (resting, new, later, other)) if row]
    assert pools == [alone, alone, alone, market.pool(ann)]
    market.edit(ann, resting, 189_000, 3)
    market.cancel(ann, new)
    done = market.do(CancelAll, ann)
    assert [event.order_id for event in done if isinstance(event, OrderDone)] == [
        resting, other, later,
    ]  # fmt: skip


def test_orders_that_moved_use_up_the_margin_of_their_new_pool(both: Both) -> None:
    market, ann, _ = both
    alone, cross = isolated(market, ann, usdc=20_000), market.pool(ann)
    market.place(ann, BUY, 1_000, 200_000)
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    assert market.refused_order(ann, BUY, 500, 200_000) == R.MARGIN_INSUFFICIENT
    market.place(ann, BUY, 4_000, 200_000, pool=cross)


def test_a_switch_back_leaves_no_trace(both: Both) -> None:
    market, ann, bob = both
    market.trade(ann, bob, 10, 199_000)
    market.place(ann, SELL, 2, 210_000)
    alone = isolated(market, ann, usdc=10_000)
    before = market.engine.state_hash()
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    assert market.engine.state_hash() != before
    market.do(SwitchMode, ann, LINEAR_BTC, market.pool(ann))
    assert market.engine.state_hash() == before


def test_neither_side_of_a_switch_may_end_short(both: Both) -> None:
    market, ann, bob = both
    market.trade(ann, bob, 1_000, 200_000)
    alone = isolated(market, ann, usdc=100)
    assert market.refused(SwitchMode, ann, LINEAR_BTC, alone) == R.MARGIN_INSUFFICIENT
    needed = market.initial(ann)
    cross = market.pool(ann)
    market.do(MoveMargin, ann, cross, alone, USDC, needed - 100 * MINOR - 1)
    assert market.refused(SwitchMode, ann, LINEAR_BTC, alone) == R.MARGIN_INSUFFICIENT
    market.do(MoveMargin, ann, cross, alone, USDC, 1)
    market.do(SwitchMode, ann, LINEAR_BTC, alone)


def test_a_hedge_does_not_leave_a_pool_that_needs_it(both: Both) -> None:
    market, ann, bob = both
    market.trade(ann, bob, 1_000, 200_000)
    market.place(bob, BUY, 1_000, 200_000, 3)
    market.place(ann, SELL, 1_000, 200_000, 3)
    market.cycle()
    alone, cross = isolated(market, ann, 3, usdc=900_000), market.pool(ann)
    spare = market.engine.gate.room(cross)
    market.do(MoveMargin, ann, cross, alone, USDC, spare)
    assert market.refused(SwitchMode, ann, 3, alone) == R.MARGIN_INSUFFICIENT
    assert market.said == (
        "what stays would not cover the margin of the pool that the contract leaves"
    )  # fmt: skip


def test_an_option_takes_its_value_with_it(both: Both) -> None:
    market, ann, bob = both
    market.place(ann, BUY, 100, 43, CALL)
    market.place(bob, SELL, 100, 43, CALL)
    market.cycle()
    sold, cross = isolated(market, bob, CALL, usdc=200_000), market.pool(bob)
    before = equity(market, sold), equity(market, cross)
    market.do(SwitchMode, bob, CALL, sold)
    value = -int(market.engine.risk.holdings.value_e6[CALL]) * 100 // 10**6
    assert value < 0
    assert (equity(market, sold) - before[0], before[1] - equity(market, cross)) == (value, value)


def test_opposite_positions_close_against_each_other_when_they_join(both: Both) -> None:
    market, ann, bob = both
    alone, cross = isolated(market, ann, usdc=100_000), market.pool(ann)
    market.place(ann, BUY, 10, 199_000, pool=alone)
    market.place(bob, SELL, 10, 199_000)
    market.cycle()
    market.trade(bob, ann, 4, 201_000)
    long, short = memo(market, alone, LINEAR_BTC), memo(market, cross, LINEAR_BTC)
    interest = int(market.state.positions.open_interest()[LINEAR_BTC])
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    lots, settled, entry, realised = memo(market, alone, LINEAR_BTC)
    assert (lots, settled) == (6, long[1] + short[1])
    assert entry == long[2] * 6 // 10, "what is left of the larger one, at its own entry"
    assert realised == -(long[2] * 4 // 10 + short[2]) == 4 * MINOR
    assert interest - int(market.state.positions.open_interest()[LINEAR_BTC]) == 4
    market.cycle(101_000)
    assert not any(market.state.ledger.trial_balance())


def test_what_cannot_be_switched(both: Both) -> None:
    market, ann, bob = both
    alone, cross = isolated(market, ann), market.pool(ann)
    refused = {
        (9, LINEAR_BTC, alone): R.ACCOUNT_UNKNOWN,
        (ann, 99, alone): R.INSTRUMENT_UNKNOWN,
        (ann, LINEAR_BTC, -1): R.POOL_UNKNOWN,
        (ann, LINEAR_BTC, market.pool(bob)): R.POOL_NOT_OWNED,
        (ann, LINEAR_ETH, alone): R.POOL_OF_OTHER_INSTRUMENT,
        (ann, LINEAR_BTC, cross): R.POOLS_EQUAL,
    }
    assert {fields: market.refused(SwitchMode, *fields) for fields in refused} == refused


def test_a_position_on_a_stale_index_stays_where_it_is(both: Both) -> None:
    market, ann, _ = both
    alone = isolated(market, ann)
    market.age_ns[0] = 30 * SECOND
    market.cycle()
    assert market.refused(SwitchMode, ann, LINEAR_BTC, alone) == R.INDEX_STALE
    assert market.said == "the index is stale: the contract does not move between pools"


def test_two_positions_do_not_join_beyond_the_largest(both: Both) -> None:
    market, ann, bob = both
    most = market.state.contracts.lots_max[LINEAR_BTC]
    funds = 2**50 // MINOR
    rich, poor = market.account("rich", funds), market.account("poor", funds)
    pool = isolated(market, rich, usdc=funds // 2)
    half = most // 2 + 1
    for name in (-1, pool):
        market.place(rich, BUY, half, 200_000, pool=name)
        market.place(poor, SELL, half if name < 0 else most - half, 200_000)
        market.cycle()
    assert market.refused(SwitchMode, rich, LINEAR_BTC, pool) == R.POSITION_LIMIT
    assert ann != bob


def thin_market() -> Market:
    """Little BTC trades in a day, so that size costs margin."""
    venue = small()
    btc, eth = venue.underlyings
    btc = msgspec.structs.replace(btc, daily_volume_minor=1_000_000 * MINOR)
    return Market(msgspec.structs.replace(venue, underlyings=(btc, eth)))


def test_size_is_judged_over_all_pools_of_an_owner() -> None:
    whole, split = thin_market(), thin_market()
    added = []
    for market in (whole, split):
        ann, bob = market.account("ann"), market.account("bob", 10_000_000)
        alone = isolated(market, ann, usdc=500_000)
        pools = (alone, alone) if market is whole else (alone, market.pool(ann))
        for pool in pools:
            market.place(ann, BUY, 1_000, 200_000, pool=pool)
        market.place(bob, SELL, 2_000, 200_000)
        market.cycle()
        added.append(int(market.engine.risk.add_on_minor[[alone, market.pool(ann)]].sum()))
    assert added[0] == added[1] > 0, "dividing a position among pools divides nothing"


def test_a_pool_recomputed_alone_is_charged_as_in_the_pass_over_all() -> None:
    market = thin_market()
    ann, bob = market.account("ann"), market.account("bob", 10_000_000)
    alone, cross = isolated(market, ann, usdc=500_000), market.pool(ann)
    for pool, lots in ((alone, 1_000), (cross, 600)):
        market.place(ann, BUY, lots, 200_000, pool=pool)
    market.place(bob, SELL, 1_600, 200_000)
    market.cycle()
    risk = market.engine.risk
    risk.revalue_pool(alone)
    initial, maintenance = risk.requirement_of(alone, [1_000])
    assert (initial, maintenance) == (risk.initial[alone], risk.maintenance[alone])
    market.place(ann, BUY, 100, 70_000, LINEAR_ETH)
    other = isolated(market, ann, LINEAR_ETH, usdc=10_000)
    market.do(SwitchMode, ann, LINEAR_ETH, other)
    carry = opened(market, ann, PoolKind.PORTFOLIO, name="carry", usdc=200_000)
    market.do(SwitchMode, ann, LINEAR_BTC, carry)
    held = [column.copy() for column in (risk.initial, risk.maintenance, risk.equity)]
    risk.revalue()
    for column, wanted in zip((risk.initial, risk.maintenance, risk.equity), held, strict=True):
        np.testing.assert_array_equal(column, wanted)


@pytest.mark.parametrize("gate", [False, True])
def test_columns_fill_the_pool_of_the_mode_and_reduce_orders_of_any_pool(gate: bool) -> None:
    market = Market(small(risk_gate=gate))
    ann = market.account("ann")
    alone = isolated(market, ann, usdc=400_000)
    first = market.place(ann, BUY, 5, 190_000, pool=alone)
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    rows = [
        (ann, LINEAR_BTC, BUY, 190_000, 3, 0, 0),
        (ann, LINEAR_ETH, BUY, 70_000, 3, 0, 0),
        (ann, LINEAR_BTC, BUY, 0, 2, 0, first),
        (ann, LINEAR_BTC, BUY, 0, 1, 0, -1),
        (7, LINEAR_BTC, BUY, 0, 1, 0, first),
    ]
    columns = np.array(rows, np.int64).T.copy()
    applied = only(market.do(OrderColumns, len(rows), columns.tobytes()), ColumnsApplied)
    assert applied.reasons[:4].tolist() == [0, 0, 0, 0]
    assert applied.reasons[4] != 0
    orders = [market.state.orders.find(order) for order in applied.order_ids[:2].tolist()]
    assert [row[POOL] for row in orders if row] == [alone, market.pool(ann)]
    assert [market.open_lots(first), market.open_lots(int(applied.order_ids[0]))] == [3, 2]
