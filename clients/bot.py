"""What all sample bots share: a session, a seed, a universe of contracts, one turn a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable
from decimal import Decimal
from random import Random
from typing import ClassVar, TypeVar

from clients.errors import ConnectionLost, OutcomeUnknown, VenueRefused
from clients.records import ZERO, BatchNotice, Instrument, Order, Ticker
from clients.transport import Transport
from clients.venue import IMMEDIATE_OR_CANCEL, Venue

Answer = TypeVar("Answer")
FATAL_CODES = frozenset({10000, 13004, 13007, 13009})  # not logged in: no order will ever pass
RESYNC_BATCHES = 20
BASIS_POINT = Decimal("0.0001")
RUIN = Decimal("0.01")  # share of the starting money below which a bot gives up
INDEX_DRIFT = Decimal("0.05")  # the index moved so far that other strikes are near


def chances(seed: int, name: str) -> Random:
    """A bot's own source of chance: the same for the same seed and name, on any machine."""
    return Random(f"{seed}/{name}")  # noqa: S311 - play, not secrets


def between(random: Random, low: str, high: str) -> Decimal:
    """A number drawn from a range, in thousandths of it."""
    start, width = Decimal(low), Decimal(high) - Decimal(low)
    return start + width * random.randint(0, 1000) / 1000


class Bot(ABC):
    """A trader that acts once a batch and then says that it is ready.

    It knows no time but the batch's. A refused order is counted by code in `refusals`; any other
    error ends the bot.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, seed: int, money: Decimal, *, session: str = "") -> None:
        """`money`: USDC paid in if the account is empty. `session`: new for each restart."""
        self.name, self.money = name, money
        self.session = f"{name}.{session}" if session else name
        self.random = chances(seed, name)
        self.refusals: Counter[int] = Counter()
        self.unanswered = 0
        self.turns = 0
        self.interrupted = False
        self.universe: dict[str, Instrument] = {}
        self.deposited = ZERO
        self._expires_ms: int | None = None
        self._chosen_at: dict[str, Decimal] = {}
        self._news_seen = 0
        self.venue: Venue

    # Life

    async def start(self, transport: Transport) -> None:
        """Open the session, pay in, choose contracts, take part in the batches.

        Orders that an earlier session left behind are withdrawn.
        """
        self.venue = Venue(transport, self.session)
        await self.venue.open()
        if self.venue.state.open_orders:
            await self.venue.cancel_all()
        while not self.venue.state.equity:
            try:
                self.deposited += await self.venue.deposit("USDC", self.money)
            except OutcomeUnknown:  # the summary tells
                self.unanswered += 1
            await self.venue.get_account_summaries()
        await self.choose()
        await self.venue.register()

    async def trade(self, last_batch: int | None = None) -> None:
        """Act in each batch until the connection ends, or `last_batch` has been played.

        A market that closes in the middle of a turn leaves `interrupted` set; that is no error.
        """
        try:
            async for notice in self.venue.batches():
                if last_batch is not None and notice.batch > last_batch:
                    return
                self.interrupted = True
                await self.turn(notice)
                self.interrupted = False
                await self.venue.ready(notice.batch)
        except ConnectionLost:
            pass
        finally:
            await self.venue.close()

    async def turn(self, notice: BatchNotice) -> None:
        """One batch: keep the books right, then act."""
        self.turns += 1
        await self._keep_up(notice)
        equity = self.venue.state.equity
        if equity is not None and equity < self.money * RUIN and not self.venue.state.positions:
            return
        await self.act(notice)

    @abstractmethod
    async def act(self, notice: BatchNotice) -> None:
        """Send what this batch needs."""

    # Contracts

    @abstractmethod
    def wanted(self) -> list[Instrument]:
        """The contracts to watch, out of `venue.instruments`."""

    async def choose(self) -> None:
        """(Re)build the universe and follow its tickers, and those of what is held."""
        chosen = self.wanted()
        self.universe = {row.instrument_name: row for row in chosen}
        held = [name for name in self.venue.state.positions if name in self.venue.instruments]
        await self.venue.follow(*self.universe, *held)
        expiries = [row.expiration_timestamp for row in chosen if not row.is_perpetual]
        self._expires_ms = min((ms for ms in expiries if ms), default=None)
        self._chosen_at = {
            row.base_currency: index
            for row in chosen
            if row.is_option and (index := self.index(row.instrument_name)) is not None
        }

    def _moved_away(self) -> bool:
        for row in self.universe.values():
            then, now = self._chosen_at.get(row.base_currency), self.index(row.instrument_name)
            if row.is_option and now is not None:
                if then is None:  # no index yet when the strikes were chosen
                    return True
                if abs(now - then) > then * INDEX_DRIFT:
                    return True
        return False

    async def _keep_up(self, notice: BatchNotice) -> None:
        expired = self._expires_ms is not None and notice.timestamp >= self._expires_ms
        if expired or not self.universe or self._moved_away():
            await self.venue.get_instruments()
            await self.choose()
        # after a warning, too: whoever is near a call wants to know what it holds
        told = self.venue.state.margin_notices + self.venue.state.margin_warnings
        news, self._news_seen = told != self._news_seen, told
        if expired or news or self.turns % RESYNC_BATCHES == 0:
            await self.venue.get_positions()
            await self.venue.follow(
                *(name for name in self.venue.state.positions if name in self.venue.instruments)
            )

    # What is known

    def ticker(self, instrument_name: str) -> Ticker | None:
        """The ticker of a contract, if it has a mark and an index."""
        ticker = self.venue.state.tickers.get(instrument_name)
        if ticker is None or not ticker.mark_price or not ticker.index_price:
            return None
        return ticker

    def mark(self, instrument_name: str) -> Decimal | None:
        """The mark price, or None."""
        ticker = self.ticker(instrument_name)
        return None if ticker is None else ticker.mark_price

    def index(self, instrument_name: str) -> Decimal | None:
        """The index under a contract, or None."""
        ticker = self.ticker(instrument_name)
        return None if ticker is None else ticker.index_price

    def held(self, instrument_name: str) -> Decimal:
        """The signed amount held."""
        return self.venue.state.positions.get(instrument_name, ZERO)

    def exposure(self, instrument_name: str) -> Decimal:
        """What is held, in USD of the underlying, with its sign; zero where nothing is known."""
        row, index = self.venue.instruments.get(instrument_name), self.index(instrument_name)
        if row is None or index is None:
            return ZERO
        return row.notional(self.held(instrument_name), index)

    def exposures(self) -> dict[str, Decimal]:
        """`exposure` of every contract held, the greatest first."""
        pairs = [(name, self.exposure(name)) for name in self.venue.state.positions]
        return dict(sorted(pairs, key=lambda pair: (-abs(pair[1]), pair[0])))

    # Orders

    async def attempt(self, request: Awaitable[Answer]) -> Answer | None:
        """The answer to an order, or None if the venue refused it, which is normal life.

        None, too, if the connection broke and nobody can say what became of the request. Protocol
        errors (negative codes) and a lost log-in are raised: they are our own fault.
        """
        try:
            return await request
        except OutcomeUnknown:
            self.unanswered += 1
            return None
        except VenueRefused as refused:
            if refused.code < 0 or refused.code in FATAL_CODES:
                raise
            self.refusals[refused.code] += 1
            return None

    async def take(
        self, row: Instrument, signed_amount: Decimal, slack: Decimal, *, reduce_only: bool = False
    ) -> Order | None:
        """Buy (positive) or sell now, at most `slack` (a fraction) away from the mark.

        An immediate-or-cancel limit order; nothing is sent without a mark or below the lot.
        """
        mark, amount = self.mark(row.instrument_name), row.amount_below(abs(signed_amount))
        if mark is None or not amount:
            return None
        if signed_amount > 0:
            direction, price = "buy", row.price_above(mark * (1 + slack))
        else:
            direction, price = "sell", row.price_below(mark * (1 - slack))
        return await self.attempt(
            self.venue.order(
                direction, row.instrument_name, amount, price=max(price, row.tick_size),
                time_in_force=IMMEDIATE_OR_CANCEL, reduce_only=reduce_only,
            )
        )  # fmt: skip

    async def cut(self, fraction: Decimal, contracts: int = 3) -> None:
        """Reduce-only market orders for a part of the greatest holdings, at least one lot each."""
        for name in list(self.exposures())[:contracts]:
            row, held = self.venue.instruments.get(name), self.held(name)
            if row is None or self.mark(name) is None:
                continue
            amount = max(row.amount_below(abs(held) * fraction), row.min_trade_amount)
            direction = "sell" if held > 0 else "buy"
            await self.attempt(
                self.venue.order(
                    direction, name, min(amount, abs(held)),
                    time_in_force=IMMEDIATE_OR_CANCEL, reduce_only=True,
                )
            )  # fmt: skip

    async def hedge_delta(self, worth: Decimal, slack: Decimal) -> bool:
        """Trade the universe's future against the delta of the options held.

        Nothing is sent below `worth` USD of delta, or at more than `slack` away from the mark.
        Returns whether an order went out.
        """
        hedge = next((row for row in self.universe.values() if not row.is_option), None)
        index = None if hedge is None else self.index(hedge.instrument_name)
        if hedge is None or index is None:
            return False
        delta = self.held(hedge.instrument_name)
        for name, amount in self.venue.state.positions.items():
            ticker = self.ticker(name)
            if ticker is not None and ticker.greeks is not None:
                delta += amount * ticker.greeks.delta
        if abs(delta) * index < worth:
            return False
        return await self.take(hedge, -delta, slack) is not None
