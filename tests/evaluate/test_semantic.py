"""The network, where it is installed: it knows pictures, and its absence is no error."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from rerender.evaluate import semantic
from rerender.evaluate.semantic import load_semantic, similarity


def test_without_the_wheels_there_is_no_network(monkeypatch):
    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(semantic.importlib, "import_module", missing)
    assert load_semantic.__wrapped__() is None


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite_pytorch")
    return load_semantic()


def test_the_weights_are_those_of_imagenet(network):
    """A cat is classified as a cat (281 to 285), an espresso as one (967): the input is scaled as it should be."""
    import torch

    answers = []
    for picture in (skimage.data.chelsea(), skimage.data.coffee()):
        small = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA)
        pixels = (torch.from_numpy(small).permute(2, 0, 1)[None].float() - 127) / 128
        with torch.inference_mode():
            answers.append(int(network.network(pixels).argmax()))
    assert answers[0] in range(281, 286)
    assert answers[1] == 967


def test_the_same_thing_is_more_alike_than_another(network):
    cat, cup = skimage.data.chelsea(), skimage.data.coffee()
    features = {"cat": network(cat), "paler cat": network((cat // 2 + 90).astype(np.uint8)), "cup": network(cup)}
    assert np.linalg.norm(features["cat"]) == pytest.approx(1)
    assert similarity(features["cat"], features["cat"]) == pytest.approx(1)
    assert similarity(features["cat"], features["paler cat"]) > 0.6
    assert similarity(features["cat"], features["cup"]) < 0.4
