from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, NEVER_NS, Instruments, Marks
from margin.presets import load_preset
from margin.presets.preset import ListedScenario
from margin.scenarios.grid import (
    WIDEST_LOSS_MULTIPLE,
    loss_multiple,
    risk_exponent,
    scenario_matrix,
    scenarios_of,
)
from tests.reference.random_portfolios import CLASSES, DAY_NS, EXPONENTS, column, random_venue
from tests.reference.reference_margin import (
    basis_profit_usdc,
    lot_profit_usdc,
    shocked_volatility,
)

PS_1 = load_preset("ps-1")


def test_ps_1_has_a_grid_of_27_8_tails_and_2_skews() -> None:
    btc = scenarios_of(PS_1, "BTC")
    assert (len(btc), btc.skew_count) == (37, 2)
    grid = list(zip(btc.spot_move_e9[:27].tolist(), btc.volatility_side[:27].tolist(), strict=True))
    moves = [move * 10**7 for move in (-16, -12, -8, -4, 0, 4, 8, 12, 16)]
    assert grid == [(move, side) for move in moves for side in (-1, 0, 1)]
    assert set(btc.weight_e9[:27].tolist()) == {10**9}
    assert btc.spot_move_e9[27:35].tolist() == [
        m * 10**7 for m in (-66, -33, 50, 100, 200, 300, 400, 500)
    ]
    assert btc.volatility_side[27:].tolist() == [1] * 8 + [2, 3]
    assert btc.spot_move_e9[35:].tolist() == [0, 0]
    # 0.75 x 16 / |move|
    assert btc.weight_e9[28:35].tolist() == [
        363_636_364, 240_000_000, 120_000_000, 60_000_000, 40_000_000, 30_000_000, 24_000_000,
    ]  # fmt: skip


def test_a_coin_without_its_own_range_takes_the_default() -> None:
    assert scenarios_of(PS_1, "SOL").spot_move_e9[0] == -270_000_000
    assert scenarios_of(PS_1, "ETH").spot_move_e9[0] == -180_000_000


@pytest.mark.parametrize("seed", [1, 2])
def test_every_cell_equals_the_textbook_value_to_the_quantum(seed: int) -> None:
    venue = random_venue(PS_1, seed)
    scenarios = [scenarios_of(PS_1, name) for name in CLASSES]
    rows = venue.matrix.expiry_rows
    assert rows is not None
    assert (rows.regular, rows.skews, rows.basis) == (35, 2, 1)
    moves = (PS_1.basis.down_e9 / 1e9, PS_1.basis.up_e9 / 1e9)
    for i in range(len(venue.instruments)):
        u = int(venue.instruments.unit[i])
        quanta = 1e6 * 2 ** EXPONENTS[u]
        notional = venue.marks.index_e8[u] / 1e8 * venue.instruments.lot_e8[i] / 1e8
        tolerance = 0.5 + 1e-12 * notional * quanta
        terms = PS_1, venue.instruments, venue.marks
        for s in range(37):
            positive, negative = lot_profit_usdc(*terms, scenarios[u], i, s)
            assert abs(int(rows.asset[i, s]) - positive * quanta) <= tolerance, (i, s)
            assert abs(int(rows.liability[i, s]) - negative * quanta) <= tolerance, (i, s)
        for way, move in enumerate(moves):
            want = basis_profit_usdc(*terms, i, move) * quanta
            got = (rows.asset, rows.liability)[way][i, 37]
            assert abs(int(got) - want) <= tolerance, (i, way)
    assert not rows.reversed_discount.any()


def test_a_lot_alone_gives_at_most_what_its_rows_say() -> None:
    """Long and short columns bound what one lot adds, whatever the sign of its expiry's value."""
    venue = random_venue(PS_1, 3)
    rows, matrix = venue.matrix.expiry_rows, venue.matrix
    low, high = np.minimum(rows.asset, rows.liability), np.maximum(rows.asset, rows.liability)
    assert (matrix.long[:, :35] == low[:, :35]).all()
    assert (matrix.short[:, :35] == -high[:, :35]).all()
    assert (matrix.long[:, 35:37] == -np.maximum(np.abs(low), np.abs(high))[:, 35:37]).all()
    assert (matrix.short[:, 35:37] == matrix.long[:, 35:37]).all()
    assert (matrix.long[:, 37] == np.minimum(0, low[:, 37])).all()
    assert (matrix.short[:, 37] == np.minimum(0, -high[:, 37])).all()


def test_a_model_without_expiries_of_their_own_has_one_row() -> None:
    plain = msgspec.structs.replace(PS_1, skew=None, discount=None, basis=None)
    assert random_venue(plain, 1).matrix.expiry_rows is None
    scenarios = [scenarios_of(PS_1, "BTC")]
    perpetual = scenario_matrix(PS_1, scenarios, _one(LINEAR, 10**8), _marks(10**13), column([0]))
    assert perpetual.expiry_rows is None
    assert (perpetual.short == -perpetual.long).all()
    future = _one(LINEAR, 10**8, expiry_ns=DAY_NS)
    dated = scenario_matrix(PS_1, scenarios, future, _marks(10**13), column([0]))
    assert dated.expiry_rows is not None


def _one(kind: int, lot_e8: int, expiry_ns: int = NEVER_NS, strike_e8: int = 0) -> Instruments:
    group = 0 if kind >= LINEAR_CALL else -1
    return Instruments(*(column([x]) for x in (kind, 0, expiry_ns, strike_e8, lot_e8, group)))


def _marks(mark_e8: int, now_ns: int = 0, volatility_e9: int = 500_000_000) -> Marks:
    index = 100_000 * 10**8
    columns = (column([x]) for x in (index, mark_e8, index, volatility_e9, 0))
    return Marks(now_ns, *columns)


def test_an_inverse_lot_converts_at_the_scenario_spot() -> None:
    """100 USD at F 80,000 and S 100,000: (100/F - 100/F') coin, each worth S (1 + m)."""
    matrix = scenario_matrix(
        PS_1, [scenarios_of(PS_1, "BTC")], _one(INVERSE, 100 * 10**8), _marks(80_000 * 10**8),
        column([0]),
    )  # fmt: skip
    coin = 100 / 80_000 - 100 / (80_000 * 0.84)
    assert matrix.long[0, 0] == round(coin * 84_000 * 1e6) == -20_000_000
    # 1.5 % of 100/F coin x S
    assert matrix.delta_one_mm[0] == 1_875_000
    assert matrix.naked_mm[0] == 0


def test_coin_cash_is_a_delta_one_column_and_knows_its_value() -> None:
    matrix = scenario_matrix(
        PS_1, [scenarios_of(PS_1, "BTC")], _one(LINEAR, 10**8), _marks(100_000 * 10**8),
        column([3]),
    )  # fmt: skip
    assert matrix.coin_value[0] == 10 * 10**6 * 2**3  # 10^-4 coin
    assert matrix.coin[0, 0] == -1_600_000 * 2**3
    assert matrix.coin[0, 34] == 1_200_000 * 2**3  # 5 x 0.75 x 16/500


@pytest.mark.parametrize("late_ns", [0, 1, 10**18])
def test_an_expired_option_is_worth_its_intrinsic_value(late_ns: int) -> None:
    plain = msgspec.structs.replace(PS_1, discount=None, averaging=None)
    call = _one(LINEAR_CALL, 10**8, expiry_ns=DAY_NS, strike_e8=90_000 * 10**8)
    marks = _marks(0, now_ns=DAY_NS + late_ns)
    matrix = scenario_matrix(plain, [scenarios_of(PS_1, "BTC")], call, marks, column([0]))
    assert matrix.long[0, 0] == -10_000 * 10**6
    assert matrix.long[0, 24:27].tolist() == [16_000 * 10**6] * 3


@pytest.mark.parametrize(
    ("days", "side", "want"),
    [
        (30, 1, 0.9 * 1.5),
        (30, -1, 0.9 * 0.75),
        (7.5, 1, 0.9 * (1 + 0.5 * 4**0.30)),
        (0.1, -1, 0.9 * (1 - 0.25 * 30**0.30)),
        (120, 1, 0.9 * (1 + 0.5 * 0.25**0.13)),
    ],
)
def test_the_twin_moves_volatility_by_tenor(days: float, side: int, want: float) -> None:
    assert shocked_volatility(PS_1, 0.9, days / 365, side) == pytest.approx(want, rel=1e-12)


def test_raised_volatility_has_a_floor_and_unmoved_volatility_has_none() -> None:
    strike = 100_000 * 10**8
    call = _one(LINEAR_CALL, 10**8, expiry_ns=30 * DAY_NS, strike_e8=strike)
    scenarios = [scenarios_of(PS_1, "BTC")]
    plain = msgspec.structs.replace(PS_1, discount=None)
    low, lower = (
        scenario_matrix(plain, scenarios, call, _marks(0, volatility_e9=v), column([0])).long[0]
        for v in (300_000_000, 200_000_000)
    )
    # at spot 0 and volatility up both reach 45 %: they differ by today's values alone
    now = 100_000 * 0.39894 * (0.3 - 0.2) * (30 / 365) ** 0.5
    assert lower[14] - low[14] == pytest.approx(now * 1e6, rel=0.01)
    assert low[13] == lower[13] == 0


def test_no_lot_loses_more_than_the_loss_multiple_of_its_notional() -> None:
    venue = random_venue(PS_1, 9)
    for i in range(len(venue.instruments)):
        u = int(venue.instruments.unit[i])
        coins = int(venue.instruments.lot_e8[i]) / 1e8
        if venue.instruments.kind[i] == INVERSE:
            coins /= int(venue.marks.mark_e8[i]) / 1e8
        highest = max(int(venue.marks.index_e8[u]), int(venue.instruments.strike_e8[i]))
        notional = coins * highest / 1e8 * 1e6 * 2 ** EXPONENTS[u]
        most = loss_multiple(scenarios_of(PS_1, CLASSES[u]), PS_1) - 1
        for rows in (venue.matrix.expiry_rows.asset, venue.matrix.expiry_rows.liability):
            assert np.abs(rows[i]).max() <= most * notional * 1.05
    assert loss_multiple(scenarios_of(PS_1, "SOL")) == 3
    full = ListedScenario(move_e9=5 * 10**9, volatility="up", weight_e9=10**9)
    undamped = msgspec.structs.replace(PS_1, grid=None, tails=None, scenario=(full,))
    assert loss_multiple(scenarios_of(undamped, "SOL"), PS_1) == WIDEST_LOSS_MULTIPLE


@pytest.mark.parametrize(
    ("notional_minor", "count", "multiple"),
    [(10**14, 500, 3), (10**12, 200, 12), (10**6, 1, 1), ((2**62 - 1) // 6 >> 5, 1, 1)],
)
def test_the_risk_exponent_is_the_finest_that_fits(
    notional_minor: int, count: int, multiple: int
) -> None:
    exponent = risk_exponent(notional_minor, count, multiple)
    most = 3 * (count + 1) * notional_minor * multiple
    assert most << exponent < 2**62
    assert exponent == 20 or most << (exponent + 1) >= 2**62


def test_limits_that_cannot_fit_break() -> None:
    with pytest.raises(InvariantBroken, match="does not fit"):
        risk_exponent(10**18, 1000)


def matrix_digest() -> str:
    """Digest of a matrix with options, futures and coins."""
    matrix = random_venue(PS_1, 4).matrix
    rows = matrix.expiry_rows
    digest = hashlib.sha256(rows.asset.tobytes() + rows.liability.tobytes())
    digest.update(matrix.long.tobytes() + matrix.short.tobytes() + matrix.coin.tobytes())
    return digest.hexdigest()


def test_compiled_and_interpreted_matrices_have_the_same_bits() -> None:
    code = "from tests.margin.test_scenarios import matrix_digest; print(matrix_digest())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    interpreted = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert interpreted.stdout.strip() == matrix_digest(), interpreted.stderr
