"""How much margin models rise when markets fall: every model at the same breach rate.

Simulated returns (GARCH with fat tails) go through the product's own forecasters and tools. A
model that asks for little breaches often, so comparing models as they are compares levels; here
each is first scaled until it is breached equally often, and only then are peak to trough and rises
compared, beside the mean margin that the protection costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from margin.fixed_point import RATE_SCALE
from margin.forecasts.forecast import Ewma, run, start, volatility_e9
from margin.forecasts.procyclicality import (
    NO_CAP_PPB,
    Tools,
    largest_rise,
    moderated,
    peak_to_trough,
)
from margin.forecasts.ranges import capped, range_terms, targets_e9
from margin.invariant import Float64Array, Int64Array, check
from margin.presets import load_preset
from margin.presets.dynamic_sections import EwmaRule
from margin.simulation.coverage import kupiec

STEPS = (1, 5, 20, 60)
RISES = (1, 5, 20, 30)
DAY_S = 86_400
PLAIN = "EWMA .97"
SLOWER = 125
"""How much longer the long run's memory is than the forecast's: that of `ps-1-dynamic`."""
_SCALE = 1000  # of the margins of the study: 10^-12, so that rounding up shows nowhere


@dataclass(frozen=True)
class Path:
    """GARCH(1,1) with Student-t innovations: the market of the study, one period a day."""

    alpha: float = 0.08
    beta: float = 0.91
    freedom: float = 5.0
    daily_volatility: float = 0.03
    paths: int = 200
    warm_up: int = 1000
    days: int = 2500


@dataclass(frozen=True)
class Row:
    """One model of the table, scaled to the breach rate that all rows share.

    `rises`: largest rises over `RISES` days, median over the paths; `response` at `STEPS` days.
    """

    name: str
    multiple: float
    breach_share: float
    kupiec_pass_share: float
    peak_to_trough: float
    rises: tuple[float, ...]
    mean_margin: float
    mean_shortfall: float
    response: tuple[float, ...]


def simulated_returns_e9(path: Path, seed: int, step: int | None = None) -> Int64Array:
    """Relative moves `[warm_up + days, paths]`; from day `step` on their volatility is doubled."""
    generator = np.random.default_rng(seed)
    length = path.warm_up + path.days
    shape = (length, path.paths)
    shocks = generator.standard_t(path.freedom, shape) * np.sqrt((path.freedom - 2) / path.freedom)
    omega = path.daily_volatility**2 * (1 - path.alpha - path.beta)
    variance = np.full(path.paths, path.daily_volatility**2)
    returns = np.empty(shape)
    for day in range(length):
        returns[day] = np.sqrt(variance) * shocks[day]
        variance = omega + path.alpha * returns[day] ** 2 + path.beta * variance
    if step is not None:
        returns[path.warm_up + step :] *= 2
    return np.rint(np.clip(returns, -1, 1) * RATE_SCALE).astype(np.int64)


Model = Callable[[Int64Array, int], Int64Array]
"""Returns of all days and the length of the warm-up in; margins of the days after it out, in
10^-12 of notional, [days, paths], each made from the returns before its day."""


def _opening(return_e9: Int64Array) -> Int64Array:
    """Variance of each path's first 250 days, with which recursions begin."""
    found: Int64Array = np.mean(return_e9[:250].astype(np.float64) ** 2, axis=0).astype(np.int64)
    return found


def _ewma(decay_ppb: int) -> Model:
    def margins(return_e9: Int64Array, warm_up: int) -> Int64Array:
        forecaster = Ewma(decay_ppb)
        variance = run(forecaster, start(forecaster, _opening(return_e9)), return_e9)
        return volatility_e9(variance[warm_up:-1]) * _SCALE

    return margins


def _historical(window: int, confidence: float) -> Model:
    def margins(return_e9: Int64Array, warm_up: int) -> Int64Array:
        size = np.abs(return_e9)
        out = np.empty((len(size) - warm_up, size.shape[1]), np.int64)
        rank = int(np.ceil(confidence * window)) - 1
        for day in range(len(out)):
            seen = size[warm_up + day - window : warm_up + day]
            out[day] = np.partition(seen, rank, axis=0)[rank]
        return out * _SCALE

    return margins


def _flat(return_e9: Int64Array, warm_up: int) -> Int64Array:
    """The level that the whole path needed: it has seen the future and is a benchmark only."""
    level = np.quantile(np.abs(return_e9[warm_up:]), 0.99, axis=0)
    return np.tile((level * _SCALE).astype(np.int64), (len(return_e9) - warm_up, 1))


def _with_tools(model: Model, tools: Tools) -> Model:
    """`model` under `tools`; the long run is the last 1,000 days."""

    def margins(return_e9: Int64Array, warm_up: int) -> Int64Array:
        plain = model(return_e9, warm_up)
        long_run = _long_run(return_e9, warm_up)
        stressed = _stressed(return_e9, warm_up)
        out = np.empty_like(plain)
        before = np.zeros(plain.shape[1], np.int64)
        for day in range(len(plain)):
            out[day] = moderated(tools, plain[day], long_run[day], stressed[day], before)
            before = out[day]
        return out

    return margins


def _long_run(return_e9: Int64Array, warm_up: int) -> Int64Array:
    """Root of the mean square of the `warm_up` returns before each day."""
    squares = np.cumsum(return_e9.astype(np.float64) ** 2, axis=0)
    squares = np.concatenate((np.zeros((1, squares.shape[1])), squares))
    window = squares[warm_up:-1] - squares[: -warm_up - 1]
    return (np.sqrt(window / warm_up) * _SCALE).astype(np.int64)


def _stressed(return_e9: Int64Array, warm_up: int) -> Int64Array:
    """Volatility of the warm-up's most turbulent quarter of a year: a fixed stressed period."""
    quarter = 63
    squares = return_e9[:warm_up].astype(np.float64) ** 2
    totals = np.cumsum(squares, axis=0)
    worst = (totals[quarter:] - totals[:-quarter]).max(axis=0)
    level = (np.sqrt(worst / quarter) * _SCALE).astype(np.int64)
    return np.tile(level, (len(return_e9) - warm_up, 1))


def _shipped(bounded: bool = False, **parts: Any) -> Model:
    """The rule of `ps-1-dynamic` on an EWMA .97 of daily moves, with these tools and no others.

    `parts` replace fields of its section `dynamic`; tools left out are off, and so are the bounds
    unless `bounded`. One cycle a day. The long run forgets `SLOWER` times as slowly.
    """
    shipped = load_preset("ps-1-dynamic")
    decay_ppb = 97 * RATE_SCALE // 100
    off: dict[str, Any] = {
        "stress_weight_ppb": 0, "buffer_ppb": 0, "floor_share_ppb": 0,
        "cycle_rise_ppb": NO_CAP_PPB, "day_rise_ppb": NO_CAP_PPB,
    }  # fmt: skip
    section = msgspec.structs.replace(
        shipped.dynamic, period_s=DAY_S, implied=None, ewma=EwmaRule(decay_ppb=decay_ppb),
        long_run_decay_ppb=RATE_SCALE - (RATE_SCALE - decay_ppb) // SLOWER, **{**off, **parts},
    )  # fmt: skip
    preset = msgspec.structs.replace(shipped, dynamic=section)

    def margins(return_e9: Int64Array, warm_up: int) -> Int64Array:
        paths = return_e9.shape[1]
        terms = range_terms(preset, ("BTC",) * paths)
        if not bounded:
            free = np.ones(paths, np.int64)
            terms = msgspec.structs.replace(terms, least_e9=free, most_e9=free * 10 * RATE_SCALE)
        opening = _opening(return_e9)
        fast, slow = (
            run(each, start(each, opening), return_e9)[warm_up:-1].tolist()
            for each in (terms.forecasters[0], Ewma(section.long_run_decay_ppb))
        )
        now = targets_e9(terms, fast[0], slow[0]).tolist()
        out = np.empty((len(fast), paths), np.int64)
        for day, (variance, long_run) in enumerate(zip(fast, slow, strict=True)):
            target = targets_e9(terms, variance, long_run).tolist()
            now = [
                capped(before, wanted, before, section)  # a day has one cycle
                for before, wanted in zip(now, target, strict=True)
            ]
            out[day] = now
        return out * _SCALE

    return margins


def _shipped_rows() -> dict[str, Model]:
    """The shipped rule with each of its own tools alone, with all, and within its bounds."""
    dynamic = load_preset("ps-1-dynamic").dynamic
    check(dynamic is not None, "study: a preset whose ranges move")
    tools = {
        "buffer": ("buffer_ppb",),
        "stressed weight": ("stress_weight_ppb",),
        "long-run floor": ("floor_share_ppb",),
        "cap a cycle": ("cycle_rise_ppb",),
        "cap a day": ("day_rise_ppb",),
    }
    keys = {name: {key: getattr(dynamic, key) for key in row} for name, row in tools.items()}
    # with a cycle a day the cap of a cycle would be one of 2 % a day: that of a day stands for both
    every = {key: value for row in keys.values() for key, value in row.items()}
    every["cycle_rise_ppb"] = NO_CAP_PPB
    return {
        **{f"shipped rule, {name}": _shipped(**row) for name, row in keys.items()},
        "shipped rule, all tools": _shipped(**every),
        "shipped rule, tools and bounds": _shipped(bounded=True, **every),
    }


def models() -> dict[str, Model]:
    """The rows of the table: filters of different memory, then .97 with each tool.

    First tools in full: 25 %, the whole long-run level, 5 % a day; then those of `ps-1-dynamic`
    as it ships.
    """
    ewma = {f"EWMA .{share}": _ewma(share * RATE_SCALE // 100) for share in (94, 97, 99)}
    plain = ewma[PLAIN]
    tools = {
        "25 % buffer": Tools(buffer_ppb=RATE_SCALE // 4),
        "25 % stress weight": Tools(stress_weight_ppb=RATE_SCALE // 4),
        "long-run floor": Tools(floor_share_ppb=RATE_SCALE),
        "rise at most 5 % a day": Tools(period_rise_ppb=RATE_SCALE // 20),
    }
    return {
        **ewma,
        "HS 500 days": _historical(500, 0.99),
        **{f"{PLAIN} + {name}": _with_tools(plain, tool) for name, tool in tools.items()},
        **_shipped_rows(),
        "flat (whole path)": _flat,
    }


def _multiple(size_e12: Float64Array, margin: Int64Array, breach_share: float) -> float:
    """The factor on `margin` at which that share of all days is breached."""
    return float(np.quantile(size_e12 / margin, 1 - breach_share))


def _row(
    name: str, model: Model, return_e9: Int64Array, stepped_e9: Int64Array, path: Path, share: float
) -> Row:
    margin = model(return_e9, path.warm_up)
    size = np.abs(return_e9[path.warm_up :]).astype(np.float64) * _SCALE
    multiple = _multiple(size, margin, share)
    charged = margin * multiple
    breached = size > charged
    passed = [
        kupiec(int(count), path.days, share).is_passed for count in breached.sum(axis=0).tolist()
    ]
    after = model(stepped_e9, path.warm_up)[path.days // 2 - 1 :]
    before = margin[path.days // 2 - 1 :]
    response = tuple(float(np.mean(after[day] / before[day])) for day in STEPS)
    unit = _SCALE * RATE_SCALE
    return Row(
        name,
        multiple,
        float(breached.mean()),
        float(np.mean(passed)),
        float(np.median(peak_to_trough(margin))),
        tuple(float(np.median(largest_rise(margin, days))) for days in RISES),
        float(charged.mean()) / unit,
        float((size - charged)[breached].mean()) / unit,
        response,
    )


def study(
    seed: int, path: Path | None = None, breach_share: float = 0.01,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:  # fmt: skip
    """One row a model, all at `breach_share`, on the same simulated paths of `seed`.

    `response`: how many times its undisturbed level a margin is 1, 5, 20 and 60 days after the
    volatility of the market doubled in the middle of the path.
    """
    path = path or Path()
    return_e9 = simulated_returns_e9(path, seed)
    stepped_e9 = simulated_returns_e9(path, seed, path.days // 2)
    rows = []
    for name, model in models().items():
        rows.append(_row(name, model, return_e9, stepped_e9, path, breach_share))
        if progress is not None:
            progress(name)
    return rows
