"""Step 8 of the cycle: every open liquidation case advances by one step.

A pool below maintenance, or whose margin call expired, gets a case. Its orders are cancelled, then
a slice that restores it is offered to the next public batch at the fillable price, re-planned each
cycle. What cannot wait any more goes to the default waterfall (step 9).
"""

from __future__ import annotations

import numpy as np

from exchange.core.default.book_of_pool import slices_of, terms_of
from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.events import CallChanged, Event, Filled, LiquidationStep
from exchange.core.orders.seal import close_rows
from exchange.core.reject_reason import DoneReason, PostingCause
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.accounts import LiquidationCase, LiquidationOrder
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.stored.orders import FLAGS, IMMEDIATE, LIQUIDATION, POOL, REDUCE_ONLY
from exchange.core.stored.state import State
from exchange.core.venue import USDC
from margin.attested import Standing, advance_backed_call
from margin.default.liquidation import plan_slice
from margin.default.margin_call import CallOutcome, MarginCall, advance_call
from margin.fixed_point import RATE_SCALE

LIQUIDATION_FLAGS = LIQUIDATION | IMMEDIATE | REDUCE_ONLY


def _advanced(state: State, risk: Risk, pool: int) -> tuple[MarginCall | None, CallOutcome]:
    """A pool's margin call one cycle on; with attestations, by their three readings."""
    call, equity = state.accounts.calls.get(pool), int(risk.equity[pool])
    cycle, deadline = state.ledger.cycle, state.venue.calls.deadline_cycles
    frozen = risk.holdings.touches_stale(pool)
    initial, maintenance, *_ = risk.need(pool)
    if pool not in risk.backing.credit:
        return advance_call(call, equity, initial, maintenance, cycle, deadline, frozen=frozen)
    now = standing = last = Standing(risk.backing.credit[pool], initial, maintenance)
    if risk.backing.lacking(pool) > 0:  # else it is covered under every reading
        standing, last = (risk.backing.standing(pool, r) for r in (Reading.STANDING, Reading.LAST))
    return advance_backed_call(call, equity, now, standing, last, cycle, deadline, frozen=frozen)


def margin_calls(state: State, risk: Risk) -> list[Event]:
    """Step 7: issue, refresh, cure and expire margin calls; open a case where one ran out."""
    events: list[Event] = []
    calls, cases = state.accounts.calls, state.accounts.cases
    equity, most = risk.equity[HOUSE_POOLS:], risk.initial_most[HOUSE_POOLS:]
    below, credit = equity < most, risk.backing.credit
    if not calls and not credit and not np.count_nonzero(below):  # as in most cycles
        return events
    short = below.nonzero()[0] + HOUSE_POOLS
    pools = sorted({*short.tolist(), *calls, *credit})
    for pool in pools:
        if pool in cases:
            calls.pop(pool, None)
            continue
        call, outcome = _advanced(state, risk, pool)
        before = calls.pop(pool, None)
        if call is not None:
            calls[pool] = call
        if outcome in (CallOutcome.NONE, CallOutcome.STANDING):
            continue
        shown = call or before
        amount = shown.amount_minor if shown else risk.backing.lacking(pool)
        deadline = shown.deadline_cycle if shown else state.ledger.cycle
        events.append(CallChanged(pool, outcome, amount, deadline))
        if outcome in (CallOutcome.EXPIRED, CallOutcome.BREACHED):
            expired = outcome == CallOutcome.EXPIRED
            cases[pool] = LiquidationCase(pool, state.ledger.cycle, expired)
            events.append(LiquidationStep(pool, "opened"))
    # A loss at expiry can leave a pool without a requirement, yet owing.
    for pool in [pool for pool in short.tolist() if risk.equity[pool] < 0]:
        if pool in cases or pool in risk.backing.credit:
            continue
        if not risk.holdings.touches_stale(pool):
            cases[pool] = LiquidationCase(pool, state.ledger.cycle, False)
            events.append(LiquidationStep(pool, "opened"))
    return events


def cancel_orders(state: State, pool: int, keep_reducing: bool) -> list[Event]:
    """Cancel a pool's orders; reduce-only ones of its owner may stay."""
    table = state.orders.resting
    mine = table[POOL] == pool
    if keep_reducing:
        mine &= (table[FLAGS] & REDUCE_ONLY) == 0
    return close_rows(state, mine, DoneReason.LIQUIDATION)


def place_house_order(state: State, pool: int, slot: int, lots: int, price_ticks: int) -> int:
    """Enter a liquidation order (signed lots) into the batch that opens when this cycle ends."""
    owner = state.accounts.owner_of[pool]
    sequence = state.orders.next_sequence
    if owner >= 0:
        sequence = state.accounts.next_own_sequence(owner)
    bound = state.contracts.price_max[slot]
    price = max(1, min(price_ticks, bound))
    return state.orders.append(
        slot,
        pool,
        1 if lots > 0 else -1,
        price,
        abs(lots),
        LIQUIDATION_FLAGS,
        state.batch + 1,
        sequence,
    )


def note_fills(state: State, events: list[Event]) -> None:
    """Remember what the auction filled of each case's orders."""
    waiting = {
        order.order_id: order for case in state.accounts.cases.values() for order in case.orders
    }
    if not waiting:
        return
    for event in events:
        if isinstance(event, Filled):
            for order_id, lots in zip(
                event.order_id.tolist(), event.quantity_lots.tolist(), strict=True
            ):
                if order_id in waiting:
                    waiting[order_id].filled_lots += lots


def _charge_fills(state: State, risk: Risk, case: LiquidationCase) -> list[Event]:
    """Charge the liquidation fee on what the last batch filled, never beyond the equity."""
    events: list[Event] = []
    for order in case.orders:
        filled = order.filled_lots
        if filled == 0:
            continue
        fee = order.fee_minor * filled // abs(order.quantity_lots)
        fee = min(fee, max(0, int(risk.equity[case.pool])))
        events.append(
            LiquidationStep(
                case.pool,
                "filled",
                order.instrument,
                filled * (1 if order.quantity_lots > 0 else -1),
                amount_minor=fee,
            )
        )
        if fee:
            events.append(
                state.ledger.transfer(
                    PostingCause.LIQUIDATION_FEE,
                    case.pool,
                    House.INSURANCE,
                    USDC,
                    fee,
                    order.instrument,
                )
            )
            risk.equity[case.pool] -= fee
            risk.equity[House.INSURANCE] += fee
    case.orders = []
    return events


def _offer(state: State, risk: Risk, case: LiquidationCase) -> list[Event] | None:
    """Offer the restoring slice to the next public batch; None where the pool is restored."""
    pool = case.pool
    requirements = risk.requirements(pool)
    plans = plan_slice(
        slices_of(state, pool),
        int(risk.equity[pool]),
        lambda lots: requirements(lots)[1],
        terms_of(state),
        first_step=case.public_attempts == 0,
        initial_of=(lambda lots: requirements(lots)[0]) if case.call_expired else None,
        credit_minor=risk.backing.standing(pool, Reading.STANDING).credit_minor,
    )
    if not plans:
        return None
    events: list[Event] = []
    for plan in plans:
        price = plan.prices.fillable_ticks
        order_id = place_house_order(state, pool, plan.instrument, plan.quantity_lots, price)
        case.orders.append(
            LiquidationOrder(order_id, plan.instrument, plan.quantity_lots, plan.fee_minor)
        )
        events.append(LiquidationStep(pool, "offered", plan.instrument, plan.quantity_lots, price))
    case.public_attempts += 1
    return events


def advance_cases(state: State, risk: Risk) -> tuple[list[int], list[Event]]:
    """Advance every case; returns the pools that go to the waterfall now, and what happened."""
    to_waterfall: list[int] = []
    events: list[Event] = []
    for pool in sorted(state.accounts.cases):
        case = state.accounts.cases[pool]
        events += _charge_fills(state, risk, case)
        if risk.holdings.touches_stale(pool):
            continue
        if case.opened_cycle == state.ledger.cycle:
            events += cancel_orders(state, pool, keep_reducing=True)
        equity, needed = int(risk.equity[pool]), risk.backing.standing(pool, Reading.STANDING)
        backing, maintenance = equity + needed.credit_minor, needed.maintenance_minor
        private_until = case.opened_cycle + state.venue.default.private_cycles
        if state.ledger.cycle < private_until and 3 * backing >= 2 * maintenance:
            # The private phase: its auction among permissioned providers has nobody to ask yet.
            events.append(LiquidationStep(pool, "private"))
            continue
        waited = case.public_attempts >= state.venue.default.public_cycles
        urgent = equity < 0 or 3 * backing < 2 * maintenance
        has_positions = bool(slices_of(state, pool))
        if has_positions and not urgent and not waited:
            offered = _offer(state, risk, case)
            if offered is not None:
                events += offered
                continue
        restored = (
            equity >= 0
            and RATE_SCALE * backing >= (RATE_SCALE + state.venue.default.buffer_ppb) * maintenance
        )
        if restored and (not case.call_expired or backing >= needed.initial_minor):
            del state.accounts.cases[pool]
            events.append(LiquidationStep(pool, "restored", amount_minor=equity))
        else:
            to_waterfall.append(pool)
    return to_waterfall, events


def unwind_fund(state: State, risk: Risk) -> list[Event]:
    """The insurance fund offers part of its inventory to the next public batch."""
    rules = state.venue.default
    fund = int(House.INSURANCE)
    held_rows = state.positions.rows_of(fund)
    if held_rows.start == held_rows.stop or risk.holdings.touches_stale(fund):
        return []
    events: list[Event] = []
    for held in slices_of(state, fund):
        lots = -(-abs(held.quantity_lots) * rules.unwind_fraction_ppb // RATE_SCALE)
        long = held.quantity_lots > 0
        spread_e8 = held.mark_e8 * rules.unwind_spread_ppb // RATE_SCALE
        price_e8 = held.mark_e8 - spread_e8 if long else held.mark_e8 + spread_e8
        ticks = -(-price_e8 // held.tick_e8) if long else price_e8 // held.tick_e8
        trade = -lots if long else lots
        place_house_order(state, fund, held.instrument, trade, ticks)
        events.append(LiquidationStep(fund, "unwinding", held.instrument, trade, max(1, ticks)))
    return events


def is_user(pool: int) -> bool:
    """Whether a pool belongs to an account."""
    return pool >= HOUSE_POOLS
