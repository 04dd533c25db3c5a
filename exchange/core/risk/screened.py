"""The drift screen in the revaluation: where pools are many, only those in doubt are scanned.

A pool whose equity covers an upper bound of its requirements is neither called nor liquidated, so
bounds are all that the cycle needs of it; exact figures are computed when somebody asks for them
(`exchange.core.risk.pool_risk`). Decisions are those of the full pass, whoever asked for what.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np

from exchange.core.risk.model import RiskModel
from margin.add_ons.charges import add_ons
from margin.invariant import BoolArray, Int64Array
from margin.pools.changed_pools import differing_pools, gather_pools
from margin.pools.drift_bound import LotValues
from margin.pools.drift_screen import DriftScreen, PoolCash
from margin.pools.requirement import Requirements
from margin.portfolio import Positions

SCREENED_POOLS: Final = 2048
"""From this many pools on a model's pools are screened: below, a full pass costs less."""


class Figures(NamedTuple):
    """What a revaluation makes of K pools, by row, minor USDC: equity, and what they need.

    `needed` holds the add-ons, too, which `added_minor` says again; `relief_minor` as in
    `exchange.core.risk.model.Charged`. In rows where `is_bound`, equity is exact and covers
    `needed` and `added_minor`, which are bounds from above; worst losses are not known there.
    """

    equity: Int64Array
    needed: Requirements
    added_minor: Int64Array
    relief_minor: Int64Array
    is_bound: BoolArray


class PoolScreen:
    """The drift screen of the pools that one margin model charges, from cycle to cycle."""

    def __init__(self) -> None:
        self._screen = DriftScreen()
        self._seen: Positions | None = None

    def revalue(
        self, model: RiskModel, held: Positions, owner: Int64Array, values: LotValues,
        cash: PoolCash,
    ) -> Figures:  # fmt: skip
        """Figures of pools that hold `held`; add-ons need the worst scenario, and bounds do not.

        A worst scenario takes something off the gamma add-on, if anything: without one it is the
        most that it can be. What the others charge has nothing to do with scenarios.
        """
        pools, units = held.coin_minor.shape
        none = np.zeros(pools, np.int64)
        most, added = None, none
        if model.add_on_table is not None:
            unknown = np.full((pools, units), -1, np.int64)
            most = add_ons(model.add_on_table, held, owner, unknown)
            added = most.total_minor
        found = self._screen.update(model.table, held, self._changed(held), values, cash, added)
        scanned = found.scanned
        if most is not None and model.add_on_table is not None:
            # size is judged over all pools of an owner: that part stands, the others are a pool's
            own = msgspec.structs.replace(model.add_on_table, charges_liquidity=False)
            rows, owners = gather_pools(held, scanned), np.zeros(len(scanned), np.int64)
            added[scanned] = most.liquidity_minor[scanned]
            added[scanned] += add_ons(own, rows, owners, found.exact.worst_scenario).total_minor
        needed = Requirements(
            np.zeros(pools, np.int64), found.initial_minor + added, found.maintenance_minor + added,
            np.full((pools, units), -1, np.int64), np.zeros((pools, units), np.int64),
        )  # fmt: skip
        needed.worst_minor[scanned] = found.exact.worst_minor
        needed.worst_scenario[scanned] = found.exact.worst_scenario
        needed.unit_loss[scanned] = found.exact.unit_loss
        is_bound = np.ones(pools, np.bool_)
        is_bound[scanned] = False
        return Figures(found.equity_minor, needed, added, none.copy(), is_bound)

    def _changed(self, held: Positions) -> Int64Array:
        """Pools whose positions are not those of the revaluation before, which are remembered.

        Read off the positions themselves, so that nothing which moves one has to tell.
        """
        if self._seen is None or self._seen.pool_count > held.pool_count:
            changed = np.arange(held.pool_count, dtype=np.int64)
        else:
            changed = differing_pools(self._seen, held)
        if len(changed):
            # lots are written over in place from fill to fill
            self._seen = msgspec.structs.replace(held, quantity_lots=held.quantity_lots.copy())
        return changed
