"""Compile every kernel, or load it from the disk cache, before a market opens."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

PACKAGES = ("margin", "exchange.core")
MARKET = ("exchange.core.engine", "exchange.marker", "exchange.gateway.server")
EXPLAINING = ("margin.reasons.explain", "margin.reasons.explain_formula")
# About half of all compilation; `uncross` compiles the auction too.
SLOWEST = [
    "margin.pools.requirement",
    "exchange.core.auction.clearing",
    "exchange.core.auction.uncross",
]
# Only a venue with very many pools calls them, so nobody waits for them.
SELDOM = ["margin.pools.changed_pools", "margin.pools.drift_bound", "margin.pools.drift_screen"]
FIRST = "exchange.core.orders.batch_entry"  # a second to compile: tells soon of an empty cache
COLD_S = 0.9  # no module takes as long to load from the cache

Progress = Callable[[int, int, str], None]  # done, of how many, what comes next


def kernel_modules() -> list[str]:
    """Names of the modules of `margin` and the core whose kernels an open market calls.

    Those that it imports and that have a `warm_up`, the slowest last; models that only a command
    asks for compile when it does. `FIRST` leads.
    """
    for name in MARKET:
        importlib.import_module(name)
    apart = (FIRST, *SLOWEST, *SELDOM)
    names = [name for name in _with_kernels(PACKAGES) if name not in apart]
    return [FIRST, *names, *SLOWEST]


def _with_kernels(packages: tuple[str, ...]) -> list[str]:
    """Names of the modules of some packages that are imported and have a `warm_up`, sorted."""
    inside = tuple(f"{package}." for package in packages)
    loaded = [(name, module) for name, module in sys.modules.items() if name.startswith(inside)]
    return sorted(name for name, module in loaded if "warm_up" in vars(module))


def explaining_modules() -> list[str]:
    """Names of the modules whose kernels explain a portfolio, the slowest last."""
    for name in EXPLAINING:
        importlib.import_module(name)
    return sorted(_with_kernels(("margin",)), key=lambda name: (name in SLOWEST, name))


def warm_up(progress: Progress | None = None, names: list[str] | None = None) -> None:
    """Call `warm_up()` of every module with kernels, then what is called value by value; or of the
    modules `names` alone.

    Where the cache is empty, or turns out to be, a second process compiles the slowest modules into
    it meanwhile: compiling holds one core, and a market needs two anyhow. `SELDOM` has time.
    """
    market = names is None
    beside: subprocess.Popen[bytes] | None = None
    if market and _is_cache_empty(SLOWEST[0]):
        beside = _compile_beside(SLOWEST)
    elif market and _is_cache_empty(SELDOM[0]):
        _compile_beside([])
    names = kernel_modules() if names is None else names
    slowest = [name for name in SLOWEST if name in names]
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names), name)
        if slowest and name == slowest[0] and beside is not None:
            _wait_for_slowest(beside)
        began = time.perf_counter()
        importlib.import_module(name).warm_up()
        if beside is None and time.perf_counter() - began > COLD_S and name not in SLOWEST:
            beside = _compile_beside(slowest)
    if market:
        _warm_up_scalars()
        importlib.import_module("exchange.surface.fit").warm_up()
    if progress is not None:
        progress(len(names), len(names), "")


def _is_cache_empty(name: str) -> bool:
    """Whether no file of a module's kernels lies beside it, where numba puts them.

    Asked before anything is imported. Where numba puts them elsewhere, and where a file is of other
    source, the time of the first module tells (`COLD_S`).
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return False
    source = Path(found.origin)
    if "NUMBA_CACHE_DIR" in os.environ or not os.access(source.parent, os.W_OK):
        return False
    return not any((source.parent / "__pycache__").glob(f"{source.stem}.*.nbi"))


def _compile_beside(slowest: list[str]) -> subprocess.Popen[bytes]:
    """A process that compiles the slowest modules; if it fails, they compile here after all.

    It says so when they are done, and goes on with those that are seldom needed.
    """
    work = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from exchange.cli.warm_up import compile_slowest; compile_slowest({slowest!r})"
    )
    beside = subprocess.Popen(  # noqa: S603  # our own interpreter, our own code
        [sys.executable, "-c", work], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    atexit.register(_end, beside)
    return beside


def _end(beside: subprocess.Popen[bytes]) -> None:
    beside.kill()
    beside.communicate()


def _wait_for_slowest(beside: subprocess.Popen[bytes]) -> None:
    if beside.stdout is not None:
        beside.stdout.readline()  # empty where the process has failed


def compile_slowest(slowest: list[str]) -> None:
    """Compile the slowest modules into the cache, say so in a line, then the seldom used."""
    _compile(slowest)
    print(flush=True)
    _compile(SELDOM)


def _compile(names: list[str]) -> None:
    for name in names:
        importlib.import_module(name).warm_up()


def _warm_up_scalars() -> None:
    """Kernels that the marker, the gateway and the core also call on single Python numbers."""
    from margin.black76 import implied_volatility, price_and_greeks
    from margin.fixed_point import mul_div_floor

    mul_div_floor(1, 1, 1)
    value = price_and_greeks(1.0, 1.0, 0.5, 1.0, 1.0, True)[0]
    implied_volatility(value, 1.0, 1.0, 1.0, 1.0, True)


def warm_up_with_line(names: list[str] | None = None) -> None:
    """Warm up with one line on the terminal that shows how far it is; silent elsewhere."""

    def line(done: int, of: int, name: str) -> None:
        text = f"kernels {done}/{of} {name}" if name else f"kernels {of}/{of} ready"
        click.echo(f"\r\033[K{text}", nl=not name, err=True)

    warm_up(line if sys.stderr.isatty() else None, names)
