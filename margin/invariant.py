"""Checks that stay on: a broken invariant stops the engine, whatever the interpreter's flags."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64Array: TypeAlias = npt.NDArray[np.int64]
Float64Array: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


class InvariantBroken(AssertionError):
    """Something that can never be true was true. The state is not to be trusted any more."""


def check(condition: object, message: str) -> None:
    """Raise `InvariantBroken` with `message` unless `condition` holds.

    Unlike `assert` it is not removed under `python -O`.
    """
    if not condition:
        raise InvariantBroken(message)
