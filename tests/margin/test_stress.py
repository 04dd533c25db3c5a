"""Named stresses: the files, their figures, and what pools lose in them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from margin.portfolio import INVERSE_CALL, INVERSE_PUT, NEVER_NS, Instruments, Marks, Positions
from margin.presets.preset import NamedRate
from margin.stresses import StressError, load_stress, parse_stress, stress_names
from margin.stresses.stress import (
    LEAST_MOVE_E9,
    Basis,
    Moves,
    Stress,
    TenorMove,
    lot_profits,
    moved_marks,
    stress_losses,
    stress_moves,
)
from tests.reference import reference_stress as twin
from tests.reference.reference_add_ons import (
    COINS,
    DAY_NS,
    column,
    random_market,
    random_pools,
    textbook_option,
)
from tests.reference.reference_replay import data_file

SHIPPED = [load_stress(name) for name in stress_names()]
OWN = parse_stress(
    """
    name = "everything doubles"
    [spot]
    default = 1
    DOGE = 5
    [[volatility]]
    days = 3
    move = -0.5
    [[volatility]]
    days = 30
    move = 0.25
    [basis]
    perpetual = 0.01
    dated = -0.02
    """,
    source="own.toml",
)


def test_four_days_of_the_past_ship_by_name() -> None:
    assert stress_names() == ("2020-03-12", "2021-05-19", "2022-11-08", "2025-10-10")
    for stress in SHIPPED:
        assert stress.spot_move_e9("BTC") < 0
        assert stress.spot_move_e9("SOMETHING") == stress.spot_move_e9("default")
        assert stress.volatility_move_e9(30 * DAY_NS) > 0
    with pytest.raises(StressError, match="no stress 'x'; there are 2020-03-12"):
        load_stress("x")


GOOD = 'name = "a"\nvolatility = 0.5\n[spot]\ndefault = -0.2\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "a"\n', "", "name: missing"),
        ('"a"', "3", "name: must be text"),
        ('"a"', '""', "name: must not be empty"),
        ("volatility = 0.5\n", "", "volatility: missing"),
        ("0.5", '"up"', "volatility: must be a number"),
        ("0.5", "21", "volatility.move: must lie in -1 .. 20"),
        ("0.5", "nan", "volatility: must be finite"),
        ("0.5", "0.0000000001", "volatility: must be a whole number of 10"),
        ("0.5", "[]", "volatility: must hold a move"),
        ("0.5", "[{days = 1}]", "volatility\\[0\\].move: missing"),
        ("0.5", "[{days = 1.5, move = 1}]", "volatility\\[0\\].days: must be a whole number"),
        ("0.5", "[{day = 1, move = 1}]", "volatility\\[0\\].day: unknown key"),
        ("0.5", "[{days = 9, move = 1}, {days = 9, move = 1}]", "volatility.days: must rise"),
        ("[spot]\ndefault = -0.2\n", "", "spot: missing"),
        ("default", "BTC", "spot: needs a default"),
        ("-0.2", "-1", "spot.default: must lie in -0.99 .. 5"),
        ("-0.2", "true", "spot.default: must be a number"),
        ("[spot]\ndefault = -0.2\n", "spot = 3", "spot: must be a table"),
        ("[spot]", "[basis]\nspot = 1\n[spot]", "basis.spot: unknown key"),
        ("[spot]", "[basis]\ndated = -1\n[spot]", "basis.dated: must lie in -0.99 .. 1"),
        ("[spot]", "move = 1\n[spot]", "move: unknown key"),
        ("[spot]", "[spot", "x.toml: "),
    ],
)
def test_a_file_that_cannot_be_used_names_the_key(old: str, new: str, message: str) -> None:
    assert parse_stress(GOOD, source="x.toml").basis == Basis(perpetual_e9=0, dated_e9=0)
    broken = GOOD.replace(old, new, 1)
    assert broken != GOOD
    with pytest.raises(StressError, match=r"^x\.toml: ") as caught:
        parse_stress(broken, source="x.toml")
    assert message.replace("\\", "") in str(caught.value)


def test_volatility_moves_are_linear_in_days_between_tenors_and_flat_outside() -> None:
    def move(hours: int) -> int:
        return OWN.volatility_move_e9(hours * DAY_NS // 24)

    assert move(0) == move(72) == -500_000_000
    assert move(24 * 33 // 2) == -125_000_000
    assert move(24 * 30) == move(24 * 365) == 250_000_000
    assert move(73) == -500_000_000 + 750_000_000 // (27 * 24)


@pytest.mark.parametrize("seed", [31, 32])
def test_profits_of_a_lot_are_the_textbook_s(seed: int) -> None:
    market = random_market(seed)
    stresses = [*SHIPPED, OWN]
    moves = stress_moves(stresses, COINS, market.instruments, market.marks.now_ns)
    moved = moved_marks(market.instruments, market.marks, moves)
    found = lot_profits(market.instruments, market.marks, moved, settles_in_coin=False)
    for i, (k, stress) in itertools.product(range(len(market.instruments)), enumerate(stresses)):
        coin = COINS[int(market.instruments.unit[i])]
        exact = twin.lot_profit_usdc(market.instruments, market.marks, stress, coin, i)
        size = int(market.instruments.lot_e8[i]) / 1e8 * int(market.marks.forward_e8[i]) / 1e8
        # marks move in whole 10^-8, of which DOGE's price has few digits
        assert found[i, k] / 2**10 / 1e6 == pytest.approx(exact, rel=1e-6, abs=size * 1e-6)


def compared_with_the_twin(pools: int, seed: int) -> None:
    market = random_market(seed)
    stresses = [*SHIPPED, OWN]
    positions = random_pools(market, pools, seed, most_lots=10**9)
    moves = stress_moves(stresses, COINS, market.instruments, market.marks.now_ns)
    moved = moved_marks(market.instruments, market.marks, moves)
    profit = lot_profits(market.instruments, market.marks, moved, settles_in_coin=False)
    found = stress_losses(market.instruments, market.marks, positions, stresses, COINS)
    assert found.tolist() == twin.losses(market.marks, positions, stresses, COINS, profit)


@pytest.mark.parametrize("seed", [301, 302])
def test_losses_of_random_pools_equal_the_twin_to_the_minor_unit(seed: int) -> None:
    compared_with_the_twin(500, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(401, 404))
def test_losses_of_many_random_pools_equal_the_twin_to_the_minor_unit(seed: int) -> None:
    compared_with_the_twin(10_000, seed)


def test_a_pool_and_its_opposite_never_gain_together() -> None:
    market = random_market(33)
    pools = random_pools(market, 200, 33)
    other = Positions(pools.pool_start, pools.instrument, -pools.quantity_lots, -pools.coin_minor)
    both = sum(
        stress_losses(market.instruments, market.marks, held, SHIPPED, COINS)
        for held in (pools, other)
    )
    assert (both >= 0).all()  # rounded against each
    assert (both <= 1 + len(COINS)).all()


def test_coin_hedged_by_an_inverse_short_is_worth_the_same_in_every_stress() -> None:
    """One coin, short its value in dollars at the mark: what remains is the perpetual's basis."""
    market = random_market(34)
    inverse = int(np.flatnonzero(market.instruments.kind == 1)[0])
    unit = int(market.instruments.unit[inverse])
    market.marks.mark_e8[inverse] = market.marks.index_e8[unit]
    lots = int(market.marks.index_e8[unit]) // (10 * 10**8)
    coin = np.zeros((1, 3), np.int64)
    coin[0, unit] = 10 * 10**8 * lots * 10**8 // int(market.marks.index_e8[unit])
    held = Positions(column([0, 1]), column([inverse]), column([-lots]), coin)
    flat = Stress(
        name="a", spot=(NamedRate(name="default", rate_e9=-400_000_000),),
        volatility=(TenorMove(days=0, move_e9=0),), basis=Basis(perpetual_e9=0, dated_e9=0),
    )  # fmt: skip
    loss = stress_losses(market.instruments, market.marks, held, [flat], COINS)
    assert abs(int(loss[0, 0])) <= 10  # of tens of thousands of dollars


def test_an_option_settled_in_coin_changes_by_what_its_premium_is_worth() -> None:
    """Calls and puts at 100,000 of 30 days; spot -20 %, volatility +50 %, basis -5 %."""
    days_30 = 30 * DAY_NS
    both = Instruments(
        column([INVERSE_CALL, INVERSE_PUT]), column([0, 0]), column([days_30] * 2),
        column([10**13] * 2), column([10**8] * 2), column([0, 0]),
    )  # fmt: skip
    some = column([100_500 * 10**8] * 2)
    marks = Marks(
        0, column([10**13]), column([0, 0]), some, column([5 * 10**8] * 2), column([4 * 10**7] * 2)
    )
    stress = Stress(
        name="a", spot=(NamedRate(name="default", rate_e9=-200_000_000),),
        volatility=(TenorMove(days=0, move_e9=500_000_000),),
        basis=Basis(perpetual_e9=0, dated_e9=-50_000_000),
    )  # fmt: skip
    moved = moved_marks(both, marks, stress_moves([stress], ["BTC"], both, 0))
    in_coin, in_usdc = (
        lot_profits(both, marks, moved, settles_in_coin=paid)[:, 0] for paid in (True, False)
    )
    for row, call in enumerate((True, False)):
        forward, then_forward, tau = 100_500.0, 100_500 * 0.8 * 0.95, 30 / 365
        now = textbook_option(forward, 1e5, 0.5, tau, 1.0, call)[0] / forward
        then = textbook_option(then_forward, 1e5, 0.75, tau, 1.0, call)[0] / then_forward
        assert in_coin[row] / 2**10 / 1e8 == pytest.approx(then - now, rel=1e-6)
        assert in_usdc[row] / 2**10 / 1e6 == pytest.approx(then * 8e4 - now * 1e5, rel=1e-6)


def test_compiled_and_interpreted_give_the_same_bits() -> None:
    code = "from tests.margin.test_stress import _digest; print(_digest())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == _digest()


def _digest() -> str:
    market = random_market(35)
    held = random_pools(market, 100, 35)
    found = stress_losses(market.instruments, market.marks, held, [*SHIPPED, OWN], COINS)
    return hashlib.sha256(found.tobytes()).hexdigest()


# The figures of the files, computed again from the data they come from.


def _data(name: str) -> Path:
    path = data_file(name)
    if path is None:
        pytest.skip(f"real data absent: {name} under $UNCROSS_DATA or ../shared/data")
    return path


def _hours(name: str, columns: tuple[int, int, int]) -> list[tuple[int, float, float]]:
    """(unix second, low, close) of every hour of a CSV file, in order of time."""
    text = gzip.decompress(_data(f"prices_hourly/{name}").read_bytes()).decode()
    rows = (row for row in csv.reader(io.StringIO(text)) if row)
    numbers = (tuple(row[c] for c in columns) for row in rows if row[0].replace(".", "").isdigit())
    return sorted((int(float(t)), float(low), float(close)) for t, low, close in numbers)


def _worst(rows: list[tuple[int, float, float]], days: tuple[str, str], hours: int) -> float:
    """Deepest low against the highest close of the hours before it, between two dates."""
    first, last = (datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in days)
    near = [row for row in rows if first <= row[0] < last]
    return min(
        near[k][1] / max(close for _, _, close in near[max(0, k - hours) : k]) - 1
        for k in range(1, len(near))
    )


CRYPTOCOMPARE = ("BTC_USD_cryptocompare_1h_2019-11-20_2025-05-13.csv.gz", (0, 6, 5))
BITSTAMP = {coin: (f"Bitstamp_{coin}USD_1h_2018-05_2021-10.csv.gz", (0, 5, 6)) for coin in COINS}


@pytest.mark.parametrize(
    ("stress", "coin", "source", "days", "hours"),
    [
        ("2020-03-12", "BTC", BITSTAMP["BTC"], ("2020-03-10", "2020-03-16"), 24),
        ("2020-03-12", "ETH", BITSTAMP["ETH"], ("2020-03-10", "2020-03-16"), 24),
        ("2021-05-19", "BTC", CRYPTOCOMPARE, ("2021-05-16", "2021-05-24"), 24),
        ("2021-05-19", "ETH", BITSTAMP["ETH"], ("2021-05-16", "2021-05-24"), 24),
        ("2022-11-08", "BTC", CRYPTOCOMPARE, ("2022-11-05", "2022-11-13"), 48),
    ],
)
def test_spot_moves_are_the_deepest_lows_of_the_hourly_data(
    stress: str, coin: str, source: tuple[str, tuple[int, int, int]], days: tuple[str, str],
    hours: int,
) -> None:  # fmt: skip
    found = _worst(_hours(*source), days, hours)
    assert load_stress(stress).spot_move_e9(coin) / 1e9 == pytest.approx(found, abs=6e-5)


def _closes(coin: str, since: str) -> dict[str, float]:
    path = _data(f"prices_daily/{coin}-USD_yahoo_adjclose_{since}_2025-09-30.csv")
    with path.open(encoding="utf-8") as lines:
        return {row["Date"]: float(row["Adj_Close"]) for row in csv.DictReader(lines)}


@pytest.mark.parametrize(
    ("stress", "coin", "since", "first", "last"),
    [
        ("2021-05-19", "SOL", "2020-04-10", "2021-05-18", "2021-05-19"),
        ("2022-11-08", "ETH", "2017-11-09", "2022-11-07", "2022-11-09"),
        ("2022-11-08", "SOL", "2020-04-10", "2022-11-07", "2022-11-09"),
    ],
)
def test_spot_moves_between_closes_are_those_of_the_daily_data(
    stress: str, coin: str, since: str, first: str, last: str
) -> None:
    closes = _closes(coin, since)
    found = closes[last] / closes[first] - 1
    assert load_stress(stress).spot_move_e9(coin) / 1e9 == pytest.approx(found, abs=6e-5)


def _dvol() -> dict[str, float]:
    rows = json.loads(_data("dvol_funding_btc/dvol_btc.json").read_text("utf-8"))
    return {datetime.fromtimestamp(ms / 1000, UTC).date().isoformat(): v for ms, v in rows}


@pytest.mark.parametrize(
    ("stress", "first", "last"),
    [("2022-11-08", "2022-11-07", "2022-11-09"), ("2025-10-10", "2025-10-09", "2025-10-11")],
)
def test_volatility_moves_are_those_of_the_index(stress: str, first: str, last: str) -> None:
    dvol = _dvol()
    move = load_stress(stress).volatility_move_e9(30 * DAY_NS) / 1e9
    assert move == pytest.approx(dvol[last] / dvol[first] - 1, abs=6e-5)


def test_where_no_index_existed_volatility_starts_from_what_was_known_before() -> None:
    daily = list(_closes("BTC", "2014-09-17").items())
    end = next(k for k, (day, _) in enumerate(daily) if day == "2021-05-18")
    logs = [math.log(daily[k][1] / daily[k - 1][1]) for k in range(end - 29, end + 1)]
    mean = sum(logs) / 30
    realised = math.sqrt(sum((x - mean) ** 2 for x in logs) / 29 * 365)
    assert load_stress("2021-05-19").volatility_move_e9(0) / 1e9 == pytest.approx(
        1.5 / realised - 1, abs=0.01
    )
    march, before = load_stress("2020-03-12"), 0.035 * math.sqrt(365)
    assert march.volatility_move_e9(30 * DAY_NS) / 1e9 == pytest.approx(1.84 / before - 1, abs=0.01)
    assert march.volatility_move_e9(90 * DAY_NS) / 1e9 == pytest.approx(1.40 / before - 1, abs=0.01)


def _parquet(coin: str) -> Iterator[tuple[float, float, float]]:
    """(open, high, low) of the hours of 10 October 2025."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(_data(f"prices_hourly/{coin}USDT_1h_2023-01_2026-03.parquet"))
    rows = table.to_pydict()
    columns = (rows[name] for name in ("open", "high", "low"))
    for time, *prices in sorted(zip(rows["timestamp"], *columns, strict=True)):
        if str(time).startswith("2025-10-10"):
            yield prices[0], prices[1], prices[2]


@pytest.mark.parametrize("coin", ["BTC", "ETH", "SOL"])
def test_the_fall_of_october_2025_is_that_of_the_hourly_data(coin: str) -> None:
    highest, deepest = 0.0, 0.0
    for _, high, low in _parquet(coin):
        if highest:
            deepest = min(deepest, low / highest - 1)
        highest = max(highest, high)
    found = load_stress("2025-10-10").spot_move_e9(coin) / 1e9
    assert found == pytest.approx(deepest, abs=6e-5)


def test_no_price_falls_to_nothing() -> None:
    """A price of 10^-8 dollars that loses nearly all of itself is one of 10^-8 dollars."""
    one, zero = np.ones(1, np.int64), np.zeros(1, np.int64)
    instruments = Instruments(zero, zero, one * NEVER_NS, zero, one, zero - 1)
    moves = Moves(np.full((1, 1), LEAST_MOVE_E9), zero[:, None], zero[:, None])
    found = moved_marks(instruments, Marks(0, one, one, zero, zero, zero), moves)
    assert (found.index_e8.tolist(), found.mark_e8.tolist()) == ([[1]], [[1]])
