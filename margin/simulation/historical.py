"""Filtered historical simulation: scenarios from joint returns, and every lot repriced in them.

A scenario is what happened to every risk unit at once over h successive periods, each return
brought to today's volatility (`margin.simulation.returns`). One lot of every instrument is repriced
in full in every scenario; the table of integers that results is all that pools are measured on
(`margin.simulation.pools`).

    r* = r / sigma_t x max(sigma_now, floor)      h-period: sums of h successive r*, overlapping

Sources: G. Barone-Adesi, K. Giannopoulos and L. Vosper, VaR without correlations (1999); Bank of
England staff working paper 525 (2015); a stressed period beside the filtered one as in Eurex PRISMA
and EU regulation 153/2013, article 28(1)(b).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.black76 import price
from margin.fixed_point import (
    NS_PER_DAY,
    NS_PER_YEAR,
    PRICE_SCALE,
    RATE_SCALE,
    USDC_SCALE,
    VOLATILITY_SCALE,
    quantise,
)
from margin.invariant import Float64Array, Int64Array, check
from margin.portable_math import exp
from margin.portfolio import INVERSE, INVERSE_CALL, LINEAR_CALL, Instruments, Marks
from margin.simulation.returns import (
    ewma_volatility,
    log_returns,
    long_run_volatility,
    moves_e9,
    overlapping_sums,
    rescale,
)

_E8: Final = float(PRICE_SCALE)
_E9: Final = float(VOLATILITY_SCALE)
_COIN_STEP: Final = 1e-4


class SimulationTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the simulation, fractions in 10^-9.

    `level_ppb` confidence; `decay_ppb` of the EWMA; `seed_count` returns that only start it;
    `scenario_count` latest periods that are scenarios; `horizons` in periods, rising; `step_ns`
    the length of a period; `floor_share_ppb` of the long-run volatility is the least volatility a
    scenario is brought to; `ratio_most_ppb` the most that filtering may enlarge a return;
    `stress_weight_ppb` the weight of the stressed period; `participation_ppb` the part of a day's
    volume that a close-out may be; `ages_options` reprices options at the end of the horizon
    instead of now.
    """

    level_ppb: int = 990_000_000
    decay_ppb: int = 970_000_000
    seed_count: int = 60
    scenario_count: int = 500
    horizons: tuple[int, ...] = (1, 2, 3, 5, 10)
    step_ns: int = NS_PER_DAY
    floor_share_ppb: int = 0
    ratio_most_ppb: int = 10 * RATE_SCALE
    stress_weight_ppb: int = 0
    participation_ppb: int = 100_000_000
    ages_options: bool = False

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.horizons))
        if not (self.horizons and rising and self.horizons[0] >= 1):
            raise ValueError("horizons: must be positive and rise")
        for name, least, most in (
            ("level_ppb", 1, RATE_SCALE - 1), ("decay_ppb", 1, RATE_SCALE - 1),
            ("seed_count", 1, 10**6), ("scenario_count", 1, 10**5), ("step_ns", 1, NS_PER_YEAR),
            ("floor_share_ppb", 0, 100 * RATE_SCALE), ("stress_weight_ppb", 0, RATE_SCALE - 1),
            ("ratio_most_ppb", RATE_SCALE, 10**6 * RATE_SCALE),
            ("participation_ppb", 1, RATE_SCALE),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: must lie in {least} .. {most}")


class FactorHistory(msgspec.Struct, frozen=True, gc=False):
    """Joint levels of all factors, oldest first (`margin.simulation.returns.join`).

    `spot_e8[T,U]`; `volatility_e9[T,U,K]` implied volatilities at the tenors `tenor_ns[K]`, rising;
    K is 0 where only spot is simulated.
    """

    spot_e8: Int64Array
    volatility_e9: Int64Array
    tenor_ns: Int64Array


class SimulatedMoves(msgspec.Struct, frozen=True, gc=False):
    """Scenarios as data: relative moves in 10^-9 per horizon, and their weights.

    `spot_move_e9[H,S,U]`, `volatility_move_e9[H,S,U,K]`, `tenor_ns[K]`, `weight[S]`; the moves of
    row s of every horizon end on the same date.
    """

    spot_move_e9: Int64Array
    volatility_move_e9: Int64Array
    tenor_ns: Int64Array
    weight: Int64Array


class LotProfits(msgspec.Struct, frozen=True, gc=False):
    """Profit of one long lot, `lot[H,I,S]`, and of one step of coin cash, `coin[H,U,S]`.

    In quanta of 2^-`exponent` minor USDC, the same for all units since scenarios are joint.
    """

    lot: Int64Array
    coin: Int64Array
    exponent: int


def simulated_moves(
    history: FactorHistory, terms: SimulationTerms, stressed: tuple[int, int] | None = None
) -> SimulatedMoves:
    """Scenarios from a history of levels: the latest filtered, and those of a stressed period.

    The last `scenario_count` returns (fewer if there are not as many after the seed) are filtered
    to the volatility forecast after the last of them. `stressed` = (first, past the last) return:
    these count unfiltered, at the volatility they had, and all together weigh
    `stress_weight_ppb` of the whole. Both need `horizons[-1] - 1` returns before their first;
    for the filtered these come after the seed. `InvariantBroken` if the history is too short, or
    if there is a stressed period without weight or a weight without a period.
    """
    units = history.spot_e8.shape[1]
    count, tenors = len(history.spot_e8), len(history.tenor_ns)
    check(history.volatility_e9.shape == (count, units, tenors), "simulation: volatility table")
    check(bool((np.diff(history.tenor_ns) > 0).all()), "simulation: tenors do not rise")
    check((stressed is not None) == (terms.stress_weight_ppb > 0), "simulation: stress and weight")
    levels = np.hstack((history.spot_e8, history.volatility_e9.reshape(count, units * tenors)))
    returns = log_returns(levels)
    volatility = ewma_volatility(returns, terms.decay_ppb / RATE_SCALE, terms.seed_count)
    floor = long_run_volatility(returns) * (terms.floor_share_ppb / RATE_SCALE)
    scaled = rescale(
        returns, volatility[:-1], volatility[-1], floor, terms.ratio_most_ppb / RATE_SCALE
    )[terms.seed_count :]
    latest = min(terms.scenario_count, len(scaled) - terms.horizons[-1] + 1)
    check(latest > 0, "simulation: history too short")
    parts = [overlapping_sums(scaled, h, latest) for h in terms.horizons]
    weight = np.ones(latest, np.int64)
    if stressed is not None:
        first, past = stressed
        check(0 <= first < past <= len(returns), "simulation: no such stressed period")
        stress = [overlapping_sums(returns[:past], h, past - first) for h in terms.horizons]
        parts = [np.vstack(pair) for pair in zip(parts, stress, strict=True)]
        weight = stress_weights(latest, past - first, terms.stress_weight_ppb)
    moves = moves_e9(np.stack(parts))
    shape = (len(terms.horizons), len(weight))
    return SimulatedMoves(
        np.ascontiguousarray(moves[:, :, :units]),
        np.ascontiguousarray(moves[:, :, units:]).reshape(*shape, units, tenors),
        history.tenor_ns,
        weight,
    )


def stress_weights(latest: int, stressed: int, stress_weight_ppb: int) -> Int64Array:
    """Whole weights: equal within each part, the parts in the ratio that is asked for."""
    each = (RATE_SCALE - stress_weight_ppb) * stressed
    each_stressed = stress_weight_ppb * latest
    shared = math.gcd(each, each_stressed)
    values = [each // shared] * latest + [each_stressed // shared] * stressed
    return np.array(values, dtype=np.int64)


def loss_multiple(moves: SimulatedMoves) -> int:
    """A whole number that |profit| / notional of a lot can never exceed in these scenarios.

    A delta-one lot moves by |m| of its notional, an option by at most |m| + max(1, 1 + m), as in
    `margin.scenarios.grid.loss_multiple`: what `margin.scenarios.grid.risk_exponent` asks for.
    """
    largest = 0
    for move in (int(moves.spot_move_e9.max()), int(moves.spot_move_e9.min())):
        largest = max(largest, abs(move) + max(RATE_SCALE, RATE_SCALE + move))
    return -(-largest // RATE_SCALE)


def _tenor_places(tenor_ns: Int64Array, left_ns: Int64Array) -> tuple[Int64Array, Float64Array]:
    """Per instrument the tenor below, and how far towards the next one; flat outside."""
    below = np.clip(np.searchsorted(tenor_ns, left_ns, side="right") - 1, 0, len(tenor_ns) - 1)
    above = np.minimum(below + 1, len(tenor_ns) - 1)
    width = tenor_ns[above] - tenor_ns[below]
    into = np.clip(left_ns - tenor_ns[below], 0, width)
    return below.astype(np.int64), into / np.maximum(width, 1)


@njit(cache=True, error_model="numpy")
def _lot_profits(
    instruments: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    now_ns: int,
    marks: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    aged_ns: Int64Array,
    spot_move_e9: Int64Array,
    volatility_move_e9: Int64Array,
    place: tuple[Int64Array, Float64Array],
    quanta: float,
    lot_profit: Int64Array,
    coin_profit: Int64Array,
) -> None:
    kind, unit, expiry_ns, strike_e8, lot_e8 = instruments
    index_e8, mark_e8, forward_e8, volatility_e9, rate_e9 = marks
    below, into = place
    tenors, scenarios = volatility_move_e9.shape[2], lot_profit.shape[2]
    profit = np.empty(scenarios)  # quantised in a loop of its own: the loop of prices vectorises
    for h in range(lot_profit.shape[0]):
        for u in range(len(index_e8)):
            step = index_e8[u] / _E8 * _COIN_STEP * quanta
            for s in range(scenarios):
                coin_profit[h, u, s] = quantise(step * (spot_move_e9[h, u, s] / _E9))
        for i in range(len(kind)):
            move, lot = spot_move_e9[h, unit[i]], lot_e8[i] / _E8
            if kind[i] < LINEAR_CALL:
                index, mark = index_e8[unit[i]] / _E8, mark_e8[i] / _E8
                exposure = (
                    lot / mark * index * quanta if kind[i] == INVERSE else lot * mark * quanta
                )
                for s in range(scenarios):
                    lot_profit[h, i, s] = quantise(exposure * (move[s] / _E9))
                continue
            forward, strike = forward_e8[i] / _E8, strike_e8[i] / _E8
            volatility, rate = volatility_e9[i] / _E9, max(0, rate_e9[i]) / _E9
            left = max(0, expiry_ns[i] - now_ns) / NS_PER_YEAR
            then = max(0, expiry_ns[i] - now_ns - aged_ns[h]) / NS_PER_YEAR
            is_call = kind[i] == LINEAR_CALL or kind[i] == INVERSE_CALL
            if kind[i] >= INVERSE_CALL:  # worth B76 / F coin, so S / F dollars for each of B76
                lot, rate = lot * (index_e8[unit[i]] / forward_e8[i]), 0.0
            now = price(forward, strike, volatility, left, exp(-rate * left), is_call)
            discount, scale = exp(-rate * then), lot * quanta
            near = volatility_move_e9[h, unit[i], below[i]]
            far = volatility_move_e9[h, unit[i], min(below[i] + 1, tenors - 1)]
            for s in range(scenarios):
                a, b = near[s] / _E9, far[s] / _E9
                shocked = volatility * (1.0 + (a + (b - a) * into[i]))
                moved = forward * (1.0 + move[s] / _E9)
                value = price(moved, strike, shocked, then, discount, is_call)
                profit[s] = (value - now) * scale
            for s in range(scenarios):
                lot_profit[h, i, s] = quantise(profit[s])


def lot_profits(
    moves: SimulatedMoves,
    instruments: Instruments,
    marks: Marks,
    exponent: int,
    terms: SimulationTerms,
) -> LotProfits:
    """Reprice one lot of everything, and one step of every coin, in every scenario.

    Delta-one: lot x mark x m; inverse in USDC at the scenario's spot: lot_usd x index / mark x m;
    options by Black-76 at F (1 + m) and iv (1 + v), v between the two tenors next to the time left,
    flat outside them. `exponent` from `margin.scenarios.grid.risk_exponent` with `loss_multiple`,
    the notional of a position and the number of instruments of *all* units, since their profits are
    added. `InvariantBroken` if shapes do not fit.
    """
    check(moves.spot_move_e9.shape[2] == len(marks.index_e8), "simulation: other risk units")
    horizons, scenarios, units = moves.spot_move_e9.shape
    lot_profit = np.zeros((horizons, len(instruments), scenarios), np.int64)
    coin_profit = np.zeros((horizons, units, scenarios), np.int64)
    left_ns = np.maximum(instruments.expiry_ns - marks.now_ns, 0)
    volatility_move_e9, tenor_ns = moves.volatility_move_e9, moves.tenor_ns
    if not len(tenor_ns):  # volatility does not move: one tenor without moves
        volatility_move_e9 = np.zeros((horizons, scenarios, units, 1), np.int64)
        tenor_ns = np.zeros(1, np.int64)
    aged = [h * terms.step_ns if terms.ages_options else 0 for h in terms.horizons]
    check(len(aged) == horizons, "simulation: moves of other horizons")
    _lot_profits(
        instruments.kernel_columns(),
        marks.now_ns,
        marks.kernel_columns(),
        np.array(aged, np.int64),
        np.ascontiguousarray(moves.spot_move_e9.transpose(0, 2, 1)),
        np.ascontiguousarray(volatility_move_e9.transpose(0, 2, 3, 1)),
        _tenor_places(tenor_ns, left_ns),
        float(USDC_SCALE << exponent), lot_profit, coin_profit,
    )  # fmt: skip
    return LotProfits(lot_profit, coin_profit, exponent)


def warm_up() -> None:
    """Compile the kernel of this module."""
    one = np.ones(1, np.int64)
    _lot_profits(
        (one * 0, one * 0, one, one * 0, one), 0, (one, one, one, one, one), one * 0,
        np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 1, 1), np.int64), (one * 0, np.zeros(1)),
        1.0, np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.int64),
    )  # fmt: skip
