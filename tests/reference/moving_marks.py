"""A venue at other marks: its risk table, the value of its lots, and a random step of its marks."""

from __future__ import annotations

import msgspec
import numpy as np

from margin.invariant import Int64Array
from margin.pools.drift_bound import LotValues
from margin.pools.requirement import RiskTable, risk_table
from margin.pools.risk_table import BETTER_ROW
from margin.portfolio import INVERSE, INVERSE_CALL, INVERSE_PUT, Marks, Positions
from margin.presets import load_preset
from margin.presets.preset import Preset
from margin.presets.sections import CollateralCharges, Factors, NamedRate
from margin.scenarios.grid import scenario_matrix, scenarios_of
from margin.valuation import option_marks
from tests.reference.random_portfolios import CLASSES, EXPONENTS, Venue, column

PS_1 = load_preset("ps-1")
# More is asked to count of positive values than of negative ones.
REVERSED = msgspec.structs.replace(
    PS_1,
    discount=msgspec.structs.replace(
        PS_1.discount,
        long_base_e9=1_050_000_000,
        long_rate_share_e9=0,
        long_add_e9=0,
        short_base_e9=900_000_000,
        short_rate_share_e9=0,
        short_add_e9=0,
    ),
)
CURRENCIES = 1 + len(CLASSES)
MODELS = {
    "ps-1": PS_1,
    "grid only": msgspec.structs.replace(PS_1, skew=None, discount=None, basis=None),
    "better rows": REVERSED,
    "charged coins": msgspec.structs.replace(
        PS_1,
        factor=Factors(maintenance_ppb=10**9, initial_ppb=1_300_000_000, scales_contingency=True),
        collateral=CollateralCharges(
            maintenance=(NamedRate(name="default", rate_e9=30_000_000),),
            initial_extra=(NamedRate(name="default", rate_e9=7_000_000),),
        ),
    ),
    **{name: load_preset(name) for name in ("deribit", "paradex", "span-16", "derive-pmrm2")},
}


def table_at(venue: Venue, marks: Marks, preset: Preset = PS_1) -> RiskTable:
    """The risk table of a venue at other marks."""
    scenarios = [scenarios_of(preset, name) for name in CLASSES]
    exponents = column(list(EXPONENTS))
    matrix = scenario_matrix(preset, scenarios, venue.instruments, marks, exponents)
    return risk_table(preset, venue.instruments, matrix)


def lot_values(venue: Venue, marks: Marks) -> LotValues:
    """Value of a lot: price x coins in USDC; inverse contracts in the coin, at mark or index."""
    listed = venue.instruments
    values, currencies = [], []
    for i, kind in enumerate(listed.kind.tolist()):
        lot, mark, unit = (int(c[i]) for c in (listed.lot_e8, marks.mark_e8, listed.unit))
        value = lot * mark // 10**4
        if kind == INVERSE:
            value = lot * 10**14 // mark
        elif kind >= INVERSE_CALL:
            value = lot * mark * 10**6 // int(marks.index_e8[unit])
        values.append(value)
        currencies.append(1 + unit if kind in (INVERSE, INVERSE_CALL, INVERSE_PUT) else 0)
    return LotValues(column(values), column(currencies))


def moved(venue: Venue, marks: Marks, random: np.random.Generator, size: float) -> Marks:
    """Marks after a step: index and volatilities move, futures and premiums follow."""
    unit = venue.instruments.unit
    factor = np.exp(random.normal(0.0, size, len(CLASSES)))
    index_e8 = (marks.index_e8 * factor).astype(np.int64).clip(1)
    wobble = factor[unit] * np.exp(random.normal(0.0, size / 10, len(unit)))
    volatility = marks.volatility_e9 * np.exp(random.normal(0.0, 2 * size, len(unit)))
    after = msgspec.structs.replace(
        marks,
        index_e8=index_e8,
        mark_e8=(marks.mark_e8 * wobble).astype(np.int64).clip(1),
        forward_e8=(marks.forward_e8 * wobble).astype(np.int64).clip(1),
        volatility_e9=volatility.astype(np.int64),
    )
    options = venue.instruments.is_option()
    premiums = option_marks(venue.instruments, after)
    return msgspec.structs.replace(after, mark_e8=np.where(options, premiums, after.mark_e8))


def values_by_hand(positions: Positions, values: LotValues) -> Int64Array:
    """Value per pool and currency, each position rounded down by itself."""
    result = np.zeros((positions.pool_count, CURRENCIES), np.int64)
    for p in range(positions.pool_count):
        for k in range(int(positions.pool_start[p]), int(positions.pool_start[p + 1])):
            i, lots = int(positions.instrument[k]), int(positions.quantity_lots[k])
            result[p, values.currency[i]] += lots * int(values.value_e6[i]) // 10**6
    return result


def with_rows(table: RiskTable, rows: Int64Array, terms: Int64Array) -> RiskTable:
    """`table` with other rows and terms, and with what a position alone in its expiry adds then."""
    regular, skews, _, halves = table.shape
    lone = rows[:0]
    if halves == 2:
        first, second = np.split(rows, 2, axis=1)
        low, high = np.minimum(first, second), np.maximum(first, second)
        column = np.arange(low.shape[1])
        is_skew = (column >= regular) & (column < regular + skews)
        is_basis = column >= regular + skews
        better = (terms[:, [BETTER_ROW]] == 1) & ~is_basis
        sides = np.where(better, high, low), -np.where(better, low, high)
        lone = np.hstack([
            np.where(is_skew, -np.abs(side), np.where(is_basis, np.minimum(side, 0), side))
            for side in sides
        ])  # fmt: skip
    return msgspec.structs.replace(table, rows=rows, terms=terms, lone=lone)
