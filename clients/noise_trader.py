"""A noise trader: small random orders in random contracts, options included."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from clients.bot import BASIS_POINT, Bot, between
from clients.records import BatchNotice, Instrument
from clients.venue import GOOD_TIL_CANCELLED, IMMEDIATE_OR_CANCEL


class NoiseTrader(Bot):
    """Buys and sells at random, forgets its resting orders after a while, stays small.

    `activity`: chance in percent of an order in a batch. `contracts`: how many it watches.
    `notional`: most USD of one order. `limit`: USD of one holding beyond which it only reduces.
    `patience`: batches after which it clears its resting orders.
    """

    kind: ClassVar[str] = "noise_trader"

    def __init__(
        self, name: str, seed: int, money: Decimal = Decimal(20_000), *, session: str = "",
        activity: int = 40, contracts: int = 6, notional: Decimal = Decimal(3_000),
        limit: Decimal = Decimal(15_000), patience: int = 6,
    ) -> None:  # fmt: skip
        super().__init__(name, seed, money, session=session)
        self.activity, self.contracts, self.notional = activity, contracts, notional
        self.limit, self.patience = limit, patience

    def wanted(self) -> list[Instrument]:
        """One perpetual and a random handful of the rest."""
        rows = sorted(
            (row for row in self.venue.instruments.values() if row.is_active),
            key=lambda row: row.instrument_name,
        )
        perpetuals = [row for row in rows if row.is_perpetual]
        chosen = self.random.sample(perpetuals, min(1, len(perpetuals)))
        others = [row for row in rows if row not in chosen]
        return chosen + self.random.sample(others, min(self.contracts - 1, len(others)))

    async def act(self, notice: BatchNotice) -> None:
        """Perhaps one order; on a margin call, half of the greatest holding goes."""
        if self.venue.state.margin_call is not None:
            if self.venue.state.open_orders:
                await self.attempt(self.venue.cancel_all())
            await self.cut(Decimal("0.5"), contracts=1)
            return
        if self.venue.state.open_orders and self.turns % self.patience == 0:
            await self.attempt(self.venue.cancel_all())
        if self.random.randrange(100) < self.activity:
            await self._order_at_random()

    async def _order_at_random(self) -> None:
        row = self.random.choice(list(self.universe.values()))
        direction = self.random.choice(("buy", "sell"))
        style = self.random.choice(("market", "limit", "limit", "immediate"))
        wanted = self.notional * between(self.random, "0.1", "1")
        away = self.random.randint(-20, 40)
        ticker = self.ticker(row.instrument_name)
        if ticker is None or ticker.mark_price is None or ticker.index_price is None:
            return
        exposure = self.exposure(row.instrument_name)
        reduce_only = abs(exposure) > self.limit
        if reduce_only:
            direction = "sell" if exposure > 0 else "buy"
        amount = max(row.amount_worth(wanted, ticker.index_price), row.min_trade_amount)
        price = None
        if style != "market":
            # Options are quoted on their premium, whose spread is wide: further from the mark.
            step = ticker.mark_price * BASIS_POINT * (10 if row.is_option else 1)
            sign = -1 if direction == "buy" else 1
            raw = ticker.mark_price + sign * away * step
            price = row.price_below(raw) if direction == "buy" else row.price_above(raw)
            price = max(price, row.tick_size)
        await self.attempt(
            self.venue.order(
                direction, row.instrument_name, amount, price=price, reduce_only=reduce_only,
                time_in_force=GOOD_TIL_CANCELLED if style == "limit" else IMMEDIATE_OR_CANCEL,
            )
        )  # fmt: skip
