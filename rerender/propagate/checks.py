"""What a synthesis refuses, before its kernels, which check nothing, get to see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rerender.arrays import Array, namespace
from rerender.errors import UserError
from rerender.propagate.settings import PATCH_SIZES

if TYPE_CHECKING:
    from rerender.propagate.problem import Guide

MAX_STYLE_CHANNELS = 4
MAX_GUIDE_CHANNELS = 24


def check_pictures(
    style: Array, guides: Sequence[Guide], patch: int, source_mask: Array | None, target_mask: Array | None
) -> None:  # fmt: skip
    """Raise `UserError` where the pictures of a synthesis do not fit together, or not the patches."""
    if patch not in PATCH_SIZES:
        raise UserError(f"Patches of {patch} pixels are not possible.", hint="Allowed: 3, 5 or 7.")
    if not guides:
        raise UserError("A synthesis needs at least one guide.")
    channels = 1 if style.ndim == 2 else style.shape[-1]
    if style.dtype != namespace(style).uint8 or style.ndim not in (2, 3) or not 1 <= channels <= MAX_STYLE_CHANNELS:
        raise UserError(f"A style picture has 1–4 channels of uint8, not {style.dtype} {style.shape}.")
    count = 0
    for number, guide in enumerate(guides):
        if guide.source.shape[:2] != style.shape[:2]:
            raise UserError(f"Guide {number} has a source of {guide.source.shape[:2]}, the style {style.shape[:2]}.")
        if guide.target.shape[:2] != guides[0].target.shape[:2]:
            raise UserError(f"Guide {number} has a target of another size than guide 0.")
        if guide.source.shape[2:] != guide.target.shape[2:]:
            raise UserError(f"Guide {number} has not the same channels on both sides.")
        count += 1 if guide.source.ndim == 2 else guide.source.shape[2]
    if count > MAX_GUIDE_CHANNELS:
        raise UserError(f"The guides have {count} channels.", hint=f"At most {MAX_GUIDE_CHANNELS} are possible.")
    smallest = min(*style.shape[:2], *guides[0].target.shape[:2])
    if smallest < 2 * patch + 1:
        raise UserError(f"Pictures of {smallest} pixels are too small for patches of {patch}.")
    for name, mask, shape in (("source", source_mask, style), ("target", target_mask, guides[0].target)):
        if mask is not None and mask.shape != shape.shape[:2]:
            raise UserError(f"The {name} mask has the size {mask.shape}, its picture {shape.shape[:2]}.")


def check_weights(style_weight: float, guides: Sequence[Guide], uniformity: float) -> None:
    """Raise `UserError` for a weight that is negative or no finite number."""
    named = {f"weight of guide {number}": guide.weight for number, guide in enumerate(guides)}
    for name, value in {**named, "style_weight": style_weight, "uniformity": uniformity}.items():
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"The {name} is {value}.", hint="Allowed: 0 or more.")


def check_start(start: Array, shape: tuple[int, int]) -> None:
    """Raise `UserError` for a field to start from that is not one of int32 for a target of this shape."""
    if tuple(start.shape) != (*shape, 2) or start.dtype != namespace(start).int32:
        raise UserError(
            f"A field to start from is {(*shape, 2)} of int32 here, not {start.dtype} {tuple(start.shape)}."
        )
