"""Which kind of margin model a preset is.

A venue that is charged by scenarios alone imports, and compiles, nothing of the others.
"""

from __future__ import annotations

from exchange.core.risk.model import RiskModel
from exchange.core.venue import Venue, VenueError
from margin.invariant import InvariantBroken
from margin.presets.preset import Preset


def risk_model(venue: Venue, preset: Preset, number: int = 0) -> RiskModel:
    """The model of a preset, the `number`-th of `Venue.presets`."""
    if preset.standard is not None:
        from exchange.core.risk.standard_model import StandardModel

        return StandardModel(venue, preset, number)
    if preset.history is not None:
        from exchange.core.risk.history_model import HistoryModel

        return HistoryModel(venue, preset, number)
    return RiskModel(venue, preset, number)


def require_models(venue: Venue) -> None:
    """Raise `VenueError` where the exact sums of a model would not fit: too many underlyings."""
    for number, preset in enumerate(venue.presets()):
        try:
            risk_model(venue, preset, number)
        except InvariantBroken as error:
            raise VenueError(
                f"preset {preset.name}: {error}; {len(venue.underlyings)} underlyings"
            ) from None
