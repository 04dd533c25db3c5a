"""Standard margin as the model that charges a venue's pools.

`margin.models.standard` and nothing else: its table has no scenario of its own but the one in which
nothing moves, which carries what a stale index adds. Options settled in coin are margined as the
linear ones that they are worth in dollars.
"""

from __future__ import annotations

import numpy as np

from exchange.core import limits
from exchange.core.risk.lot_bounds import LotBounds
from exchange.core.risk.model import Charged, RiskModel
from exchange.core.stored.state import State
from exchange.core.venue import Venue
from margin.invariant import Int64Array, check
from margin.models.standard import (
    EXPIRY,
    EXTRA,
    INITIAL,
    VALUE,
    StandardTable,
    feeds_of,
    loss_multiple,
    pool_margins,
    standard_table,
)
from margin.models.standard_orders import alone_minor, in_dollars, margins_with_orders
from margin.pools.open_orders import OpenOrders
from margin.pools.requirement import Requirements
from margin.pools.risk_table import RiskLayout
from margin.portfolio import Positions
from margin.presets.preset import Preset
from margin.scenarios.grid import risk_exponent


class StandardModel(RiskModel):
    """`preset.standard` at the last marks.

    `Charged.relief_minor` is what an expiry's largest loss at the end saves against margin option
    by option: a fill may end it.
    """

    rules_table: StandardTable

    def __init__(self, venue: Venue, preset: Preset, number: int = 0) -> None:
        check(preset.standard is not None, "standard model: a preset without rules")
        assert preset.standard is not None
        self.rules = preset.standard
        super().__init__(venue, preset, number)
        haircuts = [self.rules.haircut_ppb(unit.name) for unit in venue.underlyings]
        self._unit_haircut_ppb = np.array(haircuts, np.int64)

    def _finest_exponent(self, widest: Preset) -> int:
        return risk_exponent(
            limits.POSITION_NOTIONAL_MINOR_MAX, limits.INSTRUMENTS_PER_UNIT_MAX,
            loss_multiple(self.rules),
        )  # fmt: skip

    def reprice(self, state: State, layout: RiskLayout) -> None:
        """New tables at the marks; call when marks or listings change."""
        super().reprice(state, layout)
        instruments, marks = in_dollars(state.contracts.columns, state.marks.columns())
        self.rules_table = standard_table(
            self.rules, instruments, marks, feeds_of(instruments, marks), self._unit_haircut_ppb,
            self.grid.risk_exponent,
        )  # fmt: skip

    @property
    def is_continuous(self) -> bool:
        """No bound is known of what the rules ask."""
        return False

    def lot_bounds(self) -> LotBounds:
        """A long option adds its value, anything else its own charge; coin stays what it is."""
        base, terms = super().lot_bounds(), self.rules_table.terms
        option = terms[:, EXPIRY] >= 0
        return base._replace(
            worst_buy=np.where(option, terms[:, VALUE], terms[:, INITIAL]),
            worst_sell=terms[:, INITIAL].copy(),
            charge_buy=base.charge_buy + np.where(option, 0, terms[:, EXTRA]),
            charge_sell=base.charge_sell + terms[:, EXTRA],
        )

    def requirements(self, positions: Positions) -> Requirements:
        """By the rules, with what a stale index adds; the worst loss is the initial margin."""
        base, found = super().requirements(positions), pool_margins(self.rules_table, positions)
        return base._replace(
            worst_minor=found.initial_minor,
            initial_minor=base.initial_minor + found.initial_minor,
            maintenance_minor=base.maintenance_minor + found.maintenance_minor,
        )

    def with_orders(self, positions: Positions, orders: OpenOrders) -> tuple[int, int]:
        """The rules over all that may fill; what a fill costs at once is counted there, once."""
        base = super().with_orders(positions, without_cost(orders))
        found = margins_with_orders(
            self.rules_table, self.matrix.coin_value, positions.instrument,
            positions.quantity_lots, positions.coin_minor[0], orders,
        )  # fmt: skip
        return base[0] + found[0], base[1] + found[1]

    def charged(self, positions: Positions, owner: Int64Array) -> Charged:
        """What is needed, and by how much margin option by option is more."""
        found, added = self.needed(positions, owner)
        alone = alone_minor(self.rules_table, positions)
        by_rules = pool_margins(self.rules_table, positions).initial_minor
        return Charged(found, added, np.maximum(0, alone - by_rules))


def without_cost(orders: OpenOrders) -> OpenOrders:
    """The same orders at limits that cost nothing against the mark."""
    none = np.zeros(len(orders.instrument), np.int64)
    return OpenOrders(orders.instrument, orders.side, orders.lots, none, none)
