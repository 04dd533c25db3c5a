"""Black-76: its own identities, and one set of bits in every mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from margin import black76
from tests.reference.random_options import Floats, Options, random_options

ROOT = Path(__file__).resolve().parents[2]
CASES = 10_000

# Prints a digest of the prices, Greeks and implied volatilities of 1,500 options. Only uniform
# numbers are drawn: other distributions would bring the C library's last bits in.
BITS_PROGRAM = """
import hashlib
import numpy as np
from margin import black76
draw = np.random.default_rng(7)
n = 1500
forward = draw.uniform(1e3, 1e5, n)
strike = forward * draw.uniform(0.3, 3.0, n)
volatility = draw.uniform(0.05, 2.0, n)
years = draw.uniform(0.0, 2.0, n)
years[:100] = draw.uniform(0.0, 1e-5, 100)
years[:10] = 0.0
strike[:5] = forward[:5]
discount = 1.0 - 0.05 * years
is_call = draw.random(n) < 0.5
greeks, cold, near = np.empty((5, n)), np.empty(n), np.empty(n)
black76.price_and_greeks_into(forward, strike, volatility, years, discount, is_call, greeks)
prices = greeks[0].copy()
black76.implied_volatility_into(prices, forward, strike, years, discount, is_call, cold)
guess = volatility * draw.uniform(0.97, 1.03, n)
black76.implied_volatility_near_into(
    prices, forward, strike, years, discount, is_call, guess, near
)
digest = hashlib.sha256(greeks.tobytes())
for result in (cold, near):
    digest.update(np.isnan(result).tobytes() + np.nan_to_num(result, nan=-1.0).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("seed", [4])
def test_a_call_less_a_put_is_the_discounted_forward_less_the_strike(seed: int) -> None:
    """Worst difference measured: 4.1e-16 of discount * max(forward, strike)."""
    options = random_options(seed, CASES)
    everything = np.ones(CASES, dtype=np.bool_)
    calls = Options(*options.columns()[:5], everything).prices()
    puts = Options(*options.columns()[:5], ~everything).prices()
    parity = options.discount * (options.forward - options.strike)
    scale = options.discount * np.maximum(options.forward, options.strike)
    assert np.all(np.abs(calls - puts - parity) <= 1e-15 * scale)


@pytest.mark.parametrize("seed", [5])
def test_greeks_are_the_slopes_of_the_price(seed: int) -> None:
    options = random_options(seed, 2_000)
    forward, strike, volatility, years, discount, is_call = options.columns()
    _, delta, gamma, vega, theta = options.greeks()
    deviation = volatility * np.sqrt(years)

    def moved(forward: Floats, volatility: Floats, years: Floats) -> Options:
        rate = -np.log(discount) / options.years
        return Options(forward, strike, volatility, years, np.exp(-rate * years), is_call)

    def error(slope: Floats, up: Floats, down: Floats, step: Floats) -> float:
        return float(np.max(np.abs(slope - (up - down) / (2.0 * step))))

    # Steps are a share of each option's own deviation; the errors are made dimensionless.
    step = 1e-4 * forward * deviation
    up, down = moved(forward + step, volatility, years), moved(forward - step, volatility, years)
    assert error(delta, up.prices(), down.prices(), step) < 1e-8
    curvature = (up.greeks()[1] - down.greeks()[1]) / (2.0 * step)
    assert np.max(np.abs(gamma - curvature) * forward * deviation) < 1e-7
    step = 1e-4 * volatility
    up, down = moved(forward, volatility + step, years), moved(forward, volatility - step, years)
    slope = (up.prices() - down.prices()) / (2.0 * step)
    assert np.max(np.abs(vega - slope) / (forward * np.sqrt(years))) < 1e-7
    step = 1e-4 * years
    up, down = moved(forward, volatility, years + step), moved(forward, volatility, years - step)
    slope = (up.prices() - down.prices()) / (2.0 * step)
    assert np.max(np.abs(theta + slope) / (forward * deviation / years)) < 1e-6


@pytest.mark.parametrize("years", [0.0, -1.0])
@pytest.mark.parametrize(
    ("strike", "is_call", "value", "delta"),
    [
        (90.0, True, 5.0, 0.5),
        (110.0, True, 0.0, 0.0),
        (100.0, True, 0.0, 0.25),
        (90.0, False, 0.0, 0.0),
        (110.0, False, 5.0, -0.5),
        (100.0, False, 0.0, -0.25),
    ],
)
def test_an_expired_option_is_worth_its_discounted_intrinsic_value(
    years: float, strike: float, is_call: bool, value: float, delta: float
) -> None:
    result = black76.price_and_greeks(100.0, strike, 0.8, years, 0.5, is_call)
    assert result == (value, delta, 0.0, 0.0, 0.0)
    assert black76.price(100.0, strike, 0.8, years, 0.5, is_call) == value


def test_without_volatility_the_value_is_intrinsic_and_theta_is_the_rate() -> None:
    value, delta, gamma, vega, theta = black76.price_and_greeks(100.0, 90.0, 0.0, 2.0, 0.5, True)
    assert (value, delta, gamma, vega) == (5.0, 0.5, 0.0, 0.0)
    assert theta == pytest.approx(5.0 * np.log(2.0) / 2.0, rel=1e-15)


def test_a_forward_of_zero_makes_a_put_worth_its_strike() -> None:
    assert black76.price(0.0, 100.0, 0.8, 0.5, 0.9, False) == 90.0
    assert black76.price_and_greeks(0.0, 100.0, 0.8, 0.5, 0.9, True) == (0.0,) * 3 + (0.0, 0.0)


def test_a_missing_number_is_not_hidden() -> None:
    assert np.isnan(black76.price(np.nan, 100.0, 0.8, 0.5, 0.9, True))
    assert np.isnan(black76.price(100.0, 100.0, 0.8, 0.5, np.nan, True))
    assert np.isnan(black76.price_and_greeks(np.nan, 100.0, 0.8, 0.5, 0.9, True)[0])


@pytest.mark.parametrize("seed", [6])
def test_implied_volatility_returns_the_volatility_of_the_price(seed: int) -> None:
    """The error is what one rounding of the price is worth in volatility, a few times."""
    options = random_options(seed, CASES)
    prices = options.prices()
    implied = np.empty(CASES)
    forward, strike, volatility, years, discount, is_call = options.columns()
    black76.implied_volatility_into(prices, forward, strike, years, discount, is_call, implied)
    found = ~np.isnan(implied)
    vega = options.greeks()[3]
    scale = discount * np.maximum(forward, strike)
    allowed = 1e-14 * volatility + 1e-15 * scale / vega
    assert np.all(np.abs(implied - volatility)[found] <= allowed[found])
    intrinsic = np.maximum(np.where(is_call, 1.0, -1.0) * (forward - strike), 0.0)
    assert np.all(found | (prices / discount - intrinsic <= 1e-14 * intrinsic))


@pytest.mark.parametrize("seed", [9])
def test_three_steps_from_a_guess_three_per_cent_off_reach_the_full_solution(seed: int) -> None:
    """Worst difference measured: 1.3e-13 of the result, where vega says something (> 1e-3)."""
    options = random_options(seed, CASES)
    prices = options.prices()
    forward, strike, volatility, years, discount, is_call = options.columns()
    full, near = np.empty(CASES), np.empty(CASES)
    table = (prices, forward, strike, years, discount, is_call)
    black76.implied_volatility_into(*table, full)
    guess = volatility * np.random.default_rng(seed).uniform(0.97, 1.03, CASES)
    black76.implied_volatility_near_into(*table, guess, near)
    vega_share = options.greeks()[3] * volatility / (discount * np.maximum(forward, strike))
    resolved = vega_share > 1e-6
    assert resolved.sum() > 0.9 * CASES
    assert np.all(np.abs(near - full)[resolved] <= 1e-12 * full[resolved] / vega_share[resolved])
    assert np.max(np.abs(near / full - 1.0)[vega_share > 1e-3]) < 1e-12
    assert np.all(np.isnan(near[np.isnan(full)]))


def test_a_guess_too_far_off_is_reported_as_nan_and_never_as_a_wrong_number() -> None:
    price = black76.price(100.0, 150.0, 0.5, 0.5, 1.0, True)
    arguments = (price, 100.0, 150.0, 0.5, 1.0, True)
    for guess in np.geomspace(1e-3, 20.0, 200):
        found = black76.implied_volatility_near(*arguments, guess)
        assert np.isnan(found) or found == pytest.approx(0.5, rel=1e-9)
    assert np.isnan(black76.implied_volatility_near(*arguments, 20.0))
    assert np.isnan(black76.implied_volatility_near(*arguments, np.nan))
    assert np.isnan(black76.implied_volatility_near(*arguments, 0.0))


@pytest.mark.parametrize(
    ("price", "is_call", "years"),
    [
        (0.0, True, 0.5),  # out of the money, no value
        (27.0, False, 0.5),  # exactly the discounted intrinsic value
        (np.nextafter(27.0, 30.0), False, 0.5),  # above it by less than rounding
        (26.0, False, 0.5),  # below it
        (90.0, True, 0.5),  # the discounted forward
        (117.0, False, 0.5),  # the discounted strike
        (5.0, True, 0.0),  # expired
        (np.nan, True, 0.5),
    ],
)
def test_a_price_that_no_volatility_gives_has_none(
    price: float, is_call: bool, years: float
) -> None:
    assert np.isnan(black76.implied_volatility(price, 100.0, 130.0, years, 0.9, is_call))
    assert np.isnan(black76.implied_volatility_near(price, 100.0, 130.0, years, 0.9, is_call, 0.5))


def test_columns_of_different_lengths_are_refused() -> None:
    three, two = np.ones(3), np.ones(2)
    calls = np.ones(3, dtype=np.bool_)
    with pytest.raises(ValueError, match="same length"):
        black76.price_into(three, two, three, three, three, calls, np.empty(3))
    with pytest.raises(ValueError, match="one element per option"):
        black76.price_into(three, three, three, three, three, calls, np.empty(2))
    with pytest.raises(ValueError, match="five rows"):
        black76.price_and_greeks_into(three, three, three, three, three, calls, np.empty((4, 3)))


def test_the_price_kernel_gives_the_bits_of_the_price_among_the_greeks() -> None:
    options = random_options(11, CASES)
    assert options.prices().tobytes() == options.greeks()[0].tobytes()


def test_one_thread_gives_the_bits_of_all_threads() -> None:
    options = random_options(10, CASES)
    threads = numba.get_num_threads()
    together = options.greeks()
    numba.set_num_threads(1)
    try:
        alone = options.greeks()
    finally:
        numba.set_num_threads(threads)
    assert together.tobytes() == alone.tobytes()


def _bits(**settings: str) -> str:
    """The digest printed by a fresh interpreter with these environment settings."""
    command = [sys.executable, "-W", "error", "-c", BITS_PROGRAM]
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def native_bits() -> str:
    return _bits()


def test_interpreted_code_gives_the_same_bits_without_a_warning(native_bits: str) -> None:
    assert _bits(NUMBA_DISABLE_JIT="1") == native_bits


@pytest.mark.parametrize(
    "settings",
    [
        {"NUMBA_NUM_THREADS": "1"},
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F,-SSE4_2,-ERMS"},
    ],
    ids=["one thread", "plain libm"],
)
def test_threads_and_libm_change_no_bit(native_bits: str, settings: dict[str, str]) -> None:
    assert _bits(**settings) == native_bits


def test_a_generic_processor_gives_the_same_bits(native_bits: str, tmp_path: Path) -> None:
    assert _bits(NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(tmp_path)) == native_bits
