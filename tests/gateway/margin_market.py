"""A demo venue with an account that holds something of every kind, and what it is told."""

from __future__ import annotations

from typing import Any

import msgspec

from margin.reasons.explanation import Explanation
from tests.gateway.small_market import PERPETUAL, SmallMarket

INDEX = (117_000, 4_100, 205)
INVERSE = "BTC-PERPETUAL"


def option_of(market: SmallMarket) -> str:
    """A BTC put near the money."""
    specs = market.state.contracts.specs
    return next(s.name for s in specs if s.name.startswith("BTC_USDC") and s.name.endswith("-P")
                and s.strike_e8 == 116_000 * 10**8)  # fmt: skip


async def demo_market() -> SmallMarket:
    """`ann` has a future, a short put, an inverse short against coins, and an order."""
    market = SmallMarket("demo", INDEX)
    put = option_of(market)
    await market.ask(market.ann, "private/deposit", currency="BTC", amount=0.25)
    await market.ask(market.bob, "private/deposit", currency="BTC", amount=5)
    slot = market.state.contracts.slot_of[put]
    premium = market.state.marks.reference_ticks(slot) * 5
    for who, other, name, amount, price in (
        (market.ann, market.bob, PERPETUAL, 1, 117_000),
        (market.bob, market.ann, put, 2, premium),
        (market.bob, market.ann, INVERSE, 20_000, 117_000),
    ):
        await market.buy(who, amount, price, instrument_name=name)
        await market.sell(other, amount, price, instrument_name=name)
    market.close_batch()
    await market.buy(market.ann, 0.3, 110_000)
    assert len(await market.ask(market.ann, "private/get_positions")) == 3
    return market


async def summary(market: SmallMarket, currency: str = "USDC") -> dict[str, Any]:
    found: dict[str, Any] = await market.ask(
        market.ann, "private/get_account_summary", currency=currency
    )
    return found


async def explained(market: SmallMarket, **params: object) -> Explanation:
    row = await market.ask(market.ann, "private/explain_margin", **params)
    return msgspec.convert(row, Explanation)
