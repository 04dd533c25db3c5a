"""An option seller: collects premium around the money, hedges the delta, lives with the gamma."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from clients.bot import BASIS_POINT, Bot, between
from clients.records import ZERO, BatchNotice, Instrument

STYLES = ("strangle", "puts", "calls")
SLACK = Decimal("0.25")  # of the premium: what a buy-back under a margin call may cost above mark


class OptionSeller(Bot):
    """Sells options near the money of one currency and holds the linear perpetual against them.

    `style`: `strangle` (both), `puts` or `calls`. `limit`: USD of underlying that it is short in
    options at most. `notional`: USD of one order. `discount`: the fraction of the mark by which it
    undercuts, to be sure of selling. `contracts`: strikes it sells. `pause`: batches between sales.
    `band`: USD of delta that it leaves open. What is not given is drawn from the seed.
    """

    kind: ClassVar[str] = "option_seller"

    def __init__(
        self, name: str, seed: int, money: Decimal = Decimal(100_000), *, session: str = "",
        currency: str | None = None, style: str | None = None, limit: Decimal | None = None,
        notional: Decimal = Decimal(30_000), discount: Decimal | None = None, contracts: int = 4,
        pause: int | None = None, band: Decimal = Decimal(20_000),
    ) -> None:  # fmt: skip
        super().__init__(name, seed, money, session=session)
        drawn_style = self.random.choice(STYLES)
        drawn_share = between(self.random, "2", "5")
        drawn_discount = between(self.random, "0.01", "0.06")
        drawn_pause = self.random.randint(1, 4)
        self.currency, self.style = currency, style or drawn_style
        self.limit = money * drawn_share if limit is None else limit
        self.discount = drawn_discount if discount is None else discount
        self.pause = drawn_pause if pause is None else pause
        self.notional, self.contracts, self.band = notional, contracts, band

    def wanted(self) -> list[Instrument]:
        """The strikes nearest to the money, of the nearest expiry first, and the hedge."""
        rows = [row for row in self.venue.instruments.values() if row.is_active]
        linear = [row for row in rows if row.is_perpetual and not row.is_inverse]
        hedges = sorted(
            (row for row in linear if self.currency in (None, row.base_currency)),
            key=lambda row: row.instrument_name,
        )
        if not hedges:
            return []
        hedge = self.random.choice(hedges)
        self.currency = hedge.base_currency
        sold = {"strangle": ("call", "put"), "puts": ("put",), "calls": ("call",)}[self.style]
        options = [
            row for row in rows
            if row.is_option and row.base_currency == self.currency and row.option_type in sold
        ]  # fmt: skip
        strikes = sorted({row.strike for row in options if row.strike is not None})
        if not strikes:
            return [hedge]
        index = self.index(hedge.instrument_name)
        centre = strikes[len(strikes) // 2] if index is None else index
        options.sort(
            key=lambda row: (abs((row.strike or ZERO) - centre), row.expiration_timestamp or 0,
                             row.instrument_name)
        )  # fmt: skip
        return [*options[: self.contracts], hedge]

    async def act(self, notice: BatchNotice) -> None:
        """Buy back when called; else keep the delta small, and now and then sell some more."""
        if self.venue.state.margin_call is not None:
            await self._buy_back()
            return
        await self.hedge_delta(self.band, 10 * BASIS_POINT)
        if self.turns % self.pause == 0:
            await self._sell()

    def short(self) -> Decimal:
        """USD of underlying under the options that it is short."""
        return -sum(
            (
                min(ZERO, self.exposure(name))
                for name in self.venue.state.positions
                if name in self.venue.instruments and self.venue.instruments[name].is_option
            ),
            ZERO,
        )

    async def _sell(self) -> None:
        room = min(self.notional, self.limit - self.short())
        options = [row for row in self.universe.values() if row.is_option]
        if room <= 0 or not options:
            return
        row = self.random.choice(options)
        index = self.index(row.instrument_name)
        if index is not None:
            await self.take(row, -row.amount_worth(room, index), self.discount)

    async def _buy_back(self) -> None:
        """The greatest short option, a third of it, and the hedge that falls free with it."""
        for name, exposure in self.exposures().items():
            row = self.venue.instruments.get(name)
            if row is not None and row.is_option and exposure < 0:
                amount = max(row.amount_below(-self.held(name) / 3), row.min_trade_amount)
                await self.take(row, amount, SLACK, reduce_only=True)
                break
        await self.hedge_delta(self.band / 2, 20 * BASIS_POINT)
