"""An outside holder: a leveraged position here, most of the collateral at another venue."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from clients.bot import Bot
from clients.records import BatchNotice, Instrument

SLACK = Decimal("0.004")
STEPS = 4


class OutsideHolder(Bot):
    """Buys one linear perpetual up to a multiple of its money here, then holds it.

    `leverage`: that multiple, more than its own money could margin. On a margin call it does
    nothing: its money is elsewhere, and it trusts that to be seen again.
    """

    kind: ClassVar[str] = "outside_holder"

    def __init__(
        self, name: str, seed: int, money: Decimal = Decimal(10_000), *, session: str = "",
        currency: str | None = None, leverage: Decimal = Decimal(8),
    ) -> None:  # fmt: skip
        super().__init__(name, seed, money, session=session)
        self.currency, self.leverage = currency, leverage
        self.holds = False

    def wanted(self) -> list[Instrument]:
        """The linear perpetual of its currency, or the first there is."""
        rows = sorted(
            (
                row for row in self.venue.instruments.values()
                if row.is_perpetual and not row.is_inverse and row.is_active
                and self.currency in (None, row.base_currency)
            ),
            key=lambda row: row.instrument_name,
        )  # fmt: skip
        return rows[:1]

    async def act(self, notice: BatchNotice) -> None:
        """Buy a quarter of the position a batch until it stands."""
        row = next(iter(self.universe.values()), None)
        index = None if row is None else self.index(row.instrument_name)
        if row is None or index is None or self.holds:
            return
        target = self.money * self.leverage
        missing = row.amount_worth(target - self.exposure(row.instrument_name), index)
        if missing < row.min_trade_amount:
            self.holds = True
            return
        step = min(missing, row.amount_worth(target / STEPS, index))
        await self.take(row, step, SLACK)
