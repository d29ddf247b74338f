"""Many independent tasks over the cores: results as they come, one that fails fails alone."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

import numba

from .errors import DevicelabError, ParameterError

Task = TypeVar("Task")
Result = TypeVar("Result")
Begin = tuple[Callable[..., object], tuple[Any, ...]]
AHEAD = 2
"""Tasks handed out ahead of the results, a worker."""


class WorkerDied(DevicelabError, RuntimeError):
    """The process that ran a task ended without a word."""


def cores(workers: int | None) -> int:
    """Number of processes: as asked, or as many as this process may use."""
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 1:
        raise ParameterError("workers must be at least 1", got=workers)
    return workers


def outcomes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int | None = None,
    begin: Begin | None = None,
    fresh: str | None = None,
) -> Iterator[tuple[int, Result | BaseException]]:
    """(index, result) of every task in the order they finish; what a task raised comes in place of its result.

    A task whose process dies (out of memory, killed) gives `WorkerDied` and the others go on. Leaving the loop early,
    by Ctrl-C too, waits for the tasks that run and drops those that wait.

    Args:
        function: At the top level of a module, so that it can be sent to a process.
        tasks: Its arguments.
        workers: Processes; 1 runs in this process; all cores by default.
        begin: Called with its arguments by every process before its first task, for what all tasks need.
        fresh: Name of a module: processes are not copies of this one, but start anew with it imported. For tasks that
            use torch, whose copies may wait forever for locks of threads that they do not have.
    """
    count = min(cores(workers), max(1, len(tasks)))
    todo = list(range(len(tasks)))[::-1]
    while todo:
        suspects: list[int] = []
        for k, future in _pool_run(function, tasks, todo, count, begin, fresh):
            if isinstance(future.exception(), BrokenProcessPool):
                suspects.append(k)
            else:
                yield k, future.exception() or future.result()
        for k in suspects:
            for _, future in _pool_run(function, tasks, [k], 1, begin, fresh, alone=True):
                broke = isinstance(future.exception(), BrokenProcessPool)
                died = WorkerDied("the process of this task died", hint="too little memory? fewer workers")
                yield k, died if broke else future.exception() or future.result()


def _pool_run(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    todo: list[int],
    count: int,
    begin: Begin | None,
    fresh: str | None,
    alone: bool = False,
) -> Iterator[tuple[int, Future[Result]]]:
    """Take tasks from the end of `todo` until it is empty or the pool breaks."""
    pool: Executor = (
        ThreadPoolExecutor(1, initializer=_begun, initargs=(begin,))
        if count == 1 and not alone
        else ProcessPoolExecutor(count, _context(fresh), initializer=_quiet, initargs=(begin,))
    )
    running: dict[Future[Result], int] = {}
    broken = False
    try:
        while running or (todo and not broken):
            while todo and not broken and len(running) < AHEAD * count:
                try:
                    running[pool.submit(function, tasks[todo[-1]])] = todo[-1]
                except BrokenProcessPool:
                    broken = True
                    break
                todo.pop()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                broken |= isinstance(future.exception(), BrokenProcessPool)
                yield running.pop(future), future
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _context(fresh: str | None) -> multiprocessing.context.BaseContext | None:
    """How processes start: None as the system does."""
    if fresh is None:
        return None
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([fresh])
    return context


def _end_with_parent() -> None:
    """A parent that was killed leaves no processes behind that wait for it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _begun(begin: Begin | None) -> None:
    if begin is not None:
        begin[0](*begin[1])


def _quiet(begin: Begin | None) -> None:
    """Ctrl-C is for the parent, which lets running tasks finish; every process keeps to one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    numba.set_num_threads(1)
    with suppress(ImportError):  # comes with scikit-learn; without it the threads of BLAS are as the user set them
        import threadpoolctl  # type: ignore[import-untyped]

        threadpoolctl.threadpool_limits(1)
    _begun(begin)
