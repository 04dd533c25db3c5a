from __future__ import annotations

import pytest

from margin.invariant import InvariantBroken
from margin.pools.pair_vector import delta_shock_coin, offset_gains


def test_gains_count_in_part_and_losses_whole() -> None:
    assert offset_gains([10, -10, 5, 0], 600_000_000) == [6, -10, 3, 0]
    assert offset_gains([7], 400_000_000) == [2]  # 2.8, against the account
    with pytest.raises(InvariantBroken, match="offset"):
        offset_gains([1], 10**9 + 1)


def test_a_delta_is_shocked_above_its_threshold() -> None:
    """20m USD at 2,000 are 10,000 coins; 4e-6 a coin above, at most a tenth."""
    terms = 2_000 * 10**8, 20_000_000, 4_000, 100_000_000
    assert delta_shock_coin(10_000 * 10**8, *terms) == 0
    assert delta_shock_coin(-15_000 * 10**8, *terms) == 15_000 * 10**8 * 2 // 100
    assert delta_shock_coin(100_000 * 10**8, *terms) == 10_000 * 10**8
