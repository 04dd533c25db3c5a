"""Scenarios from joint returns, and lots and pools repriced in them, against plain Python."""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from margin.fixed_point import NS_PER_DAY, PRICE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, InvariantBroken
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
)
from margin.scenarios.grid import risk_exponent
from margin.simulation.historical import (
    FactorHistory,
    LotProfits,
    SimulatedMoves,
    SimulationTerms,
    loss_multiple,
    lot_profits,
    simulated_moves,
)
from margin.simulation.pools import (
    gross_notional_minor,
    liquidity_horizons,
    lot_notional_minor,
    pool_tails,
    simulated_requirements,
)
from tests.reference.reference_simulation import (
    filtered_returns,
    option_profit,
    sums_ending_last,
    tail,
)

ROOT = Path(__file__).resolve().parents[2]
TERMS = SimulationTerms(seed_count=30, scenario_count=100, horizons=(1, 2, 5))
TENORS = np.array([7 * NS_PER_DAY, 30 * NS_PER_DAY], np.int64)
SPOT, ETH_SPOT = 100_000, 4_000


def column(*values: int) -> Int64Array:
    return np.array(values, dtype=np.int64)


def random_history(seed: int, count: int = 200) -> FactorHistory:
    """Two spots that move together, and two tenors of volatility for each."""
    chance = random.Random(seed)
    spot, volatility = [SPOT * 1e8, ETH_SPOT * 1e8], [0.5e9, 0.45e9, 0.7e9, 0.6e9]
    rows = []
    for _ in range(count):
        shared = chance.gauss(0, 0.03)
        spot = [p * math.exp(shared + chance.gauss(0, 0.01)) for p in spot]
        volatility = [v * math.exp(-shared + chance.gauss(0, 0.02)) for v in volatility]
        rows.append([round(x) for x in (*spot, *volatility)])
    table = np.array(rows, np.int64)
    return FactorHistory(
        np.ascontiguousarray(table[:, :2]), table[:, 2:].reshape(count, 2, 2).copy(), TENORS
    )


# A perpetual of 0.001 BTC and of 0.01 ETH, an inverse perpetual of 10 USD, options of 0.01 BTC.
INSTRUMENTS = Instruments(
    kind=column(LINEAR, INVERSE, LINEAR_CALL, LINEAR_PUT, LINEAR),
    unit=column(0, 0, 0, 0, 1),
    expiry_ns=column(NEVER_NS, NEVER_NS, 14 * NS_PER_DAY, 90 * NS_PER_DAY, NEVER_NS),
    strike_e8=column(0, 0, 100_000 * PRICE_SCALE, 90_000 * PRICE_SCALE, 0),
    lot_e8=column(10**5, 10 * PRICE_SCALE, 10**6, 10**6, 10**6),
    strike_group=column(-1, -1, 0, 1, -1),
)
MARKS = Marks(
    0,
    index_e8=column(SPOT * PRICE_SCALE, ETH_SPOT * PRICE_SCALE),
    mark_e8=column(SPOT * PRICE_SCALE, 101_000 * PRICE_SCALE, 0, 0, ETH_SPOT * PRICE_SCALE),
    forward_e8=column(0, 0, 100_500 * PRICE_SCALE, 101_000 * PRICE_SCALE, 0),
    volatility_e9=column(0, 0, 500_000_000, 450_000_000, 0),
    rate_e9=column(0, 0, 0, 0, 0),
)
PERPETUAL, INVERSE_PERPETUAL, CALL, PUT, ETH = range(5)
EXPONENT = 4
MOVES = simulated_moves(random_history(1), TERMS)
PROFITS = lot_profits(MOVES, INSTRUMENTS, MARKS, EXPONENT, TERMS)


def pools(*held: dict[int, int], coin: tuple[int, int] = (0, 0)) -> Positions:
    """Pools that hold lots by slot, all with the same coin cash. Slots are in margin order here."""
    start = np.cumsum([0, *(len(h) for h in held)])
    rows = [row for h in held for row in sorted(h.items(), key=lambda r: ORDER.index(r[0]))]
    positions = Positions(
        start.astype(np.int64), column(*(r[0] for r in rows)), column(*(r[1] for r in rows)),
        np.array([coin] * len(held), np.int64),
    )  # fmt: skip
    positions.validate(INSTRUMENTS)
    return positions


ORDER = [CALL, PUT, PERPETUAL, INVERSE_PERPETUAL, ETH]


def random_pools(seed: int, count: int) -> Positions:
    chance = random.Random(seed)
    return pools(
        *(
            {i: chance.choice((-1, 1)) * chance.randint(1, 500) for i in range(5)
             if chance.random() < 0.6}
            for _ in range(count)
        ),
        coin=(chance.randint(-(10**8), 10**8), 0),
    )  # fmt: skip


def test_the_scenarios_of_a_factor_are_its_filtered_returns_at_every_horizon() -> None:
    history = random_history(1)
    factors = [history.spot_e8[:, 1], history.volatility_e9[:, 0, 1]]
    found = [MOVES.spot_move_e9[:, :, 1], MOVES.volatility_move_e9[:, :, 0, 1]]
    for level, moves in zip(factors, found, strict=True):
        scaled = filtered_returns([float(x) for x in level], 0.97, 30, 0.0, 10.0)
        for h, steps in enumerate(TERMS.horizons):
            expected = [math.expm1(r) * 1e9 for r in sums_ending_last(scaled, steps, 100)]
            assert moves[h].tolist() == pytest.approx(expected, abs=1)


def test_all_factors_of_a_scenario_are_of_the_same_dates() -> None:
    """Spot and volatility were made to move against each other, day by day."""
    spot, volatility = MOVES.spot_move_e9[0, :, 0], MOVES.volatility_move_e9[0, :, 0, 0]
    assert np.corrcoef(spot, volatility)[0, 1] < -0.6


def test_after_a_storm_scenarios_are_wider_than_after_a_calm_of_the_same_returns() -> None:
    calm, storm = random_history(2), random_history(2)
    factor = np.where(np.arange(200) < 170, 1.0, 3.0)[:, None]
    steps = np.diff(np.log(storm.spot_e8), axis=0, prepend=np.log([[SPOT * 1e8, ETH_SPOT * 1e8]]))
    wilder = np.exp(np.log([SPOT * 1e8, ETH_SPOT * 1e8]) + np.cumsum(steps * factor, axis=0))
    storm = FactorHistory(wilder.astype(np.int64), storm.volatility_e9, TENORS)
    width = [np.abs(simulated_moves(h, TERMS).spot_move_e9[0]).max() for h in (calm, storm)]
    assert width[1] > 1.5 * width[0]


def test_a_floor_widens_scenarios_when_volatility_is_below_the_long_run() -> None:
    spot = [10**13]
    for k in range(199):
        size = 0.05 if k < 120 else 0.005
        spot.append(round(spot[-1] * math.exp(size if k % 2 else -size)))
    history = FactorHistory(column(*spot).reshape(-1, 1), np.zeros((200, 1, 0), np.int64), column())
    free, floored = (
        simulated_moves(history, SimulationTerms(30, seed_count=30, scenario_count=100,
                                                 horizons=(1,), floor_share_ppb=share))
        for share in (0, 10**9)
    )  # fmt: skip
    assert np.abs(floored.spot_move_e9).max() > 2 * np.abs(free.spot_move_e9).max()


def test_the_stressed_period_counts_as_it_happened_with_its_share_of_the_weight() -> None:
    history = random_history(3)
    terms = SimulationTerms(seed_count=30, scenario_count=100, horizons=(1, 2),
                            stress_weight_ppb=250_000_000)  # fmt: skip
    moves = simulated_moves(history, terms, stressed=(40, 60))
    assert moves.weight[100:].sum() * 4 == moves.weight.sum()
    assert len(moves.weight) == 120
    level = history.spot_e8[:, 0].tolist()
    one_day = [(level[t + 1] / level[t] - 1) * 1e9 for t in range(40, 60)]
    two_days = [(level[t + 1] / level[t - 1] - 1) * 1e9 for t in range(40, 60)]
    assert moves.spot_move_e9[0, 100:, 0].tolist() == pytest.approx(one_day, abs=1)
    assert moves.spot_move_e9[1, 100:, 0].tolist() == pytest.approx(two_days, abs=1)


def test_a_stress_weight_without_a_period_and_a_short_history_are_refused() -> None:
    weighted = SimulationTerms(seed_count=30, scenario_count=100, stress_weight_ppb=1)
    with pytest.raises(InvariantBroken, match="stress"):
        simulated_moves(random_history(3), weighted)
    with pytest.raises(InvariantBroken, match="stress"):
        simulated_moves(random_history(3), TERMS, stressed=(40, 60))
    with pytest.raises(InvariantBroken, match="too short"):
        simulated_moves(random_history(3, 34), TERMS)


@pytest.mark.parametrize(
    "wrong", [{"level_ppb": 10**9}, {"horizons": (2, 1)}, {"horizons": ()}, {"decay_ppb": 0}]
)
def test_terms_out_of_range_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimulationTerms(**wrong)  # type: ignore[arg-type]


def volatility_between_tenors(h: int, s: int, left_days: float) -> float:
    week, month = (MOVES.volatility_move_e9[h, s, 0, k] / 1e9 for k in (0, 1))
    part = min(1.0, max(0.0, (left_days - 7) / 23))
    return float(week + (month - week) * part)


@pytest.mark.parametrize("is_aged", [False, True])
def test_every_lot_is_repriced_in_full(is_aged: bool) -> None:
    terms = SimulationTerms(seed_count=30, horizons=(1, 2, 5), ages_options=is_aged)
    found = lot_profits(MOVES, INSTRUMENTS, MARKS, EXPONENT, terms)
    quanta = USDC_SCALE * 2**EXPONENT
    for h, days in enumerate(terms.horizons):
        for s in range(0, 100, 7):
            move = MOVES.spot_move_e9[h, s, 0] / 1e9
            assert found.lot[h, PERPETUAL, s] == pytest.approx(100 * move * quanta, abs=1)
            inverse = 10 * 100_000 / 101_000 * move * quanta
            assert found.lot[h, INVERSE_PERPETUAL, s] == pytest.approx(inverse, abs=1)
            assert found.coin[h, 0, s] == pytest.approx(10 * move * quanta, abs=1)
            for i, forward, strike, iv, left in (
                (CALL, 100_500.0, 100_000.0, 0.5, 14), (PUT, 101_000.0, 90_000.0, 0.45, 90)
            ):  # fmt: skip
                expected = option_profit(
                    forward, strike, iv, left / 365, i == CALL, move,
                    volatility_between_tenors(h, s, left), days / 365 if is_aged else 0.0,
                )  # fmt: skip
                assert found.lot[h, i, s] == pytest.approx(0.01 * expected * quanta, abs=1)


def test_without_volatility_factors_an_option_keeps_its_volatility() -> None:
    spot_only = SimulatedMoves(
        MOVES.spot_move_e9, np.zeros((3, 100, 2, 0), np.int64), column(), MOVES.weight
    )
    found = lot_profits(spot_only, INSTRUMENTS, MARKS, EXPONENT, TERMS).lot[0, CALL, 5]
    move = MOVES.spot_move_e9[0, 5, 0] / 1e9
    expected = option_profit(100_500.0, 100_000.0, 0.5, 14 / 365, True, move, 0.0, 0.0)
    assert found == pytest.approx(0.01 * expected * USDC_SCALE * 2**EXPONENT, abs=1)


def test_no_lot_can_lose_more_than_the_multiple_says() -> None:
    multiple = loss_multiple(MOVES)
    notional = column(100, 10, 1_000, 1_000, 40) * USDC_SCALE * 2**EXPONENT
    assert (np.abs(PROFITS.lot) <= 1.01 * multiple * notional[:, None]).all()
    assert 0 < risk_exponent(2**48, 10, multiple) < 20


def twin_tails(positions: Positions, profits: LotProfits, horizon: Int64Array) -> list[list[int]]:
    """Value at risk and shortfall of every pool with big integers."""
    results = []
    for p in range(positions.pool_count):
        losses = []
        for s in range(profits.lot.shape[2]):
            total = 0
            for u in range(2):
                made = []
                for h in range(int(horizon[p, u]) + 1):
                    of_unit = int(positions.coin_minor[p, u]) * int(profits.coin[h, u, s]) // 10_000
                    for k in range(int(positions.pool_start[p]), int(positions.pool_start[p + 1])):
                        i = int(positions.instrument[k])
                        if INSTRUMENTS.unit[i] == u:
                            lots = int(positions.quantity_lots[k])
                            of_unit += lots * int(profits.lot[h, i, s])
                    made.append(of_unit)
                total += min(made)
            losses.append(-total)
        value, shortfall = tail(losses, [1] * len(losses), Fraction(975, 1000))
        scale = 2**profits.exponent
        results.append([max(0, math.ceil(x / scale)) for x in (Fraction(value), shortfall)])
    return results


@pytest.mark.parametrize("seed", range(4))
def test_pools_equal_the_twin_whatever_their_horizons(seed: int) -> None:
    positions = random_pools(seed, 25)
    horizon = np.random.Generator(np.random.PCG64(seed)).integers(0, 3, (25, 2))
    found = pool_tails(PROFITS, MOVES.weight, 975_000_000, INSTRUMENTS, positions, horizon)
    expected = twin_tails(positions, PROFITS, horizon)
    pairs = zip(found.value_at_risk_minor, found.expected_shortfall_minor, strict=True)
    assert [[int(v), int(e)] for v, e in pairs] == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_longer_horizon_never_asks_for_less(seed: int) -> None:
    """Of any unit, whatever the others have: the worst on the way stays a loss."""
    positions, shortfalls = random_pools(seed, 25), []
    for of_bitcoin, of_ether in ((0, 0), (1, 0), (1, 1), (2, 1), (2, 2)):
        horizon = np.tile(column(of_bitcoin, of_ether), (25, 1))
        found = pool_tails(PROFITS, MOVES.weight, 975_000_000, INSTRUMENTS, positions, horizon)
        shortfalls.append(found.expected_shortfall_minor)
    rises = [bool((a <= b).all()) for a, b in itertools.pairwise(shortfalls)]
    assert rises == [True] * 4
    assert (shortfalls[0] < shortfalls[-1]).any()


def test_many_pools_give_what_each_gives_alone() -> None:
    few = random_pools(9, 40)
    times = 250  # past the count from which threads share the work
    many = Positions(
        np.concatenate([few.pool_start[:-1] + k * len(few.instrument) for k in range(times)]
                       + [column(times * len(few.instrument))]),
        np.tile(few.instrument, times), np.tile(few.quantity_lots, times),
        np.tile(few.coin_minor, (times, 1)),
    )  # fmt: skip
    horizon = np.random.Generator(np.random.PCG64(9)).integers(0, 3, (40, 2))
    alone = pool_tails(PROFITS, MOVES.weight, 990_000_000, INSTRUMENTS, few, horizon)
    together = pool_tails(
        PROFITS, MOVES.weight, 990_000_000, INSTRUMENTS, many, np.tile(horizon, (times, 1))
    )
    for one, all_of_them in zip(alone, together, strict=True):
        assert np.tile(one, times).tolist() == all_of_them.tolist()


def measured(held: dict[int, int], level_ppb: int = 990_000_000) -> tuple[int, int]:
    found = pool_tails(PROFITS, MOVES.weight, level_ppb, INSTRUMENTS, pools(held))
    return int(found.value_at_risk_minor[0]), int(found.expected_shortfall_minor[0])


def test_a_pool_that_holds_nothing_needs_nothing_and_names_no_scenario() -> None:
    found = pool_tails(PROFITS, MOVES.weight, 990_000_000, INSTRUMENTS, pools({}))
    assert [int(x[0]) for x in found] == [0, 0, -1]


def test_a_long_call_can_lose_its_premium_and_no_more() -> None:
    premium = option_profit(1e-9, 100_000, 0.5, 14 / 365, True, 0, 0, 0)
    assert premium == pytest.approx(0, abs=1e-6)
    value = -option_profit(100_500, 100_000, 0.5, 14 / 365, True, -0.9999, 0, 0)
    assert 0 < measured({CALL: 100}, 999_000_000)[1] <= value * USDC_SCALE + 100


def test_a_hedge_lowers_the_shortfall_and_two_units_that_move_together_hedge_each_other() -> None:
    naked = measured({PUT: -100})[1]
    assert measured({PUT: -100, PERPETUAL: -300})[1] < naked
    bitcoin, ether = measured({PERPETUAL: 1000})[1], measured({ETH: -2500})[1]
    assert measured({PERPETUAL: 1000, ETH: -2500})[1] < min(bitcoin, ether)


@pytest.mark.parametrize("seed", range(5))
def test_the_shortfall_of_two_pools_together_is_at_most_their_sum(seed: int) -> None:
    chance = random.Random(seed)
    first, second = ({i: chance.randint(-500, 500) or 1 for i in range(5)} for _ in range(2))
    both = {i: first[i] + second[i] or 1 for i in range(5)}
    assert measured(both)[1] <= measured(first)[1] + measured(second)[1] + 1


def test_size_against_volume_gives_the_horizon() -> None:
    volume = column(1_000_000 * USDC_SCALE, 0)  # a tenth of a million a day can be closed
    notional = np.array([[1, 0], [100_000, 0], [100_001, 0], [250_000, 0], [9_000_000, 0]])
    found = liquidity_horizons(notional * USDC_SCALE, volume, TERMS)
    assert found[:, 0].tolist() == [0, 0, 1, 2, 2]  # 1, 1, 2, 5 periods, and the longest there is
    assert found[:, 1].tolist() == [2] * 5, "no volume: the longest"


def test_a_position_that_takes_long_to_close_needs_more() -> None:
    positions = pools({PERPETUAL: 1000}, {PERPETUAL: 1000})
    horizon = np.array([[0, 0], [2, 0]])
    found = pool_tails(PROFITS, MOVES.weight, 990_000_000, INSTRUMENTS, positions, horizon)
    short, long = found.expected_shortfall_minor.tolist()
    assert 1.3 * short < long < 4 * short


def test_notional_is_gross_at_the_index() -> None:
    positions = pools({PERPETUAL: -1000, CALL: 50, INVERSE_PERPETUAL: 101, ETH: 10})
    value = lot_notional_minor(INSTRUMENTS, MARKS)
    found = gross_notional_minor(INSTRUMENTS, value, positions)[0]
    inverse = math.ceil(10 * USDC_SCALE * 100_000 / 101_000) * 101
    assert found.tolist() == [
        100_000 * USDC_SCALE + 50_000 * USDC_SCALE + inverse,
        400 * USDC_SCALE,
    ]


def test_requirements_are_factors_of_the_shortfall_rounded_up() -> None:
    positions = pools({PERPETUAL: 1000}, {})
    tails = pool_tails(PROFITS, MOVES.weight, 990_000_000, INSTRUMENTS, positions)
    needs = simulated_requirements(tails, positions, (800_000_000, 1_100_000_000))
    worst = int(tails.expected_shortfall_minor[0])
    assert needs.worst_minor.tolist() == [worst, 0]
    assert needs.maintenance_minor.tolist() == [math.ceil(Fraction(worst * 8, 10)), 0]
    assert needs.initial_minor.tolist() == [math.ceil(Fraction(worst * 11, 10)), 0]
    worst_day = int(np.argmin(MOVES.spot_move_e9[0, :, 0]))
    assert needs.worst_scenario.tolist() == [[worst_day, worst_day], [-1, -1]]


BITS_PROGRAM = """
import hashlib
from tests.margin.test_historical_simulation import *
found = pool_tails(PROFITS, MOVES.weight, 975_000_000, INSTRUMENTS, random_pools(5, 6))
parts = (MOVES.spot_move_e9, MOVES.volatility_move_e9, PROFITS.lot, PROFITS.coin, *found)
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def bits(**settings: str) -> str:
    command = [sys.executable, "-W", "error", "-c", BITS_PROGRAM]
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_interpreted_code_gives_the_same_bits_without_a_warning() -> None:
    assert bits(NUMBA_DISABLE_JIT="1") == bits()


def test_an_option_worth_coin_is_not_discounted() -> None:
    """At a rate of 8 % and at none it makes the same; one worth dollars does not."""
    kinds = np.array([INVERSE_CALL, INVERSE_CALL, LINEAR_CALL, LINEAR_CALL], np.int64)
    one = np.ones(4, np.int64)
    instruments = Instruments(
        kind=kinds, unit=one * 0, expiry_ns=one * 90 * NS_PER_DAY, strike_e8=one * 10**13,
        lot_e8=one * 10**8, strike_group=np.arange(4, dtype=np.int64),
    )  # fmt: skip
    price = one * 10**13
    rate = np.array([0, 80_000_000, 0, 80_000_000], np.int64)
    marks = Marks(0, price[:1], price // 10, price, one * 500_000_000, rate)
    spot = np.array([50_000_000, -50_000_000], np.int64).reshape(1, 2, 1)
    none = np.zeros((1, 2, 1, 0), np.int64)
    moves = SimulatedMoves(spot, none, np.zeros(0, np.int64), np.ones(2, np.int64))
    found = lot_profits(moves, instruments, marks, 4, SimulationTerms(horizons=(1,))).lot[0]
    assert found[0].tolist() == found[1].tolist()
    assert (np.abs(found[2]) > np.abs(found[3])).all()
