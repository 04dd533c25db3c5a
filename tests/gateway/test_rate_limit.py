"""Request credits: a burst, a steady rate, and the wait that the refusal tells."""

from __future__ import annotations

import pytest

from exchange.gateway import rate_limit
from exchange.gateway.errors import WireError
from exchange.gateway.rate_limit import Rate, RateLimit
from exchange.gateway.session import Session
from tests.gateway.served_market import served
from tests.gateway.test_authentication import Wall

MS = 10**6


def session(account: int | None, address: str = "1.2.3.4") -> Session:
    return Session(account, lambda channel, frame: None, address=address)


def spent(limit: RateLimit, who: Session, trading: bool = False) -> int:
    """How many requests pass before one is refused."""
    for count in range(10_000):
        try:
            limit.spend(who, trading)
        except WireError:
            return count
    raise AssertionError("nothing limits it")


def test_a_full_pool_allows_its_burst_and_then_the_rate() -> None:
    wall = Wall()
    limit = RateLimit(wall)
    ann = session(0)
    assert spent(limit, ann) == 100
    wall.time_ns += 1_000 * MS
    assert spent(limit, ann) == 20
    wall.time_ns += 3_600_000 * MS
    assert spent(limit, ann) == 100, "no more than the pool is saved up"


def test_the_refusal_says_how_long_to_wait() -> None:
    wall = Wall()
    limit = RateLimit(wall, Rate(500, 500, 10_000))
    ann = session(0)
    limit.spend(ann, trading=False)
    wall.time_ns += 10 * MS
    with pytest.raises(WireError) as caught:
        limit.spend(ann, trading=False)
    assert caught.value.data is not None
    assert caught.value.data["wait"] == 40
    wall.time_ns += 40 * MS - 1
    assert spent(limit, ann) == 0
    wall.time_ns += 1
    assert spent(limit, ann) == 1


def test_accounts_addresses_and_kinds_have_their_own_buckets() -> None:
    limit = RateLimit(Wall())
    ann, bob = session(0), session(1)
    assert spent(limit, ann) == 100
    assert spent(limit, session(0, "5.6.7.8")) == 0, "an account is one, from wherever"
    assert spent(limit, ann, trading=True) == 20
    assert spent(limit, bob) == 100
    assert spent(limit, session(None)) == 100
    assert spent(limit, session(None)) == 0, "strangers share by address"
    assert spent(limit, session(None, "5.6.7.8")) == 100


def test_a_clock_that_goes_back_gives_nothing() -> None:
    wall = Wall()
    limit = RateLimit(wall)
    spent(limit, session(0))
    for _ in range(5):
        wall.time_ns -= 10_000 * MS
        assert spent(limit, session(0)) == 0
        wall.time_ns += 10_000 * MS
        assert spent(limit, session(0)) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "BUCKETS_MAX", 100)
    wall = Wall()
    limit = RateLimit(wall)
    for number in range(150):
        wall.time_ns += 50 * MS
        limit.spend(session(None, str(number)), trading=False)
        limit.spend(session(None, "busy"), trading=False)
        assert len(limit._buckets) <= 100
    assert (False, "busy") in limit._buckets, "who comes often is remembered"
    assert (False, "149") in limit._buckets
    assert (False, "20") not in limit._buckets, "the longest silent are forgotten"


async def test_over_a_socket_it_is_off_unless_asked_for() -> None:
    async with served() as market:
        client = await market.connect("ann")
        for _ in range(300):
            await client.ask("public/test")
        wall = Wall()
        market.dispatcher.limits = RateLimit(wall, Rate(500, 1_000, 1_000))
        await client.ask("public/test")
        await client.ask("public/test")
        refused = await client.refusal("public/test")
        assert (refused["code"], refused["message"]) == (10028, "too_many_requests")
        assert refused["data"]["wait"] == 500
        wall.time_ns += 500 * MS
        assert await client.ask("public/test")
        status, _ = await market.get("public/test")
        assert status == 200
        await market.get("public/test")
        assert (await market.get("public/test"))[0] == 429


async def test_exhaustion_may_end_the_session() -> None:
    async with served() as market:
        client = await market.connect("ann")
        market.dispatcher.limits = RateLimit(Wall(), Rate(500, 500, 1), close_on_exhaustion=True)
        await client.ask("public/test")
        assert (await client.refusal("public/test"))["code"] == 10028
        assert await client.ended() == 1008
