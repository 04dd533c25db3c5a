"""The transport without sockets: frames, bounded outboxes, the readiness barrier."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from exchange.gateway.memory import ConnectionClosed, MemoryConnection
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket()


async def test_an_answer_is_what_a_socket_would_carry(market: SmallMarket) -> None:
    frame = b'{"jsonrpc":"2.0","id":"seven","method":"public/get_time","params":{}}'
    answer = await market.ann.request_frame(frame)
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == "seven"
    assert answer["result"] == market.clock.now_ns() // 10**6
    assert answer["usDiff"] == 0
    assert answer["usIn"] == answer["usOut"] == market.clock.now_ns() // 1000
    for params in (b"", b',"params":null', b',"params":{}'):
        answer = await market.ann.request_frame(b'{"method":"public/get_time"%b}' % params)
        assert "result" in answer


async def test_frames_go_in_and_answers_and_notifications_come_out(market: SmallMarket) -> None:
    requests = [
        ("private/subscribe", {"channels": ["user.orders.any.any.raw", "batch.any"]}),
        ("private/buy", {"instrument_name": PERPETUAL, "amount": 0.01, "price": 99_000}),
        ("public/get_time", {}),
    ]
    for number, (method, params) in enumerate(requests):
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await market.ann.send(msgspec.json.encode(message))
    await asyncio.sleep(0)
    market.sequencer.flush()
    got = [msgspec.json.decode(await market.ann.receive()) for _ in range(5)]
    assert got[0]["id"] == 0, "the answer comes before what its subscription shows at once"
    assert got[1]["params"]["channel"] == "batch.any"
    assert {row["id"] for row in got if "id" in row} == {0, 1, 2}
    told = [row["params"]["channel"] for row in got if "id" not in row]
    assert told == ["batch.any", "user.orders.any.any.raw"]


async def test_query_text_is_read_as_numbers_and_truth_values(market: SmallMarket) -> None:
    params = {"instrument_name": PERPETUAL, "amount": "0.01", "price": "99000.5",
              "reduce_only": "false"}  # fmt: skip
    task = asyncio.ensure_future(
        market.dispatcher.handle(market.ann.session, "private/buy", params)
    )
    await asyncio.sleep(0)
    market.sequencer.flush()
    order = (await task)["order"]  # type: ignore[index]
    assert (order.price, order.amount, order.reduce_only) == (99_000.5, 0.01, False)


async def test_a_reader_that_is_too_slow_is_disconnected(market: SmallMarket) -> None:
    slow = market.hub.connect("bob", outbox_frames=3)
    quick = market.hub.connect("bob")
    for who in (slow, quick):
        await market.ask(who, "public/subscribe", channels=["batch.any"])
    await market.ask(slow, "batch/register")
    market.close_batch()
    assert slow.closed
    assert "slow" in slow.closed_because
    assert not quick.closed
    assert len(heard(quick)) == 4
    assert slow.session not in market.dispatcher.readiness.registered
    received = [await slow.receive() for _ in range(3)]
    assert len(received) == 3
    with pytest.raises(ConnectionClosed):
        await slow.receive()
    with pytest.raises(ConnectionClosed):
        await slow.request("public/test")
    market.close_batch()
    assert len(heard(quick)) == 3


async def test_a_failure_inside_the_venue_is_loud_and_ends_the_connection(
    market: SmallMarket,
) -> None:
    heard_of: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard_of.append(str(context["exception"])))
    entry = market.dispatcher.entries["public/test"]

    def broken(session: object, params: object) -> object:
        raise ZeroDivisionError("broken")

    market.dispatcher.entries["public/test"] = msgspec.structs.replace(entry, query=broken)
    await market.ann.send(b'{"method":"public/test"}')
    with pytest.raises(ConnectionClosed, match="the venue failed"):
        await market.ann.receive()
    assert heard_of == ["broken"]


async def test_closing_ends_the_stream_of_notifications(market: SmallMarket) -> None:
    await market.ask(market.ann, "public/subscribe", channels=["batch.any"])
    seen = []

    async def listen() -> None:
        async for message in market.ann.notifications():
            seen.append(message)

    task = asyncio.ensure_future(listen())
    market.close_batch()
    await asyncio.sleep(0)
    market.ann.close()
    market.ann.close()
    await asyncio.wait_for(task, 5)
    assert len(seen) == 4
    assert market.ann not in market.hub.connections


async def test_the_batch_may_close_when_every_registered_session_is_ready(
    market: SmallMarket,
) -> None:
    for who in (market.ann, market.bob):
        assert (await market.ask(who, "batch/register"))["batch"] == 1
    assert await market.ask(market.ann, "batch/ready") == {"batch": 1, "counted": True}
    assert not await market.hub.all_ready(cap=10)
    assert await market.ask(market.bob, "batch/ready", batch=0) == {"batch": 1, "counted": False}
    assert not await market.hub.all_ready(cap=10), "a word for another batch does not count"
    await market.ask(market.bob, "batch/ready", batch=1)
    assert await market.hub.all_ready(cap=10)
    market.close_batch()
    assert not await market.hub.all_ready(cap=10), "each batch is waited for anew"
    market.bob.close()
    await market.ask(market.ann, "batch/ready")
    assert await market.hub.all_ready(cap=10), "who left is waited for no more"


async def test_only_registered_sessions_are_ready(market: SmallMarket) -> None:
    assert (await market.refusal(market.ann, "batch/ready"))["code"] == 11050
    assert await market.hub.all_ready(cap=3)
    assert not await market.hub.all_ready(cap=3, sessions=1)


async def a_bot(connection: MemoryConnection, price: float, log: list[str]) -> None:
    """Each batch: a few orders, one after another, then ready."""
    await connection.request("private/subscribe", {"channels": ["batch.any"]})
    await connection.request("batch/register")
    async for message in connection.notifications():
        data = message["params"]["data"]  # type: ignore[index, call-overload]
        if data["phase"] != "collecting":
            continue
        for step in range(3):
            answer = await connection.request(
                "private/buy" if price > 0 else "private/sell",
                {"instrument_name": PERPETUAL, "amount": 0.001, "price": abs(price) + step},
            )
            log.append(answer["result"]["order"]["order_id"])  # type: ignore[index, call-overload]
        await connection.request("batch/ready", {"batch": data["batch"]})


async def run_bots() -> tuple[list[str], bytes]:
    market, log = SmallMarket(), []  # type: ignore[var-annotated]
    tasks = [asyncio.ensure_future(a_bot(market.hub.connect(name), price, log))
             for name, price in (("ann", 100_000), ("bob", -99_999), ("ann", 100_001))]  # fmt: skip
    for _ in range(5):
        assert await market.hub.all_ready(cap=500, sessions=3)
        market.close_batch()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return log, market.state.last_hash


async def test_clients_in_one_process_give_the_same_market_every_time() -> None:
    first, second = await run_bots(), await run_bots()
    assert len(first[0]) == 45
    assert first == second
