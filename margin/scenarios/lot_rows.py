"""The kernels of `margin.scenarios.grid`: rows of instruments and columns of coin cash, quantised.

Floats come in as scaled integers and leave through `quantise`; the loops are serial, so that it can
raise.
"""

from __future__ import annotations

from typing import Final

from numba import njit

from margin.black76 import price_and_greeks
from margin.fixed_point import NS_PER_YEAR, PRICE_SCALE, quantise
from margin.invariant import BoolArray, Float64Array, Int64Array
from margin.portable_math import exp
from margin.portfolio import INVERSE, INVERSE_CALL, LINEAR_CALL, NEVER_NS, NO_DELTA_E9
from margin.scenarios.option_rows import Model, Moves, basis_weight, coin_factor, option_row

_E8: Final = float(PRICE_SCALE)
_E9: Final = 1e9
_COIN_STEP: Final = 1e-4
# Rows of the contingency array; the first four are also places of the rates.
DELTA_ONE, DELTA_ONE_EXTRA, NAKED, NAKED_EXTRA = range(4)
OPTION, OPTION_EXTRA, GROSS_FLOOR, NET_FLOOR = range(4, 8)
_ORACLE_THRESHOLD, _ORACLE_MARGIN, _ROLL_MAINTENANCE, _ROLL_EXTRA = range(4, 8)
_FLOOR_GROSS, _FLOOR_NET = 8, 9

Columns = tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array]
"""Kind, unit, expiry, strike and lot; or index (per unit), mark, forward, volatility and rate."""


@njit(cache=True, error_model="numpy")
def _future_row(
    exposure: float,
    open_share: float,
    in_coin: bool,
    years: float,
    basis: Float64Array,
    moves: Moves,
    asset: Int64Array,
    liability: Int64Array,
) -> None:
    """Fill the rows of a future or perpetual: exposure x move x weight, nothing in skews."""
    spot_move, _, weight = moves
    exposure *= open_share
    for s in range(len(spot_move)):
        gain = exposure * spot_move[s] * weight[s]
        asset[s] = quantise(gain * coin_factor(spot_move[s], open_share) if in_coin else gain)
        liability[s] = asset[s]
    if len(basis) > 0 and years >= 0.0:
        weighted = exposure * basis_weight(years, basis)
        asset[len(spot_move)] = quantise(weighted * basis[0])
        liability[len(spot_move)] = quantise(weighted * basis[1])


@njit(cache=True, error_model="numpy")
def _open_share(price_e8: int, fixed_e8: int, left_ns: int, window_ns: int) -> float:
    """The part of a settlement mean that no observation has fixed yet, between 0 and 1.

    `fixed_e8` is the fixed part of the price, or -1: then it follows from the time left.
    """
    if fixed_e8 >= 0:
        return (price_e8 - fixed_e8) / price_e8 if fixed_e8 < price_e8 else 0.0
    return left_ns / window_ns if left_ns < window_ns else 1.0


@njit(cache=True, error_model="numpy")
def _contingencies(
    is_option: bool,
    notional: float,
    delta: float,
    roll: float,
    confidence: float,
    rates: Float64Array,
    contingency: Int64Array,
    i: int,
) -> None:
    """Fill column `i` of the contingencies of one lot worth `notional` quanta at the index.

    `delta`: what it moves by when the index moves by its whole value; `roll`: the rate on that.
    """
    size = delta if delta >= 0.0 else -delta
    rolled = size * roll
    contingency[GROSS_FLOOR, i] = quantise(size * rates[_FLOOR_GROSS])
    contingency[NET_FLOOR, i] = quantise(delta * rates[_FLOOR_NET])
    doubt = 0.0
    if confidence < rates[_ORACLE_THRESHOLD]:
        doubt = (1.0 - confidence) * rates[_ORACLE_MARGIN]
    if is_option:
        contingency[NAKED, i] = quantise(notional * rates[NAKED])
        contingency[NAKED_EXTRA, i] = quantise(notional * rates[NAKED_EXTRA])
        contingency[OPTION, i] = quantise(rolled * rates[_ROLL_MAINTENANCE])
        contingency[OPTION_EXTRA, i] = quantise(notional * doubt + rolled * rates[_ROLL_EXTRA])
    else:
        charge = notional * rates[DELTA_ONE] + rolled * rates[_ROLL_MAINTENANCE]
        extra = notional * (rates[DELTA_ONE_EXTRA] + doubt) + rolled * rates[_ROLL_EXTRA]
        contingency[DELTA_ONE, i] = quantise(charge)
        contingency[DELTA_ONE_EXTRA, i] = quantise(extra)


@njit(cache=True, error_model="numpy")
def _option(
    i: int,
    instruments: Columns,
    marks: Columns,
    years: float,
    share: tuple[float, float],
    moves: Moves,
    model: Model,
    valued: tuple[bool, bool],
    rows: tuple[Int64Array, Int64Array],
    quanta: float,
) -> tuple[bool, float, float]:
    """Fill the rows of option `i`.

    `share`: the open part of its forward, and what part of its profit and loss counts. Returns
    whether its discounts are reversed, its size in coins, and its delta.
    """
    kind, unit, _, strike_e8, lot_e8 = instruments
    index_e8, mark_e8, forward_e8, volatility_e9, rate_e9 = marks
    forward, lot = forward_e8[i] / _E8, lot_e8[i] / _E8
    terms = (
        forward,
        forward * share[0],
        strike_e8[i] / _E8,
        volatility_e9[i] / _E9,
        years,
        max(0, rate_e9[i]) / _E9,
    )
    # A coin-settled option is worth B76 / F coin, undiscounted, and its coin S (1 + m) then: S / F
    # dollars for each of the linear option, times `coin_factor`.
    in_coin = kind[i] >= INVERSE_CALL
    coins = lot * (index_e8[unit[i]] / _E8 / forward) if in_coin else lot
    discounted = valued[0] and not in_coin
    carried = -1.0
    if valued[1]:
        carried = mark_e8[i] / _E8 * (forward if in_coin else 1.0)
    is_call = kind[i] == LINEAR_CALL or kind[i] == INVERSE_CALL
    is_reversed = option_row(
        is_call, in_coin, unit[i], terms, carried, discounted, model, moves,
        coins * share[1] * quanta, rows[0][i], rows[1][i],
    )  # fmt: skip
    discount = exp(-terms[5] * years) if discounted else 1.0
    slope = price_and_greeks(forward, terms[2], terms[3], years, discount, is_call)[1]
    return is_reversed, coins, slope


@njit(cache=True, error_model="numpy")
def _instrument_rows(
    instruments: Columns,
    now_ns: int,
    marks: Columns,
    certainty: tuple[Int64Array, Int64Array, Int64Array, Int64Array],
    window: tuple[int, bool],
    moves: Moves,
    model: Model,
    roll: Float64Array,
    valued: tuple[bool, bool],
    rates: Float64Array,
    quanta: Float64Array,
    rows: tuple[Int64Array, Int64Array],
    reversed_discount: BoolArray,
    contingency: Int64Array,
) -> None:
    """Rows [I,C] of profit and loss and [8,I] of contingencies; `quanta[U]` per USDC.

    `window`: length of the averaging window, and whether it scales an option's profit and loss;
    `valued`: whether options are discounted, and whether they start from their marks; `roll[U,2]`:
    least and annual rate.
    """
    kind, unit, expiry_ns, _, lot_e8 = instruments
    index_e8, mark_e8, forward_e8, _, _ = marks
    index_confidence, confidence_ppb, fixed_e8, delta_e9 = certainty
    for i in range(len(kind)):
        u = unit[i]
        index, lot = index_e8[u] / _E8, lot_e8[i] / _E8
        is_option = kind[i] >= LINEAR_CALL
        left_ns = max(0, expiry_ns[i] - now_ns)
        dated = expiry_ns[i] != NEVER_NS
        years = left_ns / NS_PER_YEAR if dated else 0.0
        settling_e8 = forward_e8[i] if is_option else mark_e8[i]
        share = _open_share(settling_e8, fixed_e8[i], left_ns, window[0]) if dated else 1.0
        unit_moves = (moves[0][u], moves[1][u], moves[2][u])
        if is_option:
            shares = (1.0, share) if window[1] else (share, 1.0)
            reversed_discount[i], coins, slope = _option(
                i, instruments, marks, years, shares, unit_moves, model, valued, rows, quanta[u]
            )
            notional = lot * index * quanta[u]
            delta = slope * coins * index * quanta[u]
        else:
            # An inverse lot gains lot (1/F - 1/F') coin, each worth S (1 + m) then: lot (S / F) n m
            # dollars, its size in coins now, moved at the index, times `coin_factor`.
            mark, in_coin = mark_e8[i] / _E8, kind[i] == INVERSE
            coins = lot / mark if in_coin else lot
            delta = coins * (index if in_coin else mark) * quanta[u]
            notional = coins * index * quanta[u]
            tenor = years if dated else -1.0
            _future_row(
                delta, share, in_coin, tenor, model[3], unit_moves, rows[0][i], rows[1][i]
            )  # fmt: skip
        if delta_e9[i] != NO_DELTA_E9:
            delta = delta_e9[i] / _E9 * (coins * index * quanta[u])
        rolling = exp(roll[u, 1] * years) - 1.0
        rolling = rolling if rolling > roll[u, 0] else roll[u, 0]
        confidence = min(index_confidence[u], confidence_ppb[i]) / _E9
        _contingencies(is_option, notional, delta, rolling, confidence, rates, contingency, i)


@njit(cache=True, error_model="numpy")
def _coin_columns(
    collateral: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    in_stable: float,
    oracle: Float64Array,
    moves: tuple[Float64Array, Float64Array],
    quanta: Float64Array,
    coin: Int64Array,
    terms: Int64Array,
) -> None:
    """Columns [C,S] of one step of coin cash, and [3,C]: value, maintenance and extra charge."""
    unit, price_e8, moving, maintenance_ppb, extra_ppb, confidence_ppb = collateral
    spot_move, weight = moves
    for c in range(len(unit)):
        u = unit[c]
        step = price_e8[c] / _E8 / in_stable * _COIN_STEP * quanta[u]
        confidence = min(confidence_ppb[c], confidence_ppb[u]) / _E9
        doubt = 0.0
        if confidence < oracle[_ORACLE_THRESHOLD]:
            doubt = (1.0 - confidence) * oracle[_ORACLE_MARGIN]
        terms[0, c] = quantise(step)
        terms[1, c] = quantise(step * (maintenance_ppb[c] / _E9))
        terms[2, c] = quantise(step * (extra_ppb[c] / _E9 + doubt))
        if moving[c] == 1:
            for s in range(spot_move.shape[1]):
                coin[c, s] = quantise(step * spot_move[u, s] * weight[u, s])


@njit(cache=True, error_model="numpy")
def lot_rows(coins, *instruments):  # type: ignore[no-untyped-def]
    """Rows and contingencies of instruments, columns and charges of coins, in one call.

    What they take and fill: `_instrument_rows`; `coins`: `_coin_columns`.
    """
    _instrument_rows(*instruments)
    _coin_columns(*coins)
