"""Tools against procyclical margin: what each asks, and that none asks for less than it may."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from margin.fixed_point import RATE_SCALE
from margin.forecasts.procyclicality import Tools, largest_rise, moderated, peak_to_trough
from margin.invariant import Int64Array, InvariantBroken


def charged(tools: Tools, model: int, long_run: int = 100, stressed: int = 0, before: int = 0):  # type: ignore[no-untyped-def]
    columns = [np.array([x], np.int64) for x in (model, long_run, stressed, before)]
    return int(moderated(tools, *columns)[0])


def test_without_tools_the_model_decides() -> None:
    assert charged(Tools(), 73) == 73


@pytest.mark.parametrize(
    ("model", "margin"), [(40, 50), (80, 100), (100, 125), (110, 125), (125, 125), (200, 200)]
)
def test_a_buffer_is_whole_in_calm_and_used_up_in_stress(model: int, margin: int) -> None:
    assert charged(Tools(buffer_ppb=RATE_SCALE // 4), model) == margin


def test_stress_has_its_weight() -> None:
    assert charged(Tools(stress_weight_ppb=RATE_SCALE // 4), 40, stressed=200) == 30 + 50


def test_a_floor_holds_below_and_is_silent_above() -> None:
    tools = Tools(floor_share_ppb=RATE_SCALE)
    assert [charged(tools, model) for model in (40, 100, 140)] == [100, 100, 140]


def test_a_rise_is_bounded_and_a_fall_is_not() -> None:
    tools = Tools(period_rise_ppb=RATE_SCALE // 10)
    assert charged(tools, 200, before=100) == 110
    assert charged(tools, 50, before=100) == 50
    assert charged(tools, 200, before=0) == 200


@pytest.mark.parametrize("seed", range(3))
def test_more_of_a_tool_never_asks_for_less(seed: int) -> None:
    generator = np.random.default_rng(seed)
    columns: list[Int64Array] = [generator.integers(1, 10**12, 500) for _ in range(4)]
    for key in ("buffer_ppb", "floor_share_ppb", "period_rise_ppb"):
        asked = [
            moderated(Tools(**{key: part}), *columns)  # type: ignore[arg-type]
            for part in (1, RATE_SCALE // 10, RATE_SCALE // 4, RATE_SCALE)
        ]
        assert all((less <= more).all() for less, more in pairwise(asked))


def test_tools_are_bounded() -> None:
    with pytest.raises(InvariantBroken, match="buffer_ppb"):
        Tools(buffer_ppb=2 * RATE_SCALE)


def test_figures_of_a_path() -> None:
    margin = np.array([[10], [12], [24], [18], [8]], np.int64)
    assert peak_to_trough(margin).tolist() == [3.0]
    assert largest_rise(margin, 1).tolist() == [1.0]
    assert largest_rise(margin, 2).tolist() == [1.4]
