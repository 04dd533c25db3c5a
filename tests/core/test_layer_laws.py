"""Laws of pools in layers: walls hold, money is conserved, collateral is one owner's together."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from exchange.core.commands import Deposit, MoveMargin, OpenAccount, SwitchMode, Withdraw
from exchange.core.engine import Engine
from exchange.core.events import AccountOpened
from exchange.core.pools.pool_moves import OTHER_IS_SHORT
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.ledger import HOUSE_POOLS
from margin.presets import load_preset
from margin.presets.collateral_sections import CollateralSize, CollateralTier
from margin.presets.preset import Preset
from tests.core.market import BUY, LINEAR_BTC, SELL, USDC, Market, changed, only, small
from tests.core.pools import MINOR, equity, isolated, opened

R = RejectReason
BTC, COIN = 1, 10**8
INDEX = 100_000  # of the small market's BTC
INVERSE_CALL_SLOT = 7
SMALL_TIERS = CollateralSize(
    currency="BTC",
    tiers=(
        CollateralTier(above_usdc=2 * INDEX, haircut_ppb=100_000_000),
        CollateralTier(above_usdc=4 * INDEX, haircut_ppb=500_000_000),
    ),
    limit_usdc=6 * INDEX,
)


def sized_preset(*sizes: CollateralSize) -> Preset:
    return msgspec.structs.replace(load_preset("ps-1"), collateral_size=sizes)


def sized(expiry_after_s: int = 3600) -> Market:
    """The small market, where BTC beyond two coins of an owner counts for less."""
    venue = small(expiry_after_s)
    return Market(changed(venue, preset=sized_preset(SMALL_TIERS)))


def sub_account(market: Market, parent: int, name: str) -> int:
    return only(market.do(OpenAccount, name, parent=parent), AccountOpened).account


def credit(market: Market, *pools: int) -> int:
    """Equity of some pools in whole USDC."""
    return sum(equity(market, pool) for pool in pools) // MINOR


def room(market: Market, pool: int) -> int:
    """Equity beyond initial margin."""
    return equity(market, pool) - int(market.engine.risk.initial[pool])


def assert_as_in_a_whole_pass(market: Market) -> None:
    """Equity of all accounts' pools is that of an engine restored from a snapshot."""
    restored = Engine.restore(market.engine.snapshot()).risk.equity[HOUSE_POOLS:].tolist()
    assert market.engine.risk.equity[HOUSE_POOLS:].tolist() == restored


def test_a_coin_beyond_the_tier_counts_for_less() -> None:
    market = sized()
    ann = market.account("ann", usdc=0, BTC=2 * COIN)
    assert market.equity(ann) == 190_000 * MINOR
    market.do(Deposit, ann, BTC, COIN)
    assert market.equity(ann) == (190_000 + 90_000) * MINOR
    market.do(Deposit, ann, BTC, 3 * COIN)
    assert market.equity(ann) == (190_000 + 180_000 + 100_000) * MINOR
    market.do(Deposit, ann, BTC, 100 * COIN)
    assert market.equity(ann) == 470_000 * MINOR, "beyond the limit nothing"


def test_dividing_coins_among_pools_and_sub_accounts_gains_nothing() -> None:
    market = sized()
    ann = market.account("ann", usdc=0, BTC=6 * COIN)
    whole = market.equity(ann)
    other = sub_account(market, ann, "ann-2")
    alone, group = isolated(market, ann), opened(market, ann, PoolKind.GROUP)
    pools = [market.pool(ann), market.pool(other), alone, group]
    for pool, coins in zip(pools[1:], (1, 2, 1), strict=True):
        market.do(MoveMargin, ann, pools[0], pool, BTC, coins * COIN)
        assert sum(equity(market, each) for each in pools) == whole
    assert equity(market, pools[2]) // MINOR == 470_000 * 2 // 6, "in proportion to what a pool has"
    stranger = market.account("bob", usdc=0, BTC=2 * COIN)
    assert market.equity(stranger) == 190_000 * MINOR


def test_a_pool_recomputed_between_revaluations_is_as_in_the_pass_over_all() -> None:
    market = sized()
    ann = market.account("ann", usdc=1_000, BTC=3 * COIN)
    other = sub_account(market, ann, "ann-2")
    alone = isolated(market, ann)
    random = np.random.default_rng(5)
    pools = [market.pool(ann), market.pool(other), alone]
    for step in range(40):
        giver, taker = random.permutation(pools)[:2].tolist()
        amount = int(random.integers(1, COIN))
        market.engine.apply(
            MoveMargin(market.now, ann, giver, taker, BTC, amount)
            if step % 3
            else Deposit(market.now, ann, BTC, amount, taker)
        )
        assert_as_in_a_whole_pass(market)


def test_what_a_pool_may_reserve_follows_the_coins_of_the_owner_s_others() -> None:
    """Under a model in which only collateral has a size, positions have none."""
    preset = msgspec.structs.replace(sized_preset(SMALL_TIERS), liquidity=None)
    market = Market(changed(small(), preset=preset))
    ann = market.account("ann", usdc=0, BTC=2 * COIN)
    desk, cross = opened(market, ann, PoolKind.PORTFOLIO, name="desk"), market.pool(ann)
    before = market.engine.gate.headroom[cross]
    market.do(Deposit, ann, BTC, 2 * COIN, desk)
    headroom = market.engine.gate.headroom
    assert headroom[cross] == headroom[desk] < before
    restored = Engine.restore(market.engine.snapshot()).gate.headroom
    assert headroom[HOUSE_POOLS:] == restored[HOUSE_POOLS:]


def test_a_venue_without_sizes_has_none() -> None:
    market = Market(changed(small(), preset=sized_preset()))
    ann = market.account("ann", usdc=0, BTC=100 * COIN)
    assert market.equity(ann) == 9_500_000 * MINOR
    assert not market.engine.risk.models[0].haircuts.grow


@pytest.mark.parametrize("price", [95_000, 85_000, 70_000])
def test_a_loss_in_an_isolated_pool_never_changes_another_pool_s_equity(price: int) -> None:
    """As long as the owner has no coin beyond the first tier; then the others can only gain."""
    market = Market(small())
    ann, bob = market.account("ann", BTC=1 * COIN), market.account("bob")
    alone = isolated(market, ann, usdc=20_000)
    desk = opened(market, ann, PoolKind.PORTFOLIO, name="desk", usdc=10_000)
    group = opened(market, ann, PoolKind.GROUP, usdc=5_000)
    other = market.pool(sub_account(market, ann, "ann-2"))
    market.place(ann, BUY, 1_000, 200_000, pool=alone)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    # coins of the cross pool move with the index on their own, whatever the wall holds
    before = {pool: equity(market, pool) for pool in (desk, group, other)}
    cash = market.state.ledger.cash[market.pool(ann)].copy()
    for _ in range(8):
        market.cycle(price)
        for pool, was in before.items():
            assert equity(market, pool) == was
        assert (market.state.ledger.cash[market.pool(ann)] == cash).all()
    assert equity(market, alone) < 20_000 * MINOR
    assert equity(market, alone) >= 0, "the wall: what it lost beyond its own is not the owner's"


def test_a_loss_of_coins_behind_a_wall_never_lowers_another_pool_beyond_the_tier_either() -> None:
    market = sized()
    ann = market.account("ann", usdc=0, BTC=4 * COIN)
    alone = isolated(market, ann)
    market.do(MoveMargin, ann, market.pool(ann), alone, BTC, COIN)
    before = market.equity(ann)
    market.do(Withdraw, ann, BTC, COIN // 2, alone)
    assert market.equity(ann) >= before


@pytest.mark.parametrize("seed", range(3))
def test_moving_margin_between_layers_conserves_money_to_the_unit(seed: int) -> None:
    market, random = sized(), np.random.default_rng(seed)
    ann = market.account("ann", usdc=15_000, BTC=3 * COIN)
    other = sub_account(market, ann, "ann-2")
    pools = [market.pool(ann), market.pool(other), isolated(market, ann),
             opened(market, ann, PoolKind.PORTFOLIO, name="desk"),
             opened(market, ann, PoolKind.GROUP)]  # fmt: skip
    total, all_money = market.state.ledger.cash[pools].sum(axis=0), credit(market, *pools)
    moved = 0
    for _ in range(60):
        giver, taker = random.permutation(pools)[:2].tolist()
        currency = int(random.integers(0, 2))
        amount = int(random.integers(1, 2 * (COIN if currency else 1_000 * MINOR)))
        events = market.apply(MoveMargin(market.now, ann, giver, taker, currency, amount))
        moved += len(events) > 1
        cash = market.state.ledger.cash
        assert (cash[pools].sum(axis=0) == total).all()
        assert (cash.sum(axis=0) == 0).all(), "the trial balance"
        assert (cash[pools] >= 0).all()
        assert abs(credit(market, *pools) - all_money) <= 1, "nothing is gained by moving either"
    assert moved > 10


def test_a_move_that_leaves_a_third_pool_short_is_refused_whole() -> None:
    """A coin that leaves a debt in coin behind counts anew, and all of the owner's for less."""
    market = sized(30 * 86_400)
    ann, bob = market.account("ann", BTC=2 * COIN), market.account("bob", BTC=5 * COIN)
    cross, taker = market.pool(ann), isolated(market, ann)
    third = opened(market, ann, PoolKind.PORTFOLIO, name="third", usdc=50_000)
    market.do(MoveMargin, ann, cross, third, BTC, 2 * COIN)
    market.place(ann, BUY, 10_000, 200_000, pool=third)
    market.place(bob, SELL, 10_000, 200_000)
    market.cycle()
    price = market.state.marks.reference_ticks(INVERSE_CALL_SLOT)
    market.trade(bob, ann, 2_000, price, slot=INVERSE_CALL_SLOT)
    sold = market.state.ledger.balance(cross, BTC)
    assert sold > COIN, "what the calls brought, and what they are worth"
    market.do(Withdraw, ann, USDC, room(market, third) - 1_000 * MINOR, third)
    reason = market.refused(MoveMargin, ann, cross, taker, BTC, sold)
    assert reason == R.MARGIN_INSUFFICIENT
    assert market.said == OTHER_IS_SHORT
    assert_as_in_a_whole_pass(market)
    assert room(market, cross) > 0
    market.do(Deposit, ann, USDC, 5_000 * MINOR, third)
    market.do(MoveMargin, ann, cross, taker, BTC, sold)
    assert 0 < room(market, third) < 5_000 * MINOR


def test_a_switch_that_leaves_a_third_pool_short_is_refused_whole() -> None:
    """Calls bought on credit are worth nothing beside the debt in coin, and much without it."""
    market = sized(30 * 86_400)
    ann, bob = market.account("ann", BTC=2 * COIN), market.account("bob", BTC=5 * COIN)
    cross = market.pool(ann)
    third = opened(market, ann, PoolKind.PORTFOLIO, name="third", usdc=50_000)
    desk = opened(market, ann, PoolKind.PORTFOLIO, name="desk", usdc=200_000)
    market.do(MoveMargin, ann, cross, third, BTC, 2 * COIN)
    market.place(ann, BUY, 10_000, 200_000, pool=third)
    market.place(bob, SELL, 10_000, 200_000)
    market.cycle()
    price = market.state.marks.reference_ticks(INVERSE_CALL_SLOT)
    market.trade(ann, bob, 2_000, price, slot=INVERSE_CALL_SLOT)
    market.do(Withdraw, ann, USDC, room(market, third) - 1_000 * MINOR, third)
    reason = market.refused(SwitchMode, ann, INVERSE_CALL_SLOT, desk)
    assert reason == R.MARGIN_INSUFFICIENT
    assert market.said == OTHER_IS_SHORT
    assert_as_in_a_whole_pass(market)
    market.do(Deposit, ann, USDC, 5_000 * MINOR, third)
    market.do(SwitchMode, ann, INVERSE_CALL_SLOT, desk)
    assert 0 < room(market, third) < 5_000 * MINOR
    assert_as_in_a_whole_pass(market)


def test_money_comes_into_and_leaves_the_pool_that_is_named() -> None:
    market = Market(small())
    ann, bob = market.account("ann", usdc=1_000), market.account("bob")
    other = sub_account(market, ann, "ann-2")
    alone = isolated(market, ann)
    market.do(Deposit, ann, USDC, 700, alone)
    market.do(Deposit, ann, USDC, 300, market.pool(other))
    market.do(Withdraw, ann, USDC, 200, alone)
    assert market.state.ledger.balance(alone, USDC) == 500
    assert market.cash(other) == 300
    assert market.cash(ann) == 1_000 * MINOR
    assert equity(market, alone) == 500
    assert market.refused(Withdraw, ann, USDC, 501, alone) == R.INSUFFICIENT_FUNDS
    assert market.refused(Deposit, bob, USDC, 1, alone) == R.POOL_NOT_OWNED
    assert market.refused(Withdraw, other, USDC, 1, alone) == R.POOL_NOT_OWNED
    assert market.refused(Deposit, ann, USDC, 1, 3) == R.POOL_UNKNOWN, "the house's"
    assert market.refused(Deposit, ann, USDC, 1, 999) == R.POOL_UNKNOWN
    assert market.refused(Deposit, 9, USDC, 1) == R.ACCOUNT_UNKNOWN


def test_what_covers_a_pool_s_position_does_not_leave_it() -> None:
    market = Market(small())
    ann, bob = market.account("ann"), market.account("bob")
    alone = isolated(market, ann, usdc=20_000)
    market.place(ann, BUY, 1_000, 200_000, pool=alone)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    free = equity(market, alone) - int(market.engine.risk.initial[alone])
    assert market.refused(Withdraw, ann, USDC, free + 1, alone) == R.INSUFFICIENT_FUNDS
    market.do(Withdraw, ann, USDC, free, alone)
    assert market.state.positions.lots_of(alone, LINEAR_BTC) == 1_000
