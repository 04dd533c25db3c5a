"""A risk matrix after the scenarios: offsets between pairs, and the shock on a large net delta.

Told beside a margin under a preset that names them, charged nowhere. Both follow Deribit's
description of X:PM; the offset is verified by an answer of its simulator, the form of the delta
shock is second-hand. Integers in, integers out, rounded against the account.
"""

from __future__ import annotations

from collections.abc import Sequence

from margin.book import Book
from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import check
from margin.presets.preset import Preset
from margin.presets.sections import Pair, rate_of
from margin.reasons.explanation import PairVector, UnitPart
from margin.simulation.delta_gamma import exposures_of


def offset_gains(profits: Sequence[int], offset_ppb: int) -> list[int]:
    """A pair's profits by cell as they count towards others: gains x offset, losses whole.

    Any unit of money; gains are floored.
    """
    check(0 <= offset_ppb <= RATE_SCALE, "pair: offset out of range")
    return [p * offset_ppb // RATE_SCALE if p > 0 else p for p in profits]


def delta_shock_coin(
    delta_e8: int, index_e8: int, threshold_usd: int, slope_ppb: int, most_ppb: int
) -> int:
    """Charge on a net delta above a threshold, 10^-8 coin, rounded up.

    |delta| x min(most, slope x coins above threshold_usd / index): nothing up to the threshold,
    then a rate that grows by `slope_ppb` a coin.
    """
    check(index_e8 > 0, "delta shock: index not positive")
    size = abs(delta_e8)
    over_e8 = max(0, size - threshold_usd * PRICE_SCALE * PRICE_SCALE // index_e8)
    rate_ppb = min(most_ppb, -(-over_e8 * slope_ppb // PRICE_SCALE))
    return -(-size * rate_ppb // RATE_SCALE)


def pair_vectors(preset: Preset, book: Book, units: Sequence[UnitPart]) -> tuple[PairVector, ...]:
    """The vector of every unit of an explanation in its coin, where the preset has pairs."""
    if preset.pair is None:
        return ()
    exposures, vectors = exposures_of(book), []
    for part in units:
        unit = book.unit_names.index(part.unit)
        per_coin = COIN_SCALE * PRICE_SCALE // USDC_SCALE
        profit = [row.profit_minor * per_coin // part.index_e8 for row in part.scenarios]
        coins = exposures[unit].slope_usdc * PRICE_SCALE / part.index_e8
        delta_e8 = round(coins * COIN_SCALE)
        vectors.append(
            PairVector(
                part.unit, tuple(profit), tuple(offset_gains(profit, preset.pair.offset_ppb)),
                delta_e8, _shock_e8(preset.pair, book.risk_classes[unit], delta_e8, part.index_e8),
            )
        )  # fmt: skip
    return tuple(vectors)


def _shock_e8(pair: Pair, risk_class: str, delta_e8: int, index_e8: int) -> int:
    rules = pair.delta_shock
    if rules is None:
        return 0
    per_coin_e9 = rate_of(rules.per_coin, risk_class)
    return delta_shock_coin(delta_e8, index_e8, rules.threshold_usd, per_coin_e9, rules.most_ppb)
