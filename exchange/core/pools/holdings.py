"""What every pool has, as margin reads it: positions, coin cash, and what both are worth now.

Nothing here is stored: cash is the ledger's with the gains that a cycle still holds back, positions
are the state's, and values are at the last marks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import njit

from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.stored.marks import IndexState
from exchange.core.stored.positions import KEY, LOTS, RANK_MASK
from exchange.core.stored.state import State
from margin.fixed_point import PRICE_SCALE, mul_div_floor
from margin.invariant import Int64Array
from margin.portfolio import Positions as PositionColumns


@njit(cache=True)
def _option_values(
    pool: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    is_option: Int64Array,
    currency: Int64Array,
    value_e6: Int64Array,
    out: Int64Array,
) -> None:
    """Add the value of options at the mark to `out[pool, currency]`, each position's rounded."""
    for row in range(len(pool)):
        slot = instrument[row]
        if is_option[slot] == 1:
            value = mul_div_floor(value_e6[slot], lots[row], 1_000_000)
            out[pool[row], currency[slot]] += value


class Holdings:
    """Positions, coin cash and option values of all pools of a state.

    `value_e6[I]`: one lot of each contract at its mark, in 10^-6 minor units of what it settles
    in; `index_e8[C]`: USD per unit of each currency. `pending[P,C]`: gains that a cycle has not
    released yet, which count as cash. Sizes: P pools, I contracts, C currencies, U risk units.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        units = enumerate(state.venue.underlyings)
        self._coin_units = np.array([at for at, unit in units if unit.is_collateral], np.int64)
        self.value_e6: Int64Array
        self.index_e8: Int64Array
        self.pending: Int64Array = np.zeros((0, 0), np.int64)

    def mark(self) -> None:
        """Value lots and currencies at the marks; call when marks or listings change."""
        contracts, marks = self.state.contracts, self.state.marks
        self.value_e6 = contracts.lot_values_e6(marks.mark_e8)
        self.index_e8 = np.empty(1 + len(self._coin_units), np.int64)
        self.index_e8[0] = PRICE_SCALE
        self.index_e8[1:] = marks.index_e8[self._coin_units]

    def value_minor(self, slot: int, lots: int) -> int:
        """Signed lots of a contract at the mark, minor units of what it settles in, floored."""
        return int(mul_div_floor(int(self.value_e6[slot]), lots, 1_000_000))

    def cash(self) -> Int64Array:
        """Cash of every pool, unreleased gains included, [P,C]."""
        cash = self.state.ledger.cash
        if not np.count_nonzero(self.pending):
            return cash
        total = cash.copy()
        total[: len(self.pending)] += self.pending
        return total

    def cash_of(self, pool: int) -> Int64Array:
        """The same of one pool, [C]."""
        cash: Int64Array = self.state.ledger.cash[pool]
        if pool < len(self.pending):
            cash = cash + self.pending[pool]
        return cash

    def coins(self) -> Int64Array:
        """Net cash in the coin of each risk unit, [P,U]; the house's mirror pools carry no risk."""
        venue, ledger = self.state.venue, self.state.ledger
        coins = np.zeros((len(ledger.cash), len(venue.underlyings)), np.int64)
        if ledger.currencies == 1:
            return coins
        cash = self.cash()
        for unit in range(len(venue.underlyings)):
            currency = venue.coin_of(unit)
            if currency > 0:
                coins[:, unit] = cash[:, currency]
        coins[: House.INSURANCE] = 0
        coins[House.INSURANCE + 1 : HOUSE_POOLS] = 0
        return coins

    def _coins_of(self, pool: int) -> Int64Array:
        venue = self.state.venue
        coins = np.zeros((1, len(venue.underlyings)), np.int64)
        if pool >= HOUSE_POOLS or pool == House.INSURANCE:
            for unit in range(len(venue.underlyings)):
                currency = venue.coin_of(unit)
                if currency > 0:
                    coins[0, unit] = self.cash_of(pool)[currency]
        return coins

    def columns(self, coins: Int64Array) -> PositionColumns:
        """Every pool's positions as margin reads them, with coin cash [P,U]."""
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

    def coins_after(self, coins: Int64Array, added: Iterable[tuple[int, int]]) -> Int64Array:
        """Coin cash per risk unit once `added` (slot, signed lots) was bought at the mark.

        Only inverse options cost coin; the same array comes back where there is none.
        """
        contracts, paid = self.state.contracts, coins
        for slot, quantity in added:
            if quantity and contracts.is_inverse_option(slot):
                paid = coins.copy() if paid is coins else paid
                paid[contracts.specs[slot].underlying] -= self.value_minor(slot, quantity)
        return paid

    def option_values(self) -> Int64Array:
        """Each pool's options at the mark, minor units of what they settle in, [P,C]."""
        positions, contracts = self.state.positions, self.state.contracts
        values = np.zeros((self.state.accounts.pools, self.state.ledger.currencies), np.int64)
        if contracts.has_options:
            self._add_option_values(positions.pool, positions.instrument, positions.lots, values)
        return values

    def option_values_of(self, pool: int) -> Int64Array:
        """The same of one pool, [C]."""
        held = self.columns_of(pool)
        values = np.zeros((1, self.state.ledger.currencies), np.int64)
        here = np.zeros(len(held.instrument), np.int64)
        self._add_option_values(here, held.instrument, held.quantity_lots, values)
        found: Int64Array = values[0]
        return found

    def _add_option_values(
        self, pool: Int64Array, instrument: Int64Array, lots: Int64Array, values: Int64Array
    ) -> None:
        contracts = self.state.contracts
        _option_values(
            pool, instrument, lots, contracts.is_option, contracts.currency_column, self.value_e6,
            values,
        )  # fmt: skip

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
    none, grid = np.empty(0, np.int64), np.zeros((1, 1), np.int64)
    _option_values(none, none, none, none, none, none, grid)
