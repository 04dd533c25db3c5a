"""Double entry: what one pool gets another pays, in the same currency."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.core.limits import BALANCE_MINOR_MAX
from exchange.core.reject_reason import PostingCause
from exchange.core.stored.ledger import HOUSE_POOLS, House, Ledger
from margin.invariant import InvariantBroken


def books() -> Ledger:
    ledger = Ledger(2)
    ledger.add_pools(2)
    return ledger


def test_a_transfer_moves_one_amount_and_the_sum_stays_zero() -> None:
    ledger = books()
    ledger.transfer(PostingCause.DEPOSIT, House.EXTERNAL, HOUSE_POOLS, 1, 500)
    assert ledger.balance(HOUSE_POOLS, 1) == 500
    assert ledger.balance(House.EXTERNAL, 1) == -500
    assert ledger.balance(HOUSE_POOLS, 0) == 0
    assert ledger.trial_balance() == [0, 0]


def test_a_posting_says_cycle_cause_pools_currency_and_instrument() -> None:
    ledger = books()
    ledger.cycle = 7
    posted = ledger.transfer(PostingCause.FEE, HOUSE_POOLS, House.FEES, 0, 9, instrument=3)
    assert (posted.cycle, posted.cause) == (7, PostingCause.FEE)
    columns = (posted.pool, posted.counter, posted.currency, posted.instrument, posted.amount_minor)
    assert [column.tolist() for column in columns] == [[House.FEES], [HOUSE_POOLS], [0], [3], [9]]


def test_rows_of_a_posting_may_name_the_same_pool_twice_and_carry_either_sign() -> None:
    ledger = books()
    pool = np.array([10, 10, 11], np.int64)
    counter = np.full(3, int(House.CLEARING), np.int64)
    currency, instrument = np.zeros(3, np.int64), np.zeros(3, np.int64)
    amount = np.array([5, -2, 4], np.int64)
    ledger.post(PostingCause.PREMIUM, pool, counter, currency, instrument, amount)
    assert [ledger.balance(p, 0) for p in (10, 11, House.CLEARING)] == [3, 4, -7]


def test_a_transfer_beyond_the_bound_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="bounded"):
        books().transfer(PostingCause.DEPOSIT, House.EXTERNAL, 10, 0, BALANCE_MINOR_MAX + 1)


def test_books_that_do_not_balance_stop_the_engine() -> None:
    ledger = books()
    ledger.cash[10, 0] += 1
    assert ledger.trial_balance() == [1, 0]
    with pytest.raises(InvariantBroken, match="trial balance"):
        ledger.validate()


def test_a_balance_out_of_bounds_stops_the_engine() -> None:
    ledger = books()
    ledger.cash[10, 0], ledger.cash[11, 0] = BALANCE_MINOR_MAX + 1, -BALANCE_MINOR_MAX - 1
    with pytest.raises(InvariantBroken, match="within bounds"):
        ledger.validate()


def test_balances_survive_their_canonical_bytes() -> None:
    ledger, copy = books(), Ledger(2)
    ledger.cycle = 3
    ledger.transfer(PostingCause.DEPOSIT, House.EXTERNAL, 10, 1, 500)
    copy.load(dict(ledger.parts()))
    assert dict(copy.parts()) == dict(ledger.parts())
    assert copy.balance(10, 1) == 500


def test_the_house_s_pools_come_first_and_never_change_their_number() -> None:
    assert [house.name for house in House] == [
        "CLEARING", "VM_PENDING", "FEES", "ROUNDING", "FX", "INSURANCE", "VENUE_CAPITAL",
        "DEFAULT_FUND", "BONDS", "EXTERNAL",
    ]  # fmt: skip
    assert [int(house) for house in House] == list(range(10))
