"""Crowd files: counts and money by kind, and one line about what is wrong with them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from clients.crowd import Mix
from clients.crowd_file import CrowdError, mix_of, read_mix


def crowd(folder: Path, text: str) -> Path:
    path = folder / "crowd.toml"
    path.write_text(text, "utf-8")
    return path


def test_what_a_file_names_comes_and_nobody_else(tmp_path: Path) -> None:
    mix = read_mix(crowd(tmp_path, "noise_traders = 3\nnoise_trader_money = 1000.50\n"))
    assert mix.bots == mix.noise_traders == 3
    assert mix.noise_trader_money == Decimal("1000.50")
    assert mix.market_maker_money == Mix().market_maker_money


def test_a_story_is_a_crowd_file_too() -> None:
    import replays

    story = Path(replays.__path__[0]) / "stories" / "2025-10-10.toml"
    assert read_mix(story).trend_followers == 104


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("traders = 3", "unknown key traders; allowed: market_makers"),
        ("noise_traders = -1", "noise_traders must be a count"),
        ("noise_traders = 1.5", "noise_traders must be a count"),
        ("noise_traders = true", "noise_traders must be a count"),
        ("noise_traders = 1\nnoise_trader_money = nan", "noise_trader_money must be USDC"),
        ("noise_traders = 1\nnoise_trader_money = '5'", "noise_trader_money must be USDC"),
        ("", "0 bots"),
        ("noise_traders = 10001", "10001 bots"),
        ("noise_traders = ", "not TOML"),
    ],
)
def test_a_crowd_that_cannot_be_built_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CrowdError, match=message):
        read_mix(crowd(tmp_path, text))


@pytest.mark.parametrize("bots", [1, 2, 3, 11, 40, 100, 114, 1_000])
def test_a_number_gives_so_many_in_proportion(bots: int) -> None:
    mix = mix_of(bots)
    assert mix.bots == bots
    assert mix.market_makers >= min(2, bots)
    assert mix_of(Mix().bots) == Mix()
