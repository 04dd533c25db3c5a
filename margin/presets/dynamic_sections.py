"""The sections of a margin model's file that let it move with the market, each optional.

`margin.forecasts.ranges` computes ranges from them, `margin.forecasts.cross_unit` offsets between
coins and `margin.forecasts.predictive` the margin of the cycles to come. Fractions are x 10^9
(`_e9`, `_ppb`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.sections import NamedRate, check_names, require

NO_CAP_PPB: Final = 2**40
"""A cap on rises that is left out (`margin.forecasts.procyclicality.NO_CAP_PPB`)."""

_MOST_ANNUAL_E9 = 20 * RATE_SCALE
_MOST_RISE_PPB = 100 * RATE_SCALE


def _inside(value: int, low: int, high: int, key: str) -> None:
    """`low` and `high` are x 10^9 like `value`."""
    require(low <= value <= high, key, f"must lie in {low / RATE_SCALE:g} .. {high / RATE_SCALE:g}")


def _volatilities(key: str, table: tuple[NamedRate, ...]) -> None:
    check_names(key, table)
    for row in table:
        _inside(row.rate_e9, 1, _MOST_ANNUAL_E9, f"{key}.{row.name}")


class EwmaRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Variance = decay x variance + (1 - decay) x square of the last move."""

    decay_ppb: int

    def __post_init__(self) -> None:
        _inside(self.decay_ppb, 1, RATE_SCALE - 1, "ewma.decay")


class GarchRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Variance = (1 - alpha - beta) x long-run + alpha x square of the last move + beta x variance.

    `long_run`: annual volatility to which the forecast returns, by coin.
    """

    long_run: tuple[NamedRate, ...]
    alpha_ppb: int
    beta_ppb: int

    def __post_init__(self) -> None:
        _volatilities("garch.long_run", self.long_run)
        weights = (self.alpha_ppb, self.beta_ppb)
        require(
            min(weights) >= 0 and sum(weights) < RATE_SCALE, "garch", "needs alpha + beta below 1"
        )


class HarRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Variance = (1 - weights) x long-run + weights x means of the last 1, 5 and 22 squares."""

    long_run: tuple[NamedRate, ...]
    day_ppb: int
    week_ppb: int
    month_ppb: int

    def __post_init__(self) -> None:
        _volatilities("har.long_run", self.long_run)
        weights = (self.day_ppb, self.week_ppb, self.month_ppb)
        require(
            min(weights) >= 0 and sum(weights) <= RATE_SCALE, "har", "needs weights of at most 1"
        )


class ImpliedShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the volatility shocks follow forecast moves of at-the-money volatility.

    Scale = `multiple` x the volatility of those moves (relative, over the horizon) / the static
    shock upward, within `least` .. `most`; both shocks are scaled. The forecaster is an EWMA of
    `decay` that opens at a scale of 1.
    """

    decay_ppb: int
    multiple_e9: int
    least_e9: int
    most_e9: int

    def __post_init__(self) -> None:
        _inside(self.decay_ppb, 1, RATE_SCALE - 1, "dynamic.implied.decay")
        _inside(self.multiple_e9, 1, 100 * RATE_SCALE, "dynamic.implied.multiple")
        ordered = 0 < self.least_e9 <= RATE_SCALE <= self.most_e9 <= 10 * RATE_SCALE
        require(ordered, "dynamic.implied", "needs 0 < least <= 1 <= most <= 10")


class Dynamic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spot ranges that follow forecast volatility, bounded by tools against procyclicality.

    Range = `multiple` x forecast volatility x sqrt(`horizon_s` / `period_s`), moderated, then
    within `least` .. `most` shares of the static range. One of `ewma`, `garch`, `har`. Tools:
    `buffer` (exhaustible), `stress_weight` on `stressed` (annual volatility by coin),
    `floor_share` of the long-run range, whose variance is an EWMA of `long_run_decay`;
    `cycle_rise` and `day_rise`, the most that a range may grow in one cycle and in one day (UTC).
    Tools: EU regulation 153/2013, article 28.
    """

    period_s: int
    horizon_s: int
    multiple_e9: int
    least_e9: int
    most_e9: int
    long_run_decay_ppb: int
    ewma: EwmaRule | None = None
    garch: GarchRule | None = None
    har: HarRule | None = None
    stressed: tuple[NamedRate, ...] = ()
    buffer_ppb: int = 0
    stress_weight_ppb: int = 0
    floor_share_ppb: int = 0
    cycle_rise_ppb: int = NO_CAP_PPB
    day_rise_ppb: int = NO_CAP_PPB
    implied: ImpliedShock | None = None

    def __post_init__(self) -> None:
        require(0 < self.period_s <= 86_400, "dynamic.period_s", "must lie in 1 .. 86400")
        require(0 < self.horizon_s <= 864_000, "dynamic.horizon_s", "must lie in 1 .. 864000")
        _inside(self.multiple_e9, 1, 100 * RATE_SCALE, "dynamic.multiple")
        ordered = 0 < self.least_e9 <= RATE_SCALE <= self.most_e9
        require(ordered, "dynamic", "needs 0 < least <= 1 <= most")
        _inside(self.long_run_decay_ppb, 1, RATE_SCALE - 1, "dynamic.long_run_decay")
        rules = [rule for rule in (self.ewma, self.garch, self.har) if rule is not None]
        require(len(rules) == 1, "dynamic", "needs one of ewma, garch, har")
        for key in ("buffer_ppb", "stress_weight_ppb", "floor_share_ppb"):
            _inside(getattr(self, key), 0, RATE_SCALE, f"dynamic.{key.removesuffix('_ppb')}")
        for key in ("cycle_rise_ppb", "day_rise_ppb"):
            rise, name = getattr(self, key), f"dynamic.{key.removesuffix('_ppb')}"
            allowed = rise == NO_CAP_PPB or 0 < rise <= _MOST_RISE_PPB
            require(allowed, name, "must lie above 0 and within 100")
        if self.stress_weight_ppb > 0 or self.stressed:
            _volatilities("dynamic.stressed", self.stressed)


class CrossUnit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Offset between the worst losses of risk units by the correlation of their moves.

    Correlation: EWMA of `decay` over periods of `period_s`, drawn toward the constant `toward` by
    the weight `shrinkage`. The offset is at most `most_share` of the sum of the units' losses and
    at most `most_usdc` whole USDC.
    """

    period_s: int
    decay_ppb: int
    shrinkage_ppb: int
    toward_ppb: int
    most_share_ppb: int
    most_usdc: int

    def __post_init__(self) -> None:
        require(0 < self.period_s <= 86_400, "cross_unit.period_s", "must lie in 1 .. 86400")
        _inside(self.decay_ppb, 1, RATE_SCALE - 1, "cross_unit.decay")
        for key in ("shrinkage_ppb", "toward_ppb", "most_share_ppb"):
            _inside(getattr(self, key), 0, RATE_SCALE, f"cross_unit.{key.removesuffix('_ppb')}")
        require(0 <= self.most_usdc <= 10**9, "cross_unit.most_usdc", "must lie in 0 .. 10^9")


class Predictive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Margin forecast over the next `cycles`, and the warning before a margin call.

    `fat_tail`: factor on the deviation of profit and loss, at least 1; `tail_freedom`: degrees of
    freedom of Student's t, even from 4 to 30, or 0 for the normal law.
    `warning`: the probability of a margin call from which a pool is warned. With `floor` initial
    margin is at least what it is forecast to be at the widest ranges of those cycles.
    """

    cycles: int
    fat_tail_e9: int
    warning_ppb: int
    floor: bool = False
    tail_freedom: int = 0

    def __post_init__(self) -> None:
        tails = self.tail_freedom == 0 or (4 <= self.tail_freedom <= 30)
        even = self.tail_freedom % 2 == 0
        require(tails and even, "predictive.tail_freedom", "must be 0, or even within 4 .. 30")
        require(0 < self.cycles <= 10_000, "predictive.cycles", "must lie in 1 .. 10000")
        _inside(self.fat_tail_e9, RATE_SCALE, 10 * RATE_SCALE, "predictive.fat_tail")
        _inside(self.warning_ppb, 1, RATE_SCALE, "predictive.warning")
