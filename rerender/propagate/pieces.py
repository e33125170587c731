"""An interval with a key frame at one end only, made piece by piece, so that its length takes no memory.

There is nothing to blend: a frame is finished as soon as the sweep has made it. The sweep stops behind each piece and
goes on from its state with the next one, whose frames are read only then. The bytes are those of one sweep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rerender.arrays import Array
from rerender.errors import Interrupted
from rerender.motion.flow import FlowEstimator
from rerender.propagate import backend as backends
from rerender.propagate.backend import Backend
from rerender.propagate.blend import finish
from rerender.propagate.job import Clip, IntervalJob, check_picture
from rerender.propagate.lookout import Lookout
from rerender.propagate.motions import Motions
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.steps import Step
from rerender.propagate.sweep import State, Swept, sweep

PIECE = 16
"""Frames of a piece. The motion at its end is found twice, here and for the next one."""


@dataclass(frozen=True)
class Piece:
    """Some frames on the way from a key frame.

    Attributes:
        frames: the input frames that are needed, (H, W, 3) uint8, ascending: those that are made, their neighbour on
            the side of the key frame, and the one on the other side where there is one.
        offset: place of the first of them in the interval.
        path: places in the interval in the order of the sweep: the neighbour, then what is made.
        key_frame: the input of the key frame.
        key: its picture.
        cuts: places in the interval that begin a new shot.
    """

    frames: Sequence[np.ndarray]
    offset: int
    path: range
    key_frame: np.ndarray
    key: np.ndarray
    cuts: Sequence[int]


def pieces_of(job: IntervalJob) -> Iterator[Piece]:
    """The pieces of a one-way interval, from its key frame on; each is read when it is asked for.

    Raises:
        UserError: no key, no frames, or one of another size.
    """
    clip, cuts = job.clip(), sorted(job.cuts)
    key = job.last_key if job.first_key is None else job.first_key
    assert key is not None
    order = range(len(clip)) if job.first_key is not None else range(len(clip))[::-1]
    key_frame = clip[order[0] : order[0] + 1][0]
    check_picture(f"frame {order[0]}", key_frame, key_frame)
    check_picture("last key frame" if job.first_key is None else "first key frame", key, key_frame)
    for start in range(0, len(order) - 1, PIECE):
        yield _piece(clip, order, start, key_frame, key, cuts)


def _piece(clip: Clip, order: range, start: int, key_frame: np.ndarray, key: np.ndarray, cuts: Sequence[int]) -> Piece:
    path, needed = order[start : start + PIECE + 1], order[start : start + PIECE + 2]
    first, last = min(needed), max(needed)
    frames = clip[first : last + 1]
    for number, frame in enumerate(frames, first):
        check_picture(f"frame {number}", frame, key_frame)
    return Piece(frames, first, path, key_frame, key, cuts)


@dataclass
class Relay:
    """What one piece hands on to the next.

    Attributes:
        state: of the sweep, behind the last piece that was made; None before the first.
        backend: where the pieces are made; None before the first.
    """

    state: State | None = None
    backend: Backend | None = None


class OneWay:
    """One piece, and what the input says about it."""

    def __init__(
        self,
        piece: Piece,
        relay: Relay,
        settings: PropagationSettings,
        flow: FlowEstimator,
        cancelled: Callable[[], bool],
        lookout: Lookout | None = None,
    ) -> None:
        self.piece, self.relay, self.settings, self.cancelled = piece, relay, settings, cancelled
        first, path = piece.offset, piece.path
        self.motions = Motions(piece.frames, flow, [cut - first for cut in piece.cuts], lookout)
        self.motions.announce((here - first, before - first) for before, here in pairwise(path))

    @property
    def backend(self) -> Backend:
        """Where the work is done; chosen in the thread that does it, for all pieces."""
        if self.relay.backend is None:
            self.relay.backend = backends.make_backend(self.settings)
        return self.relay.backend

    def run(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (offset, picture), see `landed`."""
        made = ((offset, self.backend.run(finish, swept, self.settings)) for offset, swept in self.sweep())
        return landed(made, self.backend)

    def sweep(self) -> Iterator[tuple[int, Swept]]:
        """Yield what becomes of each frame, by its offset; the state goes into the relay."""
        piece, relay, backend = self.piece, self.relay, self.backend
        states = sweep(backend.here(piece.key_frame), piece.key, self._steps(), self.settings, backend, relay.state)
        for offset in piece.path[1:]:
            if self.cancelled():
                raise Interrupted()
            relay.state = next(states)
            yield offset, relay.state.result

    def _steps(self) -> Iterator[tuple[Array, Step | None]]:
        first, here = self.piece.offset, self.backend.here
        for before, place in pairwise(self.piece.path):
            step = self.motions.step(place - first, before - first)
            yield here(self.piece.frames[place - first]), here(step)


def landed(made: Iterable[tuple[int, Array]], backend: Backend) -> Iterator[tuple[int, np.ndarray]]:
    """Bring pictures to the host, each while the next ones are being made already if that happens on a device."""
    waiting: deque[tuple[int, Callable[[], np.ndarray]]] = deque()
    try:
        for offset, picture in made:
            waiting.append((offset, backend.fetch(picture)))
            while len(waiting) > backend.ahead:
                offset, arrive = waiting.popleft()
                yield offset, arrive()
        yield from ((offset, arrive()) for offset, arrive in waiting)
    finally:
        backend.release()
