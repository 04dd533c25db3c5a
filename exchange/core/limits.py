"""Every bound of the venue in one place, with the proofs that keep 64-bit integers exact.

Integer arithmetic in compiled code wraps silently, so overflow is not detected but made impossible:
inputs are bounded here, and the assertions below, evaluated at import, show that no product or sum
of allowed values reaches 2**62.
"""

from __future__ import annotations

from margin.invariant import check

SAFE = 2**62

# Counts. Order identifiers hold the instrument above the sequence, so that orders sorted by
# identifier are grouped by instrument and, inside it, in order of acceptance.
INSTRUMENTS_MAX = 2**12
INSTRUMENTS_PER_UNIT_MAX = 2**8
POOLS_MAX = 2**22
# Pools of one owner's accounts together: cross and portfolio pools, which may hold every contract,
# and isolated ones, which hold one.
WIDE_POOLS_PER_OWNER_MAX = 7
ISOLATED_POOLS_PER_OWNER_MAX = 2**8
ORDER_SEQUENCE_BITS = 40
ORDER_SEQUENCE_MAX = 2**ORDER_SEQUENCE_BITS - 1

BATCHES_MAX = 2**40

# Prices and sizes of one order.
PRICE_TICKS_MAX = 2**31 - 1
QUANTITY_LOTS_MAX = 2**31 - 1

# One pool's position in one instrument, valued at the highest price the instrument may have.
POSITION_NOTIONAL_MINOR_MAX = 2**48
# An inverse put pays (strike - index) / index coins, without bound as the index falls. Here it pays
# at most this many coins per coin of underlying, reached where the index is 1/101 of the strike;
# a higher premium cannot be bid.
PREMIUM_E8_MAX = 100 * 10**8
# The most that one lot of an inverse option can pay, and one pool's position in one of them, in
# minor units of the coin.
PAYOFF_MINOR_MAX = 2**42
POSITION_COIN_MINOR_MAX = 2**47
# A pool's balance in one currency, and one transfer.
BALANCE_MINOR_MAX = 2**55
TRANSFER_MINOR_MAX = 2**52
# The most that one lot may be worth where rules charge by the lot (`margin.models.standard`), at
# the highest price its underlying may have.
RULED_LOT_MINOR_MAX = 2**37
# One owner's size in one underlying, over all its pools: the most that a concentration can measure
# (`margin.add_ons.concentration`).
OWNER_SIZE_MINOR_MAX = 2**59
# An average day's volume in one underlying; what is not known is taken to be this large.
DAILY_VOLUME_MINOR_MAX = 2**56

# Attestations of outside venues. What a pool's outside positions in one contract add up to is
# within the contract's largest position, and its credit within one position's notional: each takes
# the room in a scenario sum that position, buys and sells, which share two, leave of three.
OUTSIDE_VENUES_MAX = 2**4
OUTSIDE_NAME_LENGTH_MAX = 32
OUTSIDE_AGE_NS_MAX = 30 * 86_400 * 10**9
ATTESTATION_SEQUENCE_MAX = 2**53
CREDIT_MINOR_MAX = POSITION_NOTIONAL_MINOR_MAX

# Marks.
INDEX_E8_MAX = 2**50
VOLATILITY_E9_MAX = 20 * 10**9
RATE_E9_MAX = 2 * 10**9
CLIENT_ORDER_ID_LENGTH_MAX = 64
LABEL_LENGTH_MAX = 64
POOL_NAME_LENGTH_MAX = 32

# A shock multiplies a position's value by at most this much (a move of +500 %, and the inverse
# contract's gain converted at the shocked spot), rounded up to a power of two.
SHOCK_MULTIPLE_MAX = 2**3


def order_id_of(instrument: int, sequence: int) -> int:
    """The identifier of the `sequence`-th order accepted by the venue, placed in `instrument`."""
    return (instrument << ORDER_SEQUENCE_BITS) | sequence


def instrument_of(order_id: int) -> int:
    """The instrument slot that an order identifier names."""
    return order_id >> ORDER_SEQUENCE_BITS


check(
    POSITION_NOTIONAL_MINOR_MAX * INSTRUMENTS_PER_UNIT_MAX * SHOCK_MULTIPLE_MAX < SAFE,
    "a risk unit's scenario loss fits",
)
check(
    (
        WIDE_POOLS_PER_OWNER_MAX * INSTRUMENTS_PER_UNIT_MAX + ISOLATED_POOLS_PER_OWNER_MAX
    ) * POSITION_NOTIONAL_MINOR_MAX <= OWNER_SIZE_MINOR_MAX,
    "an owner's positions in a risk unit, over all its pools, fit a concentration",
)  # fmt: skip
check(PRICE_TICKS_MAX * QUANTITY_LOTS_MAX < SAFE, "price times quantity fits")
check(PAYOFF_MINOR_MAX * 10**6 < SAFE, "a lot's value in 10^-6 minor units of coin fits")
check(
    POSITION_COIN_MINOR_MAX * INSTRUMENTS_PER_UNIT_MAX <= BALANCE_MINOR_MAX,
    "what a risk unit's inverse options pay fits a balance",
)
check(order_id_of(INSTRUMENTS_MAX - 1, ORDER_SEQUENCE_MAX) < SAFE, "order identifiers fit")
check(POOLS_MAX * INSTRUMENTS_MAX < SAFE, "position keys fit")
check(POOLS_MAX << ORDER_SEQUENCE_BITS <= SAFE, "pool and own sequence of an order pack")
check(PRICE_TICKS_MAX < 2**31 and QUANTITY_LOTS_MAX < 2**31, "price and lots of an order pack")
check(BATCHES_MAX << 8 < SAFE, "age, flags and side of an order pack")
check(BALANCE_MINOR_MAX * 2**6 < SAFE, "sums of a pool's balances and gains fit")
check(TRANSFER_MINOR_MAX * 2 <= BALANCE_MINOR_MAX, "a transfer fits a balance")
