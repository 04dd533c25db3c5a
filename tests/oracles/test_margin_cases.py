"""Published figures of other venues, through our own engine: one test a case.

`UNCROSS_ORACLES=FOLDER pytest tests/oracles` reads the cases of that folder instead of our copy.
"""

from __future__ import annotations

import pytest

from tests.oracles.case_files import (
    MARGIN,
    UNREADABLE,
    Case,
    folder_of_cases,
    misses,
    read_cases,
)
from tests.oracles.margin_models import MODELS

CASES = read_cases(folder_of_cases())


def objections(case: Case) -> list[str]:
    """Why a case does not stand: it cannot be read, nothing computes it, or a figure is missed."""
    if case.shape == UNREADABLE:
        return [f"{case.file}: {case.subject}"]
    if case.shape != MARGIN:
        return [f"{case.file}: rule profile {case.subject!r} of {case.shape} is not supported here"]
    if case.subject not in MODELS:
        known = ", ".join(sorted(MODELS))
        return [f"{case.file}: model {case.subject!r} is not supported; there are {known}"]
    return misses(case, MODELS[case.subject](case))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_published_figures_come_out(case: Case) -> None:
    found = objections(case)
    if found:
        pytest.fail("\n".join([case.name, *found]), pytrace=False)
