"""Margin pools over the wire: opened, funded, traded in, summed up, closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from exchange.core.reject_reason import RejectReason as R
from exchange.venues import load_venue
from margin.presets import load_preset
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard


async def walled() -> tuple[SmallMarket, int, int]:
    """Ann's market, her cross pool, and an isolated pool with 2,000 USDC."""
    market = SmallMarket()
    opened = await market.ask(
        market.ann, "private/open_margin_pool", kind="isolated", instrument_name=PERPETUAL
    )
    (cross, alone) = (await summary(market))["pools"]
    assert alone == opened
    await move(market, cross["pool_id"], alone["pool_id"], 2_000)
    return market, cross["pool_id"], alone["pool_id"]


async def summary(market: SmallMarket) -> Any:
    return await market.ask(market.ann, "private/get_account_summary", currency="USDC")


async def move(market: SmallMarket, giver: int, taker: int, amount: float) -> Any:
    return await market.ask(
        market.ann, "private/move_margin", from_pool_id=giver, to_pool_id=taker, currency="USDC",
        amount=amount,
    )  # fmt: skip


async def test_a_summary_adds_up_its_pools() -> None:
    market, _, _ = await walled()
    found = await summary(market)
    assert [pool["kind"] for pool in found["pools"]] == ["cross", "isolated"]
    assert [pool["balances"]["USDC"] for pool in found["pools"]] == [998_000, 2_000]
    assert found["balance"] == 1_000_000
    for field, part in (("margin_balance", "equity"), ("available_funds", "available_funds"),
                        ("initial_margin", "initial_margin")):  # fmt: skip
        assert found[field] == sum(pool[part] for pool in found["pools"])
    assert found["available_withdrawal_funds"] == 998_000, "the cross pool's"


async def test_a_pool_says_what_and_whose_it_is() -> None:
    market, cross, alone = await walled()
    pool = (await summary(market))["pools"][1]
    assert (pool["pool_id"], pool["parent_pool_id"]) == (alone, cross)
    assert (pool["instrument_name"], pool["name"]) == (PERPETUAL, "")
    assert not pool["margin_call"]
    assert not pool["in_liquidation"]


async def test_a_switched_contract_shows_its_margin_mode() -> None:
    market, cross, alone = await walled()
    await market.buy(market.ann, 0.05, 100_000)
    await market.sell(market.bob, 0.05, 100_000)
    market.close_batch()
    waiting = await market.buy(market.ann, 0.01, 90_000)
    (before,) = await market.ask(market.ann, "private/get_positions")
    assert (before["margin_mode"], before["pool_id"]) == ("cross", cross)
    switched = await market.ask(
        market.ann, "private/switch_margin_mode", instrument_name=PERPETUAL, pool_id=alone
    )
    assert (switched["margin_mode"], switched["size"], switched["orders"]) == ("isolated", 0.05, 1)
    (after,) = await market.ask(market.ann, "private/get_positions")
    assert after == {**before, "margin_mode": "isolated", "pool_id": alone}
    assert await market.ask(market.ann, "private/get_position", instrument_name=PERPETUAL) == after
    (order,) = await market.ask(market.ann, "private/get_open_orders")
    assert order["order_id"] == waiting["order_id"]


async def test_an_order_may_name_its_pool_and_closing_closes_where_orders_fill() -> None:
    market, cross, alone = await walled()
    await market.buy(market.ann, 0.02, 100_000, pool_id=alone)
    await market.buy(market.ann, 0.01, 100_000)
    await market.sell(market.bob, 0.03, 100_000)
    market.close_batch()
    rows = await market.ask(market.ann, "private/get_positions")
    assert {row["pool_id"]: row["size"] for row in rows} == {cross: 0.01, alone: 0.02}
    closing = await market.ask(
        market.ann, "private/close_position", instrument_name=PERPETUAL, type="market"
    )
    assert closing["order"]["amount"] == 0.01


async def test_moves_are_told_to_those_who_watch_their_money() -> None:
    market, cross, alone = await walled()
    await market.listen(market.ann, "user.portfolio.USDC")
    heard(market.ann)
    moved = await move(market, alone, cross, 500.5)
    assert [pool["balances"]["USDC"] for pool in moved["pools"]] == [1_499.5, 998_500.5]
    ((_, told),) = heard(market.ann)
    assert told["pools"] == moved["pools"][::-1]


async def test_a_pool_closes_when_it_is_empty() -> None:
    market, cross, alone = await walled()
    error = await market.refusal(market.ann, "private/close_margin_pool", pool_id=alone)
    assert (error["code"], error["data"]["reject_reason"]) == (11050, 225)
    await move(market, alone, cross, 2_000)
    assert await market.ask(market.ann, "private/close_margin_pool", pool_id=alone) == "ok"
    assert len((await summary(market))["pools"]) == 1


@pytest.mark.parametrize(
    ("params", "code", "number", "words"),
    [
        ({"kind": "isolated"}, 13020, R.INSTRUMENT_UNKNOWN,
         "an isolated pool needs an instrument_name"),
        ({"kind": "isolated", "instrument_name": "BTC-NOWHERE"}, 13020, R.INSTRUMENT_UNKNOWN,
         "no instrument 'BTC-NOWHERE'"),
        ({"kind": "group", "instrument_name": PERPETUAL}, 11029, R.POOL_KIND_UNKNOWN,
         "only an isolated one has an instrument"),
        ({"kind": "portfolio"}, 11029, R.POOL_NAME_INVALID,
         "a portfolio pool needs a name of 1 to 32 characters"),
        ({"kind": "group", "name": "g"}, 11029, R.POOL_NAME_INVALID,
         "a pool of another kind has none"),
        ({"kind": "cross"}, -32602, None, "allowed: isolated, portfolio, group"),
        ({"kind": "portfolio", "name": "x" * 33}, -32602, None, "length <= 32"),
    ],
)  # fmt: skip
async def test_what_is_no_pool_is_refused_with_what_is_allowed(
    params: dict[str, str], code: int, number: R | None, words: str
) -> None:
    market = SmallMarket()
    refused = await market.refusal(market.ann, "private/open_margin_pool", **params)
    assert refused["code"] == code
    assert refused["data"].get("reject_reason") == number
    assert words in refused["data"]["reason"]


async def test_a_move_for_which_the_margin_is_short_says_so() -> None:
    market, cross, alone = await walled()
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    between = {"from_pool_id": alone, "to_pool_id": cross, "currency": "USDC"}

    async def refused(method: str, **params: object) -> tuple[int, int, str]:
        error = await market.refusal(market.ann, f"private/{method}", **params)
        return error["code"], error["data"]["reject_reason"], error["data"]["reason"]

    assert await refused("move_margin", **between, amount=2_001) == (
        10009, R.INSUFFICIENT_FUNDS, "more than the cash in the giving pool",
    )  # fmt: skip
    await move(market, alone, cross, 500)
    switch = {"instrument_name": PERPETUAL, "pool_id": alone}
    assert await refused("switch_margin_mode", **switch) == (
        10009, R.MARGIN_INSUFFICIENT,
        "the pool that the contract moves to would be short of its margin",
    )  # fmt: skip
    await move(market, cross, alone, 500)
    await market.ask(market.ann, "private/switch_margin_mode", **switch)
    assert await refused("move_margin", **between, amount=500) == (
        10009, R.INSUFFICIENT_FUNDS, "the rest would not cover the margin of the giving pool",
    )  # fmt: skip
    assert await refused("close_margin_pool", pool_id=cross) == (
        11029, R.POOL_KIND_UNKNOWN, "an account's cross pool cannot be closed",
    )  # fmt: skip


async def test_what_no_order_can_bring_into_a_pool_is_not_simulated_there() -> None:
    market = SmallMarket("demo", (100_000, 4_000, 200))
    alone = await market.ask(
        market.ann, "private/open_margin_pool", kind="isolated", instrument_name=PERPETUAL
    )
    group = await market.ask(market.ann, "private/open_margin_pool", kind="group")
    other = "ETH_USDC-PERPETUAL"
    for pool, name, number in (
        (alone, other, R.POOL_OF_OTHER_INSTRUMENT), (group, PERPETUAL, R.POOL_WITHOUT_POSITIONS),
    ):  # fmt: skip
        asked = {"currency": "USDC", "pool_id": pool["pool_id"]}
        real = await market.refusal(market.ann, "private/buy", instrument_name=name, amount=1,
                                    price=1_000, pool_id=pool["pool_id"])  # fmt: skip
        for add in (True, False):
            simulated = await market.refusal(
                market.ann, "private/simulate_portfolio", **asked, add_positions=add,
                simulated_positions={name: 1},
            )  # fmt: skip
            assert simulated["code"] == real["code"]
            data = simulated["data"]
            assert data["reject_reason"] == real["data"]["reject_reason"] == number
            assert data["reason"] == f"{name}: {real['data']['reason']}"
            assert data["param"] == "simulated_positions"
        nothing = await market.ask(
            market.ann, "private/simulate_portfolio", **asked, simulated_positions={name: 0}
        )
        assert nothing["positions"] == {}
    found = await market.ask(
        market.ann, "private/simulate_portfolio", currency="USDC", pool_id=alone["pool_id"],
        simulated_positions={PERPETUAL: 1},
    )  # fmt: skip
    assert found["positions"] == {PERPETUAL: 1}


async def test_nobody_moves_what_is_another_s() -> None:
    market, cross, alone = await walled()
    refused = await market.refusal(
        market.bob, "private/move_margin", from_pool_id=alone, to_pool_id=11, currency="USDC",
        amount=1,
    )  # fmt: skip
    assert refused["code"] == 11042
    refused = await market.refusal(market.bob, "private/buy", instrument_name=PERPETUAL,
                                   amount=0.01, price=90_000, pool_id=cross)  # fmt: skip
    assert refused["code"] == 11042


async def test_a_call_names_its_pool_and_leaves_the_others_alone() -> None:
    market, _, alone = await walled()
    await market.buy(market.ann, 0.1, 100_000, pool_id=alone)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    price = 100_000
    calls: list[Any] = []
    while not calls:
        price -= 250
        market.close_batch(price)
        calls = await market.ask(market.ann, "private/get_margin_calls")
    assert [(call["pool_id"], call["outcome"]) for call in calls] == [(alone, "standing")]
    assert [pool["margin_call"] for pool in (await summary(market))["pools"]] == [False, True]


async def test_a_pool_that_is_short_takes_nothing_off_what_another_has_to_spare() -> None:
    market, _, _ = await walled()
    (_, alone) = (await summary(market))["pools"]
    await market.buy(market.ann, 0.1, 100_000, pool_id=alone["pool_id"])
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    market.close_batch(97_500)
    found = await summary(market)
    cross, alone = found["pools"]
    assert alone["equity"] < alone["initial_margin"]
    assert alone["available_funds"] == 0
    assert found["available_funds"] == cross["available_funds"] == 998_000


async def test_a_pool_in_liquidation_says_so() -> None:
    market, _, alone = await walled()
    await market.buy(market.ann, 0.1, 100_000, pool_id=alone)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    market.close_batch(93_000)
    pools = (await summary(market))["pools"]
    assert [(pool["in_liquidation"], pool["margin_call"]) for pool in pools] == [
        (False, False), (True, False),
    ]  # fmt: skip


async def offset_pair() -> SmallMarket:
    """Ann is long of BTC and short of ETH under a model that offsets the one with the other."""
    preset = load_preset("ps-1-dynamic")
    venue = msgspec.structs.replace(load_venue("demo"), preset=preset)
    market = SmallMarket(venue, (100_000, 4_000, 200))
    for name, buyer, seller, amount, price in (
        (PERPETUAL, market.ann, market.bob, 1, 100_000),
        ("ETH_USDC-PERPETUAL", market.bob, market.ann, 20, 4_000),
    ):
        await market.buy(buyer, amount, price, instrument_name=name)
        await market.sell(seller, amount, price, instrument_name=name)
    market.close_batch()
    return market


async def with_an_order() -> SmallMarket:
    """Ann bids for a coin, which will cost a fee."""
    market = SmallMarket()
    await market.buy(market.ann, 1, 100_000)
    return market


@pytest.mark.parametrize("story", [offset_pair, with_an_order])
async def test_what_is_said_to_be_free_can_leave_and_no_unit_more(
    story: Callable[[], Awaitable[SmallMarket]],
) -> None:
    market = await story()
    free = (await summary(market))["available_withdrawal_funds"]
    ask = {"currency": "USDC"}
    more = await market.refusal(market.ann, "private/withdraw", **ask, amount=round(free + 1e-6, 6))
    assert more["code"] == 10009
    await market.ask(market.ann, "private/withdraw", **ask, amount=free)
    assert (await summary(market))["available_withdrawal_funds"] == 0
