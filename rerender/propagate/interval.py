"""All frames between two key frames: swept from both ends and blended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from rerender.arrays import Array
from rerender.errors import Interrupted, UserError
from rerender.motion.flow import DisFlow, FlowEstimator
from rerender.propagate.backend import Backend, make_backend, on_gpu
from rerender.propagate.blend import Blend, blend, carry_weight, finish
from rerender.propagate.lookout import MOST_THREADS, Lookout, one_ahead, usable_cores
from rerender.propagate.motions import Motions
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.steps import Step
from rerender.propagate.sweep import Swept, sweep

Frames = Sequence[np.ndarray] | Callable[[], Sequence[np.ndarray]]


@dataclass(frozen=True)
class IntervalJob:
    """One interval for `propagate_all`; the arguments of `propagate_interval`."""

    frames: Frames
    first_key: np.ndarray | None
    last_key: np.ndarray | None
    cuts: Sequence[int] = ()


def propagate_interval(
    frames: Frames,
    first_key: np.ndarray | None,
    last_key: np.ndarray | None,
    settings: PropagationSettings | None = None,
    *,
    flow: FlowEstimator | None = None,
    cuts: Sequence[int] = (),
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Fill the frames between two key frames, or on one side of a single one.

    Args:
        frames: the input frames k … k+n, both ends included, (H, W, 3) uint8 RGB; or what returns them.
        first_key: picture of the first frame, (H, W, 3) uint8 RGB; None: there is no key at this end.
        last_key: picture of the last frame, likewise.
        settings: defaults where left out.
        flow: estimator of optical flow; DIS where left out.
        cuts: offsets of frames that begin a new shot. A frame takes from a key only across the fewest cuts, so with
            one cut, frames before it come from `first_key` alone and the others from `last_key` alone. Offsets outside
            1 … n separate nothing.
        cancelled: asked before each frame of work.

    Yields:
        (offset, picture): offsets ascending, pictures (H, W, 3) uint8 RGB, of all frames but the keys'.

    Raises:
        UserError: no key, or a key or frame of another size or kind.
        Interrupted: when `cancelled` says so.
    """
    job = IntervalJob(frames, first_key, last_key, cuts)
    for _, offset, picture in propagate_in_turn([job], settings, flow=flow, cancelled=cancelled):
        yield offset, picture


def propagate_in_turn(
    jobs: Iterable[IntervalJob],
    settings: PropagationSettings | None = None,
    *,
    flow: FlowEstimator | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Fill intervals one after another in this process; with a GPU, threads look ahead into the next one.

    Yields:
        (number of the job, offset, picture), ascending; see `propagate_interval`.
    """
    settings, flow = settings or PropagationSettings(), flow or DisFlow()
    with closing(Lookout(_lookouts(settings, flow))) as lookout:
        # A generator: an interval is not read before it is its turn, or that of the one before it.
        work = (_Interval(job, settings, flow, cancelled or _never, lookout) for job in jobs)
        with closing(one_ahead(work) if lookout.threads else work) as intervals:
            for number, interval in enumerate(intervals):
                for offset, picture in interval.run():
                    yield number, offset, picture
                del interval


def _lookouts(settings: PropagationSettings, flow: FlowEstimator) -> int:
    """Threads that find motion ahead of the work: none where they would take cores from it."""
    if not on_gpu(settings) or not getattr(flow, "thread_safe", False):
        return 0
    return min(settings.threads or usable_cores(), MOST_THREADS)


class _Interval:
    """The flows of one interval, and the two sweeps over it."""

    def __init__(
        self,
        job: IntervalJob,
        settings: PropagationSettings,
        flow: FlowEstimator,
        cancelled: Callable[[], bool],
        lookout: Lookout | None = None,
    ) -> None:
        self.clip = list(job.frames() if callable(job.frames) else job.frames)
        self.first, self.last = job.first_key, job.last_key
        _check(self.clip, self.first, self.last)
        self.settings, self.cancelled = settings, cancelled
        self.cuts = sorted({cut for cut in job.cuts if 0 < cut < len(self.clip)})  # others separate no two frames
        self.motions = Motions(self.clip, flow, self.cuts, lookout)
        self.frames: dict[int, Array] = {}  # of the clip, where the work is done
        self.onto: dict[int, Step] = {}  # steps of the forward sweep, until their frames are made
        self._plan()

    @cached_property
    def backend(self) -> Backend:
        """Where the work is done; chosen in the thread that does it."""
        return make_backend(self.settings)

    def run(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (offset, picture), each while the next ones are being made already if that happens on a device."""
        waiting: deque[tuple[int, Callable[[], np.ndarray]]] = deque()
        try:
            for offset, picture in self._pictures():
                waiting.append((offset, self.backend.fetch(picture)))
                while len(waiting) > self.backend.ahead:
                    offset, landed = waiting.popleft()
                    yield offset, landed()
            yield from ((offset, landed()) for offset, landed in waiting)
        finally:
            self.backend.release()

    def _plan(self) -> None:
        """Decide from which keys each frame takes and in which order, and announce the motion for it."""
        count = len(self.clip) - 1
        self.inner = range(0 if self.first is None else 1, count + 1 if self.last is None else count)
        self.sides = {offset: self._sides(offset) for offset in self.inner}
        self.onward, self.back = (self._order([o for o in self.inner if self.sides[o][side]], side) for side in (0, 1))
        orders = self.back, self.onward
        self.motions.announce([(here, before) for order in orders for before, here in pairwise(order)])

    def _pictures(self) -> Iterator[tuple[int, Array]]:
        ahead, behind = self._both_sweeps()
        weight: Array | None = None
        for offset in self.inner:
            forward = next(ahead) if self.sides[offset][0] else None
            backward, step = behind.pop(offset, None), self.onto.pop(offset, None)
            self.frames.pop(offset, None)
            if forward is not None and backward is not None:
                alpha = offset / (len(self.clip) - 1)
                mixed = self._blend(forward, backward, alpha, weight, step)
                weight = mixed.weight
                yield offset, mixed.picture
            else:
                only = forward or backward
                assert only is not None  # each offset has a side
                yield offset, self.backend.run(finish, only, self.settings)

    def _both_sweeps(self) -> tuple[Iterator[Swept], dict[int, Swept]]:
        """The sweep from the first key, frame by frame, and all of that from the last one, by offset."""
        behind: dict[int, Swept] = {}
        if self.last is not None:
            behind.update(zip(self.back[1:], self._sweep(self.last, self.back), strict=True))
        return self._sweep(self.first, self.onward) if self.first is not None else iter(()), behind

    def _sides(self, offset: int) -> tuple[bool, bool]:
        """From which keys a frame takes: from both, unless cuts lie between; then where the fewest do."""
        has_first, has_last = self.first is not None, self.last is not None
        if not (has_first and has_last) or not self.cuts:
            return has_first, has_last
        to_first = sum(cut <= offset for cut in self.cuts)
        to_last = len(self.cuts) - to_first
        nearer_first = (to_first, offset) <= (to_last, len(self.clip) - 1 - offset)
        return nearer_first, not nearer_first

    def _order(self, wanted: list[int], side: int) -> list[int]:
        """Frames from the first key (side 0) or from the last one (side 1) to the furthest that is wanted from it."""
        if side == 0:
            return list(range(max(wanted, default=0) + 1))
        last = len(self.clip) - 1
        return list(range(last, min(wanted, default=last) - 1, -1))

    def _sweep(self, key: np.ndarray, order: list[int]) -> Iterator[Swept]:
        path = ((self._frame(here), self._step(here, before)) for before, here in pairwise(order))
        results = sweep(self._frame(order[0]), key, path, self.settings, self.backend)
        for _ in order[1:]:
            if self.cancelled():
                raise Interrupted()
            yield next(results)

    def _frame(self, offset: int) -> Array:
        self.frames[offset] = self.backend.here(self.frames.get(offset, self.clip[offset]))
        return self.frames[offset]

    def _step(self, here: int, before: int) -> Step | None:
        step = self.backend.here(self.motions.step(here, before))
        if here > before and step is not None:
            self.onto[here] = step
        return step

    def _blend(self, forward: Swept, backward: Swept, alpha: float, weight: Array | None, step: Step | None) -> Blend:
        """Blend both directions; `weight` is that of the frame before, `step` leads here from it."""
        latched = None
        if weight is not None and step is not None and self.settings.latch:
            latched = self.backend.run(carry_weight, weight, step.flow, step.holes)
        return self.backend.run(blend, forward, backward, alpha, self.settings, latched)


def _never() -> bool:
    return False


def _check(clip: list[np.ndarray], first: np.ndarray | None, last: np.ndarray | None) -> None:
    if first is None and last is None:
        raise UserError("An interval without a key frame cannot be propagated.", hint="Give at least one key frame.")
    if not clip:
        raise UserError("An interval without frames cannot be propagated.")
    named = [(f"frame {number}", frame) for number, frame in enumerate(clip)]
    named += [(name, key) for name, key in (("first key frame", first), ("last key frame", last)) if key is not None]
    for name, picture in named:
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            raise UserError(f"The {name} is no picture (H, W, 3) of uint8.", hint="Convert it to 8-bit RGB.")
        if picture.shape != clip[0].shape:
            sizes = " × ".join(map(str, picture.shape[1::-1])), " × ".join(map(str, clip[0].shape[1::-1]))
            raise UserError(f"The {name} is {sizes[0]}, the video {sizes[1]}.", hint="Resize it to the video's size.")
