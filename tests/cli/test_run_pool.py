"""Runs in other processes: one that fails, or kills its process, loses nothing else."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor

from exchange.cli.run_pool import Outcome, run_all

DEADLY, REFUSED = 13, 7


def square(number: int) -> int:
    """Refuses one number, and takes its process with it for another."""
    if number == REFUSED:
        raise ValueError("seven is refused")
    if number == DEADLY:
        os._exit(1)
    return number * number


def threads(count: int) -> Executor:
    return ThreadPoolExecutor(count)


def test_every_request_has_one_outcome() -> None:
    found = list(run_all(square, [1, 2, 3, 4], 2, threads))
    assert sorted(found) == [Outcome(n, n * n) for n in (1, 2, 3, 4)]


def test_a_run_that_fails_is_told_and_loses_no_other() -> None:
    found = {outcome.request: outcome for outcome in run_all(square, [6, REFUSED, 8], 2, threads)}
    assert found[REFUSED] == Outcome(REFUSED, None, "ValueError: seven is refused")
    assert found[6].record == 36
    assert found[8].record == 64


def test_a_run_that_kills_its_process_is_the_only_one_lost() -> None:
    requests = [1, DEADLY, 3]
    found = {outcome.request: outcome for outcome in run_all(square, requests, 2)}
    assert found[DEADLY] == Outcome(DEADLY, None, "its process died")
    assert found[1].record == 1
    assert found[3].record == 9
