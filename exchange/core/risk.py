"""Equity and requirements of every pool at the last marks: derived from the state, never stored.

Rebuilt whole after each revaluation and after a restore, and pool by pool when cash or positions
move in between, so that it always equals what the state implies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numba import njit

from exchange.core.backing import Backing
from exchange.core.contracts import value_per_lot_e6
from exchange.core.ledger import HOUSE_POOLS, House
from exchange.core.margin_models import risk_model
from exchange.core.marks import IndexState
from exchange.core.positions import KEY, LOTS, RANK_MASK
from exchange.core.risk_model import Charged, RiskModel
from exchange.core.state import State
from margin.changed_pools import gather_pools
from margin.collateral import AnyHaircuts, pool_equity
from margin.fixed_point import PRICE_SCALE, mul_div_floor
from margin.invariant import Int64Array, check
from margin.portfolio import Positions as PositionColumns
from margin.risk_table import RiskLayout, risk_layout

_ONE_OWNER: Int64Array = np.zeros(1, np.int64)


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


class Risk:
    """Requirements and equity of all pools, each under the margin model of its account's class.

    `initial` and `maintenance` hold the add-ons too, which `add_on_minor` says again: they are
    charged on positions; an open order reserves none. `relief_minor` is what something that a fill
    may end takes off `initial`, as the offset between coins: no bound on an order counts on it.
    `equity` is what is here. What pools are credited for what is elsewhere stands in `backing`;
    their `initial` and `maintenance` hold what is elsewhere, too.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        venue = state.venue
        self.models = [
            risk_model(venue, preset, number) for number, preset in enumerate(venue.presets())
        ]
        units = enumerate(venue.underlyings)
        self._coin_units = np.array([at for at, unit in units if unit.is_collateral], np.int64)
        self.layout: RiskLayout
        self._listed = -1
        self.no_haircut = np.zeros_like(self.models[0].haircut_ppb)
        self.value_e6: Int64Array
        self.index_e8: Int64Array  # USD price x 10^8 of each currency
        self.pending: Int64Array = np.zeros((0, 0), np.int64)
        none = np.zeros(0, np.int64)
        self.equity, self.initial, self.maintenance = none, none, none
        self.add_on_minor = none
        self.relief_minor = none
        self.backing = Backing(self)

    def model(self, pool: int) -> RiskModel:
        """The margin model that charges a pool."""
        return self.models[self.state.accounts.model_of[pool]]

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
        for model in self.models:
            model.reprice(state, self.layout)
        self.index_e8 = np.empty(1 + len(self._coin_units), np.int64)
        self.index_e8[0] = PRICE_SCALE
        self.index_e8[1:] = marks.index_e8[self._coin_units]
        self.backing.outside.marks_changed()

    def cash(self) -> Int64Array:
        """Cash and unreleased gains per pool and currency."""
        cash = self.state.ledger.cash
        if not np.count_nonzero(self.pending):
            return cash
        total = cash.copy()
        total[: len(self.pending)] += self.pending
        return total

    def coin_columns(self) -> Int64Array:
        """Net cash in the coin of each risk unit, unreleased gains included, [P,U]."""
        return self._coin_columns(self.cash())

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

    def all_columns(self, coins: Int64Array) -> PositionColumns:
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
        """Value at mark of each pool's options, in minor units of the currency they settle in."""
        positions, contracts = self.state.positions, self.state.contracts
        values = np.zeros((self.state.accounts.pools, self.state.ledger.currencies), np.int64)
        if not contracts.has_options:
            return values
        _option_values(
            positions.pool,
            positions.instrument,
            positions.lots,
            contracts.is_option,
            contracts.currency_column,
            self.value_e6,
            values,
        )
        return values

    def revalue(self, pending: Int64Array | None = None) -> None:
        """Equity and requirements of all pools; `pending` gains count until they are released."""
        if pending is not None:
            self.pending = pending
        cash = self.cash()
        columns, owner = self.all_columns(self._coin_columns(cash)), self._owners()
        options = self.option_values()
        needed, self.add_on_minor, self.relief_minor = self.models[0].charged(columns, owner)
        self.initial, self.maintenance = needed.initial_minor, needed.maintenance_minor
        self.worst_minor, self.unit_loss = needed.worst_minor, needed.unit_loss
        self.worst_scenario = needed.worst_scenario
        self.equity = pool_equity(cash, options, self.index_e8, self.models[0].haircuts, owner)
        for number in range(1, len(self.models)):
            self._revalue_class(number, columns, owner, cash, options)
        if self.state.attestations:
            self.backing.count_all()

    def _owners(self) -> Int64Array:
        """The owner of each pool, numbered from 0; a pool of the house is its own."""
        return self.state.accounts.owner_column()

    def _revalue_class(
        self, number: int, columns: PositionColumns, owner: Int64Array, cash: Int64Array,
        options: Int64Array,
    ) -> None:  # fmt: skip
        """Overwrite what the first model gave the pools that another one charges."""
        model = self.models[number]
        pools = self.state.accounts.pools_of_model(number)
        if not len(pools):
            return
        needed, added, relief = model.charged(gather_pools(columns, pools), owner[pools])
        self.initial[pools], self.maintenance[pools] = (
            needed.initial_minor,
            needed.maintenance_minor,
        )
        self.worst_minor[pools], self.unit_loss[pools] = needed.worst_minor, needed.unit_loss
        self.worst_scenario[pools], self.add_on_minor[pools] = needed.worst_scenario, added
        self.relief_minor[pools] = relief
        self.equity[pools] = pool_equity(
            cash[pools], options[pools], self.index_e8, model.haircuts, owner[pools]
        )

    def revalue_pool(self, pool: int) -> None:
        """The same for one pool, after its cash or positions moved.

        Where size counts, its owner's other pools move with it: size of positions moves their
        requirements, size of collateral their equity.
        """
        pools = self.judged_with(pool)
        charge = self._charged_together(pools, [self.columns_of(each) for each in pools])
        needed, added, relief = charge
        for at, each in enumerate(pools):
            self.initial[each] = needed.initial_minor[at]
            self.maintenance[each] = needed.maintenance_minor[at]
            self.add_on_minor[each], self.relief_minor[each] = added[at], relief[at]
        self._renew_equity(pool)
        if self.state.attestations:
            self.backing.count(pools)

    def judged_with(self, pool: int) -> list[int]:
        """The pools whose requirements depend on this one's positions: itself, or its family."""
        if self.model(pool).sees_size:
            return self.state.accounts.family(pool)
        return [pool]

    def _charged_together(self, pools: list[int], columns: list[PositionColumns]) -> Charged:
        """What one owner's pools are charged, which hold `columns`."""
        if len(pools) == 1:
            return self.model(pools[0]).charged(columns[0], _ONE_OWNER)
        rows = [0, *(len(held.instrument) for held in columns)]
        together = PositionColumns(
            pool_start=np.cumsum(np.array(rows, np.int64)),
            instrument=np.concatenate([held.instrument for held in columns]),
            quantity_lots=np.concatenate([held.quantity_lots for held in columns]),
            coin_minor=np.concatenate([held.coin_minor for held in columns]),
        )
        return self.model(pools[0]).charged(together, np.zeros(len(pools), np.int64))

    def equity_of(self, pool: int, haircut: bool = True) -> int:
        """Equity of one pool in minor USDC, with or without collateral haircuts."""
        haircuts = self.model(pool).haircuts
        if not haircut:
            return int(self._equities([pool], self.no_haircut)[0])
        if not haircuts.grow:
            return int(self._equities([pool], haircuts)[0])
        family = self.state.accounts.family(pool)
        return int(self._equities(family, haircuts)[family.index(pool)])

    def _renew_equity(self, pool: int) -> None:
        """Equity of a pool, and of its owner's others where haircuts grow with what all have."""
        haircuts = self.model(pool).haircuts
        pools = self.state.accounts.family(pool) if haircuts.grow else [pool]
        for each, minor in zip(pools, self._equities(pools, haircuts).tolist(), strict=True):
            self.equity[each] = minor

    def _equities(self, pools: list[int], haircuts: AnyHaircuts) -> Int64Array:
        """Equity of some pools of one owner."""
        if len(pools) == 1:
            cash, values = (
                self._cash_of(pools[0])[None, :],
                self.option_values_of(pools[0])[None, :],
            )
            return pool_equity(cash, values, self.index_e8, haircuts)
        cash = np.array([self._cash_of(pool) for pool in pools], np.int64)
        values = np.array([self.option_values_of(pool) for pool in pools], np.int64)
        one_owner = np.zeros(len(pools), np.int64)
        return pool_equity(cash, values, self.index_e8, haircuts, one_owner)

    def option_values_of(self, pool: int) -> Int64Array:
        """Value at mark of one pool's options, in minor units of each currency, [C]."""
        columns = self.columns_of(pool)
        options = np.zeros((1, self.state.ledger.currencies), np.int64)
        here = np.zeros(len(columns.instrument), np.int64)
        _option_values(
            here,
            columns.instrument,
            columns.quantity_lots,
            self.state.contracts.is_option,
            self.state.contracts.currency_column,
            self.value_e6,
            options,
        )
        values: Int64Array = options[0]
        return values

    def add_pools(self, count: int) -> None:
        """Room for pools opened since the last revaluation; they hold nothing."""
        room = np.zeros(count, np.int64)
        self.equity = np.concatenate((self.equity, room))
        self.initial = np.concatenate((self.initial, room))
        self.maintenance = np.concatenate((self.maintenance, room))
        self.add_on_minor = np.concatenate((self.add_on_minor, room))
        self.relief_minor = np.concatenate((self.relief_minor, room))

    def _with_lots(
        self, pool: int, instrument: Int64Array, lots: Sequence[int], coins: Int64Array
    ) -> tuple[int, int]:
        held = PositionColumns(
            pool_start=np.array([0, len(lots)], np.int64),
            instrument=instrument,
            quantity_lots=np.array(lots, np.int64),
            coin_minor=coins.reshape(1, -1),
        )
        pools = self.judged_with(pool)
        columns = [held if each == pool else self.columns_of(each) for each in pools]
        needed, _, relief = self._charged_together(pools, columns)
        at = pools.index(pool)
        own = int(needed.initial_minor[at]), int(needed.maintenance_minor[at])
        return self.backing.requirement(pool, held, own, int(relief[at]))

    def requirement_of(self, pool: int, lots: Sequence[int]) -> tuple[int, int]:
        """Initial and maintenance margin of a pool if its positions were `lots` (row order)."""
        columns = self.columns_of(pool)
        return self._with_lots(pool, columns.instrument, lots, columns.coin_minor)

    def requirements(self, pool: int) -> Callable[[Sequence[int]], tuple[int, int]]:
        """(initial, maintenance) of a pool as a function of its positions' lots (those not 0).

        Whoever parts with an inverse option gets its value at the mark in coin, which counts.
        """
        columns = self.columns_of(pool)
        coins = columns.coin_minor[0]
        open_rows = columns.quantity_lots != 0
        instruments, before = columns.instrument[open_rows], columns.quantity_lots[open_rows]
        in_coin = [
            (at, slot, int(before[at]))
            for at, slot in enumerate(instruments.tolist())
            if self.state.contracts.is_inverse_option(slot)
        ]

        def requirement(lots: Sequence[int]) -> tuple[int, int]:
            check(len(lots) == len(instruments), "one quantity for each position")
            sold = [(slot, lots[at] - had) for at, slot, had in in_coin]
            return self._with_lots(pool, instruments, lots, self._coins_after(coins, sold))

        return requirement

    def _coins_after(self, coins: Int64Array, added: Iterable[tuple[int, int]]) -> Int64Array:
        """Coin cash per risk unit once `added` (slot, signed lots) was bought at the mark.

        Only inverse options cost coin; the same array comes back where there is none.
        """
        contracts, paid = self.state.contracts, coins
        for slot, quantity in added:
            if quantity and contracts.is_inverse_option(slot):
                paid = coins.copy() if paid is coins else paid
                value = int(mul_div_floor(int(self.value_e6[slot]), quantity, 1_000_000))
                paid[contracts.specs[slot].underlying] -= value
        return paid

    def maintenance_with(self, pool: int, added: dict[int, int]) -> int:
        """Maintenance margin of a pool that bought `added` (slot -> signed lots) at the mark."""
        columns = self.columns_of(pool)
        lots = dict(zip(columns.instrument.tolist(), columns.quantity_lots.tolist(), strict=True))
        for slot, quantity in added.items():
            lots[slot] = lots.get(slot, 0) + quantity
        slots = sorted(lots, key=lambda slot: int(self.state.contracts.rank[slot]))
        held = [lots[slot] for slot in slots]
        coins = self._coins_after(columns.coin_minor[0], added.items())
        return self._with_lots(pool, np.array(slots, np.int64), held, coins)[1]

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
