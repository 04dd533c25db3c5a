"""A window of real dates for `fhs-es`: residuals of joint price histories, as a preset takes them.

A residual is a day's log return over the volatility that an EWMA forecast for it from the days
before (`margin.simulation.returns`). All series keep their common dates, so that every row is what
happened to all of them at once. Source: Barone-Adesi, Giannopoulos and Vosper (1999).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from margin.fixed_point import NS_PER_DAY, RATE_SCALE
from margin.invariant import Float64Array, Int64Array
from margin.presets.history_sections import MOST_RESIDUAL_E9
from margin.presets.sections import DEFAULT_NAME
from margin.simulation.returns import ewma_volatility, join, log_returns, long_run_volatility
from replays.price_file import PriceSeries
from replays.residual_window import E3, window_text

SEED_RETURNS: Final = 60
"""Returns that only start the forecast: they are no dates of the window."""

_MOST: Final = MOST_RESIDUAL_E9 / RATE_SCALE
_FIRST_STRESSED: Final = 2  # the rows before only begin sums of three days
_MOST_DEVIATION: Final = 1.0  # of a day, what a preset takes


class WindowError(ValueError):
    """Histories of which no window can be made; says why."""


@dataclass(frozen=True)
class PriceWindow:
    """The latest dates that all series have, oldest first.

    `residual_e3`: by factor (spot, volatility) and coin, as `window_text` takes them; `cut` of them
    lay beyond 6. Deviations of a day in the long run, `spot` by coin and `up` of volatility (None
    where no history of it was given). The stressed rows are those of the largest mean square move,
    at `multiple` times the long run.
    """

    first: str
    last: str
    residual_e3: dict[str, dict[str, list[int]]]
    cut: int
    spot: dict[str, float]
    up: float | None
    stressed_first: int
    stressed_dates: int
    multiple: float

    def toml(self, name: str) -> str:
        """A preset of one's own on the base of `fhs-es`."""
        ranges = "".join(f"{coin} = {self.spot[coin]:.6f}\n" for coin in sorted(self.spot))
        up = f"up = {self.up:.6f}\n" if self.up is not None else ""
        volatility = f"\n[volatility]\n{up}down = {self.up:.6f}\n" if self.up is not None else ""
        still = "" if self.up is not None else "# volatilities stand still on all dates\n"
        return (
            f"# {len(self.residual_e3['spot'][DEFAULT_NAME])} days from {self.first} to "
            f'{self.last}\n{still}name = "{name}"\nbase = "fhs-es"\n'
            f"\n[spot_range]\n{ranges}{volatility}"
            f"\n[history.long_run]\n{up}\n[history.long_run.spot_range]\n{ranges}"
            f"\n[history.stressed]\nfirst = {self.stressed_first}\n"
            f"dates = {self.stressed_dates}\nmultiple = {self.multiple:.2f}\n"
            f"{window_text(self.residual_e3)}"
        )


def price_window(
    spot: Mapping[str, PriceSeries],
    volatility: Mapping[str, PriceSeries],
    dates: int,
    stressed_dates: int,
    decay: float,
) -> PriceWindow:
    """The window of daily histories of coins, and of implied volatilities of some of them.

    Coins without a history take the residuals and the deviation of the one that moves most.
    `WindowError` where a history is not daily, or too few dates are common to all.
    """
    for name, series in (*spot.items(), *volatility.items()):
        if series.step_ns != NS_PER_DAY:
            raise WindowError(f"{name}: a window is made of days, not of {series.step_ns} ns")
    histories = [*spot.values(), *volatility.values()]
    times, level = join([(series.time_ns, series.price_e8) for series in histories])
    needed = dates + SEED_RETURNS + 1
    if len(times) < needed:
        raise WindowError(
            f"{len(times)} dates are common to all files; {dates} residuals need {needed}"
        )
    if (np.diff(times) != NS_PER_DAY).any():
        gap = int(np.flatnonzero(np.diff(times) != NS_PER_DAY)[0])
        raise WindowError(f"no file of all has the day after {_day(times[gap])}")
    returns = log_returns(level)
    forecast = ewma_volatility(returns, decay, SEED_RETURNS)[:-1]
    if not (forecast[-dates:] > 0).all():
        raise WindowError("a price stands still for so long that nothing is forecast of it")
    residual = returns[-dates:] / forecast[-dates:]
    usual = long_run_volatility(returns)
    if usual.max() > _MOST_DEVIATION:
        raise WindowError("a day's deviation above 100 %")
    coins = len(spot)
    columns = _columns(residual, [*spot], [*volatility], usual)
    moves = returns[-dates:, :coins] / usual[:coins]
    first, multiple = _stressed(moves, residual[:, :coins], stressed_dates)
    deviations = dict(zip(spot, usual[:coins].tolist(), strict=True))
    return PriceWindow(
        first=_day(times[-dates]), last=_day(times[-1]), residual_e3=columns,
        cut=int((np.abs(residual) > _MOST).sum()),
        spot={**deviations, DEFAULT_NAME: max(deviations.values())},
        up=float(usual[coins:].max()) if volatility else None,
        stressed_first=first, stressed_dates=stressed_dates, multiple=multiple,
    )  # fmt: skip


def _day(time_ns: int) -> str:
    return datetime.fromtimestamp(int(time_ns) // 10**9, UTC).date().isoformat()


def _columns(
    residual: Float64Array, coins: Sequence[str], surfaces: Sequence[str], usual: Float64Array
) -> dict[str, dict[str, list[int]]]:
    """Residuals x 10^3 by factor and coin, and of all other coins those of the widest."""
    whole: Int64Array = np.rint(np.clip(residual, -_MOST, _MOST) * E3).astype(np.int64)
    found: dict[str, dict[str, list[int]]] = {"spot": {}, "volatility": {}}
    for column, name in enumerate(coins):
        found["spot"][name] = whole[:, column].tolist()
    for column, name in enumerate(surfaces, len(coins)):
        # one deviation is that of the widest surface, so the others' residuals are smaller
        share = usual[column] / usual[len(coins) :].max()
        scaled = np.clip(residual[:, column] * share, -_MOST, _MOST) * E3
        found["volatility"][name] = np.rint(scaled).astype(np.int64).tolist()
    widest = coins[int(np.argmax(usual[: len(coins)]))]
    found["spot"][DEFAULT_NAME] = found["spot"][widest]
    if surfaces:
        widest = surfaces[int(np.argmax(usual[len(coins) :]))]
        found["volatility"][DEFAULT_NAME] = found["volatility"][widest]
    else:
        found["volatility"][DEFAULT_NAME] = [0] * len(whole)
    return found


def _stressed(moves: Float64Array, residual: Float64Array, dates: int) -> tuple[int, float]:
    """First row of the successive dates that moved most, and what brings their residuals back.

    `moves`: returns over the deviation of the long run. Residuals at the multiple of that have the
    mean square of the moves.
    """
    sums = np.convolve((moves**2).mean(axis=1), np.ones(dates), "valid")
    if len(sums) <= _FIRST_STRESSED:
        raise WindowError(f"{dates} stressed dates leave none of {len(moves)}")
    first = _FIRST_STRESSED + int(np.argmax(sums[_FIRST_STRESSED:]))
    seen = residual[first : first + dates]
    multiple = np.sqrt(sums[first] / dates / (seen**2).mean())
    return first, min(10.0, max(0.01, float(multiple)))
