"""An account's money, positions and margin calls as Deribit's clients read them.

Equity and requirements are sums over the account's margin pools, in USDC, with each pool's own
beside them. A summary in another currency shows the sums converted at its index, as Deribit does
for accounts with cross collateral, while `balance` and `equity` are that currency's own.
"""

from __future__ import annotations

import numpy as np

from exchange.core.engine import Engine
from exchange.core.events import (
    CallChanged,
    CreditAged,
    Deleveraged,
    Event,
    GuaranteePaid,
    LayerPaid,
    LiquidationStep,
    MarginWarned,
)
from exchange.core.reject_reason import RejectReason
from exchange.core.risk.early_warning import predictive_of
from exchange.core.stored.attestations import CreditStage
from exchange.core.stored.layers import NO_POOL
from exchange.core.stored.state import State
from exchange.core.venue import INVERSE_OPTION_KINDS, USDC, InstrumentSpec
from exchange.gateway.errors import refused
from exchange.gateway.instrument_view import greeks_of
from exchange.gateway.pool_view import (
    USDC_MINOR,
    PoolFigures,
    PositionRow,
    describe_pool,
    margin_mode,
    pool_figures,
    position_rows,
    sum_of,
)
from exchange.gateway.units import (
    E8,
    amount_number,
    kind_name,
    milliseconds,
    money,
    settlement_name,
)
from margin.default.margin_call import CallOutcome
from margin.portfolio import INVERSE
from margin.portfolio import Positions as PositionColumns


def account_type(state: State, account: int) -> str:
    """Deribit's word for an account that has a parent, or has none."""
    return "subaccount" if account in state.accounts.layers.parent_account else "main"


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


class AccountView:
    """Answers about accounts, from the engine's state and risk."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[int, tuple[PoolFigures, list[PoolFigures]]] = {}

    def changed(self, account: int | None = None) -> None:
        """An account's money or orders changed; without a number, everybody's.

        Its owner's other accounts may be judged with it, so theirs are read anew, too.
        """
        if account is None:
            self._known.clear()
            return
        self._known.pop(account, None)
        layers = self.engine.state.accounts.layers
        if not layers.is_plain(account):
            for related in layers.accounts_of(layers.owner(account)):
                self._known.pop(related, None)

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

    def _rows(self, account: int) -> list[PositionRow]:
        """An account's positions, pool by pool."""
        state = self.engine.state
        return [row for pool in state.accounts.pools_of(account)
                for row in position_rows(state, pool)]  # fmt: skip

    def _floating(self, slot: int, lots: int, entry_minor: int) -> int:
        return self.engine.risk.holdings.value_minor(slot, lots) - entry_minor

    def _position(self, account: int, held: PositionRow) -> dict[str, object]:
        pool, slot, lots, entry_minor, realised_minor = held
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
            "margin_mode": margin_mode(state, pool),
            "pool_id": pool,
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
        for row in self._rows(account):
            spec = state.contracts.specs[row.slot]
            filed = currency in ("any", settlement_name(state.venue, spec))
            if row.lots and filed and kind in ("any", kind_name(spec)):
                found.append(self._position(account, row))
        return found

    def position(self, account: int, slot: int) -> dict[str, object]:
        """The position in one contract, in the pool that its orders fill into.

        Of direction `zero` where there is none.
        """
        pool, _ = self.engine.state.accounts.pool_for(account, slot, NO_POOL)
        for row in position_rows(self.engine.state, pool):
            if row.slot == slot:
                return self._position(account, row)
        return self._position(account, PositionRow(pool, slot, 0, 0, 0))

    def _figures(self, account: int) -> tuple[PoolFigures, list[PoolFigures]]:
        """Equity and requirements of an account at the last marks: all together, and by pool."""
        known = self._known.get(account)
        if known is None:
            pools = self.engine.state.accounts.pools_of(account)
            figures = [pool_figures(self.engine, pool) for pool in pools]
            known = self._known[account] = sum_of(figures), figures
        return known

    def _profits(self, account: int, currency: int) -> dict[str, float]:
        """Profit, loss and Greeks of the positions that settle in a currency."""
        state = self.engine.state
        futures = options = realised_futures = realised_options = 0
        delta = options_delta = gamma = vega = theta = 0.0
        for _, slot, lots, entry, realised in self._rows(account):
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
        """Money of one currency, and the margins of all pools converted into it.

        What can be withdrawn is the cross pool's; what the others have moves there first.
        """
        engine, state = self.engine, self.engine.state
        pools = state.accounts.pools_of(account)
        balances = [state.ledger.balance(each, currency) for each in pools]
        cash = sum(balances)
        pool, by_pool = self._figures(account)
        is_open = state.marks.is_open
        price_e8 = int(engine.risk.holdings.index_e8[currency]) if is_open else E8
        value = pool.option_minor[currency]

        def converted(amount_minor: int) -> float:
            return amount_minor * E8 / (USDC_MINOR * price_e8)

        name = state.venue.currencies()[currency]
        row: dict[str, object] = {
            "currency": name,
            "balance": money(currency, cash),
            "equity": money(currency, cash + value),
            "margin_balance": converted(pool.equity_minor),
            "available_funds": converted(pool.available_minor),
            "available_withdrawal_funds": max(
                0.0, min(money(currency, balances[0]), converted(by_pool[0].free_minor))
            ),
            "attested_credit": converted(pool.credit_minor),
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
        row["pools"] = [
            describe_pool(state, number, figures)
            for number, figures in zip(pools, by_pool, strict=True)
        ]
        if is_open:
            row |= self._profits(account, currency)
        if extended:
            fees = state.venue.fees
            row |= {
                "id": account,
                "username": state.accounts.names[account],
                "system_name": state.accounts.names[account],
                "email": "",
                "type": account_type(state, account),
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
        """The call that stands or the liquidation that is open of each pool: at most one each."""
        state = self.engine.state
        accounts, time_ns = state.accounts, state.marks.time_ns
        found = []
        for pool in accounts.pools_of(account):
            call = accounts.calls.get(pool)
            if pool in accounts.cases:
                found.append(call_notice(pool, "liquidation", 0, None, time_ns))
            elif call is not None:
                amount, deadline = call.amount_minor, call.deadline_cycle
                found.append(call_notice(pool, "standing", amount, deadline, time_ns))
        return found


def call_notice(
    pool: int, outcome: str, amount_minor: int, deadline: int | None, time_ns: int
) -> dict[str, object]:
    """A margin call's news; `deadline` is the cycle in which it expires."""
    return {
        "pool_id": pool,
        "outcome": outcome,
        "amount": amount_minor / USDC_MINOR,
        "currency": "USDC",
        "deadline": deadline,
        "timestamp": milliseconds(time_ns),
    }


def warning_notice(state: State, event: MarginWarned, time_ns: int) -> dict[str, object]:
    """An early warning: how likely a margin call is, and what margin is forecast."""
    section = predictive_of(state, event.pool)
    assert section is not None, "only a model that forecasts warns"
    return {
        "pool_id": event.pool,
        "probability": event.probability_ppb / 10**9,
        "horizon_cycles": section.cycles,
        "initial_margin": event.forecast_minor / USDC_MINOR,
        "currency": "USDC",
        "timestamp": milliseconds(time_ns),
    }


def default_notice(
    state: State, event: Event, time_ns: int
) -> tuple[int, dict[str, object]] | None:
    """The pool that an event of margin or default is about, and what its owner is told."""
    if isinstance(event, CallChanged):
        outcome = CallOutcome(event.outcome).name.lower()
        amount, deadline = event.amount_minor, event.deadline_cycle
        return event.pool, call_notice(event.pool, outcome, amount, deadline, time_ns)
    if isinstance(event, GuaranteePaid):
        return event.pool, call_notice(event.pool, "guaranteed", event.amount_minor, None, time_ns)
    if isinstance(event, CreditAged):
        outcome = f"credit_{CreditStage(event.stage).name.lower()}"
        row = call_notice(event.pool, outcome, event.credit_minor, None, time_ns)
        row["outside_venue"] = event.outside_venue
        row["full_amount"] = event.full_minor / USDC_MINOR
        return event.pool, row
    if isinstance(event, (LiquidationStep, Deleveraged)):
        step = event.step if isinstance(event, LiquidationStep) else "deleveraged"
        amount = getattr(event, "amount_minor", 0)
        row = call_notice(event.pool, "liquidation", amount, None, time_ns)
        row["step"] = step
        if event.instrument >= 0:
            spec = state.contracts.specs[event.instrument]
            row["instrument_name"] = spec.name
            row["size"] = amount_number(spec, event.quantity_lots)
        return event.pool, row
    if isinstance(event, LayerPaid):
        row = call_notice(event.pool, "liquidation", event.amount_minor, None, time_ns)
        row["step"] = event.layer
        return event.pool, row
    return None
