"""A loss stops at the wall of its pool: random losses of an isolated pool, seen from outside."""

from __future__ import annotations

import random

import pytest

from exchange.core.commands import Deposit, MoveMargin, OpenPool
from exchange.core.engine import Engine
from exchange.core.events import Deleveraged, LayerPaid, LiquidationStep, PoolOpened
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.ledger import HOUSE_POOLS
from tests.core.market import BUY, LINEAR_BTC, LINEAR_ETH, SELL, USDC, Market, every, only, small

MINOR = 10**6


def ruined(seed: int, walled: bool) -> tuple[Market, list[int], list[str]]:
    """Ann trades ETH from her cross pool; BTC, until its collateral is gone, from a pool behind a
    wall, or else (`walled` False) from an account that is a stranger to her.

    Returns the market, her cross pool's equity after each cycle, and what became of the BTC pool.
    """
    chance = random.Random(seed)
    market = Market(small(default={"fund_minor": 10**13, "venue_capital_minor": 10**12}))
    ann, bob = market.account("ann", 60_000), market.account("bob", 50_000_000)
    stake, side = chance.randrange(18_000, 26_000), chance.choice([BUY, SELL])
    if walled:
        opened = market.do(OpenPool, ann, PoolKind.ISOLATED, LINEAR_BTC)
        holder, pool = ann, only(opened, PoolOpened).pool
    else:
        holder = market.account("stranger", 0)
        pool = market.pool(holder)
    cross = market.pool(ann)
    if walled:
        market.do(MoveMargin, ann, cross, pool, USDC, stake * MINOR)
    else:
        market.withdraw(ann, stake)
        market.do(Deposit, holder, USDC, stake * MINOR)
    market.place(holder, side, 1_000, 200_000, pool=pool if walled else -1)
    market.place(bob, -side, 1_000, 200_000)
    market.place(ann, BUY, 300, 80_000, LINEAR_ETH)
    market.place(bob, SELL, 300, 80_000, LINEAR_ETH)
    market.cycle()
    btc, eth, seen, happened = 100_000.0, 4_000.0, [], []
    for _ in range(10):
        btc *= 1 - side * chance.uniform(0.0, 0.09)
        eth *= 1 + chance.uniform(-0.03, 0.03)
        events = market.cycle(int(btc), int(eth))
        seen.append(int(market.engine.risk.equity[cross]))
        happened += [e.step for e in every(events, LiquidationStep) if e.pool == pool]
        happened += [e.layer for e in every(events, LayerPaid) if e.pool == pool]
        assert not every(events, Deleveraged)
        assert not any(e.pool == cross for e in every(events, LiquidationStep))
    assert int(market.engine.risk.equity[pool]) >= 0
    return market, seen, happened


@pytest.mark.parametrize("seed", range(12))
def test_the_cross_pool_lives_as_if_the_isolated_one_were_a_stranger_s(seed: int) -> None:
    market, seen, happened = ruined(seed, walled=True)
    _, wanted, stranger = ruined(seed, walled=False)
    assert seen == wanted
    assert happened == stranger
    assert "opened" in happened, "it did default"
    again = Engine.restore(market.engine.snapshot())
    assert again.state_hash() == market.engine.state_hash()
    assert not any(market.state.ledger.trial_balance())
    assert (market.engine.risk.equity[HOUSE_POOLS:] >= 0).all()
