"""Sub-accounts under Deribit's names, and all pools that one owner has.

A sub-account has its own pools and its own keys (`uncross keys add FILE NAME`); its parent opens
it, reads it, and moves money between all accounts that it owns.
"""

from __future__ import annotations

from itertools import count
from typing import cast

from exchange.core.commands import CommandBase, MoveMargin, OpenAccount
from exchange.core.events import AccountOpened
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway import query_parameters as q
from exchange.gateway.account_view import AccountView, account_type, currency_of
from exchange.gateway.errors import refused
from exchange.gateway.market_queries import slots_filed_under
from exchange.gateway.order_history import OrderHistory
from exchange.gateway.order_record import wire_order
from exchange.gateway.pool_view import describe_pool, owned_pools, pool_figures
from exchange.gateway.queries import Query, account_of
from exchange.gateway.session import Session
from exchange.gateway.submission import Action, granted
from exchange.gateway.units import milliseconds, minor_of, money
from exchange.sequencer import Sequencer

PORTFOLIO = (
    "available_funds", "available_withdrawal_funds", "balance", "currency", "equity",
    "initial_margin", "maintenance_margin", "margin_balance",
)  # fmt: skip


class SubAccounts:
    """What an owner asks of and about the accounts below it."""

    def __init__(self, sequencer: Sequencer, accounts: AccountView, history: OrderHistory) -> None:
        self.sequencer, self.accounts, self.history = sequencer, accounts, history
        self._transfers = count(1)

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {
            "private/get_margin_pools": self._pools,
            "private/get_subaccounts": self._list,
            "private/get_subaccounts_details": self._details,
        }

    def actions(self) -> dict[str, Action]:
        """Method name -> what carries it out."""
        return {
            "private/create_subaccount": self._create,
            "private/submit_transfer_to_subaccount": lambda session, params: self._transfer(
                session, params, account_of(session)
            ),
            "private/submit_transfer_between_subaccounts": lambda session, params: self._transfer(
                session, params, account_of(session) if params.source is None else params.source
            ),
        }

    def _owned(self, account: int) -> list[int]:
        """The asking account and, if it is an owner, its sub-accounts."""
        layers = self.state.accounts.layers
        return layers.accounts_of(account) if layers.owner(account) == account else [account]

    def _pools(self, session: Session, params: p.NoParameters) -> list[dict[str, object]]:
        state, engine = self.state, self.sequencer.engine
        pools = owned_pools(state, account_of(session))
        return [describe_pool(state, pool, pool_figures(engine, pool)) for pool in pools]

    def _described(self, account: int, with_portfolio: bool) -> dict[str, object]:
        state = self.state
        name = state.accounts.names[account]
        row: dict[str, object] = {
            "id": account,
            "username": name,
            "system_name": name,
            "type": account_type(state, account),
            "email": "",
            "is_password": False,
            "login_enabled": False,
            "receive_notifications": False,
            "security_keys_enabled": False,
            "margin_model": "cross_pm",
        }
        if with_portfolio:
            money_of = {}
            for number, currency in enumerate(state.venue.currencies()):
                summary = self.accounts.summary(account, number)
                money_of[currency.lower()] = {name: summary[name] for name in PORTFOLIO}
            row["portfolio"] = money_of
        return row

    def _list(self, session: Session, params: q.SubAccountsParameters) -> list[dict[str, object]]:
        accounts = self._owned(account_of(session))
        return [self._described(account, params.with_portfolio) for account in accounts]

    def _details(
        self, session: Session, params: q.SubAccountsDetailsParameters
    ) -> list[dict[str, object]]:
        state = self.state
        currency = state.venue.currencies()[currency_of(state, params.currency)]
        slots = set(slots_filed_under(state, currency, "any"))
        found = []
        for account in self._owned(account_of(session)):
            row: dict[str, object] = {
                "uid": account,
                "positions": self.accounts.positions(account, currency),
            }
            if params.with_open_orders:
                row["open_orders"] = [
                    wire_order(state, record)
                    for record in self.history.of(account).open.values()
                    if record.slot in slots
                ]
            found.append(row)
        return found

    def _free_name(self, parent: int) -> str:
        accounts = self.state.accounts
        names = (f"{accounts.names[parent]}_{number}" for number in count(1))
        return next(name for name in names if name not in accounts.number_of)

    async def _create(
        self, session: Session, params: p.CreateSubAccountParameters
    ) -> dict[str, object]:
        parent = account_of(session)

        def opening(time_ns: int) -> OpenAccount:
            name = self._free_name(parent) if params.name is None else params.name
            return OpenAccount(time_ns, name, "", parent)

        # Named when it is committed: two requests at once get two accounts.
        event, *_ = await granted(self.sequencer, cast("type[CommandBase]", opening))
        assert isinstance(event, AccountOpened)
        return self._described(event.account, True)

    async def _transfer(
        self, session: Session, params: p.TransferParameters | p.TransferBetweenParameters,
        source: int,
    ) -> dict[str, object]:  # fmt: skip
        state, destination = self.state, params.destination
        currency = currency_of(state, params.currency)
        amount = minor_of(currency, params.amount)
        known = len(state.accounts.names)
        for account, param in ((source, "source"), (destination, "destination")):
            if account >= known:
                raise refused(RejectReason.ACCOUNT_UNKNOWN, param=param)
        pools = state.accounts.pool_of[source], state.accounts.pool_of[destination]
        await granted(self.sequencer, MoveMargin, account_of(session), *pools, currency, amount)
        now = milliseconds(state.time_ns)
        return {
            "id": next(self._transfers),
            "type": "subaccount",
            "direction": "payment",
            "currency": state.venue.currencies()[currency],
            "amount": money(currency, amount),
            "state": "confirmed",
            "other_side": state.accounts.names[destination],
            "created_timestamp": now,
            "updated_timestamp": now,
        }
