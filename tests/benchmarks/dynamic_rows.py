"""Rows of the margin benchmark for what moves: offsets, floor, chance of a call, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from margin.forecasts import cross_unit, cushion, forecast, predictive
from margin.forecasts import ranges as dynamic
from margin.forecasts.cross_unit import correlations_ppb, relief_minor
from margin.forecasts.cushion import requirement_changes_minor, slope_and_bend, worst_of
from margin.forecasts.predictive import (
    TailLaw,
    call_probabilities_ppb,
    growth_minor,
    growth_ppb,
    mean_growth_ppb,
    range_path_e9,
)
from margin.forecasts.ranges import AtTheMoney, opening, period_variance_e18, range_terms, step
from margin.invariant import Int64Array, check
from margin.pools import requirement
from margin.pools.requirement import Requirements, RiskTable, pool_requirements
from margin.portfolio import Positions
from margin.presets import load_preset
from margin.scenarios.grid import scenarios_of
from tests.benchmarks.conditions import Timing, in_turn, machine
from tests.benchmarks.margin_book import PRESET, UNITS

DYNAMIC = load_preset("ps-1-dynamic")
NAMES = [name for name, _, _ in UNITS]
GROWTH = 1_100_000_000
CYCLES = 60
INTERVAL_NS = 5 * 10**9
_MOVES_E9 = 20_000_000


class Charged(NamedTuple):
    """Requirements of all pools with offsets off and the growth of ranges on."""

    initial_minor: Int64Array
    maintenance_minor: Int64Array
    offset_minor: Int64Array


def _correlations() -> Int64Array:
    found = np.full((len(NAMES), len(NAMES)), 600_000_000, np.int64)
    np.fill_diagonal(found, 10**9)
    return found


def _signs() -> Int64Array:
    return np.sign(np.array([scenarios_of(PRESET, name).spot_move_e9 for name in NAMES], np.int64))


def dynamic_pass(table: RiskTable, positions: Positions, rho: Int64Array, sign: Int64Array
                 ) -> Charged:  # fmt: skip
    """What a venue under the dynamic model asks of every pool, offsets and forecast floor in."""
    section = DYNAMIC.cross_unit
    check(section is not None, "benchmark: a preset with offsets")
    assert section is not None
    found = pool_requirements(table, positions)
    relief = relief_minor(section, rho, found, table.risk_exponent, sign, table.factors_ppb)
    left = found.worst_minor - relief.offset_minor
    more = growth_minor(left, int(table.factors_ppb[1]), GROWTH)
    return Charged(
        found.initial_minor - relief.initial_minor + more,
        found.maintenance_minor - relief.maintenance_minor,
        relief.offset_minor,
    )


def _row(name: str, ours: Timing, theirs: Timing, against: str, conditions: str) -> dict[str, Any]:
    """Milliseconds, and how many of the other the first takes."""
    return {
        "name": name,
        "ours": ours.best * 1e3,
        "baseline": theirs.best * 1e3,
        "unit": "ms",
        "ratio": ours.best / theirs.best,
        "baseline_name": against,
        "conditions": f"{conditions}; best (median): {ours.milliseconds()} against "
        f"{theirs.milliseconds()}; {machine()}",
    }


def offsets_row(table: RiskTable, positions: Positions, rounds: int) -> dict[str, Any]:
    """The whole pass with offsets between coins and the floor of a forecast, against PS-1's."""
    rho, sign = _correlations(), _signs()
    for module in (requirement, cross_unit, predictive):
        module.warm_up()
    ours, theirs = in_turn(
        rounds,
        lambda: dynamic_pass(table, positions, rho, sign),
        lambda: pool_requirements(table, positions),
    )
    charged: Charged = ours.result
    plain: Requirements = theirs.result
    check((charged.offset_minor > 0).mean() > 0.9, "benchmark: no offsets")
    check(
        (charged.maintenance_minor < plain.maintenance_minor).mean() > 0.9, "benchmark: no relief"
    )
    left = plain.worst_minor - charged.offset_minor
    grown = -(-left * (GROWTH - 10**9) // 10**9)
    rest = plain.initial_minor - plain.worst_minor
    check(np.array_equal(charged.initial_minor, rest + left + grown), "benchmark: other margins")
    return _row(
        "dynamic pass", ours, theirs, "PS-1, full pass",
        f"{positions.pool_count:,} pools, offsets of 4 units by correlation and a forecast floor",
    )  # fmt: skip


def chance_row(table: RiskTable, positions: Positions, rounds: int) -> dict[str, Any]:
    """Chance of a call of every pool from its margins at two moved markets, against one pass."""
    rho, factor = _correlations(), int(table.factors_ppb[1])
    needed = pool_requirements(table, positions)
    random = np.random.default_rng(8)
    gain = (needed.unit_loss >> table.risk_exponent) // 5
    gain *= random.choice(np.array([-1, 1]), gain.shape)
    cushion_minor = needed.initial_minor * random.integers(-50, 1_000, len(gain)) // 1_000
    law = TailLaw(1_100_000_000, 4)
    moved = needed._replace(unit_loss=needed.unit_loss + needed.unit_loss // 50)
    cushion.warm_up()
    predictive.warm_up()

    def chances() -> Int64Array:
        now = worst_of(needed.unit_loss, needed.worst_minor, needed.initial_minor, factor)
        asked = [
            requirement_changes_minor(
                now, worst_of(at.unit_loss, at.worst_minor, at.initial_minor, factor),
                table.risk_exponent, factor,
            )
            for at in (moved, needed)
        ]  # fmt: skip
        slope, bend = slope_and_bend(gain - asked[0], -gain - asked[1])
        return call_probabilities_ppb(slope, bend, rho, cushion_minor, law, CYCLES)

    ours, theirs = in_turn(rounds, chances, lambda: pool_requirements(table, positions))
    found: Int64Array = ours.result
    check((found[cushion_minor <= 0] == 10**9).all(), "benchmark: a call is not certain")
    unsure = ((found > 0) & (found < 10**9)).mean()
    check(unsure > 0.5, "benchmark: nothing was uncertain")
    return _row(
        "chance of a call", ours, theirs, "PS-1, full pass",
        f"{len(found):,} pools x 4 units, from requirements at the marks and at two moved markets "
        f"(those passes not counted), {unsure:.0%} of them strictly between 0 and 1",
    )  # fmt: skip


class _Market:
    """Four coins whose indices move every cycle, a minute boundary every twelfth."""

    def __init__(self) -> None:
        self.terms = range_terms(DYNAMIC, NAMES)
        self.ranges = opening(self.terms, [600_000_000] * len(NAMES))
        section = DYNAMIC.cross_unit
        assert section is not None
        self.section = section
        variance = np.array([period_variance_e18(600_000_000, 60)] * len(NAMES), np.int64)
        self.correlation = cross_unit.opening(section, variance)
        self.random = np.random.default_rng(9)
        self.index_e8 = [index for _, index, _ in UNITS]
        self.cycle = 0

    def cycles(self, count: int, interval_ns: int) -> Sequence[int]:
        """So many cycles: ranges, correlations, and the path of ranges to come, as a venue does."""
        growth: Sequence[int] = ()
        for _ in range(count):
            self.cycle += 1
            now = self.cycle * interval_ns
            moves = self.random.integers(-_MOVES_E9 // 10, _MOVES_E9 // 10, len(NAMES)).tolist()
            self.index_e8 = [p + p * m // 10**9 for p, m in zip(self.index_e8, moves, strict=True)]
            implied = AtTheMoney([600_000_000] * len(NAMES), [1] * len(NAMES))
            step(self.terms, self.ranges, now, self.index_e8, [True] * len(NAMES), implied)
            cross_unit.step(self.section, self.correlation, now, self.index_e8, True)
            correlations_ppb(self.section, self.correlation)
            path = range_path_e9(self.terms, self.ranges, now, interval_ns, CYCLES)
            today = self.ranges.range_e9.tolist()
            growth = (growth_ppb(today, path), mean_growth_ppb(today, path))
        return growth


def forecast_row(table: RiskTable, positions: Positions, rounds: int) -> dict[str, Any]:
    """The forecasts of one cycle, twelve cycles a minute, against the pass over all pools."""
    market, count = _Market(), 120
    forecast.warm_up()
    dynamic.step(market.terms, market.ranges, 0, market.index_e8, [True] * len(NAMES))
    before = market.ranges.memory.copy(), market.correlation.moment_e18.copy()
    ours, theirs = in_turn(
        rounds,
        lambda: market.cycles(count, INTERVAL_NS),
        lambda: pool_requirements(table, positions),
    )
    check(not np.array_equal(market.ranges.memory, before[0]), "benchmark: nothing was learnt")
    moved = not np.array_equal(market.correlation.moment_e18, before[1])
    check(moved, "benchmark: no correlation was learnt")
    check(min(ours.result) >= 10**9, "benchmark: no path of ranges")
    one = Timing(ours.best / count, ours.median / count, ours.result)
    return _row(
        "forecasts of a cycle", one, theirs, "PS-1, full pass",
        f"4 units, cycles of 5 s, periods of 60 s: ranges, correlations and a path of {CYCLES} "
        f"cycles; the pass over {positions.pool_count:,} pools",
    )  # fmt: skip


def rows(table: RiskTable, positions: Positions, rounds: int) -> list[dict[str, Any]]:
    """All of them."""
    return [make(table, positions, rounds) for make in (offsets_row, chance_row, forecast_row)]
