"""Published portfolios through the scenario engine: margin.json's models of that kind.

Every function takes a case and the file's shared tables and returns the figures of the case, by the
names that `expected` uses. The shipped preset of the model is the base; what a case states in its
own parameters replaces the section that holds it. One rule for all: an instrument's lot is its
position, at a strike the largest lot of which every position is whole; the risk exponent is the
finest that the venue's bound on a position allows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from exchange.core import limits
from margin.equity import equity
from margin.fixed_point import COIN_SCALE, NS_PER_SECOND, PRICE_SCALE
from margin.invariant import Int64Array
from margin.portfolio import (
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    NO_STRIKE_GROUP,
    Collateral,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.preset import ListedScenario, Preset
from margin.presets import load_preset
from margin.requirement import RiskTable, pool_requirements, risk_table, unit_profits
from margin.scenario_list import listed_order
from margin.scenarios import loss_multiple, risk_exponent, scenario_matrix, scenarios_of
from margin.valuation import option_marks, option_values

Case = dict[str, Any]

SIDES = {1: "up", 0: "unchanged", -1: "down", "linear": "linear", "abs": "absolute"}


def scaled(value: float, scale: int) -> int:
    """The nearest integer of value x scale, from the exact binary value."""
    return round(Fraction(value) * scale)


def e9(value: float) -> int:
    return scaled(value, 10**9)


def e8(value: float) -> int:
    return scaled(value, 10**8)


def minor(value: float) -> int:
    return scaled(value, 10**6)


def column(values: list[int]) -> Int64Array:
    return np.array(values, dtype=np.int64)


@dataclass
class Row:
    """One instrument of a case with the whole position in it."""

    kind: int
    size: float
    mark: float
    seconds: float | None = None
    strike: float = 0.0
    volatility: float = 0.0
    rate: float = 0.0
    confidence: float = 1.0
    fixed: float | None = None


@dataclass
class Token:
    """Collateral other than cash; `value` is that of the whole holding, which counts as one."""

    value: float
    moves: bool
    maintenance: float
    initial_extra: float
    confidence: float


@dataclass
class Portfolio:
    """A case of one risk unit."""

    spot: float
    spot_confidence: float
    stable: float
    cash: float
    rows: list[Row] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)


@dataclass
class Figures:
    """What the engine says about a portfolio: USDC, net margins, profits by scenario."""

    equity: int
    worst: int
    initial: int
    maintenance: int
    profits: list[float]


def _lots(rows: list[Row]) -> tuple[list[int], list[int], list[int]]:
    """Lot (10^-8 coin), lots and strike group of every row."""
    strikes: dict[tuple[float | None, float], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        if row.kind != LINEAR:
            strikes[row.seconds, row.strike].append(at)
    lot = [abs(e8(row.size)) for row in rows]
    group = [NO_STRIKE_GROUP] * len(rows)
    for number, members in enumerate(strikes.values()):
        shared = math.gcd(*(lot[at] for at in members))
        for at in members:
            lot[at], group[at] = shared, number
    return lot, [e8(row.size) // size for row, size in zip(rows, lot, strict=True)], group


def _instruments(rows: list[Row], lot: list[int], group: list[int]) -> Instruments:
    instruments = Instruments(
        kind=column([row.kind for row in rows]),
        unit=column([0] * len(rows)),
        expiry_ns=column(
            [NEVER_NS if r.seconds is None else scaled(r.seconds, NS_PER_SECOND) for r in rows]
        ),
        strike_e8=column([e8(row.strike) for row in rows]),
        lot_e8=column(lot),
        strike_group=column(group),
    )
    instruments.validate(1)
    return instruments


def _marks(case: Portfolio, rows: list[Row], instruments: Instruments, preset: Preset) -> Marks:
    given = any(row.fixed is not None for row in rows)
    marks = Marks(
        now_ns=0,
        index_e8=column([e8(case.spot)]),
        mark_e8=column([0 if row.kind != LINEAR else e8(row.mark) for row in rows]),
        forward_e8=column([e8(row.mark) for row in rows]),
        volatility_e9=column([e9(row.volatility) for row in rows]),
        rate_e9=column([e9(row.rate) for row in rows]),
        index_confidence_ppb=column([e9(case.spot_confidence)]),
        confidence_ppb=column([e9(row.confidence) for row in rows]),
        fixed_e8=column([e8(row.fixed or 0.0) for row in rows]) if given else None,
        stable_e9=e9(case.stable),
    )
    discounted = preset.option is None or preset.option.discounted
    premiums = option_marks(instruments, marks, discounted)
    marks = msgspec.structs.replace(marks, mark_e8=np.maximum(marks.mark_e8, premiums))
    marks.validate(instruments)
    return marks


def _collateral(case: Portfolio) -> Collateral:
    spot = Token(case.spot, True, 0.0, 0.0, case.spot_confidence)
    tokens = [spot, *case.tokens]
    collateral = Collateral(
        unit=column([0] * len(tokens)),
        price_e8=column([e8(t.value) for t in tokens]),
        moves=column([int(t.moves) for t in tokens]),
        maintenance_ppb=column([e9(t.maintenance) for t in tokens]),
        initial_extra_ppb=column([e9(t.initial_extra) for t in tokens]),
        confidence_ppb=column([e9(t.confidence) for t in tokens]),
    )
    collateral.validate(1)
    return collateral


def _equity(case: Portfolio, option_minor: int, preset: Preset) -> int:
    """Cash, options at mark and tokens; tokens in the stable coin where the model says so."""
    in_stable = preset.peg is not None and preset.peg.collateral_in_stable
    divisor = Fraction(e9(case.stable), 10**9) if in_stable else Fraction(1)
    prices = [round(e8(token.value) / divisor) for token in case.tokens]
    cash = column([minor(case.cash), *(COIN_SCALE for _ in case.tokens)])
    options = np.zeros_like(cash)
    options[0] = option_minor
    index = column([PRICE_SCALE, *prices])
    return int(equity(cash[None, :], options[None, :], index, np.zeros_like(index))[0])


def _table(
    preset: Preset, instruments: Instruments, marks: Marks, collateral: Collateral
) -> RiskTable:
    scenarios = scenarios_of(preset, "default")
    exponent = risk_exponent(
        limits.POSITION_NOTIONAL_MINOR_MAX, len(instruments) + 1, loss_multiple(scenarios, preset)
    )
    matrix = scenario_matrix(
        preset, [scenarios], instruments, marks, column([exponent]), collateral
    )
    return risk_table(preset, instruments, matrix)


def figures(preset: Preset, case: Portfolio) -> Figures:
    """Equity, requirements and scenario profits of a portfolio under a preset."""
    rows = [row for row in case.rows if e8(row.size) != 0]
    lot, lots, group = _lots(rows)
    instruments = _instruments(rows, lot, group)
    marks = _marks(case, rows, instruments, preset)
    table = _table(preset, instruments, marks, _collateral(case))
    order = margin_order(instruments)
    amounts = column([0, *(COIN_SCALE for _ in case.tokens)])
    positions = Positions(
        pool_start=column([0, len(rows)]),
        instrument=order,
        quantity_lots=column(lots)[order],
        coin_minor=amounts[None, :],
    )
    positions.validate(instruments)
    needed = pool_requirements(table, positions)
    profits = unit_profits(table, positions.instrument, positions.quantity_lots, amounts)[0]
    quantum = 2.0 ** -int(table.risk_exponent[0]) / 1e6
    return Figures(
        equity=_equity(case, int(option_values(instruments, marks, positions)[0, 0]), preset),
        worst=int(needed.worst_minor[0]),
        initial=int(needed.initial_minor[0]),
        maintenance=int(needed.maintenance_minor[0]),
        profits=[int(profit) * quantum for profit in profits.tolist()],
    )


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


def _pmrm2_preset(scenarios: tuple[ListedScenario, ...], given: Case) -> Preset:
    base = load_preset("derive-pmrm2")
    skew, shock, margin = given["SkewShock"], given["VolShock"], given["Margin"]
    basis, other = given["BasisContingency"], given["OtherContingency"]
    replace = msgspec.structs.replace
    return replace(
        base,
        scenario=scenarios,
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
            floor_days=round(shock["DTE_FLOOR"]),
        ),
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
            floor_days=round(given["floor"] / 86_400),
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


MODELS: dict[str, Callable[[Case, Case], dict[str, Any]]] = {
    "derive_pmrm2": derive_pmrm2,
    "derive_pmrm1": derive_pmrm1,
}
