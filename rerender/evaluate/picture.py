"""Metrics of pictures: colour in Lab, structural similarity, blur, agreement of edges, motion that was kept.

Pictures are RGB (H, W, 3) in 8-bit levels, uint8 or float. See `metrics` for the rules about masks and nan.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.metrics import Array, luma, masked_mean
from rerender.evaluate.motion import Flow, Frame, Mask

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)  # D65, such that equal channels give a* = b* = 0
_LEAST_MOTION = 0.3
"""Root mean square motion of the source, pixels a frame, below which there is no motion to be kept."""


def lab(picture: NDArray[np.generic]) -> Array:
    """CIE 1976 L*a*b* under D65 of sRGB (IEC 61966-2-1): L* in 0 to 100; float64 (H, W, 3)."""
    value = np.asarray(picture, np.float64) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = linear @ (_TO_XYZ / _WHITE[:, None]).T
    cube = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube[..., 0], cube[..., 1], cube[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_shift(frame: Frame, warped_first: NDArray[np.float32], visible: Mask) -> Array:
    """Mean of (L*, a*, b*) of the frame minus those of the first frame at the same points, (3,); nan if unseen.

    Its length is the colour drift in ΔE*ab (CIE 1976; 2.3 is just noticeable). Noise and texture average out: what is
    left is a cast, a fading or a darkening. Lower is better, compared with the drift of the source.
    """
    difference = lab(frame) - lab(warped_first)
    return np.array([masked_mean(difference[..., c], visible) for c in range(3)])


def ssim(a: NDArray[np.generic], b: NDArray[np.generic], mask: Mask) -> float:
    """Mean structural similarity of two luma pictures (H, W) over the mask, -1 to 1; higher is better.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004, eq. 13:
    Gaussian window 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03, L = 255.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return masked_mean(similarity, mask)


def blur_effect(frame: Frame) -> float:
    """How blurred a picture is in itself, 0 (sharp) to 1 (blurred): what it loses when it is blurred once more.

    Crété-Roffet et al., The Blur Effect, SPIE 2007: 1 - Σ max(0, D - D') / Σ D, with D and D' the strength of edges
    before and after a mean over 11 pixels in the same direction; the worse of both directions. Needs no reference
    and does not depend on contrast. Flat styles have more of it than photographs: compare with the source and among
    results of one style. Lower is sharper. nan for a picture without any edge.
    """
    grey = luma(frame)
    return max(_reblur(grey, (1, 0), (11, 1)), _reblur(grey, (0, 1), (1, 11)))


def edges(frame: Frame) -> Array:
    """Where edges are and roughly how strong, float64 (H, W): for comparing pictures of different styles.

    The longest Sobel gradient of the three channels, at a scale of 1/128 of the short side; spread over 1/64 of it,
    so that an outline agrees with the step that it stands for, and its root taken, so that contrast counts for less.
    """
    unit = min(frame.shape[:2]) / 128
    soft = cv2.GaussianBlur(frame.astype(np.float64), (0, 0), unit, borderType=cv2.BORDER_REFLECT_101)
    gx = cv2.Sobel(soft, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT_101)
    gy = cv2.Sobel(soft, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REFLECT_101)
    strength = np.hypot(gx, gy).max(axis=-1)
    spread = cv2.GaussianBlur(strength, (0, 0), 2 * unit, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(np.sqrt(spread), np.float64)


def correlation(a: Array, b: Array, mask: Mask | None = None) -> float:
    """Pearson's correlation of two maps over the mask, -1 to 1; nan where one of them is constant."""
    x, y = (a.ravel(), b.ravel()) if mask is None else (a[mask], b[mask])
    if x.size == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def structure(frame: Frame, source: Frame, mask: Mask | None = None) -> float:
    """Structure kept: `correlation` of the `edges` of the result with those of the source; higher is better.

    1 is the same edges, 0 is unrelated. Own definition; the looks of `rerender.evaluate.looks` themselves have about
    0.7 to 0.95, except the mosaic, whose tiles are edges of their own.
    """
    return correlation(edges(frame), edges(source), mask)


def motion_kept(result: Flow, source: Flow, mask: Mask) -> float:
    """How far the result moves as the source does: Σ ⟨F_result, F_source⟩ / Σ ‖F_source‖² over the mask.

    Both flows (H, W, 2) estimated in the same way on neighbouring frames. 1 is the same motion, 0 is frozen. nan where
    the source itself moves by less than 0.3 px (root mean square). Own definition: the slope of a regression through 0.
    """
    f, s = result[mask].astype(np.float64), source[mask].astype(np.float64)
    energy = float((s * s).sum())
    if len(s) == 0 or energy < _LEAST_MOTION**2 * len(s):
        return float("nan")
    return float((f * s).sum()) / energy


def _window(values: Array) -> Array:
    soft = cv2.GaussianBlur(values, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)
    return np.asarray(soft, np.float64)


def _reblur(grey: Array, derivative: tuple[int, int], window: tuple[int, int]) -> float:
    """The blur effect in one direction; window and derivative are (x, y)."""
    border = cv2.BORDER_REFLECT
    again = cv2.blur(grey, window, borderType=border)
    sharp = np.abs(cv2.Sobel(grey, cv2.CV_64F, *derivative, borderType=border))[2:-2, 2:-2]
    blurred = np.abs(cv2.Sobel(again, cv2.CV_64F, *derivative, borderType=border))[2:-2, 2:-2]
    total = float(sharp.sum())
    return (total - float(np.maximum(0.0, sharp - blurred).sum())) / total if total > 0 else float("nan")
