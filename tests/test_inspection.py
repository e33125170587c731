"""Views of a key frame: on a scene with exact flow, and out of a real run."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from rerender.cli import main
from rerender.errors import Interrupted, UserError
from rerender.evaluate.scenes import scene
from rerender.files import file_digest, read_picture, write_png
from rerender.hosts.standalone import load_host
from rerender.inspection import caption, check_folder, inspect_key_frame, inspection_sheet, key_frame
from rerender.inspection.views import checkerboard, flow_view, hidden_view, latent_view, with_holes
from rerender.motion.pictures import flow_picture
from rerender.motion.warp import warp
from rerender.pipeline import prepare, run_stage
from rerender.project import Project
from rerender.settings import make_settings
from rerender.video.probe import probe
from rerender.video.read import source_hash
from tests.test_translate import TruthFlow

SIZE = (64, 96)
VALUES = {"short_side": 0, "key_interval": 3, "steps": 4, "scene_cuts": False, "device": "cpu", "reanchor_below": 0.0}
REFERENCE_VIEWS = {
    f"{kind}_{name}" for kind in ("flow", "hidden", "latent", "warped") for name in ("previous", "anchor")
}


@pytest.fixture(scope="module")
def clip():
    return scene("translation", seed=3, size=SIZE, frames=8)


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory) -> Path:
    """The clip as a folder of pictures: exactly its bytes."""
    folder = tmp_path_factory.mktemp("clip")
    for number, frame in enumerate(clip.frames):
        write_png(folder / f"{number:03d}.png", frame)
    return folder


@pytest.fixture
def painted(clip, folder, tmp_path) -> Path:
    """A project whose key frames are negatives of their sources, rendered by nobody."""
    with Project(tmp_path / "p") as project:
        project.begin({"path": str(folder), "sha256": source_hash(folder)}, make_settings(VALUES))
        for frame, references in ((0, {}), (3, {"previous": 0, "anchor": 0}), (6, {"previous": 3, "anchor": 0})):
            picture = 255 - clip.frames[frame]
            project.add_key(frame, picture, "f", revision=0, seconds=0.0, references=references)
    return tmp_path / "p"


@pytest.fixture(scope="module")
def rendered(folder, tiny_checkpoint, tmp_path_factory) -> Path:
    """A project with key frames rendered under all constraints."""
    place = tmp_path_factory.mktemp("rendered") / "p"
    with Project(place) as project:
        host = load_host(tiny_checkpoint, device="cpu")
        run_stage(prepare(project, folder, make_settings(VALUES), host=host), "keys", place / "o.mp4")
    return place


def test_views_of_known_motion_are_exact(clip, painted):
    views = inspect_key_frame(painted, 6, estimator=TruthFlow(clip))
    np.testing.assert_array_equal(views["source"], clip.frames[6])
    np.testing.assert_array_equal(views["result"], 255 - clip.frames[6])
    flow = clip.flow_between(6, 0)
    seen = ~clip.occluded_between(6, 0)
    legend = np.zeros(SIZE, bool)
    legend[:40, :50] = True  # the wheel and its label
    exact = flow_picture(flow, float(np.percentile(np.hypot(flow[..., 0], flow[..., 1]), 99)))
    # Composed over six steps, the flow is exact where the way there is seen all along.
    off = np.abs(views["flow_anchor"].astype(int) - exact)[seen & ~legend]
    assert np.median(off) <= 1
    shown = np.all(views["warped_anchor"] == 255 - warp(clip.frames[0], flow), axis=2)
    assert shown[seen].mean() > 0.5
    assert shown[~seen].mean() < 0.01  # the choice between direct and composed flow may let a few pixels pass


def test_hidden_areas_are_the_exact_ones(clip, painted):
    views = inspect_key_frame(painted, 6, estimator=TruthFlow(clip))
    truth = clip.occluded_between(6, 0)
    assert 0.02 < truth.mean() < 0.6
    grey = hidden_view(clip.frames[6], np.zeros(SIZE, np.float32))
    red = np.any(views["hidden_anchor"] != grey, axis=2)
    assert red[truth].mean() > 0.95
    assert red[~truth].mean() < 0.5  # grown by 8 px, so that nothing of what was in front is carried along
    blue = np.any(views["latent_anchor"] != grey, axis=2)
    assert not (red & ~blue).any()  # a latent cell is as hidden as its worst pixel


def test_one_reference_is_shown_once_and_an_anchor_has_none(clip, painted):
    assert list(inspect_key_frame(painted, 0)) == ["source", "result"]
    names = set(inspect_key_frame(painted, 3, estimator=TruthFlow(clip)))
    assert names == {n for n in REFERENCE_VIEWS if n.endswith("anchor")} | {
        "source", "result", "target_estimate", "difference"
    }  # fmt: skip


def test_an_estimated_target_has_holes_where_nothing_is_known(clip, painted):
    views = inspect_key_frame(painted, 6, estimator=TruthFlow(clip))
    in_both = clip.occluded_between(6, 0) & clip.occluded_between(6, 3)
    squares = checkerboard(views["source"])
    for name in ("target_estimate", "difference"):
        empty = np.all(views[name] == squares, axis=2)
        assert empty[in_both].mean() > 0.75  # the rest looks like what the reference shows there: as good as visible
        assert empty[~cv2.dilate(in_both.astype(np.uint8), np.ones((19, 19))).astype(bool)].mean() < 0.1


def test_what_a_real_run_used_is_what_is_shown(rendered):
    with Project(rendered) as project:  # at work: looking needs no lock
        views = inspect_key_frame(rendered, 6)
        assert project.key(6).references == {"previous": 3, "anchor": 0}
    assert set(views) == REFERENCE_VIEWS | {"source", "result", "target", "difference"}
    assert all(view.shape == (*SIZE, 3) and view.dtype == np.uint8 for view in views.values())
    visible = np.all(views["hidden_anchor"] == hidden_view(views["source"], np.zeros(SIZE, np.float32)), axis=2)
    assert visible.any()
    # Where the anchor is visible the target is the warped anchor: flow and masks are those of the rendering.
    off = np.abs(views["target"].astype(int) - views["warped_anchor"])[visible]
    assert off.max() <= 1


def test_without_kept_state_the_target_is_an_estimate(rendered):
    stored = inspect_key_frame(rendered, 6)["target"]
    path = rendered / "targets" / "000006.png"
    aside = path.rename(path.with_suffix(".aside"))
    try:
        views = inspect_key_frame(rendered, 6)
    finally:
        aside.rename(path)
    filled = np.any(np.abs(views["target_estimate"].astype(int) - stored) > 1, axis=2)
    assert 0 < filled.mean() < 1  # they differ in the holes, and only there
    hidden_somewhere = np.any(
        views["hidden_anchor"] != hidden_view(views["source"], np.zeros(SIZE, np.float32)), axis=2
    )
    assert not (filled & ~hidden_somewhere).any()


def test_command_writes_a_sheet_and_single_pictures(rendered, tmp_path, capsys):
    assert main(["inspect", str(rendered), "--frame", "3", "--output", str(tmp_path / "views")]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "views" / "sheet.png")
    shown = re.findall(r"(previous|anchor) \(0\) shows (\d+)% of frame 3", said.err)
    assert [name for name, _ in shown] == ["previous", "anchor"]
    with Project(rendered) as project:
        assert [round(100 * share) for share in project.key(3).visible.values()] == [int(share) for _, share in shown]
    names = {path.stem for path in (tmp_path / "views").glob("*.png")}
    assert names >= {"sheet", "source", "result", "flow_anchor", "target", "difference"}
    assert read_picture(tmp_path / "views" / "result.png").shape == (*SIZE, 3)
    assert file_digest(tmp_path / "views" / "result.png") == file_digest(rendered / "keys" / "000003.png")


@pytest.mark.parametrize("name", ["sheet.png", "flow_previous.png"])
def test_pictures_of_somebody_else_are_replaced_only_where_that_is_allowed(rendered, tmp_path, capsys, name):
    views = tmp_path / "views"
    views.mkdir()
    (views / "notes.txt").write_text("mine")
    (views / name).write_text("precious")
    words = ["inspect", str(rendered), "--frame", "6", "--output", str(views)]
    assert main(words) == 2
    said = capsys.readouterr()
    assert name in said.err
    assert "--overwrite" in said.err
    assert said.out == ""
    assert (views / name).read_text() == "precious"
    assert len(list(views.iterdir())) == 2
    assert main([*words, "--overwrite"]) == 0
    assert read_picture(views / name).ndim == 3
    assert (views / "notes.txt").read_text() == "mine"


def test_every_view_is_one_that_is_looked_for(rendered, tmp_path):
    for name in inspect_key_frame(rendered, 6):
        (tmp_path / f"{name}.png").touch()
        with pytest.raises(UserError, match=name):
            check_folder(tmp_path)
        (tmp_path / f"{name}.png").unlink()
    check_folder(tmp_path)


def test_a_file_is_no_folder_for_pictures(rendered, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["inspect", str(rendered), "--frame", "6", "--output", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_sheet_holds_every_view(rendered):
    views = inspect_key_frame(rendered, 6)
    tall, short = inspection_sheet(views, cell_width=96), inspection_sheet({"source": views["source"]}, cell_width=96)
    assert tall.shape[0] == 3 * short.shape[0]
    assert all(caption(name) for name in views)


@pytest.mark.parametrize(("frame", "text"), [(4, "no rendered key frame[\\s\\S]*0, 3, 6, 7"), (99, "Frame 99")])
def test_other_frames_are_refused(rendered, frame, text):
    with pytest.raises(UserError, match=text):
        inspect_key_frame(rendered, frame)


def test_a_folder_without_a_project_is_refused(tmp_path):
    with pytest.raises(UserError, match="no project"):
        inspect_key_frame(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_changed_is_refused(clip, folder, painted, tmp_path):
    with Project(painted) as project:
        project.begin({**project.source, "path": str(tmp_path / "gone")}, project.settings)
    with pytest.raises(UserError, match="not there any more"):
        inspect_key_frame(painted, 3)


def test_frames_behind_the_key_frame_are_not_examined(clip, painted, monkeypatch):
    asked = []
    monkeypatch.setattr(key_frame, "probe", lambda path, until: asked.append(until) or probe(path, until=until))
    views = inspect_key_frame(painted, 3, estimator=TruthFlow(clip))
    with Project(painted) as project:
        project.begin(project.source, make_settings({**VALUES, "frame_rate": 25}))
    thinned = inspect_key_frame(painted, 3, estimator=TruthFlow(clip))
    assert asked == [4, None]
    assert all(np.array_equal(views[name], thinned[name]) for name in views)


def test_progress_and_cancelling(clip, painted):
    seen: list[tuple[int, int]] = []
    inspect_key_frame(painted, 6, estimator=TruthFlow(clip), on_progress=lambda *step: seen.append(step))
    assert seen == [(number, 6) for number in range(7)]
    with pytest.raises(Interrupted):
        inspect_key_frame(painted, 6, estimator=TruthFlow(clip), cancelled=lambda: True)


def test_single_views():
    picture = np.full((16, 16, 3), 200, np.uint8)
    half = np.zeros((16, 16), np.float32)
    half[:, 8:] = 1
    np.testing.assert_array_equal(with_holes(picture, half)[:, :8], picture[:, :8])
    assert set(with_holes(picture, half)[:, 8:].ravel()) == {96, 160}
    cells = latent_view(picture, np.array([[1, 0], [1, 1]], np.float32))
    assert np.any(cells != 200, axis=2).nonzero()[0].max() == 7
    assert np.any(cells != 200, axis=2).nonzero()[1].min() == 8
    small = flow_view(np.zeros((8, 8, 2), np.float32))
    assert small.shape == (8, 8, 3)
