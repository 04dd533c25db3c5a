"""What is forecast of a margin pool: warnings on a channel of their own, and on request."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clients.records import MarginForecast, MarginWarning, record_of
from exchange.core.events import MarginWarned
from exchange.venues import load_venue
from margin.presets import load_preset
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard, only

CHANNELS = ("user.margin_calls", "user.margin_warnings")
DYNAMIC = load_preset("ps-1-dynamic")


async def leveraged(preset: str = "ps-1-dynamic") -> SmallMarket:
    """Ann is long one BTC with 2,500 USDC to spare, in cycles of a minute; bob is rich."""
    venue = load_venue("tiny", interval_s=60)
    venue = msgspec.structs.replace(venue, preset=load_preset(preset))
    market = SmallMarket(venue, deposit=30_000)
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=1_000_000)
    await market.buy(market.ann, 1, 100_000)
    await market.sell(market.bob, 1, 100_000)
    market.close_batch()
    pool, risk = market.state.accounts.pool_of[0], market.engine.risk
    spare = int(risk.equity[pool] - risk.initial[pool]) // 10**6 - 2_500
    await market.ask(market.ann, "private/withdraw", currency="USDC", amount=spare)
    return market


async def forecast(market: SmallMarket, **params: object) -> Any:
    row = await market.ask(market.ann, "private/explain_margin", distances=False, **params)
    return row["forecast"]


async def test_a_warning_has_a_channel_of_its_own_and_margin_calls_do_not_tell_it() -> None:
    market = await leveraged()
    await market.listen(market.ann, *CHANNELS)
    await market.listen(market.bob, *CHANNELS)
    events = market.close_batch(98_500)
    (event,) = [event for event in events if isinstance(event, MarginWarned)]
    ((channel, told),) = heard(market.ann)
    assert channel == "user.margin_warnings"
    assert DYNAMIC.predictive is not None
    assert told == {
        "pool_id": event.pool,
        "probability": event.probability_ppb / 10**9,
        "horizon_cycles": DYNAMIC.predictive.cycles,
        "initial_margin": event.forecast_minor / 10**6,
        "currency": "USDC",
        "timestamp": market.clock.now_ns() // 10**6,
    }
    assert 0.05 <= told["probability"] < 1
    assert record_of(MarginWarning, told).pool_id == market.state.accounts.pool_of[0]
    assert heard(market.bob) == []
    market.close_batch(98_500)
    assert heard(market.ann) == [], "said once"


async def test_a_call_that_follows_a_warning_is_told_as_a_call_alone() -> None:
    market = await leveraged()
    market.close_batch(98_500)
    await market.listen(market.ann, *CHANNELS)
    market.close_batch(96_000)
    ((channel, call),) = heard(market.ann)
    assert channel == "user.margin_calls"
    assert call["outcome"] == "issued"
    assert "probability" not in call


async def test_a_new_listener_is_not_told_old_warnings() -> None:
    market = await leveraged()
    market.close_batch(98_500)
    assert market.state.forecasts.warned
    accepted = await market.ask(market.ann, "private/subscribe", channels=list(CHANNELS))
    assert accepted == list(CHANNELS)
    assert heard(market.ann) == []


async def test_the_forecast_on_request_is_what_the_warning_said() -> None:
    market = await leveraged()
    await market.listen(market.ann, "user.margin_warnings")
    events = market.close_batch(98_500)
    (event,) = [event for event in events if isinstance(event, MarginWarned)]
    found = await forecast(market)
    assert found == {
        "horizon_cycles": 60,
        "initial_minor": event.forecast_minor,
        "call_probability_ppb": event.probability_ppb,
    }
    (told,) = only(market.ann, "user.margin_warnings")
    read = record_of(MarginForecast, found)
    assert float(read.probability) == told["probability"]
    assert float(read.initial_margin) == told["initial_margin"]
    assert found["initial_minor"] >= int(market.engine.risk.initial[event.pool])


async def test_a_forecast_follows_a_deposit_at_once_and_asking_changes_nothing() -> None:
    market = await leveraged()
    market.close_batch(98_500)
    state_hash, warned = market.engine.state_hash(), list(market.state.forecasts.warned)
    thin = await forecast(market)
    assert await forecast(market) == thin
    assert market.engine.state_hash() == state_hash
    assert market.state.forecasts.warned == warned
    await market.ask(market.ann, "private/deposit", currency="USDC", amount=10_000)
    thick = await forecast(market)
    assert thick["call_probability_ppb"] < thin["call_probability_ppb"]
    assert thick["initial_minor"] == thin["initial_minor"]


async def test_an_own_pool_is_forecast_by_itself() -> None:
    market = await leveraged()
    pool = await market.ask(market.ann, "private/open_margin_pool", kind="isolated",
                            instrument_name=PERPETUAL)  # fmt: skip
    assert await forecast(market, pool_id=pool["pool_id"]) is None, "it holds no position"
    assert await forecast(market) is not None


async def test_a_called_pool_is_forecast_too() -> None:
    market = await leveraged()
    market.close_batch(96_000)
    assert market.state.accounts.calls
    assert (await forecast(market))["call_probability_ppb"] == 10**9


@pytest.mark.parametrize(
    ("preset", "params"),
    [("ps-1", {}), ("ps-1", {"model": "ps-1-dynamic"}), ("ps-1-dynamic", {"model": "ps-1"}),
     ("ps-1-dynamic", {"model": "standard"})],
)  # fmt: skip
async def test_where_the_pool_s_own_model_does_not_forecast_there_is_none(
    preset: str, params: dict[str, object]
) -> None:
    assert await forecast(await leveraged(preset), **params) is None
