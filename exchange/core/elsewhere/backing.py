"""What stands behind a pool's requirements: its equity here, and credit for what is elsewhere.

Without attestations it is the equity, and nothing here costs more than a look into an empty
dictionary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exchange.core.elsewhere.outside_credit import NO_SHIFT, Credit, OutsideCredit, Reading, Shift
from margin.attested import Standing, keeps_alive, lacking_minor
from margin.invariant import Int64Array
from margin.pools.requirement import OpenOrders
from margin.portfolio import Positions

if TYPE_CHECKING:
    from exchange.core.risk.pool_risk import Risk

Own = tuple[int, int, int]
"""Initial and maintenance margin of what a pool has here, and the relief in the first."""


class Backing:
    """Credit of pools at the last marks, and their requirements under each reading."""

    def __init__(self, risk: Risk) -> None:
        self.risk, self.state = risk, risk.state
        self.outside = OutsideCredit(risk.state)
        self.credit: dict[int, int] = {}  # by pool, of those with attestations
        self._own: dict[int, Own] = {}

    def count_all(self) -> None:
        """Add what is attested to all pools, whose own figures are new."""
        for account in sorted(self.state.attestations.of_account):
            self._count(self.state.accounts.pool_of[account], account)

    def count(self, pools: list[int]) -> None:
        """The same for some pools."""
        accounts, attested = self.state.accounts, self.state.attestations.of_account
        for pool in pools:
            account = accounts.owner_of[pool]
            if account in attested and accounts.pool_of[account] == pool:
                self._count(pool, account)

    def _count(self, pool: int, account: int) -> None:
        risk = self.risk
        credit = self.outside.credit(account, Reading.NOW)
        self.credit[pool] = credit.total_minor
        need = risk.need(pool)
        own = need.initial_minor, need.maintenance_minor, need.relief_minor
        self._own[pool] = own
        shift = self.shift(pool, Reading.NOW, credit=credit)
        if shift != NO_SHIFT:
            risk.set_need(pool, *self._shifted(pool, own, shift))

    def _shifted(self, pool: int, own: Own, shift: Shift) -> Shift:
        """Requirements of a pool from its own and from what shifts them.

        An offset between coins ends where something shifts: it was that of other losses.
        """
        initial, maintenance, relief = own
        if shift == NO_SHIFT:
            return Shift(initial, maintenance)
        if relief:
            # an offset takes this much off maintenance at most: its share by the two factors
            table = self.risk.model(pool).table
            maintenance_ppb, initial_ppb = table.factors_ppb.tolist()
            initial += relief
            maintenance += 1 - (-(relief + 1) * maintenance_ppb // initial_ppb)
        return Shift(
            max(0, initial + shift.initial_minor), max(0, maintenance + shift.maintenance_minor)
        )

    def shift(
        self, pool: int, reading: Reading, held: Positions | None = None,
        orders: OpenOrders | None = None, credit: Credit | None = None,
    ) -> Shift:  # fmt: skip
        """How what is attested changes the requirement of a pool, or of `held` in its place."""
        account = self.state.accounts.owner_of[pool]
        credit = self.outside.credit(account, reading) if credit is None else credit
        if not self.outside.shifts(account, credit):
            return NO_SHIFT
        held = self.risk.holdings.columns_of(pool) if held is None else held
        model = self.risk.model(pool)
        return self.outside.shift(account, reading, model, held, credit, orders)

    def requirement(
        self, pool: int, held: Positions, own: tuple[int, int], relief_minor: int
    ) -> tuple[int, int]:
        """(initial, maintenance) of a pool that holds `held`, whose own figures are known."""
        if pool not in self.credit:
            return own
        shift = self.shift(pool, Reading.STANDING, held)
        found = self._shifted(pool, (*own, relief_minor), shift)
        return found.initial_minor, found.maintenance_minor

    def standing(self, pool: int, reading: Reading) -> Standing:
        """Credit and requirements of a pool under one reading of its attestations."""
        if pool not in self.credit or reading == Reading.NOW:
            need = self.risk.need(pool)
            return Standing(self.credit.get(pool, 0), need.initial_minor, need.maintenance_minor)
        credit = self.outside.credit(self.state.accounts.owner_of[pool], reading)
        shift = self.shift(pool, reading, credit=credit)
        return Standing(credit.total_minor, *self._shifted(pool, self._own[pool], shift))

    def of(self, pool: int) -> int:
        """What stands against a pool's initial margin: its equity and its credit.

        A pool that owes has no credit but its debts elsewhere: nobody adds risk on a debt.
        """
        own = int(self.risk.equity[pool])
        credit = self.credit.get(pool, 0)
        return own + credit if own >= 0 else own + min(0, credit)

    def of_pools(self, pools: Int64Array) -> Int64Array:
        """The same of some pools, shape [K]."""
        equity: Int64Array = self.risk.equity[pools]
        if not self.credit:
            return equity
        return np.array([self.of(pool) for pool in pools.tolist()], np.int64)

    def all(self) -> Int64Array:
        """`of` every pool, [P]."""
        if not self.credit:
            return self.risk.equity
        found = self.risk.equity.copy()
        for pool in self.credit:
            found[pool] = self.of(pool)
        return found

    def lacking(self, pool: int) -> int:
        """What a pool lacks of its initial margin; of its own equity, where that owes more."""
        if pool not in self.credit:
            return self.risk.need(pool).initial_minor - int(self.risk.equity[pool])
        return lacking_minor(int(self.risk.equity[pool]), self.standing(pool, Reading.NOW))

    def keeps(self, pool: int) -> bool:
        """Whether equity and credit cover maintenance margin: where not, there is liquidation.

        With attestations, whether they do by one of the two readings that decide it.
        """
        equity = int(self.risk.equity[pool])
        if pool not in self.credit:
            return equity >= self.risk.need(pool).maintenance_minor
        readings = (self.standing(pool, r) for r in (Reading.STANDING, Reading.LAST))
        return any(keeps_alive(equity, reading) for reading in readings)

    def carries(self, pool: int) -> bool:
        """Whether a pool that owes is left to its margin call, because of what it has elsewhere."""
        if pool not in self.credit or pool in self.state.accounts.cases:
            return False
        return self.keeps(pool)
