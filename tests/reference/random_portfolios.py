"""Random instruments, marks and pools from a seed, for the margin tests."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from margin.invariant import Int64Array
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Collateral,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.presets.preset import Preset
from margin.scenarios.grid import ScenarioMatrix, scenario_matrix, scenarios_of

DAY_NS = 86_400 * 10**9
NOW_NS = 3 * 3_600 * 10**9
AVERAGED_NS = NOW_NS + 600 * 10**9  # ten minutes before expiry: two thirds of the mean are fixed
CLASSES = ("BTC", "ETH", "DOGE")
INDEX_E8 = (60_000 * 10**8, 3_000 * 10**8, 12_345_678)
LOT_E8 = (10**4, 10**6, 10**10)
EXPONENTS = (0, 7, 20)


@dataclass(frozen=True)
class Venue:
    """Instruments with marks, and their matrix."""

    instruments: Instruments
    marks: Marks
    matrix: ScenarioMatrix


def column(values: list[int]) -> Int64Array:
    """A contiguous int64 column."""
    return np.array(values, dtype=np.int64)


def _tokens(preset: Preset) -> Collateral:
    """The coins of the units, a token that moves with the second and one that does not move."""
    rates = [preset.collateral_rates_ppb(name) for name in (*CLASSES, "WETH", "DAI")]
    return Collateral(
        unit=column([0, 1, 2, 1, 0]),
        price_e8=column([*INDEX_E8, INDEX_E8[1] * 11 // 10, 10**8]),
        moves=column([1, 1, 1, 1, 0]),
        maintenance_ppb=column([rate[0] for rate in rates]),
        initial_extra_ppb=column([rate[1] for rate in rates]),
        confidence_ppb=column([10**9, 450_000_000, 10**9, 10**9, 300_000_000]),
    )


def random_venue(preset: Preset, seed: int, doubtful: bool = False) -> Venue:
    """Three units of different size, each with futures and option chains, slots shuffled.

    `doubtful`: with tokens, low confidences and a stable coin below its peg.
    """
    random = np.random.default_rng(seed)
    rows: list[tuple[int, ...]] = []  # kind, unit, expiry, strike, lot, group, mark, volatility
    group = 0
    for unit, index in enumerate(INDEX_E8):
        lot = LOT_E8[unit]
        near = int(index * random.uniform(0.98, 1.02))
        rows.append((LINEAR, unit, NEVER_NS, 0, lot, -1, near, 0))
        rows.append((LINEAR, unit, 12 * DAY_NS, 0, lot, -1, int(index * 1.01), 0))
        rows.append((LINEAR, unit, AVERAGED_NS, 0, lot, -1, int(index * 1.001), 0))
        rows.append((INVERSE, unit, NEVER_NS, 0, 10 * 10**8, -1, near, 0))
        rows.append((INVERSE, unit, AVERAGED_NS, 0, 10 * 10**8, -1, int(index * 0.999), 0))
        for expiry_ns in (0, AVERAGED_NS, DAY_NS, 12 * DAY_NS, 30 * DAY_NS, 90 * DAY_NS):
            coin_settled = expiry_ns == 30 * DAY_NS or (unit, expiry_ns) == (1, AVERAGED_NS)
            kinds = (INVERSE_CALL, INVERSE_PUT) if coin_settled else (LINEAR_CALL, LINEAR_PUT)
            for ratio in (0.7, 0.95, 1.05, 1.5):
                strike = int(index * ratio)
                volatility = int(random.uniform(0.2, 1.2) * 1e9)
                premium = max(1, index // 20)
                for kind in kinds:
                    rows.append((kind, unit, expiry_ns, strike, lot, group, premium, volatility))
                group += 1
    order = random.permutation(len(rows)).tolist()
    kind_, unit_, expiry, strike_, lot_, group_, mark, vol = (
        column([rows[k][c] for k in order]) for c in range(8)
    )
    instruments = Instruments(kind_, unit_, expiry, strike_, lot_, group_)
    index_e8 = column(list(INDEX_E8))
    rate = random.integers(-(10**7), 8 * 10**7, len(rows)).astype(np.int64)
    marks = Marks(NOW_NS, index_e8, mark, index_e8[unit_], vol, rate)
    collateral = None
    if doubtful:
        collateral = _tokens(preset)
        collateral.validate(len(CLASSES))
        confidence = random.integers(3 * 10**8, 10**9, len(rows)).astype(np.int64)
        marks = msgspec.structs.replace(
            marks,
            index_confidence_ppb=column([10**9, 500_000_000, 10**9]),
            confidence_ppb=confidence,
            stable_e9=910_000_000,
        )
    instruments.validate(len(CLASSES))
    marks.validate(instruments)
    scenarios = [scenarios_of(preset, name) for name in CLASSES]
    matrix = scenario_matrix(
        preset, scenarios, instruments, marks, column(list(EXPONENTS)), collateral
    )
    return Venue(instruments, marks, matrix)


def random_positions(venue: Venue, pools: int, seed: int) -> Positions:
    """Pools of 0 to 12 instruments, some with coin cash of either sign."""
    random = np.random.default_rng(seed)
    rank = np.argsort(margin_order(venue.instruments))
    start, held, lots = [0], [], []
    for _ in range(pools):
        size = int(random.integers(0, 13))
        chosen = random.choice(len(venue.instruments), size, replace=False).tolist()
        held += sorted(chosen, key=lambda i: int(rank[i]))
        lots += random.integers(-(10**5), 10**5, size).tolist()
        start.append(len(held))
    coins = venue.matrix.coin.shape[0]
    coin = random.integers(-(10**11), 10**11, (pools, coins)).astype(np.int64)
    coin *= random.integers(0, 2, (pools, coins))
    positions = Positions(column(start), column(held), column(lots), coin)
    positions.validate(venue.instruments)
    return positions


def first_pools(positions: Positions, pools: int) -> Positions:
    """The first pools of a book, and nothing of the others."""
    rows = int(positions.pool_start[pools])
    return Positions(
        positions.pool_start[: pools + 1], positions.instrument[:rows],
        positions.quantity_lots[:rows], positions.coin_minor[:pools],
    )  # fmt: skip
