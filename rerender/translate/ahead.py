"""Work that is done in a thread while the caller waits for something else; never more than one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Ahead:
    """A place for one piece of work beside the caller's; what that raises comes out of `settle`, where it belongs."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def start(self, work: Callable[[Callable[[], bool]], None]) -> None:
        """Begin `work`, which is given what tells it to stop soon; what was begun before is waited for.

        Raises:
            Exception: what the work before raised.
        """
        self.settle()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, self._stop), name="ahead", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Wait until the work is done.

        Raises:
            Exception: what it raised.
        """
        self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def abandon(self) -> None:
        """Break the work off, wait until it has ended, and forget what it raised."""
        self._stop.set()
        self._join()
        self._error = None

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, work: Callable[[Callable[[], bool]], None], stop: threading.Event) -> None:
        try:
            work(stop.is_set)
        except BaseException as error:  # kept for the caller's thread
            self._error = error
