"""GARCH fitted by arch, and the core's integer recursion beside it."""

from __future__ import annotations

import builtins
from importlib import resources
from typing import Any

import numpy as np
import pytest

from margin.forecasts.forecast import Garch
from margin.forecasts.ranges import forecaster_of
from margin.presets import parse_preset
from replays.garch_fit import ARCH_HINT, FitError, GarchFit, fit_garch, moves_of
from replays.price_file import PriceSeries
from replays.procyclicality import Path, simulated_returns_e9

HOUR_NS = 3600 * 10**9
E9 = 10**9


def history(count: int, seed: int = 3, step_ns: int = HOUR_NS) -> PriceSeries:
    """Prices whose returns are GARCH(0.08, 0.91) of 3 % a day, one an hour."""
    market = Path(daily_volatility=0.03 / 24**0.5, freedom=30.0, paths=1, warm_up=500, days=count)
    moves = simulated_returns_e9(market, seed)[500:, 0] / E9
    level = np.rint(np.cumprod(1 + moves) * 10**12).astype(np.int64)
    return PriceSeries(np.arange(count, dtype=np.int64) * step_ns, level, None, step_ns, 0, "close")


@pytest.fixture(scope="module")
def fit() -> GarchFit:
    pytest.importorskip("arch", reason="the extra `arch` is not installed")
    return fit_garch(history(6_000))


def test_a_fit_finds_what_the_market_was_made_of(fit: GarchFit) -> None:
    assert fit.returns == 5_999
    assert fit.period_s == 3600
    assert fit.alpha_ppb / E9 == pytest.approx(0.08, abs=0.025)
    assert fit.beta_ppb / E9 == pytest.approx(0.91, abs=0.03)
    assert fit.long_run_e9 / E9 == pytest.approx(0.03 * 365**0.5, rel=0.35)


def test_the_integer_recursion_follows_arch_s_volatility_to_1e_8(fit: GarchFit) -> None:
    """Parameters cut to 9 places, variances to 10^-18: what that comes to over 6,000 periods."""
    assert 0 <= fit.mean_difference <= fit.worst_difference < 1e-8


def test_what_is_printed_is_what_a_preset_takes(fit: GarchFit) -> None:
    text = resources.files("margin.presets").joinpath("ps-1-dynamic.toml").read_text("utf-8")
    old = "ewma = { decay = 0.998 }\n"
    assert old in text
    period, rule = fit.toml().splitlines()
    preset = parse_preset(
        text.replace(old, rule + "\n").replace("period_s = 60\nhorizon", f"{period}\nhorizon"),
        source="mine",
    )
    assert preset.dynamic is not None
    assert preset.dynamic.period_s == 3600
    forecaster = forecaster_of(preset.dynamic, "BTC")
    assert isinstance(forecaster, Garch)
    assert (forecaster.alpha_ppb, forecaster.beta_ppb) == (fit.alpha_ppb, fit.beta_ppb)
    spread = E9 - fit.alpha_ppb - fit.beta_ppb
    annual = (forecaster.omega_e18 * E9 / spread * 365 * 24) ** 0.5
    assert annual == pytest.approx(fit.long_run_e9, rel=1e-6)


def test_a_history_that_cannot_be_fitted_is_refused() -> None:
    pytest.importorskip("arch", reason="the extra `arch` is not installed")
    with pytest.raises(FitError, match="99 returns; at least 250"):
        fit_garch(history(100))
    with pytest.raises(FitError, match="a day at most"):
        fit_garch(history(300, step_ns=48 * HOUR_NS))


def test_without_arch_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "arch":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FitError, match="uncross\\[arch\\]") as told:
        fit_garch(history(300))
    assert str(told.value) == ARCH_HINT


def test_moves_are_those_that_the_engine_measures() -> None:
    series = history(3)._replace(price_e8=np.array([3, 4, 400], np.int64))
    assert moves_of(series).tolist() == [333_333_333, E9]
