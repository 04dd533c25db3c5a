"""Moving ranges in the engine: state, snapshot, replay; the gate and the calls read one model."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest

from exchange.core.engine import Engine
from exchange.core.reject_reason import RejectReason
from exchange.core.venue import AccountClass, Venue
from margin.forecasts.predictive import variance_path_e18
from margin.presets import load_preset
from margin.presets.dynamic_sections import GarchRule
from margin.presets.preset import NamedRate, Preset
from margin.presets.sections import COIN
from tests.core.market import BUY, E8, E9, LINEAR_BTC, LINEAR_ETH, SECOND, SELL, Market, small

DYNAMIC = load_preset("ps-1-dynamic")


def preset(**parts: Any) -> Preset:
    """The shipped dynamic model with other parts of its dynamic section."""
    section = msgspec.structs.replace(DYNAMIC.dynamic, **parts)
    return msgspec.structs.replace(DYNAMIC, dynamic=section)


def wild(market: Market, cycles: int, seed: int = 1, after_ns: int = 60 * SECOND) -> list[str]:
    """Cycles of a minute in which the indices move by up to a hundredth; the state hashes."""
    dice, hashes = random.Random(seed), []
    for _ in range(cycles):
        market.seal(after_ns)
        market.uncross()
        market.index_e8 = [p * (E9 + dice.randint(-(10**7), 10**7)) // E9 for p in market.index_e8]
        market.revalue()
        hashes.append(market.state.last_hash.hex())
    return hashes


def ranges(engine: Engine) -> list[int]:
    memory = engine.state.forecasts.memories[0].ranges
    assert memory is not None
    return memory.range_e9.tolist()


def twin(market: Market) -> Engine:
    """The engine that applies the market's commands again."""
    engine = Engine()
    for command in market.log:
        engine.apply(command)
    return engine


def test_a_venue_without_the_sections_has_no_such_part_in_its_state() -> None:
    market = Market(small())
    assert "forecasts" not in dict(market.state.parts())
    wild(market, 3)
    assert "forecasts" not in dict(market.state.parts())


def test_the_model_in_force_is_that_of_the_cycle_s_ranges() -> None:
    market = Market(small(preset=preset(cycle_rise_ppb=E9)))
    opened = ranges(market.engine)
    wild(market, 10)
    now, model = ranges(market.engine), market.engine.risk.models[0]
    assert now != opened
    for unit, name in enumerate(("BTC", "ETH")):
        assert model.preset.spot_range_e9(name) == now[unit]
        moves = model.scenarios[unit].spot_move_e9
        assert now[unit] in moves.tolist()
        assert int(model._spot_range_e9[unit]) == now[unit]


def test_a_wilder_market_asks_more_of_the_same_position() -> None:
    market = Market(small(preset=preset(cycle_rise_ppb=E9)))
    buyer, seller = market.account("ann"), market.account("bob")
    market.trade(buyer, seller, 1000, 200_000, LINEAR_BTC)
    quiet, level = market.initial(buyer), market.index_e8[0]
    wild(market, 30)
    market.index_e8[0] = level
    market.cycle(after_ns=SECOND)
    assert market.initial(buyer) > quiet * 5 // 4


@pytest.mark.parametrize("at", [0, 7, 23])
def test_a_restored_engine_forecasts_on_as_if_nothing_happened(at: int) -> None:
    market = Market(small(preset=preset()))
    wild(market, at)
    restored = Engine.restore(market.engine.snapshot())
    assert restored.state_hash() == market.engine.state_hash()
    assert ranges(restored) == ranges(market.engine)
    known = len(market.log)
    wild(market, 12, seed=at + 2)
    for command in market.log[known:]:
        restored.apply(command)
    assert restored.state_hash() == market.engine.state_hash()
    assert ranges(restored) == ranges(market.engine)
    a, b = restored.risk.models[0], market.engine.risk.models[0]
    assert np.array_equal(a.matrix.long, b.matrix.long)
    assert np.array_equal(a._correlations_ppb, b._correlations_ppb)


def test_correlations_learn_nothing_while_an_index_is_not_fresh() -> None:
    market = Market(small(preset=preset()))
    wild(market, 5)
    correlation = market.state.forecasts.memories[0].correlation
    assert correlation is not None
    before, period = correlation.moment_e18.tolist(), correlation.period
    market.age_ns[1] = 30 * SECOND
    wild(market, 3, seed=2)
    assert (correlation.moment_e18.tolist(), correlation.period) == (before, period)
    market.age_ns[1] = 0
    wild(market, 1, seed=3)
    assert correlation.moment_e18.tolist() != before


def test_a_horizon_that_ends_within_a_period_counts_all_of_its_periods() -> None:
    """A GARCH far above its long run: the second minute is quieter than the first."""
    rule = GarchRule(long_run=(NamedRate(name="default", rate_e9=E9 // 10),),
                     alpha_ppb=100_000_000, beta_ppb=100_000_000)  # fmt: skip
    market = Market(small(preset=preset(ewma=None, garch=rule)))
    memory = market.state.forecasts.memories[0]
    assert memory.terms is not None
    assert memory.ranges is not None
    past = memory.ranges.memory[:, 0].tolist()
    first, second = variance_path_e18(memory.terms.forecasters[0], past, 2)
    assert second < first // 2
    found = memory.horizon_volatility_e9(0, 90 * SECOND)
    assert found == pytest.approx(((first + second) * 3 / 4) ** 0.5, abs=1)


def test_a_replay_of_the_commands_makes_the_same_forecasts() -> None:
    market = Market(small(preset=preset()))
    market.account("ann")
    wild(market, 20)
    again = twin(market)
    assert again.state_hash() == market.engine.state_hash()
    first, second = (e.state.forecasts.memories[0].columns() for e in (again, market.engine))
    assert first == second


def test_the_hash_covers_the_memory() -> None:
    market = Market(small(preset=preset()))
    before = market.engine.state_hash()
    memory = market.state.forecasts.memories[0]
    assert memory.ranges is not None
    assert memory.correlation is not None
    for column in (memory.ranges.memory, memory.ranges.range_e9, memory.ranges.long_run_e18,
                   memory.ranges.day_range_e9, memory.correlation.moment_e18):  # fmt: skip
        column.reshape(-1)[0] += 1
        assert market.engine.state_hash() != before
        column.reshape(-1)[0] -= 1
    assert market.engine.state_hash() == before


def test_ranges_hold_their_caps_and_bounds_cycle_by_cycle() -> None:
    market = Market(small(preset=preset()))
    terms = market.state.forecasts.memories[0].terms
    assert terms is not None
    before = ranges(market.engine)
    for seed in range(40):
        wild(market, 1, seed, after_ns=20 * SECOND)
        now = ranges(market.engine)
        for u in range(2):
            assert now[u] <= before[u] * 102 // 100
            assert terms.least_e9[u] <= now[u] <= terms.most_e9[u]
        before = now


def test_the_risk_exponent_leaves_room_for_the_widest_range() -> None:
    """In coin a loss grows with 1 / (1 - range): five times at 80 %."""

    def exponent(range_e9: int, dynamic: bool) -> int:
        moving = msgspec.structs.replace(DYNAMIC.dynamic, most_e9=5 * E9)
        model = msgspec.structs.replace(
            DYNAMIC,
            numeraire=COIN,
            spot_range=(NamedRate(name="default", rate_e9=range_e9),),
            dynamic=moving if dynamic else None,
            predictive=None,
        )
        return Market(small(preset=model)).engine.risk.models[0].exponent

    assert exponent(160_000_000, True) == exponent(800_000_000, False)
    assert exponent(160_000_000, True) < exponent(160_000_000, False)


def hedged() -> tuple[Market, int]:
    """A pool long one BTC and short as much ETH, against one that holds the opposite."""
    market = Market(small(preset=preset()))
    pair, other = market.account("ann"), market.account("bob")
    market.trade(pair, other, 1000, 200_000, LINEAR_BTC)  # 100,000 USD
    market.trade(other, pair, 2500, 80_000, LINEAR_ETH)
    return market, pair


def test_losses_of_two_coins_offset_each_other_in_every_figure_of_the_pool() -> None:
    market, pair = hedged()
    risk, pool = market.engine.risk, market.pool(pair)
    relief = int(risk.relief_minor[pool])
    assert relief > 0
    whole_sum = msgspec.structs.replace(preset(), cross_unit=None)
    without = Market(small(preset=whole_sum), opened=False)
    for command in market.log[1:]:
        without.engine.apply(command)
    whole = without.engine.risk
    assert int(whole.initial[pool]) - relief == market.initial(pair)
    assert int(whole.maintenance[pool]) > market.maintenance(pair)
    assert int(whole.relief_minor[pool]) == 0
    before = market.initial(pair), market.maintenance(pair), relief
    risk.revalue_pool(pool)
    assert (market.initial(pair), market.maintenance(pair), int(risk.relief_minor[pool])) == before
    lots = market.state.positions.lots[market.state.positions.rows_of(pool)].tolist()
    assert risk.requirement_of(pool, lots) == before[:2]


def test_no_order_is_admitted_on_the_strength_of_an_offset() -> None:
    """Equity between the requirement with the offset and the one without: only less risk."""
    market, pair = hedged()
    risk, pool = market.engine.risk, market.pool(pair)
    room = market.equity(pair) - market.initial(pair)
    spare = room - int(risk.relief_minor[pool]) // 2
    assert market.engine.gate.headroom[pool] == room - int(risk.relief_minor[pool])
    market.state.ledger.cash[pool, 0] -= spare
    market.state.ledger.cash[market.pool(pair) + 1, 0] += spare
    risk.revalue()
    market.engine.gate.rebuild()
    assert market.equity(pair) > market.initial(pair)
    refused = market.refused_order(pair, BUY, 1, 200_000, LINEAR_BTC)
    assert refused == RejectReason.MARGIN_INSUFFICIENT
    market.place(pair, SELL, 1, 200_000, LINEAR_BTC)


def test_a_class_of_accounts_may_have_moving_ranges_of_its_own() -> None:
    venue: Venue = small(account_classes=(AccountClass("desk", preset(cycle_rise_ppb=E9)),))
    market = Market(venue)
    assert market.state.forecasts.memories[0].ranges is None
    wild(market, 15)
    models = market.engine.risk.models
    assert models[0].preset.spot_range_e9("BTC") == 160_000_000
    assert models[1].preset.spot_range_e9("BTC") > 170_000_000
    restored = Engine.restore(market.engine.snapshot())
    assert restored.state_hash() == market.engine.state_hash()
    now = restored.risk.models[1].preset.spot_range_e9("BTC")
    assert now == models[1].preset.spot_range_e9("BTC")


def test_grids_are_built_again_only_when_a_range_has_moved() -> None:
    market = Market(small(preset=preset()))
    market.cycle(after_ns=60 * SECOND)
    grid = market.engine.risk.models[0].grid
    market.cycle(after_ns=SECOND)
    assert market.engine.risk.models[0].grid is grid
    assert market.index_e8[0] == 100_000 * E8
