"""How often a pool is called when the venue said how likely it was: forecasts against outcomes.

Pools long, short, and short a straddle, with cushions from thin to thick, are watched by the engine
(`watched_pools`) on simulated GARCH paths or on recorded prices. What is said at the beginning of a
horizon meets what happens within it; horizons do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array
from replays.price_file import PriceFileError, PriceSeries
from replays.procyclicality import Path, simulated_returns_e9
from replays.reliability import Reliability, reliability
from replays.watched_pools import (
    FIRST_E8,
    LONG,
    SHORT,
    WARM_UP,
    Setting,
    Watched,
    WatchedMarket,
)

HORIZONS = 10
"""Of each simulated path."""

COINS = ("BTC", "ETH")
_DAY_S = 86_400
_DAILY_VOLATILITY = 0.03
_SETTLING = 500  # periods in which the simulated variance forgets where it began


@dataclass(frozen=True)
class Study:
    """What came out: `whole`, and by position; `cell_brier` of the share of each cell.

    A cell is a position and a cushion: the score of who knows how often such a pool is called on
    average, and nothing of the market of the day.
    """

    source: str
    horizons: int
    cycles: int
    period_s: int
    whole: Reliability
    cell_brier: float
    by_position: dict[str, Reliability]


def simulated_prices_e8(setting: Setting, paths: int, seed: int) -> Int64Array:
    """Prices `[1 + WARM_UP + HORIZONS x cycles, paths]` of the market of `procyclicality.Path`.

    Its period is that of the setting, its unconditional volatility 3 % a day.
    """
    length = WARM_UP + HORIZONS * setting.cycles
    market = Path(
        daily_volatility=_DAILY_VOLATILITY * math.sqrt(setting.period_s / _DAY_S),
        paths=paths, warm_up=_SETTLING, days=length,
    )  # fmt: skip
    moves = simulated_returns_e9(market, seed)[_SETTLING:] / RATE_SCALE
    start = np.ones((1, paths))
    path = np.concatenate((start, np.cumprod(1 + moves, axis=0)))
    return np.rint(path * FIRST_E8).astype(np.int64)


def study_paths(
    paths: int, seed: int, setting: Setting | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Study:  # fmt: skip
    """The study on simulated paths; `progress` is told (paths done, of all)."""
    setting = setting or Setting()
    prices = simulated_prices_e8(setting, paths, seed)
    watched = []
    for path in range(paths):
        watched.append(WatchedMarket(setting, np.ascontiguousarray(prices[:, path])).watch())
        if progress is not None:
            progress(path + 1, paths)
    return _study(f"{paths} GARCH paths, seed {seed}", setting, watched)


def study_prices(
    name: str, series: PriceSeries, setting: Setting | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Study:  # fmt: skip
    """The study on recorded prices, futures only; a period is that of the file.

    The ranges are those of the coin that the name of the file says, else of every other coin;
    `progress` is told (horizons done, of all).

    `PriceFileError` for a history too short, or of periods longer than a day.
    """
    period_s = series.step_ns // 10**9
    if not 0 < period_s <= _DAY_S:
        raise PriceFileError(f"{name}: periods of {period_s} s; they may last a day at most")
    given = setting or Setting()
    setting = Setting(
        period_s, given.cycles, given.decay_ppb, given.garch, given.cushions_ppb, (LONG, SHORT)
    )
    least = WARM_UP + given.cycles + 1
    if len(series.price_e8) <= least:
        raise PriceFileError(f"{name}: {len(series.price_e8)} prices; more than {least} are needed")
    watched = WatchedMarket(setting, series.price_e8, coin_named(name)).watch(progress)
    return _study(name, setting, [watched])


def coin_named(name: str) -> str:
    """The coin with a range of its own that a file's name mentions, else `default`."""
    return next((coin for coin in COINS if coin in name.upper()), "default")


def _study(source: str, setting: Setting, watched: Sequence[Watched]) -> Study:
    chance = np.concatenate([each.chance_ppb for each in watched]) / RATE_SCALE
    called = np.concatenate([each.called for each in watched])
    shares = called.mean(axis=0)
    width = len(setting.cushions_ppb)
    by_position = {
        position: reliability(
            chance[:, at * width : (at + 1) * width].ravel(),
            called[:, at * width : (at + 1) * width].ravel(),
        )
        for at, position in enumerate(setting.positions)
    }
    return Study(
        source, len(chance), setting.cycles, setting.period_s,
        reliability(chance.ravel(), called.ravel()),
        float((shares * (1 - shares)).mean()), by_position,
    )  # fmt: skip
