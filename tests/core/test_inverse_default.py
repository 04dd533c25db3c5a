"""Margin and default of pools with options that settle in coin: gate, cases, fund, deleveraging."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from exchange.core.engine import Engine
from exchange.core.events import Deleveraged, Event, LayerPaid, LiquidationStep, ShortfallOpen
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.contracts import value_per_lot_e6
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.stored.orders import INSTRUMENT_SHIFT
from exchange.core.stored.positions import LOTS
from tests.core.coin_options import BTC, COIN, MILLION, balanced, open_market, two
from tests.core.market import (
    BUY,
    COIN_CALL,
    COIN_PUT,
    INVERSE_BTC,
    LINEAR_BTC,
    SELL,
    Market,
    every,
    only,
    posted,
)
from tests.core.random_story import Story, story_venue


def test_who_cannot_margin_a_short_call_may_not_sell_it() -> None:
    market = open_market()
    poor, rich = market.account("poor", 1_000), market.account("rich", 100_000)
    assert market.refused_order(poor, SELL, 100, 20, COIN_CALL) == RejectReason.MARGIN_INSUFFICIENT
    market.place(rich, SELL, 100, 20, COIN_CALL)


def test_who_has_dollars_alone_may_buy_for_coin_that_he_owes() -> None:
    """Thirty coins of puts at 1 % each would cost 30,000 dollars; ten lots cost 20."""
    market = open_market()
    ann, _ = two(market)
    carl = market.account("carl", 5_000)
    assert market.refused_order(carl, BUY, 3_000, 100, COIN_PUT) == RejectReason.MARGIN_INSUFFICIENT
    market.trade(carl, ann, 10, 20, COIN_PUT)
    assert market.cash(carl, BTC) < 0
    assert market.equity(carl) > 4_900 * MILLION


def test_a_call_sold_over_its_coin_adds_little_and_over_dollars_much() -> None:
    """The coin gains what the call loses."""
    market = open_market()
    ann, bare = two(market)
    covered = market.account("covered", 0, BTC=5 * COIN)
    before = market.initial(covered)
    for account in (covered, bare):
        market.trade(ann, account, 400, 20, COIN_CALL)
    assert market.initial(covered) - before < 2_500 * MILLION, "contingency: 0.5 % of 400,000"
    assert market.initial(bare) > 60_000 * MILLION


def moved(seed: int) -> Market:
    """A market at fractional marks, with positions, after a few cycles."""
    market = Market(story_venue(), seed=seed)
    story = Story(market, seed)
    for _ in range(8):
        for _ in range(60):
            market.apply(story.pick())
        market.seal(story.move())
        market.uncross()
        market.revalue()
    return market


def order_row(slot: int, pool: int, side: int, price: int, lots: int) -> np.ndarray:
    return np.array(
        [[slot << INSTRUMENT_SHIFT | 1], [pool], [side], [price], [lots], [0], [0], [0]], np.int64
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_gate_asks_for_what_is_needed_after_the_fill_and_what_the_fill_loses(
    seed: int,
) -> None:
    """Whatever the order: requirement with it >= requirement after it fills, plus what that lost.

    The premium is coin that the buyer no longer has and the seller has got: its moves count.
    Add-ons are left out on both sides: an order reserves none.
    """
    market, chance = moved(seed), random.Random(seed)
    gate, risk, state = market.engine.gate, market.engine.risk, market.state
    for pool in range(HOUSE_POOLS, state.accounts.pools):
        for _ in range(8):
            slot, side = chance.choice((COIN_CALL, COIN_PUT)), chance.choice((1, -1))
            spec = state.contracts.specs[slot]
            price = max(1, int(state.marks.reference_ticks(slot) * chance.uniform(0.5, 1.6)))
            lots = chance.randrange(1, 400)
            asked, _ = gate.requirement(pool, order_row(slot, pool, side, price, lots))
            asked -= int(risk.add_on_minor[pool])
            before = risk.equity_of(pool, haircut=False)
            cash, table = state.ledger.cash[pool].copy(), state.positions.table.copy()
            value = value_per_lot_e6(spec, price * spec.tick_e8) * side * lots // 10**6
            state.positions.apply(
                *(np.array([x], np.int64) for x in (pool, slot, side * lots, value))
            )
            state.ledger.cash[pool, BTC] -= value
            risk.revalue_pool(pool)
            lost = before - risk.equity_of(pool, haircut=False)
            needed = int(risk.initial[pool] - risk.add_on_minor[pool])
            state.ledger.cash[pool], state.positions.table = cash, table
            risk.revalue_pool(pool)
            coin_unit = market.index_e8[0] // 10**10 + 1
            assert asked + 4 * coin_unit >= needed + lost, (slot, side, price, lots)


@pytest.mark.parametrize("seed", range(3))
def test_requirements_after_a_sale_count_the_coin_that_it_brings(seed: int) -> None:
    market = moved(seed)
    risk, state = market.engine.risk, market.state
    for pool in range(HOUSE_POOLS, state.accounts.pools):
        rows = state.positions.rows_of(pool)
        slots = state.positions.instrument[rows].tolist()
        lots = state.positions.lots[rows].tolist()
        kept = [
            q // 2 if s in (COIN_CALL, COIN_PUT) else q for s, q in zip(slots, lots, strict=True)
        ]
        found = risk.requirements(pool)([q for q, had in zip(kept, lots, strict=True) if had])
        cash, table = state.ledger.cash[pool].copy(), state.positions.table.copy()
        rows_before = list(zip(slots, lots, kept, strict=True))
        for slot, had, left in rows_before:
            if had != left:
                value = int(risk.holdings.value_e6[slot]) * (left - had) // 10**6
                state.ledger.cash[pool, BTC] -= value
        state.positions.table[LOTS, rows] = kept
        risk.revalue_pool(pool)
        assert found == (int(risk.initial[pool]), int(risk.maintenance[pool]))
        added = {slot: had - left for slot, had, left in rows_before if had != left}
        back = risk.maintenance_with(pool, added)
        state.ledger.cash[pool], state.positions.table = cash, table
        risk.revalue_pool(pool)
        per_unit = market.index_e8[0] // 10**10 + 1
        assert abs(back - int(risk.maintenance[pool])) <= 2 * per_unit * len(added)


# Default


def short_calls(fund: int, capital: int = 0, usdc: int = 17_000, lots: int = 100,
                **rules: Any) -> tuple[Market, int, int]:  # fmt: skip
    """`bob` is short 1 BTC of calls over dollars, `ann` long over bitcoin."""
    default = {"fund_minor": fund * MILLION, "venue_capital_minor": capital * MILLION, **rules}
    market = open_market(default=default)
    ann, bob = two(market, lots, seller_usdc=usdc)
    return market, ann, bob


def paid(events: list[Event]) -> dict[str, int]:
    total: dict[str, int] = {}
    for event in every(events, LayerPaid):
        total[event.layer] = total.get(event.layer, 0) + event.amount_minor
    return total


def test_a_short_below_maintenance_buys_back_in_the_public_batch_for_coin() -> None:
    market, ann, bob = short_calls(fund=100_000)
    events = market.cycle(104_500)
    steps = [e.step for e in every(events, LiquidationStep) if e.pool == market.pool(bob)]
    assert steps == ["opened", "offered"]
    offered = every(events, LiquidationStep)[-1]
    assert offered.quantity_lots > 0
    market.place(ann, SELL, 100, offered.price_ticks, COIN_CALL)
    held, coins = market.lots(bob, COIN_CALL), market.cash(bob, BTC)
    events = market.cycle()
    bought = market.lots(bob, COIN_CALL) - held
    assert bought > 0
    assert market.cash(bob, BTC) < coins - bought * 300
    assert posted(events, PostingCause.LIQUIDATION_FEE, int(House.INSURANCE)) > 0
    balanced(market)


def test_the_fund_takes_over_a_short_call_with_the_coin_that_it_is_worth() -> None:
    """At 114,000 a call is worth 14,000 / 114,000 coins; bob pays that, and has dollars left."""
    market, ann, bob = short_calls(fund=100_000)
    events = market.cycle(114_000)
    assert market.lots(bob, COIN_CALL) == 0
    assert market.state.positions.lots_of(House.INSURANCE, COIN_CALL) == -100
    assert market.cash(bob, BTC) == 0, "what he owed in coin was bought at the index"
    mark = int(market.state.marks.mark_e8[COIN_CALL])
    assert market.state.ledger.balance(House.INSURANCE, BTC) == mark
    fee = 114_000 * MILLION // 100
    left = (17_000 - 14_000 + 200 - 25) * MILLION
    assert abs(market.cash(bob) - (left - fee)) < 30 * MILLION
    assert market.lots(ann, COIN_CALL) == 100, "the other side is untouched"
    assert paid(events) == {}
    balanced(market)


def test_the_fund_pays_the_deficit_in_dollars_and_takes_the_coin_at_the_mark() -> None:
    market, _, bob = short_calls(fund=200_000)
    events = market.cycle(125_000)
    deficit = paid(events)["insurance"]
    assert abs(deficit - (25_000 - 17_000 - 200 + 25) * MILLION) < 60 * MILLION
    assert (market.cash(bob), market.cash(bob, BTC)) == (0, 0)
    assert market.state.ledger.balance(House.INSURANCE, 0) == 200_000 * MILLION - deficit
    balanced(market)


def test_without_a_fund_the_long_is_deleveraged_at_the_bankruptcy_price() -> None:
    """`ann` gets the coin of the mark and hands back the dollars that bob lacks."""
    market, ann, bob = short_calls(fund=0)
    coins = market.cash(ann, BTC)
    events = market.cycle(125_000)
    adl = only(events, Deleveraged)
    assert (adl.pool, adl.defaulter) == (market.pool(ann), market.pool(bob))
    assert adl.quantity_lots == -100
    assert (market.cash(bob), market.cash(bob, BTC)) == (0, 0)
    mark = int(market.state.marks.mark_e8[COIN_CALL])
    assert market.cash(ann, BTC) == coins + mark
    lacked = (25_000 - 17_000 - 200 + 25) * MILLION
    assert abs(market.cash(ann) + lacked) < 60 * MILLION
    assert not every(events, ShortfallOpen)
    balanced(market)


def test_deleveraging_takes_no_more_than_the_option_is_worth() -> None:
    """Bob's deficit stems from a future; the price of his calls does not fall below zero for it."""
    market = open_market(default={"fund_minor": 0, "venue_capital_minor": 0})
    market.cycle(80_000)
    ann, bob = two(market, 10, price=1, seller_usdc=17_500)
    carl = market.account("carl", 10**6)
    market.trade(carl, bob, 1_000, 160_000, LINEAR_BTC)
    before = market.cash(ann), market.cash(ann, BTC)
    events = market.cycle(105_000)
    value = -(int(market.state.marks.mark_e8[COIN_CALL]) * -10 // 100)  # bob rounds up
    assert market.cash(ann, BTC) - before[1] == value
    assert market.cash(ann) - before[0] == -(value * market.index_e8[0] // 10**10)
    assert paid(events)["gains_haircut"] > 0, "the rest of the deficit"
    assert (market.cash(bob), market.cash(bob, BTC)) == (0, 0)
    balanced(market)


def test_a_position_that_leaves_in_pieces_costs_what_it_was_worth_in_one() -> None:
    """Three buyers of 1, 2 and 4 lots at a mark with a fraction of a unit a lot."""
    market = open_market(default={"fund_minor": 0, "venue_capital_minor": 0})
    bob = market.account("bob", 1_500)
    longs = [market.account(name, 0, BTC=COIN) for name in ("ann", "carl", "dora")]
    for account, lots in zip(longs, (1, 2, 4), strict=True):
        market.trade(account, bob, lots, 20, COIN_CALL)
    coins = [market.cash(account, BTC) for account in longs]
    events = market.cycle(125_003)
    assert len(every(events, Deleveraged)) == 3
    value_e6 = int(market.engine.risk.holdings.value_e6[COIN_CALL])
    assert value_e6 % 10**6, "there is a fraction"
    got = [market.cash(a, BTC) - had for a, had in zip(longs, coins, strict=True)]
    assert sum(got) == -(value_e6 * -7 // 10**6)
    assert (market.cash(bob), market.cash(bob, BTC)) == (0, 0)
    assert not every(events, ShortfallOpen)
    balanced(market)


def test_opposing_defaulters_close_against_each_other_in_coin() -> None:
    """`bob` is short calls and `carl` long the same ones against a short future."""
    market = open_market(default={"fund_minor": 0, "venue_capital_minor": 0})
    bob, carl = market.account("bob", 4_000), market.account("carl", 25_000)
    dora = market.account("dora", 10**6)
    market.trade(carl, bob, 20, 20, COIN_CALL)
    market.trade(dora, carl, 1_000, 200_000, LINEAR_BTC)
    events = market.cycle(130_000)
    netted = [e for e in every(events, LiquidationStep) if e.step == "netted"]
    assert sorted(e.quantity_lots for e in netted if e.instrument == COIN_CALL) == [-20, 20]
    assert market.lots(bob, COIN_CALL) == market.lots(carl, COIN_CALL) == 0
    assert (market.cash(bob, BTC), market.cash(carl, BTC)) == (0, 0)
    balanced(market)


@pytest.mark.parametrize("index", [60_000, 95_000, 104_000, 112_000, 125_000, 200_000])
@pytest.mark.parametrize("slot", [COIN_CALL, COIN_PUT], ids=["call", "put"])
def test_whatever_happens_no_pool_ends_below_zero_and_coin_is_kept(slot: int, index: int) -> None:
    market = open_market(default={"fund_minor": 3_000 * MILLION, "venue_capital_minor": 10**8})
    ann, bob = two(market, 100, slot, seller_usdc=18_500)
    market.trade(ann, bob, 5, 200_000, INVERSE_BTC)
    market.cycle(index)
    for _ in range(8):
        market.cycle()
        assert min(market.equity(ann), market.equity(bob)) >= 0
        assert int(market.engine.risk.equity[House.INSURANCE]) >= 0
        balanced(market)


def test_a_restored_engine_has_the_same_equity_and_goes_on_the_same() -> None:
    market, _, _ = short_calls(fund=50_000)
    market.cycle(104_500)
    copy = Engine.restore(market.engine.snapshot())
    assert copy.state_hash() == market.engine.state_hash()
    np.testing.assert_array_equal(copy.risk.equity, market.engine.risk.equity)
    market.seal()
    market.uncross()
    market.revalue(125_000)
    for command in market.log[-3:]:
        copy.apply(command)
    assert copy.state_hash() == market.engine.state_hash()
