"""The ladder of section 'health' and the life of a call, read as rules."""

from __future__ import annotations

import pytest

from margin.default.margin_call import CallOutcome, Health, MarginCall, advance_call, health
from margin.invariant import InvariantBroken

USDC = 1_000_000


@pytest.mark.parametrize(
    ("equity", "expected"),
    [
        (150, Health.OK),
        (149, Health.RESTRICTED),
        (120, Health.RESTRICTED),
        (119, Health.CALL),
        (90, Health.CALL),
        (89, Health.LIQUIDATE),
        (60, Health.LIQUIDATE),
        (59, Health.BACKSTOP),
        (0, Health.BACKSTOP),
        (-1, Health.BANKRUPT),
    ],
)
def test_equity_that_equals_a_requirement_meets_it(equity: int, expected: Health) -> None:
    assert health(equity, 150, 120, 90) is expected


def test_two_thirds_of_maintenance_is_compared_without_rounding() -> None:
    # 2/3 of 100 is 66.67: 67 is above it, 66 below.
    assert health(67, 200, 150, 100) is Health.LIQUIDATE
    assert health(66, 200, 150, 100) is Health.BACKSTOP


def test_a_pool_that_needs_nothing_is_ok_or_bankrupt() -> None:
    assert health(0, 0, 0, 0) is Health.OK
    assert health(-1, 0, 0, 0) is Health.BANKRUPT


def test_health_worsens_as_equity_falls() -> None:
    ladder = [health(equity, 150, 120, 90) for equity in range(200, -50, -1)]
    assert ladder == sorted(ladder)


def test_a_negative_requirement_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        health(1, 0, 0, -1)
    with pytest.raises(InvariantBroken):
        advance_call(None, 1, -1, 0, cycle=1, deadline_cycles=1)


def test_a_call_asks_for_what_is_missing_to_initial_margin() -> None:
    call, outcome = advance_call(
        None, 100 * USDC, 130 * USDC, 90 * USDC, cycle=7, deadline_cycles=3
    )
    assert outcome is CallOutcome.ISSUED
    assert call == MarginCall(issued_cycle=7, deadline_cycle=10, amount_minor=30 * USDC)


def test_a_standing_call_follows_the_marks_and_keeps_its_deadline() -> None:
    call = MarginCall(7, 10, 30)
    call, outcome = advance_call(call, 95, 140, 90, cycle=9, deadline_cycles=3)
    assert outcome is CallOutcome.STANDING
    assert call == MarginCall(7, 10, 45)


def test_equity_back_at_initial_cures() -> None:
    assert advance_call(MarginCall(7, 10, 1), 130, 130, 90, 8, 3) == (None, CallOutcome.CURED)


def test_a_cure_in_the_deadline_cycle_is_in_time() -> None:
    assert advance_call(MarginCall(7, 10, 1), 130, 130, 90, 10, 3) == (None, CallOutcome.CURED)


def test_a_call_expires_in_its_deadline_cycle_and_not_before() -> None:
    call = MarginCall(7, 10, 1)
    assert advance_call(call, 129, 130, 90, 9, 3) == (call, CallOutcome.STANDING)
    assert advance_call(call, 129, 130, 90, 10, 3) == (None, CallOutcome.EXPIRED)


def test_a_breach_overrides_the_deadline_with_or_without_a_call() -> None:
    assert advance_call(MarginCall(7, 99, 1), 89, 130, 90, 8, 3) == (None, CallOutcome.BREACHED)
    assert advance_call(None, 89, 130, 90, 8, 3) == (None, CallOutcome.BREACHED)


def test_maintenance_decides_even_where_a_model_puts_initial_below_it() -> None:
    assert advance_call(None, 89, 80, 90, 8, 3) == (None, CallOutcome.BREACHED)


def test_a_healthy_pool_has_no_call() -> None:
    assert advance_call(None, 130, 130, 90, 8, 3) == (None, CallOutcome.NONE)


@pytest.mark.parametrize("equity", [-5, 0, 5])
def test_a_pool_that_needs_nothing_is_never_called(equity: int) -> None:
    call, outcome = advance_call(None, equity, 0, 0, 8, 3)
    assert call is None
    assert outcome is (CallOutcome.BREACHED if equity < 0 else CallOutcome.NONE)


def test_a_stale_index_issues_expires_and_breaches_nothing() -> None:
    call = MarginCall(7, 10, 1)
    assert advance_call(None, 100, 130, 90, 8, 3, frozen=True) == (None, CallOutcome.NONE)
    assert advance_call(None, 10, 130, 90, 8, 3, frozen=True) == (None, CallOutcome.NONE)
    assert advance_call(call, 100, 130, 90, 50, 3, frozen=True) == (call, CallOutcome.STANDING)
    assert advance_call(call, 10, 130, 90, 50, 3, frozen=True) == (call, CallOutcome.STANDING)


def test_a_deposit_cures_even_while_the_index_is_stale() -> None:
    call = MarginCall(7, 10, 1)
    assert advance_call(call, 130, 130, 90, 8, 3, frozen=True) == (None, CallOutcome.CURED)


def test_an_overdue_call_expires_when_marks_are_fresh_again() -> None:
    assert advance_call(MarginCall(7, 10, 1), 100, 130, 90, 12, 3) == (None, CallOutcome.EXPIRED)


def test_a_deadline_is_at_least_one_cycle() -> None:
    with pytest.raises(InvariantBroken):
        advance_call(None, 100, 130, 90, 8, 0)
