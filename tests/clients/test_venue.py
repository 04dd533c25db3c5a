"""The SDK: answers become records, channels become state, refusals become exceptions."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from clients import AnswerUnexpected, ConnectionLost, Venue, VenueRefused
from clients.records import Order, Position, record_of
from tests.clients.fake_venue import START_MS, FakeVenue

PERPETUAL, INVERSE = "BTC_USDC-PERPETUAL", "BTC-PERPETUAL"


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_contracts_arrive_typed_and_exact() -> None:
    async with Venue(FakeVenue(), "alice") as venue:
        linear, inverse = venue.instruments[PERPETUAL], venue.instruments[INVERSE]
        assert (linear.tick_size, linear.min_trade_amount) == (Decimal("0.5"), Decimal("0.001"))
        assert (linear.is_perpetual, linear.is_inverse, linear.is_option) == (True, False, False)
        assert inverse.is_inverse
        call = venue.instruments["BTC_USDC-17OCT25-100000-C"]
        assert (call.is_option, call.is_perpetual, call.strike) == (True, False, 100_000)


async def test_prices_round_to_the_tick_and_amounts_to_the_lot() -> None:
    async with Venue(FakeVenue(), "alice") as venue:
        linear, inverse = venue.instruments[PERPETUAL], venue.instruments[INVERSE]
        assert linear.price_below(Decimal("100000.49")) == Decimal("100000")
        assert linear.price_above(Decimal("100000.01")) == Decimal("100000.5")
        assert linear.price_above(Decimal("100000.5")) == Decimal("100000.5")
        assert linear.amount_below(Decimal("0.0019")) == Decimal("0.001")
        assert linear.amount_below(Decimal("0.0009")) == 0
        assert linear.amount_worth(Decimal(250), Decimal(100_000)) == Decimal("0.002")
        assert inverse.amount_worth(Decimal(257), Decimal(100_000)) == 250
        assert inverse.notional(Decimal(-250), Decimal(100_000)) == -250
        assert linear.notional(Decimal("-0.5"), Decimal(100_000)) == -50_000


async def test_reads_give_typed_answers() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        book = await venue.get_order_book(PERPETUAL)
        assert book.bids == [(Decimal("99999.5"), Decimal("0.2"))]
        assert book.asks == []
        assert await venue.get_index_price("btc_usdc") == 100_000
        ticker = await venue.get_ticker("BTC_USDC-17OCT25-100000-C")
        assert ticker.greeks is not None
        assert ticker.greeks.vega == 55
        assert (await venue.get_batch()).batch == 1
        await venue.deposit("USDC", Decimal(100))
        await venue.withdraw("USDC", Decimal("0.01"))
        assert (await venue.get_account_summary("USDC")).equity == Decimal("99.99")
        assert venue.state.equity == Decimal("99.99")


async def test_every_order_has_its_own_client_order_id_and_terms() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        first = await venue.buy(PERPETUAL, Decimal("0.1"), price=Decimal(99_000), label="x")
        second = await venue.sell(INVERSE, Decimal(100), reduce_only=True)
        assert fake.sent("private/buy") == [{
            "instrument_name": PERPETUAL, "amount": Decimal("0.1"), "type": "limit",
            "time_in_force": "good_til_cancelled", "client_order_id": "alice-1",
            "price": 99_000, "label": "x",
        }]  # fmt: skip
        assert fake.sent("private/sell") == [{
            "instrument_name": INVERSE, "amount": 100, "type": "market", "reduce_only": True,
            "time_in_force": "good_til_cancelled", "client_order_id": "alice-2",
        }]  # fmt: skip
        assert (first.price, second.price, second.order_type) == (99_000, None, "market")
        assert list(venue.state.open_orders) == ["1", "2"]


async def test_sending_an_order_again_under_its_id_gives_the_same_order() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        again = venue.next_client_order_id()
        first = await venue.buy(PERPETUAL, Decimal("0.1"), client_order_id=again)
        second = await venue.buy(PERPETUAL, Decimal("0.1"), client_order_id=again)
        assert first.order_id == second.order_id
        assert len(fake.orders) == 1


async def test_an_id_that_names_another_order_is_noticed() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        await venue.buy(PERPETUAL, Decimal("0.1"))
    restarted = FakeVenue()
    restarted.orders, restarted.of_client_id = fake.orders, fake.of_client_id
    async with Venue(restarted, "alice") as venue:
        with pytest.raises(AnswerUnexpected, match="alice-1 already names order 1, a buy"):
            await venue.sell(PERPETUAL, Decimal("0.1"))


async def test_edits_and_cancels_keep_the_open_orders() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        for _ in range(3):
            await venue.buy(PERPETUAL, Decimal("0.1"), price=Decimal(99_000))
        await venue.buy(INVERSE, Decimal(10), price=Decimal(99_000))
        await venue.edit("1", Decimal("0.2"), Decimal(98_000))
        assert venue.state.open_orders["1"].price == 98_000
        assert (await venue.cancel("2")).order_state == "cancelled"
        assert list(venue.state.open_orders) == ["1", "3", "4"]
        assert await venue.cancel_all_by_instrument(INVERSE) == 1
        assert list(venue.state.open_orders) == ["1", "3"]
        assert await venue.cancel_all() == 2
        assert venue.state.open_orders == {}


async def test_fills_change_positions_and_end_orders() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        await venue.buy(PERPETUAL, Decimal("0.3"), price=Decimal(99_000))
        fake.fill(fake.orders["1"], Decimal("0.1"))
        await settle()
        assert venue.state.positions == {PERPETUAL: Decimal("0.1")}
        assert venue.state.open_orders["1"].open_amount == Decimal("0.2")
        fake.fill(fake.orders["1"])
        await settle()
        assert venue.state.positions == {PERPETUAL: Decimal("0.3")}
        assert venue.state.open_orders == {}
        await venue.sell(PERPETUAL, Decimal("0.3"))
        fake.fill(fake.orders["2"])
        await settle()
        assert venue.state.positions == {}
        assert venue.state.trades == 3


async def test_a_late_answer_does_not_reopen_an_order_that_is_done() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        order = await venue.buy(PERPETUAL, Decimal("0.3"), price=Decimal(99_000))
        fake.fill(fake.orders["1"])
        await settle()
        venue.state.take_order(order)
        assert venue.state.open_orders == {}


async def test_state_starts_from_what_the_account_already_has() -> None:
    fake = FakeVenue()
    fake.positions = {PERPETUAL: Decimal("-0.5")}
    fake.margin_call("issued", "250")
    fake.private_buy(
        client_order_id="old-1", instrument_name=INVERSE, amount=Decimal(10), type="limit",
        price=Decimal(1), time_in_force="good_til_cancelled",
    )  # fmt: skip
    async with Venue(fake, "alice") as venue:
        assert venue.state.positions == {PERPETUAL: Decimal("-0.5")}
        assert list(venue.state.open_orders) == ["1"]
        assert venue.state.margin_call is not None
        assert venue.state.margin_call.amount == 250


@pytest.mark.parametrize(
    ("size", "direction", "amount"), [("-2", "sell", -2), ("2", "sell", -2), ("2", "buy", 2)]
)
def test_a_short_is_negative_however_the_venue_writes_it(
    size: str, direction: str, amount: int
) -> None:
    row = {"instrument_name": INVERSE, "size": Decimal(size), "direction": direction}
    assert record_of(Position, row).amount == amount


@pytest.mark.parametrize("outcome", ["cured", "expired", "breached"])
async def test_a_margin_call_stands_until_it_is_over(outcome: str) -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        fake.margin_call("issued", "100.5")
        await settle()
        assert venue.state.margin_call is not None
        assert venue.state.margin_call.amount == Decimal("100.5")
        fake.margin_call("standing", "90")
        await settle()
        assert venue.state.margin_call is not None
        assert venue.state.margin_call.amount == 90
        fake.margin_call(outcome)
        await settle()
        assert venue.state.margin_call is None
        assert venue.state.last_margin_notice is not None
        assert venue.state.last_margin_notice.outcome == outcome


async def test_a_warning_comes_on_its_own_channel_and_is_no_margin_call() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        assert "user.margin_warnings" in venue.subscribed
        fake.margin_call("issued", "100.5")
        fake.margin_warning("0.0625")
        await settle()
        warning = venue.state.last_margin_warning
        assert warning is not None
        assert (warning.probability, warning.horizon_cycles) == (Decimal("0.0625"), 60)
        assert warning.initial_margin == 2_500
        assert venue.state.margin_warnings == 1
        assert venue.state.margin_call is not None, "the call stands as it did"
        assert venue.state.margin_call.amount == Decimal("100.5")
        assert venue.state.margin_notices == 1


async def test_a_forecast_is_asked_for_and_may_be_none() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        assert await venue.get_margin_forecast() is None
        fake.forecast = {"horizon_cycles": 60, "initial_minor": 2_500_000_001,
                         "call_probability_ppb": 62_500_000}  # fmt: skip
        found = await venue.get_margin_forecast(12)
        assert found is not None
        assert found.initial_margin == Decimal("2500.000001")
        assert found.probability == Decimal("0.0625")
        assert found.horizon_cycles == 60
    asked = fake.sent("private/explain_margin")
    assert [params["pool_id"] for params in asked] == [-1, 12]


async def test_batches_come_once_each_and_a_late_reader_gets_the_newest() -> None:
    fake = FakeVenue()
    venue = Venue(fake, "alice")
    await venue.open()
    await venue.register()
    batches = venue.batches()
    assert (await anext(batches)).batch == 1
    fake.next_batch()
    assert (await anext(batches)).batch == 2
    await venue.ready()
    assert fake.readied == [2]
    for _ in range(3):
        fake.next_batch()
    await settle()
    notice = await anext(batches)
    assert (notice.batch, notice.timestamp) == (5, START_MS + 4 * 5000)
    await fake.close()
    with pytest.raises(StopAsyncIteration):
        await anext(batches)
    await venue.close()


async def test_a_batch_that_does_not_collect_is_not_given_out() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        fake.publish("batch.any", {"batch": 8, "phase": "collecting", "timestamp": START_MS})
        fake.publish("batch.any", {"batch": 9, "phase": "sealed", "timestamp": START_MS})
        await settle()
        assert (await anext(venue.batches())).batch == 8


async def test_a_batch_that_is_announced_twice_is_given_out_once() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        batches = venue.batches()
        fake.publish("batch.any", {"batch": 4, "timestamp": START_MS})
        assert (await anext(batches)).batch == 4
        fake.publish("batch.any", {"batch": 4, "timestamp": START_MS})
        await fake.close()
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_orders_that_liquidate_the_account_are_not_its_own() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        order = {"order_id": "9", "instrument_name": INVERSE, "direction": "buy", "amount": 10,
                 "order_state": "open", "is_liquidation": True}  # fmt: skip
        fake.publish("user.orders.any.any.raw", order)
        await settle()
        assert venue.state.open_orders == {}


async def test_tickers_of_a_batch_are_known_when_its_notice_is() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        await venue.follow(PERPETUAL)
        assert venue.state.tickers[PERPETUAL].mark_price == 100_000
        fake.index["BTC"] = Decimal(90_000)
        fake.next_batch()
        async for _ in venue.batches():
            break
        assert venue.state.tickers[PERPETUAL].mark_price == 90_000
        assert venue.state.equity == 0


async def test_a_refusal_keeps_code_message_and_data() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        fake.refusals["private/buy"] = (10009, "not_enough_funds")
        with pytest.raises(VenueRefused, match="not_enough_funds") as caught:
            await venue.buy(PERPETUAL, Decimal("0.1"))
        assert caught.value.code == 10009
        with pytest.raises(VenueRefused, match="10004"):
            await venue.get_order_state("77")


async def test_a_channel_that_the_venue_omits_is_an_error() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        fake.unknown_channels.add("quote.NOTHING")
        with pytest.raises(AnswerUnexpected, match=r"no channel quote\.NOTHING"):
            await venue.subscribe("quote.NOTHING", f"quote.{PERPETUAL}")


async def test_a_notification_that_fits_nothing_ends_the_batches_with_its_error() -> None:
    fake = FakeVenue()
    async with Venue(fake, "alice") as venue:
        fake.publish(f"ticker.{PERPETUAL}.raw", {"instrument_name": 5})
        with pytest.raises(AnswerUnexpected, match="no Ticker"):
            await anext(venue.batches())


async def test_a_closed_connection_answers_nothing() -> None:
    fake = FakeVenue()
    venue = Venue(fake, "alice")
    await venue.open()
    await venue.close()
    with pytest.raises(ConnectionLost):
        await venue.get_batch()


def test_unknown_fields_are_ignored_and_missing_ones_named() -> None:
    row = {"order_id": "1", "instrument_name": "X", "direction": "buy", "order_state": "open"}
    assert record_of(Order, {**row, "amount": 1, "web": False}).amount == 1
    with pytest.raises(AnswerUnexpected, match="amount"):
        record_of(Order, row)
