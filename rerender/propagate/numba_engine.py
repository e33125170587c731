"""One level of a synthesis on the CPU: strips of rows on a thread pool around the numba kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from rerender.propagate import kernels
from rerender.propagate.problem import FORBIDDEN, Level, Problem, quarter_pixels

STRIP = 32  # rows a task; the result depends on it, never on the number of threads


class NumbaLevel:
    """The state of one level: the field (nnf), its errors, and the target's style channels."""

    def __init__(self, problem: Problem, level: Level, nnf: np.ndarray, threads: int) -> None:
        self.problem, self.level = problem, level
        self.source, self.target = level.source, level.target.copy()
        self.nnf = np.ascontiguousarray(nnf, np.int32)
        self.before = np.empty_like(self.nnf)
        self.errors = np.zeros(level.target_shape, np.int32)
        self.wanted = cv2.dilate(level.wanted, np.ones((problem.patch, problem.patch), np.uint8))
        self.active = self.wanted.copy()
        self.fresh = True  # nothing has been voted yet
        self.thresholds, self.unit = problem.thresholds(), problem.unit(level)
        self.threads = threads or os.cpu_count() or 1
        self.patch, self.lanes = (0,) * problem.patch, (0,) * level.source.shape[2]

    def search(self, *, reverse: bool, rescore: bool, propagate: bool, radius: int, key: int, shift: int) -> None:
        """Run one PatchMatch pass; `shift` moves the strips' borders down."""
        np.copyto(self.before, self.nnf)
        penalty = self._penalty()

        def strip(top: int, bottom: int) -> None:
            kernels.search(
                self.source, self.target, self.nnf, self.before, self.errors, penalty, self.active,
                np.int32(self.unit), top, bottom, reverse, rescore, propagate, np.int32(radius),
                np.uint32(key), self.patch, self.lanes,
            )  # fmt: skip

        self._for_strips(strip, shift)

    def vote(self, softness: float = 0.0) -> bool:
        """Vote, then leave alone what has settled. Returns whether anything is still moving."""
        changed = np.zeros_like(self.active)
        touched = np.ones_like(changed) if softness or self.fresh else self._dilate(self.active)
        self.fresh = False

        def strip(top: int, bottom: int) -> None:
            kernels.vote(
                self.source, self.nnf, self.errors, self.target, touched, changed, self.thresholds,
                np.float32(softness), top, bottom, self.patch,
            )  # fmt: skip

        self._for_strips(strip, 0)
        self._repeat_edges()
        self.active = np.minimum(self._dilate(changed), self.wanted)
        return bool(self.active.any())

    def activate_all(self) -> None:
        """Let every wanted pixel search again."""
        self.active = self.wanted.copy()

    def settle(self) -> None:
        """Compute the error of every wanted pixel as the picture is now."""
        self.activate_all()
        self.search(reverse=False, rescore=True, propagate=False, radius=0, key=0, shift=0)

    def refine(self, softness: float = 0.0) -> None:
        """Vote once more with patches at quarters of a pixel, where the guides say that the match lies there."""
        count, half = self.problem.style_channels, len(self.patch) // 2
        source, target = self.source.copy(), self.target.copy()
        for channel in self.problem.unrefined:
            source[..., channel], target[..., channel] = 0, 0
        quarters = np.zeros(self.nnf.shape, np.int8)
        fine = quarter_pixels(self.level, self.problem)
        picture = np.empty((*self.errors.shape, count), np.float32)

        def find(top: int, bottom: int) -> None:
            kernels.refine(source, target, self.nnf, quarters, top, bottom, self.patch, self.lanes)

        def paint(top: int, bottom: int) -> None:
            kernels.fine_vote(
                fine, self.nnf, quarters, self.errors, picture, np.float32(softness), top, bottom, self.patch
            )

        self._for_strips(find, 0)
        self._for_strips(paint, 0)
        self.target[half:-half, half:-half, :count] = np.rint(picture * self.problem.factors[:count])
        self._repeat_edges()

    def picture(self) -> np.ndarray:
        """Return the style channels of the target, (H, W, S) float32 on the 0–255 scale."""
        half, count = len(self.patch) // 2, self.problem.style_channels
        inner = self.target[half:-half, half:-half, :count]
        return inner / self.problem.factors[:count].astype(np.float32)

    def _penalty(self) -> np.ndarray:
        if self.unit == 0:
            return self.level.barrier
        uses = np.zeros(self.level.barrier.shape, np.int32)
        kernels.count_uses(self.nnf, uses)
        side = (len(self.patch),) * 2
        once = cv2.boxFilter(uses.astype(np.float64), -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        twice = cv2.boxFilter(once, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        return np.maximum(np.minimum(twice * self.unit, FORBIDDEN).astype(np.int32), self.level.barrier)

    def _dilate(self, mask: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.dilate(mask, np.ones((len(self.patch),) * 2, np.uint8)))

    def _repeat_edges(self) -> None:
        half, count = len(self.patch) // 2, self.problem.style_channels
        style = self.target[..., :count]
        style[:half], style[-half:] = style[half], style[-half - 1]
        style[:, :half], style[:, -half:] = style[:, half : half + 1], style[:, -half - 1 : -half]

    def _for_strips(self, task: Callable[[int, int], None], shift: int) -> None:
        height = self.nnf.shape[0]
        borders = [0, *range(shift or STRIP, height, STRIP), height]
        strips = [(top, bottom) for top, bottom in pairwise(borders) if bottom > top]
        if self.threads == 1 or len(strips) == 1:
            for top, bottom in strips:
                task(top, bottom)
            return
        for future in [_pool(self.threads).submit(task, top, bottom) for top, bottom in strips]:
            future.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="propagate")
