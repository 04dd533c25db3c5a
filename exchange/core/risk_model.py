"""One of the venue's margin models at the last marks: what the pools it charges are read by."""

from __future__ import annotations

import numpy as np

from exchange.core import limits
from exchange.core.marks import IndexState
from exchange.core.state import State
from exchange.core.venue import Venue, lot_notional_minor
from margin.add_ons import AddOns, AddOnTable, MarketConditions, add_on_table, add_ons
from margin.invariant import Int64Array
from margin.portfolio import Collateral, Positions
from margin.preset import Preset
from margin.requirement import Requirements, RiskTable, pool_requirements, risk_table
from margin.risk_table import RiskLayout
from margin.scenarios import (
    ScenarioMatrix,
    loss_multiple,
    lot_matrix,
    risk_exponent,
    scenario_grid,
    scenarios_of,
)

PPB = 10**9


class RiskModel:
    """A preset, and its scenario matrix, risk table and add-ons at the last marks."""

    matrix: ScenarioMatrix
    table: RiskTable
    add_on_table: AddOnTable | None

    def __init__(self, venue: Venue, preset: Preset) -> None:
        self.venue, self.preset = venue, preset
        units = venue.underlyings
        self.scenarios = [scenarios_of(preset, unit.risk_class) for unit in units]
        multiple = max(loss_multiple(unit, preset) for unit in self.scenarios)
        self.exponent = risk_exponent(
            limits.POSITION_NOTIONAL_MINOR_MAX, limits.INSTRUMENTS_PER_UNIT_MAX, multiple
        )
        self.grid = scenario_grid(
            preset, self.scenarios, np.full(len(units), self.exponent, np.int64)
        )
        self.haircut_ppb = np.array(
            [preset.haircut_ppb(name) for name in venue.currencies()], np.int64
        )
        rates = [preset.collateral_rates_ppb(unit.name) for unit in units]
        self._coin_ppb, self._coin_extra_ppb = np.array(rates, np.int64).T.copy()
        self._units = np.arange(len(units), dtype=np.int64)
        self._moving = np.ones(len(units), np.int64)
        self._sections = AddOns(
            liquidity=preset.liquidity, gamma=preset.gamma, funding=preset.funding
        )
        self._spot_range_e9 = np.array(
            [preset.spot_range_e9(unit.risk_class) for unit in units], np.int64
        )
        volumes = [unit.daily_volume_minor or limits.DAILY_VOLUME_MINOR_MAX for unit in units]
        self._daily_volume_minor = np.array(volumes, np.int64)

    def reprice(self, state: State, layout: RiskLayout) -> None:
        """New matrix and tables at the marks; call when marks or listings change."""
        columns, marks = state.contracts.columns, state.marks
        seen = marks.columns()
        self.matrix = lot_matrix(self.grid, columns, seen, self._collateral(state))
        if any(index != IndexState.FRESH for index in marks.index_state):
            self._widen_stale(state)
        self.table = risk_table(self.preset, columns, self.matrix, layout)
        self.add_on_table = None
        if self._sections != AddOns():
            self.add_on_table = add_on_table(
                self._sections, columns, seen, self._conditions(state), self.scenarios,
                self.grid.risk_exponent,
            )  # fmt: skip

    def _collateral(self, state: State) -> Collateral:
        """The coin of every unit, with what the model charges on it."""
        return Collateral(
            unit=self._units,
            price_e8=state.marks.index_e8,
            moves=self._moving,
            maintenance_ppb=self._coin_ppb,
            initial_extra_ppb=self._coin_extra_ppb,
            confidence_ppb=state.marks.confidence_ppb,
        )

    def _conditions(self, state: State) -> MarketConditions:
        """The market as add-ons see it: the volatilities are those of the venue's marks."""
        rates = np.zeros(len(state.contracts), np.int64)
        for slot, rate_e9 in state.marks.funding_rate_e9.items():
            rates[slot] = rate_e9
        return MarketConditions(
            volatility_e9=state.marks.unit_volatility_e9(),
            daily_volume_minor=self._daily_volume_minor,
            spot_range_e9=self._spot_range_e9,
            interval_ns=self.venue.interval_ns,
            funding_rate_e9=rates,
        )

    def _widen_stale(self, state: State) -> None:
        """A stale index adds a part of notional to the initial margin of its contracts."""
        extra_ppb = self.venue.index.stale_initial_extra_ppb
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

    @property
    def sees_size(self) -> bool:
        """Whether it charges for size, which is judged over all pools of an owner together."""
        return self.add_on_table is not None and self.add_on_table.charges_liquidity

    def needed(self, positions: Positions, owner: Int64Array) -> tuple[Requirements, Int64Array]:
        """Requirements of pools with the add-ons in them, and the add-ons, shape [P].

        `owner[P]`: owner of each pool, numbered from 0; size is judged over one owner's pools.
        """
        found = pool_requirements(self.table, positions)
        if self.add_on_table is None:
            return found, np.zeros(len(found.initial_minor), np.int64)
        added = add_ons(self.add_on_table, positions, owner, found.worst_scenario).total_minor
        return found._replace(
            initial_minor=found.initial_minor + added,
            maintenance_minor=found.maintenance_minor + added,
        ), added
