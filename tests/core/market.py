"""A market in this process, driven command by command: small venues, short words, given marks."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

from exchange.core.commands import (
    CancelOrder,
    Command,
    Deposit,
    EditOrder,
    ExpiryMark,
    Genesis,
    OpenAccount,
    PlaceOrder,
    Revalue,
    Seal,
    Uncross,
    UnderlyingMark,
    Withdraw,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.events import Event, Filled, OrderAccepted, Posted, Printed, Rejected
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.orders import OPEN_LOTS
from exchange.core.stored.state import State
from exchange.core.venue import InstrumentSpec, UnderlyingSpec, Venue
from exchange.venues import load_venue
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
)

E8, E9 = 10**8, 10**9
SECOND = 10**9
HOUR = 3600 * SECOND
USDC = 0
BUY, SELL = 1, -1

Kind = TypeVar("Kind", bound=Event)


def underlying(name: str, index: int, collateral: bool = True) -> UnderlyingSpec:
    return UnderlyingSpec(
        name=name, risk_class=name, is_collateral=collateral, price_e8_max=1_000_000 * E8,
        opening_index_e8=index * E8, opening_volatility_e9=500_000_000,
    )  # fmt: skip


def contract(name: str, kind: int, tick_e8: int, lot_e8: int, unit: int = 0,
             expiry_ns: int = NEVER_NS, strike: int = 0) -> InstrumentSpec:  # fmt: skip
    return InstrumentSpec(
        name=name, kind=kind, underlying=unit, tick_e8=tick_e8, lot_e8=lot_e8,
        expiry_ns=expiry_ns, strike_e8=strike * E8,
    )  # fmt: skip


def tiny(**parts: Any) -> Venue:
    """The venue that ships as `tiny`, parts replaced: `tiny(collar={"extensions": 1})`."""
    return changed(load_venue("tiny"), **parts)


def changed(venue: Venue, **parts: Any) -> Venue:
    """A venue with other parts; a dictionary replaces fields inside a part."""
    for name, value in parts.items():
        if isinstance(value, dict):
            value = msgspec.structs.replace(getattr(venue, name), **value)
        venue = msgspec.structs.replace(venue, **{name: value})
    return venue


# Slots of `small`.
(
    LINEAR_BTC, INVERSE_BTC, LINEAR_ETH, FUTURE, CALL, PUT, INVERSE_FUTURE, COIN_CALL, COIN_PUT,
) = range(9)  # fmt: skip


def small(expiry_after_s: int = 3600, **parts: Any) -> Venue:
    """Two underlyings and every kind of contract, a tick and a lot in round figures.

    One lot: 0.001 BTC, 10 USD of BTC, 0.01 ETH, 0.001 BTC, 0.01 BTC of options, 10 USD, and again
    0.01 BTC of options, whose tick is 0.0001 BTC.
    """
    base = tiny(**parts)
    expiry = base.opening_time_ns + expiry_after_s * SECOND
    half, five = E8 // 2, 5 * E8
    instruments = (
        contract("BTC_USDC-PERPETUAL", LINEAR, half, E8 // 1000),
        contract("BTC-PERPETUAL", INVERSE, half, 10 * E8),
        contract("ETH_USDC-PERPETUAL", LINEAR, E8 // 20, E8 // 100, unit=1),
        contract("BTC_USDC-1JAN26", LINEAR, half, E8 // 1000, expiry_ns=expiry),
        contract("BTC_USDC-1JAN26-100000-C", LINEAR_CALL, five, E8 // 100, 0, expiry, 100_000),
        contract("BTC_USDC-1JAN26-100000-P", LINEAR_PUT, five, E8 // 100, 0, expiry, 100_000),
        contract("BTC-1JAN26", INVERSE, half, 10 * E8, expiry_ns=expiry),
        contract("BTC-1JAN26-100000-C", INVERSE_CALL, E8 // 10**4, E8 // 100, 0, expiry, 100_000),
        contract("BTC-1JAN26-100000-P", INVERSE_PUT, E8 // 10**4, E8 // 100, 0, expiry, 100_000),
    )
    units = (underlying("BTC", 100_000), underlying("ETH", 4_000))
    return changed(base, name="small", underlyings=units, instruments=instruments, listings=())


class Market:
    """An open venue: cycle 0 has run at the opening indices."""

    def __init__(self, venue: Venue | None = None, seed: int = 7, opened: bool = True) -> None:
        self.venue = venue or tiny()
        self.engine = Engine()
        self.now = self.venue.opening_time_ns
        self.index_e8 = [u.opening_index_e8 for u in self.venue.underlyings]
        self.basis_e8: dict[int, int] = {}
        self.age_ns = [0] * len(self.index_e8)
        self.log: list[Command] = []
        self.said = ""
        self.apply(Genesis(self.now, self.venue, seed, VERSION))
        if opened:
            self.cycle(after_ns=0)

    @property
    def state(self) -> State:
        return self.engine.state

    def apply(self, command: Command) -> list[Event]:
        self.log.append(command)
        return self.engine.apply(command)

    def do(self, kind: type[Any], *fields: Any, **named: Any) -> list[Event]:
        """Apply a command that may not be refused."""
        events = self.apply(kind(self.now, *fields, **named))
        refused = [event for event in events if isinstance(event, Rejected)]
        assert not refused, refused
        return events

    def refused(self, kind: type[Any], *fields: Any, **named: Any) -> RejectReason:
        """The reason for which a command is refused; it must change nothing. `said`: its text."""
        before = self.engine.state_hash()
        events = self.apply(kind(self.now, *fields, **named))
        assert len(events) == 1, events
        assert isinstance(events[0], Rejected), events
        assert self.engine.state_hash() == before, "a refused request changes nothing"
        self.said = events[0].text
        return events[0].reason

    def account(self, name: str, usdc: int = 1_000_000, **coins: int) -> int:
        """A new account with whole USDC, and minor units of coins by name."""
        self.do(OpenAccount, name)
        account = len(self.state.accounts.names) - 1
        if usdc:
            self.do(Deposit, account, USDC, usdc * 10**6)
        for coin, amount_minor in coins.items():
            self.do(Deposit, account, self.venue.currencies().index(coin), amount_minor)
        return account

    def pool(self, account: int) -> int:
        return self.state.accounts.pool_of[account]

    def place(self, account: int, side: int, lots: int, price: int = 0, slot: int = 0,
              **named: Any) -> int:  # fmt: skip
        """Enter an order at `price` ticks (0: market); its identifier."""
        events = self.do(PlaceOrder, account, slot, side, price, lots, **named)
        assert isinstance(events[0], OrderAccepted)
        return events[0].order_id

    def refused_order(self, account: int, side: int, lots: int, price: int = 0, slot: int = 0,
                      **named: Any) -> RejectReason:  # fmt: skip
        return self.refused(PlaceOrder, account, slot, side, price, lots, **named)

    def edit(self, account: int, order_id: int, price: int, lots: int) -> list[Event]:
        return self.do(EditOrder, account, order_id, price, lots)

    def cancel(self, account: int, order_id: int) -> list[Event]:
        return self.do(CancelOrder, account, order_id)

    def withdraw(self, account: int, usdc: int) -> list[Event]:
        return self.do(Withdraw, account, USDC, usdc * 10**6)

    def trade(self, buyer: int, seller: int, lots: int, price: int, slot: int = 0) -> list[Event]:
        """A trade between two accounts at a price, in a cycle of its own at unchanged marks."""
        self.place(buyer, BUY, lots, price, slot)
        self.place(seller, SELL, lots, price, slot)
        events = self.cycle()
        assert only(events, Filled).quantity_lots.tolist() == [lots, lots]
        return events

    def seal(self, after_ns: int | None = None) -> list[Event]:
        self.now += self.venue.interval_ns if after_ns is None else after_ns
        return self.do(Seal, self.state.batch)

    def uncross(self) -> list[Event]:
        return self.do(Uncross, self.state.batch)

    def marks(self, observations: list[tuple[tuple[int, int], ...]] | None = None) -> Revalue:
        """Futures at index plus basis, options at their volatility of before."""
        contracts, board = self.state.contracts, self.state.marks
        futures, expiries = [], {}
        for slot in contracts.listed():
            spec = contracts.specs[slot]
            if contracts.is_option_slot(slot):
                strikes = expiries.setdefault((spec.underlying, spec.expiry_ns), {})
                strikes[spec.strike_e8] = int(board.volatility_e9[slot])
            else:
                futures.append((slot, self.index_e8[spec.underlying] + self.basis_e8.get(slot, 0)))
        seen = observations or [((self.now, price),) for price in self.index_e8]
        return Revalue(
            self.now, self.state.batch,
            tuple(
                UnderlyingMark(price, age, E9, points if age == 0 else ())
                for price, age, points in zip(self.index_e8, self.age_ns, seen, strict=True)
            ),
            tuple(futures),
            tuple(
                ExpiryMark(unit, expiry, self.index_e8[unit], 0, tuple(sorted(strikes)),
                           tuple(strikes[k] for k in sorted(strikes)))
                for (unit, expiry), strikes in sorted(expiries.items())
            ),
            b"",
        )  # fmt: skip

    def revalue(self, *index: int) -> list[Event]:
        """Finish the cycle, at new index prices in dollars if given."""
        if index:
            self.index_e8[: len(index)] = [price * E8 for price in index]
        return self.apply(self.marks())

    def cycle(self, *index: int, after_ns: int | None = None) -> list[Event]:
        """Seal, uncross, revalue; everything that happened."""
        return self.seal(after_ns) + self.uncross() + self.revalue(*index)

    def cash(self, account: int, currency: int = USDC) -> int:
        return self.state.ledger.balance(self.pool(account), currency)

    def equity(self, account: int) -> int:
        return int(self.engine.risk.equity[self.pool(account)])

    def initial(self, account: int) -> int:
        return int(self.engine.risk.initial[self.pool(account)])

    def maintenance(self, account: int) -> int:
        return int(self.engine.risk.maintenance[self.pool(account)])

    def lots(self, account: int, slot: int = 0) -> int:
        return self.state.positions.lots_of(self.pool(account), slot)

    def open_lots(self, order_id: int) -> int:
        row = self.state.orders.find(order_id)
        return row[OPEN_LOTS] if row else 0


def every(events: list[Event], kind: type[Kind]) -> list[Kind]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def only(events: list[Event], kind: type[Kind]) -> Kind:
    """The one event of a kind."""
    found = every(events, kind)
    assert len(found) == 1, found or [type(event).__name__ for event in events]
    return found[0]


def fills(events: list[Event]) -> dict[int, int]:
    """Order identifier -> lots filled."""
    return {
        order: lots
        for filled in every(events, Filled)
        for order, lots in zip(filled.order_id.tolist(), filled.quantity_lots.tolist(), strict=True)
    }


def print_of(events: list[Event], slot: int = 0) -> tuple[int, int, int]:
    """State, price and volume of one contract's auction."""
    printed = only(events, Printed)
    at = printed.instruments.tolist().index(slot)
    return tuple(int(c[at]) for c in (printed.states, printed.price_ticks, printed.volume_lots))  # type: ignore[return-value]


def posted(events: list[Event], cause: PostingCause, pool: int) -> int:
    """What a pool got for a cause in these events, all currencies together."""
    total = 0
    for posting in every(events, Posted):
        if posting.cause == cause:
            total += int(posting.amount_minor[posting.pool == pool].sum())
            total -= int(posting.amount_minor[np.asarray(posting.counter) == pool].sum())
    return total
