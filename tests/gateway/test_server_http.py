"""Requests over HTTP: text in the address, JSON-RPC in the body, one answer each."""

from __future__ import annotations

import json

import pytest

from exchange.gateway.methods import METHODS
from tests.gateway.served_market import Client, header, served
from tests.gateway.small_market import PERPETUAL

ORDER = {"instrument_name": PERPETUAL, "amount": "0.01", "price": "99000.5"}


def uri(method: str, params: dict[str, str]) -> str:
    return f"/api/v2/{method}?" + "&".join(f"{k}={v}" for k, v in params.items())


async def test_an_order_comes_as_text_in_the_address() -> None:
    async with served() as market:
        params = {**ORDER, "reduce_only": "false", "type": "limit"}
        signed = header("GET", uri("private/buy", params))
        status, answer = await market.get("private/buy", signed, **params)
        assert status == 200
        order = answer["result"]["order"]
        assert (order["price"], order["amount"], order["reduce_only"]) == (99_000.5, 0.01, False)
        params = {"order_id": order["order_id"]}
        signed = header("GET", uri("private/cancel", params))
        status, answer = await market.get("private/cancel", signed, **params)
        assert answer["result"]["order_state"] == "cancelled"


@pytest.mark.parametrize(
    ("change", "code"),
    [({"price": "99000.3"}, 10043), ({"price": "abc"}, -32602), ({"amount": "NaN"}, -32602),
     ({"amount": "1e400"}, 10021), ({"reduce_only": "maybe"}, -32602), ({"amount": ""}, -32602),
     ({"instrument_name": "NO-SUCH"}, 13020), ({"surely_unknown": "1"}, -32602),
     ({"price": "-1"}, 10023), ({"amount": "0.0001"}, 10021), ({"amount": "5000"}, 10021)],
    ids=str,
)  # fmt: skip
async def test_a_bad_order_has_its_code_and_changes_nothing(
    change: dict[str, str], code: int
) -> None:
    async with served() as market:
        before = market.engine.state_hash()
        params = {**ORDER, **change}
        signed = header("GET", uri("private/buy", params))
        status, answer = await market.get("private/buy", signed, **params)
        assert (status, answer["error"]["code"]) == (400, code), answer
        assert market.engine.state_hash() == before


async def test_json_rpc_in_the_body_of_a_post() -> None:
    async with served() as market:
        body = json.dumps({"jsonrpc": "2.0", "id": 8, "method": "public/get_time", "params": {}})
        for address in ("/api/v2", "/api/v2/public/get_time"):
            status, answer = await market.post(body, address)
            assert (status, answer["id"]) == (200, 8)
            assert answer["result"] == market.clock.now_ns() // 10**6
        status, answer = await market.post("{}", "/api/v2")
        assert (status, answer["error"]["code"]) == (400, -32600)


async def test_a_post_to_a_method_takes_parameters_alone_or_wrapped() -> None:
    async with served() as market:
        address = "/api/v2/public/ticker"
        plain = json.dumps({"instrument_name": PERPETUAL})
        for body in (plain, f'{{"params":{plain}}}', f'{{"id":1,"params":{plain}}}'):
            status, answer = await market.post(body, address)
            assert (status, answer["result"]["instrument_name"]) == (200, PERPETUAL)
        assert (await market.post("", "/api/v2/public/test"))[0] == 200
        status, answer = await market.post('{"method":"public/test"}', address)
        assert answer["error"]["code"] == -32600


@pytest.mark.parametrize(
    "method",
    ["public/subscribe", "private/subscribe", "public/unsubscribe", "public/unsubscribe_all",
     "private/unsubscribe_all", "public/set_heartbeat", "public/disable_heartbeat",
     "private/logout", "private/enable_cancel_on_disconnect",
     "private/get_cancel_on_disconnect", "batch/register", "batch/ready"],
)  # fmt: skip
async def test_what_is_about_a_connection_must_be_a_websocket_request(method: str) -> None:
    async with served() as market:
        example = next(entry.example for entry in METHODS if entry.name == method)
        address = f"/api/v2/{method}"
        signed = header("POST", address, example)
        status, answer = await market.post(example, address, signed)
        assert (status, answer["error"]["code"]) == (400, 10030)


async def test_a_stranger_gets_public_methods_only() -> None:
    async with served() as market:
        assert (await market.get("public/get_instruments"))[0] == 200
        status, answer = await market.get("private/get_positions")
        assert (status, answer["error"]["code"]) == (400, 13009)
        status, answer = await market.get("public/no_such_method")
        assert (status, answer["error"]["code"]) == (400, -32601)
        status, answer = await market.get("nowhere")
        assert (status, answer["error"]["code"]) == (404, 13020)


async def test_a_parameter_that_comes_twice_is_refused() -> None:
    async with served() as market:
        address = f"/api/v2/public/ticker?instrument_name={PERPETUAL}&instrument_name=x"
        async with market.http.get(address) as response:
            answer = await response.json()
        assert answer["error"]["code"] == -32602
        assert answer["error"]["data"]["param"] == "instrument_name"


async def test_cancel_by_account_scope_may_be_set_over_http() -> None:
    async with served() as market:
        body = '{"scope":"account"}'
        address = "/api/v2/private/enable_cancel_on_disconnect"
        status, _ = await market.post(body, address, header("POST", address, body))
        assert status == 200
        client: Client = await market.connect("ann")
        assert (await client.ask("private/get_cancel_on_disconnect"))["enabled"] is True
