"""Gamma margin: the gap, the buckets, and the columns of one lot."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from margin.add_ons.gamma import (
    deviation_e9,
    expiry_buckets,
    lot_columns,
    price_gap,
)
from margin.fixed_point import NS_PER_DAY
from margin.invariant import InvariantBroken
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR_CALL,
    LINEAR_PUT,
    Instruments,
    Marks,
)
from margin.presets import load_preset
from margin.scenarios.grid import scenarios_of
from tests.reference.reference_add_ons import (
    COINS,
    EXPONENTS,
    Market,
    column,
    random_market,
    textbook_option,
)

YEAR_NS = 365 * NS_PER_DAY
SECOND_NS = 10**9
HALF = 500_000_000
SCENARIOS = [scenarios_of(load_preset("ps-1"), coin) for coin in COINS]
MOVES = np.array([s.spot_move_e9 for s in SCENARIOS])
WEIGHTS = np.array([s.weight_e9 for s in SCENARIOS])


def columns(market: Market, gap_e9: int = 80_000_000, mean_e9: int = 16_000_000):  # type: ignore[no-untyped-def]
    gap, mean = column([gap_e9] * 3), column([mean_e9] * 3)
    exponents = column(list(EXPONENTS))
    return lot_columns(market.instruments, market.marks, gap, mean, MOVES, WEIGHTS, exponents)


def test_a_deviation_is_volatility_times_the_root_of_time_rounded_up() -> None:
    assert deviation_e9(HALF, YEAR_NS) == HALF
    assert deviation_e9(HALF, 0) == 0
    for interval in (1, SECOND_NS, NS_PER_DAY, 3 * YEAR_NS):
        exact = 0.5 * math.sqrt(interval / YEAR_NS) * 1e9
        assert exact - 1e-3 <= deviation_e9(HALF, interval) <= exact + 1.001


def test_the_gap_is_so_many_deviations_of_the_batch_interval_but_at_least_the_floor() -> None:
    day = 0.5 / math.sqrt(365)
    gap, mean = price_gap(HALF, NS_PER_DAY, 4 * 10**9, 10_000_000)
    assert gap / 1e9 == pytest.approx(4 * day, rel=1e-7)
    assert mean / 1e9 == pytest.approx(math.sqrt(2 / math.pi) * day, rel=1e-7)
    # over five seconds the floor binds, and the mean move is that of a deviation of 2 %
    assert price_gap(HALF, 5 * SECOND_NS, 4 * 10**9, 80_000_000) == (80_000_000, 15_957_692)


def test_gap_and_mean_move_rise_with_volatility_interval_and_floor() -> None:
    def rising(pairs: list[tuple[int, int]]) -> bool:
        return all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(pairs))

    four = 4 * 10**9
    assert rising([price_gap(v * 10**7, NS_PER_DAY, four, 10**7) for v in range(400)])
    assert rising([price_gap(HALF, s * SECOND_NS * 60, four, 10**6) for s in range(400)])
    assert rising([price_gap(HALF, NS_PER_DAY, four, floor * 10**6) for floor in range(400)])
    assert price_gap(20 * 10**9, YEAR_NS, four, 0) == (10**9, 10**9)
    with pytest.raises(InvariantBroken):
        price_gap(HALF, NS_PER_DAY, 0, 0)


def test_early_expiries_stand_alone_and_later_ones_are_one_bucket_per_unit() -> None:
    one = np.ones(8, np.int64)
    days = [1, 1, 3, 6, 7, 90, 1, 90]
    instruments = Instruments(
        kind=one * LINEAR_CALL, unit=column([0] * 6 + [1] * 2), expiry_ns=column(days) * NS_PER_DAY,
        strike_e8=one, lot_e8=one, strike_group=np.arange(8, dtype=np.int64),
    )  # fmt: skip
    bucket = expiry_buckets(instruments, 0, 7).tolist()
    same = [{k for k in range(8) if bucket[k] == bucket[j]} for j in range(8)]
    assert same[0] == {0, 1}
    assert same[2] == {2}
    assert same[3] == {3}
    assert same[4] == {4, 5}
    assert same[6] == {6}
    assert same[7] == {7}
    assert len(set(expiry_buckets(instruments, 0, 0).tolist())) == 2


@pytest.mark.parametrize("seed", [1, 2])
def test_columns_are_the_textbook_s(seed: int) -> None:
    market = random_market(seed)
    instruments, marks = market.instruments, market.marks
    found, bent = columns(market)
    gap, mean = 0.08, 0.016
    for i in range(len(instruments)):
        u = int(instruments.unit[i])
        quanta = 1e6 * 2 ** EXPONENTS[u] * int(instruments.lot_e8[i]) / 1e8
        index = int(marks.index_e8[u]) / 1e8
        if int(instruments.kind[i]) < LINEAR_CALL:
            inverse = int(instruments.kind[i]) == INVERSE
            coins = 1 / (int(marks.mark_e8[i]) / 1e8) if inverse else 1.0
            assert found[i, 0] == pytest.approx(coins * index * quanta, abs=1)
            assert found[i, 1:].tolist() == [0, 0]
            assert not bent[i].any()
            continue
        f, k = int(marks.forward_e8[i]) / 1e8, int(instruments.strike_e8[i]) / 1e8
        tau = max(0, int(instruments.expiry_ns[i]) - marks.now_ns) / YEAR_NS
        terms = (int(marks.volatility_e9[i]) / 1e9, tau)
        terms += (math.exp(-max(0, int(marks.rate_e9[i])) / 1e9 * tau),)
        terms += (int(instruments.kind[i]) == LINEAR_CALL,)
        value, delta, curvature = textbook_option(f, k, *terms)
        if tau == 0 and f == k:
            delta = 0.5 if terms[3] else -0.5
        expected = (
            delta * index,
            min(curvature * f * gap**2 / 2, gap) * f,
            min(curvature * f * mean, 1) * index,
        )
        for c in range(3):
            assert found[i, c] == pytest.approx(expected[c] * quanta, rel=1e-9, abs=1)
        for s in range(MOVES.shape[1]):
            move, weight = MOVES[u, s] / 1e9, WEIGHTS[u, s] / 1e9
            then = textbook_option(f * (1 + move), k, *terms)[0]
            exact = max(0.0, then - value - delta * f * move) * weight * quanta
            assert bent[i, s] == pytest.approx(exact, rel=1e-9, abs=2)


@pytest.mark.parametrize("is_call", [True, False])
def test_an_option_worth_coin_counts_by_index_over_forward(is_call: bool) -> None:
    """It is worth B76 / F coin: with the index a tenth below the forward, nine tenths of B76.

    Coin bears no interest: its rate says nothing.
    """
    two = np.array([INVERSE_CALL, LINEAR_CALL] if is_call else [INVERSE_PUT, LINEAR_PUT], np.int64)
    one = np.ones(2, np.int64)
    instruments = Instruments(
        kind=two, unit=one * 0, expiry_ns=one * 9 * NS_PER_DAY, strike_e8=one * 10**13,
        lot_e8=one * 10**8, strike_group=np.arange(2, dtype=np.int64),
    )  # fmt: skip
    forward = one * 10**13
    rate = column([80_000_000, 0])
    marks = Marks(0, forward[:1] * 9 // 10, forward // 20, forward, one * HALF, rate)
    gap = column([80_000_000])
    found, bent = lot_columns(
        instruments, marks, gap, gap // 5, MOVES[:1], WEIGHTS[:1], column([4])
    )
    for in_coin, in_usd in ((found[0], found[1]), (bent[0], bent[1])):
        assert in_coin == pytest.approx(in_usd * 0.9, abs=1)
        assert in_usd.any()


def test_no_option_bends_by_more_than_the_move_even_at_its_pin() -> None:
    market = random_market(5)
    option = market.instruments.is_option()
    expiry = np.where(option, market.marks.now_ns + SECOND_NS, market.instruments.expiry_ns)
    last_second = msgspec.structs.replace(market.instruments, expiry_ns=expiry)
    found, bent = columns(dataclasses.replace(market, instruments=last_second))
    exponents = column(list(EXPONENTS))[market.instruments.unit]
    index = market.marks.forward_e8.astype(object) * market.instruments.lot_e8
    notional = np.array(index * 2**exponents // 10**10, np.int64)
    assert (found[option, 1] <= notional[option] * 8 // 100 + 1).all()
    assert (found[option, 2] <= notional[option] + 1).all()
    assert (found[option, 1] >= notional[option] * 8 // 100 - 1).any()
    assert (found[option, 2] >= notional[option] - 1).any()
    assert (bent >= 0).all()
    moves = np.abs(MOVES)[market.instruments.unit] / 1e9
    assert (bent <= notional[:, None] * moves + 1).all()


def test_gap_losses_rise_with_the_gap_and_hedges_with_the_mean_move() -> None:
    market = random_market(6)
    by_gap = [columns(market, gap_e9=h * 10**7)[0][:, 1] for h in range(1, 60, 7)]
    by_mean = [columns(market, mean_e9=m * 10**6)[0][:, 2] for m in range(0, 60, 7)]
    for rows in (by_gap, by_mean):
        assert all((a <= b).all() for a, b in pairwise(rows))
