"""One level of a synthesis with torch alone: slow on a CPU, for machines that lack numba.

The same arithmetic as the kernels (docs/propagation.md), with the schedule of a GPU: every pixel searches at once,
from the field as it was when the pass began.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from rerender.propagate.problem import FORBIDDEN, Level, Problem

_CHUNK = 1 << 14  # pixels whose patches are in memory at once
_STEPS = (4, 2, 1)
_MASK = 0xFFFFFFFF


class TorchLevel:
    """The state of one level; the interface of `NumbaLevel`."""

    def __init__(self, problem: Problem, level: Level, nnf: np.ndarray, device: str = "cpu") -> None:
        self.problem, self.device, self.patch = problem, torch.device(device), problem.patch
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
        voted = self._votes(softness)
        half, count = self.patch // 2, self.problem.style_channels
        inner = self._target[half:-half, half:-half, :count]
        moved = ((voted.int() - inner.int()).abs() >= self.thresholds).any(-1)
        padded = F.pad(voted.permute(2, 0, 1).float()[None], (half,) * 4, mode="replicate")[0]
        self._target[..., :count] = padded.permute(1, 2, 0).to(torch.int16)
        self.active = self._dilate(moved.to(torch.uint8)) & self.wanted
        return bool(self.active.any())

    def settle(self) -> None:
        """Compute the error of every wanted pixel as the picture is now."""
        self.activate_all()
        self.search(rescore=True, propagate=False, radius=0, key=0)

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

    def _votes(self, softness: float) -> torch.Tensor:
        half, count = self.patch // 2, self.problem.style_channels
        height, width = self._errors.shape
        total = torch.zeros(height, width, count, device=self.device)
        weights = torch.zeros(height, width, 1, device=self.device)
        trust = 1 / (1 + softness * self._errors.float())
        style = self.source[..., :count].flatten(0, 1)
        for dy in range(-half, half + 1):  # the order of the kernels: floats do not add up in any
            for dx in range(-half, half + 1):
                here = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
                there = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
                x, y = (self._nnf[there] - torch.tensor([dx, dy], device=self.device)).unbind(-1)
                weight = trust[there][..., None]
                total[here] += weight * style[y * self.source.shape[1] + x].float()
                weights[here] += weight
        return (total / weights).round()

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
