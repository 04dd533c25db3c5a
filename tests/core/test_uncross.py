"""Steps 2 and 3: one price per book, fees, premium, and fills through the ledger."""

from __future__ import annotations

import pytest

from exchange.core.events import Filled, Printed
from exchange.core.reject_reason import PostingCause
from exchange.core.stored.ledger import House
from tests.core.market import (
    BUY,
    CALL,
    INVERSE_BTC,
    LINEAR_BTC,
    LINEAR_ETH,
    SELL,
    USDC,
    Market,
    fills,
    only,
    posted,
    small,
)

NO_COLLAR = {"band_ppb": 0}


def test_a_futures_fee_is_its_rate_on_the_traded_value(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    events = market.trade(ann, bob, 100, 200_000)
    assert only(events, Filled).fee_minor.tolist() == [3 * 10**6, 3 * 10**6]
    assert posted(events, PostingCause.FEE, market.pool(ann)) == -3 * 10**6
    assert market.state.ledger.balance(House.FEES, USDC) == 6 * 10**6


def test_fees_are_rounded_up_on_both_sides(market: Market) -> None:
    """One lot at 99,999.5: 99.9995 dollars x 0.0003 is 29,999.85 minor units."""
    ann, bob = market.account("ann"), market.account("bob")
    events = market.trade(ann, bob, 1, 199_999)
    assert only(events, Filled).fee_minor.tolist() == [30_000, 30_000]


@pytest.mark.parametrize(("ticks", "fee"), [(400, 3 * 10**6), (20, 1_250_000)])
def test_an_option_fee_is_on_the_index_but_at_most_an_eighth_of_the_premium(
    ticks: int, fee: int
) -> None:
    """Ten lots are 0.1 BTC: 0.03 % of 10,000 is 3; an eighth of 0.1 x 100 is 1.25."""
    market = Market(small(collar=NO_COLLAR))
    ann, bob = market.account("ann"), market.account("bob")
    events = market.trade(ann, bob, 10, ticks, CALL)
    assert only(events, Filled).fee_minor.tolist() == [fee, fee]


def test_option_premium_is_paid_at_the_fill() -> None:
    market = Market(small(collar=NO_COLLAR))
    ann, bob = market.account("ann"), market.account("bob")
    before = market.cash(ann), market.cash(bob)
    market.trade(ann, bob, 10, 400, CALL)
    assert market.cash(ann) == before[0] - 200 * 10**6 - 3 * 10**6
    assert market.cash(bob) == before[1] + 200 * 10**6 - 3 * 10**6


def test_a_future_costs_nothing_but_its_fee_when_the_mark_is_the_price(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    before = market.cash(ann)
    market.trade(ann, bob, 100, 200_000)
    assert market.cash(ann) == before - 3 * 10**6


def test_an_inverse_fee_is_paid_in_coin() -> None:
    """1000 lots are 10,000 dollars, 0.1 BTC at 100,000: 0.03 % is 3000 minor units."""
    market = Market(small())
    ann, bob = market.account("ann", BTC=10**8), market.account("bob", BTC=10**8)
    usdc = market.cash(ann)
    events = market.trade(ann, bob, 1000, 200_000, INVERSE_BTC)
    assert only(events, Filled).fee_minor.tolist() == [3_000, 3_000]
    assert (market.cash(ann, 1), market.cash(ann)) == (10**8 - 3_000, usdc)


def test_one_batch_prints_every_book_on_its_own() -> None:
    market = Market(small())
    ann, bob = market.account("ann"), market.account("bob")
    for slot, price in ((LINEAR_BTC, 200_000), (LINEAR_ETH, 80_000)):
        market.place(ann, BUY, 5, price, slot)
        market.place(bob, SELL, 7, price, slot)
    printed = only(market.cycle(), Printed)
    assert printed.instruments.tolist() == [LINEAR_BTC, LINEAR_ETH]
    assert printed.price_ticks.tolist() == [200_000, 80_000]
    assert printed.volume_lots.tolist() == [5, 5]
    assert printed.surplus_lots.tolist() == [-2, -2]


def test_a_fill_says_what_stays_open_and_how_old_the_order_was(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    seller = market.place(bob, SELL, 7, 200_000)
    market.cycle()
    buyer = market.place(ann, BUY, 5, 200_000)
    filled = only(market.cycle(), Filled)
    rows = dict(zip(filled.order_id.tolist(), zip(filled.open_lots.tolist(),
                    filled.age_batch.tolist(), strict=True), strict=True))  # fmt: skip
    assert rows == {seller: (2, filled.batch - 1), buyer: (0, filled.batch)}


def test_an_account_may_trade_with_itself_and_keeps_no_position(market: Market) -> None:
    ann = market.account("ann")
    orders = {market.place(ann, BUY, 5, 200_000), market.place(ann, SELL, 5, 200_000)}
    assert set(fills(market.cycle())) == orders
    assert market.lots(ann) == 0
    market.state.validate()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_arrival_inside_a_batch_gives_nothing(order: tuple[int, ...]) -> None:
    """Three equal buyers share ten lots the same way, whoever came first."""
    market = Market()
    accounts = [market.account(name) for name in ("ann", "bob", "eve")]
    market.place(market.account("max"), SELL, 10, 200_000)
    for number in order:
        market.place(accounts[number], BUY, 7, 200_000)
    market.cycle()
    shares = [market.lots(account) for account in accounts]
    assert sorted(shares) == [3, 3, 4]
    assert shares == fixed_shares()


def fixed_shares() -> list[int]:
    """The shares when they came by name."""
    market = Market()
    accounts = [market.account(name) for name in ("ann", "bob", "eve")]
    market.place(market.account("max"), SELL, 10, 200_000)
    for account in accounts:
        market.place(account, BUY, 7, 200_000)
    market.cycle()
    return [market.lots(account) for account in accounts]


def test_values_that_do_not_divide_leave_their_residue_in_rounding() -> None:
    market = Market(small())
    ann, bob = market.account("ann", BTC=10**8), market.account("bob", BTC=10**8)
    market.trade(ann, bob, 7, 200_001, INVERSE_BTC)
    assert not any(market.state.ledger.trial_balance())
    for mirror in (House.CLEARING, House.VM_PENDING):
        assert not market.state.ledger.cash[mirror].any()
    assert abs(market.state.ledger.balance(House.ROUNDING, 1)) <= 2
