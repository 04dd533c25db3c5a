"""Black-76 price and four Greeks: the compiled kernel against numpy with scipy's ndtr."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from margin import black76

Floats = npt.NDArray[np.float64]
INVERSE_SQRT_2PI = 0.3989422804014327
ROUNDS = 7


def _table(count: int) -> tuple[npt.NDArray, ...]:
    """Fresh random options, different in every run: strikes within two deviations."""
    draw = np.random.default_rng()
    forward = draw.uniform(1e4, 1e5, count)
    volatility = draw.uniform(0.2, 1.5, count)
    years = draw.uniform(0.003, 1.0, count)
    strike = forward * np.exp(draw.uniform(-2.0, 2.0, count) * volatility * np.sqrt(years))
    discount = np.exp(-0.05 * years)
    return forward, strike, volatility, years, discount, draw.random(count) < 0.5


def _numpy_price_and_greeks(
    forward: Floats,
    strike: Floats,
    volatility: Floats,
    years: Floats,
    discount: Floats,
    is_call: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The same five results with array expressions, written for speed."""
    root_years = np.sqrt(years)
    deviation = volatility * root_years
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    sign = np.where(is_call, 1.0, -1.0)
    probability1 = ndtr(sign * d1)
    probability2 = ndtr(sign * (d1 - deviation))
    density = discount * np.exp(-0.5 * d1 * d1) * INVERSE_SQRT_2PI
    signed_discount = discount * sign
    price = signed_discount * (forward * probability1 - strike * probability2)
    vega = forward * density * root_years
    theta = -(0.5 * vega * volatility + np.log(discount) * price) / years
    gamma = density / (forward * deviation)
    return price, signed_discount * probability1, gamma, vega, theta


def _best_seconds(work: Callable[[], object], rounds: int) -> float:
    """Shortest of several runs."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _check_agreement(ours: Floats, theirs: Floats) -> None:
    """Both did the work: every result agrees to 1e-9 of its size (of a millionth of the column's).

    The floor is for theta, which crosses zero.
    """
    scale = np.maximum(np.abs(theirs), 1e-6 * np.abs(theirs).max(axis=1, keepdims=True))
    if not np.all(np.abs(ours - theirs) <= 1e-9 * scale):
        raise AssertionError("the two implementations disagree")


def run(quick: bool = False) -> list[dict]:
    """Rows for the benchmark table, in million options per second; `quick` for a smoke test."""
    count = 100_000 if quick else 1_000_000
    rounds = 2 if quick else ROUNDS
    table = _table(count)
    black76.warm_up()
    out = np.empty((black76.GREEK_ROWS, count))
    ours = theirs = float("inf")
    for _ in range(1 if quick else 3):  # alternate, so that a busy moment hits both
        kernel = _best_seconds(lambda: black76.price_and_greeks_into(*table, out), rounds)
        arrays = _best_seconds(lambda: _numpy_price_and_greeks(*table), rounds)
        ours, theirs = min(ours, kernel), min(theirs, arrays)
    _check_agreement(out, np.stack(_numpy_price_and_greeks(*table)))
    conditions = (
        f"{count:,} random options, best of {rounds if quick else 3 * rounds}, "
        f"{numba.get_num_threads()} threads (baseline: one), "
        f"{platform.machine()} Python {platform.python_version()}"
    )
    return [
        {
            "name": "Black-76 price + 4 Greeks",
            "ours": count / ours / 1e6,
            "baseline": count / theirs / 1e6,
            "unit": "M options/s",
            "ratio": theirs / ours,
            "baseline_name": "numpy + scipy.special.ndtr",
            "conditions": conditions,
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
