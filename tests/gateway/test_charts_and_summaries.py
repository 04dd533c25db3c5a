"""What looks over contracts or back in time: candles, tapes, summaries, funding, settlements."""

from __future__ import annotations

import random

import pytest

from exchange.gateway.candles import HOURS_KEPT, MINUTE_MS, MINUTES_KEPT, RESOLUTIONS, Chart
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard, only

INDEX = (117_000, 4_100, 205)
HOUR_MS = 60 * MINUTE_MS


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket()


@pytest.fixture
def demo() -> SmallMarket:
    return SmallMarket("demo", INDEX)


async def trade(market: SmallMarket, price: float, amount: float = 0.01,
                name: str = PERPETUAL) -> None:  # fmt: skip
    await market.buy(market.ann, amount, price, instrument_name=name)
    await market.sell(market.bob, amount, price, instrument_name=name)
    market.close_batch()


def now_ms(market: SmallMarket) -> int:
    return market.clock.now_ns() // 10**6


# Candles


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_candles_are_those_of_the_prints(resolution: str, seed: int) -> None:
    chance, minutes, chart = random.Random(seed), RESOLUTIONS[resolution], Chart()
    step, time_ms = minutes * MINUTE_MS, 1_767_225_600_000 + 12_345
    prints = []
    for _ in range(300):
        time_ms += chance.choice([1_000, 20_000, 90_000, 400_000])
        prints.append((time_ms, chance.randrange(1, 1000), chance.random()))
        chart.take(time_ms, prints[-1][1], prints[-1][2], 2 * prints[-1][2])
    start = prints[0][0] + chance.randrange(-HOUR_MS, 3 * HOUR_MS)
    end = time_ms - chance.randrange(HOUR_MS)
    wanted, close = [], 0
    for tick in range(prints[0][0] // step * step, end + 1, step):
        inside = [p for p in prints if tick <= p[0] < tick + step]
        prices = [p[1] for p in inside] or [close]
        close = prices[-1]
        if tick + step > start:
            volume = sum(p[2] for p in inside)
            wanted.append((tick, prices[0], max(prices), min(prices), close,
                           pytest.approx(volume), pytest.approx(2 * volume)))  # fmt: skip
    found = chart.window(minutes, start, end)
    assert [
        (c.tick_ms, c.open_ticks, c.high_ticks, c.low_ticks, c.close_ticks, c.volume, c.cost)
        for c in found
    ] == wanted
    newest = chart.newest(minutes)
    assert newest is not None
    assert newest.tick_ms == time_ms // step * step
    assert newest.volume == pytest.approx(sum(p[2] for p in prints if p[0] >= newest.tick_ms))


def test_a_chart_is_bounded_and_empty_before_the_first_print() -> None:
    chart = Chart()
    assert chart.newest(1) is None
    assert chart.window(1, 0, HOUR_MS) == []
    for hour in range(HOURS_KEPT + 10):
        for minute in (0, 30):
            chart.take(hour * HOUR_MS + minute * MINUTE_MS, 5, 1.0, 5.0)
    assert (len(chart.minutes), len(chart.hours)) == (MINUTES_KEPT, HOURS_KEPT)
    assert len(chart.window(1, 0, 10**12)) == 5_000, "of millions, the newest"
    end = (HOURS_KEPT + 9) * HOUR_MS
    assert [c.volume for c in chart.window(60, end - HOUR_MS, end)] == [2.0, 2.0]


async def test_chart_data_in_columns(market: SmallMarket) -> None:
    asked = {"instrument_name": PERPETUAL, "resolution": "1", "start_timestamp": 0,
             "end_timestamp": 2**52}  # fmt: skip
    empty = await market.ask(market.ann, "public/get_tradingview_chart_data", **asked)
    assert (empty["status"], empty["ticks"]) == ("no_data", [])
    for price in (100_000, 100_400, 99_800):
        await trade(market, price)
    chart = await market.ask(market.ann, "public/get_tradingview_chart_data", **asked)
    tick = now_ms(market) // MINUTE_MS * MINUTE_MS
    assert chart == {
        "status": "ok", "ticks": [tick], "open": [100_000.0], "high": [100_400.0],
        "low": [99_800.0], "close": [99_800.0], "volume": [0.03], "cost": [3002.0],
    }  # fmt: skip
    ahead = asked | {"start_timestamp": tick + 10**9, "end_timestamp": tick + 10**9 + MINUTE_MS}
    latest = await market.ask(market.ann, "public/get_tradingview_chart_data", **ahead)
    assert latest["ticks"] == [tick], "a window of a clock that is ahead shows the latest"
    back = asked | {"end_timestamp": -1}
    error = await market.refusal(market.ann, "public/get_tradingview_chart_data", **back)
    assert error["code"] == -32602


async def test_candles_of_an_inverse_contract_count_coins(demo: SmallMarket) -> None:
    await trade(demo, 120_000, 600, "BTC-PERPETUAL")
    chart = await demo.ask(
        demo.ann, "public/get_tradingview_chart_data", instrument_name="BTC-PERPETUAL",
        resolution="60", start_timestamp=0, end_timestamp=2**52,
    )  # fmt: skip
    assert (chart["volume"], chart["cost"]) == ([0.005], [600.0])


async def test_the_chart_channel_tells_the_newest_candle(market: SmallMarket) -> None:
    channels = [f"chart.trades.{PERPETUAL}.{resolution}" for resolution in ("1", "1D")]
    await market.listen(market.ann, *channels)
    await trade(market, 100_000)
    await trade(market, 100_100)
    told = [data for name, data in heard(market.ann) if name == channels[1]]
    assert [(c["open"], c["close"], c["volume"]) for c in told] == [
        (100_000.0, 100_000.0, 0.01), (100_000.0, 100_100.0, 0.02),
    ]  # fmt: skip
    await market.ask(market.bob, "public/subscribe", channels=[channels[0]])
    (first,) = only(market.bob, channels[0])
    assert first == told[1] | {"tick": now_ms(market) // MINUTE_MS * MINUTE_MS}
    unknown = [f"chart.trades.{PERPETUAL}.2", "chart.trades.NOTHING.1", "chart.trades.1"]
    assert await market.ask(market.ann, "public/subscribe", channels=unknown) == []


# Summaries and tapes


async def test_book_summaries_by_currency_and_kind(demo: SmallMarket) -> None:
    await trade(demo, 117_000)
    await demo.sell(demo.bob, 0.02, 117_400)
    await demo.buy(demo.ann, 0.02, 116_800)
    demo.close_batch()

    async def names(**params: str) -> set[str]:
        rows = await demo.ask(demo.ann, "public/get_book_summary_by_currency", **params)
        return {row["instrument_name"] for row in rows}

    specs = demo.state.contracts.specs
    assert await names(currency="any") == {spec.name for spec in specs}
    assert await names(currency="BTC") == {s.name for s in specs if s.name.startswith("BTC")}
    assert await names(currency="usdc") == {s.name for s in specs if "_USDC" in s.name}
    options = await names(currency="SOL", kind="option")
    assert options == {s.name for s in specs if s.name.startswith("SOL") and s.strike_e8}
    assert await names(currency="EURR") == set()
    (row,) = await demo.ask(
        demo.ann, "public/get_book_summary_by_instrument", instrument_name=PERPETUAL
    )
    wanted = {"bid_price": 116_800.0, "ask_price": 117_400.0, "mid_price": 117_100.0,
              "last": 117_000.0, "volume": 0.01, "volume_usd": 1170.0, "base_currency": "BTC",
              "quote_currency": "USDC", "open_interest": 0.01, "mark_price": 117_000.0}  # fmt: skip
    assert wanted.items() <= row.items()
    assert "underlying_price" not in row
    (option,) = await demo.ask(
        demo.ann, "public/get_book_summary_by_instrument", instrument_name=min(options)
    )
    assert option["mark_iv"] == 80.0
    assert option["mid_price"] is None


async def test_tapes_and_own_trades_by_currency(demo: SmallMarket) -> None:
    for name, price, amount in ((PERPETUAL, 117_000, 0.01), ("ETH_USDC-PERPETUAL", 4_100, 0.1),
                                ("BTC-PERPETUAL", 117_000, 10)):  # fmt: skip
        await trade(demo, price, amount, name)
    for scope in ("public/get_last_trades", "private/get_user_trades"):

        async def traded(suffix: str = "", scope: str = scope, **params: object) -> list[str]:
            found = await demo.ask(demo.ann, f"{scope}_by_currency{suffix}", **params)
            return [row["instrument_name"] for row in found["trades"]]

        assert await traded(currency="USDC") == ["ETH_USDC-PERPETUAL", PERPETUAL]
        assert await traded(currency="BTC") == ["BTC-PERPETUAL"], "filed under one currency only"
        assert await traded(currency="any", sorting="asc", count=2) == [
            PERPETUAL, "ETH_USDC-PERPETUAL",
        ]  # fmt: skip
        assert await traded(currency="any", kind="option") == []
        assert await traded(currency="USDT") == []
        assert await traded(suffix="_and_time", currency="any", start_timestamp=now_ms(demo)) == [
            "BTC-PERPETUAL"
        ]
    orders = await demo.ask(demo.ann, "private/get_order_history_by_currency", currency="USDC")
    assert [o["instrument_name"] for o in orders] == ["ETH_USDC-PERPETUAL", PERPETUAL]
    (newest,) = await demo.ask(
        demo.ann, "private/get_order_history_by_currency", currency="any", count=1, kind="future"
    )
    assert newest["instrument_name"] == "BTC-PERPETUAL"
    trades = await demo.ask(
        demo.ann, "private/get_user_trades_by_order", order_id=newest["order_id"]
    )
    assert [row["order_id"] for row in trades] == [newest["order_id"]]
    error = await demo.refusal(
        demo.bob, "private/get_user_trades_by_order", order_id=newest["order_id"]
    )
    assert error["code"] == 10029


async def test_open_orders_by_currency(demo: SmallMarket) -> None:
    for name, price, amount in ((PERPETUAL, 116_000, 0.01), ("BTC-PERPETUAL", 116_000, 10)):
        await demo.buy(demo.ann, amount, price, instrument_name=name)
    for currency, wanted in (("USDC", [PERPETUAL]), ("BTC", ["BTC-PERPETUAL"]), ("ETH", []),
                             ("any", [PERPETUAL, "BTC-PERPETUAL"])):  # fmt: skip
        found = await demo.ask(
            demo.ann, "private/get_open_orders_by_currency", currency=currency, code=currency
        )
        assert [row["instrument_name"] for row in found] == wanted


async def test_trades_of_a_kind_come_in_one_message(demo: SmallMarket) -> None:
    futures, options = "trades.future.USDC.100ms", "trades.option.any.raw"
    await demo.listen(demo.ann, futures, options, "trades.any.BTC.agg2")
    await demo.buy(demo.ann, 0.1, 4_100, instrument_name="ETH_USDC-PERPETUAL")
    await demo.sell(demo.bob, 0.1, 4_100, instrument_name="ETH_USDC-PERPETUAL")
    await trade(demo, 117_000)
    told = dict(heard(demo.ann))
    assert told.keys() == {futures}
    assert [row["instrument_name"] for row in told[futures]] == [PERPETUAL, "ETH_USDC-PERPETUAL"]
    unknown = ["trades.spot.any.raw", "trades.any.EURR.raw", "trades.any.any.1s"]
    assert await demo.ask(demo.ann, "public/subscribe", channels=unknown) == []


# Funding and settlements


async def test_funding_adds_up_by_the_hour(market: SmallMarket) -> None:
    start = now_ms(market)
    period = market.venue.funding.period_ns
    marked = market.marks

    def with_premium() -> object:
        marks = marked()
        futures = tuple((slot, price * 1_002 // 1_000) for slot, price in marks.futures)
        return type(marks)(marks.time_ns, marks.cycle, marks.underlyings, futures,
                           marks.expiries, marks.marker_state)  # fmt: skip

    market.marks = with_premium  # type: ignore[method-assign, assignment]
    rate = 0.0015  # a premium of 0.2 % less the dead band of 0.05 %
    elapsed = []
    for _ in range(9):
        market.clock._now_ns += 899 * 10**9
        before = market.state.marks.time_ns
        market.close_batch()
        elapsed.append(market.state.marks.time_ns - before)
    window = {"instrument_name": PERPETUAL, "start_timestamp": start, "end_timestamp": 2**52}
    paid = await market.ask(market.ann, "public/get_funding_rate_value", **window)
    assert paid == pytest.approx(rate * sum(elapsed) / period)
    rows = await market.ask(market.ann, "public/get_funding_rate_history", **window)
    assert sum(row["interest_1h"] for row in rows) == pytest.approx(paid)
    assert rows[-1]["interest_8h"] == pytest.approx(paid)
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    assert len(rows) == 3
    recent = window | {"start_timestamp": now_ms(market) - 1}
    last = await market.ask(market.ann, "public/get_funding_rate_value", **recent)
    assert last == pytest.approx(rate * elapsed[-1] / period)
    await market.ask(market.ann, "public/subscribe", channels=[f"perpetual.{PERPETUAL}.raw"])
    (told,) = only(market.ann, f"perpetual.{PERPETUAL}.raw")
    assert told == {"timestamp": now_ms(market), "index_price": 100_000.0, "interest": rate}
    market.close_batch()
    assert len(only(market.ann, f"perpetual.{PERPETUAL}.raw")) == 1


async def test_only_perpetuals_have_funding(demo: SmallMarket) -> None:
    dated = "BTC_USDC-17OCT25"
    error = await demo.refusal(
        demo.ann, "public/get_funding_rate_value", instrument_name=dated, start_timestamp=0,
        end_timestamp=1,
    )  # fmt: skip
    assert error["code"] == 10031
    channel = f"perpetual.{dated}.raw"
    assert await demo.ask(demo.ann, "public/subscribe", channels=[channel]) == []


async def test_deliveries_and_takeovers_are_settlements() -> None:
    market = SmallMarket(deposit=2_000)
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=1_000_000)
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    for price in range(100_000, 60_000, -4_000):
        market.close_batch(price)
    found = await market.ask(
        market.ann, "public/get_last_settlements_by_instrument", instrument_name=PERPETUAL
    )
    rows = found["settlements"]
    assert rows, "the insurance fund took the position over"
    assert all(row["type"] == "bankruptcy" for row in rows)
    assert all(row["session_bankruptcy"] == row["session_bankrupcy"] >= 0 for row in rows)
    assert sum(row["position"] for row in rows) == pytest.approx(0.1)
    assert found["continuation"] == "none"
    asked = {"instrument_name": PERPETUAL, "type": "delivery"}
    none = await market.ask(market.ann, "public/get_last_settlements_by_instrument", **asked)
    assert none["settlements"] == []
    before = {"instrument_name": PERPETUAL, "search_start_timestamp": rows[-1]["timestamp"] - 1}
    none = await market.ask(market.ann, "public/get_last_settlements_by_instrument", **before)
    assert none["settlements"] == []


async def test_settlements_are_read_on_from_where_an_answer_ended(demo: SmallMarket) -> None:
    name = "BTC_USDC-11OCT25-116000-C"
    expiry = demo.state.contracts.specs[demo.state.contracts.slot_of[name]].expiry_ns
    demo.clock._now_ns = expiry
    demo.close_batch()
    asked = {"instrument_name": name, "count": 1}
    found = await demo.ask(demo.ann, "public/get_last_settlements_by_instrument", **asked)
    (row,) = found["settlements"]
    assert (row["type"], row["index_price"], row["timestamp"]) == (
        "delivery", 117_000.0, now_ms(demo),
    )  # fmt: skip
    record = demo.dispatcher.record
    record.settlements.extend([s for s in record.settlements if s.instrument_name == name] * 3)
    pages, word = [], ""
    while word != "none":
        more = {"continuation": word} if word else {}
        found = await demo.ask(demo.ann, "public/get_last_settlements_by_instrument", **asked,
                               **more)  # fmt: skip
        pages.append(len(found["settlements"]))
        word = found["continuation"]
    assert pages == [1, 1, 1, 1]
    error = await demo.refusal(
        demo.ann, "public/get_last_settlements_by_instrument", **asked, continuation="-1"
    )
    assert error["code"] == -32602


async def test_index_names(demo: SmallMarket) -> None:
    names = await demo.ask(demo.ann, "public/get_index_price_names")
    coins = ("btc", "eth", "sol")
    assert names == sorted(f"{coin}_{quote}" for coin in coins for quote in ("usd", "usdc"))
    for name in names:
        await demo.ask(demo.ann, "public/get_index_price", index_name=name)
