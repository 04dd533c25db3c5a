"""What a margin model lets one lot of every contract add to a requirement at most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from margin.invariant import Int64Array
from margin.scenarios.grid import ScenarioMatrix


class LotBounds(NamedTuple):
    """Quanta per lot of every contract [I], and of `COIN_STEP_MINOR` of every unit's coin [U].

    A lot bought (sold) whose fill costs `c` against the mark raises no requirement by more than
    max(0, worst + c) x initial factor + charge, `c` negative for a gain. `coin_now`: worth of the
    coin at the index; `coin_high` and `coin_low`: the most and the least it can be worth.
    """

    worst_buy: Int64Array
    worst_sell: Int64Array
    charge_buy: Int64Array
    charge_sell: Int64Array
    coin_now: Int64Array
    coin_high: Int64Array
    coin_low: Int64Array


def bounds_of_matrix(matrix: ScenarioMatrix) -> LotBounds:
    """Bounds of a model that charges the worst of the matrix' scenarios, and its contingencies."""
    base = matrix.delta_one_mm + matrix.delta_one_im_extra
    for charge in (matrix.option_mm, matrix.option_im_extra):
        if charge is not None:
            base = base + charge
    naked = matrix.naked_mm + matrix.naked_im_extra
    coin = matrix.coin_value[:, None] + matrix.coin
    return LotBounds(
        np.maximum(0, -matrix.long.min(axis=1)),
        np.maximum(0, -matrix.short.min(axis=1)),
        base,
        base + naked,
        matrix.coin_value,
        coin.max(axis=1),
        np.maximum(0, coin.min(axis=1)),
    )
