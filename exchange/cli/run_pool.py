"""Independent runs in other processes, through the standard `concurrent.futures` shape.

A run that fails is told and loses nothing else; where a whole process dies, its runs are done again
one by one, so that only the one that kills it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

Request = TypeVar("Request")
Record = TypeVar("Record")


class Outcome(NamedTuple):
    """What became of a request: `record`, or None and the `failure` in words."""

    request: object
    record: object | None
    failure: str = ""


def processes(count: int) -> Executor:
    """A pool of fresh processes: nothing of this one is inherited."""
    return ProcessPoolExecutor(max_workers=count, mp_context=get_context("spawn"))


def run_all(
    run: Callable[[Request], Record],
    requests: Sequence[Request],
    workers: int,
    executor: Callable[[int], Executor] = processes,
) -> Iterator[Outcome]:
    """Run every request, and yield outcomes as they come, each request once.

    `run` and its requests must be picklable. `executor(workers)` makes what runs them; anything
    with the shape of `concurrent.futures.Executor` will do.
    """
    again: list[Request] = []
    with executor(workers) as pool:
        futures = {pool.submit(run, request): request for request in requests}
        try:
            for future in as_completed(futures):
                outcome = _outcome(future, futures[future])
                if outcome is None:
                    again.append(futures[future])
                else:
                    yield outcome
        except BaseException:  # interrupted: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for request in again:
        with executor(1) as alone:
            future = alone.submit(run, request)
            yield _outcome(future, request) or Outcome(request, None, "its process died")


def _outcome(future: Future[Record], request: Request) -> Outcome | None:
    """None where the process died under the future, which says nothing of its own run."""
    try:
        return Outcome(request, future.result())
    except BrokenProcessPool:
        return None
    except Exception as error:  # whatever a run raises is its own failure
        return Outcome(request, None, f"{type(error).__name__}: {error}")
