"""Revaluation cycle after cycle: all pools are marked, and only those in doubt are scanned.

A full pass is kept as the base. Later every pool's equity is marked exactly, and its requirements
are bounded from above by `margin.pools.drift_bound` without touching a scenario. A pool whose
equity is at least the bound, and what add-ons can come to on top, meets its initial and its
maintenance margin; nothing else is concluded from a bound: every other pool is scanned. So each
comparison of equity with a requirement comes out as in a full pass, and whoever falls short has
exact requirements to be called or liquidated on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit, prange

from margin.invariant import BoolArray, Int64Array
from margin.pools import drift_bound
from margin.pools.changed_pools import renew_requirements, requirements_of
from margin.pools.collateral import AnyHaircuts, pool_equity
from margin.pools.drift_bound import Drift, LotValues, mark_and_bound, requirement_drift
from margin.pools.requirement import Requirements, pool_requirements
from margin.pools.risk_table import RiskTable
from margin.portfolio import Positions

# A full pass costs about as much as bounding all pools and scanning this part of them.
_FULL_PASS_SHARE: Final = 2
_NONE: Final = np.zeros(0, dtype=np.int64)
_NO_UNITS: Final = np.zeros((0, 0), dtype=np.int64)


class Revaluation(NamedTuple):
    """Where every pool stands, USDC minor units, shape [P]; the arrays live until the next update.

    `equity_minor` is exact. `initial_minor` and `maintenance_minor`, add-ons left out, are exact
    for the pools in `scanned` (ascending), and for all others bounds from above that their equity
    covers with the add-ons. `exact`: all that the scan found, row n being pool `scanned[n]`.
    """

    equity_minor: Int64Array
    initial_minor: Int64Array
    maintenance_minor: Int64Array
    scanned: Int64Array
    exact: Requirements


@njit(cache=True, parallel=True)
def _apply_bound(
    base_initial: Int64Array,
    base_maintenance: Int64Array,
    increase_minor: Int64Array,
    added_minor: Int64Array,
    equity_minor: Int64Array,
    initial_minor: Int64Array,
    maintenance_minor: Int64Array,
    must_scan: BoolArray,
) -> None:
    """Requirements of the base plus the increase, and whether equity falls short of either.

    An empty `added_minor` adds nothing.
    """
    adds = len(added_minor) > 0
    for p in prange(len(increase_minor)):
        initial = base_initial[p] + increase_minor[p]
        maintenance = base_maintenance[p] + increase_minor[p]
        initial_minor[p] = initial
        maintenance_minor[p] = maintenance
        covers = equity_minor[p] - (added_minor[p] if adds else 0)
        must_scan[p] = (covers < initial) | (covers < maintenance)


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
        self._base = Requirements(_NONE, _NONE, _NONE, _NO_UNITS, _NO_UNITS)
        self._scanned = 0  # pools, since the base was taken
        self._coin_minor = np.zeros((0, 0), np.int64)
        self._bound = (_NONE, _NONE, _NONE)
        self._equity_minor = _NONE
        self._value_minor = np.zeros((0, 0), np.int64)
        self._must_scan = np.zeros(0, np.bool_)
        self._everyone = _NONE

    def update(
        self,
        table: RiskTable,
        positions: Positions,
        changed: Int64Array,
        values: LotValues,
        cash: PoolCash,
        added_minor: Int64Array = _NONE,
    ) -> Revaluation:
        """Equity of every pool at the marks of `table`, requirements where they matter.

        `changed`: every pool whose positions are not those of the update before (coin cash is
        looked at by itself, and so are pools beyond those that there were). `added_minor[P]`: the
        most that add-ons can come to. The first update is a full pass and the base, and so is one
        with other instruments or factors, or with fewer pools, one that leaves too many pools in
        doubt, and one after which as many pools were scanned one by one as there are. Errors as in
        `mark_and_bound` and `equity`.
        """
        known = len(self._coin_minor)
        if self._has_room(positions, cash):
            if positions.pool_count > known:
                self._extend(positions)
                changed = np.concatenate((changed[changed < known], self._everyone[known:]))
        else:
            self._make_room(positions, cash)
        drift = requirement_drift(self._table, table) if self._table is not None else None
        if drift is None or self._table is None:
            self._value_pools(positions, values, _no_drift(table), cash)
            return self._full_pass(table, positions)
        if len(changed):
            renew_requirements(self._table, positions, changed, self._base)
            self._coin_minor[changed] = positions.coin_minor[changed]
        self._value_pools(positions, values, drift, cash)
        increase, initial, maintenance = self._bound
        _apply_bound(
            self._base.initial_minor, self._base.maintenance_minor, increase, added_minor,
            self._equity_minor, initial, maintenance, self._must_scan,
        )  # fmt: skip
        scanned = np.flatnonzero(self._must_scan)
        self._scanned += len(scanned)
        if (
            _FULL_PASS_SHARE * len(scanned) > positions.pool_count
            or self._scanned > positions.pool_count
        ):
            return self._full_pass(table, positions)
        exact = requirements_of(table, positions, scanned)
        initial[scanned], maintenance[scanned] = exact.initial_minor, exact.maintenance_minor
        return Revaluation(self._equity_minor, initial, maintenance, scanned, exact)

    def _has_room(self, positions: Positions, cash: PoolCash) -> bool:
        """Whether the base is of these coins and currencies, and of no pool that is gone."""
        coins, currencies = positions.coin_minor.shape[1], cash.cash_minor.shape[1]
        columns = self._coin_minor.shape[1] == coins and self._value_minor.shape[1] == currencies
        return columns and positions.pool_count >= len(self._coin_minor)

    def _make_room(self, positions: Positions, cash: PoolCash) -> None:
        """Arrays for this many pools, used again in every cycle; there is no base yet."""
        self._table = None
        self._base = Requirements(_NONE, _NONE, _NONE, _NO_UNITS, _NO_UNITS)
        self._coin_minor = np.zeros((0, positions.coin_minor.shape[1]), np.int64)
        self._value_minor = np.zeros((0, cash.cash_minor.shape[1]), np.int64)
        self._extend(positions)

    def _extend(self, positions: Positions) -> None:
        """Room for more pools; those that were there keep their base."""
        pools, known = positions.pool_count, len(self._coin_minor)
        units = self._table.risk_exponent.shape[0] if self._table is not None else 0
        more = np.zeros(pools - known, np.int64)
        losses = np.zeros((pools - known, units), np.int64)
        self._base = Requirements(
            *(
                np.concatenate((column, losses if column.ndim == 2 else more))
                for column in self._base
            )
        )
        self._coin_minor = np.concatenate((self._coin_minor, positions.coin_minor[known:]))
        self._everyone = np.arange(pools, dtype=np.int64)
        increase, initial, maintenance = (np.zeros(pools, np.int64) for _ in range(3))
        self._bound = increase, initial, maintenance
        self._value_minor = np.zeros((pools, self._value_minor.shape[1]), np.int64)
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
        self._table, self._scanned = _copy_of(table), 0
        self._base = Requirements(*(column.copy() for column in exact))
        np.copyto(self._coin_minor, positions.coin_minor)
        return Revaluation(
            self._equity_minor, exact.initial_minor, exact.maintenance_minor, self._everyone, exact
        )


def _copy_of(table: RiskTable) -> RiskTable:
    """A table that stays as it is when the next marks are written over this one."""
    copied = {
        field: part.copy()
        for field in table.__struct_fields__
        if isinstance(part := getattr(table, field), np.ndarray)
    }
    return msgspec.structs.replace(table, **copied)


def _no_drift(table: RiskTable) -> Drift:
    """The drift of a table from itself."""
    coins = np.zeros(len(table.coin), np.int64)
    return Drift(np.zeros(len(table.terms), np.int64), coins, coins, 0)


def warm_up() -> None:
    """Compile the kernels of this module, and of `margin.pools.drift_bound`."""
    drift_bound.warm_up()
    one = np.zeros(1, np.int64)
    _apply_bound(one, one, one, one, one, one, one, np.zeros(1, np.bool_))
