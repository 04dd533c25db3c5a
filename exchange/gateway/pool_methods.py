"""Requests about margin pools: open, close, move collateral, switch a contract's margin mode."""

from __future__ import annotations

from exchange.core.commands import ClosePool, MoveMargin, OpenPool, SwitchMode
from exchange.core.events import ModeSwitched, PoolOpened
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway.account_view import currency_of
from exchange.gateway.errors import refused
from exchange.gateway.instrument_view import slot_of
from exchange.gateway.pool_view import describe_pool, margin_mode, pool_figures
from exchange.gateway.queries import account_of
from exchange.gateway.session import Session
from exchange.gateway.submission import Action, granted
from exchange.gateway.units import amount_number, minor_of, money
from exchange.sequencer import Sequencer


class PoolMethods:
    """What an account's owner does with its pools."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def actions(self) -> dict[str, Action]:
        """Method name -> what carries it out."""
        return {
            "private/open_margin_pool": self._open,
            "private/close_margin_pool": self._close,
            "private/move_margin": self._move,
            "private/switch_margin_mode": self._switch,
        }

    def _described(self, pool: int) -> dict[str, object]:
        return describe_pool(self.state, pool, pool_figures(self.sequencer.engine, pool))

    async def _open(self, session: Session, params: p.OpenPoolParameters) -> dict[str, object]:
        named = params.instrument_name
        slot = -1 if named is None else slot_of(self.state, named)
        kind = PoolKind[params.kind.upper()]
        if kind == PoolKind.ISOLATED and named is None:
            reason = RejectReason.INSTRUMENT_UNKNOWN
            raise refused(reason, "an isolated pool needs an instrument_name", "instrument_name")
        event, *_ = await granted(
            self.sequencer, OpenPool, account_of(session), kind, slot, params.name
        )
        assert isinstance(event, PoolOpened)
        return self._described(event.pool)

    async def _close(self, session: Session, params: p.OfPool) -> str:
        await granted(self.sequencer, ClosePool, account_of(session), params.pool_id)
        return "ok"

    async def _move(self, session: Session, params: p.MoveMarginParameters) -> dict[str, object]:
        state = self.state
        currency = currency_of(state, params.currency)
        amount = minor_of(currency, params.amount)
        pools = params.from_pool_id, params.to_pool_id
        await granted(self.sequencer, MoveMargin, account_of(session), *pools, currency, amount)
        return {
            "currency": state.venue.currencies()[currency],
            "amount": money(currency, amount),
            "pools": [self._described(pool) for pool in pools],
        }

    async def _switch(self, session: Session, params: p.SwitchParameters) -> dict[str, object]:
        state = self.state
        slot = slot_of(state, params.instrument_name)
        event, *_ = await granted(
            self.sequencer, SwitchMode, account_of(session), slot, params.pool_id
        )
        assert isinstance(event, ModeSwitched)
        spec = state.contracts.specs[slot]
        return {
            "instrument_name": spec.name,
            "margin_mode": margin_mode(state, event.to_pool),
            "size": amount_number(spec, event.quantity_lots),
            "orders": event.orders,
            "pools": [self._described(pool) for pool in (event.from_pool, event.to_pool)],
        }
