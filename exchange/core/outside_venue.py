"""Venues elsewhere whose signed word on balances and positions counts for margin here, as data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from exchange.core import limits
from margin.attested import DELAY_QUANTILE_E9
from margin.fixed_point import RATE_SCALE

HEX_DIGITS = "0123456789abcdef"
KEY_DIGITS = 64
QUANTILE_E9_MAX = 10 * RATE_SCALE


class OutsideVenue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One outside venue.

    `public_key`: Ed25519, 64 hexadecimal digits. An attestation counts in full up to the age
    `fresh_ns`, for nothing from `age_limit_ns` on. `transfer_delay_ns`: how long money from there
    takes to arrive; `delay_quantile_e9`: z of the price move meanwhile. `credit_cap_minor`: the
    most that all balances there count for. `net_positions`: whether positions there enter
    scenarios.
    """

    name: str
    public_key: str
    haircut_ppb: int
    transfer_delay_ns: int
    fresh_ns: int
    age_limit_ns: int
    delay_quantile_e9: int = DELAY_QUANTILE_E9
    credit_cap_minor: int = limits.CREDIT_MINOR_MAX
    net_positions: bool = False

    def is_too_slow(self, horizon_ns: int) -> bool:
        """Whether money from there takes as long as closing a pool out does: then none counts."""
        return self.transfer_delay_ns >= horizon_ns


def _problem(outside: OutsideVenue) -> str:
    if not 0 < len(outside.name) <= limits.OUTSIDE_NAME_LENGTH_MAX:
        return f"a name has 1 to {limits.OUTSIDE_NAME_LENGTH_MAX} characters"
    if len(outside.public_key) != KEY_DIGITS or outside.public_key.strip(HEX_DIGITS):
        return f"public_key must be {KEY_DIGITS} hexadecimal digits in small letters (Ed25519)"
    if not 0 <= outside.haircut_ppb <= RATE_SCALE:
        return "haircut must be from 0 to 1"
    if not 0 <= outside.transfer_delay_ns <= limits.OUTSIDE_AGE_NS_MAX:
        return "transfer_delay_s must be from 0 to 30 days"
    if not 0 <= outside.fresh_ns < outside.age_limit_ns <= limits.OUTSIDE_AGE_NS_MAX:
        return "fresh_s must be below age_limit_s, which is at most 30 days"
    if not 0 <= outside.delay_quantile_e9 <= QUANTILE_E9_MAX:
        return "delay_quantile must be from 0 to 10"
    if not 0 <= outside.credit_cap_minor <= limits.CREDIT_MINOR_MAX:
        return f"credit_cap must be from 0 to {limits.CREDIT_MINOR_MAX // 10**6} USDC"
    return ""


def outside_problem(outside_venues: Sequence[OutsideVenue]) -> str:
    """The first thing that is wrong with a venue's outside venues, or an empty string."""
    if len(outside_venues) > limits.OUTSIDE_VENUES_MAX:
        return f"outside_venue: at most {limits.OUTSIDE_VENUES_MAX}"
    names = [outside.name for outside in outside_venues]
    if len(set(names)) != len(names):
        return "outside venues must have different names"
    for outside in outside_venues:
        problem = _problem(outside)
        if problem:
            return f"outside_venue {outside.name}: {problem}"
    return ""
