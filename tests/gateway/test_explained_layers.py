"""Explanations add up to what is charged: offsets, forecasts, collateral of an owner's pools."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from exchange.core.commands import Attest
from exchange.gateway.pool_view import pool_figures
from exchange.venues import load_venue
from margin.presets import load_preset
from margin.presets.collateral_sections import CollateralSize, CollateralTier
from margin.presets.preset import Preset
from margin.reasons.explain import FORECAST, OFFSET
from margin.reasons.explanation import Explanation
from margin.reasons.parts import ELSEWHERE
from tests.core.attested_market import outside
from tests.gateway.small_market import PERPETUAL, SmallMarket

ETH = "ETH_USDC-PERPETUAL"
INDEX = (100_000, 4_000, 200)
DYNAMIC = load_preset("ps-1-dynamic")


def market_of(preset: Preset) -> SmallMarket:
    """The demo venue under another preset."""
    return SmallMarket(msgspec.structs.replace(load_venue("demo"), preset=preset), INDEX)


async def hedged(given: Preset | SmallMarket) -> SmallMarket:
    """Ann is long of BTC and short of ETH, which her model offsets; cycles have passed."""
    market = given if isinstance(given, SmallMarket) else market_of(given)
    for name, buyer, seller, amount, price in (
        (PERPETUAL, market.ann, market.bob, 1, 100_000), (ETH, market.bob, market.ann, 20, 4_000),
    ):  # fmt: skip
        await market.buy(buyer, amount, price, instrument_name=name)
        await market.sell(seller, amount, price, instrument_name=name)
    market.close_batch()
    for step in range(6):
        market.close_batch(100_000 + 900 * (-1) ** step, 4_000 + 50 * (-1) ** step, 200)
    return market


async def explained(market: SmallMarket, **params: object) -> Explanation:
    row = await market.ask(market.ann, "private/explain_margin", **params)
    return msgspec.convert(row, Explanation)


def sums(found: Explanation) -> tuple[int, int]:
    """(initial without orders, maintenance) as the lines of an explanation add up."""
    lines = [line for line in (*found.charges, *found.add_ons) if line.name != "open orders"]
    both = sum(line.maintenance_minor for line in lines)
    extra = sum(line.initial_minor for line in lines)
    return (
        found.scenario_initial_minor + both + extra, found.scenario_maintenance_minor + both,
    )  # fmt: skip


def charged(market: SmallMarket, pool: int) -> tuple[int, int]:
    risk: Any = market.engine.risk
    return int(risk.initial[pool]), int(risk.maintenance[pool])


async def test_the_offset_between_underlyings_is_a_line_of_its_own() -> None:
    market = await hedged(DYNAMIC)
    found, pool = await explained(market), market.state.accounts.pool_of[0]
    (offset,) = [line for line in found.charges if line.name == OFFSET]
    relief = int(market.engine.risk.relief_minor[pool])
    assert relief > 10**9, "a thousand dollars"
    assert offset.maintenance_minor + offset.initial_minor == -relief
    assert -relief < offset.maintenance_minor < 0
    assert sums(found) == charged(market, pool)
    assert (found.call_initial_minor, found.maintenance_minor) == charged(market, pool)
    assert found.initial_minor == found.call_initial_minor
    simulated = await market.ask(market.ann, "private/simulate_portfolio", currency="USDC")
    assert simulated["initial_margin"] == found.initial_minor / 10**6


async def test_where_coin_elsewhere_counts_there_is_no_offset_to_tell_of() -> None:
    harbour = outside(haircut_ppb=0)
    venue = msgspec.structs.replace(load_venue("demo"), preset=DYNAMIC, outside_venues=(harbour,))
    market = await hedged(SmallMarket(venue, INDEX))
    now, pool = market.sequencer.now_ns(), market.state.accounts.pool_of[0]
    word = Attest(now, harbour.name, 0, 1, now, ((1, 10**7),), (), b"d" * 32, b"s" * 64)
    market.sequencer.commit([word])
    found = await explained(market)
    names = [line.name for line in found.charges]
    assert ELSEWHERE in names
    assert OFFSET not in names
    needed = charged(market, pool)
    assert sums(found) == (needed[0], pytest.approx(needed[1], abs=3)), "rounded to its bound"


async def test_with_an_order_the_offset_is_not_trusted_and_the_lines_say_so() -> None:
    market = await hedged(DYNAMIC)
    await market.buy(market.ann, 0.001, 95_000)
    found, pool = await explained(market), market.state.accounts.pool_of[0]
    figures = pool_figures(market.engine, pool)
    assert found.initial_minor == figures.initial_minor
    assert sums(found)[0] == charged(market, pool)[0] == found.call_initial_minor
    relief = int(market.engine.risk.relief_minor[pool])
    assert found.charges[-1].initial_minor > relief


async def test_a_forecast_that_is_charged_is_a_line_of_its_own() -> None:
    assert DYNAMIC.predictive is not None
    floor = msgspec.structs.replace(DYNAMIC.predictive, floor=True)
    market = await hedged(msgspec.structs.replace(DYNAMIC, predictive=floor))
    pool, risk = market.state.accounts.pool_of[0], market.engine.risk
    assert FORECAST not in [line.name for line in (await explained(market)).charges]
    risk.models[0].growth_ppb = 1_100_000_000  # what a forecast of wider ranges makes of it
    risk.revalue()
    found = await explained(market)
    (line,) = [line for line in found.charges if line.name == FORECAST]
    after_offset = found.worst_minor * found.initial_factor_ppb // 10**9 - int(
        risk.relief_minor[pool]
    )
    assert line.initial_minor == pytest.approx(after_offset / 10, abs=2)
    assert sums(found) == charged(market, pool)


async def test_a_forecast_that_only_warns_is_no_line() -> None:
    market = await hedged(DYNAMIC)
    market.engine.risk.models[0].growth_ppb = 1_100_000_000
    found = await explained(market)
    assert FORECAST not in [line.name for line in found.charges]
    assert sums(found) == charged(market, market.state.accounts.pool_of[0])


async def test_the_nearest_move_to_a_call_counts_the_offset() -> None:
    market = await hedged(DYNAMIC)
    with_offset = await explained(market)
    model = market.engine.risk.model(market.state.accounts.pool_of[0])
    model.preset = msgspec.structs.replace(model.preset, cross_unit=None)
    without = await explained(market)
    assert without.initial_minor > with_offset.initial_minor
    for near, far in zip(without.units, with_offset.units, strict=True):
        assert near.distance is not None
        assert far.distance is not None
        for side in ("call_down_e9", "call_up_e9"):
            one, other = getattr(near.distance, side), getattr(far.distance, side)
            assert other is None or abs(other) >= abs(one)


def sized(*, limit_usdc: int) -> Preset:
    size = CollateralSize(
        currency="BTC",
        tiers=(CollateralTier(above_usdc=150_000, haircut_ppb=250_000_000),),
        limit_usdc=limit_usdc,
    )
    return msgspec.structs.replace(load_preset("ps-1"), collateral_size=(size,))


async def test_collateral_of_all_pools_is_in_every_pool_s_haircut_lines() -> None:
    market = market_of(sized(limit_usdc=350_000))
    ann = market.ann
    await market.ask(ann, "private/deposit", currency="BTC", amount=1.3)
    desk = await market.ask(ann, "private/open_margin_pool", kind="portfolio", name="desk")
    await market.ask(ann, "private/deposit", currency="BTC", amount=1.7, pool_id=desk["pool_id"])
    child = await market.ask(ann, "private/create_subaccount")
    await market.ask(ann, "private/submit_transfer_to_subaccount", currency="BTC", amount=0.3,
                     destination=child["id"])  # fmt: skip
    rows = await market.ask(ann, "private/get_margin_pools")
    total = 0
    for row in rows:
        found = await explained(market, pool_id=row["pool_id"])
        assert found.equity_minor == round(row["equity"] * 10**6)
        assert found.equity_minor == sum(part.counted_minor for part in found.collateral)
        (coin,) = [part for part in found.collateral if part.currency == "BTC"]
        assert coin.value_minor - coin.haircut_minor == coin.counted_minor
        assert 0 < coin.size_minor < coin.haircut_minor
        assert coin.haircut_ppb == 50_000_000
        total += coin.counted_minor
    assert total == (150_000 * 95 + 150_000 * 75) * 10**4, "3 BTC: half of it above the tier"


@pytest.mark.parametrize("seed", range(2))
async def test_equity_explained_is_the_pool_s_to_the_unit(seed: int) -> None:
    random = np.random.default_rng(seed)
    market = market_of(sized(limit_usdc=300_000))
    market.close_batch(*(int(price * random.uniform(0.5, 2)) for price in INDEX))
    pools = [market.state.accounts.pool_of[0]]
    for number in range(3):
        row = await market.ask(market.ann, "private/open_margin_pool", kind="portfolio",
                               name=f"p{number}")  # fmt: skip
        pools.append(row["pool_id"])
    for pool in pools:
        coins = round(float(random.uniform(0.1, 2)), 8)
        await market.ask(market.ann, "private/deposit", currency="BTC", amount=coins, pool_id=pool)
    for pool in pools:
        found = await explained(market, pool_id=pool, distances=False)
        assert found.equity_minor == int(market.engine.risk.equity[pool])
