"""Which of a page's questions is its last, so that the page ends up with the answer to that one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SETTLE_SECONDS = 0.25
"""A slider that moves changes many times; it is asked about when it has not moved for this long."""
_LONGEST_WAIT = 10.0


class Newest:
    """Tells an answer that it is out of date: the page has asked the same question again since.

    Each open page has one of its own, in a `gr.State`: gradio 3.41 copies that for each visit, and its requests do not
    tell visits apart otherwise.

    A page that shows another job no longer watches the first. A generator that is out of date must end by yielding no
    change: gradio sends the last thing it yielded once more when it ends, and would bring back what the newer answer
    has replaced.
    """

    def __init__(self) -> None:
        self._claims: dict[str, object] = {}
        self._at_work: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: Any) -> Newest:
        """What gradio gives a new visit: nothing was asked there yet."""
        return Newest()

    def claim(self, question: str) -> Callable[[], bool]:
        """Become the newest asker; returns a function that says whether another has come since."""
        mine = object()
        self._claims[question] = mine
        return lambda: self._claims.get(question) is not mine

    @contextmanager
    def answering(self, question: str) -> Iterator[Callable[[], bool]]:
        """Claim the question for the time of a `with` block, which `settle` waits for."""
        with self._lock:
            self._at_work[question] += 1
        try:
            yield self.claim(question)
        finally:
            with self._lock:
                self._at_work[question] -= 1

    def settle(self, question: str, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until something no longer moves and no answer is on its way; an older one is told that it is outdated.

        The page (gradio 3.41) drops an event while the one before it of the same component still runs. So what is asked
        for must not be read when a component changes, but after this wait, by an event that follows it.
        """
        outdated = self.claim(question)
        time.sleep(seconds)
        ends = time.monotonic() + _LONGEST_WAIT
        while self._at_work[question] and not outdated() and time.monotonic() < ends:
            time.sleep(0.05)
