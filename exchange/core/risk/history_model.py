"""Filtered historical simulation as the model that charges a venue's pools.

The worst loss is the expected shortfall over the dates of `preset.history`, all risk units
together; the preset's own scenario is the one in which nothing moves, which carries contingencies
and what a stale index adds. Dates are scaled to the ranges of the cycle, which the journaled marks
imply (`exchange.core.stored.forecasts`).

A pool's position in an underlying is measured over the days that it takes to close at a part of the
venue's `daily_volume`; where the venue names none, over one. An order may make a position larger
and so lengthen them: the rule takes the longest that any fills may need, and the bound starts from
what the pool would need at the longest there is (`Charged.relief_minor`).
"""

from __future__ import annotations

import msgspec
import numpy as np

from exchange.core import limits
from exchange.core.risk.lot_bounds import LotBounds
from exchange.core.risk.model import Charged, RiskModel
from exchange.core.risk.standard_model import without_cost
from exchange.core.stored.state import State
from exchange.core.venue import Venue
from margin.fixed_point import RATE_SCALE, mul_div_ceil
from margin.invariant import Int64Array
from margin.pools.open_orders import OpenOrders
from margin.pools.requirement import Requirements
from margin.pools.risk_table import RiskLayout
from margin.portfolio import Instruments, Positions
from margin.presets.preset import Preset
from margin.scenarios.grid import risk_exponent
from margin.simulation.dates import (
    dated_moves,
    history_of,
    horizons_with_orders,
    loss_multiple,
    profits_with_orders,
    shortfall,
    simulation_terms,
)
from margin.simulation.historical import LotProfits, SimulatedMoves, lot_profits
from margin.simulation.pools import (
    UNKNOWN_VOLUME_MINOR,
    PoolTails,
    factor_minor,
    gross_notional_minor,
    liquidity_horizons,
    lot_notional_minor,
    pool_tails,
    simulated_requirements,
)


class HistoryModel(RiskModel):
    """`preset.history` at the last marks."""

    profits: LotProfits
    lot_minor: Int64Array

    def __init__(self, venue: Venue, preset: Preset, number: int = 0) -> None:
        self.history = history_of(preset)
        volumes = [unit.daily_volume_minor or UNKNOWN_VOLUME_MINOR for unit in venue.underlyings]
        last = len(self.history.horizon_days) - 1
        self.longest: Int64Array = np.array(
            [last if minor < UNKNOWN_VOLUME_MINOR else 0 for minor in volumes], np.int64
        )
        # what no position can need is not simulated
        used = self.history.horizon_days[: int(self.longest.max(initial=0)) + 1]
        self._terms = msgspec.structs.replace(simulation_terms(self.history), horizons=used)
        self._volumes: Int64Array = np.array(volumes, np.int64)
        self._moves: SimulatedMoves
        self._instruments: Instruments
        super().__init__(venue, preset, number)

    def _dated(self, preset: Preset) -> SimulatedMoves:
        """Moves of the preset's dates at the horizons that positions can need."""
        moves, used = dated_moves(preset, self._classes), len(self._terms.horizons)
        return msgspec.structs.replace(
            moves, spot_move_e9=moves.spot_move_e9[:used],
            volatility_move_e9=moves.volatility_move_e9[:used],
        )  # fmt: skip

    def _finest_exponent(self, widest: Preset) -> int:
        """Profits of all units are added: as many contracts as all of them may list."""
        return risk_exponent(
            limits.POSITION_NOTIONAL_MINOR_MAX,
            limits.INSTRUMENTS_PER_UNIT_MAX * len(self._classes),
            loss_multiple(self._dated(widest)),
        )

    def _build_grid(self) -> None:
        super()._build_grid()
        self._moves = self._dated(self.preset)

    def reprice(self, state: State, layout: RiskLayout) -> None:
        """Every lot on every date at the marks; call when marks or listings change."""
        super().reprice(state, layout)
        self._instruments, marks = state.contracts.columns, state.marks.columns()
        self.profits = lot_profits(
            self._moves, self._instruments, marks, self.exponent, self._terms
        )
        self.lot_minor = lot_notional_minor(self._instruments, marks)

    def horizons(self, positions: Positions) -> Int64Array:
        """The horizon of every pool and unit, an index into `history.horizon_days`, shape [P,U]."""
        notional = gross_notional_minor(self._instruments, self.lot_minor, positions)
        return liquidity_horizons(notional, self._volumes, self._terms)

    def horizons_with(self, positions: Positions, orders: OpenOrders) -> Int64Array:
        """The longest horizon of each unit that one pool needs after any subset of fills, [U]."""
        return horizons_with_orders(
            self.lot_minor, self._instruments.unit, positions, orders, self._volumes, self._terms
        )

    @property
    def is_continuous(self) -> bool:
        """No bound is known of what the dates ask."""
        return False

    def lot_bounds(self) -> LotBounds:
        """The worst date of a lot at any horizon: no shortfall grows by more than that."""
        base = super().lot_bounds()
        worst, best = self.profits.lot.min(axis=(0, 2)), self.profits.lot.max(axis=(0, 2))
        coin = self.matrix.coin_value[None, :, None] + self.profits.coin
        return base._replace(
            worst_buy=np.maximum(0, -worst),
            worst_sell=np.maximum(0, best),
            coin_high=coin.max(axis=(0, 2)),
            coin_low=np.maximum(0, coin.min(axis=(0, 2))),
        )

    def requirements(self, positions: Positions) -> Requirements:
        """Contingencies, and the factors' parts of the expected shortfall."""
        base, tails = super().requirements(positions), self._tails(positions)
        maintenance_ppb, initial_ppb = self.table.factors_ppb.tolist()
        found = simulated_requirements(tails, positions, (maintenance_ppb, initial_ppb))
        return base._replace(
            worst_minor=found.worst_minor,
            initial_minor=base.initial_minor + found.initial_minor,
            maintenance_minor=base.maintenance_minor + found.maintenance_minor,
        )

    def _tails(self, positions: Positions, horizon: Int64Array | None = None) -> PoolTails:
        """Shortfalls at these horizons, or at those that the pools need."""
        return pool_tails(
            self.profits, self._moves.weight, self.history.level_ppb, self._instruments, positions,
            self.horizons(positions) if horizon is None else horizon,
        )  # fmt: skip

    def charged(self, positions: Positions, owner: Int64Array) -> Charged:
        """What is needed, and how much less that is than at the longest horizons."""
        found = super().charged(positions, owner)
        if len(self._terms.horizons) == 1:
            return found
        longest = np.broadcast_to(self.longest, positions.coin_minor.shape).copy()
        most = self._tails(positions, longest).expected_shortfall_minor
        factor_ppb = self.initial_factor_ppb
        less = factor_minor(found.requirements.worst_minor, factor_ppb)
        more = factor_minor(most, factor_ppb)
        return found._replace(relief_minor=found.relief_minor + more - less)

    def with_orders(self, positions: Positions, orders: OpenOrders) -> tuple[int, int]:
        """Contingencies of all that may fill, and the shortfall with every order that loses."""
        base = super().with_orders(positions, without_cost(orders))
        profit = profits_with_orders(
            self.profits, self.matrix.coin_value, self._instruments.unit, positions.instrument,
            positions.quantity_lots, positions.coin_minor[0], orders,
            self.horizons_with(positions, orders),
        )  # fmt: skip
        worst = -(-shortfall(profit, self._moves.weight, self.history.level_ppb) >> self.exponent)
        maintenance_ppb, initial_ppb = self.table.factors_ppb.tolist()
        return (
            base[0] + mul_div_ceil(worst, initial_ppb, RATE_SCALE),
            base[1] + mul_div_ceil(worst, maintenance_ppb, RATE_SCALE),
        )
