"""Attested collateral: what it counts for, against slow fractions, and the laws of its decay."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from margin.attested import (
    Standing,
    advance_backed_call,
    capped,
    credit_minor,
    decay_ppb,
    delay_term_ppb,
    lacking_minor,
    split_lots,
    value_minor,
)
from margin.default.margin_call import CallOutcome, MarginCall, advance_call
from margin.invariant import InvariantBroken
from tests.reference import reference_attested as slow

PPB = 10**9
SECOND = 10**9
DAY_NS = 86_400 * SECOND
BTC, VENUE = 5 * 10**7, 10**8  # haircuts
FRESH, LIMIT = 60 * SECOND, 600 * SECOND


@pytest.mark.parametrize("seed", range(5))
def test_credit_is_the_formula_rounded_against_the_account(seed: int) -> None:
    chance = Random(seed)
    for _ in range(500):
        worth = chance.randrange(1, 2 ** chance.randrange(1, 60))
        haircuts = chance.randrange(PPB + 1), chance.randrange(PPB + 1)
        fresh = chance.randrange(DAY_NS)
        limit = fresh + chance.randrange(1, DAY_NS)
        age = chance.choice([fresh, limit, chance.randrange(2 * DAY_NS)])
        terms = chance.randrange(5 * PPB), chance.randrange(DAY_NS), chance.randrange(5 * PPB)
        delay = delay_term_ppb(*terms)
        assert delay == slow.delay_term_ppb(*terms)
        exact_decay, decay = slow.decay(age, fresh, limit), decay_ppb(age, fresh, limit)
        assert 0 <= exact_decay * PPB - decay < 1
        exact = slow.credit(worth, *haircuts, exact_decay, delay)
        found = credit_minor(worth, *haircuts, decay, delay)
        assert 0 <= found <= exact
        assert exact - found < 2 + worth // PPB + 1, "two roundings, and that of the decay"


def test_what_is_older_than_its_limit_is_worth_nothing() -> None:
    assert decay_ppb(LIMIT, FRESH, LIMIT) == 0
    assert decay_ppb(LIMIT + 1, FRESH, LIMIT) == 0
    assert decay_ppb(100 * DAY_NS, FRESH, LIMIT) == 0
    assert credit_minor(10**15, 0, 0, 0, 0) == 0


def test_decay_never_rises_with_age_and_is_whole_while_fresh() -> None:
    ages = range(-SECOND, LIMIT + 2 * SECOND, 7_777_777_777)
    decays = [decay_ppb(age, FRESH, LIMIT) for age in ages]
    assert all(a >= b for a, b in pairwise(decays))
    assert decay_ppb(0, FRESH, LIMIT) == decay_ppb(FRESH, FRESH, LIMIT) == PPB
    assert decay_ppb((FRESH + LIMIT) // 2, FRESH, LIMIT) == PPB // 2
    with pytest.raises(InvariantBroken):
        decay_ppb(0, LIMIT, LIMIT)


@pytest.mark.parametrize("worse", range(4))
def test_more_of_any_deduction_never_counts_for_more(worse: int) -> None:
    steps = range(0, PPB + 1, PPB // 20)
    terms = [0, 0, PPB, 0]
    seen = []
    for step in steps:
        terms[worse] = PPB - step if worse == 2 else step
        seen.append(credit_minor(123_456_789_012, *terms))
    assert all(a >= b for a, b in pairwise(seen))
    assert seen[0] == 123_456_789_012
    assert seen[-1] == 0


def test_a_debt_counts_in_full_whatever_haircut_age_or_delay() -> None:
    assert credit_minor(-7, BTC, VENUE, 0, PPB) == -7
    assert value_minor(-1, 100_000 * 10**8, is_usdc=False) == -1_000
    assert value_minor(-1, 150, is_usdc=False) == -1, "rounded up in size"
    assert capped([10, -7, 30], 8) == [2, -7, 6]


def test_the_cap_bounds_what_helps_and_shares_it() -> None:
    assert capped([10, 30], 40) == [10, 30]
    assert capped([10, 30], 39) == [9, 29]
    assert capped([10, 30], 0) == [0, 0]
    assert sum(capped([10**15, 3, 10**14 + 1], 10**12)) <= 10**12


def test_positions_net_by_their_decay_and_the_rest_only_costs() -> None:
    assert split_lots(1000, PPB) == (1000, 0)
    assert split_lots(-1000, PPB // 2) == (-500, -500)
    assert split_lots(-3, PPB // 2) == (-1, -2), "rounded towards zero"
    assert split_lots(5, 0) == (0, 5)


NONE = Standing(0, 100, 60)


@pytest.mark.parametrize("equity", [0, 59, 60, 99, 100])
@pytest.mark.parametrize("cycle", [5, 6, 7])
@pytest.mark.parametrize("call", [None, MarginCall(3, 6, 9)])
@pytest.mark.parametrize("frozen", [False, True])
def test_without_credit_a_call_advances_as_any_other(
    equity: int, cycle: int, call: MarginCall | None, frozen: bool
) -> None:
    backed = advance_backed_call(call, equity, NONE, NONE, NONE, cycle, 3, frozen=frozen)
    assert backed == advance_call(call, equity, 100, 60, cycle, 3, frozen=frozen)


def advanced(
    call: MarginCall | None, equity: int, now: int, standing: int, last: int, cycle: int = 9
) -> CallOutcome:
    """The outcome with credit under each reading, where 100 is needed, and 60 to be let live."""
    readings = (Standing(credit, 100, 60) for credit in (now, standing, last))
    return advance_backed_call(call, equity, *readings, cycle, 3)[1]


def test_a_call_goes_out_as_soon_as_decayed_credit_no_longer_covers() -> None:
    assert advanced(None, 40, 60, 80, 80) == CallOutcome.NONE
    assert advanced(None, 40, 59, 80, 80) == CallOutcome.ISSUED


def test_a_call_that_only_age_explains_stands_past_its_deadline() -> None:
    late = MarginCall(3, 6, 1)
    assert advanced(late, 40, 10, 60, 60) == CallOutcome.STANDING
    assert advanced(late, 40, 60, 60, 60) == CallOutcome.CURED, "the feed's return"
    assert advanced(late, 40, 10, 59, 59) == CallOutcome.EXPIRED, "not explained by age alone"
    assert advanced(late, 40, 0, 0, 60) == CallOutcome.EXPIRED, "past its limit"


def test_past_the_limit_a_call_keeps_its_deadline() -> None:
    assert advanced(MarginCall(8, 11, 1), 40, 0, 0, 60) == CallOutcome.STANDING
    assert advanced(None, 40, 0, 0, 60) == CallOutcome.ISSUED
    assert advanced(MarginCall(8, 11, 1), 40, 0, 0, 0) == CallOutcome.BREACHED


def test_what_no_reading_covers_is_breached_at_once() -> None:
    assert advanced(None, 40, 10, 19, 19) == CallOutcome.BREACHED


def test_a_debt_beyond_its_limit_breaches_nobody() -> None:
    assert advanced(None, 60, -30, 0, -30) == CallOutcome.ISSUED
    assert advanced(None, 60, -30, -30, -30) == CallOutcome.BREACHED, "a debt within it does"


def test_credit_pays_no_debt() -> None:
    now = Standing(500, 100, 60)
    assert lacking_minor(-5, now) == 5
    assert lacking_minor(0, now) <= 0
    assert advanced(None, -5, 500, 500, 500) == CallOutcome.ISSUED
    assert advanced(MarginCall(3, 6, 5), -5, 500, 500, 500) == CallOutcome.EXPIRED


def test_while_an_index_is_stale_a_call_can_only_be_cured() -> None:
    call = MarginCall(3, 6, 1)
    bad, good = Standing(0, 100, 60), Standing(100, 100, 60)
    frozen = advance_backed_call(call, 0, bad, bad, bad, 9, 3, frozen=True)
    assert frozen == (call, CallOutcome.STANDING)
    cured = advance_backed_call(call, 0, good, good, good, 9, 3, frozen=True)
    assert cured == (None, CallOutcome.CURED)
