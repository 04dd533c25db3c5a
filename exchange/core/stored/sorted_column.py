"""Search in a sorted column, for kernels."""

from __future__ import annotations

from numba import njit

from margin.invariant import Int64Array


@njit(cache=True)
def first_at_least(column: Int64Array, wanted: int) -> int:
    """The first row of a rising column not below `wanted`; its length where there is none."""
    low, high = 0, len(column)
    while low < high:
        middle = (low + high) // 2
        if column[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
