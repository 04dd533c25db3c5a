"""Sub-accounts under Deribit's names, and the money of any pool, over the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange.gateway.memory import MemoryConnection
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard

Rows = list[dict[str, Any]]


async def with_sub_account(funded: float = 5_000) -> tuple[SmallMarket, int, MemoryConnection]:
    """Ann's market, her sub-account's number, and its own connection."""
    market = SmallMarket()
    row = await market.ask(market.ann, "private/create_subaccount", name="ann-desk")
    if funded:
        await transfer(market, funded, row["id"])
    return market, row["id"], market.hub.connect("ann-desk")


async def transfer(market: SmallMarket, amount: float, destination: int, **more: int) -> Any:
    return await market.ask(
        market.ann, "private/submit_transfer_between_subaccounts", currency="USDC", amount=amount,
        destination=destination, **more,
    )  # fmt: skip


async def pools_of(market: SmallMarket, who: MemoryConnection) -> Rows:
    found: Rows = await market.ask(who, "private/get_margin_pools")
    return found


async def test_a_new_sub_account_holds_nothing_and_says_what_it_is() -> None:
    market = SmallMarket()
    row = await market.ask(market.ann, "private/create_subaccount")
    assert (row["id"], row["type"], row["username"]) == (2, "subaccount", "ann_1")
    assert {money["balance"] for money in row["portfolio"].values()} == {0}
    again = await market.ask(market.ann, "private/create_subaccount")
    assert again["username"] == "ann_2"
    named = await market.ask(market.ann, "private/create_subaccount", name="hedges")
    assert named["username"] == "hedges"
    taken = await market.refusal(market.bob, "private/create_subaccount", name="hedges")
    assert taken["data"]["reject_reason"] == 202
    assert taken["data"]["reason"] == "there is an account 'hedges' already"
    blank = await market.refusal(market.bob, "private/create_subaccount", name="two words")
    assert (blank["code"], blank["data"]["param"]) == (-32602, "name")
    assert "1 to 64 letters, digits and signs of ASCII without spaces" in blank["data"]["reason"]
    assert "regex" not in blank["data"]["reason"]


async def test_an_owner_lists_its_accounts_and_a_sub_account_itself() -> None:
    market, desk, own = await with_sub_account()
    rows = await market.ask(market.ann, "private/get_subaccounts", with_portfolio=True)
    assert [(row["id"], row["type"]) for row in rows] == [(0, "main"), (desk, "subaccount")]
    assert [row["portfolio"]["usdc"]["balance"] for row in rows] == [995_000, 5_000]
    (itself,) = await market.ask(own, "private/get_subaccounts")
    assert itself == {k: v for k, v in rows[1].items() if k != "portfolio"}
    refused = await market.refusal(own, "private/create_subaccount")
    assert refused["code"] == 13012


async def test_details_tell_positions_and_orders_of_all_accounts() -> None:
    market, desk, own = await with_sub_account()
    await market.buy(own, 0.01, 100_000)
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch()
    order = await market.buy(market.ann, 0.02, 90_000)
    rows = await market.ask(market.ann, "private/get_subaccounts_details", currency="USDC",
                            with_open_orders=True)  # fmt: skip
    assert [row["uid"] for row in rows] == [0, desk]
    assert [[p["size"] for p in row["positions"]] for row in rows] == [[], [0.01]]
    assert [[o["order_id"] for o in row["open_orders"]] for row in rows] == [
        [order["order_id"]], [],
    ]  # fmt: skip
    (alone,) = await market.ask(own, "private/get_subaccounts_details", currency="USDC")
    assert "open_orders" not in alone


async def test_details_are_of_the_contracts_that_settle_in_the_currency() -> None:
    market = SmallMarket("demo", (100_000, 4_000, 200))
    linear = await market.buy(market.ann, 0.02, 90_000)
    inverse = await market.buy(market.ann, 100, 90_000, instrument_name="BTC-PERPETUAL")
    for currency, order in (("USDC", linear), ("BTC", inverse)):
        (row,) = await market.ask(market.ann, "private/get_subaccounts_details", currency=currency,
                                  with_open_orders=True)  # fmt: skip
        assert [o["order_id"] for o in row["open_orders"]] == [order["order_id"]]


async def test_an_owner_reads_and_moves_and_a_sub_account_does_not() -> None:
    market, desk, own = await with_sub_account()
    moved = await transfer(market, 1_000, 0, source=desk)
    assert (moved["state"], moved["amount"], moved["other_side"]) == ("confirmed", 1_000, "ann")
    to = await market.ask(market.ann, "private/submit_transfer_to_subaccount", currency="USDC",
                          amount=500, destination=desk)  # fmt: skip
    assert to["id"] > moved["id"]
    summary = await market.ask(market.ann, "private/get_account_summary", currency="USDC",
                               subaccount_id=desk, extended=True)  # fmt: skip
    assert (summary["balance"], summary["type"]) == (4_500, "subaccount")
    for method, params in (
        ("private/get_account_summary", {"currency": "USDC", "subaccount_id": 0}),
        ("private/get_positions", {"subaccount_id": 0}),
        ("private/get_account_summaries", {"subaccount_id": 99}),
        ("private/submit_transfer_to_subaccount",
         {"currency": "USDC", "amount": 1, "destination": 0}),
    ):  # fmt: skip
        assert (await market.refusal(own, method, **params))["code"] == 11042, method
    for number in (desk + 1, 77):  # the next that would be opened, and any other
        nobody = await market.refusal(market.ann, "private/submit_transfer_to_subaccount",
                                      currency="USDC", amount=1, destination=number)  # fmt: skip
        assert (nobody["code"], nobody["data"]["param"]) == (13007, "destination")


async def test_a_contract_does_not_move_to_another_account_whoever_owns_it() -> None:
    market, _, own = await with_sub_account()
    switch = {"instrument_name": PERPETUAL}
    for who, pool, words in (
        (market.ann, 12, "a sub-account's: only money moves between accounts"),
        (own, 10, "another account's"),
        (market.bob, 12, "another account's"),
    ):
        error = await market.refusal(who, "private/switch_margin_mode", **switch, pool_id=pool)
        assert (error["code"], error["data"]["reject_reason"]) == (11042, 221)
        assert error["data"]["reason"] == f"the margin pool is {words}"
    group = await market.refusal(own, "private/open_margin_pool", kind="group")
    assert group["data"]["reason"] == "a sub-account has neither sub-accounts nor a group pool"


async def test_a_transfer_that_a_position_needs_is_refused_whole() -> None:
    market, desk, own = await with_sub_account()
    await market.buy(own, 0.2, 100_000)
    await market.sell(market.bob, 0.2, 100_000)
    market.close_batch()
    before = await pools_of(market, market.ann)
    refused = await market.refusal(
        market.ann, "private/submit_transfer_between_subaccounts", currency="USDC", amount=2_000,
        destination=0, source=desk,
    )  # fmt: skip
    assert refused["code"] == 10009
    assert await pools_of(market, market.ann) == before


async def test_all_pools_of_an_owner_are_listed_with_their_margins() -> None:
    market, desk, own = await with_sub_account()
    group = await market.ask(market.ann, "private/open_margin_pool", kind="group")
    alone = await market.ask(own, "private/open_margin_pool", kind="isolated",
                             instrument_name=PERPETUAL)  # fmt: skip
    await market.ask(market.ann, "private/move_margin", from_pool_id=12,
                     to_pool_id=alone["pool_id"], currency="USDC", amount=3_000)  # fmt: skip
    await market.buy(own, 0.1, 100_000, pool_id=alone["pool_id"])
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    rows = await pools_of(market, market.ann)
    assert [(row["pool_id"], row["account_id"], row["kind"]) for row in rows] == [
        (10, 0, "cross"), (group["pool_id"], 0, "group"), (12, desk, "cross"),
        (alone["pool_id"], desk, "isolated"),
    ]  # fmt: skip
    assert [row["parent_pool_id"] for row in rows] == [13, None, 13, 12]
    assert rows[3]["initial_margin"] == 1_800
    assert rows[3]["maintenance_margin"] == 1_430
    assert 2_990 < rows[3]["equity"] < 3_000
    assert [row["pool_id"] for row in await pools_of(market, own)] == [12, alone["pool_id"]]


async def test_money_comes_into_and_leaves_any_own_pool() -> None:
    market, _, own = await with_sub_account()
    alone = await market.ask(market.ann, "private/open_margin_pool", kind="isolated",
                             instrument_name=PERPETUAL)  # fmt: skip
    pool = alone["pool_id"]
    into = await market.ask(market.ann, "private/deposit", currency="USDC", amount=70, pool_id=pool)
    assert (into["pool_id"], into["balance"]) == (pool, 70)
    out = await market.ask(market.ann, "private/withdraw", currency="USDC", amount=30,
                           pool_id=pool)  # fmt: skip
    assert out["balance"] == 40
    short = await market.refusal(market.ann, "private/withdraw", currency="USDC", amount=41,
                                 pool_id=pool)  # fmt: skip
    assert short["data"]["reject_reason"] == 213
    other = await market.refusal(own, "private/deposit", currency="USDC", amount=1, pool_id=pool)
    assert (other["code"], other["data"]["param"]) == (11042, "pool_id")
    await market.listen(own, "user.portfolio.USDC")
    heard(own)
    await market.ask(market.ann, "private/deposit", currency="USDC", amount=5, pool_id=12)
    ((_, told),) = heard(own)
    assert told["balance"] == 5_005, "whoever's money it is hears of it"


@pytest.mark.parametrize("method", ["private/explain_margin", "private/simulate_portfolio"])
async def test_any_own_pool_is_explained_and_no_other(method: str) -> None:
    market, _, own = await with_sub_account()
    await market.buy(own, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    asked: dict[str, Any] = {"pool_id": 12}
    if method.endswith("portfolio"):
        asked["currency"] = "USDC"
    found = await market.ask(market.ann, method, **asked)
    row = msgspec.to_builtins(found)
    key = "initial_minor" if "initial_minor" in row else "initial_margin"
    assert row[key] == 1_800 * (10**6 if key.endswith("minor") else 1)
    assert (await market.refusal(market.bob, method, **asked))["code"] == 11042
    asked["pool_id"] = 4_000
    assert (await market.refusal(market.ann, method, **asked))["code"] == 13020


async def test_an_order_is_margined_in_the_pool_that_it_would_fill_into() -> None:
    market, _, _ = await with_sub_account()
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    opened = await market.ask(market.ann, "private/open_margin_pool", kind="isolated",
                              instrument_name=PERPETUAL)  # fmt: skip
    ask = {"instrument_name": PERPETUAL, "amount": 0.1, "price": 100_000}
    in_cross = await market.ask(market.ann, "private/get_margins", **ask)
    apart = await market.ask(market.ann, "private/get_margins", **ask, pool_id=opened["pool_id"])
    assert in_cross["sell"] < apart["sell"], "there it closes, here it opens"
    other = await market.refusal(market.bob, "private/get_margins", **ask, pool_id=12)
    assert other["code"] == 11042
