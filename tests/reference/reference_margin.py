"""Slow twin of `margin.scenarios.grid` and `margin.pools.requirement`: one number at a time.

Scenario values come from libm (`math.erf`), so they agree with the kernels to float precision.
Requirements are exact: big integers and fractions from a given matrix.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from margin.portfolio import INVERSE, INVERSE_CALL, LINEAR_CALL, NEVER_NS, Instruments, Marks
from margin.presets.preset import Preset
from margin.scenarios.grid import ExpiryRows, ScenarioMatrix, Scenarios

YEAR_NS = 365 * 86_400 * 10**9


def black_76(f: float, k: float, iv: float, tau: float, discount: float, is_call: bool) -> float:
    """European option on a forward, by the textbook."""
    sign = 1.0 if is_call else -1.0
    if tau <= 0 or iv <= 0:
        return discount * max(0.0, sign * (f - k))
    deviation = iv * math.sqrt(tau)
    d1 = math.log(f / k) / deviation + deviation / 2

    def cdf(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return discount * sign * (f * cdf(sign * d1) - k * cdf(sign * (d1 - deviation)))


def shocked_volatility(
    preset: Preset, volatility: float, tau: float, side: int, up_e9: int | None = None
) -> float:
    """Volatility moved down, not at all, or up, by tenor; `up_e9` where a coin has its own."""
    shock = preset.volatility
    up_e9 = shock.up_e9 if up_e9 is None else up_e9
    days = tau * 365
    power = shock.short_power_e9 if days <= shock.reference_days else shock.long_power_e9
    size = math.pow(shock.reference_days / max(days, shock.floor_days_e9 / 1e9), power / 1e9)
    if side < 0:
        return volatility * max(0.0, 1 - shock.down_e9 / 1e9 * size)
    if side > 0:
        return max(shock.least_up_e9 / 1e9, volatility * (1 + up_e9 / 1e9 * size))
    return volatility


def skewed_volatility(preset: Preset, volatility: float, k: float, tau: float, way: str) -> float:
    """Volatility after the smile has turned, k = ln(strike / forward)."""
    skew = preset.skew
    root = math.sqrt(tau)
    cap = (
        getattr(skew, f"{way}_cap_e9") + getattr(skew, f"{way}_cap_per_root_year_e9") * root
    ) / 1e9
    width = skew.width_e9 / 1e9 * root
    reach = width * (skew.volatility_e9 + skew.volatility_per_root_year_e9 * root) / 1e9
    turn = (abs(k) if way == "absolute" else k) * cap / max(skew.least_reach_e9 / 1e9, reach)
    return volatility * max(0.0, 1 + max(-cap, min(cap, turn)))


def static_factors(
    preset: Preset, tau: float, rate: float, discounted: bool = True
) -> tuple[float, float]:
    """What a positive and a negative shocked value count; the cap undoes a discount, if any."""
    d = preset.discount
    if d is None:
        return 1.0, 1.0
    positive = d.long_base_e9 / 1e9
    positive *= math.exp(-tau * (rate * d.long_rate_share_e9 + d.long_add_e9) / 1e9)
    negative = d.short_base_e9 / 1e9
    negative *= math.exp(tau * (rate * d.short_rate_share_e9 + d.short_add_e9) / 1e9)
    return positive, min(math.exp(rate * tau) if discounted else 1.0, negative)


def open_share(preset: Preset, tau: float) -> float:
    """The part of a settlement mean that is not fixed yet."""
    if preset.averaging is None:
        return 1.0
    return min(1.0, tau * 365 * 86_400 / preset.averaging.window_s)


def _option_profit_usdc(
    preset: Preset, instruments: Instruments, marks: Marks, i: int,
    shock: tuple[float, int, float, int | None], spot_moves: bool = True,
) -> tuple[float, float]:  # fmt: skip
    move, side, weight, up_e9 = shock
    kind = int(instruments.kind[i])
    tau = max(0, int(instruments.expiry_ns[i]) - marks.now_ns) / YEAR_NS
    rate = max(0, int(marks.rate_e9[i])) / 1e9
    inverse = kind >= INVERSE_CALL
    discounted = (preset.option is None or preset.option.discounted) and not inverse
    discount = math.exp(-rate * tau) if discounted else 1.0
    forward = int(marks.forward_e8[i]) / 1e8
    strike = int(instruments.strike_e8[i]) / 1e8
    iv = int(marks.volatility_e9[i]) / 1e9
    if side >= 2:
        way = "linear" if side == 2 else "absolute"
        shocked = skewed_volatility(preset, iv, math.log(strike / forward), tau, way)
    else:
        shocked = shocked_volatility(preset, iv, tau, side, up_e9)
    call = kind in (LINEAR_CALL, INVERSE_CALL)
    moved = forward * (1 + open_share(preset, tau) * move)
    then = black_76(moved, strike, shocked, tau, discount, call)
    now = black_76(forward, strike, iv, tau, discount, call)
    if inverse and spot_moves:  # coin worth the spot then, on a forward of which a part has stopped
        then *= (1 + move) / (1 + open_share(preset, tau) * move)
    lot = int(instruments.lot_e8[i]) / 1e8
    if inverse:
        lot *= int(marks.index_e8[instruments.unit[i]]) / 1e8 / forward
    positive, negative = static_factors(preset, tau, rate, discounted)
    return (then * positive - now) * lot * weight, (then * negative - now) * lot * weight


def lot_profit_usdc(
    preset: Preset, instruments: Instruments, marks: Marks, scenarios: Scenarios, i: int, s: int
) -> tuple[float, float]:
    """Weighted profit of one long lot of instrument i in scenario s, in USDC.

    The first if its expiry's shocked net value is positive, the second if it is negative.
    """
    move = int(scenarios.spot_move_e9[s]) / 1e9
    weight = int(scenarios.weight_e9[s]) / 1e9
    side = int(scenarios.volatility_side[s])
    if int(instruments.kind[i]) >= LINEAR_CALL:
        return _option_profit_usdc(
            preset, instruments, marks, i, (move, side, weight, scenarios.volatility_up_e9)
        )
    lot = int(instruments.lot_e8[i]) / 1e8
    mark = int(marks.mark_e8[i]) / 1e8
    tau = max(0, int(instruments.expiry_ns[i]) - marks.now_ns) / YEAR_NS
    moved = mark * (1 + open_share(preset, tau) * move)
    if int(instruments.kind[i]) == INVERSE:
        spot_then = int(marks.index_e8[instruments.unit[i]]) / 1e8 * (1 + move)
        profit = lot * (1 / mark - 1 / moved) * spot_then * weight
    else:
        profit = lot * (moved - mark) * weight
    return profit, profit


def basis_profit_usdc(
    preset: Preset, instruments: Instruments, marks: Marks, i: int, move: float
) -> float:
    """Weighted profit of one long lot when its forward alone moves; no discount applies."""
    if int(instruments.expiry_ns[i]) == NEVER_NS:
        return 0.0
    tau = max(0, int(instruments.expiry_ns[i]) - marks.now_ns) / YEAR_NS
    weight = (preset.basis.add_e9 + preset.basis.per_year_e9 * tau) / 1e9
    if int(instruments.kind[i]) >= LINEAR_CALL:
        plain = msgspec.structs.replace(preset, discount=None)
        return _option_profit_usdc(plain, instruments, marks, i, (move, 0, weight, None), False)[0]
    size = int(instruments.lot_e8[i]) / 1e8 * weight * move * open_share(preset, tau)
    if int(instruments.kind[i]) == INVERSE:
        spot = int(marks.index_e8[instruments.unit[i]]) / 1e8
        return size / (int(marks.mark_e8[i]) / 1e8) * spot
    return size * int(marks.mark_e8[i]) / 1e8


def _coin_part(matrix: ScenarioMatrix, c: int, s: int, amount_minor: int, with_value: bool) -> int:
    column = int(matrix.coin[c, s]) + (int(matrix.coin_value[c]) if with_value else 0)
    return amount_minor * column // 10_000


class _Expiry:
    """Sums of one expiry: per candidate row the position, the least and the most with orders."""

    def __init__(self) -> None:
        self.low: dict[tuple[str, int], int] = defaultdict(int)
        self.high: dict[tuple[str, int], int] = defaultdict(int)
        self.at_once = 0
        self.reversed_discount = False

    def net(self, sums: dict[tuple[str, int], int], s: int) -> int:
        """What a discount makes of the two sums of a column."""
        pair = sums["asset", s], sums["liability", s]
        return max(pair) if self.reversed_discount else min(pair)


def _rows_of(matrix: ScenarioMatrix) -> ExpiryRows:
    """The rows of positions; without expiries every candidate is a spot scenario of two equals."""
    if matrix.expiry_rows is not None:
        return matrix.expiry_rows
    none = np.zeros(len(matrix.long), np.bool_)
    return ExpiryRows(matrix.long, matrix.long, matrix.long.shape[1], 0, 0, none)


def _fill(
    expiry: _Expiry,
    matrix: ScenarioMatrix,
    u: int,
    i: int,
    order: tuple[int, int, int, int, int] | None,
    lots: int,
) -> None:
    rows = _rows_of(matrix)
    expiry.reversed_discount = bool(rows.reversed_discount[i])
    for name, table in (("asset", rows.asset), ("liability", rows.liability)):
        for s in range(table.shape[1]):
            moved = lots * int(table[i, s])
            if order is None:
                expiry.low[name, s] += moved
                expiry.high[name, s] += moved
                continue
            _, side, size, loss_quanta, loss_coin_e6 = order
            paid_coin = side * size * loss_coin_e6 // 10**6
            stands = s >= rows.regular + rows.skews  # the coin does where the basis moves
            in_coin = _coin_part(matrix, u, -1 if stands else s, paid_coin, True)
            gain = side * size * loss_quanta + in_coin
            expiry.low[name, s] += min(0, moved + gain)
            expiry.high[name, s] += max(0, moved - gain)
    if order is not None:
        _, side, size, loss_quanta, loss_coin_e6 = order
        paid_coin = side * size * loss_coin_e6 // 10**6
        now = paid_coin * int(matrix.coin_value[u]) // 10_000
        expiry.at_once += min(0, side * size * loss_quanta + now)


def profits_of_unit(
    instruments: Instruments,
    matrix: ScenarioMatrix,
    u: int,
    lots: dict[int, int],
    coin_minor: list[int],
    orders: list[tuple[int, int, int, int, int]],
) -> list[int]:
    """Profit and loss in every candidate: spot scenarios, skews, basis; in quanta."""
    rows = _rows_of(matrix)
    expiries: dict[int, _Expiry] = defaultdict(_Expiry)

    def key(i: int) -> int:
        return int(instruments.expiry_ns[i]) if matrix.expiry_rows is not None else 0

    for i, quantity in lots.items():
        if int(instruments.unit[i]) == u:
            _fill(expiries[key(i)], matrix, u, i, None, quantity)
    for order in orders:
        i = order[0]
        if int(instruments.unit[i]) == u:
            _fill(expiries[key(i)], matrix, u, i, order, order[1] * order[2])
    outcomes = []
    for s in range(rows.regular + rows.skews):
        total = sum(
            _coin_part(matrix, c, s, amount, False)
            for c, amount in enumerate(coin_minor)
            if _coin_unit(matrix, c) == u
        )
        for expiry in expiries.values():
            low, high = expiry.net(expiry.low, s), expiry.net(expiry.high, s)
            total += low if s < rows.regular else -max(-low, high)
        outcomes.append(total)
    if rows.basis:
        at = rows.regular + rows.skews
        outcomes.append(
            sum(
                min(expiry.at_once, expiry.low["asset", at], expiry.low["liability", at])
                for expiry in expiries.values()
            )
        )
    if matrix.floor is not None:
        outcomes[-1] = _delta_floor(instruments, matrix, u, lots, orders)
    if matrix.allowance is not None:
        for s in range(matrix.allowance.shape[1]):
            outcomes[s] += int(matrix.allowance[u, s])
    return outcomes


def _delta_floor(
    instruments: Instruments,
    matrix: ScenarioMatrix,
    u: int,
    lots: dict[int, int],
    orders: list[tuple[int, int, int, int, int]],
) -> int:
    """Minus net delta, the largest that fills can bring, and gross delta, by their rates.

    What an order loses at once counts on either side of the net delta.
    """
    gross, low, high = 0, 0, 0
    for i in sorted({*lots, *(order[0] for order in orders)}):
        if int(instruments.unit[i]) != u:
            continue
        bought = sum(order[2] for order in orders if order[0] == i and order[1] > 0)
        sold = sum(order[2] for order in orders if order[0] == i and order[1] < 0)
        held = lots.get(i, 0)
        gross += max(abs(held + bought), abs(held - sold)) * int(matrix.floor[0, i])
        low += held * int(matrix.floor[1, i])
        high += held * int(matrix.floor[1, i])
    for i, side, size, loss_quanta, loss_coin_e6 in orders:
        if int(instruments.unit[i]) == u:
            paid_coin = side * size * loss_coin_e6 // 10**6
            gain = side * size * loss_quanta + _coin_part(matrix, u, -1, paid_coin, True)
            moved = side * size * int(matrix.floor[1, i])
            low += min(0, moved + gain)
            high += max(0, moved - gain)
    return -max(-low, high) - gross


def _coin_unit(matrix: ScenarioMatrix, c: int) -> int:
    return c if matrix.coin_unit is None else int(matrix.coin_unit[c])


def _contingencies(
    instruments: Instruments,
    matrix: ScenarioMatrix,
    lots: dict[int, int],
    coin_minor: list[int],
    orders: list[tuple[int, int, int, int, int]],
) -> tuple[Fraction, Fraction]:
    """(maintenance, extra initial) in minor units, exact but for coin, which is in whole quanta."""
    bought: dict[int, int] = defaultdict(int)
    sold: dict[int, int] = defaultdict(int)
    for i, side, size, _, _ in orders:
        (bought if side > 0 else sold)[i] += size
    net: dict[int, int] = defaultdict(int)
    member: dict[int, int] = {}
    sums = [Fraction(0), Fraction(0)]
    for i in sorted({*lots, *bought, *sold}):
        quantum = Fraction(1, 2 ** int(matrix.risk_exponent[instruments.unit[i]]))
        held = lots.get(i, 0)
        size = max(abs(held + bought[i]), abs(held - sold[i]))
        if int(instruments.kind[i]) >= LINEAR_CALL:
            net[int(instruments.strike_group[i])] += held - sold[i]
            member[int(instruments.strike_group[i])] = i
            for at, charge in enumerate((matrix.option_mm, matrix.option_im_extra)):
                if charge is not None:
                    sums[at] += size * int(charge[i]) * quantum
        else:
            sums[0] += size * int(matrix.delta_one_mm[i]) * quantum
            sums[1] += size * int(matrix.delta_one_im_extra[i]) * quantum
    for group, lots_net in net.items():
        i = member[group]
        quantum = Fraction(1, 2 ** int(matrix.risk_exponent[instruments.unit[i]]))
        sums[0] += max(0, -lots_net) * int(matrix.naked_mm[i]) * quantum
        sums[1] += max(0, -lots_net) * int(matrix.naked_im_extra[i]) * quantum
    for c, amount in enumerate(coin_minor):
        quantum = Fraction(1, 2 ** int(matrix.risk_exponent[_coin_unit(matrix, c)]))
        for at, rates in enumerate((matrix.coin_mm, matrix.coin_im_extra)):
            if rates is not None:
                sums[at] += -(-abs(amount) * int(rates[c]) // 10_000) * quantum
    return sums[0], sums[1]


def requirement(
    preset: Preset,
    instruments: Instruments,
    matrix: ScenarioMatrix,
    lots: dict[int, int],
    coin_minor: list[int],
    orders: list[tuple[int, int, int, int, int]] | None = None,
) -> dict[str, Any]:
    """worst, initial and maintenance of one pool in minor units, and the scenario per unit.

    `lots` by instrument; an order is (instrument, side, lots, loss quanta, loss coin e6).
    """
    orders = orders or []
    worst = Fraction(0)
    scenario = []
    for u in range(len(matrix.risk_exponent)):
        outcomes = profits_of_unit(instruments, matrix, u, lots, coin_minor, orders)
        lowest = min(outcomes)
        worst += Fraction(max(0, -lowest), 2 ** int(matrix.risk_exponent[u]))
        scenario.append(outcomes.index(lowest) if lowest < 0 else -1)
    worst_minor = math.ceil(worst)
    charge, extra = _contingencies(instruments, matrix, lots, coin_minor, orders)
    factor = preset.factor
    maintenance = math.ceil(Fraction(worst_minor * factor.maintenance_ppb, 10**9))
    initial_ppb = factor.initial_ppb + matrix.peg_ppb
    initial = math.ceil(Fraction(worst_minor * initial_ppb, 10**9))
    return {
        "worst": worst_minor,
        "maintenance": maintenance + math.ceil(charge),
        "initial": initial + math.ceil(extra) + math.ceil(charge),
        "scenario": scenario,
    }


def equity(amounts: list[int], index_e8: list[int], haircut_ppb: list[int]) -> int:
    """USDC minor units of one pool; currency 0 is USDC, the others coins."""
    total = 0
    for c, amount in enumerate(amounts):
        value = amount * index_e8[c] // (10**8 if c == 0 else 10**10)
        total += value * (10**9 - haircut_ppb[c]) // 10**9 if value > 0 else value
    return total
