"""What key frame translation takes from earlier key frames, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from rerender.diffusion.bank import FeatureSlot
from rerender.motion.occlusion import Correspondence, latent_mask
from rerender.motion.warp import warp, warp_latent


@dataclass
class Cost:
    """What a key frame cost.

    Attributes:
        unet: model calls in which the U-Net ran, encode, decode: uses of the autoencoder, all with those of the host.
    """

    unet: int = 0
    encode: int = 0
    decode: int = 0
    flow_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass(frozen=True)
class KeyFrame:
    """A rendered key frame.

    Attributes:
        index: frame number in the source.
        picture: uint8 RGB (H, W, 3).
        is_anchor: whether the frames after it refer to it as their anchor.
        references: frame numbers of "previous" and "anchor"; empty for the first of a shot.
        visible: share of this frame, inside its mask, that "anchor" and "previous" show, in [0, 1]; empty for the
            first of a shot.
        target: what pixel-aware fusion pulled to, uint8 RGB; None if it did not run.
        hidden: (H, W) in [0, 1], 1 where no reference shows the frame; None like `target`.
        model_calls: how many a rendering has, however many of them were saved.
    """

    index: int
    picture: np.ndarray
    is_anchor: bool
    references: dict[str, int] = field(default_factory=dict)
    visible: dict[str, float] = field(default_factory=dict)
    target: np.ndarray | None = None
    hidden: np.ndarray | None = None
    model_calls: int = 0
    cost: Cost = field(default_factory=Cost)


@dataclass
class Reference:
    """A key frame that later ones refer to: its source, its 8-bit rendering, its estimates and features.

    Attributes:
        estimates: x̂0 of each step by number of the model call, (1, 4, h, w) float32.
        features: attention inputs; may be those of an older key frame (attention_update_every).
    """

    index: int
    source: np.ndarray
    picture: np.ndarray
    estimates: dict[int, torch.Tensor]
    features: FeatureSlot


@dataclass(frozen=True)
class Link:
    """A reference and how the current frame maps onto it."""

    reference: Reference
    correspondence: Correspondence

    @property
    def mask(self) -> torch.Tensor:
        """Latent visibility M, (h, w) in [0, 1]."""
        return torch.from_numpy(self.correspondence.latent_mask)

    def visible_share(self, style: np.ndarray | None) -> float:
        """Share of the rendered part of the frame that the reference shows, in [0, 1]; 1 where nothing is rendered.

        style: float32 (H, W) in [0, 1], 1 where the picture is rendered; None is everywhere.
        """
        if style is None:
            return self.correspondence.visible_share
        rendered = float(style.sum(dtype=np.float64))
        hidden = float((self.correspondence.occlusion * style).sum(dtype=np.float64))
        return 1.0 - hidden / rendered if rendered > 0 else 1.0

    def warped_picture(self) -> np.ndarray:
        """The reference's rendering carried onto the current frame, float32 (H, W, 3) in [-1, 1]."""
        return warp(to_unit(self.reference.picture), self.correspondence.flow)

    @cached_property
    def warped_estimates(self) -> dict[int, torch.Tensor]:
        """The reference's x̂0 of each model call carried onto the current frame, nearest cell."""
        flow = self.correspondence.latent_flow
        return {call: warp_latent(x0, flow, "nearest") for call, x0 in self.reference.estimates.items()}


def joint_estimates(links: list[Link]) -> dict[int, torch.Tensor]:
    """x̂0 of each model call as the references show it: the last link's where that is visible, else the first's."""
    first, last = links[0].warped_estimates, links[-1].warped_estimates
    return {call: torch.lerp(first[call], x0, links[-1].mask.to(x0)) for call, x0 in last.items()}


def joint_cells(links: list[Link]) -> torch.Tensor:
    """M of `joint_estimates`, (h, w) in [0, 1]: a cell counts as far as one reference shows it as a whole."""
    return torch.maximum(links[0].mask, links[-1].mask)


def hidden_in_all(links: list[Link]) -> np.ndarray:
    """(H, W) in [0, 1]: how far a pixel is hidden in every reference."""
    return np.minimum.reduce([link.correspondence.occlusion for link in links])


def joint_mask(links: list[Link]) -> torch.Tensor:
    """Latent visibility in any reference, (h, w) in [0, 1]."""
    return torch.from_numpy(latent_mask(hidden_in_all(links)))


def to_unit(picture: np.ndarray) -> np.ndarray:
    """uint8 → float32 in [-1, 1]."""
    return picture.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_picture(image: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] → uint8 (H, W, 3), rounded."""
    values = (image[0].float().clamp(-1, 1) + 1.0) * 127.5
    return values.round().permute(1, 2, 0).byte().cpu().numpy()


def to_image(unit: np.ndarray) -> torch.Tensor:
    """float32 (H, W, 3) in [-1, 1] → (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(unit)).permute(2, 0, 1)[None]
