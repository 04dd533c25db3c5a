"""Margin pools as clients read them: money, requirements, and how pools are named on the wire."""

from __future__ import annotations

from typing import NamedTuple

from exchange.core.engine import Engine
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import NO_POOL, PoolKind
from exchange.core.stored.positions import ENTRY_MINOR, LOTS, REALISED_MINOR
from exchange.core.stored.state import State
from exchange.core.venue import USDC
from exchange.gateway.errors import refused
from exchange.gateway.units import money

USDC_MINOR = 10**6


class PositionRow(NamedTuple):
    """One position of a pool, with what is remembered of it."""

    pool: int
    slot: int
    lots: int
    entry_minor: int
    realised_minor: int


class PoolFigures(NamedTuple):
    """A pool's money in minor USDC; `option_minor` by currency in its own minor units.

    `whole_minor` is equity before collateral haircuts; `initial_minor` counts open orders.
    `available_minor`: what stands above initial margin, at least 0; of that new orders may reserve
    what an offset the gate does not trust, and the fees of orders, leave. `credit_minor`: what is
    counted for collateral elsewhere. `free_minor`: what may leave the pool, without any credit.
    """

    whole_minor: int
    equity_minor: int
    initial_minor: int
    maintenance_minor: int
    available_minor: int
    credit_minor: int
    free_minor: int
    option_minor: list[int]


def position_rows(state: State, pool: int) -> list[PositionRow]:
    """A pool's positions in margin order, flat ones that are remembered included."""
    rows = state.positions.rows_of(pool)
    table = state.positions.table[:, rows]
    columns = (state.positions.instrument[rows], table[LOTS], table[ENTRY_MINOR],
               table[REALISED_MINOR])  # fmt: skip
    found = zip(*(column.tolist() for column in columns), strict=True)
    return [PositionRow(pool, *row) for row in found]


def pool_figures(engine: Engine, pool: int) -> PoolFigures:
    """Equity and requirements of a pool at the last marks."""
    state = engine.state
    if not state.marks.is_open:
        cash = state.ledger.balance(pool, USDC)
        free = max(0, cash)
        return PoolFigures(cash, cash, 0, 0, free, 0, free, [0] * state.ledger.currencies)
    risk = engine.risk
    need = risk.need(pool)
    initial = need.initial_minor
    held, backing, withheld = int(risk.equity[pool]), risk.backing, 0
    orders = state.orders.of_pool(pool)
    if state.venue.risk_gate:  # which trusts no offset between coins, and holds back fees
        withheld = need.relief_minor
        if orders.shape[1]:
            initial, withheld = engine.gate.requirement(pool, orders)
    whole = risk.equity_of(pool, haircut=False)
    available = max(0, backing.of(pool) - initial)
    free = max(0, available - withheld)
    if pool in backing.credit:
        free = max(0, engine.gate.own_room(pool))
    return PoolFigures(
        whole, held, initial, need.maintenance_minor, available,
        backing.credit.get(pool, 0), free,
        risk.holdings.option_values_of(pool).tolist(),
    )  # fmt: skip


def sum_of(figures: list[PoolFigures]) -> PoolFigures:
    """Several pools' figures together; what one has spare does not cover another."""
    *amounts, options = zip(*figures, strict=True)
    sums = [sum(amount) for amount in amounts]
    return PoolFigures(*sums, [sum(values) for values in zip(*options, strict=True)])


def own_pool(state: State, account: int, named: int) -> int:
    """The pool that an account means: its cross pool if it names none (-1).

    13020 where there is no such pool, 11042 where it is neither its own nor a sub-account's.
    """
    if named == NO_POOL:
        return state.accounts.pool_of[account]
    reason = state.accounts.refusal_of_holder(account, named)
    if reason:
        raise refused(reason, param="pool_id")
    return named


def own_account(state: State, account: int, named: int | None) -> int:
    """The account that is asked about: the asking one or a sub-account of it; else 11042."""
    accounts = state.accounts
    if named is None or named == account:
        return account
    if named >= len(accounts.names) or accounts.layers.owner(named) != account:
        reason = RejectReason.POOL_NOT_OWNED
        raise refused(reason, f"account {named} is no sub-account of this one", "subaccount_id")
    return named


def owned_pools(state: State, account: int) -> list[int]:
    """All pools that an account has a say over: its own first, then those of its sub-accounts."""
    accounts = state.accounts
    is_owner = accounts.layers.owner(account) == account
    holders = accounts.layers.accounts_of(account) if is_owner else [account]
    return [pool for holder in holders for pool in accounts.pools_of(holder)]


def margin_mode(state: State, pool: int) -> str:
    """The kind of a pool in small letters."""
    return PoolKind(state.accounts.kind_of(pool)).name.lower()


def describe_pool(state: State, pool: int, figures: PoolFigures) -> dict[str, object]:
    """One pool: its number, its place among the layers, its money in USDC and by currency."""
    accounts = state.accounts
    layer, parent = accounts.layers.of_pool.get(pool), accounts.parent_of(pool)
    slot = -1 if layer is None else layer.instrument
    names = state.venue.currencies()
    return {
        "pool_id": pool,
        "account_id": accounts.owner_of[pool],
        "kind": margin_mode(state, pool),
        "name": "" if layer is None else layer.name,
        "instrument_name": None if slot < 0 else state.contracts.specs[slot].name,
        "parent_pool_id": None if parent < 0 else parent,
        "equity": figures.equity_minor / USDC_MINOR,
        "initial_margin": figures.initial_minor / USDC_MINOR,
        "maintenance_margin": figures.maintenance_minor / USDC_MINOR,
        "available_funds": figures.available_minor / USDC_MINOR,
        "attested_credit": figures.credit_minor / USDC_MINOR,
        "margin_call": pool in accounts.calls,
        "in_liquidation": pool in accounts.cases,
        "balances": {
            name: money(number, state.ledger.balance(pool, number))
            for number, name in enumerate(names)
        },
    }
