"""Stresses as text: what a person reads of `uncross stress`, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from exchange.cli.margin_view import table_lines, usdc
from exchange.cli.narration import clock_text
from exchange.market_stress import MarketOutcome, MarketStress
from exchange.portfolios.stress import Moved, PortfolioStress

PERCENT_E9 = 10**7
NOWHERE = "-"
LEGEND = f"{NOWHERE}  no move within -99 % .. +500 %"
CREDITED = "credit elsewhere counts against maintenance and pays nothing that is owed"
REVERSE = ("margin call", "liquidation", "below zero")
COLUMNS = 80
SIDE_BY_SIDE = 4  # directions in one table: as many as 80 columns hold

Cell = str | int
"""A text, or an amount in minor USDC."""


def move_text(move_e9: int | None) -> str:
    """A move in per cent to two digits, away from zero: the move that is named breaks it, too."""
    if move_e9 is None:
        return NOWHERE
    if not move_e9:
        return "as it stands"
    whole, part = divmod(-(-abs(move_e9) * 100 // PERCENT_E9), 100)
    return f"{'-' if move_e9 < 0 else '+'}{whole}.{part:02d} %"


def moved_text(found: Moved) -> tuple[str, str]:
    """The fall and the rise."""
    return move_text(found.fall_e9), move_text(found.rise_e9)


def fitted_lines(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A table; its amounts in whole USDC where cents would make it wider than 80 columns."""

    def table(decimals: int) -> list[str]:
        return table_lines(
            [[c if isinstance(c, str) else usdc(c, decimals) for c in row] for row in rows], ""
        )

    lines = table(2)
    return lines if max(map(len, lines)) <= COLUMNS else table(0)


def stress_lines(found: PortfolioStress | MarketStress) -> list[str]:
    """All of a report."""
    return market_lines(found) if isinstance(found, MarketStress) else portfolio_lines(found)


def portfolio_lines(found: PortfolioStress) -> list[str]:
    """A portfolio: stresses, what breaks it, and its equity along each direction."""
    rows: list[list[Cell]] = [
        ["stress", "loss", "equity after", "initial", "maintenance", "standing"]
    ]
    rows += [
        [one.name, one.loss_minor if number else "", one.equity_minor, one.initial_minor,
         one.maintenance_minor, one.standing]
        for number, one in enumerate(found.outcomes)
    ]  # fmt: skip
    lines = [f"{found.model} at {clock_text(found.time_ns)} UTC, in USDC", ""]
    lines += fitted_lines(rows)
    if not found.reverse:
        return [*lines, "", "no underlying is held, so no move of spot breaks it"]
    reverse: list[list[Cell]] = [["smallest move to", "spot of", "fall", "rise"]]
    for at, words in enumerate(REVERSE):
        for one in found.reverse:
            level = (one.call, one.liquidation, one.zero)[at]
            reverse.append([words, one.direction, *moved_text(level)])
    grid = [(row.move_e9, row.equity_minor) for row in found.grid]
    along = [one.direction for one in found.reverse]
    return [*lines, "", *reverse_lines(reverse), "",
            *grid_lines("equity after a move of spot", along, grid)]  # fmt: skip


def reverse_lines(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A table of smallest moves, and what a dash says if there is one."""
    return [*fitted_lines(rows), *([LEGEND] if any(NOWHERE in row for row in rows) else [])]


def grid_lines(
    heading: str, along: Sequence[str], grid: Sequence[tuple[int, Sequence[int]]]
) -> list[str]:
    """Amounts by move, a column a direction, a few directions beside each other."""
    lines = []
    for first in range(0, len(along), SIDE_BY_SIDE):
        some = slice(first, first + SIDE_BY_SIDE)
        rows: list[list[Cell]] = [["move", *along[some]]]
        rows += [
            ["0 %" if move == 0 else f"{move / PERCENT_E9:+.0f} %", *amounts[some]]
            for move, amounts in grid
        ]
        lines += ["", *fitted_lines(rows)] if lines else [heading, *fitted_lines(rows)]
    return lines


def market_lines(found: MarketStress) -> list[str]:
    """A market: stresses, the worst pools in each, what exhausts the fund, and its burden."""
    lines = [
        f"venue {found.venue}, cycle {found.cycle}, closed {clock_text(found.time_ns)} UTC",
        f"{found.accounts} accounts, {found.pools} pools, {', '.join(found.models)}, in USDC",
        f"insurance fund {usdc(found.fund_minor)}", "", *outcome_lines(found.outcomes),
    ]  # fmt: skip
    for one in found.outcomes[1:]:
        lines += ["", *worst_lines(one)]
    reverse = [["smallest move that exhausts the fund", "fall", "rise"]]
    reverse += [[one.direction, *moved_text(one.exhausted)] for one in found.reverse]
    grid = [(row.move_e9, row.burden_minor) for row in found.grid]
    along = [one.direction for one in found.reverse]
    return [*lines, "", *reverse_lines(reverse), "",
            *grid_lines("burden of the fund after a move of spot", along, grid)]  # fmt: skip


def outcome_lines(outcomes: Sequence[MarketOutcome]) -> list[str]:
    """What stresses cost, with the credit that is left where there is any, and whom they break."""
    credited = any(one.credit_minor for one in outcomes)
    money: list[list[Cell]] = [["stress", "losses", "beyond equity", "fund after"]]
    money += [[one.name, one.losses_minor, one.burden_minor, one.fund_minor] for one in outcomes]
    if credited:
        money[0].append("credit elsewhere")
        for row, one in zip(money[1:], outcomes, strict=True):
            row.append(one.credit_minor)
    broken = [["stress", "below maintenance: accounts", "pools", "below zero: accounts", "pools"]]
    broken += [
        [one.name, str(one.accounts_below_maintenance), str(one.pools_below_maintenance),
         str(one.accounts_below_zero), str(one.pools_below_zero)]
        for one in outcomes
    ]  # fmt: skip
    said = [CREDITED] if credited else []
    return [*fitted_lines(money), "", *fitted_lines(broken), *said]


def worst_lines(one: MarketOutcome) -> list[str]:
    """The pools that a stress leaves with least."""
    if not one.worst:
        return [f"{one.name}: no account loses"]
    rows: list[list[Cell]] = [[f"worst in {one.name}", "loss", "equity after"]]
    rows += [[row.pool, row.loss_minor, row.equity_minor] for row in one.worst]
    return fitted_lines(rows)
