"""Every pool of a market under stress, walled off, guaranteed or credited, as the engine does."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.core.commands import Deposit, MoveMargin, OpenAccount, OpenPool, SwitchMode
from exchange.core.engine import Engine
from exchange.core.events import GuaranteePaid, PoolOpened
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.venue import AccountClass
from exchange.market_stress import MarketOutcome, _Market, stressed_market
from exchange.moved_risk import MovedRisk
from exchange.portfolios.stress import TOGETHER
from margin.models.venue_models import venue_model
from margin.presets import load_preset
from margin.stresses import load_stress
from margin.stresses.reverse_stress import Direction, along_unit, equity_after, moves_along
from tests.core.attested_market import AttestedMarket, buy_one, long_one_coin, outside
from tests.core.market import (
    BUY,
    LINEAR_BTC,
    LINEAR_ETH,
    SECOND,
    SELL,
    USDC,
    Market,
    every,
    only,
    small,
)
from tests.test_market_stress import crash

MINOR = 10**6
E9 = 10**9
FUND = 10_000 * MINOR


def equal_to_the_engine(engine: Engine) -> None:
    """Without a move, what is derived is what the engine derived."""
    moved, risk = MovedRisk(engine), engine.risk
    then = moved.stand()
    for name in ("equity", "initial", "maintenance", "add_on_minor", "relief_minor"):
        for pools in (slice(HOUSE_POOLS, None), House.INSURANCE):
            assert (getattr(then, name) == getattr(risk, name))[pools].all(), name
    assert then.backing.credit == risk.backing.credit
    users = range(HOUSE_POOLS, len(risk.equity))
    assert [then.backing.of(pool) for pool in users] == [risk.backing.of(pool) for pool in users]
    breached = [pool for pool in users if not risk.backing.keeps(pool)]
    assert (np.flatnonzero(moved.breached()[HOUSE_POOLS:]) + HOUSE_POOLS).tolist() == breached


class Firm:
    """Accounts that each bought a bitcoin at 100,000, one in each kind of pool, with 25,000 there.

    `left` and `right` are the firm's sub-accounts, with a group behind them. A trade costs 30,
    which the pool pays that fills.
    """

    def __init__(self, group: int = 20_000) -> None:
        market = self.market = Market(small(collar={"band_ppb": 0}, default={"fund_minor": FUND}))
        self.seller = market.account("seller", 10_000_000)
        self.of_name: dict[str, int] = {}
        for name, kind, slot, title in (
            ("alice", PoolKind.ISOLATED, LINEAR_BTC, ""), ("bob", PoolKind.PORTFOLIO, -1, "carry"),
        ):  # fmt: skip
            account = market.account(name, 60_000)
            pool = only(market.do(OpenPool, account, kind, slot, title), PoolOpened).pool
            market.do(MoveMargin, account, market.pool(account), pool, USDC, 25_000 * MINOR)
            market.do(SwitchMode, account, LINEAR_BTC, pool)
            self.buy(account)
            self.of_name[name] = pool
        self.buy(market.account("carl", 25_000))
        firm = market.account("firm", 50_000 + group)
        self.group = only(market.do(OpenPool, firm, PoolKind.GROUP), PoolOpened).pool
        cross = market.pool(firm)
        if group:
            market.do(MoveMargin, firm, cross, self.group, USDC, group * MINOR)
        for name in ("left", "right"):
            market.do(OpenAccount, name, "", firm)
            account = len(market.state.accounts.names) - 1
            market.do(MoveMargin, firm, cross, market.pool(account), USDC, 25_000 * MINOR)
            self.buy(account)
            self.of_name[name] = market.pool(account)
        market.cycle(after_ns=0)

    def buy(self, account: int) -> None:
        self.market.place(account, BUY, 1_000, 200_000)
        self.market.place(self.seller, SELL, 1_000, 200_000)
        self.market.cycle(after_ns=0)


def left_of(one: MarketOutcome) -> dict[str, int]:
    """What a stress leaves to the pools that it names."""
    return {row.pool: row.equity_minor for row in one.worst}


def test_every_kind_of_pool_loses_and_is_named() -> None:
    firm = Firm()
    before = firm.market.engine.state_hash()
    found = stressed_market(firm.market.engine, [crash(-0.3)])
    # alice, bob, carl, left, right, the firm, the seller; and three pools beyond their cross pools
    assert (found.accounts, found.pools) == (7, 10)
    now, fall = found.outcomes
    assert (now.burden_minor, now.pools_below_maintenance, now.pools_below_zero) == (0, 0, 0)
    deficit = -5_030 * MINOR
    # left lacks 17,630 of its initial margin at 70,000, right gets what the group has then left
    assert 70_000 * 18 // 100 + 5_030 == 17_630
    assert left_of(fall) == {
        "alice (isolated BTC_USDC-PERPETUAL)": deficit, "bob (portfolio carry)": deficit,
        "carl": deficit, "right": deficit + 2_370 * MINOR, "left": 12_600 * MINOR,
    }  # fmt: skip
    assert {row.account for row in fall.worst} == {"alice", "bob", "carl", "left", "right"}
    assert all(row.loss_minor == 30_000 * MINOR for row in fall.worst)
    assert fall.losses_minor == 5 * 30_000 * MINOR
    assert fall.burden_minor == (3 * 5_030 + 2_660) * MINOR
    assert fall.fund_minor == FUND - fall.burden_minor
    assert (fall.accounts_below_zero, fall.pools_below_zero) == (4, 4)
    assert (fall.accounts_below_maintenance, fall.pools_below_maintenance) == (4, 4)
    assert firm.market.engine.state_hash() == before, "the engine is only read"
    equal_to_the_engine(firm.market.engine)


def test_an_isolated_pool_owes_though_its_account_has_more() -> None:
    firm = Firm()
    (_, fall) = stressed_market(firm.market.engine, [load_stress("2020-03-12")]).outcomes
    (alice,) = (row for row in fall.worst if row.account == "alice")
    assert (alice.loss_minor, alice.equity_minor) == (55_780 * MINOR, -30_810 * MINOR)


def test_accounts_are_counted_once_and_pools_each() -> None:
    firm = Firm()
    market, alice = firm.market, firm.market.state.accounts.number_of["alice"]
    cross = market.pool(alice)  # the rest of her money, and a position of ether
    market.place(alice, BUY, 2_500, 80_000, LINEAR_ETH)
    market.place(firm.seller, SELL, 2_500, 80_000, LINEAR_ETH)
    market.cycle(after_ns=0)
    assert market.engine.risk.equity[cross] > 0
    (_, fall) = stressed_market(market.engine, [crash(-0.6)]).outcomes
    assert fall.pools_below_zero == fall.accounts_below_zero + 1


def test_groups_pay_what_the_next_revaluation_lets_them_pay() -> None:
    firm = Firm()
    seen = _Market(firm.market.engine, None)
    moves = moves_along(Direction(np.full(2, E9, np.int64)), seen.users.instruments, [-300_000_000])
    (alone,) = np.maximum(0, -equity_after(seen.users, moves)).sum(axis=0).tolist()
    (burden,), (covered,) = seen.burdens(moves)
    paid = seen.moved.risk.state.ledger.cash[:, USDC].copy()
    events = firm.market.cycle(70_000, after_ns=0)
    booked = {event.pool: event.amount_minor for event in every(events, GuaranteePaid)}
    left, right = firm.of_name["left"], firm.of_name["right"]
    assert booked == {left: 17_630 * MINOR, right: 2_370 * MINOR}
    assert covered == 5_030 * MINOR + booked[right]
    assert burden == alone - covered
    assert paid[firm.group] == 0


@pytest.mark.parametrize("group", [0, 20_000, 100_000])
def test_the_fund_is_exhausted_by_pools_of_every_kind_once_groups_have_paid(group: int) -> None:
    firm = Firm(group)
    found = stressed_market(firm.market.engine, [])
    fall_e9 = {one.direction: one.exhausted.fall_e9 for one in found.reverse}[TOGETHER]
    assert fall_e9 is not None
    seen = _Market(firm.market.engine, None)
    moves = moves_along(along_unit(0, 2), seen.users.instruments, [fall_e9, fall_e9 + 1])
    broken, sound = seen.burdens(moves)[0]
    assert broken > FUND >= sound
    # three pools owe with a group that covers all of the others, five without any
    debtors = {0: 5, 100_000: 3}.get(group)
    if debtors:
        exact = (24_970 + 10_000 / debtors) / 100_000
        assert -fall_e9 / E9 == pytest.approx(exact, abs=1e-8)


# Credit elsewhere


def credited(age_s: int = 0, btc: int = 10**7) -> AttestedMarket:
    """One bitcoin long on 2,000 here; elsewhere 30,000 USDC, coin, and positions that net."""
    market = AttestedMarket(outside(net_positions=True), collar={"band_ppb": 0})
    ann, bob = long_one_coin(market, usdc=2_000)
    positions = ((LINEAR_BTC, -200), (LINEAR_ETH, 100))
    market.attest(ann, usdc=30_000, coins=[(1, btc)], positions=positions)
    buy_one(market, ann, bob)
    market.cycle(after_ns=age_s * SECOND)
    return market


@pytest.mark.parametrize("age_s", [0, 20, 35])
def test_as_it_stands_credit_and_what_is_elsewhere_count_as_in_the_engine(age_s: int) -> None:
    market = credited(age_s)
    equal_to_the_engine(market.engine)
    (now,) = stressed_market(market.engine, []).outcomes
    assert now.credit_minor == market.credit(0) > 0
    own = market.equity(0) < market.maintenance(0)
    assert own, "what is here alone is too little"
    assert (now.accounts_below_maintenance, now.pools_below_maintenance) == (0, 0)


@pytest.mark.parametrize("btc", [10**7, -(10**7)])
@pytest.mark.parametrize("move", [-0.015, 0.05])
def test_credit_and_requirement_are_foreseen_at_the_moved_index(move: float, btc: int) -> None:
    market = credited(20, btc)
    seen = _Market(market.engine, None)
    move_e9 = round(move * E9)
    moves = moves_along(Direction(np.full(2, E9, np.int64)), seen.users.instruments, [0, move_e9])
    _, then = seen.outcomes(["now", "then"], moves)
    foreseen = seen.moved.risk
    before = dict(market.engine.risk.backing.credit)
    index = [int(price) * (E9 + move_e9) // E9 for price in market.state.marks.index_e8]
    market.cycle(*(price // 10**8 for price in index), after_ns=0)
    risk = market.engine.risk
    assert not market.state.accounts.cases
    assert foreseen.backing.credit == risk.backing.credit != before
    assert then.credit_minor == sum(risk.backing.credit.values())
    for name in ("initial", "maintenance"):
        assert getattr(foreseen, name)[seen.pools].tolist() == (
            getattr(risk, name)[seen.pools].tolist()
        )
    assert np.abs(foreseen.equity[seen.pools] - risk.equity[seen.pools]).max() <= 100_000
    kept = [risk.backing.keeps(pool) for pool in seen.pools.tolist()]
    assert then.pools_below_maintenance == kept.count(False)


def test_credit_pays_nothing_of_what_is_owed() -> None:
    market = credited()
    (_, fall) = stressed_market(market.engine, [crash(-0.1)]).outcomes
    assert fall.credit_minor > 10_000 * MINOR
    owed = 10_000 * MINOR - market.equity(0)
    assert (fall.burden_minor, fall.pools_below_zero) == (owed, 1)
    assert fall.pools_below_maintenance == 0, "what is elsewhere keeps it from liquidation"


# Models


def test_classes_with_ranges_and_offsets_of_their_own_are_read_as_they_stand() -> None:
    dynamic = load_preset("ps-1-dynamic")
    venue = small(collar={"band_ppb": 0}, account_classes=(AccountClass("desk", dynamic),))
    market = Market(venue)
    ann = market.account("ann")
    market.do(OpenAccount, "desk", "desk")
    desk = len(market.state.accounts.names) - 1
    market.do(Deposit, desk, USDC, 1_000_000 * MINOR)
    market.trade(desk, ann, 1_000, 200_000)
    market.trade(ann, desk, 2_000, 80_000, LINEAR_ETH)
    for number in range(12):
        market.cycle(100_000 + 3_000 * (-1) ** number, 4_000 - 100 * (-1) ** number,
                     after_ns=3600 * E9)  # fmt: skip
    at_rest = market.engine.risk.models[1]
    assert at_rest.preset != dynamic, "its ranges have moved"
    equal_to_the_engine(market.engine)


@pytest.mark.parametrize("name", ["standard", "fhs-es", "ps-1-dynamic", "derive-pmrm2"])
def test_a_model_of_no_venue_here_judges_all_accounts(name: str) -> None:
    market = credited()
    found = stressed_market(market.engine, [crash(-0.05)], venue_model(name))
    assert found.models == (name,)
    needed = MovedRisk(market.engine, venue_model(name)).stand().initial
    assert needed[market.pool(0)] > 0
    assert needed[House.FEES] == 0
