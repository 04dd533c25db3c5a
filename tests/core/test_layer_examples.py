"""The worked examples of the documentation on layers, to the cent."""

from __future__ import annotations

from exchange.core.commands import MoveMargin, OpenPool
from exchange.core.events import CallChanged, GuaranteePaid, LayerPaid, PoolOpened
from exchange.core.stored.layers import PoolKind
from tests.core.market import BUY, LINEAR_BTC, SELL, USDC, Market, every, only, small

MINOR = 10**6


def figures(market: Market, pool: int) -> tuple[float, float, float]:
    """Equity, initial and maintenance margin in USDC."""
    risk = market.engine.risk
    columns = (risk.equity, risk.initial, risk.maintenance)
    return tuple(int(column[pool]) / MINOR for column in columns)  # type: ignore[return-value]


def with_pool(kind: PoolKind, instrument: int, usdc: int) -> tuple[Market, int, int, int, int]:
    market = Market(small())
    ann, bob = market.account("ann", 100_000), market.account("bob")
    opened = market.do(OpenPool, ann, kind, instrument)
    pool, cross = only(opened, PoolOpened).pool, market.pool(ann)
    market.do(MoveMargin, ann, cross, pool, USDC, usdc * MINOR)
    return market, ann, bob, pool, cross


def test_a_coin_behind_a_wall() -> None:
    market, ann, bob, alone, cross = with_pool(PoolKind.ISOLATED, LINEAR_BTC, 20_000)
    market.place(ann, BUY, 1_000, 200_000, pool=alone)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    assert figures(market, alone) == (19_970, 18_000, 14_300)
    call = only(market.cycle(95_000), CallChanged)
    assert figures(market, alone) == (14_970, 17_100, 13_585)
    assert (call.pool, call.amount_minor) == (alone, 2_130 * MINOR)
    paid = only(market.cycle(78_000), LayerPaid)
    assert (paid.pool, paid.layer, paid.amount_minor) == (alone, "insurance", 2_030 * MINOR)
    assert figures(market, alone) == (0, 0, 0)
    assert figures(market, cross) == (80_000, 0, 0)


def test_a_guarantee_instead_of_a_call() -> None:
    market, ann, bob, group, cross = with_pool(PoolKind.GROUP, -1, 80_000)
    market.place(ann, BUY, 1_000, 200_000)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    events = market.cycle(95_000)
    assert only(events, GuaranteePaid).amount_minor == 2_130 * MINOR
    assert not every(events, CallChanged)
    assert figures(market, cross)[:2] == (17_100, 17_100)
    assert figures(market, group)[0] == 77_870
