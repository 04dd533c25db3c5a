"""Where attested collateral counts: gate, calls and default; never withdrawals, never a payment."""

from __future__ import annotations

from itertools import pairwise

import pytest

from exchange.core.commands import Deposit, MoveMargin, Withdraw
from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.events import CallChanged, LayerPaid, LiquidationStep
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import PoolKind
from margin.default.margin_call import CallOutcome
from tests.core.attested_market import (
    COIN,
    MINOR,
    AttestedMarket,
    buy_one,
    long_one_coin,
    outside,
)
from tests.core.market import (
    BUY,
    CALL,
    INVERSE_BTC,
    LINEAR_BTC,
    LINEAR_ETH,
    SECOND,
    SELL,
    USDC,
    every,
)
from tests.core.pools import opened

R = RejectReason
DAY = 86_400 * SECOND


def outcomes(events: list[object]) -> list[CallOutcome]:
    return [event.outcome for event in every(events, CallChanged)]  # type: ignore[arg-type]


def steps(events: list[object]) -> list[str]:
    return [event.step for event in every(events, LiquidationStep)]  # type: ignore[arg-type]


def leveraged(credit_usdc: int = 20_000, usdc: int = 10_000, **terms: object) -> tuple[
    AttestedMarket, int
]:  # fmt: skip
    """`ann` is one bitcoin long on 10,000 here and 20,000 elsewhere (18,000 counted)."""
    market = AttestedMarket(outside(**terms))
    ann, bob = long_one_coin(market, usdc)
    market.attest(ann, credit_usdc)
    buy_one(market, ann, bob)
    return market, ann


# What counts


def test_credit_is_index_haircuts_decay_and_delay() -> None:
    market = AttestedMarket(outside(transfer_delay_ns=4 * SECOND))
    ann = market.account("ann")
    market.attest(ann, coins=[(1, COIN)])
    # 3 x 0.5 x sqrt(4 / 31,536,000) = 0.000534217..., rounded up, of 100,000
    assert market.credit(ann) == (100_000 * 95 * 90 * MINOR) // 10_000 - 53_421_800
    market.wait(35)
    assert market.credit(ann) == (100_000 * 95 * 90 * MINOR) // 20_000 - 53_421_800


def test_nothing_counts_that_arrives_after_the_horizon() -> None:
    horizon = AttestedMarket().venue.horizon_ns()
    for delay, counted in ((horizon - 1, True), (horizon, False)):
        market = AttestedMarket(outside(transfer_delay_ns=delay, delay_quantile_e9=0))
        ann = market.account("ann")
        market.attest(ann, 1_000, coins=[(1, -COIN // 100)])
        debt = -1_000 * MINOR
        assert market.credit(ann) == debt + (900 * MINOR if counted else 0)


def test_a_cap_bounds_the_credit_of_an_outside_venue_but_not_its_debts() -> None:
    market = AttestedMarket(outside(credit_cap_minor=500 * MINOR), outside("quay"))
    ann = market.account("ann")
    market.attest(ann, 10_000, coins=[(1, -COIN // 100)])
    assert market.credit(ann) == -500 * MINOR
    market.attest(ann, 1_000, venue="quay")
    assert market.credit(ann) == 400 * MINOR


def test_debts_never_decay() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    market.attest(ann, coins=[(1, -COIN // 100)])
    market.wait(100)
    assert market.credit(ann) == -1_000 * MINOR


def test_credit_falls_smoothly_and_comes_back_with_the_feed() -> None:
    market, ann = leveraged(usdc=200_000)
    seen = []
    for _ in range(70):
        market.cycle()
        seen.append(market.credit(ann))
    assert all(a >= b for a, b in pairwise(seen))
    largest = max(a - b for a, b in pairwise(seen))
    assert largest == 18_000 * MINOR // 50, "a fiftieth of it a second, between 10 and 60 s"
    assert seen[-1] == 0
    market.attest(ann, 20_000)
    assert market.credit(ann) == 18_000 * MINOR


# Gate and withdrawals


def test_credit_lets_an_order_in_and_its_decay_drops_it_at_the_seal() -> None:
    market = AttestedMarket()
    ann = market.account("ann", usdc=10_000)
    assert market.refused_order(ann, BUY, 1_000, 200_000) == R.MARGIN_INSUFFICIENT
    market.attest(ann, 20_000)
    order = market.place(ann, BUY, 1_000, 199_000)
    market.wait(30)
    assert market.open_lots(order) == 1_000
    market.wait(30)
    assert market.open_lots(order) == 0


def test_a_debt_elsewhere_keeps_orders_out() -> None:
    market = AttestedMarket()
    ann = market.account("ann", usdc=20_000)
    market.attest(ann, coins=[(1, -COIN // 10)])
    assert market.refused_order(ann, BUY, 1_000, 200_000) == R.MARGIN_INSUFFICIENT


def test_no_withdrawal_rests_on_credit() -> None:
    market, ann = leveraged(credit_usdc=100_000, usdc=18_050)
    # 18,020 here after the fee, of which the bitcoin needs 18,000
    assert market.refused(Withdraw, ann, USDC, 21 * MINOR) == R.INSUFFICIENT_FUNDS
    market.withdraw(ann, 20)


def test_no_margin_moves_to_another_pool_on_credit() -> None:
    market, ann = leveraged(credit_usdc=100_000, usdc=18_050)
    pool = opened(market, ann, PoolKind.PORTFOLIO, name="desk")
    move = ann, market.pool(ann), pool, USDC
    assert market.refused(MoveMargin, *move, 21 * MINOR) == R.INSUFFICIENT_FUNDS
    market.do(MoveMargin, *move, 20 * MINOR)


def test_a_debt_elsewhere_holds_money_back() -> None:
    market = AttestedMarket()
    ann = market.account("ann", usdc=5_000)
    market.attest(ann, coins=[(1, -COIN // 100)])  # 1,000 USDC, and the margin on it
    assert market.refused(Withdraw, ann, USDC, 4_000 * MINOR) == R.INSUFFICIENT_FUNDS
    market.withdraw(ann, 3_000)


def test_only_the_cross_pool_is_credited() -> None:
    market = AttestedMarket()
    ann = market.account("ann", usdc=30_000)
    pool = opened(market, ann, PoolKind.ISOLATED, LINEAR_BTC, usdc=10_000)
    market.attest(ann, 100_000)
    assert market.refused_order(ann, BUY, 1_000, 200_000, pool=pool) == R.MARGIN_INSUFFICIENT
    assert pool not in market.engine.risk.backing.credit


# Calls and default


def test_nobody_is_liquidated_on_the_stale_number() -> None:
    """The feed falls silent: a call as soon as decay shows, nothing more until the age limit."""
    market, ann = leveraged()
    events: list[object] = []
    while market.engine.risk.backing.outside.age_ns(market.known(ann)) < 59 * SECOND:
        events += market.cycle()
    assert outcomes(events) == [CallOutcome.ISSUED]
    assert not steps(events)
    call = market.state.accounts.calls[market.pool(ann)]
    assert call.deadline_cycle < market.state.cycle, "its deadline passed long ago"
    assert market.equity(ann) < market.maintenance(ann), "its own money would not do"


def test_a_call_goes_out_early_for_what_decay_takes() -> None:
    market, ann = leveraged()
    while not every(events := market.cycle(), CallChanged):
        continue
    lacks = market.initial(ann) - market.equity(ann) - market.credit(ann)
    assert every(events, CallChanged)[0].amount_minor == lacks > 0
    assert market.credit(ann) > 7_000 * MINOR


def test_the_feed_s_return_cures_the_call() -> None:
    market, ann = leveraged()
    market.wait(55)
    market.attest(ann, 20_000)
    assert outcomes(market.cycle()) == [CallOutcome.CURED]


def test_a_deposit_cures_it_too() -> None:
    market, ann = leveraged()
    market.wait(55)
    market.do(Deposit, ann, USDC, 9_000 * MINOR)
    assert outcomes(market.cycle()) == [CallOutcome.CURED]
    assert not steps(market.wait(20)), "and what comes after the limit is covered by own money"


def test_past_the_age_limit_an_expired_call_is_liquidated() -> None:
    market, _ = leveraged()
    events = market.wait(70)
    assert outcomes(events) == [CallOutcome.ISSUED, CallOutcome.EXPIRED]
    assert "opened" in steps(events)


def test_past_the_age_limit_a_call_not_yet_due_keeps_its_time() -> None:
    market, _ = leveraged(fresh_ns=59 * SECOND)
    events: list[object] = []
    cycles = 0
    while not steps(events):
        events += market.cycle()
        cycles += bool(events) and CallOutcome.ISSUED in outcomes(events)
    assert cycles == 1 + market.venue.calls.deadline_cycles


def test_an_old_word_gives_no_time_beyond_one_call() -> None:
    market, ann = leveraged(usdc=40_000)
    market.wait(200)
    events = market.cycle(68_000)
    assert market.equity(ann) > 0
    assert outcomes(events) == [CallOutcome.BREACHED], "as if nothing had ever been attested"


def test_a_fall_that_no_credit_explains_liquidates_at_once() -> None:
    market, _ = leveraged()
    market.wait(30)
    assert outcomes(market.cycle(85_000)) == [CallOutcome.ISSUED], "12,970 against 12,155"
    assert outcomes(market.cycle(83_000)) == [CallOutcome.BREACHED], "10,970 against 11,869"


def test_a_call_for_more_than_decay_expires_as_ever() -> None:
    market, _ = leveraged()
    events = market.wait(6, 88_000)
    assert outcomes(events) == [CallOutcome.ISSUED, CallOutcome.EXPIRED]


def test_what_is_owed_here_is_called_and_not_paid_by_credit() -> None:
    market, ann = leveraged(credit_usdc=100_000)
    events = market.cycle(89_000)
    assert market.equity(ann) < 0
    assert outcomes(events) == [CallOutcome.ISSUED]
    assert every(events, CallChanged)[0].amount_minor == -market.equity(ann)
    assert market.state.accounts.withdrawals_frozen
    assert market.refused_order(ann, BUY, 1, 178_000) == R.MARGIN_INSUFFICIENT
    market.do(Deposit, ann, USDC, 2_000 * MINOR)
    assert outcomes(market.cycle()) == [CallOutcome.CURED]
    assert not market.state.accounts.withdrawals_frozen


def test_a_debt_that_is_not_brought_by_the_deadline_defaults() -> None:
    market, ann = leveraged(credit_usdc=100_000)
    events = market.wait(4, 89_000)
    assert outcomes(events) == [CallOutcome.ISSUED, CallOutcome.EXPIRED]
    assert "taken over" in steps(events)
    assert every(events, LayerPaid), "the fund pays it: credit never does"
    assert market.lots(ann) == 0
    assert market.equity(ann) == 0


def test_another_s_default_leaves_alone_who_stands_on_credit() -> None:
    market, ann = leveraged(credit_usdc=100_000)
    eve = market.account("eve", usdc=18_100)
    market.place(eve, BUY, 1_000, 200_000)
    market.place(1, SELL, 1_000, 200_000)
    market.cycle()
    events = market.cycle(81_500)
    assert "taken over" in steps(events)
    assert market.lots(eve) == 0
    assert market.lots(ann) == 1_000


def test_credit_limits_what_a_liquidation_closes() -> None:
    for credit, step in ((0, "taken over"), (6_000, "offered")):
        market = AttestedMarket(outside(haircut_ppb=0))
        ann, bob = long_one_coin(market, 19_000)
        market.attest(ann, credit)
        buy_one(market, ann, bob)
        events = market.cycle(87_000)
        assert step in steps(events)
        lots = [e.quantity_lots for e in every(events, LiquidationStep) if e.step == step]
        assert 0 < abs(lots[0]) < 1_000 or not credit, "a part restores it"


def test_a_stale_debt_calls_and_liquidates_nobody() -> None:
    market = AttestedMarket()
    ann, bob = long_one_coin(market, 20_000)
    buy_one(market, ann, bob)
    market.attest(ann, -1_000)
    market.wait(4)
    assert market.pool(ann) not in market.state.accounts.cases
    market.attest(ann, -7_000, age_s=0)
    assert outcomes(market.cycle()) == [CallOutcome.BREACHED], "a fresh debt is a debt"


def test_an_aged_debt_restricts_but_does_not_liquidate() -> None:
    market = AttestedMarket()
    ann, bob = long_one_coin(market, 20_000)
    market.attest(ann, -7_000)
    market.wait(61)
    market.account("cat")
    market.do(Deposit, ann, USDC, 7_000 * MINOR)
    buy_one(market, ann, bob)
    market.cycle(95_000)
    events = market.wait(20)
    assert market.equity(ann) > market.initial(ann)
    assert not steps(events)
    assert market.pool(ann) in market.state.accounts.calls


# Positions


def hedged(**terms: object) -> tuple[AttestedMarket, int, int]:
    """`ann` long one bitcoin here and short one elsewhere."""
    market = AttestedMarket(outside(net_positions=True, **terms))
    ann, bob = long_one_coin(market, 30_000)
    buy_one(market, ann, bob)
    alone = market.initial(ann)
    market.attest(ann, positions=[(LINEAR_BTC, -1_000)])
    return market, ann, alone


def test_a_hedge_elsewhere_lowers_the_requirement_while_it_is_fresh() -> None:
    market, ann, alone = hedged()
    assert alone == 18_000 * MINOR
    assert market.initial(ann) == 0
    seen = []
    for _ in range(70):
        market.cycle()
        seen.append(market.initial(ann))
    assert all(a <= b for a, b in pairwise(seen))
    assert seen[30] == alone * 42 // 100, "31 s old: 58 % of it nets"
    assert seen[-1] == alone


def test_positions_that_raise_the_requirement_count_in_full_at_any_age() -> None:
    market = AttestedMarket(outside(net_positions=True))
    ann, bob = long_one_coin(market, 100_000)
    buy_one(market, ann, bob)
    market.attest(ann, positions=[(LINEAR_BTC, 1_000), (LINEAR_ETH, 100)])
    full = market.initial(ann)
    assert full > 36_000 * MINOR
    market.wait(100)
    assert market.initial(ann) == full


def test_a_hedge_of_twice_the_size_costs_what_it_overshoots() -> None:
    market, ann, _ = hedged()
    market.attest(ann, positions=[(LINEAR_BTC, -2_000)])
    fresh = market.initial(ann)
    assert fresh == 18_000 * MINOR
    market.wait(100)
    assert market.initial(ann) >= fresh


def test_positions_elsewhere_do_not_count_unless_the_venue_says_so() -> None:
    market = AttestedMarket()
    ann, bob = long_one_coin(market, 30_000)
    buy_one(market, ann, bob)
    before = market.initial(ann)
    market.attest(ann, positions=[(LINEAR_BTC, -1_000), (CALL, -500)])
    assert market.initial(ann) == before


def test_a_hedge_elsewhere_lets_nothing_be_withdrawn() -> None:
    market, ann, alone = hedged()
    free = market.equity(ann) - alone
    assert market.refused(Withdraw, ann, USDC, free + 1) == R.INSUFFICIENT_FUNDS
    market.do(Withdraw, ann, USDC, free)


def test_the_hedge_s_silence_calls_early_and_liquidates_nobody_before_its_limit() -> None:
    market = AttestedMarket(outside(net_positions=True))
    ann, bob = long_one_coin(market, 10_000)
    market.attest(ann, positions=[(LINEAR_BTC, -1_000)])
    buy_one(market, ann, bob)
    events = market.wait(57)
    assert outcomes(events) == [CallOutcome.ISSUED]
    assert not steps(events)
    assert market.equity(ann) < market.maintenance(ann)
    assert "opened" in steps(market.wait(10))


@pytest.mark.parametrize("slot", [LINEAR_BTC, INVERSE_BTC, CALL])
def test_the_gate_and_the_revaluation_see_the_same_requirement(slot: int) -> None:
    market = AttestedMarket(outside(net_positions=True))
    ann, bob = long_one_coin(market, 60_000)
    buy_one(market, ann, bob)
    market.attest(ann, 5_000, coins=[(1, COIN // 5)], positions=[(slot, -70)])
    for _ in range(40):
        market.cycle()
        gate, pool = market.engine.gate, market.pool(ann)
        found, _ = gate.requirement(pool, market.state.orders.of_pool(pool))
        assert found == market.initial(ann)
        now = market.engine.risk.backing.standing(pool, Reading.NOW)
        last = market.engine.risk.backing.standing(pool, Reading.LAST)
        assert now.credit_minor - now.initial_minor <= last.credit_minor - last.initial_minor


def test_coin_elsewhere_costs_what_it_loses_in_the_worst_scenario() -> None:
    market = AttestedMarket(outside(haircut_ppb=0))
    ann, bob = long_one_coin(market, 30_000)
    buy_one(market, ann, bob)
    before = market.initial(ann)
    market.attest(ann, coins=[(1, COIN)])
    # 95,000 counted, which is 0.95 bitcoin, 16 % of which is lost
    assert market.initial(ann) == before + 95_000 * MINOR * 16 // 100
    market.wait(100)
    assert market.initial(ann) == before


def test_coin_elsewhere_offsets_no_short() -> None:
    market = AttestedMarket(outside(haircut_ppb=0))
    ann, bob = market.account("ann", usdc=30_000), market.account("bob")
    market.place(ann, SELL, 1_000, 200_000)
    market.place(bob, BUY, 1_000, 200_000)
    market.cycle()
    before = market.initial(ann)
    market.attest(ann, coins=[(1, COIN)])
    assert market.initial(ann) == before
