"""What one order can lose at most, per contract, at the last marks.

Amounts are quanta of 2^-exponent minor USDC per lot, worked out once a revaluation. `bound` prices
one order in plain integers, `bounds` a table of orders in arrays, to the same figure.

What changes hands at a fill of an inverse contract is coin, which moves with the scenario. For a
future that is the difference of limit and mark. For an option it is the whole premium, against
which stands the option's value at the mark; the scenario's row moves that value, not the premium.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core.auction.uncross import fee_per_lot_e6
from exchange.core.risk.model import RiskModel
from exchange.core.stored.contracts import value_per_lot_e6
from exchange.core.stored.orders import INSTRUMENT_SHIFT, OPEN_LOTS, ORDER_ID, PRICE_TICKS, SIDE
from exchange.core.stored.state import State
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array

E6 = 10**6
COIN_STEP_E6 = 10**4 * E6
# The exact rule may round up this many times for an order, by less than a minor unit each.
ROUNDING_MINOR = 4


class Terms(NamedTuple):
    """What the bound needs of one contract, in plain integers."""

    inverse: int  # settled in coin
    mark_floor: int  # value of a lot at the mark, rounded down; inverse: 10^-6 minor coin
    mark_ceiling: int
    tick: int  # value of a tick
    worst_buy: int  # worst scenario of one long lot
    worst_sell: int
    charge_buy: int  # contingencies
    charge_sell: int
    widest_low: int  # lowest and highest price (ticks) that a market order can meet
    widest_high: int
    fee_ppb: int
    fee_cap: int  # no fee of a lot is above this
    coin_high: int  # most and least that 10^4 minor units of coin can be worth in a scenario
    coin_low: int
    coin_now: int  # what they are worth now
    rounding_minor: int  # what roundings of the exact rule can add to one order


class Ordinary(NamedTuple):
    """`Terms` folded for a limit order on a linear contract or an option: the common case."""

    expiry_ns: int
    price_max: int
    lots_max: int
    tick: int
    worst_buy_less_mark: int
    worst_sell_plus_mark: int
    charge_buy: int
    charge_sell: int
    fee_ppb: int
    fee_cap: int


class TermColumns(NamedTuple):
    """The same of all contracts, a column a field."""

    inverse: Int64Array
    mark_floor: Int64Array
    mark_ceiling: Int64Array
    tick: Int64Array
    worst_buy: Int64Array
    worst_sell: Int64Array
    charge_buy: Int64Array
    charge_sell: Int64Array
    widest_low: Int64Array
    widest_high: Int64Array
    fee_ppb: Int64Array
    fee_cap: Int64Array
    coin_high: Int64Array
    coin_low: Int64Array
    coin_now: Int64Array
    rounding_minor: Int64Array


def _columns(state: State, model: RiskModel, value_e6: Int64Array) -> TermColumns:
    contracts, bounds, exponent = state.contracts, model.lot_bounds(), model.exponent
    inverse = contracts.is_coin_settled
    option = contracts.is_option == 1
    unit = contracts.columns.unit
    widest = [
        state.collars.widest(slot, state.marks.reference_ticks(slot))
        for slot in range(len(contracts))
    ]
    low, high = np.array(widest, np.int64).reshape(-1, 2).T
    mark_whole, mark_rest = np.divmod(value_e6, E6)
    mark = (mark_whole << exponent) + ((mark_rest << exponent) // E6)
    index_value = contracts.columns.lot_e8 // 10**2 * (state.marks.index_e8[unit] // 10**2) // 10**6
    fees = state.venue.fees
    option_cap = (
        (index_value << exponent) // RATE_SCALE * fees.option_ppb
        + (index_value << exponent) % RATE_SCALE * fees.option_ppb // RATE_SCALE
    ) + 2
    coin_minor = bounds.coin_high // 10**4 + 1
    return TermColumns(
        inverse.astype(np.int64),
        np.where(inverse, value_e6, mark),
        np.where(inverse, value_e6, mark + 1),
        contracts.tick_value << exponent,
        bounds.worst_buy,
        bounds.worst_sell,
        bounds.charge_buy,
        bounds.charge_sell,
        low,
        np.minimum(high, contracts.price_max_column),
        np.where(option, fees.option_cap_ppb, fees.future_ppb),
        np.where(option, option_cap, 2**60),
        bounds.coin_high[unit],
        bounds.coin_low[unit],
        bounds.coin_now[unit],
        # The rule rounds an inverse order's coin, and its pool's, down to whole minor units.
        ROUNDING_MINOR + np.where(inverse, (2 * coin_minor[unit] >> exponent) + 1, 0),
    )


class OrderLoss:
    """Bounds on what orders can lose under one margin model, at one set of marks.

    `value_e6[slot]`: value of a lot at its mark, as `Holdings` has it.
    """

    def __init__(self, state: State, model: RiskModel, value_e6: Int64Array) -> None:
        self.state = state
        self.exponent = model.exponent
        self.factor_ppb = model.initial_factor_ppb
        self.columns = _columns(state, model, value_e6)
        fields = (column.tolist() for column in self.columns)
        self.rows = [Terms(*row) for row in zip(*fields, strict=True)]

    def ordinary(self, slot: int) -> Ordinary | None:
        """The folded terms of a contract, None for an inverse one."""
        terms, contracts = self.rows[slot], self.state.contracts
        if terms.inverse:
            return None
        return Ordinary(
            contracts.specs[slot].expiry_ns,
            contracts.price_max[slot],
            contracts.lots_max[slot],
            terms.tick,
            terms.worst_buy - terms.mark_floor,
            terms.worst_sell + terms.mark_ceiling,
            terms.charge_buy,
            terms.charge_sell,
            terms.fee_ppb,
            terms.fee_cap,
        )

    def price_met(self, slot: int, side: int, price_ticks: int) -> int:
        """The worst price an order can trade at: its limit, or the collar's for a market order."""
        if price_ticks > 0:
            return price_ticks
        return self.rows[slot].widest_high if side > 0 else self.rows[slot].widest_low

    def _limit_e6(self, slot: int, price: int) -> int:
        """Value of an inverse lot at a price, in 10^-6 minor units of its coin."""
        spec = self.state.contracts.specs[slot]
        return value_per_lot_e6(spec, price * spec.tick_e8)

    def coin_terms(self, slot: int, side: int, price: int) -> tuple[int, int]:
        """What the buyer of an inverse lot gains at once: quanta, and 10^-6 minor units of coin.

        The two that `margin.pools.requirement.OpenOrders` asks for. A future brings the difference
        of mark and limit in coin; an option its value at the mark, for the limit in coin. Quanta
        are rounded against the order's side.
        """
        limit_e6, terms = self._limit_e6(slot, price), self.rows[slot]
        if not self.state.contracts.is_option_slot(slot):
            return 0, terms.mark_floor - limit_e6
        return side * (side * terms.mark_floor * terms.coin_now // COIN_STEP_E6), -limit_e6

    def at_once(self, slot: int, side: int, price: int) -> int:
        """Quanta that one lot traded at `price` loses at once against the mark; gains negative."""
        terms = self.rows[slot]
        if terms.inverse:
            quanta, coin_e6 = self.coin_terms(slot, side, price)
            loss_e6 = -side * coin_e6
            worth = terms.coin_high if loss_e6 > 0 else terms.coin_low
            return -(-loss_e6 * worth // COIN_STEP_E6) - side * quanta
        limit = price * terms.tick
        return limit - terms.mark_floor if side > 0 else terms.mark_ceiling - limit

    def fee(self, slot: int, side: int, price: int, market: bool) -> int:
        """Quanta that one lot can cost in fees, rounded up."""
        terms = self.rows[slot]
        if terms.inverse:
            if market and not self.state.contracts.is_option_slot(slot):
                price = terms.widest_low  # fewer dollars per coin: more coin per lot
            return fee_per_lot_e6(self.state, slot, price) * terms.coin_high // COIN_STEP_E6 + 2
        return min(price * terms.tick * terms.fee_ppb // RATE_SCALE + 2, terms.fee_cap)

    def bound(self, slot: int, side: int, price_ticks: int, lots: int) -> int:
        """Minor USDC that an order adds at most to requirement and fees of its pool."""
        terms = self.rows[slot]
        price = self.price_met(slot, side, price_ticks)
        worst = terms.worst_buy if side > 0 else terms.worst_sell
        loss = worst + self.at_once(slot, side, price)
        per_lot = (loss * self.factor_ppb // RATE_SCALE + 1 if loss > 0 else 0) + (
            terms.charge_buy if side > 0 else terms.charge_sell
        )
        per_lot += self.fee(slot, side, price, price_ticks == 0)
        return (per_lot * lots >> self.exponent) + terms.rounding_minor

    def fee_minor(self, slot: int, side: int, price_ticks: int, lots: int) -> int:
        """Minor USDC that an order can cost in fees, rounded up."""
        price = self.price_met(slot, side, price_ticks)
        quanta = self.fee(slot, side, price, price_ticks == 0) * lots
        return -(-quanta >> self.exponent)

    def _inverse_at_once(
        self, slots: Int64Array, side: Int64Array, price: Int64Array
    ) -> Int64Array:
        found = [
            self.at_once(*row)
            for row in zip(slots.tolist(), side.tolist(), price.tolist(), strict=True)
        ]
        return np.array(found, np.int64)

    def prices_met(self, rows: Int64Array) -> Int64Array:
        """`price_met` of a table of orders (columns x n)."""
        slot, side = rows[ORDER_ID] >> INSTRUMENT_SHIFT, rows[SIDE]
        terms = self.columns
        market = np.where(side > 0, terms.widest_high[slot], terms.widest_low[slot])
        met: Int64Array = np.where(rows[PRICE_TICKS] > 0, rows[PRICE_TICKS], market)
        return met

    def losses_at_once(self, rows: Int64Array) -> Int64Array:
        """`at_once` of a table of orders; zero for inverse ones, whose loss has a part in coin."""
        slot, side = rows[ORDER_ID] >> INSTRUMENT_SHIFT, rows[SIDE]
        terms = self.columns
        limit = self.prices_met(rows) * terms.tick[slot]
        loss = np.where(
            side > 0,
            limit - terms.mark_floor[slot],
            terms.mark_ceiling[slot] - limit,
        )
        return np.where(terms.inverse[slot] == 1, 0, loss)

    def fees(self, rows: Int64Array) -> Int64Array:
        """`fee` of a table of orders, quanta per lot."""
        slot = rows[ORDER_ID] >> INSTRUMENT_SHIFT
        terms = self.columns
        value = self.prices_met(rows) * terms.tick[slot]
        rate = terms.fee_ppb[slot]
        fee: Int64Array = value // RATE_SCALE * rate + value % RATE_SCALE * rate // RATE_SCALE + 2
        fee = np.minimum(fee, terms.fee_cap[slot])
        for at in np.flatnonzero(terms.inverse[slot]).tolist():
            ticks = int(rows[PRICE_TICKS, at])
            side = int(rows[SIDE, at])
            price = self.price_met(int(slot[at]), side, ticks)
            fee[at] = self.fee(int(slot[at]), side, price, ticks == 0)
        return fee

    def fees_minor(self, rows: Int64Array) -> int:
        """Minor USDC that a table of orders can cost in fees, each rounded up."""
        return int((-(-(self.fees(rows) * rows[OPEN_LOTS]) >> self.exponent)).sum())

    def bounds(self, rows: Int64Array) -> Int64Array:
        """`bound` of a table of orders (columns x n), minor USDC each."""
        slot, side = rows[ORDER_ID] >> INSTRUMENT_SHIFT, rows[SIDE]
        terms = self.columns
        at_once = self.losses_at_once(rows)
        inverse = np.flatnonzero(terms.inverse[slot])
        if len(inverse):
            price = self.prices_met(rows)[inverse]
            at_once[inverse] = self._inverse_at_once(slot[inverse], side[inverse], price)
        buys = side > 0
        loss = at_once + np.where(buys, terms.worst_buy[slot], terms.worst_sell[slot])
        scaled = (
            loss // RATE_SCALE * self.factor_ppb
            + loss % RATE_SCALE * self.factor_ppb // RATE_SCALE
            + 1
        )
        per_lot = np.where(loss > 0, scaled, 0) + np.where(
            buys, terms.charge_buy[slot], terms.charge_sell[slot]
        )
        per_lot += self.fees(rows)
        found: Int64Array = (per_lot * rows[OPEN_LOTS] >> self.exponent) + terms.rounding_minor[
            slot
        ]
        return found
