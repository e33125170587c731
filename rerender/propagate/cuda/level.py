"""One level of a synthesis on the GPU: its tensors, and the kernels that work on them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from rerender.arrays.device import operations_on
from rerender.propagate.cuda.device import Device
from rerender.propagate.problem import LANES, Level, Problem, vector


class CudaLevel:
    """The state of one level on the GPU.

    Every round is queued in advance: a stop mask without a pixel makes its kernels return at once, which costs less
    than to ask the GPU whether to go on.

    Attributes:
        nnf: (H, W, 2) int32, the field.
        errors: (H, W) int32.
        active: (H, W) uint8, the pixels that the next pass moves.
    """

    def __init__(self, device: Device, problem: Problem, level: Level, nnf: torch.Tensor) -> None:
        self.device, self.problem, self.level = device, problem, level
        self._xp = operations_on(device.home)
        self.shape, self.source_shape = level.target_shape, (level.barrier.shape[0], level.barrier.shape[1])
        self.unit = problem.unit(level)
        self.groups = level.source.shape[2] // LANES
        self.source, self.target = level.source, level.target.clone()
        self.nnf, self._spare = nnf, torch.empty_like(nnf)
        self.errors = self._new(torch.int32, self.shape)
        self._uses, self._spread = self._new(torch.int32, self.source_shape), self._new(torch.int32, self.source_shape)
        self.penalty = level.barrier.clone()
        self.thresholds = self._xp.constant(vector, "int32", *problem.thresholds().tolist())
        self.active, self._changed = self._new(torch.uint8, self.shape), self._new(torch.uint8, self.shape)
        self._moving = self._new(torch.int32, (problem.effort.rounds + 1,))  # one flag a round, set by the votes
        self._everywhere = torch.ones_like(self.active)
        self.wanted = torch.empty_like(self.active)
        self._activate(level.wanted, self._everywhere, self.wanted, self._moving[:1])

    def run(self, index: int, radius: int) -> None:
        """Queue all rounds of a level: `index` counts from the coarsest."""
        effort = self.problem.effort
        self.vote()
        self.active.copy_(self.wanted)
        self._moving[:1].fill_(1)
        for number in range(effort.rounds):
            moving = self._moving[number : number + 1]
            self.score()
            for step in range(effort.passes):
                self.find_penalty(moving)
                self.search(radius, self.problem.pass_key(index, number * effort.passes + step))
            self._vote(0.0, self._moving[number + 1 : number + 2])

    def search(self, radius: int, key: int) -> None:
        """Queue one pass of the active pixels; a new field takes the place of the old one."""
        self.device.launch(
            f"search_{self.problem.patch}", self.shape, self.source, self.target, self.nnf, self._spare, self.errors,
            self.penalty, self.active, *self.shape, *self.source_shape, self.groups, self.unit, radius, key,
        )  # fmt: skip
        self.nnf, self._spare = self._spare, self.nnf

    def score(self) -> None:
        """Queue the errors of the active pixels, as the picture is now."""
        self._score(self.source, self.target, self.nnf, self.errors, self.active)

    def find_penalty(self, moving: torch.Tensor) -> None:
        """Queue the penalty of each source pixel, from the field as it is now."""
        if self.unit == 0:
            return
        patch, columns = self.problem.patch, self.source_shape[1]
        self.device.launch("count_uses", self.shape, self.nnf, self._uses, moving, *self.shape, columns)
        self.device.launch(
            "spread_rows", self.source_shape, self._uses, self._spread, moving, *self.source_shape, patch
        )
        self.device.launch(
            "spread_columns", self.source_shape, self._spread, self.level.barrier, self._uses, self.penalty, moving,
            *self.source_shape, patch, self.unit,
        )  # fmt: skip

    def vote(self, softness: float = 0.0) -> None:
        """Queue a vote over the whole picture, and the stop mask that follows from it."""
        self.active.fill_(1)
        self._vote(softness, self._moving[:1])

    def settle(self) -> None:
        """Queue the error of every wanted pixel, as the picture is now."""
        self.active.copy_(self.wanted)
        self.score()

    def refine(self, softness: float) -> None:
        """Queue a last vote with patches at quarters of a pixel, where the guides say that the match lies there."""
        count, half = self.problem.style_channels, self.problem.patch // 2
        fine, quarters = self.quarter_pixels(), self._quarters()
        picture = torch.empty((*self.shape, 4), dtype=torch.float32, device=self.device.home)
        self.device.launch(
            "fine_vote", self.shape, fine, self.nnf, quarters, self.errors, picture,
            *self.shape, *self.source_shape, half, softness,
        )  # fmt: skip
        scaled = picture[..., :count].double() * self._factors("float64")
        self.target[..., :count] = self._xp.pad(scaled.round().to(torch.int16), half, half)

    def picture(self) -> torch.Tensor:
        """Return the style channels of the target, (H, W, S) uint8."""
        half, count = self.problem.patch // 2, self.problem.style_channels
        return self._colours(self.target[half:-half, half:-half, :count])

    def _vote(self, softness: float, moving: torch.Tensor) -> None:
        half, lanes = self.problem.patch // 2, self.source.shape[2]
        self.device.launch(
            "vote", self.shape, self.source, self.nnf, self.errors, self.active, self.target, self._changed,
            self.thresholds, *self.shape, self.source_shape[1], lanes, self.problem.style_channels, half, softness,
        )  # fmt: skip
        self._activate(self._changed, self.wanted, self.active, moving)

    def _activate(
        self, changed: torch.Tensor, wanted: torch.Tensor, active: torch.Tensor, moving: torch.Tensor
    ) -> None:
        half = self.problem.patch // 2
        self.device.launch("activate", self.shape, changed, wanted, active, moving, *self.shape, half)

    def _score(
        self, source: torch.Tensor, target: torch.Tensor, nnf: torch.Tensor, errors: torch.Tensor, active: torch.Tensor
    ) -> None:
        self.device.launch(
            f"score_{self.problem.patch}", self.shape, source, target, nnf, errors, active,
            *self.shape, self.source_shape[1], self.groups,
        )  # fmt: skip

    def _quarters(self) -> torch.Tensor:
        """Where between the pixels the guides match best, by a parabola on each axis: (H, W, 2) int32, -2 … 2."""
        half = self.problem.patch // 2
        source, target = self.source.clone(), self.target.clone()
        for channel in self.problem.unrefined:
            source[..., channel], target[..., channel] = 0, 0
        here = self._errors_beside(source, target, 0, 0)
        quarters = torch.zeros_like(self.nnf)
        for axis in range(2):
            before, after = (self._errors_beside(source, target, axis, step) for step in (-1, 1))
            slope, curvature = 2 * (before - after), before + after - 2 * here
            place, size = self.nnf[..., axis], self.source_shape[1 - axis]
            usable = (curvature > 0) & (place > half) & (place < size - 1 - half)
            vertex = (slope.float() / curvature.float()).round().clamp(-2, 2)
            quarters[..., axis] = torch.where(usable, vertex, 0).int()
        return quarters

    def _errors_beside(self, source: torch.Tensor, target: torch.Tensor, axis: int, step: int) -> torch.Tensor:
        """Errors of the patches `step` pixels beside the field's, (H, W) int64; any at the border of the source."""
        half, size = self.problem.patch // 2, self.source_shape[1 - axis]
        field, errors = self.nnf.clone(), torch.empty_like(self.errors)
        field[..., axis] = (field[..., axis] + step).clamp(half, size - 1 - half)
        self._score(source, target, field, errors, self._everywhere)
        return errors.long()

    def quarter_pixels(self) -> torch.Tensor:
        """The style with three pixels between any two, bicubic: (4·Hs - 3, 4·Ws - 3, 4) uint8."""
        rows, columns = self.source_shape
        style = self._new(torch.uint8, (rows, columns, 4))
        count = self.problem.style_channels
        style[..., :count] = self._colours(self.source[..., :count])
        fine = self._new(torch.uint8, (4 * rows - 3, 4 * columns - 3, 4))
        weights = self._xp.constant(cubic_weights)
        self.device.launch("quarter_pixels", (fine.shape[0], fine.shape[1]), style, weights, fine, rows, columns)
        return fine

    def _colours(self, stored: torch.Tensor) -> torch.Tensor:
        """Style channels, (..., S) int16, back on the 0–255 scale, uint8."""
        return (stored / self._factors("float32")).round().clamp(0, 255).to(torch.uint8)

    def _factors(self, dtype: str) -> torch.Tensor:
        """What the style channels are multiplied with, (S,)."""
        return self._xp.constant(vector, dtype, *self.problem.factors[: self.problem.style_channels])

    def _new(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device.home)


@cache
def cubic_weights() -> np.ndarray:
    """Return OpenCV's bicubic weights at quarters of a pixel, in 1/32768: (4, 4, 4, 4) int32, taps last."""
    taps = np.array([[0, 256, 0, 0], [-27, 225, 67, -9], [-24, 152, 152, -24], [-9, 67, 225, -27]]) / 256
    return np.rint(np.einsum("ya,xb->yxab", taps, taps) * 32768).astype(np.int32)
