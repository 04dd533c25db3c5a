"""The forward of an expiry by put-call parity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Pair(NamedTuple):
    """Bid and ask of the call and of the put of one strike, all prices in one unit."""

    strike: float
    call_bid: float
    call_ask: float
    put_bid: float
    put_ask: float


def parity_forward(
    pairs: Iterable[Pair], discount: float = 1.0, given: float | None = None
) -> float | None:
    """Forward at the strike where calls and puts together are quoted tightest.

    A call less a put is worth discount * (forward - strike), so the quotes of a strike leave
    forwards from strike + (call bid - put ask) / discount to strike + (call ask - put bid) /
    discount. Of the narrowest such span: its middle, or with a given forward the point nearest to
    that. Pairs without all four prices (0 is none) or with crossed ones do not count; without any
    the given forward stands (None if there is none).
    """
    tightest = None
    for pair in pairs:
        crossed = pair.call_bid > pair.call_ask or pair.put_bid > pair.put_ask
        if crossed or min(pair[1:]) <= 0:
            continue
        low = pair.strike + (pair.call_bid - pair.put_ask) / discount
        high = pair.strike + (pair.call_ask - pair.put_bid) / discount
        if tightest is None or high - low < tightest[1] - tightest[0]:
            tightest = (low, high)
    if tightest is None:
        return given
    low, high = tightest
    return 0.5 * (low + high) if given is None else min(max(given, low), high)
