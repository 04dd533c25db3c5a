"""Random listings, marks, feeds and pools for the formula models, from a seed."""

from __future__ import annotations

import numpy as np

from margin.models.standard import Feeds
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
from tests.reference.random_portfolios import DAY_NS, INDEX_E8, LOT_E8, column

EXPONENTS = (0, 3, 9)
HAIRCUTS_PPB = (50_000_000, 70_000_000, 250_000_000)


def random_listing(seed: int, options: bool = True) -> tuple[Instruments, Marks, Feeds]:
    """Three units with futures and, if asked for, chains whose strikes differ in their lots."""
    random = np.random.default_rng(seed)
    rows: list[tuple[int, ...]] = []  # kind, unit, expiry, strike, lot, group, mark, forward, vol
    group = 0
    for unit, index in enumerate(INDEX_E8):
        lot = LOT_E8[unit]
        near = int(index * random.uniform(0.98, 1.02))
        rows.append((LINEAR, unit, NEVER_NS, 0, lot, -1, near, near, 0))
        rows.append((LINEAR, unit, 12 * DAY_NS, 0, 3 * lot, -1, int(near * 1.01), near, 0))
        rows.append((INVERSE, unit, NEVER_NS, 0, 10 * 10**8, -1, near, near, 0))
        for days in (0, 1, 12, 90) if options else ():
            forward = int(index * random.uniform(0.95, 1.05))
            for ratio in (0.5, 0.8, 0.95, 1.05, 1.3, 2.1):
                strike_lot = lot * int(random.choice([1, 2, 5]))
                volatility = int(random.uniform(0.2, 1.5) * 1e9)
                for kind in (LINEAR_CALL, LINEAR_PUT):
                    rows.append((kind, unit, days * DAY_NS, int(index * ratio), strike_lot, group,
                                 0, forward, volatility))  # fmt: skip
                group += 1
    rows = [rows[k] for k in random.permutation(len(rows)).tolist()]
    kind_, unit_, expiry, strike, lot_, group_, mark, forward_, vol = (
        column([row[c] for row in rows]) for c in range(9)
    )
    instruments = Instruments(kind_, unit_, expiry, strike, lot_, group_)
    instruments.validate(len(INDEX_E8))
    rate = np.zeros(len(rows), dtype=np.int64)
    marks = Marks(6 * 3_600 * 10**9, column(list(INDEX_E8)), mark, forward_, vol, rate)
    premium = option_marks(instruments, marks)
    marks.mark_e8[instruments.is_option()] = premium[instruments.is_option()]
    marks.validate(instruments)
    feeds = Feeds(
        stable_e9=int(random.integers(9 * 10**8, 10**9)),
        index_confidence_ppb=random.integers(2 * 10**8, 10**9, len(INDEX_E8)).astype(np.int64),
        confidence_ppb=random.integers(2 * 10**8, 10**9, len(rows)).astype(np.int64),
    )
    return instruments, marks, feeds


def random_pools(instruments: Instruments, pools: int, seed: int, most_rows: int = 14) -> Positions:
    """Pools of 0 to `most_rows` instruments, zero lots among them, some with coin cash."""
    random = np.random.default_rng(seed)
    rank = np.argsort(margin_order(instruments))
    start, held, lots = [0], [], []
    for _ in range(pools):
        size = int(random.integers(0, most_rows + 1))
        near = int(random.integers(0, len(instruments)))  # half the pools stay near one expiry
        order = np.argsort(rank)
        window = order[max(0, near - 9) : near + 9] if random.integers(0, 2) else order
        chosen = random.choice(window, min(size, len(window)), replace=False).tolist()
        held += sorted(chosen, key=lambda i: int(rank[i]))
        lots += random.integers(-300, 301, len(chosen)).tolist()
        start.append(len(held))
    coin = random.integers(-(10**11), 10**11, (pools, len(INDEX_E8))).astype(np.int64)
    coin *= random.integers(0, 2, coin.shape)
    positions = Positions(column(start), column(held), column(lots), coin)
    positions.validate(instruments)
    return positions


def pool_of(positions: Positions, p: int) -> tuple[dict[int, int], list[int]]:
    """Lots by instrument and coin of one pool, as plain integers."""
    rows = slice(int(positions.pool_start[p]), int(positions.pool_start[p + 1]))
    held = zip(positions.instrument[rows].tolist(), positions.quantity_lots[rows].tolist(),
               strict=True)  # fmt: skip
    return dict(held), positions.coin_minor[p].tolist()


def as_positions(instruments: Instruments, pools: list[dict[int, int]]) -> Positions:
    """Pools given by lots of instruments, without coin."""
    rank = np.argsort(margin_order(instruments))
    start, held, lots = [0], [], []
    for pool in pools:
        for i in sorted(pool, key=lambda i: int(rank[i])):
            held.append(i)
            lots.append(pool[i])
        start.append(len(held))
    units = int(instruments.unit.max()) + 1
    coin = np.zeros((len(pools), units), dtype=np.int64)
    return Positions(column(start), column(held), column(lots), coin)
