"""Masks: white is inside, black stays exactly 0, frames and crops follow the source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.files import write_png
from rerender.settings import make_settings
from rerender.video.geometry import Geometry, plan_geometry
from rerender.video.mask import MaskSource, composite, feathered, plan_mask
from rerender.video.probe import probe
from rerender.video.select import select_frames
from rerender.video.write import open_writer

SIZE = (48, 64)


def columns(*bounds: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """White between two columns."""
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, bounds[0] : bounds[1]] = 255
    return picture


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for number in range(6):
        write_png(folder / f"{number}.png", np.full((*SIZE, 3), 40 * number, np.uint8))
    return probe(folder)


def masks(info, path: Path, crop=(0, 0, 0, 0), side=0, **values):
    settings = make_settings({"mask": str(path), "mask_feather": 0, **values})
    mask = plan_mask(settings, info, select_frames(info.timestamps, start=settings.start_frame))
    return MaskSource(mask, info, plan_geometry(info.width, info.height, crop, side))


@pytest.fixture
def moving(tmp_path) -> Path:
    """Frame k is white from column 8k on."""
    for number in range(6):
        write_png(tmp_path / "m" / f"{number}.png", columns(8 * number, 64))
    return tmp_path / "m"


def test_a_picture_holds_for_every_frame(info, tmp_path):
    write_png(tmp_path / "m.png", columns(16, 40))
    with masks(info, tmp_path / "m.png") as source:
        for frame in (0, 3, 5):
            np.testing.assert_array_equal(source.at(frame), columns(16, 40)[..., 0] / np.float32(255))


def test_frames_are_those_of_the_source(info, moving):
    with masks(info, moving, start_frame=2) as source:
        assert [int((source.at(frame)[0] == 0).sum()) for frame in (2, 5, 4)] == [16, 40, 32]


def test_outside_is_the_opposite(info, moving):
    with masks(info, moving) as inside, masks(info, moving, mask_side="outside") as outside:
        np.testing.assert_array_equal(outside.at(3), 1 - inside.at(3))


def test_crop_and_size_follow_the_source(info, moving):
    with masks(info, moving, crop=(8, 0, 8, 16), side=64) as source:
        mask = source.at(2)
    assert mask.shape == (64, 96)
    np.testing.assert_array_equal(mask[:, :15], 0)  # columns 8 to 15 of 16 dark ones, twice as large
    np.testing.assert_array_equal(mask[:, 17:], 1)


def test_a_mask_may_have_another_size(info, tmp_path):
    write_png(tmp_path / "m.png", columns(32, 128, size=(96, 128)))
    with masks(info, tmp_path / "m.png", crop=(8, 0, 0, 0)) as source:
        off = np.abs(source.at(1) - columns(8, 56, size=(48, 56))[..., 0] / np.float32(255)).max(axis=0)
    assert set(np.flatnonzero(off)) <= {7, 8}  # the edge itself is softened a little
    assert off.max() < 0.15


def test_a_lossy_video_still_has_exact_black_and_white(info, tmp_path):
    times = [Fraction(number, 25) for number in range(6)]
    with open_writer(tmp_path / "m.mp4", width=64, height=48, times=times, quality=30) as writer:
        for time in times:
            writer.write(columns(32, 64), time, Fraction(1, 25))
    with masks(info, tmp_path / "m.mp4") as source:
        mask = source.at(4)
    assert (mask[:, :24] == 0).all()
    assert (mask[:, 40:] == 1).all()


@given(st.integers(0, 12), st.integers(14, 34))
def test_feather_reaches_so_far_and_no_further(pixels, edge):
    mask = columns(edge, 64)[..., 0] / np.float32(255)
    soft = feathered(mask, pixels)
    assert (soft[:, : edge - pixels] == 0).all()
    assert (soft[:, edge + pixels :] >= 1 - 1e-6).all()
    assert (np.diff(soft, axis=1) >= -1e-6).all()
    if pixels:
        assert 0 < soft[0, edge - 1] < 0.5 < soft[0, edge] < 1


def test_composite_is_exact_on_both_sides():
    rng = np.random.default_rng(0)
    styled, source = (rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2))
    mask = np.zeros(SIZE, np.float32)
    mask[:, 20:], mask[:, 19] = 1, 0.5
    mixed = composite(styled, source, mask)
    np.testing.assert_array_equal(mixed[:, :19], source[:, :19])
    np.testing.assert_array_equal(mixed[:, 20:], styled[:, 20:])
    assert np.abs(mixed[:, 19].astype(float) - (styled[:, 19] / 2 + source[:, 19] / 2)).max() <= 0.5


@pytest.mark.parametrize(("frames", "size", "text"), [(3, SIZE, "3 frames"), (6, (64, 64), "another shape")])
def test_masks_that_do_not_fit_are_refused(info, tmp_path, frames, size, text):
    for number in range(frames):
        write_png(tmp_path / "m" / f"{number}.png", columns(0, 9, size=size))
    with pytest.raises(UserError, match=text):
        masks(info, tmp_path / "m")


def test_a_missing_mask_is_refused(info, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        masks(info, tmp_path / "none.png")


def test_what_results_depend_on(info, tmp_path):
    write_png(tmp_path / "m.png", columns(16, 40))
    write_png(tmp_path / "copy.png", columns(16, 40))
    write_png(tmp_path / "other.png", columns(16, 41))

    def mark(name: str = "m.png", **values) -> str:
        return masks(info, tmp_path / name, **values).mask.fingerprint

    assert mark("copy.png") == mark()
    assert len({mark(), mark("other.png"), mark(mask_side="outside"), mark(mask_feather=1)}) == 4


def test_no_mask_where_the_background_is_rendered(info, tmp_path):
    selection = select_frames(info.timestamps)
    assert plan_mask(make_settings({}), info, selection) is None
    rendered = make_settings({"mask": str(tmp_path / "none"), "mask_background": "render"})
    assert plan_mask(rendered, info, selection) is None


def test_a_cut_mask_covers_the_same_place(info, tmp_path):
    """A box that is no whole number of mask pixels: half the size, an odd crop."""
    write_png(tmp_path / "m.png", columns(16, 32, size=(24, 32)))
    settings = make_settings({"mask": str(tmp_path / "m.png"), "mask_feather": 0})
    mask = plan_mask(settings, info, select_frames(info.timestamps))
    with MaskSource(mask, info, Geometry((1, 0, 64, 48), 63, 48)) as source:
        white = np.flatnonzero(source.at(0)[0] > 0.5)
    assert (white[0], white[-1]) == (31, 62)
