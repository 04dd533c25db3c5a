"""Stresses as text: what a person reads of `uncross stress`."""

from __future__ import annotations

from collections.abc import Sequence

from exchange.cli.margin_view import table_lines, usdc
from exchange.cli.narration import clock_text
from exchange.market_stress import MarketOutcome, MarketStress
from exchange.portfolio_stress import AS_IT_STANDS, Moved, PortfolioStress

PERCENT_E9 = 10**7
NOWHERE = "none within -99 % .. +500 %"
REVERSE = ("margin call", "liquidation", "below zero")


def move_text(move_e9: int | None) -> str:
    """A move in per cent to two digits; that there is none, or that none is needed, in words."""
    if move_e9 is None:
        return NOWHERE
    return f"{move_e9 / PERCENT_E9:+.2f} %" if move_e9 else "as it stands"


def moved_text(found: Moved) -> tuple[str, str]:
    """The fall and the rise."""
    return move_text(found.fall_e9), move_text(found.rise_e9)


def stress_lines(found: PortfolioStress | MarketStress) -> list[str]:
    """All of a report."""
    return market_lines(found) if isinstance(found, MarketStress) else portfolio_lines(found)


def portfolio_lines(found: PortfolioStress) -> list[str]:
    """A portfolio: stresses, what breaks it, and its equity along each direction."""
    rows = [["stress", "loss", "equity after", "initial margin", "maintenance", "standing"]]
    rows += [
        [one.name, "" if one.name == AS_IT_STANDS else usdc(one.loss_minor),
         usdc(one.equity_minor), usdc(one.initial_minor), usdc(one.maintenance_minor),
         one.standing]
        for one in found.outcomes
    ]  # fmt: skip
    lines = [f"{found.model} at {clock_text(found.time_ns)} UTC, in USDC", ""]
    lines += table_lines(rows, "")
    if not found.reverse:
        return [*lines, "", f"no underlying is held: {NOWHERE} breaks it"]
    reverse = [["smallest move to", "spot of", "fall", "rise"]]
    for at, words in enumerate(REVERSE):
        for one in found.reverse:
            level = (one.call, one.liquidation, one.zero)[at]
            reverse.append([words, one.direction, *moved_text(level)])
    grid = [(row.move_e9, row.equity_minor) for row in found.grid]
    along = [one.direction for one in found.reverse]
    return [*lines, "", *table_lines(reverse, ""), "",
            *grid_lines("equity after a spot move of", along, grid)]  # fmt: skip


def grid_lines(
    heading: str, along: Sequence[str], grid: Sequence[tuple[int, Sequence[int]]]
) -> list[str]:
    """Amounts by move, a column a direction."""
    rows = [[heading, *along]]
    rows += [
        [
            "0 %" if move == 0 else f"{move / PERCENT_E9:+.0f} %",
            *(usdc(amount) for amount in amounts),
        ]
        for move, amounts in grid
    ]
    return table_lines(rows, "")


def market_lines(found: MarketStress) -> list[str]:
    """A market: stresses, the worst accounts in each, what exhausts the fund, and its burden."""
    rows = [["stress", "losses", "beyond equity", "below maintenance", "below zero", "fund after"]]
    rows += [
        [one.name, usdc(one.losses_minor), usdc(one.burden_minor), str(one.below_maintenance),
         str(one.below_zero), usdc(one.fund_minor)]
        for one in found.outcomes
    ]  # fmt: skip
    lines = [
        f"venue {found.venue}, cycle {found.cycle}, closed {clock_text(found.time_ns)} UTC, "
        f"{found.accounts} accounts, {', '.join(found.models)}, in USDC",
        f"insurance fund {usdc(found.fund_minor)}", "", *table_lines(rows, ""),
    ]  # fmt: skip
    for one in found.outcomes[1:]:
        lines += ["", *worst_lines(one)]
    reverse = [["smallest move that exhausts the fund", "fall", "rise"]]
    reverse += [[one.direction, *moved_text(one.exhausted)] for one in found.reverse]
    grid = [(row.move_e9, row.burden_minor) for row in found.grid]
    along = [one.direction for one in found.reverse]
    return [*lines, "", *table_lines(reverse, ""), "",
            *grid_lines("burden of the fund after a spot move of", along, grid)]  # fmt: skip


def worst_lines(one: MarketOutcome) -> list[str]:
    """The accounts that a stress leaves with least."""
    if not one.worst:
        return [f"{one.name}: no account loses"]
    rows = [[f"worst in {one.name}", "loss", "equity after"]]
    rows += [[row.account, usdc(row.loss_minor), usdc(row.equity_minor)] for row in one.worst]
    return table_lines(rows, "")
