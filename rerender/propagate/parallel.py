"""Several intervals at once, in worker processes; the same bytes in the same order as in one process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_exit

import numpy as np
import psutil

from rerender.errors import Interrupted
from rerender.motion.flow import FlowEstimator
from rerender.propagate.backend import on_gpu
from rerender.propagate.interval import IntervalJob, propagate_in_turn
from rerender.propagate.lookout import usable_cores
from rerender.propagate.memory import interval_memory
from rerender.propagate.settings import PropagationSettings

_POLL_SECONDS = 0.2
_USUAL = interval_memory(11, 1024, 1024, from_last=True)  # where the caller does not know


def propagate_all(
    jobs: Iterable[IntervalJob],
    settings: PropagationSettings | None = None,
    *,
    workers: int | None = None,
    memory: int = _USUAL,
    flow: FlowEstimator | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Fill all intervals.

    Jobs are taken from the iterable only when a worker is free, so at most one interval a worker, and one that
    waits, is in memory; with a GPU, the one that is made and the next one.

    Args:
        jobs: in the order of the results.
        settings: defaults where left out.
        workers: processes; None or 0 decides by cores and free memory (1 with a GPU); 1 works in this process.
        memory: bytes that the largest interval takes (`interval_memory`).
        flow: estimator of optical flow, picklable where there are several workers.
        cancelled: asked several times a second; it stays in this process.

    Yields:
        (number of the job, offset, picture), ascending; see `propagate_interval`.

    Raises:
        UserError, Interrupted: see `propagate_interval`.
    """
    settings = settings or PropagationSettings()
    count = workers or (1 if on_gpu(settings) else default_workers(memory))
    if count <= 1:
        yield from propagate_in_turn(jobs, settings, flow=flow, cancelled=cancelled)
        return
    yield from _in_processes(iter(jobs), replace(settings, threads=1), count, flow, cancelled)


def default_workers(memory: int = _USUAL) -> int:
    """As many processes as there are cores and free memory for, if each takes `memory` bytes."""
    return max(1, min(usable_cores(), psutil.virtual_memory().available // memory))


def _work(job: IntervalJob, settings: PropagationSettings, flow: FlowEstimator | None) -> list[tuple[int, np.ndarray]]:
    return [(offset, picture) for _, offset, picture in propagate_in_turn([job], settings, flow=flow)]


def _in_processes(
    jobs: Iterator[IntervalJob],
    settings: PropagationSettings,
    workers: int,
    flow: FlowEstimator | None,
    cancelled: Callable[[], bool] | None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_belong_to_parent)
    pending: deque[Future[list[tuple[int, np.ndarray]]]] = deque()
    number = 0
    try:
        while True:
            while len(pending) < workers and (job := next(jobs, None)) is not None:
                with _without_main(flow):
                    pending.append(pool.submit(_work, job, settings, flow))
                del job
            if not pending:
                return
            for offset, picture in _await(pending.popleft(), cancelled):
                yield number, offset, picture
            number += 1
    finally:
        _stop(pool)


@contextmanager
def _without_main(flow: FlowEstimator | None) -> Iterator[None]:
    """Keep workers that start now from running the program's main script again (a web server, say): none needs it.

    Except where the estimator itself was defined there.
    """
    main = sys.modules["__main__"]
    if type(flow).__module__ == "__main__" or not hasattr(main, "__file__"):
        yield
        return
    file, spec = main.__file__, main.__spec__
    main.__file__ = main.__spec__ = None
    try:
        yield
    finally:
        main.__file__, main.__spec__ = file, spec


def _belong_to_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, which ends its workers itself, and do not outlive it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for_exit([sentinel])
    os._exit(1)


def _await(
    future: Future[list[tuple[int, np.ndarray]]], cancelled: Callable[[], bool] | None
) -> list[tuple[int, np.ndarray]]:
    while not future.done():
        if cancelled is not None and cancelled():
            raise Interrupted()
        wait([future], timeout=_POLL_SECONDS)
    return future.result()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: nothing that they still do is wanted."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
