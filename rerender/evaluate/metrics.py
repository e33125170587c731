"""The metrics on one frame or one pair of frames: definitions, units, and which way is better.

Frames are uint8 RGB (H, W, 3). Sums run in float64, so that figures agree on all machines to rounding. A figure
that nothing visible contributes to is nan, never 0. docs/metrics.md says which figures belong together.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.motion import Flow, Frame, Mask, PairMotion
from rerender.motion.warp import warp

Array = NDArray[np.float64]

LEAST_VISIBLE = 0.05
"""Share of pixels that must correspond for a pair of frames to give a figure."""

_LUMA = np.array([0.299, 0.587, 0.114])


def luma(frame: NDArray[np.generic]) -> Array:
    """Luma Y' = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) in 8-bit levels; (H, W, 3) → float64 (H, W)."""
    return np.asarray(frame, dtype=np.float64) @ _LUMA


def along(frame: Frame, flow: Flow) -> NDArray[np.float32]:
    """The frame seen along the flow, unrounded: (H, W, 3) float32 in 8-bit levels (bilinear)."""
    return np.asarray(warp(frame.astype(np.float32), flow), dtype=np.float32)


def masked_mean(values: NDArray[np.generic], mask: Mask) -> float:
    """Mean over the pixels of the mask, and over channels; nan where too few are left (`LEAST_VISIBLE`)."""
    if mask.mean() < LEAST_VISIBLE:
        return float("nan")
    return float(values[mask].mean(dtype=np.float64))


def squared_error(frame: Frame, warped: NDArray[np.float32], visible: Mask) -> float:
    """One direction of the warp error: mean over visible pixels and channels of (frame - warped)².

    Lai et al., Learning Blind Video Temporal Consistency, ECCV 2018, section 4.2:
    E = Σ_p M(p) ‖V_t(p) - V̂_{t+1}(p)‖² / Σ_p M(p). Theirs sums the channels of values in [0, 1]; ours is the mean
    in squared 8-bit levels: ours = theirs · 255² / 3. Lower is better; 0 is perfect.
    """
    return masked_mean((frame.astype(np.float64) - warped) ** 2, visible)


def pair_warp_error(a: Frame, b: Frame, motion: PairMotion) -> float:
    """Warp error of two frames: mean of `squared_error` in both directions, squared 8-bit levels. Lower is better."""
    there = squared_error(a, along(b, motion.forward), motion.visible_a)
    back = squared_error(b, along(a, motion.backward), motion.visible_b)
    return 0.5 * (there + back)


def flicker_residual(
    previous: NDArray[np.generic], current: NDArray[np.generic], following: NDArray[np.generic], visible: Mask
) -> float:
    """Flicker at one frame: the high-frequency part of luma along the motion, 8-bit levels. Lower is better.

    r(p) = Y_t(p) - ½ (Y_{t-1}(p + F_{t→t-1}) + Y_{t+1}(p + F_{t→t+1})), the second difference in time, is blind to
    anything that changes steadily (a drift, a slow light). The figure is √(2/3 · mean r²) over the pixels that both
    neighbours show: luma noise of standard deviation σ that is new in each frame measures σ, a brightness that
    alternates by ±a measures a·√(8/3). Own definition, after the temporal second differences of flicker meters.

    previous, following: luma (H, W) already carried along the flow onto the current frame; current: its luma.
    """
    residual = np.asarray(current, np.float64) - 0.5 * (
        np.asarray(previous, np.float64) + np.asarray(following, np.float64)
    )
    return float(np.sqrt(2.0 / 3.0 * masked_mean(residual**2, visible)))


def laplacian_variance(frame: Frame, mask: Mask | None = None) -> float:
    """Variance of the Laplacian of luma over the mask, squared 8-bit levels: how much fine detail there is.

    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000. 4-neighbour Laplacian, edges
    mirrored. Means something only as a ratio of pictures of the same thing.
    """
    response = cv2.Laplacian(luma(frame), cv2.CV_64F, ksize=1, borderType=cv2.BORDER_REFLECT_101)
    chosen = response if mask is None else response[mask]
    return float(chosen.var(dtype=np.float64)) if chosen.size else float("nan")


def sharpness_ratio(frame: Frame, key: Frame, motion: PairMotion) -> float:
    """`laplacian_variance` of a frame ÷ that of its key frame, each where the other shows the same thing.

    motion: a = frame, b = key. 1 is as sharp as the key frame, below is blurred, above is sharper or noisier.
    """
    if min(motion.visible_a.mean(), motion.visible_b.mean()) < LEAST_VISIBLE:
        return float("nan")
    detail = laplacian_variance(key, motion.visible_b)
    return laplacian_variance(frame, motion.visible_a) / detail if detail > 0 else float("nan")
