"""Plans for one defaulting pool: which slices, how much of each, at what prices.

A *slice* is the pool's position in one instrument. Plans are data: whoever holds the ledger posts
them. Amounts are minor units of USDC, prices whole ticks, lots signed as positions are. Arithmetic
is exact over Python ints (products outgrow int64) and each rounding is named where it happens. The
requirement is a callback over remaining lots in the caller's order, so any margin model fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import TypeAlias

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.invariant import check

# After so many closings the ranking is kept: n positions cost about 16 n requirements.
RERANK_STEPS = 16
# An inverse contract loses at most its notional to a rising price, so a larger bound has no price.
# This multiple of the mark stands in for it.
INVERSE_PRICE_CAP = 100

RequirementOf: TypeAlias = Callable[[Sequence[int]], int]
"""Requirement in minor USDC of the pool with these signed lots, one per position."""


class ContractForm(IntEnum):
    """How a contract's value follows its price, and how low the price can be."""

    LINEAR = 0
    INVERSE = 1
    OPTION = 2


class Position(msgspec.Struct, frozen=True):
    """A position of the defaulting pool.

    `slope_num / slope_den` is what one lot gains, in minor USDC, when its price rises from the mark
    by 10^-8; the fraction lets fine lots and coin-settled contracts stay exact.
    `notional_minor` >= 0 is the whole position's, the base of fees and of the first-step rule.
    """

    instrument: int
    quantity_lots: int
    form: ContractForm
    mark_e8: int
    tick_e8: int
    slope_num: int
    slope_den: int
    notional_minor: int


class LiquidationTerms(msgspec.Struct, frozen=True):
    """Constants of the procedure. Defaults: buffer from Derive, step rule from Hyperliquid,
    adjustment, spread and fee cap from dYdX v4's genesis."""

    buffer_ppb: int = 150_000_000
    first_step_ppb: int = 200_000_000
    first_step_notional_minor: int = 100_000_000_000
    bankruptcy_adjustment_ppb: int = RATE_SCALE
    spread_to_maintenance_ppb: int = 1_500_000_000
    liquidation_fee_ppb: int = 15_000_000
    takeover_fee_ppb: int = 15_000_000


class SlicePrices(msgspec.Struct, frozen=True):
    """Prices of a slice, each rounded in the pool's favour: up for a long, down for a short.

    `uncovered_minor` is the part of a negative equity share that no admissible price carries (an
    option's price is at least 0): a payment that the fund has to book beside the trade.
    """

    mark_ticks: int
    fillable_ticks: int
    bankruptcy_ticks: int
    uncovered_minor: int


class SlicePlan(msgspec.Struct, frozen=True):
    """One order of a partial liquidation: `quantity_lots` is the trade (negative sells)."""

    instrument: int
    quantity_lots: int
    prices: SlicePrices
    released_minor: int
    equity_share_minor: int
    fee_minor: int


class RankedSlice(msgspec.Struct, frozen=True):
    """A slice in liquidation order; `index` is its place in the caller's list of positions."""

    index: int
    position: Position
    released_minor: int
    equity_share_minor: int
    prices: SlicePrices

    @property
    def lots(self) -> int:
        """The whole slice, without sign."""
        return abs(self.position.quantity_lots)

    def signed(self, lots: int) -> int:
        """`lots` of it with the sign of the position."""
        return lots if self.position.quantity_lots > 0 else -lots


def share_pro_rata(amount: int, weights: Sequence[int], *, rest_to_last: bool = False) -> list[int]:
    """Split `amount` >= 0 over `weights` >= 0 into integers that sum to it exactly.

    Each gets floor(amount x weight / total). The units left over go one each to the largest
    fractions lost, the earlier first among equals: with amount <= total no share is then above its
    weight. `rest_to_last` gives them all to the last instead, whatever its weight (Vega's loss
    socialisation). Without any weight only 0 can be split.
    """
    check(amount >= 0, "a negative amount cannot be shared")
    check(min(weights, default=0) >= 0, "a share has a negative weight")
    total = sum(weights)
    if total == 0:
        check(amount == 0, "an amount has nobody to be shared by")
        return [0] * len(weights)
    shares = [amount * weight // total for weight in weights]
    left_over = amount - sum(shares)
    if rest_to_last:
        shares[-1] += left_over
        return shares
    by_fraction = sorted(range(len(weights)), key=lambda i: (-(amount * weights[i] % total), i))
    for index in by_fraction[:left_over]:
        shares[index] += 1
    return shares


def liquidation_order(positions: Sequence[Position], maintenance_of: RequirementOf) -> list[int]:
    """Indices of `positions` in the order they are closed.

    Next is always the one whose closing leaves the lowest maintenance, i.e. releases most; ties go
    to the lower instrument. Ranked afresh before each of the first `RERANK_STEPS` closings (so the
    second leg of a hedge follows its first), then by the last ranking. Raises `InvariantBroken` on
    an empty position or an instrument listed twice.
    """
    _check_positions(positions)
    remaining = [position.quantity_lots for position in positions]
    waiting = sorted(range(len(positions)), key=lambda i: positions[i].instrument)
    order: list[int] = []
    while waiting:
        if len(order) < RERANK_STEPS:
            after: dict[int, int] = {}
            for index in waiting:
                lots, remaining[index] = remaining[index], 0
                after[index] = maintenance_of(tuple(remaining))
                remaining[index] = lots
            waiting.sort(key=lambda i: (after[i], positions[i].instrument))
        closed = waiting.pop(0)
        remaining[closed] = 0
        order.append(closed)
    return order


def maintenance_released(
    positions: Sequence[Position], order: Sequence[int], maintenance_of: RequirementOf
) -> list[int]:
    """Maintenance that each slice releases when closed in `order`; aligned with `order`.

    Released = max(0, lowest maintenance so far - maintenance after). Measuring from the lowest so
    far, not the last, makes the figures sum: closing one leg of a hedge releases nothing, and its
    other leg gets back no more than the pool ever needed. What stays without positions (coin cash
    has a requirement too) goes to the last slice. All are >= 0 and their sum is exactly the pool's
    maintenance. Source: dYdX v4's |dMMR|, taken in sequence.
    """
    remaining = [position.quantity_lots for position in positions]
    lowest = maintenance_of(tuple(remaining))
    released: list[int] = []
    for index in order:
        remaining[index] = 0
        after = maintenance_of(tuple(remaining))
        check(after >= 0, "a maintenance requirement is negative")
        released.append(max(0, lowest - after))
        lowest = min(lowest, after)
    if released:
        released[-1] += lowest
    return released


def allot_equity(
    equity_minor: int, released_minor: Sequence[int], notionals_minor: Sequence[int]
) -> list[int]:
    """Allot a pool's equity, or its deficit, over slices by the maintenance they release.

    The shares have the sign of the equity and sum to it exactly (largest remainder of the
    magnitude, then the earlier slice). If nothing is released notionals are the weights; without
    those either, the last slice carries all.
    """
    weights: Sequence[int] = released_minor
    if sum(weights) == 0:
        weights = notionals_minor
    if sum(weights) == 0:
        weights = [0] * (len(released_minor) - 1) + [1]
    sign = -1 if equity_minor < 0 else 1
    return [sign * share for share in share_pro_rata(abs(equity_minor), weights)]


def fillable_spread_minor(
    equity_minor: int, maintenance_minor: int, released_minor: int, terms: LiquidationTerms
) -> int:
    """How much worse than its value at mark a slice may be closed; rounded down.

    ABR x SMMR x PMMR with ABR = clamp(BA x (1 - TNC / TMMR), 0, 1) (dYdX v4): TNC is the pool's
    equity, TMMR its maintenance, PMMR the maintenance that the slice releases.
    """
    numerator = max(0, terms.bankruptcy_adjustment_ppb * (maintenance_minor - equity_minor))
    denominator = RATE_SCALE * maintenance_minor
    if denominator == 0:
        # A pool that needs nothing is at the edge as soon as it owes anything.
        numerator, denominator = (1, 1) if equity_minor < 0 else (0, 1)
    numerator = min(numerator, denominator)
    spread = numerator * terms.spread_to_maintenance_ppb * released_minor
    return spread // (denominator * RATE_SCALE)


def closing_loss_minor(position: Position, lots: int, price_ticks: int) -> int:
    """What closing `lots` > 0 of a position at `price_ticks` loses against the mark; rounded up.

    Negative is a gain. Linear and option: lots x slope x distance. Inverse: that x mark / price,
    since the contract is worth 1 / price coins.
    """
    price_e8 = price_ticks * position.tick_e8
    distance_e8 = position.mark_e8 - price_e8
    if position.quantity_lots < 0:
        distance_e8 = -distance_e8
    numerator, denominator = lots * position.slope_num * distance_e8, position.slope_den
    if position.form is ContractForm.INVERSE:
        numerator, denominator = numerator * position.mark_e8, denominator * price_e8
    return _ceil_div(numerator, denominator)


def price_at_loss(position: Position, loss_minor: int) -> int:
    """The worst price, in ticks, at which closing the whole position loses at most `loss_minor`.

    A long's price is rounded up and a short's down, so that the loss is never above the bound. At
    least 0 for an option and one tick for a future, at most `INVERSE_PRICE_CAP` marks for an
    inverse one; only at these ends can a bound be missed.
    """
    lots = abs(position.quantity_lots)
    sign = 1 if position.quantity_lots > 0 else -1
    value = lots * position.slope_num * position.mark_e8
    change = -sign * loss_minor * position.slope_den
    numerator, denominator = value + change, lots * position.slope_num
    if position.form is ContractForm.INVERSE:
        numerator, denominator = value * position.mark_e8, value - change
        # value - change above value / cap says that the price is below cap x mark.
        if denominator * INVERSE_PRICE_CAP <= value:
            numerator, denominator = INVERSE_PRICE_CAP * position.mark_e8, 1
    denominator *= position.tick_e8
    ticks = _ceil_div(numerator, denominator) if sign > 0 else numerator // denominator
    return max(ticks, 0 if position.form is ContractForm.OPTION else 1)


def slice_prices(position: Position, equity_share_minor: int, spread_minor: int) -> SlicePrices:
    """Mark, fillable and bankruptcy price of a slice, in ticks.

    At the bankruptcy price the slice loses just its share of equity (dYdX v4: proceeds = value -
    share). The fillable price lies `spread_minor` from the mark toward it and never passes it; with
    a share <= 0 it is the mark.
    """
    bankruptcy = price_at_loss(position, equity_share_minor)
    fillable = price_at_loss(position, max(0, min(spread_minor, equity_share_minor)))
    loss = closing_loss_minor(position, abs(position.quantity_lots), bankruptcy)
    uncovered = max(0, loss - equity_share_minor)
    return SlicePrices(price_at_loss(position, 0), fillable, bankruptcy, uncovered)


def rank_slices(
    positions: Sequence[Position],
    equity_minor: int,
    maintenance_of: RequirementOf,
    terms: LiquidationTerms,
) -> list[RankedSlice]:
    """All slices of a pool in liquidation order with released maintenance, equity share, prices."""
    if not positions:
        return []
    order = liquidation_order(positions, maintenance_of)
    released = maintenance_released(positions, order, maintenance_of)
    maintenance_minor = sum(released)
    shares = allot_equity(equity_minor, released, [positions[i].notional_minor for i in order])
    ranked: list[RankedSlice] = []
    for index, freed, share in zip(order, released, shares, strict=True):
        spread = fillable_spread_minor(equity_minor, maintenance_minor, freed, terms)
        prices = slice_prices(positions[index], share, spread)
        ranked.append(RankedSlice(index, positions[index], freed, share, prices))
    return ranked


def plan_slice(
    positions: Sequence[Position],
    equity_minor: int,
    maintenance_of: RequirementOf,
    terms: LiquidationTerms,
    *,
    first_step: bool,
    initial_of: RequirementOf | None = None,
    credit_minor: int = 0,
) -> list[SlicePlan]:
    """The smallest part of a pool, taken in liquidation order, whose closing brings it back.

    Back means equity >= (1 + buffer) x maintenance of what remains after closing at fillable prices
    with fees, and, where `initial_of` is given (a call that expired), equity >= initial too. All
    slices but the last planned go whole; the last is found by bisection in lots. The requirement
    need not fall with every lot: the upper end of the bisection always satisfies, so the plan does
    too, and if even closing all does not, all is planned. In the first step of a pool whose
    notional is above the threshold each trade is cut to `first_step_ppb` of its position, rounded
    up in lots, and the buffer is not reached yet. Empty if the pool already satisfies.
    `credit_minor` counts beside equity for what must be reached, and pays nothing.
    """
    ranked = rank_slices(positions, equity_minor, maintenance_of, terms)
    remaining = [position.quantity_lots for position in positions]
    equity_after = equity_minor

    def satisfied(part: RankedSlice | None, lots: int) -> bool:
        left, equity = list(remaining), equity_after + credit_minor
        if part is not None:
            left[part.index] -= part.signed(lots)
            equity -= _closing_cost(part, lots, terms)
        enough = RATE_SCALE * equity >= (RATE_SCALE + terms.buffer_ppb) * maintenance_of(
            tuple(left)
        )
        return enough and (initial_of is None or equity >= initial_of(tuple(left)))

    chosen: list[tuple[RankedSlice, int]] = []
    done = satisfied(None, 0)
    for part in ranked:
        if done:
            break
        lots = part.lots
        done = satisfied(part, lots)
        low = 0
        while done and lots - low > 1:
            middle = (low + lots) // 2
            if satisfied(part, middle):
                lots = middle
            else:
                low = middle
        chosen.append((part, lots))
        remaining[part.index] = 0
        equity_after -= _closing_cost(part, lots, terms)
    large = sum(position.notional_minor for position in positions) > terms.first_step_notional_minor
    cap_ppb = terms.first_step_ppb if first_step and large else RATE_SCALE
    return [_slice_plan(part, lots, cap_ppb, terms) for part, lots in chosen]


def _check_positions(positions: Sequence[Position]) -> None:
    instruments = sorted(position.instrument for position in positions)
    for one, other in pairwise(instruments):
        check(one != other, "an instrument is listed twice in one pool")
    for position in positions:
        check(position.quantity_lots != 0, "an empty position cannot be liquidated")
        check(position.slope_num > 0 and position.slope_den > 0, "a lot's value has no slope")
        check(position.tick_e8 > 0 and position.mark_e8 >= 0, "a price or tick is out of range")
        check(position.notional_minor >= 0, "a notional is negative")
        is_inverse = position.form is ContractForm.INVERSE
        check(position.mark_e8 > 0 or not is_inverse, "an inverse contract needs a mark above 0")


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def part_of_share(part: RankedSlice, lots: int) -> int:
    """The equity share that goes with `lots` of a slice, its magnitude rounded down."""
    share = part.equity_share_minor
    magnitude = abs(share) * lots // part.lots
    return magnitude if share >= 0 else -magnitude


def _closing_fee(part: RankedSlice, lots: int, loss_minor: int, terms: LiquidationTerms) -> int:
    """Fee on notional, rounded down, at most what the closing leaves of the share of equity."""
    fee = (
        terms.liquidation_fee_ppb * part.position.notional_minor * lots // (part.lots * RATE_SCALE)
    )
    return max(0, min(fee, part_of_share(part, lots) - loss_minor))


def _closing_cost(part: RankedSlice, lots: int, terms: LiquidationTerms) -> int:
    # Rounding can put the fillable price a fraction of a tick better than the mark; no gain is
    # counted on before it is made.
    loss = max(0, closing_loss_minor(part.position, lots, part.prices.fillable_ticks))
    return loss + _closing_fee(part, lots, loss, terms)


def _slice_plan(part: RankedSlice, lots: int, cap_ppb: int, terms: LiquidationTerms) -> SlicePlan:
    lots = min(lots, _ceil_div(part.lots * cap_ppb, RATE_SCALE))
    loss = max(0, closing_loss_minor(part.position, lots, part.prices.fillable_ticks))
    return SlicePlan(
        part.position.instrument,
        -part.signed(lots),
        part.prices,
        part.released_minor,
        part_of_share(part, lots),
        _closing_fee(part, lots, loss, terms),
    )
