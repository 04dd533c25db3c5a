"""Equity and requirements of every pool at the last marks: derived from the state, never stored.

Rebuilt whole after each revaluation and after a restore, and pool by pool when cash or positions
move in between, so that it always equals what the state implies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from exchange.core import limits
from exchange.core.contracts import value_per_lot_e6
from exchange.core.ledger import HOUSE_POOLS, House
from exchange.core.marks import IndexState
from exchange.core.positions import KEY, LOTS, RANK_MASK
from exchange.core.state import State
from exchange.core.venue import USDC, lot_notional_minor
from margin.fixed_point import PRICE_SCALE, mul_div_floor
from margin.invariant import Int64Array, check
from margin.portfolio import Collateral
from margin.portfolio import Positions as PositionColumns
from margin.requirement import (
    OpenOrders,
    RiskTable,
    equity,
    pool_requirements,
    requirement_with_orders,
    risk_table,
)
from margin.risk_table import RiskLayout, risk_layout
from margin.scenarios import (
    ScenarioMatrix,
    loss_multiple,
    lot_matrix,
    risk_exponent,
    scenario_grid,
    scenarios_of,
)

PPB = 10**9
_NONE: Int64Array = np.zeros(0, np.int64)
NO_ORDERS = OpenOrders(_NONE, _NONE, _NONE, _NONE, _NONE)


@njit(cache=True)
def _option_values(
    pool: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    is_option: Int64Array,
    value_e6: Int64Array,
    out: Int64Array,
) -> None:
    for row in range(len(pool)):
        slot = instrument[row]
        if is_option[slot] == 1:
            out[pool[row]] += mul_div_floor(value_e6[slot], lots[row], 1_000_000)


class Risk:
    """Requirements, equity and the scenario matrix that the gate and the default steps read."""

    def __init__(self, state: State) -> None:
        self.state = state
        venue = state.venue
        self.scenarios = [scenarios_of(venue.preset, u.risk_class) for u in venue.underlyings]
        multiple = max(loss_multiple(unit, venue.preset) for unit in self.scenarios)
        exponent = risk_exponent(
            limits.POSITION_NOTIONAL_MINOR_MAX, limits.INSTRUMENTS_PER_UNIT_MAX, multiple
        )
        self.exponent = exponent
        exponents = np.full(len(venue.underlyings), exponent, np.int64)
        self.grid = scenario_grid(venue.preset, self.scenarios, exponents)
        self.layout: RiskLayout
        self._listed = -1
        self.haircut_ppb = np.array(
            [venue.preset.haircut_ppb(name) for name in venue.currencies()], np.int64
        )
        self.no_haircut = np.zeros_like(self.haircut_ppb)
        self.matrix: ScenarioMatrix
        self.table: RiskTable
        self.value_e6: Int64Array
        self.index_e8: Int64Array  # USD price x 10^8 of each currency
        self.pending: Int64Array = np.zeros((0, 0), np.int64)
        none = np.zeros(0, np.int64)
        self.equity, self.initial, self.maintenance = none, none, none

    def value_lots(self) -> Int64Array:
        """Value of one lot of each contract at its mark, in 10^-6 minor units; call first."""
        contracts, mark_e8 = self.state.contracts, self.state.marks.mark_e8.tolist()
        values = np.zeros(len(contracts), np.int64)
        for slot in contracts.listed():
            if mark_e8[slot] > 0:
                values[slot] = value_per_lot_e6(contracts.specs[slot], mark_e8[slot])
        self.value_e6 = values
        return values

    def reprice(self) -> None:
        """New scenario matrix at the marks; call when marks or listings change."""
        state = self.state
        contracts, marks = state.contracts, state.marks
        if self._listed != len(contracts):
            self.layout = risk_layout(contracts.columns)
            self._listed = len(contracts)
        self.matrix = lot_matrix(self.grid, contracts.columns, marks.columns(), self._collateral())
        if any(state != IndexState.FRESH for state in marks.index_state):
            self._widen_stale()
        self.table = risk_table(state.venue.preset, contracts.columns, self.matrix, self.layout)
        coins = [
            int(e8)
            for e8, u in zip(marks.index_e8, state.venue.underlyings, strict=True)
            if u.is_collateral
        ]
        self.index_e8 = np.array([PRICE_SCALE, *coins], np.int64)

    def _collateral(self) -> Collateral:
        """The coin of every unit, with what the model charges on it."""
        venue, marks = self.state.venue, self.state.marks
        units = len(venue.underlyings)
        rates = [venue.preset.collateral_rates_ppb(unit.name) for unit in venue.underlyings]
        charges, extras = np.array(rates, np.int64).reshape(-1, 2).T
        return Collateral(
            unit=np.arange(units, dtype=np.int64),
            price_e8=marks.index_e8,
            moves=np.ones(units, np.int64),
            maintenance_ppb=np.ascontiguousarray(charges),
            initial_extra_ppb=np.ascontiguousarray(extras),
            confidence_ppb=np.array(marks.confidence_ppb, np.int64),
        )

    def _widen_stale(self) -> None:
        """A stale index adds a part of notional to the initial margin of its contracts."""
        state = self.state
        extra_ppb = state.venue.index.stale_initial_extra_ppb
        for slot in state.contracts.listed():
            spec = state.contracts.specs[slot]
            if state.marks.index_state[spec.underlying] == IndexState.FRESH:
                continue
            notional = lot_notional_minor(spec, int(state.marks.index_e8[spec.underlying]))
            extra = -(-(notional * extra_ppb << self.exponent) // PPB)
            if state.contracts.is_option_slot(slot):
                self.matrix.naked_im_extra[slot] += extra
            else:
                self.matrix.delta_one_im_extra[slot] += extra

    def cash(self) -> Int64Array:
        """Cash and unreleased gains per pool and currency."""
        cash = self.state.ledger.cash
        if not self.pending.any():
            return cash
        total = cash.copy()
        total[: len(self.pending)] += self.pending
        return total

    def _coin_columns(self, cash: Int64Array) -> Int64Array:
        """Net cash in the coin of each risk unit; the house's mirror pools carry no risk."""
        venue = self.state.venue
        coins = np.zeros((len(cash), len(venue.underlyings)), np.int64)
        if self.state.ledger.currencies == 1:
            return coins
        for unit in range(len(venue.underlyings)):
            currency = venue.coin_of(unit)
            if currency > 0:
                coins[:, unit] = cash[:, currency]
        coins[: House.INSURANCE] = 0
        coins[House.INSURANCE + 1 : HOUSE_POOLS] = 0
        return coins

    def _all_columns(self, coins: Int64Array) -> PositionColumns:
        positions = self.state.positions
        return PositionColumns(
            pool_start=positions.starts(self.state.accounts.pools),
            instrument=positions.instrument,
            quantity_lots=positions.lots,
            coin_minor=coins,
        )

    def columns_of(self, pool: int) -> PositionColumns:
        """One pool's positions and coin cash as margin reads them."""
        positions = self.state.positions
        rows = positions.rows_of(pool)
        keys = positions.table[KEY, rows]
        return PositionColumns(
            pool_start=np.array([0, len(keys)], np.int64),
            instrument=self.state.contracts.by_rank[keys & RANK_MASK],
            quantity_lots=positions.table[LOTS, rows],
            coin_minor=self._coins_of(pool),
        )

    def _coins_of(self, pool: int) -> Int64Array:
        venue = self.state.venue
        coins = np.zeros((1, len(venue.underlyings)), np.int64)
        if pool >= HOUSE_POOLS or pool == House.INSURANCE:
            for unit in range(len(venue.underlyings)):
                currency = venue.coin_of(unit)
                if currency > 0:
                    coins[0, unit] = self._cash_of(pool)[currency]
        return coins

    def _cash_of(self, pool: int) -> Int64Array:
        cash: Int64Array = self.state.ledger.cash[pool]
        if pool < len(self.pending):
            cash = cash + self.pending[pool]
        return cash

    def option_values(self) -> Int64Array:
        """Value at mark of each pool's options, in the currency they settle in (USDC)."""
        positions = self.state.positions
        values = np.zeros((self.state.accounts.pools, self.state.ledger.currencies), np.int64)
        if not self.state.contracts.has_options:
            return values
        of_usdc = np.zeros(len(values), np.int64)
        _option_values(
            positions.pool,
            positions.instrument,
            positions.lots,
            self.state.contracts.is_option,
            self.value_e6,
            of_usdc,
        )
        values[:, USDC] = of_usdc
        return values

    def revalue(self, pending: Int64Array | None = None) -> None:
        """Equity and requirements of all pools; `pending` gains count until they are released."""
        if pending is not None:
            self.pending = pending
        cash = self.cash()
        needed = pool_requirements(self.table, self._all_columns(self._coin_columns(cash)))
        self.initial, self.maintenance = needed.initial_minor, needed.maintenance_minor
        self.worst_scenario = needed.worst_scenario
        self.equity = equity(cash, self.option_values(), self.index_e8, self.haircut_ppb)

    def revalue_pool(self, pool: int) -> None:
        """The same for one pool, after its cash or positions moved."""
        needed = pool_requirements(self.table, self.columns_of(pool))
        self.initial[pool] = needed.initial_minor[0]
        self.maintenance[pool] = needed.maintenance_minor[0]
        self.equity[pool] = self.equity_of(pool)

    def equity_of(self, pool: int, haircut: bool = True) -> int:
        """Equity of one pool in minor USDC, with or without collateral haircuts."""
        rates = self.haircut_ppb if haircut else self.no_haircut
        columns = self.columns_of(pool)
        options = np.zeros((1, self.state.ledger.currencies), np.int64)
        here = np.zeros(len(columns.instrument), np.int64)
        _option_values(
            here,
            columns.instrument,
            columns.quantity_lots,
            self.state.contracts.is_option,
            self.value_e6,
            options[:, USDC],
        )
        return int(equity(self._cash_of(pool)[None, :], options, self.index_e8, rates)[0])

    def add_pools(self, count: int) -> None:
        """Room for pools opened since the last revaluation; they hold nothing."""
        room = np.zeros(count, np.int64)
        self.equity = np.concatenate((self.equity, room))
        self.initial = np.concatenate((self.initial, room))
        self.maintenance = np.concatenate((self.maintenance, room))

    def requirement_of(self, pool: int, lots: Sequence[int]) -> tuple[int, int]:
        """Initial and maintenance margin of a pool if its positions were `lots` (row order)."""
        columns = self.columns_of(pool)
        changed = PositionColumns(
            pool_start=columns.pool_start,
            instrument=columns.instrument,
            quantity_lots=np.array(lots, np.int64),
            coin_minor=columns.coin_minor,
        )
        needed = pool_requirements(self.table, changed)
        return int(needed.initial_minor[0]), int(needed.maintenance_minor[0])

    def requirements(self, pool: int) -> Callable[[Sequence[int]], tuple[int, int]]:
        """(initial, maintenance) of a pool as a function of its positions' lots (those not 0)."""
        columns = self.columns_of(pool)
        coins = columns.coin_minor[0]
        instruments = columns.instrument[columns.quantity_lots != 0]

        def requirement(lots: Sequence[int]) -> tuple[int, int]:
            check(len(lots) == len(instruments), "one quantity for each position")
            held = np.array(lots, np.int64)
            return requirement_with_orders(self.table, instruments, held, coins, NO_ORDERS)

        return requirement

    def maintenance_with(self, pool: int, added: dict[int, int]) -> int:
        """Maintenance margin of a pool if it also held `added` (instrument slot -> signed lots)."""
        columns = self.columns_of(pool)
        lots = dict(zip(columns.instrument.tolist(), columns.quantity_lots.tolist(), strict=True))
        for slot, quantity in added.items():
            lots[slot] = lots.get(slot, 0) + quantity
        slots = sorted(lots, key=lambda slot: int(self.state.contracts.rank[slot]))
        return requirement_with_orders(
            self.table,
            np.array(slots, np.int64),
            np.array([lots[slot] for slot in slots], np.int64),
            columns.coin_minor[0],
            NO_ORDERS,
        )[1]

    def touches_stale(self, pool: int) -> bool:
        """Whether a pool has a position on an underlying whose index is not fresh."""
        states = self.state.marks.index_state
        if all(s == IndexState.FRESH for s in states):
            return False
        rows = self.state.positions.rows_of(pool)
        units = self.state.contracts.columns.unit[self.state.positions.instrument[rows]]
        return any(states[unit] != IndexState.FRESH for unit in units.tolist())


def warm_up() -> None:
    """Compile the kernels of this module."""
    none = np.empty(0, np.int64)
    _option_values(none, none, none, none, none, none)
