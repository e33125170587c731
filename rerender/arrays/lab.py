"""sRGB to CIE Lab and back in torch, with the matrix and the white (D65) of OpenCV, without its table.

OpenCV's way to Lab interpolates in a table of 33 steps and is off by up to 0.45; the way back is exact.
"""

from __future__ import annotations

import numpy as np
import torch

from rerender.arrays.operations import Operations

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)
_KNEE, _SLOPE, _OFFSET = 0.008856, 7.787, 16 / 116  # below the knee, the cube root becomes a line


def to_lab(xp: Operations, picture: torch.Tensor) -> torch.Tensor:
    """Lab (L 0–100) of a uint8 sRGB picture, (H, W, 3) float32."""
    encoded = picture.float() / 255
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = _turn(linear, xp.constant(_matrix))
    fx, fy, fz = torch.where(xyz > _KNEE, xyz.clamp(min=_KNEE) ** (1 / 3), _SLOPE * xyz + _OFFSET).unbind(-1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], -1)


def from_lab(xp: Operations, lab: torch.Tensor) -> torch.Tensor:
    """Return the uint8 sRGB picture of Lab colours, (H, W, 3), clipped to what sRGB has."""
    light, a, b = lab.unbind(-1)
    fy = (light + 16) / 116
    scaled = torch.stack([fy + a / 500, fy, fy - b / 200], -1)
    xyz = torch.where(scaled > _SLOPE * _KNEE + _OFFSET, scaled**3, (scaled - _OFFSET) / _SLOPE)
    linear = _turn(xyz, xp.constant(_inverse)).clamp(0, 1)
    encoded = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().clamp(0, 255).to(torch.uint8)


def _turn(colours: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """matrix · colour, by sums: a matrix product might round its factors."""
    return (colours[..., None, :] * matrix).sum(-1)


def _matrix() -> np.ndarray:
    return (np.array(_TO_XYZ) / np.array(_WHITE)[:, None]).astype(np.float32)


def _inverse() -> np.ndarray:
    return np.linalg.inv(np.array(_TO_XYZ) / np.array(_WHITE)[:, None]).astype(np.float32)
