"""Where a pool stands against its requirements, and the life of a margin call.

The ladder is OK, restricted, call, liquidate, backstop, bankrupt: each step is one comparison of
the pool's equity with one of its requirements, so a pool is on exactly one step. All amounts are
minor units of USDC; every function is pure and exact.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from margin.invariant import check


class Health(IntEnum):
    """The step a pool is on; a greater number is worse."""

    OK = 0
    RESTRICTED = 1
    CALL = 2
    LIQUIDATE = 3
    BACKSTOP = 4
    BANKRUPT = 5


class CallOutcome(IntEnum):
    """What happened to a pool's margin call in one cycle."""

    NONE = 0
    ISSUED = 1
    STANDING = 2
    CURED = 3
    EXPIRED = 4
    BREACHED = 5


class MarginCall(msgspec.Struct, frozen=True):
    """A demand for `amount_minor` more equity.

    The amount is what would cure the pool at the latest marks. It follows the marks from cycle to
    cycle; the deadline never moves.
    """

    issued_cycle: int
    deadline_cycle: int
    amount_minor: int


def health(
    equity_minor: int,
    initial_with_orders_minor: int,
    initial_minor: int,
    maintenance_minor: int,
) -> Health:
    """The step of the ladder that a pool is on.

    `initial_with_orders_minor` is the requirement of positions and open orders together,
    `initial_minor` that of the positions alone. Each comparison is strict: equity that equals a
    requirement meets it. The backstop line is two thirds of maintenance (Hyperliquid's), compared
    as 3 x equity < 2 x maintenance. Raises `InvariantBroken` on a negative requirement.
    """
    check(
        initial_with_orders_minor >= 0 and initial_minor >= 0 and maintenance_minor >= 0,
        "a margin requirement is negative",
    )
    if equity_minor < 0:
        return Health.BANKRUPT
    if 3 * equity_minor < 2 * maintenance_minor:
        return Health.BACKSTOP
    if equity_minor < maintenance_minor:
        return Health.LIQUIDATE
    if equity_minor < initial_minor:
        return Health.CALL
    if equity_minor < initial_with_orders_minor:
        return Health.RESTRICTED
    return Health.OK


def advance_call(
    call: MarginCall | None,
    equity_minor: int,
    initial_minor: int,
    maintenance_minor: int,
    cycle: int,
    deadline_cycles: int,
    *,
    frozen: bool = False,
) -> tuple[MarginCall | None, CallOutcome]:
    """Advance a pool's margin call by one cycle; returns the call that stands now and the outcome.

    - equity < maintenance: BREACHED, whatever the deadline and with or without a call.
    - equity >= initial: CURED if a call stood, else NONE. A pool that needs nothing is here or
      above, so it never gets a call.
    - between the two: ISSUED with a deadline `deadline_cycles` after `cycle`, then STANDING with
      its amount refreshed, then EXPIRED in the deadline cycle itself.

    BREACHED and EXPIRED hand the pool to liquidation and end the call. `frozen` says that an index
    the pool depends on is stale: a call can be cured, but none is issued, refreshed, breached or
    expired. The deadline is not moved by it: a call whose deadline passed meanwhile expires in the
    first cycle with fresh marks that still leaves it short. `initial_minor` is that of the
    positions alone. Raises `InvariantBroken` on a negative requirement or a deadline of less
    than a cycle.
    """
    check(initial_minor >= 0 and maintenance_minor >= 0, "a margin requirement is negative")
    check(deadline_cycles >= 1, "a margin call needs at least one cycle to be met")
    breached = equity_minor < maintenance_minor
    if not breached and equity_minor >= initial_minor:
        return None, CallOutcome.NONE if call is None else CallOutcome.CURED
    if frozen:
        return call, CallOutcome.NONE if call is None else CallOutcome.STANDING
    if breached:
        return None, CallOutcome.BREACHED
    amount_minor = initial_minor - equity_minor
    if call is None:
        return MarginCall(cycle, cycle + deadline_cycles, amount_minor), CallOutcome.ISSUED
    if cycle >= call.deadline_cycle:
        return None, CallOutcome.EXPIRED
    return MarginCall(call.issued_cycle, call.deadline_cycle, amount_minor), CallOutcome.STANDING
