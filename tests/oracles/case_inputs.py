"""Decimals of a case into the engine's integers; one rule for every case chooses the lot."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from exchange.core.limits import INSTRUMENTS_PER_UNIT_MAX, POSITION_NOTIONAL_MINOR_MAX
from margin.fixed_point import COIN_SCALE
from margin.invariant import Int64Array
from margin.scenarios.grid import risk_exponent

E6, E8, E9 = 10**6, 10**8, 10**9
YEAR_SECONDS = 365 * 86_400


def scaled(value: Any, scale: int) -> int:
    """The integer nearest to value x scale."""
    return int((Decimal(value) * scale).to_integral_value())


def column(values: Iterable[int]) -> Int64Array:
    """A contiguous int64 column."""
    return np.array(list(values), dtype=np.int64)


def understood(inputs: dict[str, Any], *required: str, optional: tuple[str, ...] = ()) -> None:
    """Fail unless a case has all these inputs and no others: a number ignored is a wrong test."""
    missing = [key for key in required if key not in inputs]
    unknown = [key for key in inputs if key not in required + optional]
    assert not missing, f"the case lacks {', '.join(missing)}"
    assert not unknown, f"the model does not know what to do with {', '.join(unknown)}"


def finest_lot_e8(sizes: Iterable[Any]) -> int:
    """The largest power of ten, from one coin down to 10^-8, that divides every size."""
    lot = COIN_SCALE
    units = [scaled(size, COIN_SCALE) for size in sizes]
    while lot > 1 and any(unit % lot for unit in units):
        lot //= 10
    return lot


def finest_exponent(multiple: int) -> int:
    """The finest risk exponent that the exchange's limits allow a model of this loss multiple."""
    return risk_exponent(POSITION_NOTIONAL_MINOR_MAX, INSTRUMENTS_PER_UNIT_MAX, multiple)
