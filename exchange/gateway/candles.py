"""Read model of charts: candles of each instrument's prints, by the minute and by the hour.

Memory is bounded: `MINUTES_KEPT` and `HOURS_KEPT` candles an instrument, and only those in which
something traded. Coarser resolutions are put together from these when they are asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable

import msgspec

from exchange.core.stored.state import State
from exchange.gateway.units import price_number

MINUTE_MS = 60_000
HOUR_MINUTES = 60
MINUTES_KEPT = 2_880  # two days
HOURS_KEPT = 2_160  # ninety days
CANDLES_MAX = 5_000  # in one answer
RESOLUTIONS: dict[str, int] = {
    **{str(minutes): minutes for minutes in (1, 3, 5, 10, 15, 30, 60, 120, 180, 360, 720)},
    "1D": 1440,
}
"""Deribit's names of resolutions, in minutes."""


class Candle(msgspec.Struct, gc=False):
    """Prints of one span of time; prices in ticks, `cost` in the currency of the price."""

    tick_ms: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume: float = 0.0
    cost: float = 0.0

    def add(self, later: Candle) -> None:
        """Take in what came later."""
        self.high_ticks = max(self.high_ticks, later.high_ticks)
        self.low_ticks = min(self.low_ticks, later.low_ticks)
        self.close_ticks = later.close_ticks
        self.volume += later.volume
        self.cost += later.cost


class Chart:
    """The candles of one instrument, old to new."""

    def __init__(self) -> None:
        self.minutes: deque[Candle] = deque(maxlen=MINUTES_KEPT)
        self.hours: deque[Candle] = deque(maxlen=HOURS_KEPT)

    def take(self, time_ms: int, price_ticks: int, volume: float, cost: float) -> None:
        """Add a print."""
        for candles, minutes in ((self.minutes, 1), (self.hours, HOUR_MINUTES)):
            start = time_ms // (minutes * MINUTE_MS) * (minutes * MINUTE_MS)
            new = Candle(start, *(price_ticks,) * 4, volume, cost)
            if candles and candles[-1].tick_ms == start:
                candles[-1].add(new)
            else:
                candles.append(new)

    def window(self, minutes: int, start_ms: int, end_ms: int) -> list[Candle]:
        """Candles of a resolution that overlap the window, without gaps, the newest 5,000.

        Spans in which nothing traded repeat the close before them, with volume 0. Nothing comes
        before the first candle that is remembered.
        """
        step = minutes * MINUTE_MS
        known = merged(self.hours if minutes >= HOUR_MINUTES else self.minutes, step)
        if not known:
            return []
        last = end_ms // step * step
        first = max(start_ms // step * step, known[0].tick_ms, last - (CANDLES_MAX - 1) * step)
        at = bisect_left(known, first, key=lambda candle: candle.tick_ms)
        close = known[at - 1].close_ticks if at else known[0].open_ticks
        found = []
        for tick_ms in range(first, last + 1, step):
            if at < len(known) and known[at].tick_ms == tick_ms:
                found.append(known[at])
                close = known[at].close_ticks
                at += 1
            else:
                found.append(Candle(tick_ms, *(close,) * 4))
        return found

    def newest(self, minutes: int) -> Candle | None:
        """The last candle of a resolution in which something traded."""
        candles, step = self.hours if minutes >= HOUR_MINUTES else self.minutes, minutes * MINUTE_MS
        if not candles:
            return None
        start = candles[-1].tick_ms // step * step
        recent: list[Candle] = []
        for candle in reversed(candles):
            if candle.tick_ms < start:
                break
            recent.append(candle)
        return merged(reversed(recent), step)[-1]


def merged(candles: Iterable[Candle], step_ms: int) -> list[Candle]:
    """Candles put together into those of a coarser step."""
    found: list[Candle] = []
    for candle in candles:
        start = candle.tick_ms // step_ms * step_ms
        if found and found[-1].tick_ms == start:
            found[-1].add(candle)
        else:
            found.append(msgspec.structs.replace(candle, tick_ms=start))
    return found


def candle_row(state: State, slot: int, candle: Candle) -> dict[str, object]:
    """A candle as the `chart.trades` channel tells it."""
    spec = state.contracts.specs[slot]
    return {
        "tick": candle.tick_ms,
        "open": price_number(spec, candle.open_ticks),
        "high": price_number(spec, candle.high_ticks),
        "low": price_number(spec, candle.low_ticks),
        "close": price_number(spec, candle.close_ticks),
        "volume": round(candle.volume, 8),
        "cost": round(candle.cost, 8),
    }
