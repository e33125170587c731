"""Key frames on the standalone host where little is left to do, or much comes together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rerender.evaluate.scenes import scene
from rerender.hosts.standalone import StandaloneHost
from tests.test_translate import TruthFlow, make, render, same

FRAMES = [0, 3, 6]
LONG = ", ".join(["a cat"] * 40)
"""More than the 75 tokens of one chunk: conditional and unconditional rows come in U-Net calls of their own."""


@pytest.fixture(scope="module")
def clip():
    return scene("translation", seed=3, size=(48, 64), frames=8)


@pytest.fixture(scope="module")
def truth(clip):
    return TruthFlow(clip)


def style() -> np.ndarray:
    mask = np.zeros((48, 64), np.float32)
    mask[8:40, 8:40] = 1
    return mask


EVERYTHING: dict[str, Any] = {
    "attention_tokens": "checkerboard",
    "attention_own_tokens": True,
    "attention_update_every": 2,
    "color_match": True,
    "fidelity_check": True,
    "freeu": True,
}


@pytest.mark.parametrize(
    ("sampler", "steps", "strength", "calls"),
    [
        ("LCM", 1, 0.5, 1),
        ("LCM", 4, 1.0, 4),
        ("DPM++ 3M SDE", 1, 1.0, 1),
        ("DPM++ 2M SDE Heun", 3, 1.0, 3),
        ("DPM++ 2M", 20, 0.0, 1),
        ("DDIM", 2, 0.5, 0),  # the webui makes no model call here
        ("DDIM", 5, 1.0, 3),
        ("Heun", 2, 1.0, 3),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_few_steps_with_everything_on(host: StandaloneHost, clip, truth, sampler, steps, strength, calls, masked):
    """Both ways of two passes give the same bytes, and one pass the same first key frame."""
    values = {**EVERYTHING, "sampler": sampler, "steps": steps, "denoising_strength": strength}
    mask = style() if masked else None
    made = {
        passes: render(make(truth, host, **values, passes=passes), clip, FRAMES, mask=mask)
        for passes in ("one_pass", "shared", "two_pass")
    }
    assert all(same(made["shared"], made["two_pass"]))
    assert same(made["one_pass"][:1], made["shared"][:1]) == [True]
    assert [key.model_calls for key in made["one_pass"]] == [calls] * 3
    if mask is not None:
        for key in made["one_pass"]:
            assert np.array_equal(key.picture[mask == 0], clip.frames[key.index][mask == 0])


@pytest.mark.parametrize("tokens", ["all", "checkerboard"])
def test_prompts_of_other_lengths_along_the_clip_and_a_stop_between(host: StandaloneHost, clip, truth, tokens):
    """The rows of the references keep their places, in one U-Net call or in two."""
    values = {**EVERYTHING, "attention_tokens": tokens, "sampler": "Euler a", "steps": 3}
    timeline = f"0: a cat; 3: {LONG}; 6: a dog"
    whole = render(make(truth, host, **values, prompt_timeline=timeline), clip, FRAMES)
    first = make(truth, host, **values, prompt_timeline=timeline)
    render(first, clip, FRAMES[:2])
    second = make(truth, host, **values, prompt_timeline=timeline)
    second.restore(*first.state())
    assert same(render(second, clip, FRAMES[2:]), whole[2:]) == [True]
    constant = render(make(truth, host, **values, prompt="a cat"), clip, FRAMES)
    assert same(whole, constant) == [True, False, False]
