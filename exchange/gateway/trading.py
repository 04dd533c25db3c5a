"""Requests that change something: sent through the sequencer, answered once they are durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from exchange.core.commands import (
    CancelAll,
    CancelOrder,
    CommandBase,
    Deposit,
    EditOrder,
    PlaceOrder,
    Withdraw,
)
from exchange.core.events import Event, OrderAccepted, OrderDone
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import NO_POOL
from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway.account_view import currency_of
from exchange.gateway.errors import WireError, invalid_params, refused
from exchange.gateway.instrument_view import slot_of
from exchange.gateway.market_queries import slots_filed_under
from exchange.gateway.order_history import OrderHistory, edited_command, record_of_command
from exchange.gateway.order_record import WireOrder, wire_order
from exchange.gateway.order_terms import (
    check_post_only,
    check_unchanged,
    limit_ticks,
    order_lots,
    size_lots,
)
from exchange.gateway.pool_view import own_pool
from exchange.gateway.queries import account_of
from exchange.gateway.session import Session
from exchange.gateway.submission import Action, granted
from exchange.gateway.units import (
    minor_of,
    money,
    order_id_of,
    order_id_text,
    ticks_of,
)
from exchange.sequencer import Sequencer
from margin.invariant import check


class Trading:
    """Orders and transfers of accounts."""

    def __init__(self, sequencer: Sequencer, history: OrderHistory,
                 entered: Callable[[Session, int], None]) -> None:  # fmt: skip
        """`entered` is told which order came over which session."""
        self.sequencer, self.history, self.entered = sequencer, history, entered

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def actions(self) -> dict[str, Action]:
        """Method name -> what carries it out."""
        return {
            "private/buy": lambda session, params: self._order(session, params, 1),
            "private/sell": lambda session, params: self._order(session, params, -1),
            "private/edit": self._edit,
            "private/cancel": self._cancel,
            "private/cancel_all": self._cancel_all,
            "private/cancel_all_by_instrument": self._cancel_instrument,
            "private/cancel_by_label": self._cancel_label,
            "private/close_position": self._close_position,
            "private/deposit": lambda session, params: self._transfer(session, params, Deposit),
            "private/withdraw": lambda session, params: self._transfer(session, params, Withdraw),
        }

    async def _order(
        self, session: Session, params: p.OrderParameters, side: int
    ) -> dict[str, object]:
        check_post_only(params)
        state = self.state
        slot = slot_of(state, params.instrument_name)
        spec = state.contracts.specs[slot]
        lots, ticks = order_lots(spec, params), limit_ticks(spec, params.type, params.price)
        fields = (account_of(session), slot, side, ticks, lots,
                  params.time_in_force == "immediate_or_cancel", params.reduce_only,
                  params.client_order_id, params.post_only, params.pool_id)  # fmt: skip
        label = params.label

        def labelled(time_ns: int, *rest: Any) -> PlaceOrder:
            command = PlaceOrder(time_ns, *rest)
            self.history.label_next(command, label)
            return command

        # The sequencer only calls what it is given; this makes the command and notes its label.
        kind = cast("type[CommandBase]", labelled) if label else PlaceOrder
        accepted = (await granted(self.sequencer, kind, *fields))[0]
        return self._answer(session, accepted, fields, label)

    def _answer(
        self, session: Session, accepted: Event, fields: tuple[Any, ...], label: str
    ) -> dict[str, object]:
        """What an accepted order is answered with; `fields` are those of its command."""
        assert isinstance(accepted, OrderAccepted)
        state = self.state
        self.entered(session, accepted.order_id)
        record = self.history.orders.get(accepted.order_id)
        if accepted.repeated:
            if record is not None:
                return {"order": wire_order(state, record), "trades": []}
            order = _wire(state, PlaceOrder(state.time_ns, *fields), accepted.order_id, label)
            # It is done, and older than the history remembers: its terms, and a state that says so.
            return {"order": msgspec.structs.replace(order, order_state="archive"), "trades": []}
        check(record is not None, "the history took the order before its answer")
        assert record is not None
        if record.done or record.filled_lots or record.replaced:
            # A later command of the same commit changed it already; the answer is about this one.
            first = PlaceOrder(record.created_ns, *fields)
            return {"order": _wire(state, first, accepted.order_id, label), "trades": []}
        return {"order": wire_order(state, record), "trades": []}

    async def _edit(self, session: Session, params: p.EditParameters) -> dict[str, object]:
        account, order_id = account_of(session), order_id_of(params.order_id)
        if params.amount is None and params.contracts is None and params.price is None:
            raise invalid_params("an edit needs an amount or a price", "amount")
        state, record = self.state, self.history.orders.get(order_id)
        ticks = lots = None
        if record is not None and record.account == account:
            spec = state.contracts.specs[record.slot]
            ticks = None if params.price is None else ticks_of(spec, params.price)
            lots = size_lots(spec, params.amount, params.contracts)
            check_unchanged(params, record)

        def completed(time_ns: int) -> EditOrder:
            return edited_command(self.history, time_ns, account, order_id, ticks, lots)

        # Completed when it is committed: an auction may fill the order while the edit waits.
        await granted(self.sequencer, cast("type[CommandBase]", completed), edit=True)
        record = self.history.orders[order_id]
        return {"order": wire_order(state, record), "trades": []}

    async def _close_position(
        self, session: Session, params: p.CloseParameters
    ) -> dict[str, object]:
        account, slot = account_of(session), slot_of(self.state, params.instrument_name)
        ticks = limit_ticks(self.state.contracts.specs[slot], params.type, params.price)
        made: list[PlaceOrder] = []

        def closing(time_ns: int) -> PlaceOrder:
            pool, _ = self.state.accounts.pool_for(account, slot, NO_POOL)
            held = self.state.positions.lots_of(pool, slot)
            side = -1 if held > 0 else 1
            made.append(PlaceOrder(time_ns, account, slot, side, ticks, abs(held), False, True))
            return made[0]

        # Made when it is committed: an auction may change the position while the request waits.
        try:
            accepted = (await granted(self.sequencer, cast("type[CommandBase]", closing)))[0]
        except WireError as error:
            if made and not made[0].quantity_lots:
                reason = RejectReason.QUANTITY_NOT_POSITIVE
                raise refused(reason, "there is no position to close") from error
            raise
        _, *fields = msgspec.structs.astuple(made[0])
        return self._answer(session, accepted, tuple(fields), "")

    async def _cancel_label(self, session: Session, params: p.CancelLabelParameters) -> int:
        account = account_of(session)
        slots = set(slots_filed_under(self.state, params.currency, "any"))
        waiting = [
            self.sequencer.submit(CancelOrder, account, order_id)
            for order_id, record in self.history.of(account).open.items()
            if record.label == params.label and record.slot in slots
        ]
        # An order that ended meanwhile is refused, and does not count.
        return sum([isinstance((await future)[0], OrderDone) for future in waiting])

    async def _cancel(self, session: Session, params: p.OfOrder) -> object:
        order_id = order_id_of(params.order_id)
        await granted(self.sequencer, CancelOrder, account_of(session), order_id)
        return self._cancelled(order_id)

    def _cancelled(self, order_id: int) -> object:
        record = self.history.orders.get(order_id)
        if record is None:  # it entered as columns, of which there is no history
            return {"order_id": order_id_text(order_id), "order_state": "cancelled"}
        return wire_order(self.state, record)

    async def _cancel_all(self, session: Session, params: p.CancelAllParameters) -> object:
        return self._count(
            await granted(self.sequencer, CancelAll, account_of(session)), params.detailed
        )

    async def _cancel_instrument(
        self, session: Session, params: p.CancelInstrumentParameters
    ) -> object:
        slot = slot_of(self.state, params.instrument_name)
        events = await granted(self.sequencer, CancelAll, account_of(session), slot)
        return self._count(events, params.detailed)

    def _count(self, events: list[Event], detailed: bool) -> object:
        done = [event.order_id for event in events if isinstance(event, OrderDone)]
        return [self._cancelled(order_id) for order_id in done] if detailed else len(done)

    async def _transfer(
        self, session: Session, params: p.MoneyParameters, kind: type[CommandBase]
    ) -> dict[str, object]:
        account, state = account_of(session), self.state
        currency = currency_of(state, params.currency)
        amount = minor_of(currency, params.amount)
        pool = own_pool(state, account, params.pool_id)
        await granted(self.sequencer, kind, account, currency, amount, params.pool_id)
        return {
            "pool_id": pool,
            "currency": state.venue.currencies()[currency],
            "amount": money(currency, amount),
            "balance": money(currency, state.ledger.balance(pool, currency)),
        }


def _wire(state: State, command: PlaceOrder, order_id: int, label: str) -> WireOrder:
    return wire_order(state, record_of_command(command, order_id, label))
