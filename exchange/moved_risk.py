"""The risk of an engine at other marks and balances: its own rules on a copy of what they read.

Positions, orders and accounts are the engine's; marks and cash are replaced, so that equity,
requirements, credit for what is elsewhere and the guarantees of groups are what the next
revaluation would make of them. Nothing of the engine is changed.
"""

from __future__ import annotations

from copy import copy

import msgspec

from exchange.core.default.group import pay_guarantees
from exchange.core.engine import Engine
from exchange.core.risk.models import require_models
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.state import State
from exchange.core.venue import USDC, validate, validate_instrument
from margin.forecasts.opening import opening_growth_ppb
from margin.invariant import BoolArray, Int64Array
from margin.portfolio import Marks
from margin.presets.preset import Preset


class MovedRisk:
    """What every pool of an engine has and needs once marks and cash have moved.

    `preset` judges all accounts in place of the venue's models. One of the venue's own keeps its
    ranges and correlations of the cycle. Another has the ranges of its file, a floor from what
    these would have forecast, and no offset between coins, whose correlations nobody has learnt.
    `VenueError` where it cannot judge the venue.
    """

    def __init__(self, engine: Engine, preset: Preset | None = None) -> None:
        self.state = copy(engine.state)
        if preset is not None:
            _charge_all(self.state, preset)
        self._marks, self._cash = self.state.marks, engine.risk.holdings.cash()
        self.risk = Risk(self.state)
        if preset is not None and not _is_own(engine.state, preset):
            venue = self.state.venue
            self.risk.models[0].growth_ppb = opening_growth_ppb(
                preset, [unit.risk_class for unit in venue.underlyings], self._marks.time_ns,
                venue.interval_ns,
            )  # fmt: skip

    def stand(
        self, marks: Marks | None = None, pools: Int64Array | None = None,
        cash_minor: Int64Array | None = None,
    ) -> Risk:  # fmt: skip
        """The risk at some marks (the engine's), once `pools` have `cash_minor[P,C]`."""
        state, risk = self.state, self.risk
        state.marks, state.ledger = copy(self._marks), copy(state.ledger)
        state.ledger.cash = self._cash.copy()
        if pools is not None and cash_minor is not None:
            state.ledger.cash[pools] = cash_minor
        if marks is not None:
            board = state.marks
            board.index_e8, board.mark_e8 = marks.index_e8, marks.mark_e8
            board.forward_e8, board.volatility_e9 = marks.forward_e8, marks.volatility_e9
        risk.holdings.mark()
        risk.reprice()
        risk.backing.credit.clear()
        risk.revalue()
        return risk

    def pay_guarantees(self) -> Int64Array:
        """Let groups cover their owners' cross pools; what every pool gets (gives: below 0), [P].

        A revaluation does so before margin calls and liquidations.
        """
        before = self.state.ledger.cash[:, USDC].copy()
        pay_guarantees(self.state, self.risk)
        paid: Int64Array = self.state.ledger.cash[:, USDC] - before
        return paid

    def breached(self) -> BoolArray:
        """Pools below maintenance margin, credit counted as a liquidation counts it, [P]."""
        backing = self.risk.backing
        found: BoolArray = self.risk.equity < self.risk.maintenance_most
        for pool in backing.credit:
            found[pool] = not backing.keeps(pool)
        return found


def _is_own(state: State, preset: Preset) -> bool:
    """Whether a venue is charged by this model, and so remembers for it."""
    return any(known is preset for known in state.venue.presets())


def _charge_all(state: State, preset: Preset) -> None:
    """Let one model charge all accounts of a copied state."""
    presets, forecasts, number = state.venue.presets(), state.forecasts, 0
    if _is_own(state, preset):
        number = next(n for n, known in enumerate(presets) if known is preset)
    else:
        preset = msgspec.structs.replace(preset, cross_unit=None)
    state.venue = msgspec.structs.replace(state.venue, preset=preset, account_classes=())
    validate(state.venue)
    for spec in state.contracts.specs:  # what was listed since the opening, too
        validate_instrument(state.venue, spec)
    require_models(state.venue)
    state.accounts = copy(state.accounts)
    state.accounts.model_of = [0] * state.accounts.pools
    state.forecasts = copy(forecasts)
    state.forecasts.memories = [forecasts.memories[number]]
