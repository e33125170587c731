"""The command: known faults end up in the right figures and verdicts, whatever way the clips come."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rerender.errors import UserError
from rerender.evaluate import command
from rerender.evaluate.clip import SceneMotion, flicker, long_range_warp_error, sharpness, warp_error
from rerender.evaluate.command import evaluate
from rerender.evaluate.figures import METRICS, join_pairs, show
from rerender.evaluate.looks import apply_look
from rerender.evaluate.scenes import scene
from rerender.video.write import open_writer
from tests.evaluate.cases import added, blurred, noisy, panning, picture

CLIP = scene("translation", 9003, (96, 128), 8)
LOOK = [apply_look(frame, "watercolour") for frame in CLIP.frames]


def measure(result, **options):
    return evaluate(CLIP, result, semantic=False, **options)


@pytest.fixture(scope="module")
def rivals():
    clips = {
        "good": LOOK,
        "jitter": added(noisy(LOOK, 6), [0, 9, -7, 8, -9, 6, -8, 9]),
        "blurred": [f if i in (0, 4, 7) else blurred([f], 2.5)[0] for i, f in enumerate(LOOK)],
        "all blurred": blurred(LOOK, 4),
        "frozen": [LOOK[0]] * 8,
        "stuttering": [LOOK[i // 2 * 2] for i in range(8)],
        "source again": CLIP.frames,
    }
    return measure(clips["good"], against=list(clips.values())[1:], names=list(clips), keys="0, 4")


def faults(evaluation, name: str) -> list[str]:
    result = next(r for r in evaluation.results if r.name == name)
    return [finding.fault for finding in evaluation.findings(result)]


def test_the_stream_gives_the_same_figures_as_the_clip_in_memory():
    jitter = noisy(LOOK, 5)
    figures = measure(jitter, keys=[0, 3, 7]).results[0].summary()
    motion = SceneMotion(CLIP)
    assert figures["warp_error"] == pytest.approx(warp_error(jitter, motion), rel=1e-12)
    assert figures["warp_error_first"] == pytest.approx(long_range_warp_error(jitter, motion), rel=1e-12)
    assert figures["flicker"] == pytest.approx(flicker(jitter, motion), rel=1e-12)
    assert figures["sharpness"] == pytest.approx(sharpness(jitter, [0, 3, 7], motion), rel=1e-12)


def test_each_fault_is_named(rivals):
    assert "blurred" in faults(rivals, "blurred")
    assert "frozen" in faults(rivals, "frozen")
    assert "frozen" in faults(rivals, "stuttering")
    assert "unchanged" in faults(rivals, "source again")
    assert {"flickers"} <= set(faults(rivals, "jitter"))
    assert not {"frozen", "blurred", "unchanged"} & set(faults(rivals, "good"))
    assert not {"frozen", "blurred", "unchanged"} & set(faults(rivals, "jitter"))


def test_noise_that_sticks_to_the_screen_is_named():
    """Per-frame img2img with one fixed seed: neighbours agree, but the texture does not move with the picture."""
    frames = panning(6, speed=1, size=(96, 128))
    grain = np.random.default_rng(3).normal(0, 22, (96, 128, 1))
    stuck = [np.clip(0.4 * f + 80 + grain, 0, 255).astype(np.uint8) for f in frames]
    moving = [np.clip(0.4 * f + 80 + np.roll(grain, -i, axis=1), 0, 255).astype(np.uint8) for i, f in enumerate(frames)]
    evaluation = evaluate(frames, stuck, against=[moving], names=["stuck", "moving"], semantic=False)
    assert {"frozen", "texture does not move along"} & set(faults(evaluation, "stuck"))
    assert {"changes from frame to frame", "does not keep its first look"} <= set(faults(evaluation, "stuck"))
    assert not faults(evaluation, "moving")


def test_no_frozen_blurred_or_unchanged_result_wins(rivals):
    errors = {result.name: result.summary()["warp_error"] for result in rivals.results}
    assert errors["all blurred"] < errors["good"] < errors["jitter"]
    assert rivals.best()[0] not in {"blurred", "all blurred", "frozen", "stuttering", "source again", "jitter"}


def test_blur_that_no_ratio_shows_does_not_win_either():
    """Key frames as soft as the rest: sharpness is 1, and only the blur effect tells."""
    soft = blurred(LOOK, 4)
    evaluation = measure(LOOK, against=[soft], names=["sharp", "soft"], keys="0, 4")
    assert evaluation.results[1].summary()["sharpness"] == pytest.approx(1, abs=0.1)
    assert evaluation.best()[0] != "soft"
    assert "sharp" in evaluation.best()[1]


def test_a_pop_at_each_key_frame_shows_at_the_joins():
    """Key frames 10 levels brighter than still in-betweens: all the error is at the joins."""
    frames = panning(9)
    popping = added(frames, [10 * (i in (0, 4, 8)) for i in range(9)])
    figures = evaluate(frames, popping, keys="0, 4, 8", semantic=False).results[0]
    errors = figures.series["warp_error"]
    at = [i for i in range(1, 9) if errors[i] > 90]
    assert at == [1, 4, 5, 8]
    assert figures.joins == {4, 5}
    # Inside count the pairs 1 and 8 too, which touch the first and the last key frame.
    assert figures.summary()["join_ratio"] == pytest.approx(100 / (2 * 100 / 6), rel=0.1)


def test_joins_touch_only_inner_key_frames():
    assert join_pairs([0, 4, 8], 9) == {4, 5}
    assert join_pairs([0, 3, 4, 6, 8], 9, [0, 4]) == {6, 7}
    assert join_pairs(range(5), 5) == {1, 2, 3, 4}


def test_an_injected_colour_drift_is_measured_in_lab():
    frames = [np.full((64, 96, 3), 128, np.uint8)] * 4
    textured = [np.clip(f.astype(int) + picture(5).astype(int) // 8 - 16, 0, 255).astype(np.uint8) for f in frames]
    drifting = added(textured, [0, 4, 8, 12])
    figures = evaluate(textured, drifting, semantic=False).results[0]
    # Grey of 128 levels: 4 levels are 1.57 in L* by the CIE formula, and nothing in a* and b*.
    assert figures.series["colour_drift"][1:] == pytest.approx([1.57, 3.12, 4.66], abs=0.12)
    assert abs(figures.colour[3][1]) < 0.2


def test_cuts_are_neither_flicker_nor_error():
    clip = scene("cut", 9001, (96, 96), 6)
    for source in (clip, clip.frames):
        evaluation = evaluate(source, clip.frames, semantic=False)
        assert evaluation.shot_starts == [0, 3]
        assert math.isnan(evaluation.source.series["warp_error"][3])
        assert evaluation.source.summary()["flicker"] < 4


def test_only_the_masked_part_counts():
    half = np.zeros((96, 128, 3), np.uint8)
    half[:, 64:] = 255
    spoilt = [np.where(half > 0, frame, noise) for frame, noise in zip(LOOK, noisy(LOOK, 30), strict=True)]
    clean = measure(LOOK, mask=[half]).results[0].summary()
    masked = measure(spoilt, mask=[half]).results[0].summary()
    for name in ("warp_error", "warp_error_first", "flicker", "colour_drift"):
        assert masked[name] == pytest.approx(clean[name], rel=1e-6), name
    assert measure(spoilt).results[0].summary()["warp_error"] > 3 * clean["warp_error"]


def test_files_and_memory_agree(tmp_path: Path):
    folder = _write(tmp_path / "source", CLIP.frames)
    result = _write(tmp_path / "result", LOOK)
    from_files = evaluate(folder, result, semantic=False, json_path=tmp_path / "figures.json")
    from_memory = evaluate(CLIP.frames, LOOK, semantic=False)
    assert from_files.results[0].summary() == pytest.approx(from_memory.results[0].summary(), nan_ok=True)
    written = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert written["frames"] == 8
    assert written["results"][0]["figures"]["warp_error"] == pytest.approx(
        from_files.results[0].summary()["warp_error"], rel=1e-5
    )
    assert written["results"][0]["figures"]["semantic_first"] is None
    assert set(written["metrics"]) == set(METRICS)


def _write(folder: Path, frames) -> Path:
    times = [Fraction(i, 12) for i in range(len(frames))]
    height, width = frames[0].shape[:2]
    folder.mkdir()
    with open_writer(folder, width=width, height=height, times=times, overwrite=True) as writer:
        for frame, time in zip(frames, times, strict=True):
            writer.write(frame, time, Fraction(1, 12))
    return folder


@pytest.mark.parametrize(
    ("result", "options", "part"),
    [
        ([*LOOK, LOOK[0]], {}, "9 frames"),
        (LOOK[:1], {}, "at least 2"),
        ([], {}, "no frames"),
        (LOOK, {"against": [LOOK[:6]]}, "6 frames"),
        (LOOK, {"against": [[frame[:48] for frame in LOOK]]}, "128x48"),
        (LOOK, {"keys": "0, 12"}, "12"),
        (LOOK, {"mask": [np.zeros((96, 128, 3), np.uint8)] * 3}, "mask has 3"),
        ([frame[:48] for frame in LOOK], {}, "128x96"),
        (Path("no such file.mp4"), {}, "no such file"),
    ],
)
def test_clips_that_do_not_fit_are_refused(result, options, part):
    with pytest.raises(UserError, match=part):
        measure(result, **options)


def test_a_shorter_result_is_compared_with_the_beginning_and_says_so():
    evaluation = measure(LOOK[:4])
    assert evaluation.frames == 4
    assert any("first 4" in note for note in evaluation.notes)


def test_without_the_network_the_semantic_metrics_are_not_measured_and_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(command, "load_semantic", lambda: None)
    evaluation = evaluate(CLIP, LOOK)
    assert math.isnan(evaluation.results[0].summary()["semantic_first"])
    assert any("pip install" in note for note in evaluation.notes)


def test_semantic_similarity_is_the_cosine_of_the_features(monkeypatch):
    def mean_colour(frame):
        vector = frame.mean(axis=(0, 1))
        return vector / np.linalg.norm(vector)

    monkeypatch.setattr(command, "load_semantic", lambda: mean_colour)
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    figures = evaluate([red, red, red], [red, blue, blue], semantic=True).results[0]
    assert figures.series["semantic_neighbours"][1:] == pytest.approx([0, 1])
    assert figures.series["semantic_first"][1:] == pytest.approx([0, 0])


def test_the_table_has_a_row_for_each_metric(rivals):
    table = rivals.table()
    for metric in METRICS.values():
        assert metric.label in table
    assert "best: " in table
    assert show(float("nan")) == "–"
    assert [show(v) for v in (1234.5, 12.34, 1.234, 0.0123)] == ["1234", "12.3", "1.23", "0.012"]


def test_pairs_to_be_read_together_exist():
    for metric in METRICS.values():
        assert metric.read_with
        assert set(metric.read_with) <= set(METRICS)


class _Counted:
    """A clip that makes its frames on demand and counts how many of them are alive at once."""

    def __init__(self, frames: int) -> None:
        self.frames, self.alive, self.most = frames, 0, 0
        self.wide = picture(7, (40, 48 + frames))

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < self.frames:
            raise IndexError(number)
        frame = np.ascontiguousarray(self.wide[:, number : number + 48])
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(frame, self._gone)
        return frame

    def _gone(self) -> None:
        self.alive -= 1


def test_memory_does_not_grow_with_the_length_of_the_clip():
    most = []
    for frames in (6, 18):
        source, result = _Counted(frames), _Counted(frames)
        evaluate(source, result, keys="0, 3", semantic=False, flow="dis_fast")
        most.append((source.most, result.most))
    assert most[0] == most[1]
    assert max(most[1]) <= 5


def test_another_machines_arithmetic_gives_the_same_figures(tmp_path: Path):
    """The same clip with the vector instructions of OpenCV and NumPy switched off."""
    code = (
        "import json, sys; from tests.evaluate.cases import noisy, panning\n"
        "from rerender.evaluate.command import evaluate\n"
        "clip = panning(3, size=(48, 64)); figures = evaluate(clip, noisy(clip, 4), semantic=False)\n"
        "print(json.dumps(figures.results[0].summary()))"
    )
    plain = {
        "OPENCV_CPU_DISABLE": "SSE4_1,AVX,AVX2,FP16,FMA3",
        "OPENCV_IPP": "disabled",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    }
    results = []
    for extra in ({}, plain):
        command_line = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command_line, env=os.environ | extra, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    assert results[1] == pytest.approx(results[0], rel=1e-3, nan_ok=True)
