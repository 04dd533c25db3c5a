"""The synthetic window of residuals that ships with `fhs-es`, drawn in integers.

A year of a venue's prices is not ours to ship, so the window is drawn once from a stated law
and kept as data: with a common factor M and own factors, each a Student t of four degrees divided
by its deviation,

    spot of a coin = sqrt(rho) M + sqrt(1 - rho) own
    volatility     = -0.4 M + 0.5 (|M| - its mean) + 0.6 own       (rises most when prices fall)

then centred, brought to a deviation of 1 and cut at 6. Only integers are used, so that every
machine draws the same window. Tails and correlation are choices in the range that coins show.
"""

from __future__ import annotations

from math import isqrt
from random import Random
from typing import Final

E3: Final = 10**3
E9: Final = 10**9
DATES: Final = 400
SEED: Final = 20251010
RHO_E3: Final = {"BTC": 850, "ETH": 800, "SOL": 700, "default": 600}
MOST_E3: Final = 6 * E3
_DRAWS, _DRAW_MOST = 12, 10**6  # the sum of 12 draws of -most..most has a deviation of 2 x most


def _normal_e9(random: Random) -> int:
    total = sum(random.randint(-_DRAW_MOST, _DRAW_MOST) for _ in range(_DRAWS))
    return total * E9 // (2 * _DRAW_MOST)


def _student_e9(random: Random) -> int:
    """A Student t of 4 degrees: a normal over the root of a mean of four squares."""
    normal = _normal_e9(random)
    squares = sum(_normal_e9(random) ** 2 for _ in range(4))
    return normal * E9 // isqrt(squares // 4)


def _residuals_e3(column: list[int]) -> list[int]:
    """A column centred, at a deviation of 1, cut at the most, x 10^3."""
    count = len(column)
    mean = sum(column) // count
    deviation = isqrt(sum((x - mean) ** 2 for x in column) // count)
    scaled = [(2 * (x - mean) * E3 + deviation) // (2 * deviation) for x in column]
    return [max(-MOST_E3, min(MOST_E3, x)) for x in scaled]


def draw_window(dates: int = DATES, seed: int = SEED) -> dict[str, dict[str, list[int]]]:
    """Residuals x 10^3 by factor (spot, volatility) and coin, row n of all on one date."""
    random = Random(seed)  # noqa: S311 - a window for everybody to draw again
    market = [_student_e9(random) for _ in range(dates)]
    size = [abs(x) for x in market]
    mean = sum(size) // dates
    spot = {}
    for name, rho_e3 in RHO_E3.items():
        both, own = isqrt(rho_e3 * E3), isqrt((E3 - rho_e3) * E3)
        spot[name] = [(both * m + own * _student_e9(random)) // E3 for m in market]
    volatility = [
        (-400 * m + 500 * (s - mean) + 600 * _student_e9(random)) // E3
        for m, s in zip(market, size, strict=True)
    ]
    return {
        "spot": {name: _residuals_e3(column) for name, column in spot.items()},
        "volatility": {"default": _residuals_e3(volatility)},
    }


def window_text(window: dict[str, dict[str, list[int]]]) -> str:
    """The window as the tables that a preset's file holds."""
    lines = []
    for factor, columns in window.items():
        for name in sorted(columns):
            lines += ["", f"[[history.{factor}]]", f'name = "{name}"', "residual = ["]
            cells = [f"{value // E3 if value >= 0 else -(-value // E3)}.{abs(value) % E3:03d}"
                     if value >= 0 or -value >= E3 else f"-0.{-value:03d}"
                     for value in columns[name]]  # fmt: skip
            lines += [
                "    " + ", ".join(cells[at : at + 12]) + "," for at in range(0, len(cells), 12)
            ]
            lines += ["]"]
    return "\n".join(lines) + "\n"
