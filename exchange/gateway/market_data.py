"""Read model of the public market: trades, statistics, disclosed curves, what each batch did.

Fed by the sequencer's events and by nothing else. Memory is bounded: per instrument the newest
`TRADES_KEPT` trades, a day of statistics in buckets of ten minutes, a chart, and one curve. After a
restart trades, statistics and charts begin empty; curves come back with the next auction.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec
import numpy as np

from exchange.core.auction.clearing import CLAMPED, INTERRUPTED, PRINTED
from exchange.core.events import Printed
from exchange.core.stored.contracts import premium_in_dollars_e8
from exchange.core.stored.orders import (
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
from exchange.core.venue import CALL_KINDS
from exchange.gateway.candles import Chart
from exchange.gateway.units import (
    E8,
    amount_number,
    contracts_number,
    dollar_notional,
    milliseconds,
    price_number,
)
from margin.black76 import implied_volatility
from margin.fixed_point import NS_PER_DAY, NS_PER_YEAR
from margin.invariant import Int64Array
from margin.portfolio import INVERSE

TRADES_KEPT = 1000
BUCKET_NS = 600 * 10**9
PLUS, ZERO_PLUS, MINUS, ZERO_MINUS = range(4)

_SIDE_BIT = 32
_SLOT_BITS = 33

Level = tuple[int, int]  # price_ticks, quantity_lots


class PublicTrade(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The one trade of an instrument and print."""

    trade_id: str
    trade_seq: int
    instrument_name: str
    timestamp: int
    direction: str
    tick_direction: int
    price: float
    amount: float
    contracts: float
    mark_price: float
    index_price: float
    iv: float | msgspec.UnsetType = msgspec.UNSET


class Curve(msgspec.Struct, gc=False):
    """A disclosed unexecuted curve, best price first; `change_id` rises with every change."""

    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    change_id: int = 0


class Change(msgspec.Struct, frozen=True, gc=False):
    """A curve before and after a print."""

    before: Curve
    after: Curve


class Print(msgspec.Struct, frozen=True, gc=False):
    """How the last auction of an instrument ended."""

    batch: int
    state: int
    price_ticks: int
    volume_lots: int
    surplus_lots: int
    reference_ticks: int


class Bucket(msgspec.Struct, gc=False):
    """Ten minutes of one instrument's prints."""

    start_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    lots: int
    notional: float


class Statistics(msgspec.Struct, frozen=True, gc=False):
    """The last 24 hours, to the bucket."""

    high: float | None
    low: float | None
    price_change: float | None
    volume: float
    volume_usd: float
    volume_notional: float


class Tape(msgspec.Struct):
    """What is remembered of one instrument."""

    trades: deque[PublicTrade]
    buckets: deque[Bucket]
    chart: Chart
    last_ticks: int = 0
    direction: str = "buy"
    tick_direction: int = PLUS


class MarketData:
    """Trades, statistics and curves of all instruments, as of the last print."""

    def __init__(self) -> None:
        self.tapes: dict[int, Tape] = {}
        self.curves: dict[int, Curve] = {}
        self.prints: dict[int, Print] = {}
        self.time_ns = 0
        # What the last print brought, for whoever publishes it.
        self.new_trades: dict[int, PublicTrade] = {}
        self.changes: dict[int, Change] = {}
        self.new_prints: dict[int, Print] = {}

    def tape(self, slot: int) -> Tape:
        """The tape of an instrument, empty if it never traded."""
        found = self.tapes.get(slot)
        if found is None:
            found = self.tapes[slot] = Tape(deque(maxlen=TRADES_KEPT), deque(), Chart())
        return found

    def curve(self, slot: int) -> Curve:
        """The curve that was disclosed last."""
        return self.curves.get(slot) or Curve()

    def take_uncross(self, state: State, time_ns: int, printed: Printed | None) -> None:
        """Take the outcome of a batch; call right after it, before the next command."""
        self.time_ns = time_ns
        self.new_trades, self.changes, self.new_prints = {}, {}, {}
        if printed is not None:
            columns = (
                printed.instruments, printed.states, printed.price_ticks,
                printed.volume_lots, printed.surplus_lots, printed.reference_ticks,
            )  # fmt: skip
            for slot, *row in zip(*(column.tolist() for column in columns), strict=True):
                outcome = Print(printed.batch, *row)
                self.prints[slot] = self.new_prints[slot] = outcome
                if outcome.state in (PRINTED, CLAMPED) and outcome.volume_lots > 0:
                    self._trade(state, slot, outcome, time_ns)
        if state.venue.disclosure != "opaque":
            self._disclose(state)

    def _trade(self, state: State, slot: int, outcome: Print, time_ns: int) -> None:
        """Book the one trade: direction of the heavy side, else of the tick."""
        spec, tape = state.contracts.specs[slot], self.tape(slot)
        ticks, before = outcome.price_ticks, tape.last_ticks
        if before == 0 or ticks > before:
            tape.tick_direction = PLUS
        elif ticks < before:
            tape.tick_direction = MINUS
        elif tape.tick_direction in (PLUS, ZERO_PLUS):
            tape.tick_direction = ZERO_PLUS
        else:
            tape.tick_direction = ZERO_MINUS
        if outcome.surplus_lots:
            tape.direction = "buy" if outcome.surplus_lots > 0 else "sell"
        elif ticks != before and before:
            tape.direction = "buy" if ticks > before else "sell"
        tape.last_ticks = ticks
        trade = PublicTrade(
            trade_id=f"{outcome.batch}-{slot}",
            trade_seq=outcome.batch,
            instrument_name=spec.name,
            timestamp=milliseconds(time_ns),
            direction=tape.direction,
            tick_direction=tape.tick_direction,
            price=price_number(spec, ticks),
            amount=amount_number(spec, outcome.volume_lots),
            contracts=contracts_number(spec, outcome.volume_lots),
            mark_price=int(state.marks.mark_e8[slot]) / E8,
            index_price=int(state.marks.index_e8[spec.underlying]) / E8,
            iv=implied_percent(state, slot, ticks * spec.tick_e8, time_ns),
        )
        tape.trades.append(trade)
        self.new_trades[slot] = trade
        self._count(state, slot, outcome, time_ns)

    def _count(self, state: State, slot: int, outcome: Print, time_ns: int) -> None:
        spec, buckets = state.contracts.specs[slot], self.tape(slot).buckets
        ticks, start = outcome.price_ticks, time_ns // BUCKET_NS * BUCKET_NS
        amount = amount_number(spec, outcome.volume_lots)
        inverse = spec.kind == INVERSE
        price = price_number(spec, ticks)
        index = int(state.marks.index_e8[spec.underlying]) / E8
        notional = dollar_notional(spec, amount, price, index)
        coins = amount / price if inverse else amount
        cost = amount if inverse else amount * price
        self.tape(slot).chart.take(milliseconds(time_ns), ticks, coins, cost)
        if not buckets or buckets[-1].start_ns != start:
            buckets.append(Bucket(start, ticks, ticks, ticks, 0, 0.0))
        bucket = buckets[-1]
        bucket.high_ticks = max(bucket.high_ticks, ticks)
        bucket.low_ticks = min(bucket.low_ticks, ticks)
        bucket.lots += outcome.volume_lots
        bucket.notional += notional
        while buckets[0].start_ns <= time_ns - NS_PER_DAY:
            buckets.popleft()

    def statistics(self, state: State, slot: int) -> Statistics:
        """High, low, change in percent and volume of the last 24 hours."""
        spec = state.contracts.specs[slot]
        tape = self.tapes.get(slot)
        since = state.time_ns - NS_PER_DAY
        buckets = [b for b in tape.buckets if b.start_ns > since] if tape else []
        if not buckets or tape is None:
            return Statistics(None, None, None, 0.0, 0.0, 0.0)
        amount = amount_number(spec, sum(b.lots for b in buckets))
        notional = sum(b.notional for b in buckets)
        opened, last = buckets[0].open_ticks, tape.last_ticks
        # Deribit counts the volume of inverse contracts in coin.
        volume = amount / price_number(spec, last) if spec.kind == INVERSE else amount
        return Statistics(
            high=price_number(spec, max(b.high_ticks for b in buckets)),
            low=price_number(spec, min(b.low_ticks for b in buckets)),
            price_change=round(100 * (last - opened) / opened, 4),
            volume=round(volume, 8),
            volume_usd=round(notional, 2),
            volume_notional=round(notional, 2),
        )

    def _disclose(self, state: State) -> None:
        """New curves of the books that were auctioned.

        An interrupted auction has no outcome, so its orders stay sealed and the last curve
        stands; so it does for a halted book.
        """
        fresh = disclosed_levels(state.orders.resting)
        rests = set(np.unique(state.orders.resting[ORDER_ID] >> INSTRUMENT_SHIFT).tolist())
        empty: tuple[tuple[Level, ...], tuple[Level, ...]] = ((), ())
        for slot in sorted({*self.curves, *rests}):
            outcome = self.new_prints.get(slot)
            carried = outcome is None or outcome.state == INTERRUPTED
            if slot in rests and carried:
                continue
            bids, asks = fresh.get(slot, empty)
            before = self.curves.get(slot) or Curve()
            if bids == before.bids and asks == before.asks:
                continue
            after = Curve(bids, asks, state.batch + 1)
            self.curves[slot] = after
            self.changes[slot] = Change(before, after)


def disclosed_levels(resting: Int64Array) -> dict[int, tuple[tuple[Level, ...], tuple[Level, ...]]]:
    """Resting limit orders (columns x n) summed by price, per slot (bids, asks), best first.

    Liquidation orders and market orders are left out.
    """
    shown = resting[:, ((resting[FLAGS] & (LIQUIDATION | MARKET)) == 0) & (resting[OPEN_LOTS] > 0)]
    sells = (shown[SIDE] < 0).astype(np.int64)
    slots = shown[ORDER_ID] >> INSTRUMENT_SHIFT
    key = (slots << _SLOT_BITS) | (sells << _SIDE_BIT) | shown[PRICE_TICKS]
    keys, level = np.unique(key, return_inverse=True)
    lots = np.zeros(len(keys), np.int64)
    np.add.at(lots, level, shown[OPEN_LOTS])
    book = keys >> _SIDE_BIT
    sides, first = np.unique(book, return_index=True)
    bounds = [*first.tolist(), len(keys)]
    prices, sums = (keys & ((1 << _SIDE_BIT) - 1)).tolist(), lots.tolist()
    found: dict[int, tuple[tuple[Level, ...], tuple[Level, ...]]] = {}
    for number, side in enumerate(sides.tolist()):
        rows = slice(bounds[number], bounds[number + 1])
        levels = tuple(zip(prices[rows], sums[rows], strict=True))
        bids, asks = found.get(side >> 1, ((), ()))
        found[side >> 1] = (bids, levels) if side & 1 else (levels[::-1], asks)
    return found


def discount_of(state: State, slot: int, time_ns: int) -> float:
    """The factor from an option's expiry to now, at its rate (a negative one counts as 0).

    1 for an inverse option, whose premium is paid in coin: its mark is not discounted.
    """
    if state.contracts.is_inverse_option(slot):
        return 1.0
    years = max(0, state.contracts.specs[slot].expiry_ns - time_ns) / NS_PER_YEAR
    return math.exp(-max(0, int(state.marks.rate_e9[slot])) / 10**9 * years)


def implied_percent(
    state: State, slot: int, price_e8: int, time_ns: int
) -> float | msgspec.UnsetType:
    """The volatility, in percent, that an option's price implies at the marks; unset if none."""
    spec, marks = state.contracts.specs[slot], state.marks
    if not state.contracts.is_option_slot(slot) or price_e8 <= 0:
        return msgspec.UNSET
    forward_e8 = int(marks.forward_e8[slot])
    implied = float(implied_volatility(
        premium_in_dollars_e8(spec, price_e8, forward_e8) / E8, forward_e8 / E8,
        spec.strike_e8 / E8, (spec.expiry_ns - time_ns) / NS_PER_YEAR,
        discount_of(state, slot, time_ns), spec.kind in CALL_KINDS,
    ))  # fmt: skip
    return round(100 * implied, 2) if implied == implied else msgspec.UNSET
