"""Margin models over the wire: formulas, account classes, add-ons, doubtful prices."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from exchange.core.commands import Deposit, OpenAccount, UnderlyingMark
from exchange.core.venue import AccountClass
from exchange.gateway.pool_book import open_interest_minor, venue_inputs
from exchange.portfolios.book import build_book
from exchange.portfolios.file import read_portfolio
from exchange.venues import load_venue
from margin.models.venue_models import venue_model
from margin.presets import load_preset
from margin.reasons.explain import DOUBTFUL_PRICES, OTHER_POOLS
from margin.reasons.explain_formula import INPUTS, STANDARD, FormulaModel, explain_formula
from margin.reasons.explanation import Explanation
from tests.gateway import small_market
from tests.gateway.margin_market import INVERSE, demo_market, explained, option_of, summary
from tests.gateway.small_market import PERPETUAL, SmallMarket


@pytest.fixture
async def demo() -> SmallMarket:
    return await demo_market()


@pytest.mark.parametrize("model", INPUTS)
async def test_a_formula_model_may_be_asked_where_it_can_margin_the_account(
    demo: SmallMarket, model: str
) -> None:
    held = {option_of(demo): 2}  # bought back
    simulated = await demo.ask(
        demo.ann, "private/simulate_portfolio", currency="USDC", model=model,
        simulated_positions=held,
    )  # fmt: skip
    assert simulated["model"] == model
    assert simulated["initial_margin"] >= simulated["maintenance_margin"] > 0
    assert (simulated["worst_scenarios"], simulated["open_orders_margin"]) == ([], 0)
    if model != STANDARD:
        error = await demo.refusal(demo.ann, "private/explain_margin", model=model)
        assert error["code"] == 11029
        assert "futures and perpetuals only" in error["data"]["reason"]
        return
    found = await explained(demo, model=model)
    assert {charge.name for charge in found.charges} == {PERPETUAL, INVERSE, option_of(demo)}


@pytest.mark.parametrize("model", ["fhs-es", "ps-1-dynamic+floor"])
async def test_a_model_that_charges_other_venues_may_be_asked(
    demo: SmallMarket, model: str
) -> None:
    """At the ranges of its file, since it has not seen this market."""
    found = await explained(demo, model=model)
    simulated = await demo.ask(demo.ann, "private/simulate_portfolio", currency="USDC", model=model)
    assert found.model == simulated["model"] == model
    assert simulated["initial_margin"] == found.initial_minor / 10**6 > 0
    assert (found.simulated is not None) == (model == "fhs-es")
    if found.simulated is not None:
        usual = {row.unit: row.range_e9 for row in found.simulated.units}
        assert usual["BTC"] == venue_model(model).spot_range_e9("BTC")


async def test_a_floor_of_what_forecasts_nothing_is_refused(demo: SmallMarket) -> None:
    for name, reason in (
        ("fhs-es+floor", "fhs-es: forecasts nothing that could be a floor"),
        ("other", "no model 'other'; there are "),
    ):
        error = await demo.refusal(demo.ann, "private/explain_margin", model=name)
        assert error["code"] == 11029
        assert error["data"]["reason"].startswith(reason)


async def test_add_ons_are_told_and_are_those_of_the_summary(demo: SmallMarket) -> None:
    """The demo venue knows its volumes, and the account is short of gamma."""
    found, account = await explained(demo), await summary(demo)
    pool, risk = demo.state.accounts.pool_of[0], demo.engine.risk
    added = sum(charge.maintenance_minor for charge in found.add_ons)
    assert added == risk.add_on_minor[pool] > 0
    assert "gamma" in {charge.name for charge in found.add_ons}
    assert found.maintenance_minor == risk.maintenance[pool]
    assert found.initial_minor / 10**6 == account["initial_margin"]


async def test_what_the_owner_s_other_pools_add_is_a_line_of_its_own(demo: SmallMarket) -> None:
    pool, risk = demo.state.accounts.pool_of[0], demo.engine.risk
    risk.add_on_minor[pool] += 11
    risk.initial[pool] += 11
    found = await explained(demo)
    assert found.add_ons[-1].name == OTHER_POOLS
    assert found.add_ons[-1].maintenance_minor == 11
    assert found.call_initial_minor == risk.initial[pool]


async def test_an_account_is_explained_by_the_model_of_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = AccountClass("desk", load_preset("derive-pmrm2"))
    venue = msgspec.structs.replace(load_venue("tiny"), account_classes=(kind,))
    monkeypatch.setattr(small_market, "load_venue", lambda name: venue)
    market = SmallMarket()
    now = market.sequencer.now_ns()
    market.sequencer.commit([OpenAccount(now, "carl", "desk"), Deposit(now, 2, 0, 10**12)])
    carl = market.hub.connect("carl")
    await market.buy(carl, 0.5, 100_000)
    await market.sell(market.bob, 0.5, 100_000)
    market.close_batch()
    for who, name in ((carl, "derive-pmrm2"), (market.bob, "ps-1")):
        found = await market.ask(who, "private/explain_margin")
        account = await market.ask(who, "private/get_account_summary", currency="USDC")
        assert found["model"] == name
        assert found["initial_minor"] / 10**6 == account["initial_margin"]


async def test_a_doubtful_index_is_a_charge_of_its_own() -> None:
    market = SmallMarket()
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    plain = market.marks

    def doubtful() -> Any:
        marks = plain()
        low = tuple(UnderlyingMark(m.index_e8, 0, 4 * 10**8, ()) for m in marks.underlyings)
        return msgspec.structs.replace(marks, underlyings=low)

    market.marks = doubtful  # type: ignore[method-assign]
    market.close_batch()
    found = await explained(market)
    charges = {charge.name: charge.initial_minor for charge in found.charges}
    assert charges[DOUBTFUL_PRICES] == 6_000 * 10**6, "(1 - 0.4) of 10,000"
    assert found.initial_minor / 10**6 == (await summary(market))["initial_margin"]


async def test_coin_that_options_cost_is_collateral_no_longer(demo: SmallMarket) -> None:
    """Simulated where the premium is paid in coin: exact against what the venue then asks."""
    name = next(
        spec.name for spec in demo.state.contracts.specs
        if spec.strike_e8 and spec.name.startswith("BTC-") and spec.name.endswith("-C")
    )  # fmt: skip
    found = await demo.ask(
        demo.ann, "private/simulate_portfolio", currency="USDC", simulated_positions={name: 1}
    )
    plain = await demo.ask(demo.ann, "private/simulate_portfolio", currency="USDC")
    assert found["margin_balance"] == pytest.approx(plain["margin_balance"], abs=1e-2)
    assert found["initial_margin"] != plain["initial_margin"]


# Margin by the venue's open interest


async def crowded(amount: int) -> SmallMarket:
    """Ann is long and bob is short of so many BTC at 150,000: all that the venue's pools hold."""
    market = SmallMarket(index=(150_000,), deposit=30_000_000)
    await market.buy(market.ann, amount, 150_000)
    await market.sell(market.bob, amount, 150_000)
    market.close_batch()
    return market


def in_a_file(open_interest: float | None, quantity: int) -> Explanation:
    """The position in a portfolio file that gives the open interest, or leaves it at its 0."""
    given = {} if open_interest is None else {"open_interest": {"BTC": open_interest}}
    text = {
        "market": {"time": "2026-01-01T00:00:00Z", "index": {"BTC": 150_000}},
        "model_inputs": {"open-interest": given},
        "positions": [{"instrument": PERPETUAL, "quantity": quantity}],
    }
    portfolio = read_portfolio(json.dumps(text), "test")
    model = FormulaModel("open-interest", portfolio.model_inputs["open-interest"])
    return explain_formula(model, build_book(portfolio), distances=False)


async def test_margin_by_open_interest_takes_that_of_the_venue() -> None:
    """30 million USDC are a fifth of the way between the caps, 15 million below the lower one."""
    market = await crowded(200)
    found = await explained(market, model="open-interest", distances=False)
    assert found.initial_minor == in_a_file(30_000_000, 200).initial_minor
    assert found.initial_minor == 30_000_000 * 10**6 * 24 // 100, "0.05 + 0.2 x 0.95"
    assert found.maintenance_minor == in_a_file(None, 200).maintenance_minor
    assert found.initial_minor > in_a_file(None, 200).initial_minor
    quiet = await explained(await crowded(100), model="open-interest", distances=False)
    assert quiet.initial_minor == in_a_file(None, 100).initial_minor == 750_000 * 10**6


async def test_a_simulation_takes_the_open_interest_that_stands() -> None:
    market = await crowded(200)
    found = await market.ask(
        market.ann, "private/simulate_portfolio", currency="USDC", model="open-interest",
        add_positions=False, simulated_positions={PERPETUAL: -10},
    )  # fmt: skip
    assert found["total_initial_margin_usd"] == in_a_file(30_000_000, -10).initial_minor / 10**6
    assert found["total_initial_margin_usd"] == 360_000


async def test_open_interest_is_the_long_side_of_futures_and_perpetuals_of_the_underlying(
    demo: SmallMarket,
) -> None:
    """One linear BTC at the mark and 20,000 USD inverse; the option is left out, the rest is 0."""
    mark = int(demo.state.marks.mark_e8[demo.state.contracts.slot_of[PERPETUAL]])
    minor = open_interest_minor(demo.state)
    assert minor == [mark // 100 + 20_000 * 10**6, 0, 0]
    assert venue_inputs(demo.state, "open-interest") == {
        "open_interest": {"BTC": minor[0], "ETH": 0, "SOL": 0}
    }
    assert venue_inputs(demo.state, "lognormal-es") == {}
