"""Whatever comes over the wire: the right error or close code, no change, the next one served."""

from __future__ import annotations

import asyncio
import json
import random
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from tests.gateway.served_market import ServedMarket, served
from tests.gateway.small_market import PERPETUAL

BUY = '{"jsonrpc":"2.0","id":1,"method":"private/buy","params":{"instrument_name":"%s",%%s}}'
BUY %= PERPETUAL
ORDER = '"amount":0.01,"price":99000'
TRADES = "public/get_last_trades_by_instrument"
DEEP = 20_000


def request(method: str, params: str) -> str:
    """A request with the text of its parameters."""
    return f'{{"method":"{method}","params":{{{params}}}}}'


NO_JSON = ["", " ", "{", "[", "nonsense", "{'a':1}", '{"a":1,}', "\x00", '{"id":1}}', "NaN",
           '{"method":NaN}', '{"method":"public/test","id":Infinity}', '{"a":"\x01"}',
           '{"method":"\\ud800"}', "[" * DEEP, '{"a":' * 9_000,
           '{"method":"public/test","params":' + "[" * 9_000 + "]" * 9_000 + "}",
           BUY % '"amount":NaN,"price":1', BUY % '"amount":-Infinity,"price":1',
           BUY % '"amount":0x10,"price":1', BUY % '"amount":01,"price":1',
           BUY % '"amount":.5,"price":1', BUY % '"amount":1.,"price":1']  # fmt: skip
NO_REQUEST = ["[]", "1", '"text"', "null", "true", "{}", '{"method":1}', '{"method":null}',
              '{"method":["public/test"]}', '[{"method":"public/test"}]',
              '{"method":"public/test","id":{}}', '{"method":"public/test","id":[1]}',
              '{"method":"public/test","id":true}', '{"method":"public/test","jsonrpc":"1.0"}',
              '{"method":"public/test","jsonrpc":2}',
              '{"method":"public/test","method":"private/cancel_all"}',
              '{"id":1,"id":2,"method":"public/test"}']  # fmt: skip
BAD_PARAMETERS = [
    '{"method":"public/test","params":[]}', '{"method":"public/test","params":1}',
    '{"method":"public/test","params":"text"}', '{"method":"public/test","params":{"surely":1}}',
    BUY % '"amount":"x","price":1', BUY % '"amount":true,"price":1', BUY % '"amount":null',
    BUY % '"amount":[1],"price":1', BUY % '"amount":{"a":1},"price":1', BUY % '"price":1',
    BUY % '"amount":"NaN","price":1', BUY % '"amount":"Infinity","price":1',
    BUY % '"amount":0.01,"price":"sNaN"', BUY % f"{ORDER},\"amount\":5",
    BUY % f'{ORDER},"price":1,"price":2', BUY % f'{ORDER},"label":1', BUY % f'{ORDER},"label":null',
    BUY % f'{ORDER},"label":"{"x" * 70}"', BUY % f'{ORDER},"reduce_only":1',
    BUY % f'{ORDER},"reduce_only":"perhaps"', BUY % f'{ORDER},"time_in_force":"for_ever"',
    BUY % f'{ORDER},"type":"stop"', BUY % f'{ORDER},"surely_unknown":0',
    BUY % f'{ORDER},"access_token":1',
    request("public/ticker", '"instrument_name":"' + "x" * 1_000 + '"'),
    request("public/subscribe", '"channels":"batch.any"'),
    request("public/subscribe", '"channels":[' + ",".join(['"a"'] * 1_001) + "]"),
    request(TRADES, f'"instrument_name":"{PERPETUAL}","count":' + "9" * 400),
    request(TRADES, f'"instrument_name":"{PERPETUAL}","start_timestamp":' + "9" * 5_000),
    request("public/set_heartbeat", '"interval":1e999'),
]  # fmt: skip
NUMBERS = [("1" + "0" * 4_000, 10021), ("1e999999999", 10021), ("1e-999999999", 10021),
           ("9" * 5_000, 10021), ("0." + "0" * 4_000 + "1", 10021), ("-1e999999999", 10002),
           ("0", 10002), ("-0.0", 10002), ("9223372036854775808", 10021),
           ("18446744073709551616", 10021)]  # fmt: skip
CASES = [(text, -32700) for text in NO_JSON]
CASES += [(text, -32600) for text in NO_REQUEST]
CASES += [(text, -32602) for text in BAD_PARAMETERS]
CASES += [(BUY % f'"amount":{text},"price":99000', code) for text, code in NUMBERS]
CASES += [('{"method":"no_such/method"}', -32601), ('{"method":""}', -32601)]


@pytest.fixture
async def market() -> AsyncIterator[ServedMarket]:
    async with served() as running:
        yield running


async def serves_the_next(market: ServedMarket) -> None:
    """A new client over either transport is answered."""
    client = await market.connect("bob")
    assert await client.ask("private/get_open_orders") == []
    await client.socket.close()
    assert (await market.get("public/test"))[0] == 200


async def test_every_malformed_frame_has_its_code_and_changes_nothing(
    market: ServedMarket,
) -> None:
    client = await market.connect("ann")
    before = market.engine.state_hash()
    for text, code in CASES:
        await client.socket.send_str(text)
        answer = await client.receive()
        assert "error" in answer, (text[:200], answer)
        assert answer["error"]["code"] == code, (text[:200], answer)
        assert answer["jsonrpc"] == "2.0"
        assert len(json.dumps(answer)) < 2_000, "an error does not echo what it refuses"
    assert market.engine.state_hash() == before
    assert market.open_orders() == []
    assert await client.ask("public/test"), "the same connection goes on"
    await serves_the_next(market)


async def test_every_malformed_body_has_the_same_code_over_http(market: ServedMarket) -> None:
    _, answer = await market.get("public/auth", grant_type="client_credentials",
                                 client_id="ann-key", client_secret="ann-secret")  # fmt: skip
    bearer = {"Authorization": f"Bearer {answer['result']['access_token']}"}
    before = market.engine.state_hash()
    for text, code in CASES:
        if "public/subscribe" in text or "public/set_heartbeat" in text:
            continue
        status, answer = await market.post(text.encode(), headers=bearer)
        assert (status, answer["error"]["code"]) == (400, code), (text[:200], answer)
    assert market.engine.state_hash() == before
    await serves_the_next(market)


async def test_nesting_has_a_bound_that_text_in_quotes_does_not_count_for(
    market: ServedMarket,
) -> None:
    client = await market.connect()

    def nested(levels: int) -> str:
        inner = levels - 2  # the request and its parameters are two
        return '{"id":1,' + request("public/test", f'"a":{"[" * inner}{"]" * inner}')[1:]

    assert (await client.answer_text(nested(16), 1))["error"]["code"] == -32602
    assert (await client.answer_text(nested(17)))["error"]["code"] == -32700
    quoted = '{"id":1,' + request("public/hello", f'"client_name":"\\"{"[" * 40}"')[1:]
    assert "result" in await client.answer_text(quoted, 1)


async def test_equal_keys_are_refused_however_they_are_written(market: ServedMarket) -> None:
    client = await market.connect("ann")
    text = BUY % f'{ORDER},"pr\\u0069ce":98000'
    answer = await client.answer_text(text, 1)
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"]["param"] == "price"
    assert market.open_orders() == []


@pytest.mark.parametrize(
    "body", [b'{"method":"\xff"}', b"\xff\xfe", b'"\xc3\x28"', b"\xed\xa0\x80"]
)
async def test_bytes_that_are_no_utf8(market: ServedMarket, body: bytes) -> None:
    status, answer = await market.post(body)
    assert (status, answer["error"]["code"]) == (400, -32700)
    status, answer = await market.post(body, "/api/v2/public/test")
    assert (status, answer["error"]["code"]) == (400, -32700)
    client = await market.connect("ann")
    await client.socket.send_frame(body, aiohttp.WSMsgType.TEXT)
    assert await client.ended() == 1007
    await serves_the_next(market)


async def test_a_message_up_to_64_kib_is_taken_and_a_longer_one_ends_the_connection(
    market: ServedMarket,
) -> None:
    client = await market.connect()
    fits = '{"id":1,"method":"public/test"}'.ljust(65_536)
    assert "result" in await client.answer_text(fits, 1)
    await client.socket.send_str(fits + " ")
    assert await client.ended() == 1009
    assert (await market.post(fits))[0] == 200
    status, answer = await market.post(fits + " ")
    assert (status, answer["error"]["code"]) == (413, -32600)
    await serves_the_next(market)


def frame(opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """A WebSocket frame as a hostile client would build it."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(data)
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    return head + (bytes(4) if mask else b"") + data


async def handshake(market: ServedMarket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(market.server.host, market.server.port)
    writer.write(
        b"GET /ws/api/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def close_code(market: ServedMarket, *frames: bytes) -> int | None:
    """How the venue closes after these frames; None where it just hangs up."""
    reader, writer = await handshake(market)
    with suppress(ConnectionError):
        for data in frames:
            writer.write(data)
            await writer.drain()
    with suppress(ConnectionError):
        got = await asyncio.wait_for(reader.read(64), 5)
        writer.close()
        if got[:1] == b"\x88":
            return int.from_bytes(got[2:4], "big")
    writer.close()
    return None


TEXT, BINARY, CONTINUATION, PING = 1, 2, 0, 9
REQUEST = b'{"id":1,"method":"public/test"}'


async def test_a_message_in_fragments_is_one_message(market: ServedMarket) -> None:
    reader, writer = await handshake(market)
    for number, byte in enumerate(REQUEST):
        last = number == len(REQUEST) - 1
        opcode = CONTINUATION if number else TEXT
        writer.write(frame(opcode, bytes([byte]), fin=last))
        if not last:
            writer.write(frame(PING, b"between"))
    async with asyncio.timeout(5):
        data = b""
        while b'"result"' not in data:
            data += await reader.read(4096)
    writer.close()


@pytest.mark.parametrize(
    ("frames", "codes"),
    [
        ([frame(TEXT, b"x" * 40_000, fin=False), frame(CONTINUATION, b"x" * 40_000)], {1009}),
        ([frame(TEXT, b"x", fin=False)] + [frame(CONTINUATION, b"x" * 1_000, fin=False)] * 100,
         {1009, None}),
        ([frame(CONTINUATION, b"x")], {1002}),
        ([frame(TEXT, b"x", fin=False), frame(TEXT, b"y")], {1002}),
        ([frame(TEXT, REQUEST, rsv=4)], {1002}),
        ([frame(TEXT, REQUEST, rsv=1)], {1002}),
        ([frame(3, REQUEST)], {1002}),
        ([frame(PING, b"x" * 126)], {1002}),
        ([frame(PING, b"x", fin=False)], {1002}),
        ([b"\x81\xff" + (2**62).to_bytes(8, "big") + bytes(4)], {1009}),
        ([b"\x81\xff" + (2**63 + 5).to_bytes(8, "big") + bytes(4)], {1002, 1009}),
        ([frame(BINARY, REQUEST)], {1003}),
        ([frame(TEXT, b"\xc3", fin=False), frame(CONTINUATION, b"\x28")], {1007}),
    ],
    ids=["oversized in two", "endless fragments", "continues nothing", "starts twice", "rsv1",
         "rsv3", "reserved opcode", "long ping", "ping in two", "giant length", "negative length",
         "binary", "bad text in two"],
)  # fmt: skip
async def test_frames_that_break_the_protocol_end_the_connection(
    market: ServedMarket, frames: list[bytes], codes: set[int | None]
) -> None:
    before = market.engine.state_hash()
    assert await close_code(market, *frames) in codes
    assert market.engine.state_hash() == before
    await serves_the_next(market)


async def test_a_hundred_clients_that_send_noise(market: ServedMarket) -> None:
    chance = random.Random(20_260_101)
    before = market.engine.state_hash()
    for _ in range(100):
        reader, writer = await handshake(market)
        with suppress(ConnectionError):
            writer.write(chance.randbytes(chance.randrange(1, 2_000)))
            await writer.drain()
        writer.close()
        del reader
    assert market.engine.state_hash() == before
    await serves_the_next(market)
    async with asyncio.timeout(10):
        while market.server.connections:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_requests_that_are_mutated_never_break_the_venue(market: ServedMarket) -> None:
    chance = random.Random(42)
    text = (BUY % ORDER).encode()
    client = await market.connect("ann")
    answered = 0
    for _ in range(400):
        mutant = bytearray(text)
        for _ in range(chance.randrange(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.choice(b'{}[]",:0123456789eE.-nulltrx')
        await client.socket.send_str(mutant.decode())
        answer = await client.receive()
        assert "result" in answer or answer["error"]["code"] < 0 or answer["error"]["code"] > 9_999
        answered += 1
    assert answered == 400
    await serves_the_next(market)


@pytest.mark.parametrize(
    "request_line",
    [b"GET /ws/api/v2 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
     b"nonsense\r\n\r\n", b"PUT /api/v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
     b"GET /api/v2/public/test?a=%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /api/v2/public/" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
     b"POST /api/v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
     b"POST /api/v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ids=range(8),
)  # fmt: skip
async def test_http_that_makes_no_sense_is_refused(
    market: ServedMarket, request_line: bytes
) -> None:
    def ask() -> bytes:
        with sockets.create_connection((market.server.host, market.server.port), 5) as raw:
            raw.sendall(request_line)
            raw.shutdown(sockets.SHUT_WR)
            return raw.recv(1_000)

    got = await asyncio.to_thread(ask)
    assert got == b"" or got.split()[1][:1] == b"4", got
    await serves_the_next(market)


async def test_what_a_page_of_another_site_sends_is_refused_before_it_is_read(
    market: ServedMarket,
) -> None:
    evil = {"Origin": "https://evil.example"}
    for body in ('{"method":"public/test"}', "nonsense"):
        status, answer = await market.post(body, headers=evil)
        assert (status, answer["error"]["code"]) == (403, 13021)
