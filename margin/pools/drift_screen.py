"""Revaluation cycle after cycle: all pools are marked, and only those in doubt are scanned.

A full pass is kept as the base. Later every pool's equity is marked exactly, and its requirements
are bounded from above by `margin.pools.drift_bound` without touching a scenario. A pool whose
equity is at least the bound meets its initial and its maintenance margin; nothing else is concluded
from a bound: every other pool is scanned. So each comparison of equity with a requirement comes out
as in a full pass, and whoever falls short has exact requirements to be called or liquidated on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit, prange

from margin.invariant import BoolArray, Int64Array
from margin.pools import drift_bound
from margin.pools.changed_pools import requirements_of
from margin.pools.collateral import AnyHaircuts, pool_equity
from margin.pools.drift_bound import Drift, LotValues, mark_and_bound, requirement_drift
from margin.pools.requirement import pool_requirements
from margin.pools.risk_table import RiskTable
from margin.portfolio import Positions

# A full pass costs about as much as bounding all pools and scanning this part of them.
_FULL_PASS_SHARE: Final = 2
_NONE: Final = np.zeros(0, dtype=np.int64)


class Revaluation(NamedTuple):
    """Where every pool stands, USDC minor units, shape [P]; the arrays live until the next update.

    `equity_minor` is exact. `initial_minor` and `maintenance_minor` are exact for the pools in
    `scanned` (ascending), and for all others bounds from above that their equity covers.
    """

    equity_minor: Int64Array
    initial_minor: Int64Array
    maintenance_minor: Int64Array
    scanned: Int64Array


@njit(cache=True, parallel=True)
def _apply_bound(
    base_initial: Int64Array,
    base_maintenance: Int64Array,
    increase_minor: Int64Array,
    equity_minor: Int64Array,
    initial_minor: Int64Array,
    maintenance_minor: Int64Array,
    must_scan: BoolArray,
) -> None:
    """Requirements of the base plus the increase, and whether equity falls short of either."""
    for p in prange(len(increase_minor)):
        initial = base_initial[p] + increase_minor[p]
        maintenance = base_maintenance[p] + increase_minor[p]
        initial_minor[p] = initial
        maintenance_minor[p] = maintenance
        must_scan[p] = (equity_minor[p] < initial) | (equity_minor[p] < maintenance)


class PoolCash(NamedTuple):
    """What equity has besides positions, as `margin.pools.collateral.pool_equity` takes it.

    `cash_minor[P,C]` is less what positions were settled up to; `index_e8[C]`, `owner_of[P]`.
    """

    cash_minor: Int64Array
    index_e8: Int64Array
    haircuts: AnyHaircuts
    owner_of: Int64Array | None = None


class DriftScreen:
    """Revalues all pools cycle after cycle, scanning only those that a decision may depend on.

    Its state is the base: a risk table and, of every pool, the requirements in it and the coin
    cash then. That only keeps work away: no decision depends on how old the base is.
    """

    def __init__(self) -> None:
        self._table: RiskTable | None = None
        self._base = (_NONE, _NONE)
        self._coin_minor = np.zeros((0, 0), np.int64)
        self._bound = (_NONE, _NONE, _NONE)
        self._equity_minor = _NONE
        self._value_minor = np.zeros((0, 0), np.int64)
        self._must_scan = np.zeros(0, np.bool_)

    def update(
        self,
        table: RiskTable,
        positions: Positions,
        changed: Int64Array,
        values: LotValues,
        cash: PoolCash,
    ) -> Revaluation:
        """Equity of every pool at the marks of `table`, requirements where they matter.

        `changed`: every pool whose positions are not those of the update before (coin cash is
        looked at by itself). `table` is kept: its arrays must not change afterwards. The first
        update, one with other instruments, factors or pools, and one that leaves too many pools
        in doubt are full passes and the new base. Errors as in `mark_and_bound` and `equity`.
        """
        if not self._has_room(positions, cash):
            self._make_room(positions, cash)
        drift = requirement_drift(self._table, table) if self._table is not None else None
        if drift is None or self._table is None:
            self._value_pools(positions, values, _no_drift(table), cash)
            return self._full_pass(table, positions)
        if len(changed):
            renewed = requirements_of(self._table, positions, changed)
            self._base[0][changed] = renewed.initial_minor
            self._base[1][changed] = renewed.maintenance_minor
            self._coin_minor[changed] = positions.coin_minor[changed]
        self._value_pools(positions, values, drift, cash)
        increase, initial, maintenance = self._bound
        _apply_bound(
            self._base[0], self._base[1], increase, self._equity_minor,
            initial, maintenance, self._must_scan,
        )  # fmt: skip
        scanned = np.flatnonzero(self._must_scan)
        if _FULL_PASS_SHARE * len(scanned) > positions.pool_count:
            return self._full_pass(table, positions)
        exact = requirements_of(table, positions, scanned)
        initial[scanned], maintenance[scanned] = exact.initial_minor, exact.maintenance_minor
        return Revaluation(self._equity_minor, initial, maintenance, scanned)

    def _has_room(self, positions: Positions, cash: PoolCash) -> bool:
        """Whether the arrays of the base are of these pools, coins and currencies."""
        coins = positions.coin_minor.shape == self._coin_minor.shape
        return coins and cash.cash_minor.shape == self._value_minor.shape

    def _make_room(self, positions: Positions, cash: PoolCash) -> None:
        """Arrays for this many pools, used again in every cycle; there is no base yet."""
        pools = positions.pool_count
        self._table = None
        increase, initial, maintenance = (np.zeros(pools, np.int64) for _ in range(3))
        self._bound = increase, initial, maintenance
        self._coin_minor = positions.coin_minor.copy()
        self._value_minor = np.zeros((pools, cash.cash_minor.shape[1]), np.int64)
        self._must_scan = np.zeros(pools, np.bool_)

    def _value_pools(
        self, positions: Positions, values: LotValues, drift: Drift, cash: PoolCash
    ) -> None:
        """Mark all positions, bound their drift, and value the pools."""
        mark_and_bound(
            positions, self._coin_minor, values, drift, self._value_minor, self._bound[0]
        )
        self._equity_minor = pool_equity(
            cash.cash_minor, self._value_minor, cash.index_e8, cash.haircuts, cash.owner_of
        )

    def _full_pass(self, table: RiskTable, positions: Positions) -> Revaluation:
        """Scan every pool; this is the base from now on."""
        exact = pool_requirements(table, positions)
        self._table = table
        self._base = (exact.initial_minor.copy(), exact.maintenance_minor.copy())
        np.copyto(self._coin_minor, positions.coin_minor)
        everyone = np.arange(positions.pool_count, dtype=np.int64)
        return Revaluation(
            self._equity_minor, exact.initial_minor, exact.maintenance_minor, everyone
        )


def _no_drift(table: RiskTable) -> Drift:
    """The drift of a table from itself."""
    coins = np.zeros(len(table.coin), np.int64)
    return Drift(np.zeros(len(table.terms), np.int64), coins, coins, 0)


def warm_up() -> None:
    """Compile the kernels of this module, and of `margin.pools.drift_bound`."""
    drift_bound.warm_up()
    one = np.zeros(1, np.int64)
    _apply_bound(one, one, one, one, one, one, np.zeros(1, np.bool_))
