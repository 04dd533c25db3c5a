"""Spot ranges and volatility shocks that follow a forecast, in integers that a journal repeats.

At every boundary of a period the move of the index since the last one enters the forecaster; the
range is then `multiple` x forecast volatility x sqrt(horizon / period), rounded up, moderated by
`margin.forecasts.procyclicality` (stressed weight, buffer, long-run floor), and kept between the
least and the most share of the preset's own range. It falls at once; it rises by no more than the
caps on one cycle and on one day allow. Nothing here is a float.

The memory is in `RangeState`: columns of int64, one entry a risk unit, which the venue keeps in
its hashed state. Sources: `margin.forecasts.forecast`; tools: EU regulation 153/2013, article 28.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Final, NamedTuple

import msgspec
import numpy as np

from margin.fixed_point import NS_PER_DAY, NS_PER_SECOND, RATE_SCALE, root_up
from margin.forecasts.forecast import Ewma, Forecaster, Garch, Har, run, start
from margin.forecasts.procyclicality import NO_CAP_PPB, Tools, moderated
from margin.invariant import Int64Array, check
from margin.presets.dynamic_sections import Dynamic, ImpliedShock
from margin.presets.preset import NamedRate, Preset, rate_of

MOST_STEPS: Final = 64
"""A gap of more periods than these counts as so many: older moves are forgotten by then."""

_SECONDS_OF_YEAR: Final = 365 * 86_400
_MOST_VARIANCE_E18: Final = RATE_SCALE * RATE_SCALE
_MOST_RANGE_E9: Final = 2**50


def period_variance_e18(annual_e9: int, period_s: int) -> int:
    """Variance of one period at an annual volatility, x 10^18, at most 1, rounded up."""
    return min(_MOST_VARIANCE_E18, -(-annual_e9 * annual_e9 * period_s // _SECONDS_OF_YEAR))


def forecaster_of(section: Dynamic, unit_class: str) -> Forecaster:
    """The forecaster of one risk class, with its long-run variance in it."""
    if section.ewma is not None:
        return Ewma(section.ewma.decay_ppb)
    if section.garch is not None:
        rule = section.garch
        weights = (rule.alpha_ppb, rule.beta_ppb)
        variance = period_variance_e18(rate_of(rule.long_run, unit_class), section.period_s)
        return Garch(variance * (RATE_SCALE - sum(weights)) // RATE_SCALE, *weights)
    har = section.har
    check(har is not None, "dynamic: no forecaster")
    assert har is not None
    shares = (har.day_ppb, har.week_ppb, har.month_ppb)
    variance = period_variance_e18(rate_of(har.long_run, unit_class), section.period_s)
    return Har(variance * (RATE_SCALE - sum(shares)) // RATE_SCALE, *shares)


class RangeTerms(msgspec.Struct, frozen=True, gc=False):
    """What a section means for the risk units of a venue, by unit.

    `static_e9[U]`: the preset's ranges; `least_e9[U]`, `most_e9[U]`: bounds of the moving ones,
    rounded up and down; `stressed_e9[U]`: the range at the stressed volatility.
    """

    section: Dynamic
    classes: tuple[str, ...]
    forecasters: tuple[Forecaster, ...]
    tools: Tools
    least_e9: Int64Array
    most_e9: Int64Array
    stressed_e9: Int64Array
    static_e9: Int64Array
    shock_up_e9: int


class AtTheMoney(NamedTuple):
    """Volatility of each unit at the money, a year, and the expiry it is read at, shape [U]."""

    volatility_e9: Sequence[int]
    expiry_ns: Sequence[int]


class RangeState(msgspec.Struct, gc=False):
    """What is remembered, by risk unit: forecaster, long run, index of the last boundary, ranges.

    `memory[rows,U]` as in `margin.forecasts.forecast`; `long_run_e18[U]`; `price_e8[U]` and
    `period[U]`: index and number of the last boundary seen (-1 before the first); `range_e9[U]` in
    force, `target_e9[U]` to which it moves, `day_range_e9[U]` when `day` began. `implied_e18[U]`:
    variance of at-the-money volatility, `implied_e9[U]` that volatility at the last boundary and
    `implied_expiry_ns[U]` where it was read; `scale_e9[U]`, `scale_target_e9[U]`, `day_scale_e9[U]`
    of the volatility shocks.
    """

    memory: Int64Array
    long_run_e18: Int64Array
    price_e8: Int64Array
    period: Int64Array
    target_e9: Int64Array
    range_e9: Int64Array
    day_range_e9: Int64Array
    implied_e18: Int64Array
    implied_e9: Int64Array
    implied_expiry_ns: Int64Array
    scale_target_e9: Int64Array
    scale_e9: Int64Array
    day_scale_e9: Int64Array
    day: int = -1


def range_terms(preset: Preset, classes: Sequence[str]) -> RangeTerms:
    """Terms of a preset with dynamic ranges for risk units of these classes."""
    section = preset.dynamic
    check(section is not None, "dynamic: a preset without the section")
    assert section is not None
    static = [preset.spot_range_e9(name) for name in classes]
    stressed = [0] * len(classes)
    if section.stressed:
        stressed = [
            model_range_e9(
                section, period_variance_e18(rate_of(section.stressed, name), section.period_s)
            )
            for name in classes
        ]
    return RangeTerms(
        section=section,
        classes=tuple(classes),
        forecasters=tuple(forecaster_of(section, name) for name in classes),
        tools=Tools(
            buffer_ppb=section.buffer_ppb,
            stress_weight_ppb=section.stress_weight_ppb,
            floor_share_ppb=section.floor_share_ppb,
        ),
        static_e9=np.array(static, np.int64),
        least_e9=np.array([-(-e9 * section.least_e9 // RATE_SCALE) for e9 in static], np.int64),
        most_e9=np.array([e9 * section.most_e9 // RATE_SCALE for e9 in static], np.int64),
        stressed_e9=np.array(stressed, np.int64),
        shock_up_e9=preset.volatility.up_e9,
    )


def model_range_e9(section: Dynamic, variance_e18: int) -> int:
    """multiple x sqrt(variance of a period x horizon / period), rounded up, before any tool."""
    deviation_e9 = root_up(-(-variance_e18 * section.horizon_s // section.period_s))
    return min(_MOST_RANGE_E9, -(-section.multiple_e9 * deviation_e9 // RATE_SCALE))


def targets_e9(terms: RangeTerms, variance_e18: Sequence[int], long_run_e18: Sequence[int]
               ) -> Int64Array:  # fmt: skip
    """Ranges [U] at these forecast and long-run variances: tools and bounds, no cap on rises."""
    section = terms.section
    model = np.array([model_range_e9(section, v) for v in variance_e18], np.int64)
    long_run = np.array([model_range_e9(section, v) for v in long_run_e18], np.int64)
    free = np.zeros_like(model)
    if section.stress_weight_ppb > 0:  # whole up to what the long run asks
        weight = Tools(stress_weight_ppb=section.stress_weight_ppb)
        long_run = moderated(weight, long_run, free, terms.stressed_e9, free)
    found = moderated(terms.tools, model, long_run, terms.stressed_e9, free)
    return np.minimum(terms.most_e9, np.maximum(terms.least_e9, found))


def opening(terms: RangeTerms, annual_e9: Sequence[int]) -> RangeState:
    """A state that has only ever seen these annual volatilities, by unit."""
    section, units = terms.section, len(terms.classes)
    variance = [period_variance_e18(e9, section.period_s) for e9 in annual_e9]
    columns = [
        start(forecaster, np.array([v], np.int64))
        for forecaster, v in zip(terms.forecasters, variance, strict=True)
    ]
    target = targets_e9(terms, variance, variance)
    zeros, ones = np.zeros(units, np.int64), np.full(units, RATE_SCALE, np.int64)
    implied = np.full(units, _unit_scale_variance_e18(terms), np.int64)
    return RangeState(
        memory=np.ascontiguousarray(np.concatenate(columns, axis=1)),
        long_run_e18=np.array(variance, np.int64),
        price_e8=zeros.copy(),
        period=zeros - 1,
        target_e9=target,
        range_e9=target.copy(),
        day_range_e9=target.copy(),
        implied_e18=implied,
        implied_e9=zeros.copy(),
        implied_expiry_ns=zeros.copy(),
        scale_target_e9=ones,
        scale_e9=ones.copy(),
        day_scale_e9=ones.copy(),
    )


def _unit_scale_variance_e18(terms: RangeTerms) -> int:
    """Variance of at-the-money volatility at which the shocks are those of the preset."""
    section, rule = terms.section, terms.section.implied
    if rule is None:
        return 0
    share_e9 = terms.shock_up_e9 * RATE_SCALE // rule.multiple_e9
    return min(_MOST_VARIANCE_E18, share_e9 * share_e9 * section.period_s // section.horizon_s)


def _scale_e9(terms: RangeTerms, rule: ImpliedShock, variance_e18: int) -> int:
    section = terms.section
    deviation_e9 = root_up(-(-variance_e18 * section.horizon_s // section.period_s))
    scale_e9 = -(-rule.multiple_e9 * deviation_e9 // terms.shock_up_e9)
    return max(rule.least_e9, min(rule.most_e9, scale_e9))


def relative_move_e9(before: int, now: int) -> int:
    """now / before - 1, x 10^9, rounded down, between -1 and 1; 0 where there was nothing."""
    if before <= 0:
        return 0
    return max(-RATE_SCALE, min(RATE_SCALE, (now - before) * RATE_SCALE // before))


def spread_moves(move_e9: int, periods: int) -> Int64Array:
    """A move over some periods as equal moves of one period, shape [n, 1], of the same variance."""
    count = min(periods, MOST_STEPS)
    each = move_e9 * RATE_SCALE // isqrt(count * RATE_SCALE * RATE_SCALE)
    return np.full((count, 1), each, np.int64)


def step(
    terms: RangeTerms,
    state: RangeState,
    time_ns: int,
    index_e8: Sequence[int],
    fresh: Sequence[bool],
    at_the_money: AtTheMoney | None = None,
) -> bool:
    """Move on to the marks at `time_ns`, once a cycle; returns whether a range or shock changed.

    `index_e8[U]` and `fresh[U]`: indices, and which of them are to be trusted; one that is not
    leaves its forecast as it is until it is again. Of volatilities at the money only what moves at
    one expiry is learnt: the next one's is another volatility, not a move of the market.
    """
    period = time_ns // (terms.section.period_s * NS_PER_SECOND)
    crossed = False
    for unit, index in enumerate(index_e8):
        if fresh[unit] and state.period[unit] != period:
            _cross(terms, state, unit, period, index, at_the_money)
            crossed = True
    if crossed:
        found = targets_e9(terms, state.memory[0].tolist(), state.long_run_e18.tolist())
        state.target_e9[:] = found
    day = time_ns // NS_PER_DAY
    if day != state.day:
        state.day = day
        state.day_range_e9[:], state.day_scale_e9[:] = state.range_e9, state.scale_e9
    moved = _follow(terms.section, state.range_e9, state.target_e9, state.day_range_e9)
    if terms.section.implied is not None:
        scaled = _follow(terms.section, state.scale_e9, state.scale_target_e9, state.day_scale_e9)
        moved = moved or scaled
    return moved


def _cross(
    terms: RangeTerms, state: RangeState, unit: int, period: int, index_e8: int,
    at_the_money: AtTheMoney | None,
) -> None:  # fmt: skip
    """Take one unit over a boundary: the move since the last one enters the forecasts."""
    elapsed = period - int(state.period[unit])
    if state.period[unit] >= 0:
        moves = spread_moves(relative_move_e9(int(state.price_e8[unit]), index_e8), elapsed)
        memory = np.ascontiguousarray(state.memory[:, unit : unit + 1])
        run(terms.forecasters[unit], memory, moves)
        state.memory[:, unit] = memory[:, 0]
        state.long_run_e18[unit] = _decayed(
            int(state.long_run_e18[unit]), moves, terms.section.long_run_decay_ppb
        )
    state.price_e8[unit], state.period[unit] = index_e8, period
    rule = terms.section.implied
    if rule is not None and at_the_money is not None:
        before, now = int(state.implied_e9[unit]), at_the_money.volatility_e9[unit]
        expiry_ns = at_the_money.expiry_ns[unit]
        if before > 0 and state.implied_expiry_ns[unit] == expiry_ns:
            moves = spread_moves(relative_move_e9(before, now), elapsed)
            state.implied_e18[unit] = _decayed(int(state.implied_e18[unit]), moves, rule.decay_ppb)
        state.implied_e9[unit], state.implied_expiry_ns[unit] = now, expiry_ns
        state.scale_target_e9[unit] = _scale_e9(terms, rule, int(state.implied_e18[unit]))


def _decayed(variance_e18: int, moves_e9: Int64Array, decay_ppb: int) -> int:
    memory = np.array([[variance_e18]], np.int64)
    run(Ewma(decay_ppb), memory, moves_e9)
    return int(memory[0, 0])


def _follow(section: Dynamic, now: Int64Array, target: Int64Array, day: Int64Array) -> bool:
    """Move `now` to `target`, rises capped by what it was a cycle ago and when the day began."""
    changed = False
    for unit in range(len(now)):
        before, wanted = int(now[unit]), int(target[unit])
        if wanted == before:
            continue
        allowed = capped(before, wanted, int(day[unit]), section)
        changed = changed or allowed != before
        now[unit] = allowed
    return changed


def capped(before: int, wanted: int, at_day: int, section: Dynamic) -> int:
    """`wanted`, but no higher than the rises of one cycle and of one day allow, rounded down."""
    if section.cycle_rise_ppb != NO_CAP_PPB:
        wanted = min(wanted, before + before * section.cycle_rise_ppb // RATE_SCALE)
    if section.day_rise_ppb != NO_CAP_PPB:
        wanted = min(wanted, at_day + at_day * section.day_rise_ppb // RATE_SCALE)
    return wanted


def _scaled(up_e9: int, scale_e9: int) -> int:
    """A move of volatility x `scale_e9`, rounded up, at most 10."""
    return min(10 * RATE_SCALE, -(-up_e9 * scale_e9 // RATE_SCALE))


def preset_at(
    preset: Preset, classes: Sequence[str], range_e9: Sequence[int], scale_e9: int = RATE_SCALE
) -> Preset:
    """The preset with these spot ranges, and volatility shocks x `scale_e9`, rounded up.

    Units of one class share the widest of their ranges. What comes back is fixed: it holds for a
    cycle, and no longer says how it moves.
    """
    table = {row.name: row.rate_e9 for row in preset.spot_range}
    widest: dict[str, int] = {}
    for name, e9 in zip(classes, range_e9, strict=True):
        widest[name] = max(e9, widest.get(name, 0))
    table.update(widest)
    shock = preset.volatility
    if scale_e9 != RATE_SCALE:
        shock = msgspec.structs.replace(
            shock,
            up_e9=_scaled(shock.up_e9, scale_e9),
            up_of=tuple(
                NamedRate(name=row.name, rate_e9=_scaled(row.rate_e9, scale_e9))
                for row in shock.up_of
            ),
            down_e9=min(RATE_SCALE, -(-shock.down_e9 * scale_e9 // RATE_SCALE)),
        )
    rows = tuple(NamedRate(name=name, rate_e9=table[name]) for name in sorted(table))
    return msgspec.structs.replace(
        preset, spot_range=rows, volatility=shock, dynamic=None, predictive=None
    )
