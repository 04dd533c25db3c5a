"""What the figures of a venue's sections may be, in the words of its file.

Bounds keep nonsense out, and the engine's arithmetic within 64 bits: a collar's widest band is
below 2^62 ticks, a margin period of risk below 2^62 nanoseconds.
"""

from __future__ import annotations

import msgspec

from exchange.core import limits
from margin.fixed_point import NS_PER_DAY, NS_PER_SECOND, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import check

# The end of a field's name says its unit; what has none of these is a plain number.
SCALES = (
    ("_ppb", RATE_SCALE),
    ("_e9", RATE_SCALE),
    ("_e8", PRICE_SCALE),
    ("_ns", NS_PER_SECOND),
    ("_minor", USDC_SCALE),
)
PRICE_MAX = "price_e8_max"  # the one field with its unit in the middle

INTERVAL_NS_MAX = NS_PER_DAY
CYCLES_MAX = 10_000
MONEY = (0, limits.TRANSFER_MINOR_MAX)
PART = (0, RATE_SCALE)
SOME_PART = (1, RATE_SCALE)
FEE = (0, RATE_SCALE // 10 - 1)
MONTH_NS = (NS_PER_SECOND, 30 * NS_PER_DAY)

# Section -> field -> least and most.
RANGES: dict[str, dict[str, tuple[int, int]]] = {
    "collar": {
        "band_ppb": (0, 10 * RATE_SCALE),
        "floor_ticks": (0, limits.PRICE_TICKS_MAX),
        "widen_ppb": (RATE_SCALE, 10 * RATE_SCALE),
        "extensions": (0, 8),
    },
    "fees": {
        "future_ppb": FEE,
        "option_ppb": FEE,
        "option_cap_ppb": PART,
        "liquidation_ppb": FEE,
    },
    "funding": {"dead_band_ppb": PART, "cap_ppb": PART, "period_ns": MONTH_NS},
    "index": {
        "stale_after_ns": (1, 30 * NS_PER_DAY),
        "dead_after_ns": (1, 30 * NS_PER_DAY),
        "stale_initial_extra_ppb": PART,
        "settlement_window_ns": (NS_PER_SECOND, NS_PER_DAY),
    },
    "calls": {"deadline_cycles": (1, CYCLES_MAX)},
    "default": {
        "private_cycles": (0, CYCLES_MAX),
        "public_cycles": (0, CYCLES_MAX),
        "buffer_ppb": (0, 10 * RATE_SCALE),
        "large_notional_minor": (0, limits.OWNER_SIZE_MINOR_MAX),
        "large_first_fraction_ppb": SOME_PART,
        "spread_factor_ppb": (0, 100 * RATE_SCALE),
        "takeover_fee_ppb": PART,
        "unwind_fraction_ppb": SOME_PART,
        "unwind_spread_ppb": (0, RATE_SCALE - 1),
        "fund_minor": MONEY,
        "venue_capital_minor": MONEY,
        "coverage_min_ppb": (0, 1000 * RATE_SCALE),
    },
    "limits": {"position_notional_minor": (1, limits.POSITION_NOTIONAL_MINOR_MAX)},
}


def key_of(field: str) -> tuple[str, int]:
    """The key of a field in a venue file, and how many of the field's units make one there."""
    if field == PRICE_MAX:
        return "price_max", 10**8
    for end, scale in SCALES:
        if field.endswith(end):
            return field.removesuffix(end) + ("_s" if end == "_ns" else ""), scale
    return field, 1


def decimal_text(value: int, scale: int) -> str:
    """`value` of 1/scale as a plain decimal; `scale` is a power of ten."""
    whole, part = divmod(abs(value), scale)
    places = f"{part:0{len(str(scale)) - 1}d}".rstrip("0") if part else ""
    return f"{'-' if value < 0 else ''}{whole}{'.' if places else ''}{places}"


def range_problem(where: str, field: str, value: int, least: int, most: int) -> str:
    """Why a field may not have a value, in the unit of the file; an empty string if it may."""
    if least <= value <= most:
        return ""
    key, scale = key_of(field)
    low, high, said = (decimal_text(each, scale) for each in (least, most, value))
    return f"{where}.{key} = {said}: must be from {low} to {high}"


def section_problem(where: str, section: msgspec.Struct) -> str:
    """The first field of a section that is out of its range, in words, or an empty string."""
    for field, (least, most) in RANGES[where].items():
        problem = range_problem(where, field, getattr(section, field), least, most)
        if problem:
            return problem
    return ""


def _most(section: str, field: str) -> int:
    return RANGES[section][field][1]


_WIDEST = (_most("collar", "widen_ppb") // RATE_SCALE) ** _most("collar", "extensions")
_BAND_TICKS_MAX = _WIDEST * max(
    limits.PRICE_TICKS_MAX * _most("collar", "band_ppb") // RATE_SCALE,
    _most("collar", "floor_ticks"),
)
check(_BAND_TICKS_MAX + limits.PRICE_TICKS_MAX < limits.SAFE, "a collar's widest band fits")
check(3 * CYCLES_MAX * INTERVAL_NS_MAX < limits.SAFE, "a margin period of risk fits")
