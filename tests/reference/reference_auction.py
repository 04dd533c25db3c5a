"""The batch auction, slow and obvious: every tick of the grid, lists of orders, big integers.

Written from the rules alone, to be compared with the compiled auction. Nothing here is fast, and
nothing is shared with what it checks but the lottery number, which is a definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

NO_CROSS, PRINTED, INTERRUPTED, CLAMPED = 0, 1, 2, 3


@dataclass(frozen=True)
class Order:
    side: int  # +1 buy, -1 sell
    limit_ticks: int | None  # None: market order
    quantity_lots: int
    batch: int = 0
    account: int = 0
    sequence: int = 0

    def accepts(self, price_ticks: int) -> bool:
        if self.limit_ticks is None:
            return True
        return self.side * (self.limit_ticks - price_ticks) >= 0


@dataclass(frozen=True)
class Outcome:
    state: int
    price_ticks: int
    volume_lots: int
    surplus_lots: int
    fill_lots: list[int]


def demand(orders: list[Order], price_ticks: int) -> int:
    return sum(o.quantity_lots for o in orders if o.side > 0 and o.accepts(price_ticks))


def supply(orders: list[Order], price_ticks: int) -> int:
    return sum(o.quantity_lots for o in orders if o.side < 0 and o.accepts(price_ticks))


def candidates(orders: list[Order], reference_ticks: int) -> range:
    ticks = [o.limit_ticks for o in orders if o.limit_ticks is not None] + [reference_ticks]
    return range(min(ticks), max(ticks) + 1)


def free_price(orders: list[Order], reference_ticks: int) -> int:
    """Maximum volume, minimum surplus, pressure, reference."""
    curve = {
        tick: (demand(orders, tick), supply(orders, tick))
        for tick in candidates(orders, reference_ticks)
    }
    most = max(min(bought, sold) for bought, sold in curve.values())
    left = [tick for tick, (bought, sold) in curve.items() if min(bought, sold) == most]
    least = min(abs(curve[tick][0] - curve[tick][1]) for tick in left)
    left = [tick for tick in left if abs(curve[tick][0] - curve[tick][1]) == least]
    surplus = {tick: curve[tick][0] - curve[tick][1] for tick in left}
    if all(value > 0 for value in surplus.values()):
        return max(left)
    if all(value < 0 for value in surplus.values()):
        return min(left)
    if any(value > 0 for value in surplus.values()):
        last_buy_heavy = max(tick for tick in left if surplus[tick] > 0)
        first_sell_heavy = min(tick for tick in left if surplus[tick] < 0)
        left = [last_buy_heavy, first_sell_heavy]
    return max(min(left), min(max(left), reference_ticks))


def share_pro_rata(
    orders: list[Order], lots: int, lottery_number: Callable[[int, int], int]
) -> list[int]:
    """Floor of the exact share each, then one lot each to the largest remainders."""
    total = sum(o.quantity_lots for o in orders)
    exact = [Fraction(o.quantity_lots * lots, total) for o in orders]
    fills = [share.numerator // share.denominator for share in exact]

    def turn(k: int) -> tuple[Fraction, int, int, int]:
        order = orders[k]
        number = lottery_number(order.account, order.sequence)
        return (fills[k] - exact[k], number, order.account, order.sequence)

    for k in sorted(range(len(orders)), key=turn)[: lots - sum(fills)]:
        fills[k] += 1
    return fills


def ration_side(
    orders: list[Order],
    side: int,
    price_ticks: int,
    volume_lots: int,
    lottery_number: Callable[[int, int], int],
) -> list[int]:
    """Fills by market-ness, price, age, then pro rata; 0 for orders that do not accept."""
    classes: dict[tuple[int, int, int], list[int]] = {}
    for row, order in enumerate(orders):
        if order.side == side and order.accepts(price_ticks):
            if order.limit_ticks is None:
                rank = (0, 0, order.batch)
            else:
                rank = (1, -side * order.limit_ticks, order.batch)
            classes.setdefault(rank, []).append(row)
    fills = [0] * len(orders)
    left = volume_lots
    for rank in sorted(classes):
        rows = classes[rank]
        wanted = sum(orders[row].quantity_lots for row in rows)
        given = min(wanted, left)
        shares = share_pro_rata([orders[row] for row in rows], given, lottery_number)
        for row, share in zip(rows, shares, strict=True):
            fills[row] = share
        left -= given
    return fills


def clear_book(
    orders: list[Order],
    reference_ticks: int,
    band: tuple[int, int] | None,
    clamp: bool,
    lottery_number: Callable[[int, int], int],
) -> Outcome:
    """One book's print and fills. `band` is the lowest and highest print allowed, or None."""
    nothing = [0] * len(orders)
    no_cross = Outcome(NO_CROSS, 0, 0, 0, nothing)
    price = free_price(orders, reference_ticks)
    state = PRINTED
    if min(demand(orders, price), supply(orders, price)) == 0:
        return no_cross
    if band is not None and not band[0] <= price <= band[1]:
        if not clamp:
            surplus = demand(orders, price) - supply(orders, price)
            return Outcome(INTERRUPTED, price, 0, surplus, nothing)
        state = CLAMPED
        price = band[0] if price < band[0] else band[1]
    bought, sold = demand(orders, price), supply(orders, price)
    volume = min(bought, sold)
    if volume == 0:
        return no_cross
    buys = ration_side(orders, +1, price, volume, lottery_number)
    sells = ration_side(orders, -1, price, volume, lottery_number)
    fills = [buy + sell for buy, sell in zip(buys, sells, strict=True)]
    return Outcome(state, price, volume, bought - sold, fills)
