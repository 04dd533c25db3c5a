"""The `small` venue without collars, two traders, and the books of its coin-settled options."""

from __future__ import annotations

from typing import Any

from exchange.core.stored.ledger import House
from tests.core.market import COIN_CALL, E8, Market, small

BTC = 1
COIN = 10**8  # minor units of a bitcoin
MILLION = 10**6  # minor units of a dollar
NO_COLLAR = {"band_ppb": 0}
STRIKE = 100_000 * E8
# A lot is 0.01 BTC, a tick 0.0001 BTC a coin; at the opening both options are worth 0.0021 BTC.


def open_market(**parts: Any) -> Market:
    return Market(small(collar=NO_COLLAR, **parts))


def two(market: Market, lots: int = 0, slot: int = COIN_CALL, price: int = 20,
        seller_usdc: int = 1_000_000) -> tuple[int, int]:  # fmt: skip
    """`ann` with 10 BTC and `bob` with dollars only; she buys so many lots of him."""
    ann, bob = market.account("ann", 0, BTC=10 * COIN), market.account("bob", seller_usdc)
    if lots:
        market.trade(ann, bob, lots, price, slot)
    return ann, bob


def balanced(market: Market) -> None:
    assert not any(market.state.ledger.trial_balance())
    assert not market.state.positions.sums().any()
    assert not market.state.ledger.cash[House.CLEARING].any()
