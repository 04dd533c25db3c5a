"""Who pays for a default: the fund's takeover, layers, netting, deleveraging, haircut of gains.

Everything here plans; nothing is posted. Amounts and lots are plain integers, shares are exact
fractions rounded by one named rule, and ties are broken by pool number, so the order in which
the caller found its candidates changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import msgspec

from margin.default.liquidation import (
    LiquidationTerms,
    Position,
    RankedSlice,
    RequirementOf,
    SlicePrices,
    part_of_share,
    rank_slices,
    share_pro_rata,
    slice_prices,
)
from margin.fixed_point import RATE_SCALE
from margin.invariant import check

# Denominators of scores are squares of equities below 2^62, so two different scores are at least
# 2^-248 apart: floors at this scale differ exactly where the scores do.
SCORE_SHIFT = 256

FundSpendable: TypeAlias = Callable[[Sequence[int], int], int]
"""The fund's equity less the maintenance of its inventory once it also holds these signed lots (one
per position of the pool) and its cash has changed by this many minor units."""


class TakenSlice(msgspec.Struct, frozen=True):
    """What the fund takes over at mark: lots with the position's sign, the fee that it earns and
    the deficit that it pays."""

    instrument: int
    quantity_lots: int
    fee_minor: int
    deficit_minor: int


class LeftSlice(msgspec.Struct, frozen=True):
    """What is left to deleverage, with its share of the pool's equity (negative: deficit)."""

    instrument: int
    quantity_lots: int
    equity_share_minor: int
    prices: SlicePrices


class TakeoverPlan(msgspec.Struct, frozen=True):
    """The fund's takeover of a pool.

    equity >= 0: fees + residual + shares of what is left = equity.
    equity < 0: fund payment + shares of what is left + unpaid = deficit. Only a pool without
    positions can leave something unpaid; it goes to the next layer.
    """

    taken: list[TakenSlice]
    left: list[LeftSlice]
    fee_minor: int
    residual_minor: int
    fund_payment_minor: int
    unpaid_minor: int


class Candidate(msgspec.Struct, frozen=True):
    """A pool that holds the instrument which is to be deleveraged.

    `unrealised_minor` is its profit since entry in the instrument; equity and maintenance are those
    of the whole pool. All in minor USDC.
    """

    pool: int
    position_lots: int
    unrealised_minor: int
    equity_minor: int
    maintenance_minor: int


class Allocation(msgspec.Struct, frozen=True):
    """A trade of a pool: `quantity_lots` is the change of its position."""

    pool: int
    quantity_lots: int


class OpenCase(msgspec.Struct, frozen=True):
    """What one liquidation case still has to close of one instrument, as a signed position."""

    pool: int
    instrument: int
    position_lots: int


class Netting(msgspec.Struct, frozen=True):
    """A trade at mark that closes part of a case: `quantity_lots` changes its position."""

    pool: int
    instrument: int
    quantity_lots: int


def takeover_plan(
    positions: Sequence[Position],
    equity_minor: int,
    maintenance_of: RequirementOf,
    fund_spendable: FundSpendable,
    terms: LiquidationTerms,
) -> TakeoverPlan:
    """What the insurance fund takes over at mark, and what is left to deleverage.

    The fund takes slices in liquidation order while its spendable stays >= 0: of the first one
    that does not fit whole, the most lots that bisection finds to fit; nothing after it. From a
    pool with equity >= 0 it earns a fee on notional, rounded down, at most the share of equity of
    what it took; the pool keeps the rest of that share. For one with equity < 0 it pays the deficit
    allotted to what it took, rounded down; the rest of a split slice's share stays with its
    remaining lots. A pool without positions has only its deficit paid, as far as spendable goes.
    """
    ranked = rank_slices(positions, equity_minor, maintenance_of, terms)
    held = [0] * len(positions)
    fees = payments = 0

    def fits(part: RankedSlice, lots: int) -> bool:
        fee, deficit = _takeover_amounts(part, lots, terms)
        with_part = list(held)
        with_part[part.index] = part.signed(lots)
        return fund_spendable(tuple(with_part), fees - payments + fee - deficit) >= 0

    taken: list[TakenSlice] = []
    left: list[LeftSlice] = []
    residual = 0
    for part in ranked:
        lots = 0 if left else _largest_that_fits(part, fits)
        fee, deficit = _takeover_amounts(part, lots, terms)
        share = part_of_share(part, lots)
        if lots:
            instrument = part.position.instrument
            taken.append(TakenSlice(instrument, part.signed(lots), fee, deficit))
            held[part.index] = part.signed(lots)
            fees, payments = fees + fee, payments + deficit
            residual += max(0, share) - fee
        if lots < part.lots:
            rest = part.signed(part.lots - lots)
            left.append(_left_slice(part, rest, part.equity_share_minor - share))
    unpaid = 0
    if not positions:
        residual, deficit = max(0, equity_minor), max(0, -equity_minor)
        payments = min(deficit, max(0, fund_spendable((), 0)))
        unpaid = deficit - payments
    return TakeoverPlan(taken, left, fees, residual, payments, unpaid)


def insurance_delta_minor(proceeds_minor: int, bankruptcy_minor: int, fee_ppb: int) -> int:
    """What a liquidation trade pays to the fund (negative: takes from it).

    min(fee x |proceeds|, proceeds - bankruptcy proceeds) (dYdX v4), the fee rounded down. Proceeds
    are received when selling (positive) and paid when buying back (negative).
    """
    return min(fee_ppb * abs(proceeds_minor) // RATE_SCALE, proceeds_minor - bankruptcy_minor)


def deleveraging_score(candidate: Candidate) -> tuple[int, int]:
    """The score of a candidate as an exact fraction (numerator, denominator > 0).

    score = max(0, unrealised) / equity x maintenance / equity: profit on own money, times how much
    of that money the pool's risk uses (the Binance form). A pool without equity scores 0.
    """
    equity = candidate.equity_minor
    if equity <= 0 or candidate.unrealised_minor <= 0 or candidate.maintenance_minor <= 0:
        return 0, 1
    return candidate.unrealised_minor * candidate.maintenance_minor, equity * equity


def deleverage(position_lots: int, candidates: Sequence[Candidate]) -> list[Allocation]:
    """Choose the pools that take over a defaulter's `position_lots` (signed).

    Only candidates whose position has the opposite sign count. They are called by score, greatest
    first; equal scores share pro rata to their positions, largest remainder, then lower pool first.
    Scores of zero are one such bucket, the last. Nobody trades past 0. The allocations come in
    calling order, carry the sign of `position_lots` and sum to it or to all there is. Raises
    `InvariantBroken` if a pool appears twice.
    """
    sign = 1 if position_lots > 0 else -1
    opposing = sorted(
        (candidate for candidate in candidates if candidate.position_lots * sign < 0),
        key=lambda candidate: candidate.pool,
    )
    for one, other in pairwise(opposing):
        check(one.pool != other.pool, "a pool is a candidate twice")
    allocations: list[Allocation] = []
    needed = abs(position_lots)
    for bucket in _score_buckets(opposing):
        if needed == 0:
            break
        held = [abs(candidate.position_lots) for candidate in bucket]
        taken = min(needed, sum(held))
        needed -= taken
        allocations.extend(
            Allocation(candidate.pool, sign * lots)
            for candidate, lots in zip(bucket, share_pro_rata(taken, held), strict=True)
            if lots
        )
    return allocations


def net_opposing(cases: Sequence[OpenCase]) -> list[Netting]:
    """Net liquidation cases of the same instrument against each other, to be booked at mark.

    In each instrument the lighter side closes in full and the heavier side pro rata to its lots,
    largest remainder, then lower pool first. The trades sum to 0 in every instrument; they come by
    instrument, then pool. Raises `InvariantBroken` if a pool has two cases in an instrument.
    """
    ordered = sorted(cases, key=lambda case: (case.instrument, case.pool))
    for one, other in pairwise(ordered):
        same = (one.instrument, one.pool) == (other.instrument, other.pool)
        check(not same, "a pool has two cases in one instrument")
    nettings: list[Netting] = []
    start = 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end].instrument == ordered[start].instrument:
            end += 1
        nettings.extend(_net_instrument(ordered[start:end]))
        start = end
    return nettings


def haircut_gains(deficit_minor: int, gains_minor: Sequence[int]) -> list[int]:
    """Cut this cycle's variation-margin gains pro rata to pay a deficit of the same currency.

    Returns one cut per gain, 0 <= cut <= gain, which sum to min(deficit, all gains): floor, then
    largest remainder, then the earlier first. List the gains by pool so that the last rule means
    the lower pool. Raises `InvariantBroken` on a negative gain or deficit.
    """
    return share_pro_rata(min(deficit_minor, sum(gains_minor)), gains_minor)


def pay_layers(deficit_minor: int, layers: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Pay a deficit out of `layers` (name, available), each exhausted before the next is touched.

    Returns what every layer pays, in order, zeros included; the sum is min(deficit, all available).
    A layer that is itself below zero has nothing to give.
    """
    check(deficit_minor >= 0, "a deficit is negative")
    paid: list[tuple[str, int]] = []
    left = deficit_minor
    for name, available_minor in layers:
        amount_minor = min(left, max(0, available_minor))
        left -= amount_minor
        paid.append((name, amount_minor))
    return paid


def _score_key(candidate: Candidate) -> int:
    """The score as one integer that compares exactly as the fraction does."""
    check(candidate.equity_minor < 2**62, "an equity is out of range")
    numerator, denominator = deleveraging_score(candidate)
    return (numerator << SCORE_SHIFT) // denominator


def _score_buckets(by_pool: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates of equal score together, greatest score first, by pool inside."""
    keyed = [(_score_key(candidate), candidate) for candidate in by_pool]
    # Sorting is stable and `reverse` keeps it so: candidates of equal score stay ordered by pool.
    keyed.sort(key=lambda pair: pair[0], reverse=True)
    buckets: list[list[Candidate]] = []
    last_key = -1
    for key, candidate in keyed:
        if key != last_key:
            buckets.append([])
        buckets[-1].append(candidate)
        last_key = key
    return buckets


def _net_instrument(cases: Sequence[OpenCase]) -> list[Netting]:
    longs = [max(0, case.position_lots) for case in cases]
    shorts = [max(0, -case.position_lots) for case in cases]
    netted = min(sum(longs), sum(shorts))
    sold = share_pro_rata(netted, longs)
    bought = share_pro_rata(netted, shorts)
    return [
        Netting(case.pool, case.instrument, buy - sell)
        for case, buy, sell in zip(cases, bought, sold, strict=True)
        if buy != sell
    ]


def _takeover_amounts(part: RankedSlice, lots: int, terms: LiquidationTerms) -> tuple[int, int]:
    """(fee, deficit) of taking over `lots` of a slice."""
    share = part_of_share(part, lots)
    if share < 0:
        return 0, -share
    fee = terms.takeover_fee_ppb * part.position.notional_minor * lots // (part.lots * RATE_SCALE)
    return min(fee, share), 0


def _largest_that_fits(part: RankedSlice, fits: Callable[[RankedSlice, int], bool]) -> int:
    if fits(part, part.lots):
        return part.lots
    low, high = 0, part.lots
    while high - low > 1:
        middle = (low + high) // 2
        if fits(part, middle):
            low = middle
        else:
            high = middle
    return low


def _left_slice(part: RankedSlice, quantity_lots: int, share_minor: int) -> LeftSlice:
    position = msgspec.structs.replace(part.position, quantity_lots=quantity_lots)
    # Nothing that is deleveraged goes through the market, so it has no spread.
    prices = slice_prices(position, share_minor, 0)
    return LeftSlice(position.instrument, quantity_lots, share_minor, prices)
