"""Which scenarios a margin model looks at, and how fine the integers that carry them can be."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from margin.fixed_point import RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.presets.preset import ListedScenario, Preset, rate_of
from margin.presets.sections import (
    ABSOLUTE_SKEW,
    COIN,
    DOWN,
    LINEAR_SKEW,
    SKEWS,
    UNCHANGED,
    UP,
)

MOST_RISK_EXPONENT: Final = 20
_SUM_BOUND: Final = 2**62
_SIDES_OF_AN_INSTRUMENT: Final = 3  # the position, all open buys, all open sells

SIDE_DOWN: Final = -1
SIDE_UNCHANGED: Final = 0
SIDE_UP: Final = 1
SIDE_LINEAR_SKEW: Final = 2
SIDE_ABSOLUTE_SKEW: Final = 3
_SIDE_OF: Final = {
    DOWN: SIDE_DOWN,
    UNCHANGED: SIDE_UNCHANGED,
    UP: SIDE_UP,
    LINEAR_SKEW: SIDE_LINEAR_SKEW,
    ABSOLUTE_SKEW: SIDE_ABSOLUTE_SKEW,
}


class Scenarios(msgspec.Struct, frozen=True, gc=False):
    """The scenarios of one risk unit, shape [S] each.

    `spot_move_e9` is relative (-0.16 is -160,000,000), `volatility_side` -1 down, 0 unchanged,
    +1 up, 2 linear skew, 3 absolute skew, `weight_e9` the part of the profit and loss that
    counts. Skews come last. `allowance_minor`: USDC by which the unit's loss is forgiven in each,
    None for nothing. `roll_e9`: least and annual rate of the roll charge. `volatility_up_e9`: the
    relative move of raised volatility at the reference tenor.
    """

    spot_move_e9: Int64Array
    volatility_side: Int64Array
    weight_e9: Int64Array
    volatility_up_e9: int
    allowance_minor: Int64Array | None = None
    roll_e9: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return int(self.spot_move_e9.shape[0])

    @property
    def skew_count(self) -> int:
        """Number of skew scenarios."""
        return int((self.volatility_side >= SIDE_LINEAR_SKEW).sum())


def listed_order(scenarios: tuple[ListedScenario, ...]) -> list[int]:
    """Places of the listed scenarios in the order of `scenarios_of`: skews last, else as listed."""
    return sorted(range(len(scenarios)), key=lambda at: scenarios[at].volatility in SKEWS)


def _grid_rows(preset: Preset, range_e9: int) -> list[tuple[int, int, int]]:
    rows: list[tuple[int, int, int]] = []
    if preset.grid is not None:
        for fraction_e9 in preset.grid.fraction_e9:
            size_e9 = (abs(fraction_e9) * range_e9 + RATE_SCALE // 2) // RATE_SCALE
            move_e9 = size_e9 if fraction_e9 >= 0 else -size_e9
            rows.extend((move_e9, _SIDE_OF[side], RATE_SCALE) for side in preset.grid.volatility)
    if preset.tails is not None:
        for move_e9 in preset.tails.move_e9:
            weight_e9 = -(-preset.tails.weight_e9 * range_e9 // abs(move_e9))
            rows.append((move_e9, SIDE_UP, min(RATE_SCALE, weight_e9)))
    if preset.extremes is not None:
        for multiple_e9 in preset.extremes.multiple_e9:
            move_e9 = multiple_e9 * range_e9 // RATE_SCALE
            check(move_e9 > -RATE_SCALE, "extremes: a move of the whole price and more")
            rows.append((move_e9, SIDE_UNCHANGED, preset.extremes.weight_e9))
    return rows


def scenarios_of(preset: Preset, unit_class: str) -> Scenarios:
    """The scenarios of a risk class (the coin's name; unknown names use "default").

    Grid: every fraction of the spot range x the volatilities of the grid, weight 1. Tails: the
    listed moves on raised volatility, weight = min(1, tail weight x range / |move|), rounded up.
    Extremes: multiples of the range, volatility unchanged. Skews: linear and absolute, weight 1.
    A preset with a list has the scenarios listed, in the order of `listed_order`.
    Form and tail weights: Derive PMRM 2 (`damp = kappa x range / |move|`), kappa from the preset.
    """
    if preset.scenario:
        listed = (preset.scenario[at] for at in listed_order(preset.scenario))
        rows = [(row.move_e9, _SIDE_OF[row.volatility], row.weight_e9) for row in listed]
    else:
        rows = _grid_rows(preset, preset.spot_range_e9(unit_class))
        if preset.skew is not None:
            rows += [(0, SIDE_LINEAR_SKEW, RATE_SCALE), (0, SIDE_ABSOLUTE_SKEW, RATE_SCALE)]
    range_e9 = preset.spot_range_e9(unit_class)
    columns = np.array([_in_numeraire(preset, row, range_e9) for row in rows], dtype=np.int64)
    roll = preset.roll
    return Scenarios(
        spot_move_e9=np.ascontiguousarray(columns[:, 0]),
        volatility_side=np.ascontiguousarray(columns[:, 1]),
        weight_e9=np.ascontiguousarray(columns[:, 2]),
        volatility_up_e9=preset.volatility.up_e9_of(unit_class),
        allowance_minor=_allowances(preset, unit_class, range_e9, [row[0] for row in rows]),
        roll_e9=(0, 0)
        if roll is None
        else (rate_of(roll.least, unit_class), rate_of(roll.annual, unit_class)),
    )


def _shocked_price_e9(move_e9: int, range_e9: int) -> int:
    """1 + move, the move cut to the range."""
    return RATE_SCALE + max(-range_e9, min(range_e9, move_e9))


def _in_numeraire(preset: Preset, row: tuple[int, int, int], range_e9: int) -> tuple[int, int, int]:
    """A scenario whose weight turns dollars at its spot into coin, valued at the index now.

    A dollar then buys 1 / (1 + move) of what it buys now; beyond the range a tail is priced at the
    range's edge, so that a future loses there what it loses at the edge (Deribit).
    """
    move_e9, side, weight_e9 = row
    if preset.numeraire == COIN:
        price_e9 = _shocked_price_e9(move_e9, range_e9)
        weight_e9 = (2 * weight_e9 * RATE_SCALE + price_e9) // (2 * price_e9)
    return move_e9, side, weight_e9


def _allowances(
    preset: Preset, unit_class: str, range_e9: int, moves_e9: list[int]
) -> Int64Array | None:
    """USDC minor forgiven per scenario: nothing within the range."""
    if preset.dampener is None:
        return None
    amount_e9 = rate_of(preset.dampener.amount, unit_class)
    found = []
    for move_e9 in moves_e9:
        beyond_e9 = max(0, abs(move_e9) - range_e9)
        price_e9 = _shocked_price_e9(move_e9, range_e9)
        found.append(beyond_e9 * amount_e9 * USDC_SCALE // (range_e9 * price_e9))
    return np.array(found, dtype=np.int64)


def loss_multiple(scenarios: Scenarios, preset: Preset | None = None) -> int:
    """A whole number that |weighted profit and loss| / notional can never exceed, orders included.

    Notional is size in coins x M, M the larger of index, forward and strike. For a move m of weight
    w a delta-one position changes by at most M |m| w. An option is worth something between 0 and
    max(F (1 + m), K) <= M max(1, 1 + m) then, static discounts included: the one on long value is
    at most its base, the one on short value at most the inverse of the discount factor, which it
    cancels. It is worth something between 0 and M now, so it changes by at most M max(1, 1 + m)
    base w. A basis move changes nothing by more than M (see `margin.presets.preset.Basis`). An open
    order adds the distance from its limit to the mark, undamped and taken to be at most one
    notional. `preset` is needed where a long base is above 1.
    """
    base_e9 = RATE_SCALE
    if preset is not None and preset.discount is not None:
        base_e9 = max(base_e9, preset.discount.long_base_e9)
    largest_e27 = RATE_SCALE**3 if preset is not None and preset.basis is not None else 0
    for move_e9, weight_e9 in zip(
        scenarios.spot_move_e9.tolist(), scenarios.weight_e9.tolist(), strict=True
    ):
        size_e9 = max(RATE_SCALE, RATE_SCALE + move_e9, -move_e9)
        largest_e27 = max(largest_e27, size_e9 * weight_e9 * base_e9)
    return -(-largest_e27 // RATE_SCALE**3) + 1


# Any move up to +500 % with weight 1, any volatility: 6, and 1 for the distance of a limit.
WIDEST_LOSS_MULTIPLE: Final = 7


def risk_exponent(
    position_notional_minor: int, instrument_count: int, multiple: int = WIDEST_LOSS_MULTIPLE
) -> int:
    """The finest risk exponent, 0 to 20, at which no sum of one risk unit can reach 2^62 quanta.

    `position_notional_minor`: the most that a position, the open buys or the open sells of one
    instrument may be worth, and a pool's coin cash too (USDC minor at index; size in coins x the
    larger of index, forward and strike for options; at least the value of one coin).
    `instrument_count`: the most instruments of the unit in one pool. `multiple`: `loss_multiple`
    of its scenarios.

    Bound: each instrument enters three times (position, buys, sells) and coin cash once more, so
    |sum| <= 3 (count + 1) x notional x multiple x 2^e. The product of the split of coin cash,
    a remainder below one step times the column of one step, is below the loss of 10^-4 coin
    x 10^4, so it has the same bound. Contingencies are below one notional each.
    `InvariantBroken` if not even exponent 0 fits.
    """
    check(position_notional_minor > 0 and instrument_count > 0, "risk exponent: empty bound")
    most = _SIDES_OF_AN_INSTRUMENT * (instrument_count + 1) * position_notional_minor * multiple
    check(most < _SUM_BOUND, "risk exponent: the allowed notional does not fit into 62 bits")
    exponent = 0
    while exponent < MOST_RISK_EXPONENT and most << (exponent + 1) < _SUM_BOUND:
        exponent += 1
    return exponent
