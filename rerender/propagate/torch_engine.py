"""One level of a synthesis with torch alone: slow on a CPU, for machines that lack numba.

The same arithmetic as the kernels (docs/propagation.md), with the schedule of a GPU: every pixel searches at once,
from the field as it was when the pass began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from rerender.propagate.problem import FORBIDDEN, Level, Problem, quarter_pixels

_CHUNK = 1 << 14  # pixels whose patches are in memory at once
_STEPS = (4, 2, 1)
_MASK = 0xFFFFFFFF

Sampler = Callable[[torch.Tensor, torch.Tensor, tuple[slice, slice]], torch.Tensor]
"""(field, offset in the patch, which target pixels) to the style there."""


class TorchLevel:
    """The state of one level; the interface of `NumbaLevel`."""

    def __init__(self, problem: Problem, level: Level, nnf: np.ndarray, device: str = "cpu") -> None:
        self.problem, self.level, self.patch = problem, level, problem.patch
        self.device = torch.device(device)
        self.source, self._target = self._tensor(level.source), self._tensor(level.target.copy())
        self.barrier = self._tensor(level.barrier)
        self._nnf = self._tensor(np.asarray(nnf, np.int64))
        self._errors = torch.zeros(level.target_shape, dtype=torch.int64, device=self.device)
        self.wanted = self._dilate(self._tensor(level.wanted))
        self.active = self.wanted.clone()
        self.thresholds, self.unit = self._tensor(problem.thresholds()), problem.unit(level)

    @property
    def nnf(self) -> np.ndarray:
        """The field, (H, W, 2) int32."""
        return self._nnf.cpu().numpy().astype(np.int32)

    @property
    def errors(self) -> np.ndarray:
        """The errors, (H, W) int32."""
        return self._errors.cpu().numpy().astype(np.int32)

    def activate_all(self) -> None:
        """Let every wanted pixel search again."""
        self.active = self.wanted.clone()

    def search(self, *, rescore: bool, propagate: bool, radius: int, key: int, **_: object) -> None:
        """Run one pass from the field as it is now."""
        before, penalty = self._nnf.clone(), self._penalty().flatten()
        ys, xs = torch.nonzero(self.active, as_tuple=True)
        for y, x in zip(ys.split(_CHUNK), xs.split(_CHUNK), strict=True):
            self._search_pixels(y, x, before, penalty, rescore, propagate, radius, key)

    def vote(self, softness: float = 0.0) -> bool:
        """Vote, then leave alone what has settled. Returns whether anything is still moving."""
        voted = self._votes(softness, self._sample).round()
        half, count = self.patch // 2, self.problem.style_channels
        inner = self._target[half:-half, half:-half, :count]
        moved = ((voted.int() - inner.int()).abs() >= self.thresholds).any(-1)
        self._store(voted)
        self.active = self._dilate(moved.to(torch.uint8)) & self.wanted
        return bool(self.active.any())

    def settle(self) -> None:
        """Compute the error of every wanted pixel as the picture is now."""
        self.activate_all()
        self.search(rescore=True, propagate=False, radius=0, key=0)

    def refine(self, softness: float = 0.0) -> None:
        """Vote once more with patches at quarters of a pixel; see `NumbaLevel.refine`."""
        count = self.problem.style_channels
        quarters = self._quarters()
        fine = self._tensor(quarter_pixels(self.level, self.problem))
        rows, columns = fine.shape[:2]

        def sample(nnf: torch.Tensor, away: torch.Tensor, there: tuple[slice, slice]) -> torch.Tensor:
            at = 4 * (nnf - away) + quarters[there]
            x, y = at[..., 0].clamp(0, columns - 1), at[..., 1].clamp(0, rows - 1)
            return fine.flatten(0, 1)[y * columns + x]

        factors = torch.from_numpy(self.problem.factors[:count]).to(self.device)
        self._store((self._votes(softness, sample).double() * factors).round())

    def picture(self) -> np.ndarray:
        """Return the style channels of the target, (H, W, S) float32 on the 0–255 scale."""
        half, count = self.patch // 2, self.problem.style_channels
        inner = self._target[half:-half, half:-half, :count].cpu().numpy()
        return inner / self.problem.factors[:count].astype(np.float32)

    def _search_pixels(
        self, y: torch.Tensor, x: torch.Tensor, before: torch.Tensor, penalty: torch.Tensor,
        rescore: bool, propagate: bool, radius: int, key: int,
    ) -> None:  # fmt: skip
        target = self._patches(self._target, y, x)
        start = before[y, x]
        best, columns = start.clone(), self.barrier.shape[1]
        error = self._patch_errors(target, best) if rescore else self._errors[y, x]
        cost = error + penalty[best[:, 1] * columns + best[:, 0]] - self.unit * self.patch**2
        for candidate in self._candidates(y, x, before, best, propagate, radius, key):
            shared = (self.patch - (candidate - start).abs()).clamp(min=0).prod(1)
            new_error = self._patch_errors(target, candidate)
            new_cost = new_error + penalty[candidate[:, 1] * columns + candidate[:, 0]] - self.unit * shared
            better = new_cost < cost
            cost, error = torch.where(better, new_cost, cost), torch.where(better, new_error, error)
            best.copy_(torch.where(better[:, None], candidate, best))  # in place: the generator reads it
        self._nnf[y, x], self._errors[y, x] = best, error

    def _candidates(
        self, y: torch.Tensor, x: torch.Tensor, before: torch.Tensor, best: torch.Tensor,
        propagate: bool, radius: int, key: int,
    ) -> Iterator[torch.Tensor]:  # fmt: skip
        height, width = self._errors.shape
        if propagate:
            for step in _STEPS:
                for dx, dy in ((-step, 0), (step, 0), (0, -step), (0, step)):
                    near_x, near_y = (x + dx).clamp(0, width - 1), (y + dy).clamp(0, height - 1)
                    away = torch.stack([x - near_x, y - near_y], 1)
                    yield self._clamp(before[near_y, near_x] + away)
        state = ((y * width + x) * 0x9E3779B1 & _MASK) ^ key
        while radius >= 1:
            state = _mix(state)
            drawn = torch.stack([state & 0xFFFF, state >> 16], 1)
            yield self._clamp(best + (drawn * (2 * radius + 1) >> 16) - radius)
            radius //= 2

    def _clamp(self, centres: torch.Tensor) -> torch.Tensor:
        half, (rows, columns) = self.patch // 2, self.barrier.shape
        return torch.stack(
            [centres[:, 0].clamp(half, columns - 1 - half), centres[:, 1].clamp(half, rows - 1 - half)], 1
        )

    def _patch_errors(self, target: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        half = self.patch // 2
        source = self._patches(self.source, centres[:, 1] - half, centres[:, 0] - half)
        return (source - target).int().square_().flatten(1).sum(1)

    def _patches(self, image: torch.Tensor, top: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """Patches by their upper left corners, (N, patch², L)."""
        span = torch.arange(self.patch, device=self.device)
        rows, columns = (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None]
        return image.flatten(0, 1)[(rows * image.shape[1] + columns).flatten(1)]

    def _sample(self, nnf: torch.Tensor, away: torch.Tensor, _: tuple[slice, slice]) -> torch.Tensor:
        x, y = (nnf - away).unbind(-1)
        return self.source[..., : self.problem.style_channels].flatten(0, 1)[y * self.source.shape[1] + x]

    def _votes(self, softness: float, sample: Sampler) -> torch.Tensor:
        half, count = self.patch // 2, self.problem.style_channels
        height, width = self._errors.shape
        total = torch.zeros(height, width, count, device=self.device)
        weights = torch.zeros(height, width, 1, device=self.device)
        trust = 1 / (1 + softness * self._errors.float())
        for dy in range(-half, half + 1):  # the order of the kernels: floats do not add up in any
            for dx in range(-half, half + 1):
                here = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
                there = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
                weight = trust[there][..., None]
                away = torch.tensor([dx, dy], device=self.device)
                total[here] += weight * sample(self._nnf[there], away, there).float()
                weights[here] += weight
        return total / weights

    def _store(self, picture: torch.Tensor) -> None:
        """Write the style channels of the target, edges repeated; (H, W, S) whole numbers."""
        half = self.patch // 2
        padded = F.pad(picture.permute(2, 0, 1).float()[None], (half,) * 4, mode="replicate")[0]
        self._target[..., : picture.shape[2]] = padded.permute(1, 2, 0).to(torch.int16)

    def _quarters(self) -> torch.Tensor:
        """Vertices of the parabolas through the errors of the guides alone, (H, W, 2) in quarters of a pixel."""
        half = self.patch // 2
        level = TorchLevel(self.problem, self.level, self.nnf, str(self.device))
        level.source = level.source.clone()  # it shares its memory with the problem's
        for channel in self.problem.unrefined:
            level.source[..., channel], level._target[..., channel] = 0, 0
        quarters = torch.zeros_like(self._nnf)
        ys, xs = torch.nonzero(torch.ones_like(self._errors), as_tuple=True)
        for y, x in zip(ys.split(_CHUNK), xs.split(_CHUNK), strict=True):
            target, centres = self._patches(level._target, y, x), self._nnf[y, x]
            middle = level._patch_errors(target, centres)
            for axis, size in ((0, self.barrier.shape[1]), (1, self.barrier.shape[0])):
                step = F.one_hot(torch.tensor(axis, device=self.device), 2)
                low, high = (level._patch_errors(target, level._clamp(centres + sign * step)) for sign in (-1, 1))
                curvature = low + high - 2 * middle
                vertex = ((2 * (low - high)).float() / curvature.float()).round().clamp(-2, 2)
                inside = (centres[:, axis] > half) & (centres[:, axis] < size - 1 - half) & (curvature > 0)
                quarters[y, x, axis] = torch.where(inside, vertex, torch.zeros_like(vertex)).long()
        return quarters

    def _penalty(self) -> torch.Tensor:
        if self.unit == 0:
            return self.barrier.long()
        columns = self.barrier.shape[1]
        index = (self._nnf[..., 1] * columns + self._nnf[..., 0]).flatten()
        uses = torch.bincount(index, minlength=self.barrier.numel()).reshape(self.barrier.shape).double()
        box = torch.ones(1, 1, self.patch, self.patch, dtype=torch.float64, device=self.device)
        half = self.patch // 2
        twice = F.conv2d(F.conv2d(uses[None, None], box, padding=half), box, padding=half)[0, 0]
        penalty = (twice.round() * self.unit).clamp(max=FORBIDDEN).long()
        return torch.maximum(penalty, self.barrier.long())

    def _dilate(self, mask: torch.Tensor) -> torch.Tensor:
        grown = F.max_pool2d(mask.float()[None, None], self.patch, 1, self.patch // 2)[0, 0]
        return grown.to(torch.uint8)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _mix(state: torch.Tensor) -> torch.Tensor:
    """`kernels.mix` on int64, of which the low 32 bits count."""
    state = state ^ (state >> 16)
    state = state * 0x7FEB352D & _MASK
    state = state ^ (state >> 15)
    state = state * 0x846CA68B & _MASK
    return state ^ (state >> 16)
