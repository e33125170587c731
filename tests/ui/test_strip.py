"""The strip of key frames: it shows what a run will do, and its buttons change that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the panel's packages are not installed (requirements/panel.txt)")

import gradio as gr

from rerender.settings import make_settings
from rerender.ui.clips import Clips
from tests.ui.test_jobs import PaintingHost, clip, jobs_with  # noqa: F401  (clip is a fixture)
from tests.ui.test_panel import PAGE, around, values_of, views


def tiles(strip: str) -> list[int]:
    import re

    return [int(frame) for frame in re.findall(r'data-frame="(\d+)"', strip)]


def shown(view: Any, path: str = "clip", **changes: Any) -> list[Any]:
    page: list[Any] = [None, None, None]
    for outputs in view.show(PAGE, None, path, "", *values_of(**changes)):
        page = [new if not isinstance(new, dict) else old for old, new in zip(page, outputs, strict=True)]
    return page


def view_for(tmp_path: Path) -> Any:
    return views(around(jobs_with(tmp_path / "jobs", PaintingHost()), tmp_path))[1]


def test_strip_shows_the_key_frames_of_the_next_run(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    view = view_for(tmp_path)
    facts, strip, _ = shown(view, key_interval=2)
    assert "40×32, 5 frames" in facts
    assert tiles(strip) == [0, 2, 4]
    assert strip.count("data:image/jpeg") == 3
    assert tiles(shown(view, start_frame=1, key_interval=2)[1]) == [1, 3, 4]
    assert tiles(shown(view, key_mode="adaptive", scene_cuts=True)[1])[0] == 0


def test_mistake_in_the_settings_stands_in_place_of_the_strip(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    view = view_for(tmp_path)
    assert "key_frames" in shown(view, key_mode="listed")[1]
    assert "outside the folders" in shown(view, path="../x")[1]
    assert "Choose a video" in shown(view, path="")[1]


def test_newer_question_ends_the_older_one(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    view = view_for(tmp_path)
    older = view.show(PAGE, None, "clip", "", *values_of())
    next(older)
    PAGE.claim("strip")
    assert list(older) == [[gr.update()] * 3]


@pytest.mark.parametrize(
    ("edit", "selected", "frame", "expected"),
    [
        ("add", 0, 1, [0, 1, 2, 4]),
        ("move", 2, 3, [0, 3, 4]),
        ("remove", 2, 0, [0, 4]),
        ("remove", 0, 0, [0, 2, 4]),  # a shot begins there
    ],
)
def test_edits_list_the_key_frames(
    tmp_path: Path,
    clip: Path,  # noqa: F811
    edit: Any,
    selected: int,
    frame: int,
    expected: list[int],
) -> None:
    view = view_for(tmp_path)
    asked = [None, "clip", "", *values_of(key_interval=2)]
    mode, keys, former, message, _ = view.editor(edit)(selected, frame, "uniform", *asked)
    assert (mode, former) == ("listed", "uniform")
    assert tiles(shown(view, key_mode=mode, key_frames=keys)[1]) == expected
    assert ("stays a key frame" in message) == (selected == 0 and edit == "remove")
    assert view.automatic("adaptive")[:2] == ["adaptive", ""]


def test_edit_keeps_in_mind_how_key_frames_were_chosen(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    view = view_for(tmp_path)
    asked = [None, "clip", "", *values_of(key_mode="listed", key_frames="0, 2")]
    assert view.editor("add")(0, 1, "adaptive", *asked)[:3] == ["listed", "0, 1, 2, 4", "adaptive"]


def test_clip_is_looked_through_once(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from rerender import planning

    passes = []
    real = planning._pass_over
    monkeypatch.setattr(planning, "_pass_over", lambda *args: passes.append(args) or real(*args))
    clips = Clips()
    settings = make_settings({"key_interval": 2, "short_side": 0})
    assert not clips.is_known(clip, settings)
    plans = [clips.plan(clip, make_settings({"key_interval": n}, base=settings), lambda: False) for n in (2, 3, 4)]
    assert [plan.keys for plan in plans] == [(0, 2, 4), (0, 3, 4), (0, 4)]
    assert len(passes) == 1
    assert clips.is_known(clip, settings)
