"""The pre-trade check: may this pool rest this order?

The rule (DESIGN: the risk gate): the requirement with orders is the worst over scenarios of
positions plus each order's own loss from its limit to the scenario, plus contingencies on the worse
of all buys and all sells. An order is admitted if equity less fees covers that, or if it does not
raise it.

Most orders are admitted by a bound that never understates the rule: the requirement of positions
alone plus, for every order entered, its own worst loss. Only where the bound fails is the rule
itself computed, over all of the pool's orders; decisions are those of the rule. The bound is not
unwound by cancels; it is rebuilt when marks change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core.contracts import value_per_lot_e6
from exchange.core.marks import IndexState
from exchange.core.orders import (
    FLAGS,
    LIQUIDATION,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
    PRICE_TICKS,
    REDUCE_ONLY,
    SEQUENCE_MASK,
    SIDE,
)
from exchange.core.reject_reason import RejectReason
from exchange.core.risk import Risk
from exchange.core.state import State
from exchange.core.venue import USDC
from margin.invariant import Int64Array
from margin.requirement import OpenOrders, requirement_with_orders

PPB = 10**9
E6 = 10**6
INSTRUMENT_SHIFT = SEQUENCE_MASK.bit_length()
CEILINGS = 4  # roundings up that a bound of one order may save against the exact sum


class _Contract(NamedTuple):
    """What the bound needs of one contract, as plain integers (quanta per lot)."""

    inverse: bool
    tick_e8: int
    tick_quanta: int
    mark_floor: int
    mark_ceiling: int
    worst_long: int
    worst_short: int
    charge_buy: int
    charge_sell: int
    widest_low: int
    widest_high: int
    fee_ppb: int
    index_fee_e6: int
    coin_high: int
    coin_low: int


class RiskGate:
    """Admits orders against the requirements at the last marks."""

    def __init__(self, state: State, risk: Risk) -> None:
        self.state, self.risk = state, risk
        self.reserved: list[int] = []
        self.headroom: list[int] = []
        self.contracts: list[_Contract] = []
        self.entered_lots: list[int] = []
        self.largest_lots: list[int] = []

    def rebuild(self) -> None:
        """Read the new requirements and reserve every open order afresh."""
        self.contracts = [self._contract(slot) for slot in range(len(self.state.contracts))]
        self.headroom = (self.risk.equity - self.risk.initial).tolist()
        self.reserved = [0] * len(self.headroom)
        largest = np.zeros(len(self.contracts), np.int64)
        np.maximum.at(largest, self.state.positions.instrument, np.abs(self.state.positions.lots))
        self.largest_lots = largest.tolist()
        self.entered_lots = [0] * len(self.contracts)
        self._reserve_rows(self.state.orders.resting)
        self._reserve_rows(self.state.orders.incoming_rows().T)

    def _reserve_rows(self, rows: Int64Array) -> None:
        if not self.state.venue.risk_gate:
            return
        slots = (rows[ORDER_ID] >> INSTRUMENT_SHIFT).tolist()
        columns = (rows[i].tolist() for i in (POOL, SIDE, PRICE_TICKS, OPEN_LOTS, FLAGS))
        for slot, pool, side, price, lots, flags in zip(slots, *columns, strict=True):
            self.entered_lots[slot] += lots
            if not flags & (REDUCE_ONLY | LIQUIDATION):
                self.reserved[pool] += self.bound_minor(slot, side, price, lots)

    def refresh_pool(self, pool: int) -> None:
        """A pool's equity or positions moved between revaluations."""
        self.headroom[pool] = int(self.risk.equity[pool] - self.risk.initial[pool])

    def add_pools(self, count: int) -> None:
        """Room for new pools, which have nothing."""
        self.headroom += [0] * count
        self.reserved += [0] * count

    def _contract(self, slot: int) -> _Contract:
        state, risk = self.state, self.risk
        spec, fees = state.contracts.specs[slot], state.venue.fees
        is_option = state.contracts.is_option_slot(slot)
        matrix, exponent = risk.matrix, risk.exponent
        unit = spec.underlying
        low, high = state.collars.widest(slot, state.marks.reference_ticks(slot))
        mark_e6 = int(risk.value_e6[slot])
        index_e8 = int(state.marks.index_e8[unit])
        base = int(matrix.delta_one_mm[slot] + matrix.delta_one_im_extra[slot])
        naked = int(matrix.naked_mm[slot] + matrix.naked_im_extra[slot])
        coin = matrix.coin[unit]
        step = int(matrix.coin_value[unit])
        inverse = state.marks.is_inverse(slot)
        return _Contract(
            inverse=inverse,
            tick_e8=spec.tick_e8,
            tick_quanta=int(state.contracts.tick_value[slot]) << exponent,
            mark_floor=(mark_e6 << exponent) // E6 if not inverse else mark_e6,
            mark_ceiling=-(-(mark_e6 << exponent) // E6) if not inverse else mark_e6,
            worst_long=max(0, -int(matrix.long[slot].min())),
            worst_short=max(0, -int(matrix.short[slot].min())),
            charge_buy=base,
            charge_sell=base + naked,
            widest_low=low,
            widest_high=min(high, state.contracts.price_max[slot]),
            fee_ppb=fees.option_cap_ppb if is_option else fees.future_ppb,
            index_fee_e6=spec.lot_e8 * index_e8 // 10**4 * fees.option_ppb if is_option else 0,
            coin_high=step + int(coin.max()),
            coin_low=max(0, step + int(coin.min())),
        )

    def _effective_price(self, slot: int, side: int, price_ticks: int) -> int:
        if price_ticks > 0:
            return price_ticks
        contract = self.contracts[slot]
        return contract.widest_high if side > 0 else contract.widest_low

    def _loss_per_lot(self, slot: int, side: int, price: int) -> int:
        """What an order loses at once per lot against the mark (negative: gains), in quanta."""
        contract = self.contracts[slot]
        if not contract.inverse:
            limit = price * contract.tick_quanta
            return limit - contract.mark_floor if side > 0 else contract.mark_ceiling - limit
        limit_e6 = value_per_lot_e6(self.state.contracts.specs[slot], price * contract.tick_e8)
        loss_e6 = side * (limit_e6 - contract.mark_floor)
        scale = contract.coin_high if loss_e6 > 0 else contract.coin_low
        return -(-loss_e6 * scale // (E6 * 10**4))

    def _fee_e6(self, slot: int, price: int) -> int:
        """Fee of one lot at a price, in 10^-6 minor units of its settlement currency."""
        contract = self.contracts[slot]
        if contract.inverse:
            value_e6 = -value_per_lot_e6(self.state.contracts.specs[slot], price * contract.tick_e8)
        else:
            value_e6 = (price * contract.tick_quanta >> self.risk.exponent) * E6
        fee = value_e6 * contract.fee_ppb
        if contract.index_fee_e6:
            fee = min(fee, contract.index_fee_e6)
        return -(-fee // PPB)

    def fee_minor(self, slot: int, side: int, price_ticks: int, lots: int) -> int:
        """The fee an order can cost at most, in minor USDC at the index, rounded up."""
        contract = self.contracts[slot]
        price = self._effective_price(slot, side, price_ticks)
        if contract.inverse and side > 0 and price_ticks == 0:
            price = contract.widest_low  # fewer dollars per coin: more coin per lot
        fee = self._fee_e6(slot, price) * lots
        if contract.inverse:
            unit = self.state.contracts.specs[slot].underlying
            return -(-fee * int(self.state.marks.index_e8[unit]) // 10**16)
        return -(-fee // E6)

    def bound_minor(self, slot: int, side: int, price_ticks: int, lots: int) -> int:
        """An order's own worst loss, contingency and fee: never below what it adds to the rule."""
        contract = self.contracts[slot]
        price = self._effective_price(slot, side, price_ticks)
        worst = contract.worst_long if side > 0 else contract.worst_short
        loss = max(0, worst + self._loss_per_lot(slot, side, price)) * lots
        charge = (contract.charge_buy if side > 0 else contract.charge_sell) * lots
        factor = self.state.venue.preset.factor.initial_ppb
        quanta = -(-loss * factor // PPB) + charge
        return (quanta >> self.risk.exponent) + CEILINGS + self.fee_minor(slot, side, price_ticks, lots)

    def admit(self, pool: int, slot: int, side: int, price_ticks: int, lots: int,
              reduce_only: bool) -> RejectReason:  # fmt: skip
        """NONE if the order may rest (its margin is then reserved), else why not."""
        if (
            self.largest_lots[slot] + self.entered_lots[slot] + lots
            > self.state.contracts.lots_max[slot]
            and self._own_lots(pool, slot, side) + lots > self.state.contracts.lots_max[slot]
        ):
            return RejectReason.POSITION_LIMIT
        if not self.state.venue.risk_gate or reduce_only:
            self.entered_lots[slot] += lots
            return RejectReason.NONE
        bound = self.bound_minor(slot, side, price_ticks, lots)
        unit = self.state.contracts.specs[slot].underlying
        stale = self.state.marks.index_state[unit] != IndexState.FRESH
        if stale or self.reserved[pool] + bound > self.headroom[pool]:
            reason = self._decide(pool, slot, side, price_ticks, lots, stale)
            if reason:
                return reason
        self.reserved[pool] += bound
        self.entered_lots[slot] += lots
        return RejectReason.NONE

    def _own_lots(self, pool: int, slot: int, side: int) -> int:
        rows = self.state.orders.of_pool(pool)
        same = ((rows[ORDER_ID] >> INSTRUMENT_SHIFT) == slot) & (rows[SIDE] == side)
        position = side * self.state.positions.lots_of(pool, slot)
        return max(0, position) + int(rows[OPEN_LOTS, same].sum())

    def _decide(self, pool: int, slot: int, side: int, price_ticks: int, lots: int,
                stale: bool) -> RejectReason:  # fmt: skip
        """The rule itself, over all of the pool's orders and this one."""
        rows = self.state.orders.of_pool(pool)
        flags = MARKET if price_ticks == 0 else 0
        new = np.array(
            [[slot << INSTRUMENT_SHIFT], [pool], [side], [price_ticks], [lots], [flags], [0], [0]],
            np.int64,
        )
        with_order, fees = self.requirement(pool, np.concatenate((rows, new), axis=1))
        if not stale and int(self.risk.equity[pool]) - fees >= with_order:
            return RejectReason.NONE
        without, _ = self.requirement(pool, rows)
        if with_order <= without:
            return RejectReason.NONE
        return RejectReason.INDEX_STALE if stale else RejectReason.MARGIN_INSUFFICIENT

    def requirement(self, pool: int, rows: Int64Array) -> tuple[int, int]:
        """Initial margin of a pool with these orders (columns x n), and the fees they can cost.

        Reduce-only and liquidation orders reserve nothing: they are trimmed to the position.
        """
        rows = rows[:, (rows[FLAGS] & (REDUCE_ONLY | LIQUIDATION)) == 0]
        slots = (rows[ORDER_ID] >> INSTRUMENT_SHIFT).tolist()
        sides, prices, lots = (rows[i].tolist() for i in (SIDE, PRICE_TICKS, OPEN_LOTS))
        gain = np.zeros(len(slots), np.int64)
        gain_coin = np.zeros(len(slots), np.int64)
        fees = 0
        for index, (slot, side, ticks) in enumerate(zip(slots, sides, prices, strict=True)):
            price = self._effective_price(slot, side, ticks)
            contract = self.contracts[slot]
            fees += self.fee_minor(slot, side, ticks, lots[index])
            if contract.inverse:
                spec = self.state.contracts.specs[slot]
                limit_e6 = value_per_lot_e6(spec, price * contract.tick_e8)
                gain_coin[index] = contract.mark_floor - limit_e6
            else:
                gain[index] = -side * self._loss_per_lot(slot, side, price)
        orders = OpenOrders(
            instrument=np.array(slots, np.int64),
            side=np.array(sides, np.int64),
            lots=np.array(lots, np.int64),
            loss_quanta_per_lot=gain,
            loss_coin_minor_e6_per_lot=gain_coin,
        )
        columns = self.risk.columns_of(pool)
        initial, _ = requirement_with_orders(
            self.risk.table, columns.instrument, columns.quantity_lots, columns.coin_minor[0], orders
        )
        return initial, fees

    def orders_to_drop(self, rows: Int64Array) -> list[int]:
        """Newest risk-adding orders that leave until each pool's equity covers what stays."""
        short = [pool for pool, room in enumerate(self.headroom) if self.reserved[pool] > room]
        drop: list[int] = []
        mine = np.isin(rows[POOL], short) & ((rows[FLAGS] & (REDUCE_ONLY | LIQUIDATION)) == 0)
        for pool in np.unique(rows[POOL, mine]).tolist():
            own = rows[:, mine & (rows[POOL] == pool)]
            own = own[:, np.argsort(own[ORDER_ID] & SEQUENCE_MASK, kind="stable")]
            drop += self._newest_to_drop(pool, own)
        return drop

    def _newest_to_drop(self, pool: int, own: Int64Array) -> list[int]:
        drop: list[int] = []
        equity = int(self.risk.equity[pool])
        needed, fees = self.requirement(pool, own)
        last = own.shape[1] - 1
        while last >= 0 and equity - fees < needed:
            without = np.delete(own, last, axis=1)
            needed_without, fees_without = self.requirement(pool, without)
            if needed_without < needed:
                drop.append(int(own[ORDER_ID, last]))
                own, needed, fees = without, needed_without, fees_without
            last -= 1
        return drop

    def covers_withdrawal(self, pool: int, currency: int, amount_minor: int) -> bool:
        """Whether a pool, its open orders included, stays covered after paying this out."""
        risk = self.risk
        before = risk.cash()
        ledger = self.state.ledger.cash
        ledger[pool, currency] -= amount_minor
        risk.revalue_pool(pool)
        needed, fees = self.requirement(pool, self.state.orders.of_pool(pool))
        enough = int(risk.equity[pool]) - fees >= needed and (
            currency != USDC or int(before[pool, USDC]) >= amount_minor
        )
        ledger[pool, currency] += amount_minor
        risk.revalue_pool(pool)
        return enough
