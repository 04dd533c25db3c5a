"""A venue charged by rules or by dates of the past explains to the minor unit what it asks."""

from __future__ import annotations

import pytest

from exchange.venues import load_venue
from tests.gateway import margin_market, small_market
from tests.gateway.margin_market import demo_market, explained, summary
from tests.gateway.small_market import SmallMarket

MODELS = ["standard", "fhs-es"]


@pytest.fixture(params=MODELS)
async def market(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SmallMarket:
    name: str = request.param

    def charged(venue: str) -> object:
        return load_venue(venue, preset=name)

    monkeypatch.setattr(small_market, "load_venue", charged)
    monkeypatch.setattr(margin_market, "load_venue", charged, raising=False)
    return await demo_market()


async def test_the_explanation_is_what_the_venue_asks(market: SmallMarket) -> None:
    found, account = await explained(market), await summary(market)
    pool, risk = market.state.accounts.pool_of[0], market.engine.risk
    assert found.model == market.state.venue.preset.name
    assert found.call_initial_minor == risk.initial[pool] > 0
    assert found.maintenance_minor == risk.maintenance[pool] > 0
    assert found.equity_minor == risk.equity[pool]
    assert found.initial_minor / 10**6 == account["initial_margin"]
    assert found.units[0].distance is not None


async def test_the_parts_of_a_shortfall_add_up_to_it(market: SmallMarket) -> None:
    found = await explained(market)
    parts = [part.profit_minor for unit in found.units for part in unit.positions]
    assert sum(parts) == -found.worst_minor
    assert sum(unit.loss_minor for unit in found.units) == found.worst_minor
    assert (found.worst_minor > 0) == (found.model == "fhs-es")


async def test_open_orders_are_told_as_the_gate_counts_them(market: SmallMarket) -> None:
    pool, gate = market.state.accounts.pool_of[0], market.engine.gate
    await market.buy(market.ann, 0.01, 90_000)
    found = await explained(market)
    needed, _ = gate.requirement(pool, market.state.orders.of_pool(pool))
    assert found.initial_minor == needed
