"""A client order id names one order of an account for a stated number of cycles."""

from __future__ import annotations

import msgspec
import pytest

from exchange.core.engine import Engine
from exchange.core.stored.client_orders import ClientOrders
from tests.core.market import BUY, Market, tiny


def test_an_id_is_forgotten_after_its_cycles_and_not_before() -> None:
    ids = ClientOrders(2)
    ids.remember(1, "a", 10)
    ids.close_cycle()
    ids.close_cycle()
    assert ids.find(1, "a") == 10
    ids.close_cycle()
    assert ids.find(1, "a") is None


def test_accounts_have_names_of_their_own() -> None:
    ids = ClientOrders(2)
    ids.remember(1, "a", 10)
    assert ids.find(2, "a") is None
    ids.remember(2, "a", 11)
    assert (ids.find(1, "a"), ids.find(2, "a")) == (10, 11)


def filled() -> ClientOrders:
    ids = ClientOrders(3)
    for cycle in range(5):
        ids.remember(cycle, f"id {cycle}", 100 + cycle)
        if cycle < 4:
            ids.close_cycle()
    return ids


def everything(ids: ClientOrders) -> dict[str, bytes]:
    return {**dict(ids.parts()), "client_orders.entries": ids.entries()}


def test_the_memory_survives_a_snapshot() -> None:
    ids, copy = filled(), ClientOrders(3)
    copy.load(everything(ids))
    assert everything(copy) == everything(ids)
    assert copy.find(0, "id 0") is None
    assert [copy.find(n, f"id {n}") for n in range(1, 5)] == [101, 102, 103, 104]
    copy.close_cycle()
    assert copy.find(1, "id 1") is None


def test_a_snapshot_whose_ids_do_not_match_their_digests_is_refused() -> None:
    parts = everything(filled())
    closed = msgspec.msgpack.decode(parts["client_orders.entries"])
    closed[0][0][2] += 1
    parts["client_orders.entries"] = msgspec.msgpack.encode(closed)
    with pytest.raises(ValueError, match="digests"):
        ClientOrders(3).load(parts)


def test_the_venue_remembers_for_as_many_cycles_as_it_says() -> None:
    market = Market(tiny(client_order_id_cycles=2))
    ann = market.account("ann")
    first = market.place(ann, BUY, 1, 190_000, client_order_id="x")
    market.cycle()
    market.engine = Engine.restore(market.engine.snapshot())
    market.cycle()
    assert market.place(ann, BUY, 1, 190_000, client_order_id="x") == first
    market.cycle()
    assert market.place(ann, BUY, 1, 190_000, client_order_id="x") != first
