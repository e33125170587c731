"""The key frame loop on a toy model, with exact flow."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rerender.diffusion.color import ColorAdaIN
from rerender.errors import Interrupted, RerenderError, UserError
from rerender.evaluate.scenes import scene
from rerender.motion.warp import warp
from rerender.settings import make_settings
from rerender.translate import Translator
from rerender.translate import rendering as rendering_module
from rerender.translate.timeline import parse_timeline
from rerender.translate.translator import request_for
from tests.diffusion.toys import SAMPLERS, ToyHost

ALL_OFF = {
    "attention": False,
    "shape_fusion": False,
    "pixel_fusion": False,
    "color_adain": False,
    "detail_fusion": False,
}


class TruthFlow:
    """Exact flow between frames of a scene, which it knows by their bytes."""

    def __init__(self, clip):
        self.clip = clip
        self.numbers = {frame.tobytes(): i for i, frame in enumerate(clip.frames)}

    def __call__(self, reference, target):
        return self.clip.flow_between(self.numbers[reference.tobytes()], self.numbers[target.tobytes()])


@pytest.fixture(scope="module")
def clip():
    return scene("translation", seed=3, size=(48, 64), frames=12)


@pytest.fixture(scope="module")
def truth(clip):
    return TruthFlow(clip)


def make(truth, host=None, **values):
    values = {"sampler": "dpmpp_2m", "steps": 8, "seed": 5, "reanchor_below": 0.0, **values}
    return Translator(host or ToyHost(), make_settings(values), truth)


def render(translator, clip, frames, **options):
    """Render key frames, with all frames on the way shown to the translator."""
    keys = []
    for frame in frames:
        reached = translator.reached
        for passed in range(frame if reached is None else reached + 1, frame):
            translator.follow(passed, clip.frames[passed])
        step = translator.render_first if reached is None else translator.render_next
        keys.append(step(frame, clip.frames[frame], **options))
    return keys


def plain(clip, frame, **values):
    return render(make(None, **{**ALL_OFF, **values}), clip, [frame])[0].picture


def same(keys, others):
    return [np.array_equal(a.picture, b.picture) for a, b in zip(keys, others, strict=True)]


# What a run gives


def test_first_key_frame_is_plain_img2img(clip, truth):
    assert np.array_equal(render(make(truth), clip, [2])[0].picture, plain(clip, 2))


def test_all_switched_off_is_plain_img2img(clip, truth):
    keys = render(make(truth, **ALL_OFF), clip, [0, 3, 6])
    assert all(np.array_equal(key.picture, plain(clip, key.index)) for key in keys)


@pytest.mark.parametrize("switch", list(ALL_OFF))
def test_each_constraint_has_an_effect_of_its_own(clip, truth, switch):
    keys = render(make(truth, **{**ALL_OFF, switch: True}), clip, [0, 3, 6])
    assert [np.array_equal(key.picture, plain(clip, key.index)) for key in keys] == [True, False, False]


def test_same_settings_same_bytes(clip, truth):
    assert all(same(render(make(truth), clip, [0, 3, 6]), render(make(truth), clip, [0, 3, 6])))


def test_seed_modes(clip, truth):
    fixed = render(make(truth, **ALL_OFF), clip, [0, 3])
    varied = render(make(truth, **ALL_OFF, seed_mode="per_frame"), clip, [0, 3])
    assert same(fixed, varied) == [True, False]
    assert np.array_equal(varied[1].picture, plain(clip, 3, seed=8))


def test_seed_offset_gives_another_picture(clip, truth):
    one = render(make(truth), clip, [0])[0].picture
    other = render(make(truth), clip, [0], seed_offset=1)[0].picture
    assert not np.array_equal(one, other)
    assert np.array_equal(other, plain(clip, 0, seed=6))


# Every sampler, every number of steps


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("passes", ["one_pass", "shared"])
def test_every_sampler(clip, truth, sampler, passes):
    keys = render(make(truth, sampler=sampler, passes=passes), clip, [0, 5, 10])
    assert not np.array_equal(keys[1].picture, plain(clip, 5, sampler=sampler))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 30, 60, 80, 150])
@pytest.mark.parametrize("strength", [0.01, 0.75, 1.0])
def test_every_number_of_steps(clip, truth, steps, strength):
    """Mistake 4 of the reference: 30, 60 and 80 steps crash."""
    translator = make(truth, sampler="euler", steps=steps, denoising_strength=strength)
    keys = render(translator, clip, [0, 5])
    assert keys[1].model_calls == int(min(strength, 0.999) * steps) + 1


@pytest.mark.parametrize("unit", ["steps", "noise"])
def test_shape_fusion_works_below_full_strength(clip, truth, unit):
    """Mistake 1: at strength 0.5 the period 0-0.1 must still have an effect."""
    options = {**ALL_OFF, "shape_fusion": True, "denoising_strength": 0.5, "steps": 20, "period_unit": unit}
    key = render(make(truth, **options), clip, [0, 5])[1]
    assert not np.array_equal(key.picture, plain(clip, 5, denoising_strength=0.5, steps=20))


def test_skipped_steps_are_not_computed(clip, truth):
    """Mistake 2: 20 steps at strength 0.5 are 11 steps that run."""
    host = ToyHost()
    render(make(truth, host, steps=20, denoising_strength=0.5), clip, [0])
    assert len(host.unet.batches) == 11


# Passes


@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_sde", "dpmpp_2m_sde", "ddim"]
)
@pytest.mark.parametrize("split", [(2,), (1, 1)])
def test_shared_passes_give_what_two_full_passes_give(clip, truth, sampler, split):
    """Variant A: the same bytes, for fewer U-Net calls."""
    results = {}
    for passes in ("shared", "two_pass"):
        host = ToyHost(split)
        keys = render(make(truth, host, sampler=sampler, passes=passes), clip, [0, 4, 8])
        results[passes] = keys, len(host.unet.batches)
    assert all(same(results["shared"][0], results["two_pass"][0]))
    assert results["shared"][1] < results["two_pass"][1]


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shared_passes_of_few_steps(clip, truth, sampler, steps):
    """Where a single step runs, both passes have all their model calls in common."""
    values = {"steps": steps, "denoising_strength": 0.4, "sampler": sampler}
    both = [render(make(truth, passes=passes, **values), clip, [0, 4, 8]) for passes in ("shared", "two_pass")]
    assert all(same(*both))


@pytest.mark.parametrize("passes", ["one_pass", "shared", "two_pass"])
def test_an_empty_period_of_pixel_fusion_is_pixel_fusion_switched_off(clip, truth, passes):
    """Not even a second pass is made for it."""
    empty = render(make(truth, passes=passes, pixel_start=0.5, pixel_end=0.5), clip, [0, 4])
    off = render(make(truth, pixel_fusion=False), clip, [0, 4])
    assert all(same(empty, off))
    assert [key.cost.unet for key in empty] == [key.cost.unet for key in off]


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_shared_passes_from_any_start(clip, truth, start):
    both = [render(make(truth, passes=passes, pixel_start=start), clip, [0, 4, 8]) for passes in ("shared", "two_pass")]
    assert all(same(*both))


@pytest.mark.parametrize(
    ("passes", "unet", "encode", "decode"),
    [("one_pass", 15, 3, 3), ("shared", 22, 4, 3), ("two_pass", 30, 4, 3)],
)
def test_cost_by_count(clip, truth, passes, unet, encode, decode):
    """Mistake 3. 20 steps at strength 0.74: 15 run; the first masked one is step 8 of 15 (0.5 · 15 = 7.5)."""
    host = ToyHost()
    translator = make(truth, host, passes=passes, steps=20, denoising_strength=0.74)
    render(translator, clip, [0])
    before = len(host.unet.batches), host.encoded, host.decoded
    key = translator.render_next(4, clip.frames[4])
    after = len(host.unet.batches), host.encoded, host.decoded
    assert tuple(b - a for a, b in zip(before, after, strict=True)) == (unet, encode, decode)
    assert (key.cost.unet, key.cost.encode, key.cost.decode) == (unet, encode, decode)


@pytest.mark.parametrize(
    ("options", "encode", "decode"),
    [({"fidelity_check": True}, 3, 4), ({"fidelity_encoding": False}, 2, 2), ({"pixel_fusion": False}, 1, 1)],
)
def test_uses_of_the_autoencoder(clip, truth, options, encode, decode):
    key = render(make(truth, **options), clip, [0, 4])[1]
    assert (key.cost.encode, key.cost.decode) == (encode, decode)


def test_target_shows_the_references_where_they_are_visible(clip, truth):
    translator = make(truth)
    first = translator.render_first(0, clip.frames[0])
    key = translator.render_next(4, clip.frames[4])
    visible = key.hidden < 0.01
    assert 0.3 < visible.mean() < 1
    warped = warp(first.picture, clip.flow_between(4, 0))
    assert np.abs(key.target.astype(int) - warped)[visible].max() <= 1


# References


def test_previous_advances_without_pixel_fusion(clip, truth):
    """Mistake 11: the third key frame must depend on the second."""
    settings = {**ALL_OFF, "attention": True, "attention_references": "previous"}
    through = render(make(truth, **settings), clip, [0, 4, 8])[-1]
    directly = render(make(truth, **settings), clip, [0, 8])[-1]
    assert not np.array_equal(through.picture, directly.picture)


@pytest.mark.parametrize(("references", "slots"), [("both", 2), ("anchor", 1), ("previous", 2)])
def test_bank_holds_what_is_referred_to(clip, truth, references, slots):
    translator = make(truth, attention_references=references, attention_tokens="all")
    render(translator, clip, [0])
    one = translator.feature_bytes
    sizes = []
    for frame in (2, 4, 6, 8):
        translator.render_next(frame, clip.frames[frame])
        sizes.append(translator.feature_bytes)
    assert one > 0
    assert set(sizes) == {slots * one}


def test_reference_to_the_anchor_ignores_the_chain(clip, truth):
    settings = {**ALL_OFF, "attention": True, "attention_references": "anchor"}
    through = render(make(truth, **settings), clip, [0, 4, 8])[-1]
    directly = render(make(truth, **settings), clip, [0, 8])[-1]
    assert np.array_equal(through.picture, directly.picture)


def test_features_are_renewed_every_n_key_frames(clip, truth):
    """Mistake 5: N counts key frames, whatever their frame numbers."""
    translator = make(truth, attention_update_every=2)
    held = []
    for frame in (0, 3, 5, 6, 10):
        render(translator, clip, [frame])
        held.append({key: t.clone() for key, t in translator._previous.features.state_dict().items()})
    renewed = [any(not torch.equal(a[key], b[key]) for key in a) for a, b in itertools.pairwise(held)]
    assert renewed == [False, True, False, True]


@pytest.mark.parametrize("references", ["both", "anchor", "previous"])
def test_a_checkerboard_is_for_two_references(clip, truth, references):
    """The key frame after the anchor has one reference, which gives all; so have all of them with other settings."""
    settings = {**ALL_OFF, "attention": True, "attention_references": references}
    found = []
    for tokens in ("all", "checkerboard"):
        translator = make(truth, **settings, attention_tokens=tokens)
        estimates = [(render(translator, clip, [frame]), translator._previous.estimates)[1] for frame in (0, 4, 8)]
        found.append([torch.cat([*each.values()]) for each in estimates])
    assert [torch.equal(a, b) for a, b in zip(*found, strict=True)] == [True, True, references != "both"]


def test_an_anchor_is_kept_whole_for_the_key_frame_after_it(clip, truth):
    """So what is stored of it fits whichever tokens are wanted when the run goes on."""
    options = {"reanchor_below": 0.85, "steps": 4}
    whole, board = (make(truth, **options, attention_tokens=tokens) for tokens in ("all", "checkerboard"))
    for translator in (whole, board):
        render(translator, clip, [0, 4])
        translator.restore(*translator.anchor_state())
    shapes = [{key: t.shape for key, t in translator.anchor_state()[0].items()} for translator in (whole, board)]
    assert shapes[0] == shapes[1]
    other = make(truth, **options, attention_tokens="checkerboard")
    other.restore(*whole.anchor_state())
    assert all(same(render(other, clip, [4, 8, 10]), render(board, clip, [4, 8, 10])))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_state_of_an_anchor_is_what_the_state_was_when_it_became_one(clip, truth, every):
    """However many key frames have come since, and wherever in the shot it stands."""
    translator = make(truth, reanchor_below=0.85, steps=4, attention_update_every=every)
    keys, states = [], {}
    for frame in range(12):
        keys += render(translator, clip, [frame])
        if keys[-1].is_anchor:
            tensors, meta = translator.state()
            states[frame] = {name: tensor.clone() for name, tensor in tensors.items()}, meta
    last = max(states)
    assert 0 < last < 11
    tensors, meta = translator.anchor_state()
    assert meta == states[last][1]
    assert meta["keys"] == meta["keys_at_anchor"] == last + 1
    assert tensors.keys() == states[last][0].keys()
    assert all(torch.equal(tensor, states[last][0][name]) for name, tensor in tensors.items())


def test_new_shot_forgets_everything(clip, truth):
    translator = make(truth)
    render(translator, clip, [0, 4])
    translator.new_shot()
    assert translator.feature_bytes == 0
    key = translator.render_first(8, clip.frames[8])
    assert np.array_equal(key.picture, plain(clip, 8))
    with pytest.raises(RerenderError, match="render_first"):
        make(truth).render_next(0, clip.frames[0])


def test_close_frees_the_bank(clip, truth):
    with make(truth) as translator:
        render(translator, clip, [0, 4])
        assert translator.feature_bytes > 0
    assert translator.feature_bytes == 0


def test_re_anchors_when_the_anchor_is_out_of_sight(clip, truth):
    """Mistake 13: the anchor changes once too little of it is visible, and only then."""
    keys = render(make(truth, reanchor_below=0.85), clip, range(12))
    anchors = [key.index for key in keys if key.is_anchor]
    assert anchors[0] == 0
    assert len(anchors) > 1
    for key in keys[1:]:
        assert key.is_anchor == (key.visible["anchor"] < 0.85)
    after = keys[anchors[1] + 1]
    assert after.visible["anchor"] == after.visible["previous"]


def test_new_anchor_carries_the_colours_over(clip, truth):
    """What follows a re-anchoring is held to estimates that were matched to the first anchor's colours."""
    translator = make(truth, reanchor_below=1.0, **{**ALL_OFF, "color_adain": True})
    render(translator, clip, [0, 2])
    assert translator._anchor.index == 2
    matched = translator._anchor.estimates
    free = make(truth, **ALL_OFF)
    render(free, clip, [2])
    calls = sorted(matched)
    assert torch.equal(matched[calls[0]], free._anchor.estimates[calls[0]])
    assert not torch.equal(matched[calls[-1]], free._anchor.estimates[calls[-1]])


def test_colours_that_only_the_previous_key_frame_shows_count_as_it_shows_them(clip, truth, monkeypatch):
    """Left out of the statistics they would be adjusted anew in every key frame, until they glare."""
    given = []

    class Watched(ColorAdaIN):
        def __init__(self, window, warped, mask, style):
            given.append((warped, mask))
            super().__init__(window, warped, mask, style)

    monkeypatch.setattr(rendering_module, "ColorAdaIN", Watched)
    translator = make(truth, **{**ALL_OFF, "color_adain": True})
    render(translator, clip, [0, 5])
    for passed in range(6, 11):
        translator.follow(passed, clip.frames[passed])
    previous, anchor = translator._links(*translator._references())
    render(translator, clip, [10])
    warped, mask = given[-1]
    torch.testing.assert_close(mask, torch.maximum(previous.mask, anchor.mask))
    only_previous = (anchor.mask == 0) & (previous.mask == 1)
    both = anchor.mask == 1
    assert only_previous.any()
    assert both.any()
    of_previous, of_anchor = previous.warped_estimates, anchor.warped_estimates
    for call, x0 in warped.items():
        assert torch.equal(x0[..., only_previous], of_previous[call][..., only_previous])
        torch.testing.assert_close(x0[..., both], of_anchor[call][..., both])


# Stop and go on


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention_update_every": 2},
        {"attention_references": "anchor"},
        {"attention_tokens": "checkerboard", "reanchor_below": 0.9},
        {"attention_tokens": "all", "reanchor_below": 0.85},
        {"passes": "shared", "sampler": "euler_ancestral"},
    ],
)
@pytest.mark.parametrize("after", [1, 2, 4])
def test_going_on_from_a_stored_state_gives_the_same_bytes(clip, truth, tmp_path, options, after):
    frames = [0, 2, 4, 6, 8, 10]
    whole = render(make(truth, **options), clip, frames)
    first = make(truth, **options)
    render(first, clip, frames[:after])
    tensors, meta = first.state()
    save_file(tensors, tmp_path / "state.safetensors")
    second = make(truth, **options)
    second.restore(load_file(tmp_path / "state.safetensors"), meta)
    rest = render(second, clip, frames[after:])
    assert all(same(whole[after:], rest))


@pytest.mark.parametrize("frame", [0, 4])
def test_restored_pictures_take_the_place_of_stored_ones(clip, truth, frame):
    translator = make(truth)
    render(translator, clip, [0, 4])
    edited = np.zeros_like(clip.frames[0])
    other = make(truth)
    other.restore(*translator.state(), pictures={frame: edited})
    assert np.array_equal((other._previous if frame else other._anchor).picture, edited)
    translator.adopt(frame, edited)
    for each in (translator._anchor, translator._previous):
        assert np.array_equal(each.picture, edited) == (each.index == frame)
    assert all(same(render(translator, clip, [8]), render(other, clip, [8])))


def test_a_state_of_another_version_is_refused(clip, truth):
    translator = make(truth)
    render(translator, clip, [0])
    tensors, meta = translator.state()
    with pytest.raises(RerenderError, match="version"):
        translator.restore(tensors, {**meta, "version": 99})


@pytest.mark.parametrize("passes", ["one_pass", "shared"])
def test_interrupt_leaves_no_hook_and_no_half_done_reference(clip, truth, passes):
    host = ToyHost()
    translator = make(truth, host, passes=passes)
    whole = render(make(truth, passes=passes), clip, [0, 4, 8])
    render(translator, clip, [0, 4])
    tensors, meta = translator.state()
    kept = {key: tensor.clone() for key, tensor in tensors.items()}
    asked = iter([False] * 4)
    with pytest.raises(Interrupted):
        translator.render_next(8, clip.frames[8], cancelled=lambda: next(asked, True))
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in host.unet.modules())
    with pytest.raises(RerenderError, match="broken off"):
        translator.render_next(8, clip.frames[8])
    translator.restore(kept, meta)
    assert same(render(translator, clip, [8]), whole[2:]) == [True]


def test_progress_counts_to_the_end(clip, truth):
    for passes, whole in (("one_pass", 7), ("shared", 14)):
        seen = []
        render(make(truth, passes=passes), clip, [0])
        translator = make(truth, passes=passes)
        render(translator, clip, [0])
        translator.render_next(4, clip.frames[4], on_step=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == [(i + 1, whole) for i in range(whole)]


def test_memory_does_not_grow_with_the_number_of_key_frames(clip, truth):
    translator = make(truth, sampler="euler", steps=3)
    sizes = []
    for number in range(50):
        step = translator.render_next if number else translator.render_first
        step(number, clip.frames[number % 12])
        sizes.append(sum(t.numel() * t.element_size() for t in translator.state()[0].values()))
    assert len(set(sizes[1:])) == 1


@pytest.mark.parametrize("reanchor_below", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("tokens", ["all", "checkerboard"])
@pytest.mark.parametrize("references", ["both", "anchor", "previous"])
def test_bound_of_the_bank_is_what_it_holds(clip, truth, monkeypatch, tokens, references, reanchor_below):
    bounds = []
    original = rendering_module.estimate_bytes
    monkeypatch.setattr(
        rendering_module, "estimate_bytes", lambda *a, **k: bounds.append(original(*a, **k)) or bounds[-1]
    )
    values = {"attention_tokens": tokens, "attention_references": references, "reanchor_below": reanchor_below}
    translator = make(truth, steps=4, **values)
    held = []
    for frame in range(10):
        render(translator, clip, [frame], on_step=lambda *_: held.append(translator.feature_bytes))
        held.append(translator.feature_bytes)
    assert len(bounds) == 1
    assert max(held) <= bounds[0]
    if reanchor_below < 1.0 or references == "anchor":  # else no key frame has a second reference
        assert bounds[0] in held


def test_the_bound_counts_the_rows_that_the_host_announces(clip, truth, monkeypatch):
    translator = make(truth, steps=4)
    host = translator.host
    original = host.render

    def render_three(request, *, attach, **options):
        return original(request, attach=lambda sampling: attach(replace(sampling, rows=3)), **options)

    two = make(truth, steps=4)
    render(two, clip, [0])
    monkeypatch.setattr(host, "render", render_three)
    render(translator, clip, [0])
    assert 2 * translator.bank_size == 3 * two.bank_size > 0


def test_the_bound_counts_the_calls_of_attentions_period_alone(clip, truth):
    translator = make(truth, steps=8, denoising_strength=1.0, attention_end=0.5)
    render(translator, clip, [0, 3])
    assert translator.feature_bytes == translator.bank_size
    whole = make(truth, steps=8, denoising_strength=1.0)
    render(whole, clip, [0])
    assert whole.bank_size == 2 * translator.bank_size


# Prompts and colours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("0: a; 40: b", [(0, "a"), (40, "b")]),
        ("40:b;0:a", [(0, "a"), (40, "b")]),
        ("5: trees; grass; 9: (sky:1.2), 16:9 frame", [(5, "trees; grass"), (9, "(sky:1.2), 16:9 frame")]),
    ],
)
def test_timeline(text, expected):
    assert parse_timeline(text) == expected


@pytest.mark.parametrize("text", ["a meadow", "a; 3: b", "3: a; 3: b"])
def test_a_timeline_that_cannot_be_read_is_refused(truth, text):
    with pytest.raises(UserError, match="prompt_timeline"):
        make(truth, prompt_timeline=text)


def test_prompts_follow_the_timeline(clip):
    settings = make_settings({"prompt": "plain", "prompt_timeline": "3: first; 6: second"})
    prompts = [request_for(settings, frame, clip.frames[0]).prompt for frame in (0, 2, 3, 5, 6, 11)]
    assert prompts == ["plain", "plain", "first", "first", "second", "second"]


def test_colour_match_reaches_the_picture(clip, truth):
    keys = [render(make(truth, color_match=match), clip, [0, 4]) for match in (False, True)]
    assert same(*keys) == [True, False]
