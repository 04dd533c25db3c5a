"""The models of scenario grids among the others: what the precision rule needs besides figures."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.oracles.case_files import Case, Kind, Outcome

MODULE = "tests.oracles.margin_scenario_models"
"""Its `MODELS` map a model's name to a function of (case, shared tables) that returns figures."""

IN_COIN = ("deribit_xpm_risk_matrix",)
COIN_MINOR = Decimal("1e-8")


def plain(value: Any) -> Any:
    """The same structure with floats for decimals."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value


def gross_notional(inputs: dict[str, Any]) -> Decimal:
    """Size x spot of everything held, of whichever sizes a case of these models states."""

    def number(key: str) -> Decimal:
        return Decimal(inputs.get(key) or 0)

    spot = number("spot_usd") or number("spot") or Decimal(1)
    coins = [number(key) for key in inputs if key.endswith("_size") or key == "size_eth"]
    coins += [Decimal(option["qty"]) for option in inputs.get("options", ())]
    perp = inputs.get("perp")
    coins += [Decimal(perp["size"])] if perp else []
    tokens = [abs(Decimal(t["amount"]) * Decimal(t["price_usd"]))
              for t in inputs.get("collateral", ())]  # fmt: skip
    return spot * sum((abs(size) for size in coins), Decimal(0)) + sum(tokens, Decimal(0))


def scenario_models() -> dict[str, Callable[[Case], Outcome]]:
    """Every model of the module of scenario models, as a function of a case."""
    if importlib.util.find_spec(MODULE) is None:
        return {}
    compute = importlib.import_module(MODULE).MODELS
    return {name: _model(name, compute[name]) for name in compute}


def _model(name: str, compute: Callable[[Any, Any], dict[str, Any]]) -> Callable[[Case], Outcome]:
    kind = Kind.PARADEX_SCAN if name == "paradex_scan" else Kind.ENGINE
    minor = {"minor": COIN_MINOR} if name in IN_COIN else {}

    def model(case: Case) -> Outcome:
        figures = compute(plain(case.row), plain(case.shared))
        return Outcome(figures, kind, gross_notional(case.inputs), **minor)

    return model
