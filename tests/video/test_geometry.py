import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rerender.errors import UserError
from rerender.video.geometry import plan_geometry

SIDES = st.integers(16, 4000)


@given(SIDES, SIDES, st.integers(8, 2048))
def test_sides_are_multiples_of_8_and_close_to_the_aspect(width: int, height: int, short_side: int) -> None:
    plan = plan_geometry(width, height, short_side=short_side)
    assert plan.width % 8 == 0
    assert plan.height % 8 == 0
    short, long = sorted((plan.width, plan.height))
    assert abs(short - short_side) <= 4
    exact = short * max(width, height) / min(width, height)
    assert abs(long - exact) <= 4
    assert (plan.width >= plan.height) == (width >= height) or plan.width == plan.height


@given(SIDES, SIDES)
def test_no_short_side_keeps_the_size_up_to_rounding(width: int, height: int) -> None:
    plan = plan_geometry(width, height, short_side=0)
    assert abs(plan.width - width) <= 4
    assert abs(plan.height - height) <= 4


def test_crop_takes_pixels_off_each_side() -> None:
    frame = np.zeros((40, 60, 3), dtype=np.uint8)
    frame[5:37, 4:52] = 200
    plan = plan_geometry(60, 40, crop=(4, 5, 8, 3), short_side=0)
    assert (plan.width, plan.height) == (48, 32)
    assert (plan.apply(frame) == 200).all()


def test_resize_is_lanczos_as_in_the_webui() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    plan = plan_geometry(160, 90, short_side=48)
    wanted = Image.fromarray(frame).resize((plan.width, plan.height), Image.Resampling.LANCZOS)
    assert np.array_equal(plan.apply(frame), np.asarray(wanted))
    assert (plan.width, plan.height) == (88, 48)


def test_a_frame_that_fits_is_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    assert np.array_equal(plan_geometry(24, 16, short_side=16).apply(frame), frame)


@pytest.mark.parametrize("crop", [(30, 0, 30, 0), (0, 40, 0, 0), (-1, 0, 0, 0)])
def test_a_crop_that_leaves_nothing_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(UserError, match="crop"):
        plan_geometry(60, 40, crop=crop)


def test_a_negative_short_side_is_refused() -> None:
    with pytest.raises(UserError, match="-8"):
        plan_geometry(60, 40, short_side=-8)
