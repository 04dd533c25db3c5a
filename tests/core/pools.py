"""Pools of an account, for tests: opened, funded, looked into."""

from __future__ import annotations

from exchange.core.commands import MoveMargin, OpenPool
from exchange.core.events import PoolOpened
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.positions import ENTRY_MINOR, LOTS, REALISED_MINOR, SETTLED_MINOR
from tests.core.market import LINEAR_BTC, USDC, Market, only, small

MINOR = 10**6
Both = tuple[Market, int, int]


def two() -> Both:
    """The `small` market with `ann` and `bob`."""
    market = Market(small())
    return market, market.account("ann"), market.account("bob")


def opened(market: Market, account: int, kind: PoolKind, instrument: int = -1,
           name: str = "", usdc: int = 0) -> int:  # fmt: skip
    """A new pool of an account, with USDC out of its cross pool."""
    event = only(market.do(OpenPool, account, kind, instrument, name), PoolOpened)
    if usdc:
        market.do(MoveMargin, account, market.pool(account), event.pool, USDC, usdc * MINOR)
    return event.pool


def isolated(market: Market, account: int, slot: int = LINEAR_BTC, usdc: int = 0) -> int:
    return opened(market, account, PoolKind.ISOLATED, slot, usdc=usdc)


def equity(market: Market, pool: int) -> int:
    return int(market.engine.risk.equity[pool])


def memo(market: Market, pool: int, slot: int) -> list[int]:
    """Lots, settled value, entry value and realised profit of a position."""
    positions = market.state.positions
    row = positions.row_of(pool, slot)
    fields = (LOTS, SETTLED_MINOR, ENTRY_MINOR, REALISED_MINOR)
    return [int(positions.table[field, row]) for field in fields]
