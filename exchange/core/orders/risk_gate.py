"""The pre-trade check: may this pool rest this order?

The rule (DESIGN: the risk gate): the requirement with orders is the worst over scenarios of
positions plus each order's own loss from its limit to the scenario, plus contingencies on the worse
of all buys and all sells. An order is admitted if equity less fees covers that, or if it does not
raise it.

Most orders are admitted by a bound that never understates the rule: the requirement of positions
alone plus, for every order entered, its own worst loss. Only where the bound fails is the rule
itself computed, over all of the pool's orders; decisions are those of the rule. The bound is not
unwound by cancels; it is rebuilt when marks change. Offsets between coins count in neither: a fill
may end them.
"""

from __future__ import annotations

import numpy as np

from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.orders.admission import refusal_of_contract
from exchange.core.orders.loss import ROUNDING_MINOR, OrderLoss, Ordinary
from exchange.core.reject_reason import RejectReason
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.marks import IndexState
from exchange.core.stored.orders import (
    FLAGS,
    INSTRUMENT_SHIFT,
    LIQUIDATION,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
    REDUCE_ONLY,
    SEQUENCE_MASK,
    SIDE,
)
from exchange.core.stored.state import State
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array
from margin.pools.requirement import OpenOrders

RESERVES_NOTHING = REDUCE_ONLY | LIQUIDATION  # trimmed to the position at the seal


def _reserving(rows: Int64Array) -> Int64Array:
    """Those of some orders (columns x n) that reserve margin."""
    return rows[:, (rows[FLAGS] & RESERVES_NOTHING) == 0]


class RiskGate:
    """Admits orders against the requirements at the last marks."""

    def __init__(self, state: State, risk: Risk) -> None:
        self.state, self.risk = state, risk
        self.reserved: list[int] = []
        self.headroom: list[int] = []
        self.entered_lots: list[int] = []
        self.largest_lots: list[int] = []
        self.losses: list[OrderLoss] = []  # one a margin model
        self.desks: list[list[Ordinary | None]] = []  # likewise, by contract

    def rebuild(self) -> None:
        """Read the new requirements and reserve every open order afresh."""
        self.entered_lots = []
        self.desks = []
        if not self.state.venue.risk_gate:
            return
        rows = self._open_rows()
        self.losses = [
            OrderLoss(self.state, model, self.risk.holdings.value_e6) for model in self.risk.models
        ]
        needed = self.risk.initial_most + self.risk.relief_minor
        self.headroom = (self.risk.backing.all() - needed).tolist()
        reserved = np.zeros(len(self.headroom), np.int64)
        reserving = _reserving(rows)
        models = np.array(self.state.accounts.model_of, np.int64)[reserving[POOL]]
        for number, loss in enumerate(self.losses):
            own = reserving if len(self.losses) == 1 else reserving[:, models == number]
            np.add.at(reserved, own[POOL], loss.bounds(own))
        self.reserved = reserved.tolist()
        self._count_lots()
        self.open_desk()

    def open_desk(self) -> None:
        """Keep folded terms of the contracts on which nothing unusual holds."""
        unusual = [
            bool(refusal_of_contract(self.state, slot)) or self._is_stale(slot)
            for slot in range(len(self.state.contracts))
        ]
        self.desks = [
            [None if closed else loss.ordinary(slot) for slot, closed in enumerate(unusual)]
            for loss in self.losses
        ]

    def loss_of(self, pool: int) -> OrderLoss:
        """The bounds under the margin model that charges a pool."""
        return self.losses[self.state.accounts.model_of[pool]]

    def _is_stale(self, slot: int) -> bool:
        unit = self.state.contracts.specs[slot].underlying
        return self.state.marks.index_state[unit] != IndexState.FRESH

    def admit_ordinary(self, pool: int, slot: int, side: int, price_ticks: int, lots: int) -> bool:
        """Admit a limit order by its bound, in a few integer steps.

        False where anything is out of the ordinary, the order's terms included: the full path of
        `admit` then decides. The bound is that of `OrderLoss.bound`.
        """
        if not self.desks:
            return False
        model = self.state.accounts.model_of[pool]
        desk, bounds = self.desks[model], self.losses[model]
        terms = desk[slot] if 0 <= slot < len(desk) else None
        if terms is None or terms.expiry_ns <= self.state.time_ns:
            return False
        lots_max = terms.lots_max
        if not (0 < price_ticks <= terms.price_max and 0 < lots <= lots_max):
            return False
        if self.largest_lots[slot] + self.entered_lots[slot] + lots > lots_max:
            return False
        limit = price_ticks * terms.tick
        if side == 1:
            loss, per_lot = terms.worst_buy_less_mark + limit, terms.charge_buy
        else:
            loss, per_lot = terms.worst_sell_plus_mark - limit, terms.charge_sell
        if loss > 0:
            per_lot += loss * bounds.factor_ppb // RATE_SCALE + 1
        fee = limit * terms.fee_ppb // RATE_SCALE + 2
        per_lot += fee if fee < terms.fee_cap else terms.fee_cap
        reserved = self.reserved[pool] + (per_lot * lots >> bounds.exponent) + ROUNDING_MINOR
        if reserved > self.headroom[pool]:
            return False
        self.reserved[pool] = reserved
        self.entered_lots[slot] += lots
        return True

    def _open_rows(self) -> Int64Array:
        orders = self.state.orders
        return np.concatenate((orders.resting, orders.incoming_rows().T), axis=1)

    def _count_lots(self) -> None:
        """Largest position and all open lots per contract: a bound on what one pool can hold."""
        state, slots = self.state, len(self.state.contracts)
        largest = np.zeros(slots, np.int64)
        np.maximum.at(largest, state.positions.instrument, np.abs(state.positions.lots))
        self.largest_lots = largest.tolist()
        rows = self._open_rows()
        entered = np.zeros(slots, np.int64)
        np.add.at(entered, rows[ORDER_ID] >> INSTRUMENT_SHIFT, rows[OPEN_LOTS])
        self.entered_lots = entered.tolist()

    def refresh_pool(self, pool: int) -> None:
        """A pool's equity or positions moved between revaluations."""
        if not self.state.venue.risk_gate:
            return
        for each in self.risk.judged_with(pool):
            need = self.risk.need(each)
            needed = need.initial_minor + need.relief_minor
            self.headroom[each] = self.risk.backing.of(each) - needed

    def orders_moved(self, giver: int, taker: int, slot: int, rows: Int64Array) -> None:
        """Orders (columns x n) and position of a pool in a contract are another pool's now."""
        if self.entered_lots:
            held = abs(self.state.positions.lots_of(taker, slot))
            self.largest_lots[slot] = max(self.largest_lots[slot], held)
        if self.state.venue.risk_gate and self.state.marks.is_open:
            rows = _reserving(rows)
            bound = int(self.loss_of(giver).bounds(rows).sum())
            self.reserved[giver] -= bound
            self.reserved[taker] += bound

    def add_pools(self, count: int) -> None:
        """Room for new pools, which have nothing."""
        self.headroom += [0] * count
        self.reserved += [0] * count

    def admit(
        self, pool: int, slot: int, side: int, price_ticks: int, lots: int, reduce_only: bool
    ) -> RejectReason:
        """NONE if the order may rest (its margin is then reserved), else why not."""
        if not self.entered_lots:
            self._count_lots()
        if (
            self.largest_lots[slot] + self.entered_lots[slot] + lots
            > self.state.contracts.lots_max[slot]
            and self._own_lots(pool, slot, side) + lots > self.state.contracts.lots_max[slot]
        ):
            return RejectReason.POSITION_LIMIT
        if not self.state.venue.risk_gate or reduce_only:
            self.entered_lots[slot] += lots
            return RejectReason.NONE
        bound = self.loss_of(pool).bound(slot, side, price_ticks, lots)
        stale = self._is_stale(slot)
        if stale or self._exceeds(pool, bound):
            reason = self._decide(pool, slot, side, price_ticks, lots, stale)
            if reason:
                return reason
        self.reserved[pool] += bound
        self.entered_lots[slot] += lots
        return RejectReason.NONE

    def _exceeds(self, pool: int, more: int) -> bool:
        """Whether a pool has too little for what is reserved and more, its figures being exact."""
        if self.reserved[pool] + more <= self.headroom[pool]:
            return False
        if not self.risk.is_bound(pool):
            return True
        self.refresh_pool(pool)
        return self.reserved[pool] + more > self.headroom[pool]

    def _own_lots(self, pool: int, slot: int, side: int) -> int:
        rows = self.state.orders.of_pool(pool)
        same = ((rows[ORDER_ID] >> INSTRUMENT_SHIFT) == slot) & (rows[SIDE] == side)
        position = side * self.state.positions.lots_of(pool, slot)
        return max(0, position) + int(rows[OPEN_LOTS, same].sum())

    def _decide(
        self, pool: int, slot: int, side: int, price_ticks: int, lots: int, stale: bool
    ) -> RejectReason:
        """The rule itself, over all of the pool's orders and this one."""
        rows = self.state.orders.of_pool(pool)
        flags = MARKET if price_ticks == 0 else 0
        new = np.array(
            [[slot << INSTRUMENT_SHIFT], [pool], [side], [price_ticks], [lots], [flags], [0], [0]],
            np.int64,
        )
        with_order, fees = self.requirement(pool, np.concatenate((rows, new), axis=1))
        if not stale and self.risk.backing.of(pool) - fees >= with_order:
            return RejectReason.NONE
        without, _ = self.requirement(pool, rows)
        if with_order <= without:
            return RejectReason.NONE
        return RejectReason.INDEX_STALE if stale else RejectReason.MARGIN_INSUFFICIENT

    def requirement(
        self, pool: int, rows: Int64Array, reading: Reading = Reading.NOW
    ) -> tuple[int, int]:
        """Initial margin of a pool with these orders (columns x n), and the fees they can cost.

        Add-ons are those of the positions. `reading`: how the pool's attestations are read.
        """
        columns, orders = self.risk.holdings.columns_of(pool), self.open_orders(pool, rows)
        initial, _ = self.risk.model(pool).with_orders(columns, orders)
        if pool in self.risk.backing.credit:
            initial += self.risk.backing.shift(pool, reading, columns, orders).initial_minor
        fees_minor = self.loss_of(pool).fees_minor(_reserving(rows))
        return initial + self.risk.need(pool).add_on_minor, fees_minor

    def open_orders(self, pool: int, rows: Int64Array) -> OpenOrders:
        """Orders of a pool as margin reads them, those that reserve nothing left out."""
        rows = _reserving(rows)
        slots, sides = rows[ORDER_ID] >> INSTRUMENT_SHIFT, np.ascontiguousarray(rows[SIDE])
        loss = self.loss_of(pool)
        prices = loss.prices_met(rows)
        quanta = -sides * loss.losses_at_once(rows)
        coin = np.zeros(len(slots), np.int64)
        for at in np.flatnonzero(loss.columns.inverse[slots]).tolist():
            quanta[at], coin[at] = loss.coin_terms(int(slots[at]), int(sides[at]), int(prices[at]))
        return OpenOrders(
            instrument=slots,
            side=sides,
            lots=np.ascontiguousarray(rows[OPEN_LOTS]),
            loss_quanta_per_lot=quanta,
            loss_coin_minor_e6_per_lot=coin,
        )

    def orders_to_drop(self, rows: Int64Array) -> list[int]:
        """Newest risk-adding orders that leave until each pool's equity covers what stays."""
        short = [pool for pool, room in enumerate(self.headroom) if self.reserved[pool] > room]
        drop: list[int] = []
        mine = np.isin(rows[POOL], short) & ((rows[FLAGS] & RESERVES_NOTHING) == 0)
        for pool in np.unique(rows[POOL, mine]).tolist():
            own = rows[:, mine & (rows[POOL] == pool)]
            own = own[:, np.argsort(own[ORDER_ID] & SEQUENCE_MASK, kind="stable")]
            drop += self._newest_to_drop(pool, own)
        return drop

    def _newest_to_drop(self, pool: int, own: Int64Array) -> list[int]:
        drop: list[int] = []
        equity = self.risk.backing.of(pool)
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

    def room(self, pool: int, rows: Int64Array | None = None) -> int:
        """Equity of a pool beyond its initial margin with all open orders and their fees.

        `rows` (columns x n): the orders, where they are not those that the pool has.
        """
        if not self.state.venue.risk_gate:
            return self.risk.backing.of(pool) - self.risk.need(pool).initial_minor
        rows = self.state.orders.of_pool(pool) if rows is None else rows
        needed, fees = self.requirement(pool, rows)
        return self.risk.backing.of(pool) - fees - needed

    def own_room(self, pool: int) -> int:
        """`room` without anything that is elsewhere: what may leave the pool.

        Debts elsewhere and positions there that cost are held against it all the same.
        """
        if pool not in self.risk.backing.credit:
            return self.room(pool)
        bare = self.risk.backing.standing(pool, Reading.BARE)
        backing = int(self.risk.equity[pool]) + bare.credit_minor
        if not self.state.venue.risk_gate:
            return backing - bare.initial_minor
        needed, fees = self.requirement(pool, self.state.orders.of_pool(pool), Reading.BARE)
        return backing - fees - needed

    def covers_withdrawal(self, pool: int, currency: int, amount_minor: int) -> bool:
        """Whether a pool, its open orders included, stays covered after paying this out."""
        ledger = self.state.ledger.cash
        ledger[pool, currency] -= amount_minor
        self.risk.revalue_pool(pool)
        enough = self.own_room(pool) >= 0
        ledger[pool, currency] += amount_minor
        self.risk.revalue_pool(pool)
        return enough
