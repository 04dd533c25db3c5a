"""What an explanation of a requirement consists of: whole minor units that add up, named cells."""

from __future__ import annotations

import msgspec

from margin.reasons.pool_model import Cell


class ScenarioProfit(msgspec.Struct, frozen=True):
    """A scenario of a unit and the pool's profit in it; a loss is a negative one.

    Rounded down, or up in all scenarios of a unit whose loss was dealt the smaller whole number.
    """

    cell: Cell
    profit_minor: int


class PositionPart(msgspec.Struct, frozen=True):
    """A position (or coin cash, by the currency's name) and its part of the worst scenario.

    `quantity_lots` in lots, of coin cash in 10^-8 coin; `lot_e8` coin, or USD of an inverse
    contract, per lot x 10^8; `mark_e8` its mark, of coin cash the index; `value_minor` of an option
    at its mark, minor units of its currency.
    """

    name: str
    quantity_lots: int
    lot_e8: int
    mark_e8: int
    value_minor: int
    profit_minor: int


class Distance(msgspec.Struct, frozen=True):
    """The nearest moves of a unit's index (fractions x 10^9) that end in a call or a liquidation.

    All prices of the unit move together, volatilities stay. 0 where the pool is there already,
    None where no move that was tried gets it there. Narrowed to 0.01 %; a crossing that is undone
    between two of the moves tried is not seen.
    """

    call_down_e9: int | None
    call_up_e9: int | None
    liquidation_down_e9: int | None
    liquidation_up_e9: int | None


class UnitPart(msgspec.Struct, frozen=True):
    """One risk unit: its worst scenario (None where none loses), all of them, what makes it up.

    The `positions` of a unit that loses add up to minus `loss_minor`, which is its lowest scenario;
    the losses of all units add up to the explanation's `worst_minor`.
    """

    unit: str
    index_e8: int
    loss_minor: int
    worst: Cell | None
    scenarios: tuple[ScenarioProfit, ...]
    positions: tuple[PositionPart, ...]
    distance: Distance | None


class Charge(msgspec.Struct, frozen=True):
    """Margin beside the scenario loss. `initial_minor` comes on top of `maintenance_minor`.

    `unit` is empty where a charge is the pool's. An offset is a charge below 0.
    """

    name: str
    unit: str
    maintenance_minor: int
    initial_minor: int


class CollateralPart(msgspec.Struct, frozen=True):
    """One currency: cash and options in its minor units, their value, the haircut, what counts.

    `haircut_ppb` is that of ordinary sizes; `haircut_minor` all that is deducted, `size_minor` of
    it because the owner has much of the coin.
    """

    currency: str
    cash_minor: int
    option_value_minor: int
    index_e8: int
    value_minor: int
    haircut_ppb: int
    haircut_minor: int
    counted_minor: int
    size_minor: int = 0


class SimulatedUnit(msgspec.Struct, frozen=True):
    """What a unit's dates are scaled by: deviations of a day of spot, fractions x 10^9.

    `range_e9` is the larger of the range in force and `floor_e9`. `notional_minor` gross, against
    an average day's volume, needs `horizon_days` to close. `delta_e8` coins x 10^8, and
    `gamma_e8`, by how much that changes while the index moves by 1 %. `value_at_risk_minor` of the
    unit alone on the dates, at the level of the shortfall; `screen_minor` the same by delta and
    gamma at the range alone, which says nothing where `screen_is_valid` is false and which nobody
    is charged by (`margin.simulation.delta_gamma`).
    """

    unit: str
    range_e9: int
    floor_e9: int
    stressed_e9: int
    notional_minor: int
    horizon_days: int
    delta_e8: int
    gamma_e8: int
    value_at_risk_minor: int
    screen_minor: int
    screen_is_valid: bool


class Simulated(msgspec.Struct, frozen=True):
    """The dates whose worst are the loss: the mean of the worst 1 - level of their weight.

    `dates` follow the forecast; `stressed_dates` do not, and weigh `stress_weight_ppb` of all.
    """

    level_ppb: int
    dates: int
    stressed_dates: int
    stress_weight_ppb: int
    units: tuple[SimulatedUnit, ...]


class PairVector(msgspec.Struct, frozen=True):
    """A unit's profits in its coin x 10^8, one for each of its scenarios, and what they count for.

    `counted_e8`: towards other pairs. `delta_e8`: net, of positions and coin; `delta_shock_e8`:
    what its size costs. Nothing of this is charged.
    """

    unit: str
    profit_e8: tuple[int, ...]
    counted_e8: tuple[int, ...]
    delta_e8: int
    delta_shock_e8: int


class MarketLevels(msgspec.Struct, frozen=True):
    """The levels of a party's margin in one market (Vega), minor units of USDC.

    Below maintenance a party is closed out, below search topped up, above release paid out.
    `least_isolated_factor_ppb`: an isolated position's factor must be above it; `isolated_minor` at
    the factor given, opened at the mark; `capped_minor`: full collateral up to the cap given. None
    where none was given.
    """

    market: str
    maintenance_minor: int
    search_minor: int
    initial_minor: int
    release_minor: int
    least_isolated_factor_ppb: int
    isolated_minor: int | None
    capped_minor: int | None


class Explanation(msgspec.Struct, frozen=True):
    """A requirement and all of its parts; amounts in minor units of USDC (10^-6).

    maintenance = scenario_maintenance + sum of maintenance of charges and add-ons;
    initial = scenario_initial + sum of maintenance and initial of charges and add-ons;
    scenario_* = worst x factor, rounded up; equity = sum of the collateral's counted amounts.
    A model without scenarios has no worst loss and no factors: all of it is charges.
    The initial factor holds what a stable coin below its peg adds.
    `call_initial_minor` is initial without open orders, which a margin call is measured against.
    Ratios are requirement / equity x 10^9, rounded up, None where equity is not positive;
    distances are equity less the requirement, negative where it is short. `simulated` says by what
    dates a model of the past charged, None for every other model. `pairs` and `levels` are what the
    model's authors say beside the margin, empty where they do not.
    """

    model: str
    time_ns: int
    standing: str
    equity_minor: int
    worst_minor: int
    initial_minor: int
    maintenance_minor: int
    call_initial_minor: int
    initial_ratio_ppb: int | None
    maintenance_ratio_ppb: int | None
    call_distance_minor: int
    liquidation_distance_minor: int
    initial_factor_ppb: int
    maintenance_factor_ppb: int
    scenario_initial_minor: int
    scenario_maintenance_minor: int
    units: tuple[UnitPart, ...]
    charges: tuple[Charge, ...]
    add_ons: tuple[Charge, ...]
    collateral: tuple[CollateralPart, ...]
    simulated: Simulated | None = None
    pairs: tuple[PairVector, ...] = ()
    levels: tuple[MarketLevels, ...] = ()
