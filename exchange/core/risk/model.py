"""One of the venue's margin models at the last marks: what the pools it charges are read by.

`RiskModel` charges the worst of a preset's scenarios. What a venue asks of a model is its public
part, and other models are subclasses that replace some of it: `requirements`, `with_orders` and
`lot_bounds`, which belong together (`exchange.core.risk.models`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core import limits
from exchange.core.risk.lot_bounds import LotBounds, bounds_of_matrix
from exchange.core.stored.marks import IndexState
from exchange.core.stored.state import State
from exchange.core.venue import Venue, lot_notional_minor
from margin.add_ons.charges import AddOns, AddOnTable, MarketConditions, add_on_table, add_ons
from margin.fixed_point import RATE_SCALE
from margin.forecasts.cross_unit import relief_minor
from margin.forecasts.predictive import growth_minor
from margin.forecasts.ranges import preset_at, range_terms
from margin.invariant import Int64Array, check
from margin.pools.collateral import haircuts_of
from margin.pools.requirement import (
    OpenOrders,
    Requirements,
    RiskTable,
    pool_requirements,
    requirement_with_orders,
    risk_table,
)
from margin.pools.risk_table import RiskLayout
from margin.portfolio import Collateral, Marks, Positions
from margin.presets.preset import Preset
from margin.scenarios.grid import (
    ScenarioMatrix,
    loss_multiple,
    lot_matrix,
    risk_exponent,
    scenario_grid,
    scenarios_of,
)


class Charged(NamedTuple):
    """What pools need: `requirements` with add-ons in and offsets off, and both on their own, [P].

    `add_on_minor`: in the initial margin, the floor of a forecast with it. `relief_minor`: by how
    much something that a fill may end, as the offset between coins, lowers the initial margin.
    """

    requirements: Requirements
    add_on_minor: Int64Array
    relief_minor: Int64Array


class RiskModel:
    """A preset, and its scenario matrix, risk table and add-ons at the last marks.

    `preset` is the one in force: where the venue's file lets ranges move, with those of the cycle.
    """

    matrix: ScenarioMatrix
    table: RiskTable
    add_on_table: AddOnTable | None

    def __init__(self, venue: Venue, preset: Preset, number: int = 0) -> None:
        self.number = number  # in `Venue.presets`
        self.venue, self.preset, self._given = venue, preset, preset
        units = venue.underlyings
        self._classes = [unit.risk_class for unit in units]
        self.exponent = self._finest_exponent(widest_preset(preset, self._classes))
        self._ranges: tuple[int, ...] = ()
        self.growth_ppb = self.mean_growth_ppb = (
            RATE_SCALE  # of ranges on the path that is forecast
        )
        self._correlations_ppb: Int64Array = np.zeros((0, 0), np.int64)
        self._build_grid()
        self.haircuts = haircuts_of(preset, venue.currencies())
        self.haircut_ppb = self.haircuts.base_ppb
        rates = [preset.collateral_rates_ppb(unit.name) for unit in units]
        self._coin_ppb, self._coin_extra_ppb = np.array(rates, np.int64).T.copy()
        self._units = np.arange(len(units), dtype=np.int64)
        self._moving = np.ones(len(units), np.int64)
        self._sections = AddOns(
            liquidity=preset.liquidity, gamma=preset.gamma, funding=preset.funding
        )
        volumes = [unit.daily_volume_minor or limits.DAILY_VOLUME_MINOR_MAX for unit in units]
        self._daily_volume_minor = np.array(volumes, np.int64)

    def _finest_exponent(self, widest: Preset) -> int:
        """The risk exponent at which nothing that a pool may hold overflows."""
        multiple = max(loss_multiple(scenarios_of(widest, name), widest) for name in self._classes)
        return risk_exponent(
            limits.POSITION_NOTIONAL_MINOR_MAX, limits.INSTRUMENTS_PER_UNIT_MAX, multiple
        )

    def _build_grid(self) -> None:
        """Scenarios of the preset in force: once, and again whenever its ranges have moved."""
        preset, units = self.preset, len(self._classes)
        self._room: tuple[RiskLayout, ScenarioMatrix, RiskTable] | None = None
        self.scenarios = [scenarios_of(preset, name) for name in self._classes]
        self.grid = scenario_grid(preset, self.scenarios, np.full(units, self.exponent, np.int64))
        self._spot_range_e9 = np.array(
            [preset.spot_range_e9(name) for name in self._classes], np.int64
        )
        moves = np.array([unit.spot_move_e9 for unit in self.scenarios], np.int64)
        self._direction: Int64Array = np.sign(moves)

    def _follow(self, state: State) -> None:
        """Take the ranges and correlations of the cycle over, if the venue is charged by this."""
        memory = state.forecasts.memories[self.number]
        if memory.preset is not self._given:  # asked about only: its own ranges hold
            return
        ranges = memory.ranges_now()
        if ranges != self._ranges:
            self._ranges = ranges
            self.preset = preset_at(self._given, self._classes, ranges[:-1], ranges[-1])
            self._build_grid()
        if memory.correlation is not None:
            self._correlations_ppb = memory.correlations_ppb()
        if self._given.predictive is not None:
            cycles, interval = self._given.predictive.cycles, self.venue.interval_ns
            self.growth_ppb, self.mean_growth_ppb = memory.growth_ppb(
                state.marks.time_ns, interval, cycles
            )

    def reprice(self, state: State, layout: RiskLayout) -> None:
        """New matrix and tables at the marks; call when marks or listings change."""
        self._follow(state)
        columns, marks = state.contracts.columns, state.marks
        seen = marks.columns()
        old_matrix, old_table = self._overwritten(layout)
        coins = self._collateral(state, seen.index_e8)
        self.matrix = lot_matrix(self.grid, columns, seen, coins, old_matrix)
        if any(index != IndexState.FRESH for index in marks.index_state):
            self._widen_stale(state)
        self.table = risk_table(self.preset, columns, self.matrix, layout, old_table)
        self._room = layout, self.matrix, self.table
        self.add_on_table = None
        if self._sections != AddOns():
            self.add_on_table = add_on_table(
                self._sections, columns, seen, self._conditions(state), self.scenarios,
                self.grid.risk_exponent,
            )  # fmt: skip

    def _overwritten(self, layout: RiskLayout) -> tuple[ScenarioMatrix | None, RiskTable | None]:
        """The last matrix and table, if they have room for the same listing."""
        if self._room is None or self._room[0] is not layout:
            return None, None
        return self._room[1:]

    def requirements_at(
        self, state: State, layout: RiskLayout, marks: Marks, positions: Positions
    ) -> Requirements:
        """Requirements of pools were the marks these, without add-ons; offsets are off."""
        columns = state.contracts.columns
        matrix = lot_matrix(self.grid, columns, marks, self._collateral(state, marks.index_e8))
        return pool_requirements(risk_table(self.preset, columns, matrix, layout), positions)

    def _collateral(self, state: State, index_e8: Int64Array) -> Collateral:
        """The coin of every unit at these indices, with what the model charges on it."""
        return Collateral(
            unit=self._units,
            price_e8=index_e8,
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
            extra = -(-(notional * extra_ppb << self.exponent) // RATE_SCALE)
            if state.contracts.is_option_slot(slot):
                self.matrix.naked_im_extra[slot] += extra
            else:
                self.matrix.delta_one_im_extra[slot] += extra

    @property
    def correlations_ppb(self) -> Int64Array | None:
        """Correlations between the underlyings now, [U,U]; None where the model offsets nothing."""
        return None if self.preset.cross_unit is None else self._correlations_ppb

    @property
    def charged_growth_ppb(self) -> int:
        """Growth of the ranges that initial margin holds already: 10^9 where none is charged."""
        predictive = self._given.predictive
        return self.growth_ppb if predictive is not None and predictive.floor else RATE_SCALE

    @property
    def is_continuous(self) -> bool:
        """Whether requirements move no faster than the rows of the table: what a screen needs.

        They do not where the direction of a worst loss counts, as in an offset between coins, nor
        can they where a forecast of all pools reads worst losses in every cycle.
        """
        return self.preset.cross_unit is None and self._given.predictive is None

    @property
    def sees_size(self) -> bool:
        """Whether size counts, of positions or of collateral: judged over all pools of an owner."""
        charges = self.add_on_table is not None and self.add_on_table.charges_liquidity
        return charges or self.haircuts.grow

    @property
    def initial_factor_ppb(self) -> int:
        """Part of the worst loss that is initial margin."""
        return int(self.table.factors_ppb[1])

    def lot_bounds(self) -> LotBounds:
        """What one lot of every contract can add to a requirement at most."""
        return bounds_of_matrix(self.matrix)

    def requirements(self, positions: Positions) -> Requirements:
        """Requirements of pools from their positions and coin cash, without add-ons."""
        return pool_requirements(self.table, positions)

    def with_orders(self, positions: Positions, orders: OpenOrders) -> tuple[int, int]:
        """(initial, maintenance) of one pool, without add-ons, if any of its orders may fill.

        At least `requirements` after any subset of fills and what these lose at once; at most
        `requirements` with what `Charged.relief_minor` took off, and `lot_bounds` of every order.
        """
        return requirement_with_orders(
            self.table, positions.instrument, positions.quantity_lots, positions.coin_minor[0],
            orders,
        )  # fmt: skip

    def needed(self, positions: Positions, owner: Int64Array) -> tuple[Requirements, Int64Array]:
        """Requirements of pools with the add-ons in them, and the add-ons, shape [P].

        As the gate counts them: without offsets between coins and without the floor of a forecast.
        `owner[P]`: owner of each pool, numbered from 0; size is judged over one owner's pools.
        """
        found = self.requirements(positions)
        if self.add_on_table is None:
            return found, np.zeros(len(found.initial_minor), np.int64)
        added = add_ons(self.add_on_table, positions, owner, found.worst_scenario).total_minor
        return found._replace(
            initial_minor=found.initial_minor + added,
            maintenance_minor=found.maintenance_minor + added,
        ), added

    def charged(self, positions: Positions, owner: Int64Array) -> Charged:
        """`needed` less offsets between coins, and at least what a forecast asks as a floor."""
        found, added = self.needed(positions, owner)
        relief = np.zeros(len(found.initial_minor), np.int64)
        if self.preset.cross_unit is not None:
            found, relief = self._relieved(found)
        if self._given.predictive is not None and self._given.predictive.floor:
            more = growth_minor(found.worst_minor, self.table.factors_ppb[1], self.growth_ppb)
            found, added = found._replace(initial_minor=found.initial_minor + more), added + more
        return Charged(found, added, relief)

    def _relieved(self, found: Requirements) -> tuple[Requirements, Int64Array]:
        """Requirements less the offset between the worst losses of the risk units."""
        section = self.preset.cross_unit
        check(section is not None, "risk model: no offsets without their section")
        assert section is not None
        relief = relief_minor(
            section, self._correlations_ppb, found, self.grid.risk_exponent, self._direction,
            self.table.factors_ppb,
        )  # fmt: skip
        return found._replace(
            worst_minor=found.worst_minor - relief.offset_minor,
            maintenance_minor=found.maintenance_minor - relief.maintenance_minor,
            initial_minor=found.initial_minor - relief.initial_minor,
        ), relief.initial_minor


def widest_preset(preset: Preset, classes: list[str]) -> Preset:
    """The preset at the widest ranges it can move to: they bound every loss."""
    if preset.dynamic is None:
        return preset
    return preset_at(preset, classes, range_terms(preset, classes).most_e9.tolist())
