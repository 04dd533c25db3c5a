"""Slow twin of `margin.scenarios` and `margin.requirement`: one number at a time, no arrays.

Scenario values come from libm (`math.erf`), so they agree with the kernels to float precision.
Requirements are exact: big integers and fractions from a given matrix.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

from margin.portfolio import INVERSE, LINEAR_CALL, Instruments, Marks
from margin.preset import Preset
from margin.scenarios import ScenarioMatrix, Scenarios

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


def shocked_volatility(preset: Preset, volatility: float, tau: float, side: int) -> float:
    """Volatility moved down, not at all, or up, by tenor."""
    shock = preset.volatility
    days = tau * 365
    power = shock.short_power_e9 if days <= shock.reference_days else shock.long_power_e9
    size = math.pow(shock.reference_days / max(days, shock.floor_days), power / 1e9)
    if side < 0:
        return volatility * max(0.0, 1 - shock.down_e9 / 1e9 * size)
    if side > 0:
        return max(shock.least_up_e9 / 1e9, volatility * (1 + shock.up_e9 / 1e9 * size))
    return volatility


def lot_profit_usdc(
    preset: Preset, instruments: Instruments, marks: Marks, scenarios: Scenarios, i: int, s: int
) -> float:
    """Weighted profit of one long lot of instrument i in scenario s, in USDC."""
    move = int(scenarios.spot_move_e9[s]) / 1e9
    weight = int(scenarios.weight_e9[s]) / 1e9
    lot = int(instruments.lot_e8[i]) / 1e8
    kind = int(instruments.kind[i])
    if kind >= LINEAR_CALL:
        tau = max(0, int(instruments.expiry_ns[i]) - marks.now_ns) / YEAR_NS
        discount = math.exp(-max(0, int(marks.rate_e9[i])) / 1e9 * tau)
        forward = int(marks.forward_e8[i]) / 1e8
        strike = int(instruments.strike_e8[i]) / 1e8
        iv = int(marks.volatility_e9[i]) / 1e9
        shocked = shocked_volatility(preset, iv, tau, int(scenarios.volatility_side[s]))
        call = kind == LINEAR_CALL
        then = black_76(forward * (1 + move), strike, shocked, tau, discount, call)
        return (then - black_76(forward, strike, iv, tau, discount, call)) * lot * weight
    mark = int(marks.mark_e8[i]) / 1e8
    if kind == INVERSE:
        spot_then = int(marks.index_e8[instruments.unit[i]]) / 1e8 * (1 + move)
        return lot * (1 / mark - 1 / (mark * (1 + move))) * spot_then * weight
    return lot * mark * move * weight


def _coin_part(matrix: ScenarioMatrix, u: int, s: int, amount_minor: int, with_value: bool) -> int:
    column = int(matrix.coin[u, s]) + (int(matrix.coin_value[u]) if with_value else 0)
    return amount_minor * column // 10_000


def _worst_of_unit(
    instruments: Instruments,
    matrix: ScenarioMatrix,
    u: int,
    lots: dict[int, int],
    coin_minor: int,
    orders: list[tuple[int, int, int, int, int]],
) -> tuple[int, int]:
    """(loss in quanta, scenario or -1)"""
    outcomes = []
    for s in range(matrix.long.shape[1]):
        total = _coin_part(matrix, u, s, coin_minor, False)
        for i, quantity in lots.items():
            if int(instruments.unit[i]) == u:
                total += abs(quantity) * int((matrix.long if quantity > 0 else matrix.short)[i, s])
        for i, side, size, loss_quanta, loss_coin_e6 in orders:
            if int(instruments.unit[i]) == u:
                profit = size * int((matrix.long if side > 0 else matrix.short)[i, s])
                profit += side * size * loss_quanta
                paid_coin = side * size * loss_coin_e6 // 10**6
                profit += _coin_part(matrix, u, s, paid_coin, True)
                total += min(0, profit)
        outcomes.append(total)
    lowest = min(outcomes)
    return (-lowest, outcomes.index(lowest)) if lowest < 0 else (0, -1)


def _contingencies(
    instruments: Instruments,
    matrix: ScenarioMatrix,
    lots: dict[int, int],
    orders: list[tuple[int, int, int, int, int]],
) -> tuple[Fraction, Fraction]:
    """(maintenance, extra initial) in minor units, exact."""
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
        if int(instruments.kind[i]) >= LINEAR_CALL:
            net[int(instruments.strike_group[i])] += held - sold[i]
            member[int(instruments.strike_group[i])] = i
        else:
            size = max(abs(held + bought[i]), abs(held - sold[i]))
            sums[0] += size * int(matrix.delta_one_mm[i]) * quantum
            sums[1] += size * int(matrix.delta_one_im_extra[i]) * quantum
    for group, lots_net in net.items():
        i = member[group]
        quantum = Fraction(1, 2 ** int(matrix.risk_exponent[instruments.unit[i]]))
        sums[0] += max(0, -lots_net) * int(matrix.naked_mm[i]) * quantum
        sums[1] += max(0, -lots_net) * int(matrix.naked_im_extra[i]) * quantum
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
    for u, amount in enumerate(coin_minor):
        loss, at = _worst_of_unit(instruments, matrix, u, lots, amount, orders)
        worst += Fraction(loss, 2 ** int(matrix.risk_exponent[u]))
        scenario.append(at)
    worst_minor = math.ceil(worst)
    charge, extra = _contingencies(instruments, matrix, lots, orders)
    factor = preset.factor
    maintenance = math.ceil(Fraction(worst_minor * factor.maintenance_ppb, 10**9))
    initial = math.ceil(Fraction(worst_minor * factor.initial_ppb, 10**9))
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
