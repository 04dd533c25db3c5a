"""A margin explanation as text: what a person reads of `uncross margin`."""

from __future__ import annotations

from collections.abc import Sequence

from exchange.cli import narration
from exchange.cli.tables import fitted_lines, folded_lines, table_lines
from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.reasons.explain_dates import screen_asks_for_reprice
from margin.reasons.explanation import (
    Distance,
    Explanation,
    MarketLevels,
    PairVector,
    Simulated,
    UnitPart,
)
from margin.reasons.pool_model import Cell, percent_text, weight_text

SIDES = ("down", "unchanged", "up")
FIGURES = (
    ("equity", "equity_minor"),
    ("worst loss", "worst_minor"),
    ("initial margin", "initial_minor"),
    ("maintenance margin", "maintenance_minor"),
    ("to a margin call", "call_distance_minor"),
    ("to liquidation", "liquidation_distance_minor"),
)


def usdc(amount_minor: int, decimals: int = 2) -> str:
    """Minor USDC to the cent; what is less than half of one is nothing."""
    text = narration.usdc(amount_minor, decimals)
    return text.removeprefix("-") if not text.strip("-0.") else text


def quantity_text(amount_e8: int) -> str:
    """10^-8 units with their sign and no digit too many."""
    whole, part = divmod(abs(amount_e8), PRICE_SCALE)
    digits = f"{whole:,}.{part:08d}".rstrip("0").rstrip(".")
    return f"-{digits}" if amount_e8 < 0 else digits


def price_text(price_e8: int) -> str:
    """A price to the cent, or with the digits that a small one needs."""
    return f"{price_e8 / PRICE_SCALE:,.2f}" if price_e8 >= 10 * PRICE_SCALE else quantity_text(
        price_e8
    )  # fmt: skip


def ratio_text(ratio_ppb: int | None) -> str:
    """A ratio as a percentage of equity."""
    return "no equity" if ratio_ppb is None else f"{ratio_ppb / 10**7:.1f} %"


def rate_text(rate_ppb: int) -> str:
    """A fraction as a percentage without a plus."""
    return percent_text(rate_ppb).removeprefix("+")


def moves_text(distance: Distance | None, liquidation: bool) -> str:
    """The moves of an index that end in a call or in liquidation."""
    if distance is None:
        return ""
    if liquidation:
        found = (distance.liquidation_down_e9, distance.liquidation_up_e9)
    else:
        found = (distance.call_down_e9, distance.call_up_e9)
    if 0 in found:
        return "here"
    return " or ".join(f"{move / 10**7:+.2f} %" for move in found if move is not None)


def explanation_lines(found: Explanation) -> list[str]:
    """All of an explanation."""
    lines = [f"{found.model} at {narration.clock_text(found.time_ns)} UTC, in USDC", ""]
    lines += _summary(found)
    lines += ["", *_requirement(found), "", *_collateral(found)]
    if found.simulated is not None:
        lines += ["", *_simulated(found.simulated)]
    if found.levels:
        lines += ["", *_levels(found.levels)]
    pairs = {pair.unit: pair for pair in found.pairs}
    for unit in found.units:
        lines += ["", *_unit(unit)]
        if unit.unit in pairs:
            lines += _pair(unit, pairs[unit.unit], len(found.units) > 1)
    return lines


def _levels(levels: Sequence[MarketLevels]) -> list[str]:
    """Every market's levels, and the isolated and fully collateralised margins that were asked."""
    rows = [["levels", "maintenance", "search", "initial", "release", "isolated above"]]
    rows[0] += ["isolated"] if any(row.isolated_minor is not None for row in levels) else []
    rows[0] += ["capped"] if any(row.capped_minor is not None for row in levels) else []
    for row in levels:
        figures = (row.maintenance_minor, row.search_minor, row.initial_minor, row.release_minor)
        cells = [row.market, *map(usdc, figures), rate_text(row.least_isolated_factor_ppb)]
        for name, minor in (("isolated", row.isolated_minor), ("capped", row.capped_minor)):
            if name in rows[0]:
                cells.append("" if minor is None else usdc(minor))
        rows.append(cells)
    return fitted_lines(rows, (range(1, 5), range(5, len(rows[0]))), "")


def _pair(unit: UnitPart, pair: PairVector, counts: bool) -> list[str]:
    """A unit's vector as it would count towards the other units, and the shock on its delta."""
    shock = quantity_text(pair.delta_shock_e8)
    told = f"  net delta {quantity_text(pair.delta_e8)} {pair.unit}: delta shock {shock}"
    lines = [f"{told} {pair.unit} (told, not charged)"]
    if counts:
        grid: dict[int, int] = {}
        for row, coin_e8 in zip(unit.scenarios, pair.counted_e8, strict=True):
            if row.cell.kind == "grid":
                move = row.cell.spot_move_e9
                grid[move] = min(coin_e8, grid.get(move, coin_e8))
        rows = [["spot move, worst volatility", f"towards other pairs, {pair.unit}"]]
        rows += [[percent_text(move), quantity_text(grid[move])] for move in sorted(grid)]
        lines += table_lines(rows)
    return lines


def _summary(found: Explanation) -> list[str]:
    def near(liquidation: bool) -> str:
        moves = [(unit.unit, moves_text(unit.distance, liquidation)) for unit in found.units]
        told = [
            f"{name} is there" if text == "here" else f"{name} {text}"
            for name, text in moves
            if text
        ]
        if told and all(text.endswith("is there") for text in told):
            return "the account is there"
        return ", ".join(told) or "at no move of an index"

    figures = [
        ["equity", usdc(found.equity_minor), ""],
        ["initial margin", usdc(found.initial_minor), ratio_text(found.initial_ratio_ppb)],
        ["maintenance margin", usdc(found.maintenance_minor),
         ratio_text(found.maintenance_ratio_ppb)],
    ]  # fmt: skip
    return [
        *table_lines(figures, ""),
        f"standing: {found.standing}",
        f"to a margin call {usdc(found.call_distance_minor)}: {near(False)}",
        f"to liquidation {usdc(found.liquidation_distance_minor)}: {near(True)}",
    ]


def requirement_rows(found: Explanation) -> list[tuple[str, int, int]]:
    """What makes up maintenance and initial margin: a name and minor units of both, by line."""
    rows: list[tuple[str, int, int]] = []
    if found.initial_factor_ppb:
        factors = (
            f"worst {usdc(found.worst_minor)} x {found.maintenance_factor_ppb / RATE_SCALE:g}"
            f" and x {found.initial_factor_ppb / RATE_SCALE:g}"
        )
        rows.append((factors, found.scenario_maintenance_minor, found.scenario_initial_minor))
    for charge in (*found.charges, *found.add_ons):
        name = f"{charge.name}, {charge.unit}" if charge.unit else charge.name
        both = charge.maintenance_minor + charge.initial_minor
        rows.append((name, charge.maintenance_minor, both))
    return rows


def _requirement(found: Explanation) -> list[str]:
    rows = [["requirement", "maintenance", "initial"]]
    rows += [[name, usdc(low), usdc(high)] for name, low, high in requirement_rows(found)]
    rows.append(["sum", usdc(found.maintenance_minor), usdc(found.initial_minor)])
    return folded_lines(rows, "")


def _collateral(found: Explanation) -> list[str]:
    rows = [["collateral", "cash", "options", "index", "value", "haircut", "less", "counts"]]
    by_size = any(part.size_minor for part in found.collateral)
    if by_size:
        rows[0].append("for size, of it")
    for part in found.collateral:
        per_unit = PRICE_SCALE // (USDC_SCALE if part.currency == "USDC" else COIN_SCALE)
        rows.append([
            part.currency, quantity_text(part.cash_minor * per_unit),
            quantity_text(part.option_value_minor * per_unit), price_text(part.index_e8),
            usdc(part.value_minor), rate_text(part.haircut_ppb), usdc(part.haircut_minor),
            usdc(part.counted_minor), *([usdc(part.size_minor)] if by_size else []),
        ])  # fmt: skip
    return fitted_lines(rows, (range(1, 5), range(5, len(rows[0]))), "")


def _worst(unit: UnitPart) -> Cell | None:
    """The scenario that loses most, if any loses what can be shown."""
    return unit.worst if usdc(unit.loss_minor) != usdc(0) else None


def _simulated(found: Simulated) -> list[str]:
    """The dates that charged, and by what each underlying's moves on them were scaled."""
    tail = rate_text(RATE_SCALE - found.level_ppb)
    lines = [f"mean loss of the worst {tail} of {found.dates} dates"]
    if found.stressed_dates:
        lines[0] += (
            f" and {found.stressed_dates} stressed ones, which weigh "
            f"{rate_text(found.stress_weight_ppb)}"
        )
    rows = [["underlying", "notional", "days to close", "a day moves", "floor", "stressed"]]
    rows += [
        [row.unit, usdc(row.notional_minor), str(row.horizon_days), rate_text(row.range_e9),
         rate_text(row.floor_e9), rate_text(row.stressed_e9)]
        for row in found.units
    ]  # fmt: skip
    lines += fitted_lines(rows, (range(1, 6),))
    level = rate_text(found.level_ppb)
    rows = [["underlying", "delta", "gamma, 1 %", "screen", "on the dates"]]
    rows += [
        [row.unit, f"{row.delta_e8 / PRICE_SCALE:,.4f}", f"{row.gamma_e8 / PRICE_SCALE:,.4f}",
         usdc(row.screen_minor) if row.screen_is_valid else "not valid",
         usdc(row.value_at_risk_minor)]
        for row in found.units
    ]  # fmt: skip
    title = f"value at risk at {level}, by delta and gamma (a screen, never charged) and in full"
    return [*lines, title, *fitted_lines(rows, (range(1, 5),))]


def _unit(unit: UnitPart) -> list[str]:
    worst = "no scenario loses half a cent" if unit.worst else "no scenario loses"
    if starred := _worst(unit):
        worst = starred.name
    lines = [f"{unit.unit} at {price_text(unit.index_e8)}"]
    if unit.scenarios:
        lines[0] += f": loses {usdc(unit.loss_minor)}; {worst}"
    for liquidation, name in ((False, "margin call"), (True, "liquidation")):
        moves = moves_text(unit.distance, liquidation)
        if moves and moves != "here":
            lines.append(f"  {name} where the index moves {moves}")
    rows = [["position", "quantity", "mark", "in the worst scenario"]]
    rows += [
        [part.name, quantity_text(part.quantity_lots * part.lot_e8), price_text(part.mark_e8),
         usdc(part.profit_minor)]
        for part in unit.positions
    ]  # fmt: skip
    if not unit.scenarios:
        return [*lines, *table_lines([row[:-1] for row in rows])]
    return [*lines, *table_lines(rows), *_scenarios(unit)]


def _scenarios(unit: UnitPart) -> list[str]:
    starred = _worst(unit)
    worst = starred.scenario if starred else -1

    def shown(scenario: int, profit_minor: int) -> str:
        return usdc(profit_minor) + ("*" if scenario == worst else " ")

    grid: dict[int, dict[str, str]] = {}
    others = [["other scenarios", "weight", "profit or loss "]]
    for row in unit.scenarios:
        text = shown(row.cell.scenario, row.profit_minor)
        if row.cell.kind == "grid":
            grid.setdefault(row.cell.spot_move_e9, {})[row.cell.volatility] = text
        else:
            name = row.cell.name.partition(", weight")[0]
            others.append([name, weight_text(row.cell.weight_e9), text])
    sides = [side for side in SIDES if any(side in row for row in grid.values())]
    rows = [["spot move", *(f"volatility {side} " for side in sides)]]
    rows += [
        [percent_text(move), *(grid[move].get(side, "") for side in sides)]
        for move in sorted(grid)
    ]  # fmt: skip
    return [*table_lines(rows), *(table_lines(others) if len(others) > 1 else [])]


def comparison_lines(changes: str, before: Explanation, after: Explanation) -> list[str]:
    """The main figures before and after changes."""
    rows = [[f"{before.model}, in USDC", "before", "after", "change"]]
    for name, field in FIGURES:
        was, now = getattr(before, field), getattr(after, field)
        rows.append([name, usdc(was), usdc(now), usdc(now - was)])
    rows.append([
        "maintenance / equity", ratio_text(before.maintenance_ratio_ppb),
        ratio_text(after.maintenance_ratio_ppb), "",
    ])  # fmt: skip
    rows.append(["standing", before.standing, after.standing, ""])
    units = {unit.unit: unit for unit in before.units}
    for unit in after.units:
        was_minor = units[unit.unit].loss_minor if unit.unit in units else 0
        rows.append([f"worst loss, {unit.unit}", usdc(was_minor), usdc(unit.loss_minor),
                     usdc(unit.loss_minor - was_minor)])  # fmt: skip
    lines = [f"what if {changes}", "", *table_lines(rows, "")]
    asked = screen_asks_for_reprice(before, after)
    if asked is not None:
        answer = "asks for a full reprice" if asked else "would let the margin before stand"
        lines.append(f"delta-gamma screen: {answer}")
    return lines
