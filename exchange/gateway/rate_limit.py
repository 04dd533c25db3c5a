"""Rates: credit buckets as Deribit has them, off unless the venue is told otherwise.

Every account has two buckets, one for orders and cancels and one for all else; sessions without an
account share one by address. A request that finds its bucket too empty is 10028, with `data.wait`
in milliseconds.
"""

from __future__ import annotations

import msgspec

from exchange.clock import Clock
from exchange.gateway.errors import WireError
from exchange.gateway.session import Ending, Session
from margin.fixed_point import NS_PER_SECOND

BUCKETS_MAX = 10_000
POLICY_VIOLATION = 1008


class Rate(msgspec.Struct, frozen=True):
    """A bucket of `pool` credits that gains `refill` a second; a request costs `cost`."""

    cost: int
    pool: int
    refill: int


READING = Rate(500, 50_000, 10_000)  # 20 a second, 100 at once
TRADING = Rate(500, 10_000, 2_500)  # 5 a second, 20 at once: the lowest tier


class _Bucket(msgspec.Struct):
    """Credits in 10^-9, so that refilling by the nanosecond is exact."""

    credits_e9: int
    time_ns: int


class RateLimit:
    """The buckets of all accounts and addresses."""

    def __init__(self, clock: Clock, reading: Rate = READING, trading: Rate = TRADING, *,
                 close_on_exhaustion: bool = False) -> None:  # fmt: skip
        """`close_on_exhaustion` also ends the session, as Deribit does."""
        self.clock, self.reading, self.trading = clock, reading, trading
        self.close_on_exhaustion = close_on_exhaustion
        self._buckets: dict[tuple[bool, int | str], _Bucket] = {}

    def spend(self, session: Session, trading: bool) -> None:
        """Take a request's credits. Raises `WireError` 10028 where they are not there."""
        rate = self.trading if trading else self.reading
        now_ns = self.clock.now_ns()
        bucket = self._bucket(session, trading, rate, now_ns)
        gained = max(0, now_ns - bucket.time_ns) * rate.refill
        bucket.credits_e9 = min(rate.pool * NS_PER_SECOND, bucket.credits_e9 + gained)
        bucket.time_ns = max(now_ns, bucket.time_ns)
        missing = rate.cost * NS_PER_SECOND - bucket.credits_e9
        if missing > 0:
            if self.close_on_exhaustion:
                session.ending = Ending(POLICY_VIOLATION, "too many requests")
            wait_ms = -(-missing // (rate.refill * 10**6))
            raise WireError(10028, "too_many_requests", {
                "reason": "the request credits are used up", "wait": wait_ms,
            })  # fmt: skip
        bucket.credits_e9 -= rate.cost * NS_PER_SECOND

    def _bucket(self, session: Session, trading: bool, rate: Rate, now_ns: int) -> _Bucket:
        """The session's bucket, now the latest used; a new one takes the place of the oldest.

        What has not been used for longest is most likely full again, and as good as a new one.
        """
        who = trading, session.account if session.account is not None else session.address
        bucket = self._buckets.pop(who, None)
        if bucket is None:
            if len(self._buckets) >= BUCKETS_MAX:
                del self._buckets[next(iter(self._buckets))]
            bucket = _Bucket(rate.pool * NS_PER_SECOND, now_ns)
        self._buckets[who] = bucket
        return bucket
