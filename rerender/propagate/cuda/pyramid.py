"""The pyramid of a problem on the GPU: the same numbers as `build_problem`, from pictures that travel as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from rerender.propagate.problem import FORBIDDEN, Effort, Guide, Level, Problem, check_pictures, scaling


@dataclass(frozen=True)
class DeviceLevel:
    """A `Level` as tensors of the same shapes and types."""

    source: torch.Tensor
    target: torch.Tensor
    barrier: torch.Tensor
    wanted: torch.Tensor

    @property
    def target_shape(self) -> tuple[int, int]:
        """Height and width of the target."""
        return self.wanted.shape[0], self.wanted.shape[1]


def upload(level: Level, home: torch.device) -> DeviceLevel:
    """Copy a level to a GPU."""
    arrays = (level.source, level.target, level.barrier, level.wanted)
    return DeviceLevel(*(torch.tensor(array, device=home) for array in arrays))


def build_on_device(
    style: np.ndarray,
    guides: Sequence[Guide],
    home: torch.device,
    *,
    effort: Effort,
    patch: int = 5,
    style_weight: float = 1.0,
    uniformity: float = 3500.0,
    source_mask: np.ndarray | None = None,
    target_mask: np.ndarray | None = None,
    weighted: bool = False,
    subpixel: bool = True,
    seed: int = 0,
    finest_only: int = 0,
) -> Problem:
    """Do what `build_problem` does, on a GPU. The levels of the problem are `DeviceLevel`s.

    Raises:
        UserError: channel counts, sizes or dtypes that do not fit together.
    """
    check_pictures(style, guides, patch, source_mask, target_mask)
    sources = [_channels(style, home), *(_channels(guide.source, home) for guide in guides)]
    targets = [_channels(guide.target, home) for guide in guides]
    scale, factors = scaling([s.shape[2] for s in sources], [style_weight, *(g.weight for g in guides)], patch)
    source = torch.cat(sources, 2)
    target = torch.cat([source.new_zeros(*targets[0].shape[:2], sources[0].shape[2]), *targets], 2)
    allowed, wanted = _mask(source_mask, source), _mask(target_mask, target)
    multipliers = torch.tensor(factors, dtype=torch.float32, device=home)
    levels = []
    while True:
        levels.append(_level(source, target, allowed, wanted, multipliers, patch))
        smallest = min(*source.shape[:2], *target.shape[:2])
        if (smallest + 1) // 2 < 2 * patch + 1 or len(levels) == finest_only:
            break
        source, target = _halve(source), _halve(target)
        allowed, wanted = _halve_all(allowed), ~_halve_all(~wanted)
    return Problem(
        levels=cast(Any, tuple(reversed(levels))), style_channels=sources[0].shape[2], factors=factors, scale=scale,
        patch=patch, uniformity=uniformity, effort=effort, weighted=weighted, subpixel=subpixel, seed=seed,
    )  # fmt: skip


def _channels(image: np.ndarray, home: torch.device) -> torch.Tensor:
    image = image if image.dtype == np.uint8 else np.asarray(image, np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(image)).to(home)
    return (tensor[..., None] if image.ndim == 2 else tensor).float().clamp(0, 255)


def _mask(mask: np.ndarray | None, image: torch.Tensor) -> torch.Tensor:
    if mask is None:
        return torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
    return torch.from_numpy(np.ascontiguousarray(mask > 0)).to(image.device)


def _even(image: torch.Tensor) -> torch.Tensor:
    """Repeat the last row and column where their number is odd."""
    if image.shape[0] % 2:
        image = torch.cat([image, image[-1:]], 0)
    return torch.cat([image, image[:, -1:]], 1) if image.shape[1] % 2 else image


def _halve(image: torch.Tensor) -> torch.Tensor:
    image = _even(image)
    rows = image[0::2] + image[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * 0.25


def _halve_all(mask: torch.Tensor) -> torch.Tensor:
    mask = _even(mask)
    rows = mask[0::2] & mask[1::2]
    return rows[:, 0::2] & rows[:, 1::2]


def _level(
    source: torch.Tensor, target: torch.Tensor, allowed: torch.Tensor, wanted: torch.Tensor, factors: torch.Tensor,
    patch: int,
) -> DeviceLevel:  # fmt: skip
    return DeviceLevel(
        source=_pack(source, factors),
        target=repeat_edges(_pack(target, factors), patch // 2),
        barrier=torch.where(allowed, 0, FORBIDDEN).to(torch.int32),
        wanted=wanted.to(torch.uint8),
    )


def _pack(image: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    channels = image.shape[2]
    packed = torch.zeros((*image.shape[:2], len(factors)), dtype=torch.int16, device=image.device)
    packed[..., :channels] = (image * factors[:channels]).round().to(torch.int16)
    return packed


def repeat_edges(image: torch.Tensor, half: int) -> torch.Tensor:
    """Give an (H, W, C) picture a margin of `half` repeated pixels."""
    height, width = image.shape[:2]
    rows = torch.arange(-half, height + half, device=image.device).clamp(0, height - 1)
    columns = torch.arange(-half, width + half, device=image.device).clamp(0, width - 1)
    return image[rows[:, None], columns[None]]
