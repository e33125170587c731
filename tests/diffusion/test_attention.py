from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
import torch
from torch.nn.functional import softmax

from rerender.diffusion.attention import base_context, cross_frame_attention, with_context
from rerender.diffusion.bank import FeatureSlot
from rerender.diffusion.layers import decoder_layers, is_attention
from rerender.errors import RerenderError, UserError
from rerender.hosts.standalone.ldm_import import load_ldm
from tests.diffusion.toys import Block, ToyDenoiser, ToyUNet, make_sampling, sampling_plan

SHAPE = (1, 4, 4, 6)
CPU = torch.device("cpu")


def picture(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def denoise_all(denoiser, sampling, latent):
    """One denoiser call after the other on a fixed latent: call i at its own level."""
    return [denoiser(latent.clone(), torch.full((1,), call.sigma)) for call in sampling.calls]


def setup(steps=3, split=(2,), unet=None, name="euler"):
    unet = unet or ToyUNet()
    calls = sampling_plan(name, steps)[3]
    denoiser = ToyDenoiser(unet, split=split)
    return denoiser, make_sampling(name, denoiser, calls, unet), decoder_layers(unet)


def recorded(latent, **options):
    denoiser, sampling, layers = setup(**options)
    slot = FeatureSlot(CPU)
    with cross_frame_attention(sampling, layers, record=slot, steps=frozenset(range(sampling.steps))):
        outputs = denoise_all(denoiser, sampling, latent)
    return slot, outputs


def plain_attention(attn, x, context):
    """softmax(Q K^T / sqrt(d)) V by head, written out (Vaswani et al. 2017)."""
    d = attn.to_q.out_features // attn.heads
    q, k, v = attn.to_q(x), attn.to_k(context), attn.to_v(context)
    heads = [
        softmax(q[..., i : i + d] @ k[..., i : i + d].transpose(1, 2) / d**0.5, -1) @ v[..., i : i + d]
        for i in range(0, q.shape[-1], d)
    ]
    return attn.to_out(torch.cat(heads, -1))


def test_recording_changes_nothing():
    denoiser, sampling, _ = setup()
    plain = denoise_all(denoiser, sampling, picture(1))
    _, outputs = recorded(picture(1))
    assert all(map(torch.equal, plain, outputs))


def test_bank_holds_each_call_layer_and_row_once():
    slot, _ = recorded(picture(1))
    assert sorted(slot.state_dict()) == sorted(
        f"{call}.{layer}.{row}" for call, layer, row in itertools.product(range(3), range(2), range(2))
    )


def test_bank_contents_are_the_attention_inputs():
    """Against the inputs that a hook of its own sees, in half precision."""
    denoiser, sampling, layers = setup()
    seen = []
    handles = [
        layer.module.register_forward_pre_hook(lambda m, a, n=layer.number: seen.append((n, a[0]))) for layer in layers
    ]
    denoise_all(denoiser, sampling, picture(1))
    for handle in handles:
        handle.remove()
    held = recorded(picture(1))[0].state_dict()
    for position, (layer, tokens) in enumerate(seen):
        for row in range(2):
            stored = held[f"{position // 2}.{layer}.{row}"]
            assert stored.dtype == torch.float16
            assert torch.equal(stored, tokens[row].half())


def test_own_features_as_context_change_nothing():
    """Keys and values from the very same frame: only the half precision of the bank may show."""
    slot, plain = recorded(picture(1))
    denoiser, sampling, layers = setup()
    with cross_frame_attention(sampling, layers, references=[slot], steps=frozenset(range(3))):
        outputs = denoise_all(denoiser, sampling, picture(1))
    for before, after in zip(plain, outputs, strict=True):
        torch.testing.assert_close(before, after, atol=5e-3, rtol=0)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_output_is_attention_to_the_references(own, count):
    """The module's output equals the written-out formula with K, V from the references (and its own tokens)."""
    slots = [recorded(picture(seed))[0] for seed in range(count)]
    denoiser, sampling, layers = setup()
    checked = 0

    def check(module, args, kwargs, output):
        nonlocal checked
        call, layer = divmod(checked, 2)
        parts = [torch.stack([s.state_dict()[f"{call}.{layer}.{row}"] for row in range(2)]).float() for s in slots]
        context = torch.cat([*parts, args[0]] if own else parts, 1)
        torch.testing.assert_close(output, plain_attention(module, args[0], context), atol=1e-5, rtol=1e-4)
        checked += 1

    for layer in layers:
        layer.module.register_forward_hook(check, with_kwargs=True)
    with cross_frame_attention(sampling, layers, references=slots, steps=frozenset(range(3)), own_tokens=own):
        denoise_all(denoiser, sampling, picture(9))
    assert checked == 6


@pytest.mark.parametrize("split", [(1, 1), (2, 1), (1, 2), (3,), (1, 1, 1)])
def test_rows_keep_their_features_however_the_batch_is_cut(split):
    """Conditional and unconditional rows in one U-Net call or in several, of unequal counts."""
    total = sum(split)
    whole, _ = recorded(picture(1), split=(total,))
    cut, _ = recorded(picture(1), split=split)
    assert whole.state_dict().keys() == cut.state_dict().keys()
    results = []
    for parts, slot in (((total,), whole), (split, cut)):
        denoiser, sampling, layers = setup(split=parts)
        with cross_frame_attention(sampling, layers, references=[slot], steps=frozenset(range(3))):
            results.append(denoise_all(denoiser, sampling, picture(2)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_only_the_given_steps_are_touched():
    slot, _ = recorded(picture(1))
    denoiser, sampling, layers = setup()
    plain = denoise_all(denoiser, sampling, picture(2))
    with cross_frame_attention(sampling, layers, references=[slot], steps=frozenset({1})):
        outputs = denoise_all(denoiser, sampling, picture(2))
    assert [torch.equal(a, b) for a, b in zip(plain, outputs, strict=True)] == [True, False, True]


def test_replacing_and_recording_in_one_slot():
    """Each feature is read before the new frame's takes its place."""
    reference, _ = recorded(picture(1))
    copy = FeatureSlot(CPU)
    copy.load_state_dict(reference.state_dict())
    denoiser, sampling, layers = setup()
    separate = FeatureSlot(CPU)
    with cross_frame_attention(sampling, layers, references=[reference], record=separate, steps=frozenset(range(3))):
        expected = denoise_all(denoiser, sampling, picture(2))
    with cross_frame_attention(sampling, layers, references=[copy], record=copy, steps=frozenset(range(3))):
        outputs = denoise_all(denoiser, sampling, picture(2))
    assert all(map(torch.equal, expected, outputs))
    assert all(torch.equal(tensor, separate.state_dict()[key]) for key, tensor in copy.state_dict().items())


def test_second_order_samplers_number_their_calls_one_by_one():
    slot, _ = recorded(picture(1), name="heun")
    calls = {int(key.split(".")[0]) for key in slot.state_dict()}
    assert calls == set(range(5))  # two calls a step, one in the last


def test_calls_with_other_row_counts_are_left_alone():
    """ControlNet's reference_only runs attention on pictures of its own inside a U-Net call."""
    slot, _ = recorded(picture(1))
    denoiser, sampling, layers = setup()
    tokens = torch.randn(5, 24, 8)
    alone = layers[1].module(tokens)
    results = []
    sampling.unet.register_forward_hook(lambda *_: None)
    sampling.unet.output_blocks[1].register_forward_pre_hook(lambda *_: results.append(layers[1].module(tokens)))
    with cross_frame_attention(sampling, layers, references=[slot], steps=frozenset(range(3))):
        denoise_all(denoiser, sampling, picture(2))
    assert all(torch.equal(alone, result) for result in results)


def test_hooks_leave_no_trace_after_an_error():
    denoiser, sampling, layers = setup()
    before = denoise_all(denoiser, sampling, picture(1))
    with (
        suppress(ZeroDivisionError),
        cross_frame_attention(sampling, layers, record=FeatureSlot(CPU), steps=frozenset({0})),
    ):
        denoiser(picture(1), torch.ones(1))
        raise ZeroDivisionError
    modules = [denoiser, *sampling.unet.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    assert all(map(torch.equal, before, denoise_all(denoiser, sampling, picture(1))))


def test_missing_features_are_an_error():
    denoiser, sampling, layers = setup()
    empty = FeatureSlot(CPU)
    with pytest.raises(RerenderError, match="no features"):
        with cross_frame_attention(sampling, layers, references=[empty], steps=frozenset({0})):
            denoiser(picture(1), torch.ones(1))


def test_a_unet_that_is_not_the_hooked_one_is_noticed():
    """A checkpoint switch makes a new model object, and hooks on the old one would die silently."""
    denoiser, sampling, _ = setup()
    old = decoder_layers(ToyUNet())
    with pytest.raises(RerenderError, match="never reached"):
        with cross_frame_attention(sampling, old, record=FeatureSlot(CPU), steps=frozenset(range(3))):
            denoise_all(denoiser, sampling, picture(1))


X, C, N = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)


@pytest.mark.parametrize(
    ("args", "kwargs", "base"),
    [((X,), {}, X), ((X, None), {}, X), ((X, C), {}, C), ((X,), {"context": C}, C), ((X,), {"context": None}, X),
     ((), {"x": X, "context": C}, C), ((X, C, None), {}, C)],
)  # fmt: skip
def test_context_by_keyword_position_or_x(args, kwargs, base):
    assert base_context(args, kwargs) is base
    new_args, new_kwargs = with_context(args, kwargs, N)
    assert base_context(new_args, new_kwargs) is N
    assert len(new_args) == len(args)


def test_layers_are_found_by_the_name_of_any_ancestor():
    class Patched(load_ldm().attention.CrossAttention):
        pass

    class MemoryEfficientCrossAttention(torch.nn.Module):
        pass

    assert is_attention(Patched(8, heads=2, dim_head=4))
    assert is_attention(MemoryEfficientCrossAttention())
    assert not is_attention(torch.nn.Linear(1, 1))


def test_loose_leaves_out_the_innermost_layers():
    unet = ToyUNet()
    assert [(layer.number, layer.scale, layer.width) for layer in decoder_layers(unet)] == [(0, 2, 16), (1, 1, 8)]
    assert [(layer.number, layer.scale) for layer in decoder_layers(unet, "loose")] == [(1, 1)]


def test_loose_with_layers_of_one_size_keeps_them():
    unet = torch.nn.Module()
    unet.output_blocks = torch.nn.ModuleList([torch.nn.Sequential(Block(4, 8))])
    assert len(decoder_layers(unet, "loose")) == 1


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(UserError, match="self-attention"):
        decoder_layers(torch.nn.Linear(2, 2))


def test_layers_of_stable_diffusion_1():
    """9 decoder layers; loose: the 6 below 1280 channels (algorithm.md, section 2)."""
    with torch.device("meta"):
        unet = load_ldm().openaimodel.UNetModel(
            image_size=32, in_channels=4, out_channels=4, model_channels=320, attention_resolutions=[4, 2, 1],
            num_res_blocks=2, channel_mult=[1, 2, 4, 4], num_heads=8, use_spatial_transformer=True,
            transformer_depth=1, context_dim=768, use_checkpoint=False, legacy=False,
        )  # fmt: skip
    layers = decoder_layers(unet)
    assert [(layer.scale, layer.width) for layer in layers] == [(4, 1280)] * 3 + [(2, 640)] * 3 + [(1, 320)] * 3
    assert [layer.number for layer in decoder_layers(unet, "loose")] == [3, 4, 5, 6, 7, 8]
    # 6.9 million values a row and step at 512×512 (webui.md).
    assert sum(layer.tokens(64, 64) * layer.width for layer in layers) == pytest.approx(6.9e6, rel=0.01)
