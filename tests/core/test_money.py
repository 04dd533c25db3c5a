"""Accounts, deposits and withdrawals."""

from __future__ import annotations

import pytest

from exchange.core.commands import Deposit, OpenAccount, Withdraw
from exchange.core.events import AccountOpened, Posted, Transferred
from exchange.core.limits import BALANCE_MINOR_MAX, TRANSFER_MINOR_MAX
from exchange.core.pools.money import venue_holding
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.ledger import HOUSE_POOLS, House
from tests.core.market import Market, only, small

R = RejectReason


def test_accounts_are_numbered_from_zero_and_their_pools_follow_the_house(market: Market) -> None:
    opened = [only(market.do(OpenAccount, name), AccountOpened) for name in ("ann", "bob")]
    assert opened == [
        AccountOpened(0, HOUSE_POOLS, "ann"), AccountOpened(1, HOUSE_POOLS + 1, "bob"),
    ]  # fmt: skip


def test_a_deposit_comes_from_outside(market: Market) -> None:
    ann = market.account("ann", 0)
    events = market.do(Deposit, ann, 0, 700)
    assert only(events, Transferred) == Transferred(ann, 0, 700)
    assert only(events, Posted).cause == PostingCause.DEPOSIT
    assert market.cash(ann) == 700


def test_a_deposit_counts_as_equity_at_once(market: Market) -> None:
    ann = market.account("ann", 0)
    market.do(Deposit, ann, 0, 700)
    assert market.equity(ann) == 700


def test_a_withdrawal_is_the_reverse_to_the_last_unit(market: Market) -> None:
    ann = market.account("ann", 0)
    market.do(Deposit, ann, 0, 700)
    assert only(market.do(Withdraw, ann, 0, 699), Transferred).amount_minor == -699
    assert market.refused(Withdraw, ann, 0, 2) == R.INSUFFICIENT_FUNDS
    market.do(Withdraw, ann, 0, 1)
    assert market.equity(ann) == 0


def test_coins_are_currencies_of_their_own() -> None:
    market = Market(small())
    ann = market.account("ann", 0, BTC=500, ETH=40)
    assert [market.cash(ann, currency) for currency in range(3)] == [0, 500, 40]
    assert market.refused(Withdraw, ann, 2, 41) == R.INSUFFICIENT_FUNDS
    market.do(Withdraw, ann, 2, 40)


def test_the_venue_s_holding_is_what_came_in_and_has_not_gone_out(market: Market) -> None:
    endowed = market.venue.default.fund_minor + market.venue.default.venue_capital_minor
    assert venue_holding(market.state, 0) == endowed
    ann = market.account("ann", 5)
    market.withdraw(ann, 2)
    assert venue_holding(market.state, 0) == endowed + 3 * 10**6


@pytest.mark.parametrize("amount", [0, -1])
@pytest.mark.parametrize("kind", [Deposit, Withdraw])
def test_amounts_are_positive(market: Market, kind: type, amount: int) -> None:
    assert market.refused(kind, market.account("ann"), 0, amount) == R.AMOUNT_NOT_POSITIVE


@pytest.mark.parametrize("kind", [Deposit, Withdraw])
def test_amounts_are_bounded(market: Market, kind: type) -> None:
    ann = market.account("ann")
    assert market.refused(kind, ann, 0, TRANSFER_MINOR_MAX + 1) == R.AMOUNT_TOO_LARGE


def test_a_balance_never_grows_beyond_its_bound(market: Market) -> None:
    ann = market.account("ann", 0)
    for _ in range(BALANCE_MINOR_MAX // 2 // TRANSFER_MINOR_MAX):
        market.do(Deposit, ann, 0, TRANSFER_MINOR_MAX)
    assert market.refused(Deposit, ann, 0, 1) == R.AMOUNT_TOO_LARGE
    market.cycle()


def test_the_house_starts_with_its_fund_and_capital_from_outside(market: Market) -> None:
    ledger, rules = market.state.ledger, market.venue.default
    assert ledger.balance(House.INSURANCE, 0) == rules.fund_minor
    assert ledger.balance(House.VENUE_CAPITAL, 0) == rules.venue_capital_minor
    assert not any(ledger.trial_balance())
