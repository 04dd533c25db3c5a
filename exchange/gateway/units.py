"""Deribit's decimal numbers against the engine's integers, exactly in both directions.

Incoming numbers are `Decimal`s made from the digits of the JSON text, so 0.1 is a tenth and never
its nearest binary fraction. Amounts are coin for linear contracts and options, USD for inverse
futures; prices are USD or USDC per coin, of inverse options coin per coin. Outgoing numbers are
quotients of integers, which Python rounds correctly: their shortest text is the decimal that was
meant.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

from exchange.core import limits
from exchange.core.reject_reason import RejectReason
from exchange.core.venue import (
    CALL_KINDS,
    COIN_KINDS,
    INVERSE_OPTION_KINDS,
    OPTION_KINDS,
    USDC,
    InstrumentSpec,
    Venue,
)
from exchange.gateway.errors import WireError, invalid_params, refused
from margin.fixed_point import COIN_SCALE, USDC_SCALE
from margin.portfolio import INVERSE, NEVER_NS

E8 = 10**8
NS_PER_MS = 10**6
TOO_LARGE = 2**40  # above every bound on prices and sizes, which the engine then names
MONEY_TOO_LARGE = 2**62
_DIGITS_MAX = 18
_SCALE_E8 = Decimal(E8)
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])


def multiple_of(value: Decimal, unit_e8: int) -> int | None:
    """How many units of `unit_e8` x 10^-8 a number is, or None where that is not whole.

    Numbers beyond 10^19 are `MONEY_TOO_LARGE` (of their sign), so that nobody can send a small text
    that becomes a huge integer.
    """
    if value.adjusted() > _DIGITS_MAX:
        return MONEY_TOO_LARGE if value > 0 else -MONEY_TOO_LARGE
    try:
        scaled = _EXACT.multiply(value, _SCALE_E8)
    except Inexact:
        return None
    if scaled != scaled.to_integral_value():
        return None
    count, rest = divmod(int(scaled), unit_e8)
    return count if rest == 0 else None


def _finite(value: Decimal, param: str) -> None:
    if not value.is_finite():
        raise invalid_params(f"{param} must be a finite number", param)


def lots_of(spec: InstrumentSpec, amount: Decimal) -> int:
    """An order's amount in lots.

    Raises `WireError`: 10002 where it is not positive, 10021 where it is no multiple of the lot.
    """
    _finite(amount, "amount")
    if amount <= 0:
        raise refused(RejectReason.QUANTITY_NOT_POSITIVE, "amount must be positive", "amount")
    lots = multiple_of(amount, spec.lot_e8)
    if lots is None:
        step = decimal_text(spec.lot_e8)
        raise WireError(
            10021, "invalid_amount", {"reason": f"amount must be a multiple of {step}",
                                      "param": "amount"}
        )  # fmt: skip
    return min(lots, TOO_LARGE)


def ticks_of(spec: InstrumentSpec, price: Decimal) -> int:
    """A limit price in ticks.

    Raises `WireError`: 10023 where it is not positive, 10043 where it is off the tick grid.
    """
    _finite(price, "price")
    if price <= 0:
        raise refused(RejectReason.PRICE_NOT_POSITIVE, "price must be positive", "price")
    ticks = multiple_of(price, spec.tick_e8)
    if ticks is None:
        step = decimal_text(spec.tick_e8)
        raise WireError(
            10043, "price_wrong_tick", {"reason": f"price must be a multiple of {step}",
                                        "param": "price"}
        )  # fmt: skip
    return min(ticks, TOO_LARGE)


def minor_of(currency: int, amount: Decimal) -> int:
    """An amount of money in minor units; 11029 where it is finer than those."""
    _finite(amount, "amount")
    scale = minor_per_unit(currency)
    minor = multiple_of(amount, E8 // scale)
    if minor is None:
        reason = f"amount is finer than 10^-{decimals_of(currency)}"
        raise WireError(11029, "invalid_arguments", {"reason": reason, "param": "amount"})
    # Above a transfer's bound, which then refuses it, and still within 64 bits.
    return max(-MONEY_TOO_LARGE, min(minor, MONEY_TOO_LARGE))


def decimal_text(value_e8: int) -> str:
    """A number of 10^-8 as plain digits, without trailing zeros."""
    whole, part = divmod(value_e8, E8)
    return f"{whole}.{part:08d}".rstrip("0").rstrip(".")


def minor_per_unit(currency: int) -> int:
    """Minor units of one unit of a currency: 10^6 for USDC, 10^8 for coins."""
    return USDC_SCALE if currency == USDC else COIN_SCALE


def decimals_of(currency: int) -> int:
    """Decimal places of a currency's minor unit."""
    return len(str(minor_per_unit(currency))) - 1


def money(currency: int, amount_minor: int) -> float:
    """Minor units of a currency as a JSON number."""
    return int(amount_minor) / minor_per_unit(currency)


def price_number(spec: InstrumentSpec, price_ticks: int) -> float:
    """A price in ticks as a JSON number."""
    return price_ticks * spec.tick_e8 / E8


def amount_number(spec: InstrumentSpec, lots: int) -> float:
    """Lots as a JSON number: coin, or USD for inverse futures."""
    return lots * spec.lot_e8 / E8


def contract_size(spec: InstrumentSpec) -> float:
    """The amount of one contract: a lot, and of options one coin."""
    return 1.0 if spec.kind in OPTION_KINDS else amount_number(spec, 1)


def contracts_number(spec: InstrumentSpec, lots: int) -> float:
    """Lots as a number of contracts."""
    return amount_number(spec, lots) if spec.kind in OPTION_KINDS else float(lots)


def lots_of_contracts(spec: InstrumentSpec, contracts: Decimal) -> int:
    """An order's size in contracts as lots; raises as `lots_of` does."""
    _finite(contracts, "contracts")
    if spec.kind in OPTION_KINDS or contracts.adjusted() > _DIGITS_MAX:
        return lots_of(spec, contracts)
    return lots_of(spec, contracts.scaleb(-8) * spec.lot_e8)


def order_id_text(order_id: int) -> str:
    """An order identifier on the wire: its decimal digits."""
    return str(order_id)


def order_id_of(text: str) -> int:
    """The identifier that a text names; 10004 where no order could have it."""
    number: int = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0
    if not 0 < number < limits.SAFE or str(number) != text:
        raise refused(RejectReason.ORDER_UNKNOWN)
    return number


def kind_name(spec: InstrumentSpec) -> str:
    """Deribit's kind of a contract: `future` (perpetuals too) or `option`."""
    return "option" if spec.kind in OPTION_KINDS else "future"


def base_currency(venue: Venue, spec: InstrumentSpec) -> str:
    """The coin that a contract is about."""
    return venue.underlyings[spec.underlying].name


def settlement_name(venue: Venue, spec: InstrumentSpec) -> str:
    """Name of the currency that a contract settles in; Deribit files contracts under it."""
    return base_currency(venue, spec) if spec.kind in COIN_KINDS else "USDC"


def quote_currency(venue: Venue, spec: InstrumentSpec) -> str:
    """What prices are in: USD of inverse futures, the coin of inverse options, else USDC."""
    if spec.kind in INVERSE_OPTION_KINDS:
        return base_currency(venue, spec)
    return counter_currency(spec)


def counter_currency(spec: InstrumentSpec) -> str:
    """What the coin is measured in: USD of inverse contracts, USDC of the others."""
    return "USD" if spec.kind in COIN_KINDS else "USDC"


def dollar_notional(spec: InstrumentSpec, amount: float, price: float, index: float) -> float:
    """What a trade was worth in USD: amounts of inverse futures are USD, of all others coin."""
    if spec.kind == INVERSE:
        return amount
    return amount * price * (index if spec.kind in INVERSE_OPTION_KINDS else 1.0)


def index_name(venue: Venue, spec: InstrumentSpec) -> str:
    """The index of a contract: `btc_usd` for inverse contracts, `btc_usdc` for the others."""
    base = base_currency(venue, spec).lower()
    return f"{base}_usd" if spec.kind in COIN_KINDS else f"{base}_usdc"


def underlying_of_index(venue: Venue, name: str) -> int | None:
    """The underlying whose index is called so (by either name), or None."""
    base, _, quote = name.partition("_")
    if quote not in ("usdc", "usd"):
        return None
    for number, underlying in enumerate(venue.underlyings):
        if underlying.name.lower() == base:
            return number
    return None


def milliseconds(time_ns: int) -> int:
    """Wire time: milliseconds since the epoch, rounded down."""
    return time_ns // NS_PER_MS


def expiration_ms(spec: InstrumentSpec) -> int:
    """Expiry in milliseconds; a perpetual's is Deribit's year 3000."""
    return 32503708800000 if spec.expiry_ns == NEVER_NS else spec.expiry_ns // NS_PER_MS


def option_type(spec: InstrumentSpec) -> str:
    """`call` or `put`."""
    return "call" if spec.kind in CALL_KINDS else "put"
