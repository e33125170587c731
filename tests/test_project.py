from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerender import files
from rerender.errors import UserError
from rerender.project import Project
from rerender.recipes import differences_in_words, recipe_of
from rerender.settings import make_settings

SOURCE = {"path": "a.mp4", "sha256": "1" * 64, "frames": 5}


def picture(value: int) -> np.ndarray:
    return np.full((8, 16, 3), value, np.uint8)


def test_a_project_remembers_settings_and_results(tmp_path: Path) -> None:
    settings = make_settings({"prompt": "“ink”, 水墨"})
    with Project(tmp_path / "p") as project:
        assert project.settings is None
        project.begin(SOURCE, settings, {"checkpoint": "x"})
        project.add_key(3, picture(9), "print", revision=0, seconds=1.0)
    with Project(tmp_path / "p") as project:
        assert project.settings == settings
        key = project.key(3)
        assert key is not None
        assert (key.fingerprint, key.sha256) == ("print", files.file_digest(project.key_path(3)))
        np.testing.assert_array_equal(project.key_picture(3), picture(9))
        assert project.key(4) is None


def test_another_source_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        project.begin(SOURCE, make_settings({"steps": 7}))
        before = project.path.read_bytes()
        with pytest.raises(UserError, match=r"another source.*a\.mp4"):
            project.begin({**SOURCE, "sha256": "2" * 64}, make_settings({}))
        assert project.path.read_bytes() == before


def test_replaced_key_frames_are_kept_in_the_history(tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        for value in (1, 2, 3):
            project.add_key(0, picture(value), "same", revision=0, seconds=0)
        np.testing.assert_array_equal(project.key_picture(0), picture(3))
        kept = sorted((tmp_path / "history").iterdir())
        assert {int(files.read_picture(path)[0, 0, 0]) for path in kept} == {1, 2}


def seeded(folder: Path, *seeds: int) -> Project:
    """A project whose key frame 40 was rendered with these seeds, one after the other."""
    with Project(folder) as project:
        for seed in seeds:
            project.add_key(40, picture(seed), f"print {seed}", revision=0, seconds=0, seed=seed)
            os.utime(project.key_path(40), (seed, seed))
    return project


def test_an_earlier_version_comes_back_and_the_present_one_is_kept(tmp_path: Path) -> None:
    seeded(tmp_path, 1, 2, 3)
    with Project(tmp_path) as project:
        assert [(v.seed, v.time, v.edited) for v in project.history.versions(40)] == [(2, 2, False), (1, 1, False)]
        project.ask_redo(40)  # and never rendered
        project.bring_back(40, project.history.versions(40)[-1].name)
    with Project(tmp_path) as project:
        key = project.key(40)
        assert key is not None
        assert (key.seed, key.fingerprint, key.revision, project.revision(40)) == (1, "print 3", 0, 0)
        assert not project.is_edited(40)
        assert project.key_picture(40)[0, 0, 0] == 1
        versions = project.history.versions(40)
        assert [(v.seed, files.read_picture(v.path)[0, 0, 0]) for v in versions] == [(3, 3), (2, 2)]
        project.bring_back(40, versions[0].name)
        assert [v.seed for v in project.history.versions(40)] == [2, 1]


def test_versions_tell_which_settings_were_others(tmp_path: Path) -> None:
    def run(project: Project, model: str, references: dict[str, int], **values: Any) -> None:
        settings = make_settings(values)
        project.begin({"sha256": "x"}, settings)
        project.add_key(
            40, picture(1), "f", revision=0, seconds=0, references=references,
            recipe=recipe_of(settings, {"checkpoint": model, "checkpoint_hash": model}),
        )  # fmt: skip

    def told(project: Project) -> list[str]:
        versions = sorted(project.history.versions(40), key=lambda version: len(str(version.differs)))
        return [differences_in_words(version.differs) for version in versions]

    with Project(tmp_path) as project:
        run(project, "a", {"previous": 0, "anchor": 0}, steps=20, seed=1)
        run(project, "a", {}, steps=20, seed=2, prompt="a meadow")
        assert told(project) == ['with prompt ""']
        run(project, "b", {}, steps=9, seed=3, prompt="a meadow", pixel_strength=0.25, quality=3)
        # The first key frame of a shot does not depend on the constraints: only the older one tells of them.
        assert told(project) == [
            'with steps 20, checkpoint "a"',
            'with prompt "", steps 20, pixel_strength 0.5, checkpoint "a"',
        ]
        files.write_png(tmp_path / "history" / "000040.unknown.png", picture(9))
        assert "settings unknown" in told(project)
        project.bring_back(40, "000040.unknown.png")
        assert len(told(project)) == 3  # what was there and had the present settings is among them now
        assert "" in told(project)
        key = project.key(40)
        assert key is not None
        assert key.recipe == ""


def test_versions_that_nothing_was_noted_of_and_edited_ones(tmp_path: Path) -> None:
    seeded(tmp_path, 1, 2)
    files.write_png(tmp_path / "history" / "000040.unknown.png", picture(9))
    files.write_png(tmp_path / "history" / "000041.unknown.png", picture(9))
    with Project(tmp_path) as project:
        files.write_png(project.key_path(40), picture(7))
        project.bring_back(40, "000040.unknown.png")
        assert [(v.seed, v.edited) for v in project.history.versions(40)] == [(2, True), (1, False)]
        key = project.key(40)
        assert key is not None
        assert key.seed is None


@pytest.mark.parametrize("name", ["", "000041.x.png", "../keys/000040.png", "../project.json"])
def test_an_unknown_version_is_refused_and_nothing_changes(tmp_path: Path, name: str) -> None:
    seeded(tmp_path, 1, 2)
    with Project(tmp_path) as project:
        before = project.path.read_bytes()
        with pytest.raises(UserError, match="no earlier version") as caught:
            project.bring_back(40, name)
        assert project.history.versions(40)[0].name in caught.value.hint
        with pytest.raises(UserError, match="Key frame 3 has no earlier versions"):
            project.bring_back(3, name)
        assert project.path.read_bytes() == before


def test_a_version_of_another_size_is_refused(tmp_path: Path) -> None:
    seeded(tmp_path, 1, 2)
    with Project(tmp_path) as project:
        files.write_png(project.key_path(40), np.zeros((8, 8, 3), np.uint8))
        (version,) = project.history.versions(40)
        with pytest.raises(UserError, match="has 16x8 pixels, the key frame now 8x8"):
            project.bring_back(40, version.name)
        project.key_path(40).write_bytes(b"damaged")
        project.bring_back(40, version.name)
        assert project.key_picture(40)[0, 0, 0] == 1


def test_an_interval_is_valid_only_with_its_fingerprint_and_all_its_frames(tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        for frame in (1, 2):
            files.write_png(project.frame_path(frame), picture(frame))
        project.add_interval("0-3", "print", seconds=1)
        assert project.has_interval("0-3", "print", [1, 2])
        assert not project.has_interval("0-3", "other", [1, 2])
        assert not project.has_interval("0-3", "print", [1, 2, 3])
        project.frame_path(2).unlink()
        assert not project.has_interval("0-3", "print", [1, 2])


def _hold(folder: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with Project(folder):
        ready.set()
        done.wait(30)


def test_a_project_in_use_is_refused_and_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match="in use"), Project(tmp_path):
        pass
    process.kill()
    process.join()
    with Project(tmp_path) as project:
        assert project.source == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_an_unreadable_manifest_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(UserError, match=r"project\.json"), Project(tmp_path):
        pass
    assert (tmp_path / "project.json").read_text() == text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_full_device_is_reported_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match="No space left") as caught:
        files.write_png(tmp_path / "keys" / "a.png", picture(1))
    assert "everything finished so far is kept" in caught.value.hint
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(UserError, match=r"a\.png"):
        files.read_picture(tmp_path / "a.png")


def test_results_are_as_readable_as_any_new_file(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {})
    (tmp_path / "b.json").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b.json").stat().st_mode
