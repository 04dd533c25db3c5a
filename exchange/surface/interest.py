"""What rests in the option books after an auction, as the venue discloses it: best bid and ask."""

from __future__ import annotations

import msgspec
import numpy as np

from exchange.core.stored.orders import (
    AGE_BATCH,
    FLAGS,
    INSTRUMENT_SHIFT,
    LIQUIDATION,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    PRICE_TICKS,
    SIDE,
)
from exchange.core.stored.state import State
from margin.invariant import Int64Array

FAR = 2**62


class Interest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Best resting prices of one option (0: none), lots on the smaller side, batch of the older.

    The lots and the batch are those of the best level only; of several orders there the youngest
    counts.
    """

    slot: int
    bid_ticks: int
    ask_ticks: int
    lots: int
    born_batch: int


def resting_interest(state: State) -> list[Interest]:
    """Best bid and ask of each option with resting limit orders, in slot order.

    Left out is what nobody may learn from a mark: every book of an opaque venue, books whose
    auction was interrupted (their orders are still sealed), and orders of liquidations.
    """
    contracts, resting = state.contracts, state.orders.resting
    if state.venue.disclosure == "opaque" or not contracts.has_options or not resting.shape[1]:
        return []
    shown = contracts.is_option == 1
    shown[list(state.collars.extension)] = False
    keep = shown[resting[ORDER_ID] >> INSTRUMENT_SHIFT] & (resting[OPEN_LOTS] > 0)
    orders = resting[:, keep & ((resting[FLAGS] & (LIQUIDATION | MARKET)) == 0)]
    count = len(contracts)
    bids = _best(orders[:, orders[SIDE] > 0], count, 1)
    asks = _best(orders[:, orders[SIDE] < 0], count, -1)
    found = []
    for slot in np.unique(orders[ORDER_ID] >> INSTRUMENT_SHIFT).tolist():
        bid, ask = bids[:, slot].tolist(), asks[:, slot].tolist()
        lots = min(side[1] for side in (bid, ask) if side[1])
        born = min(side[2] for side in (bid, ask) if side[1])
        found.append(Interest(slot, bid[0], ask[0], lots, born))
    return found


def _best(orders: Int64Array, count: int, sign: int) -> Int64Array:
    """Rows price, lots, youngest batch of the best level, one column an instrument."""
    slot, ticks = orders[ORDER_ID] >> INSTRUMENT_SHIFT, orders[PRICE_TICKS]
    best = np.full(count, -FAR, np.int64)
    np.maximum.at(best, slot, sign * ticks)
    level = sign * ticks == best[slot]
    out = np.zeros((3, count), np.int64)
    out[0] = np.where(best == -FAR, 0, sign * best)
    np.add.at(out[1], slot[level], orders[OPEN_LOTS][level])
    np.maximum.at(out[2], slot[level], orders[AGE_BATCH][level])
    return out
