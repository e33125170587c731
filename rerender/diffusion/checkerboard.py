"""A checkerboard over the tokens of the finest layers, so that two references have no more of them than one.

Nearly all of the cost of attention lies in the finest layers (one token a latent cell), and there the two references
mostly show the same. So the first gives the tokens of even cells, the second those of odd ones: every place comes from
one of them, and each keeps its share of the weight. Taking one token of every 2×2 from both (Smith et al., "ToDo: Token
Downsampling for Efficient Generation of High-Resolution Images", 2024) is cheaper still, but all of these have the same
phase, and the layer's answer shows it: docs/benchmarks.md, "Fewer keys".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rerender.diffusion.layers import AttentionLayer


def has_checkerboard(layer: AttentionLayer) -> bool:
    """Whether a layer is among the finest: one token a latent cell. SDXL has none of them."""
    return layer.scale == 1


class Checkerboard:
    """Which tokens the references give in which layer.

    Args:
        layers: those in use; coarser ones among them are left alone.
    """

    def __init__(self, layers: Sequence[AttentionLayer]) -> None:
        self._numbers = frozenset(layer.number for layer in layers if has_checkerboard(layer))
        self._cells: dict[tuple[int, int, int, torch.device], torch.Tensor] = {}

    def choose(
        self, layer: int, tokens: int, size: tuple[int, int], parity: int, device: torch.device
    ) -> torch.Tensor | None:
        """Numbers of the tokens to take, ascending; None is all of them.

        Args:
            layer: number of the layer.
            tokens: how many there are. Where they are not one a cell (already a half, or merged by another
                extension), all are taken.
            size: (height, width) of the latent.
            parity: 0 for cells whose row + column is even, 1 for odd.
        """
        height, width = size
        if layer not in self._numbers or tokens != height * width:
            return None
        key = (height, width, parity, device)
        if key not in self._cells:
            self._cells[key] = cells(height, width, parity).to(device)
        return self._cells[key]


def cells(height: int, width: int, parity: int) -> torch.Tensor:
    """Numbers, row by row, of the cells whose row + column is even (parity 0) or odd (1), ascending; int64."""
    sums = torch.arange(height)[:, None] + torch.arange(width)
    return (sums.flatten() % 2 == parity).nonzero().flatten()
