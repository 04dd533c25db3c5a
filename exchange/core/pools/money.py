"""Accounts, deposits and withdrawals. Money comes into and leaves the pool that is named, or an
account's cross pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core import limits
from exchange.core.commands import Deposit, OpenAccount, Withdraw
from exchange.core.events import AccountOpened, Event, Rejected, Transferred
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.layers import NO_POOL, PoolKind
from exchange.core.stored.ledger import House
from exchange.core.stored.state import State

NO_PARENT = -1

if TYPE_CHECKING:
    from exchange.core.engine import Engine


def open_account(engine: Engine, command: OpenAccount) -> list[Event]:
    """Open an account with its cross pool."""
    state, accounts = engine.state, engine.state.accounts
    if command.name in accounts.number_of:
        text = f"there is an account {command.name!r} already"
        return [Rejected(RejectReason.ACCOUNT_EXISTS, text)]
    model = state.venue.model_of(command.account_class)
    if model < 0:
        text = f"the venue has no account class {command.account_class!r}"
        return [Rejected(RejectReason.ACCOUNT_CLASS_UNKNOWN, text)]
    if command.parent != NO_PARENT:
        reason = _refusal_of_parent(state, command)
        if reason:
            return [Rejected(reason)]
        model = accounts.model_of[accounts.pool_of[command.parent]]
    account, pool = accounts.open(command.name, model)
    if command.parent != NO_PARENT:
        accounts.layers.add_sub_account(account, command.parent)
    add_pool(engine)
    return [AccountOpened(account, pool, command.name)]


def _refusal_of_parent(state: State, command: OpenAccount) -> RejectReason:
    """Why an account cannot be a sub-account of `command.parent`, or NONE."""
    accounts = state.accounts
    if not 0 <= command.parent < len(accounts.names):
        return RejectReason.ACCOUNT_UNKNOWN
    if command.account_class:
        return RejectReason.ACCOUNT_CLASS_UNKNOWN
    if command.parent in accounts.layers.parent_account:
        return RejectReason.ACCOUNT_IS_SUB_ACCOUNT
    if not accounts.layers.has_room(command.parent, PoolKind.CROSS):
        return RejectReason.TOO_MANY_POOLS
    return RejectReason.NONE


def add_pool(engine: Engine) -> None:
    """Room for one more pool wherever something is kept by pool."""
    engine.state.ledger.add_pools(1)
    engine.risk.add_pools(1)
    engine.gate.add_pools(1)


def _pool_of(state: State, command: Deposit | Withdraw) -> int:
    """The pool that money comes into or leaves; NO_POOL where the account is unknown."""
    accounts = state.accounts
    if command.pool != NO_POOL or not 0 <= command.account < len(accounts.names):
        return command.pool
    return accounts.pool_of[command.account]


def _refusal(state: State, command: Deposit | Withdraw, pool: int) -> RejectReason:
    reason = state.accounts.refusal_of_holder(command.account, pool)
    if reason:
        return reason
    if not 0 <= command.currency < state.ledger.currencies:
        return RejectReason.CURRENCY_UNKNOWN
    if command.amount_minor <= 0:
        return RejectReason.AMOUNT_NOT_POSITIVE
    if command.amount_minor > limits.TRANSFER_MINOR_MAX:
        return RejectReason.AMOUNT_TOO_LARGE
    return RejectReason.NONE


def refresh(engine: Engine, pool: int) -> None:
    """A pool's cash or positions moved between revaluations."""
    if engine.state.marks.is_open:
        engine.risk.revalue_pool(pool)
        engine.gate.refresh_pool(pool)


def deposit(engine: Engine, command: Deposit) -> list[Event]:
    """Credit an account against the world outside."""
    state = engine.state
    pool = _pool_of(state, command)
    reason = _refusal(state, command, pool)
    if reason:
        return [Rejected(reason)]
    after = state.ledger.balance(pool, command.currency) + command.amount_minor
    if after > limits.BALANCE_MINOR_MAX // 2:
        return [Rejected(RejectReason.AMOUNT_TOO_LARGE, "the balance would exceed its bound")]
    posted = state.ledger.transfer(
        PostingCause.DEPOSIT, House.EXTERNAL, pool, command.currency, command.amount_minor
    )
    refresh(engine, pool)
    return [Transferred(command.account, command.currency, command.amount_minor), posted]


def venue_holding(state: State, currency: int) -> int:
    """What the venue holds of a currency: all that came in and has not gone out."""
    return -state.ledger.balance(House.EXTERNAL, currency)


def withdraw(engine: Engine, command: Withdraw) -> list[Event]:
    """Pay out, if cash is there and what stays covers positions and orders."""
    state = engine.state
    pool = _pool_of(state, command)
    reason = _refusal(state, command, pool)
    if reason:
        return [Rejected(reason)]
    if state.accounts.withdrawals_frozen:
        return [Rejected(RejectReason.WITHDRAWALS_FROZEN)]
    if state.accounts.in_liquidation(pool):
        return [Rejected(RejectReason.ACCOUNT_IN_LIQUIDATION)]
    available = min(
        state.ledger.balance(pool, command.currency), venue_holding(state, command.currency)
    )
    if command.amount_minor > available:
        return [Rejected(RejectReason.INSUFFICIENT_FUNDS, "more than the cash there is")]
    if state.marks.is_open and not engine.gate.covers_withdrawal(
        pool, command.currency, command.amount_minor
    ):
        return [Rejected(RejectReason.INSUFFICIENT_FUNDS, "the rest would not cover the margin")]
    posted = state.ledger.transfer(
        PostingCause.WITHDRAWAL, pool, House.EXTERNAL, command.currency, command.amount_minor
    )
    refresh(engine, pool)
    return [Transferred(command.account, command.currency, -command.amount_minor), posted]
