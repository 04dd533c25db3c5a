from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exchange.cli import warm_up as compiled
from exchange.cli.warm_up import explaining_modules, kernel_modules, warm_up
from tests.cli.conftest import SHORT_CYCLES, Demo

ROOT = Path(__file__).resolve().parents[2]

# Run in a fresh process: what is specialised after the warm-up was missing in it.
LATE = """
import asyncio, sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from exchange.cli.demo_market import DemoMarket, story_venue
from exchange.cli.warm_up import warm_up
from replays.story import load_story

def specialised():
    return {
        f"{module.__name__}.{name}": len(kernel.signatures)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith(("margin.", "exchange.core."))
        for name, kernel in vars(module).items() if isinstance(kernel, Dispatcher)
    }

story = load_story(sys.argv[1])
venue = story_venue(story)
warm_up()
before = specialised()
market = DemoMarket(story, venue, 7, Path(sys.argv[2]))
asyncio.run(market.play(int(sys.argv[3])))
market.close()
print({name for name, count in specialised().items() if count != before.get(name)})
"""


@pytest.mark.parametrize("known", [True, False])
def test_on_an_empty_cache_a_second_process_compiles_the_slowest(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file may be there, or every load counts as a compilation; the other process ends well."""
    monkeypatch.setattr(compiled, "_is_cache_empty", lambda name: known)
    monkeypatch.setattr(compiled, "COLD_S", 1e9 if known else -1.0)
    begun = []

    def noted(slowest: list[str]) -> subprocess.Popen[bytes]:
        begun.append(beside(slowest))
        return begun[-1]

    beside = compiled._compile_beside
    monkeypatch.setattr(compiled, "_compile_beside", noted)
    warm_up()
    assert [process.wait() for process in begun] == [0]
    assert kernel_modules()[-len(compiled.SLOWEST) :] == compiled.SLOWEST


def test_a_module_without_cached_kernels_is_an_empty_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uncached_kernels.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert compiled._is_cache_empty("uncached_kernels")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("NUMBA_CACHE_DIR", str(tmp_path))
        assert not compiled._is_cache_empty("uncached_kernels"), "nobody can tell from here"
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "uncached_kernels._pass-12.py311.nbi").touch()
    assert not compiled._is_cache_empty("uncached_kernels")


def test_kernels_that_only_very_many_pools_need_are_compiled_beside_where_they_alone_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(compiled, "_is_cache_empty", lambda name: name in compiled.SELDOM)
    monkeypatch.setattr(compiled, "_compile_beside", begun.append)
    warm_up()
    assert begun == [[]]
    begun.clear()
    warm_up(names=explaining_modules())
    assert begun == [], "an explanation screens nobody"


def test_the_kernels_of_very_many_pools_hold_nobody_up() -> None:
    assert not set(compiled.SELDOM) & set(kernel_modules())
    done = subprocess.run(
        [sys.executable, "-c", "from exchange.cli import warm_up; warm_up.compile_slowest([])"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "\n"


def test_the_warm_up_tells_how_far_it_is() -> None:
    told: list[tuple[int, int, str]] = []
    warm_up(lambda *step: told.append(step))
    names = kernel_modules()
    assert {"margin.pools.requirement", "exchange.core.auction.uncross"} <= set(names)
    assert [name for _, _, name in told] == [*names, ""]
    assert [done for done, _, _ in told] == list(range(len(names) + 1))


def test_an_explanation_warms_its_own_kernels_alone() -> None:
    names = explaining_modules()
    assert {"margin.reasons.pool_model", "margin.scenarios.grid", "margin.black76"} <= set(names)
    assert names[-1] == "margin.pools.requirement", "the slowest last"
    told: list[str] = []
    warm_up(lambda done, of, name: told.append(name), names)
    assert told == [*names, ""]


def test_no_kernel_is_compiled_once_the_market_is_open(demo: Demo) -> None:
    journal = demo.folder / "late.journal"
    run = subprocess.run(
        [sys.executable, "-c", LATE, str(demo.story), str(journal), str(SHORT_CYCLES)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == "set()\n"
