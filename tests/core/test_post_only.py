"""Post-only orders are measured against the last print, and against nothing else."""

from __future__ import annotations

import msgspec
import pytest

from exchange.core.auction.clearing import INTERRUPTED
from exchange.core.commands import EditOrder, PlaceOrder, decode_command, encode_command
from exchange.core.engine import Engine
from exchange.core.reject_reason import RejectReason as R
from tests.core.market import BUY, SELL, Market, print_of

PRINT = 200_000  # ticks


@pytest.fixture
def printed(market: Market) -> Market:
    """The venue after a trade at `PRINT`."""
    market.trade(market.account("ann"), market.account("bob"), 5, PRINT)
    return market


@pytest.mark.parametrize(
    ("side", "price", "refused"),
    [
        (BUY, PRINT - 1, False),
        (BUY, PRINT, True),
        (BUY, PRINT + 1, True),
        (SELL, PRINT + 1, False),
        (SELL, PRINT, True),
        (SELL, PRINT - 1, True),
        (BUY, 0, True),
        (SELL, 0, True),
    ],
)
def test_what_the_last_print_would_have_filled_is_refused(
    printed: Market, side: int, price: int, refused: bool
) -> None:
    if refused:
        assert printed.refused_order(0, side, 1, price, post_only=True) == R.POST_ONLY_WOULD_TRADE
    else:
        assert printed.open_lots(printed.place(0, side, 1, price, post_only=True)) == 1
    printed.place(0, side, 1, price)


def test_before_the_first_print_only_market_orders_are_refused(market: Market) -> None:
    ann = market.account("ann")
    market.place(ann, BUY, 1, 205_000, post_only=True)
    assert market.refused_order(ann, BUY, 1, post_only=True) == R.POST_ONLY_WOULD_TRADE


def test_auctions_without_volume_are_no_prints(printed: Market) -> None:
    printed.place(0, BUY, 1, 150_000)
    assert print_of(printed.cycle())[2] == 0
    assert printed.refused_order(0, BUY, 1, PRINT, post_only=True) == R.POST_ONLY_WOULD_TRADE
    printed.place(0, BUY, 3, 230_000)
    printed.place(1, SELL, 3, 230_000)
    assert print_of(printed.cycle())[0] == INTERRUPTED
    printed.place(0, BUY, 1, PRINT - 1, post_only=True)
    assert printed.refused_order(0, BUY, 1, PRINT, post_only=True) == R.POST_ONLY_WOULD_TRADE


def test_an_order_once_accepted_trades_like_any_other(printed: Market) -> None:
    order = printed.place(0, BUY, 2, PRINT - 10, post_only=True)
    printed.place(1, SELL, 2, PRINT - 10)
    assert print_of(printed.cycle())[1:] == (PRINT - 10, 2)
    assert printed.open_lots(order) == 0


def test_an_edited_order_stays_post_only(printed: Market) -> None:
    order = printed.place(0, BUY, 3, PRINT - 5, post_only=True)
    assert printed.refused(EditOrder, 0, order, PRINT, 3) == R.POST_ONLY_WOULD_TRADE
    assert printed.open_lots(order) == 3
    printed.edit(0, order, PRINT - 1, 3)
    free = printed.place(0, BUY, 3, PRINT - 5)
    printed.edit(0, free, PRINT, 3)
    printed.cancel(0, free)
    printed.trade(1, printed.account("cleo"), 1, PRINT - 2)
    assert printed.refused(EditOrder, 0, order, PRINT - 1, 4) == R.POST_ONLY_WOULD_TRADE
    printed.edit(0, order, PRINT - 1, 1)
    assert printed.open_lots(order) == 1, "giving up quantity is never refused"


def test_a_refusal_leaves_its_client_order_id_free(printed: Market) -> None:
    again = {"post_only": True, "client_order_id": "mine"}
    assert printed.refused_order(0, BUY, 1, PRINT, **again) == R.POST_ONLY_WOULD_TRADE
    printed.place(0, BUY, 1, PRINT - 1, **again)


def test_the_last_print_survives_a_restart(printed: Market) -> None:
    restored = Engine.restore(printed.engine.snapshot())
    assert restored.state_hash() == printed.engine.state_hash()
    printed.engine = restored
    assert printed.refused_order(0, SELL, 1, PRINT, post_only=True) == R.POST_ONLY_WOULD_TRADE


def test_the_last_print_is_part_of_the_state_hash(printed: Market) -> None:
    before = printed.engine.state_hash()
    printed.state.last_prints.price_ticks[0] += 1
    assert printed.engine.state_hash() != before


def test_payloads_without_the_flag_still_decode() -> None:
    command = PlaceOrder(1, 2, 0, BUY, PRINT, 3, False, True, "mine")
    fields = msgspec.msgpack.decode(encode_command(command)[1])
    assert decode_command("PlaceOrder", msgspec.msgpack.encode(fields[:-1])) == command
