"""Black-76: price with four Greeks, and implied volatility, against numpy with scipy's ndtr."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from margin import black76
from margin.invariant import check
from tests.benchmarks.conditions import Timing, in_turn, rates

Floats = npt.NDArray[np.float64]
INVERSE_SQRT_2PI = 0.3989422804014327
ROUNDS = 15
HALLEY_STEPS = 3


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


def _numpy_implied_volatility(
    price: Floats,
    forward: Floats,
    strike: Floats,
    years: Floats,
    discount: Floats,
    is_call: npt.NDArray[np.bool_],
    guess: Floats,
) -> Floats:
    """The same three Halley steps from the same guess, with array expressions."""
    lower = np.minimum(forward, strike)
    intrinsic = np.maximum(np.where(is_call, forward - strike, strike - forward), 0.0)
    target = (price / discount - intrinsic) / lower
    log_ratio = np.abs(np.log(forward / strike))
    ratio = np.exp(log_ratio)
    deviation = guess * np.sqrt(years)
    for _ in range(HALLEY_STEPS):
        d1 = 0.5 * deviation - log_ratio / deviation
        d2 = d1 - deviation
        newton = (ndtr(d1) - ratio * ndtr(d2) - target) / (
            INVERSE_SQRT_2PI * np.exp(-0.5 * d1 * d1)
        )
        deviation -= newton / (1.0 - 0.5 * newton * (d1 * d2 / deviation))
    return deviation / np.sqrt(years)


def _check_agreement(ours: Floats, theirs: Floats) -> None:
    """Both did the work: every result agrees to 1e-9 of its size (of a millionth of the column's).

    The floor is for theta, which crosses zero.
    """
    scale = np.maximum(np.abs(theirs), 1e-6 * np.abs(theirs).max(axis=1, keepdims=True))
    check(np.all(np.abs(ours - theirs) <= 1e-9 * scale), "the two implementations disagree")


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows for the benchmark table, in million options per second; `quick` for a smoke test."""
    count, rounds = (100_000, 2) if quick else (1_000_000, ROUNDS)
    table = _table(count)
    black76.warm_up()
    out = np.empty((black76.GREEK_ROWS, count))
    ours, theirs = in_turn(
        rounds,
        lambda: black76.price_and_greeks_into(*table, out),
        lambda: _numpy_price_and_greeks(*table),
    )
    _check_agreement(out, np.stack(theirs.result))
    conditions = f"{count:,} random options, strikes within two deviations; baseline on one thread"
    return [
        rates(
            "Black-76 price + 4 Greeks", count, "options", ours, theirs,
            "numpy + scipy.special.ndtr", conditions,
        ),
        _implied_row(table, out[0].copy(), rounds, conditions),
    ]  # fmt: skip


def _implied_row(
    table: tuple[npt.NDArray, ...], price: Floats, rounds: int, conditions: str
) -> dict[str, Any]:
    """Implied volatility from guesses up to 3 % off; every one is found, to 1e-10."""
    forward, strike, volatility, years, discount, is_call = table
    guess = volatility * np.random.default_rng().uniform(0.97, 1.03, len(price))
    near = np.empty(len(price))
    columns = price, forward, strike, years, discount, is_call, guess
    timings: list[Timing] = in_turn(
        rounds,
        lambda: black76.implied_volatility_near_into(*columns, near),
        lambda: _numpy_implied_volatility(*columns),
    )
    check(not np.isnan(near).any(), "an implied volatility was not found")
    worst = float(np.abs(near - volatility).max())
    check(worst <= 1e-10, "an implied volatility is off")
    check(np.abs(timings[1].result - volatility).max() <= 1e-8, "the baseline did not converge")
    return rates(
        "implied volatility, warm", len(price), "options", timings[0], timings[1],
        "numpy + ndtr, same steps",
        f"{conditions}; guesses within 3 %, three Halley steps, worst error {worst:.1e}",
    )  # fmt: skip


if __name__ == "__main__":
    for row in run():
        print(row)
