"""An arbitrageur: sells what is rich, buys what is cheap, and goes home when the basis closes."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from clients.bot import BASIS_POINT, Bot
from clients.records import BatchNotice, Instrument

STYLES = ("index", "pair")


class Arbitrageur(Bot):
    """Trades a perpetual against its index, or the inverse perpetual against the linear one.

    `style`: `index` or `pair`. `enter` and `leave`: basis, as fractions, beyond which it opens and
    within which it flattens. `limit`: most USD of one leg. `step`: most USD of one order.
    """

    kind: ClassVar[str] = "arbitrageur"

    def __init__(
        self, name: str, seed: int, money: Decimal = Decimal(500_000), *, session: str = "",
        currency: str | None = None, style: str | None = None,
        enter: Decimal = 6 * BASIS_POINT, leave: Decimal = 2 * BASIS_POINT,
        limit: Decimal = Decimal(1_000_000), step: Decimal = Decimal(100_000),
    ) -> None:  # fmt: skip
        super().__init__(name, seed, money, session=session)
        drawn = self.random.choice(STYLES)
        self.style, self.currency = style or drawn, currency
        self.enter, self.leave, self.limit, self.step = enter, leave, limit, step

    def wanted(self) -> list[Instrument]:
        """The perpetuals of one currency: linear first, then inverse for the `pair` style."""
        perpetuals = sorted(
            (row for row in self.venue.instruments.values() if row.is_perpetual and row.is_active),
            key=lambda row: row.instrument_name,
        )
        if self.currency is None:
            currencies = sorted({row.base_currency for row in perpetuals})
            self.currency = self.random.choice(currencies) if currencies else None
        mine = [row for row in perpetuals if row.base_currency == self.currency]
        linear = [row for row in mine if not row.is_inverse][:1]
        inverse = [row for row in mine if row.is_inverse][:1]
        if self.style == "pair" and linear and inverse:
            return linear + inverse
        return (linear or inverse)[:1]

    async def act(self, notice: BatchNotice) -> None:
        """Move the traded leg towards its target, then the other leg to cover it."""
        if self.venue.state.margin_call is not None:
            await self.cut(Decimal("0.5"))
            return
        legs = list(self.universe.values())
        if not legs:
            return
        traded = legs[-1]
        fair = self.index(traded.instrument_name)
        if len(legs) == 2:
            fair = self.mark(legs[0].instrument_name)
        price = self._price(traded.instrument_name)
        if fair is None or price is None:
            return
        await self._trade(traded, price / fair - 1, fair)
        if len(legs) == 2:
            await self._cover(legs[0], traded)

    def _price(self, instrument_name: str) -> Decimal | None:
        """The middle of the disclosed book where both sides are there, else the mark."""
        ticker = self.ticker(instrument_name)
        if ticker is None:
            return None
        if ticker.best_bid_price and ticker.best_ask_price:
            return (ticker.best_bid_price + ticker.best_ask_price) / 2
        return ticker.mark_price

    async def _trade(self, row: Instrument, basis: Decimal, fair: Decimal) -> None:
        """Open against a wide basis while it is worth it; close a narrow one."""
        exposure, index = self.exposure(row.instrument_name), self.index(row.instrument_name)
        if index is None:
            return
        if abs(basis) > self.enter:
            sign = -1 if basis > 0 else 1
            room = self.limit - sign * exposure
            size = min(self.step, room)
            if size <= 0:
                return
            worst = fair * (1 - sign * self.leave)
            price = row.price_below(worst) if sign > 0 else row.price_above(worst)
            amount = row.amount_worth(size, index)
            if amount:
                direction = "buy" if sign > 0 else "sell"
                await self.attempt(
                    self.venue.order(
                        direction, row.instrument_name, amount, price=price,
                        time_in_force="immediate_or_cancel",
                    )
                )  # fmt: skip
        elif exposure and basis * (1 if exposure > 0 else -1) > -self.leave:
            part = row.amount_worth(min(self.step, abs(exposure)), index)
            signed = -part if exposure > 0 else part
            await self.take(row, signed, self.leave, reduce_only=True)

    async def _cover(self, row: Instrument, traded: Instrument) -> None:
        """Bring the covering leg to minus the traded one, in USD."""
        index = self.index(row.instrument_name)
        if index is None:
            return
        missing = -self.exposure(traded.instrument_name) - self.exposure(row.instrument_name)
        amount = row.amount_worth(min(abs(missing), self.step), index)
        if amount and abs(missing) > self.step / 20:
            slack = 5 * BASIS_POINT
            await self.take(row, amount if missing > 0 else -amount, slack)
