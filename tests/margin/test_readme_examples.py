"""Every example and constant in margin/README.md, computed; its map is the folder."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

import margin
from margin.presets import load_preset, preset_names
from margin.presets.add_on_sections import SQUARE_ROOT
from margin.scenarios.grid import scenarios_of
from tests.margin import (
    attested_examples,
    collateral_examples,
    default_examples,
    requirement_examples,
)
from tests.margin import test_add_on_examples as add_on_examples
from tests.margin import test_simulation_examples as simulation_examples
from tests.margin.constants_table import BUILT_ON, PRESETS, constants_table
from tests.margin.example_book import PS_1
from tests.margin.models import test_model_examples as model_examples
from tests.margin.readme_page import EXAMPLE, FLAT, SECTIONS, TEXT, Examples, compute

HERE: Examples = {
    **requirement_examples.EXAMPLES,
    **collateral_examples.EXAMPLES,
    **default_examples.EXAMPLES,
    **attested_examples.EXAMPLES,
}
ELSEWHERE = (model_examples, add_on_examples, simulation_examples)


@pytest.mark.parametrize("section", HERE)
def test_the_example_of_a_section_is_what_the_code_computes(section: str) -> None:
    compute(section, HERE[section])


def test_every_example_is_computed_once() -> None:
    computed = [*HERE, *(section for module in ELSEWHERE for section in module.EXAMPLES)]
    given = [name for name, text in SECTIONS.items() if EXAMPLE in text]
    assert sorted(computed) == sorted(given)
    assert TEXT.count(EXAMPLE) == len(given)


def test_the_table_of_constants_is_what_the_presets_hold() -> None:
    assert sorted([*PRESETS, *BUILT_ON]) == sorted(preset_names())
    assert constants_table() in TEXT


@pytest.mark.parametrize("name", BUILT_ON)
def test_a_preset_that_builds_on_another_differs_in_the_sections_that_the_page_names(
    name: str,
) -> None:
    base, sections = BUILT_ON[name]
    own, other = load_preset(name), load_preset(base)
    as_base = {section: getattr(other, section) for section in sections}
    assert all(getattr(own, section) != value for section, value in as_base.items())
    assert msgspec.structs.replace(own, name=base, **as_base) == other
    listed = ", ".join(f"`[{section}]`" for section in sections)
    assert f"| `{name}` | `{base}` | {listed} | " in SECTIONS["Presets"]


def test_the_table_of_collateral_sizes_is_what_ps_1_holds() -> None:
    assert collateral_examples.sizes_table() in SECTIONS["Collateral by size"]
    others = [name for name in preset_names() if load_preset(name).collateral_size]
    assert others == sorted(["ps-1", *BUILT_ON])


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_presets_counts_their_scenarios(name: str) -> None:
    preset = load_preset(name)
    scenarios = scenarios_of(preset, "BTC")
    basis = "yes" if preset.basis is not None else "no"
    spot = len(scenarios) - scenarios.skew_count
    assert f"| `{name}` | {spot} | {scenarios.skew_count} | {basis} | " in SECTIONS["Presets"]


def percent(part_e9: int) -> str:
    return f"{float(Fraction(part_e9, 10**7)):g}"


def test_the_constants_named_in_the_text_of_ps_1_are_its_own() -> None:
    ranges = ", ".join(f"{c} {percent(PS_1.spot_range_e9(c))} %" for c in ("BTC", "ETH"))
    assert f"{ranges}, others {percent(PS_1.spot_range_e9('SOL'))} %" in FLAT
    assert PS_1.tails is not None
    tails = [f"{move // 10**7:+d}" for move in PS_1.tails.move_e9]
    assert f"{', '.join(tails[:-1])} and {tails[-1]} %" in FLAT
    charge = PS_1.contingency
    assert (
        f"C_mm = {percent(charge.delta_one_maintenance_ppb)} % of gross delta-one size + "
        f"{percent(charge.naked_option_maintenance_ppb)} % of naked short options, "
        f"C_im = {percent(charge.delta_one_initial_extra_ppb)} % + "
        f"{percent(charge.naked_option_initial_extra_ppb)} %"
    ) in FLAT
    haircuts = [f"{c} {percent(PS_1.haircut_ppb(c))}" for c in ("USDC", "BTC", "ETH", "SOL")]
    assert f"Haircuts: {', '.join(haircuts)} %; {percent(PS_1.haircut_ppb('XYZ'))} %" in FLAT
    assert f"MM = ceil({PS_1.factor.maintenance_ppb / 1e9:g} worst)" in FLAT


def test_the_formulas_of_skew_discount_and_basis_have_the_numbers_of_ps_1() -> None:
    skew, discount, basis = PS_1.skew, PS_1.discount, PS_1.basis
    assert skew is not None
    assert discount is not None
    assert basis is not None
    e9 = 1e9
    for said in (
        f"c = {skew.linear_cap_e9 / e9:g} - {-skew.linear_cap_per_root_year_e9 / e9:g} sqrt(t)",
        f"k* = max({skew.least_reach_e9 / e9:g}, {skew.width_e9 / e9:g} sqrt(t) "
        f"({skew.volatility_e9 / e9:g} - {-skew.volatility_per_root_year_e9 / e9:g} sqrt(t)))",
        f"d+ = {discount.long_base_e9 / e9:g} exp(-t (r + {discount.long_add_e9 / e9:g}))",
        f"d- = min(1 / D, {discount.short_base_e9 / e9:g} exp(t "
        f"({discount.short_rate_share_e9 / e9:g} r + {discount.short_add_e9 / e9:g})))",
        f"moves by {percent(basis.up_e9)} % down or up",
        f"times {basis.add_e9 / e9:g} + {basis.per_year_e9 / e9:g} t",
    ):
        assert said in " ".join(SECTIONS["Expiries that count on their own"].split()), said


def test_the_constants_of_the_add_ons_are_those_of_ps_1() -> None:
    liquidity, gamma, funding = PS_1.liquidity, PS_1.gamma, PS_1.funding
    assert liquidity is not None
    assert gamma is not None
    assert funding is not None
    assert liquidity.form == SQUARE_ROOT
    assert (
        f"Constants of PS-1: Y = {liquidity.coefficient_e9 / 1e9:g}, "
        f"free share {percent(liquidity.free_share_e9)} %, d = {liquidity.depth_days_e9 / 1e9:g}; "
        f"z = {gamma.quantile_e9 / 1e9:g}, h >= {percent(gamma.least_gap_e9)} %, "
        f"{gamma.near_days} days, half spread {percent(gamma.half_spread_e9)} %; "
        f"{funding.horizon_hours} hours"
    ) in FLAT


def test_the_map_names_every_module_in_its_folder() -> None:
    folder = Path(margin.__file__).parent
    named: dict[str, set[str]] = {}
    place = ""
    for line in SECTIONS["Map"].split("The way of")[0].splitlines():
        cells = line.strip("| ").split(" | ") if line.startswith("| ") else []
        if cells and line.startswith("| |"):
            cells = [place, *cells]
        if len(cells) < 3 or cells[0] == "folder":
            continue
        place = cells[0]
        inside = place.strip("`/") if place.startswith("`") else ""
        named.setdefault(inside, set()).update(re.findall(r"`(\w+)`", cells[1]))
    there: dict[str, set[str]] = {}
    for module in folder.rglob("*.py"):
        if module.stem != "__init__":
            inside = "" if module.parent == folder else module.parent.name
            there.setdefault(inside, set()).add(module.stem)
    assert named == there
