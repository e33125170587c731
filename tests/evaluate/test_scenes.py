from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.evaluate.looks import LOOKS, TILE, apply_look
from rerender.evaluate.scenes import FIRST_HELD_OUT_SEED, HELD_OUT, KINDS, Layer, Scene, Shot, scene, textures
from rerender.evaluate.scenes.poses import Path

SMALL = (72, 96)


@cache
def small(kind: str, frames: int = 4) -> Scene:
    return scene(kind, 1, SMALL, frames)


def bilinear(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An independent sampler: scipy's spline of order 1."""
    from scipy.ndimage import map_coordinates

    channels = [map_coordinates(picture[..., c].astype(float), [y, x], order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, -1)


@pytest.mark.parametrize("kind", ["parallax", "cut", "deformation"])
def test_equal_arguments_give_equal_scenes_and_others_do_not(kind: str) -> None:
    a, b, c = small(kind), scene(kind, 1, SMALL, 4), scene(kind, 2, SMALL, 4)
    assert np.array_equal(a.frame(2), b.frame(2))
    assert a.captions == b.captions
    assert not np.array_equal(a.frame(2), c.frame(2))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "lighting"])
def test_frames_agree_along_the_flow_where_nothing_is_hidden(kind: str) -> None:
    clip = small(kind)
    y, x = np.mgrid[0 : SMALL[0], 0 : SMALL[1]].astype(float)
    for i, j in ((1, 2), (2, 1)):
        flow, hidden = clip.flow_between(i, j), clip.occluded_between(i, j)
        seen = ~hidden
        if not seen.any():
            assert kind == "cut"
            continue
        error = np.abs(bilinear(clip.frame(j), x + flow[..., 0], y + flow[..., 1]) - clip.frame(i)).mean(-1)
        still = np.abs(clip.frame(j).astype(float) - clip.frame(i)).mean(-1)
        # Interpolating 8-bit frames and mixed edge pixels leave a little; a wrong flow leaves much more.
        assert error[seen].mean() < 2.5
        assert error[seen].mean() < 0.7 * still[seen].mean()


@pytest.mark.parametrize("kind", ["rotation", "zoom", "deformation", "parallax"])
def test_there_and_back_is_where_it_began(kind: str) -> None:
    clip = small(kind)
    forward, backward = clip.flow_between(0, 1), clip.flow_between(1, 0)
    y, x = np.mgrid[0 : SMALL[0], 0 : SMALL[1]].astype(float)
    to_x, to_y = x + forward[..., 0], y + forward[..., 1]
    both = np.concatenate([backward, backward[..., :1]], -1)
    back = bilinear(both, to_x, to_y)[..., :2]
    inside = ~clip.occluded_between(0, 1) & (clip.labels[0] == 0)
    # The background's flow is smooth, so that interpolating it is exact to second order, but for its objects' edges.
    assert np.percentile(np.linalg.norm(forward + back, axis=-1)[inside], 80) < 0.02


def hand_made(dx: float) -> Scene:
    """A square of half-width 8.5 around (20, 16) that moves right by dx a frame over a resting ground."""
    rng = np.random.default_rng(0)
    ground = Layer("sand", textures.background("sand", rng), Path())
    # Paths are centred on the middle of the clip: frame 0 is half a step before it.
    path = Path(centre=(20 + dx / 2, 16), velocity=(dx, 0))
    box = Layer("red square", textures.surface("red", rng), path, "square", 10)
    return Scene("hand", 0, (32, 48), (Shot((ground, box), "a red square on sand"),), (0, 0))


def test_occlusion_of_a_moving_square_is_the_strip_in_front_of_it() -> None:
    clip = hand_made(5)
    inside = np.zeros((32, 48), bool)
    inside[8:25, 12:29] = True
    assert np.array_equal(clip.labels[0] == 1, inside)
    ahead = np.zeros_like(inside)
    ahead[8:25, 29:34] = True
    behind = np.zeros_like(inside)
    behind[8:25, 12:17] = True
    assert np.array_equal(clip.occluded_forward[0], ahead)
    assert np.array_equal(clip.occluded_backward[0], behind)
    assert np.allclose(clip.forward_flow[0][inside], (5, 0))
    assert np.all(clip.forward_flow[0][~inside] == 0)
    assert np.allclose(clip.backward_flow[0][np.roll(inside, 5, axis=1)], (-5, 0))


def test_what_leaves_the_picture_is_hidden() -> None:
    clip = hand_made(30)
    x = np.arange(48)[None] + clip.forward_flow[0][..., 0]
    assert clip.occluded_forward[0][x > 47].all()


@given(
    angle=st.floats(-3, 3),
    scale=st.floats(0.5, 2),
    bend=st.floats(0, 5),
    time=st.floats(-6, 6),
    spin=st.floats(-0.2, 0.2),
)
@settings(max_examples=40, deadline=None)
def test_pose_maps_are_inverse(angle: float, scale: float, bend: float, time: float, spin: float) -> None:
    pose = Path((3, -7), (2, 1), angle, spin, scale, 1.01, bend, 80, 0.4).at(time)
    x, y = np.meshgrid(np.linspace(-50, 300, 9), np.linspace(-50, 300, 9))
    back = pose.to_picture(*pose.to_layer(x, y))
    assert np.allclose(back, (x, y), atol=1e-6)


def test_a_path_that_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="invertible"):
        Path(bend=10, wavelength=80)


def test_a_cut_separates_two_shots() -> None:
    clip = small("cut")
    assert clip.cuts == (2,)
    assert clip.occluded_between(1, 2).all()
    assert not clip.flow_between(1, 2).any()
    assert not clip.occluded_between(2, 3).all()
    assert clip.captions[1] != clip.captions[2]


def test_objects_enter_and_leave() -> None:
    clip = small("enter_leave", 12)
    for k in range(1, len(clip.shots[0].layers)):
        area = [int((label == k).sum()) for label in clip.labels]
        assert min(area[0], area[-1]) < 0.5 * max(area)


def test_fast_motion_is_fast_and_light_changes_brightness_only() -> None:
    flow = scene("fast", 0, frames=2).flow_between(0, 1)
    assert np.linalg.norm(flow, axis=-1).max() > 10
    clip = small("lighting", 12)
    means = [clip.frame(i).mean() for i in range(12)]
    assert max(means) - min(means) > 12
    assert np.linalg.norm(clip.flow_between(0, 1), axis=-1).max() < 2


def test_held_out_scenes_cover_all_kinds_and_an_unknown_kind_is_refused() -> None:
    assert {kind for kind, _ in HELD_OUT} == set(KINDS)
    assert len(HELD_OUT) >= 16
    assert min(seed for _, seed in HELD_OUT) >= FIRST_HELD_OUT_SEED
    with pytest.raises(UserError, match="spiral"):
        scene("spiral")


def test_textures_repeat_and_are_exact_at_whole_pixels() -> None:
    texture = textures.background("stone", np.random.default_rng(0))
    y, x = np.mgrid[0:5, 0:7].astype(float)
    assert np.allclose(textures.sample(texture, x + textures.TILE, y - textures.TILE), texture[:5, :7])
    half = textures.sample(texture, x + 0.5, y)
    assert np.allclose(half, (texture[:5, :7] + texture[:5, 1:8]) / 2, atol=1e-6)


@pytest.mark.parametrize("look", LOOKS)
def test_looks_keep_size_and_differ_from_the_photo(look: str) -> None:
    frame = small("translation").frame(0)[:70, :90]
    made = apply_look(frame, look)
    assert made.shape == frame.shape
    assert made.dtype == np.uint8
    assert np.array_equal(made, frame) == (look == "photo")
    assert np.array_equal(made, apply_look(frame, look))


def test_looks_are_what_their_names_say() -> None:
    step = np.zeros((64, 64, 3), np.uint8)
    step[:] = (60, 120, 60)
    step[:, 32:] = (220, 160, 60)
    pencil, neon, comic, mosaic = (apply_look(step, n).astype(int) for n in ("pencil", "neon", "comic", "mosaic"))
    assert np.ptp(pencil, axis=-1).max() < 12
    assert pencil[32, 30:34].min() < pencil[32, 5].min() - 40
    assert neon[32, 5].max() < 60 < neon[32, 32].max()
    assert comic[32, 32].max() < 20
    assert (mosaic[2 : TILE - 3, 2 : TILE - 3] == mosaic[5, 5]).all()
    assert (mosaic[:, TILE - 1] < 50).all()


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(UserError, match="cubist"):
        apply_look(np.zeros((8, 8, 3), np.uint8), "cubist")
