"""How every pool's cushion answers the market: equity less initial margin at moved marks.

Contracts are priced and pools margined again one deviation up and one down, every underlying by its
own: what the engine would book and ask there, at the ranges of the cycle. All pools are taken as
the last revaluation left them, one pool as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.state import State
from exchange.core.venue import FUTURE_KINDS, USDC
from margin.fixed_point import PRICE_SCALE, RATE_SCALE
from margin.forecasts.cushion import (
    COIN_CASH,
    COIN_VALUE,
    IN_USDC,
    requirement_changes_minor,
    slope_and_bend,
    unit_gains,
    worst_of,
)
from margin.invariant import Int64Array
from margin.pools.requirement import equity
from margin.portfolio import Marks, Positions
from margin.valuation import option_marks


class Exposures(NamedTuple):
    """Gain of the cushion a z + b z^2, z in deviations: `slope[P,U]` and `bend[P,U]`, minor USDC.

    By row of the pools that were asked for.
    """

    slope: Int64Array
    bend: Int64Array


class Charged(NamedTuple):
    """What K pools hold and are charged, by row: the figures that a cushion is made of.

    `row[N]`: row of the pool of each position of `columns`; `money[K,C]`: cash and options at the
    mark; `unit_loss[K,U]` in quanta. The requirement holds the add-ons, which stand beside it, too.
    """

    columns: Positions
    row: Int64Array
    money: Int64Array
    unit_loss: Int64Array
    worst_minor: Int64Array
    initial_minor: Int64Array
    add_on_minor: Int64Array


def all_charged(state: State, risk: Risk) -> Charged:
    """Every pool, row by its number; after a revaluation."""
    held = risk.holdings
    return Charged(
        held.columns(held.coins()), state.positions.pool, held.cash() + held.option_values(),
        risk.worst.unit_loss, risk.worst.worst_minor, risk.initial, risk.add_on_minor,
    )  # fmt: skip


def pool_charged(risk: Risk, pool: int) -> Charged:
    """One pool as it stands, in row 0."""
    held = risk.holdings
    columns = held.columns_of(pool)
    # losses by unit are of the last revaluation: positions may have moved between pools since
    needed = risk.model(pool).charged(columns, np.zeros(1, np.int64)).requirements
    need = risk.need(pool)
    return Charged(
        columns, np.zeros(len(columns.instrument), np.int64),
        (held.cash_of(pool) + held.option_values_of(pool)).reshape(1, -1),
        needed.unit_loss, needed.worst_minor, np.array([need.initial_minor], np.int64),
        np.array([need.add_on_minor], np.int64),
    )  # fmt: skip


def moved_marks(state: State, move_e9: Sequence[int]) -> Marks:
    """The marks after every underlying moved by its part: volatilities, rates and time stay."""
    columns, marks = state.contracts.columns, state.marks.columns()
    parts = RATE_SCALE + np.array(move_e9, np.int64)
    of_slot = parts[columns.unit]

    def moved(price_e8: Int64Array, part_e9: Int64Array) -> Int64Array:
        return np.array(
            [p * x // RATE_SCALE for p, x in zip(price_e8.tolist(), part_e9.tolist(), strict=True)],
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


def _equity_gains(
    state: State, risk: Risk, number: int, held: Int64Array, gains: Int64Array,
    index_e8: Int64Array,
) -> Int64Array:  # fmt: skip
    """What units add to equity, [K,U], once positions gained and coins are worth `index_e8`.

    `held[K,C]`: cash and options before.
    """
    venue, haircut = state.venue, risk.models[number].haircut_ppb
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


def exposures(
    state: State, risk: Risk, number: int, move_e9: Sequence[int], charged: Charged | None = None
) -> Exposures:
    """How the cushions of pools answer moves of so much in every underlying, under one model.

    `move_e9[U]`: one deviation of each; `charged`: the pools, all if none are given. Right for
    those that the model charges.
    """
    model, contracts = risk.models[number], state.contracts
    charged = all_charged(state, risk) if charged is None else charged
    columns, kinds = charged.columns, _kinds(state)
    rows, units = len(charged.initial_minor), len(move_e9)
    factor_ppb = int(model.table.factors_ppb[1])
    now = worst_of(
        charged.unit_loss, charged.worst_minor, charged.initial_minor - charged.add_on_minor,
        factor_ppb,
    )  # fmt: skip
    found = []
    for way in (1, -1):
        marks = moved_marks(state, [way * move for move in move_e9])
        gains = unit_gains(
            charged.row, columns.instrument, columns.quantity_lots, contracts.columns.unit, kinds,
            risk.holdings.value_e6, contracts.lot_values_e6(marks.mark_e8), rows, units,
        )  # fmt: skip
        moved = msgspec.structs.replace(columns, coin_minor=columns.coin_minor + gains[COIN_CASH])
        needed = model.requirements_at(state, risk.layout, marks, moved)
        then = worst_of(needed.unit_loss, needed.worst_minor, needed.initial_minor, factor_ppb)
        asked = requirement_changes_minor(now, then, model.grid.risk_exponent, factor_ppb)
        gained = _equity_gains(state, risk, number, charged.money, gains, marks.index_e8)
        found.append(gained - asked)
    slope, bend = slope_and_bend(found[0], found[1])
    return Exposures(slope, bend)
