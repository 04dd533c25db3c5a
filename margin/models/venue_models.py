"""The margin models that a venue can be charged by: the presets, and two that are no grid.

    standard   rules by position and expiry (`margin.models.standard`)
    fhs-es     expected shortfall over dates of the past (`margin.simulation.dates`)

What ends in ".toml" is a file of the same form as a preset that ships, and one of a user's own.
A name may end in "+floor": initial margin is then at least what the model's own forecast asks for
(`margin.forecasts.predictive`), in a model that forecasts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.models.standard_constants import load_standard
from margin.presets import (
    FLOOR,
    PresetError,
    find_preset,
    is_file_name,
    load_preset,
    load_shipped,
    preset_names,
)
from margin.presets.preset import Preset
from margin.presets.sections import (
    DEFAULT_NAME,
    UNCHANGED,
    Contingency,
    Factors,
    ListedScenario,
    NamedRate,
    VolatilityShock,
)

STANDARD: Final = "standard"
FHS_ES: Final = "fhs-es"

_NO_SHOCK: Final = VolatilityShock(
    up_e9=0, down_e9=0, reference_days=30, floor_days_e9=RATE_SCALE, short_power_e9=0,
    long_power_e9=0, least_up_e9=0,
)  # fmt: skip
_NO_CONTINGENCY: Final = Contingency(
    delta_one_maintenance_ppb=0, delta_one_initial_extra_ppb=0,
    naked_option_maintenance_ppb=0, naked_option_initial_extra_ppb=0,
)  # fmt: skip


def venue_model_names() -> tuple[str, ...]:
    """Names that `venue_model` accepts, sorted; those that forecast with "+floor" too."""
    plain = sorted((*preset_names(), STANDARD, FHS_ES))
    floors = [name + FLOOR for name in preset_names() if load_preset(name).predictive is not None]
    return (*plain, *floors)


def venue_model(name: str, folder: Path | None = None) -> Preset:
    """The model `name` as a venue journals it; what ends in .toml is a file, relative to `folder`.

    `PresetError` names what there is instead.
    """
    if is_file_name(name):
        return find_preset(name, folder)
    plain = name.removesuffix(FLOOR)
    if plain not in (*preset_names(), STANDARD, FHS_ES):
        known = ", ".join(venue_model_names())
        raise PresetError(f"no preset {name!r}; there are {known}, and files that end in .toml")
    if plain == STANDARD:
        found = _standard()
    elif plain == FHS_ES:
        found = load_shipped(FHS_ES)
    else:
        found = load_preset(plain)
    return found if plain == name else with_floor(found)


def with_floor(preset: Preset, floor: bool = True) -> Preset:
    """The model with or without the floor of its forecast, named so.

    `PresetError` where it does not forecast.
    """
    if preset.predictive is None:
        raise PresetError(f"{preset.name}: forecasts nothing that could be a floor")
    name = preset.name.removesuffix(FLOOR) + (FLOOR if floor else "")
    predictive = msgspec.structs.replace(preset.predictive, floor=floor)
    return msgspec.structs.replace(preset, name=name, predictive=predictive)


def _standard() -> Preset:
    """Standard margin as a preset: coverage is judged by what a perpetual needs."""
    rules = load_standard()
    perpetual = rules.perpetual
    return Preset(
        name=STANDARD,
        spot_range=(NamedRate(name=DEFAULT_NAME, rate_e9=perpetual.initial_ppb),),
        volatility=_NO_SHOCK,
        factor=Factors(maintenance_ppb=RATE_SCALE, initial_ppb=RATE_SCALE),
        contingency=_NO_CONTINGENCY,
        haircut=rules.haircut,
        scenario=(ListedScenario(move_e9=0, volatility=UNCHANGED, weight_e9=RATE_SCALE),),
        standard=rules,
    )
