"""A synthesis problem in the integer form that every backend works on, and its pyramid.

docs/propagation.md, "Arithmetic", is the specification of what is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rerender.arrays import Array, namespace
from rerender.propagate.checks import check_pictures, check_weights

LANES = 16
FORBIDDEN = 2**30 - 1
_ERROR_BOUND = 2**30


@dataclass(frozen=True)
class Guide:
    """One guide: what the source looks like, and what the target shall look like.

    Attributes:
        source: (Hs, Ws) or (Hs, Ws, C), any real dtype, values on the 0–255 scale (clipped to it).
        target: (Ht, Wt) or (Ht, Wt, C), the same channels.
        weight: against the style's weight; it is divided by C.
        refines: whether it also says where between the pixels a match lies.
    """

    source: Array
    target: Array
    weight: float
    refines: bool = True


@dataclass(frozen=True)
class Effort:
    """How much work a synthesis may cost.

    Attributes:
        rounds: rounds (search passes, then a vote) at each level of the pyramid.
        passes: search passes a round.
        radius: bound of the random search above the coarsest level, in pixels; 0: the whole source.
        tolerance: pixels that moved by less in the last vote are left alone, with their patch; 0: never.
    """

    rounds: int
    passes: int
    radius: int = 32
    tolerance: float = 2.0


EFFORTS = {
    "fast": Effort(6, 2, radius=8, tolerance=3.0),
    "default": Effort(10, 2, radius=32, tolerance=2.0),
    "quality": Effort(12, 6, radius=32, tolerance=2.0),  # the reference's counts
    "exhaustive": Effort(12, 6, radius=0, tolerance=0.0),  # the reference's work, nothing skipped; for comparison
}


@dataclass(frozen=True)
class Level:
    """One level of the pyramid, as arrays of one place.

    Attributes:
        source: (Hs, Ws, L) int16: style and guide channels, scaled; L is a multiple of 16, the rest is 0.
        target: (Ht + 2·half, Wt + 2·half, L) int16: room for the style channels, then the guides; edges repeated.
        barrier: (Hs, Ws) int32: 0, or `FORBIDDEN` where no patch of the source may be centred.
        wanted: (Ht, Wt) uint8: 1 where the target is to be synthesised.
    """

    source: Array
    target: Array
    barrier: Array
    wanted: Array

    @property
    def target_shape(self) -> tuple[int, int]:
        """Height and width of the target."""
        return self.wanted.shape[0], self.wanted.shape[1]


@dataclass(frozen=True)
class Problem:
    """A whole synthesis.

    Attributes:
        levels: from coarse to fine.
        style_channels: how many of the first channels are the style.
        factors: (L,) float64: what each channel was multiplied with, S·sqrt(weight).
        scale: S; an integer error is S² times the error on the 0–255 scale.
        patch: side of a patch.
        uniformity: λ of the occupancy term.
        effort: rounds, passes, radius, tolerance.
        weighted: weigh the last vote by the errors.
        seed: of every random number.
        subpixel: let the last vote take its patches at quarters of a pixel.
        unrefined: channels that do not say where between the pixels a match lies: the style's, which was made from
            whole pixels, and those of guides that do not refine.
    """

    levels: tuple[Level, ...]
    style_channels: int
    factors: np.ndarray
    scale: float
    patch: int
    uniformity: float
    effort: Effort
    weighted: bool
    seed: int
    subpixel: bool
    unrefined: tuple[int, ...]

    def unit(self, level: Level) -> int:
        """Penalty of one use, per shared pair of patch pixels: λ·S² / (patch⁴ · |target| / |source|)."""
        ratio = math.prod(level.wanted.shape) / math.prod(level.barrier.shape)
        bound = FORBIDDEN // self.patch**2
        return min(round(self.uniformity * self.scale**2 / (self.patch**4 * ratio)), bound)

    def thresholds(self) -> np.ndarray:
        """(S,) int32: the change of each style channel from which on a pixel counts as moved."""
        exact = self.effort.tolerance * self.factors[: self.style_channels]
        return np.maximum(np.ceil(exact), 0).astype(np.int32)

    def pass_key(self, level: int, number: int) -> int:
        """Return the 32 bits that the random numbers of one search pass start from."""
        words = (self.seed, level, number)
        key = 0
        for word in words:
            key = int(mix(np.array([key ^ word], np.uint32))[0]) + 0x9E3779B9 & 0xFFFFFFFF
        return key


def mix(state: np.ndarray) -> np.ndarray:
    """Hash uint32 numbers (the same rounds as `kernels.mix`)."""
    state = state ^ (state >> np.uint32(16))
    state = state * np.uint32(0x7FEB352D)
    state = state ^ (state >> np.uint32(15))
    state = state * np.uint32(0x846CA68B)
    return state ^ (state >> np.uint32(16))


def build_problem(
    style: Array,
    guides: Sequence[Guide],
    *,
    effort: Effort,
    patch: int = 5,
    style_weight: float = 1.0,
    uniformity: float = 3500.0,
    source_mask: Array | None = None,
    target_mask: Array | None = None,
    weighted: bool = False,
    subpixel: bool = True,
    seed: int = 0,
    finest_only: int = 0,
) -> Problem:
    """Scale, interleave and shrink the pictures, where they lie. `finest_only` > 0 keeps so many of the finest levels.

    Raises:
        UserError: channel counts, sizes, dtypes or weights that do not fit together.
    """
    check_pictures(style, guides, patch, source_mask, target_mask)
    check_weights(style_weight, guides, uniformity)
    xp = namespace(style)
    sources = [_channels(style), *(_channels(guide.source) for guide in guides)]
    targets = [_channels(guide.target) for guide in guides]
    weights = [style_weight, *(guide.weight for guide in guides)]
    counts = [s.shape[2] for s in sources]
    scale, factors = scaling(counts, weights, patch)
    room = xp.zeros((*targets[0].shape[:2], sources[0].shape[2]), xp.float32)
    source, target = xp.concat(sources, 2), xp.concat([room, *targets], 2)
    source_allowed, target_wanted = _mask(source_mask, source), _mask(target_mask, target)
    levels = []
    while True:
        levels.append(_level(source, target, source_allowed, target_wanted, factors, patch))
        smallest = min(source.shape[0], source.shape[1], target.shape[0], target.shape[1])
        if (smallest + 1) // 2 < 2 * patch + 1 or len(levels) == finest_only:
            break
        source, target = halve(source), halve(target)
        source_allowed, target_wanted = _halve_all(source_allowed), ~_halve_all(~target_wanted)
    return Problem(
        levels=tuple(reversed(levels)), style_channels=sources[0].shape[2], factors=factors, scale=scale,
        patch=patch, uniformity=uniformity, effort=effort, weighted=weighted, subpixel=subpixel, seed=seed,
        unrefined=_unrefined(counts, [False, *(guide.refines for guide in guides)]),
    )  # fmt: skip


def _unrefined(counts: Sequence[int], refines: Sequence[bool]) -> tuple[int, ...]:
    """Channels of the pictures that do not refine."""
    each = [refining for count, refining in zip(counts, refines, strict=True) for _ in range(count)]
    return tuple(channel for channel, refining in enumerate(each) if not refining)


def scaling(counts: Sequence[int], weights: Sequence[float], patch: int) -> tuple[float, np.ndarray]:
    """Return S and the (L,) float64 factors of the channels, from the channels and weight of each picture."""
    per_channel = [w / count for w, count in zip(weights, counts, strict=True) for _ in range(count)]
    scale = math.sqrt(_ERROR_BOUND / (patch**2 * 255.0**2 * max(sum(weights), 1e-3)))
    factors = np.zeros(-(-len(per_channel) // LANES) * LANES)
    factors[: len(per_channel)] = scale * np.sqrt(per_channel)
    return scale, factors


def quarter_pixels(level: Level, problem: Problem) -> np.ndarray:
    """Return the style with three pixels between any two, bicubic: (4·Hs - 3, 4·Ws - 3, S) uint8."""
    count = problem.style_channels
    style = level.source[..., :count] / problem.factors[:count].astype(np.float32)
    rows, columns = style.shape[:2]
    fine = cv2.warpAffine(
        np.clip(np.rint(style), 0, 255).astype(np.uint8),
        np.array([[0.25, 0, 0], [0, 0.25, 0]]),
        (4 * columns - 3, 4 * rows - 3),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(fine).reshape(*fine.shape[:2], count)


def halve(image: Array) -> Array:
    """Return the means of 2×2 pixels, (ceil(H/2), ceil(W/2), C) float32; odd edges are repeated."""
    image = _even(image)
    rows = image[0::2] + image[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * 0.25


def _halve_all(mask: Array) -> Array:
    mask = _even(mask)
    rows = mask[0::2] & mask[1::2]
    return rows[:, 0::2] & rows[:, 1::2]


def _even(image: Array) -> Array:
    """Repeat the last row and column where their number is odd."""
    xp = namespace(image)
    if image.shape[0] % 2:
        image = xp.concat([image, image[-1:]], 0)
    return xp.concat([image, image[:, -1:]], 1) if image.shape[1] % 2 else image


def _channels(image: Array) -> Array:
    xp = namespace(image)
    return xp.clip(xp.astype(image[..., None] if image.ndim == 2 else image, xp.float32), 0, 255)


def _mask(mask: Array | None, image: Array) -> Array:
    """Where a mask is set, everywhere if there is none; (H, W) bool."""
    xp = namespace(image)
    return ~xp.zeros(image.shape[:2], xp.bool) if mask is None else mask > 0


def _level(source: Array, target: Array, allowed: Array, wanted: Array, factors: np.ndarray, patch: int) -> Level:
    xp, half = namespace(source), patch // 2
    return Level(
        source=_pack(source, factors),
        target=xp.pad(_pack(target, factors), half, half),
        barrier=xp.astype(~allowed, xp.int32) * FORBIDDEN,
        wanted=xp.astype(wanted, xp.uint8),
    )


def _pack(image: Array, factors: np.ndarray) -> Array:
    xp, channels = namespace(image), image.shape[2]
    packed = xp.zeros((*image.shape[:2], len(factors)), xp.int16)
    packed[..., :channels] = xp.rint(image * xp.constant(vector, "float32", *factors[:channels]))
    return packed


def vector(dtype: str, *numbers: float) -> np.ndarray:
    """Return some numbers as an array, for `Operations.constant`."""
    return np.array(numbers, dtype)
