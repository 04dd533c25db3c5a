"""Requests about many contracts, or about the past: summaries, tapes, charts, funding."""

from __future__ import annotations

from collections.abc import Iterator

from exchange.core.stored.contracts import Life
from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway import query_parameters as q
from exchange.gateway.candles import RESOLUTIONS, candle_row
from exchange.gateway.cycle_record import CycleRecord
from exchange.gateway.errors import WireError, invalid_params
from exchange.gateway.instrument_view import InstrumentView, slot_of
from exchange.gateway.market_data import MarketData
from exchange.gateway.queries import Query, select_trades
from exchange.gateway.session import Session
from exchange.gateway.units import (
    base_currency,
    index_name,
    kind_name,
    milliseconds,
    settlement_name,
)
from exchange.sequencer import Sequencer
from margin.portfolio import NEVER_NS


def slots_filed_under(state: State, currency: str, kind: str) -> Iterator[int]:
    """Slots of a kind that settle in a currency (`any`: all), in order."""
    wanted = currency.upper()
    for slot, spec in enumerate(state.contracts.specs):
        if wanted in ("ANY", settlement_name(state.venue, spec)) and kind in (
            "any", kind_name(spec),
        ):  # fmt: skip
            yield slot


class MarketQueries:
    """Public methods that look over contracts or back in time."""

    def __init__(self, sequencer: Sequencer, market: MarketData, instruments: InstrumentView,
                 record: CycleRecord) -> None:  # fmt: skip
        self.sequencer, self.market = sequencer, market
        self.instruments, self.record = instruments, record

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {
            "public/get_book_summary_by_currency": self._summaries,
            "public/get_book_summary_by_instrument": self._summary,
            "public/get_last_trades_by_instrument_and_time": self._last_trades,
            "public/get_last_trades_by_currency": self._last_trades_of_currency,
            "public/get_last_trades_by_currency_and_time": self._last_trades_of_currency,
            "public/get_tradingview_chart_data": self._chart,
            "public/get_funding_rate_value": self._funding_value,
            "public/get_funding_rate_history": self._funding_history,
            "public/get_last_settlements_by_instrument": self._settlements,
            "public/get_index_price_names": self._index_names,
        }

    def _summaries(
        self, session: Session, params: q.SummariesOfBooksParameters
    ) -> list[dict[str, object]]:
        state, wanted = self.state, params.currency.upper()
        rows = []
        for slot, spec in enumerate(state.contracts.specs):
            about = (settlement_name(state.venue, spec), base_currency(state.venue, spec), "ANY")
            runs = state.contracts.life[slot] == Life.LISTED and spec.expiry_ns > state.time_ns
            if runs and wanted in about and params.kind in ("any", kind_name(spec)):
                rows.append(self.instruments.summary(state, slot, self._now_ms()))
        return rows

    def _summary(self, session: Session, params: p.OfInstrument) -> list[dict[str, object]]:
        slot = slot_of(self.state, params.instrument_name)
        return [self.instruments.summary(self.state, slot, self._now_ms())]

    def _last_trades(self, session: Session, params: p.TradesParameters) -> dict[str, object]:
        tape = self.market.tapes.get(slot_of(self.state, params.instrument_name))
        return select_trades(tape.trades if tape else (), params)

    def _last_trades_of_currency(
        self, session: Session, params: q.CurrencyTradesParameters
    ) -> dict[str, object]:
        tapes = self.market.tapes
        slots = slots_filed_under(self.state, params.currency, params.kind)
        trades = [trade for slot in slots if slot in tapes for trade in tapes[slot].trades]
        return select_trades(sorted(trades, key=lambda trade: trade.trade_seq), params)

    def _now_ms(self) -> int:
        return milliseconds(self.sequencer.now_ns())

    def _window(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """A window that ends no later than now; see `ChartParameters`.

        A client whose wall clock is ahead of a market on simulated time gets the latest.
        """
        if start_ms > end_ms:
            raise invalid_params("the window ends before it begins", "end_timestamp")
        now = self._now_ms()
        if start_ms > now:
            return now - (end_ms - start_ms), now
        return start_ms, min(end_ms, now)

    def _chart(self, session: Session, params: q.ChartParameters) -> dict[str, object]:
        state, slot = self.state, slot_of(self.state, params.instrument_name)
        window = self._window(params.start_timestamp, params.end_timestamp)
        tape = self.market.tapes.get(slot)
        found = tape.chart.window(RESOLUTIONS[params.resolution], *window) if tape else []
        rows = [candle_row(state, slot, candle) for candle in found]
        columns: dict[str, object] = {
            plural: [row[name] for row in rows]
            for plural, name in (
                ("ticks", "tick"), ("open", "open"), ("high", "high"), ("low", "low"),
                ("close", "close"), ("volume", "volume"), ("cost", "cost"),
            )
        }  # fmt: skip
        return {"status": "ok" if rows else "no_data", **columns}

    def _perpetual(self, name: str) -> int:
        slot = slot_of(self.state, name)
        if self.state.contracts.specs[slot].expiry_ns != NEVER_NS:
            reason = "only perpetuals have funding"
            raise WireError(
                10031, "invalid_args_for_instrument", {"reason": reason, "param": "instrument_name"}
            )
        return slot

    def _funding_value(self, session: Session, params: q.FundingParameters) -> float:
        slot = self._perpetual(params.instrument_name)
        window = self._window(params.start_timestamp, params.end_timestamp)
        return self.record.funding_value(slot, *window)

    def _funding_history(
        self, session: Session, params: q.FundingParameters
    ) -> list[dict[str, object]]:
        slot = self._perpetual(params.instrument_name)
        window = self._window(params.start_timestamp, params.end_timestamp)
        return self.record.funding_rows(slot, *window)

    def _settlements(self, session: Session, params: q.SettlementsParameters) -> dict[str, object]:
        slot_of(self.state, params.instrument_name)
        skip = params.continuation
        if skip and not (skip.isascii() and skip.isdigit() and len(skip) <= 9):
            raise invalid_params("no such continuation", "continuation")
        latest = params.search_start_timestamp
        found = [
            row
            for row in reversed(self.record.settlements)
            if row.instrument_name == params.instrument_name
            and params.type in (None, row.type)
            and (latest is None or row.timestamp <= latest)
        ]
        first = int(skip or 0)
        until = first + params.count
        more = str(until) if until < len(found) else "none"
        return {"settlements": found[first:until], "continuation": more}

    def _index_names(self, session: Session, params: p.NoParameters) -> list[str]:
        venue = self.state.venue
        return sorted({index_name(venue, spec) for spec in self.state.contracts.specs})
