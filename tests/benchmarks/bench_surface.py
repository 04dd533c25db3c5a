"""Volatility surfaces fitted to recorded option chains, against raw SVI expiry by expiry.

The chains are Deribit's BTC and ETH options of 61 moments of 2026, 47 of them through a crash. They
are not part of the repository; without them one made-up chain is fitted. Tables of errors and of
arbitrage go to the terminal, the times to the rows.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from exchange.surface.arbitrage import (
    CALENDAR_ROUNDING,
    GRID_POINTS,
    UNIT_GRID,
    grid_width,
    violations,
)
from exchange.surface.fit import fit_surface, middle
from exchange.surface.quotes import (
    ASK_E9,
    BID_E9,
    EXPIRY,
    LOG_MONEYNESS_E9,
    NO_ASK_E9,
    NO_BID_E9,
    Quotes,
    quotes_of,
    weights,
)
from exchange.surface.ssvi import total_variance
from exchange.surface.surface import Origin, Surface, parameters
from margin.black76 import implied_volatility
from margin.fixed_point import NS_PER_YEAR, RATE_SCALE

Floats = npt.NDArray[np.float64]
FOLDER = "deribit_option_snapshots_2026"
SCALE = 0.005  # the half point beyond which both fits count a residual by its size
NEAR = 1.5  # deviations from the money within which errors are told
TERMS = ((0, 2), (2, 7), (7, 30), (30, 90), (90, 10**4))  # days to expiry
EVERY = 4  # of the recorded moments, so that the baseline takes a minute


class Chain(NamedTuple):
    """One currency's options out of the money at one moment; Deribit's own mark volatilities."""

    name: str
    quotes: Quotes
    marks: Floats


def snapshot_files() -> list[Path]:
    """The recorded chains under $UNCROSS_DATA or ../shared/data beside the checkout, by time."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("UNCROSS_DATA", beside)) / FOLDER
    return sorted(folder.glob("*/*.csv.gz"), key=lambda path: path.name)


def _time_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * RATE_SCALE


def _volatility(price: float, forward: float, strike: float, years: float, is_call: bool) -> float:
    """Of a price in coin, which Deribit quotes: the price in dollars over the forward."""
    if not price > 0:
        return math.nan
    return float(implied_volatility(price * forward, forward, strike, years, 1.0, is_call))


def read_chain(path: Path, currency: str) -> Chain:
    """The quotes of one snapshot. A bid that implies nothing is none, so is an ask."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["currency"] == currency]
    now = _time_ns(lines[0]["timestamp"])
    expiries = sorted({_time_ns(line["expiry_datetime"]) for line in lines})
    number = {expiry: at for at, expiry in enumerate(expiries)}
    rows, marks = [], []
    for line in lines:
        strike, forward = float(line["strike"]), float(line["underlying"])
        is_call, expiry = line["option_type"] == "call", _time_ns(line["expiry_datetime"])
        if (strike > forward) != is_call:
            continue
        years = (expiry - now) / NS_PER_YEAR
        bid, ask = (
            _volatility(float(line[side] or 0), forward, strike, years, is_call)
            for side in ("bid_price", "ask_price")
        )
        if not (bid == bid or ask == ask):
            continue
        low = round(bid * RATE_SCALE) if bid == bid else NO_BID_E9
        high = min(round(ask * RATE_SCALE), NO_ASK_E9) if ask == ask else NO_ASK_E9
        k = round(math.log(strike / forward) * RATE_SCALE)
        if low <= high and (low > NO_BID_E9 or high < NO_ASK_E9) and expiry > now:
            rows.append((number[expiry], k, low, high, 10**6, 0))
            marks.append(float(line["implied_volatility"]))
    name = f"{currency} {lines[0]['timestamp'][:10]}"
    return Chain(name, quotes_of(now, expiries, rows), np.array(marks))


def made_up_chain() -> Chain:
    """Eight expiries of 17 quotes around a smile that is no SSVI, three in ten of them stale."""
    draw, now = np.random.default_rng(11), 10**18
    days = np.array([2, 5, 9, 16, 30, 60, 150, 365])
    expiries = [now + int(day) * 86_400 * RATE_SCALE for day in days]
    rows, marks = [], []
    for number, years in enumerate(days / 365):
        for k in np.linspace(-2.2, 2.2, 17) * np.sqrt(years) * 0.6:
            shifted = k - (0.03 - 0.01 * number) * np.sqrt(years)
            curve = (0.3 - 0.1 * number) * shifted + np.sqrt(shifted**2 + 0.0625 * years)
            mark = float(np.sqrt(0.2232 + 0.21 * curve / np.sqrt(years)))
            stale = 0.03 * draw.choice([-1, 1]) if draw.random() < 0.3 else 0.0
            level = mark + draw.normal(0.0, 0.004) + stale
            rows.append((number, *(round(x * RATE_SCALE) for x in (k, level, level)), 10**6, 0))
            marks.append(mark)
    return Chain("made up", quotes_of(now, expiries, rows), np.array(marks))


def chains(quick: bool) -> list[Chain]:
    """What is fitted: every fourth recorded moment, or one chain, or the made-up one."""
    files = snapshot_files()
    if not files:
        return [made_up_chain()]
    return [
        read_chain(path, currency)
        for path in (files[20:21] if quick else files[::EVERY])
        for currency in ("BTC", "ETH")[: 1 if quick else 2]
    ]


def model_of(surface: Surface, quotes: Quotes) -> Floats:
    """The surface's volatility at each quote."""
    at, expiry = parameters(surface, quotes.time_ns), quotes.table[EXPIRY]
    k = quotes.table[LOG_MONEYNESS_E9] / RATE_SCALE
    variance = total_variance(k, at.theta[expiry], at.rho[expiry], at.phi[expiry])
    return np.sqrt(variance / at.years[expiry])


def raw_variance(p: Floats, k: Floats) -> Floats:
    """Raw SVI a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), p = (a, b, rho, m, sigma)."""
    a, b, rho, m, sigma = p
    return a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + sigma**2))


def fit_raw_svi(quotes: Quotes) -> list[Floats]:
    """The five parameters of each expiry by itself: soft-L1 to the middle, the same weights."""
    years, found = quotes.years(), []
    level, weight = middle(quotes), weights(quotes.table)
    for number in range(len(years)):
        mine = quotes.table[EXPIRY] == number
        k, mid = quotes.table[LOG_MONEYNESS_E9][mine] / RATE_SCALE, level[mine]
        root, year = np.sqrt(weight[mine]), years[number]
        money = float(np.median(mid[np.argsort(np.abs(k))[:5]])) ** 2 * year if k.size else 1.0

        def miss(p: Floats, k=k, mid=mid, root=root, year=year) -> Floats:
            variance = np.maximum(raw_variance(p, k), 1e-12)
            return root * (np.sqrt(variance / year) - mid)

        width = math.sqrt(money)
        start = (0.7 * money, 0.3 * width, -0.1, 0.0, 0.3 * width)
        fit = least_squares(
            miss, start, loss="soft_l1", f_scale=SCALE, max_nfev=500, x_scale="jac",
            bounds=((-1, 0, -0.999, -2, 1e-4), (4, 10, 0.999, 2, 5)),
        )  # fmt: skip
        found.append(fit.x)
    return found


def raw_crossings(slices: list[Floats], theta: Floats) -> int:
    """Points of the common grid where total variance falls from one expiry to the next."""
    k = UNIT_GRID * grid_width(theta)
    variance = np.stack([raw_variance(p, k) for p in slices])
    assert variance.shape == (len(slices), GRID_POINTS)
    return int((variance[1:] < variance[:-1] - CALENDAR_ROUNDING).sum())


class Errors(NamedTuple):
    """Of one chain, quote by quote: distance of a model from middle and mark, in points."""

    name: str
    days: Floats
    to_middle: Floats
    to_mark: Floats


def errors_of(chain: Chain, model: Floats) -> Errors:
    """Errors of the two-sided quotes within `NEAR` deviations of the money."""
    table, years = chain.quotes.table, chain.quotes.years()[chain.quotes.table[EXPIRY]]
    both = (table[BID_E9] > NO_BID_E9) & (table[ASK_E9] < NO_ASK_E9)
    near = np.abs(table[LOG_MONEYNESS_E9] / RATE_SCALE) < NEAR * chain.marks * np.sqrt(years)
    use = both & near
    distance = 100 * np.abs(model - middle(chain.quotes))[use]
    return Errors(chain.name, years[use] * 365, distance, 100 * np.abs(model - chain.marks)[use])


def _line(label: str, ours: list[Errors], raw: list[Errors]) -> str:
    def columns(found: list[Errors], keep: Callable[[Errors], npt.NDArray[np.bool_]]) -> str:
        middle_, mark = (
            np.concatenate([values[keep(e)] for e, values in zip(found, rows, strict=True)])
            for rows in ([e.to_middle for e in found], [e.to_mark for e in found])
        )
        if not middle_.size:
            return f"{'-':>30}"
        figures = (*np.quantile(middle_, (0.5, 0.95)), *np.quantile(mark, (0.5, 0.95)))
        return " ".join(f"{x:7.2f}" for x in figures)

    def all_of(errors: Errors) -> npt.NDArray[np.bool_]:
        return np.ones(errors.days.size, bool)

    return f"{label:16} {columns(ours, all_of)}   {columns(raw, all_of)}"


def _within(found: list[Errors], low: float, high: float) -> list[Errors]:
    return [Errors(e.name, *(x[(e.days >= low) & (e.days < high)] for x in e[1:])) for e in found]


def print_errors(ours: list[Errors], raw: list[Errors]) -> None:
    """Two tables, by time to expiry and by day: median and 95 % quantile in volatility points."""
    heading = "   mid 50%     95%  mark 50%    95%"
    lines = [f"{'':16}{'surface':>33} {'raw SVI by expiry':>33}", f"{'':14}{heading}{heading}"]
    for low, high in TERMS:
        label = f"{low} to {high} days" if high < 1000 else f"{low} days and more"
        lines.append(_line(label, _within(ours, low, high), _within(raw, low, high)))
    for name in dict.fromkeys(e.name for e in ours):
        own = ([e for e in found if e.name == name] for found in (ours, raw))
        lines.append(_line(name, *own))
    print("\n".join(lines), file=sys.stderr)


def _best_ms(work: Callable[[], object], rounds: int) -> float:
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def _row(name: str, ours: float, baseline: float, conditions: str) -> dict[str, object]:
    return {
        "name": name, "ours": ours, "baseline": baseline, "unit": "ms", "ratio": ours / baseline,
        "baseline_name": "raw SVI an expiry, scipy soft-L1", "conditions": conditions,
    }  # fmt: skip


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for the benchmark table, mean milliseconds a surface; errors go to standard error.

    A surface that allows arbitrage on the grid is no result and raises.
    """
    rounds, found = 1 if quick else 3, chains(quick)
    ours, raw, cold, warm, slices = [], [], [], [], []
    refused = crossings = 0
    previous: dict[str, Surface] = {}
    fit_surface(found[0].quotes, None)
    for chain in found:
        quotes = chain.quotes
        cold.append(_best_ms(lambda q=quotes: fit_surface(q, None), rounds))
        currency = chain.name.split()[0]
        surface = fit_surface(quotes, previous.get(currency))
        previous[currency] = surface
        refused += surface.origin != Origin.FITTED
        at = parameters(surface, quotes.time_ns)
        if not violations(at.theta, at.rho, at.phi).none:
            raise AssertionError(f"{chain.name}: the surface allows arbitrage on the grid")
        warm.append(_best_ms(lambda q=quotes, s=surface: fit_surface(q, s), rounds))
        start = time.perf_counter()
        parts = fit_raw_svi(quotes)
        slices.append(1e3 * (time.perf_counter() - start))
        crossings += raw_crossings(parts, at.theta)
        ours.append(errors_of(chain, model_of(surface, quotes)))
        expiry, k = quotes.table[EXPIRY], quotes.table[LOG_MONEYNESS_E9] / RATE_SCALE
        variance = np.array([raw_variance(parts[e], x) for e, x in zip(expiry, k, strict=True)])
        years = quotes.years()[expiry]
        raw.append(errors_of(chain, np.sqrt(np.maximum(variance, 0) / years)))
    print_errors(ours, raw)
    counted = np.mean([[len(c.quotes.expiries_ns), c.quotes.table.shape[1]] for c in found], axis=0)
    conditions = (
        f"{len(found)} chains ({found[0].name} and on), on average {counted[0]:.0f} expiries and "
        f"{counted[1]:.0f} quotes; {refused} fits refused; grid points with arbitrage: 0, "
        f"raw SVI {crossings} in the calendar; best of {rounds} (baseline: once), "
        f"{platform.machine()} Python {platform.python_version()}"
    )
    baseline = float(np.mean(slices))
    return [
        _row("surface, from nothing", float(np.mean(cold)), baseline, conditions),
        _row("surface, from itself", float(np.mean(warm)), baseline, conditions),
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
