"""A seeded stream of commands over the `small` venue: trading, money, halts, listings, crashes."""

from __future__ import annotations

import random

import msgspec
import numpy as np

from exchange.core.commands import (
    CancelAll,
    CancelOrder,
    ClosePool,
    Command,
    Deposit,
    EditOrder,
    Halt,
    ListInstruments,
    MoveMargin,
    OpenAccount,
    OpenPool,
    OrderColumns,
    PlaceOrder,
    SwitchMode,
    Withdraw,
)
from exchange.core.limits import ORDER_SEQUENCE_BITS
from exchange.core.stored.contracts import Life
from exchange.core.stored.layers import PoolKind
from exchange.core.stored.orders import ORDER_ID
from exchange.core.venue import Venue
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
)
from tests.core.market import E8, SECOND, Market, contract, small

ACCOUNTS_MAX = 40
FIRST_ACCOUNTS = 12
HALF_HOUR = 1800 * SECOND


def story_venue(**parts: object) -> Venue:
    """The `small` venue with a thin fund, so that every layer of the waterfall has work.

    Little ETH trades in a day, so that size costs margin in it, over all pools of an owner.
    """
    default = {"fund_minor": 3_000 * 10**6, "venue_capital_minor": 1_000 * 10**6,
               "public_cycles": 2}  # fmt: skip
    venue = small(HALF_HOUR // SECOND, **{"default": default, **parts})
    btc, eth = venue.underlyings
    eth = msgspec.structs.replace(eth, daily_volume_minor=200_000 * 10**6)
    return msgspec.structs.replace(venue, underlyings=(btc, eth))


class Story:
    """Draws one command after another from what a market looks like; moves its index and clock."""

    def __init__(self, market: Market, seed: int) -> None:
        self.market, self.chance = market, random.Random(seed)
        self.drift = [1.0] * len(market.index_e8)
        self.opening = list(market.index_e8)
        self.known: list[tuple[int, int]] = []  # (account, order id), whoever is still open
        self.listings = 0

    def pick(self) -> Command:
        """The next request; some of them are nonsense and must be refused."""
        accounts = len(self.market.state.accounts.names)
        roll = self.chance.random()
        if accounts < FIRST_ACCOUNTS or (roll < 0.003 and accounts < ACCOUNTS_MAX):
            return self._open(accounts)
        account = self.chance.randrange(accounts)
        if roll < 0.60:
            return self._place(account)
        if roll < 0.64:
            return self._layers(account)
        if roll < 0.90 and self.known:
            return self._change()
        if roll < 0.955:
            return self._money(account)
        if roll < 0.975:
            return self._columns()
        if roll < 0.977:
            slot = self.chance.randrange(len(self.market.state.contracts))
            return Halt(self.market.now, slot, self.chance.random() < 0.2)
        if roll < 0.982:
            return CancelAll(self.market.now, account, self.chance.choice([-1, 0, 1]))
        if roll < 0.983:
            return self.listing()
        return self._nonsense(account)

    def bell(self) -> float:
        """About a normal number, made without libm, so that every machine draws the same."""
        return 2 * (self.chance.random() + self.chance.random() + self.chance.random() - 1.5)

    def _live_slot(self) -> int:
        contracts = self.market.state.contracts
        live = [s for s, life in enumerate(contracts.life) if life == Life.LISTED]
        return self.chance.choice(live)

    def _price(self, slot: int, side: int) -> int:
        """Around the mark, more often than not a little short of crossing it."""
        state = self.market.state
        spec = state.contracts.specs[slot]
        mark = int(state.marks.mark_e8[slot])
        away = 0.01 * self.bell() if self.chance.random() < 0.97 else 0.2
        if state.contracts.is_option_slot(slot):
            mark = max(mark, 10 * spec.tick_e8)
        return max(1, int(mark * (1 - side * away)) // spec.tick_e8)

    def _leaning(self, account: int, slot: int) -> int:
        """Most accounts build up one side of a contract, so that a crash finds losers."""
        side = 1 if (account * 7 + slot * 3) % 5 < 2 else -1
        return side if self.chance.random() < 0.75 else -side

    def _lots(self, slot: int) -> int:
        most = 1500 if self.market.state.contracts.columns.kind[slot] in (LINEAR, INVERSE) else 150
        part = self.chance.random()
        return 1 + int(most * part * part * part)

    def _place(self, account: int, slot: int = -1, pool: int = -1) -> PlaceOrder:
        slot = self._live_slot() if slot < 0 else slot
        side = self._leaning(account, slot)
        price = 0 if self.chance.random() < 0.08 else self._price(slot, side)
        return PlaceOrder(
            self.market.now, account, slot, side, price, self._lots(slot),
            self.chance.random() < 0.1, self.chance.random() < 0.1,
            f"id {self.chance.randrange(40)}" if self.chance.random() < 0.05 else "", False, pool,
        )  # fmt: skip

    def _open(self, accounts: int) -> OpenAccount:
        """Every third account is a sub-account of an earlier one, if that may have any."""
        parent = self.chance.randrange(accounts) if accounts % 3 == 2 else -1
        return OpenAccount(self.market.now, f"account {accounts}", "", parent)

    def _layers(self, account: int) -> Command:
        """Pools open, fill up, take over positions, empty and close; some requests are refused."""
        now, accounts, roll = self.market.now, self.market.state.accounts, self.chance.random()
        slot, mine = self._live_slot(), accounts.pools_of(account)
        if len(mine) == 1 or roll < 0.1:
            kind = self.chance.choice([PoolKind.ISOLATED, PoolKind.GROUP, *PoolKind])
            name = self.chance.choice(["carry", "gamma"]) if kind == PoolKind.PORTFOLIO else ""
            return OpenPool(now, account, kind, slot if kind == PoolKind.ISOLATED else -1, name)
        if roll < 0.16:
            return ClosePool(now, account, self.chance.choice(mine))
        if roll < 0.55:
            return self._margin(account)
        filled = accounts.layers.modes.get((account, slot), mine[0])
        pool = self.chance.choice([pool for pool in mine if pool != filled] or mine)
        layer = accounts.layers.of_pool.get(pool)
        if layer is not None and layer.instrument >= 0 and self.chance.random() < 0.9:
            slot = layer.instrument
        if roll < 0.9:
            return SwitchMode(now, account, slot, pool)
        return self._place(account, slot, pool)

    def _margin(self, account: int) -> MoveMargin:
        state = self.market.state
        cross = state.accounts.pool_of[account]
        owned = state.accounts.family(cross)
        if self.chance.random() < 0.8:
            account = state.accounts.layers.owner(account)
        giver, taker = self.chance.choice([cross, *owned]), self.chance.choice(owned)
        if taker == giver:
            taker = owned[-1]
        currency = self.chance.randrange(state.ledger.currencies)
        amount = int(max(1, state.ledger.balance(giver, currency)) * self.chance.random() * 1.1)
        if self.chance.random() < 0.3:
            amount = max(1, state.ledger.balance(giver, currency))
        return MoveMargin(self.market.now, account, giver, taker, currency, amount)

    def _change(self) -> Command:
        at = self.chance.randrange(len(self.known))
        account, order_id = self.known[at]
        if self.chance.random() < 0.6:
            self.known[at] = self.known[-1]
            self.known.pop()
            return CancelOrder(self.market.now, account, order_id)
        slot = order_id >> ORDER_SEQUENCE_BITS
        price = self._price(slot, self.chance.choice([1, -1]))
        return EditOrder(self.market.now, account, order_id, price, self._lots(slot))

    def _money(self, account: int) -> Command:
        state = self.market.state
        currency = self.chance.randrange(state.ledger.currencies)
        pool = state.accounts.pool_of[account]
        if self.chance.random() < 0.6 and int(state.ledger.cash[pool].sum()) < 3 * 10**10:
            amount = int((15_000 * 10**6, 10**7, 10**8)[currency] * self.chance.random())
            return Deposit(self.market.now, account, currency, amount)
        amount = int(max(1, state.ledger.balance(pool, currency)) * self.chance.random() * 1.1)
        return Withdraw(self.market.now, account, currency, amount)

    def _columns(self) -> OrderColumns:
        rows = []
        accounts = len(self.market.state.accounts.names)
        for row in range(self.chance.randrange(1, 7)):
            account, target = self.chance.randrange(accounts), 0
            if row and self.chance.random() < 0.3:
                target = -self.chance.randrange(1, row + 1)
            elif self.known and self.chance.random() < 0.3:
                account, target = self.chance.choice(self.known)
            slot, side = self._live_slot(), self.chance.choice([1, -1])
            price = self._price(slot, side)
            rows.append((account, slot, side, price, self._lots(slot), 0, target))
        columns = np.array(rows, np.int64).T.copy()
        return OrderColumns(self.market.now, len(rows), columns.tobytes())

    def listing(self) -> ListInstruments:
        """New contracts of every dated kind, half an hour before they expire."""
        self.listings += 1
        now = self.market.now
        expiry = now + HALF_HOUR
        strike = round(self.market.index_e8[0] / E8, -3)
        tag = f"{self.listings}"
        return ListInstruments(now, (
            contract(f"BTC_USDC-{tag}", LINEAR, E8 // 2, E8 // 1000, 0, expiry),
            contract(f"BTC-{tag}", INVERSE, E8 // 2, 10 * E8, 0, expiry),
            contract(f"BTC_USDC-{tag}-C", LINEAR_CALL, 5 * E8, E8 // 100, 0, expiry, int(strike)),
            contract(f"BTC_USDC-{tag}-P", LINEAR_PUT, 5 * E8, E8 // 100, 0, expiry, int(strike)),
            contract(f"BTC-{tag}-C", INVERSE_CALL, 5000, E8 // 100, 0, expiry, int(strike)),
            contract(f"BTC-{tag}-P", INVERSE_PUT, 5000, E8 // 100, 0, expiry, int(strike)),
        ))  # fmt: skip

    def _nonsense(self, account: int) -> Command:
        now, specs = self.market.now, self.market.state.contracts.specs
        return self.chance.choice([
            PlaceOrder(now, 10**6, 0, 1, 100, 1),
            PlaceOrder(now, account, 999, 1, 100, 1),
            PlaceOrder(now, account, 0, 2, 100, 1),
            PlaceOrder(now, account, 0, 1, -5, 1),
            PlaceOrder(now, account, 0, 1, 2**40, 1),
            PlaceOrder(now, account, 0, 1, 100, 0),
            PlaceOrder(now, account, 0, -1, 100, 2**40),
            PlaceOrder(now, account, 0, 1, 200_000, 2_000_000),
            CancelOrder(now, account, 12345 << ORDER_SEQUENCE_BITS),
            CancelOrder(now, account, -1),
            EditOrder(now, account, 2**62, 1, 1),
            Deposit(now, account, 9, 5),
            Deposit(now, account, 0, -5),
            Withdraw(now, account, 0, 2**60),
            OpenAccount(now, "account 0"),
            OpenAccount(now, "nobody's", "", 10**6),
            OpenPool(now, account, 9),
            OpenPool(now, account, PoolKind.ISOLATED, 999),
            OpenPool(now, account, PoolKind.PORTFOLIO, -1, ""),
            ClosePool(now, account, 0),
            MoveMargin(now, account, 0, 1, 0, 5),
            MoveMargin(now, account, 10, 2**40, 0, 5),
            SwitchMode(now, account, 0, -1),
            SwitchMode(now, account, 0, 5),
            PlaceOrder(now, account, 0, 1, 100, 1, pool=5),
            ListInstruments(now, (specs[0],)),
            ListInstruments(now, (contract("bad", 9, 1, 1, expiry_ns=NEVER_NS),)),
            Halt(now, -1, True),
        ])  # fmt: skip

    def remember(self) -> None:
        """Learn which orders are open now, so that the next requests can name them."""
        orders, accounts = self.market.state.orders, self.market.state.accounts
        self.known = [
            (accounts.owner_of[row[1]], row[ORDER_ID])
            for row in orders.resting.T.tolist()
            if accounts.owner_of[row[1]] >= 0
        ]

    def needs_listing(self) -> bool:
        """Whether hardly a dated contract is left."""
        contracts = self.market.state.contracts
        return not any(
            contracts.life[s] == Life.LISTED
            and self.market.now + 60 * SECOND < contracts.specs[s].expiry_ns < NEVER_NS
            for s in range(len(contracts))
        )

    def move(self) -> int:
        """New indices, ages and basis; how long the next cycle waits."""
        market, chance = self.market, self.chance
        for unit, opening in enumerate(self.opening):
            step = 0.006 * self.bell()
            if chance.random() < 0.08:
                step += chance.choice([-1, 1]) * chance.uniform(0.04, 0.25)
            self.drift[unit] *= 1 + step - 0.03 * (self.drift[unit] - 1)
            self.drift[unit] = min(2.5, max(0.3, self.drift[unit]))
            market.index_e8[unit] = int(opening * self.drift[unit])
            roll = chance.random()
            market.age_ns[unit] = 0
            if roll < 0.03:
                market.age_ns[unit] = (30 if roll < 0.02 else 120) * SECOND
        for slot in market.state.contracts.listed():
            unit = market.state.contracts.specs[slot].underlying
            market.basis_e8[slot] = int(market.index_e8[unit] * 0.001 * self.bell())
        return chance.choice([1, 1, 1, 1, 5, 60, 600]) * SECOND
