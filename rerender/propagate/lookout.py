"""Threads that find on the host what a device needs next, in the order in which it is asked for, never far ahead."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")

MOST_THREADS = 16


class Lookout:
    """A pool of threads, and a queue of what they are to begin when there is room. To be closed.

    Attributes:
        threads: how many; 0: nothing is begun, everything is found by who asks.
        lock: held while something is begun.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lookout") if threads else None
        self.lock = threading.RLock()
        self._queue: deque[Callable[[], bool]] = deque()
        # Results that may wait for who asks. With fewer, threads idle during a sweep that needs no new flow.
        self._room = 2 * threads + 1

    def announce(self, begin: Callable[[], bool]) -> None:
        """Queue what begins a piece of work, and says whether it did: it may be wanted no longer."""
        if self._pool is not None:
            with self.lock:
                self._queue.append(begin)
                self._begin_more()

    def taken(self) -> None:
        """Make room for one more: a result of what was begun has been asked for."""
        with self.lock:
            self._room += 1
            self._begin_more()

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Let a thread do it."""
        assert self._pool is not None
        return self._pool.submit(work, *arguments)

    def close(self) -> None:
        """Drop what no thread has begun."""
        with self.lock:
            self._queue.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin_more(self) -> None:
        while self._room > 0 and self._queue:
            self._room -= self._queue.popleft()()


def after(earlier: Sequence[Future[Any]], work: Callable[[], Result]) -> Future[Result]:
    """Do `work` once all that is earlier is done, in the thread that does the last of it: none waits meanwhile."""
    result: Future[Result] = Future()
    todo = [(result, work)]  # emptied, since what is earlier keeps its callbacks, and would keep the result alive
    lock, left = threading.Lock(), len(earlier)

    def one_less(_: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        _settle(*todo.pop())

    for each in earlier:
        each.add_done_callback(one_less)
    return result


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        result = work()
    except BaseException as error:  # kept for who asks
        future.set_exception(error)
    else:
        future.set_result(result)


def one_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The same items; each is made by a thread while the caller is busy with the one before.

    Raises:
        Exception: what making an item raises, when its turn comes.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="one-ahead") as reader:
        following = reader.submit(next, source, end)
        while (item := following.result()) is not end:
            following = reader.submit(next, source, end)
            yield item  # type: ignore[misc]  # not the end


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
