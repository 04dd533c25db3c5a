"""How every pool's cushion answers the market: equity less initial margin at moved marks.

Contracts are priced and pools margined again one deviation up and one down, every underlying by its
own: what the engine would book and ask there, at the ranges of the cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from exchange.core.contracts import value_per_lot_e6
from exchange.core.risk import Risk
from exchange.core.state import State
from exchange.core.venue import FUTURE_KINDS, USDC
from margin.cushion import (
    COIN_CASH,
    COIN_VALUE,
    IN_USDC,
    requirement_changes_minor,
    slope_and_bend,
    unit_gains,
    worst_of,
)
from margin.fixed_point import PRICE_SCALE
from margin.invariant import Int64Array
from margin.portfolio import Marks
from margin.requirement import equity
from margin.valuation import option_marks

E9 = 10**9


class Exposures(NamedTuple):
    """Gain of the cushion a z + b z^2, z in deviations: `slope[P,U]` and `bend[P,U]`, minor USDC.

    By position in the list of pools that was asked for.
    """

    slope: Int64Array
    bend: Int64Array


def moved_marks(state: State, move_e9: Sequence[int]) -> Marks:
    """The marks after every underlying moved by its part: volatilities, rates and time stay."""
    columns, marks = state.contracts.columns, state.marks.columns()
    parts = E9 + np.array(move_e9, np.int64)
    of_slot = parts[columns.unit]

    def moved(price_e8: Int64Array, part_e9: Int64Array) -> Int64Array:
        return np.array(
            [p * x // E9 for p, x in zip(price_e8.tolist(), part_e9.tolist(), strict=True)],
            np.int64,
        )

    found = msgspec.structs.replace(
        marks,
        index_e8=moved(marks.index_e8, parts),
        forward_e8=moved(marks.forward_e8, of_slot),
        mark_e8=moved(marks.mark_e8, of_slot),
    )
    if not state.contracts.has_options:
        return found
    premiums = option_marks(columns, found)
    return msgspec.structs.replace(
        found, mark_e8=np.where(state.contracts.is_option == 1, premiums, found.mark_e8)
    )


def _kinds(state: State) -> Int64Array:
    """In what each contract pays, as `unit_gains` names it."""
    found = np.full(len(state.contracts), IN_USDC, np.int64)
    for slot in state.contracts.listed():
        if state.contracts.currency_column[slot] != USDC:
            future = state.contracts.specs[slot].kind in FUTURE_KINDS
            found[slot] = COIN_CASH if future else COIN_VALUE
    return found


def _values_e6(state: State, mark_e8: Int64Array) -> Int64Array:
    values = np.zeros(len(state.contracts), np.int64)
    for slot in state.contracts.listed():
        if mark_e8[slot] > 0:
            values[slot] = value_per_lot_e6(state.contracts.specs[slot], int(mark_e8[slot]))
    return values


def _equity_gains(
    state: State, risk: Risk, number: int, gains: Int64Array, index_e8: Int64Array
) -> Int64Array:
    """What units add to equity, [P,U], once positions gained and coins are worth `index_e8`."""
    venue, haircut = state.venue, risk.models[number].haircut_ppb
    holdings = risk.holdings
    held = holdings.cash() + holdings.option_values()
    found: Int64Array = gains[IN_USDC].copy()
    for unit in range(found.shape[1]):
        currency = venue.coin_of(unit)
        if currency <= 0:
            continue
        before = np.zeros((len(held), 2), np.int64)
        before[:, 1] = held[:, currency]
        after = before.copy()
        after[:, 1] += gains[COIN_CASH][:, unit] + gains[COIN_VALUE][:, unit]
        rates, none = np.array([0, haircut[currency]], np.int64), np.zeros_like(before)
        prices = [
            np.array([PRICE_SCALE, int(e8)], np.int64)
            for e8 in (state.marks.index_e8[unit], index_e8[unit])
        ]
        found[:, unit] += equity(after, none, prices[1], rates)
        found[:, unit] -= equity(before, none, prices[0], rates)
    return found


def exposures(state: State, risk: Risk, number: int, move_e9: Sequence[int]) -> Exposures:
    """How the cushions of all pools answer moves of so much in every underlying, under one model.

    `move_e9[U]`: one deviation of each. Right for the pools that the model charges.
    """
    model, positions, contracts = risk.models[number], state.positions, state.contracts
    holdings = risk.holdings
    kinds, pools, units = _kinds(state), state.accounts.pools, len(move_e9)
    factor_ppb = int(model.table.factors_ppb[1])
    now = worst_of(risk.unit_loss, risk.worst_minor, risk.initial - risk.add_on_minor, factor_ppb)
    found = []
    for way in (1, -1):
        marks = moved_marks(state, [way * move for move in move_e9])
        gains = unit_gains(
            positions.pool, positions.instrument, positions.lots, contracts.columns.unit, kinds,
            holdings.value_e6, _values_e6(state, marks.mark_e8), pools, units,
        )  # fmt: skip
        columns = holdings.columns(holdings.coins() + gains[COIN_CASH])
        needed = model.requirements_at(state, risk.layout, marks, columns)
        then = worst_of(needed.unit_loss, needed.worst_minor, needed.initial_minor, factor_ppb)
        asked = requirement_changes_minor(now, then, model.grid.risk_exponent, factor_ppb)
        found.append(_equity_gains(state, risk, number, gains, marks.index_e8) - asked)
    slope, bend = slope_and_bend(found[0], found[1])
    return Exposures(slope, bend)
