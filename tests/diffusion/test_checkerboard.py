"""Two references that give every other token each, against attention written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, pad

from rerender.diffusion.attention import cross_frame_attention
from rerender.diffusion.bank import FeatureSlot, estimate_bytes
from rerender.diffusion.checkerboard import cells
from rerender.diffusion.layers import decoder_layers
from tests.diffusion.test_attention import CPU, denoise_all, plain_attention, setup
from tests.diffusion.toys import ToyUNet

STEPS = frozenset(range(3))
SIZES = [(4, 6), (5, 7), (1, 8), (6, 3)]


class Downsample(torch.nn.Module):
    """Half a cell more where the side is odd, as convolutions with padding do."""

    def forward(self, x):
        return avg_pool2d(x, 2, ceil_mode=True)


class AnySizeUNet(ToyUNet):
    """A ToyUNet whose answer has the size of its input, also where that is odd."""

    def __init__(self):
        super().__init__()
        self.input_blocks[0][0] = Downsample()

    def forward(self, x, t, context=None):
        h = x if context is None else x + context.transpose(1, 2)[..., None]
        h = self.output_blocks[0](self.input_blocks[0](h))
        return torch.tanh(self.output_blocks[1](interpolate(h, size=x.shape[2:])))


class MergingUNet(AnySizeUNet):
    """Its finest layer gets fewer tokens than the latent has cells."""

    def forward(self, x, t, context=None):
        smaller = super().forward(x[..., :-1, :-1], t, context)
        return pad(smaller, (0, 1, 0, 1))


def picture(seed, size):
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(seed))


def run(latent, *, split=(2,), unet=None, watch=None, **options):
    denoiser, sampling, layers = setup(unet=unet or AnySizeUNet(), split=split)
    for layer in layers if watch else ():
        layer.module.register_forward_hook(watch, with_kwargs=True)
    with cross_frame_attention(sampling, layers, steps=STEPS, **options):
        return denoise_all(denoiser, sampling, latent)


def record(seed, size, **options):
    slot = FeatureSlot(CPU)
    run(picture(seed, size), record=slot, **options)
    return slot


def by_cell(features, size, parity):
    """The tokens (h·w, width) of cells whose row + column has a parity, one after the other."""
    height, width = size
    kept = [features[i * width + j] for i, j in itertools.product(range(height), range(width)) if (i + j) % 2 == parity]
    return torch.stack(kept)


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (64, 80)])
def test_each_cell_is_on_one_side_of_the_board(size):
    even, odd = cells(*size, 0).tolist(), cells(*size, 1).tolist()
    assert sorted(even + odd) == list(range(size[0] * size[1]))
    assert 0 <= len(even) - len(odd) <= 1
    assert even == sorted(even)
    assert all((n // size[1] + n % size[1]) % 2 == 0 for n in even)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_output_is_attention_to_even_cells_of_the_first_and_odd_ones_of_the_second(size, own, whole):
    """In the finest layer; in the coarser one to all of both. However much of the second was kept."""
    anchor, previous = record(0, size), record(1, size)
    slots = [anchor, previous if whole else record(1, size, record_all=False)]
    first, second = anchor.state_dict(), previous.state_dict()
    checked = 0

    def check(module, args, kwargs, output):
        nonlocal checked
        call, layer = divmod(checked, 2)
        parts = []
        for row in range(2):
            one, two = (held[f"{call}.{layer}.{row}"].float() for held in (first, second))
            if layer == 1:
                one, two = by_cell(one, size, 0), by_cell(two, size, 1)
            parts.append(torch.cat([one, two]))
        context = torch.stack(parts)
        assert layer == 0 or context.shape[1] == size[0] * size[1]
        context = torch.cat([context, args[0]], 1) if own else context
        torch.testing.assert_close(output, plain_attention(module, args[0], context), atol=1e-5, rtol=1e-4)
        checked += 1

    run(picture(9, size), watch=check, references=slots, checkerboard=True, own_tokens=own)
    assert checked == 6


@pytest.mark.parametrize("size", SIZES)
def test_half_of_the_second_references_tokens_is_kept(size):
    whole, half = record(1, size).state_dict(), record(1, size, record_all=False).state_dict()
    assert whole.keys() == half.keys()
    for key, held in half.items():
        is_finest = key.split(".")[1] == "1"
        assert torch.equal(held, by_cell(whole[key], size, 1) if is_finest else whole[key])


@pytest.mark.parametrize("size", SIZES)
def test_bound_is_what_both_hold(size):
    held = record(0, size).nbytes + record(1, size, record_all=False).nbytes
    layers = decoder_layers(AnySizeUNet())
    assert estimate_bytes(layers, size, calls=3, checkerboard=True) == held
    assert estimate_bytes(layers, size, calls=3, references=1, checkerboard=True) == record(0, size).nbytes


def test_one_reference_gives_all_of_its_tokens():
    slot = record(1, (4, 6))
    outputs = [run(picture(2, (4, 6)), references=[slot], checkerboard=board) for board in (False, True)]
    assert all(map(torch.equal, *outputs))


def test_tokens_that_are_not_one_a_cell_are_all_taken():
    """As where another extension merges some of them."""
    slots = [record(seed, (5, 7), unet=MergingUNet(), record_all=False) for seed in (0, 1)]
    assert slots[0].tokens(0, 1, 0) == 4 * 6
    outputs = [
        run(picture(2, (5, 7)), unet=MergingUNet(), references=slots, checkerboard=board) for board in (False, True)
    ]
    assert all(map(torch.equal, *outputs))


@pytest.mark.parametrize("split", [(1, 1), (1, 2)])
def test_rows_keep_their_halves_however_the_batch_is_cut(split):
    size, results = (5, 7), []
    for parts in ((sum(split),), split):
        slots = [record(0, size, split=parts), record(1, size, split=parts, record_all=False)]
        results.append(run(picture(2, size), split=parts, references=slots, checkerboard=True))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_half_and_whole_take_each_others_place_in_one_slot():
    """A further key frame in place of the one before it, a new anchor in place of the old one."""
    size = (5, 7)
    for into, whole in ((1, False), (0, True)):
        slots = [record(0, size), record(1, size, record_all=False)]
        fresh = FeatureSlot(CPU)
        options = {"references": slots, "checkerboard": True, "record_all": whole}
        expected = run(picture(2, size), record=fresh, **options)
        outputs = run(picture(2, size), record=slots[into], **options)
        assert all(map(torch.equal, expected, outputs))
        kept = slots[into].state_dict()
        assert all(torch.equal(held, kept[key]) for key, held in fresh.state_dict().items())
