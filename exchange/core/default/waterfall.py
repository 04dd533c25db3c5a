"""Step 9 of the cycle, the default waterfall: who takes what a pool can no longer carry.

The insurance fund takes slices at mark while it can margin them; then venue capital and the default
fund pay what is left of the deficit; what has no taker is deleveraged against the pools on the
other side, best score first, at the price that uses up the defaulter's equity. Only what even
that cannot pay cuts this cycle's gains, and only then is a shortfall open.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exchange.core.default.book_of_pool import move_position, slices_of, terms_of
from exchange.core.default.liquidation import cancel_orders, is_user
from exchange.core.events import Deleveraged, Event, LayerPaid, LiquidationStep, ShortfallOpen
from exchange.core.market.revalue import Gains
from exchange.core.reject_reason import PostingCause
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.ledger import House
from exchange.core.stored.positions import ENTRY_MINOR
from exchange.core.stored.state import State
from exchange.core.venue import USDC
from margin.default.liquidation import Position
from margin.default.waterfall import (
    Candidate,
    LeftSlice,
    OpenCase,
    TakeoverPlan,
    deleverage,
    haircut_gains,
    net_opposing,
    pay_layers,
    takeover_plan,
)
from margin.invariant import check

MUTUAL_LAYERS = ((House.VENUE_CAPITAL, "venue_capital"), (House.DEFAULT_FUND, "default_fund"))


class Waterfall:
    """One cycle's work-out of the pools whose cases can wait no longer."""

    def __init__(self, state: State, risk: Risk, gains: Gains) -> None:
        self.state, self.risk, self.gains = state, risk, gains
        self.events: list[Event] = []

    def run(self, pools: Sequence[int]) -> list[Event]:
        """Work out `pools` in order, then whoever that pushed below zero, the fund included.

        A round empties every pool it works out, so no more rounds than pools are possible.
        """
        waiting = self._with_fund(list(pools))
        emptied: list[int] = []
        for _ in range(self.state.accounts.pools):
            if not waiting:
                break
            # holders are ranked by what they needed before anything changed hands here
            self.risk.compute_all()
            for pool in waiting:
                self.events += cancel_orders(self.state, pool, keep_reducing=False)
                self._convert_to_usdc(pool)
            self._net_opposing(waiting)
            for pool in waiting:
                self._work_out(pool)
                self.state.accounts.cases.pop(pool, None)
            emptied += waiting
            self.risk.revalue()
            waiting = [
                pool
                for pool in self._below_zero()
                if pool not in emptied or slices_of(self.state, pool)
            ]
        check(not waiting, "the waterfall ends")
        return self.events

    def _with_fund(self, pools: list[int]) -> list[int]:
        fund = int(House.INSURANCE)
        return [*pools, fund] if fund in self._below_zero() else pools

    def _below_zero(self) -> list[int]:
        """Margined pools with negative equity whose marks are fresh enough to act on.

        One that stands on credit is left to its margin call.
        """
        below = np.flatnonzero(self.risk.equity < 0).tolist()
        margined = [pool for pool in below if is_user(pool) or pool == House.INSURANCE]
        return [
            pool
            for pool in margined
            if not (self.risk.holdings.touches_stale(pool) or self.risk.backing.carries(pool))
        ]

    def _convert_to_usdc(self, pool: int) -> None:
        """Exchange a defaulter's coins at the index, through `fx`; gains to come included."""
        state = self.state
        index = self.risk.holdings.index_e8.tolist()
        for currency in range(1, state.ledger.currencies):
            amount = state.ledger.balance(pool, currency) + int(self.gains.pending[pool, currency])
            if amount == 0:
                continue
            value = amount * index[currency] // 10**10
            cause = PostingCause.CONVERSION
            self.events.append(state.ledger.transfer(cause, pool, House.FX, currency, amount))
            self.events.append(state.ledger.transfer(cause, House.FX, pool, USDC, value))

    def _net_opposing(self, pools: Sequence[int]) -> None:
        """Close opposing defaulters against each other at the mark, before anybody else pays."""
        held = [
            OpenCase(pool=pool, instrument=p.instrument, position_lots=p.quantity_lots)
            for pool in pools
            for p in slices_of(self.state, pool)
        ]
        for netting in net_opposing(held):
            # Each leg trades with the clearing pool, whose position is zero again after the last.
            self.events.append(
                LiquidationStep(netting.pool, "netted", netting.instrument, netting.quantity_lots)
            )
            self.events += move_position(
                self.state,
                self.risk,
                House.CLEARING,
                netting.pool,
                netting.instrument,
                netting.quantity_lots,
                PostingCause.NETTING,
            )

    def _fund_spendable(self, slices: Sequence[Position], lots: Sequence[int], cash: int) -> int:
        """The fund's equity less maintenance of its inventory, had it taken these lots."""
        risk, fund = self.risk, int(House.INSURANCE)
        taken = {s.instrument: q for s, q in zip(slices, lots, strict=True) if q}
        maintenance = risk.maintenance_with(fund, taken)
        return risk.equity_of(fund) + cash - maintenance

    def _plan(self, pool: int, slices: list[Position], equity: int) -> TakeoverPlan:
        requirements = self.risk.requirements(pool)

        def maintenance_of(lots: Sequence[int]) -> int:
            return requirements(lots)[1]

        def spendable(lots: Sequence[int], cash: int) -> int:
            if pool == House.INSURANCE:
                return -1  # the fund cannot take over itself
            return self._fund_spendable(slices, lots, cash)

        return takeover_plan(slices, equity, maintenance_of, spendable, terms_of(self.state))

    def _work_out(self, pool: int) -> None:
        state, risk = self.state, self.risk
        slices = slices_of(state, pool)
        plan = self._plan(pool, slices, risk.equity_of(pool, haircut=False))
        fund = int(House.INSURANCE)
        for part in plan.taken:
            self.events.append(
                LiquidationStep(
                    pool,
                    "taken over",
                    part.instrument,
                    part.quantity_lots,
                    amount_minor=part.deficit_minor - part.fee_minor,
                )
            )
            # A deficit is the fund's payment to the pool, a fee the pool's to the fund.
            self.events += move_position(
                state,
                risk,
                pool,
                fund,
                part.instrument,
                part.quantity_lots,
                PostingCause.TAKEOVER,
                part.deficit_minor - part.fee_minor,
            )
        paid = sum(part.deficit_minor for part in plan.taken)
        if not slices:
            paid = max(0, plan.fund_payment_minor)
            if paid:
                self._pay(pool, fund, paid)
        if paid:
            self.events.append(LayerPaid(pool, "insurance", paid))
        left = self._pay_mutual_layers(pool, plan.left)
        for rest, share in left:
            self._deleverage(pool, rest.instrument, rest.quantity_lots, share)
        self._convert_to_usdc(pool)  # what inverse options brought or cost
        self._close_deficit(pool)

    def _pay(self, pool: int, layer: int, amount: int) -> None:
        self.events.append(
            self.state.ledger.transfer(PostingCause.DEFICIT_PAID, layer, pool, USDC, amount)
        )

    def _pay_from_layers(self, pool: int, deficit: int) -> int:
        """Pay out of venue capital and default fund, in order; returns the sum paid."""
        available = [
            (name, self.state.ledger.balance(house, USDC)) for house, name in MUTUAL_LAYERS
        ]
        total = 0
        for (house, _), (name, amount) in zip(
            MUTUAL_LAYERS, pay_layers(deficit, available), strict=True
        ):
            if amount:
                self._pay(pool, house, amount)
                self.events.append(LayerPaid(pool, name, amount))
                total += amount
        return total

    def _pay_mutual_layers(self, pool: int, left: list[LeftSlice]) -> list[tuple[LeftSlice, int]]:
        """Reduce the deficits of what is left by what the layers pay, first slice first."""
        deficit = sum(max(0, -part.equity_share_minor) for part in left)
        paid = self._pay_from_layers(pool, deficit) if deficit else 0
        shares: list[tuple[LeftSlice, int]] = []
        for part in left:
            used = min(paid, max(0, -part.equity_share_minor))
            paid -= used
            shares.append((part, part.equity_share_minor + used))
        return shares

    def _candidates(self, pool: int, slot: int) -> list[Candidate]:
        state, risk = self.state, self.risk
        rows = np.flatnonzero(state.positions.instrument == slot)
        found = []
        for row in rows.tolist():
            holder = int(state.positions.pool[row])
            lots = int(state.positions.lots[row])
            if holder == pool or lots == 0:
                continue
            gain = risk.holdings.value_minor(slot, lots)
            gain -= int(state.positions.table[ENTRY_MINOR, row])
            found.append(
                Candidate(
                    pool=holder,
                    position_lots=lots,
                    unrealised_minor=gain if holder != House.INSURANCE else 0,
                    equity_minor=int(risk.equity[holder]),
                    maintenance_minor=risk.need(holder).maintenance_minor,
                )
            )
        return found

    def _deleverage(self, pool: int, slot: int, lots: int, share: int) -> None:
        """Close signed `lots` against the other side; the takers share `share` by their lots."""
        allocations = deleverage(lots, self._candidates(pool, slot))
        done = 0
        mark_e8 = int(self.state.marks.mark_e8[slot])
        option = self.state.contracts.is_option_slot(slot)
        for allocation in allocations:
            moved = abs(allocation.quantity_lots)
            before = share * done // abs(lots)
            done += moved
            part = share * done // abs(lots) - before
            if option:
                # An option's price cannot fall below zero: beyond that the deficit stays.
                value = self._usdc_value(slot, allocation.quantity_lots)
                if value < 0:
                    part = max(part, value)
            self.events.append(
                Deleveraged(allocation.pool, pool, slot, allocation.quantity_lots, mark_e8)
            )
            self.events += move_position(
                self.state,
                self.risk,
                pool,
                allocation.pool,
                slot,
                allocation.quantity_lots,
                PostingCause.DELEVERAGING,
                -part,
            )
        check(done == abs(lots), "positions sum to zero, so the other side is always there")

    def _usdc_value(self, slot: int, lots: int) -> int:
        """Value of signed lots at the mark in minor USDC; a debt of coin is rounded to zero."""
        value = self.risk.holdings.value_minor(slot, lots)
        currency = self.state.contracts.currency[slot]
        if currency == USDC:
            return value
        return -(-value * int(self.risk.holdings.index_e8[currency]) // 10**10)

    def _close_deficit(self, pool: int) -> None:
        """Pay what an emptied pool still owes: layers, then this cycle's gains, then nobody."""
        deficit = -self.risk.equity_of(pool, haircut=False)
        if deficit <= 0:
            return
        deficit -= self._pay_from_layers(pool, deficit)
        if deficit <= 0:
            return
        winners = [p for p in np.flatnonzero(self.gains.pending[:, USDC]).tolist() if p != pool]
        cuts = haircut_gains(deficit, [int(self.gains.pending[p, USDC]) for p in winners])
        for winner, cut in zip(winners, cuts, strict=True):
            if cut:
                self.gains.pending[winner, USDC] -= cut
                self.events.append(
                    self.state.ledger.transfer(
                        PostingCause.GAINS_HAIRCUT, House.VM_PENDING, pool, USDC, cut
                    )
                )
                self.events.append(LayerPaid(winner, "gains_haircut", cut))
        deficit -= sum(cuts)
        if deficit > 0:
            self.events.append(ShortfallOpen(pool, deficit))
