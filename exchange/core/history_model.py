"""Filtered historical simulation as the model that charges a venue's pools.

The worst loss is the expected shortfall over the dates of `preset.history`, all risk units
together; the preset's own scenario is the one in which nothing moves, which carries contingencies
and what a stale index adds. Dates are scaled to the ranges of the cycle, which the journaled marks
imply (`exchange.core.forecasts`).
"""

from __future__ import annotations

import numpy as np

from exchange.core import limits
from exchange.core.lot_bounds import LotBounds
from exchange.core.risk_model import RiskModel
from exchange.core.standard_model import without_cost
from exchange.core.state import State
from exchange.core.venue import Venue
from margin.fixed_point import mul_div_ceil
from margin.historical_simulation import LotProfits, SimulatedMoves, lot_profits
from margin.history import (
    dated_moves,
    history_of,
    loss_multiple,
    profits_with_orders,
    shortfall,
    simulation_terms,
)
from margin.open_orders import OpenOrders
from margin.portfolio import Instruments, Positions
from margin.preset import ONE_E9, Preset
from margin.requirement import Requirements
from margin.risk_table import RiskLayout
from margin.scenarios import risk_exponent
from margin.simulated_pools import pool_tails, simulated_requirements


class HistoryModel(RiskModel):
    """`preset.history` at the last marks."""

    profits: LotProfits

    def __init__(self, venue: Venue, preset: Preset, number: int = 0) -> None:
        self.history = history_of(preset)
        self._terms = simulation_terms(self.history)
        self._moves: SimulatedMoves
        self._instruments: Instruments
        super().__init__(venue, preset, number)

    def _finest_exponent(self, widest: Preset) -> int:
        """Profits of all units are added: as many contracts as all of them may list."""
        return risk_exponent(
            limits.POSITION_NOTIONAL_MINOR_MAX,
            limits.INSTRUMENTS_PER_UNIT_MAX * len(self._classes),
            loss_multiple(dated_moves(widest, self._classes)),
        )

    def _build_grid(self) -> None:
        super()._build_grid()
        self._moves = dated_moves(self.preset, self._classes)

    def reprice(self, state: State, layout: RiskLayout) -> None:
        """Every lot on every date at the marks; call when marks or listings change."""
        super().reprice(state, layout)
        self._instruments = state.contracts.columns
        self.profits = lot_profits(
            self._moves, self._instruments, state.marks.columns(), self.exponent, self._terms
        )

    def lot_bounds(self) -> LotBounds:
        """The worst date of a lot: no shortfall grows by more than what is lost at most."""
        base, lot = super().lot_bounds(), self.profits.lot[0]
        coin = self.matrix.coin_value[:, None] + self.profits.coin[0]
        return base._replace(
            worst_buy=np.maximum(0, -lot.min(axis=1)),
            worst_sell=np.maximum(0, lot.max(axis=1)),
            coin_high=coin.max(axis=1),
            coin_low=np.maximum(0, coin.min(axis=1)),
        )

    def requirements(self, positions: Positions) -> Requirements:
        """Contingencies, and the factors' parts of the expected shortfall."""
        base = super().requirements(positions)
        tails = pool_tails(
            self.profits, self._moves.weight, self.history.level_ppb, self._instruments, positions
        )
        maintenance_ppb, initial_ppb = self.table.factors_ppb.tolist()
        found = simulated_requirements(tails, positions, (maintenance_ppb, initial_ppb))
        return base._replace(
            worst_minor=found.worst_minor,
            initial_minor=base.initial_minor + found.initial_minor,
            maintenance_minor=base.maintenance_minor + found.maintenance_minor,
        )

    def with_orders(self, positions: Positions, orders: OpenOrders) -> tuple[int, int]:
        """Contingencies of all that may fill, and the shortfall with every order that loses."""
        base = super().with_orders(positions, without_cost(orders))
        profit = profits_with_orders(
            self.profits, self.matrix.coin_value, self._instruments.unit, positions.instrument,
            positions.quantity_lots, positions.coin_minor[0], orders,
        )  # fmt: skip
        worst = -(-shortfall(profit, self.history) >> self.exponent)
        maintenance_ppb, initial_ppb = self.table.factors_ppb.tolist()
        return (
            base[0] + mul_div_ceil(worst, initial_ppb, ONE_E9),
            base[1] + mul_div_ceil(worst, maintenance_ppb, ONE_E9),
        )
