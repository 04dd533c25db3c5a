"""Surfaces of recorded option chains: accepted, free of arbitrage, and near the venue's own marks.

The chains are no part of the repository: without them these tests are skipped.
"""

from __future__ import annotations

import numpy as np
import pytest

from exchange.surface.arbitrage import violations
from exchange.surface.fit import fit_surface
from exchange.surface.surface import Origin, Surface, parameters
from tests.benchmarks import bench_surface
from tests.benchmarks.bench_surface import errors_of, model_of, read_chain, snapshot_files

EVERY = 8


@pytest.mark.parametrize("currency", ["BTC", "ETH"])
def test_recorded_chains_are_fitted_through_the_crash(currency: str) -> None:
    """Each from the one before: nearly all accepted, none with arbitrage, within a point of marks.

    Deribit's mark volatilities are their own; three points are the spread of short-dated options.
    """
    files = snapshot_files()[::EVERY]
    if not files:
        pytest.skip(
            f"real data absent: {bench_surface.FOLDER} under $UNCROSS_DATA or ../shared/data"
        )
    surface: Surface | None = None
    refused, medians = 0, []
    for path in files:
        chain = read_chain(path, currency)
        surface = fit_surface(chain.quotes, surface)
        refused += surface.origin != Origin.FITTED
        at = parameters(surface, chain.quotes.time_ns)
        assert violations(at.theta, at.rho, at.phi).none, chain.name
        errors = errors_of(chain, model_of(surface, chain.quotes))
        medians.append(np.median(errors.to_mark))
    assert refused <= 1
    assert np.median(medians) < 0.75
    assert max(medians) < 2.0
