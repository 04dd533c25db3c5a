"""The worst that one order can do, in plain integers and in columns, against the exact rule."""

from __future__ import annotations

import random

import numpy as np
import pytest

from exchange.core.stored.orders import INSTRUMENT_SHIFT, MARKET
from tests.core.market import E8, INVERSE_BTC, LINEAR_BTC, Market, small
from tests.core.random_story import Story, story_venue


def table(rows: list[tuple[int, int, int, int]], pool: int) -> np.ndarray:
    """Orders (slot, side, price, lots) of a pool as columns."""
    return np.array(
        [(slot << INSTRUMENT_SHIFT | n + 1, pool, side, price, lots,
          MARKET if price == 0 else 0, 0, n) for n, (slot, side, price, lots) in enumerate(rows)],
        np.int64,
    ).T.copy()  # fmt: skip


def moved(seed: int) -> Market:
    """A market at fractional marks, with positions, after a few cycles."""
    market = Market(story_venue(), seed=seed)
    story = Story(market, seed)
    for _ in range(6):
        for _ in range(40):
            market.apply(story.pick())
        market.seal(story.move())
        market.uncross()
        market.revalue()
    return market


@pytest.mark.parametrize("seed", range(8))
def test_one_order_never_needs_more_than_its_bound(seed: int) -> None:
    market, chance = moved(seed), random.Random(seed)
    gate, pool = market.engine.gate, market.pool(3)
    alone, _ = gate.requirement(pool, table([], pool).reshape(8, 0))
    for _ in range(300):
        slot = chance.randrange(9)
        reference = market.state.marks.reference_ticks(slot)
        price = int(reference * chance.uniform(0.7, 1.4)) if chance.random() < 0.9 else 0
        order = (slot, chance.choice([1, -1]), price, chance.randrange(1, 500))
        needed, fees = gate.requirement(pool, table([order], pool))
        bound = gate.losses[0].bound(*order)
        assert needed - alone + fees <= bound, order


@pytest.mark.parametrize("seed", range(4))
def test_columns_give_the_same_figure_as_one_by_one(seed: int) -> None:
    market, chance = moved(seed), random.Random(seed)
    loss = market.engine.gate.losses[0]
    orders = [
        (chance.randrange(9), chance.choice([1, -1]), chance.choice([0, chance.randrange(10**6)]),
         chance.randrange(1, 10_000)) for _ in range(500)
    ]  # fmt: skip
    rows = table(orders, 12)
    assert loss.bounds(rows).tolist() == [loss.bound(*order) for order in orders]
    assert loss.fees_minor(rows) == sum(loss.fee_minor(*order) for order in orders)
    assert loss.prices_met(rows).tolist() == [loss.price_met(*order[:3]) for order in orders]


def test_the_price_a_market_order_meets_is_the_far_end_of_the_widest_band() -> None:
    loss = Market(small()).engine.gate.losses[0]
    assert loss.price_met(LINEAR_BTC, 1, 0) == 240_000
    assert loss.price_met(LINEAR_BTC, -1, 0) == 160_000
    assert loss.price_met(LINEAR_BTC, 1, 7) == 7


def test_the_fee_of_a_linear_order_is_its_rate_on_the_limit() -> None:
    loss = Market(small()).engine.gate.losses[0]
    exact = 100 * 10**6 * 3 // 10_000
    assert exact <= loss.fee_minor(LINEAR_BTC, 1, 200_000, 1) <= exact + 2


def test_an_inverse_market_order_pays_most_fee_at_the_lowest_price() -> None:
    """10 dollars at 80,000 are 12,500 minor units of bitcoin; 0.03 % of them at up to 600,000."""
    market = Market(small())
    loss = market.engine.gate.losses[0]
    assert loss.fee_minor(INVERSE_BTC, 1, 0, 1000) > loss.fee_minor(INVERSE_BTC, 1, 200_000, 1000)
    at_index = 1000 * 10 * 10**6 * 3 // 10_000
    assert loss.fee_minor(INVERSE_BTC, 1, 200_000, 1000) >= at_index
    assert market.index_e8[0] == 100_000 * E8
