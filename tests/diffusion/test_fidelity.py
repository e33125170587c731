from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from rerender.diffusion.fidelity import fidelity_encode, worsened_cells
from tests.diffusion.toys import ToyVae


def smooth_picture(seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6
    cells = interpolate(coarse, (10, 12), mode="bilinear", align_corners=True)
    return interpolate(cells, scale_factor=8)


def error_after_round_trips(encode, vae, trips=10):
    start = image = smooth_picture()
    for _ in range(trips):
        image = vae.decode(encode(image))
    return float(((image - start) ** 2).mean())


@pytest.mark.parametrize("verify", [False, True])
def test_error_after_ten_round_trips_is_at_most_half(verify):
    """The paper's own measure of fidelity-oriented encoding (section 4.2)."""
    vae = ToyVae()
    plain = error_after_round_trips(vae.encode, vae)
    faithful = error_after_round_trips(lambda image: fidelity_encode(image, vae, verify=verify), vae)
    assert plain > 1e-4
    assert faithful <= 0.5 * plain


def test_formula():
    vae, image = ToyVae(), smooth_picture()
    once = vae.encode(image)
    expected = 2 * once - vae.encode(vae.decode(once))
    torch.testing.assert_close(fidelity_encode(image, vae, verify=False), expected)


@pytest.mark.parametrize(("verify", "encodings", "decodings"), [(False, 2, 1), (True, 2, 2)])
def test_uses_of_the_autoencoder(verify, encodings, decodings):
    vae = ToyVae()
    fidelity_encode(smooth_picture(), vae, verify=verify)
    assert (vae.encoded, vae.decoded) == (encodings, decodings)


def test_cells_that_got_worse_keep_the_plain_encoding():
    class Spoiled(ToyVae):
        """Decoding is off by 0.5 in one cell, once the correction is in."""

        def decode(self, latent):
            image = super().decode(latent)
            if self.decoded == 2:
                image[..., 40:48, 48:56] += 0.5
            return image

    vae, image = Spoiled(), smooth_picture()
    encoded = fidelity_encode(image, vae)
    once = ToyVae().encode(image)
    corrected = fidelity_encode(image, ToyVae(), verify=False)
    kept_plain = torch.zeros(10, 12, dtype=torch.bool)
    kept_plain[4:7, 5:8] = True  # the cell and those around it
    assert torch.equal(encoded[..., kept_plain], once[..., kept_plain])
    assert torch.equal(encoded[..., ~kept_plain], corrected[..., ~kept_plain])


def test_threshold_of_worsened_cells():
    image = torch.zeros(1, 3, 24, 24)
    image[0, 1, 12, 12] = 0.26
    assert worsened_cells(image, torch.zeros_like(image)).sum() == 9
    image[0, 1, 12, 12] = 0.24
    assert worsened_cells(image, torch.zeros_like(image)).sum() == 0
