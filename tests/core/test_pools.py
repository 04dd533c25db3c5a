"""Pools with parents: what may be opened, what moves between them, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange.core import limits
from exchange.core.commands import (
    ClosePool,
    Deposit,
    MoveMargin,
    OpenAccount,
    OpenPool,
    SwitchMode,
)
from exchange.core.engine import Engine
from exchange.core.events import MarginMoved
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import NO_POOL, PoolKind
from exchange.core.stored.orders import POOL
from margin.presets import load_preset
from tests.core.market import (
    BUY,
    E8,
    LINEAR_BTC,
    LINEAR_ETH,
    SELL,
    USDC,
    Market,
    only,
    small,
)
from tests.core.pools import MINOR, Both, equity, isolated, opened, two

R = RejectReason


@pytest.fixture
def both() -> Both:
    return two()


def test_a_pool_knows_its_owner_its_kind_and_its_parent(both: Both) -> None:
    market, ann, _ = both
    accounts, cross = market.state.accounts, market.pool(ann)
    alone = isolated(market, ann)
    carry = opened(market, ann, PoolKind.PORTFOLIO, name="carry")
    assert accounts.pools_of(ann) == [cross, alone, carry]
    assert [accounts.kind_of(pool).name for pool in (0, cross, alone, carry)] == [
        "HOUSE", "CROSS", "ISOLATED", "PORTFOLIO",
    ]  # fmt: skip
    assert [accounts.parent_of(pool) for pool in (0, cross, alone, carry)] == [
        NO_POOL, NO_POOL, cross, cross,
    ]  # fmt: skip
    group = opened(market, ann, PoolKind.GROUP)
    assert accounts.parent_of(cross) == group
    assert accounts.parent_of(alone) == cross, "the wall of a group is around cross pools"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((9, PoolKind.ISOLATED, 0), R.ACCOUNT_UNKNOWN),
        ((0, 9, 0), R.POOL_KIND_UNKNOWN),
        ((0, PoolKind.CROSS), R.POOL_KIND_UNKNOWN),
        ((0, PoolKind.HOUSE), R.POOL_KIND_UNKNOWN),
        ((0, PoolKind.ISOLATED), R.INSTRUMENT_UNKNOWN),
        ((0, PoolKind.ISOLATED, 99), R.INSTRUMENT_UNKNOWN),
        ((0, PoolKind.ISOLATED, 0, "carry"), R.POOL_NAME_INVALID),
        ((0, PoolKind.PORTFOLIO, 0, "carry"), R.POOL_KIND_UNKNOWN),
        ((0, PoolKind.PORTFOLIO, -1, ""), R.POOL_NAME_INVALID),
        ((0, PoolKind.PORTFOLIO, -1, "x" * 33), R.POOL_NAME_INVALID),
        ((0, PoolKind.ISOLATED, 0, "x" * 33), R.POOL_NAME_INVALID),
    ],
)
def test_what_is_no_pool_is_not_opened(both: Both, fields: tuple[Any, ...], reason: R) -> None:
    assert both[0].refused(OpenPool, *fields) == reason


def test_one_isolated_pool_a_contract_and_one_portfolio_a_name(both: Both) -> None:
    market, ann, bob = both
    isolated(market, ann)
    opened(market, ann, PoolKind.PORTFOLIO, name="carry")
    assert market.refused(OpenPool, ann, PoolKind.ISOLATED, LINEAR_BTC) == R.POOL_EXISTS
    assert market.refused(OpenPool, ann, PoolKind.PORTFOLIO, -1, "carry") == R.POOL_EXISTS
    isolated(market, bob)


def test_an_owner_has_only_as_many_wide_pools_as_a_concentration_can_measure(both: Both) -> None:
    market, ann, _ = both
    for number in range(limits.WIDE_POOLS_PER_OWNER_MAX - 1):
        opened(market, ann, PoolKind.PORTFOLIO, name=f"{number}")
    assert market.refused(OpenPool, ann, PoolKind.PORTFOLIO, -1, "more") == R.TOO_MANY_POOLS
    assert market.refused(OpenAccount, "ann's", "", ann) == R.TOO_MANY_POOLS
    isolated(market, ann)


def test_an_owner_has_only_so_many_isolated_pools_over_all_its_accounts(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ISOLATED_POOLS_PER_OWNER_MAX", 2)
    market, ann, bob = both
    market.do(OpenAccount, "ann's", "", ann)
    isolated(market, ann)
    closed = isolated(market, 2)
    refused = market.refused(OpenPool, ann, PoolKind.ISOLATED, LINEAR_ETH)
    assert refused == R.TOO_MANY_POOLS
    isolated(market, bob)
    market.do(ClosePool, 2, closed)
    isolated(market, ann, LINEAR_ETH)


def test_margin_moves_to_the_unit_and_counts_at_once(both: Both) -> None:
    market, ann, _ = both
    alone, cross = isolated(market, ann), market.pool(ann)
    assert only(market.do(MoveMargin, ann, cross, alone, USDC, 7), MarginMoved).amount_minor == 7
    assert (equity(market, alone), equity(market, cross)) == (7, 10**12 - 7)
    market.do(MoveMargin, ann, alone, cross, USDC, 7)
    assert (equity(market, alone), equity(market, cross)) == (0, 10**12)


def test_margin_that_is_not_there_or_not_one_s_own_is_not_moved(both: Both) -> None:
    market, ann, bob = both
    alone, cross = isolated(market, ann), market.pool(ann)
    refused = {
        (9, cross, alone, 0, 5): R.ACCOUNT_UNKNOWN,
        (ann, cross, 99, 0, 5): R.POOL_UNKNOWN,
        (ann, 5, cross, 0, 5): R.POOL_UNKNOWN,
        (ann, cross, market.pool(bob), 0, 5): R.POOL_NOT_OWNED,
        (bob, alone, market.pool(bob), 0, 5): R.POOL_NOT_OWNED,
        (ann, cross, cross, 0, 5): R.POOLS_EQUAL,
        (ann, cross, alone, 9, 5): R.CURRENCY_UNKNOWN,
        (ann, cross, alone, 0, 0): R.AMOUNT_NOT_POSITIVE,
        (ann, cross, alone, 0, 2**53): R.AMOUNT_TOO_LARGE,
        (ann, cross, alone, 0, 10**12 + 1): R.INSUFFICIENT_FUNDS,
        (ann, cross, alone, 1, 1): R.INSUFFICIENT_FUNDS,
    }
    assert {fields: market.refused(MoveMargin, *fields) for fields in refused} == refused


def test_no_pool_comes_to_hold_more_of_a_currency_than_a_deposit_may_bring(both: Both) -> None:
    market, ann, _ = both
    alone, cross = isolated(market, ann), market.pool(ann)
    for _ in range(limits.BALANCE_MINOR_MAX // 2 // limits.TRANSFER_MINOR_MAX):
        market.do(Deposit, ann, USDC, limits.TRANSFER_MINOR_MAX, alone)
    assert market.refused(Deposit, ann, USDC, 1, alone) == R.AMOUNT_TOO_LARGE
    assert market.refused(MoveMargin, ann, cross, alone, USDC, 1) == R.AMOUNT_TOO_LARGE
    market.do(MoveMargin, ann, alone, cross, USDC, 1)
    market.do(MoveMargin, ann, cross, alone, USDC, 1)


def liquidated(market: Market, ann: int, bob: int) -> int:
    """An isolated pool of `ann` whose case is open, with more money since than it needs."""
    alone = isolated(market, ann, usdc=20_000)
    market.place(ann, BUY, 1_000, 200_000, pool=alone)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    market.cycle(93_000)
    assert market.state.accounts.in_liquidation(alone)
    market.do(Deposit, ann, USDC, 100_000 * MINOR, alone)
    return alone


def test_nothing_leaves_or_joins_a_pool_in_liquidation_but_margin_may_come(both: Both) -> None:
    """Not even where the pool has come to hold more than it needs."""
    market, ann, bob = both
    alone, cross = liquidated(market, ann, bob), market.pool(ann)
    assert market.engine.gate.room(alone) > 50_000 * MINOR
    reason = market.refused(MoveMargin, ann, alone, cross, USDC, 1)
    assert reason == R.ACCOUNT_IN_LIQUIDATION
    market.do(MoveMargin, ann, cross, alone, USDC, 1)
    assert market.refused(SwitchMode, ann, LINEAR_BTC, alone) == R.ACCOUNT_IN_LIQUIDATION
    market.do(SwitchMode, bob, LINEAR_BTC, isolated(market, bob, usdc=100_000))


def test_a_contract_does_not_leave_a_pool_in_liquidation(both: Both) -> None:
    market, ann, bob = both
    pool = opened(market, ann, PoolKind.PORTFOLIO, name="desk", usdc=20_000)
    market.do(SwitchMode, ann, LINEAR_BTC, pool)
    market.place(ann, BUY, 1_000, 200_000)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    market.cycle(93_000)
    assert market.state.accounts.in_liquidation(pool)
    market.do(Deposit, ann, USDC, 100_000 * MINOR, pool)
    cross = market.pool(ann)
    assert market.refused(SwitchMode, ann, LINEAR_BTC, cross) == R.ACCOUNT_IN_LIQUIDATION


def test_the_giver_of_margin_stays_covered_with_its_orders(both: Both) -> None:
    market, ann, _ = both
    alone, cross = isolated(market, ann), market.pool(ann)
    market.place(ann, BUY, 1_000, 200_000)
    spare = market.engine.gate.room(cross)
    assert 0 < spare < 10**12
    move = (ann, cross, alone, USDC)
    assert market.refused(MoveMargin, *move, spare + 1) == R.INSUFFICIENT_FUNDS
    market.do(MoveMargin, *move, spare)
    assert market.engine.gate.room(cross) == 0


def test_a_coin_that_costs_the_receiver_more_than_it_brings_is_not_moved() -> None:
    preset = load_preset("ps-1")
    worth_little = tuple(
        msgspec.structs.replace(row, rate_e9=950_000_000) if row.name == "BTC" else row
        for row in preset.haircut
    )
    market = Market(
        small(preset=msgspec.structs.replace(preset, haircut=worth_little, collateral_size=()))
    )
    ann, bob = market.account("ann", BTC=E8), market.account("bob")
    alone, cross = isolated(market, ann, usdc=20_000), market.pool(ann)
    market.place(ann, BUY, 1_000, 200_000, pool=alone)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    assert 0 < market.engine.gate.room(alone) < 5_000 * MINOR
    assert market.refused(MoveMargin, ann, cross, alone, 1, E8) == R.MARGIN_INSUFFICIENT
    assert market.said == "the receiving pool would be short of its margin"


def test_a_short_pool_may_receive_less_than_it_lacks(both: Both) -> None:
    market, ann, bob = both
    alone, cross = isolated(market, ann, usdc=20_000), market.pool(ann)
    market.place(ann, BUY, 1_000, 200_000, pool=alone)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    market.cycle(95_500)
    assert market.engine.gate.room(alone) < -MINOR
    market.do(MoveMargin, ann, cross, alone, USDC, MINOR)


def test_only_an_empty_pool_closes_and_its_contract_fills_into_the_cross_pool_again(
    both: Both,
) -> None:
    market, ann, bob = both
    alone, cross = isolated(market, ann, usdc=10_000), market.pool(ann)
    assert market.refused(ClosePool, ann, alone) == R.POOL_NOT_EMPTY, "money"
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    order = market.place(ann, BUY, 1, 190_000)
    market.cancel(ann, order)
    market.do(MoveMargin, ann, alone, cross, USDC, 10_000 * MINOR)
    assert market.refused(ClosePool, bob, alone) == R.POOL_NOT_OWNED
    assert market.refused(ClosePool, ann, cross) == R.POOL_KIND_UNKNOWN
    assert market.refused(ClosePool, ann, 99) == R.POOL_UNKNOWN
    market.do(ClosePool, ann, alone)
    assert market.refused(ClosePool, ann, alone) == R.POOL_UNKNOWN
    row = market.state.orders.find(market.place(ann, BUY, 1, 190_000))
    assert row is not None
    assert row[POOL] == cross


def test_a_pool_stays_open_until_its_margin_call_has_ended(both: Both) -> None:
    """Its position and its money have left; the call is cured in the next cycle."""
    market, ann, bob = both
    desk = opened(market, ann, PoolKind.PORTFOLIO, name="desk", usdc=20_000)
    market.do(SwitchMode, ann, LINEAR_BTC, desk)
    market.place(ann, BUY, 1_000, 200_000)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    market.cycle(97_000)
    assert desk in market.state.accounts.calls
    market.do(SwitchMode, ann, LINEAR_BTC, market.pool(ann))
    left = market.state.ledger.balance(desk, USDC)
    market.do(MoveMargin, ann, desk, market.pool(ann), USDC, left)
    assert market.refused(ClosePool, ann, desk) == R.POOL_NOT_EMPTY
    market.cycle()
    assert market.state.accounts.calls == {}
    market.do(ClosePool, ann, desk)


def test_the_number_of_a_closed_pool_is_used_again_by_its_account_only(both: Both) -> None:
    market, ann, bob = both
    alone = isolated(market, ann)
    market.do(ClosePool, ann, alone)
    assert isolated(market, bob) == alone + 1
    assert opened(market, ann, PoolKind.PORTFOLIO, name="carry") == alone
    assert market.state.accounts.kind_of(alone) == PoolKind.PORTFOLIO


def test_a_snapshot_keeps_pools_and_modes(both: Both) -> None:
    market, ann, bob = both
    alone = isolated(market, ann, usdc=10_000)
    closed, group = isolated(market, bob), opened(market, ann, PoolKind.GROUP)
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    market.do(ClosePool, bob, closed)
    market.do(OpenAccount, "ann's", "", ann)
    again = Engine.restore(market.engine.snapshot())
    assert again.state_hash() == market.engine.state_hash()
    layers = again.state.accounts.layers
    assert layers.modes == {(ann, LINEAR_BTC): alone}
    assert layers.group_of == {ann: group}
    assert layers.accounts_of(ann) == [ann, 2]
    assert again.state.accounts.pools_of(bob) == [market.pool(bob)]


def test_a_group_that_was_closed_is_none_after_a_restore_either(both: Both) -> None:
    market, ann, _ = both
    group = opened(market, ann, PoolKind.GROUP)
    market.do(ClosePool, ann, group)
    restored = Engine.restore(market.engine.snapshot()).state.accounts
    assert restored.layers.group_of == market.state.accounts.layers.group_of == {}
    assert restored.parent_of(market.pool(ann)) == NO_POOL


def test_a_group_is_found_again_after_a_restore_though_an_earlier_one_was_closed(
    both: Both,
) -> None:
    """The first pool that was closed lends its number to the new group, the old group's stays."""
    market, ann, _ = both
    alone = isolated(market, ann)
    market.do(ClosePool, ann, opened(market, ann, PoolKind.GROUP))
    market.do(ClosePool, ann, alone)
    group = opened(market, ann, PoolKind.GROUP)
    assert group == alone
    restored = Engine.restore(market.engine.snapshot()).state.accounts
    assert restored.layers.group_of == market.state.accounts.layers.group_of == {ann: group}


def test_money_moves_between_pools_before_the_market_opens() -> None:
    market = Market(small(), opened=False)
    ann = market.account("ann", 5)
    alone = isolated(market, ann, usdc=5)
    assert market.refused(MoveMargin, ann, market.pool(ann), alone, 0, 1) == R.INSUFFICIENT_FUNDS
    market.do(SwitchMode, ann, LINEAR_BTC, alone)
    market.cycle()
    assert equity(market, alone) == 5 * MINOR
