"""An account's money, positions and margin calls as Deribit's clients read them.

Every account is one cross margin pool. Equity and requirements are the pool's, in USDC; a
summary in another currency shows them converted at its index, as Deribit does for accounts with
cross collateral, while `balance` and `equity` are that currency's own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core.engine import Engine
from exchange.core.events import (
    CallChanged,
    Deleveraged,
    Event,
    LayerPaid,
    LiquidationStep,
    MarginWarned,
)
from exchange.core.positions import ENTRY_MINOR, LOTS, REALISED_MINOR
from exchange.core.reject_reason import RejectReason
from exchange.core.state import State
from exchange.core.venue import INVERSE_OPTION_KINDS, USDC, InstrumentSpec
from exchange.gateway.errors import refused
from exchange.gateway.instrument_view import greeks_of
from exchange.gateway.units import (
    E8,
    amount_number,
    kind_name,
    milliseconds,
    money,
    settlement_name,
)
from margin.fixed_point import mul_div_floor
from margin.margin_call import CallOutcome
from margin.portfolio import INVERSE
from margin.portfolio import Positions as PositionColumns
from margin.requirement import equity

USDC_MINOR = 10**6


def currency_of(state: State, name: str) -> int:
    """The number of a currency by name (any case); 11029 where there is none."""
    names = state.venue.currencies()
    if name.upper() not in names:
        known = ", ".join(names)
        raise refused(
            RejectReason.CURRENCY_UNKNOWN, f"no currency {name!r}; there are {known}", "currency"
        )
    return names.index(name.upper())


def entry_price(spec: InstrumentSpec, lots: int, entry_minor: int) -> float:
    """Average price of a position, from what its lots were worth when they were traded."""
    if lots == 0 or entry_minor == 0:
        return 0.0
    if spec.kind == INVERSE:
        return -lots * spec.lot_e8 / entry_minor
    minor_per_unit = E8 if spec.kind in INVERSE_OPTION_KINDS else USDC_MINOR
    return entry_minor * E8 / (lots * spec.lot_e8 * minor_per_unit)


class PoolFigures(NamedTuple):
    """A pool's money in minor USDC; `option_minor` by currency in its own minor units.

    `whole_minor` is equity before collateral haircuts; `initial_minor` counts open orders.
    """

    whole_minor: int
    equity_minor: int
    initial_minor: int
    maintenance_minor: int
    option_minor: list[int]


class AccountView:
    """Answers about accounts, from the engine's state and risk."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[int, PoolFigures] = {}

    def changed(self, account: int | None = None) -> None:
        """An account's money or orders changed; without a number, everybody's."""
        if account is None:
            self._known.clear()
        else:
            self._known.pop(account, None)

    def _own_margins(self, account: int, slot: int, lots: int) -> tuple[int, int]:
        """What a position would need on its own, in minor USDC."""
        model = self.engine.risk.model(self.engine.state.accounts.pool_of[account])
        alone = PositionColumns(
            pool_start=np.array([0, 1], np.int64),
            instrument=np.array([slot], np.int64),
            quantity_lots=np.array([lots], np.int64),
            coin_minor=np.zeros((1, len(self.engine.state.venue.underlyings)), np.int64),
        )
        needed, _ = model.needed(alone, np.zeros(1, np.int64))
        return int(needed.initial_minor[0]), int(needed.maintenance_minor[0])

    def _rows(self, account: int) -> list[tuple[int, int, int, int]]:
        """An account's positions as (slot, lots, entry_minor, realised_minor)."""
        state = self.engine.state
        rows = state.positions.rows_of(state.accounts.pool_of[account])
        table = state.positions.table[:, rows]
        columns = (state.positions.instrument[rows], table[LOTS], table[ENTRY_MINOR],
                   table[REALISED_MINOR])  # fmt: skip
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _floating(self, slot: int, lots: int, entry_minor: int) -> int:
        value = mul_div_floor(int(self.engine.risk.value_e6[slot]), lots, 10**6)
        return int(value) - entry_minor

    def _position(
        self, account: int, slot: int, lots: int, entry_minor: int, realised_minor: int
    ) -> dict[str, object]:
        state = self.engine.state
        spec, marks = state.contracts.specs[slot], state.marks
        currency = state.contracts.currency[slot]
        mark = int(marks.mark_e8[slot]) / E8
        size = amount_number(spec, lots)
        coin = size / mark if spec.kind == INVERSE and mark else size
        index = int(marks.index_e8[spec.underlying])
        floating = self._floating(slot, lots, entry_minor)
        initial, maintenance = self._own_margins(account, slot, lots) if lots else (0, 0)
        scale = USDC_MINOR * (E8 if currency == USDC else index)  # USDC, or the coin at its index
        greeks = greeks_of(state, slot)
        row: dict[str, object] = {
            "instrument_name": spec.name,
            "kind": kind_name(spec),
            "direction": "buy" if lots > 0 else "sell" if lots < 0 else "zero",
            "size": size,
            "size_currency": coin,
            "average_price": entry_price(spec, lots, entry_minor),
            "mark_price": mark,
            "index_price": index / E8,
            "settlement_price": mark,
            "initial_margin": initial * E8 / scale,
            "maintenance_margin": maintenance * E8 / scale,
            "floating_profit_loss": money(currency, floating),
            "realized_profit_loss": money(currency, realised_minor),
            "total_profit_loss": money(currency, floating + realised_minor),
            "delta": round(coin * greeks.delta, 8),
            "open_orders_margin": 0.0,
            "leverage": 50,
            "estimated_liquidation_price": None,
        }
        if kind_name(spec) == "option":
            row |= {
                "gamma": round(size * greeks.gamma, 8),
                "vega": round(size * greeks.vega, 5),
                "theta": round(size * greeks.theta, 5),
            }
        return row

    def positions(
        self, account: int, currency: str = "any", kind: str = "any"
    ) -> list[dict[str, object]]:
        """Positions that are not flat, those filed under a currency and of a kind."""
        state = self.engine.state
        found = []
        for slot, lots, entry, realised in self._rows(account):
            spec = state.contracts.specs[slot]
            filed = currency in ("any", settlement_name(state.venue, spec))
            if lots and filed and kind in ("any", kind_name(spec)):
                found.append(self._position(account, slot, lots, entry, realised))
        return found

    def position(self, account: int, slot: int) -> dict[str, object]:
        """The position in one contract, of direction `zero` where there is none."""
        for row in self._rows(account):
            if row[0] == slot:
                return self._position(account, *row)
        return self._position(account, slot, 0, 0, 0)

    def _figures(self, account: int) -> PoolFigures:
        """Equity and requirements of an account's pool at the last marks."""
        known = self._known.get(account)
        if known is None:
            known = self._known[account] = self._count_figures(account)
        return known

    def _count_figures(self, account: int) -> PoolFigures:
        engine, state = self.engine, self.engine.state
        pool = state.accounts.pool_of[account]
        options = np.zeros((1, state.ledger.currencies), np.int64)
        if not state.marks.is_open:
            cash = state.ledger.balance(pool, USDC)
            return PoolFigures(cash, cash, 0, 0, options[0].tolist())
        risk = engine.risk
        for slot, lots, _, _ in self._rows(account):
            if state.contracts.is_option_slot(slot):
                currency = state.contracts.currency[slot]
                options[0, currency] += mul_div_floor(int(risk.value_e6[slot]), lots, 10**6)
        initial = int(risk.initial[pool])
        orders = state.orders.of_pool(pool)
        if orders.shape[1] and state.venue.risk_gate:
            initial = engine.gate.requirement(pool, orders)[0]
        cash_row = np.ascontiguousarray(risk.cash()[pool : pool + 1])
        whole = int(equity(cash_row, options, risk.index_e8, risk.no_haircut)[0])
        return PoolFigures(
            whole, int(risk.equity[pool]), initial, int(risk.maintenance[pool]),
            options[0].tolist(),
        )  # fmt: skip

    def _profits(self, account: int, currency: int) -> dict[str, float]:
        """Profit, loss and Greeks of the positions that settle in a currency."""
        state = self.engine.state
        futures = options = realised_futures = realised_options = 0
        delta = options_delta = gamma = vega = theta = 0.0
        for slot, lots, entry, realised in self._rows(account):
            if state.contracts.currency[slot] != currency:
                continue
            spec, floating = state.contracts.specs[slot], self._floating(slot, lots, entry)
            size, greeks = amount_number(spec, lots), greeks_of(state, slot)
            if not state.contracts.is_option_slot(slot):
                futures += floating
                realised_futures += realised
                mark = int(state.marks.mark_e8[slot]) / E8
                delta += size / mark if spec.kind == INVERSE and mark else size
                continue
            options += floating
            realised_options += realised
            options_delta += size * greeks.delta
            gamma += size * greeks.gamma
            vega += size * greeks.vega
            theta += size * greeks.theta
        realised = realised_futures + realised_options
        return {
            "futures_pl": money(currency, futures + realised_futures),
            "futures_session_upl": money(currency, futures),
            "futures_session_rpl": money(currency, realised_futures),
            "options_pl": money(currency, options + realised_options),
            "options_session_upl": money(currency, options),
            "options_session_rpl": money(currency, realised_options),
            "session_upl": money(currency, futures + options),
            "session_rpl": money(currency, realised),
            "total_pl": money(currency, futures + options + realised),
            "options_delta": round(options_delta, 8),
            "options_gamma": round(gamma, 8),
            "options_vega": round(vega, 5),
            "options_theta": round(theta, 5),
            "delta_total": round(delta + options_delta, 8),
            "projected_delta_total": round(delta + options_delta, 8),
        }

    def summary(self, account: int, currency: int, extended: bool = False) -> dict[str, object]:
        """Money of one currency, and the pool's margins converted into it."""
        engine, state = self.engine, self.engine.state
        cash = state.ledger.balance(state.accounts.pool_of[account], currency)
        pool = self._figures(account)
        is_open = state.marks.is_open
        price_e8 = int(engine.risk.index_e8[currency]) if is_open else E8
        available = max(0, pool.equity_minor - pool.initial_minor)
        value = pool.option_minor[currency]

        def converted(amount_minor: int) -> float:
            return amount_minor * E8 / (USDC_MINOR * price_e8)

        name = state.venue.currencies()[currency]
        row: dict[str, object] = {
            "currency": name,
            "balance": money(currency, cash),
            "equity": money(currency, cash + value),
            "margin_balance": converted(pool.equity_minor),
            "available_funds": converted(available),
            "available_withdrawal_funds": max(
                0.0, min(money(currency, cash), converted(available))
            ),
            "initial_margin": converted(pool.initial_minor),
            "maintenance_margin": converted(pool.maintenance_minor),
            "projected_initial_margin": converted(pool.initial_minor),
            "projected_maintenance_margin": converted(pool.maintenance_minor),
            "options_value": money(currency, value),
            "total_equity_usd": pool.whole_minor / USDC_MINOR,
            "total_margin_balance_usd": pool.equity_minor / USDC_MINOR,
            "total_initial_margin_usd": pool.initial_minor / USDC_MINOR,
            "total_maintenance_margin_usd": pool.maintenance_minor / USDC_MINOR,
            "margin_model": "cross_pm",
            "cross_collateral_enabled": True,
            "portfolio_margining_enabled": True,
            "fee_balance": 0.0,
            "spot_reserve": 0.0,
            "additional_reserve": 0.0,
            "estimated_liquidation_ratio": pool.maintenance_minor / pool.equity_minor
            if pool.equity_minor > 0
            else 0.0,
        }
        if is_open:
            row |= self._profits(account, currency)
        if extended:
            fees = state.venue.fees
            row |= {
                "id": account,
                "username": state.accounts.names[account],
                "system_name": state.accounts.names[account],
                "email": "",
                "type": "main",
                "fees": [
                    {"instrument_type": kind, "maker_fee": ppb / 10**9, "taker_fee": ppb / 10**9}
                    for kind, ppb in (("future", fees.future_ppb), ("option", fees.option_ppb))
                ],
            }
        return row

    def summaries(self, account: int, extended: bool = False) -> dict[str, object]:
        """All currencies' summaries."""
        state = self.engine.state
        count = state.ledger.currencies
        return {
            "id": account,
            "username": state.accounts.names[account],
            "summaries": [self.summary(account, number, extended) for number in range(count)],
        }

    def margin_calls(self, account: int) -> list[dict[str, object]]:
        """The call that stands, and the liquidation that is open (at most one in all)."""
        state = self.engine.state
        pool = state.accounts.pool_of[account]
        time_ns = state.marks.time_ns
        call, case = state.accounts.calls.get(pool), state.accounts.cases.get(pool)
        if case is not None:
            return [call_notice("liquidation", 0, None, time_ns)]
        if call is not None:
            return [call_notice("standing", call.amount_minor, call.deadline_cycle, time_ns)]
        return []


def call_notice(
    outcome: str, amount_minor: int, deadline: int | None, time_ns: int
) -> dict[str, object]:
    """A margin call's news; `deadline` is the cycle in which it expires."""
    return {
        "outcome": outcome,
        "amount": amount_minor / USDC_MINOR,
        "currency": "USDC",
        "deadline": deadline,
        "timestamp": milliseconds(time_ns),
    }


def default_notice(
    state: State, event: Event, time_ns: int
) -> tuple[int, dict[str, object]] | None:
    """The pool that an event of margin or default is about, and what its owner is told."""
    if isinstance(event, CallChanged):
        outcome = CallOutcome(event.outcome).name.lower()
        return event.pool, call_notice(outcome, event.amount_minor, event.deadline_cycle, time_ns)
    if isinstance(event, MarginWarned):
        row = call_notice("warning", event.forecast_minor, None, time_ns)
        row["probability"] = event.probability_ppb / 10**9
        return event.pool, row
    if isinstance(event, (LiquidationStep, Deleveraged)):
        step = event.step if isinstance(event, LiquidationStep) else "deleveraged"
        row = call_notice("liquidation", getattr(event, "amount_minor", 0), None, time_ns)
        row["step"] = step
        if event.instrument >= 0:
            spec = state.contracts.specs[event.instrument]
            row["instrument_name"] = spec.name
            row["size"] = amount_number(spec, event.quantity_lots)
        return event.pool, row
    if isinstance(event, LayerPaid):
        row = call_notice("liquidation", event.amount_minor, None, time_ns)
        row["step"] = event.layer
        return event.pool, row
    return None
