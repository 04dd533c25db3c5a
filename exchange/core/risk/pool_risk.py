"""Equity and requirements of every pool at the last marks: derived from the state, never stored.

Rebuilt whole after each revaluation and after a restore, and pool by pool when cash or positions
move in between, so that it always equals what the state implies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from exchange.core.elsewhere.backing import Backing
from exchange.core.pools.holdings import Holdings
from exchange.core.risk.model import Charged, RiskModel
from exchange.core.risk.models import risk_model
from exchange.core.stored.state import State
from margin.invariant import Int64Array, check
from margin.pools.changed_pools import gather_pools
from margin.pools.collateral import AnyHaircuts, pool_equity
from margin.pools.risk_table import RiskLayout, risk_layout
from margin.portfolio import Positions as PositionColumns

_ONE_OWNER: Int64Array = np.zeros(1, np.int64)


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
        self.holdings = Holdings(state)
        self.layout: RiskLayout
        self._listed = -1
        self.no_haircut = np.zeros_like(self.models[0].haircut_ppb)
        none = np.zeros(0, np.int64)
        self.equity, self.initial, self.maintenance = none, none, none
        self.add_on_minor = none
        self.relief_minor = none
        self.backing = Backing(self)

    def model(self, pool: int) -> RiskModel:
        """The margin model that charges a pool."""
        return self.models[self.state.accounts.model_of[pool]]

    def reprice(self) -> None:
        """New scenario matrix at the marks; call when marks or listings change."""
        state = self.state
        if self._listed != len(state.contracts):
            self.layout = risk_layout(state.contracts.columns)
            self._listed = len(state.contracts)
        for model in self.models:
            model.reprice(state, self.layout)
        self.backing.outside.marks_changed()

    def revalue(self, pending: Int64Array | None = None) -> None:
        """Equity and requirements of all pools; `pending` gains count until they are released."""
        held = self.holdings
        if pending is not None:
            held.pending = pending
        columns, owner = held.columns(held.coins()), self.state.accounts.owner_column()
        cash, options = held.cash(), held.option_values()
        needed, self.add_on_minor, self.relief_minor = self.models[0].charged(columns, owner)
        self.initial, self.maintenance = needed.initial_minor, needed.maintenance_minor
        self.worst_minor, self.unit_loss = needed.worst_minor, needed.unit_loss
        self.worst_scenario = needed.worst_scenario
        haircuts = self.models[0].haircuts
        self.equity = pool_equity(cash, options, held.index_e8, haircuts, owner)
        for number in range(1, len(self.models)):
            self._revalue_class(number, columns, owner, cash, options)
        if self.state.attestations:
            self.backing.count_all()

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
            cash[pools], options[pools], self.holdings.index_e8, model.haircuts, owner[pools]
        )

    def revalue_pool(self, pool: int) -> None:
        """The same for one pool, after its cash or positions moved.

        Where size counts, its owner's other pools move with it: size of positions moves their
        requirements, size of collateral their equity.
        """
        pools = self.judged_with(pool)
        charge = self._charged_together(pools, [self.holdings.columns_of(each) for each in pools])
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
        held = self.holdings
        cash = np.array([held.cash_of(pool) for pool in pools], np.int64)
        values = np.array([held.option_values_of(pool) for pool in pools], np.int64)
        one_owner = np.zeros(len(pools), np.int64)
        return pool_equity(cash, values, held.index_e8, haircuts, one_owner)

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
        columns = [held if each == pool else self.holdings.columns_of(each) for each in pools]
        needed, _, relief = self._charged_together(pools, columns)
        at = pools.index(pool)
        own = int(needed.initial_minor[at]), int(needed.maintenance_minor[at])
        return self.backing.requirement(pool, held, own, int(relief[at]))

    def requirement_of(self, pool: int, lots: Sequence[int]) -> tuple[int, int]:
        """Initial and maintenance margin of a pool if its positions were `lots` (row order)."""
        columns = self.holdings.columns_of(pool)
        return self._with_lots(pool, columns.instrument, lots, columns.coin_minor)

    def requirements(self, pool: int) -> Callable[[Sequence[int]], tuple[int, int]]:
        """(initial, maintenance) of a pool as a function of its positions' lots (those not 0).

        Whoever parts with an inverse option gets its value at the mark in coin, which counts.
        """
        columns = self.holdings.columns_of(pool)
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
            return self._with_lots(pool, instruments, lots, self.holdings.coins_after(coins, sold))

        return requirement

    def maintenance_with(self, pool: int, added: dict[int, int]) -> int:
        """Maintenance margin of a pool that bought `added` (slot -> signed lots) at the mark."""
        columns = self.holdings.columns_of(pool)
        lots = dict(zip(columns.instrument.tolist(), columns.quantity_lots.tolist(), strict=True))
        for slot, quantity in added.items():
            lots[slot] = lots.get(slot, 0) + quantity
        slots = sorted(lots, key=lambda slot: int(self.state.contracts.rank[slot]))
        held = [lots[slot] for slot in slots]
        coins = self.holdings.coins_after(columns.coin_minor[0], added.items())
        return self._with_lots(pool, np.array(slots, np.int64), held, coins)[1]
