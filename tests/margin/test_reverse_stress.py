"""Reverse stress: which move is the first to break a pool, or the fund."""

from __future__ import annotations

import numpy as np
import pytest

from margin.invariant import Int64Array, InvariantBroken
from margin.portfolio import Marks, Positions
from margin.stresses.reverse_stress import (
    Break,
    Direction,
    Pools,
    along_all,
    along_unit,
    breaking_moves,
    equity_after,
    excess_after,
    fund_breaking_move,
    marks_after,
    moves_along,
    search_grid,
)
from margin.stresses.stress import Moves, moved_marks
from margin.valuation import option_marks
from tests.reference.reference_add_ons import column
from tests.reference.stress_book import (
    BTC,
    CALL_120,
    COIN,
    E9,
    ETH,
    INDEX_E8,
    INSTRUMENTS,
    INVERSE_BTC,
    MARKS,
    PUT_80,
    PUT_90,
    USDC,
    book,
    maintenance_at,
)

FALL_OF_BTC = along_unit(0, 2)


def test_the_grid_walks_both_sides_from_zero_to_the_ends() -> None:
    grid = search_grid()
    assert grid == sorted(set(grid))
    assert (grid[0], grid[-1]) == (-990_000_000, 5_000_000_000)
    assert 0 in grid
    near = [move for move in grid if abs(move) <= 500_000_000]
    assert set(np.diff(near).tolist()) == {5_000_000}


def test_a_future_breaks_where_its_loss_is_all_it_has() -> None:
    # one BTC long or short at 100,000 on 20,000: a cent below -20 %, a cent above +20 %
    found = breaking_moves(book(({BTC: 1000}, 20_000, 0), ({BTC: -1000}, 20_000, 0)), FALL_OF_BTC)
    assert found == (Break(-200_000_001, None), Break(None, 200_000_001))
    assert found[0].describe() == "fall: -20.0000001 %; rise: none within [-99 %, +500 %]"


def test_each_break_breaks_and_a_billionth_nearer_to_zero_does_not() -> None:
    pools = book(
        ({BTC: 700, PUT_90: -900, CALL_120: -2000}, 60_000, COIN // 10),
        ({PUT_80: -1500, INVERSE_BTC: -3000}, 30_000, COIN // 2),
        ({ETH: 900, BTC: -300}, 9_000, -COIN // 50),
    )
    directions = [along_all(2), FALL_OF_BTC, along_unit(1, 2), along_all(2, 4 * E9, -E9)]
    met = 0
    for direction in directions:
        for model in (None, maintenance_at):
            for p, found in enumerate(breaking_moves(pools, direction, model)):
                for move in found:
                    if not move:
                        continue
                    met += 1
                    nearer = move + (1 if move < 0 else -1)
                    excess = excess_after(pools, direction, [move, nearer], model)[p]
                    assert excess[0] < 0 <= excess[1]
    assert met > 15


def test_maintenance_is_that_of_the_moved_market() -> None:
    pools = book(({BTC: 1000}, 30_000, 0))
    (found,) = breaking_moves(pools, FALL_OF_BTC, maintenance_at)
    # equity 30,000 - x 100,000 falls to MM = (0.8 x 16 % + 1.5 %) of 100,000 (1 - x)
    assert found.fall_e9 is not None
    exact = (30_000 - 14_300) / (100_000 - 14_300)
    assert -found.fall_e9 / 1e9 == pytest.approx(exact, abs=1e-8)


def test_a_book_that_breaks_on_the_way_and_stands_again_is_caught_on_the_way() -> None:
    # short three puts at 90,000 and long six and a half at 80,000: worst about -13 %
    pools = book(({PUT_90: -3000, PUT_80: 6500}, 6_500, 0))
    (found,) = breaking_moves(pools, FALL_OF_BTC)
    assert found.fall_e9 is not None
    far = excess_after(pools, FALL_OF_BTC, [found.fall_e9, -250_000_000, -900_000_000], None)[0]
    assert far[0] < 0 < far[1] < far[2]
    assert -130_000_000 < found.fall_e9 < -80_000_000


def test_who_owes_nothing_never_breaks_and_who_is_broken_breaks_at_once() -> None:
    everything = along_all(2)
    owner, lender, flat = breaking_moves(
        book(({}, 0, COIN), ({}, 200_000, -COIN), ({}, 5, 0)), everything
    )
    assert owner == flat == Break(None, None)
    assert lender.fall_e9 is None
    assert lender.rise_e9 == 10**9 + 1  # a debt of one coin against twice its price
    assert breaking_moves(book(({BTC: 1}, -1, 0)), everything) == (Break(0, 0),)


def test_an_inverse_future_pays_in_coin_and_breaks_with_it() -> None:
    # long 100,000 USD on half a coin: it loses 100,000 (1/F' - 1/F) coin, half a coin at -1/3
    (found,) = breaking_moves(book(({INVERSE_BTC: 10_000}, 0, COIN // 2)), FALL_OF_BTC)
    assert found.fall_e9 is not None
    assert found.fall_e9 / 1e9 == pytest.approx(-1 / 3, abs=5e-8)
    assert found.rise_e9 is None


def test_the_model_sees_the_coin_that_futures_have_paid() -> None:
    """A coin sold for dollars by an inverse short stays hedged, so only 1.2 % of it is needed.

    Doubled, the short has cost half a coin: against the other half stands what is left of it.
    """
    hedged = book(({INVERSE_BTC: -10_000}, 0, COIN))
    seen = []

    def looked_at(marks: Marks, held: Positions) -> Int64Array:
        seen.append((int(marks.index_e8[0]), int(held.coin_minor[0, 0])))
        return maintenance_at(marks, held)

    excess = excess_after(hedged, FALL_OF_BTC, [0, E9, -(E9 // 2)], looked_at)[0]
    assert seen == [
        (100_000 * COIN, COIN), (200_000 * COIN, COIN // 2), (50_000 * COIN, 2 * COIN),
    ]  # fmt: skip
    assert (np.abs(excess - excess[0]) < 2 * 10**6).all(), "worth the same everywhere"


def test_the_fund_s_own_holdings_move_with_the_market() -> None:
    # accounts owe 100,000 x - 20,000; the fund, long a tenth, has 20,000 - 10,000 x
    pools, fund = book(({BTC: 1000}, 20_000, 0)), book(({BTC: 100}, 20_000, 0))
    found = fund_breaking_move(pools, FALL_OF_BTC, 20_000 * USDC, own=fund)
    assert found.fall_e9 == -(4 * 10**9) // 11 - (1 if 4 * 10**9 % 11 == 0 else 0)
    assert found.rise_e9 is None


def test_what_others_pay_of_the_deficits_is_asked_only_where_they_exceed_the_fund() -> None:
    # the accounts owe 100,000 x - 20,000, of which others pay up to 10,000
    pools, asked = book(({BTC: 1000}, 20_000, 0)), list[int]()

    def covered_after(moves: Moves) -> list[int]:
        falls = moves.spot_e9[0].tolist()
        asked.extend(falls)
        return [min(10_000 * USDC, -fall * 100_000 * USDC // E9 - 20_000 * USDC) for fall in falls]

    found = fund_breaking_move(pools, FALL_OF_BTC, 5_000 * USDC, covered_after=covered_after)
    assert found == Break(-350_000_001, None)
    assert max(asked) < -250_000_000


def test_haircuts_stay_on_the_coin_that_is_left() -> None:
    pools = book(({}, 1_000, COIN), ({}, 1_000, -COIN))
    moves = moves_along(along_all(2), INSTRUMENTS, [-500_000_000])
    assert equity_after(pools, moves).tolist() == [[48_500 * USDC], [-49_000 * USDC]]


def test_volatility_answers_a_fall_and_a_rise_each_in_its_way() -> None:
    direction = along_unit(0, 2, 4 * E9, -(E9 // 2))
    moves = moves_along(direction, INSTRUMENTS, [-100_000_000, 0, 200_000_000])
    assert moves.volatility_e9[PUT_90].tolist() == [400_000_000, 0, -100_000_000]
    assert not moves.volatility_e9[BTC].any()
    short = book(({PUT_90: -1000}, 15_000, 0))
    calm, wild = (breaking_moves(short, d)[0] for d in (FALL_OF_BTC, direction))
    assert calm.fall_e9 is not None
    assert wild.fall_e9 is not None
    assert calm.fall_e9 < wild.fall_e9 < 0


def test_units_follow_the_common_factor_by_their_betas_inside_the_range() -> None:
    direction = Direction(column([E9, 3 * E9 // 2]))
    moves = moves_along(direction, INSTRUMENTS, [-800_000_000, 100_000_000, 4 * E9])
    assert moves.spot_e9.tolist() == [
        [-800_000_000, 100_000_000, 4 * E9],
        [-990_000_000, 150_000_000, 5 * E9],
    ]
    alone = moves_along(along_unit(1, 2), INSTRUMENTS, [70_000_000])
    assert alone.spot_e9.tolist() == [[0], [70_000_000]]


def test_the_fund_is_exhausted_when_all_deficits_together_exceed_it() -> None:
    # at -x the first owes 100,000 x - 20,000 and the second 200,000 x - 50,000
    pools = book(({BTC: 1000}, 20_000, 0), ({BTC: 2000}, 50_000, 0), ({BTC: -1}, 500_000, 0))
    both = fund_breaking_move(pools, FALL_OF_BTC, 20_000 * USDC)
    assert both == Break(-300_000_001, None)
    first = fund_breaking_move(pools, FALL_OF_BTC, 3_000 * USDC)
    assert first == Break(-230_000_001, None)
    assert fund_breaking_move(pools, FALL_OF_BTC, 10**9 * USDC) == Break(None, None)
    assert fund_breaking_move(pools, FALL_OF_BTC, 0).fall_e9 == -200_000_001
    with pytest.raises(InvariantBroken, match="fund"):
        fund_breaking_move(pools, FALL_OF_BTC, -1)


def test_marks_after_a_move_price_options_again() -> None:
    moves = moves_along(along_all(2, E9, E9), INSTRUMENTS, [-100_000_000])
    then = marks_after(INSTRUMENTS, MARKS, moved_marks(INSTRUMENTS, MARKS, moves), 0)
    then.validate(INSTRUMENTS)
    assert then.index_e8.tolist() == (INDEX_E8 * 9 // 10).tolist()
    assert then.volatility_e9[PUT_90] == 550_000_000
    assert then.mark_e8[PUT_90] == option_marks(INSTRUMENTS, then)[PUT_90] > MARKS.mark_e8[PUT_90]


def test_an_inverse_contract_needs_a_currency_to_settle_in() -> None:
    pools = book(({INVERSE_BTC: 10}, 10, 0))
    nowhere = Pools(
        INSTRUMENTS, MARKS, pools.positions, pools.cash_minor, pools.option_value_minor,
        pools.haircuts, column([-1, 2]),
    )  # fmt: skip
    with pytest.raises(InvariantBroken, match="settles in no currency"):
        breaking_moves(nowhere, FALL_OF_BTC)
