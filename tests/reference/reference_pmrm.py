"""Derive's PMRM 2 straight from its formulas, in floats: nothing of the engine's way to compute it.

No rows, no groups, no integers: every expiry's net value is computed whole, discounted once by its
own sign, and the worst of all outcomes taken. One risk unit; the formulas are F1's, steps 1 to 7.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from margin.presets.preset import Preset
from tests.reference.reference_margin import (
    black_76,
    open_share,
    shocked_volatility,
    skewed_volatility,
    static_factors,
)


@dataclass
class Option:
    """One option position; `quantity` in coins, `years` to expiry."""

    years: float
    strike: float
    is_call: bool
    quantity: float
    volatility: float


@dataclass
class Book:
    """A portfolio on one underlying: `futures` are (years or None for a perpetual, coins, mark)."""

    spot: float
    rate: float
    forward: dict[float, float]
    options: list[Option]
    futures: list[tuple[float | None, float, float]]
    coin: float
    spot_confidence: float = 1.0
    confidence: dict[float, float] = field(default_factory=dict)
    stable: float = 1.0


def _value(preset: Preset, book: Book, years: float, move: float, way: int) -> float:
    """Net value of an expiry's options after a move; `way` as in `Scenarios.volatility_side`."""
    forward = book.forward[years]
    moved = forward * (1 + open_share(preset, years) * move)
    total = 0.0
    for option in book.options:
        if option.years != years:
            continue
        if way >= 2:
            name = "linear" if way == 2 else "absolute"
            k = math.log(option.strike / forward)
            volatility = skewed_volatility(preset, option.volatility, k, years, name)
        else:
            volatility = shocked_volatility(preset, option.volatility, years, way)
        discount = math.exp(-book.rate * years)
        total += option.quantity * black_76(
            moved, option.strike, volatility, years, discount, option.is_call
        )
    return total


def _discounted(preset: Preset, value: float, years: float, rate: float) -> float:
    positive, negative = static_factors(preset, years, rate)
    return value * (positive if value >= 0 else negative)


def _future_gain(preset: Preset, book: Book, years: float | None, move: float) -> float:
    share = 1.0 if years is None else open_share(preset, years)
    return sum(coins * mark * move * share for when, coins, mark in book.futures if when == years)


def _expiries(book: Book) -> list[float]:
    dated = {years for years, _, _ in book.futures if years is not None}
    return sorted(dated | {option.years for option in book.options})


def _outcomes(preset: Preset, book: Book, scenarios: list[tuple[float, int, float]]) -> list[float]:
    found = []
    for move, way, weight in scenarios:
        total = 0.0
        for years in _expiries(book):
            now = _value(preset, book, years, 0.0, 0)
            then = _discounted(preset, _value(preset, book, years, move, way), years, book.rate)
            total += -abs(then - now) if way >= 2 else then - now
            total += _future_gain(preset, book, years, move)
        total += _future_gain(preset, book, None, move) + book.coin * book.spot * move
        found.append(total * weight)
    return found


def _basis(preset: Preset, book: Book) -> float:
    basis, total = preset.basis, 0.0
    for years in _expiries(book):
        now = _value(preset, book, years, 0.0, 0)
        gains = [
            _value(preset, book, years, move, 0) - now + _future_gain(preset, book, years, move)
            for move in (basis.down_e9 / 1e9, basis.up_e9 / 1e9)
        ]
        total += min(0.0, *gains) * (basis.add_e9 + basis.per_year_e9 * years) / 1e9
    return total


def _naked(book: Book) -> float:
    net: dict[tuple[float, float], float] = defaultdict(float)
    for option in book.options:
        net[option.years, option.strike] += option.quantity
    return sum(max(0.0, -quantity) for quantity in net.values())


def _doubt(preset: Preset, confidence: float, notional: float) -> float:
    if preset.oracle is None or confidence >= preset.oracle.threshold_ppb / 1e9:
        return 0.0
    return (1 - confidence) * preset.oracle.margin_ppb / 1e9 * notional


def margins(
    preset: Preset, book: Book, scenarios: list[tuple[float, int, float]]
) -> tuple[float, float]:
    """(initial, maintenance) in USDC; scenarios as (move, volatility way, weight)."""
    worst = max(0.0, -min([*_outcomes(preset, book, scenarios), _basis(preset, book)]))
    charge, spot = preset.contingency, book.spot
    size = sum(abs(coins) for _, coins, _ in book.futures) * spot
    naked = _naked(book) * spot
    maintenance = size * charge.delta_one_maintenance_ppb / 1e9
    maintenance += naked * charge.naked_option_maintenance_ppb / 1e9
    extra = size * charge.delta_one_initial_extra_ppb / 1e9
    extra += naked * charge.naked_option_initial_extra_ppb / 1e9
    for years in _expiries(book):
        gross = sum(abs(o.quantity) for o in book.options if o.years == years) * spot
        sure = min(book.spot_confidence, book.confidence.get(years, 1.0))
        extra += _doubt(preset, sure, gross)
    extra += _doubt(preset, book.spot_confidence, size + abs(book.coin) * spot)
    factor = preset.factor.initial_ppb / 1e9
    if preset.peg is not None:
        below = max(0.0, preset.peg.threshold_e9 / 1e9 - book.stable)
        factor += below * preset.peg.factor_e9 / 1e9
    return (
        worst * factor + maintenance + extra,
        worst * preset.factor.maintenance_ppb / 1e9 + maintenance,
    )
