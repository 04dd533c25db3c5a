"""The client over sockets that break: what was asked is answered once, and done once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from clients import ConnectionLost, OutcomeUnknown, Venue, VenueRefused
from clients.websocket import WebSocketTransport, credentials
from tests.clients.socket_venue import SECRETS, SocketVenue
from tests.gateway.small_market import PERPETUAL, SmallMarket

LOT = Decimal("0.001")


@pytest.fixture
async def place() -> AsyncIterator[SocketVenue]:
    async with SocketVenue(SmallMarket()) as venue:
        yield venue


def transport(place: SocketVenue, name: str = "ann", **terms: Any) -> WebSocketTransport:
    return WebSocketTransport(place.url, name, SECRETS[name], **{"patience_s": 5.0, **terms})


@asynccontextmanager
async def session(place: SocketVenue, name: str = "ann", **terms: Any) -> AsyncIterator[Venue]:
    async with Venue(transport(place, name, **terms), f"{name}-1") as venue:
        yield venue


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def orders(place: SocketVenue) -> int:
    """How many orders the engine has taken."""
    return len(place.market.state.client_orders.order_of)


# Opening


async def test_the_url_is_obeyed_on_every_socket_and_the_key_logs_in(place: SocketVenue) -> None:
    async with Venue.connect(place.url, "ann", SECRETS["ann"]) as venue:
        assert venue.state.equity == 1_000_000
        place.break_all()
        assert await venue.get_positions() == []
    assert place.connections == 2
    logins = place.sent("public/auth")
    assert [row["client_id"] for row in logins] == ["ann", "ann"]
    assert logins[0]["nonce"] != logins[1]["nonce"]
    assert all(SECRETS["ann"] not in str(row) for row in logins)


async def test_key_and_secret_come_from_the_environment(
    place: SocketVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNCROSS_KEY", "bob")
    monkeypatch.setenv("UNCROSS_SECRET", SECRETS["bob"])
    async with Venue.connect(place.url) as venue:
        await venue.buy(PERPETUAL, LOT, price=Decimal(90_000))
    assert [row["client_id"] for row in place.sent("public/auth")] == ["bob"]
    assert credentials("given", "too") == ("given", "too")
    monkeypatch.delenv("UNCROSS_SECRET")
    with pytest.raises(ValueError, match="a key needs its secret"):
        credentials()
    monkeypatch.delenv("UNCROSS_KEY")
    assert credentials() is None


async def test_two_sessions_started_from_the_environment_never_share_order_ids() -> None:
    assert Venue.connect("ws://x", "k", "s").name != Venue.connect("ws://x", "k", "s").name


async def test_without_a_key_the_public_methods_work(place: SocketVenue) -> None:
    async with WebSocketTransport(place.url) as public:
        found: Any = await public.request("public/get_instruments", {"currency": "any"})
        assert [row["instrument_name"] for row in found] == [PERPETUAL]
        with pytest.raises(VenueRefused, match="13009"):
            await public.request("private/get_positions", {})


@pytest.mark.parametrize("without_a_word", [False, True])
async def test_a_wrong_secret_is_refused_at_once(place: SocketVenue, without_a_word: bool) -> None:
    place.refuses_without_a_word = without_a_word
    async with WebSocketTransport(place.url, "ann", "wrong") as wrong:
        with pytest.raises(VenueRefused, match="13004"):
            await wrong.request("public/test", {})
    assert place.connections == 1


async def test_patience_ends_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}/"
        async with WebSocketTransport(url, patience_s=0.2) as lonely:
            with pytest.raises(ConnectionLost, match=f"no connection to {url}"):
                await lonely.request("public/test", {})


async def test_an_early_client_waits_for_its_venue() -> None:
    place = SocketVenue(SmallMarket())
    async with place:
        await place.stop_listening()
        async with transport(place) as early:
            waiting = asyncio.create_task(early.request("public/test", {}))
            await asyncio.sleep(0.1)
            await place.listen()
            assert "version" in str(await waiting)


# Broken connections


@pytest.mark.parametrize("lost", ["lost_answers", "lost_requests"])
async def test_an_unanswered_order_is_sent_again_and_executed_once(
    place: SocketVenue, lost: str
) -> None:
    async with session(place) as venue:
        getattr(place, lost)["private/buy"] = 2
        order = await venue.buy(PERPETUAL, LOT, price=Decimal(90_000))
        assert order.is_open
        assert order.client_order_id == "ann-1-1"
        assert [row["client_order_id"] for row in place.sent("private/buy")] == ["ann-1-1"] * 3
        assert orders(place) == 1
        assert [row.order_id for row in await venue.get_open_orders()] == [order.order_id]


async def test_what_waits_is_sent_again_in_its_order(place: SocketVenue) -> None:
    async with session(place) as venue:
        await place.stop_listening()
        prices = [Decimal(90_000 + n) for n in range(20)]
        asked = [asyncio.create_task(venue.buy(PERPETUAL, LOT, price=price)) for price in prices]
        await asyncio.sleep(0.05)
        await place.listen()
        answers = await asyncio.gather(*asked)
        assert [order.price for order in answers] == prices
        assert [Decimal(row["price"]) for row in place.sent("private/buy")] == prices
        assert [int(order.order_id) for order in answers] == sorted(
            int(order.order_id) for order in answers
        )


async def test_a_cancel_whose_answer_was_lost_is_answered_by_the_order(place: SocketVenue) -> None:
    async with session(place) as venue:
        order = await venue.buy(PERPETUAL, LOT, price=Decimal(90_000))
        place.lost_answers["private/cancel"] = 1
        cancelled = await venue.cancel(order.order_id)
        assert cancelled.order_state == "cancelled"
        assert venue.state.open_orders == {}
        with pytest.raises(VenueRefused, match="11044"):
            await venue.cancel(order.order_id)


async def test_a_transfer_whose_answer_was_lost_is_not_repeated(place: SocketVenue) -> None:
    async with session(place) as venue:
        place.lost_answers["private/deposit"] = 1
        with pytest.raises(OutcomeUnknown):
            await venue.deposit("USDC", Decimal(5))
        await venue.get_account_summaries()
        assert venue.state.equity == 1_000_005
        assert len(place.sent("private/deposit")) == 1


async def test_a_request_that_breaks_every_connection_is_given_up(place: SocketVenue) -> None:
    async with session(place, patience_s=30.0) as venue:
        place.lost_requests["public/get_index_price"] = 1_000
        with pytest.raises(ConnectionLost, match="10 connections broke"):
            await venue.get_index_price("btc_usdc")
        assert await venue.get_open_orders() == []


async def test_closing_ends_what_waits_for_a_connection(place: SocketVenue) -> None:
    venue = Venue(transport(place, patience_s=60.0), "ann-1")
    await venue.open()
    await place.stop_listening()
    waiting = asyncio.create_task(venue.get_positions())
    await asyncio.sleep(0.05)
    await venue.close()
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(waiting, 10)


# In step


async def test_after_a_break_channels_books_and_positions_are_in_step(place: SocketVenue) -> None:
    async with session(place) as ann, session(place, "bob") as bob:
        await ann.follow(PERPETUAL)
        await ann.follow_books(PERPETUAL)
        await ann.buy(PERPETUAL, 5 * LOT, price=Decimal(99_000))
        stays = await ann.buy(PERPETUAL, LOT, price=Decimal(98_000))
        place.market.close_batch()
        await until(lambda: len(ann.state.books[PERPETUAL].bids) == 2)
        await place.stop_listening()
        place.market.dispatcher.sequencer.flush()
        await place.listen()
        await bob.sell(PERPETUAL, 5 * LOT, price=Decimal(99_000))
        place.market.close_batch(99_500)
        await until(lambda: ann.state.positions == {PERPETUAL: 5 * LOT})
        await until(lambda: ann.state.books[PERPETUAL].bids == [(Decimal(98_000), LOT)])
        await until(lambda: ann.state.tickers[PERPETUAL].mark_price == 99_500)
        assert list(ann.state.open_orders) == [stays.order_id]
        followed = ann.state.books[PERPETUAL].book
        assert followed == await ann.get_order_book(PERPETUAL, 100)


async def test_what_traded_during_the_break_is_asked_for(place: SocketVenue) -> None:
    async with session(place) as ann, session(place, "bob") as bob:
        await ann.buy(PERPETUAL, 5 * LOT, price=Decimal(99_000))
        await bob.sell(PERPETUAL, 5 * LOT, price=Decimal(99_000))
        await place.stop_listening()
        place.market.close_batch(99_500)
        await place.listen()
        for venue, sign in ((ann, 1), (bob, -1)):
            await until(lambda v=venue, s=sign: v.state.positions == {PERPETUAL: s * 5 * LOT})
            await until(lambda v=venue: not v.state.open_orders)
            (position,) = await venue.get_positions()
            assert position.amount == sign * 5 * LOT
        await ann.get_account_summaries()
        told = ann.state.equity
        assert told is not None
        assert told != 1_000_000


async def test_a_registered_session_takes_part_again_and_says_again_that_it_is_ready(
    place: SocketVenue,
) -> None:
    readiness = place.dispatcher.readiness
    async with session(place) as venue:
        await venue.register()
        seen = []
        running = asyncio.create_task(_batches(venue, seen, 3))
        await until(lambda: readiness.complete and len(seen) == 1)
        place.break_all()
        await until(lambda: place.connections == 2 and len(readiness.registered) == 1)
        await until(lambda: readiness.complete)
        place.market.close_batch()
        await until(lambda: readiness.complete and len(seen) == 2)
        await place.stop_listening()
        place.market.close_batch()
        await place.listen()
        await asyncio.wait_for(running, 5)
        assert seen == [seen[0], seen[0] + 1, seen[0] + 2]


async def _batches(venue: Venue, seen: list[int], count: int) -> None:
    async for notice in venue.batches():
        seen.append(notice.batch)
        await venue.ready(notice.batch)
        if len(seen) == count:
            return


async def test_a_book_that_does_not_follow_is_started_afresh(place: SocketVenue) -> None:
    async with session(place) as venue:
        await venue.follow_books(PERPETUAL)
        await until(lambda: PERPETUAL in venue.state.books)
        assert not venue.state.take(
            f"book.{PERPETUAL}.raw",
            {"type": "change", "instrument_name": PERPETUAL, "timestamp": 1, "change_id": 9_999,
             "prev_change_id": 9_998, "bids": [], "asks": []},
        )  # fmt: skip
        assert PERPETUAL not in venue.state.books
        await venue._subscribe_again(f"book.{PERPETUAL}.raw")
        await until(lambda: PERPETUAL in venue.state.books)


async def test_a_venue_that_asks_for_a_sign_of_life_gets_one(place: SocketVenue) -> None:
    async with session(place):
        assert place.sent("public/set_heartbeat") == [{"interval": 30}]
        (connected,) = place.sockets
        await connected.send_str('{"method":"heartbeat","params":{"type":"heartbeat"}}')
        assert place.sent("public/test") == []
        await connected.send_str('{"method":"heartbeat","params":{"type":"test_request"}}')
        await until(lambda: place.sent("public/test") == [{}])
