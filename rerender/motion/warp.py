"""Backward warps, ``warp(z, F)(p) = z(p + F(p))``, exact to the pixel for pictures and for latents.

Pixel (i, j) is sampled at x = j, y = i: whole displacements move whole pixels, with any size of picture. The
displacement alone is split into a whole and a fractional part, so precision does not fall with the coordinate
(OpenCV's remap works in 1/32 px, grid_sample in float32 of the normalised coordinate).
Nearest rounds half up on both axes: a displacement of 0.5 takes the next pixel, one of -0.5 stays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rerender.motion.flow import FloatArray

if TYPE_CHECKING:
    import torch

Mode = Literal["bilinear", "nearest"]
PictureMode = Literal["bilinear", "bicubic", "nearest"]
Border = Literal["edge", "reflect", "zero"]
IntArray = NDArray[np.int64]


def warp(
    image: NDArray[Any], flow: FloatArray, mode: PictureMode = "bilinear", border: Border = "edge"
) -> NDArray[Any]:
    """Sample ``image`` at p + flow(p).

    "bicubic" (Catmull-Rom; Keys, 1981, a = -1/2) keeps fine texture that "bilinear" blurs, at four times the cost; it
    may overshoot the range of the picture by a little.

    image: (H, W) or (H, W, C), any number type; flow: (h, w, 2) in pixels of ``image``, usually of its size.
    border: pixels outside repeat the edge, mirror about it (edge pixel not doubled), or are zero.
    Returns (h, w) or (h, w, C) in the type of ``image``; whole-number types are rounded.
    """
    if mode == "nearest":
        xs, ys = _grid(flow)
        rounded = round_half_up(flow)
        return _take(image, xs + rounded[..., 0], ys + rounded[..., 1], border)
    mixed = _bicubic(image, flow, border) if mode == "bicubic" else _bilinear(image, flow, border)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        return np.clip(np.rint(mixed), limits.min, limits.max).astype(image.dtype)
    return mixed.astype(image.dtype, copy=False)


def warp_latent(
    z: torch.Tensor, flow: torch.Tensor | FloatArray, mode: Mode = "nearest", border: Border = "edge"
) -> torch.Tensor:
    """Sample the latent ``z`` (B, C, h, w) at p + flow(p); flow (h, w, 2) in latent pixels, one for the batch.

    The same convention, and the same ties, as ``warp``. Differentiable in z. Returns (B, C, h, w) like z.
    """
    import torch

    displacement = torch.as_tensor(flow, device=z.device).float()
    whole = torch.floor(displacement)
    fraction = displacement - whole
    ys, xs = torch.meshgrid(
        torch.arange(displacement.shape[0], device=z.device),
        torch.arange(displacement.shape[1], device=z.device),
        indexing="ij",
    )
    if mode == "nearest":
        whole, fraction = whole + (fraction >= 0.5), torch.zeros_like(fraction)
    x, y = xs + whole[..., 0].long(), ys + whole[..., 1].long()
    if mode == "nearest":
        return _take_latent(z, x, y, border)
    fx, fy = fraction[..., 0].to(z.dtype), fraction[..., 1].to(z.dtype)
    top = torch.lerp(_take_latent(z, x, y, border), _take_latent(z, x + 1, y, border), fx)
    bottom = torch.lerp(_take_latent(z, x, y + 1, border), _take_latent(z, x + 1, y + 1, border), fx)
    return torch.lerp(top, bottom, fy)


def valid_mask(flow: FloatArray, size: tuple[int, int] | None = None, margin: float = 0.5) -> NDArray[np.bool_]:
    """True where p + flow(p) falls inside the picture, (h, w).

    size: (H, W) of the picture that is sampled, the flow's own by default. margin: how far outside the
    outermost pixel centres still counts, in pixels; half a pixel is where the area of the edge pixels ends.
    """
    height, width = size or flow.shape[:2]
    xs, ys = _grid(flow)
    x, y = xs + flow[..., 0].astype(np.float64), ys + flow[..., 1].astype(np.float64)
    inside: NDArray[np.bool_] = (x >= -margin) & (x <= width - 1 + margin) & (y >= -margin) & (y <= height - 1 + margin)
    return inside


def compose_flow(first: FloatArray, second: FloatArray) -> FloatArray:
    """Flow a → c from a → b and b → c: first(p) + second(p + first(p)); both (H, W, 2)."""
    return first + warp(second, first)


def downscale_flow(flow: FloatArray, factor: int = 8) -> FloatArray:
    """Flow for a picture ``factor`` times smaller, e.g. the latent: block means, in pixels of the small one.

    (H, W, 2) → (⌈H/factor⌉, ⌈W/factor⌉, 2). Sizes that do not divide are filled up with the edge.
    """
    blocks = edge_blocks(flow, factor)
    return (blocks.mean(axis=(1, 3), dtype=np.float64) / factor).astype(np.float32)


def edge_blocks(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """View (H, W, ...) as blocks (⌈H/factor⌉, factor, ⌈W/factor⌉, factor, ...), filled up with the edge."""
    height, width = values.shape[:2]
    pad = [(0, -height % factor), (0, -width % factor)] + [(0, 0)] * (values.ndim - 2)
    padded = np.pad(values, pad, mode="edge") if pad[0][1] or pad[1][1] else values
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    return padded.reshape(rows, factor, columns, factor, *values.shape[2:])


def round_half_up(values: FloatArray) -> IntArray:
    """Nearest whole number, ties upward, exact in any precision (floor(v + 0.5) is not, just below a tie)."""
    whole = np.floor(values)
    return whole.astype(np.int64) + (values - whole >= 0.5)


def _grid(flow: FloatArray) -> tuple[IntArray, IntArray]:
    height, width = flow.shape[:2]
    return np.arange(width)[None, :], np.arange(height)[:, None]


def _bilinear(image: NDArray[Any], flow: FloatArray, border: Border) -> NDArray[Any]:
    work = image if image.dtype == np.float64 else image.astype(np.float32, copy=False)
    compiled = _compiled()
    if compiled is not None and border == "edge" and work.dtype == flow.dtype == np.float32:
        made = np.empty((*flow.shape[:2], *image.shape[2:]), np.float32)
        channels = int(np.prod(image.shape[2:]))
        compiled(
            np.ascontiguousarray(work).reshape(*image.shape[:2], channels),
            np.ascontiguousarray(flow),
            made.reshape(*flow.shape[:2], channels),
        )
        return made
    xs, ys = _grid(flow)
    whole = np.floor(flow)
    fraction = (flow - whole).astype(work.dtype)
    x, y = xs + whole[..., 0].astype(np.int64), ys + whole[..., 1].astype(np.int64)
    fx, fy = fraction[..., 0], fraction[..., 1]
    if image.ndim == 3:
        fx, fy = fx[..., None], fy[..., None]
    top = _lerp(_take(work, x, y, border), _take(work, x + 1, y, border), fx)
    bottom = _lerp(_take(work, x, y + 1, border), _take(work, x + 1, y + 1, border), fx)
    return _lerp(top, bottom, fy)


@functools.cache
def _compiled() -> Callable[[FloatArray, FloatArray, FloatArray], None] | None:
    """The same in numba, where it is installed: the same bits, several times as fast, without the GIL."""
    try:
        from rerender.motion.sampling import bilinear
    except ImportError:
        return None
    return bilinear


def _bicubic(image: NDArray[Any], flow: FloatArray, border: Border) -> NDArray[Any]:
    work = image if image.dtype == np.float64 else image.astype(np.float32, copy=False)
    xs, ys = _grid(flow)
    whole = np.floor(flow)
    fraction = (flow - whole).astype(work.dtype)
    x, y = xs + whole[..., 0].astype(np.int64), ys + whole[..., 1].astype(np.int64)
    across, down = _catmull_rom(fraction[..., 0]), _catmull_rom(fraction[..., 1])
    if image.ndim == 3:
        across, down = [w[..., None] for w in across], [w[..., None] for w in down]
    total = np.zeros((*flow.shape[:2], *image.shape[2:]), work.dtype)
    for j, weight in enumerate(down):
        row = sum(w * _take(work, x + i - 1, y + j - 1, border) for i, w in enumerate(across))
        total += weight * row
    return total


def _catmull_rom(t: NDArray[Any]) -> list[NDArray[Any]]:
    """Weights of the samples at -1, 0, 1 and 2 for a place t in [0, 1); they sum to 1."""
    return [
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def _lerp(a: NDArray[Any], b: NDArray[Any], t: NDArray[Any]) -> NDArray[Any]:
    return a + t * (b - a)


def _take(image: NDArray[Any], x: IntArray, y: IntArray, border: Border) -> NDArray[Any]:
    """Pixels of ``image`` at whole coordinates, with the border rule applied."""
    height, width = image.shape[:2]
    index = _into_range(y, height, border) * width + _into_range(x, width, border)
    taken = image.reshape(height * width, -1).take(index, axis=0)
    taken = taken.reshape(*index.shape, *image.shape[2:])
    if border == "zero":
        taken[(x < 0) | (x >= width) | (y < 0) | (y >= height)] = 0
    return taken


def _into_range(index: IntArray, size: int, border: Border) -> IntArray:
    if border == "reflect" and size > 1:
        index = np.abs((index + size - 1) % (2 * size - 2) - (size - 1))
    return np.clip(index, 0, size - 1)


def _take_latent(z: torch.Tensor, x: torch.Tensor, y: torch.Tensor, border: Border) -> torch.Tensor:
    height, width = z.shape[-2:]
    index = _into_range_torch(y, height, border) * width + _into_range_torch(x, width, border)
    taken = z.flatten(2).index_select(2, index.flatten()).unflatten(2, tuple(index.shape))
    if border == "zero":
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        taken = taken * inside.to(taken.dtype)
    return taken


def _into_range_torch(index: torch.Tensor, size: int, border: Border) -> torch.Tensor:
    if border == "reflect" and size > 1:
        index = ((index + size - 1) % (2 * size - 2) - (size - 1)).abs()
    return index.clamp(0, size - 1)
