"""Margin pools by name, as people read them."""

from __future__ import annotations

from exchange.core.stored.accounts import NO_OWNER
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.ledger import House
from exchange.core.stored.state import State


def pool_name(state: State, pool: int) -> str:
    """The account behind a pool, and which of its pools, or the house's own name of it."""
    owner = state.accounts.owner_of[pool]
    if owner == NO_OWNER:
        return House(pool).name.lower()
    layer = state.accounts.layers.of_pool.get(pool)
    if layer is None:
        return state.accounts.names[owner]
    what = layer.name if layer.instrument < 0 else state.contracts.specs[layer.instrument].name
    kind = PoolKind(layer.kind).name.lower()
    return (
        f"{state.accounts.names[owner]} ({kind} {what})"
        if what
        else (f"{state.accounts.names[owner]} ({kind})")
    )
