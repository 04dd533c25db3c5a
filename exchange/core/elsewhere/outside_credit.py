"""What a pool's attestations count for at the last marks: credit, and outside positions in margin.

Derived from the state alone, and only for accounts that have attestations. They are read in four
ways (`Reading`): as they have aged, and in three ways that decide what may follow from it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exchange.core.limits import BALANCE_MINOR_MAX, CREDIT_MINOR_MAX
from exchange.core.outside_venue import OutsideVenue
from exchange.core.stored.attestations import Attestation, CreditStage
from exchange.core.stored.contracts import Life
from exchange.core.stored.state import State
from exchange.core.venue import USDC
from margin.attested import (
    capped,
    credit_minor,
    decay_ppb,
    delay_term_ppb,
    split_lots,
    value_minor,
)
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array
from margin.pools.requirement import OpenOrders
from margin.portfolio import Positions

if TYPE_CHECKING:
    from exchange.core.risk.model import RiskModel

COIN_DIVISOR = 10**10  # index x 10^-8 coin per 10^-6 USDC


class Reading(IntEnum):
    """How attestations are read; the first two words of `margin.attested.advance_backed_call`."""

    NOW = 0  # decayed by age; what costs counts whatever its age
    STANDING = 1  # as if fresh, and nothing of what is beyond its age limit
    LAST = 2  # the same, for one call's deadline longer
    BARE = 3  # what costs, and nothing that helps: for what leaves the venue


class Credit(NamedTuple):
    """Credit in minor USDC, debts in it; the coin in it by risk unit, and the coin owed (10^-8)."""

    total_minor: int
    coin_minor: dict[int, int]
    owed_minor: dict[int, int]


class Shift(NamedTuple):
    """By how much outside coin and positions change a requirement, initial and maintenance."""

    initial_minor: int
    maintenance_minor: int


NO_SHIFT = Shift(0, 0)


class OutsideCredit:
    """Reads attestations; holds nothing that the state does not imply."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.horizon_ns = state.venue.horizon_ns()
        self.grace_ns = state.venue.calls.deadline_cycles * state.venue.interval_ns
        underlyings = range(len(state.venue.underlyings))
        coins = [(state.venue.coin_of(unit), unit) for unit in underlyings]
        self.unit_of = {currency: unit for currency, unit in coins if currency > 0}
        self._volatility_e9: list[int] | None = None

    def marks_changed(self) -> None:
        """Read the marks anew."""
        self._volatility_e9 = None

    def _volatility_of(self, unit: int) -> int:
        if self._volatility_e9 is None:
            self._volatility_e9 = self.state.marks.unit_volatility_e9().tolist()
        return self._volatility_e9[unit]

    def age_ns(self, known: Attestation) -> int:
        """Age of an attestation at the last marks, at least 0."""
        return max(0, self.state.marks.time_ns - known.observed_ns)

    def stage(self, outside: OutsideVenue, known: Attestation) -> CreditStage:
        """How far an attestation has aged."""
        age = self.age_ns(known)
        if age >= outside.age_limit_ns:
            return CreditStage.EXPIRED
        return CreditStage.DECAYING if age > outside.fresh_ns else CreditStage.FRESH

    def gains_ppb(self, outside: OutsideVenue, known: Attestation, reading: Reading) -> int:
        """The part of what helps a pool that counts: decay, or all or nothing.

        Nothing counts that takes as long to arrive as closing the pool out takes.
        """
        if reading == Reading.BARE or outside.is_too_slow(self.horizon_ns):
            return 0
        if reading == Reading.NOW:
            return decay_ppb(self.age_ns(known), outside.fresh_ns, outside.age_limit_ns)
        return RATE_SCALE if self.costs_count(outside, known, reading) else 0

    def costs_count(self, outside: OutsideVenue, known: Attestation, reading: Reading) -> bool:
        """Whether debts, and positions that only cost, count."""
        if reading in (Reading.NOW, Reading.BARE):
            return True
        grace = self.grace_ns if reading == Reading.LAST else 0
        return self.age_ns(known) < outside.age_limit_ns + grace

    def credit(self, account: int, reading: Reading) -> Credit:
        """What an account's balances elsewhere count for, all outside venues together.

        Debts are bounded as balances here are: nobody owes more than 36 thousand million USDC.
        """
        coins: dict[int, int] = {}
        owed: dict[int, int] = {}
        debt, rows = 0, list[tuple[int, int]]()  # rows: currency, credit
        for outside, known in self.state.attestations.of(account):
            for currency, amount in self.of_balances(account, outside, known, reading):
                if amount > 0:
                    rows.append((currency, amount))
                else:
                    debt += amount
                    self._add_coin(owed, currency, -amount)
        kept = capped([amount for _, amount in rows], CREDIT_MINOR_MAX)
        for (currency, _), amount in zip(rows, kept, strict=True):
            self._add_coin(coins, currency, amount)
        return Credit(sum(kept) + max(debt, -BALANCE_MINOR_MAX), coins, owed)

    def _add_coin(self, coins: dict[int, int], currency: int, amount_minor: int) -> None:
        """Add an amount of USDC as coin of the currency's risk unit, rounded up.

        Bounded by what a scenario sum has room for.
        """
        if currency != USDC and amount_minor:
            unit = self.unit_of[currency]
            index_e8 = int(self.state.marks.index_e8[unit])
            coin = coins.get(unit, 0) + -(-amount_minor * COIN_DIVISOR // index_e8)
            coins[unit] = min(coin, CREDIT_MINOR_MAX * COIN_DIVISOR // index_e8)

    def of_balances(
        self, account: int, outside: OutsideVenue, known: Attestation, reading: Reading
    ) -> list[tuple[int, int]]:
        """(currency, credit in minor USDC) of each balance of one attestation, debts negative."""
        state = self.state
        gains = self.gains_ppb(outside, known, reading)
        costs = self.costs_count(outside, known, reading)
        preset = state.venue.presets()[state.accounts.model_of[state.accounts.pool_of[account]]]
        names = state.venue.currencies()
        found = []
        for currency, balance in known.balances:
            worth, volatility = balance, 0
            if currency != USDC:
                unit = self.unit_of[currency]
                worth = value_minor(balance, int(state.marks.index_e8[unit]), is_usdc=False)
                volatility = self._volatility_of(unit)
            if worth < 0:
                found.append((currency, worth if costs else 0))
                continue
            if not gains:
                found.append((currency, 0))
                continue
            term = delay_term_ppb(volatility, outside.transfer_delay_ns, outside.delay_quantile_e9)
            haircut = preset.haircut_ppb(names[currency])
            found.append((currency, credit_minor(worth, haircut, outside.haircut_ppb, gains, term)))
        credits = capped([amount for _, amount in found], outside.credit_cap_minor)
        return [(currency, amount) for (currency, _), amount in zip(found, credits, strict=True)]

    def lots(self, account: int, reading: Reading) -> tuple[dict[int, int], list[tuple[int, int]]]:
        """Outside positions in contracts not settled: lots that net, and those that only cost."""
        netted: dict[int, int] = {}
        rest: list[tuple[int, int]] = []
        for outside, known in self.state.attestations.of(account):
            if not outside.net_positions:
                continue
            gains = self.gains_ppb(outside, known, reading)
            costs = self.costs_count(outside, known, reading)
            for slot, lots in known.positions:
                if self.state.contracts.life[slot] == Life.SETTLED:
                    continue
                net, left = split_lots(lots, gains)
                if net:
                    netted[slot] = netted.get(slot, 0) + net
                if left and costs:
                    rest.append((slot, left))
        return netted, rest

    def shifts(self, account: int, credit: Credit) -> bool:
        """Whether anything elsewhere can change a requirement: coin, or positions that count."""
        return bool(credit.coin_minor or credit.owed_minor) or any(
            outside.net_positions and known.positions
            for outside, known in self.state.attestations.of(account)
        )

    def shift(
        self, account: int, reading: Reading, model: RiskModel, held: Positions, credit: Credit,
        orders: OpenOrders | None = None,
    ) -> Shift:  # fmt: skip
        """How outside coin and positions change what `held` (one pool) and its orders need.

        Positions that net are held; what is left of them enters like an order at the mark that may
        fill: its losses count in every scenario, its gains in none. Coin credited or owed, the one
        that costs more, adds what it loses in the worst scenario and never takes anything off:
        collateral elsewhere falls with the market, too.
        """
        netted, rest = self.lots(account, reading)
        if not (netted or rest or credit.coin_minor or credit.owed_minor):
            return NO_SHIFT

        def needs(
            instrument: Int64Array, lots: Int64Array, coins: Int64Array, orders: OpenOrders
        ) -> tuple[int, int]:
            start = np.array([0, len(lots)], np.int64)
            return model.with_orders(Positions(start, instrument, lots, coins[None, :]), orders)

        orders = no_orders() if orders is None else orders
        instrument, lots, coins = held.instrument, held.quantity_lots, held.coin_minor[0]
        before = needs(instrument, lots, coins, orders)
        if netted:
            instrument, lots = self._joined(instrument, lots, netted)
        both = _with_rest(orders, rest)
        base = needs(instrument, lots, coins, both)
        initial, maintenance = base[0] - before[0], base[1] - before[1]
        for unit in sorted({**credit.coin_minor, **credit.owed_minor}):
            more = [base]
            for coin in (credit.coin_minor.get(unit, 0), -credit.owed_minor.get(unit, 0)):
                if coin:
                    with_coin = coins.copy()
                    with_coin[unit] += coin
                    more.append(needs(instrument, lots, with_coin, both))
            initial += max(pair[0] for pair in more) - base[0]
            maintenance += max(pair[1] for pair in more) - base[1]
        return Shift(initial, maintenance)

    def _joined(
        self, instrument: Int64Array, lots: Int64Array, netted: dict[int, int]
    ) -> tuple[Int64Array, Int64Array]:
        """Own and outside lots in margin order, flat ones left out."""
        together = dict(zip(instrument.tolist(), lots.tolist(), strict=True))
        for slot, more in netted.items():
            together[slot] = together.get(slot, 0) + more
        rank = self.state.contracts.rank
        slots = sorted((s for s in together if together[s]), key=lambda slot: int(rank[slot]))
        return np.array(slots, np.int64), np.array([together[s] for s in slots], np.int64)


def no_orders() -> OpenOrders:
    """No open orders at all."""
    none = np.zeros(0, np.int64)
    return OpenOrders(none, none, none, none, none)


def _with_rest(orders: OpenOrders, rest: list[tuple[int, int]]) -> OpenOrders:
    """The orders, and outside lots that only cost as orders at the mark."""
    if not rest:
        return orders
    slots, lots = np.array(rest, np.int64).reshape(-1, 2).T
    at_mark = np.zeros(len(rest), np.int64)
    return OpenOrders(
        np.concatenate((orders.instrument, slots)),
        np.concatenate((orders.side, np.sign(lots))),
        np.concatenate((orders.lots, np.abs(lots))),
        np.concatenate((orders.loss_quanta_per_lot, at_mark)),
        np.concatenate((orders.loss_coin_minor_e6_per_lot, at_mark)),
    )
