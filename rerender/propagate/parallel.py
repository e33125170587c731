"""Several intervals at once, in worker processes; the same bytes in the same order as in one process."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_exit
from typing import Any

import numpy as np
import psutil

from rerender.arrays import HOST, bring
from rerender.errors import Interrupted, RerenderError
from rerender.motion.flow import DisFlow, FlowEstimator
from rerender.propagate.backend import on_gpu
from rerender.propagate.interval import propagate_in_turn
from rerender.propagate.job import IntervalJob
from rerender.propagate.lookout import usable_cores
from rerender.propagate.memory import interval_memory
from rerender.propagate.pieces import OneWay, Piece, Relay, pieces_of
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.sweep import State

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_USUAL = interval_memory(11, 1024, 1024)  # where the caller does not know


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
    waits, is in memory; with a GPU, the one that is made and the next one. Of a job with one key a piece stands for the
    whole (`pieces.py`).

    Args:
        jobs: in the order of the results.
        settings: defaults where left out.
        workers: processes; None or 0 decides by cores and free memory (1 with a GPU); 1 works in this process.
        memory: bytes that the largest interval takes (`interval_memory`).
        flow: estimator of optical flow, picklable where there are several workers.
        cancelled: asked several times a second; it stays in this process.

    Yields:
        (number of the job, offset, picture); see `propagate_interval`. Jobs come in order. Only from several processes,
        pieces of those with one key may come before and between what other jobs give.

    Raises:
        UserError, Interrupted: see `propagate_interval`.
        RerenderError: the system killed a worker process, and fewer and fewer others that went on with its work.
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


Made = tuple[list[tuple[int, np.ndarray]], State | None]


def _whole(job: IntervalJob, settings: PropagationSettings, flow: FlowEstimator | None) -> Made:
    return [(offset, picture) for _, offset, picture in propagate_in_turn([job], settings, flow=flow)], None


def _piece(piece: Piece, state: State | None, settings: PropagationSettings, flow: FlowEstimator | None) -> Made:
    relay = Relay(state)
    pictures = list(OneWay(piece, relay, settings, flow or DisFlow(), lambda: False).run())
    return pictures, bring(relay.state, HOST)  # a state on a GPU does not travel


class _Crew:
    """Worker processes. To be closed.

    A system that runs out of memory kills one, which breaks the pool: half as many take over then.
    """

    def __init__(self, count: int, settings: PropagationSettings, flow: FlowEstimator | None) -> None:
        self.count, self._settings, self._flow = count, settings, flow
        self._pool = _hire(count)

    def submit(self, work: Callable[..., Made], *arguments: Any) -> Future[Made]:
        """Let a worker do it."""
        try:
            with _without_main(self._flow):
                return self._pool.submit(work, *arguments, self._settings, self._flow)
        except BrokenProcessPool as error:  # as if it had broken a moment later
            future: Future[Made] = Future()
            future.set_exception(error)
            return future

    def start_again(self, error: BrokenProcessPool) -> None:
        """Let fewer workers take over.

        Raises:
            RerenderError: there was only one.
        """
        self.close()
        if self.count == 1:
            raise RerenderError(
                "A process of the propagation was killed, most likely since memory ran out.",
                hint="Key frames nearer together, or a smaller picture, need less. Everything finished is kept.",
            ) from error
        self.count //= 2
        text = "A process of the propagation was killed, most likely since memory ran out: %d of them go on"
        _log.warning(text, self.count)
        self._pool = _hire(self.count)

    def close(self) -> None:
        """End the workers now: nothing that they still do is wanted."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _hire(count: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_belong_to_parent)


class _Running:
    """A job that workers are busy with: as a whole, or where it has one key piece after piece.

    Attributes:
        future: what is being made; None when all is.
    """

    def __init__(self, number: int, job: IntervalJob, submit: Callable[..., Future[Made]]) -> None:
        self.number, self.in_pieces, self._submit = number, job.is_one_way, submit
        self._pieces = pieces_of(job) if job.is_one_way else iter(())
        self.future: Future[Made] | None = None
        if self.in_pieces:
            self._begin(None)
        else:
            self._start(_whole, job)

    def take(self) -> list[tuple[int, np.ndarray]]:
        """What is finished; the next piece is begun.

        Raises:
            BrokenProcessPool: nothing is, since a worker was killed.
        """
        assert self.future is not None
        pictures, state = self.future.result()
        self._begin(state)
        return pictures

    def _begin(self, state: State | None) -> None:
        piece = next(self._pieces, None)
        self.future = None
        if piece is not None:
            self._start(_piece, piece, state)

    def _start(self, work: Callable[..., Made], *arguments: Any) -> None:
        self._work, self.future = (work, arguments), self._submit(work, *arguments)

    def start_again(self) -> None:
        """Have made anew what was lost with its worker."""
        if self.future is not None and not (self.future.done() and self.future.exception() is None):
            work, arguments = self._work
            self._start(work, *arguments)


def _in_processes(
    jobs: Iterator[IntervalJob],
    settings: PropagationSettings,
    workers: int,
    flow: FlowEstimator | None,
    cancelled: Callable[[], bool] | None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    with closing(_Crew(workers, settings, flow)) as crew:
        waiting = (_Running(number, job, crew.submit) for number, job in enumerate(jobs))
        running: list[_Running] = []
        while True:
            running = [each for each in running if each.future is not None]
            while len(running) < crew.count and (following := next(waiting, None)) is not None:
                running += [following] if following.future is not None else []
            if not running:
                return
            ready = _await(running, cancelled)
            for offset, picture in _taken(ready, running, crew):
                yield ready.number, offset, picture


def _taken(ready: _Running, running: list[_Running], crew: _Crew) -> list[tuple[int, np.ndarray]]:
    """What a job has finished: nothing, if its worker was killed; then it is made anew, as all that others lost."""
    try:
        return ready.take()
    except BrokenProcessPool as error:
        crew.start_again(error)
        for each in running:
            each.start_again()
        return []


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


def _await(running: list[_Running], cancelled: Callable[[], bool] | None) -> _Running:
    """The first job, when it is made; or before that one that has made a piece, which nothing else waits for."""
    wanted = [each for number, each in enumerate(running) if number == 0 or each.in_pieces]
    while True:
        for each in wanted:
            if each.future is not None and each.future.done():
                return each
        if cancelled is not None and cancelled():
            raise Interrupted()
        wait([each.future for each in wanted if each.future], timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
