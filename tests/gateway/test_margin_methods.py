"""Margin asked for over the wire: it is the account's own, it is a copy, it changes nothing."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from exchange.clock import SimulatedClock
from exchange.core.commands import UnderlyingMark
from exchange.gateway.rate_limit import RateLimit
from margin.presets import preset_names
from margin.reasons.explain import OPEN_ORDERS, STALE_INDEX
from tests.gateway.margin_market import INVERSE, demo_market, explained, option_of, summary
from tests.gateway.small_market import PERPETUAL, SmallMarket

MARGINS = ("initial_margin", "maintenance_margin", "margin_balance", "available_funds")
METHODS = (
    ("private/get_margins", {"instrument_name": PERPETUAL, "amount": 0.1, "price": 117_000}),
    ("private/simulate_portfolio", {"currency": "USDC", "simulated_positions": {PERPETUAL: 1}}),
    ("private/explain_margin", {}),
)


@pytest.fixture
async def demo() -> SmallMarket:
    return await demo_market()


# The account's own figures


@pytest.mark.parametrize("currency", ["USDC", "BTC", "ETH"])
async def test_without_other_positions_a_simulation_is_the_summary(
    demo: SmallMarket, currency: str
) -> None:
    found = await demo.ask(demo.ann, "private/simulate_portfolio", currency=currency)
    account = await summary(demo, currency)
    assert {name: found[name] for name in MARGINS} == {name: account[name] for name in MARGINS}
    for name in ("margin_balance", "initial_margin", "maintenance_margin"):
        assert found[f"total_{name}_usd"] == account[f"total_{name}_usd"]
    held = await demo.ask(demo.ann, "private/get_positions")
    assert found["positions"] == {row["instrument_name"]: row["size"] for row in held}
    assert found["open_orders_margin"] > 0
    assert (found["model"], found["add_positions"]) == ("ps-1", True)


async def test_an_explanation_is_the_summary_taken_apart(demo: SmallMarket) -> None:
    found, account = await explained(demo), await summary(demo)
    assert found.initial_minor / 10**6 == account["initial_margin"]
    assert found.maintenance_minor / 10**6 == account["maintenance_margin"]
    assert found.equity_minor / 10**6 == account["margin_balance"]
    pool = demo.state.accounts.pool_of[0]
    assert found.call_initial_minor == demo.engine.risk.initial[pool]
    assert [c.name for c in found.charges][-1] == OPEN_ORDERS
    assert {part.name for unit in found.units for part in unit.positions} == {
        PERPETUAL, INVERSE, option_of(demo), "BTC",
    }  # fmt: skip
    worst = demo.engine.risk.worst.worst_scenario[pool]
    at = [None if unit.worst is None else unit.worst.scenario for unit in found.units]
    assert at == [int(worst[0])]
    assert found.units[0].distance is not None
    assert (await explained(demo, distances=False)).units[0].distance is None


async def test_a_simulated_position_is_what_the_trade_then_makes(demo: SmallMarket) -> None:
    sizes = {PERPETUAL: 0.5, INVERSE: -1_000, "ETH_USDC-PERPETUAL": -2}
    simulated = await demo.ask(
        demo.ann, "private/simulate_portfolio", currency="USDC", simulated_positions=sizes
    )
    for name, size in sizes.items():
        buyer, seller = (demo.ann, demo.bob) if size > 0 else (demo.bob, demo.ann)
        price = 4_100 if name.startswith("ETH") else 117_000
        await demo.buy(buyer, abs(size), price, instrument_name=name)
        await demo.sell(seller, abs(size), price, instrument_name=name)
    demo.close_batch()
    account = await summary(demo)
    for name in ("initial_margin", "maintenance_margin"):
        # fees in coin and five seconds less to the option's expiry make the difference
        assert simulated[name] == pytest.approx(account[name], rel=1e-6)
    assert simulated["positions"][PERPETUAL] == 1.5


async def test_where_nothing_else_moves_a_simulation_is_exact() -> None:
    market = SmallMarket()
    simulated = await market.ask(
        market.ann, "private/simulate_portfolio", currency="USDC",
        simulated_positions={PERPETUAL: -0.7},
    )  # fmt: skip
    await market.buy(market.bob, 0.7, 100_000)
    await market.sell(market.ann, 0.7, 100_000)
    market.close_batch()
    account = await summary(market)
    for name in ("initial_margin", "maintenance_margin"):
        assert simulated[name] == account[name] > 0


async def test_positions_may_be_simulated_in_place_of_those_held(demo: SmallMarket) -> None:
    params = {"currency": "USDC", "add_positions": False}
    alone = await demo.ask(demo.ann, "private/simulate_portfolio", **params,
                           simulated_positions=json.dumps({PERPETUAL: -1}))  # fmt: skip
    assert alone["positions"] == {PERPETUAL: -1.0}
    (worst,) = alone["worst_scenarios"]
    assert (worst["underlying"], worst["scenario"]) == ("BTC", "spot +16 %, volatility down")
    assert worst["loss"] == pytest.approx(0.75 * 117_000 * 0.16, rel=1e-4), "coins hedge a quarter"
    flat = await demo.ask(demo.ann, "private/simulate_portfolio", **params)
    assert flat["positions"] == {}
    assert flat["margin_balance"] == pytest.approx((await summary(demo))["margin_balance"])


@pytest.mark.parametrize("model", preset_names())
async def test_another_model_may_be_asked(demo: SmallMarket, model: str) -> None:
    found = await explained(demo, model=model)
    simulated = await demo.ask(demo.ann, "private/simulate_portfolio", currency="USDC", model=model)
    assert found.model == simulated["model"] == model
    assert simulated["initial_margin"] == pytest.approx(found.initial_minor / 10**6, abs=1e-4)


async def test_a_simulation_beyond_the_funds_leaves_none_available() -> None:
    market = SmallMarket(deposit=1_000)
    found = await market.ask(
        market.ann, "private/simulate_portfolio", currency="USDC",
        simulated_positions={PERPETUAL: 1},
    )  # fmt: skip
    assert found["initial_margin"] > found["margin_balance"] == 1_000
    assert found["available_funds"] == 0


async def test_what_is_held_counts_toward_the_largest_position_simulated() -> None:
    market = SmallMarket()
    await market.buy(market.ann, 0.001, 100_000)
    await market.sell(market.bob, 0.001, 100_000)
    market.close_batch()
    most = market.state.contracts.lots_max[0] * market.state.contracts.specs[0].lot_e8 / 10**8
    ask = {"currency": "USDC", "simulated_positions": {PERPETUAL: most}}
    beyond = await market.refusal(market.ann, "private/simulate_portfolio", **ask)
    assert beyond["code"] == 10018
    instead = await market.ask(market.ann, "private/simulate_portfolio", **ask, add_positions=False)
    assert instead["positions"] == {PERPETUAL: most}


# An order's margin


@pytest.mark.parametrize("name", [PERPETUAL, INVERSE])
@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("price", [113_000, 117_000, 118_000.5])
async def test_an_order_adds_what_get_margins_said(
    demo: SmallMarket, name: str, side: str, price: float
) -> None:
    amount = 0.4 if name == PERPETUAL else 40_000
    said = await demo.ask(
        demo.ann, "private/get_margins", instrument_name=name, amount=amount, price=price
    )
    currency = "USDC" if name == PERPETUAL else "BTC"
    before = await summary(demo, currency)
    await demo.order(side, demo.ann, amount, price, instrument_name=name)
    after = await summary(demo, currency)
    added = after["initial_margin"] - before["initial_margin"]
    assert said[side] == pytest.approx(added, abs=1e-9)
    assert said["buy"] + said["sell"] > 0


async def test_the_price_bounds_are_those_of_the_ticker(demo: SmallMarket) -> None:
    said = await demo.ask(demo.ann, "private/get_margins", instrument_name=PERPETUAL, amount=1,
                          price=117_000)  # fmt: skip
    ticker = await demo.ask(demo.ann, "public/ticker", instrument_name=PERPETUAL)
    assert (said["min_price"], said["max_price"]) == (ticker["min_price"], ticker["max_price"])


async def test_no_price_bound_is_above_the_highest_price_there_may_be() -> None:
    market = SmallMarket()
    spec = market.state.contracts.specs[0]
    highest = market.state.contracts.price_max[0] * spec.tick_e8 / 10**8
    market.close_batch(int(highest))
    said = await market.ask(market.ann, "private/get_margins", instrument_name=PERPETUAL,
                            amount=0.001, price=highest)  # fmt: skip
    assert said["min_price"] < said["max_price"] == highest


async def test_the_largest_order_may_be_asked_about_and_none_beyond() -> None:
    market = SmallMarket()
    most = market.state.contracts.lots_max[0]
    lot = market.state.contracts.specs[0].lot_e8 / 10**8
    ask = {"instrument_name": PERPETUAL, "price": 100_000}
    said = await market.ask(market.ann, "private/get_margins", **ask, amount=most * lot)
    assert said["buy"] == pytest.approx(most * lot * 100_000 * 0.18)
    beyond = await market.refusal(market.ann, "private/get_margins", **ask, amount=(most + 1) * lot)
    assert (beyond["code"], beyond["data"]["param"]) == (10021, "amount")


async def test_a_venue_without_a_risk_gate_still_says_what_an_order_would_need() -> None:
    market = SmallMarket()
    plain = await market.ask(market.ann, *METHODS[0][:1], **{**METHODS[0][1], "price": 100_000})
    market.engine.state.venue = msgspec.structs.replace(market.venue, risk_gate=False)
    again = await market.ask(market.ann, *METHODS[0][:1], **{**METHODS[0][1], "price": 100_000})
    assert again == plain
    assert plain["buy"] == 0.1 * 100_000 * 0.18


# Nothing changes


@pytest.mark.parametrize(("method", "params"), METHODS, ids=[name for name, _ in METHODS])
async def test_asking_changes_nothing(
    demo: SmallMarket, method: str, params: dict[str, object]
) -> None:
    engine = demo.engine
    pool = engine.state.accounts.pool_of[0]
    before = engine.state_hash(), int(engine.risk.initial[pool]), list(engine.gate.reserved)
    first = await demo.ask(demo.ann, method, **params)
    assert await demo.ask(demo.ann, method, **params) == first
    after = engine.state_hash(), int(engine.risk.initial[pool]), list(engine.gate.reserved)
    assert after == before


@pytest.mark.parametrize(("method", "params"), METHODS[1:], ids=[name for name, _ in METHODS[1:]])
async def test_a_thread_answers_from_the_copy_that_was_taken(
    demo: SmallMarket, method: str, params: dict[str, object]
) -> None:
    at_once = await demo.ask(demo.ann, method, **params)
    with ThreadPoolExecutor(1) as executor:
        demo.dispatcher.margins.executor = executor
        waiting = [asyncio.ensure_future(demo.ann.request(method, params)) for _ in range(4)]
        await asyncio.sleep(0)
        demo.close_batch(90_000, 3_000, 150)  # while they are computed, the market falls
        answers = [(await task)["result"] for task in waiting]
        assert answers == [at_once] * 4
        demo.dispatcher.margins.executor = None
    assert await demo.ask(demo.ann, method, **params) != at_once


async def test_a_stale_index_is_a_charge_of_its_own() -> None:
    market = SmallMarket()
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    fresh = await explained(market)
    plain = market.marks

    def stale() -> Any:
        marks = plain()
        age = market.venue.index.stale_after_ns + 1
        old = tuple(UnderlyingMark(m.index_e8, age, 10**9, ()) for m in marks.underlyings)
        return msgspec.structs.replace(marks, underlyings=old)

    market.marks = stale  # type: ignore[method-assign]
    market.close_batch()
    found = await explained(market)
    assert found.charges[-1].name == STALE_INDEX
    extra = 10_000 * 10**6 * market.venue.index.stale_initial_extra_ppb // 10**9
    assert found.charges[-1].initial_minor == found.initial_minor - fresh.initial_minor == extra
    assert found.initial_minor / 10**6 == (await summary(market))["initial_margin"]


# What is refused


@pytest.mark.parametrize(
    ("method", "params", "code", "param"),
    [
        ("get_margins", {"instrument_name": "X", "amount": 1, "price": 1}, 13020,
         "instrument_name"),
        ("get_margins", {"instrument_name": PERPETUAL, "amount": 0, "price": 1}, 10002, "amount"),
        ("get_margins", {"instrument_name": PERPETUAL, "amount": 1e-7, "price": 1}, 10021,
         "amount"),
        ("get_margins", {"instrument_name": PERPETUAL, "amount": 1e9, "price": 1}, 10021, "amount"),
        ("get_margins", {"instrument_name": PERPETUAL, "amount": 1, "price": 0.3}, 10043, "price"),
        ("get_margins", {"instrument_name": PERPETUAL, "amount": 1, "price": 1e9}, 10007, "price"),
        ("get_margins", {"instrument_name": PERPETUAL, "amount": 1}, -32602, "price"),
        ("simulate_portfolio", {"currency": "XYZ"}, 11029, "currency"),
        ("simulate_portfolio", {}, -32602, "currency"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": {"X": 1}}, 13020,
         "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": '{"X": 1}'}, 13020,
         "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": {PERPETUAL: 1e-7}},
         10021, "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": {PERPETUAL: 1e9}},
         10018, "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": {PERPETUAL: "x"}},
         -32602, "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": "{"}, -32602,
         "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": '{"A":1,"A":2}'},
         -32602, "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "simulated_positions": [1]}, -32602,
         "simulated_positions"),
        ("simulate_portfolio", {"currency": "USDC", "model": "none"}, 11029, "model"),
        ("explain_margin", {"model": "../ps-1"}, 11029, "model"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_refused(
    method: str, params: dict[str, object], code: int, param: str
) -> None:
    market = SmallMarket()
    error = await market.refusal(market.ann, f"private/{method}", **params)
    assert (error["code"], error["data"].get("param")) == (code, param)


async def test_a_reader_may_ask_and_strangers_may_not() -> None:
    market = SmallMarket()
    reader = market.hub.connect("ann", scopes=frozenset({"read"}))
    stranger = market.hub.connect(None)
    for method, params in METHODS:
        params = {name: 100_000 if name == "price" else value for name, value in params.items()}
        assert await market.ask(reader, method, **params)
        assert (await market.refusal(stranger, method, **params))["code"] == 13009


async def test_asking_costs_request_credits() -> None:
    market = SmallMarket()
    market.dispatcher.limits = RateLimit(SimulatedClock(0))
    answers = [await market.answer(market.ann, "private/explain_margin") for _ in range(101)]
    assert ["error" in answer for answer in answers] == [False] * 100 + [True]
    assert answers[-1]["error"]["code"] == 10028
