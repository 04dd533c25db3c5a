"""A published portfolio as the scenario engine reads it, and the engine's figures for it.

One rule for all: an instrument's lot is its position, at a strike the largest lot of which every
position is whole; the risk exponent is the finest that the venue's bound on a position allows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from exchange.core import limits
from margin.fixed_point import COIN_SCALE, NS_PER_SECOND, PRICE_SCALE
from margin.invariant import Int64Array
from margin.pools.equity import equity
from margin.pools.requirement import RiskTable, pool_requirements, risk_table, unit_profits
from margin.portfolio import (
    LINEAR_CALL,
    NEVER_NS,
    NO_DELTA_E9,
    NO_STRIKE_GROUP,
    Collateral,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.presets.preset import Preset
from margin.scenarios.grid import loss_multiple, risk_exponent, scenario_matrix, scenarios_of
from margin.valuation import option_marks, option_values

Case = dict[str, Any]


def scaled(value: float, scale: int) -> int:
    """The nearest integer of value x scale, from the exact binary value."""
    return round(Fraction(value) * scale)


def e9(value: float) -> int:
    return scaled(value, 10**9)


def e8(value: float) -> int:
    return scaled(value, 10**8)


def minor(value: float) -> int:
    return scaled(value, 10**6)


def column(values: list[int]) -> Int64Array:
    return np.array(values, dtype=np.int64)


@dataclass
class Row:
    """One instrument of a case with the whole position in it."""

    kind: int
    size: float
    mark: float
    seconds: float | None = None
    strike: float = 0.0
    volatility: float = 0.0
    rate: float = 0.0
    confidence: float = 1.0
    fixed: float | None = None
    premium: float | None = None
    delta: float | None = None


@dataclass
class Token:
    """Collateral other than cash; `value` is that of the whole holding, which counts as one."""

    value: float
    moves: bool
    maintenance: float
    initial_extra: float
    confidence: float


@dataclass
class Portfolio:
    """A case of one risk unit."""

    spot: float
    spot_confidence: float
    stable: float
    cash: float
    rows: list[Row] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)


@dataclass
class Figures:
    """What the engine says about a portfolio: USDC, net margins, profits by scenario."""

    equity: int
    worst: int
    initial: int
    maintenance: int
    profits: list[float]


def _lots(rows: list[Row]) -> tuple[list[int], list[int], list[int]]:
    """Lot (10^-8 coin), lots and strike group of every row."""
    strikes: dict[tuple[float | None, float], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        if row.kind >= LINEAR_CALL:
            strikes[row.seconds, row.strike].append(at)
    lot = [abs(e8(row.size)) for row in rows]
    group = [NO_STRIKE_GROUP] * len(rows)
    for number, members in enumerate(strikes.values()):
        shared = math.gcd(*(lot[at] for at in members))
        for at in members:
            lot[at], group[at] = shared, number
    return lot, [e8(row.size) // size for row, size in zip(rows, lot, strict=True)], group


def _instruments(rows: list[Row], lot: list[int], group: list[int]) -> Instruments:
    instruments = Instruments(
        kind=column([row.kind for row in rows]),
        unit=column([0] * len(rows)),
        expiry_ns=column(
            [NEVER_NS if r.seconds is None else scaled(r.seconds, NS_PER_SECOND) for r in rows]
        ),
        strike_e8=column([e8(row.strike) for row in rows]),
        lot_e8=column(lot),
        strike_group=column(group),
    )
    instruments.validate(1)
    return instruments


def _marks(case: Portfolio, rows: list[Row], instruments: Instruments, preset: Preset) -> Marks:
    given = any(row.fixed is not None for row in rows)
    marks = Marks(
        now_ns=0,
        index_e8=column([e8(case.spot)]),
        mark_e8=column([0 if row.kind >= LINEAR_CALL else e8(row.mark) for row in rows]),
        forward_e8=column([e8(row.mark) for row in rows]),
        volatility_e9=column([e9(row.volatility) for row in rows]),
        rate_e9=column([e9(row.rate) for row in rows]),
        index_confidence_ppb=column([e9(case.spot_confidence)]),
        confidence_ppb=column([e9(row.confidence) for row in rows]),
        fixed_e8=column([e8(row.fixed or 0.0) for row in rows]) if given else None,
        delta_e9=column([NO_DELTA_E9 if r.delta is None else e9(r.delta) for r in rows]),
        stable_e9=e9(case.stable),
    )
    discounted = preset.option is None or preset.option.discounted
    premiums = option_marks(instruments, marks, discounted)
    for at, row in enumerate(rows):
        if row.premium is not None:
            premiums[at] = e8(row.premium)
    marks = msgspec.structs.replace(marks, mark_e8=np.maximum(marks.mark_e8, premiums))
    marks.validate(instruments)
    return marks


def _collateral(case: Portfolio) -> Collateral:
    spot = Token(case.spot, True, 0.0, 0.0, case.spot_confidence)
    tokens = [spot, *case.tokens]
    collateral = Collateral(
        unit=column([0] * len(tokens)),
        price_e8=column([e8(t.value) for t in tokens]),
        moves=column([int(t.moves) for t in tokens]),
        maintenance_ppb=column([e9(t.maintenance) for t in tokens]),
        initial_extra_ppb=column([e9(t.initial_extra) for t in tokens]),
        confidence_ppb=column([e9(t.confidence) for t in tokens]),
    )
    collateral.validate(1)
    return collateral


def _equity(case: Portfolio, option_minor: int, preset: Preset) -> int:
    """Cash, options at mark and tokens; tokens in the stable coin where the model says so."""
    in_stable = preset.peg is not None and preset.peg.collateral_in_stable
    divisor = Fraction(e9(case.stable), 10**9) if in_stable else Fraction(1)
    prices = [round(e8(token.value) / divisor) for token in case.tokens]
    cash = column([minor(case.cash), *(COIN_SCALE for _ in case.tokens)])
    options = np.zeros_like(cash)
    options[0] = option_minor
    index = column([PRICE_SCALE, *prices])
    return int(equity(cash[None, :], options[None, :], index, np.zeros_like(index))[0])


def _table(
    preset: Preset, instruments: Instruments, marks: Marks, collateral: Collateral
) -> RiskTable:
    scenarios = scenarios_of(preset, "default")
    exponent = risk_exponent(
        limits.POSITION_NOTIONAL_MINOR_MAX, len(instruments) + 1, loss_multiple(scenarios, preset)
    )
    matrix = scenario_matrix(
        preset, [scenarios], instruments, marks, column([exponent]), collateral
    )
    return risk_table(preset, instruments, matrix)


def figures(preset: Preset, case: Portfolio) -> Figures:
    """Equity, requirements and scenario profits of a portfolio under a preset."""
    rows = [row for row in case.rows if e8(row.size) != 0]
    lot, lots, group = _lots(rows)
    instruments = _instruments(rows, lot, group)
    marks = _marks(case, rows, instruments, preset)
    table = _table(preset, instruments, marks, _collateral(case))
    order = margin_order(instruments)
    amounts = column([0, *(COIN_SCALE for _ in case.tokens)])
    positions = Positions(
        pool_start=column([0, len(rows)]),
        instrument=order,
        quantity_lots=column(lots)[order],
        coin_minor=amounts[None, :],
    )
    positions.validate(instruments)
    needed = pool_requirements(table, positions)
    profits = unit_profits(table, positions.instrument, positions.quantity_lots, amounts)[0]
    quantum = 2.0 ** -int(table.risk_exponent[0]) / 1e6
    return Figures(
        equity=_equity(case, int(option_values(instruments, marks, positions)[0, 0]), preset),
        worst=int(needed.worst_minor[0]),
        initial=int(needed.initial_minor[0]),
        maintenance=int(needed.maintenance_minor[0]),
        profits=[int(profit) * quantum for profit in profits.tolist()],
    )
