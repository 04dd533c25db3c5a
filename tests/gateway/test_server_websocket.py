"""A WebSocket from the handshake to the end: order, signs of life, slow readers, disconnection."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from contextlib import suppress

import aiohttp
import msgspec
import pytest

from tests.gateway.served_market import Client, ServedMarket, served
from tests.gateway.small_market import PERPETUAL

BATCH = "batch.any"


async def settled(market: ServedMarket, orders: int, name: str = "ann") -> None:
    """Wait until an account has so many open orders."""
    async with asyncio.timeout(5):
        while len(market.open_orders(name)) != orders:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


async def test_an_order_over_a_socket_trades_in_the_auction() -> None:
    async with served() as market:
        ann, bob = await market.connect("ann"), await market.connect("bob")
        channels = ["user.trades.any.any.raw", "user.orders.any.any.raw"]
        assert await ann.ask("private/subscribe", channels=channels) == channels
        order = await ann.buy(100_000)
        assert (order["order_state"], order["amount"]) == ("open", 0.01)
        await bob.ask("private/sell", instrument_name=PERPETUAL, amount=0.01, type="market")
        market.close_batch()
        told = {}
        while set(told) != set(channels) or told[channels[1]]["order_state"] == "open":
            frame = await ann.receive()
            told[frame["params"]["channel"]] = frame["params"]["data"]
        assert told[channels[0]][0]["order_id"] == order["order_id"]
        assert told[channels[1]]["order_state"] == "filled"


async def test_an_answer_comes_before_what_its_subscription_shows() -> None:
    async with served() as market:
        client = await market.connect()
        for channel in (BATCH, f"book.{PERPETUAL}.raw", f"ticker.{PERPETUAL}.100ms"):
            assert await client.ask("public/subscribe", channels=[channel]) == [channel]
            assert client.told == []
            assert (await client.receive())["params"]["channel"] == channel


async def test_bad_channels_are_left_out_instead_of_refused() -> None:
    """ccxt.pro stops all its streams at the first error frame."""
    async with served() as market:
        client = await market.connect()
        wanted = ["nonsense", "ticker.NO-SUCH.raw", "user.orders.any.any.raw", BATCH]
        assert await client.ask("public/subscribe", channels=wanted) == [BATCH]
        await client.log_in()
        wanted = ["user.portfolio.XYZ", "user.portfolio.USDC"]
        assert await client.ask("private/subscribe", channels=wanted) == wanted[1:]


async def test_requests_sent_at_once_are_taken_in_their_order() -> None:
    async with served(requests_max=8) as market:
        client = await market.connect("ann")
        for number in range(100):
            params = {"instrument_name": PERPETUAL, "amount": 0.001, "price": 90_000 + number}
            request = {"jsonrpc": "2.0", "id": number, "method": "private/buy", "params": params}
            await client.socket.send_str(json.dumps(request))
        answers = [await client.receive() for _ in range(100)]
        ids = {a["id"]: int(a["result"]["order"]["order_id"]) for a in answers}
        assert [ids[n] for n in range(100)] == sorted(ids.values())


async def test_cancel_on_disconnect_withdraws_the_orders_of_that_connection_only() -> None:
    async with served() as market:
        stays, leaves = await market.connect("ann"), await market.connect("ann")
        kept = await stays.buy()
        assert await leaves.ask("private/enable_cancel_on_disconnect") == "ok"
        enabled = {"enabled": True, "scope": "connection"}
        assert await leaves.ask("private/get_cancel_on_disconnect") == enabled
        for _ in range(3):
            await leaves.buy()
        await leaves.socket.close()
        await settled(market, 1)
        assert market.open_orders() == [int(kept["order_id"])]


async def test_an_order_still_on_its_way_is_withdrawn_with_its_connection() -> None:
    async with served() as market:
        client = await market.connect("ann")
        await client.ask("private/enable_cancel_on_disconnect")
        params = {"instrument_name": PERPETUAL, "amount": 0.001, "price": 90_000}
        request = {"jsonrpc": "2.0", "id": 1, "method": "private/buy", "params": params}
        await client.socket.send_str(json.dumps(request))
        await client.socket.close()
        async with asyncio.timeout(5):
            while market.server.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await settled(market, 0)
        account = market.dispatcher.account_of("ann")
        assert account is not None
        assert len(market.dispatcher.history.of(account).done) == 1


async def test_without_it_or_after_a_logout_orders_stay() -> None:
    async with served() as market:
        plain, leaver, off = [await market.connect("ann") for _ in range(3)]
        await plain.buy()
        await plain.socket.close()
        await leaver.ask("private/enable_cancel_on_disconnect")
        await leaver.buy()
        assert await leaver.ask("private/logout") == "ok"
        assert await leaver.ended() == 1000
        await off.ask("private/enable_cancel_on_disconnect")
        await off.ask("private/disable_cancel_on_disconnect")
        await off.buy()
        await off.socket.close()
        async with asyncio.timeout(5):
            while market.server.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert len(market.open_orders()) == 3


async def test_account_scope_is_what_later_connections_start_with() -> None:
    async with served() as market:
        first = await market.connect("ann")
        await first.ask("private/enable_cancel_on_disconnect", scope="account")
        assert (await first.ask("private/get_cancel_on_disconnect"))["enabled"] is False
        second = await market.connect("ann")
        assert (await second.ask("private/get_cancel_on_disconnect"))["enabled"] is True
        await second.buy()
        await second.socket.close()
        await settled(market, 0)


async def test_a_broken_connection_cancels_too() -> None:
    async with served() as market:
        client = await market.connect("ann")
        await client.ask("private/enable_cancel_on_disconnect")
        await client.buy()
        transport = client.socket._response.connection.transport  # type: ignore[union-attr]
        transport.abort()  # type: ignore[union-attr]
        await settled(market, 0)


async def test_heartbeats_come_and_who_is_silent_at_a_test_request_is_cut_off() -> None:
    async with served(second_s=0.01) as market:
        client = await market.connect("ann")
        await client.ask("private/enable_cancel_on_disconnect")
        await client.buy()
        assert await client.ask("public/set_heartbeat", interval=10) == "ok"
        frame = await client.receive()
        assert frame["method"] == "heartbeat"
        kinds = [frame["params"]["type"]]
        while kinds[-1] != "test_request":
            kinds.append((await client.receive())["params"]["type"])
        await client.ask("public/test")
        assert await client.ended() == 1008
        assert client.told[-1]["params"]["type"] == "test_request"
        await settled(market, 0)


async def test_who_answers_test_requests_stays_and_heartbeats_can_be_stopped() -> None:
    async with served(second_s=0.005) as market:
        client = await market.connect()
        await client.ask("public/set_heartbeat", interval=10)
        for _ in range(4):
            while (await client.receive())["params"]["type"] != "test_request":
                pass
            await client.ask("public/test")
        assert await client.ask("public/disable_heartbeat") == "ok"
        await asyncio.sleep(0.2)
        client.told.clear()
        await client.ask("public/test")
        assert len(client.told) <= 1, "at most one was on its way"
        assert (await client.refusal("public/set_heartbeat", interval=9))["code"] == -32602


def slow_client(market: ServedMarket) -> sockets.socket:
    """A client that subscribes by hand and then never reads."""
    raw = sockets.create_connection((market.server.host, market.server.port))
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.sendall(
        b"GET /ws/api/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    raw.sendall(frame_of("public/subscribe", channels=[BATCH]))
    return raw


def frame_of(method: str, **params: object) -> bytes:
    """A request as a masked frame."""
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


async def test_a_slow_reader_is_cut_off_and_the_others_miss_nothing() -> None:
    async with served(outbox_frames=50, writer_bytes=1024) as market:
        quick = await market.connect()
        await quick.ask("public/subscribe", channels=[BATCH])
        slow = slow_client(market)
        async with asyncio.timeout(5):
            while len(market.server.connections) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        heard, batches = 0, 0
        await quick.receive()
        ask = frame_of("public/ticker", instrument_name=PERPETUAL) * 500
        async with asyncio.timeout(30):
            while len(market.server.connections) == 2:
                with suppress(ConnectionError):
                    slow.sendall(ask)
                market.close_batch()
                batches += 1
                for _ in range(3):
                    await quick.receive()
                    heard += 1
        assert heard == 3 * batches
        assert not quick.socket.closed
        assert await quick.ask("public/test")
        slow.close()


async def test_the_outbox_is_bounded_in_bytes_too() -> None:
    async with served(outbox_bytes=10_000) as market:
        client = await market.connect()
        connection = next(iter(market.server.connections))
        for _ in range(11):
            connection._put(b"x" * 1000)
        assert connection.closed_because.startswith("the outbox overflowed")
        assert await client.ended() == 1006


async def test_closing_codes_tell_why() -> None:
    async with served() as market:
        binary, long, bad = [await market.connect() for _ in range(3)]
        await binary.socket.send_bytes(b"{}")
        assert await binary.ended() == 1003
        await long.socket.send_str("x" * 70_000)
        assert await long.ended() == 1009
        await bad.socket.send_frame(b'"\xff\xfe"', aiohttp.WSMsgType.TEXT)
        assert await bad.ended() == 1007
        assert await (await market.connect()).ask("public/test")


async def test_no_compression_is_agreed() -> None:
    async with served() as market:
        client = await market.connect(compress=15)
        assert client.socket.compress == 0


async def test_pages_of_other_sites_are_turned_away() -> None:
    async with served(origins=frozenset({"https://mine.example"})) as market:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await market.connect(origin="https://evil.example")
        assert caught.value.status == 403
        status, answer = await market.get("public/test", {"Origin": "null"})
        assert (status, answer["error"]["code"]) == (403, 13021)
        assert await (await market.connect(origin="https://mine.example")).ask("public/test")
        assert (await market.get("public/test"))[0] == 200


async def test_too_many_connections_are_refused_and_room_is_made_again() -> None:
    async with served(connections_max=2) as market:
        first, _ = await market.connect(), await market.connect()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await market.connect()
        assert caught.value.status == 503
        await first.socket.close()
        async with asyncio.timeout(5):
            while len(market.server.connections) == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert await (await market.connect()).ask("public/test")


async def test_unsubscribe_all_stops_what_it_names() -> None:
    async with served() as market:
        client = await market.connect("ann")
        wanted = ["user.orders.any.any.raw", BATCH]
        assert await client.ask("private/subscribe", channels=wanted) == wanted
        assert await client.ask("public/unsubscribe_all") == "ok"
        client.told.clear()
        await client.buy()
        market.close_batch()
        await client.ask("public/test")
        assert {f["params"]["channel"] for f in client.told} == {wanted[0]}
        assert await client.ask("private/unsubscribe_all") == "ok"
        client.told.clear()
        await client.buy()
        await client.ask("public/test")
        assert client.told == []


async def test_an_orderly_stop_answers_tells_and_closes() -> None:
    async with served() as market:
        client = await market.connect("ann")
        await client.ask("private/subscribe", channels=["user.orders.any.any.raw"])
        await client.buy()
        await market.server.refuse_orders()
        refused = await client.refusal("private/buy", instrument_name=PERPETUAL, amount=0.01,
                                       price=99_000)  # fmt: skip
        assert refused["code"] == 11051
        assert await client.ask("private/cancel_all") == 1
        assert len(await client.ask("private/get_open_orders")) == 0
        with pytest.raises(aiohttp.ClientConnectorError):
            await market.connect()
        stopping = asyncio.create_task(market.server.stop())
        assert await client.ended() == 1001
        await stopping


async def test_a_stop_does_not_wait_for_who_does_not_read() -> None:
    async with served(writer_bytes=1024, close_s=30.0) as market:
        slow = slow_client(market)
        async with asyncio.timeout(5):
            while not market.server.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        connection = next(iter(market.server.connections))
        for _ in range(3_000):
            connection._put(b'"' + b"x" * 1000 + b'"')
        began = asyncio.get_running_loop().time()
        await market.server.stop(grace_s=0.3)
        assert asyncio.get_running_loop().time() - began < 3
        slow.close()


async def test_a_failure_inside_closes_that_connection_and_is_loud() -> None:
    async with served() as market:
        loud: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: loud.append(str(context["exception"])))

        def broken(session: object, params: object) -> object:
            raise ZeroDivisionError("broken")

        entry = market.dispatcher.entries["public/get_time"]
        market.dispatcher.entries["public/get_time"] = msgspec.structs.replace(entry, query=broken)
        client, other = await market.connect(), await market.connect()
        with pytest.raises(EOFError):
            await client.ask("public/get_time")
        assert client.socket.close_code == 1011
        assert (await market.get("public/get_time"))[0] == 500
        assert await other.ask("public/test")
        assert loud == ["broken", "broken"]


async def test_a_second_login_as_somebody_else_takes_nothing_along() -> None:
    async with served() as market:
        client: Client = await market.connect("ann")
        await client.ask("private/subscribe", channels=["user.orders.any.any.raw"])
        await client.log_in("bob")
        other = await market.connect("ann")
        await other.buy()
        await client.ask("public/test")
        assert client.told == []
