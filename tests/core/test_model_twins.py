"""Models that charge by rules and by dates, against slow twins and on other machines."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from exchange.core.engine import Engine
from exchange.core.risk.history_model import HistoryModel
from exchange.core.risk.standard_model import StandardModel, feeds_of
from exchange.core.stored.ledger import HOUSE_POOLS
from exchange.core.stored.marks import IndexState
from margin.models.standard_orders import in_dollars, margins_with_orders
from margin.pools.open_orders import OpenOrders
from margin.portfolio import INVERSE
from margin.scenarios.grid import COIN_STEP_MINOR
from tests.core.charged_story import play, told
from tests.core.market import Market
from tests.reference import reference_charged as twin
from tests.reference.reference_simulation import tail

ROOT = Path(__file__).parents[2]
MODELS = ["standard", "fhs-es"]


@lru_cache(maxsize=8)
def moved(name: str, seed: int) -> Market:
    """A market after five cycles, all its indices fresh."""
    market = play(name, seed, 5)
    market.age_ns = [0] * len(market.age_ns)
    market.cycle()
    return market


def held(market: Market) -> list[int]:
    """Pools of accounts with positions."""
    pools = np.unique(market.state.positions.pool).tolist()
    return [pool for pool in pools if pool >= HOUSE_POOLS]


def lots_of(market: Market, pool: int) -> dict[int, int]:
    columns = market.engine.risk.holdings.columns_of(pool)
    rows = zip(columns.instrument.tolist(), columns.quantity_lots.tolist(), strict=True)
    return dict(rows)


def rules_twin(market: Market) -> twin.OrdersTwin:
    model = market.engine.risk.models[0]
    assert isinstance(model, StandardModel)
    instruments, marks = in_dollars(market.state.contracts.columns, market.state.marks.columns())
    return twin.OrdersTwin(
        model.rules, instruments, marks, feeds_of(instruments, marks),
        [model.rules.haircut_ppb(u.name) for u in market.venue.underlyings],
        model.grid.risk_exponent.tolist(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_every_pool_is_charged_what_the_rules_say(seed: int) -> None:
    """No index is stale, so that nothing stands beside the rules."""
    market = moved("standard", seed)
    assert all(s == IndexState.FRESH for s in market.state.marks.index_state)
    rules, risk = rules_twin(market), market.engine.risk
    for pool in held(market):
        coins = risk.holdings.columns_of(pool).coin_minor[0].tolist()
        needed = rules.margins(lots_of(market, pool), coins)
        assert needed == (risk.initial[pool], risk.maintenance[pool])


def test_an_option_settled_in_coin_is_worth_its_dollars() -> None:
    market = moved("standard", 0)
    of, marks = market.state.contracts.columns, market.state.marks.columns()
    dollars, seen = in_dollars(of, marks)
    inverse = np.flatnonzero(of.kind != dollars.kind).tolist()
    assert inverse
    for i in inverse:
        assert seen.mark_e8[i] == twin.in_dollars(of, marks, i)
        assert dollars.kind[i] == of.kind[i] - 2


@pytest.mark.parametrize("seed", range(3))
def test_the_rules_with_orders_are_the_worst_subset_of_each_measure(seed: int) -> None:
    market, chance = moved("standard", seed), random.Random(seed)
    model, rules = market.engine.risk.models[0], rules_twin(market)
    assert isinstance(model, StandardModel)
    slots = [int(i) for i in market.state.contracts.listed()]
    for pool in chance.choices(held(market), k=12):
        columns = market.engine.risk.holdings.columns_of(pool)
        picked = [chance.choice(slots) for _ in range(chance.randrange(0, 6))]
        sides = [chance.choice((1, -1)) for _ in picked]
        sizes = [chance.randrange(1, 300) for _ in picked]
        gains = [chance.randrange(-2, 3) * chance.randrange(10**8) for _ in picked]
        orders = OpenOrders(*(np.array(c, np.int64) for c in (picked, sides, sizes, gains)),
                            np.zeros(len(picked), np.int64))  # fmt: skip
        found = margins_with_orders(
            model.rules_table, model.matrix.coin_value, columns.instrument, columns.quantity_lots,
            np.zeros_like(columns.coin_minor[0]), orders,
        )  # fmt: skip
        twins = [twin.TwinOrder(i, s * n, Fraction(-s * n * g))
                 for i, s, n, g in zip(picked, sides, sizes, gains, strict=True)]  # fmt: skip
        assert found == rules.with_orders(lots_of(market, pool), twins)


@pytest.mark.parametrize("seed", range(2))
def test_every_lot_is_repriced_on_every_date(seed: int) -> None:
    """Against floats of the standard library: within a quantum and 10^-9 of the notional."""
    market, chance = moved("fhs-es", seed), random.Random(seed)
    model = market.engine.risk.models[0]
    assert isinstance(model, HistoryModel)
    of, marks = market.state.contracts.columns, market.state.marks.columns()
    quanta = 10**6 * 2**model.exponent
    for i in market.state.contracts.listed():
        name = market.venue.underlyings[int(of.unit[i])].risk_class
        for date in chance.choices(range(model.history.dates), k=12):
            h, days = chance.choice([*enumerate(model.history.horizon_days)])
            exact = twin.lot_profit(model.preset, name, of, marks, int(i), date, days) * quanta
            found = int(model.profits.lot[h, i, date])
            assert math.isclose(found, exact, rel_tol=1e-6, abs_tol=200), (i, date, days)


def days_to_close(market: Market, pool: int, unit: int) -> int:
    """Whole days at a tenth of the day's volume; one where nobody knows the volume."""
    volume = market.venue.underlyings[unit].daily_volume_minor
    of, marks, gross = market.state.contracts.columns, market.state.marks.columns(), Fraction(0)
    for i, lots in lots_of(market, pool).items():
        if int(of.unit[i]) == unit:
            coins = Fraction(int(of.lot_e8[i]), 10**8)
            if int(of.kind[i]) == INVERSE:
                coins /= Fraction(int(marks.mark_e8[i]), 10**8)
            value = math.ceil(coins * int(marks.index_e8[unit]) / 100)
            gross += abs(lots) * value
    return math.ceil(gross / Fraction(volume, 10)) if volume else 1


@pytest.mark.parametrize("seed", range(2))
def test_every_pool_is_charged_the_mean_of_its_worst_dates(seed: int) -> None:
    """Each unit at the worst of the days up to those that its position takes to close."""
    market = moved("fhs-es", seed)
    risk, model = market.engine.risk, market.engine.risk.models[0]
    assert isinstance(model, HistoryModel)
    lot, coin = model.profits.lot.tolist(), model.profits.coin.tolist()
    level, unit = Fraction(model.history.level_ppb, 10**9), market.state.contracts.columns.unit
    seen = set()
    for pool in held(market):
        coins = risk.holdings.columns_of(pool).coin_minor[0].tolist()
        losses = [0] * model.history.dates
        for u, c in enumerate(coins):
            mine = {i: q for i, q in lots_of(market, pool).items() if int(unit[i]) == u}
            needed = days_to_close(market, pool, u)
            used = [h for h, days in enumerate(model.history.horizon_days)
                    if h == 0 or model.history.horizon_days[h - 1] < needed]  # fmt: skip
            seen.add((u, len(used)))
            for s in range(model.history.dates):
                losses[s] += max(
                    -sum(q * lot[h][i][s] for i, q in mine.items())
                    - (c * coin[h][u][s] // COIN_STEP_MINOR)
                    for h in used
                )
        _, shortfall = tail(losses, model.history.weights(), level)
        worst = max(0, math.ceil(Fraction(math.ceil(shortfall), 2**model.exponent)))
        assert risk.worst.worst_minor[pool] == worst
    assert len(seen) == 3, "of one unit the volume is not known, in the other some are large"


@pytest.mark.parametrize("name", MODELS)
def test_a_snapshot_and_a_replay_come_to_the_same(name: str) -> None:
    market = moved(name, 1)
    again = Engine()
    for command in market.log:
        again.apply(command)
    assert again.state_hash() == market.engine.state_hash()
    restored = Engine.restore(market.engine.snapshot())
    assert restored.state_hash() == market.engine.state_hash()
    for column in ("initial", "maintenance", "relief_minor", "equity"):
        there, here = getattr(restored.risk, column), getattr(market.engine.risk, column)
        assert there[HOUSE_POOLS:].tolist() == here[HOUSE_POOLS:].tolist(), column


@pytest.mark.parametrize("name", MODELS)
def test_interpreted_it_is_the_same(name: str) -> None:
    here = told(play(name, 3, 2))
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.charged_story", name, "3", "2"], cwd=ROOT,
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == here
