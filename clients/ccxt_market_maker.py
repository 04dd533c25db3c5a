"""A market maker that needs nothing but ccxt and the venue's address: copy it, make it yours.

UNCROSS_KEY=key UNCROSS_SECRET=secret python -m clients.ccxt_market_maker http://127.0.0.1:8080
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

import ccxt

CENT_OF_CENT = Decimal("0.000001")  # the venue counts USDC in millionths
TRADES_MAX = 1000


def exact(number: float | str) -> Decimal:
    """A number of the venue by its digits."""
    return Decimal(str(number))


@dataclass
class Account:
    """Money in USDC and the position in coin; profit is what cash has gained since the start."""

    cash: Decimal
    position: Decimal
    fees: Decimal
    profit: Decimal


class CcxtMarketMaker:
    """Quotes one perpetual on both sides of the mark, and keeps its own account of what it does."""

    def __init__(
        self, url: str, key: str, secret: str, symbol: str = "BTC/USDC:USDC", *,
        half_spread: float = 0.0002, amount: float = 0.05, limit: float = 0.5,
    ) -> None:  # fmt: skip
        terms = {"apiKey": key, "secret": secret, "enableRateLimit": False}
        self.exchange = ccxt.deribit({**terms, "urls": {"api": {"rest": url}}})
        self.exchange.load_markets()
        self.symbol, self.half_spread, self.amount, self.limit = symbol, half_spread, amount, limit
        self.start = exact(self.exchange.fetch_balance()["USDC"]["total"])
        self.paid = self.fees = self.position = self.mark = Decimal(0)
        self.seen: set[str] = set()
        self.since: int | None = None
        self.timestamp = 0

    def turn(self) -> bool:
        """Once a batch: book what traded, replace the quotes. False while the batch still runs."""
        ticker = self.exchange.fetch_ticker(self.symbol)
        if ticker["timestamp"] == self.timestamp:
            return False
        self.timestamp, self.mark = ticker["timestamp"], exact(ticker["info"]["mark_price"])
        self.book_trades()
        self.exchange.cancel_all_orders(self.symbol)
        mark, fullness = float(self.mark), float(self.position) / self.limit
        for side, sign in (("buy", -1), ("sell", 1)):
            if -sign * fullness < 1:  # at the limit only the side that reduces is quoted
                price = mark * (1 + (sign - fullness) * self.half_spread)
                price = float(self.exchange.price_to_precision(self.symbol, price))
                try:
                    self.exchange.create_order(self.symbol, "limit", side, self.amount, price)
                except (ccxt.InsufficientFunds, ccxt.InvalidOrder) as refused:
                    print(f"{side} refused: {refused}", file=sys.stderr)
        return True

    def book_trades(self) -> None:
        """Add every trade once; two of one millisecond may come again."""
        for trade in self.exchange.fetch_my_trades(self.symbol, self.since, TRADES_MAX):
            if trade["id"] not in self.seen:
                self.seen.add(trade["id"])
                signed = exact(trade["amount"]) * (1 if trade["side"] == "buy" else -1)
                self.position += signed
                self.paid += signed * exact(trade["price"])
                self.fees += exact(trade["fee"]["cost"])
            self.since = max(self.since or 0, trade["timestamp"])

    @property
    def account(self) -> Account:
        """Its own account at the last mark: the position's value counts as cash, as at the venue.

        Funding is the one thing that no trade tells of; what the venue's cash differs by is that.
        """
        value = (self.position * self.mark).quantize(CENT_OF_CENT, ROUND_FLOOR)
        profit = value - self.paid - self.fees
        return Account(self.start + profit, self.position, self.fees, profit)


if __name__ == "__main__":
    maker = CcxtMarketMaker(sys.argv[1], os.environ["UNCROSS_KEY"], os.environ["UNCROSS_SECRET"])
    while True:
        if maker.turn():
            print(maker.account)
        time.sleep(0.05)
