"""Sorting rows by a small non-negative integer, stable, without comparisons."""

from __future__ import annotations

import numpy as np
from numba import njit

DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS


@njit(cache=True)
def sort_rows(keys, rows, spare_keys, spare_rows, largest_key):  # type: ignore[no-untyped-def]
    """Sort `rows` by `keys` (0 <= key <= largest_key < 2^62), equal keys in their given order.

    Radix sort from the lowest digit up (Knuth, The Art of Computer Programming 3, 5.2.5): one
    pass for each 8 bits of `largest_key`. All four arrays are int64 of one length and are
    overwritten. Returns the pair of them, sorted keys and sorted rows, that holds the result.
    """
    places = np.empty(DIGITS, np.int64)
    shift = 0
    while shift < 62 and largest_key >> shift > 0:
        places[:] = 0
        for k in range(len(keys)):
            places[(keys[k] >> shift) & (DIGITS - 1)] += 1
        place = 0
        for digit in range(DIGITS):
            place += places[digit]
            places[digit] = place - places[digit]
        for k in range(len(keys)):
            digit = (keys[k] >> shift) & (DIGITS - 1)
            spare_keys[places[digit]] = keys[k]
            spare_rows[places[digit]] = rows[k]
            places[digit] += 1
        keys, spare_keys = spare_keys, keys
        rows, spare_rows = spare_rows, rows
        shift += DIGIT_BITS
    return keys, rows
