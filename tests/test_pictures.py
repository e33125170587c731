"""Pictures of every kind as RGB, also where a key frame was saved by another program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rerender import files
from rerender.video import folder

RAMP = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None], 20, axis=0)


@pytest.mark.parametrize("read", [files.read_picture, folder.read_picture])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, read) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize("read", [files.read_picture, folder.read_picture])
def test_transparency_is_laid_on_white(tmp_path: Path, read) -> None:
    alpha = np.zeros_like(RAMP)
    alpha[:10] = 255
    Image.fromarray(np.stack([RAMP, RAMP, RAMP, alpha], -1)).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert np.array_equal(picture[:10, :, 0], RAMP[:10])
    assert (picture[10:] == 255).all()


@pytest.mark.parametrize("read", [files.read_picture, folder.read_picture])
def test_pictures_are_turned_upright(tmp_path: Path, read) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png")[..., 0], np.rot90(RAMP, -1))
