"""Published portfolios through the scenario engine: margin.json's models of that kind.

Every function takes a case and the file's shared tables and returns the figures of the case, by the
names that `expected` uses. The shipped preset of the model is the base; what a case states in its
own parameters replaces the section that holds it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec

from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, LINEAR_PUT
from margin.presets import load_preset
from margin.presets.preset import ListedScenario, NamedRate, Preset
from margin.reasons.pair_vector import delta_shock_coin, offset_gains
from margin.scenarios.listed import listed_order
from tests.oracles.scenario_portfolio import Case, Figures, Portfolio, Row, Token, e8, e9, figures

SIDES = {1: "up", 0: "unchanged", -1: "down", "linear": "linear", "abs": "absolute"}


def listed(rows: list[list[Any]]) -> tuple[ListedScenario, ...]:
    """Scenarios given as spot multiple, side and, if there is one, weight."""
    return tuple(
        ListedScenario(
            move_e9=e9(row[0] - 1),
            volatility=SIDES[row[1]],
            weight_e9=e9(row[2] if len(row) > 2 else 1.0),
        )
        for row in rows
    )


def in_listed_order(profits: list[float], scenarios: tuple[ListedScenario, ...]) -> list[float]:
    """Profits in the order in which a case lists its scenarios."""
    found = [0.0] * len(scenarios)
    for at, profit in zip(listed_order(scenarios), profits, strict=False):
        found[at] = profit
    return found


def _net(found: Figures) -> dict[str, float]:
    return {
        "IM": (found.equity - found.initial) / 1e6,
        "MM": (found.equity - found.maintenance) / 1e6,
        "MTM": found.equity / 1e6,
    }


def _pmrm2_volatility(base: Preset, skew: Case, shock: Case) -> Preset:
    replace = msgspec.structs.replace
    return replace(
        base,
        skew=replace(
            base.skew,
            linear_cap_e9=e9(skew["LINEAR_SCALE_CAP"]),
            linear_cap_per_root_year_e9=e9(skew["LINEAR_CBASE"]),
            absolute_cap_e9=e9(skew["ABS_SCALE_CAP"]),
            absolute_cap_per_root_year_e9=e9(skew["ABS_CBASE"]),
            least_reach_e9=e9(skew["MIN_K_STAR"]),
            width_e9=e9(skew["MIN_WIDTH_SCALE"]),
            volatility_e9=e9(skew["VOL_PARAM_STATIC"]),
            volatility_per_root_year_e9=e9(skew["VOL_PARAM_SCALE"]),
        ),
        volatility=replace(
            base.volatility,
            up_e9=e9(shock["VOLRANGEUP"]),
            down_e9=e9(shock["VOLRANGEDOWN"]),
            least_up_e9=e9(shock["MIN_VOL_EVAL_SHOCKED"]),
            short_power_e9=e9(shock["SHORTTERMPOWER"]),
            long_power_e9=e9(shock["LONGTERMPOWER"]),
            floor_days_e9=e9(shock["DTE_FLOOR"]),
        ),
    )


def _pmrm2_preset(scenarios: tuple[ListedScenario, ...], given: Case) -> Preset:
    base = load_preset("derive-pmrm2")
    margin, basis, other = given["Margin"], given["BasisContingency"], given["OtherContingency"]
    base = _pmrm2_volatility(base, given["SkewShock"], given["VolShock"])
    replace = msgspec.structs.replace
    return replace(
        base,
        scenario=scenarios,
        discount=replace(
            base.discount,
            long_base_e9=e9(margin["BASE_STATIC_DISCOUNT"]),
            long_rate_share_e9=e9(margin["LONG_RATE_MULTSCALE"]),
            long_add_e9=e9(margin["LONG_RATE_ADDSCALE"]),
            short_base_e9=e9(margin["BASE_STATIC_DISCOUNT_NEG"]),
            short_rate_share_e9=e9(margin["SHORT_RATE_MULTSCALE"]),
            short_add_e9=e9(margin["SHORT_RATE_ADDSCALE"]),
        ),
        factor=replace(
            base.factor,
            maintenance_ppb=e9(margin["MM_LOSS_FACTOR"]),
            initial_ppb=e9(margin["IM_LOSS_FACTOR"]),
        ),
        basis=replace(
            base.basis,
            up_e9=e9(basis["SCENARIO_SPOT_UP"] - 1),
            down_e9=e9(basis["SCENARIO_SPOT_DOWN"] - 1),
            add_e9=e9(basis["BASIS_CONT_ADD_FACTOR"]),
            per_year_e9=e9(basis["BASIS_CONT_MULT_FACTOR"]),
        ),
        contingency=replace(
            base.contingency,
            delta_one_maintenance_ppb=e9(other["MM_PERP_PERCENT"]),
            delta_one_initial_extra_ppb=e9(other["IM_PERP_PERCENT"]),
            naked_option_maintenance_ppb=e9(other["MM_OPTION_PERCENT"]),
            naked_option_initial_extra_ppb=e9(other["IM_OPTION_PERCENT"]),
        ),
        oracle=replace(
            base.oracle,
            threshold_ppb=e9(other["CONF_THRESHOLD"]),
            margin_ppb=e9(other["CONF_MARGIN"]),
        ),
        peg=replace(
            base.peg,
            threshold_e9=e9(other["PEG_LOSS_THRESHOLD"]),
            factor_e9=e9(other["PEG_LOSS_FACTOR"]),
        ),
    )


def derive_pmrm2(case: Case, shared: Case) -> dict[str, Any]:
    """Derive's portfolio margin, second version: net IM and MM, value, profit by scenario."""
    given = case["inputs"]
    scenarios = listed(shared[given["scenarios_ref"]])
    preset = _pmrm2_preset(scenarios, shared[given["params_ref"]])
    perp, expiry_of = given["perp"], {e["seconds_to_expiry"]: e for e in given["expiries"]}
    portfolio = Portfolio(
        spot=given["spot_usd"],
        spot_confidence=given["spot_confidence"],
        stable=given["stable_usd"],
        cash=given["cash_usdc"] + perp["upnl"] + perp["unpaid_funding"],
        rows=[Row(LINEAR, perp["size"], perp["price"], confidence=perp["confidence"])],
        tokens=[
            Token(
                t["amount"] * t["price_usd"], t["risk_cancelling"], t["mm_haircut"],
                t["im_extra_haircut"], t["confidence"],
            )
            for t in given["collateral"]
            if t["amount"]
        ],
    )  # fmt: skip
    for option in given["options"]:
        expiry = expiry_of[option["seconds_to_expiry"]]
        portfolio.rows.append(
            Row(
                LINEAR_CALL if option["call"] else LINEAR_PUT, option["qty"], expiry["forward"],
                option["seconds_to_expiry"], option["strike"], option["iv"], expiry["rate"],
                min(expiry["fwd_conf"], expiry["rate_conf"], expiry["vol_conf"]),
            )
        )  # fmt: skip
    found = figures(preset, portfolio)
    return {**_net(found), "scenario_pnl": in_listed_order(found.profits, scenarios)}


def _pmrm1_preset(given: Case) -> Preset:
    base = load_preset("derive-pmrm1")
    replace = msgspec.structs.replace
    return replace(
        base,
        scenario=listed(given["scenarios"]),
        volatility=replace(
            base.volatility,
            up_e9=e9(given["vu"]),
            down_e9=e9(given["vd"]),
            short_power_e9=e9(given["sp"]),
            long_power_e9=e9(given["lp"]),
            floor_days_e9=e9(given["floor"] / 86_400),
        ),
        discount=replace(
            base.discount,
            long_base_e9=e9(given["disc"]),
            long_rate_share_e9=e9(given["rm"]),
            long_add_e9=e9(given["ra"]),
        ),
        basis=replace(
            base.basis,
            up_e9=e9(given["up"] - 1),
            down_e9=e9(given["dn"] - 1),
            add_e9=e9(given["add"]),
            per_year_e9=e9(given["mul"]),
        ),
        factor=replace(base.factor, initial_ppb=e9(given["im"])),
        contingency=replace(
            base.contingency,
            delta_one_maintenance_ppb=e9(given["perp"]),
            naked_option_maintenance_ppb=e9(given["opt"]),
        ),
        oracle=replace(base.oracle, threshold_ppb=e9(given["cT"]), margin_ppb=e9(given["cM"])),
        peg=replace(base.peg, threshold_e9=e9(given["pegT"]), factor_e9=e9(given["pegF"])),
    )


def derive_pmrm1(case: Case, shared: Case) -> dict[str, Any]:
    """Derive's portfolio margin, first version: net IM and MM, value, contingency on size."""
    given = case["inputs"]
    constants = shared[given["params_ref"]]
    portfolio = Portfolio(
        spot=given["spot"],
        spot_confidence=given["spot_conf"],
        stable=given["stable"],
        cash=given["cash"] + given["perp_upnl"] + given["perp_funding"],
        rows=[Row(LINEAR, given["perp_size"], given["perp_price"], confidence=given["perp_conf"])],
    )
    if given["base_size"]:
        portfolio.tokens.append(
            Token(given["base_size"] * given["spot"], True, constants["base"], 0.0, 1.0)
        )
    for expiry in given["expiries"]:
        chain = [
            option
            for option in given["options"]
            if option["seconds_to_expiry"] == expiry["seconds_to_expiry"]
        ]
        sure = min([expiry["fwd_conf"], expiry["rate_conf"], *(o["vol_conf"] for o in chain)])
        portfolio.rows += [
            Row(
                LINEAR_CALL if option["call"] else LINEAR_PUT, option["qty"],
                expiry["fwd_fixed"] + expiry["fwd_variable"], option["seconds_to_expiry"],
                option["strike"], option["iv"], expiry["rate"], sure, expiry["fwd_fixed"],
            )
            for option in chain
        ]  # fmt: skip
    found = figures(_pmrm1_preset(constants), portfolio)
    return {**_net(found), "static_contingency": (found.maintenance - found.worst) / 1e6}


def _paradex_preset(given: Case) -> Preset:
    base = load_preset("paradex")
    replace = msgspec.structs.replace
    rows = given["scenarios_spot_vol_weight"]
    return replace(
        base,
        scenario=tuple(
            ListedScenario(
                move_e9=e9(move), volatility="up" if shock > 0 else "down", weight_e9=e9(weight)
            )
            for move, shock, weight in rows
        ),
        volatility=replace(
            base.volatility,
            up_e9=e9(max(shock for _, shock, _ in rows)),
            down_e9=e9(-min(shock for _, shock, _ in rows)),
            short_power_e9=e9(given["vega_power_short"]),
            long_power_e9=e9(given["vega_power_long"]),
            floor_days_e9=e9(given["dte_floor_days"]),
            least_up_e9=e9(given["min_vol_shock_up"]),
        ),
        delta_floor=replace(
            base.delta_floor,
            hedged_ppb=e9(given["hedged_mf"]),
            unhedged_ppb=e9(given["unhedged_mf"]),
        ),
        factor=replace(base.factor, maintenance_ppb=e9(given["mmf"])),
    )


def paradex_scan(case: Case, shared: Case) -> dict[str, Any]:
    """Paradex's scan with its delta floor, and the funding of the next eight hours on top."""
    given = case["inputs"]
    days, spot = given["days_to_expiry"], given["spot"]
    rows = [Row(LINEAR, given["perp_size"], given["perp_mark"], delta=given["perp_delta"])]
    for name, size in given.items():
        terms = re.fullmatch(r"(call|put)_([0-9.]+)_.*_size", name)
        if terms is not None:
            side = terms[1]
            kind = LINEAR_CALL if side == "call" else LINEAR_PUT
            rows.append(
                Row(
                    kind, size, spot, days * 86_400, float(terms[2]), given[f"{side}_iv"],
                    given["rate"], premium=given[f"{side}_mark"], delta=given[f"{side}_delta"],
                )
            )  # fmt: skip
    preset = _paradex_preset(shared[given["params_ref"]])
    found = figures(preset, Portfolio(spot, 1.0, 1.0, 0.0, rows))
    paid = Fraction(given["perp_size"]) * Fraction(given["funding_8h"]) * Fraction(spot)
    funding = max(0, math.ceil(paid * 10**6))
    return {
        "IMR": (found.initial + funding) / 1e6,
        "MMR": (found.maintenance + funding) / 1e6,
        "worst_loss": max(0.0, -min(found.profits[:-1])),
        "delta_min": -found.profits[-1],
    }


def _deribit_preset(given: Case) -> Preset:
    base = load_preset("deribit")
    steps = given["buckets_each_side"]

    def rate(value: float) -> tuple[NamedRate, ...]:
        return (NamedRate(name="default", rate_e9=e9(value)),)

    replace = msgspec.structs.replace
    return replace(
        base,
        spot_range=rate(given["price_range"]),
        grid=replace(
            base.grid, fraction_e9=tuple(e9(step / steps) for step in range(-steps, steps + 1))
        ),
        roll=replace(
            base.roll,
            least=rate(given["min_annualised_move"]),
            annual=rate(given["annualised_move_risk"]),
        ),
        dampener=replace(base.dampener, amount=rate(given["extended_dampener_usd"])),
        pair=replace(base.pair, offset_ppb=e9(given["pnl_offset"])),
        factor=replace(base.factor, maintenance_ppb=e9(given["mm_factor"])),
    )


def deribit_xpm_risk_matrix(case: Case, shared: Case) -> dict[str, Any]:
    """Deribit's risk matrix of one inverse perpetual, in its coin."""
    given = case["inputs"]
    ((coin, size),) = ((key[5:], value) for key, value in given.items() if key.startswith("size_"))
    index = given["index_usd"]
    preset = _deribit_preset(given)
    found = figures(preset, Portfolio(index, 1.0, 1.0, 0.0, [Row(INVERSE, size * index, index)]))
    unmoved = preset.grid.volatility.index("unchanged")
    cells = found.profits[unmoved : len(preset.grid.fraction_e9) * 3 : 3]
    in_coin = [e9(cell / index) for cell in cells]
    shock = delta_shock_coin(
        e8(size), e8(index), given["delta_liq_threshold_usd"], e9(given["m_inc"]),
        e9(given["max_delta_shock"]),
    ) / 1e8  # fmt: skip
    matrix = found.initial / 1e6 / index + shock
    return {
        f"initial_vector_{coin}": [cell / index for cell in cells],
        f"aggregated_vector_{coin}": [
            cell / 1e9 for cell in offset_gains(in_coin, preset.pair.offset_ppb)
        ],
        "roll_shock": (found.initial - found.worst) / 1e6 / index,
        "risk_matrix_margin": matrix,
        "IM": matrix,
        "MM": found.maintenance / 1e6 / index + shock * given["mm_factor"],
    }


MODELS: dict[str, Callable[[Case, Case], dict[str, Any]]] = {
    "derive_pmrm2": derive_pmrm2,
    "derive_pmrm1": derive_pmrm1,
    "deribit_xpm_risk_matrix": deribit_xpm_risk_matrix,
    "paradex_scan": paradex_scan,
}
