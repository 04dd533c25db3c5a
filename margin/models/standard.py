"""Standard margin: options, perpetuals and coin of a pool by rules, in one compiled pass.

Formula: Derive's StandardManager (derivexyz/v2-core, StandardManager.sol). For every expiry of a
risk unit, in value that the pool must keep at the end,

    alone  = sum of value - charge over short options, where long options count nothing
    at end = min(0, payoff at 0 and at every strike) - unpaired rate x forward x max(0, -net calls)
    margin = sum of value at the mark - max(alone, at end)

with value negative for short options. So a requirement here includes what long options are worth
at the mark, since equity counts them in full. Charge of a short call of one coin, at index S:

    maintenance = rate x S          initial = max(least x S, most x S - distance out of the money)

and of a short put at mark m, over = `put_initial_over_maintenance`:

    maintenance = max(rate x S, rate_of_mark x m)
    initial     = max(as for a call, over x (m + maintenance) - m)

Perpetuals and futures: rate x value at the mark. Initial margin gains (1 - c) x factor x S per
short option, perpetual or coin whose confidence c is below the threshold, and
(threshold - stable) x factor x S per short option and perpetual if the stablecoin is below its.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE, mul_div_ceil
from margin.invariant import Int64Array, check
from margin.models.linear import ModelMargins, charge_of, quanta_of
from margin.models.standard_constants import Standard
from margin.portfolio import INVERSE, LINEAR_CALL, LINEAR_PUT, Instruments, Marks, Positions

# Columns of `StandardTable.terms`.
UNIT: Final = 0
EXPIRY: Final = 1
CALL: Final = 2
MULTIPLE: Final = 3
STRIKE: Final = 4
VALUE: Final = 5
MAINTENANCE: Final = 6
INITIAL: Final = 7
EXTRA: Final = 8
UNPAIRED_MAINTENANCE: Final = 9
UNPAIRED_INITIAL: Final = 10
_COLUMNS: Final = 11

_DELTA_ONE: Final = -1
_VALUE_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE
_SPLIT: Final = 100_000


def loss_multiple(standard: Standard) -> int:
    """A whole number that margin / notional of one position can never exceed, for `risk_exponent`.

    A position enters with its value, its largest loss and one charge; no value, loss, index or
    forward is above the notional that also bounds size x strike.
    """
    rates = standard.short_option
    highest = max(
        standard.perpetual.initial_ppb,
        standard.unpaired_call.initial_ppb,
        rates.initial_most_ppb,
        (RATE_SCALE + max(rates.put_maintenance_ppb, rates.put_maintenance_of_mark_ppb))
        * rates.put_initial_over_maintenance_ppb
        // RATE_SCALE,
    )
    extra = standard.oracle.factor_ppb + standard.depeg.factor_ppb
    return 3 - (-(highest + extra) // RATE_SCALE)


class Feeds(msgspec.Struct, frozen=True, gc=False):
    """How far prices can be trusted, 10^9 being fully: what `Marks` do not say.

    `stable_e9`: USD per USDC. `index_confidence_ppb[U]`. `confidence_ppb[I]`: of a perpetual's
    mark; of an option the least of its forward's and its volatility's.
    """

    stable_e9: int
    index_confidence_ppb: Int64Array
    confidence_ppb: Int64Array


class StandardTable(msgspec.Struct, frozen=True, gc=False):
    """What the kernel reads of one revaluation; built by `standard_table`.

    `terms[I,11]`: risk unit; number of the (unit, expiry) of options, -1 for delta-one; 1 for
    calls; lots of the expiry's smallest lot; then quanta: strike per smallest lot, value at the
    mark per lot, maintenance, initial and extra initial charge per short lot (delta-one: per lot
    of either side), unpaired charges per smallest lot. `coin_ppb[U]`: initial charge on coin.
    """

    terms: Int64Array
    risk_exponent: Int64Array
    index_e8: Int64Array
    coin_ppb: Int64Array


def trusted_feeds(instruments: Instruments, marks: Marks) -> Feeds:
    """Feeds with nothing wrong: the stablecoin at one dollar, every confidence full."""
    return Feeds(
        stable_e9=RATE_SCALE,
        index_confidence_ppb=np.full(marks.index_e8.shape[0], RATE_SCALE, dtype=np.int64),
        confidence_ppb=np.full(len(instruments), RATE_SCALE, dtype=np.int64),
    )


def feeds_of(instruments: Instruments, marks: Marks) -> Feeds:
    """How far the marks say that they can be trusted."""
    sure = trusted_feeds(instruments, marks)
    index, own = marks.index_confidence_ppb, marks.confidence_ppb
    return Feeds(
        stable_e9=marks.stable_e9,
        index_confidence_ppb=sure.index_confidence_ppb if index is None else index,
        confidence_ppb=sure.confidence_ppb if own is None else own,
    )


def _expiries(instruments: Instruments) -> Int64Array:
    """A number for every (unit, expiry) that options have, -1 for the rest, shape [I]."""
    option = np.flatnonzero(instruments.is_option())
    numbers = np.full(len(instruments), _DELTA_ONE, dtype=np.int64)
    pairs = np.stack([instruments.unit[option], instruments.expiry_ns[option]], axis=1)
    numbers[option] = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return numbers


def _by_expiry(
    reduce: np.ufunc, column: Int64Array, expiry: Int64Array, neutral: int
) -> Int64Array:
    """`column` reduced over the options of each expiry and spread to them; others keep theirs."""
    option = expiry >= 0
    reduced = np.full(int(expiry.max(initial=0)) + 1, neutral, dtype=np.int64)
    reduce.at(reduced, expiry[option], column[option])
    return np.where(option, reduced[expiry], column)


def standard_table(
    standard: Standard,
    instruments: Instruments,
    marks: Marks,
    feeds: Feeds,
    coin_haircut_ppb: Int64Array,
    risk_exponent: Int64Array,
) -> StandardTable:
    """Lay out a revaluation for `pool_margins`.

    `coin_haircut_ppb[U]`: what equity deducts from the coin of each unit. `risk_exponent[U]` from
    `margin.scenarios.grid.risk_exponent`, with a notional that bounds size x strike as well as size
    x index, and a multiple above every rate. An expiry's forward is the highest of its options',
    its confidence the least. Values are rounded to the nearest quantum per lot, charges up.
    `InvariantBroken` if an option settled in coin is listed: its payoff is not a straight line
    between strikes.
    """
    check((instruments.kind <= LINEAR_PUT).all(), "standard margin: an option settled in coin")
    check(feeds.confidence_ppb.shape == (len(instruments),), "feeds: one confidence an instrument")
    check(feeds.index_confidence_ppb.shape == marks.index_e8.shape, "feeds: one per risk unit")
    unit, option = instruments.unit, instruments.is_option()
    expiry = _expiries(instruments)
    exponent = risk_exponent[unit]
    smallest = _by_expiry(np.gcd, instruments.lot_e8, expiry, 0)
    forward_e8 = _by_expiry(np.maximum, marks.forward_e8, expiry, 0)
    forward = quanta_of(np.where(option, forward_e8, 0), smallest, exponent)
    inverse = instruments.kind == INVERSE
    price_e8 = np.where(inverse, PRICE_SCALE, marks.mark_e8)
    value = quanta_of(price_e8, instruments.lot_e8, exponent)
    index_e8 = np.where(inverse, PRICE_SCALE, marks.index_e8[unit])
    index = quanta_of(index_e8, instruments.lot_e8, exponent)
    strike = quanta_of(instruments.strike_e8, instruments.lot_e8, exponent)
    call = instruments.kind == LINEAR_CALL
    maintenance, initial = _charges(standard, option, call, index, strike, value)
    terms = np.zeros((len(instruments), _COLUMNS), dtype=np.int64)
    terms[:, UNIT], terms[:, EXPIRY] = unit, expiry
    terms[:, CALL], terms[:, MULTIPLE] = call, instruments.lot_e8 // smallest
    terms[:, STRIKE] = quanta_of(instruments.strike_e8, smallest, exponent)
    terms[:, VALUE], terms[:, MAINTENANCE], terms[:, INITIAL] = value, maintenance, initial
    terms[:, EXTRA] = charge_of(index, _extra_ppb(standard, unit, expiry, feeds))
    terms[:, UNPAIRED_MAINTENANCE] = charge_of(forward, standard.unpaired_call.maintenance_ppb)
    terms[:, UNPAIRED_INITIAL] = charge_of(forward, standard.unpaired_call.initial_ppb)
    kept_ppb = charge_of(
        RATE_SCALE - coin_haircut_ppb, RATE_SCALE - standard.coin.initial_scale_ppb
    )
    coin_ppb = kept_ppb + _doubt_ppb(standard, feeds.index_confidence_ppb)
    return StandardTable(terms, risk_exponent, marks.index_e8, coin_ppb)


def _charges(
    standard: Standard,
    option: np.ndarray,
    call: np.ndarray,
    index: Int64Array,
    strike: Int64Array,
    value: Int64Array,
) -> tuple[Int64Array, Int64Array]:
    """(maintenance, initial) per short lot of an option, per lot of anything else, in quanta."""
    rates = standard.short_option
    distance = np.maximum(0, np.where(call, strike - index, index - strike))
    initial = np.maximum(
        charge_of(index, rates.initial_least_ppb),
        charge_of(index, rates.initial_most_ppb) - distance,
    )
    put = np.maximum(
        charge_of(index, rates.put_maintenance_ppb),
        charge_of(value, rates.put_maintenance_of_mark_ppb),
    )
    maintenance = np.where(call, charge_of(index, rates.call_maintenance_ppb), put)
    over = charge_of(value + put, rates.put_initial_over_maintenance_ppb) - value
    initial = np.where(call, initial, np.maximum(initial, over))
    levels = standard.perpetual
    return (
        np.where(option, maintenance, charge_of(value, levels.maintenance_ppb)),
        np.where(option, initial, charge_of(value, levels.initial_ppb)),
    )


def _doubt_ppb(standard: Standard, confidence_ppb: Int64Array) -> Int64Array:
    """(1 - confidence) x factor, rounded up, where confidence is below the threshold, else 0."""
    doubt = charge_of(np.maximum(0, RATE_SCALE - confidence_ppb), standard.oracle.factor_ppb)
    return np.where(confidence_ppb < standard.oracle.threshold_e9, doubt, 0)


def _extra_ppb(
    standard: Standard, unit: Int64Array, expiry: Int64Array, feeds: Feeds
) -> Int64Array:
    """What initial margin charges more, as a fraction of the index, shape [I]."""
    least = _by_expiry(np.minimum, feeds.confidence_ppb, expiry, RATE_SCALE)
    doubt = _doubt_ppb(standard, np.minimum(least, feeds.index_confidence_ppb[unit]))
    gap = max(0, standard.depeg.threshold_e9 - feeds.stable_e9)
    return doubt + mul_div_ceil(gap, standard.depeg.factor_ppb, RATE_SCALE)


@njit(cache=True)
def _expiry_margins(
    terms: Int64Array, instrument: Int64Array, lots: Int64Array, begin: int, end: int
) -> tuple[int, int, int]:
    """(first row after the expiry, maintenance, initial) of one pool's options of one expiry."""
    expiry = terms[instrument[begin], EXPIRY]
    value, long_value, maintenance, initial, extra = 0, 0, 0, 0, 0
    calls, puts, payoff = 0, 0, 0  # payoff at a price of 0: what puts pay
    stop = begin
    while stop < end and terms[instrument[stop], EXPIRY] == expiry:
        i, q = instrument[stop], lots[stop]
        size = q * terms[i, MULTIPLE]
        value += q * terms[i, VALUE]
        if terms[i, CALL] == 1:
            calls += size
        else:
            puts += size
            payoff += size * terms[i, STRIKE]
        if q > 0:
            long_value += q * terms[i, VALUE]
        else:
            maintenance -= q * terms[i, MAINTENANCE]
            initial -= q * terms[i, INITIAL]
            extra -= q * terms[i, EXTRA]
        stop += 1
    lowest, slope, price = min(0, payoff), -puts, 0
    for k in range(begin, stop):
        i = instrument[k]
        payoff += slope * (terms[i, STRIKE] - price)
        price = terms[i, STRIKE]
        lowest = min(lowest, payoff)
        slope += lots[k] * terms[i, MULTIPLE]  # above its strike a call pays, a put no longer does
    unpaired = max(0, -calls)
    first = instrument[begin]
    bounded = value - lowest + unpaired * terms[first, UNPAIRED_MAINTENANCE]
    bounded_initial = value - lowest + unpaired * terms[first, UNPAIRED_INITIAL]
    return (
        stop,
        min(long_value + maintenance, bounded),
        min(long_value + initial, bounded_initial) + extra,
    )


@njit(cache=True)
def coin_charge(amount_minor: int, index_e8: int, rate_ppb: int) -> int:
    """ceil(ceil(amount x index) x rate) in USDC minor units for coin cash above zero."""
    if amount_minor <= 0 or rate_ppb == 0:
        return 0
    price_high = index_e8 // _SPLIT
    price_low = index_e8 - price_high * _SPLIT
    high = amount_minor // _SPLIT
    low = amount_minor - high * _SPLIT
    middle = high * price_low + low * price_high
    rest = (middle - middle // _SPLIT * _SPLIT) * _SPLIT + low * price_low
    value = high * price_high + middle // _SPLIT - (-rest // _VALUE_DIVISOR)
    return mul_div_ceil(value, rate_ppb, RATE_SCALE)


@njit(cache=True)
def _margins(
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    terms: Int64Array,
    risk_exponent: Int64Array,
    index_e8: Int64Array,
    coin_ppb: Int64Array,
    margin_minor: Int64Array,
) -> None:
    for p in range(len(pool_start) - 1):
        k, end = pool_start[p], pool_start[p + 1]
        total, total_initial = 0, 0
        for u in range(len(risk_exponent)):
            maintenance, initial = 0, 0
            while k < end and terms[instrument[k], UNIT] == u:
                i = instrument[k]
                if terms[i, EXPIRY] >= 0:
                    k, more, more_initial = _expiry_margins(terms, instrument, lots, k, end)
                    maintenance += more
                    initial += more_initial
                else:
                    size = abs(lots[k])
                    maintenance += size * terms[i, MAINTENANCE]
                    initial += size * (terms[i, INITIAL] + terms[i, EXTRA])
                    k += 1
            up = (1 << risk_exponent[u]) - 1
            total += (maintenance + up) >> risk_exponent[u]
            total_initial += (initial + up) >> risk_exponent[u]
            total_initial += coin_charge(coin_minor[p, u], index_e8[u], coin_ppb[u])
        margin_minor[0, p] = max(0, total_initial)
        margin_minor[1, p] = max(0, total)


def pool_margins(table: StandardTable, positions: Positions) -> ModelMargins:
    """Margins of every pool, rounded up to minor units once a risk unit, never below 0.

    Rows of a pool must be in margin order (`Positions.validate`). Coin cash beyond the units' own
    coins needs nothing here. An expiry can need less than
    nothing only where marks allow arbitrage: its largest loss is then below what it is worth.
    """
    check(
        positions.coin_minor.shape[1] >= table.risk_exponent.shape[0],
        "standard margin: a risk unit without a column of coin cash",
    )
    margin_minor = np.zeros((2, positions.pool_count), dtype=np.int64)
    _margins(
        positions.pool_start, positions.instrument, positions.quantity_lots, positions.coin_minor,
        table.terms, table.risk_exponent, table.index_e8, table.coin_ppb, margin_minor,
    )  # fmt: skip
    return ModelMargins(margin_minor[0], margin_minor[1])


def warm_up() -> None:
    """Compile the kernels of this module."""
    one = np.zeros(1, dtype=np.int64)
    table = StandardTable(np.zeros((1, _COLUMNS), dtype=np.int64), one, one, one)
    start = np.array([0, 1], dtype=np.int64)
    pool_margins(table, Positions(start, one, one, one.reshape(1, 1)))
