"""All frames between two key frames: swept from both ends and blended."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import pairwise

import numpy as np

from rerender.arrays import Array
from rerender.errors import Interrupted
from rerender.motion.flow import DisFlow, FlowEstimator
from rerender.propagate import backend as backends
from rerender.propagate.backend import Backend, on_gpu
from rerender.propagate.blend import Blend, blend, carry_weight, finish
from rerender.propagate.job import Frames, IntervalJob, check_picture
from rerender.propagate.lookout import MOST_THREADS, Lookout, one_ahead, usable_cores
from rerender.propagate.motions import Motions
from rerender.propagate.pieces import OneWay, Piece, Relay, landed, pieces_of
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.steps import Step
from rerender.propagate.sweep import Swept, sweep


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
        frames: the input frames k … k+n, both ends included, (H, W, 3) uint8 RGB; or what reads or returns them.
        first_key: picture of the first frame, (H, W, 3) uint8 RGB; None: there is no key at this end.
        last_key: picture of the last frame, likewise.
        settings: defaults where left out.
        flow: estimator of optical flow; DIS where left out.
        cuts: offsets of frames that begin a new shot. A frame takes from a key only across the fewest cuts, so with
            one cut, frames before it come from `first_key` alone and the others from `last_key` alone. Offsets outside
            1 … n separate nothing.
        cancelled: asked before each frame of work.

    Yields:
        (offset, picture): pictures (H, W, 3) uint8 RGB of all frames but the keys', in order; where the only key is the
        last frame, in reverse order. With one key the input is asked for in parts and no frame is kept (`Clip`).

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
        (number of the job, offset, picture), jobs ascending; see `propagate_interval`.
    """
    settings, flow = settings or PropagationSettings(), flow or DisFlow()
    with closing(Lookout(_lookouts(settings, flow))) as lookout:
        # A generator: nothing is read before it is its turn, or that of what comes before it.
        work = _in_parts(jobs, settings, flow, cancelled or _never, lookout)
        with closing(one_ahead(work) if lookout.threads else work) as parts:
            for number, part in parts:
                for offset, picture in part.run():
                    yield number, offset, picture
                del part


def _in_parts(
    jobs: Iterable[IntervalJob],
    settings: PropagationSettings,
    flow: FlowEstimator,
    cancelled: Callable[[], bool],
    lookout: Lookout,
) -> Generator[tuple[int, _Interval | OneWay], None, None]:
    """What is made in one go, with the number of its job: intervals between two keys, pieces of others."""
    for number, job in enumerate(jobs):
        if job.is_one_way:
            relay = Relay()

            def begin(piece: Piece, number: int = number, relay: Relay = relay) -> tuple[int, OneWay]:
                return number, OneWay(piece, relay, settings, flow, cancelled, lookout)

            yield from map(begin, pieces_of(job))  # which keeps no piece while it reads the next one
        else:
            yield number, _Interval(job, settings, flow, cancelled, lookout)


def _lookouts(settings: PropagationSettings, flow: FlowEstimator) -> int:
    """Threads that find motion ahead of the work: none where they would take cores from it."""
    if not on_gpu(settings) or not getattr(flow, "thread_safe", False):
        return 0
    return min(settings.threads or usable_cores(), MOST_THREADS)


class _Interval:
    """The flows of an interval between two keys, and the sweeps from both."""

    def __init__(
        self,
        job: IntervalJob,
        settings: PropagationSettings,
        flow: FlowEstimator,
        cancelled: Callable[[], bool],
        lookout: Lookout | None = None,
    ) -> None:
        assert job.first_key is not None
        assert job.last_key is not None
        self.clip = list(job.clip()[:])
        self.first, self.last = job.first_key, job.last_key
        self._check()
        self.settings, self.cancelled = settings, cancelled
        self.cuts = sorted({cut for cut in job.cuts if 0 < cut < len(self.clip)})  # others separate no two frames
        self.motions = Motions(self.clip, flow, self.cuts, lookout)
        self.frames: dict[int, Array] = {}  # of the clip, where the work is done
        self.onto: dict[int, Step] = {}  # steps of the forward sweep, until their frames are made
        self._plan()

    @cached_property
    def backend(self) -> Backend:
        """Where the work is done; chosen in the thread that does it."""
        return backends.make_backend(self.settings)

    def run(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (offset, picture), see `landed`."""
        return landed(self._pictures(), self.backend)

    def _check(self) -> None:
        for number, frame in enumerate(self.clip):
            check_picture(f"frame {number}", frame, self.clip[0])
        check_picture("first key frame", self.first, self.clip[0])
        check_picture("last key frame", self.last, self.clip[0])

    def _plan(self) -> None:
        """Decide from which keys each frame takes and in which order, and announce the motion for it."""
        count = len(self.clip) - 1
        self.inner = range(1, count)
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
        behind = dict(zip(self.back[1:], self._sweep(self.last, self.back), strict=True))
        return self._sweep(self.first, self.onward), behind

    def _sides(self, offset: int) -> tuple[bool, bool]:
        """From which keys a frame takes: from both, unless cuts lie between; then where the fewest do."""
        if not self.cuts:
            return True, True
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
            yield next(results).result

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
