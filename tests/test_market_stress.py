"""A market under stress: what the accounts owe, who, and what is left of the fund."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.core.stored.ledger import House
from exchange.market_stress import MarketStress, _Market, pools_book, stressed_market
from exchange.portfolios.stress import GRID_E9, TOGETHER, Moved
from margin.invariant import Int64Array, InvariantBroken
from margin.presets.preset import NamedRate
from margin.stresses import load_stress
from margin.stresses.reverse_stress import Direction, equity_after, moves_along
from margin.stresses.stress import Basis, Stress, TenorMove
from tests.core.coin_options import COIN, two
from tests.core.market import (
    CALL,
    COIN_PUT,
    INVERSE_BTC,
    LINEAR_BTC,
    LINEAR_ETH,
    PUT,
    Market,
    small,
)

USDC = 10**6
FUND = 10_000 * USDC


def crash(spot: float, name: str = "fall") -> Stress:
    return Stress(
        name=name, spot=(NamedRate(name="default", rate_e9=round(spot * 10**9)),),
        volatility=(TenorMove(days=0, move_e9=0),), basis=Basis(perpetual_e9=0, dated_e9=0),
    )  # fmt: skip


def market_of(*traders: tuple[str, int, int]) -> Market:
    """Accounts with so much USDC, long so many thousandths of a bitcoin of one short seller."""
    market = Market(small(collar={"band_ppb": 0}, default={"fund_minor": FUND}))
    seller = market.account("seller", 1_000_000)
    for name, usdc, lots in traders:
        market.trade(market.account(name, usdc), seller, lots, 200_000)
    return market


def cash_of(market: Market, name: str) -> int:
    return market.cash(market.state.accounts.number_of[name])


def test_deficits_fund_and_worst_accounts_are_those_of_the_hand() -> None:
    market = market_of(("ann", 20_000, 1000), ("bob", 50_000, 1000), ("carl", 70_000, 0 + 1))
    before = market.engine.state_hash()
    found = stressed_market(market.engine, [crash(-0.3), crash(0.1, "rise")])
    now, fall, rise = found.outcomes
    fund = now.fund_minor
    assert fund == found.fund_minor == FUND
    assert (now.losses_minor, now.burden_minor, now.pools_below_zero, now.worst) == (0, 0, 0, ())
    ann, bob = cash_of(market, "ann"), cash_of(market, "bob")
    assert fall.losses_minor == (30_000 + 30_000 + 30) * USDC
    assert fall.burden_minor == 30_000 * USDC - ann
    assert fall.fund_minor == fund - fall.burden_minor
    assert (fall.accounts_below_zero, fall.pools_below_zero) == (1, 1)
    assert [row.account for row in fall.worst] == ["ann", "bob", "carl"]
    assert [row.equity_minor for row in fall.worst][:2] == [ann - 3 * 10**10, bob - 3 * 10**10]
    assert rise.burden_minor == 0
    assert [row.account for row in rise.worst] == ["seller"]
    assert market.engine.state_hash() == before, "the engine is only read"


def test_the_fund_is_exhausted_where_the_account_owes_more_than_it_has() -> None:
    market = market_of(("ann", 20_000, 1000))
    found = stressed_market(market.engine, [])
    reverse = {one.direction: one.exhausted for one in found.reverse}
    has = found.fund_minor + cash_of(market, "ann")
    exact = has / (100_000 * USDC)
    assert reverse["BTC"].fall_e9 is not None
    assert -reverse["BTC"].fall_e9 / 1e9 == pytest.approx(exact, abs=2e-9)
    assert reverse[TOGETHER].fall_e9 == reverse["BTC"].fall_e9
    assert reverse["ETH"] == Moved(None, None)
    assert [row.move_e9 for row in found.grid] == list(GRID_E9)
    for row in found.grid:
        owed = max(0, -row.move_e9 * 100_000 * USDC // 10**9 - cash_of(market, "ann"))
        assert row.burden_minor == (owed, 0, owed), row


def test_a_market_without_positions_loses_nothing_and_nothing_breaks_it() -> None:
    market = market_of()
    market.account("idle", 0)
    found = stressed_market(market.engine, [load_stress("2020-03-12")])
    for one in found.outcomes:
        assert (one.losses_minor, one.burden_minor, one.worst) == (0, 0, ())
        assert (one.pools_below_maintenance, one.pools_below_zero) == (0, 0)
        assert one.fund_minor == found.fund_minor
    assert all(one.exhausted == Moved(None, None) for one in found.reverse)
    assert not any(amount for row in found.grid for amount in row.burden_minor)


def test_maintenance_is_the_venue_s_at_the_moved_marks() -> None:
    # long a bitcoin on 20,000: below maintenance (14.3 %) from -6.65 % on, below zero from -20 %
    market = market_of(("ann", 20_000, 1000), ("rich", 500_000, 10))
    falls = [crash(-move, str(move)) for move in (0.06, 0.08, 0.19, 0.21)]
    found = stressed_market(market.engine, falls)
    assert [one.pools_below_maintenance for one in found.outcomes] == [0, 0, 1, 1, 1]
    assert [one.pools_below_zero for one in found.outcomes] == [0, 0, 0, 0, 1]


def busy_market() -> Market:
    market = Market(small(collar={"band_ppb": 0}, expiry_after_s=30 * 86_400))
    ann, bob = two(market, 300, COIN_PUT)
    rich = market.account("rich", 2_000_000, BTC=5 * COIN)
    market.trade(ann, rich, 2_000, 200_000, INVERSE_BTC)
    market.trade(bob, rich, 1_500, 200_000, LINEAR_BTC)
    market.trade(rich, bob, 4_000, 80_000, LINEAR_ETH)
    market.trade(rich, bob, 40, 2_000, CALL)
    market.trade(bob, rich, 30, 2_000, PUT)
    return market


@pytest.mark.parametrize("move", [-0.12, -0.03, 0.05, 0.1])
def test_what_is_foreseen_is_what_the_engine_then_books(move: float) -> None:
    """The index moves, nobody trades, no time goes by: equity and maintenance are the foreseen."""
    market = busy_market()
    market.cycle(after_ns=0)
    seen = _Market(market.engine, None)
    move_e9 = round(move * 10**9)
    moves = moves_along(Direction(np.full(2, 10**9, np.int64)), seen.users.instruments,
                        [0, move_e9])  # fmt: skip
    foreseen: Int64Array = equity_after(seen.users, moves)
    short = [one.pools_below_maintenance for one in seen.outcomes(["now", "then"], moves)]
    risk = market.engine.risk
    assert short[0] == sum(risk.equity[seen.pools] < risk.maintenance[seen.pools])
    now = [risk.equity_of(pool, haircut=False) for pool in seen.pools.tolist()]
    assert np.abs(foreseen[:, 0] - now).max() == 0
    index = [int(price) * (10**9 + move_e9) // 10**9 for price in market.state.marks.index_e8]
    events = market.cycle(*(price // 10**8 for price in index), after_ns=0)
    assert not any(type(event).__name__ == "LiquidationStep" for event in events)
    then = [risk.equity_of(pool, haircut=False) for pool in seen.pools.tolist()]
    assert np.abs(foreseen[:, 1] - then).max() <= 100_000, "a tenth of a dollar of rounding"
    assert np.abs(foreseen[:, 1] - now).max() > 10_000 * USDC
    assert short[1] == sum(risk.equity[seen.pools] < risk.maintenance[seen.pools])


def test_the_fund_s_pool_is_read_beside_the_accounts() -> None:
    market = busy_market()
    book = pools_book(market.engine, np.array([House.INSURANCE], np.int64))
    nothing = moves_along(Direction(np.zeros(2, np.int64)), book.instruments, [0])
    fund = market.engine.risk.equity_of(int(House.INSURANCE), haircut=False)
    assert equity_after(book, nothing).tolist() == [[fund]]
    found: MarketStress = stressed_market(market.engine, [])
    assert found.fund_minor == fund
    assert (found.accounts, found.pools) == (3, 3)


def test_a_market_that_has_not_opened_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="has not opened"):
        stressed_market(Market(small(), opened=False).engine, [])
