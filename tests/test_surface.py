"""Volatility surfaces: what a fit finds, what it refuses, and what it never allows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from exchange.surface.arbitrage import violations
from exchange.surface.fit import fit_surface, is_free_of_arbitrage, residuals
from exchange.surface.forward import Pair, parity_forward
from exchange.surface.problem import Problem
from exchange.surface.quotes import (
    NO_ASK_E9,
    NO_BID_E9,
    Quotes,
    quotes_of,
    weights,
)
from exchange.surface.ssvi import Floats, curvature, slopes, total_variance, variance_and_density
from exchange.surface.surface import (
    Origin,
    Slice,
    Surface,
    carried,
    flat_surface,
    parameters,
    volatilities,
)
from margin.black76 import price
from margin.fixed_point import RATE_SCALE

NOW = 10**18
DAY_NS = 86_400 * 10**9
DAYS = (2, 5, 9, 16, 30, 60, 150, 365)
EXPIRIES = tuple(NOW + days * DAY_NS for days in DAYS)
YEARS = np.array(DAYS) / 365
POINT = 0.01

Truth = Callable[[int, Floats], Floats]


def ssvi_truth(number: int, k: Floats, eta: float = 0.9, gamma: float = 0.4) -> Floats:
    """A surface of the fitted family: falling term structure, one skew."""
    theta = (0.55 + 0.1 * np.exp(-YEARS / 0.1)) ** 2 * YEARS
    phi = curvature(theta, eta, gamma)
    variance = total_variance(k, theta[number], np.array(-0.3), phi[number])
    return np.sqrt(variance / YEARS[number])


def other_truth(number: int, k: Floats) -> Floats:
    """No SSVI: a skew that changes sign along expiries, minima beside the money."""
    rho, years = np.linspace(0.35, -0.45, len(DAYS))[number], YEARS[number]
    shifted = k - np.linspace(0.03, -0.05, len(DAYS))[number] * np.sqrt(years / YEARS[4])
    hyperbola = rho * shifted + np.sqrt(shifted**2 + 0.0625 * years)
    return np.sqrt(0.2232 + 0.21 * hyperbola / np.sqrt(years))


def strikes(number: int, count: int = 17) -> Floats:
    """Log-moneyness of an expiry's quotes, 2.2 deviations of 60 % to either side."""
    return np.linspace(-2.2, 2.2, count) * np.sqrt(YEARS[number]) * 0.6


def row(number: int, k: float, bid: float, ask: float, size: float = 1, age_s: float = 0) -> tuple:
    return (
        number, round(k * RATE_SCALE), round(bid * RATE_SCALE), round(ask * RATE_SCALE),
        round(size * 10**6), round(age_s * 1000),
    )  # fmt: skip


def prints(truth: Truth, noise: float = 0.0, seed: int = 1, numbers: range = range(8)) -> list:
    """A print at every strike of some expiries."""
    draw = np.random.default_rng(seed)
    found = []
    for number in numbers:
        k = strikes(number)
        level = truth(number, k) + draw.normal(0.0, noise, k.size)
        found += [row(number, x, v, v) for x, v in zip(k, level, strict=True)]
    return found


def fitted(rows: list, previous: Surface | None = None) -> Surface:
    return fit_surface(quotes_of(NOW, EXPIRIES, rows), previous)


def errors(surface: Surface, truth: Truth) -> Floats:
    """Root mean square distance from the truth per expiry, in points."""
    found = []
    for number, expiry in enumerate(EXPIRIES):
        k = strikes(number, 41) * 0.9
        miss = volatilities(surface, NOW, expiry, k) - truth(number, k)
        found.append(np.sqrt(np.mean(miss**2)) / POINT)
    return np.array(found)


def test_known_parameters_are_found() -> None:
    surface = fitted(prints(ssvi_truth))
    assert surface.origin == Origin.FITTED
    assert errors(surface, ssvi_truth).max() < 0.05
    assert [part.rho_e9 / RATE_SCALE for part in surface.slices] == pytest.approx(
        [-0.3] * 8, abs=0.01
    )
    assert surface.eta_e9 / RATE_SCALE == pytest.approx(0.9, abs=0.02)
    assert surface.gamma_e9 / RATE_SCALE == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_a_surface_that_is_no_ssvi_is_met_to_a_point(seed: int) -> None:
    surface = fitted(prints(other_truth, noise=0.004, seed=seed))
    assert surface.origin == Origin.FITTED
    assert errors(surface, other_truth).max() < 1.5
    assert np.median(errors(surface, other_truth)) < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_wild_quotes_does_not_move_the_surface(seed: int) -> None:
    """Every third quote is off by 10 points, by 30 or by 100: it matters little by how much."""
    draw = np.random.default_rng(seed)
    distances = []
    for off in (0.1, 0.3, 1.0):
        rows = prints(ssvi_truth, noise=0.002, seed=seed)
        for at in range(0, len(rows), 3):
            sign = 1 if draw.random() < 0.5 else -1
            level = max(0.02, rows[at][2] / RATE_SCALE + sign * off)
            rows[at] = row(rows[at][0], rows[at][1] / RATE_SCALE, level, level)
        surface = fitted(rows)
        assert surface.origin == Origin.FITTED
        distances.append(np.median(errors(surface, ssvi_truth)))
    assert max(distances) < 0.5


def test_old_quotes_weigh_little_and_spread_ones_too() -> None:
    table = quotes_of(NOW, EXPIRIES, [
        row(0, 0.0, 0.5, 0.5), row(0, 0.0, 0.5, 0.5, age_s=300), row(0, 0.0, 0.5, 0.5, size=2),
        row(0, 0.0, 0.495, 0.505),
    ]).table  # fmt: skip
    weight = weights(table)
    assert weight / weight[0] == pytest.approx([1.0, 0.5, 2.0, 0.25])
    assert weight.mean() == pytest.approx(1.0)


def test_a_stale_chain_yields_to_a_few_fresh_prints() -> None:
    rows = prints(ssvi_truth)
    stale = [(*line[:5], 1_500_000) for line in rows]  # five half-lives
    fresh = [row(4, k, v + 0.04, v + 0.04) for k, v in
             zip(strikes(4), ssvi_truth(4, strikes(4)), strict=True)]  # fmt: skip
    surface = fitted(stale + fresh)
    assert errors(surface, lambda n, k: ssvi_truth(n, k) + 0.04)[4] < 0.3


def test_inside_a_quote_s_span_there_is_no_residual() -> None:
    surface = fitted(prints(ssvi_truth))
    wide = []
    for number in range(8):
        for k, v in zip(strikes(number), ssvi_truth(number, strikes(number)), strict=True):
            wide.append(row(number, k, v - 0.03, v + 0.01))
    quotes = quotes_of(NOW, EXPIRIES, wide)
    assert not residuals(surface, quotes).any()
    again = fit_surface(quotes, surface)
    assert errors(again, ssvi_truth).max() < 0.4, "nothing asks it to move"
    assert residuals(surface, quotes_of(NOW, EXPIRIES, [row(4, 0.0, 0.9, 1.0)]))[0] < -0.2
    assert residuals(surface, quotes_of(NOW, EXPIRIES, [row(4, 0.0, 0.1, 0.2)]))[0] > 0.2


def test_one_sided_quotes_bound_from_one_side() -> None:
    flat = flat_surface(EXPIRIES, 500_000_000)
    offered = [(4, 0, NO_BID_E9, 450_000_000, 10**6, 0)]
    bid = [(4, 0, 450_000_000, NO_ASK_E9, 10**6, 0)]
    assert fitted(offered, flat).slices[4].volatility_e9 < 460_000_000
    assert fitted(bid, flat).slices[4].volatility_e9 == 500_000_000


def test_nonsense_is_left_out_of_a_table() -> None:
    good = row(4, 0.0, 0.5, 0.6)
    bad = [row(4, 0.0, 0.6, 0.5), row(4, 0.0, 0.5, 0.6, size=0), (4, 0, NO_BID_E9, NO_ASK_E9, 1, 0)]
    assert quotes_of(NOW, EXPIRIES, [good, *bad]).table.T.tolist() == [list(good)]
    assert quotes_of(EXPIRIES[4], EXPIRIES, [good]).table.shape == (6, 0)
    assert quotes_of(NOW, EXPIRIES, []).table.shape == (6, 0)


def test_quotes_that_fall_along_expiries_are_refused_and_the_last_surface_is_moved() -> None:
    """Total variance 0.110 at two months and 0.075 at five: half of that would be arbitrage."""
    last = fitted(prints(ssvi_truth))
    rows = prints(lambda n, k: np.full(k.size, 0.9 if n < 6 else 0.42))
    surface = fitted(rows, last)
    assert surface.origin == Origin.SHIFTED
    ratios = [a.volatility_e9 / b.volatility_e9
              for a, b in zip(surface.slices, last.slices, strict=True)]  # fmt: skip
    assert ratios == pytest.approx([ratios[0]] * 8, rel=1e-5), "one factor"
    assert 1.2 < ratios[0] < 1.6
    assert (surface.eta_e9, surface.gamma_e9) == (last.eta_e9, last.gamma_e9)
    assert is_free_of_arbitrage(surface, NOW)


def test_a_small_crossing_is_pressed_out_of_the_fit() -> None:
    """Volatilities that fall as fast as the root of time, and a little faster."""
    rows = prints(lambda n, k: np.full(k.size, 0.5 * float(YEARS[n] / 0.1) ** -0.51))
    surface = fitted(rows)
    assert surface.origin == Origin.FITTED
    assert is_free_of_arbitrage(surface, NOW)
    assert not is_free_of_arbitrage(
        Surface(tuple(Slice(e, round(0.5 * (y / 0.1) ** -0.51 * RATE_SCALE), 0)
                      for e, y in zip(EXPIRIES, YEARS.tolist(), strict=True))), NOW)  # fmt: skip


def test_quotes_without_any_order_are_refused() -> None:
    last = fitted(prints(ssvi_truth))
    draw = np.random.default_rng(5)
    rows = [(n, k, round(v * RATE_SCALE), round(v * RATE_SCALE), s, a)
            for (n, k, _, _, s, a), v in
            zip(prints(ssvi_truth), draw.uniform(0.2, 1.0, 8 * 17), strict=True)]  # fmt: skip
    assert fitted(rows, last).origin == Origin.SHIFTED


def test_without_quotes_the_surface_stands() -> None:
    last = fitted(prints(ssvi_truth))
    assert fitted([], last) == last
    assert fitted([]).slices[0].volatility_e9 == 0, "and without a past there is nothing"


def test_an_expiry_with_four_quotes_has_its_neighbours_rho() -> None:
    few = [line for line in prints(other_truth) if line[0] != 4]
    k = np.array([-0.1, -0.03, 0.03, 0.1])
    four = [row(4, x, v, v) for x, v in zip(k, other_truth(4, k) + 0.02, strict=True)]
    surface = fitted(few + four)
    rho = [part.rho_e9 for part in surface.slices]
    before, here, after = np.sqrt(YEARS[3:6])
    between = rho[3] + (rho[5] - rho[3]) * (here - before) / (after - before)
    assert rho[4] == pytest.approx(between, abs=100_000)
    assert errors(surface, lambda n, k: other_truth(n, k) + 0.02)[4] < 1.0, "but its own level"
    five = [*four, row(4, 0.2, 0.75, 0.75)]
    assert abs(fitted(few + five).slices[4].rho_e9 - between) > 10_000_000


def test_an_expiry_without_quotes_moves_with_its_neighbours() -> None:
    last = fitted(prints(ssvi_truth))
    higher = prints(lambda n, k: ssvi_truth(n, k) * 1.1, numbers=range(4))
    surface = fitted(higher, last)
    moves = [a.volatility_e9 / b.volatility_e9
             for a, b in zip(surface.slices, last.slices, strict=True)]  # fmt: skip
    assert moves[:4] == pytest.approx([1.1] * 4, abs=0.01)
    assert all(1.0 < after < before for before, after in pairwise(moves[3:])), "less the longer"


def test_a_fit_from_its_own_result_stays() -> None:
    rows = prints(other_truth, noise=0.004)
    once = fitted(rows)
    twice = fitted(rows, once)
    assert errors(twice, other_truth) == pytest.approx(errors(once, other_truth), abs=0.1)


def test_the_same_quotes_give_the_same_bytes() -> None:
    rows = prints(other_truth, noise=0.01)
    one, two = fitted(rows), fitted(list(rows))
    assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(two)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Surface) == one


def call_prices(surface: Surface, number: int, k: Floats) -> Floats:
    level = volatilities(surface, NOW, EXPIRIES[number], k)
    years = float(YEARS[number])
    return np.array(
        [price(1.0, float(np.exp(x)), float(v), years, 1.0, True)
         for x, v in zip(k, level, strict=True)]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_marks_fall_and_bend_upward_in_the_strike_and_rise_with_time(seed: int) -> None:
    surface = fitted(prints(other_truth, noise=0.03, seed=seed))
    strike = np.linspace(0.5, 1.9, 141)
    chains = []
    for number in range(8):
        calls = call_prices(surface, number, np.log(strike))
        assert (np.diff(calls) <= 1e-12).all()
        assert (np.diff(calls) >= -np.diff(strike) - 1e-12).all()
        assert (np.diff(calls, 2) >= -1e-12).all()
        chains.append(calls)
    assert all((far >= near - 1e-12).all() for near, far in pairwise(chains))


def test_the_grid_sees_both_kinds_of_arbitrage() -> None:
    theta, rho = np.array([0.04, 0.05]), np.array([-0.3, -0.3])
    phi = curvature(theta, 1.0, 0.4)
    assert violations(theta, rho, phi).none
    assert violations(theta[::-1], rho, phi[::-1]).calendar > 0
    steep = np.array([60.0, 60.0])  # theta phi (1 + |rho|) = 3.1, theta phi^2 (1 + |rho|) = 187
    assert violations(theta, rho, steep).butterfly > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_derivatives_are_those_of_the_differences(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = prints(other_truth, noise=0.03, seed=seed)
    quotes = quotes_of(NOW, EXPIRIES, rows)
    x = np.concatenate(
        (draw.uniform(-1, 0, 8), draw.uniform(-0.5, 0.5, 8), draw.uniform(-0.3, 0.3, 2))
    )
    problem = Problem(quotes, weights(quotes.table), x, 8, None, np.zeros(0))
    exact, step = problem.jacobian(x).copy(), 1e-6
    for column in range(x.size):
        near, far = x.copy(), x.copy()
        near[column] -= step
        far[column] += step
        differences = (problem.residuals(far) - problem.residuals(near)) / (2 * step)
        assert exact[:, column] == pytest.approx(differences, rel=1e-4, abs=1e-3)


def test_density_and_variance_are_those_of_the_differences() -> None:
    k, step = np.linspace(-1.0, 1.0, 21), 1e-4
    theta, rho, phi = np.array(0.2), np.array(-0.4), np.array(1.5)

    def w(x: Floats) -> Floats:
        return total_variance(x, theta, rho, phi)

    first = (w(k + step) - w(k - step)) / (2 * step)
    second = (w(k + step) - 2 * w(k) + w(k - step)) / step**2
    g = (1 - k * first / (2 * w(k))) ** 2 - first**2 / 4 * (1 / w(k) + 0.25) + second / 2
    variance, density = variance_and_density(k, theta, rho, phi)
    assert variance == pytest.approx(w(k))
    assert density == pytest.approx(g, abs=1e-6)
    assert slopes(k, theta, rho, 0.0, 0.4).variance == pytest.approx(np.full(21, 0.2))


def test_a_listed_expiry_takes_its_variance_from_its_neighbours() -> None:
    surface = Surface(
        (Slice(EXPIRIES[0], 600_000_000, 0), Slice(EXPIRIES[2], 500_000_000, -RATE_SCALE // 2))
    )
    grown = carried(surface, EXPIRIES[:4], NOW)
    theta = parameters(grown, NOW).theta
    assert theta[1] == pytest.approx(theta[0] + (theta[2] - theta[0]) * 3 / 7)
    assert grown.slices[1].rho_e9 == pytest.approx(-RATE_SCALE // 2 * 3 / 7, abs=1)
    assert grown.slices[3].volatility_e9 == 500_000_000, "beyond the last: its volatility"
    later = carried(grown, EXPIRIES[1:4], EXPIRIES[0] + 1)
    assert later.slices == grown.slices[1:], "what is over is gone, what stays is unchanged"


def test_an_expiry_that_is_over_has_no_volatility() -> None:
    surface = fitted(prints(ssvi_truth))
    assert len(parameters(surface, EXPIRIES[1]).theta) == 6
    with pytest.raises(KeyError):
        volatilities(surface, EXPIRIES[1], EXPIRIES[1], np.zeros(1))


def pair(strike: float, forward: float, half: float) -> Pair:
    """Quotes around put-call parity, `half` to either side, at a put worth 50."""
    call = 50 + forward - strike
    return Pair(strike, call - half, call + half, 50 - half, 50 + half)


def test_the_forward_is_read_at_the_tightest_strike() -> None:
    pairs = [pair(95, 101, 2), pair(100, 100.5, 0.25), pair(105, 99, 1)]
    assert parity_forward(pairs) == pytest.approx(100.5)
    assert parity_forward(pairs, given=100.4) == 100.4, "within the span the given one stands"
    assert parity_forward(pairs, given=90.0) == pytest.approx(100.0), "else its nearest point"
    half_priced = [p._replace(**{name: getattr(p, name) / 2 for name in p._fields[1:]})
                   for p in pairs]  # fmt: skip
    assert parity_forward(half_priced, discount=0.5) == pytest.approx(100.5)


def test_without_all_four_prices_there_is_no_parity() -> None:
    good = pair(100, 100, 1)
    crossed = [
        good._replace(call_bid=good.call_ask + 1), good._replace(put_bid=good.put_ask + 1),
    ]  # fmt: skip
    assert parity_forward([good._replace(put_bid=0.0), *crossed]) is None
    assert parity_forward([], given=7.0) == 7.0


def test_a_single_expiry_is_a_surface_too() -> None:
    rows = [(0, *line[1:]) for line in prints(ssvi_truth) if line[0] == 4]
    quotes = Quotes(NOW, (EXPIRIES[4],), quotes_of(NOW, EXPIRIES[4:5], rows).table)
    surface = fit_surface(quotes, None)
    k = strikes(4)
    assert volatilities(surface, NOW, EXPIRIES[4], k) == pytest.approx(ssvi_truth(4, k), abs=2e-3)


def test_the_worked_example_of_the_documentation() -> None:
    """60 % at the money in 30 days, rho -0.3, eta 1, gamma 0.4; a strike 10 % below the forward."""
    surface = Surface((Slice(EXPIRIES[4], 600_000_000, -300_000_000),), RATE_SCALE, 400_000_000)
    at, k = parameters(surface, NOW), np.log(np.array([0.9]))
    assert at.theta[0] == pytest.approx(0.029589, abs=5e-7)
    assert at.phi[0] == pytest.approx(4.0174, abs=5e-5)
    variance = total_variance(k, at.theta[0], at.rho[0], at.phi[0])
    assert variance[0] == pytest.approx(0.034384, abs=5e-7)
    assert volatilities(surface, NOW, EXPIRIES[4], k)[0] == pytest.approx(0.6468, abs=5e-5)


def test_asks_at_nothing_do_not_stop_a_fit() -> None:
    """Offers at the lowest volatility there is: a level of zero has no logarithm."""
    rows = [row(4, k, 0.0, 0.0) for k in (-0.1, 0.0, 0.1)] + prints(ssvi_truth, numbers=range(3))
    assert is_free_of_arbitrage(fitted(rows), NOW)
