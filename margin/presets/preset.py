"""A margin model's constants, resolved to integers: fractions x 10^9 (`_e9`, `_ppb`).

A `Preset` is part of the journal's first record, so it is immutable and encodes the same way
every time: struct fields in their order, names sorted. Presets that ship are data files read by
`margin.presets.load_preset`. A further part of a model is a further optional section here.
"""

from __future__ import annotations

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.add_on_sections import Funding, Gamma, Liquidity
from margin.presets.collateral_sections import CollateralSize, check_sizes
from margin.presets.dynamic_sections import CrossUnit, Dynamic, Predictive
from margin.presets.history_sections import History
from margin.presets.sections import (
    COIN,
    DEFAULT_NAME,
    LEAST_DAMPED_RANGE_E9,
    SKEWS,
    UNCHANGED,
    USD,
    Averaging,
    Basis,
    CollateralCharges,
    Contingency,
    Dampener,
    DeltaFloor,
    Extremes,
    Factors,
    Grid,
    ListedScenario,
    NamedRate,
    OptionValue,
    Oracle,
    Pair,
    Peg,
    Roll,
    Skew,
    StaticDiscount,
    Tails,
    VolatilityShock,
    check_table,
    rate_of,
    require,
)
from margin.presets.standard_sections import Standard

__all__ = [
    "DEFAULT_NAME",
    "RATE_SCALE",
    "Averaging",
    "Basis",
    "CollateralCharges",
    "CollateralSize",
    "Contingency",
    "Dampener",
    "DeltaFloor",
    "Extremes",
    "Factors",
    "Grid",
    "ListedScenario",
    "NamedRate",
    "OptionValue",
    "Oracle",
    "Pair",
    "Peg",
    "Preset",
    "Roll",
    "Skew",
    "StaticDiscount",
    "Tails",
    "VolatilityShock",
    "rate_of",
]


class Preset(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """All constants of one margin model. `spot_range` and `haircut` are sorted by name.

    Scenarios are a `grid` (with `tails`, `extremes`, and both skews where there is a `skew`), or
    written out in `scenario`; not both. A section left out leaves that part of the model out.
    `numeraire` "coin": profit and loss counts in coin at the scenario's spot, within the range.
    `standard` charges by rules and `history` by dates of the past; scenarios then only carry
    contingencies, and `spot_range` is what coverage is judged by and what dates are scaled to.
    """

    name: str
    spot_range: tuple[NamedRate, ...]
    volatility: VolatilityShock
    factor: Factors
    contingency: Contingency
    haircut: tuple[NamedRate, ...]
    grid: Grid | None = None
    tails: Tails | None = None
    extremes: Extremes | None = None
    scenario: tuple[ListedScenario, ...] = ()
    skew: Skew | None = None
    discount: StaticDiscount | None = None
    basis: Basis | None = None
    averaging: Averaging | None = None
    option: OptionValue | None = None
    collateral: CollateralCharges | None = None
    oracle: Oracle | None = None
    peg: Peg | None = None
    numeraire: str = USD
    roll: Roll | None = None
    dampener: Dampener | None = None
    delta_floor: DeltaFloor | None = None
    pair: Pair | None = None
    liquidity: Liquidity | None = None
    gamma: Gamma | None = None
    funding: Funding | None = None
    dynamic: Dynamic | None = None
    cross_unit: CrossUnit | None = None
    predictive: Predictive | None = None
    collateral_size: tuple[CollateralSize, ...] = ()
    standard: Standard | None = None
    history: History | None = None

    def __post_init__(self) -> None:
        self._check_other_rule()
        check_table("spot_range", self.spot_range)
        check_table("haircut", self.haircut)
        check_sizes(self.collateral_size, self.haircut)
        one = (self.grid is None) != (self.scenario == ())
        require(one, "grid", "needs either a grid or a list of scenarios")
        alone = self.grid is not None or (self.tails is None and self.extremes is None)
        require(alone, "scenario", "a list of scenarios stands without tails and extremes")
        require(self.numeraire in (USD, COIN), "numeraire", "must be usd or coin")
        least = min(row.rate_e9 for row in self.spot_range)
        divisible = self.dampener is None or least >= LEAST_DAMPED_RANGE_E9
        require(divisible, "spot_range", "must be at least 0.01 where there is a dampener")
        by_expiry = self.discount is not None or self.basis is not None or self.skew is not None
        require(self.delta_floor is None or not by_expiry, "delta_floor",
                "stands without skew, discount and basis")  # fmt: skip
        skewed = any(row.volatility in SKEWS for row in self.scenario)
        require(self.skew is not None or not skewed, "skew", "is needed by a listed scenario")
        if self.dynamic is not None:
            ranged = self.grid is not None or self.history is not None
            require(ranged, "dynamic", "moves the range of a grid: list no scenario")
            widest = max(row.rate_e9 for row in self.spot_range) * self.dynamic.most_e9
            far = [abs(m) for m in self.extremes.multiple_e9] if self.extremes is not None else []
            whole = RATE_SCALE * RATE_SCALE * RATE_SCALE
            possible = widest * max([RATE_SCALE, *far]) < whole
            require(possible, "dynamic.most", "makes a range of the whole price")
            shocked = self.dynamic.implied is None or self.volatility.up_e9 > 0
            require(shocked, "dynamic.implied", "scales a shock upward, which is 0")
        predicts = self.predictive is None or self.dynamic is not None
        require(predicts, "predictive", "needs dynamic ranges to forecast")
        volatilities = self.grid.volatility if self.grid is not None else ()
        shown = self.predictive is None or UNCHANGED in volatilities
        require(shown, "predictive", "reads the grid at unchanged volatility")

    def _check_other_rule(self) -> None:
        """What charges by rules or by a history has one scenario, in which nothing moves."""
        rules = [key for key in ("standard", "history") if getattr(self, key) is not None]
        if not rules:
            return
        require(len(rules) == 1, "standard", "stands without history")
        still = [(row.move_e9, row.volatility) for row in self.scenario] == [(0, UNCHANGED)]
        require(still, rules[0], "needs one listed scenario, of no move at all")
        barred = ["skew", "discount", "basis", "roll", "dampener", "delta_floor", "pair", "peg",
                  "oracle", "gamma", "cross_unit", "predictive"]  # fmt: skip
        barred += ["dynamic"] if self.standard is not None else []
        for key in barred:
            require(getattr(self, key) is None, rules[0], f"stands without {key}")
        require(self.numeraire == USD, rules[0], "counts in USD")
        plain = not self.factor.scales_contingency
        require(plain, rules[0], "stands without factor.scales_contingency")

    def spot_range_e9(self, unit_class: str) -> int:
        """Largest regular spot move of a risk class, named by its coin."""
        return rate_of(self.spot_range, unit_class)

    def haircut_ppb(self, currency: str) -> int:
        """Collateral haircut of a currency."""
        return rate_of(self.haircut, currency)

    def collateral_rates_ppb(self, currency: str) -> tuple[int, int]:
        """Charges on coin cash of a currency: maintenance, extra initial."""
        if self.collateral is None:
            return 0, 0
        table = self.collateral
        return rate_of(table.maintenance, currency), rate_of(table.initial_extra, currency)
