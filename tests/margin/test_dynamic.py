"""Spot ranges that follow a forecast: the rule, its bounds, its caps, and the tools."""

from __future__ import annotations

import random
from itertools import pairwise
from math import isqrt
from typing import Any

import msgspec
import numpy as np
import pytest

from margin.forecasts.forecast import Ewma, Garch, Har
from margin.forecasts.procyclicality import NO_CAP_PPB
from margin.forecasts.ranges import (
    MOST_STEPS,
    AtTheMoney,
    RangeTerms,
    capped,
    model_range_e9,
    opening,
    period_variance_e18,
    preset_at,
    range_terms,
    relative_move_e9,
    spread_moves,
    step,
    targets_e9,
)
from margin.presets import PresetError, load_preset, parse_preset
from margin.presets.dynamic_sections import NO_CAP_PPB as LEFT_OUT
from margin.presets.dynamic_sections import EwmaRule, GarchRule, HarRule, ImpliedShock
from margin.presets.preset import NamedRate, Preset
from tests.reference.reference_dynamic import Range, up
from tests.reference.reference_forecasts import ImpliedTwin

E9 = 10**9
SECOND = 10**9
DYNAMIC = load_preset("ps-1-dynamic")
COINS = ("BTC", "ETH", "SOL")
ANNUAL = [600_000_000, 700_000_000, 900_000_000]
DAY_S = 86_400


def with_dynamic(**parts: Any) -> Preset:
    section = msgspec.structs.replace(DYNAMIC.dynamic, **parts)
    return msgspec.structs.replace(DYNAMIC, dynamic=section)


def terms_of(**parts: Any) -> RangeTerms:
    return range_terms(with_dynamic(**parts), COINS)


PLAIN = {
    "stress_weight_ppb": 0, "buffer_ppb": 0, "floor_share_ppb": 0, "cycle_rise_ppb": NO_CAP_PPB,
    "day_rise_ppb": NO_CAP_PPB, "implied": None,
}  # fmt: skip


def test_the_sections_default_is_the_tool_s_word_for_no_cap() -> None:
    assert LEFT_OUT == NO_CAP_PPB


def test_the_shipped_preset_is_ps_1_but_for_its_new_sections() -> None:
    static = load_preset("ps-1")
    without = msgspec.structs.replace(
        DYNAMIC, name="ps-1", dynamic=None, cross_unit=None, predictive=None
    )
    assert without == static


def test_the_range_is_the_multiple_of_the_deviation_over_the_horizon() -> None:
    """60 % a year is 3.14 % a day; three of those are 9.42 %."""
    assert DYNAMIC.dynamic is not None
    variance = period_variance_e18(600_000_000, 60)
    found = model_range_e9(DYNAMIC.dynamic, variance)
    assert found == pytest.approx(3 * 0.6 / 365**0.5 * E9, rel=1e-6)
    assert found == 94_216_308


def test_the_shipped_tools_bring_the_calm_range_to_that_of_ps_1() -> None:
    """1.25 x (0.75 x 9.42 % + 0.25 x 23.55 %) = 16.2 %, where ps-1 has 16 %."""
    state = opening(range_terms(DYNAMIC, COINS), ANNUAL)
    assert int(state.range_e9[0]) == 161_934_279
    assert state.range_e9.tolist() == state.target_e9.tolist()


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"ewma": EwmaRule(decay_ppb=970_000_000)}, Ewma),
        ({"garch": GarchRule(long_run=(NamedRate(name="default", rate_e9=E9 // 2),),
                             alpha_ppb=80_000_000, beta_ppb=910_000_000)}, Garch),
        ({"har": HarRule(long_run=(NamedRate(name="default", rate_e9=E9 // 2),),
                         day_ppb=400_000_000, week_ppb=300_000_000, month_ppb=200_000_000)}, Har),
    ],
)  # fmt: skip
def test_every_forecaster_returns_to_the_volatility_that_the_market_keeps(
    rule: dict[str, Any], kind: type
) -> None:
    """An index that moves by one deviation of 50 % a year, up and down, is forecast so."""
    parts = {"ewma": None, **PLAIN, **rule, "period_s": 3600}
    terms = terms_of(**parts, least_e9=1, most_e9=2 * E9)
    assert type(terms.forecasters[0]) is kind
    state = opening(terms, [E9] * 3)
    deviation = isqrt(period_variance_e18(E9 // 2, 3600))
    price = 10**12
    for hour in range(400):
        at = price if hour % 2 else price * (E9 + deviation) // E9
        step(terms, state, hour * 3600 * SECOND, [at] * 3, [True] * 3)
    expected = model_range_e9(terms.section, period_variance_e18(E9 // 2, 3600))
    assert int(state.range_e9[0]) == pytest.approx(expected, rel=0.02)


def random_terms(seed: int) -> tuple[RangeTerms, random.Random]:
    dice = random.Random(seed)
    return terms_of(
        ewma=EwmaRule(decay_ppb=dice.randrange(900_000_000, 999_000_000)),
        stress_weight_ppb=dice.choice([0, E9 // 4]),
        buffer_ppb=dice.choice([0, E9 // 4]),
        floor_share_ppb=dice.choice([0, E9]),
        cycle_rise_ppb=dice.choice([NO_CAP_PPB, 20_000_000]),
        day_rise_ppb=dice.choice([NO_CAP_PPB, 300_000_000]),
        implied=None,
    ), dice


@pytest.mark.parametrize("seed", range(12))
def test_a_random_market_moves_ranges_as_the_slow_twin_says(seed: int) -> None:
    terms, dice = random_terms(seed)
    section = terms.section
    assert section.ewma is not None
    state = opening(terms, ANNUAL)
    twins = [
        Range(
            decay_ppb=section.ewma.decay_ppb, long_run_decay_ppb=section.long_run_decay_ppb,
            multiple_e9=section.multiple_e9, horizon_periods=DAY_S // 60,
            stress_weight_ppb=section.stress_weight_ppb, stressed_e9=int(terms.stressed_e9[u]),
            buffer_ppb=section.buffer_ppb, floor_share_ppb=section.floor_share_ppb,
            least_e9=int(terms.least_e9[u]), most_e9=int(terms.most_e9[u]),
            cycle_rise_ppb=section.cycle_rise_ppb, day_rise_ppb=section.day_rise_ppb,
            variance_e18=period_variance_e18(ANNUAL[u], 60),
        )
        for u in range(3)
    ]  # fmt: skip
    price, last = [10**12, 4 * 10**11, 2 * 10**10], [0, 0, 0]
    for cycle in range(600):  # of 20 s, three a period; a day passes after 200
        now = (DAY_S - 4000 + 20 * cycle) * SECOND
        size = dice.choice([1, 1, 1, 30]) * E9 // 10_000
        price = [p * (E9 + dice.randint(-size, size)) // E9 for p in price]
        step(terms, state, now, price, [True] * 3)
        boundary = now // (60 * SECOND) != (now - 20 * SECOND) // (60 * SECOND)
        for u, twin in enumerate(twins):
            if cycle == 0:
                last[u] = price[u]
            elif boundary:
                twin.move((price[u] - last[u]) * E9 // last[u])
                last[u] = price[u]
            if now // (DAY_S * SECOND) != (now - 20 * SECOND) // (DAY_S * SECOND):
                twin.new_day()
            assert twin.cycle() == int(state.range_e9[u]), (cycle, u)


@pytest.mark.parametrize("seed", range(12))
def test_caps_hold_cycle_by_cycle_and_bounds_always(seed: int) -> None:
    terms, dice = random_terms(seed)
    section, state = terms.section, opening(terms, ANNUAL)
    price, days = 10**12, {}
    for cycle in range(400):
        now = cycle * 1800 * SECOND
        price = max(1, price * (E9 + dice.randint(-E9 // 20, E9 // 20)) // E9)
        before = state.range_e9.copy()
        step(terms, state, now, [price] * 3, [dice.random() < 0.9] * 3)
        assert (terms.least_e9 <= state.range_e9).all()
        assert (state.range_e9 <= terms.most_e9).all()
        first = days.setdefault(now // (DAY_S * SECOND), before)
        for u in range(3):
            ceiling = int(before[u]) + int(before[u]) * section.cycle_rise_ppb // E9
            assert int(state.range_e9[u]) <= ceiling
            assert int(state.range_e9[u]) <= first[u] + int(first[u]) * section.day_rise_ppb // E9


def test_at_two_per_cent_a_cycle_a_range_doubles_in_36() -> None:
    assert DYNAMIC.dynamic is not None
    path = [161_934_279]
    for _ in range(36):
        path.append(capped(path[-1], E9, path[0] * 2, DYNAMIC.dynamic))
    assert path[35] < 2 * path[0] < path[36]


def test_the_stressed_range_is_that_of_the_stressed_volatility() -> None:
    terms = terms_of()
    assert int(terms.stressed_e9[0]) == 235_540_767
    weighted = up(94_216_308 * 3, 4) + up(235_540_767, 4)
    assert up(weighted * 5, 4) == 161_934_279


def test_a_cap_of_a_cycle_and_of_a_day_round_down() -> None:
    section = terms_of(cycle_rise_ppb=20_000_000, day_rise_ppb=50_000_000).section
    assert capped(1049, 5000, 1049, section) == 1069  # 1049 x 1.02 = 1069.98
    assert capped(1049, 5000, 1000, section) == 1050
    assert capped(1049, 900, 1000, section) == 900  # a fall is not capped


def test_the_buffer_is_whole_in_calm_and_used_up_in_stress() -> None:
    terms = terms_of(**{**PLAIN, "buffer_ppb": E9 // 4}, most_e9=3 * E9)
    calm = period_variance_e18(ANNUAL[0], 60)
    asked = model_range_e9(terms.section, calm)

    def charged(times: float) -> int:
        variance = int(calm * times * times)
        return int(targets_e9(terms, [variance] * 3, [calm] * 3)[0])

    def model(times: float) -> int:
        return model_range_e9(terms.section, int(calm * times * times))

    assert charged(1.0) == up(asked * 5, 4)
    assert charged(1.1) == up(asked * 5, 4)  # part of it is used
    assert charged(1.2) == up(asked * 5, 4)
    assert charged(1.3) == model(1.3)  # nothing is left
    assert charged(2.0) == model(2.0)


def test_the_long_run_floors_a_quiet_market_and_itself_decays() -> None:
    terms = terms_of(
        **{**PLAIN, "floor_share_ppb": E9}, long_run_decay_ppb=990_000_000, least_e9=1,
        ewma=EwmaRule(decay_ppb=500_000_000),
    )  # fmt: skip
    state = opening(terms, ANNUAL)
    opened = int(state.range_e9[0])
    path = []
    for minute in range(800):
        step(terms, state, minute * 60 * SECOND, [10**12] * 3, [True] * 3)
        path.append(int(state.range_e9[0]))
    assert path[0] == opened
    assert path[50] == pytest.approx(opened * 0.99**25, rel=1e-3)  # a root of the variance's decay
    assert all(a >= b for a, b in pairwise(path))
    assert int(state.memory[0, 0]) == 0


def test_a_gap_counts_as_equal_moves_of_the_same_variance() -> None:
    moves = spread_moves(60_000_000, 9)
    assert moves.tolist() == [[20_000_000]] * 9
    assert len(spread_moves(60_000_000, 10**6)) == MOST_STEPS


def test_a_move_is_relative_and_bounded() -> None:
    assert relative_move_e9(0, 5) == 0
    assert relative_move_e9(100, 90) == -100_000_000
    assert relative_move_e9(100, 1000) == E9
    assert relative_move_e9(3, 4) == 333_333_333


def test_an_index_that_is_not_fresh_leaves_its_forecast_alone() -> None:
    terms = terms_of()
    state = opening(terms, ANNUAL)
    step(terms, state, 0, [10**12] * 3, [True] * 3)
    before = state.memory.copy()
    step(terms, state, 60 * SECOND, [10**12] * 3, [False, True, True])
    assert state.memory[0, 0] == before[0, 0]
    assert state.memory[0, 1] < before[0, 1]
    assert state.period.tolist() == [0, 1, 1]


def test_volatility_shocks_follow_at_the_money_volatility_within_their_bounds() -> None:
    rule = ImpliedShock(decay_ppb=900_000_000, multiple_e9=7 * E9, least_e9=800_000_000,
                        most_e9=2 * E9)  # fmt: skip
    terms = terms_of(**{**PLAIN, "implied": rule})
    state = opening(terms, ANNUAL)
    index, fresh = [10**12] * 3, [True] * 3
    dice, implied = random.Random(3), ANNUAL
    for minute in range(50):  # moves of up to a tenth in a minute
        implied = [v * (E9 + dice.randint(-E9 // 10, E9 // 10)) // E9 for v in implied]
        step(terms, state, minute * 60 * SECOND, index, fresh, AtTheMoney(implied, [1] * 3))
    assert state.scale_e9.tolist() == [2 * E9] * 3
    for minute in range(50, 400):  # none
        step(terms, state, minute * 60 * SECOND, index, fresh, AtTheMoney(implied, [1] * 3))
        assert (state.scale_e9 >= 800_000_000).all()
    assert state.scale_e9.tolist() == [800_000_000] * 3


def test_a_step_says_whether_a_range_or_a_shock_has_changed() -> None:
    rule = ImpliedShock(decay_ppb=900_000_000, multiple_e9=7 * E9, least_e9=800_000_000,
                        most_e9=2 * E9)  # fmt: skip
    terms = terms_of(**{**PLAIN, "implied": rule}, least_e9=E9, most_e9=E9)  # ranges stand still
    state, index, fresh = opening(terms, ANNUAL), [10**12] * 3, [True] * 3
    step(terms, state, 0, index, fresh, AtTheMoney(ANNUAL, [1] * 3))
    still = step(terms, state, 20 * SECOND, index, fresh, AtTheMoney(ANNUAL, [1] * 3))
    assert not still, "within a period"
    higher = AtTheMoney([v * 11 // 10 for v in ANNUAL], [1] * 3)
    assert step(terms, state, 60 * SECOND, index, fresh, higher)
    assert state.scale_e9.tolist() == [2 * E9] * 3
    assert not step(terms, state, 80 * SECOND, index, fresh, higher)


@pytest.mark.parametrize("seed", range(3))
def test_volatility_shocks_are_those_of_the_slow_twin(seed: int) -> None:
    rule = ImpliedShock(decay_ppb=980_000_000, multiple_e9=7 * E9, least_e9=300_000_000,
                        most_e9=9 * E9)  # fmt: skip
    terms = terms_of(**{**PLAIN, "implied": rule})
    state = opening(terms, ANNUAL)
    twins = [
        ImpliedTwin(
            decay_ppb=980_000_000, multiple_e9=7 * E9, least_e9=300_000_000, most_e9=9 * E9,
            shock_up_e9=500_000_000, horizon_periods=DAY_S // 60,
        )
        for _ in COINS
    ]  # fmt: skip
    dice, implied = random.Random(seed), ANNUAL
    step(terms, state, 0, [10**12] * 3, [True] * 3, AtTheMoney(implied, [DAY_S] * 3))
    for minute in range(1, 200):
        before, size = implied, dice.choice([10**6, 10**7])
        implied = [v * (E9 + dice.randint(-size, size)) // E9 for v in implied]
        seen = AtTheMoney(implied, [DAY_S] * 3)
        step(terms, state, minute * 60 * SECOND, [10**12] * 3, [True] * 3, seen)
        wanted = [t.move(a, b) for t, a, b in zip(twins, before, implied, strict=True)]
        assert state.scale_e9.tolist() == wanted


def test_the_next_expiry_has_another_volatility_which_is_no_move() -> None:
    rule = ImpliedShock(decay_ppb=900_000_000, multiple_e9=7 * E9, least_e9=800_000_000,
                        most_e9=2 * E9)  # fmt: skip
    terms = terms_of(**{**PLAIN, "implied": rule})
    state = opening(terms, ANNUAL)
    index, fresh = [10**12] * 3, [True] * 3
    risen = [v * 11 // 10 for v in ANNUAL]
    step(terms, state, 0, index, fresh, AtTheMoney(ANNUAL, [1, 1, 1]))
    step(terms, state, 60 * SECOND, index, fresh, AtTheMoney(risen, [1, 2, 2]))
    moved, rolled, _ = state.implied_e18.tolist()
    assert moved > 10 * rolled
    assert state.scale_target_e9[0] == 2 * E9
    assert state.scale_target_e9[1:].tolist() == pytest.approx([E9] * 2, rel=1e-6)
    fallen = [v * 9 // 10 for v in risen]  # what is learnt next is that expiry's own move
    step(terms, state, 120 * SECOND, index, fresh, AtTheMoney(fallen, [1, 2, 2]))
    assert state.scale_target_e9.tolist() == [2 * E9] * 3


def test_a_preset_in_force_has_the_ranges_of_the_cycle_and_scaled_shocks() -> None:
    now = preset_at(DYNAMIC, ("BTC", "X", "X"), [10, 20, 30], 1_500_000_000)
    assert now.spot_range_e9("BTC") == 10
    assert now.spot_range_e9("X") == 30, "the widest of a class"
    assert now.spot_range_e9("ETH") == 180_000_000
    assert (now.volatility.up_e9, now.volatility.down_e9) == (750_000_000, 375_000_000)
    assert preset_at(DYNAMIC, (), []).volatility == DYNAMIC.volatility


def test_scaled_shocks_neither_make_volatility_negative_nor_leave_the_bound_of_a_preset() -> None:
    """Up 50 % and down 25 %, thirty times as much: at most tenfold up, and down to nothing."""
    shock = preset_at(DYNAMIC, (), [], 30 * E9).volatility
    assert (shock.up_e9, shock.down_e9) == (10 * E9, E9)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("least = 0.6", "least = 1.1", "0 < least <= 1 <= most"),
        ("most = 2\n# The", "most = 4\n# The", "dynamic.most: makes a range of the whole price"),
        ("ewma = {", "garch = { long_run = { default = 1 }, alpha = 0.1, beta = 0.8 }\newma = {",
         "needs one of ewma, garch, har"),
        ("buffer = 0.25", "buffer = 1.25", "dynamic.buffer: must lie in 0 .. 1"),
        ("buffer = 0.25", "bufer = 0.25", "dynamic.bufer: unknown key"),
        ("period_s = 60\nhorizon", "period_s = 0\nhorizon", "dynamic.period_s"),
        ("cycle_rise = 0.02", "cycle_rise = 0", "dynamic.cycle_rise: must lie above 0"),
        ("stressed = { BTC = 1.5, ETH = 1.8, default = 2.5 }", "", "dynamic.stressed"),
        ("horizon_s = 86400", "", "dynamic.horizon_s: missing"),
        ("ewma = { decay = 0.998 }", "ewma = { decay = 1 }", "ewma.decay"),
        ("tail_freedom = 4", "tail_freedom = 5", "predictive.tail_freedom: must be 0, or even"),
        ("shrinkage = 0.3", "shrinkage = 1.3", "cross_unit.shrinkage: must lie in 0 .. 1"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(old: str, new: str, words: str) -> None:
    from importlib import resources

    text = resources.files("margin.presets").joinpath("ps-1-dynamic.toml").read_text("utf-8")
    assert old in text
    with pytest.raises(PresetError, match=words):
        parse_preset(text.replace(old, new, 1), source="mine")


def test_ranges_never_wrap_at_the_largest_volatility() -> None:
    terms = terms_of(most_e9=3 * E9)
    state = opening(terms, [20 * E9] * 3)
    assert state.range_e9.tolist() == terms.most_e9.tolist()
    price = 10**12
    for minute in range(5):
        step(terms, state, minute * 60 * SECOND, [price * 2**minute] * 3, [True] * 3)
    assert (np.abs(state.memory) <= E9 * E9).all()
