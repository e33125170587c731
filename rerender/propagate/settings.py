"""What can be set about propagation, and the presets that fill in the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rerender.errors import UserError

PresetName = Literal["fast", "default", "quality"]
DeviceName = Literal["auto", "cpu", "cuda"]

PRESETS: tuple[str, ...] = ("fast", "default", "quality")
DEVICES: tuple[str, ...] = ("auto", "cpu", "cuda")
PATCH_SIZES: tuple[int, ...] = (3, 5, 7)


@dataclass(frozen=True)
class PropagationSettings:
    """Settings of one propagation.

    The weights are the reference's, but for the temporal one (0.5 there) and that of the outlines (not there).

    Attributes:
        preset: how much work a synthesis may cost: "fast", "default" or "quality".
        rounds: of passes and a vote at each level of the pyramid; 0 takes the preset's.
        passes: of the search in a round; 0 takes the preset's.
        color_weight, position_weight, edge_weight, outline_weight, temporal_weight: weights of the guides against
            the style's weight of 1; each is divided by its guide's channel count. 0 leaves a guide out; without the
            outlines' guide, outlines also move along the flow of what they lie on.
        uniformity: λ of the occupancy term, which keeps texture from repeating (0 turns it off).
        patch_size: side of a patch in pixels: 3, 5 or 7.
        weighted_vote: weigh the patches of the last vote by their errors instead of equally.
        temporal: start each frame from the previous one (temporal guide and warped NNF).
        follow: take the key's picture itself along the flow where that can be verified (see `follow.py`).
        latch: never let the later key's share of a point fall along the flow.
        contrast: give back the fine detail that sampling, votes and the mix of both directions take (see `detail.py`).
        poisson: solve a screened Poisson equation so that no seam shows between both directions.
        ghost_check: take the better direction, not the mix, where the two disagree strongly.
        seed: seed of the random search; the same seed gives the same bytes on the same backend.
        device: "auto" takes CUDA where it works, "cpu" and "cuda" insist.
        threads: threads of one synthesis on the CPU; 0 takes one for each core. Never changes a byte.
    """

    preset: PresetName = "default"
    rounds: int = 0
    passes: int = 0
    color_weight: float = 6.0
    position_weight: float = 2.0
    edge_weight: float = 0.5
    outline_weight: float = 2.0
    temporal_weight: float = 0.6
    uniformity: float = 3500.0
    patch_size: int = 5
    weighted_vote: bool = True
    temporal: bool = True
    follow: bool = True
    latch: bool = True
    contrast: bool = True
    poisson: bool = True
    ghost_check: bool = True
    seed: int = 0
    device: DeviceName = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        _require(self.preset in PRESETS, "preset", self.preset, f"one of {', '.join(PRESETS)}")
        _require(self.device in DEVICES, "device", self.device, f"one of {', '.join(DEVICES)}")
        _require(self.patch_size in PATCH_SIZES, "patch_size", self.patch_size, "3, 5 or 7")
        for name in ("rounds", "passes"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 (the preset's) or more")
        _require(self.threads >= 0, "threads", self.threads, "0 (one a core) or more")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 2^32 - 1")
        weights = "color_weight", "position_weight", "edge_weight", "outline_weight", "temporal_weight", "uniformity"
        for name in weights:
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise UserError(f"Propagation setting {name} is {value!r}.", hint=f"Allowed: {allowed}.")
