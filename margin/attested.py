"""Cross-protocol margin: what collateral attested at outside venues counts for, and when it calls.

Collateral elsewhere is not here: it counts for requirements, pays nothing, and what it counts for
falls with the age of the last word about it. Everything is exact over Python ints (products outgrow
int64) and rounded against the account. Amounts are minor units of USDC, fractions 10^-9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from margin.default.margin_call import CallOutcome, MarginCall
from margin.fixed_point import COIN_SCALE, NS_PER_YEAR, PRICE_SCALE, RATE_SCALE, USDC_SCALE, root_up
from margin.invariant import check

DELAY_QUANTILE_E9: Final = 3 * RATE_SCALE
"""z of the transfer-delay term where a venue names none: three standard deviations."""

_COIN_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE  # 10^10


def decay_ppb(age_ns: int, fresh_ns: int, limit_ns: int) -> int:
    """The part of an attestation that counts at an age, x 10^9, rounded down.

    All of it up to `fresh_ns`, nothing from `limit_ns` on, linear between the two. An age below
    zero is none. Raises `InvariantBroken` unless 0 <= fresh < limit.
    """
    check(0 <= fresh_ns < limit_ns, "attested: it is fresh before it is too old")
    if age_ns <= fresh_ns:
        return RATE_SCALE
    return max(0, RATE_SCALE * (limit_ns - age_ns) // (limit_ns - fresh_ns))


def delay_term_ppb(volatility_e9: int, delay_ns: int, quantile_e9: int) -> int:
    """z sigma sqrt(delay) as a fraction x 10^9, rounded up: the move while money is on its way.

    `volatility_e9`: of the asset, a year of 365 days; `quantile_e9` is z.
    """
    check(volatility_e9 >= 0 and delay_ns >= 0 and quantile_e9 >= 0, "attested: a negative delay")
    square = (quantile_e9 * volatility_e9) ** 2 * delay_ns
    return -(-root_up(-(-square // NS_PER_YEAR)) // RATE_SCALE)


def value_minor(balance_minor: int, index_e8: int, *, is_usdc: bool) -> int:
    """What a balance is worth at the index, rounded down, so that a debt is rounded up in size."""
    return balance_minor if is_usdc else balance_minor * index_e8 // _COIN_DIVISOR


def credit_minor(
    worth_minor: int,
    asset_haircut_ppb: int,
    venue_haircut_ppb: int,
    staleness_ppb: int,
    delay_ppb: int,
) -> int:
    """What a balance worth `worth_minor` counts for.

    max(0, V (1 - asset haircut) (1 - venue haircut) decay - V z sigma sqrt(delay)), the first part
    rounded down, the second up. A debt counts in full, whatever its age. Haircuts and staleness
    are between 0 and 10^9.
    """
    if worth_minor <= 0:
        return worth_minor
    kept = (RATE_SCALE - asset_haircut_ppb) * (RATE_SCALE - venue_haircut_ppb) * staleness_ppb
    counted = worth_minor * kept // RATE_SCALE**3
    return max(0, counted - -(-worth_minor * delay_ppb // RATE_SCALE))


def capped(credits_minor: Sequence[int], cap_minor: int) -> list[int]:
    """Credits of one outside venue that add up to at most `cap_minor`; debts stay as they are.

    Where the cap binds each positive credit keeps its share of it, rounded down.
    """
    total = sum(credit for credit in credits_minor if credit > 0)
    if total <= cap_minor:
        return list(credits_minor)
    return [
        credit * cap_minor // total if credit > 0 else credit for credit in credits_minor
    ]  # fmt: skip


def split_lots(lots: int, staleness_ppb: int) -> tuple[int, int]:
    """Signed lots of an outside position as (what nets, what may only raise the requirement).

    The first is lots x decay rounded towards zero; together they are all of it.
    """
    netted = abs(lots) * staleness_ppb // RATE_SCALE
    netted = netted if lots >= 0 else -netted
    return netted, lots - netted


class Standing(NamedTuple):
    """What a pool needs and what it is credited, under one reading of its attestations."""

    credit_minor: int
    initial_minor: int
    maintenance_minor: int


def lacking_minor(equity_minor: int, now: Standing) -> int:
    """What a pool must bring: up to its initial margin, and at least what its own equity is short.

    Credit covers requirements, never a debt: losses are paid in money that is here.
    """
    return max(now.initial_minor - equity_minor - now.credit_minor, -equity_minor)


def keeps_alive(equity_minor: int, reading: Standing) -> bool:
    """Whether equity and credit cover maintenance margin under a reading."""
    return equity_minor + reading.credit_minor >= reading.maintenance_minor


def advance_backed_call(
    call: MarginCall | None,
    equity_minor: int,
    now: Standing,
    standing: Standing,
    last: Standing,
    cycle: int,
    deadline_cycles: int,
    *,
    frozen: bool = False,
) -> tuple[MarginCall | None, CallOutcome]:
    """`margin_call.advance_call` for a pool with attestations, read in three ways.

    `now`: decayed by their age, what costs in full at any age. `standing`: as if fresh, of those
    within their age limit and no others. `last`: the same with one call's deadline beyond the
    limit.

    - equity + credit < maintenance by `standing` and by `last`: BREACHED; no matter of age.
    - equity + credit now >= initial, and equity >= 0: CURED or NONE.
    - else ISSUED, then STANDING with its amount refreshed: a call goes out as soon as the decayed
      credit no longer covers.
    - from its deadline on EXPIRED, if equity is below zero or equity + standing credit < initial.
      Where only age explains the shortfall the call stands on, until the feed returns or the age
      limit has passed.

    `frozen` as in `advance_call`. With three equal readings of no credit it is `advance_call`,
    except that owing alone is a call.
    """
    check(deadline_cycles >= 1, "a margin call needs at least one cycle to be met")
    amount_minor = lacking_minor(equity_minor, now)
    breached = not any(keeps_alive(equity_minor, reading) for reading in (standing, last))
    if not breached and amount_minor <= 0:
        return None, CallOutcome.NONE if call is None else CallOutcome.CURED
    if frozen:
        return call, CallOutcome.NONE if call is None else CallOutcome.STANDING
    if breached:
        return None, CallOutcome.BREACHED
    if call is None:
        return MarginCall(cycle, cycle + deadline_cycles, amount_minor), CallOutcome.ISSUED
    if cycle >= call.deadline_cycle and lacking_minor(equity_minor, standing) > 0:
        return None, CallOutcome.EXPIRED
    return MarginCall(call.issued_cycle, call.deadline_cycle, amount_minor), CallOutcome.STANDING
