"""A trend follower: leveraged, adds when right, holds when wrong, each with its own nerves."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import ClassVar

from clients.bot import Bot, between
from clients.records import ZERO, BatchNotice, Instrument, multiple_above

TEMPERAMENTS = ("deposits", "cuts", "freezes")
BIASES = ("long", "long", "long", "short", "momentum", "momentum")
CENT = Decimal("0.01")
MARGIN_USED_MAX = Decimal("0.8")  # of equity; beyond this it adds nothing


class TrendFollower(Bot):
    """Builds a position in one perpetual up to its leverage, in the direction it believes in.

    `leverage`: exposure over equity it aims at. `bias`: `long`, `short` or `momentum` (the sign of
    the index's move over `window` batches, once that is beyond `threshold`). `temperament`: what a
    margin call does to it: it `deposits` (at most `deposits_max` times), `cuts` a part of its
    position, or `freezes`. What is not given is drawn from the seed.
    """

    kind: ClassVar[str] = "trend_follower"

    def __init__(
        self, name: str, seed: int, money: Decimal = Decimal(25_000), *, session: str = "",
        currency: str | None = None, leverage: Decimal | None = None, bias: str | None = None,
        temperament: str | None = None, deposits_max: int | None = None, window: int = 8,
        threshold: Decimal = Decimal("0.001"), steps: int = 6,
    ) -> None:  # fmt: skip
        super().__init__(name, seed, money, session=session)
        drawn_leverage = between(self.random, "1.5", "5")
        drawn_bias = self.random.choice(BIASES)
        drawn_temperament = self.random.choice(TEMPERAMENTS)
        drawn_deposits = self.random.randint(1, 3)
        self.take_profit = between(self.random, "0.02", "0.12")
        self.currency = currency
        self.leverage = drawn_leverage if leverage is None else leverage
        self.bias = bias or drawn_bias
        self.temperament = temperament or drawn_temperament
        self.deposits_left = drawn_deposits if deposits_max is None else deposits_max
        self.window, self.threshold, self.steps = window, threshold, steps
        self._index: deque[Decimal] = deque(maxlen=window + 1)
        self._entry: Decimal | None = None

    def wanted(self) -> list[Instrument]:
        """One linear perpetual: the currency's that was given, or one drawn once and kept."""
        perpetuals = sorted(
            (
                row for row in self.venue.instruments.values()
                if row.is_perpetual and not row.is_inverse and row.is_active
                and self.currency in (None, row.base_currency)
            ),
            key=lambda row: row.instrument_name,
        )  # fmt: skip
        if not perpetuals:
            return []
        row = self.random.choice(perpetuals)
        self.currency = row.base_currency
        return [row]

    async def act(self, notice: BatchNotice) -> None:
        """Answer a call; else take a profit, or build towards the leverage."""
        row = next(iter(self.universe.values()), None)
        index = None if row is None else self.index(row.instrument_name)
        if row is None or index is None:
            return
        self._index.append(index)
        if self.venue.state.margin_call is not None:
            await self._answer_call()
            return
        await self._build(row, index)

    async def _answer_call(self) -> None:
        """By temperament, once a batch as long as the call stands."""
        if self.temperament == "cuts":
            await self.cut(Decimal("0.35"))
        elif self.temperament == "deposits" and self.deposits_left > 0:
            await self._deposit()

    async def _deposit(self) -> None:
        """Pay half as much again as is missing at the latest marks, but no trifle."""
        await self.venue.get_margin_calls()
        call = self.venue.state.margin_call
        if call is None:
            return
        amount = max(call.amount * Decimal("1.5"), self.money / 10)
        amount = multiple_above(amount, CENT)
        self.deposits_left -= 1
        if await self.attempt(self.venue.deposit("USDC", amount)):
            self.deposited += amount

    def _belief(self) -> int:
        """1 long, -1 short, 0 no opinion."""
        if self.bias != "momentum":
            return 1 if self.bias == "long" else -1
        if len(self._index) <= self.window:
            return 0
        move = self._index[-1] / self._index[0] - 1
        if abs(move) < self.threshold:
            return 0
        return 1 if move > 0 else -1

    async def _build(self, row: Instrument, index: Decimal) -> None:
        state = self.venue.state
        equity, margin = state.equity, state.initial_margin or ZERO
        if equity is None or equity <= 0:
            return
        exposure = self.exposure(row.instrument_name)
        held = (exposure > 0) - (exposure < 0)
        if not held:
            self._entry = None
        elif self._entry is None:
            self._entry = index
        gain = held * (index / self._entry - 1) if self._entry else ZERO
        if gain > self.take_profit:
            self._entry = index
            half = self.held(row.instrument_name) / 2
            await self.take(row, -half, Decimal("0.004"), reduce_only=True)
            return
        # A losing position is held: only a flat or a winning one follows the belief.
        belief = held if held and gain < 0 else self._belief()
        target = equity * self.leverage * belief
        missing = target - exposure
        adds = missing * belief > 0
        if (
            not belief
            or not adds
            or gain < -self.threshold * 10
            or margin > equity * MARGIN_USED_MAX
        ):
            return
        step = min(abs(missing), equity * self.leverage / self.steps)
        await self.take(row, belief * row.amount_worth(step, index), Decimal("0.003"))
