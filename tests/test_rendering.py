"""What of the settings reaches which constraint of a key frame, and which reference each of them is given."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from rerender.diffusion.bank import FeatureSlot
from rerender.diffusion.freeu import FreeU
from rerender.diffusion.window import Window
from rerender.evaluate.scenes import scene
from rerender.motion.flow import FloatArray
from rerender.motion.occlusion import Correspondence, latent_mask
from rerender.motion.warp import warp, warp_latent
from rerender.settings import make_settings
from rerender.translate import rendering
from rerender.translate.frames import Link, Reference, joint_cells, joint_mask, to_picture
from rerender.translate.translator import request_for
from tests.test_translate import TruthFlow, make, render

SETTINGS: dict[str, Any] = {
    "attention_start": 0.2,
    "attention_end": 0.9,
    "attention_layers": "loose",
    "attention_own_tokens": True,
    "attention_tokens": "checkerboard",
    "shape_start": 0.1,
    "shape_end": 0.3,
    "pixel_start": 0.4,
    "pixel_end": 0.7,
    "pixel_strength": 0.6,
    "pixel_inner_strength": 0.8,
    "pixel_smooth_edges": False,
    "color_start": 0.7,
    "color_end": 0.95,
    "period_unit": "noise",
    "freeu": True,
    "freeu_b1": 1.1,
    "freeu_b2": 1.2,
    "freeu_s1": 0.3,
    "freeu_s2": 0.4,
    "color_match": True,
}
"""Another value than the default for each, and no value twice in a constraint."""


@pytest.fixture(scope="module")
def clip():
    return scene("translation", seed=3, size=(48, 64), frames=12)


@pytest.fixture(scope="module")
def truth(clip):
    return TruthFlow(clip)


class Watch:
    """Notes the arguments, by name, that something of `rerender.translate.rendering` is called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any = None) -> None:
        original = getattr(rendering, name)
        signature, self.calls = inspect.signature(original), []

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(signature.bind(*args, **kwargs).arguments)
            return (replacement or original)(*args, **kwargs)

        monkeypatch.setattr(rendering, name, call)

    @property
    def last(self) -> dict[str, Any]:
        return self.calls[-1]


def third_key(clip, truth, **values):
    """The translator just before the third key frame, and previous and anchor as that frame will see them."""
    translator = make(truth, **values)
    render(translator, clip, [0, 4])
    for frame in range(5, 9):
        translator.follow(frame, clip.frames[frame])
    return translator, *translator._links(*translator._references())


def test_each_setting_reaches_its_constraint(clip, truth, monkeypatch):
    """With the period, strength and switch that bear its name, and the reference that the method names."""
    names = ("ShapeFusion", "PixelFusion", "ColorAdaIN", "decoder_layers")
    watched = {name: Watch(monkeypatch, name) for name in names}
    attention = Watch(monkeypatch, "cross_frame_attention")
    Watch(monkeypatch, "joint_mask", lambda links: torch.full((6, 8), 0.25))
    free_u = Watch(monkeypatch, "free_u", lambda *_: nullcontext())  # the toy's decoder has no stages
    translator, previous, anchor = third_key(clip, truth, **SETTINGS)
    slots = [anchor.reference.features, previous.reference.features]
    translator.render_next(8, clip.frames[8])

    shape, pixel, color = (watched[name].last for name in names[:3])
    windows = [each["window"] for each in (shape, pixel, color)]
    assert windows == [Window(*period, "noise") for period in ((0.1, 0.3), (0.4, 0.7), (0.7, 0.95))]
    assert [pixel[name] for name in ("strength", "inner", "smooth_edges", "seed")] == [
        0.6,
        0.8,
        False,
        translator.settings.seed,
    ]

    assert torch.equal(pixel["mask"], torch.full((6, 8), 0.25))

    sampling = attention.last["sampling"]
    inside = Window(0.2, 0.9, "noise").steps(sampling)
    assert attention.last["steps"] == inside != frozenset(range(sampling.steps))
    assert attention.last["references"] == slots
    switches = ("own_tokens", "checkerboard", "record_all")
    assert [attention.last[name] for name in switches] == [True, True, False]
    assert watched["decoder_layers"].last["which"] == "loose"
    assert free_u.last["factors"] == FreeU(b1=1.1, b2=1.2, s1=0.3, s2=0.4)


def test_each_constraint_looks_at_its_own_reference(clip, truth, monkeypatch):
    """Shape: the anchor where that shows it. Pixels: what either shows. Colours of the picture: the anchor's."""
    shape, pixel = Watch(monkeypatch, "ShapeFusion"), Watch(monkeypatch, "PixelFusion")
    matched = Watch(monkeypatch, "match_histograms", lambda picture, *_: picture)
    translator, previous, anchor = third_key(clip, truth, color_match=True)
    style = np.zeros(clip.frames[0].shape[:2], np.float32)
    style[8:40, 8:56] = 1
    translator.render_next(8, clip.frames[8], mask=style)

    flow = anchor.correspondence.latent_flow
    for call, x0 in anchor.reference.estimates.items():
        assert torch.equal(shape.last["warped"][call], warp_latent(x0, flow, "nearest"))
    assert np.array_equal(shape.last["mask"], anchor.correspondence.latent_mask)

    hidden = np.minimum(previous.correspondence.occlusion, anchor.correspondence.occlusion)
    assert np.array_equal(pixel.last["mask"], latent_mask(hidden))
    assert (latent_mask(hidden) > anchor.correspondence.latent_mask).any()

    warped = warp(anchor.reference.picture, anchor.correspondence.flow)
    assert np.array_equal(matched.last["reference"], warped)
    assert np.array_equal(matched.last["weight"], 1 - anchor.correspondence.occlusion)
    assert matched.last["style"] is style


def test_each_reference_lends_its_detail_once_the_anchor_on_top(clip, truth, monkeypatch):
    detail = Watch(monkeypatch, "fuse_detail")
    render(make(truth), clip, [0, 4, 8])
    assert [[link.reference.index for link in each["links"]] for each in detail.calls] == [[0], [4, 0]]


def test_the_anchor_lies_on_top_of_the_previous_key_frame_in_the_target(clip, truth):
    translator, previous, anchor = third_key(clip, truth)
    target = translator.render_next(8, clip.frames[8]).target.astype(int)
    seen = [link.correspondence.occlusion == 0 for link in (previous, anchor)]
    of_previous, of_anchor = (warp(link.reference.picture, link.correspondence.flow) for link in (previous, anchor))
    only_previous = seen[0] & (anchor.correspondence.occlusion == 1)
    assert only_previous.any()
    assert np.abs(target - of_previous)[only_previous].max() <= 1
    assert np.abs(target - of_anchor)[seen[1]].max() <= 1
    assert np.abs(target - of_previous)[seen[0] & seen[1]].max() > 1


def test_the_colour_statistics_count_the_inside_of_a_mask_alone(clip, truth, monkeypatch):
    color = Watch(monkeypatch, "ColorAdaIN")
    translator, previous, anchor = third_key(clip, truth)
    style = np.zeros(clip.frames[0].shape[:2], np.float32)
    style[8:40, 12:56] = 1
    translator.render_next(8, clip.frames[8], mask=style)
    weight = np.maximum(previous.correspondence.latent_mask, anchor.correspondence.latent_mask)
    cells = np.zeros_like(weight)
    cells[1:5, 1:7] = 1  # a cell of which a part is inside counts
    assert np.array_equal(color.last["mask"], weight)
    assert np.array_equal(color.last["style"], cells)


def test_only_what_is_inside_the_mask_decides_about_a_new_anchor(clip, truth):
    """The background is the source's: however much of it comes into sight, the anchor serves what is rendered."""
    _, _, anchor = third_key(clip, truth)
    hidden = anchor.correspondence.occlusion
    for style, share in ((hidden == 0, 1.0), (hidden == 1, 0.0), (hidden < 0, 1.0)):
        translator, *_ = third_key(clip, truth, reanchor_below=0.3)
        key = translator.render_next(8, clip.frames[8], mask=style.astype(np.float32))
        assert key.visible["anchor"] == pytest.approx(share, abs=1e-6)
        assert key.is_anchor == (share < 0.3)


def test_the_mask_holds_after_all_constraints_and_before_the_estimates_are_kept(clip, truth):
    """What later key frames take as this one's estimates shows the source outside, as the picture does."""
    style = np.zeros(clip.frames[0].shape[:2], np.float32)
    style[8:40, 8:40] = 1
    translator = make(truth)
    render(translator, clip, [0, 4], mask=style)
    host = translator.host
    source = host.encode(torch.from_numpy(clip.frames[4]).permute(2, 0, 1)[None].float() / 127.5 - 1)
    for x0 in translator._previous.estimates.values():
        torch.testing.assert_close(x0[..., 6:], source[..., 6:], atol=1e-5, rtol=0)


def test_a_cell_counts_for_pixels_by_what_either_shows_and_for_colours_as_far_as_one_shows_it_whole():
    """Each reference shows another half of the cell: the target is whole there, but no single estimate is."""
    links = []
    for half in (slice(0, 4), slice(4, 8)):
        occlusion = np.zeros((8, 16), np.float32)
        occlusion[:, half] = 1
        blank = np.zeros((8, 16, 2), np.float32)
        found = Correspondence(blank, occlusion, occlusion > 0, blank[::8, ::8], latent_mask(occlusion))
        links.append(Link(Reference(0, blank, blank, {}, FeatureSlot(torch.device("cpu"))), found))
    assert joint_mask(links).tolist() == [[1, 1]]
    assert joint_cells(links).tolist() == [[0, 1]]


def test_a_picture_of_a_tensor_is_rounded():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for off in (-0.4, 0.4):
        image = torch.from_numpy((levels + off) / 127.5 - 1).permute(2, 0, 1)[None]
        assert np.array_equal(to_picture(image), levels)


def test_a_request_is_made_of_the_settings(clip):
    values = {
        "prompt": "ink",
        "negative_prompt": "blur",
        "sampler": "LMS",
        "scheduler": "Karras",
        "steps": 7,
        "cfg_scale": 3.5,
        "denoising_strength": 0.4,
        "seed": 11,
        "seed_mode": "per_frame",
        "clip_skip": 2,
    }
    request = request_for(make_settings(values), 5, clip.frames[5], seed_offset=2)
    assert request.picture is clip.frames[5]
    assert {name: getattr(request, name) for name in values if name != "seed_mode"} == {
        **{name: value for name, value in values.items() if name != "seed_mode"},
        "seed": 11 + 5 + 2,
    }


class Gone:
    """Flow to far outside: no frame shows anything of another."""

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> FloatArray:
        return np.full((*reference.shape[:2], 2), 1000, np.float32)


@pytest.mark.parametrize(("reanchor_below", "expected"), [(0.0, [True, False, False]), (0.01, [True, True, True])])
def test_a_threshold_of_zero_keeps_the_first_anchor_even_where_nothing_of_it_is_left(clip, reanchor_below, expected):
    keys = render(make(Gone(), reanchor_below=reanchor_below), clip, [0, 3, 6])
    assert [key.is_anchor for key in keys] == expected
    assert all(key.visible["anchor"] == 0 for key in keys[1:])
