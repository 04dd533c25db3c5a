"""Charges per lot: what each model makes of marks, and the pass that sums them over pools."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from margin.invariant import Int64Array, InvariantBroken
from margin.models import lognormal, open_interest, paradex_cross, vega
from margin.models.linear import LinearCharges, charge_of, pool_margins, quanta_of
from margin.portfolio import Instruments, Marks
from tests.reference.random_model_portfolios import (
    EXPONENTS,
    as_positions,
    pool_of,
    random_listing,
    random_pools,
)
from tests.reference.random_portfolios import INDEX_E8, column
from tests.reference.reference_models import LinearTwin, in_quanta, open_interest_fraction_ppm

ROOT = Path(__file__).parents[3]
E9 = 10**9
Pairs = list[tuple[int, int]]


class Charged:
    """Charges of a model on random delta-one instruments, and the rates they should come from."""

    def __init__(self, charges: LinearCharges, maintenance: Pairs, initial: Pairs) -> None:
        self.charges, self.maintenance, self.initial = charges, maintenance, initial


def both(rates: Int64Array) -> Pairs:
    return [(rate, rate) for rate in rates.tolist()]


def by_vega(instruments: Instruments, marks: Marks, random: np.random.Generator) -> Charged:
    rates = random.integers(0, 2 * 10**9, (2, len(instruments))).astype(np.int64)
    slippage = random.integers(0, 10**8, len(instruments)).astype(np.int64)
    scaling = vega.LevelScaling()
    charges = vega.lot_charges(
        instruments, marks, column(list(EXPONENTS)), rates[0], rates[1], slippage, scaling
    )
    pairs = [(a + s, b + s) for a, b, s in zip(*rates.tolist(), slippage.tolist(), strict=True)]
    initial = [
        tuple(math.ceil(Fraction(rate * scaling.initial_ppb, E9)) for rate in pair)
        for pair in pairs
    ]
    return Charged(charges, pairs, initial)  # type: ignore[arg-type]


def by_lognormal(instruments: Instruments, marks: Marks, random: np.random.Generator) -> Charged:
    volatility = random.integers(10**8, 3 * 10**9, len(INDEX_E8)).astype(np.int64)
    model = lognormal.RiskModel(tail_ppb=10**7, drift_e9=int(random.integers(-E9, E9)))
    charges = lognormal.lot_charges(instruments, marks, column(list(EXPONENTS)), model, volatility)
    factors = lognormal.risk_factors_ppb(model, volatility.tolist()).tolist()
    maintenance = [tuple(factors[unit]) for unit in instruments.unit.tolist()]
    initial = [
        tuple(math.ceil(Fraction(rate * model.initial_ppb, E9)) for rate in pair)
        for pair in maintenance
    ]
    return Charged(charges, maintenance, initial)  # type: ignore[arg-type]


def by_paradex(instruments: Instruments, marks: Marks, random: np.random.Generator) -> Charged:
    base, part = random.integers(0, E9, (2, len(instruments))).astype(np.int64)
    charges = paradex_cross.lot_charges(instruments, marks, column(list(EXPONENTS)), base, part)
    maintenance = [math.ceil(Fraction(b * p, E9)) for b, p in zip(base, part, strict=True)]
    return Charged(charges, both(np.array(maintenance)), both(base))


def by_open_interest(
    instruments: Instruments, marks: Marks, random: np.random.Generator
) -> Charged:
    tiers, initial, maintenance = [], [], []
    interest = random.integers(0, 10**13, len(instruments)).astype(np.int64)
    for held in interest.tolist():
        lower = int(random.integers(0, 5 * 10**12))
        upper = lower + int(random.integers(0, 5 * 10**12))
        base = int(random.integers(1, 10**6))
        tiers.append(
            open_interest.LiquidityTier(base_ppm=base, lower_cap_minor=lower, upper_cap_minor=upper)
        )
        fraction = open_interest_fraction_ppm(Fraction(base, 10**6), lower, upper, held)
        initial.append((fraction * 1000,) * 2)
        maintenance.append((base // 2 * 1000,) * 2)
    charges = open_interest.lot_charges(
        instruments, marks, column(list(EXPONENTS)), tiers, interest
    )
    return Charged(charges, maintenance, initial)


Model = Callable[[Instruments, Marks, np.random.Generator], Charged]
MODELS: list[Model] = [by_vega, by_lognormal, by_paradex, by_open_interest]
NAMES = [model.__name__ for model in MODELS]


def agree(model: Model, seed: int, pools: int) -> None:
    instruments, marks, _ = random_listing(seed, options=False)
    charged = model(instruments, marks, np.random.default_rng(seed))
    twin = LinearTwin(instruments, marks, list(EXPONENTS), charged.maintenance, charged.initial)
    positions = random_pools(instruments, pools, seed + 1)
    got = pool_margins(charged.charges, positions)
    for p in range(pools):
        margins = int(got.initial_minor[p]), int(got.maintenance_minor[p])
        assert margins == twin.margins(pool_of(positions, p)[0]), f"pool {p} of seed {seed}"


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_the_pass_is_the_sum_of_charges_to_the_minor_unit(model: Model) -> None:
    for seed in (1, 2):
        agree(model, seed, 500)


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_the_pass_is_the_sum_of_charges_to_the_minor_unit_for_long(model: Model) -> None:
    for seed in range(100, 118):
        agree(model, seed, 500)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_margins_are_not_negative_and_shrink_with_the_position(model: Model) -> None:
    instruments, marks, _ = random_listing(3, options=False)
    charges = model(instruments, marks, np.random.default_rng(3)).charges
    count = len(instruments)
    for side in (1, -1):
        pools = [{i: side * q} for i in range(count) for q in (0, 1, 2, 77, 5_000)]
        margins = np.stack(pool_margins(charges, as_positions(instruments, pools)))
        assert (margins.reshape(2, count, 5)[:, :, 0] == 0).all()
        assert (np.diff(margins.reshape(2, count, 5)) >= 0).all()


def test_nothing_offsets_anything() -> None:
    instruments, marks, _ = random_listing(4, options=False)
    charges = by_paradex(instruments, marks, np.random.default_rng(4)).charges
    one_by_one = [{i: q} for i, q in ((0, 30), (1, -40), (2, 50))]
    whole = {0: 30, 1: -40, 2: 50}
    margins = np.stack(pool_margins(charges, as_positions(instruments, [*one_by_one, whole])))
    apart = margins[:, :3].sum(axis=1)
    assert (margins[:, 3] <= apart).all()
    assert (apart - margins[:, 3] <= 2).all()  # rounded up once a unit


def test_an_option_in_the_listing_is_refused() -> None:
    instruments, marks, _ = random_listing(5)
    with pytest.raises(InvariantBroken, match="an option is listed"):
        by_paradex(instruments, marks, np.random.default_rng(5))


def test_the_value_of_a_lot_is_exact_to_the_nearest_quantum() -> None:
    random = np.random.default_rng(6)
    price = random.integers(0, 2**45, 4_000).astype(np.int64) >> random.integers(0, 40, 4_000)
    lot = random.integers(1, 2**33, 4_000).astype(np.int64) >> random.integers(0, 30, 4_000)
    exponent = random.integers(0, 21, 4_000).astype(np.int64)
    fits = price.astype(float) * lot < 2.0**37 * 1e10
    price, lot, exponent = price[fits], lot[fits], exponent[fits]
    assert fits.sum() > 2_000
    got = quanta_of(price, lot, exponent).tolist()
    rows = zip(price.tolist(), lot.tolist(), exponent.tolist(), strict=True)
    assert got == [int(in_quanta(*row)) for row in rows]


def test_a_lot_worth_too_much_is_refused_instead_of_overflowing() -> None:
    with pytest.raises(InvariantBroken, match="list smaller lots"):
        quanta_of(column([2**45]), column([10**10]), column([0]))
    with pytest.raises(InvariantBroken, match="negative"):
        quanta_of(column([-1]), column([1]), column([0]))
    with pytest.raises(InvariantBroken, match="risk exponent"):
        quanta_of(column([1]), column([1]), column([21]))


def test_a_charge_is_rounded_up_exactly_and_never_overflows() -> None:
    random = np.random.default_rng(7)
    value = random.integers(0, 2**50, 2_000).astype(np.int64) >> random.integers(0, 45, 2_000)
    rate = random.integers(0, 900 * E9, 2_000).astype(np.int64) >> random.integers(0, 39, 2_000)
    expected = [
        math.ceil(Fraction(v * r, E9)) for v, r in zip(value.tolist(), rate.tolist(), strict=True)
    ]
    assert charge_of(value, rate).tolist() == expected
    with pytest.raises(InvariantBroken, match="62 bits"):
        charge_of(column([2**59]), 5 * E9)
    with pytest.raises(InvariantBroken, match="negative"):
        charge_of(column([1]), -1)


def digest() -> str:
    """Margins of every model on one listing, hashed."""
    total = hashlib.sha256()
    for model in MODELS:
        instruments, marks, _ = random_listing(8, options=False)
        charges = model(instruments, marks, np.random.default_rng(8)).charges
        margins = pool_margins(charges, random_pools(instruments, 50, 8))
        total.update(np.stack(margins).tobytes())
    return total.hexdigest()


def test_compiled_and_interpreted_passes_give_the_same_bits() -> None:
    program = "from tests.margin.models.test_linear_charges import digest; print(digest())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == digest()
