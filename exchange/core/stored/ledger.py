"""Double entry: every posting credits one pool and debits another, in one currency, for a cause.

Rows are margin pools. The first ones belong to the house; their sum with all others is zero per
currency, because money enters only against `external`. Balances are minor units (10^-6 USDC,
10^-8 of a coin).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
from numba import njit

from exchange.core import limits
from exchange.core.events import Posted
from exchange.core.reject_reason import PostingCause
from margin.invariant import Int64Array, check


class House(IntEnum):
    """The house's own pools, and what each is for."""

    CLEARING = 0  # the other side of every fill
    VM_PENDING = 1  # losses collected, gains not yet released
    FEES = 2
    ROUNDING = 3  # residues of rounding, of either sign
    FX = 4  # the other side of conversions in default
    INSURANCE = 5  # the insurance fund: margined, revalued, never called
    VENUE_CAPITAL = 6
    DEFAULT_FUND = 7
    BONDS = 8
    EXTERNAL = 9  # the world outside, mirror of all deposits


HOUSE_POOLS = len(House)


@njit(cache=True)
def _post(
    cash: Int64Array,
    pool: Int64Array,
    counter: Int64Array,
    currency: Int64Array,
    amount: Int64Array,
) -> None:
    for row in range(len(pool)):
        cash[pool[row], currency[row]] += amount[row]
        cash[counter[row], currency[row]] -= amount[row]


class Ledger:
    """Cash per (pool, currency), and the postings of the cycle."""

    def __init__(self, currencies: int) -> None:
        self.currencies = currencies
        self.cash: Int64Array = np.zeros((HOUSE_POOLS, currencies), np.int64)
        self.cycle = 0

    def add_pools(self, count: int) -> None:
        """Make room for `count` more pools with empty balances."""
        room = np.zeros((count, self.currencies), np.int64)
        self.cash = np.concatenate((self.cash, room))

    def post(
        self,
        cause: PostingCause,
        pool: Int64Array,
        counter: Int64Array,
        currency: Int64Array,
        instrument: Int64Array,
        amount_minor: Int64Array,
    ) -> Posted:
        """Credit each `pool` and debit its `counter` by `amount_minor` (of either sign)."""
        _post(self.cash, pool, counter, currency, amount_minor)
        return Posted(self.cycle, cause, pool, counter, currency, instrument, amount_minor)

    def transfer(
        self,
        cause: PostingCause,
        debit: int,
        credit: int,
        currency: int,
        amount_minor: int,
        instrument: int = -1,
    ) -> Posted:
        """Move one amount from the `debit` pool to the `credit` pool."""
        check(abs(amount_minor) <= limits.BALANCE_MINOR_MAX, "a transfer is bounded")
        row = [np.array([x], np.int64) for x in (credit, debit, currency, instrument, amount_minor)]
        return self.post(cause, *row)

    def balance(self, pool: int, currency: int) -> int:
        """Cash of a pool in a currency, in minor units."""
        return int(self.cash[pool, currency])

    def trial_balance(self) -> list[int]:
        """The sum over all pools per currency: all zeros, or money was made or lost."""
        return [int(x) for x in self.cash.sum(axis=0)]

    def validate(self) -> None:
        """Raise unless the books balance and every balance is within bounds."""
        check(not any(self.trial_balance()), "trial balance is zero in every currency")
        users = self.cash[HOUSE_POOLS:]
        if users.size:
            bound = limits.BALANCE_MINOR_MAX
            check(bool((np.abs(users) <= bound).all()), "every balance is within bounds")

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes of the balances."""
        yield "ledger", self.cycle.to_bytes(8) + self.cash.tobytes()

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        self.cycle = int.from_bytes(parts["ledger"][:8])
        flat = np.frombuffer(parts["ledger"][8:], np.int64)
        self.cash = flat.reshape(-1, self.currencies).copy()


def warm_up() -> None:
    """Compile the kernels of this module."""
    none = np.empty(0, np.int64)
    _post(np.zeros((1, 1), np.int64), none, none, none, none)
