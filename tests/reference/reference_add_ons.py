"""Slow twin of `margin.add_ons.charges`, and random markets for its tests: no arrays.

Sums, impacts, shares and roundings are done again with big integers from the per-lot columns of a
table; the columns themselves are compared with the textbook formulas in `textbook_columns`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from margin.add_ons.charges import (
    BUCKET,
    DELTA,
    FUNDING,
    GAP_LOSS,
    HEDGE,
    UNIT,
    AddOnTable,
    MarketConditions,
)
from margin.invariant import Int64Array
from margin.portfolio import (
    INVERSE,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.valuation import option_marks

DAY_NS = 86_400 * 10**9
COINS = ("BTC", "ETH", "DOGE")
INDEX_E8 = (60_000 * 10**8, 3_000 * 10**8, 12_345_678)
LOT_E8 = (10**4, 10**6, 10**10)
EXPONENTS = (2, 5, 0)
DAYS = (0, 2, 5, 12, 90)  # expired, two that stand alone, two that net
ONE = 10**9


@dataclass(frozen=True)
class Market:
    """Instruments with marks and the conditions they trade under."""

    instruments: Instruments
    marks: Marks
    conditions: MarketConditions


def column(values: list[int]) -> Int64Array:
    """A contiguous int64 column."""
    return np.array(values, dtype=np.int64)


def random_market(seed: int) -> Market:
    """Three risk units, each with futures, perpetuals and an option chain, slots shuffled."""
    random = np.random.default_rng(seed)
    rows: list[tuple[int, ...]] = []  # kind, unit, expiry, strike, lot, group, mark, volatility
    group = 0
    for unit, index in enumerate(INDEX_E8):
        lot, near = LOT_E8[unit], int(index * random.uniform(0.98, 1.02))
        rows.append((LINEAR, unit, NEVER_NS, 0, lot, -1, near, 0))
        rows.append((LINEAR, unit, 40 * DAY_NS, 0, lot, -1, int(index * 1.01), 0))
        rows.append((INVERSE, unit, NEVER_NS, 0, 10 * 10**8, -1, near, 0))
        for days in DAYS:
            for ratio in (0.7, 1.0, 1.3):
                volatility = int(random.uniform(0.2, 1.2) * ONE)
                for kind in (LINEAR_CALL, LINEAR_PUT):
                    strike = int(index * ratio)
                    rows.append((kind, unit, days * DAY_NS, strike, lot, group, 0, volatility))
                group += 1
    order = random.permutation(len(rows)).tolist()
    columns = [column([rows[k][c] for k in order]) for c in range(8)]
    instruments = Instruments(*columns[:6])
    index_e8 = column(list(INDEX_E8))
    rate = random.integers(-(10**7), 8 * 10**7, len(rows)).astype(np.int64)
    marks = Marks(3_600 * ONE, index_e8, columns[6], index_e8[columns[1]], columns[7], rate)
    option = instruments.is_option()
    marks.mark_e8[option] = option_marks(instruments, marks)[option]
    instruments.validate(len(COINS))
    marks.validate(instruments)
    funding = random.integers(-(10**6), 10**6, len(rows)).astype(np.int64)
    conditions = MarketConditions(
        volatility_e9=random.integers(3 * 10**8, 12 * 10**8, 3).astype(np.int64),
        daily_volume_minor=column([3_000, 800, 40]) * 10**12,
        spot_range_e9=column([16, 18, 27]) * 10**7,
        interval_ns=5 * ONE,
        funding_rate_e9=funding,
    )
    return Market(instruments, marks, conditions)


def random_pools(market: Market, pools: int, seed: int, most_lots: int = 10**6) -> Positions:
    """Pools of 0 to 12 instruments, sizes over several powers of ten.

    Up to 10^8 lots the sums of 12 positions stay below 2^62 quanta, as a venue's limits ensure.
    """
    random = np.random.default_rng(seed)
    rank = np.argsort(margin_order(market.instruments))
    start, held, lots = [0], [], []
    for _ in range(pools):
        size = int(random.integers(0, 13))
        chosen = random.choice(len(market.instruments), size, replace=False).tolist()
        held += sorted(chosen, key=lambda i: int(rank[i]))
        most = 10 ** int(random.integers(1, len(str(most_lots))))
        lots += random.integers(-most, most, size).tolist()
        start.append(len(held))
    coin = random.integers(-(10**11), 10**11, (pools, len(COINS))).astype(np.int64)
    positions = Positions(column(start), column(held), column(lots), coin)
    positions.validate(market.instruments)
    return positions


def ceil_root(x: int) -> int:
    """The smallest integer whose square is at least x, by bisection."""
    low, high = 0, x + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if middle * middle >= x else (middle + 1, high)
    return low


def ceil_div(a: int, b: int) -> int:
    """Ceiling of a / b."""
    return -(-a // b)


def ratio_up(size: int, depth: int) -> int:
    """size / depth in 2^-40, up, at most 2^20."""
    return 2**60 if size >= depth * 2**20 else ceil_div(size * 2**40, depth)


def impact(form: int, size: int, depth: int, free: int, slope_e9: int) -> int:
    """Cost of closing `size` beyond `free`; form 0 is the square root."""
    if size <= free:
        return 0
    if depth == 0:
        return size

    def root_cost(n: int) -> int:
        root = ceil_root(ratio_up(n, depth))
        return ceil_div(n * ceil_div(root * slope_e9, 2**20), ONE)

    if form == 0:
        return min(size, root_cost(size) - root_cost(free))
    share = ceil_div(ratio_up(size - free, depth), 2**10)
    return ceil_div(size * min(ONE, ceil_div(share * slope_e9, 2**30)), ONE)


def _rows(positions: Positions, p: int) -> list[tuple[int, int]]:
    first, last = int(positions.pool_start[p]), int(positions.pool_start[p + 1])
    return [
        (int(positions.instrument[r]), int(positions.quantity_lots[r])) for r in range(first, last)
    ]


def _pool(
    table: AddOnTable, rows: list[tuple[int, int]], worst: list[int]
) -> tuple[list[int], int, int]:
    """(delta by unit, gamma, funding) of one pool in minor units."""
    deltas, gamma, funding = [], 0, 0
    for u, exponent in enumerate(table.risk_exponent.tolist()):
        held = [(i, q) for i, q in rows if int(table.terms[i, UNIT]) == u]
        quantum = 2**exponent
        delta = sum(q * int(table.terms[i, DELTA]) for i, q in held)
        size = ceil_div(abs(delta), quantum)
        deltas.append(size if delta >= 0 else -size)
        pays = sum(max(0, q * int(table.terms[i, FUNDING])) for i, q in held)
        funding += ceil_div(pays, quantum)
        losses: dict[int, int] = defaultdict(int)
        hedges: dict[int, int] = defaultdict(int)
        bent = 0
        for i, q in held:
            losses[int(table.terms[i, BUCKET])] -= q * int(table.terms[i, GAP_LOSS])
            hedges[int(table.terms[i, BUCKET])] -= q * int(table.terms[i, HEDGE])
            if 0 <= worst[u] < table.convexity.shape[1]:
                bent -= q * int(table.convexity[i, worst[u]])
        short = sum(max(0, loss) for loss in losses.values())
        gamma += ceil_div(max(0, short - max(0, bent)), quantum)
        traded = ceil_div(sum(max(0, hedge) for hedge in hedges.values()), quantum)
        gamma += ceil_div(traded * table.half_spread_e9, ONE)
        gamma += impact(
            table.form, traded, int(table.depth_minor[u]), int(table.free_minor[u]),
            int(table.slope_e9[u]),
        )  # fmt: skip
    return deltas, gamma, funding


def charges(
    table: AddOnTable, positions: Positions, owner_of: list[int], worst: Int64Array
) -> list[tuple[int, int, int]]:
    """(liquidity, gamma, funding) of every pool."""
    pools = [
        _pool(table, _rows(positions, p), worst[p].tolist()) for p in range(positions.pool_count)
    ]
    liquidity = [0] * len(pools)
    sides: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for p, (deltas, _, _) in enumerate(pools):
        for u, delta in enumerate(deltas):
            sides[owner_of[p], u, delta >= 0].append(p)
    for (_, u, _), members in sides.items():
        if not table.charges_liquidity:
            continue
        sizes = [abs(pools[p][0][u]) for p in members]
        owed = impact(
            table.form, sum(sizes), int(table.depth_minor[u]), int(table.free_minor[u]),
            int(table.slope_e9[u]),
        )  # fmt: skip
        before = 0
        for p, size in zip(members, sizes, strict=True):
            if owed and size:
                whole = sum(sizes)
                liquidity[p] += owed * (before + size) // whole - owed * before // whole
                before += size
    return [(liquidity[p], gamma, funding) for p, (_, gamma, funding) in enumerate(pools)]


def textbook_option(
    f: float, k: float, iv: float, tau: float, discount: float, call: bool
) -> tuple[float, float, float]:
    """(value, delta, gamma) of Black-76 with libm."""
    sign = 1.0 if call else -1.0
    if tau <= 0:
        return discount * max(0.0, sign * (f - k)), discount * sign * (sign * (f - k) > 0), 0.0
    deviation = iv * math.sqrt(tau)
    d1 = math.log(f / k) / deviation + deviation / 2

    def cdf(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    value = discount * sign * (f * cdf(sign * d1) - k * cdf(sign * (d1 - deviation)))
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    return value, discount * sign * cdf(sign * d1), discount * density / (f * deviation)
