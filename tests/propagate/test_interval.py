from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.propagation_sequences import measure_sequence
from rerender.errors import Interrupted, UserError
from rerender.propagate import IntervalJob, PropagationSettings, backend, pieces, propagate_all, propagate_interval
from tests.propagate.clips import clip, mse, restyle

FAST = PropagationSettings(preset="fast", threads=1)


@pytest.mark.parametrize(
    ("count", "first", "last", "expected"),
    [
        (2, True, True, []),
        (3, True, True, [1]),
        (5, True, True, [1, 2, 3]),
        (3, True, False, [1, 2]),
        (3, False, True, [1, 0]),
        (1, True, False, []),
        (1, False, True, []),
    ],
)
def test_every_frame_but_the_keys_comes_once_in_order(count, first, last, expected):
    frames, flow = clip("translation", count, 48)
    keys = [restyle(frame) if given else None for frame, given in ((frames[0], first), (frames[-1], last))]
    got = list(propagate_interval(frames, *keys, FAST, flow=flow))
    assert [offset for offset, _ in got] == expected
    for offset, picture in got:
        assert picture.shape == frames[0].shape
        assert picture.dtype == np.uint8
        assert mse(picture, restyle(frames[offset])) < 60


def test_frames_near_a_key_look_like_it_and_change_gradually():
    frames, flow = clip("translation", 7)
    red, blue = (np.clip(restyle(f).astype(int) + shift, 0, 255).astype(np.uint8) for f, shift in
                 ((frames[0], (40, 0, -40)), (frames[-1], (-40, 0, 40))))  # fmt: skip
    pictures = dict(propagate_interval(frames, red, blue, FAST, flow=flow))
    redness = [float(np.mean(pictures[o][..., 0].astype(int) - pictures[o][..., 2])) for o in range(1, 7 - 1)]
    assert all(a > b for a, b in pairwise(redness))
    shift, near = np.array([40, 0, -40]), restyle(frames[5]).astype(int)
    from_last, from_first = (mse(pictures[5], np.clip(near + sign * shift, 0, 255)) for sign in (-1, 1))
    assert from_last < from_first


def test_the_warp_error_is_hardly_larger_than_that_of_the_truth_warped_keys():
    frames, flow = clip("rotation", 6, 96)
    truth = [restyle(frame) for frame in frames]
    pictures = {0: truth[0], 5: truth[5], **dict(propagate_interval(frames, truth[0], truth[5], FAST, flow=flow))}
    own = np.mean([mse(pictures[o], truth[o]) for o in range(1, 5)])
    assert (
        own < 1.5 * np.mean([mse(_warped(truth[0], flow.clip.flow_between(o, 0)), truth[o]) for o in range(1, 5)]) + 20
    )


def _warped(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    from rerender.motion.warp import warp

    return warp(picture, flow)


@pytest.mark.parametrize(("kind", "look"), [("translation", "oil"), ("parallax", "watercolour")])
def test_a_sequence_is_as_steady_as_its_keys_warped_along_the_true_flow(kind, look):
    figures = measure_sequence(kind, look, FAST, side=96, gap=6)
    assert figures.inside < 1.1 * max(figures.truth_inside, figures.look_inside)
    assert figures.joins < 1.15 * figures.inside
    assert figures.psnr > figures.truth_psnr
    assert figures.nearer_last == 1


def test_a_key_at_a_cut_reaches_no_frame_of_the_shot_before():
    shot, _ = clip("translation", 3, 48, seed=1)
    other, _ = clip("translation", 1, 48, seed=2)
    keys = np.full((48, 48, 3), (200, 20, 20), np.uint8), np.full((48, 48, 3), (20, 20, 200), np.uint8)
    pictures = dict(propagate_interval([*shot, *other], *keys, FAST, cuts=(3,)))
    assert sorted(pictures) == [1, 2]
    assert all(np.all(picture[..., 0] > 190) for picture in pictures.values())


def test_each_side_of_a_cut_comes_from_its_own_key():
    first, _ = clip("translation", 3, 48, seed=1)
    second, _ = clip("translation", 3, 48, seed=2)
    frames = [*first, *second]
    keys = np.full((48, 48, 3), (200, 20, 20), np.uint8), np.full((48, 48, 3), (20, 20, 200), np.uint8)
    pictures = dict(propagate_interval(frames, *keys, FAST, cuts=(3,)))
    assert [bool(np.all(pictures[o][..., 0] > 190)) for o in range(1, 5)] == [True, True, False, False]
    assert [bool(np.all(pictures[o][..., 2] > 190)) for o in range(1, 5)] == [False, False, True, True]


def test_a_shot_as_many_cuts_from_both_keys_takes_from_the_nearer_one():
    frames = [frame for seed in (1, 2, 3) for frame in clip("translation", 3, 48, seed=seed)[0]][1:-1]
    keys = np.full((48, 48, 3), (200, 20, 20), np.uint8), np.full((48, 48, 3), (20, 20, 200), np.uint8)
    pictures = dict(propagate_interval(frames, *keys, FAST, cuts=(2, 5)))
    assert [bool(np.all(pictures[o][..., 0] > 190)) for o in range(1, 6)] == [True, True, True, False, False]
    assert [bool(np.all(pictures[o][..., 2] > 190)) for o in range(1, 6)] == [False, False, False, True, True]


def test_shots_without_a_key_and_several_cuts_still_give_every_frame():
    frames, flow = clip("translation", 6, 48)
    key = restyle(frames[0])
    assert [o for o, _ in propagate_interval(frames, key, restyle(frames[5]), FAST, flow=flow, cuts=(2, 4))] == [
        1,
        2,
        3,
        4,
    ]
    assert [o for o, _ in propagate_interval(frames, key, None, FAST, flow=flow, cuts=(1,))] == [1, 2, 3, 4, 5]
    assert [o for o, _ in propagate_interval(frames, None, key, FAST, flow=flow, cuts=(5,))] == [4, 3, 2, 1, 0]


def test_a_loader_stands_for_the_frames():
    frames, flow = clip("translation", 3, 48)
    key = restyle(frames[0])
    direct = list(propagate_interval(frames, key, None, FAST, flow=flow))
    loaded = list(propagate_interval(lambda: frames, key, None, FAST, flow=flow))
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(direct, loaded, strict=True))


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [(None, None, "without a key"), ((48, 40), None, "40 × 48"), (None, (24, 24), "last key frame is 24 × 24")],
)
def test_bad_keys_are_refused_with_their_sizes(first, last, message):
    frames, _ = clip("translation", 3, 48)
    keys = [None if size is None else np.zeros((*size, 3), np.uint8) for size in (first, last)]
    with pytest.raises(UserError, match=message):
        list(propagate_interval(frames, *keys, FAST))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda key: key / np.float32(255),
        lambda key: np.dstack([key, key[..., :1]]),
        lambda key: key[..., 0],
        lambda key: key.tolist(),
    ],
)
def test_what_is_no_rgb_picture_of_8_bits_is_named(wrong):
    frames, _ = clip("translation", 3, 48)
    with pytest.raises(UserError, match="last key frame is no picture"):
        list(propagate_interval(frames, restyle(frames[0]), wrong(restyle(frames[2])), FAST))
    with pytest.raises(UserError, match="frame 1 is no picture"):
        list(propagate_interval([frames[0], wrong(frames[1]), frames[2]], restyle(frames[0]), None, FAST))


@pytest.mark.parametrize("cuts", [(0,), (-2,), (99,), (0, 5, 7)])
def test_cuts_that_separate_nothing_change_nothing(cuts):
    frames = clip("translation", 5, 48)[0]
    keys = restyle(frames[0]), restyle(frames[4])
    expected, made = (list(propagate_interval(frames, *keys, FAST, cuts=each)) for each in ((), cuts))
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(expected, made, strict=True))


def test_a_frame_of_another_size_is_refused():
    frames, _ = clip("translation", 4, 48)
    frames = [*frames[:2], frames[2][:40], frames[3]]
    with pytest.raises(UserError, match="frame"):
        list(propagate_interval(frames, frames[0], frames[3], FAST))


def test_it_stops_within_a_frame():
    frames, flow = clip("translation", 6, 48)
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Interrupted):
        list(propagate_interval(frames, frames[0], frames[-1], FAST, flow=flow, cancelled=cancelled))
    assert len(asked) == 4


@pytest.mark.parametrize(
    "field",
    ["preset", "device", "patch_size", "threads", "color_weight", "edge_weight", "uniformity", "seed", "passes"],
)
def test_settings_out_of_bounds_are_refused(field):
    wrong = {
        "preset": "best", "device": "tpu", "patch_size": 4, "threads": -1, "color_weight": -0.1, "seed": -1,
        "edge_weight": float("inf"), "uniformity": float("nan"), "passes": -1,
    }  # fmt: skip
    with pytest.raises(UserError, match=field):
        PropagationSettings(**{field: wrong[field]})


def test_worker_processes_give_the_same_bytes_and_jobs_with_two_keys_in_the_same_order():
    frames, _ = clip("translation", 7, 48)
    keys = [restyle(frames[i]) for i in (0, 3, 5)]
    jobs = [
        IntervalJob(frames[0:4], keys[0], keys[1]),
        IntervalJob(frames[3:6], keys[1], keys[2]),
        IntervalJob(frames[5:7], keys[2], None),
    ]
    here = list(propagate_all(jobs, FAST, workers=1))
    there = list(propagate_all(iter(jobs), PropagationSettings(preset="fast"), workers=2))
    assert [(job, offset) for job, offset, _ in here] == [(0, 1), (0, 2), (1, 1), (2, 1)]
    assert [(job, offset) for job, offset, _ in there if job != 2] == [(0, 1), (0, 2), (1, 1)]
    there.sort(key=lambda made: made[:2])  # a piece of a job with one key comes when it is made
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("key", [0, 6])
@pytest.mark.parametrize("cuts", [(), (2, 4)])
def test_pieces_give_the_bytes_of_one_sweep(monkeypatch, key, cuts):
    frames = clip("fast", 7, 48)[0]
    ends = [restyle(frames[at]) if at == key else None for at in (0, 6)]
    made = []
    for length in (100, 3, 1):
        monkeypatch.setattr(pieces, "PIECE", length)
        made.append(list(propagate_interval(frames, *ends, FAST, cuts=cuts)))
    order = [offset for offset in range(7) if offset != key]
    assert [[offset for offset, _ in each] for each in made] == [order[:: 1 if key == 0 else -1]] * 3
    assert all(np.array_equal([p for _, p in made[0]], [p for _, p in each]) for each in made[1:])


def test_workers_that_make_pieces_give_the_same_bytes(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 2)
    frames, _ = clip("fast", 8, 48)
    keys = [restyle(frames[i]) for i in (3, 5)]
    jobs = [
        IntervalJob(frames[:4], None, keys[0]),
        IntervalJob(frames[3:6], *keys),
        IntervalJob(frames[5:6], keys[1], None),
        IntervalJob(frames[5:], keys[1], None),
    ]
    here = list(propagate_all(jobs, FAST, workers=1))
    there = list(propagate_all(iter(jobs), PropagationSettings(preset="fast"), workers=2))
    assert [each[:2] for each in here] == [(0, 2), (0, 1), (0, 0), (1, 1), (3, 1), (3, 2)]
    there.sort(key=lambda each: each[0])  # of one job they come in order
    assert [each[:2] for each in there] == [each[:2] for each in here]
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(here, there, strict=True))


def test_one_backend_makes_all_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 1)
    frames, made = clip("translation", 4, 48)[0], []
    monkeypatch.setattr(backend, "make_backend", lambda settings: made.append(1) or backend.HostBackend(settings))
    assert len(list(propagate_interval(frames, frames[0], None, FAST))) == 3
    assert made == [1]  # one that has turned from a full GPU to the host stays there


def test_workers_do_not_run_the_main_script_again(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(
        "import numpy as np\n"
        "from rerender.propagate import IntervalJob, PropagationSettings, propagate_all\n"
        "print('started')\n"
        "frame = np.zeros((32, 32, 3), np.uint8)\n"
        "job = IntervalJob([frame] * 3, frame, frame)\n"
        "print([o for _, o, _ in propagate_all([job], PropagationSettings(preset='fast'), workers=2)])\n"
        "import __main__; print(__main__.__file__)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.split("\n")[:3] == ["started", "[1]", str(script)]


def test_a_process_that_propagates_on_the_host_does_not_import_torch():
    script = (
        "import sys, numpy as np\n"
        "from rerender.propagate import PropagationSettings, propagate_interval\n"
        "frames = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))\n"
        "settings = PropagationSettings(preset='fast', device='cpu')\n"
        "assert len(list(propagate_interval(frames, frames[0], frames[2], settings))) == 1\n"
        "assert 'numba' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).resolve().parents[2])


def test_an_error_in_a_worker_reaches_the_caller():
    frames, _ = clip("translation", 3, 48)
    with pytest.raises(UserError, match="without a key"):
        list(propagate_all([IntervalJob(frames, None, None)], FAST, workers=2))


def test_jobs_are_taken_only_as_workers_get_free():
    frames, _ = clip("translation", 3, 48)
    taken = []

    def jobs():
        for number in range(4):
            taken.append(number)
            yield IntervalJob(frames, restyle(frames[0]), restyle(frames[2]))

    for workers in (1, 2):
        taken.clear()
        results = propagate_all(jobs(), FAST, workers=workers)
        next(results)
        assert taken == list(range(workers))
        results.close()


def test_an_interval_is_freed_when_it_is_done_without_the_garbage_collector():
    frames = [frame.copy() for frame in clip("translation", 3, 48)[0]]
    watched = weakref.ref(frames[1])
    gc.collect()
    gc.disable()
    try:
        assert len(list(propagate_interval(frames, restyle(frames[0]), None, FAST))) == 2
        del frames
        assert watched() is None
    finally:
        gc.enable()
