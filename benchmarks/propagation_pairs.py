"""A warped pair with known truth for the propagation benchmark, from scikit-image's pictures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data

from rerender.propagate.problem import Guide


@dataclass(frozen=True)
class Pair:
    """A style picture, the guides of a synthesis, and the picture that a perfect one gives."""

    style: np.ndarray
    guides: tuple[Guide, ...]
    truth: np.ndarray


def photograph(height: int, width: int, name: str = "coffee") -> np.ndarray:
    """Return a scikit-image picture, cropped to the aspect and resized, uint8 RGB."""
    image = getattr(skimage.data, name)()
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])


def stylise(image: np.ndarray, seed: int = 0) -> np.ndarray:
    """Paint over a picture: flattened colours, dark edges, shifted hue, and a grain of brush strokes."""
    flat = cv2.stylization(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), sigma_s=40, sigma_r=0.35)[..., ::-1]
    noise = np.random.default_rng(seed).normal(0, 1, image.shape[:2]).astype(np.float32)
    strokes = cv2.GaussianBlur(noise, (0, 0), sigmaX=4.0, sigmaY=0.8) * 28
    mixed = flat.astype(np.float32) @ np.array([[0.2, 0.1, 0.7], [0.3, 0.8, 0.1], [0.6, 0.1, 0.1]], np.float32)
    return np.clip(mixed + strokes[..., None], 0, 255).astype(np.uint8)


def smooth_flow(height: int, width: int, amplitude: float, seed: int = 1) -> np.ndarray:
    """Return a smooth random field of about ±amplitude pixels, (H, W, 2) float32."""
    noise = np.random.default_rng(seed).normal(0, 1, (height // 64 + 2, width // 64 + 2, 2)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * amplitude


def pull(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return image(x + flow(x)), bicubic."""
    height, width = flow.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32) + flow
    return cv2.remap(image, grid[..., 0], grid[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def edges(image: np.ndarray) -> np.ndarray:
    """Return the Laplacian of a picture around 128, like the reference's edge guide."""
    return np.clip(128 + cv2.Laplacian(image, cv2.CV_32F), 0, 255)


def warped_pair(height: int, width: int, name: str = "coffee", amplitude: float = 6.0) -> Pair:
    """Return 3 style and 12 guide channels: colour 6, edge 0.5, position 2, temporal 0.5, as in the reference.

    The position and temporal guides carry a flow error of about half a pixel, as estimated flow does.
    """
    source = photograph(height, width, name)
    style = stylise(source)
    flow = smooth_flow(height, width, amplitude)
    wrong = flow + smooth_flow(height, width, 0.5, seed=2)
    target = pull(source, flow)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    scale = np.float32(255) / np.array([width - 1, height - 1], np.float32)
    place = np.dstack([grid * scale, np.zeros((height, width), np.float32)])
    carried = np.dstack([(grid + wrong) * scale, np.zeros((height, width), np.float32)])
    guides = (
        Guide(source, target, 6.0),
        Guide(edges(source), edges(target), 0.5),
        Guide(place, carried, 2.0),
        Guide(style, cv2.GaussianBlur(pull(style, wrong), (0, 0), 1.0), 0.5),
    )
    return Pair(style, guides, pull(style, flow))


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.mean((image.astype(np.float64) - truth) ** 2)))
