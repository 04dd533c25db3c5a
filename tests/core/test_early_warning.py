"""Early warnings: said once at the crossing, remembered in the state; a floor that only raises."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange.core.commands import Deposit
from exchange.core.engine import Engine
from exchange.core.events import CallChanged, Event, MarginWarned
from exchange.core.risk.early_warning import call_chance, call_chances
from exchange.core.risk.exposures import exposures
from margin.presets import load_preset
from margin.presets.dynamic_sections import Predictive
from margin.presets.preset import Preset
from tests.core.attested_market import AttestedMarket, outside
from tests.core.market import (
    BUY,
    CALL,
    COIN_PUT,
    E9,
    FUTURE,
    INVERSE_BTC,
    INVERSE_FUTURE,
    LINEAR_BTC,
    LINEAR_ETH,
    PUT,
    SECOND,
    SELL,
    USDC,
    Market,
    every,
    small,
)

DYNAMIC = load_preset("ps-1-dynamic")
WARN = Predictive(cycles=60, fat_tail_e9=1_100_000_000, warning_ppb=50_000_000, tail_freedom=4)


def warning_preset(section: Predictive | None = WARN, **parts: Any) -> Preset:
    moving = msgspec.structs.replace(DYNAMIC.dynamic, **parts)
    return msgspec.structs.replace(DYNAMIC, dynamic=moving, predictive=section)


def holding(section: Predictive | None = WARN) -> tuple[Market, int]:
    """An account long one BTC with room of a few hundred USDC, in cycles of a minute."""
    market = Market(small(preset=warning_preset(section), interval_ns=60 * SECOND))
    buyer, seller = market.account("ann", 20_000), market.account("bob")
    market.trade(buyer, seller, 1000, 200_000, LINEAR_BTC)
    room = market.equity(buyer) - market.initial(buyer)
    market.withdraw(buyer, room // 10**6 - 2_500)
    return market, buyer


def warnings(events: list[Event]) -> list[MarginWarned]:
    return every(events, MarginWarned)


def test_a_pool_is_warned_once_before_it_is_called() -> None:
    market, buyer = holding()
    assert not warnings(market.cycle())
    price, said, called = 100_000, [], []
    for _ in range(60):
        price -= 60
        events = market.cycle(price)
        said += [(market.state.cycle, w) for w in warnings(events)]
        called += [market.state.cycle for c in every(events, CallChanged)]
        if called:
            break
    assert len(said) == 1
    cycle, warning = said[0]
    assert warning.pool == market.pool(buyer)
    assert 50_000_000 <= warning.probability_ppb < E9
    assert warning.forecast_minor >= 0
    assert cycle < called[0]


def test_a_warning_is_said_again_only_after_it_has_passed() -> None:
    market, buyer = holding()
    first = warnings(market.cycle(98_200))
    assert [w.pool for w in first] == [market.pool(buyer)]
    assert not warnings(market.cycle(98_200))
    assert market.state.forecasts.warned == [market.pool(buyer)]
    market.do(Deposit, buyer, USDC, 20_000 * 10**6)
    assert not warnings(market.cycle(98_200))
    assert market.state.forecasts.warned == []
    market.withdraw(buyer, 20_000)
    assert [w.pool for w in warnings(market.cycle(98_200))] == [market.pool(buyer)]


def test_what_was_said_is_state() -> None:
    market, _ = holding()
    before = market.engine.state_hash()
    assert warnings(market.cycle(98_200))
    restored = Engine.restore(market.engine.snapshot())
    assert restored.state_hash() == market.engine.state_hash() != before
    assert restored.state.forecasts.warned == market.state.forecasts.warned
    known = len(market.log)
    market.cycle(98_200)
    again = [event for command in market.log[known:] for event in restored.apply(command)]
    assert not warnings(again)
    assert restored.state_hash() == market.engine.state_hash()


def test_a_venue_that_does_not_predict_says_nothing() -> None:
    market, _ = holding(None)
    assert not warnings(market.cycle(98_200))
    assert "warned" not in dict(market.state.parts())


def test_a_hedge_that_expires_within_the_horizon_counts_as_gone() -> None:
    """Long a perpetual and short the future that expires in half an hour, and one that stays."""
    market = Market(small(preset=warning_preset(), interval_ns=60 * SECOND, expiry_after_s=1800))
    pair, other = market.account("ann", 40_000), market.account("bob", 10_000_000)
    market.trade(pair, other, 1000, 200_000, LINEAR_BTC)
    market.trade(other, pair, 1000, 200_000, FUTURE)
    room = market.equity(pair) - market.initial(pair)
    market.withdraw(pair, room // 10**6 - 5_000)
    said = warnings(market.cycle())
    assert [w.pool for w in said] == [market.pool(pair)]
    assert said[0].forecast_minor > 2 * market.initial(pair)
    assert said[0].probability_ppb == E9


def test_a_short_straddle_is_warned_for_its_gamma() -> None:
    """Calls and puts of one BTC sold for a day: hardly a delta, and 1,000 USDC to spare."""
    venue = small(preset=warning_preset(), interval_ns=60 * SECOND, expiry_after_s=86_400)
    market = Market(venue)
    maker, taker = market.account("ann", 100_000), market.account("bob", 10_000_000)
    for slot in (CALL, PUT):
        market.trade(taker, maker, 100, market.state.marks.reference_ticks(slot), slot)
    room = market.equity(maker) - market.initial(maker)
    market.withdraw(maker, room // 10**6 - 1_000)
    said = warnings(market.cycle())
    assert [w.pool for w in said] == [market.pool(maker)]
    assert said[0].probability_ppb < E9


@pytest.mark.parametrize("slot", [LINEAR_BTC, INVERSE_BTC, FUTURE, CALL, INVERSE_FUTURE, COIN_PUT])
@pytest.mark.parametrize("side", [BUY, SELL])
def test_exposures_are_what_the_engine_books_and_asks_once_the_market_has_moved(
    slot: int, side: int
) -> None:
    """The index 1 % up or down in a cycle later: the cushion changes by slope z + bend z^2."""
    quiet = msgspec.structs.replace(DYNAMIC, dynamic=None, cross_unit=None, predictive=None)
    for way in (1, -1):
        market = Market(small(preset=quiet, interval_ns=SECOND, expiry_after_s=30 * 86_400))
        pair = market.account("ann", 10_000_000, BTC=10**9), market.account("bob", 10**7, BTC=10**9)
        buyer, seller = pair if side == BUY else pair[::-1]
        price = market.state.marks.reference_ticks(slot)
        market.trade(buyer, seller, 50, price, slot)
        market.cycle(after_ns=1)
        pool = market.pool(pair[0])
        slope, bend = exposures(market.state, market.engine.risk, 0, [10**7, 10**7])
        before = market.equity(pair[0]) - market.initial(pair[0])
        market.cycle(100_000 + way * 1_000, after_ns=1)
        change = market.equity(pair[0]) - market.initial(pair[0]) - before
        said = way * int(slope[pool, 0]) + int(bend[pool, 0])
        assert said == pytest.approx(change, rel=1e-3, abs=20_000), way


def test_every_chance_is_told_and_a_thinner_cushion_is_likelier_to_be_called() -> None:
    market = Market(small(preset=warning_preset(), interval_ns=60 * SECOND))
    pools = []
    for room in (500, 1_000, 2_000, 4_000):
        buyer, seller = market.account(f"a{room}", 30_000), market.account(f"b{room}")
        market.trade(buyer, seller, 1000, 200_000, LINEAR_BTC)
        spare = market.equity(buyer) - market.initial(buyer)
        market.withdraw(buyer, spare // 10**6 - room)
        pools.append(market.pool(buyer))
    market.cycle()
    found = {row.pool: row for row in call_chances(market.state, market.engine.risk, 0, WARN)}
    chances = [found[pool].probability_ppb for pool in pools]
    assert chances == sorted(chances, reverse=True)
    assert len(set(chances)) == len(chances)
    for pool, row in found.items():
        assert row.forecast_minor >= int(market.engine.risk.initial[pool])


def test_a_predictive_floor_only_raises_initial_margin() -> None:
    def path(section: Predictive | None) -> list[tuple[int, int]]:
        market = Market(small(preset=warning_preset(section), interval_ns=60 * SECOND))
        buyer, seller = market.account("ann", 100_000), market.account("bob")
        market.trade(buyer, seller, 1000, 200_000, LINEAR_BTC)
        found = []
        for price in (101_500, 99_000, 102_000, 99_500, 100_000, 100_000, 100_000):
            market.cycle(price)
            found.append((market.initial(buyer), market.maintenance(buyer)))
        return found

    floored = path(msgspec.structs.replace(WARN, floor=True))
    plain = path(None)
    assert all(a[0] >= b[0] for a, b in zip(floored, plain, strict=True))
    assert floored[2][0] > plain[2][0], "ranges are on their way up"
    assert [m for _, m in floored] == [m for _, m in plain]


def crowded() -> tuple[Market, list[int]]:
    """Pools of futures, options and coin with little to spare, under ranges that move.

    Some contracts expire within the horizon.
    """
    venue = small(preset=warning_preset(), interval_ns=60 * SECOND, expiry_after_s=1800)
    market = Market(venue)
    maker = market.account("maker", 50_000_000, BTC=10**10)
    pools = []
    for number, slot in enumerate((LINEAR_BTC, INVERSE_BTC, FUTURE, CALL, COIN_PUT)):
        account = market.account(f"a{number}", 40_000, BTC=10**6)
        price = market.state.marks.reference_ticks(slot)
        pair = (account, maker) if number % 2 == 0 else (maker, account)
        market.trade(*pair, 100, price, slot)
        market.trade(account, maker, 30 + number, 200_000, LINEAR_BTC)
        room = market.equity(account) - market.initial(account)
        pools.append(market.pool(account))
        spare = room - (120 + 60 * number) * 10**6
        market.withdraw(account, min(spare, market.state.ledger.balance(pools[-1], USDC)) // 10**6)
    for price in (99_900, 100_050, 99_950):
        market.cycle(price)
    return market, pools


def test_one_pool_that_is_asked_about_has_the_numbers_of_the_pass_over_all() -> None:
    market, pools = crowded()
    state, risk = market.state, market.engine.risk
    rows = {row.pool: row for row in call_chances(state, risk, 0, WARN)}
    assert set(pools) <= set(rows)
    assert len({row.probability_ppb for row in rows.values()}) > 3
    assert [call_chance(state, risk, pool) for pool in rows] == list(rows.values())


def test_asking_for_a_chance_changes_no_state_and_no_figure() -> None:
    market, pools = crowded()
    state, risk = market.state, market.engine.risk
    warned = list(state.forecasts.warned)
    before = market.engine.state_hash(), risk.initial.tobytes(), risk.worst.unit_loss.tobytes()
    said = [call_chance(state, risk, pool) for pool in pools]
    assert [call_chance(state, risk, pool) for pool in pools] == said
    assert state.forecasts.warned == warned
    after = market.engine.state_hash(), risk.initial.tobytes(), risk.worst.unit_loss.tobytes()
    assert after == before


def test_the_warning_says_what_asking_then_answers() -> None:
    market, buyer = holding()
    (warning,) = warnings(market.cycle(98_200))
    found = call_chance(market.state, market.engine.risk, market.pool(buyer))
    assert found is not None
    assert (found.pool, found.probability_ppb, found.forecast_minor) == (
        warning.pool, warning.probability_ppb, warning.forecast_minor,
    )  # fmt: skip


def test_a_chance_is_of_the_pool_as_it_stands_between_revaluations() -> None:
    market, buyer = holding()
    market.cycle(98_200)
    state, risk, pool = market.state, market.engine.risk, market.pool(buyer)
    thin = call_chance(state, risk, pool)
    market.do(Deposit, buyer, USDC, 20_000 * 10**6)
    thick = call_chance(state, risk, pool)
    assert thin is not None
    assert thick is not None
    assert thick.probability_ppb < thin.probability_ppb
    assert thick.forecast_minor == thin.forecast_minor


def test_a_pool_that_no_revaluation_has_seen_holds_nothing_to_forecast() -> None:
    market, _ = holding()
    market.cycle(98_200)
    new = market.pool(market.account("zoe", 0))
    assert call_chance(market.state, market.engine.risk, new) is None


def test_without_a_forecast_there_is_no_chance() -> None:
    market, buyer = holding(None)
    assert call_chance(market.state, market.engine.risk, market.pool(buyer)) is None


def test_a_warning_is_said_from_the_threshold_on() -> None:
    market, _ = holding()
    (said,) = warnings(market.cycle(98_200))
    for more, count in ((0, 1), (1, 0)):
        section = msgspec.structs.replace(WARN, warning_ppb=said.probability_ppb + more)
        assert len(warnings(holding(section)[0].cycle(98_200))) == count


def test_a_pool_in_liquidation_is_not_warned() -> None:
    market, buyer = holding()
    events = market.cycle(92_500)
    assert market.pool(buyer) in market.state.accounts.cases
    assert not warnings(events)
    assert not warnings(market.cycle())
    assert market.state.forecasts.warned == []


@pytest.mark.parametrize("slot", [LINEAR_BTC, INVERSE_BTC])
def test_the_forecast_under_a_floor_is_today_s_margin_and_the_funding_due(slot: int) -> None:
    """A premium of 0.4 %: whoever is long 100,000 USD pays for it over the hour to come.

    The ranges are on their way up, but the floor holds that growth already.
    """
    section = msgspec.structs.replace(WARN, floor=True)
    market = Market(small(preset=warning_preset(section), interval_ns=60 * SECOND))
    long, short = (market.account(name, 100_000, BTC=10**8) for name in ("ann", "bob"))
    lots = 1_000 if slot == LINEAR_BTC else 10_000
    market.trade(long, short, lots, 200_000, slot)
    market.basis_e8[slot] = 400 * 10**8
    for price in (101_500, 99_000, 100_000):
        market.cycle(price)
    model = market.engine.risk.models[0]
    assert model.growth_ppb > E9
    rate = market.state.marks.funding_rate_e9[slot]
    due = 100_000 * 10**6 * rate * 3600 // (E9 * 8 * 3600)
    assert due > 0
    rows = call_chances(market.state, market.engine.risk, 0, section)
    forecast = {row.pool: row.forecast_minor for row in rows}
    paid = forecast[market.pool(long)] - market.initial(long)
    assert paid == pytest.approx(due, rel=0.01)  # of the mark, which has the premium in it
    assert forecast[market.pool(short)] == market.initial(short), "receipts are left out"


def test_without_correlations_no_coin_is_a_hedge_of_another() -> None:
    """Long one and short the other is no less likely to be called than long of both."""
    alone = msgspec.structs.replace(warning_preset(), cross_unit=None)
    market = Market(small(preset=alone, interval_ns=60 * SECOND))
    other = market.account("bob", 10_000_000)
    pools = []
    for name in ("both", "pair"):
        account = market.account(name, 60_000)
        market.trade(account, other, 1000, 200_000, LINEAR_BTC)
        buyer, seller = (account, other) if name == "both" else (other, account)
        market.trade(buyer, seller, 2500, 80_000, LINEAR_ETH)
        pools.append((account, market.pool(account)))
    for account, _ in pools:
        room = market.equity(account) - market.initial(account)
        market.withdraw(account, room // 10**6 - 5_000)
    market.cycle()
    rows = call_chances(market.state, market.engine.risk, 0, WARN)
    found = {row.pool: row.probability_ppb for row in rows}
    both, pair = (found[pool] for _, pool in pools)
    assert both // 2 < pair < E9


def test_credit_for_what_is_elsewhere_makes_a_call_less_likely() -> None:
    venue = {"preset": warning_preset(), "interval_ns": 60 * SECOND}
    market = AttestedMarket(outside(fresh_ns=3600 * SECOND, age_limit_ns=7200 * SECOND), **venue)
    buyer, seller = market.account("ann", 20_000), market.account("bob")
    market.trade(buyer, seller, 1000, 200_000, LINEAR_BTC)

    def chance() -> int:
        rows = call_chances(market.state, market.engine.risk, 0, WARN)
        return {row.pool: row.probability_ppb for row in rows}[market.pool(buyer)]

    before = chance()
    market.attest(buyer, 1_000)
    less = chance()
    assert 0 < less < before
    market.attest(buyer)
    assert chance() == before
    market.do(Deposit, buyer, USDC, 900 * 10**6)
    assert chance() == less, "as 900 of money would, which it counts for"
