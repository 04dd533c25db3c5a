"""Sub-accounts, and the collateral that an owner keeps behind its accounts."""

from __future__ import annotations

import msgspec
import pytest

from exchange.core.commands import Deposit, MoveMargin, OpenAccount, OpenPool, SwitchMode
from exchange.core.events import CallChanged, Event, GuaranteePaid, PoolOpened
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.layers import PoolKind
from margin.presets import load_preset
from tests.core.market import BUY, LINEAR_BTC, SELL, USDC, Market, every, only, posted, small

R = RejectReason
MINOR = 10**6


class Desk:
    """A firm with two sub-accounts and 50,000 USDC behind them; both bought from `bob`."""

    def __init__(self, guarantee: int = 50_000, lots: int = 1_000) -> None:
        market = self.market = Market(small())
        self.firm, self.bob = market.account("firm", 200_000), market.account("bob", 10_000_000)
        self.group = only(market.do(OpenPool, self.firm, PoolKind.GROUP), PoolOpened).pool
        self.subs = []
        for name in ("left", "right"):
            market.do(OpenAccount, name, "", self.firm)
            self.subs.append(len(market.state.accounts.names) - 1)
            self.give(market.pool(self.subs[-1]), 25_000)
            market.place(self.subs[-1], BUY, lots, 200_000)
            market.place(self.bob, SELL, lots, 200_000)
        if guarantee:
            self.give(self.group, guarantee)
        market.cycle()

    def give(self, pool: int, usdc: int) -> None:
        cross = self.market.pool(self.firm)
        self.market.do(MoveMargin, self.firm, cross, pool, USDC, usdc * MINOR)

    def equity(self, pool: int) -> int:
        return int(self.market.engine.risk.equity[pool])


def paid(events: list[Event]) -> dict[int, int]:
    return {event.pool: event.amount_minor for event in every(events, GuaranteePaid)}


def test_a_sub_account_is_an_account_of_its_parent_s_owner_and_class() -> None:
    desk = Desk()
    accounts = desk.market.state.accounts
    owner = accounts.owner_column()
    pools = [desk.market.pool(account) for account in (desk.firm, *desk.subs)]
    assert len({int(owner[pool]) for pool in pools}) == 1
    assert accounts.family(pools[1]) == sorted([*pools, desk.group])
    assert [accounts.parent_of(pool) for pool in pools] == [desk.group] * 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("x", "", 99), R.ACCOUNT_UNKNOWN),
        (("x", "", -2), R.ACCOUNT_UNKNOWN),
        (("x", "", 2), R.ACCOUNT_IS_SUB_ACCOUNT),
        (("left", "", 0), R.ACCOUNT_EXISTS),
    ],
)
def test_what_is_no_sub_account(fields: tuple[object, ...], reason: R) -> None:
    assert Desk().market.refused(OpenAccount, *fields) == reason


def test_the_parent_moves_margin_between_its_accounts_and_they_do_not() -> None:
    desk = Desk()
    left, right = (desk.market.pool(account) for account in desk.subs)
    desk.market.do(MoveMargin, desk.firm, left, right, USDC, 5)
    move = (left, right, USDC, 5)
    assert desk.market.refused(MoveMargin, desk.subs[0], *move) == R.POOL_NOT_OWNED
    group = (desk.group, left, USDC, 5)
    assert desk.market.refused(MoveMargin, desk.subs[0], *group) == R.POOL_NOT_OWNED
    assert desk.market.refused(MoveMargin, desk.bob, *move) == R.POOL_NOT_OWNED
    desk.market.do(MoveMargin, desk.firm, *group)


def test_only_the_owner_opens_a_group_and_only_one() -> None:
    desk = Desk()
    assert desk.market.refused(OpenPool, desk.firm, PoolKind.GROUP) == R.POOL_EXISTS
    refused = desk.market.refused(OpenPool, desk.subs[0], PoolKind.GROUP)
    assert refused == R.ACCOUNT_IS_SUB_ACCOUNT
    assert desk.market.refused(SwitchMode, desk.firm, 0, desk.group) == R.POOL_WITHOUT_POSITIONS


def test_the_group_pays_what_an_account_lacks_and_nobody_is_called() -> None:
    desk = Desk()
    left, right = (desk.market.pool(account) for account in desk.subs)
    before = desk.equity(desk.group)
    events = desk.market.cycle(90_000)
    amounts = paid(events)
    assert list(amounts) == [left, right]
    assert min(amounts.values()) > 0
    assert posted(events, PostingCause.GUARANTEE, left) == amounts[left]
    assert before - desk.equity(desk.group) == sum(amounts.values())
    for pool in (left, right):
        assert desk.equity(pool) == desk.market.engine.risk.initial[pool]
    assert not every(events, CallChanged)


def test_a_group_pays_no_more_than_it_has_and_the_rest_is_called() -> None:
    desk = Desk(guarantee=100)
    left, right = (desk.market.pool(account) for account in desk.subs)
    events = desk.market.cycle(90_000)
    assert paid(events) == {left: 100 * MINOR}
    assert {call.pool for call in every(events, CallChanged)} == {left, right}
    assert desk.equity(desk.group) == 0


def test_a_group_keeps_what_its_own_coins_need() -> None:
    """Where a coin counts for a twentieth, it needs more margin than it is worth as collateral."""
    preset = load_preset("ps-1")
    little = tuple(
        msgspec.structs.replace(row, rate_e9=950_000_000) if row.name == "BTC" else row
        for row in preset.haircut
    )
    market = Market(
        small(preset=msgspec.structs.replace(preset, haircut=little, collateral_size=()))
    )
    ann, bob = market.account("ann", 32_000, BTC=10**8), market.account("bob")
    group = only(market.do(OpenPool, ann, PoolKind.GROUP), PoolOpened).pool
    cross, risk = market.pool(ann), market.engine.risk
    for currency, amount in ((USDC, 12_000 * MINOR), (1, 10**8)):
        market.do(MoveMargin, ann, cross, group, currency, amount)
    market.place(ann, BUY, 1_000, 200_000)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    amount = paid(market.cycle(95_000))[cross]
    assert 0 < amount < risk.initial[cross] - risk.equity[cross] + amount
    assert risk.equity[group] == risk.initial[group]
    assert market.state.ledger.balance(group, USDC) > 0


def test_a_group_pays_in_usdc_only() -> None:
    desk = Desk(guarantee=100)
    market = desk.market
    market.do(Deposit, desk.firm, 1, 10**8)
    market.do(MoveMargin, desk.firm, market.pool(desk.firm), desk.group, 1, 10**8)
    assert paid(market.cycle(90_000)) == {market.pool(desk.subs[0]): 100 * MINOR}
    assert market.state.ledger.balance(desk.group, USDC) == 0


def test_isolated_pools_are_outside_the_guarantee() -> None:
    desk = Desk(lots=1)
    market, left = desk.market, desk.subs[0]
    alone = only(market.do(OpenPool, left, PoolKind.ISOLATED, LINEAR_BTC), PoolOpened).pool
    desk.give(alone, 22_000)
    market.place(left, BUY, 1_000, 200_000, pool=alone)
    market.place(desk.bob, SELL, 1_000, 200_000)
    market.cycle()
    events = market.cycle(90_000)
    assert not paid(events)
    assert alone in {call.pool for call in every(events, CallChanged)}


def test_one_account_s_ruin_costs_the_group_what_it_holds_and_the_others_nothing() -> None:
    desk = Desk(guarantee=1_000)
    market = desk.market
    right = market.pool(desk.subs[1])
    desk.give(right, 100_000)
    before = desk.equity(right)
    market.cycle(70_000)
    for _ in range(4):
        market.cycle(70_000)
    assert desk.equity(market.pool(desk.subs[0])) == 0
    assert desk.equity(desk.group) == 0
    assert before - desk.equity(right) == 30_000 * MINOR, "its own loss on one coin"
