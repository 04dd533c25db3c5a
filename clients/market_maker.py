"""A market maker: two-sided quotes around the mark, leaning against its inventory."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, NamedTuple

from clients.bot import BASIS_POINT, Bot, between
from clients.records import ZERO, BatchNotice, Instrument, Order, Ticker

BOOKS = ("futures", "options")
LEAN = Decimal("1.5")  # quotes move by this many half spreads at full inventory
TOLERANCE = Decimal("0.3")  # of a half spread: a quote nearer than this to its wish stays
MISSING_URGENCY = Decimal(1)


class Place(NamedTuple):
    """Where a quote stands: contract, side (1 bid, -1 ask), level from the inside out."""

    instrument_name: str
    side: int
    level: int


class Quote(NamedTuple):
    """What a place should hold; `half_spread` is the measure of how wrong another price is."""

    price: Decimal
    amount: Decimal
    half_spread: Decimal


class MarketMaker(Bot):
    """Quotes the futures, or the options near the money, of one currency.

    `book`: `futures` or `options`. `currency`: whose (the first by name if not given).
    `levels`: quotes a side. `notional`: USD of one quote. `half_spread`: of futures, as a fraction
    of the mark. `volatility_points`: half spread of options in points of implied volatility.
    `inventory`: USD at which it only quotes the other side. `contracts`: how many it quotes.
    `requests`: most orders, edits and cancels a batch; the most dangerous quotes come first.
    `panic`: a move of the index in one batch that makes it pull everything before quoting again.
    """

    kind: ClassVar[str] = "market_maker"

    def __init__(
        self, name: str, seed: int, money: Decimal = Decimal(2_000_000), *, session: str = "",
        book: str = "futures", currency: str | None = None, levels: int = 2,
        notional: Decimal | None = None, half_spread: Decimal | None = None,
        volatility_points: Decimal | None = None, inventory: Decimal = Decimal(2_000_000),
        contracts: int = 4, requests: int = 16, panic: Decimal = Decimal("0.02"),
    ) -> None:  # fmt: skip
        super().__init__(name, seed, money, session=session)
        drawn_half_spread = between(self.random, "3", "9") * BASIS_POINT
        drawn_points = between(self.random, "1", "3")
        self.book, self.currency, self.levels = book, currency, levels
        self.notional = notional or Decimal(60_000 if book == "futures" else 15_000)
        self.half_spread = half_spread or drawn_half_spread
        self.volatility_points = volatility_points or drawn_points
        self.inventory, self.contracts, self.requests = inventory, contracts, requests
        self.panic = panic
        self.quotes: dict[Place, str] = {}
        self._last_index: Decimal | None = None

    # Contracts

    def wanted(self) -> list[Instrument]:
        """Futures: perpetuals, then the nearest. Options: the nearest strikes, and the hedge."""
        rows = [row for row in self.venue.instruments.values() if row.is_active]
        currencies = sorted({row.base_currency for row in rows})
        if self.currency is None and currencies:
            self.currency = currencies[0]
        mine = [row for row in rows if row.base_currency == self.currency]
        futures = sorted(
            (row for row in mine if row.kind == "future"),
            key=lambda row: (not row.is_perpetual, row.expiration_timestamp or 0, row.is_inverse,
                             row.instrument_name),
        )  # fmt: skip
        if self.book == "futures":
            return futures[: self.contracts]
        hedges = [row for row in futures if not row.is_inverse][:1]
        return self._options_near(mine, hedges) + hedges

    def _options_near(self, mine: list[Instrument], hedges: list[Instrument]) -> list[Instrument]:
        options = [row for row in mine if row.is_option and row.strike is not None]
        index = self.index(hedges[0].instrument_name) if hedges else None
        strikes = sorted({row.strike for row in options if row.strike is not None})
        if not strikes:
            return []
        centre = strikes[len(strikes) // 2] if index is None else index
        ranked = sorted(
            options,
            key=lambda row: (abs((row.strike or ZERO) - centre), row.expiration_timestamp or 0,
                             row.instrument_name),
        )  # fmt: skip
        return ranked[: self.contracts]

    def quoted(self) -> list[Instrument]:
        """The contracts that it quotes: its universe, less the hedge of an options book."""
        wants_options = self.book == "options"
        return [row for row in self.universe.values() if row.is_option == wants_options]

    # One batch

    async def act(self, notice: BatchNotice) -> None:
        """Pull out when called or when the market jumps; else bring every quote to its place."""
        orders = self.venue.state.open_orders
        self.quotes = {place: order for place, order in self.quotes.items() if order in orders}
        if self.venue.state.margin_call is not None:
            if orders:
                await self._pull()
            await self.cut(Decimal("0.25"))
            return
        budget = self.requests
        if self._jumped() and orders:
            await self._pull()
            budget -= 1
        if self.book == "options":
            budget -= await self.hedge_delta(2 * self.notional, 10 * BASIS_POINT)
        wishes = {}
        for row in self.quoted():
            wishes.update(self._wishes(row))
        await self._requote(wishes, budget)

    async def _pull(self) -> None:
        await self.attempt(self.venue.cancel_all())
        self.quotes = {}

    def _jumped(self) -> bool:
        names = list(self.universe)
        index = self.index(names[-1]) if names else None
        last, self._last_index = self._last_index, index
        return bool(last and index and abs(index / last - 1) > self.panic)

    def _fullness(self, row: Instrument) -> Decimal:
        """Inventory as a share of its limit, from -1 to 1: a book of futures is one inventory."""
        if self.book == "futures":
            total = sum((self.exposure(name) for name in self.venue.state.positions), ZERO)
            share = total / self.inventory
        else:
            share = self.exposure(row.instrument_name) / (self.inventory / self.contracts)
        return max(Decimal(-1), min(Decimal(1), share))

    def _half_spread(self, row: Instrument, ticker: Ticker) -> Decimal | None:
        mark = ticker.mark_price or ZERO
        if not row.is_option:
            return max(mark * self.half_spread, row.tick_size)
        if ticker.greeks is None:
            return None
        by_volatility = abs(ticker.greeks.vega) * self.volatility_points
        if row.is_priced_in_coin and ticker.index_price:
            by_volatility /= ticker.index_price
        return max(by_volatility, mark / 50, row.tick_size)

    def _wishes(self, row: Instrument) -> dict[Place, Quote]:
        """The quotes that one contract should have; none without a mark."""
        ticker = self.ticker(row.instrument_name)
        if ticker is None or ticker.mark_price is None or ticker.index_price is None:
            return {}
        half = self._half_spread(row, ticker)
        amount = row.amount_worth(self.notional, ticker.index_price)
        if half is None or not amount:
            return {}
        fullness = self._fullness(row)
        centre = ticker.mark_price - fullness * LEAN * half
        wishes = {}
        for side in (1, -1):
            if side * fullness >= 1:
                continue
            for level in range(self.levels):
                raw = centre - side * half * (1 + 2 * level)
                price = row.price_below(raw) if side > 0 else row.price_above(raw)
                if side < 0:
                    price = max(price, row.tick_size)
                if price > 0:
                    wishes[Place(row.instrument_name, side, level)] = Quote(price, amount, half)
        return wishes

    # Orders

    def _urgency(self, place: Place, wish: Quote | None) -> Decimal:
        """How much it costs to leave this place as it is, in half spreads; negative: leave it."""
        order = self._order_at(place)
        if order is None or order.price is None:
            return MISSING_URGENCY / (1 + place.level)
        if wish is None:
            return MISSING_URGENCY * 2
        too_good = place.side * (order.price - wish.price) / wish.half_spread
        if order.open_amount < wish.amount / 2:
            return max(too_good, MISSING_URGENCY / 2)
        wrong = too_good if too_good > 0 else -too_good / 4  # too shy only costs business
        return wrong if wrong > TOLERANCE else Decimal(-1)

    def _order_at(self, place: Place) -> Order | None:
        order_id = self.quotes.get(place)
        return None if order_id is None else self.venue.state.open_orders.get(order_id)

    async def _requote(self, wishes: dict[Place, Quote], budget: int) -> None:
        ranked = sorted(
            ((self._urgency(place, wishes.get(place)), place)
             for place in dict.fromkeys([*self.quotes, *wishes])),
            key=lambda pair: (-pair[0], pair[1]),
        )  # fmt: skip
        for urgency, place in ranked:
            if urgency < 0 or budget <= 0:
                return
            budget -= await self._set(place, wishes.get(place))

    async def _set(self, place: Place, wish: Quote | None) -> int:
        """Bring one place to its wish; returns how many requests that took."""
        order, spent = self._order_at(place), 0
        if order is not None:
            spent += 1
            if wish is not None and not order.filled_amount:
                if await self.attempt(self.venue.edit(order.order_id, wish.amount, wish.price)):
                    return spent
                spent += 1
            # An order that traded in part is replaced: no doubt about which amount an edit means.
            await self.attempt(self.venue.cancel(order.order_id))
            self.quotes.pop(place, None)
        if wish is None:
            return spent
        direction = "buy" if place.side > 0 else "sell"
        placed = await self.attempt(
            self.venue.order(
                direction, place.instrument_name, wish.amount, price=wish.price,
                label=f"level {place.level}",
            )
        )  # fmt: skip
        if placed is not None:
            self.quotes[place] = placed.order_id
        return spent + 1
