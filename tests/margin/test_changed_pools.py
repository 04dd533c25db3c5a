from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.pools import requirement
from margin.pools.changed_pools import (
    differing_pools,
    gather_pools,
    renew_requirements,
    requirements_of,
)
from margin.pools.requirement import pool_requirements, risk_table
from margin.portfolio import Positions
from margin.presets import load_preset
from margin.presets.preset import Preset
from tests.reference.moving_marks import with_rows
from tests.reference.random_portfolios import column, random_positions, random_venue

PS_1 = load_preset("ps-1")
VENUE = random_venue(PS_1, 41)
TABLE = risk_table(PS_1, VENUE.instruments, VENUE.matrix)


def test_gathered_pools_hold_what_they_held() -> None:
    positions = random_positions(VENUE, 200, 1)
    pools = column([7, 199, 0, 7])
    gathered = gather_pools(positions, pools)
    gathered.validate(VENUE.instruments)
    for n, p in enumerate(pools.tolist()):
        here = slice(int(gathered.pool_start[n]), int(gathered.pool_start[n + 1]))
        there = slice(int(positions.pool_start[p]), int(positions.pool_start[p + 1]))
        assert gathered.instrument[here].tolist() == positions.instrument[there].tolist()
        assert gathered.quantity_lots[here].tolist() == positions.quantity_lots[there].tolist()
        assert gathered.coin_minor[n].tolist() == positions.coin_minor[p].tolist()


def test_pools_differ_by_what_they_hold_and_new_ones_do() -> None:
    before = random_positions(VENUE, 300, 6)
    assert len(differing_pools(before, before)) == 0
    lots, instrument = before.quantity_lots.copy(), before.instrument.copy()
    with_rows_of = [p for p in range(300) if before.pool_start[p] < before.pool_start[p + 1]]
    bought, swapped, emptied = with_rows_of[3], with_rows_of[50], with_rows_of[-1]
    lots[before.pool_start[bought]] += 1
    instrument[before.pool_start[swapped]] += 1
    rows = slice(0, int(before.pool_start[emptied]))
    start = np.minimum(before.pool_start, before.pool_start[emptied])
    later = Positions(
        np.concatenate((start, start[-1:])), instrument[rows], lots[rows],
        np.concatenate((before.coin_minor + 1, before.coin_minor[:1])),
    )  # fmt: skip
    wanted = sorted({bought, swapped, *(p for p in with_rows_of if p >= emptied), 300})
    assert differing_pools(before, later).tolist() == wanted
    with pytest.raises(InvariantBroken, match="fewer pools than before"):
        differing_pools(later, before)


def test_a_part_of_the_pools_needs_what_it_needs_in_the_pass_of_all() -> None:
    positions = random_positions(VENUE, 1_000, 2)
    everyone = pool_requirements(TABLE, positions)
    pools = np.random.default_rng(2).permutation(1_000)[:333].astype(np.int64)
    for part, whole in zip(requirements_of(TABLE, positions, pools), everyone, strict=True):
        assert (part == whole[pools]).all()


def test_renewing_the_changed_pools_gives_the_pass_of_all() -> None:
    before, after = (random_positions(VENUE, 500, seed) for seed in (3, 4))
    random = np.random.default_rng(3)
    changed = np.flatnonzero(random.random(500) < 0.1).astype(np.int64)
    sources = [after if p in set(changed.tolist()) else before for p in range(500)]
    rows = [np.arange(s.pool_start[p], s.pool_start[p + 1]) for p, s in enumerate(sources)]
    mixed = Positions(
        column([0, *np.cumsum([len(r) for r in rows]).tolist()]),
        np.concatenate([s.instrument[r] for s, r in zip(sources, rows, strict=True)]),
        np.concatenate([s.quantity_lots[r] for s, r in zip(sources, rows, strict=True)]),
        np.stack([s.coin_minor[p] for p, s in enumerate(sources)]),
    )
    requirements = pool_requirements(TABLE, before)
    untouched = requirements.initial_minor.copy()
    renew_requirements(TABLE, mixed, changed, requirements)
    assert (requirements.initial_minor != untouched).sum() > 0.9 * len(changed) > 20
    for renewed, whole in zip(requirements, pool_requirements(TABLE, mixed), strict=True):
        assert (renewed == whole).all()


def test_no_pools_are_no_work() -> None:
    positions = random_positions(VENUE, 10, 5)
    assert requirements_of(TABLE, positions, column([])).initial_minor.shape == (0,)


@pytest.mark.parametrize("pool", [-1, 10])
def test_a_pool_that_does_not_exist_breaks(pool: int) -> None:
    positions = random_positions(VENUE, 10, 5)
    with pytest.raises(InvariantBroken, match="no such pool"):
        gather_pools(positions, column([3, pool]))


def test_requirements_of_another_number_of_pools_break() -> None:
    requirements = pool_requirements(TABLE, random_positions(VENUE, 9, 5))
    with pytest.raises(InvariantBroken, match="another number"):
        renew_requirements(TABLE, random_positions(VENUE, 10, 5), column([1]), requirements)


GRID_ONLY = msgspec.structs.replace(PS_1, skew=None, discount=None, basis=None)


@pytest.mark.parametrize(
    ("preset", "kernel"), [(PS_1, "_expiries_parallel"), (GRID_ONLY, "_margins_parallel")]
)
def test_the_parallel_pass_gives_the_serial_integers(
    monkeypatch: pytest.MonkeyPatch, preset: Preset, kernel: str
) -> None:
    """Large passes go to threads, and to rows of 32 bits; made to do so here with few pools."""
    venue = random_venue(preset, 42)
    wide = risk_table(preset, venue.instruments, venue.matrix)
    entries = np.arange(wide.rows.size).reshape(wide.rows.shape) * 7_919 % (2**32 - 1) - (2**31 - 1)
    table = with_rows(wide, entries, wide.terms)
    positions = random_positions(venue, 2_000, 6)
    serial = pool_requirements(table, positions)
    widths: list[int] = []
    parallel_kernel = getattr(requirement, kernel)

    def spied(chunks: int, *columns: np.ndarray) -> None:
        widths.append(columns[5].dtype.itemsize)
        parallel_kernel(chunks, *columns)

    monkeypatch.setattr(requirement, kernel, spied)
    monkeypatch.setattr(requirement, "PARALLEL_POOLS", 0)
    monkeypatch.setattr("margin.pools.risk_table._READS_PER_ROW", 0)
    parallel = pool_requirements(table, positions)
    assert widths == [4]
    for one, other in zip(serial, parallel, strict=True):
        assert (one == other).all()
    assert (serial.worst_minor > 0).mean() > 0.8
