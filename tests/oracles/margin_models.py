"""Published inputs into our models: `MODELS` maps a model's name to what computes its figures.

Nothing is computed here but the change of units: every figure comes from `margin`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from margin import black76
from margin.models import lognormal, open_interest, paradex_cross, vega
from margin.models.linear import pool_margins
from margin.portable_math import exp
from margin.portfolio import LINEAR, NEVER_NS, Instruments, Marks, Positions
from tests.oracles.case_files import Case, Kind, Outcome
from tests.oracles.case_inputs import (
    E6,
    E8,
    E9,
    column,
    finest_exponent,
    finest_lot_e8,
    scaled,
    understood,
)
from tests.oracles.scenario_outcomes import scenario_models
from tests.oracles.standard_margin_case import derive_standard_margin

Model = Callable[[Case], Outcome]
PPM = 10**6


def black_76(inputs: dict[str, Any]) -> Outcome:
    """Black-76 with one rate for discounting."""
    understood(inputs, "F", "K", "iv", "t_years", "rate", "call")
    forward, strike, volatility, years, rate = (
        float(inputs[key]) for key in ("F", "K", "iv", "t_years", "rate")
    )
    discount = exp(-rate * years)
    price = black76.price(forward, strike, volatility, years, discount, inputs["call"])
    return Outcome({"price": price}, Kind.PURE)


def kupiec_pof(inputs: dict[str, Any]) -> Outcome:
    """Proportion of failures."""
    from margin.simulation.coverage import kupiec

    understood(inputs, "violations", "n", "p")
    test = kupiec(inputs["violations"], inputs["n"], float(inputs["p"]))
    figures = {"LR": test.statistic, "p_value": test.p_value, "crit95": test.critical_95}
    return Outcome(figures, Kind.PURE)


def lognormal_var_es(inputs: dict[str, Any]) -> Outcome:
    """Closed forms of exp(mu + sigma Z)."""
    understood(inputs, "mu", "sigma", "lambda")
    risk = lognormal.tail_risk(*(float(inputs[key]) for key in ("mu", "sigma", "lambda")))
    return Outcome({"VaR": risk.value_at_risk, "ES": risk.expected_shortfall}, Kind.PURE)


def vega_lognormal_es(inputs: dict[str, Any]) -> Outcome:
    """Risk factors of Vega's lognormal risk model."""
    understood(inputs, "lambda", "tau_years", "mu", "sigma")
    order = ("sigma", "tau_years", "mu", "lambda")
    long, short = lognormal.risk_factors(*(float(inputs[key]) for key in order))
    return Outcome({"rf_long": long, "rf_short": short}, Kind.PURE)


def vega_margin_levels(inputs: dict[str, Any]) -> Outcome:
    """Levels in asset base units, one of which is one minor unit here."""
    understood(
        inputs, "position", "mark", "rf_long", "rf_short", "linear_slippage", "buy_orders",
        "sell_orders", "scaling", optional=("quadratic_slippage", "funding", "auction_price"),
    )  # fmt: skip
    sizes = [inputs[key] for key in ("position", "buy_orders", "sell_orders")]
    lot_e8 = finest_lot_e8(sizes)
    position, buys, sells = (scaled(size, E8) // lot_e8 for size in sizes)
    factors = vega.RiskFactors(
        long_ppb=scaled(inputs["rf_long"], E9),
        short_ppb=scaled(inputs["rf_short"], E9),
        linear_slippage_ppb=scaled(inputs["linear_slippage"], E9),
        quadratic_slippage_ppb=scaled(inputs.get("quadratic_slippage", 0), E9),
    )
    funding = scaled(inputs.get("funding", 0), 1) * lot_e8 // E8
    mark, auction = inputs["mark"], inputs.get("auction_price")
    levels = vega.margin_levels(
        vega.Exposure(position_lots=position, buy_lots=buys, sell_lots=sells,
                      buy_limit_minor=scaled(buys * lot_e8 * Decimal(mark) / E8, 1),
                      sell_limit_minor=scaled(sells * lot_e8 * Decimal(mark) / E8, 1),
                      funding_minor_per_lot=funding),
        scaled(mark, E8 // E6),
        lot_e8,
        factors,
        vega.LevelScaling(**{
            f"{name}_ppb": scaled(value, E9)
            for name, value in zip(("search", "initial", "release"), inputs["scaling"], strict=True)
        }),
        None if auction is None else scaled(auction, E8 // E6),
    )  # fmt: skip
    figures = [levels.maintenance_minor, levels.search_minor, levels.initial_minor,
               levels.release_minor]  # fmt: skip
    return Outcome({"levels_maint_search_initial_release": figures}, Kind.INTEGER)


def dydx_open_interest_imf(inputs: dict[str, Any]) -> Outcome:
    """Initial margin in quote quantums, one of which is one minor unit here."""
    understood(inputs, "base_imf", "oi_lower", "oi_upper", "oi", "notional_quantums")
    tier = open_interest.LiquidityTier(
        base_ppm=scaled(inputs["base_imf"], PPM),
        lower_cap_minor=scaled(inputs["oi_lower"], 1),
        upper_cap_minor=scaled(inputs["oi_upper"], 1),
    )
    initial, _ = open_interest.open_interest_margin_minor(
        scaled(inputs["notional_quantums"], 1), tier, scaled(inputs["oi"], 1)
    )
    return Outcome({"im_quantums": initial}, Kind.INTEGER)


def paradex_cross_margin(inputs: dict[str, Any]) -> Outcome:
    """One perpetual, charged by the pass that all linear models share."""
    understood(inputs, "size", "mark", "imf_base", "mmf_factor")
    lot_e8 = finest_lot_e8([inputs["size"]])
    mark_e8 = scaled(inputs["mark"], E8)
    instruments = Instruments(
        column([LINEAR]), column([0]), column([NEVER_NS]), column([0]), column([lot_e8]),
        column([-1]),
    )  # fmt: skip
    prices = column([mark_e8])
    marks = Marks(0, prices, prices, prices, column([0]), column([0]))
    charges = paradex_cross.lot_charges(
        instruments, marks, column([finest_exponent(1)]),
        column([scaled(inputs["imf_base"], E9)]), column([scaled(inputs["mmf_factor"], E9)]),
    )  # fmt: skip
    lots = scaled(inputs["size"], E8) // lot_e8
    positions = Positions(column([0, 1]), column([0]), column([lots]), np.zeros((1, 1), np.int64))
    margins = pool_margins(charges, positions)
    return Outcome(
        {
            "imr": Decimal(int(margins.initial_minor[0])) / E6,
            "mmr": Decimal(int(margins.maintenance_minor[0])) / E6,
        },
        Kind.ENGINE,
        gross_notional=abs(Decimal(inputs["size"]) * Decimal(inputs["mark"])),
    )


def _of_inputs(model: Callable[[dict[str, Any]], Outcome]) -> Model:
    """A model that needs nothing of a case but its inputs."""
    return lambda case: model(case.inputs)


MODELS: dict[str, Model] = {
    "black76": _of_inputs(black_76),
    "derive_standard_margin": _of_inputs(derive_standard_margin),
    "dydx_open_interest_imf": _of_inputs(dydx_open_interest_imf),
    "kupiec_pof": _of_inputs(kupiec_pof),
    "lognormal_var_es": _of_inputs(lognormal_var_es),
    "paradex_cross_margin": _of_inputs(paradex_cross_margin),
    "vega_lognormal_es": _of_inputs(vega_lognormal_es),
    "vega_margin_levels": _of_inputs(vega_margin_levels),
    **scenario_models(),
}
