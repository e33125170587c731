"""How well each pixel fits where a flow takes it: a truncated cost, gathered from the pixels that look like it.

Hosni, Rhemann, Bleyer, Rother, Gelautz, *Fast Cost-Volume Filtering for Visual Correspondence and Beyond*, PAMI 2013:
the guided filter (He, Sun, Tang, *Guided Image Filtering*, PAMI 2013) averages costs over a window without crossing the
picture's outlines, so the best of several flows changes where the picture does. Box filters only: a few ms a flow.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from rerender.motion.flow import FloatArray, UInt8Array

COLOUR_MOST = 20.0
"""Mean difference of the channels, in 8-bit levels, beyond which a pixel fits no worse."""

GRADIENT_MOST = 6.0
"""The same for the difference of the luma's gradient (sum over both axes, levels a pixel)."""

GRADIENT_WEIGHT = 2.0
"""Levels of cost for one level of gradient."""

MOST = COLOUR_MOST + GRADIENT_WEIGHT * GRADIENT_MOST
"""The largest cost of a pixel."""

_OUTSIDE = 0.4 * MOST  # what lies outside the target can neither be praised nor blamed
_MEAN_OF_COLOURS = np.array([[1 / 3, 1 / 3, 1 / 3, 0]], np.float32)  # of four channels; the last is none
_GRADIENT_SCALE = 4  # gradients are kept in bytes, four steps a level
_MARGIN = 0.05  # by this much a flow must fit better to be taken: noise decides nothing
_RADIUS = 5  # of the guided filter's window, pixels
_EPSILON = 25.0  # variance of luma below which a window counts as flat, levels squared


class Matcher:
    """Costs of flows reference → target; both pictures uint8 RGB (H, W, 3) of one size."""

    def __init__(self, reference: UInt8Array, target: UInt8Array) -> None:
        self.reference = np.ascontiguousarray(reference)
        luma, self._reference = _features(self.reference)
        self._target = _features(np.ascontiguousarray(target))[1]
        self.luma: FloatArray = np.asarray(luma, np.float32)
        self._average = _GuidedFilter(self.luma)
        height, width = self.luma.shape
        self._grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))

    def cost(self, flow: FloatArray) -> FloatArray:
        """How badly the surroundings of each pixel fit, (H, W), about 0 to MOST; flow (H, W, 2) in pixels."""
        return self._average(self._own_cost(flow))

    def best(self, flows: Iterable[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """The best of some flows for each pixel, and its cost; the first where they fit equally well."""
        ordered = iter(flows)
        flow = np.array(next(ordered), np.float32, order="C")
        cost = self.cost(flow)
        for each in ordered:
            self.improve(flow, cost, each)
        return flow, cost

    def improve(self, flow: FloatArray, cost: FloatArray, candidate: FloatArray) -> None:
        """Put `candidate` into `flow`, and its cost into `cost`, where it fits better."""
        candidate = np.ascontiguousarray(candidate)
        other = self.cost(candidate)
        replace(flow, cost, candidate, other, other < cost - np.float32(_MARGIN))

    def carry(self, values: FloatArray, flow: FloatArray) -> FloatArray:
        """`values` of the target's pixels, (H, W, 2), at p + flow(p); to 1/32 px, quicker than `warp`."""
        places = cv2.add(self._grid, np.ascontiguousarray(flow))
        return _sample(np.ascontiguousarray(values), *cv2.convertMaps(places, None, cv2.CV_16SC2))  # type: ignore[call-overload]

    def _own_cost(self, flow: FloatArray) -> FloatArray:
        places = cv2.add(self._grid, np.ascontiguousarray(flow))
        maps = cv2.convertMaps(places, None, cv2.CV_16SC2)  # type: ignore[call-overload]  # the stubs know no None
        first, second = (
            cv2.absdiff(_sample(target, *maps), own) for target, own in zip(self._target, self._reference, strict=True)
        )
        colour = _at_most(cv2.transform(first, _MEAN_OF_COLOURS), COLOUR_MOST)
        slope = _at_most(cv2.add(cv2.extractChannel(first, 3), second), GRADIENT_MOST * _GRADIENT_SCALE)
        cost = cv2.addWeighted(colour, 1.0, slope, GRADIENT_WEIGHT / _GRADIENT_SCALE, 0.0, dtype=cv2.CV_32F)
        height, width = self.luma.shape
        inside = cv2.inRange(places, (-0.5, -0.5), (width - 0.5, height - 0.5))  # type: ignore[call-overload]
        cost[inside == 0] = _OUTSIDE
        return np.asarray(cost, np.float32)


def replace(flow: FloatArray, cost: FloatArray, other: FloatArray, other_cost: FloatArray, where: np.ndarray) -> None:
    """Overwrite `flow` (H, W, 2) and `cost` (H, W) in place by the others, where `where` (H, W) says so."""
    mask = where.astype(np.uint8)
    cv2.copyTo(np.ascontiguousarray(other), mask, flow)
    cv2.copyTo(other_cost, mask, cost)


class _GuidedFilter:
    """He, Sun, Tang, PAMI 2013, with one channel as guide: the mean over a window that stops at outlines."""

    def __init__(self, guide: FloatArray) -> None:
        self._guide, self._mean = guide, _box(guide)
        variance = _box(guide * guide) - self._mean * self._mean
        self._inverse: FloatArray = 1 / (np.maximum(variance, 0) + np.float32(_EPSILON))

    def __call__(self, values: FloatArray) -> FloatArray:
        mean = _box(values)
        covariance = cv2.subtract(_box(cv2.multiply(self._guide, values)), cv2.multiply(self._mean, mean))
        slope = cv2.multiply(covariance, self._inverse)
        offset = cv2.subtract(mean, cv2.multiply(slope, self._mean))
        return np.asarray(cv2.add(cv2.multiply(_box(slope), self._guide), _box(offset)), np.float32)


def _box(values: np.ndarray) -> FloatArray:
    side = 2 * _RADIUS + 1
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REPLICATE), np.float32)


def _features(picture: UInt8Array) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Luma; and what is compared, in bytes: colours with the luma's gradient along x (H, W, 4), that along y (H, W).

    Sobel's gradient; 128 is none, four steps are one level a pixel. OpenCV samples 4 channels and 1 in a third of the
    time of 3 and 2.
    """
    luma, scale = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), _GRADIENT_SCALE / 8
    x, y = (cv2.Sobel(luma, cv2.CV_8U, dx, 1 - dx, ksize=3, scale=scale, delta=128) for dx in (1, 0))
    return luma, (cv2.merge([*cv2.split(picture), x]), y)


def _sample(picture: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return cv2.remap(picture, first, second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _at_most(values: np.ndarray, most: float) -> np.ndarray:
    return cv2.threshold(values, most, 0, cv2.THRESH_TRUNC)[1]
