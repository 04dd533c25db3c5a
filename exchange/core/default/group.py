"""Group collateral: what an owner keeps behind the cross pools of its accounts.

A group pool holds money and no positions. When a revaluation leaves a cross pool of its owner's
accounts short of initial margin, which is when a margin call would be issued, the group pays USDC
towards the shortfall: never more than it has, never so much that its own coins lose their cover.
What it cannot pay is called from the account. The accounts' pools stay strangers to each other.
"""

from __future__ import annotations

from exchange.core.events import Event, GuaranteePaid
from exchange.core.reject_reason import PostingCause
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.state import State
from exchange.core.venue import USDC


def pay_guarantees(state: State, risk: Risk) -> list[Event]:
    """Before margin calls: each group covers its owner's cross pools, by number of account.

    A pool in liquidation and one whose marks are stale are left alone, as by margin calls.
    """
    accounts, events = state.accounts, list[Event]()
    for owner, group in sorted(accounts.layers.group_of.items()):
        for account in accounts.layers.accounts_of(owner):
            pool = accounts.pool_of[account]
            if risk.is_bound(pool):  # which its equity covers
                continue
            short = risk.backing.lacking(pool)
            if short <= 0 or pool in accounts.cases or risk.holdings.touches_stale(pool):
                continue
            free = int(risk.equity[group]) - risk.need(group).initial_minor
            amount = min(short, free, state.ledger.balance(group, USDC))
            if amount <= 0:
                continue
            cause = PostingCause.GUARANTEE
            events.append(state.ledger.transfer(cause, group, pool, USDC, amount))
            risk.revalue_pool(group)
            risk.revalue_pool(pool)
            events.append(GuaranteePaid(pool, group, amount))
    return events
