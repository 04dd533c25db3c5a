from __future__ import annotations

import msgspec
import pytest

from margin.invariant import InvariantBroken
from margin.presets import load_preset
from margin.presets.preset import Preset
from margin.presets.sections import DeltaShock, NamedRate, Pair
from margin.reasons.explain import explain
from margin.reasons.explanation import PairVector, UnitPart
from margin.reasons.pair_vector import delta_shock_coin, offset_gains
from tests.margin.small_books import PS_1, small_book

DERIBIT = load_preset("deribit")
E8 = 10**8


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


def told(*lots: int, coin: float = 0, preset: Preset = DERIBIT) -> tuple[PairVector, UnitPart]:
    """The only unit's vector, and the unit, of a book of perpetuals, puts and inverse contracts."""
    found = explain(preset, small_book(*lots, coin=coin), distances=False)
    (vector,), (unit,) = found.pairs, found.units
    return vector, unit


def shocked_from(threshold_usd: int) -> Preset:
    rates = (NamedRate(name="default", rate_e9=10_000_000),)
    shock = DeltaShock(threshold_usd=threshold_usd, per_coin=rates, most_ppb=10**8)
    pair = Pair(offset_ppb=600_000_000, delta_shock=shock)
    return msgspec.structs.replace(DERIBIT, pair=pair)


def test_an_inverse_short_gains_x_over_1_plus_x_coins_and_counts_six_tenths_of_it() -> None:
    """One coin at 100,000 short, range 16 %: the vector of the unmoved volatility."""
    vector, unit = told(0, 0, -100)
    rows = [
        (row.cell.spot_move_e9 / 1e9, profit, counted)
        for row, profit, counted in zip(
            unit.scenarios, vector.profit_e8, vector.counted_e8, strict=True
        )
        if row.cell.volatility == "unchanged"
    ]
    assert len(rows) == 9
    for move, profit, counted in rows:
        wanted = -move / (1 + move)
        assert profit / E8 == pytest.approx(wanted, abs=2e-8)
        assert counted / E8 == pytest.approx(wanted * (0.6 if wanted > 0 else 1), abs=2e-8)


def test_the_net_delta_is_that_of_positions_and_coin() -> None:
    assert told(3, 0, -100, coin=0.5)[0].delta_e8 == (3 - 1) * E8 + E8 // 2
    put = told(0, 1)[0].delta_e8 / E8
    assert -0.3 < put < -0.1


def test_a_delta_above_the_threshold_has_a_shock_and_margin_is_what_it_was() -> None:
    """Three coins over a threshold of two: 1 % a coin above it, of all three."""
    vector, _ = told(3, preset=shocked_from(200_000))
    assert vector.delta_shock_e8 == 3 * E8 // 100
    assert told(3, preset=shocked_from(300_000))[0].delta_shock_e8 == 0
    assert told(3)[0].delta_shock_e8 == 0, "20 million USD are far away"
    margins = {
        explain(preset, small_book(3), distances=False).initial_minor
        for preset in (DERIBIT, shocked_from(0))
    }
    assert len(margins) == 1, "told, not charged"


def test_a_model_without_pairs_tells_no_vector() -> None:
    assert explain(PS_1, small_book(1), distances=False).pairs == ()


@pytest.mark.parametrize(
    ("part", "words"),
    [({"threshold_usd": -1}, "threshold_usd: must lie in 0"), ({"most_ppb": 2 * 10**9}, "most"),
     ({"per_coin": ()}, "per_coin")],
)  # fmt: skip
def test_constants_of_the_shock_have_bounds(part: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        msgspec.structs.replace(
            DERIBIT.pair.delta_shock,
            **part,  # type: ignore[union-attr]
        ).__post_init__()
