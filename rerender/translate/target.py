"""The picture that pixel-aware fusion pulls to, and its latent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from rerender.diffusion.fidelity import Vae, fidelity_encode
from rerender.settings import Settings
from rerender.translate.frames import Cost, Link, to_image, to_picture


class CountedVae:
    """An autoencoder that notes how often it is used."""

    def __init__(self, vae: Vae, cost: Cost) -> None:
        self.vae, self.cost = vae, cost

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """As the host's."""
        self.cost.encode += 1
        return self.vae.encode(image)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """As the host's."""
        self.cost.decode += 1
        return self.vae.decode(latent)


class FusionTarget:
    """Direct result, overlaid with the warped previous and then the warped anchor where they are visible.

    Called with the estimate x̂0 at the first masked step, gives the latent of that picture.

    Args:
        links: references, the one that lies on top last.
        direct: estimate x̂0 → direct result, (1, 3, H, W) in [-1, 1].

    Attributes:
        picture: the target, uint8 RGB (H, W, 3), once it was made.
    """

    def __init__(
        self, links: list[Link], direct: Callable[[torch.Tensor], torch.Tensor], vae: Vae, settings: Settings
    ) -> None:
        self.links, self.direct, self.vae, self.settings = links, direct, vae, settings
        self.picture: np.ndarray | None = None

    def __call__(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 and the result: (1, 4, h, w)."""
        image = overlay(self.direct(x0), self.links)
        self.picture = to_picture(image)
        if not self.settings.fidelity_encoding:
            return self.vae.encode(image)
        return fidelity_encode(image, self.vae, verify=self.settings.fidelity_check)


def overlay(direct: torch.Tensor, links: list[Link]) -> torch.Tensor:
    """Lay the warped reference pictures over `direct` (1, 3, H, W) where they are visible, in order."""
    image = direct.float()
    for link in links:
        hidden = torch.from_numpy(link.correspondence.occlusion).to(image)
        image = torch.lerp(to_image(link.warped_picture()).to(image), image, hidden)
    return image
