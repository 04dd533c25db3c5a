"""Equity and requirements of every pool at the last marks: derived from the state, never stored.

Rebuilt whole after each revaluation and after a restore, and pool by pool when cash or positions
move in between, so that it always equals what the state implies. Where pools are many, those that a
bound tells to be safe are computed when somebody asks (`exchange.core.risk.screened`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from exchange.core.elsewhere.backing import Backing
from exchange.core.pools.holdings import Holdings
from exchange.core.risk.model import Charged, RiskModel
from exchange.core.risk.models import risk_model
from exchange.core.risk.screened import SCREENED_POOLS, Figures, PoolScreen
from exchange.core.stored.state import State
from margin.invariant import Int64Array, check
from margin.pools.changed_pools import gather_pools
from margin.pools.collateral import AnyHaircuts, pool_equity
from margin.pools.drift_bound import LotValues
from margin.pools.drift_screen import PoolCash
from margin.pools.requirement import Requirements
from margin.pools.risk_table import RiskLayout, risk_layout
from margin.portfolio import Positions as PositionColumns

_ONE_OWNER: Int64Array = np.zeros(1, np.int64)


class Need(NamedTuple):
    """What one pool needs, minor USDC.

    The margins hold the add-ons, which `add_on_minor` says again: they are charged on positions; an
    open order reserves none. `relief_minor` is what something that a fill may end takes off the
    initial margin, as the offset between coins: no bound on an order counts on it.
    """

    initial_minor: int
    maintenance_minor: int
    add_on_minor: int
    relief_minor: int


class Risk:
    """Requirements and equity of all pools, each under the margin model of its account's class.

    `equity` is what is here. What pools are credited for what is elsewhere stands in `backing`;
    their requirements hold what is elsewhere, too. `need` gives those of a pool; `initial`,
    `maintenance` and `add_on_minor` give them of all, and compute what is not known yet.
    `relief_minor[P]` is always known.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        venue = state.venue
        self.models = [
            risk_model(venue, preset, number) for number, preset in enumerate(venue.presets())
        ]
        self._screens = [PoolScreen() for _ in self.models]
        self.holdings = Holdings(state)
        self.layout: RiskLayout
        self._listed = -1
        self.no_haircut = np.zeros_like(self.models[0].haircut_ppb)
        self._take(_nothing(0, len(venue.underlyings)))
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
        held, accounts = self.holdings, self.state.accounts
        if pending is not None:
            held.pending = pending
        columns = held.columns(held.coins())
        if len(self.models) == 1:
            self._take(self._figures(0, columns, None))
        else:
            self._take(_nothing(accounts.pools, len(self.state.venue.underlyings)))
            for number in range(len(self.models)):
                pools = accounts.pools_of_model(number)
                if len(pools):
                    self._put(pools, self._figures(number, gather_pools(columns, pools), pools))
        if self.state.attestations:
            self.backing.count_all()

    def _figures(self, number: int, columns: PositionColumns, pools: Int64Array | None) -> Figures:
        """Figures of the pools that a model charges, all where `pools` is None."""
        held, model, contracts = self.holdings, self.models[number], self.state.contracts
        owner, cash = self.state.accounts.owner_column(), held.cash()
        if pools is not None:
            owner, cash = owner[pools], cash[pools]
        if model.is_continuous and columns.pool_count >= SCREENED_POOLS:
            values = LotValues(held.value_e6 * contracts.is_option, contracts.currency_column)
            money = PoolCash(cash, held.index_e8, model.haircuts, owner)
            return self._screens[number].revalue(model, columns, owner, values, money)
        needed, added, relief = model.charged(columns, owner)
        options = held.option_values()
        if pools is not None:
            options = options[pools]
        equity = pool_equity(cash, options, held.index_e8, model.haircuts, owner)
        return Figures(equity, needed, added, relief, np.zeros(len(equity), np.bool_))

    def _take(self, found: Figures) -> None:
        """Figures of all pools."""
        self.equity, self._needed, self._added, self.relief_minor, self._is_bound = found
        self._has_bounds = bool(self._is_bound.any())

    def _put(self, pools: Int64Array, found: Figures, rows: Int64Array | None = None) -> None:
        """Figures of some pools, or of those in some of their `rows`."""
        at = slice(None) if rows is None else rows
        self.equity[pools] = found.equity[at]
        for ours, theirs in zip(self._needed, found.needed, strict=True):
            ours[pools] = theirs[at]
        self._added[pools], self.relief_minor[pools] = found.added_minor[at], found.relief_minor[at]
        self._is_bound[pools] = found.is_bound[at]
        self._has_bounds = self._has_bounds or bool(found.is_bound.any())

    @property
    def initial(self) -> Int64Array:
        """Initial margin of every pool, [P]."""
        self.compute_all()
        return self._needed.initial_minor

    @property
    def maintenance(self) -> Int64Array:
        """Maintenance margin of every pool, [P]."""
        self.compute_all()
        return self._needed.maintenance_minor

    @property
    def add_on_minor(self) -> Int64Array:
        """The add-ons in the margins of every pool, [P]."""
        self.compute_all()
        return self._added

    @property
    def worst(self) -> Requirements:
        """What every pool needs, with its worst loss and scenario, [P]."""
        self.compute_all()
        return self._needed

    @property
    def initial_most(self) -> Int64Array:
        """The most that the initial margin of every pool can be, [P].

        Equity at the revaluation is on the same side of it as of the margin itself.
        """
        return self._needed.initial_minor

    @property
    def maintenance_most(self) -> Int64Array:
        """The same of the maintenance margin, [P]."""
        return self._needed.maintenance_minor

    def need(self, pool: int) -> Need:
        """What one pool needs; until it is asked, nothing may have changed what the pool holds,
        nor what its owner's others do, but by `revalue_pool`."""
        if self.is_bound(pool):
            judged = self.judged_with(pool)
            self._charge(judged, [each for each in judged if self._is_bound[each]])
        return Need(
            int(self._needed.initial_minor[pool]), int(self._needed.maintenance_minor[pool]),
            int(self._added[pool]), int(self.relief_minor[pool]),
        )  # fmt: skip

    def set_need(self, pool: int, initial_minor: int, maintenance_minor: int) -> None:
        """Let a pool need so much until it is revalued, with no relief in it: for `backing`."""
        check(not self._is_bound[pool], "what is elsewhere comes on top of exact figures")
        self._needed.initial_minor[pool] = initial_minor
        self._needed.maintenance_minor[pool] = maintenance_minor
        self.relief_minor[pool] = 0

    def is_bound(self, pool: int) -> bool:
        """Whether a bound is all that is known of what a pool needs, until `need` is asked."""
        return self._has_bounds and bool(self._is_bound[pool])

    def compute_all(self) -> None:
        """Figures of all pools of which only bounds are known, from what they hold now."""
        if not self._has_bounds:
            return
        columns, accounts = self.holdings.columns(self.holdings.coins()), self.state.accounts
        for number, model in enumerate(self.models):
            pools = accounts.pools_of_model(number)
            rows = np.flatnonzero(self._is_bound[pools])
            if len(rows):
                # with the others, since one owner's pools are judged together
                owner = accounts.owner_column()[pools]
                charge = model.charged(gather_pools(columns, pools), owner)
                equity, known = self.equity[pools], np.zeros(len(pools), np.bool_)
                self._put(pools[rows], Figures(equity, *charge, known), rows)
        self._has_bounds = False

    def revalue_pool(self, pool: int) -> None:
        """The same for one pool, after its cash or positions moved.

        Where size counts, its owner's other pools move with it: size of positions moves their
        requirements, size of collateral their equity.
        """
        pools = self.judged_with(pool)
        self._charge(pools, pools)
        self._renew_equity(pool)
        if self.state.attestations:
            self.backing.count(pools)

    def _charge(self, judged: list[int], pools: list[int]) -> None:
        """Requirements of some of the pools that are judged together, exact ones."""
        charged = self._charged_together(judged, [self.holdings.columns_of(p) for p in judged])
        rows = [judged.index(pool) for pool in pools]
        for ours, theirs in zip(self._needed, charged.requirements, strict=True):
            ours[pools] = theirs[rows]
        self._added[pools] = charged.add_on_minor[rows]
        self.relief_minor[pools] = charged.relief_minor[rows]
        self._is_bound[pools] = False

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
        found = Figures(self.equity, self._needed, self._added, self.relief_minor, self._is_bound)
        self._take(_joined(found, _nothing(count, len(self.state.venue.underlyings))))

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


def _nothing(pools: int, units: int) -> Figures:
    """Figures of pools that hold nothing."""
    equity, worst, initial, maintenance, added, relief = (
        np.zeros(pools, np.int64) for _ in range(6)
    )
    none = np.full((pools, units), -1, np.int64)
    needed = Requirements(worst, initial, maintenance, none, np.zeros((pools, units), np.int64))
    return Figures(equity, needed, added, relief, np.zeros(pools, np.bool_))


def _joined(first: Figures, second: Figures) -> Figures:
    """Figures of some pools, then of others."""

    def column(field: str) -> Any:
        return np.concatenate((getattr(first, field), getattr(second, field)))

    needed = Requirements(*map(np.concatenate, zip(first.needed, second.needed, strict=True)))
    return Figures(
        column("equity"), needed, column("added_minor"), column("relief_minor"), column("is_bound")
    )
