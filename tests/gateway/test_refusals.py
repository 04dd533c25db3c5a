"""Every refusal has its code, names its reason, and changes nothing."""

from __future__ import annotations

import pytest

from exchange.core.commands import Halt
from exchange.core.reject_reason import RejectReason
from exchange.gateway.errors import CODES, refused
from tests.gateway.small_market import PERPETUAL, SmallMarket

GOOD = {"instrument_name": PERPETUAL, "amount": 0.01, "price": 100_000}


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket()


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"price": 100_000.25}, 10043, None),
        ({"price": 0}, 10023, RejectReason.PRICE_NOT_POSITIVE),
        ({"price": -5}, 10023, RejectReason.PRICE_NOT_POSITIVE),
        ({"price": 1_000_000.5}, 10007, RejectReason.PRICE_TOO_HIGH),
        ({"price": 1e300}, 10007, RejectReason.PRICE_TOO_HIGH),
        ({"amount": 0.0105}, 10021, None),
        ({"amount": 0.0005}, 10021, None),
        ({"amount": 0}, 10002, RejectReason.QUANTITY_NOT_POSITIVE),
        ({"amount": -1}, 10002, RejectReason.QUANTITY_NOT_POSITIVE),
        ({"amount": 1e300}, 10021, RejectReason.QUANTITY_TOO_LARGE),
        ({"amount": 100}, 10009, RejectReason.MARGIN_INSUFFICIENT),
        ({"instrument_name": "BTC-NOWHERE"}, 13020, RejectReason.INSTRUMENT_UNKNOWN),
        ({"type": "market"}, 10023, RejectReason.MARKET_ORDER_WITH_PRICE),
        ({"price": None}, -32602, None),
        ({"post_only": True, "time_in_force": "immediate_or_cancel"}, 11047, None),
        ({"contracts": 11}, -32602, None),
        ({"max_show": 0.005}, 10024, None),
        ({"display_amount": 0}, 10024, None),
        ({"display_amount": "NaN"}, 10024, None),
        ({"time_in_force": "fill_or_kill"}, -32602, None),
        ({"type": "stop_limit"}, -32602, None),
        ({"client_order_id": "x" * 65}, -32602, None),
        ({"label": "x" * 65}, -32602, None),
        ({"trigger_price": 1}, -32602, None),
        ({"amount": "much"}, -32602, None),
        ({"amount": True}, -32602, None),
        ({"amount": [1]}, -32602, None),
        ({"reduce_only": 1}, -32602, None),
        ({"instrument_name": 5}, -32602, None),
    ],
)
@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_an_order_that_cannot_be_is_refused(
    market: SmallMarket,
    change: dict[str, object],
    code: int,
    reason: RejectReason | None,
    side: str,
) -> None:
    error = await market.refusal(market.ann, f"private/{side}", **{**GOOD, **change})
    assert error["code"] == code
    assert error["data"]["reason"]
    if reason is not None:
        assert error["data"]["reject_reason"] == reason
    assert await market.ask(market.ann, "private/get_open_orders") == []


async def test_the_error_names_the_parameter(market: SmallMarket) -> None:
    for change, param in (({"price": 0.3}, "price"), ({"amount": 0.3337}, "amount"),
                          ({"amount": "x"}, "amount"), ({"bogus": 1}, "bogus")):  # fmt: skip
        error = await market.refusal(market.ann, "private/buy", **{**GOOD, **change})
        assert error["data"]["param"] == param
    error = await market.refusal(market.ann, "private/buy", instrument_name=PERPETUAL)
    assert error["data"]["param"] == "amount"


async def test_a_choice_that_is_none_is_told_what_may_be_chosen(market: SmallMarket) -> None:
    for method, change, words in (
        ("private/buy", {**GOOD, "type": "stop_limit"}, "allowed: limit, market"),
        ("public/get_instruments", {"kind": "swap"}, "allowed: future, option, spot"),
        ("private/get_open_orders", {"type": "stop"}, "'stop' - at `$.type`; allowed: "),
    ):
        error = await market.refusal(market.ann, method, **change)
        assert error["code"] == -32602
        assert words in error["data"]["reason"]
        assert error["data"]["param"] in ("type", "kind")


async def test_unknown_methods_and_parameters_are_refused(market: SmallMarket) -> None:
    assert (await market.refusal(market.ann, "public/nothing"))["code"] == -32601
    assert (await market.refusal(market.ann, "private/get_positions", bogus=1))["code"] == -32602
    for params in (b"[1]", b"3", b'"x"', b'{"currency":3}'):
        frame = b'{"jsonrpc":"2.0","id":1,"method":"private/get_positions","params":%b}' % params
        answer = await market.ann.request_frame(frame)
        assert answer["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"", -32700), (b"{", -32700), (b"\xff", -32700), (b"{'a':1}", -32700), (b"[]", -32600),
     (b"{}", -32600), (b'{"method":5}', -32600), (b"null", -32600),
     (b'{"method":"public/test","params":' + b"[" * 50_000, -32700),
     (b'{"method":"' + b"x" * (1 << 21) + b'"}', -32600)],
)  # fmt: skip
async def test_a_frame_that_is_no_request_is_answered_as_such(
    market: SmallMarket, frame: bytes, code: int
) -> None:
    answer = await market.ann.request_frame(frame)
    assert answer["error"]["code"] == code
    assert answer["id"] is None
    assert "result" not in answer


async def test_private_methods_need_an_account_and_its_scope(market: SmallMarket) -> None:
    visitor = market.hub.connect()
    assert (await market.refusal(visitor, "private/buy", **GOOD))["code"] == 13009
    assert (await market.refusal(visitor, "private/get_positions"))["code"] == 13009
    assert (await market.refusal(visitor, "batch/register"))["code"] == 13009
    reader = market.hub.connect("ann", scopes=frozenset({"read"}))
    assert await market.ask(reader, "private/get_positions") == []
    assert (await market.refusal(reader, "private/buy", **GOOD))["code"] == 13021
    with pytest.raises(LookupError):
        market.hub.connect("nobody")


async def test_orders_that_are_not_there_or_not_yours(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.01, 90_000)
    name = order["order_id"]
    for method in ("private/cancel", "private/get_order_state"):
        assert (await market.refusal(market.bob, method, order_id=name))["code"] == 10029
        assert (await market.refusal(market.bob, method, order_id="999"))["code"] == 10004
        assert (await market.refusal(market.bob, method, order_id="junk"))["code"] == 10004
    for name_, code in ((name, 10029), ("999", 10004), ("junk", 10004)):
        error = await market.refusal(market.bob, "private/edit", order_id=name_, price=90_001)
        assert error["code"] == code
    await market.ask(market.ann, "private/cancel", order_id=name)
    assert (await market.refusal(market.ann, "private/cancel", order_id=name))["code"] == 11044
    error = await market.refusal(market.ann, "private/edit", order_id=name, price=90_001)
    assert error["code"] == 10010
    error = await market.refusal(
        market.ann, "private/get_order_state_by_client_order_id", client_order_id="none"
    )
    assert error["code"] == 10004


async def test_edits_that_cannot_be(market: SmallMarket) -> None:
    limit = (await market.buy(market.ann, 0.01, 100_000))["order_id"]
    market_order = (await market.buy(market.ann, 0.01))["order_id"]
    for change, code in (({}, -32602), ({"price": 0.3}, 10043), ({"amount": 0.0001}, 10021),
                         ({"price": 0}, 10023), ({"amount": 100}, 10009),
                         ({"price": 2_000_000}, 10007)):  # fmt: skip
        error = await market.refusal(market.ann, "private/edit", order_id=limit, **change)
        assert error["code"] == code, change
    error = await market.refusal(market.ann, "private/edit", order_id=market_order, amount=0.02)
    assert error["code"] == 11043
    await market.sell(market.bob, 0.015, 100_000)
    market.close_batch()
    left = await market.ask(market.ann, "private/get_order_state", order_id=limit)
    assert left["filled_amount"] == 0.005
    error = await market.refusal(market.ann, "private/edit", order_id=limit, amount=0.005)
    assert error["code"] == 10021


async def test_money_that_cannot_move(market: SmallMarket) -> None:
    for change, code in (({"currency": "XYZ"}, 11029), ({"amount": 0}, 11029),
                         ({"amount": -1}, 11029), ({"amount": 1e-7}, 11029),
                         ({"amount": 1e30}, 11029), ({"amount": "NaN"}, -32602)):  # fmt: skip
        for method in ("private/deposit", "private/withdraw"):
            params = {"currency": "USDC", "amount": 1, **change}
            assert (await market.refusal(market.ann, method, **params))["code"] == code, change
    error = await market.refusal(
        market.ann, "private/withdraw", currency="USDC", amount=1_000_000.000001
    )
    assert error["code"] == 10009
    assert error["data"]["reject_reason"] == RejectReason.INSUFFICIENT_FUNDS


async def test_a_halted_instrument_takes_no_orders(market: SmallMarket) -> None:
    market.sequencer.commit([Halt(market.sequencer.now_ns(), 0, True)])
    assert (await market.refusal(market.ann, "private/buy", **GOOD))["code"] == 10012
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=PERPETUAL)
    assert ticker["state"] == "halted"


async def test_a_stopped_venue_says_so(market: SmallMarket) -> None:
    market.sequencer.stopped = RuntimeError("disk full")
    assert (await market.refusal(market.ann, "private/buy", **GOOD))["code"] == 11094
    assert (await market.ask(market.ann, "public/status"))["locked"] == "true"


async def test_queries_name_what_does_not_exist(market: SmallMarket) -> None:
    for method in ("public/ticker", "public/get_order_book", "public/get_instrument",
                   "private/get_position", "private/get_order_history_by_instrument",
                   "private/cancel_all_by_instrument", "public/get_batch"):  # fmt: skip
        assert (await market.refusal(market.ann, method, instrument_name="NO"))["code"] == 13020
    assert (await market.refusal(market.ann, "public/get_index_price", index_name="x"))[
        "code"
    ] == 13020
    error = await market.refusal(market.ann, "private/get_account_summary", currency="XYZ")
    assert error["code"] == 11029
    error = await market.refusal(market.ann, "public/test", expected_result="exception")
    assert error["code"] == 10001


def test_every_reason_of_the_engine_has_a_code() -> None:
    for reason in RejectReason:
        if reason:
            error = refused(reason)
            assert error.code == CODES[reason][0]
            assert error.data is not None
            assert error.data["reject_reason"] == reason


def test_codes_are_those_that_clients_know() -> None:
    known = {RejectReason.MARGIN_INSUFFICIENT: 10009, RejectReason.ORDER_UNKNOWN: 10004,
             RejectReason.ORDER_NOT_OPEN: 11044, RejectReason.ORDER_NOT_OWNED: 10029,
             RejectReason.INSTRUMENT_UNKNOWN: 13020, RejectReason.CYCLE_OPEN: 10040,
             RejectReason.QUANTITY_NOT_POSITIVE: 10002}  # fmt: skip
    assert {reason: CODES[reason][0] for reason in known} == known
    assert refused(RejectReason.ORDER_NOT_OPEN, edit=True).code == 10010
    assert refused(RejectReason.ORDER_OF_LIQUIDATION, edit=True).code == 10046
