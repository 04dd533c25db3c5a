"""The result of a revaluation of one lot of everything: rows of profit and loss, charges per lot.

Columns: the spot scenarios, then the skews, then the basis. An instrument has two rows of them,
`asset` and `liability`: profit and loss of a long lot if its expiry's shocked net value is positive
and if it is negative, since a static discount depends on that sign. Where the model has no such
discount the two are the same, and where it has no skew and no basis either, or only perpetuals are
listed, expiries do not matter and one row is all there is.
"""

from __future__ import annotations

import msgspec
import numpy as np

from margin.invariant import BoolArray, Int64Array
from margin.scenarios.lot_rows import (
    DELTA_ONE,
    DELTA_ONE_EXTRA,
    GROSS_FLOOR,
    NAKED,
    NAKED_EXTRA,
    OPTION,
    OPTION_EXTRA,
)


class ExpiryRows(msgspec.Struct, frozen=True, gc=False):
    """Rows of a model in which expiries count on their own: [I, regular + skews + basis].

    `regular` spot scenarios, `skews` skew scenarios, `basis` 0 or 1: a column with the forward's
    move down in `asset` and its move up in `liability`. `reversed_discount[I]`: true where the
    factor on positive values is the larger one, so that the better row counts.
    """

    asset: Int64Array
    liability: Int64Array
    regular: int
    skews: int
    basis: int
    reversed_discount: BoolArray


def _row(rows: Int64Array, at: int) -> Int64Array:
    row: Int64Array = rows[at]
    return row


class ScenarioMatrix(msgspec.Struct, frozen=True, gc=False):
    """Profit and loss per lot in quanta of 2^-risk_exponent[unit] minor USDC.

    `rows`: of every instrument; where `by_expiry` is false both are the same and are all there is.
    `coin[C,S']`: `COIN_STEP_MINOR` minor units of coin cash; C counts the units' own coins, then
    tokens, `coin_unit[C]` their risk units. `coin_terms[3,C]`: value at the index now, maintenance
    and extra initial charge per step of coin. `contingency[8,I]`: what the properties read.
    `risk_exponent[U]`. `allowance[U,S']`: what a unit's loss is forgiven. `floored`: the last
    column of `rows` is part of a delta floor. `peg_ppb`: what a stable coin below its peg adds to
    the IM factor.
    """

    rows: ExpiryRows
    by_expiry: bool
    coin: Int64Array
    coin_terms: Int64Array
    coin_unit: Int64Array
    contingency: Int64Array
    risk_exponent: Int64Array
    allowance: Int64Array | None = None
    floored: bool = False
    peg_ppb: int = 0

    @property
    def expiry_rows(self) -> ExpiryRows | None:
        """The rows of positions where expiries count on their own."""
        return self.rows if self.by_expiry else None

    @property
    def long(self) -> Int64Array:
        """What one long lot adds at least to any pool in every scenario, skew and basis, [I,S']."""
        return self._alone()[0]

    @property
    def short(self) -> Int64Array:
        """The same of one short lot."""
        return self._alone()[1]

    def _alone(self) -> tuple[Int64Array, Int64Array]:
        if self.by_expiry:
            return _alone(self.rows)
        long = self.rows.asset.copy()
        short = -long
        if self.floor is not None:
            long[:, -1] = short[:, -1] = -self.floor[0] - np.abs(self.floor[1])
        return long, short

    @property
    def coin_value(self) -> Int64Array:
        """Value of a step of coin at the index now, [C]."""
        return _row(self.coin_terms, 0)

    @property
    def coin_mm(self) -> Int64Array:
        """Maintenance charge per step of coin, [C]."""
        return _row(self.coin_terms, 1)

    @property
    def coin_im_extra(self) -> Int64Array:
        """Extra initial charge per step of coin, [C]."""
        return _row(self.coin_terms, 2)

    @property
    def delta_one_mm(self) -> Int64Array:
        """Contingency per lot held, either side, [I]; zero for options."""
        return _row(self.contingency, DELTA_ONE)

    @property
    def delta_one_im_extra(self) -> Int64Array:
        """Extra initial contingency per lot held, either side, [I]; zero for options."""
        return _row(self.contingency, DELTA_ONE_EXTRA)

    @property
    def naked_mm(self) -> Int64Array:
        """Contingency per naked short lot, [I]; zero for delta-one."""
        return _row(self.contingency, NAKED)

    @property
    def naked_im_extra(self) -> Int64Array:
        """Extra initial contingency per naked short lot, [I]; zero for delta-one."""
        return _row(self.contingency, NAKED_EXTRA)

    @property
    def option_mm(self) -> Int64Array:
        """Charge per option lot held, either side (roll), [I]."""
        return _row(self.contingency, OPTION)

    @property
    def option_im_extra(self) -> Int64Array:
        """Extra initial charge per option lot held, either side (roll, doubtful prices), [I]."""
        return _row(self.contingency, OPTION_EXTRA)

    @property
    def floor(self) -> Int64Array | None:
        """Parts of a delta floor per lot, on gross and on net delta, [2,I]; None without one."""
        return self.contingency[GROSS_FLOOR:] if self.floored else None


def _alone(rows: ExpiryRows) -> tuple[Int64Array, Int64Array]:
    """What a long and a short lot add at least, per scenario, skew and to the basis candidate.

    With V the rows of a pool and v those of a lot, min(V_a + v_a, V_l + v_l) is at least
    min(V_a, V_l) + min(v_a, v_l), and the larger of the two moves by no less; |min(...)| grows by
    no more than the larger of |v_a| and |v_l|; a basis minimum by no more than its own loss.
    """
    spot, end = rows.regular, rows.regular + rows.skews
    low = np.minimum(rows.asset, rows.liability)
    high = np.maximum(rows.asset, rows.liability)
    long = np.empty_like(low)
    long[:, :spot] = low[:, :spot]
    long[:, spot:end] = np.minimum(low[:, spot:end], -high[:, spot:end])
    short = np.empty_like(long)
    short[:, :spot] = -high[:, :spot]
    short[:, spot:end] = long[:, spot:end]
    if rows.basis:
        long[:, end] = np.minimum(0, low[:, end])
        short[:, end] = np.minimum(0, -high[:, end])
    return long, short
