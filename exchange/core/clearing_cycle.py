"""The cycle after a batch, step by step; nothing here but the order in which things happen.

1 seal - 2 uncross - 3 settle (three journaled commands carry the phases: Seal, Uncross, Revalue)
4 marks - 5 variation margin, funding, expiry - 6 revalue
7 group guarantees, margin calls - 8 liquidate - 9 default waterfall
10 release gains, prove the books, hash.
"""

from __future__ import annotations

import numpy as np

from exchange.core.auction.uncross import uncross
from exchange.core.commands import Revalue, Seal, Uncross
from exchange.core.default.group import pay_guarantees
from exchange.core.default.liquidation import advance_cases, margin_calls, note_fills, unwind_fund
from exchange.core.default.waterfall import Waterfall
from exchange.core.elsewhere.credit_age import age_credit
from exchange.core.events import CycleClosed, Event
from exchange.core.market.revalue import release_gains, take_marks
from exchange.core.orders.risk_gate import RiskGate
from exchange.core.orders.seal import seal
from exchange.core.risk.early_warning import early_warnings
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.stored.state import Phase, State
from exchange.core.venue import USDC
from margin.invariant import check

LAYERS = (House.FEES, House.VENUE_CAPITAL, House.DEFAULT_FUND, House.BONDS)


def run_seal(state: State, gate: RiskGate, command: Seal) -> list[Event]:
    """Step 1: fix the order set."""
    check(state.phase == Phase.COLLECTING, "a batch is sealed while it collects")
    check(command.batch == state.batch, "the batch that is sealed is the one that collects")
    state.ledger.cycle = state.batch
    events = seal(state, gate, command.batch, command.time_ns)
    state.phase = Phase.SEALED
    return events


def run_uncross(state: State, command: Uncross) -> list[Event]:
    """Steps 2 and 3: clear and settle."""
    check(state.phase == Phase.SEALED, "a batch is uncrossed after its seal")
    check(command.batch == state.batch, "the batch that is uncrossed is the sealed one")
    events = uncross(state)
    note_fills(state, events)
    state.phase = Phase.UNCROSSED
    return events


def run_revalue(state: State, risk: Risk, gate: RiskGate, command: Revalue) -> list[Event]:
    """Steps 4 to 10; afterwards the next batch collects."""
    check(state.phase == Phase.UNCROSSED, "revaluation follows the uncrossing")
    check(command.cycle == state.batch, "a cycle has the number of its batch")
    marks = state.marks
    problem = marks.validate_command(command)
    check(not problem, f"marks are valid: {problem}")
    elapsed_ns = command.time_ns - marks.time_ns if marks.is_open else 0
    period_ns = state.venue.funding.period_ns
    before = command.time_ns - elapsed_ns
    crossed = command.time_ns // period_ns - before // period_ns
    marks.take(command)
    state.forecasts.take(marks)
    marks.funding_payments += crossed
    risk.holdings.mark()
    gains, events = take_marks(state, risk.holdings.value_e6, elapsed_ns, crossed)
    risk.reprice()
    risk.revalue(gains.pending)
    if state.accounts.layers.group_of:
        events += pay_guarantees(state, risk)
    events += margin_calls(state, risk)
    events += early_warnings(state, risk)
    if state.attestations:
        events += age_credit(state, risk)
    to_waterfall, steps = advance_cases(state, risk)
    events += steps
    if to_waterfall or risk.equity[House.INSURANCE] < 0:
        events += Waterfall(state, risk, gains).run(to_waterfall)
    events += unwind_fund(state, risk)
    events += release_gains(state, gains)
    gains.pending[:] = 0  # now cash: equity is what it was
    marks.forget_observations()
    return events + _close(state, risk, gate, command)


def _close(state: State, risk: Risk, gate: RiskGate, command: Revalue) -> list[Event]:
    """Step 10: the books balance, the laws hold, the state has a hash."""
    state.validate()
    owing = risk.equity < 0
    state.accounts.withdrawals_frozen = bool(
        owing[House.INSURANCE] or np.count_nonzero(owing[HOUSE_POOLS:])
    )
    house = state.ledger.cash[:HOUSE_POOLS, USDC].tolist()
    check(min(house[layer] for layer in LAYERS) >= 0, "no layer of the house is below zero")
    state.client_orders.close_cycle()
    state.cycle = command.cycle
    state.batch += 1
    state.phase = Phase.COLLECTING
    gate.rebuild()
    state.last_hash = state.digest()
    return [CycleClosed(state.cycle, command.time_ns, state.last_hash)]
